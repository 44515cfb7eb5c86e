//! The body of a pull: decompression into a reused buffer, checked against its headers.
//!
//! Why: a vendor SDK takes a body that is shorter than announced and loses its last logs without a word;
//! here a body is exactly what its headers say, or it is an error and is pulled again.
//! Invariants: 1. after `Ok` the buffer holds exactly `raw_size` bytes; after `Err` it is empty.
//! 2. no input makes it write more than `raw_size` bytes, nor more than `raw_limit`.
//! Bounds: `raw_limit` bytes of output, rounded up to [`GROWTH_BYTES`], plus [`PAD_BYTES`] of capacity.
//! Driven by: a shard, once a pull; it keeps one [`Decompressor`] and one buffer.
//! Spec: protocol notes 3.4 and 4. lz4 is one raw block, zstd ordinary frames, deflate a zlib stream (RFC 1950).
//! Departures: under either name "deflate" or "gzip" a zlib stream and a gzip member (RFC 1952) are both taken.

use core::fmt;

use flate2::{Decompress, FlushDecompress, Status};
use thiserror::Error;

/// Capacity kept behind the bytes, so that a reader may pad them for wide loads without moving them.
pub const PAD_BYTES: usize = 64;

/// The buffer grows in steps of this, so that slowly growing pulls do not move it each time.
pub const GROWTH_BYTES: usize = 256 << 10;

/// Why a body was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BodyError {
    /// Bytes of the decompressed body differ from `x-log-bodyrawsize`.
    #[error("the body holds {found} bytes, its header x-log-bodyrawsize says {announced}")]
    RawSize {
        /// From the header.
        announced: u64,
        /// Found.
        found: u64,
    },
    /// The body goes on after the bytes that `x-log-bodyrawsize` announced; how far is not looked into.
    #[error("the body holds more than the {announced} bytes that its header x-log-bodyrawsize says")]
    RawOverrun {
        /// From the header.
        announced: u64,
    },
    /// More than is allowed, whether or not it is true.
    #[error("the body would decompress to {announced} bytes; {limit} are allowed")]
    RawTooLarge {
        /// From the header.
        announced: u64,
        /// Allowed.
        limit: u64,
    },
    /// Not a valid lz4 block, zstd frame or zlib stream.
    #[error("the body cannot be decompressed: {0}")]
    Compression(String),
    /// Log groups in the body differ from `x-log-count`.
    #[error("the body holds {found} log groups, its header x-log-count says {announced}")]
    GroupCount {
        /// From the header.
        announced: u64,
        /// Found.
        found: u64,
    },
    /// A range that was pulled again ends with another number of records than the first time, so nobody can say which
    /// of them are missing.
    #[error("a range that is pulled again ends after {found} logs, the first time it held {announced}")]
    OtherRange {
        /// The first time.
        announced: u64,
        /// Now.
        found: u64,
    },
    /// Not a valid `LogGroupList`.
    #[error("the body is not valid protobuf: {0}")]
    Wire(String),
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    None,
    /// One raw block.
    #[default]
    Lz4,
    /// A frame.
    Zstd,
    /// A zlib stream.
    Deflate,
}

impl Compression {
    /// From the value of `x-log-compresstype`; an absent header is an empty one.
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.trim();
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("lz4") {
            Some(Self::Lz4)
        } else if is("zstd") {
            Some(Self::Zstd)
        } else if is("deflate") || is("gzip") {
            Some(Self::Deflate)
        } else if name.is_empty() || is("none") || is("identity") {
            Some(Self::None)
        } else {
            None
        }
    }

    /// Value of `Accept-Encoding` that asks for it; empty asks for no compression.
    pub fn accept_encoding(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::Deflate => "deflate",
        }
    }

    /// What to ask for when the server refuses this; `None` where nothing simpler is left.
    pub fn fall_back(self) -> Option<Self> {
        match self {
            Self::Zstd | Self::Deflate => Some(Self::Lz4),
            Self::Lz4 => Some(Self::None),
            Self::None => None,
        }
    }
}

