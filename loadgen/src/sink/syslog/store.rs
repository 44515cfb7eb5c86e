//! What the receiver keeps: the messages themselves, or only their numbers.
//!
//! Why: nothing lost, nothing twice is a claim about every log, so every message is traced back to the log that it
//! carries, and what it says is compared with that log.
//! Invariants: 1. `receive` numbers grow in the order of arrival. 2. a message counts once it was read whole.
//! Bounds: messages are kept only if asked for; a bit per log otherwise.
//! Driven by: the connections of one or several servers.   Spec: contract.md.
#![expect(clippy::disallowed_types, reason = "a test server: several threads note what they took")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::config::Transport;
use super::expect::{Agreement, Checker, Expectation};
use super::parsed::Parsed;
use super::parts::{Part, Parts};
use super::scan::Scanner;
use crate::payload::{Payload, Seq};
use crate::verify::{Arrival, Seen, Sent, Verdict, json};

/// A store that several receivers may share.
#[derive(Debug, Clone, Default)]
pub struct Store(Arc<Mutex<Inner>>);

/// One message as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// Counts arrivals over all connections.
    pub receive: u64,
    /// Transport that it came by.
    pub transport: Transport,
    /// Connection that it came on; 0 for datagrams.
    pub connection: u64,
    /// The number of the log that it carries.
    pub seq: Option<Seq>,
    /// The message without its frame.
    pub bytes: Vec<u8>,
}

/// Where a message came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub(super) transport: Transport,
    pub(super) connection: u64,
}

/// Counts of a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages.
    pub messages: u64,
    /// Bytes of the messages, without frames.
    pub bytes: u64,
    /// Different numbers.
    pub unique: u64,
    /// Arrivals of numbers that were there.
    pub duplicates: u64,
    /// Logs without contents: they carry no number, and are told by their time.
    pub unnumbered: u64,
    /// Messages that are a part of a record that was split; the record counts when all of them are there.
    pub parts: u64,
    /// Messages that cannot be traced back to a log.
    pub unidentified: u64,
    /// Bodies that are not UTF-8.
    pub not_utf8: u64,
    /// Compared and equal, byte for byte.
    pub exact: u64,
    /// Compared and equal in content.
    pub equivalent: u64,
    /// Compared and equal up to where the text was cut.
    pub cut: u64,
    /// Header compared and equal; the body is in a form that is not compared.
    pub header_only: u64,
    /// Compared and different.
    pub mismatched: u64,
}

#[derive(Debug, Default)]
struct Inner {
    seen: Seen,
    parts: Parts,
    unnumbered: BTreeMap<u32, u64>,
    messages: Vec<StoredMessage>,
    counts: Counts,
    samples: Vec<String>,
    keep: bool,
    out: Option<BufWriter<File>>,
    checker: Option<Checker>,
    payload: Option<Payload>,
    is_fast: bool,
}

impl Store {
    pub(super) fn open(
        keep: bool,
        out: Option<&Path>,
        payload: Option<Expectation>,
        is_fast: bool,
    ) -> Result<Self> {
        let out = out
            .map(|path| File::create(path).with_context(|| format!("cannot write {}", path.display())))
            .transpose()?;
        Ok(Self(Arc::new(Mutex::new(Inner {
            keep,
            out: out.map(BufWriter::new),
            payload: payload.as_ref().map(|expectation| expectation.payload),
            checker: payload.map(Checker::new),
            is_fast,
            ..Inner::default()
        }))))
    }

    /// Notes messages without looking into them, but for their numbers.
    pub(super) fn record(&self, scanner: &Scanner, messages: &[&[u8]]) {
        let seqs: Vec<_> = messages.iter().map(|message| scanner.find(message)).collect();
        let mut inner = self.lock();
        for (seq, message) in seqs.into_iter().zip(messages) {
            inner.counts.messages += 1;
            inner.counts.bytes += message.len() as u64;
            match seq {
                Some(seq) => {
                    inner.seen.record(seq);
                }
                None => inner.counts.unidentified += 1,
            }
        }
    }

