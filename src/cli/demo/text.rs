//! Numbers as the demo shows them.
//!
//! Why: the view and the verdict must round alike.
//! Invariants: none.   Bounds: a few characters.   Driven by: the view and the verdict.   Spec: none.

use std::time::Duration;

/// `1,234,567`
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `12.3 MB`
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", count(bytes / 1_000_000), bytes / 100_000 % 10)
}

/// `1.5 %`
pub(super) fn percent(part: Duration, whole: Duration) -> String {
    let whole = whole.as_secs_f64();
    if whole > 0.0 { format!("{:.1} %", part.as_secs_f64() * 100.0 / whole) } else { "-".to_owned() }
}

/// So many within a span, as a number a second.
pub(super) fn per_second(number: u64, span: Duration) -> u64 {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1);
    number.saturating_mul(1000) / millis
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(megabytes(12_345_678), "12.3 MB");
        assert_eq!(percent(Duration::from_millis(15), Duration::from_secs(1)), "1.5 %");
        assert_eq!(percent(Duration::ZERO, Duration::ZERO), "-");
        assert_eq!(per_second(500, Duration::from_millis(250)), 2000);
        assert_eq!(per_second(500, Duration::ZERO), 500_000);
    }
}
