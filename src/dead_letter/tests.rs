use std::fs;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::book::{Letters, Marks, REPLAYED, files};
use super::*;
use crate::proto::event::{HecAnswer, Refusal, RefusedRecord};
use crate::proto::ids::{Cursor, LetterId, ShardId};

const WAIT: Duration = Duration::from_secs(20);

fn spec(dir: &Path) -> WriterSpec {
    WriterSpec { dir: dir.to_owned(), rotate_bytes: 1 << 20, clock: || UnixTime::from_secs(1_795_647_442) }
}

fn letter(number: u32, bytes: &[u8]) -> DeadLetter {
    let answer = HecAnswer {
        status: 400,
        code: Some(7),
        text: "Incorrect index".into(),
        invalid_event: Some(1),
        location: None,
    };
    let record = RefusedRecord {
        refusal: Refusal::Hec(answer),
        cursor: Cursor::new("MTIz"),
        number,
        index: Some("nope".into()),
    };
    DeadLetter { id: LetterId(u64::from(number)), shard: ShardId(3), record, bytes: bytes.to_vec() }
}

fn origin() -> Origin {
    Origin { pipeline: "default".into(), project: "p".into(), logstore: "l".into(), sink: "hec".into() }
}

/// Posts all and waits for their answers.
fn post(writer: &Writer, letters: Vec<DeadLetter>) -> Vec<Result<(), String>> {
    let (told, answers) = channel();
    let mailbox = writer.mailbox(origin());
    let count = letters.len();
    for letter in letters {
        let told = told.clone();
        mailbox.post(letter, Box::new(move |result| told.send(result).unwrap()));
    }
    (0..count).map(|_| answers.recv_timeout(WAIT).expect("an answer")).collect()
}

#[test]
fn what_was_answered_safe_stands_in_the_file_word_for_word() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/dead");
    let writer = Writer::start(&spec(&path)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    let sent: [&[u8]; 3] = [b"{\"event\":\"\\u0000 \xc3\xa9\"}\n", b"two", b"\xff\xfe\n"];
    let letters = (0..).zip(sent).map(|(number, bytes)| letter(number, bytes)).collect();
    assert_eq!(post(&writer, letters), vec![Ok(()); 3]);
    let found = files(&path).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(fs::metadata(&found[0]).unwrap().permissions().mode() & 0o777, 0o600);
    let read = Letters::read(&found[0]).unwrap();
    assert!(read.is_open && !read.is_torn && read.name().starts_with("dead-letter-20261125T225722Z-"));
    for ((number, entry), bytes) in (0..).zip(&read.entries).zip(sent) {
        let record = entry.record.as_ref().unwrap();
        assert_eq!(record.bytes().unwrap(), bytes.strip_suffix(b"\n").unwrap_or(bytes));
        assert_eq!((record.index, record.shard, &*record.cursor), (number, 3, "MTIz"));
        assert_eq!(
            (&*record.reason, record.response.as_ref().unwrap().code),
            ("index \"nope\" is refused", Some(7))
        );
        assert_eq!(record.name(), format!("default/p/l/3/MTIz/{number}"));
    }
    writer.stop();
    assert!(!Letters::read(&found[0]).unwrap().is_open);
}

#[test]
fn files_rotate_by_size_and_are_found_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::start(&WriterSpec { rotate_bytes: 1, ..spec(dir.path()) }).unwrap();
    for number in 0..12 {
        assert_eq!(post(&writer, vec![letter(number, b"x")]), [Ok(())]);
    }
    let found = files(dir.path()).unwrap();
    assert_eq!(found.len(), 12);
    let numbers: std::collections::BTreeSet<u32> = found
        .iter()
        .map(|path| Letters::read(path).unwrap().entries[0].record.as_ref().unwrap().index)
        .collect();
    assert_eq!(numbers, (0..12).collect());
}

#[test]
fn a_disk_that_takes_nothing_is_an_answer_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dead");
    let writer = Writer::start(&spec(&path)).unwrap();
    assert_eq!(post(&writer, vec![letter(0, b"x")]), [Ok(())]);
    // The directory goes away under the running writer: the name of the next file cannot be made.
    fs::rename(&path, dir.path().join("away")).unwrap();
    let refused = post(&writer, vec![letter(1, b"y")]).remove(0).unwrap_err();
    assert!(refused.contains("dead") && refused.contains("os error 2"), "{refused}");
    fs::create_dir(&path).unwrap();
    assert_eq!(post(&writer, vec![letter(1, b"y")]), [Ok(())]);
    assert_eq!(files(&path).unwrap().len(), 1);
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(Writer::start(&spec(&file)), Err(DeadLetterError::NotADirectory { .. })));
}

#[test]
fn done_lines_are_kept_apart_and_a_file_moves_only_when_all_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::start(&spec(dir.path())).unwrap();
    post(&writer, (0..30).map(|number| letter(number, b"x")).collect());
    let path = files(dir.path()).unwrap().remove(0);
    let left = || Letters::read(&path).unwrap().left().map(|entry| entry.line).collect::<Vec<_>>();
    let mut marks = Marks::open(&path).unwrap();
    assert!(matches!(Marks::open(&path), Err(DeadLetterError::Busy { .. })), "one replay at a time");
    marks.add(&(1..=20).collect::<Vec<_>>()).unwrap();
    assert_eq!(left(), (21..=30).collect::<Vec<_>>());
    assert!(!marks.finish().unwrap(), "ten are left");
    // A crash in the middle of "28;" leaves "2": it must not count as line 2, 28 or anything.
    let done = PathBuf::from(format!("{}.done", path.display()));
    fs::write(&done, format!("{}\n21;\n2", fs::read_to_string(&done).unwrap())).unwrap();
    assert_eq!(left(), (22..=30).collect::<Vec<_>>());
    let mut marks = Marks::open(&path).unwrap();
    marks.add(&(22..=30).collect::<Vec<_>>()).unwrap();
    assert!(left().is_empty());
    assert!(!marks.finish().unwrap(), "somebody appends to it");
    writer.stop();
    assert!(Marks::open(&path).unwrap().finish().unwrap());
    assert!(files(dir.path()).unwrap().is_empty());
    assert_eq!(files(&dir.path().join(REPLAYED)).unwrap().len(), 1);
}

#[test]
fn a_torn_end_is_no_record() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::start(&spec(dir.path())).unwrap();
    post(&writer, vec![letter(0, b"x")]);
    writer.stop();
    let path = files(dir.path()).unwrap().remove(0);
    let whole = fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let read = Letters::read(&path).unwrap();
        assert_eq!((read.entries.len(), read.is_torn), (0, cut > 0), "{cut}");
    }
    fs::write(&path, [&whole[..], b"not json\n"].concat()).unwrap();
    let read = Letters::read(&path).unwrap();
    assert!(read.entries[0].record.is_ok() && read.entries[1].record.is_err());
}
