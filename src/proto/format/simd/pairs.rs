//! `key=value` pairs with a separator: the other form of a log's contents.
//!
//! Why: with a call for each key and each value, `kv` took a third longer than JSON, most of it on the way in and out.
//! Invariants: as in `simd`, 1 to 3. Bounds: as [`super::replace`]. Driven by: `proto::format::syslog`.
//! Spec: `proto::format::syslog::kv`; the tests' plain loop is the oracle.

#![expect(unsafe_code, reason = "it passes on what the traits ask for; no memory is touched here")]
#![expect(
    clippy::inline_always,
    reason = "generic code gets its instructions from the function it ends up in"
)]

use super::contents::{Form, Seen, Shapes, contents};
use super::replace::replace;
use super::{Lanes, Replacements};
use crate::proto::sls::wire::{Span, WireError};

/// What stands behind a value.
#[derive(Clone, Debug)]
pub(crate) struct Separator {
    text: Vec<u8>,
    /// The same with zeros behind it, where it is short enough.
    padded: Option<[u8; 8]>,
}

impl Separator {
    pub(crate) fn new(text: &[u8]) -> Self {
        let mut padded = [0; 8];
        let place = padded.get_mut(..text.len());
        let fits = place.is_some();
        if let Some(place) = place {
            place.copy_from_slice(text);
        }
        Self { text: text.to_vec(), padded: fits.then_some(padded) }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.text
    }
}

/// How pairs are written.
#[derive(Clone, Copy)]
pub(crate) struct Pairs<'a> {
    /// What stands for bytes of keys.
    pub(crate) keys: &'a Replacements,
    /// The same for values.
    pub(crate) values: &'a Replacements,
    pub(crate) separator: &'a Separator,
}

impl Form for Pairs<'_> {
    #[inline(always)]
    unsafe fn key<V: Lanes>(&self, key: &[u8], out: &mut Vec<u8>) -> bool {
        // SAFETY: of the caller.
        let valid = unsafe { replace::<V>(self.keys, key, key.len(), out) };
        out.push(b'=');
        valid
    }

    #[inline(always)]
    unsafe fn stops<V: Lanes>(&self, block: V) -> u64 {
        // SAFETY: of the caller.
        let members = unsafe { block.members(self.values.rows()) };
        // SAFETY: of the caller.
        members | unsafe { block.not_ascii() }
    }

    #[inline(always)]
    unsafe fn value<V: Lanes>(&self, body: &[u8], from: usize, to: usize, out: &mut Vec<u8>) -> bool {
        let src = body.get(from..).unwrap_or(&[]);
        // SAFETY: of the caller.
        unsafe { replace::<V>(self.values, src, to - from, out) }
    }

    #[inline(always)]
    fn tail(&self) -> Option<([u8; 8], usize)> {
        Some((self.separator.padded?, self.separator.text.len()))
    }

    #[inline(always)]
    fn close(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.separator.text);
    }
}

/// See [`super::Kernel::pairs`].
///
/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn pairs<V: Lanes>(
    form: &Pairs<'_>,
    body: &[u8],
    log: Span,
    shapes: &mut Shapes,
    out: &mut Vec<u8>,
) -> Result<Seen, WireError> {
    // SAFETY: of the caller.
    unsafe { contents::<V, Pairs<'_>>(form, body, log, shapes, out) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Kernel;
    use super::*;

    type Pair = (Vec<u8>, Vec<u8>);

    fn bytes(tag: u8, value: &[u8], out: &mut Vec<u8>) {
        out.push(tag);
        let mut left = value.len();
        while left >= 0x80 {
            out.push(u8::try_from(left & 0x7f).unwrap() | 0x80);
            left >>= 7;
        }
        out.push(u8::try_from(left).unwrap());
        out.extend_from_slice(value);
    }

    /// A log as SLS writes it.
    fn log(pairs: &[Pair]) -> Vec<u8> {
        let mut out = vec![0x08, 0x81, 0xa2, 0xd9, 0xca, 0x06];
        for (key, value) in pairs {
            let mut message = Vec::new();
            bytes(0x0a, key, &mut message);
            bytes(0x12, value, &mut message);
            bytes(0x12, &message, &mut out);
        }
        out
    }

    fn replacements(of: &[u8]) -> Replacements {
        let mut all = Replacements::none();
        for byte in of {
            all.set(*byte, format!("\\x{byte:02x}").as_bytes());
        }
        all
    }

    fn replaced(of: &[u8], text: &[u8], out: &mut Vec<u8>) {
        for byte in String::from_utf8_lossy(text).bytes() {
            if of.contains(&byte) {
                out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
            } else {
                out.push(byte);
            }
        }
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![12 => 0x20u8..0x7f, 1 => any::<u8>(), 1 => Just(b'=')];
        prop_oneof![
            8 => prop::collection::vec(byte.clone(), 0..40),
            1 => prop::collection::vec(byte, 0..300),
            1 => "[a-z世é]{0,20}".prop_map(String::into_bytes),
            1 => Just(vec![b'x'; 5_000]),
        ]
    }

    proptest! {
        /// Law: every kernel writes what a plain loop writes, whatever shapes it has seen before and whatever stands behind
        /// the log.
        #[test]
        fn kernels_agree_with_a_plain_loop(
            keys in prop::collection::vec(text(), 1..5),
            logs in prop::collection::vec(prop::collection::vec((any::<prop::sample::Index>(), text()), 0..8), 1..5),
            separator in prop_oneof![Just("||"), Just(" "), Just("\t|<eight>"), Just("12345678")],
            behind in 0usize..50,
        ) {
            const OF_VALUES: &[u8] = b"|\n\0\\";
            const OF_KEYS: &[u8] = b"|\n\0\\=";
            let (keys_table, values_table) = (replacements(OF_KEYS), replacements(OF_VALUES));
            let separator = Separator::new(separator.as_bytes());
            let form = Pairs { keys: &keys_table, values: &values_table, separator: &separator };
            for kernel in Kernel::all() {
                let mut shapes = Shapes::new();
                for picked in &logs {
                    let pairs: Vec<Pair> =
                        picked.iter().map(|(at, value)| (keys[at.index(keys.len())].clone(), value.clone())).collect();
                    let mut body = log(&pairs);
                    let span = Span { start: 0, end: body.len() };
                    body.resize(body.len() + behind, b'|');
                    let (mut expected, mut valid) = (b"before".to_vec(), true);
                    for (key, value) in &pairs {
                        replaced(OF_KEYS, key, &mut expected);
                        expected.push(b'=');
                        replaced(OF_VALUES, value, &mut expected);
                        expected.extend_from_slice(separator.as_bytes());
                        valid &= std::str::from_utf8(key).is_ok() && std::str::from_utf8(value).is_ok();
                    }
                    let mut out = b"before".to_vec();
                    let seen = kernel.pairs(&form, &body, span, &mut shapes, &mut out).unwrap();
                    prop_assert_eq!(&out, &expected, "{:?}", kernel);
                    prop_assert_eq!((seen.time.secs, seen.invalid), (1_767_264_513, !valid), "{:?}", kernel);
                }
            }
        }
    }
}
