//! One holding of a shard on this executor: pull, check, transcode, wait for the sink, and say what is safe.
//!
//! Why: a consumer that hands a pull to its sink and forgets it loses it on the first error; here a pull stays
//! in the ledger until each of its records is acknowledged, and what the sink lost is pulled again.
//! Invariants: 1. a cursor moves on only when the body before it is complete, decompressed and counted.
//!  2. nothing is pulled without credit for its bytes. 3. at most one pull is under way. 4. a draining shard
//!  begins nothing but the repair of what it lost.
//! Bounds: one body being transcoded, one downloaded and waiting, one frame being filled.
//! Driven by: `pipeline`: handle_* of its connection, then `step` until nothing moves.
//! Spec: SLS `PullLogs`; cursors are opaque.

mod body;
mod pace;
mod pull;
mod resend;
mod safe;

use core::time::Duration;

use self::body::{Body, Entered, Filled};
use self::pace::Pace;
use self::pull::{Pull, PullEvent, Want};
use self::resend::Resend;
use self::safe::Safe;
use crate::proto::context::{Context, Trouble, shard_scope};
use crate::proto::counters::ShardGauge;
use crate::proto::event::{Action, Cause, Closed, Refusal, Report, To};
use crate::proto::flow::{Credit, Flow};
use crate::proto::format::Encoder;
use crate::proto::frame::Frame;
use crate::proto::ids::{ConnId, Cursor, Epoch, PullId, ShardId};
use crate::proto::ledger::{Ledger, Pulled, Ranges};
use crate::proto::planted::{Bug, planted};
use crate::proto::sls::api::pull_head::PullHead;
use crate::proto::sls::body::{BodyError, Compression, Decompressor};
use crate::proto::sls::error::{Reaction, SlsError, SlsErrorKind};
use crate::proto::sls::position;
use crate::proto::sls::source::Source;
use crate::proto::sls::wire;
use crate::proto::time::{Instant, UnixTime};

/// Wait after something that an operator has to repair.
const HOLD_WAIT: Duration = Duration::from_secs(5);
/// Empty pulls in a row after which a bounded run believes that nothing is left before its end.
const BARE_PULLS: u32 = 3;

/// What a shard may still do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Everything.
    Working,
    /// The position is refused; the control plane has to give another one.
    Expired,
    /// Finish what is in flight.
    Draining,
}

/// A downloaded body that waits for the one before it to be transcoded.
struct Ready {
    head: PullHead,
    compressed: Vec<u8>,
    credit: Credit,
    want: Want,
    asked: pace::Asked,
}

/// One holding of a shard.
pub struct Shard {
    id: ShardId,
    epoch: Epoch,
    phase: Phase,
    cursor: Cursor,
    end: Option<Cursor>,
    ledger: Ledger,
    pull: Pull,
    ready: Option<Ready>,
    body: Option<Body>,
    filling: Option<Frame>,
    resend: Option<Resend>,
    pace: Pace,
    trouble: Trouble,
    /// The trouble is that the quota slows it down: it works all the same.
    slowed: bool,
    /// Empty pulls in a row that moved nothing.
    bare: u32,
    safe: Safe,
    /// No credit for a frame; waits for memory to come back.
    blocked: bool,
    /// No credit for a pull; waits for memory to come back.
    starved: bool,
}

impl core::fmt::Debug for Shard {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Shard")
            .field("id", &self.id)
            .field("phase", &self.phase)
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

/// What the parts around a shard lend it for one step.
pub struct Around<'a> {
    /// Settings, keys and clock for requests.
    pub source: &'a mut Source,
    /// Record to bytes.
    pub encoder: &'a mut Encoder,
    /// Decoders with their memory.
    pub decompressor: &'a mut Decompressor,
    /// Byte credit.
    pub flow: &'a Flow,
    /// Queues, counters, buffers.
    pub cx: &'a mut Context,
}

impl Shard {
    /// A shard that will read from `cursor` on.
    pub fn new(
        now: Instant,
        id: ShardId,
        epoch: Epoch,
        cursor: Cursor,
        end: Option<Cursor>,
        seed: u64,
    ) -> Self {
        Self {
            id,
            epoch,
            phase: Phase::Working,
            cursor,
            end,
            ledger: Ledger::new(),
            pull: Pull::default(),
            ready: None,
            body: None,
            filling: None,
            resend: None,
            pace: Pace::new(now, seed),
            trouble: Trouble::default(),
            slowed: false,
            bare: 0,
            safe: Safe::new(now),
            blocked: false,
            starved: false,
        }
    }

