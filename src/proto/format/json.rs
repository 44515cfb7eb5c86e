//! Text of JSON strings: any bytes in, the inside of a valid JSON string out.
//!
//! Why: half of the bytes of a frame go through here; `serde_json` takes four times as long and wants `&str`,
//! while SLS values are bytes.
//! Invariants: 1. what is written is valid UTF-8 without a raw control character, quote or lone backslash, so a
//! frame's only newlines are those between records. 2. Bytes that are not UTF-8 become U+FFFD exactly where
//! `String::from_utf8_lossy` puts it, and the caller is told. 3. The vector code and [`escape_scalar`] write the
//! same bytes (property test).
//! Bounds: six bytes out for one byte in.
//! Driven by: `proto::format::hec`. Spec: RFC 8259 section 7; DEL, U+2028 and U+2029 stay as they are.

use super::simd::Kernel;

/// Appends `bytes` escaped, without quotes. False when some of them were not UTF-8.
pub fn escape(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    Kernel::best().escape(bytes, out)
}

/// Appends `bytes` as a JSON string in quotes. False when some of them were not UTF-8.
pub fn string(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    out.push(b'"');
    let valid = escape(bytes, out);
    out.push(b'"');
    valid
}

/// What [`escape`] does, a byte at a time: the oracle of the vector code.
pub fn escape_scalar(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    let mut valid = true;
    for chunk in bytes.utf8_chunks() {
        for &byte in chunk.valid().as_bytes() {
            match byte {
                b'"' => out.extend_from_slice(b"\\\""),
                b'\\' => out.extend_from_slice(b"\\\\"),
                0x08 => out.extend_from_slice(b"\\b"),
                0x09 => out.extend_from_slice(b"\\t"),
                0x0a => out.extend_from_slice(b"\\n"),
                0x0c => out.extend_from_slice(b"\\f"),
                0x0d => out.extend_from_slice(b"\\r"),
                0..0x20 => {
                    out.extend_from_slice(b"\\u00");
                    out.push(b'0' + (byte >> 4));
                    out.push(match byte & 15 {
                        digit @ 0..10 => b'0' + digit,
                        letter => b'a' + (letter - 10),
                    });
                }
                _ => out.push(byte),
            }
        }
        if !chunk.invalid().is_empty() {
            valid = false;
            out.extend_from_slice(REPLACEMENT);
        }
    }
    valid
}

/// U+FFFD in UTF-8.
pub(super) const REPLACEMENT: &[u8; 3] = b"\xef\xbf\xbd";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scalar(bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::new();
        let valid = escape_scalar(bytes, &mut out);
        (out, valid)
    }

    /// Bytes as logs have them: mostly text, some of everything else.
    fn nasty() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            6 => "[ -~]{0,40}".prop_map(String::into_bytes),
            2 => "\\PC{0,12}".prop_map(String::into_bytes),
            2 => "[\"\\\\{}:,a]{0,40}".prop_map(String::into_bytes),
            1 => prop::collection::vec(any::<u8>(), 0..24),
            1 => prop::collection::vec(0u8..0x21, 0..8),
            1 => Just("世界😀\u{2028}\u{7f}".as_bytes()[..].to_vec()),
            1 => Just(b"\xf0\x9f\x98".to_vec()),
            1 => Just(b"\xed\xa0\x80\xc0\x80\xf5".to_vec()),
        ];
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        /// Law: every kernel writes what the scalar twin writes, whatever stood in the buffer before.
        #[test]
        fn kernels_agree_with_the_scalar_twin(bytes in nasty(), before in 0usize..40) {
            let (expected, valid) = scalar(&bytes);
            for kernel in Kernel::all() {
                let mut out = vec![b'#'; before];
                prop_assert_eq!(kernel.escape(&bytes, &mut out), valid);
                prop_assert_eq!(&out[before..], &expected[..], "{:?}", kernel);
            }
        }

        /// Law: serde_json reads back what `from_utf8_lossy` makes of the bytes.
        #[test]
        fn reads_back_as_lossy_text(bytes in nasty()) {
            let mut out = Vec::new();
            let valid = string(&bytes, &mut out);
            let text = String::from_utf8_lossy(&bytes);
            prop_assert_eq!(valid, core::str::from_utf8(&bytes).is_ok());
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text.as_ref());
            if valid {
                prop_assert_eq!(out, serde_json::to_vec(text.as_ref()).unwrap());
            }
        }
    }

    #[test]
    fn every_byte_at_every_place_of_a_block() {
        for byte in 0..=255u8 {
            for place in 0..70 {
                let mut bytes = vec![b'a'; 70];
                bytes[place] = byte;
                let expected = scalar(&bytes);
                for kernel in Kernel::all() {
                    let mut out = Vec::new();
                    let valid = kernel.escape(&bytes, &mut out);
                    assert_eq!((out, valid), expected, "{kernel:?} byte {byte} at {place}");
                }
            }
        }
    }

    #[test]
    fn long_values_cross_every_chunk() {
        let unit = "plain text, \"quoted\", 世界\n".as_bytes();
        let long: Vec<u8> = unit.iter().copied().cycle().take(40_000).collect();
        let worst = vec![1u8; 20_000];
        for bytes in [&long[..], &worst[..], &vec![b'x'; 100_001][..], &vec![0xff; 5_000][..]] {
            let expected = scalar(bytes);
            for kernel in Kernel::all() {
                let mut out = Vec::new();
                let valid = kernel.escape(bytes, &mut out);
                assert!((out, valid) == expected, "{kernel:?}");
            }
        }
    }
}
