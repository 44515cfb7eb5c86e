//! Who may do what: access keys, tokens, dates, digests, permissions.
//!
//! Why: a client meets each of these refusals in the field and has to tell them apart by code and text.
//! Invariants: 1. nothing is processed for a request that is not admitted. 2. secrets and tokens are in no text.
//! Bounds: none.
//! Driven by: `api`, first thing for each request.   Spec: protocol/sls.md 1.2, 1.5, 2, 3.7.

use std::collections::BTreeSet;
use std::fmt;

use md5::Md5;
use sha2::{Digest as _, Sha256};

use super::error::{ApiError, ApiResult};
use super::http::Request;
use super::sign::{self, Claim};

/// A key that the emulator knows.
#[derive(Clone, Default)]
pub struct AccessKey {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: String,
    /// With a token it is a temporary key, and requests must carry it.
    pub token: Option<String>,
    /// The token has expired.
    pub expired: bool,
    /// When the token expires (unix ms).
    pub expires_ms: Option<u64>,
    /// The key is switched off.
    pub disabled: bool,
    /// Actions (`log:ListShards`) that it may not do; `log:*` for all.
    pub denied: BTreeSet<String>,
}

/// What the checks need to know besides the request and the key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub(crate) now_ms: u64,
    pub(crate) region: &'a str,
}

const WINDOW_S: u64 = 15 * 60;

impl AccessKey {
    /// A key for everything.
    pub fn new(id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { id: id.into(), secret: secret.into(), ..Self::default() }
    }

    /// A temporary key with its token.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The same key without the permission for this action.
    #[must_use]
    pub fn without(mut self, action: impl Into<String>) -> Self {
        self.denied.insert(action.into());
        self
    }

    /// Whether it lacks the permission for this action.
    pub(crate) fn is_denied(&self, action: &str) -> bool {
        self.denied.contains(action) || self.denied.contains("log:*")
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey")
            .field("id", &self.id)
            .field("denied", &self.denied)
            .finish_non_exhaustive()
    }
}

/// Checks all of a request that does not depend on the call. The key is looked up by the claim's id.
pub(crate) fn admit<'k>(
    request: &Request,
    terms: Terms<'_>,
    lookup: impl FnOnce(&str) -> Option<&'k AccessKey>,
) -> ApiResult<&'k AccessKey> {
    match request.header("x-log-apiversion") {
        Some("0.6.0") => {}
        Some(other) => {
            return Err(ApiError::new("InvalidAPIVersion", format!("version {other} is not 0.6.0")));
        }
        None => {
            return Err(ApiError::new("InvalidAPIVersion", "x-log-apiversion does not exist in http header"));
        }
    }
    let header = request
        .header("authorization")
        .ok_or_else(|| ApiError::new("MissAccessKeyId", "Authorization does not exist in http header"))?;
    let claim =
        Claim::parse(header).ok_or_else(|| ApiError::new("Unauthorized", "Authorization is malformed"))?;
    let key = lookup(claim.key_id())
        .ok_or_else(|| ApiError::new("Unauthorized", format!("AccessKeyId not found: {}", claim.key_id())))?;
    check_key(key, request, terms.now_ms)?;
    check_date(&claim, request, terms.now_ms)?;
    check_body(&claim, request)?;
    let region_matches = !matches!(&claim, Claim::V4 { region, .. } if region != terms.region);
    if !region_matches || !claim.matches(request, &key.secret) {
        let signature = match &claim {
            Claim::V1 { signature, .. } | Claim::V4 { signature, .. } => signature,
        };
        return Err(ApiError::new("SignatureNotMatch", format!("signature {signature} not matched")));
    }
    Ok(key)
}

/// The refusal of an action that the key may not do.
pub(crate) fn denial(action: &str, resource: &str) -> ApiError {
    ApiError::new("Unauthorized", format!("denied by sts or ram, action: {action}, resource: {resource}"))
}

