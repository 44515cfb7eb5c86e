//! The ready mapping of ActionTrail: who did what to which resource, from where, and how bad that is.
//!
//! Why: it is the log that everybody sends first, and all of it stands in one field of JSON that no SIEM looks into.
//! Invariants: 1. a log whose `event` is no JSON is written whole, under its own name. 2. a key of the settings comes
//! before the same key here.
//! Bounds: static. Driven by: `event`. Spec: ActionTrail's management events; keys of the CEF dictionary and LEEF's
//! predefined attributes. `sourceIpAddress` can be a service's name, which is no `src`. The severities are ours: what
//! reads is 1, what writes 3, more for the root account, for sensitive actions, for refusals, and for the actions by
//! which accounts are taken over.

use super::Rule;
use super::lookup::{Lookup, Slot};

/// The field that holds the event.
pub(super) const FIELD: &[u8] = b"event";

/// True for the topics of a trail and of the log audit service.
pub(super) fn is_topic(topic: &[u8]) -> bool {
    matches!(topic, b"actiontrail_audit_event" | b"actiontrail_event")
}

/// A key and where its value stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    pub(super) key: &'static str,
    /// Text of `…Label`.
    pub(super) label: &'static str,
    pub(super) value: &'static str,
    pub(super) rule: Rule,
    pub(super) max: usize,
}

/// The mapping for CEF, or for LEEF.
pub(super) fn ready(cef: bool) -> &'static [Ready] {
    if cef { &CEF } else { &LEEF }
}

const fn to(key: &'static str, value: &'static str) -> Ready {
    Ready { key, label: "", value, rule: Rule::Plain, max: usize::MAX }
}

const fn when(rule: Rule, key: &'static str, value: &'static str) -> Ready {
    Ready { key, label: "", value, rule, max: usize::MAX }
}

const fn labelled(key: &'static str, label: &'static str, value: &'static str) -> Ready {
    Ready { key, label, value, rule: Rule::Plain, max: 4_000 }
}

/// Lengths of the dictionary.
const fn short(ready: Ready) -> Ready {
    Ready { max: 1_023, ..ready }
}

const CEF: [Ready; 23] = [
    to("externalId", "{event.eventId}"),
    when(Rule::Ipv4, "src", "{event.sourceIpAddress}"),
    Ready { label: "Source IPv6 Address", ..when(Rule::Ipv6, "c6a2", "{event.sourceIpAddress}") },
    short(when(Rule::NotIp, "shost", "{event.sourceIpAddress}")),
    short(to("suser", "{event.userIdentity.userName}")),
    short(to("suid", "{event.userIdentity.principalId}")),
    labelled("cs1", "accessKeyId", "{event.userIdentity.accessKeyId}"),
    labelled("cs2", "acsRegion", "{event.acsRegion}"),
    labelled("cs3", "resourceType", "{event.resourceType}"),
    labelled("cs4", "resourceName", "{event.resourceName}"),
    labelled("cs5", "userIdentityType", "{event.userIdentity.type}"),
    labelled("cs6", "accountId", "{event.recipientAccountId}"),
    short(to("requestClientApplication", "{event.userAgent}")),
    short(to("dhost", "{event.eventSource}")),
    short(to("destinationServiceName", "{event.serviceName}")),
    Ready { max: 63, ..to("act", "{event.eventRW}") },
    short(to("cat", "{event.eventType}")),
    when(Rule::Outcome, "outcome", "{event.eventName} {event.errorCode}"),
    short(to("reason", "{event.errorCode}")),
    short(to("msg", "{event.errorMessage}")),
    short(when(Rule::Otherwise, "msg", "{event.requestParameterJson}")),
    to("requestId", "{event.requestId}"),
    labelled("flexString1", "sensitiveAction", "{event.eventAttributes.SensitiveAction}"),
];

