//! The metadata service of a virtual machine with a RAM role: temporary keys that end.
//!
//! Why: a forwarder on ECS lives on keys that change every few hours. Whether it refreshes them in time can only be seen
//! with a service that hands out short ones and refuses them afterwards.
//! Invariants: 1. a key that was handed out is taken until its `Expiration` and not after. 2. one that is handed out
//! lasts for at least half of the lifetime.   Bounds: keys that ended are forgotten with the next.
//! Driven by: the admin port, paths under `/latest/`; a client's metadata address is set to it.
//! Spec: protocol/sls.md 2.3 and 1.5; the token of hardened mode from the vendor's manual [from memory].

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::api::Service;
use super::auth::AccessKey;
use super::http::{Reply, Request};
use super::sign::hex;
use crate::fault::Fault;

/// A role whose keys are handed out.
#[derive(Debug, Clone)]
pub struct RamRole {
    /// Its name.
    pub name: String,
    /// How long a key is good for.
    pub lifetime: Duration,
    /// Requests need a token that is asked for first.
    pub hardened: bool,
}

/// What was handed out.
#[derive(Debug, Default)]
pub(crate) struct Metadata(Mutex<Issued>);

#[derive(Debug, Default)]
struct Issued {
    count: u64,
    /// The key that is handed out now, and when it was made.
    current: Option<(AccessKey, u64)>,
    tokens: Vec<String>,
}

const ROLES: &str = "meta-data/ram/security-credentials/";

impl Service {
    /// Answers a request under `/latest/`.
    pub(crate) async fn metadata(&self, request: &Request, path: &str) -> Reply {
        self.counters.call("metadata");
        let fault = self.faults().decide("metadata");
        match &fault {
            Some(Fault::Stall(time)) => tokio::time::sleep(*time).await,
            Some(fault) => {
                if let Some(reply) = self.instead(fault) {
                    return reply;
                }
            }
            None => {}
        }
        let reply = self.answer_metadata(request, path);
        match fault {
            Some(fault) => self.spoil(fault, reply),
            None => reply,
        }
    }

    fn answer_metadata(&self, request: &Request, path: &str) -> Reply {
        let Some(role) = self.config.ram_role.as_ref() else { return Reply::new(404) };
        let mut issued = self.metadata.0.lock().unwrap_or_else(PoisonError::into_inner);
        if (request.method.as_str(), path) == ("PUT", "api/token") {
            if request.header("x-aliyun-ecs-metadata-token-ttl-seconds").is_none() {
                return Reply::new(400);
            }
            let token = issued.make("metadata token", self.now_ms());
            issued.tokens.push(token.clone());
            return text(token);
        }
        let token = request.header("x-aliyun-ecs-metadata-token");
        let known = token.map(|token| issued.tokens.iter().any(|known| known == token));
        if known == Some(false) || (known.is_none() && role.hardened) {
            return Reply::new(403);
        }
        match path.strip_prefix(ROLES) {
            _ if request.method != "GET" => Reply::new(405),
            Some("") => text(role.name.clone()),
            Some(name) if name == role.name => {
                let (key, made_ms) = self.current_key(&mut issued, role);
                let moment = |ms: u64| {
                    let at = i64::try_from(ms / 1000).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
                    at.unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
                };
                Reply::json(&json!({
                    "AccessKeyId": key.id,
                    "AccessKeySecret": key.secret,
                    "SecurityToken": key.token,
                    "Expiration": moment(key.expires_ms.unwrap_or(0)),
                    "LastUpdated": moment(made_ms),
                    "Code": "Success",
                }))
            }
            _ => Reply::new(404),
        }
    }

    /// The key of the moment; a new one from the middle of its life on.
    fn current_key(&self, issued: &mut Issued, role: &RamRole) -> (AccessKey, u64) {
        let now_ms = self.now_ms();
        let lifetime_ms = u64::try_from(role.lifetime.as_millis()).unwrap_or(u64::MAX);
        if let Some((key, made_ms)) = issued
            .current
            .as_ref()
            .filter(|(_, made_ms)| now_ms.saturating_sub(*made_ms) < lifetime_ms / 2 && now_ms >= *made_ms)
        {
            return (key.clone(), *made_ms);
        }
        let id = format!("STS.{}", issued.make("id", now_ms).get(..20).unwrap_or_default());
        let mut key =
            AccessKey::new(id, issued.make("secret", now_ms)).with_token(issued.make("token", now_ms));
        // The text of the expiration has whole seconds: the key lasts no shorter than it says.
        key.expires_ms = Some(now_ms.saturating_add(lifetime_ms).div_ceil(1000) * 1000);
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        // For a while a key that has ended is told from one that never was.
        keys.retain(|_, key| key.expires_ms.is_none_or(|end| end.saturating_add(10 * lifetime_ms) > now_ms));
        keys.insert(key.id.clone(), key.clone());
        issued.current = Some((key.clone(), now_ms));
        (key, now_ms)
    }
}

impl Issued {
    /// Something that was not handed out before. It guards nothing but a test's data.
    fn make(&mut self, what: &str, now_ms: u64) -> String {
        self.count += 1;
        hex(&Sha256::digest(format!("{what} {} {now_ms}", self.count)))
    }
}

fn text(body: String) -> Reply {
    Reply::new(200).with("content-type", "text/plain").with_body(body.into_bytes())
}
