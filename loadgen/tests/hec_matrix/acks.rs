//! Rows about channels, ackIds, restarts and balancers.

use std::time::{Duration, Instant};

use loadgen::sink::hec::{Balancer, HecServer, Product, Token};

use crate::client::*;
use crate::{stat, stored, strict, without_ack};

const NONE: [(&str, u64); 2] = [("enterprise", 10), ("cloud", 28)];

#[test]
fn row_ack_on_off() {
    let server = strict(|config| config.tokens.push(Token::new("plain")));
    let mut client = Client::connect(&server);
    assert_eq!(client.post(event(1)).ack_id(), Some(0));
    // A channel sent to a token without acknowledgement is harmless.
    let channel = format!("X-Splunk-Request-Channel: {CHANNEL}");
    let auth = "Authorization: Splunk plain";
    let answer = client.request(&raw_post(EVENT, &[auth, &channel], event(2).as_bytes()));
    assert_eq!((answer.code(), answer.ack_id()), (0, None));
    let answer = client.request(&raw_post("/services/collector/ack", &[auth, &channel], b"{\"acks\":[0]}"));
    assert_eq!((answer.status, answer.code()), (400, 14));
}

#[test]
fn row_channel_missing_or_invalid() {
    for (product, code) in NONE {
        let server = strict(|config| {
            config.product = if product == "cloud" { Product::Cloud } else { Product::Enterprise };
        });
        let mut client = Client::connect(&server);
        for (path, body) in [(EVENT, event(1)), ("/services/collector/ack", "{\"acks\":[0]}".to_owned())] {
            let answer = client.request(&raw_post(path, &[AUTH], body.as_bytes()));
            assert_eq!((answer.status, answer.code()), (400, code), "{product} {path}");
            let bad = "X-Splunk-Request-Channel: not-a-guid";
            let answer = client.request(&raw_post(path, &[AUTH, bad], body.as_bytes()));
            assert_eq!((answer.status, answer.code()), (400, 11), "{product} {path}");
        }
        let path = format!("{EVENT}?channel={CHANNEL}");
        assert_eq!(client.request(&raw_post(&path, &[AUTH], event(1).as_bytes())).ack_id(), Some(0));
    }
}

#[test]
fn row_per_channel_ids_from_0_and_true_once() {
    let server = strict(|_| {});
    let mut client = Client::connect(&server);
    let other = format!("X-Splunk-Request-Channel: {OTHER_CHANNEL}");
    for id in 0..3 {
        assert_eq!(client.post(event(id)).ack_id(), Some(id));
        let answer = client.request(&raw_post(EVENT, &[AUTH, &other], event(10 + id).as_bytes()));
        assert_eq!(answer.ack_id(), Some(id));
    }
    assert_eq!(client.poll(CHANNEL, &[2, 0]), [true, true]);
    assert_eq!(client.poll(CHANNEL, &[0, 1, 2, 3]), [false, true, false, false], "true is told once");
    assert_eq!(client.poll(&OTHER_CHANNEL.to_lowercase(), &[0]), [true], "channels do not share ids");
    assert_eq!(client.poll(OTHER_CHANNEL, &[]), Vec::<bool>::new());
    let channel = format!("X-Splunk-Request-Channel: {CHANNEL}");
    for bad in ["", "{}", "{\"acks\":{}}", "{\"acks\":[\"0\"]}", "{\"acks\":[-1]}", "[0]"] {
        let answer = client.request(&raw_post("/services/collector/ack", &[AUTH, &channel], bad.as_bytes()));
        assert_eq!(answer.status, 400, "{bad}");
    }
    let gzip = "Content-Encoding: gzip";
    let answer = client.request(&raw_post("/services/collector/ack", &[AUTH, &channel, gzip], b"x"));
    assert_eq!(answer.status, 400, "polls are not compressed");
}

/// Polls one id until it is true; how long that took.
fn wait_for_ack(client: &mut Client, id: u64) -> Duration {
    let start = Instant::now();
    while client.poll(CHANNEL, &[id]) != [true] {
        assert!(start.elapsed() < Duration::from_secs(10), "never acknowledged");
        std::thread::sleep(Duration::from_millis(20));
    }
    start.elapsed()
}

#[test]
fn row_delayed_ack() {
    let server = strict(|config| config.ack_delay = "400ms".parse().expect("delay"));
    let mut client = Client::connect(&server);
    client.post(events(0..5));
    assert_eq!(client.poll(CHANNEL, &[0]), [false]);
    assert!(server.events().is_empty(), "taken, and not yet stored");
    assert_eq!(stat(&server, "/waiting"), 5);
    assert!(wait_for_ack(&mut client, 0) >= Duration::from_millis(200));
    assert_eq!(server.events().len(), 5);
}

