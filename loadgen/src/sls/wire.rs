//! The protobuf messages of the service, with every string as bytes.
//!
//! Why: logs in the field hold bytes that are not UTF-8, so a schema of strings could not carry them; and the product
//! has its own reader, so a mistake of one is not a mistake of both.
//! Invariants: none.   Bounds: none.
//! Driven by: `put` (checks what it is sent), whoever fills a shard.   Spec: protocol/sls.md 4.

use prost::Message;

/// One field of a log.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Content {
    /// Field name.
    #[prost(bytes = "vec", required, tag = "1")]
    pub key: Vec<u8>,
    /// Field value.
    #[prost(bytes = "vec", required, tag = "2")]
    pub value: Vec<u8>,
}

/// One log.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Log {
    /// Unix seconds.
    #[prost(uint32, required, tag = "1")]
    pub time: u32,
    /// Fields in order.
    #[prost(message, repeated, tag = "2")]
    pub contents: Vec<Content>,
    /// Nanosecond part of the time.
    #[prost(fixed32, optional, tag = "4")]
    pub time_ns: Option<u32>,
}

/// Logs that were written together: one step of a shard's cursor.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LogGroup {
    /// The logs.
    #[prost(message, repeated, tag = "1")]
    pub logs: Vec<Log>,
    /// Reserved by the service.
    #[prost(bytes = "vec", optional, tag = "2")]
    pub category: Option<Vec<u8>>,
    /// Topic.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub topic: Option<Vec<u8>>,
    /// Source, usually an address.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub source: Option<Vec<u8>>,
    /// Machine that wrote it.
    #[prost(bytes = "vec", optional, tag = "5")]
    pub machine_uuid: Option<Vec<u8>>,
    /// Tags.
    #[prost(message, repeated, tag = "6")]
    pub tags: Vec<Content>,
}

/// What a pull answers with.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LogGroupList {
    /// The groups.
    #[prost(message, repeated, tag = "1")]
    pub groups: Vec<LogGroup>,
}

impl LogGroup {
    /// A group of logs of one topic and source, each log being its time and fields.
    pub fn of(topic: &str, source: &str, logs: impl IntoIterator<Item = Log>) -> Self {
        Self {
            logs: logs.into_iter().collect(),
            topic: Some(topic.into()),
            source: Some(source.into()),
            ..Self::default()
        }
    }
}

impl Log {
    /// A log with these fields.
    pub fn of<K: Into<Vec<u8>>, V: Into<Vec<u8>>>(time: u32, fields: impl IntoIterator<Item = (K, V)>) -> Self {
        let contents =
            fields.into_iter().map(|(key, value)| Content { key: key.into(), value: value.into() }).collect();
        Self { time, contents, time_ns: None }
    }
}

/// Tag and length of a group inside a `LogGroupList`.
pub(crate) fn group_header(group_bytes: usize) -> Vec<u8> {
    let mut header = vec![0x0A];
    prost::encoding::encode_varint(group_bytes as u64, &mut header);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_its_groups_with_headers() {
        let one = LogGroup::of("t", "s", [Log::of(7, [("k", b"\xff\xfe".to_vec())])]);
        let two = LogGroup::default();
        let mut bytes = Vec::new();
        for group in [&one, &two] {
            let body = group.encode_to_vec();
            bytes.extend(group_header(body.len()));
            bytes.extend(body);
        }
        assert_eq!(LogGroupList::decode(bytes.as_slice()).unwrap().groups, [one, two]);
    }
}
