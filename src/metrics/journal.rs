//! The last warnings and errors of the log, for the status page.
//!
//! Why: the log is in a file on another machine; whoever opens the page wants the words themselves.
//! Invariants: 1. adding never waits. 2. the same words again are counted, not repeated.
//! Bounds: [`MAILBOX`] lines on their way, [`KEPT_MAX`] kept, each cut at [`TEXT_CHARS_MAX`] characters.
//! Driven by: the log adds, `Registry` reads with every sample.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};

/// Lines that are kept.
const KEPT_MAX: usize = 40;
const MAILBOX: usize = 64;
const TEXT_CHARS_MAX: usize = 1000;

/// The writers' end. Clones write into the same journal.
#[derive(Clone, Debug)]
pub struct Journal(Sender<Said>, Receiver<Said>);

#[derive(Clone, Debug)]
struct Said {
    at: Instant,
    is_error: bool,
    text: String,
}

impl Journal {
    /// An empty journal.
    pub fn new() -> Self {
        let (sender, receiver) = async_channel::bounded(MAILBOX);
        Self(sender, receiver)
    }

    /// Adds a line.
    pub fn add(&self, is_error: bool, text: &str) {
        let text = text.chars().take(TEXT_CHARS_MAX).collect();
        // A full mailbox loses its oldest line: the page shows the last ones anyway.
        let _superseded = self.0.force_send(Said { at: super::clock(), is_error, text });
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self::new()
    }
}

/// One line of the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Time since it was last said.
    pub ago: Duration,
    /// An error, not a warning.
    pub is_error: bool,
    /// In the words of the log.
    pub text: String,
    /// How often it was said.
    pub times: u64,
}

/// The readers' end.
#[derive(Debug, Default)]
pub(super) struct Kept(VecDeque<(Said, u64)>);

impl Kept {
    pub(super) fn collect(&mut self, journal: &Journal) {
        for _ in 0..MAILBOX {
            let Ok(said) = journal.1.try_recv() else { return };
            match self.0.iter().position(|(known, _)| known.text == said.text) {
                Some(at) => {
                    let times = self.0.remove(at).map_or(0, |(_, times)| times);
                    self.0.push_back((said, times + 1));
                }
                None => self.0.push_back((said, 1)),
            }
            if self.0.len() > KEPT_MAX {
                self.0.pop_front();
            }
        }
    }

    /// The newest first.
    pub(super) fn read(&self) -> Vec<Complaint> {
        let now = super::clock();
        let line = |(said, times): &(Said, u64)| Complaint {
            ago: now.saturating_duration_since(said.at),
            is_error: said.is_error,
            text: said.text.clone(),
            times: *times,
        };
        self.0.iter().rev().map(line).collect()
    }
}
