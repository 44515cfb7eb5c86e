//! Rules of `[hec]`, `[syslog]` and `[stdout]`.
//!
//! Why: what a sink refuses at run time holds a shard; what can be known before is said at start.
//! Invariants: as `config::check`.   Bounds: as the settings.   Driven by: `config::check`.
//! Spec: HEC envelope and token; RFC 5424 sections 6.2.1 (facility, severity) and 6.3 (structured data).

use std::collections::BTreeMap;

use secrecy::ExposeSecret as _;

use super::super::raw::Raw;
use super::super::{
    EventShape, HecAck, HecCompression, HecConfig, Oversize, Precision, StdoutConfig, StdoutFormat,
    SyslogAck, SyslogConfig, SyslogFormat, SyslogFraming, SyslogMessage, SyslogTransport, SyslogUrl,
    TlsConfig, Verify, url,
};
use super::{At, Checker, list_of};
use crate::proto::format::syslog::{LeefDelimiter, is_extension_key, is_sd_id, is_sd_name, is_separator};
use crate::proto::format::template::Template;

impl Checker<'_> {
    pub(super) fn hec(&mut self, at: At<'_>) -> Option<HecConfig> {
        let endpoints = self.addresses(at, "https://host:8088", &url::parse_hec);
        let plain = endpoints.iter().any(|endpoint| !endpoint.https);
        if plain && endpoints.iter().any(|endpoint| !endpoint.https && !is_local(&endpoint.host)) {
            self.warnings.push("hec.endpoints with http:// send the token and the logs unencrypted".into());
        }
        let token = self.secret(at, "token");
        match &token {
            None => {
                let fix = "set HEC_TOKEN, or [hec] token_file or token";
                self.missing(at, "token", "is not set", fix);
            }
            // A header of its own would begin behind a line break.
            Some((token, _)) if !token.expose_secret().bytes().all(|b| b.is_ascii_graphic()) => {
                self.wrong(
                    at,
                    "token",
                    "not a HEC token",
                    Some("the GUID that Splunk shows for the input"),
                    None,
                );
            }
            Some(_) => {}
        }
        let tls = self.tls(at);
        let event = self.event(at);
        let fields = self.template_map(at, "fields");
        let json_fields: BTreeMap<String, Vec<String>> =
            self.table(at, "json_fields").iter().map(|(topic, raw)| (topic.clone(), list_of(raw))).collect();
        if self.flag(at, "event_id") && fields.contains_key("event_id") {
            let fix = "rename it in fields, or set event_id = false";
            self.conflict(at, "fields", "event_id = true sets the indexed field event_id too", fix);
        }
        let (token, token_file) = token?;
        Some(HecConfig {
            endpoints,
            token,
            token_file,
            ack: match self.choice(at, "ack") {
                "required" => HecAck::Required,
                "off" => HecAck::Off,
                _ => HecAck::Auto,
            },
            ack_timeout: self.span(at, "ack_timeout"),
            index: self.template(at, "index"),
            sourcetype: self.template(at, "sourcetype"),
            source: self.template(at, "source"),
            host: self.template(at, "host"),
            event,
            json_fields,
            fields,
            event_id: self.flag(at, "event_id"),
            batch_bytes: self.size(at, "batch_bytes"),
            batch_age: self.span(at, "batch_age"),
            compression: match self.choice(at, "compression") {
                "gzip" => HecCompression::Gzip,
                _ => HecCompression::None,
            },
            connections: self.count(at, "connections"),
            pipeline_depth: self.count(at, "pipeline_depth"),
            timeout: self.span(at, "timeout"),
            tls,
        })
    }

    pub(super) fn syslog(&mut self, at: At<'_>) -> SyslogConfig {
        let endpoints = self.addresses(at, "tls://host:6514", &url::parse_syslog);
        self.transports(at, &endpoints);
        let tls = self.tls(at);
        let severity_map = self.severity_map(at);
        SyslogConfig {
            endpoints,
            preset: self.text_or_none(at, "preset"),
            format: match self.choice(at, "format") {
                "rfc3164" => SyslogFormat::Rfc3164,
                _ => SyslogFormat::Rfc5424,
            },
            framing: match self.choice(at, "framing") {
                "newline" => SyslogFraming::Newline,
                _ => SyslogFraming::OctetCounting,
            },
            message: self.message(at),
            separator: self.separator(at),
            precision: match self.choice(at, "precision") {
                "s" => Precision::Seconds,
                "ms" => Precision::Millis,
                _ => Precision::Micros,
            },
            facility: self.named_number(at, "facility", &FACILITIES),
            severity: self.named_number(at, "severity", &SEVERITIES),
            severity_field: self.text_or_none(at, "severity_field"),
            severity_map,
            hostname: self.template(at, "hostname"),
            app_name: self.template(at, "app_name"),
            proc_id: self.template(at, "proc_id"),
            msg_id: self.template(at, "msg_id"),
            structured_data: self.structured_data(at),
            bom: self.flag(at, "bom"),
            utc_offset_secs: self.utc_offset(at),
            device_vendor: self.template(at, "device_vendor"),
            device_product: self.template(at, "device_product"),
            device_version: self.template(at, "device_version"),
            signature_id: self.template(at, "signature_id"),
            event_name: self.template(at, "event_name"),
            event_severity: self.template(at, "event_severity"),
            extension: self.extension(at),
            unmapped: self.flag(at, "unmapped"),
            leef_delimiter: self.leef_delimiter(at),
            max_message_bytes: self.size(at, "max_message_bytes"),
            oversize: match self.choice(at, "oversize") {
                "split" => Oversize::Split,
                "dead-letter" => Oversize::DeadLetter,
                _ => Oversize::Truncate,
            },
            ack: match self.choice(at, "ack") {
                "kernel" => SyslogAck::Kernel,
                "written" => SyslogAck::Written,
                _ => SyslogAck::Drain,
            },
            drain_interval: self.span(at, "drain_interval"),
            batch_bytes: self.size(at, "batch_bytes"),
            batch_age: self.span(at, "batch_age"),
            connections: self.count(at, "connections"),
            timeout: self.span(at, "timeout"),
            window: self.count(at, "window"),
            udp_rate: self.count(at, "udp_rate"),
            tls,
        }
    }

    /// The bytes of a pipeline are made once, for one kind of transport.
    fn transports(&mut self, at: At<'_>, endpoints: &[SyslogUrl]) {
        let kind = |transport: SyslogTransport| match transport {
            SyslogTransport::Udp => "udp",
            SyslogTransport::Tcp | SyslogTransport::Tls => "tcp and tls",
            SyslogTransport::Relp | SyslogTransport::RelpTls => "relp",
        };
        let mut kinds: Vec<&str> = endpoints.iter().map(|endpoint| kind(endpoint.transport)).collect();
        kinds.sort_unstable();
        kinds.dedup();
        if kinds.len() > 1 {
            let problem = format!("{} do not go together", kinds.join(", "));
            self.conflict(at, "endpoints", &problem, "make a [pipeline.NAME] of its own for each");
        }
        if kinds.contains(&"udp") {
            self.warnings.push(
                "syslog over udp:// is best effort: nobody knows what arrives, and the checkpoint moves nevertheless"
                    .into(),
            );
            if self.size(at, "max_message_bytes") > UDP_BYTES_MAX {
                let problem = "larger than a datagram";
                self.wrong(at, "max_message_bytes", problem, Some("480B to 65507B over udp://"), None);
            }
        }
    }

    pub(super) fn stdout(&self, at: At<'_>) -> StdoutConfig {
        let format = match self.choice(at, "format") {
            "syslog" => StdoutFormat::Syslog,
            _ => StdoutFormat::Hec,
        };
        StdoutConfig { format }
    }

    fn addresses<T: PartialEq>(
        &mut self,
        at: At<'_>,
        allowed: &str,
        parse: &dyn Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let mut addresses = Vec::new();
        for text in self.texts(at, "endpoints") {
            // A list in one text is what HEC_URL takes; in a file it is as clear.
            for part in text.split(',').filter(|part| !part.trim().is_empty()) {
                match parse(part) {
                    Ok(address) if addresses.contains(&address) => {
                        let problem = format!("{} stands there twice", url::masked(part.trim()));
                        self.wrong(at, "endpoints", &problem, None, Some("name each endpoint once"));
                    }
                    Ok(address) => addresses.push(address),
                    Err(problem) => {
                        let problem = format!("{:?}: {problem}", url::masked(part.trim()));
                        self.wrong(at, "endpoints", &problem, Some(allowed), None);
                    }
                }
            }
        }
        addresses
    }

    fn tls(&mut self, at: At<'_>) -> TlsConfig {
        let ca_file = self.file(at, "ca_file");
        let client_cert = self.file(at, "client_cert");
        let client_key = self.file(at, "client_key");
        match (&client_cert, &client_key) {
            (Some(_), None) => {
                self.missing(
                    at,
                    "client_key",
                    "client_cert needs its key",
                    "set client_key, or take client_cert out",
                );
            }
            (None, Some(_)) => {
                self.missing(at, "client_cert", "client_key needs its certificate", "set client_cert");
            }
            _ => {}
        }
        let text = self.text(at, "verify");
        let verify = match text.trim() {
            "full" => Verify::Full,
            "ca" => Verify::Ca,
            "off" => {
                let prefix = at.pipeline.map_or_else(String::new, |name| format!("pipeline.{name}."));
                self.warnings.push(format!(
                    "{prefix}{}.verify = \"off\": anybody on the way can read and take the logs and the token",
                    at.table
                ));
                Verify::Off
            }
            other => other.strip_prefix("fingerprint:").and_then(fingerprints).map_or_else(
                || {
                    let allowed =
                        "\"full\", \"ca\", \"fingerprint:SHA256\" (64 hex digits, colons allowed; several with commas), \"off\"";
                    self.wrong(at, "verify", "no such check", Some(allowed), None);
                    Verify::Full
                },
                Verify::Fingerprint,
            ),
        };
        TlsConfig {
            ca_file,
            client_cert,
            client_key,
            server_name: self.text_or_none(at, "server_name"),
            verify,
        }
    }

    fn event(&mut self, at: At<'_>) -> EventShape {
        let text = self.text(at, "event");
        match text.as_str() {
            "object" => EventShape::Object,
            "string" => EventShape::String,
            other => {
                if let Some(field) = other.strip_prefix("raw:").filter(|field| !field.is_empty()) {
                    return EventShape::Raw(field.to_owned());
                }
                let allowed = "\"object\", \"string\", \"raw:FIELD\"";
                self.wrong(at, "event", "no such choice", Some(allowed), None);
                EventShape::Object
            }
        }
    }

    fn message(&mut self, at: At<'_>) -> SyslogMessage {
        let text = self.text(at, "message");
        match text.as_str() {
            "json" => SyslogMessage::Json,
            "kv" => SyslogMessage::Kv,
            "aliyun-kv" => SyslogMessage::AliyunKv,
            "cef" => SyslogMessage::Cef,
            "leef" => SyslogMessage::Leef,
            other => {
                if let Some(field) = other.strip_prefix("field:").filter(|field| !field.is_empty()) {
                    return SyslogMessage::Field(field.to_owned());
                }
                let allowed = "\"json\", \"kv\", \"aliyun-kv\", \"cef\", \"leef\", \"field:NAME\"";
                self.wrong(at, "message", "no such choice", Some(allowed), None);
                SyslogMessage::Json
            }
        }
    }

    fn named_number(&mut self, at: At<'_>, key: &str, names: &[&[&str]]) -> u8 {
        let text = self.text(at, key);
        number_of(&text, names).unwrap_or_else(|| {
            let all = names.iter().filter_map(|names| names.first().copied()).collect::<Vec<_>>().join(", ");
            let allowed = format!("0 to {}, or {all}", names.len().saturating_sub(1));
            self.wrong(at, key, "no such name or number", Some(&allowed), None);
            0
        })
    }

    fn severity_map(&mut self, at: At<'_>) -> BTreeMap<String, u8> {
        let mut map = BTreeMap::new();
        for (from, raw) in self.table(at, "severity_map") {
            let text = match &raw {
                Raw::Text(text) => text.clone(),
                other => other.to_string(),
            };
            if let Some(severity) = number_of(&text, &SEVERITIES) {
                map.insert(from, severity);
            } else {
                let problem = format!("{from:?} leads to {text:?}, which is no severity");
                self.wrong(at, "severity_map", &problem, Some("0 to 7, or emerg to debug"), None);
            }
        }
        map
    }

    fn structured_data(&mut self, at: At<'_>) -> BTreeMap<String, String> {
        let map = self.template_map(at, "structured_data");
        for name in map.keys() {
            // The id may hold dots and an enterprise number (`app@32473`): the last dot parts it from the name.
            let parts = name.rsplit_once('.');
            if !parts.is_some_and(|(id, param)| is_sd_id(id) && is_sd_name(param)) {
                let problem = format!("{name:?} is not ID.NAME");
                let allowed = "1 to 32 printable characters each, without = ] \" and space; the ID is one of IANA's or \
                               ends with @ and an enterprise number: \"sls@32473.topic\"";
                self.wrong(at, "structured_data", &problem, Some(allowed), None);
            }
        }
        map
    }

    fn extension(&mut self, at: At<'_>) -> BTreeMap<String, String> {
        let map = self.template_map(at, "extension");
        for key in map.keys().filter(|key| !is_extension_key(key)) {
            let problem = format!("{key:?} is no key of CEF or LEEF");
            self.wrong(at, "extension", &problem, Some("1 to 64 letters and digits"), None);
        }
        map
    }

    fn template(&mut self, at: At<'_>, key: &str) -> String {
        let text = self.text(at, key);
        self.template_parses(at, key, &text);
        text
    }

    fn template_map(&mut self, at: At<'_>, key: &str) -> BTreeMap<String, String> {
        let map = self.text_map(at, key);
        for text in map.values() {
            self.template_parses(at, key, text);
        }
        map
    }

    fn template_parses(&mut self, at: At<'_>, key: &str, text: &str) {
        if let Err(error) = Template::parse(text) {
            let problem = format!("{text:?} is not a template: {error}");
            self.wrong(at, key, &problem, Some("text with {NAME} for a field of the log"), None);
        }
    }

    fn separator(&mut self, at: At<'_>) -> String {
        let text = self.text(at, "separator");
        if !is_separator(&text) {
            let allowed = "1 to 8 ASCII characters, none of them a letter, a digit, =, \\ or a line break";
            self.wrong(at, "separator", "fields could not be told apart", Some(allowed), None);
        }
        text
    }

    fn leef_delimiter(&mut self, at: At<'_>) -> String {
        let text = self.text(at, "leef_delimiter");
        if let Err(problem) = text.parse::<LeefDelimiter>() {
            self.wrong(at, "leef_delimiter", problem, Some("\"x09\" (tab), \"^\", \"x01\""), None);
        }
        text
    }

    fn utc_offset(&mut self, at: At<'_>) -> i32 {
        let text = self.text(at, "timezone");
        offset_secs(text.trim()).unwrap_or_else(|| {
            let allowed = "\"UTC\", or hours and minutes such as \"+08:00\"; names of zones are not known";
            self.wrong(at, "timezone", "no such offset", Some(allowed), None);
            0
        })
    }
}

fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn number_of(text: &str, names: &[&[&str]]) -> Option<u8> {
    let text = text.trim().to_ascii_lowercase();
    let by_name = || names.iter().position(|names| names.contains(&text.as_str()));
    let number = text.parse::<usize>().ok().filter(|number| *number < names.len()).or_else(by_name)?;
    u8::try_from(number).ok()
}

/// Seconds east of UTC.
fn offset_secs(text: &str) -> Option<i32> {
    if matches!(text, "UTC" | "Z" | "utc" | "GMT") {
        return Some(0);
    }
    let (sign, clock) = match text.split_at_checked(1)? {
        ("+", clock) => (1, clock),
        ("-", clock) => (-1, clock),
        _ => return None,
    };
    let (hours, minutes) = clock.split_once(':')?;
    let number = |text: &str, max: i32| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number: &i32| digits && *number <= max)
    };
    Some(sign * (number(hours, 23)? * 3_600 + number(minutes, 59)? * 60))
}

/// One for each certificate: of several indexers, or the old and the new one of a renewal.
fn fingerprints(text: &str) -> Option<Vec<[u8; 32]>> {
    text.split(',').map(|one| fingerprint(one.trim())).collect()
}

fn fingerprint(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u32> =
        text.chars().filter(|c| *c != ':').map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(high * 16 + low).ok(),
            _ => None,
        })
        .collect::<Option<_>>()?;
    bytes.try_into().ok()
}

/// What fits into a datagram over IPv4.
const UDP_BYTES_MAX: usize = 65_507;

const FACILITIES: [&[&str]; 24] = [
    &["kern"],
    &["user"],
    &["mail"],
    &["daemon"],
    &["auth"],
    &["syslog"],
    &["lpr"],
    &["news"],
    &["uucp"],
    &["cron"],
    &["authpriv"],
    &["ftp"],
    &["ntp"],
    &["audit"],
    &["alert"],
    &["clock"],
    &["local0"],
    &["local1"],
    &["local2"],
    &["local3"],
    &["local4"],
    &["local5"],
    &["local6"],
    &["local7"],
];

const SEVERITIES: [&[&str]; 8] = [
    &["emerg", "emergency", "panic"],
    &["alert"],
    &["crit", "critical", "fatal"],
    &["err", "error"],
    &["warning", "warn"],
    &["notice"],
    &["info", "informational", "information"],
    &["debug", "trace"],
];
