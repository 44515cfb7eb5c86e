//! `sls2siem dead-letter`: what was put aside, and sending it again.
//!
//! Why: records that a sink refused are safe in files; somebody has to see why, repair the cause, and get them in.
//! Invariants: 1. `ls` and `show` change nothing. 2. `replay` marks a record only after the sink has it; a record that
//!  stands in two lines (a crash in between) is sent once. Bounds: one file in memory at a time.
//! Driven by: `main`. Spec: README.md, dead letter.

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::run::parts;
use super::{DeadLetterArgs, DeadLetterCommand};
use crate::config::{Config, Environment, PipelineConfig};
use crate::control::replay::{BATCH_RECORDS, Outcome, Replayer};
use crate::dead_letter::DeadLetterError;
use crate::dead_letter::book::{Entry, Letters, Marks, files};
use crate::report::Exit;

/// Runs one of the three.
pub fn execute(args: &DeadLetterArgs, env: Environment) -> Exit {
    let result = match &args.command {
        DeadLetterCommand::Ls { dir } => directory(args, dir.as_ref(), env).and_then(|dir| ls(&dir)),
        DeadLetterCommand::Show { dir, all, files } => {
            directory(args, dir.as_ref(), env).and_then(|dir| show(&dir, *all, files))
        }
        DeadLetterCommand::Replay { files } => {
            load(args, env).and_then(|config| Replay::new(&config)?.run(files))
        }
    };
    result.unwrap_or_else(|(exit, text)| {
        let _ = writeln!(io::stderr(), "sls2siem: {text}");
        exit
    })
}

type Failure = (Exit, String);

fn failed(error: &DeadLetterError) -> Failure {
    (Exit::Failed, error.to_string())
}

