//! Cursors and pulls.
//!
//! Why: this is the call that carries the data, so it must be exact in its headers and cheap.
//! Invariants: 1. `x-log-count` equals the groups in the body; with a filter, cursors move on by the groups read. 2. the three required headers stand in every answer.
//! 3. nothing is compressed under the lock.   Bounds: `pull_bytes_max` of raw data, or one group if that is larger.
//! Driven by: `api`.   Spec: protocol/sls.md 3.2, 3.3, 3.4.

use prost::Message as _;
use prost::bytes::Bytes;
use serde_json::json;

use super::api::{Call, Service};
use super::codec::Codec;
use super::data::Range;
use super::error::{ApiError, ApiResult};
use super::http::Reply;
use super::journal::Pull;
use super::spl::{Lines, Program};
use super::stats::add;
use super::world::Shard;
use crate::payload::LogGroupList;

/// The encoded groups.
struct Answer {
    body: Vec<u8>,
    raw_bytes: usize,
    groups: u64,
    /// Where a filter has read them.
    lines: Option<Lines>,
}

/// What a pull has to say besides its data.
struct Pulled {
    range: Range,
    next_cursor: String,
    /// Decimal of the last group's cursor.
    last: Option<u64>,
    time_s: u64,
    at_end: bool,
}

impl Service {
    pub(crate) fn pull(&self, call: &Call<'_>) -> ApiResult<Reply> {
        let codec = codec_of(call)?;
        let program = program_of(call)?;
        let pulled = self.take(call)?;
        let range = &pulled.range;
        let answer = match &program {
            None => self.bodies.compose(range, codec).map(|body| Answer {
                body,
                raw_bytes: range.raw_bytes,
                groups: range.groups(),
                lines: None,
            }),
            Some(program) => filter(range, program, codec),
        };
        let answer = answer.map_err(|error| {
            ApiError::new("InternalServerError", format!("the answer cannot be encoded: {error}"))
        })?;
        self.count(&pulled.range, &answer);
        let mut reply = Reply::new(200)
            .with("content-type", "application/x-protobuf")
            .with("x-log-bodyrawsize", answer.raw_bytes.to_string())
            .with("x-log-count", answer.groups.to_string())
            .with("x-log-cursor", pulled.next_cursor)
            .with("x-log-cursor-time", pulled.time_s.to_string());
        if let (Some(name), false) = (codec.name(), answer.body.is_empty()) {
            reply = reply.with("x-log-compresstype", name);
        }
        if let Some(lines) = answer.lines {
            reply = reply
                .with("x-log-rawdatasize", range.raw_bytes.to_string())
                .with("x-log-rawdatacount", range.groups().to_string())
                .with("x-log-rawdatalines", lines.read.to_string())
                .with("x-log-resultlines", lines.passed.to_string())
                .with("x-log-failedlines", lines.failed.to_string());
        } else if let Some(last) = pulled.last {
            // From it clients count back one cursor for each group of the body, which a filter would make wrong.
            reply = reply.with("x-log-read-last-cursor", last.to_string());
        }
        if pulled.at_end {
            reply = reply.with("x-log-end-of-cursor", "1");
        }
        Ok(reply.with_body(answer.body))
    }

    pub(crate) fn cursor(&self, call: &Call<'_>) -> ApiResult<Reply> {
        let from = call.param("from")?;
        self.with_shard(call, |shard| {
            let group = match from {
                "begin" => shard.data.oldest(),
                "end" => shard.data.visible(),
                text => {
                    let unix_s: u64 = text.parse().map_err(|_| {
                        ApiError::parameter(format!("from {text} is not begin, end or a time"))
                    })?;
                    if unix_s >= call.now_ms / 1000 {
                        shard.data.visible()
                    } else {
                        shard.data.first_received_at(unix_s)
                    }
                }
            };
            Ok(Reply::json(&json!({ "cursor": shard.cursor(group) })))
        })
    }

    pub(crate) fn cursor_time(&self, call: &Call<'_>) -> ApiResult<Reply> {
        let cursor = call.param("cursor")?;
        let expired = call.levers.expired;
        self.with_shard(call, |shard| {
            let group = expired.apply(shard.group_of(cursor)?, shard.data.oldest(), cursor)?;
            Ok(Reply::json(&json!({ "cursor_time": time_of(shard, group, call.now_ms) })))
        })
    }

    fn take(&self, call: &Call<'_>) -> ApiResult<Pulled> {
        let cursor = call.param("cursor")?;
        let count = call.param("count")?;
        let count = count
            .parse()
            .ok()
            .filter(|count| (1..=1000).contains(count))
            .ok_or_else(|| ApiError::parameter(format!("count {count} is not in [1, 1000]")))?;
        let end_cursor = call.request.param("end_cursor").or_else(|| call.request.param("endCursor"));
        let levers = &call.levers;
        self.check_project_quota(call)?;
        let agent = call.request.header("user-agent").unwrap_or_default();
        self.with_shard(call, |shard| {
            check_quota(shard, call.now_ms, levers.reads_per_second, levers.read_bytes_per_second)?;
            let first = levers.expired.apply(shard.group_of(cursor)?, shard.data.oldest(), cursor)?;
            let end = match end_cursor.filter(|end| !end.is_empty()) {
                Some(end) => shard.group_of(end)?,
                None => u64::MAX,
            };
            let range = shard.data.range(first, count, end, levers.pull_bytes_max);
            shard.reads.count += 1;
            shard.reads.bytes += range.raw_bytes as u64;
            shard.place.pull(call.now_ms, Pull { shard: shard.id, agent, first, next: range.next });
            Ok(Pulled {
                next_cursor: shard.cursor(range.next),
                last: (range.next > range.first).then(|| shard.cursor_number(range.next - 1)),
                time_s: time_of(shard, range.next, call.now_ms),
                at_end: range.next == shard.data.visible(),
                range,
            })
        })
    }

