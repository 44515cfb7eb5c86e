//! Every record is in the daemon's file once, and every field is read as it was meant.

use loadgen::payload::LogGroup;
use serde_json::{Value, json};

use crate::daemon::{self, Daemon, Kind};
use crate::output::{count, events, texts};
use crate::records;
use crate::rig::{PATIENCE, Rig, SHARDS};

/// Records of a shard.
const RECORDS: u64 = 600;

fn settings() -> Value {
    json!({
        "facility": "local0",
        "severity_field": "level",
        "severity_map": { "critical": "crit" },
        "msg_id": "m{level}",
        "structured_data": { "sls@32473.level": "{level}", "sls@32473.web": "{__tag__:__hostname__}" },
    })
}

/// Forwards the awkward records and compares what the daemon wrote.
fn every_field(kind: Kind, more: &Value) {
    let Some(root) = daemon::find() else { return };
    let mut daemon = Daemon::start(&root, kind, None);
    let rig = Rig::new();
    let shards: Vec<Vec<LogGroup>> = (0..SHARDS).map(|shard| records::groups(shard, RECORDS)).collect();
    for (shard, groups) in (0..).zip(&shards) {
        for group in groups {
            rig.sls.store().append(shard, group).unwrap();
        }
    }
    let mut settings = settings();
    for (key, value) in more.as_object().expect("settings") {
        settings[key] = value.clone();
    }
    let mut forwarder = rig.forwarder(&daemon, &settings).start();
    forwarder.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());
    forwarder.stop();
    let complaints = forwarder.complaints();
    if matches!(kind, Kind::RsyslogUdp | Kind::SyslogNgUdp) {
        assert!(complaints.len() == 1 && complaints[0].contains("best effort"), "{complaints:?}");
    } else {
        assert_eq!(complaints, [""; 0], "nothing to complain about\n{}", daemon.log());
    }
    daemon.stop();

    let (events, broken) = events(&daemon);
    assert_eq!(broken, 0, "{}", daemon.log());
    let (found, strange) = count(&events);
    assert_eq!(strange, 0, "messages that are no record: {events:#?}");
    assert!(found.values().all(|times| *times == 1), "{kind:?}: {found:?}");
    assert_eq!(found.len() as u64, RECORDS * u64::from(SHARDS), "{kind:?}");
    for event in &events {
        let seq = event.seq().unwrap();
        let number = usize::try_from(seq.number).unwrap();
        let group = &shards[seq.shard as usize][number / 10];
        records::check(event, group, &group.logs[number % 10]);
    }
}

#[test]
fn rsyslog_over_tcp_with_octet_counts() {
    every_field(Kind::RsyslogTcp, &json!({ "framing": "octet-counting" }));
}

#[test]
fn rsyslog_over_tcp_with_lines() {
    every_field(Kind::RsyslogTcp, &json!({ "framing": "newline" }));
}

#[test]
fn rsyslog_over_tls_with_client_certificates() {
    every_field(Kind::RsyslogTls, &json!({}));
}

#[test]
fn rsyslog_over_tls_with_lines() {
    every_field(Kind::RsyslogTls, &json!({ "framing": "newline" }));
}

#[test]
fn rsyslog_over_udp() {
    every_field(Kind::RsyslogUdp, &json!({ "udp_rate": 2_000 }));
}

#[test]
fn syslog_ng_over_udp() {
    every_field(Kind::SyslogNgUdp, &json!({ "udp_rate": 2_000 }));
}

#[test]
fn rsyslog_over_relp() {
    every_field(Kind::RsyslogRelp, &json!({}));
}

#[test]
fn rsyslog_over_relp_one_by_one() {
    every_field(Kind::RsyslogRelp, &json!({ "window": 1 }));
}

#[test]
fn rsyslog_over_relp_and_tls() {
    every_field(Kind::RsyslogRelpTls, &json!({}));
}

#[test]
fn syslog_ng_over_tcp() {
    every_field(Kind::SyslogNgTcp, &json!({}));
}

#[test]
fn syslog_ng_over_tls_with_client_certificates() {
    every_field(Kind::SyslogNgTls, &json!({}));
}

/// The bytes of a field as they are: line feeds, NUL and what is not UTF-8 within one message.
fn raw_text(kind: Kind) {
    let Some(root) = daemon::find() else { return };
    let mut daemon = Daemon::start(&root, kind, None);
    let rig = Rig::new();
    let groups = records::groups(0, 240);
    for group in &groups {
        rig.sls.store().append(0, group).unwrap();
    }
    let settings = json!({ "message": "field:text", "msg_id": "{seq}" });
    let mut forwarder = rig.forwarder(&daemon, &settings).start();
    forwarder.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());
    forwarder.stop();
    daemon.stop();
    let (events, broken) = events(&daemon);
    assert_eq!((events.len(), broken), (240, 0), "{}", daemon.log());
    for event in &events {
        let seq = event.text("msgid").strip_prefix("0-").expect("a number").parse::<usize>().unwrap();
        let log = &groups[seq / 10].logs[seq % 10];
        let text = String::from_utf8_lossy(&log.contents[2].value).into_owned();
        // An empty field is sent as the whole object instead.
        if text.is_empty() {
            assert!(event.text("msg").starts_with('{'), "{event:?}");
            continue;
        }
        assert!(texts(kind, &text).iter().any(|text| text == event.text("msg")), "{text:?}: {event:?}");
    }
}

#[test]
fn rsyslog_takes_raw_text() {
    raw_text(Kind::RsyslogTcp);
}

#[test]
fn rsyslog_takes_raw_text_over_relp() {
    raw_text(Kind::RsyslogRelp);
}

#[test]
fn syslog_ng_takes_raw_text() {
    raw_text(Kind::SyslogNgTcp);
}