    /// Takes a message that was parsed; one that breaks a rule is taken as well, unparsed.
    pub(super) fn take(&self, scanner: &Scanner, origin: Origin, bytes: &[u8], parsed: Option<&Parsed<'_>>) {
        let body = parsed.map_or(bytes, Parsed::body);
        let part = parsed.and_then(|_| Part::of(body));
        let seq = if part.is_some() { None } else { identify(scanner, body) };
        let whole = self.lock().take(origin, bytes, parsed, (seq, part.as_ref()));
        if let (Some(whole), Some(parsed)) = (whole, parsed) {
            let seq = identify(scanner, &whole);
            self.lock().judge(bytes, Some(&parsed.with_body(&whole)), seq);
        }
    }

    /// Every message in the order of arrival; empty unless the store keeps them.
    pub fn messages(&self) -> Vec<StoredMessage> {
        self.lock().messages.clone()
    }

    /// Counts so far.
    pub fn counts(&self) -> Counts {
        let inner = self.lock();
        let unnumbered = inner.unnumbered.values().sum();
        Counts {
            unique: inner.seen.unique(),
            duplicates: inner.seen.duplicates(),
            unnumbered,
            ..inner.counts
        }
    }

    /// Arrived against sent. Of logs without a number that no body tells, one twice hides one lost.
    pub fn verdict(&self, sent: Option<&Sent>) -> Verdict {
        let inner = self.lock();
        let payload = inner.payload;
        // Unless all was seen, nobody knows which of the logs without a number are missing: they are counted below.
        let unseen = payload.filter(|_| inner.is_fast || !inner.unnumbered.is_empty());
        let mut verdict = inner.seen.verdict(sent, unseen.as_ref());
        verdict.mismatched = inner.counts.mismatched;
        if sent.is_some() || payload.is_some() {
            let foreign = if inner.is_fast { 0 } else { inner.counts.unidentified };
            verdict.unexpected += foreign;
        }
        if let (Some(payload), Some(sent), false) = (unseen, sent, inner.is_fast) {
            for (shard, count) in &sent.0 {
                let due = payload.unnumbered_before(*count);
                let found = inner.unnumbered.get(shard).copied().unwrap_or(0);
                verdict.stored_unique += found.min(due);
                verdict.duplicates += found.saturating_sub(due);
                verdict.lost += due.saturating_sub(found);
            }
        }
        verdict
    }

    /// What differed, for the first few messages that did.
    pub fn samples(&self) -> Vec<String> {
        self.lock().samples.clone()
    }

