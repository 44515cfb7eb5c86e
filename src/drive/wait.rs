//! What tasks of one executor wait on: a flag, a gate, a breath.
//!
//! Why: glommio 0.9.0 leaks a task that is cancelled while it is pending, so tasks have to be told to end
//! and have to be counted; and with the long preempt timer that keeps it from parking for ever, an executor
//! whose tasks are always runnable never looks at its rings again: sockets, timers and commands starve.
//! Invariants: 1. one waiter per [`Flag`]. 2. a [`Pass`] is held by every task; the gate is empty when all ended.
//!  3. no task runs longer than [`BREATH`] without letting the reactor look at its rings.
//! Bounds: a few words each.
//! Driven by: the tasks of `drive`, on one thread.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use glommio::timer::Timer;

use super::clock;
use crate::proto::time::Instant;

/// Longest time that tasks run before the reactor gets its turn.
pub(crate) const BREATH: Duration = Duration::from_millis(2);

/// A level that one task waits for and any task of this thread raises.
#[derive(Debug, Default)]
pub(crate) struct Flag {
    raised: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Flag {
    /// Raises the flag and wakes its waiter.
    pub(crate) fn raise(&self) {
        if !self.raised.replace(true)
            && let Some(waker) = self.waiter.borrow_mut().take()
        {
            waker.wake();
        }
    }

    /// Lowers it; true where it was raised.
    pub(crate) fn take(&self) -> bool {
        self.raised.replace(false)
    }

    /// Waits until it is raised, and leaves it raised.
    pub(crate) async fn raised(&self) {
        poll_fn(|cx| {
            if self.raised.get() {
                return Poll::Ready(());
            }
            let mut waiter = self.waiter.borrow_mut();
            match &mut *waiter {
                Some(known) => known.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            Poll::Pending
        })
        .await;
    }
}

/// Counts the tasks that are still running.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    inside: Cell<usize>,
    empty: Flag,
}

impl Gate {
    /// Enters; the pass is held until the task ends.
    pub(crate) fn enter(self: &Rc<Self>) -> Pass {
        self.inside.set(self.inside.get() + 1);
        self.empty.take();
        Pass(Rc::clone(self))
    }

    /// Waits until nobody is inside.
    pub(crate) async fn emptied(&self) {
        if self.inside.get() > 0 {
            self.empty.raised().await;
        }
    }
}

/// The presence of one task in a [`Gate`].
#[derive(Debug)]
pub(crate) struct Pass(Rc<Gate>);

impl Drop for Pass {
    fn drop(&mut self) {
        let left = self.0.inside.get() - 1;
        self.0.inside.set(left);
        if left == 0 {
            self.0.empty.raise();
        }
    }
}

/// Spawns a task that is counted by `gate` and never cancelled.
pub(crate) fn spawn(gate: &Rc<Gate>, task: impl Future<Output = ()> + 'static) {
    let pass = gate.enter();
    glommio::spawn_local(async move {
        // glommio may poll a new task inside of its spawner: nothing of ours may run nested in there.
        futures_lite::future::yield_now().await;
        task.await;
        drop(pass);
    })
    .detach();
}

/// When the reactor last had its turn, as far as the tasks know.
#[derive(Debug, Default)]
pub(crate) struct Breath {
    last: Cell<Instant>,
}

impl Breath {
    /// Notes that the calling task was just woken by the reactor.
    pub(crate) fn note(&self) {
        self.last.set(clock::now());
    }

    /// Lets other tasks run; after [`BREATH`] of running, lets the reactor look at its rings as well.
    ///
    /// A timer is the one thing that only the reactor can complete: while every task that reaches this
    /// point waits on it, the executor runs out of runnable tasks and goes through its rings. The timer
    /// is due by the time it looks, so it does not sleep.
    pub(crate) async fn take(&self) {
        if clock::now().since(self.last.get()) >= BREATH {
            Timer::new(TURN).await;
            self.note();
        } else {
            futures_lite::future::yield_now().await;
        }
    }
}

/// Length of the timer: long enough not to be over at its first poll, too short to sleep for.
const TURN: Duration = Duration::from_micros(5);

/// Runs `work` for at most `limit`; `None` when the time is over.
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let late = async {
        Timer::new(limit).await;
        None
    };
    futures_lite::future::or(async { Some(work.await) }, late).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use glommio::LocalExecutorBuilder;
    use glommio::Placement;

    fn run<T>(work: impl Future<Output = T>) -> T {
        LocalExecutorBuilder::new(Placement::Unbound)
            .io_memory(65_536)
            .preempt_timer(Duration::from_hours(1))
            .make()
            .unwrap()
            .run(work)
    }

    #[test]
    fn busy_tasks_let_timers_fire() {
        run(async {
            let (gate, breath, stop) =
                (Rc::new(Gate::default()), Rc::new(Breath::default()), Rc::new(Cell::new(false)));
            let turns = Rc::new(Cell::new(0_u64));
            for _ in 0..3 {
                let (breath, stop, turns) = (Rc::clone(&breath), Rc::clone(&stop), Rc::clone(&turns));
                spawn(&gate, async move {
                    while !stop.get() {
                        turns.set(turns.get() + 1);
                        breath.take().await;
                    }
                });
            }
            let began = clock::now();
            for _ in 0..10 {
                Timer::new(Duration::from_millis(20)).await;
            }
            let took = clock::now().since(began);
            stop.set(true);
            gate.emptied().await;
            assert!(took < Duration::from_millis(600), "ten timers of 20 ms took {took:?}");
            assert!(turns.get() > 1_000, "{}", turns.get());
        });
    }

    #[test]
    fn gate_is_empty_when_all_tasks_ended() {
        run(async {
            let gate = Rc::new(Gate::default());
            gate.emptied().await;
            let ended = Rc::new(Cell::new(0));
            for ms in [1, 5, 10] {
                let ended = Rc::clone(&ended);
                spawn(&gate, async move {
                    Timer::new(Duration::from_millis(ms)).await;
                    ended.set(ended.get() + 1);
                });
            }
            assert_eq!(gate.inside.get(), 3);
            gate.emptied().await;
            assert_eq!(ended.get(), 3);
            assert!(within(Duration::from_millis(10), std::future::pending::<()>()).await.is_none());
            assert_eq!(within(Duration::from_secs(10), async { 7 }).await, Some(7));
        });
    }

    #[test]
    fn flag_wakes_its_waiter() {
        run(async {
            let (gate, flag) = (Rc::new(Gate::default()), Rc::new(Flag::default()));
            let other = Rc::clone(&flag);
            spawn(&gate, async move {
                Timer::new(Duration::from_millis(5)).await;
                other.raise();
            });
            flag.raised().await;
            assert!(flag.take());
            assert!(!flag.take());
        });
    }
}
