//! The virtual world: a clock, a network, one forwarder after another, SLS and two indexers or syslog receivers.

mod mischief;
mod servers;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::rc::Rc;

use sls2siem::proto::event::{Action, Closed, ClosedKind, Command, Ledger, Report, To};
use sls2siem::proto::flow::Flow;
use sls2siem::proto::ids::{ConnId, Cursor, EndpointId, Epoch, LetterId, RouteId, ShardId};
use sls2siem::proto::pipeline::Pipeline;
use sls2siem::proto::time::Instant;

use crate::faults::{Dice, Plan};
use crate::forwarder::{Kind, new_pipeline};
use crate::hec::Hec;
use crate::laws;
use crate::records;
use crate::sls::Sls;
use crate::syslog::Receiver;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLI;
/// As the drivers beat.
const BEAT: u64 = 200 * MILLI;
/// Faults strike for this long.
const STORM: u64 = 90 * SECOND;
/// After the storm everything has to be done within this time: ack time-outs take 300 s, several in a row.
const CALM_MAX: u64 = 3 * 3_600 * SECOND;
/// After an answer that SLS is in trouble it is left alone for at least so long.
const PAUSE_MIN: u64 = 100 * MILLI;
/// A record that is stored so often, on the average, comes for ever.
const TIMES_MAX: u64 = 50;
/// Events at one instant before it counts as a loop.
const STEPS_AT_ONCE_MAX: u32 = 50_000;

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub records: u64,
    pub stored: u64,
    pub duplicates: u64,
    pub out_of_order: u64,
    pub faults: BTreeMap<&'static str, u64>,
    pub crashes: u64,
    pub letters: u64,
    /// Virtual seconds until everything had arrived.
    pub seconds: u64,
    pub trace: u64,
}

impl Outcome {
    pub fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.stored += other.stored;
        self.duplicates += other.duplicates;
        self.out_of_order += other.out_of_order;
        for (kind, count) in &other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        self.crashes += other.crashes;
        self.letters += other.letters;
        self.seconds = self.seconds.max(other.seconds);
    }
}

#[derive(Debug)]
enum Event {
    Connected(u64, ConnId),
    Closed(u64, ConnId, ClosedKind),
    ToServer(u64, ConnId, Vec<u8>),
    /// The driver has sent our FIN; it reaches the server.
    Finished(u64, ConnId),
    Fin(u64, ConnId),
    /// The driver has looked how far the bytes of a connection have come.
    Measured(u64, ConnId),
    /// A receiver's process looks at a connection.
    Reads(u64, ConnId),
    ToClient(u64, ConnId, Vec<u8>),
    Routes(u64, EndpointId, bool),
    Readable,
    /// The driver's heartbeat.
    Beat,
    Mischief,
    Assign(u64, u32),
    /// A record is on its way to the disk: its answer, and whether the disk is full.
    Letter(u64, LetterId, Vec<u8>, bool),
}

/// A connection as the network sees it.
struct Link {
    to: To,
    /// Bytes that we have written on it, a FIN counted as one, and those that the peer's kernel has.
    written: u64,
    acked: u64,
    inbox: Vec<u8>,
    to_server_at: u64,
    /// What its way costs more than that of others.
    detour: u64,
    to_client_at: u64,
    /// The server is done with it.
    dead: bool,
}

impl Link {
    /// How far its bytes have come, as the driver measures it.
    fn ledger(&self) -> Ledger {
        Ledger { sealed: self.written, written: self.written, unacked: self.written - self.acked }
    }
}

/// An error that answered a pull.
struct Refused {
    at: u64,
    conn: ConnId,
    /// Some of it has come.
    is_told: bool,
}

pub struct World {
    now: u64,
    loud: bool,
    plan: Plan,
    is_calm: bool,
    dice: Dice,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<Event>>,
    seq: u64,
    sls: Sls,
    kind: Kind,
    hecs: Vec<Hec>,
    receivers: Vec<Receiver>,
    stored: BTreeSet<(u32, u64)>,
    /// Stored, or safe in the dead letter.
    handled: BTreeSet<(u32, u64)>,
    letters: u64,
    counted: Vec<usize>,
    /// Everything in the order in which the servers took it, whichever did, and how far each was looked at.
    taken: Vec<(u32, u64)>,
    taken_of: [usize; 2],
    links: BTreeMap<ConnId, Link>,
    flow: Rc<Flow>,
    pipeline: Pipeline,
    /// Which process this is: events of an earlier one are not heard.
    process: u64,
    epochs: BTreeMap<u32, u64>,
    /// Shards that were called back.
    revoked: BTreeSet<u32>,
    /// When SLS said no to pulls of a shard.
    refused: BTreeMap<String, Refused>,
    crashes: u64,
    trace: DefaultHasher,
    seed: u64,
}

