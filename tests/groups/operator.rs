//! `status` and `seek` on a real group.

use std::process::Command;

use serde_json::Value;

use crate::rig::{GROUP, PATIENCE, Rig};

/// Exit code, standard output, standard error.
fn run(rig: &Rig, arguments: &[&str]) -> (Option<i32>, String, String) {
    // Writes the settings.
    drop(rig.forwarder());
    let mut command = Command::new(env!("CARGO_BIN_EXE_sls2siem"));
    command
        .env_clear()
        .arg(arguments[0])
        .arg("--config")
        .arg(rig.path("sls2siem.toml"))
        .args(&arguments[1..]);
    command.args(["--set", "sls.timeout=2s"]);
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn status_shows_who_is_where_and_seek_moves_it() {
    let mut rig = Rig::new();
    let (code, _, error) = run(&rig, &["status"]);
    assert_eq!(code, Some(1), "{error}");
    assert!(
        error.contains("has no consumer group conformance") && error.contains("nothing was changed"),
        "{error}"
    );
    rig.fill(1_000);
    let mut member = rig.forwarder().set("sls.consumer_name", "me").set("sls.timeout", "2s").start();
    member.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());

    let (code, table, error) = run(&rig, &["status"]);
    assert_eq!(code, Some(0), "{error}");
    let row = table.lines().find(|line| line.starts_with("1 ")).unwrap();
    assert!(row.contains("readwrite") && row.contains("me") && row.contains("0s"), "{table}");
    let (code, json, error) = run(&rig, &["status", "--json"]);
    assert_eq!(code, Some(0), "{error}");
    let document: Value = serde_json::from_str(&json).unwrap();
    let shards = document["pipelines"][0]["shards"].as_array().unwrap();
    assert_eq!(document["pipelines"][0]["consumer_group"], GROUP);
    assert_eq!(shards.len(), 2);
    for shard in shards {
        assert_eq!(
            (&shard["behind_seconds"], &shard["behind_groups_estimate"]),
            (&0.into(), &0.into()),
            "{shard}"
        );
        assert!(shard["checkpoint_time"].as_u64() > Some(1_700_000_000), "{shard}");
    }

    // A live consumer holds the shards: nothing is moved.
    let saved = rig.group().unwrap().checkpoints;
    let (code, plan, error) = run(&rig, &["seek", "--to", "begin", "--dry-run"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(plan.contains("sends about 20 log groups again") && plan.contains("dry run"), "{plan}");
    let (code, _, error) = run(&rig, &["seek", "--to", "begin"]);
    assert_eq!(code, Some(1), "{error}");
    assert!(
        error.contains("live consumers hold these shards") && error.contains("nothing was moved"),
        "{error}"
    );
    assert_eq!(rig.group().unwrap().checkpoints, saved);

    // It waits for one that was just stopped.
    member.stop();
    let (code, moved, error) = run(&rig, &["seek", "--to", "begin", "--shard", "1"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(moved.contains("moved 1 shard"), "{moved}");
    let mut member = rig.forwarder().start();
    member.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());
    member.stop();
    let verdict = rig.verdict();
    assert_eq!((verdict.stored_unique, verdict.duplicates, verdict.lost), (2_000, 1_000, 0), "{verdict:?}");

    // Skipping, the other way round.
    rig.fill(500);
    let (code, plan, error) = run(&rig, &["seek", "--to", "end"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(plan.contains("skips about 10 log groups") && plan.contains("moved 2 shards"), "{plan}");
    assert!(rig.is_drained());
    let (code, plan, _) = run(&rig, &["seek", "--to", "end"]);
    assert!(code == Some(0) && plan.contains("nothing to move"), "{plan}");
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let rig = Rig::new();
    for arguments in [&["seek"][..], &["seek", "--to", "yesterday"], &["status", "--pipeline", "other"]] {
        let (code, _, error) = run(&rig, arguments);
        assert_eq!(code, Some(64), "{arguments:?}: {error}");
    }
}
