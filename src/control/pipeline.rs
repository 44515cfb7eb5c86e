//! The control thread of one pipeline: carries out what its lease decides.
//!
//! Why: one queue of events and one thread that owns the lease need no lock; calls block in threads of their own,
//! heartbeats apart from the rest, so that a slow commit never costs the lease.
//! Invariants: 1. every call is answered to the lease exactly once; 2. commands for a shard go to the executor that
//! holds it, in the order in which the lease gave them; 3. the thread ends only with an outcome.
//! Bounds: one open heartbeat, [`WORK_CALLERS`] open other calls; [`EVENTS_PER_TURN`] events between two looks at the
//! deadlines. Driven by: `cli::run`, executors (reports), caller threads (answers), signals (stop).
//! Spec: `src/ARCHITECTURE.md`, two planes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::credentials::{CredentialsError, CredentialsSource, Known};
use super::narrate::Narrator;
use super::placement::Placement;
use crate::drive::clock;
use crate::metrics::{CheckpointGauge, ControlSnapshot, Publisher};
use crate::proto::event::{Alarm, Cause, ClosedKind, Command, Report, Scope, Token};
use crate::proto::ids::{EndpointId, ShardId};
use crate::proto::sls::error::SlsErrorKind;
use crate::proto::sls::lease::call::{Call, CallError, CallId, Lane, Reply};
use crate::proto::sls::lease::event::{LeaseEvent, Outcome};
use crate::proto::sls::lease::verdict::Verdict;
use crate::proto::sls::lease::{Lease, Params, ShardView};
use crate::proto::sls::sign::Credentials;
use crate::proto::time::{Instant, UnixTime};
use crate::report::Place;

/// Makes a call and waits for its answer. [`super::sls_api::SlsApi::call`] in the product.
pub type CallFn = Arc<dyn Fn(&Call, &Credentials) -> Result<Reply, CallError> + Send + Sync>;

/// Hands a command to this pipeline on one executor; false where that executor has ended.
pub type CommandFn = Box<dyn Fn(usize, Command) -> bool + Send>;

/// All that a control thread needs.
pub struct ControlSpec {
    /// Names, for texts.
    pub place: Place,
    /// Of the lease.
    pub lease: Params,
    /// Where the keys come from.
    pub credentials: CredentialsSource,
    /// The way to SLS.
    pub call: CallFn,
    /// The way to the executors.
    pub command: CommandFn,
    /// Which executor a shard lives on.
    pub placement: Arc<Placement>,
    /// Where snapshots go.
    pub publisher: Publisher,
}

/// What may happen to a control thread.
#[derive(Debug)]
enum Input {
    Answer(CallId, Result<Reply, CallError>),
    Reports(usize, Vec<Report>),
    Keys(Result<Known, CredentialsError>),
    /// Age in seconds of the oldest log of each shard that is not delivered.
    Lags(Vec<(ShardId, u64)>),
    NewKeys(Credentials),
    SinkToken(Token),
    Stop,
}

/// The way into a control thread. Works, without effect, after the thread has ended.
#[derive(Clone, Debug)]
pub struct Inbox(Sender<Input>);

impl Inbox {
    /// Reports of the pipeline on this executor, in their order.
    pub fn reports(&self, executor: usize, reports: Vec<Report>) {
        self.send(Input::Reports(executor, reports));
    }

    /// How far each shard is behind, in seconds; now and then.
    pub fn lags(&self, lags: Vec<(ShardId, u64)>) {
        self.send(Input::Lags(lags));
    }

    /// The settings hold other access keys.
    pub fn set_keys(&self, credentials: Credentials) {
        self.send(Input::NewKeys(credentials));
    }

    /// The settings hold another token for the sink.
    pub fn set_sink_token(&self, token: Token) {
        self.send(Input::SinkToken(token));
    }

    /// Stop politely.
    pub fn stop(&self) {
        self.send(Input::Stop);
    }

    fn send(&self, input: Input) {
        // A thread that has ended needs nothing any more.
        let _ended = self.0.send(input);
    }
}

/// A running control thread.
#[derive(Debug)]
pub struct Control {
    inbox: Inbox,
    thread: JoinHandle<Ended>,
}

/// How a control thread ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// With the lease.
    Lease(Outcome),
    /// With `fail_fast`: the sink cannot be used.
    Sink(Alarm),
    /// With `fail_fast`: there are no keys.
    Keys {
        /// Why, in words, with what to do.
        text: String,
        /// Nobody answered, rather than refused.
        unreachable: bool,
    },
}

