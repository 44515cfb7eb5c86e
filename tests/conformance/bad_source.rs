//! SLS says no, in every way that an operator meets: four parts in the message, no panic, and it waits for the repair.

use std::time::Duration;

use loadgen::sls::SlsConfig;

use crate::forwarder::{Start, Trouble};
use crate::rig::{GROUP, KEY_ID, PATIENCE, Rig, closed_port, key};

const NOTHING_LOST: &[&str] = &["nothing lost: SLS keeps the logs"];
const WRONG_SECRET: &str = "s3cret-that-is-wrong";

fn rig() -> Rig {
    rig_with(|_| ())
}

fn rig_with(sls: impl FnOnce(&mut SlsConfig)) -> Rig {
    let mut rig = Rig::with(sls, |_| ());
    rig.fill(200);
    rig
}

/// With `--fail-fast` it says the same and ends with this code.
fn fails_fast(start: Start, code: i32, trouble: &Trouble<'_>) {
    let mut forwarder = start.fail_fast().start();
    let status = forwarder.ended(PATIENCE);
    assert_eq!(status.code(), Some(code), "{}", forwarder.text());
    let Trouble { what, cause, safe, todo } = *trouble;
    forwarder.line(&[&[" ERROR "], what, &[" ("], cause, &[") - "], safe, &[" - "], todo].concat());
}

/// Says it, waits, and goes on by itself once it is repaired.
fn waits_for_repair(rig: &Rig, start: Start, trouble: &Trouble<'_>, repair: impl FnOnce()) {
    let mut forwarder = start.set("log.level", "trace").start();
    let line = forwarder.trouble(trouble);
    let what = line.split(" WARN ").nth(1).unwrap().split(" (").next().unwrap();
    assert!(forwarder.is_running());
    assert_eq!(forwarder.ask("/healthz").0, 200, "a restart would not help");
    let what = what.trim_start_matches("pipeline default: ");
    forwarder.wait_answer("/readyz", &format!("503 with {what}"), |status, reasons| {
        status == 503 && reasons.contains(what)
    });
    assert_eq!(rig.hec.stats()["events"], 0);
    repair();
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    forwarder.line(&[what, "works again after"]);
    forwarder.stop();
    rig.assert_exact();
}

/// Says it and stays, until it is told to stop.
fn says(start: Start, trouble: &Trouble<'_>) {
    let mut forwarder = start.set("log.level", "trace").start();
    forwarder.trouble(trouble);
    assert!(forwarder.is_running());
    forwarder.stop();
}

#[test]
fn a_wrong_secret() {
    let rig = rig();
    let trouble = Trouble {
        what: &["test-project/test-logstore", KEY_ID, "the secret does not belong to it"],
        cause: &["HTTP 401", "SignatureNotMatch", "request id "],
        safe: NOTHING_LOST,
        todo: &["access_key_secret", "SLS_AK_KEY"],
    };
    let wrong = || {
        let start = rig.forwarder().set("sls.access_key_secret_file", "");
        start.set("sls.access_key_secret", WRONG_SECRET).secret(WRONG_SECRET)
    };
    fails_fast(wrong(), 77, &trouble);
    waits_for_repair(&rig, wrong(), &trouble, || {
        rig.sls.set_key(loadgen::sls::AccessKey::new(KEY_ID, WRONG_SECRET));
    });
}

#[test]
fn an_unknown_access_key() {
    let rig = rig();
    let trouble = Trouble {
        what: &["test-project/test-logstore", "SLS does not know access key LTAIunknown"],
        cause: &["HTTP 401", "Unauthorized", "request id "],
        safe: NOTHING_LOST,
        todo: &["access_key_id", "SLS_AK_ID"],
    };
    let wrong = || rig.forwarder().set("sls.access_key_id", "LTAIunknown");
    fails_fast(wrong(), 77, &trouble);
    says(wrong(), &trouble);
}

#[test]
fn an_unknown_project_or_logstore() {
    let rig = rig();
    let no_project = Trouble {
        what: &["no-such-project/test-logstore", "there is no project no-such-project at https://127.0.0.1"],
        cause: &["HTTP 404", "ProjectNotExist", "request id "],
        safe: &["nothing skipped", "no checkpoint moves"],
        todo: &["check [sls] project", "SLS_PROJECT"],
    };
    let wrong = || rig.forwarder().set("sls.project", "no-such-project");
    fails_fast(wrong(), 77, &no_project);
    says(wrong(), &no_project);
    let no_logstore = Trouble {
        what: &[
            "test-project/no-such-logstore",
            "there is no logstore no-such-logstore in project test-project",
        ],
        cause: &["HTTP 404", "LogStoreNotExist", "request id "],
        safe: &["nothing skipped", "no checkpoint moves"],
        todo: &["check [sls] logstore", "SLS_LOGSTORE"],
    };
    let wrong = || rig.forwarder().set("sls.logstore", "no-such-logstore");
    fails_fast(wrong(), 77, &no_logstore);
    says(wrong(), &no_logstore);
}

#[test]
fn no_room_for_one_more_consumer_group() {
    let rig = rig_with(|sls| sls.groups_max = 1);
    let mut other =
        rig.forwarder().set("sls.consumer_group", "somebody-else").set("sls.start", "end").start();
    other.wait_until("another group is there", PATIENCE, || {
        rig.sls.store().groups().unwrap().contains_key("somebody-else")
    });
    other.stop();
    let trouble = Trouble {
        what: &["test-project/test-logstore", "no room for one more consumer group"],
        cause: &["ConsumerGroupQuotaExceed", "request id "],
        safe: NOTHING_LOST,
        todo: &["30 groups per logstore", "delete unused ones", "SLS_CG", GROUP],
    };
    fails_fast(rig.forwarder(), 77, &trouble);
    waits_for_repair(&rig, rig.forwarder(), &trouble, || {
        assert!(rig.sls.store().delete_group("somebody-else").unwrap());
    });
}

