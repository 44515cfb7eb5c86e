//! A whole pipeline between peers that send anything: it neither panics nor loops, keeps its memory, and calls nothing
//! safe that was not acknowledged.
//!
//! The driver here is honest, as drivers are; servers are not. While SLS has only said what it holds, a judge counts
//! what the sink has acknowledged, by the most generous reading of its bytes, and holds each safe cursor against that.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use serde_json::Value;
use sls2siem::proto::event::{Action, Closed, ClosedKind, Command, Ledger, Report, To};
use sls2siem::proto::flow::Flow;
use sls2siem::proto::format::Encoder;
use sls2siem::proto::format::hec::{HecEncoder, HecParams};
use sls2siem::proto::format::syslog::{Framing, SyslogEncoder, SyslogParams};
use sls2siem::proto::http1::{Limits, Progress, ResponseParser};
use sls2siem::proto::ids::{ConnId, Epoch, LetterId, RouteId, ShardId};
use sls2siem::proto::pipeline::{Params, Pipeline};
use sls2siem::proto::sink;
use sls2siem::proto::sink::hec::{AckMode, Endpoint};
use sls2siem::proto::sink::syslog::Transport;
use sls2siem::proto::sls::api::{self, Caller};
use sls2siem::proto::sls::body::Compression;
use sls2siem::proto::sls::sign::{Credentials, Version};
use sls2siem::proto::sls::source;
use sls2siem::proto::time::{Instant, UnixTime};

use super::input::Input;

mod peers;

/// Memory of the pipeline.
const MEMORY: u64 = 200_000;
/// What one frame and one body may be above it.
const SLACK: u64 = 300_000;
/// Actions and reports that one event may lead to.
const ACTIONS_MAX: usize = 2_000;
/// Turns at one moment.
const TURNS_MAX: usize = 3_000;
const EVENTS_MAX: usize = 150;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Hec(AckMode),
    Drain,
    Relp,
}

type Records = Vec<(u32, u32)>;

/// A connection as driver and judge see it.
#[derive(Debug)]
struct Link {
    to: To,
    is_open: bool,
    /// Our FIN is out.
    is_finished: bool,
    /// What was sent and not read by the peer.
    sent: Vec<u8>,
    written: u64,
    /// Pulls without an answer: shard and group.
    pulls: VecDeque<(u32, usize)>,
    /// Requests of HEC without an answer: channel and records; polls have none.
    requests: VecDeque<(String, Records)>,
    /// The judge's own reading of the answers.
    parser: ResponseParser,
    /// Records behind each number of RELP, and bytes of answers that are not whole.
    numbers: BTreeMap<u32, Records>,
    heard: Vec<u8>,
    /// All that was sent on a stream.
    stream: Records,
}

struct World {
    kind: Kind,
    now: u64,
    flow: Rc<Flow>,
    pipeline: Pipeline,
    links: BTreeMap<ConnId, Link>,
    epochs: BTreeMap<u32, u64>,
    letters: Vec<(LetterId, Vec<u8>)>,
    /// Acknowledged by the most generous reading, or in the dead letter.
    handled: BTreeSet<(u32, u32)>,
    /// HEC: taken under an id that nobody confirmed so far.
    unconfirmed: Vec<(String, u64, Records)>,
    /// Ids that were ever told `true`.
    told: BTreeSet<u64>,
    /// SLS said something that is not true.
    is_sls_honest: bool,
    actions: usize,
}

/// Settings, then events: a byte for what happens, and what it needs.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.pick(&[
        Kind::Hec(AckMode::Auto),
        Kind::Hec(AckMode::Off),
        Kind::Hec(AckMode::Required),
        Kind::Drain,
        Kind::Relp,
    ]);
    let mut world = World::new(kind, input.byte());
    let mut events = 0;
    while !input.is_empty() && events < EVENTS_MAX {
        events += 1;
        world.event(&mut input);
        world.settle();
    }
    world.end();
}

