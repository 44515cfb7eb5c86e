//! What a failed call means for a lease.
//!
//! Why: SLS spells the same cause in several ways and under several statuses; the state machine matches on words of its own.
//! Invariants: 1. the code decides, never the message, except between a bad key and a missing permission,
//! which share one code; 2. an unknown code is a reason to try again, never to give something up.
//! Bounds: none kept. Driven by: [`super::Lease`]. Spec: error codes of SLS for consumers; misspelled codes are real.

use super::call::CallError;
use crate::proto::sls::error::SlsError;

/// What a failed call means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The keys, the signature or the clock are wrong, or a permission is missing: an operator must repair it.
    Refused,
    /// The same, for this one call only: the keys are good, the permission is missing.
    Denied,
    /// Project or logstore do not exist (or not yet).
    NotFound,
    /// The consumer group does not exist.
    GroupMissing,
    /// It does already.
    GroupExists,
    /// The logstore has as many groups as it may have.
    GroupQuota,
    /// The server has given this consumer up.
    ConsumerGone,
    /// The shard is another consumer's.
    NotHolder,
    /// The shard does not exist.
    ShardGone,
    /// The position is outside of what is retained.
    CursorGone,
    /// Anything that passes by itself: throttling, a busy server, a broken connection, codes nobody told us about.
    Passing,
}

impl Verdict {
    /// Of any failure.
    pub fn of(error: &CallError) -> Self {
        match error {
            CallError::Sls(answer) => Self::of_answer(answer),
            CallError::Transport { .. } => Self::Passing,
        }
    }

    fn of_answer(answer: &SlsError) -> Self {
        let code = answer.code.to_ascii_lowercase();
        match code.as_str() {
            "unauthorized" if denied_by_policy(&answer.message) => Self::Denied,
            "unauthorized"
            | "signaturenotmatch"
            | "invalidaccesskeyid"
            | "invalidaccesskeyid.notfound"
            | "securitytokenexpired"
            | "securitytoken.expired"
            | "missaccesskeyid"
            | "requesttimeexpired"
            | "requesttimetooskewed"
            | "projectforbidden" => Self::Refused,
            "projectnotexist" | "logstorenotexist" => Self::NotFound,
            "consumergroupnotexist" => Self::GroupMissing,
            "consumergroupalreadyexist" => Self::GroupExists,
            "consumergroupquotaexceed" => Self::GroupQuota,
            "consumernotexist" | "consumernotexsit" => Self::ConsumerGone,
            "consumernotmatch" => Self::NotHolder,
            "shardnotexist" | "shardnotexsit" => Self::ShardGone,
            "invalidcursor" => Self::CursorGone,
            // Whatever the code is called: an answer about rights, not about load.
            other if matches!(answer.status, 401 | 403) && !other.is_empty() && !other.contains("quota") => {
                Self::Denied
            }
            _ => Self::Passing,
        }
    }

    /// True where trying again soon is useless, because somebody has to change something first.
    pub fn needs_operator(self) -> bool {
        matches!(self, Self::Refused | Self::Denied | Self::NotFound | Self::GroupQuota)
    }
}

/// RAM and STS denials come with the code of a bad key; only their message tells them apart.
fn denied_by_policy(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("denied") || message.contains("action: log:")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sls(code: &str, message: &str) -> CallError {
        CallError::Sls(SlsError {
            status: 401,
            code: code.into(),
            message: message.into(),
            request_id: String::new(),
            server_time: None,
        })
    }

    #[test]
    fn both_spellings_and_any_case_mean_the_same() {
        assert_eq!(Verdict::of(&sls("ConsumerNotExsit", "")), Verdict::ConsumerGone);
        assert_eq!(Verdict::of(&sls("CONSUMERNOTEXIST", "")), Verdict::ConsumerGone);
        assert_eq!(Verdict::of(&sls("ShardNotExsit", "")), Verdict::ShardGone);
    }

    #[test]
    fn a_denial_is_told_from_a_bad_key_by_its_message() {
        let denied = "denied by sts or ram, action: log:ListShards, resource: acs:log:*";
        assert_eq!(Verdict::of(&sls("Unauthorized", denied)), Verdict::Denied);
        assert_eq!(Verdict::of(&sls("Unauthorized", "AccessKeyId is disabled")), Verdict::Refused);
    }

    #[test]
    fn what_nobody_knows_passes() {
        assert_eq!(Verdict::of(&sls("", "<html>502</html>")), Verdict::Passing);
        let quota = sls("ShardReadQuotaExceed", "shard read qps exceed quota limits");
        assert_eq!(Verdict::of(&quota), Verdict::Passing);
        let transport = CallError::Transport { detail: "timeout".into(), maybe_done: true };
        assert_eq!(Verdict::of(&transport), Verdict::Passing);
        assert_eq!(Verdict::of(&sls("AccessDenied", "")), Verdict::Denied);
    }
}
