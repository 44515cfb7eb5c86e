//! The virtual world of a group: a clock, several forwarders, SLS with its group, two indexers.

mod calls;
mod laws;
mod mischief;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::hash::{DefaultHasher, Hash as _};

use sls2siem::proto::event::{Action, Closed, ClosedKind, Command, Report, To};
use sls2siem::proto::ids::{ConnId, EndpointId, RouteId};
use sls2siem::proto::sls::lease::call::{Call, CallError, CallId, Reply};
use sls2siem::proto::sls::lease::event::{LeaseEvent, Outcome as LeaseOutcome};
use sls2siem::proto::time::Instant;

use super::forwarder::{CONTROL, DATA, Forwarder, Link};
use super::server::Group;
use crate::faults::{Chance, Dice, Plan, chances};
use crate::hec::Hec;
use crate::net::{self, Answer};
use crate::sls::Sls;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLI;
/// As the drivers beat.
const BEAT: u64 = 200 * MILLI;
/// Faults strike for this long.
const STORM: u64 = 80 * SECOND;
/// After the storm everything has to be done within this time.
const CALM_MAX: u64 = 3_600 * SECOND;
const STEPS_AT_ONCE_MAX: u32 = 50_000;

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub records: u64,
    pub stored: u64,
    pub duplicates: u64,
    pub expired_records: u64,
    pub crashes: u64,
    pub freezes: u64,
    pub polite_stops: u64,
    pub reshapes: u64,
    pub deletions: u64,
    pub gaps: u64,
    pub conflicts: u64,
    pub expired_leases: u64,
    /// Virtual seconds until everything had arrived.
    pub seconds: u64,
    pub faults: BTreeMap<&'static str, u64>,
    pub trace: u64,
}

impl Outcome {
    pub fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.stored += other.stored;
        self.duplicates += other.duplicates;
        self.expired_records += other.expired_records;
        self.crashes += other.crashes;
        self.freezes += other.freezes;
        self.polite_stops += other.polite_stops;
        self.reshapes += other.reshapes;
        self.deletions += other.deletions;
        self.gaps += other.gaps;
        self.conflicts += other.conflicts;
        self.expired_leases += other.expired_leases;
        self.seconds = self.seconds.max(other.seconds);
        for (kind, count) in &other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
    }
}

chances! {
    /// Chances per mille, beside those of [`Plan`].
    Chances:
    call_lost up to 300,
    reply_lost up to 300,
    call_slow up to 200,
    call_twice up to 200,
    call_refused up to 200,
    crash up to 60,
    freeze up to 80,
    leave up to 60,
    join up to 100,
    clock up to 60,
    split up to 60,
    merge up to 40,
    expire up to 60,
    delete up to 20,
}

impl Chances {
    fn random(dice: &mut Dice) -> Self {
        let mut all = Self::default();
        for (chance, most) in all.each() {
            if dice.below(2) == 0 {
                chance.set(1 + dice.below(most));
            }
        }
        all
    }
}

#[derive(Debug)]
enum Event {
    Connected(u64, ConnId),
    Closed(u64, ConnId, ClosedKind),
    ToServer(u64, ConnId, Vec<u8>),
    ToClient(u64, ConnId, Vec<u8>),
    Routes(u64, EndpointId, bool),
    Command(u64, Command),
    Report(u64, Report),
    /// A call arrives at the service; whether its answer finds the way back.
    Call(u64, CallId, Call, bool),
    Reply(u64, CallId, Result<Reply, CallError>),
    Readable,
    /// The heartbeat of all drivers.
    Beat,
    Mischief,
}

impl Event {
    /// Whose event it is, and which of its planes.
    fn of(&self) -> Option<(u64, usize)> {
        match self {
            Self::Connected(of, _)
            | Self::Closed(of, ..)
            | Self::ToClient(of, ..)
            | Self::Routes(of, ..)
            | Self::Command(of, _) => Some((*of, DATA)),
            Self::Report(of, _) | Self::Reply(of, ..) => Some((*of, CONTROL)),
            Self::ToServer(..) | Self::Call(..) | Self::Readable | Self::Beat | Self::Mischief => None,
        }
    }
}

