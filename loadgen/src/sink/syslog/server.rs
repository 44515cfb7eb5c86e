//! A running receiver and the handle that tests and commands hold.
//!
//! Why: the forwarder's tests and the demo are not async, so the receiver brings its own threads.
//! Invariants: 1. a restart keeps the ports, and refuses connections during its downtime. 2. Dropping the handle ends
//! every thread and connection.   Bounds: as configured.
//! Driven by: `run`, tests, `sls2siem demo`.   Spec: syslog.md 4.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::config::{Listen, Mode, SyslogConfig, Transport};
use super::state::{Shared, Violation};
use super::store::{Origin, Store, StoredMessage};
use super::wire::Wire;
use super::{conn, relp_conn, udp};
use crate::StopSignal;
use crate::fault::{Fault, FaultPlan};
use crate::sink::tls::{Identity, Stream};
use crate::threads::runtime;
use crate::verify::{Sent, Verdict};

/// A running syslog receiver.
#[derive(Debug)]
pub struct SyslogServer {
    shared: Arc<Shared>,
    listening: Vec<Listen>,
    ca_pem: Option<String>,
    client_pem: Option<(String, String)>,
    runtime: Option<Runtime>,
}

/// A socket that was bound before the threads start.
enum Bound {
    Udp(std::net::UdpSocket),
    Tcp(std::net::TcpListener),
}

impl SyslogServer {
    /// Binds everything and starts serving.
    pub fn start(config: SyslogConfig) -> Result<Self> {
        let is_encrypted = config.listen.iter().any(|listen| listen.transport.is_encrypted());
        let identity = is_encrypted.then(|| Identity::new(&config.tls)).transpose()?;
        let mut listening = Vec::new();
        let mut sockets = Vec::new();
        for listen in &config.listen {
            let (bound, address) = bind(*listen).with_context(|| format!("cannot listen on {listen}"))?;
            listening.push(Listen { address, ..*listen });
            sockets.push(bound);
        }
        let runtime = runtime("loadgen-syslog", config.threads, &config.cores)?;
        let shared = Arc::new(Shared::new(config)?);
        let acceptor = identity.as_ref().map(|identity| TlsAcceptor::from(Arc::clone(&identity.config)));
        let guard = runtime.enter();
        for (listen, bound) in listening.iter().zip(sockets) {
            let shared = Arc::clone(&shared);
            match bound {
                Bound::Udp(socket) => {
                    runtime.spawn(udp::run(shared, UdpSocket::from_std(socket)?, listen.address));
                }
                Bound::Tcp(socket) => {
                    let acceptor = acceptor.clone().filter(|_| listen.transport.is_encrypted());
                    runtime.spawn(accept(shared, TcpListener::from_std(socket)?, *listen, acceptor));
                }
            }
        }
        drop(guard);
        let (ca_pem, client_pem) = identity.map(|identity| (identity.ca_pem, identity.client_pem)).unzip();
        Ok(Self { shared, listening, ca_pem, client_pem, runtime: Some(runtime) })
    }

    /// What it listens on, in the order of the settings.
    pub fn listening(&self) -> &[Listen] {
        &self.listening
    }

