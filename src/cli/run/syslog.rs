//! From `[syslog]` to an encoder, a sink and its endpoints.
//!
//! Why: as [`super::parts`], for the one sink whose formats have more settings than all others together.
//! Invariants: 1. nothing is decided here but what a transport asks of the framing. Bounds: none.
//! Driven by: [`super::parts`]. Spec: the settings reference in README.md.

use crate::config::{
    self, Precision, SyslogAck, SyslogConfig, SyslogFormat, SyslogFraming, SyslogMessage, SyslogTransport,
    SyslogUrl,
};
use crate::drive::TargetSpec;
use crate::proto::format::Encoder;
use crate::proto::format::syslog::{
    self, EventParams, Framing, HeaderForm, MessageForm, Oversize, SdElement, SyslogEncoder, SyslogParams,
};
use crate::proto::format::template::Template;
use crate::proto::sink::{self, syslog::Transport};

/// The encoder for these settings. The error is a text for the operator.
pub(super) fn encoder(config: &SyslogConfig) -> Result<Encoder, String> {
    let params = params(config)?;
    let encoder = SyslogEncoder::new(params).map_err(|error| format!("[syslog] {error}"))?;
    Ok(Encoder::Syslog(Box::new(encoder)))
}

/// One message per line, for standard output.
pub(super) fn line_encoder() -> Result<Encoder, String> {
    let params = SyslogParams {
        framing: Framing::Newline,
        hostname: template("hostname", "{__source__}")?,
        app_name: template("app_name", "{__topic__}")?,
        ..SyslogParams::default()
    };
    let encoder = SyslogEncoder::new(params).map_err(|error| format!("[stdout] {error}"))?;
    Ok(Encoder::Syslog(Box::new(encoder)))
}

/// The sink for these settings.
pub(super) fn sink(config: &SyslogConfig) -> sink::Params {
    let stream = match config.ack {
        SyslogAck::Drain => Transport::Drain,
        SyslogAck::Kernel => Transport::Kernel,
        SyslogAck::Written => Transport::Written,
    };
    let transport = |url: &SyslogUrl| match url.transport {
        SyslogTransport::Tcp | SyslogTransport::Tls => stream,
        SyslogTransport::Relp | SyslogTransport::RelpTls => Transport::Relp,
        SyslogTransport::Udp => Transport::Udp,
    };
    sink::Params::Syslog(sink::syslog::Params {
        endpoints: config.endpoints.iter().map(transport).collect(),
        drain_interval: config.drain_interval,
        timeout: config.timeout,
        connections: config.connections,
        window: config.window,
        udp_rate: u32::try_from(config.udp_rate).unwrap_or(u32::MAX),
    })
}

/// Where frames go to.
pub(super) fn endpoints(config: &SyslogConfig) -> Vec<TargetSpec> {
    let target = |url: &SyslogUrl| TargetSpec {
        host: url.host.clone(),
        port: url.port,
        tls: url.transport.is_tls().then(|| super::parts::tls(&config.tls)),
        server_name: config.tls.server_name.clone(),
        proxy: None,
        patience: config.timeout,
        datagrams: url.transport == SyslogTransport::Udp,
    };
    config.endpoints.iter().map(target).collect()
}