/// `sls2siem dead-letter ls | head` is no failure.
fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err((Exit::Failed, format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

fn load(args: &DeadLetterArgs, env: Environment) -> Result<Config, Failure> {
    args.settings
        .load(env)
        .map(|loaded| loaded.config)
        .map_err(|error| (Exit::from(&error), error.to_string()))
}

fn directory(args: &DeadLetterArgs, dir: Option<&PathBuf>, env: Environment) -> Result<PathBuf, Failure> {
    match dir {
        Some(dir) => Ok(dir.clone()),
        None => dir_of(&load(args, env)?),
    }
}

fn dir_of(config: &Config) -> Result<PathBuf, Failure> {
    config.dead_letter.dir.clone().ok_or_else(|| {
        let text = "[dead_letter] dir is not set: there is no dead letter - set it, or name one with --dir";
        (Exit::Config, text.to_owned())
    })
}

/// One line a file, then one line for each reason.
fn ls(dir: &Path) -> Result<Exit, Failure> {
    let mut reasons: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut out = io::stdout().lock();
    written(writeln!(out, "{:>8} {:>8}  {:<24} {:<24} FILE", "RECORDS", "LEFT", "FIRST", "LAST"))?;
    for path in files(dir).map_err(|error| failed(&error))? {
        let letters = Letters::read(&path).map_err(|error| failed(&error))?;
        let times =
            || letters.entries.iter().filter_map(|entry| Some(entry.record.as_ref().ok()?.time.to_string()));
        let (first, last) = (times().next().unwrap_or_default(), times().next_back().unwrap_or_default());
        let mut notes = String::new();
        if letters.is_open {
            notes += "  (in use)";
        }
        if letters.is_torn {
            notes += "  (ends in the middle of a line: a crash; that record was sent again)";
        }
        let (records, left, name) = (letters.entries.len(), letters.left().count(), letters.name());
        written(writeln!(out, "{records:>8} {left:>8}  {first:<24} {last:<24} {name}{notes}"))?;
        for entry in letters.left() {
            let key = match &entry.record {
                Ok(record) => (record.pipeline.to_string(), record.reason.to_string()),
                Err(error) => (String::new(), format!("not a record: {error}")),
            };
            *reasons.entry(key).or_default() += 1;
        }
    }
    for ((pipeline, reason), count) in reasons {
        written(writeln!(out, "{count:>17}  {pipeline}: {reason}"))?;
    }
    Ok(Exit::Done)
}

/// A file, or a line of it, as it is typed: `NAME` or `NAME:LINE`, with or without the directory.
fn chosen(dir: &Path, text: &str) -> (PathBuf, Option<u64>) {
    let (name, line) = match text.rsplit_once(':').map(|(name, line)| (name, line.parse().ok())) {
        Some((name, Some(line))) => (name, Some(line)),
        _ => (text, None),
    };
    let path = PathBuf::from(name);
    if path.exists() { (path, line) } else { (dir.join(name), line) }
}

fn choice(dir: &Path, names: &[String]) -> Result<Vec<(PathBuf, Option<u64>)>, Failure> {
    if names.is_empty() {
        let all = files(dir).map_err(|error| failed(&error))?;
        return Ok(all.into_iter().map(|path| (path, None)).collect());
    }
    Ok(names.iter().map(|name| chosen(dir, name)).collect())
}

/// The lines as they stand in the files, for jq and the like.
fn show(dir: &Path, all: bool, names: &[String]) -> Result<Exit, Failure> {
    let mut out = io::stdout().lock();
    for (path, line) in choice(dir, names)? {
        let letters = Letters::read(&path).map_err(|error| failed(&error))?;
        for entry in &letters.entries {
            let wanted = line.map_or(all || !entry.is_done, |line| line == entry.line);
            if let (true, Ok(record)) = (wanted, &entry.record) {
                let text = serde_json::to_string(record).unwrap_or_default();
                written(writeln!(out, "{text}"))?;
            }
        }
    }
    Ok(Exit::Done)
}

/// Sending again.
struct Replay<'a> {
    dir: PathBuf,
    pipelines: BTreeMap<&'a str, &'a PipelineConfig>,
    senders: BTreeMap<&'a str, Replayer<'a>>,
    /// Names of the records that this run has sent.
    names: BTreeSet<String>,
    taken: u64,
    left: u64,
}

impl<'a> Replay<'a> {
    fn new(config: &'a Config) -> Result<Self, Failure> {
        let dir = dir_of(config)?;
        let pipelines = config.pipelines.iter().map(|pipeline| (pipeline.name.as_str(), pipeline)).collect();
        Ok(Self { dir, pipelines, senders: BTreeMap::new(), names: BTreeSet::new(), taken: 0, left: 0 })
    }

    fn run(mut self, names: &[String]) -> Result<Exit, Failure> {
        let mut result = Ok(());
        for (path, line) in choice(&self.dir, names)? {
            result = self.file(&path, line);
            if result.is_err() {
                break;
            }
        }
        let (taken, left) = (self.taken, self.left);
        written(writeln!(io::stdout(), "{taken} sent and taken, {left} left"))?;
        result?;
        Ok(if left == 0 { Exit::Done } else { Exit::Failed })
    }

    fn file(&mut self, path: &Path, line: Option<u64>) -> Result<(), Failure> {
        let mut marks = Marks::open(path).map_err(|error| failed(&error))?;
        // Read behind the lock: another replay may have ended just before.
        let letters = Letters::read(path).map_err(|error| failed(&error))?;
        let mut by_pipeline: BTreeMap<&str, Vec<(&Entry, Vec<u8>)>> = BTreeMap::new();
        for entry in letters.left().filter(|entry| line.is_none_or(|line| line == entry.line)) {
            let Ok(record) = &entry.record else {
                self.refuse(path, entry.line, "not a record");
                continue;
            };
            if !self.names.insert(record.name()) {
                mark(&mut marks, &[entry.line], path)?;
                continue;
            }
            match record.bytes() {
                Some(bytes) => by_pipeline.entry(&record.pipeline).or_default().push((entry, bytes)),
                None => self.refuse(path, entry.line, "it holds no event"),
            }
        }
        for (pipeline, records) in by_pipeline {
            self.send(path, pipeline, &records, &mut marks)?;
        }
        marks.finish().map(drop).map_err(|error| failed(&error))
    }

    fn send(
        &mut self,
        path: &Path,
        pipeline: &str,
        records: &[(&Entry, Vec<u8>)],
        marks: &mut Marks,
    ) -> Result<(), Failure> {
        let Some((name, config)) = self.pipelines.get_key_value(pipeline) else {
            for (entry, _) in records {
                self.refuse(path, entry.line, &format!("there is no pipeline {pipeline:?} in the settings"));
            }
            return Ok(());
        };
        let sender = match self.senders.entry(*name) {
            btree_map::Entry::Occupied(sender) => sender.into_mut(),
            btree_map::Entry::Vacant(place) => {
                let seed = RandomState::new().hash_one(name);
                let sender = Replayer::new(&config.sink, parts::endpoints(&config.sink), seed);
                let text =
                    || format!("pipeline {name} writes to standard output: nothing can be sent there again");
                place.insert(sender.ok_or_else(|| (Exit::Failed, text()))?)
            }
        };
        let mut refusals = Vec::new();
        let mut rest = records;
        while !rest.is_empty() {
            let bytes: Vec<Vec<u8>> =
                rest.iter().take(BATCH_RECORDS).map(|(_, bytes)| bytes.clone()).collect();
            let count = sender.fits(&bytes);
            let (batch, others) = rest.split_at(count.min(rest.len()));
            let mut outcome = Outcome::default();
            let sent = sender.send(bytes.get(..count).unwrap_or_default(), &mut outcome);
            let line = |at: &usize| batch.get(*at).map(|(entry, _)| entry.line);
            let lines: Vec<u64> = outcome.taken.iter().filter_map(line).collect();
            mark(marks, &lines, path)?;
            self.taken += lines.len() as u64;
            refusals.extend(outcome.refused.iter().filter_map(|(at, why)| Some((line(at)?, why.clone()))));
            sent.map_err(|error| {
                (Exit::Failed, format!("pipeline {name}: {error} - what was taken is marked"))
            })?;
            rest = others;
        }
        for (line, why) in refusals {
            self.refuse(path, line, &why);
        }
        Ok(())
    }

    fn refuse(&mut self, path: &Path, line: u64, why: &str) {
        self.left += 1;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let _ = writeln!(io::stderr(), "sls2siem: {name}:{line} stays: {why}");
    }
}

fn mark(marks: &mut Marks, lines: &[u64], path: &Path) -> Result<(), Failure> {
    marks.add(lines).map_err(|error| {
        let text = format!(
            "{}: the list of taken records cannot be written ({error}) - records of this batch may come twice - make room",
            path.display()
        );
        (Exit::Failed, text)
    })
}
