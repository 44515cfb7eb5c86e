//! Projects, logstores, shards and consumer groups: all that the service remembers.
//!
//! Why: calls come over many connections and must see one state.
//! Invariants: 1. shard ids grow and are never used again. 2. the key ranges of the read-write shards cover the key
//! space exactly. 3. a cursor is base64 of a decimal and grows by one for each log group.
//! Bounds: data and groups as filled; the record of commits keeps the newest `COMMITS_MAX`.
//! Driven by: `api` and its call files, under one lock.   Spec: protocol/sls.md 3.1, 3.4.

use std::collections::{BTreeMap, VecDeque};

use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Serialize;
use serde_json::{Value, json};

use super::data::ShardData;
use super::error::{ApiError, ApiResult};
use super::journal::{Journal, Place};
use super::lease::Leases;

/// All projects.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) projects: BTreeMap<String, Project>,
    pub(crate) commits: VecDeque<Commit>,
    pub(crate) journal: Journal,
}

#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) created_s: u64,
    pub(crate) logstores: BTreeMap<String, Logstore>,
    /// Reads of the current minute.
    pub(crate) reads: ReadQuota,
}

#[derive(Debug)]
pub(crate) struct Logstore {
    pub(crate) created_s: u64,
    pub(crate) ttl_days: u32,
    pub(crate) append_meta: bool,
    pub(crate) shards: BTreeMap<u32, Shard>,
    pub(crate) groups: BTreeMap<String, Group>,
    /// Where its events are written down.
    pub(crate) place: Place,
    shards_made: u32,
    /// Turns over the read-write shards for load-balanced writes.
    pub(crate) puts: usize,
}

#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) id: u32,
    /// Keys `begin..end`; the greatest key stands for the end of the space.
    pub(crate) begin: u128,
    pub(crate) end: u128,
    pub(crate) created_s: u64,
    pub(crate) readonly_since_ms: Option<u64>,
    pub(crate) parents: Vec<u32>,
    /// Cursor number of the first group.
    base: u64,
    pub(crate) data: ShardData,
    pub(crate) reads: ReadQuota,
    pub(crate) place: Place,
}

/// Reads of the current second or minute.
#[derive(Debug, Default)]
pub(crate) struct ReadQuota {
    period: u64,
    pub(crate) count: u64,
    pub(crate) bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) leases: Leases,
    pub(crate) checkpoints: BTreeMap<u32, Checkpoint>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) cursor: String,
    pub(crate) update_time_us: u64,
    pub(crate) consumer: String,
}

/// One attempt to save a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Commit {
    /// Its place in the order of all events.
    pub seq: u64,
    /// When (unix ms).
    pub at_ms: u64,
    /// Project.
    pub project: String,
    /// Logstore.
    pub logstore: String,
    /// Consumer group.
    pub group: String,
    /// Who.
    pub consumer: String,
    /// Which shard.
    pub shard: u32,
    /// Groups of the shard before the checkpoint; none when the cursor cannot be read.
    pub position: Option<u64>,
    /// `forceSuccess`.
    pub force: bool,
    /// The error code of a refusal; none when it was taken.
    pub refused: Option<String>,
}

/// Where a shard is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// At this key.
    At(u128),
    /// Into so many shards of the same width.
    Into(u32),
}

const COMMITS_MAX: usize = 1_000_000;

impl World {
    /// Remembers an attempt to commit.
    pub(crate) fn record(&mut self, commit: Commit) {
        if self.commits.len() >= COMMITS_MAX {
            self.commits.pop_front();
        }
        self.commits.push_back(commit);
    }

    pub(crate) fn project(&mut self, name: &str) -> ApiResult<&mut Project> {
        self.projects
            .get_mut(name)
            .ok_or_else(|| ApiError::new("ProjectNotExist", format!("The Project does not exist : {name}")))
    }

    pub(crate) fn logstore(&mut self, project: &str, name: &str) -> ApiResult<&mut Logstore> {
        self.project(project)?
            .logstores
            .get_mut(name)
            .ok_or_else(|| ApiError::new("LogStoreNotExist", format!("logstore {name} does not exist")))
    }

    pub(crate) fn shard(&mut self, project: &str, logstore: &str, shard: u32) -> ApiResult<&mut Shard> {
        self.logstore(project, logstore)?.shard(shard)
    }
}

impl Project {
    pub(crate) fn new(now_ms: u64) -> Self {
        Self { created_s: now_ms / 1000, logstores: BTreeMap::new(), reads: ReadQuota::default() }
    }
}

