//! Waiting frames to connections, connections to addresses, epochs to their end.
//!
//! Why: where a frame goes decides its order and its speed; this is the one place that chooses.
//! Invariants: 1. frames of one shard go to the connection that carries earlier ones of it. 2. a frame that cannot go
//!  anywhere stays where it is. 3. the FIN is asked for after the last byte was transmitted.
//! Bounds: `connections` per address, one more while an epoch ends.
//! Driven by: [`Syslog`] after every event.

use smallvec::SmallVec;

use super::conn::{Conn, Talk};
use super::drain::{End, Epoch, Step};
use super::kernel::{MARGIN_BYTES_MAX, Wanted, Watch};
use super::queue::Queue;
use super::relp::Relp;
use super::udp::Udp;
use super::{EPOCH_SHARE, Syslog, Transport, pieces};
use crate::proto::context::Context;
use crate::proto::event::{Action, To};
use crate::proto::frame::Frame;
use crate::proto::ids::{RouteId, ShardId, Txnr};
use crate::proto::time::Instant;

/// Where a frame may go now.
enum Place {
    /// To the connection at this position.
    Conn(usize),
    /// Behind earlier frames of its shard.
    Behind,
    /// No connection has room.
    Nowhere,
}

impl Syslog {
    /// Gives waiting frames to connections, opens connections, ends epochs that are due, asks for measurements.
    pub fn dispatch(&mut self, now: Instant, cx: &mut Context) {
        self.assign_frames(now, cx);
        self.turn_epochs(now, cx);
        for conn in &mut self.conns {
            if let Talk::Watch(_, watch) = &mut conn.talk
                && watch.ask(now)
            {
                cx.actions.push_back(Action::Measure(conn.id));
            }
        }
    }

