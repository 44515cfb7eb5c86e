//! Connections against plain blocking servers, driven by a core that only echoes and checks.

mod ends;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection};

use super::super::net::ProxySpec;
use super::super::tls::{TlsSpec, Verify, cert};
use super::super::{
    Core, DriveError, ExecutorIndex, Executors, PipelineId, PipelineSpec, StartSpec, TargetSpec, clock, start,
};
use crate::proto::counters::{Counters, ShardGauge};
use crate::proto::event::{Action, Closed, ClosedKind, Command, Ledger, Report, To};
use crate::proto::ids::{ConnId, EndpointId, RouteId, ShardId};
use crate::proto::time::{Instant, UnixTime};

const TOTAL: usize = 10_000_000;
const CONN: ConnId = ConnId(7);
const PATIENCE: Duration = Duration::from_secs(20);

static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut rng = crate::proto::rng::Rng::new(3);
    (0..TOTAL / 8).flat_map(|_| rng.next_u64().to_le_bytes()).collect()
});

/// What the echo core saw.
#[derive(Debug, PartialEq)]
enum Seen {
    Routes(Result<usize, String>),
    Connected,
    Echoed,
    Command(Instant),
    Closed(Closed),
    Stopped,
}

/// Sends [`PATTERN`], checks that the same comes back.
struct Echo {
    seen: Sender<Seen>,
    actions: VecDeque<Action>,
    reports: VecDeque<Report>,
    counters: Counters,
    connected: bool,
    sent: usize,
    heard: usize,
    total: usize,
    tell_at: usize,
    close_at: Option<Instant>,
    block_on_command: bool,
}

impl Echo {
    fn new(seen: Sender<Seen>, total: usize, first: Action) -> Self {
        Self {
            seen,
            actions: VecDeque::from([first]),
            reports: VecDeque::new(),
            counters: Counters::default(),
            connected: false,
            sent: 0,
            heard: 0,
            total,
            tell_at: total,
            close_at: None,
            block_on_command: false,
        }
    }

    fn say(&self, seen: Seen) {
        let _ = self.seen.send(seen);
    }
}

impl Core for Echo {
    fn handle_command(&mut self, now: Instant, _: Command) {
        self.say(Seen::Command(now));
        self.reports.push_back(Report::Stopped);
        if self.block_on_command {
            // Ends early when a signal comes.
            #[expect(unsafe_code, reason = "a call that a signal interrupts")]
            // SAFETY: no descriptors are passed, so the null pointer is not read.
            let _ = unsafe { libc::poll(std::ptr::null_mut(), 0, 8_000) };
            self.say(Seen::Command(clock::now()));
        } else {
            self.close_at = Some(now + Duration::from_millis(30));
        }
    }

    fn handle_connected(&mut self, _: Instant, conn: ConnId) {
        assert_eq!(conn, CONN);
        self.connected = true;
        self.say(Seen::Connected);
        self.actions.push_back(Action::Transmit(conn));
    }

    fn handle_received(&mut self, _: Instant, _: ConnId, bytes: &[u8]) {
        assert!(!bytes.is_empty());
        assert_eq!(bytes, &PATTERN[self.heard..self.heard + bytes.len()]);
        self.heard += bytes.len();
        self.counters.pulled_wire_bytes += bytes.len() as u64;
        if self.heard == self.tell_at {
            self.say(Seen::Echoed);
        }
    }

    fn handle_transmitted(&mut self, _: Instant, _: ConnId, bytes: usize) {
        self.sent += bytes;
        self.counters.sent_bytes += bytes as u64;
    }

    fn handle_finished(&mut self, _: Instant, _: ConnId) {}

    fn handle_ledger(&mut self, _: Instant, _: ConnId, _: Ledger) {}

    fn handle_closed(&mut self, _: Instant, _: ConnId, why: Closed) {
        self.connected = false;
        self.say(Seen::Closed(why));
    }

    fn handle_routes(&mut self, _: Instant, _: EndpointId, routes: Result<Vec<RouteId>, String>) {
        if let Ok(&[first, ..]) = routes.as_deref() {
            self.actions.push_back(Action::Connect { conn: CONN, to: To::Sink(first) });
        }
        self.say(Seen::Routes(routes.map(|routes| routes.len())));
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.close_at.is_some_and(|at| at <= now) {
            self.close_at = None;
            self.actions.push_back(Action::Close(CONN));
            self.say(Seen::Stopped);
        }
    }

