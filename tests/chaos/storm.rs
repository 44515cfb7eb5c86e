//! The run: what stands between whom, what goes wrong next, and what has to hold all the time.
//!
//! Why: faults that come alone are handled one by one; the losses of other forwarders happen where two meet.
//! Invariants: 1. one stream of dice, so that a seed gives the same faults in the same order. 2. each thing that is broken is
//! mended, and not broken twice meanwhile. 3. checkpoints are held against the ledger after every sudden death and every
//! [`LOOK`]. Bounds: the faults of the given time, then [`PATIENCE`].
//! Driven by: `main`.

mod plans;
mod stage;
mod verdict;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use sls2siem::proto::rng::Rng;

use self::plans::{DRAIN_NETWORK, Kind, RECEIVERS, SOURCE_FAULTS};
use self::stage::{Folder, Receiver};
use crate::disk::Disk;
use crate::forwarder::Forwarder;
use crate::ledger::Ledger;
use crate::proxy::{Cut, Proxy};
use crate::server::{Server, signal};

const FORWARDERS: usize = 3;
const SHARDS: u32 = 4;
/// Of the seconds of faults, for each shard.
const RECORDS_PER_SECOND: u64 = 60;
const GROUP_LOGS: u64 = 10;
const LOOK: Duration = Duration::from_secs(1);

/// What can be broken, once at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Forwarder(usize),
    Receiver(usize),
    /// 0 leads to the source, the others to the receivers.
    Network(usize),
    Source,
    Disk,
}

/// How it is mended.
#[derive(Clone, Debug)]
enum Mend {
    Start,
    Continue,
    /// Frozen for a moment again and again: so often still.
    Storm {
        left: u32,
        frozen: bool,
    },
    Files {
        limit: String,
    },
    Memory,
    Line,
    Plan,
    Room,
}

/// Runs it.
pub(crate) fn run(seed: u64, time: Duration) {
    let mut storm = Storm::new(seed, time);
    storm.rage(time);
    storm.calm();
    storm.judge();
}

struct Storm {
    seed: u64,
    dice: Rng,
    records: u64,
    begun: Instant,
    forwarders: Vec<Forwarder>,
    lives: Vec<u32>,
    receivers: Vec<Receiver>,
    networks: Vec<Proxy>,
    /// Kept alive.
    _source: Server,
    admin: String,
    disk: Option<Disk>,
    mending: BTreeMap<Thing, (Instant, Mend)>,
    ledgers: BTreeMap<&'static str, Ledger>,
    events: BTreeMap<&'static str, u64>,
    /// Forwarders that ended when they had no memory.
    starved: u64,
    /// Forwarders that ended when they had no file descriptors: at their start.
    unopened: u64,
    looks: u64,
    possible_duplicates: u64,
    /// Last: whatever else ends, its files are kept where the test fails.
    folder: Folder,
}