impl World {
    fn new(kind: Kind, settings: u8) -> Self {
        let flow = Flow::new(MEMORY);
        let params = params(kind, settings & 1 != 0);
        let wall = UnixTime::from_secs(1_767_323_000);
        let pipeline = Pipeline::new(params, Rc::clone(&flow), u64::from(settings), Instant(0), wall);
        let mut world = Self {
            kind,
            now: 1_000_000_000,
            flow,
            pipeline,
            links: BTreeMap::new(),
            epochs: BTreeMap::new(),
            letters: Vec::new(),
            handled: BTreeSet::new(),
            unconfirmed: Vec::new(),
            told: BTreeSet::new(),
            is_sls_honest: true,
            actions: 0,
        };
        world.assign(0);
        world.assign(1);
        world.settle();
        world
    }

    fn now(&self) -> Instant {
        Instant(self.now)
    }

    fn assign(&mut self, shard: u32) {
        let epoch = self.epochs.entry(shard).or_default();
        *epoch += 1;
        let (shard, epoch) = (ShardId(shard), Epoch(*epoch));
        let command = Command::Assign { shard, epoch, cursor: peers::cursor(0), end: None };
        self.pipeline.handle_command(self.now(), command);
    }

    fn event(&mut self, input: &mut Input<'_>) {
        let (what, which) = (input.byte(), input.byte());
        let shard = u32::from(which % 3);
        let name =
            |epochs: &BTreeMap<u32, u64>| (ShardId(shard), Epoch(epochs.get(&shard).copied().unwrap_or(1)));
        let now = self.now();
        match what % 32 {
            0..=5 => self.pull_answer(which, input),
            6..=12 => self.sink_answer(which, input),
            13..=15 => {
                if let Some(conn) = self.pick(which, |link| link.is_open) {
                    let bytes = input.chunk().to_vec();
                    self.is_sls_honest &= self.links[&conn].to != To::Source;
                    self.receive(conn, &bytes);
                }
            }
            16..=18 => self.close(which, input.byte()),
            19 | 20 => self.now += u64::from(which) * 1_000_000,
            21 | 22 => self.now += u64::from(which) * 1_000_000_000,
            23 => self.assign(shard),
            24 => {
                let (shard, epoch) = name(&self.epochs);
                self.pipeline.handle_command(now, Command::Revoke { shard, epoch });
            }
            25 => {
                let (shard, epoch) = name(&self.epochs);
                self.pipeline.handle_command(now, Command::Abandon { shard, epoch });
            }
            26 => {
                let until = Instant(self.now + u64::from(which) * 1_000_000_000);
                self.pipeline.handle_command(now, Command::Lease { until });
            }
            27 if which < 16 => self.pipeline.handle_command(now, Command::Stop),
            28 | 29 if !self.letters.is_empty() => {
                let (id, bytes) = self.letters.remove(usize::from(which) % self.letters.len());
                let result = if what & 0x80 == 0 { Ok(()) } else { Err("no space left on device".into()) };
                if result.is_ok() {
                    self.handled.extend(peers::numbers(&bytes));
                }
                self.pipeline.handle_letter(now, id, result);
            }
            _ => self.pipeline.handle_credit(now),
        }
    }

    /// A connection of these, by a byte.
    fn pick(&self, which: u8, wanted: impl Fn(&Link) -> bool) -> Option<ConnId> {
        let found: Vec<ConnId> =
            self.links.iter().filter(|(_, link)| wanted(link)).map(|(conn, _)| *conn).collect();
        (!found.is_empty()).then(|| found[usize::from(which) % found.len()])
    }

    /// SLS answers a pull: with what it holds, with an error, or with that and some bytes changed.
    fn pull_answer(&mut self, which: u8, input: &mut Input<'_>) {
        let Some(conn) = self.pick(which, |link| link.is_open && !link.pulls.is_empty()) else { return };
        let link = self.links.get_mut(&conn).unwrap();
        let Some((shard, from)) = link.pulls.pop_front() else { return };
        let how = input.byte();
        let mut bytes = match how % 8 {
            0 => peers::sls_error(input.byte()),
            _ => peers::pull(shard, from, usize::from(how / 8 % 4)),
        };
        if how % 8 == 7 {
            peers::spoil(&mut bytes, input);
            self.is_sls_honest = false;
        }
        self.receive(conn, &bytes);
    }

