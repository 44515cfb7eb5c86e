//! The inner loops of the transcoder with vector instructions: escaping, and whole contents of a log.
//!
//! Why: byte by byte the transcoder reaches a quarter of this speed. Two ideas carry it. Text is stored a vector at
//! a time before it is known whether something in it needs an escape. And the fields of a log repeat, so what stands before a
//! value is remembered ([`Shapes`]).
//! Invariants: 1. vectors are loaded from inside the slice that was passed in, or from a padded copy of its tail, or under
//! a mask that leaves out what lies behind it. 2. Before bytes are written there is room for six times the input and one vector
//! more ([`room`]). 3. A kernel
//! with AVX2 or AVX-512 exists only where the CPU has it.
//! Bounds: values above [`CHUNK`] are escaped piece by piece, so that `out` grows with what is written and not by
//! six times the value.
//! Driven by: `proto::format::{json, hec, syslog}`.
//! Spec: none of its own; `json::escape_scalar` is the oracle.

#![expect(unsafe_code, reason = "vector loads and stores into spare capacity; the one such room here")]
#![expect(
    clippy::inline_always,
    reason = "generic code gets its instructions from the function it ends up in"
)]

mod contents;
mod pairs;
mod replace;

use core::fmt;

pub(crate) use self::contents::{Seen, Shapes};
pub(crate) use self::pairs::{Pairs, Separator};
pub(crate) use self::replace::Replacements;
use super::json::REPLACEMENT;
use crate::proto::sls::wire::{Span, WireError};

/// A choice of vector instructions, made once.
#[derive(Clone, Copy)]
pub(crate) struct Kernel {
    name: &'static str,
    escape: EscapeFn,
    contents: ContentsFn,
    pairs: PairsFn,
    replace: ReplaceFn,
}