    /// The first URL of this transport, such as `tls://127.0.0.1:6514`.
    pub fn url(&self, transport: Transport) -> Option<String> {
        self.listening.iter().find(|listen| listen.transport == transport).map(ToString::to_string)
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

    /// Every message in the order of arrival, if messages are kept.
    pub fn messages(&self) -> Vec<StoredMessage> {
        self.shared.store.messages()
    }

    /// Arrived against sent.
    pub fn verdict(&self, sent: Option<&Sent>) -> Verdict {
        self.shared.store.verdict(sent)
    }

    /// The first rules that were broken, with place and text.
    pub fn violations(&self) -> Vec<Violation> {
        self.shared.stats.violations()
    }

    /// All counters.
    pub fn stats(&self) -> Value {
        stats(&self.shared)
    }

    /// Replaces the fault plan.
    pub fn set_faults(&self, plan: FaultPlan) -> Result<()> {
        self.shared.set_faults(plan)
    }

    /// Closes every connection and refuses new ones for so long; what was not read yet is gone.
    pub fn restart(&self, downtime: Duration) {
        self.shared.restart(downtime, false);
    }

    /// The same, but every connection is reset.
    pub fn crash(&self, downtime: Duration) {
        self.shared.restart(downtime, true);
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

impl Drop for SyslogServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        if let Err(why) = self.shared.store.sync() {
            tracing::error!("{why:#}");
        }
    }
}

/// Everything that is counted.
pub(super) fn stats(shared: &Shared) -> Value {
    let counts = shared.store.counts();
    let stats = &shared.stats;
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let faults: Vec<_> = shared
        .faults()
        .hits()
        .into_iter()
        .map(|(rule, hits)| json!({ "rule": rule, "hits": hits }))
        .collect();
    json!({
        "mode": match shared.config.mode { Mode::Fast => "fast", Mode::Strict => "strict" },
        "messages": counts.messages,
        "message_bytes": counts.bytes,
        "wire_bytes": load(&stats.wire_bytes),
        "by_transport": stats.by_transport(),
        "counted_frames": load(&stats.counted_frames),
        "lines": load(&stats.lines),
        "unique": counts.unique,
        "duplicates": counts.duplicates,
        "unnumbered": counts.unnumbered,
        "parts": counts.parts,
        "unidentified": counts.unidentified,
        "not_utf8": counts.not_utf8,
        "exact": counts.exact,
        "equivalent": counts.equivalent,
        "cut": counts.cut,
        "header_only": counts.header_only,
        "mismatched": counts.mismatched,
        "samples": shared.store.samples(),
        "violations": stats.violation_counts(),
        "violation_samples": stats.violations(),
        "connections": load(&stats.connections),
        "open_connections": load(&stats.open),
        "ended": load(&stats.ended),
        "broken": load(&stats.broken),
        "partial": load(&stats.partial),
        "relp": {
            "opens": load(&stats.relp_opens),
            "closes": load(&stats.relp_closes),
            "responses": load(&stats.relp_responses),
            "outstanding_max": load(&stats.relp_outstanding_max),
        },
        "restarts": shared.restarts.borrow().count,
        "faults": faults,
    })
}

fn bind(listen: Listen) -> std::io::Result<(Bound, SocketAddr)> {
    if listen.transport == Transport::Udp {
        let socket = std::net::UdpSocket::bind(listen.address)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        return Ok((Bound::Udp(socket), address));
    }
    let socket = std::net::TcpListener::bind(listen.address)?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    Ok((Bound::Tcp(socket), address))
}

async fn accept(
    shared: Arc<Shared>,
    mut listener: TcpListener,
    listen: Listen,
    acceptor: Option<TlsAcceptor>,
) {
    let mut restarts = shared.restarts.subscribe();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    tokio::spawn(serve(Arc::clone(&shared), stream, listen.transport, acceptor.clone()));
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
                    listener = rebind(listen.address).await;
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

async fn serve(shared: Arc<Shared>, stream: TcpStream, transport: Transport, acceptor: Option<TlsAcceptor>) {
    let connection = shared.stats.connections.fetch_add(1, Ordering::Relaxed) + 1;
    shared.stats.open.fetch_add(1, Ordering::Relaxed);
    if let Err(why) = work(&shared, stream, Origin { transport, connection }, acceptor).await {
        tracing::debug!(connection, "{why:#}");
    }
    shared.stats.open.fetch_sub(1, Ordering::Relaxed);
}

async fn work(
    shared: &Arc<Shared>,
    stream: TcpStream,
    origin: Origin,
    acceptor: Option<TlsAcceptor>,
) -> Result<()> {
    let mut restarts = shared.restarts.subscribe();
    let fault = shared.decide("connect");
    match &fault {
        Some(Fault::ResetBefore) => {
            // Without it the close is an orderly one, which the peer must survive as well.
            let _ = stream.set_zero_linger();
            return Ok(());
        }
        Some(Fault::Stall(time) | Fault::Delay(time)) => sleep(*time).await,
        Some(Fault::Hang) => {
            let _ = restarts.changed().await;
            return Ok(());
        }
        Some(Fault::Other { word, .. }) if word == "close" => return Ok(()),
        _ => {}
    }
    // Answers are small and wanted at once.
    stream.set_nodelay(true)?;
    let stream = match acceptor {
        None => Stream::Plain(stream),
        Some(acceptor) => {
            let tls = timeout(HANDSHAKE, acceptor.accept(stream)).await.context("TLS handshake")??;
            Stream::Tls(Box::new(tls))
        }
    };
    let mut wire = Wire::new(Arc::clone(shared), origin, stream, restarts);
    if let Some(fault) = &fault {
        wire.limit(fault)?;
    }
    if origin.transport.is_relp() { relp_conn::run(wire).await } else { conn::run(wire).await }
}

const RETRY: Duration = Duration::from_millis(50);
const HANDSHAKE: Duration = Duration::from_mins(1);
