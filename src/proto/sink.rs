//! Where frames go.
//!
//! Why: one pipeline works with each kind of sink; an enum keeps the calls direct and the kinds countable.
//! Invariants: 1. a connection belongs to the sink or to a shard: the `handle_*` say whether it was theirs.
//! Bounds: those of the kinds. Driven by: `pipeline`.

pub mod hec;
mod route;
pub mod stdout;
pub mod syslog;

use self::hec::Hec;
use self::stdout::Stdout;
use self::syslog::Syslog;
use super::context::Context;
use super::event::{Closed, Ledger, Token};
use super::frame::Frame;
use super::ids::{ConnId, EndpointId, Epoch, RouteId, ShardId};
use super::time::Instant;

/// Settings of a sink.
#[derive(Clone, Debug)]
pub enum Params {
    /// Splunk HTTP Event Collector.
    Hec(hec::Params),
    /// Syslog over TCP, TLS, RELP or UDP.
    Syslog(syslog::Params),
    /// Standard output.
    Stdout,
}

/// A sink.
#[derive(Debug)]
pub enum Sink {
    /// Splunk HTTP Event Collector.
    Hec(Box<Hec>),
    /// Syslog over TCP, TLS, RELP or UDP.
    Syslog(Box<Syslog>),
    /// Standard output.
    Stdout(Stdout),
}

/// The same call for each kind.
macro_rules! each {
    ($self:expr, $sink:ident => $call:expr) => {
        match $self {
            Sink::Hec($sink) => $call,
            Sink::Syslog($sink) => $call,
            Sink::Stdout($sink) => $call,
        }
    };
}

impl Sink {
    /// A sink without connections.
    pub fn new(params: Params, cx: &mut Context) -> Self {
        match params {
            Params::Hec(params) => Self::Hec(Box::new(Hec::new(params, cx))),
            Params::Syslog(params) => Self::Syslog(Box::new(Syslog::new(params, cx))),
            Params::Stdout => Self::Stdout(Stdout::default()),
        }
    }

    /// Another secret to show to the sink.
    pub fn set_token(&mut self, token: &Token) {
        if let Self::Hec(hec) = self {
            hec.set_token(&token.0);
        }
    }

    /// Takes a frame over.
    pub fn push(&mut self, frame: Frame) {
        each!(self, sink => sink.push(frame));
    }

    /// True while bytes of this shard are in memory here.
    pub fn carries(&self, shard: ShardId) -> bool {
        each!(self, sink => sink.carries(shard))
    }

    /// True when no frame is in memory here.
    pub fn is_empty(&self) -> bool {
        each!(self, sink => sink.frames()) == 0
    }

    /// True when this shard waits for the sink.
    pub fn holds(&self, shard: ShardId) -> bool {
        match self {
            Self::Hec(hec) => hec.is_troubled(),
            Self::Syslog(syslog) => syslog.holds(shard),
            Self::Stdout(stdout) => stdout.is_troubled(),
        }
    }

    /// The lease of a shard is lost: what was not given to a connection yet is forgotten.
    pub fn forget(&mut self, now: Instant, shard: ShardId, epoch: Epoch, cx: &mut Context) {
        match self {
            Self::Hec(hec) => hec.forget(now, shard, epoch, cx),
            Self::Syslog(syslog) => syslog.forget(shard, epoch, cx),
            Self::Stdout(stdout) => stdout.forget(now, shard, epoch, cx),
        }
    }

    /// This shard is about to be given up: what it waits for should come soon.
    pub fn hasten(&mut self, shard: ShardId) {
        if let Self::Syslog(syslog) = self {
            syslog.hasten(shard);
        }
    }

    /// Every lease is over: a frame that is written in part must not become whole.
    pub fn sever(&mut self, cx: &mut Context) {
        match self {
            Self::Hec(hec) => hec.sever(cx),
            Self::Syslog(syslog) => syslog.sever(cx),
            Self::Stdout(_) => {}
        }
    }

