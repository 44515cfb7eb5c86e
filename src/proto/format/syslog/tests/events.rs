//! CEF and LEEF by example, ActionTrail first.

use super::bodies::{Group, Record, body, one, pair};
use super::texts::{Pairs, cef, leef};
use super::*;

const EVENT: &str = r#"{"eventId":"6f1f7d2c","eventVersion":"1","eventType":"ApiCall","eventRW":"Write",
    "eventName":"AuthorizeSecurityGroup","eventSource":"ecs.cn-hangzhou.aliyuncs.com","serviceName":"Ecs",
    "acsRegion":"cn-hangzhou","sourceIpAddress":"203.0.113.45","userAgent":"cli a=b|c","recipientAccountId":"123",
    "userIdentity":{"type":"ram-user","principalId":"24567","userName":"ops-alice","accessKeyId":"LTAI5t"},
    "requestParameters":{"Permissions.1.SourceCidrIp":"0.0.0.0/0"},"resourceType":"ACS::ECS::SecurityGroup",
    "resourceName":"sg-1","eventAttributes":{"SensitiveAction":"true"},"requestParameterJson":"{\"a\":\"b\\c\"}"}"#;

fn trail(event: &str) -> Vec<u8> {
    let group = Group {
        topic: b"actiontrail_audit_event".to_vec(),
        source: b"actiontrail_internal".to_vec(),
        records: vec![Record::new(&[("event", event), ("other", "x")])],
        ..Group::default()
    };
    body(&[group], false)
}

fn value<'a>(pairs: &'a Pairs, key: &str) -> Option<&'a str> {
    pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

fn cef_of(event: &EventParams, body: &[u8]) -> (Vec<String>, Pairs) {
    let params = SyslogParams { message: MessageForm::Cef(event.clone()), ..params() };
    cef(&parsed(&params, body)[0].message)
}

fn leef_of(event: &EventParams, body: &[u8]) -> (Vec<String>, Pairs) {
    let params = SyslogParams { message: MessageForm::Leef(event.clone()), ..params() };
    leef(&parsed(&params, body)[0].message, "\t")
}

#[test]
fn actiontrail_in_cef() {
    let (header, pairs) = cef_of(&EventParams::default(), &trail(EVENT));
    let name = "Ecs:AuthorizeSecurityGroup";
    assert_eq!(header, ["Alibaba Cloud", "ActionTrail", "1", "AuthorizeSecurityGroup", name, "7"]);
    for (key, expected) in [
        ("rt", "1767323001000"),
        ("externalId", "6f1f7d2c"),
        ("src", "203.0.113.45"),
        ("suser", "ops-alice"),
        ("suid", "24567"),
        ("cs1Label", "accessKeyId"),
        ("cs1", "LTAI5t"),
        ("cs4", "sg-1"),
        ("requestClientApplication", "cli a=b|c"),
        ("act", "Write"),
        ("outcome", "success"),
        ("msg", "{\"a\":\"b\\c\"}"),
        ("other", "x"),
        ("source", "actiontrail_internal"),
        ("topic", "actiontrail_audit_event"),
    ] {
        assert_eq!(value(&pairs, key), Some(expected), "{key}");
    }
    for key in ["shost", "c6a2", "c6a2Label", "reason", "event"] {
        assert_eq!(value(&pairs, key), None, "{key}");
    }
}

#[test]
fn actiontrail_in_leef() {
    let (header, pairs) = leef_of(&EventParams::default(), &trail(EVENT));
    assert_eq!(header, ["Alibaba Cloud", "ActionTrail", "1", "AuthorizeSecurityGroup"]);
    for (key, expected) in [
        ("devTime", "1767323001000"),
        ("sev", "7"),
        ("src", "203.0.113.45"),
        ("usrName", "ops-alice"),
        ("accountName", "123"),
        ("realm", "cn-hangzhou"),
        ("userAgent", "cli a=b|c"),
    ] {
        assert_eq!(value(&pairs, key), Some(expected), "{key}");
    }
    assert_eq!(value(&pairs, "isLoginEvent"), None);
    let sign_in = r#"{"eventName":"ConsoleSignin","errorCode":"NoPermission","sourceIpAddress":"Internal"}"#;
    let (_, pairs) = leef_of(&EventParams::default(), &trail(sign_in));
    assert_eq!(value(&pairs, "isLoginEvent"), Some("true"));
    assert_eq!((value(&pairs, "src"), value(&pairs, "identHostName")), (None, Some("Internal")));
}

