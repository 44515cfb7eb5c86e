//! Every call of a consumer as data: what to send, and (in [`answer`] and [`pull_head`]) what came back.
//!
//! Why: the control plane sends these through a blocking client, the data plane writes them itself, the simulation
//! reads them; the three must not differ by a byte that is signed.
//! Invariants: 1. the query is kept decoded; wire and signature are both made from it. 2. nothing that a user or a
//! server named can add a header line or leave its place in the path. 3. a consumer's checkpoints are never forced: one
//! that lost its lease is refused. Only an operator's command forces.
//! Bounds: as large as the names in the settings; a pull request reuses its buffers.
//! Driven by: `control` ([`ApiRequest::target`], [`ApiRequest::headers`]), `shard` ([`ApiRequest::signed_head`]).
//! Spec: protocol notes 1.1, 1.2, 3.1 to 3.5. Departure: `Host` carries a port that is not the scheme's own
//! (RFC 9110 7.2, as the Go and Rust SDKs do; Python leaves it out).

pub mod answer;
pub mod pull_head;
#[cfg(test)]
mod tests;

use super::body::Compression;
use super::sign::{Credentials, Request, Signer, Version, push_percent_encoded};
use crate::proto::http1::{HttpError, write_request_head};
use crate::proto::ids::{Cursor, ShardId};
use crate::proto::time::UnixTime;

/// Most log groups that one pull may ask for.
pub const PULL_COUNT_MAX: u32 = 1000;

const API_VERSION: &str = "0.6.0";

/// What all requests of a pipeline have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    host: String,
    user_agent: String,
    version: Version,
}

/// Where a caller calls: parts of the settings `sls.endpoint` and `sls.project`.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint<'a> {
    /// The project; empty for calls without one.
    pub project: &'a str,
    /// Name or address, without scheme and port.
    pub host: &'a str,
    /// TCP port.
    pub port: u16,
    /// True for https.
    pub tls: bool,
}

impl Endpoint<'_> {
    /// Value of `Host`: `project.host`, with the port where it is not the scheme's own.
    pub fn host_header(&self) -> String {
        let own_port = if self.tls { 443 } else { 80 };
        let mut host = String::new();
        if !self.project.is_empty() {
            host.push_str(self.project);
            host.push('.');
        }
        host.push_str(self.host);
        if self.port != own_port {
            host.push(':');
            host.push_str(itoa::Buffer::new().format(self.port));
        }
        host
    }
}

impl Caller {
    /// A caller on behalf of `consumer` in `group`.
    pub fn new(endpoint: &Endpoint<'_>, group: &str, consumer: &str, version: Version) -> Self {
        // Names may hold anything; a header value may not.
        let printable = |name: &str| -> String {
            name.chars().map(|letter| if letter.is_ascii_graphic() { letter } else { '_' }).collect()
        };
        let user_agent = format!(
            "sls2siem/{} consumer-group/{} consumer/{}",
            env!("CARGO_PKG_VERSION"),
            printable(group),
            printable(consumer)
        );
        Self { host: endpoint.host_header(), user_agent, version }
    }

    /// Value of `Host`.
    pub fn host(&self) -> &str {
        &self.host
    }
}

/// Buffers for writing requests at a rate.
#[derive(Debug, Default)]
pub struct Scratch {
    signer: Signer,
    target: String,
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiRequest {
    /// `GET`, …
    pub method: &'static str,
    /// As it goes over the wire: its segments are percent-encoded.
    pub path: String,
    /// Decoded.
    pub query: Vec<(&'static str, String)>,
    /// Without `Host`, `User-Agent`, `Content-Length` and what signing adds.
    pub headers: Vec<(&'static str, String)>,
    /// The body; empty for none.
    pub body: Vec<u8>,
}

/// Where a cursor is asked for: positions in the time of reception by the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CursorFrom {
    /// Oldest retained data.
    Begin,
    /// Behind the newest data.
    End,
    /// The first log group received at or after this second.
    Time(UnixTime),
}

/// What a pull asks for beside its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullOptions<'a> {
    /// Most log groups, 1 to 1000.
    pub count: u32,
    /// SPL text; empty for none.
    pub query: &'a str,
    /// Name of a consume processor; empty for none.
    pub processor: &'a str,
    /// How the body is wanted.
    pub compression: Compression,
}

impl Default for PullOptions<'_> {
    fn default() -> Self {
        Self { count: PULL_COUNT_MAX, query: "", processor: "", compression: Compression::default() }
    }
}

/// Makes a consumer group. `timeout_secs`: after how long a silent consumer loses its shards.
pub fn create_group(logstore: &str, group: &str, timeout_secs: u64, order: bool) -> ApiRequest {
    let body = serde_json::json!({ "consumerGroup": group, "timeout": timeout_secs, "order": order });
    ApiRequest::new("POST", &["logstores", logstore, "consumergroups"]).with_json(&body)
}

