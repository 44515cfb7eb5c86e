use proptest::prelude::*;

use super::*;

fn error(status: u16, code: &str, message: &str) -> SlsError {
    let body = serde_json::json!({ "errorCode": code, "errorMessage": message, "new": [1] }).to_string();
    SlsError::parse(status, |_| None, body.as_bytes())
}

/// The table of protocol notes 1.5: status, code, message, kind, reaction.
#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn the_table_of_codes() {
    use Reaction as R;
    use SlsErrorKind as K;
    let denied = "denied by sts or ram, action: log:ListShards, resource: acs:log:x";
    for (status, code, message, kind, reaction) in [
        (400, "RequestTimeExpired", "", K::ClockSkew, R::Hold),
        (400, "RequestTimeTooSkewed", "", K::ClockSkew, R::Hold),
        (401, "SignatureNotMatch", "signature x not match", K::SignatureNotMatch, R::Hold),
        (
            401,
            "Unauthorized",
            "AccessKeyId is unauthorized",
            K::Unauthorized { denied: false },
            R::RefreshCredentials,
        ),
        (
            401,
            "Unauthorized",
            "AccessKeyId is disabled",
            K::Unauthorized { denied: false },
            R::RefreshCredentials,
        ),
        (401, "Unauthorized", denied, K::Unauthorized { denied: true }, R::Hold),
        (403, "Unauthorized", denied, K::Unauthorized { denied: true }, R::Hold),
        (
            401,
            "Unauthorized",
            "The security token you provided has expired",
            K::CredentialsExpired,
            R::RefreshCredentials,
        ),
        (401, "InvalidAccessKeyId", "", K::Unauthorized { denied: false }, R::RefreshCredentials),
        (401, "InvalidAccessKeyId.NotFound", "", K::Unauthorized { denied: false }, R::RefreshCredentials),
        (401, "SecurityTokenExpired", "", K::CredentialsExpired, R::RefreshCredentials),
        (401, "SecurityToken.Expired", "", K::CredentialsExpired, R::RefreshCredentials),
        (403, "ProjectForbidden", "", K::ProjectForbidden, R::Hold),
        (403, "ReadQuotaExceed", "", K::ReadQuota, R::Retry),
        (403, "ShardReadQuotaExceed", "", K::ReadQuota, R::Retry),
        (403, "ExceedQuota", "", K::ReadQuota, R::Retry),
        (400, "InvalidCursor", "", K::InvalidCursor, R::NewCursor),
        (404, "InvalidCursor", "", K::InvalidCursor, R::NewCursor),
        (400, "ShardNotExist", "", K::ShardGone, R::DropShard),
        (404, "ShardNotExsit", "", K::ShardGone, R::DropShard),
        (400, "LogStoreWithoutShard", "", K::LogstoreNotExist, R::Hold),
        (404, "LogStoreNotExist", "", K::LogstoreNotExist, R::Hold),
        (404, "LogstoreNotExsit", "", K::LogstoreNotExist, R::Hold),
        (404, "ProjectNotExist", "", K::ProjectNotExist, R::Hold),
        (404, "ConsumerGroupNotExist", "", K::GroupNotExist, R::Recreate),
        (400, "ConsumerGroupAlreadyExist", "", K::GroupAlreadyExist, R::Retry),
        (403, "ConsumerGroupQuotaExceed", "", K::GroupQuotaExceeded, R::Hold),
        (400, "ConsumerNotExist", "", K::ConsumerGone, R::DropShard),
        (404, "consumernotexsit", "", K::ConsumerGone, R::DropShard),
        (400, "ConsumerNotMatch", "", K::ConsumerNotMatch, R::DropShard),
        (400, "ParameterInvalid", "count", K::Parameter, R::Hold),
        (400, "ParameterInvalid", "Accept-Encoding zstd", K::EncodingRefused, R::FallBackCompression),
        (400, "InvalidAcceptEncoding", "", K::EncodingRefused, R::FallBackCompression),
        (415, "InvalidContentType", "", K::Parameter, R::Hold),
        (405, "InvalidMethod", "", K::Parameter, R::Hold),
        (500, "InternalServerError", "", K::Server, R::Retry),
        (400, "ServerBusy", "", K::Server, R::Retry),
        (408, "RequestTimeout", "", K::Server, R::Retry),
        (400, "RequestTimeout", "", K::Server, R::Retry),
        (500, "InvalidCursor", "", K::InvalidCursor, R::NewCursor),
        (503, "SomethingNew", "", K::Server, R::Retry),
        (429, "SomethingNew", "", K::Server, R::Retry),
        (400, "SomethingNew", "", K::Other, R::Hold),
        (401, "SomethingNew", "", K::Unauthorized { denied: false }, R::RefreshCredentials),
    ] {
        for code in [code.to_owned(), code.to_ascii_uppercase(), code.to_ascii_lowercase()] {
            let error = error(status, &code, message);
            assert_eq!((error.kind(), error.reaction()), (kind, reaction), "{status} {code} {message}");
        }
    }
}

