//! The forwarder of a run: which sink it has, and its settings.

use std::rc::Rc;
use std::time::Duration;

use sls2siem::proto::flow::Flow;
use sls2siem::proto::format::Encoder;
use sls2siem::proto::format::hec::{HecEncoder, HecParams};
use sls2siem::proto::format::syslog::{Framing, SyslogEncoder, SyslogParams};
use sls2siem::proto::pipeline::{Params, Pipeline};
use sls2siem::proto::sink;
use sls2siem::proto::sink::hec::{AckMode, Endpoint};
use sls2siem::proto::sink::syslog::Transport;
use sls2siem::proto::sls::api::{self, Caller};
use sls2siem::proto::sls::body::Compression;
use sls2siem::proto::sls::sign::{Credentials, Version};
use sls2siem::proto::sls::source;
use sls2siem::proto::time::{Instant, UnixTime};

/// What the records go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Hec,
    Drain,
    Relp,
}

impl Kind {
    /// The seeds are shared between the kinds.
    pub fn of(seed: u64) -> Self {
        match seed % 4 {
            2 => Self::Drain,
            3 => Self::Relp,
            _ => Self::Hec,
        }
    }
}

pub fn new_pipeline(seed: u64, kind: Kind, flow: Rc<Flow>, process: u64) -> Pipeline {
    let endpoint = api::Endpoint { project: "p", host: "sls.test", port: 443, tls: true };
    let params = Params {
        source: source::Params {
            caller: Caller::new(&endpoint, "group", "consumer", Version::V1),
            logstore: "l".into(),
            query: String::new(),
            processor: String::new(),
            compression: Compression::Lz4,
            max_log_groups: 1_000,
            fetch_interval: Duration::from_millis(200),
            timeout: Duration::from_secs(60),
            pull_bytes: 4_000,
            raw_bytes_max: 64 << 20,
        },
        credentials: Credentials {
            access_key_id: "id".to_owned().into(),
            access_key_secret: "secret".to_owned().into(),
            security_token: None,
        },
        encoder: encoder(kind),
        sink: sink_params(seed, kind),
        batch_bytes: 2_000,
        batch_age: Duration::from_millis(500),
        dead_letter: seed % 2 == 1 && matches!(kind, Kind::Hec),
    };
    let seed = seed.wrapping_mul(31).wrapping_add(process);
    Pipeline::new(params, flow, seed, Instant(0), UnixTime::from_secs(1_767_323_000))
}

fn encoder(kind: Kind) -> Encoder {
    let framing = match kind {
        Kind::Hec => return Encoder::Hec(HecEncoder::new(HecParams::default())),
        Kind::Drain => Framing::OctetCounting,
        Kind::Relp => Framing::Marked,
    };
    let params = SyslogParams { framing, ..SyslogParams::default() };
    Encoder::Syslog(Box::new(SyslogEncoder::new(params).expect("the defaults are right")))
}

fn sink_params(seed: u64, kind: Kind) -> sink::Params {
    let transport = match kind {
        Kind::Hec => {
            let endpoints = ["a", "b"]
                .map(|name| Endpoint { authority: format!("{name}:8088"), base_path: String::new() });
            return sink::Params::Hec(sink::hec::Params {
                endpoints: endpoints.to_vec(),
                token: String::from("token").into(),
                ack: AckMode::Auto,
                ack_timeout: Duration::from_secs(300),
                poll_interval: Duration::from_secs(1),
                connections: 2,
                pipeline_depth: 4,
                // Sooner than in life in some: most runs are over by then.
                turn: if (seed / 4).is_multiple_of(3) { Duration::from_millis(5) } else { sink::hec::TURN },
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
        connections: 1 + usize::from(seed.is_multiple_of(8)),
        window: [1, 7, 128][usize::try_from(seed / 4 % 3).unwrap()],
        udp_rate: 0,
    })
}