#[test]
fn row_idle_channel_clean_up() {
    let server = strict(|config| config.channel_idle = Duration::from_millis(150));
    let mut client = Client::connect(&server);
    assert_eq!(client.post(event(0)).ack_id(), Some(0));
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(client.poll(CHANNEL, &[0]), [false], "forgotten with its channel");
    assert_eq!(client.post(event(1)).ack_id(), Some(0), "ids begin again");
}

#[test]
fn row_restart_resets_ids_and_connections() {
    let server = strict(|_| {});
    let mut client = Client::connect(&server);
    client.post(event(0));
    client.post(event(1));
    server.restart(Duration::from_millis(200));
    assert!(client.is_ended());
    let mut client = reconnect(&server);
    assert_eq!(client.poll(CHANNEL, &[0, 1]), [false, false]);
    // The hazard: an id of the old process is answered for a new request.
    assert_eq!(client.post(event(2)).ack_id(), Some(0));
    assert_eq!(client.poll(CHANNEL, &[0]), [true]);
    assert_eq!(stored(&server), [0, 1, 2], "an orderly restart keeps what was taken");
    assert_eq!(stat(&server, "/instances/0/incarnation"), 1);
}

#[test]
fn row_crash_forgets_what_was_not_acknowledged() {
    let server = strict(|config| config.ack_delay = "5s".parse().expect("delay"));
    let mut client = Client::connect(&server);
    assert_eq!(client.post(events(0..3)).status, 200);
    server.crash(Duration::ZERO);
    let mut client = reconnect(&server);
    assert_eq!((server.events().len(), stat(&server, "/crashed")), (0, 3));
    assert_eq!(client.post(event(0)).ack_id(), Some(0));
    assert_eq!(server.verdict(None).stored_unique, 0);
}

/// Connects when the server is up again; a connection made in the moment of the restart may still be cut.
fn reconnect(server: &HecServer) -> Client {
    let start = Instant::now();
    loop {
        if let Some(client) = Client::try_connect(server) {
            return client;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "never up again");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn row_lb_without_cookie_asks_the_wrong_indexer() {
    let server = strict(|config| config.balancer = Balancer::Alternate);
    let mut client = Client::connect(&server);
    let answer = client.post(event(0));
    assert_eq!((answer.ack_id(), answer.header("Set-Cookie")), (Some(0), None));
    assert_eq!(client.poll(CHANNEL, &[0]), [false], "the other indexer never gave that id");
    assert_eq!(client.post(event(1)).ack_id(), Some(0).map(|id: u64| id + 1), "the first one counts on");
    assert_eq!(client.post(event(2)).ack_id(), Some(0), "ids collide");
    assert_eq!(client.poll(CHANNEL, &[0]), [true], "the turn came round");
}

#[test]
fn row_lb_with_cookie_sticks_until_its_indexer_is_down() {
    let server = strict(|config| config.balancer = Balancer::Sticky);
    let mut client = Client::connect(&server);
    let answer = client.post(event(0));
    let cookie = answer.header("Set-Cookie").expect("a cookie").split(';').next().unwrap().to_owned();
    let with = format!("Cookie: {cookie}");
    for id in 1..5 {
        let answer = client.request(&post(EVENT, &[&with], event(id).as_bytes()));
        assert_eq!((answer.ack_id(), answer.header("Set-Cookie")), (Some(id), None));
    }
    let index: usize = cookie.split('=').nth(1).unwrap().parse().expect("an index");
    server.restart_instance(index, Duration::from_secs(30));
    let answer = client.request(&post(EVENT, &[&with], event(5).as_bytes()));
    let moved = answer.header("Set-Cookie").expect("the cookie changes");
    assert!(!moved.starts_with(&cookie));
    assert_eq!(answer.ack_id(), Some(0), "another indexer");
    server.restart_instance(1 - index, Duration::from_secs(30));
    assert_eq!(client.post(event(6)).status, 503, "none is up");
}

#[test]
fn full_channel_is_429_code_27() {
    let server = strict(|config| {
        config.max_pending_acks = 2;
        config.ack_delay = "60s".parse().expect("delay");
    });
    let mut client = Client::connect(&server);
    client.post(event(0));
    client.post(event(1));
    let answer = client.post(event(2));
    assert_eq!((answer.status, answer.code()), (429, 27));
}

#[test]
fn two_receivers_can_be_judged_as_one() {
    let first = strict(without_ack);
    let second = strict(|config| {
        without_ack(config);
        config.store = Some(first.store());
    });
    Client::connect(&first).post(events(0..5));
    Client::connect(&second).post(events(4..8));
    let verdict = first.verdict(Some(&"1x8".parse().expect("sent")));
    assert_eq!((verdict.lost, verdict.duplicates, verdict.stored_unique), (0, 1, 8));
    assert!(verdict.is_complete() && !verdict.is_exact());
    assert_eq!(second.verdict(None), first.verdict(None));
}
