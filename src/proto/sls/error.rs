//! Error answers of SLS and what a consumer does about each.
//!
//! Why: the same code comes with different statuses, in two spellings, from gateways as HTML; and one code
//! (`Unauthorized`) means both "new keys, please" and "ask your administrator".
//! Invariants: 1. the code decides, the status only where there is no known code. 2. everything that an operator
//! can repair is tried again for ever. 3. texts of the peer hold no control characters.
//! Bounds: message [`MESSAGE_CHARS_MAX`], code and request id 64 characters; of a body at most 64 KiB are looked at.
//! Driven by: `shard` (pulls) and `control` (all other calls). Spec: protocol notes 1.4, 1.5.

#[cfg(test)]
mod tests;

use serde_json::Value;
use thiserror::Error;

use super::sign::date;
use crate::proto::http1::Head;
use crate::proto::time::UnixTime;

/// Most characters of a message that are kept.
pub const MESSAGE_CHARS_MAX: usize = 300;

const NAME_CHARS_MAX: usize = 64;
const BODY_BYTES_MAX: usize = 64 << 10;

/// An error answer, as received.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("SLS answered {status} {code}: {message} (request id {request_id})")]
pub struct SlsError {
    /// HTTP status.
    pub status: u16,
    /// `errorCode`, empty where the body is not the JSON of SLS.
    pub code: String,
    /// `errorMessage`, or the beginning of another body, at most 300 characters.
    pub message: String,
    /// `x-log-requestid`.
    pub request_id: String,
    /// `Date` of the answer, unix seconds: tells the clock skew.
    pub server_time: Option<u64>,
}

/// What an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlsErrorKind {
    /// The signature is wrong: the secret, the region (V4) or a proxy that changes requests.
    SignatureNotMatch,
    /// Our clock and the server's are more than 15 minutes apart.
    ClockSkew,
    /// The keys are not good for this.
    Unauthorized {
        /// True where the keys are known and a RAM or STS policy denies the action; new keys of the same role do not help.
        denied: bool,
    },
    /// The STS token is over or invalid.
    CredentialsExpired,
    /// No such project in this region.
    ProjectNotExist,
    /// No such logstore in this project, or it has no shard.
    LogstoreNotExist,
    /// The project is suspended (arrears).
    ProjectForbidden,
    /// The consumer group was deleted or never made.
    GroupNotExist,
    /// Somebody made the group first: good.
    GroupAlreadyExist,
    /// The logstore has all the groups that it may have.
    GroupQuotaExceeded,
    /// The server timed this consumer out.
    ConsumerGone,
    /// The shard belongs to another consumer now.
    ConsumerNotMatch,
    /// The shard is gone (its retention passed after a split or merge).
    ShardGone,
    /// Malformed, older than the retention, or beyond the end.
    InvalidCursor,
    /// Too many or too large reads.
    ReadQuota,
    /// The server does not offer this compression.
    EncodingRefused,
    /// The request is not what the server wants: a setting of ours, or a bug.
    Parameter,
    /// The server's (or a gateway's) own trouble.
    Server,
    /// Anything else.
    Other,
}

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Again, with back-off: it passes by itself.
    Retry,
    /// Read the keys again; if they are the same, hold.
    RefreshCredentials,
    /// An operator has to repair something: say so, and go on trying slowly, for ever.
    Hold,
    /// Make the consumer group again, then go on.
    Recreate,
    /// The shard is not ours any more: drop it, commit nothing, go on with heartbeats.
    DropShard,
    /// Get a cursor for the oldest retained data and report the gap.
    NewCursor,
    /// Ask for a simpler compression.
    FallBackCompression,
}

impl SlsError {
    /// From an answer that is not a 200. `header` looks a response header up, whatever the case of its name.
    pub fn parse<'h>(status: u16, header: impl Fn(&'static str) -> Option<&'h str>, body: &[u8]) -> Self {
        let body = body.get(..BODY_BYTES_MAX).unwrap_or(body);
        let (code, message, body_request_id) = match serde_json::from_slice::<Value>(body) {
            Ok(Value::Object(object)) => from_json(&object),
            _ => (String::new(), page_text(body), String::new()),
        };
        let request_id = header("x-log-requestid").map_or(body_request_id, str::to_owned);
        Self {
            status,
            code: clean(&code, NAME_CHARS_MAX),
            message: clean(&message, MESSAGE_CHARS_MAX),
            request_id: clean(&request_id, NAME_CHARS_MAX),
            server_time: header("date").and_then(date::parse_http_date),
        }
    }

    /// From an answer of the data plane.
    pub fn from_head(head: &Head<'_>, body: &[u8]) -> Self {
        Self::parse(head.status(), |name| head.header(name), body)
    }

    /// What the error is about.
    pub fn kind(&self) -> SlsErrorKind {
        // Both spellings live in the vendor's SDKs.
        let code = self.code.to_ascii_lowercase().replace("exsit", "exist");
        let message = self.message.to_ascii_lowercase();
        by_code(&code, &message).unwrap_or_else(|| match self.status {
            401 => SlsErrorKind::Unauthorized { denied: message.contains("denied") },
            408 | 429 | 500..=599 => SlsErrorKind::Server,
            _ => SlsErrorKind::Other,
        })
    }

    /// What to do about it.
    pub fn reaction(&self) -> Reaction {
        match self.kind() {
            SlsErrorKind::CredentialsExpired | SlsErrorKind::Unauthorized { denied: false } => {
                Reaction::RefreshCredentials
            }
            SlsErrorKind::ReadQuota | SlsErrorKind::Server | SlsErrorKind::GroupAlreadyExist => {
                Reaction::Retry
            }
            SlsErrorKind::GroupNotExist => Reaction::Recreate,
            SlsErrorKind::ConsumerGone | SlsErrorKind::ConsumerNotMatch | SlsErrorKind::ShardGone => {
                Reaction::DropShard
            }
            SlsErrorKind::InvalidCursor => Reaction::NewCursor,
            SlsErrorKind::EncodingRefused => Reaction::FallBackCompression,
            SlsErrorKind::SignatureNotMatch
            | SlsErrorKind::ClockSkew
            | SlsErrorKind::Unauthorized { denied: true }
            | SlsErrorKind::ProjectNotExist
            | SlsErrorKind::LogstoreNotExist
            | SlsErrorKind::ProjectForbidden
            | SlsErrorKind::GroupQuotaExceeded
            | SlsErrorKind::Parameter
            | SlsErrorKind::Other => Reaction::Hold,
        }
    }

    /// Seconds that our clock is ahead of the server's (behind: negative), where the answer told its time.
    pub fn skew(&self, now: UnixTime) -> Option<i64> {
        let (ours, theirs) = (i64::try_from(now.as_secs()).ok()?, i64::try_from(self.server_time?).ok()?);
        Some(ours - theirs)
    }
}

