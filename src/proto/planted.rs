//! Bugs on purpose, switched on one at a time by a test: does the simulation notice?
//!
//! Why: a simulation that never fails proves nothing until it has been seen to fail. Each bug here is a mistake that
//! somebody who maintains the core could make; where one of them passes, the simulation is too weak at that place.
//! Invariants: 1. nothing but a test plants a bug. 2. without debug assertions there is none: [`planted`] is `false` when
//!  the program is compiled, and nothing of a bug is left in it.
//! Bounds: one bug per thread at a time. Driven by: `tests/sim/mutations.rs`.

use core::cell::Cell;

/// One list for the enum and for the table of the test, so that neither can lack a bug.
macro_rules! bugs {
    ($($(#[doc = $what:literal])+ $bug:ident in $place:literal,)+) => {
        /// A bug, and what it would cost a user.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $($(#[doc = $what])+ $bug,)+
        }

        impl Bug {
            /// All of them: the bug, where it sits, what it does.
            pub const ALL: &[(Self, &str, &str)] = &[$((Self::$bug, $place, concat!($($what),+)),)+];
        }
    };
}

bugs! {
    // ---- ledger ----
    /// The safe cursor is behind the first pull that is not acknowledged: a crash then loses that pull.
    CommitOneEarly in "ledger",
    /// A pull counts as acknowledged with the first of its records: a crash loses the others.
    AckWholePull in "ledger",
    /// The highest acknowledged pull is committed whatever is open below it: a crash loses what is open.
    CommitHighest in "ledger",
    /// What the sink has lost is not noted: it is never pulled again, and the checkpoint stands still.
    ForgetLost in "ledger",
    /// A part of the records that are to be pulled again is forgotten: the checkpoint stands still.
    ResendHalf in "ledger",
    // ---- acknowledgements of the indexer ----
    /// What waited in a channel counts as confirmed when the channel is reset: a dead indexer's records are lost.
    ResetConfirms in "sink/hec/ack",
    /// What waited in a channel is forgotten when the channel is reset: the checkpoint stands still.
    ResetForgets in "sink/hec/ack",
    /// A `true` counts whoever said it: after a restart it confirms records that died with the indexer before.
    NoDoubt in "sink/hec/ack",
    /// The answer to a poll that was sent before a reset counts after it: ids name other records by then.
    OldPollCounts in "sink/hec/ack",
    /// An id that comes twice in a channel is no sign of a restart: the records of the first one are lost.
    RepeatedIdIsNew in "sink/hec/ack",
    /// Requests answered without an id are not counted: a restart among them is not seen, and ids are mixed up.
    AnswersWithoutIdNotCounted in "sink/hec/ack",
    /// A poll that fails confirms what it asked for: what the indexer had not stored yet is lost with it.
    FailedPollConfirms in "sink/hec/settle",
    /// An id that is never confirmed is dropped at its deadline: the checkpoint stands still.
    AckTimeoutForgets in "sink/hec/ack",
    // ---- answers of HEC ----
    /// The number of an event with a forbidden index is taken as it stands, one too high: the refused one is lost.
    IndexErrorOffByOne in "sink/hec/answer",
    /// Any 200 is a receipt, also a web page: what a proxy has swallowed is lost.
    AnyPageIsAReceipt in "sink/hec/answer",
    /// "Busy" in the middle of a body counts its front without an id to prove it.
    BusyFrontCounts in "sink/hec/answer",
    /// A server error counts, because the records may be stored.
    ErrorCounts in "sink/hec/settle",
    /// Behind a refused record the rest of the frame counts as taken.
    RefusalTakesTheRest in "sink/hec/settle",
    /// Behind an id that is still to be confirmed the refused frame's front counts at once.
    FrontCountsAtOnce in "sink/hec/settle",
    /// An answer is given to the newest request of a connection, not to the oldest.
    AnswerToTheNewest in "sink/hec/conn",
    /// Of a frame that is cut for an endpoint the rest is dropped: the checkpoint stands still.
    CutDropsTheRest in "sink/hec/dispatch",
    /// A request that was begun counts when its connection breaks: half of it never arrived.
    HalfSentCounts in "sink/hec",
    /// A frame goes to any connection, also while another one carries its shard: records overtake each other.
    OvertakesItself in "sink/hec/dispatch",
    /// When another address has its turn, a shard goes there while the one before still owes answers for it: order is lost.
    TurnDoesNotWait in "sink/hec/dispatch",
    // ---- refused records ----
    /// A record that the sink refuses is dropped and counted.
    RefusedIsDropped in "context",
    /// A refused record counts when the writer is asked, not when it is on disk: a full disk loses it.
    LetterCountsAtOnce in "letters",
    /// A failed write counts: a full disk loses the record.
    LetterFailureCounts in "letters",
    /// A failed write is not tried again: its shard stands still.
    LetterIsNotRetried in "letters",
    // ---- syslog: drain ----
    /// A reset counts like a FIN: what the receiver had not read is lost.
    ResetIsAFin in "sink/syslog/drain",
    /// The peer's FIN counts although ours was not out: a receiver that ends early loses what it had not handled.
    FinBeforeOurs in "sink/syslog/drain",
    /// The peer's FIN counts with bytes of ours unacknowledged: what was under way to a closed socket is lost.
    UnackedCounts in "sink/syslog/drain",
    /// Our FIN follows the last byte at once: the end of a receiver that stops by itself looks like an answer to it.
    NoSilence in "sink/syslog/drain",
    /// The silence before our FIN is counted from the last write, not from its arrival: a delay on the way eats it up.
    SilenceFromTheWrite in "sink/syslog/drain",
    /// Frames are given to an epoch that ends: they are counted with it, or stand behind the FIN.
    LateFramesJoin in "sink/syslog/drain",
    /// A frame that was begun counts when its connection breaks.
    BegunCounts in "sink/syslog/ends",
    // ---- syslog: RELP ----
    /// An answer settles every message up to it, though answers come in any order.
    AnswersAreCumulative in "sink/syslog/relp",
    /// At the end of a session every message that was sent counts.
    SessionEndCounts in "sink/syslog/relp",
    /// A refusal counts like an acceptance.
    RefusalCounts in "sink/syslog/relp",
    /// A refused record is not offered again: its shard stands still.
    RefusedIsForgotten in "sink/syslog/held",
    // ---- pulls and cursors ----
    /// A body that is corrupt is skipped like an empty one.
    CorruptBodyIsSkipped in "sls/shard",
    /// A body with fewer log groups than announced is used.
    ShortBodyIsUsed in "sls/shard",
    /// The position stays that of the request: the same records come for ever.
    CursorStays in "sls/shard",
    /// A later piece of a range that is pulled again is numbered from 0: other records are taken for the lost ones.
    PiecesFromZero in "sls/shard/resend",
    /// A range that ends early is taken as whole: what was missing in it is never asked for again.
    ShortRangeIsWhole in "sls/shard/resend",
    /// A revoked shard goes on pulling: the next consumer waits for the end of its patience.
    PullsAfterRevoke in "sls/shard",
    /// What the sink says about an earlier holding of a shard counts for the present one.
    OldHoldingCounts in "pipeline",
    // ---- memory and waits ----
    /// Credit is granted without a limit.
    NoBound in "flow",
    /// Credit is never given back: pulls end when it is used up.
    CreditLeaks in "flow",
    /// Whoever was refused memory is not told when there is some again.
    NobodyWakes in "pipeline",
    /// After some failures in a row nothing is tried again.
    GivesUp in "backoff",
    /// Back-off does not wait at all: a tight loop against whatever is down.
    NeverWaits in "backoff",
    // ---- leases ----
    /// A process that was frozen goes on when its lease is over.
    NoFence in "pipeline",
    /// A shard that was lost is worked on.
    KeepsLostShards in "pipeline",
    /// Frames of a lost shard go out again when their connection breaks.
    LostFramesGoAgain in "pipeline",
    /// The lease is counted from the answer to a heartbeat, not from its sending.
    LeaseFromTheAnswer in "sls/lease/beat",
    /// The control plane does not notice that the lease is over, and goes on saving checkpoints.
    LeaseNeverEnds in "sls/lease",
    /// A shard is left out of the heartbeat before its last checkpoint is saved: the next consumer repeats.
    ReleasesUnsaved in "sls/lease/work",
    /// The last safe position of a shard is not told before the news that it is drained: what was behind it comes twice.
    LastIsNotTold in "pipeline",
    /// A shard that drains is left out of the heartbeat: two consumers work on it.
    DrainingIsNotListed in "sls/lease/beat",
    /// Heartbeats end with the order to stop, not with the last checkpoint.
    StopEndsHeartbeats in "sls/lease/beat",
    /// A shard that was given up is taken back from an answer that is older than that.
    StaleAnswerGives in "sls/lease/beat",
    /// Reports of an earlier holding of a shard count for the present one.
    OldReportsCount in "sls/lease/work",
    /// An unmoved checkpoint is not sent again: a shard that becomes read-only after it is never over.
    NoSecondCommit in "sls/lease/holding",
    /// An expired position goes on at the end, not at the oldest data.
    ExpiredGoesToTheEnd in "sls/lease/holding",
    /// A child of a split shard begins at its end, not at its beginning.
    ChildBeginsAtTheEnd in "sls/lease/holding",
    /// A gap in the data is passed in silence.
    GapIsNotTold in "sls/lease/work",
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Pulls the bug out when it is dropped.
#[must_use = "the bug is there as long as this lives"]
#[derive(Debug)]
pub struct Plant(());

/// Plants a bug in this thread. Without debug assertions that changes nothing.
pub fn plant(bug: Bug) -> Plant {
    PLANTED.set(Some(bug));
    Plant(())
}

impl Drop for Plant {
    fn drop(&mut self) {
        PLANTED.set(None);
    }
}

/// True while this bug is planted in this thread.
#[inline]
pub fn planted(bug: Bug) -> bool {
    cfg!(debug_assertions) && PLANTED.get() == Some(bug)
}
