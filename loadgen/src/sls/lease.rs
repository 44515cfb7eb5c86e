//! The server's side of a consumer group: who may read which shard.
//!
//! Why: hand-over is where forwarders lose or repeat data, so the emulator runs the service's own five states and not a
//! simplification of them.
//! Invariants: 1. a shard is in the answers of at most one consumer. 2. a shard that was in a live consumer's answer
//! and has not been given up (left out of its heartbeat body) is in nobody else's, except after a forced revoke.
//! 3. once all live consumers have sent heartbeats often enough, their shard counts differ by at most one.
//! Bounds: one entry per shard and live consumer.
//! Driven by: `groups`, with the time in ms as an argument.   Spec: protocol/sls.md 5.6, 3.5 (forceSuccess).

use std::collections::{BTreeMap, BTreeSet};

/// Where a shard stands in its group.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// Its parents are not over yet and the group is in order.
    Wait,
    /// Nobody has it.
    NotAlloc,
    /// This consumer has it.
    AlreadyAlloc {
        /// Who has it.
        holder: String,
    },
    /// Its holder is to give it up for the next consumer.
    Transfer {
        /// Who has it.
        holder: String,
        /// Who gets it.
        next: String,
    },
    /// Read-only and consumed to its end.
    Over,
}

/// Why a heartbeat or a commit is refused; names as the service's error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    ShardNotExist,
    ConsumerNotExist,
    ConsumerNotMatch,
}

/// The leases of one group.
#[derive(Debug)]
pub(crate) struct Leases {
    timeout_ms: u64,
    in_order: bool,
    /// A shard that its holder has lost stays free this long.
    assign_delay_ms: u64,
    /// Live consumers and their last heartbeat.
    consumers: BTreeMap<String, u64>,
    shards: BTreeMap<u32, Lease>,
}

#[derive(Debug)]
struct Lease {
    state: LeaseState,
    parents: Vec<u32>,
    /// Not given out before.
    free_from: u64,
    /// After a forced revoke the old holder does not get it back at once.
    barred: Option<(String, u64)>,
    /// Who committed last.
    committer: String,
}

impl Leases {
    pub(crate) fn new(timeout_ms: u64, in_order: bool, assign_delay_ms: u64) -> Self {
        Self { timeout_ms, in_order, assign_delay_ms, consumers: BTreeMap::new(), shards: BTreeMap::new() }
    }

    /// A shard came to be, from these parents if it is the child of a split or merge.
    pub(crate) fn add_shard(&mut self, now: u64, shard: u32, parents: &[u32]) {
        let waits = self.in_order && parents.iter().any(|parent| self.is_unfinished(*parent));
        let state = if waits { LeaseState::Wait } else { LeaseState::NotAlloc };
        let lease = Lease {
            state,
            parents: parents.to_vec(),
            free_from: now,
            barred: None,
            committer: String::new(),
        };
        self.shards.entry(shard).or_insert(lease);
    }

    /// A shard ceased to be.
    pub(crate) fn remove_shard(&mut self, now: u64, shard: u32) {
        self.shards.remove(&shard);
        self.wake_children(now);
    }

    /// New settings of the group.
    pub(crate) fn update(&mut self, now: u64, timeout_ms: Option<u64>, in_order: Option<bool>) {
        self.timeout_ms = timeout_ms.unwrap_or(self.timeout_ms);
        self.in_order = in_order.unwrap_or(self.in_order);
        if !self.in_order {
            self.free_all(now, |state| *state == LeaseState::Wait);
        }
    }

    /// Takes a consumer's heartbeat with the shards it works on; answers with those it may work on.
    pub(crate) fn heartbeat(&mut self, now: u64, consumer: &str, held: &[u32]) -> Vec<u32> {
        self.expire(now);
        self.consumers.insert(consumer.to_owned(), now);
        for (shard, lease) in &mut self.shards {
            if let LeaseState::Transfer { holder, next } = &lease.state
                && holder == consumer
                && !held.contains(shard)
            {
                lease.state = LeaseState::AlreadyAlloc { holder: next.clone() };
            }
        }
        self.assign_free(now, consumer);
        self.take_from_others(consumer);
        self.shards_of(consumer)
    }

