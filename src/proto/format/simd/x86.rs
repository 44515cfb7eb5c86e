//! The vector instructions of x86-64 that the transcoder uses.
//!
//! Why: a generic function gets its instructions from the function it ends up in, so each width needs one of its own.
//! Invariants: nothing of AVX2 runs where [`has_avx2`] has not said so, nothing of AVX-512 where [`has_avx512`] has not.
//! Bounds: none of its own; loads and stores are as wide as [`Lanes::BYTES`].
//! Driven by: `proto::format::simd`.
//! Spec: none; the portable lanes are the second opinion.

use core::arch::x86_64::{
    __m128i, __m256i, __m512i, _mm_cmpeq_epi8, _mm_cmplt_epi8, _mm_loadu_si128, _mm_min_epu8,
    _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8, _mm_storeu_si128, _mm256_and_si256,
    _mm256_broadcastsi128_si256, _mm256_cmpeq_epi8, _mm256_cmpeq_epi8_mask, _mm256_cmpgt_epi8,
    _mm256_loadu_si256, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8,
    _mm256_setr_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi16, _mm256_storeu_si256,
    _mm512_and_si512, _mm512_broadcast_i32x4, _mm512_cmpeq_epi8_mask, _mm512_cmplt_epi8_mask,
    _mm512_cmplt_epu8_mask, _mm512_loadu_si512, _mm512_maskz_loadu_epi8, _mm512_movepi8_mask,
    _mm512_set1_epi8, _mm512_set1_epi64, _mm512_shuffle_epi8, _mm512_srli_epi16, _mm512_storeu_si512,
    _mm512_test_epi8_mask,
};

use super::{Kernel, Lanes, Pairs, Replacements, Seen, Shapes, Span, WireError};

/// The baseline: every x86-64 CPU has it.
pub(super) const SSE2: Kernel = Kernel {
    name: "sse2",
    escape: super::escape::<Sse2>,
    contents: super::contents::json::<Sse2>,
    pairs: super::pairs::pairs::<Sse2>,
    replace: super::replace::replace::<Sse2>,
};

/// Only for CPUs that have it.
pub(super) const AVX2: Kernel = Kernel {
    name: "avx2",
    escape: escape_avx2,
    contents: contents_avx2,
    pairs: pairs_avx2,
    replace: replace_avx2,
};

/// Only for CPUs that have it.
pub(super) const AVX512: Kernel = Kernel {
    name: "avx512",
    escape: escape_avx512,
    contents: contents_avx512,
    pairs: pairs_avx512,
    replace: replace_avx512,
};

/// True where [`AVX2`] may run: all that its functions are compiled for.
pub(super) fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("bmi1")
        && std::arch::is_x86_feature_detected!("bmi2")
}

#[target_feature(enable = "avx2,bmi1,bmi2")]
fn escape_avx2(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    // SAFETY: the instructions are those of this function.
    unsafe { super::escape::<Avx2>(bytes, out) }
}

#[target_feature(enable = "avx2,bmi1,bmi2")]
fn contents_avx2(body: &[u8], log: Span, shapes: &mut Shapes, out: &mut Vec<u8>) -> Result<Seen, WireError> {
    // SAFETY: the instructions are those of this function.
    unsafe { super::contents::json::<Avx2>(body, log, shapes, out) }
}

#[target_feature(enable = "avx2,bmi1,bmi2")]
fn pairs_avx2(
    form: &Pairs<'_>,
    body: &[u8],
    log: Span,
    shapes: &mut Shapes,
    out: &mut Vec<u8>,
) -> Result<Seen, WireError> {
    // SAFETY: the instructions are those of this function.
    unsafe { super::pairs::pairs::<Avx2>(form, body, log, shapes, out) }
}

#[target_feature(enable = "avx2,bmi1,bmi2")]
fn replace_avx2(replacements: &Replacements, src: &[u8], to: usize, out: &mut Vec<u8>) -> bool {
    // SAFETY: the instructions are those of this function.
    unsafe { super::replace::replace::<Avx2>(replacements, src, to, out) }
}

