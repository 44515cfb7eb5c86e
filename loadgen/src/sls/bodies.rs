//! Bodies that were encoded before.
//!
//! Why: lz4 blocks can be joined, zstd and deflate streams cannot. With `--repeat` the same segments are served over and
//! over, and compressing them each time would make the emulator slower than what it measures.
//! Invariants: 1. a body is found by the very segments it was made of, which are kept alive with it.
//! Bounds: `BYTES_MAX` of bodies; the one that was used longest ago goes first.
//! Driven by: `pull`, outside the world's lock.   Spec: none.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

use super::codec::Codec;
use super::data::{Piece, Range};

/// Bodies of recent pulls.
#[derive(Debug, Default)]
pub(crate) struct Bodies(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    bytes: usize,
    /// Used last comes last.
    bodies: VecDeque<Body>,
}

#[derive(Debug, Clone)]
struct Body {
    codec: Codec,
    pieces: Vec<Piece>,
    bytes: Arc<[u8]>,
}

const BYTES_MAX: usize = 64 << 20;
/// Smaller ones are made faster than found.
const RAW_BYTES_MIN: usize = 64 << 10;

impl Bodies {
    /// The encoded groups of a range.
    pub(crate) fn compose(&self, range: &Range, codec: Codec) -> Result<Vec<u8>> {
        let pieces = match codec {
            Codec::Zstd | Codec::Deflate if range.raw_bytes >= RAW_BYTES_MIN => range.pieces(),
            _ => None,
        };
        let Some(pieces) = pieces else { return range.compose(codec) };
        if let Some(found) = self.kept(|kept| kept.take(codec, &pieces)) {
            return Ok(found.to_vec());
        }
        let body = range.compose(codec)?;
        let made = Body { codec, pieces, bytes: body.as_slice().into() };
        self.kept(|kept| kept.keep(made));
        Ok(body)
    }

    fn kept<T>(&self, act: impl FnOnce(&mut Kept) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Kept {
    fn take(&mut self, codec: Codec, pieces: &[Piece]) -> Option<Arc<[u8]>> {
        let at = self.bodies.iter().rposition(|body| body.codec == codec && body.pieces == pieces)?;
        let body = self.bodies.remove(at)?;
        let bytes = Arc::clone(&body.bytes);
        self.bodies.push_back(body);
        Some(bytes)
    }

    fn keep(&mut self, body: Body) {
        self.bytes += body.bytes.len();
        self.bodies.push_back(body);
        while self.bytes > BYTES_MAX {
            let Some(oldest) = self.bodies.pop_front() else { return };
            self.bytes -= oldest.bytes.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sls::data::{Segment, ShardData};

    #[test]
    fn the_same_segments_are_encoded_once_and_others_are_not_mistaken_for_them() {
        let segment = |byte: u8| {
            let mut segment = Segment::default();
            (0..50).for_each(|n| segment.push(&vec![byte ^ n; 4_000], 1));
            Arc::new(segment)
        };
        let (one, two) = (segment(0), segment(99));
        let mut data = ShardData::default();
        for segment in [&one, &two, &one, &two] {
            data.append_segment(Arc::clone(segment), 0);
        }
        let bodies = Bodies::default();
        let count = || bodies.kept(|kept| (kept.bodies.len(), kept.bytes));
        for codec in [Codec::Zstd, Codec::Deflate] {
            let before = count().0;
            for first in [0, 50, 100, 150, 25, 125] {
                let range = data.range(first, 50, u64::MAX, usize::MAX);
                let body = bodies.compose(&range, codec).unwrap();
                assert_eq!(codec.decompress(&body, range.raw_bytes).unwrap(), range.raw(), "{first}");
            }
            // 0 and 100, 50 and 150, 25 and 125 are alike.
            assert_eq!(count().0, before + 3);
        }
        // What is still growing is never kept.
        data.append(&vec![7; 100_000], 1, 0);
        let before = count();
        bodies.compose(&data.range(200, 1, u64::MAX, usize::MAX), Codec::Zstd).unwrap();
        bodies.compose(&data.range(0, 50, u64::MAX, usize::MAX), Codec::Lz4).unwrap();
        assert_eq!(count(), before);
    }
}