    fn handle_wall_clock(&mut self, _: Instant, wall: UnixTime) {
        assert!(wall.as_secs() > 1_700_000_000);
        self.counters.pulls += 1;
    }

    fn handle_credit(&mut self, _: Instant) {}

    fn poll_transmit(&mut self, _: Instant, _: ConnId) -> Option<&[u8]> {
        let rest = &PATTERN[self.sent.min(self.total)..self.total];
        (self.connected && !rest.is_empty()).then(|| &rest[..rest.len().min(300_001)])
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.close_at
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn for_each_shard(&self, _: Instant, show: &mut dyn FnMut(ShardGauge)) {
        show(ShardGauge { shard: ShardId(5), lag_seconds: 1, pending_seconds: 2, held: false });
    }

    fn is_stopped(&self) -> bool {
        false
    }
}

/// One executor with one echoing pipeline.
struct Rig {
    executors: Executors,
    seen: Receiver<Seen>,
    reports: Receiver<(ExecutorIndex, PipelineId, Vec<Report>)>,
}

impl Rig {
    fn new(target: TargetSpec, total: usize) -> Self {
        Self::with(target, total, Action::Resolve(EndpointId(0)), |_| ())
    }

    fn with(target: TargetSpec, total: usize, first: Action, change: fn(&mut Echo)) -> Self {
        let spec = StartSpec { cores: vec![0], memory_bytes: 1 << 20, abort_after: Duration::from_mins(10) };
        let executors = start(&spec).unwrap();
        let ((say, seen), (reports, heard)) = (channel(), channel());
        let make = move |_| {
            let mut echo = Echo::new(say, total, first);
            change(&mut echo);
            Box::new(echo) as Box<dyn Core>
        };
        let spec = PipelineSpec {
            id: PipelineId(0),
            make: Box::new(make),
            source: target.clone(),
            endpoints: vec![target],
            reports,
            dead_letter: None,
        };
        executors.open(0, spec).unwrap();
        Self { executors, seen, reports: heard }
    }

    fn next(&self) -> Seen {
        self.seen.recv_timeout(PATIENCE).unwrap()
    }

    /// Skips to the end of the connection, and makes sure that it is reported once.
    fn closed(&self) -> Closed {
        let why = loop {
            if let Seen::Closed(why) = self.next() {
                break why;
            }
        };
        assert!(self.seen.recv_timeout(Duration::from_millis(300)).is_err());
        self.executors.shutdown(PATIENCE).unwrap();
        why
    }

    fn command(&self) {
        self.executors.command(0, PipelineId(0), Command::Stop).unwrap();
    }
}

fn plain(address: SocketAddr) -> TargetSpec {
    TargetSpec::plain(address.ip().to_string(), address.port(), Duration::from_secs(30))
}

/// A server for one connection.
fn serve<T: Send + 'static>(
    work: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (address, std::thread::spawn(move || work(listener.accept().unwrap().0)))
}

/// Sends back what comes until the peer ends; returns how much, and how it ended.
fn echo(stream: &mut (impl Read + Write)) -> (usize, std::io::Result<()>) {
    let (mut buffer, mut total) = (vec![0; 50_000], 0);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (total, Ok(())),
            Ok(read) => {
                total += read;
                if let Err(error) = stream.write_all(&buffer[..read]) {
                    return (total, Err(error));
                }
            }
            Err(error) => return (total, Err(error)),
        }
    }
}

/// A certificate for localhost and a server that shows it.
fn tls_server() -> (Arc<ServerConfig>, [u8; 32]) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let digest = cert::fingerprint(made.cert.der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (Arc::new(config), digest)
}

fn with_tls(mut target: TargetSpec, verify: Verify) -> TargetSpec {
    target.tls = Some(TlsSpec { verify, ..TlsSpec::default() });
    target
}

#[test]
fn ten_megabytes_come_back_over_tcp() {
    let (address, server) = serve(|mut stream| echo(&mut stream));
    let rig = Rig::new(plain(address), TOTAL);
    assert_eq!(rig.next(), Seen::Routes(Ok(1)));
    assert_eq!(rig.next(), Seen::Connected);
    assert_eq!(rig.next(), Seen::Echoed);
    rig.executors.shutdown(PATIENCE).unwrap();
    assert_eq!(server.join().unwrap().0, TOTAL);
}

