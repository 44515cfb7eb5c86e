//! Answers one request: who may send, what is kept, which code is given.
//!
//! Why: it is what a sender's whole error handling is about, so it is one straight function of request and state,
//! without a socket in sight.
//! Invariants: 1. an answer with a success code means that everything before `invalid-event-number` was taken.
//! 2. An ackId is given only if something was taken.   Bounds: one body in memory, decompressed at most
//! `max_content_length` bytes.
//! Driven by: `conn`, one complete request at a time.   Spec: hec.md 1 to 5 and 7.

use std::io::Read as _;
use std::sync::atomic::Ordering;

use base64::Engine as _;
use tokio::time::Instant;

use super::config::{Mode, Product, Token};
use super::envelope::{self, End, Rules};
use super::http::Head;
use super::reply::Reply;
use super::scan;
use super::state::Shared;
use super::store::Origin;
use crate::fault::{Fault, parse_size};

/// What a path is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Event,
    Raw,
    Ack,
    Health,
    Admin,
    Unknown,
}

impl Route {
    pub(super) fn of(path: &str) -> Self {
        match path {
            "/services/collector" | "/services/collector/event" | "/services/collector/event/1.0" => {
                Self::Event
            }
            "/services/collector/raw" | "/services/collector/raw/1.0" => Self::Raw,
            "/services/collector/ack" | "/services/collector/ack/1.0" => Self::Ack,
            "/services/collector/health" | "/services/collector/health/1.0" => Self::Health,
            path if path.starts_with("/_loadgen/") => Self::Admin,
            _ => Self::Unknown,
        }
    }

    /// Its name in a fault plan.
    pub(super) const fn kind(self) -> Option<&'static str> {
        match self {
            Self::Event => Some("event"),
            Self::Raw => Some("raw"),
            Self::Ack => Some("ack"),
            Self::Health => Some("health"),
            Self::Admin | Self::Unknown => None,
        }
    }
}

/// One request, complete.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) route: Route,
    pub(super) head: &'a Head,
    pub(super) body: &'a [u8],
    pub(super) connection: u64,
    pub(super) request: u64,
    pub(super) instance: usize,
    pub(super) fault: Option<&'a Fault>,
    pub(super) now: Instant,
}

/// The body of a poll.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    acks: Vec<u64>,
}

/// An answer, or a refusal on the way to it.
type Answer = Result<Reply, Reply>;

/// Answers.
pub(super) fn answer(shared: &Shared, call: Call<'_>) -> Reply {
    let method = call.head.method.as_str();
    let answer = match (call.route, method) {
        (Route::Unknown | Route::Admin, _) => Ok(Reply::not_found(404)),
        (Route::Health, "OPTIONS") => Ok(Reply::options("GET,HEAD,OPTIONS")),
        (_, "OPTIONS") => Ok(Reply::options("POST,OPTIONS")),
        (Route::Health, "GET" | "HEAD") => health(shared, call),
        (Route::Event | Route::Raw, "POST") => collect(shared, call),
        (Route::Ack, "POST") => poll(shared, call),
        _ => Ok(Reply::not_found(405)),
    };
    answer.unwrap_or_else(|refusal| refusal)
}

fn health(shared: &Shared, call: Call<'_>) -> Answer {
    // No token is needed; one that is given is looked at.
    if call.head.authorization.is_some() {
        match authorize(shared, call.head) {
            Err(reply) if reply.code_in_body() == Some(1) => return Err(Reply::code(22)),
            Err(_) => return Err(Reply::code(21)),
            Ok(_) => {}
        }
    }
    Ok(Reply::code(shared.health()))
}

fn collect(shared: &Shared, call: Call<'_>) -> Answer {
    let body = decode(shared, call)?;
    match shared.health() {
        23 => return Err(Reply::code(23)),
        18 | 20 => return Err(Reply::code(9)),
        _ => {}
    }
    let token = authorize(shared, call.head)?;
    let channel = channel(shared, call.head, token.use_ack)?;
    if shared.config.product == Product::Cloud && body.len() > CLOUD_LIMIT {
        return Err(Reply::with(6, Some(0), None));
    }
    let limit = own_word(call.fault, "limit").and_then(|text| parse_size(text).ok());
    if limit.is_some_and(|limit| body.len() as u64 > limit) {
        return Err(Reply::with(6, Some(0), None));
    }
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Reply::code(5));
    }
    if let Some(channel) = channel.as_deref().filter(|_| token.use_ack) {
        let has_room = shared.with_channels(call.instance, |channels| channels.has_room(channel));
        if has_room != Some(true) {
            return Err(Reply::code(27));
        }
    }
    let taker = Taker { shared, call, token: &token, channel };
    match (shared.config.mode, call.route) {
        (Mode::Fast, _) => Ok(taker.fast(&body)),
        (Mode::Strict, Route::Raw) => Ok(taker.raw(&body)),
        (Mode::Strict, _) => taker.strict(&body),
    }
}

