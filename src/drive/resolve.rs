//! Names to addresses, off the executors; addresses to the core's route numbers.
//!
//! Why: getaddrinfo blocks for seconds when a name server is away, and glommio's own connect calls it on the
//! executor and then takes one address only. The core chooses among numbers and never sees an address.
//! Invariants: 1. a route number keeps its address while that address is in use (bound below).
//!  2. a name is looked up at most once in [`FRESH`] after a success.
//! Bounds: [`THREADS`] helper threads, [`QUEUE`] waiting questions, [`ROUTES_MAX`] routes (then numbers of
//!  addresses that are long gone are used again), [`PATIENCE`] per question.
//! Driven by: `pump` on `Action::Resolve` and before a connect to the source.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use super::wait::within;
use crate::proto::ids::{EndpointId, RouteId};
use crate::proto::time::Instant;

/// How long an answer counts.
pub(crate) const FRESH: Duration = Duration::from_secs(30);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
const THREADS: usize = 3;
const QUEUE: usize = 1024;
const ROUTES_MAX: usize = 16_384;

/// Asks the helper threads; they end when the last clone is gone.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    questions: async_channel::Sender<Question>,
}

#[derive(Debug)]
struct Question {
    host: String,
    port: u16,
    answer: async_channel::Sender<io::Result<Vec<SocketAddr>>>,
}

impl Resolver {
    /// Starts the helper threads.
    pub(crate) fn start() -> io::Result<Self> {
        let (questions, inbox) = async_channel::bounded::<Question>(QUEUE);
        for _ in 0..THREADS {
            let inbox = inbox.clone();
            std::thread::Builder::new().name("s2s-resolve".to_owned()).spawn(move || {
                while let Ok(question) = inbox.recv_blocking() {
                    let found = (question.host.as_str(), question.port).to_socket_addrs();
                    // Whoever asked may have gone.
                    let _ = question.answer.try_send(found.map(Iterator::collect));
                }
            })?;
        }
        Ok(Self { questions })
    }

    /// All addresses of a name, or why there are none.
    pub(crate) async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        if let Ok(literal) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(literal, port)]);
        }
        let (answer, answered) = async_channel::bounded(1);
        let question = Question { host: host.to_owned(), port, answer };
        if self.questions.try_send(question).is_err() {
            return Err(format!("{host}: too many names are being looked up"));
        }
        match within(PATIENCE, answered.recv()).await {
            Some(Ok(Ok(mut found))) => {
                let mut known = Vec::with_capacity(found.len());
                found.retain(|address| {
                    !known.contains(address) && {
                        known.push(*address);
                        true
                    }
                });
                if found.is_empty() { Err(format!("{host} has no address")) } else { Ok(found) }
            }
            Some(Ok(Err(error))) => Err(format!("{host}: {error}")),
            Some(Err(_)) => Err(format!("{host}: the resolver has ended")),
            None => Err(format!("{host}: no answer from the name server within {} s", PATIENCE.as_secs())),
        }
    }
}

/// The route numbers of one pipeline on one executor.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    list: Vec<Route>,
    answers: Vec<Answer>,
    reuse: usize,
}

#[derive(Debug)]
struct Route {
    endpoint: EndpointId,
    address: SocketAddr,
}

#[derive(Clone, Debug, Default)]
struct Answer {
    at: Option<Instant>,
    routes: Vec<RouteId>,
}

impl Routes {
    /// Endpoint and address of a route.
    pub(crate) fn find(&self, route: RouteId) -> Option<(EndpointId, SocketAddr)> {
        let route = self.list.get(usize::try_from(route.0).ok()?)?;
        Some((route.endpoint, route.address))
    }

    /// The last answer for `endpoint`, while it counts.
    pub(crate) fn fresh(&self, endpoint: EndpointId, now: Instant) -> Option<Vec<RouteId>> {
        let answer = self.answers.get(usize::from(endpoint.0))?;
        let at = answer.at?;
        (now.since(at) < FRESH).then(|| answer.routes.clone())
    }

