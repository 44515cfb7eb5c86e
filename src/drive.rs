//! The glommio room: executors, connections, TLS, clocks. Dull loops around the core.
//!
//! Why: everything that decides is in `proto`; here bytes are moved and deadlines are kept, on one pinned
//! thread per core with io_uring.
//! Invariants: 1. only this room names glommio or rustls. 2. executors are made once and live as long as the
//!  process. 3. threads share messages and atomics, nothing else.
//! Bounds: per executor [`StartSpec::memory_bytes`] of credit, 256 KiB read buffers, at most 8 write buffers.
//! Driven by: `cli::run` starts and ends it, `control` opens pipelines and sends commands, `admin` reads snapshots.

pub mod child;
pub mod clock;
mod conn;
pub mod core;
mod datagram;
pub mod dialogue;
mod executor;
mod net;
pub mod peer;
pub mod probe;
mod pump;
pub(crate) mod resolve;
mod stdout;
pub mod tls;
mod wait;
mod watchdog;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

pub use self::core::Core;
pub use self::net::ProxySpec;
pub use self::tls::{TlsError, TlsSpec, Verify};
pub use self::watchdog::{ABORT_AFTER, NUDGE_AFTER};

use self::executor::{Opening, Order};
use self::probe::{Host, ProbeError};
use self::resolve::Resolver;
use self::watchdog::{Patient, Pulse, Watchdog};
use crate::dead_letter::Mailbox;
use crate::proto::counters::{Counters, ShardGauge};
use crate::proto::event::{Closed, Command, Report};
use crate::proto::flow::Flow;
use crate::proto::ids::EndpointId;
use crate::proto::pipeline::{Params, Pipeline};
use crate::proto::tap::{self, FrameCopy};
use crate::proto::time::{Instant, UnixTime};

/// A pipeline, as the process numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PipelineId(pub u16);

/// An executor, counted from 0; not its core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutorIndex(pub usize);

/// What a core is made from, on its executor.
pub struct Seed {
    /// This pipeline's part of the executor's byte credit.
    pub flow: Rc<Flow>,
    /// Seed for the core's random numbers.
    pub seed: u64,
    /// Now.
    pub now: Instant,
    /// Now, by the wall clock.
    pub wall: UnixTime,
}

/// Makes the core of a pipeline, on its executor.
pub type MakeCore = Box<dyn FnOnce(Seed) -> Box<dyn Core> + Send>;

/// Makes the core of a real pipeline.
pub fn pipeline(params: Params) -> MakeCore {
    Box::new(|Seed { flow, seed, now, wall }| Box::new(Pipeline::new(params, flow, seed, now, wall)))
}

/// What the executors are started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartSpec {
    /// One executor per entry, pinned to that core.
    pub cores: Vec<usize>,
    /// Byte credit of each executor.
    pub memory_bytes: u64,
    /// How long an executor may stand still before the process is ended; [`ABORT_AFTER`] suits most.
    pub abort_after: Duration,
}

/// A peer to connect to.
#[derive(Clone, Debug)]
pub struct TargetSpec {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// TLS settings; none is plain TCP.
    pub tls: Option<TlsSpec>,
    /// Name that the certificate has to be for, where it is not `host`.
    pub server_name: Option<String>,
    /// HTTP proxy in between.
    pub proxy: Option<ProxySpec>,
    /// How long the peer's kernel may leave bytes unacknowledged, or take none, before the connection is broken; what
    /// the sink itself would wait for, or the shorter patience would be the only one that counts.
    pub patience: Duration,
    /// UDP: each chunk of the core is one datagram; TLS and proxy do not count.
    pub datagrams: bool,
}

impl TargetSpec {
    /// Plain TCP, nothing in between.
    pub fn plain(host: String, port: u16, patience: Duration) -> Self {
        Self { host, port, tls: None, server_name: None, proxy: None, patience, datagrams: false }
    }
}

/// Refuses a peer whose settings cannot be used: a CA file that cannot be read, a key that does not fit. Connects to nothing.
pub fn check_target(spec: &TargetSpec) -> Result<(), DriveError> {
    Target::new(spec).map(drop)
}

/// One pipeline for one executor.
pub struct PipelineSpec {
    /// Its number; the same on every executor.
    pub id: PipelineId,
    /// Makes its core.
    pub make: MakeCore,
    /// The SLS endpoint.
    pub source: TargetSpec,
    /// The sink's endpoints, in the order of their `EndpointId`s.
    pub endpoints: Vec<TargetSpec>,
    /// Where its reports go, those of one event together.
    pub reports: Sender<(ExecutorIndex, PipelineId, Vec<Report>)>,
    /// Where records go that its sink refuses for good.
    pub dead_letter: Option<Mailbox>,
}

/// How one executor stands, copied out at its heartbeat.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Which executor.
    pub executor: ExecutorIndex,
    /// Its core.
    pub core: usize,
    /// CPU time of its thread so far.
    pub cpu: Duration,
    /// Signals that the watchdog sent it.
    pub nudges: u64,
    /// Bytes in flight.
    pub memory_used_bytes: u64,
    /// Their bound.
    pub memory_limit_bytes: u64,
    /// When it was taken.
    pub taken: Instant,
    /// Its pipelines.
    pub pipelines: Vec<PipelineSnapshot>,
}

