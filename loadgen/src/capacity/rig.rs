//! One run: servers and forwarder as processes, on cores of their own, from start to verdict.
//!
//! Why: what is measured has to be the program that is shipped, started as an operator starts it.
//! Invariants: 1. every process ends when the rig is dropped or its process dies: the servers and the shell that holds
//! a forwarder all wait on a pipe of ours. 2. every wait has an end and says what it waits for.
//! Bounds: [`JOIN`], [`STALL`], [`STOP`].   Driven by: [`super::measure`].   Spec: none.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::de::DeserializeOwned;

use super::clock;
use super::role::{Ask, GROUP, LOGSTORE, PROJECT, Setup, SinkState, SourceState, Track};
use super::spec::{Load, Spec};
use super::stages::Sampler;
use crate::verify::Verdict;

/// Which cores belong to whom.
#[derive(Debug, Clone)]
pub(super) struct Placement {
    pub(super) source: Vec<usize>,
    pub(super) sink: Vec<usize>,
    pub(super) forwarders: Vec<Vec<usize>>,
    /// What a reader of the figures has to know about it.
    pub(super) note: String,
}

/// Shares the cores out: the last ones to the forwarders, since interrupts tend to be served by the first.
pub(super) fn place(cores: &[usize], spec: &Spec) -> Placement {
    let wanted = (spec.cores * spec.consumers) as usize;
    let own = wanted.min(cores.len().saturating_sub(1)).max(1);
    let (servers, forwarders) = cores.split_at(cores.len() - own.min(cores.len()));
    let servers = if servers.is_empty() { forwarders } else { servers };
    let each = (spec.cores as usize).clamp(1, own);
    let forwarders: Vec<Vec<usize>> = (0..spec.consumers as usize)
        .map(|index| {
            forwarders.iter().copied().cycle().skip(index * each % own.max(1)).take(each).collect::<Vec<_>>()
        })
        .collect();
    let half = servers.len() / 2;
    let (source, sink) = if half == 0 { (servers, servers) } else { servers.split_at(half) };
    let mut note = format!("forwarder on core {forwarders:?}, emulator on {source:?}, sink on {sink:?}");
    if half == 0 {
        note += "; emulator and sink share a core";
    }
    if servers == forwarders.concat() {
        note += "; too few cores: servers and forwarder share one";
    } else if wanted > own {
        note += "; too few cores: forwarders share them";
    }
    Placement { source: source.to_vec(), sink: sink.to_vec(), forwarders, note }
}

/// Starts a process whose threads inherit these cores, where it is one core alone.
fn spawn_on(cores: &[usize], command: &mut Command) -> std::io::Result<Child> {
    std::thread::scope(|scope| {
        let started = scope.spawn(|| {
            if let &[id] = cores {
                core_affinity::set_for_current(core_affinity::CoreId { id });
            }
            command.spawn()
        });
        // A panic has ended the process already.
        started.join().unwrap_or_else(|_| Err(std::io::Error::other("the starting thread is gone")))
    })
}

/// A server in a process of its own.
pub(super) struct Server {
    child: Child,
    asks: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    name: &'static str,
}

