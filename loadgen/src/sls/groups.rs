//! The consumer group calls.
//!
//! Why: these carry leases and checkpoints, where a forwarder is exact or loses data.
//! Invariants: 1. every attempt to save a checkpoint is recorded, taken or refused.
//! Bounds: `groups_max` groups per logstore.
//! Driven by: `api`.   Spec: protocol/sls.md 3.5, 5.6.

use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{Call, Service};
use super::error::{ApiError, ApiResult};
use super::http::Reply;
use super::lease::{Leases, Refusal, Settings};
use super::stats::add;
use super::world::{Checkpoint, Commit, Group, Logstore};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateBody {
    #[serde(rename = "consumerGroup")]
    name: String,
    timeout: u64,
    order: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UpdateBody {
    timeout: Option<u64>,
    order: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointBody {
    shard: u32,
    checkpoint: String,
}

impl Service {
    pub(crate) fn create_group(&self, call: &Call<'_>) -> ApiResult<Reply> {
        let body: CreateBody = call.json()?;
        let timeout_ms = timeout_ms(body.timeout)?;
        if body.name.is_empty() || body.name.len() > 256 {
            return Err(ApiError::parameter("the name of a consumer group has 1 to 256 characters"));
        }
        let mut world = self.world();
        let logstore = world.logstore(&call.project, &call.route.logstore)?;
        if logstore.groups.contains_key(&body.name) {
            let text = format!("consumer group {} already exists", body.name);
            return Err(ApiError::new("ConsumerGroupAlreadyExist", text));
        }
        if logstore.groups.len() >= self.config.groups_max {
            let text = format!("a logstore has at most {} consumer groups", self.config.groups_max);
            return Err(ApiError::new("ConsumerGroupQuotaExceed", text));
        }
        let assign_delay_ms = call.levers.assign_delay_ms();
        let settings = Settings { timeout_ms, in_order: body.order, assign_delay_ms };
        let leases = Leases::new(settings, &body.name, logstore.place.clone());
        logstore.add_group(call.now_ms, &body.name, leases);
        Ok(Reply::new(200))
    }

    pub(crate) fn update_group(&self, call: &Call<'_>) -> ApiResult<Reply> {
        let body: UpdateBody = call.json()?;
        let timeout = body.timeout.map(timeout_ms).transpose()?;
        self.with_group(call, |group| {
            group.leases.update(call.now_ms, timeout, body.order);
            Ok(Reply::new(200))
        })
    }

    pub(crate) fn delete_group(&self, call: &Call<'_>) -> ApiResult<Reply> {
        let mut world = self.world();
        let logstore = world.logstore(&call.project, &call.route.logstore)?;
        logstore.group(&call.route.group)?;
        logstore.delete_group(call.now_ms, &call.route.group);
        Ok(Reply::new(200))
    }

    pub(crate) fn list_groups(&self, call: &Call<'_>) -> ApiResult<Reply> {
        let mut world = self.world();
        let logstore = world.logstore(&call.project, &call.route.logstore)?;
        let groups: Vec<Value> = logstore
            .groups
            .iter()
            .map(|(name, group)| {
                json!({
                    "name": name,
                    "timeout": group.leases.timeout_ms() / 1000,
                    "order": group.leases.in_order(),
                })
            })
            .collect();
        Ok(Reply::json(&Value::Array(groups)))
    }

    pub(crate) fn heartbeat(&self, call: &Call<'_>) -> ApiResult<Reply> {
        let consumer = call.param("consumer")?;
        if consumer.is_empty() {
            return Err(ApiError::parameter("parameter consumer is empty"));
        }
        let held: Vec<u32> = call.json()?;
        let shards =
            self.with_group(call, |group| Ok(group.leases.heartbeat(call.now_ms, consumer, &held)))?;
        add(&self.counters.heartbeats, 1);
        Ok(Reply::json(&json!(shards)))
    }

    pub(crate) fn checkpoints(&self, call: &Call<'_>) -> ApiResult<Reply> {
        let wanted: Option<u32> = match call.request.param("shard") {
            None => None,
            Some(text) => {
                Some(text.parse().map_err(|_| ApiError::parameter(format!("shard {text} is not a number")))?)
            }
        };
        self.with_group(call, |group| {
            let shards =
                group.leases.states().into_keys().filter(|shard| wanted.is_none_or(|only| only == *shard));
            let never = Checkpoint::default();
            let entries: Vec<Value> = shards
                .map(|shard| {
                    let saved = group.checkpoints.get(&shard).unwrap_or(&never);
                    json!({
                        "shard": shard,
                        "checkpoint": saved.cursor,
                        "updateTime": saved.update_time_us,
                        "consumer": saved.consumer,
                    })
                })
                .collect();
            Ok(Reply::json(&Value::Array(entries)))
        })
    }

    pub(crate) fn update_checkpoint(&self, call: &Call<'_>) -> ApiResult<Reply> {
        let body: CheckpointBody = call.json()?;
        let consumer = call.request.param("consumer").unwrap_or_default();
        let force = match call.request.param("forceSuccess") {
            Some(text) if text.eq_ignore_ascii_case("true") => true,
            Some(text) if text.eq_ignore_ascii_case("false") => false,
            None => false,
            Some(text) => {
                return Err(ApiError::parameter(format!("forceSuccess {text} is not true or false")));
            }
        };
        if consumer.is_empty() && !force {
            return Err(ApiError::parameter("forceSuccess must be true when consumer is empty"));
        }
        let mut world = self.world();
        let journal = world.journal.clone();
        let logstore = world.logstore(&call.project, &call.route.logstore)?;
        if let Ok(group) = logstore.group(&call.route.group) {
            group.leases.expire(call.now_ms);
        }
        // Before it acts: to finish a shard moves its lease.
        let seq = journal.number();
        let position =
            logstore.shard(body.shard).ok().and_then(|shard| shard.group_of(&body.checkpoint).ok());
        let outcome = save(logstore, call, &body, consumer, force);
        world.record(Commit {
            seq,
            at_ms: call.now_ms,
            project: call.project.clone(),
            logstore: call.route.logstore.clone(),
            group: call.route.group.clone(),
            consumer: consumer.to_owned(),
            shard: body.shard,
            position,
            force,
            refused: outcome.as_ref().err().map(|error| error.code.to_string()),
        });
        let counters = &self.counters;
        add(if outcome.is_ok() { &counters.commits } else { &counters.commits_refused }, 1);
        outcome.map(|()| Reply::new(200))
    }

    /// Runs with the call's group.
    fn with_group<T>(&self, call: &Call<'_>, act: impl FnOnce(&mut Group) -> ApiResult<T>) -> ApiResult<T> {
        let mut world = self.world();
        act(world.logstore(&call.project, &call.route.logstore)?.group(&call.route.group)?)
    }
}

fn save(
    logstore: &mut Logstore,
    call: &Call<'_>,
    body: &CheckpointBody,
    consumer: &str,
    force: bool,
) -> ApiResult<()> {
    let finishes = logstore.shard(body.shard).and_then(|shard| {
        shard.data.advance(call.now_ms);
        let position = shard.group_of(&body.checkpoint)?;
        Ok(shard.is_finished_at(position))
    });
    let group = logstore.group(&call.route.group)?;
    group
        .leases
        .may_commit(body.shard, consumer, force, finishes == Ok(true))
        .map_err(|refusal| refused(refusal, body.shard, consumer))?;
    let finishes = finishes?;
    group.leases.committed(call.now_ms, body.shard, consumer, finishes);
    let saved = Checkpoint {
        cursor: body.checkpoint.clone(),
        update_time_us: call.now_ms * 1000,
        consumer: consumer.to_owned(),
    };
    group.checkpoints.insert(body.shard, saved);
    Ok(())
}

fn refused(refusal: Refusal, shard: u32, consumer: &str) -> ApiError {
    match refusal {
        Refusal::ShardNotExist => ApiError::new("ShardNotExist", format!("shard {shard} does not exist")),
        Refusal::ConsumerNotExist => {
            ApiError::new("ConsumerNotExist", format!("consumer {consumer} does not exist"))
        }
        Refusal::ConsumerNotMatch => {
            ApiError::new("ConsumerNotMatch", format!("shard {shard} is not held by consumer {consumer}"))
        }
    }
}

fn timeout_ms(seconds: u64) -> ApiResult<u64> {
    if (1..=86_400).contains(&seconds) {
        Ok(seconds * 1000)
    } else {
        Err(ApiError::parameter(format!("timeout {seconds} is not in [1, 86400] seconds")))
    }
}
