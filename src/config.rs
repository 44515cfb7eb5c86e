//! The checked settings: what every other room may rely on.
//!
//! Why: a wrong setting found at three in the morning is an outage; all of them are found at start, at once, each
//! with its place, its value and its repair. Serde alone stops at the first one and forgets the place.
//! Invariants: 1. a `Config` exists only when every rule holds. 2. secrets are `SecretString`s: no `Debug`, no
//! message and no listing shows them. 3. reading depends on its [`Sources`] and the named files alone.
//! Bounds: a configuration file is at most 4 MiB, a secret file 64 KiB.
//! Driven by: the commands, once, before anything starts.   Spec: the settings reference in README.md.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

mod check;
mod env;
mod load;
mod mistake;
mod preset;
mod print;
mod raw;
mod schema;
mod secret;
#[cfg(test)]
mod tests;
pub mod units;
mod url;
mod value;

pub use env::Environment;
pub use load::{Loaded, Sources, load, load_admin, read_secret};
pub use mistake::{ConfigError, Mistake, MistakeKind, Origin};
pub use secret::Unread;
pub use url::{Endpoint, HecUrl, ProxyUrl, SyslogTransport, SyslogUrl};

/// Used when no file is named, where it exists.
pub const DEFAULT_FILE: &str = "/etc/sls2siem/sls2siem.toml";

/// All settings, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// At least one.
    pub pipelines: Vec<PipelineConfig>,
    /// Cores and memory.
    pub runtime: RuntimeConfig,
    /// Metrics, health, status.
    pub admin: AdminConfig,
    /// The log on standard error.
    pub log: LogConfig,
    /// What happens to records that a sink refuses for good.
    pub dead_letter: DeadLetterConfig,
    /// Not wrong, but the operator should know; to be logged once at start.
    pub warnings: Vec<String>,
}

/// One logstore and where it goes.
#[derive(Clone, Debug)]
pub struct PipelineConfig {
    /// `default` where the top-level tables are the only pipeline.
    pub name: String,
    /// The source.
    pub sls: SlsConfig,
    /// The sink.
    pub sink: SinkConfig,
}

/// A pipeline has one sink.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one to a pipeline, read at start")]
pub enum SinkConfig {
    /// Splunk HTTP Event Collector.
    Hec(HecConfig),
    /// A syslog receiver.
    Syslog(SyslogConfig),
    /// Standard output.
    Stdout(StdoutConfig),
}

/// `[sls]`
#[derive(Clone, Debug)]
pub struct SlsConfig {
    /// Where SLS is.
    pub endpoint: Endpoint,
    /// Lower-case letters, digits and `-`.
    pub project: String,
    /// Logstore of the project.
    pub logstore: String,
    /// Made if it does not exist.
    pub consumer_group: String,
    /// None: `<group>-<host>-<pid>-<random>`, made at start.
    pub consumer_name: Option<String>,
    /// Where the keys come from.
    pub credentials: CredentialsConfig,
    /// How requests are signed; default V1.
    pub signature: Signature,
    /// SPL that filters on the server.
    pub query: Option<String>,
    /// Name of a server-side consume processor.
    pub processor: Option<String>,
    /// Where reading begins when the group has no checkpoint; default the oldest data.
    pub start: Moment,
    /// Unix seconds of receive time to stop at.
    pub stop: Option<u64>,
    /// Children of a split shard wait for the parent; default no.
    pub in_order: bool,
    /// Default 20 s.
    pub heartbeat_interval: Duration,
    /// Group timeout told to the server, whole seconds; default twice the heartbeat interval.
    pub timeout: Duration,
    /// Pause after a pull that reached the end; default 200 ms.
    pub fetch_interval: Duration,
    /// Log groups of one pull, 1 to 1000 (default). Memory: one pull is up to about 32 MiB of credit.
    pub max_log_groups: u32,
    /// What pulls are asked for; default lz4.
    pub compression: SlsCompression,
    /// How often a moved checkpoint is saved; default 3 s.
    pub checkpoint_interval: Duration,
    /// Default: go to the oldest data and report the gap.
    pub on_expired_cursor: OnExpiredCursor,
    /// PEM file of more trust roots.
    pub ca_file: Option<PathBuf>,
    /// HTTP proxy for the way to SLS.
    pub proxy: Option<ProxyUrl>,
}

