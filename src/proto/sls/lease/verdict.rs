//! What a failed call means for a lease.
//!
//! Why: `SlsErrorKind` says what an answer is about; a lease asks the shorter question what it does to a group, a
//! consumer or a shard.
//! Invariants: 1. an unknown code is a reason to try again, never to give something up.
//! Bounds: none kept. Driven by: [`super::Lease`]. Spec: error codes of SLS for consumers.

use super::call::CallError;
use crate::proto::sls::error::{SlsError, SlsErrorKind};

/// What a failed call means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The keys, the signature or the clock are wrong: an operator must repair it.
    Refused,
    /// The keys are good, the permission for this call is missing.
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
        match answer.kind() {
            SlsErrorKind::Unauthorized { denied: true } => Self::Denied,
            SlsErrorKind::SignatureNotMatch
            | SlsErrorKind::ClockSkew
            | SlsErrorKind::Unauthorized { denied: false }
            | SlsErrorKind::CredentialsExpired
            | SlsErrorKind::ProjectForbidden
            | SlsErrorKind::Parameter => Self::Refused,
            SlsErrorKind::ProjectNotExist | SlsErrorKind::LogstoreNotExist => Self::NotFound,
            SlsErrorKind::GroupNotExist => Self::GroupMissing,
            SlsErrorKind::GroupAlreadyExist => Self::GroupExists,
            SlsErrorKind::GroupQuotaExceeded => Self::GroupQuota,
            SlsErrorKind::ConsumerGone => Self::ConsumerGone,
            SlsErrorKind::ConsumerNotMatch => Self::NotHolder,
            SlsErrorKind::ShardGone => Self::ShardGone,
            SlsErrorKind::InvalidCursor => Self::CursorGone,
            SlsErrorKind::ReadQuota
            | SlsErrorKind::EncodingRefused
            | SlsErrorKind::Server
            | SlsErrorKind::Other => Self::Passing,
        }
    }

    /// True where trying again soon is useless, because somebody has to change something first.
    pub fn needs_operator(self) -> bool {
        matches!(self, Self::Refused | Self::Denied | Self::NotFound | Self::GroupQuota)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sls(code: &str, message: &str) -> CallError {
        CallError::Sls(SlsError {
            status: 400,
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
        let transport = CallError::not_understood("{}".into());
        assert_eq!(Verdict::of(&transport), Verdict::Passing);
        assert_eq!(Verdict::of(&sls("AccessDenied", "")), Verdict::Denied);
    }
}
