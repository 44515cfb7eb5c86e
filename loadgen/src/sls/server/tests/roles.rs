//! Temporary keys of a RAM role.

use super::*;
use crate::sls::RamRole;

const ROLES: &str = "/latest/meta-data/ram/security-credentials/";

fn with_role(hardened: bool) -> SlsServer {
    let ram_role = Some(RamRole { name: "reader".into(), lifetime: Duration::from_secs(100), hardened });
    server(|config| config.ram_role = ram_role)
}

fn key(answer: &Answer) -> AccessKey {
    let json = answer.json();
    assert_eq!(json["Code"], "Success");
    let field = |name: &str| json[name].as_str().unwrap().to_owned();
    assert!(field("Expiration") > field("LastUpdated") && field("Expiration").ends_with('Z'), "{json}");
    AccessKey::new(field("AccessKeyId"), field("AccessKeySecret")).with_token(field("SecurityToken"))
}

#[test]
fn a_key_of_the_role_is_good_until_it_says() {
    let server = with_role(false);
    let mut metadata = Client::at(server.admin_addr().unwrap());
    let mut client = Client::to(&server);
    assert_eq!(metadata.get(ROLES).body, b"reader");
    client.key = key(&metadata.get(&format!("{ROLES}reader")));
    assert_eq!(client.get(SHARDS).status, 200);
    // The same one until the middle of its life, then another, while the first still is good.
    assert_eq!(key(&metadata.get(&format!("{ROLES}reader"))).id, client.key.id);
    let mut ahead = |seconds: i64, client: &mut Client| {
        server.set_clock_skew_ms(seconds * 1000);
        client.ahead_s = seconds;
        key(&metadata.get(&format!("{ROLES}reader")))
    };
    let next = ahead(60, &mut client);
    assert_ne!(next.id, client.key.id);
    assert_eq!(client.get(SHARDS).status, 200);
    ahead(102, &mut client);
    let refused = client.get(SHARDS);
    assert_eq!(refused.refusal(), (401, "Unauthorized".into()));
    assert_eq!(refused.json()["errorMessage"], "The security token you provided has expired");
    client.key = next;
    assert_eq!(client.get(SHARDS).status, 200);
    // The token is part of the key.
    client.key.token = None;
    assert_eq!(client.get(SHARDS).refusal(), (401, "Unauthorized".into()));
    assert_eq!(metadata_calls(&server), 5);
}

fn metadata_calls(server: &SlsServer) -> u64 {
    server.stats().calls["metadata"]
}

#[test]
fn the_metadata_service_refuses_what_it_does_not_have() {
    let server = with_role(true);
    let mut metadata = Client::at(server.admin_addr().unwrap());
    let role = format!("{ROLES}reader");
    assert_eq!(metadata.get(&role).status, 403);
    assert_eq!(metadata.call("PUT", "/latest/api/token", &[], b"").status, 400);
    let ttl = ("x-aliyun-ecs-metadata-token-ttl-seconds", "60");
    let token = metadata.call("PUT", "/latest/api/token", &[ttl], b"");
    let token = String::from_utf8(token.body).unwrap();
    let header = ("x-aliyun-ecs-metadata-token", token.as_str());
    key(&metadata.call("GET", &role, &[header], b""));
    assert_eq!(metadata.call("GET", &role, &[(header.0, "made-up")], b"").status, 403);
    assert_eq!(metadata.call("GET", &format!("{ROLES}writer"), &[header], b"").status, 404);
    assert_eq!(metadata.call("GET", "/latest/meta-data/instance-id", &[header], b"").status, 404);
    assert_eq!(metadata.call("POST", &role, &[header], b"").status, 405);
    server.set_faults("metadata.503").unwrap();
    assert_eq!(metadata.call("GET", &role, &[header], b"").status, 503);
    // Without a role there is none to be had.
    let none = super::server(|_| {});
    assert_eq!(Client::at(none.admin_addr().unwrap()).get(ROLES).status, 404);
}
