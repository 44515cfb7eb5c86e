//! What a shard holds: log groups, in segments that are compressed once.
//!
//! Why: the emulator has to be several times faster than the forwarder it feeds. Groups lie serialised, in segments
//! of some hundred KiB whose lz4 block is made when the segment is sealed; an answer is a join of such blocks.
//! Invariants: 1. a group's number never changes and numbers have no gaps. 2. `oldest <= visible <= end`.
//! 3. What was visible once stays so until it expires.
//! Bounds: what the caller appends; one segment of slack for the open one. Segments may be shared (`repeat`).
//! Driven by: `world` under its lock; `Range::compose` outside it.   Spec: protocol/sls.md 3.4.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use anyhow::Result;

use super::block::{Block, Joiner};
use super::codec::Codec;

/// Consecutive groups as they stand in a `LogGroupList`.
#[derive(Debug, Default)]
pub(crate) struct Segment {
    raw: Vec<u8>,
    /// Where each group ends in `raw`.
    ends: Vec<usize>,
    /// Logs up to and with each group.
    logs: Vec<u64>,
    lz4: OnceLock<Block>,
}

/// A segment is sealed at this size…
const SEGMENT_BYTES: usize = 256 << 10;
/// … or at this many groups: a divisor of the usual 1000, so that whole pulls are whole segments.
const SEGMENT_GROUPS: usize = 250;

impl Segment {
    /// Appends a serialised group that holds so many logs.
    pub(crate) fn push(&mut self, group: &[u8], logs: u64) {
        // Tag and length of one element of a `LogGroupList`.
        self.raw.push(0x0A);
        prost::encoding::encode_varint(group.len() as u64, &mut self.raw);
        self.raw.extend_from_slice(group);
        self.ends.push(self.raw.len());
        self.logs.push(self.logs_total() + logs);
        self.lz4 = OnceLock::new();
    }

    /// Whether the next group should begin another segment.
    pub(crate) fn is_full(&self) -> bool {
        self.raw.len() >= SEGMENT_BYTES || self.ends.len() >= SEGMENT_GROUPS
    }

    /// Groups in it.
    pub(crate) fn groups(&self) -> u64 {
        self.ends.len() as u64
    }

    /// Logs in it.
    pub(crate) fn logs_total(&self) -> u64 {
        self.logs.last().copied().unwrap_or(0)
    }

    /// Serialised size.
    pub(crate) fn raw_bytes(&self) -> u64 {
        self.raw.len() as u64
    }

    /// Compresses it now rather than at the first pull.
    pub(crate) fn compress(&self) {
        self.block();
    }

    fn block(&self) -> &Block {
        self.lz4.get_or_init(|| Block::compress(&self.raw))
    }

    /// Where the first `groups` groups end.
    fn end_of(&self, groups: u64) -> usize {
        let before = usize::try_from(groups).ok().and_then(|groups| groups.checked_sub(1));
        before.map_or(0, |index| self.ends.get(index).copied().unwrap_or(self.raw.len()))
    }

    fn logs_before(&self, groups: u64) -> u64 {
        let before = usize::try_from(groups).ok().and_then(|groups| groups.checked_sub(1));
        before.map_or(0, |index| self.logs.get(index).copied().unwrap_or_else(|| self.logs_total()))
    }
}

/// The groups of one shard.
#[derive(Debug, Default)]
pub(crate) struct ShardData {
    sealed: VecDeque<Placement>,
    open: Segment,
    open_first: u64,
    /// Serialised bytes before the open segment, expired ones included.
    open_offset: u64,
    oldest: u64,
    visible: u64,
    /// Receive time (unix s) of the groups `oldest..visible`.
    received: VecDeque<u32>,
    schedule: Option<Schedule>,
}

#[derive(Debug)]
struct Placement {
    first: u64,
    /// Serialised bytes of the shard before it.
    offset: u64,
    segment: Arc<Segment>,
}

/// Data that becomes readable as time passes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    pub(crate) start_ms: u64,
    pub(crate) bytes_per_second: u64,
    /// Bytes that the schedule does not count: they were there before.
    pub(crate) offset: u64,
}

/// Groups `first..next` of a shard.
#[derive(Debug, Default)]
pub(crate) struct Range {
    pub(crate) first: u64,
    pub(crate) next: u64,
    pub(crate) raw_bytes: usize,
    pub(crate) logs: u64,
    parts: Vec<Part>,
}

/// A part of a segment: the same if it is the same part of the same segment, whatever that holds.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    segment: Arc<Segment>,
    from: usize,
    to: usize,
}

