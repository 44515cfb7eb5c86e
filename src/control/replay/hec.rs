//! Events to HEC again.
//!
//! Why: as the room.   Invariants: 1. an event is taken when HEC said so and, where the token acknowledges, the indexer
//! confirmed. Bounds: [`BATCH_RECORDS`] events and `batch_bytes` per request; one request at a time.
//! Driven by: [`super::Replayer`]. Spec: as `proto::sink::hec`; this is its small blocking brother.

use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::{ATTEMPTS_MAX, BATCH_RECORDS, BUSY_FIRST, BUSY_MAX, Outcome, ReplayError, pause};
use crate::config::{HecAck, HecConfig, HecUrl};
use crate::drive::TargetSpec;
use crate::drive::clock;
use crate::drive::dialogue::{Dialogue, Reply};
use crate::proto::event::HecAnswer;
use crate::proto::http1::write_request_head;
use crate::proto::ids::AckId;
use crate::proto::rng::Rng;
use crate::proto::sink::hec::answer::{Judgement, Sent, judge};

/// Between two questions whether the indexer has stored something.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// The way to one HEC.
pub(super) struct HecReplayer<'a> {
    config: &'a HecConfig,
    targets: Vec<TargetSpec>,
    at: usize,
    talk: Option<Dialogue>,
    channel: String,
    batch_bytes: usize,
}

impl<'a> HecReplayer<'a> {
    /// Connects to nothing yet.
    pub(super) fn new(config: &'a HecConfig, targets: Vec<TargetSpec>, seed: u64) -> Self {
        let channel = Rng::new(seed).guid();
        Self { config, targets, at: 0, talk: None, channel, batch_bytes: config.batch_bytes }
    }

    /// How many of these records go into the next request.
    pub(super) fn fits(&self, records: &[Vec<u8>]) -> usize {
        let mut bytes = 0;
        let fitting = records.iter().take(BATCH_RECORDS).take_while(|record| {
            bytes += record.len() + 1;
            bytes <= self.batch_bytes
        });
        fitting.count().clamp(1, records.len().max(1))
    }

    /// Sends a batch; returns when every record of it is stored or refused. `outcome` holds after an error too.
    pub(super) fn send(&mut self, records: &[Vec<u8>], outcome: &mut Outcome) -> Result<(), ReplayError> {
        let mut from = 0;
        while from < records.len() {
            let rest = records.get(from..).unwrap_or_default();
            let count = self.fits(rest);
            let part = rest.get(..count).unwrap_or_default();
            from += self.send_part(from, part, outcome)?;
        }
        Ok(())
    }

    /// One request. Returns how many of its records are dealt with.
    fn send_part(
        &mut self,
        from: usize,
        part: &[Vec<u8>],
        outcome: &mut Outcome,
    ) -> Result<usize, ReplayError> {
        let mut body = Vec::new();
        for record in part {
            body.extend_from_slice(record);
            body.push(b'\n');
        }
        let records = u32::try_from(part.len()).unwrap_or(u32::MAX);
        let sent = Sent { records, bytes: body.len() };
        let mut wait = BUSY_FIRST;
        for attempt in 1.. {
            let mut reply = self.ask("event", &body)?;
            let mut scratch = simd_json::Buffers::default();
            let location = reply.location.as_deref();
            match judge(reply.status, location, &mut reply.body, sent, &mut scratch) {
                Judgement::Taken { ack_id, .. } => {
                    self.confirm(ack_id)?;
                    outcome.taken.extend(from..from + part.len());
                    return Ok(part.len());
                }
                Judgement::Partial { accepted, ack_id, busy, answer } => {
                    let accepted = usize::try_from(accepted).unwrap_or(usize::MAX).min(part.len());
                    if accepted > 0 {
                        self.confirm(ack_id)?;
                        outcome.taken.extend(from..from + accepted);
                    }
                    if busy {
                        pause(wait);
                        return Ok(accepted);
                    }
                    outcome.refused.push((from + accepted, said(&answer)));
                    return Ok(accepted + 1);
                }
                Judgement::TooLarge { answer } if part.len() == 1 => {
                    outcome.refused.push((from, said(&answer)));
                    return Ok(1);
                }
                Judgement::TooLarge { .. } => {
                    self.batch_bytes = body.len() / 2;
                    return Ok(0);
                }
                Judgement::Again { answer, hold, .. } => {
                    if hold || attempt >= ATTEMPTS_MAX {
                        return Err(ReplayError::Refused(answer));
                    }
                    // Another endpoint may be well.
                    self.at += 1;
                    self.talk = None;
                    pause(wait);
                    wait = (wait * 2).min(BUSY_MAX);
                }
            }
        }
        Ok(0)
    }

