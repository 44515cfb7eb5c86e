//! What must hold at every step, and at the end.

use std::collections::BTreeSet;

use crate::net::take_request;
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

/// A shard that was called back repairs what it lost, between two cursors, and pulls nothing new. `chunk` is what is
/// about to be written on some connection.
pub fn nothing_new_after_revoke(chunk: &[u8], revoked: &BTreeSet<u32>) -> Result<(), String> {
    if revoked.is_empty() || !chunk.starts_with(b"GET /logstores/") {
        return Ok(());
    }
    let Some(pull) = take_request(&mut chunk.to_vec()) else { return Ok(()) };
    let shard: u32 = pull.path.rsplit('/').next().unwrap().parse().unwrap();
    match pull.query("end_cursor") {
        None if revoked.contains(&shard) => {
            Err(format!("shard {shard}: it pulls on after it was called back"))
        }
        _ => Ok(()),
    }
}