#[derive(Debug)]
struct Part {
    segment: Arc<Segment>,
    from: usize,
    to: usize,
}

impl ShardData {
    /// Appends one serialised group, received now.
    pub(crate) fn append(&mut self, group: &[u8], logs: u64, now_ms: u64) {
        self.open.push(group, logs);
        if self.open.is_full() {
            self.seal();
        }
        self.advance(now_ms);
    }

    /// Appends a whole segment; the same one may stand in many places.
    pub(crate) fn append_segment(&mut self, segment: Arc<Segment>, now_ms: u64) {
        self.seal();
        self.place(segment);
        self.advance(now_ms);
    }

    /// What is appended from here on becomes readable at this rate.
    pub(crate) fn set_schedule(&mut self, start_ms: u64, bytes_per_second: u64) {
        let offset = self.open_offset + self.open.raw_bytes();
        self.schedule = Some(Schedule { start_ms, bytes_per_second, offset });
    }

    /// What is not readable yet becomes so at this rate from now on; 0 holds it.
    pub(crate) fn set_rate(&mut self, now_ms: u64, bytes_per_second: u64) {
        self.advance(now_ms);
        let offset = self.visible_bytes();
        self.schedule = Some(Schedule { start_ms: now_ms, bytes_per_second, offset });
    }

    /// Moves the end of what is readable to where the schedule has it now.
    pub(crate) fn advance(&mut self, now_ms: u64) {
        let received_s = u32::try_from(now_ms / 1000).unwrap_or(u32::MAX);
        let total = self.total();
        let limit = self.schedule.map(|plan| {
            let bytes =
                u128::from(now_ms.saturating_sub(plan.start_ms)) * u128::from(plan.bytes_per_second) / 1000;
            plan.offset.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX))
        });
        while self.visible < total {
            if limit.is_some_and(|limit| self.offset_after(self.visible) > limit) {
                return;
            }
            self.received.push_back(received_s);
            self.visible += 1;
        }
    }

    /// Forgets the groups before this one; never more than there are.
    pub(crate) fn expire_before(&mut self, group: u64) {
        while self.oldest < group.min(self.visible) {
            self.oldest += 1;
            self.received.pop_front();
        }
        while self.sealed.front().is_some_and(|place| place.first + place.segment.groups() <= self.oldest) {
            self.sealed.pop_front();
        }
    }

    /// Forgets what was received before this moment (unix s).
    pub(crate) fn expire_received_before(&mut self, unix_s: u64) {
        let old = self.received.iter().take_while(|time| u64::from(**time) < unix_s).count() as u64;
        self.expire_before(self.oldest + old);
    }

    /// The oldest group that can still be read.
    pub(crate) fn oldest(&self) -> u64 {
        self.oldest
    }

    /// One past the newest group that can be read.
    pub(crate) fn visible(&self) -> u64 {
        self.visible
    }

    /// Serialised bytes of the groups before `visible`, expired ones included.
    pub(crate) fn visible_bytes(&self) -> u64 {
        let (first, offset, segment) = self.segment_of(self.visible);
        offset + segment.end_of(self.visible - first) as u64
    }

    /// One past the newest group, readable or not yet.
    pub(crate) fn total(&self) -> u64 {
        self.open_first + self.open.groups()
    }

    /// Receive time (unix s) of a group that can be read.
    pub(crate) fn received(&self, group: u64) -> Option<u32> {
        let index = usize::try_from(group.checked_sub(self.oldest)?).ok()?;
        self.received.get(index).copied()
    }

    /// The first readable group received at or after this moment; the end if there is none.
    pub(crate) fn first_received_at(&self, unix_s: u64) -> u64 {
        self.oldest + self.received.partition_point(|time| u64::from(*time) < unix_s) as u64
    }

    /// Up to `count` readable groups from `first`, ending before `end` and, after the first, within `bytes_max`: at the
    /// border of a segment where there is one.
    pub(crate) fn range(&self, first: u64, count: u64, end: u64, bytes_max: usize) -> Range {
        let end = end.min(self.visible).min(first.saturating_add(count));
        let mut range = Range { first, next: first, ..Range::default() };
        while range.next < end {
            let (place_first, segment) = self.locate(range.next);
            let from = range.next - place_first;
            let mut to = segment.groups().min(end - place_first);
            let start = segment.end_of(from);
            let room = bytes_max.saturating_sub(range.raw_bytes);
            if segment.end_of(to) - start > room {
                // A part would have to be compressed for this answer alone, and the rest of it for the next one.
                if range.next > first {
                    break;
                }
                let fits = segment.ends.partition_point(|end| *end <= start + room) as u64;
                to = fits.max(from + 1);
            }
            range.raw_bytes += segment.end_of(to) - start;
            range.logs += segment.logs_before(to) - segment.logs_before(from);
            range.next = place_first + to;
            range.parts.push(Part { from: start, to: segment.end_of(to), segment });
            if range.raw_bytes >= bytes_max {
                break;
            }
        }
        range
    }

    fn seal(&mut self) {
        if self.open.groups() > 0 {
            let segment = std::mem::take(&mut self.open);
            self.place(Arc::new(segment));
        }
    }

    fn place(&mut self, segment: Arc<Segment>) {
        let place = Placement { first: self.open_first, offset: self.open_offset, segment };
        self.open_first += place.segment.groups();
        self.open_offset += place.segment.raw_bytes();
        self.sealed.push_back(place);
    }

    fn placed(&self, group: u64) -> Option<&Placement> {
        let after = self.sealed.partition_point(|place| place.first <= group);
        after.checked_sub(1).and_then(|index| self.sealed.get(index))
    }

    /// The segment of a group and its first group's number; the open one is copied, it is small.
    fn locate(&self, group: u64) -> (u64, Arc<Segment>) {
        if let Some(place) = self.placed(group).filter(|_| group < self.open_first) {
            return (place.first, Arc::clone(&place.segment));
        }
        let copy = Segment {
            raw: self.open.raw.clone(),
            ends: self.open.ends.clone(),
            logs: self.open.logs.clone(),
            lz4: OnceLock::new(),
        };
        (self.open_first, Arc::new(copy))
    }

    /// Serialised bytes of the shard up to and with this group.
    fn offset_after(&self, group: u64) -> u64 {
        let (first, offset, segment) = self.segment_of(group);
        offset + segment.end_of(group - first + 1) as u64
    }

    /// The segment of a group, its first group's number and the bytes before it.
    fn segment_of(&self, group: u64) -> (u64, u64, &Segment) {
        match self.placed(group).filter(|_| group < self.open_first) {
            Some(place) => (place.first, place.offset, place.segment.as_ref()),
            None => (self.open_first, self.open_offset, &self.open),
        }
    }
}

