//! Everything that crosses the border of the core: commands in, actions and reports out.
//!
//! Why: the drivers, the control plane and the simulation must agree on these shapes and on nothing else.
//! Invariants: 1. every value here is plain data; nothing refers to a socket, a file or a clock.
//! Bounds: cursors and texts keep the bounds of where they were made; queues of these are bounded by their owners.
//! Driven by: `control` sends [`Command`]s and reads [`Report`]s; `drive` carries out [`Action`]s.

use core::time::Duration;

use zeroize::Zeroizing;

use super::ids::{ConnId, Cursor, EndpointId, Epoch, LetterId, RouteId, ShardId};
use super::sls::body::BodyError;
use super::sls::error::SlsError;
use super::sls::sign::Credentials;
use super::time::Instant;

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
    /// The lease of the consumer lasts until then. A plane that finds itself awake afterwards, without a newer one,
    /// drops every shard by itself: a process that was frozen must not go on with shards that others have by now.
    Lease {
        /// Counted from the sending of the heartbeat that was answered.
        until: Instant,
    },
    /// Sign with these from now on.
    Credentials(Credentials),
    /// Show this to the sink from now on.
    Token(Token),
    /// Revoke everything; report [`Report::Stopped`] when nothing is in flight.
    Stop,
}

/// The secret of a sink. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub Zeroizing<String>);

impl core::fmt::Debug for Token {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Token(***)")
    }
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
    /// The data plane stopped this shard by itself because [`Command::Lease`] had run out; what was in flight is
    /// forgotten, the last `Safe` stands.
    Dropped {
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
        /// The position.
        cursor: Cursor,
        /// SLS refused it. False where it answered with later data, which may also mean that it skips numbers.
        refused: bool,
    },
    /// Something that an operator should know began, or its cause changed. Sent once per change.
    Alarm(Alarm),
    /// Something that an operator should know and that is no standing trouble.
    Notice(Notice),
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

/// Worth a line, as data; `report.rs` words it.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// Refused records of this shard went to the dead letter. Told at the first one, then at most once a minute.
    DeadLettered {
        /// The shard.
        shard: ShardId,
        /// How many since the last such notice.
        records: u64,
        /// The last one of them.
        last: Box<RefusedRecord>,
    },
    /// An endpoint of HEC takes no body of this size; from now on it gets smaller ones.
    BodyTooLarge {
        /// The endpoint.
        endpoint: EndpointId,
        /// The refused size.
        bytes: usize,
        /// The largest body that it gets now.
        cap: usize,
        /// As received.
        answer: HecAnswer,
    },
    /// With `ack = "auto"` the token turned out to be without indexer acknowledgement: the 200 counts now.
    AckOff {
        /// The endpoint.
        endpoint: EndpointId,
        /// As received.
        answer: HecAnswer,
    },
}

/// Why a sink (or the encoder) refuses a record for good, whatever connection it comes over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// HEC said so.
    Hec(HecAnswer),
    /// A RELP server answered with an error to this message.
    Relp {
        /// Its response code.
        code: u16,
        /// Its text, at most 200 characters.
        text: String,
    },
    /// It is larger than a message may be.
    Oversize {
        /// Its bytes, framing included.
        bytes: u64,
    },
}

/// A refused record (or several that were refused together), by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRecord {
    /// Why.
    pub refusal: Refusal,
    /// Cursor of the pull that brought it.
    pub cursor: Cursor,
    /// Its number in that pull.
    pub number: u32,
    /// The Splunk index that it names, where it is an event of HEC and names one.
    pub index: Option<String>,
}

/// A record for the dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Goes back with the answer.
    pub id: LetterId,
    /// The shard that it came from.
    pub shard: ShardId,
    /// Name and reason.
    pub record: RefusedRecord,
    /// The record as it was sent.
    pub bytes: Vec<u8>,
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
    /// A syslog receiver does not do what an acknowledgement needs.
    Syslog(SyslogTrouble),
    /// The sink refuses a record for good and there is no dead letter: its shard waits.
    Refused(Box<RefusedRecord>),
    /// The dead letter cannot be written; as the writer said it.
    DeadLetter(String),
    /// The peer's bytes are not HTTP/1.1 as it should be.
    Protocol(String),
    /// The connection could not be made or broke.
    Transport(Closed),
}

/// An answer of HEC that is not a success.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// What a syslog receiver did; texts of the peer are at most 200 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogTrouble {
    /// It did not end the connection after we had ended our side.
    NeverEnds {
        /// How long it was waited for.
        waited: Duration,
    },
    /// It ended the connection in front of bytes that it may not have read.
    EndsEarly {
        /// As the driver saw it.
        closed: Closed,
    },
    /// It does not read.
    Stalled {
        /// How long nothing could be written.
        waited: Duration,
    },
    /// RELP: it answered the `open` with something else than 200, or offers no syslog.
    OpenRefused {
        /// As received.
        answer: String,
    },
    /// RELP: it said `serverclose` and took nothing on this connection.
    ServerClose,
    /// RELP: no answer in time.
    Silent {
        /// How long it was waited for.
        waited: Duration,
        /// Messages without an answer.
        owed: u64,
    },
    /// RELP: its bytes are not RELP.
    NotRelp {
        /// What is wrong with them.
        detail: String,
    },
    /// RELP: it refuses a message for good.
    Refused {
        /// The three digits.
        code: u16,
        /// What came with them.
        text: String,
    },
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
    /// End the writing side once everything transmitted is on its way (`close_notify` where there is TLS, then FIN);
    /// reading goes on. Answer with `handle_finished` when the FIN is out.
    Finish(ConnId),
    /// Say with `handle_ledger` how far the bytes of this connection have come.
    Measure(ConnId),
    /// Look the addresses of this endpoint up again and answer with `handle_routes`.
    Resolve(EndpointId),
    /// Append this record to the dead letter and answer with `handle_letter` when it is safe on disk, or is not.
    DeadLetter(Box<DeadLetter>),
}

/// How far the bytes of a connection have come; bytes on the wire, those of TLS and of its handshake included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// What everything that was transmitted so far becomes on the wire.
    pub sealed: u64,
    /// Bytes that our kernel has taken.
    pub written: u64,
    /// Of these, bytes that the peer's kernel has not acknowledged; a FIN counts as one.
    pub unacked: u64,
}

impl Ledger {
    /// Bytes that the peer's kernel has.
    pub fn acked(&self) -> u64 {
        self.written.saturating_sub(self.unacked)
    }

    /// True where the peer's kernel has everything that was transmitted.
    pub fn has_arrived(&self) -> bool {
        self.unacked == 0 && self.written >= self.sealed
    }
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
