//! What happens to one shard: answers, reports and the steps between.
//!
//! Why: kept apart from heartbeats, because nothing here may delay them.
//! Invariants: 1. every way out of a shard's hands goes through `release`, `lose` or `abandon`;
//! 2. a commit's answer moves `saved` only if it belongs to the current holding.
//! Bounds: `calls_max` open calls; the one that is due longest goes first, so no shard starves.
//! Driven by: [`Lease`]. Spec: SLS GetCheckPoint, GetCursor, `GetCursorTime`, UpdateCheckPoint.

use core::time::Duration;

use super::call::{Call, CallError, CallId, Reply};
use super::event::{LeaseEvent, Lost, Origin};
use super::holding::{Gap, Holding, Progress, State, Then};
use super::verdict::Verdict;
use super::{Lease, OnExpired};
use crate::proto::event::Command;
use crate::proto::ids::{CURSOR_BYTES_MAX, Cursor, Epoch, ShardId};
use crate::proto::planted::{Bug, planted};
use crate::proto::sls::position;
use crate::proto::time::Instant;

/// A call for a shard that waits for its answer.
#[derive(Debug)]
pub(super) struct WorkCall {
    shard: ShardId,
    epoch: Epoch,
    call: Call,
}

impl Lease {
    /// The call that is due first, where one may be opened at all.
    pub(super) fn next_work(&self) -> Option<(Instant, ShardId, Call)> {
        if self.calls.len() >= self.params.calls_max {
            return None;
        }
        self.shards
            .iter()
            .filter(|(shard, _)| self.calls.values().all(|open| open.shard != **shard))
            .map(|(&shard, holding)| {
                let (due, call) = holding.wants(shard, &self.params);
                (due, shard, call)
            })
            .min_by_key(|(due, shard, _)| (*due, *shard))
    }

    pub(super) fn send_work(&mut self, now: Instant, shard: ShardId, call: Call) -> CallId {
        let id = self.next_id();
        if let Some(holding) = self.shards.get_mut(&shard) {
            if let (Call::UpdateCheckpoint { .. }, Some(progress)) = (&call, holding.progress_mut()) {
                progress.sent_at = Some(now);
            }
            self.calls.insert(id, WorkCall { shard, epoch: holding.epoch, call });
        }
        id
    }

    pub(super) fn work_reply(&mut self, now: Instant, open: WorkCall, result: Result<Reply, CallError>) {
        let shard = open.shard;
        let saved = matches!((&open.call, &result), (Call::UpdateCheckpoint { .. }, Ok(Reply::Done)));
        self.counters.checkpoint_commits += u64::from(saved);
        if self.holding(shard, open.epoch).is_none() {
            return;
        }
        // The times of a gap are nice to have: one attempt each, whatever comes back.
        if let Call::GetCursorTime { .. } = open.call {
            let time = match result {
                Ok(Reply::CursorTime(time)) => Some(time),
                _ => None,
            };
            return self.gap_time(now, shard, time);
        }
        match (open.call, result) {
            (Call::GetCheckpoint { .. }, Ok(Reply::Checkpoint(checkpoint))) if fits(checkpoint.as_ref()) => {
                self.succeed(shard);
                match checkpoint.filter(|cursor| !cursor.is_empty()) {
                    Some(cursor) => self.begin(now, shard, cursor, Origin::Checkpoint),
                    None => self.begin_without_checkpoint(now, shard),
                }
            }
            (Call::GetCursor { .. }, Ok(Reply::Cursor(cursor)))
                if fits(Some(&cursor)) && !cursor.is_empty() =>
            {
                self.succeed(shard);
                self.found_cursor(now, shard, cursor);
            }
            (Call::UpdateCheckpoint { cursor, .. }, Ok(Reply::Done)) => {
                self.succeed(shard);
                self.committed(now, shard, cursor);
            }
            (call, Ok(_)) => {
                let cause = CallError::not_understood("the answer does not fit the call".into());
                self.fail(now, shard, call, cause);
            }
            (call, Err(cause)) => self.refused(now, shard, call, cause),
        }
    }

