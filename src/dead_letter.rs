//! The dead letter: records that a sink refuses for good, as lines of JSON in a directory.
//!
//! Why: one bad record must neither be dropped nor stop its shard for ever. It is written here with the reason, and
//! counts as handled only when the disk has it; `sls2siem dead-letter` shows it and sends it again.
//! Invariants: 1. an answer "safe" follows the fsync of the line and of its directory entry. 2. a line that was written
//!  in part is taken back or left behind as the torn end of a file that nobody appends to any more. 3. files are
//!  appended to or moved, never changed.
//! Bounds: one thread; [`BATCH_MAX`] records per fsync; files of `rotate_bytes` plus one batch.
//! Driven by: `cli::run` starts the [`Writer`]; executors post to a [`Mailbox`]; `cli::dead_letter` reads with [`book`].

pub mod book;
mod file;
pub mod record;

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use self::file::Files;
use self::record::{Origin, line};
use crate::proto::event::DeadLetter;
use crate::proto::time::UnixTime;
use crate::shortage::shortage;

/// Records that share one fsync.
const BATCH_MAX: usize = 1024;

/// Called once, with what became of the record.
pub type Answer = Box<dyn FnOnce(Result<(), String>) + Send>;

/// Settings of the writer.
#[derive(Clone, Debug)]
pub struct WriterSpec {
    /// Made with mode 0700 where it does not exist.
    pub dir: PathBuf,
    /// A file that is larger gets no more lines.
    pub rotate_bytes: u64,
    /// The wall clock.
    pub clock: fn() -> UnixTime,
}

/// Why there can be no dead letter.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum DeadLetterError {
    #[error("[dead_letter] dir {path:?} cannot be used: {source} - {}", dir_todo(.source))]
    Dir { path: PathBuf, source: io::Error },
    #[error("[dead_letter] dir {path:?} is not a directory - name one")]
    NotADirectory { path: PathBuf },
    #[error("{path:?} cannot be read: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path:?} is being replayed by another process - wait for its end")]
    Busy { path: PathBuf },
    #[error("the thread of the dead letter cannot be started: {0}")]
    Thread(io::Error),
}

impl DeadLetterError {
    /// The settings name what cannot be used.
    pub fn is_of_settings(&self) -> bool {
        match self {
            Self::Dir { source, .. } => shortage(source).is_none(),
            Self::NotADirectory { .. } => true,
            Self::Read { .. } | Self::Busy { .. } | Self::Thread(_) => false,
        }
    }
}

fn dir_todo(error: &io::Error) -> &'static str {
    shortage(error).unwrap_or("let the user that runs this write there")
}

/// A record and whom to tell.
struct Post {
    origin: Arc<Origin>,
    letter: DeadLetter,
    answer: Answer,
}

/// The running writer.
#[derive(Debug)]
pub struct Writer {
    posts: Sender<Post>,
    thread: JoinHandle<()>,
}

/// The way of one pipeline to the writer.
#[derive(Clone, Debug)]
pub struct Mailbox {
    origin: Arc<Origin>,
    posts: Sender<Post>,
}

impl Writer {
    /// Makes the directory, tries whether it can be written to, and starts the thread. A disk that is full is no reason
    /// not to start: a record that is refused waits for room, and what is not refused is forwarded.
    pub fn start(spec: &WriterSpec) -> Result<Self, DeadLetterError> {
        make_dir(&spec.dir)?;
        match file::probe(&spec.dir) {
            Err(error) if is_full(&error) => tracing::warn!(
                "[dead_letter] dir {:?}: {error} - nothing is lost: a record that the sink refuses holds its shard until \
                 there is room - make room",
                spec.dir
            ),
            tried => tried.map_err(|source| DeadLetterError::Dir { path: spec.dir.clone(), source })?,
        }
        let files = Files::new(spec);
        let (posts, inbox) = mpsc::channel();
        let clock = spec.clock;
        let thread = thread::Builder::new()
            .name("s2s-dead".into())
            .spawn(move || serve(files, clock, &inbox))
            .map_err(DeadLetterError::Thread)?;
        Ok(Self { posts, thread })
    }

    /// A way in for one pipeline.
    pub fn mailbox(&self, origin: Origin) -> Mailbox {
        Mailbox { origin: Arc::new(origin), posts: self.posts.clone() }
    }

    /// Ends the thread after the last [`Mailbox`] is gone.
    pub fn stop(self) {
        drop(self.posts);
        let _panicked = self.thread.join();
    }
}

impl Mailbox {
    /// Appends a record; `answer` is called from the writer's thread.
    pub fn post(&self, letter: DeadLetter, answer: Answer) {
        let post = Post { origin: Arc::clone(&self.origin), letter, answer };
        if let Err(mpsc::SendError(post)) = self.posts.send(post) {
            (post.answer)(Err("the writer of the dead letter has ended".to_owned()));
        }
    }
}

fn serve(mut files: Files, clock: fn() -> UnixTime, inbox: &Receiver<Post>) {
    while let Ok(first) = inbox.recv() {
        let mut batch = vec![first];
        batch.extend(inbox.try_iter().take(BATCH_MAX - 1));
        let now = clock();
        let mut lines = Vec::new();
        for post in &batch {
            line(&mut lines, now, &post.origin, &post.letter);
        }
        let result = files.append(now, &lines);
        for post in batch {
            (post.answer)(result.clone());
        }
    }
}

/// True for what passes when somebody makes room.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The directory, for its owner alone: it holds logs.
fn make_dir(path: &Path) -> Result<(), DeadLetterError> {
    let failed = |source| DeadLetterError::Dir { path: path.to_owned(), source };
    if !path.exists() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            file::sync_dir(parent).map_err(failed)?;
        }
    }
    let seen = std::fs::metadata(path).map_err(failed)?;
    if !seen.is_dir() {
        return Err(DeadLetterError::NotADirectory { path: path.to_owned() });
    }
    if seen.permissions().mode() & 0o007 != 0 {
        tracing::warn!(
            "[dead_letter] dir {} holds logs and is open to every user: chmod 0700",
            path.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
