//! Standard output as a sink, for looking: a frame is acknowledged when it is written.
//!
//! Why: the quickest way to see what a SIEM would get; also a source for pipes.
//! Invariants: 1. frames are written whole and in order. 2. a frame counts when the operating system took its
//!  last byte. 3. a broken pipe acknowledges nothing: the frame is written again from its beginning.
//! Bounds: frames are bounded by credit.
//! Driven by: `pipeline`.

use core::time::Duration;
use std::collections::VecDeque;

use crate::proto::context::{Context, Settled, Trouble};
use crate::proto::event::{Action, Cause, Closed, Scope, To};
use crate::proto::frame::Frame;
use crate::proto::ids::{ConnId, EndpointId, Epoch, ShardId};
use crate::proto::time::Instant;

/// The sink.
#[derive(Debug, Default)]
pub struct Stdout {
    frames: VecDeque<Frame>,
    offset: usize,
    conn: Option<(ConnId, bool)>,
    /// After a failure: not before this moment.
    again_at: Option<Instant>,
    trouble: Trouble,
}

/// Wait after a failed write: a reader that is gone stays gone, mostly.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const SCOPE: Scope = Scope::Sink(EndpointId(0));

impl Stdout {
    /// Takes a frame over.
    pub fn push(&mut self, frame: Frame) {
        self.frames.push_back(frame);
    }

    /// True while bytes of this shard are in memory here.
    pub fn carries(&self, shard: ShardId) -> bool {
        self.frames.iter().any(|frame| frame.carries(shard))
    }

    /// Frames in memory.
    pub fn frames(&self) -> usize {
        self.frames.len()
    }

    /// True for the connection of this sink.
    pub fn owns(&self, conn: ConnId) -> bool {
        self.conn.is_some_and(|(own, _)| own == conn)
    }

    /// The lease of a shard is lost.
    pub fn forget(&mut self, _now: Instant, shard: ShardId, epoch: Epoch, cx: &mut Context) {
        let begun = usize::from(self.offset > 0);
        let mut kept = VecDeque::with_capacity(self.frames.len());
        for (at, frame) in self.frames.drain(..).enumerate() {
            let stale = frame.is_all_of(shard, epoch);
            if stale && at >= begun { cx.pool.give(frame) } else { kept.push_back(frame) }
        }
        self.frames = kept;
    }

    /// The output is ready.
    pub fn handle_connected(&mut self, _now: Instant, conn: ConnId, cx: &mut Context) -> bool {
        let Some((own, open)) = &mut self.conn else { return false };
        if *own != conn {
            return false;
        }
        *open = true;
        cx.actions.push_back(Action::Transmit(conn));
        true
    }

    /// Bytes were written.
    pub fn handle_transmitted(
        &mut self,
        _now: Instant,
        conn: ConnId,
        bytes: usize,
        cx: &mut Context,
    ) -> bool {
        if !self.owns(conn) {
            return false;
        }
        self.offset += bytes;
        cx.counters.sent_bytes += bytes as u64;
        while let Some(frame) = self.frames.pop_front_if(|frame| frame.bytes.len() <= self.offset) {
            self.offset -= frame.bytes.len();
            cx.counters.acked_batches += 1;
            self.trouble.clear(cx, SCOPE);
            cx.settle(&frame.segments, Settled::Acked);
            cx.pool.give(frame);
        }
        true
    }

    /// The output is gone; it is opened again a little later.
    pub fn handle_closed(&mut self, now: Instant, conn: ConnId, why: &Closed, cx: &mut Context) -> bool {
        let owned = self.owns(conn);
        if owned {
            self.conn = None;
            self.offset = 0;
            self.again_at = Some(now + AGAIN_AFTER);
            self.trouble.raise(cx, SCOPE, Cause::Transport(why.clone()), AGAIN_AFTER);
        }
        owned
    }

    /// A deadline passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.again_at = self.again_at.filter(|at| *at > now);
    }

    /// When it may be opened again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.again_at
    }

    /// True after a failed write, until one works.
    pub fn is_troubled(&self) -> bool {
        self.trouble.is_raised()
    }

    /// The next bytes.
    pub fn poll_transmit(&self, conn: ConnId) -> Option<&[u8]> {
        if self.conn != Some((conn, true)) {
            return None;
        }
        self.frames.front()?.bytes.get(self.offset..)
    }

    /// Opens the output, asks for writing.
    pub fn dispatch(&mut self, _now: Instant, cx: &mut Context) {
        match self.conn {
            _ if self.frames.is_empty() => {}
            None if self.again_at.is_some() => {}
            None => self.conn = Some((cx.connect(To::Stdout), false)),
            Some((conn, true)) => cx.actions.push_back(Action::Transmit(conn)),
            Some((_, false)) => {}
        }
    }

    /// Closes the output.
    pub fn close_all(&mut self, cx: &mut Context) {
        if let Some((conn, _)) = self.conn.take() {
            cx.actions.push_back(Action::Close(conn));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::proto::event::{ClosedKind, Report};
    use crate::proto::flow::Flow;
    use crate::proto::frame::{FramePool, Segment};
    use crate::proto::ids::PullId;

    fn frame(cx: &mut Context, text: &[u8]) -> Frame {
        let mut frame = cx.pool.take(Instant(0)).unwrap();
        frame.bytes.extend_from_slice(text);
        frame.note(Segment { shard: ShardId(0), epoch: Epoch(1), pull: PullId(0), start: 0, end: 1 });
        frame
    }

    #[test]
    fn a_reader_that_is_gone_acknowledges_nothing_and_is_not_asked_all_the_time() {
        let flow = Flow::new(10_000);
        let mut cx = Context::new(FramePool::new(Rc::clone(&flow.frames), 100), 1);
        let mut sink = Stdout::default();
        sink.push(frame(&mut cx, b"one\n"));
        sink.dispatch(Instant(0), &mut cx);
        let Some(Action::Connect { conn, .. }) = cx.actions.pop_front() else { panic!("no connection") };
        sink.handle_connected(Instant(0), conn, &mut cx);
        assert_eq!(sink.poll_transmit(conn), Some(b"one\n".as_slice()));
        sink.handle_transmitted(Instant(0), conn, 2, &mut cx);
        let why = Closed { kind: ClosedKind::Reset, detail: "broken pipe".into() };
        sink.handle_closed(Instant(0), conn, &why, &mut cx);
        assert!(cx.settled.is_empty() && sink.is_troubled());
        assert!(matches!(cx.reports.pop_front(), Some(Report::Alarm(_))));
        cx.actions.clear();
        sink.dispatch(Instant(0), &mut cx);
        assert!(cx.actions.is_empty());

        let later = sink.poll_timeout().unwrap();
        sink.handle_timeout(later);
        sink.dispatch(later, &mut cx);
        let Some(Action::Connect { conn, .. }) = cx.actions.pop_front() else { panic!("no connection") };
        sink.handle_connected(later, conn, &mut cx);
        assert_eq!(sink.poll_transmit(conn), Some(b"one\n".as_slice()), "from its beginning");
        sink.handle_transmitted(later, conn, 4, &mut cx);
        assert_eq!(cx.settled.len(), 1);
        assert!(!sink.is_troubled());
    }
}