impl Control {
    /// Starts the thread and its callers.
    pub fn start(spec: ControlSpec) -> io::Result<Self> {
        let (sender, inputs) = mpsc::channel();
        let inbox = Inbox(sender);
        let name = spec.place.pipeline.clone();
        let beats = callers("beat", &name, 1, &spec.call, &inbox)?;
        let work = callers("work", &name, WORK_CALLERS, &spec.call, &inbox)?;
        let keys = spec.credentials.can_change().then(|| keys_reader(&name, &spec.credentials, &inbox));
        let keys = keys.transpose()?;
        let thread = thread::Builder::new()
            .name(format!("s2s-ctl-{name}"))
            .spawn(move || Controller::new(spec, (beats, work, keys)).run(&inputs))?;
        Ok(Self { inbox, thread })
    }

    /// The way in.
    pub fn inbox(&self) -> Inbox {
        self.inbox.clone()
    }

    /// Waits for the end. `None`: the thread panicked, a bug of ours.
    pub fn join(self) -> Option<Ended> {
        self.thread.join().ok()
    }

    /// True after the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// A call for a caller thread.
struct Job {
    id: CallId,
    call: Call,
    credentials: Arc<Credentials>,
}

fn callers(
    lane: &str,
    pipeline: &str,
    count: usize,
    call: &CallFn,
    inbox: &Inbox,
) -> io::Result<async_channel::Sender<Job>> {
    let (jobs, work) = async_channel::unbounded::<Job>();
    for _ in 0..count {
        let (work, call, inbox) = (work.clone(), Arc::clone(call), inbox.clone());
        thread::Builder::new().name(format!("s2s-{lane}-{pipeline}")).spawn(move || {
            while let Ok(job) = work.recv_blocking() {
                inbox.send(Input::Answer(job.id, call(&job.call, &job.credentials)));
            }
        })?;
    }
    Ok(jobs)
}

/// A thread that reads keys again whenever it is asked: a metadata service may take seconds to answer.
fn keys_reader(
    pipeline: &str,
    source: &CredentialsSource,
    inbox: &Inbox,
) -> io::Result<async_channel::Sender<()>> {
    let (ask, asked) = async_channel::bounded::<()>(1);
    let (source, inbox) = (source.clone(), inbox.clone());
    thread::Builder::new().name(format!("s2s-keys-{pipeline}")).spawn(move || {
        while asked.recv_blocking().is_ok() {
            inbox.send(Input::Keys(source.read()));
        }
    })?;
    Ok(ask)
}

/// The threads that carry calls out: heartbeats, other calls, reading of keys.
type Callers = (async_channel::Sender<Job>, async_channel::Sender<Job>, Option<async_channel::Sender<()>>);

/// How far a stop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// Nobody wants one.
    Not,
    /// The executors are draining.
    Asked,
    /// All of them have stopped and the lease knows.
    Told,
}

/// The thread's own state.
struct Controller {
    name: Arc<str>,
    lease: Lease,
    narrator: Narrator,
    source: CredentialsSource,
    /// None until the first ones came.
    credentials: Option<Arc<Credentials>>,
    keys: Option<async_channel::Sender<()>>,
    /// When they are read again.
    read_at: Option<Instant>,
    /// Failed readings in a row.
    read_failures: u32,
    fail_fast: bool,
    /// How long the logstore keeps logs, where we may know it; and when that is asked (again).
    ttl: Option<Duration>,
    ttl_at: Option<Instant>,
    keys_failed: Option<Ended>,
    beats: async_channel::Sender<Job>,
    work: async_channel::Sender<Job>,
    command: CommandFn,
    placement: Arc<Placement>,
    /// Shard → executor, from assignment to release.
    routes: BTreeMap<ShardId, usize>,
    /// Where shards were last time.
    before: BTreeMap<ShardId, usize>,
    /// Executors that said `Stopped`, or have ended.
    stopped: BTreeSet<usize>,
    stop: Stop,
    publisher: Publisher,
    publish_at: Instant,
    /// With `fail_fast`, until the first position is safe.
    watch_sink: bool,
    /// Endpoints that cannot be used, out of so many.
    unusable: BTreeSet<EndpointId>,
    endpoints_count: usize,
    sink_failed: Option<Alarm>,
}

