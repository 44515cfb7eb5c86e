//! The receiver's grammars by their files: the load generator as a whole would bring its servers along.

#![expect(dead_code, reason = "the receiver needs more of them")]

// rustfmt would look for the tests of these files in another folder.
#[rustfmt::skip]
#[path = "../../../loadgen/src/sink/syslog/rfc3164.rs"]
pub mod rfc3164;
#[rustfmt::skip]
#[path = "../../../loadgen/src/sink/syslog/rfc5424.rs"]
pub mod rfc5424;
#[rustfmt::skip]
#[path = "../../../loadgen/src/sink/syslog/stamp.rs"]
mod stamp;
