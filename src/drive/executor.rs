//! One executor: a pinned thread with many pipelines, one heartbeat and one inbox.
//!
//! Why: a shard lives on one thread from its pull to its acknowledgement; nothing is shared between threads but
//! messages. glommio 0.9.0 needs guards to run for months (`design`: preempt timer, heartbeat, small rings).
//! Invariants: 1. every task is counted by the gate, none is cancelled. 2. the heartbeat timer always stands,
//!  so no sleep is longer than [`BEAT`].
//! Bounds: [`BUFFERS_KEPT`] write buffers are kept; orders are few and small.
//! Driven by: `Executors` through [`Order`]s.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use glommio::timer::Timer;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};

use super::conn::Scratch;
use super::core::Core;
use super::pump::{Copies, Pump, Reports};
use super::resolve::Resolver;
use super::wait::{self, Breath, Flag, Gate};
use super::watchdog::Pulse;
use super::{ExecutorIndex, MakeCore, PipelineId, Seed, Snapshot, Target, clock, tls};
use crate::dead_letter::Mailbox;
use crate::proto::event::{Action, Command};
use crate::proto::flow::Memory;
use crate::proto::ids::{EndpointId, LetterId};
use crate::proto::tap;

/// Pause between two heartbeats.
pub(crate) const BEAT: Duration = Duration::from_millis(200);
/// Heartbeats between two readings of the wall clock for the core.
const BEATS_PER_WALL_CLOCK: u64 = 5;
const BUFFERS_KEPT: usize = 8;
/// Larger buffers are not kept.
const BUFFER_BYTES_KEPT: usize = 512 * 1024;
/// glommio registers this much with each of its three rings; sockets need none of it.
const IO_MEMORY_BYTES: usize = 65_536;
/// glommio can park for ever when this timer fires between two steps of its loop, so it never does.
const PREEMPT_TIMER: Duration = Duration::from_hours(1);

/// A message to an executor.
pub(crate) enum Order {
    /// Put a pipeline to work.
    Open(Box<Opening>),
    /// End the connections of a pipeline and forget it.
    Close(PipelineId),
    /// A command for one pipeline.
    Command(PipelineId, Command),
    /// What became of a record that was given to the dead letter.
    Letter(PipelineId, LetterId, Result<(), String>),
    /// An endpoint's TLS settings were read again.
    Tls(PipelineId, EndpointId, Box<tls::Client>),
    /// Copies of a pipeline's frames are wanted here.
    Tap(PipelineId, tap::Params, Copies),
    /// Send a snapshot here at every heartbeat.
    Watch(async_channel::Sender<Arc<Snapshot>>),
    /// End all connections, then the executor.
    Shutdown,
}

/// A pipeline, as it travels to its executor.
pub(crate) struct Opening {
    pub(crate) id: PipelineId,
    pub(crate) make: MakeCore,
    pub(crate) source: Target,
    pub(crate) endpoints: Vec<Target>,
    pub(crate) reports: Reports,
    pub(crate) mailbox: Option<Mailbox>,
}

/// What all tasks of one executor share.
pub(crate) struct Room {
    pub(crate) index: ExecutorIndex,
    pub(crate) gate: Rc<Gate>,
    pub(crate) breath: Breath,
    pub(crate) memory: Memory,
    pub(crate) resolver: Resolver,
    pub(crate) stopping: Cell<bool>,
    /// Releases of memory that were passed on.
    pub(crate) releases: Cell<u64>,
    /// Memory came back; some shard may have been refused it before.
    pub(crate) freed: Flag,
    pub(crate) scratch: Cell<Option<Scratch>>,
    pub(crate) buffers: RefCell<Vec<Vec<u8>>>,
    pub(crate) actions: Cell<Vec<Action>>,
    /// The way back to this executor for threads that answer it; weak, so that the inbox still ends.
    pub(crate) orders: async_channel::WeakSender<Order>,
    pumps: RefCell<Vec<Rc<Pump>>>,
    /// Of pipelines that are not here yet: the admin page is up before they are.
    early_taps: RefCell<Vec<(PipelineId, tap::Params, Copies)>>,
    watchers: RefCell<Vec<async_channel::Sender<Arc<Snapshot>>>>,
}

impl Room {
    /// Keeps a write buffer for the next writer.
    pub(crate) fn give_back(&self, buffer: Vec<u8>) {
        let mut buffers = self.buffers.borrow_mut();
        if buffers.len() < BUFFERS_KEPT && buffer.capacity() <= BUFFER_BYTES_KEPT {
            buffers.push(buffer);
        }
    }

    fn pump(&self, id: PipelineId) -> Option<Rc<Pump>> {
        self.pumps.borrow().iter().find(|pump| pump.id() == id).cloned()
    }

    fn all_pumps(&self) -> Vec<Rc<Pump>> {
        self.pumps.borrow().clone()
    }
}

/// What an executor is started with.
pub(crate) struct Start {
    pub(crate) index: ExecutorIndex,
    pub(crate) core: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) resolver: Resolver,
    pub(crate) orders: async_channel::Receiver<Order>,
    pub(crate) answers: async_channel::WeakSender<Order>,
}

/// Makes the executor of the calling thread.
pub(crate) fn make(core: usize) -> Result<LocalExecutor, String> {
    LocalExecutorBuilder::new(Placement::Fixed(core))
        .io_memory(IO_MEMORY_BYTES)
        .preempt_timer(PREEMPT_TIMER)
        .make()
        .map_err(|error| error.to_string())
}

/// Runs the executor of the calling thread until it is told to end.
pub(crate) fn run(executor: &LocalExecutor, start: Start) {
    start.pulse.begin();
    let pulse = Arc::clone(&start.pulse);
    executor.run(serve(start));
    pulse.end();
}

