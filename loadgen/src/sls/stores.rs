//! Projects, logstores, shards and writes.
//!
//! Why: the calls around the consumer: what tools and the vendor's SDK use to set things up and to fill them.
//! Invariants: 1. a write is one log group and one cursor step, whole or refused.
//! Bounds: a group has at most `PUT_RAW_MAX` bytes.
//! Driven by: `api`.   Spec: protocol/sls.md 3.1, 3.6, 3.7.

use prost::Message as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::api::{Call, Service};
use super::codec::Codec;
use super::error::{ApiError, ApiResult};
use super::http::Reply;
use super::stats::add;
use super::world::{Cut, Logstore, Project, Shard};
use crate::payload::{LogGroup, LogTag};

/// Documents say 5 MB to 10 MB; the client's own limit is 30 MB.
const PUT_RAW_MAX: usize = 10 << 20;

#[derive(Deserialize)]
struct ProjectBody {
    #[serde(rename = "projectName")]
    name: String,
    /// Description, resource group and the like.
    #[serde(flatten)]
    _others: Map<String, Value>,
}

#[derive(Deserialize)]
struct CreateBody {
    #[serde(rename = "logstoreName")]
    name: String,
    ttl: Option<u32>,
    #[serde(rename = "shardCount")]
    shards: u32,
    #[serde(rename = "appendMeta", default)]
    append_meta: bool,
    /// A logstore has many more options, none of which changes what a consumer sees.
    #[serde(flatten)]
    _others: Map<String, Value>,
}

impl Service {
    pub(crate) fn list_shards(&self, call: &Call<'_>) -> ApiResult<Reply> {
        let mut world = self.world();
        let logstore = world.logstore(&call.project, &call.route.logstore)?;
        Ok(Reply::json(&logstore.shards.values().map(Shard::describe).collect()))
    }

    pub(crate) fn split(&self, call: &Call<'_>) -> ApiResult<Reply> {
        let cut = match (call.request.param("key"), call.request.param("shardCount")) {
            (Some(key), None | Some("2")) => Cut::At(parse_key(key)?),
            (None, None) => Cut::Into(2),
            (None, Some(count)) => match count.parse() {
                Ok(count @ 2..=256) => Cut::Into(count),
                _ => return Err(ApiError::parameter(format!("shardCount {count} is not in [2, 256]"))),
            },
            (Some(_), Some(_)) => return Err(ApiError::parameter("a key splits into 2 shards")),
        };
        self.reshape(call, |logstore, shard| logstore.split(call.now_ms, shard, cut))
    }

    pub(crate) fn merge(&self, call: &Call<'_>) -> ApiResult<Reply> {
        self.reshape(call, |logstore, shard| logstore.merge(call.now_ms, shard))
    }

    pub(crate) fn get_project(&self, call: &Call<'_>) -> ApiResult<Reply> {
        let mut world = self.world();
        let project = world.project(&call.project)?;
        Ok(Reply::json(&json!({
            "projectName": call.project,
            "description": "",
            "status": "Normal",
            "owner": "1234567890",
            "region": self.config.region,
            "createTime": project.created_s.to_string(),
            "lastModifyTime": project.created_s.to_string(),
        })))
    }

    pub(crate) fn create_project(&self, call: &Call<'_>) -> ApiResult<Reply> {
        let body: ProjectBody = call.json()?;
        if body.name != call.project {
            let text = format!("projectName {} is not that of the host, {}", body.name, call.project);
            return Err(ApiError::parameter(text));
        }
        let mut world = self.world();
        if world.projects.contains_key(&body.name) {
            return Err(ApiError::new(
                "ProjectAlreadyExist",
                format!("project {} already exists", body.name),
            ));
        }
        world.projects.insert(body.name, Project::new(call.now_ms));
        Ok(Reply::new(200))
    }

    pub(crate) fn list_logstores(&self, call: &Call<'_>) -> ApiResult<Reply> {
        let number = |name: &str, default: usize| match call.request.param(name) {
            None => Ok(default),
            Some(text) => {
                text.parse().map_err(|_| ApiError::parameter(format!("{name} {text} is not a number")))
            }
        };
        let (offset, size) = (number("offset", 0)?, number("size", 500)?);
        let pattern = call.request.param("logstoreName").unwrap_or_default();
        let mut world = self.world();
        let project = world.project(&call.project)?;
        let names: Vec<&String> = project.logstores.keys().filter(|name| name.contains(pattern)).collect();
        let page: Vec<&&String> = names.iter().skip(offset).take(size).collect();
        Ok(Reply::json(&json!({ "count": page.len(), "total": names.len(), "logstores": page })))
    }

    pub(crate) fn create_logstore(&self, call: &Call<'_>) -> ApiResult<Reply> {
        let body: CreateBody = call.json()?;
        if body.name.is_empty() || !(1..=256).contains(&body.shards) {
            return Err(ApiError::parameter("a logstore has a name and 1 to 256 shards"));
        }
        let mut world = self.world();
        let place = world.journal.at(&call.project, &body.name);
        let project = world.project(&call.project)?;
        if project.logstores.contains_key(&body.name) {
            return Err(ApiError::new(
                "LogStoreAlreadyExist",
                format!("logstore {} already exists", body.name),
            ));
        }
        let mut logstore = Logstore::new(call.now_ms, body.shards, place);
        logstore.ttl_days = body.ttl.unwrap_or(30);
        logstore.append_meta = body.append_meta;
        project.logstores.insert(body.name, logstore);
        Ok(Reply::new(200))
    }