impl Server {
    fn start<S: DeserializeOwned>(name: &'static str, setup: &Setup) -> Result<(Self, S)> {
        let mut command = Command::new(std::env::current_exe().context("the path of this program")?);
        command.args(["capacity", "--role", name, "--setup", &serde_json::to_string(setup)?]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = spawn_on(&setup.cores, &mut command).with_context(|| format!("start {name}"))?;
        let (asks, answers) = (child.stdin.take(), child.stdout.take().context("its output")?);
        let mut server = Self { child, asks, answers: BufReader::new(answers), name };
        let first = server.hear()?;
        Ok((server, first))
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn ask<A: DeserializeOwned>(&mut self, ask: &Ask) -> Result<A> {
        let mut asks = self.asks.as_ref().context("it is being stopped")?;
        writeln!(asks, "{}", serde_json::to_string(ask)?)
            .with_context(|| format!("ask the {}", self.name))?;
        self.hear()
    }

    fn hear<A: DeserializeOwned>(&mut self) -> Result<A> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("the {} answered `{}`", self.name, line.trim()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.asks.take());
        // It ends with its input; where it does not, nothing of it is wanted any more.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A forwarder, held by a shell that ends it in order when its own input ends.
pub(super) struct Forwarder {
    shell: Child,
    hold: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    pid: u32,
    log: PathBuf,
}

impl Forwarder {
    fn start(program: &Path, config: &Path, log: PathBuf, cores: &[usize]) -> Result<Self> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(HOLD).arg(program).arg("run").arg("--config").arg(config);
        let clean =
            |name: &str| name.starts_with("SLS") || name.starts_with("HEC") || name.starts_with("SYSLOG");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(clean)) {
            command.env_remove(name);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(fs::File::create(&log)?);
        let mut shell = spawn_on(cores, &mut command).context("start a shell")?;
        let (hold, answers) = (shell.stdin.take(), shell.stdout.take().context("its output")?);
        let mut forwarder = Self { shell, hold, answers: BufReader::new(answers), pid: 0, log };
        forwarder.pid = forwarder.line()?.parse().context("the forwarder did not start")?;
        Ok(forwarder)
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    fn is_alive(&self) -> bool {
        // A process that has ended and is not waited for yet has no memory.
        super::process::memory(self.pid).0 > 0
    }

    /// Lets it drain and end; returns its exit code.
    fn stop(&mut self) -> Result<i32> {
        drop(self.hold.take());
        let deadline = clock::now() + STOP;
        while self.is_alive() {
            ensure!(clock::now() < deadline, "the forwarder did not end within {} s", STOP.as_secs());
            clock::pause(TICK);
        }
        let code = self.line()?;
        self.shell.wait()?;
        code.parse().with_context(|| format!("the exit code of the forwarder is `{code}`"))
    }

    fn kill(&mut self) {
        // The shell's own `kill`: there is no other way without unsafe code, and it is there wherever a shell is.
        let _sent = Command::new("sh").arg("-c").arg(format!("kill -KILL {}", self.pid)).status();
        drop(self.hold.take());
        let _reaped = self.shell.wait();
    }

    fn tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines.get(lines.len().saturating_sub(8)..).unwrap_or_default().join("\n    ")
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        if self.hold.is_some() && self.is_alive() {
            self.kill();
        }
    }
}

/// What a run waits for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal {
    /// The sink has so many tenths of the logs that were made.
    Stored(u64),
    /// It has all of them, and every checkpoint is saved.
    AllSaved,
    /// The same for the logs that have become readable.
    VisibleSaved,
}

/// Everything that runs.
pub(super) struct Rig {
    pub(super) source: Server,
    pub(super) sink: Server,
    pub(super) forwarders: Vec<Forwarder>,
    pub(super) placement: Placement,
    is_stuck: bool,
    shards: u32,
    folder: Folder,
}

impl Rig {
    /// Begins to sample the first forwarder.
    pub(super) fn sampler(&self) -> Result<Sampler> {
        let forwarder = self.forwarders.first().context("there is no forwarder")?;
        Sampler::start(forwarder.pid(), &self.folder.0)
    }