fn poll(shared: &Shared, call: Call<'_>) -> Answer {
    shared.stats.polls.fetch_add(1, Ordering::Relaxed);
    if call.head.encoding.as_deref().is_some_and(|encoding| encoding != "identity") {
        shared.stats.odd("compressed poll");
        return Err(Reply::code(6));
    }
    if !call.head.content_type.as_deref().is_some_and(|kind| kind.starts_with("application/json")) {
        shared.stats.odd("poll without Content-Type: application/json");
    }
    let token = authorize(shared, call.head)?;
    if !token.use_ack {
        return Err(Reply::code(14));
    }
    let Some(channel) = channel(shared, call.head, true)? else { return Err(Reply::code(10)) };
    if matches!(shared.health(), 19 | 20) {
        return Err(Reply::code(9));
    }
    let Ok(question) = serde_json::from_slice::<Question>(call.body) else { return Err(Reply::code(6)) };
    shared.store.store_due(call.now);
    let states = shared
        .with_channels(call.instance, |channels| channels.poll(&channel, &question.acks, call.now))
        .unwrap_or_default();
    let told = states.iter().filter(|(_, is_true)| *is_true).count();
    shared.stats.acks_told.fetch_add(told as u64, Ordering::Relaxed);
    let pairs: Vec<_> = states.iter().map(|(id, state)| format!("\"{id}\":{state}")).collect();
    Ok(Reply::json(200, format!("{{\"acks\":{{{}}}}}", pairs.join(","))))
}

/// The token that the request shows.
fn authorize(shared: &Shared, head: &Head) -> Result<Token, Reply> {
    let tokens = shared.tokens();
    let find = |value: &str| tokens.iter().find(|token| token.value == value).cloned();
    let token = if let Some(text) = head.authorization.as_deref() {
        find(&credential(text).ok_or_else(|| Reply::code(3))?)
    } else {
        let value = head.parameter("token").ok_or_else(|| Reply::code(2))?;
        let token = find(&value);
        if token.as_ref().is_none_or(|token| !token.allow_query) {
            return Err(Reply::code(16));
        }
        token
    };
    match token {
        None => Err(Reply::code(4)),
        Some(token) if token.disabled => Err(Reply::code(1)),
        Some(token) => Ok(token),
    }
}

/// `Splunk TOKEN`, or `Basic` with the token as password.
fn credential(text: &str) -> Option<String> {
    let (scheme, value) = text.split_once(' ')?;
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("splunk") && !value.is_empty() {
        return Some(value.to_owned());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let bytes = base64::engine::general_purpose::STANDARD.decode(value).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        return text.split_once(':').map(|(_, password)| password.to_owned());
    }
    None
}

/// The channel that the request names; a token with acknowledgement wants one.
fn channel(shared: &Shared, head: &Head, is_needed: bool) -> Result<Option<String>, Reply> {
    let channel = head.channel.clone().or_else(|| head.parameter("channel"));
    match channel {
        None if is_needed => Err(Reply::code(if shared.config.product == Product::Cloud { 28 } else { 10 })),
        Some(channel) if is_needed && !is_guid(&channel) => Err(Reply::code(11)),
        channel => Ok(channel.map(|channel| channel.to_ascii_uppercase())),
    }
}

fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn decode<'a>(shared: &Shared, call: Call<'a>) -> Result<std::borrow::Cow<'a, [u8]>, Reply> {
    match call.head.encoding.as_deref() {
        None | Some("identity") => Ok(call.body.into()),
        Some("gzip") => {
            let max = shared.config.max_content_length;
            let mut body = Vec::with_capacity(call.body.len().saturating_mul(4).min(max));
            let mut reader = flate2::read::MultiGzDecoder::new(call.body).take(max as u64 + 1);
            reader.read_to_end(&mut body).map_err(|_| Reply::with(6, Some(0), None))?;
            if body.len() > max {
                return Err(Reply::too_large(body.len() as u64, max));
            }
            Ok(body.into())
        }
        Some(_) => Err(Reply::html(415, "The requested content encoding is not supported.")),
    }
}

/// Takes the events of one authorised request.
struct Taker<'a> {
    shared: &'a Shared,
    call: Call<'a>,
    token: &'a Token,
    channel: Option<String>,
}