    /// Its number.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Which holding.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Its connection to SLS.
    pub fn conn(&self) -> Option<ConnId> {
        self.pull.conn()
    }

    /// Begins to drain.
    pub fn revoke(&mut self, cx: &mut Context) {
        if planted(Bug::PullsAfterRevoke) {
            return;
        }
        self.phase = Phase::Draining;
        self.ready = None;
        if self.resend.is_none() {
            self.pull.close(cx);
        }
    }

    /// True when nothing of it is in flight any more.
    pub fn is_drained(&self) -> bool {
        matches!(self.phase, Phase::Draining) && self.ledger.is_empty() && self.body.is_none()
    }

    /// True while it waits for its end because of its end cursor or a revocation.
    pub fn is_draining(&self) -> bool {
        matches!(self.phase, Phase::Draining)
    }

    /// Closes its connection and gives its memory back.
    pub fn close(&mut self, cx: &mut Context) {
        self.pull.close(cx);
        if let Some(frame) = self.filling.take() {
            cx.pool.give(frame);
        }
        self.trouble.clear(cx, shard_scope(self.id));
    }

    /// Records that the sink has taken for good.
    pub fn acked(&mut self, pull: PullId, start: u32, end: u32) -> u32 {
        self.ledger.ack(pull, start, end)
    }

    /// Where a pull began that is not acknowledged whole.
    pub fn cursor_of(&self, pull: PullId) -> Option<Cursor> {
        self.ledger.pulled(pull).map(|pulled| pulled.from.clone())
    }

    /// Records that have to be pulled again.
    pub fn lost(&mut self, pull: PullId, start: u32, end: u32) {
        self.ledger.lose(pull, start, end);
    }

    /// The connection is ready.
    pub fn handle_connected(&mut self, now: Instant, around: &mut Around<'_>) {
        self.pull.handle_connected(now, self.id, around);
    }

    /// Bytes of the last chunk went out.
    pub fn handle_transmitted(&mut self, bytes: usize) {
        self.pull.handle_transmitted(bytes);
    }

    /// The next bytes for the connection.
    pub fn poll_transmit(&self) -> Option<&[u8]> {
        self.pull.chunk()
    }

    /// Bytes of an answer came.
    pub fn handle_received(&mut self, now: Instant, bytes: &[u8], around: &mut Around<'_>) {
        let mut rest = bytes;
        while let (used, Some(event)) = self.pull.handle_received(rest, around) {
            rest = rest.get(used..).unwrap_or_default();
            self.handle_event(now, event, around);
            if rest.is_empty() || self.pull.conn().is_none() {
                return;
            }
        }
    }

    /// The connection ended.
    pub fn handle_closed(&mut self, now: Instant, why: Closed, around: &mut Around<'_>) {
        if let Some(event) = self.pull.handle_closed(why, around) {
            self.handle_event(now, event, around);
        }
    }

    /// A deadline passed.
    pub fn handle_timeout(&mut self, now: Instant, around: &mut Around<'_>) {
        if let Some(event) = self.pull.handle_timeout(now, around) {
            self.handle_event(now, event, around);
        }
    }

    /// The next moment that something has to be done.
    pub fn poll_timeout(&self, pull_timeout: Duration, batch_age: Duration) -> Option<Instant> {
        let pull = self.pull.poll_timeout(pull_timeout);
        let again =
            (!self.pull.is_busy() && !self.starved && self.wants_pull()).then_some(self.pace.not_before());
        let flush = self.filling.as_ref().map(|frame| frame.opened + batch_age);
        [pull, again, flush].into_iter().flatten().min()
    }

    /// True when there is a body to transcode and room for it, as far as is known.
    pub fn has_work(&self) -> bool {
        self.body.is_some() && !self.blocked
    }

    /// True while a body is being transcoded.
    pub fn has_body(&self) -> bool {
        self.body.is_some()
    }

    /// Memory was given back: what was refused is worth another attempt.
    pub fn unblock(&mut self) {
        self.blocked = false;
        self.starved = false;
    }

    /// True when a part frame could go out now that the sink has nothing of this shard.
    pub fn may_flush(&self, now: Instant) -> bool {
        self.filling.is_some() && self.body.is_none() && !self.expects_more(now)
    }

