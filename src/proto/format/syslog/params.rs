//! What the settings say about syslog messages, and the rules that hold between them.
//!
//! Why: an encoder that is handed a wrong number at run time could only write a message that no receiver reads.
//! Invariants: 1. [`SyslogParams::check`] accepts only what [`super::SyslogEncoder`] can write by the letter of the
//! standards. Bounds: see each field.
//! Driven by: `cli::run` fills it, [`super::SyslogEncoder::new`] checks it.
//! Spec: RFC 5424 6.2.1 (facility, severity), 6.3.2 and 6.3.3 (names of structured data).

use super::super::template::Template;
use super::event::EventParams;
use super::framing::Framing;

/// What the settings say about syslog messages.
#[derive(Clone, Debug)]
pub struct SyslogParams {
    /// The header.
    pub header: HeaderForm,
    /// How messages are told apart.
    pub framing: Framing,
    /// What stands in the message.
    pub message: MessageForm,
    /// Fraction of a second in RFC 5424 time stamps.
    pub precision: Precision,
    /// Zone of RFC 3164 time stamps, east of UTC; less than a day.
    pub utc_offset_secs: i32,
    /// 0 to 23.
    pub facility: u8,
    /// 0 to 7, where the log does not say it.
    pub severity: u8,
    /// The field of a log that names its severity.
    pub severity_field: Option<String>,
    /// What its values mean, before the common words; upper and lower case are one.
    pub severity_map: Vec<(String, u8)>,
    /// HOSTNAME.
    pub hostname: Template,
    /// APP-NAME; TAG in RFC 3164.
    pub app_name: Template,
    /// PROCID.
    pub proc_id: Template,
    /// MSGID; RFC 3164 has none.
    pub msg_id: Template,
    /// STRUCTURED-DATA: SD-ID and its parameters; RFC 3164 has none.
    pub structured_data: Vec<SdElement>,
    /// A byte order mark in front of the message; RFC 3164 has none.
    pub bom: bool,
    /// Longest message, header included, framing not. At least [`MESSAGE_BYTES_MIN`].
    pub max_message_bytes: usize,
    /// What happens to a longer one.
    pub oversize: Oversize,
}

/// SD-ID, and the parameters by their names.
pub type SdElement = (String, Vec<(String, Template)>);

/// Every receiver must take so much.
pub const MESSAGE_BYTES_MIN: usize = 480;

/// The header of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderForm {
    /// RFC 5424.
    #[default]
    Rfc5424,
    /// RFC 3164.
    Rfc3164,
}

/// Digits of a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// None.
    Seconds,
    /// Three.
    Millis,
    /// Six, which is the most that RFC 5424 allows.
    #[default]
    Micros,
}

/// What stands in the message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MessageForm {
    /// An object of topic, source, tags and contents, as the HEC event.
    #[default]
    Json,
    /// `key=value` with this text in between; escaped, so that it can be taken apart again.
    Kv(String),
    /// The text of the vendor's sample, with this text in front of each `key=value`; nothing is escaped.
    AliyunKv(String),
    /// The value of one field; the object where a log has it not or empty.
    Field(String),
    /// Common Event Format.
    Cef(EventParams),
    /// Log Event Extended Format 2.0.
    Leef(EventParams),
}

/// What happens to a message that is too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Oversize {
    /// It is cut and says so.
    #[default]
    Truncate,
    /// It becomes numbered parts.
    Split,
    /// It is not sent.
    DeadLetter,
}