    /// Starts it all and waits until the forwarders hold every shard.
    pub(super) fn start(spec: &Spec, program: &Path, cores: &[usize]) -> Result<Self> {
        let placement = place(cores, spec);
        let folder = Folder::new()?;
        let secrets = super::secrets();
        let setup = |cores: &[usize]| Setup {
            spec: spec.clone(),
            cores: cores.to_vec(),
            folder: folder.0.to_string_lossy().into_owned(),
            key: (secrets.0.clone(), secrets.1.clone()),
            token: secrets.2.clone(),
        };
        let (source, at) = Server::start::<SourceState>("source", &setup(&placement.source))?;
        let (sink, to) = Server::start::<SinkState>("sink", &setup(&placement.sink))?;
        let mut forwarders = Vec::new();
        for (index, cores) in placement.forwarders.iter().enumerate() {
            let config = folder.0.join(format!("forwarder-{index}.toml"));
            fs::write(&config, settings(spec, &folder.0, (&at, &to), &secrets, cores))?;
            let log = folder.0.join(format!("forwarder-{index}.log"));
            forwarders.push(Forwarder::start(program, &config, log, cores)?);
        }
        let is_stuck = matches!(spec.load, Load::Stuck(_));
        let shards = spec.shards;
        let mut rig = Self { source, sink, forwarders, placement, is_stuck, shards, folder };
        rig.join()?;
        Ok(rig)
    }

    fn join(&mut self) -> Result<()> {
        let deadline = clock::now() + JOIN;
        while self.source_state()?.held < self.shards {
            self.check()?;
            ensure!(clock::now() < deadline, "no forwarder took the shards within {} s", JOIN.as_secs());
            clock::pause(TICK);
        }
        Ok(())
    }

    /// An error when a forwarder has ended.
    pub(super) fn check(&self) -> Result<()> {
        match self.forwarders.iter().find(|forwarder| !forwarder.is_alive()) {
            Some(gone) => bail!("a forwarder ended early; the last lines of its log:\n    {}", gone.tail()),
            None => Ok(()),
        }
    }

    pub(super) fn source_state(&mut self) -> Result<SourceState> {
        self.source.ask(&Ask::State)
    }

    pub(super) fn sink_state(&mut self) -> Result<SinkState> {
        self.sink.ask(&Ask::State)
    }

    pub(super) fn set_rate(&mut self, rate: u64) -> Result<SourceState> {
        self.source.ask(&Ask::Rate(rate))
    }

    pub(super) fn timelines(&mut self) -> Result<(Track, Track)> {
        Ok((self.source.ask(&Ask::Timeline)?, self.sink.ask(&Ask::Timeline)?))
    }

    /// Waits until the sink has everything, and every checkpoint is saved where that is asked for.
    pub(super) fn drain(&mut self, goal: Goal) -> Result<()> {
        let (mut best, mut moved) = (0, clock::now());
        loop {
            let (source, sink) = (self.source_state()?, self.sink_state()?);
            let sent: u64 = source.sent.values().sum();
            let is_done = match goal {
                Goal::Stored(tenths) => sink.unique * 10 >= source.made * tenths,
                Goal::AllSaved => sink.unique >= source.made && source.is_drained,
                Goal::VisibleSaved => sink.unique >= sent && source.is_drained,
            };
            if is_done {
                return Ok(());
            }
            self.check()?;
            if sink.unique > best {
                (best, moved) = (sink.unique, clock::now());
            }
            let log = || self.forwarders.iter().map(Forwarder::tail).collect::<Vec<_>>().join("\n    ");
            if clock::now().duration_since(moved) > STALL {
                bail!("{} of {sent} logs arrived, then nothing for {STALL:?}:\n    {}", sink.unique, log());
            }
            clock::pause(POLL);
        }
    }

