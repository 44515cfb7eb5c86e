//! The emulator's only look at the clock.
//!
//! Why: leases, retention and the date window take `now` as an argument so that tests can choose it.
//! Invariants: none.   Bounds: none.
//! Driven by: the server's calls.   Spec: none.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the one place of the emulator that reads the clock")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
