//! The encoded bytes of one write to the sink, and which records they are.
//!
//! Why: a frame outlives the pull that it came from (it waits for the sink), so it owns its bytes and carries
//! the names of its records; the buffers are recycled because a fresh megabyte per request costs page faults.
//! Invariants: 1. the bytes hold exactly the records of `segments`, in order, one line each.
//!  2. a frame in use holds credit for its capacity.
//! Bounds: idle buffers of the pool plus credit in use stay below the frame budget; a buffer that one huge
//! record has blown up is freed, not kept.
//! Driven by: shards fill frames; the sink sends them and gives the buffers back.

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
    /// True for a record that the sink has refused for its content and that is offered again.
    pub refused: bool,
    /// Records that are more than one message, in order: index in the frame, number of messages.
    split: Vec<(u32, u32)>,
    credit: Credit,
}

impl Frame {
    /// Number of records.
    pub fn records(&self) -> u32 {
        self.segments.iter().map(|segment| segment.end - segment.start).sum()
    }

    /// The shard whose records go first; frames are filled by one shard each.
    pub fn shard(&self) -> ShardId {
        self.segments.first().map_or(ShardId(u32::MAX), |segment| segment.shard)
    }

    /// True while records of this shard are in it.
    pub fn carries(&self, shard: ShardId) -> bool {
        self.segments.iter().any(|segment| segment.shard == shard)
    }

    /// True where it holds nothing but records of this holding.
    pub fn is_all_of(&self, shard: ShardId, epoch: Epoch) -> bool {
        self.segments.iter().all(|segment| segment.shard == shard && segment.epoch == epoch)
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

    /// Notes how many messages some records are; their indices are counted from the `base`-th of the frame.
    pub fn note_split(&mut self, base: u32, split: &[(u32, u32)]) {
        self.split.extend(split.iter().map(|(record, messages)| (base + record, *messages)));
    }

    /// How many messages the record with this index is.
    pub fn messages_of(&self, record: u32) -> u32 {
        let found = self.split.iter().find(|(split, _)| *split == record);
        found.map_or(1, |(_, messages)| *messages)
    }

    /// Cuts the first `records` records off, a line each, and returns them as names; their bytes are gone from this
    /// frame.
    pub fn cut_front(&mut self, records: u32) -> Segments {
        self.cut_front_at(records, line_end(&self.bytes, records))
    }

    /// As [`Self::cut_front`], where the bytes of those records end at `end`.
    pub fn cut_front_at(&mut self, records: u32, end: usize) -> Segments {
        let (front, rest) = split(&self.segments, records);
        self.segments = rest;
        self.split.retain_mut(|(record, _)| {
            let stays = *record >= records;
            *record = record.saturating_sub(records);
            stays
        });
        self.bytes.drain(..end.min(self.bytes.len()));
        front
    }

    /// Moves the first records, a line each, into `other`, behind what it holds.
    pub fn move_front(&mut self, records: u32, other: &mut Self) {
        self.move_front_at(records, line_end(&self.bytes, records), other);
    }

    /// As [`Self::move_front`], where the bytes of those records end at `end`.
    pub fn move_front_at(&mut self, records: u32, end: usize, other: &mut Self) {
        other.bytes.extend_from_slice(self.bytes.get(..end).unwrap_or(&self.bytes));
        let front = self.split.iter().take_while(|(record, _)| *record < records);
        let base = other.records();
        other.split.extend(front.map(|(record, messages)| (base + record, *messages)));
        for segment in self.cut_front_at(records, end) {
            other.note(segment);
        }
        other.opened = self.opened;
        other.settle_credit();
    }

    /// The name of the record with this index in the frame.
    pub fn name_of(&self, record: u32) -> Option<Segment> {
        let mut left = record;
        for segment in &self.segments {
            let count = segment.end - segment.start;
            if left < count {
                let start = segment.start + left;
                return Some(Segment { start, end: start + 1, ..*segment });
            }
            left -= count;
        }
        None
    }

    /// The names of all records but those with these indices, which are in order.
    pub fn names_without(&self, records: &[u32]) -> Segments {
        let (mut names, mut base, mut out) = (Segments::new(), 0, records.iter().copied().peekable());
        for segment in &self.segments {
            let count = segment.end - segment.start;
            let mut start = segment.start;
            while let Some(record) = out.next_if(|record| *record < base + count) {
                let at = segment.start + (record - base);
                if at > start {
                    names.push(Segment { start, end: at, ..*segment });
                }
                start = at + 1;
            }
            if start < segment.end {
                names.push(Segment { start, ..*segment });
            }
            base += count;
        }
        names
    }

    /// How many whole records, at least one, fit into the first `bytes`.
    pub fn records_within(&self, bytes: usize) -> u32 {
        let front = self.bytes.get(..bytes).unwrap_or(&self.bytes);
        u32::try_from(memchr::memchr_iter(b'\n', front).count())
            .unwrap_or(u32::MAX)
            .clamp(1, self.records().max(1))
    }

    /// The records as lines, without their ends.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
    }

    /// Accounts the true size of the buffer.
    pub fn settle_credit(&mut self) {
        self.credit.resize(self.bytes.capacity() as u64);
    }
}

/// The names of the first `records` records, and those of the rest.
fn split(segments: &Segments, records: u32) -> (Segments, Segments) {
    let (mut front, mut rest) = (Segments::new(), Segments::new());
    let mut left = records;
    for segment in segments {
        let count = (segment.end - segment.start).min(left);
        left -= count;
        let middle = segment.start + count;
        if middle > segment.start {
            front.push(Segment { end: middle, ..*segment });
        }
        if middle < segment.end {
            rest.push(Segment { start: middle, ..*segment });
        }
    }
    (front, rest)
}

