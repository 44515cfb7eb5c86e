//! The levels below "the peer has read it": taken by the peer's kernel, taken by ours.
//!
//! Why: some receivers never end a connection, and some are behind a device that ends it for them. What is left then is
//! TCP's own acknowledgement, which is worth more than a successful write and less than a drain.
//! Invariants: 1. a frame is compared by where it ends on the wire, known at the first ledger after it was written
//!  whole, so never too low. 2. the peer's kernel has it for [`DWELL`] while the peer goes on reading, or has
//!  `margin` bytes behind it as well, more than a receive buffer holds, so that its process has read it; or the peer
//!  ends the connection in order, which it can only after it has read what its kernel has. 3. what is not settled when
//!  the connection breaks goes again: the last margin or dwell before the break comes twice.
//! Bounds: the margin is at most a quarter of the memory for frames.
//! Driven by: `sink::syslog`, which has the driver measure. Spec: tcp(7): SIOCOUTQ.

use core::time::Duration;

use super::queue::{Queue, Sent};
use crate::proto::event::Ledger;
use crate::proto::time::Instant;

/// How long the peer's kernel has to have a frame without a reset, a FIN or a standstill.
const DWELL: Duration = Duration::from_secs(5);
/// The largest receive buffer that Linux gives a connection by itself (`tcp_rmem`).
pub(super) const MARGIN_BYTES_MAX: u64 = 6 << 20;
/// Bytes under way that do not move for this long: the peer has stopped reading.
const STANDSTILL: Duration = Duration::from_secs(1);
const PAUSE_KERNEL: Duration = Duration::from_millis(100);
const PAUSE_WRITTEN: Duration = Duration::from_millis(10);

/// What counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The peer's kernel has it.
    Arrived {
        /// Bytes behind a frame that make its reading sure.
        margin: u64,
    },
    /// Our kernel has it.
    Written,
}

/// Watches how far the bytes of a connection have come.
#[derive(Debug)]
pub(super) struct Watch {
    wanted: Wanted,
    /// When to measure next; nothing while an answer is owed.
    next: Option<Instant>,
    asked: bool,
    acked: u64,
    /// Since when bytes are under way that do not move.
    stuck: Option<Instant>,
}

