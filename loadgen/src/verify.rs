//! Compares what a sink stored with what was sent.
//!
//! Why: "nothing lost" needs a count per record, not per request, and it must hold for runs that are far larger than
//! memory: so a bit per log, not the log, and the log is made again when its content is to be compared.
//! Invariants: 1. a number is unique once; every further arrival is a duplicate. 2. A number beyond the sender's
//! count is unexpected, never a replacement for a lost one.   Bounds: one bit per log, at most 2^36 logs and 4096
//! shards; what lies outside is counted as unexpected.
//! Driven by: the sinks (`Seen::record` per stored event), then `Seen::verdict`.   Spec: contract.md.

pub mod expect;
pub mod json;

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::payload::{Payload, Seq};

/// Which logs have been seen, per shard.
#[derive(Debug, Default)]
pub struct Seen {
    shards: BTreeMap<u32, ShardSeen>,
    out_of_range: u64,
}

/// What one arrival was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Its number is the highest so far.
    InOrder,
    /// New, but a higher number came before it.
    Late,
    /// Seen before.
    Again,
    /// No shard or number that a sender of ours gives out.
    OutOfRange,
}

/// How many logs were sent, per shard; the numbers from 0 on without a hole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent(pub BTreeMap<u32, u64>);

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Logs that were sent; absent when nobody told, then `lost` counts the holes.
    pub sent: Option<u64>,
    /// Different logs that were stored.
    pub stored_unique: u64,
    /// Stored once more than once.
    pub duplicates: u64,
    /// Sent and not stored.
    pub lost: u64,
    /// Arrived for the first time after a log with a higher number.
    pub out_of_order: u64,
    /// Stored with another content than was sent (only counted where contents are compared).
    pub mismatched: u64,
    /// Stored but never sent, or not to be identified.
    pub unexpected: u64,
    /// The first lost logs.
    pub missing: Vec<String>,
}

impl Seen {
    /// Notes one log.
    pub fn record(&mut self, seq: Seq) -> Arrival {
        if seq.shard >= MAX_SHARDS || seq.number >= MAX_NUMBER {
            self.out_of_range += 1;
            return Arrival::OutOfRange;
        }
        self.shards.entry(seq.shard).or_default().record(seq.number)
    }

    /// Different logs seen.
    pub fn unique(&self) -> u64 {
        self.shards.values().map(|shard| shard.unique).sum()
    }

    /// Different logs seen, per shard.
    pub fn per_shard(&self) -> BTreeMap<u32, u64> {
        self.shards.iter().map(|(shard, seen)| (*shard, seen.unique)).collect()
    }

    /// Arrivals of logs seen before.
    pub fn duplicates(&self) -> u64 {
        self.shards.values().map(|shard| shard.again).sum()
    }

    /// First arrivals after a higher number of the same shard.
    pub fn late(&self) -> u64 {
        self.shards.values().map(|shard| shard.late).sum()
    }

    /// Whether this log was seen.
    pub fn contains(&self, seq: Seq) -> bool {
        self.shards.get(&seq.shard).is_some_and(|shard| shard.contains(seq.number))
    }

    /// Judges the run. `unseen` says which logs cannot be recognised by this sink (those without a number, in the
    /// fast mode): they are expected nowhere. Without `sent`, everything up to the highest number counts as sent.
    pub fn verdict(&self, sent: Option<&Sent>, unseen: Option<&Payload>) -> Verdict {
        let assumed = Sent(self.shards.iter().map(|(shard, seen)| (*shard, seen.end)).collect());
        let expected = sent.unwrap_or(&assumed);
        let mut verdict = Verdict {
            sent: sent.map(Sent::total),
            stored_unique: self.unique(),
            duplicates: self.duplicates(),
            lost: 0,
            out_of_order: self.late(),
            mismatched: 0,
            unexpected: self.out_of_range,
            missing: Vec::new(),
        };
        for (shard, count) in &expected.0 {
            let recognisable = count - unseen.map_or(0, |payload| payload.unnumbered_before(*count));
            let found = self.shards.get(shard).map_or(0, |seen| seen.unique_below(*count));
            let lost = recognisable.saturating_sub(found);
            verdict.lost += lost;
            if lost > 0 {
                self.name_missing(*shard, *count, unseen, &mut verdict.missing);
            }
        }
        let known = |shard: u32| expected.0.get(&shard).copied().unwrap_or(0);
        verdict.unexpected += self
            .shards
            .iter()
            .map(|(shard, seen)| seen.unique - seen.unique_below(known(*shard)))
            .sum::<u64>();
        verdict
    }

