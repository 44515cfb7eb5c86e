//! The JSON answers of SLS, read into plain data.
//!
//! Why: answers of several server generations differ in keys, units and empty values; one place smooths that.
//! Invariants: 1. a shard number is never guessed: one that is not a number from 0 to 2^32-1 refuses the answer,
//! because working on the wrong shard loses data. 2. unknown keys are ignored.
//! Bounds: bodies up to [`ANSWER_BYTES_MAX`], lists up to [`ITEMS_MAX`], cursors up to `CURSOR_BYTES_MAX`.
//! Driven by: `control`, with the body of a 200. Spec: protocol notes 3.1 to 3.5, 3.7.

use serde_json::{Map, Value};
use thiserror::Error;

use crate::proto::ids::{CURSOR_BYTES_MAX, Cursor, ShardId};
use crate::proto::sls::error::clean;
use crate::proto::time::UnixTime;

/// Largest answer that is read.
pub const ANSWER_BYTES_MAX: usize = 8 << 20;

/// Most items of a list: shards of a logstore, groups, checkpoints.
pub const ITEMS_MAX: usize = 16_384;

/// A 200 whose body is not the answer to the call.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the answer to {call} is not what SLS sends: {what}; the body begins with {body:?}")]
pub struct AnswerError {
    /// The call.
    pub call: &'static str,
    /// What is wrong.
    pub what: String,
    /// Beginning of the body.
    pub body: String,
}

/// A consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// After how long a silent consumer loses its shards; 0 where the server did not say it.
    pub timeout_secs: u64,
    /// True where the shards of a split wait for their parent.
    pub order: bool,
}

/// A saved position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The shard.
    pub shard: ShardId,
    /// Where to go on; empty where nothing was ever saved.
    pub cursor: Cursor,
    /// When it was saved.
    pub update_time: Option<UnixTime>,
    /// Who saved it.
    pub consumer: String,
}

/// A shard as `ListShards` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its number.
    pub id: ShardId,
    /// Whether it still takes data.
    pub status: ShardStatus,
    /// First hash key, 32 hex digits.
    pub begin_key: String,
    /// First hash key behind it.
    pub end_key: String,
}

/// Whether a shard still takes data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardStatus {
    /// It does.
    ReadWrite,
    /// It was split or merged, and goes away with its last log's retention.
    ReadOnly,
    /// Something new.
    Unknown,
}

/// The settings of a logstore that matter to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logstore {
    /// Days that logs are kept.
    pub ttl_days: Option<u64>,
    /// Shards that take data.
    pub shard_count: Option<u64>,
}

/// Answer to `list_groups`.
pub fn groups(body: &[u8]) -> Result<Vec<Group>, AnswerError> {
    Answer::new("ListConsumerGroup", body).objects(|group| {
        Ok(Group {
            // The key of `create_group` is taken too: a server that echoes it is not worth a failed start.
            name: text(group, "name")
                .or_else(|| text(group, "consumerGroup"))
                .ok_or("a group without a name")?,
            timeout_secs: group.get("timeout").and_then(whole).unwrap_or_default(),
            order: group.get("order").is_some_and(truth),
        })
    })
}

/// Answer to `heartbeat`: ascending, each shard once.
pub fn heartbeat(body: &[u8]) -> Result<Vec<ShardId>, AnswerError> {
    let mut shards = Answer::new("HeartBeat", body).items(shard_id)?;
    shards.sort_unstable();
    shards.dedup();
    Ok(shards)
}

/// Answer to `get_checkpoint`.
pub fn checkpoints(body: &[u8]) -> Result<Vec<Checkpoint>, AnswerError> {
    Answer::new("GetCheckPoint", body).objects(|checkpoint| {
        let shard = checkpoint.get("shard").ok_or("a checkpoint without a shard")?;
        Ok(Checkpoint {
            shard: shard_id(shard)?,
            cursor: match checkpoint.get("checkpoint") {
                None | Some(Value::Null) => Cursor::default(),
                Some(Value::String(text)) if text.is_empty() => Cursor::default(),
                Some(value) => cursor_value(value)?,
            },
            update_time: checkpoint.get("updateTime").and_then(whole).and_then(any_unit),
            consumer: text(checkpoint, "consumer").unwrap_or_default(),
        })
    })
}

/// Answer to `get_cursor`.
pub fn cursor(body: &[u8]) -> Result<Cursor, AnswerError> {
    Answer::new("GetCursor", body)
        .object(|answer| cursor_value(answer.get("cursor").ok_or("no \"cursor\" in it")?))
}

/// Answer to `get_cursor_time`: unix seconds.
pub fn cursor_time(body: &[u8]) -> Result<u64, AnswerError> {
    Answer::new("GetCursorTime", body)
        .object(|answer| answer.get("cursor_time").and_then(whole).ok_or("no \"cursor_time\" in it"))
}

