//! Time stamps of syslog headers, from a log's own time.
//!
//! Why: most logs of a body share their second, so the calendar is asked once a second of the logs, not per log.
//! Invariants: 1. an RFC 5424 stamp is in UTC, with exactly as many digits as the precision says, and its second is
//! never 60. 2. an RFC 3164 stamp is of the set zone.
//! Bounds: unix seconds of 32 bits: 1970 to 2106. An RFC 3164 stamp before 1970 (a zone west of Greenwich) is right.
//! Driven by: `syslog`. Spec: RFC 5424 6.2.3; RFC 3164 4.1.2. A nanosecond part above 999,999,999 is left out, as in
//! `hec`: it is not a time.

use super::params::{HeaderForm, Precision};
use crate::proto::sls::sign::date::{Civil, MONTHS};
use crate::proto::sls::wire::LogTime;

/// Writes time stamps; the text of the last second is kept.
#[derive(Clone, Debug)]
pub(super) struct Stamp {
    header: HeaderForm,
    precision: Precision,
    utc_offset_secs: i32,
    secs: u32,
    /// The stamp of `secs`, up to the second.
    text: Vec<u8>,
}

impl Stamp {
    pub(super) fn new(header: HeaderForm, precision: Precision, utc_offset_secs: i32) -> Self {
        let mut stamp = Self { header, precision, utc_offset_secs, secs: 0, text: Vec::new() };
        stamp.turn(0);
        stamp
    }

    /// Appends the stamp of `time`.
    pub(super) fn write(&mut self, time: LogTime, out: &mut Vec<u8>) {
        if self.secs != time.secs {
            self.turn(time.secs);
        }
        out.extend_from_slice(&self.text);
        if self.header == HeaderForm::Rfc5424 {
            let (unit, digits) = match self.precision {
                Precision::Seconds => (1, 0),
                Precision::Millis => (1_000_000, 3),
                Precision::Micros => (1_000, 6),
            };
            if digits > 0 {
                out.push(b'.');
                push_digits(out, nanos(time) / unit, digits);
            }
            out.push(b'Z');
        }
    }

    /// The nanoseconds of `time` where its stamp does not show all of them.
    pub(super) fn hidden_nanos(&self, time: LogTime) -> Option<u32> {
        let nanos = nanos(time);
        let shown = match (self.header, self.precision) {
            (HeaderForm::Rfc3164, _) | (_, Precision::Seconds) => 1_000_000_000,
            (_, Precision::Millis) => 1_000_000,
            (_, Precision::Micros) => 1_000,
        };
        (!nanos.is_multiple_of(shown)).then_some(nanos)
    }

    /// True where a stamp has no year.
    pub(super) fn hides_year(&self) -> bool {
        self.header == HeaderForm::Rfc3164
    }

    fn turn(&mut self, secs: u32) {
        self.secs = secs;
        let out = &mut self.text;
        out.clear();
        if self.header == HeaderForm::Rfc3164 {
            let civil = Civil::from_secs(i64::from(secs) + i64::from(self.utc_offset_secs));
            out.extend_from_slice(MONTHS.get(civil.month0).copied().unwrap_or_default().as_bytes());
            out.push(b' ');
            out.push(if civil.day < 10 { b' ' } else { digit(civil.day / 10) });
            out.push(digit(civil.day));
            out.push(b' ');
            clock(&civil, out);
        } else {
            let civil = Civil::from_secs(i64::from(secs));
            push_digits(out, civil.year, 4);
            out.push(b'-');
            push_digits(out, u32::try_from(civil.month0 + 1).unwrap_or_default(), 2);
            out.push(b'-');
            push_digits(out, civil.day, 2);
            out.push(b'T');
            clock(&civil, out);
        }
    }
}

fn clock(civil: &Civil, out: &mut Vec<u8>) {
    push_digits(out, civil.hour, 2);
    out.push(b':');
    push_digits(out, civil.minute, 2);
    out.push(b':');
    push_digits(out, civil.second, 2);
}

/// The nanosecond part where it is one.
pub(super) fn nanos(time: LogTime) -> u32 {
    time.nanos.filter(|&nanos| nanos < 1_000_000_000).unwrap_or(0)
}

