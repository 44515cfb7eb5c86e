//! What the parts of a pipeline share: the outgoing queues, the counters, the buffers, the dice.
//!
//! Why: shards and the sink both open connections, report and settle records; passing one context keeps their
//! signatures short and their order of effects visible in one place.
//! Invariants: 1. connection names are never reused. 2. everything in `settled` is applied to the ledgers
//!  before the pipeline looks for new work.
//! Bounds: what one step can produce; the queues are empty between steps.
//! Driven by: `pipeline`, which drains all of it after every step.

use core::time::Duration;
use std::collections::VecDeque;

use super::counters::Counters;
use super::event::{Action, Alarm, Cause, Refusal, Report, Scope, To};
use super::frame::{Frame, FramePool, Segment};
use super::ids::{ConnId, ShardId};
use super::planted::{Bug, planted};
use super::rng::Rng;

/// What became of some records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The sink has them for good.
    Acked,
    /// The dead letter has them for good.
    DeadLettered,
    /// Their acknowledgement will never come and their bytes are gone: pull them again.
    Lost,
}

/// The shared part of one pipeline.
#[derive(Debug)]
pub struct Context {
    /// For the driver.
    pub actions: VecDeque<Action>,
    /// For the control plane.
    pub reports: VecDeque<Report>,
    /// For the ledgers.
    pub settled: Vec<(Segment, Settled)>,
    /// For the dead letter: frames whose records are refused for good, with the cause.
    pub refused: Vec<(Frame, Refusal)>,
    /// There is a dead letter: a refused record does not hold its shard.
    pub has_dead_letter: bool,
    /// Counts.
    pub counters: Counters,
    /// Dice.
    pub rng: Rng,
    /// Frame buffers.
    pub pool: FramePool,
    next_conn: u64,
}

impl Context {
    /// An empty context.
    pub fn new(pool: FramePool, seed: u64) -> Self {
        Self {
            actions: VecDeque::new(),
            reports: VecDeque::new(),
            settled: Vec::new(),
            refused: Vec::new(),
            has_dead_letter: false,
            counters: Counters::default(),
            rng: Rng::new(seed),
            pool,
            next_conn: 0,
        }
    }

    /// Asks the driver for a connection and names it.
    pub fn connect(&mut self, to: To) -> ConnId {
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        self.actions.push_back(Action::Connect { conn, to });
        conn
    }

    /// Hands a frame over whose records are refused for good. Mostly it holds one record: only those go in here
    /// that were refused, or that are sure to be refused for the same reason.
    pub fn refuse(&mut self, mut frame: Frame, refusal: Refusal) {
        frame.settle_credit();
        if planted(Bug::RefusedIsDropped) {
            self.settle(&frame.segments, Settled::Acked);
            return self.pool.give(frame);
        }
        self.refused.push((frame, refusal));
    }

    /// Settles all records of some segments.
    pub fn settle(&mut self, segments: &[Segment], how: Settled) {
        self.settled.extend(segments.iter().map(|segment| (*segment, how)));
    }
}

/// Whether somebody is in trouble, so that a change is reported once and not every attempt.
#[derive(Debug, Default)]
pub struct Trouble {
    kind: Option<(u8, String)>,
    attempts: u64,
}

impl Trouble {
    /// One more failed attempt.
    pub fn raise(&mut self, cx: &mut Context, scope: Scope, cause: Cause, retry_in: Duration) {
        self.attempts += 1;
        let kind = kind_of(&cause);
        if self.kind.as_ref() != Some(&kind) {
            self.kind = Some(kind);
            cx.reports.push_back(Report::Alarm(Alarm { scope, cause, retry_in }));
        }
    }

    /// It works again.
    pub fn clear(&mut self, cx: &mut Context, scope: Scope) {
        if self.kind.take().is_some() {
            cx.reports.push_back(Report::Clear { scope, attempts: self.attempts });
        }
        self.attempts = 0;
    }

    /// True between a `raise` and its `clear`.
    pub fn is_raised(&self) -> bool {
        self.kind.is_some()
    }
}

/// Two causes of one kind are the same trouble.
fn kind_of(cause: &Cause) -> (u8, String) {
    match cause {
        Cause::Sls(error) => (0, format!("{} {}", error.status, error.code)),
        Cause::CorruptBody { .. } => (1, String::new()),
        Cause::PullTooLarge { .. } => (2, String::new()),
        Cause::Hec(answer) => (3, format!("{} {:?}", answer.status, answer.code)),
        Cause::Protocol(_) => (4, String::new()),
        Cause::Transport(closed) => (5, format!("{:?}", closed.kind)),
        Cause::Syslog(trouble) => (8, format!("{:?}", core::mem::discriminant(trouble))),
        Cause::Refused(record) => (6, kind_of_refusal(&record.refusal)),
        Cause::DeadLetter(_) => (7, String::new()),
    }
}

/// Two refusals of one kind are the same trouble.
pub fn kind_of_refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Hec(answer) => format!("hec {} {:?}", answer.status, answer.code),
        Refusal::Relp { code, .. } => format!("relp {code}"),
        Refusal::Oversize { .. } => "oversize".to_owned(),
    }
}

/// The scope of a shard's troubles.
pub fn shard_scope(shard: ShardId) -> Scope {
    Scope::Shard(shard)
}