impl Logstore {
    /// A logstore whose key space is split evenly over its shards.
    pub(crate) fn new(now_ms: u64, shards: u32, place: Place) -> Self {
        let mut made = Self {
            created_s: now_ms / 1000,
            ttl_days: 30,
            append_meta: false,
            shards: BTreeMap::new(),
            groups: BTreeMap::new(),
            place,
            shards_made: 0,
            puts: 0,
        };
        let step = u128::MAX / u128::from(shards.max(1)) + u128::from(shards > 1);
        for index in 0..shards {
            let begin = step * u128::from(index);
            let end = if index + 1 == shards { u128::MAX } else { begin + step };
            made.add_shard(now_ms, begin, end, &[]);
        }
        made
    }

    pub(crate) fn shard(&mut self, shard: u32) -> ApiResult<&mut Shard> {
        self.shards
            .get_mut(&shard)
            .ok_or_else(|| ApiError::new("ShardNotExist", format!("shard {shard} does not exist")))
    }

    pub(crate) fn group(&mut self, name: &str) -> ApiResult<&mut Group> {
        self.groups.get_mut(name).ok_or_else(|| no_group(name))
    }

    /// Splits a shard. Answers with the shards involved, the parent first.
    pub(crate) fn split(&mut self, now_ms: u64, shard: u32, cut: Cut) -> ApiResult<Vec<u32>> {
        let parent = self.writable(shard)?;
        let (begin, end) = (parent.begin, parent.end);
        let mut borders = match cut {
            Cut::At(key) if key > begin && key < end => vec![begin, key],
            Cut::At(key) => {
                return Err(ApiError::parameter(format!("key {key:032x} is not inside of shard {shard}")));
            }
            Cut::Into(count) => {
                let step = (end - begin) / u128::from(count.max(1));
                if count < 2 || step == 0 {
                    return Err(ApiError::parameter(format!("shard {shard} cannot become {count} shards")));
                }
                (0..count).map(|index| begin + step * u128::from(index)).collect()
            }
        };
        borders.push(end);
        parent.readonly_since_ms = Some(now_ms);
        let mut involved = vec![shard];
        for (from, to) in borders.iter().zip(borders.iter().skip(1)) {
            involved.push(self.add_shard(now_ms, *from, *to, &[shard]));
        }
        Ok(involved)
    }

    /// Merges a shard with its right neighbour. Answers with the shards involved.
    pub(crate) fn merge(&mut self, now_ms: u64, shard: u32) -> ApiResult<Vec<u32>> {
        let (begin, border) = {
            let left = self.writable(shard)?;
            (left.begin, left.end)
        };
        let right = self
            .shards
            .values_mut()
            .find(|other| other.readonly_since_ms.is_none() && other.begin == border)
            .ok_or_else(|| ApiError::parameter(format!("shard {shard} has no right neighbour")))?;
        right.readonly_since_ms = Some(now_ms);
        let (neighbour, end) = (right.id, right.end);
        self.writable(shard)?.readonly_since_ms = Some(now_ms);
        let child = self.add_shard(now_ms, begin, end, &[shard, neighbour]);
        Ok(vec![shard, neighbour, child])
    }

    /// Moves retention on: old data goes, and read-only shards that are empty and old go with it.
    pub(crate) fn retain(&mut self, now_ms: u64, retention_ms: u64) {
        let limit = now_ms.saturating_sub(retention_ms);
        for shard in self.shards.values_mut() {
            shard.data.advance(now_ms);
            shard.data.expire_received_before(limit / 1000);
        }
        let gone: Vec<u32> = self
            .shards
            .values()
            .filter(|shard| shard.readonly_since_ms.is_some_and(|since| since < limit) && shard.is_empty())
            .map(|shard| shard.id)
            .collect();
        for shard in gone {
            self.remove_shard(now_ms, shard);
        }
    }

    /// A read-only shard goes with all that it holds, as it does when retention has passed.
    pub(crate) fn vanish(&mut self, now_ms: u64, shard: u32) -> ApiResult<()> {
        if self.shard(shard)?.readonly_since_ms.is_none() {
            return Err(ApiError::parameter(format!("shard {shard} is readwrite")));
        }
        self.remove_shard(now_ms, shard);
        Ok(())
    }

    /// Deletes a consumer group with its checkpoints. True if it was there.
    pub(crate) fn delete_group(&mut self, now_ms: u64, name: &str) -> bool {
        let Some(group) = self.groups.remove(name) else { return false };
        group.leases.delete(now_ms);
        true
    }

