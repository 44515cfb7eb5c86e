//! Acknowledgements of the indexer: which (channel, ackId) stands for which records.
//!
//! Why: ids start at 0 in every channel, are told `true` exactly once, and start again after a restart of
//! splunkd; a table keyed by the id alone confirms records of somebody else.
//! Invariants: 1. an id confirms only records that were sent in its own channel. 2. an id that is not above
//!  all earlier ones of its channel proves a reset: everything pending in that channel is lost.
//!  3. only a readable `true` confirms; `false`, silence and errors confirm nothing. 4. a `true` counts only
//!  when it cannot belong to another incarnation of the server. One that came up unseen can have given ids only to
//!  requests after the last answer whose id proved the old one: `unproven` of them, so ids 0 to `unproven` - 1.
//!  A `true` for such an id waits for the next proof; without one its records are pulled again.
//! Bounds: no frame bytes are kept, only segments; [`POLL_IDS_MAX`] ids per poll; an id older than the
//! timeout is lost and pulled again.
//! Driven by: `sink::hec`. Spec: Splunk "About HTTP Event Collector Indexer Acknowledgment".

use core::time::Duration;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::cookies::{Habit, Jar};
use crate::proto::context::{Context, Settled};
use crate::proto::frame::Segments;
use crate::proto::ids::{AckId, RouteId};
use crate::proto::planted::{Bug, planted};
use crate::proto::time::Instant;

/// Ids per poll: the answer to a poll that gets lost takes this many confirmations with it.
pub const POLL_IDS_MAX: usize = 64;
/// Polls of one channel in a row; what is left waits for the next interval.
const POLLS_IN_A_ROW: u32 = 10;

/// Names a channel in this process; the GUID is its name on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChannelKey(u64);

#[derive(Debug)]
struct Channel {
    guid: String,
    route: RouteId,
    highest: Option<AckId>,
    pending: BTreeMap<AckId, Pending>,
    /// Told `true`, waiting for the answers of requests that were under way then.
    tentative: Vec<(u64, Pending)>,
    next_poll: Instant,
    /// The next poll asks from this id on: no id starves behind older ones that stay `false`.
    ask_from: AckId,
    asked_in_a_row: u32,
    /// What keeps this channel on its indexer behind a load balancer.
    cookies: Jar,
    /// A connection still sends in it.
    in_use: bool,
    /// Requests begun and answered in it so far: one connection, so they are answered in order.
    begun: u64,
    answered: u64,
    /// The first so many requests were taken by the incarnation that gave the pending ids.
    proven: u64,
    /// Resets seen.
    resets: u64,
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
    /// What it asks about.
    pub asked: Asked,
    /// Its JSON body.
    pub body: Vec<u8>,
}

/// Which poll an answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The channel.
    pub channel: ChannelKey,
    /// Resets of it that were seen before the poll was sent.
    pub resets: u64,
}

/// All channels of one sink.
#[derive(Debug)]
pub struct Acks {
    channels: BTreeMap<ChannelKey, Channel>,
    /// How the cookies of each address behave.
    habits: BTreeMap<RouteId, Habit>,
    next_key: u64,
    timeout: Duration,
    poll_interval: Duration,
    pending: usize,
}

