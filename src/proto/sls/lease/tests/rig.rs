//! The scripted server and clock of the lease's tests.

use std::collections::BTreeMap;

use core::time::Duration;

use crate::proto::event::{Closed, ClosedKind, Command, Report};
use crate::proto::ids::{Cursor, Epoch, ShardId};
use crate::proto::sls::api::CursorFrom;
use crate::proto::sls::api::answer::Group;
use crate::proto::sls::error::SlsError;
use crate::proto::sls::lease::call::{Call, CallError, CallId, Reply};
use crate::proto::sls::lease::event::LeaseEvent;
use crate::proto::sls::lease::{Lease, OnExpired, Params};
use crate::proto::time::{Instant, UnixTime};

/// What the server does with one call.
pub(super) enum Fate {
    /// Carry it out and answer.
    Serve,
    /// Answer only when the test says so.
    Hold,
    /// Refuse it with this code.
    Refuse(&'static str),
    /// Answer exactly this.
    Answer(Reply),
    /// Carry it out, but the answer gets lost.
    LoseReply,
    /// It never arrives.
    Unreachable,
}

pub(super) struct Rig {
    pub(super) lease: Lease,
    pub(super) now: Instant,
    /// The server's side.
    pub(super) group: Option<Group>,
    pub(super) checkpoints: BTreeMap<u32, String>,
    pub(super) ours: Vec<u32>,
    pub(super) fate: Box<dyn FnMut(&Call) -> Fate>,
    /// What happened.
    pub(super) calls: Vec<(Instant, Call)>,
    pub(super) held: Vec<(CallId, Call)>,
    pub(super) commands: Vec<Command>,
    /// The last lease that the data plane was told.
    pub(super) until: Option<Instant>,
    pub(super) events: Vec<LeaseEvent>,
}

pub(super) fn params() -> Params {
    Params {
        group: "g".into(),
        heartbeat_interval: secs(20),
        timeout: secs(40),
        in_order: false,
        start: CursorFrom::Begin,
        began: UnixTime::from_secs(1_690_000_000),
        stop: None,
        checkpoint_interval: secs(3),
        on_expired_cursor: OnExpired::Begin,
        fail_fast: false,
        drain_wait: secs(40),
        stop_wait: secs(30),
        calls_max: 4,
        seed: 1,
    }
}

pub(super) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(super) fn refusal(code: &str) -> CallError {
    CallError::Sls(SlsError {
        status: 400,
        code: code.into(),
        message: if code == "Unauthorized" { "denied by sts or ram".into() } else { String::new() },
        request_id: "5B0A".into(),
        server_time: None,
    })
}

fn broken(kind: ClosedKind, maybe_done: bool) -> CallError {
    CallError::Transport { why: Closed { kind, detail: "as the kernel said it".into() }, maybe_done }
}

pub(super) fn lost() -> CallError {
    broken(ClosedKind::Timeout, true)
}

fn from_text(from: CursorFrom) -> String {
    match from {
        CursorFrom::Begin => "begin".into(),
        CursorFrom::End => "end".into(),
        CursorFrom::Time(time) => time.as_secs().to_string(),
    }
}

impl Rig {
    /// The group exists and nothing goes wrong.
    pub(super) fn new(ours: &[u32]) -> Self {
        Self::with(params(), ours)
    }

    pub(super) fn with(params: Params, ours: &[u32]) -> Self {
        let now = Instant(1_000_000_000_000);
        Self {
            lease: Lease::new(params, now),
            now,
            group: Some(Group { name: "g".into(), timeout_secs: 40, order: false }),
            checkpoints: BTreeMap::new(),
            ours: ours.to_vec(),
            fate: Box::new(|_| Fate::Serve),
            calls: Vec::new(),
            held: Vec::new(),
            commands: Vec::new(),
            until: None,
            events: Vec::new(),
        }
    }

    /// Everything that happens without time passing.
    pub(super) fn settle(&mut self) {
        for _ in 0..1_000 {
            let Some((id, call)) = self.lease.poll_call(self.now) else {
                self.drain();
                return;
            };
            self.calls.push((self.now, call.clone()));
            let result = match (self.fate)(&call) {
                Fate::Serve => self.serve(&call),
                Fate::Hold => {
                    self.held.push((id, call));
                    continue;
                }
                Fate::Refuse(code) => Err(refusal(code)),
                Fate::Answer(reply) => Ok(reply),
                Fate::LoseReply => self.serve(&call).and_then(|_| Err(lost())),
                Fate::Unreachable => Err(broken(ClosedKind::Connect, false)),
            };
            self.lease.handle_reply(self.now, id, result);
        }
        panic!("the lease calls for ever: {:?}", &self.calls[self.calls.len() - 5..]);
    }

    fn drain(&mut self) {
        while let Some(command) = self.lease.poll_command() {
            match command {
                Command::Lease { until } => self.until = Some(until),
                command => self.commands.push(command),
            }
        }
        while let Some(event) = self.lease.poll_event() {
            self.events.push(event);
        }
    }

