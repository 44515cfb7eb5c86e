//! Copying text with a replacement for some of its bytes, with vector instructions.
//!
//! Why: byte by byte, `kv` took four times as long as JSON. Which bytes are replaced is known at the start, so the set is
//! a table of bits that a byte shuffle looks up for a whole vector: the low half of a byte picks a row, the high half a bit.
//! Invariants: as in `simd`, 1 to 3; a byte that is not ASCII is never replaced.
//! Bounds: [`GROWTH`] bytes out for one byte in, reserved for [`CHUNK`] bytes at a time.
//! Driven by: `proto::format::syslog`. Spec: none; the tests' plain loop is the oracle.

#![expect(unsafe_code, reason = "vector loads and stores into spare capacity")]
#![expect(
    clippy::inline_always,
    reason = "generic code gets its instructions from the function it ends up in"
)]

use super::{CHUNK, Lanes, SLACK, is_member, lowest};
use crate::proto::format::json::REPLACEMENT;

/// Most bytes that one byte becomes; a replacement is written eight bytes at a time.
const GROWTH: usize = 8;

/// What stands for which byte.
#[derive(Clone)]
pub(crate) struct Replacements {
    /// For the low half of a byte: a bit for each high half with which it is replaced.
    rows: [u8; 16],
    /// The replacement, padded to seven bytes, and its length.
    table: Box<[[u8; 8]; 128]>,
}

impl Replacements {
    /// Nothing is replaced.
    pub(crate) fn none() -> Self {
        Self { rows: [0; 16], table: Box::new([[0; 8]; 128]) }
    }

    /// `byte`, which is ASCII, is written as `text`, which has at most seven bytes.
    pub(crate) fn set(&mut self, byte: u8, text: &[u8]) {
        let Some(place) = self.table.get_mut(usize::from(byte)) else { return };
        for (to, from) in place.iter_mut().take(7).zip(text) {
            *to = *from;
        }
        let [.., length] = place;
        *length = u8::try_from(text.len().min(7)).unwrap_or_default();
        if let Some(row) = self.rows.get_mut(usize::from(byte & 15)) {
            *row |= 1 << (byte >> 4);
        }
    }

    /// True for a byte that is replaced.
    pub(crate) fn holds(&self, byte: u8) -> bool {
        is_member(&self.rows, byte)
    }

    pub(super) fn rows(&self) -> &[u8; 16] {
        &self.rows
    }
}

/// See [`super::Kernel::replace`].
///
/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn replace<V: Lanes>(
    replacements: &Replacements,
    src: &[u8],
    to: usize,
    out: &mut Vec<u8>,
) -> bool {
    // SAFETY: of the caller.
    let stopped = unsafe { run::<V>(replacements, true, src, to, out) };
    let Some(rest) = src.get(stopped..to).filter(|rest| !rest.is_empty()) else { return true };
    if simdutf8::basic::from_utf8(rest).is_ok() {
        // SAFETY: of the caller.
        unsafe { run::<V>(replacements, false, rest, rest.len(), out) };
        return true;
    }
    for chunk in rest.utf8_chunks() {
        let valid = chunk.valid().as_bytes();
        // SAFETY: of the caller.
        unsafe { run::<V>(replacements, false, valid, valid.len(), out) };
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(REPLACEMENT);
        }
    }
    false
}

