//! `loadgen sls`: an emulator of the log service that is strict about what it is sent.
//!
//! Why: nobody has the real service on his machine. A lenient stand-in would let a wrong signature, a made-up parameter
//! or a commit without a lease pass, and the mistake would be met in the field.
//! Invariants: those of the files below, each with its own.   Bounds: what is filled stays in memory.
//! Driven by: `main`, the demo, tests (`SlsServer`).   Spec: protocol/sls.md 1 to 5 and its acceptance list.
//!
//! A request goes `http` → `api` (`auth` with `sign`, `route`, fault plan) → `pull`, `groups` or `stores` → `world`
//! with its shards (`data`, `block`) and groups (`lease`).
#![expect(clippy::disallowed_types, reason = "a test server: a lock around its state is the plain way")]

mod admin;
mod api;
mod auth;
mod block;
mod bodies;
mod clock;
mod codec;
mod data;
mod error;
mod groups;
mod http;
mod journal;
mod lease;
mod levers;
mod metadata;
mod pull;
mod route;
mod server;
mod sign;
mod spl;
mod spoil;
mod stats;
mod store;
mod stores;
mod world;

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

pub use auth::AccessKey;
pub use journal::{Event, Judgement, Pulls, StrayPulls, What};
pub use lease::LeaseState;
pub use levers::Levers;
pub use metadata::RamRole;
pub use route::KIND_NAMES;
pub use server::SlsServer;
pub use spoil::WORDS;
pub use stats::Stats;
pub use store::{Fill, GroupView, ShardView, Store};
pub use world::Commit;

use crate::fault;
use crate::payload::{Payload, Profile};

/// What happens to a cursor older than the oldest data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Expired {
    /// `InvalidCursor`.
    #[default]
    Refuse,
    /// It is moved to the oldest data, silently.
    Clamp,
}

/// How an emulator is set up.
#[derive(Debug, Clone)]
pub struct SlsConfig {
    /// Address of the service; port 0 for any.
    pub listen: SocketAddr,
    /// Address of the admin port; none for no admin port.
    pub admin: Option<SocketAddr>,
    /// Worker threads.
    pub threads: usize,
    /// Cores that those threads are pinned to, in turn; empty leaves it to the kernel.
    pub cores: Vec<usize>,
    /// TLS, with the authority's certificate written to `ca.pem` in this directory.
    pub tls_dir: Option<PathBuf>,
    /// Host name of the endpoint, for the certificate: `<project>.<host>`.
    pub host: String,
    /// Projects and logstores, each with `shards` shards.
    pub stores: Vec<(String, String)>,
    /// Shards of each logstore.
    pub shards: u32,
    /// Region that version 4 signatures must name.
    pub region: String,
    /// Access keys.
    pub keys: Vec<AccessKey>,
    /// Fault plan in its inline form.
    pub faults: String,
    /// How far the server's clock is ahead.
    pub clock_skew_ms: i64,
    /// Raw bytes of one pull at most (one log group at least).
    pub pull_bytes_max: usize,
    /// Data older than this goes.
    pub retention: Option<Duration>,
    /// Cursors of data that is gone.
    pub expired: Expired,
    /// Consumer groups of a logstore.
    pub groups_max: usize,
    /// A shard whose holder is gone stays free this long.
    pub assign_delay: Duration,
    /// A shard whose checkpoint was at its end before it became read-only needs one more commit to be over.
    pub over_needs_commit: bool,
    /// Whether zstd is served.
    pub zstd: bool,
    /// Reads a second and shard.
    pub reads_per_second: Option<u64>,
    /// Raw bytes a second and shard.
    pub read_bytes_per_second: Option<u64>,
    /// Reads a minute and project.
    pub project_reads_per_minute: Option<u64>,
    /// Consume processors: name and SPL.
    pub processors: Vec<(String, String)>,
    /// The RAM role whose keys the admin port hands out.
    pub ram_role: Option<RamRole>,
}

impl Default for SlsConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            admin: None,
            threads: 2,
            cores: Vec::new(),
            tls_dir: None,
            host: "localhost".to_owned(),
            stores: vec![("test-project".to_owned(), "test-logstore".to_owned())],
            shards: 2,
            region: "cn-hangzhou".to_owned(),
            keys: vec![AccessKey::new("testAccessKeyId", "testAccessKeySecret")],
            faults: String::new(),
            clock_skew_ms: 0,
            pull_bytes_max: 8 << 20,
            retention: None,
            expired: Expired::Refuse,
            groups_max: 30,
            assign_delay: Duration::ZERO,
            over_needs_commit: false,
            zstd: true,
            reads_per_second: None,
            read_bytes_per_second: None,
            project_reads_per_minute: None,
            processors: Vec::new(),
            ram_role: None,
        }
    }
}