    /// Read-only shards that a group had consumed to their end before are over for it.
    pub(crate) fn finish_drained(&mut self, now_ms: u64) {
        let Self { groups, shards, .. } = self;
        for Group { leases, checkpoints } in groups.values_mut() {
            for (id, saved) in checkpoints {
                let is_over = |shard: &Shard| {
                    shard.group_of(&saved.cursor).is_ok_and(|position| shard.is_finished_at(position))
                };
                if shards.get(id).is_some_and(is_over) {
                    leases.finished(now_ms, *id);
                }
            }
        }
    }

    fn remove_shard(&mut self, now_ms: u64, shard: u32) {
        self.shards.remove(&shard);
        self.groups.values_mut().for_each(|group| group.leases.remove_shard(now_ms, shard));
    }

    /// Makes a group that knows all shards.
    pub(crate) fn add_group(&mut self, now_ms: u64, name: &str, mut leases: Leases) {
        for shard in self.shards.values() {
            leases.add_shard(now_ms, shard.id, &shard.parents);
        }
        self.groups.insert(name.to_owned(), Group { leases, checkpoints: BTreeMap::new() });
    }

    fn writable(&mut self, shard: u32) -> ApiResult<&mut Shard> {
        let found = self.shard(shard)?;
        if found.readonly_since_ms.is_some() {
            return Err(ApiError::parameter(format!("shard {shard} is readonly")));
        }
        Ok(found)
    }

    fn add_shard(&mut self, now_ms: u64, begin: u128, end: u128, parents: &[u32]) -> u32 {
        let id = self.shards_made;
        self.shards_made += 1;
        let shard = Shard {
            id,
            begin,
            end,
            created_s: now_ms / 1000,
            readonly_since_ms: None,
            parents: parents.to_vec(),
            // Nanoseconds of its birth, apart by shard and logstore so that a cursor of another one is noticed.
            base: now_ms * 1_000_000 + (u64::from(id) * 100 + self.place.number() % 100) * 100_000_000_000,
            data: ShardData::default(),
            reads: ReadQuota::default(),
            place: self.place.clone(),
        };
        self.shards.insert(id, shard);
        self.groups.values_mut().for_each(|group| group.leases.add_shard(now_ms, id, parents));
        id
    }
}

impl Shard {
    /// The cursor of a group.
    pub(crate) fn cursor(&self, group: u64) -> String {
        encode_cursor(self.cursor_number(group))
    }

    /// The decimal inside the cursor of a group.
    pub(crate) fn cursor_number(&self, group: u64) -> u64 {
        self.base.saturating_add(group)
    }

    /// The group of a cursor, if it is one of this shard and not beyond its end.
    pub(crate) fn group_of(&self, cursor: &str) -> ApiResult<u64> {
        let invalid = || ApiError::new("InvalidCursor", format!("The cursor is invalid : {cursor}"));
        let number = STANDARD_LAX.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let number: u64 = number.and_then(|text| text.parse().ok()).ok_or_else(invalid)?;
        let group = number.checked_sub(self.base).ok_or_else(invalid)?;
        if group > self.data.visible() { Err(invalid()) } else { Ok(group) }
    }

    /// Whether a checkpoint at this group leaves nothing to read, now or later.
    pub(crate) fn is_finished_at(&self, group: u64) -> bool {
        self.readonly_since_ms.is_some() && group >= self.data.total()
    }

    /// As `ListShards` shows it.
    pub(crate) fn describe(&self) -> Value {
        json!({
            "shardID": self.id,
            "status": if self.readonly_since_ms.is_some() { "readonly" } else { "readwrite" },
            "inclusiveBeginKey": format!("{:032x}", self.begin),
            "exclusiveEndKey": format!("{:032x}", self.end),
            "createTime": self.created_s,
        })
    }

    fn is_empty(&self) -> bool {
        self.data.oldest() == self.data.total()
    }
}

impl ReadQuota {
    /// Starts over with each period.
    pub(crate) fn turn(&mut self, period: u64) {
        if self.period != period {
            *self = Self { period, count: 0, bytes: 0 };
        }
    }
}

/// The cursor of a number.
pub(crate) fn encode_cursor(number: u64) -> String {
    STANDARD_LAX.encode(number.to_string())
}

/// The refusal of a group that is not there.
pub(crate) fn no_group(name: &str) -> ApiError {
    ApiError::new("ConsumerGroupNotExist", format!("consumer group {name} does not exist"))
}

