//! Receivers that a forwarder can be judged against.
//!
//! Why: a sink that only says yes proves nothing about a sender; these answer as the real ones do, faults included,
//! and keep count of every record.
//! Invariants: a record counts as stored when the real product would keep it.   Bounds: see each sink.
//! Driven by: the `loadgen` command, `sls2siem demo` and tests.   Spec: hec.md, syslog.md.

pub mod hec;
pub mod syslog;
pub mod tls;
