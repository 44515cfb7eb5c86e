//! What happened, in one order: who joined and left, which lease moved when, who pulled which shard.
//!
//! Why: a test of several processes has to judge afterwards whether a shard was ever read by a consumer that did not
//! have it. The state at the end does not tell, and the processes' own logs are what is to be judged.
//! Invariants: 1. numbers (`seq`) grow over all kinds of events, commits included. 2. the pulls of
//! a client are one event as long as the shard's leases stand still, so the lease at the first is that of all of them.
//! Bounds: the newest `EVENTS_MAX` events; a pull that goes on allocates nothing.
//! Driven by: `lease`, `pull`, `groups`, under the world's lock.   Spec: none; PullLogs names no consumer, but clients
//! put it at the end of their User-Agent (protocol/sls.md 1.2).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::lease::LeaseState;
use super::world::Commit;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Its number; commits have theirs from the same count.
    pub seq: u64,
    /// When (unix ms, the server's clock).
    pub at_ms: u64,
    /// Project.
    pub project: String,
    /// Logstore.
    pub logstore: String,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// The kinds of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// A consumer sent its first heartbeat, or its first after it had left.
    Joined {
        /// Consumer group.
        group: String,
        /// Who.
        consumer: String,
    },
    /// A consumer was silent for longer than the group's timeout; noticed with the next call.
    Left {
        /// Consumer group.
        group: String,
        /// Who.
        consumer: String,
    },
    /// A shard's lease changed.
    Lease {
        /// Consumer group.
        group: String,
        /// Which shard.
        shard: u32,
        /// Its state from now on.
        state: LeaseState,
    },
    /// A consumer group was deleted.
    Deleted {
        /// Consumer group.
        group: String,
    },
    /// Pulls of one client, without a move of the shard's lease in between.
    Pulls(Pulls),
}

/// Pulls of one shard by one client between two moves of its lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pulls {
    /// Which shard.
    pub shard: u32,
    /// The client's User-Agent.
    pub agent: String,
    /// When the last of them came (unix ms).
    pub last_ms: u64,
    /// How many.
    pub pulls: u64,
    /// Those of them that got nothing.
    pub empty: u64,
    /// First log group asked for.
    pub first: u64,
    /// One past the last log group given.
    pub next: u64,
}

/// What the journal says about the clients.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// Checkpoints that were taken from a consumer that did not have the shard.
    pub stray_commits: Vec<Commit>,
    /// Pulls by a consumer that did not have the shard.
    pub stray_pulls: Vec<StrayPulls>,
    /// User-Agents of pulls that name no consumer which ever joined.
    pub unknown_agents: Vec<String>,
}

/// Pulls by a consumer that did not have the shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StrayPulls {
    /// Consumer group.
    pub group: String,
    /// Who pulled.
    pub consumer: String,
    /// The shard's state meanwhile.
    pub state: LeaseState,
    /// Somebody else had the shard: two consumers read it.
    pub taken: bool,
    /// When the shard came into that state (unix ms).
    pub since_ms: u64,
    /// When the first of the pulls came (unix ms).
    pub first_ms: u64,
    /// Project.
    pub project: String,
    /// Logstore.
    pub logstore: String,
    /// The pulls.
    #[serde(flatten)]
    pub pulls: Pulls,
}

/// A handle of the one journal.
#[derive(Debug, Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<Inner>>);

/// Where an event belongs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    journal: Journal,
    number: u64,
    project: String,
    logstore: String,
}

#[derive(Debug, Default)]
struct Inner {
    seq: u64,
    events: VecDeque<Event>,
    places: u64,
    /// Numbers of the events that further pulls belong to, one for each client, by place and shard.
    going_on: BTreeMap<(u64, u32), Vec<u64>>,
}

/// One pull, as `pull` has served it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pull<'a> {
    pub(crate) shard: u32,
    pub(crate) agent: &'a str,
    pub(crate) first: u64,
    pub(crate) next: u64,
}

const EVENTS_MAX: usize = 500_000;
/// Clients of one shard whose pulls are counted together.
const CLIENTS_MAX: usize = 64;

impl Journal {
    /// The number of something that is kept elsewhere.
    pub(crate) fn number(&self) -> u64 {
        let mut inner = self.inner();
        inner.seq += 1;
        inner.seq
    }

    /// Events from this number on.
    pub(crate) fn events(&self, from: u64) -> Vec<Event> {
        let inner = self.inner();
        let at = inner.events.partition_point(|event| event.seq < from);
        inner.events.iter().skip(at).cloned().collect()
    }

    /// The journal of one logstore.
    pub(crate) fn at(&self, project: &str, logstore: &str) -> Place {
        let mut inner = self.inner();
        inner.places += 1;
        let (project, logstore) = (project.to_owned(), logstore.to_owned());
        Place { journal: self.clone(), number: inner.places, project, logstore }
    }

