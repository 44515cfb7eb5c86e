//! Syslog as a sink: frames in, settled records out, over TCP, TLS, RELP and UDP.
//!
//! Why: a write into a socket proves nothing, and most senders count it as delivery. What each way can prove is made
//! explicit here, and the checkpoint moves at that level only.
//! Invariants: 1. a frame given to [`Syslog::push`] ends as settled or refused records, or goes again: never as
//!  nothing. 2. frames of one shard are on one connection at a time: an epoch that drains holds the next frames of
//!  its shards, so they arrive in order as long as nothing fails.
//! Bounds: frames are bounded by credit, an epoch by a quarter of it; `connections` per address, and beside them those
//!  that drain, each with a shard of its own.
//! Driven by: `pipeline`: handle_* with events, then `dispatch`, then `poll_transmit` per connection.
//! Spec: RFC 5424, 5425, 5426, 6587; RELP as librelp 1.11 speaks it.

mod conn;
mod dispatch;
mod drain;
mod ends;
mod held;
mod kernel;
mod marked;
mod pieces;
mod queue;
pub(crate) mod relp;
#[cfg(test)]
mod tests;
mod udp;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use self::conn::{Conn, Talk};
use self::drain::Limits;
use self::ends::Manner;
use self::held::Held;
use crate::proto::context::{Context, Settled};
use crate::proto::event::{Action, Ledger, Refusal};
use crate::proto::format::syslog::MARK_BYTES;
use crate::proto::frame::Frame;
use crate::proto::ids::{ConnId, EndpointId, Epoch, RouteId, ShardId};
use crate::proto::sink::route::Routes;
use crate::proto::time::Instant;

/// What is spoken with an endpoint, and what proves that a frame arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A stream (TCP, TLS): the peer has read every byte.
    Drain,
    /// A stream: the peer's kernel has it.
    Kernel,
    /// A stream: our kernel has it.
    Written,
    /// RELP: the server answered each message.
    Relp,
    /// UDP: our kernel has it.
    Udp,
}

/// Settings of the sink, checked.
#[derive(Clone, Debug)]
pub struct Params {
    /// The endpoints, in the order of the settings. Frames have to be marked for RELP and UDP, and only for these.
    pub endpoints: Vec<Transport>,
    /// An epoch that drains is at least so long where there is something to send.
    pub drain_interval: Duration,
    /// For an answer, for the peer's end, for writing anything at all.
    pub timeout: Duration,
    /// Connections per address.
    pub connections: usize,
    /// RELP messages without an answer, per connection.
    pub window: usize,
    /// Messages per second and UDP socket; 0 is as fast as it goes.
    pub udp_rate: u32,
}

/// The sink of one pipeline on one executor.
#[derive(Debug)]
pub struct Syslog {
    params: Params,
    routes: Routes,
    conns: Vec<Conn>,
    waiting: VecDeque<Frame>,
    held: Held,
    /// What was learnt about each address.
    manners: BTreeMap<RouteId, Manner>,
    /// Shards that are given up as soon as they are drained: their epochs end at once.
    hastened: BTreeSet<ShardId>,
    /// Some connection was made. Until then one is tried without a frame, so that what is wrong with an address or a
    /// certificate is told at the start and not with the first log.
    greeted: bool,
}

impl Syslog {
    /// A sink without connections; asks for the addresses of its endpoints.
    pub fn new(params: Params, cx: &mut Context) -> Self {
        let routes = Routes::new(params.endpoints.len(), cx);
        Self {
            routes,
            conns: Vec::new(),
            waiting: VecDeque::new(),
            held: Held::default(),
            manners: BTreeMap::new(),
            hastened: BTreeSet::new(),
            greeted: false,
            params,
        }
    }

    /// Takes a frame over.
    pub fn push(&mut self, frame: Frame) {
        self.waiting.push_back(frame);
    }

    /// True while bytes of this shard are in memory here.
    pub fn carries(&self, shard: ShardId) -> bool {
        let of_shard = |frame: &Frame| frame.carries(shard);
        self.waiting.iter().any(of_shard)
            || self.conns.iter().any(|conn| conn.carries(shard))
            || self.held.carries(shard)
    }

    /// Frames in memory.
    pub fn frames(&self) -> usize {
        self.waiting.len() + self.held.len() + self.conns.iter().map(Conn::frames).sum::<usize>()
    }

    /// True while no endpoint takes anything, or a record of this shard is refused.
    pub fn holds(&self, shard: ShardId) -> bool {
        self.routes.all_troubled() || self.held.holds(shard)
    }

