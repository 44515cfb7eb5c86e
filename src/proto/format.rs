//! Records to bytes: JSON escaping, HEC envelopes, syslog messages, templates over a log's fields.
//!
//! Why: the engine holds one encoder per pipeline and must not care which sink it writes for.
//! Invariants: those of the formats. Bounds: those of the formats.
//! Driven by: the pipeline, one [`Encoder::encode`] per frame.

pub mod hec;
pub mod json;
mod nested;
mod simd;
pub mod syslog;
pub mod template;

use hec::{Encoded, HecEncoder, RecordContext};
use syslog::SyslogEncoder;

use super::sls::wire::{Position, WireError};

/// The format of a pipeline's sink.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one to a pipeline and executor, never moved at work")]
pub enum Encoder {
    /// Lines of HEC envelopes.
    Hec(HecEncoder),
    /// Framed syslog messages.
    Syslog(Box<SyslogEncoder>),
}

impl Encoder {
    /// Appends records of `body` from `at` on, up to the record with index `end` (not included), until they are at
    /// least `limit` bytes, or until the body ends. After an error `out` ends behind the last whole record and `at`
    /// stands in front of the broken one.
    pub fn encode(
        &mut self,
        body: &[u8],
        at: &mut Position,
        end: u32,
        limit: usize,
        context: &RecordContext<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, WireError> {
        match self {
            Self::Hec(hec) => hec.encode(body, at, end, limit, context, out),
            Self::Syslog(syslog) => syslog.encode(body, at, end, limit, context, out),
        }
    }

    /// Which records of the last call are more than one message: number in that call, messages.
    pub fn split(&self) -> &[(u32, u32)] {
        match self {
            Self::Hec(_) => &[],
            Self::Syslog(syslog) => syslog.split(),
        }
    }
}
