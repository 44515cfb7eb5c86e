//! HEC as splunkd speaks it: tokens left out, channels, ids, acknowledgements and its ways to say no.

use std::collections::BTreeMap;

use crate::faults::{Dice, Plan};
use crate::net::{Answer, Request};
use crate::records;

#[derive(Default)]
struct Channel {
    next_id: u64,
    /// Id, and when (virtual ns) it is indexed; `u64::MAX` is never.
    pending: BTreeMap<u64, u64>,
}

/// One indexer.
#[derive(Default)]
pub struct Hec {
    acks: bool,
    channels: BTreeMap<String, Channel>,
    /// Every stored record in order of storing.
    pub stored: Vec<(u32, u64)>,
    /// Every record in the order of its requests.
    pub taken: Vec<(u32, u64)>,
    /// Taken records whose id was never told `true`: an indexer that dies may lose them.
    unconfirmed: Vec<(String, u64, Vec<(u32, u64)>)>,
    /// Records refused once for their content.
    refused_once: Vec<(u32, u64)>,
}

impl Hec {
    pub fn new(acks: bool) -> Self {
        Self { acks, ..Self::default() }
    }

    /// The indexer dies and comes back: channels are gone, and what it had not indexed is lost.
    pub fn restart(&mut self) {
        self.channels.clear();
        self.unconfirmed.clear();
    }

    pub fn answer(&mut self, now: u64, request: &Request, plan: &Plan, dice: &mut Dice) -> Answer {
        if request.path.ends_with("/health") {
            assert!(request.header("authorization").is_none(), "health needs no token");
            if dice.strike(plan.hec_busy) {
                let body = r#"{"text":"HEC is unhealthy, queues are full","code":18}"#;
                return Answer::new(503, &[("Retry-After", "2")], body.as_bytes().to_vec());
            }
            return Answer::new(200, &[], br#"{"text":"HEC is healthy","code":17}"#.to_vec());
        }
        if request.path.ends_with("/ack") {
            self.ack(now, request, plan, dice)
        } else {
            self.event(now, request, plan, dice)
        }
    }

    fn event(&mut self, now: u64, request: &Request, plan: &Plan, dice: &mut Dice) -> Answer {
        let text = |status: u16, code: u16, text: &str| {
            Answer::new(status, &[], format!(r#"{{"text":"{text}","code":{code}}}"#).into_bytes())
        };
        assert!(
            request.header("user-agent").is_some(),
            "splunkd falls back to HTTP/1.0 without a user agent"
        );
        assert_eq!(request.header("content-type"), Some("application/json"));
        let channel =
            request.header("x-splunk-request-channel").expect("a channel is always sent").to_owned();
        if dice.strike(plan.hec_hang) {
            return Answer::hang();
        }
        if dice.strike(plan.hec_busy) {
            let mut answer = text(503, 9, "Server is busy");
            answer.close = dice.below(2) == 0;
            return answer;
        }
        if dice.strike(plan.hec_error_clean) {
            return match dice.below(4) {
                0 => text(403, 4, "Invalid token"),
                1 => text(429, 26, "HEC queue is at capacity"),
                2 => Answer::new(
                    404,
                    &[],
                    b"{\"text\":\"The requested URL was not found on this server.\",\"code\":404}".to_vec(),
                ),
                _ => Answer::new(303, &[("Location", "/en-US/")], b"<html></html>".to_vec()),
            };
        }
        let numbers = records::numbers(&request.body);
        if dice.strike(plan.hec_too_large) && numbers.len() > 1 {
            return Answer::new(413, &[], b"<html>Content-Length of 2 too large</html>".to_vec());
        }
        let unreadable = dice.strike(plan.hec_unreadable);
        let stored_then_error = dice.strike(plan.hec_error_stored);
        let lost_answer = dice.strike(plan.hec_store_then_reset);
        if dice.strike(plan.hec_partial) && !numbers.is_empty() {
            let at = usize::try_from(dice.below(numbers.len() as u64)).unwrap();
            if !self.refused_once.contains(&numbers[at]) {
                self.refused_once.push(numbers[at]);
                let id = self.take(now, &channel, &numbers[..at], plan, dice);
                let id = id.filter(|_| at > 0).map_or(String::new(), |id| format!(r#","ackId":{id}"#));
                let (code, number) = if dice.below(2) == 0 { (6, at) } else { (7, at + 1) };
                let body =
                    format!(r#"{{"text":"refused","code":{code},"invalid-event-number":{number}{id}}}"#);
                return Answer::new(400, &[], body.into_bytes());
            }
        }
        let id = self.take(now, &channel, &numbers, plan, dice);
        if stored_then_error {
            return text(500, 8, "Internal server error");
        }
        if unreadable {
            return Answer::new(200, &[], b"<html>all is well</html>".to_vec());
        }
        let id = id.map_or(String::new(), |id| format!(r#","ackId":{id}"#));
        let mut answer = Answer::new(200, &[], format!(r#"{{"text":"Success","code":0{id}}}"#).into_bytes());
        answer.torn = lost_answer;
        answer.close = dice.strike(plan.hec_close);
        answer
    }

    /// Takes records; with acknowledgements they are stored when they are indexed.
    fn take(
        &mut self,
        now: u64,
        channel: &str,
        numbers: &[(u32, u64)],
        plan: &Plan,
        dice: &mut Dice,
    ) -> Option<u64> {
        self.taken.extend_from_slice(numbers);
        if !self.acks {
            self.stored.extend_from_slice(numbers);
            return None;
        }
        let entry = self.channels.entry(channel.to_owned()).or_default();
        let id = entry.next_id;
        entry.next_id += 1;
        let wait = if dice.strike(plan.ack_never) {
            u64::MAX
        } else if dice.strike(plan.ack_slow) {
            dice.below(200) * 1_000_000_000
        } else {
            dice.below(3) * 1_000_000_000
        };
        entry.pending.insert(id, now.saturating_add(wait));
        self.unconfirmed.push((channel.to_owned(), id, numbers.to_vec()));
        Some(id)
    }

    fn ack(&mut self, now: u64, request: &Request, plan: &Plan, dice: &mut Dice) -> Answer {
        let channel = request.header("x-splunk-request-channel").unwrap().to_owned();
        let asked: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let mut parts = Vec::new();
        for id in asked["acks"].as_array().unwrap() {
            let id = id.as_u64().unwrap();
            let due = self.channels.get(&channel).and_then(|channel| channel.pending.get(&id).copied());
            let indexed = due.is_some_and(|due| due <= now && due != u64::MAX);
            if indexed {
                // True once, then the state is gone.
                self.channels.get_mut(&channel).unwrap().pending.remove(&id);
                if let Some(at) =
                    self.unconfirmed.iter().position(|(name, number, _)| *name == channel && *number == id)
                {
                    let (_, _, numbers) = self.unconfirmed.remove(at);
                    self.stored.extend_from_slice(&numbers);
                }
            }
            parts.push(format!("\"{id}\":{indexed}"));
        }
        if dice.strike(plan.ack_junk) {
            return Answer::new(502, &[], b"<html>bad gateway</html>".to_vec());
        }
        let mut answer = Answer::new(200, &[], format!("{{\"acks\":{{{}}}}}", parts.join(",")).into_bytes());
        answer.torn = dice.strike(plan.ack_answer_lost);
        answer
    }
}
