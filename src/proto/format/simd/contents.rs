//! The contents of a log, field by field, in whatever form.
//!
//! Why: the fields of a log repeat: the bytes `tag length key tag` of a field and the text of its key are remembered
//! ([`Shapes`]), so that a known field costs one vector compare and one vector store before its value.
//! Invariants: as in `simd`, 1 to 3. 4. A field that is not exactly of a remembered shape goes the general way, which
//! bounds-checks everything. 5. [`Shapes`] belong to one form: they hold its text.
//! Bounds: [`Shapes`] is fixed: 256 shapes of at most 28 key bytes. Driven by: [`super::Kernel`].
//! Spec: the SLS protocol notes for the wire; `json::escape_scalar` is the oracle of the one form, a plain loop that of the
//! other.

#![expect(unsafe_code, reason = "vector loads and stores into spare capacity")]
#![expect(
    clippy::inline_always,
    reason = "generic code gets its instructions from the function it ends up in"
)]

use super::{CHUNK, GROWTH, Lanes, append, escape, lowest, room, text};
use crate::proto::sls::wire::{LogField, LogFields, LogTime, Span, WireError, usual_secs};

/// What a log held besides its contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Its time, as its fields say.
    pub(crate) time: LogTime,
    /// A key or value is not UTF-8.
    pub(crate) invalid: bool,
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
    /// What the form writes before the value.
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
    ///
    /// # Safety
    /// The CPU has the instructions of `V`.
    #[cold]
    unsafe fn look_up<V: Lanes, F: Form>(&mut self, form: &F, message: &[u8]) -> Option<u8> {
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
            // SAFETY: of the caller.
            if !unsafe { form.key::<V>(key, text) } {
                return None;
            }
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

/// How contents are written. Methods are unsafe to call where the CPU lacks the instructions of `V`.
pub(super) trait Form {
    /// Appends a key and what stands between it and its value. False when some of it was not UTF-8.
    unsafe fn key<V: Lanes>(&self, key: &[u8], out: &mut Vec<u8>) -> bool;
    /// A bit for each byte that no value holds as it is, or that is not ASCII.
    unsafe fn stops<V: Lanes>(&self, block: V) -> u64;
    /// Appends `body[from..to]`. False when some of it was not UTF-8.
    unsafe fn value<V: Lanes>(&self, body: &[u8], from: usize, to: usize, out: &mut Vec<u8>) -> bool;
    /// What stands behind a value, padded, and its length; none where it is longer than that.
    fn tail(&self) -> Option<([u8; 8], usize)>;
    /// Appends the same.
    fn close(&self, out: &mut Vec<u8>);
}

/// `"key":"value",`
struct Json;

impl Form for Json {
    #[inline(always)]
    unsafe fn key<V: Lanes>(&self, key: &[u8], out: &mut Vec<u8>) -> bool {
        out.push(b'"');
        // SAFETY: of the caller.
        let valid = unsafe { escape::<V>(key, out) };
        out.extend_from_slice(b"\":\"");
        valid
    }

    #[inline(always)]
    unsafe fn stops<V: Lanes>(&self, block: V) -> u64 {
        // SAFETY: of the caller.
        unsafe { block.stops() }
    }

    #[inline(always)]
    unsafe fn value<V: Lanes>(&self, body: &[u8], from: usize, to: usize, out: &mut Vec<u8>) -> bool {
        // SAFETY: of the caller.
        let stopped = unsafe { append::<V, true>(body, from, to, out) };
        // SAFETY: of the caller.
        stopped == to || unsafe { text::<V>(body, stopped, to, out) }
    }

    #[inline(always)]
    fn tail(&self) -> Option<([u8; 8], usize)> {
        Some((*b"\",\0\0\0\0\0\0", 2))
    }

    #[inline(always)]
    fn close(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\",");
    }
}

/// See [`super::Kernel::contents`].
///
/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn json<V: Lanes>(
    body: &[u8],
    log: Span,
    shapes: &mut Shapes,
    out: &mut Vec<u8>,
) -> Result<Seen, WireError> {
    // SAFETY: of the caller.
    unsafe { contents::<V, Json>(&Json, body, log, shapes, out) }
}

