//! Acknowledgements of the indexer: which (channel, ackId) stands for which records.
//!
//! Why: ids start at 0 in every channel, are told `true` exactly once, and start again after a restart of
//! splunkd; a table keyed by the id alone confirms records of somebody else.
//! Invariants: 1. an id confirms only records that were sent in its own channel. 2. an id that is not above
//!  all earlier ones of its channel proves a reset: everything pending in that channel is lost.
//!  3. only a readable `true` confirms; `false`, silence and errors confirm nothing.
//! Bounds: no frame bytes are kept, only segments; [`POLL_IDS_MAX`] ids per poll; an id older than the
//! timeout is lost and pulled again.
//! Driven by: `sink::hec`. Spec: Splunk "About HTTP Event Collector Indexer Acknowledgment".

use core::time::Duration;
use std::collections::BTreeMap;

use serde::Deserialize;

use crate::proto::context::{Context, Settled};
use crate::proto::frame::Segments;
use crate::proto::ids::{AckId, RouteId};
use crate::proto::time::Instant;

/// Ids per poll: the answer to a poll that gets lost takes this many confirmations with it.
pub const POLL_IDS_MAX: usize = 64;

/// Names a channel in this process; the GUID is its name on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChannelKey(u64);

#[derive(Debug)]
struct Channel {
    guid: String,
    route: RouteId,
    highest: Option<AckId>,
    pending: BTreeMap<AckId, Pending>,
    next_poll: Instant,
    /// A connection still sends in it.
    in_use: bool,
}

#[derive(Debug)]
struct Pending {
    segments: Segments,
    records: u32,
    sent: Instant,
    deadline: Instant,
}

/// A poll that should be sent now.
#[derive(Debug, PartialEq, Eq)]
pub struct Poll {
    /// The channel it asks about.
    pub channel: ChannelKey,
    /// Its JSON body.
    pub body: Vec<u8>,
}

/// All channels of one sink.
#[derive(Debug)]
pub struct Acks {
    channels: BTreeMap<ChannelKey, Channel>,
    next_key: u64,
    timeout: Duration,
    poll_interval: Duration,
    pending: usize,
}

impl Acks {
    /// No channel yet.
    pub fn new(timeout: Duration, poll_interval: Duration) -> Self {
        Self { channels: BTreeMap::new(), next_key: 0, timeout, poll_interval, pending: 0 }
    }

    /// A fresh channel on `route`.
    pub fn open_channel(&mut self, route: RouteId, now: Instant, cx: &mut Context) -> ChannelKey {
        let key = ChannelKey(self.next_key);
        self.next_key += 1;
        let channel = Channel {
            guid: cx.rng.guid(),
            route,
            highest: None,
            pending: BTreeMap::new(),
            next_poll: now + self.poll_interval,
            in_use: true,
        };
        self.channels.insert(key, channel);
        key
    }

    /// No connection sends in this channel any more; its pending ids are still polled.
    pub fn leave_channel(&mut self, key: ChannelKey) {
        if let Some(channel) = self.channels.get_mut(&key) {
            channel.in_use = false;
            if channel.pending.is_empty() {
                self.channels.remove(&key);
            }
        }
    }

    /// The name on the wire.
    pub fn guid(&self, key: ChannelKey) -> &str {
        self.channels.get(&key).map_or("", |channel| &channel.guid)
    }

    /// The server took these records and will confirm them under `id`. Returns true when the id shows that
    /// the channel was reset: what was pending in it is lost, and the caller takes a new channel.
    pub fn add(
        &mut self,
        key: ChannelKey,
        id: AckId,
        segments: Segments,
        sent: Instant,
        now: Instant,
        cx: &mut Context,
    ) -> bool {
        let deadline = now + self.timeout;
        let Some(channel) = self.channels.get_mut(&key) else {
            // The channel was given up while the answer was under way: nobody will ask for this id.
            lose(cx, &segments);
            return false;
        };
        let reset = channel.highest.is_some_and(|highest| id <= highest);
        if reset {
            self.pending -= channel.pending.len();
            for pending in core::mem::take(&mut channel.pending).into_values() {
                lose(cx, &pending.segments);
            }
        }
        channel.highest = Some(id);
        let records = segments.iter().map(|segment| segment.end - segment.start).sum();
        channel.pending.insert(id, Pending { segments, records, sent, deadline });
        self.pending += 1;
        reset
    }