/// True when both are written the same.
pub(super) fn same(left: LogTime, right: LogTime) -> bool {
    left.secs == right.secs && nanos(left) == nanos(right)
}

/// Appends the last `width` digits of `number`.
fn push_digits(out: &mut Vec<u8>, number: u32, width: u32) {
    for place in (0..width).rev() {
        out.push(digit(number / 10u32.pow(place)));
    }
}

fn digit(number: u32) -> u8 {
    b'0' + (number % 10) as u8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stamp(header: HeaderForm, precision: Precision, offset: i32, secs: u32, nanos: Option<u32>) -> String {
        let mut out = Vec::new();
        Stamp::new(header, precision, offset).write(LogTime { secs, nanos }, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn utc(precision: Precision, secs: u32, nanos: Option<u32>) -> String {
        stamp(HeaderForm::Rfc5424, precision, 0, secs, nanos)
    }

    #[test]
    fn known_moments() {
        use Precision::{Micros, Millis, Seconds};
        assert_eq!(utc(Micros, 0, None), "1970-01-01T00:00:00.000000Z");
        assert_eq!(utc(Micros, 1_767_323_001, Some(123_456_789)), "2026-01-02T03:03:21.123456Z");
        assert_eq!(utc(Millis, 1_767_323_001, Some(123_999_999)), "2026-01-02T03:03:21.123Z");
        assert_eq!(utc(Seconds, 1_767_323_001, Some(999_999_999)), "2026-01-02T03:03:21Z");
        assert_eq!(utc(Micros, 1, Some(1_000_000_000)), "1970-01-01T00:00:01.000000Z", "not a time");
        assert_eq!(utc(Millis, u32::MAX, None), "2106-02-07T06:28:15.000Z");
        assert_eq!(utc(Seconds, 951_782_399, None), "2000-02-28T23:59:59Z");
        assert_eq!(utc(Seconds, 951_782_400, None), "2000-02-29T00:00:00Z");
    }

    #[test]
    fn the_old_form_pads_its_day_and_knows_zones() {
        let old = |offset, secs| stamp(HeaderForm::Rfc3164, Precision::Micros, offset, secs, Some(5));
        assert_eq!(old(0, 1_767_323_001), "Jan  2 03:03:21");
        assert_eq!(old(8 * 3_600, 1_767_323_001), "Jan  2 11:03:21");
        assert_eq!(old(-12_600, 1_767_323_001), "Jan  1 23:33:21");
        assert_eq!(old(-3_600, 5), "Dec 31 23:00:05");
        assert_eq!(old(0, 1_798_761_599), "Dec 31 23:59:59");
    }

    #[test]
    fn what_a_stamp_does_not_show() {
        let hidden = |header, precision, nanos| {
            Stamp::new(header, precision, 0).hidden_nanos(LogTime { secs: 1, nanos })
        };
        let new = HeaderForm::Rfc5424;
        assert_eq!(hidden(new, Precision::Micros, Some(123_456_000)), None);
        assert_eq!(hidden(new, Precision::Micros, Some(123_456_001)), Some(123_456_001));
        assert_eq!(hidden(new, Precision::Millis, Some(123_456_000)), Some(123_456_000));
        assert_eq!(hidden(new, Precision::Seconds, Some(1)), Some(1));
        assert_eq!(hidden(new, Precision::Seconds, Some(1_000_000_001)), None);
        assert_eq!(hidden(HeaderForm::Rfc3164, Precision::Micros, Some(500_000_000)), Some(500_000_000));
        assert_eq!(hidden(HeaderForm::Rfc3164, Precision::Micros, None), None);
    }

    proptest! {
        /// Law: a calendar library writes the same stamp, in whatever order moments come.
        #[test]
        fn agrees_with_a_calendar(moments in prop::collection::vec((any::<u32>(), 0u32..1_000_000_000), 1..6)) {
            let mut stamp = Stamp::new(HeaderForm::Rfc5424, Precision::Micros, 0);
            for (secs, nanos) in moments {
                let mut out = Vec::new();
                stamp.write(LogTime { secs, nanos: Some(nanos) }, &mut out);
                let micros = i32::try_from(nanos / 1_000 * 1_000).unwrap();
                let time = jiff::Timestamp::new(i64::from(secs), micros).unwrap();
                let expected = time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
                prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
            }
        }
    }
}
