//! A moment as a header shows it, read by the rules of RFC 5424.
//!
//! Why: nine digits of a fraction, an offset without its colon and a leap second are what real senders write and real
//! receivers get wrong.
//! Invariants: 1. only a moment that exists has a value.   Bounds: none.   Driven by: `rfc5424`.
//! Spec: RFC 5424 6.2.3, RFC 3339; syslog.md 1.

/// Microseconds since 1970 and how many digits of the fraction were shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Since 1970-01-01T00:00:00Z.
    pub micros: i64,
    /// 0 to 6.
    pub digits: u8,
}

/// Offset and rule.
type Wrong = (usize, &'static str);

impl Stamp {
    /// Reads `2003-10-11T22:14:15.003Z`.
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        if text.is_empty() {
            return Err((0, "TIMESTAMP is empty"));
        }
        let bytes = text.as_bytes();
        let days = date(bytes)?;
        literal(bytes, 10, b'T', "no upper-case T in TIMESTAMP")?;
        let hour = number(bytes, 11, 2, 0, 23)?;
        literal(bytes, 13, b':', "no colon behind the hour")?;
        let minute = number(bytes, 14, 2, 0, 59)?;
        literal(bytes, 16, b':', "no colon behind the minute")?;
        let second = number(bytes, 17, 2, 0, 59)?;
        let mut at = 19;
        let (mut fraction, mut digits) = (0, 0);
        if bytes.get(at) == Some(&b'.') {
            at += 1;
            digits = bytes.iter().skip(at).take_while(|byte| byte.is_ascii_digit()).count();
            match digits {
                0 => return Err((at, "no digit behind the point")),
                1..=6 => {
                    let shown = number(bytes, at, digits, 0, i64::MAX)?;
                    fraction = (digits..6).fold(shown, |value, _| value * 10);
                }
                _ => return Err((at + 6, "more than 6 digits of a fraction")),
            }
            at += digits;
        }
        let offset = offset(bytes, at)?;
        let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset * 60;
        Ok(Self { micros: seconds * 1_000_000 + fraction, digits: u8::try_from(digits).unwrap_or(6) })
    }

    /// Whether this is that moment, cut to the digits shown.
    pub fn is_of(self, seconds: u32, nanos: u32) -> bool {
        let step = (self.digits..6).fold(1_i64, |step, _| step * 10);
        let micros = i64::from(seconds) * 1_000_000 + i64::from(nanos / 1000);
        self.micros == micros - micros % step
    }
}

/// Days since 1970.
fn date(bytes: &[u8]) -> Result<i64, Wrong> {
    let year = number(bytes, 0, 4, 0, 9999)?;
    literal(bytes, 4, b'-', "no hyphen behind the year")?;
    let month = number(bytes, 5, 2, 1, 12)?;
    literal(bytes, 7, b'-', "no hyphen behind the month")?;
    let day = number(bytes, 8, 2, 1, days_of(year, month))?;
    let years = year - 1;
    let before = years * 365 + years.div_euclid(4) - years.div_euclid(100) + years.div_euclid(400);
    let months: i64 = (1..month).map(|month| days_of(year, month)).sum();
    Ok(before + months + day - 1 - DAYS_TO_1970)
}

/// Days of a month.
pub(super) const fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Minutes east of Greenwich.
fn offset(bytes: &[u8], at: usize) -> Result<i64, Wrong> {
    let sign = match bytes.get(at) {
        Some(b'Z') if bytes.len() == at + 1 => return Ok(0),
        Some(b'Z') => return Err((at + 1, "something stands behind Z in TIMESTAMP")),
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return Err((at, "no zone in TIMESTAMP")),
    };
    let hours = number(bytes, at + 1, 2, 0, 23)?;
    literal(bytes, at + 3, b':', "no colon in the offset")?;
    let minutes = number(bytes, at + 4, 2, 0, 59)?;
    if bytes.len() != at + 6 {
        return Err((at + 6, "something stands behind the offset"));
    }
    Ok(sign * (hours * 60 + minutes))
}

fn literal(bytes: &[u8], at: usize, byte: u8, what: &'static str) -> Result<(), Wrong> {
    if bytes.get(at) == Some(&byte) { Ok(()) } else { Err((at, what)) }
}

/// So many digits within a range.
fn number(bytes: &[u8], at: usize, size: usize, least: i64, most: i64) -> Result<i64, Wrong> {
    let digits = bytes.get(at..at + size).filter(|digits| digits.iter().all(u8::is_ascii_digit));
    let value = digits.map(|digits| digits.iter().fold(0, |sum, byte| sum * 10 + i64::from(byte - b'0')));
    value
        .filter(|value| (least..=most).contains(value))
        .ok_or((at, "a number of TIMESTAMP is not in its range"))
}

/// From 0001-01-01 on.
const DAYS_TO_1970: i64 = 719_162;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        for (text, micros, digits) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("1970-01-01T05:30:00.5+05:30", 500_000, 1),
            ("1969-12-31T23:59:59.999999Z", -1, 6),
            ("2000-02-29T12:00:00.000Z", 951_825_600_000_000, 3),
            ("2026-01-02T03:00:45-00:30", 1_767_324_645_000_000, 0),
        ] {
            assert_eq!(Stamp::parse(text), Ok(Stamp { micros, digits }), "{text}");
        }
    }

    #[test]
    fn what_no_receiver_should_have_to_guess() {
        for (text, at) in [
            ("", 0),
            ("2026-13-01T00:00:00Z", 5),
            ("2026-02-29T00:00:00Z", 8),
            ("1900-02-29T00:00:00Z", 8),
            ("2026-01-01t00:00:00Z", 10),
            ("2026-01-01T24:00:00Z", 11),
            ("2026-01-01T23:59:60Z", 17),
            ("2026-01-01T00:00:00.Z", 20),
            ("2026-01-01T00:00:00.1234567Z", 26),
            ("2026-01-01T00:00:00", 19),
            ("2026-01-01T00:00:00z", 19),
            ("2026-01-01T00:00:00+0800", 22),
            ("2026-01-01T00:00:00+24:00", 20),
            ("2026-01-01T00:00:00+08:000", 25),
            ("2026-01-01T00:00:00ZZ", 20),
            ("26-01-01T00:00:00Z", 0),
        ] {
            assert_eq!(Stamp::parse(text).map_err(|(at, _)| at), Err(at), "{text}");
        }
        let whole = "2026-01-01T00:00:00.123+08:00";
        for end in 0..whole.len() {
            assert!(Stamp::parse(&whole[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn a_shown_moment_is_the_moment_cut_to_its_digits() {
        let stamp = |text| Stamp::parse(text).unwrap();
        assert!(stamp("1970-01-01T00:00:07.123456Z").is_of(7, 123_456_999));
        assert!(stamp("1970-01-01T00:00:07.123Z").is_of(7, 123_999_999));
        assert!(stamp("1970-01-01T00:00:07Z").is_of(7, 999_999_999));
        assert!(!stamp("1970-01-01T00:00:07.124Z").is_of(7, 123_999_999), "rounded");
        assert!(!stamp("1970-01-01T00:00:08Z").is_of(7, 0));
    }
}
