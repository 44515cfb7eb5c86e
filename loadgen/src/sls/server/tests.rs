#![expect(clippy::disallowed_methods, reason = "a rate is watched on the machine's clock")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use md5::Digest as _;
use prost::Message as _;
use serde_json::Value;

use super::*;
use crate::payload::{Content, Log, LogGroup, LogGroupList, Payload, Profile};
use crate::sls::codec::Codec;
use crate::sls::http::{Request, http_date};
use crate::sls::{Expired, Fill, LeaseState, clock, sign};

mod filters;
mod levers;
mod roles;

/// A connection that signs what it sends.
struct Client {
    stream: TcpStream,
    port: u16,
    input: Vec<u8>,
    /// Ahead of the clock (s).
    ahead_s: i64,
    key: AccessKey,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Client {
    fn to(server: &SlsServer) -> Self {
        Self::at(server.addr())
    }

    fn at(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let key = AccessKey::new("testAccessKeyId", "testAccessKeySecret");
        Self { stream, port: addr.port(), input: Vec::new(), ahead_s: 0, key }
    }

    fn get(&mut self, target: &str) -> Answer {
        self.call("GET", target, &[], b"")
    }

    fn post(&mut self, target: &str, body: &str) -> Answer {
        self.call("POST", target, &[("content-type", "application/json")], body.as_bytes())
    }

    fn pull(&mut self, shard: u32, cursor: &str) -> Answer {
        let target = format!("{SHARDS}/{shard}?type=logs&cursor={cursor}&count=1000");
        self.call("GET", &target, &[("accept-encoding", "lz4"), ("accept", "application/x-protobuf")], b"")
    }

    fn call(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.send(method, target, headers, body);
        self.answer().expect("an answer")
    }

    fn send(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut request = Request { method: method.into(), body: body.to_vec(), ..Request::default() };
        request.set_target(target);
        let now_s = (clock::unix_ms() / 1000).saturating_add_signed(self.ahead_s);
        let mut add = |name: &str, value: &str| request.headers.push((name.into(), value.into()));
        add("host", &format!("test-project.localhost:{}", self.port));
        add("x-log-apiversion", "0.6.0");
        add("x-log-signaturemethod", "hmac-sha1");
        add("x-log-bodyrawsize", &body.len().to_string());
        add("date", &http_date(now_s));
        if !body.is_empty() {
            add("content-md5", &sign::hex(&md5::Md5::digest(body)).to_ascii_uppercase());
        }
        for (name, value) in headers {
            add(name, value);
        }
        if let Some(token) = &self.key.token {
            request.headers.push(("x-acs-security-token".into(), token.clone()));
        }
        let authorization = sign::authorize_v1(&request, &self.key.id, &self.key.secret);
        let mut text = format!("{method} {target} HTTP/1.1\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in &request.headers {
            text.extend([name, ": ", value, "\r\n"]);
        }
        text.extend(["Authorization: ", &authorization, "\r\n\r\n"]);
        self.stream.write_all(&[text.as_bytes(), body].concat()).unwrap();
    }

    /// The next answer; the kind of the error if it does not come whole.
    fn answer(&mut self) -> Result<Answer, std::io::ErrorKind> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut head = httparse::Response::new(&mut headers);
            if let httparse::Status::Complete(len) = head.parse(&self.input).unwrap() {
                let status = head.code.unwrap();
                let headers: Vec<(String, String)> = head
                    .headers
                    .iter()
                    .map(|h| (h.name.to_owned(), String::from_utf8(h.value.to_vec()).unwrap()))
                    .collect();
                let mut answer = Answer { status, headers, body: Vec::new() };
                let length: usize = answer.header("content-length").unwrap().parse().unwrap();
                while self.input.len() < len + length {
                    self.read()?;
                }
                answer.body = self.input[len..len + length].to_vec();
                self.input.drain(..len + length);
                return Ok(answer);
            }
            self.read()?;
        }
    }

    fn read(&mut self) -> Result<(), std::io::ErrorKind> {
        let mut chunk = vec![0; 65_536];
        match self.stream.read(&mut chunk).map_err(|error| error.kind())? {
            0 => Err(std::io::ErrorKind::UnexpectedEof),
            n => {
                self.input.extend_from_slice(&chunk[..n]);
                Ok(())
            }
        }
    }
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.0 == name).map(|header| header.1.as_str())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Status and error code.
    fn refusal(&self) -> (u16, String) {
        (self.status, self.json()["errorCode"].as_str().unwrap().to_owned())
    }

    fn raw(&self) -> Result<LogGroupList> {
        let codec = self.header("x-log-compresstype").and_then(Codec::from_name).unwrap_or(Codec::None);
        let raw = codec.decompress(&self.body, self.header("x-log-bodyrawsize").unwrap().parse()?)?;
        let list = LogGroupList::decode(raw.as_slice())?;
        ensure!(self.header("x-log-count") == Some(list.log_groups.len().to_string().as_str()), "count");
        Ok(list)
    }
}

