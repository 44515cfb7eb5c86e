//! What of a shard may be saved, and how far behind that is.
//!
//! Why: a position is looked up with each acknowledgement, but told only with the heartbeat and before the shard is
//! given up; and the end of a read-only shard has to be told although no record leads there.
//! Invariants: 1. only what the ledger calls safe is ever told. 2. each position is told once, the last one last. 3. the
//!  end of a shard is told once, when nothing before it is open.
//! Bounds: one position that waits to be told.
//! Driven by: `shard`, on acknowledgements and with the heartbeat. The commit rule itself: `ledger`.

use crate::proto::context::Context;
use crate::proto::event::Report;
use crate::proto::ids::{Cursor, Epoch, ShardId};
use crate::proto::ledger::{Ledger, SafeCursor};
use crate::proto::time::{Instant, UnixTime};

/// What is known about the end of the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndSeen {
    /// There is more to pull, as far as is known.
    Ahead,
    /// The cursor stands at the end.
    Reached,
    /// It does, and that was reported as safe.
    Reported,
}

/// The safe end of a shard.
pub(super) struct Safe {
    end: EndSeen,
    time: Option<u64>,
    moved: Instant,
    /// The last position that may be saved, until it is told.
    untold: Option<SafeCursor>,
}

impl Safe {
    pub(super) fn new(now: Instant) -> Self {
        Self { end: EndSeen::Ahead, time: None, moved: now, untold: None }
    }

    /// True while there is more to pull, as far as is known.
    pub(super) fn is_more_ahead(&self) -> bool {
        self.end == EndSeen::Ahead
    }

    /// A pull was answered: at the end of the shard or not, with a new cursor or not.
    pub(super) fn answered(&mut self, at_end: bool, moved: bool) {
        self.end = match self.end {
            _ if !at_end => EndSeen::Ahead,
            EndSeen::Reported if !moved => EndSeen::Reported,
            _ => EndSeen::Reached,
        };
    }

    /// From now on something is open again.
    pub(super) fn begins(&mut self, now: Instant) {
        self.moved = now;
    }

    /// Looks what may be saved by now, of a shard whose next pull begins at `cursor`.
    pub(super) fn note(&mut self, now: Instant, ledger: &mut Ledger, cursor: &Cursor, cx: &mut Context) {
        let moved = self.poll(now, ledger, cursor, cx);
        self.untold = moved.or_else(|| self.untold.take());
    }

    /// Reports the last safe position, unless that has been done.
    pub(super) fn tell(&mut self, shard: ShardId, epoch: Epoch, cx: &mut Context) {
        if let Some(SafeCursor { cursor, cursor_time }) = self.untold.take() {
            cx.reports.push_back(Report::Safe { shard, epoch, cursor, cursor_time });
        }
    }

    /// Seconds behind the clock of SLS, and seconds since the safe position moved last.
    pub(super) fn lag(&self, now: Instant, wall: UnixTime, ledger: &Ledger) -> (u64, u64) {
        if ledger.is_empty() && !self.is_more_ahead() {
            return (0, 0);
        }
        let oldest = self.time.or_else(|| ledger.oldest().and_then(|pulled| pulled.next_time));
        let behind = oldest.map_or(0, |time| wall.as_secs().saturating_sub(time));
        let pending = if ledger.is_empty() { 0 } else { now.since(self.moved).as_secs() };
        (behind, pending)
    }

    fn poll(
        &mut self,
        now: Instant,
        ledger: &mut Ledger,
        cursor: &Cursor,
        cx: &mut Context,
    ) -> Option<SafeCursor> {
        let histogram = &mut cx.counters.end_to_end_seconds;
        let moved = ledger.poll_safe(|pulled| {
            if pulled.records > 0 {
                histogram.observe(now.since(pulled.at));
            }
        });
        let all_told = self.end == EndSeen::Reached && ledger.is_empty();
        if all_told {
            self.end = EndSeen::Reported;
        }
        if let Some(safe) = moved {
            self.moved = now;
            self.time = safe.cursor_time.or(self.time);
            return Some(safe);
        }
        // The end of a shard is reported although no record leads there: a read-only shard is released by a
        // commit of its end, even if it never held anything for this consumer.
        all_told.then(|| SafeCursor { cursor: cursor.clone(), cursor_time: self.time })
    }
}
