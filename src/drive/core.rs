//! What the drivers need from one pipeline of the core.
//!
//! Why: the drivers carry bytes and deadlines and know nothing of what they mean, so that they can be tested
//! with a core that only echoes.
//! Invariants: as [`crate::proto`] states them; the driver promises that `now` never runs backwards and that
//! it drains `poll_action` and `poll_report` after every `handle_*`.
//! Bounds: those of the core.
//! Driven by: `pump`.

use crate::proto::counters::{Counters, ShardGauge};
use crate::proto::event::{Action, Closed, Command, Ledger, Report};
use crate::proto::ids::{ConnId, EndpointId, LetterId, RouteId};
use crate::proto::pipeline::Pipeline;
use crate::proto::tap::{self, FrameCopy, TapId};
use crate::proto::time::{Instant, UnixTime};

/// One pipeline on one executor. All methods are synchronous and never block.
pub trait Core {
    /// A message of the control plane.
    fn handle_command(&mut self, now: Instant, command: Command);
    /// A connection is there: TCP and TLS are done.
    fn handle_connected(&mut self, now: Instant, conn: ConnId);
    /// Plaintext of the peer.
    fn handle_received(&mut self, now: Instant, conn: ConnId, bytes: &[u8]);
    /// So many bytes of the last `poll_transmit` of this connection are on their way.
    fn handle_transmitted(&mut self, now: Instant, conn: ConnId, bytes: usize);
    /// Answer to [`Action::Finish`]: our FIN is out.
    fn handle_finished(&mut self, now: Instant, conn: ConnId);
    /// Answer to [`Action::Measure`]; also just before `handle_closed` of a connection that had come about.
    fn handle_ledger(&mut self, now: Instant, conn: ConnId, ledger: Ledger);
    /// A connection ended or never came about.
    fn handle_closed(&mut self, now: Instant, conn: ConnId, why: Closed);
    /// Answer to [`Action::Resolve`].
    fn handle_routes(&mut self, now: Instant, endpoint: EndpointId, routes: Result<Vec<RouteId>, String>);
    /// Answer to [`Action::DeadLetter`].
    fn handle_letter(&mut self, _now: Instant, _id: LetterId, _result: Result<(), String>) {}
    /// The deadline of `poll_timeout` has come.
    fn handle_timeout(&mut self, now: Instant);
    /// A few times a second.
    fn handle_beat(&mut self, _now: Instant) {}
    /// Every second or so.
    fn handle_wall_clock(&mut self, now: Instant, wall: UnixTime);
    /// Another pipeline of this executor gave memory back.
    fn handle_credit(&mut self, now: Instant);
    /// Somebody wants copies of frames.
    fn attach_tap(&mut self, _now: Instant, _tap: tap::Params) {}
    /// Nobody reads the copies of this tap any more.
    fn detach_tap(&mut self, _id: TapId) {}
    /// The next copy of a frame. Asked for while there is a tap.
    fn poll_copy(&mut self) -> Option<(TapId, FrameCopy)> {
        None
    }
    /// The next plaintext to write on this connection.
    fn poll_transmit(&mut self, now: Instant, conn: ConnId) -> Option<&[u8]>;
    /// What to do next.
    fn poll_action(&mut self) -> Option<Action>;
    /// What to tell the control plane next.
    fn poll_report(&mut self) -> Option<Report>;
    /// The earliest deadline; `Instant(0)` asks for a turn as soon as what is to be written is on its way.
    fn poll_timeout(&self) -> Option<Instant>;
    /// Counts so far.
    fn counters(&self) -> &Counters;
    /// Shows every shard.
    fn for_each_shard(&self, now: Instant, show: &mut dyn FnMut(ShardGauge));
    /// True after everything has ended.
    fn is_stopped(&self) -> bool;
}

impl Core for Pipeline {
    fn handle_command(&mut self, now: Instant, command: Command) {
        self.handle_command(now, command);
    }

    fn handle_connected(&mut self, now: Instant, conn: ConnId) {
        self.handle_connected(now, conn);
    }

    fn handle_received(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) {
        self.handle_received(now, conn, bytes);
    }

    fn handle_transmitted(&mut self, now: Instant, conn: ConnId, bytes: usize) {
        self.handle_transmitted(now, conn, bytes);
    }

    fn handle_finished(&mut self, now: Instant, conn: ConnId) {
        self.handle_finished(now, conn);
    }

    fn handle_ledger(&mut self, now: Instant, conn: ConnId, ledger: Ledger) {
        self.handle_ledger(now, conn, ledger);
    }

    fn handle_closed(&mut self, now: Instant, conn: ConnId, why: Closed) {
        self.handle_closed(now, conn, why);
    }

    fn handle_routes(&mut self, now: Instant, endpoint: EndpointId, routes: Result<Vec<RouteId>, String>) {
        self.handle_routes(now, endpoint, routes);
    }

    fn handle_letter(&mut self, now: Instant, id: LetterId, result: Result<(), String>) {
        self.handle_letter(now, id, result);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.handle_timeout(now);
    }

    fn handle_beat(&mut self, now: Instant) {
        self.handle_beat(now);
    }

    fn handle_wall_clock(&mut self, now: Instant, wall: UnixTime) {
        self.handle_wall_clock(now, wall);
    }

    fn handle_credit(&mut self, now: Instant) {
        self.handle_credit(now);
    }

    fn attach_tap(&mut self, now: Instant, tap: tap::Params) {
        self.attach_tap(now, tap);
    }

    fn detach_tap(&mut self, id: TapId) {
        self.detach_tap(id);
    }

    fn poll_copy(&mut self) -> Option<(TapId, FrameCopy)> {
        self.poll_copy()
    }

    fn poll_transmit(&mut self, now: Instant, conn: ConnId) -> Option<&[u8]> {
        self.poll_transmit(now, conn)
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.poll_action()
    }

    fn poll_report(&mut self) -> Option<Report> {
        self.poll_report()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.poll_timeout()
    }

    fn counters(&self) -> &Counters {
        self.counters()
    }

    fn for_each_shard(&self, now: Instant, show: &mut dyn FnMut(ShardGauge)) {
        self.for_each_shard(now, show);
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped()
    }
}