    /// What the events and these commits say about the clients.
    pub(crate) fn judge(&self, commits: &VecDeque<Commit>) -> Judgement {
        Judge::default().read(&self.inner().events, commits)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Tells the logstore from all others of this server.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn note(&self, at_ms: u64, what: What) {
        let mut inner = self.journal.inner();
        if let What::Lease { shard, .. } = &what {
            inner.going_on.remove(&(self.number, *shard));
        }
        self.push(&mut inner, at_ms, what);
    }

    /// One more pull.
    pub(crate) fn pull(&self, at_ms: u64, pull: Pull<'_>) {
        let Pull { shard, agent, first, next } = pull;
        let mut inner = self.journal.inner();
        let inner = &mut *inner;
        let empty = u64::from(first == next);
        let key = (self.number, shard);
        for seq in inner.going_on.get(&key).into_iter().flatten() {
            // One that is forgotten already is not found.
            if let Ok(index) = inner.events.binary_search_by_key(seq, |event| event.seq)
                && let Some(What::Pulls(pulls)) = inner.events.get_mut(index).map(|event| &mut event.what)
                && pulls.agent == agent
            {
                pulls.last_ms = at_ms;
                pulls.pulls += 1;
                pulls.empty += empty;
                pulls.next = next;
                return;
            }
        }
        let agent = agent.to_owned();
        let pulls = Pulls { shard, agent, last_ms: at_ms, pulls: 1, empty, first, next };
        let seq = self.push(inner, at_ms, What::Pulls(pulls));
        let going_on = inner.going_on.entry(key).or_default();
        if going_on.len() >= CLIENTS_MAX {
            going_on.remove(0);
        }
        going_on.push(seq);
    }

    fn push(&self, inner: &mut Inner, at_ms: u64, what: What) -> u64 {
        inner.seq += 1;
        if inner.events.len() >= EVENTS_MAX {
            inner.events.pop_front();
        }
        let (project, logstore) = (self.project.clone(), self.logstore.clone());
        inner.events.push_back(Event { seq: inner.seq, at_ms, project, logstore, what });
        inner.seq
    }
}

type StoreKey = (String, String);

/// Reads the events in their order and remembers who has what.
#[derive(Debug, Default)]
struct Judge {
    /// Group and name of everybody who ever joined, by logstore.
    consumers: BTreeMap<StoreKey, Vec<(String, String)>>,
    /// State of each shard in each group, since when, and who had it before.
    leases: BTreeMap<(StoreKey, String, u32), Standing>,
    found: Judgement,
}

#[derive(Debug)]
struct Standing {
    state: LeaseState,
    since_ms: u64,
    /// Who had the shard last.
    last_holder: String,
}

impl Judge {
    fn read(mut self, events: &VecDeque<Event>, commits: &VecDeque<Commit>) -> Judgement {
        let mut commits = commits.iter().peekable();
        for event in events {
            while let Some(commit) = commits.next_if(|commit| commit.seq < event.seq) {
                self.commit(commit);
            }
            self.event(event);
        }
        commits.for_each(|commit| self.commit(commit));
        self.found
    }

    fn event(&mut self, event: &Event) {
        let store = (event.project.clone(), event.logstore.clone());
        match &event.what {
            What::Joined { group, consumer } => {
                let known = self.consumers.entry(store).or_default();
                let consumer = (group.clone(), consumer.clone());
                if !known.contains(&consumer) {
                    known.push(consumer);
                }
            }
            What::Left { .. } => {}
            What::Lease { group, shard, state } => {
                let key = (store, group.clone(), *shard);
                let before = self.leases.remove(&key).map(|standing| standing.last_holder);
                let last_holder = state.holder().map(str::to_owned).or(before).unwrap_or_default();
                let standing = Standing { state: state.clone(), since_ms: event.at_ms, last_holder };
                self.leases.insert(key, standing);
            }
            What::Deleted { group } => {
                self.leases.retain(|(at, name, _), _| *at != store || name != group);
            }
            What::Pulls(pulls) => self.pulls(store, event, pulls),
        }
    }

    fn pulls(&mut self, store: StoreKey, event: &Event, pulls: &Pulls) {
        let known = self.consumers.get(&store).into_iter().flatten();
        let named = known.filter(|(group, name)| names(&pulls.agent, group, name));
        let Some((group, consumer)) = named.max_by_key(|(_, name)| name.len()).cloned() else {
            if !self.found.unknown_agents.contains(&pulls.agent) {
                self.found.unknown_agents.push(pulls.agent.clone());
            }
            return;
        };
        // Without a lease there is no group any more, or no shard: nothing to be judged by.
        let Some(standing) = self.leases.get(&(store, group.clone(), pulls.shard)) else { return };
        if standing.allows(&consumer) {
            return;
        }
        self.found.stray_pulls.push(StrayPulls {
            group,
            consumer,
            state: standing.state.clone(),
            taken: standing.state.holder().is_some(),
            since_ms: standing.since_ms,
            first_ms: event.at_ms,
            project: event.project.clone(),
            logstore: event.logstore.clone(),
            pulls: pulls.clone(),
        });
    }

    fn commit(&mut self, commit: &Commit) {
        if commit.refused.is_some() {
            return;
        }
        let store = (commit.project.clone(), commit.logstore.clone());
        let standing = self.leases.get(&(store, commit.group.clone(), commit.shard));
        if !standing.is_some_and(|standing| standing.allows(&commit.consumer)) {
            self.found.stray_commits.push(commit.clone());
        }
    }
}

impl Standing {
    /// Whether this consumer may work on the shard. One that has finished it learns so with its next heartbeat only.
    fn allows(&self, consumer: &str) -> bool {
        match &self.state {
            LeaseState::AlreadyAlloc { holder } | LeaseState::Transfer { holder, .. } => holder == consumer,
            LeaseState::Over => self.last_holder == consumer,
            LeaseState::Wait | LeaseState::NotAlloc => false,
        }
    }
}

/// Whether a User-Agent is of this consumer: it ends in the name, as a word of its own, and names the group before.
fn names(agent: &str, group: &str, consumer: &str) -> bool {
    let Some(before) = agent.strip_suffix(consumer) else { return false };
    !before.ends_with(|last: char| last.is_ascii_alphanumeric()) && before.contains(group)
}

#[cfg(test)]
mod tests;
