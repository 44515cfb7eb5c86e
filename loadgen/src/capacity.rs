//! `loadgen capacity`: what the forwarder costs and how fast it is, on this machine, against its targets.
//!
//! Why: a figure that nobody can repeat is a claim. One command starts servers and forwarder as processes of their own,
//! on cores of their own, measures what the kernel counts, and judges by what arrived.
//! Invariants: 1. logs are made, serialised and compressed before the clock starts. 2. exit code 0 means that nothing
//! was lost and every run came to its end; missed targets fail with `--strict` only. 3. the report says what the
//! servers had left, and who else used the forwarder's core.
//! Bounds: logs in memory, half of what the host has left; every wait has an end, see `rig`.
//! Driven by: `main`.   Spec: contract.md; the targets are those of README.md, "Numbers".

mod clock;
mod latency;
mod outcome;
mod plot;
mod process;
mod report;
mod rig;
mod role;
mod spec;
mod stages;

use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use self::latency::{Latency, Schedule};
use self::outcome::Outcome;
use self::process::{Threads, as_f64};
use self::rig::{Goal, Rig};
use self::role::{SinkState, SourceState};
use self::spec::{Load, Spec, WARM_SECONDS};
use self::stages::Sampler;
use crate::fault::{parse_duration, parse_size};
use crate::payload::Profile;

/// Flags of `loadgen capacity`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct CapacityArgs {
    /// Raw bytes a second over all shards, or `max` for full speed alone.
    #[arg(long, default_value = "10MB/s", value_parser = rate)]
    rate: Rate,
    /// Forwarder processes in one consumer group.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    consumers: u32,
    /// Runs everything that README.md quotes: shards, rates, request sizes, connections, kinds of logs.
    #[arg(long)]
    sweep: bool,
    /// Writes report.html and report.json there.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// The forwarder; `sls2siem` beside this program if absent.
    #[arg(long, value_name = "PATH")]
    forwarder: Option<PathBuf>,
    /// Length of what is measured at a steady rate.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Raw bytes of logs that are forwarded at full speed; six tenths in the middle are measured.
    #[arg(long, default_value = "400MB", value_parser = parse_size)]
    volume: u64,
    /// Runs each measurement so many times and shows the median.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=99))]
    repeat: u32,
    /// Shards of the logstore.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    shards: u32,
    /// What the logs look like.
    #[arg(long, value_enum, default_value = "access-log")]
    profile: Profile,
    /// Logs in a log group.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=4096))]
    group_logs: u32,
    /// `hec.batch_bytes` of the forwarder.
    #[arg(long, default_value = "1MiB", value_parser = parse_size)]
    batch_bytes: u64,
    /// `hec.connections` of the forwarder.
    #[arg(long, default_value_t = 2)]
    connections: u32,
    /// `hec.pipeline_depth` of the forwarder.
    #[arg(long, default_value_t = 4)]
    depth: u32,
    /// Compresses requests with gzip.
    #[arg(long)]
    gzip: bool,
    /// `sls.fetch_interval` of the forwarder.
    #[arg(long, default_value = "200ms", value_parser = parse_duration)]
    fetch_interval: Duration,
    /// Cores of each forwarder.
    #[arg(long, default_value_t = 1)]
    cores: u32,
    /// The sink confirms as an indexer does: later, when it is asked.
    #[arg(long)]
    indexer_ack: bool,
    /// The sink takes RFC 5424 over TLS with this body in place of HEC.
    #[arg(long, value_parser = ["json", "kv"], conflicts_with_all = ["gzip", "indexer_ack", "sweep"])]
    syslog: Option<String>,
    /// Adds a run for each kind of sink that is sampled with perf, and splits its CPU time by stage. Part of --sweep where
    /// perf is installed.
    #[arg(long)]
    stages: bool,
    /// Fails when a target is missed.
    #[arg(long)]
    strict: bool,
    /// Serves instead: `source` or `sink`.
    #[arg(long, hide = true, requires = "setup")]
    role: Option<String>,
    #[arg(long, hide = true)]
    setup: Option<String>,
}

#[derive(Debug, Clone, Copy)]
enum Rate {
    Max,
    Bytes(u64),
}

fn rate(text: &str) -> Result<Rate> {
    if text == "max" {
        return Ok(Rate::Max);
    }
    let bytes = parse_size(text)?;
    ensure!(bytes > 0, "the rate is at least one byte a second, or max");
    Ok(Rate::Bytes(bytes))
}