/// True where [`AVX512`] may run: all that its functions are compiled for, and VBMI2, which tells CPUs that keep their clock
/// under wide vectors (Ice Lake, Zen 4 and later) from older ones.
pub(super) fn has_avx512() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512vl")
        && std::arch::is_x86_feature_detected!("avx512vbmi2")
        && std::arch::is_x86_feature_detected!("bmi1")
        && std::arch::is_x86_feature_detected!("bmi2")
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2")]
fn escape_avx512(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    // SAFETY: the instructions are those of this function.
    unsafe { super::escape::<Avx512>(bytes, out) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2")]
fn contents_avx512(
    body: &[u8],
    log: Span,
    shapes: &mut Shapes,
    out: &mut Vec<u8>,
) -> Result<Seen, WireError> {
    // SAFETY: the instructions are those of this function.
    unsafe { super::contents::json::<Avx512>(body, log, shapes, out) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2")]
fn pairs_avx512(
    form: &Pairs<'_>,
    body: &[u8],
    log: Span,
    shapes: &mut Shapes,
    out: &mut Vec<u8>,
) -> Result<Seen, WireError> {
    // SAFETY: the instructions are those of this function.
    unsafe { super::pairs::pairs::<Avx512>(form, body, log, shapes, out) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2")]
fn replace_avx512(replacements: &Replacements, src: &[u8], to: usize, out: &mut Vec<u8>) -> bool {
    // SAFETY: the instructions are those of this function.
    unsafe { super::replace::replace::<Avx512>(replacements, src, to, out) }
}

#[derive(Clone, Copy)]
struct Sse2(__m128i);

impl Lanes for Sse2 {
    const BYTES: usize = 16;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: of the caller.
        Self(unsafe { _mm_loadu_si128(from.cast()) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: of the caller.
        unsafe { _mm_storeu_si128(to.cast(), self.0) };
    }

    #[inline(always)]
    unsafe fn stops(self) -> u64 {
        // SAFETY: of the caller.
        u64::from(unsafe { stops_sse2(self.0) })
    }

    #[inline(always)]
    unsafe fn escapes(self) -> u64 {
        // SAFETY: of the caller.
        u64::from(unsafe { escapes_sse2(self.0) })
    }

    #[inline(always)]
    unsafe fn same_32(left: *const u8, right: *const u8) -> u32 {
        let mut mask = 0;
        for half in [16, 0] {
            // SAFETY: of the caller.
            let one = unsafe { Self::load(left.wrapping_add(half)) };
            // SAFETY: of the caller.
            let other = unsafe { Self::load(right.wrapping_add(half)) };
            // SAFETY: of the caller.
            mask = mask << 16 | unsafe { same_sse2(one.0, other.0) };
        }
        mask
    }

    #[inline(always)]
    unsafe fn members(self, rows: &[u8; 16]) -> u64 {
        // The byte shuffle came with SSSE3; what has that and not AVX2 is not worth a kernel of its own.
        let mut bytes = [0; 16];
        // SAFETY: sixteen bytes; instructions: of the caller.
        unsafe { self.store(bytes.as_mut_ptr()) };
        bytes.iter().rev().fold(0, |mask, &byte| mask << 1 | u64::from(super::is_member(rows, byte)))
    }

    #[inline(always)]
    unsafe fn not_ascii(self) -> u64 {
        // SAFETY: of the caller.
        u64::from(unsafe { marked_sse2(self.0) })
    }
}

#[derive(Clone, Copy)]
struct Avx2(__m256i);

impl Lanes for Avx2 {
    const BYTES: usize = 32;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: of the caller.
        Self(unsafe { _mm256_loadu_si256(from.cast()) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: of the caller.
        unsafe { _mm256_storeu_si256(to.cast(), self.0) };
    }

    #[inline(always)]
    unsafe fn stops(self) -> u64 {
        // SAFETY: of the caller.
        u64::from(unsafe { stops_avx2(self.0) })
    }

    #[inline(always)]
    unsafe fn escapes(self) -> u64 {
        // SAFETY: of the caller.
        u64::from(unsafe { escapes_avx2(self.0) })
    }

    #[inline(always)]
    unsafe fn same_32(left: *const u8, right: *const u8) -> u32 {
        // SAFETY: of the caller.
        let one = unsafe { Self::load(left) };
        // SAFETY: of the caller.
        let other = unsafe { Self::load(right) };
        // SAFETY: of the caller.
        unsafe { same_avx2(one.0, other.0) }
    }

    #[inline(always)]
    unsafe fn members(self, rows: &[u8; 16]) -> u64 {
        // SAFETY: sixteen bytes lie there; instructions: of the caller.
        let rows = unsafe { _mm_loadu_si128(rows.as_ptr().cast()) };
        // SAFETY: of the caller.
        u64::from(unsafe { members_avx2(self.0, rows) })
    }

    #[inline(always)]
    unsafe fn not_ascii(self) -> u64 {
        // SAFETY: of the caller.
        u64::from(unsafe { marked_avx2(self.0) })
    }
}

#[derive(Clone, Copy)]
struct Avx512(__m512i);

impl Lanes for Avx512 {
    const BYTES: usize = 64;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: of the caller.
        Self(unsafe { _mm512_loadu_si512(from.cast()) })
    }

    #[inline(always)]
    unsafe fn load_tail(src: &[u8]) -> Self {
        // SAFETY: bytes that the mask leaves out are not touched; instructions: of the caller.
        Self(unsafe { _mm512_maskz_loadu_epi8(super::lowest(src.len()), src.as_ptr().cast()) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: of the caller.
        unsafe { _mm512_storeu_si512(to.cast(), self.0) };
    }

    #[inline(always)]
    unsafe fn stops(self) -> u64 {
        // SAFETY: of the caller.
        unsafe { stops_avx512(self.0) }
    }

    #[inline(always)]
    unsafe fn escapes(self) -> u64 {
        // SAFETY: of the caller.
        unsafe { escapes_avx512(self.0) }
    }

    #[inline(always)]
    unsafe fn same_32(left: *const u8, right: *const u8) -> u32 {
        // SAFETY: of the caller.
        let one = unsafe { _mm256_loadu_si256(left.cast()) };
        // SAFETY: of the caller.
        let other = unsafe { _mm256_loadu_si256(right.cast()) };
        // SAFETY: of the caller.
        unsafe { _mm256_cmpeq_epi8_mask(one, other) }
    }

    #[inline(always)]
    unsafe fn members(self, rows: &[u8; 16]) -> u64 {
        // SAFETY: sixteen bytes lie there; instructions: of the caller.
        let rows = unsafe { _mm_loadu_si128(rows.as_ptr().cast()) };
        // SAFETY: of the caller.
        unsafe { members_avx512(self.0, rows) }
    }

    #[inline(always)]
    unsafe fn not_ascii(self) -> u64 {
        // SAFETY: of the caller.
        unsafe { _mm512_movepi8_mask(self.0) }
    }
}

// Signed comparison: bytes that are not ASCII are below the space too.
#[inline]
#[target_feature(enable = "sse2")]
fn stops_sse2(bytes: __m128i) -> u32 {
    let below = _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20));
    marked_sse2(_mm_or_si128(below, quoting_sse2(bytes)))
}

#[inline]
#[target_feature(enable = "sse2")]
fn escapes_sse2(bytes: __m128i) -> u32 {
    let below = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
    marked_sse2(_mm_or_si128(below, quoting_sse2(bytes)))
}

#[inline]
#[target_feature(enable = "sse2")]
fn quoting_sse2(bytes: __m128i) -> __m128i {
    let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x22));
    _mm_or_si128(quote, _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x5c)))
}

#[inline]
#[target_feature(enable = "sse2")]
fn same_sse2(left: __m128i, right: __m128i) -> u32 {
    marked_sse2(_mm_cmpeq_epi8(left, right))
}

#[inline]
#[target_feature(enable = "sse2")]
#[expect(clippy::cast_sign_loss, reason = "a mask of bits")]
fn marked_sse2(mask: __m128i) -> u32 {
    _mm_movemask_epi8(mask) as u32
}

#[inline]
#[target_feature(enable = "avx2")]
fn stops_avx2(bytes: __m256i) -> u32 {
    let below = _mm256_cmpgt_epi8(_mm256_set1_epi8(0x20), bytes);
    marked_avx2(_mm256_or_si256(below, quoting_avx2(bytes)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn escapes_avx2(bytes: __m256i) -> u32 {
    let below = _mm256_cmpeq_epi8(_mm256_min_epu8(bytes, _mm256_set1_epi8(0x1f)), bytes);
    marked_avx2(_mm256_or_si256(below, quoting_avx2(bytes)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn quoting_avx2(bytes: __m256i) -> __m256i {
    let quote = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(0x22));
    _mm256_or_si256(quote, _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(0x5c)))
}

// The shuffle takes the low half of a byte as its index, and gives nothing where the byte is not ASCII.
#[inline]
#[target_feature(enable = "avx2")]
fn members_avx2(bytes: __m256i, rows: __m128i) -> u32 {
    let bits = _mm256_setr_epi8(
        1, 2, 4, 8, 16, 32, 64, -128, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, -128, 0, 0, 0, 0, 0, 0,
        0, 0,
    );
    let row = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(rows), bytes);
    let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), _mm256_set1_epi8(15));
    let bit = _mm256_shuffle_epi8(bits, high);
    let outside = _mm256_cmpeq_epi8(_mm256_and_si256(row, bit), _mm256_setzero_si256());
    !marked_avx2(outside)
}

#[inline]
#[target_feature(enable = "avx2")]
fn same_avx2(left: __m256i, right: __m256i) -> u32 {
    marked_avx2(_mm256_cmpeq_epi8(left, right))
}

#[inline]
#[target_feature(enable = "avx2")]
#[expect(clippy::cast_sign_loss, reason = "a mask of bits")]
fn marked_avx2(mask: __m256i) -> u32 {
    _mm256_movemask_epi8(mask) as u32
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn stops_avx512(bytes: __m512i) -> u64 {
    _mm512_cmplt_epi8_mask(bytes, _mm512_set1_epi8(0x20)) | quoting_avx512(bytes)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn escapes_avx512(bytes: __m512i) -> u64 {
    _mm512_cmplt_epu8_mask(bytes, _mm512_set1_epi8(0x20)) | quoting_avx512(bytes)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn quoting_avx512(bytes: __m512i) -> u64 {
    let quote = _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(0x22));
    quote | _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(0x5c))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn members_avx512(bytes: __m512i, rows: __m128i) -> u64 {
    let bits = _mm512_set1_epi64(i64::from_le_bytes([1, 2, 4, 8, 16, 32, 64, 128]));
    let row = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(rows), bytes);
    let high = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), _mm512_set1_epi8(7));
    _mm512_test_epi8_mask(row, _mm512_shuffle_epi8(bits, high))
}
