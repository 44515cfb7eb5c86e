//! Counts of what the emulator did.
//!
//! Why: a test or a person at the terminal asks what really went over the wire.
//! Invariants: 1. counts only grow.   Bounds: one entry per call kind and per error code.
//! Driven by: `api`.   Spec: none.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// What the server did so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Connections accepted.
    pub connections: u64,
    /// Requests, faulty ones included.
    pub requests: u64,
    /// Pulls answered with 200.
    pub pulls: u64,
    /// Those of them without a log group.
    pub pulls_empty: u64,
    /// Bytes of their bodies.
    pub wire_bytes: u64,
    /// The same before compression.
    pub raw_bytes: u64,
    /// Log groups served.
    pub groups: u64,
    /// Logs served.
    pub records: u64,
    /// Log groups taken by `PutLogs`.
    pub puts: u64,
    /// Checkpoints saved.
    pub commits: u64,
    /// Checkpoints refused.
    pub commits_refused: u64,
    /// Heartbeats answered.
    pub heartbeats: u64,
    /// Requests by call.
    pub calls: BTreeMap<String, u64>,
    /// Refusals by error code, injected ones included.
    pub refusals: BTreeMap<String, u64>,
    /// Hits of each rule of the fault plan.
    pub faults: BTreeMap<String, u64>,
}

/// The counters behind it.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) pulls: AtomicU64,
    pub(crate) pulls_empty: AtomicU64,
    pub(crate) wire_bytes: AtomicU64,
    pub(crate) raw_bytes: AtomicU64,
    pub(crate) groups: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) puts: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) commits_refused: AtomicU64,
    pub(crate) heartbeats: AtomicU64,
    calls: Mutex<BTreeMap<&'static str, u64>>,
    refusals: Mutex<BTreeMap<String, u64>>,
}

impl Counters {
    pub(crate) fn call(&self, kind: &'static str) {
        *self.calls.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_insert(0) += 1;
    }

    pub(crate) fn refusal(&self, code: &str) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        *refusals.entry(code.to_owned()).or_insert(0) += 1;
    }

    /// A copy of all.
    pub(crate) fn snapshot(&self, faults: Vec<(String, u64)>) -> Stats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        Stats {
            connections: of(&self.connections),
            requests: of(&self.requests),
            pulls: of(&self.pulls),
            pulls_empty: of(&self.pulls_empty),
            wire_bytes: of(&self.wire_bytes),
            raw_bytes: of(&self.raw_bytes),
            groups: of(&self.groups),
            records: of(&self.records),
            puts: of(&self.puts),
            commits: of(&self.commits),
            commits_refused: of(&self.commits_refused),
            heartbeats: of(&self.heartbeats),
            calls: calls.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect(),
            refusals: refusals.clone(),
            faults: faults.into_iter().collect(),
        }
    }
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}
