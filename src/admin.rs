//! The admin page: metrics, health, a status page and taps over HTTP.
//!
//! Why: an operator and a load balancer must be able to ask at any time, also when every executor is busy or stuck;
//! so one thread of its own answers, and nothing that is asked here reaches the planes.
//! Invariants: 1. read-only: GET and HEAD, nothing else. 2. no secret is in a snapshot, so none can be shown. 3. answers
//! come from published snapshots. The one exception is a tap, which has to be switched on: it asks the executors for
//! copies of frames, which they drop rather than wait (`tap`).
//! Bounds: 64 connections, each of one request, 16 KiB and ten seconds (a tap: an hour); what goes beyond is closed
//! (`bounded`).
//! Driven by: `cli/run` starts it after the executors and stops it last.
//! Spec: paths `/metrics /healthz /readyz /status.json /tap /` of the reference in README.md.

mod bounded;
mod page;
pub mod tap;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use async_channel::{Receiver, Sender};
use axum::Router;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_lite::future;

use crate::metrics::{Registry, Status};
use bounded::{BoundedListener, Life};
use tap::{Door, TapSource};

/// Why the admin page could not be started.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address cannot be listened on.
    #[error(
        "admin: cannot listen on {listen} - {source} - nothing was read yet, nothing is lost - set [admin] listen \
         to a free address of this host, or to \"\" to run without the page"
    )]
    Listen {
        /// The address of the settings.
        listen: SocketAddr,
        /// As the kernel said it.
        source: io::Error,
    },
    /// The thread or its event loop could not be made.
    #[error(
        "admin: cannot start its thread - {0} - nothing was read yet, nothing is lost - raise the limits on \
         processes and open files (ulimit -u, ulimit -n; LimitNPROC=, LimitNOFILE= in systemd)"
    )]
    Thread(#[source] io::Error),
}

/// The running page. Dropping it stops the page without waiting for answers under way.
#[derive(Debug)]
pub struct AdminHandle {
    local_addr: SocketAddr,
    stop: Sender<()>,
    thread: Option<thread::JoinHandle<()>>,
}

impl AdminHandle {
    /// The address that is listened on: tells the port where the settings said 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Stops listening, finishes the answers under way (at most [`STOP_TIME_MAX`]) and ends the thread.
    pub fn stop(mut self) {
        self.stop.close();
        if let Some(thread) = self.thread.take() {
            // It cannot have panicked and left us here: a panic ends the process.
            let _ended = thread.join();
        }
    }
}

/// Starts the page. Every kind of address is accepted; the settings default to loopback. Taps are refused.
pub fn start(listen: SocketAddr, registry: Registry) -> Result<AdminHandle, AdminError> {
    start_with_tap(listen, registry, None)
}

/// As [`start`], with what a tap can look at.
pub fn start_with_tap(
    listen: SocketAddr,
    registry: Registry,
    tap: Option<TapSource>,
) -> Result<AdminHandle, AdminError> {
    let refused = |source| AdminError::Listen { listen, source };
    let listener = TcpListener::bind(listen).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    let local_addr = listener.local_addr().map_err(refused)?;
    if !local_addr.ip().is_loopback() {
        let logs = if tap.is_some() { ", logs by way of /tap included" } else { "" };
        tracing::warn!(%local_addr, "the admin page can be read by everyone who reaches this address{logs}");
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(AdminError::Thread)?;
    let (stop, stopped) = async_channel::bounded(1);
    let thread = thread::Builder::new()
        .name("admin".to_owned())
        .spawn(move || runtime.block_on(serve(listener, registry, Door::new(tap), stopped)))
        .map_err(AdminError::Thread)?;
    Ok(AdminHandle { local_addr, stop, thread: Some(thread) })
}

/// How long answers under way may take when the page is stopped.
pub const STOP_TIME_MAX: Duration = Duration::from_secs(1);

async fn serve(listener: TcpListener, registry: Registry, door: Door, stopped: Receiver<()>) {
    let listener = match BoundedListener::new(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "admin: the page ends, forwarding goes on - restart to get it back");
            return;
        }
    };
    let samples = sample(registry.clone());
    let asked_to_stop = {
        let stopped = stopped.clone();
        async move { closed(&stopped).await }
    };
    let service = router(registry, door, stopped.clone()).into_make_service_with_connect_info::<Life>();
    let server = axum::serve(listener, service).with_graceful_shutdown(asked_to_stop);
    let last_answers = async {
        closed(&stopped).await;
        tokio::time::sleep(STOP_TIME_MAX).await;
    };
    let until_stopped = async {
        // It ends only when asked to: the listener retries by itself.
        let _ended = server.await;
    };
    future::race(until_stopped, future::race(samples, last_answers)).await;
}

/// Feeds the rates of the status page.
async fn sample(registry: Registry) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        registry.sample();
    }
}

/// Resolves when the handle closes the channel or is dropped.
async fn closed(stopped: &Receiver<()>) {
    let _closed = stopped.recv().await;
}

fn router(registry: Registry, door: Door, stopped: Receiver<()>) -> Router {
    let door = Arc::new(door);
    let tap = move |ConnectInfo(life): ConnectInfo<Life>, query: RawQuery| async move {
        door.answer(query.0.as_deref().unwrap_or_default(), stopped, || life.extend())
    };
    Router::new()
        // A HEAD would begin a tap for nobody.
        .route("/tap", get(tap).head(|| async { StatusCode::METHOD_NOT_ALLOWED }))
        .route("/", get(status))
        .route("/status.json", get(document))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(registry)
        .layer(map_response(harden))
}

async fn metrics(State(registry): State<Registry>, request: HeaderMap) -> Response {
    let accepted = request.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if accepted.into_iter().any(|value| value.contains("application/openmetrics-text")) {
        answer(StatusCode::OK, OPENMETRICS, registry.render_openmetrics())
    } else {
        answer(StatusCode::OK, PROMETHEUS, registry.render_prometheus())
    }
}

async fn healthz(State(registry): State<Registry>) -> Response {
    verdict(&registry.health())
}

async fn readyz(State(registry): State<Registry>) -> Response {
    verdict(&registry.readiness())
}

async fn document(State(registry): State<Registry>) -> Response {
    let status = Status::of(&registry.overview(), registry.readiness());
    // Plain numbers and texts: it cannot fail.
    answer(StatusCode::OK, "application/json", serde_json::to_string(&status).unwrap_or_default())
}

async fn status(State(registry): State<Registry>) -> Response {
    let body = page::render(&registry.overview(), &registry.readiness());
    answer(StatusCode::OK, "text/html; charset=utf-8", body)
}

fn verdict(reasons: &[String]) -> Response {
    if reasons.is_empty() {
        answer(StatusCode::OK, PLAIN, "ok\n".to_owned())
    } else {
        answer(StatusCode::SERVICE_UNAVAILABLE, PLAIN, reasons.join("\n") + "\n")
    }
}

fn answer(status: StatusCode, content_type: &'static str, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, content_type)], body).into_response()
}

/// For every answer, refusals included. One request per connection: so the time bound of a connection is the time
/// bound of a request, and an idle client holds nothing.
async fn harden(mut response: Response) -> Response {
    for (name, value) in [
        (header::CONNECTION, "close"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, page::policy()),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

#[cfg(test)]
mod tests;
