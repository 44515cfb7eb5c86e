//! Consumer groups: several real processes in one group of the bundled emulator, and what can happen to one of them.
//!
//! Why: hand-over is where forwarders lose or repeat logs. The laws: nothing is ever lost; a polite leave repeats
//! nothing; nobody delivers a shard that he does not hold any more; what a dead member had is taken over in time.
//! Invariants: as the conformance tests, whose rig this is. Bounds: heartbeats of half a second, leases of some seconds:
//! a machine that stops a process for longer than that makes a test fail that is right.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test binary: what is missing is a failure"
)]
#![expect(clippy::disallowed_methods, reason = "the rig waits for another process on the machine's clock")]

#[expect(dead_code, reason = "shared with the conformance tests")]
#[path = "../conformance/forwarder.rs"]
mod forwarder;
#[expect(dead_code, reason = "shared with the conformance tests")]
#[path = "../conformance/rig.rs"]
mod rig;

mod balance;
mod bounded;
mod keys;
mod members;
mod operator;
mod proxy;
mod quota;
mod several;
mod shards;
mod zombie;

use std::collections::BTreeMap;

use loadgen::sls::LeaseState;

use crate::rig::Rig;

/// How many shards each member holds, those that are on their way not counted.
fn holders(rig: &Rig) -> BTreeMap<String, usize> {
    let mut held = BTreeMap::new();
    for state in rig.group().map(|group| group.leases).unwrap_or_default().values() {
        if let LeaseState::AlreadyAlloc { holder } = state {
            *held.entry(holder.clone()).or_default() += 1;
        }
    }
    held
}

/// Whether exactly these members hold so many shards each.
fn is_held(rig: &Rig, wanted: &[(&str, usize)]) -> bool {
    holders(rig) == wanted.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

/// Nobody read a shard that somebody else had.
fn assert_apart(rig: &Rig) {
    let judged = rig.sls.judge();
    let taken: Vec<_> = judged.stray_pulls.iter().filter(|pulls| pulls.taken).collect();
    assert!(taken.is_empty(), "{taken:#?}");
    assert_eq!(judged.unknown_agents, [""; 0]);
}

/// No checkpoint was taken that was forced, or went back, or came from a member without the shard.
fn assert_fenced(rig: &Rig) {
    let judged = rig.sls.judge();
    assert!(judged.stray_commits.is_empty(), "{:#?}", judged.stray_commits);
    let mut positions: BTreeMap<u32, u64> = BTreeMap::new();
    for commit in rig.sls.commits() {
        assert!(!commit.force, "{commit:?}");
        if commit.refused.is_none() {
            let position = commit.position.expect("a cursor of this shard");
            let before = positions.insert(commit.shard, position).unwrap_or(0);
            assert!(before <= position, "went back from {before}: {commit:?}");
        }
    }
}
