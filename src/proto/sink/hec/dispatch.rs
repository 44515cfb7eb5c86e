//! Waiting frames to connections, connections to addresses, polls to channels.
//!
//! Why: where a frame goes decides its order and its speed; this is the one place that chooses.
//! Invariants: 1. frames of one shard go to the connection that still owes an answer for that shard. 2. a frame
//!  that cannot go anywhere stays where it is.
//! Bounds: `pipeline_depth` per connection, `connections` per address.
//! Driven by: [`Hec`] after every event.

use smallvec::SmallVec;

use super::conn::{Conn, State};
use super::poll::Question;
use super::{AckMode, Hec, Target, answer};
use crate::proto::context::Context;
use crate::proto::event::{Action, To};
use crate::proto::frame::Frame;
use crate::proto::http1::{Limits, write_request_head};
use crate::proto::ids::{ConnId, RouteId, ShardId};
use crate::proto::planted::{Bug, planted};
use crate::proto::time::Instant;

/// Where a frame may go now.
enum Place {
    /// To the connection at this position.
    Conn(usize),
    /// Behind earlier frames of its shard, which fill their connection.
    Behind,
    /// No connection has room.
    Nowhere,
}

impl Hec {
    /// Gives waiting frames to connections, opens connections, sends polls that are due.
    pub fn dispatch(&mut self, now: Instant, cx: &mut Context) {
        self.assign_frames(now, cx);
        let is_done = |conn: &Conn| conn.is_replaced && conn.requests.is_empty();
        while let Some(at) = self.conns.iter().position(is_done) {
            self.close_idle(at, cx);
        }
        self.ask_health(now, cx);
        let due = self.routes.ids().filter(|route| {
            !self.polls.is_busy(*route) && self.acks.next_poll(*route).is_some_and(|due| due <= now)
        });
        let due: SmallVec<[RouteId; 8]> = due.collect();
        for route in due {
            self.send_poll(now, route, cx);
        }
    }

    /// Asks the addresses that are out of use whether they are well again; it needs no token.
    fn ask_health(&mut self, now: Instant, cx: &mut Context) {
        let due: SmallVec<[RouteId; 8]> =
            self.routes.to_ask(now).filter(|route| !self.polls.is_busy(*route)).collect();
        for route in due {
            let Some(target) = self.target(route) else { continue };
            let mut out = Vec::with_capacity(512);
            let fields = [("Host", target.authority.as_str()), ("User-Agent", USER_AGENT)];
            if self.params.ack == AckMode::Required {
                let guid = cx.rng.guid();
                let secret = [
                    ("Authorization", self.authorization.as_str()),
                    ("X-Splunk-Request-Channel", guid.as_str()),
                    ("Content-Type", "application/json"),
                ];
                let length = Some(NO_IDS.len() as u64);
                let fields = fields.into_iter().chain(secret);
                let _ = write_request_head(&mut out, "POST", &target.ack, fields, length);
                out.extend_from_slice(NO_IDS);
                self.polls.send(now, route, Question::HasAcks, out, cx);
            } else {
                let _ = write_request_head(&mut out, "GET", &target.health, fields.into_iter(), None);
                self.polls.send(now, route, Question::Health, out, cx);
            }
        }
    }

    fn send_poll(&mut self, now: Instant, route: RouteId, cx: &mut Context) {
        let Some(poll) = self.acks.poll(route, now) else { return };
        let mut out = Vec::with_capacity(512 + poll.body.len());
        let Some(target) = self.target(route) else { return };
        let fields = [
            ("Host", target.authority.as_str()),
            ("User-Agent", USER_AGENT),
            ("Authorization", self.authorization.as_str()),
            ("X-Splunk-Request-Channel", self.acks.guid(poll.asked.channel)),
            ("Content-Type", "application/json"),
        ];
        let cookie = self.acks.cookie(poll.asked.channel).map(|cookie| ("Cookie", cookie));
        // Settings were checked: no header can hold a line break.
        let _ = write_request_head(
            &mut out,
            "POST",
            &target.ack,
            fields.into_iter().chain(cookie),
            Some(poll.body.len() as u64),
        );
        out.extend_from_slice(&poll.body);
        self.polls.send(now, route, Question::Acks(poll.asked), out, cx);
    }