/// Sets timeout and order of a consumer group.
pub fn update_group(logstore: &str, group: &str, timeout_secs: u64, order: bool) -> ApiRequest {
    let body = serde_json::json!({ "order": order, "timeout": timeout_secs });
    ApiRequest::new("PUT", &group_path(logstore, group)).with_json(&body)
}

/// Lists the consumer groups of a logstore.
pub fn list_groups(logstore: &str) -> ApiRequest {
    ApiRequest::new("GET", &["logstores", logstore, "consumergroups"])
}

/// Deletes a consumer group and its checkpoints.
pub fn delete_group(logstore: &str, group: &str) -> ApiRequest {
    ApiRequest::new("DELETE", &group_path(logstore, group))
}

/// Says that `consumer` lives and works on `shards`; the answer is what it may work on.
pub fn heartbeat(logstore: &str, group: &str, consumer: &str, shards: &[ShardId]) -> ApiRequest {
    let shards: Vec<u32> = shards.iter().map(|shard| shard.0).collect();
    ApiRequest::new("POST", &group_path(logstore, group))
        .with_query("type", "heartbeat")
        .with_query("consumer", consumer)
        .with_json(&serde_json::json!(shards))
}

/// The saved checkpoints of one shard, or of all.
pub fn get_checkpoint(logstore: &str, group: &str, shard: Option<ShardId>) -> ApiRequest {
    let request = ApiRequest::new("GET", &group_path(logstore, group));
    match shard {
        Some(shard) => request.with_query("shard", &shard.to_string()),
        None => request,
    }
}

/// Saves a checkpoint, if `consumer` still holds the shard.
pub fn update_checkpoint(
    logstore: &str,
    group: &str,
    consumer: &str,
    shard: ShardId,
    cursor: &Cursor,
) -> ApiRequest {
    let body = serde_json::json!({ "shard": shard.0, "checkpoint": cursor.as_str() });
    ApiRequest::new("POST", &group_path(logstore, group))
        .with_query("type", "checkpoint")
        .with_query("consumer", consumer)
        .with_query("forceSuccess", "false")
        .with_json(&body)
}

/// Moves a checkpoint, whoever holds the shard: for an operator, never for a consumer.
pub fn force_checkpoint(logstore: &str, group: &str, shard: ShardId, cursor: &Cursor) -> ApiRequest {
    let body = serde_json::json!({ "shard": shard.0, "checkpoint": cursor.as_str() });
    ApiRequest::new("POST", &group_path(logstore, group))
        .with_query("type", "checkpoint")
        .with_query("consumer", "")
        .with_query("forceSuccess", "true")
        .with_json(&body)
}

/// A position of a shard.
pub fn get_cursor(logstore: &str, shard: ShardId, from: CursorFrom) -> ApiRequest {
    let from = match from {
        CursorFrom::Begin => "begin".to_owned(),
        CursorFrom::End => "end".to_owned(),
        CursorFrom::Time(time) => time.as_secs().to_string(),
    };
    shard_request(logstore, shard).with_query("type", "cursor").with_query("from", &from)
}

/// When the server received the log group at `cursor`.
pub fn get_cursor_time(logstore: &str, shard: ShardId, cursor: &Cursor) -> ApiRequest {
    shard_request(logstore, shard).with_query("type", "cursor_time").with_query("cursor", cursor.as_str())
}

/// The shards of a logstore, also the read-only ones.
pub fn list_shards(logstore: &str) -> ApiRequest {
    ApiRequest::new("GET", &["logstores", logstore, "shards"])
}

/// The settings of a logstore.
pub fn get_logstore(logstore: &str) -> ApiRequest {
    ApiRequest::new("GET", &["logstores", logstore])
}

/// Reads `[cursor, end)` of a shard, or as much of it as one answer holds. Can be kept and sent again from another
/// position: [`ApiRequest::set_pull_range`].
pub fn pull_logs(
    logstore: &str,
    shard: ShardId,
    cursor: &Cursor,
    end: Option<&Cursor>,
    options: &PullOptions<'_>,
) -> ApiRequest {
    let mut request = shard_request(logstore, shard)
        .with_query("type", "log")
        .with_query("cursor", "")
        .with_query("count", "");
    if !options.query.is_empty() {
        request = request.with_query("query", options.query).with_query("pullMode", "scan_on_stream");
    }
    if !options.processor.is_empty() {
        request = request.with_query("processor", options.processor);
    }
    request.headers.push(("Accept", "application/x-protobuf".to_owned()));
    request.headers.push(("Accept-Encoding", options.compression.accept_encoding().to_owned()));
    request.set_pull_count(options.count);
    request.set_pull_range(cursor, end);
    request
}