fn check_key(key: &AccessKey, request: &Request, now_ms: u64) -> ApiResult<()> {
    let unauthorized = |text: &str| Err(ApiError::new("Unauthorized", text));
    if key.disabled {
        return unauthorized("AccessKeyId is disabled");
    }
    if key.expired || key.expires_ms.is_some_and(|end| end <= now_ms) {
        return unauthorized("The security token you provided has expired");
    }
    if request.header("x-acs-security-token") != key.token.as_deref() {
        return unauthorized("The security token you provided is invalid");
    }
    Ok(())
}

fn check_date(claim: &Claim, request: &Request, now_ms: u64) -> ApiResult<()> {
    let sent_s = match claim {
        Claim::V1 { .. } => {
            match request.header("x-log-signaturemethod") {
                Some("hmac-sha1") => {}
                Some(other) => {
                    return Err(ApiError::new("InvalidSignatureMethod", format!("{other} is not hmac-sha1")));
                }
                None => {
                    return Err(ApiError::new(
                        "MissingSignatureMethod",
                        "x-log-signaturemethod does not exist",
                    ));
                }
            }
            let text = request.header("x-log-date").or_else(|| request.header("date"));
            let text =
                text.ok_or_else(|| ApiError::new("MissingDate", "Date does not exist in http header"))?;
            parse_rfc1123(text)
        }
        Claim::V4 { date, .. } => {
            let text = request.header("x-log-date").unwrap_or_default();
            if !text.starts_with(date.as_str()) {
                return Err(ApiError::new("InvalidDateFormat", "x-log-date is not of the credential's day"));
            }
            parse_basic(text)
        }
    };
    let sent_s =
        sent_s.ok_or_else(|| ApiError::new("InvalidDateFormat", "the request's date cannot be read"))?;
    if sent_s.abs_diff(now_ms / 1000) > WINDOW_S {
        return Err(ApiError::new("RequestTimeExpired", "The request time is more than 15 minutes off"));
    }
    Ok(())
}

fn check_body(claim: &Claim, request: &Request) -> ApiResult<()> {
    let body = request.body.as_slice();
    let wrong = |text: &str| Err(ApiError::new("PostBodyInvalid", text));
    match claim {
        Claim::V1 { .. } => match request.header("content-md5") {
            Some(md5) if md5 != sign::hex(&Md5::digest(body)).to_ascii_uppercase() => {
                wrong("Content-MD5 is not that of the body (32 upper-case hexadecimal digits)")
            }
            None if !body.is_empty() => wrong("Content-MD5 does not exist in http header"),
            _ => Ok(()),
        },
        Claim::V4 { .. } => match request.header("x-log-content-sha256") {
            None => wrong("x-log-content-sha256 does not exist in http header"),
            Some(hash) if hash != sign::EMPTY_SHA256 && hash != sign::hex(&Sha256::digest(body)) => {
                wrong("x-log-content-sha256 is not that of the body")
            }
            Some(_) => Ok(()),
        },
    }
}

/// `Fri, 02 Jan 2026 03:04:05 GMT`
fn parse_rfc1123(text: &str) -> Option<u64> {
    let broken = jiff::fmt::strtime::parse("%a, %d %b %Y %H:%M:%S GMT", text).ok()?;
    unix_seconds(broken.to_datetime().ok()?)
}

/// `20260102T030405Z`
fn parse_basic(text: &str) -> Option<u64> {
    let broken = jiff::fmt::strtime::parse("%Y%m%dT%H%M%SZ", text).ok()?;
    unix_seconds(broken.to_datetime().ok()?)
}

