//! One logstore of the running emulator, as tests, the demo and the admin port see it.
//!
//! Why: what the service's own calls cannot do: fill shards at speed, expire data, take a lease away, look inside.
//! Invariants: 1. groups are generated and compressed outside the lock, before any of them can be read.
//! 2. filling goes on where the last filling of the shard ended, so numbers have no gaps.
//! Bounds: what is filled stays in memory.
//! Driven by: any thread.   Spec: none.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use prost::Message as _;

use super::api::Service;
use super::data::Segment;
use super::error::{ApiError, ApiResult};
use super::lease::LeaseState;
use super::world::{Cut, Logstore};
use crate::payload::{LogGroup, Payload};

/// A logstore.
#[derive(Debug)]
pub struct Store<'a> {
    service: &'a Service,
    project: String,
    logstore: String,
}

/// How a shard is filled.
#[derive(Debug, Clone, Copy)]
pub struct Fill {
    /// What the logs look like.
    pub payload: Payload,
    /// Logs to add to the shard. Numbers go on by whole groups, so a part of a group leaves a gap for the next filling.
    pub records: u64,
    /// The logs are there so many times, one after the other (only the first time with numbers of their own).
    pub repeat: u64,
    /// Bytes a second that become readable; all at once when none, nothing yet when 0 (see `Store::set_rate`).
    pub bytes_per_second: Option<u64>,
    /// Ends the filling with the log group that reaches so many serialised bytes.
    pub raw_bytes_max: u64,
}

impl Fill {
    /// So many logs at once.
    pub fn new(payload: Payload, records: u64) -> Self {
        Self { payload, records, repeat: 1, bytes_per_second: None, raw_bytes_max: u64::MAX }
    }

    /// So many serialised bytes, or up to one log group more, held back until `Store::set_rate`.
    pub fn held_back(payload: Payload, raw_bytes: u64) -> Self {
        Self { bytes_per_second: Some(0), raw_bytes_max: raw_bytes, ..Self::new(payload, u64::MAX) }
    }
}

/// A shard from outside.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ShardView {
    /// Whether it takes writes.
    pub readonly: bool,
    /// Shards it came from.
    pub parents: Vec<u32>,
    /// Number of the oldest log group that can be read.
    pub oldest: u64,
    /// One past the newest that can be read now.
    pub visible: u64,
    /// Serialised bytes before it, expired ones included.
    pub visible_bytes: u64,
    /// One past the newest, readable or not yet.
    pub total: u64,
    /// The cursor at `visible`.
    pub end_cursor: String,
}

/// A consumer group from outside.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct GroupView {
    /// Consumer timeout.
    pub timeout_ms: u64,
    /// Children of a split wait for their parents.
    pub in_order: bool,
    /// Live consumers and when each sent its last heartbeat (unix ms).
    pub consumers: BTreeMap<String, u64>,
    /// Who may read what.
    pub leases: BTreeMap<u32, LeaseState>,
    /// Log groups before the saved checkpoint, for each shard that has one.
    pub checkpoints: BTreeMap<u32, u64>,
}

impl<'a> Store<'a> {
    pub(crate) fn new(service: &'a Service, project: String, logstore: String) -> Self {
        Self { service, project, logstore }
    }

    /// Appends one log group to a shard; it can be read at once.
    pub fn append(&self, shard: u32, group: &LogGroup) -> Result<()> {
        let bytes = group.encode_to_vec();
        let now_ms = self.service.now_ms();
        self.with(|logstore| {
            logstore.shard(shard)?.data.append(&bytes, group.logs.len() as u64, now_ms);
            Ok(())
        })
    }

    /// Appends generated logs to a shard, from the group where the last filling ended.
    pub fn fill(&self, shard: u32, fill: Fill) -> Result<()> {
        self.fill_shards(&[shard], fill)
    }

    /// Fills every read-write shard alike; a rate is shared by them.
    pub fn fill_all(&self, fill: Fill) -> Result<()> {
        let shards = self.shards()?;
        let writable: Vec<u32> =
            shards.iter().filter(|(_, view)| !view.readonly).map(|(id, _)| *id).collect();
        let share = fill.bytes_per_second.map(|rate| share(rate, writable.len()));
        self.fill_shards(&writable, Fill { bytes_per_second: share, ..fill })
    }

