//! The addresses behind the sink's endpoints: which may be used, how fast each is, who waits for how long.
//!
//! Why: one busy or broken receiver must not stop the others, and a name with several addresses is several
//! receivers.
//! Invariants: 1. an address that failed is not used before its wait is over. 2. trouble is reported once per
//!  change and endpoint, not per attempt.
//! Bounds: waits of 100 ms to 30 s with jitter; at least 5 s where an operator has to repair something.
//! Driven by: the sinks that speak to a network.

use core::time::Duration;

use crate::proto::backoff::Backoff;
use crate::proto::context::{Context, Trouble};
use crate::proto::event::{Action, Cause, Closed, ClosedKind, Scope};
use crate::proto::ids::{EndpointId, RouteId};
use crate::proto::time::Instant;

const WAIT_BASE: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(30);
const WAIT_HOLD: Duration = Duration::from_secs(5);
/// Longest wait that a server may ask for with `Retry-After`.
const WAIT_ASKED_MAX: Duration = Duration::from_mins(1);
/// Names are looked up again this often: addresses come and go without a failure.
const RESOLVE_EVERY: Duration = Duration::from_mins(1);
/// An address that was slow and is not used any more is believed to become fast again: half of it in this time.
const FORGET_NS: u64 = 10_000_000_000;
/// How long an address is spared that says its queues fill up.
const WAIT_SLOW: Duration = Duration::from_millis(250);
/// Answers with one request at a time after a server closed with answers owed.
const SHALLOW_ANSWERS: u32 = 64;

/// A failed attempt.
#[derive(Debug)]
pub(super) struct Failure {
    cause: Cause,
    wait_min: Duration,
    resolve: bool,
    eject: bool,
}

impl Failure {
    /// The server said "not now".
    pub(super) fn busy(cause: Cause) -> Self {
        Self { cause, wait_min: Duration::ZERO, resolve: false, eject: false }
    }

    /// An operator has to repair something.
    pub(super) fn hold(cause: Cause) -> Self {
        Self { cause, wait_min: WAIT_HOLD, resolve: false, eject: false }
    }

    /// The connection failed: perhaps the name leads elsewhere now.
    pub(super) fn soft(cause: Cause) -> Self {
        Self { cause, wait_min: Duration::ZERO, resolve: true, eject: false }
    }

    /// The server asked for this pause.
    pub(super) fn after(mut self, asked: Option<Duration>) -> Self {
        self.wait_min = self.wait_min.max(asked.unwrap_or_default().min(WAIT_ASKED_MAX));
        self
    }

    /// Nothing goes to this address before it has answered a question about its health.
    pub(super) fn eject(mut self) -> Self {
        self.eject = true;
        self
    }
}

#[derive(Debug)]
struct Route {
    id: RouteId,
    endpoint: EndpointId,
    /// When a connection was opened to it last, counted in connections: whoever waits longest comes next.
    turn: u64,
    /// Its place among equals, by lot: forwarders that are many must not all begin with the first address.
    rank: u64,
    paused_until: Option<Instant>,
    backoff: Backoff,
    latency_ns: u64,
    used_at: Instant,
    shallow: u32,
    gone: bool,
    /// Out of use until it has answered a question about its health.
    ejected: bool,
}

#[derive(Debug)]
struct Endpoint {
    trouble: Trouble,
    poll_trouble: bool,
    backoff: Backoff,
    resolve_at: Option<Instant>,
    /// Its name was looked up, whatever came of it.
    looked_up: bool,
}

/// All addresses of one sink.
#[derive(Debug)]
pub(super) struct Routes {
    known: Vec<Route>,
    endpoints: Vec<Endpoint>,
    /// Connections opened so far.
    turns: u64,
    /// The sink can ask addresses for their health, so the second failure in a row puts one out of use.
    pub(super) asks_health: bool,
    /// Even a new address is asked before it is used.
    pub(super) asks_first: bool,
}

impl Routes {
    /// No address yet; asks for those of every endpoint.
    pub(super) fn new(endpoints: usize, cx: &mut Context) -> Self {
        let endpoints: Vec<Endpoint> = (0..endpoints)
            .map(|_| Endpoint {
                trouble: Trouble::default(),
                poll_trouble: false,
                backoff: Backoff::new(WAIT_BASE, WAIT_MAX, cx.rng.next_u64()),
                resolve_at: None,
                looked_up: false,
            })
            .collect();
        for at in 0..endpoints.len() {
            cx.actions.push_back(Action::Resolve(EndpointId(u16::try_from(at).unwrap_or(u16::MAX))));
        }
        Self { known: Vec::new(), endpoints, turns: 0, asks_health: false, asks_first: false }
    }

