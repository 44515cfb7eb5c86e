//! Files of the dead letter: any bytes are read line by line, and what the writer wrote comes back byte for byte.

use std::collections::BTreeSet;
use std::fs;
use std::sync::mpsc;

use sls2siem::dead_letter::book::{self, Letters, Marks};
use sls2siem::dead_letter::record::{Origin, Record};
use sls2siem::dead_letter::{Writer, WriterSpec};
use sls2siem::proto::event::{DeadLetter, HecAnswer, Refusal, RefusedRecord};
use sls2siem::proto::ids::{Cursor, LetterId, ShardId};
use sls2siem::proto::time::UnixTime;

use super::input::Input;

/// A flag: records for the writer, or a file as it is and what was noted beside it.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    if input.byte().is_multiple_of(8) { written(&mut input) } else { any_file(&mut input) }
}

fn any_file(input: &mut Input<'_>) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("dead-letter-1.jsonl");
    let done = input.chunk();
    let text = input.rest();
    fs::write(&path, text).unwrap();
    fs::write(home.path().join("dead-letter-1.jsonl.done"), done).unwrap();
    assert_eq!(book::files(home.path()).unwrap(), std::slice::from_ref(&path));
    let Ok(noted) = core::str::from_utf8(done) else {
        assert!(Letters::read(&path).is_err(), "nobody knows which lines are done");
        return;
    };
    let letters = Letters::read(&path).unwrap();
    let whole: Vec<&[u8]> =
        text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")).collect();
    assert_eq!(letters.is_torn, !text.is_empty() && !text.ends_with(b"\n"));
    assert!(!letters.is_open);
    assert_eq!(letters.entries.len(), whole.iter().filter(|line| line.len() > 1).count());
    for entry in &letters.entries {
        let line = whole[usize::try_from(entry.line).unwrap() - 1];
        assert!(!entry.is_done || noted.contains(&format!("{};", entry.line)));
        match &entry.record {
            Ok(record) => {
                let text = serde_json::to_string(record).unwrap();
                assert_eq!(&serde_json::from_str::<Record<'_>>(&text).unwrap(), record);
                if let Some(event) = &record.event {
                    assert_eq!(record.bytes().as_deref(), Some(event.as_bytes()));
                }
                assert!(record.name().ends_with(&format!("/{}", record.index)));
            }
            Err(why) => assert!(!why.is_empty() && line.len() > 1),
        }
    }
    finish(&letters);
}

/// Lines are noted one by one; the file moves with the last one, and not before.
fn finish(letters: &Letters) {
    let left: Vec<u64> = letters.left().map(|entry| entry.line).take(4).collect();
    for line in &left {
        let mut marks = Marks::open(&letters.path).unwrap();
        assert!(Marks::open(&letters.path).is_err(), "two replays of one file");
        marks.add(&[*line]).unwrap();
        let now: BTreeSet<u64> =
            Letters::read(&letters.path).unwrap().left().map(|entry| entry.line).collect();
        assert!(!now.contains(line), "line {line} is done");
        assert_eq!(marks.finish().unwrap(), now.is_empty());
        assert_eq!(letters.path.exists(), !now.is_empty());
    }
}

fn written(input: &mut Input<'_>) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("letters");
    let spec =
        WriterSpec { dir: dir.clone(), rotate_bytes: 200, clock: || UnixTime::from_secs(1_767_323_000) };
    let writer = Writer::start(&spec).unwrap();
    let (sender, answers) = mpsc::channel();
    let mut posted = Vec::new();
    while !input.is_empty() && posted.len() < 8 {
        let letter = letter(input, posted.len() as u64);
        let text = |input: &mut Input<'_>| String::from_utf8_lossy(input.chunk()).into_owned();
        let origin =
            Origin { pipeline: text(input), project: text(input), logstore: "l".into(), sink: "hec".into() };
        let sender = sender.clone();
        writer
            .mailbox(origin.clone())
            .post(letter.clone(), Box::new(move |result| sender.send(result).unwrap()));
        answers.recv().unwrap().unwrap();
        posted.push((origin, letter));
    }
    writer.stop();
    let mut posted = posted.iter();
    for path in book::files(&dir).unwrap() {
        let letters = Letters::read(&path).unwrap();
        assert!(!letters.is_torn && !letters.is_open);
        for entry in &letters.entries {
            let record = entry.record.as_ref().unwrap();
            let (origin, letter) = posted.next().expect("no line too many");
            let bytes = letter.bytes.strip_suffix(b"\n").unwrap_or(&letter.bytes);
            assert_eq!(record.bytes().as_deref(), Some(bytes));
            let name = (&*record.pipeline, &*record.project, record.shard, &*record.cursor, record.index);
            let cursor = letter.record.cursor.as_str();
            assert_eq!(
                name,
                (&*origin.pipeline, &*origin.project, letter.shard.0, cursor, letter.record.number)
            );
        }
    }
    assert!(posted.next().is_none(), "what was answered is on disk");
}

fn letter(input: &mut Input<'_>, id: u64) -> DeadLetter {
    let text = |input: &mut Input<'_>| String::from_utf8_lossy(input.chunk()).into_owned();
    let refusal = match input.byte() % 3 {
        0 => Refusal::Hec(HecAnswer {
            status: input.u16(),
            code: input.flag().then(|| input.u16()),
            text: text(input),
            invalid_event: None,
            location: None,
        }),
        1 => Refusal::Relp { code: input.u16(), text: text(input) },
        _ => Refusal::Oversize { bytes: input.u32().into() },
    };
    let index = input.flag().then(|| text(input));
    let record = RefusedRecord { refusal, cursor: Cursor::new(&text(input)), number: input.u32(), index };
    DeadLetter { id: LetterId(id), shard: ShardId(input.u32()), record, bytes: input.chunk().to_vec() }
}
