//! A receiver that speaks syslog over UDP, TCP and TLS, and RELP over TCP and TLS.
//!
//! Why: real receivers put up with much and tell little; this one holds a sender to the letter of RFC 5424, RFC 3164,
//! RFC 6587 and RELP, says where a rule was broken, and traces every message back to the log that it carries. Two
//! modes, because parsing costs more than the forwarder's whole work: `fast` cuts frames and notes the number of every
//! message; `strict` parses every byte and, given the payload, compares it.
//! Invariants: see `framing`, `rfc5424`, `rfc3164`, `relp`, `wire`, `store`.   Bounds: see `config`.
//! Driven by: `loadgen syslog`, `sls2siem demo`, tests.   Spec: syslog.md.
//!
//! Calls in a fault plan:
//!
//! | call | is |
//! | --- | --- |
//! | `connect` | a connection that was accepted; what it is told holds for its life |
//! | `message` | a message of any transport, counted over all connections |
//! | `eof` | the sender has ended its side, and everything was read |
//! | `open`, `syslog`, `close` | RELP commands |
//!
//! Beside `reset`, `stall:2s` and `slow:64KiB` these words are known:
//!
//! | word | does |
//! | --- | --- |
//! | `connect.hang`, `connect.close` | accepts and never reads, or closes at once |
//! | `connect.close-at:100`, `reset-at`, `stop-at` | takes so many messages, then closes, resets or stops reading |
//! | `connect.close-at-bytes:64KiB`, `reset-at-bytes`, `stop-at-bytes` | the same by bytes, in the middle of a frame |
//! | `message.reset`, `message.hang` | resets or stops reading with this message and all behind it unread |
//! | `message.reset-after`, `message.close` | takes it, then resets or closes |
//! | `message.fin` | takes it, ends the receiver's own side, and reads on |
//! | `message.lost` | throws it away (and, by RELP, says nothing) |
//! | `message.restart:2s`, `message.crash:2s` | takes it, then closes or resets everything and is away for so long |
//! | `eof.hang`, `eof.delay:2s` | never answers a half-close, or late |
//! | `eof.reset`, `eof.no-notify` | resets, or closes without `close_notify` |
//! | `syslog.500`, `syslog.after-500` | refuses, without or with having taken the message |
//! | `syslog.delay:2s`, `syslog.late:2s` | answers late, and all behind it too, or it alone |
//! | `syslog.unanswered` | takes it and never answers |
//! | `syslog.serverclose`, `syslog.serverclose-after` | ends the session instead of an answer |
//! | `syslog.hang` | neither takes nor answers anything any more |
//! | `syslog.tear`, `bits`, `duplicate`, `garbled`, `empty`, `wrong-txnr` | spoils the response |
//! | `open.no-syslog`, `open.500` | offers no syslog, or refuses the session |

mod config;
mod conn;
mod expect;
mod framing;
mod kv;
mod parsed;
mod parts;
mod relp;
mod relp_conn;
pub mod rfc3164;
pub mod rfc5424;
mod scan;
mod server;
mod stamp;
mod state;
mod store;
mod udp;
mod wire;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde_json::json;

pub use config::{Format, Framing, Listen, Mode, SyslogConfig, Transport};
pub use expect::{Body, Expectation};
pub use parsed::Parsed;
pub use server::SyslogServer;
pub use stamp::Stamp;
pub use state::{KINDS as KIND_NAMES, Violation, WORDS};
pub use store::{Counts, Store, StoredMessage};

use crate::fault::{FaultPlan, parse_size};
use crate::payload::{Payload, Profile};
use crate::sink::tls::TlsSettings;
use crate::verify::Sent;