    /// The sink answers something that looks right.
    fn sink_answer(&mut self, which: u8, input: &mut Input<'_>) {
        let Some(conn) = self.pick(which, |link| link.is_open && link.to != To::Source) else { return };
        let how = input.byte();
        let mut bytes = match self.kind {
            Kind::Hec(_) => peers::hec(how, input),
            Kind::Relp => peers::relp(how, input),
            Kind::Drain => input.chunk().to_vec(),
        };
        if how & 0x80 != 0 && how & 0x40 != 0 {
            peers::spoil(&mut bytes, input);
        }
        self.receive(conn, &bytes);
    }

    fn receive(&mut self, conn: ConnId, bytes: &[u8]) {
        self.judge(conn, bytes);
        self.pipeline.handle_received(self.now(), conn, bytes);
    }

    /// Counts what these bytes can acknowledge.
    fn judge(&mut self, conn: ConnId, bytes: &[u8]) {
        let kind = self.kind;
        let link = self.links.get_mut(&conn).unwrap();
        if link.to == To::Source {
            return;
        }
        if kind == Kind::Relp {
            link.heard.extend_from_slice(bytes);
            // Wherever an answer with 200 could stand.
            let text = String::from_utf8_lossy(&link.heard).into_owned();
            for (at, _) in text.match_indices(" rsp ") {
                let number = text[..at].rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
                if let Some(records) = number.parse().ok().and_then(|number: u32| link.numbers.get(&number)) {
                    self.handled.extend(records.iter().copied());
                }
            }
            return;
        }
        let mut rest = bytes;
        let mut body = core::mem::take(&mut link.heard);
        let mut answers = Vec::new();
        while let Ok((used, progress)) = link.parser.handle(rest, &mut body) {
            rest = &rest[used..];
            if progress == Progress::Done {
                let status = link.parser.head().map_or(0, |head| head.status());
                answers.push((status, core::mem::take(&mut body), link.requests.pop_front()));
                link.parser.reset();
            } else if progress == Progress::NeedMore {
                break;
            }
        }
        link.heard = body;
        for (status, body, request) in answers {
            self.answered(status, &body, request);
        }
    }

    fn answered(&mut self, status: u16, body: &[u8], request: Option<(String, Records)>) {
        let Ok(json) = serde_json::from_slice::<Value>(body) else { return };
        for (id, told) in json.get("acks").and_then(Value::as_object).into_iter().flatten() {
            if *told == true
                && let Ok(id) = id.parse()
            {
                self.told.insert(id);
            }
        }
        if let Some((channel, mut records)) = request
            && json.get("code").is_some_and(Value::is_u64)
            && matches!(status, 200..=299 | 400 | 503)
        {
            if let Some(number) = json.get("invalid-event-number").and_then(Value::as_u64) {
                records.truncate(usize::try_from(number).unwrap_or(usize::MAX));
            }
            match json.get("ackId").and_then(Value::as_u64) {
                Some(id) if self.kind != Kind::Hec(AckMode::Off) => {
                    self.unconfirmed.push((channel, id, records));
                }
                _ => self.handled.extend(records),
            }
        }
        let told = &self.told;
        for (_, _, records) in self.unconfirmed.iter().filter(|(_, id, _)| told.contains(id)) {
            self.handled.extend(records.iter().copied());
        }
    }

