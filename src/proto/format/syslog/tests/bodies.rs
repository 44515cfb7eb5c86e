//! Bodies of a pull, written by hand: the schema is small and the product's reader must not be its own judge.

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
}

fn bytes(number: u8, value: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

pub(super) type Pair = (Vec<u8>, Vec<u8>);

/// A log.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) secs: u32,
    pub(super) nanos: Option<u32>,
    pub(super) contents: Vec<Pair>,
}

/// A log group.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) topic: Vec<u8>,
    pub(super) source: Vec<u8>,
    pub(super) tags: Vec<Pair>,
    pub(super) records: Vec<Record>,
}

/// Key and value.
pub(super) fn pair(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Pair {
    (key.as_ref().to_vec(), value.as_ref().to_vec())
}

fn message((key, value): &Pair) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(1, key, &mut out);
    bytes(2, value, &mut out);
    out
}

impl Record {
    /// At a second of 2026.
    pub(super) fn new(contents: &[(&str, &str)]) -> Self {
        let contents = contents.iter().map(|(key, value)| pair(key, value)).collect();
        Self { secs: 1_767_323_001, nanos: None, contents }
    }

    pub(super) fn nanos(mut self, nanos: u32) -> Self {
        self.nanos = Some(nanos);
        self
    }
}

/// The `LogGroupList`. With `odd`, a log's time stands in the middle of its contents, where nobody guesses it.
pub(super) fn body(groups: &[Group], odd: bool) -> Vec<u8> {
    let mut list = Vec::new();
    for group in groups {
        let mut out = Vec::new();
        for record in &group.records {
            let mut log = Vec::new();
            let mut secs = Vec::new();
            secs.push(0x08);
            varint(record.secs.into(), &mut secs);
            if let Some(nanos) = record.nanos.filter(|_| odd) {
                secs.push(0x25);
                secs.extend_from_slice(&nanos.to_le_bytes());
            }
            let middle = if odd { record.contents.len() / 2 } else { 0 };
            for (index, content) in record.contents.iter().enumerate() {
                if index == middle {
                    log.extend_from_slice(&secs);
                }
                bytes(2, &message(content), &mut log);
            }
            if record.contents.is_empty() {
                log.extend_from_slice(&secs);
            }
            if let Some(nanos) = record.nanos.filter(|_| !odd) {
                log.push(0x25);
                log.extend_from_slice(&nanos.to_le_bytes());
            }
            bytes(1, &log, &mut out);
        }
        bytes(3, &group.topic, &mut out);
        bytes(4, &group.source, &mut out);
        for tag in &group.tags {
            bytes(6, &message(tag), &mut out);
        }
        bytes(1, &out, &mut list);
    }
    list
}

/// One log of topic `web`, source `10.0.0.1`, with a host name.
pub(super) fn one(record: Record) -> Vec<u8> {
    let group = Group {
        topic: b"web".to_vec(),
        source: b"10.0.0.1".to_vec(),
        tags: vec![pair("__hostname__", "h1")],
        records: vec![record],
    };
    body(&[group], false)
}
