//! What the HEC receiver is told to be.
//!
//! Why: one process plays splunkd, a Splunk Cloud stack, two indexers behind a balancer, and each broken in some way.
//! Invariants: a token never appears in Debug output.   Bounds: sizes and times are those of splunkd by default.
//! Driven by: `HecArgs` and tests.   Spec: hec.md 2, 4, 7, 8.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::store::Store;
use crate::fault::{FaultPlan, parse_duration};
use crate::payload::Payload;
use crate::sink::tls::TlsSettings;
use crate::verify::expect::Metadata;

/// How much the receiver looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Checks token and framing, notes the number of every event, nothing else.
    Fast,
    /// Parses everything and answers as splunkd does.
    Strict,
}

/// Whose manners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Product {
    /// Splunk Enterprise 10.4.
    Enterprise,
    /// Splunk Cloud 10.5: bodies up to 5 MiB, code 28 for a missing channel.
    Cloud,
}

/// What stands in front of the indexers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Balancer {
    /// Nothing: one indexer.
    Single,
    /// Two indexers, one request each in turn.
    Alternate,
    /// Two indexers; a cookie keeps a client on one.
    Sticky,
}

/// An input's token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The secret itself.
    pub value: String,
    /// Answers with ackIds and wants a channel.
    pub use_ack: bool,
    /// Refuses everything with code 1.
    pub disabled: bool,
    /// Accepts `?token=`.
    pub allow_query: bool,
    /// Indexes that events may name; empty allows all.
    pub indexes: Vec<String>,
}

/// When an ackId becomes true.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AckDelay {
    /// Shortest usual delay.
    pub low: Duration,
    /// Longest usual delay.
    pub high: Duration,
    /// Share of requests that take `tail` instead, 0 to 1.
    pub tail_share: f64,
    /// Delay of those.
    pub tail: Duration,
}

/// All settings of one receiver.
#[derive(Debug)]
pub struct HecConfig {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Fast or strict.
    pub mode: Mode,
    /// Threads that serve connections.
    pub threads: usize,
    /// Cores that those threads are pinned to, in turn; empty leaves it to the kernel.
    pub cores: Vec<usize>,
    /// TLS, or plain HTTP.
    pub tls: Option<TlsSettings>,
    /// Known tokens.
    pub tokens: Vec<Token>,
    /// Enterprise or Cloud.
    pub product: Product,
    /// What stands in front.
    pub balancer: Balancer,
    /// Largest body, before and after decompression; 413 beyond it.
    pub max_content_length: usize,
    /// Largest event.
    pub max_event_bytes: usize,
    /// When acknowledgements come.
    pub ack_delay: AckDelay,
    /// Unanswered ackIds that a channel may have; 429 with code 27 beyond it.
    pub max_pending_acks: usize,
    /// A channel unused for longer is forgotten.
    pub channel_idle: Duration,
    /// An idle connection is closed after this while the server is busy.
    pub busy_idle: Duration,
    /// Whether the server is busy.
    pub busy: bool,
    /// What goes wrong.
    pub faults: FaultPlan,
    /// Seed of everything random here.
    pub seed: u64,
    /// Keeps every stored event in memory.
    pub keep: bool,
    /// Appends every stored event to this file.
    pub out: Option<PathBuf>,
    /// What the events should be (strict mode compares them).
    pub payload: Option<(Payload, Metadata)>,
    /// A store shared with another receiver, so that both are judged as one.
    pub store: Option<Store>,
}

impl HecConfig {
    /// A receiver on a free port of 127.0.0.1, without TLS and faults, with one token.
    pub fn new(mode: Mode, token: Token) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            mode,
            threads: 1,
            cores: Vec::new(),
            tls: None,
            tokens: vec![token],
            product: Product::Enterprise,
            balancer: Balancer::Single,
            max_content_length: 838_860_800,
            max_event_bytes: 5 * 1024 * 1024,
            ack_delay: AckDelay::default(),
            max_pending_acks: 1_000_000,
            channel_idle: Duration::from_mins(10),
            busy_idle: Duration::from_secs(12),
            busy: false,
            faults: FaultPlan::none(),
            seed: 0,
            keep: false,
            out: None,
            payload: None,
            store: None,
        }
    }
}

