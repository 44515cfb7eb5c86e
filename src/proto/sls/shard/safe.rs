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

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::rc::Rc;

    use super::*;
    use crate::proto::flow::Flow;
    use crate::proto::frame::FramePool;
    use crate::proto::ids::PullId;
    use crate::proto::ledger::Pulled;

    const SECOND: u64 = 1_000_000_000;

    struct Rig {
        safe: Safe,
        ledger: Ledger,
        cursor: Cursor,
        now: Instant,
        cx: Context,
    }

    impl Rig {
        fn new() -> Self {
            let flow = Flow::new(1 << 20);
            let now = Instant(100 * SECOND);
            let cx = Context::new(FramePool::new(Rc::clone(&flow.frames), 1_000), 1);
            Self { safe: Safe::new(now), ledger: Ledger::new(), cursor: Cursor::new("c0"), now, cx }
        }

        /// One record is pulled, received in second `time`; the next pull begins at `next`.
        fn pull(&mut self, next: &str, time: u64) -> PullId {
            if self.ledger.is_empty() {
                self.safe.begins(self.now);
            }
            let from = core::mem::replace(&mut self.cursor, Cursor::new(next));
            let next = self.cursor.clone();
            self.ledger.open(Pulled { from, next, next_time: Some(time), records: 1, at: self.now })
        }

        fn note(&mut self) {
            self.safe.note(self.now, &mut self.ledger, &self.cursor, &mut self.cx);
        }

        /// What is told with the next heartbeat.
        fn told(&mut self) -> Vec<String> {
            self.safe.tell(ShardId(7), Epoch(1), &mut self.cx);
            let text = |report| match report {
                Report::Safe { shard: ShardId(7), cursor, .. } => cursor.to_string(),
                other => format!("{other:?}"),
            };
            self.cx.reports.drain(..).map(text).collect()
        }
    }

    #[test]
    fn of_many_positions_the_last_one_is_told_once() {
        let mut rig = Rig::new();
        let (first, second) = (rig.pull("c1", 1), rig.pull("c2", 2));
        rig.note();
        assert_eq!(rig.told(), [""; 0], "nothing is acknowledged");
        rig.ledger.ack(first, 0, 1);
        rig.note();
        rig.ledger.ack(second, 0, 1);
        rig.note();
        rig.note();
        assert_eq!(rig.told(), ["c2"]);
        assert_eq!(rig.told(), [""; 0]);
    }

    #[test]
    fn the_end_of_a_shard_is_told_once_although_no_record_leads_there() {
        let mut rig = Rig::new();
        rig.note();
        assert_eq!(rig.told(), [""; 0], "nobody has seen the end");
        for told in [["c0"].as_slice(), &[]] {
            rig.safe.answered(true, false);
            rig.note();
            assert_eq!(rig.told(), told);
        }
        // More came after all: its end is told by its records, and nothing is told before them.
        rig.safe.answered(true, true);
        let pull = rig.pull("c1", 1);
        rig.note();
        assert_eq!(rig.told(), [""; 0]);
        rig.ledger.ack(pull, 0, 1);
        rig.note();
        assert_eq!(rig.told(), ["c1"]);
        rig.safe.answered(true, false);
        rig.note();
        assert_eq!(rig.told(), [""; 0]);
        // An empty piece that leads on to the end.
        rig.safe.answered(true, true);
        rig.cursor = Cursor::new("c2");
        rig.note();
        assert_eq!(rig.told(), ["c2"]);
    }

    #[test]
    fn lag_is_counted_from_what_is_safe_and_is_nothing_at_the_end() {
        let mut rig = Rig::new();
        let wall = UnixTime::from_secs(1_000);
        assert_eq!(rig.safe.lag(rig.now, wall, &rig.ledger), (0, 0), "nothing is known");
        rig.safe.answered(false, true);
        let pull = rig.pull("c1", 940);
        rig.now = rig.now + Duration::from_secs(5);
        assert_eq!(rig.safe.lag(rig.now, wall, &rig.ledger), (60, 5));
        rig.ledger.ack(pull, 0, 1);
        rig.note();
        assert_eq!(rig.safe.lag(rig.now, wall, &rig.ledger), (60, 0), "there is more");
        rig.safe.answered(true, false);
        assert_eq!(rig.safe.lag(rig.now, wall, &rig.ledger), (0, 0));
    }
}
