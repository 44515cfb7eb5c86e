use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use async_channel::Sender;
use serde_json::Value;

use super::mask::Message;
use super::*;
use crate::admin::{AdminHandle, start_with_tap};
use crate::metrics::{Info, Registry};

/// What was asked for, and where the copies go.
type Begun = (Vec<u16>, Option<ShardId>, Sender<FrameCopy>);

/// A page with two pipelines, and all that was asked of it.
fn page() -> (AdminHandle, Receiver<Begun>) {
    let (asked, begun) = async_channel::unbounded();
    let pipeline = |name: &str| TapPipeline {
        name: name.into(),
        framing: Framing::Newline,
        form: Form { message: Message::Hec { raw: None }, made: Vec::new() },
    };
    let source = TapSource {
        pipelines: vec![pipeline("one"), pipeline("two")],
        attach: Box::new(move |pipelines, shard, waiting| {
            let (sender, receiver) = async_channel::bounded(waiting);
            asked.try_send((pipelines.to_vec(), shard, sender)).unwrap();
            receiver
        }),
    };
    let admin =
        start_with_tap("127.0.0.1:0".parse().unwrap(), Registry::new(Info::default()), Some(source)).unwrap();
    (admin, begun)
}

fn copy(pipeline: u16, bytes: &str, frames: u64, records: u64) -> FrameCopy {
    FrameCopy {
        origin: Origin { pipeline, executor: 0 },
        shard: ShardId(7),
        bytes: bytes.as_bytes().to_vec(),
        is_cut: false,
        frames,
        records,
    }
}

