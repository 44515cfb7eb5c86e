//! Half-closes, the ledger of acknowledged bytes, datagrams.

use std::net::UdpSocket;

use super::*;

#[derive(Debug, PartialEq)]
enum Told {
    Connected,
    Finished,
    Ledger(Ledger),
    Closed(Closed),
}

/// Sends `total` bytes in chunks, ends its side if it is asked to, tells everything.
struct Half {
    told: Sender<Told>,
    actions: VecDeque<Action>,
    counters: Counters,
    connected: bool,
    sent: usize,
    total: usize,
    chunk: usize,
    /// What to ask for when all is transmitted.
    then: Action,
}

impl Core for Half {
    fn handle_command(&mut self, _: Instant, _: Command) {
        self.actions.push_back(Action::Measure(CONN));
    }
    fn handle_connected(&mut self, _: Instant, conn: ConnId) {
        self.connected = true;
        let _ = self.told.send(Told::Connected);
        self.actions.push_back(Action::Transmit(conn));
    }
    fn handle_received(&mut self, _: Instant, _: ConnId, _: &[u8]) {}
    fn handle_transmitted(&mut self, _: Instant, _: ConnId, bytes: usize) {
        self.sent += bytes;
        if self.sent == self.total {
            self.actions.push_back(self.then.clone());
        }
    }
    fn handle_finished(&mut self, _: Instant, _: ConnId) {
        let _ = self.told.send(Told::Finished);
    }
    fn handle_ledger(&mut self, _: Instant, _: ConnId, ledger: Ledger) {
        let _ = self.told.send(Told::Ledger(ledger));
    }
    fn handle_closed(&mut self, _: Instant, _: ConnId, why: Closed) {
        let _ = self.told.send(Told::Closed(why));
    }
    fn handle_routes(&mut self, _: Instant, _: EndpointId, routes: Result<Vec<RouteId>, String>) {
        let to = To::Sink(routes.unwrap()[0]);
        self.actions.push_back(Action::Connect { conn: CONN, to });
    }
    fn handle_timeout(&mut self, _: Instant) {}
    fn handle_wall_clock(&mut self, _: Instant, _: UnixTime) {}
    fn handle_credit(&mut self, _: Instant) {}
    fn poll_transmit(&mut self, _: Instant, _: ConnId) -> Option<&[u8]> {
        let rest = &PATTERN[self.sent..self.total];
        (self.connected && !rest.is_empty()).then(|| &rest[..rest.len().min(self.chunk)])
    }
    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }
    fn poll_report(&mut self) -> Option<Report> {
        None
    }
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn counters(&self) -> &Counters {
        &self.counters
    }
    fn for_each_shard(&self, _: Instant, _: &mut dyn FnMut(ShardGauge)) {}
    fn is_stopped(&self) -> bool {
        false
    }
}

fn start_half(target: TargetSpec, total: usize, chunk: usize, then: Action) -> (Executors, Receiver<Told>) {
    let spec = StartSpec { cores: vec![0], memory_bytes: 1 << 20, abort_after: Duration::from_mins(10) };
    let executors = start(&spec).unwrap();
    let (told, heard) = channel();
    let make = move |_| {
        let actions = VecDeque::from([Action::Resolve(EndpointId(0))]);
        let counters = Counters::default();
        Box::new(Half { told, actions, counters, connected: false, sent: 0, total, chunk, then })
            as Box<dyn Core>
    };
    let spec = PipelineSpec {
        id: PipelineId(0),
        make: Box::new(make),
        source: target.clone(),
        endpoints: vec![target],
        reports: channel().0,
        dead_letter: None,
    };
    executors.open(0, spec).unwrap();
    (executors, heard)
}

/// Everything up to the end of the connection.
fn to_the_end(heard: &Receiver<Told>) -> Vec<Told> {
    let mut all = Vec::new();
    loop {
        let told = heard.recv_timeout(PATIENCE).unwrap();
        let ended = matches!(told, Told::Closed(_));
        all.push(told);
        if ended {
            return all;
        }
    }
}

fn read_all(stream: &mut impl Read) -> usize {
    usize::try_from(std::io::copy(stream, &mut std::io::sink()).unwrap()).unwrap()
}

#[test]
fn a_reader_that_ends_after_us_has_acknowledged_everything() {
    let (address, server) = serve(|mut stream| read_all(&mut stream));
    let (executors, heard) = start_half(plain(address), TOTAL, 300_001, Action::Finish(CONN));
    let told = to_the_end(&heard);
    let [Told::Connected, Told::Finished, Told::Ledger(ledger), Told::Closed(why)] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!(*ledger, Ledger { sealed: TOTAL as u64, written: TOTAL as u64, unacked: 0 });
    assert_eq!(why.kind, ClosedKind::Eof, "{why:?}");
    assert_eq!(server.join().unwrap(), TOTAL);
    executors.shutdown(PATIENCE).unwrap();
}

