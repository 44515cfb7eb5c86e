//! What can be changed while the emulator runs.
//!
//! Why: a test wants to see a client before, while and after a quota is exhausted, a retention is short or zstd is gone.
//! Invariants: 1. one call sees one set of levers.   Bounds: none.
//! Driven by: `api`, once per call; the admin port and `SlsServer` change them.   Spec: protocol/sls.md 3.4, 5.6.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::spl::Program;
use super::{Expired, SlsConfig};
use crate::fault::{parse_duration, parse_size};

/// What can be changed while the emulator runs; the beginning is that of `SlsConfig`.
#[derive(Debug, Clone, PartialEq)]
pub struct Levers {
    /// Raw bytes of one pull at most (one log group at least).
    pub pull_bytes_max: usize,
    /// Data older than this goes, and read-only shards that are empty and older.
    pub retention: Option<Duration>,
    /// Cursors of data that is gone.
    pub expired: Expired,
    /// Whether zstd is served.
    pub zstd: bool,
    /// Reads a second and shard.
    pub reads_per_second: Option<u64>,
    /// Raw bytes a second and shard.
    pub read_bytes_per_second: Option<u64>,
    /// Reads a minute and project.
    pub project_reads_per_minute: Option<u64>,
    /// A shard whose holder is gone stays free this long.
    pub assign_delay: Duration,
    /// A shard whose checkpoint was at its end before it became read-only needs one more commit to be over.
    pub over_needs_commit: bool,
    /// Clients whose User-Agent holds one of these get no answer and nothing of theirs is processed: a cut network.
    pub cut: Vec<String>,
    processors: BTreeMap<String, Program>,
}

/// Names of the levers on the admin port, for its help.
pub(crate) const NAMES: &str = "pull-bytes-max retention expired zstd shard-reads shard-read-bytes project-reads assign-delay over-needs-commit cut";

impl Levers {
    pub(crate) fn new(config: &SlsConfig) -> Result<Self> {
        let mut levers = Self {
            pull_bytes_max: config.pull_bytes_max,
            retention: config.retention,
            expired: config.expired,
            zstd: config.zstd,
            reads_per_second: config.reads_per_second,
            read_bytes_per_second: config.read_bytes_per_second,
            project_reads_per_minute: config.project_reads_per_minute,
            assign_delay: config.assign_delay,
            over_needs_commit: config.over_needs_commit,
            cut: Vec::new(),
            processors: BTreeMap::new(),
        };
        for (name, query) in &config.processors {
            levers.set_processor(name, query)?;
        }
        Ok(levers)
    }

    /// Makes or replaces a consume processor; an empty query removes it.
    pub fn set_processor(&mut self, name: &str, query: &str) -> Result<()> {
        if query.is_empty() {
            self.processors.remove(name);
            return Ok(());
        }
        let program = Program::parse(query).map_err(|mistake| anyhow!("processor {name}: {mistake}"))?;
        self.processors.insert(name.to_owned(), program);
        Ok(())
    }

    /// Names and queries of the consume processors.
    pub fn processors(&self) -> BTreeMap<&str, &str> {
        self.processors.iter().map(|(name, program)| (name.as_str(), program.text())).collect()
    }

    pub(crate) fn processor(&self, name: &str) -> Option<&Program> {
        self.processors.get(name)
    }

    /// Moves one lever, as the admin port names it. `none` takes a limit away.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let limit = |value: &str| if value == "none" { Ok(None) } else { parse_size(value).map(Some) };
        match name {
            "pull-bytes-max" => {
                self.pull_bytes_max = usize::try_from(parse_size(value)?).unwrap_or(usize::MAX);
            }
            "retention" => {
                self.retention = if value == "none" { None } else { Some(parse_duration(value)?) };
            }
            "expired" => {
                self.expired = match value {
                    "refuse" => Expired::Refuse,
                    "clamp" => Expired::Clamp,
                    _ => bail!("expired is refuse or clamp, not {value}"),
                }
            }
            "zstd" => self.zstd = value.parse().context("zstd is true or false")?,
            "shard-reads" => self.reads_per_second = limit(value)?,
            "shard-read-bytes" => self.read_bytes_per_second = limit(value)?,
            "project-reads" => self.project_reads_per_minute = limit(value)?,
            "assign-delay" => self.assign_delay = parse_duration(value)?,
            "over-needs-commit" => {
                self.over_needs_commit = value.parse().context("over-needs-commit is true or false")?;
            }
            "cut" if value == "none" => self.cut.clear(),
            "cut" => self.cut.push(value.to_owned()),
            _ => bail!("no lever is named {name}; there are: {NAMES}"),
        }
        Ok(())
    }

    pub(crate) fn is_cut_off(&self, agent: &str) -> bool {
        self.cut.iter().any(|part| agent.contains(part.as_str()))
    }

    pub(crate) fn retention_ms(&self) -> Option<u64> {
        self.retention.map(millis)
    }

    pub(crate) fn assign_delay_ms(&self) -> u64 {
        millis(self.assign_delay)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_moves_a_lever_and_nothing_else_does() {
        let start = Levers::new(&SlsConfig::default()).unwrap();
        let values = ["1KiB", "5s", "clamp", "false", "7", "10MB", "9", "2s", "true", "consumer/a"];
        for (name, value) in NAMES.split(' ').zip(values) {
            let mut levers = start.clone();
            levers.set(name, value).unwrap();
            assert_ne!(levers, start, "{name}");
            assert!(name == "cut" || levers.set(name, "nonsense").is_err(), "{name}");
        }
        let mut levers = start.clone();
        levers.set("shard-reads", "7").unwrap();
        levers.set("shard-reads", "none").unwrap();
        assert_eq!(levers, start);
        assert!(levers.set("other", "1").is_err());
        levers.set_processor("p", "* | where a = '1'").unwrap();
        assert!(levers.set_processor("p", "* | extend a = 1").is_err());
        assert_eq!(levers.processor("p").map(Program::text), Some("* | where a = '1'"));
        levers.set_processor("p", "").unwrap();
        assert_eq!(levers, start);
    }
}
