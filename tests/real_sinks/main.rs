//! Real receivers: the real program between the bundled SLS emulator and Debian's rsyslog and syslog-ng.
//!
//! Why: a receiver of ours may share a misreading of the standard with our sender. These two are what the field runs,
//! and what they write into their files is what a SIEM would have.
//! Invariants: 1. the daemons are children of the test, on loopback, and end with it. 2. every record is looked for in
//! the daemon's own output, field by field, as the daemon parsed it.
//! Bounds: every wait ends after [`rig::PATIENCE`] with the logs of forwarder and daemon in the failure.
//!
//! `tests/real_sinks/install` unpacks the daemons into `target/real-sinks`; `SLS2SIEM_REAL_SINKS` names another place.
//! Without them the tests are skipped, and fail where `CI=true`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test binary: what is missing is a failure, and what is skipped is printed"
)]
#![expect(clippy::disallowed_methods, reason = "the rig waits for other processes on the machine's clock")]

mod bsd;
mod cef;
mod certs;
mod daemon;
#[path = "../conformance/forwarder.rs"]
#[expect(dead_code, reason = "shared with the tests against the bundled sinks, which look at more")]
mod forwarder;
mod outages;
mod output;
mod parsed;
mod records;
mod rig;
mod sizes;