    /// Ids that wait.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// True where some channel of this route waits for ids.
    pub fn route_has_pending(&self, route: RouteId) -> bool {
        self.channels.values().any(|channel| channel.route == route && !channel.pending.is_empty())
    }

    /// When the next poll on this route is due.
    pub fn next_poll(&self, route: RouteId) -> Option<Instant> {
        let waiting = self.channels.values().filter(|channel| channel.route == route);
        waiting.filter(|channel| !channel.pending.is_empty()).map(|channel| channel.next_poll).min()
    }

    /// The poll that is due on this route, if any.
    pub fn poll(&mut self, route: RouteId, now: Instant) -> Option<Poll> {
        let interval = self.poll_interval;
        let due = |channel: &Channel| {
            channel.route == route && !channel.pending.is_empty() && channel.next_poll <= now
        };
        let (key, channel) = self.channels.iter_mut().find(|(_, channel)| due(channel))?;
        let mut body = b"{\"acks\":[".to_vec();
        for (n, id) in channel.pending.keys().take(POLL_IDS_MAX).enumerate() {
            if n > 0 {
                body.push(b',');
            }
            body.extend_from_slice(itoa::Buffer::new().format(id.0).as_bytes());
        }
        body.extend_from_slice(b"]}");
        // The oldest ids are asked first; where more wait than fit into one poll, the next goes out at once
        // after this one's answer confirmed some.
        channel.next_poll = now + interval;
        Some(Poll { channel: *key, body })
    }

    /// The answer to a poll. Returns false when it is not a readable answer, which confirms nothing.
    pub fn handle_answer(
        &mut self,
        key: ChannelKey,
        body: &mut [u8],
        now: Instant,
        cx: &mut Context,
    ) -> bool {
        #[derive(Deserialize)]
        struct Answer {
            acks: BTreeMap<String, bool>,
        }
        let Ok(answer) = simd_json::serde::from_slice::<Answer>(body) else { return false };
        let Some(channel) = self.channels.get_mut(&key) else { return true };
        let mut confirmed = 0_usize;
        for (id, indexed) in answer.acks {
            let Ok(id) = id.parse().map(AckId) else { continue };
            if !indexed {
                continue;
            }
            if let Some(pending) = channel.pending.remove(&id) {
                confirmed += 1;
                cx.counters.acked_batches += 1;
                cx.counters.sink_ack_seconds.observe(now.since(pending.sent));
                cx.settle(&pending.segments, Settled::Acked);
            }
        }
        self.pending -= confirmed;
        if confirmed == POLL_IDS_MAX && !channel.pending.is_empty() {
            channel.next_poll = now;
        }
        if channel.pending.is_empty() && !channel.in_use {
            self.channels.remove(&key);
        }
        true
    }

    /// Gives up everything that waits in this channel: it will be pulled again.
    pub fn lose_channel(&mut self, key: ChannelKey, cx: &mut Context) {
        let Some(channel) = self.channels.get_mut(&key) else { return };
        self.pending -= channel.pending.len();
        for pending in core::mem::take(&mut channel.pending).into_values() {
            lose(cx, &pending.segments);
        }
        if !channel.in_use {
            self.channels.remove(&key);
        }
    }

    /// Gives up ids that waited too long.
    pub fn handle_timeout(&mut self, now: Instant, cx: &mut Context) {
        for channel in self.channels.values_mut() {
            let before = channel.pending.len();
            channel.pending.retain(|_, pending| {
                let keep = pending.deadline > now;
                if !keep {
                    lose(cx, &pending.segments);
                    cx.counters.sink_retries += 1;
                    cx.counters.duplicates_possible_records += u64::from(pending.records);
                }
                keep
            });
            self.pending -= before - channel.pending.len();
        }
        self.channels.retain(|_, channel| channel.in_use || !channel.pending.is_empty());
    }

    /// The next id to give up.
    pub fn poll_timeout(&self) -> Option<Instant> {
        // Ids and deadlines grow together within a channel.
        let oldest = self.channels.values().filter_map(|channel| channel.pending.first_key_value());
        oldest.map(|(_, pending)| pending.deadline).min()
    }
}

fn lose(cx: &mut Context, segments: &Segments) {
    cx.settle(segments, Settled::Lost);
}

#[cfg(test)]
mod tests;