impl Storm {
    /// Breaks things for so long.
    fn rage(&mut self, time: Duration) {
        let end = Instant::now() + time;
        let mut look = Instant::now() + LOOK;
        while Instant::now() < end {
            self.mend(|due| due <= Instant::now());
            self.expect_alive();
            if Instant::now() >= look {
                self.hold_checkpoints_against_the_ledger();
                look = Instant::now() + LOOK;
            }
            self.strike();
            let pause = Instant::now() + Duration::from_millis(self.dice.below(300) + 50);
            while Instant::now() < pause {
                self.mend(|due| due <= Instant::now());
                thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// One fault, somewhere.
    fn strike(&mut self) {
        let choice = self.dice.below(100);
        let forwarder = self.index(FORWARDERS);
        let receiver = self.index(RECEIVERS.len());
        let network = self.index(RECEIVERS.len() + 1);
        let time = Duration::from_millis(self.dice.below(2_000) + 200);
        let dice = self.dice.below(1_000);
        match choice {
            0..42 => self.on(Thing::Forwarder(forwarder), |storm| match choice {
                0..12 => storm.kill_forwarder(forwarder, time),
                12..18 => storm.restart_forwarder(forwarder),
                18..30 => {
                    signal(storm.forwarders[forwarder].pid(), "STOP");
                    let left = 10 + u32::try_from(dice % 10).unwrap();
                    ("a storm of SIGSTOP, 130 ms each", FROZEN, Mend::Storm { left, frozen: true })
                }
                30..36 => {
                    signal(storm.forwarders[forwarder].pid(), "STOP");
                    (
                        "a forwarder frozen for longer than its lease",
                        Duration::from_secs(4) + time,
                        Mend::Continue,
                    )
                }
                36..39 => storm.take_files(forwarder, time),
                _ => storm.take_memory(forwarder, time),
            }),
            42..54 => self.on(Thing::Receiver(receiver), |storm| storm.end_receiver(receiver, time)),
            54..60 => self.on(Thing::Receiver(receiver), |storm| {
                signal(storm.receivers[receiver].server.as_ref().unwrap().pid(), "STOP");
                ("a receiver frozen", time, Mend::Continue)
            }),
            60..68 => self.on(Thing::Network(network), |storm| {
                storm.networks[network].silence();
                ("a network silent", time, Mend::Line)
            }),
            68..84 => self.on(Thing::Network(network), |storm| {
                let how = storm.cut_for(network, dice);
                storm.networks[network].cut(how);
                let name = match how {
                    Cut::Fin => "connections ended without a word of TLS",
                    Cut::Reset => "connections reset",
                    Cut::HalfOpen => "connections left half open",
                };
                (name, Duration::ZERO, Mend::Line)
            }),
            84..92 => self.on(Thing::Source, |storm| {
                let plan = SOURCE_FAULTS[usize::try_from(dice).unwrap() % SOURCE_FAULTS.len()];
                storm.post("/fault", plan);
                ("errors of SLS", time, Mend::Plan)
            }),
            _ if self.disk.is_some() => self.on(Thing::Disk, |storm| {
                storm.disk.as_ref().unwrap().fill();
                ("no room for the dead letter", time, Mend::Room)
            }),
            _ => {}
        }
    }

    /// Breaks a thing that is whole.
    fn on(&mut self, thing: Thing, fault: impl FnOnce(&mut Self) -> (&'static str, Duration, Mend)) {
        if self.mending.contains_key(&thing) {
            return;
        }
        let (name, time, mend) = fault(self);
        *self.events.entry(name).or_default() += 1;
        self.note(&format!("{thing:?}: {name}, {time:?}"));
        self.mending.insert(thing, (Instant::now() + time, mend));
    }

    /// Which cut a network bears. Syslog over TCP has no word for its end: a middle box that ends connections in order after it
    /// has swallowed what they carried says what only a receiver may say that has read everything.
    fn cut_for(&self, network: usize, dice: u64) -> Cut {
        let plain_tcp = network == DRAIN_NETWORK;
        // A pull waits a minute for its answer.
        let patient = network > 0 || self.records > 120 * RECORDS_PER_SECOND;
        match dice % 3 {
            0 if !plain_tcp => Cut::Fin,
            1 if patient => Cut::HalfOpen,
            _ => Cut::Reset,
        }
    }

    fn kill_forwarder(&mut self, forwarder: usize, time: Duration) -> (&'static str, Duration, Mend) {
        self.note_duplicates(forwarder);
        self.forwarders[forwarder].kill();
        self.hold_checkpoints_against_the_ledger();
        ("kill -9 of a forwarder", time, Mend::Start)
    }

    /// Ends one in order. What is in flight may not drain while a receiver is away: then it says so.
    fn restart_forwarder(&mut self, forwarder: usize) -> (&'static str, Duration, Mend) {
        self.note_duplicates(forwarder);
        signal(self.forwarders[forwarder].pid(), "TERM");
        ("SIGTERM of a forwarder", Duration::from_millis(500), Mend::Start)
    }

    /// No more file descriptors than it has now.
    fn take_files(&mut self, forwarder: usize, time: Duration) -> (&'static str, Duration, Mend) {
        self.forwarders[forwarder].wait_well("before its file descriptors are taken");
        let pid = self.forwarders[forwarder].pid();
        let open = fs::read_dir(format!("/proc/{pid}/fd")).map_or(16, Iterator::count);
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default();
        let limit = line.split_whitespace().nth(3).unwrap_or("1024").to_owned();
        set_limit(pid, "nofile", &open.to_string());
        ("no more file descriptors", time, Mend::Files { limit })
    }

    /// Not a page more than it has now, so that whatever it allocates next may fail.
    fn take_memory(&mut self, forwarder: usize, time: Duration) -> (&'static str, Duration, Mend) {
        self.forwarders[forwarder].wait_well("before its memory is taken");
        self.note_duplicates(forwarder);
        let pid = self.forwarders[forwarder].pid();
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
        let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
        set_limit(pid, "as", &(pages * 4096).to_string());
        ("no more memory", time, Mend::Memory)
    }

    fn end_receiver(&mut self, receiver: usize, time: Duration) -> (&'static str, Duration, Mend) {
        let mut server = self.receivers[receiver].server.take().unwrap();
        // What a receiver has read and not yet written dies with it. Over plain TCP its kernel says nevertheless that all was
        // read, so that one is asked to end.
        let polite =
            matches!(RECEIVERS[receiver].kind, Kind::Syslog { scheme: "tcp" }) || self.dice.below(4) == 0;
        let name = if polite {
            server.stop();
            "SIGTERM of a receiver"
        } else {
            server.kill();
            "kill -9 of a receiver"
        };
        self.networks[receiver + 1].lead_to(None);
        (name, time, Mend::Start)
    }

    /// Mends what is due.
    fn mend(&mut self, is_due: impl Fn(Instant) -> bool) {
        let due: Vec<Thing> =
            self.mending.iter().filter(|(_, (at, _))| is_due(*at)).map(|(thing, _)| *thing).collect();
        for thing in due {
            let (_, mend) = self.mending.remove(&thing).unwrap();
            self.note(&format!("{thing:?}: {mend:?}"));
            match (thing, mend) {
                (Thing::Forwarder(forwarder), Mend::Start) => {
                    if !self.forwarders[forwarder].has_ended() {
                        // It still drains.
                        self.mending
                            .insert(thing, (Instant::now() + Duration::from_millis(100), Mend::Start));
                        continue;
                    }
                    let status = self.forwarders[forwarder].ended().unwrap();
                    let tail = self.forwarders[forwarder].tail();
                    assert!(matches!(status.code(), None | Some(0 | 1)), "it ended with {status}\n{tail}");
                    self.forwarders[forwarder] = self.start_forwarder(forwarder);
                }
                (Thing::Forwarder(forwarder), Mend::Storm { left, frozen }) => {
                    let pid = self.forwarders[forwarder].pid();
                    signal(pid, if frozen { "CONT" } else { "STOP" });
                    if left > 0 || !frozen {
                        let (pause, left) = if frozen { (THAWED, left - 1) } else { (FROZEN, left) };
                        let next = Mend::Storm { left, frozen: !frozen };
                        self.mending.insert(thing, (Instant::now() + pause, next));
                    } else {
                        self.forwarders[forwarder].wait_well("after a storm of SIGSTOP");
                    }
                }
                (Thing::Forwarder(forwarder), Mend::Continue) => {
                    signal(self.forwarders[forwarder].pid(), "CONT");
                    self.forwarders[forwarder].wait_well("after it was frozen");
                }
                (Thing::Forwarder(forwarder), Mend::Files { limit }) => {
                    match self.forwarders[forwarder].ended() {
                        None => {
                            set_limit(self.forwarders[forwarder].pid(), "nofile", &limit);
                            self.forwarders[forwarder].wait_well("after it had no file descriptors");
                        }
                        // One that only begins cannot; it must not blame the settings, or no service manager starts it again.
                        Some(status) => {
                            let log = self.forwarders[forwarder].tail();
                            let began = self.forwarders[forwarder].has_said(" in group ");
                            assert!(
                                status.code() == Some(1) && !began,
                                "without file descriptors it ended with {status}\n{log}"
                            );
                            self.unopened += 1;
                            self.forwarders[forwarder] = self.start_forwarder(forwarder);
                        }
                    }
                }
                (Thing::Forwarder(forwarder), Mend::Memory) => match self.forwarders[forwarder].ended() {
                    None => {
                        set_limit(self.forwarders[forwarder].pid(), "as", "unlimited");
                        self.forwarders[forwarder].wait_well("after it had no memory");
                    }
                    // Whoever has no memory may end; a service manager starts it again.
                    Some(status) => {
                        let tail = self.forwarders[forwarder].tail();
                        let aborted = status.signal() == Some(6) || status.code() == Some(70);
                        // Or it only begins: then it must not blame the settings, and it is no member yet.
                        let began = self.forwarders[forwarder].has_said(" in group ");
                        let refused = status.code() == Some(1) && !began && tail.contains("ERROR");
                        assert!(aborted || refused, "without memory it ended with {status}\n{tail}");
                        self.starved += 1;
                        self.hold_checkpoints_against_the_ledger();
                        self.forwarders[forwarder] = self.start_forwarder(forwarder);
                    }
                },
                (Thing::Receiver(receiver), Mend::Continue) => {
                    signal(self.receivers[receiver].server.as_ref().unwrap().pid(), "CONT");
                }
                (Thing::Receiver(receiver), _) => self.start_receiver(receiver, true),
                (Thing::Network(network), _) => self.networks[network].mend(),
                (Thing::Source, _) => self.post("/fault", ""),
                (Thing::Disk, _) => self.disk.as_ref().unwrap().free(),
                (Thing::Forwarder(_), mend) => panic!("{mend:?} mends no forwarder"),
            }
        }
    }

    /// No forwarder ends that nobody has ended, or has taken the memory or the file descriptors of.
    fn expect_alive(&mut self) {
        for forwarder in 0..FORWARDERS {
            let mend = self.mending.get(&Thing::Forwarder(forwarder));
            if matches!(mend, Some((_, Mend::Start | Mend::Memory | Mend::Files { .. }))) {
                continue;
            }
            if let Some(status) = self.forwarders[forwarder].ended() {
                panic!(
                    "forwarder {forwarder} ended by itself: {status}\n{}",
                    self.forwarders[forwarder].tail()
                );
            }
        }
    }

    fn note_duplicates(&mut self, forwarder: usize) {
        self.possible_duplicates += self.forwarders[forwarder].sum("duplicates_possible_records_total");
    }

    fn index(&mut self, count: usize) -> usize {
        usize::try_from(self.dice.below(count as u64)).unwrap()
    }
}

/// Changes the soft limit of a running process.
fn set_limit(pid: u32, what: &str, soft: &str) {
    let limit = format!("--{what}={soft}:");
    let status = Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]).status();
    assert!(status.unwrap().success(), "prlimit {limit} of {pid}");
}

const FROZEN: Duration = Duration::from_millis(130);
const THAWED: Duration = Duration::from_millis(70);
