//! `sls2siem demo`: the whole path on this machine, judged by what the sink stored.
//!
//! Why: whoever looks at this for the first time has neither an Alibaba Cloud account nor a Splunk at hand. The bundled
//! servers run in this process; the forwarder is this program once more, as a process of its own with its own
//! settings, so that what is seen is what is shipped.
//! Invariants: 1. exit code 0 means that [`verdict`] found nothing wrong. 2. no process and, after a pass, no file is
//! left behind. 3. every wait has an end and says what it waits for.
//! Bounds: logs in memory up to half of what the host has left; a wait without progress ends after [`STALL`].
//! Driven by: `main`.   Spec: commands and exit codes in README.md.

mod faults;
mod forwarder;
mod meter;
mod process;
mod sink;
mod stage;
mod text;
mod verdict;
mod view;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::DirBuilder;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::faults::Faults;
use self::forwarder::Forwarder;
use self::meter::Meter;
use self::stage::{Position, SHARDS, Secrets, Stage};
use self::text::megabytes;
use self::verdict::Outcome;
use self::view::{Sample, View};
use super::DemoArgs;
use crate::config::Environment;
use crate::drive::clock;
use crate::proto::time::Instant;
use crate::report::Exit;

pub use self::faults::check as check_fault;

/// Runs the whole path on this machine.
pub fn execute(args: &DemoArgs, env: &Environment) -> Exit {
    let (bytes, room) = (args.rate.saturating_mul(args.seconds), stage::memory_share());
    let faults = Faults::new(&args.faults).and_then(|faults| faults.check_sink(args.sink).map(|()| faults));
    let faults = match faults {
        _ if bytes > room => Err(format!(
            "{} a second for {} s are {} of logs, which are made in memory before the start, and there is room for \
             {} - lower --rate or --seconds",
            megabytes(args.rate),
            args.seconds,
            megabytes(bytes),
            megabytes(room)
        )),
        faults => faults,
    };
    let done = match faults {
        Ok(faults) => rehearse(args, faults, env),
        Err(text) => {
            complain(&text);
            return Exit::Usage;
        }
    };
    done.unwrap_or_else(|error| {
        complain(&format!("{error:#}"));
        Exit::Failed
    })
}

/// What the threads of the demo tell its main loop.
#[derive(Debug)]
enum Event {
    /// Somebody wants it to end.
    Signal,
    /// A line of the forwarder's log.
    Line(String),
    /// The forwarder's log is at its end.
    LogEnd,
}

fn rehearse(args: &DemoArgs, faults: Faults, env: &Environment) -> Result<Exit> {
    let folder = Folder::new()?;
    let (sender, events) = sync_channel(EVENTS_MAX);
    let signals = listen(sender.clone())?;
    let (core, others) = cores();
    let secrets = secrets();
    let title = format!(
        "sls2siem demo: {}/s for {} s over {SHARDS} shards, all on this machine, over TLS",
        megabytes(args.rate),
        args.seconds
    );
    let is_faulty = !faults.is_empty();
    let spec = stage::Spec {
        folder: &folder.path,
        secrets: &secrets,
        sink: args.sink,
        faults,
        rate: args.rate,
        cores: others,
    };
    let stage = Stage::start(spec)?;
    let view = View::new(title);
    if !prepare(&stage, &view, &events, args)? {
        return Ok(conclude_unsent());
    }
    let spec = forwarder::Spec {
        folder: &folder.path,
        settings: stage.settings(&folder.path, core),
        secrets: vec![
            ("SLS_AK_ID", secrets.key_id.clone()),
            ("SLS_AK_KEY", secrets.key_secret.clone()),
            ("HEC_TOKEN", secrets.token.clone()),
        ],
        env,
    };
    let forwarder = Forwarder::start(&spec, sender).context("the forwarder cannot be started")?;
    let mut run = Run::new(stage, forwarder, view, events);
    let mut outcome = run.perform(args)?;
    outcome.faults = if is_faulty { run.stage.fault_hits() } else { Vec::new() };
    signals.close();
    run.view.finish();
    let exit = conclude(&outcome, &run.forwarder);
    if exit != Exit::Done {
        folder.keep();
    }
    Ok(exit)
}