fn params(config: &SyslogConfig) -> Result<SyslogParams, String> {
    Ok(SyslogParams {
        header: match config.format {
            SyslogFormat::Rfc5424 => HeaderForm::Rfc5424,
            SyslogFormat::Rfc3164 => HeaderForm::Rfc3164,
        },
        framing: framing(config),
        message: message(config)?,
        precision: match config.precision {
            Precision::Seconds => syslog::Precision::Seconds,
            Precision::Millis => syslog::Precision::Millis,
            Precision::Micros => syslog::Precision::Micros,
        },
        utc_offset_secs: config.utc_offset_secs,
        facility: config.facility,
        severity: config.severity,
        severity_field: config.severity_field.clone(),
        severity_map: config.severity_map.iter().map(|(word, level)| (word.clone(), *level)).collect(),
        hostname: template("hostname", &config.hostname)?,
        app_name: template("app_name", &config.app_name)?,
        proc_id: template("proc_id", &config.proc_id)?,
        msg_id: template("msg_id", &config.msg_id)?,
        structured_data: structured_data(config)?,
        bom: config.bom,
        max_message_bytes: config.max_message_bytes,
        oversize: match config.oversize {
            config::Oversize::Truncate => Oversize::Truncate,
            config::Oversize::Split => Oversize::Split,
            config::Oversize::DeadLetter => Oversize::DeadLetter,
        },
    })
}

/// UDP and RELP have boundaries of their own; their sinks write them.
pub(super) fn framing(config: &SyslogConfig) -> Framing {
    let owned = |transport| {
        matches!(transport, SyslogTransport::Udp | SyslogTransport::Relp | SyslogTransport::RelpTls)
    };
    match config.framing {
        _ if config.endpoints.iter().any(|endpoint| owned(endpoint.transport)) => Framing::Marked,
        SyslogFraming::OctetCounting => Framing::OctetCounting,
        SyslogFraming::Newline => Framing::Newline,
    }
}

fn message(config: &SyslogConfig) -> Result<MessageForm, String> {
    Ok(match &config.message {
        SyslogMessage::Json => MessageForm::Json,
        SyslogMessage::Kv => MessageForm::Kv(config.separator.clone()),
        SyslogMessage::Field(name) => MessageForm::Field(name.clone()),
        SyslogMessage::AliyunKv => MessageForm::AliyunKv(config.separator.clone()),
        SyslogMessage::Cef => MessageForm::Cef(event(config)?),
        SyslogMessage::Leef => MessageForm::Leef(event(config)?),
    })
}

fn event(config: &SyslogConfig) -> Result<EventParams, String> {
    let own = config.extension.iter().map(|(key, text)| Ok((key.clone(), template("extension", text)?)));
    Ok(EventParams {
        vendor: template("device_vendor", &config.device_vendor)?,
        product: template("device_product", &config.device_product)?,
        version: template("device_version", &config.device_version)?,
        signature_id: template("signature_id", &config.signature_id)?,
        name: template("event_name", &config.event_name)?,
        severity: template("event_severity", &config.event_severity)?,
        extension: own.collect::<Result<_, String>>()?,
        unmapped: config.unmapped,
        delimiter: config
            .leef_delimiter
            .parse()
            .map_err(|problem| format!("syslog.leef_delimiter: {problem}"))?,
    })
}

/// Parameters by their element, in the order of the settings.
fn structured_data(config: &SyslogConfig) -> Result<Vec<SdElement>, String> {
    let mut elements: Vec<SdElement> = Vec::new();
    for (name, text) in &config.structured_data {
        let Some((id, param)) = name.rsplit_once('.') else { continue };
        let param = (param.to_owned(), template("structured_data", text)?);
        match elements.iter_mut().find(|(other, _)| other == id) {
            Some((_, params)) => params.push(param),
            None => elements.push((id.to_owned(), vec![param])),
        }
    }
    Ok(elements)
}

