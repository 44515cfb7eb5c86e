//! One RELP session over TCP or TLS.
//!
//! Why: a sender commits by these responses, so each of them can be late, refused, lost, doubled or cut, and a session
//! can end at any of them, before or after its message was taken.
//! Invariants: 1. `200` is said only for a message that was taken. 2. responses go out in the order of their commands,
//! but for `late`.   Bounds: responses held back, a few bytes each.   Driven by: `server`.   Spec: syslog.md 6.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::{Instant, timeout_at};

use super::relp::{self, Call, Session};
use super::wire::{Fill, Wire};
use crate::fault::{Fault, parse_duration};

/// Serves one session to its end.
pub(super) async fn run(wire: Wire) -> Result<()> {
    Conn { wire, session: Session::new(), held: VecDeque::new(), out: Vec::new(), unanswered: 0 }.run().await
}

struct Conn {
    wire: Wire,
    session: Session,
    /// Responses that wait, by their time.
    held: VecDeque<Held>,
    /// Responses of this turn.
    out: Vec<u8>,
    unanswered: u64,
}

/// A response that waits.
struct Held {
    due: Instant,
    bytes: Vec<u8>,
    /// Whether others may overtake it.
    is_late: bool,
}

/// What a frame leads to.
enum Next {
    Continue,
    /// Nothing more is answered and nothing more is read.
    Stop,
    /// Writes what is due and closes.
    Close,
    Reset,
    Over,
}

impl Conn {
    async fn run(mut self) -> Result<()> {
        loop {
            let next = self.take()?;
            self.flush().await?;
            match next {
                Next::Continue => {}
                Next::Stop => {
                    self.wire.stop().await;
                    return Ok(());
                }
                Next::Close => return self.end().await,
                Next::Reset => {
                    self.wire.reset();
                    return Ok(());
                }
                Next::Over => return Ok(()),
            }
            match self.fill().await? {
                Fill::Data => {}
                Fill::Over => return Ok(()),
                Fill::End => {
                    if !self.wire.unread().is_empty() {
                        self.wire.shared.stats.partial.fetch_add(1, Ordering::Relaxed);
                    }
                    return self.wire.answer_end().await;
                }
            }
        }
    }

    /// Reads, and sends what falls due meanwhile.
    async fn fill(&mut self) -> Result<Fill> {
        loop {
            let Some(due) = self.held.front().map(|held| held.due) else { return self.wire.fill().await };
            match timeout_at(due, self.wire.fill()).await {
                Ok(fill) => return fill,
                Err(_) => self.flush().await?,
            }
        }
    }

    /// Sends what is due.
    async fn flush(&mut self) -> Result<()> {
        let now = Instant::now();
        while let Some(held) = self.held.pop_front_if(|held| held.due <= now) {
            self.out.extend_from_slice(&held.bytes);
            self.answered();
        }
        if self.out.is_empty() {
            return Ok(());
        }
        let out = std::mem::take(&mut self.out);
        self.wire.write(&out).await
    }

    fn answered(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
        self.wire.shared.stats.relp_responses.fetch_add(1, Ordering::Relaxed);
    }

    /// Announces the end unless it was, closes our side and reads the rest away, so that no reset overtakes it.
    async fn end(&mut self) -> Result<()> {
        self.wire.finish().await?;
        let until = Instant::now() + LINGER;
        while let Ok(Ok(Fill::Data)) = timeout_at(until, self.wire.fill()).await {
            let size = self.wire.unread().len();
            self.wire.consume(size);
        }
        Ok(())
    }

