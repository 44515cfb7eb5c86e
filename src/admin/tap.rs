//! `GET /tap`: copies of frames as they go to the sink, one event per line, values hidden on request.
//!
//! Why: what does an event look like right now, from the process that is running? `preview` shows what would come from
//! the checkpoints on; here nothing is pulled for it.
//! Invariants: 1. without `[admin] tap = true` no log leaves by this door: it has no password. 2. a client that does
//! not read costs nothing but copies that are dropped: executors never wait for it. 3. what was not shown is said.
//! Bounds: [`TAPS_MAX`] taps; [`COPIES_WAITING`] copies of at most `COPY_BYTES_MAX` each wait for a client; a tap ends
//! after [`TAP_TIME_MAX`], with its limit, with its client, or with the process.
//! Driven by: `admin`, one stream per request; `cli/run` says how copies are begun.
//! Spec: "Looking at events" of the reference in README.md: lines of JSON.

pub mod mask;
mod messages;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use async_channel::Receiver;
use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_lite::{future, stream};
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use crate::proto::format::syslog::Framing;
use crate::proto::ids::ShardId;
use crate::proto::tap::{FrameCopy, Origin, TAPS_MAX};
use mask::{Form, Rule};
use messages::Messages;

/// How copies are begun: of these pipelines, of all shards or one. They end when the receiver is dropped.
pub type Attach = Box<dyn Fn(&[u16], Option<ShardId>, usize) -> Receiver<FrameCopy> + Send + Sync>;

/// What can be looked at.
pub struct TapSource {
    /// The pipelines, as the process numbers them.
    pub pipelines: Vec<TapPipeline>,
    /// Begins to copy; the number is how many copies may wait.
    pub attach: Attach,
}

/// One pipeline.
#[derive(Clone, Debug)]
pub struct TapPipeline {
    /// Its name.
    pub name: Arc<str>,
    /// How messages are told apart in a frame.
    pub framing: Framing,
    /// What they are.
    pub form: Form,
}

/// Copies that wait for a client that is slow.
pub const COPIES_WAITING: usize = 8;
/// The longest look.
pub const TAP_TIME_MAX: Duration = Duration::from_hours(1);

/// The door, and who stands in it.
pub(super) struct Door {
    source: Option<TapSource>,
    /// Every tap holds a clone.
    open: Arc<()>,
}

impl Door {
    pub(super) fn new(source: Option<TapSource>) -> Self {
        Self { source, open: Arc::new(()) }
    }

    /// Answers a request; `extend` lets its connection live as long as a tap.
    pub(super) fn answer(&self, query: &str, stopped: Receiver<()>, extend: impl FnOnce()) -> Response {
        let Some(source) = &self.source else { return plain(StatusCode::FORBIDDEN, OFF.to_owned()) };
        let wish = match Wish::parse(query, source) {
            Ok(wish) => wish,
            Err(text) => return plain(StatusCode::BAD_REQUEST, text),
        };
        if Arc::strong_count(&self.open) > TAPS_MAX {
            let text = format!("tap: {TAPS_MAX} are open, which is all there can be - end one of them\n");
            return plain(StatusCode::TOO_MANY_REQUESTS, text);
        }
        extend();
        let now = Instant::now();
        let look = Look {
            copies: (source.attach)(&wish.pipelines, wish.shard, COPIES_WAITING),
            pipelines: source.pipelines.clone(),
            rule: wish.rule,
            left: wish.limit,
            until: now + wish.time,
            ticked: now,
            stopped,
            seen: BTreeMap::new(),
            ever_hidden: Vec::new(),
            shown: 0,
            told: (0, 0),
            received: (0, 0),
            has_ended: false,
            _counted: Arc::clone(&self.open),
        };
        let lines = stream::unfold(look, |mut look| async move {
            let lines = look.next().await?;
            Some((Ok::<Bytes, Infallible>(lines.into()), look))
        });
        ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
    }
}

const OFF: &str = "tap: switched off - a tap shows logs to everyone who reaches this address, without a password - \
nothing is lost - set [admin] tap = true and reload (SIGHUP), and keep [admin] listen on a loopback address\n";

fn plain(status: StatusCode, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, super::PLAIN)], text).into_response()
}

/// What a request asks for.
#[derive(Debug)]
struct Wish {
    pipelines: Vec<u16>,
    shard: Option<ShardId>,
    limit: u64,
    time: Duration,
    rule: Rule,
}

impl Wish {
    /// The error says what is wrong, in the words of the parameter.
    fn parse(query: &str, source: &TapSource) -> Result<Self, String> {
        let mut wish = Self {
            pipelines: (0..).zip(&source.pipelines).map(|(at, _)| at).collect(),
            shard: None,
            limit: u64::MAX,
            time: TAP_TIME_MAX,
            rule: Rule::default(),
        };
        let (mut names, mut all) = (Vec::new(), false);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value).ok_or_else(|| format!("tap: {key}: not UTF-8 behind its % signs\n"))?;
            let number = || value.parse::<u64>().map_err(|_| format!("tap: {key}={value}: not a number\n"));
            match key {
                "pipeline" => {
                    let found = (0..).zip(&source.pipelines).find(|(_, pipeline)| *pipeline.name == *value);
                    let Some((at, _)) = found else {
                        let known: Vec<&str> = source.pipelines.iter().map(|known| &*known.name).collect();
                        return Err(format!(
                            "tap: there is no pipeline {value:?}; there are: {}\n",
                            known.join(", ")
                        ));
                    };
                    wish.pipelines = vec![at];
                }
                "shard" => {
                    let shard = value.parse().map_err(|_| format!("tap: shard={value}: not a number\n"))?;
                    wish.shard = Some(ShardId(shard));
                }
                "limit" => wish.limit = number()?.max(1),
                "seconds" => wish.time = Duration::from_secs(number()?.max(1)).min(TAP_TIME_MAX),
                "mask" => names.extend(value.split(',').filter(|name| !name.is_empty()).map(str::to_owned)),
                "mask_all" => all = !matches!(value.as_str(), "0" | "false"),
                _ => {
                    return Err(format!(
                        "tap: {key}: no such parameter; there are: pipeline, shard, limit, seconds, mask, mask_all\n"
                    ));
                }
            }
        }
        if names.len() > NAMES_MAX {
            return Err(format!("tap: mask: more than {NAMES_MAX} names\n"));
        }
        wish.rule = Rule::new(names, all);
        Ok(wish)
    }
}