impl Range {
    /// Groups in it.
    pub(crate) fn groups(&self) -> u64 {
        self.next - self.first
    }

    /// The serialised groups.
    pub(crate) fn raw(&self) -> Vec<u8> {
        let mut raw = Vec::with_capacity(self.raw_bytes);
        for part in &self.parts {
            raw.extend_from_slice(part.raw());
        }
        raw
    }

    /// What it is made of; none while part of it may still grow.
    pub(crate) fn pieces(&self) -> Option<Vec<Piece>> {
        let piece = |part: &Part| {
            // The open segment was copied, and nobody else has the copy.
            let is_sealed = Arc::strong_count(&part.segment) > 1;
            let Part { segment, from, to } = part;
            is_sealed.then(|| Piece { segment: Arc::clone(segment), from: *from, to: *to })
        };
        self.parts.iter().map(piece).collect()
    }

    /// The body of an answer. lz4 joins what lies compressed; the other encodings are made for each answer.
    pub(crate) fn compose(&self, codec: Codec) -> Result<Vec<u8>> {
        if self.parts.is_empty() {
            return Ok(Vec::new());
        }
        match codec {
            Codec::Lz4 => {}
            Codec::None => return Ok(self.raw()),
            Codec::Zstd | Codec::Deflate => return codec.compress(&self.raw()),
        }
        let fresh: Vec<Option<Block>> =
            self.parts.iter().map(|part| (!part.is_whole()).then(|| Block::compress(part.raw()))).collect();
        let blocks = || {
            self.parts
                .iter()
                .zip(&fresh)
                .map(|(part, fresh)| fresh.as_ref().unwrap_or_else(|| part.segment.block()))
        };
        let mut joiner = Joiner::with_capacity(blocks().map(|block| block.len() + 8).sum());
        blocks().for_each(|block| joiner.push(block));
        Ok(joiner.finish())
    }
}

impl PartialEq for Piece {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.segment, &other.segment) && (self.from, self.to) == (other.from, other.to)
    }
}

impl Part {
    fn is_whole(&self) -> bool {
        self.from == 0 && self.to == self.segment.raw.len()
    }

    fn raw(&self) -> &[u8] {
        self.segment.raw.get(self.from..self.to).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
