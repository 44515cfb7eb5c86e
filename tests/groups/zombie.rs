//! A member that is frozen, or cut off, for longer and for shorter than its lease.

use std::time::Duration;

use crate::proxy::Proxy;
use crate::rig::{PATIENCE, Rig};
use crate::{assert_apart, assert_fenced, holders, is_held};

/// More than the TLS records that end a connection, less than any request.
const GOODBYES: u64 = 1_000;

fn rig() -> Rig {
    let mut rig = Rig::with(|sls| sls.pull_bytes_max = 32 << 10, |_| ());
    rig.fill_over(12_000, Some(Duration::from_secs(30)));
    rig
}

fn url(proxy: &Proxy) -> String {
    format!("https://{}", proxy.addr())
}

/// Frozen while data flows; the other member has everything by the time it wakes up.
#[test]
fn a_zombie_delivers_and_commits_nothing() {
    let rig = rig();
    let way = Proxy::to(rig.hec.url().trim_start_matches("https://").parse().unwrap());
    let start = |name: &str| {
        rig.forwarder()
            .set("sls.consumer_name", name)
            .set("sls.timeout", "4s")
            .set("hec.batch_bytes", "16KiB")
    };
    let mut frozen = start("frozen").set("hec.endpoints", format!("[\"{}\"]", url(&way))).start();
    let mut awake = start("awake").start();
    awake.wait_until("each has a shard", PATIENCE, || is_held(&rig, &[("awake", 1), ("frozen", 1)]));
    let before = way.bytes_up();
    frozen.wait_until("it delivers", PATIENCE, || way.bytes_up() > before + 100_000);
    frozen.signal("STOP");
    awake.wait_until("the other has both", PATIENCE, || is_held(&rig, &[("awake", 2)]));
    let saved = rig.group().unwrap().checkpoints;
    awake.wait_until("the other gets on", PATIENCE, || {
        rig.group().unwrap().checkpoints.iter().all(|(shard, group)| *group > saved[shard])
    });
    assert!(!rig.is_drained(), "there is still something that a zombie could deliver");
    let (delivered, commits) = (way.bytes_up(), rig.sls.commits().len());
    frozen.signal("CONT");
    frozen.line(&["no heartbeat was answered for the group's timeout", "stopped shards", "nothing lost"]);
    let more = way.bytes_up() - delivered;
    assert!(more < GOODBYES, "it sent {more} bytes although its lease was over\n{}", frozen.text());
    let late: Vec<_> = rig.sls.commits().split_off(commits);
    let zombies = late.iter().filter(|commit| commit.consumer == "frozen" && commit.refused.is_none());
    assert_eq!(zombies.count(), 0, "{late:?}");
    // It is a member like any other afterwards.
    awake.wait_until("each has a shard again", PATIENCE, || {
        rig.is_drained() || is_held(&rig, &[("awake", 1), ("frozen", 1)])
    });
    awake.wait_until("everything is delivered", rig.patience(), || {
        rig.assert_checkpoints_are_stored();
        rig.is_drained()
    });
    awake.stop();
    frozen.stop();
    rig.assert_complete();
    assert_fenced(&rig);
    assert_apart(&rig);
}

#[test]
fn a_member_that_is_cut_off_stops_by_itself_and_the_others_go_on() {
    let rig = rig();
    let (sls, sink) =
        (Proxy::to(rig.sls.addr()), Proxy::to(rig.hec.url().trim_start_matches("https://").parse().unwrap()));
    let start = |name: &str| {
        rig.forwarder()
            .set("sls.consumer_name", name)
            .set("sls.timeout", "4s")
            .set("hec.batch_bytes", "16KiB")
    };
    let endpoints = format!("[\"{}\"]", url(&sink));
    let mut cut = start("cut").set("sls.endpoint", url(&sls)).set("hec.endpoints", endpoints).start();
    let mut other = start("other").start();
    other.wait_until("each has a shard", PATIENCE, || is_held(&rig, &[("cut", 1), ("other", 1)]));
    // The service knows before the member does.
    cut.line(&["begins at"]);
    // SLS is out of reach, the sink is not: whatever it delivered from now on, somebody else delivers too.
    sls.cut();
    cut.line(&["no heartbeat was answered for the group's timeout", "stopped shards"]);
    let delivered = sink.bytes_up();
    other.wait_until("the other has both", PATIENCE, || is_held(&rig, &[("other", 2)]));
    assert!(sink.bytes_up() - delivered < GOODBYES, "{}", cut.text());
    sls.mend();
    other.wait_until("it comes back", PATIENCE, || {
        rig.is_drained() || is_held(&rig, &[("cut", 1), ("other", 1)])
    });
    other.wait_until("everything is delivered", rig.patience(), || {
        rig.assert_checkpoints_are_stored();
        rig.is_drained()
    });
    other.stop();
    cut.stop();
    rig.assert_complete();
    assert_fenced(&rig);
}

#[test]
fn a_cut_shorter_than_the_lease_changes_nothing() {
    let rig = rig();
    let sls = Proxy::to(rig.sls.addr());
    let mut member = rig
        .forwarder()
        .set("sls.consumer_name", "member")
        .set("sls.timeout", "20s")
        .set("sls.endpoint", url(&sls))
        .start();
    member.wait_until("it has both shards and works", PATIENCE, || {
        is_held(&rig, &[("member", 2)]) && rig.verdict().stored_unique > 0
    });
    sls.cut();
    member.line(&[" WARN ", "heartbeat"]);
    sls.mend();
    member.line(&["heartbeat", "works again after"]);
    assert!(is_held(&rig, &[("member", 2)]), "{:?}", holders(&rig));
    member.wait_until("everything is delivered", rig.patience(), || rig.is_drained());
    assert!(member.lines_with("stopped shards").is_empty(), "{}", member.text());
    member.stop();
    rig.assert_exact();
    assert_fenced(&rig);
}
