//! A HEC endpoint: health, token, index and acknowledgement, asked without storing anything.
//!
//! Why: the answers of splunkd tell all four apart, if the questions are chosen so that it refuses each of them for
//! the right reason: an empty body is "no data" only to a token that is good.
//! Invariants: 1. nothing is stored: no question carries an event that splunkd could take. 2. the token goes only
//! over a connection that the configured `verify` accepted.
//! Bounds: four requests an address. Driven by: [`super::sink`]. Spec: HEC status codes 0 to 28, `/services/collector`.

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;

use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::network::Peer;
use super::sink::{text, trouble};
use super::{Printer, WAIT};
use crate::cli::run::parts;
use crate::config::{HecAck, HecConfig, HecUrl, SinkConfig};
use crate::drive::TargetSpec;
use crate::drive::peer::{HttpAnswer, Link};
use crate::drive::tls::Client;
use crate::proto::event::{Cause, Closed, ClosedKind, HecAnswer};
use crate::proto::http1::write_request_head;
use crate::proto::ids::EndpointId;
use crate::report::{Finding, Grade, Place, place_of};

/// Looks at every endpoint.
pub(super) fn check(place: &Place, hec: &HecConfig, out: &mut Printer) {
    let targets = parts::endpoints(&SinkConfig::Hec(hec.clone()));
    for ((id, url), target) in (0..).zip(&hec.endpoints).zip(&targets) {
        let endpoint = EndpointId(id);
        let word = |closed: Closed| text(place, endpoint, Cause::Transport(closed));
        let peer = Peer { place, name: format!("hec {url}"), target, word: &word };
        for address in peer.reach(out) {
            Doctor { place, hec, url, target, endpoint, address }.examine(out);
        }
    }
    size(place, hec, out);
}

/// What a request may be, as far as it is known from outside.
fn size(place: &Place, hec: &HecConfig, out: &mut Printer) {
    let bytes = hec.batch_bytes;
    if bytes > CLOUD_BYTES_MAX {
        let text = format!("hec.batch_bytes of {bytes} bytes: Splunk Cloud takes at most 5 MiB in a request");
        let todo = "leave it at 1MiB unless max_content_length in limits.conf of every indexer is known";
        out.add(Finding::warn(&place_of(place), "hec-size", text, todo));
    }
}

struct Doctor<'a> {
    place: &'a Place,
    hec: &'a HecConfig,
    url: &'a HecUrl,
    target: &'a TargetSpec,
    endpoint: EndpointId,
    address: SocketAddr,
}

#[derive(Deserialize, Default)]
struct Body {
    #[serde(default)]
    text: String,
    code: Option<u16>,
    acks: Option<serde_json::Value>,
}