    /// Makes all the data first, so that the clock of a rate starts for all shards at once.
    fn fill_shards(&self, shards: &[u32], fill: Fill) -> Result<()> {
        let mut made = Vec::with_capacity(shards.len());
        for &shard in shards {
            made.push((shard, generate(shard, self.shard(shard)?.total, fill)));
        }
        let now_ms = self.service.now_ms();
        self.with(|logstore| {
            for (shard, segments) in &made {
                let data = &mut logstore.shard(*shard)?.data;
                match fill.bytes_per_second {
                    // What an earlier filling holds back stays held: a schedule would count it as there already.
                    Some(0) => data.set_rate(now_ms, 0),
                    Some(rate) => data.set_schedule(now_ms, rate),
                    None => {}
                }
                for segment in (0..fill.repeat).flat_map(|_| segments) {
                    data.append_segment(Arc::clone(segment), now_ms);
                }
            }
            Ok(())
        })
    }

    /// From now on, what is held back becomes readable at this rate, which the read-write shards share; 0 holds it.
    pub fn set_rate(&self, bytes_per_second: u64) -> Result<()> {
        let now_ms = self.service.now_ms();
        self.with(|logstore| {
            let is_writable = |shard: &&mut super::world::Shard| shard.readonly_since_ms.is_none();
            let shards: Vec<_> = logstore.shards.values_mut().filter(is_writable).collect();
            let share = share(bytes_per_second, shards.len());
            for shard in shards {
                shard.data.set_rate(now_ms, share);
            }
            Ok(())
        })
    }

    /// Splits a shard in its middle; answers with the shards involved, parent first.
    pub fn split(&self, shard: u32) -> Result<Vec<u32>> {
        self.split_into(shard, 2)
    }

    /// Splits a shard into so many of the same width; answers with the shards involved, parent first.
    pub fn split_into(&self, shard: u32, count: u32) -> Result<Vec<u32>> {
        self.reshape(|logstore, now_ms| logstore.split(now_ms, shard, Cut::Into(count)))
    }

    /// Merges a shard with its right neighbour; answers with the shards involved, child last.
    pub fn merge(&self, shard: u32) -> Result<Vec<u32>> {
        self.reshape(|logstore, now_ms| logstore.merge(now_ms, shard))
    }

    /// Forgets the log groups of a shard before this one.
    pub fn expire_before(&self, shard: u32, group: u64) -> Result<()> {
        let now_ms = self.service.now_ms();
        self.with(|logstore| {
            let data = &mut logstore.shard(shard)?.data;
            data.advance(now_ms);
            data.expire_before(group);
            Ok(())
        })
    }

    /// Removes a read-only shard with all that it holds, as retention does in the end.
    pub fn vanish(&self, shard: u32) -> Result<()> {
        let now_ms = self.service.now_ms();
        self.with(|logstore| logstore.vanish(now_ms, shard))
    }

    /// Takes a shard away from its holder at once. True if somebody held it.
    pub fn revoke(&self, group: &str, shard: u32) -> Result<bool> {
        let now_ms = self.service.now_ms();
        self.with(|logstore| Ok(logstore.group(group)?.leases.revoke(now_ms, shard)))
    }

    /// Starts the hand-over of a shard to a live consumer. True if it applies.
    pub fn hand_over(&self, group: &str, shard: u32, to: &str) -> Result<bool> {
        let now_ms = self.service.now_ms();
        self.with(|logstore| Ok(logstore.group(group)?.leases.hand_over(now_ms, shard, to)))
    }

    /// Deletes a consumer group with its checkpoints. True if it was there.
    pub fn delete_group(&self, group: &str) -> Result<bool> {
        let now_ms = self.service.now_ms();
        self.with(|logstore| Ok(logstore.delete_group(now_ms, group)))
    }

    /// One shard.
    pub fn shard(&self, shard: u32) -> Result<ShardView> {
        self.shards()?.remove(&shard).ok_or_else(|| anyhow!("shard {shard} does not exist"))
    }