async fn serve(start: Start) {
    let Start { index, core, memory_bytes, pulse, resolver, orders, answers } = start;
    let room = Rc::new(Room {
        index,
        gate: Rc::default(),
        breath: Breath::default(),
        memory: Memory::new(memory_bytes),
        resolver,
        stopping: Cell::new(false),
        releases: Cell::new(0),
        freed: Flag::default(),
        scratch: Cell::new(None),
        buffers: RefCell::default(),
        actions: Cell::default(),
        orders: answers,
        pumps: RefCell::default(),
        early_taps: RefCell::default(),
        watchers: RefCell::default(),
    });
    // The heartbeat outlives the other tasks: they may need a second to end.
    let (beats, ended) = (Rc::new(Gate::default()), Rc::new(Cell::new(false)));
    wait::spawn(&beats, heartbeat(Rc::clone(&room), core, pulse, Rc::clone(&ended)));
    wait::spawn(&room.gate, pass_credit_on(Rc::clone(&room)));
    // All senders gone means that nobody is left to give orders.
    while let Ok(order) = orders.recv().await {
        room.breath.note();
        match order {
            Order::Open(opening) => open(&room, *opening),
            Order::Close(id) => close(&room, id),
            Order::Command(id, command) => command_to(&room, id, command),
            Order::Letter(id, letter, result) => {
                if let Some(pump) = room.pump(id) {
                    pump.with(|core, now| core.handle_letter(now, letter, result));
                }
            }
            Order::Tls(id, endpoint, client) => {
                if let Some(pump) = room.pump(id) {
                    pump.renew_tls(endpoint, *client);
                }
            }
            Order::Tap(id, tap, copies) => attach_tap(&room, id, tap, copies),
            Order::Watch(watcher) => room.watchers.borrow_mut().push(watcher),
            Order::Shutdown => break,
        }
        room.breath.take().await;
    }
    room.stopping.set(true);
    for pump in room.all_pumps() {
        pump.stop();
    }
    room.freed.raise();
    room.gate.emptied().await;
    ended.set(true);
    beats.emptied().await;
    // Pumps and room refer to each other.
    room.pumps.borrow_mut().clear();
}

fn open(room: &Rc<Room>, opening: Opening) {
    let Opening { id, make, source, endpoints, reports, mailbox } = opening;
    let seed = Seed { flow: room.memory.flow(), seed: random(), now: clock::now(), wall: clock::wall() };
    let core: Box<dyn Core> = make(seed);
    let pump = Pump::start(room, id, core, (source, endpoints), (reports, mailbox));
    room.pumps.borrow_mut().push(pump);
    let early = std::mem::take(&mut *room.early_taps.borrow_mut());
    for (of, tap, copies) in early {
        attach_tap(room, of, tap, copies);
    }
}

/// Its tasks end by themselves; the last of them lets go of it.
fn close(room: &Room, id: PipelineId) {
    if let Some(pump) = room.pump(id) {
        room.pumps.borrow_mut().retain(|pump| pump.id() != id);
        pump.stop();
    }
}

fn attach_tap(room: &Room, id: PipelineId, tap: tap::Params, copies: Copies) {
    if let Some(pump) = room.pump(id) {
        pump.attach_tap(tap, copies);
        return;
    }
    let mut early = room.early_taps.borrow_mut();
    early.retain(|(_, _, copies)| !copies.is_closed());
    early.push((id, tap, copies));
}

fn command_to(room: &Room, id: PipelineId, command: Command) {
    if let Some(pump) = room.pump(id) {
        pump.with(|core, now| core.handle_command(now, command));
    } else {
        tracing::warn!(pipeline = id.0, "command for a pipeline that is not here");
    }
}

/// A seed for the core's own generator.
fn random() -> u64 {
    let mut bytes = [0; 8];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        return clock::wall().0;
    }
    u64::from_ne_bytes(bytes)
}

/// Beats, tells the core what time it is, publishes snapshots.
async fn heartbeat(room: Rc<Room>, core: usize, pulse: Arc<Pulse>, ended: Rc<Cell<bool>>) {
    let mut beats = 0_u64;
    while !ended.get() {
        beats += 1;
        pulse.beat();
        if beats.is_multiple_of(BEATS_PER_WALL_CLOCK) && !room.stopping.get() {
            let wall = clock::wall();
            for pump in room.all_pumps() {
                pump.with(|core, now| core.handle_wall_clock(now, wall));
            }
        }
        for pump in room.all_pumps() {
            pump.with(|core, now| core.handle_beat(now));
            pump.end_taps();
        }
        if !room.watchers.borrow().is_empty() {
            publish(&room, core, &pulse);
        }
        Timer::new(BEAT).await;
        room.breath.note();
    }
}

fn publish(room: &Room, core: usize, pulse: &Pulse) {
    let snapshot = Arc::new(Snapshot {
        executor: room.index,
        core,
        cpu: clock::thread_cpu(),
        nudges: pulse.nudges.load(Ordering::Relaxed),
        memory_used_bytes: room.memory.used(),
        memory_limit_bytes: room.memory.limit(),
        taken: clock::now(),
        pipelines: room.pumps.borrow().iter().map(|pump| pump.snapshot()).collect(),
    });
    room.watchers.borrow_mut().retain(|watcher| watcher.force_send(Arc::clone(&snapshot)).is_ok());
}

/// Memory that one pipeline gives back may be what a shard of another one waits for.
async fn pass_credit_on(room: Rc<Room>) {
    while !room.stopping.get() {
        room.freed.raised().await;
        room.freed.take();
        for pump in room.all_pumps() {
            pump.with(|core, now| core.handle_credit(now));
        }
        room.breath.take().await;
    }
}
