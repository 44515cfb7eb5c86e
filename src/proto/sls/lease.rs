//! One consumer of one consumer group: which shards are ours, from where, and what may be saved.
//!
//! Why: SLS leases a shard to one consumer at a time. Clients that guess (heart-beat a little longer, drop a
//! shard a little early, save with force) deliver twice or lose data when shards move. This machine does not guess.
//! Invariants:
//! 1. A shard is worked on only while `now < sending time of the last answered heartbeat + group timeout`.
//! 2. A shard stays in the heartbeat body until the data plane has drained it and its checkpoint is saved
//!    (or the bounded wait is over and it was cut).
//! 3. Only a cursor that the data plane reported safe (or the first one of a holding) is committed, never with force.
//! 4. One call open per shard number, whatever the epoch; one open in [`call::Lane::Beat`].
//! 5. A shard that was released or lost is not taken from an answer to a heartbeat that was sent before.
//!
//! Bounds: [`SHARDS_MAX`] shards, `calls_max` work calls, `drain_wait` per hand-over, `stop_wait` for a stop.
//! Driven by: `control::pipeline` and the simulation: after every `handle_*` drain `poll_call`, `poll_command` and
//! `poll_event`, then wait until `poll_timeout`. `now` never runs backwards; every call is answered once.
//! Spec: SLS consumer groups (List, Create, Update, HeartBeat, GetCheckPoint, GetCursor, UpdateCheckPoint). Departures
//! from the vendor's clients: all work stops at the timeout itself (they add an interval), and the body is sent
//! as soon as a shard is released.

mod beat;
pub mod bound;
pub mod call;
pub mod event;
mod holding;
#[cfg(test)]
mod tests;
pub mod verdict;
mod work;

use std::collections::{BTreeMap, VecDeque};

use core::time::Duration;

use self::beat::{Beat, Farewell};
pub use self::bound::Bound;
use self::bound::Ending;
use self::call::{Call, CallError, CallId, Reply};
use self::event::{LeaseEvent, Outcome};
use self::holding::{Holding, State, Then};
use self::work::WorkCall;
use crate::proto::event::{Command, Report};
use crate::proto::ids::{Cursor, Epoch, ShardId};
use crate::proto::planted::{Bug, planted};
use crate::proto::sls::api::CursorFrom;
use crate::proto::time::{Instant, UnixTime};

/// What the machine needs to know of the settings.
#[derive(Clone, Debug)]
pub struct Params {
    /// Name of the consumer group.
    pub group: String,
    /// Between two heartbeats.
    pub heartbeat_interval: Duration,
    /// Silence after which the server gives a consumer up; whole seconds.
    pub timeout: Duration,
    /// Children of a split shard wait for the parent.
    pub in_order: bool,
    /// Where a shard without a checkpoint begins.
    pub start: CursorFrom,
    /// When this process began, by its wall clock, or a little earlier. With `start = "end"` a shard that comes to us
    /// later begins here: its end of then would skip what a child of a split has got meanwhile.
    pub began: UnixTime,
    /// End of a bounded run.
    pub stop: Option<Bound>,
    /// Shortest time between two commits of one shard.
    pub checkpoint_interval: Duration,
    /// What happens when a cursor has left the retention.
    pub on_expired_cursor: OnExpired,
    /// Give up at the start instead of waiting for a repair.
    pub fail_fast: bool,
    /// How long a shard that moves to another consumer may take to drain. The group timeout is a good value:
    /// the next consumer then never waits longer than after a crash of ours.
    pub drain_wait: Duration,
    /// How long a stop may take.
    pub stop_wait: Duration,
    /// Work calls that may be open at a time.
    pub calls_max: usize,
    /// Of the jitter.
    pub seed: u64,
}

/// What happens when a cursor has left the retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExpired {
    /// Go on with the oldest retained data and tell the gap.
    Begin,
    /// Hold the shard until an operator decides.
    Stop,
}

/// Monotonic counts, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseCounters {
    /// Answered heartbeats.
    pub heartbeats: u64,
    /// Failed heartbeats.
    pub heartbeat_failures: u64,
    /// Saved checkpoints.
    pub checkpoint_commits: u64,
    /// Checkpoints that were refused because the shard is not ours.
    pub checkpoint_conflicts: u64,
    /// Jumps over data that had left the retention.
    pub retention_gaps: u64,
}

