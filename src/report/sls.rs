//! What the error codes of SLS mean to an operator.
//!
//! Why: one code stands for several troubles (`Unauthorized`: unknown key, expired token, missing permission), and the
//! repair differs.
//! Invariants: 1. what a code means is decided by [`SlsError::kind`] alone, so that words and deeds agree.
//! Bounds: none.   Driven by: `report`.   Spec: error codes of the SLS API.

use super::{Advice, Place, clean, named};
use crate::proto::sls::error::{SlsError, SlsErrorKind};
use crate::proto::time::UnixTime;

/// The cause as received.
pub(super) fn cause(error: &SlsError) -> String {
    let code = if error.code.is_empty() { "no code".to_owned() } else { clean(&error.code) };
    format!(
        "HTTP {}, {code}: {}, request id {}",
        error.status,
        clean(&error.message),
        named(&error.request_id)
    )
}

/// What it means and what to do.
pub(super) fn advice(place: &Place, error: &SlsError, wall: UnixTime) -> Advice {
    use SlsErrorKind as Kind;
    match error.kind() {
        Kind::SignatureNotMatch
        | Kind::ClockSkew
        | Kind::Unauthorized { .. }
        | Kind::CredentialsExpired
        | Kind::ProjectForbidden => refused(place, error, wall),
        Kind::ProjectNotExist | Kind::LogstoreNotExist | Kind::ShardGone => not_found(place, error),
        Kind::GroupNotExist
        | Kind::GroupAlreadyExist
        | Kind::GroupQuotaExceeded
        | Kind::ConsumerGone
        | Kind::ConsumerNotMatch
        | Kind::InvalidCursor => group(place, error.kind()),
        Kind::ReadQuota | Kind::EncodingRefused | Kind::Parameter | Kind::Server | Kind::Other => rest(error),
    }
}

/// Clock, signature, keys, permissions.
fn refused(place: &Place, error: &SlsError, wall: UnixTime) -> Advice {
    let key = if place.access_key_id.is_empty() {
        "the access key in use".to_owned()
    } else {
        format!("access key {}", place.access_key_id)
    };
    match error.kind() {
        SlsErrorKind::ClockSkew => Advice::new(
            "clock",
            format!("SLS refuses the time of the request{}", skew(error.skew(wall))),
            "set the clock of this machine (timedatectl set-ntp true, or chronyc makestep)",
        ),
        SlsErrorKind::SignatureNotMatch => Advice::new(
            "signature",
            format!("the signature of {key} is refused: the secret does not belong to it"),
            "set the right access_key_secret (SLS_AK_KEY) and restart; with signature = \"v4\" check region too; a proxy \
             that rewrites requests causes this as well",
        ),
        SlsErrorKind::Unauthorized { denied: true } => {
            let (action, resource) = wanted(&error.message);
            Advice::new(
                "permission",
                format!("{key} may not do this: RAM denies {action}"),
                format!(
                    "allow {action} on {resource} in the RAM policy of the user or role; it goes on by itself"
                ),
            )
        }
        SlsErrorKind::CredentialsExpired => Advice::new(
            "security-token",
            format!("the security token of {key} is not valid any more"),
            "renew the temporary keys (SLS_SECURITY_TOKEN with its id and secret) and restart, or let them be renewed: \
             [sls] credentials = \"ecs-ram-role\" or \"file\"",
        ),
        SlsErrorKind::ProjectForbidden => Advice::new(
            "project-suspended",
            format!("project {} is suspended", place.project),
            "check the bill of the account: SLS suspends projects that are in arrears; it goes on by itself",
        ),
        _ if error.message.to_ascii_lowercase().contains("disabled") => Advice::new(
            "key-disabled",
            format!("{key} is disabled"),
            "enable it in the RAM console, or give another one (SLS_AK_ID, SLS_AK_KEY) and restart",
        ),
        _ => Advice::new(
            "unknown-key",
            format!("SLS does not know {key}"),
            "check access_key_id (SLS_AK_ID): it must be an AccessKey of the account that owns the project; then restart",
        ),
    }
}

