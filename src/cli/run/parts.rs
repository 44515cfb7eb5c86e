//! From checked settings to what each room is started with.
//!
//! Why: `config` knows what a user wrote, the rooms know small structs of their own; this is the only place
//! that knows both, so that neither has to.
//! Invariants: 1. nothing is decided here but the constants below. 2. secrets go from one secret type to the next.
//! Bounds: none. Driven by: [`super`]. Spec: the settings reference in README.md.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};

use crate::config::{
    DeadLetterConfig, EventShape, HecAck, HecCompression, HecConfig, HecUrl, Moment, OnExpiredCursor, Pin,
    PipelineConfig, ProxyUrl, Signature, SinkConfig, SlsCompression, SlsConfig, StdoutFormat, TlsConfig,
    Verify,
};
use crate::control::pipeline::WORK_CALLERS;
use crate::control::placement;
use crate::control::sls_api::{ApiSpec, CALL_TIMEOUT_MAX};
use crate::dead_letter::record::Origin;
use crate::dead_letter::{DeadLetterError, Writer, WriterSpec};
use crate::drive::{self, ProxySpec, TargetSpec, TlsSpec, clock};
use crate::proto::format::Encoder;
use crate::proto::format::hec::{EventForm, HecEncoder, HecParams};
use crate::proto::format::template::Template;
use crate::proto::ids::ShardId;
use crate::proto::pipeline;
use crate::proto::sink;
use crate::proto::sls::api::{Caller, CursorFrom};
use crate::proto::sls::body::Compression;
use crate::proto::sls::lease::{self, OnExpired};
use crate::proto::sls::sign::{Credentials, Version};
use crate::proto::sls::source;
use crate::proto::time::UnixTime;
use crate::report::Place;

/// How long a stop may take until what is left is cut.
const STOP_WAIT: Duration = Duration::from_secs(30);
/// A stop time counts on the clock of SLS; so much later it has passed there, too.
const STOP_MARGIN: Duration = Duration::from_secs(3);
/// The start of this process counts on the clock of SLS, which may be behind ours.
const BEGAN_MARGIN: Duration = Duration::from_mins(1);
/// How long SLS may leave a request unacknowledged by its kernel: a few hundred bytes, so a dead peer is known early.
const PULL_PATIENCE: Duration = Duration::from_secs(30);
/// Time for a whole pull.
const PULL_TIMEOUT: Duration = Duration::from_mins(1);
/// Decompressed bytes that a pull aims at: fits the cache of a core, and few wakes.
const PULL_BYTES: u64 = 1 << 20;
/// Largest decompressed body that is believed.
const RAW_BYTES_MAX: u64 = 64 << 20;
/// Between two questions whether the indexer has stored something.
const ACK_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The way to SLS, for both planes.
pub(in crate::cli) fn api(sls: &SlsConfig, consumer: &str) -> ApiSpec {
    ApiSpec {
        endpoint: sls.endpoint.clone(),
        project: sls.project.clone(),
        logstore: sls.logstore.clone(),
        group: sls.consumer_group.clone(),
        consumer: consumer.to_owned(),
        version: match &sls.signature {
            Signature::V1 => Version::V1,
            Signature::V4 { region } => Version::V4 { region: region.clone() },
        },
        ca_file: sls.ca_file.clone(),
        proxy: sls.proxy.clone(),
        // Several calls fit into one lease, also where it is short.
        call_timeout: (sls.timeout / 4).clamp(Duration::from_secs(1), CALL_TIMEOUT_MAX),
    }
}

