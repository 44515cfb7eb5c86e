//! Checks request signatures, versions 1 and 4.
//!
//! Why: a server that lets a wrong signature pass hides the mistake that costs the first hour on the real service.
//! Invariants: 1. only what was received is used, plus the secret. 2. A signature either matches exactly or not.
//! Bounds: none beyond the request's own.
//! Driven by: `api`, once per request.   Spec: protocol/sls.md 2; judged by `tests/golden/signature_*.json`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::Hmac;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::http::Request;

/// What an `Authorization` header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claim {
    V1 { key_id: String, signature: String },
    V4 { key_id: String, date: String, region: String, signature: String },
}

/// sha256 of nothing: stands for an empty body, and for one whose hash was left out.
pub(crate) const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

impl Claim {
    /// Reads the header's value.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        if let Some(rest) = value.strip_prefix("LOG ") {
            let (key_id, signature) = rest.split_once(':')?;
            return Some(Self::V1 { key_id: key_id.to_owned(), signature: signature.to_owned() });
        }
        let rest = value.strip_prefix("SLS4-HMAC-SHA256 Credential=")?;
        let (credential, signature) = rest.split_once(",Signature=")?;
        let mut parts = credential.split('/');
        let mut part = || parts.next().map(str::to_owned);
        let claim =
            Self::V4 { key_id: part()?, date: part()?, region: part()?, signature: signature.to_owned() };
        (parts.next() == Some("sls") && parts.next() == Some("aliyun_v4_request") && parts.next().is_none())
            .then_some(claim)
    }

    pub(crate) fn key_id(&self) -> &str {
        match self {
            Self::V1 { key_id, .. } | Self::V4 { key_id, .. } => key_id,
        }
    }

    /// Whether the signature is that of this request under this secret.
    pub(crate) fn matches(&self, request: &Request, secret: &str) -> bool {
        // Python signs the path as it was given, Go signs it escaped; for ordinary names both are one.
        let mut paths = vec![request.path.as_str()];
        if request.raw_path != request.path {
            paths.push(&request.raw_path);
        }
        match self {
            // Python adds x-log-date after signing, so it is left out; a client that signs it is tried second.
            Self::V1 { signature, .. } => paths
                .iter()
                .any(|path| [false, true].iter().any(|date| v1(request, path, *date, secret) == *signature)),
            Self::V4 { date, region, signature, .. } => {
                paths.iter().any(|path| v4(request, path, date, region, secret) == *signature)
            }
        }
    }
}

/// The `Authorization` value of version 1, for a client of the emulator.
#[cfg(test)]
pub(crate) fn authorize_v1(request: &Request, key_id: &str, secret: &str) -> String {
    format!("LOG {key_id}:{}", v1(request, &request.path, false, secret))
}

fn v1(request: &Request, path: &str, with_log_date: bool, secret: &str) -> String {
    let mut text = request.method.clone();
    for name in ["content-md5", "content-type", "date"] {
        text.push('\n');
        text.push_str(request.header(name).unwrap_or_default());
    }
    text.push('\n');
    for (name, value) in signed_headers(request, |name| with_log_date || name != "x-log-date") {
        text.extend([name, ":", value, "\n"]);
    }
    text.push_str(path);
    let pairs: Vec<String> =
        sorted_query(request).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    if !pairs.is_empty() {
        text.push('?');
        text.push_str(&pairs.join("&"));
    }
    STANDARD.encode(hmac::<Hmac<Sha1>>(secret.as_bytes(), text.as_bytes()))
}

fn v4(request: &Request, path: &str, date: &str, region: &str, secret: &str) -> String {
    let query: Vec<String> = sorted_query(request)
        .into_iter()
        .map(
            |(key, value)| {
                if value.is_empty() { key.to_owned() } else { format!("{key}={}", percent_encode(value)) }
            },
        )
        .collect();
    let mut headers = signed_headers(request, |_| true);
    for name in ["content-type", "host"] {
        headers.extend(request.header(name).map(|value| (name, value)));
    }
    headers.sort_unstable();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let block: String = headers.iter().flat_map(|(name, value)| [name, ":", value, "\n"]).collect();
    let canonical = format!(
        "{}\n{path}\n{}\n{block}\n{}\n{}",
        request.method,
        query.join("&"),
        names.join(";"),
        request.header("x-log-content-sha256").unwrap_or(EMPTY_SHA256),
    );
    let moment = request.header("x-log-date").unwrap_or_default();
    let scope = format!("{date}/{region}/sls/aliyun_v4_request");
    let text = format!("SLS4-HMAC-SHA256\n{moment}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let first = format!("aliyun_v4{secret}").into_bytes();
    let key = [date, region, "sls", "aliyun_v4_request"]
        .iter()
        .fold(first, |key, part| hmac::<Hmac<Sha256>>(&key, part.as_bytes()));
    hex(&hmac::<Hmac<Sha256>>(&key, text.as_bytes()))
}

/// `x-log-*` and `x-acs-*` by name; metadata of objects is never signed.
fn signed_headers(request: &Request, wanted: impl Fn(&str) -> bool) -> Vec<(&str, &str)> {
    let mut headers: Vec<(&str, &str)> = request
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| name.starts_with("x-log-") || name.starts_with("x-acs-"))
        .filter(|(name, _)| !name.starts_with("x-log-meta-") && wanted(name))
        .collect();
    headers.sort_unstable();
    headers
}

fn sorted_query(request: &Request) -> Vec<(&str, &str)> {
    let mut pairs: Vec<(&str, &str)> =
        request.query.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    pairs.sort_unstable();
    pairs
}

fn hmac<M: hmac::Mac + hmac::digest::KeyInit>(key: &[u8], text: &[u8]) -> Vec<u8> {
    // HMAC takes a key of any length, so the error arm cannot be reached; an empty answer matches nothing.
    <M as hmac::Mac>::new_from_slice(key)
        .map(|mac| mac.chain_update(text).finalize().into_bytes().to_vec())
        .unwrap_or_default()
}

/// RFC 3986: everything but unreserved characters is escaped.
fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.extend(["%", &hex(&[byte]).to_ascii_uppercase()]);
        }
    }
    out
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests;
