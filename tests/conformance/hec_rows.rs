//! Rows of the HEC test matrix and defects of other senders, each with the test that shows it.
//!
//! `conformance` is this binary (the real program against the strict sink), `hec::` the tests of `proto::sink::hec`
//! (answers by hand, virtual time), `sim` the seeded simulation, `ack::` the table of ids.
//!
//! | row | shown by |
//! | --- | --- |
//! | token ok / disabled / unknown / missing | conformance `a_wrong_token`, `a_disabled_token`, `exact` |
//! | ack on / off | `checkpoints_follow_the_indexer`, `hec::row_ack_off_on_a_poll_degrades…` |
//! | ids from 0 per channel, true once | `ack::only_true_confirms…`, sim |
//! | delayed ack 120 s | `hec::row_delayed_ack_120_s_holds_no_memory_and_no_id_starves` |
//! | idle clean-up, codes 10 / 11 / 28 | `hec::row_idle_clean_up_and_codes_10_11_28_use_a_new_channel` |
//! | restart (ids reset) | `a_restart_and_a_crash_of_the_indexer_lose_nothing`, `ack::an_id_that_goes_back…`, sim |
//! | load balancer with a cookie | `row_lb_with_cookie`, `hec::row_lb_with_cookie_is_sent_back…` |
//! | 503 code 9, 429 code 26 / 27 | `refusals_and_spoilt_bodies…`, `hec::row_429_and_warnings…` |
//! | 200 code 24 / 25 | `hec::row_429_and_warnings_slow_down…` |
//! | 404 / 503 / 23 during a restart | `hec::row_404_503_and_23…`, `row_two_indexers_restart_in_turn` |
//! | 400 code 6 at K with a prefix and its id | `hec::defect_vector_sc4s_kafka_connect_one_bad_event…`, `row_code_6_puts_the_event_aside…` |
//! | code 7, one too high; wrong index | `hec::row_code_7…`, `row_code_7_names_the_index_and_waits_for_it` |
//! | unknown key: 200 with truncated indexing | every test here: the sink counts unknown keys as oddities |
//! | oversize 400 code 6 #0, 413 | `hec::row_oversize_and_413_halve_and_the_cap_is_learned` |
//! | close after 12 s idle | `hec::row_close_after_idle_and_a_stale_connection_is_no_trouble` |
//! | RST mid-response, HTML 415 / 502 bodies | `lost_answers_cost_duplicates_that_are_counted`, sim |
//! | TLS 1.2 only, default certificate, mTLS | `row_tls_1_2_only`, `a_certificate_for_another_name`, `row_default_cert_by_fingerprint`, `row_mtls` |
//! | slow reader | `a_sink_that_sleeps_stops_the_pulls_and_nothing_else` |
//! | HTTP/1.0 without User-Agent | `hec::every_request_names_us_and_expects_nothing`; the sink counts it as an oddity |
//!
//! | defect of | shown by |
//! | --- | --- |
//! | Vector: a poll answered with 4xx or garbage confirms | `hec::defect_vector_a_poll_answered…` |
//! | Vector: ids of all channels in one table, no cookies | `ack::only_true_confirms…`, `hec::row_lb_with_cookie…` |
//! | Vector: expired acks are dropped | `hec::defect_vector_an_expired_ack_is_pulled_again…`, sim |
//! | Vector, Fluent Bit, fluentd, SC4S: one bad event costs the batch | `hec::defect_vector_sc4s_kafka_connect_one_bad_event…` |
//! | Vector: certificates on disk are not read again | `a_certificate_that_is_renewed…`, `a_token_that_is_rotated…` |
//! | kafka-connect: code 6 commits the tail | the same as for Vector's bad event |
//! | kafka-connect: a colliding id is not tracked | `hec::defect_kafka_connect_a_colliding_id…` |
//! | kafka-connect: all endpoints out ends the task | `hec::defect_kafka_connect_all_endpoints_out…` |
//! | OTel: gives up after a time and drops | sim: nothing is ever given up |
//! | logit: `ackID` for `ackId` | `hec::defect_logit_a_receipt_without_the_right_key…` |
//! | the vendor's sample: a batch is lost after one 503 | `refusals_and_spoilt_bodies_cost_neither…`, sim |

