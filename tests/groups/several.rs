//! Several logstores in one process.

use std::fs;

use loadgen::fault::FaultPlan;
use loadgen::payload::{Payload, Profile};
use loadgen::sink::hec::{HecConfig, HecServer, Mode, Token};
use loadgen::sink::tls::TlsSettings;
use loadgen::sls::Fill;

use crate::rig::{GROUP, KEY_ID, KEY_SECRET, PATIENCE, PROJECT, Rig, TOKEN};

/// Logs of each shard of the good logstore.
const RECORDS: u64 = 2_000;

/// Two logstores; the second is the rig's usual one.
fn rig() -> Rig {
    let mut rig = Rig::with(
        |sls| {
            sls.stores.push((PROJECT.to_owned(), "other-logstore".to_owned()));
            sls.pull_bytes_max = 64 << 10;
        },
        |_| (),
    );
    rig.fill(RECORDS);
    rig
}

/// Both logstores as the vendor's sample names them, into the rig's sink.
fn environment(rig: &Rig, logstores: &str) -> crate::forwarder::Start {
    crate::forwarder::Start::bare()
        .env("SLS_ENDPOINTS", rig.sls.endpoint())
        .env("SLS_PROJECTS", PROJECT)
        .env("SLS_LOGSTORES", logstores)
        .env("SLS_CG", GROUP)
        .env("SLS_AK_ID", KEY_ID)
        .env("SLS_AK_KEY", KEY_SECRET)
        .env("HEC_URL", rig.hec.url())
        .env("HEC_TOKEN", TOKEN)
        .set("sls.ca_file", rig.path("ca.pem").display())
        .set("hec.ca_file", rig.path("hec.pem").display())
        .set("sls.heartbeat_interval", "500ms")
        .set("sls.timeout", "8s")
        .set("sls.fetch_interval", "50ms")
        .set("sls.checkpoint_interval", "200ms")
        .set("admin.listen", "127.0.0.1:0")
        .set("runtime.memory", "32MiB")
}

#[test]
fn a_logstore_that_is_not_there_does_not_disturb_the_other() {
    let rig = rig();
    let start = || environment(&rig, "test-logstore,no-such-logstore");
    let mut member = start().start();
    member.line(&[
        " WARN ",
        "pipeline test-project-no-such-logstore",
        "there is no logstore no-such-logstore",
    ]);
    member.wait_until("the other is delivered", rig.patience(), || rig.is_drained());
    member.stop();
    rig.assert_exact();
    let mut fast = start().fail_fast().start();
    assert_eq!(fast.ended(PATIENCE).code(), Some(77), "{}", fast.text());
}

#[test]
fn a_logstore_that_is_deleted_later_does_not_disturb_the_other() {
    let mut rig = rig();
    let mut member = environment(&rig, "other-logstore,test-logstore").start();
    member.wait_until("the first logs are delivered", rig.patience(), || rig.is_drained());
    member.line(&["pipeline test-project-other-logstore: shard 0 begins"]);
    let other = rig.sls.store_of(PROJECT, "other-logstore");
    assert!(other.delete_group(GROUP).unwrap());
    member.line(&[" WARN ", "pipeline test-project-other-logstore: consumer group", "was deleted"]);
    rig.fill(RECORDS);
    member.wait_until("the other goes on", rig.patience(), || rig.is_drained());
    member.stop();
    rig.assert_exact();
}

/// The sink of one pipeline takes everything and answers nothing: it fills all the memory that it can get, and keeps it.
#[test]
fn a_flood_into_a_sink_that_stands_still_does_not_starve_the_other() {
    let rig = rig();
    let still = HecServer::start(HecConfig {
        tls: Some(TlsSettings::default()),
        faults: FaultPlan::parse("event.hang").unwrap(),
        ..HecConfig::new(Mode::Fast, Token::new(TOKEN))
    })
    .unwrap();
    fs::write(rig.path("still.pem"), still.ca_pem().unwrap()).unwrap();
    let flood = Payload::new(Profile::Mixed, 3).with_logs_per_group(200);
    rig.sls.store_of(PROJECT, "other-logstore").fill_all(Fill::new(flood, 20_000)).unwrap();
    let mut member = environment(&rig, "other-logstore,test-logstore")
        .set("pipeline.test-project-other-logstore.hec.endpoints", format!("[\"{}\"]", still.url()))
        .set("pipeline.test-project-other-logstore.hec.ca_file", rig.path("still.pem").display())
        .set("hec.batch_bytes", "256KiB")
        .set("runtime.cores", "1")
        .set("runtime.memory", "16MiB")
        .start();
    member.wait_until("the other is delivered", rig.patience(), || rig.is_drained());
    member.wait_metrics("the flood has filled its part", |metrics| metrics.sum("inflight_bytes") > 2 << 20);
    assert!(member.is_running());
    rig.assert_exact();
    member.kill();
}
