//! One RELP session: an `open`, then messages under transaction numbers, each with its own answer.
//!
//! Why: RELP is the one transport of syslog where the receiver itself says "taken", message by message.
//! Invariants: 1. a number is exactly the one before plus one, 1 behind 999,999,999. 2. nothing but `open` is sent
//!  before its answer. 3. a frame leaves when every message of it was answered, or goes back whole with the session.
//! Bounds: `window` messages without an answer; [`STAGE_BYTES`] (or one message) are copied for the socket.
//! Driven by: `sink::syslog`. Spec: RELP as librelp 1.11 speaks it; answers are matched by number in any order.

pub(crate) mod wire;

use core::time::Duration;
use std::collections::VecDeque;
use std::io::Write as _;

use smallvec::SmallVec;

use self::wire::{Reader, Said};
use super::marked::{message, record_range};
use crate::proto::context::{Context, Settled};
use crate::proto::event::SyslogTrouble;
use crate::proto::frame::Frame;
use crate::proto::ids::{ShardId, Txnr};
use crate::proto::planted::{Bug, planted};
use crate::proto::time::Instant;

/// Bytes that are made ready for the socket at once.
const STAGE_BYTES: usize = 64 * 1024;
/// Frames that a session holds with messages that were not sent yet.
const UNSENT_FRAMES_MAX: usize = 2;
/// How long the answer to a `close` is waited for.
pub(super) const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
const TEXT_CHARS_MAX: usize = 200;
const OFFER: &str = concat!(
    "relp_version=0\nrelp_software=sls2siem,",
    env!("CARGO_PKG_VERSION"),
    ",sls2siem\ncommands=syslog\n"
);

/// How far the session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// `open` is sent or about to be.
    Opening,
    /// Messages flow.
    Ready,
    /// `close` is sent.
    Closing(Instant),
}

/// A message without an answer.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Which frame, counted from the first of the session.
    frame: u64,
    /// Which record of it.
    record: u32,
    answered: bool,
}

/// A frame that is not answered whole.
#[derive(Debug)]
struct Sending {
    frame: Frame,
    /// Where its next message begins.
    at: usize,
    /// Records begun.
    records: u32,
    /// Messages sent and not answered.
    owed: u32,
    started: Option<Instant>,
    refused: SmallVec<[(u32, u16, String); 1]>,
}

/// How something ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// As it should: nobody has to hear of it.
    InOrder,
    /// With this.
    Trouble(SyslogTrouble),
}

/// What came of some bytes of the server.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// A frame was answered whole after this long.
    pub(super) took: Option<Duration>,
    /// The session was opened.
    pub(super) opened: bool,
    /// Refused records, one frame each, with code and text.
    pub(super) refused: Vec<(Frame, u16, String)>,
    /// A record of this shard that was refused before is taken.
    pub(super) forgiven: Option<ShardId>,
    /// It is over.
    pub(super) over: Option<Over>,
}

/// A session.
#[derive(Debug)]
pub(super) struct Relp {
    state: State,
    reader: Reader,
    /// Bytes for the socket, from `out_at` on.
    out: Vec<u8>,
    out_at: usize,
    next: Txnr,
    /// Number of the first slot.
    first: Txnr,
    slots: VecDeque<Slot>,
    frames: VecDeque<Sending>,
    /// How many frames have left before the first of `frames`.
    left: u64,
    window: usize,
    /// When the oldest silence began: the last answer, or the first send after it.
    moved: Instant,
    pub(super) answers: u64,
}

impl Relp {
    pub(super) fn new(window: usize, first: Txnr) -> Self {
        Self {
            state: State::Opening,
            reader: Reader::default(),
            out: Vec::new(),
            out_at: 0,
            next: first,
            first,
            slots: VecDeque::new(),
            frames: VecDeque::new(),
            left: 0,
            window,
            moved: Instant(0),
            answers: 0,
        }
    }