/// Access keys.
#[derive(Clone)]
pub struct Keys {
    /// Not secret, shown in messages.
    pub access_key_id: String,
    /// Never shown.
    pub access_key_secret: SecretString,
    /// For temporary keys.
    pub security_token: Option<SecretString>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// Where access keys come from.
#[derive(Clone, Debug)]
pub enum CredentialsConfig {
    /// Given once.
    Static(Keys),
    /// `ALIBABA_CLOUD_*` at start.
    Environment(Keys),
    /// From the metadata service of the ECS instance, renewed before they end.
    EcsRamRole {
        /// None: the role that the instance has.
        role: Option<String>,
        /// Without a path, such as `http://100.100.100.200`.
        metadata_url: String,
        /// Never ask it without a token (`ALIBABA_CLOUD_IMDSV1_DISABLED`).
        hardened_only: bool,
    },
    /// Files that are read again when they change; an id that has no file is given in the keys.
    File {
        /// What they held at start.
        keys: Keys,
        /// File of the id.
        access_key_id_file: Option<PathBuf>,
        /// File of the secret.
        access_key_secret_file: PathBuf,
        /// File of the STS token.
        security_token_file: Option<PathBuf>,
    },
}

impl CredentialsConfig {
    /// The same kind of source, and the same files or role; what they hold is not compared.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Static(_), Self::Static(_)) | (Self::Environment(_), Self::Environment(_)) => true,
            (
                Self::EcsRamRole { role, metadata_url, hardened_only },
                Self::EcsRamRole { role: other_role, metadata_url: other_url, hardened_only: other_hardened },
            ) => role == other_role && metadata_url == other_url && hardened_only == other_hardened,
            (
                Self::File { access_key_id_file, access_key_secret_file, security_token_file, .. },
                Self::File {
                    access_key_id_file: other_id,
                    access_key_secret_file: other_secret,
                    security_token_file: other_token,
                    ..
                },
            ) => {
                access_key_id_file == other_id
                    && access_key_secret_file == other_secret
                    && security_token_file == other_token
            }
            _ => false,
        }
    }

    /// The keys that are known at start; none with an ECS role.
    pub fn keys(&self) -> Option<&Keys> {
        match self {
            Self::Static(keys) | Self::Environment(keys) | Self::File { keys, .. } => Some(keys),
            Self::EcsRamRole { .. } => None,
        }
    }
}

/// Signature version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signature {
    /// HMAC-SHA1.
    V1,
    /// HMAC-SHA256 over a regional scope.
    V4 {
        /// Such as `cn-hangzhou`.
        region: String,
    },
}

/// A place in time of a logstore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The oldest data.
    Begin,
    /// Only what comes from now on.
    End,
    /// Unix seconds of receive time.
    At(u64),
}

/// Compression of pulls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum SlsCompression {
    Lz4,
    Zstd,
    None,
}

/// What to do when the server no longer has a checkpoint's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExpiredCursor {
    /// Go to the oldest data that is left and report the gap.
    Begin,
    /// Hold the shard.
    Stop,
}

/// `[hec]`
#[derive(Clone, Debug)]
pub struct HecConfig {
    /// At least one.
    pub endpoints: Vec<HecUrl>,
    /// The HEC token.
    pub token: SecretString,
    /// The file it came from, to be read again when it changes.
    pub token_file: Option<PathBuf>,
    /// Default auto.
    pub ack: HecAck,
    /// Default 300 s; then the range is pulled and sent again.
    pub ack_timeout: Duration,
    /// Template; empty: the token's default.
    pub index: String,
    /// Template; empty: the token's default.
    pub sourcetype: String,
    /// Template; empty: the token's default.
    pub source: String,
    /// Template; default `{__source__}`.
    pub host: String,
    /// Shape of the event; default an object.
    pub event: EventShape,
    /// Topic -> fields whose value is JSON and is nested.
    pub json_fields: BTreeMap<String, Vec<String>>,
    /// Indexed fields: name -> template.
    pub fields: BTreeMap<String, String>,
    /// Adds the indexed field `event_id`; default no.
    pub event_id: bool,
    /// Body of a request, default 1 MiB. Memory: x `connections` x `pipeline_depth` x endpoints per core at most,
    /// inside `runtime.memory`.
    pub batch_bytes: usize,
    /// How long a batch that is not full waits; default 500 ms.
    pub batch_age: Duration,
    /// Default none.
    pub compression: HecCompression,
    /// Per core and endpoint; default 2.
    pub connections: usize,
    /// Requests in flight per connection; default 4.
    pub pipeline_depth: usize,
    /// For the answer to a request; default 60 s.
    pub timeout: Duration,
    /// How the peer is trusted.
    pub tls: TlsConfig,
}

/// When a HEC request counts as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HecAck {
    /// By the indexer where the token answers with an ackId, else by the 200.
    Auto,
    /// By the indexer only.
    Required,
    /// By the 200.
    Off,
}

