//! Messages to a syslog receiver again.
//!
//! Why: as the room. A message goes as it was put aside, in today's framing.
//! Invariants: 1. RELP: a message is taken with its own answer 200. 2. `drain`: a batch is taken when the receiver has ended
//! its connection in order after us; `kernel`: when its kernel has every byte; `written` and UDP: when it was written.
//! 3. a message that is longer than `max_message_bytes` stays: the receiver would cut it, and say that all is well.
//! Bounds: one connection; `timeout` for each step. Driven by: [`super::Replayer`]. Spec: README.md, what syslog can prove.

use std::collections::VecDeque;

use super::{ATTEMPTS_MAX, BUSY_FIRST, BUSY_MAX, Outcome, ReplayError, pause};
use crate::config::{SyslogAck, SyslogConfig, SyslogTransport, SyslogUrl};
use crate::control::receiver::{Session, datagrams, frame};
use crate::drive::TargetSpec;
use crate::drive::peer::{self, Link};
use crate::proto::event::Closed;

/// A record: its place in the batch, and its messages.
type Record = (usize, Vec<Vec<u8>>);

/// The way to the receivers of one pipeline.
pub(super) struct SyslogReplayer<'a> {
    config: &'a SyslogConfig,
    targets: Vec<TargetSpec>,
    /// Of the endpoints.
    at: usize,
    session: Option<Session>,
}

impl<'a> SyslogReplayer<'a> {
    pub(super) fn new(config: &'a SyslogConfig, targets: Vec<TargetSpec>) -> Self {
        Self { config, targets, at: 0, session: None }
    }

    pub(super) fn send(&mut self, records: &[Vec<u8>], outcome: &mut Outcome) -> Result<(), ReplayError> {
        let max = self.config.max_message_bytes;
        let mut fitting: VecDeque<Record> = VecDeque::new();
        for (at, record) in records.iter().enumerate() {
            let parts = parts(record);
            match parts.iter().map(Vec::len).find(|length| *length > max) {
                None => fitting.push_back((at, parts)),
                Some(length) => {
                    let why = format!(
                        "it has {length} bytes, [syslog] max_message_bytes is {max}: raise it if the receiver takes that"
                    );
                    outcome.refused.push((at, why));
                }
            }
        }
        let mut wait = BUSY_FIRST;
        let mut attempt = 1;
        while !fitting.is_empty() {
            match self.attempt(&mut fitting, outcome) {
                Ok(()) => {}
                Err(error) if attempt >= ATTEMPTS_MAX || matches!(error, ReplayError::NotDrained(_)) => {
                    return Err(error);
                }
                Err(_) => {
                    self.at += 1;
                    attempt += 1;
                    pause(wait);
                    wait = (wait * 2).min(BUSY_MAX);
                }
            }
        }
        Ok(())
    }

    /// Sends what is left over one connection; what is dealt with leaves `records`.
    fn attempt(&mut self, records: &mut VecDeque<Record>, outcome: &mut Outcome) -> Result<(), ReplayError> {
        let at = self.at % self.targets.len().max(1);
        let (Some(target), Some(url)) = (self.targets.get(at), self.config.endpoints.get(at)) else {
            return Err(ReplayError::Unreachable("there is no endpoint".to_owned()));
        };
        let failed = |closed: Closed| ReplayError::Unreachable(format!("syslog {url}: {}", closed.detail));
        let addresses = peer::addresses(&target.host, target.port).map_err(failed)?;
        let Some(address) = addresses.get((self.at / self.targets.len().max(1)) % addresses.len().max(1))
        else {
            return Err(ReplayError::Unreachable(format!("syslog {url}: the name has no address")));
        };
        match url.transport {
            SyslogTransport::Udp => {
                let messages: Vec<Vec<u8>> =
                    records.iter().flat_map(|(_, parts)| parts.iter().cloned()).collect();
                let sent = datagrams(*address, &messages);
                sent.map_err(|error| ReplayError::Unreachable(format!("syslog {url}: {error}")))?;
            }
            SyslogTransport::Relp | SyslogTransport::RelpTls => {
                let link = || Link::to(target, *address, self.config.timeout);
                return relp(&mut self.session, &link, url, records, outcome);
            }
            SyslogTransport::Tcp | SyslogTransport::Tls => {
                let mut bytes = Vec::new();
                for message in records.iter().flat_map(|(_, parts)| parts) {
                    frame(&mut bytes, self.config.framing, message);
                }
                let mut link = Link::to(target, *address, self.config.timeout).map_err(failed)?;
                link.wait_again();
                link.send(&bytes).map_err(failed)?;
                let proven = match self.config.ack {
                    SyslogAck::Drain => link.drain(),
                    SyslogAck::Kernel => link.flush(),
                    SyslogAck::Written => Ok(true),
                };
                if !proven.map_err(failed)? {
                    return Err(ReplayError::NotDrained(self.config.timeout));
                }
            }
        }
        outcome.taken.extend(records.drain(..).map(|(at, _)| at));
        Ok(())
    }
}

