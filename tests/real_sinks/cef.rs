//! CEF as a parser that is not ours reads it: liblognorm's, inside of rsyslog.
//!
//! Why: a mapping and its escapes can be tested against a reader of ours and share its misreading of the format.
//! Invariants: 1. every record is found once, with every field under its key and with its whole value. 2. what a pair of
//! CEF cannot hold is known and named here: spaces around a value, NUL (a space), empty values.
//! Bounds: those of `rig`. Spec: ArcSight's CEF, "Header and extension".

use std::collections::BTreeMap;

use loadgen::payload::{Content, Log, LogGroup, Seq};
use prost::bytes::Bytes;
use serde_json::{Value, json};

use crate::daemon::{self, Daemon, Kind, lines};
use crate::records;
use crate::rig::{PATIENCE, Rig};

const RECORDS: u64 = 240;

/// An event of ActionTrail whose values need every escape.
fn trail() -> LogGroup {
    let event = json!({
        "eventId": "7f2c-1",
        "eventName": "CreateAccessKey",
        "eventRW": "Write",
        "eventType": "ApiCall",
        "serviceName": "Ram",
        "sourceIpAddress": "203.0.113.7",
        "acsRegion": "cn-hangzhou",
        "userAgent": "aliyun-cli/3.0 (a=b|c\\d)",
        "userIdentity": { "type": "ram-user", "userName": "ann=the|admin\\", "principalId": "2850" },
        "requestParameterJson": "{\"UserName\":\"bob\"}",
        "errorMessage": "first line\nsecond = line",
        "errorCode": "NoPermission",
    });
    let content = |key: &'static str, value: String| Content {
        key: Bytes::from_static(key.as_bytes()),
        value: value.into(),
    };
    let log = Log {
        time: 1_767_322_845,
        contents: vec![content("seq", "1-0".to_owned()), content("event", event.to_string())],
        time_ns: None,
    };
    LogGroup { topic: Some(Bytes::from_static(b"actiontrail_event")), ..records::group(1, vec![log]) }
}

/// What a reader of the pairs has of a value.
fn in_a_pair(value: &[u8]) -> String {
    String::from_utf8_lossy(value).replace('\0', " ").trim_matches(' ').to_owned()
}

#[test]
fn every_field_is_read_by_liblognorm() {
    let Some(root) = daemon::find() else { return };
    let mut daemon = Daemon::start(&root, Kind::RsyslogCef, None);
    let rig = Rig::new();
    let groups = records::groups(0, RECORDS);
    for group in &groups {
        rig.sls.store().append(0, group).unwrap();
    }
    rig.sls.store().append(1, &trail()).unwrap();
    let settings = json!({
        "message": "cef",
        "severity_field": "level",
        "device_vendor": "Alibaba | Cloud",
        "device_product": "{__topic__}",
        "extension": { "shost": "{__source__}" },
    });
    let mut forwarder = rig.forwarder(&daemon, &settings).start();
    forwarder.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());
    forwarder.stop();
    assert_eq!(forwarder.complaints(), [""; 0], "nothing to complain about\n{}", daemon.log());
    daemon.stop();

    let mut found: BTreeMap<Seq, Value> = BTreeMap::new();
    for line in lines(&daemon.out()) {
        let mut tree: Value = serde_json::from_str(&line).unwrap_or_else(|why| panic!("{why}: {line}"));
        let cef = tree["cef"].take();
        let seq = cef["Extensions"]["seq"].as_str().and_then(|seq| Seq::parse(seq.as_bytes()));
        let seq = seq.unwrap_or_else(|| panic!("liblognorm does not read {line}"));
        assert!(found.insert(seq, cef).is_none(), "{line}");
    }
    let cef = found.remove(&Seq { shard: 1, number: 0 }).expect("the event of the trail");
    let read = |key: &str| cef["Extensions"][key].as_str().unwrap_or_else(|| panic!("{key}: {cef}"));
    assert_eq!(cef["DeviceProduct"], "actiontrail_event", "{cef}");
    assert_eq!(
        (&cef["SignatureID"], &cef["Name"]),
        (&json!("CreateAccessKey"), &json!("Ram:CreateAccessKey")),
        "{cef}"
    );
    // liblognorm takes the first character of the first key for the space that it expects there.
    assert!(cef["Extensions"]["t"] == "1767322845000" || cef["Extensions"]["rt"] == "1767322845000", "{cef}");
    assert_eq!(read("src"), "203.0.113.7");
    assert_eq!(read("suser"), "ann=the|admin\\");
    assert_eq!(read("requestClientApplication"), "aliyun-cli/3.0 (a=b|c\\d)");
    assert_eq!(read("msg"), "first line\nsecond = line");
    assert_eq!(read("reason"), "NoPermission");

    assert_eq!(found.len() as u64, RECORDS);
    for (seq, cef) in &found {
        let number = usize::try_from(seq.number).unwrap();
        let log = &groups[number / 10].logs[number % 10];
        assert_eq!(cef["DeviceVendor"], "Alibaba | Cloud", "{cef}");
        assert_eq!(cef["DeviceProduct"], records::TOPIC, "{cef}");
        assert_eq!(cef["Extensions"]["shost"], records::source(0), "{cef}");
        for content in &log.contents {
            let value = in_a_pair(&content.value);
            let key = std::str::from_utf8(&content.key).unwrap();
            let read = cef["Extensions"][key].as_str().unwrap_or_default();
            assert_eq!(read, value, "{key} of {seq}: {cef}");
        }
    }
}