type EscapeFn = unsafe fn(&[u8], &mut Vec<u8>) -> bool;
type ReplaceFn = unsafe fn(&Replacements, &[u8], usize, &mut Vec<u8>) -> bool;
type ContentsFn = unsafe fn(&[u8], Span, &mut Shapes, &mut Vec<u8>) -> Result<Seen, WireError>;
type PairsFn = unsafe fn(&Pairs<'_>, &[u8], Span, &mut Shapes, &mut Vec<u8>) -> Result<Seen, WireError>;

impl Kernel {
    /// The fastest that this CPU runs.
    pub(crate) fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if x86::has_avx512() {
                x86::AVX512
            } else if x86::has_avx2() {
                x86::AVX2
            } else {
                x86::SSE2
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            PORTABLE
        }
    }

    /// All that this CPU runs.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        {
            let mut all = vec![PORTABLE, x86::SSE2];
            if x86::has_avx2() {
                all.push(x86::AVX2);
            }
            if x86::has_avx512() {
                all.push(x86::AVX512);
            }
            all
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            vec![PORTABLE]
        }
    }

    /// Appends `bytes` as the inside of a JSON string. False when some of them were not UTF-8.
    pub(crate) fn escape(self, bytes: &[u8], out: &mut Vec<u8>) -> bool {
        // SAFETY: invariant 3, kept by `best` and `all`, the only makers of a `Kernel`.
        unsafe { (self.escape)(bytes, out) }
    }

    /// Appends the first `to` bytes of `src` with what stands for some of them, and U+FFFD for what is not UTF-8 where
    /// `String::from_utf8_lossy` puts it; false where there was such. What follows in `src` is read and does not count: with
    /// it short texts are faster.
    pub(crate) fn replace(
        self,
        replacements: &Replacements,
        src: &[u8],
        to: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        // SAFETY: invariant 3, kept by `best` and `all`, the only makers of a `Kernel`.
        unsafe { (self.replace)(replacements, src, to, out) }
    }

    /// Appends `"key":"value",` for each content of the log at `log`. After an error `out` may end anywhere.
    pub(crate) fn contents(
        self,
        body: &[u8],
        log: Span,
        shapes: &mut Shapes,
        out: &mut Vec<u8>,
    ) -> Result<Seen, WireError> {
        // SAFETY: invariant 3, kept by `best` and `all`, the only makers of a `Kernel`.
        unsafe { (self.contents)(body, log, shapes, out) }
    }

    /// Appends key, `=`, value and separator for each content of the log at `log`, as `form` writes them. `shapes` is for this
    /// form alone. After an error `out` may end anywhere.
    pub(crate) fn pairs(
        self,
        form: &Pairs<'_>,
        body: &[u8],
        log: Span,
        shapes: &mut Shapes,
        out: &mut Vec<u8>,
    ) -> Result<Seen, WireError> {
        // SAFETY: invariant 3, kept by `best` and `all`, the only makers of a `Kernel`.
        unsafe { (self.pairs)(form, body, log, shapes, out) }
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A vector of bytes. Methods are unsafe to call where the CPU lacks the instructions.
trait Lanes: Copy {
    const BYTES: usize;
    /// Loads `BYTES` bytes.
    unsafe fn load(from: *const u8) -> Self;
    /// The bytes of `src`, which are fewer than `BYTES`, and something behind them.
    #[inline(always)]
    unsafe fn load_tail(src: &[u8]) -> Self {
        let padded = padded(src);
        // SAFETY: a vector that has no other way is at most 32 bytes; instructions: of the caller.
        unsafe { Self::load(padded.as_ptr()) }
    }
    /// Stores `BYTES` bytes.
    unsafe fn store(self, to: *mut u8);
    /// A bit for each byte that is a control character, a quote, a backslash or not ASCII.
    unsafe fn stops(self) -> u64;
    /// A bit for each byte that is a control character, a quote or a backslash.
    unsafe fn escapes(self) -> u64;
    /// A bit for each byte of 32 that is the same in both places.
    unsafe fn same_32(left: *const u8, right: *const u8) -> u32;
    /// A bit for each ASCII byte that the table holds; see [`replace::Replacements`].
    unsafe fn members(self, rows: &[u8; 16]) -> u64;
    /// A bit for each byte that is not ASCII.
    unsafe fn not_ascii(self) -> u64;
}

/// See [`Kernel::escape`].
///
/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
unsafe fn escape<V: Lanes>(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    // SAFETY: of the caller.
    let stopped = unsafe { append::<V, true>(bytes, 0, bytes.len(), out) };
    // SAFETY: of the caller.
    stopped == bytes.len() || unsafe { text::<V>(bytes, stopped, bytes.len(), out) }
}

/// Appends `src[from..to]`, which need not be ASCII, escaped. False when some of it was not UTF-8.
///
/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
unsafe fn text<V: Lanes>(src: &[u8], from: usize, to: usize, out: &mut Vec<u8>) -> bool {
    let value = src.get(from..to).unwrap_or(&[]);
    if simdutf8::basic::from_utf8(value).is_ok() {
        // SAFETY: of the caller.
        unsafe { append::<V, false>(src, from, to, out) };
        return true;
    }
    for chunk in value.utf8_chunks() {
        let valid = chunk.valid().as_bytes();
        // SAFETY: of the caller.
        unsafe { append::<V, false>(valid, 0, valid.len(), out) };
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(REPLACEMENT);
        }
    }
    false
}

/// [`run`] into `out`, growing it as needed; says where it stopped.
///
/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
unsafe fn append<V: Lanes, const ASCII: bool>(
    src: &[u8],
    from: usize,
    to: usize,
    out: &mut Vec<u8>,
) -> usize {
    let to = to.min(src.len());
    let mut from = from;
    while from < to {
        let until = to.min(from + CHUNK);
        let dst = room(out, until - from);
        // SAFETY: `room` left what `run` asks for; `until` is at most the length; instructions: of the caller.
        let (stopped, wrote) = unsafe { run::<V, ASCII>(src, from, until, dst) };
        // SAFETY: `run` has written that many bytes behind the length, within the capacity.
        unsafe { out.set_len(out.len() + wrote) };
        if stopped < until {
            return stopped;
        }
        from = until;
    }
    from
}

