//! Live copies of frames for somebody who looks on, without a say in what happens to them.
//!
//! Why: "is my template right, what does a real event look like now" should not need another consumer of the group or
//! the receiver's search. Copying everything would cost as much as sending it, so a tap takes samples.
//! Invariants: 1. without a tap a frame costs one look at an empty list, a record nothing. 2. a copy is taken when the
//! frame is handed to the sink; that it arrived is not said. 3. what is not copied is counted: [`FrameCopy::frames`]
//! and [`FrameCopy::records`] are sums since the tap began, so whoever adds up what came knows what did not.
//! Bounds: [`TAPS_MAX`] taps; of each [`FRAMES_PER_SECOND`] copies of [`COPY_BYTES_MAX`] bytes, of which
//! [`WAITING_MAX`] wait for the driver.
//! Driven by: `pipeline`, for each frame that it pushes; the driver attaches, detaches, and fetches the copies after
//! every turn.

use core::time::Duration;
use std::collections::VecDeque;

use super::frame::Frame;
use super::ids::ShardId;
use super::time::Instant;

/// Taps at the same time.
pub const TAPS_MAX: usize = 2;
/// Copies of one tap in a second, of one pipeline on one executor.
pub const FRAMES_PER_SECOND: u32 = 20;
/// What is copied of a frame that is larger.
pub const COPY_BYTES_MAX: usize = 256 << 10;
/// Copies that the driver has not fetched.
const WAITING_MAX: usize = 4;

/// Names a tap while the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TapId(pub u64);

/// Whose frames they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The pipeline, as the process numbers them.
    pub pipeline: u16,
    /// The executor, counted from 0.
    pub executor: usize,
}

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Params {
    /// Name of the tap.
    pub id: TapId,
    /// Stands in every copy.
    pub origin: Origin,
    /// Frames of this shard only.
    pub shard: Option<ShardId>,
}

/// A copy of a frame, or of its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameCopy {
    /// Where it was copied.
    pub origin: Origin,
    /// Whose logs they are.
    pub shard: ShardId,
    /// The bytes as they were handed to the sink, before compression.
    pub bytes: Vec<u8>,
    /// The frame went on behind them, perhaps in the middle of a log.
    pub is_cut: bool,
    /// Frames that were handed to the sink since the tap began, this one included.
    pub frames: u64,
    /// Logs in them.
    pub records: u64,
}

/// The taps of one pipeline on one executor.
#[derive(Debug, Default)]
pub struct Taps {
    open: Vec<Tap>,
    waiting: VecDeque<(TapId, FrameCopy)>,
}

#[derive(Debug)]
struct Tap {
    params: Params,
    frames: u64,
    records: u64,
    /// The second that is counted, and the copies in it.
    since: Instant,
    copies: u32,
}

impl Taps {
    /// Begins to copy; one more than [`TAPS_MAX`] is not heard.
    pub fn attach(&mut self, now: Instant, params: Params) {
        if self.open.len() < TAPS_MAX {
            self.open.push(Tap { params, frames: 0, records: 0, since: now, copies: 0 });
        }
    }

    /// Ends a tap; copies of it that wait are forgotten.
    pub fn detach(&mut self, id: TapId) {
        self.open.retain(|tap| tap.params.id != id);
        self.waiting.retain(|(of, _)| *of != id);
    }

    /// Nobody looks on.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// A frame goes to the sink.
    pub fn handle_frame(&mut self, now: Instant, frame: &Frame) {
        for tap in &mut self.open {
            if let Some(copy) = tap.copy(now, frame, self.waiting.len()) {
                self.waiting.push_back((tap.params.id, copy));
            }
        }
    }

    /// The next copy, and whose it is.
    pub fn poll_copy(&mut self) -> Option<(TapId, FrameCopy)> {
        self.waiting.pop_front()
    }
}

