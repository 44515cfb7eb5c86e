//! Ends of connections and deadlines: what is proven by them, what goes again, what an operator hears.
//!
//! Why: every way out of a connection ends here, so that it can be read in one sitting that none of them drops a frame.
//! Invariants: 1. frames of a connection that ends without a proof go back to the front of the queue in their order.
//! Bounds: none of its own. Driven by: [`Syslog`].

use core::time::Duration;

use super::conn::{Conn, Talk};
use super::drain::End;
use super::relp::Over;
use super::{Syslog, settle};
use crate::proto::context::{Context, Settled};
use crate::proto::event::{Action, Cause, Closed, ClosedKind, SyslogTrouble};
use crate::proto::ids::ConnId;
use crate::proto::planted::{Bug, planted};
use crate::proto::sink::route::Failure;
use crate::proto::time::Instant;

/// A connection that ends so soon without having been used was not wanted.
const WELCOME: Duration = Duration::from_secs(1);

/// What was learnt about an address.
#[derive(Debug, Default)]
pub(super) struct Manner {
    /// Something was proven there.
    worked: bool,
    /// Connections that ended without a proof since then.
    failures: u32,
    /// It ended connections in the middle of epochs: they have to be shorter than that.
    pub(super) epoch_bytes_max: Option<u64>,
}

impl Syslog {
    /// A connection ended. Returns false when it is not one of this sink.
    pub fn handle_closed(&mut self, now: Instant, id: ConnId, why: &Closed, cx: &mut Context) -> bool {
        let Some(at) = self.conns.iter().position(|conn| conn.id == id) else { return false };
        match self.proof(now, at, why) {
            Some(took) => self.end_proven(now, at, took, cx),
            None => self.end_unproven(now, at, why, cx),
        }
        true
    }

    /// A deadline passed.
    pub fn handle_timeout(&mut self, now: Instant, cx: &mut Context) {
        self.routes.handle_timeout(now, cx);
        while let Some(frame) = self.held.pop_due(now) {
            self.waiting.push_back(frame);
        }
        let mut at = 0;
        while at < self.conns.len() {
            if let Some(over) = self.late(now, at) {
                self.end(now, at, over, cx);
                continue;
            }
            if let Some(Conn { talk: Talk::Udp(udp), id, .. }) = self.conns.get_mut(at)
                && udp.resume(now)
            {
                cx.actions.push_back(Action::Transmit(*id));
            }
            at += 1;
        }
    }

    /// We end a connection; its frames go again.
    pub(super) fn end(&mut self, now: Instant, at: usize, over: Over, cx: &mut Context) {
        self.credit_answers(now, at, cx);
        let Some(conn) = self.conns.get(at) else { return };
        cx.actions.push_back(Action::Close(conn.id));
        if let Over::Trouble(trouble) = over {
            // Perhaps it reads so slowly, or only so much of each connection.
            self.shorten_epochs(at);
            let Some(conn) = self.conns.get(at) else { return };
            // A peer that has only stopped reading may be found elsewhere by its name; one that worked before is in
            // trouble for a moment. Otherwise somebody has to repair something.
            let worked = self.manners.get(&conn.route).is_some_and(|manner| manner.worked);
            let passes = worked || matches!(trouble, SyslogTrouble::Stalled { .. });
            let cause = Cause::Syslog(trouble);
            let failure = if passes { Failure::soft(cause) } else { Failure::hold(cause) };
            self.routes.fail(now, conn.route, failure, cx);
        }
        self.take_down(at, cx);
    }