impl Watch {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self { wanted, next: None, asked: false, acked: 0, stuck: None }
    }

    /// A frame was written whole.
    pub(super) fn note_written(&mut self, now: Instant) {
        let first = match self.wanted {
            Wanted::Arrived { .. } => now + PAUSE_KERNEL,
            Wanted::Written => now,
        };
        self.next.get_or_insert(first);
    }

    /// True when the driver should measure, once per answer.
    pub(super) fn ask(&mut self, now: Instant) -> bool {
        let due = !self.asked && self.next.is_some_and(|at| at <= now);
        self.asked |= due;
        due
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next.filter(|_| !self.asked)
    }

    /// An answer: notes what it tells about the written frames. [`Self::is_settled`] is asked after it.
    pub(super) fn handle_ledger(&mut self, now: Instant, ledger: Ledger, queue: &mut Queue) {
        self.asked = false;
        let acked = ledger.acked();
        self.stuck = if ledger.unacked > 0 && acked == self.acked { self.stuck.or(Some(now)) } else { None };
        self.acked = acked;
        for sent in queue.written_mut() {
            let mark = *sent.mark.get_or_insert(ledger.sealed);
            let reached = match self.wanted {
                Wanted::Arrived { .. } => acked >= mark,
                Wanted::Written => ledger.written >= mark,
            };
            if reached {
                sent.arrived.get_or_insert(now);
            }
        }
    }

    /// True where nothing more is waited for.
    pub(super) fn is_settled(&self, now: Instant, sent: &Sent) -> bool {
        let (Some(arrived), Some(mark)) = (sent.arrived, sent.mark) else { return false };
        match self.wanted {
            Wanted::Written => true,
            Wanted::Arrived { margin } => {
                let still = self.stuck.is_some_and(|since| since + STANDSTILL <= now);
                self.acked >= mark + margin || (arrived + DWELL <= now && !still)
            }
        }
    }

    /// True where the peer's own end, and no reset, says that it has read the frame: a socket that is closed with bytes
    /// unread answers with a reset, and what comes behind the close is never acknowledged.
    pub(super) fn is_settled_by_end(&self, sent: &Sent) -> bool {
        let wants_arrival = matches!(self.wanted, Wanted::Arrived { .. });
        wants_arrival && sent.mark.is_some_and(|mark| self.acked >= mark)
    }

    /// Sets the next measurement, after everything that is settled was taken out.
    pub(super) fn rest(&mut self, now: Instant, queue: &Queue) {
        let pause = match self.wanted {
            Wanted::Arrived { .. } => PAUSE_KERNEL,
            Wanted::Written => PAUSE_WRITTEN,
        };
        self.next = queue.has_written().then(|| now + pause);
    }

    /// True where a settled frame proves nothing about the peer.
    pub(super) fn is_unproven(&self) -> bool {
        self.wanted == Wanted::Written
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::proto::flow::Flow;
    use crate::proto::frame::FramePool;

    const SECOND: Duration = Duration::from_secs(1);

    fn queue_of(pool: &mut FramePool, sizes: &[usize]) -> Queue {
        let mut queue = Queue::default();
        for size in sizes {
            let mut frame = pool.take(Instant(0)).unwrap();
            frame.bytes = vec![b'x'; *size];
            queue.push(Instant(0), frame);
            queue.advance(Instant(0), *size);
        }
        queue
    }

    fn settled(watch: &mut Watch, now: Instant, queue: &mut Queue, ledger: Ledger) -> usize {
        watch.handle_ledger(now, ledger, queue);
        let mut count = 0;
        while queue.pop_if(|sent| watch.is_settled(now, sent)).is_some() {
            count += 1;
        }
        watch.rest(now, queue);
        count
    }

    #[test]
    fn a_dwell_without_a_break_settles_what_the_peers_kernel_has() {
        let flow = Flow::new(1_000_000);
        let mut pool = FramePool::new(Rc::clone(&flow.frames), 100);
        let mut watch = Watch::new(Wanted::Arrived { margin: 1_000_000 });
        let mut queue = queue_of(&mut pool, &[100, 100]);
        let ledger = |unacked| Ledger { sealed: 260, written: 260, unacked };
        let mut now = Instant(0);
        // Both end at 260 on the wire at the latest: half acknowledged is nothing.
        assert_eq!(settled(&mut watch, now, &mut queue, ledger(130)), 0);
        now = now + SECOND;
        assert_eq!(settled(&mut watch, now, &mut queue, ledger(0)), 0, "it has just arrived");
        now = now + DWELL;
        assert_eq!(settled(&mut watch, now, &mut queue, ledger(0)), 2);
        assert_eq!(watch.deadline(), None, "nothing is left to measure");
    }

    #[test]
    fn a_peer_that_stands_still_settles_nothing_however_long_it_lasts() {
        let flow = Flow::new(1_000_000);
        let mut pool = FramePool::new(Rc::clone(&flow.frames), 100);
        let mut watch = Watch::new(Wanted::Arrived { margin: 1_000_000 });
        let mut queue = queue_of(&mut pool, &[100]);
        let mut now = Instant(0);
        let first = Ledger { sealed: 100, written: 100, unacked: 0 };
        assert_eq!(settled(&mut watch, now, &mut queue, first), 0);
        // Its buffer is full: the next frames are written and never acknowledged.
        let stuck = Ledger { sealed: 5_000, written: 5_000, unacked: 4_000 };
        for _ in 0..100 {
            now = now + SECOND;
            let count = settled(&mut watch, now, &mut queue, stuck);
            assert_eq!(count, 0, "at {now:?}");
        }
        let moved = Ledger { unacked: 3_000, ..stuck };
        assert_eq!(settled(&mut watch, now + SECOND, &mut queue, moved), 1, "it reads again");
    }

    #[test]
    fn a_margin_behind_a_frame_settles_it_at_once() {
        let flow = Flow::new(1_000_000);
        let mut pool = FramePool::new(Rc::clone(&flow.frames), 100);
        let mut watch = Watch::new(Wanted::Arrived { margin: 500 });
        let mut queue = queue_of(&mut pool, &[100]);
        let ledger = Ledger { sealed: 100, written: 100, unacked: 0 };
        assert_eq!(settled(&mut watch, Instant(0), &mut queue, ledger), 0);
        let more = Ledger { sealed: 600, written: 600, unacked: 1 };
        assert_eq!(settled(&mut watch, Instant(1), &mut queue, more), 0, "one byte is missing");
        assert_eq!(settled(&mut watch, Instant(2), &mut queue, Ledger { unacked: 0, ..more }), 1);
    }

    #[test]
    fn an_end_in_order_settles_what_had_arrived() {
        let flow = Flow::new(1_000_000);
        let mut pool = FramePool::new(Rc::clone(&flow.frames), 100);
        let mut watch = Watch::new(Wanted::Arrived { margin: 1_000_000 });
        let mut queue = queue_of(&mut pool, &[100]);
        watch.handle_ledger(Instant(0), Ledger { sealed: 100, written: 100, unacked: 1 }, &mut queue);
        assert!(queue.pop_if(|sent| watch.is_settled_by_end(sent)).is_none(), "a byte is missing");
        watch.handle_ledger(Instant(1), Ledger { sealed: 100, written: 100, unacked: 0 }, &mut queue);
        assert!(queue.pop_if(|sent| watch.is_settled_by_end(sent)).is_some());
        let mut watch = Watch::new(Wanted::Written);
        let mut queue = queue_of(&mut pool, &[100]);
        watch.handle_ledger(Instant(0), Ledger { sealed: 100, written: 50, unacked: 50 }, &mut queue);
        assert!(queue.pop_if(|sent| watch.is_settled_by_end(sent)).is_none());
    }

    #[test]
    fn written_is_what_our_kernel_has_taken() {
        let flow = Flow::new(1_000_000);
        let mut pool = FramePool::new(Rc::clone(&flow.frames), 100);
        let mut watch = Watch::new(Wanted::Written);
        let mut queue = queue_of(&mut pool, &[100]);
        watch.note_written(Instant(0));
        assert!(watch.ask(Instant(0)) && !watch.ask(Instant(0)), "one question per answer");
        let sealed = Ledger { sealed: 130, written: 50, unacked: 50 };
        assert_eq!(settled(&mut watch, Instant(1), &mut queue, sealed), 0);
        assert_eq!(settled(&mut watch, Instant(2), &mut queue, Ledger { written: 130, ..sealed }), 1);
    }
}
