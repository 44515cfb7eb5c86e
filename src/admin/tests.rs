use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use super::*;
use crate::metrics::{ControlSnapshot, ExecutorSnapshot, Info, PipelineInfo, PipelineSnapshot};
use crate::proto::counters::{Counters, ShardGauge};
use crate::proto::ids::ShardId;

fn registry() -> Registry {
    let default = PipelineInfo { name: "default".into(), source: "p/l".into(), sink: "hec".into() };
    Registry::new(Info {
        version: "1.2.3".to_owned(),
        cores: vec![0],
        pipelines: vec![default],
        ..Info::default()
    })
}

fn report_well(registry: &Registry) {
    let shard = ShardGauge { shard: ShardId(17), lag_seconds: 75, pending_seconds: 0, held: false };
    let counters = Counters { pulled_raw_bytes: 5, acked_records: 42, ..Counters::default() };
    let part = PipelineSnapshot { pipeline: "default".into(), counters, shards: vec![shard] };
    let publisher = registry.publisher();
    publisher.executor(ExecutorSnapshot { core: 0, cpu: Duration::from_secs(1), pipelines: vec![part] });
    publisher.control(ControlSnapshot {
        pipeline: "default".into(),
        member: true,
        alarms: Vec::new(),
        checkpoint_commits: 1,
        checkpoint_conflicts: 0,
        heartbeat_failures: 0,
        retention_gaps: 0,
        checkpoints: Vec::new(),
    });
}

fn page(registry: &Registry) -> AdminHandle {
    start("127.0.0.1:0".parse().expect("an address"), registry.clone()).expect("a free port")
}

/// Sends raw bytes and reads until the server closes.
fn ask(admin: &AdminHandle, request: &str) -> String {
    let mut stream = TcpStream::connect(admin.local_addr()).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer, then the end of the connection");
    answer
}

fn get(admin: &AdminHandle, path: &str) -> String {
    ask(admin, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
}

#[test]
fn every_path_answers_and_the_connection_ends() {
    let registry = registry();
    report_well(&registry);
    let admin = page(&registry);
    let metrics = get(&admin, "/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
    assert!(metrics.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{metrics}");
    assert!(
        metrics.contains("\nsls2siem_acked_records_total{pipeline=\"default\",sink=\"hec\"} 42\n"),
        "{metrics}"
    );
    let status = get(&admin, "/");
    assert!(status.contains("p/l → hec") && status.contains("1 min 15 s"), "{status}");
    assert!(get(&admin, "/healthz").ends_with("\r\n\r\nok\n"));
    assert!(get(&admin, "/readyz").ends_with("\r\n\r\nok\n"));
    assert!(get(&admin, "/else").starts_with("HTTP/1.1 404 "));
    admin.stop();
}

#[test]
fn openmetrics_is_for_those_who_ask_for_it() {
    let admin = page(&registry());
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text;version=1.0.0,*/*;q=0.1\r\n\r\n";
    let answer = ask(&admin, request);
    assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0"), "{answer}");
    assert!(answer.ends_with("# EOF\n"));
    admin.stop();
}

#[test]
fn not_ready_is_503_with_the_reasons() {
    let registry = registry();
    let admin = page(&registry);
    let before = get(&admin, "/readyz");
    assert!(before.starts_with("HTTP/1.1 503 "), "{before}");
    assert!(before.contains("core 0 has not started") && before.contains("not yet a lease"), "{before}");
    assert!(get(&admin, "/healthz").starts_with("HTTP/1.1 200 "), "alive while starting");
    report_well(&registry);
    assert!(get(&admin, "/readyz").starts_with("HTTP/1.1 200 "));
    admin.stop();
}

#[test]
fn only_get_and_head_are_served() {
    let admin = page(&registry());
    let head = ask(&admin, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let request = format!("{method} /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(ask(&admin, &request).starts_with("HTTP/1.1 405 "), "{method}");
    }
    admin.stop();
}

#[test]
fn an_endless_head_is_cut_off() {
    let admin = page(&registry());
    let mut stream = TcpStream::connect(admin.local_addr()).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let _refused_midway =
        stream.write_all(format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(100_000)).as_bytes());
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert!(get(&admin, "/healthz").starts_with("HTTP/1.1 200 "), "the next one is served");
    admin.stop();
}

#[test]
fn a_silent_client_is_cut_off_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("non-blocking");
    let address = listener.local_addr().expect("its address");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(address).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream.write_all(b"GET / HT").expect("send");
        let began = now();
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer);
        (answer, began.elapsed())
    });
    runtime.block_on(async {
        let life = Duration::from_millis(300);
        let listener = BoundedListener::new(listener).expect("a listener").with_life(life);
        let (_stop, stopped) = async_channel::bounded(1);
        let router = router(registry(), Door::new(None), stopped);
        let server = async { drop(axum::serve(listener, router).await) };
        let done = async {
            while !client.is_finished() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        future::race(server, done).await;
    });
    let (answer, waited) = client.join().expect("the client");
    assert_eq!(answer, b"");
    assert!(waited < Duration::from_secs(10), "{waited:?}: the client gave up, not the server");
}

#[test]
fn a_flood_of_connections_is_closed_and_leaves_room_again() {
    let admin = page(&registry());
    let idle: Vec<_> = (0..bounded::CONNECTIONS_MAX)
        .map(|_| TcpStream::connect(admin.local_addr()).expect("connect"))
        .collect();
    let mut one_too_many = TcpStream::connect(admin.local_addr()).expect("connect");
    one_too_many.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let mut answer = Vec::new();
    let _reset = one_too_many.read_to_end(&mut answer);
    assert!(answer.is_empty(), "closed at once");
    drop(idle);
    let began = now();
    while !get_or_nothing(&admin).starts_with("HTTP/1.1 200 ") {
        assert!(began.elapsed() < Duration::from_secs(9), "connections that ended are counted no more");
    }
    admin.stop();
}

fn get_or_nothing(admin: &AdminHandle) -> String {
    let mut stream = TcpStream::connect(admin.local_addr()).expect("connect");
    let mut answer = String::new();
    let _refused = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    let _refused = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn stopping_is_prompt_and_frees_the_port() {
    let registry = registry();
    let admin = page(&registry);
    let address = admin.local_addr();
    let _idle = TcpStream::connect(address).expect("connect");
    let began = now();
    admin.stop();
    assert!(began.elapsed() < STOP_TIME_MAX + Duration::from_secs(2));
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn a_busy_port_is_said_in_four_parts() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("its address");
    let error = start(address, registry()).expect_err("the port is taken").to_string();
    let parts: Vec<_> = error.split(" - ").collect();
    assert_eq!(parts.len(), 4, "{error}");
    assert!(parts[0].contains(&address.to_string()) && parts[1].contains("in use"), "{error}");
    assert!(parts[2].contains("nothing is lost") && parts[3].contains("[admin] listen"), "{error}");
}

#[expect(clippy::disallowed_methods, reason = "measures how long stopping takes")]
fn now() -> Instant {
    Instant::now()
}
