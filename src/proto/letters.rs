//! Records that the sink refuses for good: to the dead letter, or kept until somebody repairs the cause.
//!
//! Why: other senders drop what is refused, or the whole batch around it. Here such a record either is safe in a
//! file before it counts as handled, or it holds its shard.
//! Invariants: 1. a record in here is open in its ledger until the writer has said that it is on disk. 2. without a
//!  dead letter nothing in here is ever settled; it is offered to the sink again. 3. a disk that does not take the
//!  record holds the shard and is tried again without end.
//! Bounds: frames hold their credit; one notice a minute and shard.
//! Driven by: `pipeline`: `add` with what the sink refused, `handle_letter` with the writer's answers, `poll_again`
//!  after a deadline, `settled` for every segment while `is_watching`.

use core::time::Duration;
use std::collections::BTreeMap;

use super::backoff::Backoff;
use super::context::{Context, Settled, Trouble, shard_scope};
use super::event::{Action, Cause, DeadLetter, Notice, Refusal, RefusedRecord, Report};
use super::frame::{Frame, Segment};
use super::ids::{Cursor, Epoch, LetterId, ShardId};
use super::planted::{Bug, planted};
use super::time::Instant;

/// How long to wait before a record that the sink refuses is offered to it again.
pub const OFFER_AGAIN: Duration = Duration::from_secs(30);
/// Waits after a failed write: about this long at first, doubling up to the maximum.
const WRITE_BASE: Duration = Duration::from_secs(1);
const WRITE_MAX: Duration = Duration::from_secs(30);
/// Between two notices about the same shard.
const NOTICE_EVERY: Duration = Duration::from_mins(1);

/// Where a refused frame stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The writer has it.
    Writing,
    /// The write failed: not before this moment.
    WriteAt(Instant),
    /// No dead letter: it is offered to the sink again at this moment.
    OfferAt(Instant),
    /// No dead letter, and offering it again could change nothing.
    Kept,
}

#[derive(Debug)]
struct Letter {
    id: LetterId,
    frame: Frame,
    record: RefusedRecord,
    stage: Stage,
}

/// What was told about a shard's dead letters.
#[derive(Debug)]
struct Told {
    next: Instant,
    since: u64,
}

/// All refused records of a pipeline on one executor.
#[derive(Debug)]
pub struct Letters {
    held: Vec<Letter>,
    /// Offered to the sink again, not settled yet.
    offered: Vec<Segment>,
    troubles: BTreeMap<ShardId, Trouble>,
    told: BTreeMap<ShardId, Told>,
    next: u64,
    backoff: Backoff,
}

impl Letters {
    /// None yet.
    pub fn new(seed: u64) -> Self {
        Self {
            held: Vec::new(),
            offered: Vec::new(),
            troubles: BTreeMap::new(),
            told: BTreeMap::new(),
            next: 0,
            backoff: Backoff::new(WRITE_BASE, WRITE_MAX, seed),
        }
    }

    /// Takes a refused frame over; `cursor` names the pull of its first record.
    pub fn add(&mut self, now: Instant, frame: Frame, refusal: Refusal, cursor: Cursor, cx: &mut Context) {
        let Some(first) = frame.segments.first().copied() else {
            cx.pool.give(frame);
            return;
        };
        cx.counters.refused_records += u64::from(frame.records());
        self.offered.retain(|segment| !overlap(segment, &frame));
        let index =
            matches!(refusal, Refusal::Hec(_)).then(|| frame.lines().next().and_then(index_of)).flatten();
        let record = RefusedRecord { refusal, cursor, number: first.start, index };
        let id = LetterId(self.next);
        self.next += 1;
        let mut letter = Letter { id, frame, record, stage: Stage::Writing };
        if cx.has_dead_letter {
            if planted(Bug::LetterCountsAtOnce) {
                cx.settle(&letter.frame.segments, Settled::DeadLettered);
            }
            write(&letter, cx);
        } else {
            let again = !matches!(letter.record.refusal, Refusal::Oversize { .. });
            letter.stage = if again { Stage::OfferAt(now + OFFER_AGAIN) } else { Stage::Kept };
            let cause = Cause::Refused(Box::new(letter.record.clone()));
            let wait = if again { OFFER_AGAIN } else { Duration::ZERO };
            self.troubles.entry(first.shard).or_default().raise(cx, shard_scope(first.shard), cause, wait);
        }
        self.held.push(letter);
    }

