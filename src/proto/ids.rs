//! Names of things as newtypes, so that a shard number can never be passed where a pull number belongs.
//!
//! Why: most of the core passes small integers around; the compiler should tell them apart.
//! Invariants: 1. a `Cursor` is never parsed or compared by order: it is opaque to a client.
//! Bounds: cursors are at most [`CURSOR_BYTES_MAX`] long; longer ones are refused where they arrive.
//! Driven by: every room; plain values without a life of their own.
//! Spec: SLS cursors are base64 text of about 28 bytes; ackIds are integers from 0 per channel (HEC).

use core::fmt;

/// A shard of a logstore, as SLS numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u32);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which holding of a shard is meant: grows by one with every assignment, so that messages about an
/// earlier holding of the same shard are recognised and ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// A pull of one shard holding, counted from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PullId(pub u64);

/// A connection of one pipeline on one executor. Never reused: a late event of a closed connection
/// finds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// An entry of the endpoint list in the settings: `0` is the first URL of the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub u16);

/// One network address of an endpoint. The driver numbers them; the core never sees an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(pub u32);

/// HEC acknowledgement id, unique within one channel of one splunkd incarnation only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AckId(pub u64);

/// A transaction number of RELP: 1 to 999,999,999, then 1 again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Txnr(u32);

impl Txnr {
    /// The number that every session begins with.
    pub const FIRST: Self = Self(1);
    const LAST: u32 = 999_999_999;

    /// `None` for 0, which stands for "no answer wanted", and for what has more than nine digits.
    pub fn new(number: u32) -> Option<Self> {
        (1..=Self::LAST).contains(&number).then_some(Self(number))
    }

    /// As it is written.
    pub fn number(self) -> u32 {
        self.0
    }

    /// The one behind it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 % Self::LAST + 1)
    }

    /// How many steps of `next` lead from `earlier` to this one.
    pub fn distance_from(self, earlier: Self) -> u32 {
        (self.0 + Self::LAST - earlier.0) % Self::LAST
    }
}

/// A record on its way to the dead letter, unique within one pipeline of one executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId(pub u64);

/// An opaque position in a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cursor(Box<str>);

/// Longest cursor that is accepted from a server.
pub const CURSOR_BYTES_MAX: usize = 512;

impl Cursor {
    /// Takes a cursor as the server sent it.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text, as it goes back to the server.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True where the server has no position yet (an empty checkpoint).
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
