//! The body encodings of the service: lz4 block, zstd frame, zlib stream, none.
//!
//! Why: one place says what each name on the wire means.
//! Invariants: 1. `decompress` gives exactly the announced size or an error.   Bounds: the caller's raw size.
//! Driven by: `put` and `pull`.   Spec: protocol/sls.md 4 (lz4: one raw block, no frame, no size prefix).

use std::io::{Read as _, Write as _};

use anyhow::{Result, ensure};

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    None,
    Lz4,
    Zstd,
    Deflate,
}

impl Codec {
    /// By the value of `x-log-compresstype`.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "lz4" => Some(Self::Lz4),
            "zstd" => Some(Self::Zstd),
            "deflate" => Some(Self::Deflate),
            _ => None,
        }
    }

    /// What a pull is answered with: the first encoding named, lz4 when none of those named is known.
    pub(crate) fn from_accept(accept: &str) -> Self {
        let mut named = accept.split(',').map(|item| item.split(';').next().unwrap_or_default().trim());
        if accept.trim().is_empty() {
            return Self::None;
        }
        named.find_map(Self::from_name).unwrap_or(Self::Lz4)
    }

    /// The value of `x-log-compresstype`; none for plain bodies.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Lz4 => Some("lz4"),
            Self::Zstd => Some("zstd"),
            Self::Deflate => Some("deflate"),
        }
    }

    /// Encodes a body.
    pub(crate) fn compress(self, raw: &[u8]) -> Result<Vec<u8>> {
        Ok(match self {
            Self::None => raw.to_vec(),
            Self::Lz4 => lz4_flex::block::compress(raw),
            Self::Zstd => zstd::bulk::compress(raw, 1)?,
            Self::Deflate => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(raw)?;
                encoder.finish()?
            }
        })
    }

    /// Decodes a body that must have this size.
    pub(crate) fn decompress(self, body: &[u8], raw_size: usize) -> Result<Vec<u8>> {
        let raw = match self {
            Self::None => body.to_vec(),
            Self::Lz4 => lz4_flex::block::decompress(body, raw_size)?,
            Self::Zstd => zstd::bulk::decompress(body, raw_size)?,
            Self::Deflate => {
                let mut raw = Vec::new();
                flate2::read::ZlibDecoder::new(body).take(raw_size as u64 + 1).read_to_end(&mut raw)?;
                raw
            }
        };
        ensure!(
            raw.len() == raw_size,
            "the body holds {} bytes, x-log-bodyrawsize says {raw_size}",
            raw.len()
        );
        Ok(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_given() {
        let cases = [
            ("lz4", Codec::Lz4),
            ("zstd", Codec::Zstd),
            ("deflate", Codec::Deflate),
            ("gzip, deflate", Codec::Deflate),
            ("zstd, lz4", Codec::Zstd),
            ("identity", Codec::Lz4),
            ("gzip;q=1, lz4;q=0.5", Codec::Lz4),
            ("", Codec::None),
        ];
        for (accept, want) in cases {
            assert_eq!(Codec::from_accept(accept), want, "{accept}");
        }
    }

    #[test]
    fn bodies_survive_the_round_trip_and_lies_about_size_do_not() {
        let raw: Vec<u8> = (0..5000u32).flat_map(|n| (n % 251).to_le_bytes()).collect();
        for codec in [Codec::None, Codec::Lz4, Codec::Zstd, Codec::Deflate] {
            let body = codec.compress(&raw).unwrap();
            assert_eq!(codec.decompress(&body, raw.len()).unwrap(), raw, "{codec:?}");
            for wrong in [raw.len() - 1, raw.len() + 1] {
                assert!(codec.decompress(&body, wrong).is_err(), "{codec:?} {wrong}");
            }
            if codec != Codec::None {
                assert!(codec.decompress(&body[..body.len() / 2], raw.len()).is_err(), "{codec:?}");
            }
        }
    }
}