    /// Removes consumers that have been silent for too long.
    pub(crate) fn expire(&mut self, now: u64) {
        let timeout = self.timeout_ms;
        let dead: Vec<String> = self
            .consumers
            .iter()
            .filter(|(_, seen)| now.saturating_sub(**seen) > timeout)
            .map(|(name, _)| name.clone())
            .collect();
        for name in dead {
            self.remove_consumer(now, &name);
        }
    }

    /// Whether this consumer may save a checkpoint of this shard.
    pub(crate) fn may_commit(&self, shard: u32, consumer: &str, force: bool) -> Result<(), Refusal> {
        let lease = self.shards.get(&shard).ok_or(Refusal::ShardNotExist)?;
        if force {
            return Ok(());
        }
        if !self.consumers.contains_key(consumer) {
            return Err(Refusal::ConsumerNotExist);
        }
        let allowed = match &lease.state {
            // A holder that is to hand over still commits what it has delivered.
            LeaseState::AlreadyAlloc { holder } | LeaseState::Transfer { holder, .. } => holder == consumer,
            LeaseState::Over => lease.committer == consumer,
            LeaseState::Wait | LeaseState::NotAlloc => false,
        };
        if allowed { Ok(()) } else { Err(Refusal::ConsumerNotMatch) }
    }

    /// A checkpoint was saved; `finishes` says that it is the end of a read-only shard.
    pub(crate) fn committed(&mut self, now: u64, shard: u32, consumer: &str, finishes: bool) {
        let Some(lease) = self.shards.get_mut(&shard) else { return };
        consumer.clone_into(&mut lease.committer);
        if finishes {
            lease.state = LeaseState::Over;
            self.wake_children(now);
        } else if lease.state == LeaseState::Over {
            lease.state = LeaseState::NotAlloc;
            lease.free_from = now;
        }
    }

    /// Takes a shard away at once, whatever its holder is doing. True if somebody had it.
    pub(crate) fn revoke(&mut self, now: u64, shard: u32) -> bool {
        let timeout = self.timeout_ms;
        let Some(lease) = self.shards.get_mut(&shard) else { return false };
        let (LeaseState::AlreadyAlloc { holder } | LeaseState::Transfer { holder, .. }) = &lease.state else {
            return false;
        };
        lease.barred = Some((holder.clone(), now + timeout));
        lease.state = LeaseState::NotAlloc;
        lease.free_from = now + self.assign_delay_ms;
        true
    }

    /// Starts the polite hand-over of a shard to a consumer. True if it applies.
    pub(crate) fn hand_over(&mut self, shard: u32, to: &str) -> bool {
        let alive = self.consumers.contains_key(to);
        let Some(lease) = self.shards.get_mut(&shard).filter(|_| alive) else { return false };
        match &lease.state {
            LeaseState::AlreadyAlloc { holder } if holder != to => {
                lease.state = LeaseState::Transfer { holder: holder.clone(), next: to.to_owned() };
                true
            }
            _ => false,
        }
    }

    /// The state of every shard.
    pub(crate) fn states(&self) -> BTreeMap<u32, LeaseState> {
        self.shards.iter().map(|(shard, lease)| (*shard, lease.state.clone())).collect()
    }

    /// Live consumers and when each sent its last heartbeat (ms).
    pub(crate) fn consumers(&self) -> &BTreeMap<String, u64> {
        &self.consumers
    }

    pub(crate) fn timeout_ms(&self) -> u64 {
        self.timeout_ms
    }

    pub(crate) fn in_order(&self) -> bool {
        self.in_order
    }

    fn shards_of(&self, consumer: &str) -> Vec<u32> {
        self.shards
            .iter()
            .filter(|(_, lease)| matches!(&lease.state, LeaseState::AlreadyAlloc { holder } if holder == consumer))
            .map(|(shard, _)| *shard)
            .collect()
    }

    /// Shards that each live consumer has, or gets as soon as another gives them up.
    fn loads(&self) -> BTreeMap<&str, usize> {
        let mut loads: BTreeMap<&str, usize> = self.consumers.keys().map(|name| (name.as_str(), 0)).collect();
        for lease in self.shards.values() {
            if let Some(load) = owner(&lease.state).and_then(|name| loads.get_mut(name)) {
                *load += 1;
            }
        }
        loads
    }