/// Where the `records`-th line of `bytes` ends.
fn line_end(bytes: &[u8], records: u32) -> usize {
    let Some(last) = records.checked_sub(1) else { return 0 };
    let newline = memchr::memchr_iter(b'\n', bytes).nth(last as usize);
    newline.map_or(bytes.len(), |at| at + 1)
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
        let mut bytes = self.idle.pop().unwrap_or_default();
        self.idle_bytes -= bytes.capacity() as u64;
        if bytes.capacity() == 0 {
            // With room for the record that makes it full; pages that are not written to cost nothing.
            bytes.reserve_exact(usize::try_from(self.buffer_bytes()).unwrap_or(0));
        }
        credit.resize(self.frame_bytes.max(bytes.capacity() as u64));
        Some(Frame {
            bytes,
            segments: Segments::new(),
            opened: now,
            refused: false,
            split: Vec::new(),
            credit,
        })
    }

    /// An empty frame for a part of another one: those bytes are in memory already, so it is never refused.
    pub fn take_for_part(&mut self, now: Instant) -> Frame {
        let credit = self.budget.take_over(0);
        let (bytes, segments, split) = (Vec::new(), Segments::new(), Vec::new());
        Frame { bytes, segments, opened: now, refused: false, split, credit }
    }

    /// Capacity of a new buffer.
    fn buffer_bytes(&self) -> u64 {
        self.frame_bytes + self.frame_bytes / 16
    }

    /// The bound over all frames of the executor.
    pub fn limit(&self) -> u64 {
        self.budget.limit()
    }

    /// Takes the buffer of a finished frame back.
    pub fn give(&mut self, frame: Frame) {
        let Frame { mut bytes, credit, .. } = frame;
        drop(credit);
        let capacity = bytes.capacity() as u64;
        let fits = self.budget.used() + self.idle_bytes + capacity <= self.budget.limit();
        // A buffer that had to grow once has doubled.
        if fits && capacity <= self.buffer_bytes().saturating_mul(2) {
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
    fn a_frame_is_cut_by_records() {
        let flow = Flow::new(4_000);
        let mut pool = FramePool::new(Rc::clone(&flow.frames), 100);
        let mut frame = pool.take(Instant(1)).unwrap();
        frame.bytes.extend_from_slice(b"a\nbb\nccc\ndddd\n");
        frame.note(segment(0, 7, 9));
        frame.note(segment(1, 0, 2));
        assert_eq!(frame.cut_front(1).as_slice(), [segment(0, 7, 8)]);
        let mut part = pool.take_for_part(Instant(1));
        frame.move_front(1, &mut part);
        assert_eq!(
            (part.bytes.as_slice(), part.segments.as_slice()),
            (b"bb\n".as_slice(), [segment(0, 8, 9)].as_slice())
        );
        assert_eq!(
            (frame.bytes.as_slice(), frame.segments.as_slice()),
            (b"ccc\ndddd\n".as_slice(), [segment(1, 0, 2)].as_slice())
        );
        assert_eq!(frame.cut_front(2).as_slice(), [segment(1, 0, 2)]);
        assert!(frame.bytes.is_empty() && frame.segments.is_empty());
    }

    #[test]
    fn the_messages_of_a_record_go_where_it_goes() {
        let flow = Flow::new(4_000);
        let mut pool = FramePool::new(Rc::clone(&flow.frames), 100);
        let mut frame = pool.take(Instant(1)).unwrap();
        frame.bytes.extend_from_slice(b"abbcdddd");
        frame.note(segment(0, 0, 1));
        frame.note_split(1, &[(0, 2), (2, 4)]);
        frame.note(segment(0, 1, 4));
        let messages = |frame: &Frame| (0..4).map(|record| frame.messages_of(record)).collect::<Vec<_>>();
        assert_eq!(messages(&frame), [1, 2, 1, 4]);
        let mut other = pool.take(Instant(1)).unwrap();
        other.note(segment(9, 0, 1));
        frame.move_front_at(2, 3, &mut other);
        assert_eq!((messages(&frame), messages(&other)), (vec![1, 4, 1, 1], vec![1, 1, 2, 1]));
        frame.cut_front_at(1, 1);
        assert_eq!(messages(&frame), [4, 1, 1, 1]);
    }

    #[test]
    fn records_are_named_and_left_out_by_their_index() {
        let flow = Flow::new(4_000);
        let mut frame = FramePool::new(Rc::clone(&flow.frames), 100).take(Instant(1)).unwrap();
        frame.note(segment(0, 7, 10));
        frame.note(segment(1, 0, 2));
        assert_eq!(frame.name_of(2), Some(segment(0, 9, 10)));
        assert_eq!(frame.name_of(3), Some(segment(1, 0, 1)));
        assert_eq!(frame.name_of(5), None);
        assert_eq!(frame.names_without(&[]).as_slice(), frame.segments.as_slice());
        assert_eq!(
            frame.names_without(&[1, 3]).as_slice(),
            [segment(0, 7, 8), segment(0, 9, 10), segment(1, 1, 2)]
        );
        assert!(frame.names_without(&[0, 1, 2, 3, 4]).is_empty());
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
        let fresh = pool.take(Instant(1)).unwrap().bytes.capacity();
        assert!((100..150).contains(&fresh), "{fresh}: a new one, made for a frame");
    }
}