    fn begin_without_checkpoint(&mut self, now: Instant, shard: ShardId) {
        // `start = "end"` would skip what came since, `"begin"` would send everything again.
        if let Some(cursor) = self.remembered.get(&shard).cloned() {
            self.begin(now, shard, cursor, Origin::Remembered);
        } else if let Some(holding) = self.shards.get_mut(&shard) {
            holding.state = State::Start;
            holding.due = now;
        }
    }

    fn found_cursor(&mut self, now: Instant, shard: ShardId, cursor: Cursor) {
        let Some(holding) = self.shards.get_mut(&shard) else { return };
        match std::mem::replace(&mut holding.state, State::Checkpoint) {
            State::Start => self.begin(now, shard, cursor, Origin::Start),
            State::Oldest(gap) if gap.from == cursor => self.begin(now, shard, cursor, Origin::Oldest),
            // Nothing is missing: the numbers have a hole of their own.
            State::Oldest(gap) if !gap.refused && !position::is_before(&gap.from, &cursor) => {
                self.begin(now, shard, gap.from, Origin::Checkpoint);
            }
            State::Oldest(gap) if !gap.refused && self.params.on_expired_cursor == OnExpired::Stop => {
                self.events.push_back(LeaseEvent::CursorExpiredHeld { shard, cursor: gap.from.clone() });
                holding.state = State::Stuck(Progress::new(gap.from, Origin::Checkpoint, now));
            }
            State::End { cursor: begin, origin } => self.found_end(now, shard, begin, origin, cursor),
            State::Oldest(gap) => {
                let gap = Gap { to: cursor, ..gap };
                holding.state = if gap.from_time.is_none() { State::GapFrom(gap) } else { State::GapTo(gap) };
            }
            other => holding.state = other,
        }
    }

    fn gap_time(&mut self, now: Instant, shard: ShardId, time: Option<u64>) {
        let Some(holding) = self.shards.get_mut(&shard) else { return };
        match std::mem::replace(&mut holding.state, State::Checkpoint) {
            State::GapFrom(gap) => holding.state = State::GapTo(Gap { from_time: time, ..gap }),
            State::GapTo(Gap { from, from_time, to, .. }) => {
                self.counters.retention_gaps += 1;
                let gap = LeaseEvent::RetentionGap { shard, from, from_time, to: to.clone(), to_time: time };
                if !planted(Bug::GapIsNotTold) {
                    self.events.push_back(gap);
                }
                self.begin(now, shard, to, Origin::Oldest);
            }
            other => holding.state = other,
        }
    }

    /// Work on a shard begins here; in a bounded run, its end has to be known first.
    fn begin(&mut self, now: Instant, shard: ShardId, cursor: Cursor, origin: Origin) {
        let Some(bound) = self.bound_has_come(now) else {
            return self.assign(now, shard, (cursor, origin), None);
        };
        if let Some(holding) = self.shards.get_mut(&shard) {
            holding.state = State::End { cursor, origin };
            holding.due = bound.known_from.max(now);
        }
    }

    /// Hands a shard to the data plane.
    pub(super) fn assign(
        &mut self,
        now: Instant,
        shard: ShardId,
        (cursor, origin): (Cursor, Origin),
        end: Option<Cursor>,
    ) {
        let epoch = self.next_epoch();
        let Some(holding) = self.shards.get_mut(&shard) else { return };
        holding.epoch = epoch;
        holding.due = now;
        holding.bounded = end.is_some();
        holding.state = State::Working(Progress::new(cursor.clone(), origin, now));
        self.events.push_back(LeaseEvent::ShardStarted { shard, cursor: cursor.clone(), origin });
        self.commands.push_back(Command::Assign { shard, epoch, cursor, end });
    }

