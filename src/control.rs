//! The control plane: blocking threads that speak every SLS call but PullLogs.
//!
//! Why: leases and checkpoints are a few calls a second; a thread that blocks is the simplest thing that can do them,
//! and a slow answer here must never stop a byte of the data plane.
//! Invariants: 1. nothing is decided here: `proto::sls::lease` decides, these threads carry out.
//! 2. heartbeats have a thread of their own. 3. no secret is logged.
//! Bounds: per pipeline one control thread, one caller for heartbeats, [`pipeline::WORK_CALLERS`] for the rest.
//! Driven by: `cli::run`. Spec: `src/ARCHITECTURE.md`, two planes.

pub mod credentials;
pub mod group;
mod narrate;
pub mod pipeline;
pub mod placement;
pub mod receiver;
pub mod replay;
pub mod signals;
pub mod sls_api;
pub mod supervisor;

use crate::drive::clock;
use crate::proto::event::{Alarm, Cause};
use crate::proto::sls::lease::call::{Call, CallError};
use crate::proto::sls::lease::verdict::Verdict;
use crate::report::{self, Exit, Place, Text};

/// Words a start that failed, and says how the process should end.
pub fn failed_start(place: &Place, call: &Call, cause: &CallError) -> (Exit, Text) {
    let exit = if Verdict::of(cause).needs_operator() { Exit::Refused } else { Exit::Unreachable };
    let doing = narrate::doing(call);
    let text = match cause {
        CallError::Sls(error) => report::sls_error(place, doing, error, clock::wall()),
        CallError::Transport { why, .. } => report::sls_unreachable(place, doing, why),
    };
    (exit, text)
}

/// A sink that cannot be used at the start, in words and as an exit code.
pub fn failed_sink(place: &Place, alarm: &Alarm) -> (Exit, Text) {
    let refused = matches!(&alarm.cause, Cause::Hec(answer) if matches!(answer.status, 401 | 403));
    let exit = if refused { Exit::Refused } else { Exit::Unreachable };
    (exit, report::alarm(place, alarm, clock::wall()))
}
