//! What the receiver keeps: the events themselves, or only their numbers.
//!
//! Why: with indexer acknowledgement a 200 means "looks valid"; what a crash takes away between that and the ack is the
//! loss that a forwarder must survive. So events wait here until their ack is due, and a crash forgets those.
//! Invariants: 1. an event is stored when its data is due, or at once where there is no ack. 2. `receive` numbers grow
//! in the order of arrival. 3. what was confirmed is in the file, whatever becomes of this process.
//! Bounds: events are kept only if asked for; otherwise a few words each until due.
//! Driven by: `collector` and `conn` of one or several servers.   Spec: hec.md 7.
#![expect(clippy::disallowed_types, reason = "a test server: several threads note what they stored")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use tokio::time::Instant;

use crate::payload::{Payload, Seq};
use crate::verify::expect::{Checker, Fidelity, Metadata, identify};
use crate::verify::{Seen, Sent, Verdict, json};

/// A store that several receivers may share.
#[derive(Debug, Clone, Default)]
pub struct Store(Arc<Mutex<Inner>>);

/// One event as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Counts arrivals over all connections.
    pub receive: u64,
    /// Connection that it came on.
    pub connection: u64,
    /// Number of the request on that connection.
    pub request: u64,
    /// Indexer that took it.
    pub instance: usize,
    /// How often that indexer had been restarted.
    pub incarnation: u64,
    /// Channel, if one was given.
    pub channel: Option<String>,
    /// The id answered for its request.
    pub ack_id: Option<u64>,
    /// The number that it carries.
    pub seq: Option<Seq>,
    /// The envelope as received.
    pub envelope: String,
}

/// Where a request came from.
#[derive(Debug, Clone, Default)]
pub(super) struct Origin {
    pub(super) connection: u64,
    pub(super) request: u64,
    pub(super) server: u64,
    pub(super) instance: usize,
    pub(super) incarnation: u64,
    pub(super) channel: Option<String>,
    pub(super) ack_id: Option<u64>,
}

/// Counts of a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events stored.
    pub events: u64,
    /// Different numbers stored.
    pub unique: u64,
    /// Stored more than once.
    pub duplicates: u64,
    /// Taken, and not yet safe.
    pub waiting: u64,
    /// Taken and forgotten by a crash.
    pub crashed: u64,
    /// Stored without a number that could be read.
    pub unidentified: u64,
    /// Compared and equal, byte for byte.
    pub exact: u64,
    /// Compared and equal in content.
    pub equivalent: u64,
    /// Compared and different.
    pub mismatched: u64,
}

#[derive(Debug, Default)]
struct Inner {
    /// Everything taken, for order.
    received: Seen,
    /// Everything safe.
    stored: Seen,
    waiting: Vec<Waiting>,
    events: Vec<StoredEvent>,
    counts: Counts,
    samples: Vec<String>,
    next_receive: u64,
    keep: bool,
    out: Option<BufWriter<File>>,
    checker: Option<Checker>,
    payload: Option<Payload>,
    is_fast: bool,
}

#[derive(Debug)]
struct Waiting {
    due: Instant,
    server: u64,
    instance: usize,
    events: Vec<StoredEvent>,
}

impl Store {
    pub(super) fn open(
        keep: bool,
        out: Option<&Path>,
        payload: Option<(Payload, Metadata)>,
        is_fast: bool,
    ) -> Result<Self> {
        let out = out
            .map(|path| File::create(path).with_context(|| format!("cannot write {}", path.display())))
            .transpose()?;
        let known = payload.as_ref().map(|(payload, _)| *payload);
        Ok(Self(Arc::new(Mutex::new(Inner {
            keep,
            out: out.map(BufWriter::new),
            checker: payload.map(|(payload, metadata)| Checker::new(payload, metadata)),
            payload: known,
            is_fast,
            ..Inner::default()
        }))))
    }

    /// Notes numbers only: the fast mode.
    pub(super) fn record(&self, seqs: &[Seq]) {
        let mut inner = self.lock();
        for seq in seqs {
            inner.stored.record(*seq);
        }
        inner.counts.events += seqs.len() as u64;
    }

    /// Takes events; they are stored when `due`, at once without it.
    pub(super) fn take(&self, origin: &Origin, envelopes: &[&str], due: Option<Instant>, now: Instant) {
        let mut inner = self.lock();
        inner.settle(now);
        let events: Vec<_> = envelopes.iter().map(|envelope| inner.receive(origin, envelope)).collect();
        match due {
            Some(due) if due > now => {
                inner.waiting.push(Waiting { due, server: origin.server, instance: origin.instance, events });
            }
            _ => inner.store(events),
        }
    }

    /// What is due by now is stored: called before an id is told to be safe.
    pub(super) fn store_due(&self, now: Instant) {
        self.lock().settle(now);
    }

    /// An orderly stop of one indexer: what it holds is written.
    pub(super) fn flush(&self, server: u64, instance: usize) {
        let mut inner = self.lock();
        for waiting in inner.waiting_of(server, instance) {
            inner.store(waiting.events);
        }
    }

    /// A crash of one indexer: what it holds is gone.
    pub(super) fn crash(&self, server: u64, instance: usize, now: Instant) {
        let mut inner = self.lock();
        inner.settle(now);
        let gone: usize = inner.waiting_of(server, instance).iter().map(|waiting| waiting.events.len()).sum();
        inner.counts.crashed += gone as u64;
    }

