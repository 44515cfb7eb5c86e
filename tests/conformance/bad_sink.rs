//! The sink says no, or is not a sink: four parts in the message, no panic, and it waits for the repair.

use loadgen::fault::FaultPlan;
use loadgen::sink::hec::{HecConfig, Token};
use loadgen::sink::tls::TlsSettings;

use crate::forwarder::{Start, Trouble};
use crate::rig::{PATIENCE, Rig, TOKEN, closed_port};

const NOTHING_LOST: &[&str] = &["nothing lost", "the checkpoint waits"];

fn rig(hec: impl FnOnce(&mut HecConfig)) -> Rig {
    let mut rig = Rig::with(|_| (), hec);
    rig.fill(200);
    rig
}

/// Says it, holds the checkpoints, and keeps its lease.
fn says(rig: &Rig, start: Start, trouble: &Trouble<'_>) -> crate::forwarder::Forwarder {
    let mut forwarder = start.set("log.level", "trace").start();
    forwarder.trouble(trouble);
    let heartbeats = rig.sls.stats().heartbeats;
    forwarder.wait_until("heartbeats go on", PATIENCE, || rig.sls.stats().heartbeats > heartbeats + 2);
    assert_eq!(forwarder.ask("/healthz").0, 200, "a restart would not help");
    forwarder.wait_answer("/readyz", "503 with the endpoint", |status, reasons| {
        status == 503 && reasons.contains("hec http")
    });
    rig.assert_checkpoints_are_stored();
    assert_eq!(rig.verdict().stored_unique, 0);
    forwarder
}

/// The same, and goes on by itself once it is repaired.
fn waits_for_repair(rig: &Rig, start: Start, trouble: &Trouble<'_>, repair: impl FnOnce()) {
    let mut forwarder = says(rig, start, trouble);
    repair();
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    forwarder.line(&["hec https://127.0.0.1", "works again after"]);
    forwarder.stop();
    rig.assert_exact();
}

/// With `--fail-fast` it ends with this code.
fn fails_fast(start: Start, code: i32, trouble: &Trouble<'_>) {
    let mut forwarder = start.fail_fast().start();
    let status = forwarder.ended(PATIENCE);
    assert_eq!(status.code(), Some(code), "{}", forwarder.text());
    let Trouble { what, cause, safe, todo } = *trouble;
    forwarder.line(&[what, &[" ("], cause, &[") - "], safe, &[" - "], todo].concat());
}

#[test]
fn a_wrong_token() {
    let wrong_token = "0bad0bad-1111-4222-8333-444455556666";
    let rig = rig(|_| ());
    let trouble = Trouble {
        what: &["pipeline ", "hec https://127.0.0.1:", "refused the token"],
        cause: &["HTTP 403", "code 4", "Invalid token"],
        safe: NOTHING_LOST,
        todo: &["[hec] token_file", "HEC_TOKEN"],
    };
    let wrong = || rig.forwarder().set("hec.token", wrong_token).secret(wrong_token);
    fails_fast(wrong(), 77, &trouble);
    waits_for_repair(&rig, wrong(), &trouble, || rig.hec.set_tokens(vec![Token::new(wrong_token)]));
}

#[test]
fn a_disabled_token() {
    let token = || Token { disabled: true, ..Token::new(TOKEN) };
    let rig = rig(|hec| hec.tokens = vec![token()]);
    let trouble = Trouble {
        what: &["hec https://127.0.0.1:", "the token is disabled"],
        cause: &["HTTP 403", "code 1", "Token disabled"],
        safe: NOTHING_LOST,
        todo: &["enable the token in Splunk"],
    };
    waits_for_repair(&rig, rig.forwarder(), &trouble, || rig.hec.set_tokens(vec![Token::new(TOKEN)]));
}

#[test]
fn nobody_listens() {
    let rig = rig(|_| ());
    let closed = format!("https://127.0.0.1:{}", closed_port());
    let trouble = Trouble {
        what: &["hec https://127.0.0.1:", "refuses connections"],
        cause: &["refused"],
        safe: NOTHING_LOST,
        todo: &["check host and port in [hec]", "goes on by itself"],
    };
    let wrong = || rig.forwarder().set("hec.endpoints", format!("[\"{closed}\"]"));
    fails_fast(wrong(), 69, &trouble);
    says(&rig, wrong(), &trouble);
}

#[test]
fn a_certificate_that_is_not_trusted() {
    let rig = rig(|_| ());
    let trouble = Trouble {
        what: &["hec https://127.0.0.1:", "a certificate that is not trusted"],
        cause: &["UnknownIssuer"],
        safe: NOTHING_LOST,
        todo: &["[hec] ca_file", "fingerprint:SHA256"],
    };
    let wrong = || rig.forwarder().set("hec.ca_file", "");
    fails_fast(wrong(), 69, &trouble);
    says(&rig, wrong(), &trouble);
}

#[test]
fn a_certificate_for_another_name() {
    // As splunkd brings it: signed, without a name.
    let mut rig = Rig::with(
        |_| (),
        |hec| hec.tls = Some(TlsSettings { splunk_default: true, ..TlsSettings::default() }),
    );
    rig.fill(200);
    let trouble = Trouble {
        what: &["hec https://127.0.0.1:", "a certificate for another name"],
        cause: &["not valid for name", "127.0.0.1"],
        safe: NOTHING_LOST,
        todo: &["[hec] server_name", "verify = \"ca\""],
    };
    says(&rig, rig.forwarder(), &trouble).kill();
    // What the message advises helps.
    let mut forwarder = rig.forwarder().set("hec.verify", "ca").start();
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    forwarder.stop();
    rig.assert_exact();
}

#[test]
fn tls_to_a_port_without_it() {
    let rig = rig(|hec| hec.tls = None);
    let url = rig.hec.url().replace("http://", "https://");
    let trouble = Trouble {
        what: &["hec https://127.0.0.1:", "does not speak TLS on this port"],
        cause: &[""],
        safe: NOTHING_LOST,
        todo: &["check scheme and port in [hec]", "http://"],
    };
    let start = rig.forwarder().set("hec.ca_file", "").set("hec.endpoints", format!("[\"{url}\"]"));
    says(&rig, start, &trouble);
}

#[test]
fn plain_http_to_a_port_with_tls() {
    let rig = rig(|_| ());
    let url = rig.hec.url().replace("https://", "http://");
    let trouble = Trouble {
        what: &["hec http://127.0.0.1:", "does not speak HTTP/1.1"],
        cause: &["speaks TLS"],
        safe: NOTHING_LOST,
        todo: &["scheme and port in [hec]"],
    };
    let start = rig.forwarder().set("hec.ca_file", "").set("hec.endpoints", format!("[\"{url}\"]"));
    says(&rig, start, &trouble);
}

#[test]
fn the_port_of_splunk_web() {
    let rig = rig(|hec| hec.faults = FaultPlan::parse("*.redirect").unwrap());
    let trouble = Trouble {
        what: &["hec https://127.0.0.1:", "redirects: this is Splunk Web, not HEC"],
        cause: &["HTTP 303", "Location "],
        safe: NOTHING_LOST,
        todo: &["[hec] endpoints", "8088"],
    };
    waits_for_repair(&rig, rig.forwarder(), &trouble, || rig.hec.set_faults(FaultPlan::none()).unwrap());
}
