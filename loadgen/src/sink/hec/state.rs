//! The state of one receiver: tokens, indexers, health, counters.
//!
//! Why: connections, the admin surface and the handle of a test all look at it and change it.
//! Invariants: 1. a restart clears the channels of its indexer and ends the connections to it. 2. No lock is held
//! across an await or while another one is taken.   Bounds: see `channel` and `store`.
//! Driven by: `collector`, `conn`, `admin`, `server`.   Spec: hec.md 7.
#![expect(clippy::disallowed_types, reason = "a test server: several threads serve one state")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::sync::watch;
use tokio::time::Instant;

use super::channel::Channels;
use super::config::{Balancer, HecConfig, Token};
use super::http::Head;
use super::store::Store;
use crate::fault::{Fault, FaultPlan};

/// Everything that the threads of one receiver share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: HecConfig,
    pub(super) server: u64,
    pub(super) store: Store,
    pub(super) stats: Stats,
    pub(super) restarts: watch::Sender<Restart>,
    pub(super) instances: Vec<Instance>,
    tokens: Mutex<Arc<[Token]>>,
    faults: Mutex<Arc<FaultPlan>>,
    health: AtomicU8,
    is_busy: AtomicBool,
    turn: AtomicUsize,
}

/// One indexer.
#[derive(Debug)]
pub(super) struct Instance {
    channels: Mutex<Channels>,
    incarnation: AtomicU64,
    down_until: Mutex<Option<Instant>>,
}

/// The last restart of the listener.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Restart {
    pub(super) count: u64,
    pub(super) downtime: Duration,
}

/// Counters; every one only grows, but for the open connections.
#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) requests: AtomicU64,
    pub(super) body_bytes: AtomicU64,
    pub(super) acks_issued: AtomicU64,
    pub(super) acks_told: AtomicU64,
    pub(super) polls: AtomicU64,
    pub(super) skipped: AtomicU64,
    pub(super) connections: AtomicU64,
    pub(super) open: AtomicU64,
    refusals: Mutex<BTreeMap<String, u64>>,
    oddities: Mutex<BTreeMap<&'static str, u64>>,
}

impl Shared {
    pub(super) fn new(mut config: HecConfig) -> Result<Self> {
        config.faults.check(KINDS, WORDS)?;
        let store = match config.store.clone() {
            Some(store) => store,
            None => Store::open(
                config.keep,
                config.out.as_deref(),
                config.payload.clone(),
                config.mode == super::Mode::Fast,
            )?,
        };
        let count = if config.balancer == Balancer::Single { 1 } else { 2 };
        let instance = |seed: u64| Instance {
            channels: Mutex::new(Channels::new(
                config.ack_delay,
                config.channel_idle,
                config.max_pending_acks,
                config.seed.wrapping_add(seed),
            )),
            incarnation: AtomicU64::new(0),
            down_until: Mutex::new(None),
        };
        Ok(Self {
            server: SERVERS.fetch_add(1, Ordering::Relaxed),
            store,
            stats: Stats::default(),
            restarts: watch::Sender::new(Restart::default()),
            instances: (0..count).map(instance).collect(),
            tokens: Mutex::new(std::mem::take(&mut config.tokens).into()),
            faults: Mutex::new(Arc::new(std::mem::take(&mut config.faults))),
            health: AtomicU8::new(17),
            is_busy: AtomicBool::new(config.busy),
            turn: AtomicUsize::new(0),
            config,
        })
    }

    /// What goes wrong with this call.
    pub(super) fn decide(&self, kind: &str) -> Option<Fault> {
        let plan = Arc::clone(&lock(&self.faults));
        plan.decide(kind)
    }

    /// The plan in force.
    pub(super) fn faults(&self) -> Arc<FaultPlan> {
        Arc::clone(&lock(&self.faults))
    }

    pub(super) fn set_faults(&self, plan: FaultPlan) -> Result<()> {
        plan.check(KINDS, WORDS)?;
        *lock(&self.faults) = Arc::new(plan);
        Ok(())
    }

    pub(super) fn tokens(&self) -> Arc<[Token]> {
        Arc::clone(&lock(&self.tokens))
    }

    pub(super) fn set_tokens(&self, tokens: Vec<Token>) {
        *lock(&self.tokens) = tokens.into();
    }

