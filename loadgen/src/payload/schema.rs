//! The protobuf messages of SLS, by hand, with byte strings where the schema says string.
//!
//! Why: what is in a logstore need not be UTF-8, and a generator with `String` fields could not make such a log.
//! Invariants: field numbers and wire types are those of the table in the specification.   Bounds: those of the peer.
//! Driven by: prost.   Spec: sls.md 4.

use bytes::Bytes;

/// One key and value of a log.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Content {
    /// Name; UTF-8 as a rule.
    #[prost(bytes = "bytes", required, tag = "1")]
    pub key: Bytes,
    /// Value; UTF-8 as a rule.
    #[prost(bytes = "bytes", required, tag = "2")]
    pub value: Bytes,
}

/// One log.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Log {
    /// Seconds since the epoch.
    #[prost(uint32, required, tag = "1")]
    pub time: u32,
    /// Keys and values in order; keys may repeat.
    #[prost(message, repeated, tag = "2")]
    pub contents: Vec<Content>,
    /// Nanosecond part of the time.
    #[prost(fixed32, optional, tag = "4")]
    pub time_ns: Option<u32>,
}

/// A tag of a group.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LogTag {
    /// Name without the `__tag__:` prefix.
    #[prost(bytes = "bytes", required, tag = "1")]
    pub key: Bytes,
    /// Value.
    #[prost(bytes = "bytes", required, tag = "2")]
    pub value: Bytes,
}

/// Logs that share topic, source and tags.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LogGroup {
    /// The logs.
    #[prost(message, repeated, tag = "1")]
    pub logs: Vec<Log>,
    /// Not used by any reader.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub category: Option<Bytes>,
    /// Topic.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub topic: Option<Bytes>,
    /// Source, an address as a rule.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub source: Option<Bytes>,
    /// Machine of the writer.
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub machine_uuid: Option<Bytes>,
    /// Tags in order; keys may repeat.
    #[prost(message, repeated, tag = "6")]
    pub log_tags: Vec<LogTag>,
}

/// The body of a pull.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LogGroupList {
    /// The groups.
    #[prost(message, repeated, tag = "1")]
    pub log_groups: Vec<LogGroup>,
}