/// Decompresses bodies, keeping the decoders' memory between them.
#[derive(Default)]
pub struct Decompressor {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
    zlib: Option<Decompress>,
}

impl Decompressor {
    /// Replaces `out` by the decompressed `input`, which has to be exactly `raw_size` bytes and at most `raw_limit`.
    pub fn decompress(
        &mut self,
        kind: Compression,
        input: &[u8],
        raw_size: usize,
        raw_limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), BodyError> {
        let announced = raw_size as u64;
        if raw_size > raw_limit {
            out.clear();
            return Err(BodyError::RawTooLarge { announced, limit: raw_limit as u64 });
        }
        size_buffer(out, raw_size);
        let result = if raw_size == 0 && input.is_empty() {
            Ok(0)
        } else {
            match kind {
                Compression::None => copy(input, out),
                Compression::Lz4 => lz4(input, out),
                Compression::Zstd => self.zstd(input, out),
                Compression::Deflate => self.zlib(input, out),
            }
        };
        let result = match result {
            Ok(found) if found == raw_size => return Ok(()),
            Ok(found) => Err(BodyError::RawSize { announced, found: found as u64 }),
            Err(Refused::Overrun) => Err(BodyError::RawOverrun { announced }),
            Err(Refused::Size(found)) => Err(BodyError::RawSize { announced, found }),
            Err(Refused::Corrupt(why)) => Err(BodyError::Compression(why)),
        };
        out.clear();
        result
    }

    fn zstd(&mut self, input: &[u8], out: &mut [u8]) -> Result<usize, Refused> {
        let decoder = match &mut self.zstd {
            Some(decoder) => decoder,
            none => none.insert(zstd::bulk::Decompressor::new().map_err(|error| corrupt("zstd", &error))?),
        };
        if input.is_empty() {
            return Err(Refused::Corrupt("zstd: no bytes".into()));
        }
        decoder.decompress_to_buffer(input, out).map_err(|error| {
            // The library only has a text for this cause. A frame may tell its size.
            match zstd::zstd_safe::get_frame_content_size(input) {
                Ok(Some(found)) if found > out.len() as u64 => Refused::Size(found),
                _ if error.to_string().contains("too small") => Refused::Overrun,
                _ => corrupt("zstd", &error),
            }
        })
    }

