//! Many shards over many members.

use std::time::{Duration, Instant};

use crate::forwarder::Forwarder;
use crate::rig::{PATIENCE, Rig};
use crate::{assert_apart, assert_fenced, holders};

#[test]
fn sixty_four_shards_over_eight_members_spread_evenly_within_three_heartbeats() {
    let beat = Duration::from_secs(2);
    let rig = Rig::with(|sls| sls.shards = 64, |_| ());
    let start = |number: usize| {
        rig.forwarder()
            .set("sls.consumer_name", format!("member-{number}"))
            .set("sls.heartbeat_interval", "2s")
            .set("sls.timeout", "30s")
            .set("sls.fetch_interval", "2s")
            .set("runtime.cores", "1")
            .set("runtime.memory", "16MiB")
            .start()
    };
    let mut members: Vec<Forwarder> = (0..8).map(start).collect();
    members[0].wait_until("all have joined", PATIENCE * 2, || {
        rig.group().is_some_and(|group| group.consumers.len() == 8)
    });
    let joined = Instant::now();
    members[0].wait_until("eight shards each", PATIENCE, || {
        let held = holders(&rig);
        held.len() == 8 && held.values().all(|count| *count == 8)
    });
    // The rest is for a machine that has other things to do.
    let bound = beat * 3 + Duration::from_secs(10);
    assert!(joined.elapsed() < bound, "{:?}: {:?}", joined.elapsed(), holders(&rig));
    // One leaves: the others have nine or ten.
    members.remove(3).kill();
    members[0].wait_until("the seven differ by one at most", PATIENCE, || {
        let held = holders(&rig);
        held.len() == 7
            && held.values().sum::<usize>() == 64
            && held.values().all(|count| (9..=10).contains(count))
    });
    for member in &mut members {
        member.signal("TERM");
    }
    for member in &mut members {
        assert_eq!(member.ended(PATIENCE).code(), Some(0), "{}", member.text());
    }
    assert_fenced(&rig);
    assert_apart(&rig);
}