#[test]
fn a_permission_that_ram_denies() {
    for action in ["log:ConsumerGroupHeartBeat", "log:GetCursorOrData"] {
        let rig = rig_with(|sls| sls.keys = vec![key().without(action)]);
        let denies = format!("RAM denies {action}");
        let allow = format!("allow {action} on acs:log:");
        let trouble = Trouble {
            what: &["test-project/test-logstore", KEY_ID, &denies],
            cause: &["Unauthorized", action, "request id "],
            safe: NOTHING_LOST,
            todo: &[&allow, "RAM policy"],
        };
        if action == "log:ConsumerGroupHeartBeat" {
            fails_fast(rig.forwarder(), 77, &trouble);
        }
        waits_for_repair(&rig, rig.forwarder(), &trouble, || rig.sls.set_key(key()));
    }
}

#[test]
fn a_clock_that_is_off() {
    let rig = rig_with(|sls| sls.clock_skew_ms = 20 * 60_000);
    let trouble = Trouble {
        what: &["SLS refuses the time of the request", "the clock of this machine is ", "s behind SLS"],
        cause: &["RequestTimeExpired", "request id "],
        safe: NOTHING_LOST,
        todo: &["set the clock of this machine"],
    };
    fails_fast(rig.forwarder(), 77, &trouble);
    waits_for_repair(&rig, rig.forwarder(), &trouble, || rig.sls.set_clock_skew_ms(0));
}

#[test]
fn an_endpoint_that_cannot_be_reached_or_trusted() {
    let rig = rig();
    let refused = Trouble {
        what: &["SLS at https://127.0.0.1:", "refuses connections"],
        cause: &["refused"],
        safe: NOTHING_LOST,
        todo: &["check host and port in [sls]", "goes on by itself"],
    };
    let wrong = || rig.forwarder().set("sls.endpoint", format!("https://127.0.0.1:{}", closed_port()));
    fails_fast(wrong(), 69, &refused);
    says(wrong(), &refused);
    let untrusted = Trouble {
        what: &["SLS at https://127.0.0.1:", "a certificate that is not trusted"],
        cause: &["UnknownIssuer"],
        safe: NOTHING_LOST,
        todo: &["[sls] ca_file"],
    };
    let wrong = || rig.forwarder().set("sls.ca_file", "");
    fails_fast(wrong(), 69, &untrusted);
    says(wrong(), &untrusted);
}

#[test]
fn a_body_that_stays_damaged_holds_its_shard_and_no_other() {
    for (damage, words) in [("pull/0.bits", "lz4"), ("pull/0.protobuf", "")] {
        let mut rig = Rig::with(|sls| sls.pull_bytes_max = 64 << 10, |_| ());
        rig.fill(1_000);
        // A part of shard 0 is sound.
        rig.sls.set_faults(&format!("{damage}@2..")).unwrap();
        let mut forwarder = rig.forwarder().set("log.level", "debug").start();
        let trouble = Trouble {
            what: &["test-project/test-logstore", "pull of shard 0", "damaged"],
            cause: &[words, "cursor ", "request id "],
            safe: &["nothing skipped", "shard is held", "pulled again"],
            todo: &["proxy", "compression = \"none\"", "support"],
        };
        forwarder.trouble(&trouble);
        let shards = rig.sls.store().shards().unwrap();
        let checkpoint = |shard| rig.group().and_then(|group| group.checkpoints.get(&shard).copied());
        forwarder.wait_until("the other shard goes on", PATIENCE, || checkpoint(1) == Some(shards[&1].total));
        forwarder.wait_metrics("it is held and counted", |metrics| {
            metrics.sum("held_shards") == 1 && metrics.sum("retries_total") > 2 && metrics.sum("alarms") > 0
        });
        let before = checkpoint(0);
        assert!(before < Some(shards[&0].total), "{before:?} of {}", shards[&0].total);
        rig.assert_checkpoints_are_stored();
        let tries = rig.sls.stats().calls["pull"];
        forwarder.wait_until("it is pulled again", PATIENCE, || rig.sls.stats().calls["pull"] > tries + 2);
        assert_eq!(checkpoint(0), before, "nothing is skipped");
        assert!(forwarder.lines_with("damaged").len() < 3, "not a line per try: {}", forwarder.text());

        rig.sls.set_faults("").unwrap();
        forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
        forwarder.line(&["pull of shard 0", "works again after"]);
        forwarder.stop();
        rig.assert_exact();
        rig.assert_commits();
    }
}

#[test]
fn a_group_that_somebody_deletes_is_made_again() {
    let mut rig = rig();
    let mut forwarder = rig.forwarder().start();
    forwarder.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());
    assert!(rig.sls.store().delete_group(GROUP).unwrap());
    forwarder.line(&[
        " WARN ",
        "consumer group conformance of test-project/test-logstore was deleted",
        "made again",
    ]);
    rig.fill(200);
    forwarder
        .wait_until("checkpoints at the ends again", PATIENCE + Duration::from_secs(10), || rig.is_drained());
    forwarder.stop();
    rig.assert_exact();
}