    fn close(&mut self, which: u8, how: u8) {
        let Some(conn) = self.pick(which, |_| true) else { return };
        let link = self.links.remove(&conn).unwrap();
        let kind = [
            ClosedKind::Eof,
            ClosedKind::Eof,
            ClosedKind::Reset,
            ClosedKind::Timeout,
            ClosedKind::Connect,
            ClosedKind::Tls,
            ClosedKind::Resolve,
        ][usize::from(how) % 7];
        if link.is_open {
            let unacked = if how & 0x80 == 0 { 0 } else { link.written.min(u64::from(how)) };
            let ledger = Ledger { sealed: link.written, written: link.written, unacked };
            self.pipeline.handle_ledger(self.now(), conn, ledger);
            if kind == ClosedKind::Eof && link.is_finished && unacked == 0 && self.kind == Kind::Drain {
                self.handled.extend(link.stream.iter().copied());
            }
        }
        // A close can end the body of an answer.
        if kind == ClosedKind::Eof && link.is_open && link.to != To::Source {
            let mut link = link;
            if link.parser.handle_eof().is_ok() {
                let status = link.parser.head().map_or(0, |head| head.status());
                let request = link.requests.pop_front();
                self.answered(status, &link.heard, request);
            }
        }
        let why = Closed { kind, detail: "as it was given".into() };
        self.pipeline.handle_closed(self.now(), conn, why);
    }

    /// Does what the core wants until it wants nothing more at this moment.
    fn settle(&mut self) {
        self.actions = 0;
        self.pump();
        let mut turns = 0;
        while self.pipeline.poll_timeout().is_some_and(|at| at.0 <= self.now) {
            self.pipeline.handle_timeout(self.now());
            self.pump();
            turns += 1;
            assert!(turns < TURNS_MAX, "it wants to be called again and again at one moment");
        }
        for budget in [&self.flow.bodies, &self.flow.frames] {
            assert!(budget.used() <= budget.limit() + SLACK, "{} of {} bytes", budget.used(), budget.limit());
        }
    }

    fn pump(&mut self) {
        loop {
            self.actions += 1;
            assert!(self.actions < ACTIONS_MAX, "one event leads to actions without an end");
            self.pipeline.handle_beat(self.now());
            if let Some(report) = self.pipeline.poll_report() {
                self.report(&report);
            } else if let Some(action) = self.pipeline.poll_action() {
                self.act(action);
            } else {
                return;
            }
        }
    }

    fn report(&self, report: &Report) {
        let Report::Safe { shard, cursor, .. } = report else { return };
        if !self.is_sls_honest {
            return;
        }
        let group = peers::group_of(cursor).expect("a cursor that SLS never gave");
        for record in peers::records_before(group) {
            assert!(
                self.handled.contains(&(shard.0, record)),
                "{cursor:?} is safe, {shard}-{record} is not stored"
            );
        }
    }

    fn act(&mut self, action: Action) {
        let now = self.now();
        match action {
            Action::Connect { conn, to } => {
                let limits = Limits { body_bytes_max: 1 << 20, ..Limits::default() };
                let link = Link {
                    to,
                    is_open: true,
                    is_finished: false,
                    sent: Vec::new(),
                    written: 0,
                    pulls: VecDeque::new(),
                    requests: VecDeque::new(),
                    parser: ResponseParser::new(limits),
                    numbers: BTreeMap::new(),
                    heard: Vec::new(),
                    stream: Vec::new(),
                };
                assert!(self.links.insert(conn, link).is_none(), "a name is used twice");
                assert!(self.links.len() < 64, "{} connections", self.links.len());
                self.pipeline.handle_connected(now, conn);
            }
            Action::Transmit(conn) => self.transmit(conn),
            Action::Close(conn) => {
                self.links.remove(&conn);
            }
            Action::Finish(conn) => {
                if let Some(link) = self.links.get_mut(&conn) {
                    link.is_finished = true;
                    link.written += 1;
                    self.pipeline.handle_finished(now, conn);
                }
            }
            Action::Measure(_) => {}
            Action::Resolve(endpoint) => {
                let routes = Ok(vec![RouteId(u32::from(endpoint.0))]);
                self.pipeline.handle_routes(now, endpoint, routes);
            }
            Action::DeadLetter(letter) => self.letters.push((letter.id, letter.bytes)),
        }
    }