    fn committed(&mut self, now: Instant, shard: ShardId, cursor: Cursor) {
        let Some(progress) = self.shards.get_mut(&shard).and_then(Holding::progress_mut) else { return };
        if progress.saved.as_ref() != Some(&cursor) {
            progress.saved = Some(cursor.clone());
            progress.unsaved_since = None;
            progress.note_saved(now);
            self.events.push_back(LeaseEvent::CheckpointSaved { shard, cursor });
        }
        self.settle(now, shard);
    }

    fn refused(&mut self, now: Instant, shard: ShardId, call: Call, cause: CallError) {
        let is_commit = matches!(call, Call::UpdateCheckpoint { .. });
        match Verdict::of(&cause) {
            Verdict::GroupMissing => self.group_deleted(now),
            verdict @ (Verdict::NotHolder | Verdict::ConsumerGone) if is_commit => {
                self.counters.checkpoint_conflicts += 1;
                self.events.push_back(LeaseEvent::CheckpointRefused { shard, cause });
                if verdict == Verdict::ConsumerGone {
                    // Not this shard alone: the service has given us up, and everything else is somebody else's too.
                    self.consumer_gone(now);
                } else {
                    self.lose(shard, Lost::NotHolder);
                }
            }
            // What is safe has left the retention, so nobody can go on there: nothing is lost by not saving it. Work goes
            // on, and where the shard is about to move on, it does.
            Verdict::CursorGone if is_commit && self.give_up_saving(now, shard) => {}
            Verdict::ShardGone if is_commit => self.lose(shard, Lost::ShardGone),
            _ => self.fail(now, shard, call, cause),
        }
    }

    /// Takes the last commit of a shard that is being saved as done. False where work is still under way.
    fn give_up_saving(&mut self, now: Instant, shard: ShardId) -> bool {
        let Some(holding) = self.shards.get_mut(&shard) else { return false };
        let State::Saving { progress, .. } = &mut holding.state else { return false };
        progress.saved = Some(progress.safe.clone());
        progress.note_saved(now);
        self.settle(now, shard);
        true
    }

    /// Tell it once, wait, try again.
    fn fail(&mut self, now: Instant, shard: ShardId, call: Call, cause: CallError) {
        let Some(holding) = self.shards.get_mut(&shard) else { return };
        let verdict = Verdict::of(&cause);
        let attempts = holding.trouble.map_or(0, |(_, attempts)| attempts) + 1;
        let retry_in = holding.backoff.next_wait();
        holding.due = now + retry_in;
        if holding.trouble.is_none_or(|(told, _)| told != verdict) {
            self.events.push_back(LeaseEvent::ShardHeld { shard, call, cause, retry_in });
        }
        holding.trouble = Some((verdict, attempts));
    }

    pub(super) fn safe(
        &mut self,
        now: Instant,
        shard: ShardId,
        epoch: Epoch,
        cursor: Cursor,
        time: Option<u64>,
    ) {
        let Some(holding) = self.holding(shard, epoch) else { return };
        let Some(progress) = holding.progress_mut() else { return };
        let moved = progress.safe != cursor;
        progress.safe = cursor;
        progress.note_saved(now);
        progress.safe_time = time.or_else(|| progress.safe_time.filter(|_| !moved));
        if moved {
            holding.jumps.reset();
        }
    }

    pub(super) fn drained(&mut self, now: Instant, shard: ShardId, epoch: Epoch) {
        let Some(holding) = self.holding(shard, epoch) else { return };
        match std::mem::replace(&mut holding.state, State::Checkpoint) {
            State::Draining { progress, then, .. } => self.save(now, shard, progress, then),
            // Nobody asked for it: the end of a bounded run. Without one it is still ours, so it begins again.
            State::Working(progress) | State::Stuck(progress) => {
                let then = if holding.bounded { Then::Finish } else { Then::Refetch };
                self.save(now, shard, progress, then);
            }
            other => holding.state = other,
        }
    }