/// What the lease needs to know.
pub(super) fn lease(sls: &SlsConfig, fail_fast: bool, seed: u64) -> lease::Params {
    let (now, wall) = (clock::now(), clock::wall());
    lease::Params {
        stop: sls.stop.map(UnixTime::from_secs).map(|at| lease::Bound {
            at,
            pause_from: now + at.since(wall),
            known_from: now + (at + STOP_MARGIN).since(wall),
        }),
        group: sls.consumer_group.clone(),
        heartbeat_interval: sls.heartbeat_interval,
        timeout: sls.timeout,
        in_order: sls.in_order,
        start: match sls.start {
            Moment::Begin => CursorFrom::Begin,
            Moment::End => CursorFrom::End,
            Moment::At(secs) => CursorFrom::Time(UnixTime::from_secs(secs)),
        },
        began: UnixTime::from_secs(wall.as_secs().saturating_sub(BEGAN_MARGIN.as_secs())),
        checkpoint_interval: sls.checkpoint_interval,
        on_expired_cursor: match sls.on_expired_cursor {
            OnExpiredCursor::Begin => OnExpired::Begin,
            OnExpiredCursor::Stop => OnExpired::Stop,
        },
        fail_fast,
        drain_wait: sls.timeout,
        stop_wait: STOP_WAIT,
        calls_max: WORK_CALLERS,
        seed,
    }
}

/// What the core of a pipeline needs on each executor. The error is a text for the operator.
pub(in crate::cli) fn core(
    config: &PipelineConfig,
    caller: Caller,
    credentials: Credentials,
    dead_letter: bool,
) -> Result<pipeline::Params, String> {
    let (encoder, sink, batch_bytes, batch_age) = match &config.sink {
        SinkConfig::Hec(hec) => (encoder(&config.sls, hec)?, hec_sink(hec), hec.batch_bytes, hec.batch_age),
        SinkConfig::Syslog(syslog) => (
            super::syslog::encoder(syslog)?,
            super::syslog::sink(syslog),
            syslog.batch_bytes,
            syslog.batch_age,
        ),
        SinkConfig::Stdout(stdout) => {
            let encoder = match stdout.format {
                StdoutFormat::Hec => {
                    let host = Template::parse("{__source__}").map_err(|error| error.to_string())?;
                    Encoder::Hec(HecEncoder::new(HecParams { host, ..HecParams::default() }))
                }
                StdoutFormat::Syslog => super::syslog::line_encoder()?,
            };
            (encoder, sink::Params::Stdout, 64 << 10, Duration::from_millis(200))
        }
    };
    let sls = &config.sls;
    let source = source::Params {
        caller,
        logstore: sls.logstore.clone(),
        query: sls.query.clone().unwrap_or_default(),
        processor: sls.processor.clone().unwrap_or_default(),
        compression: match sls.compression {
            SlsCompression::Lz4 => Compression::Lz4,
            SlsCompression::Zstd => Compression::Zstd,
            SlsCompression::None => Compression::None,
        },
        max_log_groups: sls.max_log_groups,
        fetch_interval: sls.fetch_interval,
        timeout: PULL_TIMEOUT,
        pull_bytes: PULL_BYTES,
        raw_bytes_max: RAW_BYTES_MAX,
    };
    Ok(pipeline::Params { source, credentials, encoder, sink, batch_bytes, batch_age, dead_letter })
}

fn encoder(sls: &SlsConfig, hec: &HecConfig) -> Result<Encoder, String> {
    let template = |key: &str, text: &str| {
        Template::parse(text).map_err(|error| format!("hec.{key} = {text:?} is not a template: {error}"))
    };
    let fields = hec.fields.iter().map(|(name, text)| Ok((name.clone(), template("fields", text)?)));
    Ok(Encoder::Hec(HecEncoder::new(HecParams {
        event: match &hec.event {
            EventShape::Object => EventForm::Object,
            EventShape::String => EventForm::String,
            EventShape::Raw(field) => EventForm::Raw(field.clone()),
        },
        index: template("index", &hec.index)?,
        sourcetype: template("sourcetype", &hec.sourcetype)?,
        source: template("source", &hec.source)?,
        host: template("host", &hec.host)?,
        fields: fields.collect::<Result<_, String>>()?,
        json_fields: hec.json_fields.iter().map(|(topic, names)| (topic.clone(), names.clone())).collect(),
        event_id: hec.event_id.then(|| format!("{}/{}", sls.project, sls.logstore)),
    })))
}