    /// TCP and TLS are there: the session is opened.
    pub(super) fn begin(&mut self, now: Instant) {
        self.moved = now;
        self.say("open", OFFER.as_bytes());
    }

    /// Says goodbye; the answer is waited for.
    pub(super) fn close(&mut self, now: Instant) {
        if self.state == State::Ready {
            self.state = State::Closing(now);
            self.say("close", b"");
        }
    }

    pub(super) fn push(&mut self, frame: Frame) {
        let refused = SmallVec::new();
        self.frames.push_back(Sending { frame, at: 0, records: 0, owed: 0, started: None, refused });
    }

    /// True where another frame may be given.
    pub(super) fn has_room(&self) -> bool {
        let unsent = self.frames.iter().rev().take_while(|sending| sending.at < sending.frame.bytes.len());
        self.state == State::Ready && unsent.count() < UNSENT_FRAMES_MAX
    }

    pub(super) fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn carries(&self, shard: ShardId) -> bool {
        self.frames.iter().any(|sending| sending.frame.carries(shard))
    }

    /// The next bytes for the socket.
    pub(super) fn chunk(&mut self, now: Instant) -> Option<&[u8]> {
        if self.out_at == self.out.len() {
            self.out.clear();
            self.out_at = 0;
            if self.state == State::Ready {
                self.stage(now);
            }
        }
        self.out.get(self.out_at..).filter(|rest| !rest.is_empty())
    }

    pub(super) fn advance(&mut self, bytes: usize) {
        self.out_at += bytes;
    }

    /// Messages without an answer.
    pub(super) fn owed(&self) -> u64 {
        self.slots.iter().filter(|slot| !slot.answered).count() as u64
    }

    /// When the silence has lasted too long.
    pub(super) fn deadline(&self, timeout: Duration) -> Option<Instant> {
        match self.state {
            State::Ready if self.slots.is_empty() => None,
            State::Opening | State::Ready => Some(self.moved + timeout),
            State::Closing(since) => Some(since + CLOSE_PATIENCE),
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing(_))
    }

    /// What the server sent.
    pub(super) fn handle_received(&mut self, now: Instant, bytes: &[u8], cx: &mut Context) -> Heard {
        let mut heard = Heard::default();
        let mut rest = bytes;
        while !rest.is_empty() && heard.over.is_none() {
            match self.reader.read(rest) {
                Err(detail) => heard.over = Some(Over::Trouble(SyslogTrouble::NotRelp { detail })),
                Ok((used, said)) => {
                    rest = rest.get(used..).unwrap_or_default();
                    match said {
                        Some(Said::Answer(txnr)) => self.answer(now, txnr, &mut heard),
                        Some(Said::ServerClose) => {
                            let welcome = self.answers > 0 || self.is_closing();
                            heard.over = Some(if welcome {
                                Over::InOrder
                            } else {
                                Over::Trouble(SyslogTrouble::ServerClose)
                            });
                        }
                        Some(Said::Hint) | None => {}
                    }
                }
            }
        }
        self.settle(now, &mut heard, cx);
        heard
    }

    /// The session has ended: records that were answered before leave their frame, so that they do not go again, and a
    /// server that ends each session after a few messages takes all of a frame in the end. Refused ones leave on the
    /// usual way. `took` says how long the first of them took, if there are any.
    pub(super) fn settle_answered(&mut self, now: Instant, cx: &mut Context) -> Heard {
        let mut heard = Heard::default();
        let Some(sending) = self.frames.front_mut() else { return heard };
        let Sending { frame, at, records, refused, started, .. } = &mut *sending;
        // Every message before the first slot was answered; a record counts when all its messages were.
        let count = match self.slots.front() {
            Some(slot) if slot.frame == self.left && !planted(Bug::SessionEndCounts) => slot.record,
            None if message(&frame.bytes, *at).is_some_and(|next| !next.first) => records.saturating_sub(1),
            _ => *records,
        };
        if count == 0 {
            return heard;
        }
        refused.retain(|(record, ..)| *record < count);
        let (refused, took) = (core::mem::take(refused), now.since(started.unwrap_or(now)));
        let end = record_range(&frame.bytes, count).start;
        for (record, code, text) in &refused {
            heard.refused.extend(alone(now, frame, *record, cx).map(|frame| (frame, *code, text.clone())));
        }
        let mut taken = cx.pool.take_for_part(now);
        frame.move_front_at(count, end, &mut taken);
        let mut numbers: SmallVec<[u32; 4]> = refused.iter().map(|(record, ..)| *record).collect();
        numbers.sort_unstable();
        cx.settle(&taken.names_without(&numbers), Settled::Acked);
        cx.pool.give(taken);
        heard.took = (count as usize > refused.len()).then_some(took);
        heard
    }