/// `code` and `message` are lower-case here.
fn by_code(code: &str, message: &str) -> Option<SlsErrorKind> {
    use SlsErrorKind as Kind;
    Some(match code {
        "signaturenotmatch" => Kind::SignatureNotMatch,
        "requesttimeexpired"
        | "requesttimetooskewed"
        | "invaliddateformat"
        | "missingdate"
        | "invalidrequesttime" => Kind::ClockSkew,
        "unauthorized" if message.contains("denied") => Kind::Unauthorized { denied: true },
        "unauthorized" if message.contains("security token") || message.contains("securitytoken") => {
            Kind::CredentialsExpired
        }
        "unauthorized" => Kind::Unauthorized { denied: false },
        "accessdenied" | "nopermission" | "forbidden.ram" => Kind::Unauthorized { denied: true },
        _ if code.starts_with("invalidaccesskeyid") => Kind::Unauthorized { denied: false },
        _ if code.contains("securitytoken") => Kind::CredentialsExpired,
        "projectnotexist" => Kind::ProjectNotExist,
        "logstorenotexist" | "logstorewithoutshard" => Kind::LogstoreNotExist,
        "projectforbidden" => Kind::ProjectForbidden,
        "consumergroupnotexist" => Kind::GroupNotExist,
        "consumergroupalreadyexist" => Kind::GroupAlreadyExist,
        "consumergroupquotaexceed" | "consumergroupquotaexceeded" => Kind::GroupQuotaExceeded,
        "consumernotexist" => Kind::ConsumerGone,
        "consumernotmatch" => Kind::ConsumerNotMatch,
        "shardnotexist" => Kind::ShardGone,
        "invalidcursor" => Kind::InvalidCursor,
        _ if code.contains("quotaexceed") || code == "exceedquota" => Kind::ReadQuota,
        "invalidencoding" | "invalidacceptencoding" => Kind::EncodingRefused,
        "parameterinvalid" | "invalidparameter"
            if message.contains("encoding") || message.contains("compress") =>
        {
            Kind::EncodingRefused
        }
        "parameterinvalid"
        | "invalidparameter"
        | "postbodyinvalid"
        | "postbodytoolarge"
        | "invalidcontenttype"
        | "invalidapiversion"
        | "missinghost"
        | "invalidhost"
        | "missaccesskeyid"
        | "missingsignaturemethod"
        | "invalidsignaturemethod"
        | "invalidmethod" => Kind::Parameter,
        "internalservererror" | "serverbusy" | "unknownerror" | "requesttimeout" => Kind::Server,
        _ => return None,
    })
}

/// Code, message and request id, under any of the names that servers and gateways use.
fn from_json(object: &serde_json::Map<String, Value>) -> (String, String, String) {
    let find = |names: &[&str]| {
        let found = object.iter().find(|(key, _)| names.iter().any(|name| key.eq_ignore_ascii_case(name)));
        found.map(|(_, value)| value)
    };
    let text = |names: &[&str]| match find(names) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    let mut message = text(&["errorMessage", "error_message", "message"]);
    // Newer servers tell what a policy denied beside the message.
    let action = find(&["accessDeniedDetail"]).and_then(|detail| detail.get("AuthAction"));
    if let Some(action) = action.and_then(Value::as_str).filter(|action| !message.contains(action)) {
        message = format!("{}; denied action: {}", clean(&message, 200), clean(action, NAME_CHARS_MAX));
    }
    (text(&["errorCode", "error_code", "code"]), message, text(&["requestId"]))
}

/// What a person would read of an HTML page or a plain text.
fn page_text(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    if !text.trim_start().starts_with('<') {
        return text.into_owned();
    }
    let mut inside = false;
    let visible = text.chars().map(|letter| match letter {
        '<' => {
            inside = true;
            ' '
        }
        '>' => {
            inside = false;
            ' '
        }
        _ if inside => ' ',
        _ => letter,
    });
    visible.collect()
}

/// One line without control characters (terminals and log files obey them), blanks joined, cut.
pub(super) fn clean(text: &str, chars_max: usize) -> String {
    let mut line = String::new();
    let mut count = 0;
    for letter in text.chars() {
        let letter = if is_control(letter) || letter.is_whitespace() { ' ' } else { letter };
        if letter == ' ' && (line.is_empty() || line.ends_with(' ')) {
            continue;
        }
        if count == chars_max {
            break;
        }
        line.push(letter);
        count += 1;
    }
    line.truncate(line.trim_end().len());
    line
}

/// Also the invisible ones that turn the direction of text round.
fn is_control(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}