/// Flags of `loadgen sls`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  loadgen sls --shards 4 --records-per-shard 100000 --profile mixed
  loadgen sls --tls ./ca --rate 10MB/s --fault pull.503=5%,pull.tear=1%,heartbeat.hang@3
  loadgen sls --logstore a,b,other-project/c --processor \"errors=* | where level = 'ERROR'\"
  loadgen sls --admin 127.0.0.1:8087 & curl 127.0.0.1:8087/
  curl -X POST '127.0.0.1:8087/split?shard=0'; curl 127.0.0.1:8087/verdict

Good to know:
  There is no call to leave a consumer group. A consumer that sends [] is alive and keeps its
  shards, so what a stopped one had is free when the group's timeout has passed. A shard that
  is being handed over moves as soon as its holder's heartbeat leaves it out.
  A read-only shard is over as soon as its checkpoint is at its end, also when that was saved
  before it became read-only (see --over-needs-commit).
  query and processor take: * | where … | project …, with = != <> < <= > >= in like and or
  not, and cast(a as bigint) or cast(a as double) for numbers.")]
pub struct SlsArgs {
    /// Address of the service
    #[arg(long, default_value = "127.0.0.1:8086")]
    listen: SocketAddr,
    /// Address of the admin port, such as 127.0.0.1:0 (no signatures; GET / lists its calls)
    #[arg(long)]
    admin: Option<SocketAddr>,
    /// Serve TLS; the certificate to trust is written to ca.pem in this directory
    #[arg(long, value_name = "DIR")]
    tls: Option<PathBuf>,
    /// Host name of the endpoint, for the certificate
    #[arg(long, default_value = "localhost")]
    host: String,
    /// Project
    #[arg(long, default_value = "test-project")]
    project: String,
    /// Logstores, all with the same data; PROJECT/LOGSTORE for one of another project
    #[arg(long, default_value = "test-logstore", value_delimiter = ',')]
    logstore: Vec<String>,
    /// Shards of each logstore
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=256))]
    shards: u32,
    /// Logs generated for each shard before the start
    #[arg(long, default_value_t = 0)]
    records_per_shard: u64,
    /// Serve the generated logs so many times, one after the other
    #[arg(long, default_value_t = 1)]
    repeat: u64,
    /// Logs in a log group
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=4096))]
    group_logs: u32,
    /// What the logs look like
    #[arg(long, value_enum, default_value = "mixed")]
    profile: Profile,
    /// Seed of the logs
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Raw bytes that become readable per second, shared by the shards of a logstore; all at once if absent
    #[arg(long, value_parser = fault::parse_size, value_name = "10MB/s")]
    rate: Option<u64>,
    /// Raw bytes of one pull at most
    #[arg(long, value_parser = fault::parse_size, default_value = "8MiB")]
    pull_bytes_max: u64,
    /// Access key id
    #[arg(long, default_value = "testAccessKeyId", env = "SLS_AK_ID")]
    access_key_id: String,
    /// Access key secret
    #[arg(long, default_value = "testAccessKeySecret", env = "SLS_AK_KEY", hide_env_values = true)]
    access_key_secret: String,
    /// Token that requests must carry
    #[arg(long, env = "SLS_SECURITY_TOKEN", hide_env_values = true)]
    security_token: Option<String>,
    /// Actions that the key may not do, such as log:ListConsumerGroup
    #[arg(long, value_delimiter = ',')]
    deny: Vec<String>,
    /// Region of version 4 signatures
    #[arg(long, default_value = "cn-hangzhou")]
    region: String,
    /// Fault plan: a TOML file, or rules such as pull.503=5%,pull.tear=1%
    #[arg(long)]
    fault: Option<String>,
    /// Seconds that the server's clock is ahead
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    clock_skew: i64,
    /// Data older than this goes
    #[arg(long, value_parser = fault::parse_duration)]
    retention: Option<Duration>,
    /// What happens to cursors of data that is gone
    #[arg(long, value_enum, default_value = "refuse")]
    expired: Expired,
    /// A shard whose holder is gone stays free this long
    #[arg(long, value_parser = fault::parse_duration, default_value = "0s")]
    assign_delay: Duration,
    /// A shard that was consumed to its end before it became read-only needs one more commit to be over
    #[arg(long)]
    over_needs_commit: bool,
    /// Refuse zstd: `InvalidAcceptEncoding`
    #[arg(long)]
    no_zstd: bool,
    /// Reads per second and shard (the service has 100)
    #[arg(long)]
    shard_reads: Option<u64>,
    /// Raw bytes per second and shard (the service has 10 to 20 MB)
    #[arg(long, value_parser = fault::parse_size)]
    shard_read_bytes: Option<u64>,
    /// Reads per minute and project (the service has 600000)
    #[arg(long)]
    project_reads: Option<u64>,
    /// Consume processor: a name and the SPL that it stands for; can be repeated
    #[arg(long, value_name = "NAME=SPL")]
    processor: Vec<String>,
    /// RAM role whose temporary keys the admin port hands out, as ECS does (GET /latest/meta-data/ram/…)
    #[arg(long, value_name = "ROLE", requires = "admin")]
    ram_role: Option<String>,
    /// How long such a key is good for
    #[arg(long, value_parser = fault::parse_duration, default_value = "6h")]
    ram_role_lifetime: Duration,
    /// Metadata requests need the token of hardened mode
    #[arg(long)]
    ram_role_hardened: bool,
    /// Worker threads
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

