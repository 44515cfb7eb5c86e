//! Certificates and tokens that are given as files are read again when they change.
//!
//! Why: certificates are renewed every few weeks and tokens are rotated; a forwarder that has to be restarted for that
//! stands still at night. One thread looks at the files; executors never touch a disk.
//! Invariants: 1. what cannot be read leaves in force what was read before, and is said once per change. 2. no secret is
//!  shown. Bounds: one thread, one look at each file every [`LOOK_EVERY`].
//! Driven by: [`super`]. Spec: `ca_file`, `client_cert`, `client_key`, `token_file` in README.md.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::parts;
use crate::config::{Config, PipelineConfig, SinkConfig, Unread, read_secret};
use crate::drive::{DriveError, Executors, PipelineId, TargetSpec};
use crate::proto::event::{Command, Token};
use crate::proto::ids::EndpointId;

/// Between two looks at the files. Renewals are rare; a second look costs a few system calls.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What tells that a file is another one than before. Missing files have none.
type Stamp = Option<(u64, u64, i64, i64)>;

/// The running thread.
pub(super) struct Watch {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Watch {
    /// Ends it.
    pub(super) fn stop(self) {
        drop(self.stop);
        let _panicked = self.thread.join();
    }
}

/// Files that belong together: they are read again when one of them changes.
struct Group {
    pipeline: PipelineId,
    name: String,
    table: String,
    files: Vec<(PathBuf, Stamp)>,
    kind: Kind,
    /// They have changed and could not be read: the system was short of something.
    unread: bool,
}

/// Why files that changed are not used.
struct Refused {
    cause: String,
    is_shortage: bool,
}

impl From<DriveError> for Refused {
    fn from(error: DriveError) -> Self {
        Self { cause: error.to_string(), is_shortage: error.is_shortage() }
    }
}

impl From<Unread> for Refused {
    fn from(unread: Unread) -> Self {
        let Unread { problem, shortage } = unread;
        let is_shortage = shortage.is_some();
        let cause = shortage.map_or_else(|| problem.clone(), |todo| format!("{problem} - {todo}"));
        Self { cause, is_shortage }
    }
}

enum Kind {
    Tls(Vec<TargetSpec>),
    Token(PathBuf),
}

/// Begins to look. `base`: the number of the first pipeline.
pub(super) fn watch(executors: &Arc<Executors>, config: &Config, base: u16) -> io::Result<Watch> {
    let mut groups: Vec<Group> =
        (base..).zip(&config.pipelines).flat_map(|(id, pipeline)| groups(PipelineId(id), pipeline)).collect();
    let executors = Arc::clone(executors);
    let (stop, stopped) = mpsc::channel();
    let thread = thread::Builder::new().name("s2s-files".into()).spawn(move || {
        while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
            for group in &mut groups {
                if group.has_changed() || group.unread {
                    group.renew(&executors);
                }
            }
        }
    })?;
    Ok(Watch { stop, thread })
}

fn groups(pipeline: PipelineId, config: &PipelineConfig) -> Vec<Group> {
    let (tls, token_file) = match &config.sink {
        SinkConfig::Hec(hec) => (&hec.tls, hec.token_file.clone()),
        SinkConfig::Syslog(syslog) => (&syslog.tls, None),
        SinkConfig::Stdout(_) => return Vec::new(),
    };
    let group = |files: Vec<PathBuf>, kind| Group {
        pipeline,
        name: config.name.clone(),
        table: crate::report::Place::new(config).sink.to_owned(),
        files: files.into_iter().map(|path| (path.clone(), stamp(&path))).collect(),
        kind,
        unread: false,
    };
    let files: Vec<PathBuf> =
        [&tls.ca_file, &tls.client_cert, &tls.client_key].into_iter().flatten().cloned().collect();
    let mut groups = Vec::new();
    if !files.is_empty() {
        groups.push(group(files, Kind::Tls(parts::endpoints(&config.sink))));
    }
    if let Some(path) = token_file {
        groups.push(group(vec![path.clone()], Kind::Token(path)));
    }
    groups
}

impl Group {
    fn has_changed(&mut self) -> bool {
        let mut changed = false;
        for (path, before) in &mut self.files {
            let now = stamp(path);
            // A file that is just being replaced may be missing for a moment: that is no change.
            if now.is_some() && now != *before {
                *before = now;
                changed = true;
            }
        }
        changed
    }

    fn renew(&mut self, executors: &Executors) {
        let result = self.read_again(executors);
        let names: Vec<String> = self.files.iter().map(|(path, _)| path.display().to_string()).collect();
        let (name, table, names) = (&self.name, &self.table, names.join(", "));
        match &result {
            Ok(()) => tracing::info!("pipeline {name}: [{table}] {names}: changed, read again and in use"),
            Err(Refused { is_shortage: true, .. }) if self.unread => {}
            Err(Refused { cause, is_shortage }) => tracing::warn!(
                "pipeline {name}: [{table}] {names}: changed, but cannot be used ({cause}) - nothing lost: what was read \
                 before stays in use - {}",
                if *is_shortage {
                    "it is tried again every few seconds"
                } else {
                    "repair the file, it is read again when it changes"
                }
            ),
        }
        self.unread = matches!(result, Err(Refused { is_shortage: true, .. }));
    }

    fn read_again(&self, executors: &Executors) -> Result<(), Refused> {
        match &self.kind {
            Kind::Tls(targets) => {
                for (endpoint, target) in (0..).zip(targets).filter(|(_, target)| target.tls.is_some()) {
                    executors.renew_tls(self.pipeline, EndpointId(endpoint), target)?;
                }
            }
            Kind::Token(path) => {
                let token = read_secret(path)?;
                let text = token.expose_secret().trim();
                // As at the start: it becomes part of a header.
                if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(
                        Unread::content("not a HEC token, the GUID that Splunk shows for the input").into()
                    );
                }
                let token = Token(text.to_owned().into());
                for executor in 0..executors.len() {
                    // An executor that has ended needs no token.
                    let _ended = executors.command(executor, self.pipeline, Command::Token(token.clone()));
                }
            }
        }
        Ok(())
    }
}

fn stamp(path: &Path) -> Stamp {
    let seen = std::fs::metadata(path).ok()?;
    Some((seen.ino(), seen.size(), seen.mtime(), seen.mtime_nsec()))
}
