//! Calls against a plain server that says exactly what a test wants.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use super::*;
use crate::proto::ids::{Cursor, ShardId};
use crate::proto::sls::api::CursorFrom;

/// A request as it came over the wire.
#[derive(Debug)]
struct Seen {
    connection: usize,
    line: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }
}

/// What the server does with a request.
#[derive(Clone)]
enum Act {
    Answer(&'static str, String),
    /// Answers, then closes although it did not say so.
    AnswerAndClose(String),
    /// Closes without a word.
    Close,
    /// Says nothing for ever.
    Silence,
}

fn serve(acts: Vec<Act>) -> (SocketAddr, Receiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, seen) = mpsc::channel();
    thread::spawn(move || {
        let mut acts = acts.into_iter();
        for (connection, stream) in listener.incoming().enumerate() {
            let stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut stream = stream;
            while let Some(request) = read(&mut reader, connection) {
                sender.send(request).unwrap();
                let (status, body, close) = match acts.next() {
                    Some(Act::Answer(status, body)) => (status, body, false),
                    Some(Act::AnswerAndClose(body)) => ("200 OK", body, true),
                    Some(Act::Close) => break,
                    Some(Act::Silence) => loop {
                        thread::park();
                    },
                    None => return,
                };
                let length = body.len();
                write!(
                    stream,
                    "HTTP/1.1 {status}\r\nx-log-requestid: 5B0A\r\nDate: Fri, 02 Jan 2026 03:04:05 GMT\r\nContent-Length: {length}\r\n\r\n{body}"
                )
                .unwrap();
                if close {
                    break;
                }
            }
        }
    });
    (address, seen)
}

fn read(reader: &mut BufReader<std::net::TcpStream>, connection: usize) -> Option<Seen> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut seen = Seen { connection, line: line.trim_end().to_owned(), headers, body: String::new() };
    let mut body = vec![0; seen.header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    seen.body = String::from_utf8(body).unwrap();
    Some(seen)
}

fn api(address: SocketAddr) -> SlsApi {
    at(Endpoint { https: false, host: "127.0.0.1".into(), port: address.port(), is_ip_or_localhost: true })
}

fn at(endpoint: Endpoint) -> SlsApi {
    SlsApi::new(&ApiSpec {
        endpoint,
        project: "proj".into(),
        logstore: "store".into(),
        group: "group".into(),
        consumer: "me".into(),
        version: Version::V1,
        ca_file: None,
        proxy: None,
        call_timeout: Duration::from_secs(1),
    })
    .unwrap()
}

fn keys() -> Credentials {
    Credentials { access_key_id: "id".into(), access_key_secret: "secret".into(), security_token: None }
}

fn ok(body: &str) -> Act {
    Act::Answer("200 OK", body.into())
}

#[test]
fn an_address_is_connected_to_directly_while_host_names_the_project() {
    let (address, seen) = serve(vec![ok("[2,0]"), ok("")]);
    let api = api(address);
    let beat = Call::Heartbeat { shards: vec![ShardId(0)] };
    assert_eq!(api.call(&beat, &keys()), Ok(Reply::Shards(vec![ShardId(0), ShardId(2)])));
    let commit = Call::UpdateCheckpoint { shard: ShardId(2), cursor: Cursor::new("MTY=") };
    assert_eq!(api.call(&commit, &keys()), Ok(Reply::Done));
    let (beat, commit) = (seen.recv().unwrap(), seen.recv().unwrap());
    assert_eq!(beat.line, "POST /logstores/store/consumergroups/group?type=heartbeat&consumer=me HTTP/1.1");
    assert_eq!(beat.header("host"), format!("proj.127.0.0.1:{}", address.port()));
    assert_eq!(beat.body, "[0]");
    assert_eq!(beat.header("x-log-apiversion"), "0.6.0");
    assert!(beat.header("authorization").starts_with("LOG id:"));
    assert!(beat.header("user-agent").starts_with("sls2siem/"));
    for name in ["host", "user-agent", "content-type", "accept", "content-length"] {
        let count = beat.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).count();
        assert_eq!(count, 1, "{name} in {beat:?}");
    }
    assert_eq!(
        commit.line,
        "POST /logstores/store/consumergroups/group?type=checkpoint&consumer=me&forceSuccess=false HTTP/1.1"
    );
    assert_eq!(commit.connection, beat.connection, "kept alive");
}

