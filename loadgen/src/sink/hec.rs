//! A receiver that speaks the Splunk HTTP Event Collector, either to count fast or to answer as splunkd does.
//!
//! Why: no Splunk can run beside the tests, and a mock that says yes to everything hides every loss. Two modes, because
//! parsing costs more than the forwarder's whole work: `fast` checks token and framing and notes the number of every
//! event; `strict` parses every envelope and behaves as the notes on splunkd say, faults included.
//! Invariants: see `collector`, `channel`, `store`.   Bounds: see `config`.
//! Driven by: `loadgen hec`, `sls2siem demo`, tests.   Spec: hec.md.
//!
//! Calls in a fault plan: `event`, `raw`, `ack`, `health`. Words beside the common ones of `fault`:
//!
//! | word | does |
//! | --- | --- |
//! | `event.503`, `event.503:23`, `event.429:27` | refuses with a status and, behind the colon, a code |
//! | `event.html:502`, `event.redirect` | answers with an error page, or as Splunk Web does |
//! | `event.busy-at:3` | takes three events and answers 503 code 9 for the fourth |
//! | `event.refuse-at:3:6` | takes three events and refuses the fourth with 400 and this code (7 names the next one) |
//! | `event.limit:1MiB` | a larger body gets 400 code 6 for object 0, as Splunk Cloud does above 5 MiB |
//! | `event.warn:24` | takes the request and answers with this code |
//! | `event.never-ack` | gives an ackId that stays false |
//! | `event.garbled`, `event.no-code` | takes the request; the answer's body is cut JSON, or not JSON |
//! | `event.close` | answers, then closes: what was pipelined behind it is owed |
//! | `event.slow-read:64KiB` | reads the body at this many bytes a second |
//! | `event.restart:2s`, `event.crash:2s` | takes the request, then restarts or crashes without an answer |

mod admin;
mod channel;
mod collector;
mod config;
mod conn;
mod envelope;
mod http;
mod plan;
mod reply;
mod scan;
mod server;
mod state;
mod store;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

pub use config::{AckDelay, Balancer, HecConfig, Mode, Product, Token};
pub use server::HecServer;
pub use state::{KINDS as KIND_NAMES, WORDS};
pub use store::{Counts, Store, StoredEvent};

use crate::fault::{FaultPlan, parse_duration, parse_size};
use crate::payload::{Payload, Profile};
use crate::sink::tls::TlsSettings;
use crate::verify::Sent;
use crate::verify::expect::Metadata;

/// Flags of `loadgen hec`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct HecArgs {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8088")]
    listen: SocketAddr,
    /// Parses everything and answers as splunkd does; the default only checks token and framing and counts.
    #[arg(long)]
    strict: bool,
    /// Plain HTTP instead of TLS.
    #[arg(long)]
    plain: bool,
    /// Offers TLS 1.2 only.
    #[arg(long, conflicts_with = "plain")]
    tls12: bool,
    /// Shows a certificate without names, like splunkd's default one.
    #[arg(long, conflicts_with = "plain")]
    splunk_cert: bool,
    /// Asks for a client certificate.
    #[arg(long, conflicts_with = "plain")]
    mtls: bool,
    /// Writes the authority's certificate here.
    #[arg(long, value_name = "FILE", conflicts_with = "plain")]
    ca_out: Option<PathBuf>,
    /// A token: VALUE[,ack][,disabled][,query][,index=NAME]…; can be repeated.
    #[arg(long = "token", env = "LOADGEN_HEC_TOKEN", hide_env_values = true, default_value = DEFAULT_TOKEN)]
    tokens: Vec<Token>,
    /// Whose manners the strict mode has.
    #[arg(long, value_enum, default_value = "enterprise")]
    product: Product,
    /// What stands in front of the indexers.
    #[arg(long, value_enum, default_value = "single")]
    balancer: Balancer,
    /// When an ackId becomes true: 1s, 1s..3s, 1s..3s,5%:120s.
    #[arg(long, default_value = "0s")]
    ack_delay: AckDelay,
    /// A channel unused for longer is forgotten.
    #[arg(long, default_value = "600s", value_parser = parse_duration)]
    channel_idle: Duration,
    /// Closes idle connections after 12 s, as splunkd does when it is busy.
    #[arg(long)]
    busy: bool,
    /// Largest body.
    #[arg(long, default_value = "838860800", value_parser = parse_size)]
    max_content_length: u64,
    /// Fault plan: a file, or rules such as 'event.503=5%,ack.tear=1%,event.crash:2s@1000'.
    #[arg(long, default_value = "")]
    faults: String,
    /// Settings and faults from a TOML file; its keys are listed below.
    #[arg(long, value_name = "FILE")]
    fault_plan: Option<PathBuf>,
    /// Seed of delays and faults.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Appends every stored event to this file (strict mode).
    #[arg(long, value_name = "FILE", requires = "strict")]
    out: Option<PathBuf>,
    /// What was sent, per shard: 2x100000, or 0=100000,1=90000. Makes the verdict exact and the exit code 1 on loss.
    #[arg(long)]
    sent: Option<Sent>,
    /// Compares every event with this payload (strict mode), as `loadgen sls` made it.
    #[arg(long, value_enum)]
    profile: Option<Profile>,
    /// Seed of that payload.
    #[arg(long, default_value_t = 0, requires = "profile")]
    payload_seed: u64,
    /// Logs in a group of that payload.
    #[arg(long, default_value_t = 100, requires = "profile")]
    logs_per_group: u32,
    /// `host` that the forwarder was told to set.
    #[arg(long, default_value = "{__source__}")]
    host: String,
    /// `source` that the forwarder was told to set.
    #[arg(long, default_value = "")]
    source: String,
    /// `sourcetype` that the forwarder was told to set.
    #[arg(long, default_value = "")]
    sourcetype: String,
    /// `index` that the forwarder was told to set.
    #[arg(long, default_value = "")]
    index: String,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Cores for them, such as 2,3.
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
}