/// What stands in `event`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventShape {
    /// An object of all fields.
    Object,
    /// That object as JSON text, double-encoded, as the vendor's sample does.
    String,
    /// The value of one field.
    Raw(String),
}

/// Compression of HEC requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum HecCompression {
    None,
    Gzip,
}

/// How a TLS peer is trusted.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TlsConfig {
    /// PEM file of more trust roots.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the client certificate and its chain; comes with `client_key`.
    pub client_cert: Option<PathBuf>,
    /// PEM file of its key.
    pub client_key: Option<PathBuf>,
    /// Asked for and checked instead of the endpoint's name.
    pub server_name: Option<String>,
    /// Default full.
    pub verify: Verify,
}

/// What is checked of a peer's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Verify {
    /// Chain and name.
    #[default]
    Full,
    /// Chain, not the name.
    Ca,
    /// SHA-256 of the certificate itself, one of these, nothing else.
    Fingerprint(Vec<[u8; 32]>),
    /// Nothing: warned about at every start.
    Off,
}

/// `[syslog]`
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each field is the key of the same name in the reference, README.md")]
pub struct SyslogConfig {
    pub endpoints: Vec<SyslogUrl>,
    pub preset: Option<String>,
    pub format: SyslogFormat,
    pub framing: SyslogFraming,
    pub message: SyslogMessage,
    pub separator: String,
    pub precision: Precision,
    /// 0 to 23.
    pub facility: u8,
    /// 0 to 7.
    pub severity: u8,
    pub severity_field: Option<String>,
    /// Value of that field -> 0 to 7.
    pub severity_map: BTreeMap<String, u8>,
    pub hostname: String,
    pub app_name: String,
    pub proc_id: String,
    pub msg_id: String,
    pub structured_data: BTreeMap<String, String>,
    pub bom: bool,
    /// East of UTC, from `timezone`.
    pub utc_offset_secs: i32,
    pub device_vendor: String,
    pub device_product: String,
    pub device_version: String,
    pub signature_id: String,
    pub event_name: String,
    pub event_severity: String,
    pub extension: BTreeMap<String, String>,
    pub unmapped: bool,
    pub leef_delimiter: String,
    pub max_message_bytes: usize,
    pub oversize: Oversize,
    pub ack: SyslogAck,
    pub drain_interval: Duration,
    pub batch_bytes: usize,
    pub batch_age: Duration,
    pub connections: usize,
    pub timeout: Duration,
    pub window: usize,
    /// Messages per second; 0 is without a limit.
    pub udp_rate: usize,
    pub tls: TlsConfig,
}

/// Header of a syslog message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum SyslogFormat {
    Rfc5424,
    Rfc3164,
}

/// How messages on a stream are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum SyslogFraming {
    OctetCounting,
    Newline,
}

/// What stands in the message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum SyslogMessage {
    Json,
    Kv,
    AliyunKv,
    Cef,
    Leef,
    Field(String),
}

/// Digits of a second in time stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Precision {
    Seconds,
    Millis,
    Micros,
}

/// What happens to a message that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Oversize {
    Truncate,
    Split,
    DeadLetter,
}

/// When a frame on a TCP or TLS stream counts as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyslogAck {
    /// The peer has read every byte.
    Drain,
    /// The peer's kernel has.
    Kernel,
    /// Our kernel has.
    Written,
}

/// `[stdout]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StdoutConfig {
    /// What the lines look like.
    pub format: StdoutFormat,
}

/// Frames on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum StdoutFormat {
    Hec,
    Syslog,
}

/// `[dead_letter]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterConfig {
    /// None: a refused record holds its shard.
    pub dir: Option<PathBuf>,
    /// A file that is larger gets no more records, default 64 MiB.
    pub rotate_bytes: usize,
}

/// `[runtime]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// One executor each; default all.
    pub cores: Cores,
    /// Shard -> core.
    pub pin: Vec<Pin>,
    /// Bound over everything in flight, default 256 MiB.
    pub memory: usize,
}

/// Which cores are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// Every core that the process may run on.
    All,
    /// So many of them.
    Count(usize),
    /// These.
    List(Vec<usize>),
}

/// A shard that belongs on a core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Its shard.
    pub shard: u32,
    /// Number of the core.
    pub core: usize,
}

/// `[admin]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// None: off. Default `127.0.0.1:9465`.
    pub listen: Option<SocketAddr>,
    /// Whether logs may be looked at there; default no. Memory: 2 MiB per tap, at most two.
    pub tap: bool,
}

/// `[log]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// off, error, warn, info (default), debug or trace.
    pub level: &'static str,
    /// Default text.
    pub format: LogFormat,
}

/// Shape of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum LogFormat {
    Text,
    Json,
}
