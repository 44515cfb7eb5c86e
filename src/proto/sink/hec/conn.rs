//! One connection to a HEC endpoint: frames out in order, answers in, in the same order.
//!
//! Why: splunkd answers each request before it looks at the next, so a connection that waits for every answer
//! idles for a round trip per megabyte; several requests are kept under way instead.
//! Invariants: 1. answers belong to requests in the order of sending. 2. a frame stays here until its answer is
//!  read whole; when the connection ends it is handed back, never dropped.
//! Bounds: `pipeline_depth` requests; one response head and body at a time.
//! Driven by: `sink::hec`.

use std::collections::VecDeque;

use super::ack::ChannelKey;
use crate::proto::context::Context;
use crate::proto::frame::Frame;
use crate::proto::http1::{Limits, ResponseParser};
use crate::proto::ids::{ConnId, RouteId, ShardId};
use crate::proto::planted::{Bug, planted};
use crate::proto::time::Instant;

/// A request that is not answered yet.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) frame: Frame,
    pub(super) head: Vec<u8>,
    /// The body as it goes out where it is compressed, else empty.
    packed: Vec<u8>,
    pub(super) channel: ChannelKey,
    /// When its first byte was given to the driver.
    pub(super) started: Option<Instant>,
}

impl Request {
    fn body(&self) -> &[u8] {
        if self.packed.is_empty() { &self.frame.bytes } else { &self.packed }
    }
}

/// Whether bytes can flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The driver is connecting.
    Connecting,
    /// Ready.
    Open,
}

/// A data connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) id: ConnId,
    pub(super) route: RouteId,
    pub(super) state: State,
    pub(super) channel: ChannelKey,
    pub(super) requests: VecDeque<Request>,
    /// Requests at the front that are written whole.
    written: usize,
    /// Bytes of the next one that are written, head and body counted through.
    offset: usize,
    pub(super) parser: ResponseParser,
    pub(super) body: Vec<u8>,
    /// Answers read so far.
    pub(super) answers: u64,
    /// When the last answer was read.
    pub(super) answered_at: Instant,
    /// Last time anything moved.
    pub(super) used: Instant,
    /// From then on another address may have its turn.
    pub(super) until: Instant,
    /// It was opened to take the place of this one.
    pub(super) replaces: Option<ConnId>,
    /// Its place is taken: it gets no more frames.
    pub(super) is_replaced: bool,
    spare_head: Vec<u8>,
}

impl Conn {
    pub(super) fn new(id: ConnId, route: RouteId, channel: ChannelKey, now: Instant, limits: Limits) -> Self {
        Self {
            id,
            route,
            state: State::Connecting,
            channel,
            requests: VecDeque::new(),
            written: 0,
            offset: 0,
            parser: ResponseParser::new(limits),
            body: Vec::new(),
            answers: 0,
            answered_at: now,
            used: now,
            until: now,
            replaces: None,
            is_replaced: false,
            spare_head: Vec::new(),
        }
    }

    /// A buffer for the head of the next request.
    pub(super) fn take_head(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.spare_head)
    }

    pub(super) fn push(&mut self, frame: Frame, head: Vec<u8>, packed: Vec<u8>) {
        self.requests.push_back(Request { frame, head, packed, channel: self.channel, started: None });
    }

    /// Takes requests out that are not begun and hold nothing but stale records; returns their channels.
    pub(super) fn forget_unwritten(
        &mut self,
        stale: &impl Fn(&Frame) -> bool,
        cx: &mut Context,
    ) -> Vec<ChannelKey> {
        let mut channels = Vec::new();
        let mut kept = VecDeque::with_capacity(self.requests.len());
        for request in self.requests.drain(..) {
            if request.started.is_none() && stale(&request.frame) {
                channels.push(request.channel);
                cx.pool.give(request.frame);
            } else {
                kept.push_back(request);
            }
        }
        self.requests = kept;
        channels
    }

    /// True while some frame of this shard waits for its answer here.
    pub(super) fn carries(&self, shard: ShardId) -> bool {
        self.requests.iter().any(|request| request.frame.carries(shard))
    }

    /// The next bytes to write.
    pub(super) fn chunk(&mut self, now: Instant) -> Option<&[u8]> {
        if self.state != State::Open {
            return None;
        }
        let request = self.requests.get_mut(self.written)?;
        if request.started.is_none() {
            request.started = Some(now);
        }
        let request = self.requests.get(self.written)?;
        match self.offset.checked_sub(request.head.len()) {
            None => request.head.get(self.offset..),
            Some(at) => request.body().get(at..),
        }
    }

    /// `bytes` of the last chunk are on their way.
    pub(super) fn advance(&mut self, now: Instant, bytes: usize) {
        self.used = now;
        self.offset += bytes;
        if let Some(request) = self.requests.get(self.written)
            && self.offset >= request.head.len() + request.body().len()
        {
            self.written += 1;
            self.offset = 0;
        }
    }

    /// The request that the answer just read belongs to, and whether it had been written whole.
    pub(super) fn answered(&mut self, now: Instant) -> Option<(Request, bool)> {
        let request = if planted(Bug::AnswerToTheNewest) {
            self.requests.pop_back()?
        } else {
            self.requests.pop_front()?
        };
        self.used = now;
        self.answered_at = now;
        self.answers += 1;
        let whole = self.written > 0;
        if whole {
            self.written -= 1;
        } else {
            self.offset = 0;
        }
        Some((request, whole))
    }

    /// Keeps the head buffer of a finished request.
    pub(super) fn recycle(&mut self, mut head: Vec<u8>) {
        head.clear();
        self.spare_head = head;
    }

    /// True where the next request is begun and not written whole.
    pub(super) fn is_writing(&self) -> bool {
        self.offset > 0
    }

    /// True where the oldest request is not written whole: no answer to it can be true yet.
    pub(super) fn is_unwritten(&self) -> bool {
        self.written == 0 && !self.requests.is_empty()
    }

    /// The oldest request's first byte, where one is under way.
    pub(super) fn oldest_started(&self) -> Option<Instant> {
        self.requests.front().and_then(|request| request.started)
    }

    /// True where a new request may be added. The first one goes alone: its answer may bring the cookie that keeps the
    /// others on the same indexer, or show that the server closes after each.
    pub(super) fn has_room(&self, depth: usize) -> bool {
        self.requests.len() < if self.answers == 0 { 1 } else { depth }
    }
}