    /// Hands all frames back, the last one first, and whether each was begun.
    pub(super) fn pop_back(&mut self) -> Option<(Frame, bool)> {
        self.frames.pop_back().map(|sending| (sending.frame, sending.started.is_some()))
    }

    /// Takes frames out that are not begun and hold nothing but stale records.
    pub(super) fn forget_unsent(&mut self, stale: &impl Fn(&Frame) -> bool, cx: &mut Context) {
        // Only from the end: the slots count frames from the front.
        while let Some(sending) =
            self.frames.pop_back_if(|sending| sending.started.is_none() && stale(&sending.frame))
        {
            cx.pool.give(sending.frame);
        }
    }

    fn answer(&mut self, now: Instant, txnr: Txnr, heard: &mut Heard) {
        self.moved = now;
        match self.state {
            State::Opening => self.opened(txnr, heard),
            State::Closing(_) => heard.over = Some(Over::InOrder),
            State::Ready => {
                let slot = usize::try_from(txnr.distance_from(self.first)).unwrap_or(usize::MAX);
                let slot = self.slots.get_mut(slot).filter(|slot| !slot.answered);
                let (Some(slot), Some((code, text))) = (slot, wire::status(self.reader.data())) else {
                    let detail = format!("an answer to number {} that does not fit", txnr.number());
                    heard.over = Some(Over::Trouble(SyslogTrouble::NotRelp { detail }));
                    return;
                };
                slot.answered = true;
                self.answers += 1;
                let (frame, record) = (slot.frame, slot.record);
                let at = usize::try_from(frame - self.left).unwrap_or(usize::MAX);
                if let Some(sending) = self.frames.get_mut(at) {
                    sending.owed -= 1;
                    if code != 200
                        && !planted(Bug::RefusalCounts)
                        && !sending.refused.iter().any(|(known, ..)| *known == record)
                    {
                        sending.refused.push((record, code, shorten(text)));
                    }
                }
                if planted(Bug::AnswersAreCumulative) {
                    self.answer_all_before(txnr);
                }
                while self.slots.pop_front_if(|slot| slot.answered).is_some() {
                    self.first = self.first.next();
                }
            }
        }
    }

    /// What [`Bug::AnswersAreCumulative`] does.
    fn answer_all_before(&mut self, txnr: Txnr) {
        let before = usize::try_from(txnr.distance_from(self.first)).unwrap_or(0);
        for slot in self.slots.iter_mut().take(before).filter(|slot| !slot.answered) {
            slot.answered = true;
            let at = usize::try_from(slot.frame - self.left).unwrap_or(usize::MAX);
            if let Some(sending) = self.frames.get_mut(at) {
                sending.owed -= 1;
            }
        }
    }

    fn opened(&mut self, txnr: Txnr, heard: &mut Heard) {
        let data = self.reader.data();
        let offers = |name: &str| {
            let text = String::from_utf8_lossy(data);
            let list = text.lines().find_map(|line| line.strip_prefix("commands="));
            list.is_some_and(|list| list.split(',').any(|command| command.trim() == name))
        };
        let taken = matches!(wire::status(data), Some((200, _)));
        if txnr == self.first && taken && offers("syslog") {
            self.state = State::Ready;
            self.first = self.first.next();
            heard.opened = true;
        } else {
            let answer = shorten(data);
            heard.over = Some(Over::Trouble(SyslogTrouble::OpenRefused { answer }));
        }
    }