impl HecArgs {
    fn into_config(self) -> Result<HecConfig> {
        let tls = (!self.plain).then(|| TlsSettings {
            only_12: self.tls12,
            splunk_default: self.splunk_cert,
            require_client: self.mtls,
            names: vec![self.listen.ip().to_string()],
        });
        let metadata =
            Metadata { host: self.host, source: self.source, sourcetype: self.sourcetype, index: self.index };
        let payload = self.profile.map(|profile| {
            (Payload::new(profile, self.payload_seed).with_logs_per_group(self.logs_per_group), metadata)
        });
        let mut plan = FaultPlan::load(&self.faults)?;
        if self.seed != 0 {
            plan = plan.with_seed(self.seed);
        }
        let mode = if self.strict { Mode::Strict } else { Mode::Fast };
        let file = self.fault_plan.as_deref().map(plan::PlanFile::load).transpose()?;
        let mut config = HecConfig {
            listen: self.listen,
            threads: self.threads,
            cores: self.cores,
            tls,
            tokens: self.tokens,
            product: self.product,
            balancer: self.balancer,
            max_content_length: usize::try_from(self.max_content_length).context("--max-content-length")?,
            ack_delay: self.ack_delay,
            channel_idle: self.channel_idle,
            busy: self.busy,
            faults: plan,
            seed: self.seed,
            out: self.out,
            payload,
            ..HecConfig::new(mode, Token::new(""))
        };
        if let Some(file) = file {
            file.apply(&mut config)?;
        }
        Ok(config)
    }
}

/// Runs until SIGTERM or SIGINT, then prints counters and verdict as one line of JSON.
pub fn run(args: HecArgs) -> Result<ExitCode> {
    let (sent, ca_out) = (args.sent.clone(), args.ca_out.clone());
    let server = HecServer::start(args.into_config()?)?;
    if let (Some(path), Some(pem)) = (ca_out, server.ca_pem()) {
        std::fs::write(&path, pem).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let stop = server.catch_signals()?;
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}", json!({ "listening": server.url() }))?;
    tracing::info!("listening on {}", server.url());
    server.wait_for(stop);
    let verdict = server.verdict(sent.as_ref());
    writeln!(stdout, "{}", json!({ "stats": server.stats(), "verdict": verdict }))?;
    server.stop();
    Ok(if sent.is_some() && !verdict.is_complete() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The token of the examples.
pub const DEFAULT_TOKEN: &str = "11111111-2222-4333-8444-555555555555";

const EXAMPLES: &str = "Keys of --fault-plan, each may be left out: seed, faults, tokens, product, balancer, ack_delay, channel_idle,
max_pending_acks, busy, max_content_length, max_event_bytes, tls (plain, default, tls12, splunk-cert or mtls).

Examples:
  loadgen hec                                        counts what comes, over TLS, on 127.0.0.1:8088
  loadgen hec --plain --token my-token,ack           plain HTTP, with indexer acknowledgement
  loadgen hec --strict --token t,ack --ack-delay '1s..3s,5%:120s'
  loadgen hec --strict --faults 'event.503=5%,event.reset-after=1%,ack.tear=1%'
  loadgen hec --strict --fault-plan cloud.toml       with: product = 'cloud', tokens = ['t,ack'],
                                                     faults = ['event.refuse-at:3:6@5', 'event.503=5%']
  loadgen hec --strict --profile nasty --payload-seed 7 --sent 2x100000 --out stored.jsonl
  curl -k https://127.0.0.1:8088/_loadgen/stats
  curl -k -d 'event.503:23' https://127.0.0.1:8088/_loadgen/faults
  curl -k -d 2s https://127.0.0.1:8088/_loadgen/crash";