    pub(crate) fn get_logstore(&self, call: &Call<'_>) -> ApiResult<Reply> {
        let mut world = self.world();
        let logstore = world.logstore(&call.project, &call.route.logstore)?;
        Ok(Reply::json(&json!({
            "logstoreName": call.route.logstore,
            "ttl": logstore.ttl_days,
            "shardCount": logstore.shards.values().filter(|shard| shard.readonly_since_ms.is_none()).count(),
            "enable_tracking": false,
            "autoSplit": false,
            "maxSplitShard": 64,
            "appendMeta": logstore.append_meta,
            "telemetryType": "",
            "hot_ttl": logstore.ttl_days,
            "mode": "standard",
            "createTime": logstore.created_s,
            "lastModifyTime": logstore.created_s,
        })))
    }

    pub(crate) fn delete_logstore(&self, call: &Call<'_>) -> ApiResult<Reply> {
        let mut world = self.world();
        world.logstore(&call.project, &call.route.logstore)?;
        world.project(&call.project)?.logstores.remove(&call.route.logstore);
        Ok(Reply::new(200))
    }

    pub(crate) fn put(&self, call: &Call<'_>) -> ApiResult<Reply> {
        let raw = put_body(call)?;
        let mut group = LogGroup::decode(raw.as_slice()).map_err(|error| {
            ApiError::new("PostBodyInvalid", format!("the body is not a LogGroup: {error}"))
        })?;
        let key = put_key(call)?;
        let mut world = self.world();
        let logstore = world.logstore(&call.project, &call.route.logstore)?;
        let logs = group.logs.len() as u64;
        let bytes = if logstore.append_meta {
            append_meta(&mut group, call.now_ms);
            group.encode_to_vec()
        } else {
            raw
        };
        logstore.shard_for(key)?.data.append(&bytes, logs, call.now_ms);
        add(&self.counters.puts, 1);
        Ok(Reply::new(200))
    }

    fn reshape(
        &self,
        call: &Call<'_>,
        act: impl FnOnce(&mut Logstore, u32) -> ApiResult<Vec<u32>>,
    ) -> ApiResult<Reply> {
        let mut world = self.world();
        let logstore = world.logstore(&call.project, &call.route.logstore)?;
        let shard = call.route.shard.ok_or_else(|| ApiError::parameter("the path names no shard"))?;
        let involved = act(logstore, shard)?;
        if !call.levers.over_needs_commit {
            logstore.finish_drained(call.now_ms);
        }
        Ok(Reply::json(
            &involved.iter().filter_map(|id| logstore.shards.get(id)).map(Shard::describe).collect(),
        ))
    }
}

impl Logstore {
    /// The read-write shard of a key; without one they take turns.
    fn shard_for(&mut self, key: Option<u128>) -> ApiResult<&mut Shard> {
        let turn = self.puts;
        self.puts = self.puts.wrapping_add(1);
        let mut writable: Vec<&mut Shard> =
            self.shards.values_mut().filter(|shard| shard.readonly_since_ms.is_none()).collect();
        let index = match key {
            Some(key) => writable.iter().position(|shard| {
                (shard.begin..shard.end).contains(&key) || shard.end == u128::MAX && key == shard.end
            }),
            None => turn.checked_rem(writable.len()),
        };
        match index {
            Some(index) if index < writable.len() => Ok(writable.swap_remove(index)),
            _ => Err(ApiError::new("LogStoreWithoutShard", "the logstore has no shard for this write")),
        }
    }
}

fn put_key(call: &Call<'_>) -> ApiResult<Option<u128>> {
    if call.request.path.ends_with("/shards/route") {
        return parse_key(call.param("key")?).map(Some);
    }
    Ok(None)
}

fn put_body(call: &Call<'_>) -> ApiResult<Vec<u8>> {
    let request = call.request;
    let kind = request.header("content-type").unwrap_or_default();
    if kind != "application/x-protobuf" {
        return Err(ApiError::new(
            "InvalidContentType",
            format!("content type {kind} is not application/x-protobuf"),
        ));
    }
    let codec = match request.header("x-log-compresstype") {
        None => Codec::None,
        Some(name) => Codec::from_name(name).ok_or_else(|| {
            ApiError::new("InvalidEncoding", format!("x-log-compresstype {name} is not known"))
        })?,
    };
    let size = request.header("x-log-bodyrawsize").unwrap_or_default();
    let raw_size = match size.parse::<usize>() {
        Ok(size) => size,
        Err(_) if codec == Codec::None && size.is_empty() => request.body.len(),
        Err(_) => return Err(ApiError::parameter(format!("x-log-bodyrawsize {size:?} is not a size"))),
    };
    if raw_size > PUT_RAW_MAX {
        return Err(ApiError::new("PostBodyTooLarge", format!("body size {raw_size} is over {PUT_RAW_MAX}")));
    }
    codec.decompress(&request.body, raw_size).map_err(|error| {
        ApiError::new("PostBodyInvalid", format!("the body cannot be decompressed: {error}"))
    })
}

fn append_meta(group: &mut LogGroup, now_ms: u64) {
    for (key, value) in
        [("__client_ip__", "127.0.0.1".to_owned()), ("__receive_time__", (now_ms / 1000).to_string())]
    {
        group.log_tags.push(LogTag { key: key.into(), value: value.into() });
    }
}

/// 32 hexadecimal digits.
pub(crate) fn parse_key(text: &str) -> ApiResult<u128> {
    if text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(u128::from_str_radix(text, 16).unwrap_or_default());
    }
    Err(ApiError::parameter(format!("key {text} is not 32 hexadecimal digits")))
}