    /// The data plane believed the lease over, but it was renewed meanwhile: the shard begins again where it is safe.
    pub(super) fn dropped(&mut self, now: Instant, shard: ShardId, epoch: Epoch) {
        let Some(holding) = self.holding(shard, epoch) else { return };
        match std::mem::replace(&mut holding.state, State::Checkpoint) {
            State::Draining { progress, then, .. } => self.save(now, shard, progress, then),
            State::Working(progress) | State::Stuck(progress) => {
                self.save(now, shard, progress, Then::Refetch);
            }
            other => holding.state = other,
        }
    }

    pub(super) fn cursor_expired(
        &mut self,
        now: Instant,
        shard: ShardId,
        epoch: Epoch,
        (cursor, refused): (Cursor, bool),
    ) {
        let policy = self.params.on_expired_cursor;
        let deadline = now + self.params.drain_wait;
        let Some(holding) = self.holding(shard, epoch) else { return };
        let progress = match &holding.state {
            State::Working(progress) => progress.clone(),
            // What was to be repaired while it drains is gone: it will not drain any further.
            State::Draining { progress, then, .. } => {
                let (progress, then) = (progress.clone(), then.clone());
                self.commands.push_back(Command::Abandon { shard, epoch });
                return self.save(now, shard, progress, then);
            }
            _ => return,
        };
        match policy {
            OnExpired::Stop if refused => {
                holding.state = State::Stuck(progress);
                self.events.push_back(LeaseEvent::CursorExpiredHeld { shard, cursor });
            }
            OnExpired::Begin | OnExpired::Stop => {
                // What was pulled before may still be on its way to the sink and cannot be pulled again: it drains first.
                let from_time = progress.safe_time.filter(|_| progress.safe == cursor);
                let then = Then::Oldest(Gap { from: cursor, from_time, to: Cursor::default(), refused });
                holding.state = State::Draining { progress, since: now, deadline, then };
                self.commands.push_back(Command::Revoke { shard, epoch });
            }
        }
    }

    pub(super) fn plane_stopped(&mut self, now: Instant) {
        let Some(stop) = &mut self.stop else { return };
        stop.plane_stopped = true;
        let drained: Vec<(ShardId, Epoch)> =
            self.shards.iter().map(|(&shard, holding)| (shard, holding.epoch)).collect();
        for (shard, epoch) in drained {
            self.drained(now, shard, epoch);
        }
    }

    /// A stop: the data plane drains everything, what it does not know is let go.
    pub(super) fn drain_all(&mut self, now: Instant, deadline: Instant) {
        let shards: Vec<ShardId> = self.shards.keys().copied().collect();
        for shard in shards {
            let Some(holding) = self.shards.get_mut(&shard) else { continue };
            match std::mem::replace(&mut holding.state, State::Checkpoint) {
                State::Working(progress) | State::Stuck(progress) => {
                    holding.state = State::Draining { progress, since: now, deadline, then: Then::Release };
                }
                State::Draining { progress, since, .. } => {
                    holding.state = State::Draining { progress, since, deadline, then: Then::Release };
                }
                State::Saving { progress, .. } => self.save(now, shard, progress, Then::Release),
                _ => self.release(shard, true),
            }
        }
    }

    /// The server wants the shard back.
    pub(super) fn give_up(&mut self, now: Instant, shard: ShardId) {
        let deadline = now + self.params.drain_wait;
        let Some(holding) = self.shards.get_mut(&shard) else { return };
        let epoch = holding.epoch;
        match std::mem::replace(&mut holding.state, State::Checkpoint) {
            State::Working(progress) | State::Stuck(progress) => {
                holding.state = State::Draining { progress, since: now, deadline, then: Then::Release };
                self.commands.push_back(Command::Revoke { shard, epoch });
            }
            State::Draining { progress, since, deadline, .. } => {
                holding.state = State::Draining { progress, since, deadline, then: Then::Release };
            }
            State::Saving { progress, then, .. } if then != Then::Release => {
                self.save(now, shard, progress, Then::Release);
            }
            state @ State::Saving { .. } => holding.state = state,
            _ => self.release(shard, true),
        }
    }

