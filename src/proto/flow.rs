//! Byte credit: the bound over everything in flight on one executor.
//!
//! Why: SLS keeps the data, so memory is only a window; without credit a shard does not pull, instead of
//! dropping or growing. Two budgets, because work flows one way: bodies become frames, frames leave for the
//! sink. With a single budget, bodies could take all of it and no frame could ever be made from them.
//! Invariants: 1. `used` is the sum of all living [`Credit`]s; a credit gives itself back when it is dropped.
//!  2. a credit of any size is granted where nothing else is out: otherwise a body larger than the
//!  budget would wait for ever (its size is bounded by the caller).
//! Bounds: `limit` per budget, plus what [`Credit::resize`] grows by: one record's expansion per frame.
//! Driven by: every pipeline of an executor shares one [`Flow`] through an `Rc`.

use core::cell::Cell;
use std::rc::Rc;

/// The two budgets of one executor.
#[derive(Debug)]
pub struct Flow {
    /// Pulled bodies, compressed and decompressed, until they are transcoded.
    pub bodies: Rc<Budget>,
    /// Frames until the sink has answered at the transport level.
    pub frames: Rc<Budget>,
}

impl Flow {
    /// Splits `bytes` evenly over the two budgets.
    pub fn new(bytes: u64) -> Rc<Self> {
        Rc::new(Self { bodies: Budget::new(bytes / 2), frames: Budget::new(bytes - bytes / 2) })
    }

    /// Grows with every release: a change means that shards that were refused should try again.
    pub fn releases(&self) -> u64 {
        self.bodies.releases.get().wrapping_add(self.frames.releases.get())
    }
}

/// One budget of bytes.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    used: Cell<u64>,
    releases: Cell<u64>,
}

impl Budget {
    fn new(limit: u64) -> Rc<Self> {
        Rc::new(Self { limit, used: Cell::new(0), releases: Cell::new(0) })
    }

    /// Bytes out now.
    pub fn used(&self) -> u64 {
        self.used.get()
    }

    /// The bound.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Takes `bytes`, or nothing.
    pub fn try_take(self: &Rc<Self>, bytes: u64) -> Option<Credit> {
        let used = self.used.get();
        if used != 0 && used.saturating_add(bytes) > self.limit {
            return None;
        }
        self.used.set(used.saturating_add(bytes));
        Some(Credit { budget: Rc::clone(self), bytes })
    }

    /// Takes `bytes` that are in memory already, whatever the limit says.
    pub fn take_over(self: &Rc<Self>, bytes: u64) -> Credit {
        self.used.set(self.used.get().saturating_add(bytes));
        Credit { budget: Rc::clone(self), bytes }
    }

    fn released(&self) {
        self.releases.set(self.releases.get().wrapping_add(1));
    }
}

/// The right to hold some bytes; given back when dropped.
#[derive(Debug)]
pub struct Credit {
    budget: Rc<Budget>,
    bytes: u64,
}

impl Credit {
    /// Bytes of this credit.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Sets the true size, now that it is known. Growing is never refused: the bytes are there already.
    pub fn resize(&mut self, bytes: u64) {
        let used = self.budget.used.get();
        self.budget.used.set((used - self.bytes).saturating_add(bytes));
        if bytes < self.bytes {
            self.budget.released();
        }
        self.bytes = bytes;
    }

    /// Grows to `bytes` where the budget has room for the difference, or where nothing else is out.
    pub fn try_grow(&mut self, bytes: u64) -> bool {
        let others = self.budget.used.get() - self.bytes;
        if bytes > self.bytes && others != 0 && others.saturating_add(bytes) > self.budget.limit {
            return false;
        }
        self.resize(bytes.max(self.bytes));
        true
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        self.budget.used.set(self.budget.used.get() - self.bytes);
        self.budget.released();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_release_is_seen_by_everybody_who_looks() {
        let flow = Flow::new(200);
        let first = flow.frames.try_take(80).unwrap();
        let seen = flow.releases();
        assert!(flow.frames.try_take(80).is_none());
        assert_eq!(flow.releases(), seen);
        drop(first);
        assert_ne!(flow.releases(), seen);
    }

    #[test]
    fn the_only_taker_may_exceed_the_limit() {
        let flow = Flow::new(20);
        let big = flow.bodies.try_take(1_000).unwrap();
        assert!(flow.bodies.try_take(1).is_none());
        drop(big);
        assert_eq!(flow.bodies.used(), 0);
    }

    proptest! {
        /// Law: credit in = credit out; with takes only, `used` passes the limit for a single taker alone.
        #[test]
        fn credit_balances(ops in proptest::collection::vec((0_u8..4, 0_u64..300), 0..200)) {
            let flow = Flow::new(1_000);
            let mut held: Vec<Credit> = Vec::new();
            for (op, bytes) in ops {
                match op {
                    0 => held.extend(flow.bodies.try_take(bytes)),
                    1 => { let _ = held.pop(); }
                    2 => if let Some(credit) = held.last_mut() { let _ = credit.try_grow(bytes); },
                    _ => if let Some(credit) = held.last_mut() {
                        let smaller = credit.bytes().min(bytes);
                        credit.resize(smaller);
                    },
                }
                prop_assert_eq!(flow.bodies.used(), held.iter().map(Credit::bytes).sum::<u64>());
                let non_empty = held.iter().filter(|credit| credit.bytes() > 0).count();
                prop_assert!(flow.bodies.used() <= 500 || non_empty == 1);
            }
            held.clear();
            prop_assert_eq!(flow.bodies.used(), 0);
        }
    }
}
