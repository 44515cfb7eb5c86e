//! The admin port: what happens inside, and hands on the levers.
//!
//! Why: a test in another process, or a person with curl, has to see leases and break things while clients run.
//! Invariants: none of it is part of the service, so it has a port of its own and wants no signature.
//! Bounds: none; for test machines.
//! Driven by: any HTTP client.   Spec: none. `GET /` lists the calls.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::api::Service;
use super::http::{Handler, Reply, Request};
use super::levers::Levers;
use super::store::{Fill, Store};
use crate::fault::FaultPlan;
use crate::payload::{Payload, Profile};

/// The handler of the admin port.
#[derive(Debug)]
pub(crate) struct Admin {
    service: Arc<Service>,
}

const HELP: &str = "\
What it did (all answers are JSON):
GET  /stats                            counts of what was served
GET  /state                            shards, groups, live consumers, leases, checkpoints
GET  /commits?from=N                   attempts to save checkpoints, taken or refused, from the N-th
GET  /events?from=SEQ                  who joined and left, which lease moved when, who pulled which shard
GET  /processors                       consume processors and their SPL
GET  /verdict                          commits taken from, and pulls by, consumers that did not have the shard
What it does to its clients:
POST /fault                            body: the new fault plan, inline or TOML; empty for none
POST /skew?ms=N                        moves the clock
POST /processor?name=N                 body: the SPL of a consume processor; empty to remove it
POST /set?LEVER=VALUE[&...]            moves levers ('none' takes a limit away):
                                       pull-bytes-max retention expired zstd shard-reads shard-read-bytes project-reads assign-delay over-needs-commit
                                       cut (a part of the User-Agent of clients that get no answer any more)
What happens to a logstore (project= and logstore= name it; the first of each if absent):
POST /split?shard=N[&into=N]           splits a shard evenly
POST /merge?shard=N                    merges a shard with its right neighbour
POST /expire?shard=N[&before=GROUP]    forgets old log groups; all that can be read if none is given
POST /vanish?shard=N                   removes a read-only shard, as retention does in the end
POST /append?shard=N&records=N[&profile=P&seed=N&group_logs=N]   adds generated logs
POST /rate?bytes=N                     lets out what is held back at this rate, which the shards share
POST /revoke?group=G&shard=N           takes a shard from its holder at once
POST /hand-over?group=G&shard=N&to=C   lets the holder give a shard to another live consumer
POST /delete-group?group=G             deletes a group with its checkpoints
Keys of a RAM role (--ram-role), as a virtual machine's metadata service hands them out:
GET  /latest/meta-data/ram/security-credentials/[ROLE]
The paths may have /_loadgen in front.
";

impl Admin {
    pub(crate) fn new(service: Arc<Service>) -> Self {
        Self { service }
    }

    fn answer(&self, request: &Request) -> Result<Reply> {
        let path = request.path.strip_prefix("/_loadgen").unwrap_or(&request.path).trim_start_matches('/');
        let value = match (request.method.as_str(), path) {
            ("GET", "") => {
                return Ok(Reply::new(200).with("content-type", "text/plain").with_body(HELP.into()));
            }
            ("GET", path) => self.seen(path, request)?,
            ("POST", "processor" | "set" | "fault" | "faults" | "skew") => self.changed(path, request)?,
            ("POST", path) => self.reshaped(path, request)?,
            _ => None,
        };
        Ok(value.map_or_else(|| Reply::new(404), |value| Reply::json(&value)))
    }

    /// What it did.
    fn seen(&self, path: &str, request: &Request) -> Result<Option<Value>> {
        let from = number(request, "from")?.unwrap_or(0);
        Ok(Some(match path {
            "stats" => serde_json::to_value(self.service.counters.snapshot(self.service.faults().hits()))?,
            "state" => self.state()?,
            "commits" => {
                let world = self.service.world();
                let later = world.commits.iter().skip(usize::try_from(from).unwrap_or(usize::MAX));
                serde_json::to_value(later.collect::<Vec<_>>())?
            }
            "events" => {
                let journal = self.service.world().journal.clone();
                serde_json::to_value(journal.events(from))?
            }
            "verdict" => {
                let world = self.service.world();
                serde_json::to_value(world.journal.judge(&world.commits))?
            }
            "processors" => json!(self.service.levers().processors()),
            _ => return Ok(None),
        }))
    }

