//! What can be read out of a cursor, for estimates only.
//!
//! Why: cursors are opaque, and nothing that decides about data may depend on their inside. But an operator wants to
//! know how far apart two of them are, and the vendor's own tools find the time of the log before a checkpoint by
//! taking one from its number.
//! Invariants: 1. a cursor that does not look as expected gives nothing, never a guess.
//! Bounds: none. Driven by: `status`, `seek`, the end of bounded runs. Spec: base64 (padding optional) of a decimal
//! number that grows by one per log group, as seen; not promised by the service.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::proto::ids::Cursor;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The number inside, where there is one.
pub fn number(cursor: &Cursor) -> Option<u64> {
    let bytes = BASE64.decode(cursor.as_str()).ok()?;
    let digits = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(&bytes).ok().filter(|_| digits)?.parse().ok()
}

/// The cursor of the log group before this one.
pub fn previous(cursor: &Cursor) -> Option<Cursor> {
    let before = number(cursor)?.checked_sub(1)?;
    Some(Cursor::new(&BASE64.encode(before.to_string())))
}

/// Log groups from one position to another; negative where `to` is the earlier one.
pub fn distance(from: &Cursor, to: &Cursor) -> Option<i64> {
    i64::try_from(i128::from(number(to)?) - i128::from(number(from)?)).ok()
}

/// True where there is something between the two. Two that cannot be compared count as far apart: the pulls will
/// show it.
pub fn is_before(from: &Cursor, end: &Cursor) -> bool {
    from != end && distance(from, end).is_none_or(|groups| groups > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(number: u64) -> Cursor {
        Cursor::new(&BASE64.encode(number.to_string()))
    }

    #[test]
    fn the_number_of_a_cursor_is_read_with_and_without_padding() {
        assert_eq!(number(&Cursor::new("MTYxNDc1MDAyNzM3MzIwNTcxNA==")), Some(1_614_750_027_373_205_714));
        assert_eq!(number(&Cursor::new("MTYxNDc1MDAyNzM3MzIwNTcxNA")), Some(1_614_750_027_373_205_714));
        for odd in ["", "c7", "begin", "LTU=", "MTYx NDc1", "MS41"] {
            assert_eq!(number(&Cursor::new(odd)), None, "{odd}");
        }
    }

    #[test]
    fn distances_have_a_sign_and_the_unknown_counts_as_far() {
        assert_eq!(distance(&cursor(10), &cursor(7)), Some(-3));
        assert_eq!(previous(&cursor(10)), Some(cursor(9)));
        assert_eq!(previous(&cursor(0)), None);
        assert!(is_before(&cursor(7), &cursor(8)));
        assert!(!is_before(&cursor(8), &cursor(8)) && !is_before(&cursor(9), &cursor(8)));
        assert!(
            is_before(&Cursor::new("a"), &Cursor::new("b"))
                && !is_before(&Cursor::new("a"), &Cursor::new("a"))
        );
    }
}