    fn transmit(&mut self, conn: ConnId) {
        let now = self.now();
        let mut chunks = 0;
        while let Some(chunk) = self.pipeline.poll_transmit(now, conn) {
            let bytes = chunk.to_vec();
            self.pipeline.handle_transmitted(now, conn, bytes.len());
            chunks += 1;
            assert!(chunks < ACTIONS_MAX, "it sends without an end");
            let kind = self.kind;
            let Some(link) = self.links.get_mut(&conn) else { continue };
            assert!(!link.is_finished, "bytes behind our FIN");
            link.written += bytes.len() as u64;
            link.sent.extend_from_slice(&bytes);
            match (link.to, kind) {
                (To::Source, _) => link.pulls.extend(peers::take_pulls(&mut link.sent)),
                (_, Kind::Hec(_)) => link.requests.extend(peers::take_requests(&mut link.sent)),
                (_, Kind::Relp) => link.numbers.extend(peers::take_relp(&mut link.sent)),
                (_, Kind::Drain) => link.stream = peers::numbers(&link.sent),
            }
        }
    }

    /// Everything is let go: nothing of the memory stays out.
    fn end(mut self) {
        // After a stop nothing new is taken, so what is held may be of an earlier epoch.
        for (shard, last) in self.epochs.clone() {
            for epoch in 1..=last {
                let command = Command::Abandon { shard: ShardId(shard), epoch: Epoch(epoch) };
                self.pipeline.handle_command(self.now(), command);
            }
        }
        self.settle();
        assert_eq!(self.flow.bodies.used(), 0, "bodies of shards that were given up");
        drop(self.pipeline);
        assert_eq!((self.flow.bodies.used(), self.flow.frames.used()), (0, 0));
    }
}

fn params(kind: Kind, dead_letter: bool) -> Params {
    let endpoint = api::Endpoint { project: "p", host: "sls.test", port: 443, tls: true };
    Params {
        source: source::Params {
            caller: Caller::new(&endpoint, "group", "consumer", Version::V1),
            logstore: "l".into(),
            query: String::new(),
            processor: String::new(),
            compression: Compression::Lz4,
            max_log_groups: 10,
            fetch_interval: Duration::from_millis(200),
            timeout: Duration::from_secs(60),
            pull_bytes: 4_000,
            raw_bytes_max: 1 << 20,
        },
        credentials: Credentials {
            access_key_id: "id".to_owned(),
            access_key_secret: "secret".to_owned(),
            security_token: None,
        },
        encoder: encoder(kind),
        sink: sink_params(kind),
        batch_bytes: 2_000,
        batch_age: Duration::from_millis(500),
        dead_letter,
    }
}

fn encoder(kind: Kind) -> Encoder {
    let framing = match kind {
        Kind::Hec(_) => return Encoder::Hec(HecEncoder::new(HecParams::default())),
        Kind::Drain => Framing::OctetCounting,
        Kind::Relp => Framing::Marked,
    };
    let params = SyslogParams { framing, ..SyslogParams::default() };
    Encoder::Syslog(Box::new(SyslogEncoder::new(params).expect("the defaults are right")))
}

fn sink_params(kind: Kind) -> sink::Params {
    let transport = match kind {
        Kind::Hec(ack) => {
            let endpoint =
                |name: &str| Endpoint { authority: format!("{name}:8088"), base_path: String::new() };
            return sink::Params::Hec(sink::hec::Params {
                endpoints: vec![endpoint("a"), endpoint("b")],
                token: String::from("token").into(),
                ack,
                ack_timeout: Duration::from_secs(300),
                poll_interval: Duration::from_secs(1),
                connections: 2,
                pipeline_depth: 4,
                turn: Duration::from_secs(2),
                timeout: Duration::from_secs(60),
                gzip: false,
            });
        }
        Kind::Drain => Transport::Drain,
        Kind::Relp => Transport::Relp,
    };
    sink::Params::Syslog(sink::syslog::Params {
        endpoints: vec![transport; 2],
        drain_interval: Duration::from_secs(2),
        timeout: Duration::from_secs(90),
        connections: 1,
        window: 7,
        udp_rate: 0,
    })
}