impl Tap {
    fn copy(&mut self, now: Instant, frame: &Frame, waiting: usize) -> Option<FrameCopy> {
        if self.params.shard.is_some_and(|shard| shard != frame.shard()) {
            return None;
        }
        self.frames += 1;
        self.records += u64::from(frame.records());
        if now.since(self.since) >= SECOND {
            (self.since, self.copies) = (now, 0);
        }
        if self.copies >= FRAMES_PER_SECOND || waiting >= WAITING_MAX {
            return None;
        }
        self.copies += 1;
        let bytes = frame.bytes.get(..COPY_BYTES_MAX).unwrap_or(&frame.bytes);
        Some(FrameCopy {
            origin: self.params.origin,
            shard: frame.shard(),
            bytes: bytes.to_vec(),
            is_cut: bytes.len() < frame.bytes.len(),
            frames: self.frames,
            records: self.records,
        })
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::flow::Flow;
    use super::super::frame::{FramePool, Segment};
    use super::super::ids::{Epoch, PullId};
    use super::*;

    const MS: u64 = 1_000_000;

    fn frame(shard: u32, records: u32, bytes: usize) -> Frame {
        let flow = Flow::new(4_000);
        let mut frame = FramePool::new(Rc::clone(&flow.frames), 100).take(Instant(1)).unwrap();
        frame.bytes.resize(bytes, b'x');
        let shard = ShardId(shard);
        frame.note(Segment { shard, epoch: Epoch(1), pull: PullId(0), start: 0, end: records });
        frame
    }

    fn params(id: u64, shard: Option<u32>) -> Params {
        let origin = Origin { pipeline: 3, executor: 1 };
        Params { id: TapId(id), origin, shard: shard.map(ShardId) }
    }

    #[test]
    fn what_is_not_copied_is_counted() {
        let mut taps = Taps::default();
        assert!(taps.is_empty());
        taps.attach(Instant(0), params(7, None));
        let mut copies = Vec::new();
        for step in 0..100 {
            taps.handle_frame(Instant(step * 30 * MS), &frame(1, 5, 10));
            copies.extend(core::iter::from_fn(|| taps.poll_copy()));
        }
        // Three seconds, twenty in each.
        assert_eq!(copies.len(), 60);
        let (id, last) = copies.last().unwrap();
        assert_eq!((*id, last.origin.pipeline, last.shard, last.is_cut), (TapId(7), 3, ShardId(1), false));
        assert_eq!((last.frames, last.records), (88, 440), "those that were left out are in the sums");
    }

    #[test]
    fn a_driver_that_does_not_fetch_gets_a_few_and_no_more() {
        let mut taps = Taps::default();
        taps.attach(Instant(0), params(1, None));
        for _ in 0..10 {
            taps.handle_frame(Instant(0), &frame(1, 1, COPY_BYTES_MAX + 1));
        }
        let copies: Vec<_> = core::iter::from_fn(|| taps.poll_copy()).collect();
        assert_eq!(copies.len(), WAITING_MAX);
        assert!(copies.iter().all(|(_, copy)| copy.is_cut && copy.bytes.len() == COPY_BYTES_MAX));
    }

    #[test]
    fn a_tap_sees_its_shard_until_it_ends() {
        let mut taps = Taps::default();
        taps.attach(Instant(0), params(1, Some(4)));
        taps.attach(Instant(0), params(2, None));
        taps.attach(Instant(0), params(3, None));
        taps.handle_frame(Instant(0), &frame(5, 1, 1));
        taps.handle_frame(Instant(0), &frame(4, 1, 1));
        let seen: Vec<_> =
            core::iter::from_fn(|| taps.poll_copy()).map(|(id, copy)| (id.0, copy.shard.0)).collect();
        assert_eq!(seen, [(2, 5), (1, 4), (2, 4)], "the third tap is one too many");
        taps.handle_frame(Instant(0), &frame(4, 1, 1));
        taps.detach(TapId(1));
        assert_eq!(taps.poll_copy().map(|(id, _)| id), Some(TapId(2)));
        taps.detach(TapId(2));
        assert!(taps.is_empty() && taps.poll_copy().is_none());
    }
}