/// Why settings cannot be written by the letter of the standards.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamsError {
    /// Facility above 23.
    #[error("facility {0} is not one of 0 to 23")]
    Facility(u8),
    /// Severity above 7.
    #[error("severity {0} is not one of 0 to 7")]
    Severity(u8),
    /// A day or more.
    #[error("a time zone of {0} seconds is more than a day away")]
    UtcOffset(i32),
    /// Shorter than any receiver's limit.
    #[error("messages of at most {0} bytes cannot hold a header: at least {MESSAGE_BYTES_MIN}")]
    MessageBytes(usize),
    /// An SD-ID that is no name, or stands there twice.
    #[error(
        "{0:?} is no name of structured data (NAME@ENTERPRISE-NUMBER, 1 to 32 printable characters without = ] \" and space), or stands there twice"
    )]
    SdId(String),
    /// A parameter's name that is none.
    #[error("{0:?} is no name of a parameter (1 to 32 printable characters without = ] \" and space)")]
    SdName(String),
    /// A separator that is empty or cannot be told from keys and values.
    #[error(
        "{0:?} does not separate fields: 1 to 8 ASCII characters, none of them a letter, a digit, =, \\ or a line break"
    )]
    Separator(String),
    /// A key that CEF or LEEF does not allow.
    #[error("{0:?} is no key of an extension: 1 to 64 letters and digits, and each key once")]
    ExtensionKey(String),
}

impl Default for SyslogParams {
    fn default() -> Self {
        Self {
            header: HeaderForm::default(),
            framing: Framing::default(),
            message: MessageForm::default(),
            precision: Precision::default(),
            utc_offset_secs: 0,
            facility: 1,
            severity: 6,
            severity_field: None,
            severity_map: Vec::new(),
            hostname: Template::default(),
            app_name: Template::default(),
            proc_id: Template::default(),
            msg_id: Template::default(),
            structured_data: Vec::new(),
            bom: false,
            max_message_bytes: 8_000,
            oversize: Oversize::default(),
        }
    }
}

impl SyslogParams {
    /// Everything that can be known before the first log.
    pub fn check(&self) -> Result<(), ParamsError> {
        if self.facility > 23 {
            return Err(ParamsError::Facility(self.facility));
        }
        let severities = self.severity_map.iter().map(|(_, severity)| *severity);
        if let Some(wrong) = severities.chain([self.severity]).find(|severity| *severity > 7) {
            return Err(ParamsError::Severity(wrong));
        }
        if self.utc_offset_secs.unsigned_abs() >= 86_400 {
            return Err(ParamsError::UtcOffset(self.utc_offset_secs));
        }
        if self.max_message_bytes < MESSAGE_BYTES_MIN {
            return Err(ParamsError::MessageBytes(self.max_message_bytes));
        }
        let data = &self.structured_data;
        for (at, (id, params)) in data.iter().enumerate() {
            if !is_sd_id(id) || data.iter().take(at).any(|(other, _)| other == id) {
                return Err(ParamsError::SdId(id.clone()));
            }
            if let Some((name, _)) = params.iter().find(|(name, _)| !is_sd_name(name)) {
                return Err(ParamsError::SdName(name.clone()));
            }
        }
        match &self.message {
            MessageForm::Kv(separator) | MessageForm::AliyunKv(separator) if !is_separator(separator) => {
                Err(ParamsError::Separator(separator.clone()))
            }
            MessageForm::Cef(event) | MessageForm::Leef(event) => event.check(),
            _ => Ok(()),
        }
    }
}

/// SD-NAME of RFC 5424.
pub(crate) fn is_sd_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'=' | b']' | b'"');
    (1..=32).contains(&name.len()) && name.bytes().all(fits)
}

/// SD-ID of RFC 5424: one of IANA's names, or a private one with the number of its owner.
pub(crate) fn is_sd_id(id: &str) -> bool {
    let owned = |(name, number): (&str, &str)| {
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        !name.is_empty() && !name.contains('@') && number.split('.').all(is_number)
    };
    is_sd_name(id)
        && (["timeQuality", "origin", "meta"].contains(&id) || id.rsplit_once('@').is_some_and(owned))
}

/// Text between fields that cannot be mistaken for a part of them.
pub(crate) fn is_separator(text: &str) -> bool {
    let fits = |byte: u8| {
        (byte.is_ascii_punctuation() && !matches!(byte, b'=' | b'\\')) || byte == b' ' || byte == b'\t'
    };
    (1..=8).contains(&text.len()) && text.bytes().all(fits)
}
