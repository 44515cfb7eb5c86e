use std::collections::BTreeSet;

use rand::{Rng as _, SeedableRng as _};

use super::*;

const TIMEOUT: u64 = 40_000;

fn new(in_order: bool, assign_delay_ms: u64) -> Leases {
    let settings = Settings { timeout_ms: TIMEOUT, in_order, assign_delay_ms };
    Leases::new(settings, "g", Place::default())
}

fn group(shards: u32) -> Leases {
    let mut leases = new(false, 0);
    for shard in 0..shards {
        leases.add_shard(0, shard, &[]);
    }
    leases
}

fn transfer(holder: &str, next: &str) -> LeaseState {
    LeaseState::Transfer { holder: holder.into(), next: next.into() }
}

fn alloc(holder: &str) -> LeaseState {
    LeaseState::AlreadyAlloc { holder: holder.into() }
}

#[test]
fn the_first_consumer_gets_all_and_the_second_its_half_by_hand_over() {
    let mut leases = group(4);
    assert_eq!(leases.heartbeat(0, "a", &[]), [0, 1, 2, 3]);
    assert_eq!(leases.heartbeat(1, "b", &[]), [] as [u32; 0]);
    assert_eq!(leases.states()[&3], transfer("a", "b"));
    // a still works on all four: its answer has two, b gets nothing yet.
    assert_eq!(leases.heartbeat(2, "a", &[0, 1, 2, 3]), [0, 1]);
    assert_eq!(leases.heartbeat(3, "b", &[]), [] as [u32; 0]);
    // a gives one up, then the other.
    assert_eq!(leases.heartbeat(4, "a", &[0, 1, 2]), [0, 1]);
    assert_eq!(leases.heartbeat(5, "b", &[]), [3]);
    assert_eq!(leases.heartbeat(6, "a", &[0, 1]), [0, 1]);
    assert_eq!(leases.heartbeat(7, "b", &[3]), [2, 3]);
}

#[test]
fn the_holder_keeps_a_reserved_shard_if_the_next_one_dies() {
    let mut leases = group(2);
    leases.heartbeat(0, "a", &[]);
    leases.heartbeat(0, "b", &[]);
    assert_eq!(leases.states()[&1], transfer("a", "b"));
    assert_eq!(leases.heartbeat(TIMEOUT, "a", &[0, 1]), [0]);
    assert_eq!(leases.heartbeat(TIMEOUT + 1, "a", &[0, 1]), [0, 1]);
}

#[test]
fn what_a_dead_holder_was_to_hand_over_is_free_like_the_rest() {
    let mut leases = group(3);
    leases.heartbeat(0, "a", &[]);
    leases.heartbeat(10, "b", &[]);
    assert_eq!(leases.states()[&2], transfer("a", "b"));
    leases.expire(TIMEOUT + 1);
    assert!(leases.states().values().all(|state| *state == LeaseState::NotAlloc));
    // Both dead at once: nothing is kept for either.
    let mut leases = group(3);
    leases.heartbeat(0, "a", &[]);
    leases.heartbeat(0, "b", &[]);
    assert_eq!(leases.heartbeat(TIMEOUT + 1, "c", &[]), [0, 1, 2]);
}

/// There is no call to leave a group: an empty body gives up what is to be handed over, and nothing else.
#[test]
fn a_consumer_that_lists_nothing_is_alive_and_keeps_its_shards() {
    let mut leases = group(2);
    leases.heartbeat(0, "a", &[]);
    leases.heartbeat(1, "b", &[]);
    assert_eq!(leases.heartbeat(2, "a", &[]), [0]);
    assert_eq!(leases.heartbeat(3, "b", &[]), [1]);
    assert_eq!(leases.heartbeat(4, "a", &[]), [0]);
    // After its last heartbeat its shard moves when the timeout has passed.
    assert_eq!(leases.heartbeat(TIMEOUT + 4, "b", &[1]), [1]);
    assert_eq!(leases.heartbeat(TIMEOUT + 5, "b", &[1]), [0, 1]);
}

