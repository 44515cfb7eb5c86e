//! One epoch of a draining connection: from its first frame to the peer's end behind ours.
//!
//! Why: a stream syslog receiver never answers, but it ends a connection only when a read has told it that nothing
//! follows, so after it has read every byte. That end is the acknowledgement.
//! Invariants: 1. an epoch is proven by the peer's FIN that came after ours, with every byte of ours acknowledged by
//!  its kernel. A FIN that was on its way while we still wrote leaves bytes (at least our FIN) unacknowledged, or
//!  brings a reset; a short silence before our FIN keeps the two apart. It begins when the peer's kernel has every
//!  byte: a FIN behind bytes that still wait for room would come without any. 2. anything else proves nothing, and all
//!  frames of the epoch go again.
//! Bounds: `drain_interval` and a number of bytes; frames stay in memory until the end.
//! Driven by: `sink::syslog`, which has the driver measure. Spec: tcp(7): SIOCOUTQ.

use core::time::Duration;

use crate::proto::event::{Closed, ClosedKind, Ledger};
use crate::proto::planted::{Bug, planted};
use crate::proto::time::Instant;

/// How long an epoch that is due goes on while the next connection is being made.
const RELIEF: Duration = Duration::from_secs(1);

/// How long our FIN waits after the last byte has arrived. A receiver that ends a connection of its own accord, say after so many
/// messages, does that while it handles what it has read. Our FIN must not be there already by then, or its end would
/// look like the answer to ours while it throws the rest of its buffer away.
const QUIET: Duration = Duration::from_millis(20);
/// The same where an address has ended connections early.
const QUIET_IN_DOUBT: Duration = Duration::from_millis(200);
/// Whether everything has arrived is asked again after this long, then after twice as long each time.
const ARRIVAL_PAUSE: Duration = Duration::from_millis(5);
const ARRIVAL_PAUSE_MAX: Duration = Duration::from_millis(200);

/// How far the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Frames are taken.
    Open,
    /// No more frames; what is here is still being written.
    Wanted,
    /// Everything is written; the peer's kernel does not have all of it yet.
    Arriving(Arrival),
    /// It has; our FIN waits until this moment.
    Quiet(Instant),
    /// The driver was asked for our FIN.
    Asked(Instant),
    /// Our FIN is out.
    Done(Instant),
}

/// How far the last bytes have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    /// When to measure next; nothing while an answer is owed.
    ask_at: Option<Instant>,
    pause: Duration,
    acked: u64,
    /// Since when no byte has arrived.
    pub(super) moved: Instant,
    /// How long the silence behind them is to be.
    quiet: Duration,
}

impl Arrival {
    fn handle_ledger(&mut self, now: Instant, ledger: Ledger) {
        if ledger.acked() > self.acked {
            self.acked = ledger.acked();
            self.moved = now;
        }
        self.ask_at = Some(now + self.pause);
        self.pause = (self.pause * 2).min(ARRIVAL_PAUSE_MAX);
    }
}

/// What the driver is asked for on the way to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// How far the bytes have come.
    Measure,
    /// Our FIN.
    Finish,
}

/// The state beside the frames.
#[derive(Debug)]
pub(super) struct Epoch {
    began: Option<Instant>,
    frames: u32,
    /// It is due; at this moment it ends even if no other connection is ready.
    relief: Option<Instant>,
    pub(super) end: End,
    ledger: Option<Ledger>,
}

/// When an epoch has to end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) interval: Duration,
    pub(super) bytes: u64,
}

impl Epoch {
    pub(super) fn new() -> Self {
        Self { began: None, frames: 0, relief: None, end: End::Open, ledger: None }
    }

    pub(super) fn note_frame(&mut self, now: Instant) {
        self.began.get_or_insert(now);
        self.frames += 1;
    }

    /// True while frames may be given.
    pub(super) fn accepts(&self, bytes: u64, limits: Limits) -> bool {
        let is_open = self.end == End::Open || planted(Bug::LateFramesJoin);
        is_open && (bytes < limits.bytes || self.frames == 0)
    }

    /// True where the next connection should be made before this one ends.
    pub(super) fn is_busy(&self) -> bool {
        self.frames > 1
    }

    /// Once due it stays so, even where what made it due (a shard in a hurry) is gone.
    pub(super) fn is_due(&self, now: Instant, bytes: u64, limits: Limits) -> bool {
        let by_limits = |began: Instant| bytes >= limits.bytes || began + limits.interval <= now;
        self.end == End::Open && (self.relief.is_some() || self.began.is_some_and(by_limits))
    }

