//! One pipeline on one executor: its shards, its sink and the order in which they act.
//!
//! Why: a driver that decided anything could not be simulated; here every decision of the data plane comes
//! together, and the drivers only move bytes.
//! Invariants: 1. what the sink settled is in the ledgers before new work begins. 2. a report `Safe` is sent
//!  before the `Drained` that follows from it. 3. after [`Pipeline::is_stopped`] there is no connection left.
//! Bounds: memory by `Flow`; one step of work per turn, so that a driver can write in between.
//! Driven by: `drive::executor` and `tests/sim`: call a `handle_*`, then drain `poll_action` and `poll_report`,
//!  `poll_transmit` until it is empty for each connection named by an action, and sleep until `poll_timeout`.
//!  Time never runs backwards.

use core::time::Duration;
use std::rc::Rc;

use super::context::{Context, Settled};
use super::counters::{Counters, ShardGauge};
use super::event::{Action, Closed, Command, Report};
use super::flow::Flow;
use super::format::Encoder;
use super::frame::{Frame, FramePool};
use super::ids::{ConnId, EndpointId, Epoch, RouteId, ShardId};
use super::sink::{self, Sink};
use super::sls::body::Decompressor;
use super::sls::shard::{Around, Batch, Shard};
use super::sls::sign::Credentials;
use super::sls::source::{self, Source};
use super::time::{Instant, UnixTime};

/// Settings of a pipeline, checked.
#[derive(Debug)]
pub struct Params {
    /// The source.
    pub source: source::Params,
    /// Keys at the start.
    pub credentials: Credentials,
    /// Record to bytes.
    pub encoder: Encoder,
    /// The sink.
    pub sink: sink::Params,
    /// A frame is full at this size.
    pub batch_bytes: usize,
    /// A frame that is not full goes out at this age.
    pub batch_age: Duration,
}

/// One pipeline on one executor.
#[derive(Debug)]
pub struct Pipeline {
    shards: Vec<Shard>,
    sink: Sink,
    source: Source,
    encoder: Encoder,
    decompressor: Decompressor,
    flow: Rc<Flow>,
    cx: Context,
    batch: Batch,
    /// Where the next turn begins, so that no shard always comes first.
    turn: usize,
    work_due: bool,
    /// Releases of memory that were seen.
    releases: u64,
    stopping: bool,
    stopped: bool,
}

/// Borrows the fields that a shard needs.
macro_rules! around {
    ($self:ident) => {
        Around {
            source: &mut $self.source,
            encoder: &mut $self.encoder,
            decompressor: &mut $self.decompressor,
            flow: &$self.flow,
            cx: &mut $self.cx,
        }
    };
}

impl Pipeline {
    /// A pipeline without shards. Same `seed`, same behaviour.
    pub fn new(params: Params, flow: Rc<Flow>, seed: u64, now: Instant, wall: UnixTime) -> Self {
        let pool = FramePool::new(Rc::clone(&flow.frames), params.batch_bytes as u64);
        let mut cx = Context::new(pool, seed);
        let sink = Sink::new(params.sink, &mut cx);
        Self {
            shards: Vec::new(),
            sink,
            source: Source::new(params.source, params.credentials, now, wall),
            encoder: params.encoder,
            decompressor: Decompressor::default(),
            flow,
            cx,
            batch: Batch { bytes: params.batch_bytes, age: params.batch_age },
            turn: 0,
            work_due: false,
            releases: 0,
            stopping: false,
            stopped: false,
        }
    }