impl Acks {
    /// No channel yet.
    pub fn new(timeout: Duration, poll_interval: Duration) -> Self {
        let (channels, habits) = (BTreeMap::new(), BTreeMap::new());
        Self { channels, habits, next_key: 0, timeout, poll_interval, pending: 0 }
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
            tentative: Vec::new(),
            next_poll: now + self.poll_interval,
            ask_from: AckId(0),
            asked_in_a_row: 0,
            cookies: Jar::default(),
            in_use: true,
            begun: 0,
            answered: 0,
            proven: 0,
            resets: 0,
        };
        self.channels.insert(key, channel);
        key
    }

    /// A request in this channel gets on its way.
    pub fn begin(&mut self, key: ChannelKey) {
        if let Some(channel) = self.channels.get_mut(&key) {
            channel.begun += 1;
        }
    }

    /// A request that no byte was sent of is taken back.
    pub fn withdraw(&mut self, key: ChannelKey, now: Instant, cx: &mut Context) {
        if let Some(channel) = self.channels.get_mut(&key) {
            channel.begun -= 1;
            for (barrier, _) in &mut channel.tentative {
                *barrier = channel.begun.min(*barrier);
            }
            self.pending -= channel.confirm(now, cx);
        }
    }

    /// A request in this channel is answered; called after [`Self::add`] where the answer carries an id.
    pub fn answered(&mut self, key: ChannelKey, now: Instant, cx: &mut Context) {
        if let Some(channel) = self.channels.get_mut(&key) {
            channel.answered += 1;
            self.pending -= channel.confirm(now, cx);
        }
    }

    /// No connection sends in this channel any more; its pending ids are still polled.
    pub fn leave_channel(&mut self, key: ChannelKey, cx: &mut Context) {
        if let Some(channel) = self.channels.get_mut(&key) {
            channel.in_use = false;
            // Requests under way will never be answered: there will be no proof for what waited for one.
            let unproven = channel.unproven();
            let kept = channel.pending.split_off(&AckId(unproven));
            self.pending -= channel.lose_all(cx);
            channel.pending = kept;
            if channel.pending.is_empty() {
                self.channels.remove(&key);
            }
        }
    }

    /// What a load balancer wants to see again, where it said so.
    pub fn cookie(&self, key: ChannelKey) -> Option<&str> {
        self.channels.get(&key)?.cookies.text()
    }

    /// An answer in this channel brought cookies. True where they mean that the balancer leads elsewhere now, and there
    /// nobody knows the ids that wait.
    pub fn take_cookies(&mut self, key: ChannelKey, set: &str) -> bool {
        let Some(channel) = self.channels.get_mut(&key) else { return false };
        channel.cookies.take(set)
            && self.habits.entry(channel.route).or_default().is_move(&mut channel.cookies)
    }

    /// The channel that follows sends the same cookies.
    pub fn hand_cookies_on(&mut self, before: ChannelKey, after: ChannelKey) {
        let cookies = self.channels.get(&before).map(|channel| channel.cookies.handed_on());
        if let Some((cookies, channel)) = cookies.zip(self.channels.get_mut(&after)) {
            channel.cookies = cookies;
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
        // With a new incarnation this id counts the requests since the last proof that were answered without one.
        let without_id = channel.answered.saturating_sub(channel.proven);
        let without_id = if planted(Bug::AnswersWithoutIdNotCounted) { 0 } else { without_id };
        let reset = channel.highest.is_some_and(|highest| id <= highest || id.0 <= without_id);
        let reset = reset && !planted(Bug::RepeatedIdIsNew);
        if reset {
            channel.resets += 1;
            self.pending -= channel.lose_all(cx);
        }
        channel.highest = Some(id);
        channel.proven = channel.answered + 1;
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
        if channel.pending.range(channel.ask_from..).next().is_none() {
            channel.ask_from = AckId(0);
        }
        let mut body = b"{\"acks\":[".to_vec();
        let mut last = None;
        for id in channel.pending.range(channel.ask_from..).map(|(id, _)| *id).take(POLL_IDS_MAX) {
            if last.is_some() {
                body.push(b',');
            }
            body.extend_from_slice(itoa::Buffer::new().format(id.0).as_bytes());
            last = Some(id);
        }
        body.extend_from_slice(b"]}");
        channel.plan_next(last, now, interval);
        Some(Poll { asked: Asked { channel: *key, resets: channel.resets }, body })
    }

    /// The answer to a poll. Returns false when it is not a readable answer, which confirms nothing.
    pub fn handle_answer(&mut self, poll: &Asked, body: &mut [u8], now: Instant, cx: &mut Context) -> bool {
        #[derive(Deserialize)]
        struct Answer {
            acks: BTreeMap<String, bool>,
        }
        if !super::answer::is_parsable(body) {
            return false;
        }
        let Ok(answer) = simd_json::serde::from_slice::<Answer>(body) else { return false };
        let key = poll.channel;
        let Some(channel) = self.channels.get_mut(&key) else { return true };
        if channel.resets != poll.resets && !planted(Bug::OldPollCounts) {
            // These ids may be of the incarnation before: they name other records now.
            return true;
        }
        for (id, indexed) in answer.acks {
            let Some(id) = id.parse().ok().map(AckId).filter(|_| indexed) else { continue };
            if let Some(pending) = channel.pending.remove(&id) {
                let is_doubted = id.0 < channel.unproven() && !planted(Bug::NoDoubt);
                let barrier = if is_doubted { channel.begun } else { 0 };
                channel.tentative.push((barrier, pending));
            }
        }
        self.pending -= channel.confirm(now, cx);
        if channel.is_spent() {
            self.channels.remove(&key);
        }
        true
    }

    /// A poll on this route failed: the next one keeps its distance.
    pub fn hold_polls(&mut self, route: RouteId, now: Instant) {
        for channel in self.channels.values_mut().filter(|channel| channel.route == route) {
            channel.next_poll = channel.next_poll.max(now + self.poll_interval);
        }
    }

    /// Gives up everything that waits in the channels of a route; returns them.
    pub fn lose_route(&mut self, route: RouteId, cx: &mut Context) -> Vec<ChannelKey> {
        let on_route = self.channels.iter().filter(|(_, channel)| channel.route == route);
        let keys: Vec<ChannelKey> = on_route.map(|(key, _)| *key).collect();
        for key in &keys {
            self.lose_channel(*key, cx);
        }
        keys
    }

    /// Gives up everything that waits in this channel: it will be pulled again.
    pub fn lose_channel(&mut self, key: ChannelKey, cx: &mut Context) {
        let Some(channel) = self.channels.get_mut(&key) else { return };
        channel.resets += 1;
        self.pending -= channel.lose_all(cx);
        if channel.is_spent() {
            self.channels.remove(&key);
        }
    }

    /// Gives up ids that waited too long.
    pub fn handle_timeout(&mut self, now: Instant, cx: &mut Context) {
        if self.poll_timeout().is_some_and(|due| due <= now) {
            self.give_up(now, cx);
        }
        self.channels.retain(|_, channel| !channel.is_spent());
    }

    fn give_up(&mut self, now: Instant, cx: &mut Context) {
        for channel in self.channels.values_mut() {
            let before = channel.pending.len();
            channel.pending.retain(|_, pending| {
                let keep = pending.deadline > now;
                if !keep && !planted(Bug::AckTimeoutForgets) {
                    lose(cx, &pending.segments);
                    cx.counters.sink_retries += 1;
                    cx.counters.duplicates_possible_records += u64::from(pending.records);
                }
                keep
            });
            self.pending -= before - channel.pending.len();
            let before = channel.tentative.len();
            channel.tentative.retain(|(_, pending)| {
                let keep = pending.deadline > now;
                if !keep {
                    lose(cx, &pending.segments);
                    cx.counters.duplicates_possible_records += u64::from(pending.records);
                }
                keep
            });
            self.pending -= before - channel.tentative.len();
        }
    }

    /// The next id to give up.
    pub fn poll_timeout(&self) -> Option<Instant> {
        // Ids and deadlines grow together within a channel.
        let oldest = self.channels.values().filter_map(|channel| channel.pending.first_key_value());
        let tentative = self.channels.values().flat_map(|channel| channel.tentative.iter());
        oldest
            .map(|(_, pending)| pending.deadline)
            .chain(tentative.map(|(_, pending)| pending.deadline))
            .min()
    }
}