    /// Code that `/health` answers: 17 to 20, or 23 while shutting down.
    pub(super) fn health(&self) -> u8 {
        self.health.load(Ordering::Relaxed)
    }

    pub(super) fn set_health(&self, code: u8) {
        self.health.store(code, Ordering::Relaxed);
    }

    pub(super) fn set_busy(&self, busy: bool) {
        self.is_busy.store(busy, Ordering::Relaxed);
    }

    /// How long a connection may be idle.
    pub(super) fn idle_limit(&self) -> Duration {
        if self.is_busy.load(Ordering::Relaxed) { self.config.busy_idle } else { Duration::from_hours(2) }
    }

    /// The indexer that takes this request, and the cookie to set. `None` if none is up.
    pub(super) fn choose(&self, head: &Head, now: Instant) -> Option<(usize, Option<String>)> {
        let is_up = |index: usize| {
            let until = self.instances.get(index).map(|instance| *lock(&instance.down_until));
            until.is_some_and(|until| until.is_none_or(|until| until <= now))
        };
        let count = self.instances.len();
        let from = match self.config.balancer {
            Balancer::Single => return Some((0, None)),
            Balancer::Alternate => self.turn.fetch_add(1, Ordering::Relaxed),
            Balancer::Sticky => {
                let stuck = head.cookie(COOKIE).and_then(|value| value.parse::<usize>().ok());
                if let Some(index) = stuck.filter(|index| *index < count && is_up(*index)) {
                    return Some((index, None));
                }
                self.turn.fetch_add(1, Ordering::Relaxed)
            }
        };
        let index = (0..count).map(|step| from.wrapping_add(step) % count).find(|index| is_up(*index))?;
        let cookie = (self.config.balancer == Balancer::Sticky).then(|| format!("{COOKIE}={index}; Path=/"));
        Some((index, cookie))
    }

    /// Works on the channels of an indexer.
    pub(super) fn with_channels<T>(
        &self,
        instance: usize,
        work: impl FnOnce(&mut Channels) -> T,
    ) -> Option<T> {
        self.instances.get(instance).map(|instance| work(&mut lock(&instance.channels)))
    }

    pub(super) fn incarnation(&self, instance: usize) -> u64 {
        self.instances.get(instance).map_or(0, |instance| instance.incarnation.load(Ordering::Relaxed))
    }

    /// Restarts one indexer: its channels are gone; with `crash`, so is what it has not made safe.
    pub(super) fn restart(&self, index: usize, downtime: Duration, crash: bool, now: Instant) {
        let Some(instance) = self.instances.get(index) else { return };
        if crash {
            self.store.crash(self.server, index, now);
        } else {
            self.store.flush(self.server, index);
        }
        instance.incarnation.fetch_add(1, Ordering::Relaxed);
        lock(&instance.channels).clear();
        if self.config.balancer == Balancer::Single {
            self.restarts.send_modify(|restart| *restart = Restart { count: restart.count + 1, downtime });
        } else {
            *lock(&instance.down_until) = Some(now + downtime);
        }
    }
}

impl Stats {
    /// Counts an answer that is not a success.
    pub(super) fn refused(&self, status: u16, code: Option<u64>) {
        let name = code.map_or_else(|| status.to_string(), |code| format!("{status}/{code}"));
        *lock(&self.refusals).entry(name).or_default() += 1;
    }

    pub(super) fn refusals(&self) -> BTreeMap<String, u64> {
        lock(&self.refusals).clone()
    }

    /// Counts something that a careful sender would not do.
    pub(super) fn odd(&self, what: &'static str) {
        *lock(&self.oddities).entry(what).or_default() += 1;
    }

    pub(super) fn oddities(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.oddities).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Cookie of the balancer.
pub(super) const COOKIE: &str = "AWSALB";

/// Names of the calls in a fault plan.
pub const KINDS: &[&str] = &["event", "raw", "ack", "health"];

/// Words of a fault plan beyond the common ones.
pub const WORDS: &[&str] = &[
    "busy-at",
    "close",
    "crash",
    "garbled",
    "html",
    "limit",
    "never-ack",
    "no-code",
    "redirect",
    "refuse-at",
    "restart",
    "slow-read",
    "warn",
];

/// Tells receivers apart that share a store.
static SERVERS: AtomicU64 = AtomicU64::new(0);