/// Writes each content of a log as `form` does.
///
/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn contents<V: Lanes, F: Form>(
    form: &F,
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
        if let Some((next, valid)) = unsafe { known_content::<V, F>(form, body, pos, log.end, shapes, out) } {
            seen.invalid |= !valid;
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
                // SAFETY: of the caller.
                seen.invalid |= !unsafe { form.key::<V>(key, out) };
                // SAFETY: of the caller.
                seen.invalid |= !unsafe { form.value::<V>(value, 0, value.len(), out) };
                form.close(out);
            }
            Some(LogField::Secs(secs)) => seen.time.secs = secs,
            Some(LogField::Nanos(nanos)) => seen.time.nanos = Some(nanos),
            None => {}
        }
        pos = fields.offset();
    }
    Ok(seen)
}

/// Writes the content at `pos` when it is of a remembered shape; says where the next field begins, and whether the value is
/// UTF-8. `None` has written nothing.
///
/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
unsafe fn known_content<V: Lanes, F: Form>(
    form: &F,
    body: &[u8],
    pos: usize,
    log_end: usize,
    shapes: &mut Shapes,
    out: &mut Vec<u8>,
) -> Option<(usize, bool)> {
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
        // SAFETY: of the caller.
        index = unsafe { shapes.look_up::<V, F>(form, message) }?;
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
    // 32 bytes of key text are stored, at most 32 count; two vectors (in the slack) or the value and eight bytes behind it.
    let dst = room(out, value_len + (32 + 8) / GROWTH + 1);
    // SAFETY: `room` left more than that.
    unsafe { dst.cast::<[u8; 32]>().write_unaligned(shape.text) };
    let text_len = usize::from(shape.text_len);
    shapes.last = index;
    // SAFETY: within the room: `text_len` is at most 32.
    let dst = unsafe { dst.add(text_len) };
    let filled = out.len() + text_len;
    if let Some((tail, tail_len)) = form.tail()
        // SAFETY: room for two vectors is left behind the key; instructions: of the caller.
        && unsafe { short_run::<V, F>(form, body, value, value_len, dst) }
    {
        // SAFETY: within the room, behind the value.
        let behind = unsafe { dst.add(value_len) };
        // SAFETY: as above.
        unsafe { behind.cast::<[u8; 8]>().write_unaligned(tail) };
        // SAFETY: everything up to here has been written, within the capacity.
        unsafe { out.set_len(filled + value_len + tail_len.min(8)) };
        return Some((end, true));
    }
    // SAFETY: everything up to here has been written, within the capacity.
    unsafe { out.set_len(filled) };
    // SAFETY: of the caller.
    let valid = unsafe { form.value::<V>(body, value, end, out) };
    form.close(out);
    Some((end, valid))
}

/// Writes `src[from..]` of `len` bytes if it fits into two vectors and needs no escape; otherwise what it wrote does
/// not count.
///
/// # Safety
/// The CPU has the instructions of `V`; `dst` may be written for two vectors.
#[inline(always)]
unsafe fn short_run<V: Lanes, F: Form>(form: &F, src: &[u8], from: usize, len: usize, dst: *mut u8) -> bool {
    let Some(rest) = src.get(from..from + 2 * V::BYTES).filter(|_| len <= 2 * V::BYTES) else { return false };
    // SAFETY: a whole vector lies there (invariant 1); instructions: of the caller.
    let first = unsafe { V::load(rest.as_ptr()) };
    // SAFETY: of the caller.
    unsafe { first.store(dst) };
    // SAFETY: instructions: of the caller.
    let stops = unsafe { form.stops(first) } & lowest(len.min(V::BYTES));
    if len <= V::BYTES || stops != 0 {
        return stops == 0;
    }
    // SAFETY: two of them lie there; instructions: of the caller.
    let second = unsafe { V::load(rest.as_ptr().wrapping_add(V::BYTES)) };
    // SAFETY: of the caller.
    unsafe { second.store(dst.wrapping_add(V::BYTES)) };
    // SAFETY: instructions: of the caller.
    let stops = unsafe { form.stops(second) };
    stops & lowest(len - V::BYTES) == 0
}

/// Bytes looked at for the head of a content: tag and length (3), a shape (32), a value's length (2) and some.
const WINDOW: usize = 40;
/// As many as a byte can name.
const SLOTS: usize = 256;
