//! The admin port: what happens inside, and hands on the levers.
//!
//! Why: a test in another process, or a person with curl, has to see leases and break things while clients run.
//! Invariants: none of it is part of the service, so it has a port of its own and wants no signature.
//! Bounds: none; for test machines.
//! Driven by: any HTTP client.   Spec: none. `GET /_loadgen/` lists the calls.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::api::Service;
use super::http::{Handler, Reply, Request};
use super::store::{Fill, Store};
use crate::fault::FaultPlan;
use crate::payload::{Payload, Profile};

/// The handler of the admin port.
#[derive(Debug)]
pub(crate) struct Admin {
    service: Arc<Service>,
}

const HELP: &str = "\
GET  /_loadgen/stats                            counts of what was served
GET  /_loadgen/state                            shards, groups, leases, checkpoints
GET  /_loadgen/commits?from=N                   attempts to save checkpoints, from the N-th
POST /_loadgen/faults                           body: the new fault plan, inline or TOML; empty for none
POST /_loadgen/skew?ms=N                        moves the clock
POST /_loadgen/split?shard=N                    splits a shard in its middle
POST /_loadgen/merge?shard=N                    merges a shard with its right neighbour
POST /_loadgen/expire?shard=N[&before=GROUP]    forgets old log groups; all that can be read if none is given
POST /_loadgen/append?shard=N&records=N[&profile=P&seed=N&group_logs=N]   adds generated logs
POST /_loadgen/revoke?group=G&shard=N           takes a shard from its holder at once
POST /_loadgen/hand-over?group=G&shard=N&to=C   lets the holder give a shard to another consumer
POST /_loadgen/delete-group?group=G             deletes a group with its checkpoints
All but the first five take project= and logstore=; the first of each if absent.
";

impl Admin {
    pub(crate) fn new(service: Arc<Service>) -> Self {
        Self { service }
    }

    fn answer(&self, request: &Request) -> Result<Reply> {
        let Some(path) = request.path.strip_prefix("/_loadgen/") else { return Ok(Reply::new(404)) };
        let store = self.store(request);
        let value = match (request.method.as_str(), path) {
            ("GET", "") => {
                return Ok(Reply::new(200).with("content-type", "text/plain").with_body(HELP.into()));
            }
            ("GET", "stats") => {
                serde_json::to_value(self.service.counters.snapshot(self.service.faults().hits()))?
            }
            ("GET", "state") => self.state()?,
            ("GET", "commits") => {
                let from = number(request, "from")?.unwrap_or(0);
                let world = self.service.world();
                let later = world.commits.iter().skip(usize::try_from(from).unwrap_or(usize::MAX));
                serde_json::to_value(later.collect::<Vec<_>>())?
            }
            ("POST", "faults") => {
                self.service.set_faults(plan(&String::from_utf8_lossy(&request.body))?)?;
                json!({})
            }
            ("POST", "skew") => {
                let skew = request.param("ms").context("ms is missing")?.parse()?;
                self.service.skew_ms.store(skew, Ordering::Relaxed);
                json!({})
            }
            ("POST", "split") => json!(store.split(shard(request)?)?),
            ("POST", "merge") => json!(store.merge(shard(request)?)?),
            ("POST", "expire") => {
                store.expire_before(shard(request)?, number(request, "before")?.unwrap_or(u64::MAX))?;
                json!({})
            }
            ("POST", "append") => {
                append(&store, request)?;
                json!({})
            }
            ("POST", "revoke") => json!(store.revoke(text(request, "group")?, shard(request)?)?),
            ("POST", "hand-over") => {
                json!(store.hand_over(text(request, "group")?, shard(request)?, text(request, "to")?)?)
            }
            ("POST", "delete-group") => json!(store.delete_group(text(request, "group")?)?),
            _ => return Ok(Reply::new(404)),
        };
        Ok(Reply::json(&value))
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
    request.param(name).context(name)
}

fn number(request: &Request, name: &str) -> Result<Option<u64>> {
    request.param(name).map(str::parse).transpose().with_context(|| format!("{name} is not a number"))
}