use std::time::Duration;

use loadgen::fault::FaultPlan;
use loadgen::sink::hec::{Balancer, HecConfig, HecServer, Mode, Token};
use loadgen::sink::tls::TlsSettings;

use crate::forwarder::Trouble;
use crate::replay::{dead_letter, text};
use crate::rig::{PATIENCE, Rig, TOKEN, records};

#[test]
fn row_code_6_puts_the_event_aside_and_replay_brings_it_in() {
    let mut rig = Rig::with(
        |_| (),
        |hec| hec.faults = FaultPlan::parse("event.refuse-at:0:6@2,event.refuse-at:0:15@2").unwrap(),
    );
    rig.fill(1_000);
    let dir = rig.path("dead");
    let start = || rig.forwarder().set("dead_letter.dir", dir.display()).set("hec.batch_bytes", "16KiB");
    let mut forwarder = start().start();
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    forwarder.wait_metrics("both are counted", |metrics| {
        metrics.sum("dead_letter_records_total") == 2 && metrics.sum("refused_records_total") == 2
    });
    assert_eq!(forwarder.metrics().sum("held_shards"), 0);
    forwarder.line(&["cannot parse an event", "code 6", "in the dead letter", "sls2siem dead-letter replay"]);
    assert_eq!((rig.verdict().lost, rig.verdict().duplicates), (2, 0), "the others are stored, none twice");

    let sets = [("dead_letter.dir", dir.display().to_string())];
    let listed = dead_letter(&rig, &sets, &["ls"]);
    assert_eq!(listed.status.code(), Some(0), "{}", text(&listed));
    for part in ["(in use)", "default: HEC code 6", "default: HEC code 15"] {
        assert!(text(&listed).contains(part), "{part}: {}", text(&listed));
    }
    let shown = dead_letter(&rig, &sets, &["show"]);
    let lines: Vec<serde_json::Value> =
        text(&shown).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    for line in &lines {
        assert!(
            line["event"].as_str().unwrap().starts_with("{\"time\":") && line["response"]["status"] == 400
        );
        assert!(line["cursor"].is_string() && line["index"].is_u64() && line["shard"].is_u64());
    }
    // Beside the running forwarder. The file stays where it is, because that still appends to it.
    let replayed = dead_letter(&rig, &sets, &["replay"]);
    assert_eq!((replayed.status.code(), text(&replayed).as_str()), (Some(0), "2 sent and taken, 0 left\n"));
    rig.assert_complete();
    forwarder.stop();
    let again = dead_letter(&rig, &sets, &["replay"]);
    assert_eq!(text(&again), "0 sent and taken, 0 left\n");
    assert!(text(&dead_letter(&rig, &sets, &["show"])).is_empty(), "all moved to replayed/");
    assert!(dir.join("replayed").is_dir());
    assert_eq!(rig.verdict().duplicates, 0, "nothing went twice");
}

#[test]
fn row_code_7_names_the_index_and_waits_for_it() {
    let only_main = || Token { indexes: vec!["main".to_owned()], ..Token::new(TOKEN) };
    let mut rig = Rig::with(
        |_| (),
        |hec| {
            hec.tokens = vec![only_main()];
            "forbidden".clone_into(&mut hec.payload.as_mut().unwrap().1.index);
        },
    );
    rig.fill(200);
    let mut forwarder = rig.forwarder().set("hec.index", "forbidden").start();
    forwarder.trouble(&Trouble {
        what: &["pipeline default: hec refuses the index \"forbidden\" for the token of [hec]"],
        cause: &["HTTP 400", "code 7", "log 0 of the pull at cursor "],
        safe: &["nothing skipped", "the checkpoint of the shard waits before it"],
        todo: &["[hec] token (token_file, HEC_TOKEN)", "[hec] index", "[dead_letter] dir"],
    });
    forwarder.wait_metrics("both shards are held", |metrics| metrics.sum("held_shards") == 2);
    assert_eq!(rig.verdict().stored_unique, 0);
    rig.hec.set_tokens(vec![Token { indexes: vec!["forbidden".to_owned()], ..only_main() }]);
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    forwarder.stop();
    rig.assert_exact();
}