    /// Waits for the indexer where it acknowledges.
    fn confirm(&mut self, id: Option<AckId>) -> Result<(), ReplayError> {
        let Some(AckId(id)) = id.filter(|_| self.config.ack != HecAck::Off) else {
            return if self.config.ack == HecAck::Required { Err(ReplayError::NoAck) } else { Ok(()) };
        };
        let question = format!("{{\"acks\":[{id}]}}");
        let pointer = format!("/acks/{id}");
        let end = clock::now() + self.config.ack_timeout;
        while clock::now() < end {
            let reply = self.ask("ack", question.as_bytes())?;
            let told = serde_json::from_slice::<serde_json::Value>(&reply.body).ok();
            if reply.status == 200
                && told.is_some_and(|told| told.pointer(&pointer).is_some_and(|told| told == true))
            {
                return Ok(());
            }
            pause(POLL_EVERY);
        }
        Err(ReplayError::Unconfirmed(self.config.ack_timeout))
    }

    /// A request and its answer; a connection that is gone is made again, at the next endpoint.
    fn ask(&mut self, path: &str, body: &[u8]) -> Result<Reply, ReplayError> {
        let mut last = String::new();
        for _ in 0..=self.targets.len() {
            let at = self.at % self.targets.len().max(1);
            let (Some(target), Some(url)) = (self.targets.get(at), self.config.endpoints.get(at)) else {
                break;
            };
            let talk = match self.talk.take() {
                Some(talk) => Ok(talk),
                None => Dialogue::open(target, self.config.timeout).map_err(|error| error.to_string()),
            };
            let request = self.request(url, path, body);
            let answered = talk.and_then(|mut talk| match talk.exchange(&request) {
                Ok(reply) => Ok((talk, reply)),
                Err(closed) => Err(format!("{url}: {}", closed.detail)),
            });
            match answered {
                Ok((talk, reply)) => {
                    self.talk = reply.keep_alive.then_some(talk);
                    return Ok(reply);
                }
                Err(why) => {
                    last = why;
                    self.at += 1;
                }
            }
        }
        Err(ReplayError::Unreachable(last))
    }

    fn request(&self, url: &HecUrl, path: &str, body: &[u8]) -> Vec<u8> {
        let host = url.host_header();
        let authorization = format!("Splunk {}", self.config.token.expose_secret());
        let fields = [
            ("Host", host.as_str()),
            ("User-Agent", concat!("sls2siem/", env!("CARGO_PKG_VERSION"))),
            ("Authorization", authorization.as_str()),
            ("X-Splunk-Request-Channel", self.channel.as_str()),
            ("Content-Type", "application/json"),
        ];
        let target = format!("{}/services/collector/{path}", url.prefix);
        let mut out = Vec::with_capacity(512 + body.len());
        // Settings were checked: no header can hold a line break.
        let _ = write_request_head(&mut out, "POST", &target, fields.into_iter(), Some(body.len() as u64));
        out.extend_from_slice(body);
        out
    }
}

fn said(answer: &HecAnswer) -> String {
    ReplayError::Refused(answer.clone()).to_string()
}
