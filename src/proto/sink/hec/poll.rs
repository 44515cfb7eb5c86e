//! Connections that ask for acknowledgements: one per address, one poll at a time.
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
use crate::proto::http1::{Limits, Progress, ResponseParser};
use crate::proto::ids::{ConnId, RouteId};
use crate::proto::time::Instant;

/// Longest time that a poll connection stays open without a poll.
const IDLE_MAX: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct PollConn {
    id: ConnId,
    route: RouteId,
    open: bool,
    asked: Option<(Asked, Instant)>,
    out: Vec<u8>,
    offset: usize,
    parser: ResponseParser,
    body: Vec<u8>,
    used: Instant,
}

/// What came of a poll.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A whole HTTP answer.
    Answer { route: RouteId, asked: Asked, status: u16, body: Vec<u8> },
    /// Not HTTP; the connection is closed.
    Broken { route: RouteId, detail: String },
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
        asked: Asked,
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
            conn.asked = Some((asked, now));
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
        let Some((asked, _)) = conn.asked.take() else {
            return Some(self.broken(at, "an answer to no request".to_owned(), cx));
        };
        let head = conn.parser.head().map(|head| (head.status(), head.keep_alive()));
        let (status, keep_alive) = head.unwrap_or((0, false));
        let body = core::mem::take(&mut conn.body);
        conn.parser.reset();
        conn.used = now;
        let route = conn.route;
        if !keep_alive {
            cx.actions.push_back(Action::Close(id));
            self.conns.swap_remove(at);
        }
        Some(Outcome::Answer { route, asked, status, body })
    }

    /// Returns the address whose poll was cut off, if one was under way.
    pub(super) fn handle_closed(&mut self, id: ConnId) -> Option<(RouteId, bool)> {
        let at = self.conns.iter().position(|conn| conn.id == id)?;
        let conn = self.conns.swap_remove(at);
        Some((conn.route, conn.asked.is_some()))
    }

    /// Closes what is idle; returns an address whose poll took too long.
    pub(super) fn handle_timeout(&mut self, now: Instant, cx: &mut Context) -> Option<RouteId> {
        let timeout = self.timeout;
        while let Some(at) = self.conns.iter().position(|conn| deadline(conn, timeout) <= now) {
            let conn = self.conns.swap_remove(at);
            cx.actions.push_back(Action::Close(conn.id));
            if conn.asked.is_some() {
                return Some(conn.route);
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
        Outcome::Broken { route: conn.route, detail }
    }
}

fn deadline(conn: &PollConn, timeout: Duration) -> Instant {
    match conn.asked {
        Some((_, since)) => since + timeout,
        None => conn.used + IDLE_MAX,
    }
}
