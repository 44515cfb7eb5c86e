//! What the shards of a pipeline share on the source's side: settings, keys, the clock for signatures, buffers.
//!
//! Why: keys change while shards work, and the wall clock is only needed in request dates.
//! Invariants: 1. a request is signed with the newest keys and the current time at the moment it is written.
//! Bounds: at most [`BUFFERS_MAX`] idle buffers of each kind, of at most twice the wanted body size.
//! Driven by: `pipeline`, `shard`.

use core::time::Duration;
use std::collections::BTreeMap;

use super::api::pull_head::PullHead;
use super::api::{ApiRequest, Caller, PullOptions, Scratch, pull_logs};
use super::body::Compression;
use super::position;
use super::sign::Credentials;
use crate::proto::flow::Flow;
use crate::proto::http1::HttpError;
use crate::proto::ids::{Cursor, ShardId};
use crate::proto::time::{Instant, UnixTime};

/// Idle buffers of a kind that are kept.
pub const BUFFERS_MAX: usize = 4;

/// Settings of the source, checked.
#[derive(Clone, Debug)]
pub struct Params {
    /// Host, user agent and signature version.
    pub caller: Caller,
    /// The logstore.
    pub logstore: String,
    /// SPL text, empty for none.
    pub query: String,
    /// Consume processor, empty for none.
    pub processor: String,
    /// How bodies are wanted.
    pub compression: Compression,
    /// Most log groups per pull.
    pub max_log_groups: u32,
    /// Pause after a pull that reached the end.
    pub fetch_interval: Duration,
    /// Time for a whole pull.
    pub timeout: Duration,
    /// Decompressed bytes that a pull aims at: the number of log groups follows from it.
    pub pull_bytes: u64,
    /// Largest decompressed body that is accepted at all.
    pub raw_bytes_max: u64,
}

/// The shared part of the source of one pipeline on one executor.
#[derive(Debug)]
pub struct Source {
    params: Params,
    credentials: Credentials,
    compression: Compression,
    wall: UnixTime,
    wall_at: Instant,
    scratch: Scratch,
    buffers: Vec<Vec<u8>>,
    raws: Vec<Vec<u8>>,
    /// Positions that were answered with later data.
    doubted: BTreeMap<ShardId, Cursor>,
    /// Numbers of log groups have holes here: a jump says nothing.
    has_holes: bool,
}

impl Source {
    /// With the keys of the start and the wall clock of now.
    pub fn new(params: Params, credentials: Credentials, now: Instant, wall: UnixTime) -> Self {
        let compression = params.compression;
        Self {
            params,
            credentials,
            compression,
            wall,
            wall_at: now,
            scratch: Scratch::default(),
            buffers: Vec::new(),
            raws: Vec::new(),
            doubted: BTreeMap::new(),
            has_holes: false,
        }
    }

    /// True where SLS answers with data behind the position that was asked for: what was there has expired, and it
    /// moved to the oldest data without a word. Group `i` of `n` has the number `last - (n - 1) + i`. Whoever hears of
    /// it looks whether something is missing; if it is the same position again, nothing was, and the numbers have holes.
    pub(super) fn is_behind(&mut self, shard: ShardId, head: &PullHead, asked: &Cursor, again: bool) -> bool {
        let filtered = !self.params.query.is_empty() || !self.params.processor.is_empty();
        let (Some(last), Some(number)) = (head.read_last_cursor, position::number(asked)) else {
            return false;
        };
        if filtered || self.has_holes || head.count == 0 || last.saturating_sub(head.count - 1) <= number {
            return false;
        }
        if !again && self.doubted.insert(shard, asked.clone()).as_ref() == Some(asked) {
            self.has_holes = true;
        }
        !self.has_holes
    }

    /// The settings.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// New keys.
    pub fn set_credentials(&mut self, credentials: Credentials) {
        self.credentials = credentials;
    }

    /// The wall clock as it is at `now`.
    pub fn set_wall_clock(&mut self, now: Instant, wall: UnixTime) {
        self.wall = wall;
        self.wall_at = now;
    }

    /// The wall clock at `now`.
    pub fn wall(&self, now: Instant) -> UnixTime {
        let ns = u64::try_from(now.since(self.wall_at).as_nanos()).unwrap_or(0);
        UnixTime(self.wall.0.saturating_add(ns))
    }

    /// Pause after a pull that reached the end.
    pub fn fetch_interval(&self) -> Duration {
        self.params.fetch_interval
    }

    /// Largest decompressed body: never more than the budget for bodies.
    pub fn raw_limit(&self, flow: &Flow) -> u64 {
        self.params.raw_bytes_max.min(flow.bodies.limit())
    }

    /// What pulls are asked for now.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Asks for a simpler compression than the refused one from now on, unless another shard has done so already.
    /// False when there is none.
    pub fn fall_back_compression(&mut self, refused: Compression) -> bool {
        if self.compression != refused {
            return true;
        }
        let simpler = self.compression.fall_back();
        if let Some(simpler) = simpler {
            self.compression = simpler;
        }
        simpler.is_some()
    }

    /// Appends a signed pull request.
    pub fn write_pull(
        &mut self,
        now: Instant,
        shard: ShardId,
        (cursor, end): (&Cursor, Option<&Cursor>),
        count: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), HttpError> {
        let options = PullOptions {
            count,
            query: &self.params.query,
            processor: &self.params.processor,
            compression: self.compression,
        };
        let request: ApiRequest = pull_logs(&self.params.logstore, shard, cursor, end, &options);
        let wall = self.wall(now);
        request.signed_head(&self.params.caller, &self.credentials, wall, &mut self.scratch, out)
    }

    /// An empty buffer for a body as it is received.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    /// A buffer of [`Self::take_buffer`] that is no longer needed.
    pub fn give_buffer(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        keep(&mut self.buffers, buffer, self.params.pull_bytes);
    }

    /// A buffer for a decompressed body. It holds an old one: bytes that are there already need not be zeroed before
    /// they are written over.
    pub fn take_raw(&mut self) -> Vec<u8> {
        self.raws.pop().unwrap_or_default()
    }

    /// A buffer of [`Self::take_raw`] that is no longer needed.
    pub fn give_raw(&mut self, raw: Vec<u8>) {
        keep(&mut self.raws, raw, self.params.pull_bytes);
    }
}

fn keep(idle: &mut Vec<Vec<u8>>, buffer: Vec<u8>, pull_bytes: u64) {
    let fits = buffer.capacity() as u64 <= pull_bytes.saturating_mul(2);
    if idle.len() < BUFFERS_MAX && fits && buffer.capacity() > 0 {
        idle.push(buffer);
    }
}