impl Controller {
    fn new(spec: ControlSpec, (beats, work, keys): Callers) -> Self {
        let now = clock::now();
        let credentials = spec.credentials.initial();
        Self {
            name: spec.place.pipeline.as_str().into(),
            watch_sink: spec.lease.fail_fast,
            fail_fast: spec.lease.fail_fast,
            keys_failed: None,
            ttl: None,
            ttl_at: Some(now),
            read_failures: 0,
            // Keys that are known were read with the settings, a moment ago.
            read_at: keys.as_ref().map(|_| match &credentials {
                Some(_) => now + spec.credentials.read_after(None, clock::wall()),
                None => now,
            }),
            keys,
            unusable: BTreeSet::new(),
            endpoints_count: spec.place.endpoints_count(),
            sink_failed: None,
            lease: Lease::new(spec.lease, now),
            narrator: Narrator::new(spec.place),
            credentials: credentials.map(Arc::new),
            source: spec.credentials,
            beats,
            work,
            command: spec.command,
            placement: spec.placement,
            routes: BTreeMap::new(),
            before: BTreeMap::new(),
            stopped: BTreeSet::new(),
            stop: Stop::Not,
            publisher: spec.publisher,
            publish_at: now,
        }
    }

    fn run(mut self, inputs: &Receiver<Input>) -> Ended {
        if let Some(credentials) = self.credentials.clone() {
            self.broadcast(&Command::Credentials((*credentials).clone()));
        }
        loop {
            let now = clock::now();
            self.carry_out(now);
            if let Some(outcome) = self.lease.outcome().cloned() {
                self.end(now, &outcome);
                return Ended::Lease(outcome);
            }
            if let Some(alarm) = self.sink_failed {
                return Ended::Sink(alarm);
            }
            if let Some(ended) = self.keys_failed {
                return ended;
            }
            self.tick(now);
            // Without keys the lease waits, whatever it would ask for; only a stop goes on.
            let lease = self.lease.poll_timeout().filter(|_| self.credentials.is_some());
            let wake = [lease, self.read_at, Some(self.publish_at)];
            let wait = wake.into_iter().flatten().min().map_or(TICK, |at| at.since(now));
            match inputs.recv_timeout(wait) {
                Ok(first) => {
                    self.handle(first);
                    for next in inputs.try_iter().take(EVENTS_PER_TURN) {
                        self.handle(next);
                    }
                }
                // The callers hold senders, so this channel outlives the loop; as a timeout it is harmless.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    self.lease.handle_timeout(clock::now());
                }
            }
        }
    }

    fn handle(&mut self, input: Input) {
        let now = clock::now();
        match input {
            Input::Answer(TTL_CALL, result) => self.ttl_read(now, result),
            Input::Answer(id, result) => {
                if let Err(CallError::Sls(error)) = &result {
                    self.look_for_new_keys(now, error.kind());
                }
                self.lease.handle_reply(now, id, result);
            }
            Input::Reports(executor, reports) => {
                for report in reports {
                    self.handle_report(now, executor, report);
                }
            }
            Input::Keys(read) => self.keys_read(now, read),
            Input::Lags(lags) => {
                let Some(ttl) = self.ttl else { return };
                for (shard, lag) in lags.into_iter().filter(|(shard, _)| self.routes.contains_key(shard)) {
                    let lag = Duration::from_secs(lag);
                    self.narrator.keeping_up(now, shard, expires_soon(lag, ttl).then_some((lag, ttl)));
                }
            }
            Input::NewKeys(credentials) => self.new_keys(credentials, None),
            Input::SinkToken(token) => self.broadcast(&Command::Token(token)),
            Input::Stop if self.stop == Stop::Not => {
                self.stop = Stop::Asked;
                self.lease.handle_stop(now);
            }
            Input::Stop => {}
        }
    }

    fn handle_report(&mut self, now: Instant, executor: usize, report: Report) {
        if report == Report::Stopped {
            self.stopped.insert(executor);
            return;
        }
        self.judge_start(&report);
        if let Report::Alarm(Alarm { cause: Cause::Sls(error), .. }) = &report {
            self.look_for_new_keys(now, error.kind());
        }
        self.narrator.report(now, clock::wall(), executor, &report);
        self.lease.handle_report(now, report);
    }

    /// With `fail_fast`, a sink none of whose endpoints can be used at the start ends the run.
    fn judge_start(&mut self, report: &Report) {
        match report {
            Report::Safe { .. } => self.watch_sink = false,
            Report::Clear { scope: Scope::Sink(endpoint), .. } => {
                self.unusable.remove(endpoint);
            }
            Report::Alarm(alarm) if self.watch_sink && fails_start(alarm) => {
                if let Scope::Sink(endpoint) = alarm.scope {
                    self.unusable.insert(endpoint);
                }
                if self.unusable.len() >= self.endpoints_count {
                    self.sink_failed = Some(alarm.clone());
                }
            }
            _ => {}
        }
    }

    /// Everything that the lease wants done now.
    fn carry_out(&mut self, now: Instant) {
        loop {
            while let Some(credentials) = self.credentials.clone()
                && let Some((id, call)) = self.lease.poll_call(now)
            {
                let lane = match call.lane() {
                    Lane::Beat => &self.beats,
                    Lane::Work => &self.work,
                };
                let job = Job { id, call, credentials };
                // Callers end after this thread only, and the channel has no bound.
                let _sent = lane.try_send(job);
            }
            while let Some(command) = self.lease.poll_command() {
                self.route(command);
            }
            while let Some(event) = self.lease.poll_event() {
                self.tell(now, &event);
            }
            let all_stopped = self.stopped.len() == self.placement.executors();
            if !(all_stopped && self.stop == Stop::Asked) {
                return;
            }
            self.stop = Stop::Told;
            self.lease.handle_report(now, Report::Stopped);
        }
    }

    /// Sends a command where it belongs.
    fn route(&mut self, command: Command) {
        match &command {
            Command::Assign { shard, .. } => {
                let shard = *shard;
                let executor = self.executor_of(shard);
                self.send(executor, command);
            }
            Command::Revoke { shard, .. } | Command::Abandon { shard, .. } => {
                if let Some(&executor) = self.routes.get(shard) {
                    self.send(executor, command);
                }
            }
            Command::Lease { .. } | Command::Credentials(_) | Command::Token(_) | Command::Stop => {
                self.broadcast(&command);
            }
        }
    }

    fn executor_of(&mut self, shard: ShardId) -> usize {
        if let Some(&executor) = self.routes.get(&shard) {
            return executor;
        }
        let executor = self.placement.place(&self.name, shard, self.before.get(&shard).copied());
        self.routes.insert(shard, executor);
        self.before.insert(shard, executor);
        let core = self.placement.core(executor).unwrap_or_default();
        tracing::info!("pipeline {}: shard {shard} → core {core}", self.name);
        executor
    }

    fn broadcast(&mut self, command: &Command) {
        for executor in 0..self.placement.executors() {
            self.send(executor, command.clone());
        }
    }

    fn send(&mut self, executor: usize, command: Command) {
        if !(self.command)(executor, command) {
            self.stopped.insert(executor);
        }
    }

    fn tell(&mut self, now: Instant, event: &LeaseEvent) {
        match event {
            LeaseEvent::ShardReleased { shard, .. } | LeaseEvent::ShardLost { shard, .. } => {
                self.unroute(*shard);
            }
            LeaseEvent::LeaseExpired { shards } => shards.iter().for_each(|shard| self.unroute(*shard)),
            // The lease has begun a stop by itself.
            LeaseEvent::AllFinished if self.stop == Stop::Not => self.stop = Stop::Asked,
            _ => {}
        }
        self.narrator.event(now, clock::wall(), event);
    }

    fn unroute(&mut self, shard: ShardId) {
        if let Some(executor) = self.routes.remove(&shard) {
            self.placement.release(executor);
        }
    }

    /// A refusal of the keys is a reason to look for new ones, where there can be new ones.
    fn look_for_new_keys(&mut self, now: Instant, kind: SlsErrorKind) {
        let refused = matches!(
            kind,
            SlsErrorKind::CredentialsExpired
                | SlsErrorKind::SignatureNotMatch
                | SlsErrorKind::Unauthorized { denied: false }
        );
        if refused {
            self.read_at = self.read_at.map(|at| at.min(now + REREAD_SOON));
        }
    }

    /// How long logs are kept is nice to know. Who may not ask is not warned.
    fn ttl_read(&mut self, now: Instant, result: Result<Reply, CallError>) {
        match result {
            Ok(Reply::Retention(days)) => {
                self.ttl = days
                    .and_then(|days| u32::try_from(days).ok())
                    .filter(|days| *days > 0)
                    .map(|days| Duration::from_hours(24).saturating_mul(days));
                self.ttl_at = Some(now + TTL_AGAIN);
            }
            Err(cause) if Verdict::of(&cause) == Verdict::Denied => {
                tracing::debug!("pipeline {}: not allowed to read the ttl of the logstore", self.name);
            }
            _ => self.ttl_at = Some(now + TTL_AGAIN),
        }
    }

    /// Keys came, or did not.
    fn keys_read(&mut self, now: Instant, read: Result<Known, CredentialsError>) {
        let wall = clock::wall();
        match read {
            Ok(Known { credentials, until }) => {
                self.read_at = Some(now + self.source.read_after(until, wall));
                self.narrator.credentials_good(now, self.read_failures);
                self.read_failures = 0;
                if self.credentials.as_deref() == Some(&credentials) {
                    return;
                }
                self.new_keys(credentials, until);
            }
            Err(error) => {
                self.read_failures = self.read_failures.saturating_add(1);
                let wait = (REREAD_SOON * self.read_failures).min(REREAD_MAX);
                self.read_at = Some(now + wait);
                let known = self.credentials.is_some();
                let text = self.narrator.credentials_failed(now, &error, known, wait);
                if self.fail_fast && !known && self.read_failures >= KEYS_ATTEMPTS {
                    self.keys_failed = Some(Ended::Keys { text, unreachable: error.is_unreachable() });
                }
            }
        }
    }

    fn new_keys(&mut self, credentials: Credentials, until: Option<UnixTime>) {
        self.narrator.credentials_changed(&credentials.access_key_id, until);
        self.broadcast(&Command::Credentials(credentials.clone()));
        self.credentials = Some(Arc::new(credentials));
    }

    fn tick(&mut self, now: Instant) {
        if self.read_at.is_some_and(|at| at <= now)
            && let Some(keys) = &self.keys
        {
            // Until the answer comes; a second question while one is under way finds no room and needs none.
            self.read_at = Some(now + REREAD_MAX);
            let _under_way = keys.try_send(());
        }
        if self.ttl_at.is_some_and(|at| at <= now)
            && self.lease.is_joined()
            && let Some(credentials) = self.credentials.clone()
        {
            self.ttl_at = None;
            let _sent = self.work.try_send(Job { id: TTL_CALL, call: Call::GetLogstore, credentials });
        }
        if self.publish_at <= now {
            self.publish_at = now + TICK;
            self.narrator.remind(now);
            self.publish(now);
        }
    }

    fn publish(&self, now: Instant) {
        let counters = self.lease.counters();
        let age =
            |view: ShardView| CheckpointGauge { shard: view.shard, age_seconds: view.unsaved.as_secs() };
        self.publisher.control(ControlSnapshot {
            pipeline: Arc::clone(&self.name),
            member: self.lease.is_joined(),
            alarms: self.narrator.standing(now),
            checkpoint_commits: counters.checkpoint_commits,
            checkpoint_conflicts: counters.checkpoint_conflicts,
            heartbeat_failures: counters.heartbeat_failures,
            retention_gaps: counters.retention_gaps,
            checkpoints: self.lease.shards(now).filter(|view| view.assigned).map(age).collect(),
        });
    }

    fn end(&mut self, now: Instant, outcome: &Outcome) {
        let shards: Vec<ShardId> = self.routes.keys().copied().collect();
        for shard in shards {
            self.unroute(shard);
        }
        self.publish(now);
        match outcome {
            Outcome::Drained => tracing::info!("pipeline {}: drained, every checkpoint is saved", self.name),
            Outcome::Undrained { shards } => {
                let shards = shards.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                tracing::warn!(
                    "pipeline {}: the stop took too long, shards {shards} were cut - nothing lost, \
                     what was in flight is sent again at the next start",
                    self.name
                );
            }
            // `cli::run` says it, with the exit code.
            Outcome::Failed { .. } => {}
        }
    }
}