    /// Every stored event in the order of arrival; empty unless the store keeps them.
    pub fn events(&self) -> Vec<StoredEvent> {
        let mut inner = self.lock();
        inner.settle(Instant::now());
        let mut events = inner.events.clone();
        events.sort_by_key(|event| event.receive);
        events
    }

    /// Counts so far.
    pub fn counts(&self) -> Counts {
        let mut inner = self.lock();
        inner.settle(Instant::now());
        let waiting = inner.waiting.iter().map(|waiting| waiting.events.len() as u64).sum();
        let (unique, duplicates) = (inner.stored.unique(), inner.stored.duplicates());
        Counts { unique, duplicates, waiting, ..inner.counts }
    }

    /// Different logs stored so far, per shard. Cheap: what waits for its ack is not looked at.
    pub fn per_shard(&self) -> BTreeMap<u32, u64> {
        self.lock().stored.per_shard()
    }

    /// Stored against sent. What still waits for its ack is not stored.
    pub fn verdict(&self, sent: Option<&Sent>) -> Verdict {
        let mut inner = self.lock();
        inner.settle(Instant::now());
        let unseen = inner.payload.filter(|_| inner.is_fast);
        let mut verdict = inner.stored.verdict(sent, unseen.as_ref());
        if !inner.is_fast {
            verdict.out_of_order = inner.received.late();
        }
        verdict.mismatched = inner.counts.mismatched;
        if sent.is_some() || inner.payload.is_some() {
            verdict.unexpected += inner.counts.unidentified;
        }
        verdict
    }

    /// What differed, for the first few events that did.
    pub fn samples(&self) -> Vec<String> {
        self.lock().samples.clone()
    }

    /// Writes the file out.
    pub fn sync(&self) -> Result<()> {
        let mut inner = self.lock();
        inner.settle(Instant::now());
        inner.out.as_mut().map_or(Ok(()), |out| out.flush().context("cannot write the stored events"))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoredEvent {
    /// The raw JSON text of the event.
    pub fn event(&self) -> Option<&str> {
        self.member("event")
    }

    /// The raw text of one envelope key.
    pub fn member(&self, key: &str) -> Option<&str> {
        let members = json::members(&self.envelope)?;
        members.into_iter().find(|member| member.key().as_deref() == Some(key)).map(|member| member.value)
    }
}

impl Inner {
    fn receive(&mut self, origin: &Origin, envelope: &str) -> StoredEvent {
        let seq = identify(envelope, self.payload.as_ref());
        let receive = self.next_receive;
        self.next_receive += 1;
        if let Some(seq) = seq {
            self.received.record(seq);
            self.compare(seq, envelope);
        }
        StoredEvent {
            receive,
            connection: origin.connection,
            request: origin.request,
            instance: origin.instance,
            incarnation: origin.incarnation,
            channel: origin.channel.clone(),
            ack_id: origin.ack_id,
            seq,
            envelope: if self.keep || self.out.is_some() { envelope.to_owned() } else { String::new() },
        }
    }

    fn compare(&mut self, seq: Seq, envelope: &str) {
        match self.checker.as_mut().map(|checker| checker.check(seq, envelope)) {
            None => {}
            Some(Ok(Fidelity::Exact)) => self.counts.exact += 1,
            Some(Ok(Fidelity::Equivalent)) => self.counts.equivalent += 1,
            Some(Err(why)) => {
                self.counts.mismatched += 1;
                if self.samples.len() < MAX_SAMPLES {
                    self.samples.push(why);
                }
            }
        }
    }

    fn settle(&mut self, now: Instant) {
        if self.waiting.iter().all(|waiting| waiting.due > now) {
            return;
        }
        let (due, waiting) =
            std::mem::take(&mut self.waiting).into_iter().partition(|waiting| waiting.due <= now);
        self.waiting = waiting;
        for waiting in due {
            self.store(waiting.events);
        }
    }

    fn waiting_of(&mut self, server: u64, instance: usize) -> Vec<Waiting> {
        let is_of = |waiting: &Waiting| waiting.server == server && waiting.instance == instance;
        let (found, rest) = std::mem::take(&mut self.waiting).into_iter().partition(is_of);
        self.waiting = rest;
        found
    }

    fn store(&mut self, events: Vec<StoredEvent>) {
        self.counts.events += events.len() as u64;
        for event in events {
            match event.seq {
                Some(seq) => {
                    self.stored.record(seq);
                }
                None => self.counts.unidentified += 1,
            }
            if let Some(out) = self.out.as_mut() {
                // White space between tokens may hold line ends; inside strings they are escaped.
                let line = event.envelope.replace(['\n', '\r'], " ");
                if let Err(why) = writeln!(out, "{line}") {
                    tracing::error!("cannot write a stored event: {why}; no more are written");
                    self.out = None;
                }
            }
            if self.keep {
                self.events.push(event);
            }
        }
        // What is answered or told after this survives the sudden death of this process.
        if let Some(Err(why)) = self.out.as_mut().map(Write::flush) {
            tracing::error!("cannot write the stored events: {why}; no more are written");
            self.out = None;
        }
    }
}

/// Differences kept as text.
const MAX_SAMPLES: usize = 10;
