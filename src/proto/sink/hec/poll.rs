//! Connections that ask: for acknowledgements, and for the health of an address; one per address, one question at a
//! time.
//!
//! Why: an id is told `true` once; a poll that is cut off takes its confirmations with it. So polls are small,
//! on a connection of their own where no large request delays them, and never cancelled before their deadline.
//! Invariants: 1. at most one poll is under way per address. 2. a poll that fails confirms nothing.
//! Bounds: one connection per address; answers of at most 1 MiB.
//! Driven by: `sink::hec`.

use core::time::Duration;

use super::ack::Asked;
use super::answer::BODY_BYTES_MAX;
use crate::proto::context::Context;
use crate::proto::event::{Action, To};
use crate::proto::http1::{Head, Limits, Progress, ResponseParser};
use crate::proto::ids::{ConnId, RouteId};
use crate::proto::time::Instant;

/// Longest time that a poll connection stays open without a poll.
const IDLE_MAX: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct PollConn {
    id: ConnId,
    route: RouteId,
    open: bool,
    asked: Option<(Question, Instant)>,
    out: Vec<u8>,
    offset: usize,
    parser: ResponseParser,
    body: Vec<u8>,
    used: Instant,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Are these ids indexed?
    Acks(Asked),
    /// Can this address be used again?
    Health,
    /// Does the token have acknowledgement here? Asked with an id that nobody gave: it stores nothing.
    HasAcks,
}

/// What came of a question.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A whole HTTP answer.
    Answer { route: RouteId, question: Question, answer: Answered },
    /// Not HTTP; the connection is closed.
    Broken { route: RouteId, question: Option<Question>, detail: String },
}

/// The parts of an answer that count.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) location: Option<String>,
    pub(super) retry_after: Option<Duration>,
    pub(super) cookie: Option<String>,
    pub(super) body: Vec<u8>,
}

/// All poll connections of a sink.
#[derive(Debug)]
pub(super) struct Polls {
    conns: Vec<PollConn>,
    timeout: Duration,
}

