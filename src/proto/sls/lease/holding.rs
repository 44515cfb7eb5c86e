//! One shard in our hands, from the answer that gave it to us to the heartbeat that leaves it out.
//!
//! Why: every step of a shard (find the cursor, work, drain, save) is a small question of its own;
//! as an enum with one wanted call per state, a shard can never ask for two things at once.
//! Invariants: 1. `saved` only moves to a cursor that a commit of this holding carried;
//! 2. only `Working`, `Stuck` and `Draining` are known to the data plane;
//! 3. `safe` is never ahead of what the data plane reported.
//! Bounds: one call open per shard (kept by [`super::Lease`]); a handful of cursors.
//! Driven by: [`super::Lease`]. Spec: SLS GetCheckPoint, GetCursor, UpdateCheckPoint; read-only shards are
//! released by a commit of their end.

use core::time::Duration;

use super::Params;
use super::call::Call;
use super::event::Origin;
use super::verdict::Verdict;
use crate::proto::backoff::Backoff;
use crate::proto::ids::{Cursor, Epoch, ShardId};
use crate::proto::planted::{Bug, planted};
use crate::proto::sls::api::CursorFrom;
use crate::proto::time::Instant;

/// One shard that stands in our heartbeat body.
#[derive(Clone, Debug)]
pub(super) struct Holding {
    /// Which holding of the shard the data plane knows or will know next.
    pub(super) epoch: Epoch,
    /// Where it stands.
    pub(super) state: State,
    /// No call before this moment.
    pub(super) due: Instant,
    /// Waits between failed calls.
    pub(super) backoff: Backoff,
    /// The trouble that was told last, and how often it happened.
    pub(super) trouble: Option<(Verdict, u64)>,
    /// Waits between jumps to the oldest data: reset when work gets on.
    pub(super) jumps: Backoff,
    /// The data plane was told to stop at the end of a bounded run.
    pub(super) bounded: bool,
    /// It came with the first answered heartbeat of this process.
    first: bool,
}

/// Where a shard stands.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// The saved checkpoint is wanted.
    Checkpoint,
    /// There is none: a cursor for the `start` setting is wanted.
    Start,
    /// The cursor had expired: the oldest retained one is wanted.
    Oldest(Gap),
    /// When the first lost record was received is wanted, once.
    GapFrom(Gap),
    /// When the first retained record was received is wanted, once.
    GapTo(Gap),
    /// The data plane works on it.
    Working(Progress),
    /// Its cursor expired and the settings say to wait.
    Stuck(Progress),
    /// Of a bounded run: where to stop is wanted.
    End {
        /// Where work will begin.
        cursor: Cursor,
        /// How that was found.
        origin: Origin,
    },
    /// Of a bounded run: everything up to the end is saved.
    Finished(Progress),
    /// The data plane was told to finish what is in flight.
    Draining {
        /// How far it is.
        progress: Progress,
        /// Since when.
        since: Instant,
        /// When it is cut.
        deadline: Instant,
        /// What comes after.
        then: Then,
    },
    /// Nothing is in flight; the last checkpoint is being saved.
    Saving {
        /// How far it is.
        progress: Progress,
        /// When it is given up unsaved, where that is allowed.
        deadline: Instant,
        /// What comes after.
        then: Then,
    },
}

/// What follows after a shard is drained and saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Leave it out of the heartbeat.
    Release,
    /// It is ours again: fetch the checkpoint and go on.
    Refetch,
    /// Go on with the oldest retained data.
    Oldest(Gap),
    /// Keep it and do no more: a bounded run is over for this shard.
    Finish,
}

/// Data that left the retention before it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) from: Cursor,
    pub(super) from_time: Option<u64>,
    pub(super) to: Cursor,
    /// SLS refused `from`; otherwise it answered with later data, and whether anything is missing has to be seen.
    pub(super) refused: bool,
}

/// How far a shard is.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// Everything before it is acknowledged.
    pub(super) safe: Cursor,
    /// Receive time of it, unix seconds.
    pub(super) safe_time: Option<u64>,
    /// What SLS has as the checkpoint, as far as we know.
    pub(super) saved: Option<Cursor>,
    /// When the last commit was sent.
    pub(super) sent_at: Option<Instant>,
    /// Since when `safe` has been ahead of `saved`.
    pub(super) unsaved_since: Option<Instant>,
}

impl Progress {
    pub(super) fn new(cursor: Cursor, origin: Origin, now: Instant) -> Self {
        let saved = (origin == Origin::Checkpoint).then(|| cursor.clone());
        let unsaved_since = saved.is_none().then_some(now);
        Self { safe: cursor, safe_time: None, saved, sent_at: None, unsaved_since }
    }

