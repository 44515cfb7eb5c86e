//! Hostile peers: the real program against servers that break every rule, in the place of SLS, of HEC and of syslog.
//!
//! Why: a forwarder holds credentials and reads whatever answers at an address; a peer that lies, floods or says nothing must
//! cost bounded memory and time, be named in the log, and be worth another try.
//! Invariants: as in `row`, the same for every hostility. Bounds: as there; the slowest rows wait for the minute that a
//! pull may take. Driven by: `cargo test --test hostile`; `HOSTILE_ROW=part` runs the rows whose names hold that part.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test binary: what is missing is a failure"
)]
#![expect(
    clippy::too_many_lines,
    clippy::unnecessary_wraps,
    clippy::cast_possible_truncation,
    clippy::large_stack_arrays,
    reason = "tables of rows, each with a function of one shape; bytes are cut out of numbers on purpose"
)]
#![expect(clippy::disallowed_methods, reason = "the rig waits for another process on the machine's clock")]

#[expect(dead_code, reason = "shared with the conformance tests")]
#[path = "../conformance/forwarder.rs"]
mod forwarder;
#[expect(dead_code, reason = "shared with the conformance tests")]
#[path = "../conformance/listener.rs"]
mod listener;
#[expect(dead_code, reason = "shared with the conformance tests")]
#[path = "../conformance/rig.rs"]
mod rig;

mod control;
mod front;
mod hec;
mod http;
mod pull;
mod row;
mod syslog;
mod tls;