    /// Takes a new answer and numbers it; a known address keeps its number.
    pub(crate) fn learn(&mut self, endpoint: EndpointId, now: Instant, found: &[SocketAddr]) -> Vec<RouteId> {
        let slot = usize::from(endpoint.0);
        if self.answers.len() <= slot {
            self.answers.resize(slot + 1, Answer::default());
        }
        let routes: Vec<RouteId> =
            found.iter().map(|&address| self.number(Route { endpoint, address })).collect();
        if let Some(answer) = self.answers.get_mut(slot) {
            *answer = Answer { at: Some(now), routes: routes.clone() };
        }
        routes
    }

    fn number(&mut self, route: Route) -> RouteId {
        let same = |known: &Route| known.endpoint == route.endpoint && known.address == route.address;
        let index = match self.list.iter().position(same) {
            Some(index) => index,
            None if self.list.len() < ROUTES_MAX => {
                self.list.push(route);
                self.list.len() - 1
            }
            None => {
                let index = self.unused();
                if let Some(old) = self.list.get_mut(index) {
                    *old = route;
                }
                index
            }
        };
        RouteId(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// A number that no current answer has, oldest first.
    fn unused(&mut self) -> usize {
        for _ in 0..self.list.len() {
            let index = self.reuse;
            self.reuse = (self.reuse + 1) % self.list.len();
            let id = RouteId(u32::try_from(index).unwrap_or(u32::MAX));
            if !self.answers.iter().any(|answer| answer.routes.contains(&id)) {
                return index;
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glommio::{LocalExecutorBuilder, Placement};

    fn address(n: u32) -> SocketAddr {
        SocketAddr::new(IpAddr::from(n.to_be_bytes()), 8088)
    }

    #[test]
    fn known_addresses_keep_their_numbers() {
        let (mut routes, now) = (Routes::default(), Instant(1));
        let first = routes.learn(EndpointId(1), now, &[address(1), address(2)]);
        let second = routes.learn(EndpointId(1), now, &[address(2), address(3)]);
        assert_eq!(first[1], second[0]);
        let other = routes.learn(EndpointId(0), now, &[address(2)]);
        assert_ne!(other[0], first[1]);
        assert_eq!(routes.find(second[1]), Some((EndpointId(1), address(3))));
        assert_eq!(routes.find(RouteId(99)), None);
        assert_eq!(routes.fresh(EndpointId(1), now), Some(second));
        assert_eq!(routes.fresh(EndpointId(1), now + FRESH), None);
        assert_eq!(routes.fresh(EndpointId(7), now), None);
    }

    #[test]
    fn the_table_is_bounded_and_spares_current_routes() {
        let (mut routes, now) = (Routes::default(), Instant(1));
        let kept = routes.learn(EndpointId(0), now, &[address(7)]);
        for n in 0..20_000 {
            routes.learn(EndpointId(1), now, &[address(n)]);
        }
        assert_eq!(routes.list.len(), ROUTES_MAX);
        assert_eq!(routes.find(kept[0]), Some((EndpointId(0), address(7))));
    }

    #[test]
    fn names_and_literals_resolve() {
        LocalExecutorBuilder::new(Placement::Unbound).io_memory(65_536).make().unwrap().run(async {
            let resolver = Resolver::start().unwrap();
            assert_eq!(resolver.addresses("127.0.0.1", 1).await.unwrap(), ["127.0.0.1:1".parse().unwrap()]);
            assert_eq!(resolver.addresses("[::1]", 2).await.unwrap(), ["[::1]:2".parse().unwrap()]);
            let found = resolver.addresses("localhost", 3).await.unwrap();
            assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 3));
            let error = resolver.addresses("no-such-name.invalid", 4).await.unwrap_err();
            assert!(error.starts_with("no-such-name.invalid: "), "{error}");
        });
    }
}