    fn zlib(&mut self, input: &[u8], out: &mut [u8]) -> Result<usize, Refused> {
        if input.starts_with(&[0x1f, 0x8b]) {
            return inflate(&mut Decompress::new_gzip(15), input, out);
        }
        let decoder = self.zlib.get_or_insert_with(|| Decompress::new(true));
        decoder.reset(true);
        inflate(decoder, input, out)
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

/// [`Decompressor::decompress`] without kept memory, for rare bodies.
pub fn decompress(
    kind: Compression,
    input: &[u8],
    raw_size: usize,
    raw_limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), BodyError> {
    Decompressor::default().decompress(kind, input, raw_size, raw_limit, out)
}

enum Refused {
    Corrupt(String),
    Overrun,
    Size(u64),
}

fn corrupt(kind: &str, error: &dyn fmt::Display) -> Refused {
    Refused::Corrupt(format!("{kind}: {error}"))
}

/// Sets the length. Only bytes that the buffer did not hold before are zeroed: the decoders overwrite the rest.
fn size_buffer(out: &mut Vec<u8>, raw_size: usize) {
    let wanted = raw_size.saturating_add(PAD_BYTES);
    if out.capacity() < wanted {
        // Nothing of the old content is needed, so it is not moved either.
        let stepped = raw_size.checked_next_multiple_of(GROWTH_BYTES).unwrap_or(raw_size);
        *out = Vec::with_capacity(stepped.saturating_add(PAD_BYTES));
    }
    out.resize(raw_size, 0);
}

fn copy(input: &[u8], out: &mut [u8]) -> Result<usize, Refused> {
    if input.len() != out.len() {
        return Err(Refused::Size(input.len() as u64));
    }
    out.copy_from_slice(input);
    Ok(input.len())
}

fn lz4(input: &[u8], out: &mut [u8]) -> Result<usize, Refused> {
    use lz4_flex::block::{DecompressError, decompress_into};
    decompress_into(input, out).map_err(|error| match error {
        DecompressError::OutputTooSmall { .. } => Refused::Overrun,
        other => corrupt("lz4", &other),
    })
}

fn inflate(decoder: &mut Decompress, input: &[u8], out: &mut [u8]) -> Result<usize, Refused> {
    let taken = |decoder: &Decompress| usize::try_from(decoder.total_in()).unwrap_or(usize::MAX);
    let mut status = decoder
        .decompress(input, out, FlushDecompress::Finish)
        .map_err(|error| corrupt("deflate", &error))?;
    if status != Status::StreamEnd && decoder.total_out() == out.len() as u64 {
        // The buffer is full; only one byte more of room tells whether the stream ends here.
        let rest = input.get(taken(decoder)..).unwrap_or_default();
        let mut probe = [0];
        status = decoder
            .decompress(rest, &mut probe, FlushDecompress::Finish)
            .map_err(|error| corrupt("deflate", &error))?;
        if decoder.total_out() > out.len() as u64 {
            return Err(Refused::Overrun);
        }
    }
    if status != Status::StreamEnd {
        return Err(Refused::Corrupt("deflate: the stream ends early".into()));
    }
    if taken(decoder) != input.len() {
        return Err(Refused::Corrupt("deflate: bytes follow the end of the stream".into()));
    }
    usize::try_from(decoder.total_out()).map_err(|error| corrupt("deflate", &error))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1 << 20;
    const KINDS: [Compression; 4] =
        [Compression::None, Compression::Lz4, Compression::Zstd, Compression::Deflate];

    fn pack(kind: Compression, raw: &[u8]) -> Vec<u8> {
        match kind {
            Compression::None => raw.to_vec(),
            Compression::Lz4 => lz4_flex::block::compress(raw),
            Compression::Zstd => zstd::bulk::compress(raw, 1).unwrap(),
            Compression::Deflate => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(raw).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    fn raw() -> Vec<u8> {
        (0..300u32).flat_map(|n| format!("log line {} of many\n", n % 37).into_bytes()).collect()
    }

    #[test]
    fn exact_sizes_pass_and_others_do_not() {
        let raw = raw();
        let mut decoder = Decompressor::default();
        let mut out = Vec::new();
        for kind in KINDS {
            let packed = pack(kind, &raw);
            for _ in 0..2 {
                decoder.decompress(kind, &packed, raw.len(), LIMIT, &mut out).unwrap();
                assert_eq!(out, raw);
            }
            for wrong in [0, 1, raw.len() - 1, raw.len() + 1, raw.len() * 2] {
                let error = decoder.decompress(kind, &packed, wrong, LIMIT, &mut out).unwrap_err();
                assert!(
                    matches!(error, BodyError::RawSize { .. } | BodyError::RawOverrun { .. }),
                    "{kind:?} {wrong}: {error}"
                );
                assert!(out.is_empty());
            }
        }
    }

    #[test]
    fn truncated_at_every_byte_and_with_bytes_behind() {
        let raw = raw();
        let mut decoder = Decompressor::default();
        let mut out = Vec::new();
        for kind in KINDS {
            let packed = pack(kind, &raw);
            for end in 0..packed.len() {
                assert!(decoder.decompress(kind, &packed[..end], raw.len(), LIMIT, &mut out).is_err());
            }
            let longer = [&packed[..], b"\xff"].concat();
            assert!(decoder.decompress(kind, &longer, raw.len(), LIMIT, &mut out).is_err(), "{kind:?}");
            decoder.decompress(kind, &packed, raw.len(), LIMIT, &mut out).unwrap();
            assert_eq!(out, raw, "a refused body does not spoil the next one");
        }
    }

    #[test]
    fn nothing_is_nothing() {
        let mut out = vec![1, 2, 3];
        for kind in KINDS {
            decompress(kind, b"", 0, LIMIT, &mut out).unwrap();
            assert!(out.is_empty());
            decompress(kind, &pack(kind, b""), 0, LIMIT, &mut out).unwrap();
            assert!(out.is_empty());
            assert!(decompress(kind, b"", 1, LIMIT, &mut out).is_err());
        }
    }

    #[test]
    fn bombs_stay_within_the_limit() {
        let raw = vec![0; 4 << 20];
        for kind in [Compression::Lz4, Compression::Zstd, Compression::Deflate] {
            let packed = pack(kind, &raw);
            let mut out = Vec::new();
            let honest = decompress(kind, &packed, raw.len(), LIMIT, &mut out).unwrap_err();
            assert_eq!(honest, BodyError::RawTooLarge { announced: 4 << 20, limit: 1 << 20 });
            assert_eq!(out.capacity(), 0);
            let lying = decompress(kind, &packed, 100, LIMIT, &mut out).unwrap_err();
            assert!(matches!(lying, BodyError::RawOverrun { .. } | BodyError::RawSize { .. }), "{lying}");
            assert!(out.capacity() <= GROWTH_BYTES + PAD_BYTES);
        }
        assert!(decompress(Compression::Lz4, b"", usize::MAX, LIMIT, &mut Vec::new()).is_err());
    }

    #[test]
    fn a_gzip_member_passes_under_the_same_name() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&raw()).unwrap();
        let mut out = Vec::new();
        decompress(Compression::Deflate, &encoder.finish().unwrap(), raw().len(), LIMIT, &mut out).unwrap();
        assert_eq!(out, raw());
    }

    #[test]
    fn the_buffer_is_kept() {
        let mut decoder = Decompressor::default();
        let mut out = Vec::new();
        let (large, small) = (vec![7; 100_000], vec![8; 10]);
        decoder.decompress(Compression::None, &large, large.len(), LIMIT, &mut out).unwrap();
        let (place, capacity) = (out.as_ptr(), out.capacity());
        assert!(capacity >= large.len() + PAD_BYTES);
        for body in [&small, &large] {
            decoder.decompress(Compression::None, body, body.len(), LIMIT, &mut out).unwrap();
            assert_eq!(&out, body);
        }
        assert_eq!((out.as_ptr(), out.capacity()), (place, capacity));
    }

    #[test]
    fn names() {
        for (name, kind) in [
            ("lz4", Some(Compression::Lz4)),
            ("LZ4", Some(Compression::Lz4)),
            (" zstd", Some(Compression::Zstd)),
            ("gzip", Some(Compression::Deflate)),
            ("deflate", Some(Compression::Deflate)),
            ("", Some(Compression::None)),
            ("snappy", None),
        ] {
            assert_eq!(Compression::parse(name), kind, "{name:?}");
        }
        for kind in KINDS {
            assert_eq!(Compression::parse(kind.accept_encoding()), Some(kind));
        }
    }

    proptest! {
        /// Unpacking what was packed gives the same bytes, whatever was in the buffer before.
        #[test]
        fn round_trip(raw: Vec<u8>, before: Vec<u8>) {
            let mut out = before;
            for kind in KINDS {
                decompress(kind, &pack(kind, &raw), raw.len(), LIMIT, &mut out).unwrap();
                prop_assert_eq!(&out, &raw);
            }
        }

        /// Any bytes under any name: no panic, and a success has the announced size.
        #[test]
        fn any_bytes(input: Vec<u8>, raw_size in 0usize..5000) {
            for kind in KINDS {
                let mut out = Vec::new();
                if decompress(kind, &input, raw_size, LIMIT, &mut out).is_ok() {
                    prop_assert_eq!(out.len(), raw_size);
                }
            }
        }

        /// A valid body with one byte changed: no panic.
        #[test]
        fn any_change(at: prop::sample::Index, byte: u8) {
            let raw = raw();
            for kind in KINDS {
                let mut packed = pack(kind, &raw);
                let at = at.index(packed.len());
                packed[at] = byte;
                let _ = decompress(kind, &packed, raw.len(), LIMIT, &mut Vec::new());
            }
        }
    }
}