const SHARDS: &str = "/logstores/test-logstore/shards";
const GROUPS: &str = "/logstores/test-logstore/consumergroups";

fn server(change: impl FnOnce(&mut SlsConfig)) -> SlsServer {
    let mut config = SlsConfig { admin: Some(([127, 0, 0, 1], 0).into()), ..SlsConfig::default() };
    change(&mut config);
    SlsServer::start(config).unwrap()
}

fn one_log(text: &str) -> LogGroup {
    let contents = vec![Content { key: "n".into(), value: text.to_owned().into() }];
    LogGroup { logs: vec![Log { time: 1, contents, time_ns: None }], ..LogGroup::default() }
}

fn make_group(client: &mut Client, order: bool) {
    let body = format!(r#"{{"consumerGroup":"g","timeout":40,"order":{order}}}"#);
    assert_eq!(client.post(GROUPS, &body).status, 200);
}

fn heartbeat(client: &mut Client, consumer: &str, held: &str) -> String {
    let answer = client.post(&format!("{GROUPS}/g?type=heartbeat&consumer={consumer}"), held);
    String::from_utf8(answer.body).unwrap()
}

fn commit(client: &mut Client, consumer: &str, shard: u32, cursor: &str) -> Answer {
    let target = format!("{GROUPS}/g?type=checkpoint&consumer={consumer}&forceSuccess=false");
    client.post(&target, &format!(r#"{{"shard":{shard},"checkpoint":"{cursor}"}}"#))
}

#[test]
fn every_answer_has_a_request_id_and_lower_case_names() {
    let server = server(|_| {});
    let mut client = Client::to(&server);
    let answers = [
        client.get(SHARDS),
        client.get("/logstores/none/shards"),
        client.get("/nonsense"),
        client.pull(0, &server.store().cursor(0, 0).unwrap()),
        client.get(&format!("http://test-project.localhost{SHARDS}")),
    ];
    for answer in &answers {
        assert_eq!(answer.header("x-log-requestid").unwrap().len(), 24);
        assert!(
            answer.headers.iter().all(|(name, _)| !name.bytes().any(|b| b.is_ascii_uppercase())),
            "{answer:?}"
        );
        assert!(answer.header("date").is_some());
    }
    assert_eq!(answers.each_ref().map(|answer| answer.status), [200, 404, 400, 200, 200]);
    let ids: std::collections::BTreeSet<_> =
        answers.iter().map(|answer| answer.header("x-log-requestid").unwrap()).collect();
    assert_eq!(ids.len(), answers.len());
    // An empty pull has all that is required.
    let empty = &answers[3];
    assert_eq!((empty.header("x-log-count"), empty.header("x-log-bodyrawsize")), (Some("0"), Some("0")));
    assert_eq!(empty.header("x-log-cursor"), Some(server.store().cursor(0, 0).unwrap().as_str()));
    assert_eq!(empty.header("x-log-end-of-cursor"), Some("1"));
    assert_eq!((empty.header("x-log-compresstype"), empty.body.len()), (None, 0));
}

#[test]
fn requests_may_come_byte_by_byte_and_many_at_once() {
    let server = server(|_| {});
    let mut client = Client::to(&server);
    for _ in 0..3 {
        client.send("GET", SHARDS, &[], b"");
    }
    for _ in 0..3 {
        assert_eq!(client.answer().unwrap().json().as_array().unwrap().len(), 2);
    }
    let mut twin = Client::to(&server);
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in b"GET / HTTP/1.1\r\nHost: x.y\r\n\r\n" {
        stream.write_all(&[*byte]).unwrap();
        assert_eq!(twin.get(SHARDS).status, 200);
    }
    twin.stream = stream;
    assert_eq!(twin.answer().unwrap().refusal(), (400, "InvalidAPIVersion".into()));
    // What cannot be framed ends the connection.
    let mut client = Client::to(&server);
    client.stream.write_all(b"nonsense\r\n\r\n").unwrap();
    assert_eq!(client.answer().unwrap().status, 400);
    assert!(client.answer().is_err());
}

#[test]
fn pulls_carry_all_headers_and_stop_where_told() {
    let server = server(|config| config.pull_bytes_max = 400);
    let store = server.store();
    for n in 0..20 {
        store.append(0, &one_log(&format!("{n:0100}"))).unwrap();
    }
    let mut client = Client::to(&server);
    let mut cursor = store.cursor(0, 0).unwrap();
    let mut seen = 0;
    while seen < 20 {
        let answer = client.pull(0, &cursor);
        let list = answer.raw().unwrap();
        assert!((1..=4).contains(&list.log_groups.len()));
        for group in &list.log_groups {
            assert_eq!(group.logs[0].contents[0].value, format!("{seen:0100}"));
            seen += 1;
        }
        cursor = answer.header("x-log-cursor").unwrap().to_owned();
        assert_eq!(cursor, store.cursor(0, seen).unwrap());
        let number: u64 = answer.header("x-log-read-last-cursor").unwrap().parse().unwrap();
        assert_eq!(super::super::world::encode_cursor(number + 1), cursor);
        assert_eq!(answer.header("x-log-end-of-cursor").is_some(), seen == 20);
    }
    for (name, value, code) in [
        ("count", "0", "ParameterInvalid"),
        ("count", "1001", "ParameterInvalid"),
        ("cursor", "x", "InvalidCursor"),
        ("end_cursor", "x", "InvalidCursor"),
        ("query", "*|extend", "ParameterInvalid"),
    ] {
        let mut target = format!("{SHARDS}/0?type=log");
        for (key, good) in [("cursor", cursor.as_str()), ("count", "10")] {
            let value = if key == name { value } else { good };
            target.extend(["&", key, "=", value]);
        }
        if !["count", "cursor"].contains(&name) {
            target.extend(["&", name, "=", value]);
        }
        assert_eq!(client.get(&target).refusal(), (400, code.into()), "{target}");
    }
    let odd = client.call(
        "GET",
        &format!("{SHARDS}/0?type=log&cursor={cursor}&count=1"),
        &[("accept", "text/html")],
        b"",
    );
    assert_eq!(odd.refusal(), (400, "ParameterInvalid".into()));
}

#[test]
fn faults_do_what_they_say() {
    let server = server(|_| {});
    let store = server.store();
    store.fill(0, Fill::new(Payload::new(Profile::AccessLog, 1), 500)).unwrap();
    let cursor = store.cursor(0, 0).unwrap();
    let outcome = |plan: &str| {
        server.set_faults(plan).unwrap();
        let mut client = Client::to(&server);
        client.send(
            "GET",
            &format!("{SHARDS}/0?type=log&cursor={cursor}&count=10"),
            &[("accept-encoding", "lz4")],
            b"",
        );
        client.answer()
    };
    assert!(outcome("").unwrap().raw().is_ok());
    assert_eq!(outcome("pull.503").unwrap().refusal(), (503, "ServerBusy".into()));
    assert_eq!(
        outcome("pull/0.ShardReadQuotaExceed").unwrap().refusal(),
        (403, "ShardReadQuotaExceed".into())
    );
    assert!(outcome("pull/1.503").unwrap().raw().is_ok());
    assert_eq!(outcome("pull.reset").unwrap_err(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(outcome("pull.reset-after").unwrap_err(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(outcome("pull.tear").unwrap_err(), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(outcome("pull.tear:0").unwrap_err(), std::io::ErrorKind::UnexpectedEof);
    for word in ["bits", "rawsize", "count", "truncate", "protobuf"] {
        let answer = outcome(&format!("pull.{word}")).unwrap();
        assert_eq!(answer.status, 200, "{word}");
        assert!(answer.raw().is_err(), "{word}");
    }
    let page = outcome("pull.html:504").unwrap();
    assert_eq!((page.status, page.header("content-type")), (504, Some("text/html")));
    assert_eq!(outcome("pull.bare:502").unwrap().body, b"");
    assert!(outcome("pull.slow:100KB").unwrap().raw().is_ok());
    assert!(server.set_faults("pull.rawsise").is_err());
    assert!(server.set_faults("pulk.503").is_err());
    // The last plan still stands and has counted its hit.
    assert_eq!(server.stats().faults, BTreeMap::from([("pull.slow:100KB".to_owned(), 1)]));
}

#[test]
fn a_fault_strikes_before_or_after_the_call_is_processed() {
    let server = server(|config| config.faults = "heartbeat.hang@2".into());
    let mut client = Client::to(&server);
    make_group(&mut client, false);
    assert_eq!(heartbeat(&mut client, "a", "[]"), "[0,1]");
    let seen = || server.store().groups().unwrap()["g"].consumers.clone();
    let target = |consumer: &str| format!("{GROUPS}/g?type=heartbeat&consumer={consumer}");
    let json = [("content-type", "application/json")];
    let mut hanging = Client::to(&server);
    hanging.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    hanging.send("POST", &target("b"), &json, b"[]");
    assert_eq!(hanging.answer().unwrap_err(), std::io::ErrorKind::WouldBlock);
    assert!(!seen().contains_key("b"));
    assert_eq!(heartbeat(&mut client, "a", "[0,1]"), "[0,1]");
    let mut reset = Client::to(&server);
    server.set_faults("heartbeat.reset-after").unwrap();
    reset.send("POST", &target("c"), &json, b"[]");
    assert_eq!(reset.answer().unwrap_err(), std::io::ErrorKind::ConnectionReset);
    assert!(seen().contains_key("c"));
    // A write that is answered 503 although it was taken.
    server.set_faults("put.after-503").unwrap();
    let body = one_log("x").encode_to_vec();
    let put =
        client.call("POST", &format!("{SHARDS}/lb"), &[("content-type", "application/x-protobuf")], &body);
    assert_eq!(put.refusal(), (503, "ServerBusy".into()));
    assert_eq!(server.store().shard(0).unwrap().total, 1);
    // A wrong signature uses up no fault.
    server.set_faults("list-shards.503@1").unwrap();
    client.send("GET", &format!("{SHARDS}?x=1"), &[], b"");
    assert_eq!(client.answer().unwrap().refusal().1, "ParameterInvalid");
    assert_eq!(client.get(SHARDS).status, 503);
}

#[test]
fn expired_cursors_are_refused_or_moved() {
    for (expired, status) in [(Expired::Refuse, 400), (Expired::Clamp, 200)] {
        let server = server(|config| config.expired = expired);
        let store = server.store();
        (0..10).for_each(|n| store.append(0, &one_log(&n.to_string())).unwrap());
        let old = store.cursor(0, 2).unwrap();
        let mut client = Client::to(&server);
        assert_eq!(client.pull(0, &old).raw().unwrap().log_groups.len(), 8);
        store.expire_before(0, 6).unwrap();
        let answer = client.pull(0, &old);
        assert_eq!(answer.status, status);
        if status == 200 {
            assert_eq!(
                answer.raw().unwrap().log_groups,
                (6..10).map(|n| one_log(&n.to_string())).collect::<Vec<_>>()
            );
        } else {
            assert_eq!(answer.refusal().1, "InvalidCursor");
        }
        let begin = client.get(&format!("{SHARDS}/0?type=cursor&from=begin")).json();
        assert_eq!(begin["cursor"], Value::String(store.cursor(0, 6).unwrap()));
    }
}

#[test]
fn limits_are_kept() {
    let server = server(|config| {
        config.reads_per_second = Some(2);
        config.zstd = false;
    });
    let mut client = Client::to(&server);
    for n in 0..30 {
        let body = format!(r#"{{"consumerGroup":"g{n}","timeout":40,"order":false}}"#);
        assert_eq!(client.post(GROUPS, &body).status, 200);
    }
    let body = r#"{"consumerGroup":"one-more","timeout":40,"order":false}"#;
    assert_eq!(client.post(GROUPS, body).refusal(), (400, "ConsumerGroupQuotaExceed".into()));
    assert_eq!(client.post(GROUPS, &body.replace("40", "0")).refusal(), (400, "ParameterInvalid".into()));
    assert_eq!(client.post(GROUPS, r#"{"consumerGroup":"x"}"#).refusal(), (400, "PostBodyInvalid".into()));
    let cursor = server.store().cursor(0, 0).unwrap();
    let target = format!("{SHARDS}/0?type=log&cursor={cursor}&count=1");
    let zstd = client.call("GET", &target, &[("accept-encoding", "zstd")], b"");
    assert_eq!(zstd.refusal(), (400, "InvalidAcceptEncoding".into()));
    let statuses: Vec<u16> = (0..6).map(|_| client.pull(0, &cursor).status).collect();
    assert_eq!(statuses[..2], [200, 200]);
    // The second may turn over once in between.
    assert!(statuses.iter().filter(|status| **status == 403).count() >= 2, "{statuses:?}");
    assert_eq!(client.pull(1, &server.store().cursor(1, 0).unwrap()).status, 200);
}

#[test]
fn a_wrong_clock_is_told_by_the_date_of_the_answer() {
    let server = server(|config| config.clock_skew_ms = 3_600_000);
    let mut client = Client::to(&server);
    let answer = client.get(SHARDS);
    assert_eq!(answer.refusal(), (400, "RequestTimeExpired".into()));
    let server_s = clock::unix_ms() / 1000 + 3600;
    let near = (server_s - 2..=server_s + 2).map(http_date).any(|date| answer.header("date") == Some(&date));
    assert!(near, "{answer:?}");
    client.ahead_s = 3600;
    assert_eq!(client.get(SHARDS).status, 200);
    server.set_clock_skew_ms(0);
    assert_eq!(client.get(SHARDS).refusal().1, "RequestTimeExpired");
}

#[test]
fn a_permission_that_lacks_is_named() {
    let server = server(|_| {});
    server.set_key(AccessKey::new("testAccessKeyId", "testAccessKeySecret").without("log:ListShards"));
    let mut client = Client::to(&server);
    let answer = client.get(SHARDS);
    assert_eq!(answer.refusal(), (401, "Unauthorized".into()));
    let text = answer.json()["errorMessage"].as_str().unwrap().to_owned();
    assert!(text.contains("action: log:ListShards") && text.contains("logstore/test-logstore"), "{text}");
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn a_split_in_order_runs_its_course() {
    let server = server(|config| config.shards = 1);
    let store = server.store();
    store.append(0, &one_log("before")).unwrap();
    let mut client = Client::to(&server);
    make_group(&mut client, true);
    assert_eq!(heartbeat(&mut client, "a", "[]"), "[0]");
    let split = client.call(
        "POST",
        &format!("{SHARDS}/0?action=split&key=80000000000000000000000000000000"),
        &[],
        b"",
    );
    let statuses: Vec<String> =
        split.json().as_array().unwrap().iter().map(|s| s["status"].to_string()).collect();
    assert_eq!(statuses, ["\"readonly\"", "\"readwrite\"", "\"readwrite\""]);
    assert_eq!(heartbeat(&mut client, "a", "[0]"), "[0]");
    assert_eq!(commit(&mut client, "a", 0, &store.cursor(0, 0).unwrap()).status, 200);
    assert_eq!(heartbeat(&mut client, "a", "[0]"), "[0]");
    assert_eq!(
        commit(&mut client, "b", 0, &store.cursor(0, 1).unwrap()).refusal(),
        (404, "ConsumerNotExist".into())
    );
    assert_eq!(commit(&mut client, "a", 0, &store.cursor(0, 1).unwrap()).status, 200);
    assert_eq!(heartbeat(&mut client, "a", "[0]"), "[1,2]");
    assert_eq!(store.groups().unwrap()["g"].leases[&0], LeaseState::Over);
    // Children without a single log are finished by their only cursor.
    let merged = store.merge(1).unwrap();
    assert_eq!(merged, [1, 2, 3]);
    for shard in [1, 2] {
        assert!(!heartbeat(&mut client, "a", "[1,2]").contains('3'));
        assert_eq!(commit(&mut client, "a", shard, &store.cursor(shard, 0).unwrap()).status, 200);
    }
    assert_eq!(heartbeat(&mut client, "a", "[1,2]"), "[3]");
    let commits = server.commits();
    assert_eq!(commits.len(), 5);
    assert_eq!(commits[1].refused.as_deref(), Some("ConsumerNotExist"));
    assert_eq!((commits[2].position, commits[2].force), (Some(1), false));
    assert!(store.is_drained("g").unwrap());
}

#[test]
fn a_rate_releases_the_data_over_time() {
    let server = server(|_| {});
    let store = server.store();
    let payload = Payload::new(Profile::AccessLog, 1).with_logs_per_group(10);
    let fill = Fill { bytes_per_second: Some(2_000_000), ..Fill::new(payload, 2_000) };
    store.fill_all(fill).unwrap();
    let before = store.shard(0).unwrap();
    assert!(before.visible < before.total, "{before:?}");
    let mut client = Client::to(&server);
    let mut cursor = store.cursor(0, 0).unwrap();
    let mut groups = 0;
    while groups < before.total {
        let answer = client.pull(0, &cursor);
        groups += answer.raw().unwrap().log_groups.len() as u64;
        cursor = answer.header("x-log-cursor").unwrap().to_owned();
    }
    assert_eq!(groups, 200);
    assert_eq!(server.stats().records, 2_000);
}

#[test]
fn stop_frees_the_port_and_ends_connections() {
    let server = server(|_| {});
    let addr = server.addr();
    let mut client = Client::to(&server);
    assert_eq!(client.get(SHARDS).status, 200);
    server.stop();
    assert!(client.answer().is_err());
    let again = SlsServer::start(SlsConfig { listen: addr, ..SlsConfig::default() }).unwrap();
    assert_eq!(Client::to(&again).get(SHARDS).status, 200);
}

#[test]
fn what_is_held_back_comes_at_the_rate_set_later() {
    let server = SlsServer::start(SlsConfig::default()).unwrap();
    let store = server.store();
    let payload = Payload::new(Profile::Tiny, 1).with_logs_per_group(10);
    let views = || store.shards().unwrap().into_values().collect::<Vec<_>>();
    // In slices: none of them may let the ones before it out.
    for _ in 0..2 {
        store.fill_all(Fill::held_back(payload, 25_000)).unwrap();
        assert!(views().iter().all(|view| (view.visible, view.visible_bytes) == (0, 0) && view.total > 10));
    }

    // A rate is kept: at 20,000 bytes a second for both, a shard has let out no more than its half by now.
    let began_ms = clock::unix_ms();
    store.set_rate(20_000).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let slow = views();
    let most = (clock::unix_ms() - began_ms) * 10;
    assert!(slow.iter().all(|view| (3_000..=most).contains(&view.visible_bytes)), "{slow:?}");

    store.set_rate(1 << 40).unwrap();
    std::thread::sleep(Duration::from_millis(5));
    let all = views();
    assert!(all.iter().all(|view| view.visible == view.total));
    assert!(all.iter().all(|view| (50_000..51_000).contains(&view.visible_bytes)), "{all:?}");

    // A second filling goes on where the first ended, and what is visible stays so when the rate is taken back.
    store.fill_all(Fill::held_back(payload, 50_000)).unwrap();
    store.set_rate(0).unwrap();
    std::thread::sleep(Duration::from_millis(5));
    for (before, after) in all.iter().zip(views()) {
        assert_eq!((after.visible, after.visible_bytes), (before.visible, before.visible_bytes));
        assert!(after.total > before.total);
    }
}
