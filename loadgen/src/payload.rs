//! Seeded log groups: what the senders send and what the verifier expects, without a record of either.
//!
//! Why: a run of millions of logs can only be judged if both ends can make the same log again from its number. Keeping
//! what was sent costs the memory of the run; a plain random stream can only be read from its beginning.
//! Invariants: 1. a group depends on (profile, seed, shard, index, logs per group) and on nothing else. 2. The logs of a
//! shard are numbered 0, 1, 2, …; group `i` holds the numbers from `i * logs_per_group`. 3. Every log carries its number
//! in one content field `seq` = `<shard>-<number>`, except the logs without contents of `nasty`, whose number stands
//! in their time (`Payload::number_by_time`).   Bounds: one group in memory; a value has at most 1,000,000 bytes.
//! Driven by: emulator, senders and `verify`, from any thread.   Spec: alibaba-logs.md 0, 1, 2, 5; sls.md 4.

mod access;
mod audit;
mod builder;
mod nasty;
mod schema;
mod text;
mod vpc;

use std::fmt;
use std::str::FromStr;

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

pub use schema::{Content, Log, LogGroup, LogGroupList, LogTag};

/// What the logs look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// Web access log as a WAF writes it: 14 fields, about 600 bytes a log.
    AccessLog,
    /// `ActionTrail`: one field `event` with a whole JSON document as text.
    Audit,
    /// VPC flow log: many short fields with hyphens in their names.
    VpcFlow,
    /// Each group is of one of the other ordinary profiles.
    Mixed,
    /// The smallest useful log: `seq` and one short value.
    Tiny,
    /// Text that is not ASCII, all of it valid UTF-8.
    Utf8,
    /// Everything that breaks parsers: control characters, invalid UTF-8, repeated keys, empty and very long values.
    Nasty,
}

/// Number of a log within its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seq {
    /// The shard.
    pub shard: u32,
    /// Counts from 0 within the shard.
    pub number: u64,
}

/// An endless stream of log groups per shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    profile: Profile,
    seed: u64,
    logs_per_group: u32,
}

impl Payload {
    /// The stream of this profile and seed, with 100 logs in a group.
    pub const fn new(profile: Profile, seed: u64) -> Self {
        Self { profile, seed, logs_per_group: 100 }
    }

    /// The same stream cut into groups of another size (1 to 4096 logs).
    #[must_use]
    pub fn with_logs_per_group(mut self, count: u32) -> Self {
        self.logs_per_group = count.clamp(1, 4096);
        self
    }

    /// Logs in every group.
    pub const fn logs_per_group(&self) -> u32 {
        self.logs_per_group
    }

    /// The profile.
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    /// The `index`-th group of a shard.
    pub fn group(&self, shard: u32, index: u64) -> LogGroup {
        let mut rng = self.rng(shard, index);
        let first = index.wrapping_mul(u64::from(self.logs_per_group));
        let range = Range { shard, first, count: self.logs_per_group };
        let profile = match self.profile {
            Profile::Mixed => match rng.random_range(0..10_u32) {
                0..=4 => Profile::AccessLog,
                5 | 6 => Profile::VpcFlow,
                7 | 8 => Profile::Audit,
                _ => Profile::Utf8,
            },
            profile => profile,
        };
        match profile {
            Profile::AccessLog | Profile::Mixed => access::group(&mut rng, range),
            Profile::Audit => audit::group(&mut rng, range),
            Profile::VpcFlow => vpc::group(&mut rng, range),
            Profile::Tiny => text::tiny(&mut rng, range),
            Profile::Utf8 => text::utf8(&mut rng, range),
            Profile::Nasty => nasty::group(&mut rng, range),
        }
    }

    /// Group and position in the group of a log.
    pub fn locate(&self, number: u64) -> (u64, usize) {
        let size = u64::from(self.logs_per_group);
        (number / size, usize::try_from(number % size).unwrap_or(0))
    }

    /// Whether this log carries a `seq` field; only `nasty` has logs without contents.
    pub fn is_numbered(&self, number: u64) -> bool {
        self.profile != Profile::Nasty || !nasty::is_empty_log(number)
    }

    /// How many of the first `count` logs of a shard carry no `seq` field.
    pub fn unnumbered_before(&self, count: u64) -> u64 {
        if self.profile == Profile::Nasty { nasty::empty_logs_before(count) } else { 0 }
    }

    /// The number of a log without contents, read from its time.
    pub fn number_by_time(&self, seconds: u64, nanos: u32) -> Option<Seq> {
        if self.profile == Profile::Nasty { nasty::number_by_time(seconds, nanos) } else { None }
    }

    /// The shard of a log without contents, for a reader who sees whole seconds only.
    pub fn shard_of_unnumbered(&self, seconds: u64) -> Option<u32> {
        if self.profile == Profile::Nasty { nasty::shard_by_time(seconds) } else { None }
    }

    fn rng(&self, shard: u32, index: u64) -> ChaCha8Rng {
        let mut key = [0_u8; 32];
        let words = [self.seed, u64::from(shard), index, self.profile as u64];
        for (slot, word) in key.chunks_exact_mut(8).zip(words) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        ChaCha8Rng::from_seed(key)
    }
}

impl Seq {
    /// Reads `<shard>-<number>`; nothing else may stand beside it.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let at = text.iter().position(|&byte| byte == b'-')?;
        let (shard, number) = text.split_at_checked(at)?;
        Some(Self { shard: u32::try_from(decimal(shard)?).ok()?, number: decimal(number.get(1..)?)? })
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.shard, self.number)
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        <Self as clap::ValueEnum>::from_str(text, true)
    }
}

/// The logs that one group holds.
#[derive(Debug, Clone, Copy)]
struct Range {
    shard: u32,
    first: u64,
    count: u32,
}

impl Range {
    fn seqs(self) -> impl Iterator<Item = Seq> {
        (0..u64::from(self.count))
            .map(move |offset| Seq { shard: self.shard, number: self.first.wrapping_add(offset) })
    }
}

/// Time of a log: a thousand logs a second from a fixed moment on.
fn time_of(seq: Seq) -> u32 {
    BASE_TIME.wrapping_add(u32::try_from(seq.number / 1000 % 100_000_000).unwrap_or(0))
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| sum.wrapping_mul(10).wrapping_add(u64::from(digit)))
    })
}

/// 2026-01-02T03:00:45Z.
const BASE_TIME: u32 = 1_767_322_845;

#[cfg(test)]
mod tests;
