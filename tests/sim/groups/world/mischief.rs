//! What happens to processes, shards, data and the group.

use sls2siem::proto::time::{Instant, UnixTime};

use super::super::forwarder::{Forwarder, TIMEOUT, wall};
use super::{Event, MILLI, SECOND, STORM, World};
use crate::records;
use crate::sls::Shard;

impl World {
    pub(super) fn join(&mut self, name: Option<String>) {
        self.processes += 1;
        let process = self.processes;
        let name = name.unwrap_or_else(|| format!("c{process}"));
        let memory = 40_000 + self.dice.below(200_000);
        let forwarder = Forwarder::new(name, process, self.seed, self.now, memory, self.in_order);
        self.forwarders.push(forwarder);
    }

    pub(super) fn mischief(&mut self) {
        self.at((200 + self.seed % 700) * MILLI, Event::Mischief);
        if self.now > STORM {
            return;
        }
        let now = Instant(self.now);
        if self.forwarders.len() < 4 && self.dice.strike(self.chances.join) {
            self.join(None);
        }
        let count = self.forwarders.len() as u64;
        let index = usize::try_from(self.dice.below(count.max(1))).unwrap();
        if count > 0 && self.dice.strike(self.chances.crash) {
            self.outcome.crashes += 1;
            let dead = self.forwarders.remove(index);
            // Under its own name where the settings fix it, else under a new one.
            let name = Some(dead.name).filter(|_| self.dice.below(2) == 0);
            self.join(name);
        } else if count > 0 && self.dice.strike(self.chances.freeze) {
            // Between the milliseconds, where nothing else happens.
            let until = self.now + self.dice.below(3 * TIMEOUT * 1_000) * MILLI + MILLI / 2;
            // Its threads wake up one after the other.
            let apart = [0, self.dice.below(50) * MILLI];
            let first = usize::try_from(self.dice.below(2)).unwrap();
            // What it has not heard yet was put off until it wakes up: with another end, later bytes would overtake it.
            if self.forwarders[index].frozen.iter().all(|until| *until <= self.now) {
                self.outcome.freezes += 1;
                self.forwarders[index].frozen = [until + apart[first], until + apart[1 - first]];
            }
        } else if count > 1 && !self.forwarders[index].stopping && self.dice.strike(self.chances.leave) {
            self.outcome.polite_stops += 1;
            self.forwarders[index].stopping = true;
            self.forwarders[index].lease.handle_stop(now);
        } else if count > 0 && self.dice.strike(self.chances.clock) {
            let off = self.dice.below(7_200) * SECOND;
            let wall = UnixTime(wall(self.now).0 + off - 3_600 * SECOND);
            self.forwarders[index].pipeline.handle_wall_clock(now, wall);
        }
        if self.dice.strike(self.plan.hec_restart / 8) {
            let at = usize::try_from(self.dice.below(2)).unwrap();
            self.hecs[at].restart();
        }
        self.reshape();
        if self.group.exists && self.dice.strike(self.chances.delete) {
            self.outcome.deletions += 1;
            self.group.delete();
        }
    }

    /// Splits, merges, expires.
    pub(super) fn reshape(&mut self) {
        let shard = usize::try_from(self.dice.below(self.sls.shards.len() as u64)).unwrap();
        let writable = |world: &Self, shard: usize| !world.shape[shard].2;
        if self.sls.shards.len() < 12 && writable(self, shard) && self.dice.strike(self.chances.split) {
            self.close(shard);
            let parent = vec![u32::try_from(shard).unwrap()];
            self.open(parent.clone());
            self.open(parent);
        } else if self.sls.shards.len() < 12 && self.dice.strike(self.chances.merge) {
            let other = (shard + 1) % self.sls.shards.len();
            if other != shard && writable(self, shard) && writable(self, other) {
                self.close(shard);
                self.close(other);
                self.open(vec![u32::try_from(shard).unwrap(), u32::try_from(other).unwrap()]);
            }
        }
        if self.dice.strike(self.chances.expire) {
            let held = &self.sls.shards[shard];
            let oldest = usize::try_from(self.dice.below(held.readable as u64 + 1)).unwrap();
            let oldest = oldest.max(self.shape[shard].1);
            let id = u32::try_from(shard).unwrap();
            let read = self.group.checkpoint(id).ok().flatten();
            for number in held.before[self.shape[shard].1]..held.before[oldest] {
                self.expired.insert((id, number));
                if read.is_some_and(|read| number >= held.before[read]) {
                    self.behind.insert((id, number));
                }
            }
            self.shape[shard].1 = oldest;
        }
    }

    /// A shard takes no more data.
    pub(super) fn close(&mut self, shard: usize) {
        self.outcome.reshapes += 1;
        let held = &mut self.sls.shards[shard];
        held.groups.truncate(held.readable);
        held.before.truncate(held.readable + 1);
        self.shape[shard].2 = true;
    }

    pub(super) fn open(&mut self, parents: Vec<u32>) {
        let id = u32::try_from(self.sls.shards.len()).unwrap();
        let (mut groups, mut before) = (Vec::new(), vec![0]);
        for _ in 0..self.dice.below(20) {
            let (count, first) = (self.dice.below(20), before[before.len() - 1]);
            groups.push(records::group(id, first, count, 3));
            before.push(first + count);
        }
        self.sls.shards.push(Shard { groups, before, readable: 0, checkpoint: 0 });
        self.shape.push((parents.clone(), 0, false));
        if self.group.exists {
            self.group.add(id, parents);
        }
    }
}
