//! What is run and measured: one [`Spec`] is one run of servers and forwarder.
//!
//! Why: every figure that is quoted has to come from a run that anybody can repeat, so the runs are data.
//! Invariants: 1. names are unique: the table finds its figures by them.   Bounds: memory for the logs of a run, see
//! [`Spec::volume`].   Driven by: [`super::run`].   Spec: the targets of README.md, "Numbers".

use serde::{Deserialize, Serialize};

use crate::payload::Profile;

/// How logs become readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Load {
    /// So many raw bytes a second, over all shards.
    Rate(u64),
    /// So many raw bytes at once.
    Max(u64),
    /// Nothing comes after a few logs at the start.
    Idle,
    /// As [`Self::Max`], and the sink takes requests and never answers.
    Stuck(u64),
}

/// What the figure is plotted over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Axis {
    /// Nothing: a figure of its own.
    None,
    /// Shards at full speed.
    Shards,
    /// Shards that share one steady rate.
    Spread,
    /// Bytes a second.
    Rate,
}

/// One run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Spec {
    pub(super) name: String,
    pub(super) load: Load,
    pub(super) axis: Axis,
    pub(super) shards: u32,
    /// Processes in one consumer group.
    pub(super) consumers: u32,
    /// Of the measured part, in modes that have a length.
    pub(super) seconds: u64,
    /// Of the logs.
    pub(super) profile: String,
    pub(super) group_logs: u32,
    pub(super) batch_bytes: u64,
    pub(super) connections: u32,
    pub(super) depth: u32,
    pub(super) gzip: bool,
    pub(super) fetch_ms: u64,
    /// Executors of each process.
    pub(super) cores: u32,
    /// The sink acknowledges as an indexer does: later, when polled.
    pub(super) indexer_ack: bool,
    pub(super) memory_mib: u64,
    /// The sink takes syslog over TLS with this body in place of HEC: `json` or `kv`.
    #[serde(default)]
    pub(super) syslog: Option<String>,
    /// Stages are told apart meanwhile, which costs something.
    #[serde(default)]
    pub(super) sampled: bool,
}

impl Spec {
    /// The settings that everything else is compared with.
    pub(super) fn new(name: impl Into<String>, load: Load) -> Self {
        Self {
            name: name.into(),
            load,
            axis: Axis::None,
            shards: 1,
            consumers: 1,
            seconds: 10,
            profile: "access-log".to_owned(),
            group_logs: 100,
            batch_bytes: 1 << 20,
            connections: 2,
            depth: 4,
            gzip: false,
            fetch_ms: 200,
            cores: 1,
            indexer_ack: false,
            memory_mib: 256,
            syslog: None,
            sampled: false,
        }
    }

    pub(super) fn profile(&self) -> Profile {
        self.profile.parse().unwrap_or(Profile::AccessLog)
    }

    /// Raw bytes of logs to make beforehand.
    pub(super) fn volume(&self) -> u64 {
        match self.load {
            Load::Rate(rate) => rate.saturating_mul(WARM_SECONDS + self.seconds + 1),
            Load::Max(volume) | Load::Stuck(volume) => volume,
            Load::Idle => u64::from(self.shards) * 100_000,
        }
    }
}

/// The runs of a quick test: the promise, and full speed.
pub(super) fn quick(rate: Option<u64>, base: &Spec, volume: u64) -> Vec<Spec> {
    let full = |spec: Spec| Spec { shards: spec.shards.max(4), ..spec };
    let named = |name: &str, load| Spec { name: name.to_owned(), load, ..base.clone() };
    // Each sink has targets of its own.
    let (steady_name, full_name) = match base.syslog.as_deref() {
        None => (STEADY, FULL),
        Some("kv") => ("steady, syslog kv", SYSLOG_KV),
        Some(_) => ("steady, syslog json", SYSLOG_JSON),
    };
    match rate {
        Some(rate) => vec![
            Spec { axis: Axis::Rate, ..named(steady_name, Load::Rate(rate)) },
            full(named(full_name, Load::Max(volume))),
        ],
        None => vec![full(named(full_name, Load::Max(volume)))],
    }
}

/// One run at full speed for each kind of sink, to tell the stages apart.
pub(super) fn stages(base: &Spec, volume: u64) -> Vec<Spec> {
    let kinds = [("HEC", None), ("syslog json", Some("json")), ("syslog kv", Some("kv"))];
    let spec = |(name, body): (&str, Option<&str>)| Spec {
        name: format!("stages, {name}"),
        load: Load::Max(volume),
        shards: base.shards.max(4),
        syslog: body.map(str::to_owned),
        sampled: true,
        ..base.clone()
    };
    kinds.into_iter().map(spec).collect()
}