    /// Takes frames out whose every message was answered.
    fn settle(&mut self, now: Instant, heard: &mut Heard, cx: &mut Context) {
        let done = |sending: &mut Sending| sending.owed == 0 && sending.at == sending.frame.bytes.len();
        while let Some(sending) = self.frames.pop_front_if(done) {
            self.left += 1;
            let took = now.since(sending.started.unwrap_or(now));
            heard.took = Some(took);
            cx.counters.acked_batches += 1;
            cx.counters.sink_ack_seconds.observe(took);
            if sending.refused.is_empty() {
                cx.settle(&sending.frame.segments, Settled::Acked);
                if sending.frame.refused {
                    heard.forgiven = sending.frame.segments.first().map(|segment| segment.shard);
                }
            } else {
                refuse(now, &sending, heard, cx);
            }
            cx.pool.give(sending.frame);
        }
    }

    /// Makes messages ready for the socket, as far as the window is open.
    fn stage(&mut self, now: Instant) {
        let unsent = self.frames.iter_mut().enumerate();
        let unsent = unsent.filter(|(_, sending)| sending.at < sending.frame.bytes.len());
        for (at, sending) in unsent {
            while self.slots.len() < self.window
                && self.out.len() < STAGE_BYTES
                && let Some(message) = message(&sending.frame.bytes, sending.at)
            {
                if self.slots.is_empty() {
                    self.moved = now;
                }
                sending.started.get_or_insert(now);
                sending.records += u32::from(message.first);
                sending.owed += 1;
                sending.at = message.text.end;
                let text = sending.frame.bytes.get(message.text).unwrap_or_default();
                write_frame(&mut self.out, self.next, "syslog", text);
                self.next = self.next.next();
                let record = sending.records.saturating_sub(1);
                self.slots.push_back(Slot { frame: self.left + at as u64, record, answered: false });
            }
        }
    }

    fn say(&mut self, command: &str, data: &[u8]) {
        write_frame(&mut self.out, self.next, command, data);
        self.next = self.next.next();
    }
}

/// Settles what was taken of a frame and hands the refused records on, one frame each.
fn refuse(now: Instant, sending: &Sending, heard: &mut Heard, cx: &mut Context) {
    let mut numbers: SmallVec<[u32; 4]> = sending.refused.iter().map(|(record, ..)| *record).collect();
    numbers.sort_unstable();
    let taken = sending.frame.names_without(&numbers);
    cx.settle(&taken, Settled::Acked);
    for (record, code, text) in &sending.refused {
        heard
            .refused
            .extend(alone(now, &sending.frame, *record, cx).map(|frame| (frame, *code, text.clone())));
    }
}

/// A frame of its own for one record.
fn alone(now: Instant, frame: &Frame, record: u32, cx: &mut Context) -> Option<Frame> {
    let name = frame.name_of(record)?;
    let mut alone = cx.pool.take_for_part(now);
    alone.bytes.extend_from_slice(frame.bytes.get(record_range(&frame.bytes, record)).unwrap_or_default());
    alone.note(name);
    alone.opened = frame.opened;
    alone.refused = true;
    alone.settle_credit();
    Some(alone)
}

fn write_frame(out: &mut Vec<u8>, txnr: Txnr, command: &str, data: &[u8]) {
    // Writing into a Vec cannot fail.
    let _ = if data.is_empty() {
        write!(out, "{} {command} 0", txnr.number())
    } else {
        write!(out, "{} {command} {} ", txnr.number(), data.len())
    };
    out.extend_from_slice(data);
    out.push(b'\n');
}

/// At most 200 characters, without control characters.
fn shorten(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text.get(..TEXT_CHARS_MAX * 4).unwrap_or(text));
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_CHARS_MAX).collect()
}