impl Drop for SyslogReplayer<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            session.close();
        }
    }
}

/// Message for message; a session that ends in between leaves what it did not answer.
fn relp(
    held: &mut Option<Session>,
    link: &dyn Fn() -> Result<Link, Closed>,
    url: &SyslogUrl,
    records: &mut VecDeque<Record>,
    outcome: &mut Outcome,
) -> Result<(), ReplayError> {
    let failed = |closed: Closed| ReplayError::Unreachable(format!("syslog {url}: {}", closed.detail));
    let mut session = if let Some(session) = held.take() {
        session
    } else {
        let refused = |why| ReplayError::Unreachable(format!("syslog {url}: {why}"));
        link().and_then(Session::open).map_err(failed)?.map_err(refused)?
    };
    while let Some((at, parts)) = records.front() {
        let mut refusal = None;
        for part in parts {
            let (code, text) = session.send(part).map_err(failed)?;
            if code != 200 {
                refusal = Some(format!("RELP {code} {text}"));
            }
        }
        match refusal {
            None => outcome.taken.push(*at),
            Some(why) => outcome.refused.push((*at, why)),
        }
        records.pop_front();
    }
    *held = Some(session);
    Ok(())
}

/// The messages of a record. One that was sent in parts stands there with a line feed between its parts.
fn parts(record: &[u8]) -> Vec<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for line in record.split(|byte| *byte == b'\n') {
        match parts.last_mut() {
            Some(last) if !line.starts_with(b"<") => {
                last.push(b'\n');
                last.extend_from_slice(line);
            }
            _ => parts.push(line.to_vec()),
        }
    }
    // Whoever has a line feed in his only message has not numbered it.
    let count = parts.len();
    let numbered = |(at, part): (usize, &Vec<u8>)| {
        let number = format!("[part {}/{count} id=", at + 1);
        memchr::memmem::find(part, number.as_bytes()).is_some()
    };
    if count > 1 && parts.iter().enumerate().all(numbered) { parts } else { vec![record.to_vec()] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_taken_apart_only_where_it_was_sent_in_parts() {
        let whole = |text: &str| assert_eq!(parts(text.as_bytes()), [text.as_bytes()], "{text}");
        whole("");
        whole("<14>1 - a b - - - text");
        whole("<14>1 - a b - - - two\n<14>lines");
        whole("<14>1 - - - - - - [part 1/2 id=x] a\nb");
        whole("<14>1 - - - - - - [part 1/2 id=x] a\n<14>1 - - - - - - [part 3/2 id=x] b");
        let (one, two) =
            ("<14>1 - - - - - - [part 1/2 id=x] a\n\nb", "<14>1 - - - - - - [part 2/2 id=x] c\n");
        assert_eq!(parts(format!("{one}\n{two}").as_bytes()), [one.as_bytes(), two.as_bytes()]);
    }
}
