//! A consumer group from outside: how far each shard is, and moving it.
//!
//! Why: `status` shows what the console shows, `seek` moves checkpoints; neither may join the group for it, because a
//! heartbeat would take shards away from those who work.
//! Invariants: 1. reading changes nothing. 2. a checkpoint is forced only where no live consumer holds the shard.
//! 3. what cannot be read is absent, never a guess.
//! Bounds: [`ASKERS`] calls at a time, two or three per shard. Driven by: `cli::status`, `cli::seek`.
//! Spec: GetCheckPoint, `ListShards`, GetCursor, `GetCursorTime`, UpdateCheckPoint.

use std::collections::BTreeMap;
use std::thread;

use super::sls_api::SlsApi;
use crate::proto::ids::{Cursor, ShardId};
use crate::proto::sls::api::answer::{self, AnswerError, Checkpoint, ShardStatus};
use crate::proto::sls::api::{self, ApiRequest, CursorFrom};
use crate::proto::sls::lease::call::CallError;
use crate::proto::sls::lease::verdict::Verdict;
use crate::proto::sls::position;
use crate::proto::sls::sign::Credentials;
use crate::proto::time::UnixTime;
use crate::report::Doing;

/// A group of one logstore.
#[derive(Clone, Debug)]
pub struct GroupApi {
    /// The way to SLS.
    pub api: SlsApi,
    /// Keys.
    pub credentials: Credentials,
    /// The logstore.
    pub logstore: String,
    /// The group.
    pub group: String,
}

/// A call that failed, and which.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// What was to be done.
    pub doing: Doing,
    /// As received.
    pub cause: CallError,
}

impl Failure {
    /// True where the group does not exist.
    pub fn is_missing_group(&self) -> bool {
        Verdict::of(&self.cause) == Verdict::GroupMissing
    }
}

/// One shard of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// The shard.
    pub shard: ShardId,
    /// Whether it takes data; none where shards may not be listed.
    pub status: Option<ShardStatus>,
    /// Who saved last.
    pub consumer: String,
    /// Where the group is; none where nothing was ever saved.
    pub checkpoint: Option<Cursor>,
    /// When that was saved.
    pub saved: Option<UnixTime>,
    /// Receive time of the last log before the checkpoint, unix seconds.
    pub time: Option<u64>,
    /// Behind the newest data.
    pub end: Option<Cursor>,
    /// Receive time of the first log at the checkpoint, unix seconds, where there is one.
    pub next_time: Option<u64>,
}

impl Progress {
    /// True where nothing is left to read at this moment.
    pub fn is_at_end(&self) -> bool {
        self.checkpoint.is_some() && self.checkpoint == self.end
    }

    /// Seconds since the oldest log was received that is not saved as delivered.
    pub fn behind_secs(&self, now: UnixTime) -> Option<u64> {
        if self.is_at_end() {
            return Some(0);
        }
        self.checkpoint.as_ref()?;
        self.next_time.or(self.time).map(|time| now.as_secs().saturating_sub(time))
    }

    /// Log groups that are not saved as delivered: an estimate, from the numbers inside of cursors.
    pub fn behind_groups(&self) -> Option<u64> {
        let groups = position::distance(self.checkpoint.as_ref()?, self.end.as_ref()?)?;
        Some(u64::try_from(groups).unwrap_or(0))
    }
}

/// Where a shard would be moved to.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    /// How it stands.
    pub now: Progress,
    /// The new checkpoint.
    pub to: Cursor,
    /// Receive time there, unix seconds, where it can be had.
    pub to_time: Option<u64>,
}

impl Move {
    /// Log groups that are skipped (positive) or sent again (negative): an estimate.
    pub fn groups(&self) -> Option<i64> {
        position::distance(self.now.checkpoint.as_ref()?, &self.to)
    }

    /// True where nothing changes.
    pub fn is_idle(&self) -> bool {
        self.now.checkpoint.as_ref() == Some(&self.to)
    }
}

impl GroupApi {
    /// How far the group is, one entry per shard.
    pub fn read(&self) -> Result<Vec<Progress>, Failure> {
        let saved = self.checkpoints()?;
        let mut rows: BTreeMap<ShardId, Progress> = BTreeMap::new();
        for Checkpoint { shard, cursor, update_time, consumer } in saved {
            let checkpoint = Some(cursor).filter(|cursor| !cursor.is_empty());
            rows.insert(shard, Progress { consumer, checkpoint, saved: update_time, ..empty(shard) });
        }
        // Not every key may list shards; the group knows those that it has met.
        if let Ok(shards) = self.ask(Doing::ListShards, &api::list_shards(&self.logstore), answer::shards) {
            for shard in shards {
                rows.entry(shard.id).or_insert_with(|| empty(shard.id)).status = Some(shard.status);
            }
        }
        let rows: Vec<Progress> = rows.into_values().collect();
        Ok(Self::each(rows, |row| self.look(row)))
    }

    /// Where the shards would be moved to.
    pub fn plan(&self, rows: Vec<Progress>, to: CursorFrom) -> Result<Vec<Move>, Failure> {
        let moves = Self::each(rows, |now| {
            let to = match self.cursor(now.shard, to) {
                Ok(to) => to,
                // The group remembers shards longer than the logstore has them.
                Err(failure) if Verdict::of(&failure.cause) == Verdict::ShardGone => return Ok(None),
                Err(failure) => return Err(failure),
            };
            let to_time = self.time(now.shard, &to);
            Ok(Some(Move { now, to, to_time }))
        });
        moves.into_iter().filter_map(Result::transpose).collect()
    }

