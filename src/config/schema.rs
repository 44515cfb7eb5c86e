//! Every key that may be set, with its kind and range.
//!
//! Why: one table drives reading, checking, `sls2siem config` and the suggestions for misspelt keys; a key that
//! is not here does not exist, and a test holds it equal to `default.toml`.
//! Invariants: 1. tables are in the order of the reference.   Bounds: static.
//! Driven by: the rest of `config`.   Spec: the settings reference in README.md.

/// What values a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text.
    Text,
    /// Text that is never shown.
    Secret,
    /// A file or directory name; empty = none.
    Path,
    /// true | false
    Flag,
    /// A whole number.
    Count { min: u64, max: u64 },
    /// Bytes with a unit.
    Size { min: u64, max: u64 },
    /// Time with a unit.
    Span { min_ms: u64, max_ms: u64 },
    /// As `Span`, or empty for "derived".
    SpanOrEmpty { min_ms: u64, max_ms: u64 },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// begin | end | RFC 3339 | unix seconds.
    Moment,
    /// As `Moment`, or empty for "none".
    MomentOrEmpty,
    /// Texts; a single text counts as one.
    TextList,
    /// name -> text
    TextMap,
    /// name -> texts
    ListMap,
    /// name -> whole number
    CountMap,
    /// A text or a whole number, read further by its user.
    TextOrCount,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) table: &'static str,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
}

/// All tables; the first four may also stand under `[pipeline.NAME]`.
pub(crate) const TABLES: [&str; 8] =
    ["sls", "hec", "syslog", "stdout", "dead_letter", "runtime", "admin", "log"];

/// How many of [`TABLES`] a pipeline may override.
pub(crate) const PIPELINE_TABLES: usize = 4;

/// The key of that name.
pub(crate) fn find(table: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.table == table && key.name == name)
}

/// The other half of a pair `KEY` / `KEY_file`.
pub(crate) fn partner(key: &Key) -> Option<&'static Key> {
    match key.name.strip_suffix("_file") {
        Some(plain) => find(key.table, plain),
        None => KEYS.iter().find(|other| {
            other.table == key.table
                && other.name.strip_suffix("_file").is_some_and(|plain| plain == key.name)
        }),
    }
}

/// The key that was probably meant.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_ascii_lowercase().replace('-', "_");
    let synonym = SYNONYMS.iter().find(|(from, _)| *from == wanted).map(|(_, to)| *to);
    known
        .map(|candidate| {
            let score =
                if Some(candidate) == synonym { 1.0 } else { strsim::jaro_winkler(&wanted, candidate) };
            (candidate, score)
        })
        .filter(|(_, score)| *score > 0.82)
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(candidate, _)| candidate)
}

/// What other senders and the vendor's samples call our keys.
const SYNONYMS: [(&str, &str); 16] = [
    ("url", "endpoints"),
    ("urls", "endpoints"),
    ("uri", "endpoints"),
    ("hosts", "endpoints"),
    ("ak_id", "access_key_id"),
    ("ak_key", "access_key_secret"),
    ("access_key", "access_key_secret"),
    ("secret", "access_key_secret"),
    ("group", "consumer_group"),
    ("cg", "consumer_group"),
    ("ssl_verify", "verify"),
    ("insecure", "verify"),
    ("sep", "separator"),
    ("batch_size", "batch_bytes"),
    ("ca", "ca_file"),
    ("ca_cert", "ca_file"),
];

const fn key(table: &'static str, name: &'static str, kind: Kind) -> Key {
    Key { table, name, kind }
}

