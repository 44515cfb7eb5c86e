//! Answers to what they mean: records settled, refused, or on their way again.
//!
//! Why: every way out of a request ends here, so that it can be read in one sitting that none of them drops a frame.
//! Invariants: 1. a request leaves as settled records, as an id that waits, as a refused record that waits, or back
//!  in the queue.
//! Bounds: refused records keep their bytes and their credit until they are taken.
//! Driven by: [`Hec`] with each whole answer.

use core::time::Duration;

use super::ack::ChannelKey;
use super::answer::{Judgement, judge};
use super::conn::Request;
use super::route::Failure;
use super::{AckMode, Hec, REFUSED_RETRY, Refused, first_shard, poll};
use crate::proto::context::{Context, Settled, shard_scope};
use crate::proto::event::{Action, Cause, HecAnswer};
use crate::proto::frame::Frame;
use crate::proto::ids::{AckId, ConnId, ShardId};
use crate::proto::time::Instant;

impl Hec {
    /// A whole answer stands in the connection's parser and body.
    pub(super) fn handle_answer(&mut self, now: Instant, at: usize, cx: &mut Context) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        let Some((status, location, keep_alive)) = conn
            .parser
            .head()
            .map(|head| (head.status(), head.header("location").map(ToOwned::to_owned), head.keep_alive()))
        else {
            return;
        };
        let Some((request, whole)) = conn.answered(now) else {
            self.break_conn(now, at, &Cause::Protocol("an answer to no request".to_owned()), cx);
            return;
        };
        let (id, route) = (conn.id, conn.route);
        let records = request.frame.records();
        let judgement = judge(status, location.as_deref(), &mut conn.body, records, &mut self.scratch);
        conn.parser.reset();
        conn.body.clear();
        let channel = request.channel;
        self.act(now, at, request, judgement, cx);
        self.acks.answered(channel, now, cx);
        self.leave_if_replaced(at, channel, cx);
        if (!keep_alive || !whole)
            && let Some(at) = self.conns.iter().position(|conn| conn.id == id)
        {
            let owed = self.conns.get(at).is_some_and(|conn| !conn.requests.is_empty());
            if owed {
                self.routes.go_shallow(route);
            }
            cx.actions.push_back(Action::Close(id));
            self.take_down(at, cx);
        }
    }

    fn act(&mut self, now: Instant, at: usize, request: Request, judgement: Judgement, cx: &mut Context) {
        let Some(route) = self.conns.get(at).map(|conn| conn.route) else {
            self.waiting.push_front(request.frame);
            return;
        };
        match judgement {
            Judgement::Taken { ack_id: None, .. } if self.params.ack == AckMode::Required => {
                let answer = HecAnswer {
                    status: 200,
                    code: Some(0),
                    text: "the answer carries no ackId: indexer acknowledgement is off for this token"
                        .to_owned(),
                    invalid_event: None,
                    location: None,
                };
                cx.counters.duplicates_possible_records += u64::from(request.frame.records());
                self.routes.fail(now, route, Failure::hold(Cause::Hec(answer)), cx);
                self.again(request, cx);
            }
            Judgement::Taken { ack_id, slow_down } => {
                let took = request.started.map_or(Duration::ZERO, |started| now.since(started));
                self.routes.succeed(now, route, took, slow_down, cx);
                if request.frame.refused {
                    self.forgive(first_shard(&request.frame), cx);
                }
                self.taken(now, at, request, ack_id, cx);
            }
            Judgement::Partial { accepted, ack_id, busy: true, answer } => {
                let mut request = request;
                self.front_taken(now, at, &mut request, (accepted, ack_id), cx);
                self.routes.fail(now, route, Failure::busy(Cause::Hec(answer)), cx);
                self.again(request, cx);
            }
            Judgement::Partial { accepted, ack_id, busy: false, answer } => {
                self.routes.succeed(now, route, Duration::ZERO, false, cx);
                self.partly_taken(now, at, request, (accepted, ack_id), answer, cx);
            }
            Judgement::Again { answer, ambiguous, hold, new_channel } => {
                if ambiguous {
                    cx.counters.duplicates_possible_records += u64::from(request.frame.records());
                }
                let cause = Cause::Hec(answer);
                let failure = if hold { Failure::hold(cause) } else { Failure::busy(cause) };
                self.routes.fail(now, route, failure, cx);
                if new_channel {
                    self.replace_channel(now, at, cx);
                }
                self.again(request, cx);
            }
        }
    }

    fn taken(&mut self, now: Instant, at: usize, request: Request, ack_id: Option<AckId>, cx: &mut Context) {
        let Request { frame, head, channel, started, .. } = request;
        let started = started.unwrap_or(now);
        match ack_id {
            Some(id) if self.params.ack != AckMode::Off => {
                if self.acks.add(channel, id, frame.segments.clone(), started, now, cx) {
                    self.replace_channel(now, at, cx);
                }
            }
            _ => {
                cx.counters.acked_batches += 1;
                cx.counters.sink_ack_seconds.observe(now.since(started));
                cx.settle(&frame.segments, Settled::Acked);
            }
        }
        cx.pool.give(frame);
        if let Some(conn) = self.conns.get_mut(at) {
            conn.recycle(head);
        }
    }

    /// The records before the refused one are stored; the refused one waits, the rest goes again.
    fn partly_taken(
        &mut self,
        now: Instant,
        at: usize,
        mut request: Request,
        (accepted, ack_id): (u32, Option<AckId>),
        answer: HecAnswer,
        cx: &mut Context,
    ) {
        self.front_taken(now, at, &mut request, (accepted, ack_id), cx);
        let mut refused = cx.pool.take_for_part(now);
        request.frame.move_first(&mut refused);
        refused.refused = true;
        cx.counters.refused_records += 1;
        let shard = first_shard(&refused);
        let mut trouble = self.refused_shards.remove(&shard).unwrap_or_default();
        trouble.raise(cx, shard_scope(shard), Cause::Hec(answer), REFUSED_RETRY);
        self.refused_shards.insert(shard, trouble);
        self.refused.push(Refused { frame: refused, due: now + REFUSED_RETRY });
        if request.frame.segments.is_empty() {
            cx.pool.give(request.frame);
        } else {
            self.waiting.push_front(request.frame);
        }
    }

    /// The first records of a request are stored: they leave its frame.
    fn front_taken(
        &mut self,
        now: Instant,
        at: usize,
        request: &mut Request,
        (accepted, ack_id): (u32, Option<AckId>),
        cx: &mut Context,
    ) {
        let stored = request.frame.cut_front(accepted);
        if stored.is_empty() {
            return;
        }
        match ack_id {
            Some(id) if self.params.ack != AckMode::Off => {
                let started = request.started.unwrap_or(now);
                if self.acks.add(request.channel, id, stored, started, now, cx) {
                    self.replace_channel(now, at, cx);
                }
            }
            // Nothing without an id confirms anything in this mode: they are pulled again.
            None if self.params.ack == AckMode::Required => cx.settle(&stored, Settled::Lost),
            _ => cx.settle(&stored, Settled::Acked),
        }
    }

    /// A record that was refused is taken now; the trouble of its shard is over with the last such record.
    fn forgive(&mut self, shard: ShardId, cx: &mut Context) {
        let more = |frame: &Frame| frame.refused && first_shard(frame) == shard;
        let waits = self.refused.iter().any(|refused| first_shard(&refused.frame) == shard)
            || self.waiting.iter().any(more)
            || self.conns.iter().any(|conn| conn.requests.iter().any(|request| more(&request.frame)));
        if !waits && let Some(mut trouble) = self.refused_shards.remove(&shard) {
            trouble.clear(cx, shard_scope(shard));
        }
    }

    fn again(&mut self, request: Request, cx: &mut Context) {
        cx.counters.sink_retries += 1;
        self.waiting.push_front(request.frame);
    }

    /// From now on this connection sends under a new channel.
    fn replace_channel(&mut self, now: Instant, at: usize, cx: &mut Context) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        conn.channel = self.acks.open_channel(conn.route, now, cx);
    }

    /// A channel that was replaced is left when the last request in it is answered.
    fn leave_if_replaced(&mut self, at: usize, channel: ChannelKey, cx: &mut Context) {
        let used = self.conns.get(at).is_some_and(|conn| {
            conn.channel == channel || conn.requests.iter().any(|request| request.channel == channel)
        });
        if !used {
            self.acks.leave_channel(channel, cx);
        }
    }

    pub(super) fn handle_poll_bytes(&mut self, now: Instant, id: ConnId, bytes: &[u8], cx: &mut Context) {
        let Some(outcome) = self.polls.handle_received(now, id, bytes, cx) else { return };
        match outcome {
            poll::Outcome::Answer { route, asked, status, mut body } => {
                let understood = status == 200 && self.acks.handle_answer(&asked, &mut body, now, cx);
                if understood {
                    self.routes.poll_worked(route, cx);
                } else {
                    let judgement = judge(status, None, &mut body, 0, &mut self.scratch);
                    let answer = match judgement {
                        Judgement::Again { answer, .. } | Judgement::Partial { answer, .. } => answer,
                        Judgement::Taken { .. } => HecAnswer {
                            status,
                            code: Some(0),
                            text: "the answer to an acknowledgement poll holds no acks".to_owned(),
                            invalid_event: None,
                            location: None,
                        },
                    };
                    if status == 400 && matches!(answer.code, Some(10 | 11 | 28)) {
                        self.acks.lose_channel(asked.channel, cx);
                    }
                    self.routes.poll_failed(route, Cause::Hec(answer), self.params.poll_interval, cx);
                }
            }
            poll::Outcome::Broken { route, detail } => {
                self.routes.poll_failed(route, Cause::Protocol(detail), self.params.poll_interval, cx);
            }
        }
    }
}
