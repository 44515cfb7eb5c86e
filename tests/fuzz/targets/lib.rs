//! The bodies of the fuzz targets: each takes any bytes and holds the laws of one room against them.
//!
//! Why: a target that only waits for a panic finds little in safe Rust. So each compares with a second way to the same
//! result (prost, `serde_json`, a plain model, the same bytes cut otherwise).
//! Invariants: 1. a body is a function of its bytes: no clock, no dice, no files but in a directory of its own.
//! Bounds: a body takes milliseconds, whatever the bytes are. Driven by: libFuzzer (`tests/fuzz/run`), and
//! `tests/corpus.rs` over the committed corpora.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::or_fun_call,
    reason = "a broken law ends the run by a panic"
)]

pub mod body;
pub mod config;
pub mod dead_letter;
pub mod hec;
pub mod http1;
pub mod ledger;
pub mod pipeline;
pub mod relp;
pub mod sls_json;
pub mod syslog;
pub mod template;
pub mod transcode;
pub mod wire;

mod input;
mod schema;

// The grammars of the bundled receiver, which knows nothing of the product.
#[cfg(fuzzing)]
mod grammar;
#[cfg(not(fuzzing))]
use loadgen::sink::syslog as grammar;