const fn span(min_ms: u64, max_ms: u64) -> Kind {
    Kind::Span { min_ms, max_ms }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600_000;

/// Names of the presets of `[syslog]`.
pub(crate) const PRESETS: [&str; 9] = [
    "",
    "rsyslog",
    "syslog-ng",
    "sc4s",
    "qradar-tcp",
    "qradar-tls",
    "arcsight",
    "splunk-tcp",
    "aliyun-compat",
];

/// Every key.
pub(crate) const KEYS: &[Key] = &[
    key("sls", "endpoint", Kind::Text),
    key("sls", "project", Kind::Text),
    key("sls", "logstore", Kind::Text),
    key("sls", "consumer_group", Kind::Text),
    key("sls", "consumer_name", Kind::Text),
    key("sls", "credentials", Kind::Choice(&["static", "environment", "ecs-ram-role", "file"])),
    key("sls", "access_key_id", Kind::Text),
    key("sls", "access_key_id_file", Kind::Path),
    key("sls", "access_key_secret", Kind::Secret),
    key("sls", "access_key_secret_file", Kind::Path),
    key("sls", "security_token", Kind::Secret),
    key("sls", "security_token_file", Kind::Path),
    key("sls", "ecs_ram_role", Kind::Text),
    key("sls", "ecs_metadata_url", Kind::Text),
    key("sls", "signature", Kind::Choice(&["v1", "v4"])),
    key("sls", "region", Kind::Text),
    key("sls", "query", Kind::Text),
    key("sls", "processor", Kind::Text),
    key("sls", "start", Kind::Moment),
    key("sls", "stop", Kind::MomentOrEmpty),
    key("sls", "in_order", Kind::Flag),
    key("sls", "heartbeat_interval", span(100, 300 * SECOND)),
    key("sls", "timeout", Kind::SpanOrEmpty { min_ms: SECOND, max_ms: 600 * SECOND }),
    key("sls", "fetch_interval", span(10, 60 * SECOND)),
    key("sls", "max_log_groups", Kind::Count { min: 1, max: 1000 }),
    key("sls", "compression", Kind::Choice(&["lz4", "zstd", "none"])),
    key("sls", "checkpoint_interval", span(100, HOUR)),
    key("sls", "on_expired_cursor", Kind::Choice(&["begin", "stop"])),
    key("sls", "ca_file", Kind::Path),
    key("sls", "proxy", Kind::Text),
    key("hec", "endpoints", Kind::TextList),
    key("hec", "token", Kind::Secret),
    key("hec", "token_file", Kind::Path),
    key("hec", "ack", Kind::Choice(&["auto", "required", "off"])),
    key("hec", "ack_timeout", span(SECOND, HOUR)),
    key("hec", "index", Kind::Text),
    key("hec", "sourcetype", Kind::Text),
    key("hec", "source", Kind::Text),
    key("hec", "host", Kind::Text),
    key("hec", "event", Kind::Text),
    key("hec", "json_fields", Kind::ListMap),
    key("hec", "fields", Kind::TextMap),
    key("hec", "event_id", Kind::Flag),
    key("hec", "batch_bytes", Kind::Size { min: 4 * KIB, max: 64 * MIB }),
    key("hec", "batch_age", span(1, 60 * SECOND)),
    key("hec", "compression", Kind::Choice(&["none", "gzip"])),
    key("hec", "connections", Kind::Count { min: 1, max: 64 }),
    key("hec", "pipeline_depth", Kind::Count { min: 1, max: 64 }),
    key("hec", "timeout", span(100, HOUR)),
    key("hec", "ca_file", Kind::Path),
    key("hec", "client_cert", Kind::Path),
    key("hec", "client_key", Kind::Path),
    key("hec", "server_name", Kind::Text),
    key("hec", "verify", Kind::Text),
    key("syslog", "endpoints", Kind::TextList),
    key("syslog", "preset", Kind::Choice(&PRESETS)),
    key("syslog", "format", Kind::Choice(&["rfc5424", "rfc3164"])),
    key("syslog", "framing", Kind::Choice(&["octet-counting", "newline"])),
    key("syslog", "message", Kind::Text),
    key("syslog", "separator", Kind::Text),
    key("syslog", "precision", Kind::Choice(&["s", "ms", "us"])),
    key("syslog", "facility", Kind::TextOrCount),
    key("syslog", "severity", Kind::TextOrCount),
    key("syslog", "severity_field", Kind::Text),
    key("syslog", "severity_map", Kind::TextMap),
    key("syslog", "hostname", Kind::Text),
    key("syslog", "app_name", Kind::Text),
    key("syslog", "proc_id", Kind::Text),
    key("syslog", "msg_id", Kind::Text),
    key("syslog", "structured_data", Kind::TextMap),
    key("syslog", "bom", Kind::Flag),
    key("syslog", "timezone", Kind::Text),
    key("syslog", "device_vendor", Kind::Text),
    key("syslog", "device_product", Kind::Text),
    key("syslog", "device_version", Kind::Text),
    key("syslog", "signature_id", Kind::Text),
    key("syslog", "event_name", Kind::Text),
    key("syslog", "event_severity", Kind::Text),
    key("syslog", "extension", Kind::TextMap),
    key("syslog", "unmapped", Kind::Flag),
    key("syslog", "leef_delimiter", Kind::Text),
    key("syslog", "max_message_bytes", Kind::Size { min: 480, max: 16 * MIB }),
    key("syslog", "oversize", Kind::Choice(&["truncate", "split", "dead-letter"])),
    key("syslog", "ack", Kind::Choice(&["drain", "kernel", "written"])),
    key("syslog", "drain_interval", span(100, 600 * SECOND)),
    key("syslog", "batch_bytes", Kind::Size { min: 4 * KIB, max: 64 * MIB }),
    key("syslog", "batch_age", span(1, 60 * SECOND)),
    key("syslog", "connections", Kind::Count { min: 1, max: 64 }),
    key("syslog", "timeout", span(100, HOUR)),
    key("syslog", "window", Kind::Count { min: 1, max: 100_000 }),
    key("syslog", "udp_rate", Kind::Count { min: 0, max: 10_000_000 }),
    key("syslog", "ca_file", Kind::Path),
    key("syslog", "client_cert", Kind::Path),
    key("syslog", "client_key", Kind::Path),
    key("syslog", "server_name", Kind::Text),
    key("syslog", "verify", Kind::Text),
    key("stdout", "format", Kind::Choice(&["hec", "syslog"])),
    key("dead_letter", "dir", Kind::Path),
    key("dead_letter", "rotate_bytes", Kind::Size { min: 4 * KIB, max: 4 * GIB }),
    key("runtime", "cores", Kind::TextOrCount),
    key("runtime", "pin", Kind::CountMap),
    key("runtime", "memory", Kind::Size { min: 16 * MIB, max: 1024 * GIB }),
    key("admin", "listen", Kind::Text),
    key("admin", "tap", Kind::Flag),
    key("log", "level", Kind::Choice(&["off", "error", "warn", "info", "debug", "trace"])),
    key("log", "format", Kind::Choice(&["text", "json"])),
];
