//! The inner loops of the transcoder with vector instructions: escaping, and whole contents of a log.
//!
//! Why: byte by byte the transcoder reaches a quarter of this speed. Two ideas carry it. Text is stored a vector at
//! a time before it is known whether something in it needs an escape. And the fields of a log repeat: the bytes
//! `tag length key tag` of a field and the JSON text of its key are remembered ([`Shapes`]), so that a known field
//! costs one vector compare and one vector store before its value.
//! Invariants: 1. vectors are loaded from inside the slice that was passed in, or from a padded copy of its tail.
//! 2. Before bytes are written there is room for six times the input and one vector more ([`room`]). 3. A kernel
//! with AVX2 exists only where the CPU has it. 4. A field that is not exactly of a remembered shape goes the
//! general way, which bounds-checks everything.
//! Bounds: values above [`CHUNK`] are escaped piece by piece, so that `out` grows with what is written and not by
//! six times the value. [`Shapes`] is fixed: 256 shapes of at most 28 key bytes.
//! Driven by: `proto::format::{json, hec, syslog}`.
//! Spec: none of its own; `json::escape_scalar` is the oracle.

#![expect(unsafe_code, reason = "vector loads and stores into spare capacity; the one such room here")]
#![expect(
    clippy::inline_always,
    reason = "generic code gets its instructions from the function it ends up in"
)]

mod replace;

use core::fmt;

pub(crate) use self::replace::Replacements;
use super::json::REPLACEMENT;
use crate::proto::sls::wire::{LogField, LogFields, LogTime, Span, WireError, usual_secs};

/// A choice of vector instructions, made once.
#[derive(Clone, Copy)]
pub(crate) struct Kernel {
    name: &'static str,
    escape: EscapeFn,
    contents: ContentsFn,
    replace: ReplaceFn,
}

type EscapeFn = unsafe fn(&[u8], &mut Vec<u8>) -> bool;
type ReplaceFn = unsafe fn(&Replacements, bool, &[u8], usize, &mut Vec<u8>) -> usize;
type ContentsFn = unsafe fn(&[u8], Span, &mut Shapes, &mut Vec<u8>) -> Result<Seen, WireError>;

/// What a log held besides its contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Its time, as its fields say.
    pub(crate) time: LogTime,
    /// A key or value is not UTF-8.
    pub(crate) invalid: bool,
}

impl Kernel {
    /// The fastest that this CPU runs.
    pub(crate) fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if x86::has_avx2() { x86::AVX2 } else { x86::SSE2 }
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

