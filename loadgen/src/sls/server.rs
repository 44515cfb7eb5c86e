//! The running emulator and the handles that tests and the demo hold.
//!
//! Why: a test wants a server in its own process, on a free port, whose state it can read and change.
//! Invariants: 1. when `start` returns, the ports are bound. 2. when `stop` returns, they are free again.
//! Bounds: one task per connection.
//! Driven by: `run`, tests, the demo.   Spec: none.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::SlsConfig;
use super::admin::Admin;
use super::api::Service;
use super::auth::AccessKey;
use super::http::{self, Handler};
use super::journal::{Event, Judgement};
use super::levers::Levers;
use super::route::KIND_NAMES;
use super::spoil::WORDS;
use super::stats::{Stats, add};
use super::store::Store;
use super::world::{Commit, Logstore, Project, World};
use crate::fault::FaultPlan;
use crate::sink::tls::{Identity, TlsSettings};
use crate::threads::runtime;

/// A running emulator; it stops when this is dropped.
#[derive(Debug)]
pub struct SlsServer {
    service: Arc<Service>,
    addr: SocketAddr,
    admin_addr: Option<SocketAddr>,
    ca_file: Option<PathBuf>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    runtime: Runtime,
    stop: watch::Sender<bool>,
    /// Disconnected once every listener is closed.
    closed: mpsc::Receiver<()>,
}

impl SlsServer {
    /// Binds and starts serving, on threads of its own.
    pub fn start(config: SlsConfig) -> Result<Self> {
        let faults = FaultPlan::parse(&config.faults)?;
        let levers = Levers::new(&config)?;
        faults.check(KIND_NAMES, WORDS)?;
        ensure!(!config.stores.is_empty(), "the emulator needs a project and a logstore");
        let now_ms = super::clock::unix_ms().saturating_add_signed(config.clock_skew_ms);
        let mut world = World::default();
        for (project, logstore) in &config.stores {
            let made = Logstore::new(now_ms, config.shards, world.journal.at(project, logstore));
            let project = world.projects.entry(project.clone()).or_insert_with(|| Project::new(now_ms));
            project.logstores.insert(logstore.clone(), made);
        }
        let tls = config.tls_dir.as_deref().map(|dir| identity(&config, dir)).transpose()?;
        let listener =
            TcpListener::bind(config.listen).with_context(|| format!("listen on {}", config.listen))?;
        let admin = config
            .admin
            .map(|addr| TcpListener::bind(addr).with_context(|| format!("listen on {addr}")))
            .transpose()?;
        let addr = listener.local_addr()?;
        let admin_addr = admin.as_ref().map(TcpListener::local_addr).transpose()?;
        let runtime = runtime("sls", config.threads, &config.cores)?;
        let service = Arc::new(Service::new(config, levers, world, faults));
        let (stop, stopped) = watch::channel(false);
        let (open, closed) = mpsc::channel();
        let acceptor = tls.as_ref().map(|(identity, _)| TlsAcceptor::from(Arc::clone(&identity.config)));
        let entered = runtime.enter();
        spawn(listener, acceptor, Arc::clone(&service), Arc::clone(&service), stopped.clone(), open.clone())?;
        if let Some(listener) = admin {
            let handler = Arc::new(Admin::new(Arc::clone(&service)));
            spawn(listener, None, handler, Arc::clone(&service), stopped, open)?;
        }
        drop(entered);
        let ca_file = tls.map(|(_, file)| file);
        Ok(Self { service, addr, admin_addr, ca_file, running: Some(Running { runtime, stop, closed }) })
    }

    /// Ends all connections and frees the ports.
    pub fn stop(mut self) {
        self.shut_down();
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where the admin port listens.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin_addr
    }