/// Answer to `list_shards`, ascending.
pub fn shards(body: &[u8]) -> Result<Vec<Shard>, AnswerError> {
    let mut shards = Answer::new("ListShards", body).objects(|shard| {
        let id = shard.get("shardID").or_else(|| shard.get("shardId")).ok_or("a shard without a number")?;
        Ok(Shard {
            id: shard_id(id)?,
            status: match text(shard, "status").unwrap_or_default().to_ascii_lowercase().as_str() {
                "readwrite" => ShardStatus::ReadWrite,
                "readonly" => ShardStatus::ReadOnly,
                _ => ShardStatus::Unknown,
            },
            begin_key: text(shard, "inclusiveBeginKey").unwrap_or_default(),
            end_key: text(shard, "exclusiveEndKey").unwrap_or_default(),
        })
    })?;
    shards.sort_by_key(|shard| shard.id);
    Ok(shards)
}

/// Answer to `get_logstore`.
pub fn logstore(body: &[u8]) -> Result<Logstore, AnswerError> {
    Answer::new("GetLogstore", body).object(|answer| {
        Ok(Logstore {
            ttl_days: answer.get("ttl").and_then(whole),
            shard_count: answer.get("shardCount").and_then(whole),
        })
    })
}

/// A body with the name of its call.
struct Answer<'a> {
    call: &'static str,
    body: &'a [u8],
}

impl<'a> Answer<'a> {
    fn new(call: &'static str, body: &'a [u8]) -> Self {
        Self { call, body }
    }

    fn object<T>(
        &self,
        read: impl Fn(&Map<String, Value>) -> Result<T, &'static str>,
    ) -> Result<T, AnswerError> {
        match self.value()? {
            Value::Object(object) => read(&object).map_err(|what| self.refuse(what)),
            _ => Err(self.refuse("not a JSON object")),
        }
    }

    fn objects<T>(
        &self,
        read: impl Fn(&Map<String, Value>) -> Result<T, &'static str>,
    ) -> Result<Vec<T>, AnswerError> {
        self.items(|item| item.as_object().ok_or("an item that is not an object").and_then(&read))
    }

    fn items<T>(&self, read: impl Fn(&Value) -> Result<T, &'static str>) -> Result<Vec<T>, AnswerError> {
        match self.value()? {
            Value::Array(items) if items.len() > ITEMS_MAX => Err(self.refuse("too many items")),
            Value::Array(items) => {
                items.iter().map(|item| read(item).map_err(|what| self.refuse(what))).collect()
            }
            _ => Err(self.refuse("not a JSON array")),
        }
    }

    fn value(&self) -> Result<Value, AnswerError> {
        if self.body.len() > ANSWER_BYTES_MAX {
            return Err(self.refuse("too large"));
        }
        serde_json::from_slice(self.body).map_err(|error| self.refuse(&error.to_string()))
    }

    fn refuse(&self, what: &str) -> AnswerError {
        let start = self.body.get(..400).unwrap_or(self.body);
        AnswerError {
            call: self.call,
            what: what.to_owned(),
            body: clean(&String::from_utf8_lossy(start), 100),
        }
    }
}

/// Checks a cursor as a server sent it: not empty, not too long, nothing that a request could not carry.
pub(super) fn cursor_text(text: &str) -> Result<Cursor, &'static str> {
    if text.is_empty() {
        Err("an empty cursor")
    } else if text.len() > CURSOR_BYTES_MAX {
        Err("a cursor that is too long")
    } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Err("a cursor with characters that no cursor has")
    } else {
        Ok(Cursor::new(text))
    }
}

fn cursor_value(value: &Value) -> Result<Cursor, &'static str> {
    cursor_text(value.as_str().ok_or("a cursor that is not text")?)
}

fn shard_id(value: &Value) -> Result<ShardId, &'static str> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number.map(ShardId).ok_or("a shard number that is none")
}

fn text(object: &Map<String, Value>, key: &str) -> Option<String> {
    object.get(key).and_then(Value::as_str).map(str::to_owned)
}

/// A whole number, also as text.
fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_u64(),
    }
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Bool(truth) => *truth,
        Value::String(text) => text.eq_ignore_ascii_case("true"),
        _ => false,
    }
}

/// The documentation says seconds, its samples are microseconds: the size tells, for any date from 1973 to 5138.
fn any_unit(number: u64) -> Option<UnixTime> {
    let nanos_each = match number {
        0 => return None,
        1..100_000_000_000 => 1_000_000_000,
        100_000_000_000..100_000_000_000_000 => 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000,
        _ => 1,
    };
    number.checked_mul(nanos_each).map(UnixTime)
}
