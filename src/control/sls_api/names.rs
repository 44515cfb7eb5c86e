//! Addresses of the control plane's host, kept for a while.
//!
//! Why: ureq looks the name up before every call, in a thread of its own, also where a connection is kept. A name server
//! that is away for half a minute would cost the lease, and a hundred shards would ask it twenty times a second.
//! Invariants: 1. old addresses are better than none: a call waits for a name server only where it knows no address, or
//! could not connect to the ones it knows. 2. after [`FRESH`] the name is asked for again, once, beside the call.
//! Bounds: one address list for each host and port, which are those of the settings; one thread while a name is looked up.
//! Driven by: ureq, before each call of [`super::SlsApi`].

#![expect(clippy::disallowed_types, reason = "the control plane: a few calls a second share the addresses")]

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::drive::clock;
use crate::drive::resolve::FRESH;
use crate::proto::time::Instant;

/// Keeps what the system's resolver answered. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    known: Arc<Mutex<BTreeMap<String, Known>>>,
}

#[derive(Debug)]
struct Known {
    addresses: Vec<SocketAddr>,
    fresh_until: Instant,
    /// Nobody could connect to them.
    suspect: bool,
}

impl Names {
    /// A connection could not be made: the addresses may be out of date, so the next call asks for new ones.
    pub(super) fn suspect(&self) {
        self.with(|known| known.values_mut().for_each(|known| known.suspect = true));
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<String, Known>) -> T) -> T {
        // What a thread that panicked has left is a whole list all the same.
        act(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Addresses that are good enough, and whether this call has to see to newer ones.
    fn look(&self, key: &str) -> Option<(Vec<SocketAddr>, bool)> {
        self.with(|known| {
            let known = known.get_mut(key).filter(|known| !known.suspect)?;
            let old = known.fresh_until <= clock::now();
            if old {
                known.fresh_until = clock::now() + FRESH;
            }
            Some((known.addresses.clone(), old))
        })
    }

    fn keep(&self, key: String, addresses: Vec<SocketAddr>) {
        self.with(|known| {
            known.insert(key, Known { addresses, fresh_until: clock::now() + FRESH, suspect: false })
        });
    }

    /// What was known before it came under suspicion. It counts again: with the name server away, each call would wait for it.
    fn old(&self, key: &str) -> Option<Vec<SocketAddr>> {
        self.with(|known| {
            let known = known.get_mut(key)?;
            (known.suspect, known.fresh_until) = (false, clock::now() + FRESH);
            Some(known.addresses.clone())
        })
    }

    /// Looks a name up beside the call. Without an answer the old ones stay in use.
    fn renew(&self, key: String) {
        let names = self.clone();
        let looked_up = move || match key.to_socket_addrs().map(Iterator::collect::<Vec<_>>) {
            Ok(found) if !found.is_empty() => names.keep(key, found),
            Ok(_) => tracing::debug!("{key}: no address, known ones stay in use"),
            Err(error) => tracing::debug!("{key}: name lookup failed, known addresses stay in use: {error}"),
        };
        if let Err(error) = thread::Builder::new().name("s2s-names".into()).spawn(looked_up) {
            tracing::debug!("no thread to look a name up: {error}");
        }
    }
}

/// What the system says of a name that it cannot look up, told from other errors of input and output.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoAddress(io::Error);

impl NoAddress {
    pub(super) fn is(error: &io::Error) -> bool {
        matches!(error.get_ref(), Some(inner) if inner.is::<Self>())
    }
}

fn not_found(error: ureq::Error) -> ureq::Error {
    match error {
        ureq::Error::Io(error) => ureq::Error::Io(io::Error::other(NoAddress(error))),
        error => error,
    }
}

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let key = uri.scheme().zip(uri.authority());
        let key = key.and_then(|(scheme, authority)| DefaultResolver::host_and_port(scheme, authority));
        let key = key.unwrap_or_default();
        let addresses = match self.look(&key) {
            Some((addresses, renew)) => {
                if renew {
                    self.renew(key);
                }
                addresses
            }
            None => match DefaultResolver::default().resolve(uri, config, timeout) {
                Ok(found) => {
                    self.keep(key, found.to_vec());
                    return Ok(found);
                }
                Err(error) => self.old(&key).ok_or_else(|| not_found(error))?,
            },
        };
        let mut all = self.empty();
        for address in addresses {
            // Sixteen of them fit, which is more than anybody tries.
            let _over = all.try_push(address);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name that no name server knows (RFC 6761).
    const NOWHERE: &str = "http://sls.invalid:80/";

    fn resolve(names: &Names, uri: &str) -> Result<Vec<SocketAddr>, ureq::Error> {
        let found = names.resolve(&uri.parse().unwrap(), &Config::default(), NextTimeout::default());
        found.map(|found| found.to_vec())
    }

    fn known(names: &Names, key: &str) -> Vec<SocketAddr> {
        let addresses = vec!["192.0.2.1:80".parse().unwrap(), "[2001:db8::1]:80".parse().unwrap()];
        names.keep(key.into(), addresses.clone());
        addresses
    }

    #[test]
    fn what_is_known_is_not_asked_for() {
        let names = Names::default();
        assert!(resolve(&names, NOWHERE).is_err());
        let addresses = known(&names, "sls.invalid:80");
        assert_eq!(resolve(&names, NOWHERE).unwrap(), addresses);
        let found = resolve(&names, "http://127.0.0.1:81/").unwrap();
        assert_eq!(names.look("127.0.0.1:81"), Some((found, false)));
    }

    #[test]
    fn old_addresses_serve_while_new_ones_are_looked_up() {
        let names = Names::default();
        let old = known(&names, "127.0.0.1:80");
        names.with(|known| known.values_mut().for_each(|known| known.fresh_until = Instant(0)));
        assert_eq!(resolve(&names, "http://127.0.0.1:80/").unwrap(), old);
        let new: Vec<SocketAddr> = vec!["127.0.0.1:80".parse().unwrap()];
        let patience = clock::now() + FRESH;
        while resolve(&names, "http://127.0.0.1:80/").unwrap() != new {
            assert!(clock::now() < patience, "nobody looked them up");
            thread::yield_now();
        }
    }

    #[test]
    fn suspects_are_asked_for_at_once_and_serve_where_nobody_answers() {
        let names = Names::default();
        known(&names, "127.0.0.1:80");
        let old = known(&names, "sls.invalid:80");
        names.suspect();
        assert_eq!(resolve(&names, "http://127.0.0.1:80/").unwrap(), ["127.0.0.1:80".parse().unwrap()]);
        assert_eq!(resolve(&names, NOWHERE).unwrap(), old);
        assert!(names.look("sls.invalid:80").is_some(), "the name server is not waited for again");
    }
}