fn not_found(place: &Place, error: &SlsError) -> Advice {
    let deleted = "nothing skipped here: no checkpoint moves, but SLS keeps nothing of what was deleted";
    match error.kind() {
        SlsErrorKind::ProjectNotExist => Advice::new(
            "no-project",
            format!("there is no project {} at {}", place.project, place.endpoint),
            "check [sls] project (SLS_PROJECT) and that endpoint is that of the project's region; a new project takes a \
             minute to appear",
        )
        .safe(deleted),
        SlsErrorKind::ShardGone => Advice::new(
            "shard-gone",
            "the shard is gone",
            "nothing: a shard that was split or merged disappears when its data has expired",
        )
        .safe("what it held and was not forwarded before has expired"),
        _ if error.code.eq_ignore_ascii_case("LogStoreWithoutShard") => Advice::new(
            "no-shard",
            format!("logstore {} has no shard", place.logstore),
            "give the logstore a shard in the console; it goes on by itself",
        ),
        _ => Advice::new(
            "no-logstore",
            format!("there is no logstore {} in project {}", place.logstore, place.project),
            "check [sls] logstore (SLS_LOGSTORE); a new logstore takes a minute to appear",
        )
        .safe(deleted),
    }
}

fn group(place: &Place, kind: SlsErrorKind) -> Advice {
    match kind {
        SlsErrorKind::GroupQuotaExceeded => Advice::new(
            "group-quota",
            format!("logstore {} has no room for one more consumer group", place.logstore),
            format!(
                "SLS allows 30 groups per logstore: delete unused ones in the console, or set [sls] consumer_group \
                 (SLS_CG, now {}) to one that exists",
                place.consumer_group
            ),
        ),
        SlsErrorKind::GroupNotExist => Advice::new(
            "group-gone",
            "the consumer group was deleted",
            "nothing: it is made again; reading starts at [sls] start, because the checkpoints went with it",
        )
        .safe("its checkpoints are gone: start = \"begin\" sends everything again, \"end\" skips what came in between"),
        SlsErrorKind::GroupAlreadyExist => {
            Advice::new("group-exists", "the consumer group exists already", "nothing")
        }
        SlsErrorKind::InvalidCursor => Advice::new(
            "invalid-cursor",
            "SLS no longer has the data at this position",
            "nothing: reading goes on as [sls] on_expired_cursor says; keep logs longer or forward faster to avoid a gap",
        )
        .safe("logs that expired before they were forwarded are lost; the gap is reported when it is known"),
        _ => Advice::new(
            "lease-lost",
            "the shard belongs to another consumer now",
            "nothing, when other instances run in this group; else look for long stalls of this process or its network",
        ),
    }
}

fn rest(error: &SlsError) -> Advice {
    match error.kind() {
        SlsErrorKind::ReadQuota => Advice::new(
            "read-quota",
            "the read quota of the shard is used up",
            "nothing, reading slows down by itself; when it lasts: split the shard, or look who else reads it",
        ),
        SlsErrorKind::EncodingRefused => Advice::new(
            "encoding",
            "SLS refuses the compression that was asked for",
            "nothing, lz4 is used instead; set [sls] compression = \"lz4\" to leave out the attempt",
        ),
        SlsErrorKind::Server => Advice::new(
            "server",
            "SLS has trouble of its own",
            "nothing, it is tried again; when it lasts: the status page of Alibaba Cloud",
        ),
        _ if error.code.is_empty() => Advice::new(
            "not-sls",
            "the answer is not from SLS",
            "check [sls] endpoint and proxy: something in between answered",
        ),
        _ => Advice::new(
            "sls-refused",
            "SLS refuses the request",
            "check [sls] query, processor and compression against the text of SLS; else report it with the request id",
        ),
    }
}

/// Action and resource from "denied by sts or ram, action: log:X, resource: acs:log:…".
fn wanted(message: &str) -> (String, String) {
    let after = |mark: &str| {
        let at = message.to_ascii_lowercase().find(mark)?;
        let rest = message.get(at + mark.len()..)?.trim_start();
        let end = rest.find([',', ' ', ';', '"']).unwrap_or(rest.len());
        rest.get(..end).filter(|word| !word.is_empty()).map(clean)
    };
    (
        after("action:").unwrap_or_else(|| "the action".to_owned()),
        after("resource:").unwrap_or_else(|| "the project and logstore".to_owned()),
    )
}

fn skew(seconds: Option<i64>) -> String {
    match seconds {
        None => String::new(),
        Some(ahead @ 0..) => format!(": the clock of this machine is {ahead} s ahead of SLS"),
        Some(behind) => format!(": the clock of this machine is {} s behind SLS", behind.unsigned_abs()),
    }
}