/// A request whose answer is not read yet.
fn ask(admin: &AdminHandle, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(admin.local_addr()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stream
}

fn answer(admin: &AdminHandle, path: &str) -> String {
    let mut text = String::new();
    ask(admin, path).read_to_string(&mut text).unwrap();
    text
}

/// The next document of a stream that is no sign of life.
fn next(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> Value {
    loop {
        let line = lines.next().expect("the stream goes on").unwrap();
        // Heads and sizes of chunks are no objects.
        match serde_json::from_str::<Value>(&line) {
            Ok(document) if document.is_object() && document.get("alive").is_none() => return document,
            _ => {}
        }
    }
}

#[test]
fn without_the_setting_it_is_refused_in_four_parts() {
    let admin = crate::admin::start("127.0.0.1:0".parse().unwrap(), Registry::new(Info::default())).unwrap();
    let text = answer(&admin, "/tap");
    assert!(text.starts_with("HTTP/1.1 403 "), "{text}");
    let body = text.rsplit_once("\r\n\r\n").unwrap().1;
    assert_eq!(body.trim().split(" - ").count(), 4, "{body}");
    assert!(body.contains("[admin] tap = true"), "{body}");
    admin.stop();
}

#[test]
fn what_was_asked_for_wrongly_is_named() {
    let (admin, begun) = page();
    for (query, words) in [
        ("pipeline=three", "there are: one, two"),
        ("shard=x", "shard=x"),
        ("limit=-1", "limit=-1"),
        ("colour=red", "pipeline, shard, limit, seconds, mask, mask_all"),
        ("mask=%ff", "mask"),
        ("mask=%f", "mask"),
    ] {
        let text = answer(&admin, &format!("/tap?{query}"));
        assert!(text.starts_with("HTTP/1.1 400 ") && text.contains(words), "{query}: {text}");
    }
    assert!(answer(&admin, "/tap?pipeline=three").contains("connection: close"));
    assert!(begun.is_empty(), "nothing was copied for them");
    admin.stop();
}

#[test]
fn events_come_masked_with_what_is_missing_until_the_limit() {
    let (admin, begun) = page();
    let stream = ask(&admin, "/tap?pipeline=two&shard=7&limit=4&mask=pass,no%20where");
    let (pipelines, shard, copies) = begun.recv_blocking().unwrap();
    assert_eq!((pipelines, shard), (vec![1], Some(ShardId(7))));
    let mut lines = BufReader::new(stream).lines();
    copies.send_blocking(copy(1, "{\"event\":{\"pass\":\"s3cret\"}}\n{\"event\":2}\n", 1, 2)).unwrap();
    let first = next(&mut lines);
    assert_eq!(first["event"], r#"{"event":{"pass":"***"}}"#);
    assert_eq!((first["pipeline"].as_str(), first["shard"].as_u64()), (Some("two"), Some(7)));
    assert_eq!(first["masked"], json!(["pass"]));
    assert_eq!(next(&mut lines)["masked"], json!([]));
    // Two frames with five logs were left out before this one.
    copies.send_blocking(copy(1, "{\"event\":3}\n", 4, 8)).unwrap();
    assert_eq!(next(&mut lines)["event"], r#"{"event":3}"#);
    assert_eq!(next(&mut lines)["not_shown"], json!({ "frames": 2, "events": 5 }));
    copies.send_blocking(copy(1, "{\"event\":4}\n{\"event\":5}\n", 5, 10)).unwrap();
    assert_eq!(next(&mut lines)["event"], r#"{"event":4}"#);
    let end = &next(&mut lines)["end"];
    assert_eq!((end["why"].as_str(), end["shown"].as_u64()), (Some("limit"), Some(4)));
    assert_eq!(end["never_masked"], json!(["no where"]));
    assert_eq!(lines.last().unwrap().unwrap(), "", "the last chunk, then the end of the connection");
    // The executors hear of it at their next heartbeat.
    wait(|| copies.is_closed());
    admin.stop();
}

fn wait(mut holds: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("not within twenty seconds");
}

#[test]
fn two_look_on_and_a_third_has_to_wait() {
    let (admin, begun) = page();
    let one = ask(&admin, "/tap");
    let first = begun.recv_blocking().unwrap().2;
    let _two = ask(&admin, "/tap");
    let _second = begun.recv_blocking().unwrap();
    let text = answer(&admin, "/tap");
    assert!(text.starts_with("HTTP/1.1 429 "), "{text}");
    assert!(answer(&admin, "/healthz").starts_with("HTTP/1.1 200 "), "everything else is answered");
    // Its client goes, although no log comes.
    drop(one);
    wait(|| first.is_closed());
    let _three = ask(&admin, "/tap");
    begun.recv_blocking().unwrap();
    admin.stop();
}

#[test]
fn a_client_that_does_not_read_holds_nobody_up_and_hears_of_it() {
    let (admin, begun) = page();
    let stream = ask(&admin, "/tap");
    let copies = begun.recv_blocking().unwrap().2;
    let event = format!("{{\"event\":\"{}\"}}\n", "x".repeat(60_000));
    let (mut frames, mut dropped) = (0, 0);
    wait(|| {
        frames += 1;
        dropped += u64::from(copies.try_send(copy(0, &event, frames, frames)).is_err());
        assert!(copies.len() <= COPIES_WAITING);
        dropped >= 500
    });
    let mut lines = BufReader::new(stream).lines();
    let mut shown = 0_u64;
    let missing = loop {
        frames += 1;
        let _full = copies.try_send(copy(0, &event, frames, frames));
        let document = next(&mut lines);
        if let Some(missing) = document.get("not_shown") {
            break missing["frames"].as_u64().unwrap();
        }
        shown += 1;
    };
    assert!(missing > 0 && shown > 0 && missing + shown <= frames, "{missing} of {frames}");
    admin.stop();
}

#[test]
fn it_ends_with_its_time_and_with_the_process() {
    let (admin, begun) = page();
    let text = answer(&admin, "/tap?seconds=1");
    assert!(text.contains(r#""why":"time""#), "{text}");
    let mut lines = BufReader::new(ask(&admin, "/tap")).lines();
    let _first = begun.recv_blocking().unwrap();
    let copies = begun.recv_blocking().unwrap().2;
    copies.send_blocking(copy(0, "{\"event\":1}\n", 1, 1)).unwrap();
    next(&mut lines);
    let stopping = std::thread::spawn(move || admin.stop());
    assert_eq!(next(&mut lines)["end"]["why"], "stopped");
    stopping.join().unwrap();
}

#[test]
fn a_look_lives_longer_than_other_connections() {
    let (admin, begun) = page();
    let mut lines = BufReader::new(ask(&admin, "/tap?limit=1")).lines();
    let copies = begun.recv_blocking().unwrap().2;
    std::thread::park_timeout(crate::admin::bounded::CONNECTION_TIME_MAX + Duration::from_secs(2));
    copies.send_blocking(copy(0, "{\"event\":1}\n", 1, 1)).unwrap();
    assert_eq!(next(&mut lines)["event"], r#"{"event":1}"#);
    admin.stop();
}