    /// Nothing is in flight any more (or it was cut): save what is safe, then go on with `then`.
    pub(super) fn save(&mut self, now: Instant, shard: ShardId, progress: Progress, then: Then) {
        let deadline = self.stop.as_ref().map_or(now + SAVE_WAIT, |stop| stop.deadline);
        let Some(holding) = self.shards.get_mut(&shard) else { return };
        holding.state = State::Saving { progress, deadline, then };
        holding.due = now;
        self.settle(now, shard);
    }

    /// Goes on where a shard that is being saved is saved.
    fn settle(&mut self, now: Instant, shard: ShardId) {
        let Some(holding) = self.shards.get_mut(&shard) else { return };
        let State::Saving { progress, then, .. } = &holding.state else { return };
        if !progress.is_saved() && !planted(Bug::ReleasesUnsaved) {
            return;
        }
        match then.clone() {
            Then::Release => self.release(shard, true),
            Then::Refetch => {
                holding.state = State::Checkpoint;
                holding.due = now;
            }
            Then::Oldest(gap) => {
                holding.state = State::Oldest(gap);
                holding.due = now + holding.jumps.next_wait();
            }
            Then::Finish => {
                holding.state = State::Finished(progress.clone());
                self.events.push_back(LeaseEvent::ShardFinished { shard });
            }
        }
    }

    /// The bounded wait is over.
    pub(super) fn cut(&mut self, now: Instant, shard: ShardId) {
        let Some(holding) = self.shards.get_mut(&shard) else { return };
        let epoch = holding.epoch;
        match std::mem::replace(&mut holding.state, State::Checkpoint) {
            State::Draining { progress, since, then, .. } => {
                self.commands.push_back(Command::Abandon { shard, epoch });
                self.events.push_back(LeaseEvent::DrainTimedOut { shard, waited: now.since(since) });
                if let Some(stop) = &mut self.stop {
                    stop.unfinished.push(shard);
                }
                self.save(now, shard, progress, then);
            }
            state @ State::Saving { .. } => {
                holding.state = state;
                self.release(shard, false);
            }
            other => holding.state = other,
        }
    }

    fn release(&mut self, shard: ShardId, saved: bool) {
        let Some(holding) = self.shards.remove(&shard) else { return };
        self.remember(shard, &holding);
        self.note_given_up(shard);
        self.events.push_back(LeaseEvent::ShardReleased { shard, saved });
        if let Some(stop) = self.stop.as_mut().filter(|_| !saved) {
            stop.unfinished.push(shard);
        }
    }

    /// The shard is not ours any more, whatever we think: nothing more goes to the sink.
    pub(super) fn lose(&mut self, shard: ShardId, why: Lost) {
        self.abandon(shard);
        self.note_given_up(shard);
        self.events.push_back(LeaseEvent::ShardLost { shard, why });
    }

    fn succeed(&mut self, shard: ShardId) {
        let Some(holding) = self.shards.get_mut(&shard) else { return };
        holding.backoff.reset();
        if let Some((_, attempts)) = holding.trouble.take() {
            self.events.push_back(LeaseEvent::ShardResumed { shard, attempts });
        }
    }

    fn holding(&mut self, shard: ShardId, epoch: Epoch) -> Option<&mut Holding> {
        let is_of = |holding: &Holding| holding.epoch == epoch || planted(Bug::OldReportsCount);
        self.shards.get_mut(&shard).filter(|holding| is_of(holding))
    }
}

fn fits(cursor: Option<&Cursor>) -> bool {
    cursor.is_none_or(|cursor| cursor.as_str().len() <= CURSOR_BYTES_MAX)
}

/// How long the last commit of a shard that we give up may take after it is drained.
const SAVE_WAIT: Duration = Duration::from_secs(15);