impl World {
    pub fn new(seed: u64, loud: bool) -> Self {
        let mut dice = Dice::new(seed);
        let mut plan_dice = sls2siem::proto::rng::Rng::new(seed ^ 0xfa17);
        let plan = Plan::random(&mut plan_dice);
        Self::with(seed, loud, plan, &mut dice)
    }

    /// A world where nothing fails.
    pub fn calm(seed: u64) -> Self {
        let mut world = Self::with(seed, false, Plan::default(), &mut Dice::new(seed));
        world.is_calm = true;
        world
    }

    fn with(seed: u64, loud: bool, plan: Plan, dice: &mut Dice) -> Self {
        let sls = Sls::new(dice);
        let acks = dice.below(4) > 0;
        let flow = Flow::new(40_000 + dice.below(400_000));
        let kind = Kind::of(seed);
        let pipeline = new_pipeline(seed, kind, Rc::clone(&flow), 0);
        let mut world = Self {
            now: SECOND,
            loud,
            plan,
            is_calm: false,
            dice: Dice::new(dice.next_u64()),
            queue: BinaryHeap::new(),
            events: Vec::new(),
            seq: 0,
            sls,
            kind,
            hecs: vec![Hec::new(acks), Hec::new(acks)],
            receivers: [(); 2].map(|()| Receiver::new(kind == Kind::Relp)).into(),
            stored: BTreeSet::new(),
            handled: BTreeSet::new(),
            letters: 0,
            counted: vec![0, 0],
            taken: Vec::new(),
            taken_of: [0; 2],
            links: BTreeMap::new(),
            flow,
            pipeline,
            process: 0,
            epochs: BTreeMap::new(),
            revoked: BTreeSet::new(),
            refused: BTreeMap::new(),
            crashes: 0,
            trace: DefaultHasher::new(),
            seed,
        };
        world.start_process();
        world.at(0, Event::Readable);
        world.at(0, Event::Beat);
        world.at(500 * MILLI, Event::Mischief);
        world
    }

    pub fn run(mut self) -> Result<Outcome, String> {
        let mut last = 0;
        let mut at_once = 0;
        loop {
            self.pump()?;
            let event_at = self.queue.peek().map(|Reverse((at, _, _))| *at);
            let timer_at = self.pipeline.poll_timeout().map(|at| at.0.max(self.now));
            let Some(next) = [event_at, timer_at].into_iter().flatten().min() else {
                return Err("nothing will ever happen again".into());
            };
            at_once = if next == last { at_once + 1 } else { 0 };
            if at_once > STEPS_AT_ONCE_MAX {
                return Err("the clock stands still: a loop without progress".into());
            }
            last = next;
            self.now = next;
            if timer_at == Some(next) && event_at != Some(next) {
                self.pipeline.handle_timeout(Instant(self.now));
            } else if let Some(Reverse((_, _, at))) = self.queue.pop()
                && let Some(event) = self.events[at].take()
            {
                self.handle(event)?;
            }
            self.laws()?;
            let calm = !self.dice.on || self.dice.struck == 0;
            let over = self.sls.shards.iter().all(|shard| shard.checkpoint == shard.groups.len());
            if over && calm && laws::all_arrived(&self.sls, &self.handled).is_ok() {
                return self.finish();
            }
            if self.now > STORM {
                self.dice.on = false;
            }
            if self.now > STORM + CALM_MAX {
                let missing = laws::all_arrived(&self.sls, &self.handled).err().unwrap_or_default();
                return Err(format!("not done in time: {missing}"));
            }
        }
    }

