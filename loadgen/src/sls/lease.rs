//! The server's side of a consumer group: who may read which shard.
//!
//! Why: hand-over is where forwarders lose or repeat data, so the emulator runs the service's own five states and not a
//! simplification of them.
//! Invariants: 1. a shard is in the answers of at most one consumer. 2. a shard that was in a live consumer's answer
//! and has not been given up (left out of its heartbeat body) is in nobody else's, except after a forced revoke.
//! 3. once all live consumers have sent heartbeats often enough, their shard counts differ by at most one.
//! Bounds: one entry per shard and live consumer.
//! Driven by: `groups`, with the time in ms as an argument.   Spec: protocol/sls.md 5.6, 3.5 (forceSuccess).

use std::collections::BTreeMap;

use super::journal::{Place, What};

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
    settings: Settings,
    /// Live consumers and their last heartbeat.
    consumers: BTreeMap<String, u64>,
    shards: BTreeMap<u32, Lease>,
    group: String,
    place: Place,
}

/// What a group is made with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) timeout_ms: u64,
    pub(crate) in_order: bool,
    /// A shard that its holder has lost stays free this long.
    pub(crate) assign_delay_ms: u64,
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

impl LeaseState {
    /// Who has the shard.
    pub fn holder(&self) -> Option<&str> {
        match self {
            Self::AlreadyAlloc { holder } | Self::Transfer { holder, .. } => Some(holder),
            Self::Wait | Self::NotAlloc | Self::Over => None,
        }
    }

    /// Who has the shard, or gets it next: whom it counts for.
    fn owner(&self) -> Option<&str> {
        match self {
            Self::AlreadyAlloc { holder } => Some(holder),
            Self::Transfer { next, .. } => Some(next),
            Self::Wait | Self::NotAlloc | Self::Over => None,
        }
    }
}

impl Leases {
    /// The leases of a new group; what happens to them is written down at `place`.
    pub(crate) fn new(settings: Settings, group: &str, place: Place) -> Self {
        let group = group.to_owned();
        Self { settings, consumers: BTreeMap::new(), shards: BTreeMap::new(), group, place }
    }

    /// A shard came to be, from these parents if it is the child of a split or merge.
    pub(crate) fn add_shard(&mut self, now: u64, shard: u32, parents: &[u32]) {
        if self.shards.contains_key(&shard) {
            return;
        }
        let waits = self.settings.in_order && self.is_any_unfinished(parents);
        let lease = Lease {
            // Set below, so that it is written down as every other change.
            state: LeaseState::Over,
            parents: parents.to_vec(),
            free_from: now,
            barred: None,
            committer: String::new(),
        };
        self.shards.insert(shard, lease);
        self.set(now, shard, if waits { LeaseState::Wait } else { LeaseState::NotAlloc });
    }

    /// A shard ceased to be.
    pub(crate) fn remove_shard(&mut self, now: u64, shard: u32) {
        self.shards.remove(&shard);
        self.wake_children(now);
    }

    /// New settings of the group. Giving up the order frees the shards that wait; asking for it is for later splits.
    pub(crate) fn update(&mut self, now: u64, timeout_ms: Option<u64>, in_order: Option<bool>) {
        self.settings.timeout_ms = timeout_ms.unwrap_or(self.settings.timeout_ms);
        self.settings.in_order = in_order.unwrap_or(self.settings.in_order);
        if !self.settings.in_order {
            let waiting = self.shards_that(|lease| lease.state == LeaseState::Wait);
            for shard in waiting {
                self.free(now, shard, now);
            }
        }
    }

    /// Shards that are freed from now on stay free this long.
    pub(crate) fn set_assign_delay(&mut self, delay_ms: u64) {
        self.settings.assign_delay_ms = delay_ms;
    }

    /// Takes a consumer's heartbeat with the shards it works on; answers with those it may work on.
    pub(crate) fn heartbeat(&mut self, now: u64, consumer: &str, held: &[u32]) -> Vec<u32> {
        self.expire(now);
        if self.consumers.insert(consumer.to_owned(), now).is_none() {
            let (group, consumer) = (self.group.clone(), consumer.to_owned());
            self.place.note(now, What::Joined { group, consumer });
        }
        let given_up = self.shards_that(
            |lease| matches!(&lease.state, LeaseState::Transfer { holder, .. } if holder == consumer),
        );
        for shard in given_up.into_iter().filter(|shard| !held.contains(shard)) {
            if let Some(LeaseState::Transfer { next, .. }) = self.state_of(shard) {
                let holder = next.clone();
                self.set(now, shard, LeaseState::AlreadyAlloc { holder });
            }
        }
        self.assign_free(now, consumer);
        self.take_from_others(now, consumer);
        self.shards_of(consumer)
    }