#[test]
fn ten_megabytes_come_back_over_tls() {
    let (config, digest) = tls_server();
    let (address, server) = serve(move |tcp| {
        let mut stream = rustls::StreamOwned::new(ServerConnection::new(config).unwrap(), tcp);
        echo(&mut stream)
    });
    let rig = Rig::new(with_tls(plain(address), Verify::Fingerprint(vec![digest])), TOTAL);
    assert_eq!(rig.next(), Seen::Routes(Ok(1)));
    assert_eq!(rig.next(), Seen::Connected);
    assert_eq!(rig.next(), Seen::Echoed);
    // The core closes: the peer has to see close_notify (an Ok end), the core must not hear of it.
    rig.command();
    assert!(matches!(rig.next(), Seen::Command(_)));
    assert_eq!(rig.next(), Seen::Stopped);
    let (total, end) = server.join().unwrap();
    assert_eq!(total, TOTAL);
    end.unwrap();
    assert!(rig.seen.recv_timeout(Duration::from_millis(200)).is_err());
    assert_eq!(
        rig.reports.recv_timeout(PATIENCE).unwrap(),
        (ExecutorIndex(0), PipelineId(0), vec![Report::Stopped])
    );
    rig.executors.shutdown(PATIENCE).unwrap();
}

#[test]
fn a_proxy_is_asked_for_a_tunnel_to_the_source() {
    let (config, digest) = tls_server();
    let (address, server) = serve(move |mut tcp| {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            tcp.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        tcp.write_all(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n").unwrap();
        let mut stream = rustls::StreamOwned::new(ServerConnection::new(config).unwrap(), tcp);
        (String::from_utf8(request).unwrap(), echo(&mut stream).0)
    });
    let mut target = with_tls(plain(address), Verify::Fingerprint(vec![digest]));
    target.host = "project.cn-hangzhou.log.aliyuncs.com".to_owned();
    target.port = 443;
    let authorization = Some("Basic dTpw".to_owned().into());
    target.proxy = Some(ProxySpec { host: address.ip().to_string(), port: address.port(), authorization });
    assert!(!format!("{target:?}").contains("dTpw"));
    let first = Action::Connect { conn: CONN, to: To::Source };
    let rig = Rig::with(target, 100_000, first, |_| ());
    assert_eq!(rig.next(), Seen::Connected);
    assert_eq!(rig.next(), Seen::Echoed);
    rig.executors.shutdown(PATIENCE).unwrap();
    let (request, total) = server.join().unwrap();
    assert_eq!(total, 100_000);
    assert_eq!(
        request,
        "CONNECT project.cn-hangzhou.log.aliyuncs.com:443 HTTP/1.1\r\n\
         Host: project.cn-hangzhou.log.aliyuncs.com:443\r\nProxy-Authorization: Basic dTpw\r\n\r\n"
    );
}

#[test]
fn a_refusing_proxy_is_quoted() {
    let (address, _server) = serve(|mut tcp| {
        let _ = tcp.read(&mut [0; 1000]);
        tcp.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").unwrap();
        tcp
    });
    let mut target = plain(address);
    target.host = "example.org".to_owned();
    target.proxy =
        Some(ProxySpec { host: address.ip().to_string(), port: address.port(), authorization: None });
    let rig = Rig::with(target, 1, Action::Connect { conn: CONN, to: To::Source }, |_| ());
    let why = rig.closed();
    assert_eq!(why.kind, ClosedKind::Connect);
    assert!(why.detail.contains("it answered 407 Proxy Authentication Required"), "{}", why.detail);
}

#[test]
fn a_reset_is_told_once() {
    let (address, server) = serve(|mut stream| {
        let _ = stream.read(&mut [0; 1000]);
        // Ending with unread bytes makes the kernel send RST.
        drop(stream);
    });
    let why = Rig::new(plain(address), TOTAL).closed();
    assert_eq!(why.kind, ClosedKind::Reset, "{why:?}");
    assert!(why.detail.contains(&address.to_string()), "{why:?}");
    server.join().unwrap();
}

#[test]
fn a_peer_that_takes_nothing_is_given_up_after_the_patience_of_its_target() {
    // Open until it is joined.
    let (address, server) = serve(|stream| stream);
    let rig = Rig::new(TargetSpec { patience: Duration::from_secs(1), ..plain(address) }, TOTAL);
    let why = rig.closed();
    assert_eq!(why.kind, ClosedKind::Reset);
    assert!(why.detail.contains("timed out"), "{why:?}");
    drop(server.join().unwrap());
}

#[test]
fn an_answer_before_a_reset_is_still_heard() {
    let (address, server) = serve(|mut stream| {
        let mut start = [0; 1000];
        stream.read_exact(&mut start).unwrap();
        stream.write_all(&start).unwrap();
        // The answer has to be there before the RST is.
        std::thread::park_timeout(Duration::from_millis(50));
        drop(stream);
    });
    let rig = Rig::with(plain(address), TOTAL, Action::Resolve(EndpointId(0)), |echo| echo.tell_at = 1000);
    let mut heard = false;
    let why = loop {
        match rig.next() {
            Seen::Echoed => heard = true,
            Seen::Closed(why) => break why,
            _ => {}
        }
    };
    assert!(heard);
    assert_eq!(why.kind, ClosedKind::Reset, "{why:?}");
    rig.executors.shutdown(PATIENCE).unwrap();
    server.join().unwrap();
}

#[test]
fn a_half_close_is_an_end_in_order() {
    let (address, server) = serve(|mut stream| {
        let (total, end) = (stream.read(&mut [0; 1000]).unwrap(), stream.shutdown(Shutdown::Write));
        end.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        total + rest.len()
    });
    let why = Rig::new(plain(address), 1000).closed();
    assert_eq!(why.kind, ClosedKind::Eof, "{why:?}");
    assert_eq!(server.join().unwrap(), 1000);
}

#[test]
fn tls_without_close_notify_is_not_an_end_in_order() {
    for polite in [false, true] {
        let (config, digest) = tls_server();
        let (address, server) = serve(move |tcp| {
            let mut stream = rustls::StreamOwned::new(ServerConnection::new(config).unwrap(), tcp);
            stream.read_exact(&mut [0; 1000]).unwrap();
            if polite {
                stream.conn.send_close_notify();
                stream.conn.complete_io(&mut stream.sock).unwrap();
            } else {
                stream.sock.shutdown(Shutdown::Write).unwrap();
            }
            let _ = std::io::copy(&mut stream.sock, &mut std::io::sink());
        });
        let why = Rig::new(with_tls(plain(address), Verify::Fingerprint(vec![digest])), 1000).closed();
        assert_eq!(why.kind, if polite { ClosedKind::Eof } else { ClosedKind::Reset }, "{why:?}");
        server.join().unwrap();
    }
}

#[test]
fn an_untrusted_certificate_is_named_and_the_peer_told() {
    let (config, digest) = tls_server();
    let (address, server) = serve(move |tcp| {
        let mut stream = rustls::StreamOwned::new(ServerConnection::new(config).unwrap(), tcp);
        stream.read(&mut [0; 100]).unwrap_err().to_string()
    });
    let why = Rig::new(with_tls(plain(address), Verify::Full), 1000).closed();
    assert_eq!(why.kind, ClosedKind::Tls);
    for part in ["certificate not trusted", &cert::fingerprint_text(&digest), &address.to_string()] {
        assert!(why.detail.contains(part), "{part} is missing in {}", why.detail);
    }
    let told = server.join().unwrap();
    assert!(told.contains("alert"), "{told}");
}

#[test]
fn a_peer_that_ends_the_handshake_is_a_tls_failure() {
    let (address, server) = serve(|mut stream| drop(stream.read(&mut [0; 10_000])));
    let why = Rig::new(with_tls(plain(address), Verify::Off), 1000).closed();
    assert_eq!(why.kind, ClosedKind::Tls);
    assert!(why.detail.contains("during the TLS handshake"), "{}", why.detail);
    server.join().unwrap();
}

#[test]
fn a_refused_connect_names_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let why = Rig::new(plain(address), 1000).closed();
    assert_eq!(why.kind, ClosedKind::Connect);
    assert!(why.detail.starts_with(&format!("connect to {address}: Connection refused")), "{}", why.detail);
}