    /// Something was acknowledged on this connection.
    pub(super) fn note_proof(&mut self, now: Instant, at: usize, took: Duration, cx: &mut Context) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        conn.worked = true;
        conn.used = now;
        let manner = self.manners.entry(conn.route).or_default();
        manner.worked = true;
        manner.failures = 0;
        self.routes.succeed(now, conn.route, took, false, cx);
    }

    /// How long the peer took, where this end acknowledges the epoch.
    fn proof(&self, now: Instant, at: usize, why: &Closed) -> Option<Duration> {
        match &self.conns.get(at)?.talk {
            Talk::Drain(_, epoch) => epoch.proof(now, why),
            Talk::Watch(..) | Talk::Relp(_) | Talk::Udp(_) => None,
        }
    }

    fn end_proven(&mut self, now: Instant, at: usize, took: Duration, cx: &mut Context) {
        self.note_proof(now, at, took, cx);
        let mut conn = self.conns.swap_remove(at);
        if let Some(manner) = self.manners.get_mut(&conn.route) {
            // Slowly back to full epochs: whoever ended them may be gone. Each try that goes too far costs duplicates.
            manner.epoch_bytes_max =
                manner.epoch_bytes_max.and_then(|bytes| bytes.checked_add(bytes / 4 + 1));
        }
        if let Talk::Drain(queue, _) = &mut conn.talk {
            while let Some(sent) = queue.pop_if(|_| true) {
                settle(now, sent, cx);
            }
            assert!(queue.is_empty(), "an epoch ends after its last byte was written");
        }
    }

    /// The end proves nothing about the frames that are here, or not about all of them.
    fn end_unproven(&mut self, now: Instant, at: usize, why: &Closed, cx: &mut Context) {
        self.credit_answers(now, at, cx);
        if why.kind == ClosedKind::Eof {
            self.credit_arrivals(now, at, cx);
        }
        let Some(conn) = self.conns.get(at) else { return };
        let (route, owed) = (conn.route, conn.frames() > 0);
        let orderly = matches!(why.kind, ClosedKind::Eof | ClosedKind::Reset);
        let welcome = conn.open.is_some_and(|since| since + WELCOME <= now) || conn.worked;
        let farewell = matches!(&conn.talk, Talk::Relp(relp) if relp.is_closing());
        let is_drain = matches!(conn.talk, Talk::Drain(..));
        if orderly {
            self.shorten_epochs(at);
        }
        let manner = self.manners.entry(route).or_default();
        // An address that works and ends a connection now and then (a restart, a balancer) gets a new one at once;
        // the second time in a row, or where nothing ever worked, it waits.
        let quiet =
            farewell || (orderly && if owed { manner.worked && manner.failures == 0 } else { welcome });
        if !quiet {
            let early = why.kind == ClosedKind::Eof && owed && is_drain;
            let cause = if early {
                Cause::Syslog(SyslogTrouble::EndsEarly { closed: why.clone() })
            } else {
                Cause::Transport(why.clone())
            };
            self.routes.fail(now, route, Failure::soft(cause), cx);
        }
        if owed {
            manner.failures = manner.failures.saturating_add(1);
        }
        self.take_down(at, cx);
    }

    /// What a RELP session was answered before it ended counts, and an end after that is no failure.
    fn credit_answers(&mut self, now: Instant, at: usize, cx: &mut Context) {
        let Some(Conn { talk: Talk::Relp(relp), .. }) = self.conns.get_mut(at) else { return };
        let heard = relp.settle_answered(now, cx);
        if let Some(took) = heard.took {
            self.note_proof(now, at, took, cx);
        }
        self.take_refused(now, heard.refused, cx);
    }

    /// With `kernel`, an end in order says that everything that had arrived was read.
    fn credit_arrivals(&mut self, now: Instant, at: usize, cx: &mut Context) {
        let Some(Conn { talk: Talk::Watch(queue, watch), .. }) = self.conns.get_mut(at) else { return };
        let mut took = None;
        while let Some(sent) = queue.pop_if(|sent| watch.is_settled_by_end(sent)) {
            took = Some(settle(now, sent, cx));
        }
        if let Some(took) = took {
            self.note_proof(now, at, took, cx);
        }
    }

    /// Whether a connection has to be closed by now, and how.
    fn late(&self, now: Instant, at: usize) -> Option<Over> {
        let conn = self.conns.get(at)?;
        let (timeout, waited) = (self.params.timeout, self.params.timeout);
        if conn.is_idle_for_long(now) {
            return Some(Over::InOrder);
        }
        if conn.stalled_at(timeout).is_some_and(|due| due <= now) {
            return Some(Over::Trouble(SyslogTrouble::Stalled { waited }));
        }
        match &conn.talk {
            Talk::Drain(_, epoch) => match epoch.end {
                End::Arriving(arrival) if arrival.moved + timeout <= now => {
                    Some(Over::Trouble(SyslogTrouble::Stalled { waited }))
                }
                End::Asked(since) if since + timeout <= now => {
                    Some(Over::Trouble(SyslogTrouble::Stalled { waited }))
                }
                End::Done(since) if since + timeout <= now => {
                    Some(Over::Trouble(SyslogTrouble::NeverEnds { waited }))
                }
                _ => None,
            },
            Talk::Relp(relp) => {
                let due = conn.open.and_then(|_| relp.deadline(timeout))?;
                let owed = relp.owed();
                let over = if relp.is_closing() {
                    Over::InOrder
                } else {
                    Over::Trouble(SyslogTrouble::Silent { waited, owed })
                };
                (due <= now).then_some(over)
            }
            Talk::Watch(..) | Talk::Udp(_) => None,
        }
    }

    /// Every lease is over: what is written in part must not become whole, and what is not begun stays here.
    pub fn sever(&mut self, cx: &mut Context) {
        while let Some(at) = self.conns.iter().position(|conn| conn.frames() > 0) {
            if let Some(conn) = self.conns.get(at) {
                cx.actions.push_back(Action::Close(conn.id));
            }
            self.take_down(at, cx);
        }
    }

    /// The next epoch at this address has to be shorter than what this connection was given.
    fn shorten_epochs(&mut self, at: usize) {
        if let Some(Conn { talk: Talk::Drain(queue, _), route, .. }) = self.conns.get(at)
            && !queue.is_empty()
        {
            let bytes = (queue.taken_bytes() / 2).max(1);
            self.manners.entry(*route).or_default().epoch_bytes_max = Some(bytes);
        }
    }

    /// Removes a connection; its frames go to the front of the queue in their order.
    fn take_down(&mut self, at: usize, cx: &mut Context) {
        let mut conn = self.conns.swap_remove(at);
        while let Some((frame, begun)) = conn.pop_back() {
            if begun {
                cx.counters.duplicates_possible_records += u64::from(frame.records());
                cx.counters.sink_retries += 1;
                if planted(Bug::BegunCounts) {
                    cx.settle(&frame.segments, Settled::Acked);
                    cx.pool.give(frame);
                    continue;
                }
            }
            self.waiting.push_front(frame);
        }
    }
}