    fn assign_frames(&mut self, now: Instant, cx: &mut Context) {
        let mut blocked: SmallVec<[ShardId; 16]> = SmallVec::new();
        let mut at = 0;
        let mut starved = 0;
        while let Some(shard) = self.waiting.get(at).map(Frame::shard) {
            if blocked.contains(&shard) {
                at += 1;
                continue;
            }
            match self.place_for(now, shard, cx) {
                Place::Conn(conn) => {
                    let piece = self.piece(now, at, conn, cx).or_else(|| self.waiting.remove(at));
                    if let Some(frame) = piece
                        && let Some(conn) = self.conns.get_mut(conn)
                    {
                        conn.push(now, frame);
                        cx.counters.sent_requests += 1;
                        cx.actions.push_back(Action::Transmit(conn.id));
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
    }

    /// The front of a waiting frame, where its address has ended connections before as much was proven. What is left
    /// of it waits on.
    fn piece(&mut self, now: Instant, at: usize, conn: usize, cx: &mut Context) -> Option<Frame> {
        let conn = self.conns.get(conn)?;
        let Talk::Drain(queue, _) = &conn.talk else { return None };
        let room = self.manners.get(&conn.route)?.epoch_bytes_max?.saturating_sub(queue.taken_bytes());
        let frame = self.waiting.get_mut(at).filter(|frame| frame.bytes.len() as u64 > room)?;
        let (records, end) = pieces::front(frame, usize::try_from(room).unwrap_or(usize::MAX))?;
        let mut piece = cx.pool.take_for_part(now);
        frame.move_front_at(records, end, &mut piece);
        Some(piece)
    }

    /// Where a frame of this shard may go now.
    fn place_for(&self, now: Instant, shard: ShardId, cx: &Context) -> Place {
        let usable = |conn: &Conn| {
            conn.has_room(self.limits(conn.route, cx)) && self.routes.is_usable(now, conn.route)
        };
        if let Some(home) = self.conns.iter().position(|conn| conn.carries(shard)) {
            return match self.conns.get(home) {
                Some(conn) if usable(conn) => Place::Conn(home),
                _ => Place::Behind,
            };
        }
        let load = |conn: &Conn| {
            (self.routes.latency_ns(now, conn.route).saturating_mul(conn.frames() as u64 + 1), conn.id)
        };
        let best =
            self.conns.iter().enumerate().filter(|(_, conn)| usable(conn)).min_by_key(|(_, conn)| load(conn));
        best.map_or(Place::Nowhere, |(at, _)| Place::Conn(at))
    }

    fn open_conns(&mut self, now: Instant, starved: usize, cx: &mut Context) {
        let starting = self.conns.iter().filter(|conn| conn.is_starting()).count();
        for _ in starting..starved {
            let count = |route: RouteId| {
                self.conns.iter().filter(|conn| conn.route == route && conn.counts()).count()
            };
            let usable = self
                .routes
                .ids()
                .filter(|route| self.routes.is_usable(now, *route) && !self.routes.is_gone(*route));
            let counted = usable.map(|route| (count(route), route));
            let Some((open, route)) = self.routes.least(counted) else { return };
            if open >= self.params.connections {
                return;
            }
            let Some(talk) = self.talk(route, cx) else { return };
            self.routes.take_turn(route);
            let id = cx.connect(To::Sink(route));
            self.conns.push(Conn::new(now, id, route, talk));
        }
    }

    fn talk(&self, route: RouteId, cx: &Context) -> Option<Talk> {
        let transport = self.params.endpoints.get(usize::from(self.routes.endpoint(route)?.0))?;
        Some(match transport {
            Transport::Drain => Talk::Drain(Queue::default(), Epoch::new()),
            Transport::Kernel => {
                let margin = MARGIN_BYTES_MAX.min(cx.pool.limit() / EPOCH_SHARE);
                Talk::Watch(Queue::default(), Watch::new(Wanted::Arrived { margin }))
            }
            Transport::Written => Talk::Watch(Queue::default(), Watch::new(Wanted::Written)),
            Transport::Relp => Talk::Relp(Box::new(Relp::new(self.params.window, Txnr::FIRST))),
            Transport::Udp => Talk::Udp(Udp::new(self.params.udp_rate)),
        })
    }

    /// Ends epochs that are due: the next connection is made first, so that there is no gap. The FIN goes a moment after
    /// the last byte has arrived.
    fn turn_epochs(&mut self, now: Instant, cx: &mut Context) {
        for at in 0..self.conns.len() {
            if self.is_due(now, at, cx) {
                self.relieve(now, at, cx);
            }
            let Some(conn) = self.conns.get_mut(at) else { return };
            let doubt = self.manners.get(&conn.route).is_some_and(|manner| manner.epoch_bytes_max.is_some());
            if let Talk::Drain(queue, epoch) = &mut conn.talk
                && !queue.has_unwritten()
                && let Some(step) = epoch.step(now, doubt, queue.records() == 1)
            {
                cx.actions.push_back(match step {
                    Step::Measure => Action::Measure(conn.id),
                    Step::Finish => Action::Finish(conn.id),
                });
            }
        }
    }

    fn is_due(&self, now: Instant, at: usize, cx: &Context) -> bool {
        let Some(conn) = self.conns.get(at) else { return false };
        let Talk::Drain(queue, epoch) = &conn.talk else { return false };
        let hastened = || {
            !queue.is_empty()
                && epoch.end == End::Open
                && self.hastened.iter().any(|shard| queue.carries(*shard))
        };
        epoch.is_due(now, queue.taken_bytes(), self.limits(conn.route, cx)) || hastened()
    }

    /// Lets the epoch of a connection end as soon as another one can take its place, or nobody needs one.
    fn relieve(&mut self, now: Instant, at: usize, cx: &mut Context) {
        let takes =
            |conn: &Conn| conn.open.is_some() && conn.counts() && self.routes.is_usable(now, conn.route);
        let relieved = self.conns.iter().enumerate().any(|(other, conn)| other != at && takes(conn));
        let needed = self.hastened.is_empty()
            && self.conns.get(at).is_some_and(|conn| {
                matches!(&conn.talk, Talk::Drain(_, epoch) if epoch.is_busy()) || !self.waiting.is_empty()
            });
        let Some(Conn { talk: Talk::Drain(_, epoch), .. }) = self.conns.get_mut(at) else { return };
        let first = epoch.call_relief(now);
        if relieved || !needed || epoch.relief_is_over(now) {
            epoch.end = End::Wanted;
        }
        if first && needed && !relieved {
            self.open_conns(now, 1, cx);
        }
    }
}