#[test]
fn over_tls_our_end_is_close_notify_and_fin_and_the_peers_fin_is_waited_for() {
    for polite in [true, false] {
        let (config, digest) = tls_server();
        let (address, server) = serve(move |tcp| {
            let mut stream = rustls::StreamOwned::new(ServerConnection::new(config).unwrap(), tcp);
            // An end without close_notify would be an error here.
            let total = read_all(&mut stream);
            if polite {
                stream.conn.send_close_notify();
                stream.conn.complete_io(&mut stream.sock).unwrap();
            }
            // Our FIN as well, not only the close_notify.
            assert_eq!(stream.sock.read(&mut [0; 10]).unwrap(), 0);
            total
        });
        let target = with_tls(plain(address), Verify::Fingerprint(vec![digest]));
        let (executors, heard) = start_half(target, TOTAL, 300_001, Action::Finish(CONN));
        let told = to_the_end(&heard);
        let [Told::Connected, Told::Finished, Told::Ledger(ledger), Told::Closed(why)] = told.as_slice()
        else {
            panic!("{told:?}");
        };
        assert_eq!(ledger.unacked, 0);
        assert!(ledger.written > TOTAL as u64 && ledger.sealed == ledger.written, "{ledger:?}");
        assert_eq!(why.kind, ClosedKind::Eof, "{why:?}");
        assert_eq!(server.join().unwrap(), TOTAL);
        executors.shutdown(PATIENCE).unwrap();
    }
}

#[test]
fn a_peer_that_ends_with_bytes_unread_has_not_acknowledged() {
    let (address, server) = serve(|mut stream| {
        let _ = stream.read(&mut [0; 1000]).unwrap();
        // Its own FIN, and nothing is read any more: what is on the way meets a closed door.
        stream.shutdown(Shutdown::Both).unwrap();
        drop(stream);
    });
    let (executors, heard) = start_half(plain(address), TOTAL, 300_001, Action::Finish(CONN));
    let told = to_the_end(&heard);
    let [.., Told::Ledger(ledger), Told::Closed(why)] = told.as_slice() else { panic!("{told:?}") };
    let finished = told.contains(&Told::Finished);
    assert!(!(finished && why.kind == ClosedKind::Eof && ledger.unacked == 0), "{told:?}");
    server.join().unwrap();
    executors.shutdown(PATIENCE).unwrap();
}

#[test]
fn the_ledger_counts_what_the_peers_kernel_has() {
    let (go, wait) = channel::<()>();
    let (address, server) = serve(move |mut stream| {
        let _ = wait.recv();
        read_all(&mut stream)
    });
    // Small enough for the peer's buffers: its kernel takes all of it, its process nothing.
    let (executors, heard) = start_half(plain(address), 10_000, 1_000, Action::Measure(CONN));
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), Told::Connected);
    let end = clock::now() + PATIENCE;
    loop {
        let Told::Ledger(ledger) = heard.recv_timeout(PATIENCE).unwrap() else { panic!("no ledger") };
        assert_eq!((ledger.sealed, ledger.written), (10_000, 10_000));
        if ledger.acked() == 10_000 {
            break;
        }
        assert!(clock::now() < end, "{ledger:?}");
        executors.command(0, PipelineId(0), Command::Stop).unwrap();
    }
    executors.shutdown(PATIENCE).unwrap();
    drop(go);
    assert_eq!(server.join().unwrap(), 10_000);
}

#[test]
fn each_chunk_is_one_datagram() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut target = plain(receiver.local_addr().unwrap());
    target.datagrams = true;
    let (executors, heard) = start_half(target, 10_500, 1_000, Action::Close(CONN));
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), Told::Connected);
    let mut buffer = [0; 2_000];
    for at in 0..11 {
        let bytes = receiver.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..bytes], PATTERN[at * 1_000..(at * 1_000 + 1_000).min(10_500)]);
    }
    executors.shutdown(PATIENCE).unwrap();
}

#[test]
fn a_port_that_nobody_listens_on_surfaces() {
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut target = plain(gone);
    target.datagrams = true;
    // Many datagrams: the refusal of the first comes with a later one.
    let (executors, heard) = start_half(target, TOTAL, 100, Action::Close(CONN));
    let told = to_the_end(&heard);
    let Some(Told::Closed(why)) = told.last() else { panic!("{told:?}") };
    assert_eq!(why.kind, ClosedKind::Connect, "{why:?}");
    assert!(why.detail.contains("refused") && why.detail.contains(&gone.to_string()), "{why:?}");
    executors.shutdown(PATIENCE).unwrap();
}