    /// Removes consumers that have been silent for too long.
    pub(crate) fn expire(&mut self, now: u64) {
        let timeout = self.settings.timeout_ms;
        let silent = |seen: u64| now.saturating_sub(seen) > timeout;
        let dead: Vec<String> =
            self.consumers.iter().filter(|(_, seen)| silent(**seen)).map(|(name, _)| name.clone()).collect();
        // All at once: a shard must not be kept for one who is dead as well.
        for name in &dead {
            self.consumers.remove(name);
            let (group, consumer) = (self.group.clone(), name.clone());
            self.place.note(now, What::Left { group, consumer });
        }
        for name in &dead {
            self.release_all(now, name);
        }
    }

    /// Whether this consumer may save a checkpoint of this shard; `finishes` says that it is a read-only shard's end.
    pub(crate) fn may_commit(
        &self,
        shard: u32,
        consumer: &str,
        force: bool,
        finishes: bool,
    ) -> Result<(), Refusal> {
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
            // To say the end once more is harmless, and happens when the first answer was lost.
            LeaseState::Over => finishes && lease.committer == consumer,
            LeaseState::Wait | LeaseState::NotAlloc => false,
        };
        if allowed { Ok(()) } else { Err(Refusal::ConsumerNotMatch) }
    }

    /// A checkpoint was saved; `finishes` says that it is the end of a read-only shard.
    pub(crate) fn committed(&mut self, now: u64, shard: u32, consumer: &str, finishes: bool) {
        let Some(lease) = self.shards.get_mut(&shard) else { return };
        consumer.clone_into(&mut lease.committer);
        if finishes {
            self.finished(now, shard);
        } else if lease.state == LeaseState::Over {
            // Only a forced one comes here: the shard is to be read again.
            self.free(now, shard, now);
        }
    }

    /// A shard is read-only and its checkpoint is at its end.
    pub(crate) fn finished(&mut self, now: u64, shard: u32) {
        self.set(now, shard, LeaseState::Over);
        self.wake_children(now);
    }

    /// Takes a shard away at once, whatever its holder is doing. True if somebody had it.
    pub(crate) fn revoke(&mut self, now: u64, shard: u32) -> bool {
        let Settings { timeout_ms, assign_delay_ms, .. } = self.settings;
        let Some(lease) = self.shards.get_mut(&shard) else { return false };
        let Some(holder) = lease.state.holder() else { return false };
        lease.barred = Some((holder.to_owned(), now + timeout_ms));
        self.free(now, shard, now + assign_delay_ms);
        true
    }

    /// Starts the polite hand-over of a shard to a consumer. True if it applies.
    pub(crate) fn hand_over(&mut self, now: u64, shard: u32, to: &str) -> bool {
        if !self.consumers.contains_key(to) {
            return false;
        }
        match self.state_of(shard) {
            Some(LeaseState::AlreadyAlloc { holder }) if holder != to => {
                let state = LeaseState::Transfer { holder: holder.clone(), next: to.to_owned() };
                self.set(now, shard, state);
                true
            }
            _ => false,
        }
    }

    /// The group is deleted.
    pub(crate) fn delete(self, now: u64) {
        self.place.note(now, What::Deleted { group: self.group });
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
        self.settings.timeout_ms
    }

    pub(crate) fn in_order(&self) -> bool {
        self.settings.in_order
    }

    /// The one place where a state changes.
    fn set(&mut self, now: u64, shard: u32, state: LeaseState) {
        let Some(lease) = self.shards.get_mut(&shard) else { return };
        if lease.state != state || state == LeaseState::NotAlloc {
            lease.state = state.clone();
            self.place.note(now, What::Lease { group: self.group.clone(), shard, state });
        }
    }

    fn free(&mut self, now: u64, shard: u32, free_from: u64) {
        self.set(now, shard, LeaseState::NotAlloc);
        if let Some(lease) = self.shards.get_mut(&shard) {
            lease.free_from = free_from;
        }
    }

    fn state_of(&self, shard: u32) -> Option<&LeaseState> {
        self.shards.get(&shard).map(|lease| &lease.state)
    }

    fn shards_that(&self, is_one: impl Fn(&Lease) -> bool) -> Vec<u32> {
        self.shards.iter().filter(|(_, lease)| is_one(lease)).map(|(shard, _)| *shard).collect()
    }

    /// The answer of a heartbeat. A shard that is to be handed over is not in it.
    fn shards_of(&self, consumer: &str) -> Vec<u32> {
        self.shards_that(
            |lease| matches!(&lease.state, LeaseState::AlreadyAlloc { holder } if holder == consumer),
        )
    }

    /// Shards that each live consumer has, or gets as soon as another gives them up.
    fn loads(&self) -> BTreeMap<&str, usize> {
        let mut loads: BTreeMap<&str, usize> = self.consumers.keys().map(|name| (name.as_str(), 0)).collect();
        for lease in self.shards.values() {
            if let Some(load) = lease.state.owner().and_then(|name| loads.get_mut(name)) {
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
                .filter(|lease| !matches!(lease.state, LeaseState::Wait | LeaseState::Over))
                .count();
            let (base, extra) = (working / loads.len().max(1), working % loads.len().max(1));
            let mine = loads.get(consumer).copied().unwrap_or(0);
            let above = loads.values().filter(|load| **load > base).count();
            if mine > base || (mine == base && above >= extra) {
                return;
            }
            let is_barred = |lease: &Lease| {
                lease.barred.as_ref().is_some_and(|(name, until)| name == consumer && now < *until)
            };
            let free = self.shards.iter_mut().find(|(_, lease)| {
                lease.state == LeaseState::NotAlloc && !is_barred(lease) && now >= lease.free_from
            });
            let Some((&shard, lease)) = free else { return };
            lease.barred = None;
            self.set(now, shard, LeaseState::AlreadyAlloc { holder: consumer.to_owned() });
        }
    }

    /// Reserves shards of consumers that have at least two more than this one.
    fn take_from_others(&mut self, now: u64, consumer: &str) {
        loop {
            let loads = self.loads();
            let mine = loads.get(consumer).copied().unwrap_or(0);
            let Some((rich, load)) = loads.into_iter().max_by_key(|(_, load)| *load) else { return };
            if load < mine + 2 {
                return;
            }
            let of_rich = self.shards_that(|lease| lease.state.owner() == Some(rich));
            // A shard that is on its way anyway is better redirected than another one moved.
            let on_its_way = of_rich
                .iter()
                .find(|shard| matches!(self.state_of(**shard), Some(LeaseState::Transfer { .. })));
            let Some(&shard) = on_its_way.or_else(|| of_rich.last()) else { return };
            let Some(holder) = self.state_of(shard).and_then(LeaseState::holder) else { return };
            let state = if holder == consumer {
                LeaseState::AlreadyAlloc { holder: consumer.to_owned() }
            } else {
                LeaseState::Transfer { holder: holder.to_owned(), next: consumer.to_owned() }
            };
            self.set(now, shard, state);
        }
    }

    /// A consumer is gone: what it had is free, what it was to get stays with its holder.
    fn release_all(&mut self, now: u64, name: &str) {
        for shard in self.shards.keys().copied().collect::<Vec<_>>() {
            match self.state_of(shard) {
                Some(LeaseState::Transfer { holder, next }) if next == name && holder != name => {
                    let holder = holder.clone();
                    self.set(now, shard, LeaseState::AlreadyAlloc { holder });
                }
                Some(state) if state.holder() == Some(name) => {
                    self.free(now, shard, now + self.settings.assign_delay_ms);
                }
                _ => {}
            }
        }
    }

    /// Whether one of these shards, or of those they came from, is not over.
    fn is_any_unfinished(&self, shards: &[u32]) -> bool {
        let mut open = shards.to_vec();
        // Parents are older than their children, so this ends.
        while let Some(shard) = open.pop() {
            let Some(lease) = self.shards.get(&shard) else { continue };
            if lease.state != LeaseState::Over {
                return true;
            }
            open.extend(lease.parents.iter().filter(|parent| **parent < shard));
        }
        false
    }

    /// Shards whose ancestors are all over wait no longer.
    fn wake_children(&mut self, now: u64) {
        let ready = self
            .shards_that(|lease| lease.state == LeaseState::Wait && !self.is_any_unfinished(&lease.parents));
        for shard in ready {
            self.free(now, shard, now);
        }
    }
}

#[cfg(test)]
mod tests;