    /// True where the shard has more and it is on its way: it will fill up the part frame, so that not every pull ends
    /// in a request of its own for the rest of it.
    fn expects_more(&self, now: Instant) -> bool {
        let soon = self.pace.not_before() <= now + pace::SOON && self.wants_pull();
        let asked = self.pull.is_busy() || soon;
        let ahead = self.safe.is_more_ahead() && self.phase == Phase::Working && !self.starved;
        self.ready.is_some() || (ahead && asked && self.resend.is_none())
    }

    /// True where a pull is due.
    pub fn is_due(&self, now: Instant) -> bool {
        self.pace.not_before() <= now && !self.pull.is_busy() && !self.starved && self.wants_pull()
    }

    /// Does not wait for the rest of a pause that is nearly over.
    pub fn hurry(&mut self, now: Instant, slack: Duration) {
        self.pace.hurry(now, slack);
    }

    /// Does what can be done now: begins a pull, opens a downloaded body. Returns true when something moved.
    pub fn step(&mut self, now: Instant, around: &mut Around<'_>) -> bool {
        let mut moved = false;
        if self.body.is_none()
            && let Some(ready) = self.ready.take()
        {
            self.open_body(now, ready, around);
            moved = true;
        }
        if self.is_due(now) {
            let began = self.begin_pull(now, around);
            self.starved = !began;
            moved |= began;
        }
        moved
    }

    /// Transcodes the open body into frames as far as credit goes. Full frames are handed to `push`; a part
    /// frame goes out when `idle` says that the sink has nothing of this shard, or when it gets old.
    pub fn transcode(
        &mut self,
        now: Instant,
        idle: bool,
        batch: &Batch,
        around: &mut Around<'_>,
        push: &mut impl FnMut(Frame),
    ) -> bool {
        let mut moved = false;
        while let Some(body) = &mut self.body {
            if self.filling.is_none() {
                self.filling = around.cx.pool.take(now);
            }
            let Some(frame) = &mut self.filling else {
                self.blocked = true;
                return moved;
            };
            moved = true;
            match body.fill(frame, batch.bytes, (self.id, self.epoch), around) {
                Ok(Filled::Frame) => push_filled(&mut self.filling, push),
                Ok(Filled::Oversize) => {
                    if let Some(frame) = self.filling.take() {
                        let bytes = frame.bytes.len() as u64;
                        around.cx.refuse(frame, Refusal::Oversize { bytes });
                    }
                }
                Ok(Filled::BodyEnd) => {
                    if let Some(body) = self.body.take() {
                        body.finish(around.source);
                    }
                    break;
                }
                Err(error) => self.refuse_body(now, error, around),
            }
        }
        let due = self.filling.as_ref().is_some_and(|frame| frame.opened + batch.age <= now);
        let flush = idle && !self.expects_more(now);
        if self.body.is_none() && (flush || due || self.phase == Phase::Draining) {
            moved |= self.filling.is_some();
            match self.filling.take() {
                Some(frame) if frame.segments.is_empty() => around.cx.pool.give(frame),
                filled => {
                    self.filling = filled;
                    push_filled(&mut self.filling, push);
                }
            }
        }
        moved
    }

    /// Looks what may be saved by now; it is told with [`Self::tell_safe`].
    pub fn note_safe(&mut self, now: Instant, cx: &mut Context) {
        self.safe.note(now, &mut self.ledger, &self.cursor, cx);
    }

    /// Reports the last safe position, unless that has been done.
    pub fn tell_safe(&mut self, cx: &mut Context) {
        self.safe.tell(self.id, self.epoch, cx);
    }

    /// For metrics.
    pub fn gauge(&self, now: Instant, wall: UnixTime, sink_holds: bool) -> ShardGauge {
        let (lag_seconds, pending_seconds) = self.safe.lag(now, wall, &self.ledger);
        ShardGauge { shard: self.id, lag_seconds, pending_seconds, held: self.is_held(sink_holds) }
    }

    /// True while it cannot go on without an operator or the sink.
    pub fn is_held(&self, sink_holds: bool) -> bool {
        sink_holds || self.trouble.is_raised() && !self.slowed || self.phase == Phase::Expired
    }

    fn wants_pull(&self) -> bool {
        if self.ready.is_some() || self.body.is_some() && self.resend.is_some() {
            return false;
        }
        let repair = self.resend.is_some() || self.ledger.first_lost().is_some();
        match self.phase {
            Phase::Working => repair || !self.ledger.is_full(),
            Phase::Draining => repair,
            Phase::Expired => false,
        }
    }

