//! Cursors and pulls.
//!
//! Why: this is the call that carries the data, so it must be exact in its headers and cheap.
//! Invariants: 1. `x-log-count` equals the groups in the body. 2. the three required headers stand in every answer.
//! 3. nothing is compressed under the lock.   Bounds: `pull_bytes_max` of raw data, or one group if that is larger.
//! Driven by: `api`.   Spec: protocol/sls.md 3.2, 3.3, 3.4.

use serde_json::json;

use super::api::{Call, Service};
use super::codec::Codec;
use super::data::Range;
use super::error::{ApiError, ApiResult};
use super::http::Reply;
use super::stats::add;
use super::world::Shard;

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
        let codec = self.codec_of(call)?;
        for name in ["query", "processor", "queryId", "pullMode"] {
            if call.request.param(name).is_some_and(|value| !value.is_empty()) {
                return Err(ApiError::parameter(format!("{name} is not served by this emulator")));
            }
        }
        let pulled = self.take(call)?;
        let body = pulled.range.compose(codec).map_err(|error| {
            ApiError::new("InternalServerError", format!("the answer cannot be encoded: {error}"))
        })?;
        self.count(&pulled.range, body.len());
        let range = &pulled.range;
        let mut reply = Reply::new(200)
            .with("content-type", "application/x-protobuf")
            .with("x-log-bodyrawsize", range.raw_bytes.to_string())
            .with("x-log-count", range.groups().to_string())
            .with("x-log-cursor", pulled.next_cursor)
            .with("x-log-cursor-time", pulled.time_s.to_string());
        if let (Some(name), false) = (codec.name(), body.is_empty()) {
            reply = reply.with("x-log-compresstype", name);
        }
        if let Some(last) = pulled.last {
            reply = reply.with("x-log-read-last-cursor", last.to_string());
        }
        if pulled.at_end {
            reply = reply.with("x-log-end-of-cursor", "1");
        }
        Ok(reply.with_body(body))
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
        let expired = self.config.expired;
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
        let config = &self.config;
        self.with_shard(call, |shard| {
            check_quota(shard, call.now_ms, config.reads_per_second, config.read_bytes_per_second)?;
            let first = config.expired.apply(shard.group_of(cursor)?, shard.data.oldest(), cursor)?;
            let end = match end_cursor.filter(|end| !end.is_empty()) {
                Some(end) => shard.group_of(end)?,
                None => u64::MAX,
            };
            let range = shard.data.range(first, count, end, config.pull_bytes_max);
            shard.reads.count += 1;
            shard.reads.bytes += range.raw_bytes as u64;
            Ok(Pulled {
                next_cursor: shard.cursor(range.next),
                last: (range.next > range.first).then(|| shard.cursor_number(range.next - 1)),
                time_s: time_of(shard, range.next, call.now_ms),
                at_end: range.next == shard.data.visible(),
                range,
            })
        })
    }

    fn codec_of(&self, call: &Call<'_>) -> ApiResult<Codec> {
        let accept = call.request.header("accept").unwrap_or("*/*");
        if !["application/x-protobuf", "*/*"].contains(&accept) {
            return Err(ApiError::parameter(format!("accept {accept} is not application/x-protobuf")));
        }
        let codec = Codec::from_accept(call.request.header("accept-encoding").unwrap_or_default());
        if codec == Codec::Zstd && !self.config.zstd {
            return Err(ApiError::new("InvalidAcceptEncoding", "zstd is not supported"));
        }
        Ok(codec)
    }

    /// Runs with the call's shard, its data moved on to the present.
    fn with_shard<T>(&self, call: &Call<'_>, act: impl FnOnce(&mut Shard) -> ApiResult<T>) -> ApiResult<T> {
        let mut world = self.world();
        let id = call.route.shard.ok_or_else(|| ApiError::parameter("the path names no shard"))?;
        let shard = world.shard(&call.project, &call.route.logstore, id)?;
        shard.data.advance(call.now_ms);
        act(shard)
    }

    fn count(&self, range: &Range, wire_bytes: usize) {
        let counters = &self.counters;
        add(&counters.pulls, 1);
        add(&counters.pulls_empty, u64::from(range.groups() == 0));
        add(&counters.groups, range.groups());
        add(&counters.records, range.logs);
        add(&counters.raw_bytes, range.raw_bytes as u64);
        add(&counters.wire_bytes, wire_bytes as u64);
    }
}

/// Receive time of a group; at the end, where there is none yet, the present.
fn time_of(shard: &Shard, group: u64, now_ms: u64) -> u64 {
    shard.data.received(group).map_or(now_ms / 1000, u64::from)
}

fn check_quota(shard: &mut Shard, now_ms: u64, reads: Option<u64>, bytes: Option<u64>) -> ApiResult<()> {
    shard.reads.turn(now_ms);
    if reads.is_some_and(|limit| shard.reads.count >= limit) {
        return Err(ApiError::new("ShardReadQuotaExceed", "shard read qps exceed quota limits"));
    }
    if bytes.is_some_and(|limit| shard.reads.bytes >= limit) {
        return Err(ApiError::new("ShardReadQuotaExceed", "shard read bytes exceed quota limits"));
    }
    Ok(())
}
