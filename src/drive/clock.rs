//! The only reader of clocks.
//!
//! Why: the core takes `now` as an argument so that a simulation can make it up; one place that reads the
//! real clocks keeps that true and gives every executor the same epoch.
//! Invariants: 1. [`now`] never runs backwards. 2. all threads share one epoch. 3. time passes also while the machine
//! is suspended (`CLOCK_BOOTTIME`): SLS counts it, and a lease that ended meanwhile must not look alive.
//! Bounds: the epoch is set by the first caller; [`now`] counts from one second on, so `Instant(0)` is always past.
//! Driven by: the drivers, the watchdog, the control plane.
#![expect(clippy::disallowed_methods, reason = "this is the file that reads the clocks")]

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::proto::time::{Instant, UnixTime};

/// Nanoseconds that [`now`] starts from, so that `Instant(0)` and small differences stay in the past.
const EPOCH_OFFSET: Duration = Duration::from_secs(1);

static EPOCH: OnceLock<Duration> = OnceLock::new();

/// Time since the process first asked, suspension of the machine included.
pub fn now() -> Instant {
    let since_boot = read(libc::CLOCK_BOOTTIME);
    let epoch = *EPOCH.get_or_init(|| since_boot);
    Instant(0) + EPOCH_OFFSET + since_boot.saturating_sub(epoch)
}

/// The machine's monotonic clock, as a supervisor reads it.
pub fn monotonic() -> Duration {
    read(libc::CLOCK_MONOTONIC)
}

/// The wall clock. A clock set before 1970 reads as 1970.
pub fn wall() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// CPU time that the calling thread has used.
pub fn thread_cpu() -> Duration {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn read(clock: libc::clockid_t) -> Duration {
    let mut spec = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[expect(unsafe_code, reason = "std has neither a per-thread CPU clock nor one that counts suspension")]
    // SAFETY: `spec` is a valid, writable timespec of this frame; the call writes nothing else.
    let answer = unsafe { libc::clock_gettime(clock, &raw mut spec) };
    if answer != 0 {
        return Duration::ZERO;
    }
    Duration::new(u64::try_from(spec.tv_sec).unwrap_or(0), u32::try_from(spec.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_move_forward() {
        let (first, cpu) = (now(), thread_cpu());
        let mut sum = 0_u64;
        while now().since(first) < Duration::from_millis(20) {
            sum = sum.wrapping_add(1);
        }
        assert!(sum > 0);
        assert!(thread_cpu() > cpu);
        assert!(first > Instant(0));
        // 2024-01-01, long before this was written.
        assert!(wall().as_secs() > 1_704_067_200);
    }
}