    fn begin_pull(&mut self, now: Instant, around: &mut Around<'_>) -> bool {
        if self.resend.is_none() && self.body.is_none() {
            self.resend = Resend::begin(&mut self.ledger);
        }
        let want = match &self.resend {
            Some(resend) => resend.want(),
            None if self.phase == Phase::Working => {
                Want { cursor: self.cursor.clone(), end: self.end.clone(), again: false }
            }
            None => return false,
        };
        let began = self.pull.begin(now, self.id, want, around);
        if began {
            self.pace.begins(now);
        }
        began
    }

    fn handle_event(&mut self, now: Instant, event: PullEvent, around: &mut Around<'_>) {
        match event {
            PullEvent::Body { head, compressed, credit, want, asked } => {
                around.cx.counters.pulls += 1;
                around.cx.counters.pulled_wire_bytes += compressed.len() as u64;
                let ready = Ready { head, compressed, credit, want, asked };
                if self.body.is_some() {
                    self.ready = Some(ready);
                } else {
                    self.open_body(now, ready, around);
                }
            }
            PullEvent::TooLarge { raw_bytes, want } => {
                let cause = Cause::PullTooLarge {
                    raw_bytes,
                    limit_bytes: around.flow.bodies.limit(),
                    cursor: want.cursor,
                };
                self.fail(now, cause, HOLD_WAIT, around);
            }
            PullEvent::Retry => self.pace.again(now),
            PullEvent::Refused(error, compression) => self.refused(now, error, compression, around),
            PullEvent::Failed(cause) => self.fail(now, cause, Duration::ZERO, around),
        }
    }

    /// SLS answered with an error.
    fn refused(&mut self, now: Instant, error: SlsError, compression: Compression, around: &mut Around<'_>) {
        match error.reaction() {
            Reaction::NewCursor => {
                let resend = self.resend.as_ref();
                let cursor = resend.map_or_else(|| self.cursor.clone(), |resend| resend.want().cursor);
                self.expire(cursor, true, around);
            }
            Reaction::FallBackCompression if around.source.fall_back_compression(compression) => {
                // Told, and over with the next answer.
                self.fail(now, Cause::Sls(error), Duration::ZERO, around);
                self.pace.again(now);
            }
            Reaction::Retry if error.kind() == SlsErrorKind::ReadQuota => {
                around.cx.counters.pull_retries += 1;
                if let Some(wait) = self.pace.throttled(now) {
                    self.slowed = true;
                    self.trouble.raise(around.cx, shard_scope(self.id), Cause::Sls(error), wait);
                }
            }
            Reaction::Retry => self.fail(now, Cause::Sls(error), Duration::ZERO, around),
            _ => self.fail(now, Cause::Sls(error), HOLD_WAIT, around),
        }
    }

    /// The position is of no use any more; the control plane finds another one.
    fn expire(&mut self, cursor: Cursor, refused: bool, around: &mut Around<'_>) {
        self.tell_safe(around.cx);
        self.phase = Phase::Expired;
        around.cx.reports.push_back(Report::CursorExpired {
            shard: self.id,
            epoch: self.epoch,
            cursor,
            refused,
        });
    }

