//! The calls of the control plane: on their way, and at the service.

use sls2siem::proto::event::{Closed, ClosedKind};
use sls2siem::proto::ids::{Cursor, ShardId};
use sls2siem::proto::sls::api::CursorFrom;
use sls2siem::proto::sls::api::answer::Group as Listed;
use sls2siem::proto::sls::error::SlsError;
use sls2siem::proto::sls::lease::call::{Call, CallError, CallId, Reply};

use super::super::forwarder::wall;
use super::{Event, MILLI, SECOND, World};
use crate::sls::Sls;

impl World {
    pub(super) fn send(&mut self, process: u64, id: CallId, call: Call) -> Result<(), String> {
        let now = self.now;
        if let Some(forwarder) = self.forwarders.iter_mut().find(|forwarder| forwarder.process == process) {
            match &call {
                Call::Heartbeat { .. } => {
                    forwarder.beats.insert(id, now);
                    forwarder.last_beat = now;
                }
                Call::GetCheckpoint { shard } => drop(forwarder.asked.insert(shard.0, now)),
                Call::UpdateCheckpoint { shard, .. } if forwarder.lease_until <= now => {
                    let (name, since) = (&forwarder.name, (now - forwarder.lease_until) / MILLI);
                    return Err(format!(
                        "{name} saves a checkpoint of shard {shard} although its lease ended {since} ms ago"
                    ));
                }
                _ => {}
            }
        }
        let lost = self.dice.strike(self.chances.call_lost);
        let (wait, back) = (self.latency(), !self.dice.strike(self.chances.reply_lost));
        let timeout = Err(CallError::Transport {
            why: Closed { kind: ClosedKind::Timeout, detail: "simulated".into() },
            maybe_done: true,
        });
        if !lost {
            if self.dice.strike(self.chances.call_twice) {
                let later = wait + self.dice.below(3_000) * MILLI;
                self.at(later, Event::Call(process, id, call.clone(), false));
            }
            self.at(wait, Event::Call(process, id, call, back));
        }
        if lost || !back {
            self.at(1_500 * MILLI, Event::Reply(process, id, timeout));
        }
        Ok(())
    }

    /// Some milliseconds, and now and then more than a lease.
    pub(super) fn latency(&mut self) -> u64 {
        let slow = self.dice.strike(self.chances.call_slow);
        MILLI * (1 + self.dice.below(if slow { 9_000 } else { 40 }))
    }

    pub(super) fn serve_call(
        &mut self,
        process: u64,
        call: &Call,
    ) -> Result<Result<Reply, CallError>, String> {
        if self.dice.strike(self.chances.call_refused) {
            let code = ["ServerBusy", "InternalServerError"][usize::try_from(self.dice.below(2)).unwrap()];
            return Ok(Err(refusal(code)));
        }
        // A call may arrive after its sender is gone: its name is all that the service knows.
        let name = self.name_of(process);
        let now = self.now;
        let done = |result: Result<(), &'static str>| result.map(|()| Reply::Done).map_err(refusal);
        let result = match call {
            Call::ListGroups => {
                let (timeout, order) = self.group.settings();
                let group = Listed { name: "g".into(), timeout_secs: timeout / SECOND, order };
                Ok(Reply::Groups(if self.group.exists { vec![group] } else { Vec::new() }))
            }
            Call::CreateGroup { timeout_secs, in_order } => {
                let shards: Vec<(u32, Vec<u32>)> =
                    (0..).zip(&self.shape).map(|(shard, (parents, ..))| (shard, parents.clone())).collect();
                done(self.group.create(timeout_secs * SECOND, *in_order, &shards))
            }
            Call::UpdateGroup { timeout_secs, in_order } => {
                done(self.group.update(timeout_secs * SECOND, *in_order))
            }
            Call::Heartbeat { shards } => {
                let body: Vec<u32> = shards.iter().map(|shard| shard.0).collect();
                let answer = self.group.heartbeat(now, &name, &body).map_err(refusal);
                answer.map(|shards| Reply::Shards(shards.into_iter().map(ShardId).collect()))
            }
            Call::GetCheckpoint { shard } => self
                .group
                .checkpoint(shard.0)
                .map(|group| Reply::Checkpoint(group.map(|group| Cursor::new(&self.sls.cursor(group)))))
                .map_err(refusal),
            Call::GetCursor { shard, from } => {
                let (held, oldest) = (&self.sls.shards[shard.0 as usize], self.shape[shard.0 as usize].1);
                let at = if *from == CursorFrom::End { held.readable } else { oldest };
                Ok(Reply::Cursor(Cursor::new(&self.sls.cursor(at))))
            }
            Call::GetCursorTime { .. } => Ok(Reply::CursorTime(wall(now).as_secs())),
            Call::GetLogstore => Ok(Reply::Retention(None)),
            Call::UpdateCheckpoint { shard, cursor } => return self.commit(&name, shard.0, cursor),
        };
        Ok(result)
    }

    pub(super) fn commit(
        &mut self,
        name: &str,
        shard: u32,
        cursor: &Cursor,
    ) -> Result<Result<Reply, CallError>, String> {
        let group = self.sls.group(cursor.as_str()).ok_or("a checkpoint that SLS never gave")?;
        let held = &self.sls.shards[shard as usize];
        let is_end = self.shape[shard as usize].2 && group == held.groups.len();
        let before = self.group.checkpoint(shard).ok().flatten();
        let result = self.group.commit(self.now, name, shard, group, is_end);
        if result.is_ok() {
            self.laws()?;
            let records = held_before(&self.sls, shard, group);
            let missing = (0..records).find(|number| {
                !self.stored.contains(&(shard, *number)) && !self.expired.contains(&(shard, *number))
            });
            if let Some(number) = missing {
                return Err(format!(
                    "shard {shard}: {name} saved group {group}, but record {number} before it is not stored"
                ));
            }
            // An answer that comes late, or twice, cannot be told from a new one: only the holder's own order counts. Nor
            // can a member that missed the deletion of the group know what another one has saved in the new group.
            if before.is_some_and(|before| group < before)
                && !self.chances.call_twice.is_on()
                && !self.chances.call_slow.is_on()
                && self.outcome.deletions == 0
            {
                return Err(format!("shard {shard}: the checkpoint went back from {before:?} to {group}"));
            }
        }
        Ok(result.map(|()| Reply::Done).map_err(refusal))
    }

    pub(super) fn name_of(&self, process: u64) -> String {
        let living = self.forwarders.iter().find(|forwarder| forwarder.process == process);
        living.map_or_else(|| format!("c{process}"), |forwarder| forwarder.name.clone())
    }
}

fn held_before(sls: &Sls, shard: u32, group: usize) -> u64 {
    sls.shards[shard as usize].before[group]
}

fn refusal(code: &str) -> CallError {
    CallError::Sls(SlsError {
        status: 400,
        code: code.into(),
        message: "simulated".into(),
        request_id: "S4".into(),
        server_time: None,
    })
}