/// Writes `src[from..to]` escaped; says where it stopped and how many bytes count. With `ASCII` it stops in front of
/// the first byte that is not ASCII.
///
/// # Safety
/// The CPU has the instructions of `V`; `to` is at most the length of `src`; `dst` may be written for
/// `GROWTH * (to - from) + SLACK` bytes.
#[inline(always)]
unsafe fn run<V: Lanes, const ASCII: bool>(
    src: &[u8],
    mut from: usize,
    to: usize,
    dst: *mut u8,
) -> (usize, usize) {
    let mut wrote = 0;
    while from < to {
        let count = V::BYTES.min(to - from);
        let block = match src.get(from..from + V::BYTES) {
            // SAFETY: a whole vector lies there (invariant 1); instructions: of the caller.
            Some(block) => unsafe { V::load(block.as_ptr()) },
            // SAFETY: instructions: of the caller.
            None => unsafe { V::load_tail(src.get(from..).unwrap_or(&[])) },
        };
        // SAFETY: `wrote` is at most GROWTH times what was read so far; a vector fits behind it.
        let place = unsafe { dst.add(wrote) };
        // SAFETY: as above; SLACK is more than one vector.
        unsafe { block.store(place) };
        let stops = if ASCII {
            // SAFETY: instructions: of the caller.
            unsafe { block.stops() }
        } else {
            // SAFETY: instructions: of the caller.
            unsafe { block.escapes() }
        };
        let stops = stops & lowest(count);
        if stops == 0 {
            from += count;
            wrote += count;
            continue;
        }
        let clean = stops.trailing_zeros() as usize;
        from += clean;
        wrote += clean;
        let Some(&byte) = src.get(from) else { break };
        if ASCII && byte >= 0x80 {
            break;
        }
        // SAFETY: within the room, as above.
        let place = unsafe { dst.add(wrote) };
        // SAFETY: eight bytes fit into the slack behind what counts.
        let escaped = unsafe { write_escape(byte, place) };
        wrote += escaped;
        from += 1;
    }
    (from, wrote)
}

/// Writes the escape of `byte` (eight bytes, of which the returned number counts).
///
/// # Safety
/// `place` may be written for eight bytes.
#[inline(always)]
unsafe fn write_escape(byte: u8, place: *mut u8) -> usize {
    // The table has an entry for each value of a byte; the compiler drops the check.
    let escape = ESCAPES.get(usize::from(byte)).copied().unwrap_or([0; 8]);
    // SAFETY: of the caller.
    unsafe { place.cast::<[u8; 8]>().write_unaligned(escape) };
    let [.., length] = escape;
    usize::from(length)
}

/// As many ones, from the lowest bit on; at most 64.
#[inline(always)]
fn lowest(count: usize) -> u64 {
    let bits = u32::try_from(count).unwrap_or(u32::MAX);
    1_u64.unbounded_shl(bits).wrapping_sub(1)
}

/// The first 32 bytes, or fewer and zeros behind them. In two pieces of a fixed length each, which may overlap: a call of
/// `memcpy` costs more than the rest of a short value. A vector load behind narrower stores waits for them, though, so
/// callers pass what follows in memory where they can.
#[inline(always)]
fn padded(src: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    let fits = put::<16>(src, &mut out) || put::<8>(src, &mut out) || put::<4>(src, &mut out);
    if !fits {
        for (to, from) in out.iter_mut().zip(src).take(3) {
            *to = *from;
        }
    }
    out
}

/// True where `src` has `N` to 32 bytes and they are copied.
#[inline(always)]
fn put<const N: usize>(src: &[u8], out: &mut [u8; 32]) -> bool {
    let (Some(first), Some(last)) = (src.first_chunk::<N>(), src.last_chunk::<N>()) else { return false };
    if let Some(place) = out.first_chunk_mut::<N>() {
        *place = *first;
    }
    if let Some(place) = out.get_mut(src.len() - N..).and_then(<[u8]>::first_chunk_mut::<N>) {
        *place = *last;
    }
    true
}

