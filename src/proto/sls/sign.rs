//! Request signatures of SLS, versions 1 and 4.
//!
//! Why: the data plane signs every pull without allocating, and the region-bound version 4 is in no Rust SDK.
//! Invariants: 1. a pure function of request, credentials and time. 2. the canonical text holds the query decoded
//! and what goes over the wire decodes to the same. 3. no secret in any `Debug`; secrets are overwritten on drop.
//! Bounds: buffers grow to the largest request and stay; a request has at most 65,535 headers and parameters.
//! Driven by: `api`, which writes the request line, the host and the headers that came from here.
//! Spec: protocol notes 2.1 (V1: HMAC-SHA1), 2.2 (V4: HMAC-SHA256). Departure: an empty secret still signs (the
//! server's refusal says more than a missing header).

pub mod date;
#[cfg(test)]
mod tests;

use core::cmp::Ordering;
use core::fmt;
use core::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::digest::{Digest, KeyInit, Output};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::proto::time::UnixTime;

type HmacSha1 = hmac::Hmac<sha1::Sha1>;
type HmacSha256 = hmac::Hmac<sha2::Sha256>;

/// Keys that requests are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// AccessKey id.
    pub access_key_id: String,
    /// AccessKey secret.
    pub access_key_secret: String,
    /// STS token, where the keys are temporary.
    pub security_token: Option<String>,
}

impl Drop for Credentials {
    fn drop(&mut self) {
        self.access_key_secret.zeroize();
        self.security_token.zeroize();
    }
}

impl ZeroizeOnDrop for Credentials {}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .field("access_key_secret", &"***")
            .field("security_token", &self.security_token.as_ref().map(|_| "***"))
            .finish()
    }
}

/// Which signature.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HMAC-SHA1; good everywhere.
    #[default]
    V1,
    /// HMAC-SHA256, bound to a region.
    V4 {
        /// For example `cn-hangzhou`.
        region: String,
    },
}

/// What is signed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `GET`, …
    pub method: &'a str,
    /// As it is written on the wire.
    pub path: &'a str,
    /// Decoded names and values, in any order.
    pub query: &'a [(&'a str, String)],
    /// Value of `Host`; empty where it is not to be signed.
    pub host: &'a str,
    /// The other headers; which of them are signed is decided here.
    pub headers: &'a [(&'a str, String)],
    /// The body as sent.
    pub body: &'a [u8],
}

/// Signs requests, keeping its buffers between them.
#[derive(Default)]
pub struct Signer {
    /// The text that is signed (V1) or hashed (V4). May hold the security token.
    canonical: String,
    /// Values of the headers to add, one after the other.
    values: String,
    spans: Vec<(&'static str, Range<usize>)>,
    order: Vec<u16>,
    lines: Vec<Line>,
}

/// One header line that is signed, by its place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Host,
    Given(u16),
    Added(u16),
}