/// Makes the logs, slice by slice so that a signal is heard. False if one came.
fn prepare(stage: &Stage, view: &View, events: &Receiver<Event>, args: &DemoArgs) -> Result<bool> {
    // Half a second more than needed: the clock is looked at a few times a second only.
    let total = args.rate.saturating_mul(args.seconds).saturating_add(args.rate / 2);
    view.say(&format!("making {} of logs …", megabytes(total)));
    let mut made = 0;
    while made < total {
        let slice = SLICE_BYTES.min(total - made);
        stage.prepare(slice)?;
        made += slice;
        if events.try_recv().is_ok() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// One run, from the forwarder's start to its end.
struct Run {
    stage: Stage,
    forwarder: Forwarder,
    view: View,
    events: Receiver<Event>,
    metrics: Option<meter::Reader>,
    meter: Meter,
    meter_due: Instant,
    cpu: Duration,
    resident_bytes_max: u64,
    ahead_bytes: u64,
    has_log_ended: bool,
}

/// What a step of the main loop brought.
enum Step {
    /// Time has passed; so far things are.
    Tick(Position),
    /// Somebody wants it to end.
    Signal,
    /// The forwarder is gone.
    Ended,
}

/// How a phase ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Done,
    Signal,
    Ended,
    Stalled,
}

impl Run {
    fn new(stage: Stage, forwarder: Forwarder, view: View, events: Receiver<Event>) -> Self {
        Self {
            stage,
            forwarder,
            view,
            events,
            metrics: None,
            meter: Meter::default(),
            meter_due: clock::now(),
            cpu: Duration::ZERO,
            resident_bytes_max: 0,
            ahead_bytes: 0,
            has_log_ended: false,
        }
    }

    fn perform(&mut self, args: &DemoArgs) -> Result<Outcome> {
        let mut gave_up = None;
        self.view.say("the forwarder starts and takes its shards …");
        let mut phase = self.join()?;
        let threads = process::threads(self.forwarder.pid());
        let (began, cpu_began) = (clock::now(), self.cpu);
        let mut interrupted = phase == Phase::Signal;
        if phase == Phase::Stalled {
            gave_up = Some(format!("the forwarder did not take its shards within {} s", JOIN_MAX.as_secs()));
        } else if phase == Phase::Done {
            self.stage.set_rate(args.rate)?;
            phase = self.flow(began, args)?;
            self.stage.set_rate(0)?;
            interrupted = phase == Phase::Signal;
        }
        let (flowed, cpu_flowing) = (clock::now().since(began), self.cpu.saturating_sub(cpu_began));
        if gave_up.is_none() && phase != Phase::Ended {
            phase = self.drain(&mut gave_up)?;
        }
        let cpu_total = self.cpu.saturating_sub(cpu_began);
        let threads = by_kind(&threads, &process::threads(self.forwarder.pid()));
        let ended_early = phase == Phase::Ended;
        if !ended_early {
            self.stop()?;
        }
        let ended = self.forwarder.ended();
        self.forwarder.kill();
        self.rest_of_log();
        let position = self.stage.position()?;
        Ok(Outcome {
            verdict: self.stage.verdict(&position),
            position,
            flowed,
            ahead_bytes: self.ahead_bytes,
            cpu_flowing,
            cpu_total,
            threads,
            resident_bytes_max: self.resident_bytes_max,
            ended,
            ended_early,
            gave_up,
            interrupted,
            faults: Vec::new(),
            differences: self.stage.differences(),
            broken_rules: self.stage.broken_rules(),
            sink_mode: self.stage.sink_mode(),
        })
    }

    /// Waits until the forwarder holds all shards.
    fn join(&mut self) -> Result<Phase> {
        let deadline = clock::now() + JOIN_MAX;
        loop {
            match self.step("joining the consumer group")? {
                Step::Ended => return Ok(Phase::Ended),
                Step::Signal => return Ok(Phase::Signal),
                Step::Tick(_) if self.stage.is_joined()? => return Ok(Phase::Done),
                Step::Tick(_) if clock::now() >= deadline => return Ok(Phase::Stalled),
                Step::Tick(_) => {}
            }
        }
    }

    /// Lets logs come for so many seconds, and watches that they come at their rate.
    fn flow(&mut self, began: Instant, args: &DemoArgs) -> Result<Phase> {
        let seconds = args.seconds;
        let end = began + Duration::from_secs(seconds);
        while clock::now() < end {
            let second = (clock::now().since(began).as_secs() + 1).min(seconds);
            match self.step(&format!("second {second} of {seconds}"))? {
                Step::Ended => return Ok(Phase::Ended),
                Step::Signal => return Ok(Phase::Signal),
                Step::Tick(position) => {
                    let due = u128::from(args.rate) * clock::now().since(began).as_millis() / 1000;
                    let due = u64::try_from(due).unwrap_or(u64::MAX).saturating_add(args.rate / RATE_SLACK);
                    self.ahead_bytes = self.ahead_bytes.max(position.sent_bytes.saturating_sub(due));
                }
            }
        }
        Ok(Phase::Done)
    }

    /// Waits until everything is delivered, acknowledged and committed, as long as there is progress.
    fn drain(&mut self, gave_up: &mut Option<String>) -> Result<Phase> {
        let (mut best, mut moved) = (Position::default(), clock::now());
        let mut phase = "the source has ended".to_owned();
        loop {
            let position = match self.step(&phase)? {
                Step::Ended => return Ok(Phase::Ended),
                Step::Signal => {
                    *gave_up = Some(format!("stopped while {phase}"));
                    return Ok(Phase::Signal);
                }
                Step::Tick(position) => position,
            };
            if position.behind.is_empty() && position.waiting == 0 {
                return Ok(Phase::Done);
            }
            let left = position.sent_logs().saturating_sub(position.delivered);
            let groups: u64 = position.behind.values().sum();
            phase = if left > 0 {
                format!("waiting for {} records to be delivered", text::count(left))
            } else {
                format!("waiting for checkpoints: {groups} log groups are not saved as done")
            };
            if (position.delivered, &position.behind) != (best.delivered, &best.behind) {
                (best, moved) = (position, clock::now());
            } else if clock::now().since(moved) >= STALL {
                *gave_up =
                    Some(format!("no progress for {} s: {}", STALL.as_secs(), verdict::behind(&position)));
                return Ok(Phase::Stalled);
            }
        }
    }

    /// Asks the forwarder to end, and waits for it.
    fn stop(&mut self) -> Result<()> {
        self.forwarder.stop().context("the forwarder cannot be told to stop")?;
        let deadline = clock::now() + STOP_MAX;
        while clock::now() < deadline {
            if !matches!(self.step("the forwarder stops")?, Step::Tick(_)) {
                break;
            }
        }
        Ok(())
    }

    /// Hears what there is to hear for one tick, then looks at everything.
    fn step(&mut self, phase: &str) -> Result<Step> {
        let due = clock::now() + TICK;
        loop {
            match self.events.recv_timeout(due.since(clock::now())) {
                Ok(Event::Signal) => return Ok(Step::Signal),
                Ok(Event::Line(line)) => self.note(&line),
                Ok(Event::LogEnd) => self.has_log_ended = true,
                Err(RecvTimeoutError::Timeout) => break,
                // Not while the signals are listened to; then only time is left.
                Err(RecvTimeoutError::Disconnected) => {
                    thread::park_timeout(TICK);
                    break;
                }
            }
        }
        let pid = self.forwarder.pid();
        self.cpu = process::cpu(pid).map_or(self.cpu, |cpu| cpu.max(self.cpu));
        let resident_bytes = process::resident_bytes(pid).unwrap_or(0);
        self.resident_bytes_max = self.resident_bytes_max.max(resident_bytes);
        if self.forwarder.ended().is_some() {
            return Ok(Step::Ended);
        }
        if self.meter_due <= clock::now() {
            self.meter_due = clock::now() + METER_EVERY;
            self.metrics = self.metrics.take().or_else(|| self.forwarder.admin().map(meter::Reader::new));
            let read = self.metrics.as_ref().and_then(meter::Reader::read);
            self.meter = read.unwrap_or(self.meter);
        }
        let position = self.stage.position()?;
        let sample = Sample {
            at: clock::now(),
            position: position.clone(),
            meter: self.meter,
            cpu: self.cpu,
            resident_bytes,
        };
        self.view.show(phase, sample);
        Ok(Step::Tick(position))
    }

    fn note(&mut self, line: &str) {
        if self.forwarder.note(line) {
            self.view.warn(line);
        }
    }

    /// Takes what the forwarder wrote last.
    fn rest_of_log(&mut self) {
        let deadline = clock::now() + LOG_END_MAX;
        while !self.has_log_ended {
            match self.events.recv_timeout(deadline.since(clock::now())) {
                Ok(Event::Line(line)) => self.note(&line),
                Ok(Event::LogEnd) => self.has_log_ended = true,
                Ok(Event::Signal) => {}
                Err(_) => return,
            }
        }
    }
}

/// Prints the verdict, and what was wrong.
fn conclude(outcome: &Outcome, forwarder: &Forwarder) -> Exit {
    let problems = outcome.problems();
    let mut page = outcome.render();
    let exit = if problems.is_empty() {
        page.push_str(match (outcome.interrupted, outcome.position.sent_logs()) {
            (true, 0) => "verdict       stopped before anything was sent\n",
            (true, _) => {
                "verdict       stopped early; PASSED: what was sent until then was delivered, nothing lost\n"
            }
            (false, _) => "verdict       PASSED: everything that was sent was delivered, nothing lost\n",
        });
        Exit::Done
    } else {
        page.push_str("verdict       FAILED\n");
        for problem in &problems {
            let _infallible = writeln!(page, "  - {problem}");
        }
        page.push_str("the last lines of the forwarder's log:\n");
        for line in forwarder.tail() {
            let _infallible = writeln!(page, "    {line}");
        }
        let _infallible = writeln!(page, "all of it: {}", forwarder.log().display());
        Exit::Failed
    };
    print(&page);
    exit
}

fn conclude_unsent() -> Exit {
    print("verdict       stopped before anything was sent\n");
    Exit::Done
}

fn print(page: &str) {
    // Where nobody reads, the exit code tells.
    let _closed = io::stdout().lock().write_all(page.as_bytes());
}

fn complain(text: &str) {
    // Where even standard error is closed, the exit code is all that is left.
    let _closed = writeln!(io::stderr(), "sls2siem demo: {text}");
}

/// CPU time between two looks, by kind of thread: names without their numbers.
fn by_kind(
    before: &BTreeMap<u32, (String, Duration)>,
    after: &BTreeMap<u32, (String, Duration)>,
) -> Vec<(String, Duration)> {
    let mut kinds: BTreeMap<&str, Duration> = BTreeMap::new();
    for (id, (name, cpu)) in after {
        let spent = cpu.saturating_sub(before.get(id).map_or(Duration::ZERO, |(_, cpu)| *cpu));
        let kind = name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '-');
        *kinds.entry(kind).or_default() += spent;
    }
    kinds.into_iter().map(|(kind, cpu)| (kind.to_owned(), cpu)).collect()
}

