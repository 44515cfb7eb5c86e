//! The clocks of the capacity test.
//!
//! Why: latency is the difference of what two processes saw, so both read the machine's wall clock; lengths of time
//! are taken from the monotonic one.
//! Invariants: none.   Bounds: none.   Driven by: the files of this folder.   Spec: none.
#![expect(clippy::disallowed_methods, reason = "the one place of the capacity test that reads the clocks")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970.
pub(super) fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// A moment to measure from.
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Waits. Nothing has to be heard meanwhile: whoever wants the test to end ends the process.
pub(super) fn pause(time: Duration) {
    std::thread::sleep(time);
}
