//! Watches that the executors' heartbeats go on; nudges a parked one, ends the process as the last resort.
//!
//! Why: glommio 0.9.0 can park with work to do. A signal ends the sleep (EINTR) and the executor goes on; an
//! executor that is truly stuck cannot be repaired from outside, so the supervisor has to start the process again.
//! Invariants: 1. time counts only as far as this thread itself was running: when the whole process stood
//!  still (SIGSTOP, suspend, a throttled container), nobody is blamed. 2. one nudge per [`NUDGE_AFTER`].
//! Bounds: a nudge after [`NUDGE_AFTER`], the end after `abort_after` of standing still.
//! Driven by: `Executors` starts it and ends it.
//! Spec: signal(7): a handler without `SA_RESTART` makes `io_uring_enter` return EINTR.
#![expect(unsafe_code, reason = "sigaction and tgkill")]

use std::io;
use std::mem::zeroed;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::clock;

/// Time without a heartbeat after which the thread gets a signal.
pub const NUDGE_AFTER: Duration = Duration::from_secs(1);
/// Time without a heartbeat after which the process had better end.
pub const ABORT_AFTER: Duration = Duration::from_secs(10);
/// How often the heartbeats are looked at.
const TICK: Duration = Duration::from_millis(250);

/// What an executor publishes about being alive.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    /// Grows with every heartbeat.
    pub(crate) beats: AtomicU64,
    /// Thread id of the executor; 0 before its first heartbeat and after its end.
    pub(crate) thread: AtomicI32,
    /// Signals that it was sent.
    pub(crate) nudges: AtomicU64,
}

impl Pulse {
    /// Called by the executor's thread at its start.
    pub(crate) fn begin(&self) {
        // SAFETY: gettid has no arguments and cannot fail.
        self.thread.store(unsafe { libc::gettid() }, Ordering::Release);
    }

    /// Called by the executor's thread before it ends.
    pub(crate) fn end(&self) {
        self.thread.store(0, Ordering::Release);
    }

    /// One heartbeat.
    pub(crate) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }
}

/// One executor under watch.
#[derive(Clone, Debug)]
pub(crate) struct Patient {
    /// Its name, for the log.
    pub(crate) name: String,
    /// Its pulse.
    pub(crate) pulse: Arc<Pulse>,
}

/// The running watchdog; ends when dropped.
#[derive(Debug)]
pub(crate) struct Watchdog {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts watching. `abort_after` is how long an executor may stand still before the process ends.
    pub(crate) fn start(patients: Vec<Patient>, abort_after: Duration) -> io::Result<Self> {
        install_handler()?;
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new()
            .name("s2s-watchdog".to_owned())
            .spawn(move || watch(&patients, abort_after, &stopped))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(patients: &[Patient], abort_after: Duration, stopped: &Receiver<()>) {
    let mut judges: Vec<Judge> = patients.iter().map(|_| Judge::default()).collect();
    let mut last = clock::now();
    while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
        let now = clock::now();
        let gap = now.since(last);
        last = now;
        for (patient, judge) in patients.iter().zip(&mut judges) {
            let thread = patient.pulse.thread.load(Ordering::Acquire);
            if thread == 0 {
                *judge = Judge::default();
                continue;
            }
            match judge.look(gap, patient.pulse.beats.load(Ordering::Relaxed), abort_after) {
                Verdict::Alive => {}
                Verdict::Back { stood } => {
                    tracing::warn!(executor = patient.name, ?stood, "executor goes on");
                }
                Verdict::Nudge { stood } => {
                    patient.pulse.nudges.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(
                        executor = patient.name,
                        ?stood,
                        "executor stands still, it gets a signal"
                    );
                    nudge(thread);
                }
                Verdict::Abort { stood } => {
                    tracing::error!(
                        executor = patient.name,
                        ?stood,
                        "executor stands still for good: the process ends now so that its supervisor starts it \
                         again; nothing is lost, records after the last checkpoint may arrive twice"
                    );
                    eprintln!(
                        "sls2siem: executor {} stood still for {stood:?}, aborting so that the supervisor restarts \
                         the process (nothing is lost)",
                        patient.name
                    );
                    std::process::abort();
                }
            }
        }
    }
}

/// Judges one executor from what is seen at each tick.
#[derive(Debug, Default)]
struct Judge {
    beats: u64,
    stood: Duration,
    nudges: u32,
}

/// What to do about an executor.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Alive,
    Back { stood: Duration },
    Nudge { stood: Duration },
    Abort { stood: Duration },
}

