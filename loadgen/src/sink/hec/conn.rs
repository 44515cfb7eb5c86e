//! One connection: reads requests in order, answers each before it looks at the next, and misbehaves on demand.
//!
//! Why: senders pipeline, reuse and lose connections; what they see of that is decided here, byte by byte.
//! Invariants: 1. answers come in the order of the requests. 2. A body is handled when it is complete, never before.
//! 3. Without a User-Agent the answer is HTTP/1.0 and the connection ends.   Bounds: one buffer of at most a head and
//! `max_content_length` bytes; idle time as splunkd's.
//! Driven by: `server`, one task each.   Spec: hec.md 8, 12.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep, timeout};

use super::admin;
use super::collector::{self, Call, Route, own_word as word};
use super::http::{Framing, Head, dechunk};
use super::reply::Reply;
use super::state::Shared;
use crate::fault::{Fault, parse_duration, parse_size};
use crate::sink::tls::Stream;

/// A connection and what has been read of it.
#[derive(Debug)]
pub(super) struct Conn {
    shared: Arc<Shared>,
    stream: Stream,
    id: u64,
    buffer: Vec<u8>,
    /// Everything before this has been handled.
    start: usize,
    requests: u64,
    /// Bytes a second that are read, if that is limited.
    read_rate: Option<u64>,
}

/// What follows an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Continue,
    /// Orderly end: everything written is delivered.
    Close,
    /// End with a reset.
    Reset,
}

impl Conn {
    pub(super) fn new(shared: Arc<Shared>, stream: Stream, id: u64) -> Self {
        Self { shared, stream, id, buffer: Vec::with_capacity(READ), start: 0, requests: 0, read_rate: None }
    }

    /// Serves until one side ends it.
    pub(super) async fn run(mut self) -> Result<()> {
        loop {
            let (head, size) = match self.head().await {
                Ok(Some(found)) => found,
                Ok(None) => return self.close().await,
                Err(why) => {
                    self.shared.stats.refused(400, None);
                    let reply = Reply::html(400, "The request could not be read.");
                    self.write(&reply.render(1, true), None).await?;
                    self.close().await?;
                    return Err(why);
                }
            };
            match self.request(&head, size).await? {
                Next::Continue => {}
                Next::Close => return self.close().await,
                Next::Reset => {
                    self.stream.reset_on_close();
                    return Ok(());
                }
            }
        }
    }

    async fn request(&mut self, head: &Head, head_size: usize) -> Result<Next> {
        let route = Route::of(&head.path);
        let shared = Arc::clone(&self.shared);
        let fault = route.kind().and_then(|kind| shared.decide(kind));
        match &fault {
            Some(Fault::ResetBefore) => return Ok(Next::Reset),
            Some(Fault::Hang) => return self.hang().await,
            Some(Fault::Stall(time)) => sleep(*time).await,
            _ => {}
        }
        self.read_rate = match word(fault.as_ref(), "slow-read") {
            Some("") => Some(SLOW_READ),
            Some(rate) => Some(parse_size(rate)?.max(1)),
            None => None,
        };
        let (minor, close) = if head.has_user_agent || route == Route::Admin {
            (1, head.wants_close)
        } else {
            self.shared.stats.odd("no User-Agent");
            (0, true)
        };
        if head.expects {
            self.shared.stats.odd("Expect");
        }
        let Some((chunked, size)) = self.body(head, head_size).await? else {
            let size = if let Framing::Length(size) = head.framing { size } else { 0 };
            return self.refuse_size(size, minor).await;
        };
        let end = self.start + head_size + size;
        let body = match &chunked {
            Some(body) => body.as_slice(),
            None => self.buffer.get(self.start + head_size..end).context("body")?,
        };
        let reply = if route == Route::Admin {
            admin::answer(&shared, head, body)
        } else {
            self.requests += 1;
            shared.stats.requests.fetch_add(1, Ordering::Relaxed);
            shared.stats.body_bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
            answer(&shared, head, body, route, (self.id, self.requests), fault.as_ref())
        };
        self.start = end;
        if route != Route::Admin && reply.status >= 300 {
            shared.stats.refused(reply.status, reply.code_in_body());
        }
        if let Some(kind) = ["restart", "crash"].into_iter().find(|kind| word(fault.as_ref(), kind).is_some())
        {
            let arg = word(fault.as_ref(), kind).filter(|arg| !arg.is_empty());
            let downtime = arg.map_or(Ok(Duration::ZERO), parse_duration)?;
            shared.restart(0, downtime, kind == "crash", Instant::now());
            return Ok(Next::Reset);
        }
        self.respond(&reply, minor, close || reply.close, fault.as_ref()).await
    }