    /// Begins the relief, once; true the first time.
    pub(super) fn call_relief(&mut self, now: Instant) -> bool {
        let first = self.relief.is_none();
        self.relief.get_or_insert(now + RELIEF);
        first
    }

    /// True when nobody is waited for any longer.
    pub(super) fn relief_is_over(&self, now: Instant) -> bool {
        self.relief.is_some_and(|at| at <= now)
    }

    /// True after [`Self::call_relief`].
    pub(super) fn is_relieved(&self) -> bool {
        self.relief.is_some()
    }

    /// The next moment that something about the epoch has to be done; `stalled_at` is when writing has taken too long.
    pub(super) fn deadline(
        &self,
        interval: Duration,
        timeout: Duration,
        stalled_at: Option<Instant>,
    ) -> Option<Instant> {
        match self.end {
            End::Open => {
                let due = self.relief.or_else(|| self.began.map(|began| began + interval));
                due.into_iter().chain(stalled_at).min()
            }
            End::Wanted => stalled_at,
            End::Arriving(arrival) => {
                Some(arrival.ask_at.map_or(arrival.moved + timeout, |at| at.min(arrival.moved + timeout)))
            }
            End::Quiet(until) => Some(until),
            End::Asked(since) | End::Done(since) => Some(since + timeout),
        }
    }

    /// Everything is written: the next step to the end, if it is time for one. `doubt` for an address that ends
    /// connections early, and `alone` where one record is all: behind it nothing can be thrown away, and whoever ends
    /// after each would be first.
    pub(super) fn step(&mut self, now: Instant, doubt: bool, alone: bool) -> Option<Step> {
        if self.end == End::Wanted {
            let quiet = if doubt { QUIET_IN_DOUBT } else { QUIET };
            let arrival = Arrival { ask_at: Some(now), pause: ARRIVAL_PAUSE, acked: 0, moved: now, quiet };
            self.end = if doubt && alone { End::Quiet(now) } else { End::Arriving(arrival) };
            if planted(Bug::NoSilence) && !doubt {
                self.end = End::Quiet(now);
            } else if planted(Bug::SilenceFromTheWrite) {
                self.end = End::Quiet(now + quiet);
            }
        }
        match &mut self.end {
            End::Arriving(arrival) => arrival.ask_at.take_if(|at| *at <= now).map(|_| Step::Measure),
            End::Quiet(until) if *until <= now => {
                self.end = End::Asked(now);
                Some(Step::Finish)
            }
            _ => None,
        }
    }

    pub(super) fn handle_finished(&mut self, now: Instant) {
        if matches!(self.end, End::Asked(_)) {
            self.end = End::Done(now);
        }
    }

    pub(super) fn handle_ledger(&mut self, now: Instant, ledger: Ledger) {
        self.ledger = Some(ledger);
        if let End::Arriving(arrival) = &mut self.end {
            if ledger.has_arrived() {
                self.end = End::Quiet(now + arrival.quiet);
            } else {
                arrival.handle_ledger(now, ledger);
            }
        }
    }

