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
    Config, CredentialsConfig, EventShape, HecAck, HecCompression, HecConfig, HecUrl, Moment,
    OnExpiredCursor, Pin, PipelineConfig, ProxyUrl, Signature, SinkConfig, SlsCompression, SlsConfig,
    TlsConfig, Verify,
};
use crate::control::pipeline::WORK_CALLERS;
use crate::control::placement;
use crate::control::sls_api::{ApiSpec, CALL_TIMEOUT_MAX};
use crate::drive::{self, ProxySpec, TargetSpec, TlsSpec};
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

/// How long a stop may take until what is left is cut.
const STOP_WAIT: Duration = Duration::from_secs(30);
/// Time for a whole pull.
const PULL_TIMEOUT: Duration = Duration::from_mins(1);
/// Decompressed bytes that a pull aims at: fits the cache of a core, and few wakes.
const PULL_BYTES: u64 = 1 << 20;
/// Largest decompressed body that is believed.
const RAW_BYTES_MAX: u64 = 64 << 20;
/// Between two questions whether the indexer has stored something.
const ACK_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The way to SLS, for both planes.
pub(super) fn api(sls: &SlsConfig, consumer: &str) -> ApiSpec {
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
    lease::Params {
        group: sls.consumer_group.clone(),
        heartbeat_interval: sls.heartbeat_interval,
        timeout: sls.timeout,
        in_order: sls.in_order,
        start: match sls.start {
            Moment::Begin => CursorFrom::Begin,
            Moment::End => CursorFrom::End,
            Moment::At(secs) => CursorFrom::Time(UnixTime::from_secs(secs)),
        },
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
pub(super) fn core(
    config: &PipelineConfig,
    caller: Caller,
    credentials: Credentials,
) -> Result<pipeline::Params, String> {
    let (encoder, sink, batch_bytes, batch_age) = match &config.sink {
        SinkConfig::Hec(hec) => (encoder(&config.sls, hec)?, hec_sink(hec), hec.batch_bytes, hec.batch_age),
        SinkConfig::Stdout(_) => {
            let host = Template::parse("{__source__}").map_err(|error| error.to_string())?;
            let encoder = Encoder::Hec(HecEncoder::new(HecParams { host, ..HecParams::default() }));
            (encoder, sink::Params::Stdout, 64 << 10, Duration::from_millis(200))
        }
        SinkConfig::Syslog(_) => return Err("[syslog] is not built into this version - use [hec]".into()),
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
    Ok(pipeline::Params { source, credentials, encoder, sink, batch_bytes, batch_age })
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
        timeout: hec.timeout,
        gzip: hec.compression == HecCompression::Gzip,
    })
}

/// Where pulls go to.
pub(super) fn source(sls: &SlsConfig) -> TargetSpec {
    TargetSpec {
        host: sls.endpoint.connect_host(&sls.project),
        port: sls.endpoint.port,
        tls: sls.endpoint.https.then(|| TlsSpec { ca_file: sls.ca_file.clone(), ..TlsSpec::default() }),
        server_name: None,
        proxy: sls.proxy.as_ref().map(proxy),
    }
}

/// Where frames go to.
pub(super) fn endpoints(sink: &SinkConfig) -> Vec<TargetSpec> {
    let SinkConfig::Hec(hec) = sink else { return Vec::new() };
    let target = |url: &HecUrl| TargetSpec {
        host: url.host.clone(),
        port: url.port,
        tls: url.https.then(|| tls(&hec.tls)),
        server_name: hec.tls.server_name.clone(),
        proxy: None,
    };
    hec.endpoints.iter().map(target).collect()
}

fn tls(tls: &TlsConfig) -> TlsSpec {
    TlsSpec {
        ca_file: tls.ca_file.clone(),
        client_cert: tls.client_cert.clone(),
        client_key: tls.client_key.clone(),
        verify: match tls.verify {
            Verify::Full => drive::Verify::Full,
            Verify::Ca => drive::Verify::Ca,
            Verify::Fingerprint(digest) => drive::Verify::Fingerprint(digest),
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
pub(super) fn pins(pins: &[Pin]) -> Vec<placement::Pin> {
    let pin = |pin: &Pin| placement::Pin {
        pipeline: pin.pipeline.clone(),
        shard: ShardId(pin.shard),
        core: pin.core,
    };
    pins.iter().map(pin).collect()
}

/// What is set but cannot be had yet, as a text for the operator.
pub(super) fn not_built(config: &Config) -> Option<&'static str> {
    if config.dead_letter.dir.is_some() {
        return Some(
            "[dead_letter] is not built into this version: a record that the sink refuses holds its shard - leave it out",
        );
    }
    config.pipelines.iter().find_map(not_built_in)
}

fn not_built_in(config: &PipelineConfig) -> Option<&'static str> {
    if config.sls.stop.is_some() {
        return Some("[sls] stop is not built into this version - leave it out");
    }
    if matches!(config.sls.credentials, CredentialsConfig::EcsRamRole { .. }) {
        return Some(
            "[sls] credentials = \"ecs-ram-role\" is not built into this version - use another source",
        );
    }
    None
}