    /// Answers every complete frame.
    fn take(&mut self) -> Result<Next> {
        loop {
            let shared = Arc::clone(&self.wire.shared);
            let frame = match relp::cut(self.wire.unread(), shared.config.max_message_bytes) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(Next::Continue),
                Err(broken) => return Ok(self.refuse_session(broken.at, &broken.what)),
            };
            let call = match self.session.call(&frame) {
                Ok(call) => call,
                Err(broken) => return Ok(self.refuse_session(broken.at, &broken.what)),
            };
            let (txnr, size) = (frame.txnr, frame.size);
            let data = frame.data_at..frame.data_at + frame.data.len();
            let next = match call {
                Call::Hint => Next::Continue,
                Call::Open => self.open(txnr)?,
                Call::Syslog => self.message(txnr, data)?,
                Call::Close => self.close(txnr)?,
            };
            self.wire.consume(size);
            if !matches!(next, Next::Continue) {
                return Ok(next);
            }
        }
    }

    /// A sender that breaks the protocol is sent away, as librelp does it.
    fn refuse_session(&mut self, at: usize, what: &str) -> Next {
        let place = self.wire.place(0);
        self.wire.shared.stats.violated(place, at, what, self.wire.unread());
        self.out.extend_from_slice(relp::SERVERCLOSE);
        Next::Close
    }

    fn open(&mut self, txnr: u32) -> Result<Next> {
        self.wire.shared.stats.relp_opens.fetch_add(1, Ordering::Relaxed);
        let fault = self.wire.shared.decide("open");
        let commands =
            if word(fault.as_ref()) == Some("no-syslog") { "commands=other" } else { "commands=syslog" };
        self.respond(txnr, &relp::offers(commands), fault.as_ref())
    }

    fn close(&mut self, txnr: u32) -> Result<Next> {
        self.wire.shared.stats.relp_closes.fetch_add(1, Ordering::Relaxed);
        let fault = self.wire.shared.decide("close");
        let next = self.respond(txnr, "", fault.as_ref())?;
        // What was asked before is answered before.
        while let Some(held) = self.held.pop_front() {
            self.out.extend_from_slice(&held.bytes);
            self.answered();
        }
        if !matches!(next, Next::Continue) {
            return Ok(next);
        }
        self.out.extend_from_slice(relp::SERVERCLOSE);
        Ok(Next::Close)
    }

    fn message(&mut self, txnr: u32, data: std::ops::Range<usize>) -> Result<Next> {
        let shared = Arc::clone(&self.wire.shared);
        let place = self.wire.place(0);
        self.unanswered += 1;
        shared.stats.relp_outstanding_max.fetch_max(self.unanswered, Ordering::Relaxed);
        if shared.config.relp_window.is_some_and(|window| self.unanswered > u64::from(window)) {
            shared.stats.violated(place, 0, "more messages are unanswered than the window allows", b"");
        }
        // The common kinds apply to RELP as well; `syslog` is the name of its command.
        let fault = shared.decide("syslog").or_else(|| shared.decide("message"));
        let is_taken = match &fault {
            Some(Fault::Refuse { .. } | Fault::ResetBefore | Fault::Hang) => false,
            Some(Fault::Other { word, .. }) => !matches!(word.as_str(), "serverclose" | "lost"),
            _ => true,
        };
        if is_taken && let Some(message) = self.wire.unread().get(data) {
            shared.take(&[(place, message)]);
        }
        let next = self.respond(txnr, "200 OK", fault.as_ref())?;
        if !matches!(next, Next::Continue) {
            return Ok(next);
        }
        match self.wire.count_message() {
            None => Ok(Next::Continue),
            Some(super::wire::Limit::Close) => Ok(Next::Over),
            Some(super::wire::Limit::Reset) => Ok(Next::Reset),
            Some(super::wire::Limit::Stop) => Ok(Next::Stop),
        }
    }

    /// Answers a command, or does what the plan wants instead.
    fn respond(&mut self, txnr: u32, data: &str, fault: Option<&Fault>) -> Result<Next> {
        let mut bytes = relp::response(txnr, data);
        let mut delay = None;
        match fault {
            Some(Fault::ResetBefore | Fault::ResetAfter) => return Ok(Next::Reset),
            Some(Fault::Hang) => return Ok(Next::Stop),
            Some(Fault::Refuse { status, code } | Fault::RefuseAfter { status, code }) => {
                let text = code.as_deref().unwrap_or("refused");
                bytes = relp::response(txnr, &format!("{} {text}", status.unwrap_or(500)));
            }
            Some(Fault::Tear(size)) => {
                bytes.truncate(size.unwrap_or(bytes.len() / 2));
                self.out.extend_from_slice(&bytes);
                return Ok(Next::Close);
            }
            Some(Fault::Bits) => {
                let middle = bytes.len() / 2;
                if let Some(byte) = bytes.get_mut(middle) {
                    *byte ^= 0x10;
                }
            }
            Some(Fault::Duplicate) => bytes.extend_from_within(..),
            Some(Fault::Delay(time) | Fault::Stall(time)) => delay = Some(*time),
            Some(Fault::Slow(rate)) => self.wire.slow_down(*rate),
            Some(Fault::Other { word, arg }) => match word.as_str() {
                "late" => {
                    let time = arg.as_deref().context("`late` wants a time")?;
                    return Ok(self.hold(bytes, parse_duration(time)?, false));
                }
                "unanswered" | "lost" => return Ok(Next::Continue),
                "serverclose" | "serverclose-after" => {
                    self.out.extend_from_slice(relp::SERVERCLOSE);
                    return Ok(Next::Close);
                }
                "close" => return Ok(Next::Over),
                "garbled" => bytes = b"200 OK\n".to_vec(),
                "empty" => bytes = relp::response(txnr, ""),
                "wrong-txnr" => bytes = relp::response(relp::next_txnr(txnr), data),
                word if self.wire.restart_if_told(word, arg.as_deref())? => return Ok(Next::Over),
                _ => {}
            },
            None => {}
        }
        if let Some(time) = delay {
            return Ok(self.hold(bytes, time, true));
        }
        if self.held.iter().any(|held| !held.is_late) {
            return Ok(self.hold(bytes, Duration::ZERO, true));
        }
        self.out.extend_from_slice(&bytes);
        self.answered();
        Ok(Next::Continue)
    }

    /// Keeps a response for later: behind those that wait in order, or by its own time alone.
    fn hold(&mut self, bytes: Vec<u8>, time: Duration, in_order: bool) -> Next {
        let last = self.held.iter().rfind(|held| !held.is_late).map(|held| held.due);
        let due = Instant::now() + time;
        let due = last.filter(|_| in_order).map_or(due, |last| due.max(last));
        let at = self.held.partition_point(|held| held.due <= due);
        self.held.insert(at, Held { due, bytes, is_late: !in_order });
        Next::Continue
    }
}

/// The plan's own word, if it is one.
fn word(fault: Option<&Fault>) -> Option<&str> {
    match fault {
        Some(Fault::Other { word, .. }) => Some(word),
        _ => None,
    }
}

const LINGER: Duration = Duration::from_secs(2);