fn group_path<'a>(logstore: &'a str, group: &'a str) -> [&'a str; 4] {
    ["logstores", logstore, "consumergroups", group]
}

fn shard_request(logstore: &str, shard: ShardId) -> ApiRequest {
    ApiRequest::new("GET", &["logstores", logstore, "shards", itoa::Buffer::new().format(shard.0)])
}

impl ApiRequest {
    fn new(method: &'static str, segments: &[&str]) -> Self {
        let mut path = String::new();
        for segment in segments {
            path.push('/');
            match *segment {
                // Clients and proxies take these for steps in the tree even where they are encoded.
                "." | ".." => path.push_str(&segment.replace('.', "%2E")),
                _ => push_percent_encoded(&mut path, segment),
            }
        }
        let headers =
            vec![("x-log-apiversion", API_VERSION.to_owned()), ("x-log-bodyrawsize", "0".to_owned())];
        Self { method, path, query: Vec::new(), headers, body: Vec::new() }
    }

    fn with_query(mut self, key: &'static str, value: &str) -> Self {
        self.query.push((key, value.to_owned()));
        self
    }

    fn with_json(mut self, body: &serde_json::Value) -> Self {
        self.body = body.to_string().into_bytes();
        let length = self.body.len().to_string();
        self.set_header("x-log-bodyrawsize", &length);
        self.set_header("Content-Type", "application/json");
        self
    }

    /// Another position for a pull, into the buffers of the last one.
    pub fn set_pull_range(&mut self, cursor: &Cursor, end: Option<&Cursor>) {
        self.set_query("cursor", cursor.as_str());
        match end {
            Some(end) => self.set_query("end_cursor", end.as_str()),
            None => self.query.retain(|(key, _)| *key != "end_cursor"),
        }
    }

    /// Another number of log groups for a pull; what the server would refuse becomes the nearest that it takes.
    pub fn set_pull_count(&mut self, count: u32) {
        self.set_query("count", itoa::Buffer::new().format(count.clamp(1, PULL_COUNT_MAX)));
    }

    /// Another compression for a pull.
    pub fn set_compression(&mut self, compression: Compression) {
        self.set_header("Accept-Encoding", compression.accept_encoding());
    }

    /// Path and encoded query, as the request line has them.
    pub fn target(&self) -> String {
        let mut target = String::new();
        self.push_target(&mut target);
        target
    }

    /// All headers but `Content-Length`, for a client that writes the request itself.
    pub fn headers(
        &self,
        caller: &Caller,
        credentials: &Credentials,
        now: UnixTime,
    ) -> Vec<(String, String)> {
        let mut signer = Signer::default();
        let signature = signer.sign(&caller.version, credentials, &self.signed_part(caller), now);
        self.all_headers(caller, signature).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Appends the complete head of the signed request. Its body, where it has one, goes behind it as it is.
    pub fn signed_head(
        &self,
        caller: &Caller,
        credentials: &Credentials,
        now: UnixTime,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<(), HttpError> {
        let Scratch { signer, target } = scratch;
        target.clear();
        self.push_target(target);
        let signature = signer.sign(&caller.version, credentials, &self.signed_part(caller), now);
        let length = if matches!(self.method, "GET" | "DELETE") && self.body.is_empty() {
            None
        } else {
            Some(self.body.len() as u64)
        };
        write_request_head(out, self.method, target, self.all_headers(caller, signature), length)
    }

    fn all_headers<'a>(
        &'a self,
        caller: &'a Caller,
        signature: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let first = [("Host", caller.host.as_str()), ("User-Agent", caller.user_agent.as_str())];
        let own = self.headers.iter().map(|(name, value)| (*name, value.as_str()));
        first.into_iter().chain(own).chain(signature)
    }

    fn signed_part<'a>(&'a self, caller: &'a Caller) -> Request<'a> {
        Request {
            method: self.method,
            path: &self.path,
            query: &self.query,
            host: &caller.host,
            headers: &self.headers,
            body: &self.body,
        }
    }

    fn push_target(&self, target: &mut String) {
        target.push_str(&self.path);
        let mut separator = '?';
        for (key, value) in &self.query {
            target.push(separator);
            push_percent_encoded(target, key);
            target.push('=');
            push_percent_encoded(target, value);
            separator = '&';
        }
    }

    fn set_query(&mut self, key: &'static str, value: &str) {
        replace_or_push(&mut self.query, key, value);
    }

    fn set_header(&mut self, name: &'static str, value: &str) {
        replace_or_push(&mut self.headers, name, value);
    }
}

fn replace_or_push(pairs: &mut Vec<(&'static str, String)>, name: &'static str, value: &str) {
    match pairs.iter_mut().find(|(known, _)| *known == name) {
        Some((_, old)) => {
            old.clear();
            old.push_str(value);
        }
        None => pairs.push((name, value.to_owned())),
    }
}