/// Flags of `loadgen syslog`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct SyslogArgs {
    /// What to listen on: udp://, tcp://, tls://, relp:// or relp+tls:// and an address; can be repeated.
    #[arg(long, default_value = "tls://127.0.0.1:6514", value_delimiter = ',')]
    listen: Vec<Listen>,
    /// Parses every byte and reports what breaks a rule; the default only cuts frames and counts.
    #[arg(long)]
    strict: bool,
    /// Framing of tcp and tls.
    #[arg(long, value_enum, default_value = "auto")]
    framing: Framing,
    /// Grammar of the messages (strict mode).
    #[arg(long, value_enum, default_value = "auto")]
    format: Format,
    /// Longest message; a longer one ends its connection.
    #[arg(long, default_value = "16MiB", value_parser = parse_size)]
    max_message: u64,
    /// More unanswered RELP messages than this break a rule.
    #[arg(long)]
    relp_window: Option<u32>,
    /// Offers TLS 1.2 only.
    #[arg(long)]
    tls12: bool,
    /// Asks for a client certificate.
    #[arg(long)]
    mtls: bool,
    /// Writes the authority's certificate here.
    #[arg(long, value_name = "FILE")]
    ca_out: Option<PathBuf>,
    /// Writes a client certificate and its key here.
    #[arg(long, value_name = "FILE")]
    client_out: Option<PathBuf>,
    /// Fault plan: a file, or rules such as 'message.reset@1000,eof.hang=5%,syslog.500=1%'.
    #[arg(long, default_value = "")]
    faults: String,
    /// Seed of the faults.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Appends every message to this file, a JSON object a line (strict mode).
    #[arg(long, value_name = "FILE", requires = "strict")]
    out: Option<PathBuf>,
    /// What was sent, per shard: 2x100000, or 0=100000,1=90000. Makes the verdict exact and the exit code 1 on loss.
    #[arg(long)]
    sent: Option<Sent>,
    /// Compares every message with this payload (strict mode), as `loadgen sls` made it.
    #[arg(long, value_enum)]
    profile: Option<Profile>,
    /// Seed of that payload.
    #[arg(long, default_value_t = 0, requires = "profile")]
    payload_seed: u64,
    /// Logs in a group of that payload.
    #[arg(long, default_value_t = 100, requires = "profile")]
    logs_per_group: u32,
    /// HOSTNAME and APP-NAME are not source and topic: they are not compared.
    #[arg(long, requires = "profile")]
    any_header: bool,
    /// What the bodies are written in.
    #[arg(long, value_enum, default_value = "json", requires = "profile")]
    body: BodyForm,
    /// Separator of key=value bodies.
    #[arg(long, default_value = "||", requires = "profile")]
    separator: String,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Cores for them, such as 2,3.
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
}

/// `--body`
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum BodyForm {
    /// An object of the log's fields.
    Json,
    /// key=value pairs.
    Kv,
    /// Something else; it is not compared.
    Any,
}

impl SyslogArgs {
    fn into_config(self) -> Result<SyslogConfig> {
        let mode = if self.strict { Mode::Strict } else { Mode::Fast };
        let mut plan = FaultPlan::load(&self.faults)?;
        if self.seed != 0 {
            plan = plan.with_seed(self.seed);
        }
        let payload = self.profile.map(|profile| Expectation {
            payload: Payload::new(profile, self.payload_seed).with_logs_per_group(self.logs_per_group),
            header: !self.any_header,
            body: match self.body {
                BodyForm::Json => Body::Json,
                BodyForm::Kv => Body::Kv(self.separator.clone()),
                BodyForm::Any => Body::Any,
            },
        });
        let names = self.listen.iter().map(|listen| listen.address.ip().to_string()).collect();
        Ok(SyslogConfig {
            listen: self.listen,
            threads: self.threads,
            cores: self.cores,
            tls: TlsSettings {
                only_12: self.tls12,
                require_client: self.mtls,
                names,
                ..TlsSettings::default()
            },
            framing: self.framing,
            format: self.format,
            max_message_bytes: usize::try_from(self.max_message).context("--max-message")?,
            relp_window: self.relp_window,
            faults: plan,
            out: self.out,
            payload,
            ..SyslogConfig::new(mode, &[])
        })
    }
}

/// Runs until SIGTERM or SIGINT, then prints counters and verdict as one line of JSON. Exit code 1: something was lost
/// of what is known to have been sent, or a rule was broken.
pub fn run(args: SyslogArgs) -> Result<ExitCode> {
    let (sent, ca_out, client_out) = (args.sent.clone(), args.ca_out.clone(), args.client_out.clone());
    let server = SyslogServer::start(args.into_config()?)?;
    let write = |path: &PathBuf, text: &str| {
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    if let (Some(path), Some(pem)) = (&ca_out, server.ca_pem()) {
        write(path, pem)?;
    }
    if let (Some(path), Some((certificate, key))) = (&client_out, server.client_pem()) {
        write(path, &format!("{certificate}{key}"))?;
    }
    let stop = server.catch_signals()?;
    let urls: Vec<_> = server.listening().iter().map(ToString::to_string).collect();
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}", json!({ "listening": urls }))?;
    tracing::info!("listening on {}", urls.join(" "));
    server.wait_for(stop);
    let verdict = server.verdict(sent.as_ref());
    let stats = server.stats();
    let is_valid =
        stats.get("violations").and_then(|rules| rules.as_object()).is_none_or(serde_json::Map::is_empty);
    writeln!(stdout, "{}", json!({ "stats": stats, "verdict": verdict }))?;
    server.stop();
    let is_complete = sent.is_none() || verdict.is_complete();
    Ok(if is_valid && is_complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

const EXAMPLES: &str = "Examples:
  loadgen syslog                                     counts what comes, over TLS, on 127.0.0.1:6514
  loadgen syslog --listen tcp://127.0.0.1:5514 --listen udp://127.0.0.1:5514
  loadgen syslog --strict --listen relp://127.0.0.1:2514 --relp-window 128
  loadgen syslog --strict --faults 'message.reset=0.1%,eof.delay:2s=5%,connect.stop-at:500=10%'
  loadgen syslog --strict --profile nasty --payload-seed 7 --sent 2x100000 --out messages.jsonl

Exit code 1: a rule was broken, or something of --sent is missing";