#[test]
fn a_token_that_is_rotated_in_its_file_is_used_without_a_restart() {
    let mut rig = Rig::new();
    rig.fill(200);
    let file = rig.path("token");
    let wrong = "0bad0bad-1111-4222-8333-444455556666";
    rig.write_private("token", wrong);
    let mut forwarder =
        rig.forwarder().set("hec.token", "").set("hec.token_file", file.display()).secret(wrong).start();
    forwarder.line(&["refused the token", "code 4"]);
    rig.write_private("token", TOKEN);
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    forwarder.line(&["[hec]", "token: changed, read again and in use"]);
    forwarder.stop();
    rig.assert_exact();
}

#[test]
fn a_certificate_that_is_renewed_on_disk_is_used_without_a_restart() {
    let mut rig = Rig::new();
    rig.fill(200);
    let right = std::fs::read(rig.path("hec.pem")).unwrap();
    let other = Rig::new();
    std::fs::copy(other.path("hec.pem"), rig.path("hec.pem")).unwrap();
    let mut forwarder = rig.forwarder().start();
    forwarder.line(&["a certificate that is not trusted"]);
    // First something that cannot be used: the old one stays, and it is said.
    std::fs::write(rig.path("hec.pem"), "nonsense").unwrap();
    forwarder.line(&["hec.pem: changed, but cannot be used", "stays in use"]);
    std::fs::write(rig.path("hec.pem"), right).unwrap();
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    forwarder.stop();
    rig.assert_exact();
}

fn exact_over(settings: TlsSettings, set: impl FnOnce(&Rig) -> Vec<(&'static str, String)>) {
    let mut rig = Rig::with(|_| (), |hec| hec.tls = Some(settings));
    rig.fill(200);
    let mut start = rig.forwarder();
    for (key, value) in set(&rig) {
        start = start.set(key, value);
    }
    let mut forwarder = start.start();
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    forwarder.stop();
    rig.assert_exact();
}

#[test]
fn row_tls_1_2_only() {
    exact_over(TlsSettings { only_12: true, ..TlsSettings::default() }, |_| Vec::new());
}

#[test]
fn row_mtls() {
    exact_over(TlsSettings { require_client: true, ..TlsSettings::default() }, |rig| {
        let (certificate, key) = rig.hec.client_pem().unwrap();
        rig.write_private("client.pem", certificate);
        rig.write_private("client.key", key);
        let path = |name: &str| rig.path(name).display().to_string();
        vec![("hec.client_cert", path("client.pem")), ("hec.client_key", path("client.key"))]
    });
}

#[test]
fn row_default_cert_by_fingerprint() {
    exact_over(TlsSettings { splunk_default: true, ..TlsSettings::default() }, |rig| {
        // The message about the certificate says its fingerprint; that is what an operator copies.
        let mut refused = rig.forwarder().set("hec.ca_file", "").start();
        let line = refused.line(&["a certificate that is not trusted", "SHA-256 "]);
        refused.kill();
        let digest: String = line
            .split("SHA-256 ")
            .nth(1)
            .unwrap()
            .chars()
            .take_while(|c| c.is_ascii_hexdigit() || *c == ':')
            .collect();
        vec![("hec.ca_file", String::new()), ("hec.verify", format!("fingerprint:{digest}"))]
    });
}

#[test]
fn gzip_bodies_are_what_they_were() {
    let mut rig = Rig::new();
    rig.fill(1_000);
    let mut forwarder = rig.forwarder().set("hec.compression", "gzip").start();
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    let total = rig.total();
    forwarder.wait_metrics("all is counted", |metrics| metrics.sum("acked_records_total") == total);
    let metrics = forwarder.metrics();
    let (sent, raw) = (metrics.sum("sent_bytes_total"), metrics.sum("pulled_raw_bytes_total"));
    forwarder.stop();
    rig.assert_exact();
    // The events are longer than the logs that they carry.
    assert!(sent < raw / 2, "compressed on the wire: {sent} of {raw}");
}

fn with_acks(hec: &mut HecConfig) {
    hec.tokens = vec![Token::new(TOKEN).with_ack()];
    hec.ack_delay = "100ms..900ms".parse().unwrap();
}

#[test]
fn row_lb_with_cookie() {
    let mut rig = Rig::with(
        |sls| sls.pull_bytes_max = 64 << 10,
        |hec| {
            with_acks(hec);
            hec.balancer = Balancer::Sticky;
        },
    );
    rig.fill_over(records(), Some(Duration::from_secs(5)));
    let mut forwarder = rig.forwarder().set("hec.batch_bytes", "16KiB").set("hec.ack_timeout", "20s").start();
    let waiting = |rig: &Rig, share: u64| rig.hec.stats()["unique"].as_u64() > Some(rig.total() * share / 10);
    forwarder.wait_until("a part is stored", rig.patience(), || waiting(&rig, 2));
    assert_eq!(rig.verdict().duplicates, 0, "polls find the indexer that gave the id: {:#}", rig.hec.stats());
    rig.hec.restart_instance(0, Duration::from_millis(700));
    forwarder.wait_until("more is stored", rig.patience(), || waiting(&rig, 5));
    rig.hec.restart_instance(1, Duration::from_millis(700));
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || {
        rig.assert_checkpoints_are_stored();
        rig.is_drained()
    });
    let duplicates = rig.verdict().duplicates;
    forwarder.wait_metrics("the duplicates are covered", |metrics| {
        metrics.sum("duplicates_possible_records_total") >= duplicates
    });
    forwarder.stop();
    rig.assert_complete();
    rig.assert_commits();
}

