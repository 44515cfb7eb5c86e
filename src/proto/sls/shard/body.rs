//! A decompressed body on its way into frames.
//!
//! Why: a body may be larger than the credit for frames, so it is transcoded one frame at a time, from where
//! the last frame stopped; of a body that is pulled again only the missing records are wanted.
//! Invariants: 1. records are numbered as in the first pull of their range. 2. `wanted` shrinks by exactly the
//!  records that a frame has noted.
//! Bounds: the body's credit is held until its last wanted record is encoded.
//! Driven by: `shard`.

use super::Around;
use crate::proto::flow::Credit;
use crate::proto::format::hec::RecordContext;
use crate::proto::frame::{Frame, Segment};
use crate::proto::ids::{Cursor, Epoch, PullId, ShardId};
use crate::proto::ledger::Ranges;
use crate::proto::planted::{Bug, planted};
use crate::proto::sls::api::pull_head::PullHead;
use crate::proto::sls::body::BodyError;
use crate::proto::sls::source::Source;
use crate::proto::sls::wire::{Fault, Position, Tails, WireError, survey};

/// Decompresses into `raw` and counts the records.
pub(super) fn check(
    head: &PullHead,
    compressed: &[u8],
    raw: &mut Vec<u8>,
    around: &mut Around<'_>,
) -> Result<(u32, Tails), BodyError> {
    let raw_size = usize::try_from(head.raw_size).unwrap_or(usize::MAX);
    let limit = usize::try_from(around.source.raw_limit(around.flow)).unwrap_or(usize::MAX);
    around.decompressor.decompress(head.compression, compressed, raw_size, limit, raw)?;
    let mut tails = Tails::default();
    let shape = survey(raw, &mut tails).map_err(|error| BodyError::Wire(error.to_string()))?;
    if u64::from(shape.groups) != head.count && !planted(Bug::ShortBodyIsUsed) {
        return Err(BodyError::GroupCount { announced: head.count, found: u64::from(shape.groups) });
    }
    Ok((shape.records, tails))
}

/// A body being transcoded.
pub(super) struct Body {
    raw: Vec<u8>,
    _credit: Credit,
    at: Position,
    pull: PullId,
    wanted: Ranges,
    /// Number in the pull of this body's first record.
    base: u32,
    /// Where the pull began: part of the names of its records.
    from: Cursor,
    request_id: String,
}

/// Whose records a body holds: the pull, the records of it that are wanted, the number of the body's first one.
pub(super) type Entered = (PullId, Ranges, u32);

/// Why `fill` returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// The frame is full.
    Frame,
    /// The frame holds one record, which is larger than the sink takes.
    Oversize,
    /// Every wanted record is encoded.
    BodyEnd,
}

impl Body {
    /// Of the records of `pull`, `wanted` are to be encoded; the body begins with record `base` of it.
    pub(super) fn new(
        (raw, tails): (Vec<u8>, Tails),
        credit: Credit,
        request_id: String,
        from: Cursor,
        (pull, wanted, base): Entered,
    ) -> Self {
        Self { raw, _credit: credit, at: Position::with(tails), pull, wanted, base, from, request_id }
    }

    /// The pull that the records belong to.
    pub(super) fn pull(&self) -> PullId {
        self.pull
    }

    /// Records that are not in a frame yet.
    pub(super) fn rest(&self) -> Ranges {
        self.wanted.clone()
    }

    /// `x-log-requestid` of the pull that brought it.
    pub(super) fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Gives its buffer back.
    pub(super) fn finish(self, source: &mut Source) {
        source.give_raw(self.raw);
    }

    /// Appends wanted records to `frame` until it is full or none is left.
    pub(super) fn fill(
        &mut self,
        frame: &mut Frame,
        limit: usize,
        (shard, epoch): (ShardId, Epoch),
        around: &mut Around<'_>,
    ) -> Result<Filled, WireError> {
        while let Some((start, end)) = self.wanted.first() {
            let ahead = (start - self.base).saturating_sub(self.at.record_index);
            self.at.skip(&self.raw, ahead)?;
            let room = limit.saturating_sub(frame.bytes.len()).max(1);
            let context = RecordContext { shard, cursor: &self.from };
            let held = frame.records();
            let encoded = around.encoder.encode(
                &self.raw,
                &mut self.at,
                end - self.base,
                room,
                &context,
                &mut frame.bytes,
            );
            frame.note_split(held, around.encoder.split());
            let encoded = match encoded {
                Ok(encoded) => encoded,
                Err(failure) => {
                    // The encoder has cut the output back to whole records; those count.
                    let done = self.at.record_index + self.base - start;
                    self.note(frame, (shard, epoch), start, start + done);
                    return Err(failure);
                }
            };
            around.cx.counters.invalid_utf8_records += u64::from(encoded.invalid_utf8);
            self.note(frame, (shard, epoch), start, start + encoded.records);
            if encoded.oversize {
                return Ok(Filled::Oversize);
            }
            if encoded.before_oversize {
                // A record that the sink does not take leaves alone.
                return Ok(Filled::Frame);
            }
            if encoded.records == 0 {
                // The body holds fewer records than were counted: nothing may be acknowledged for them.
                return Err(WireError { offset: self.raw.len(), what: Fault::Truncated });
            }
            if frame.bytes.len() >= limit {
                let done = self.wanted.is_empty();
                return Ok(if done { Filled::BodyEnd } else { Filled::Frame });
            }
        }
        Ok(Filled::BodyEnd)
    }

    fn note(&mut self, frame: &mut Frame, (shard, epoch): (ShardId, Epoch), start: u32, end: u32) {
        frame.note(Segment { shard, epoch, pull: self.pull, start, end });
        self.wanted.remove(start, end);
    }
}