    /// The driver looked addresses up.
    pub fn handle_routes(
        &mut self,
        now: Instant,
        endpoint: EndpointId,
        found: Result<Vec<RouteId>, String>,
        cx: &mut Context,
    ) {
        match self {
            Self::Hec(hec) => hec.handle_routes(now, endpoint, found, cx),
            Self::Syslog(syslog) => syslog.handle_routes(now, endpoint, found, cx),
            Self::Stdout(_) => {}
        }
    }

    /// A connection is ready; false when it is not one of the sink.
    pub fn handle_connected(&mut self, now: Instant, conn: ConnId, cx: &mut Context) -> bool {
        each!(self, sink => sink.handle_connected(now, conn, cx))
    }

    /// Bytes came; false when the connection is not one of the sink.
    pub fn handle_received(&mut self, now: Instant, conn: ConnId, bytes: &[u8], cx: &mut Context) -> bool {
        match self {
            Self::Hec(hec) => hec.handle_received(now, conn, bytes, cx),
            Self::Syslog(syslog) => syslog.handle_received(now, conn, bytes, cx),
            Self::Stdout(stdout) => stdout.owns(conn),
        }
    }

    /// Bytes of the last chunk went out; false when the connection is not one of the sink.
    pub fn handle_transmitted(&mut self, now: Instant, conn: ConnId, bytes: usize, cx: &mut Context) -> bool {
        each!(self, sink => sink.handle_transmitted(now, conn, bytes, cx))
    }

    /// Our FIN of a connection is out. Only syslog asks for one.
    pub fn handle_finished(&mut self, now: Instant, conn: ConnId) {
        if let Self::Syslog(syslog) = self {
            syslog.handle_finished(now, conn);
        }
    }

    /// How far the bytes of a connection have come. Only syslog asks for it.
    pub fn handle_ledger(&mut self, now: Instant, conn: ConnId, ledger: Ledger, cx: &mut Context) {
        if let Self::Syslog(syslog) = self {
            syslog.handle_ledger(now, conn, ledger, cx);
        }
    }

    /// A connection ended; false when it is not one of the sink.
    pub fn handle_closed(&mut self, now: Instant, conn: ConnId, why: &Closed, cx: &mut Context) -> bool {
        each!(self, sink => sink.handle_closed(now, conn, why, cx))
    }

    /// A deadline passed.
    pub fn handle_timeout(&mut self, now: Instant, cx: &mut Context) {
        match self {
            Self::Hec(hec) => hec.handle_timeout(now, cx),
            Self::Syslog(syslog) => syslog.handle_timeout(now, cx),
            Self::Stdout(stdout) => stdout.handle_timeout(now),
        }
    }

    /// The next moment that `handle_timeout` is needed.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Hec(hec) => hec.poll_timeout(),
            Self::Syslog(syslog) => syslog.poll_timeout(),
            Self::Stdout(stdout) => stdout.poll_timeout(),
        }
    }

    /// The next bytes of a connection of this sink.
    pub fn poll_transmit(&mut self, now: Instant, conn: ConnId) -> Option<&[u8]> {
        match self {
            Self::Hec(hec) => hec.poll_transmit(now, conn),
            Self::Syslog(syslog) => syslog.poll_transmit(now, conn),
            Self::Stdout(stdout) => stdout.poll_transmit(conn),
        }
    }

    /// Gives waiting frames to connections.
    pub fn dispatch(&mut self, now: Instant, cx: &mut Context) {
        each!(self, sink => sink.dispatch(now, cx));
    }

    /// Says goodbye where a protocol has one; true when nothing is left to be said. Called when no frame is left.
    pub fn wind_down(&mut self, now: Instant, cx: &mut Context) -> bool {
        match self {
            Self::Syslog(syslog) => syslog.wind_down(now, cx),
            Self::Hec(_) | Self::Stdout(_) => true,
        }
    }

    /// Closes every connection.
    pub fn close_all(&mut self, cx: &mut Context) {
        each!(self, sink => sink.close_all(cx));
    }
}
