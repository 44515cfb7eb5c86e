//! `sls2siem dead-letter replay` to syslog receivers; HEC has its rows in `hec_rows`.

use std::process::{Command, Output};
use std::thread;

use loadgen::fault::FaultPlan;
use loadgen::sink::syslog::Transport;

use crate::forwarder::LOOK;
use crate::listener::{Listener, Manner};
use crate::rig::{Rig, TOKEN};
use crate::syslog::{forwarder, rig};
use crate::syslog_strict::Pair;

/// `sls2siem dead-letter …` with the settings of this rig and these in addition.
pub(crate) fn dead_letter(rig: &Rig, sets: &[(&str, String)], args: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_sls2siem"))
        .args(["dead-letter", "--config"])
        .arg(rig.path("sls2siem.toml"))
        .args(sets.iter().flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")]))
        .args(args)
        .env_clear()
        .output()
        .unwrap();
    for text in [&output.stdout, &output.stderr] {
        assert!(!String::from_utf8_lossy(text).contains(TOKEN), "a secret is shown");
    }
    output
}

/// Both outputs, standard output first.
pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn assert_says(output: &Output, code: i32, parts: &[&str]) {
    let text = text(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part}: {text}");
    }
}

fn sets(rig: &Rig, url: &str) -> Vec<(&'static str, String)> {
    vec![
        ("hec.endpoints", "[]".to_owned()),
        ("syslog.endpoints", format!("[{url:?}]")),
        ("dead_letter.dir", rig.path("dead").display().to_string()),
    ]
}

#[test]
fn what_relp_refused_goes_again() {
    let plan = |config: &mut loadgen::sink::syslog::SyslogConfig| {
        config.faults = FaultPlan::parse("syslog.500@100,syslog.500@200,syslog.500@300").unwrap();
    };
    let pair = Pair::new(500, Transport::Relp, plan);
    let mut forwarder = pair.start().set("dead_letter.dir", pair.rig.path("dead").display()).start();
    forwarder.wait_until("checkpoints at the ends", pair.rig.patience(), || pair.rig.is_drained());
    forwarder.stop();
    assert_eq!(pair.verdict().lost, 3, "{}", forwarder.text());
    let sets = sets(&pair.rig, &pair.server.url(pair.transport).unwrap());
    assert_says(&dead_letter(&pair.rig, &sets, &["replay"]), 0, &["3 sent and taken, 0 left"]);
    let verdict = pair.verdict();
    assert_eq!((verdict.lost, verdict.duplicates), (0, 0), "{verdict:?}");
    let violations = pair.server.violations();
    assert!(violations.is_empty(), "{violations:?}");
    assert_says(&dead_letter(&pair.rig, &sets, &["replay"]), 0, &["0 sent and taken, 0 left"]);
}

#[test]
fn what_was_too_long_goes_again_when_more_is_allowed() {
    for (transport, framing) in
        [(Transport::Tcp, "octet-counting"), (Transport::Tls, "octet-counting"), (Transport::Tcp, "newline")]
    {
        let pair = Pair::new(200, transport, |config| {
            if framing == "newline" {
                config.framing = loadgen::sink::syslog::Framing::Newline;
            }
        });
        let start = pair.start().set("syslog.framing", framing).set("syslog.oversize", "dead-letter");
        let start = start.set("syslog.max_message_bytes", "500B");
        let mut forwarder = start.set("dead_letter.dir", pair.rig.path("dead").display()).start();
        forwarder.wait_until("checkpoints at the ends", pair.rig.patience(), || pair.rig.is_drained());
        forwarder.stop();
        let lost = pair.verdict().lost;
        assert!(lost > 0, "none was too long\n{}", forwarder.text());
        let mut sets = sets(&pair.rig, &pair.server.url(transport).unwrap());
        sets.push(("syslog.framing", framing.to_owned()));
        sets.push(("syslog.max_message_bytes", "500B".to_owned()));
        if transport.is_encrypted() {
            for (key, name) in [
                ("syslog.ca_file", "syslog.pem"),
                ("syslog.client_cert", "client.pem"),
                ("syslog.client_key", "client.key"),
            ] {
                sets.push((key, pair.rig.path(name).display().to_string()));
            }
        }
        let kept = dead_letter(&pair.rig, &sets, &["replay"]);
        assert_says(
            &kept,
            1,
            &[&format!("0 sent and taken, {lost} left"), "max_message_bytes is 500: raise it"],
        );
        sets.push(("syslog.max_message_bytes", "8000B".to_owned()));
        let sent = dead_letter(&pair.rig, &sets, &["replay"]);
        assert_says(&sent, 0, &[&format!("{lost} sent and taken, 0 left")]);
        let verdict = pair.verdict();
        assert_eq!((verdict.lost, verdict.duplicates), (0, 0), "{transport:?} {framing}: {verdict:?}");
        let violations = pair.server.violations();
        assert!(violations.is_empty(), "{violations:?}");
    }
}

/// Nothing is called sent that the level does not prove.
#[test]
fn a_receiver_that_proves_nothing_leaves_the_letters_where_they_are() {
    let rig = rig(20);
    let mut listener = Listener::start(false, &[Manner::NeverEnds; 1_000]);
    let url = crate::syslog::url("tcp", &listener);
    let dir = rig.path("dead");
    let start = forwarder(&rig, std::slice::from_ref(&url)).set("dead_letter.dir", dir.display());
    let start = start.set("syslog.oversize", "dead-letter").set("syslog.max_message_bytes", "480B");
    let mut forwarder = start.set("syslog.ack", "kernel").start();
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    forwarder.stop();
    let mut sets = sets(&rig, &url);
    sets.push(("syslog.timeout", "1s".to_owned()));
    let letters = rig.total() - listener.unique();
    assert!(letters > 0, "none was too long\n{}", forwarder.text());
    let silent = dead_letter(&rig, &sets, &["replay"]);
    assert_says(
        &silent,
        1,
        &["0 sent and taken", "does not end the connection within 1 s", "may come twice", "relp://"],
    );
    sets.push(("syslog.ack", "kernel".to_owned()));
    let sent = dead_letter(&rig, &sets, &["replay"]);
    assert_says(&sent, 0, &[&format!("{letters} sent and taken, 0 left")]);
    while listener.unique() < rig.total() {
        thread::sleep(LOOK);
    }
}

/// A receiver that is gone for the moment is asked again; resets with bytes unread are no proof.
#[test]
fn a_replay_outlives_resets() {
    let rig = rig(40);
    let mut listener = Listener::start(false, &[]);
    let url = crate::syslog::url("tcp", &listener);
    let start =
        forwarder(&rig, std::slice::from_ref(&url)).set("dead_letter.dir", rig.path("dead").display());
    let start = start.set("syslog.oversize", "dead-letter").set("syslog.max_message_bytes", "480B");
    let mut forwarder = start.start();
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    forwarder.stop();
    let letters = rig.total() - listener.unique();
    assert!(letters > 10, "too few were too long\n{}", forwarder.text());
    let mut bad = Listener::start(false, &[Manner::Resets(1_000), Manner::Resets(1)]);
    let sets = sets(&rig, &crate::syslog::url("tcp", &bad));
    let sent = dead_letter(&rig, &sets, &["replay"]);
    assert_says(&sent, 0, &[&format!("{letters} sent and taken, 0 left")]);
    while bad.unique() < letters {
        thread::sleep(LOOK);
    }
}