    /// `safe` or `saved` changed: keeps [`Self::unsaved_since`].
    pub(super) fn note_saved(&mut self, now: Instant) {
        self.unsaved_since = if self.is_saved() { None } else { self.unsaved_since.or(Some(now)) };
    }

    pub(super) fn is_saved(&self) -> bool {
        self.saved.as_ref() == Some(&self.safe)
    }

    /// When the next commit is due. An unmoved checkpoint is sent again now and then: the shard may have
    /// become read-only after the last commit, and the server lets it go only on a commit of its end.
    fn commit_at(&self, params: &Params, fetched_at: Instant) -> Instant {
        let again = if planted(Bug::NoSecondCommit) { Duration::MAX } else { params.heartbeat_interval };
        let pause = if self.is_saved() { again } else { params.checkpoint_interval };
        match self.sent_at {
            Some(sent_at) => sent_at + pause,
            None if self.is_saved() => fetched_at + pause,
            None => fetched_at,
        }
    }
}

impl Holding {
    /// A shard that a heartbeat answer just gave us.
    pub(super) fn new(epoch: Epoch, now: Instant, seed: u64, first: bool) -> Self {
        Self {
            epoch,
            state: State::Checkpoint,
            due: now,
            backoff: Backoff::new(RETRY_BASE, RETRY_MAX, seed),
            trouble: None,
            jumps: Backoff::new(RETRY_BASE, RETRY_MAX, !seed),
            bounded: false,
            first,
        }
    }

    /// The one call that this shard wants next, and when.
    pub(super) fn wants(&self, shard: ShardId, params: &Params) -> (Instant, Call) {
        let commit = |progress: &Progress| Call::UpdateCheckpoint { shard, cursor: progress.safe.clone() };
        match &self.state {
            State::Checkpoint => (self.due, Call::GetCheckpoint { shard }),
            State::Start => {
                let from = match params.start {
                    CursorFrom::End if !self.first => CursorFrom::Time(params.began),
                    _ if !self.first && planted(Bug::ChildBeginsAtTheEnd) => CursorFrom::End,
                    start => start,
                };
                (self.due, Call::GetCursor { shard, from })
            }
            State::Oldest(_) if planted(Bug::ExpiredGoesToTheEnd) => {
                (self.due, Call::GetCursor { shard, from: CursorFrom::End })
            }
            State::Oldest(_) => (self.due, Call::GetCursor { shard, from: CursorFrom::Begin }),
            State::GapFrom(gap) => (self.due, Call::GetCursorTime { shard, cursor: gap.from.clone() }),
            State::GapTo(gap) => (self.due, Call::GetCursorTime { shard, cursor: gap.to.clone() }),
            State::End { .. } => {
                let from = params.stop.map_or(CursorFrom::End, |bound| CursorFrom::Time(bound.at));
                (self.due, Call::GetCursor { shard, from })
            }
            State::Working(progress)
            | State::Stuck(progress)
            | State::Finished(progress)
            | State::Draining { progress, .. } => {
                (self.due.max(progress.commit_at(params, self.due)), commit(progress))
            }
            State::Saving { progress, .. } => (self.due, commit(progress)),
        }
    }

    /// How far it is, where work has begun.
    pub(super) fn progress(&self) -> Option<&Progress> {
        match &self.state {
            State::Working(progress)
            | State::Stuck(progress)
            | State::Finished(progress)
            | State::Draining { progress, .. }
            | State::Saving { progress, .. } => Some(progress),
            State::Checkpoint
            | State::Start
            | State::Oldest(_)
            | State::GapFrom(_)
            | State::GapTo(_)
            | State::End { .. } => None,
        }
    }

    /// The same, to move it.
    pub(super) fn progress_mut(&mut self) -> Option<&mut Progress> {
        match &mut self.state {
            State::Working(progress)
            | State::Stuck(progress)
            | State::Finished(progress)
            | State::Draining { progress, .. }
            | State::Saving { progress, .. } => Some(progress),
            State::Checkpoint
            | State::Start
            | State::Oldest(_)
            | State::GapFrom(_)
            | State::GapTo(_)
            | State::End { .. } => None,
        }
    }

    /// True where the data plane works on it under this epoch.
    pub(super) fn is_assigned(&self) -> bool {
        matches!(self.state, State::Working(_) | State::Stuck(_) | State::Draining { .. })
    }
}

/// First wait after a failed call of a shard.
const RETRY_BASE: Duration = Duration::from_millis(500);
/// Longest wait between failed calls of a shard.
const RETRY_MAX: Duration = Duration::from_secs(30);
