//! Everything that crosses the border of the core: commands in, actions and reports out.
//!
//! Why: the drivers, the control plane and the simulation must agree on these shapes and on nothing else.
//! Invariants: 1. every value here is plain data; nothing refers to a socket, a file or a clock.
//! Bounds: cursors and texts keep the bounds of where they were made; queues of these are bounded by their owners.
//! Driven by: `control` sends [`Command`]s and reads [`Report`]s; `drive` carries out [`Action`]s.

use core::time::Duration;

use super::ids::{ConnId, Cursor, EndpointId, Epoch, RouteId, ShardId};
use super::sls::body::BodyError;
use super::sls::error::SlsError;
use super::sls::sign::Credentials;

/// What the control plane tells the data plane of one pipeline.
#[derive(Clone, Debug)]
pub enum Command {
    /// Work on this shard from `cursor` on.
    Assign {
        /// The shard.
        shard: ShardId,
        /// Which holding of it.
        epoch: Epoch,
        /// First position to read.
        cursor: Cursor,
        /// Position to stop at, for bounded runs.
        end: Option<Cursor>,
    },
    /// Stop pulling, let what is in flight finish, then report [`Report::Drained`].
    Revoke {
        /// The shard.
        shard: ShardId,
        /// Which holding of it.
        epoch: Epoch,
    },
    /// The lease is lost: stop at once, hand nothing more to the sink, report nothing.
    Abandon {
        /// The shard.
        shard: ShardId,
        /// Which holding of it.
        epoch: Epoch,
    },
    /// Sign with these from now on.
    Credentials(Credentials),
    /// Revoke everything; report [`Report::Stopped`] when nothing is in flight.
    Stop,
}

/// What the data plane of one pipeline tells its control plane.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// Everything before `cursor` is acknowledged by the sink: it may be saved as the checkpoint.
    Safe {
        /// The shard.
        shard: ShardId,
        /// Which holding of it.
        epoch: Epoch,
        /// First position that is not acknowledged.
        cursor: Cursor,
        /// `x-log-cursor-time` of it, unix seconds, where the server said it.
        cursor_time: Option<u64>,
    },
    /// A revoked shard (or one that reached its `end`) has nothing in flight any more; its last `Safe` came before this.
    Drained {
        /// The shard.
        shard: ShardId,
        /// Which holding of it.
        epoch: Epoch,
    },
    /// The server no longer has (or never had) this position; the shard waits for a new `Assign`.
    CursorExpired {
        /// The shard.
        shard: ShardId,
        /// Which holding of it.
        epoch: Epoch,
        /// The refused position.
        cursor: Cursor,
    },
    /// Something that an operator should know began, or its cause changed. Sent once per change.
    Alarm(Alarm),
    /// What was wrong with this scope is over.
    Clear {
        /// Whose trouble ended.
        scope: Scope,
        /// How many failed attempts there were.
        attempts: u64,
    },
    /// After [`Command::Stop`]: every shard is drained and every connection closed.
    Stopped,
}

/// Whose trouble it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Pulls of one shard.
    Shard(ShardId),
    /// One endpoint of the sink.
    Sink(EndpointId),
}

/// Trouble, as data; `report.rs` words it.
#[derive(Clone, Debug, PartialEq)]
pub struct Alarm {
    /// Whose trouble.
    pub scope: Scope,
    /// What happened, as received.
    pub cause: Cause,
    /// When it is tried again.
    pub retry_in: Duration,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Cause {
    /// SLS answered with an error.
    Sls(SlsError),
    /// The body of a pull is not what its headers say; nothing of it was skipped.
    CorruptBody {
        /// What is wrong with it.
        error: BodyError,
        /// The pull that brought it.
        cursor: Cursor,
        /// `x-log-requestid` of the pull.
        request_id: String,
    },
    /// The smallest possible pull does not fit into the memory bound.
    PullTooLarge {
        /// Bytes of the decompressed body.
        raw_bytes: u64,
        /// Bytes allowed.
        limit_bytes: u64,
        /// The pull.
        cursor: Cursor,
    },
    /// HEC answered something else than success.
    Hec(HecAnswer),
    /// The peer's bytes are not HTTP/1.1 as it should be.
    Protocol(String),
    /// The connection could not be made or broke.
    Transport(Closed),
}

/// An answer of HEC that is not a success.
#[derive(Clone, Debug, PartialEq)]
pub struct HecAnswer {
    /// HTTP status.
    pub status: u16,
    /// `code` of the JSON body, where there is one.
    pub code: Option<u16>,
    /// `text` of the JSON body, or the beginning of another body, at most 200 characters.
    pub text: String,
    /// `invalid-event-number`.
    pub invalid_event: Option<u64>,
    /// `Location` of a redirect.
    pub location: Option<String>,
}

/// Why a connection ended (or never began), as the driver saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The kind, which decides what is done.
    pub kind: ClosedKind,
    /// The cause as received, for the operator: error text, peer address.
    pub detail: String,
}

/// Kinds of ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClosedKind {
    /// The name has no address.
    Resolve,
    /// TCP connect failed or timed out.
    Connect,
    /// The TLS handshake failed (certificate, name, version).
    Tls,
    /// The peer ended it in order (FIN, `close_notify`).
    Eof,
    /// It broke (RST, I/O error).
    Reset,
    /// Too slow: a deadline of the core passed.
    Timeout,
}

/// What the core wants done by its driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a connection; answer with `handle_connected` or `handle_closed`.
    Connect {
        /// Name of the new connection.
        conn: ConnId,
        /// Where to.
        to: To,
    },
    /// `poll_transmit` of this connection has bytes now.
    Transmit(ConnId),
    /// Close it; no `handle_closed` is expected, none would be heard.
    Close(ConnId),
    /// Look the addresses of this endpoint up again and answer with `handle_routes`.
    Resolve(EndpointId),
}

/// Where a connection leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum To {
    /// The SLS endpoint of the pipeline; the driver picks the next address of it.
    Source,
    /// An address of a sink endpoint.
    Sink(RouteId),
    /// The process's standard output.
    Stdout,
}
