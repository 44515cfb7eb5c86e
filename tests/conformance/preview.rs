//! `preview`: the very bytes that the sink gets afterwards, and no trace of having asked.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use serde_json::Value;

use crate::rig::{KEY_SECRET, PATIENCE, Rig, TOKEN, key};

fn preview(rig: &Rig, args: &[&str]) -> (Option<i32>, String, String) {
    let _written = rig.forwarder();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sls2siem"));
    command.arg("preview").env_clear().arg("--config").arg(rig.path("sls2siem.toml")).args(args);
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(stdout), text(stderr));
    for secret in [KEY_SECRET, TOKEN] {
        assert!(!out.contains(secret) && !err.contains(secret), "a secret is shown: {out}{err}");
    }
    (status.code(), out, err)
}

#[test]
fn what_is_shown_is_what_the_sink_gets() {
    let mut rig = Rig::with(|_| (), |hec| hec.keep = true);
    rig.fill(100);
    let (code, shown, note) = preview(&rig, &["-n", "120"]);
    assert_eq!((code, shown.lines().count()), (Some(0), 120), "{note}");
    for part in ["100 of shard 0 from the oldest log", "20 of shard 1", "no checkpoint moved"] {
        assert!(note.contains(part), "{part}: {note}");
    }
    assert!(rig.group().is_none() && rig.sls.commits().is_empty());
    assert_eq!((rig.sls.stats().heartbeats, rig.hec.stats()["events"].as_u64()), (0, Some(0)));

    let mut forwarder = rig.forwarder().start();
    forwarder.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());
    forwarder.stop();
    rig.assert_exact();
    let stored: BTreeSet<String> = rig.hec.events().into_iter().map(|event| event.envelope).collect();
    for line in shown.lines() {
        assert!(stored.contains(line), "never stored: {line}");
    }

    // From the checkpoint on there is nothing new, then only what is new.
    let (code, shown, note) = preview(&rig, &[]);
    assert_eq!((code, shown.as_str()), (Some(0), ""), "{note}");
    assert!(note.contains("no logs"), "{note}");
    rig.fill(50);
    let (code, shown, note) = preview(&rig, &["-n", "3", "--set", "hec.event=string"]);
    assert_eq!((code, shown.lines().count()), (Some(0), 3), "{note}");
    assert!(note.contains("3 of shard 0 from its checkpoint"), "{note}");
    let event = |line: &str| serde_json::from_str::<Value>(line).unwrap()["event"].clone();
    assert!(shown.lines().all(|line| event(line).is_string()), "{shown}");
}

#[test]
fn messages_of_syslog_with_the_framing_of_their_transport() {
    let mut rig = Rig::new();
    rig.fill(50);
    let _written = rig.forwarder();
    let file = rig.path("sls2siem.toml");
    let mut settings: toml::Table = toml::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    settings.remove("hec");
    for (url, counted) in [("tcp://127.0.0.1:1", true), ("relp://127.0.0.1:1", false)] {
        let mut syslog = toml::Table::new();
        syslog.insert("endpoints".to_owned(), toml::Value::Array(vec![url.into()]));
        settings.insert("syslog".to_owned(), syslog.into());
        std::fs::write(&file, toml::to_string(&settings).unwrap()).unwrap();
        let ran = Command::new(env!("CARGO_BIN_EXE_sls2siem"))
            .args(["preview", "-n", "3", "--config"])
            .arg(&file)
            .env_clear()
            .output()
            .unwrap();
        assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
        let mut rest = ran.stdout.as_slice();
        for _ in 0..3 {
            let message = if counted {
                let space = rest.iter().position(|byte| *byte == b' ').unwrap();
                let (count, behind) = rest.split_at(space);
                let bytes: usize = std::str::from_utf8(count).unwrap().parse().unwrap();
                rest = &behind[1 + bytes..];
                &behind[1..=bytes]
            } else {
                let end = rest.iter().position(|byte| *byte == b'\n').unwrap();
                let (message, behind) = rest.split_at(end);
                rest = &behind[1..];
                message
            };
            assert!(message.starts_with(b"<14>1 20"), "{}", String::from_utf8_lossy(message));
        }
        assert_eq!(rest, b"", "{url}");
    }
}

#[test]
fn refusals_are_worded_as_in_the_log() {
    let mut rig = Rig::new();
    rig.fill(50);
    rig.sls.set_key(key().without("log:GetCursorOrData"));
    let (code, shown, note) = preview(&rig, &[]);
    assert_eq!((code, shown.as_str()), (Some(1), ""));
    assert!(note.contains("RAM denies log:GetCursorOrData") && note.contains("request id"), "{note}");
    let (code, _, note) = preview(&rig, &["--pipeline", "other"]);
    assert_eq!(code, Some(64));
    assert!(note.contains("there are: default"), "{note}");
}
