//! A running receiver and the handle that tests and commands hold.
//!
//! Why: the forwarder's tests and the demo are not async, so the receiver brings its own threads.
//! Invariants: 1. a restart keeps the port, and refuses connections during its downtime. 2. Dropping the handle ends
//! every thread and connection.   Bounds: as configured.
//! Driven by: `run`, tests, `sls2siem demo`.   Spec: hec.md 7, 8.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::admin;
use super::config::{HecConfig, Token};
use super::conn::Conn;
use super::state::Shared;
use super::store::{Store, StoredEvent};
use crate::StopSignal;
use crate::fault::FaultPlan;
use crate::sink::tls::{Identity, Stream};
use crate::threads::runtime;
use crate::verify::{Sent, Verdict};

/// A running HEC receiver.
#[derive(Debug)]
pub struct HecServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    ca_pem: Option<String>,
    client_pem: Option<(String, String)>,
    runtime: Option<Runtime>,
}

impl HecServer {
    /// Binds and starts serving.
    pub fn start(config: HecConfig) -> Result<Self> {
        let identity = config.tls.as_ref().map(Identity::new).transpose()?;
        let listener = std::net::TcpListener::bind(config.listen)
            .with_context(|| format!("cannot listen on {}", config.listen))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = runtime("loadgen-hec", config.threads, &config.cores)?;
        let shared = Arc::new(Shared::new(config)?);
        let listener = {
            let _guard = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let (ca_pem, client_pem, acceptor) = match identity {
            Some(identity) => {
                let acceptor = TlsAcceptor::from(identity.config);
                (Some(identity.ca_pem), Some(identity.client_pem), Some(acceptor))
            }
            None => (None, None, None),
        };
        runtime.spawn(listen(Arc::clone(&shared), listener, address, acceptor));
        Ok(Self { shared, address, ca_pem, client_pem, runtime: Some(runtime) })
    }

    /// Address that it listens on.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://…` or `https://…` without a path.
    pub fn url(&self) -> String {
        let scheme = if self.ca_pem.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Certificate of the authority that signed the server's, where TLS is on.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// A client certificate that the server accepts, and its key.
    pub fn client_pem(&self) -> Option<(&str, &str)> {
        self.client_pem.as_ref().map(|(certificate, key)| (certificate.as_str(), key.as_str()))
    }

    /// What it stores into; can be given to another receiver.
    pub fn store(&self) -> Store {
        self.shared.store.clone()
    }

    /// Every stored event in the order of arrival, if events are kept.
    pub fn events(&self) -> Vec<StoredEvent> {
        self.shared.store.events()
    }

    /// Stored against sent.
    pub fn verdict(&self, sent: Option<&Sent>) -> Verdict {
        self.shared.store.verdict(sent)
    }

    /// All counters, as the admin surface gives them.
    pub fn stats(&self) -> serde_json::Value {
        admin::stats(&self.shared)
    }

    /// Replaces the fault plan.
    pub fn set_faults(&self, plan: FaultPlan) -> Result<()> {
        self.shared.set_faults(plan)
    }

    /// Replaces the tokens.
    pub fn set_tokens(&self, tokens: Vec<Token>) {
        self.shared.set_tokens(tokens);
    }

    /// Sets the code of `/health`: 17 to 20, or 23 while shutting down. 18, 20 and 23 refuse events too.
    pub fn set_health(&self, code: u8) {
        self.shared.set_health(code);
    }

    /// A busy server closes idle connections soon.
    pub fn set_busy(&self, busy: bool) {
        self.shared.set_busy(busy);
    }

    /// Restarts in order: what was taken is stored, channels and connections are gone.
    pub fn restart(&self, downtime: Duration) {
        self.shared.restart(0, downtime, false, Instant::now());
    }

    /// Crashes: what was not acknowledged yet is gone as well.
    pub fn crash(&self, downtime: Duration) {
        self.shared.restart(0, downtime, true, Instant::now());
    }

    /// Restarts one of the indexers behind the balancer; the others serve on.
    pub fn restart_instance(&self, instance: usize, downtime: Duration) {
        self.shared.restart(instance, downtime, false, Instant::now());
    }

    /// Catches SIGTERM and SIGINT from now on, on the receiver's own threads.
    pub fn catch_signals(&self) -> Result<StopSignal> {
        let _guard = self.runtime.as_ref().map(Runtime::enter);
        StopSignal::new().context("cannot catch signals")
    }

    /// Waits for one of them.
    pub fn wait_for(&self, stop: StopSignal) {
        if let Some(runtime) = &self.runtime {
            runtime.block_on(stop.wait());
        }
    }

    /// Ends it; every connection is cut.
    pub fn stop(self) {}
}

impl Drop for HecServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        if let Err(why) = self.shared.store.sync() {
            tracing::error!("{why:#}");
        }
    }
}

async fn listen(
    shared: Arc<Shared>,
    mut listener: TcpListener,
    address: SocketAddr,
    acceptor: Option<TlsAcceptor>,
) {
    let mut restarts = shared.restarts.subscribe();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    tokio::spawn(serve(Arc::clone(&shared), stream, acceptor.clone()));
                }
                Err(why) => {
                    tracing::warn!("accept: {why}");
                    sleep(RETRY).await;
                }
            },
            changed = restarts.changed() => {
                if changed.is_err() {
                    return;
                }
                let downtime = restarts.borrow_and_update().downtime;
                if !downtime.is_zero() {
                    drop(listener);
                    sleep(downtime).await;
                    listener = rebind(address).await;
                }
            }
        }
    }
}

async fn rebind(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(why) => {
                tracing::warn!("cannot listen on {address} again: {why}");
                sleep(RETRY).await;
            }
        }
    }
}

async fn serve(shared: Arc<Shared>, stream: TcpStream, acceptor: Option<TlsAcceptor>) {
    let mut restarts = shared.restarts.subscribe();
    let id = shared.stats.connections.fetch_add(1, Ordering::Relaxed);
    shared.stats.open.fetch_add(1, Ordering::Relaxed);
    let work = async {
        // Answers are small and wanted at once.
        stream.set_nodelay(true)?;
        let stream = match acceptor {
            None => Stream::Plain(stream),
            Some(acceptor) => {
                let tls = timeout(HANDSHAKE, acceptor.accept(stream)).await.context("TLS handshake")??;
                Stream::Tls(Box::new(tls))
            }
        };
        Conn::new(Arc::clone(&shared), stream, id).run().await
    };
    tokio::select! {
        ended = work => if let Err(why) = ended {
            tracing::debug!(connection = id, "{why:#}");
        },
        _ = restarts.changed() => {}
    }
    shared.stats.open.fetch_sub(1, Ordering::Relaxed);
}

const RETRY: Duration = Duration::from_millis(50);
const HANDSHAKE: Duration = Duration::from_mins(1);
