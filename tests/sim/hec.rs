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

/// Answers that mean that nothing was stored; without a code it is a page of something in between.
const REFUSALS: [(u16, Option<u16>); 15] = [
    (303, None),
    (400, Some(5)),
    (400, Some(10)),
    (400, Some(11)),
    (401, Some(2)),
    (401, Some(3)),
    (403, Some(1)),
    (403, Some(4)),
    (403, None),
    (404, Some(404)),
    (404, None),
    (429, Some(26)),
    (503, Some(18)),
    (503, Some(23)),
    (503, None),
];
/// Answers that leave it open.
const ERRORS: [(u16, u16); 5] = [(500, 8), (500, 0), (408, 0), (502, 0), (504, 0)];

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
    is_about_to_die: bool,
    /// After a restart so many requests are taken and answered with an error.
    stumbles: u64,
}

impl Hec {
    pub fn new(acks: bool) -> Self {
        Self { acks, ..Self::default() }
    }

    /// The indexer dies and comes back: channels are gone, and what it had not indexed is lost.
    pub fn restart(&mut self) {
        self.is_about_to_die = false;
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
        let (mut answer, slow) = if request.path.ends_with("/ack") {
            (self.ack(now, request, plan, dice), plan.ack_answer_late)
        } else {
            (self.event(now, request, plan, dice), plan.hec_slow)
        };
        if dice.strike(slow) {
            answer.late = dice.below(12) * 1_000_000_000;
            // Slow is often the last thing that is seen of it.
            self.is_about_to_die |= plan.hec_restart.is_on() && dice.below(2) == 0;
        }
        answer
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
        // It dies between two requests of one connection, and whatever stands in front of it keeps the connection; who
        // has just come up is slow, or dies again.
        let restarts = dice.strike(plan.hec_restart / 2) || self.is_about_to_die;
        if restarts {
            self.restart();
        }
        let numbers = records::numbers(&request.body);
        if dice.strike(plan.hec_busy) {
            return self.busy(now, &channel, &numbers, plan, dice);
        }
        if dice.strike(plan.hec_error_clean) {
            let (status, code) = REFUSALS[usize::try_from(dice.below(REFUSALS.len() as u64)).unwrap()];
            return match code {
                Some(code) => text(status, code, "refused"),
                None => Answer::new(status, &[("Location", "/en-US/")], b"<html></html>".to_vec()),
            };
        }
        if dice.strike(plan.hec_too_large) && numbers.len() > 1 {
            return Answer::new(413, &[], b"<html>Content-Length of 2 too large</html>".to_vec());
        }
        let unreadable = dice.strike(plan.hec_unreadable);
        if restarts && plan.hec_error.is_on() {
            self.stumbles = 1 + dice.below(2);
        }
        let stumbles = self.stumbles > 0;
        self.stumbles -= u64::from(stumbles);
        let error = dice.strike(plan.hec_error) || stumbles;
        // Whoever answers so may have stored the records or may have swallowed them.
        let swallowed = (unreadable || error) && !stumbles && dice.below(2) == 0;
        let lost_answer = dice.strike(plan.hec_store_then_reset) || (restarts && dice.below(2) == 0);
        if dice.strike(plan.hec_partial) && !numbers.is_empty() {
            let at = usize::try_from(dice.below(numbers.len() as u64)).unwrap();
            if !self.refused_once.contains(&numbers[at]) {
                self.refused_once.push(numbers[at]);
                let id = self.take(now, &channel, &numbers[..at], plan, dice);
                let id = id.filter(|_| at > 0).map_or(String::new(), |id| format!(r#","ackId":{id}"#));
                let (code, number) =
                    [(6, at), (7, at + 1), (12, at), (13, at)][usize::try_from(dice.below(4)).unwrap()];
                let body =
                    format!(r#"{{"text":"refused","code":{code},"invalid-event-number":{number}{id}}}"#);
                return Answer::new(400, &[], body.into_bytes());
            }
        }
        let id = if swallowed { None } else { self.take(now, &channel, &numbers, plan, dice) };
        if error {
            let (status, code) = ERRORS[usize::try_from(dice.below(ERRORS.len() as u64)).unwrap()];
            return text(status, code, "Internal server error");
        }
        if unreadable {
            return Answer::new(200, &[], b"<html>all is well</html>".to_vec());
        }
        let id = id.map_or(String::new(), |id| format!(r#","ackId":{id}"#));
        let mut answer = Answer::new(200, &[], format!(r#"{{"text":"Success","code":0{id}}}"#).into_bytes());
        answer.torn = lost_answer;
        answer.late = if restarts && dice.below(2) == 0 { dice.below(6) * 1_000_000_000 } else { 0 };
        answer.close = dice.strike(plan.hec_close);
        answer
    }

    /// Its queue is full; in the middle of a body it may say how far it came. The front is stored only where an id says
    /// so: otherwise nobody knows.
    fn busy(
        &mut self,
        now: u64,
        channel: &str,
        numbers: &[(u32, u64)],
        plan: &Plan,
        dice: &mut Dice,
    ) -> Answer {
        let at = usize::try_from(dice.below(numbers.len() as u64 + 1)).unwrap();
        let how_far = if at == 0 || dice.below(2) == 0 {
            String::new()
        } else if self.acks {
            let id = self.take(now, channel, &numbers[..at], plan, dice).unwrap();
            format!(r#","invalid-event-number":{at},"ackId":{id}"#)
        } else {
            format!(r#","invalid-event-number":{at}"#)
        };
        let body = format!(r#"{{"text":"Server is busy","code":9{how_far}}}"#);
        let mut answer = Answer::new(503, &[], body.into_bytes());
        answer.close = dice.below(2) == 0;
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
        if dice.strike(plan.hec_restart / 8) {
            self.restart();
        }
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
        if dice.strike(plan.ack_refused) {
            let (status, code) =
                [(400, 10), (400, 11), (403, 4), (503, 9)][usize::try_from(dice.below(4)).unwrap()];
            return Answer::new(status, &[], format!(r#"{{"text":"refused","code":{code}}}"#).into_bytes());
        }
        if dice.strike(plan.ack_junk) {
            return Answer::new(502, &[], b"<html>bad gateway</html>".to_vec());
        }
        let mut answer = Answer::new(200, &[], format!("{{\"acks\":{{{}}}}}", parts.join(",")).into_bytes());
        answer.torn = dice.strike(plan.ack_answer_lost);
        answer
    }
}