    /// The next head and its size; `None` when the connection ends or has been idle for too long.
    async fn head(&mut self) -> Result<Option<(Head, usize)>> {
        let mut waited = Duration::ZERO;
        loop {
            let unread = self.buffer.get(self.start..).unwrap_or_default();
            if let Some(found) = Head::parse(unread)? {
                return Ok(Some(found));
            }
            let limit = if unread.is_empty() { self.shared.idle_limit() } else { HEAD_TIME };
            if waited >= limit {
                return Ok(None);
            }
            // The limit may change while a connection is idle, so it is looked at now and then.
            let slice = limit.saturating_sub(waited).min(TICK);
            match timeout(slice, self.fill(READ)).await {
                Err(_) => waited += slice,
                Ok(Ok(0)) => return Ok(None),
                Ok(read) => {
                    read?;
                    waited = Duration::ZERO;
                }
            }
        }
    }

    /// Reads the body: its bytes if it was chunked, and its size on the wire. `None` if it is too large.
    async fn body(&mut self, head: &Head, head_size: usize) -> Result<Option<(Option<Vec<u8>>, usize)>> {
        let max = self.shared.config.max_content_length;
        match head.framing {
            Framing::None => Ok(Some((None, 0))),
            Framing::Length(size) => {
                let Some(size) = usize::try_from(size).ok().filter(|size| *size <= max) else {
                    return Ok(None);
                };
                loop {
                    let missing = (head_size + size).saturating_sub(self.buffer.len() - self.start);
                    if missing == 0 {
                        return Ok(Some((None, size)));
                    }
                    ensure!(self.fill(missing.clamp(READ, MAX_READ)).await? > 0, "the body was cut");
                }
            }
            Framing::Chunked => loop {
                let unread = self.buffer.get(self.start + head_size..).unwrap_or_default();
                if let Some((body, size)) = dechunk(unread, max)? {
                    return Ok(Some((Some(body), size)));
                }
                ensure!(self.fill(READ).await? > 0, "the body was cut");
            },
        }
    }

    async fn refuse_size(&mut self, size: u64, minor: u8) -> Result<Next> {
        self.shared.stats.requests.fetch_add(1, Ordering::Relaxed);
        self.shared.stats.refused(413, None);
        let reply = Reply::too_large(size, self.shared.config.max_content_length);
        self.write(&reply.render(minor, true), None).await?;
        Ok(Next::Close)
    }

    async fn respond(
        &mut self,
        reply: &Reply,
        minor: u8,
        close: bool,
        fault: Option<&Fault>,
    ) -> Result<Next> {
        let mut bytes = reply.render(minor, close);
        let body_at = bytes.len() - reply.body.len();
        let next = if close { Next::Close } else { Next::Continue };
        match fault {
            Some(Fault::ResetAfter) => return Ok(Next::Reset),
            Some(Fault::Tear(size)) => {
                bytes.truncate(body_at + size.unwrap_or(reply.body.len() / 2));
                self.write(&bytes, None).await?;
                // Long enough for the peer to read what was written before the reset discards it.
                sleep(Duration::from_millis(20)).await;
                return Ok(Next::Reset);
            }
            Some(Fault::Bits) => {
                if let Some(byte) = bytes.get_mut(body_at + reply.body.len() / 2) {
                    *byte ^= 0x10;
                }
            }
            Some(Fault::Delay(time)) => sleep(*time).await,
            Some(Fault::Slow(rate)) => {
                self.write(&bytes, Some(*rate)).await?;
                return Ok(next);
            }
            Some(Fault::Duplicate) => bytes.extend_from_within(..),
            _ => {}
        }
        self.write(&bytes, None).await?;
        Ok(if word(fault, "close").is_some() { Next::Close } else { next })
    }