/// True where less than a quarter of the time is left that a log is kept.
fn expires_soon(lag: Duration, ttl: Duration) -> bool {
    lag >= ttl / 4 * 3
}

/// True for a sink's trouble that does not pass by itself.
fn fails_start(alarm: &Alarm) -> bool {
    let lasting = match &alarm.cause {
        Cause::Transport(closed) => {
            matches!(closed.kind, ClosedKind::Resolve | ClosedKind::Connect | ClosedKind::Tls)
        }
        Cause::Hec(answer) => matches!(answer.status, 300..=403),
        Cause::Protocol(_) => true,
        _ => false,
    };
    lasting && matches!(alarm.scope, Scope::Sink(_))
}

/// Threads for the calls that are not heartbeats.
pub const WORK_CALLERS: usize = 2;
/// The one call that is not the lease's.
const TTL_CALL: CallId = CallId(u64::MAX);
/// Somebody may change the ttl.
const TTL_AGAIN: Duration = Duration::from_mins(10);
/// Events that are handled between two looks at the deadlines.
const EVENTS_PER_TURN: usize = 1024;
/// Between two snapshots.
const TICK: Duration = Duration::from_millis(200);
/// After a refusal of the keys, or the first failure to read them.
const REREAD_SOON: Duration = Duration::from_secs(5);
/// After many failures to read them.
const REREAD_MAX: Duration = Duration::from_mins(1);
/// With `fail_fast`, failures to read the first keys.
const KEYS_ATTEMPTS: u32 = 2;

#[cfg(test)]
mod tests;
