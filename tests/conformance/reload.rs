//! SIGHUP with settings that need another generation: sinks, templates, cores, while logs flow.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use loadgen::sink::hec::{HecConfig, HecServer, Mode, Token};
use loadgen::sink::tls::TlsSettings;
use loadgen::verify::Sent;
use loadgen::verify::expect::Metadata;

use crate::rig::{PATIENCE, Rig, SHARDS, TOKEN};

fn change(rig: &Rig, from: &str, to: &str) {
    let text = fs::read_to_string(rig.path("sls2siem.toml")).unwrap();
    assert!(text.contains(from), "{from}: {text}");
    rig.write_private("sls2siem.toml", &text.replace(from, to));
}

/// Another Splunk, another index: nothing is lost, nothing comes twice, and SLS sees one consumer all the time.
#[test]
fn a_sink_that_moved_and_a_new_template_need_no_restart() {
    let mut rig = Rig::new();
    let there = HecServer::start(HecConfig {
        tls: Some(TlsSettings::default()),
        max_event_bytes: 16 << 20,
        payload: Some((rig.payload, Metadata { index: "moved".to_owned(), ..Metadata::default() })),
        ..HecConfig::new(Mode::Strict, Token::new(TOKEN))
    });
    let there = there.unwrap();
    let pem = fs::read_to_string(rig.path("hec.pem")).unwrap() + there.ca_pem().unwrap();
    fs::write(rig.path("hec.pem"), pem).unwrap();
    rig.fill_over(5_000, Some(Duration::from_secs(4)));
    let mut forwarder = rig.forwarder().start();
    forwarder.wait_until("logs at the first", PATIENCE, || rig.verdict().stored_unique > 500);
    let consumers: Vec<String> = rig.group().unwrap().consumers.into_keys().collect();

    change(&rig, &rig.hec.url(), &there.url());
    change(&rig, "batch_age = \"50ms\"", "batch_age = \"50ms\"\nindex = \"moved\"");
    forwarder.signal("HUP");
    forwarder.line(&["INFO", "SIGHUP: settings read again, changed: ", "hec.endpoints", "hec.index"]);
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    forwarder.stop();
    assert_eq!(forwarder.complaints(), [""; 0]);
    assert_eq!(rig.group().unwrap().consumers.into_keys().collect::<Vec<_>>(), consumers);
    rig.assert_commits();

    let sent = Sent::even(SHARDS, rig.sent);
    let (first, second) = (rig.hec.verdict(Some(&sent)), there.verdict(Some(&sent)));
    let stored = (first.stored_unique, second.stored_unique);
    assert!(stored.0 > 500 && stored.1 > 500, "{stored:?}");
    assert_eq!(stored.0 + stored.1, rig.total(), "{first:?} {second:?}");
    for verdict in [first, second] {
        assert_eq!((verdict.duplicates, verdict.out_of_order, verdict.mismatched), (0, 0, 0), "{verdict:?}");
    }
}

#[test]
fn settings_that_nothing_can_start_with_change_nothing() {
    let mut rig = Rig::new();
    rig.fill(200);
    let mut forwarder = rig.forwarder().start();
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());

    // Known before anything stops.
    change(&rig, "batch_age = \"50ms\"", "batch_age = \"40ms\"\nca_file = \"/nowhere.pem\"");
    let text = fs::read_to_string(rig.path("sls2siem.toml")).unwrap();
    let once = text.replacen(&format!("ca_file = {:?}\n", rig.path("hec.pem").display().to_string()), "", 1);
    rig.write_private("sls2siem.toml", &once);
    forwarder.signal("HUP");
    forwarder.line(&["ERROR", "SIGHUP: the settings cannot be used", "/nowhere.pem", "nothing changed"]);
    rig.write_private("sls2siem.toml", &text.replace("\nca_file = \"/nowhere.pem\"", ""));
    change(&rig, "[runtime]", "[runtime]\ncores = \"900-901\"");
    forwarder.signal("HUP");
    forwarder.line(&["ERROR", "SIGHUP: the settings cannot be used", "900", "nothing changed"]);
    assert_eq!(forwarder.lines_with("admin page").len(), 1, "{}", forwarder.text());

    // Known only when it is tried.
    change(&rig, "\ncores = \"900-901\"", "");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("listen = \"{}\"", taken.local_addr().unwrap());
    change(&rig, "listen = \"127.0.0.1:0\"", &listen);
    forwarder.signal("HUP");
    forwarder.line(&[
        "ERROR",
        "the new settings cannot be used",
        "cannot listen on",
        "goes on with the old ones",
    ]);
    rig.fill(200);
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());

    // The same settings, now that they can be used.
    drop(taken);
    forwarder.signal("HUP");
    forwarder.line(&["admin page", listen.trim_start_matches("listen = \"").trim_end_matches('"')]);
    rig.fill(200);
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    forwarder.stop();
    rig.assert_exact();
    rig.assert_commits();
}

#[test]
fn many_generations_leave_nothing_behind() {
    let mut rig = Rig::new();
    rig.fill(100);
    let mut forwarder = rig.forwarder().start();
    let mut before = (0, 0);
    for generation in 0..8 {
        rig.fill(100);
        forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
        let pid = forwarder.pid();
        let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
        if generation < 3 {
            before = (before.0.max(count("task")), before.1.max(count("fd")));
        } else {
            // Connections of the control plane come and go; what was left behind would stay.
            forwarder.wait_until("as much as before", PATIENCE, || {
                count("task") <= before.0 && count("fd") <= before.1
            });
        }
        let (from, to) = (format!("batch_age = \"{}ms\"", 50 + generation), 51 + generation);
        change(&rig, &from, &format!("batch_age = \"{to}ms\""));
        forwarder.signal("HUP");
        forwarder.line(&["SIGHUP: settings read again, changed: hec.batch_age"]);
        let end = std::time::Instant::now() + PATIENCE;
        while forwarder.lines_with("admin page").len() < generation + 2 {
            assert!(std::time::Instant::now() < end, "{}", forwarder.text());
            std::thread::sleep(crate::forwarder::LOOK);
        }
    }
    forwarder.stop();
    rig.assert_exact();
    rig.assert_commits();
}

#[test]
fn an_end_that_comes_with_new_settings_is_an_end() {
    let mut rig = Rig::new();
    rig.fill(2_000);
    let mut forwarder = rig.forwarder().start();
    forwarder.wait_until("logs flow", PATIENCE, || rig.verdict().stored_unique > 100);
    change(&rig, "batch_age = \"50ms\"", "batch_age = \"60ms\"");
    forwarder.signal("HUP");
    forwarder.line(&["SIGHUP: settings read again, changed: hec.batch_age"]);
    forwarder.stop();
    let mut forwarder = rig.forwarder().start();
    forwarder.line(&["admin page"]);
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    forwarder.stop();
    rig.assert_exact();
}