impl Judge {
    /// `gap` is the time since the last look, by the clock.
    fn look(&mut self, gap: Duration, beats: u64, abort_after: Duration) -> Verdict {
        if beats != self.beats {
            let was = std::mem::replace(self, Self { beats, ..Self::default() });
            return if was.nudges > 0 { Verdict::Back { stood: was.stood } } else { Verdict::Alive };
        }
        // A gap longer than our own tick says that we did not run either (invariant 1).
        self.stood += gap.min(TICK * 2);
        let stood = self.stood;
        if stood >= abort_after {
            Verdict::Abort { stood }
        } else if stood > NUDGE_AFTER * (self.nudges + 1) {
            self.nudges += 1;
            Verdict::Nudge { stood }
        } else {
            Verdict::Alive
        }
    }
}

/// SIGURG: ignored by default, so that a stray one harms nobody, and used by nothing else here.
const SIGNAL: libc::c_int = libc::SIGURG;

fn nudge(thread: libc::pid_t) {
    // SAFETY: getpid has no arguments and cannot fail.
    let process = unsafe { libc::getpid() };
    // SAFETY: only integers are passed; a thread that has ended is answered with ESRCH.
    let answer = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, SIGNAL) };
    if answer != 0 {
        tracing::warn!(thread, error = %io::Error::last_os_error(), "the signal could not be sent");
    }
}

extern "C" fn on_signal(_: libc::c_int) {}

fn install_handler() -> io::Result<()> {
    // SAFETY: sigaction is plain data; all zeroes are an empty mask and no flags (so: no SA_RESTART).
    let mut action: libc::sigaction = unsafe { zeroed() };
    action.sa_sigaction = on_signal as *const () as usize;
    // SAFETY: the handler does nothing, so it is safe at any point; `action` outlives the call.
    let answer = unsafe { libc::sigaction(SIGNAL, &raw const action, null_mut()) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_executor_is_left_alone() {
        let mut judge = Judge::default();
        for beats in 1..1_000 {
            assert_eq!(judge.look(TICK, beats, ABORT_AFTER), Verdict::Alive);
        }
    }

    #[test]
    fn standing_still_is_nudged_each_second_then_ends() {
        let mut judge = Judge::default();
        let mut nudges = 0;
        let mut looks = 0;
        loop {
            looks += 1;
            match judge.look(TICK, 0, ABORT_AFTER) {
                Verdict::Nudge { stood } => {
                    nudges += 1;
                    assert!(stood > NUDGE_AFTER * nudges);
                }
                Verdict::Abort { stood } => {
                    assert_eq!(stood, ABORT_AFTER);
                    break;
                }
                verdict => assert_eq!(verdict, Verdict::Alive),
            }
        }
        assert_eq!((nudges, looks), (9, 40));
    }

    #[test]
    fn coming_back_is_said_once() {
        let mut judge = Judge::default();
        while judge.look(TICK, 0, ABORT_AFTER) == Verdict::Alive {}
        assert!(matches!(judge.look(TICK, 1, ABORT_AFTER), Verdict::Back { .. }));
        assert_eq!(judge.look(TICK, 1, ABORT_AFTER), Verdict::Alive);
    }

    #[test]
    fn a_stopped_process_blames_nobody() {
        let mut judge = Judge::default();
        // Stopped for a minute, again and again, with a single tick in between.
        assert_eq!(judge.look(Duration::from_mins(1), 0, ABORT_AFTER), Verdict::Alive);
        assert_eq!(judge.look(TICK, 1, ABORT_AFTER), Verdict::Alive);
        assert_eq!(judge.look(Duration::from_mins(1), 1, ABORT_AFTER), Verdict::Alive);
        assert_eq!(judge.look(TICK, 2, ABORT_AFTER), Verdict::Alive);
    }
}
