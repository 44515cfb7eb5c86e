//! One pipeline on one executor: its shards, its sink and the order in which they act.
//!
//! Why: a driver that decided anything could not be simulated; here every decision of the data plane comes
//! together, and the drivers only move bytes.
//! Invariants: 1. what the sink settled is in the ledgers before new work begins. 2. a report `Safe` is sent
//!  before the `Drained` that follows from it. 3. past [`Command::Lease`] no frame is begun. 4. after [`Pipeline::is_stopped`] there is no connection left.
//! Bounds: memory by `Flow`; one step of work per turn, so that a driver can write in between.
//! Driven by: `drive::executor` and `tests/sim`: call a `handle_*`, then drain `poll_action` and `poll_report`,
//!  `poll_transmit` until it is empty for each connection named by an action, and sleep until `poll_timeout`.
//!  Time never runs backwards.

use core::cell::Cell;
use core::time::Duration;
use std::rc::Rc;

use super::context::{Context, Settled};
use super::counters::{Counters, ShardGauge};
use super::event::{Action, Closed, Command, Ledger, Report};
use super::flow::Flow;
use super::format::Encoder;
use super::frame::{Frame, FramePool};
use super::ids::{ConnId, EndpointId, Epoch, LetterId, RouteId, ShardId};
use super::letters::Letters;
use super::planted::{Bug, planted};
use super::sink::{self, Sink};
use super::sls::body::Decompressor;
use super::sls::shard::{Around, Batch, Shard};
use super::sls::sign::Credentials;
use super::sls::source::{self, Source};
use super::tap::{self, FrameCopy, TapId, Taps};
use super::time::{Instant, UnixTime};

/// Part of the pause between two pulls that may be left out.
const HURRY: u32 = 4;

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
    /// The driver carries out [`Action::DeadLetter`]; without it a refused record holds its shard.
    pub dead_letter: bool,
}

/// One pipeline on one executor.
#[derive(Debug)]
pub struct Pipeline {
    shards: Vec<Shard>,
    sink: Sink,
    letters: Letters,
    source: Source,
    encoder: Encoder,
    decompressor: Decompressor,
    flow: Rc<Flow>,
    cx: Context,
    batch: Batch,
    /// Where the next turn begins, so that no shard always comes first.
    turn: usize,
    /// Which shard is the first to be offered memory for a pull.
    turn_of_pulls: usize,
    work_due: bool,
    /// Kept between events: with hundreds of shards the search would be the dearest part of every write.
    soonest: Cell<Soonest>,
    /// Releases of memory that were seen.
    releases: u64,
    stopping: bool,
    stopped: bool,
    fence: Fence,
    /// Shards that were given up while the sink had frames of theirs that it had begun.
    parting: Vec<(ShardId, Epoch)>,
    taps: Taps,
}

/// The earliest deadline of all shards.
#[derive(Clone, Copy, Debug)]
enum Soonest {
    /// Something has happened since it was looked for.
    Unknown,
    /// There may be none.
    Known(Option<Instant>),
}

