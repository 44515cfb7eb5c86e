//! What must hold at every step, and at the end.

use std::hash::Hasher as _;

use sls2siem::proto::sls::lease::event::{LeaseEvent, Origin};
use sls2siem::proto::time::Instant;

use super::super::forwarder::{BEAT, Forwarder};
use super::super::server::State;
use super::{Outcome, SECOND, World};
use crate::net::Request;
use crate::records;

impl World {
    pub(super) fn laws(&mut self) -> Result<(), String> {
        for (hec, counted) in self.hecs.iter().zip(&mut self.counted) {
            self.stored.extend(hec.stored[*counted..].iter().copied());
            *counted = hec.stored.len();
        }
        for forwarder in &self.forwarders {
            let silent = self.now - forwarder.last_beat.min(self.now);
            let holds =
                forwarder.lease.is_joined() && forwarder.lease.shards(Instant(self.now)).next().is_some();
            if self.polite && holds && silent > (BEAT + 1) * SECOND {
                return Err(format!("{} holds shards and sends no heartbeat", forwarder.name));
            }
            for budget in [&forwarder.flow.bodies, &forwarder.flow.frames] {
                if budget.used() > budget.limit() + 200_000 {
                    return Err(format!(
                        "{}: {} bytes out of {}",
                        forwarder.name,
                        budget.used(),
                        budget.limit()
                    ));
                }
            }
        }
        Ok(())
    }

    pub(super) fn is_done(&self) -> bool {
        self.group.exists && self.what_is_left().is_empty()
    }

    pub(super) fn what_is_left(&self) -> String {
        let mut left = Vec::new();
        for (shard, (held, (_, _, readonly))) in (0_u32..).zip(self.sls.shards.iter().zip(&self.shape)) {
            let end = held.groups.len();
            let checkpoint = self.group.checkpoint(shard).ok().flatten();
            if checkpoint != Some(end) {
                left.push(format!("shard {shard}: checkpoint {checkpoint:?} of {end}"));
            }
            let state = self.group.shards.get(&shard).map(|lease| &lease.state);
            if *readonly && state != Some(&State::Over) {
                left.push(format!("shard {shard}: read-only and drained, but {state:?}"));
            }
        }
        let loads = self.group.loads();
        if loads.iter().max().unwrap_or(&0) - loads.iter().min().unwrap_or(&0) > 1 {
            left.push(format!("the shards are spread unevenly: {loads:?}"));
        }
        left.join(", ")
    }

    /// The last laws, when everything is delivered.
    pub(super) fn finish(mut self) -> Result<Outcome, String> {
        let total = self.sls.records();
        for (shard, held) in (0_u32..).zip(&self.sls.shards) {
            let records = held.before[held.before.len() - 1];
            let lost: Vec<u64> =
                (0..records).filter(|number| !self.stored.contains(&(shard, *number))).collect();
            if let Some(number) = lost.iter().find(|number| !self.expired.contains(&(shard, **number))) {
                return Err(format!("shard {shard}: record {number} is lost"));
            }
            // With its checkpoint gone, a shard begins at the oldest data: what expired before cannot be known.
            // The same where no checkpoint stood before what expired.
            let known = lost.iter().filter(|number| self.behind.contains(&(shard, **number))).count();
            if known > 0 && !self.told.contains(&shard) && self.outcome.deletions == 0 {
                return Err(format!("shard {shard}: {known} records expired unread and nobody was told"));
            }
        }
        let all: usize = self.hecs.iter().map(|hec| hec.stored.len()).sum();
        self.outcome.records = total;
        self.outcome.stored = self.stored.len() as u64;
        self.outcome.duplicates = (all - self.stored.len()) as u64;
        self.outcome.expired_records =
            self.expired.iter().filter(|record| !self.stored.contains(record)).count() as u64;
        self.outcome.seconds = self.now / SECOND;
        self.outcome.faults = self.dice.by_kind.clone();
        self.outcome.trace = self.trace.finish();
        Ok(self.outcome)
    }
}

/// No request is begun with records of a shard that was taken from the forwarder before.
pub(super) fn not_of_a_lost_shard(
    forwarder: &Forwarder,
    request: &Request,
    begun: Option<u64>,
) -> Result<(), String> {
    let Some(begun) = begun else { return Ok(()) };
    for (shard, number) in records::numbers(&request.body) {
        if forwarder.lost.get(&shard).is_some_and(|lost| *lost <= begun) {
            return Err(format!(
                "{} begins a request with record {number} of shard {shard} that it lost before",
                forwarder.name
            ));
        }
    }
    Ok(())
}

/// A shard that left is not taken from an answer to a heartbeat that was sent before; and it begins where its checkpoint
/// stood after it came.
pub(super) fn nothing_old_counts(
    forwarder: &mut Forwarder,
    now: u64,
    event: &LeaseEvent,
) -> Result<(), String> {
    let name = &forwarder.name;
    match event {
        LeaseEvent::ShardReleased { shard, .. } | LeaseEvent::ShardLost { shard, .. } => {
            forwarder.given_up.insert(shard.0, now);
        }
        LeaseEvent::ShardAcquired { shard } => {
            if forwarder.given_up.get(&shard.0).is_some_and(|left| *left > forwarder.answered_beat) {
                return Err(format!("{name} takes shard {shard} from an answer that is older than its end"));
            }
            forwarder.acquired.insert(shard.0, now);
        }
        LeaseEvent::ShardStarted { shard, origin: Origin::Checkpoint, .. }
            if forwarder.asked.get(&shard.0) < forwarder.acquired.get(&shard.0) =>
        {
            return Err(format!("{name} begins shard {shard} at a checkpoint of an earlier holding"));
        }
        _ => {}
    }
    Ok(())
}
