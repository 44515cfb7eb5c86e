//! Sizes, spans, rates and moments as people write them.
//!
//! Why: `timeout = 60` leaves open whether seconds or milliseconds are meant, and a wrong guess is found in
//! production. A span always carries its unit; a plain number is accepted for bytes only.
//! Invariants: 1. an overflow is an error, never a wrapped number.
//! Bounds: 64 bits.   Driven by: `config::raw`, and `cli` for `--rate`.

use std::time::Duration;

use super::Moment;

/// Reads `"256KiB"`, `"1MiB"`, `"8000B"`, `"10MB"` or plain bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Reads bytes per second: `"10MB/s"`, `"1MiB/s"`, or a size without `/s`.
pub fn parse_rate(text: &str) -> Option<u64> {
    let text = text.trim();
    parse_size(text.strip_suffix("/s").unwrap_or(text))
}

/// Reads `"200ms"`, `"5s"`, `"1m"`, `"2h"`, `"1d"` and sums such as `"1m30s"`.
pub fn parse_span(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total_ms: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at_checked(digits)?;
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, next) = after.split_at_checked(letters)?;
        let factor: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total_ms = total_ms.checked_add(number.parse::<u64>().ok()?.checked_mul(factor)?)?;
        rest = next;
    }
    Some(Duration::from_millis(total_ms))
}

/// Reads `begin`, `end`, RFC 3339 (a zone is needed) or unix seconds.
pub fn parse_moment(text: &str) -> Option<Moment> {
    let text = text.trim();
    match text {
        "begin" => return Some(Moment::Begin),
        "end" => return Some(Moment::End),
        _ => {}
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().map(Moment::At);
    }
    let seconds = text.parse::<jiff::Timestamp>().ok()?.as_second();
    u64::try_from(seconds).ok().map(Moment::At)
}

/// A size as it would be written: the largest binary unit that divides it.
pub(crate) fn show_size(bytes: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

/// A span as it would be written: the largest unit that divides it.
pub(crate) fn show_span(span: Duration) -> String {
    let ms = span.as_millis();
    for (factor, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if ms > 0 && ms.is_multiple_of(factor) {
            return format!("{}{unit}", ms / factor);
        }
    }
    format!("{ms}ms")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes() {
        let cases = [
            ("256KiB", Some(262_144)),
            ("1MiB", Some(1_048_576)),
            ("8000B", Some(8000)),
            ("8000", Some(8000)),
            ("10MB", Some(10_000_000)),
            ("1 gib", Some(1 << 30)),
            ("1XB", None),
            ("MiB", None),
            ("", None),
            ("-1KiB", None),
            ("1.5MiB", None),
            ("99999999999999999999", None),
            ("18446744073709551615KiB", None),
            ("1é", None),
        ];
        for (text, want) in cases {
            assert_eq!(parse_size(text), want, "{text}");
        }
        assert_eq!(parse_rate("10MB/s"), Some(10_000_000));
    }

    #[test]
    fn spans() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let cases = [
            ("200ms", ms(200)),
            ("5s", ms(5_000)),
            ("1m", ms(60_000)),
            ("1m30s", ms(90_000)),
            ("2h", ms(7_200_000)),
            ("5", None),
            ("s", None),
            ("", None),
            ("5 s", None),
            ("5sec", None),
            ("99999999999999999d", None),
        ];
        for (text, want) in cases {
            assert_eq!(parse_span(text), want, "{text}");
        }
    }

    #[test]
    fn moments() {
        assert_eq!(parse_moment("begin"), Some(Moment::Begin));
        assert_eq!(parse_moment("end"), Some(Moment::End));
        assert_eq!(parse_moment("1700000000"), Some(Moment::At(1_700_000_000)));
        assert_eq!(parse_moment("2023-11-14T22:13:20Z"), Some(Moment::At(1_700_000_000)));
        assert_eq!(parse_moment("2023-11-15T06:13:20+08:00"), Some(Moment::At(1_700_000_000)));
        for text in ["2018-12-26 0:0:0", "2018-12-26T00:00:00", "yesterday", "", "-5", "1960-01-01T00:00:00Z"]
        {
            assert_eq!(parse_moment(text), None, "{text}");
        }
    }

    proptest! {
        /// parse(show(x)) = x
        #[test]
        fn shown_sizes_are_read_back(bytes in 0_u64..1 << 50) {
            prop_assert_eq!(parse_size(&show_size(bytes)), Some(bytes));
        }

        /// parse(show(x)) = x
        #[test]
        fn shown_spans_are_read_back(ms in 0_u64..1 << 40) {
            let span = Duration::from_millis(ms);
            prop_assert_eq!(parse_span(&show_span(span)), Some(span));
        }
    }
}