/// How one pipeline stands on one executor.
#[derive(Clone, Debug)]
pub struct PipelineSnapshot {
    /// Which pipeline.
    pub pipeline: PipelineId,
    /// Its counters.
    pub counters: Counters,
    /// Its shards here.
    pub shards: Vec<ShardGauge>,
    /// Connections, those under way included.
    pub connections: usize,
    /// True after it has ended.
    pub stopped: bool,
}

/// Why the data plane cannot do what was asked.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum DriveError {
    #[error("this host cannot run the data plane: {0}")]
    Probe(#[from] ProbeError),
    #[error("no executor on core {core}: {detail} - see runtime.cores")]
    Executor { core: usize, detail: String },
    #[error("a thread cannot be started: {0}")]
    Thread(#[from] io::Error),
    #[error("TLS settings of {host}:{port}: {source}")]
    Tls { host: String, port: u16, source: TlsError },
    #[error("there is no executor {0}")]
    NoExecutor(usize),
    #[error("executor {0} has ended")]
    Ended(usize),
    #[error("executors did not end in time: {0}")]
    Late(String),
}

impl DriveError {
    /// What was asked for cannot be: the settings are wrong.
    pub fn is_of_settings(&self) -> bool {
        matches!(self, Self::Tls { .. }) && !self.is_shortage()
    }

    /// The system was short of something when it read files; the settings may be right.
    pub fn is_shortage(&self) -> bool {
        matches!(self, Self::Tls { source, .. } if source.is_shortage())
    }
}

/// The running executors. Shared by reference; all methods may be called from any thread.
#[derive(Debug)]
pub struct Executors {
    running: Vec<Running>,
    host: Host,
    _watchdog: Watchdog,
}

#[derive(Debug)]
struct Running {
    core: usize,
    name: String,
    pulse: Arc<Pulse>,
    orders: async_channel::Sender<Order>,
    thread: JoinHandle<()>,
}

/// Probes the host and starts one executor per core.
pub fn start(spec: &StartSpec) -> Result<Executors, DriveError> {
    let host = probe::host(spec.cores.len())?;
    clock::now();
    let resolver = Resolver::start()?;
    let mut running = Vec::with_capacity(spec.cores.len());
    for (index, &core) in spec.cores.iter().enumerate() {
        running.push(start_one(ExecutorIndex(index), core, spec.memory_bytes, resolver.clone())?);
    }
    let patients = running
        .iter()
        .map(|running| Patient { name: running.name.clone(), pulse: Arc::clone(&running.pulse) })
        .collect();
    let watchdog = Watchdog::start(patients, spec.abort_after)?;
    Ok(Executors { running, host, _watchdog: watchdog })
}

fn start_one(
    index: ExecutorIndex,
    core: usize,
    memory_bytes: u64,
    resolver: Resolver,
) -> Result<Running, DriveError> {
    let name = format!("s2s-core{core}");
    let pulse = Arc::new(Pulse::default());
    let (orders, inbox) = async_channel::unbounded();
    let (ready, made) = mpsc::channel();
    let start = executor::Start {
        index,
        core,
        memory_bytes,
        pulse: Arc::clone(&pulse),
        resolver,
        orders: inbox,
        answers: orders.downgrade(),
    };
    let thread =
        std::thread::Builder::new().name(name.clone()).spawn(move || match executor::make(core) {
            Ok(executor) => {
                // The starter waits for this answer.
                let _ = ready.send(Ok(()));
                executor::run(&executor, start);
            }
            Err(detail) => drop(ready.send(Err(detail))),
        })?;
    match made.recv() {
        Ok(Ok(())) => Ok(Running { core, name, pulse, orders, thread }),
        Ok(Err(detail)) => Err(DriveError::Executor { core, detail }),
        Err(_) => Err(DriveError::Executor { core, detail: "its thread ended at once".to_owned() }),
    }
}

impl Executors {
    /// Number of executors.
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.running.len()
    }

    /// The core of an executor.
    pub fn core(&self, executor: usize) -> Option<usize> {
        self.running.get(executor).map(|running| running.core)
    }

    /// What the probe found.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Puts a pipeline to work on one executor. Settings that cannot work are refused here.
    pub fn open(&self, executor: usize, spec: PipelineSpec) -> Result<(), DriveError> {
        let endpoints = spec.endpoints.iter().map(Target::new).collect::<Result<_, _>>()?;
        let opening = Opening {
            id: spec.id,
            make: spec.make,
            source: Target::new(&spec.source)?,
            endpoints,
            reports: spec.reports,
            mailbox: spec.dead_letter,
        };
        self.order(executor, Order::Open(Box::new(opening)))
    }

    /// Ends a pipeline's connections on one executor and forgets it. It should have been stopped before.
    pub fn close(&self, executor: usize, id: PipelineId) -> Result<(), DriveError> {
        self.order(executor, Order::Close(id))
    }

    /// Sends a command to a pipeline on one executor.
    pub fn command(&self, executor: usize, id: PipelineId, command: Command) -> Result<(), DriveError> {
        self.order(executor, Order::Command(id, command))
    }

    /// Reads the files of an endpoint's TLS settings again; connections that are made from now on use them. Where they
    /// cannot be used, what was read before stays in force.
    pub fn renew_tls(
        &self,
        id: PipelineId,
        endpoint: EndpointId,
        spec: &TargetSpec,
    ) -> Result<(), DriveError> {
        let renewed = (0..self.running.len()).map(|_| Target::new(spec)).collect::<Result<Vec<_>, _>>()?;
        for (executor, target) in renewed.into_iter().enumerate() {
            if let Some(client) = target.tls.into_inner() {
                self.order(executor, Order::Tls(id, endpoint, Box::new(client)))?;
            }
        }
        Ok(())
    }

    /// Begins to copy frames of a pipeline on one executor, until the other end of `copies` is dropped. What does not fit
    /// there is left out; forwarding does not wait.
    pub fn tap(
        &self,
        executor: usize,
        id: PipelineId,
        tap: tap::Params,
        copies: async_channel::Sender<FrameCopy>,
    ) -> Result<(), DriveError> {
        self.order(executor, Order::Tap(id, tap, copies))
    }

    /// Begins to collect snapshots of all executors.
    pub fn gauges(&self) -> Gauges {
        let inboxes = self.running.iter().map(|running| {
            let (watcher, news) = async_channel::bounded(1);
            // An executor that has ended has nothing to show.
            let _ = running.orders.try_send(Order::Watch(watcher));
            Inbox { news, last: None }
        });
        Gauges { inboxes: inboxes.collect() }
    }

    /// Ends all connections and executors. Pipelines should have been stopped before.
    pub fn shutdown(&self, timeout: Duration) -> Result<(), DriveError> {
        for running in &self.running {
            let _ = running.orders.try_send(Order::Shutdown);
        }
        let deadline = clock::now() + timeout;
        loop {
            let late: Vec<&str> = self
                .running
                .iter()
                .filter(|running| !running.thread.is_finished())
                .map(|running| running.name.as_str())
                .collect();
            if late.is_empty() {
                return Ok(());
            }
            if clock::now() >= deadline {
                return Err(DriveError::Late(late.join(", ")));
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Signals that the watchdog has sent so far.
    pub fn nudges(&self) -> u64 {
        self.running.iter().map(|running| running.pulse.nudges.load(Ordering::Relaxed)).sum()
    }

    fn order(&self, executor: usize, order: Order) -> Result<(), DriveError> {
        let running = self.running.get(executor).ok_or(DriveError::NoExecutor(executor))?;
        running.orders.try_send(order).map_err(|_| DriveError::Ended(executor))
    }
}

#[derive(Debug)]
struct Inbox {
    news: async_channel::Receiver<Arc<Snapshot>>,
    last: Option<Arc<Snapshot>>,
}

/// The latest snapshot of every executor, for one reader.
#[derive(Debug)]
pub struct Gauges {
    inboxes: Vec<Inbox>,
}

impl Gauges {
    /// What is known now; an executor that has not beaten since [`Executors::gauges`] is left out.
    pub fn read(&mut self) -> Vec<Arc<Snapshot>> {
        for inbox in &mut self.inboxes {
            if let Ok(snapshot) = inbox.news.try_recv() {
                inbox.last = Some(snapshot);
            }
        }
        self.inboxes.iter().filter_map(|inbox| inbox.last.clone()).collect()
    }
}

/// A peer, ready to be connected to.
#[derive(Debug)]
pub(crate) struct Target {
    host: String,
    port: u16,
    tls: RefCell<Option<tls::Client>>,
    proxy: Option<ProxySpec>,
    patience: Duration,
    datagrams: bool,
}

impl Target {
    fn new(spec: &TargetSpec) -> Result<Self, DriveError> {
        let name = spec.server_name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&spec.host);
        let client = spec.tls.as_ref().map(|tls| tls::Client::new(tls, name)).transpose();
        let tls =
            client.map_err(|source| DriveError::Tls { host: spec.host.clone(), port: spec.port, source })?;
        Ok(Self {
            host: spec.host.clone(),
            port: spec.port,
            tls: RefCell::new(tls),
            proxy: spec.proxy.clone(),
            patience: spec.patience,
            datagrams: spec.datagrams,
        })
    }

    /// Begins a TLS session, where there is TLS.
    fn session(&self) -> Option<Result<tls::Session, Closed>> {
        self.tls.borrow().as_ref().map(tls::Client::session)
    }

    /// Host and port that TCP goes to.
    fn dial(&self) -> (&str, u16) {
        self.proxy.as_ref().map_or((&self.host, self.port), |proxy| (&proxy.host, proxy.port))
    }
}