/// Everything that README.md quotes.
pub(super) fn sweep(rate: u64, base: &Spec, volume: u64) -> Vec<Spec> {
    let named = |name: String, load| Spec { name, load, ..base.clone() };
    let mut specs = quick(Some(rate), base, volume);
    specs.push(Spec { shards: 4, ..named(IDLE.to_owned(), Load::Idle) });
    specs.push(Spec { shards: 10, ..named(TEN.to_owned(), Load::Rate(10 * rate)) });
    specs.push(Spec { shards: 16, ..named(STUCK.to_owned(), Load::Stuck(volume)) });
    for shards in [1, 2, 4, 8, 16, 32, 64] {
        let name = format!("full speed, {shards} shards");
        specs.push(Spec { shards, axis: Axis::Shards, ..named(name, Load::Max(volume)) });
    }
    for rate in [1_000_000, 2_000_000, 5_000_000, 20_000_000, 50_000_000] {
        let name = format!("steady, {} MB/s", rate / 1_000_000);
        specs.push(Spec { axis: Axis::Rate, ..named(name, Load::Rate(rate)) });
    }
    // Shards at full speed bring more the more they are; here the work is the same.
    for shards in [1, 4, 16, 64] {
        let name = format!("steady, 50 MB/s over {shards} shards");
        specs.push(Spec { shards, axis: Axis::Spread, ..named(name, Load::Rate(50_000_000)) });
    }
    let full = |name: &str| Spec { shards: 4, ..named(format!("full speed, {name}"), Load::Max(volume)) };
    for (name, batch_bytes) in [("requests of 256 KiB", 256 << 10), ("requests of 4 MiB", 4 << 20)] {
        specs.push(Spec { batch_bytes, ..full(name) });
    }
    specs.push(Spec { connections: 1, ..full("1 connection") });
    specs.push(Spec { connections: 4, ..full("4 connections") });
    specs.push(Spec { depth: 1, ..full("1 request in flight") });
    specs.push(Spec { depth: 8, ..full("8 requests in flight") });
    specs.push(Spec { indexer_ack: true, ..full("indexer acknowledgement") });
    specs.push(Spec { gzip: true, ..full("gzip") });
    specs.push(Spec { profile: "tiny".to_owned(), ..full("tiny logs") });
    specs.push(Spec { profile: "utf8".to_owned(), ..full("not ASCII") });
    specs.push(Spec { profile: "mixed".to_owned(), ..full("mixed logs") });
    specs.push(Spec { group_logs: 5, ..full("5 logs a group") });
    for (name, body) in [(SYSLOG_JSON, "json"), (SYSLOG_KV, "kv")] {
        let syslog = Some(body.to_owned());
        specs.push(Spec { shards: 4, syslog, ..named(name.to_owned(), Load::Max(volume)) });
    }
    specs.push(Spec { fetch_ms: 20, ..named("steady, polls of 20 ms".to_owned(), Load::Rate(rate)) });
    specs.push(Spec { shards: 4, ..named("steady, 4 shards".to_owned(), Load::Rate(rate)) });
    specs.push(Spec { shards: 4, consumers: 2, ..named("steady, 2 processes".to_owned(), Load::Rate(rate)) });
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() >= 4) {
        specs.push(Spec { shards: 16, cores: 2, ..full("2 cores") });
    }
    specs
}

/// Names of the runs that targets are about.
pub(super) const STEADY: &str = "steady";
pub(super) const FULL: &str = "full speed";
pub(super) const IDLE: &str = "idle, 4 shards";
pub(super) const TEN: &str = "steady, 10 shards, 10 times the rate";
pub(super) const SYSLOG_JSON: &str = "full speed, syslog json";
pub(super) const SYSLOG_KV: &str = "full speed, syslog kv";
pub(super) const STUCK: &str = "sink stands still, 16 shards";

/// Before the measured part of a run with a rate: connections, buffers and pull sizes settle.
pub(super) const WARM_SECONDS: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_has_a_name_of_its_own_and_the_targets_are_among_them() {
        let specs = sweep(10_000_000, &Spec::new("", Load::Idle), 1 << 28);
        let mut names: Vec<_> = specs.iter().map(|spec| spec.name.as_str()).collect();
        for target in [STEADY, FULL, IDLE, TEN, STUCK, SYSLOG_JSON, SYSLOG_KV] {
            assert!(names.contains(&target), "{target}");
        }
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for spec in &specs {
            assert!(spec.profile.parse::<Profile>().is_ok(), "{}", spec.profile);
        }
    }
}