    fn target(&self, route: RouteId) -> Option<&Target> {
        self.targets.get(usize::from(self.routes.endpoint(route)?.0))
    }

    fn assign_frames(&mut self, now: Instant, cx: &mut Context) {
        let mut blocked: SmallVec<[ShardId; 16]> = SmallVec::new();
        let mut at = 0;
        let mut starved = 0;
        let mut had_its_turn = None;
        while let Some(shard) = self.waiting.get(at).map(Frame::shard) {
            if blocked.contains(&shard) {
                at += 1;
                continue;
            }
            match self.place_for(now, shard) {
                Place::Conn(conn) => {
                    let had = self.conns.get(conn).filter(|conn| conn.until <= now).map(|conn| conn.id);
                    had_its_turn = had_its_turn.or(had);
                    if let Some(frame) = self.waiting.remove(at) {
                        let frame = self.cut_to_cap(now, conn, at, frame, cx);
                        self.start_request(conn, frame, cx);
                    }
                }
                Place::Behind => {
                    blocked.push(shard);
                    at += 1;
                }
                Place::Nowhere => {
                    starved += 1;
                    blocked.push(shard);
                    at += 1;
                }
            }
        }
        let greeting = usize::from(!self.greeted && self.conns.is_empty() && self.routes.are_looked_up());
        self.open_conns(now, starved.max(greeting), cx);
        if let Some(conn) = had_its_turn {
            self.give_turn(now, conn, cx);
        }
    }

    /// Opens a connection in place of this one, to an address that has none.
    fn give_turn(&mut self, now: Instant, replaces: ConnId, cx: &mut Context) {
        let is_connecting = |conn: &Conn| conn.state == State::Connecting;
        if self.conns.iter().any(is_connecting) {
            return;
        }
        if let Some((0, route)) = self.least_connected(now) {
            self.open(now, route, Some(replaces), cx);
        }
    }

    /// Of a frame that is larger than this endpoint takes, the front goes and the rest waits.
    fn cut_to_cap(
        &mut self,
        now: Instant,
        conn: usize,
        at: usize,
        mut frame: Frame,
        cx: &mut Context,
    ) -> Frame {
        let route = self.conns.get(conn).map(|conn| conn.route);
        let target = route.and_then(|route| self.target(route));
        let Some(cap) = target.and_then(|target| target.body_bytes_max) else { return frame };
        if frame.bytes.len() <= cap || frame.records() < 2 {
            return frame;
        }
        let mut front = cx.pool.take_for_part(now);
        frame.move_front(frame.records_within(cap), &mut front);
        if frame.segments.is_empty() || planted(Bug::CutDropsTheRest) {
            cx.pool.give(frame);
        } else {
            self.waiting.insert(at, frame);
        }
        front
    }

    /// Where a frame of this shard may go now.
    fn place_for(&self, now: Instant, shard: ShardId) -> Place {
        let depth = |conn: &Conn| self.routes.depth(conn.route, self.params.pipeline_depth);
        let usable = |conn: &Conn| {
            let is_open = conn.state == State::Open && !conn.is_replaced;
            is_open && conn.has_room(depth(conn)) && self.routes.is_usable(now, conn.route)
        };
        let is_home =
            |conn: &Conn| conn.carries(shard) && !(conn.is_replaced && planted(Bug::TurnDoesNotWait));
        let home = self.conns.iter().position(is_home);
        if let Some(home) = home.filter(|_| !planted(Bug::OvertakesItself)) {
            return match self.conns.get(home) {
                Some(conn) if usable(conn) => Place::Conn(home),
                _ => Place::Behind,
            };
        }
        let load = |conn: &Conn| {
            (self.routes.latency_ns(now, conn.route).saturating_mul(conn.requests.len() as u64 + 1), conn.id)
        };
        let best =
            self.conns.iter().enumerate().filter(|(_, conn)| usable(conn)).min_by_key(|(_, conn)| load(conn));
        best.map_or(Place::Nowhere, |(at, _)| Place::Conn(at))
    }

