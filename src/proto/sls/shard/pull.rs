//! The pull that is under way for a shard, and its connection.
//!
//! Why: the size of an answer is known only from its head; the credit for it is settled there, before the body
//! is read, and the number of log groups is chosen so that bodies have the size that is cheapest to work on.
//! Invariants: 1. one request at a time. 2. the body is read only with credit for all of it, compressed and
//!  decompressed. 3. an answer that is not whole is never used.
//! Bounds: `raw_bytes_max`, `timeout`; error bodies of at most 1 MiB.
//! Driven by: `shard`.

use core::time::Duration;

use super::{Around, pace, transmit};
use crate::proto::event::{Action, Cause, Closed, ClosedKind};
use crate::proto::flow::Credit;
use crate::proto::http1::{Limits, Progress, ResponseParser};
use crate::proto::ids::{ConnId, Cursor, ShardId};
use crate::proto::sls::api::pull_head::PullHead;
use crate::proto::sls::body::Compression;
use crate::proto::sls::error::SlsError;
use crate::proto::time::Instant;

/// Log groups of the very first pull, before their size is known.
const FIRST_COUNT: u64 = 16;
const ERROR_BYTES_MAX: usize = 1 << 20;

/// What is pulled.
#[derive(Clone, Debug)]
pub(super) struct Want {
    pub(super) cursor: Cursor,
    pub(super) end: Option<Cursor>,
    /// Records that were pulled before and lost by the sink.
    pub(super) again: bool,
}

/// What came of it.
pub(super) enum PullEvent {
    /// A whole answer.
    Body { head: PullHead, compressed: Vec<u8>, credit: Credit, want: Want, asked: pace::Asked },
    /// The smallest pull is larger than what may be held in memory.
    TooLarge { raw_bytes: u64, want: Want },
    /// Nothing is wrong: ask again (a stale connection, or fewer log groups).
    Retry,
    /// SLS said no, to a request for this compression.
    Refused(SlsError, Compression),
    /// The connection, or what came through it, is broken.
    Failed(Cause),
}

struct Link {
    conn: ConnId,
    open: bool,
    answers: u64,
    parser: ResponseParser,
    out: Vec<u8>,
    offset: usize,
}

struct Asked {
    want: Want,
    credit: Credit,
    count: u32,
    compressed: Vec<u8>,
    head: Option<PullHead>,
    /// Bytes of the body that are paid for.
    paid: u64,
    began: Instant,
    retried: bool,
    compression: Compression,
}

/// The pull of one shard.
#[derive(Default)]
pub(super) struct Pull {
    link: Option<Link>,
    asked: Option<Asked>,
    /// Decompressed bytes per log group, smoothed.
    group_bytes: u64,
    /// Upper bound of log groups after an answer that was too large.
    count_max: Option<u32>,
    /// Credit that the next pull needs, learned from a head.
    need: Option<u64>,
    /// The last request died with a connection that had served before.
    retried: bool,
}

impl Pull {
    pub(super) fn conn(&self) -> Option<ConnId> {
        self.link.as_ref().map(|link| link.conn)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.asked.is_some()
    }