impl Doctor<'_> {
    fn examine(&self, out: &mut Printer) {
        if self.health(out) && self.token(out) {
            self.index(out);
            self.ack(out);
        }
    }

    fn ok(&self, topic: &'static str, text: &str) -> Finding {
        Finding::ok(&place_of(self.place), topic, format!("hec {}: {text}", self.url))
    }

    fn trouble(&self, grade: Grade, topic: &'static str, cause: Cause) -> Finding {
        trouble(self.place, self.endpoint, grade, topic, cause)
    }

    /// Needs no token; false where this is not HEC.
    fn health(&self, out: &mut Printer) -> bool {
        match self.ask("GET", "health", false, b"") {
            Err(cause) => {
                out.add(self.trouble(Grade::Fail, "hec-health", cause));
                false
            }
            Ok(answer) => {
                let body = body(&answer);
                match (answer.status, body.code) {
                    (200, _) => {
                        out.add(self.ok("hec-health", "is HEC, and healthy"));
                        true
                    }
                    // Full queues are a matter of the moment: the token can be asked for all the same.
                    (503, _) => {
                        out.add(self.trouble(Grade::Warn, "hec-health", refusal(&answer, &body)));
                        true
                    }
                    _ => {
                        out.add(self.trouble(Grade::Fail, "hec-health", refusal(&answer, &body)));
                        false
                    }
                }
            }
        }
    }

    /// An empty body: code 5 to a token that is good.
    fn token(&self, out: &mut Printer) -> bool {
        let answer = match self.ask("POST", "event", true, b"") {
            Ok(answer) => answer,
            Err(cause) => {
                out.add(self.trouble(Grade::Fail, "hec-token", cause));
                return false;
            }
        };
        let body = body(&answer);
        match body.code {
            Some(5) => {
                out.add(self.ok("hec-token", "the token is accepted"));
                true
            }
            Some(9 | 18..=20 | 23 | 26 | 27) => {
                out.add(self.trouble(Grade::Warn, "hec-token", refusal(&answer, &body)));
                false
            }
            _ => {
                out.add(self.trouble(Grade::Fail, "hec-token", refusal(&answer, &body)));
                false
            }
        }
    }

    /// A blank event with the index: refused for the index, or else for being blank. A splunkd that looks at the
    /// index last says nothing about it without storing an event; then that is what is told.
    fn index(&self, out: &mut Printer) {
        let index = self.hec.index.as_str();
        if index.is_empty() {
            out.add(self.ok("hec-index", "no index is named: the token's default is used"));
            return;
        }
        if index.contains('{') {
            let text = "the index is a template: which indexes it names shows with the logs";
            out.add(self.ok("hec-index", text));
            return;
        }
        let event = serde_json::json!({ "index": index, "event": "" }).to_string();
        match self.ask("POST", "event", true, event.as_bytes()) {
            Err(cause) => out.add(self.trouble(Grade::Warn, "hec-index", cause)),
            Ok(answer) => {
                let body = body(&answer);
                if body.code == Some(7) {
                    out.add(self.trouble(Grade::Fail, "hec-index", refusal(&answer, &body)));
                } else {
                    let text = format!(
                        "index {index} is not refused so far; for certain it is known with the first log"
                    );
                    out.add(self.ok("hec-index", &text));
                }
            }
        }
    }

    /// Asking for an acknowledgement: code 14 where the token has none.
    fn ack(&self, out: &mut Printer) {
        let answer = match self.ask("POST", "ack", true, br#"{"acks":[0]}"#) {
            Ok(answer) => answer,
            Err(cause) => {
                out.add(self.trouble(Grade::Warn, "hec-ack", cause));
                return;
            }
        };
        let body = body(&answer);
        let name = format!("hec {}", self.url);
        let place = place_of(self.place);
        out.add(match (body.code, body.acks.is_some(), self.hec.ack) {
            (Some(14), _, HecAck::Required) => self.trouble(Grade::Fail, "hec-ack", refusal(&answer, &body)),
            (Some(14), _, HecAck::Auto) => Finding::warn(
                &place,
                "hec-ack",
                format!("{name}: the token has no indexer acknowledgement: HTTP 200 counts as the receipt"),
                "turn indexer acknowledgement on for the token, or accept that a crash of the indexer can lose what it \
                 had taken",
            ),
            (Some(14), _, HecAck::Off) => self.ok("hec-ack", "no indexer acknowledgement, as the settings want it"),
            (_, true, HecAck::Off) => Finding::warn(
                &place,
                "hec-ack",
                format!("{name}: the token has indexer acknowledgement, the settings do not wait for it"),
                "set [hec] ack = \"auto\"",
            ),
            (_, true, _) => self.ok("hec-ack", "the indexer acknowledges: checkpoints wait for it"),
            _ => self.trouble(Grade::Warn, "hec-ack", refusal(&answer, &body)),
        });
    }

    fn ask(&self, method: &str, what: &str, with_token: bool, body: &[u8]) -> Result<HttpAnswer, Cause> {
        let mut link = Link::connect(self.address, WAIT).map_err(Cause::Transport)?;
        if let Some(tls) = &self.target.tls {
            let name = self.target.server_name.as_deref().filter(|name| !name.is_empty());
            let client = Client::new(tls, name.unwrap_or(&self.target.host)).map_err(|error| {
                Cause::Transport(Closed { kind: ClosedKind::Tls, detail: error.to_string() })
            })?;
            link.start_tls(&client).map_err(Cause::Transport)?;
        }
        let (host, authorization) =
            (self.url.host_header(), format!("Splunk {}", self.hec.token.expose_secret()));
        let channel = channel();
        let mut headers = vec![
            ("Host", host.as_str()),
            ("User-Agent", concat!("sls2siem/", env!("CARGO_PKG_VERSION"), " check")),
            ("Accept", "application/json"),
        ];
        if with_token {
            headers.push(("Authorization", &authorization));
            headers.push(("X-Splunk-Request-Channel", &channel));
            headers.push(("Content-Type", "application/json"));
        }
        let length = (method == "POST").then(|| u64::try_from(body.len()).unwrap_or(u64::MAX));
        let target = format!("{}/services/collector/{what}", self.url.prefix);
        let mut request = Vec::new();
        write_request_head(&mut request, method, &target, headers.into_iter(), length)
            .map_err(|error| Cause::Protocol(error.to_string()))?;
        request.extend_from_slice(body);
        link.ask(&request)
    }
}

fn body(answer: &HttpAnswer) -> Body {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

fn refusal(answer: &HttpAnswer, body: &Body) -> Cause {
    let text = if body.text.is_empty() {
        String::from_utf8_lossy(answer.body.get(..200).unwrap_or(&answer.body)).into_owned()
    } else {
        body.text.clone()
    };
    Cause::Hec(HecAnswer {
        status: answer.status,
        code: body.code,
        text,
        invalid_event: None,
        location: answer.location.clone(),
    })
}

/// A GUID of nobody else.
fn channel() -> String {
    let (high, low) = (RandomState::new().hash_one(1_u8), RandomState::new().hash_one(2_u8));
    let digits = format!("{high:016x}{low:016x}");
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    format!("{}-{}-4{}-8{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
}

/// Splunk Cloud's cap, measured from outside: 5 MiB are taken, 6 MB are not.
const CLOUD_BYTES_MAX: usize = 5 << 20;