/// A body may name what the server has given to others: it says nothing and changes nothing.
#[test]
fn shards_that_a_body_claims_are_not_given_for_it() {
    let mut leases = group(2);
    leases.heartbeat(0, "a", &[]);
    leases.heartbeat(1, "b", &[0, 1, 77]);
    assert_eq!(leases.heartbeat(2, "a", &[0, 1]), [0]);
    assert_eq!(leases.heartbeat(3, "b", &[0, 1]), [] as [u32; 0]);
}

#[test]
fn a_silent_holder_loses_its_shards_after_the_timeout_and_not_before() {
    let mut leases = group(2);
    leases.heartbeat(0, "a", &[]);
    leases.heartbeat(10, "b", &[]);
    assert_eq!(leases.heartbeat(TIMEOUT, "b", &[]), [] as [u32; 0]);
    // a dies: the reserved shard goes to b, the free one as well.
    assert_eq!(leases.heartbeat(TIMEOUT + 1, "b", &[]), [0, 1]);
    assert_eq!(leases.may_commit(0, "a", false, false), Err(Refusal::ConsumerNotExist));
    assert_eq!(leases.may_commit(0, "a", true, false), Ok(()));
    assert_eq!(leases.may_commit(0, "b", false, false), Ok(()));
    // It comes back and is a consumer like any other.
    assert_eq!(leases.heartbeat(TIMEOUT + 2, "a", &[0, 1]), [] as [u32; 0]);
    assert_eq!(leases.may_commit(0, "a", false, false), Err(Refusal::ConsumerNotMatch));
    assert_eq!(leases.may_commit(9, "a", true, false), Err(Refusal::ShardNotExist));
}

#[test]
fn a_holder_in_transfer_may_still_commit() {
    let mut leases = group(2);
    leases.heartbeat(0, "a", &[]);
    leases.heartbeat(0, "b", &[]);
    assert_eq!(leases.may_commit(1, "a", false, false), Ok(()));
    assert_eq!(leases.may_commit(1, "b", false, false), Err(Refusal::ConsumerNotMatch));
    leases.heartbeat(1, "a", &[0]);
    assert_eq!(leases.may_commit(1, "a", false, false), Err(Refusal::ConsumerNotMatch));
    assert_eq!(leases.may_commit(1, "b", false, false), Ok(()));
}

#[test]
fn children_wait_for_all_ancestors_when_in_order() {
    let mut leases = new(true, 0);
    leases.add_shard(0, 0, &[]);
    leases.add_shard(0, 1, &[0]);
    leases.add_shard(0, 2, &[0]);
    leases.add_shard(0, 3, &[1, 2]);
    assert_eq!(leases.heartbeat(0, "a", &[]), [0]);
    leases.committed(1, 0, "a", true);
    assert_eq!(leases.states()[&0], LeaseState::Over);
    assert_eq!(leases.heartbeat(1, "a", &[0]), [1, 2]);
    leases.committed(2, 1, "a", true);
    assert_eq!(leases.heartbeat(2, "a", &[1, 2]), [2]);
    leases.committed(3, 2, "a", true);
    assert_eq!(leases.heartbeat(3, "a", &[2]), [3]);
    // An ancestor that is read again holds up those who come later, whatever their parents' state.
    leases.committed(4, 0, "", false);
    leases.committed(5, 3, "a", true);
    leases.add_shard(6, 4, &[3]);
    assert_eq!(leases.states()[&4], LeaseState::Wait);
    leases.committed(7, 0, "a", true);
    assert_eq!(leases.states()[&4], LeaseState::NotAlloc);
}

#[test]
fn giving_up_order_frees_those_that_wait_and_order_affects_later_splits_only() {
    let mut leases = new(true, 0);
    leases.add_shard(0, 0, &[]);
    leases.add_shard(0, 1, &[0]);
    assert_eq!(leases.heartbeat(0, "a", &[]), [0]);
    leases.update(1, None, Some(false));
    assert_eq!(leases.heartbeat(1, "a", &[0]), [0, 1]);
    leases.update(2, None, Some(true));
    assert_eq!(leases.heartbeat(2, "a", &[0, 1]), [0, 1]);
    leases.add_shard(3, 2, &[1]);
    assert_eq!(leases.heartbeat(3, "a", &[0, 1]), [0, 1]);
    assert_eq!(leases.states()[&2], LeaseState::Wait);
}