/// Documents show cursors without padding too.
const STANDARD_LAX: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::*;

    fn covers_the_key_space(logstore: &Logstore) -> bool {
        let mut ranges: Vec<(u128, u128)> = logstore
            .shards
            .values()
            .filter(|shard| shard.readonly_since_ms.is_none())
            .map(|shard| (shard.begin, shard.end))
            .collect();
        ranges.sort_unstable();
        let whole = ranges.windows(2).all(|pair| pair[0].1 == pair[1].0);
        whole
            && ranges.first().map(|range| range.0) == Some(0)
            && ranges.last().map(|range| range.1) == Some(u128::MAX)
    }

    #[test]
    fn four_shards_split_the_space_as_documented() {
        let logstore = Logstore::new(0, 4, Place::default());
        let begins: Vec<String> =
            logstore.shards.values().map(|shard| format!("{:032x}", shard.begin)).collect();
        let digits: Vec<&str> = begins.iter().map(|key| &key[..4]).collect();
        assert_eq!(digits, ["0000", "4000", "8000", "c000"]);
        for shards in 1..20 {
            assert!(covers_the_key_space(&Logstore::new(0, shards, Place::default())), "{shards}");
        }
    }

    #[test]
    fn splits_and_merges_keep_the_space_whole_and_ids_new() {
        let mut logstore = Logstore::new(0, 2, Place::default());
        assert_eq!(logstore.split(1, 0, Cut::Into(2)).unwrap(), [0, 2, 3]);
        assert!(covers_the_key_space(&logstore));
        assert_eq!(logstore.merge(2, 3).unwrap(), [3, 1, 4]);
        assert!(covers_the_key_space(&logstore));
        assert_eq!(logstore.split(3, 0, Cut::Into(2)).unwrap_err().code, "ParameterInvalid");
        assert_eq!(logstore.merge(3, 4).unwrap_err().code, "ParameterInvalid");
        assert_eq!(logstore.split(3, 9, Cut::Into(2)).unwrap_err().code, "ShardNotExist");
        assert_eq!(logstore.split(3, 2, Cut::At(0)).unwrap_err().code, "ParameterInvalid");
        assert_eq!(logstore.split(4, 2, Cut::At(5)).unwrap(), [2, 5, 6]);
        assert!(covers_the_key_space(&logstore));
        assert_eq!(logstore.split(5, 4, Cut::Into(3)).unwrap(), [4, 7, 8, 9]);
        assert!(covers_the_key_space(&logstore));
        assert_eq!(logstore.split(5, 7, Cut::Into(1)).unwrap_err().code, "ParameterInvalid");
        // Shard 5 holds five keys only.
        assert_eq!(logstore.split(5, 5, Cut::Into(6)).unwrap_err().code, "ParameterInvalid");
        assert_eq!(logstore.vanish(6, 7).unwrap_err().code, "ParameterInvalid");
        logstore.vanish(6, 4).unwrap();
        assert!(covers_the_key_space(&logstore) && !logstore.shards.contains_key(&4));
    }

    #[test]
    fn cursors_are_base64_of_decimals_and_only_their_own_shard_takes_them() {
        let mut logstore = Logstore::new(1_767_322_999_000, 2, Place::default());
        let shard = logstore.shard(0).unwrap();
        assert_eq!(shard.cursor(0), "MTc2NzMyMjk5OTAwMDAwMDAwMA==");
        shard.data.append(b"", 0, 0);
        assert_eq!(shard.group_of(&shard.cursor(1)), Ok(1));
        assert_eq!(shard.group_of("MTc2NzMyMjk5OTAwMDAwMDAwMA"), Ok(0));
        let other = logstore.shard(1).unwrap().cursor(0);
        let shard = logstore.shard(0).unwrap();
        for wrong in
            [other.as_str(), &shard.cursor(2), "", "x", "MTc2", "LTE=", "MTc2NzMyMjk5OTAwMDAwMDAwMS4w"]
        {
            assert_eq!(shard.group_of(wrong).unwrap_err().code, "InvalidCursor", "{wrong}");
        }
    }

    #[test]
    fn read_only_shards_vanish_with_their_data() {
        let mut logstore = Logstore::new(0, 1, Place::default());
        logstore.shard(0).unwrap().data.append(b"", 0, 1_000);
        logstore.split(2_000, 0, Cut::Into(2)).unwrap();
        logstore.retain(10_000, 9_500);
        assert!(logstore.shards.contains_key(&0));
        logstore.retain(20_000, 9_500);
        assert_eq!(logstore.shards.keys().copied().collect::<Vec<_>>(), [1, 2]);
    }
}
