//! Where frames go.
//!
//! Why: one pipeline works with each kind of sink; an enum keeps the calls direct and the kinds countable.
//! Invariants: 1. a connection belongs to the sink or to a shard: the `handle_*` say whether it was theirs.
//! Bounds: those of the kinds. Driven by: `pipeline`.

pub mod hec;
pub mod stdout;

use self::hec::Hec;
use self::stdout::Stdout;
use super::context::Context;
use super::event::Closed;
use super::frame::Frame;
use super::ids::{ConnId, EndpointId, Epoch, RouteId, ShardId};
use super::time::Instant;

/// Settings of a sink.
#[derive(Clone, Debug)]
pub enum Params {
    /// Splunk HTTP Event Collector.
    Hec(hec::Params),
    /// Standard output.
    Stdout,
}

/// A sink.
#[derive(Debug)]
pub enum Sink {
    /// Splunk HTTP Event Collector.
    Hec(Box<Hec>),
    /// Standard output.
    Stdout(Stdout),
}

/// The same call for each kind.
macro_rules! each {
    ($self:expr, $sink:ident => $call:expr) => {
        match $self {
            Sink::Hec($sink) => $call,
            Sink::Stdout($sink) => $call,
        }
    };
}

impl Sink {
    /// A sink without connections.
    pub fn new(params: Params, cx: &mut Context) -> Self {
        match params {
            Params::Hec(params) => Self::Hec(Box::new(Hec::new(params, cx))),
            Params::Stdout => Self::Stdout(Stdout::default()),
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

    /// True when this shard waits for the sink or for an operator.
    pub fn holds(&self, shard: ShardId) -> bool {
        match self {
            Self::Hec(hec) => hec.is_troubled() || hec.held_shards().any(|held| held == shard),
            Self::Stdout(stdout) => stdout.is_troubled(),
        }
    }

    /// The lease of a shard is lost: what was not given to a connection yet is forgotten.
    pub fn forget(&mut self, now: Instant, shard: ShardId, epoch: Epoch, cx: &mut Context) {
        each!(self, sink => sink.forget(now, shard, epoch, cx));
    }

    /// The driver looked addresses up.
    pub fn handle_routes(
        &mut self,
        now: Instant,
        endpoint: EndpointId,
        found: Result<Vec<RouteId>, String>,
        cx: &mut Context,
    ) {
        if let Self::Hec(hec) = self {
            hec.handle_routes(now, endpoint, found, cx);
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
            Self::Stdout(stdout) => stdout.owns(conn),
        }
    }

    /// Bytes of the last chunk went out; false when the connection is not one of the sink.
    pub fn handle_transmitted(&mut self, now: Instant, conn: ConnId, bytes: usize, cx: &mut Context) -> bool {
        each!(self, sink => sink.handle_transmitted(now, conn, bytes, cx))
    }

    /// A connection ended; false when it is not one of the sink.
    pub fn handle_closed(&mut self, now: Instant, conn: ConnId, why: &Closed, cx: &mut Context) -> bool {
        each!(self, sink => sink.handle_closed(now, conn, why, cx))
    }

    /// A deadline passed.
    pub fn handle_timeout(&mut self, now: Instant, cx: &mut Context) {
        match self {
            Self::Hec(hec) => hec.handle_timeout(now, cx),
            Self::Stdout(stdout) => stdout.handle_timeout(now),
        }
    }

    /// The next moment that `handle_timeout` is needed.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Hec(hec) => hec.poll_timeout(),
            Self::Stdout(stdout) => stdout.poll_timeout(),
        }
    }

    /// The next bytes of a connection of this sink.
    pub fn poll_transmit(&mut self, now: Instant, conn: ConnId) -> Option<&[u8]> {
        match self {
            Self::Hec(hec) => hec.poll_transmit(now, conn),
            Self::Stdout(stdout) => stdout.poll_transmit(conn),
        }
    }

    /// Gives waiting frames to connections.
    pub fn dispatch(&mut self, now: Instant, cx: &mut Context) {
        each!(self, sink => sink.dispatch(now, cx));
    }

    /// Closes every connection.
    pub fn close_all(&mut self, cx: &mut Context) {
        each!(self, sink => sink.close_all(cx));
    }
}
