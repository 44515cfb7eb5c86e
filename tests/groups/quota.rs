//! Compression that is refused, and quotas.

use crate::rig::{PATIENCE, Rig};

#[test]
fn a_refused_zstd_becomes_lz4_and_is_said_once() {
    let mut rig = Rig::with(
        |sls| {
            sls.zstd = false;
            sls.shards = 4;
        },
        |_| (),
    );
    rig.fill(500);
    let mut member = rig.forwarder().set("sls.compression", "zstd").set("runtime.cores", "1").start();
    member.line(&[" WARN ", "SLS refuses the compression", "nothing lost", "lz4 is used instead"]);
    member.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());
    member.stop();
    rig.assert_exact();
    assert!(member.lines_with("refuses the compression").len() <= 8, "two per shard: {}", member.text());
}

#[test]
fn zstd_and_uncompressed_bodies_are_read() {
    for compression in ["zstd", "none"] {
        let mut rig = Rig::new();
        rig.fill(1_000);
        let mut member = rig.forwarder().set("sls.compression", compression).start();
        member.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());
        member.stop();
        rig.assert_exact();
        assert_eq!(member.complaints(), [""; 0], "{compression}");
    }
}

#[test]
fn a_read_quota_slows_down_without_noise_and_without_loss() {
    let mut rig = Rig::with(
        |sls| {
            sls.reads_per_second = Some(5);
            sls.pull_bytes_max = 16 << 10;
        },
        |_| (),
    );
    rig.fill(2_000);
    let mut member = rig.forwarder().start();
    member.wait_until("checkpoints at the ends", PATIENCE * 2, || rig.is_drained());
    let refused = rig.sls.stats().refusals.get("ShardReadQuotaExceed").copied().unwrap_or(0);
    assert!(refused > 0, "the quota was met: {:?}", rig.sls.stats().refusals);
    member.wait_metrics("refusals are counted", |metrics| metrics.sum("retries_total") >= refused);
    assert!(member.complaints().len() <= 2, "{}", member.text());
    member.stop();
    rig.assert_exact();
}

#[test]
fn an_idle_shard_is_read_a_few_times_a_second_at_most() {
    let mut rig = Rig::new();
    rig.fill(50);
    let mut member = rig.forwarder().set("sls.fetch_interval", "200ms").start();
    member.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());
    let begun = std::time::Instant::now();
    let before = rig.sls.stats().calls["pull"];
    std::thread::sleep(std::time::Duration::from_secs(5));
    let pulls = rig.sls.stats().calls["pull"] - before;
    let most = 2 * (1 + u64::try_from(begun.elapsed().as_millis() / 200).unwrap());
    assert!(pulls <= most, "{pulls} pulls of two idle shards in {:?}", begun.elapsed());
    member.stop();
}
