//! The consumer group and its heartbeats: the first lane of calls.
//!
//! Why: the order list → create or update → heartbeat, and what each refusal means, is one small machine that shards
//! do not care about.
//! Invariants: 1. one call of this lane is open at a time; 2. an answer counts from the sending of its request;
//! 3. the group's timeout that we live by is never longer than the server's.
//! Bounds: attempts to make the group wait at most [`GROUP_RETRY_MAX`], failed heartbeats at most two seconds while a lease is held.
//! Driven by: [`Lease`]. Spec: SLS consumer groups; users without the right to list groups are real.

use core::time::Duration;
use std::collections::BTreeSet;

use super::call::{Call, CallError, CallId, Reply};
use super::event::{LeaseEvent, Lost, Outcome};
use super::holding::{Holding, State, Then};
use super::verdict::Verdict;
use super::{Lease, Params, SHARDS_MAX};
use crate::proto::backoff::Backoff;
use crate::proto::event::Command;
use crate::proto::ids::ShardId;
use crate::proto::planted::{Bug, planted};
use crate::proto::time::Instant;

/// The lane's state.
#[derive(Debug)]
pub(super) struct Beat {
    phase: Phase,
    open: Option<Open>,
    /// No call before this moment.
    due: Instant,
    /// When the last heartbeat was sent.
    sent_at: Option<Instant>,
    /// Heartbeats sent so far.
    number: u64,
    /// The timeout we live by.
    timeout: Duration,
    /// End of the lease: counted from the sending of the last answered heartbeat.
    pub(super) lease_until: Option<Instant>,
    /// One heartbeat was answered since the start.
    joined_once: bool,
    /// Waits while the group cannot be joined.
    slow: Backoff,
    /// Waits between failed heartbeats.
    urgent: Backoff,
    /// The trouble that was told last, and how often it happened.
    trouble: Option<(Verdict, u64)>,
}

/// Which call of the lane is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Is our group there?
    List,
    /// Make it. `listed`: the list said that it is missing; otherwise we may not list.
    Create { listed: bool },
    /// Set its settings. `server_timeout`: what the list told, where it told.
    Update { server_timeout: Option<Duration> },
    /// Heartbeats.
    Beat,
}

/// A call of the lane that waits for its answer.
#[derive(Debug)]
pub(super) struct Open {
    id: CallId,
    call: Call,
    sent_at: Instant,
    /// Of a heartbeat: how many had been sent with it.
    number: u64,
}

/// The last heartbeat of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// Still to be sent.
    Owed,
    /// On its way.
    Sent,
    /// Answered, or failed: it is tried once.
    Said,
}

impl Beat {
    pub(super) fn new(params: &Params, now: Instant) -> Self {
        Self {
            phase: Phase::List,
            open: None,
            due: now,
            sent_at: None,
            number: 0,
            timeout: params.timeout,
            lease_until: None,
            joined_once: false,
            slow: Backoff::new(RETRY_BASE, GROUP_RETRY_MAX, params.seed),
            urgent: Backoff::new(BEAT_RETRY, BEAT_RETRY * 2, !params.seed),
            trouble: None,
        }
    }

    /// The open call, if it is this one.
    pub(super) fn take_open(&mut self, id: CallId) -> Option<Open> {
        self.open.take_if(|open| open.id == id)
    }

    fn enter(&mut self, phase: Phase, due: Instant) {
        self.phase = phase;
        self.due = due;
    }
}

impl Lease {
    /// When the lane wants to send; `None` while a call is open or nothing is left to say.
    pub(super) fn beat_due(&self) -> Option<Instant> {
        if self.beat.open.is_some() {
            return None;
        }
        match &self.stop {
            // Before the first lease there is nothing to give back.
            Some(_) if self.beat.lease_until.is_none() || planted(Bug::StopEndsHeartbeats) => None,
            Some(stop) if self.shards.is_empty() => {
                (stop.farewell == Farewell::Owed && stop.plane_stopped).then_some(Instant::default())
            }
            _ => Some(self.beat.due),
        }
    }