fn unix_seconds(at: jiff::civil::DateTime) -> Option<u64> {
    let zoned = at.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    u64::try_from(zoned.timestamp().as_second()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_767_323_045_000;

    fn signed(change: impl FnOnce(&mut Request)) -> Request {
        let mut request = Request { method: "POST".into(), body: b"{}".to_vec(), ..Request::default() };
        request.set_target("/logstores/l/consumergroups");
        for (name, value) in [
            ("x-log-apiversion", "0.6.0"),
            ("x-log-signaturemethod", "hmac-sha1"),
            ("date", "Fri, 02 Jan 2026 03:04:05 GMT"),
            ("content-md5", "99914B932BD37A50B983C5E7C90AE93B"),
        ] {
            request.headers.push((name.into(), value.into()));
        }
        change(&mut request);
        let value = sign::authorize_v1(&request, "id", "secret");
        request.headers.push(("authorization".into(), value));
        request
    }

    fn set(name: &'static str, value: &'static str) -> impl FnOnce(&mut Request) {
        move |request| {
            request.headers.retain(|header| header.0 != name);
            if !value.is_empty() {
                request.headers.push((name.into(), value.into()));
            }
        }
    }

    fn verdict(request: &Request, key: &AccessKey) -> Result<(), String> {
        let terms = Terms { now_ms: NOW_MS, region: "cn-hangzhou" };
        admit(request, terms, |id| (id == key.id).then_some(key))
            .map(|_| ())
            .map_err(|error| error.code.into_owned())
    }

    #[test]
    fn each_refusal_has_its_code() {
        let key = AccessKey::new("id", "secret");
        assert_eq!(verdict(&signed(|_| {}), &key), Ok(()));
        let cases = [
            (signed(set("x-log-apiversion", "0.5.0")), "InvalidAPIVersion"),
            (signed(set("x-log-apiversion", "")), "InvalidAPIVersion"),
            (signed(set("x-log-signaturemethod", "")), "MissingSignatureMethod"),
            (signed(set("x-log-signaturemethod", "md5")), "InvalidSignatureMethod"),
            (signed(set("date", "")), "MissingDate"),
            (signed(set("date", "2026-01-02")), "InvalidDateFormat"),
            (signed(set("date", "Fri, 02 Jan 2026 03:19:06 GMT")), "RequestTimeExpired"),
            (signed(set("date", "Fri, 02 Jan 2026 02:49:04 GMT")), "RequestTimeExpired"),
            (signed(set("content-md5", "99914b932bd37a50b983c5e7c90ae93b")), "PostBodyInvalid"),
            (signed(set("content-md5", "")), "PostBodyInvalid"),
            (signed(set("x-acs-security-token", "t")), "Unauthorized"),
        ];
        for (request, code) in cases {
            assert_eq!(verdict(&request, &key), Err(code.into()), "{:?}", request.headers);
        }
        let edge = signed(set("date", "Fri, 02 Jan 2026 03:19:05 GMT"));
        assert_eq!(verdict(&edge, &key), Ok(()));
    }

    #[test]
    fn keys_and_tokens_are_checked() {
        let request = signed(|_| {});
        assert_eq!(verdict(&request, &AccessKey::new("id", "other")), Err("SignatureNotMatch".into()));
        assert_eq!(verdict(&request, &AccessKey::new("other", "secret")), Err("Unauthorized".into()));
        let disabled = AccessKey { disabled: true, ..AccessKey::new("id", "secret") };
        assert_eq!(verdict(&request, &disabled), Err("Unauthorized".into()));
        let temporary = AccessKey::new("id", "secret").with_token("t");
        assert_eq!(verdict(&request, &temporary), Err("Unauthorized".into()));
        let with_token = signed(set("x-acs-security-token", "t"));
        assert_eq!(verdict(&with_token, &temporary), Ok(()));
        let expired = AccessKey { expired: true, ..temporary.clone() };
        assert_eq!(verdict(&with_token, &expired), Err("Unauthorized".into()));
        for (expires_ms, outcome) in [(NOW_MS + 1, Ok(())), (NOW_MS, Err("Unauthorized".into()))] {
            let short = AccessKey { expires_ms: Some(expires_ms), ..temporary.clone() };
            assert_eq!(verdict(&with_token, &short), outcome);
        }
        let mut unsigned = signed(|_| {});
        unsigned.headers.retain(|header| header.0 != "authorization");
        assert_eq!(verdict(&unsigned, &temporary), Err("MissAccessKeyId".into()));
    }

    #[test]
    fn no_secret_is_in_the_debug_text() {
        let text = format!("{:?}", AccessKey::new("id", "hush-hush").with_token("tok-tok"));
        assert!(!text.contains("hush") && !text.contains("tok"), "{text}");
    }
}