#[test]
fn an_over_shard_is_revived_by_a_checkpoint_before_the_end() {
    let mut leases = group(1);
    leases.heartbeat(0, "a", &[]);
    leases.committed(1, 0, "a", true);
    assert_eq!(leases.heartbeat(2, "a", &[0]), [] as [u32; 0]);
    // Saying the end once more is no fault of the one who said it.
    assert_eq!(leases.may_commit(0, "a", false, true), Ok(()));
    assert_eq!(leases.may_commit(0, "b", false, true), Err(Refusal::ConsumerNotExist));
    // Only a forced one may go back from the end.
    assert_eq!(leases.may_commit(0, "a", false, false), Err(Refusal::ConsumerNotMatch));
    assert_eq!(leases.may_commit(0, "", true, false), Ok(()));
    leases.committed(3, 0, "", false);
    assert_eq!(leases.heartbeat(4, "a", &[]), [0]);
}

#[test]
fn a_revoked_shard_goes_to_somebody_else_first() {
    let mut leases = group(2);
    leases.heartbeat(0, "a", &[]);
    assert!(leases.revoke(1, 0));
    assert!(!leases.revoke(1, 0));
    assert_eq!(leases.may_commit(0, "a", false, false), Err(Refusal::ConsumerNotMatch));
    assert_eq!(leases.heartbeat(2, "a", &[0, 1]), [1]);
    assert_eq!(leases.heartbeat(3, "b", &[]), [0]);
    // With nobody else it comes back after a timeout.
    let mut leases = group(1);
    leases.heartbeat(0, "a", &[]);
    leases.revoke(1, 0);
    assert_eq!(leases.heartbeat(TIMEOUT, "a", &[]), [] as [u32; 0]);
    assert_eq!(leases.heartbeat(TIMEOUT + 1, "a", &[]), [0]);
}

#[test]
fn a_hand_over_on_demand_follows_the_same_way() {
    let mut leases = group(2);
    leases.heartbeat(0, "a", &[]);
    leases.heartbeat(0, "b", &[]);
    leases.heartbeat(1, "a", &[0]);
    assert!(!leases.hand_over(2, 0, "nobody"));
    assert!(!leases.hand_over(2, 0, "a"));
    assert!(leases.hand_over(2, 0, "b"));
    assert_eq!(leases.states()[&0], transfer("a", "b"));
}

#[test]
fn a_freed_shard_waits_for_the_assign_delay() {
    let mut leases = new(false, 5_000);
    leases.add_shard(0, 0, &[]);
    assert_eq!(leases.heartbeat(0, "a", &[]), [0]);
    leases.heartbeat(30_000, "b", &[]);
    assert_eq!(leases.heartbeat(TIMEOUT + 1, "b", &[]), [] as [u32; 0]);
    assert_eq!(leases.heartbeat(TIMEOUT + 5_001, "b", &[]), [0]);
    assert_eq!(leases.states()[&0], alloc("b"));
}

#[test]
fn an_even_group_stands_still_and_what_becomes_free_is_shared_out_without_detours() {
    let mut leases = group(7);
    let mut bodies: BTreeMap<&str, Vec<u32>> = BTreeMap::from([("a", vec![]), ("b", vec![]), ("c", vec![])]);
    let mut round = |leases: &mut Leases, now: u64, names: &[&'static str]| {
        for name in names {
            let answer = leases.heartbeat(now, name, bodies.get(name).unwrap());
            bodies.insert(name, answer);
        }
    };
    for now in 0..4 {
        round(&mut leases, now, &["a", "b", "c"]);
    }
    let settled = leases.states();
    assert!(settled.values().all(|state| matches!(state, LeaseState::AlreadyAlloc { .. })), "{settled:?}");
    for now in 4..10 {
        round(&mut leases, now, &["c", "a", "b"]);
        assert_eq!(leases.states(), settled);
    }
    // c falls silent: the others get its shards one each way, and none of their own is moved for it.
    round(&mut leases, 10, &["a", "b"]);
    round(&mut leases, TIMEOUT + 10, &["a", "b"]);
    let states = leases.states();
    assert!(states.values().all(|state| matches!(state, LeaseState::AlreadyAlloc { .. })), "{states:?}");
    for (shard, state) in settled {
        assert!(state == alloc("c") || states[&shard] == state, "{shard}");
    }
    let loads: Vec<usize> = leases.loads().into_values().collect();
    assert!(loads == [4, 3] || loads == [3, 4], "{loads:?}");
}

