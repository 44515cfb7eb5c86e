//! Answers to what they mean: records settled, refused, or on their way again.
//!
//! Why: every way out of a request ends here, so that it can be read in one sitting that none of them drops a frame.
//! Invariants: 1. a request leaves as settled records, as an id that waits, as a refused record that waits, or back
//!  in the queue.
//! Bounds: refused records keep their bytes and their credit until they are taken.
//! Driven by: [`Hec`] with each whole answer.

use core::time::Duration;

use super::ack::{Asked, ChannelKey};
use super::answer::{Judgement, Sent, judge};
use super::conn::Request;
use super::poll::{Answered, Outcome, Question};
use super::{AckMode, Hec, poll};
use crate::proto::context::{Context, Settled};
use crate::proto::event::{Action, Cause, HecAnswer, Notice, Refusal, Report};
use crate::proto::frame::Frame;
use crate::proto::http1::Head;
use crate::proto::ids::{AckId, ConnId, RouteId};
use crate::proto::letters::index_of;
use crate::proto::planted::{Bug, planted};
use crate::proto::sink::route::Failure;
use crate::proto::time::Instant;

impl Hec {
    /// A whole answer stands in the connection's parser and body.
    pub(super) fn handle_answer(&mut self, now: Instant, at: usize, cx: &mut Context) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        let Some(heading) = conn.parser.head().as_ref().map(Heading::of) else { return };
        if (200..300).contains(&heading.status) && conn.is_unwritten() {
            // Nobody can have stored what was not sent yet.
            let detail = "an answer of success before the whole request was sent".to_owned();
            self.break_conn(now, at, &Cause::Protocol(detail), cx);
            return;
        }
        let Some((request, whole)) = conn.answered(now) else {
            self.break_conn(now, at, &Cause::Protocol("an answer to no request".to_owned()), cx);
            return;
        };
        let (id, route) = (conn.id, conn.route);
        let sent = Sent { records: request.frame.records(), bytes: request.frame.bytes.len() };
        let location = heading.location.as_deref();
        let judgement = judge(heading.status, location, &mut conn.body, sent, &mut self.scratch);
        conn.parser.reset();
        conn.body.clear();
        let channel = request.channel;
        if let Some(cookie) = &heading.cookie
            && self.acks.take_cookies(channel, cookie)
        {
            self.acks.lose_channel(channel, cx);
            self.replace_channel(now, at, cx);
        }
        self.act(now, at, request, judgement, heading.retry_after, cx);
        self.acks.answered(channel, now, cx);
        self.leave_if_replaced(at, channel, cx);
        let keep_alive = heading.keep_alive;
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

    fn act(
        &mut self,
        now: Instant,
        at: usize,
        request: Request,
        judgement: Judgement,
        asked_pause: Option<Duration>,
        cx: &mut Context,
    ) {
        let Some(route) = self.conns.get(at).map(|conn| conn.route) else {
            self.waiting.push_front(request.frame);
            return;
        };
        match judgement {
            Judgement::Taken { ack_id: None, .. } if self.params.ack == AckMode::Required => {
                cx.counters.duplicates_possible_records += u64::from(request.frame.records());
                self.routes.fail(now, route, Failure::hold(Cause::Hec(no_ack_id())).eject(), cx);
                self.again(request, cx);
            }
            Judgement::Taken { ack_id, slow_down } => {
                let took = request.started.map_or(Duration::ZERO, |started| now.since(started));
                self.routes.succeed(now, route, took, slow_down, cx);
                self.taken(now, at, request, ack_id, cx);
            }
            Judgement::Partial { accepted, ack_id, busy: true, answer } => {
                let mut request = request;
                self.front_taken(now, at, &mut request, (accepted, ack_id), cx);
                self.routes.fail(now, route, Failure::busy(Cause::Hec(answer)).after(asked_pause), cx);
                self.again(request, cx);
            }
            Judgement::TooLarge { answer } => self.too_large(route, request, answer, cx),
            Judgement::Partial { accepted, ack_id, busy: false, answer } => {
                self.routes.succeed(now, route, Duration::ZERO, false, cx);
                self.partly_taken(now, at, request, (accepted, ack_id), &answer, cx);
            }
            Judgement::Again { answer, ambiguous, hold, new_channel } => {
                if ambiguous {
                    cx.counters.duplicates_possible_records += u64::from(request.frame.records());
                }
                // It shuts down, or is not there: nothing more goes to it until it says that it is well.
                let leaves = answer.status == 404 || matches!(answer.code, Some(18..=20 | 23));
                let cause = Cause::Hec(answer);
                let failure = if hold { Failure::hold(cause) } else { Failure::busy(cause) };
                let failure = if leaves { failure.eject() } else { failure };
                self.routes.fail(now, route, failure.after(asked_pause), cx);
                if new_channel {
                    self.reset_channel(now, request.channel, cx);
                }
                if planted(Bug::ErrorCounts) && ambiguous {
                    cx.settle(&request.frame.segments, Settled::Acked);
                    return cx.pool.give(request.frame);
                }
                self.again(request, cx);
            }
        }
    }