#[test]
fn how_bad_an_event_is() {
    let level = |event: &str| cef_of(&EventParams::default(), &trail(event)).0[5].clone();
    for (event, expected) in [
        (r#"{"eventName":"DescribeRegions","eventRW":"Read"}"#, "1"),
        (r#"{"eventName":"RunInstances","eventRW":"Write"}"#, "3"),
        (r#"{"eventName":"ConsoleSignin"}"#, "2"),
        (r#"{"eventName":"ConsoleSignin","errorCode":"x"}"#, "5"),
        (r#"{"eventName":"ConsoleSignin","userIdentity":{"type":"root-account"}}"#, "4"),
        (r#"{"eventRW":"Read","errorCode":"Forbidden.RAM"}"#, "5"),
        (
            r#"{"eventRW":"Write","eventName":"DeleteTrail","eventAttributes":{"SensitiveAction":"true"}}"#,
            "7",
        ),
        (r#"{"eventName":"AuthorizeSecurityGroup","eventRW":"Write","requestParameters":{}}"#, "3"),
    ] {
        assert_eq!(level(event), expected, "{event}");
    }
}

#[test]
fn an_event_that_is_no_json_is_written_whole() {
    let (header, pairs) = cef_of(&EventParams::default(), &trail("not json {"));
    assert_eq!(header[3..], ["log", "log", "1"].map(str::to_owned));
    assert_eq!(value(&pairs, "event"), Some("not json {"));
    assert_eq!(value(&pairs, "outcome"), None);
}

#[test]
fn any_other_log_with_a_mapping_of_ones_own() {
    let body = one(Record {
        contents: vec![
            pair("client_ip", "192.0.2.1"),
            pair("src", "a b\n"),
            pair("request_method", "GET"),
            pair("level", "error"),
            pair("empty", ""),
        ],
        ..Record::new(&[])
    });
    let event = EventParams {
        vendor: template("a|b\\c"),
        signature_id: template("{request_method}"),
        severity: template("{level}"),
        extension: vec![("src".into(), template("{client_ip}")), ("cs1".into(), template("{__topic__}"))],
        ..EventParams::default()
    };
    let (header, pairs) = cef_of(&event, &body);
    assert_eq!(header, ["a|b\\c", "SLS", "1.0", "GET", "web", "7"]);
    let expected = [
        ("rt", "1767323001000"),
        ("source", "10.0.0.1"),
        ("tagHostname", "h1"),
        ("cs1", "web"),
        ("src", "192.0.2.1"),
        ("slsSrc", "a b\n"),
        ("requestMethod", "GET"),
        ("level", "error"),
    ];
    assert_eq!(pairs, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let (header, pairs) = leef_of(&EventParams { unmapped: false, ..event }, &body);
    assert_eq!(header, ["a_b\\c", "SLS", "1.0", "GET"]);
    let keys: Vec<&str> = pairs.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["sev", "devTime", "cs1", "src"]);
}

#[test]
fn a_field_without_a_name_behind_a_log_with_a_very_long_one_has_a_key() {
    let long = "k".repeat(129);
    let records =
        vec![Record::new(&[("a", "1"), (&long, "2"), ("b", "3")]), Record::new(&[("a", "4"), ("", "5")])];
    let body = body(&[Group { records, ..Group::default() }], false);
    let params = SyslogParams { message: MessageForm::Cef(EventParams::default()), ..params() };
    let (_, pairs) = cef(&parsed(&params, &body)[1].message);
    assert_eq!((value(&pairs, "a"), value(&pairs, "field1")), (Some("4"), Some("5")), "{pairs:?}");
}

#[test]
fn the_old_header_lets_cef_be_the_tag() {
    let params = SyslogParams {
        header: HeaderForm::Rfc3164,
        message: MessageForm::Cef(EventParams::default()),
        ..params()
    };
    let line = lines(params.clone(), &one(Record::new(&[("k", "v")])));
    assert!(
        line.starts_with("<14>Jan  2 03:03:21 10.0.0.1 CEF:0|Alibaba Cloud|SLS|1.0|web|web|1|rt="),
        "{line}"
    );
    let split = SyslogParams { max_message_bytes: 480, oversize: Oversize::Split, ..params };
    let parts = parsed(&split, &one(Record::new(&[("k", &"v".repeat(900))])));
    assert!(parts.len() > 2 && parts.iter().all(|one| one.app_name == "web"), "{parts:?}");
    let text: String = parts.iter().map(|one| part(&one.message).unwrap().3).collect();
    assert_eq!(value(&cef(&text).1, "k").unwrap().len(), 900);
}

#[test]
fn keys_that_are_none_are_refused() {
    for key in ["", "a b", "a_b", "ключ", &"k".repeat(65)] {
        let event =
            EventParams { extension: vec![(key.into(), Template::default())], ..EventParams::default() };
        let params = SyslogParams { message: MessageForm::Leef(event), ..params() };
        assert_eq!(SyslogEncoder::new(params).unwrap_err(), ParamsError::ExtensionKey(key.into()));
    }
}