    pub(super) fn handle_routes(
        &mut self,
        now: Instant,
        endpoint: EndpointId,
        found: Result<Vec<RouteId>, String>,
        cx: &mut Context,
    ) {
        let Some(entry) = self.endpoints.get_mut(usize::from(endpoint.0)) else { return };
        entry.looked_up = true;
        let found = match found {
            Ok(found) if !found.is_empty() => found,
            other => {
                let detail = other.err().unwrap_or_else(|| "the name has no address".to_owned());
                let wait = entry.backoff.next_wait();
                entry.resolve_at = Some(now + wait);
                // Known addresses stay in use: a name server that is down is no reason to stop.
                if !self.known.iter().any(|route| route.endpoint == endpoint) {
                    let cause = Cause::Transport(Closed { kind: ClosedKind::Resolve, detail });
                    entry.trouble.raise(cx, Scope::Sink(endpoint), cause, wait);
                }
                return;
            }
        };
        entry.backoff.reset();
        entry.resolve_at = Some(now + RESOLVE_EVERY);
        for route in self.known.iter_mut().filter(|route| route.endpoint == endpoint) {
            route.gone = !found.contains(&route.id);
        }
        for id in found {
            if self.known.iter().any(|route| route.id == id) {
                continue;
            }
            let backoff = Backoff::new(WAIT_BASE, WAIT_MAX, cx.rng.next_u64());
            self.known.push(Route {
                id,
                endpoint,
                turn: 0,
                rank: cx.rng.next_u64(),
                paused_until: None,
                backoff,
                latency_ns: 1_000_000,
                used_at: now,
                shallow: 0,
                gone: false,
                ejected: self.asks_first,
            });
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, cx: &mut Context) {
        for route in &mut self.known {
            route.paused_until = route.paused_until.filter(|until| *until > now);
        }
        for (at, endpoint) in self.endpoints.iter_mut().enumerate() {
            if endpoint.resolve_at.is_some_and(|due| due <= now) {
                endpoint.resolve_at = None;
                cx.actions.push_back(Action::Resolve(EndpointId(u16::try_from(at).unwrap_or(u16::MAX))));
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.endpoints.iter().filter_map(|endpoint| endpoint.resolve_at).min()
    }

    /// When the first paused address may be used again.
    pub(super) fn next_resume(&self) -> Option<Instant> {
        self.known.iter().filter_map(|route| route.paused_until).min()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = RouteId> + '_ {
        self.known.iter().map(|route| route.id)
    }

    /// The one of these that comes first, by what is counted for it, then in turn, then by lot.
    pub(super) fn least(&self, routes: impl Iterator<Item = (usize, RouteId)>) -> Option<(usize, RouteId)> {
        routes.min_by_key(|(count, id)| (*count, self.find(*id).map(|route| (route.turn, route.rank))))
    }

    /// A connection is opened to it.
    pub(super) fn take_turn(&mut self, id: RouteId) {
        self.turns += 1;
        let turn = self.turns;
        if let Some(route) = self.find_mut(id) {
            route.turn = turn;
        }
    }

    /// Every name was looked up once. Before that the first connection would go to whichever is known first, and that of a
    /// whole fleet to the same.
    pub(super) fn are_looked_up(&self) -> bool {
        self.endpoints.iter().all(|endpoint| endpoint.looked_up)
    }

    pub(super) fn endpoint(&self, id: RouteId) -> Option<EndpointId> {
        self.find(id).map(|route| route.endpoint)
    }

    pub(super) fn is_gone(&self, id: RouteId) -> bool {
        self.find(id).is_none_or(|route| route.gone)
    }

    pub(super) fn is_usable(&self, now: Instant, id: RouteId) -> bool {
        self.find(id)
            .is_some_and(|route| !route.ejected && route.paused_until.is_none_or(|until| until <= now))
    }

    /// Addresses that wait to be asked for their health.
    pub(super) fn to_ask(&self, now: Instant) -> impl Iterator<Item = RouteId> + '_ {
        let due = move |route: &&Route| {
            route.ejected && !route.gone && route.paused_until.is_none_or(|until| until <= now)
        };
        self.known.iter().filter(due).map(|route| route.id)
    }

    /// When the next one of them has waited long enough; those that are being asked are not waited for.
    pub(super) fn next_ask(&self, is_asked: impl Fn(RouteId) -> bool) -> Option<Instant> {
        let waits = |route: &&Route| route.ejected && !route.gone && !is_asked(route.id);
        self.known.iter().filter(waits).filter_map(|route| route.paused_until).min()
    }

    /// It said that it is well: requests may go there again. Whether they succeed is another question.
    pub(super) fn readmit(&mut self, id: RouteId) {
        if let Some(route) = self.find_mut(id) {
            route.ejected = false;
        }
    }

    /// What stood against all addresses may be repaired: they are tried at once.
    pub(super) fn try_all(&mut self) {
        for route in &mut self.known {
            route.paused_until = None;
            route.backoff.reset();
        }
    }

    pub(super) fn latency_ns(&self, now: Instant, id: RouteId) -> u64 {
        self.find(id).map_or(u64::MAX, |route| {
            let halvings = now.0.saturating_sub(route.used_at.0) / FORGET_NS;
            route.latency_ns.checked_shr(u32::try_from(halvings).unwrap_or(u32::MAX)).unwrap_or(0).max(1)
        })
    }

    /// Requests that may be under way on one connection.
    pub(super) fn depth(&self, id: RouteId, configured: usize) -> usize {
        if self.find(id).is_some_and(|route| route.shallow > 0) { 1 } else { configured }
    }

    /// True when every endpoint is in trouble.
    pub(super) fn all_troubled(&self) -> bool {
        self.endpoints.iter().all(|endpoint| endpoint.trouble.is_raised())
    }

    /// This server closed while it owed answers: one request at a time for a while.
    pub(super) fn go_shallow(&mut self, id: RouteId) {
        if let Some(route) = self.find_mut(id) {
            route.shallow = SHALLOW_ANSWERS;
        }
    }

    pub(super) fn succeed(
        &mut self,
        now: Instant,
        id: RouteId,
        took: Duration,
        slow_down: bool,
        cx: &mut Context,
    ) {
        let Some(route) = self.find_mut(id) else { return };
        route.backoff.reset();
        route.ejected = false;
        route.used_at = now;
        route.shallow = route.shallow.saturating_sub(1);
        // A pause that the server has asked for is not over because an answer from before it comes late.
        let slow = slow_down.then(|| now + WAIT_SLOW);
        route.paused_until = route.paused_until.filter(|until| *until > now).max(slow);
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        // Weight 1/8, as TCP smooths its round trips (RFC 6298).
        route.latency_ns = (route.latency_ns - route.latency_ns / 8).saturating_add(took / 8).max(1);
        let endpoint = route.endpoint;
        if let Some(entry) = self.endpoints.get_mut(usize::from(endpoint.0))
            && !entry.poll_trouble
        {
            entry.trouble.clear(cx, Scope::Sink(endpoint));
        }
    }

    /// The very first connection: an address that could not be reached so far can be.
    pub(super) fn greet(&mut self, id: RouteId, cx: &mut Context) {
        let Some(endpoint) = self.endpoint(id) else { return };
        if let Some(entry) = self.endpoints.get_mut(usize::from(endpoint.0)) {
            entry.trouble.clear(cx, Scope::Sink(endpoint));
        }
    }

    pub(super) fn fail(&mut self, now: Instant, id: RouteId, failure: Failure, cx: &mut Context) {
        let asks_health = self.asks_health;
        let Some(route) = self.find_mut(id) else { return };
        // What was under way when a pause began fails together with what caused it: one attempt, not several in a row.
        let paused = route.paused_until.filter(|until| *until > now);
        let wait = paused.map_or_else(|| route.backoff.next_wait(), |until| until.since(now));
        let wait = wait.max(failure.wait_min);
        route.ejected |= asks_health && (failure.eject || route.backoff.attempts() >= 2);
        let until = now + wait;
        route.paused_until = Some(route.paused_until.map_or(until, |before| before.max(until)));
        let endpoint = route.endpoint;
        if failure.resolve {
            cx.actions.push_back(Action::Resolve(endpoint));
        }
        if let Some(entry) = self.endpoints.get_mut(usize::from(endpoint.0)) {
            entry.trouble.raise(cx, Scope::Sink(endpoint), failure.cause, wait);
        }
    }

    /// Polls for acknowledgements are refused: records stay unconfirmed, nothing else changes.
    pub(super) fn poll_failed(&mut self, id: RouteId, cause: Cause, wait: Duration, cx: &mut Context) {
        let Some(endpoint) = self.endpoint(id) else { return };
        if let Some(entry) = self.endpoints.get_mut(usize::from(endpoint.0)) {
            entry.poll_trouble = true;
            entry.trouble.raise(cx, Scope::Sink(endpoint), cause, wait);
        }
    }

    pub(super) fn poll_worked(&mut self, id: RouteId, cx: &mut Context) {
        let Some(endpoint) = self.endpoint(id) else { return };
        if let Some(entry) = self.endpoints.get_mut(usize::from(endpoint.0))
            && entry.poll_trouble
        {
            entry.poll_trouble = false;
            entry.trouble.clear(cx, Scope::Sink(endpoint));
        }
    }

    fn find(&self, id: RouteId) -> Option<&Route> {
        self.known.iter().find(|route| route.id == id)
    }

    fn find_mut(&mut self, id: RouteId) -> Option<&mut Route> {
        self.known.iter_mut().find(|route| route.id == id)
    }
}
