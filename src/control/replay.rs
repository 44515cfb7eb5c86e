//! Sends records of the dead letter to their sink again.
//!
//! Why: after the index was made or the limit raised, the records that were put aside have to get in without a script of
//! somebody's own, and none of them may go twice because the first attempt was cut off.
//! Invariants: 1. a record is reported taken when the sink proved that it has it, as the settings ask for in a run. 2. what
//! is refused again stays. Bounds: [`BATCH_RECORDS`] records at a time; one batch under way.
//! Driven by: `cli::dead_letter`. Spec: README.md, dead letter.

mod hec;
mod syslog;

use std::time::Duration;

use self::hec::HecReplayer;
use self::syslog::SyslogReplayer;
use crate::config::SinkConfig;
use crate::drive::{TargetSpec, clock};
use crate::proto::event::HecAnswer;

/// Most records of one batch.
pub const BATCH_RECORDS: usize = 500;
/// Waits while the sink is busy: first and longest.
const BUSY_FIRST: Duration = Duration::from_secs(1);
const BUSY_MAX: Duration = Duration::from_secs(30);
/// Attempts of one batch before the replay gives up; what was taken stays marked.
const ATTEMPTS_MAX: u32 = 8;

/// The way to the sink of one pipeline.
pub struct Replayer<'a>(Way<'a>);

enum Way<'a> {
    Hec(HecReplayer<'a>),
    Syslog(SyslogReplayer<'a>),
}

impl<'a> Replayer<'a> {
    /// Connects to nothing yet. `None` for a sink that nothing can be sent to again.
    pub fn new(sink: &'a SinkConfig, targets: Vec<TargetSpec>, seed: u64) -> Option<Self> {
        match sink {
            SinkConfig::Hec(hec) => Some(Self(Way::Hec(HecReplayer::new(hec, targets, seed)))),
            SinkConfig::Syslog(syslog) => Some(Self(Way::Syslog(SyslogReplayer::new(syslog, targets)))),
            SinkConfig::Stdout(_) => None,
        }
    }

    /// How many of these records go into the next batch.
    pub fn fits(&self, records: &[Vec<u8>]) -> usize {
        match &self.0 {
            Way::Hec(hec) => hec.fits(records),
            Way::Syslog(_) => records.len().min(BATCH_RECORDS),
        }
    }

    /// Sends a batch; returns when every record of it is stored or refused. `outcome` holds after an error too.
    pub fn send(&mut self, records: &[Vec<u8>], outcome: &mut Outcome) -> Result<(), ReplayError> {
        match &mut self.0 {
            Way::Hec(hec) => hec.send(records, outcome),
            Way::Syslog(syslog) => syslog.send(records, outcome),
        }
    }
}

/// What became of the records of a batch, by their place in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Stored.
    pub taken: Vec<usize>,
    /// Refused again, with the answer.
    pub refused: Vec<(usize, String)>,
}

/// Why the replay ends early. What was taken before stays taken.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum ReplayError {
    #[error("{0}")]
    Unreachable(String),
    #[error("HEC says HTTP {}{}: {}", .0.status, .0.code.map(|code| format!(", code {code}")).unwrap_or_default(), .0.text)]
    Refused(HecAnswer),
    #[error("the indexer did not confirm within {} s: these records may come twice", .0.as_secs())]
    Unconfirmed(Duration),
    #[error("[hec] ack = \"required\", but the token does not acknowledge")]
    NoAck,
    #[error(
        "the receiver does not end the connection within {} s after us, so nobody knows whether it has read these records, and they may come twice - use relp://, or [syslog] ack = \"kernel\"", .0.as_secs()
    )]
    NotDrained(Duration),
}

/// A command has nothing else to do meanwhile; a signal ends the process.
fn pause(time: Duration) {
    let end = clock::now() + time;
    while clock::now() < end {
        std::thread::park_timeout(end.since(clock::now()));
    }
}