pub struct World {
    now: u64,
    loud: bool,
    plan: Plan,
    chances: Chances,
    dice: Dice,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<Event>>,
    seq: u64,
    sls: Sls,
    /// Of each shard: parents, first group that is left, whether it takes no more data.
    shape: Vec<(Vec<u32>, usize, bool)>,
    group: Group,
    hecs: Vec<Hec>,
    stored: BTreeSet<(u32, u64)>,
    counted: Vec<usize>,
    forwarders: Vec<Forwarder>,
    processes: u64,
    seed: u64,
    in_order: bool,
    /// Nobody fails in it, and nothing gets lost.
    polite: bool,
    /// Records that expired before they were stored, and shards whose gap was told.
    expired: BTreeSet<(u32, u64)>,
    told: BTreeSet<u32>,
    /// Of the expired records, those that a checkpoint stood before.
    behind: BTreeSet<(u32, u64)>,
    outcome: Outcome,
    trace: DefaultHasher,
}

impl World {
    pub fn new(seed: u64, loud: bool) -> Self {
        let mut dice = Dice::new(seed ^ 0x9_0000);
        let mut plan_dice = sls2siem::proto::rng::Rng::new(seed ^ 0xfa17);
        let plan = Plan::random(&mut plan_dice);
        let chances = Chances::random(&mut dice);
        Self::with(seed, loud, plan, chances, dice)
    }

    /// Members join and leave in order, and nothing fails.
    pub fn polite(seed: u64) -> Self {
        let mut chances = Chances::default();
        chances.leave.set(150);
        chances.join.set(300);
        chances.split.set(40);
        chances.merge.set(20);
        let mut world = Self::with(seed, false, Plan::default(), chances, Dice::new(seed));
        world.polite = true;
        world
    }

    fn with(seed: u64, loud: bool, plan: Plan, chances: Chances, mut dice: Dice) -> Self {
        let sls = Sls::new(&mut dice);
        let acks = dice.below(2) == 0;
        let shape = sls.shards.iter().map(|_| (Vec::new(), 0, false)).collect();
        let mut world = Self {
            now: SECOND,
            loud,
            plan,
            chances,
            in_order: dice.below(2) == 0,
            polite: false,
            dice,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            seq: 0,
            sls,
            shape,
            group: Group::default(),
            hecs: vec![Hec::new(acks), Hec::new(acks)],
            stored: BTreeSet::new(),
            counted: vec![0, 0],
            forwarders: Vec::new(),
            processes: 0,
            seed,
            expired: BTreeSet::new(),
            told: BTreeSet::new(),
            behind: BTreeSet::new(),
            outcome: Outcome::default(),
            trace: DefaultHasher::new(),
        };
        for _ in 0..=world.dice.below(3) {
            world.join(None);
        }
        world.at(0, Event::Readable);
        world.at(0, Event::Beat);
        world.at(500 * MILLI, Event::Mischief);
        world
    }

    pub fn run(mut self) -> Result<Outcome, String> {
        let (mut last, mut at_once) = (0, 0);
        loop {
            self.pump()?;
            let event_at = self.queue.peek().map(|Reverse((at, _, _))| *at);
            let timer = (0_usize..)
                .zip(&self.forwarders)
                .filter_map(|(index, forwarder)| {
                    forwarder.wake_at().map(|(at, plane)| (at.max(self.now), index, plane))
                })
                .min();
            let Some(next) = [event_at, timer.map(|(at, ..)| at)].into_iter().flatten().min() else {
                return Err("nothing will ever happen again".into());
            };
            at_once = if next == last { at_once + 1 } else { 0 };
            if at_once > STEPS_AT_ONCE_MAX {
                return Err("the clock stands still: a loop without progress".into());
            }
            last = next;
            self.now = next;
            match timer {
                Some((at, index, plane)) if at == next && event_at != Some(next) => {
                    let forwarder = &mut self.forwarders[index];
                    if plane == CONTROL {
                        forwarder.lease.handle_timeout(Instant(next));
                    } else {
                        forwarder.pipeline.handle_timeout(Instant(next));
                    }
                }
                _ => {
                    if let Some(Reverse((_, _, at))) = self.queue.pop()
                        && let Some(event) = self.events[at].take()
                    {
                        self.handle(event)?;
                    }
                }
            }
            self.laws()?;
            if self.now > STORM {
                self.dice.on = false;
                if self.forwarders.iter().all(|forwarder| forwarder.stopping) {
                    self.join(None);
                }
                if self.is_done() {
                    return self.finish();
                }
            }
            if self.now > STORM + CALM_MAX {
                return Err(format!("not done in time: {}", self.what_is_left()));
            }
        }
    }