fn template(key: &str, text: &str) -> Result<Template, String> {
    Template::parse(text).map_err(|error| format!("syslog.{key} = {text:?} is not a template: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, SinkConfig, Sources, load};

    const FIXED: [&str; 7] = [
        "sls.endpoint=cn-hangzhou.log.aliyuncs.com",
        "sls.project=my-project",
        "sls.logstore=my-logstore",
        "sls.consumer_group=g",
        "sls.access_key_id=i",
        "sls.access_key_secret=s",
        "syslog.endpoints=tcp://siem",
    ];

    fn syslog(sets: &[&str]) -> SyslogConfig {
        let sets = FIXED.iter().chain(sets).map(|set| (*set).to_owned()).collect();
        let Config { pipelines, .. } = load(&Sources { sets, ..Sources::default() }).unwrap().config;
        match pipelines.into_iter().next().map(|pipeline| pipeline.sink) {
            Some(SinkConfig::Syslog(syslog)) => syslog,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn settings_that_no_message_can_have_are_told_at_once() {
        let mut sets: Vec<String> = [
            "syslog.separator=a",
            "syslog.timezone=Asia/Shanghai",
            "syslog.leef_delimiter=|",
            "syslog.extension={ a_b = \"x\" }",
            "syslog.structured_data={ \"sls.x\" = \"1\" }",
            "syslog.hostname={open",
        ]
        .map(str::to_owned)
        .into();
        sets.extend(FIXED.map(str::to_owned));
        let text = load(&Sources { sets, ..Sources::default() }).unwrap_err().to_string();
        for key in ["separator", "timezone", "leef_delimiter", "extension", "structured_data", "hostname"] {
            assert!(text.contains(&format!("syslog.{key} = ")), "{key}: {text}");
        }
        assert!(text.contains("6 mistakes"), "{text}");
    }

    /// What each preset makes of the encoder.
    #[test]
    fn presets_take_effect() {
        use Framing::{Newline, OctetCounting};
        use HeaderForm::{Rfc3164, Rfc5424};
        use syslog::Precision::{Micros, Millis, Seconds};
        for (preset, header, framing, form, precision, max) in [
            ("rsyslog", Rfc5424, OctetCounting, "Json", Micros, 8_000),
            ("syslog-ng", Rfc5424, OctetCounting, "Json", Micros, 65_000),
            ("sc4s", Rfc5424, OctetCounting, "Json", Micros, 65_000),
            ("qradar-tcp", Rfc5424, Newline, "Leef", Millis, 4_000),
            ("qradar-tls", Rfc5424, Newline, "Leef", Millis, 8_000),
            ("arcsight", Rfc3164, Newline, "Cef", Millis, 8_000),
            ("splunk-tcp", Rfc5424, Newline, "Json", Micros, 9_900),
            ("aliyun-compat", Rfc5424, Newline, "AliyunKv(\"||\")", Seconds, 16 << 20),
        ] {
            let params = params(&syslog(&[&format!("syslog.preset={preset}")])).unwrap();
            assert_eq!(
                (params.header, params.framing, params.precision),
                (header, framing, precision),
                "{preset}"
            );
            assert_eq!((params.max_message_bytes, params.bom), (max, false), "{preset}");
            assert!(format!("{:?}", params.message).starts_with(form), "{preset}: {:?}", params.message);
            SyslogEncoder::new(params).unwrap();
        }
    }

    #[test]
    fn every_setting_reaches_the_encoder() {
        let config = syslog(&[
            "syslog.message=cef",
            "syslog.bom=true",
            "syslog.timezone=-03:30",
            "syslog.device_vendor=v",
            "syslog.extension={ src = \"{client_ip}\" }",
            "syslog.unmapped=false",
            "syslog.leef_delimiter=^",
            "syslog.structured_data={ \"a@1.x\" = \"1\", \"a@1.y\" = \"2\" }",
        ]);
        let params = params(&config).unwrap();
        assert!(params.bom);
        assert_eq!(params.utc_offset_secs, -12_600);
        let ids: Vec<(&str, usize)> =
            params.structured_data.iter().map(|(id, params)| (id.as_str(), params.len())).collect();
        assert_eq!(ids, [("a@1", 2)]);
        let MessageForm::Cef(event) = params.message else { panic!() };
        assert_eq!(event.vendor, Template::parse("v").unwrap());
        assert_eq!(
            (event.extension.len(), event.unmapped, event.delimiter.to_string().as_str()),
            (1, false, "^")
        );
    }
}