/// Appends the first `to` bytes of `src` with what stands for some of them, up to the first that is not ASCII where
/// `ascii`; says where it stopped.
///
/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
unsafe fn run<V: Lanes>(
    replacements: &Replacements,
    ascii: bool,
    src: &[u8],
    to: usize,
    out: &mut Vec<u8>,
) -> usize {
    let to = to.min(src.len());
    let mut from = 0;
    while from < to {
        let until = to.min(from + CHUNK);
        out.reserve((until - from) * GROWTH + SLACK);
        let end = out.len();
        // SAFETY: the end of the initialised part lies in (or right behind) the allocation.
        let dst = unsafe { out.as_mut_ptr().add(end) };
        let mut wrote = 0;
        let mut stopped = false;
        while from < until {
            let rest = src.get(from..).unwrap_or(&[]);
            let count = V::BYTES.min(until - from);
            let block = match rest.get(..V::BYTES) {
                // SAFETY: a whole vector lies there; instructions: of the caller.
                Some(block) => unsafe { V::load(block.as_ptr()) },
                // SAFETY: instructions: of the caller.
                None => unsafe { V::load_tail(rest) },
            };
            // SAFETY: `wrote` is at most GROWTH times what was read so far; a vector (SLACK) fits behind it.
            let place = unsafe { dst.add(wrote) };
            // SAFETY: as above.
            unsafe { block.store(place) };
            // SAFETY: instructions: of the caller.
            let mut stops = unsafe { block.members(replacements.rows()) };
            if ascii {
                // SAFETY: instructions: of the caller.
                stops |= unsafe { block.not_ascii() };
            }
            let stops = stops & lowest(count);
            if stops == 0 {
                from += count;
                wrote += count;
                continue;
            }
            let clean = stops.trailing_zeros() as usize;
            from += clean;
            wrote += clean;
            let byte = src.get(from).copied().unwrap_or(u8::MAX);
            let Some(text) = replacements.table.get(usize::from(byte)) else {
                stopped = true;
                break;
            };
            // SAFETY: within the room, as above.
            let place = unsafe { dst.add(wrote) };
            // SAFETY: eight bytes fit into the slack behind what counts.
            unsafe { place.cast::<[u8; 8]>().write_unaligned(*text) };
            let [.., length] = *text;
            wrote += usize::from(length);
            from += 1;
        }
        // SAFETY: that many bytes were written behind the length, within the capacity.
        unsafe { out.set_len(end + wrote) };
        if stopped {
            return from;
        }
    }
    from
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Kernel;
    use super::*;

    fn plain_loop(replacements: &Replacements, src: &[u8]) -> (bool, Vec<u8>) {
        let mut out = Vec::new();
        for &byte in String::from_utf8_lossy(src).as_bytes() {
            if replacements.holds(byte) {
                let text = replacements.table[usize::from(byte)];
                out.extend_from_slice(&text[..usize::from(text[7])]);
            } else {
                out.push(byte);
            }
        }
        (std::str::from_utf8(src).is_ok(), out)
    }

    fn replacements(of: &[(u8, Vec<u8>)]) -> Replacements {
        let mut all = Replacements::none();
        for (byte, text) in of {
            all.set(*byte, text);
        }
        all
    }

    proptest! {
        /// Law: every kernel writes and judges as the plain loop does, whatever stood in the buffer before.
        #[test]
        fn kernels_agree_with_a_plain_loop(
            of in prop::collection::vec((0u8..0x80, prop::collection::vec(any::<u8>(), 0..8)), 0..12),
            src in prop::collection::vec(prop_oneof![8 => 0x20u8..0x7f, 1 => any::<u8>(), 1 => Just(0xc3), 1 => 0x80u8..0xc0], 0..200),
            before in 0usize..40,
            behind in 0usize..40,
        ) {
            let replacements = replacements(&of);
            let expected = plain_loop(&replacements, &src);
            let mut longer = src.clone();
            longer.resize(src.len() + behind, b'|');
            for kernel in Kernel::all() {
                let mut out = vec![b'#'; before];
                let valid = kernel.replace(&replacements, &longer, src.len(), &mut out);
                prop_assert_eq!((valid, &out[before..]), (expected.0, &expected.1[..]), "{:?}", kernel);
            }
        }
    }

    #[test]
    fn every_byte_is_found_at_every_place_and_length() {
        for byte in 0..=u8::MAX {
            let mut one = Replacements::none();
            one.set(byte, b"<longer");
            assert_eq!(one.holds(byte), byte.is_ascii());
            for length in 1..70 {
                for place in [0, length / 2, length - 1] {
                    let mut src = vec![byte ^ 1; length];
                    src[place] = byte;
                    let expected = plain_loop(&one, &src);
                    for kernel in Kernel::all() {
                        let mut out = Vec::new();
                        let valid = kernel.replace(&one, &src, length, &mut out);
                        assert_eq!((valid, out), expected, "{kernel:?} {byte} at {place} of {length}");
                    }
                }
            }
        }
    }

    #[test]
    fn long_values_cross_every_chunk() {
        let mut pipes = Replacements::none();
        pipes.set(b'|', b"\\x7c");
        let long: Vec<u8> = b"plain text | and more".iter().copied().cycle().take(40_000).collect();
        for src in [&long[..], &vec![b'|'; 20_000], &vec![b'x'; 100_001]] {
            let expected = plain_loop(&pipes, src);
            for kernel in Kernel::all() {
                let mut out = Vec::new();
                let valid = kernel.replace(&pipes, src, src.len(), &mut out);
                assert!((valid, out) == expected, "{kernel:?}");
            }
        }
    }
}
