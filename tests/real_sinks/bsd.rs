//! Lines of RFC 3164, as both daemons read them.

use serde_json::{Value, json};

use crate::daemon::{self, Daemon, Kind};
use crate::output::{count, events};
use crate::records;
use crate::rig::{PATIENCE, Rig};

const RECORDS: u64 = 240;

fn every_field(kind: Kind) {
    let Some(root) = daemon::find() else { return };
    let mut daemon = Daemon::start(&root, kind, None);
    let rig = Rig::new();
    let groups = records::groups(0, RECORDS);
    for group in &groups {
        rig.sls.store().append(0, group).unwrap();
    }
    let settings = json!({
        "format": "rfc3164",
        "framing": "newline",
        "facility": "local0",
        "severity_field": "level",
        "severity_map": { "critical": "crit" },
    });
    let mut forwarder = rig.forwarder(&daemon, &settings).start();
    forwarder.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());
    forwarder.stop();
    assert_eq!(forwarder.complaints(), [""; 0], "nothing to complain about\n{}", daemon.log());
    daemon.stop();

    let (events, broken) = events(&daemon);
    let (found, strange) = count(&events);
    assert_eq!((found.len() as u64, strange, broken), (RECORDS, 0, 0), "{kind:?}: {events:#?}");
    assert!(found.values().all(|times| *times == 1), "{kind:?}: {found:?}");
    for event in &events {
        let number = usize::try_from(event.seq().unwrap().number).unwrap();
        let log = &groups[number / 10].logs[number % 10];
        assert_eq!(event.text("host"), records::source(0), "{event:?}");
        assert_eq!(event.text("app"), "nginxaccess", "a TAG is letters and digits: {event:?}");
        assert_eq!(event.number("facility"), Some(16), "local0: {event:?}");
        assert_eq!(event.number("severity"), Some(records::level(event.seq().unwrap()).1), "{event:?}");
        // A stamp of RFC 3164 knows neither year nor zone.
        let seconds = log.time % 86_400;
        let stamp = format!("-01-02T{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        assert!(event.text("stamp").contains(&stamp), "{stamp}: {event:?}");
        let body: Value = serde_json::from_str(event.text("msg")).unwrap();
        for content in &log.contents {
            let (key, value) =
                (String::from_utf8_lossy(&content.key), String::from_utf8_lossy(&content.value));
            assert_eq!(body[&*key], *value, "{event:?}");
        }
    }
}

#[test]
fn rsyslog_reads_lines_of_rfc_3164() {
    every_field(Kind::RsyslogTcp);
}

#[test]
fn syslog_ng_reads_lines_of_rfc_3164() {
    every_field(Kind::SyslogNgBsd);
}
