//! One connection to a syslog receiver, whatever it speaks.
//!
//! Why: who gets which frame, what is carried where and what goes again is the same for all of them; how a frame is
//! proven is not.
//! Invariants: 1. a frame stays here until it is settled; when the connection ends it is handed back, never dropped.
//! Bounds: those of the queues and windows. Driven by: `sink::syslog`.

use core::time::Duration;

use super::drain::{End, Epoch, Limits};
use super::kernel::Watch;
use super::queue::Queue;
use super::relp::Relp;
use super::udp::Udp;
use crate::proto::context::Context;
use crate::proto::frame::Frame;
use crate::proto::ids::{ConnId, RouteId, ShardId};
use crate::proto::time::Instant;

/// An idle spare connection of a draining sink is not kept longer than this.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// What is spoken, and how a frame is proven.
#[derive(Debug)]
pub(super) enum Talk {
    /// A stream; the peer's end behind ours.
    Drain(Queue, Epoch),
    /// A stream; how far its bytes have come.
    Watch(Queue, Watch),
    /// Answers.
    Relp(Box<Relp>),
    /// Nothing.
    Udp(Udp),
}

/// A connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) id: ConnId,
    pub(super) route: RouteId,
    /// Since when it is ready; nothing while it is being made.
    pub(super) open: Option<Instant>,
    pub(super) talk: Talk,
    /// Last time a frame came or left.
    pub(super) used: Instant,
    /// Frames were settled on it.
    pub(super) worked: bool,
}

impl Conn {
    pub(super) fn new(now: Instant, id: ConnId, route: RouteId, talk: Talk) -> Self {
        Self { id, route, open: None, talk, used: now, worked: false }
    }

    /// True while it cannot take frames yet.
    pub(super) fn is_starting(&self) -> bool {
        match &self.talk {
            Talk::Relp(relp) => self.open.is_none() || !(relp.is_ready() || relp.is_closing()),
            _ => self.open.is_none(),
        }
    }

    /// True for one that counts among the connections of its address: an epoch that ends, or is about to, does not.
    pub(super) fn counts(&self) -> bool {
        match &self.talk {
            Talk::Drain(_, epoch) => epoch.end == End::Open && !epoch.is_relieved(),
            Talk::Relp(relp) => !relp.is_closing(),
            Talk::Watch(..) | Talk::Udp(_) => true,
        }
    }

    /// True where a frame may be given.
    pub(super) fn has_room(&self, limits: Limits) -> bool {
        self.open.is_some()
            && match &self.talk {
                Talk::Drain(queue, epoch) => queue.has_room() && epoch.accepts(queue.taken_bytes(), limits),
                Talk::Watch(queue, _) => queue.has_room(),
                Talk::Relp(relp) => relp.has_room(),
                Talk::Udp(udp) => udp.queue.has_room(),
            }
    }

    pub(super) fn push(&mut self, now: Instant, frame: Frame) {
        self.used = now;
        match &mut self.talk {
            Talk::Drain(queue, epoch) => {
                epoch.note_frame(now);
                queue.push(now, frame);
            }
            Talk::Watch(queue, _) => queue.push(now, frame),
            Talk::Relp(relp) => relp.push(frame),
            Talk::Udp(udp) => udp.queue.push(now, frame),
        }
    }

    /// Frames that are not settled.
    pub(super) fn frames(&self) -> usize {
        match &self.talk {
            Talk::Drain(queue, _) | Talk::Watch(queue, _) | Talk::Udp(Udp { queue, .. }) => queue.len(),
            Talk::Relp(relp) => relp.len(),
        }
    }

    pub(super) fn carries(&self, shard: ShardId) -> bool {
        match &self.talk {
            Talk::Drain(queue, _) | Talk::Watch(queue, _) | Talk::Udp(Udp { queue, .. }) => {
                queue.carries(shard)
            }
            Talk::Relp(relp) => relp.carries(shard),
        }
    }

    pub(super) fn chunk(&mut self, now: Instant) -> Option<&[u8]> {
        self.open?;
        match &mut self.talk {
            Talk::Drain(queue, _) | Talk::Watch(queue, _) => queue.chunk(now),
            Talk::Relp(relp) => relp.chunk(now),
            Talk::Udp(udp) => udp.chunk(now),
        }
    }

    /// Bytes of the last chunk went out; true where a frame is written whole now.
    pub(super) fn advance(&mut self, now: Instant, bytes: usize) -> bool {
        match &mut self.talk {
            Talk::Drain(queue, _) => queue.advance(now, bytes),
            Talk::Watch(queue, watch) => {
                let whole = queue.advance(now, bytes);
                if whole {
                    watch.note_written(now);
                }
                whole
            }
            Talk::Relp(relp) => {
                relp.advance(bytes);
                false
            }
            Talk::Udp(udp) => udp.advance(now),
        }
    }

    /// Hands back the last frame, and whether it was begun.
    pub(super) fn pop_back(&mut self) -> Option<(Frame, bool)> {
        match &mut self.talk {
            Talk::Drain(queue, _) | Talk::Watch(queue, _) | Talk::Udp(Udp { queue, .. }) => {
                queue.pop_back().map(|sent| (sent.frame, sent.started.is_some()))
            }
            Talk::Relp(relp) => relp.pop_back(),
        }
    }

    pub(super) fn forget_unbegun(&mut self, stale: &impl Fn(&Frame) -> bool, cx: &mut Context) {
        match &mut self.talk {
            Talk::Drain(queue, _) | Talk::Watch(queue, _) | Talk::Udp(Udp { queue, .. }) => {
                queue.forget_unwritten(stale, cx);
            }
            Talk::Relp(relp) => relp.forget_unsent(stale, cx),
        }
    }

    /// When writing has stood still for too long.
    pub(super) fn stalled_at(&self, timeout: Duration) -> Option<Instant> {
        self.open?;
        match &self.talk {
            Talk::Drain(queue, _) | Talk::Watch(queue, _) => {
                queue.has_unwritten().then(|| queue.moved + timeout)
            }
            // A RELP session has its own deadline; a datagram is never waited for.
            Talk::Relp(_) | Talk::Udp(_) => None,
        }
    }

    /// When something about it is due.
    pub(super) fn deadline(&self, interval: Duration, timeout: Duration) -> Option<Instant> {
        self.open?;
        let stalled_at = self.stalled_at(timeout);
        match &self.talk {
            Talk::Drain(queue, epoch) if queue.is_empty() && epoch.end == End::Open => {
                Some(self.used + IDLE_MAX)
            }
            Talk::Drain(_, epoch) => epoch.deadline(interval, timeout, stalled_at),
            Talk::Watch(_, watch) => watch.deadline().into_iter().chain(stalled_at).min(),
            Talk::Relp(relp) => relp.deadline(timeout),
            Talk::Udp(udp) => udp.deadline(),
        }
    }

    /// True for a spare that nobody has used for a while.
    pub(super) fn is_idle_for_long(&self, now: Instant) -> bool {
        let idle = match &self.talk {
            Talk::Drain(queue, epoch) => queue.is_empty() && epoch.end == End::Open,
            Talk::Watch(..) | Talk::Relp(_) | Talk::Udp(_) => false,
        };
        idle && self.open.is_some() && self.used + IDLE_MAX <= now
    }
}