    /// Decompresses, checks and enters a body.
    fn open_body(&mut self, now: Instant, ready: Ready, around: &mut Around<'_>) {
        let Ready { head, compressed, credit, want, asked } = ready;
        if around.source.is_behind(self.id, &head, &want.cursor, want.again) {
            around.source.give_buffer(compressed);
            self.expire(want.cursor, false, around);
            return;
        }
        let mut raw = around.source.take_raw();
        let checked = body::check(&head, &compressed, &mut raw, around);
        around.source.give_buffer(compressed);
        let (records, tails) = match checked {
            Ok(checked) => checked,
            Err(error) => {
                around.source.give_raw(raw);
                if planted(Bug::CorruptBodyIsSkipped) && !want.again {
                    self.cursor = head.next_cursor.clone();
                }
                let cause = Cause::CorruptBody { error, cursor: want.cursor, request_id: head.request_id };
                self.fail(now, cause, Duration::ZERO, around);
                return;
            }
        };
        around.cx.counters.pulled_raw_bytes += raw.len() as u64;
        let moved = head.next_cursor != want.cursor;
        self.pace.answered(now, asked, &head, (moved, want.again), around.source.fetch_interval());
        // A quota that lets something through now and then is one trouble, not many.
        if !(self.slowed && self.pace.is_throttled()) {
            self.slowed = false;
            self.trouble.clear(around.cx, shard_scope(self.id));
        }
        let opened = if want.again {
            self.continue_resend(&head, records)
        } else {
            Ok(self.enter(now, &head, records, around))
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                around.source.give_raw(raw);
                let cause = Cause::CorruptBody { error, cursor: want.cursor, request_id: head.request_id };
                self.fail(now, cause, HOLD_WAIT, around);
                return;
            }
        };
        match opened {
            Some(entered) if !entered.1.is_empty() => {
                let from =
                    self.ledger.pulled(entered.0).map(|pulled| pulled.from.clone()).unwrap_or_default();
                self.body = Some(Body::new((raw, tails), credit, head.request_id, from, entered));
            }
            _ => around.source.give_raw(raw),
        }
    }

    /// Enters a new pull into the ledger.
    fn enter(
        &mut self,
        now: Instant,
        head: &PullHead,
        records: u32,
        around: &mut Around<'_>,
    ) -> Option<Entered> {
        around.cx.counters.pulled_records += u64::from(records);
        let next = head.next_cursor.clone();
        let moved = next != self.cursor;
        let at_end = head.end_of_cursor || (records == 0 && !moved);
        self.safe.answered(at_end, moved);
        if !moved && records == 0 {
            self.bare = self.bare.saturating_add(1);
            self.finish_at_end(&next);
            return None;
        }
        self.bare = 0;
        let from = core::mem::replace(&mut self.cursor, next.clone());
        if planted(Bug::CursorStays) {
            self.cursor = from.clone();
        }
        if self.ledger.is_empty() {
            self.safe.begins(now);
        }
        self.finish_at_end(&next);
        let pulled = Pulled { from, next, next_time: head.cursor_time, records, at: now };
        let pull = self.ledger.open(pulled);
        Some((pull, Ranges::new(0, records), 0))
    }

    /// A bounded run is over when its end is reached. Everything before the end was there when it began, so a shard
    /// that gives nothing, time and again, has nothing before it either.
    fn finish_at_end(&mut self, next: &Cursor) {
        let past = |end: &Cursor| position::distance(end, next).is_some_and(|groups| groups > 0);
        let over = self.end.as_ref().is_some_and(|end| end == next || past(end) || self.bare >= BARE_PULLS);
        if over && self.phase == Phase::Working {
            self.phase = Phase::Draining;
        }
    }

    /// A piece of a range that is pulled again.
    fn continue_resend(&mut self, head: &PullHead, records: u32) -> Result<Option<Entered>, BodyError> {
        let Some(mut resend) = self.resend.take() else { return Ok(None) };
        let piece = resend.answered(head, records, &mut self.ledger)?;
        self.resend = Some(resend).filter(|_| !piece.is_over);
        Ok(Some(piece.entered))
    }

    /// A record inside a body that looked whole is not: what was encoded before it stays, the rest is lost and
    /// pulled again.
    fn refuse_body(&mut self, now: Instant, error: wire::WireError, around: &mut Around<'_>) {
        let Some(body) = self.body.take() else { return };
        let (pull, rest) = (body.pull(), body.rest());
        for (start, end) in rest.iter() {
            self.ledger.lose(pull, start, end);
        }
        let cursor =
            self.ledger.pulled(pull).map_or_else(|| self.cursor.clone(), |pulled| pulled.from.clone());
        let request_id = body.request_id().to_owned();
        body.finish(around.source);
        let cause = Cause::CorruptBody { error: BodyError::Wire(error.to_string()), cursor, request_id };
        self.fail(now, cause, Duration::ZERO, around);
    }

    fn fail(&mut self, now: Instant, cause: Cause, wait_min: Duration, around: &mut Around<'_>) {
        around.cx.counters.pull_retries += 1;
        self.slowed = false;
        let wait = self.pace.failed(now, wait_min);
        self.trouble.raise(around.cx, shard_scope(self.id), cause, wait);
    }
}

/// How frames are cut.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// A frame is full at this size.
    pub bytes: usize,
    /// A frame goes out at this age although it is not full.
    pub age: Duration,
}

fn push_filled(filling: &mut Option<Frame>, push: &mut impl FnMut(Frame)) {
    if let Some(mut frame) = filling.take() {
        frame.settle_credit();
        push(frame);
    }
}

/// Where pulls go.
pub const TO: To = To::Source;

/// Asks the driver to write.
pub(super) fn transmit(cx: &mut Context, conn: ConnId) {
    cx.actions.push_back(Action::Transmit(conn));
}
