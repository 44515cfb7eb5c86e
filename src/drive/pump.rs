//! One pipeline on one executor: hands events to the core and carries out what it answers.
//!
//! Why: every task of a pipeline (connections, timer, commands) has to drain the core in the same way; this is
//! the one place that does.
//! Invariants: 1. the core is never borrowed across an await. 2. after every `handle_*` actions and reports are
//!  drained and the timer is re-armed. 3. a connection that the core did not close itself is reported closed
//!  exactly once. 4. new tasks never run inside of [`Pump::with`].
//! Bounds: [`ACTIONS_PER_TURN`] actions in one turn; the rest follows in the next.
//! Driven by: `executor` (commands, ticks), `conn`, and its own timer task.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::mpsc::Sender;
use std::time::Duration;

use glommio::sync::Semaphore;
use glommio::timer::Timer;

use super::clock;
use super::conn::{self, Link};
use super::core::Core;
use super::executor::{Order, Room};
use super::resolve::{FRESH, Routes};
use super::wait::{self, Flag};
use super::{ExecutorIndex, PipelineId, PipelineSnapshot, Target, tls};
use crate::dead_letter::Mailbox;
use crate::proto::event::{Action, DeadLetter, Report, To};
use crate::proto::ids::{ConnId, EndpointId, RouteId};
use crate::proto::tap::{self, FrameCopy, TapId};
use crate::proto::time::Instant;

const ACTIONS_PER_TURN: usize = 4096;
/// Pause where a deadline stays in the past after it was handled.
const STUCK_PAUSE: Duration = Duration::from_millis(1);

/// Where the reports of a pipeline go, those of one event together: each message wakes a thread.
pub(crate) type Reports = Sender<(ExecutorIndex, PipelineId, Vec<Report>)>;

/// Where copies of frames go. Bounded: one that does not fit is dropped, the sums in the next one tell.
pub(crate) type Copies = async_channel::Sender<FrameCopy>;

/// A pipeline at work.
pub(crate) struct Pump {
    me: Weak<Pump>,
    id: PipelineId,
    pub(crate) room: Rc<Room>,
    core: RefCell<Box<dyn Core>>,
    reports: Reports,
    mailbox: Option<Mailbox>,
    source: Source,
    endpoints: Vec<Target>,
    routes: RefCell<Routes>,
    lookups: RefCell<BTreeMap<EndpointId, Rc<Flag>>>,
    links: RefCell<BTreeMap<ConnId, Rc<Link>>>,
    armed: Cell<Option<Instant>>,
    rearm: Flag,
    more: Cell<bool>,
    /// It has come to its end.
    stopped: Cell<bool>,
    /// Who looks on: mostly nobody.
    taps: RefCell<Vec<(TapId, Copies)>>,
}

/// Addresses of the SLS endpoint.
struct Source {
    target: Target,
    known: RefCell<Vec<SocketAddr>>,
    next: Cell<usize>,
    asked: Cell<Option<Instant>>,
    asking: Semaphore,
}