    /// The writer says whether a record is on disk.
    pub fn handle_letter(
        &mut self,
        now: Instant,
        id: LetterId,
        result: Result<(), String>,
        cx: &mut Context,
    ) {
        // A shard that was given up meanwhile has taken its letters with it.
        let Some(at) = self.held.iter().position(|letter| letter.id == id) else { return };
        match result.or_else(|detail| if planted(Bug::LetterFailureCounts) { Ok(()) } else { Err(detail) }) {
            Ok(()) => {
                let Letter { frame, record, .. } = self.held.swap_remove(at);
                self.backoff.reset();
                cx.counters.dead_letter_records += u64::from(frame.records());
                cx.settle(&frame.segments, Settled::DeadLettered);
                if let Some(shard) = frame.segments.first().map(|segment| segment.shard) {
                    self.tell(now, shard, u64::from(frame.records()), record, cx);
                    self.relieve(shard, cx);
                }
                cx.pool.give(frame);
            }
            Err(detail) => {
                let wait = self.backoff.next_wait();
                let Some(letter) = self.held.get_mut(at) else { return };
                letter.stage = Stage::WriteAt(now + wait);
                let Some(shard) = letter.frame.segments.first().map(|segment| segment.shard) else { return };
                let trouble = self.troubles.entry(shard).or_default();
                trouble.raise(cx, shard_scope(shard), Cause::DeadLetter(detail), wait);
            }
        }
    }

    /// The next frame to offer to the sink again. Writes that are due are asked for.
    pub fn poll_again(&mut self, now: Instant, cx: &mut Context) -> Option<Frame> {
        for letter in &mut self.held {
            if matches!(letter.stage, Stage::WriteAt(at) if at <= now && !planted(Bug::LetterIsNotRetried)) {
                letter.stage = Stage::Writing;
                write(letter, cx);
            }
        }
        let due = |letter: &Letter| matches!(letter.stage, Stage::OfferAt(at) if at <= now);
        let at = self.held.iter().position(due)?;
        let Letter { frame, .. } = self.held.remove(at);
        self.offered.extend(frame.segments.iter().copied());
        Some(frame)
    }

    /// True while `settled` wants to hear.
    pub fn is_watching(&self) -> bool {
        !self.offered.is_empty()
    }

    /// Records are settled: what was refused before may be among them.
    pub fn settled(&mut self, segment: &Segment, cx: &mut Context) {
        let before = self.offered.len();
        self.offered.retain(|offered| !same(offered, segment));
        if self.offered.len() < before {
            self.relieve(segment.shard, cx);
        }
    }

    /// When `poll_again` is wanted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = |letter: &Letter| match letter.stage {
            Stage::WriteAt(_) if planted(Bug::LetterIsNotRetried) => None,
            Stage::WriteAt(at) | Stage::OfferAt(at) => Some(at),
            Stage::Writing | Stage::Kept => None,
        };
        self.held.iter().filter_map(due).min()
    }

    /// True while a refused record of this shard waits for an operator or for the disk.
    pub fn holds(&self, shard: ShardId) -> bool {
        self.troubles.get(&shard).is_some_and(Trouble::is_raised)
    }

    /// The holding of a shard is over: its records are somebody else's now.
    pub fn forget(&mut self, shard: ShardId, epoch: Epoch, cx: &mut Context) {
        let stale = |segment: &Segment| segment.shard == shard && segment.epoch == epoch;
        let mut kept = Vec::with_capacity(self.held.len());
        for letter in self.held.drain(..) {
            if letter.frame.segments.iter().all(stale) {
                cx.pool.give(letter.frame);
            } else {
                kept.push(letter);
            }
        }
        self.held = kept;
        self.offered.retain(|segment| !stale(segment));
        self.told.remove(&shard);
        self.relieve(shard, cx);
    }

    /// The trouble of a shard is over with its last refused record.
    fn relieve(&mut self, shard: ShardId, cx: &mut Context) {
        let waits = self.held.iter().any(|letter| {
            letter.stage != Stage::Writing
                && letter.frame.segments.iter().any(|segment| segment.shard == shard)
        });
        let waits = waits || self.offered.iter().any(|segment| segment.shard == shard);
        if !waits && let Some(mut trouble) = self.troubles.remove(&shard) {
            trouble.clear(cx, shard_scope(shard));
        }
    }

    fn tell(&mut self, now: Instant, shard: ShardId, records: u64, record: RefusedRecord, cx: &mut Context) {
        let told = self.told.entry(shard).or_insert(Told { next: now, since: 0 });
        told.since += records;
        if told.next <= now {
            let records = core::mem::take(&mut told.since);
            told.next = now + NOTICE_EVERY;
            cx.reports.push_back(Report::Notice(Notice::DeadLettered {
                shard,
                records,
                last: Box::new(record),
            }));
        }
    }
}

/// Asks the writer.
fn write(letter: &Letter, cx: &mut Context) {
    let Some(first) = letter.frame.segments.first() else { return };
    cx.actions.push_back(Action::DeadLetter(Box::new(DeadLetter {
        id: letter.id,
        shard: first.shard,
        record: letter.record.clone(),
        bytes: letter.frame.bytes.clone(),
    })));
}

fn same(a: &Segment, b: &Segment) -> bool {
    (a.shard, a.epoch, a.pull) == (b.shard, b.epoch, b.pull) && a.start < b.end && b.start < a.end
}

fn overlap(segment: &Segment, frame: &Frame) -> bool {
    frame.segments.iter().any(|other| same(segment, other))
}

/// The index that an event of HEC names.
pub fn index_of(line: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Envelope {
        index: Option<String>,
    }
    serde_json::from_slice::<Envelope>(line).ok()?.index.filter(|index| !index.is_empty())
}

#[cfg(test)]
mod tests;
