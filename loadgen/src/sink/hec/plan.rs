//! A receiver described by one file: every row of the test matrix can be switched on with it.
//!
//! Why: a test of another sender wants "Splunk Cloud with a token that acknowledges after two minutes and refuses the
//! fourth event" as a file that can be kept and sent to somebody, not as a dozen flags.
//! Invariants: 1. a key that is not known is an error. 2. what the file does not name stays as the flags say.
//! Bounds: none.   Driven by: `HecArgs`.   Spec: hec.md 12; the keys are the fields of [`PlanFile`].

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum as _;

use super::config::{Balancer, HecConfig, Product};
use crate::fault::{FaultPlan, parse_duration, parse_size};
use crate::sink::tls::TlsSettings;

/// The file. All keys may be left out.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PlanFile {
    /// Seed of delays and faults.
    seed: Option<u64>,
    /// Rules, as `--faults` takes them.
    faults: Vec<String>,
    /// `VALUE[,ack][,disabled][,query][,index=NAME]…`
    tokens: Vec<String>,
    /// `enterprise` or `cloud`.
    product: Option<String>,
    /// `single`, `alternate` or `sticky`.
    balancer: Option<String>,
    /// `1s`, `1s..3s`, `1s..3s,5%:120s`.
    ack_delay: Option<String>,
    /// A channel unused for longer is forgotten.
    channel_idle: Option<String>,
    /// Ids that a channel holds before it answers 429.
    max_pending_acks: Option<usize>,
    /// Closes idle connections after 12 s.
    busy: Option<bool>,
    /// Larger bodies get 413.
    max_content_length: Option<String>,
    /// Larger events get code 6.
    max_event_bytes: Option<String>,
    /// `plain`, `default`, `tls12`, `splunk-cert` or `mtls`.
    tls: Option<String>,
}

impl PlanFile {
    /// Reads a file.
    pub(super) fn load(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("plan {}", path.display()))
    }

    /// Puts what it names over `config`.
    pub(super) fn apply(self, config: &mut HecConfig) -> Result<()> {
        let mut plan = FaultPlan::parse(&self.faults.join(","))?;
        if let Some(seed) = self.seed {
            config.seed = seed;
            plan = plan.with_seed(seed);
        }
        if !self.faults.is_empty() {
            config.faults = plan;
        }
        if !self.tokens.is_empty() {
            config.tokens = self.tokens.iter().map(|token| token.parse()).collect::<Result<_>>()?;
        }
        let named = |what: &str, error: String| anyhow::anyhow!("{what}: {error}");
        if let Some(text) = self.product {
            config.product = Product::from_str(&text, true).map_err(|error| named("product", error))?;
        }
        if let Some(text) = self.balancer {
            config.balancer = Balancer::from_str(&text, true).map_err(|error| named("balancer", error))?;
        }
        if let Some(text) = self.ack_delay {
            config.ack_delay = text.parse()?;
        }
        if let Some(text) = self.channel_idle {
            config.channel_idle = parse_duration(&text)?;
        }
        if let Some(text) = self.max_content_length {
            config.max_content_length = usize::try_from(parse_size(&text)?)?;
        }
        if let Some(text) = self.max_event_bytes {
            config.max_event_bytes = usize::try_from(parse_size(&text)?)?;
        }
        config.max_pending_acks = self.max_pending_acks.unwrap_or(config.max_pending_acks);
        config.busy = self.busy.unwrap_or(config.busy);
        if let Some(text) = self.tls {
            let before = config.tls.take().unwrap_or_default();
            let tls = TlsSettings { names: before.names, ..TlsSettings::default() };
            config.tls = match text.as_str() {
                "plain" => None,
                "default" => Some(tls),
                "tls12" => Some(TlsSettings { only_12: true, ..tls }),
                "splunk-cert" => Some(TlsSettings { splunk_default: true, ..tls }),
                "mtls" => Some(TlsSettings { require_client: true, ..tls }),
                other => bail!("tls: `{other}` is none of plain, default, tls12, splunk-cert, mtls"),
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::{Mode, Token};
    use super::*;

    fn applied(text: &str) -> Result<HecConfig> {
        let mut config = HecConfig::new(Mode::Strict, Token::new("t"));
        toml::from_str::<PlanFile>(text)?.apply(&mut config)?;
        Ok(config)
    }

    /// Every row of the matrix as a file of its own; each must be understood and change what it is about.
    #[test]
    fn every_row_can_be_switched_by_a_file() {
        let rows = [
            "tokens = [\"good\", \"off,disabled\"]",
            "tokens = [\"t,ack\"]",
            "tokens = [\"t,ack\"]\nack_delay = \"1s..3s,5%:120s\"",
            "tokens = [\"t,ack\"]\nchannel_idle = \"10s\"",
            "faults = [\"event.restart:2s@100\", \"event.crash:2s@200\"]",
            "balancer = \"alternate\"",
            "balancer = \"sticky\"",
            "faults = [\"event.503=5%\", \"event.429:26=1%\", \"event.429:27=1%\"]",
            "tokens = [\"t,ack\"]\nmax_pending_acks = 10",
            "faults = [\"event.warn:24=10%\", \"event.warn:25=1%\"]",
            "faults = [\"event.404@50..60\", \"event.503:23@61..70\"]",
            "faults = [\"event.refuse-at:3:6@5\", \"event.refuse-at:3:7@6\", \"event.busy-at:2@7\"]",
            "tokens = [\"t,index=main\"]",
            "product = \"cloud\"",
            "faults = [\"event.limit:1MiB\"]",
            "max_content_length = \"2MB\"\nmax_event_bytes = \"5MB\"",
            "busy = true",
            "faults = [\"event.tear=1%\", \"event.reset=1%\", \"event.reset-after=1%\", \"event.close=1%\"]",
            "faults = [\"event.html:415@1\", \"event.html:502@2\", \"event.redirect@3\", \"event.garbled@4\"]",
            "faults = [\"ack.tear=1%\", \"ack.500=1%\", \"ack.html:502=1%\", \"event.never-ack=1%\"]",
            "faults = [\"event.401\", \"event.403:1\", \"event.403:4\"]",
            "faults = [\"health.503:18\"]",
            "faults = [\"event.slow-read:64KiB=1%\", \"event.hang@9\", \"event.delay:1s=1%\"]",
            "tls = \"tls12\"",
            "tls = \"splunk-cert\"",
            "tls = \"mtls\"",
            "tls = \"plain\"\nseed = 7",
        ];
        let before = format!("{:?}", HecConfig::new(Mode::Strict, Token::new("t")));
        for row in rows {
            let config = applied(row).unwrap_or_else(|why| panic!("{row}: {why:#}"));
            config.faults.check(super::super::KIND_NAMES, super::super::WORDS).expect(row);
            let tokens = config
                .tokens
                .iter()
                .any(|token| token.use_ack || token.disabled || !token.indexes.is_empty());
            assert!(tokens || format!("{config:?}") != before, "{row} changes nothing");
        }
        for wrong in
            ["fault = []", "tls = \"ssl\"", "balancer = \"random\"", "tokens = [\"\"]", "faults = [\"x\"]"]
        {
            assert!(applied(wrong).is_err(), "{wrong}");
        }
    }
}