/// The forwarder's core, and those of the servers. With one core they share it.
fn cores() -> (usize, Vec<usize>) {
    let mut usable: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    // Interrupts tend to be served by the first cores.
    let own = usable.pop().unwrap_or(0);
    (own, usable)
}

/// Secrets of this run; they guard servers of this machine that live for seconds.
fn secrets() -> Secrets {
    let hex = || format!("{:016x}", RandomState::new().hash_one(std::process::id()));
    let (first, second) = (hex(), hex());
    let guid = [first.get(..8), first.get(8..12), first.get(12..), second.get(..4), second.get(4..)];
    Secrets {
        key_id: format!("LTAI{}", hex()),
        key_secret: format!("{}{}", hex(), hex()),
        token: guid.map(Option::unwrap_or_default).join("-"),
    }
}

/// Turns signals into events.
fn listen(events: SyncSender<Event>) -> io::Result<signal_hook::iterator::Handle> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let handle = signals.handle();
    thread::Builder::new().name("demo-signals".to_owned()).spawn(move || {
        for _signal in signals.forever() {
            if events.send(Event::Signal).is_err() {
                return;
            }
        }
    })?;
    Ok(handle)
}

/// A folder for this run; removed at the end unless it is kept.
struct Folder {
    path: PathBuf,
    is_kept: std::cell::Cell<bool>,
}

