//! Refusals as the service words them: HTTP status, `errorCode`, `errorMessage`.
//!
//! Why: a client decides by the code, so a wrong code in the emulator teaches the client a wrong reaction.
//! Invariants: 1. every code in use has one status here.   Bounds: none.
//! Driven by: every call of the emulator; the fault plan, which names codes.   Spec: protocol/sls.md 1.4, 1.5.

use std::borrow::Cow;

/// A refusal of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    pub(crate) code: Cow<'static, str>,
    pub(crate) message: String,
}

/// The answer of a call, or its refusal.
pub(crate) type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: status_of(code), code: Cow::Borrowed(code), message: message.into() }
    }

    pub(crate) fn parameter(message: impl Into<String>) -> Self {
        Self::new("ParameterInvalid", message)
    }

    /// A refusal that a fault plan asks for: what it leaves open is filled in.
    pub(crate) fn injected(status: Option<u16>, code: Option<String>) -> Self {
        let code = code.unwrap_or_else(|| code_of(status.unwrap_or(500)).to_owned());
        Self {
            status: status.unwrap_or_else(|| status_of(&code)),
            message: format!("{code}: injected by the fault plan"),
            code: Cow::Owned(code),
        }
    }

    /// The JSON body.
    pub(crate) fn body(&self) -> Vec<u8> {
        serde_json::json!({ "errorCode": self.code, "errorMessage": self.message }).to_string().into_bytes()
    }
}

/// The status that goes with a code; 400 for those of which nothing else is known.
pub(crate) fn status_of(code: &str) -> u16 {
    match code {
        "SignatureNotMatch"
        | "Unauthorized"
        | "InvalidAccessKeyId"
        | "InvalidAccessKeyId.NotFound"
        | "SecurityTokenExpired"
        | "SecurityToken.Expired" => 401,
        "ProjectForbidden"
        | "ReadQuotaExceed"
        | "ShardReadQuotaExceed"
        | "WriteQuotaExceed"
        | "ShardWriteQuotaExceed"
        | "ExceedQuota" => 403,
        "ProjectNotExist" | "LogStoreNotExist" | "ConsumerGroupNotExist" | "ConsumerNotExist" => 404,
        "InvalidMethod" => 405,
        "RequestTimeout" => 408,
        "PostBodyTooLarge" => 413,
        "InvalidContentType" => 415,
        "InternalServerError" | "UnknownError" => 500,
        "ServerBusy" => 503,
        _ => 400,
    }
}

/// The code that a status alone stands for.
fn code_of(status: u16) -> &'static str {
    match status {
        401 => "Unauthorized",
        403 => "ShardReadQuotaExceed",
        404 => "LogStoreNotExist",
        405 => "InvalidMethod",
        408 => "RequestTimeout",
        413 => "PostBodyTooLarge",
        400..=499 => "ParameterInvalid",
        503 => "ServerBusy",
        _ => "InternalServerError",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn injected_refusals_fill_in_what_is_open() {
        assert_eq!(ApiError::injected(Some(503), None).code, "ServerBusy");
        assert_eq!(ApiError::injected(None, Some("ConsumerNotExist".into())).status, 404);
        let both = ApiError::injected(Some(400), Some("ConsumerNotExsit".into()));
        assert_eq!((both.status, both.code.as_ref()), (400, "ConsumerNotExsit"));
    }

    #[test]
    fn the_body_has_the_two_keys() {
        let body = ApiError::new("LogStoreNotExist", "logstore \"x\" does not exist").body();
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(json["errorCode"], "LogStoreNotExist");
        assert_eq!(json["errorMessage"], "logstore \"x\" does not exist");
        assert_eq!(json.as_object().unwrap().len(), 2);
    }
}