    /// The last law: after a polite stop nothing holds memory.
    fn finish(mut self) -> Result<Outcome, String> {
        self.pipeline.handle_command(Instant(self.now), Command::Stop);
        let seconds = self.now / SECOND;
        let end = self.now + 3_600 * SECOND;
        while !self.pipeline.is_stopped() {
            self.pump()?;
            let event_at = self.queue.peek().map(|Reverse((at, _, _))| *at);
            let timer_at = self.pipeline.poll_timeout().map(|at| at.0.max(self.now));
            let Some(next) = [event_at, timer_at].into_iter().flatten().min() else { break };
            self.now = next;
            if self.now > end {
                break;
            }
            if timer_at == Some(next) {
                self.pipeline.handle_timeout(Instant(self.now));
            } else if let Some(Reverse((_, _, at))) = self.queue.pop()
                && let Some(event) = self.events[at].take()
            {
                self.handle(event)?;
            }
        }
        if !self.pipeline.is_stopped() {
            return Err("it does not stop when asked to".into());
        }
        let (bodies, frames) = (self.flow.bodies.used(), self.flow.frames.used());
        if (bodies, frames) != (0, 0) {
            return Err(format!(
                "credit is not balanced: {bodies} bytes of bodies, {frames} of frames are still out"
            ));
        }
        let all = match self.kind {
            Kind::Hec => self.hecs.iter().map(|hec| hec.stored.len()).sum::<usize>(),
            Kind::Drain | Kind::Relp => self.receivers.iter().map(|receiver| receiver.stored.len()).sum(),
        };
        let duplicates = (all - self.stored.len()) as u64;
        Ok(Outcome {
            records: self.sls.records(),
            stored: self.stored.len() as u64,
            duplicates,
            out_of_order: disorder(&self.taken),
            faults: self.dice.by_kind,
            crashes: self.crashes,
            letters: self.letters,
            seconds,
            trace: self.trace.finish(),
        })
    }

    fn laws(&mut self) -> Result<(), String> {
        let lists: Vec<&[(u32, u64)]> = match self.kind {
            Kind::Hec => self.hecs.iter().map(|hec| hec.stored.as_slice()).collect(),
            Kind::Drain | Kind::Relp => {
                self.receivers.iter().map(|receiver| receiver.stored.as_slice()).collect()
            }
        };
        for (stored, counted) in lists.into_iter().zip(&mut self.counted) {
            self.stored.extend(stored[*counted..].iter().copied());
            self.handled.extend(stored[*counted..].iter().copied());
            *counted = stored.len();
        }
        for (at, seen) in self.taken_of.iter_mut().enumerate() {
            let taken = match self.kind {
                Kind::Hec => &self.hecs[at].taken,
                Kind::Drain | Kind::Relp => &self.receivers[at].stored,
            };
            self.taken.extend(taken.iter().skip(*seen));
            *seen = taken.len();
        }
        let all: u64 = self.counted.iter().map(|count| *count as u64).sum();
        if all > TIMES_MAX * (self.sls.records() + 100) {
            return Err(format!("the same records come for ever: {all} are stored"));
        }
        // One frame and one body may pass the bound: the first one is always let in.
        let slack = 200_000;
        for budget in [&self.flow.bodies, &self.flow.frames] {
            if budget.used() > budget.limit() + slack {
                return Err(format!("{} bytes out of {}", budget.used(), budget.limit()));
            }
        }
        Ok(())
    }

    fn pump(&mut self) -> Result<(), String> {
        loop {
            if let Some(report) = self.pipeline.poll_report() {
                self.report(report)?;
                continue;
            }
            let Some(action) = self.pipeline.poll_action() else { return Ok(()) };
            if self.loud {
                eprintln!("{:>9} ms  {action:?}", self.now / MILLI);
            }
            self.act(action)?;
        }
    }