    fn name_missing(&self, shard: u32, count: u64, unseen: Option<&Payload>, names: &mut Vec<String>) {
        let is_expected = |number: &u64| unseen.is_none_or(|payload| payload.is_numbered(*number));
        let missing = (0..count).map(|number| Seq { shard, number });
        let missing = missing.filter(|seq| !self.contains(*seq) && is_expected(&seq.number));
        names.extend(missing.take(MAX_NAMED.saturating_sub(names.len())).map(|seq| seq.to_string()));
    }
}

impl Sent {
    /// The same number of logs in each of the first shards.
    pub fn even(shards: u32, logs: u64) -> Self {
        Self((0..shards).map(|shard| (shard, logs)).collect())
    }

    /// Logs of all shards.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

impl FromStr for Sent {
    type Err = anyhow::Error;

    /// Reads `0=100000,1=100000`, or `2x100000` for the first two shards.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let number =
            |text: &str| text.trim().parse::<u64>().with_context(|| format!("`{text}` is not a count"));
        if let Some((shards, logs)) = text.split_once('x') {
            let shards =
                shards.trim().parse().with_context(|| format!("`{shards}` is not a number of shards"))?;
            ensure!(shards <= MAX_SHARDS, "at most {MAX_SHARDS} shards");
            return Ok(Self::even(shards, number(logs)?));
        }
        let entry = |item: &str| {
            let (shard, count) = item.split_once('=').context("wants SHARD=COUNT or SHARDSxCOUNT")?;
            Ok((shard.trim().parse().with_context(|| format!("shard `{shard}`"))?, number(count)?))
        };
        text.split(',')
            .filter(|item| !item.trim().is_empty())
            .map(entry)
            .collect::<anyhow::Result<_>>()
            .map(Self)
    }
}

impl Verdict {
    /// Whether every log was stored, unchanged, and nothing else was. Duplicates and order are allowed to differ.
    pub fn is_complete(&self) -> bool {
        self.lost == 0 && self.mismatched == 0 && self.unexpected == 0
    }

    /// Whether every log was stored exactly once, unchanged and in order.
    pub fn is_exact(&self) -> bool {
        self.is_complete() && self.duplicates == 0 && self.out_of_order == 0
    }
}

/// The logs of one shard as a bitmap in chunks, so that a wild number costs one chunk and not a gigabyte.
#[derive(Debug, Default)]
struct ShardSeen {
    chunks: Vec<Option<Box<Chunk>>>,
    unique: u64,
    again: u64,
    late: u64,
    /// One more than the highest number.
    end: u64,
}

type Chunk = [u64; CHUNK_WORDS];

impl ShardSeen {
    fn record(&mut self, number: u64) -> Arrival {
        let (chunk, word, bit) = place(number);
        if chunk >= self.chunks.len() {
            self.chunks.resize_with(chunk + 1, || None);
        }
        let word = self
            .chunks
            .get_mut(chunk)
            .map(|chunk| chunk.get_or_insert_with(|| Box::new([0; CHUNK_WORDS])))
            .and_then(|chunk| chunk.get_mut(word));
        let Some(word) = word else { return Arrival::OutOfRange };
        if *word & bit != 0 {
            self.again += 1;
            return Arrival::Again;
        }
        *word |= bit;
        self.unique += 1;
        if number < self.end {
            self.late += 1;
            return Arrival::Late;
        }
        self.end = number + 1;
        Arrival::InOrder
    }

    fn contains(&self, number: u64) -> bool {
        let (chunk, word, bit) = place(number);
        self.chunks
            .get(chunk)
            .and_then(Option::as_ref)
            .and_then(|chunk| chunk.get(word))
            .is_some_and(|word| word & bit != 0)
    }

    fn unique_below(&self, count: u64) -> u64 {
        if count >= self.end {
            return self.unique;
        }
        let (last, word, bit) = place(count);
        let whole: u64 = self.chunks.iter().take(last).flatten().map(|chunk| ones(chunk.as_slice())).sum();
        let Some(chunk) = self.chunks.get(last).and_then(Option::as_ref) else { return whole };
        let words: u64 = ones(chunk.get(..word).unwrap_or_default());
        let rest = chunk.get(word).map_or(0, |word| (word & (bit - 1)).count_ones());
        whole + words + u64::from(rest)
    }
}

fn ones(words: &[u64]) -> u64 {
    words.iter().map(|word| u64::from(word.count_ones())).sum()
}

fn place(number: u64) -> (usize, usize, u64) {
    let word = usize::try_from(number / 64).unwrap_or(usize::MAX);
    (word / CHUNK_WORDS, word % CHUNK_WORDS, 1 << (number % 64))
}

const CHUNK_WORDS: usize = 1024;
const MAX_SHARDS: u32 = 4096;
const MAX_NUMBER: u64 = 1 << 36;
const MAX_NAMED: usize = 10;

#[cfg(test)]
mod tests;
