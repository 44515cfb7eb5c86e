//! When the next pull of a shard may begin.
//!
//! Why: the service allows 100 reads a second and some megabytes a second per shard, shared by all who read it, and
//! every pull costs both sides. A shard that has a backlog is read without a pause, one that has caught up in quiet
//! steps, one that is refused for its quota less and less often until the quota is enough.
//! Invariants: 1. no more than a hundred pulls begin in any second: [`BURST`] at most, without a pause between them, in each
//! [`WINDOW`]. Evenly spaced, each would cost a wake of its own, and find the caches cold. 2. a pull that came back full is
//! followed at once. 3. sizes are those before an SPL filter: that is what the service counts.
//! Bounds: pauses of at most five `fetch_interval`s, or [`VALVE_MAX`] where the quota is used up.
//! Driven by: `shard`. Spec: read limits per shard; codes `ReadQuotaExceed`, `ShardReadQuotaExceed`.

use core::time::Duration;

use crate::proto::backoff::Backoff;
use crate::proto::sls::api::pull_head::PullHead;
use crate::proto::time::Instant;

/// Pulls of one window.
const BURST: u32 = 10;
/// From the first pull of a window on. A second that begins within one window holds at most its ten pulls and those of the
/// nine windows that begin in the rest of it (8 times 112 ms are 896): a hundred.
const WINDOW: Duration = Duration::from_millis(112);
/// A pull that may begin within this time is as good as under way.
pub(super) const SOON: Duration = Duration::from_millis(10);
/// Shorter distances of pulls than this are no slowing down.
const VALVE_SHUT: Duration = Duration::from_millis(10);
/// Empty pulls after which the pause begins to grow.
const CALM_PULLS: u32 = 10;
/// Waits after a failed pull: about this long at first, doubling up to the maximum.
const BACKOFF_BASE: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// First distance of pulls after a refusal for the quota.
const VALVE_MIN: Duration = Duration::from_millis(50);
/// Largest distance: a shard that is hopelessly over its quota is still read.
const VALVE_MAX: Duration = Duration::from_secs(5);
/// A quota that is exceeded for longer is told.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a pull asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// When.
    pub(super) began: Instant,
    /// Log groups at most.
    pub(super) count: u32,
    /// Decompressed bytes that it aimed at.
    pub(super) bytes: u64,
}

/// The pace of one shard.
#[derive(Debug)]
pub(super) struct Pace {
    not_before: Instant,
    /// When the first pull of the present window began, and how many did.
    window: Instant,
    begun: u32,
    backoff: Backoff,
    /// It is the end of a pause after the end of the data, and not of a wait after trouble.
    rests: bool,
    /// Empty pulls in a row.
    calm: u32,
    /// Distance of pulls that the quota allowed lately; zero while there is no shortage.
    valve: Duration,
    /// Since when it has not been zero.
    tight_since: Option<Instant>,
}

impl Pace {
    pub(super) fn new(now: Instant, seed: u64) -> Self {
        Self {
            not_before: now,
            window: now,
            begun: 0,
            rests: false,
            backoff: Backoff::new(BACKOFF_BASE, BACKOFF_MAX, seed),
            calm: 0,
            valve: Duration::ZERO,
            tight_since: None,
        }
    }

    /// No pull before this moment.
    pub(super) fn not_before(&self) -> Instant {
        if self.begun < BURST { self.not_before } else { self.not_before.max(self.window + WINDOW) }
    }

    /// A pull begins.
    pub(super) fn begins(&mut self, now: Instant) {
        if now >= self.window + WINDOW {
            self.window = now;
            self.begun = 0;
        }
        self.begun += 1;
    }

    /// Nothing was wrong: a pull may begin.
    pub(super) fn again(&mut self, now: Instant) {
        self.not_before = now;
        self.rests = false;
    }

    /// Leaves the rest of a pause out that is over within `slack`.
    pub(super) fn hurry(&mut self, now: Instant, slack: Duration) {
        if self.rests && self.not_before <= now + slack {
            self.not_before = self.not_before.min(now);
        }
    }

    /// A pull failed; the wait is at least `wait_min`.
    pub(super) fn failed(&mut self, now: Instant, wait_min: Duration) -> Duration {
        let wait = self.backoff.next_wait().max(wait_min);
        self.not_before = now + wait;
        self.rests = false;
        wait
    }

    /// The quota refused a pull. The wait, where it has lasted so long that it should be told.
    pub(super) fn throttled(&mut self, now: Instant) -> Option<Duration> {
        self.valve = (self.valve * 2).clamp(VALVE_MIN, VALVE_MAX);
        let wait = self.backoff.next_wait().min(self.valve).max(self.valve / 2);
        self.not_before = now + wait;
        self.rests = false;
        let since = *self.tight_since.get_or_insert(now);
        (now.since(since) >= PATIENCE).then_some(self.valve)
    }