    /// The control plane says something.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Assign { shard, epoch, cursor, end } => {
                if self.stopping {
                    return;
                }
                self.remove(now, shard, None);
                let seed = self.cx.rng.next_u64();
                self.shards.push(Shard::new(now, shard, epoch, cursor, end, seed));
                self.shards.sort_unstable_by_key(Shard::id);
            }
            Command::Revoke { shard, epoch } => {
                match self.shards.iter_mut().find(|held| held.id() == shard && held.epoch() == epoch) {
                    Some(held) => held.revoke(&mut self.cx),
                    None => self.cx.reports.push_back(Report::Drained { shard, epoch }),
                }
            }
            Command::Abandon { shard, epoch } => self.remove(now, shard, Some(epoch)),
            Command::Credentials(credentials) => self.source.set_credentials(credentials),
            Command::Stop => {
                self.stopping = true;
                for shard in &mut self.shards {
                    shard.revoke(&mut self.cx);
                }
            }
        }
        self.run(now);
    }

    /// A connection is ready: TCP, and TLS where there is any.
    pub fn handle_connected(&mut self, now: Instant, conn: ConnId) {
        if !self.sink.handle_connected(now, conn, &mut self.cx)
            && let Some(at) = self.owner(conn)
            && let Some(shard) = self.shards.get_mut(at)
        {
            shard.handle_connected(now, &mut around!(self));
        }
        self.run(now);
    }

    /// Plaintext came.
    pub fn handle_received(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) {
        if !self.sink.handle_received(now, conn, bytes, &mut self.cx)
            && let Some(at) = self.owner(conn)
            && let Some(shard) = self.shards.get_mut(at)
        {
            shard.handle_received(now, bytes, &mut around!(self));
        }
        self.run(now);
    }

    /// `bytes` of the last [`Self::poll_transmit`] are on their way.
    pub fn handle_transmitted(&mut self, now: Instant, conn: ConnId, bytes: usize) {
        if !self.sink.handle_transmitted(now, conn, bytes, &mut self.cx)
            && let Some(at) = self.owner(conn)
            && let Some(shard) = self.shards.get_mut(at)
        {
            shard.handle_transmitted(bytes);
        }
        if !self.cx.settled.is_empty() {
            self.run(now);
        }
    }

    /// A connection ended, or could not be made.
    pub fn handle_closed(&mut self, now: Instant, conn: ConnId, why: Closed) {
        if !self.sink.handle_closed(now, conn, &why, &mut self.cx)
            && let Some(at) = self.owner(conn)
            && let Some(shard) = self.shards.get_mut(at)
        {
            shard.handle_closed(now, why, &mut around!(self));
        }
        self.run(now);
    }

    /// Addresses of a sink endpoint were looked up.
    pub fn handle_routes(
        &mut self,
        now: Instant,
        endpoint: EndpointId,
        routes: Result<Vec<RouteId>, String>,
    ) {
        self.sink.handle_routes(now, endpoint, routes, &mut self.cx);
        self.run(now);
    }

    /// [`Self::poll_timeout`] has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.sink.handle_timeout(now, &mut self.cx);
        for at in 0..self.shards.len() {
            if let Some(shard) = self.shards.get_mut(at) {
                shard.handle_timeout(now, &mut around!(self));
            }
        }
        self.work(now);
        self.run(now);
    }

    /// The wall clock, about once a second.
    pub fn handle_wall_clock(&mut self, now: Instant, wall: UnixTime) {
        self.source.set_wall_clock(now, wall);
    }

    /// [`Flow::releases`] has changed while another pipeline of this executor was at work.
    pub fn handle_credit(&mut self, now: Instant) {
        self.run(now);
    }

    /// The next plaintext for a connection; `None` when there is nothing to write now.
    pub fn poll_transmit(&mut self, now: Instant, conn: ConnId) -> Option<&[u8]> {
        match self.owner(conn) {
            Some(at) => self.shards.get(at)?.poll_transmit(),
            None => self.sink.poll_transmit(now, conn),
        }
    }

    /// What the driver should do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.cx.actions.pop_front()
    }

    /// What the control plane should hear.
    pub fn poll_report(&mut self) -> Option<Report> {
        self.cx.reports.pop_front()
    }

    /// When [`Self::handle_timeout`] is wanted; a moment that has passed means: as soon as what is to be
    /// written has been given to the kernel.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.work_due {
            return Some(Instant(0));
        }
        let timeout = self.source.params().timeout;
        let shards = self.shards.iter().filter_map(|shard| shard.poll_timeout(timeout, self.batch.age));
        shards.chain(self.sink.poll_timeout()).min()
    }

    /// Counts so far.
    pub fn counters(&self) -> &Counters {
        &self.cx.counters
    }

    /// How each shard stands.
    pub fn for_each_shard(&self, now: Instant, tell: &mut dyn FnMut(ShardGauge)) {
        let wall = self.source.wall(now);
        for shard in &self.shards {
            tell(shard.gauge(now, wall, self.sink.holds(shard.id())));
        }
    }

    /// True after [`Command::Stop`] when everything is drained and closed.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Light work after every event: settle, report, begin pulls, hand frames to connections.
    fn run(&mut self, now: Instant) {
        self.settle();
        self.retire(now);
        let releases = self.flow.releases();
        if core::mem::replace(&mut self.releases, releases) != releases {
            for shard in &mut self.shards {
                shard.unblock();
            }
        }
        let mut moved = false;
        for at in 0..self.shards.len() {
            if let Some(shard) = self.shards.get_mut(at) {
                moved |= shard.step(now, &mut around!(self));
                self.work_due |= shard.has_work() || (shard.may_flush() && !self.sink.carries(shard.id()));
            }
        }
        self.sink.dispatch(now, &mut self.cx);
        if moved {
            self.settle();
            self.retire(now);
        }
        self.gauges();
        self.finish_stop();
    }

    /// Heavy work: transcoding, one turn over all shards.
    fn work(&mut self, now: Instant) {
        self.work_due = false;
        let count = self.shards.len();
        self.turn = self.turn.wrapping_add(1);
        for step in 0..count {
            let at = (self.turn + step) % count;
            let Some(shard) = self.shards.get_mut(at) else { continue };
            let idle = !self.sink.carries(shard.id());
            let sink = &mut self.sink;
            let mut push = |frame: Frame| sink.push(frame);
            shard.transcode(now, idle, &self.batch, &mut around!(self), &mut push);
        }
    }

    /// Applies what the sink settled to the ledgers.
    fn settle(&mut self) {
        let mut settled = core::mem::take(&mut self.cx.settled);
        for (segment, how) in settled.drain(..) {
            let Some(shard) = self.find(segment.shard, segment.epoch) else { continue };
            match how {
                Settled::Acked => {
                    let newly = shard.acked(segment.pull, segment.start, segment.end);
                    self.cx.counters.acked_records += u64::from(newly);
                }
                Settled::Lost => shard.lost(segment.pull, segment.start, segment.end),
            }
        }
        // The buffer goes back: nothing is allocated per frame.
        self.cx.settled = settled;
    }

    /// Reports safe positions and removes shards that are done.
    fn retire(&mut self, now: Instant) {
        let mut at = 0;
        while let Some(shard) = self.shards.get_mut(at) {
            if let Some(safe) = shard.poll_safe(now, &mut self.cx) {
                self.cx.reports.push_back(Report::Safe {
                    shard: shard.id(),
                    epoch: shard.epoch(),
                    cursor: safe.cursor,
                    cursor_time: safe.cursor_time,
                });
            }
            if shard.is_drained() && !self.sink.carries(shard.id()) {
                let (id, epoch) = (shard.id(), shard.epoch());
                self.remove(now, id, None);
                self.cx.reports.push_back(Report::Drained { shard: id, epoch });
            } else {
                at += 1;
            }
        }
    }

    /// Takes a shard out; its frames that no connection has begun are forgotten.
    fn remove(&mut self, now: Instant, id: ShardId, epoch: Option<Epoch>) {
        let of = |shard: &Shard| shard.id() == id && epoch.is_none_or(|epoch| shard.epoch() == epoch);
        if let Some(at) = self.shards.iter().position(of) {
            let mut shard = self.shards.remove(at);
            shard.close(&mut self.cx);
            self.sink.forget(now, id, shard.epoch(), &mut self.cx);
        }
    }

    fn finish_stop(&mut self) {
        if self.stopping && !self.stopped && self.shards.is_empty() && self.sink.is_empty() {
            self.sink.close_all(&mut self.cx);
            self.stopped = true;
            self.cx.reports.push_back(Report::Stopped);
        }
    }

    fn gauges(&mut self) {
        self.cx.counters.inflight_bytes = self.flow.bodies.used() + self.flow.frames.used();
        self.cx.counters.shards = self.shards.len() as u64;
        let held = self.shards.iter().filter(|shard| shard.is_held(self.sink.holds(shard.id())));
        self.cx.counters.held_shards = held.count() as u64;
    }

    fn find(&mut self, id: ShardId, epoch: Epoch) -> Option<&mut Shard> {
        self.shards.iter_mut().find(|shard| shard.id() == id && shard.epoch() == epoch)
    }

    fn owner(&self, conn: ConnId) -> Option<usize> {
        self.shards.iter().position(|shard| shard.conn() == Some(conn))
    }
}
