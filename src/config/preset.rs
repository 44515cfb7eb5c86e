//! What a `syslog.preset` sets.
//!
//! Why: receivers differ in framing, length and time stamps, and most of them corrupt silently what they do not
//! expect; a preset is a tried combination.   Invariants: 1. a preset is weaker than anything the user sets.
//! Bounds: static.   Driven by: `config::check`.   Spec: receivers' limits, README.md "Syslog receivers".

/// True for keys that some preset sets.
pub(crate) fn touches(key: &str) -> bool {
    super::schema::PRESETS.iter().any(|preset| value(preset, key).is_some())
}

/// The value of a key in a preset, as the settings would spell it.
pub(crate) fn value(preset: &str, key: &str) -> Option<&'static str> {
    let values: &[(&str, &str)] = match preset {
        "rsyslog" => &[("framing", "octet-counting"), ("precision", "us"), ("max_message_bytes", "8000B")],
        "syslog-ng" | "sc4s" => {
            &[("framing", "octet-counting"), ("precision", "us"), ("max_message_bytes", "65000B")]
        }
        "qradar-tcp" => &[
            ("framing", "newline"),
            ("message", "leef"),
            ("precision", "ms"),
            ("max_message_bytes", "4000B"),
        ],
        "qradar-tls" => &[
            ("framing", "newline"),
            ("message", "leef"),
            ("precision", "ms"),
            ("max_message_bytes", "8000B"),
        ],
        "arcsight" => &[
            ("format", "rfc3164"),
            ("framing", "newline"),
            ("message", "cef"),
            ("precision", "ms"),
            ("max_message_bytes", "8000B"),
        ],
        "splunk-tcp" => &[("framing", "newline"), ("precision", "us"), ("max_message_bytes", "9900B")],
        "aliyun-compat" => &[
            ("framing", "newline"),
            ("message", "aliyun-kv"),
            ("separator", "||"),
            ("precision", "s"),
            ("max_message_bytes", "16MiB"),
        ],
        _ => &[],
    };
    values.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
}
