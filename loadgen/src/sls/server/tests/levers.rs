//! What is changed and asked for from outside while clients run.

use super::*;
use crate::sls::Judgement;

#[test]
fn the_admin_port_sees_and_moves_things() {
    let server = server(|_| {});
    let mut client = Client::to(&server);
    make_group(&mut client, false);
    heartbeat(&mut client, "a", "[]");
    let mut admin = Client::at(server.admin_addr().unwrap());
    assert_eq!(
        admin.post("/_loadgen/append?shard=0&records=250&profile=nasty&group_logs=50", "").status,
        200
    );
    assert_eq!(admin.post("/_loadgen/split?shard=1", "").json(), serde_json::json!([1, 2, 3]));
    assert_eq!(admin.post("/_loadgen/merge?shard=2", "").json(), serde_json::json!([2, 3, 4]));
    assert_eq!(admin.post("/_loadgen/revoke?group=g&shard=0", "").json(), Value::Bool(true));
    assert_eq!(admin.post("/_loadgen/hand-over?group=g&shard=1&to=nobody", "").json(), Value::Bool(false));
    assert_eq!(admin.post("/_loadgen/expire?shard=0&before=2", "").status, 200);
    let state = admin.get("/_loadgen/state").json();
    let shards = &state[0]["shards"];
    assert_eq!((&shards["0"]["oldest"], &shards["0"]["total"]), (&2.into(), &5.into()));
    assert_eq!(shards["4"]["parents"], serde_json::json!([2, 3]));
    assert_eq!(state[0]["groups"]["g"]["leases"]["0"], "not_alloc");
    assert_eq!(state[0]["groups"]["g"]["leases"]["1"]["already_alloc"]["holder"], "a");
    assert_eq!(admin.post("/_loadgen/faults", "seed=3,list-shards.503").status, 200);
    assert_eq!(client.get(SHARDS).status, 503);
    assert_eq!(admin.post("/_loadgen/faults", "seed = 1\nfaults = [\"list-shards.500\"]").status, 200);
    assert_eq!(client.get(SHARDS).status, 500);
    assert_eq!(admin.post("/_loadgen/faults", "list-shards.500x").status, 400);
    assert_eq!(admin.post("/_loadgen/faults", "").status, 200);
    assert_eq!(client.get(SHARDS).status, 200);
    commit(&mut client, "a", 1, &server.store().cursor(1, 0).unwrap());
    commit(&mut client, "a", 0, &server.store().cursor(0, 3).unwrap());
    let commits = admin.get("/_loadgen/commits?from=1").json();
    assert_eq!(commits.as_array().unwrap().len(), 1);
    assert_eq!(commits[0]["refused"], "ConsumerNotMatch");
    assert_eq!(admin.get("/verdict").json()["stray_commits"], serde_json::json!([]));
    let events = admin.get("/events").json();
    let whats: Vec<&str> = events.as_array().unwrap().iter().map(|e| e["what"].as_str().unwrap()).collect();
    assert_eq!(whats[..3], ["lease", "lease", "joined"], "{events}");
    assert_eq!(events[2]["consumer"], "a");
    assert_eq!(admin.get("/events?from=3").json()[0], events[2]);
    assert_eq!(admin.post("/set?pull-bytes-max=1KiB&shard-reads=3", "").status, 200);
    assert_eq!(admin.post("/set?pull-bytes-min=1KiB", "").status, 400);
    assert_eq!(admin.post("/vanish?shard=3", "").status, 200);
    assert_eq!(admin.post("/vanish?shard=4", "").status, 400);
    assert_eq!(admin.post("/split?shard=4&into=3", "").json(), serde_json::json!([4, 5, 6, 7]));
    let counts = admin.get("/_loadgen/stats").json();
    assert_eq!((&counts["commits"], &counts["commits_refused"]), (&1.into(), &1.into()));
    assert_eq!(counts["refusals"]["ServerBusy"], 1);
    assert_eq!(admin.post("/_loadgen/delete-group?group=g", "").json(), Value::Bool(true));
    assert_eq!(admin.post("/_loadgen/skew?ms=-7200000", "").status, 200);
    assert_eq!(client.get(SHARDS).refusal().1, "RequestTimeExpired");
    assert_eq!(admin.get("/_loadgen/").status, 200);
    assert_eq!(admin.get("/").body, admin.get("/_loadgen/").body);
    assert_eq!(admin.get("/nothing").status, 404);
    assert_eq!(admin.post("/_loadgen/split?shard=77", "").status, 400);
}