    /// How long the peer took to end behind us; `None` where its end proves nothing.
    pub(super) fn proof(&self, now: Instant, why: &Closed) -> Option<Duration> {
        let since = match self.end {
            End::Done(since) => since,
            End::Quiet(_) | End::Asked(_) if planted(Bug::FinBeforeOurs) => now,
            _ => return None,
        };
        let all = self.ledger.is_some_and(|ledger| ledger.has_arrived());
        let all = all || planted(Bug::UnackedCounts);
        let is_fin =
            why.kind == ClosedKind::Eof || planted(Bug::ResetIsAFin) && why.kind == ClosedKind::Reset;
        (is_fin && all).then(|| now.since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(kind: ClosedKind) -> Closed {
        Closed { kind, detail: String::new() }
    }

    #[test]
    fn only_the_peers_end_behind_ours_with_everything_acknowledged_is_a_proof() {
        let all = Ledger { sealed: 100, written: 100, unacked: 0 };
        let proof = |end: End, ledger: Option<Ledger>, kind: ClosedKind| {
            let epoch = Epoch { end, ledger, ..Epoch::new() };
            epoch.proof(Instant(5), &closed(kind)).is_some()
        };
        assert!(proof(End::Done(Instant(1)), Some(all), ClosedKind::Eof));
        for end in [End::Open, End::Wanted, End::Quiet(Instant(9)), End::Asked(Instant(1))] {
            assert!(!proof(end, Some(all), ClosedKind::Eof), "{end:?}: an early end");
        }
        for kind in [ClosedKind::Reset, ClosedKind::Timeout, ClosedKind::Tls] {
            assert!(!proof(End::Done(Instant(1)), Some(all), kind), "{kind:?}");
        }
        // The FINs crossed: the peer's kernel has not acknowledged ours.
        let crossed = Ledger { unacked: 1, ..all };
        assert!(!proof(End::Done(Instant(1)), Some(crossed), ClosedKind::Eof));
        assert!(!proof(End::Done(Instant(1)), None, ClosedKind::Eof));
    }

    #[test]
    fn the_silence_begins_when_everything_has_arrived() {
        let mut epoch = Epoch { end: End::Wanted, ..Epoch::new() };
        let timeout = Duration::from_secs(90);
        let mut now = Instant(1_000);
        let start = now;
        assert_eq!(epoch.step(now, false, false), Some(Step::Measure));
        assert_eq!(epoch.step(now, false, false), None, "one question per answer");
        assert_eq!(epoch.deadline(timeout, timeout, None), Some(start + timeout));
        // The peer's buffer is full: a receiver that lags keeps our FIN back for as long as it takes.
        let mut asked = 0;
        for unacked in [50, 50, 50, 50, 50, 50, 50, 50, 40] {
            epoch.handle_ledger(now, Ledger { sealed: 100, written: 100, unacked });
            let due = epoch.deadline(timeout, timeout, None).unwrap();
            assert!(due > now && due <= now + ARRIVAL_PAUSE_MAX);
            assert_eq!(epoch.step(now, false, false), None);
            now = due;
            assert_eq!(epoch.step(now, false, false), Some(Step::Measure));
            asked += 1;
        }
        assert_eq!(asked, 9);
        assert!(matches!(epoch.end, End::Arriving(arrival) if arrival.moved > start), "it moves");
        // What is sealed and not written is not there either.
        epoch.handle_ledger(now, Ledger { sealed: 110, written: 100, unacked: 0 });
        assert!(matches!(epoch.end, End::Arriving(_)));
        epoch.handle_ledger(now, Ledger { sealed: 110, written: 110, unacked: 0 });
        assert_eq!(epoch.step(now + QUIET - Duration::from_nanos(1), false, false), None);
        assert_eq!(epoch.step(now + QUIET, false, false), Some(Step::Finish));
        assert_eq!(epoch.end, End::Asked(now + QUIET));
        // In doubt, with nothing that could be thrown away, there is no silence.
        let mut alone = Epoch { end: End::Wanted, ..Epoch::new() };
        assert_eq!(alone.step(now, true, true), Some(Step::Finish));
    }

    #[test]
    fn an_epoch_is_due_by_time_or_bytes_and_waits_a_moment_for_the_next() {
        let limits = Limits { interval: Duration::from_secs(2), bytes: 1_000 };
        let timeout = Duration::from_secs(90);
        let mut epoch = Epoch::new();
        assert!(!epoch.is_due(Instant(0) + Duration::from_secs(100), 0, limits), "nothing to prove");
        assert_eq!(epoch.deadline(limits.interval, timeout, None), None);
        let start = Instant(7);
        epoch.note_frame(start);
        let due = start + limits.interval;
        assert_eq!(epoch.deadline(limits.interval, timeout, None), Some(due));
        assert!(!epoch.is_due(due - Duration::from_nanos(1), 10, limits) && epoch.is_due(due, 10, limits));
        assert!(
            epoch.is_due(start, 1_000, limits) && !epoch.accepts(1_000, limits) && epoch.accepts(999, limits)
        );
        assert!(epoch.call_relief(due) && !epoch.call_relief(due + RELIEF));
        assert!(!epoch.relief_is_over(due) && epoch.relief_is_over(due + RELIEF));
        assert!(epoch.is_due(start, 10, limits), "its deadline is kept, whatever called for it");
        assert_eq!(epoch.deadline(limits.interval, timeout, None), Some(due + RELIEF));
        epoch.end = End::Asked(due);
        epoch.handle_finished(due + RELIEF);
        assert_eq!(epoch.deadline(limits.interval, timeout, None), Some(due + RELIEF + timeout));
    }
}