    /// This shard is about to be given up: what it waits for should come soon.
    pub fn hasten(&mut self, shard: ShardId) {
        self.hastened.insert(shard);
    }

    /// The lease of a shard is lost, or it is done: what was not given to a connection yet is forgotten.
    pub fn forget(&mut self, shard: ShardId, epoch: Epoch, cx: &mut Context) {
        self.hastened.remove(&shard);
        let stale = |frame: &Frame| frame.is_all_of(shard, epoch);
        let mut kept = VecDeque::with_capacity(self.waiting.len());
        for frame in self.waiting.drain(..) {
            if stale(&frame) { cx.pool.give(frame) } else { kept.push_back(frame) }
        }
        self.waiting = kept;
        self.held.forget(shard, &stale, cx);
        for conn in &mut self.conns {
            conn.forget_unbegun(&stale, cx);
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
        self.routes.handle_routes(now, endpoint, found, cx);
    }

    /// A connection is ready. Returns false when it is not one of this sink.
    pub fn handle_connected(&mut self, now: Instant, id: ConnId, cx: &mut Context) -> bool {
        let Some(conn) = self.conns.iter_mut().find(|conn| conn.id == id) else { return false };
        conn.open = Some(now);
        conn.used = now;
        if let Talk::Relp(relp) = &mut conn.talk {
            relp.begin(now);
            cx.actions.push_back(Action::Transmit(id));
        } else if !self.greeted {
            self.greeted = true;
            self.routes.greet(conn.route, cx);
        }
        true
    }

    /// Bytes came. Returns false when the connection is not one of this sink.
    pub fn handle_received(&mut self, now: Instant, id: ConnId, bytes: &[u8], cx: &mut Context) -> bool {
        let Some(at) = self.conns.iter().position(|conn| conn.id == id) else { return false };
        // A stream receiver has nothing to say; what it says nevertheless means nothing.
        if let Some(Conn { talk: Talk::Relp(relp), route, .. }) = self.conns.get_mut(at) {
            let (heard, route) = (relp.handle_received(now, bytes, cx), *route);
            if heard.opened && !self.greeted {
                self.greeted = true;
                self.routes.greet(route, cx);
            }
            if let Some(took) = heard.took {
                self.note_proof(now, at, took, cx);
            }
            self.take_refused(now, heard.refused, cx);
            if let Some(shard) = heard.forgiven {
                self.held.forgive(shard, cx);
            }
            match heard.over {
                Some(over) => self.end(now, at, over, cx),
                None => cx.actions.push_back(Action::Transmit(id)),
            }
        }
        true
    }

    /// Records that a RELP server refuses: to the dead letter, or kept and offered again.
    fn take_refused(&mut self, now: Instant, refused: Vec<(Frame, u16, String)>, cx: &mut Context) {
        for (mut frame, code, text) in refused {
            if cx.has_dead_letter {
                unmark(&mut frame.bytes);
                cx.refuse(frame, Refusal::Relp { code, text });
            } else {
                self.held.add(now, frame, code, text, cx);
            }
        }
    }

    /// Bytes of the last chunk went out. Returns false when the connection is not one of this sink.
    pub fn handle_transmitted(&mut self, now: Instant, id: ConnId, bytes: usize, cx: &mut Context) -> bool {
        let Some(at) = self.conns.iter().position(|conn| conn.id == id) else { return false };
        cx.counters.sent_bytes += bytes as u64;
        let whole = self.conns.get_mut(at).is_some_and(|conn| conn.advance(now, bytes));
        if whole {
            self.settle_datagrams(now, at, cx);
            self.dispatch(now, cx);
        }
        true
    }

    /// Our FIN is out.
    pub fn handle_finished(&mut self, now: Instant, id: ConnId) {
        if let Some(conn) = self.conns.iter_mut().find(|conn| conn.id == id)
            && let Talk::Drain(_, epoch) = &mut conn.talk
        {
            epoch.handle_finished(now);
        }
    }

    /// How far the bytes of a connection have come.
    pub fn handle_ledger(&mut self, now: Instant, id: ConnId, ledger: Ledger, cx: &mut Context) {
        let Some(at) = self.conns.iter().position(|conn| conn.id == id) else { return };
        let Some(conn) = self.conns.get_mut(at) else { return };
        match &mut conn.talk {
            Talk::Drain(_, epoch) => epoch.handle_ledger(now, ledger),
            Talk::Watch(queue, watch) => {
                watch.handle_ledger(now, ledger, queue);
                let mut took = None;
                while let Some(sent) = queue.pop_if(|sent| watch.is_settled(now, sent)) {
                    if watch.is_unproven() {
                        cx.counters.unproven_records += u64::from(sent.frame.records());
                    }
                    took = Some(settle(now, sent, cx));
                }
                watch.rest(now, queue);
                if let Some(took) = took {
                    self.note_proof(now, at, took, cx);
                }
            }
            Talk::Relp(_) | Talk::Udp(_) => {}
        }
    }

    /// The next moment that `handle_timeout` is needed.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let (interval, timeout) = (self.params.drain_interval, self.params.timeout);
        let conns = self.conns.iter().filter_map(|conn| conn.deadline(interval, timeout));
        let paused = if self.waiting.is_empty() && self.greeted { None } else { self.routes.next_resume() };
        conns.chain(paused).chain(self.routes.poll_timeout()).chain(self.held.poll_timeout()).min()
    }