    fn check_project_quota(&self, call: &Call<'_>) -> ApiResult<()> {
        let Some(limit) = call.levers.project_reads_per_minute else { return Ok(()) };
        let mut world = self.world();
        let reads = &mut world.project(&call.project)?.reads;
        reads.turn(call.now_ms / 60_000);
        if reads.count >= limit {
            return Err(ApiError::new("ReadQuotaExceed", "Project read quota exceed: qps"));
        }
        reads.count += 1;
        Ok(())
    }

    /// Runs with the call's shard, its data moved on to the present.
    fn with_shard<T>(&self, call: &Call<'_>, act: impl FnOnce(&mut Shard) -> ApiResult<T>) -> ApiResult<T> {
        let mut world = self.world();
        let id = call.route.shard.ok_or_else(|| ApiError::parameter("the path names no shard"))?;
        let shard = world.shard(&call.project, &call.route.logstore, id)?;
        shard.data.advance(call.now_ms);
        act(shard)
    }

    fn count(&self, range: &Range, answer: &Answer) {
        let counters = &self.counters;
        add(&counters.pulls, 1);
        add(&counters.pulls_empty, u64::from(answer.groups == 0));
        add(&counters.groups, answer.groups);
        add(&counters.records, answer.lines.map_or(range.logs, |lines| lines.passed));
        add(&counters.raw_bytes, answer.raw_bytes as u64);
        add(&counters.wire_bytes, answer.body.len() as u64);
    }
}

/// The filter that a pull asks for: a processor by its name, which comes first, or a query.
fn program_of(call: &Call<'_>) -> ApiResult<Option<Program>> {
    let param = |name| call.request.param(name).filter(|value| !value.is_empty());
    if param("queryId").is_some() {
        return Err(ApiError::parameter("queryId is not served by this emulator"));
    }
    let program = match (param("processor"), param("query")) {
        (Some(name), _) => {
            let found = call.levers.processor(name).cloned();
            Some(found.ok_or_else(|| ApiError::parameter(format!("processor {name} does not exist")))?)
        }
        (None, Some(query)) => {
            let read = Program::parse(query);
            Some(read.map_err(|mistake| ApiError::parameter(format!("query: {mistake}")))?)
        }
        (None, None) => None,
    };
    match param("pullMode") {
        None => {}
        Some("scan_on_stream") if program.is_some() => {}
        Some("scan_on_stream") => return Err(ApiError::parameter("pullMode scan_on_stream wants a query")),
        Some(mode) => return Err(ApiError::parameter(format!("pullMode {mode} is not scan_on_stream"))),
    }
    Ok(program)
}

/// What a filter leaves of a range.
fn filter(range: &Range, program: &Program, codec: Codec) -> anyhow::Result<Answer> {
    let mut lines = Lines::default();
    let read = LogGroupList::decode(Bytes::from(range.raw()))?;
    let log_groups: Vec<_> =
        read.log_groups.into_iter().filter_map(|group| program.apply(group, &mut lines)).collect();
    let groups = log_groups.len() as u64;
    let raw = LogGroupList { log_groups }.encode_to_vec();
    let body = if raw.is_empty() { Vec::new() } else { codec.compress(&raw)? };
    Ok(Answer { body, raw_bytes: raw.len(), groups, lines: Some(lines) })
}

/// How the answer is to be encoded.
fn codec_of(call: &Call<'_>) -> ApiResult<Codec> {
    let accept = call.request.header("accept").unwrap_or("*/*");
    if !["application/x-protobuf", "*/*"].contains(&accept) {
        return Err(ApiError::parameter(format!("accept {accept} is not application/x-protobuf")));
    }
    let codec = Codec::from_accept(call.request.header("accept-encoding").unwrap_or_default());
    if codec == Codec::Zstd && !call.levers.zstd {
        return Err(ApiError::new("InvalidAcceptEncoding", "zstd is not supported"));
    }
    Ok(codec)
}

/// Receive time of a group; at the end, where there is none yet, the present.
fn time_of(shard: &Shard, group: u64, now_ms: u64) -> u64 {
    shard.data.received(group).map_or(now_ms / 1000, u64::from)
}

fn check_quota(shard: &mut Shard, now_ms: u64, reads: Option<u64>, bytes: Option<u64>) -> ApiResult<()> {
    shard.reads.turn(now_ms / 1000);
    if reads.is_some_and(|limit| shard.reads.count >= limit) {
        return Err(ApiError::new("ShardReadQuotaExceed", "shard read qps exceed quota limits"));
    }
    if bytes.is_some_and(|limit| shard.reads.bytes >= limit) {
        return Err(ApiError::new("ShardReadQuotaExceed", "shard read bytes exceed quota limits"));
    }
    Ok(())
}
