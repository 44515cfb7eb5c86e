//! Any bytes into the text of a format, with a replacement for the bytes that mean something there.
//!
//! Why: structured data, CEF, LEEF and `kv` each have other special bytes; a table for each is one place to be right.
//! Invariants: 1. what is appended is UTF-8: bytes that are not become U+FFFD where `String::from_utf8_lossy` puts
//! it, and the caller is told. 2. a byte without a replacement stays as it is. 3. [`clean`] writes 33 to 126 alone.
//! Bounds: seven bytes out for one byte in. Driven by: the formats. Spec: theirs.

use super::super::simd::{Kernel, Replacements};

/// What stands for each byte.
#[derive(Clone)]
pub(super) struct Escapes {
    kernel: Kernel,
    replacements: Replacements,
}

impl core::fmt::Debug for Escapes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries((0..=u8::MAX).filter(|byte| self.replacements.holds(*byte))).finish()
    }
}

impl Escapes {
    /// Nothing is replaced but what is not UTF-8.
    pub(super) fn none() -> Self {
        Self { kernel: Kernel::best(), replacements: Replacements::none() }
    }

    /// Line breaks and NUL as the text `\n`, `\r` and `\0`.
    pub(super) fn lines() -> Self {
        Self::none().with(b'\n', b"\\n").with(b'\r', b"\\r").with(0, b"\\0")
    }

    /// `byte`, which is ASCII, is written as `text`, which has at most seven bytes.
    pub(super) fn with(mut self, byte: u8, text: &[u8]) -> Self {
        self.replacements.set(byte, text);
        self
    }

    /// What stands for which byte.
    pub(super) fn replacements(&self) -> &Replacements {
        &self.replacements
    }

    /// Appends `bytes`. False when some of them were not UTF-8.
    pub(super) fn append(&self, bytes: &[u8], out: &mut Vec<u8>) -> bool {
        self.kernel.replace(&self.replacements, bytes, bytes.len(), out)
    }
}

/// Appends at most `max` characters of `text` as PRINTUSASCII: `_` stands for every other one.
pub(super) fn clean(text: &[u8], max: usize, out: &mut Vec<u8>) {
    if text.iter().all(u8::is_ascii_graphic) {
        out.extend_from_slice(text.get(..max).unwrap_or(text));
        return;
    }
    let mut left = max;
    for chunk in text.utf8_chunks() {
        let broken = (!chunk.invalid().is_empty()).then_some('_');
        for character in chunk.valid().chars().chain(broken).take(left) {
            out.push(if character.is_ascii_graphic() { character as u8 } else { b'_' });
            left -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_what_it_is_told_to() {
        let escapes = Escapes::lines().with(b'"', b"\\\"").with(b']', b"\\]").with(b'\\', b"\\\\");
        let append = |bytes: &[u8]| {
            let mut out = Vec::new();
            let valid = escapes.append(bytes, &mut out);
            (String::from_utf8(out).unwrap(), valid)
        };
        assert_eq!(append(b"plain"), ("plain".into(), true));
        assert_eq!(append(b""), (String::new(), true));
        assert_eq!(append(b"\"a]\\\n\r\0b\"\""), ("\\\"a\\]\\\\\\n\\r\\0b\\\"\\\"".into(), true));
        assert_eq!(append("世]界".as_bytes()), ("世\\]界".into(), true));
        assert_eq!(append(b"]\xff]\xf0\x9f\x98"), ("\\]\u{fffd}\\]\u{fffd}".into(), false));
    }

    #[test]
    fn header_fields_are_printable_and_short() {
        let clean = |text: &[u8], max| {
            let mut out = Vec::new();
            clean(text, max, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(clean(b"host-1", 255), "host-1");
        assert_eq!(clean(b"host-1", 4), "host");
        assert_eq!(clean("a b\tc世d\n".as_bytes(), 255), "a_b_c_d_");
        assert_eq!(clean("世界世界".as_bytes(), 3), "___");
        assert_eq!(clean(b"a\xff\xffb\x7f", 255), "a__b_");
        assert_eq!(clean(b"", 5), "");
    }
}