    pub(super) fn next_beat(&mut self, now: Instant) -> Option<(CallId, Call)> {
        self.beat_due().filter(|&due| due <= now)?;
        let timeout_secs = self.params.timeout.as_secs();
        let in_order = self.params.in_order;
        let call = match self.beat.phase {
            Phase::List => Call::ListGroups,
            Phase::Create { .. } => Call::CreateGroup { timeout_secs, in_order },
            Phase::Update { .. } => Call::UpdateGroup { timeout_secs, in_order },
            Phase::Beat => {
                self.beat.number += 1;
                self.beat.sent_at = Some(now);
                let leaves = |holding: &Holding| {
                    planted(Bug::DrainingIsNotListed) && matches!(holding.state, State::Draining { .. })
                };
                let listed = self.shards.iter().filter(|(_, holding)| !leaves(holding));
                Call::Heartbeat { shards: listed.map(|(&shard, _)| shard).collect() }
            }
        };
        if let Some(stop) = self.stop.as_mut().filter(|_| self.shards.is_empty()) {
            stop.farewell = Farewell::Sent;
        }
        let id = self.next_id();
        self.beat.open = Some(Open { id, call: call.clone(), sent_at: now, number: self.beat.number });
        Some((id, call))
    }

    pub(super) fn beat_reply(&mut self, now: Instant, open: &Open, result: Result<Reply, CallError>) {
        if let Some(stop) = self.stop.as_mut().filter(|stop| stop.farewell == Farewell::Sent) {
            stop.farewell = Farewell::Said;
            return;
        }
        let result = result.and_then(|reply| self.fitting(reply));
        match (self.beat.phase, result) {
            (Phase::List, Ok(Reply::Groups(groups))) => {
                let ours = groups.into_iter().find(|group| group.name == self.params.group);
                let next = match ours {
                    None => Phase::Create { listed: true },
                    Some(group)
                        if group.timeout_secs == self.params.timeout.as_secs()
                            && group.order == self.params.in_order =>
                    {
                        Phase::Beat
                    }
                    Some(group) => Phase::Update {
                        server_timeout: Some(Duration::from_secs(group.timeout_secs))
                            .filter(|theirs| !theirs.is_zero()),
                    },
                };
                self.group_step(now, next);
            }
            (Phase::Create { .. }, Ok(_)) => {
                self.events.push_back(LeaseEvent::GroupCreated);
                self.beat.timeout = self.params.timeout;
                self.group_step(now, Phase::Beat);
            }
            (Phase::Update { .. }, Ok(_)) => {
                self.events.push_back(LeaseEvent::GroupUpdated);
                self.beat.timeout = self.params.timeout;
                self.group_step(now, Phase::Beat);
            }
            (Phase::Beat, Ok(Reply::Shards(shards))) => self.beat_answer(now, open, shards),
            (_, Ok(_)) => {}
            (Phase::Beat, Err(cause)) => self.beat_failed(now, open, cause),
            (phase, Err(cause)) => self.group_refused(now, phase, open.call.clone(), cause),
        }
    }

    /// An answer of the wrong kind is a failure like any other.
    fn fitting(&self, reply: Reply) -> Result<Reply, CallError> {
        match (self.beat.phase, &reply) {
            (Phase::List, Reply::Groups(_)) | (Phase::Create { .. } | Phase::Update { .. }, Reply::Done) => {
                Ok(reply)
            }
            (Phase::Beat, Reply::Shards(shards)) if shards.len() <= SHARDS_MAX => Ok(reply),
            _ => Err(CallError::not_understood("the answer does not fit the call".into())),
        }
    }

    fn group_step(&mut self, now: Instant, next: Phase) {
        self.beat.slow.reset();
        if let Some((_, attempts)) = self.beat.trouble.take() {
            self.events.push_back(LeaseEvent::Resumed { attempts });
        }
        self.beat.enter(next, now);
    }

