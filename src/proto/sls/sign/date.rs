//! The date texts of HTTP and of SLS, written and read without a clock, a locale or an allocation.
//!
//! Why: requests are signed over these bytes at the rate of pulls; two formats do not need a calendar library.
//! Invariants: 1. `parse_http_date(http_date(t)) = t` for whole seconds up to the year 9999.
//! Bounds: later moments are written as the last second of the year 9999.
//! Driven by: `sign`, `error` (the server's `Date`). Spec: RFC 9110 5.6.7 (IMF-fixdate, the only form that servers of
//! today send); `x-log-date` of protocol notes 2.2.

use crate::proto::time::UnixTime;

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
/// Short names, in English as both specifications want them.
pub(crate) const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY_SECS: u64 = 86_400;
const SECS_MIN: i64 = -62_162_035_200;
const SECS_MAX: i64 = 253_402_300_799;

/// Appends `Fri, 02 Jan 2026 03:04:05 GMT`.
pub fn push_http_date(out: &mut String, time: UnixTime) {
    let civil = Civil::new(time);
    out.push_str(DAYS.get(civil.weekday).copied().unwrap_or_default());
    out.push_str(", ");
    push_digits(out, civil.day.into(), 2);
    out.push(' ');
    out.push_str(MONTHS.get(civil.month0).copied().unwrap_or_default());
    out.push(' ');
    push_digits(out, civil.year.into(), 4);
    for (separator, number) in [(' ', civil.hour), (':', civil.minute), (':', civil.second)] {
        out.push(separator);
        push_digits(out, number.into(), 2);
    }
    out.push_str(" GMT");
}

/// Appends `20260102T030405Z`.
pub fn push_compact_date(out: &mut String, time: UnixTime) {
    let civil = Civil::new(time);
    push_digits(out, civil.year.into(), 4);
    push_digits(out, civil.month0 as u64 + 1, 2);
    push_digits(out, civil.day.into(), 2);
    out.push('T');
    for number in [civil.hour, civil.minute, civil.second] {
        push_digits(out, number.into(), 2);
    }
    out.push('Z');
}

/// Unix seconds of `Fri, 02 Jan 2026 03:04:05 GMT`; the name of the day is not looked at.
pub fn parse_http_date(text: &str) -> Option<u64> {
    let (_, rest) = text.trim().split_once(", ")?;
    let mut words = rest.split(' ');
    let day = number(words.next()?, 1, 31)?;
    let month = words.next()?;
    let month0 = MONTHS.iter().position(|name| name.eq_ignore_ascii_case(month))?;
    let year = number(words.next()?, 1970, 9999)?;
    let mut clock = words.next()?.split(':');
    let hour = number(clock.next()?, 0, 23)?;
    let minute = number(clock.next()?, 0, 59)?;
    let second = number(clock.next()?, 0, 60)?;
    if clock.next().is_some() || words.next() != Some("GMT") || words.next().is_some() {
        return None;
    }
    let secs = days_from_civil(year, month0 as u64 + 1, day) * DAY_SECS;
    Some(secs + hour * 3600 + minute * 60 + second)
}

/// A moment by the calendar, in UTC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Civil {
    pub(crate) year: u32,
    /// 0 is January.
    pub(crate) month0: usize,
    pub(crate) day: u32,
    /// 0 is Thursday, as 1970 began.
    pub(crate) weekday: usize,
    pub(crate) hour: u32,
    pub(crate) minute: u32,
    pub(crate) second: u32,
}

impl Civil {
    fn new(time: UnixTime) -> Self {
        Self::from_secs(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
    }

    /// The well-known count in eras of 400 years that begin on 1 March, so that the leap day is the last one. Moments
    /// outside of the years 0 to 9999 become the nearest one inside.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "inside of those years all fits"
    )]
    pub(crate) fn from_secs(secs: i64) -> Self {
        let secs = secs.clamp(SECS_MIN, SECS_MAX);
        let (days, of_day) = (secs.div_euclid(86_400), secs.rem_euclid(86_400) as u32);
        let shifted = (days + 719_468) as u64;
        let (era, of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * of_year + 2) / 153;
        let month0 = (march_month + 2) % 12;
        Self {
            year: (era * 400 + year_of_era + u64::from(month0 < 2)) as u32,
            month0: month0 as usize,
            day: (of_year - (153 * march_month + 2) / 5 + 1) as u32,
            weekday: days.rem_euclid(7) as usize,
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
        }
    }
}

fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    (era * 146_097 + of_era).saturating_sub(719_468)
}

fn push_digits(out: &mut String, number: u64, width: u32) {
    for place in (0..width).rev() {
        let digit = (number / 10u64.pow(place) % 10) as u8;
        out.push(char::from(b'0' + digit));
    }
}

fn number(text: &str, least: u64, most: u64) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { text.parse().ok()? } else { return None };
    (least..=most).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn http(secs: u64) -> String {
        let mut text = String::new();
        push_http_date(&mut text, UnixTime::from_secs(secs));
        text
    }

    #[test]
    fn known_moments() {
        assert_eq!(http(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http(1_767_323_045), "Fri, 02 Jan 2026 03:04:05 GMT");
        assert_eq!(http(951_782_399), "Mon, 28 Feb 2000 23:59:59 GMT");
        assert_eq!(http(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(http(4_107_542_400), "Mon, 01 Mar 2100 00:00:00 GMT");
        let mut text = String::new();
        push_compact_date(&mut text, UnixTime::from_secs(1_767_323_045));
        assert_eq!(text, "20260102T030405Z");
    }

    #[test]
    fn dates_that_are_none() {
        for bad in [
            "",
            "Fri, 02 Jan 2026 03:04:05",
            "Fri, 02 Jan 2026 03:04:05 GMT x",
            "Fri, 02 Jan 2026 03:04:05 UTC",
            "Fri, 02 Xyz 2026 03:04:05 GMT",
            "Fri, 32 Jan 2026 03:04:05 GMT",
            "Fri, +2 Jan 2026 03:04:05 GMT",
            "Fri, 02 Jan 2026 24:04:05 GMT",
            "Fri, 02 Jan 2026 03:04 GMT",
            "Fri, 02 Jan 2026 03:04:05:06 GMT",
            "Fri, 02 Jan 1969 03:04:05 GMT",
            "Fri, 02 Jan 99999999999999999999 03:04:05 GMT",
            "2026-01-02T03:04:05Z",
        ] {
            assert_eq!(parse_http_date(bad), None, "{bad:?}");
        }
        assert_eq!(parse_http_date("Xxx, 2 jan 2026 03:04:05 GMT"), Some(1_767_323_045));
    }

    proptest! {
        /// Reading what was written gives the same second, and a calendar library agrees.
        #[test]
        fn round_trip(secs in 0u64..16_000_000_000) {
            prop_assert_eq!(parse_http_date(&http(secs)), Some(secs));
            let time = jiff::Timestamp::from_second(i64::try_from(secs).unwrap()).unwrap();
            prop_assert_eq!(http(secs), time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
            let mut compact = String::new();
            push_compact_date(&mut compact, UnixTime::from_secs(secs));
            prop_assert_eq!(compact, time.strftime("%Y%m%dT%H%M%SZ").to_string());
        }

        #[test]
        fn any_text(text: String) {
            parse_http_date(&text);
        }
    }
}