    /// All shards.
    pub fn shards(&self) -> Result<BTreeMap<u32, ShardView>> {
        let now_ms = self.service.now_ms();
        self.with(|logstore| {
            let view = |shard: &mut super::world::Shard| {
                shard.data.advance(now_ms);
                let view = ShardView {
                    readonly: shard.readonly_since_ms.is_some(),
                    parents: shard.parents.clone(),
                    oldest: shard.data.oldest(),
                    visible: shard.data.visible(),
                    visible_bytes: shard.data.visible_bytes(),
                    total: shard.data.total(),
                    end_cursor: shard.cursor(shard.data.visible()),
                };
                (shard.id, view)
            };
            Ok(logstore.shards.values_mut().map(view).collect())
        })
    }

    /// The cursor of a log group of a shard.
    pub fn cursor(&self, shard: u32, group: u64) -> Result<String> {
        self.with(|logstore| Ok(logstore.shard(shard)?.cursor(group)))
    }

    /// All consumer groups.
    pub fn groups(&self) -> Result<BTreeMap<String, GroupView>> {
        let now_ms = self.service.now_ms();
        self.with(|logstore| {
            let Logstore { groups, shards, .. } = logstore;
            let mut views = BTreeMap::new();
            for (name, group) in groups {
                group.leases.expire(now_ms);
                let position = |(id, saved): (&u32, &super::world::Checkpoint)| {
                    shards.get(id).and_then(|shard| shard.group_of(&saved.cursor).ok()).map(|at| (*id, at))
                };
                let view = GroupView {
                    timeout_ms: group.leases.timeout_ms(),
                    in_order: group.leases.in_order(),
                    consumers: group.leases.consumers().clone(),
                    leases: group.leases.states(),
                    checkpoints: group.checkpoints.iter().filter_map(position).collect(),
                };
                views.insert(name.clone(), view);
            }
            Ok(views)
        })
    }

    /// Whether every shard's checkpoint of this group is at its very end.
    pub fn is_drained(&self, group: &str) -> Result<bool> {
        let shards = self.shards()?;
        let groups = self.groups()?;
        let Some(view) = groups.get(group) else { return Ok(false) };
        Ok(shards.iter().all(|(id, shard)| {
            view.leases.get(id) == Some(&LeaseState::Over)
                || view.checkpoints.get(id).copied().unwrap_or(0) == shard.total
        }))
    }

    fn reshape(&self, act: impl FnOnce(&mut Logstore, u64) -> ApiResult<Vec<u32>>) -> Result<Vec<u32>> {
        let now_ms = self.service.now_ms();
        let over_needs_commit = self.service.levers().over_needs_commit;
        self.with(|logstore| {
            let involved = act(logstore, now_ms)?;
            if !over_needs_commit {
                logstore.finish_drained(now_ms);
            }
            Ok(involved)
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Logstore) -> ApiResult<T>) -> Result<T> {
        let retention_ms = self.service.levers().retention_ms();
        let now_ms = self.service.now_ms();
        let mut world = self.service.world();
        world
            .logstore(&self.project, &self.logstore)
            .and_then(|logstore| {
                if let Some(retention_ms) = retention_ms {
                    logstore.retain(now_ms, retention_ms);
                }
                act(logstore)
            })
            .map_err(|ApiError { code, message, .. }| anyhow!("{code}: {message}"))
    }
}

/// What each of so many shards gets; only nothing becomes nothing.
fn share(bytes_per_second: u64, shards: usize) -> u64 {
    (bytes_per_second / (shards as u64).max(1)).max(bytes_per_second.min(1))
}

/// Serialises and compresses what a filling adds.
fn generate(shard: u32, first: u64, fill: Fill) -> Vec<Arc<Segment>> {
    let per_group = u64::from(fill.payload.logs_per_group());
    let mut segments = Vec::new();
    let mut segment = Segment::default();
    let mut raw_bytes = 0;
    for index in 0..fill.records.div_ceil(per_group) {
        if raw_bytes >= fill.raw_bytes_max {
            break;
        }
        let mut group = fill.payload.group(shard, first + index);
        let left = fill.records - index * per_group;
        group.logs.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        let before = segment.raw_bytes();
        segment.push(&group.encode_to_vec(), group.logs.len() as u64);
        raw_bytes += segment.raw_bytes() - before;
        if segment.is_full() {
            segments.push(std::mem::take(&mut segment));
        }
    }
    if segment.groups() > 0 {
        segments.push(segment);
    }
    segments.iter().for_each(Segment::compress);
    segments.into_iter().map(Arc::new).collect()
}
