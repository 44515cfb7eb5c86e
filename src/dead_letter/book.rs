//! What lies in the dead letter, and what of it was sent again.
//!
//! Why: a replay must never send a record twice because it was cut off in the middle, nor touch a file that a running
//! forwarder appends to. So a file is never changed: beside it, `NAME.done` lists the lines that were taken, and a
//! file whose lines are all taken moves to `replayed/`.
//! Invariants: 1. a line counts as done when its number is on disk. 2. a file moves only when nobody appends to it and
//!  every line is done. 3. a torn last line is not a record.
//! Bounds: one file in memory at a time. Driven by: `cli::dead_letter`. Spec: README.md, dead letter.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::DeadLetterError;
use super::file::{PREFIX, SUFFIX, sync_dir};
use super::record::Record;

/// Where files go that are done.
pub const REPLAYED: &str = "replayed";

/// One line of a file.
#[derive(Debug)]
pub struct Entry {
    /// Counted from 1.
    pub line: u64,
    /// It was sent again and taken.
    pub is_done: bool,
    /// The record, or why the line is none.
    pub record: Result<Record<'static>, String>,
}

/// A file of the dead letter.
#[derive(Debug)]
pub struct Letters {
    /// Where it is.
    pub path: PathBuf,
    /// Its whole lines.
    pub entries: Vec<Entry>,
    /// It ends in the middle of a line: a crash while that was written, and nothing was promised for it.
    pub is_torn: bool,
    /// A forwarder appends to it.
    pub is_open: bool,
}

/// The files of a directory in the order of their beginning.
pub fn files(dir: &Path) -> Result<Vec<PathBuf>, DeadLetterError> {
    let failed = |source| DeadLetterError::Read { path: dir.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

impl Letters {
    /// Reads one file.
    pub fn read(path: &Path) -> Result<Self, DeadLetterError> {
        let failed = |source| DeadLetterError::Read { path: path.to_owned(), source };
        let is_open = is_appended_to(path).map_err(failed)?;
        let text = fs::read(path).map_err(failed)?;
        let done = done_lines(path).map_err(failed)?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines = text.get(..whole).unwrap_or_default().split(|byte| *byte == b'\n');
        let entries = (1..).zip(lines).filter(|(_, line)| !line.is_empty()).map(|(number, line)| Entry {
            line: number,
            is_done: done.contains(&number),
            record: serde_json::from_slice(line).map_err(|error| error.to_string()),
        });
        let entries = entries.collect();
        Ok(Self { path: path.to_owned(), entries, is_torn: whole < text.len(), is_open })
    }

    /// Its name without the directory.
    pub fn name(&self) -> String {
        self.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    /// Lines that nobody has sent again.
    pub fn left(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !entry.is_done)
    }
}

/// The right to replay one file; held while it lives.
#[derive(Debug)]
pub struct Marks {
    path: PathBuf,
    file: File,
}

impl Marks {
    /// Opens the list of done lines; refused while another process has it.
    pub fn open(path: &Path) -> Result<Self, DeadLetterError> {
        let failed = |source| DeadLetterError::Read { path: path.to_owned(), source };
        let options = || OpenOptions::new().append(true).create(true).mode(0o600).clone();
        let file = options().open(done_path(path)).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), file }),
            Err(fs::TryLockError::WouldBlock) => Err(DeadLetterError::Busy { path: path.to_owned() }),
            Err(fs::TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// These lines were taken.
    pub fn add(&mut self, lines: &[u64]) -> io::Result<()> {
        // A crash can have left half a number: it must neither be glued to this one nor count.
        let mut text = String::from("\n");
        for line in lines {
            let _infallible = writeln!(text, "{line};");
        }
        self.file.write_all(text.as_bytes())?;
        self.file.sync_data()
    }

    /// Moves the file away where all of it is done and nobody appends to it. Returns whether it moved.
    pub fn finish(self) -> Result<bool, DeadLetterError> {
        let letters = Letters::read(&self.path)?;
        if letters.is_open || letters.left().next().is_some() {
            return Ok(false);
        }
        self.move_away().map_err(|source| DeadLetterError::Read { path: self.path.clone(), source })
    }

    fn move_away(&self) -> io::Result<bool> {
        let (Some(dir), Some(name)) = (self.path.parent(), self.path.file_name()) else { return Ok(false) };
        let away = dir.join(REPLAYED);
        if !away.exists() {
            fs::create_dir(&away)?;
            fs::set_permissions(&away, fs::metadata(dir)?.permissions())?;
        }
        // The lines first: between the two a list without lines is harmless, lines without a list would go again.
        let lines = done_path(&self.path);
        fs::rename(&self.path, away.join(name))?;
        if let Some(done) = lines.file_name() {
            fs::rename(&lines, away.join(done))?;
        }
        sync_dir(&away)?;
        sync_dir(dir)?;
        Ok(true)
    }
}

fn done_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".done");
    name.into()
}

fn done_lines(path: &Path) -> io::Result<BTreeSet<u64>> {
    match fs::read_to_string(done_path(path)) {
        // A number that a crash has cut could be another line's: only what has its end counts.
        Ok(text) => Ok(text.lines().filter_map(|line| line.strip_suffix(';')?.parse().ok()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

/// A writer holds a lock on the file that it appends to.
fn is_appended_to(path: &Path) -> io::Result<bool> {
    match File::open(path)?.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(fs::TryLockError::WouldBlock) => Ok(true),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}
