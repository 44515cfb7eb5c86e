//! Chaos with real processes: everything that can go wrong around a forwarder at once, and a ledger of every record.
//!
//! Why: the simulation decides what the core does when calls fail; here kernels, sockets, disks, signals and TLS fail, and
//! what has to hold is the same: every record that the source gave is stored or in the dead letter, and no checkpoint is
//! ever ahead of that, not even for a moment.
//! Invariants: see `ledger`. Bounds: `CHAOS_SECONDS` of faults, then everything has to drain within [`PATIENCE`].
//! Driven by: `cargo test --test chaos` (20 s), and longer by one command:
//! ```text
//! CHAOS_SECONDS=600 cargo test --test chaos -- --nocapture                        ten minutes
//! CHAOS_SECONDS=14400 cargo test --release --test chaos -- --nocapture            four hours
//! CHAOS_SEED=7 cargo test --test chaos -- --nocapture                             the same order of faults again
//! ```
//! Seed, faults by kind and the verdict are printed at the end; a failure prints the seed and leaves all logs, the stored
//! records and the list of faults behind. The same seed gives the same faults in the same order, not the same interleaving:
//! processes run as they like.
//!
//! In the run: three forwarders of three pipelines each (HEC, syslog with `drain`, RELP) in the groups of one emulator; two
//! strict HEC receivers, one with indexer acknowledgement; one syslog receiver for each manner. Between all of them stand
//! proxies. Faults: `kill -9`, SIGTERM and restart, SIGSTOP for 130 ms at a time and for longer than a lease, receivers that
//! are killed and come back at another place, cut and half-open connections, TLS that ends without `close_notify`, silence,
//! HTTP and RELP errors of every kind, no more file descriptors or memory, and no more room for the dead letter.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test binary: what is missing is a failure"
)]
#![expect(
    clippy::too_many_lines,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "one story from its beginning to its end; counters of records are whole and small"
)]
#![expect(clippy::disallowed_methods, reason = "the test waits for other processes on the machine's clock")]

mod disk;
mod forwarder;
mod ledger;
mod proxy;
mod server;
mod storm;

use std::time::Duration;

/// How long everything may take to drain once the faults have ended.
const PATIENCE: Duration = Duration::from_mins(3);

#[test]
fn everything_at_once_loses_nothing() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seconds = number("CHAOS_SECONDS").unwrap_or(20);
    let seed = number("CHAOS_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    storm::run(seed, Duration::from_secs(seconds));
}

/// Not a test by itself: this binary started again as one of the bundled servers.
#[test]
fn server_process() {
    server::play();
}