impl Signer {
    /// Signs `request` as sent at `now`; gives the headers to send beside those of the request.
    pub fn sign(
        &mut self,
        version: &Version,
        credentials: &Credentials,
        request: &Request<'_>,
        now: UnixTime,
    ) -> Signature<'_> {
        self.wipe();
        match version {
            Version::V1 => {
                self.add("Date", |text| date::push_http_date(text, now));
                self.sign_v1(credentials, request);
            }
            Version::V4 { region } => {
                self.add("x-log-date", |text| date::push_compact_date(text, now));
                self.sign_v4(region, credentials, request);
            }
        }
        Signature { values: &self.values, spans: self.spans.iter() }
    }

    /// V1, where the date is in place already.
    fn sign_v1(&mut self, credentials: &Credentials, request: &Request<'_>) {
        self.add("x-log-signaturemethod", |text| text.push_str("hmac-sha1"));
        if !request.body.is_empty() {
            self.add("Content-MD5", |text| {
                push_hex(text, &md5::Md5::digest(request.body), b"0123456789ABCDEF");
            });
        }
        self.add_token(credentials);
        self.canonical_v1(request);
        let digest = hmac::<HmacSha1>(credentials.access_key_secret.as_bytes(), self.canonical.as_bytes());
        self.add("Authorization", |text| {
            text.push_str("LOG ");
            text.push_str(&credentials.access_key_id);
            text.push(':');
            STANDARD.encode_string(digest, text);
        });
    }

    fn canonical_v1(&mut self, request: &Request<'_>) {
        self.sort_lines(request, |name| signed_prefix(name) && !name.eq_ignore_ascii_case("x-log-date"));
        self.sort_query(request);
        let mut text = core::mem::take(&mut self.canonical);
        text.push_str(request.method);
        text.push('\n');
        text.push_str(self.added("Content-MD5"));
        text.push('\n');
        let content_type = request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        text.push_str(content_type.map_or("", |(_, value)| value.trim()));
        text.push('\n');
        text.push_str(self.added("Date"));
        text.push('\n');
        self.push_lines(&mut text, request);
        text.push_str(request.path);
        let mut separator = '?';
        for (key, value) in self.order.iter().filter_map(|&at| request.query.get(usize::from(at))) {
            text.push(separator);
            text.push_str(key);
            text.push('=');
            text.push_str(value);
            separator = '&';
        }
        self.canonical = text;
    }

    /// V4, where the date is in place already.
    fn sign_v4(&mut self, region: &str, credentials: &Credentials, request: &Request<'_>) {
        self.add("x-log-content-sha256", |text| push_hex(text, &sha2::Sha256::digest(request.body), HEX));
        self.add_token(credentials);
        self.canonical_v4(request);
        let canonical_digest = sha2::Sha256::digest(self.canonical.as_bytes());
        let mut text = core::mem::take(&mut self.canonical);
        let datetime = self.added("x-log-date");
        let day = datetime.get(..8).unwrap_or_default();
        let scope = [day, "/", region, "/sls/aliyun_v4_request"];

        text.zeroize();
        text.push_str("aliyun_v4");
        text.push_str(&credentials.access_key_secret);
        let mut key = hmac::<HmacSha256>(text.as_bytes(), day.as_bytes());
        for part in [region, "sls", "aliyun_v4_request"] {
            key = hmac::<HmacSha256>(&key, part.as_bytes());
        }

        text.zeroize();
        text.push_str("SLS4-HMAC-SHA256\n");
        text.push_str(datetime);
        text.push('\n');
        text.extend(scope);
        text.push('\n');
        push_hex(&mut text, &canonical_digest, HEX);
        let signature = hmac::<HmacSha256>(&key, text.as_bytes());
        key.as_mut_slice().zeroize();

        text.clear();
        text.push_str("SLS4-HMAC-SHA256 Credential=");
        text.push_str(&credentials.access_key_id);
        text.push('/');
        text.extend(scope);
        text.push_str(",Signature=");
        push_hex(&mut text, &signature, HEX);
        self.add("Authorization", |value| value.push_str(&text));
        self.canonical = text;
    }

    fn canonical_v4(&mut self, request: &Request<'_>) {
        self.sort_lines(request, |name| {
            signed_prefix(name)
                || name.eq_ignore_ascii_case("host")
                || name.eq_ignore_ascii_case("content-type")
        });
        self.sort_query(request);
        let mut text = core::mem::take(&mut self.canonical);
        text.push_str(request.method);
        text.push('\n');
        text.push_str(request.path);
        text.push('\n');
        for (at, (key, value)) in
            self.order.iter().filter_map(|&at| request.query.get(usize::from(at))).enumerate()
        {
            if at > 0 {
                text.push('&');
            }
            text.push_str(key);
            if !value.is_empty() {
                text.push('=');
                push_percent_encoded(&mut text, value);
            }
        }
        text.push('\n');
        self.push_lines(&mut text, request);
        text.push('\n');
        for (at, &line) in self.lines.iter().enumerate() {
            if at > 0 {
                text.push(';');
            }
            push_lower(&mut text, self.line(line, request).0);
        }
        text.push('\n');
        text.push_str(self.added("x-log-content-sha256"));
        self.canonical = text;
    }

    fn add_token(&mut self, credentials: &Credentials) {
        if let Some(token) = &credentials.security_token {
            self.add("x-acs-security-token", |text| text.push_str(token));
        }
    }

    fn add(&mut self, name: &'static str, write: impl FnOnce(&mut String)) {
        let start = self.values.len();
        write(&mut self.values);
        self.spans.push((name, start..self.values.len()));
    }

    fn added(&self, name: &str) -> &str {
        let span = self.spans.iter().find(|(known, _)| *known == name);
        span.and_then(|(_, range)| self.values.get(range.clone())).unwrap_or_default()
    }

    /// Collects the header lines to sign, ascending by lower-case name.
    fn sort_lines(&mut self, request: &Request<'_>, signed: impl Fn(&str) -> bool) {
        let mut lines = core::mem::take(&mut self.lines);
        lines.clear();
        if !request.host.is_empty() && signed("host") {
            lines.push(Line::Host);
        }
        let given = (0..).zip(request.headers).filter(|(_, (name, _))| signed(name));
        lines.extend(given.map(|(at, _)| Line::Given(at)));
        let added = (0..).zip(&self.spans).filter(|(_, (name, _))| signed(name));
        lines.extend(added.map(|(at, _)| Line::Added(at)));
        lines.sort_unstable_by(|&a, &b| compare_lower(self.line(a, request).0, self.line(b, request).0));
        self.lines = lines;
    }

    fn sort_query(&mut self, request: &Request<'_>) {
        self.order.clear();
        self.order.extend((0..).zip(request.query).map(|(at, _): (u16, _)| at));
        let key = |at: u16| request.query.get(usize::from(at)).map_or("", |(key, _)| *key);
        // The place is the second key, which makes an unstable sort stable without its allocation.
        self.order.sort_unstable_by(|&a, &b| key(a).cmp(key(b)).then(a.cmp(&b)));
    }

    fn push_lines(&self, text: &mut String, request: &Request<'_>) {
        for &line in &self.lines {
            let (name, value) = self.line(line, request);
            push_lower(text, name);
            text.push(':');
            text.push_str(value.trim());
            text.push('\n');
        }
    }

    fn line<'a>(&'a self, line: Line, request: &Request<'a>) -> (&'a str, &'a str) {
        match line {
            Line::Host => ("host", request.host),
            Line::Given(at) => {
                request.headers.get(usize::from(at)).map_or(("", ""), |(name, value)| (*name, value.as_str()))
            }
            Line::Added(at) => self.spans.get(usize::from(at)).map_or(("", ""), |(name, range)| {
                (*name, self.values.get(range.clone()).unwrap_or_default())
            }),
        }
    }

    /// Empties the buffers; they may have held a security token.
    fn wipe(&mut self) {
        self.canonical.zeroize();
        self.values.zeroize();
        self.spans.clear();
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl ZeroizeOnDrop for Signer {}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

/// The headers that a signature adds to its request: an iterator of names and values.
#[derive(Clone)]
pub struct Signature<'a> {
    values: &'a str,
    spans: core::slice::Iter<'a, (&'static str, Range<usize>)>,
}