    fn taken(&mut self, now: Instant, at: usize, request: Request, ack_id: Option<AckId>, cx: &mut Context) {
        let Request { frame, head, channel, started, .. } = request;
        let started = started.unwrap_or(now);
        match ack_id {
            Some(id) if self.counts_ids(now, at) => {
                cx.counters.hec_ack_mode = BY_INDEXER;
                if self.acks.add(channel, id, frame.segments.clone(), started, now, cx) {
                    self.replace_channel(now, at, cx);
                }
            }
            _ => {
                cx.counters.hec_ack_mode = BY_STATUS;
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
        answer: &HecAnswer,
        cx: &mut Context,
    ) {
        self.front_taken(now, at, &mut request, (accepted, ack_id), cx);
        refuse_front(now, &mut request.frame, answer, cx);
        if planted(Bug::RefusalTakesTheRest) {
            cx.settle(&request.frame.cut_front(u32::MAX), Settled::Acked);
        }
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
            Some(id) if self.counts_ids(now, at) && !planted(Bug::FrontCountsAtOnce) => {
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

    fn again(&mut self, request: Request, cx: &mut Context) {
        cx.counters.sink_retries += 1;
        self.waiting.push_front(request.frame);
    }

    /// From now on this connection sends under a new channel.
    fn replace_channel(&mut self, now: Instant, at: usize, cx: &mut Context) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        let before = core::mem::replace(&mut conn.channel, self.acks.open_channel(conn.route, now, cx));
        self.acks.hand_cookies_on(before, conn.channel);
    }

    /// Nobody at the other end knows this channel any more: what waits in it goes again, under another GUID.
    fn reset_channel(&mut self, now: Instant, channel: ChannelKey, cx: &mut Context) {
        self.acks.lose_channel(channel, cx);
        let Some(at) = self.conns.iter().position(|conn| conn.channel == channel) else { return };
        self.replace_channel(now, at, cx);
        self.leave_if_replaced(at, channel, cx);
    }

    /// The endpoint takes no body of this size: from now on it gets halves. A record that is too large alone is refused.
    fn too_large(&mut self, route: RouteId, request: Request, answer: HecAnswer, cx: &mut Context) {
        cx.counters.sink_retries += 1;
        if request.frame.records() < 2 {
            cx.refuse(request.frame, Refusal::Hec(answer));
            return;
        }
        let bytes = request.frame.bytes.len();
        if let Some(endpoint) = self.routes.endpoint(route)
            && let Some(target) = self.targets.get_mut(usize::from(endpoint.0))
        {
            let cap = bytes / 2;
            if target.body_bytes_max.is_none_or(|known| cap < known) {
                target.body_bytes_max = Some(cap);
                cx.reports.push_back(Report::Notice(Notice::BodyTooLarge { endpoint, bytes, cap, answer }));
            }
        }
        self.waiting.push_front(request.frame);
    }

    /// True where an `ackId` of this connection has to be confirmed by the indexer.
    fn counts_ids(&self, now: Instant, at: usize) -> bool {
        let endpoint = self.conns.get(at).and_then(|conn| self.routes.endpoint(conn.route));
        let target = endpoint.and_then(|endpoint| self.targets.get(usize::from(endpoint.0)));
        let degraded_until = target.and_then(|target| target.degraded_until);
        self.params.ack != AckMode::Off && degraded_until.is_none_or(|until| until <= now)
    }

    /// "ACK is disabled": the token answers with ids no longer, or never did.
    fn acks_are_off(&mut self, now: Instant, route: RouteId, answer: HecAnswer, cx: &mut Context) {
        if self.params.ack == AckMode::Required {
            self.routes.fail(now, route, Failure::hold(Cause::Hec(answer)).eject(), cx);
            return;
        }
        let endpoint = self.routes.endpoint(route);
        if let Some(target) = endpoint.and_then(|endpoint| self.targets.get_mut(usize::from(endpoint.0))) {
            target.degraded_until = Some(now + DEGRADED_FOR);
        }
        cx.counters.hec_ack_mode = BY_STATUS;
        // Nobody can say what became of these: they are pulled again, and then the 200 counts.
        for channel in self.acks.lose_route(route, cx) {
            self.reset_channel(now, channel, cx);
        }
        self.routes.poll_worked(route, cx);
        if let Some(endpoint) = endpoint {
            cx.reports.push_back(Report::Notice(Notice::AckOff { endpoint, answer }));
        }
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
            Outcome::Answer { route, question: Question::Acks(asked), answer } => {
                self.handle_poll_answer(now, route, asked, answer, cx);
            }
            Outcome::Answer { route, question, answer } => {
                self.handle_health(now, route, question, answer, cx);
            }
            Outcome::Broken { route, question, detail } => {
                self.question_failed(now, route, question, Cause::Protocol(detail), cx);
            }
        }
    }

    fn handle_poll_answer(
        &mut self,
        now: Instant,
        route: RouteId,
        asked: Asked,
        mut answer: Answered,
        cx: &mut Context,
    ) {
        if let Some(cookie) = &answer.cookie
            && self.acks.take_cookies(asked.channel, cookie)
        {
            // Another indexer answered: it does not know these ids, and a `true` of it means another request.
            self.reset_channel(now, asked.channel, cx);
            return;
        }
        if answer.status == 200 && self.acks.handle_answer(&asked, &mut answer.body, now, cx) {
            self.routes.poll_worked(route, cx);
            return;
        }
        let refusal = self.refusal_of(&mut answer);
        match (refusal.status, refusal.code) {
            (400, Some(14)) => self.acks_are_off(now, route, refusal, cx),
            (400, Some(10 | 11 | 28)) => {
                self.reset_channel(now, asked.channel, cx);
                self.question_failed(now, route, Some(Question::Acks(asked)), Cause::Hec(refusal), cx);
            }
            _ => self.question_failed(now, route, Some(Question::Acks(asked)), Cause::Hec(refusal), cx),
        }
    }

    /// An address that was out of use has answered.
    fn handle_health(
        &mut self,
        now: Instant,
        route: RouteId,
        question: Question,
        mut answer: Answered,
        cx: &mut Context,
    ) {
        let pause = answer.retry_after;
        let is_well = match question {
            // Only a 503 speaks of health; whatever else is wrong, the next request shows it better.
            Question::Health => answer.status != 503,
            _ => answer.status == 200 && memchr::memmem::find(&answer.body, b"\"acks\"").is_some(),
        };
        if is_well {
            self.routes.readmit(route);
            return;
        }
        let refusal = self.refusal_of(&mut answer);
        let by_operator = refusal.status < 500 && refusal.status != 429;
        let cause = Cause::Hec(refusal);
        let failure = if by_operator { Failure::hold(cause) } else { Failure::busy(cause) };
        self.routes.fail(now, route, failure.eject().after(pause), cx);
    }

    /// A question got no answer that says anything.
    pub(super) fn question_failed(
        &mut self,
        now: Instant,
        route: RouteId,
        question: Option<Question>,
        cause: Cause,
        cx: &mut Context,
    ) {
        match question {
            Some(Question::Acks(asked)) => {
                if planted(Bug::FailedPollConfirms) {
                    self.acks.lose_channel(asked.channel, cx);
                    cx.settled.iter_mut().for_each(|(_, how)| *how = Settled::Acked);
                }
                self.acks.hold_polls(route, now);
                self.routes.poll_failed(route, cause, self.params.poll_interval, cx);
            }
            Some(Question::Health | Question::HasAcks) => {
                self.routes.fail(now, route, Failure::soft(cause).eject(), cx);
            }
            None => {}
        }
    }

    /// What an answer that is no success says.
    fn refusal_of(&mut self, answer: &mut Answered) -> HecAnswer {
        let location = answer.location.as_deref();
        match judge(answer.status, location, &mut answer.body, Sent::default(), &mut self.scratch) {
            Judgement::Again { answer, .. }
            | Judgement::Partial { answer, .. }
            | Judgement::TooLarge { answer } => answer,
            Judgement::Taken { .. } => HecAnswer {
                status: answer.status,
                code: Some(0),
                text: "the answer to an acknowledgement poll holds no acks".to_owned(),
                invalid_event: None,
                location: None,
            },
        }
    }
}

/// What the head of an answer says beside its status.
struct Heading {
    status: u16,
    location: Option<String>,
    keep_alive: bool,
    retry_after: Option<Duration>,
    cookie: Option<String>,
}

impl Heading {
    fn of(head: &Head<'_>) -> Self {
        Self {
            status: head.status(),
            location: head.header("location").map(ToOwned::to_owned),
            keep_alive: head.keep_alive(),
            retry_after: poll::retry_after(head),
            cookie: poll::cookie(head),
        }
    }
}

fn no_ack_id() -> HecAnswer {
    HecAnswer {
        status: 200,
        code: Some(14),
        text: "the answer carries no ackId: indexer acknowledgement is off for this token".to_owned(),
        invalid_event: None,
        location: None,
    }
}

/// Values of the gauge `hec_ack_mode`.
const BY_STATUS: u64 = 1;
const BY_INDEXER: u64 = 2;
/// After "ACK is disabled" ids are not waited for; then they are given another chance.
const DEGRADED_FOR: Duration = Duration::from_mins(10);

/// Takes the refused record out of the front of a frame. An index that the token may not write to is refused by its
/// name: every record of the frame that names it goes out with the first, instead of one round trip each. Without
/// a dead letter they hold their shard, together with what stands behind them.
fn refuse_front(now: Instant, frame: &mut Frame, answer: &HecAnswer, cx: &mut Context) {
    let by_index = answer.code == Some(7);
    if by_index && !cx.has_dead_letter {
        let mut held = cx.pool.take_for_part(now);
        frame.move_front(frame.records(), &mut held);
        cx.refuse(held, Refusal::Hec(answer.clone()));
        return;
    }
    let refuse = |frame: &mut Frame, cx: &mut Context| {
        let mut refused = cx.pool.take_for_part(now);
        frame.move_front(1, &mut refused);
        cx.refuse(refused, Refusal::Hec(answer.clone()));
    };
    if !by_index {
        refuse(frame, cx);
        return;
    }
    let wanted = frame.lines().next().and_then(index_of);
    let also: Vec<bool> = frame.lines().map(|line| index_of(line) == wanted).collect();
    let mut kept = cx.pool.take_for_part(now);
    for is_refused in also {
        if is_refused {
            refuse(frame, cx);
        } else {
            frame.move_front(1, &mut kept);
        }
    }
    let spent = core::mem::replace(frame, kept);
    cx.pool.give(spent);
}
