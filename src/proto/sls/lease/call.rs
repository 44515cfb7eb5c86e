//! The calls that a lease makes and the answers it understands.
//!
//! Why: the lease decides, somebody else speaks HTTP; the simulation answers the same calls from a model.
//! Invariants: 1. a [`CallId`] is never used twice; 2. every call is answered exactly once, if only with an error.
//! Bounds: at most one [`Lane::Beat`] call and `Params::calls_max` [`Lane::Work`] calls are open at a time.
//! Driven by: [`super::Lease::poll_call`]; answers go to [`super::Lease::handle_reply`].
//! Spec: SLS consumer group calls: List, Create, Update, HeartBeat, GetCheckPoint, GetCursor, `GetCursorTime`, UpdateCheckPoint.

use crate::proto::event::Closed;
use crate::proto::ids::{Cursor, ShardId};
use crate::proto::sls::api::CursorFrom;
use crate::proto::sls::api::answer::Group;
use crate::proto::sls::error::SlsError;

/// Names one call, so that its answer finds the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// What is to be asked of SLS. Project, logstore, group and consumer are the caller's to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// All consumer groups of the logstore.
    ListGroups,
    /// Make the group.
    CreateGroup {
        /// Seconds of silence after which the server gives a consumer up.
        timeout_secs: u64,
        /// Children of a split shard wait for the parent.
        in_order: bool,
    },
    /// Set the group's two settings.
    UpdateGroup {
        /// Seconds of silence after which the server gives a consumer up.
        timeout_secs: u64,
        /// Children of a split shard wait for the parent.
        in_order: bool,
    },
    /// Tell that we live and which shards we still work on; answered by the shards that are ours.
    Heartbeat {
        /// Ascending, each once.
        shards: Vec<ShardId>,
    },
    /// The saved checkpoint of one shard.
    GetCheckpoint {
        /// The shard.
        shard: ShardId,
    },
    /// A cursor by name or time.
    GetCursor {
        /// The shard.
        shard: ShardId,
        /// Which position.
        from: CursorFrom,
    },
    /// When the data at a cursor was received.
    GetCursorTime {
        /// The shard.
        shard: ShardId,
        /// The position.
        cursor: Cursor,
    },
    /// How long the logstore keeps logs. Not for the lease: the control thread warns with it.
    GetLogstore,
    /// Save a checkpoint; always with `forceSuccess=false`, so that only the holder can.
    UpdateCheckpoint {
        /// The shard.
        shard: ShardId,
        /// Everything before it is acknowledged.
        cursor: Cursor,
    },
}

/// Calls of one lane go one after the other; a slow call in one lane never delays the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The group and its heartbeats.
    Beat,
    /// Cursors and checkpoints of shards.
    Work,
}

impl Call {
    /// Which lane it belongs to.
    pub fn lane(&self) -> Lane {
        match self {
            Self::ListGroups
            | Self::CreateGroup { .. }
            | Self::UpdateGroup { .. }
            | Self::Heartbeat { .. } => Lane::Beat,
            Self::GetCheckpoint { .. }
            | Self::GetCursor { .. }
            | Self::GetCursorTime { .. }
            | Self::GetLogstore
            | Self::UpdateCheckpoint { .. } => Lane::Work,
        }
    }

    /// The name that the service's documents and RAM policies know it by.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ListGroups => "ListConsumerGroup",
            Self::CreateGroup { .. } => "CreateConsumerGroup",
            Self::UpdateGroup { .. } => "UpdateConsumerGroup",
            Self::Heartbeat { .. } => "ConsumerGroupHeartBeat",
            Self::GetCheckpoint { .. } => "GetConsumerGroupCheckPoint",
            Self::GetCursor { .. } => "GetCursor",
            Self::GetCursorTime { .. } => "GetCursorTime",
            Self::GetLogstore => "GetLogStore",
            Self::UpdateCheckpoint { .. } => "ConsumerGroupUpdateCheckPoint",
        }
    }
}

/// A success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Of `ListGroups`.
    Groups(Vec<Group>),
    /// Of `CreateGroup`, `UpdateGroup`, `UpdateCheckpoint`.
    Done,
    /// Of Heartbeat: as received, possibly with repeats.
    Shards(Vec<ShardId>),
    /// Of `GetCheckpoint`; `None` where nothing was ever saved.
    Checkpoint(Option<Cursor>),
    /// Of GetCursor.
    Cursor(Cursor),
    /// Of `GetCursorTime`, unix seconds.
    CursorTime(u64),
    /// Of `GetLogstore`: days that logs are kept, where the answer says it.
    Retention(Option<u64>),
}

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// SLS (or a gateway before it) answered with something else than 200, or with a 200 that nobody understands.
    Sls(SlsError),
    /// No answer.
    Transport {
        /// How the connection ended.
        why: Closed,
        /// True where the request may have been carried out all the same.
        maybe_done: bool,
    },
}

impl CallError {
    /// A 200 that is not an answer to the call.
    pub fn not_understood(message: String) -> Self {
        let (code, request_id) = (String::new(), String::new());
        Self::Sls(SlsError { status: 200, code, message, request_id, server_time: None })
    }
}