    /// The endpoint as a client's setting, with scheme and port.
    pub fn endpoint(&self) -> String {
        let scheme = if self.ca_file.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.addr)
    }

    /// The certificate that a client has to trust, if TLS is on.
    pub fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_deref()
    }

    /// What it did so far.
    pub fn stats(&self) -> Stats {
        self.service.counters.snapshot(self.service.faults().hits())
    }

    /// Attempts to save checkpoints, taken and refused, in order.
    pub fn commits(&self) -> Vec<Commit> {
        self.service.world().commits.iter().cloned().collect()
    }

    /// What happened, from this number on: consumers, leases, pulls.
    pub fn events(&self, from: u64) -> Vec<Event> {
        let journal = self.service.world().journal.clone();
        journal.events(from)
    }

    /// Whether any shard was read or committed by a consumer that did not have it.
    pub fn judge(&self) -> Judgement {
        let world = self.service.world();
        world.journal.judge(&world.commits)
    }

    /// Changes limits, retention and the like while it runs.
    pub fn set(&self, change: impl FnOnce(&mut Levers)) {
        self.service.move_levers(change);
    }

    /// The first project's first logstore.
    pub fn store(&self) -> Store<'_> {
        let (project, logstore) = self.service.config.stores.first().cloned().unwrap_or_default();
        Store::new(&self.service, project, logstore)
    }

    /// A logstore by name.
    pub fn store_of(&self, project: &str, logstore: &str) -> Store<'_> {
        Store::new(&self.service, project.to_owned(), logstore.to_owned())
    }

    /// Replaces the fault plan; the inline form, empty for none.
    pub fn set_faults(&self, plan: &str) -> Result<()> {
        self.service.set_faults(FaultPlan::parse(plan)?)
    }

    /// Sets how far its clock is ahead of the machine's (ms).
    pub fn set_clock_skew_ms(&self, skew_ms: i64) {
        self.service.skew_ms.store(skew_ms, Ordering::Relaxed);
    }

    /// Adds a key or replaces the one of the same id.
    pub fn set_key(&self, key: AccessKey) {
        let mut keys = self.service.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.insert(key.id.clone(), key);
    }

    /// Hits of each rule of the fault plan.
    pub fn fault_hits(&self) -> BTreeMap<String, u64> {
        self.service.faults().hits().into_iter().collect()
    }

    fn shut_down(&mut self) {
        let Some(running) = self.running.take() else { return };
        // Nobody listens any more only when every task is gone already.
        running.stop.send(true).ok();
        // Ends by disconnection; the time bound is for a runtime that is stuck.
        running.closed.recv_timeout(Duration::from_secs(5)).ok();
        running.runtime.shutdown_background();
    }
}

impl Drop for SlsServer {
    fn drop(&mut self) {
        self.shut_down();
    }
}

impl Service {
    /// Replaces the fault plan.
    pub(crate) fn set_faults(&self, plan: FaultPlan) -> Result<()> {
        plan.check(KIND_NAMES, WORDS)?;
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(plan);
        Ok(())
    }
}

/// Accepts connections until told to stop.
fn spawn<H: Handler>(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    handler: Arc<H>,
    service: Arc<Service>,
    mut stopped: watch::Receiver<bool>,
    open: mpsc::Sender<()>,
) -> Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stopped.changed() => break,
            };
            let Ok((stream, peer)) = accepted else {
                // Out of file descriptors, as a rule: some will be given back.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            add(&service.counters.connections, 1);
            let (tls, handler, mut stopped) = (tls.clone(), Arc::clone(&handler), stopped.clone());
            tokio::spawn(async move {
                tokio::select! {
                    done = http::serve(stream, tls, handler) => {
                        if let Err(error) = done {
                            tracing::debug!(%peer, "connection ended: {error:#}");
                        }
                    }
                    _ = stopped.changed() => {}
                }
            });
        }
        drop(listener);
        drop(open);
    });
    Ok(())
}

/// Makes a certificate for every name under which a client may reach the server and writes its authority's down.
fn identity(config: &SlsConfig, dir: &Path) -> Result<(Identity, PathBuf)> {
    let mut names = vec!["*.localhost".to_owned()];
    for host in [config.host.as_str(), "localhost", "127.0.0.1"] {
        for (project, _) in &config.stores {
            let name = format!("{project}.{host}");
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let identity = Identity::new(&TlsSettings { names, ..TlsSettings::default() })?;
    std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    let file = dir.join("ca.pem");
    std::fs::write(&file, &identity.ca_pem).with_context(|| format!("write {}", file.display()))?;
    Ok((identity, file))
}

#[cfg(test)]
mod tests;