impl Taker<'_> {
    fn fast(&self, body: &[u8]) -> Reply {
        let mut seqs = Vec::with_capacity(body.len() / 256);
        scan::scan(&scan::finder(), body, &mut seqs);
        self.shared.store.record(&seqs);
        let issued = self.issue(true);
        Reply::with(self.success(), None, issued.map(|(id, _)| id))
    }

    fn strict(&self, body: &[u8]) -> Answer {
        let rules =
            Rules { max_event_bytes: self.shared.config.max_event_bytes, indexes: &self.token.indexes };
        let mut outcome = envelope::parse(body, rules);
        if let Some(count) = self.busy_at().filter(|count| *count < outcome.accepted.len()) {
            outcome.accepted.truncate(count);
            let ack_id = self.take(&outcome.accepted);
            return Err(Reply::with(9, Some(count), ack_id));
        }
        if let Some((count, code)) = self.refuse_at().filter(|(count, _)| *count < outcome.accepted.len()) {
            outcome.accepted.truncate(count);
            let ack_id = self.take(&outcome.accepted);
            // As splunkd does it, code 7 names the event behind the bad one.
            return Err(Reply::with(code, Some(count + usize::from(code == 7)), ack_id));
        }
        self.shared.stats.skipped.fetch_add(outcome.skipped as u64, Ordering::Relaxed);
        let is_empty = outcome.accepted.is_empty() && outcome.skipped == 0;
        match outcome.end {
            Some(End::Refused { code, number }) => {
                let ack_id = self.take(&outcome.accepted);
                Err(Reply::with(code, Some(number), ack_id))
            }
            Some(End::UnknownKey(key)) => {
                tracing::warn!(key, "an unknown envelope key: this object and all behind it are dropped");
                self.shared.stats.odd("unknown envelope key");
                if is_empty {
                    return Err(Reply::code(5));
                }
                let ack_id = self.take(&outcome.accepted);
                Ok(Reply::with(self.success(), None, ack_id))
            }
            None => {
                let ack_id = self.take(&outcome.accepted);
                Ok(Reply::with(self.success(), None, ack_id))
            }
        }
    }

    fn raw(&self, body: &[u8]) -> Reply {
        let text = String::from_utf8_lossy(body);
        let lines = text.lines().filter(|line| !line.is_empty());
        let envelopes: Vec<_> = lines.map(|line| serde_json::json!({ "event": line }).to_string()).collect();
        let envelopes: Vec<_> = envelopes.iter().map(String::as_str).collect();
        let ack_id = self.take(&envelopes);
        Reply::with(self.success(), None, ack_id)
    }

    fn take(&self, envelopes: &[&str]) -> Option<u64> {
        let issued = self.issue(!envelopes.is_empty());
        let origin = Origin {
            connection: self.call.connection,
            request: self.call.request,
            server: self.shared.server,
            instance: self.call.instance,
            incarnation: self.shared.incarnation(self.call.instance),
            channel: self.channel.clone(),
            ack_id: issued.map(|(id, _)| id),
        };
        let due = issued.and_then(|(_, due)| due);
        self.shared.store.take(&origin, envelopes, due, self.call.now);
        origin.ack_id
    }

    fn issue(&self, has_data: bool) -> Option<(u64, Option<Instant>)> {
        let channel = self.channel.as_deref().filter(|_| has_data && self.token.use_ack)?;
        let never = self.word("never-ack").is_some();
        let now = self.call.now;
        let issued = self.shared.with_channels(self.call.instance, |all| all.issue(channel, now, never))?;
        self.shared.stats.acks_issued.fetch_add(1, Ordering::Relaxed);
        Some((issued.id, issued.due))
    }

    /// Code 0, or 24 or 25 where the plan wants a warning.
    fn success(&self) -> u8 {
        self.word("warn").map_or(0, |code| code.parse().unwrap_or(24))
    }

    /// Events that are taken before one is refused, and the code of that.
    fn refuse_at(&self) -> Option<(usize, u8)> {
        let (count, code) = self.word("refuse-at")?.split_once(':')?;
        Some((count.parse().ok()?, code.parse().ok()?))
    }

    fn busy_at(&self) -> Option<usize> {
        self.word("busy-at").map(|count| count.parse().unwrap_or(0))
    }

    fn word(&self, wanted: &str) -> Option<&str> {
        own_word(self.call.fault, wanted)
    }
}

/// The argument of one of the receiver's own fault words (empty without one), if that is what goes wrong.
pub(super) fn own_word<'a>(fault: Option<&'a Fault>, wanted: &str) -> Option<&'a str> {
    match fault {
        Some(Fault::Other { word, arg }) if word == wanted => Some(arg.as_deref().unwrap_or_default()),
        _ => None,
    }
}

/// Largest uncompressed body of Splunk Cloud.
const CLOUD_LIMIT: usize = 5 * 1024 * 1024;