impl Pump {
    /// Puts a pipeline to work.
    pub(crate) fn start(
        room: &Rc<Room>,
        id: PipelineId,
        core: Box<dyn Core>,
        targets: (Target, Vec<Target>),
        (reports, mailbox): (Reports, Option<Mailbox>),
    ) -> Rc<Self> {
        let (target, endpoints) = targets;
        let source = Source {
            target,
            known: RefCell::default(),
            next: Cell::new(0),
            asked: Cell::new(None),
            asking: Semaphore::new(1),
        };
        let pump = Rc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            id,
            room: Rc::clone(room),
            core: RefCell::new(core),
            reports,
            mailbox,
            source,
            endpoints,
            routes: RefCell::default(),
            lookups: RefCell::default(),
            links: RefCell::default(),
            armed: Cell::new(None),
            rearm: Flag::default(),
            more: Cell::new(false),
            stopped: Cell::new(false),
            taps: RefCell::default(),
        });
        wait::spawn(&room.gate, run_timer(Rc::clone(&pump)));
        // A new core may have something to do at once.
        pump.with(|_, _| ());
        pump
    }

    /// Which pipeline this is.
    pub(crate) fn id(&self) -> PipelineId {
        self.id
    }

    /// Lets `event` happen to the core, then does what the core wants.
    pub(crate) fn with<R>(&self, event: impl FnOnce(&mut dyn Core, Instant) -> R) -> R {
        let mut actions = self.room.actions.take();
        let (answer, deadline) = {
            let mut core = self.core.borrow_mut();
            let answer = event(&mut **core, clock::now());
            let reports: Vec<_> = std::iter::from_fn(|| core.poll_report()).collect();
            if !reports.is_empty() {
                // Nobody listens while the process goes down.
                let _ = self.reports.send((self.room.index, self.id, reports));
            }
            while actions.len() < ACTIONS_PER_TURN
                && let Some(action) = core.poll_action()
            {
                actions.push(action);
            }
            let taps = self.taps.borrow();
            while !taps.is_empty()
                && let Some((id, copy)) = core.poll_copy()
            {
                if let Some((_, copies)) = taps.iter().find(|(of, _)| *of == id) {
                    // Full: whoever looks on is slower than we are, and must not hold us up.
                    let _dropped = copies.try_send(copy);
                }
            }
            (answer, core.poll_timeout())
        };
        self.more.set(actions.len() == ACTIONS_PER_TURN);
        for action in actions.drain(..) {
            self.carry_out(action);
        }
        self.room.actions.set(actions);
        let sooner = deadline.is_some_and(|at| self.armed.get().is_none_or(|armed| at < armed));
        if sooner || self.more.get() {
            self.rearm.raise();
        }
        let releases = self.room.memory.releases();
        if self.room.releases.replace(releases) != releases {
            self.room.freed.raise();
        }
        answer
    }

    /// Connections to this endpoint that are made from now on use other TLS settings.
    pub(crate) fn renew_tls(&self, endpoint: EndpointId, client: tls::Client) {
        if let Some(target) = self.endpoints.get(usize::from(endpoint.0)) {
            target.tls.replace(Some(client));
        }
    }

    /// Somebody wants copies of frames.
    pub(crate) fn attach_tap(&self, tap: tap::Params, copies: Copies) {
        // One that has just ended must not take the place of this one.
        self.end_taps();
        self.taps.borrow_mut().push((tap.id, copies));
        self.core.borrow_mut().attach_tap(clock::now(), tap);
    }

    /// Ends the taps whose copies nobody reads any more.
    pub(crate) fn end_taps(&self) {
        self.taps.borrow_mut().retain(|(id, copies)| {
            let is_read = !copies.is_closed();
            if !is_read {
                self.core.borrow_mut().detach_tap(*id);
            }
            is_read
        });
    }

    /// Ends everything; the core is not asked.
    pub(crate) fn stop(&self) {
        self.stopped.set(true);
        for link in std::mem::take(&mut *self.links.borrow_mut()).into_values() {
            link.close.raise();
        }
        for lookup in std::mem::take(&mut *self.lookups.borrow_mut()).into_values() {
            lookup.raise();
        }
        self.rearm.raise();
    }

    /// Takes a connection off the list; false where the core closed it itself.
    pub(crate) fn unlink(&self, conn: ConnId) -> bool {
        self.links.borrow_mut().remove(&conn).is_some()
    }

    /// What the admin side may know.
    pub(crate) fn snapshot(&self) -> PipelineSnapshot {
        let core = self.core.borrow();
        let mut shards = Vec::new();
        core.for_each_shard(clock::now(), &mut |gauge| shards.push(gauge));
        PipelineSnapshot {
            pipeline: self.id,
            counters: core.counters().clone(),
            shards,
            connections: self.links.borrow().len(),
            stopped: core.is_stopped(),
        }
    }

    /// Target and address that `to` means now.
    pub(crate) async fn address(&self, to: To) -> Result<(&Target, SocketAddr), String> {
        match to {
            To::Source => {
                let address = self.source_address().await?;
                Ok((&self.source.target, address))
            }
            To::Sink(route) => {
                let found = self.routes.borrow().find(route);
                let (endpoint, address) = found.ok_or_else(|| format!("route {} is unknown", route.0))?;
                let target = self.endpoints.get(usize::from(endpoint.0));
                Ok((target.ok_or_else(|| format!("endpoint {} is unknown", endpoint.0))?, address))
            }
            To::Stdout => Err("standard output has no address".to_owned()),
        }
    }

    /// True where `to` takes datagrams.
    pub(crate) fn is_datagram(&self, to: To) -> bool {
        let To::Sink(route) = to else { return false };
        let endpoint = self.routes.borrow().find(route).map(|(endpoint, _)| usize::from(endpoint.0));
        endpoint.and_then(|at| self.endpoints.get(at)).is_some_and(|target| target.datagrams)
    }

    /// The next address of the source; its name is looked up again when the answer is old.
    async fn source_address(&self) -> Result<SocketAddr, String> {
        let source = &self.source;
        // One question at a time: sixteen shards that start together need one answer.
        let _turn = source.asking.acquire_permit(1).await.map_err(|error| error.to_string())?;
        let old = source.asked.get().is_none_or(|asked| clock::now().since(asked) >= FRESH);
        if old {
            let (host, port) = source.target.dial();
            match self.room.resolver.addresses(host, port).await {
                Ok(found) => {
                    *source.known.borrow_mut() = found;
                    source.asked.set(Some(clock::now()));
                }
                // Yesterday's addresses are better than none.
                Err(error) if source.known.borrow().is_empty() => return Err(error),
                Err(error) => tracing::debug!(%error, "name lookup failed, known addresses stay in use"),
            }
        }
        let next = source.next.get();
        source.next.set(next.wrapping_add(1));
        let known = source.known.borrow();
        let index = next.checked_rem(known.len()).unwrap_or(0);
        known.get(index).copied().ok_or_else(|| format!("{} has no address", source.target.host))
    }

    fn carry_out(&self, action: Action) {
        if self.stopped.get() || self.room.stopping.get() {
            return;
        }
        match action {
            Action::Connect { conn, to } => {
                let Some(me) = self.me.upgrade() else { return };
                let link = Rc::new(Link::default());
                self.links.borrow_mut().insert(conn, Rc::clone(&link));
                wait::spawn(&self.room.gate, conn::run(me, conn, to, link));
            }
            Action::Transmit(conn) => {
                if let Some(link) = self.links.borrow().get(&conn) {
                    link.transmit.raise();
                }
            }
            Action::Finish(conn) => {
                if let Some(link) = self.links.borrow().get(&conn) {
                    link.finish.raise();
                    link.transmit.raise();
                }
            }
            Action::Measure(conn) => {
                if let Some(link) = self.links.borrow().get(&conn) {
                    link.measure.raise();
                }
            }
            Action::Close(conn) => {
                let link = self.links.borrow_mut().remove(&conn);
                if let Some(link) = link {
                    link.close.raise();
                }
            }
            Action::Resolve(endpoint) => self.look_up(endpoint),
            Action::DeadLetter(letter) => self.post(*letter),
        }
    }

    /// Gives a record to the writer of the dead letter; its answer comes back as an order to this executor.
    fn post(&self, letter: DeadLetter) {
        let (orders, pipeline, id) = (self.room.orders.clone(), self.id, letter.id);
        let answer = move |result| {
            if let Some(orders) = orders.upgrade() {
                // An executor that has ended needs no answer.
                let _ended = orders.try_send(Order::Letter(pipeline, id, result));
            }
        };
        match &self.mailbox {
            Some(mailbox) => mailbox.post(letter, Box::new(answer)),
            None => answer(Err("there is no dead letter".to_owned())),
        }
    }

    fn look_up(&self, endpoint: EndpointId) {
        let Some(me) = self.me.upgrade() else { return };
        let cancel = Rc::new(Flag::default());
        if self.lookups.borrow().contains_key(&endpoint) {
            // The answer to the first question answers this one.
            return;
        }
        self.lookups.borrow_mut().insert(endpoint, Rc::clone(&cancel));
        wait::spawn(&self.room.gate, async move {
            let cancelled = async {
                cancel.raised().await;
                None
            };
            let routes =
                futures_lite::future::or(cancelled, async { Some(me.routes_of(endpoint).await) }).await;
            me.lookups.borrow_mut().remove(&endpoint);
            if let Some(routes) = routes {
                me.with(|core, now| core.handle_routes(now, endpoint, routes));
            }
        });
    }

    async fn routes_of(&self, endpoint: EndpointId) -> Result<Vec<RouteId>, String> {
        let fresh = self.routes.borrow().fresh(endpoint, clock::now());
        if let Some(routes) = fresh {
            return Ok(routes);
        }
        let target = self.endpoints.get(usize::from(endpoint.0));
        let target = target.ok_or_else(|| format!("endpoint {} is unknown", endpoint.0))?;
        let (host, port) = target.dial();
        let found = self.room.resolver.addresses(host, port).await?;
        Ok(self.routes.borrow_mut().learn(endpoint, clock::now(), &found))
    }
}

/// Wakes the core at its deadlines.
async fn run_timer(pump: Rc<Pump>) {
    while !pump.stopped.get() && !pump.room.stopping.get() {
        pump.rearm.take();
        if pump.more.get() {
            pump.with(|_, _| ());
            pump.room.breath.take().await;
            continue;
        }
        let deadline = pump.core.borrow().poll_timeout();
        pump.armed.set(deadline);
        let now = clock::now();
        match deadline {
            None => pump.rearm.raised().await,
            Some(at) if at > now => {
                let sleep = async {
                    Timer::new(at.since(now)).await;
                    pump.room.breath.note();
                };
                futures_lite::future::or(pump.rearm.raised(), sleep).await;
            }
            Some(at) => {
                pump.with(|core, now| core.handle_timeout(now));
                // A real deadline has to be gone now; `Instant(0)` asks for a turn after the writers, not for a time.
                if at > Instant(0) && pump.core.borrow().poll_timeout() == Some(at) {
                    Timer::new(STUCK_PAUSE).await;
                }
                pump.room.breath.take().await;
            }
        }
    }
}