/// The text behind `%41` and `+`.
fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

/// One client that looks on.
struct Look {
    copies: Receiver<FrameCopy>,
    pipelines: Vec<TapPipeline>,
    rule: Rule,
    /// Events that are still wanted.
    left: u64,
    until: Instant,
    ticked: Instant,
    stopped: Receiver<()>,
    /// Frames and logs that each executor has handed to the sink.
    seen: BTreeMap<Origin, (u64, u64)>,
    ever_hidden: Vec<String>,
    /// Events.
    shown: u64,
    /// Frames and logs that were said not to be shown.
    told: (u64, u64),
    /// Frames that came, and events in them that were shown or are not wanted.
    received: (u64, u64),
    has_ended: bool,
    _counted: Arc<()>,
}

/// What happened.
enum Event {
    Copy(FrameCopy),
    Tick,
    Ends(&'static str),
}

impl Look {
    /// The next lines; `None` behind the last.
    async fn next(&mut self) -> Option<String> {
        if self.has_ended {
            return None;
        }
        let mut out = String::new();
        while out.is_empty() {
            match self.event().await {
                Event::Copy(copy) => self.show(&copy, &mut out),
                Event::Tick => {
                    self.ticked = Instant::now();
                    // Also finds out that the client has gone.
                    line(&mut out, &json!({ "alive": { "shown": self.shown } }));
                }
                Event::Ends(why) => self.end(why, &mut out),
            }
        }
        if self.left == 0 && !self.has_ended {
            self.end("limit", &mut out);
        }
        Some(out)
    }

    async fn event(&self) -> Event {
        let ends = async {
            // Closed when the page is stopped.
            let _closed = self.stopped.recv().await;
            Event::Ends("stopped")
        };
        let times = async {
            let tick = self.ticked + TICK;
            sleep_until(tick.min(self.until)).await;
            if self.until <= tick { Event::Ends("time") } else { Event::Tick }
        };
        let copies = async {
            match self.copies.recv().await {
                Ok(copy) => Event::Copy(copy),
                Err(_) => Event::Ends("stopped"),
            }
        };
        future::or(ends, future::or(times, copies)).await
    }

    fn show(&mut self, copy: &FrameCopy, out: &mut String) {
        self.seen.insert(copy.origin, (copy.frames, copy.records));
        let Some(pipeline) = self.pipelines.get(usize::from(copy.origin.pipeline)) else { return };
        let (mut shown, limit) = (0, self.left);
        for message in Messages::of(&copy.bytes, pipeline.framing, copy.is_cut) {
            if shown == limit {
                break;
            }
            shown += 1;
            let event = self.rule.apply(&pipeline.form, message);
            let mut document = json!({ "pipeline": &*pipeline.name, "shard": copy.shard.0, "event": event });
            if !self.rule.is_empty() {
                let hidden: Vec<&str> = self.rule.hidden().collect();
                for name in &hidden {
                    if !self.ever_hidden.iter().any(|known| known == name) {
                        self.ever_hidden.push((*name).to_owned());
                    }
                }
                if let Some(document) = document.as_object_mut() {
                    document.insert("masked".to_owned(), hidden.into());
                }
            }
            line(out, &document);
        }
        self.left -= shown;
        self.shown += shown;
        self.received = (self.received.0 + 1, self.received.1 + shown);
        if self.left > 0 {
            self.tell_missing(out);
        }
    }

    /// Says how many frames and logs were not shown since the last time.
    fn tell_missing(&mut self, out: &mut String) {
        let frames: u64 = self.seen.values().map(|(frames, _)| frames).sum();
        let records: u64 = self.seen.values().map(|(_, records)| records).sum();
        let missing = (frames.saturating_sub(self.received.0), records.saturating_sub(self.received.1));
        let new = (missing.0.saturating_sub(self.told.0), missing.1.saturating_sub(self.told.1));
        if new != (0, 0) {
            line(out, &json!({ "not_shown": { "frames": new.0, "events": new.1 } }));
            self.told = missing;
        }
    }

    fn end(&mut self, why: &str, out: &mut String) {
        self.has_ended = true;
        let is_missing = |name: &&String| !self.ever_hidden.contains(name);
        let never: Vec<&String> = self.rule.names().iter().filter(is_missing).collect();
        let (frames, events) = self.told;
        let not_shown = json!({ "frames": frames, "events": events });
        line(
            out,
            &json!({ "end": { "why": why, "shown": self.shown, "not_shown": not_shown, "never_masked": never } }),
        );
    }
}

fn line(out: &mut String, document: &serde_json::Value) {
    // Writing into a string does not fail.
    let _ = writeln!(out, "{document}");
}

/// Between two signs of life where no events come.
const TICK: Duration = Duration::from_secs(1);
const NAMES_MAX: usize = 64;

#[cfg(test)]
mod tests;