impl SlsArgs {
    fn stores(&self) -> Vec<(String, String)> {
        let store = |name: &String| match name.split_once('/') {
            Some((project, logstore)) => (project.to_owned(), logstore.to_owned()),
            None => (self.project.clone(), name.clone()),
        };
        self.logstore.iter().map(store).collect()
    }

    fn config(&self) -> Result<SlsConfig> {
        let mut key = AccessKey::new(&self.access_key_id, &self.access_key_secret);
        key.token.clone_from(&self.security_token);
        key.denied = self.deny.iter().cloned().collect();
        let processor = |text: &String| {
            let (name, query) =
                text.split_once('=').with_context(|| format!("--processor {text}: NAME=SPL"))?;
            Ok((name.to_owned(), query.to_owned()))
        };
        let ram_role = self.ram_role.clone().map(|name| RamRole {
            name,
            lifetime: self.ram_role_lifetime,
            hardened: self.ram_role_hardened,
        });
        let faults = self.fault.as_deref().map(fault::FaultPlan::load).transpose()?;
        Ok(SlsConfig {
            listen: self.listen,
            admin: self.admin,
            threads: self.threads,
            tls_dir: self.tls.clone(),
            host: self.host.clone(),
            stores: self.stores(),
            shards: self.shards,
            region: self.region.clone(),
            keys: vec![key],
            faults: faults.map(|plan| plan.to_string()).unwrap_or_default(),
            clock_skew_ms: self.clock_skew.saturating_mul(1000),
            pull_bytes_max: usize::try_from(self.pull_bytes_max).unwrap_or(usize::MAX),
            retention: self.retention,
            expired: self.expired,
            assign_delay: self.assign_delay,
            over_needs_commit: self.over_needs_commit,
            zstd: !self.no_zstd,
            reads_per_second: self.shard_reads,
            read_bytes_per_second: self.shard_read_bytes,
            project_reads_per_minute: self.project_reads,
            processors: self.processor.iter().map(processor).collect::<Result<_>>()?,
            ram_role,
            ..SlsConfig::default()
        })
    }
}

/// Runs the emulator until SIGTERM or SIGINT; then prints what it did, as JSON.
pub fn run(args: &SlsArgs) -> Result<ExitCode> {
    let server = SlsServer::start(args.config()?)?;
    let payload = Payload::new(args.profile, args.seed).with_logs_per_group(args.group_logs);
    for (project, logstore) in args.stores() {
        let fill = Fill {
            repeat: args.repeat,
            bytes_per_second: args.rate,
            ..Fill::new(payload, args.records_per_shard)
        };
        server.store_of(&project, &logstore).fill_all(fill).with_context(|| format!("fill {logstore}"))?;
    }
    let mut out = std::io::stdout();
    writeln!(out, "sls {} project {} logstore {}", server.endpoint(), args.project, args.logstore.join(","))?;
    if let Some(file) = server.ca_file() {
        writeln!(out, "ca {}", file.display())?;
    }
    if let Some(addr) = server.admin_addr() {
        writeln!(out, "admin http://{addr}/")?;
    }
    out.flush()?;
    crate::wait_for_stop()?;
    writeln!(out, "{}", serde_json::to_string_pretty(&server.stats())?)?;
    server.stop();
    Ok(ExitCode::SUCCESS)
}
