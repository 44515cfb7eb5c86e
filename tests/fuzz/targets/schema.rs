//! The schema of SLS for prost, from the format's documentation: bytes where it says string, which is the same on the
//! wire.

use super::input::Input;

/// Key and value of a content or a tag.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Pair {
    #[prost(bytes = "vec", required, tag = "1")]
    pub(crate) key: Vec<u8>,
    #[prost(bytes = "vec", required, tag = "2")]
    pub(crate) value: Vec<u8>,
}

/// One log.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Log {
    #[prost(uint32, required, tag = "1")]
    pub(crate) time: u32,
    #[prost(message, repeated, tag = "2")]
    pub(crate) contents: Vec<Pair>,
    #[prost(fixed32, optional, tag = "4")]
    pub(crate) nanos: Option<u32>,
}

/// A log group.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Group {
    #[prost(message, repeated, tag = "1")]
    pub(crate) logs: Vec<Log>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub(crate) topic: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub(crate) source: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "5")]
    pub(crate) machine: Option<Vec<u8>>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) tags: Vec<Pair>,
}

/// The body of a pull.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct List {
    #[prost(message, repeated, tag = "1")]
    pub(crate) groups: Vec<Group>,
}

/// A body made of decisions, for the laws over what stands in it.
pub(crate) fn list(input: &mut Input<'_>) -> List {
    let groups = 1 + input.byte() % 3;
    List { groups: (0..groups).map(|_| group(input)).collect() }
}

fn group(input: &mut Input<'_>) -> Group {
    let (topic, source) = (optional(input), optional(input));
    let (tags, logs) = (input.byte() % 3, 1 + input.byte() % 3);
    Group {
        logs: (0..logs).map(|_| log(input)).collect(),
        topic,
        source,
        machine: None,
        tags: (0..tags).map(|_| pair(input)).collect(),
    }
}

fn log(input: &mut Input<'_>) -> Log {
    let time = if input.flag() { input.u32() } else { 1_700_000_000 };
    let any = input.u32();
    let nanos = input.pick(&[None, None, Some(0), Some(5), Some(120_000_000), Some(999_999_999), Some(any)]);
    let contents = input.byte() % 5;
    Log { time, contents: (0..contents).map(|_| pair(input)).collect(), nanos }
}

fn pair(input: &mut Input<'_>) -> Pair {
    let own = input.chunk().to_vec();
    let key = input.pick(&KEYS);
    // Long values come from few bytes.
    let (value, times) = (input.chunk(), input.pick(&[1, 1, 1, 1, 1, 3, 100, 2_000]));
    Pair { key: if own.is_empty() { key.into() } else { own }, value: value.repeat(times) }
}

fn optional(input: &mut Input<'_>) -> Option<Vec<u8>> {
    match input.byte() % 4 {
        0 => None,
        1 => Some(b"actiontrail_audit_event".to_vec()),
        2 => Some(b"t".to_vec()),
        _ => Some(input.chunk().to_vec()),
    }
}

const KEYS: [&str; 12] = [
    "k",
    "event",
    "level",
    "",
    "__time__",
    "__time_ns_part__",
    "__topic__",
    "src",
    "a_key_of_exactly_28_bytes___",
    "a_key_that_is_longer_than_any_shape",
    "request_uri",
    "__tag__:k",
];
