//! The frames of one connection in the order of sending: what is written, what is not.
//!
//! Why: plain syslog has no answers, so what a frame is worth is known only by how far its bytes have come.
//! Invariants: 1. frames leave from the front only, or all together. 2. `written` frames are written whole, the next
//!  one as far as `offset`.
//! Bounds: credit; at most [`UNWRITTEN_MAX`] frames wait here for the socket, the others can still go elsewhere.
//! Driven by: the connections of `sink::syslog`.

use std::collections::VecDeque;

use crate::proto::context::Context;
use crate::proto::frame::Frame;
use crate::proto::ids::ShardId;
use crate::proto::time::Instant;

/// Frames that a connection holds before the socket takes them.
const UNWRITTEN_MAX: usize = 3;

/// A frame given to a connection.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) frame: Frame,
    /// When its first byte was given to the driver.
    pub(super) started: Option<Instant>,
    /// Where it ends on the wire at the latest; known after it was written whole.
    pub(super) mark: Option<u64>,
    /// When the peer's kernel was first known to have all of it.
    pub(super) arrived: Option<Instant>,
}

/// Frames in order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    frames: VecDeque<Sent>,
    written: usize,
    offset: usize,
    /// Bytes of all frames that were ever given to this connection.
    taken_bytes: u64,
    /// When a byte was last written, or the first frame came to an idle connection.
    pub(super) moved: Instant,
}

impl Queue {
    pub(super) fn push(&mut self, now: Instant, frame: Frame) {
        if !self.has_unwritten() {
            self.moved = now;
        }
        self.taken_bytes += frame.bytes.len() as u64;
        self.frames.push_back(Sent { frame, started: None, mark: None, arrived: None });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn records(&self) -> u32 {
        self.frames.iter().map(|sent| sent.frame.records()).sum()
    }

    pub(super) fn has_unwritten(&self) -> bool {
        self.written < self.frames.len()
    }

    pub(super) fn has_room(&self) -> bool {
        self.frames.len() - self.written < UNWRITTEN_MAX
    }

    pub(super) fn taken_bytes(&self) -> u64 {
        self.taken_bytes
    }

    pub(super) fn carries(&self, shard: ShardId) -> bool {
        self.frames.iter().any(|sent| sent.frame.carries(shard))
    }

    /// The frame that is being written, and how much of it is.
    pub(super) fn current(&mut self, now: Instant) -> Option<(&[u8], usize)> {
        let sent = self.frames.get_mut(self.written)?;
        sent.started.get_or_insert(now);
        Some((&sent.frame.bytes, self.offset))
    }

    /// The next bytes to write.
    pub(super) fn chunk(&mut self, now: Instant) -> Option<&[u8]> {
        let (bytes, offset) = self.current(now)?;
        bytes.get(offset..)
    }

    /// `bytes` more of the current frame are on their way; true when it is written whole.
    pub(super) fn advance(&mut self, now: Instant, bytes: usize) -> bool {
        self.moved = now;
        self.offset += bytes;
        let whole = self.frames.get(self.written).is_some_and(|sent| self.offset >= sent.frame.bytes.len());
        if whole {
            self.written += 1;
            self.offset = 0;
        }
        whole
    }

    /// The frames that are written whole, oldest first.
    pub(super) fn written_mut(&mut self) -> impl Iterator<Item = &mut Sent> {
        self.frames.iter_mut().take(self.written)
    }

    /// True while some frame is written whole and not settled.
    pub(super) fn has_written(&self) -> bool {
        self.written > 0
    }

    /// Takes the oldest frame out if it is written whole and `is_done`.
    pub(super) fn pop_if(&mut self, is_done: impl FnOnce(&Sent) -> bool) -> Option<Sent> {
        if self.written == 0 || !self.frames.front().is_some_and(is_done) {
            return None;
        }
        self.written -= 1;
        self.frames.pop_front()
    }

    /// Takes the newest frame out: for giving all of them back, last first.
    pub(super) fn pop_back(&mut self) -> Option<Sent> {
        let sent = self.frames.pop_back();
        self.written = self.written.min(self.frames.len());
        self.offset = 0;
        sent
    }

    /// Takes frames out that are not begun and hold nothing but stale records.
    pub(super) fn forget_unwritten(&mut self, stale: &impl Fn(&Frame) -> bool, cx: &mut Context) {
        let mut kept = VecDeque::with_capacity(self.frames.len());
        for sent in self.frames.drain(..) {
            if sent.started.is_none() && stale(&sent.frame) {
                cx.pool.give(sent.frame);
            } else {
                kept.push_back(sent);
            }
        }
        self.frames = kept;
    }
}
