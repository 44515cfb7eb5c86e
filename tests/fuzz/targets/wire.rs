//! The walk over a pulled body against prost: the same bodies are taken, and the same is read.
//!
//! Two differences are meant (`proto/sls/wire.rs`): the reader refuses protobuf's groups, which prost steps over, and
//! it takes a known number with another wire type for an unknown field, which prost refuses.

use prost::Message as _;
use sls2siem::proto::sls::wire::{
    BodyShape, Fault, LogField, LogGroup, LogGroups, LogTime, Position, Tails, WireError, scan, survey,
};

use super::schema::{Group, List, Log, Pair};

/// Bytes of a body.
pub fn run(body: &[u8]) {
    let ours = walk(body);
    match (List::decode(body), &ours) {
        (Ok(theirs), Ok(ours)) => assert_eq!(&plain(theirs), ours),
        (Ok(_), Err(error)) => assert_eq!(error.what, Fault::BadWireType, "prost takes it: {error}"),
        (Err(error), Ok(_)) => assert!(error.to_string().contains("wire type"), "prost refuses it: {error}"),
        (Err(_), Err(_)) => {}
    }
    let mut tails = Tails::default();
    let shape = survey(body, &mut tails);
    assert_eq!(shape, scan(body));
    if let Ok(ours) = &ours {
        let records: usize = ours.groups.iter().map(|group| group.logs.len()).sum();
        let counted =
            BodyShape { groups: ours.groups.len().try_into().unwrap(), records: records.try_into().unwrap() };
        assert_eq!(shape, Ok(counted));
    }
    if let Ok(shape) = shape {
        positions(body, shape, tails);
    }
}

/// Everything that a reader can see.
fn walk(body: &[u8]) -> Result<List, WireError> {
    let mut list = List::default();
    for group in LogGroups::new(body) {
        let group = group?;
        let logs = group.logs().map(|log| {
            let log = log?;
            let LogTime { secs, nanos } = log.time()?;
            let contents = log.contents().map(owned).collect::<Result<Vec<_>, _>>()?;
            let mut fields = Log::default();
            for field in log.fields() {
                match field? {
                    LogField::Secs(secs) => fields.time = secs,
                    LogField::Nanos(nanos) => fields.nanos = Some(nanos),
                    LogField::Content(key, value) => fields.contents.push(owned(Ok((key, value)))?),
                }
            }
            assert_eq!(
                fields,
                Log { time: secs, nanos, contents: contents.clone() },
                "two ways to read a log"
            );
            for pair in &contents {
                let last = contents.iter().rfind(|other| other.key == pair.key).unwrap();
                assert_eq!(log.last(&pair.key)?, Some(last.value.as_slice()));
            }
            Ok(fields)
        });
        list.groups.push(Group {
            logs: logs.collect::<Result<_, _>>()?,
            topic: Some(group.topic.to_vec()),
            source: Some(group.source.to_vec()),
            machine: Some(group.machine_uuid.to_vec()),
            tags: group.tags().map(owned).collect::<Result<_, _>>()?,
        });
    }
    Ok(list)
}

/// The encoder's way: from log to log, also with a start in the middle, with and without what the survey noted.
fn positions(body: &[u8], shape: BodyShape, tails: Tails) {
    let (mut slow, mut quick) = (Position::default(), Position::with(tails));
    let mut records = 0;
    while let Some(log) = slow.seek(body).unwrap() {
        assert_eq!(quick.seek(body).unwrap(), Some(log));
        let mut skipped = Position::with(tails);
        if records < 8 || records + 8 > shape.records {
            assert_eq!(skipped.skip(body, records), Ok(records));
            assert_eq!(skipped.seek(body).unwrap(), Some(log));
            assert_eq!(skipped, quick);
        }
        match (LogGroup::at(body, &slow), LogGroup::at(body, &quick)) {
            (Ok(a), Ok(b)) => {
                assert_eq!((a.topic, a.source, a.machine_uuid), (b.topic, b.source, b.machine_uuid));
                assert!(a.tags().eq(b.tags()));
            }
            (a, b) => assert_eq!(a.is_ok(), b.is_ok()),
        }
        slow.pass(log);
        quick.pass(log);
        records += 1;
    }
    assert_eq!(records, shape.records);
    assert_eq!(Position::default().skip(body, u32::MAX), Ok(records));
}

/// The reader does not part an empty text from none.
fn plain(mut list: List) -> List {
    for group in &mut list.groups {
        for text in [&mut group.topic, &mut group.source, &mut group.machine] {
            text.get_or_insert_default();
        }
    }
    list
}

fn owned(pair: Result<(&[u8], &[u8]), WireError>) -> Result<Pair, WireError> {
    pair.map(|(key, value)| Pair { key: key.to_vec(), value: value.to_vec() })
}