    // ---- what happens ----

    fn handle(&mut self, event: Event) -> Result<(), String> {
        if let Some((process, plane)) = event.of() {
            let Some(forwarder) = self.forwarders.iter().find(|forwarder| forwarder.process == process)
            else {
                return Ok(());
            };
            let frozen = forwarder.frozen[plane];
            if frozen > self.now {
                // In the same order, when it wakes up.
                self.at(frozen - self.now, event);
                return Ok(());
            }
        }
        if self.loud {
            let mut text = format!("{event:?}");
            text.truncate(140);
            eprintln!("{:>9} ms      {text}", self.now / MILLI);
        }
        let now = Instant(self.now);
        std::mem::discriminant(&event).hash(&mut self.trace);
        self.now.hash(&mut self.trace);
        match event {
            Event::Connected(of, conn) => {
                self.plane(of, Some(conn), |f| f.pipeline.handle_connected(now, conn));
            }
            Event::Closed(of, conn, kind) => self.plane(of, Some(conn), |f| {
                f.links.remove(&conn);
                f.pipeline.handle_closed(now, conn, Closed { kind, detail: "simulated".into() });
            }),
            Event::ToClient(of, conn, bytes) => {
                self.plane(of, Some(conn), |f| f.pipeline.handle_received(now, conn, &bytes));
            }
            Event::Routes(of, endpoint, failed) => {
                let routes = if failed {
                    Err("no such host".into())
                } else {
                    Ok(vec![RouteId(u32::from(endpoint.0))])
                };
                self.plane(of, None, |f| f.pipeline.handle_routes(now, endpoint, routes));
            }
            Event::Command(of, command) => self.plane(of, None, |f| f.handle_command(now, command)),
            Event::Report(of, report) => self.plane(of, None, |f| f.lease.handle_report(now, report)),
            Event::Reply(of, id, result) => self.plane(of, None, |f| f.handle_reply(now, id, result)),
            Event::ToServer(of, conn, bytes) => self.serve(of, conn, &bytes)?,
            Event::Call(of, id, call, answered) => {
                let result = self.serve_call(of, &call)?;
                if answered {
                    let wait = self.latency();
                    self.at(wait, Event::Reply(of, id, result));
                }
            }
            Event::Beat => {
                for forwarder in self.forwarders.iter_mut().filter(|f| f.frozen[DATA] <= self.now) {
                    forwarder.pipeline.handle_beat(now);
                }
                self.at(BEAT, Event::Beat);
            }
            Event::Readable => {
                for (shard, (_, _, readonly)) in self.sls.shards.iter_mut().zip(&self.shape) {
                    let more = usize::try_from(self.dice.below(6)).unwrap();
                    shard.readable = if *readonly {
                        shard.groups.len()
                    } else {
                        (shard.readable + more).min(shard.groups.len())
                    };
                }
                let wait = 100 + self.dice.below(4_000);
                self.at(wait * MILLI, Event::Readable);
            }
            Event::Mischief => self.mischief(),
        }
        Ok(())
    }

    /// Something for one process, if it still lives and still has the connection.
    fn plane(&mut self, process: u64, conn: Option<ConnId>, act: impl FnOnce(&mut Forwarder)) {
        let found = self.forwarders.iter_mut().find(|forwarder| forwarder.process == process);
        if let Some(forwarder) = found.filter(|f| conn.is_none_or(|conn| f.links.contains_key(&conn))) {
            act(forwarder);
        }
    }

