//! The file that is appended to, and the next one.
//!
//! Why: a disk can be full, go read-only or vanish while we run; what was answered "safe" must survive that, and
//! what was not must not stand there as half a line that a later one is glued to.
//! Invariants: 1. `append` returns `Ok` only after the lines and the file's name are on disk. 2. after a failure the file
//!  is cut back to its last whole line where that works; the next append begins another file.
//! Bounds: `rotate_bytes` plus one batch. Driven by: the writer's thread.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::WriterSpec;
use crate::proto::time::UnixTime;

/// Beginning and end of the names of dead letter files; between them time, process and number.
pub(super) const PREFIX: &str = "dead-letter-";
pub(super) const SUFFIX: &str = ".jsonl";

#[derive(Debug)]
struct Open {
    file: File,
    path: PathBuf,
    bytes: u64,
}

/// The files of this process.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    rotate_bytes: u64,
    open: Option<Open>,
    number: u32,
}

impl Files {
    /// Opens no file yet.
    pub(super) fn new(spec: &WriterSpec) -> Self {
        Self { dir: spec.dir.clone(), rotate_bytes: spec.rotate_bytes, open: None, number: 0 }
    }

    /// Appends whole lines and waits for the disk. The error is a text for the operator.
    pub(super) fn append(&mut self, now: UnixTime, lines: &[u8]) -> Result<(), String> {
        if self.open.as_ref().is_some_and(|open| open.bytes >= self.rotate_bytes || !open.path.exists()) {
            self.open = None;
        }
        if self.open.is_none() {
            let opened = self.begin(now).map_err(|error| format!("{}: {error}", self.dir.display()))?;
            self.open = Some(opened);
        }
        let Some(open) = &mut self.open else { return Err("no file".to_owned()) };
        let written = open.file.write_all(lines).and_then(|()| open.file.sync_data());
        match written {
            Ok(()) => {
                open.bytes += lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                let text = format!("{}: {error}", open.path.display());
                // After a failed fsync nobody knows what the disk has: cut back what can be, and leave the file.
                let _best = open.file.set_len(open.bytes).and_then(|()| open.file.sync_data());
                if open.bytes == 0 {
                    let _gone = fs::remove_file(&open.path);
                }
                self.open = None;
                Err(text)
            }
        }
    }

    fn begin(&mut self, now: UnixTime) -> io::Result<Open> {
        let stamp = stamp(now);
        loop {
            let name = format!("{PREFIX}{stamp}-{}-{}{SUFFIX}", std::process::id(), self.number);
            self.number = self.number.wrapping_add(1);
            let path = self.dir.join(name);
            match OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => {
                    // A reader that can take this lock knows that nobody appends any more.
                    if let Err(error) = file.lock() {
                        tracing::debug!(%error, "a dead letter file cannot be locked");
                    }
                    sync_dir(&self.dir)?;
                    return Ok(Open { file, path, bytes: 0 });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether a file can be written in this directory.
pub(super) fn probe(dir: &Path) -> io::Result<()> {
    let probe = dir.join(format!(".write-test-{}", std::process::id()));
    let result = File::create(&probe).and_then(|mut file| file.write_all(b"x"));
    let _gone = fs::remove_file(&probe);
    result
}

/// `20261125T225722Z`: sorts as text in the order of time.
fn stamp(now: UnixTime) -> String {
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let text = jiff::Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default();
    text.chars().filter(|c| !matches!(c, '-' | ':')).collect()
}

/// Makes names in this directory survive a crash.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