    /// Consumers that hold one of these shards now. SLS takes a checkpoint without force from the holder alone: the one
    /// that stands there already is offered in the name of whoever saved it.
    pub fn holders(&self, moves: &[Move]) -> Result<Vec<(ShardId, String)>, Failure> {
        let mut held = Vec::new();
        for saved in self.checkpoints()? {
            let Checkpoint { shard, cursor, consumer, update_time: saved_at } = saved;
            let ours = moves.iter().any(|moved| moved.now.shard == shard);
            if !ours || consumer.is_empty() || cursor.is_empty() {
                continue;
            }
            // Somebody who saves right now holds it, and is not to be set back by an offer that comes late.
            let again = api::get_checkpoint(&self.logstore, &self.group, Some(shard));
            let again = self.ask(Doing::ReadGroup, &again, answer::checkpoints)?;
            let newer = again.into_iter().find(|now| now.shard == shard);
            if newer.is_some_and(|now| now.cursor != cursor || now.update_time != saved_at) {
                held.push((shard, consumer));
                continue;
            }
            let request = api::update_checkpoint(&self.logstore, &self.group, &consumer, shard, &cursor);
            match self.api.send(&request, &self.credentials) {
                Ok(_) => held.push((shard, consumer)),
                Err(cause) => match Verdict::of(&cause) {
                    // Or what stands there has left the retention, and SLS looked at that before the holder.
                    Verdict::ConsumerGone | Verdict::NotHolder | Verdict::ShardGone | Verdict::CursorGone => {
                    }
                    _ => return Err(Failure { doing: Doing::SaveCheckpoint(shard), cause }),
                },
            }
        }
        Ok(held)
    }

    /// Moves one shard, whoever holds it.
    pub fn force(&self, moved: &Move) -> Result<(), Failure> {
        let shard = moved.now.shard;
        let request = api::force_checkpoint(&self.logstore, &self.group, shard, &moved.to);
        let sent = self.api.send(&request, &self.credentials);
        sent.map(drop).map_err(|cause| Failure { doing: Doing::SaveCheckpoint(shard), cause })
    }

    /// The group's timeout, where groups may be listed.
    pub fn timeout_secs(&self) -> Option<u64> {
        let groups = self.ask(Doing::ReadGroup, &api::list_groups(&self.logstore), answer::groups).ok()?;
        groups.into_iter().find(|group| group.name == self.group).map(|group| group.timeout_secs)
    }

    fn checkpoints(&self) -> Result<Vec<Checkpoint>, Failure> {
        let request = api::get_checkpoint(&self.logstore, &self.group, None);
        self.ask(Doing::ReadGroup, &request, answer::checkpoints)
    }

    /// Fills in the positions and times of one shard, as far as they can be had.
    fn look(&self, row: Progress) -> Progress {
        let end = self.cursor(row.shard, CursorFrom::End).ok();
        let before = row.checkpoint.as_ref().and_then(position::previous);
        let time = before.and_then(|before| self.time(row.shard, &before));
        let row = Progress { time, end, ..row };
        let next = row.checkpoint.as_ref().filter(|_| !row.is_at_end());
        let next_time = next.and_then(|next| self.time(row.shard, next));
        Progress { next_time, ..row }
    }

    fn cursor(&self, shard: ShardId, from: CursorFrom) -> Result<Cursor, Failure> {
        self.ask(Doing::GetCursor(shard), &api::get_cursor(&self.logstore, shard, from), answer::cursor)
    }

    fn time(&self, shard: ShardId, cursor: &Cursor) -> Option<u64> {
        let request = api::get_cursor_time(&self.logstore, shard, cursor);
        self.ask(Doing::GetCursorTime(shard), &request, answer::cursor_time).ok()
    }

    fn ask<T>(
        &self,
        doing: Doing,
        request: &ApiRequest,
        read: impl Fn(&[u8]) -> Result<T, AnswerError>,
    ) -> Result<T, Failure> {
        let body = self.api.send(request, &self.credentials).map_err(|cause| Failure { doing, cause })?;
        let garbage =
            |error: AnswerError| Failure { doing, cause: CallError::not_understood(error.to_string()) };
        read(&body).map_err(garbage)
    }

    /// The same for each shard, some at a time, in their order.
    fn each<In: Send, Out: Send>(items: Vec<In>, act: impl Fn(In) -> Out + Sync) -> Vec<Out> {
        let share = items.len().div_ceil(ASKERS).max(1);
        let mut rest = items.into_iter();
        let act = &act;
        thread::scope(|scope| {
            let mut askers = Vec::new();
            loop {
                let part: Vec<In> = rest.by_ref().take(share).collect();
                if part.is_empty() {
                    break;
                }
                askers.push(scope.spawn(move || part.into_iter().map(act).collect::<Vec<_>>()));
            }
            askers.into_iter().flat_map(|asker| asker.join().unwrap_or_default()).collect()
        })
    }
}

fn empty(shard: ShardId) -> Progress {
    Progress {
        shard,
        status: None,
        consumer: String::new(),
        checkpoint: None,
        saved: None,
        time: None,
        end: None,
        next_time: None,
    }
}

/// Threads that ask about shards.
const ASKERS: usize = 8;
