//! The state of one receiver: faults, counters, and what broke a rule.
//!
//! Why: connections, the admin surface and the handle of a test all look at it and change it.
//! Invariants: no lock is held across an await.   Bounds: `MAX_SAMPLES` violations are kept with their text, all are
//! counted.   Driven by: `conn`, `relp_conn`, `udp`, `server`.   Spec: none.
#![expect(clippy::disallowed_types, reason = "a test server: several threads serve one state")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use tokio::sync::watch;

use super::config::{Mode, SyslogConfig, Transport};
use super::parsed::Parsed;
use super::scan::Scanner;
use super::store::{Origin, Store, clip};
use crate::fault::{Fault, FaultPlan};

/// Everything that the threads of one receiver share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: SyslogConfig,
    pub(super) store: Store,
    pub(super) scanner: Scanner,
    pub(super) stats: Stats,
    pub(super) restarts: watch::Sender<Restart>,
    faults: Mutex<Arc<FaultPlan>>,
    is_faulty: AtomicBool,
}

/// The last restart.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Restart {
    pub(super) count: u64,
    pub(super) downtime: Duration,
    /// Whether connections are reset; otherwise they are closed.
    pub(super) is_crash: bool,
}

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Transport.
    pub transport: &'static str,
    /// Connection; 0 for datagrams.
    pub connection: u64,
    /// Offset of the frame, or of the datagram's message, in the bytes of the connection.
    pub frame_at: u64,
    /// Offset in the frame or message of the byte at which it shows.
    pub at: usize,
    /// What is wrong.
    pub what: String,
    /// The beginning of the frame or message.
    pub text: String,
}

/// Counters; every one only grows, but for the open connections.
#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) connections: AtomicU64,
    pub(super) open: AtomicU64,
    pub(super) wire_bytes: AtomicU64,
    /// Streams that the sender ended and that were read to their end.
    pub(super) ended: AtomicU64,
    /// Streams that broke.
    pub(super) broken: AtomicU64,
    /// Streams that ended within a frame.
    pub(super) partial: AtomicU64,
    pub(super) counted_frames: AtomicU64,
    pub(super) lines: AtomicU64,
    pub(super) relp_opens: AtomicU64,
    pub(super) relp_closes: AtomicU64,
    pub(super) relp_responses: AtomicU64,
    pub(super) relp_outstanding_max: AtomicU64,
    violations: Mutex<Violations>,
    by_transport: [AtomicU64; Transport::ALL.len()],
}

#[derive(Debug, Default)]
struct Violations {
    counts: BTreeMap<String, u64>,
    samples: Vec<Violation>,
}

/// A place in the stream of one connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) origin: Origin,
    pub(super) frame_at: u64,
}

impl Shared {
    pub(super) fn new(mut config: SyslogConfig) -> Result<Self> {
        config.faults.check(KINDS, WORDS)?;
        let store = match config.store.clone() {
            Some(store) => store,
            None => Store::open(
                config.keep,
                config.out.as_deref(),
                config.payload.take(),
                config.mode == Mode::Fast,
            )?,
        };
        let faults = std::mem::take(&mut config.faults);
        Ok(Self {
            store,
            scanner: Scanner::new(),
            stats: Stats::default(),
            restarts: watch::Sender::new(Restart::default()),
            is_faulty: AtomicBool::new(!faults.is_empty()),
            faults: Mutex::new(Arc::new(faults)),
            config,
        })
    }

    pub(super) fn is_strict(&self) -> bool {
        self.config.mode == Mode::Strict
    }

    /// What goes wrong with this call.
    pub(super) fn decide(&self, kind: &str) -> Option<Fault> {
        if !self.is_faulty.load(Ordering::Relaxed) {
            return None;
        }
        let plan = self.faults();
        plan.decide(kind)
    }

    /// The plan in force.
    pub(super) fn faults(&self) -> Arc<FaultPlan> {
        Arc::clone(&lock(&self.faults))
    }

    pub(super) fn set_faults(&self, plan: FaultPlan) -> Result<()> {
        plan.check(KINDS, WORDS)?;
        let is_faulty = !plan.is_empty();
        *lock(&self.faults) = Arc::new(plan);
        self.is_faulty.store(is_faulty, Ordering::Relaxed);
        Ok(())
    }

    /// Ends every connection and refuses new ones for a while.
    pub(super) fn restart(&self, downtime: Duration, is_crash: bool) {
        self.restarts.send_modify(|restart| {
            *restart = Restart { count: restart.count + 1, downtime, is_crash };
        });
    }

    /// Takes messages of one read, by the mode. The places are those of their frames.
    pub(super) fn take(&self, messages: &[(Place, &[u8])]) {
        let Some((first, _)) = messages.first() else { return };
        let slot = Transport::ALL.iter().position(|transport| *transport == first.origin.transport);
        if let Some(counter) = slot.and_then(|slot| self.stats.by_transport.get(slot)) {
            counter.fetch_add(messages.len() as u64, Ordering::Relaxed);
        }
        if !self.is_strict() {
            let bytes: Vec<_> = messages.iter().map(|(_, bytes)| *bytes).collect();
            self.store.record(&self.scanner, &bytes);
            return;
        }
        for (place, bytes) in messages {
            let parsed = match Parsed::parse(bytes, self.config.format) {
                Ok(parsed) => Some(parsed),
                Err(why) => {
                    self.stats.violated(*place, why.at, why.what, bytes);
                    None
                }
            };
            self.store.take(&self.scanner, place.origin, bytes, parsed.as_ref());
        }
    }
}

impl Stats {
    /// Notes a broken rule.
    pub(super) fn violated(&self, place: Place, at: usize, what: &str, text: &[u8]) {
        let mut violations = lock(&self.violations);
        *violations.counts.entry(what.to_owned()).or_default() += 1;
        if violations.samples.len() < MAX_SAMPLES {
            let violation = Violation {
                transport: place.origin.transport.scheme(),
                connection: place.origin.connection,
                frame_at: place.frame_at,
                at,
                what: what.to_owned(),
                text: clip(text),
            };
            tracing::debug!("{violation:?}");
            violations.samples.push(violation);
        }
    }

    /// How often each rule was broken.
    pub(super) fn violation_counts(&self) -> BTreeMap<String, u64> {
        lock(&self.violations).counts.clone()
    }

    /// The first broken rules.
    pub(super) fn violations(&self) -> Vec<Violation> {
        lock(&self.violations).samples.clone()
    }

    /// Messages by transport.
    pub(super) fn by_transport(&self) -> BTreeMap<&'static str, u64> {
        let counts = self.by_transport.iter().map(|counter| counter.load(Ordering::Relaxed));
        Transport::ALL
            .iter()
            .map(|transport| transport.scheme())
            .zip(counts)
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names of the calls in a fault plan.
pub const KINDS: &[&str] = &["connect", "message", "eof", "open", "syslog", "close"];

/// Words of a fault plan beyond the common ones.
pub const WORDS: &[&str] = &[
    "close",
    "close-at",
    "close-at-bytes",
    "crash",
    "empty",
    "fin",
    "garbled",
    "late",
    "lost",
    "no-notify",
    "no-syslog",
    "reset-at",
    "reset-at-bytes",
    "restart",
    "serverclose",
    "serverclose-after",
    "stop-at",
    "stop-at-bytes",
    "unanswered",
    "wrong-txnr",
];

/// Violations kept with their text.
const MAX_SAMPLES: usize = 50;