    pub(super) fn serve(&mut self, call: &Call) -> Result<Reply, CallError> {
        let missing = Err(refusal("ConsumerGroupNotExist"));
        match call {
            Call::ListGroups => Ok(Reply::Groups(self.group.iter().cloned().collect())),
            Call::CreateGroup { .. } if self.group.is_some() => Err(refusal("ConsumerGroupAlreadyExist")),
            Call::CreateGroup { timeout_secs, in_order } | Call::UpdateGroup { timeout_secs, in_order } => {
                if self.group.is_none() {
                    self.checkpoints.clear();
                }
                self.group = Some(Group { name: "g".into(), timeout_secs: *timeout_secs, order: *in_order });
                Ok(Reply::Done)
            }
            _ if self.group.is_none() => missing,
            Call::Heartbeat { .. } => {
                Ok(Reply::Shards(self.ours.iter().map(|&shard| ShardId(shard)).collect()))
            }
            Call::GetCheckpoint { shard } => {
                Ok(Reply::Checkpoint(self.checkpoints.get(&shard.0).map(|text| Cursor::new(text))))
            }
            Call::GetCursor { shard, from } => {
                Ok(Reply::Cursor(Cursor::new(&format!("{}-{shard}", from_text(*from)))))
            }
            Call::GetCursorTime { .. } => Ok(Reply::CursorTime(1_700_000_000)),
            Call::GetLogstore => Ok(Reply::Retention(None)),
            Call::UpdateCheckpoint { shard, .. } if !self.ours.contains(&shard.0) => {
                Err(refusal("ConsumerNotMatch"))
            }
            Call::UpdateCheckpoint { shard, cursor } => {
                self.checkpoints.insert(shard.0, cursor.as_str().into());
                Ok(Reply::Done)
            }
        }
    }

    /// Lets time pass, stopping at every deadline of the lease.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        let mut turns = 0;
        while let Some(next) = self.lease.poll_timeout().filter(|next| *next <= end) {
            turns += 1;
            assert!(turns < 10_000, "deadlines do not move on: {next:?} at {:?}", self.now);
            self.now = self.now.max(next);
            self.lease.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
    }

    /// Lets time pass while the process is frozen.
    pub(super) fn freeze(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    pub(super) fn report(&mut self, report: Report) {
        self.lease.handle_report(self.now, report);
        self.settle();
    }

    pub(super) fn safe(&mut self, shard: u32, cursor: &str) {
        let epoch = self.epoch(shard);
        self.safe_of(shard, epoch, cursor);
    }

    pub(super) fn safe_of(&mut self, shard: u32, epoch: Epoch, cursor: &str) {
        let cursor = Cursor::new(cursor);
        self.report(Report::Safe { shard: ShardId(shard), epoch, cursor, cursor_time: Some(1_600_000_000) });
    }

    pub(super) fn drained(&mut self, shard: u32) {
        let epoch = self.epoch(shard);
        self.report(Report::Drained { shard: ShardId(shard), epoch });
    }

    pub(super) fn dropped(&mut self, shard: u32) {
        let epoch = self.epoch(shard);
        self.report(Report::Dropped { shard: ShardId(shard), epoch });
    }

    pub(super) fn expired(&mut self, shard: u32, cursor: &str) {
        let epoch = self.epoch(shard);
        self.report(Report::CursorExpired {
            shard: ShardId(shard),
            epoch,
            cursor: Cursor::new(cursor),
            refused: true,
        });
    }

    /// Epoch of the last assignment of a shard.
    pub(super) fn epoch(&self, shard: u32) -> Epoch {
        let assigned = self.commands.iter().rev().find_map(|command| match command {
            Command::Assign { shard: assigned, epoch, .. } if assigned.0 == shard => Some(*epoch),
            _ => None,
        });
        assigned.expect("the shard was never assigned")
    }

    /// Answers a held call.
    pub(super) fn answer(&mut self, index: usize, result: Result<Reply, CallError>) {
        let (id, _) = self.held.remove(index);
        self.lease.handle_reply(self.now, id, result);
        self.settle();
    }

    /// Bodies of all heartbeats so far.
    pub(super) fn bodies(&self) -> Vec<Vec<u32>> {
        let body = |call: &Call| match call {
            Call::Heartbeat { shards } => Some(shards.iter().map(|shard| shard.0).collect()),
            _ => None,
        };
        self.calls.iter().filter_map(|(_, call)| body(call)).collect()
    }

    pub(super) fn last_body(&self) -> Vec<u32> {
        self.bodies().pop().expect("no heartbeat yet")
    }

    /// Cursors of all commits of a shard so far.
    pub(super) fn commits(&self, shard: u32) -> Vec<&str> {
        let cursor = |call| match call {
            &Call::UpdateCheckpoint { shard: saved, ref cursor } if saved.0 == shard => Some(cursor.as_str()),
            _ => None,
        };
        self.calls.iter().filter_map(|(_, call)| cursor(call)).collect()
    }

    /// The commands since the last look, as short text.
    pub(super) fn orders(&self) -> Vec<String> {
        let order = |command: &Command| match command {
            Command::Assign { shard, cursor, end: None, .. } => format!("assign {shard} {cursor}"),
            Command::Assign { shard, cursor, end: Some(end), .. } => {
                format!("assign {shard} {cursor} to {end}")
            }
            Command::Revoke { shard, .. } => format!("revoke {shard}"),
            Command::Abandon { shard, .. } => format!("abandon {shard}"),
            Command::Lease { until } => format!("lease {until:?}"),
            Command::Credentials(_) => "credentials".into(),
            Command::Token(_) => "token".into(),
            Command::Stop => "stop".into(),
        };
        self.commands.iter().map(order).collect()
    }

    pub(super) fn last_order(&self) -> String {
        self.orders().pop().expect("no order yet")
    }

    pub(super) fn names(&self) -> Vec<&'static str> {
        self.calls.iter().map(|(_, call)| call.name()).collect()
    }

    pub(super) fn saw(&self, wanted: impl Fn(&LeaseEvent) -> bool) -> bool {
        self.events.iter().any(wanted)
    }
}