/// A client as protocol/sls.md 5.3 has it: it works on the union of answers until it has wound a shard up.
#[derive(Default)]
struct Client {
    alive: bool,
    held: BTreeSet<u32>,
    working: BTreeSet<u32>,
    last: u64,
}

/// Random joins, deaths, splits and revokes of honest clients: at every step no two live clients work on one shard, and
/// when things calm down all shards are given out evenly.
#[test]
fn honest_clients_never_share_a_shard_and_end_up_even() {
    for seed in 0..300 {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let mut shards = rng.random_range(1..9);
        let mut leases = group(shards);
        let mut clients: Vec<Client> = (0..6).map(|_| Client::default()).collect();
        let mut now = 0;
        let beat = |leases: &mut Leases, client: &mut Client, index: usize, now: u64, lazy: bool| {
            let body: Vec<u32> = client.working.iter().copied().collect();
            let answer: BTreeSet<u32> =
                leases.heartbeat(now, &format!("c{index}"), &body).into_iter().collect();
            client.last = now;
            client.working.extend(&answer);
            client.held = answer;
            // Winding up takes a while, or not.
            if !lazy {
                client.working = client.working.intersection(&client.held).copied().collect();
            }
        };
        for step in 0..300 {
            now += rng.random_range(0..3_000);
            let index = rng.random_range(0..clients.len());
            match rng.random_range(0..20) {
                0 => clients[index].alive = true,
                1 => {
                    clients[index] = Client::default();
                }
                2 if shards < 12 => {
                    leases.add_shard(now, shards, &[0]);
                    shards += 1;
                }
                _ => {}
            }
            // A strict client stops everything when it has heard nothing for the timeout.
            for client in clients.iter_mut().filter(|client| now - client.last > TIMEOUT) {
                client.held.clear();
                client.working.clear();
            }
            if clients[index].alive {
                let lazy = rng.random_bool(0.5);
                beat(&mut leases, &mut clients[index], index, now, lazy);
            }
            let mut seen = BTreeSet::new();
            for client in clients.iter().filter(|client| client.alive && now - client.last <= TIMEOUT) {
                for shard in &client.working {
                    assert!(seen.insert(*shard), "seed {seed} step {step}: shard {shard} is worked on twice");
                }
            }
        }
        for round in 0..8 {
            now += TIMEOUT / 2;
            for (index, client) in clients.iter_mut().enumerate().filter(|(_, client)| client.alive) {
                beat(&mut leases, client, index, now, false);
            }
            // The dead are found out in the third round; with it all is even on paper, whoever works on what still.
            let loads = leases.loads();
            let even = loads.values().max().zip(loads.values().min()).is_none_or(|(a, b)| a - b <= 1);
            let nobody = !clients.iter().any(|client| client.alive);
            assert!(nobody || round < 2 || even, "seed {seed} round {round}: {loads:?}");
        }
        let counts: Vec<usize> =
            clients.iter().filter(|client| client.alive).map(|client| client.working.len()).collect();
        if let (Some(most), Some(least)) = (counts.iter().max(), counts.iter().min()) {
            assert!(most - least <= 1, "seed {seed}: {counts:?}");
            assert_eq!(counts.iter().sum::<usize>(), shards as usize, "seed {seed}: {counts:?}");
        }
    }
}
