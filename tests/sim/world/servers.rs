//! What SLS, indexers and receivers get to read, and how their answers come back.

use sls2siem::proto::event::{ClosedKind, To};
use sls2siem::proto::ids::ConnId;

use super::{Event, MILLI, PAUSE_MIN, Refused, World};
use crate::forwarder::Kind;
use crate::net::{self, Answer};
use crate::syslog::Does;

impl World {
    /// A server reads what came.
    pub(super) fn serve(&mut self, conn: ConnId, bytes: &[u8]) -> Result<(), String> {
        let Some(link) = self.links.get_mut(&conn) else { return Ok(()) };
        if link.dead {
            return Ok(());
        }
        if self.kind != Kind::Hec && link.to != To::Source {
            self.reach(conn, Some(bytes));
            return Ok(());
        }
        link.inbox.extend_from_slice(bytes);
        if self.dice.strike(self.plan.reset / 20) {
            link.dead = true;
            self.at(MILLI, Event::Closed(self.process, conn, ClosedKind::Reset));
            return Ok(());
        }
        while let Some(link) = self.links.get_mut(&conn)
            && !link.dead
            && let Some(request) = net::take_request(&mut link.inbox)
        {
            let answer = match link.to {
                To::Sink(route) => {
                    let hec = &mut self.hecs[route.0 as usize];
                    hec.answer(self.now, &request, &self.plan, &mut self.dice)
                }
                _ => self.pull(conn, &request)?,
            };
            self.reply(conn, answer);
        }
        Ok(())
    }

    /// SLS answers a pull; the law is that nobody asks it again at once when it is in trouble.
    fn pull(&mut self, conn: ConnId, request: &net::Request) -> Result<Answer, String> {
        let refused = self.refused.remove(&request.path);
        if let Some(since) = refused.map(|refused| self.now - refused.at).filter(|since| *since < PAUSE_MIN) {
            return Err(format!("{} is asked again {} ms after an error", request.path, since / MILLI));
        }
        let answer = self.sls.answer(request, &self.plan, &mut self.dice);
        let is_error = !answer.hang && !answer.bytes.starts_with(b"HTTP/1.1 200");
        // A quota is another matter: it has a pace of its own.
        if is_error && !answer.bytes.windows(5).any(|window| window == b"Quota") {
            self.refused.insert(request.path.clone(), Refused { at: self.now, conn, is_told: false });
        }
        Ok(answer)
    }

    /// Bytes, or our FIN, reach the kernel of a syslog receiver.
    pub(super) fn reach(&mut self, conn: ConnId, bytes: Option<&[u8]>) {
        let Some(link) = self.links.get_mut(&conn).filter(|link| !link.dead) else { return };
        let To::Sink(route) = link.to else { return };
        let receiver = &mut self.receivers[route.0 as usize];
        let owned = match bytes {
            Some(bytes) => receiver.arrive(self.now, conn, bytes),
            None => receiver.fin(conn),
        };
        if !owned || self.dice.strike(self.plan.reset / 20) {
            link.dead = true;
            // Behind whatever else is on its way back.
            let at = link.to_client_at.max(self.now + MILLI) + 1;
            link.to_client_at = at;
            self.at(at - self.now, Event::Closed(self.process, conn, ClosedKind::Reset));
            return;
        }
        link.acked += bytes.map_or(1, |bytes| bytes.len() as u64);
        let slow = self.dice.strike(self.plan.receiver_slow / 4);
        let usual = if self.dice.below(2) == 0 { 5 } else { 40 };
        let wait = self.dice.below(if slow { 60_000 } else { usual });
        self.at((1 + wait) * MILLI, Event::Reads(self.process, conn));
    }

    pub(super) fn receiver_reads(&mut self, conn: ConnId) {
        let Some(To::Sink(route)) = self.links.get(&conn).map(|link| link.to) else { return };
        let does = self.receivers[route.0 as usize].read(self.now, conn, &self.plan, &mut self.dice);
        if self.receivers[route.0 as usize].is_busy(conn) {
            let wait = self.dice.below(5) * MILLI;
            self.at(wait, Event::Reads(self.process, conn));
        }
        for does in does {
            let after = MILLI * (1 + self.dice.below(30));
            let Some(link) = self.links.get_mut(&conn) else { return };
            let at = link.to_client_at.max(self.now + after) - self.now;
            link.to_client_at = self.now + at;
            match does {
                Does::Says(bytes) => {
                    let answer = Answer { bytes, hang: false, torn: false, close: false, late: 0 };
                    self.reply(conn, answer);
                }
                Does::Ends => self.at(at, Event::Closed(self.process, conn, ClosedKind::Eof)),
                Does::Resets => self.at(at, Event::Closed(self.process, conn, ClosedKind::Reset)),
            }
        }
    }

    fn reply(&mut self, conn: ConnId, answer: Answer) {
        let process = self.process;
        let Some(link) = self.links.get_mut(&conn) else { return };
        // A network that has broken the connection does not mend it because the server still speaks.
        link.dead |= answer.hang || answer.torn || answer.close;
        let mut bytes = answer.bytes;
        if answer.torn {
            bytes.truncate(usize::try_from(self.dice.below(bytes.len() as u64)).unwrap());
        }
        let mut at = link.to_client_at.max(self.now + answer.late + MILLI * (1 + self.dice.below(30)));
        let mut rest = bytes.as_slice();
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let length = if self.dice.below(4) == 0 {
                1 + self.dice.below(rest.len() as u64)
            } else {
                rest.len() as u64
            };
            let (piece, more) = rest.split_at(usize::try_from(length).unwrap());
            at += 1;
            pieces.push((at, piece.to_vec()));
            rest = more;
        }
        link.to_client_at = at + 1;
        for (at, piece) in pieces {
            self.at(at - self.now, Event::ToClient(process, conn, piece));
        }
        if answer.torn || answer.close {
            let kind =
                if answer.torn && self.dice.below(2) == 0 { ClosedKind::Reset } else { ClosedKind::Eof };
            self.at(at + 2 - self.now, Event::Closed(process, conn, kind));
        }
    }
}