#[test]
fn unknown_names_and_routes_are_answered() {
    let mut target = plain("127.0.0.1:9".parse().unwrap());
    target.host = "no-such-name.invalid".to_owned();
    let rig = Rig::new(target.clone(), 1);
    assert!(matches!(rig.next(), Seen::Routes(Err(error)) if error.contains("no-such-name.invalid")));
    rig.executors.shutdown(PATIENCE).unwrap();
    let why = Rig::with(target.clone(), 1, Action::Connect { conn: CONN, to: To::Source }, |_| ()).closed();
    assert_eq!(why.kind, ClosedKind::Resolve);
    let to = To::Sink(RouteId(3));
    assert_eq!(
        Rig::with(target, 1, Action::Connect { conn: CONN, to }, |_| ()).closed().kind,
        ClosedKind::Resolve
    );
}

#[test]
fn a_command_wakes_a_parked_executor() {
    let (address, server) = serve(|mut stream| echo(&mut stream));
    let rig = Rig::new(plain(address), 1000);
    while rig.next() != Seen::Echoed {}
    let mut worst = Duration::ZERO;
    for _ in 0..10 {
        // Long enough to park, and out of step with the heartbeat.
        std::thread::park_timeout(Duration::from_millis(137));
        let sent = clock::now();
        rig.command();
        let Seen::Command(arrived) = rig.next() else { continue };
        worst = worst.max(arrived.since(sent));
    }
    assert!(worst < Duration::from_millis(50), "{worst:?}");
    rig.executors.shutdown(PATIENCE).unwrap();
    let _ = server.join().unwrap();
}

