//! Records to bytes: JSON escaping, HEC envelopes, templates over a log's fields.
//!
//! Why: the engine holds one encoder per pipeline and must not care which sink it writes for.
//! Invariants: those of the formats. Bounds: those of the formats.
//! Driven by: the pipeline, one [`Encoder::encode`] per frame.

pub mod hec;
pub mod json;
mod simd;
pub mod template;

use hec::{Encoded, HecEncoder, RecordContext};

use super::sls::wire::{Position, WireError};

/// The format of a pipeline's sink.
#[derive(Clone, Debug)]
pub enum Encoder {
    /// Lines of HEC envelopes.
    Hec(HecEncoder),
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
        }
    }
}