    pub(super) fn open_conns(&mut self, now: Instant, starved: usize, cx: &mut Context) {
        let connecting = self.conns.iter().filter(|conn| conn.state == State::Connecting).count();
        for _ in connecting..starved {
            let Some((open, route)) = self.least_connected(now) else { return };
            if open >= self.params.connections {
                return;
            }
            self.open(now, route, None, cx);
        }
    }

    /// The address whose turn it is, with the number of its connections.
    fn least_connected(&self, now: Instant) -> Option<(usize, RouteId)> {
        let count = |route: RouteId| self.conns.iter().filter(|conn| conn.route == route).count();
        let is_usable = |route: &RouteId| self.routes.is_usable(now, *route) && !self.routes.is_gone(*route);
        self.routes.least(self.routes.ids().filter(is_usable).map(|route| (count(route), route)))
    }

    fn open(&mut self, now: Instant, route: RouteId, replaces: Option<ConnId>, cx: &mut Context) {
        self.routes.take_turn(route);
        let id = cx.connect(To::Sink(route));
        let channel = self.acks.open_channel(route, now, cx);
        let limits = Limits { head_bytes_max: 64 << 10, body_bytes_max: answer::BODY_BYTES_MAX };
        let mut conn = Conn::new(id, route, channel, now, limits);
        // A fleet that was started together must not go round together.
        let turn = self.params.turn;
        conn.until = now + turn + turn * u32::try_from(cx.rng.below(41)).unwrap_or(0) / 100;
        conn.replaces = replaces;
        self.conns.push(conn);
    }

    fn start_request(&mut self, at: usize, frame: Frame, cx: &mut Context) {
        let Some((route, channel)) = self.conns.get(at).map(|conn| (conn.route, conn.channel)) else {
            self.waiting.push_front(frame);
            return;
        };
        let Some(mut head) = self.conns.get_mut(at).map(Conn::take_head) else { return };
        let packed = if self.params.gzip { gzip(&mut self.compressor, &frame.bytes) } else { Vec::new() };
        let length = if packed.is_empty() { frame.bytes.len() } else { packed.len() };
        let encoding = (!packed.is_empty()).then_some(("Content-Encoding", "gzip"));
        if let Some(target) = self.target(route) {
            let fields = [
                ("Host", target.authority.as_str()),
                ("User-Agent", USER_AGENT),
                ("Authorization", self.authorization.as_str()),
                ("X-Splunk-Request-Channel", self.acks.guid(channel)),
                ("Content-Type", "application/json"),
            ];
            let cookie = self.acks.cookie(channel).map(|cookie| ("Cookie", cookie));
            let fields = fields.into_iter().chain(encoding).chain(cookie);
            let _ = write_request_head(&mut head, "POST", &target.event, fields, Some(length as u64));
        }
        cx.counters.sent_requests += 1;
        self.acks.begin(channel);
        if let Some(conn) = self.conns.get_mut(at) {
            conn.push(frame, head, packed);
            cx.actions.push_back(Action::Transmit(conn.id));
        }
    }
}

/// A poll for an id that a fresh channel never gave.
const NO_IDS: &[u8] = b"{\"acks\":[0]}";

/// Sent with every request: without one, splunkd falls back to HTTP/1.0 and closes after each answer.
const USER_AGENT: &str = concat!("sls2siem/", env!("CARGO_PKG_VERSION"));

/// One gzip member, level 1.
fn gzip(compressor: &mut flate2::Compress, bytes: &[u8]) -> Vec<u8> {
    compressor.reset();
    let mut out = Vec::with_capacity(bytes.len() / 4 + 128);
    loop {
        let consumed = usize::try_from(compressor.total_in()).unwrap_or(usize::MAX);
        let rest = bytes.get(consumed..).unwrap_or_default();
        match compressor.compress_vec(rest, &mut out, flate2::FlushCompress::Finish) {
            Ok(flate2::Status::StreamEnd) => return out,
            Ok(_) => out.reserve(out.capacity().max(1024)),
            // An empty result means: send it as it is.
            Err(_) => return Vec::new(),
        }
    }
}
