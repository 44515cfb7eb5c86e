//! Several forwarders in one consumer group, under the same storm: the real lease machine with the real pipeline, against
//! a model of the service's group.
//!
//! Faults beside those of the single forwarder: heartbeats and other calls lost on the way there or back, late by more
//! than a lease, carried out twice; processes that crash (and come back under the same or another name), are frozen
//! and wake up in any order of their parts, leave politely; wall clocks that jump; shards that split and merge; data
//! that expires; the group deleted.
//!
//! Laws: a checkpoint that the service takes is never ahead of what is stored; it never goes back; nobody hands bytes of
//! a shard to the sink after his lease; once the storm is over everything that had not expired is stored, every
//! checkpoint is at its shard's end, drained read-only shards are over, the shards are spread evenly, and whatever
//! expired unread was told.

mod forwarder;
mod server;
mod world;

use crate::faults::table;
use crate::run_all;
use world::{Outcome, World};

/// One seed of the storm.
pub fn storm(seed: u64) -> Result<Outcome, String> {
    World::new(seed, false).run()
}

/// One seed of members that come and go in order, where nothing fails: nothing is repeated.
pub fn polite(seed: u64) -> Result<Outcome, String> {
    let outcome = World::polite(seed).run()?;
    match (outcome.duplicates, outcome.conflicts, outcome.expired_leases) {
        (0, 0, 0) => Ok(outcome),
        (twice, conflicts, leases) => Err(format!(
            "although nobody failed, {twice} records came twice, {conflicts} checkpoints were refused, {leases} leases ended"
        )),
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn several_forwarders_lose_nothing_under_any_seed() {
    if let Some(seed) = number("SIM_GROUP_SEED") {
        let outcome = World::new(seed, true).run().unwrap_or_else(|law| panic!("seed {seed}: {law}"));
        eprintln!("seed {seed}: {outcome:?}");
        return;
    }
    let seeds = number("SIM_SEEDS").unwrap_or(400);
    let total = run_all(seeds, storm, Outcome::add).unwrap_or_else(|(seed, law)| {
        panic!(
            "seed {seed}: {law}\nreplay: SIM_GROUP_SEED={seed} cargo test --test sim groups -- --nocapture"
        )
    });
    println!(
        "groups: {seeds} seeds, {} records checked, {} stored, {} duplicates, {} expired unread and told, at most {} virtual s, lost 0\n\
         {} crashes, {} freezes, {} polite stops, {} splits and merges, {} deletions, {} gaps, {} refused checkpoints, \
         {} expired leases\n{} faults injected:\n{}",
        total.records,
        total.stored,
        total.duplicates,
        total.expired_records,
        total.seconds,
        total.crashes,
        total.freezes,
        total.polite_stops,
        total.reshapes,
        total.deletions,
        total.gaps,
        total.conflicts,
        total.expired_leases,
        total.faults.values().sum::<u64>(),
        table(&total.faults)
    );
    assert!(total.crashes > 0 && total.freezes > 0 && total.reshapes > 0 && total.deletions > 0, "{total:?}");
    assert!(total.gaps > 0 && total.conflicts > 0 && total.expired_leases > 0, "{total:?}");
}

#[test]
fn members_that_only_come_and_go_politely_repeat_nothing() {
    for seed in 0..60 {
        let outcome = polite(seed).unwrap_or_else(|law| panic!("seed {seed}: {law}"));
        assert!(outcome.polite_stops > 0, "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_history_of_the_group() {
    for seed in [3, 88] {
        let run = || storm(seed).map(|outcome| outcome.trace);
        assert_eq!(run(), run(), "seed {seed}");
    }
}
