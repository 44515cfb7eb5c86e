//! What the error codes of SLS mean to an operator.
//!
//! Why: one code stands for several troubles (`Unauthorized`: unknown key, expired token, missing permission), and the
//! repair differs.
//! Invariants: 1. codes are compared without regard to case, both spellings of the misspelt ones.
//! Bounds: none.   Driven by: `report`.   Spec: error codes of the SLS API.

use super::{Advice, Place, clean, named};
use crate::proto::sls::error::SlsError;
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
    let code = error.code.to_ascii_lowercase();
    refused(place, error, &code, wall)
        .or_else(|| not_found(place, &code))
        .or_else(|| limits(place, &code))
        .or_else(|| group_state(&code))
        .unwrap_or_else(|| rest(error, &code))
}

/// Clock, signature, keys, permissions.
fn refused(place: &Place, error: &SlsError, code: &str, wall: UnixTime) -> Option<Advice> {
    let message = error.message.to_ascii_lowercase();
    let key = if place.access_key_id.is_empty() {
        "the access key in use".to_owned()
    } else {
        format!("access key {}", place.access_key_id)
    };
    Some(match code {
        "requesttimeexpired"
        | "requesttimetooskewed"
        | "invaliddateformat"
        | "missingdate"
        | "invalidrequesttime" => {
            let problem = format!("SLS refuses the time of the request{}", skew(error.server_time, wall));
            Advice::new(
                "clock",
                problem,
                "set the clock of this machine (timedatectl set-ntp true, or chronyc makestep)",
            )
        }
        "signaturenotmatch" => Advice::new(
            "signature",
            format!("the signature of {key} is refused: the secret does not belong to it"),
            "set the right access_key_secret (SLS_AK_KEY) and restart; with signature = \"v4\" check region too; a proxy \
             that rewrites requests causes this as well",
        ),
        _ if denied(code, &message) => {
            let (action, resource) = wanted(&error.message);
            Advice::new(
                "permission",
                format!("{key} may not do this: RAM denies {action}"),
                format!(
                    "allow {action} on {resource} in the RAM policy of the user or role; it goes on by itself"
                ),
            )
        }
        _ if is_token(code, &message) => Advice::new(
            "security-token",
            format!("the security token of {key} is no longer valid"),
            "renew the temporary keys (SLS_SECURITY_TOKEN with its id and secret) and restart, or let them be renewed: \
             [sls] credentials = \"ecs-ram-role\" or \"file\"",
        ),
        "unauthorized" if message.contains("disabled") => Advice::new(
            "key-disabled",
            format!("{key} is disabled"),
            "enable it in the RAM console, or give another one (SLS_AK_ID, SLS_AK_KEY) and restart",
        ),
        "unauthorized" | "invalidaccesskeyid" | "invalidaccesskeyid.notfound" | "missaccesskeyid" => {
            Advice::new(
                "unknown-key",
                format!("SLS does not know {key}"),
                "check access_key_id (SLS_AK_ID): it must be an AccessKey of the account that owns the project; then restart",
            )
        }
        "projectforbidden" => Advice::new(
            "project-suspended",
            format!("project {} is suspended", place.project),
            "check the bill of the account: SLS suspends projects that are in arrears; it goes on by itself",
        ),
        _ => return None,
    })
}

fn not_found(place: &Place, code: &str) -> Option<Advice> {
    Some(match code {
        "projectnotexist" => Advice::new(
            "no-project",
            format!("there is no project {} at {}", place.project, place.endpoint),
            "check [sls] project (SLS_PROJECT) and that endpoint is that of the project's region; a new project takes a \
             minute to appear",
        ),
        "logstorenotexist" => Advice::new(
            "no-logstore",
            format!("there is no logstore {} in project {}", place.logstore, place.project),
            "check [sls] logstore (SLS_LOGSTORE); a new logstore takes a minute to appear",
        ),
        "logstorewithoutshard" => Advice::new(
            "no-shard",
            format!("logstore {} has no shard", place.logstore),
            "give the logstore a shard in the console; it goes on by itself",
        ),
        "shardnotexist" | "shardnotexsit" => Advice::new(
            "shard-gone",
            "the shard is gone",
            "nothing: a shard that was split or merged disappears when its data has expired",
        ),
        _ => return None,
    })
}

fn limits(place: &Place, code: &str) -> Option<Advice> {
    Some(match code {
        "consumergroupquotaexceed" => Advice::new(
            "group-quota",
            format!("logstore {} has no room for one more consumer group", place.logstore),
            format!(
                "SLS allows 30 groups per logstore: delete unused ones in the console, or set [sls] consumer_group \
                 (SLS_CG, now {}) to one that exists",
                place.consumer_group
            ),
        ),
        "readquotaexceed" | "shardreadquotaexceed" | "exceedquota" => Advice::new(
            "read-quota",
            "the read quota of the shard is used up",
            "nothing, reading slows down by itself; when it lasts: split the shard, or look who else reads it",
        ),
        _ => return None,
    })
}

fn group_state(code: &str) -> Option<Advice> {
    Some(match code {
        "consumergroupnotexist" => Advice::new(
            "group-gone",
            "the consumer group was deleted",
            "nothing: it is made again; reading starts at [sls] start, because the checkpoints went with it",
        ),
        "consumergroupalreadyexist" => {
            Advice::new("group-exists", "the consumer group exists already", "nothing")
        }
        "consumernotexist" | "consumernotexsit" | "consumernotmatch" => Advice::new(
            "lease-lost",
            "the shard belongs to another consumer now",
            "nothing, when other instances run in this group; else look for long stalls of this process or its network",
        ),
        "invalidcursor" => Advice::new(
            "invalid-cursor",
            "SLS no longer has the data at this position",
            "nothing: reading goes on as [sls] on_expired_cursor says; keep logs longer or forward faster to avoid a gap",
        ),
        _ => return None,
    })
}

fn rest(error: &SlsError, code: &str) -> Advice {
    if error.status >= 500 || matches!(code, "requesttimeout" | "serverbusy" | "internalservererror") {
        let problem = "SLS has trouble of its own";
        return Advice::new(
            "server",
            problem,
            "nothing, it is tried again; when it lasts: the status page of Alibaba Cloud",
        );
    }
    if code.is_empty() {
        return Advice::new(
            "not-sls",
            "the answer is not from SLS",
            "check [sls] endpoint and proxy: something in between answered",
        );
    }
    Advice::new(
        "sls-refused",
        "SLS refuses the request",
        "check [sls] query, processor and compression against the text of SLS; else report it with the request id",
    )
}

fn denied(code: &str, message: &str) -> bool {
    message.contains("denied by sts or ram") || code.contains("accessdenied") || code == "forbidden.ram"
}

fn is_token(code: &str, message: &str) -> bool {
    code.starts_with("securitytoken") || (code == "unauthorized" && message.contains("security token"))
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

fn skew(server: Option<u64>, wall: UnixTime) -> String {
    let Some(server) = server else { return String::new() };
    let here = wall.as_secs();
    if here >= server {
        format!(": the clock of this machine is {} s ahead of SLS", here - server)
    } else {
        format!(": the clock of this machine is {} s behind SLS", server - here)
    }
}
