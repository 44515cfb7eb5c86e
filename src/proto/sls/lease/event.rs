//! What a lease tells the operator: changes of state, as data.
//!
//! Why: `report.rs` words them, metrics count them, tests compare them; text would serve none of these.
//! Invariants: 1. an event marks a change: a trouble that goes on is told once, until its kind changes or it ends.
//! Bounds: a few per handled input; the driver drains them after every `handle_*`.
//! Driven by: [`super::Lease::poll_event`].

use core::time::Duration;

use super::call::{Call, CallError};
use crate::proto::ids::{Cursor, ShardId};

/// Something that an operator may want to know.
#[derive(Clone, Debug, PartialEq)]
pub enum LeaseEvent {
    /// The consumer group did not exist and was made.
    GroupCreated,
    /// Timeout or order of the group differed from the settings and were set.
    GroupUpdated,
    /// The group's settings differ and may not be changed by us; work goes on with the shorter timeout.
    GroupUpdateRefused {
        /// Why.
        cause: CallError,
    },
    /// Somebody deleted the group; it is made again.
    GroupDeleted,
    /// The group can be neither found nor made nor joined: held, tried again.
    Held {
        /// The refused call.
        call: Call,
        /// As received.
        cause: CallError,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// What [`LeaseEvent::Held`] told is over.
    Resumed {
        /// Failed attempts in between.
        attempts: u64,
    },
    /// A heartbeat failed; shards go on until the lease ends.
    HeartbeatFailing {
        /// As received.
        cause: CallError,
        /// Time left until all shards are stopped; `None` where no lease is held.
        lease_left: Option<Duration>,
    },
    /// Heartbeats are answered again.
    HeartbeatRestored {
        /// Failed ones in between.
        failures: u64,
    },
    /// No heartbeat was answered for the group's timeout: all shards were stopped at once.
    LeaseExpired {
        /// The shards.
        shards: Vec<ShardId>,
    },
    /// The server gave us a shard; its checkpoint is fetched.
    ShardAcquired {
        /// The shard.
        shard: ShardId,
    },
    /// Work on a shard begins.
    ShardStarted {
        /// The shard.
        shard: ShardId,
        /// First position.
        cursor: Cursor,
        /// How it was found.
        origin: Origin,
    },
    /// Of a bounded run: everything up to the `stop` time is delivered and saved.
    ShardFinished {
        /// The shard.
        shard: ShardId,
    },
    /// Of a bounded run: that holds for every shard that we have; shards of a consumer that died may still come.
    WaitsForOthers {
        /// How long they are waited for.
        wait: Duration,
    },
    /// Of a bounded run: that holds for every shard that we have or may still get. A stop follows.
    AllFinished,
    /// A shard was given up in order.
    ShardReleased {
        /// The shard.
        shard: ShardId,
        /// False where its last checkpoint could not be saved in time: its next holder sends some records again.
        saved: bool,
    },
    /// A shard was stopped without draining.
    ShardLost {
        /// The shard.
        shard: ShardId,
        /// Why.
        why: Lost,
    },
    /// What was in flight did not finish within the bound; it was cut.
    DrainTimedOut {
        /// The shard.
        shard: ShardId,
        /// How long was waited.
        waited: Duration,
    },
    /// A call for a shard failed: tried again; its data waits in SLS.
    ShardHeld {
        /// The shard.
        shard: ShardId,
        /// The failed call.
        call: Call,
        /// As received.
        cause: CallError,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// What [`LeaseEvent::ShardHeld`] told is over.
    ShardResumed {
        /// The shard.
        shard: ShardId,
        /// Failed attempts in between.
        attempts: u64,
    },
    /// SLS refused a checkpoint because the shard is not ours any more.
    CheckpointRefused {
        /// The shard.
        shard: ShardId,
        /// As received.
        cause: CallError,
    },
    /// A checkpoint was saved.
    CheckpointSaved {
        /// The shard.
        shard: ShardId,
        /// The position.
        cursor: Cursor,
    },
    /// Data between two positions had left the retention before it was read. It cannot be had any more.
    RetentionGap {
        /// The shard.
        shard: ShardId,
        /// First missing position.
        from: Cursor,
        /// Its receive time, unix seconds, where it can be had.
        from_time: Option<u64>,
        /// First position that is still there.
        to: Cursor,
        /// Its receive time, unix seconds, where it can be had.
        to_time: Option<u64>,
    },
    /// The position is gone and the settings say to wait for an operator.
    CursorExpiredHeld {
        /// The shard.
        shard: ShardId,
        /// The refused position.
        cursor: Cursor,
    },
    /// A stop began.
    Stopping,
}

/// How the first position of a shard was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The saved checkpoint.
    Checkpoint,
    /// No checkpoint: the `start` setting.
    Start,
    /// No checkpoint any more, but this process knew how far it was.
    Remembered,
    /// The oldest retained data, after a gap.
    Oldest,
}

/// Why a shard was stopped at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Another consumer holds it.
    NotHolder,
    /// The server had given up this consumer.
    ConsumerGone,
    /// The group was deleted.
    GroupDeleted,
    /// The shard does not exist any more.
    ShardGone,
}

/// How it all ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Everything in flight was acknowledged and saved.
    Drained,
    /// The stop deadline came first. Nothing is lost: the next holder sends what was in flight again.
    Undrained {
        /// Shards that were not finished.
        shards: Vec<ShardId>,
    },
    /// With `fail_fast`: the start failed.
    Failed {
        /// The call that was refused.
        call: Call,
        /// As received.
        cause: CallError,
    },
}
