//! Rules of `[runtime]`, `[admin]` and `[log]`.
//!
//! Why: a shard pinned to a core that is not used would run nowhere.
//! Invariants: as `config::check`.   Bounds: cores are numbered below 1024.   Driven by: `config::check`.
//! Spec: the settings reference in README.md.

use super::super::raw::Raw;
use super::super::{
    AdminConfig, Cores, LogConfig, LogFormat, Pin, PipelineConfig, RuntimeConfig, SinkConfig, units,
};
use super::{At, Checker, DEFAULT_PIPELINE};

/// More than any machine that runs io_uring today.
const CORES_MAX: usize = 1024;

impl Checker<'_> {
    pub(super) fn runtime(&mut self, names: &[Option<&str>], pipelines: &[PipelineConfig]) -> RuntimeConfig {
        let at = At::top("runtime");
        let cores = parse_cores(&self.text(at, "cores")).unwrap_or_else(|| {
            let allowed = "\"all\", a count, a range \"0-3\", a list \"0,2\"; cores are numbered from 0";
            self.wrong(at, "cores", "not a set of cores", Some(allowed), None);
            Cores::All
        });
        let pin = self.pins(at, names, &cores);
        let memory = self.size(at, "memory");
        for pipeline in pipelines {
            let batch_bytes = match &pipeline.sink {
                SinkConfig::Hec(hec) => hec.batch_bytes,
                SinkConfig::Syslog(syslog) => syslog.batch_bytes,
                SinkConfig::Stdout(_) => 0,
            };
            if memory < batch_bytes.saturating_mul(4) {
                let needed = u64::try_from(batch_bytes.saturating_mul(4)).unwrap_or(u64::MAX);
                let fix =
                    format!("set memory to {} or more, or a smaller batch_bytes", units::show_size(needed));
                let problem = format!("pipeline {} needs at least four batches in memory", pipeline.name);
                self.conflict(at, "memory", &problem, &fix);
            }
        }
        RuntimeConfig { cores, pin, memory }
    }

    fn pins(&mut self, at: At<'_>, names: &[Option<&str>], cores: &Cores) -> Vec<Pin> {
        let names: Vec<&str> = names.iter().map(|name| name.unwrap_or(DEFAULT_PIPELINE)).collect();
        let mut pins = Vec::new();
        for (key, raw) in self.table(at, "pin") {
            let (pipeline, shard) = match (key.rsplit_once('/'), names.as_slice()) {
                (Some((name, shard)), _) => (name.to_owned(), shard.to_owned()),
                (None, [only]) => ((*only).to_owned(), key.clone()),
                (None, _) => {
                    let fix = format!("write \"PIPELINE/{key}\", PIPELINE being one of {}", names.join(", "));
                    self.wrong(at, "pin", &format!("{key:?}: whose shard?"), None, Some(&fix));
                    continue;
                }
            };
            let Ok(shard) = shard.parse::<u32>() else {
                self.wrong(
                    at,
                    "pin",
                    &format!("{key:?} is not a shard"),
                    Some("\"0\" or \"PIPELINE/0\""),
                    None,
                );
                continue;
            };
            if !names.contains(&pipeline.as_str()) {
                let problem = format!("{key:?}: no pipeline is called {pipeline}");
                self.wrong(at, "pin", &problem, Some(&names.join(", ")), None);
                continue;
            }
            let core = match raw {
                Raw::Integer(core) => usize::try_from(core).unwrap_or(usize::MAX),
                _ => usize::MAX,
            };
            let used = match cores {
                Cores::List(list) => list.contains(&core),
                Cores::All | Cores::Count(_) => core < CORES_MAX,
            };
            if used {
                pins.push(Pin { pipeline, shard, core });
            } else {
                let fix = "pin to one of runtime.cores, or add the core there";
                self.wrong(at, "pin", &format!("{key:?}: core {core} is not used"), None, Some(fix));
            }
        }
        pins
    }

    pub(super) fn admin(&mut self) -> AdminConfig {
        let at = At::top("admin");
        let tap = self.flag(at, "tap");
        let Some(text) = self.text_or_none(at, "listen") else { return AdminConfig { listen: None, tap } };
        let text = text.trim();
        let spelt_out = match text.split_once(':') {
            Some(("localhost", port)) => format!("127.0.0.1:{port}"),
            Some(("" | "*", port)) => format!("0.0.0.0:{port}"),
            _ => text.to_owned(),
        };
        let listen = spelt_out.parse().ok();
        if listen.is_none() {
            let allowed = "address:port, such as \"127.0.0.1:9465\" or \"[::]:9465\", or \"\" for off";
            self.wrong(at, "listen", "not an address to listen on", Some(allowed), None);
        }
        AdminConfig { listen, tap }
    }

    pub(super) fn log(&self) -> LogConfig {
        let at = At::top("log");
        let format = if self.choice(at, "format") == "json" { LogFormat::Json } else { LogFormat::Text };
        LogConfig { level: self.choice(at, "level"), format }
    }
}

fn parse_cores(text: &str) -> Option<Cores> {
    let text = text.trim();
    if text == "all" {
        return Some(Cores::All);
    }
    if !text.contains(['-', ',']) {
        let count = text.parse::<usize>().ok()?;
        return (1..=CORES_MAX).contains(&count).then_some(Cores::Count(count));
    }
    let mut cores = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= CORES_MAX {
            return None;
        }
        cores.extend(first..=last);
    }
    cores.sort_unstable();
    cores.dedup();
    (!cores.is_empty()).then_some(Cores::List(cores))
}
