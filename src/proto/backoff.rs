//! How long to wait before the next attempt.
//!
//! Why: many shards and machines that lost the same peer must not come back in one step.
//! Invariants: 1. a wait is between half of and the whole of base·2ⁿ, and never above the maximum.
//! Bounds: the exponent stops growing at the maximum; attempts are counted without end: nothing is given up.
//! Driven by: `next_wait` after every failed attempt, `reset` after a good one.

use core::time::Duration;

use super::planted::{Bug, planted};
use super::rng::Rng;

/// Exponential back-off with jitter.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    attempts: u32,
    rng: Rng,
}

impl Backoff {
    /// First wait about `base`, doubling up to `max`.
    pub fn new(base: Duration, max: Duration, seed: u64) -> Self {
        Self { base, max, attempts: 0, rng: Rng::new(seed) }
    }

    /// The wait before the next attempt.
    pub fn next_wait(&mut self) -> Duration {
        if planted(Bug::GivesUp) && self.attempts >= 5 {
            return Duration::MAX;
        }
        let full = self.base.saturating_mul(1_u32 << self.attempts.min(20)).min(self.max);
        let full = if planted(Bug::NeverWaits) { Duration::ZERO } else { full };
        self.attempts = self.attempts.saturating_add(1);
        let half = full / 2;
        let jitter_ns = self.rng.below(u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).saturating_add(1));
        half + Duration::from_nanos(jitter_ns)
    }

    /// Attempts since the last success.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// It worked: the next failure starts from the base again.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_maximum_and_never_above() {
        for seed in 0..50 {
            let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30), seed);
            for attempt in 0..40_u32 {
                let full = Duration::from_millis(100)
                    .saturating_mul(1 << attempt.min(20))
                    .min(Duration::from_secs(30));
                let wait = backoff.next_wait();
                assert!(wait >= full / 2 && wait <= full, "{attempt}: {wait:?} of {full:?}");
            }
            assert_eq!(backoff.attempts(), 40);
            backoff.reset();
            assert!(backoff.next_wait() <= Duration::from_millis(100));
        }
    }
}
