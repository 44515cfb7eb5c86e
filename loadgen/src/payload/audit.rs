//! Audit logs as ActionTrail writes them: one field whose value is a JSON document.
//!
//! Why: JSON inside a string, with JSON inside a string in it, is where escaping goes wrong and where it costs most.
//! Invariants: `event` is valid JSON text.   Bounds: about 2 KB a log.
//! Driven by: `Payload::group`.   Spec: alibaba-logs.md 1.

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::access::pick;
use super::builder::GroupBuilder;
use super::schema::LogGroup;
use super::{Range, Seq, time_of};

pub(super) fn group(rng: &mut ChaCha8Rng, range: Range) -> LogGroup {
    let mut group = GroupBuilder::new(range.count, 2, 2048);
    for seq in range.seqs() {
        let event = event(rng, seq);
        group.log(time_of(seq), Some(0)).seq(seq).put("event", &event);
    }
    group
        .finish()
        .placed("actiontrail_audit_event", "actiontrail_internal")
        .tagged("__receive_time__", "1767322848")
}

fn event(rng: &mut ChaCha8Rng, seq: Seq) -> String {
    let (service, name, resource) = pick(rng, &CALLS);
    let region = pick(rng, &["cn-hangzhou", "cn-shanghai", "ap-southeast-1"]);
    let user = pick(rng, &["ops-alice", "ops-bob", "ci-deployer", "root"]);
    let id = format!("{:08x}-3c5e-4c0f-9d5f-{:012x}", rng.random::<u32>(), seq.number);
    let object = format!("{resource}-bp1{:012x}", rng.random_range(0..4096_u64));
    let parameters = json!({
        "RegionId": region, "ResourceId": object, "Permissions.1.IpProtocol": "TCP",
        "Permissions.1.PortRange": format!("{0}/{0}", pick(rng, &[22, 80, 443, 3389])),
        "Permissions.1.SourceCidrIp": "0.0.0.0/0", "Permissions.1.Policy": "Accept",
        "Description": "opened by \"change 4711\"\nsee C:\\tickets\\4711",
    });
    let time = time_of(seq);
    json!({
        "eventId": id, "eventVersion": "1", "eventCategory": "Management", "eventType": "ApiCall",
        "eventRW": if name.starts_with("Describe") { "Read" } else { "Write" }, "eventName": name,
        "eventSource": format!("{}.{region}.aliyuncs.com", service.to_lowercase()),
        "eventTime": format!("2026-01-02T03:{:02}:{:02}Z", time / 60 % 60, time % 60),
        "serviceName": service, "apiVersion": "2014-05-26", "acsRegion": region, "isGlobal": false,
        "requestId": format!("8A5C9E1B-77D2-5F10-9C33-{:012X}", rng.random::<u32>()),
        "sourceIpAddress": format!("203.0.113.{}", rng.random_range(1..255_u32)),
        "userAgent": "AlibabaCloud (linux; amd64) Golang/1.22 Core/0.0.1 TeaDSL/1 aliyun-cli/3.0.210",
        "recipientAccountId": "1234567890123456",
        "userIdentity": {
            "type": if user == "root" { "root-account" } else { "ram-user" }, "accountId": "1234567890123456",
            "principalId": "245678901234567890", "userName": user, "accessKeyId": "LTAI5tEXAMPLE0000000001",
            "sessionContext": { "attributes": { "mfaAuthenticated": "false", "creationDate": "2026-01-02T02:58:01Z" } },
        },
        "resourceType": format!("ACS::{service}::{resource}"), "resourceName": object,
        "requestParameterJson": parameters.to_string(), "requestParameters": parameters,
        "responseElements": { "RequestId": "8A5C9E1B-77D2-5F10-9C33-0E4B6D2A1F90" },
        "additionalEventData": { "Scheme": "https", "CallerBid": "26842" },
        "eventAttributes": { "SensitiveAction": "true" },
    })
    .to_string()
}

const CALLS: [(&str, &str, &str); 5] = [
    ("Ecs", "AuthorizeSecurityGroup", "SecurityGroup"),
    ("Ecs", "DescribeInstances", "Instance"),
    ("Ram", "CreateAccessKey", "AccessKey"),
    ("Oss", "PutBucketAcl", "Bucket"),
    ("Rds", "ModifySecurityIps", "DBInstance"),
];
