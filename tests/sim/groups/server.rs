//! A consumer group as the service runs it: five states per shard, written from its description and from nothing of ours.

use std::collections::BTreeMap;

/// Where a shard stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Waits for its parents.
    Wait,
    /// Nobody has it.
    Free,
    /// This consumer has it.
    Held(String),
    /// It is to move.
    Moving { from: String, to: String },
    /// Read-only and consumed.
    Over,
}

#[derive(Debug)]
pub struct Lease {
    pub state: State,
    pub parents: Vec<u32>,
    /// Group index of the checkpoint; none where nothing was saved.
    pub checkpoint: Option<usize>,
}

/// The group. It may not exist.
#[derive(Debug, Default)]
pub struct Group {
    pub exists: bool,
    timeout: u64,
    in_order: bool,
    seen: BTreeMap<String, u64>,
    pub shards: BTreeMap<u32, Lease>,
}

impl Group {
    /// Makes it, with the shards that there are: number and parents.
    pub fn create(
        &mut self,
        timeout: u64,
        in_order: bool,
        shards: &[(u32, Vec<u32>)],
    ) -> Result<(), &'static str> {
        if self.exists {
            return Err("ConsumerGroupAlreadyExist");
        }
        *self = Self { exists: true, timeout, in_order, ..Self::default() };
        for (shard, parents) in shards {
            self.add(*shard, parents.clone());
        }
        Ok(())
    }

    pub fn settings(&self) -> (u64, bool) {
        (self.timeout, self.in_order)
    }

    pub fn update(&mut self, timeout: u64, in_order: bool) -> Result<(), &'static str> {
        self.must_exist()?;
        (self.timeout, self.in_order) = (timeout, in_order);
        self.wake();
        Ok(())
    }

    pub fn delete(&mut self) {
        *self = Self::default();
    }

    /// A new shard.
    pub fn add(&mut self, shard: u32, parents: Vec<u32>) {
        let waits = self.in_order && parents.iter().any(|parent| self.unfinished(*parent));
        let state = if waits { State::Wait } else { State::Free };
        self.shards.insert(shard, Lease { state, parents, checkpoint: None });
    }

    pub fn heartbeat(&mut self, now: u64, name: &str, body: &[u32]) -> Result<Vec<u32>, &'static str> {
        self.must_exist()?;
        self.expire(now);
        self.seen.insert(name.to_owned(), now);
        for (shard, lease) in &mut self.shards {
            if let State::Moving { from, to } = &lease.state
                && from == name
                && !body.contains(shard)
            {
                lease.state = State::Held(to.clone());
            }
        }
        self.assign(name);
        Ok(self.held_by(name))
    }

    pub fn commit(
        &mut self,
        now: u64,
        name: &str,
        shard: u32,
        to: usize,
        is_end: bool,
    ) -> Result<(), &'static str> {
        self.must_exist()?;
        self.expire(now);
        if !self.seen.contains_key(name) {
            return Err("ConsumerNotExist");
        }
        let lease = self.shards.get_mut(&shard).ok_or("ShardNotExist")?;
        let holds = match &lease.state {
            State::Held(holder) | State::Moving { from: holder, .. } => holder == name,
            // Whoever finished it may say so again.
            State::Over => lease.checkpoint == Some(to),
            State::Wait | State::Free => false,
        };
        if !holds {
            return Err("ConsumerNotMatch");
        }
        lease.checkpoint = Some(to);
        if is_end {
            lease.state = State::Over;
            self.wake();
        }
        Ok(())
    }

    pub fn checkpoint(&self, shard: u32) -> Result<Option<usize>, &'static str> {
        self.must_exist()?;
        Ok(self.shards.get(&shard).and_then(|lease| lease.checkpoint))
    }

    /// Counts of the living consumers that have shards, or could.
    pub fn loads(&self) -> Vec<usize> {
        self.seen.keys().map(|name| self.held_by(name).len()).collect()
    }

    fn must_exist(&self) -> Result<(), &'static str> {
        if self.exists { Ok(()) } else { Err("ConsumerGroupNotExist") }
    }

    fn expire(&mut self, now: u64) {
        let dead: Vec<String> = self
            .seen
            .iter()
            .filter(|(_, seen)| now - **seen > self.timeout)
            .map(|(name, _)| name.clone())
            .collect();
        for name in dead {
            self.seen.remove(&name);
            for lease in self.shards.values_mut() {
                lease.state = match &lease.state {
                    State::Held(holder) if *holder == name => State::Free,
                    State::Moving { from, to } if *from == name && self.seen.contains_key(to) => {
                        State::Held(to.clone())
                    }
                    State::Moving { from, .. } if *from == name => State::Free,
                    State::Moving { from, to } if *to == name => State::Held(from.clone()),
                    other => other.clone(),
                };
            }
        }
    }

    fn held_by(&self, name: &str) -> Vec<u32> {
        let ours = |(_, lease): &(&u32, &Lease)| lease.state == State::Held(name.to_owned());
        self.shards.iter().filter(ours).map(|(shard, _)| *shard).collect()
    }

    /// What a consumer has now or will have.
    fn load(&self, name: &str) -> usize {
        let will_have = |lease: &&Lease| match &lease.state {
            State::Held(owner) | State::Moving { to: owner, .. } => owner == name,
            _ => false,
        };
        self.shards.values().filter(will_have).count()
    }

    fn assign(&mut self, name: &str) {
        loop {
            let least = self.seen.keys().map(|other| self.load(other)).min().unwrap_or(0);
            if self.load(name) > least {
                break;
            }
            let Some(free) = self.shards.values_mut().find(|lease| lease.state == State::Free) else {
                break;
            };
            free.state = State::Held(name.to_owned());
        }
        loop {
            let mine = self.load(name);
            let rich = self.seen.keys().max_by_key(|other| self.load(other)).cloned();
            let Some(rich) = rich.filter(|rich| self.load(rich) >= mine + 2) else { return };
            let Some(lease) = self.shards.values_mut().find(|lease| lease.state == State::Held(rich.clone()))
            else {
                return;
            };
            lease.state = State::Moving { from: rich, to: name.to_owned() };
        }
    }

    fn unfinished(&self, shard: u32) -> bool {
        self.shards.get(&shard).is_some_and(|lease| lease.state != State::Over)
    }

    fn wake(&mut self) {
        let ready: Vec<u32> = self
            .shards
            .iter()
            .filter(|(_, lease)| {
                lease.state == State::Wait
                    && (!self.in_order || !lease.parents.iter().any(|parent| self.unfinished(*parent)))
            })
            .map(|(shard, _)| *shard)
            .collect();
        for shard in ready {
            self.shards.get_mut(&shard).unwrap().state = State::Free;
        }
    }
}
