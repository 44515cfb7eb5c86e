//! The receiver's own surface: counters out, faults and restarts in.
//!
//! Why: a test drives the sink of another process, and a capacity run reads its counters while it goes.
//! Invariants: it is neither counted nor disturbed by faults, and needs no token.   Bounds: none.
//! Driven by: `conn`, for paths under `/_loadgen/`.   Spec: none; the paths are in `answer`.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Mode;
use super::http::Head;
use super::reply::Reply;
use super::state::Shared;
use crate::fault::{FaultPlan, parse_duration};
use crate::verify::Sent;

/// Answers: `GET stats`, `GET verdict?sent=2x1000`, `POST faults` (body: the plan), `POST restart` and `POST crash`
/// (body: the downtime; `?instance=1`), `POST health` (body: the code), `POST busy` (body: `on` or `off`).
pub(super) fn answer(shared: &Shared, head: &Head, body: &[u8]) -> Reply {
    match try_answer(shared, head, body) {
        Ok(Some(value)) => Reply::json(200, value.to_string() + "\n"),
        Ok(None) => Reply::not_found(404),
        Err(why) => Reply::json(400, json!({ "error": format!("{why:#}") }).to_string() + "\n"),
    }
}

fn try_answer(shared: &Shared, head: &Head, body: &[u8]) -> Result<Option<Value>> {
    let text = std::str::from_utf8(body)?.trim();
    let done = Ok(Some(json!({ "done": true })));
    match (head.method.as_str(), head.path.strip_prefix("/_loadgen/").unwrap_or_default()) {
        ("GET", "stats") => Ok(Some(stats(shared))),
        ("GET", "verdict") => {
            let sent = head.parameter("sent").map(|text| text.parse::<Sent>()).transpose()?;
            Ok(Some(serde_json::to_value(shared.store.verdict(sent.as_ref()))?))
        }
        ("POST", "faults") => {
            let plan =
                if text.contains('\n') { FaultPlan::parse_toml(text)? } else { FaultPlan::parse(text)? };
            shared.set_faults(plan)?;
            done
        }
        ("POST", kind @ ("restart" | "crash")) => {
            let downtime = if text.is_empty() { Duration::ZERO } else { parse_duration(text)? };
            let instance =
                head.parameter("instance").map_or(Ok(0), |text| text.parse()).context("instance")?;
            ensure!(instance < shared.instances.len(), "there is no instance {instance}");
            shared.restart(instance, downtime, kind == "crash", Instant::now());
            done
        }
        ("POST", "health") => {
            let code = text.parse().context("the body is a code")?;
            ensure!(matches!(code, 17..=20 | 23), "health codes are 17 to 20 and 23");
            shared.set_health(code);
            done
        }
        ("POST", "busy") => {
            shared.set_busy(text == "on");
            done
        }
        _ => Ok(None),
    }
}

/// Everything that is counted.
pub(super) fn stats(shared: &Shared) -> Value {
    let counts = shared.store.counts();
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let stats = &shared.stats;
    let faults: Vec<_> = shared
        .faults()
        .hits()
        .into_iter()
        .map(|(rule, hits)| json!({ "rule": rule, "hits": hits }))
        .collect();
    let instances: Vec<_> = (0..shared.instances.len())
        .map(|index| {
            let pending = shared.with_channels(index, |channels| channels.pending());
            json!({ "incarnation": shared.incarnation(index), "pending_acks": pending })
        })
        .collect();
    json!({
        "mode": match shared.config.mode { Mode::Fast => "fast", Mode::Strict => "strict" },
        "requests": load(&stats.requests),
        "bytes": load(&stats.body_bytes),
        "events": counts.events,
        "unique": counts.unique,
        "duplicates": counts.duplicates,
        "waiting": counts.waiting,
        "crashed": counts.crashed,
        "skipped": load(&stats.skipped),
        "unidentified": counts.unidentified,
        "exact": counts.exact,
        "equivalent": counts.equivalent,
        "mismatched": counts.mismatched,
        "samples": shared.store.samples(),
        "acks": load(&stats.acks_issued),
        "acks_told": load(&stats.acks_told),
        "polls": load(&stats.polls),
        "refusals": stats.refusals(),
        "oddities": stats.oddities(),
        "connections": load(&stats.connections),
        "open_connections": load(&stats.open),
        "instances": instances,
        "faults": faults,
    })
}