const LEEF: [Ready; 19] = [
    to("cat", "{event.eventType}"),
    when(Rule::Ip, "src", "{event.sourceIpAddress}"),
    when(Rule::NotIp, "identHostName", "{event.sourceIpAddress}"),
    to("usrName", "{event.userIdentity.userName}"),
    to("resource", "{event.resourceName}"),
    to("resourceType", "{event.resourceType}"),
    to("accountName", "{event.recipientAccountId}"),
    to("realm", "{event.acsRegion}"),
    when(Rule::SignIn, "isLoginEvent", "{event.eventName}"),
    to("svc", "{event.serviceName}"),
    to("accessKeyId", "{event.userIdentity.accessKeyId}"),
    to("identityType", "{event.userIdentity.type}"),
    to("eventRW", "{event.eventRW}"),
    to("errorCode", "{event.errorCode}"),
    to("msg", "{event.errorMessage}"),
    when(Rule::Otherwise, "msg", "{event.requestParameterJson}"),
    to("userAgent", "{event.userAgent}"),
    to("eventId", "{event.eventId}"),
    to("requestId", "{event.requestId}"),
];

/// How bad an event is.
#[derive(Clone, Debug)]
pub(super) struct Judge {
    name: Slot,
    read_or_write: Slot,
    error: Slot,
    identity: Slot,
    sensitive: Slot,
    parameters: Slot,
}

impl Judge {
    pub(super) fn new(lookup: &mut Lookup) -> Self {
        Self {
            name: lookup.slot("event.eventName"),
            read_or_write: lookup.slot("event.eventRW"),
            error: lookup.slot("event.errorCode"),
            identity: lookup.slot("event.userIdentity.type"),
            sensitive: lookup.slot("event.eventAttributes.SensitiveAction"),
            parameters: lookup.slot("event.requestParameters"),
        }
    }

    /// 0 to 10.
    pub(super) fn level(&self, body: &[u8], lookup: &Lookup, text: &mut Vec<u8>) -> u8 {
        let mut is = |slot: Slot, test: &dyn Fn(&[u8]) -> bool| {
            text.clear();
            lookup.append(slot, body, text);
            test(text)
        };
        let failed = is(self.error, &|code| !code.is_empty() && !code.eq_ignore_ascii_case(b"success"));
        let mut level = if is(self.name, &|name| name == b"ConsoleSignin") {
            if failed { 5 } else { 2 }
        } else if is(self.read_or_write, &|how| how == b"Write") {
            3
        } else {
            1
        };
        if is(self.identity, &|kind| kind == b"root-account") {
            level += 2;
        }
        if is(self.sensitive, &|flag| flag == b"true") {
            level += 2;
        }
        if is(self.error, &|code| REFUSALS.iter().any(|refusal| code.starts_with(refusal))) {
            level = level.max(5);
        }
        let opens_the_world = is(self.name, &|name| name == b"AuthorizeSecurityGroup")
            && is(self.parameters, &|text| memchr::memmem::find(text, b"0.0.0.0/0").is_some());
        if opens_the_world || is(self.name, &|name| CRITICAL.iter().any(|one| one.as_bytes() == name)) {
            level = level.max(7);
        }
        level.min(10)
    }
}

const REFUSALS: [&[u8]; 4] = [b"Forbidden", b"NoPermission", b"SignatureDoesNotMatch", b"InvalidAccessKeyId"];

/// Actions that switch the watch off, or hand out access.
const CRITICAL: [&str; 15] = [
    "DeleteTrail",
    "StopLogging",
    "UpdateTrail",
    "CreateAccessKey",
    "AttachPolicyToUser",
    "AttachPolicyToRole",
    "CreateUser",
    "CreateLoginProfile",
    "DisableMFA",
    "UnbindMFADevice",
    "RunCommand",
    "InvokeCommand",
    "DeleteLogStore",
    "ModifyWebLockUnbind",
    "DisableVirtualMFA",
];
