//! What must hold at every step, and at the end.

use std::collections::BTreeSet;

use crate::sls::Sls;

/// Everything before `group` of this shard is stored.
pub fn committed_is_stored(
    sls: &Sls,
    shard: u32,
    group: usize,
    stored: &BTreeSet<(u32, u64)>,
) -> Result<(), String> {
    let before = sls.shards[shard as usize].before[group];
    match (0..before).find(|number| !stored.contains(&(shard, *number))) {
        None => Ok(()),
        Some(number) => Err(format!(
            "shard {shard}: a cursor at group {group} is called safe, but record {number} before it is not stored"
        )),
    }
}

/// After the faults have ended: everything arrived and is committed.
pub fn all_arrived(sls: &Sls, stored: &BTreeSet<(u32, u64)>) -> Result<(), String> {
    for (shard, held) in (0_u32..).zip(&sls.shards) {
        committed_is_stored(sls, shard, held.groups.len(), stored)?;
        if held.checkpoint != held.groups.len() {
            return Err(format!(
                "shard {shard}: the checkpoint stays at {} of {}",
                held.checkpoint,
                held.groups.len()
            ));
        }
    }
    Ok(())
}