    /// Ends the forwarders in order and judges what arrived.
    pub(super) fn finish(mut self) -> Result<Verdict> {
        if self.is_stuck {
            self.forwarders.iter_mut().for_each(Forwarder::kill);
        }
        for forwarder in self.forwarders.iter_mut().filter(|_| !self.is_stuck) {
            let code = forwarder.stop()?;
            ensure!(code == 0, "the forwarder ended with exit code {code}:\n    {}", forwarder.tail());
        }
        let sent = self.source_state()?.sent;
        self.sink.ask(&Ask::Verdict(sent))
    }
}

/// The settings of one forwarder. Key and token guard servers of this machine that live for seconds.
fn settings(
    spec: &Spec,
    folder: &Path,
    (source, sink): (&SourceState, &SinkState),
    (id, secret, token): &(String, String, String),
    cores: &[usize],
) -> String {
    let list = cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let cores = if let [core] = cores { format!("{core}-{core}") } else { list };
    let folder = folder.display();
    let target = match &spec.syslog {
        Some(body) => format!(
            "[syslog]\nendpoints = [\"{}\"]\nca_file = \"{folder}/sink.pem\"\nmessage = \"{body}\"\nconnections = {}\n",
            sink.url, spec.connections
        ),
        None => format!(
            "[hec]\nendpoints = [\"{}\"]\ntoken = \"{token}\"\nca_file = \"{folder}/sink.pem\"\nbatch_bytes = \"{}B\"\n\
             connections = {}\npipeline_depth = {}\ncompression = \"{}\"\n",
            sink.url,
            spec.batch_bytes,
            spec.connections,
            spec.depth,
            if spec.gzip { "gzip" } else { "none" },
        ),
    };
    format!(
        "[sls]\nendpoint = \"{}\"\nproject = \"{PROJECT}\"\nlogstore = \"{LOGSTORE}\"\nconsumer_group = \"{GROUP}\"\n\
         access_key_id = \"{id}\"\naccess_key_secret = \"{secret}\"\nca_file = \"{folder}/sls/ca.pem\"\n\
         {}fetch_interval = \"{}ms\"\n\n\
         {target}\n\
         [runtime]\ncores = \"{cores}\"\nmemory = \"{}MiB\"\n\n[admin]\nlisten = \"127.0.0.1:0\"\n",
        source.endpoint,
        // Several members agree on their shards over some heartbeats.
        if spec.consumers > 1 { "heartbeat_interval = \"2s\"\ntimeout = \"20s\"\n" } else { "" },
        spec.fetch_ms,
        spec.memory_mib,
    )
}

/// A folder for one run, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let name = format!("loadgen-capacity-{}-{}", std::process::id(), clock::unix_us());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed now is in a folder that the system cleans.
        let _left = fs::remove_dir_all(&self.0);
    }
}

/// Starts the program, says its number, waits for the end of the input, then ends the program and says how it ended.
const HOLD: &str = "\"$0\" \"$@\" </dev/null >/dev/null & p=$!; echo $p; cat >/dev/null; \
                    kill -TERM $p 2>/dev/null; wait $p; echo $?";

/// For the forwarders to take all shards.
const JOIN: Duration = Duration::from_mins(1);
/// Without a single new log.
const STALL: Duration = Duration::from_secs(75);
/// For a forwarder to end: it may drain for 30 s.
const STOP: Duration = Duration::from_secs(45);
const TICK: Duration = Duration::from_millis(50);
const POLL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_shared_out_as_far_as_they_go() {
        let one = Spec::new("", Load::Idle);
        let two = Spec { cores: 2, consumers: 2, ..one.clone() };
        let placed = |cores: &[usize], spec: &Spec| {
            let Placement { source, sink, forwarders, note } = place(cores, spec);
            (source, sink, forwarders, note.contains("too few"))
        };
        assert_eq!(placed(&[3], &one), (vec![3], vec![3], vec![vec![3]], true));
        assert_eq!(placed(&[0, 1], &one), (vec![0], vec![0], vec![vec![1]], false));
        assert_eq!(placed(&[0, 1, 2, 3], &one), (vec![0], vec![1, 2], vec![vec![3]], false));
        assert_eq!(
            placed(&[0, 1, 2, 3, 4, 5], &two),
            (vec![0], vec![1], vec![vec![2, 3], vec![4, 5]], false)
        );
        assert_eq!(placed(&[0, 1], &Spec { consumers: 3, ..one }).2, [[1], [1], [1]]);
    }
}
