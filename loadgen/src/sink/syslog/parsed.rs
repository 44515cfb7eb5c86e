//! A message by either grammar.
//!
//! Why: a receiver takes both on one port, and the verifier wants the same fields of both.
//! Invariants: none.   Bounds: one message.   Driven by: `store`, tests.   Spec: syslog.md 1, 2.

use super::config::Format;
use super::rfc5424::Violation;
use super::{rfc3164, rfc5424};

/// One message, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// By RFC 5424.
    Rfc5424(rfc5424::Message<'a>),
    /// By RFC 3164.
    Rfc3164(rfc3164::Message<'a>),
}

impl<'a> Parsed<'a> {
    /// Parses by this grammar; `Auto` looks at what stands behind the priority.
    pub fn parse(bytes: &'a [u8], format: Format) -> Result<Self, Violation> {
        let is_old = match format {
            Format::Rfc5424 => false,
            Format::Rfc3164 => true,
            Format::Auto => {
                let behind = bytes.iter().position(|byte| *byte == b'>').and_then(|at| bytes.get(at + 1));
                behind.is_some_and(u8::is_ascii_alphabetic)
            }
        };
        if is_old {
            rfc3164::parse(bytes).map(Self::Rfc3164)
        } else {
            rfc5424::parse(bytes).map(Self::Rfc5424)
        }
    }

    /// What the message says.
    pub fn body(&self) -> &'a [u8] {
        match self {
            Self::Rfc5424(message) => message.body.unwrap_or_default(),
            Self::Rfc3164(message) => message.body,
        }
    }

    /// The same header with another body.
    #[must_use]
    pub fn with_body<'b>(&self, body: &'b [u8]) -> Parsed<'b>
    where
        'a: 'b,
    {
        match self.clone() {
            Self::Rfc5424(message) => Parsed::Rfc5424(rfc5424::Message { body: Some(body), ..message }),
            Self::Rfc3164(message) => Parsed::Rfc3164(rfc3164::Message { body, ..message }),
        }
    }

    /// HOSTNAME, unless nil.
    pub const fn hostname(&self) -> Option<&'a str> {
        match self {
            Self::Rfc5424(message) => message.hostname,
            Self::Rfc3164(message) => Some(message.hostname),
        }
    }

    /// APP-NAME or TAG, unless nil.
    pub const fn app_name(&self) -> Option<&'a str> {
        match self {
            Self::Rfc5424(message) => message.app_name,
            Self::Rfc3164(message) => Some(message.tag),
        }
    }

    /// Facility and severity.
    pub const fn priority(&self) -> (u8, u8) {
        match self {
            Self::Rfc5424(message) => (message.facility, message.severity),
            Self::Rfc3164(message) => (message.facility, message.severity),
        }
    }
}