impl CapacityArgs {
    fn specs(&self, with_stages: bool) -> Vec<Spec> {
        let base = Spec {
            shards: self.shards,
            consumers: self.consumers,
            seconds: self.seconds,
            profile: clap::ValueEnum::to_possible_value(&self.profile)
                .map_or_else(String::new, |value| value.get_name().to_owned()),
            group_logs: self.group_logs,
            batch_bytes: self.batch_bytes,
            connections: self.connections,
            depth: self.depth,
            gzip: self.gzip,
            fetch_ms: u64::try_from(self.fetch_interval.as_millis()).unwrap_or(u64::MAX),
            cores: self.cores.max(1),
            indexer_ack: self.indexer_ack,
            syslog: self.syslog.clone(),
            ..Spec::new("", Load::Idle)
        };
        let mut specs = match self.rate {
            Rate::Bytes(rate) if self.sweep => spec::sweep(rate, &base, self.volume),
            Rate::Max if self.sweep => spec::sweep(10_000_000, &base, self.volume),
            Rate::Bytes(rate) => spec::quick(Some(rate), &base, self.volume),
            Rate::Max => spec::quick(None, &base, self.volume),
        };
        if with_stages {
            specs.extend(spec::stages(&base, self.volume));
        }
        specs
    }

    fn program(&self) -> Result<PathBuf> {
        if let Some(path) = &self.forwarder {
            ensure!(path.is_file(), "there is no forwarder at {}", path.display());
            return Ok(path.canonicalize()?);
        }
        let own = std::env::current_exe().context("the path of this program")?;
        let beside = own.with_file_name("sls2siem");
        ensure!(
            beside.is_file(),
            "there is no sls2siem beside {} - build it (cargo build --release --workspace) or give --forwarder PATH",
            own.display()
        );
        Ok(beside)
    }
}