/// Until when shards may be worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fence {
    /// Nobody said.
    Open,
    /// Until this moment, unless a newer lease comes.
    Until(Instant),
    /// It has passed.
    Passed,
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
        cx.has_dead_letter = params.dead_letter;
        let sink = Sink::new(params.sink, &mut cx);
        Self {
            shards: Vec::new(),
            sink,
            letters: Letters::new(cx.rng.next_u64()),
            source: Source::new(params.source, params.credentials, now, wall),
            encoder: params.encoder,
            decompressor: Decompressor::default(),
            flow,
            cx,
            batch: Batch { bytes: params.batch_bytes, age: params.batch_age },
            turn: 0,
            turn_of_pulls: 0,
            work_due: false,
            soonest: Cell::new(Soonest::Unknown),
            releases: 0,
            stopping: false,
            stopped: false,
            fence: Fence::Open,
            parting: Vec::new(),
            taps: Taps::default(),
        }
    }

    /// The control plane says something.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        if !matches!(command, Command::Lease { .. }) {
            self.keep_fence(now);
        }
        match command {
            Command::Lease { until } => self.fence = Fence::Until(until),
            Command::Assign { shard, epoch, .. } if self.fence == Fence::Passed && !self.stopping => {
                self.cx.reports.push_back(Report::Dropped { shard, epoch });
            }
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
                    Some(held) => {
                        held.revoke(&mut self.cx);
                        self.sink.hasten(shard);
                    }
                    None => self.cx.reports.push_back(Report::Drained { shard, epoch }),
                }
            }
            Command::Abandon { .. } if planted(Bug::KeepsLostShards) => {}
            Command::Abandon { shard, epoch } => self.remove(now, shard, Some(epoch)),
            Command::Credentials(credentials) => self.source.set_credentials(credentials),
            Command::Token(token) => self.sink.set_token(&token),
            Command::Stop => {
                self.stopping = true;
                for shard in &mut self.shards {
                    shard.revoke(&mut self.cx);
                    self.sink.hasten(shard.id());
                }
            }
        }
        self.run(now);
    }

    /// A connection is ready: TCP, and TLS where there is any.
    pub fn handle_connected(&mut self, now: Instant, conn: ConnId) {
        self.keep_fence(now);
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
        self.keep_fence(now);
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

    /// Answer to [`Action::Finish`]: our side of the connection has ended, the FIN is out.
    pub fn handle_finished(&mut self, now: Instant, conn: ConnId) {
        self.sink.handle_finished(now, conn);
    }

    /// Answer to [`Action::Measure`]; also comes just before [`Self::handle_closed`] of a connection that was ready.
    pub fn handle_ledger(&mut self, now: Instant, conn: ConnId, ledger: Ledger) {
        self.sink.handle_ledger(now, conn, ledger, &mut self.cx);
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

    /// Answer to [`Action::DeadLetter`]: the record is on disk, or why it is not.
    pub fn handle_letter(&mut self, now: Instant, id: LetterId, result: Result<(), String>) {
        self.letters.handle_letter(now, id, result, &mut self.cx);
        self.run(now);
    }

    /// [`Self::poll_timeout`] has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.keep_fence(now);
        self.sink.handle_timeout(now, &mut self.cx);
        while let Some(frame) = self.letters.poll_again(now, &mut self.cx) {
            self.sink.push(frame);
        }
        if self.shards.iter().any(|shard| shard.is_due(now)) {
            // Shards that are asked together share the wake-ups, and stay together from then on.
            let slack = self.source.fetch_interval() / HURRY;
            for shard in &mut self.shards {
                shard.hurry(now, slack);
            }
        }
        for at in 0..self.shards.len() {
            if let Some(shard) = self.shards.get_mut(at) {
                shard.handle_timeout(now, &mut around!(self));
            }
        }
        self.work(now);
        self.run(now);
    }

    /// A few times a second: what has become safe since then is told. With each acknowledgement it would wake the control
    /// plane, which saves it every few seconds.
    pub fn handle_beat(&mut self, _now: Instant) {
        for shard in &mut self.shards {
            shard.tell_safe(&mut self.cx);
        }
    }

    /// The wall clock, about once a second.
    pub fn handle_wall_clock(&mut self, now: Instant, wall: UnixTime) {
        self.source.set_wall_clock(now, wall);
    }

    /// [`Flow::releases`] has changed while another pipeline of this executor was at work.
    pub fn handle_credit(&mut self, now: Instant) {
        self.keep_fence(now);
        self.run(now);
    }

    /// Somebody wants copies of frames.
    pub fn attach_tap(&mut self, now: Instant, tap: tap::Params) {
        self.taps.attach(now, tap);
    }

    /// Nobody reads the copies of this tap any more.
    pub fn detach_tap(&mut self, id: TapId) {
        self.taps.detach(id);
    }

    /// The next copy of a frame for somebody who looks on.
    pub fn poll_copy(&mut self) -> Option<(TapId, FrameCopy)> {
        self.taps.poll_copy()
    }

    /// The next plaintext for a connection; `None` when there is nothing to write now.
    pub fn poll_transmit(&mut self, now: Instant, conn: ConnId) -> Option<&[u8]> {
        if self.fence_passes(now) && self.has_work_of_lease() {
            // The deadline is due already: until it is handled, nothing begins.
            return None;
        }
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
        let shards = match self.soonest.get() {
            Soonest::Known(at) => at,
            Soonest::Unknown => self.find_soonest(),
        };
        self.soonest.set(Soonest::Known(shards));
        let fence = match self.fence {
            Fence::Until(until) if self.has_work_of_lease() && !planted(Bug::NoFence) => Some(until),
            _ => None,
        };
        let others = [shards, self.sink.poll_timeout(), self.letters.poll_timeout(), fence];
        others.into_iter().flatten().min()
    }

    fn find_soonest(&self) -> Option<Instant> {
        let timeout = self.source.params().timeout;
        let age = |shard: &Shard| {
            let waits = shard.has_body() && self.letters.holds(shard.id());
            if waits { Duration::from_hours(24 * 365) } else { self.batch.age }
        };
        self.shards.iter().filter_map(|shard| shard.poll_timeout(timeout, age(shard))).min()
    }

    /// Counts so far.
    pub fn counters(&self) -> &Counters {
        &self.cx.counters
    }

    /// How each shard stands.
    pub fn for_each_shard(&self, now: Instant, tell: &mut dyn FnMut(ShardGauge)) {
        let wall = self.source.wall(now);
        for shard in &self.shards {
            tell(shard.gauge(now, wall, self.holds(shard.id())));
        }
    }

    /// True after [`Command::Stop`] when everything is drained and closed.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Light work after every event: settle, report, begin pulls, hand frames to connections.
    fn run(&mut self, now: Instant) {
        self.soonest.set(Soonest::Unknown);
        if !self.parting.is_empty() && !planted(Bug::LostFramesGoAgain) {
            self.part(now);
        }
        self.take_refused(now);
        self.settle();
        self.retire(now);
        let releases = self.flow.releases();
        if core::mem::replace(&mut self.releases, releases) != releases && !planted(Bug::NobodyWakes) {
            for shard in &mut self.shards {
                shard.unblock();
            }
        }
        let mut moved = false;
        // Where memory is short, whoever comes first gets it: the next time that is the one after the last.
        let count = self.shards.len();
        let first = self.turn_of_pulls;
        for step in 0..count {
            let at = (first + step) % count;
            if let Some(shard) = self.shards.get_mut(at) {
                if shard.step(now, &mut around!(self)) {
                    moved = true;
                    self.turn_of_pulls = (at + 1) % count;
                }
                let has_work = shard.has_work() && !self.letters.holds(shard.id());
                self.work_due |= has_work || (shard.may_flush(now) && !self.sink.carries(shard.id()));
            }
        }
        self.sink.dispatch(now, &mut self.cx);
        self.take_refused(now);
        if moved {
            self.settle();
            self.retire(now);
        }
        self.gauges();
        self.finish_stop(now);
    }

    /// Heavy work: transcoding, one turn over all shards.
    fn work(&mut self, now: Instant) {
        self.work_due = false;
        let count = self.shards.len();
        self.turn = self.turn.wrapping_add(1);
        for step in 0..count {
            let at = (self.turn + step) % count;
            let Some(shard) = self.shards.get_mut(at) else { continue };
            // A shard that waits for an operator keeps what it has; more of it would take the memory of the others.
            if shard.has_body() && self.letters.holds(shard.id()) {
                continue;
            }
            let idle = !self.sink.carries(shard.id());
            let (sink, taps) = (&mut self.sink, &mut self.taps);
            let mut push = |frame: Frame| {
                if !taps.is_empty() {
                    taps.handle_frame(now, &frame);
                }
                sink.push(frame);
            };
            shard.transcode(now, idle, &self.batch, &mut around!(self), &mut push);
        }
    }

    /// What the sink refused goes to the letters, by the name of its pull.
    fn take_refused(&mut self, now: Instant) {
        if self.cx.refused.is_empty() {
            return;
        }
        for (frame, refusal) in core::mem::take(&mut self.cx.refused) {
            let first = frame.segments.first().copied();
            let cursor = first.and_then(|first| self.find(first.shard, first.epoch)?.cursor_of(first.pull));
            match cursor {
                Some(cursor) => self.letters.add(now, frame, refusal, cursor, &mut self.cx),
                // The shard was given up: whoever has it now meets the record again.
                None => self.cx.pool.give(frame),
            }
        }
    }

    /// Applies what the sink settled to the ledgers.
    fn settle(&mut self) {
        let mut settled = core::mem::take(&mut self.cx.settled);
        for (segment, how) in settled.drain(..) {
            if self.letters.is_watching() {
                self.letters.settled(&segment, &mut self.cx);
            }
            let Some(shard) = self.find(segment.shard, segment.epoch) else { continue };
            match how {
                Settled::Acked => {
                    let newly = shard.acked(segment.pull, segment.start, segment.end);
                    self.cx.counters.acked_records += u64::from(newly);
                }
                Settled::DeadLettered => {
                    shard.acked(segment.pull, segment.start, segment.end);
                }
                Settled::Lost => shard.lost(segment.pull, segment.start, segment.end),
            }
        }
        // The buffer goes back: nothing is allocated per frame.
        self.cx.settled = settled;
    }

    /// Notes safe positions and removes shards that are done.
    fn retire(&mut self, now: Instant) {
        let mut at = 0;
        while let Some(shard) = self.shards.get_mut(at) {
            shard.note_safe(now, &mut self.cx);
            if shard.is_drained() && !self.sink.carries(shard.id()) {
                let (id, epoch) = (shard.id(), shard.epoch());
                self.remove(now, id, None);
                self.cx.reports.push_back(Report::Drained { shard: id, epoch });
            } else {
                at += 1;
            }
        }
    }

    /// The lease may have ended while this process was frozen: then nothing more goes to the sink, whatever else
    /// has happened meanwhile. A request that is written in part is cut; one that is written whole cannot be.
    fn keep_fence(&mut self, now: Instant) {
        if !self.fence_passes(now) {
            return;
        }
        self.fence = Fence::Passed;
        if !self.has_work_of_lease() {
            return;
        }
        self.sink.sever(&mut self.cx);
        while let Some((shard, epoch)) = self.shards.first().map(|shard| (shard.id(), shard.epoch())) {
            self.remove(now, shard, None);
            self.cx.reports.push_back(Report::Dropped { shard, epoch });
        }
    }

    /// True while anything of a shard may still go to the sink, even if the shard itself was given up.
    fn has_work_of_lease(&self) -> bool {
        !self.shards.is_empty() || !self.parting.is_empty()
    }

    fn fence_passes(&self, now: Instant) -> bool {
        matches!(self.fence, Fence::Until(until) if until <= now) && !planted(Bug::NoFence)
    }

    /// Takes a shard out, its last safe position first; its frames that no connection has begun are forgotten.
    fn remove(&mut self, now: Instant, id: ShardId, epoch: Option<Epoch>) {
        let of = |shard: &Shard| shard.id() == id && epoch.is_none_or(|epoch| shard.epoch() == epoch);
        if let Some(at) = self.shards.iter().position(of) {
            let mut shard = self.shards.remove(at);
            if !planted(Bug::LastIsNotTold) {
                shard.tell_safe(&mut self.cx);
            }
            shard.close(&mut self.cx);
            self.sink.forget(now, id, shard.epoch(), &mut self.cx);
            self.letters.forget(id, shard.epoch(), &mut self.cx);
            if self.sink.carries(id) {
                self.parting.push((id, shard.epoch()));
            }
        }
    }

    /// A frame of a shard that was given up while it was being written comes back when its connection breaks. It must
    /// not go out again: the shard may be somebody else's by now.
    fn part(&mut self, now: Instant) {
        let (sink, cx) = (&mut self.sink, &mut self.cx);
        self.parting.retain(|&(shard, epoch)| {
            sink.forget(now, shard, epoch, cx);
            sink.carries(shard)
        });
    }

    fn finish_stop(&mut self, now: Instant) {
        if self.stopping && !self.stopped && self.shards.is_empty() && self.sink.is_empty() {
            if !self.sink.wind_down(now, &mut self.cx) {
                return;
            }
            self.sink.close_all(&mut self.cx);
            self.stopped = true;
            self.cx.reports.push_back(Report::Stopped);
        }
    }

    fn gauges(&mut self) {
        self.cx.counters.inflight_bytes = self.flow.bodies.used() + self.flow.frames.used();
        self.cx.counters.shards = self.shards.len() as u64;
        let held = self.shards.iter().filter(|shard| shard.is_held(self.holds(shard.id())));
        self.cx.counters.held_shards = held.count() as u64;
    }

    /// True while a shard waits for the sink, the disk or an operator.
    fn holds(&self, shard: ShardId) -> bool {
        self.sink.holds(shard) || self.letters.holds(shard)
    }

    fn find(&mut self, id: ShardId, epoch: Epoch) -> Option<&mut Shard> {
        let is_of = |shard: &Shard| shard.epoch() == epoch || planted(Bug::OldHoldingCounts);
        self.shards.iter_mut().find(|shard| shard.id() == id && is_of(shard))
    }

    fn owner(&self, conn: ConnId) -> Option<usize> {
        self.shards.iter().position(|shard| shard.conn() == Some(conn))
    }
}
