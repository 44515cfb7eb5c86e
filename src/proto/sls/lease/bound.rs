//! The end of a bounded run: forward up to a time, then stop.
//!
//! Why: "up to 12:00" is a position in every shard, also in those that come from a split or from another consumer
//! meanwhile; and before the time has come, SLS cannot name that position (it gives the end of today's data).
//! Invariants: 1. a shard counts as finished only when its checkpoint stands at its end position, or behind it.
//! 2. the run ends only after every shard in our hands was finished for as long as a dead consumer's shards may take to
//! come to us.
//! Bounds: one more call per shard. Driven by: [`Lease`]. Spec: `GetCursor` by receive time, setting `sls.stop`.

use core::time::Duration;

use super::Lease;
use super::event::{LeaseEvent, Origin};
use super::holding::{Progress, State, Then};
use crate::proto::event::Command;
use crate::proto::ids::{Cursor, ShardId};
use crate::proto::sls::position;
use crate::proto::time::{Instant, UnixTime};

/// Where a bounded run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// First second of reception that is not forwarded.
    pub at: UnixTime,
    /// `at` on our clock: from here on nothing is pulled until the position is known, or it would go too far.
    pub pause_from: Instant,
    /// From this moment on SLS can be asked for the position: a little later, because clocks differ.
    pub known_from: Instant,
}

/// How far the end of a bounded run is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ending {
    /// `pause_from` has come, and shards without an end were called back.
    reached: bool,
    /// Since when there is nothing left to do.
    quiet_since: Option<Instant>,
}

impl Lease {
    /// True where a shard that begins now has to know its end.
    pub(super) fn bound_has_come(&self, now: Instant) -> Option<Bound> {
        self.params.stop.filter(|bound| bound.pause_from <= now)
    }

    /// When shards that run without an end are called back.
    pub(super) fn bound_due(&self) -> Option<Instant> {
        let waits = !self.ending.reached && self.stop.is_none();
        self.params.stop.filter(|_| waits).map(|bound| bound.pause_from)
    }

    /// The time has come: shards that run without an end are drained, saved, and begin again with one.
    pub(super) fn reach_bound(&mut self, now: Instant) {
        if self.ending.reached || self.bound_has_come(now).is_none() {
            return;
        }
        self.ending.reached = true;
        if self.stop.is_some() {
            return;
        }
        let deadline = now + self.params.drain_wait;
        for (&shard, holding) in &mut self.shards {
            let State::Working(progress) = &holding.state else { continue };
            let (progress, epoch) = (progress.clone(), holding.epoch);
            holding.state = State::Draining { progress, since: now, deadline, then: Then::Refetch };
            self.commands.push_back(Command::Revoke { shard, epoch });
        }
    }

    /// The end position of a shard came.
    pub(super) fn found_end(
        &mut self,
        now: Instant,
        shard: ShardId,
        begin: Cursor,
        origin: Origin,
        end: Cursor,
    ) {
        if position::is_before(&begin, &end) {
            return self.assign(now, shard, (begin, origin), Some(end));
        }
        self.save(now, shard, Progress::new(begin, origin, now), Then::Finish);
    }

    /// After an answered heartbeat: is there anything left?
    pub(super) fn finish_bound(&mut self, now: Instant) {
        let Some(bound) = self.params.stop else { return };
        let finished = bound.known_from <= now
            && self.shards.values().all(|holding| matches!(holding.state, State::Finished(_)));
        if !finished || self.stop.is_some() {
            self.ending.quiet_since = None;
            return;
        }
        let wait = self.settle_time();
        let since = *self.ending.quiet_since.get_or_insert_with(|| {
            self.events.push_back(LeaseEvent::WaitsForOthers { wait });
            now
        });
        if now.since(since) >= wait {
            self.events.push_back(LeaseEvent::AllFinished);
            self.begin_stop(now);
        }
    }

    /// How long a shard of a consumer that died may take to come to us.
    fn settle_time(&self) -> Duration {
        self.params.timeout + self.params.heartbeat_interval
    }
}