    /// Gives the consumer free shards up to its fair share.
    fn assign_free(&mut self, now: u64, consumer: &str) {
        loop {
            let loads = self.loads();
            let working = self
                .shards
                .values()
                .filter(|lease| !matches!(lease.state, LeaseState::Wait | LeaseState::Over));
            let (base, extra) =
                (working.clone().count() / loads.len().max(1), working.count() % loads.len().max(1));
            let mine = loads.get(consumer).copied().unwrap_or(0);
            let above = loads.values().filter(|load| **load > base).count();
            if mine > base || (mine == base && above >= extra) {
                return;
            }
            let free = self.shards.values_mut().find(|lease| {
                let barred =
                    lease.barred.as_ref().is_some_and(|(name, until)| name == consumer && now < *until);
                lease.state == LeaseState::NotAlloc && !barred && now >= lease.free_from
            });
            let Some(lease) = free else { return };
            lease.barred = None;
            lease.state = LeaseState::AlreadyAlloc { holder: consumer.to_owned() };
        }
    }

    /// Reserves shards of consumers that have at least two more than this one.
    fn take_from_others(&mut self, consumer: &str) {
        loop {
            let loads = self.loads();
            let mine = loads.get(consumer).copied().unwrap_or(0);
            let Some((rich, load)) = loads.into_iter().max_by_key(|(_, load)| *load) else { return };
            if load < mine + 2 {
                return;
            }
            let rich = rich.to_owned();
            // A shard that is on its way anyway is better redirected than another one moved.
            let on_its_way = |lease: &&mut Lease| matches!(&lease.state, LeaseState::Transfer { next, .. } if *next == rich);
            let has = |lease: &&mut Lease| matches!(&lease.state, LeaseState::AlreadyAlloc { holder } if *holder == rich);
            let redirected = self.shards.values_mut().find(on_its_way).map(|lease| redirect(lease, consumer));
            if redirected.is_none()
                && self.shards.values_mut().rev().find(has).map(|lease| redirect(lease, consumer)).is_none()
            {
                return;
            }
        }
    }

    fn remove_consumer(&mut self, now: u64, name: &str) {
        self.consumers.remove(name);
        for lease in self.shards.values_mut() {
            let next = match &lease.state {
                LeaseState::AlreadyAlloc { holder } if holder == name => LeaseState::NotAlloc,
                LeaseState::Transfer { holder, next } if holder == name => {
                    if self.consumers.contains_key(next) {
                        LeaseState::AlreadyAlloc { holder: next.clone() }
                    } else {
                        LeaseState::NotAlloc
                    }
                }
                LeaseState::Transfer { holder, next } if next == name => {
                    LeaseState::AlreadyAlloc { holder: holder.clone() }
                }
                _ => continue,
            };
            if next == LeaseState::NotAlloc {
                lease.free_from = now + self.assign_delay_ms;
            }
            lease.state = next;
        }
    }

    fn is_unfinished(&self, shard: u32) -> bool {
        self.shards.get(&shard).is_some_and(|lease| lease.state != LeaseState::Over)
    }

    /// Shards whose ancestors are all over wait no longer.
    fn wake_children(&mut self, now: u64) {
        let ready: BTreeSet<u32> = self
            .shards
            .iter()
            .filter(|(_, lease)| !lease.parents.iter().any(|parent| self.is_unfinished(*parent)))
            .map(|(shard, _)| *shard)
            .collect();
        for (shard, lease) in &mut self.shards {
            if lease.state == LeaseState::Wait && ready.contains(shard) {
                lease.state = LeaseState::NotAlloc;
                lease.free_from = now;
            }
        }
    }

    fn free_all(&mut self, now: u64, which: impl Fn(&LeaseState) -> bool) {
        for lease in self.shards.values_mut().filter(|lease| which(&lease.state)) {
            lease.state = LeaseState::NotAlloc;
            lease.free_from = now;
        }
    }
}

/// Who has the shard, or gets it next.
fn owner(state: &LeaseState) -> Option<&str> {
    match state {
        LeaseState::AlreadyAlloc { holder } => Some(holder),
        LeaseState::Transfer { next, .. } => Some(next),
        LeaseState::Wait | LeaseState::NotAlloc | LeaseState::Over => None,
    }
}

fn redirect(lease: &mut Lease, to: &str) {
    let (LeaseState::AlreadyAlloc { holder } | LeaseState::Transfer { holder, .. }) = &lease.state else {
        return;
    };
    lease.state = if holder == to {
        LeaseState::AlreadyAlloc { holder: to.to_owned() }
    } else {
        LeaseState::Transfer { holder: holder.clone(), next: to.to_owned() }
    };
}

#[cfg(test)]
mod tests;
