//! Decompression with sizes that may lie, against the decoders' own streaming ways.

use std::io::Read as _;

use sls2siem::proto::sls::body::{BodyError, Compression, Decompressor, GROWTH_BYTES, PAD_BYTES, decompress};

use super::input::Input;

const LIMIT: usize = 1 << 18;
const KINDS: [Compression; 4] =
    [Compression::Lz4, Compression::Zstd, Compression::Deflate, Compression::None];

/// Kind, announced size, then the body; or what is to be packed first.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.pick(&KINDS);
    let (how, size) = (input.byte(), input.u32());
    let rest = input.rest();
    if how & 1 == 0 {
        // The true size, where there is one, is the interesting announcement.
        let truth = reference(kind, rest);
        let size = if how & 2 == 0 { size as usize } else { truth.as_ref().map_or(size as usize, Vec::len) };
        any_bytes(kind, rest, size, truth.as_deref());
    } else {
        honest(kind, rest, size);
    }
}

fn any_bytes(kind: Compression, bytes: &[u8], size: usize, truth: Option<&[u8]>) {
    let mut out = vec![7; 100];
    let result = decompress(kind, bytes, size, LIMIT, &mut out);
    match &result {
        Ok(()) => {
            assert!(out.len() == size && size <= LIMIT);
            assert!(truth.is_none_or(|truth| truth == out), "another body than the streaming decoder's");
        }
        Err(error) => {
            assert!(out.is_empty());
            assert!(!error.to_string().is_empty());
            let whole = truth.is_some_and(|truth| truth.len() == size && size <= LIMIT);
            assert!(!whole, "{kind:?} of {size} bytes is refused: {error}");
        }
    }
    assert!(out.capacity() <= LIMIT + GROWTH_BYTES + PAD_BYTES, "{} bytes of memory", out.capacity());
    // What was refused does not spoil the next one.
    let mut decoder = Decompressor::default();
    for _ in 0..2 {
        let mut again = Vec::new();
        assert_eq!(decoder.decompress(kind, bytes, size, LIMIT, &mut again), result);
        assert_eq!(again, out);
    }
}

/// What was packed comes out again, and only under its own size.
fn honest(kind: Compression, raw: &[u8], lie: u32) {
    // Repeated, so that there is something to be packed.
    let raw = raw.repeat(1 + lie as usize % 7);
    let packed = match kind {
        Compression::None => raw.clone(),
        Compression::Lz4 => lz4_flex::block::compress(&raw),
        Compression::Zstd => zstd::bulk::compress(&raw, 1).unwrap(),
        Compression::Deflate => {
            let mut packed = Vec::new();
            let level = flate2::Compression::fast();
            flate2::read::ZlibEncoder::new(raw.as_slice(), level).read_to_end(&mut packed).unwrap();
            packed
        }
    };
    let mut decoder = Decompressor::default();
    let mut out = Vec::new();
    for size in [raw.len(), lie as usize, raw.len() + 1, raw.len().saturating_sub(1)] {
        let result = decoder.decompress(kind, &packed, size, LIMIT, &mut out);
        if size == raw.len() && size <= LIMIT {
            assert_eq!(result, Ok(()));
            assert_eq!(out, raw);
        } else {
            let error = result.unwrap_err();
            let named = matches!(
                error,
                BodyError::RawSize { .. } | BodyError::RawOverrun { .. } | BodyError::RawTooLarge { .. }
            );
            assert!(named && out.is_empty(), "{kind:?} {size}: {error}");
        }
    }
}

/// The body by a streaming decoder, where there is one and the body is whole and within the limit.
fn reference(kind: Compression, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let limit = LIMIT as u64 + 1;
    let read = match kind {
        Compression::None => bytes.take(limit).read_to_end(&mut out),
        // A raw block has no other decoder here.
        Compression::Lz4 => return None,
        Compression::Zstd if bytes.is_empty() => return None,
        Compression::Zstd => {
            zstd::stream::Decoder::new(bytes).and_then(|decoder| decoder.take(limit).read_to_end(&mut out))
        }
        Compression::Deflate if bytes.starts_with(&[0x1f, 0x8b]) => {
            let mut rest = bytes;
            let read = flate2::bufread::GzDecoder::new(&mut rest).take(limit).read_to_end(&mut out);
            if rest.is_empty() { read } else { return None }
        }
        Compression::Deflate => {
            let mut rest = bytes;
            let read = flate2::bufread::ZlibDecoder::new(&mut rest).take(limit).read_to_end(&mut out);
            if rest.is_empty() { read } else { return None }
        }
    };
    read.is_ok().then_some(out).filter(|out| out.len() <= LIMIT)
}