    /// True while the quota slows this shard down.
    pub(super) fn is_throttled(&self) -> bool {
        !self.valve.is_zero()
    }

    /// A whole answer came. `again`: it was a repetition, which says nothing about the end of the shard.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        asked: Asked,
        head: &PullHead,
        (moved, again): (bool, bool),
        fetch_interval: Duration,
    ) {
        self.backoff.reset();
        self.valve -= self.valve / 8;
        if self.valve < VALVE_SHUT {
            self.valve = Duration::ZERO;
            self.tight_since = None;
        }
        let pause = if again || !has_caught_up(&asked, head, moved) {
            self.calm = 0;
            Duration::ZERO
        } else {
            self.calm = if head.count == 0 { self.calm.saturating_add(1) } else { 0 };
            fetch_interval * (1 + self.calm.saturating_sub(CALM_PULLS)).min(5)
        };
        self.not_before = (now + pause).max(asked.began + self.valve);
        self.rests = !pause.is_zero() && self.valve.is_zero();
    }
}

/// True where there is probably nothing more at this moment.
fn has_caught_up(asked: &Asked, head: &PullHead, moved: bool) -> bool {
    if head.end_of_cursor || (head.count == 0 && !moved) {
        return true;
    }
    // The flag is optional. Without it an answer that is neither full nor large ended where the data ended.
    let (count, bytes) =
        (head.raw_data_count.unwrap_or(head.count), head.raw_data_size.unwrap_or(head.raw_size));
    if head.count == 0 && head.raw_data_count.is_none() && head.raw_data_size.is_none() {
        // A filter let nothing through and nobody says how much it looked at.
        return false;
    }
    count < u64::from(asked.count) && bytes < asked.bytes / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::ids::Cursor;
    use crate::proto::sls::body::Compression;

    const INTERVAL: Duration = Duration::from_millis(200);
    const START: Instant = Instant(1_000_000_000);

    fn head(count: u64, raw_size: u64) -> PullHead {
        PullHead {
            next_cursor: Cursor::default(),
            count,
            raw_size,
            compression: Compression::Lz4,
            cursor_time: None,
            end_of_cursor: false,
            read_last_cursor: None,
            raw_data_size: None,
            raw_data_count: None,
            request_id: String::new(),
        }
    }

    fn pace() -> Pace {
        Pace::new(START, 1)
    }

    fn asked(began: Instant) -> Asked {
        Asked { began, count: 100, bytes: 1 << 20 }
    }

    /// The pause after an answer that took 2 ms.
    fn pause(pace: &mut Pace, head: &PullHead, moved: bool) -> Duration {
        let now = START + Duration::from_millis(2);
        pace.answered(now, asked(START), head, (moved, false), INTERVAL);
        pace.not_before().since(now)
    }

    #[test]
    fn a_full_or_large_answer_is_followed_at_once() {
        for full in [head(100, 1_000), head(3, 900_000), head(7, 600_000)] {
            assert_eq!(pause(&mut pace(), &full, true), Duration::ZERO);
        }
    }

    proptest::proptest! {
        /// However long answers take, and whatever comes between them: trouble, rests, attempts at once.
        #[test]
        fn no_second_sees_more_than_a_hundred_pulls(steps in proptest::collection::vec((0..4_u8, 0..40_u64), 400)) {
            let (mut pace, mut now) = (pace(), START);
            let mut began = std::collections::VecDeque::new();
            for (what, ms) in steps {
                now = now.max(pace.not_before());
                pace.begins(now);
                began.push_back(now);
                while began.front().is_some_and(|first| *first + Duration::from_secs(1) <= now) {
                    began.pop_front();
                }
                proptest::prop_assert!(began.len() <= 100, "{} pulls in a second", began.len());
                let asked = asked(now);
                now = now + Duration::from_millis(ms / 8);
                match what {
                    0 => pace.again(now),
                    1 if ms > 36 => { pace.failed(now, Duration::ZERO); }
                    _ => pace.answered(now, asked, &head(100, 900_000), (true, false), INTERVAL),
                }
            }
        }
    }

    #[test]
    fn a_backlog_is_read_in_bursts_and_at_nine_tenths_of_the_limit() {
        let (mut pace, mut now, mut pulls, mut pauses) = (pace(), START, 0_u32, 0);
        loop {
            pauses += u32::from(pace.not_before() > now);
            now = now.max(pace.not_before());
            if now >= START + Duration::from_secs(10) {
                break;
            }
            pace.begins(now);
            pulls += 1;
            let answer = now + Duration::from_millis(2);
            pace.answered(answer, asked(now), &head(100, 900_000), (true, false), INTERVAL);
            now = answer;
        }
        assert!((880..=900).contains(&pulls), "{pulls}");
        assert_eq!(pauses, pulls / BURST, "a pause after each burst and nowhere else");
    }

    #[test]
    fn the_end_is_known_by_its_flag_by_an_empty_answer_and_by_a_short_one() {
        let end = PullHead { end_of_cursor: true, ..head(100, 900_000) };
        assert_eq!(pause(&mut pace(), &end, true), INTERVAL);
        assert_eq!(pause(&mut pace(), &head(0, 0), false), INTERVAL);
        assert_eq!(pause(&mut pace(), &head(3, 2_000), true), INTERVAL);
    }

    #[test]
    fn with_a_filter_the_sizes_before_it_count() {
        let scanned = PullHead { raw_data_count: Some(100), raw_data_size: Some(50_000), ..head(0, 0) };
        assert!(pause(&mut pace(), &scanned, true) < INTERVAL, "a backlog that the filter swallows");
        let trickle = PullHead { raw_data_count: Some(2), raw_data_size: Some(500), ..head(0, 0) };
        assert_eq!(pause(&mut pace(), &trickle, true), INTERVAL, "fresh data that the filter swallows");
        assert!(pause(&mut pace(), &head(0, 0), true) < INTERVAL, "nobody says how much it was");
    }

    #[test]
    fn an_idle_shard_is_read_ever_more_slowly_up_to_five_intervals() {
        let mut pace = pace();
        let pauses: Vec<Duration> = (0..40).map(|_| pause(&mut pace, &head(0, 0), false)).collect();
        assert!(pauses[..10].iter().all(|pause| *pause == INTERVAL));
        assert!(pauses.is_sorted());
        assert_eq!(pauses.last(), Some(&(INTERVAL * 5)));
        assert_eq!(pause(&mut pace, &head(1, 10), true), INTERVAL);
        assert_eq!(pause(&mut pace, &head(0, 0), false), INTERVAL, "data wakes it up");
    }

    #[test]
    fn only_a_pause_at_the_end_of_the_data_is_cut_short_and_only_its_last_part() {
        let slack = INTERVAL / 4;
        let mut pace = pace();
        pause(&mut pace, &head(3, 2_000), true);
        let end = pace.not_before();
        let early = Instant(end.0 - 60_000_000);
        pace.hurry(early, slack);
        assert_eq!(pace.not_before(), end, "60 ms are more than a quarter of 200");
        let late = Instant(end.0 - 40_000_000);
        pace.hurry(late, slack);
        assert_eq!(pace.not_before(), late);
        pace.failed(late, Duration::ZERO);
        let wait = pace.not_before();
        pace.hurry(Instant(wait.0 - 1), slack);
        assert_eq!(pace.not_before(), wait, "a wait after trouble is waited for");
    }

    #[test]
    fn a_quota_slows_down_until_it_is_enough_and_is_forgotten_afterwards() {
        let mut pace = pace();
        let (mut now, mut refused, mut served) = (START, 0, 0);
        // A server that allows five reads a second, for five minutes.
        let (mut second, mut used) = (0, 0);
        while now < START + Duration::from_mins(5) {
            now = now.max(pace.not_before());
            if now.0 / 1_000_000_000 != second {
                (second, used) = (now.0 / 1_000_000_000, 0);
            }
            used += 1;
            if used > 5 {
                refused += 1;
                pace.throttled(now);
            } else {
                served += 1;
                pace.answered(now, asked(now), &head(100, 900_000), (true, false), INTERVAL);
            }
        }
        assert!(served > 5 * 300 / 2, "{served} reads, {refused} refusals");
        assert!(refused < served, "{served} reads, {refused} refusals");
        for _ in 0..60 {
            pace.answered(now, asked(now), &head(100, 900_000), (true, false), INTERVAL);
        }
        assert!(!pace.is_throttled());
        assert_eq!(pace.not_before(), now);
    }

    #[test]
    fn a_short_burst_of_refusals_is_not_told_and_a_long_one_is() {
        let mut pace = pace();
        let mut now = START;
        while now < START + PATIENCE {
            assert_eq!(pace.throttled(now), None);
            now = pace.not_before();
        }
        assert_eq!(pace.throttled(now), Some(VALVE_MAX));
        assert!(pace.not_before().since(now) <= VALVE_MAX);
    }
}
