//! Messages around the limits of the receivers: nothing is split, glued, dropped or cut by the receiver.
//!
//! rsyslog splits what is longer than 8,096 bytes and calls the rest events of their own; syslog-ng closes the
//! connection, and everything behind is gone. So the forwarder cuts before they do, visibly.

use loadgen::payload::Seq;
use serde_json::{Value, json};

use crate::daemon::{self, Daemon, Kind};
use crate::output::{count, events};
use crate::records;
use crate::rig::{PATIENCE, Rig};

/// Sizes of one value; with a header and the other fields a message is some 200 bytes longer.
const SIZES: [usize; 24] = [
    1, 479, 480, 1023, 1024, 2048, 4095, 7_600, 7_700, 7_800, 7_850, 7_900, 7_999, 8_000, 8_001, 8_096,
    8_097, 8_192, 32_768, 65_000, 65_535, 65_536, 65_537, 130_000,
];

/// Forwards one log of each size, among others, and gives the messages that arrived.
fn forward(
    kind: Kind,
    longest: Option<usize>,
    settings: &Value,
) -> Option<(usize, Vec<crate::output::Event>)> {
    let root = daemon::find()?;
    let mut daemon = Daemon::start(&root, kind, longest);
    let rig = Rig::new();
    let mut logs = Vec::new();
    for (number, size) in (0..).zip(SIZES) {
        // Characters of three bytes, so that most cuts would fall into one.
        let long = "汉".repeat(size / 3) + &"x".repeat(size % 3);
        logs.push(records::log(Seq { shard: 0, number: number * 2 }, &[("long", long.into_bytes())]));
        logs.push(records::log(Seq { shard: 0, number: number * 2 + 1 }, &[]));
    }
    let count = logs.len();
    for logs in logs.chunks(10) {
        rig.sls.store().append(0, &records::group(0, logs.to_vec())).unwrap();
    }
    let mut forwarder = rig.forwarder(&daemon, settings).start();
    forwarder.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());
    forwarder.stop();
    daemon.stop();
    let (events, broken) = events(&daemon);
    assert_eq!(broken, 0, "{}", daemon.log());
    Some((count, events))
}

/// Every record is one message: whole, or cut with a mark where it is longer than `limit`.
fn one_each(kind: Kind, longest: Option<usize>, limit: usize, settings: &Value) {
    let Some((sent, events)) = forward(kind, longest, settings) else { return };
    let (found, strange) = count(&events);
    assert_eq!((found.len(), strange, events.len()), (sent, 0, sent), "{kind:?}: {events:#?}");
    let mut cut = 0;
    for event in &events {
        let body: Value = serde_json::from_str(event.text("msg")).expect("an object");
        let number = usize::try_from(event.seq().unwrap().number).unwrap();
        let long = body["long"].as_str().unwrap_or_default();
        let size = if number % 2 == 0 { SIZES[number / 2] } else { 0 };
        let is_cut = long.ends_with("[truncated]");
        cut += usize::from(is_cut);
        assert!(is_cut || long.len() == size, "{} of {size}", long.len());
        assert!(!is_cut || size + 500 > limit, "{size} was cut");
        assert!(is_cut || size < limit, "{size} was not cut");
        assert!(event.text("msg").len() <= limit, "{}", event.text("msg").len());
        assert_eq!(event.text("app"), records::TOPIC);
    }
    let must = SIZES.iter().filter(|size| **size >= limit).count();
    assert!(cut >= must, "{cut} of {must}");
}

#[test]
fn rsyslog_gets_nothing_that_it_would_split() {
    one_each(Kind::RsyslogTcp, None, 8_000, &json!({}));
}

#[test]
fn rsyslog_gets_no_line_that_it_would_split() {
    one_each(Kind::RsyslogTcp, None, 8_000, &json!({ "framing": "newline" }));
}

#[test]
fn rsyslog_gets_nothing_by_relp_that_it_would_cut() {
    one_each(Kind::RsyslogRelp, None, 8_000, &json!({}));
}

#[test]
fn rsyslog_that_was_told_to_takes_more() {
    one_each(Kind::RsyslogTcp, Some(150_000), 150_000, &json!({ "max_message_bytes": "150000B" }));
}

#[test]
fn rsyslog_that_was_told_to_takes_more_by_relp() {
    one_each(Kind::RsyslogRelp, Some(150_000), 150_000, &json!({ "max_message_bytes": "150000B" }));
}

#[test]
fn syslog_ng_gets_nothing_at_which_it_would_hang_up() {
    one_each(Kind::SyslogNgTcp, None, 65_000, &json!({}));
}

#[test]
fn syslog_ng_that_was_told_to_takes_more() {
    one_each(Kind::SyslogNgTls, Some(200_000), 150_000, &json!({ "max_message_bytes": "150000B" }));
}

/// The parts of a record, put side by side, are the record.
#[test]
fn parts_that_are_put_together_are_the_record() {
    let settings = json!({ "oversize": "split", "msg_id": "{seq}" });
    let Some((_, events)) = forward(Kind::RsyslogTcp, None, &settings) else { return };
    for (number, size) in (0..).zip(SIZES) {
        let id = format!("0-{}", number * 2);
        let bodies: Vec<&str> =
            events.iter().filter(|event| event.text("msgid") == id).map(|event| event.text("msg")).collect();
        let whole = if bodies.len() == 1 {
            bodies[0].to_owned()
        } else {
            let of = format!("/{} id=", bodies.len());
            assert!(bodies.iter().all(|body| body.starts_with("[part ") && body.contains(&of)), "{id}");
            bodies.iter().filter_map(|body| body.split_once("] ")).map(|(_, text)| text).collect()
        };
        let body: Value = serde_json::from_str(&whole).unwrap_or_else(|why| panic!("{id}: {why}"));
        assert_eq!(body["long"].as_str().unwrap().len(), size, "{id}");
        assert!(bodies.iter().all(|body| body.len() <= 8_000), "{id}");
    }
}
