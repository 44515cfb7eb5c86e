//! From checked settings to what a tap can look at, and the way to the executors.
//!
//! Why: the admin page knows neither settings nor executors; this is where both are known.
//! Invariants: 1. the form that a tap is told of is the form that the encoder writes. Bounds: none.
//! Driven by: [`super`], before the admin page starts. Spec: the settings reference in README.md.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::syslog;
use crate::admin::tap::mask::{Body, Form, Message};
use crate::admin::tap::{TapPipeline, TapSource};
use crate::config::{
    Config, EventShape, HecConfig, PipelineConfig, SinkConfig, StdoutFormat, SyslogConfig, SyslogFormat,
    SyslogMessage,
};
use crate::drive::{Executors, PipelineId};
use crate::proto::format::syslog::{Framing, LeefDelimiter};
use crate::proto::tap::{Origin, Params, TapId};

/// What can be looked at, where the settings allow it. `base`: the number of the first pipeline.
pub(super) fn source(config: &Config, executors: &Arc<Executors>, base: u16) -> Option<TapSource> {
    if !config.admin.tap {
        return None;
    }
    let executors = Arc::clone(executors);
    let ids = AtomicU64::new(0);
    Some(TapSource {
        pipelines: config.pipelines.iter().map(pipeline).collect(),
        attach: Box::new(move |pipelines, shard, waiting| {
            let id = TapId(ids.fetch_add(1, Ordering::Relaxed));
            let (sender, receiver) = async_channel::bounded(waiting);
            for pipeline in pipelines.iter().copied() {
                for executor in 0..executors.len() {
                    let params = Params { id, origin: Origin { pipeline, executor }, shard };
                    // An executor that has ended has nothing to show.
                    let _ended = executors.tap(executor, PipelineId(base + pipeline), params, sender.clone());
                }
            }
            receiver
        }),
    })
}

fn pipeline(config: &PipelineConfig) -> TapPipeline {
    let (framing, form) = match &config.sink {
        SinkConfig::Hec(hec) => (Framing::Newline, self::hec(hec)),
        SinkConfig::Syslog(syslog) => (syslog::framing(syslog), form(syslog)),
        SinkConfig::Stdout(stdout) => (
            Framing::Newline,
            match stdout.format {
                StdoutFormat::Hec => {
                    let made = vec![("host".to_owned(), SOURCE.to_owned())];
                    Form { message: Message::Hec { raw: None }, made }
                }
                StdoutFormat::Syslog => {
                    let header = vec![SOURCE.to_owned(), "{__topic__}".to_owned()];
                    Form {
                        message: Message::Syslog { is_5424: true, header, body: Body::Json },
                        made: Vec::new(),
                    }
                }
            },
        ),
    };
    TapPipeline { name: config.name.as_str().into(), framing, form }
}

fn hec(config: &HecConfig) -> Form {
    let own = [
        ("index", &config.index),
        ("sourcetype", &config.sourcetype),
        ("source", &config.source),
        ("host", &config.host),
    ];
    let own = own.map(|(member, template)| (member.to_owned(), template.clone()));
    let fields = config.fields.iter().map(|(name, template)| (name.clone(), template.clone()));
    let raw = match &config.event {
        EventShape::Raw(field) => Some(field.clone()),
        EventShape::Object | EventShape::String => None,
    };
    Form { message: Message::Hec { raw }, made: own.into_iter().chain(fields).collect() }
}

fn form(config: &SyslogConfig) -> Form {
    let mut header: Vec<String> =
        [&config.hostname, &config.app_name, &config.proc_id, &config.msg_id].map(String::clone).into();
    let mut made: Vec<(String, String)> = config
        .structured_data
        .iter()
        .filter_map(|(name, template)| Some((name.rsplit_once('.')?.1.to_owned(), template.clone())))
        .collect();
    let body = match &config.message {
        SyslogMessage::Json => Body::Json,
        SyslogMessage::Kv | SyslogMessage::AliyunKv => Body::Pairs(config.separator.clone()),
        SyslogMessage::Field(name) => Body::Field(name.clone()),
        SyslogMessage::Cef => Body::Cef,
        SyslogMessage::Leef => Body::Leef(config.leef_delimiter.parse().map_or(b'\t', LeefDelimiter::byte)),
    };
    if matches!(body, Body::Cef | Body::Leef(_)) {
        made.extend(config.extension.iter().map(|(key, template)| (key.clone(), template.clone())));
        let own = [
            &config.device_vendor,
            &config.device_product,
            &config.device_version,
            &config.signature_id,
            &config.event_name,
            &config.event_severity,
        ];
        header.extend(own.map(String::clone));
    }
    Form { message: Message::Syslog { is_5424: config.format == SyslogFormat::Rfc5424, header, body }, made }
}

const SOURCE: &str = "{__source__}";
