//! The encoded bytes of one write to the sink, and which records they are.
//!
//! Why: a frame outlives the pull that it came from (it waits for the sink), so it owns its bytes and carries
//! the names of its records; the buffers are recycled because a fresh megabyte per request costs page faults.
//! Invariants: 1. the bytes hold exactly the records of `segments`, in order, one line each.
//!  2. a frame in use holds credit for its capacity.
//! Bounds: idle buffers of the pool plus credit in use stay below the frame budget; a buffer that one huge
//! record has blown up is freed, not kept.

use std::rc::Rc;

use smallvec::SmallVec;

use super::flow::{Budget, Credit};
use super::ids::{Epoch, PullId, ShardId};
use super::time::Instant;

/// Consecutive records of one pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The shard.
    pub shard: ShardId,
    /// Which holding of it.
    pub epoch: Epoch,
    /// The pull.
    pub pull: PullId,
    /// First record.
    pub start: u32,
    /// One past the last record.
    pub end: u32,
}

/// The segments of a frame: mostly one or two.
pub type Segments = SmallVec<[Segment; 4]>;

/// One write to the sink.
#[derive(Debug)]
pub struct Frame {
    /// The encoded records.
    pub bytes: Vec<u8>,
    /// Which records they are.
    pub segments: Segments,
    /// When the first record was put in.
    pub opened: Instant,
    /// True once some byte of it was given to a connection: from then on a failure may leave a duplicate.
    pub exposed: bool,
    credit: Credit,
}

impl Frame {
    /// Number of records.
    pub fn records(&self) -> u32 {
        self.segments.iter().map(|segment| segment.end - segment.start).sum()
    }

    /// Notes records that were just appended to `bytes`.
    pub fn note(&mut self, segment: Segment) {
        if segment.start == segment.end {
            return;
        }
        if let Some(last) = self.segments.last_mut()
            && last.shard == segment.shard
            && last.epoch == segment.epoch
            && last.pull == segment.pull
            && last.end == segment.start
        {
            last.end = segment.end;
            return;
        }
        self.segments.push(segment);
    }

    /// Accounts the true size of the buffer.
    pub fn settle_credit(&mut self) {
        self.credit.resize(self.bytes.capacity() as u64);
    }
}

/// Recycles frame buffers within the budget.
#[derive(Debug)]
pub struct FramePool {
    budget: Rc<Budget>,
    frame_bytes: u64,
    idle: Vec<Vec<u8>>,
    idle_bytes: u64,
}

impl FramePool {
    /// Frames of about `frame_bytes` each, paid from `budget`.
    pub fn new(budget: Rc<Budget>, frame_bytes: u64) -> Self {
        Self { budget, frame_bytes, idle: Vec::new(), idle_bytes: 0 }
    }

    /// An empty frame, or nothing when the budget is used up.
    pub fn take(&mut self, now: Instant) -> Option<Frame> {
        let mut credit = self.budget.try_take(self.frame_bytes)?;
        let bytes = self.idle.pop().unwrap_or_default();
        self.idle_bytes -= bytes.capacity() as u64;
        credit.resize(self.frame_bytes.max(bytes.capacity() as u64));
        Some(Frame { bytes, segments: Segments::new(), opened: now, exposed: false, credit })
    }

    /// Takes the buffer of a finished frame back.
    pub fn give(&mut self, frame: Frame) {
        let Frame { mut bytes, credit, .. } = frame;
        drop(credit);
        let capacity = bytes.capacity() as u64;
        let fits = self.budget.used() + self.idle_bytes + capacity <= self.budget.limit();
        if fits && capacity <= self.frame_bytes.saturating_mul(2) {
            bytes.clear();
            self.idle_bytes += capacity;
            self.idle.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::flow::Flow;
    use super::*;

    fn segment(pull: u64, start: u32, end: u32) -> Segment {
        Segment { shard: ShardId(1), epoch: Epoch(1), pull: PullId(pull), start, end }
    }

    #[test]
    fn neighbouring_records_become_one_segment() {
        let flow = Flow::new(4_000);
        let mut pool = FramePool::new(Rc::clone(&flow.frames), 100);
        let mut frame = pool.take(Instant(1)).unwrap();
        frame.note(segment(0, 0, 3));
        frame.note(segment(0, 3, 3));
        frame.note(segment(0, 3, 5));
        frame.note(segment(1, 5, 6));
        frame.note(segment(1, 8, 9));
        assert_eq!(frame.segments.as_slice(), [segment(0, 0, 5), segment(1, 5, 6), segment(1, 8, 9)]);
        assert_eq!(frame.records(), 7);
        pool.give(frame);
        assert_eq!(flow.frames.used(), 0);
    }

    #[test]
    fn buffers_are_reused_unless_blown_up() {
        let flow = Flow::new(4_000);
        let mut pool = FramePool::new(Rc::clone(&flow.frames), 100);
        let mut frame = pool.take(Instant(1)).unwrap();
        frame.bytes.extend_from_slice(&[7; 150]);
        frame.settle_credit();
        assert!(flow.frames.used() >= 150);
        pool.give(frame);
        assert_eq!(flow.frames.used(), 0);
        let mut frame = pool.take(Instant(1)).unwrap();
        assert!(frame.bytes.capacity() >= 150 && frame.bytes.is_empty());
        frame.bytes.extend_from_slice(&[7; 1_500]);
        pool.give(frame);
        assert_eq!(pool.take(Instant(1)).unwrap().bytes.capacity(), 0);
    }
}