#[test]
fn snapshots_show_counters_and_shards() {
    let (address, server) = serve(|mut stream| echo(&mut stream));
    let rig = Rig::new(plain(address), 100_000);
    while rig.next() != Seen::Echoed {}
    let (mut gauges, mut other) = (rig.executors.gauges(), rig.executors.gauges());
    let began = clock::now();
    let snapshot = loop {
        assert!(clock::now().since(began) < PATIENCE);
        match gauges.read().first() {
            // The wall clock comes once a second.
            Some(snapshot) if snapshot.pipelines[0].counters.pulls > 0 => break Arc::clone(snapshot),
            _ => std::thread::park_timeout(Duration::from_millis(10)),
        }
    };
    assert_eq!(snapshot.pipelines[0].counters.sent_bytes, 100_000);
    assert_eq!(snapshot.pipelines[0].counters.pulled_wire_bytes, 100_000);
    assert_eq!(snapshot.pipelines[0].shards[0].shard, ShardId(5));
    assert_eq!(snapshot.pipelines[0].connections, 1);
    assert!(snapshot.cpu > Duration::ZERO);
    assert_eq!((snapshot.core, snapshot.memory_limit_bytes), (0, 1 << 20));
    assert_eq!(other.read().len(), 1);
    rig.executors.shutdown(PATIENCE).unwrap();
    assert_eq!(gauges.read().len(), 1);
    let _ = server.join().unwrap();
}

#[test]
fn a_blocked_executor_gets_a_signal() {
    let (address, server) = serve(|mut stream| echo(&mut stream));
    let first = Action::Resolve(EndpointId(0));
    let rig = Rig::with(plain(address), 1000, first, |echo| echo.block_on_command = true);
    while rig.next() != Seen::Echoed {}
    rig.command();
    let (Seen::Command(began), Seen::Command(ended)) = (rig.next(), rig.next()) else { unreachable!() };
    let stood = ended.since(began);
    assert!(stood > Duration::from_millis(800) && stood < Duration::from_secs(4), "{stood:?}");
    assert!(rig.executors.nudges() >= 1);
    rig.executors.shutdown(PATIENCE).unwrap();
    let _ = server.join().unwrap();
}

#[test]
fn wrong_settings_are_refused_before_the_executor() {
    let (address, _server) = serve(drop);
    let rig = Rig::new(plain(address), 1);
    let mut target = with_tls(plain(address), Verify::Full);
    target.tls.as_mut().unwrap().ca_file = Some(Path::new("/no/such/ca.pem").to_owned());
    let spec = |id| PipelineSpec {
        id: PipelineId(id),
        make: Box::new(|_| unreachable!()),
        source: plain(address),
        endpoints: vec![target.clone()],
        reports: channel().0,
        dead_letter: None,
    };
    let error = rig.executors.open(0, spec(1)).unwrap_err();
    assert!(error.to_string().contains("/no/such/ca.pem"), "{error}");
    assert!(matches!(rig.executors.open(9, spec(1)), Err(DriveError::Tls { .. })));
    assert!(matches!(rig.executors.command(9, PipelineId(0), Command::Stop), Err(DriveError::NoExecutor(9))));
    rig.executors.shutdown(PATIENCE).unwrap();
    assert!(matches!(rig.executors.command(0, PipelineId(0), Command::Stop), Err(DriveError::Ended(0))));
    let nowhere = StartSpec { cores: vec![99_999], memory_bytes: 1, abort_after: PATIENCE };
    let error = start(&nowhere).unwrap_err();
    assert!(matches!(error, DriveError::Executor { core: 99_999, .. }), "{error}");
}