impl Token {
    /// A token that acknowledges nothing and allows all indexes.
    pub fn new(value: &str) -> Self {
        Self {
            value: value.to_owned(),
            use_ack: false,
            disabled: false,
            allow_query: false,
            indexes: Vec::new(),
        }
    }

    /// The same with indexer acknowledgement.
    #[must_use]
    pub fn with_ack(mut self) -> Self {
        self.use_ack = true;
        self
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("value", &"***")
            .field("use_ack", &self.use_ack)
            .field("disabled", &self.disabled)
            .field("allow_query", &self.allow_query)
            .field("indexes", &self.indexes)
            .finish()
    }
}

impl FromStr for Token {
    type Err = anyhow::Error;

    /// Reads `VALUE[,ack][,disabled][,query][,index=NAME]…`.
    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split(',').map(str::trim);
        let value = parts.next().unwrap_or_default();
        ensure!(!value.is_empty(), "a token cannot be empty");
        let mut token = Self::new(value);
        for part in parts {
            match part.split_once('=') {
                None if part == "ack" => token.use_ack = true,
                None if part == "disabled" => token.disabled = true,
                None if part == "query" => token.allow_query = true,
                Some(("index", name)) => token.indexes.push(name.to_owned()),
                _ => bail!("`{part}` is none of ack, disabled, query, index=NAME"),
            }
        }
        Ok(token)
    }
}

impl Default for AckDelay {
    fn default() -> Self {
        Self { low: Duration::ZERO, high: Duration::ZERO, tail_share: 0.0, tail: Duration::ZERO }
    }
}

impl FromStr for AckDelay {
    type Err = anyhow::Error;

    /// Reads `1s`, `1s..3s`, `1s..3s,5%:120s`.
    fn from_str(text: &str) -> Result<Self> {
        let (usual, tail) = text.split_once(',').map_or((text, None), |(usual, tail)| (usual, Some(tail)));
        let (low, high) = usual.split_once("..").unwrap_or((usual, usual));
        let (low, high) = (parse_duration(low.trim())?, parse_duration(high.trim())?);
        ensure!(low <= high, "`{usual}`: the shorter delay comes first");
        let mut delay = Self { low, high, ..Self::default() };
        if let Some(tail) = tail {
            let (share, time) = tail.split_once(':').context("the tail is written 5%:120s")?;
            let share = share.trim().strip_suffix('%').context("the tail's share is written in percent")?;
            delay.tail_share =
                share.parse::<f64>().with_context(|| format!("`{share}` is not a number"))? / 100.0;
            ensure!((0.0..=1.0).contains(&delay.tail_share), "`{share}%` is not between 0% and 100%");
            delay.tail = parse_duration(time.trim())?;
        }
        Ok(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_text() {
        let token: Token = "abc,ack,index=main,index=os".parse().expect("a token");
        assert!(token.use_ack && !token.disabled);
        assert_eq!(token.indexes, ["main", "os"]);
        assert!(!format!("{token:?}").contains("abc"), "masked");
        for bad in ["", ",ack", "a,what", "a,index"] {
            assert!(bad.parse::<Token>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ack_delay_text() {
        let delay: AckDelay = "1s..3s,5%:120s".parse().expect("a delay");
        assert_eq!(delay.low, Duration::from_secs(1));
        assert_eq!(delay.high, Duration::from_secs(3));
        assert!((delay.tail_share - 0.05).abs() < 1e-9);
        assert_eq!(delay.tail, Duration::from_mins(2));
        for bad in ["", "3s..1s", "1", "1s,120s", "1s,200%:1s", "1s,5:1s"] {
            assert!(bad.parse::<AckDelay>().is_err(), "{bad}");
        }
    }
}