#[test]
fn every_call_has_its_answer() {
    let checkpoint =
        r#"[{"shard":1,"checkpoint":"bad"},{"shard":3,"checkpoint":"MTY=","updateTime":1,"consumer":"x"}]"#;
    let (address, _seen) = serve(vec![
        ok(r#"[{"name":"g","timeout":40,"order":true}]"#),
        ok(""),
        ok(""),
        ok(checkpoint),
        ok(r#"[{"shard":3,"checkpoint":""}]"#),
        ok("[]"),
        ok(r#"{"cursor":"MTc="}"#),
        ok(r#"{"cursor_time":17}"#),
    ]);
    let (api, keys, shard) = (api(address), keys(), ShardId(3));
    let Ok(Reply::Groups(groups)) = api.call(&Call::ListGroups, &keys) else { panic!() };
    assert_eq!((groups[0].name.as_str(), groups[0].timeout_secs, groups[0].order), ("g", 40, true));
    assert_eq!(api.call(&Call::CreateGroup { timeout_secs: 40, in_order: false }, &keys), Ok(Reply::Done));
    assert_eq!(api.call(&Call::UpdateGroup { timeout_secs: 40, in_order: false }, &keys), Ok(Reply::Done));
    let saved = Some(Cursor::new("MTY="));
    for expected in [saved, None, None] {
        assert_eq!(api.call(&Call::GetCheckpoint { shard }, &keys), Ok(Reply::Checkpoint(expected)));
    }
    let from = CursorFrom::Begin;
    assert_eq!(api.call(&Call::GetCursor { shard, from }, &keys), Ok(Reply::Cursor(Cursor::new("MTc="))));
    let cursor = Cursor::new("MTc=");
    assert_eq!(api.call(&Call::GetCursorTime { shard, cursor }, &keys), Ok(Reply::CursorTime(17)));
}

#[test]
fn another_status_is_an_answer_and_garbage_in_a_200_is_an_error() {
    let refusal = r#"{"errorCode":"SignatureNotMatch","errorMessage":"signature x not match"}"#;
    let (address, _seen) = serve(vec![
        Act::Answer("401 Unauthorized", refusal.into()),
        Act::Answer("302 Found", String::new()),
        Act::Answer("502 Bad Gateway", "<html>bad gateway</html>".into()),
        ok("<html>login first</html>"),
        ok(r#"["zero"]"#),
    ]);
    let api = api(address);
    let errors: Vec<SlsError> = (0..5)
        .map(|_| match api.call(&Call::Heartbeat { shards: Vec::new() }, &keys()) {
            Err(CallError::Sls(error)) => error,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((errors[0].status, errors[0].code.as_str()), (401, "SignatureNotMatch"));
    assert_eq!(errors[0].request_id, "5B0A");
    assert_eq!(errors[0].server_time, Some(1_767_323_045));
    assert_eq!(errors[1].status, 302, "redirects are not followed");
    assert_eq!((errors[2].status, errors[2].code.as_str()), (502, ""));
    assert_eq!(errors[3].status, 200);
    assert!(errors[4].message.contains("HeartBeat"), "{:?}", errors[4]);
}

#[test]
fn a_kept_connection_that_the_server_closed_is_replaced_unseen() {
    let (address, seen) = serve(vec![Act::AnswerAndClose("[]".into()), ok("[1]")]);
    let api = api(address);
    let beat = Call::Heartbeat { shards: Vec::new() };
    assert_eq!(api.call(&beat, &keys()), Ok(Reply::Shards(Vec::new())));
    assert_eq!(api.call(&beat, &keys()), Ok(Reply::Shards(vec![ShardId(1)])));
    assert_eq!(seen.iter().take(2).map(|seen| seen.connection).collect::<Vec<_>>(), [0, 1]);
}

fn broken_by(error: Result<Reply, CallError>) -> (ClosedKind, bool) {
    match error {
        Err(CallError::Transport { why, maybe_done }) => (why.kind, maybe_done),
        other => panic!("{other:?}"),
    }
}

#[test]
fn broken_calls_say_how_and_whether_they_may_have_been_carried_out() {
    let beat = Call::Heartbeat { shards: Vec::new() };
    let (address, _seen) = serve(vec![Act::Silence]);
    assert_eq!(broken_by(api(address).call(&beat, &keys())), (ClosedKind::Timeout, true));
    let (address, _seen) = serve(vec![Act::Close, Act::Close, Act::Close]);
    let (kind, maybe_done) = broken_by(api(address).call(&beat, &keys()));
    assert!(matches!(kind, ClosedKind::Eof | ClosedKind::Reset) && maybe_done, "{kind:?}");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(broken_by(api(free).call(&beat, &keys())), (ClosedKind::Connect, false));
    // RFC 6761: no name server knows it.
    let nowhere = Endpoint { https: false, host: "sls.invalid".into(), port: 80, is_ip_or_localhost: false };
    assert_eq!(broken_by(at(nowhere).call(&beat, &keys())), (ClosedKind::Resolve, false));
}

#[test]
fn tls_to_a_server_that_is_not_trusted_says_tls() {
    let identity = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let chain = vec![identity.cert.der().clone()];
    let key = rustls_pki_types::PrivateKeyDer::try_from(identity.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let config = Arc::new(config);
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            if session.complete_io(&mut stream).is_err() {
                continue;
            }
            let mut tls = rustls::StreamOwned::new(session, stream);
            let mut request = [0; 4096];
            let _read = tls.read(&mut request).unwrap();
            tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[7]").unwrap();
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, identity.cert.pem()).unwrap();
    let mut spec = ApiSpec {
        endpoint: Endpoint { https: true, host: "127.0.0.1".into(), port, is_ip_or_localhost: true },
        project: "proj".into(),
        logstore: "store".into(),
        group: "group".into(),
        consumer: "me".into(),
        version: Version::V1,
        ca_file: Some(ca_file.clone()),
        proxy: None,
        call_timeout: Duration::from_secs(5),
    };
    let beat = Call::Heartbeat { shards: Vec::new() };
    let trusted = SlsApi::new(&spec).unwrap();
    assert_eq!(trusted.call(&beat, &keys()), Ok(Reply::Shards(vec![ShardId(7)])));
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&ca_file, other.cert.pem()).unwrap();
    let untrusted = SlsApi::new(&spec).unwrap();
    assert_eq!(broken_by(untrusted.call(&beat, &keys())), (ClosedKind::Tls, false));
    std::fs::write(&ca_file, "nothing here").unwrap();
    assert!(SlsApi::new(&spec).unwrap_err().to_string().contains("no certificate"));
    spec.ca_file = Some(dir.path().join("missing.pem"));
    assert!(SlsApi::new(&spec).unwrap_err().to_string().contains("missing.pem"));
}