/// A second indexer that stores where the first one does.
pub(crate) fn second(rig: &Rig, change: impl FnOnce(&mut HecConfig)) -> HecServer {
    let mut config = HecConfig {
        tls: Some(TlsSettings::default()),
        max_event_bytes: 16 << 20,
        store: Some(rig.hec.store()),
        ..HecConfig::new(Mode::Strict, Token::new(TOKEN))
    };
    change(&mut config);
    let server = HecServer::start(config).unwrap();
    let both = format!("{}{}", rig.hec.ca_pem().unwrap(), server.ca_pem().unwrap());
    std::fs::write(rig.path("hec.pem"), both).unwrap();
    server
}

#[test]
fn row_two_indexers_restart_in_turn() {
    let mut rig = Rig::with(|sls| sls.pull_bytes_max = 64 << 10, with_acks);
    let other = second(&rig, with_acks);
    rig.fill_over(records(), Some(Duration::from_secs(6)));
    let endpoints = format!("[\"{}\", \"{}\"]", rig.hec.url(), other.url());
    let mut forwarder = rig
        .forwarder()
        .set("hec.endpoints", endpoints)
        .set("hec.batch_bytes", "16KiB")
        .set("hec.ack_timeout", "20s")
        .start();
    for (share, server) in [(1, &rig.hec), (4, &other), (7, &rig.hec)] {
        forwarder.wait_until("more is stored", rig.patience(), || {
            rig.assert_checkpoints_are_stored();
            rig.hec.stats()["unique"].as_u64() > Some(rig.total() * share / 10)
        });
        // As a rolling restart does: it says so, then it is gone for a while, then it is back.
        server.set_health(23);
        server.restart(Duration::from_millis(600));
        server.set_health(17);
    }
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || {
        rig.assert_checkpoints_are_stored();
        rig.is_drained()
    });
    let duplicates = rig.verdict().duplicates;
    forwarder.wait_metrics("the duplicates are covered", |metrics| {
        metrics.sum("duplicates_possible_records_total") >= duplicates
    });
    forwarder.stop();
    rig.assert_complete();
    rig.assert_commits();
    assert!(other.stats()["requests"].as_u64() > Some(0), "both worked");
}

/// How long everything goes wrong at once: `SOAK_SECONDS=300 cargo test --test conformance soak`.
fn soak_time() -> Duration {
    let seconds = std::env::var("SOAK_SECONDS").map_or(20, |text| text.parse().expect("a number"));
    Duration::from_secs(seconds)
}

