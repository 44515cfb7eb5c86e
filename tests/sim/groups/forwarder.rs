//! One forwarder: the lease, the pipeline, and the small delays between the two.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use sls2siem::proto::event::{Command, To};
use sls2siem::proto::flow::Flow;
use sls2siem::proto::format::Encoder;
use sls2siem::proto::format::hec::{HecEncoder, HecParams};
use sls2siem::proto::ids::ConnId;
use sls2siem::proto::pipeline::{self, Pipeline};
use sls2siem::proto::sink;
use sls2siem::proto::sink::hec::{AckMode, Endpoint};
use sls2siem::proto::sls::api::{self, Caller, CursorFrom};
use sls2siem::proto::sls::body::Compression;
use sls2siem::proto::sls::lease::call::{CallError, CallId, Reply};
use sls2siem::proto::sls::lease::{self, Lease, OnExpired};
use sls2siem::proto::sls::sign::{Credentials, Version};
use sls2siem::proto::sls::source;
use sls2siem::proto::time::{Instant, UnixTime};

pub const TIMEOUT: u64 = 6;
pub const BEAT: u64 = 2;

/// A connection as the network sees it.
pub struct Link {
    pub to: To,
    pub inbox: Vec<u8>,
    pub to_server_at: u64,
    pub to_client_at: u64,
    pub dead: bool,
    /// How many orders its data plane had when the requests of events that the server has not read yet were begun.
    pub begun: VecDeque<u64>,
}

/// A process.
pub struct Forwarder {
    /// Its name in the group.
    pub name: String,
    /// Which process this is: events for an earlier one are not heard.
    pub process: u64,
    pub lease: Lease,
    pub pipeline: Pipeline,
    pub flow: Rc<Flow>,
    pub links: BTreeMap<ConnId, Link>,
    /// Nothing happens in it before this moment; its two planes wake up apart.
    pub frozen: [u64; 2],
    /// Everything of it was told to stop.
    pub stopping: bool,
    /// End of the lease: counted here, from the sending of the last heartbeat that was answered in time.
    pub lease_until: u64,
    /// When the heartbeats that are under way were sent, and the last of all.
    pub beats: BTreeMap<CallId, u64>,
    pub last_beat: u64,
    /// When the last heartbeat was sent that was answered.
    pub answered_beat: u64,
    /// When shards came, left, and were last asked for their checkpoint.
    pub acquired: BTreeMap<u32, u64>,
    pub given_up: BTreeMap<u32, u64>,
    pub asked: BTreeMap<u32, u64>,
    /// Orders that reached its data plane: two things at the same time still have an order.
    pub orders: u64,
    /// Shards that were taken from its data plane, and with which order.
    pub lost: BTreeMap<u32, u64>,
}

/// Control plane and data plane, as indexes of [`Forwarder::frozen`].
pub const CONTROL: usize = 0;
pub const DATA: usize = 1;

impl Forwarder {
    pub fn new(name: String, process: u64, seed: u64, now: u64, memory: u64, in_order: bool) -> Self {
        let now = Instant(now);
        let seed = seed.wrapping_mul(31).wrapping_add(process);
        let flow = Flow::new(memory);
        Self {
            lease: Lease::new(params(seed, in_order), now),
            pipeline: Pipeline::new(core(&name), Rc::clone(&flow), seed, now, wall(now.0)),
            flow,
            links: BTreeMap::new(),
            frozen: [0, 0],
            stopping: false,
            lease_until: 0,
            beats: BTreeMap::new(),
            last_beat: 0,
            answered_beat: 0,
            acquired: BTreeMap::new(),
            given_up: BTreeMap::new(),
            asked: BTreeMap::new(),
            orders: 0,
            lost: BTreeMap::new(),
            name,
            process,
        }
    }

    /// An order reaches the data plane.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        self.orders += 1;
        match &command {
            Command::Abandon { shard, .. } => drop(self.lost.insert(shard.0, self.orders)),
            Command::Assign { shard, .. } => drop(self.lost.remove(&shard.0)),
            _ => {}
        }
        self.pipeline.handle_command(now, command);
    }

    /// An answer reaches the control plane; what it does to the lease is counted here as well.
    pub fn handle_reply(&mut self, now: Instant, id: CallId, result: Result<Reply, CallError>) {
        if let Some(sent) = self.beats.remove(&id).filter(|_| result.is_ok()) {
            self.answered_beat = sent;
            let until = sent + TIMEOUT * 1_000_000_000;
            if until > now.0 {
                self.lease_until = until;
            }
        }
        self.lease.handle_reply(now, id, result);
    }

    /// When it wants to be woken.
    pub fn wake_at(&self) -> Option<(u64, usize)> {
        let lease = self.lease.poll_timeout().map(|at| (at.0.max(self.frozen[CONTROL]), CONTROL));
        let plane = self.pipeline.poll_timeout().map(|at| (at.0.max(self.frozen[DATA]), DATA));
        [lease, plane].into_iter().flatten().min()
    }
}

pub fn wall(now: u64) -> UnixTime {
    UnixTime(1_767_323_000_000_000_000 + now)
}

fn params(seed: u64, in_order: bool) -> lease::Params {
    lease::Params {
        group: "g".into(),
        heartbeat_interval: Duration::from_secs(BEAT),
        timeout: Duration::from_secs(TIMEOUT),
        in_order,
        start: CursorFrom::Begin,
        began: wall(0),
        stop: None,
        checkpoint_interval: Duration::from_millis(500),
        on_expired_cursor: OnExpired::Begin,
        fail_fast: false,
        drain_wait: Duration::from_secs(TIMEOUT),
        stop_wait: Duration::from_secs(30),
        calls_max: 2,
        seed,
    }
}

fn core(name: &str) -> pipeline::Params {
    let endpoint = api::Endpoint { project: "p", host: "sls.test", port: 443, tls: true };
    let endpoints =
        ["a", "b"].map(|name| Endpoint { authority: format!("{name}:8088"), base_path: String::new() });
    pipeline::Params {
        source: source::Params {
            caller: Caller::new(&endpoint, "g", name, Version::V1),
            logstore: "l".into(),
            query: String::new(),
            processor: String::new(),
            compression: Compression::Lz4,
            max_log_groups: 1_000,
            fetch_interval: Duration::from_millis(200),
            timeout: Duration::from_secs(20),
            pull_bytes: 4_000,
            raw_bytes_max: 64 << 20,
        },
        credentials: Credentials {
            access_key_id: "id".to_owned(),
            access_key_secret: "secret".to_owned(),
            security_token: None,
        },
        encoder: Encoder::Hec(HecEncoder::new(HecParams::default())),
        sink: sink::Params::Hec(sink::hec::Params {
            endpoints: endpoints.to_vec(),
            token: String::from("token").into(),
            ack: AckMode::Auto,
            ack_timeout: Duration::from_secs(60),
            poll_interval: Duration::from_secs(1),
            connections: 2,
            pipeline_depth: 4,
            turn: Duration::from_millis(200),
            timeout: Duration::from_secs(20),
            gzip: false,
        }),
        batch_bytes: 2_000,
        batch_age: Duration::from_millis(500),
        dead_letter: false,
    }
}