#[test]
fn the_answer_is_kept_as_received() {
    let header = |name: &str| match name {
        "x-log-requestid" => Some("5B0A6B60BB6EE39764D458B5"),
        "date" => Some("Fri, 02 Jan 2026 03:04:05 GMT"),
        _ => None,
    };
    let body = br#"{"errorCode":"LogStoreNotExist","errorMessage":"logstore xxx does not exist"}"#;
    let error = SlsError::parse(404, header, body);
    assert_eq!(
        error.to_string(),
        "SLS answered 404 LogStoreNotExist: logstore xxx does not exist (request id 5B0A6B60BB6EE39764D458B5)"
    );
    assert_eq!(error.server_time, Some(1_767_323_045));
    assert_eq!(error.skew(UnixTime::from_secs(1_767_323_045 + 1000)), Some(1000));
    assert_eq!(error.skew(UnixTime::from_secs(1_767_323_045 - 901)), Some(-901));
    assert_eq!(SlsError { server_time: None, ..error }.skew(UnixTime::default()), None);
}

#[test]
fn bodies_that_are_not_of_sls() {
    let parse = |status, body: &[u8]| SlsError::parse(status, |_| None, body);
    let page = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\x1b[31m\xff</body></html>";
    let gateway = parse(502, page);
    assert_eq!((gateway.code.as_str(), gateway.message.as_str()), ("", "502 Bad Gateway [31m\u{fffd}"));
    assert_eq!(gateway.reaction(), Reaction::Retry);
    let empty = parse(500, b"");
    assert_eq!((empty.message.as_str(), empty.kind()), ("", SlsErrorKind::Server));
    assert_eq!(parse(404, b"").reaction(), Reaction::Hold);
    for body in [&b"null"[..], b"[]", b"\"text\"", b"{\"errorCode\":", b"{}", b"{\"errorCode\":{}}"] {
        assert_eq!(parse(400, body).code, "");
    }
    let capital = parse(400, br#"{"ErrorCode":"InvalidCursor","Message":"m","requestId":"r"}"#);
    assert_eq!((capital.kind(), capital.request_id.as_str()), (SlsErrorKind::InvalidCursor, "r"));
    let detail = br#"{"errorCode":"Unauthorized","errorMessage":"no","accessDeniedDetail":{"AuthAction":"log:GetCursorOrData"}}"#;
    assert_eq!(parse(403, detail).message, "no; denied action: log:GetCursorOrData");
    assert_eq!(parse(403, detail).kind(), SlsErrorKind::Unauthorized { denied: true });
}

#[test]
fn texts_are_cut_and_cleaned() {
    let long = error(400, &"C".repeat(100), &"\u{4e2d}".repeat(1000));
    assert_eq!((long.code.len(), long.message.chars().count()), (64, 300));
    assert_eq!(error(400, "A\nB", "a\r\n\tb\u{202e}c\0").message, "a b c");
    assert_eq!(SlsError::parse(400, |_| None, &vec![b'a'; 1 << 20]).message.len(), 300);
}

proptest! {
    /// Any body: no panic, bounded text without control characters.
    #[test]
    fn any_body(status: u16, body: Vec<u8>, message: String) {
        for error in [SlsError::parse(status, |_| None, &body), error(status, &message, &message)] {
            error.reaction();
            prop_assert!(error.message.chars().count() <= MESSAGE_CHARS_MAX);
            prop_assert!(!error.to_string().chars().any(is_control));
        }
    }
}
