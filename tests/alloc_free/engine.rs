//! The whole engine between two peers that always answer: how much it allocates for a pull.

use std::time::Duration;

use sls2siem::proto::event::{Action, Command, Report, To};
use sls2siem::proto::flow::Flow;
use sls2siem::proto::format::Encoder;
use sls2siem::proto::format::hec::HecEncoder;
use sls2siem::proto::ids::{ConnId, Cursor, EndpointId, Epoch, RouteId, ShardId};
use sls2siem::proto::pipeline::{Params, Pipeline};
use sls2siem::proto::sink;
use sls2siem::proto::sink::hec::{AckMode, Endpoint};
use sls2siem::proto::sls::api::{self, Caller};
use sls2siem::proto::sls::body::Compression;
use sls2siem::proto::sls::sign::{Credentials, Version};
use sls2siem::proto::sls::source;
use sls2siem::proto::time::{Instant, UnixTime};

/// An engine with one shard, its connections and answers that were made beforehand.
pub(crate) struct Engine {
    pipeline: Pipeline,
    now: Instant,
    source: Option<ConnId>,
    pulls: [Vec<u8>; 2],
    pub(crate) pulled: u64,
    pub(crate) safe: u64,
}

impl Engine {
    /// Every pull answers with `raw`, in one log group or as many as it holds.
    pub(crate) fn new(raw: &[u8], groups: u32) -> Self {
        let packed = lz4_flex::block::compress(raw);
        let answer = |next: &str| {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nx-log-bodyrawsize: {}\r\nx-log-count: {groups}\r\n\
                 x-log-cursor: {next}\r\nx-log-compresstype: lz4\r\nx-log-requestid: R\r\n\r\n",
                packed.len(),
                raw.len()
            );
            [head.as_bytes(), &packed].concat()
        };
        let mut engine = Self {
            pipeline: Pipeline::new(params(), Flow::new(64 << 20), 1, Instant(0), UnixTime(0)),
            now: Instant(1),
            source: None,
            pulls: [answer("QQ=="), answer("Qg==")],
            pulled: 0,
            safe: 0,
        };
        let assign =
            Command::Assign { shard: ShardId(0), epoch: Epoch(1), cursor: Cursor::new("Qg=="), end: None };
        engine.pipeline.handle_routes(engine.now, EndpointId(0), Ok(vec![RouteId(0)]));
        engine.pipeline.handle_command(engine.now, assign);
        engine
    }

    /// Runs until so many pulls are acknowledged.
    pub(crate) fn run(&mut self, pulls: u64) {
        let end = self.safe + pulls;
        while self.safe < end {
            self.drain();
            if let Some(at) = self.pipeline.poll_timeout() {
                self.now = self.now.max(at) + Duration::from_micros(1);
                self.pipeline.handle_timeout(self.now);
            }
        }
    }

    fn drain(&mut self) {
        loop {
            self.pipeline.handle_beat(self.now);
            while let Some(report) = self.pipeline.poll_report() {
                match report {
                    Report::Safe { .. } => self.safe += 1,
                    other => panic!("{other:?}"),
                }
            }
            let Some(action) = self.pipeline.poll_action() else { return };
            match action {
                Action::Connect { conn, to } => {
                    if to == To::Source {
                        self.source = Some(conn);
                    }
                    self.pipeline.handle_connected(self.now, conn);
                }
                Action::Transmit(conn) => self.transmit(conn),
                Action::Close(_)
                | Action::Resolve(_)
                | Action::Finish(_)
                | Action::Measure(_)
                | Action::DeadLetter(_) => {}
            }
        }
    }

    fn transmit(&mut self, conn: ConnId) {
        let mut requests = 0;
        while let Some(chunk) = self.pipeline.poll_transmit(self.now, conn) {
            requests += u32::from(chunk.starts_with(b"POST ") || chunk.starts_with(b"GET "));
            let bytes = chunk.len();
            self.pipeline.handle_transmitted(self.now, conn, bytes);
        }
        for _ in 0..requests {
            if self.source == Some(conn) {
                self.pulled += 1;
                let answer = &self.pulls[usize::from(self.pulled.is_multiple_of(2))];
                self.pipeline.handle_received(self.now, conn, answer);
            } else {
                let answer =
                    b"HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n{\"text\":\"Success\",\"code\":0}";
                self.pipeline.handle_received(self.now, conn, answer);
            }
        }
    }
}

fn params() -> Params {
    let endpoint = api::Endpoint { project: "p", host: "sls.test", port: 443, tls: true };
    Params {
        source: source::Params {
            caller: Caller::new(&endpoint, "group", "consumer", Version::V1),
            logstore: "l".into(),
            query: String::new(),
            processor: String::new(),
            compression: Compression::Lz4,
            max_log_groups: 1_000,
            fetch_interval: Duration::from_millis(200),
            timeout: Duration::from_mins(1),
            pull_bytes: 1 << 20,
            raw_bytes_max: 64 << 20,
        },
        credentials: Credentials {
            access_key_id: "id".into(),
            access_key_secret: "secret".into(),
            security_token: None,
        },
        encoder: Encoder::Hec(HecEncoder::new(super::params().into_iter().next().unwrap())),
        sink: sink::Params::Hec(sink::hec::Params {
            endpoints: vec![Endpoint { authority: "hec:8088".into(), base_path: String::new() }],
            token: String::from("token").into(),
            ack: AckMode::Auto,
            ack_timeout: Duration::from_mins(5),
            poll_interval: Duration::from_secs(1),
            connections: 2,
            pipeline_depth: 4,
            turn: sink::hec::TURN,
            timeout: Duration::from_mins(1),
            gzip: false,
        }),
        batch_bytes: 1 << 20,
        batch_age: Duration::from_millis(500),
        dead_letter: false,
    }
}