    fn group_refused(&mut self, now: Instant, phase: Phase, call: Call, cause: CallError) {
        match (phase, Verdict::of(&cause)) {
            (Phase::List, Verdict::Denied) => self.beat.enter(Phase::Create { listed: false }, now),
            (Phase::Create { .. }, Verdict::GroupExists) => {
                self.beat.enter(Phase::Update { server_timeout: None }, now);
            }
            // Somebody else may have made the group for us: the first heartbeat will tell.
            (Phase::Create { listed: false }, Verdict::Denied) => self.beat.enter(Phase::Beat, now),
            (Phase::Update { .. }, Verdict::GroupMissing) => {
                // A wait, because servers that disagree would make this a tight loop.
                let due = now + self.beat.slow.next_wait();
                self.beat.enter(Phase::Create { listed: true }, due);
            }
            (Phase::Update { server_timeout }, Verdict::Denied) => {
                self.beat.timeout =
                    server_timeout.map_or(self.params.timeout, |theirs| theirs.min(self.params.timeout));
                self.events.push_back(LeaseEvent::GroupUpdateRefused { cause });
                self.beat.enter(Phase::Beat, now);
            }
            (_, verdict) => self.hold(now, verdict, call, cause),
        }
    }

    /// Before the first lease: tell it once, wait, try again, for ever or not at all.
    fn hold(&mut self, now: Instant, verdict: Verdict, call: Call, cause: CallError) {
        let attempts = self.beat.trouble.map_or(0, |(_, attempts)| attempts) + 1;
        if self.params.fail_fast
            && !self.beat.joined_once
            && (verdict.needs_operator() || attempts >= FAIL_FAST_ATTEMPTS)
        {
            self.outcome = Some(Outcome::Failed { call, cause });
            return;
        }
        let retry_in = self.beat.slow.next_wait();
        self.beat.due = now + retry_in;
        if self.beat.trouble.is_none_or(|(told, _)| told != verdict) {
            self.events.push_back(LeaseEvent::Held { call, cause, retry_in });
        }
        self.beat.trouble = Some((verdict, attempts));
    }

    fn beat_failed(&mut self, now: Instant, open: &Open, cause: CallError) {
        self.counters.heartbeat_failures += 1;
        let verdict = Verdict::of(&cause);
        match verdict {
            Verdict::GroupMissing => return self.group_deleted(now),
            Verdict::ConsumerGone => self.consumer_gone(now),
            _ if !self.beat.joined_once => return self.hold(now, verdict, open.call.clone(), cause),
            _ => {}
        }
        // With a lease in hand every second counts; without one, and with a cause that does not pass, none does.
        let hurry = self.beat.lease_until.is_some() || !verdict.needs_operator();
        let backoff = if hurry { &mut self.beat.urgent } else { &mut self.beat.slow };
        self.beat.due = now + backoff.next_wait();
        let failures = self.beat.trouble.map_or(0, |(_, failures)| failures) + 1;
        if self.beat.trouble.is_none_or(|(told, _)| told != verdict) {
            let lease_left = self.beat.lease_until.map(|until| until.since(now));
            self.events.push_back(LeaseEvent::HeartbeatFailing { cause, lease_left });
        }
        self.beat.trouble = Some((verdict, failures));
    }

    /// The service does not know us any more: no shard is ours. The next heartbeat joins again.
    pub(super) fn consumer_gone(&mut self, now: Instant) {
        self.beat.lease_until = None;
        self.lose_all(Lost::ConsumerGone);
        if self.beat.phase == Phase::Beat {
            self.beat.due = self.beat.due.min(now + BEAT_GAP);
        }
    }

    /// Without its group no lease is worth anything; the group is made again and shards come back with a heartbeat.
    pub(super) fn group_deleted(&mut self, now: Instant) {
        self.events.push_back(LeaseEvent::GroupDeleted);
        self.beat.lease_until = None;
        self.lose_all(Lost::GroupDeleted);
        // A wait, because a new group may take a while to be seen by every server.
        let due = now + self.beat.urgent.next_wait();
        self.beat.enter(Phase::Create { listed: true }, due);
    }

    fn lose_all(&mut self, why: Lost) {
        let shards: Vec<ShardId> = self.shards.keys().copied().collect();
        for shard in shards {
            self.lose(shard, why);
        }
    }