    /// Begins a pull where credit allows it.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        shard: ShardId,
        want: Want,
        around: &mut Around<'_>,
    ) -> bool {
        let params = around.source.params();
        let wanted = params.pull_bytes.checked_div(self.group_bytes).unwrap_or(FIRST_COUNT);
        let count_max = self.count_max.unwrap_or(params.max_log_groups).min(params.max_log_groups);
        let count = u32::try_from(wanted).unwrap_or(u32::MAX).clamp(1, count_max.max(1));
        let expected = (self.group_bytes * u64::from(count)).max(params.pull_bytes / 8);
        // Half as much again for the compressed form and for groups above the average.
        let bytes = self.need.unwrap_or(expected + expected / 2);
        let Some(credit) = around.flow.bodies.try_take(bytes) else { return false };
        self.need = None;
        let compressed = around.source.take_buffer();
        let retried = core::mem::take(&mut self.retried);
        let compression = around.source.compression();
        let (head, paid, began) = (None, 0, now);
        self.asked = Some(Asked { want, credit, count, compressed, head, paid, began, retried, compression });
        match &self.link {
            Some(link) if link.open => self.write(now, shard, around),
            Some(_) => {}
            None => {
                let limits = Limits {
                    head_bytes_max: 64 << 10,
                    body_bytes_max: around.source.params().raw_bytes_max + (1 << 20),
                };
                self.link = Some(Link {
                    conn: around.cx.connect(super::TO),
                    open: false,
                    answers: 0,
                    parser: ResponseParser::new(limits),
                    out: Vec::new(),
                    offset: 0,
                });
            }
        }
        true
    }

    pub(super) fn handle_connected(&mut self, now: Instant, shard: ShardId, around: &mut Around<'_>) {
        if let Some(link) = &mut self.link {
            link.open = true;
        }
        if self.asked.is_some() {
            self.write(now, shard, around);
        }
    }

    fn write(&mut self, now: Instant, shard: ShardId, around: &mut Around<'_>) {
        let (Some(link), Some(asked)) = (&mut self.link, &mut self.asked) else { return };
        asked.compression = around.source.compression();
        link.out.clear();
        link.offset = 0;
        let range = (&asked.want.cursor, asked.want.end.as_ref());
        // Names and keys were checked with the settings, cursors where they arrived: no header can be refused.
        let _ = around.source.write_pull(now, shard, range, asked.count, &mut link.out);
        transmit(around.cx, link.conn);
    }

    pub(super) fn chunk(&self) -> Option<&[u8]> {
        let link = self.link.as_ref().filter(|link| link.open)?;
        link.out.get(link.offset..).filter(|rest| !rest.is_empty())
    }

    pub(super) fn handle_transmitted(&mut self, bytes: usize) {
        if let Some(link) = &mut self.link {
            link.offset += bytes;
        }
    }

    /// Feeds bytes; returns how many were used and what they completed.
    pub(super) fn handle_received(
        &mut self,
        bytes: &[u8],
        around: &mut Around<'_>,
    ) -> (usize, Option<PullEvent>) {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let (taken, progress) = match self.feed(rest) {
                Ok(Some(step)) => step,
                Ok(None) => return (bytes.len(), None),
                Err(cause) => return (bytes.len(), Some(self.broken(cause, around))),
            };
            used += taken;
            match progress {
                Progress::NeedMore => return (used, None),
                Progress::Head => match self.handle_head(around) {
                    Ok(None) => {}
                    Ok(Some(event)) => {
                        self.close(around.cx);
                        return (bytes.len(), Some(event));
                    }
                    Err(cause) => return (bytes.len(), Some(self.broken(cause, around))),
                },
                Progress::Done => return (used, self.complete(around)),
            }
        }
    }

    /// Gives bytes to the parser.
    fn feed(&mut self, bytes: &[u8]) -> Result<Option<(usize, Progress)>, String> {
        let Some(link) = &mut self.link else { return Ok(None) };
        let Some(asked) = &mut self.asked else {
            return if bytes.is_empty() {
                Ok(None)
            } else {
                Err("SLS answers although nothing was asked".to_owned())
            };
        };
        let step = link.parser.handle(bytes, &mut asked.compressed).map_err(|error| error.to_string())?;
        let refused = link.parser.head().is_some_and(|head| head.status() != 200);
        if refused && asked.compressed.len() > ERROR_BYTES_MAX {
            return Err("an error answer of more than 1 MiB".to_owned());
        }
        if let Some(head) = asked.head.as_ref().filter(|_| asked.compressed.len() as u64 > asked.paid) {
            let (raw, found) = (head.raw_size, asked.compressed.len());
            return Err(format!("a body of {found} bytes or more that becomes {raw}, as its header says"));
        }
        Ok(Some(step))
    }

    /// The head is complete: is there room for the body?
    fn handle_head(&mut self, around: &mut Around<'_>) -> Result<Option<PullEvent>, String> {
        let (Some(link), Some(asked)) = (&self.link, &self.asked) else { return Ok(None) };
        let Some(head) = link.parser.head().filter(|head| head.status() == 200) else { return Ok(None) };
        let pull_head = PullHead::parse(&head, &asked.want.cursor).map_err(|error| error.to_string())?;
        let wire = head.content_length().unwrap_or_else(|| compressed_max(pull_head.raw_size));
        Ok(self.admit(pull_head, wire, around))
    }

    fn broken(&mut self, cause: String, around: &mut Around<'_>) -> PullEvent {
        self.close(around.cx);
        PullEvent::Failed(Cause::Protocol(cause))
    }

    /// Settles the credit for an answer whose size is known now.
    fn admit(&mut self, head: PullHead, wire: u64, around: &mut Around<'_>) -> Option<PullEvent> {
        let asked = self.asked.as_mut()?;
        let total = head.raw_size.saturating_add(wire);
        let limit = around.source.raw_limit(around.flow);
        if head.raw_size > limit || total > limit.saturating_mul(2) {
            if asked.count == 1 {
                let want = asked.want.clone();
                return Some(PullEvent::TooLarge { raw_bytes: head.raw_size, want });
            }
            self.count_max = Some((asked.count / 2).max(1));
            return Some(PullEvent::Retry);
        }
        if !asked.credit.try_grow(total) {
            self.need = Some(total);
            return Some(PullEvent::Retry);
        }
        // The size is known and paid for: the buffer need not grow, and move, with every piece.
        asked.compressed.reserve(usize::try_from(wire).unwrap_or(0));
        asked.paid = wire;
        asked.head = Some(head);
        None
    }

    fn complete(&mut self, around: &mut Around<'_>) -> Option<PullEvent> {
        let link = self.link.as_mut()?;
        let Asked { want, mut credit, compressed, head, count, began, compression, .. } =
            self.asked.take()?;
        link.answers += 1;
        let (keep_alive, refused) = {
            let answer = link.parser.head()?;
            let refused = (answer.status() != 200).then(|| SlsError::from_head(&answer, &compressed));
            (answer.keep_alive(), refused)
        };
        link.parser.reset();
        if !keep_alive {
            self.close(around.cx);
        }
        if let Some(error) = refused {
            around.source.give_buffer(compressed);
            return Some(PullEvent::Refused(error, compression));
        }
        let head = head?;
        credit.resize(head.raw_size.saturating_add(compressed.len() as u64));
        // A filter may leave nothing of what was read: then its size before the filter counts.
        let before_filter = || head.raw_data_size?.checked_div(head.raw_data_count?);
        if let Some(per_group) = head.raw_size.checked_div(head.count).or_else(before_filter) {
            let before = if self.group_bytes == 0 { per_group } else { self.group_bytes };
            // Quick to believe in larger groups, slow to forget them.
            self.group_bytes =
                if per_group > before { per_group } else { before - (before - per_group) / 4 }.max(1);
        }
        if count > 1 && head.count >= u64::from(count) {
            self.count_max = self.count_max.map(|max| max.saturating_mul(2)).filter(|max| *max < 1000);
        }
        let asked = pace::Asked { began, count, bytes: around.source.params().pull_bytes };
        Some(PullEvent::Body { head, compressed, credit, want, asked })
    }

    /// The connection ended.
    pub(super) fn handle_closed(&mut self, why: Closed, around: &mut Around<'_>) -> Option<PullEvent> {
        if let (Some(link), Some(asked)) = (&mut self.link, &self.asked) {
            let idle = link.parser.is_idle();
            let ended = why.kind == ClosedKind::Eof && matches!(link.parser.handle_eof(), Ok(Progress::Done));
            if ended {
                let event = self.complete(around);
                self.link = None;
                return event;
            }
            // A connection that served before and ends between two answers was merely old.
            let stale = idle
                && link.answers > 0
                && !asked.retried
                && matches!(why.kind, ClosedKind::Eof | ClosedKind::Reset);
            self.drop_asked(around);
            self.link = None;
            self.retried = stale;
            return Some(if stale { PullEvent::Retry } else { PullEvent::Failed(Cause::Transport(why)) });
        }
        self.link = None;
        None
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, around: &mut Around<'_>) -> Option<PullEvent> {
        let timeout = around.source.params().timeout;
        let asked = self.asked.as_ref()?;
        if asked.began + timeout > now {
            return None;
        }
        self.close(around.cx);
        Some(PullEvent::Failed(Cause::Transport(timed_out(timeout))))
    }

    pub(super) fn poll_timeout(&self, timeout: Duration) -> Option<Instant> {
        self.asked.as_ref().map(|asked| asked.began + timeout)
    }

    /// Gives the pull under way and the connection up.
    pub(super) fn close(&mut self, cx: &mut crate::proto::context::Context) {
        self.asked = None;
        if let Some(link) = self.link.take() {
            cx.actions.push_back(Action::Close(link.conn));
        }
    }

    fn drop_asked(&mut self, around: &mut Around<'_>) {
        if let Some(asked) = self.asked.take() {
            around.source.give_buffer(asked.compressed);
        }
    }
}

/// The most that a body of this size can become by compressing it: no format adds as much as a part in 64.
fn compressed_max(raw_size: u64) -> u64 {
    raw_size.saturating_add(raw_size / 64).saturating_add(4096)
}

fn timed_out(timeout: Duration) -> Closed {
    Closed { kind: ClosedKind::Timeout, detail: format!("no whole answer within {} s", timeout.as_secs()) }
}
