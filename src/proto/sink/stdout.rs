//! Standard output as a sink, for looking: a frame is acknowledged when it is written.
//!
//! Why: the quickest way to see what a SIEM would get; also a source for pipes.
//! Invariants: 1. frames are written whole and in order. 2. a frame counts when the operating system took its
//!  last byte. 3. a broken pipe acknowledges nothing: the frame is written again from its beginning.
//! Bounds: frames are bounded by credit.
//! Driven by: `pipeline`.

use std::collections::VecDeque;

use crate::proto::context::{Context, Settled};
use crate::proto::event::{Action, Closed, To};
use crate::proto::frame::Frame;
use crate::proto::ids::{ConnId, Epoch, ShardId};
use crate::proto::time::Instant;

/// The sink.
#[derive(Debug, Default)]
pub struct Stdout {
    frames: VecDeque<Frame>,
    offset: usize,
    conn: Option<(ConnId, bool)>,
}

impl Stdout {
    /// Takes a frame over.
    pub fn push(&mut self, frame: Frame) {
        self.frames.push_back(frame);
    }

    /// True while bytes of this shard are in memory here.
    pub fn carries(&self, shard: ShardId) -> bool {
        self.frames.iter().any(|frame| frame.segments.iter().any(|segment| segment.shard == shard))
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
    pub fn forget(&mut self, shard: ShardId, epoch: Epoch, cx: &mut Context) {
        let begun = usize::from(self.offset > 0);
        let mut kept = VecDeque::with_capacity(self.frames.len());
        for (at, frame) in self.frames.drain(..).enumerate() {
            let stale = frame.segments.iter().all(|segment| segment.shard == shard && segment.epoch == epoch);
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
            cx.settle(&frame.segments, Settled::Acked);
            cx.pool.give(frame);
        }
        true
    }

    /// The output is gone; it is opened again.
    pub fn handle_closed(&mut self, _now: Instant, conn: ConnId, _why: &Closed, _cx: &mut Context) -> bool {
        let owned = self.owns(conn);
        if owned {
            self.conn = None;
            self.offset = 0;
        }
        owned
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