/// Makes room for `len` escaped bytes and a vector more behind the end of `out`, and points there.
#[inline(always)]
fn room(out: &mut Vec<u8>, len: usize) -> *mut u8 {
    out.reserve(len * GROWTH + SLACK);
    // SAFETY: the end of the initialised part lies in (or right behind) the allocation.
    unsafe { out.as_mut_ptr().add(out.len()) }
}

/// One byte of [`Lanes::members`].
#[inline(always)]
fn is_member(rows: &[u8; 16], byte: u8) -> bool {
    byte.is_ascii() && rows.get(usize::from(byte & 15)).is_some_and(|row| row >> (byte >> 4) & 1 == 1)
}

/// Most bytes that one byte becomes.
const GROWTH: usize = 6;
/// Room behind the last escaped byte: two vectors, and what stands behind a value.
const SLACK: usize = 160;
/// Longest input that room is made for at once.
const CHUNK: usize = 4096;

/// For each byte that needs it: the escape, padded to seven bytes, and its length.
static ESCAPES: [[u8; 8]; 256] = escapes();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler: a bad index does not build")]
const fn escapes() -> [[u8; 8]; 256] {
    const HEX: [u8; 16] = *b"0123456789abcdef";
    const SHORT: [(u8, u8); 7] =
        [(b'"', b'"'), (b'\\', b'\\'), (8, b'b'), (9, b't'), (10, b'n'), (12, b'f'), (13, b'r')];
    let mut table = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = [b'\\', b'u', b'0', b'0', HEX[byte >> 4], HEX[byte & 15], 0, 6];
        byte += 1;
    }
    let mut index = 0;
    while index < SHORT.len() {
        table[SHORT[index].0 as usize] = [b'\\', SHORT[index].1, 0, 0, 0, 0, 0, 2];
        index += 1;
    }
    table
}

#[cfg(any(test, not(target_arch = "x86_64")))]
const PORTABLE: Kernel = Kernel {
    name: "portable",
    escape: escape::<Portable>,
    contents: contents::json::<Portable>,
    pairs: pairs::pairs::<Portable>,
    replace: replace::replace::<Portable>,
};

/// Sixteen bytes without vector instructions, for other CPUs and as a second opinion in tests.
#[cfg(any(test, not(target_arch = "x86_64")))]
#[derive(Clone, Copy)]
struct Portable([u8; 16]);

#[cfg(any(test, not(target_arch = "x86_64")))]
impl Portable {
    fn bits(self, wanted: impl Fn(u8) -> bool) -> u64 {
        self.0.iter().rev().fold(0, |mask, &byte| mask << 1 | u64::from(wanted(byte)))
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
impl Lanes for Portable {
    const BYTES: usize = 16;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: of the caller.
        Self(unsafe { from.cast::<[u8; 16]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: of the caller.
        unsafe { to.cast::<[u8; 16]>().write_unaligned(self.0) };
    }

    #[inline(always)]
    unsafe fn stops(self) -> u64 {
        self.bits(|byte| byte < 0x20 || byte == b'"' || byte == b'\\' || byte >= 0x80)
    }

    #[inline(always)]
    unsafe fn escapes(self) -> u64 {
        self.bits(|byte| byte < 0x20 || byte == b'"' || byte == b'\\')
    }

    #[inline(always)]
    unsafe fn same_32(left: *const u8, right: *const u8) -> u32 {
        // SAFETY: of the caller.
        let left = unsafe { left.cast::<[u8; 32]>().read_unaligned() };
        // SAFETY: of the caller.
        let right = unsafe { right.cast::<[u8; 32]>().read_unaligned() };
        left.iter().zip(&right).rev().fold(0, |mask, (left, right)| mask << 1 | u32::from(left == right))
    }

    #[inline(always)]
    unsafe fn members(self, rows: &[u8; 16]) -> u64 {
        self.bits(|byte| is_member(rows, byte))
    }

    #[inline(always)]
    unsafe fn not_ascii(self) -> u64 {
        self.bits(|byte| !byte.is_ascii())
    }
}

#[cfg(target_arch = "x86_64")]
mod x86;