/// Measures, prints the table, writes the report.
pub fn run(args: &CapacityArgs) -> Result<ExitCode> {
    if let (Some(role), Some(setup)) = (&args.role, &args.setup) {
        return match role.as_str() {
            "source" => role::source(setup),
            "sink" => role::sink(setup),
            other => bail!("there is no role {other}"),
        };
    }
    let program = args.program()?;
    let no_stages = if args.stages || args.sweep { stages::missing() } else { None };
    if let Some(why) = no_stages.as_ref().filter(|_| args.stages) {
        bail!("--stages needs perf: {why}");
    }
    let specs = args.specs((args.stages || args.sweep) && no_stages.is_none());
    for spec in &specs {
        let (needs, has) = (spec.volume().saturating_mul(2), process::available());
        ensure!(
            needs <= has,
            "`{}` makes {} MB of logs in memory, and the host has room for {} MB - lower --rate, --seconds or --volume",
            spec.name,
            spec.volume() / 1_000_000,
            has / 2_000_000
        );
    }
    let cores: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    ensure!(!cores.is_empty(), "the cores of this machine cannot be listed");
    let mut out = std::io::stdout();
    let machine = report::Machine::read(&program, cores.len());
    writeln!(
        out,
        "{machine}\nTLS on both sides; sink in its fast mode: it counts and compares numbers, not contents\n"
    )?;
    let mut outcomes: Vec<Outcome> = Vec::new();
    for spec in &specs {
        let outcome = repeated(spec, &program, &cores, args.repeat)
            .with_context(|| format!("the run `{}` failed", spec.name))?;
        if outcomes.last().is_none_or(|last| last.placement != outcome.placement) {
            writeln!(out, "{}", outcome.placement)?;
        }
        writeln!(out, "{}", outcome::line(&outcome))?;
        outcomes.push(outcome);
    }
    let by_stage = outcome::by_stage(&outcomes);
    if !by_stage.is_empty() {
        writeln!(out, "\nby stage, sampled with perf:\n{}", stages::table(&by_stage))?;
    }
    if let Some(why) = no_stages {
        writeln!(out, "\nno CPU time by stage - {why}")?;
    }
    let rows = outcome::rows(&outcomes);
    writeln!(out, "\n{}", outcome::render(&rows))?;
    if let Some(folder) = &args.report {
        report::write(folder, &machine, &outcomes, &rows)?;
        writeln!(out, "report in {}", folder.display())?;
    }
    let lost = outcomes.iter().any(|outcome| !outcome.is_whole());
    let missed = rows.iter().any(|row| row.is_met == Some(false));
    Ok(if lost || (args.strict && missed) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Several runs of one spec: the median by cost, with the spread of all.
fn repeated(spec: &Spec, program: &std::path::Path, cores: &[usize], count: u32) -> Result<Outcome> {
    let mut outcomes = Vec::new();
    for _ in 0..count {
        let outcome = measure(spec, program, cores)?;
        if !outcome.is_whole() {
            return Ok(outcome);
        }
        outcomes.push(outcome);
    }
    let cpu = |outcome: &Outcome| outcome.cpu().total() / outcome.wall.max(1e-9);
    let cost = |outcome: &Outcome| if outcome.raw_bytes == 0 { cpu(outcome) } else { outcome.cost() };
    outcomes.sort_by(|left, right| cost(left).total_cmp(&cost(right)));
    let spread = outcomes.first().zip(outcomes.last()).map(|(least, most)| (cost(least), cost(most)));
    let mut median = outcomes.swap_remove(outcomes.len() / 2);
    median.spread = spread;
    median.runs = count;
    Ok(median)
}

/// Everything that is counted, at one moment.
struct Moment {
    at: Instant,
    unix_us: u64,
    forwarders: Vec<Threads>,
    servers: (Threads, Threads),
    source: SourceState,
    sink: SinkState,
    cores: Vec<(u64, u64)>,
}

impl Moment {
    fn read(rig: &mut Rig) -> Result<Self> {
        let (source, sink) = (rig.source_state()?, rig.sink_state()?);
        Ok(Self {
            source,
            sink,
            servers: (process::threads(rig.source.pid()), process::threads(rig.sink.pid())),
            cores: rig.placement.forwarders.concat().into_iter().map(process::core_ticks).collect(),
            forwarders: rig.forwarders.iter().map(|forwarder| process::threads(forwarder.pid())).collect(),
            at: clock::now(),
            unix_us: clock::unix_us(),
        })
    }
}

/// One run.
fn measure(spec: &Spec, program: &std::path::Path, cores: &[usize]) -> Result<Outcome> {
    let mut rig = Rig::start(spec, program, cores)?;
    let mut stages = None;
    let (before, after) = match spec.load {
        Load::Rate(rate) => {
            rig.set_rate(rate)?;
            wait(&rig, WARM_SECONDS)?;
            let before = Moment::read(&mut rig)?;
            wait(&rig, spec.seconds)?;
            let after = Moment::read(&mut rig)?;
            rig.set_rate(0)?;
            (before, after)
        }
        Load::Max(_) => {
            // The middle part: memory is touched for the first time before it, and as much is in flight at its beginning
            // as at its end.
            // perf takes a while to begin, so it sees the first part too.
            let sampler = spec.sampled.then(|| rig.sampler()).transpose()?;
            rig.set_rate(AT_ONCE)?;
            rig.drain(Goal::Stored(3))?;
            let before = Moment::read(&mut rig)?;
            rig.drain(Goal::Stored(9))?;
            let after = Moment::read(&mut rig)?;
            stages = sampler.map(Sampler::finish).transpose()?.flatten();
            (before, after)
        }
        Load::Idle => {
            rig.set_rate(AT_ONCE)?;
            rig.drain(Goal::AllSaved)?;
            wait(&rig, WARM_SECONDS)?;
            let before = Moment::read(&mut rig)?;
            wait(&rig, spec.seconds)?;
            (before, Moment::read(&mut rig)?)
        }
        Load::Stuck(_) => {
            let before = Moment::read(&mut rig)?;
            rig.set_rate(AT_ONCE)?;
            wait(&rig, spec.seconds)?;
            (before, Moment::read(&mut rig)?)
        }
    };
    let memory = rig.forwarders.iter().map(|forwarder| process::memory(forwarder.pid()));
    let memory = memory.fold((0, 0), |most, (now, peak)| (most.0.max(now), most.1.max(peak)));
    let is_stuck = matches!(spec.load, Load::Stuck(_));
    if !is_stuck {
        rig.drain(Goal::VisibleSaved)?;
    }
    let latency = latency_of(spec, &mut rig, &before, &after)?;
    let placement = rig.placement.clone();
    let verdict = rig.finish()?;
    Ok(Outcome {
        placement: placement.note.clone(),
        latency,
        verdict: (!is_stuck).then_some(verdict),
        resident: memory.0,
        resident_peak: memory.1,
        stages,
        ..between(spec, &placement, &before, &after)
    })
}

fn latency_of(spec: &Spec, rig: &mut Rig, before: &Moment, after: &Moment) -> Result<Option<Latency>> {
    let Load::Rate(rate) = spec.load else { return Ok(None) };
    let (source, sink) = rig.timelines()?;
    let schedule = Schedule {
        start_us: before.source.at_us,
        bytes_per_second: rate / u64::from(spec.shards.max(1)),
        from_us: before.unix_us,
        to_us: after.unix_us,
    };
    latency::measure(schedule, &source, &sink, clock::unix_us()).map(Some)
}

/// What happened between two moments.
fn between(spec: &Spec, placement: &rig::Placement, before: &Moment, after: &Moment) -> Outcome {
    let mut threads = std::collections::BTreeMap::new();
    for (now, then) in after.forwarders.iter().zip(&before.forwarders) {
        for (kind, cpu) in now.since(then) {
            let sum: &mut process::Cpu = threads.entry(kind).or_default();
            *sum = sum.plus(cpu);
        }
    }
    let sum = |now: &Threads, then: &Threads| now.since(then).values().map(|cpu| cpu.total()).sum::<f64>();
    let own: f64 = threads.values().map(|cpu: &process::Cpu| cpu.total()).sum();
    let cores = after.cores.iter().zip(&before.cores);
    let (busy, all) = cores.fold((0, 0), |(busy, all), (now, then)| {
        (busy + now.0.saturating_sub(then.0), all + now.1.saturating_sub(then.1))
    });
    let others = (as_f64(busy) / 100.0 - own).max(0.0);
    let mut server_cores = [placement.source.clone(), placement.sink.clone()].concat();
    server_cores.sort_unstable();
    server_cores.dedup();
    let mut own_cores = placement.forwarders.concat();
    own_cores.sort_unstable();
    own_cores.dedup();
    let raw_bytes = if let Load::Max(_) = spec.load {
        let stored = u128::from(after.sink.unique.saturating_sub(before.sink.unique));
        let bytes = u128::from(after.source.visible_bytes) * stored / u128::from(after.source.made.max(1));
        u64::try_from(bytes).unwrap_or(u64::MAX)
    } else {
        after.source.served_bytes.saturating_sub(before.source.served_bytes)
    };
    Outcome {
        spec: spec.clone(),
        placement: String::new(),
        wall: after.at.duration_since(before.at).as_secs_f64(),
        raw_bytes,
        wire_bytes: after.source.wire_bytes.saturating_sub(before.source.wire_bytes),
        pulls: after.source.pulls.saturating_sub(before.source.pulls),
        requests: after.sink.requests.saturating_sub(before.sink.requests),
        threads,
        source_cpu: sum(&after.servers.0, &before.servers.0),
        sink_cpu: sum(&after.servers.1, &before.servers.1),
        disturbed: others / (as_f64(all) / 100.0).max(1e-9),
        resident: 0,
        resident_peak: 0,
        latency: None,
        verdict: None,
        server_cores: server_cores.len(),
        forwarder_cores: own_cores.len(),
        spread: None,
        runs: 1,
        stages: None,
    }
}

fn wait(rig: &Rig, seconds: u64) -> Result<()> {
    let end = clock::now() + Duration::from_secs(seconds);
    loop {
        rig.check()?;
        let left = end.saturating_duration_since(clock::now());
        if left.is_zero() {
            return Ok(());
        }
        clock::pause(left.min(LOOK));
    }
}

/// Access key, its secret, HEC token of one run; they guard servers of this machine that live for seconds.
fn secrets() -> (String, String, String) {
    let hex = || format!("{:016x}", RandomState::new().hash_one(std::process::id()));
    (format!("LTAI{}", hex()), format!("{}{}", hex(), hex()), format!("{}{}", hex(), hex()))
}

/// Everything becomes readable within a moment.
const AT_ONCE: u64 = 1 << 50;
/// Between two looks whether the forwarders are alive.
const LOOK: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "Examples:
  loadgen capacity                                   10 MB/s on one shard, then full speed
  loadgen capacity --rate max --shards 8             full speed alone
  loadgen capacity --rate max --syslog kv            the same into syslog over TLS
  loadgen capacity --rate max --stages               by stage of the hot path, sampled with perf
  loadgen capacity --rate 40MB/s --shards 4 --consumers 4
  loadgen capacity --sweep --repeat 3 --report DIR   every figure of README.md, with plots";