impl Polls {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { conns: Vec::new(), timeout }
    }

    pub(super) fn owns(&self, id: ConnId) -> bool {
        self.conns.iter().any(|conn| conn.id == id)
    }

    /// True while a poll is under way at this address.
    pub(super) fn is_busy(&self, route: RouteId) -> bool {
        self.conns.iter().any(|conn| conn.route == route && conn.asked.is_some())
    }

    pub(super) fn send(
        &mut self,
        now: Instant,
        route: RouteId,
        question: Question,
        out: Vec<u8>,
        cx: &mut Context,
    ) {
        let at = self.conns.iter().position(|conn| conn.route == route).unwrap_or_else(|| {
            let limits = Limits { head_bytes_max: 64 << 10, body_bytes_max: BODY_BYTES_MAX };
            self.conns.push(PollConn {
                id: cx.connect(To::Sink(route)),
                route,
                open: false,
                asked: None,
                out: Vec::new(),
                offset: 0,
                parser: ResponseParser::new(limits),
                body: Vec::new(),
                used: now,
            });
            self.conns.len() - 1
        });
        if let Some(conn) = self.conns.get_mut(at) {
            conn.out = out;
            conn.offset = 0;
            conn.asked = Some((question, now));
            conn.used = now;
            if conn.open {
                cx.actions.push_back(Action::Transmit(conn.id));
            }
        }
    }

    pub(super) fn handle_connected(&mut self, now: Instant, id: ConnId) -> bool {
        let Some(conn) = self.conns.iter_mut().find(|conn| conn.id == id) else { return false };
        conn.open = true;
        conn.used = now;
        true
    }

    pub(super) fn chunk(&self, id: ConnId) -> Option<&[u8]> {
        let conn = self.conns.iter().find(|conn| conn.id == id && conn.open)?;
        conn.out.get(conn.offset..).filter(|rest| !rest.is_empty())
    }

    pub(super) fn handle_transmitted(&mut self, now: Instant, id: ConnId, bytes: usize) -> bool {
        let Some(conn) = self.conns.iter_mut().find(|conn| conn.id == id) else { return false };
        conn.offset += bytes;
        conn.used = now;
        true
    }

    pub(super) fn handle_received(
        &mut self,
        now: Instant,
        id: ConnId,
        bytes: &[u8],
        cx: &mut Context,
    ) -> Option<Outcome> {
        let at = self.conns.iter().position(|conn| conn.id == id)?;
        let mut rest = bytes;
        loop {
            let conn = self.conns.get_mut(at)?;
            let (used, progress) = match conn.parser.handle(rest, &mut conn.body) {
                Ok(step) => step,
                Err(error) => return Some(self.broken(at, error.to_string(), cx)),
            };
            rest = rest.get(used..).unwrap_or_default();
            match progress {
                Progress::Head => {}
                Progress::NeedMore => return None,
                Progress::Done => break,
            }
        }
        let conn = self.conns.get_mut(at)?;
        let Some((question, _)) = conn.asked.take() else {
            return Some(self.broken(at, "an answer to no request".to_owned(), cx));
        };
        let head = conn.parser.head();
        let keep_alive = head.is_some_and(|head| head.keep_alive());
        let answer = Answered {
            status: head.map_or(0, |head| head.status()),
            location: head.and_then(|head| head.header("location").map(ToOwned::to_owned)),
            retry_after: head.as_ref().and_then(retry_after),
            cookie: head.as_ref().and_then(cookie),
            body: core::mem::take(&mut conn.body),
        };
        conn.parser.reset();
        conn.used = now;
        let route = conn.route;
        if !keep_alive {
            cx.actions.push_back(Action::Close(id));
            self.conns.swap_remove(at);
        }
        Some(Outcome::Answer { route, question, answer })
    }

    /// Returns the address, and the question that was cut off, if one was under way.
    pub(super) fn handle_closed(&mut self, id: ConnId) -> Option<(RouteId, Option<Question>)> {
        let at = self.conns.iter().position(|conn| conn.id == id)?;
        let conn = self.conns.swap_remove(at);
        Some((conn.route, conn.asked.map(|(question, _)| question)))
    }

    /// Closes what is idle; returns a question that took too long.
    pub(super) fn handle_timeout(&mut self, now: Instant, cx: &mut Context) -> Option<(RouteId, Question)> {
        let timeout = self.timeout;
        while let Some(at) = self.conns.iter().position(|conn| deadline(conn, timeout) <= now) {
            let conn = self.conns.swap_remove(at);
            cx.actions.push_back(Action::Close(conn.id));
            if let Some((question, _)) = conn.asked {
                return Some((conn.route, question));
            }
        }
        None
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.conns.iter().map(|conn| deadline(conn, self.timeout)).min()
    }

    pub(super) fn close_all(&mut self, cx: &mut Context) {
        for conn in self.conns.drain(..) {
            cx.actions.push_back(Action::Close(conn.id));
        }
    }

    fn broken(&mut self, at: usize, detail: String, cx: &mut Context) -> Outcome {
        let conn = self.conns.swap_remove(at);
        cx.actions.push_back(Action::Close(conn.id));
        Outcome::Broken { route: conn.route, question: conn.asked.map(|(question, _)| question), detail }
    }
}

fn deadline(conn: &PollConn, timeout: Duration) -> Instant {
    match conn.asked {
        Some((_, since)) => since + timeout,
        None => conn.used + IDLE_MAX,
    }
}

/// `Retry-After` in seconds; a date in it is not looked at.
pub(super) fn retry_after(head: &Head<'_>) -> Option<Duration> {
    head.header("retry-after")?.trim().parse().ok().map(Duration::from_secs)
}

/// All `Set-Cookie` of an answer as the value of `Cookie`: names and values, attributes left out. None or one, mostly.
pub(super) fn cookie(head: &Head<'_>) -> Option<String> {
    let mut cookie = String::new();
    for set in head.headers("set-cookie") {
        let pair = set.split(';').next().unwrap_or_default().trim();
        let is_sound = pair.contains('=') && !pair.bytes().any(|byte| byte.is_ascii_control());
        if is_sound && cookie.len() + pair.len() < COOKIE_BYTES_MAX {
            if !cookie.is_empty() {
                cookie.push_str("; ");
            }
            cookie.push_str(pair);
        }
    }
    (!cookie.is_empty()).then_some(cookie)
}

/// Longest `Cookie` that is sent back.
const COOKIE_BYTES_MAX: usize = 4096;