    /// Appends the first `to` bytes of `src` with what stands for some of them, up to the first that is not ASCII where
    /// `ascii`; says where it stopped. What follows in `src` is read and does not count: with it short texts are faster.
    pub(crate) fn replace(
        self,
        replacements: &Replacements,
        ascii: bool,
        src: &[u8],
        to: usize,
        out: &mut Vec<u8>,
    ) -> usize {
        // SAFETY: invariant 3, kept by `best` and `all`, the only makers of a `Kernel`.
        unsafe { (self.replace)(replacements, ascii, src, to, out) }
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
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The field layouts seen lately. Which one follows which is remembered too: a log that repeats the last one's
/// layout never needs a look-up.
#[derive(Clone, Debug)]
pub(crate) struct Shapes {
    slots: Box<[Shape; SLOTS]>,
    last: u8,
    scratch: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
struct Shape {
    /// `0a <key length> <key> 12`: the beginning of a content message, up to the value's length.
    wire: [u8; 32],
    /// `"<escaped key>":"`.
    text: [u8; 32],
    wire_mask: u32,
    wire_len: u8,
    text_len: u8,
    next: u8,
}

impl Shapes {
    #[expect(clippy::large_stack_arrays, reason = "24 KiB, once per encoder, on its way into the box")]
    pub(crate) fn new() -> Self {
        // The first byte of no content message, so that an empty slot matches nothing.
        let empty =
            Shape { wire: [0xff; 32], text: [0; 32], wire_mask: 1, wire_len: 1, text_len: 0, next: 0 };
        Self { slots: Box::new([empty; SLOTS]), last: 0, scratch: Vec::with_capacity(256) }
    }

    /// Finds or learns the shape at the beginning of `message`; `None` for one that is not remembered.
    #[cold]
    fn look_up(&mut self, message: &[u8]) -> Option<u8> {
        let (&[0x0a, key_len], rest) = message.split_first_chunk::<2>()? else { return None };
        let wire_len = usize::from(key_len) + 3;
        let key = rest.get(..usize::from(key_len))?;
        if wire_len > 32 || rest.get(key.len()) != Some(&0x12) {
            return None;
        }
        let hash = key
            .iter()
            .fold(0x811c_9dc5_u32, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let index = u8::try_from((hash >> 16 ^ hash) & 0xff).ok()?;
        let wire = message.get(..wire_len)?;
        let slot = self.slots.get_mut(usize::from(index))?;
        if slot.wire.get(..usize::from(slot.wire_len)) != Some(wire) {
            let text = &mut self.scratch;
            text.clear();
            text.push(b'"');
            if !super::json::escape_scalar(key, text) {
                return None;
            }
            text.extend_from_slice(b"\":\"");
            slot.text.get_mut(..text.len())?.copy_from_slice(text);
            slot.wire.get_mut(..wire_len)?.copy_from_slice(wire);
            slot.wire_mask = u32::MAX >> (32 - wire_len);
            slot.wire_len = u8::try_from(wire_len).ok()?;
            slot.text_len = u8::try_from(text.len()).ok()?;
        }
        if let Some(last) = self.slots.get_mut(usize::from(self.last)) {
            last.next = index;
        }
        Some(index)
    }
}

/// A vector of bytes. Methods are unsafe to call where the CPU lacks the instructions.
trait Lanes: Copy {
    const BYTES: usize;
    /// Loads `BYTES` bytes.
    unsafe fn load(from: *const u8) -> Self;
    /// Stores `BYTES` bytes.
    unsafe fn store(self, to: *mut u8);
    /// A bit for each byte that is a control character, a quote, a backslash or not ASCII.
    unsafe fn stops(self) -> u32;
    /// A bit for each byte that is a control character, a quote or a backslash.
    unsafe fn escapes(self) -> u32;
    /// A bit for each byte of 32 that is the same in both places.
    unsafe fn same_32(left: *const u8, right: *const u8) -> u32;
    /// A bit for each ASCII byte that the table holds; see [`replace::Replacements`].
    unsafe fn members(self, rows: &[u8; 16]) -> u32;
    /// A bit for each byte that is not ASCII.
    unsafe fn not_ascii(self) -> u32;
}

/// See [`Kernel::contents`].
///
/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
unsafe fn contents<V: Lanes>(
    body: &[u8],
    log: Span,
    shapes: &mut Shapes,
    out: &mut Vec<u8>,
) -> Result<Seen, WireError> {
    let mut seen = Seen::default();
    let mut pos = log.start;
    // Refuses a span that is not of this body.
    LogFields::within(body, log)?;
    while pos < log.end {
        // SAFETY: of the caller.
        if let Some(next) = unsafe { known_content::<V>(body, pos, log.end, shapes, out, &mut seen.invalid) }
        {
            pos = next;
            continue;
        }
        let rest = body.get(pos..log.end).unwrap_or(&[]);
        if let Some((secs, length)) = usual_secs(rest) {
            seen.time.secs = secs;
            pos += length;
            continue;
        }
        if let &[0x25, a, b, c, d, ..] = rest {
            seen.time.nanos = Some(u32::from_le_bytes([a, b, c, d]));
            pos += 5;
            continue;
        }
        let mut fields = LogFields::within(body, Span { start: pos, end: log.end })?;
        match fields.next().transpose()? {
            Some(LogField::Content(key, value)) => {
                out.push(b'"');
                // SAFETY: of the caller.
                seen.invalid |= !unsafe { escape::<V>(key, out) };
                out.extend_from_slice(b"\":\"");
                // SAFETY: of the caller.
                seen.invalid |= !unsafe { escape::<V>(value, out) };
                out.extend_from_slice(b"\",");
            }
            Some(LogField::Secs(secs)) => seen.time.secs = secs,
            Some(LogField::Nanos(nanos)) => seen.time.nanos = Some(nanos),
            None => {}
        }
        pos = fields.offset();
    }
    Ok(seen)
}

/// Writes the content at `pos` when it is of a remembered shape, and says where the next field begins. `None` has
/// written nothing.
///
/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
unsafe fn known_content<V: Lanes>(
    body: &[u8],
    pos: usize,
    log_end: usize,
    shapes: &mut Shapes,
    out: &mut Vec<u8>,
    invalid: &mut bool,
) -> Option<usize> {
    let window = body.get(pos..)?.first_chunk::<WINDOW>()?;
    let (head, length) = match *window {
        [0x12, a, ..] if a < 0x80 => (2, usize::from(a)),
        [0x12, a, b, ..] if b < 0x80 => (3, usize::from(a & 0x7f) | usize::from(b) << 7),
        _ => return None,
    };
    let end = pos + head + length;
    if end > log_end {
        return None;
    }
    let message = window.get(head..)?;
    let expected = shapes.slots.get(usize::from(shapes.last))?.next;
    let mut index = expected;
    let mut shape = shapes.slots.get(usize::from(expected))?;
    // SAFETY: `message` is longer than 32 bytes (WINDOW - 3), `wire` is 32; instructions: of the caller.
    let same = unsafe { V::same_32(message.as_ptr(), shape.wire.as_ptr()) };
    if same & shape.wire_mask != shape.wire_mask {
        index = shapes.look_up(message)?;
        shape = shapes.slots.get(usize::from(index))?;
    }
    let after_key = usize::from(shape.wire_len);
    let (value_head, value_len) = match *message.get(after_key..)? {
        [a, ..] if a < 0x80 => (1, usize::from(a)),
        [a, b, ..] if b < 0x80 => (2, usize::from(a & 0x7f) | usize::from(b) << 7),
        _ => return None,
    };
    let value = pos + head + after_key + value_head;
    if value + value_len != end || value_len > CHUNK {
        return None;
    }
    // 32 bytes of key text are stored, at most 32 count.
    let dst = room(out, value_len + 32 / GROWTH + 1);
    // SAFETY: `room` left more than that.
    unsafe { dst.cast::<[u8; 32]>().write_unaligned(shape.text) };
    let text_len = usize::from(shape.text_len);
    shapes.last = index;
    // SAFETY: within the room: `text_len` is at most 32.
    let dst = unsafe { dst.add(text_len) };
    // SAFETY: room for the value is left behind the key; `value..end` lies in `body`; instructions: of the caller.
    let (stopped, wrote) = if unsafe { short_run::<V>(body, value, value_len, dst) } {
        (end, value_len)
    } else {
        // SAFETY: as above.
        unsafe { run::<V, true>(body, value, end, dst) }
    };
    let filled = out.len() + text_len + wrote;
    if stopped == end {
        // SAFETY: within the room, behind what `run` wrote.
        let quote = unsafe { dst.add(wrote) };
        // SAFETY: the room ends a vector behind what `run` may write.
        unsafe { quote.cast::<[u8; 2]>().write_unaligned(*b"\",") };
        // SAFETY: everything up to here has been written, within the capacity.
        unsafe { out.set_len(filled + 2) };
    } else {
        // SAFETY: everything up to here has been written, within the capacity.
        unsafe { out.set_len(filled) };
        // SAFETY: of the caller.
        *invalid |= !unsafe { text::<V>(body, stopped, end, out) };
        out.extend_from_slice(b"\",");
    }
    Some(end)
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

/// Writes `src[from..]` of `len` bytes if it fits into one vector and needs no escape; otherwise what it wrote does
/// not count.
///
/// # Safety
/// The CPU has the instructions of `V`; `dst` may be written for a vector.
#[inline(always)]
unsafe fn short_run<V: Lanes>(src: &[u8], from: usize, len: usize, dst: *mut u8) -> bool {
    let Some(block) = src.get(from..from + V::BYTES).filter(|_| len <= V::BYTES) else { return false };
    // SAFETY: a whole vector lies there (invariant 1); instructions: of the caller.
    let block = unsafe { V::load(block.as_ptr()) };
    // SAFETY: of the caller.
    unsafe { block.store(dst) };
    // SAFETY: instructions: of the caller.
    let stops = unsafe { block.stops() };
    u64::from(stops) & ((1 << len) - 1) == 0
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
            None => unsafe { load_tail(src, from) },
        };
        // SAFETY: `wrote` is at most GROWTH times what was read so far; a vector fits behind it.
        let place = unsafe { dst.add(wrote) };
        // SAFETY: as above; SLACK is at least one vector.
        unsafe { block.store(place) };
        let stops = if ASCII {
            // SAFETY: instructions: of the caller.
            unsafe { block.stops() }
        } else {
            // SAFETY: instructions: of the caller.
            unsafe { block.escapes() }
        };
        let stops = u64::from(stops) & ((1 << count) - 1);
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

/// Loads the last bytes of `src` where fewer than a vector are left.
///
/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
unsafe fn load_tail<V: Lanes>(src: &[u8], from: usize) -> V {
    let padded = padded(src.get(from..).unwrap_or(&[]));
    // SAFETY: a vector is at most 32 bytes; instructions: of the caller.
    unsafe { V::load(padded.as_ptr()) }
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

/// Bytes looked at for the head of a content: tag and length (3), a shape (32), a value's length (2) and some.
const WINDOW: usize = 40;
/// Most bytes that one byte becomes.
const GROWTH: usize = 6;
/// Room behind the last escaped byte: one vector, and the quote and comma of a content.
const SLACK: usize = 64;
/// Longest input that room is made for at once.
const CHUNK: usize = 4096;
/// As many as a byte can name.
const SLOTS: usize = 256;

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
    contents: contents::<Portable>,
    replace: replace::replace::<Portable>,
};

/// Sixteen bytes without vector instructions, for other CPUs and as a second opinion in tests.
#[cfg(any(test, not(target_arch = "x86_64")))]
#[derive(Clone, Copy)]
struct Portable([u8; 16]);

#[cfg(any(test, not(target_arch = "x86_64")))]
impl Portable {
    fn bits(self, wanted: impl Fn(u8) -> bool) -> u32 {
        self.0.iter().rev().fold(0, |mask, &byte| mask << 1 | u32::from(wanted(byte)))
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
    unsafe fn stops(self) -> u32 {
        self.bits(|byte| byte < 0x20 || byte == b'"' || byte == b'\\' || byte >= 0x80)
    }

    #[inline(always)]
    unsafe fn escapes(self) -> u32 {
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
    unsafe fn members(self, rows: &[u8; 16]) -> u32 {
        self.bits(|byte| is_member(rows, byte))
    }

    #[inline(always)]
    unsafe fn not_ascii(self) -> u32 {
        self.bits(|byte| !byte.is_ascii())
    }
}

#[cfg(target_arch = "x86_64")]
mod x86;
