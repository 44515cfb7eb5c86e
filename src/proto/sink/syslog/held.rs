//! Records that a RELP server refuses, one frame each: kept, and offered again.
//!
//! Why: a record that is refused today is taken tomorrow when somebody has repaired the server; dropping it, or the
//! frame around it, would lose it.
//! Invariants: 1. nothing in here is settled; its shard waits before it.
//! Bounds: frames hold their credit. Driven by: `sink::syslog`.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use crate::proto::context::{Context, Trouble, shard_scope};
use crate::proto::event::{Cause, SyslogTrouble};
use crate::proto::frame::Frame;
use crate::proto::ids::ShardId;
use crate::proto::planted::{Bug, planted};
use crate::proto::time::Instant;

/// How long to wait before a refused record is offered again.
const OFFER_AGAIN: Duration = Duration::from_secs(30);

/// The refused records.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// In the order of the moments at which they are due.
    frames: VecDeque<(Frame, Instant)>,
    troubles: BTreeMap<ShardId, Trouble>,
}

impl Held {
    /// Keeps a frame of one record.
    pub(super) fn add(&mut self, now: Instant, frame: Frame, code: u16, text: String, cx: &mut Context) {
        cx.counters.refused_records += u64::from(frame.records());
        if let Some(shard) = frame.segments.first().map(|segment| segment.shard) {
            let cause = Cause::Syslog(SyslogTrouble::Refused { code, text });
            self.troubles.entry(shard).or_default().raise(cx, shard_scope(shard), cause, OFFER_AGAIN);
        }
        if planted(Bug::RefusedIsForgotten) {
            return cx.pool.give(frame);
        }
        self.frames.push_back((frame, now + OFFER_AGAIN));
    }

    /// The next frame to offer again.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Frame> {
        self.frames.pop_front_if(|(_, due)| *due <= now).map(|(frame, _)| frame)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.frames.front().map(|(_, due)| *due)
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn carries(&self, shard: ShardId) -> bool {
        self.frames.iter().any(|(frame, _)| frame.carries(shard))
    }

    /// True while a record of this shard is refused.
    pub(super) fn holds(&self, shard: ShardId) -> bool {
        self.troubles.get(&shard).is_some_and(Trouble::is_raised)
    }

    /// One that was refused is taken; the trouble is over if it was the last.
    pub(super) fn forgive(&mut self, shard: ShardId, cx: &mut Context) {
        if !self.carries(shard)
            && let Some(mut trouble) = self.troubles.remove(&shard)
        {
            trouble.clear(cx, shard_scope(shard));
        }
    }

    /// The shard is somebody else's.
    pub(super) fn forget(&mut self, shard: ShardId, stale: &impl Fn(&Frame) -> bool, cx: &mut Context) {
        let mut kept = VecDeque::with_capacity(self.frames.len());
        for (frame, due) in self.frames.drain(..) {
            if stale(&frame) { cx.pool.give(frame) } else { kept.push_back((frame, due)) }
        }
        self.frames = kept;
        self.troubles.remove(&shard);
    }
}