    /// Everything that the forwarders want done now.
    fn pump(&mut self) -> Result<(), String> {
        let mut index = 0;
        while index < self.forwarders.len() {
            let forwarder = &mut self.forwarders[index];
            let (process, now) = (forwarder.process, Instant(self.now));
            let awake = |plane: usize| forwarder.frozen[plane] <= self.now;
            let (control, data) = (awake(CONTROL), awake(DATA));
            let mut calls = Vec::new();
            let (mut commands, mut news, mut reports, mut actions) =
                (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            if control {
                while let Some(call) = forwarder.lease.poll_call(now) {
                    calls.push(call);
                }
                commands.extend(std::iter::from_fn(|| forwarder.lease.poll_command()));
                news.extend(std::iter::from_fn(|| forwarder.lease.poll_event()));
            }
            if data {
                reports.extend(std::iter::from_fn(|| forwarder.pipeline.poll_report()));
                actions.extend(std::iter::from_fn(|| forwarder.pipeline.poll_action()));
            }
            let quiet = calls.is_empty() && commands.is_empty() && reports.is_empty() && actions.is_empty();
            for (id, call) in calls {
                self.send(process, id, call)?;
            }
            for command in commands {
                // The way between the planes keeps the order: one thread, one queue.
                self.at(MILLI / 10, Event::Command(process, command));
            }
            for event in news {
                self.note(&event);
                laws::nothing_old_counts(&mut self.forwarders[index], now.0, &event)?;
            }
            for report in reports {
                self.at(MILLI / 10, Event::Report(process, report));
            }
            for action in actions {
                self.act(index, action)?;
            }
            if self.forwarders[index].lease.outcome().is_some() {
                self.end(index)?;
            } else if quiet {
                index += 1;
            }
        }
        Ok(())
    }

    fn note(&mut self, event: &LeaseEvent) {
        if self.loud {
            eprintln!("{:>9} ms  {event:?}", self.now / MILLI);
        }
        match event {
            LeaseEvent::RetentionGap { shard, .. } => {
                self.told.insert(shard.0);
                self.outcome.gaps += 1;
            }
            LeaseEvent::CheckpointRefused { .. } => self.outcome.conflicts += 1,
            LeaseEvent::LeaseExpired { .. } => self.outcome.expired_leases += 1,
            _ => {}
        }
    }

    /// A process that was stopped has ended.
    fn end(&mut self, index: usize) -> Result<(), String> {
        let forwarder = self.forwarders.remove(index);
        let chances = &self.chances;
        let faults =
            [chances.call_lost, chances.reply_lost, chances.call_slow].into_iter().any(Chance::is_on);
        let faults = faults || self.plan.hec_hang.is_on() || self.plan.hec_busy.is_on();
        match forwarder.lease.outcome() {
            Some(LeaseOutcome::Drained) => {
                let out = forwarder.flow.bodies.used() + forwarder.flow.frames.used();
                if out > 0 {
                    return Err(format!("{}: drained with {out} bytes of credit still out", forwarder.name));
                }
            }
            Some(LeaseOutcome::Undrained { .. }) if faults => {}
            other if self.outcome.freezes + self.dice.struck == 0 => {
                return Err(format!("{}: a polite stop ended with {other:?}", forwarder.name));
            }
            _ => {}
        }
        Ok(())
    }

    // ---- the network ----

    fn act(&mut self, index: usize, action: Action) -> Result<(), String> {
        let process = self.forwarders[index].process;
        match action {
            Action::Connect { conn, to } => {
                let refused = self.dice.strike(self.plan.connect_refused);
                let link = Link {
                    to,
                    inbox: Vec::new(),
                    to_server_at: 0,
                    to_client_at: 0,
                    dead: refused,
                    begun: VecDeque::new(),
                };
                self.forwarders[index].links.insert(conn, link);
                let event = if refused {
                    Event::Closed(process, conn, ClosedKind::Connect)
                } else {
                    Event::Connected(process, conn)
                };
                let delay = 1 + self.dice.below(20);
                self.at(delay * MILLI, event);
            }
            Action::Transmit(conn) => return self.transmit(index, conn),
            Action::Close(conn) => drop(self.forwarders[index].links.remove(&conn)),
            Action::Finish(_) | Action::Measure(_) | Action::DeadLetter(_) => {
                return Err(format!("nobody can ask for this here: {action:?}"));
            }
            Action::Resolve(endpoint) => {
                let failed = self.dice.strike(self.plan.resolve_error);
                self.at(5 * MILLI, Event::Routes(process, endpoint, failed));
            }
        }
        Ok(())
    }

    fn transmit(&mut self, index: usize, conn: ConnId) -> Result<(), String> {
        let (now, process) = (Instant(self.now), self.forwarders[index].process);
        loop {
            let forwarder = &mut self.forwarders[index];
            let Some(chunk) = forwarder.pipeline.poll_transmit(now, conn) else { return Ok(()) };
            let length = if self.dice.below(3) == 0 {
                1 + usize::try_from(self.dice.below(chunk.len() as u64)).unwrap()
            } else {
                chunk.len()
            };
            let bytes = chunk[..length].to_vec();
            // A poll may be cut before its path tells it apart: the whole of what is to be written does.
            let is_event =
                chunk.starts_with(b"POST ") && !chunk.windows(9).any(|window| window == b"/ack HTTP");
            forwarder.pipeline.handle_transmitted(now, conn, length);
            let Some(link) = forwarder.links.get_mut(&conn) else { continue };
            let to_sink = matches!(link.to, To::Sink(_));
            if to_sink && is_event && forwarder.lease_until <= self.now {
                return Err(format!(
                    "{} begins a request although its lease ended {} ms ago",
                    forwarder.name,
                    (self.now - forwarder.lease_until) / MILLI
                ));
            }
            if to_sink && is_event {
                link.begun.push_back(forwarder.orders);
            }
            let stuck = if self.dice.strike(self.plan.net_slow / 8) { self.dice.below(3_000) } else { 0 };
            let at = link.to_server_at.max(self.now + 1 + (self.dice.below(5) + stuck) * MILLI);
            link.to_server_at = at + 1;
            self.at(at - self.now, Event::ToServer(process, conn, bytes));
        }
    }

    /// A server reads what came. What is on its way arrives although its sender is frozen, or dead.
    fn serve(&mut self, process: u64, conn: ConnId, bytes: &[u8]) -> Result<(), String> {
        let Some(index) = self.forwarders.iter().position(|forwarder| forwarder.process == process) else {
            return Ok(());
        };
        let Some(link) = self.forwarders[index].links.get_mut(&conn).filter(|link| !link.dead) else {
            return Ok(());
        };
        link.inbox.extend_from_slice(bytes);
        if self.dice.strike(self.plan.reset / 20) {
            link.dead = true;
            self.at(MILLI, Event::Closed(process, conn, ClosedKind::Reset));
            return Ok(());
        }
        while let Some(link) = self.forwarders[index].links.get_mut(&conn)
            && !link.dead
            && let Some(request) = net::take_request(&mut link.inbox)
        {
            let begun = request.path.ends_with("/event").then(|| link.begun.pop_front()).flatten();
            let answer = match link.to {
                To::Sink(route) => {
                    laws::not_of_a_lost_shard(&self.forwarders[index], &request, begun)?;
                    self.hecs[route.0 as usize].answer(self.now, &request, &self.plan, &mut self.dice)
                }
                _ => self.pull(&request),
            };
            self.answer(index, conn, answer);
        }
        Ok(())
    }

    fn pull(&mut self, request: &net::Request) -> Answer {
        let shard: usize = request.path.rsplit('/').next().unwrap().parse().unwrap();
        let from = request.query("cursor").and_then(|cursor| self.sls.group(&cursor));
        if from.is_some_and(|from| from < self.shape[shard].1) {
            let body = br#"{"errorCode":"InvalidCursor","errorMessage":"expired"}"#.to_vec();
            return Answer::new(400, &[("x-log-requestid", "S3")], body);
        }
        self.sls.answer(request, &self.plan, &mut self.dice)
    }

    fn answer(&mut self, index: usize, conn: ConnId, answer: Answer) {
        let forwarder = &mut self.forwarders[index];
        let process = forwarder.process;
        let Some(link) = forwarder.links.get_mut(&conn) else { return };
        link.dead = answer.hang || answer.torn || answer.close;
        let mut bytes = answer.bytes;
        if answer.torn {
            bytes.truncate(usize::try_from(self.dice.below(bytes.len() as u64)).unwrap());
        }
        let at = link.to_client_at.max(self.now + answer.late + MILLI * (1 + self.dice.below(30)));
        link.to_client_at = at + 2;
        if !bytes.is_empty() {
            self.at(at - self.now, Event::ToClient(process, conn, bytes));
        }
        if answer.torn || answer.close {
            let kind = if answer.torn { ClosedKind::Reset } else { ClosedKind::Eof };
            self.at(at + 1 - self.now, Event::Closed(process, conn, kind));
        }
    }

    fn at(&mut self, wait: u64, event: Event) {
        self.seq += 1;
        self.queue.push(Reverse((self.now + wait, self.seq, self.events.len())));
        self.events.push(Some(event));
    }
}