    /// The next bytes of a connection of this sink.
    pub fn poll_transmit(&mut self, now: Instant, id: ConnId) -> Option<&[u8]> {
        self.conns.iter_mut().find(|conn| conn.id == id)?.chunk(now)
    }

    /// Ends what has a goodbye of its own; true when nothing is left to be said. Used when no frame is left.
    pub fn wind_down(&mut self, now: Instant, cx: &mut Context) -> bool {
        let mut at = 0;
        while let Some(conn) = self.conns.get_mut(at) {
            match &mut conn.talk {
                Talk::Relp(relp) if relp.is_ready() && conn.open.is_some() => {
                    relp.close(now);
                    cx.actions.push_back(Action::Transmit(conn.id));
                    at += 1;
                }
                Talk::Relp(relp) if relp.is_closing() => at += 1,
                _ => {
                    cx.actions.push_back(Action::Close(conn.id));
                    self.conns.swap_remove(at);
                }
            }
        }
        self.conns.is_empty()
    }

    /// Closes every connection; used when nothing is in flight any more.
    pub fn close_all(&mut self, cx: &mut Context) {
        for conn in self.conns.drain(..) {
            cx.actions.push_back(Action::Close(conn.id));
        }
    }

    /// A frame of datagrams is with the kernel: that is all that will ever be known.
    fn settle_datagrams(&mut self, now: Instant, at: usize, cx: &mut Context) {
        let Some(Conn { talk: Talk::Udp(udp), open, .. }) = self.conns.get_mut(at) else { return };
        // A refusal comes with a later send: the first second says nothing about the receiver.
        let lasts = open.is_some_and(|since| since + UDP_TRIAL <= now);
        let mut took = None;
        while let Some(sent) = udp.queue.pop_if(|_| true) {
            cx.counters.unproven_records += u64::from(sent.frame.records());
            took = Some(settle(now, sent, cx));
        }
        if let Some(took) = took
            && lasts
        {
            self.note_proof(now, at, took, cx);
        }
    }

    /// When an epoch on this address has to end.
    fn limits(&self, route: RouteId, cx: &Context) -> Limits {
        let share = (cx.pool.limit() / EPOCH_SHARE).max(1);
        let learnt = self.manners.get(&route).and_then(|manner| manner.epoch_bytes_max);
        Limits { interval: self.params.drain_interval, bytes: learnt.unwrap_or(share).min(share) }
    }
}

/// Settles a frame as acknowledged; how long that took.
fn settle(now: Instant, sent: queue::Sent, cx: &mut Context) -> Duration {
    let took = now.since(sent.started.unwrap_or(now));
    cx.counters.acked_batches += 1;
    cx.counters.sink_ack_seconds.observe(took);
    cx.settle(&sent.frame.segments, Settled::Acked);
    cx.pool.give(sent.frame);
    took
}

/// Takes the marks in front of messages out; a record that was split becomes lines.
fn unmark(bytes: &mut Vec<u8>) {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes.as_slice();
    while let Some((mark, behind)) = rest.split_first_chunk::<MARK_BYTES>() {
        let [a, b, c, d, _] = *mark;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if !plain.is_empty() {
            plain.push(b'\n');
        }
        plain.extend_from_slice(behind.get(..length).unwrap_or(behind));
        rest = behind.get(length..).unwrap_or_default();
    }
    *bytes = plain;
}

/// An epoch holds at most this part of the memory for frames.
const EPOCH_SHARE: u64 = 4;
/// A UDP receiver that is not there refuses within this time.
const UDP_TRIAL: Duration = Duration::from_secs(1);