#[test]
fn what_was_consumed_before_a_split_is_over_with_it_unless_told_otherwise() {
    for needs_commit in [false, true] {
        let server = server(|config| (config.shards, config.over_needs_commit) = (1, needs_commit));
        let store = server.store();
        store.append(0, &one_log("x")).unwrap();
        let mut client = Client::to(&server);
        make_group(&mut client, true);
        heartbeat(&mut client, "a", "[]");
        let end = store.cursor(0, 1).unwrap();
        assert_eq!(commit(&mut client, "a", 0, &end).status, 200);
        store.split(0).unwrap();
        let now = heartbeat(&mut client, "a", "[0]");
        assert_eq!(now, if needs_commit { "[0]" } else { "[1,2]" });
        assert_eq!(commit(&mut client, "a", 0, &end).status, 200);
        assert_eq!(heartbeat(&mut client, "a", "[0]"), "[1,2]");
    }
}

#[test]
fn a_client_that_is_cut_off_hears_nothing_and_does_nothing() {
    let server = server(|_| {});
    let mut client = Client::to(&server);
    make_group(&mut client, false);
    let target = |consumer: &str| format!("{GROUPS}/g?type=heartbeat&consumer={consumer}");
    let headers = |agent: &'static str| [("content-type", "application/json"), ("user-agent", agent)];
    server.set(|levers| levers.cut = vec!["consumer/a".to_owned()]);
    let mut cut = Client::to(&server);
    cut.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    cut.send("POST", &target("a"), &headers("x consumer/a"), b"[]");
    assert_eq!(cut.answer().unwrap_err(), std::io::ErrorKind::WouldBlock);
    assert_eq!(client.call("POST", &target("b"), &headers("x consumer/b"), b"[]").body, b"[0,1]");
    let mut admin = Client::at(server.admin_addr().unwrap());
    assert_eq!(admin.post("/set?cut=none", "").status, 200);
    // The connection that was cut stays so; another one is served, and what was sent into the dark never happened.
    assert_eq!(cut.answer().unwrap_err(), std::io::ErrorKind::WouldBlock);
    assert_eq!(server.store().groups().unwrap()["g"].consumers.keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(client.call("POST", &target("a"), &headers("x consumer/a"), b"[]").body, b"[]");
}

#[test]
fn logstores_are_apart() {
    let stores = ["a/one", "a/two", "b/one"].map(|name| name.split_once('/').unwrap());
    let stores = stores.map(|(project, logstore)| (project.to_owned(), logstore.to_owned()));
    let server = server(|config| config.stores = stores.to_vec());
    let mut cursors = std::collections::BTreeSet::new();
    for (number, (project, logstore)) in stores.iter().enumerate() {
        let store = server.store_of(project, logstore);
        (0..=number).for_each(|n| store.append(0, &one_log(&n.to_string())).unwrap());
        assert!((0..2).all(|shard| cursors.insert(store.cursor(shard, 0).unwrap())));
    }
    let mut admin = Client::at(server.admin_addr().unwrap());
    assert_eq!(admin.post("/split?project=b&logstore=one&shard=0", "").status, 200);
    assert_eq!(admin.post("/split?project=b&logstore=two&shard=0", "").status, 400);
    let counts: Vec<(usize, u64)> = stores
        .iter()
        .map(|(project, logstore)| server.store_of(project, logstore).shards().unwrap())
        .map(|shards| (shards.len(), shards[&0].visible))
        .collect();
    assert_eq!(counts, [(2, 1), (2, 2), (4, 3)]);
    let mut client = Client::to(&server);
    assert_eq!(client.get("/logstores/one/shards").refusal(), (404, "ProjectNotExist".into()));
}

#[test]
fn levers_work_at_once() {
    let server = server(|_| {});
    let store = server.store();
    (0..10).for_each(|n| store.append(0, &one_log(&n.to_string())).unwrap());
    make_group(&mut Client::to(&server), false);
    let mut client = Client::to(&server);
    let cursor = store.cursor(0, 0).unwrap();
    let mut groups = || client.pull(0, &cursor).raw().map_or(0, |list| list.log_groups.len());
    assert_eq!(groups(), 10);
    server.set(|levers| levers.pull_bytes_max = 1);
    assert_eq!(groups(), 1);
    server.set(|levers| (levers.pull_bytes_max, levers.project_reads_per_minute) = (1 << 20, Some(0)));
    let mut client = Client::to(&server);
    assert_eq!(client.pull(0, &cursor).refusal(), (403, "ReadQuotaExceed".into()));
    server.set(|levers| (levers.project_reads_per_minute, levers.reads_per_second) = (None, Some(0)));
    assert_eq!(client.pull(0, &cursor).refusal(), (403, "ShardReadQuotaExceed".into()));
    server.set(|levers| levers.reads_per_second = None);
    assert_eq!(client.pull(0, &cursor).status, 200);
    // Retention moves a read-only shard out of the world once its data is gone.
    store.split(0).unwrap();
    server.set_clock_skew_ms(10_000);
    server.set(|levers| levers.retention = Some(Duration::from_secs(5)));
    assert!(!store.shards().unwrap().contains_key(&0));
    client.ahead_s = 10;
    assert_eq!(client.pull(0, &cursor).refusal(), (400, "ShardNotExist".into()));
    assert_eq!(heartbeat(&mut client, "a", "[]"), "[1,2,3]");
}

/// A zombie: its heartbeats stop, it pulls on, and it is found out.
#[test]
fn who_reads_without_a_lease_is_named() {
    let server = server(|_| {});
    let mut client = Client::to(&server);
    make_group(&mut client, false);
    assert_eq!(heartbeat(&mut client, "a", "[]"), "[0,1]");
    let cursor = server.store().cursor(0, 0).unwrap();
    let target = format!("{SHARDS}/0?type=logs&cursor={cursor}&count=1");
    let pull = |client: &mut Client| {
        let agent = "sls2siem/0.1.0 consumer-group/g consumer/a";
        assert_eq!(client.call("GET", &target, &[("user-agent", agent)], b"").status, 200);
    };
    pull(&mut client);
    assert_eq!(server.judge(), Judgement::default());
    // The faults of one consumer are not those of another.
    server.set_faults("heartbeat/a.503,checkpoint/a.after-503").unwrap();
    assert_eq!(client.post(&format!("{GROUPS}/g?type=heartbeat&consumer=a"), "[0]").status, 503);
    server.set_clock_skew_ms(41_000);
    client.ahead_s = 41;
    assert_eq!(heartbeat(&mut client, "b", "[]"), "[0,1]");
    pull(&mut client);
    let found = server.judge();
    assert_eq!(found.stray_pulls.len(), 1, "{found:?}");
    let stray = &found.stray_pulls[0];
    assert_eq!((stray.consumer.as_str(), stray.taken, stray.pulls.pulls), ("a", true, 1));
    assert_eq!(stray.state, LeaseState::AlreadyAlloc { holder: "b".into() });
    // What the emulator refuses is not counted against it; what is forced is.
    assert_eq!(commit(&mut client, "a", 0, &cursor).refusal(), (503, "ServerBusy".into()));
    assert_eq!(server.commits()[0].refused.as_deref(), Some("ConsumerNotExist"));
    assert_eq!(server.judge().stray_commits, []);
    let forced = format!("{GROUPS}/g?type=checkpoint&consumer=c&forceSuccess=True");
    assert_eq!(client.post(&forced, &format!(r#"{{"shard":0,"checkpoint":"{cursor}"}}"#)).status, 200);
    assert_eq!(server.judge().stray_commits.len(), 1);
}
