//! Channels and their ackIds, as one splunkd process keeps them in memory.
//!
//! Why: ids that count per channel, are told once and vanish with the process are what makes acknowledgement hard.
//! Invariants: 1. ids of a channel are 0, 1, 2, … until it is forgotten. 2. `true` is answered once; after that, and
//! for ids never given out, `false`.   Bounds: 1,000,000 channels; `max_pending` ids each.
//! Driven by: `collector`, under one lock, with the time given.   Spec: hec.md 7.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use tokio::time::Instant;

use super::config::AckDelay;

/// All channels of one process.
#[derive(Debug)]
pub(super) struct Channels {
    by_name: BTreeMap<String, Channel>,
    delay: AckDelay,
    idle: Duration,
    max_pending: usize,
    rng: ChaCha8Rng,
}

#[derive(Debug)]
struct Channel {
    next: u64,
    /// When the id becomes true; never if absent.
    pending: BTreeMap<u64, Option<Instant>>,
    used: Instant,
}

/// An id that was given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Issued {
    pub(super) id: u64,
    /// When the data behind it is safe; `None` if the id is never told.
    pub(super) due: Option<Instant>,
}

impl Channels {
    pub(super) fn new(delay: AckDelay, idle: Duration, max_pending: usize, seed: u64) -> Self {
        Self { by_name: BTreeMap::new(), delay, idle, max_pending, rng: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// Whether the channel can take another id.
    pub(super) fn has_room(&self, channel: &str) -> bool {
        match self.by_name.get(channel) {
            Some(channel) => channel.pending.len() < self.max_pending,
            None => self.by_name.len() < MAX_CHANNELS,
        }
    }

    /// The next id of a channel. `never` makes one that stays false.
    pub(super) fn issue(&mut self, channel: &str, now: Instant, never: bool) -> Issued {
        let delay = self.draw();
        let channel = self.touch(channel, now);
        let issued = Issued { id: channel.next, due: (!never).then(|| now + delay) };
        channel.next += 1;
        channel.pending.insert(issued.id, issued.due);
        issued
    }

    /// The answer to a poll, in the order of the question.
    pub(super) fn poll(&mut self, channel: &str, ids: &[u64], now: Instant) -> Vec<(u64, bool)> {
        let channel = self.touch(channel, now);
        ids.iter()
            .map(|id| {
                let is_due = matches!(channel.pending.get(id), Some(Some(due)) if *due <= now);
                if is_due {
                    channel.pending.remove(id);
                }
                (*id, is_due)
            })
            .collect()
    }

    /// Forgets everything, as a restart does.
    pub(super) fn clear(&mut self) {
        self.by_name.clear();
    }

    /// Ids that have not been told.
    pub(super) fn pending(&self) -> usize {
        self.by_name.values().map(|channel| channel.pending.len()).sum()
    }

    fn touch(&mut self, name: &str, now: Instant) -> &mut Channel {
        let idle = self.idle;
        let fresh = || Channel { next: 0, pending: BTreeMap::new(), used: now };
        let channel = self.by_name.entry(name.to_owned()).or_insert_with(fresh);
        if now.saturating_duration_since(channel.used) > idle {
            *channel = fresh();
        }
        channel.used = now;
        channel
    }

    fn draw(&mut self) -> Duration {
        let AckDelay { low, high, tail_share, tail } = self.delay;
        if tail_share > 0.0 && self.rng.random_bool(tail_share) {
            return tail;
        }
        if low == high { low } else { self.rng.random_range(low..=high) }
    }
}

const MAX_CHANNELS: usize = 1_000_000;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any moment will do")]
mod tests {
    use super::*;

    fn start() -> Instant {
        Instant::from_std(std::time::Instant::now())
    }

    fn channels(delay: &str) -> Channels {
        Channels::new(delay.parse().expect("a delay"), Duration::from_mins(10), 3, 1)
    }

    #[test]
    fn ids_count_per_channel_and_are_told_once() {
        let (mut channels, now) = (channels("1s"), start());
        let due = now + Duration::from_secs(1);
        assert_eq!(channels.issue("a", now, false), Issued { id: 0, due: Some(due) });
        assert_eq!(channels.issue("a", now, false).id, 1);
        assert_eq!(channels.issue("b", now, false).id, 0);
        assert_eq!(channels.poll("a", &[0, 1], now), [(0, false), (1, false)]);
        assert_eq!(channels.poll("a", &[1, 7], due), [(1, true), (7, false)]);
        assert_eq!(channels.poll("a", &[0, 1], due), [(0, true), (1, false)]);
        assert_eq!(channels.poll("c", &[0], due), [(0, false)]);
        assert_eq!(channels.pending(), 1);
    }

    #[test]
    fn idle_channels_and_restarts_begin_at_0() {
        let (mut channels, now) = (channels("0s"), start());
        channels.issue("a", now, false);
        let later = now + Duration::from_secs(601);
        assert_eq!(channels.poll("a", &[0], later), [(0, false)], "forgotten");
        assert_eq!(channels.issue("a", later, false).id, 0);
        channels.clear();
        assert_eq!(channels.issue("a", later, false).id, 0);
    }

    #[test]
    fn some_ids_stay_false_and_channels_fill_up() {
        let (mut channels, now) = (channels("0s"), start());
        let issued = channels.issue("a", now, true);
        assert_eq!(channels.poll("a", &[issued.id], now + Duration::from_secs(500)), [(0, false)]);
        assert!(channels.has_room("a"));
        channels.issue("a", now, false);
        channels.issue("a", now, false);
        assert!(!channels.has_room("a") && channels.has_room("b"));
    }

    #[test]
    fn delays_follow_their_distribution() {
        let (mut channels, now) = (channels("1s..2s,10%:120s"), start());
        let mut tails = 0;
        for name in 0..1000 {
            let due = channels.issue(&name.to_string(), now, false).due.expect("due") - now;
            if due == Duration::from_mins(2) {
                tails += 1;
            } else {
                assert!((1.0..=2.0).contains(&due.as_secs_f64()));
            }
        }
        assert!((60..140).contains(&tails), "{tails}");
    }
}