/// The machine. Call order and promises: see the module.
#[derive(Debug)]
pub struct Lease {
    params: Params,
    beat: Beat,
    shards: BTreeMap<ShardId, Holding>,
    /// Shard → number of heartbeats sent when it was given up (invariant 5).
    given_up: BTreeMap<ShardId, u64>,
    /// How far shards were that we gave up: used only where SLS has no checkpoint (any more).
    remembered: BTreeMap<ShardId, Cursor>,
    calls: BTreeMap<CallId, WorkCall>,
    call_count: u64,
    epoch_count: u64,
    commands: VecDeque<Command>,
    events: VecDeque<LeaseEvent>,
    stop: Option<Stop>,
    ending: Ending,
    outcome: Option<Outcome>,
    counters: LeaseCounters,
}

/// How one shard stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardView {
    /// The shard.
    pub shard: ShardId,
    /// The data plane works on it.
    pub assigned: bool,
    /// How long acknowledged data has been waiting for a commit; zero where the checkpoint is up to date.
    pub unsaved: Duration,
}

/// A stop under way.
#[derive(Debug)]
struct Stop {
    deadline: Instant,
    /// The data plane said that everything is closed.
    plane_stopped: bool,
    farewell: Farewell,
    /// Shards that could not be finished.
    unfinished: Vec<ShardId>,
}

impl Lease {
    /// A consumer that has not said anything yet.
    pub fn new(params: Params, now: Instant) -> Self {
        Self {
            beat: Beat::new(&params, now),
            params,
            shards: BTreeMap::new(),
            given_up: BTreeMap::new(),
            remembered: BTreeMap::new(),
            calls: BTreeMap::new(),
            call_count: 0,
            epoch_count: 0,
            commands: VecDeque::new(),
            events: VecDeque::new(),
            stop: None,
            ending: Ending::default(),
            outcome: None,
            counters: LeaseCounters::default(),
        }
    }

    /// An answer arrived. Answers to calls that nobody waits for any more are ignored.
    pub fn handle_reply(&mut self, now: Instant, id: CallId, result: Result<Reply, CallError>) {
        self.advance(now);
        if let Some(open) = self.beat.take_open(id) {
            self.beat_reply(now, &open, result);
        } else if let Some(call) = self.calls.remove(&id) {
            self.work_reply(now, call, result);
        }
        self.advance(now);
    }

    /// The data plane tells something. Reports of an earlier epoch are ignored.
    pub fn handle_report(&mut self, now: Instant, report: Report) {
        self.advance(now);
        match report {
            Report::Safe { shard, epoch, cursor, cursor_time } => {
                self.safe(now, shard, epoch, cursor, cursor_time);
            }
            Report::Drained { shard, epoch } => self.drained(now, shard, epoch),
            Report::Dropped { shard, epoch } => self.dropped(now, shard, epoch),
            Report::CursorExpired { shard, epoch, cursor, refused } => {
                self.cursor_expired(now, shard, epoch, (cursor, refused));
            }
            Report::Stopped => self.plane_stopped(now),
            Report::Alarm(_) | Report::Notice(_) | Report::Clear { .. } => {}
        }
        self.advance(now);
    }

    /// Stop politely: drain, save, leave. The second call changes nothing.
    pub fn handle_stop(&mut self, now: Instant) {
        self.advance(now);
        self.begin_stop(now);
        self.advance(now);
    }

    fn begin_stop(&mut self, now: Instant) {
        if self.stop.is_some() || self.outcome.is_some() {
            return;
        }
        let deadline = now + self.params.stop_wait;
        self.stop =
            Some(Stop { deadline, plane_stopped: false, farewell: Farewell::Owed, unfinished: Vec::new() });
        self.events.push_back(LeaseEvent::Stopping);
        self.commands.push_back(Command::Stop);
        // What does not drain is cut a little earlier, so that what is safe by then is still saved.
        let cut = now + self.params.stop_wait.saturating_sub(LAST_SAVE.min(self.params.stop_wait / 5));
        self.drain_all(now, cut);
    }