fn hec_sink(hec: &HecConfig) -> sink::Params {
    let endpoint =
        |url: &HecUrl| sink::hec::Endpoint { authority: url.host_header(), base_path: url.prefix.clone() };
    sink::Params::Hec(sink::hec::Params {
        endpoints: hec.endpoints.iter().map(endpoint).collect(),
        token: hec.token.expose_secret().to_owned().into(),
        ack: match hec.ack {
            HecAck::Auto => sink::hec::AckMode::Auto,
            HecAck::Required => sink::hec::AckMode::Required,
            HecAck::Off => sink::hec::AckMode::Off,
        },
        ack_timeout: hec.ack_timeout,
        poll_interval: ACK_POLL_INTERVAL,
        connections: hec.connections,
        pipeline_depth: hec.pipeline_depth,
        turn: sink::hec::TURN,
        timeout: hec.timeout,
        gzip: hec.compression == HecCompression::Gzip,
    })
}

/// The writer of the dead letter, where there is one.
pub(super) fn dead_letter(config: &DeadLetterConfig) -> Result<Option<Writer>, DeadLetterError> {
    let Some(dir) = config.dir.clone() else { return Ok(None) };
    let rotate_bytes = u64::try_from(config.rotate_bytes).unwrap_or(u64::MAX);
    Writer::start(&WriterSpec { dir, rotate_bytes, clock: clock::wall }).map(Some)
}

/// Whose records the dead letter gets from a pipeline.
pub(super) fn origin(config: &PipelineConfig) -> Origin {
    Origin {
        pipeline: config.name.clone(),
        project: config.sls.project.clone(),
        logstore: config.sls.logstore.clone(),
        sink: Place::new(config).sink.to_owned(),
    }
}

/// Where pulls go to.
pub(in crate::cli) fn source(sls: &SlsConfig) -> TargetSpec {
    TargetSpec {
        host: sls.endpoint.connect_host(&sls.project),
        port: sls.endpoint.port,
        tls: sls.endpoint.https.then(|| TlsSpec { ca_file: sls.ca_file.clone(), ..TlsSpec::default() }),
        server_name: None,
        proxy: sls.proxy.as_ref().map(proxy),
        patience: PULL_PATIENCE,
        datagrams: false,
    }
}

/// Where frames go to.
pub(in crate::cli) fn endpoints(sink: &SinkConfig) -> Vec<TargetSpec> {
    let hec = match sink {
        SinkConfig::Hec(hec) => hec,
        SinkConfig::Syslog(syslog) => return super::syslog::endpoints(syslog),
        SinkConfig::Stdout(_) => return Vec::new(),
    };
    let target = |url: &HecUrl| TargetSpec {
        host: url.host.clone(),
        port: url.port,
        tls: url.https.then(|| tls(&hec.tls)),
        server_name: hec.tls.server_name.clone(),
        proxy: None,
        patience: hec.timeout,
        datagrams: false,
    };
    hec.endpoints.iter().map(target).collect()
}

pub(in crate::cli) fn tls(tls: &TlsConfig) -> TlsSpec {
    TlsSpec {
        ca_file: tls.ca_file.clone(),
        client_cert: tls.client_cert.clone(),
        client_key: tls.client_key.clone(),
        verify: match &tls.verify {
            Verify::Full => drive::Verify::Full,
            Verify::Ca => drive::Verify::Ca,
            Verify::Fingerprint(known) => drive::Verify::Fingerprint(known.clone()),
            Verify::Off => drive::Verify::Off,
        },
    }
}

fn proxy(url: &ProxyUrl) -> ProxySpec {
    let basic = |user_info: &SecretString| {
        SecretString::from(format!("Basic {}", STANDARD.encode(user_info.expose_secret())))
    };
    ProxySpec { host: url.host.clone(), port: url.port, authorization: url.user_info.as_ref().map(basic) }
}

/// Shards with a fixed core.
pub(in crate::cli) fn pins(pins: &[Pin]) -> Vec<placement::Pin> {
    let pin = |pin: &Pin| placement::Pin {
        pipeline: pin.pipeline.clone(),
        shard: ShardId(pin.shard),
        core: pin.core,
    };
    pins.iter().map(pin).collect()
}