    fn act(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Connect { conn, to } => {
                let refused = self.dice.strike(self.plan.connect_refused);
                let event = if refused {
                    Event::Closed(self.process, conn, ClosedKind::Connect)
                } else {
                    Event::Connected(self.process, conn)
                };
                // Where nothing fails, that is what makes one connection overtake another.
                let detour = if self.is_calm && self.dice.below(3) == 0 { self.dice.below(60) } else { 0 };
                self.links.insert(
                    conn,
                    Link {
                        to,
                        written: 0,
                        acked: 0,
                        inbox: Vec::new(),
                        to_server_at: 0,
                        detour,
                        to_client_at: 0,
                        dead: refused,
                    },
                );
                let delay = 1 + self.dice.below(20);
                self.at(delay * MILLI, event);
            }
            Action::Transmit(conn) => return self.transmit(conn),
            Action::Finish(conn) => self.at(MILLI, Event::Finished(self.process, conn)),
            Action::Measure(conn) => {
                let wait = self.dice.below(3) * MILLI;
                self.at(wait, Event::Measured(self.process, conn));
            }
            Action::Close(conn) => {
                self.links.remove(&conn);
                // Whoever hangs up does not hear the answer that is on its way.
                self.refused.retain(|_, refused| refused.conn != conn || refused.is_told);
            }
            Action::DeadLetter(letter) => {
                let full = self.dice.strike(self.plan.disk_full);
                let wait = self.dice.below(50) * MILLI;
                self.at(wait, Event::Letter(self.process, letter.id, letter.bytes, full));
            }
            Action::Resolve(endpoint) => {
                let failed = self.dice.strike(self.plan.resolve_error);
                self.at(5 * MILLI, Event::Routes(self.process, endpoint, failed));
            }
        }
        Ok(())
    }

    fn transmit(&mut self, conn: ConnId) -> Result<(), String> {
        while let Some(chunk) = self.pipeline.poll_transmit(Instant(self.now), conn) {
            laws::nothing_new_after_revoke(chunk, &self.revoked)?;
            let length = if self.dice.below(3) == 0 {
                1 + usize::try_from(self.dice.below(chunk.len() as u64)).unwrap()
            } else {
                chunk.len()
            };
            let bytes = chunk[..length].to_vec();
            self.pipeline.handle_transmitted(Instant(self.now), conn, length);
            let Some(link) = self.links.get_mut(&conn) else { continue };
            link.written += length as u64;
            let stuck = if self.dice.strike(self.plan.net_slow / 8) { self.dice.below(3_000) } else { 0 };
            let at = link.to_server_at.max(self.now + 1 + (self.dice.below(5) + link.detour + stuck) * MILLI);
            link.to_server_at = at + 1;
            let process = self.process;
            self.at(at - self.now, Event::ToServer(process, conn, bytes));
        }
        Ok(())
    }

    #[expect(clippy::too_many_lines, reason = "one arm per event")]
    fn handle(&mut self, event: Event) -> Result<(), String> {
        if self.loud {
            let mut text = format!("{event:?}");
            text.truncate(100);
            eprintln!("{:>9} ms      {text}", self.now / MILLI);
        }
        let now = Instant(self.now);
        std::mem::discriminant(&event).hash(&mut self.trace);
        self.now.hash(&mut self.trace);
        match event {
            Event::Connected(process, conn) => {
                if process == self.process && self.links.contains_key(&conn) {
                    self.pipeline.handle_connected(now, conn);
                }
            }
            Event::Closed(process, conn, kind) => {
                if process == self.process
                    && let Some(link) = self.links.remove(&conn)
                {
                    if link.to == To::Source {
                        // The answer may not have come so far.
                        self.refused.clear();
                    }
                    if kind != ClosedKind::Connect {
                        self.pipeline.handle_ledger(now, conn, link.ledger());
                    }
                    let why = Closed { kind, detail: "simulated".into() };
                    self.pipeline.handle_closed(now, conn, why);
                }
            }
            Event::Finished(process, conn) => {
                if process == self.process
                    && let Some(link) = self.links.get_mut(&conn)
                {
                    link.written += 1;
                    let at = link.to_server_at.max(self.now + 1);
                    self.pipeline.handle_finished(now, conn);
                    self.at(at - self.now, Event::Fin(process, conn));
                }
            }
            Event::Measured(process, conn) => {
                if process == self.process
                    && let Some(link) = self.links.get(&conn)
                {
                    self.pipeline.handle_ledger(now, conn, link.ledger());
                }
            }
            Event::Fin(process, conn) => {
                if process == self.process {
                    self.reach(conn, None);
                }
            }
            Event::Reads(process, conn) => {
                if process == self.process {
                    self.receiver_reads(conn);
                }
            }
            Event::ToClient(process, conn, bytes) => {
                if process == self.process && self.links.contains_key(&conn) {
                    for refused in self.refused.values_mut().filter(|refused| refused.conn == conn) {
                        refused.is_told = true;
                    }
                    self.pipeline.handle_received(now, conn, &bytes);
                }
            }
            Event::ToServer(process, conn, bytes) => {
                if process == self.process {
                    self.serve(conn, &bytes)?;
                }
            }
            Event::Routes(process, endpoint, failed) => {
                if process == self.process {
                    let routes = if failed {
                        Err("no such host".into())
                    } else {
                        Ok(vec![RouteId(u32::from(endpoint.0))])
                    };
                    self.pipeline.handle_routes(now, endpoint, routes);
                }
            }
            Event::Letter(process, id, bytes, full) => {
                // What a process that has died had posted may be on disk or not; nobody counts on it.
                if process == self.process {
                    if !full {
                        self.letters += 1;
                        self.handled.extend(records::numbers(&bytes));
                    }
                    let result = if full { Err("no space left on device".into()) } else { Ok(()) };
                    self.pipeline.handle_letter(now, id, result);
                }
            }
            Event::Beat => {
                self.pipeline.handle_beat(Instant(self.now));
                self.at(BEAT, Event::Beat);
            }
            Event::Readable => {
                for shard in &mut self.sls.shards {
                    let more = usize::try_from(self.dice.below(8)).unwrap();
                    shard.readable = (shard.readable + more).min(shard.groups.len());
                }
                if self.sls.shards.iter().any(|shard| shard.readable < shard.groups.len()) {
                    let wait = self.dice.below(4_000);
                    self.at(wait * MILLI, Event::Readable);
                }
            }
            Event::Mischief => self.mischief(),
            Event::Assign(process, shard) => {
                if process == self.process {
                    self.assign(shard);
                }
            }
        }
        Ok(())
    }

    /// What the control plane would do with a report.
    fn report(&mut self, report: Report) -> Result<(), String> {
        if self.loud {
            eprintln!("{:>9} ms  report {report:?}", self.now / MILLI);
        }
        match report {
            Report::Safe { shard, epoch, cursor, .. } => {
                let group = self.sls.group(cursor.as_str()).ok_or("a safe cursor that SLS never gave")?;
                self.laws()?;
                laws::committed_is_stored(&self.sls, shard.0, group, &self.handled)?;
                let held = &mut self.sls.shards[shard.0 as usize];
                if self.epochs.get(&shard.0) == Some(&epoch.0) {
                    if group < held.checkpoint {
                        return Err(format!(
                            "shard {shard}: the safe cursor went back from {} to {group}",
                            held.checkpoint
                        ));
                    }
                    held.checkpoint = group;
                }
            }
            Report::Drained { shard, epoch } => {
                if self.epochs.get(&shard.0) == Some(&epoch.0) {
                    let wait = self.dice.below(3_000);
                    self.at(wait * MILLI, Event::Assign(self.process, shard.0));
                }
            }
            Report::CursorExpired { shard, .. } => {
                return Err(format!("shard {shard}: a cursor was refused"));
            }
            Report::Dropped { shard, .. } => {
                return Err(format!("shard {shard}: dropped, although nobody spoke of a lease"));
            }
            Report::Alarm(_) | Report::Notice(_) | Report::Clear { .. } | Report::Stopped => {}
        }
        Ok(())
    }

    fn assign(&mut self, shard: u32) {
        let epoch = self.epochs.entry(shard).or_default();
        *epoch += 1;
        let cursor = Cursor::new(&self.sls.cursor(self.sls.shards[shard as usize].checkpoint));
        self.revoked.remove(&shard);
        // Whoever takes it over knows nothing of the trouble.
        self.refused.clear();
        let command = Command::Assign { shard: ShardId(shard), epoch: Epoch(*epoch), cursor, end: None };
        self.pipeline.handle_command(Instant(self.now), command);
    }

    fn at(&mut self, wait: u64, event: Event) {
        self.seq += 1;
        self.queue.push(Reverse((self.now + wait, self.seq, self.events.len())));
        self.events.push(Some(event));
    }
}

/// Records of a shard that came for the first time after a later one.
fn disorder(taken: &[(u32, u64)]) -> u64 {
    let mut seen = BTreeSet::new();
    let mut highest: BTreeMap<u32, u64> = BTreeMap::new();
    let mut count = 0;
    for record in taken {
        if seen.insert(*record) {
            let high = highest.entry(record.0).or_default();
            count += u64::from(record.1 < *high);
            *high = (*high).max(record.1);
        }
    }
    count
}