#[test]
fn soak_everything_at_once_loses_nothing_and_counts_what_may_be_twice() {
    let faults = "seed=11,event.503:9=3%,event.429:26=1%,event.404=0.5%,event.reset=1%,event.reset-after=1%,\
                  event.tear=1%,event.never-ack=0.5%,event.busy-at:3=1%,event.html:502=0.5%,event.close=1%,\
                  ack.tear=3%,ack.html:502=2%,ack.500=2%,ack.reset-after=2%,health.503=20%";
    let soak = |hec: &mut HecConfig| {
        hec.tokens = vec![Token::new(TOKEN).with_ack()];
        hec.ack_delay = "200ms..2s,2%:8s".parse().unwrap();
        hec.faults = FaultPlan::parse(faults).unwrap();
    };
    let mut rig = Rig::with(|sls| sls.pull_bytes_max = 64 << 10, soak);
    let other = second(&rig, soak);
    let time = soak_time();
    let records = 50 * (time.as_secs() * 4).max(40);
    rig.fill_over(records, Some(time));
    let endpoints = format!("[\"{}\", \"{}\"]", rig.hec.url(), other.url());
    let mut forwarder = rig
        .forwarder()
        .set("hec.endpoints", endpoints)
        .set("hec.batch_bytes", "16KiB")
        .set("hec.ack_timeout", "15s")
        .start();
    for (part, server) in [(1, &rig.hec), (2, &other), (3, &rig.hec), (4, &other), (5, &rig.hec)] {
        forwarder.wait_until("the next restart", time + PATIENCE * 3, || {
            rig.assert_checkpoints_are_stored();
            rig.hec.stats()["unique"].as_u64() > Some(rig.total() * part / 7)
        });
        match part {
            2 | 5 => server.crash(Duration::from_millis(800)),
            _ => server.restart(Duration::from_millis(800)),
        }
    }
    forwarder.wait_until("checkpoints at the ends", time + PATIENCE * 10, || {
        rig.assert_checkpoints_are_stored();
        rig.is_drained()
    });
    let duplicates = rig.verdict().duplicates;
    forwarder.wait_metrics("the duplicates are covered", |metrics| {
        metrics.sum("duplicates_possible_records_total") >= duplicates
    });
    let possible = forwarder.metrics().sum("duplicates_possible_records_total");
    forwarder.stop();
    rig.assert_complete();
    rig.assert_commits();
    println!(
        "soak: {} s, {} logs stored, lost 0, {duplicates} stored twice, {possible} possible by the metric, refusals {} and {}",
        time.as_secs(),
        rig.total(),
        rig.hec.stats()["refusals"],
        other.stats()["refusals"],
    );
}

/// The file has changed once, and nobody could open it then: it must not take another change to be read.
#[test]
fn a_file_that_changes_while_there_are_no_descriptors_is_read_when_there_are() {
    let mut rig = Rig::new();
    let file = rig.path("hec-token");
    rig.write_private("hec-token", TOKEN);
    let mut forwarder = rig.forwarder().set("hec.token", "").set("hec.token_file", file.display()).start();
    rig.fill(200);
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    let pid = forwarder.pid().to_string();
    let limit = |soft: &str| {
        let status = std::process::Command::new("prlimit")
            .args(["--pid", &pid, &format!("--nofile={soft}:")])
            .status();
        assert!(status.unwrap().success());
    };
    // What is open stays open.
    limit("3");
    rig.write_private("hec-token", &format!("{TOKEN}\n"));
    let told = [
        "[hec]",
        "hec-token: changed, but cannot be used",
        "os error 24",
        "nothing is wrong with",
        "tried again",
    ];
    forwarder.line(&told);
    std::thread::sleep(Duration::from_secs(5));
    limit("1024");
    forwarder.line(&["[hec]", "hec-token: changed, read again and in use"]);
    assert_eq!(forwarder.lines_with("changed, but cannot be used").len(), 1, "{}", forwarder.text());
    forwarder.stop();
}