    /// What it does to its clients.
    fn changed(&self, path: &str, request: &Request) -> Result<Option<Value>> {
        let body = String::from_utf8_lossy(&request.body);
        // All of a request or nothing of it.
        let mut levers = Levers::clone(&self.service.levers());
        match path {
            "processor" => levers.set_processor(text(request, "name")?, body.trim())?,
            "set" => request.query.iter().try_for_each(|(name, value)| levers.set(name, value))?,
            "skew" => {
                let skew = text(request, "ms")?.parse().context("ms is not a number")?;
                self.service.skew_ms.store(skew, Ordering::Relaxed);
            }
            _ => self.service.set_faults(plan(&body)?)?,
        }
        self.service.move_levers(|now| *now = levers);
        Ok(Some(json!({})))
    }

    /// What happens to a logstore.
    fn reshaped(&self, path: &str, request: &Request) -> Result<Option<Value>> {
        let store = self.store(request);
        Ok(Some(match path {
            "split" => {
                let into = number(request, "into")?.unwrap_or(2);
                json!(store.split_into(shard(request)?, u32::try_from(into)?)?)
            }
            "merge" => json!(store.merge(shard(request)?)?),
            "expire" => {
                json!(store.expire_before(shard(request)?, number(request, "before")?.unwrap_or(u64::MAX))?)
            }
            "vanish" => json!(store.vanish(shard(request)?)?),
            "rate" => json!(store.set_rate(number(request, "bytes")?.context("bytes is missing")?)?),
            "append" => json!(append(&store, request)?),
            "revoke" => json!(store.revoke(text(request, "group")?, shard(request)?)?),
            "hand-over" => {
                json!(store.hand_over(text(request, "group")?, shard(request)?, text(request, "to")?)?)
            }
            "delete-group" => json!(store.delete_group(text(request, "group")?)?),
            _ => return Ok(None),
        }))
    }

    fn store(&self, request: &Request) -> Store<'_> {
        let (project, logstore) = self.service.config.stores.first().cloned().unwrap_or_default();
        let named = |name: &str, default: String| request.param(name).map_or(default, str::to_owned);
        Store::new(&self.service, named("project", project), named("logstore", logstore))
    }

    fn state(&self) -> Result<Value> {
        let stores: Vec<(String, String)> = {
            let world = self.service.world();
            let of = |(project, it): (&String, &super::world::Project)| {
                it.logstores.keys().map(|logstore| (project.clone(), logstore.clone())).collect::<Vec<_>>()
            };
            world.projects.iter().flat_map(of).collect()
        };
        let mut all = Vec::new();
        for (project, logstore) in stores {
            let store = Store::new(&self.service, project.clone(), logstore.clone());
            all.push(json!({
                "project": project,
                "logstore": logstore,
                "shards": store.shards()?,
                "groups": store.groups()?,
            }));
        }
        Ok(Value::Array(all))
    }
}

impl Handler for Admin {
    async fn handle(&self, request: Request) -> Reply {
        if let Some(path) = request.path.strip_prefix("/latest/") {
            return self.service.metadata(&request, path).await;
        }
        match self.answer(&request) {
            Ok(reply) => reply,
            Err(error) => {
                let mut reply = Reply::json(&json!({ "error": format!("{error:#}") }));
                reply.status = 400;
                reply
            }
        }
    }

    fn now_ms(&self) -> u64 {
        self.service.now_ms()
    }
}

fn append(store: &Store<'_>, request: &Request) -> Result<()> {
    let profile: Profile =
        request.param("profile").unwrap_or("access-log").parse().map_err(anyhow::Error::msg)?;
    let group_logs = number(request, "group_logs")?.unwrap_or(100);
    let payload = Payload::new(profile, number(request, "seed")?.unwrap_or(1))
        .with_logs_per_group(u32::try_from(group_logs)?);
    let records = number(request, "records")?.context("records is missing")?;
    store.fill(shard(request)?, Fill::new(payload, records))
}

fn plan(text: &str) -> Result<FaultPlan> {
    if text.lines().any(|line| line.trim_start().starts_with("faults")) {
        return FaultPlan::parse_toml(text);
    }
    FaultPlan::parse(text.trim())
}

fn shard(request: &Request) -> Result<u32> {
    match number(request, "shard")? {
        Some(shard) => Ok(u32::try_from(shard)?),
        None => bail!("shard is missing"),
    }
}

fn text<'a>(request: &'a Request, name: &'static str) -> Result<&'a str> {
    request.param(name).with_context(|| format!("{name} is missing"))
}

fn number(request: &Request, name: &str) -> Result<Option<u64>> {
    request.param(name).map(str::parse).transpose().with_context(|| format!("{name} is not a number"))
}