    /// The moment of `poll_timeout` has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
    }

    /// The next call to make, sent now. `None`: nothing to ask at this moment.
    pub fn poll_call(&mut self, now: Instant) -> Option<(CallId, Call)> {
        self.advance(now);
        if self.outcome.is_some() {
            return None;
        }
        if let Some(call) = self.next_beat(now) {
            return Some(call);
        }
        let (due, shard, call) = self.next_work()?;
        (due <= now).then(|| (self.send_work(now, shard, call.clone()), call))
    }

    /// The next order for the data plane.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<LeaseEvent> {
        self.events.pop_front()
    }

    /// When `handle_timeout` (and then `poll_call`) must be called, if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.outcome.is_some() {
            return None;
        }
        let ends = !self.shards.is_empty() && !planted(Bug::LeaseNeverEnds);
        let lease_end = self.beat.lease_until.filter(|_| ends);
        let stop = self.stop.as_ref().map(|stop| stop.deadline);
        let work = self.next_work().map(|(due, _, _)| due);
        let cut = self.shards.values().filter_map(Self::cut_at).min();
        [self.beat_due(), lease_end, stop, work, cut, self.bound_due()].into_iter().flatten().min()
    }

    /// How it ended; `None` while it goes on. Nothing more is asked or ordered afterwards.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Counts since the start.
    pub fn counters(&self) -> LeaseCounters {
        self.counters
    }

    /// The shards in our heartbeat body.
    pub fn shards(&self, now: Instant) -> impl Iterator<Item = ShardView> {
        self.shards.iter().map(move |(&shard, holding)| ShardView {
            shard,
            assigned: holding.is_assigned(),
            unsaved: holding
                .progress()
                .and_then(|progress| progress.unsaved_since)
                .map_or(Duration::ZERO, |since| now.since(since)),
        })
    }

    /// True after the first answered heartbeat, while the lease lasts.
    pub fn is_joined(&self) -> bool {
        self.beat.lease_until.is_some()
    }

    /// Everything that time alone brings about. Runs before any input is looked at, so that an input that
    /// arrives after a long sleep of the process cannot act on a lease that is over.
    fn advance(&mut self, now: Instant) {
        if self.outcome.is_some() {
            return;
        }
        self.expire(now);
        let late: Vec<ShardId> = self
            .shards
            .iter()
            .filter(|(_, holding)| Self::cut_at(holding).is_some_and(|cut_at| cut_at <= now))
            .map(|(&shard, _)| shard)
            .collect();
        for shard in late {
            self.cut(now, shard);
        }
        self.reach_bound(now);
        self.advance_stop(now);
    }

    /// Invariant 1: at the end of the lease everything stops at once.
    fn expire(&mut self, now: Instant) {
        if self.beat.lease_until.is_none_or(|until| now < until) || planted(Bug::LeaseNeverEnds) {
            return;
        }
        self.beat.lease_until = None;
        let shards: Vec<ShardId> = self.shards.keys().copied().collect();
        for &shard in &shards {
            self.abandon(shard);
        }
        if !shards.is_empty() {
            self.events.push_back(LeaseEvent::LeaseExpired { shards });
        }
    }

    fn advance_stop(&mut self, now: Instant) {
        let Some(stop) = &mut self.stop else { return };
        let finished = self.shards.is_empty() && stop.plane_stopped;
        let parted = stop.farewell == Farewell::Said || self.beat.lease_until.is_none();
        if now >= stop.deadline {
            stop.unfinished.extend(self.shards.keys().copied());
        } else if !(finished && parted) {
            return;
        }
        let mut shards = std::mem::take(&mut stop.unfinished);
        shards.sort_unstable();
        shards.dedup();
        let drained = shards.is_empty() && stop.plane_stopped;
        let left: Vec<ShardId> = self.shards.keys().copied().collect();
        for shard in left {
            self.abandon(shard);
        }
        self.outcome = Some(if drained { Outcome::Drained } else { Outcome::Undrained { shards } });
    }

    /// Takes a shard out of our hands without a word to the group.
    fn abandon(&mut self, shard: ShardId) {
        let Some(holding) = self.shards.remove(&shard) else { return };
        if holding.is_assigned() {
            self.commands.push_back(Command::Abandon { shard, epoch: holding.epoch });
        }
        self.remember(shard, &holding);
        if let Some(stop) = &mut self.stop {
            stop.unfinished.push(shard);
        }
    }

    fn remember(&mut self, shard: ShardId, holding: &Holding) {
        let room = self.remembered.len() < SHARDS_MAX || self.remembered.contains_key(&shard);
        if let Some(progress) = holding.progress().filter(|_| room) {
            self.remembered.insert(shard, progress.safe.clone());
        }
    }

    /// When a shard that drains or saves is cut.
    fn cut_at(holding: &Holding) -> Option<Instant> {
        match &holding.state {
            State::Draining { deadline, .. } | State::Saving { deadline, then: Then::Release, .. } => {
                Some(*deadline)
            }
            _ => None,
        }
    }

    fn next_id(&mut self) -> CallId {
        self.call_count += 1;
        CallId(self.call_count)
    }

    fn next_epoch(&mut self) -> Epoch {
        self.epoch_count += 1;
        Epoch(self.epoch_count)
    }
}

/// Part of the time for a stop that is left for the last commits.
const LAST_SAVE: Duration = Duration::from_secs(3);
/// Most shards that one consumer holds. An answer with more is not believed.
pub const SHARDS_MAX: usize = 4096;