    async fn write(&mut self, bytes: &[u8], rate: Option<u64>) -> Result<()> {
        match rate {
            None => self.stream.write_all(bytes).await?,
            Some(rate) => {
                let chunk = usize::try_from(rate / 10).unwrap_or(usize::MAX).max(1);
                for chunk in bytes.chunks(chunk) {
                    self.stream.write_all(chunk).await?;
                    self.stream.flush().await?;
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
        self.stream.flush().await?;
        Ok(())
    }

    /// Reads once, with room for at least so many bytes.
    async fn fill(&mut self, room: usize) -> Result<usize> {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        } else if self.start > 0 && self.buffer.capacity() - self.buffer.len() < room {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let room =
            self.read_rate.map_or(room, |rate| room.min(usize::try_from(rate / 10).unwrap_or(room).max(1)));
        if self.read_rate.is_some() {
            let mut chunk = vec![0; room];
            let size = self.stream.read(&mut chunk).await?;
            self.buffer.extend_from_slice(chunk.get(..size).unwrap_or_default());
            sleep(Duration::from_millis(100)).await;
            return Ok(size);
        }
        self.buffer.reserve(room);
        Ok(self.stream.read_buf(&mut self.buffer).await?)
    }

    /// Never answers; ends when the peer does.
    async fn hang(&mut self) -> Result<Next> {
        loop {
            self.start = self.buffer.len();
            if self.fill(READ).await? == 0 {
                return Ok(Next::Close);
            }
        }
    }

    /// Ends in order, then reads on for a moment: a close with unread bytes would reset the connection and with it the
    /// answer that the peer has not read yet.
    async fn close(&mut self) -> Result<()> {
        self.stream.shutdown().await?;
        let drain = async {
            while self.fill(READ).await? > 0 {
                self.start = self.buffer.len();
            }
            Ok::<_, anyhow::Error>(())
        };
        // The peer may take longer or reset: both end it as well.
        let _ = timeout(LINGER, drain).await;
        Ok(())
    }
}

/// The answer to a request of the collector, with the plan's refusals in its place.
fn answer(
    shared: &Shared,
    head: &Head,
    body: &[u8],
    route: Route,
    (connection, request): (u64, u64),
    fault: Option<&Fault>,
) -> Reply {
    match fault {
        Some(Fault::Refuse { status, code }) => return refusal(*status, code.as_deref()),
        Some(Fault::Other { word, arg }) if word == "redirect" || word == "html" => {
            let status = arg.as_deref().and_then(|status| status.parse().ok());
            return match word.as_str() {
                "redirect" => Reply::splunk_web(status.unwrap_or(303)),
                _ => Reply::html(status.unwrap_or(502), "The server could not reach its upstream."),
            };
        }
        _ => {}
    }
    let now = Instant::now();
    let Some((instance, cookie)) = shared.choose(head, now) else {
        return Reply::html(503, "No upstream is available.");
    };
    let call = Call { route, head, body, connection, request, instance, fault, now };
    let mut reply = collector::answer(shared, call);
    if let Some(cookie) = cookie {
        reply.headers.push(("Set-Cookie", cookie));
    }
    match fault {
        Some(Fault::RefuseAfter { status, code }) => refusal(*status, code.as_deref()),
        fault if word(fault, "garbled").is_some() => Reply { body: b"{\"text\":\"Succ".to_vec(), ..reply },
        fault if word(fault, "no-code").is_some() => Reply { body: b"OK".to_vec(), ..reply },
        _ => reply,
    }
}

fn refusal(status: Option<u16>, code: Option<&str>) -> Reply {
    Reply::refusal(status.unwrap_or(503), code.and_then(|code| code.parse().ok()))
}

const SLOW_READ: u64 = 64 * 1024;
const READ: usize = 256 * 1024;
const MAX_READ: usize = 4 * 1024 * 1024;
const HEAD_TIME: Duration = Duration::from_mins(1);
const TICK: Duration = Duration::from_millis(250);
const LINGER: Duration = Duration::from_secs(2);