    /// Writes the file out.
    pub fn sync(&self) -> Result<()> {
        self.lock().out.as_mut().map_or(Ok(()), |out| out.flush().context("cannot write the messages"))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Takes a message; gives the body of a record of which it is the last missing part.
    fn take(
        &mut self,
        origin: Origin,
        bytes: &[u8],
        parsed: Option<&Parsed<'_>>,
        (seq, part): (Option<Seq>, Option<&Part<'_>>),
    ) -> Option<Vec<u8>> {
        let receive = self.counts.messages;
        self.counts.messages += 1;
        self.counts.bytes += bytes.len() as u64;
        if parsed.is_some_and(|parsed| std::str::from_utf8(parsed.body()).is_err()) {
            self.counts.not_utf8 += 1;
        }
        self.write(origin, bytes, parsed, seq);
        if self.keep {
            let (transport, connection) = (origin.transport, origin.connection);
            self.messages.push(StoredMessage { receive, transport, connection, seq, bytes: bytes.to_vec() });
        }
        if let Some(part) = part {
            self.counts.parts += 1;
            return self.parts.take(part);
        }
        self.judge(bytes, parsed, seq);
        None
    }

    /// Counts a whole record as the log that it carries, and compares it.
    fn judge(&mut self, bytes: &[u8], parsed: Option<&Parsed<'_>>, seq: Option<Seq>) {
        let by_time = || identify_by_time(self.payload.as_ref()?, parsed?);
        let Some(seq) = seq.or_else(by_time) else {
            if let Some(shard) = parsed.and_then(|parsed| self.shard_of_unnumbered(parsed)) {
                *self.unnumbered.entry(shard).or_default() += 1;
            } else {
                self.counts.unidentified += 1;
                self.sample(|| format!("no number in {}", clip(bytes)));
            }
            return;
        };
        if self.seen.record(seq) != Arrival::OutOfRange
            && let Some(parsed) = parsed
        {
            self.compare(seq, parsed);
        }
    }

    fn shard_of_unnumbered(&self, parsed: &Parsed<'_>) -> Option<u32> {
        let Parsed::Rfc5424(message) = parsed else { return None };
        let seconds = u64::try_from(message.stamp?.micros / 1_000_000).ok()?;
        // Its nanoseconds, which hold the number, do not fit a header.
        self.payload?.shard_of_unnumbered(seconds)
    }

    fn compare(&mut self, seq: Seq, parsed: &Parsed<'_>) {
        match self.checker.as_mut().map(|checker| checker.check(seq, parsed)) {
            None => {}
            Some(Ok(Agreement::Exact)) => self.counts.exact += 1,
            Some(Ok(Agreement::Equivalent)) => self.counts.equivalent += 1,
            Some(Ok(Agreement::Cut)) => self.counts.cut += 1,
            Some(Ok(Agreement::HeaderOnly)) => self.counts.header_only += 1,
            Some(Err(why)) => {
                self.counts.mismatched += 1;
                self.sample(|| why);
            }
        }
    }

    fn sample(&mut self, text: impl FnOnce() -> String) {
        if self.samples.len() < MAX_SAMPLES {
            self.samples.push(text());
        }
    }

    fn write(&mut self, origin: Origin, bytes: &[u8], parsed: Option<&Parsed<'_>>, seq: Option<Seq>) {
        let Some(out) = self.out.as_mut() else { return };
        let line = json!({
            "transport": origin.transport.scheme(),
            "connection": origin.connection,
            "seq": seq.map(|seq| seq.to_string()),
            "valid": parsed.is_some(),
            "message": String::from_utf8_lossy(bytes),
        });
        // Flushed before it is answered: it survives the sudden death of this process.
        if let Err(why) = writeln!(out, "{line}").and_then(|()| out.flush()) {
            tracing::error!("cannot write a message: {why}; no more are written");
            self.out = None;
        }
    }
}

/// The number of the log that a body carries: by its JSON where it is whole, by its text otherwise.
fn identify(scanner: &Scanner, body: &[u8]) -> Option<Seq> {
    let members = std::str::from_utf8(body).ok().and_then(json::members);
    let Some(members) = members else { return scanner.find(body) };
    let member = members.iter().find(|member| member.key().as_deref() == Some("seq"))?;
    Seq::parse(json::string(member.value)?.as_bytes())
}

/// The number of a log without contents, from its time, as far as header and body tell it.
fn identify_by_time(payload: &Payload, parsed: &Parsed<'_>) -> Option<Seq> {
    let members = std::str::from_utf8(parsed.body()).ok().and_then(json::members)?;
    let number = |name: &str| {
        let member = members.iter().find(|member| member.key().as_deref() == Some(name))?;
        json::string(member.value)?.parse::<u64>().ok()
    };
    let (seconds, shown) = match parsed {
        Parsed::Rfc5424(message) => {
            let micros = u64::try_from(message.stamp?.micros).ok()?;
            (micros / 1_000_000, micros % 1_000_000 * 1000)
        }
        Parsed::Rfc3164(_) => (number("__time__")?, 0),
    };
    let nanos = number("__time_ns_part__").unwrap_or(shown);
    payload.number_by_time(seconds, u32::try_from(nanos).ok()?)
}

/// The beginning of a message for an operator's eyes.
pub(super) fn clip(bytes: &[u8]) -> String {
    let shown = bytes.get(..CLIP_BYTES).unwrap_or(bytes);
    format!("{:?}", String::from_utf8_lossy(shown))
}

/// Differences kept as text.
const MAX_SAMPLES: usize = 10;
const CLIP_BYTES: usize = 160;
