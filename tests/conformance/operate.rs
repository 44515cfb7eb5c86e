//! Operating a running process: log level, settings read again, a supervisor, the status page.

use std::fs;
use std::iter;
use std::os::unix::net::UnixDatagram;

use loadgen::fault::FaultPlan;
use loadgen::sink::hec::Token;
use loadgen::sls::AccessKey;

use crate::rig::{KEY_ID, KEY_SECRET, PATIENCE, Rig, TOKEN};

const OTHER_TOKEN: &str = "0the0the-1111-4222-8333-444455556666";

#[test]
fn the_log_level_is_raised_by_a_signal_and_goes_round() {
    let mut rig = Rig::new();
    rig.fill(100);
    let mut forwarder = rig.forwarder().start();
    forwarder.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());
    assert_eq!(forwarder.lines_with("DEBUG"), [""; 0]);
    forwarder.signal("USR1");
    forwarder.line(&["INFO", "log level: debug"]);
    rig.fill(100);
    forwarder.line(&["DEBUG", "pipeline default: shard", "saved"]);
    forwarder.signal("USR1");
    forwarder.line(&["INFO", "log level: trace"]);
    forwarder.signal("USR1");
    forwarder.line(&["INFO", "log level: info"]);
    forwarder.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());
    forwarder.stop();
    rig.assert_exact();
}

#[test]
fn a_new_token_and_new_keys_are_taken_over_at_once() {
    let mut rig = Rig::new();
    rig.fill(100);
    let mut forwarder = rig.forwarder().secret(OTHER_TOKEN).start();
    forwarder.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());

    // Both ends are given new secrets: nothing goes any more.
    rig.hec.set_tokens(vec![Token::new(OTHER_TOKEN)]);
    rig.sls.set_key(AccessKey::new(KEY_ID, "s3cret-number-two"));
    let file = rig.path("sls2siem.toml");
    let change = |from: &str, to: &str| {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{from}: {text}");
        fs::write(&file, text.replace(from, to)).unwrap();
    };

    // A broken file changes nothing.
    change("batch_age = \"50ms\"", "batch_age = \"soon\"");
    forwarder.signal("HUP");
    let line = forwarder.line(&["ERROR", "SIGHUP: the settings cannot be used", "hec.batch_age"]);
    assert!(line.contains("soon"), "{line}");
    assert!(forwarder.is_running());

    change("batch_age = \"soon\"", "batch_age = \"50ms\"");
    change(TOKEN, OTHER_TOKEN);
    change("[admin]", "[log]\nlevel = \"debug\"\nformat = \"json\"\n\n[admin]");
    fs::write(rig.path("secret"), "s3cret-number-two").unwrap();
    forwarder.signal("HUP");
    let line = forwarder.line(&["INFO", "SIGHUP: settings read again, taken over: "]);
    for key in ["log.level", "hec.token", "sls.access_key_secret"] {
        assert!(line.contains(key), "{key}: {line}");
    }
    forwarder.line(&["WARN", "not taken over: log.format", "restart to use the new ones"]);
    rig.fill(100);
    forwarder.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());
    forwarder.line(&["DEBUG"]);

    forwarder.stop();
    assert_eq!(forwarder.lines_with("settings read again, taken over").len(), 1);
    assert_eq!(forwarder.lines_with("admin page").len(), 1, "nothing was started again");
    rig.assert_exact();
    assert_ne!(KEY_SECRET, "s3cret-number-two");
}

#[test]
fn a_supervisor_hears_ready_alive_and_stopping() {
    let mut rig = Rig::new();
    rig.fill(100);
    let socket = UnixDatagram::bind(rig.path("notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut forwarder =
        rig.forwarder().env("NOTIFY_SOCKET", rig.path("notify")).env("WATCHDOG_USEC", "400000").start();
    let heard = || {
        let mut buffer = [0; 512];
        let bytes = socket.recv(&mut buffer).expect("a message in time");
        String::from_utf8_lossy(&buffer[..bytes]).into_owned()
    };
    assert!(heard().starts_with("READY=1\nSTATUS=forwarding test-project/test-logstore"));
    for _ in 0..3 {
        assert_eq!(heard(), "WATCHDOG=1");
    }
    let settings = fs::read_to_string(rig.path("sls2siem.toml")).unwrap();
    rig.write_private("sls2siem.toml", &settings.replace("batch_age = \"50ms\"", "batch_age = \"60ms\""));
    forwarder.signal("HUP");
    let other = || iter::repeat_with(heard).find(|heard| heard != "WATCHDOG=1").unwrap();
    assert!(other().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert!(other().starts_with("READY=1\nSTATUS=forwarding test-project/test-logstore"));
    forwarder.stop();
    let mut last = heard();
    while last == "WATCHDOG=1" {
        last = heard();
    }
    assert!(last.starts_with("STOPPING=1"), "{last}");
}

#[test]
fn the_status_page_tells_what_happens_in_the_words_of_the_log() {
    let mut rig = Rig::with(|_| (), |hec| hec.faults = FaultPlan::parse("event.503:9").unwrap());
    rig.fill(100);
    let mut forwarder = rig.forwarder().start();
    forwarder.wait_answer("/", "why nothing flows", |status, page| {
        status == 200
            && ["<b>Not ready:</b>", "is busy: its queues are full", "<b>warning</b>", "<b>held</b>"]
                .iter()
                .all(|part| page.contains(part))
    });
    rig.hec.set_faults(FaultPlan::none()).unwrap();
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    forwarder.wait_answer("/", "that it works", |_, page| {
        page.contains("<b>Ready:</b>")
            && page.contains("<dt>logs acknowledged<dd>200")
            && page.contains("<polyline")
    });
    let (_, page) = forwarder.ask("/");
    for part in ["test-project/test-logstore → hec", "token = &quot;***&quot;", "<h2>Cores</h2>", "at most "]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
    for secret in [TOKEN, KEY_SECRET] {
        assert!(!page.contains(secret), "{page}");
    }
    forwarder.stop();
    rig.assert_exact();
}

#[test]
fn a_sink_that_flaps_does_not_flood_the_log() {
    let mut rig = Rig::with(|_| (), |hec| hec.faults = FaultPlan::parse("event.503:9=50%,seed=3").unwrap());
    rig.fill(500);
    let mut forwarder = rig.forwarder().set("hec.batch_bytes", "16KiB").start();
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    let retries = forwarder.metrics().sum("retries_total");
    let lines = forwarder.complaints();
    forwarder.stop();
    // A frame that is refused goes again on another connection: nothing twice, but not always in order.
    rig.assert_complete();
    assert!(retries >= 8, "only {retries} retries: the test is too short");
    // One when it begins, one for what stays, one a minute.
    assert!(lines.len() <= 6, "{} lines for {retries} retries: {lines:#?}", lines.len());
}