    fn beat_answer(&mut self, now: Instant, open: &Open, shards: Vec<ShardId>) {
        let since = if planted(Bug::LeaseFromTheAnswer) { now } else { open.sent_at };
        let until = since + self.beat.timeout;
        if until <= now {
            // So late that the server may have given everything away after it answered.
            self.beat.due = now;
            return;
        }
        self.counters.heartbeats += 1;
        self.beat.lease_until = Some(until);
        self.commands.push_back(Command::Lease { until });
        self.beat.urgent.reset();
        self.beat.slow.reset();
        let hurry = self.given_up.values().any(|&sent| sent >= open.number);
        // Where the group's timeout is shorter than our settings say, several attempts have to fit into it.
        let shorter = self.beat.timeout < self.params.timeout;
        let regular = if shorter { self.beat.timeout / 3 } else { self.params.heartbeat_interval };
        let regular = regular.min(self.params.heartbeat_interval);
        let pause = if hurry { BEAT_GAP } else { regular };
        self.beat.due = (open.sent_at + pause).max(now);
        if let Some((_, failures)) = self.beat.trouble.take() {
            self.events.push_back(if self.beat.joined_once {
                LeaseEvent::HeartbeatRestored { failures }
            } else {
                LeaseEvent::Resumed { attempts: failures }
            });
        }
        let first = !core::mem::replace(&mut self.beat.joined_once, true);
        let ours: BTreeSet<ShardId> = shards.into_iter().collect();
        let missing: Vec<ShardId> =
            self.shards.keys().copied().filter(|shard| !ours.contains(shard)).collect();
        for shard in missing {
            self.give_up(now, shard);
        }
        if self.stop.is_none() {
            for shard in ours {
                self.take(now, shard, open.number, first);
            }
        }
        self.given_up.retain(|_, sent| *sent >= open.number);
        self.finish_bound(now);
    }

    /// The server says that the shard is ours.
    fn take(&mut self, now: Instant, shard: ShardId, number: u64, first: bool) {
        match self.shards.get_mut(&shard).map(|holding| &mut holding.state) {
            Some(State::Draining { then, .. } | State::Saving { then, .. }) if *then == Then::Release => {
                *then = Then::Refetch;
            }
            Some(_) => {}
            None => {
                let is_stale = self.given_up.get(&shard).is_some_and(|&sent| number <= sent);
                if is_stale && !planted(Bug::StaleAnswerGives) || self.shards.len() >= SHARDS_MAX {
                    return;
                }
                let epoch = self.next_epoch();
                let seed = self.params.seed ^ (epoch.0 << 32) ^ u64::from(shard.0);
                self.shards.insert(shard, Holding::new(epoch, now, seed, first));
                self.events.push_back(LeaseEvent::ShardAcquired { shard });
            }
        }
    }

    /// A shard left our hands: nothing older than the next heartbeat can give it back (invariant 5 of the lease),
    /// and that heartbeat is sent soon, because somebody waits for the shard.
    pub(super) fn note_given_up(&mut self, shard: ShardId) {
        self.given_up.insert(shard, self.beat.number);
        let soonest = self.beat.sent_at.map_or(self.beat.due, |sent_at| sent_at + BEAT_GAP);
        if self.beat.phase == Phase::Beat && self.beat.trouble.is_none() {
            self.beat.due = self.beat.due.min(soonest);
        }
    }
}

/// First wait after a failed call of this lane.
const RETRY_BASE: Duration = Duration::from_secs(1);
/// First wait after a failed heartbeat; the longest is twice that: a lease must not end between two attempts.
const BEAT_RETRY: Duration = Duration::from_secs(1);
/// Longest wait between two attempts to find or make the group.
const GROUP_RETRY_MAX: Duration = Duration::from_mins(1);
/// Shortest time between two heartbeats that are sent because a shard was released.
const BEAT_GAP: Duration = Duration::from_secs(1);
/// Attempts at the start with `fail_fast`, where the cause may pass by itself.
const FAIL_FAST_ATTEMPTS: u64 = 3;