impl<'a> Iterator for Signature<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, range) = self.spans.next()?;
        Some((name, self.values.get(range.clone()).unwrap_or_default()))
    }
}

impl fmt::Debug for Signature<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.spans.clone().map(|(name, _)| name)).finish()
    }
}

/// Appends `text` with everything but RFC 3986's unreserved characters as `%XX`.
pub fn push_percent_encoded(out: &mut String, text: &str) {
    const UPPER: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            push_hex(out, &[byte], UPPER);
        }
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn push_hex(out: &mut String, bytes: &[u8], digits: &[u8; 16]) {
    let digit = |value: u8| char::from(digits.get(usize::from(value & 15)).copied().unwrap_or_default());
    for &byte in bytes {
        out.push(digit(byte >> 4));
        out.push(digit(byte));
    }
}

fn signed_prefix(name: &str) -> bool {
    let begins = |prefix: &str| {
        name.as_bytes().get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    (begins("x-log-") || begins("x-acs-")) && !begins("x-log-meta-")
}

fn compare_lower(a: &str, b: &str) -> Ordering {
    a.bytes().map(|byte| byte.to_ascii_lowercase()).cmp(b.bytes().map(|byte| byte.to_ascii_lowercase()))
}

fn push_lower(out: &mut String, name: &str) {
    out.extend(name.chars().map(|letter| letter.to_ascii_lowercase()));
}

#[expect(clippy::expect_used, reason = "HMAC takes keys of any length, the error type is of the trait")]
fn hmac<M: hmac::Mac + KeyInit>(key: &[u8], text: &[u8]) -> Output<M> {
    let mut mac = <M as hmac::Mac>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes()
}
