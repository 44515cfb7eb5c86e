//! Conformance: the real program between the bundled SLS emulator and the bundled HEC sink, over TLS on loopback.
//!
//! Why: what the rooms promise one by one has to hold for the process that an operator starts: signals, files,
//! sockets, certificates, two planes and the words on standard error included.
//! Invariants: 1. the servers are strict and share no codec with the program. 2. no port is fixed and nothing is waited for
//! by time where a condition can be seen. 3. whatever a forwarder printed is searched for the secrets that it was given.
//! Bounds: every wait ends after [`rig::PATIENCE`] (longer for more records) with the forwarder's log in the failure.
//! `SLS2SIEM_CONFORMANCE_RECORDS` sets the logs of a shard: 5,000 in a debug build, 100,000 in a release build.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test binary: what is missing is a failure"
)]
#![expect(clippy::disallowed_methods, reason = "the rig waits for another process on the machine's clock")]

mod acks;
mod asleep;
mod bad_sink;
mod bad_source;
mod check;
mod exact;
mod faults;
mod forwarder;
mod half_open;
mod handover;
mod hec_rows;
mod listener;
mod memory;
mod operate;
mod preview;
mod reload;
mod replay;
mod rig;
mod setup;
mod side_by_side;
mod stdout;
mod syslog;
mod syslog_strict;
mod tap;
mod vendor;