impl Channel {
    /// After a poll up to `last`: the rest at once, the next round after the interval.
    fn plan_next(&mut self, last: Option<AckId>, now: Instant, interval: Duration) {
        self.ask_from = last.map_or(AckId(0), |last| AckId(last.0.saturating_add(1)));
        self.asked_in_a_row += 1;
        let more = self.pending.range(self.ask_from..).next().is_some();
        if more && self.asked_in_a_row < POLLS_IN_A_ROW {
            self.next_poll = now;
            return;
        }
        self.asked_in_a_row = 0;
        self.next_poll = now + interval;
    }

    /// Requests that may have been taken by another incarnation.
    fn unproven(&self) -> u64 {
        self.begun.saturating_sub(self.proven)
    }

    /// Settles what is beyond doubt; returns how many ids that were.
    fn confirm(&mut self, now: Instant, cx: &mut Context) -> usize {
        let (before, proven) = (self.tentative.len(), self.proven);
        self.tentative.retain(|(barrier, pending)| {
            let doubtful = *barrier > proven;
            if !doubtful {
                cx.counters.acked_batches += 1;
                cx.counters.sink_ack_seconds.observe(now.since(pending.sent));
                cx.settle(&pending.segments, Settled::Acked);
            }
            doubtful
        });
        before - self.tentative.len()
    }

    /// Gives everything up that waits; returns how many ids that were.
    fn lose_all(&mut self, cx: &mut Context) -> usize {
        let count = self.pending.len() + self.tentative.len();
        let tentative = self.tentative.drain(..).map(|(_, pending)| pending);
        for pending in core::mem::take(&mut self.pending).into_values().chain(tentative) {
            cx.counters.duplicates_possible_records += u64::from(pending.records);
            if planted(Bug::ResetForgets) {
                continue;
            }
            let how = if planted(Bug::ResetConfirms) { Settled::Acked } else { Settled::Lost };
            cx.settle(&pending.segments, how);
        }
        count
    }

    /// Nobody sends in it and nothing waits in it.
    fn is_spent(&self) -> bool {
        !self.in_use && self.pending.is_empty() && self.tentative.is_empty()
    }
}

fn lose(cx: &mut Context, segments: &Segments) {
    cx.settle(segments, Settled::Lost);
}

#[cfg(test)]
mod tests;
