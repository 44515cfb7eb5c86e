//! Who a certificate says it is, for the operator.
//!
//! Why: "not trusted" alone helps nobody; subject, issuer and fingerprint say which certificate came and
//! what to trust or pin. A full X.509 parser would be a large dependency for two names.
//! Invariants: 1. any bytes are taken; what cannot be read is left out.
//! Bounds: names are cut at `NAME_CHARS_MAX` characters and carry no control characters.
//! Driven by: `tls`, when a certificate is refused and in `check`. Nothing is decided from what is read here.
//! Spec: RFC 5280 section 4.1 (field order), X.690 (DER).

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// Longest part of a name that is shown.
const NAME_CHARS_MAX: usize = 80;

/// SHA-256 of the whole certificate.
pub fn fingerprint(der: &[u8]) -> [u8; 32] {
    Sha256::digest(der).into()
}

/// As other tools print it: upper-case hex with colons.
pub fn fingerprint_text(digest: &[u8; 32]) -> String {
    let mut text = String::with_capacity(95);
    for byte in digest {
        if !text.is_empty() {
            text.push(':');
        }
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02X}");
    }
    text
}

/// `subject CN=…, issuer CN=…, SHA-256 …`, as far as it can be read.
pub fn describe(der: &[u8]) -> String {
    let mut text = String::new();
    if let Some((subject, issuer)) = names(der) {
        let _ = write!(text, "subject {subject}, issuer {issuer}, ");
    }
    let _ = write!(text, "SHA-256 {}", fingerprint_text(&fingerprint(der)));
    text
}

/// Unix seconds from which on and until when a certificate is valid.
pub fn validity(der: &[u8]) -> Option<(u64, u64)> {
    let Fields { validity, .. } = fields(der)?;
    let (first_tag, first, rest) = element(validity)?;
    let (last_tag, last, _) = element(rest)?;
    Some((moment(first_tag, first)?, moment(last_tag, last)?))
}

/// `YYMMDDHHMMSSZ` (`UTCTime`) or `YYYYMMDDHHMMSSZ` (`GeneralizedTime`).
fn moment(tag: u8, text: &[u8]) -> Option<u64> {
    let text = str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME => text.split_at_checked(2)?,
        GENERALIZED_TIME => text.split_at_checked(4)?,
        _ => return None,
    };
    let century = match (tag, year) {
        (UTC_TIME, year) if year < "50" => "20",
        (UTC_TIME, _) => "19",
        _ => "",
    };
    let at = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", format!("{century}{year}{rest}")).ok()?;
    let at = at.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    u64::try_from(at.timestamp().as_second()).ok()
}

/// Subject and issuer of a certificate.
fn names(der: &[u8]) -> Option<(String, String)> {
    let Fields { subject, issuer, .. } = fields(der)?;
    Some((name(subject), name(issuer)))
}

/// Contents of the fields that are read.
struct Fields<'a> {
    issuer: &'a [u8],
    validity: &'a [u8],
    subject: &'a [u8],
}

fn fields(der: &[u8]) -> Option<Fields<'_>> {
    let (_, certificate, _) = element(der)?;
    let (_, mut rest, _) = element(certificate)?;
    if let (VERSION, _, after) = element(rest)? {
        rest = after;
    }
    let (_, _, rest) = element(rest)?; // serial number
    let (_, _, rest) = element(rest)?; // signature algorithm
    let (_, issuer, rest) = element(rest)?;
    let (_, validity, rest) = element(rest)?;
    let (_, subject, _) = element(rest)?;
    Some(Fields { issuer, validity, subject })
}

/// `CN=…`, else `O=…`, else `OU=…` of a distinguished name.
fn name(mut rest: &[u8]) -> String {
    let mut best: Option<(usize, String)> = None;
    while let Some((_, set, after)) = element(rest) {
        rest = after;
        let Some((rank, value)) = attribute(set) else { continue };
        if best.as_ref().is_none_or(|(known, _)| rank < *known) {
            best = Some((rank, value));
        }
    }
    best.map_or_else(|| "(no name)".to_owned(), |(_, value)| value)
}

/// The first attribute of a relative distinguished name, with its place in [`SHOWN`].
fn attribute(set: &[u8]) -> Option<(usize, String)> {
    let (_, pair, _) = element(set)?;
    let (OID, oid, value) = element(pair)? else { return None };
    let (_, value, _) = element(value)?;
    let (rank, (_, label)) = SHOWN.iter().enumerate().find(|(_, (known, _))| *known == oid)?;
    let clean = String::from_utf8_lossy(value);
    let clean = clean.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(NAME_CHARS_MAX);
    Some((rank, format!("{label}={}", clean.collect::<String>())))
}

/// Tag, content and what follows of the first DER element.
fn element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0_usize, |len, &digit| len << 8 | usize::from(digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

const VERSION: u8 = 0xa0;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// Attributes worth showing, best first: id-at-commonName, -organizationName, -organizationalUnitName.
const SHOWN: [(&[u8], &str); 3] =
    [(&[0x55, 0x04, 0x03], "CN"), (&[0x55, 0x04, 0x0a], "O"), (&[0x55, 0x04, 0x0b], "OU")];

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn certificate() -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["siem.example".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        params.distinguished_name.push(DnType::CommonName, "siem\nexample");
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn names_and_fingerprint_are_read() {
        let der = certificate();
        let text = describe(&der);
        assert!(
            text.starts_with("subject CN=siem\u{fffd}example, issuer CN=siem\u{fffd}example, SHA-256 "),
            "{text}"
        );
        assert_eq!(fingerprint_text(&[0xab; 32]), format!("{}AB", "AB:".repeat(31)));
    }

    #[test]
    fn validity_is_read_in_both_forms_of_time() {
        assert_eq!(moment(UTC_TIME, b"700101000000Z"), Some(0));
        assert_eq!(moment(UTC_TIME, b"491231235959Z"), Some(2_524_607_999));
        assert_eq!(moment(GENERALIZED_TIME, b"20500101000000Z"), Some(2_524_608_000));
        for bad in [&b"20500101000000"[..], b"Z", b"", b"20501301000000Z", "2é500101000000Z".as_bytes()] {
            assert_eq!(moment(GENERALIZED_TIME, bad), None, "{bad:?}");
        }
        let mut params = CertificateParams::new(vec!["siem.example".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 2);
        params.not_after = rcgen::date_time_ymd(2060, 1, 2);
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
        assert_eq!(validity(&der), Some((1_767_312_000, 2_840_227_200)));
    }

    #[test]
    fn any_cut_or_flip_is_survived() {
        let der = certificate();
        for end in 0..der.len() {
            assert!(describe(&der[..end]).contains("SHA-256"));
            assert!(validity(&der[..end]).is_none_or(|(from, to)| from < to));
        }
        for at in 0..der.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bad = der.clone();
                bad[at] ^= flip;
                assert!(describe(&bad).contains("SHA-256"));
            }
        }
    }
}
