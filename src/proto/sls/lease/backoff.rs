//! Waiting times between attempts: doubling, capped, with jitter from a seed.
//!
//! Why: many consumers that lost the same server must not come back in step; a fixed pause does exactly that.
//! Invariants: 1. a wait is between half of the current step and the whole step; 2. no step is above `max`.
//! Bounds: one word of state. Driven by: [`super::Lease`] and its shards. Spec: `splitmix64` for the jitter.

use core::time::Duration;

/// A doubling wait. The same seed gives the same waits.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    step: Duration,
    state: u64,
}

impl Backoff {
    /// Begins at `base` and never waits longer than `max`.
    pub fn new(base: Duration, max: Duration, seed: u64) -> Self {
        Self { base: base.min(max), max, step: base.min(max), state: seed }
    }

    /// The next wait.
    #[expect(
        clippy::should_implement_trait,
        reason = "it is not an iterator: it never ends and can be reset"
    )]
    pub fn next(&mut self) -> Duration {
        let step = self.step;
        self.step = step.saturating_mul(2).min(self.max);
        let half = step / 2;
        let span = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_nanos(self.random() % span)
    }

    /// After a success: begin at the base again.
    pub fn reset(&mut self) {
        self.step = self.base;
    }

    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_within_its_jitter_and_stops_at_the_cap() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5), 7);
        for step in [1_u64, 2, 4, 5, 5] {
            let wait = backoff.next();
            assert!(wait >= Duration::from_secs(step) / 2 && wait <= Duration::from_secs(step), "{wait:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_secs(1));
    }

    #[test]
    fn one_seed_gives_one_sequence_and_another_seed_another() {
        let waits = |seed| {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60), seed);
            (0..8).map(|_| backoff.next()).collect::<Vec<_>>()
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }
}