impl Folder {
    fn new() -> Result<Self> {
        let name = format!("sls2siem-demo-{:016x}", RandomState::new().hash_one(std::process::id()));
        let path = std::env::temp_dir().join(name);
        DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self { path, is_kept: false.into() })
    }

    fn keep(&self) {
        self.is_kept.set(true);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.is_kept.get() {
            // What cannot be removed now is in a folder that the system cleans.
            let _left = std::fs::remove_dir_all(Path::new(&self.path));
        }
    }
}

/// Between two looks at everything.
const TICK: Duration = Duration::from_millis(200);
/// Between two looks at the forwarder's metrics, which cost it CPU time.
const METER_EVERY: Duration = Duration::from_secs(1);
/// For the forwarder to start and to get its shards.
const JOIN_MAX: Duration = Duration::from_mins(1);
/// Without any progress after the source has ended: longer than any retry of the forwarder takes.
const STALL: Duration = Duration::from_secs(75);
/// For the forwarder to end: it may drain for 30 s.
const STOP_MAX: Duration = Duration::from_secs(45);
/// For the last lines of its log.
const LOG_END_MAX: Duration = Duration::from_secs(2);
/// Events that wait for the main loop; beyond, the log's reader waits.
const EVENTS_MAX: usize = 1024;
/// Part of a second that the two clocks may differ by.
const RATE_SLACK: u64 = 20;
/// Logs made between two looks at the signals.
const SLICE_BYTES: u64 = 32_000_000;
