//! Byte credit: the bound over everything in flight on one executor.
//!
//! Why: SLS keeps the data, so memory is only a window; without credit a shard does not pull, instead of
//! dropping or growing. Two budgets, because work flows one way: bodies become frames, frames leave for the
//! sink. With a single budget, bodies could take all of it and no frame could ever be made from them. And each
//! pipeline has a share of its own: what a flood, or a sink that stands still, has filled comes back late or never, and
//! must not be the part that another pipeline lives on.
//! Invariants: 1. `used` is the sum of all living [`Credit`]s of a member; a credit gives itself back when it is dropped.
//!  2. half of each budget is divided evenly among the members and kept for them; the other half goes to whoever asks
//!  first. 3. a credit of any size is granted where the member has nothing else out: otherwise a body larger than its
//!  part would wait for ever (its size is bounded by the caller).
//! Bounds: the memory's limit, plus one credit per member (invariant 3), plus what [`Credit::resize`] grows by: one
//! record's expansion per frame.
//! Driven by: the executor makes one [`Memory`] and gives each pipeline a [`Flow`] of it.

use core::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use super::planted::{Bug, planted};

/// What the pipelines of one executor share.
#[derive(Debug)]
pub struct Memory {
    bodies: Rc<Pool>,
    frames: Rc<Pool>,
}

impl Memory {
    /// Splits `bytes` evenly over the two budgets.
    pub fn new(bytes: u64) -> Self {
        Self { bodies: Pool::new(bytes / 2), frames: Pool::new(bytes - bytes / 2) }
    }

    /// One more pipeline's part. The parts of the others become smaller.
    pub fn flow(&self) -> Rc<Flow> {
        Rc::new(Flow { bodies: Budget::new(&self.bodies), frames: Budget::new(&self.frames) })
    }

    /// Grows with every release of any member: a change means that whoever was refused should try again.
    pub fn releases(&self) -> u64 {
        self.bodies.releases.get().wrapping_add(self.frames.releases.get())
    }

    /// Bytes out now, of all members.
    pub fn used(&self) -> u64 {
        self.bodies.used.get() + self.frames.used.get()
    }

    /// The bound.
    pub fn limit(&self) -> u64 {
        self.bodies.limit + self.frames.limit
    }
}

/// The two budgets of one pipeline on one executor.
#[derive(Debug)]
pub struct Flow {
    /// Pulled bodies, compressed and decompressed, until they are transcoded.
    pub bodies: Rc<Budget>,
    /// Frames until the sink has answered at the transport level.
    pub frames: Rc<Budget>,
}

impl Flow {
    /// The only member of a memory of so many bytes.
    pub fn new(bytes: u64) -> Rc<Self> {
        Memory::new(bytes).flow()
    }

    /// Grows with every release, also of other members.
    pub fn releases(&self) -> u64 {
        self.bodies.pool.releases.get().wrapping_add(self.frames.pool.releases.get())
    }
}

/// One kind of bytes of all members.
#[derive(Debug)]
struct Pool {
    limit: u64,
    used: Cell<u64>,
    releases: Cell<u64>,
    members: RefCell<Vec<Weak<Budget>>>,
    count: Cell<u64>,
}

impl Pool {
    fn new(limit: u64) -> Rc<Self> {
        Rc::new(Self {
            limit,
            used: Cell::new(0),
            releases: Cell::new(0),
            members: RefCell::default(),
            count: Cell::new(0),
        })
    }

    /// What each member may have, whatever the others do.
    fn share(&self) -> u64 {
        match self.count.get() {
            0 | 1 => self.limit,
            members => self.limit / 2 / members,
        }
    }

    /// What goes to whoever asks first.
    fn common(&self) -> u64 {
        self.limit - self.share() * self.count.get().max(1)
    }

    /// What the members have of the common part.
    fn borrowed(&self) -> u64 {
        let (share, members) = (self.share(), self.members.borrow());
        members.iter().filter_map(Weak::upgrade).map(|member| member.used.get().saturating_sub(share)).sum()
    }
}

/// One budget of bytes of one member.
#[derive(Debug)]
pub struct Budget {
    pool: Rc<Pool>,
    used: Cell<u64>,
}

impl Budget {
    fn new(pool: &Rc<Pool>) -> Rc<Self> {
        let member = Rc::new(Self { pool: Rc::clone(pool), used: Cell::new(0) });
        let mut members = pool.members.borrow_mut();
        members.retain(|member| member.strong_count() > 0);
        members.push(Rc::downgrade(&member));
        pool.count.set(pool.count.get() + 1);
        drop(members);
        member
    }

    /// Bytes out now.
    pub fn used(&self) -> u64 {
        self.used.get()
    }

    /// The most that this member can have.
    pub fn limit(&self) -> u64 {
        self.pool.share() + self.pool.common()
    }

    /// Takes `bytes`, or nothing.
    pub fn try_take(self: &Rc<Self>, bytes: u64) -> Option<Credit> {
        self.admits(self.used.get(), bytes).then(|| self.take_over(bytes))
    }

    /// Takes `bytes` that are in memory already, whatever the limit says.
    pub fn take_over(self: &Rc<Self>, bytes: u64) -> Credit {
        self.set(self.used.get().saturating_add(bytes));
        Credit { budget: Rc::clone(self), bytes }
    }

    /// Whether `bytes` more than `held` may be out.
    fn admits(&self, held: u64, bytes: u64) -> bool {
        let (wanted, share) = (held.saturating_add(bytes), self.pool.share());
        if held == 0 || wanted <= share || planted(Bug::NoBound) {
            return true;
        }
        let of_others = self.pool.borrowed() - self.used.get().saturating_sub(share);
        (wanted - share).saturating_add(of_others) <= self.pool.common()
    }

    fn set(&self, used: u64) {
        let before = self.used.replace(used);
        self.pool.used.set((self.pool.used.get() - before).saturating_add(used));
        if used < before {
            self.pool.releases.set(self.pool.releases.get().wrapping_add(1));
        }
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        self.pool.count.set(self.pool.count.get().saturating_sub(1));
        // Shares grow: whoever was refused may have room now.
        self.pool.releases.set(self.pool.releases.get().wrapping_add(1));
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
        self.budget.set((self.budget.used.get() - self.bytes).saturating_add(bytes));
        self.bytes = bytes;
    }

    /// Grows to `bytes` where the budget has room for the difference, or where nothing else is out.
    pub fn try_grow(&mut self, bytes: u64) -> bool {
        let others = self.budget.used.get() - self.bytes;
        if bytes > self.bytes && !self.budget.admits(others, bytes) {
            return false;
        }
        self.resize(bytes.max(self.bytes));
        true
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        if planted(Bug::CreditLeaks) {
            return;
        }
        self.budget.set(self.budget.used.get() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_release_is_seen_by_everybody_who_looks() {
        let memory = Memory::new(200);
        let (flow, other) = (memory.flow(), memory.flow());
        let first = flow.frames.try_take(60).unwrap();
        let seen = other.releases();
        assert!(flow.frames.try_take(80).is_none());
        assert_eq!(other.releases(), seen);
        drop(first);
        assert_ne!(other.releases(), seen);
    }

    #[test]
    fn the_only_taker_may_exceed_the_limit() {
        let flow = Flow::new(20);
        let big = flow.bodies.try_take(1_000).unwrap();
        assert!(flow.bodies.try_take(1).is_none());
        drop(big);
        assert_eq!(flow.bodies.used(), 0);
    }

    #[test]
    fn a_member_alone_has_everything_and_two_have_a_half_and_a_quarter_for_each() {
        let memory = Memory::new(2_000);
        let flood = memory.flow();
        assert_eq!(flood.bodies.limit(), 1_000);
        let quiet = memory.flow();
        assert_eq!((flood.bodies.limit(), quiet.bodies.limit()), (750, 750));
        // A flood takes its share and the common half, and keeps it.
        let held: Vec<Credit> = std::iter::from_fn(|| flood.bodies.try_take(10)).collect();
        assert_eq!(flood.bodies.used(), 750);
        let own: Vec<Credit> = std::iter::from_fn(|| quiet.bodies.try_take(10)).collect();
        assert_eq!(quiet.bodies.used(), 250, "the share of the other is untouched");
        assert_eq!(memory.used(), 1_000);
        drop(held);
        let more: Vec<Credit> = std::iter::from_fn(|| quiet.bodies.try_take(10)).collect();
        assert_eq!(quiet.bodies.used(), 750, "what nobody uses is for whoever asks");
        drop((own, more));
        drop(flood);
        assert_eq!(quiet.bodies.limit(), 1_000);
    }

    #[test]
    fn a_member_with_nothing_out_is_served_even_where_the_memory_is_full() {
        let memory = Memory::new(200);
        let flows: Vec<Rc<Flow>> = (0..10).map(|_| memory.flow()).collect();
        let held: Vec<Credit> = std::iter::from_fn(|| flows[0].frames.try_take(1)).collect();
        assert_eq!(held.len(), 55);
        for flow in &flows[1..] {
            assert!(flow.frames.try_take(40).is_some(), "larger than its share of 5");
        }
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

        /// Law: whatever the others hold, a member gets its share; credits no larger than a share keep the limit.
        #[test]
        fn shares_are_kept(members in 2_usize..6, ops in proptest::collection::vec((0_usize..6, any::<bool>(), 1_u64..40), 0..300)) {
            let memory = Memory::new(2_000);
            let flows: Vec<Rc<Flow>> = (0..members).map(|_| memory.flow()).collect();
            let share = 500 / members as u64;
            let mut held: Vec<Vec<Credit>> = (0..members).map(|_| Vec::new()).collect();
            for (member, take, bytes) in ops {
                let member = member % members;
                let used = flows[member].bodies.used();
                if take {
                    let got = flows[member].bodies.try_take(bytes);
                    prop_assert!(got.is_some() || used + bytes > share);
                    held[member].extend(got);
                } else {
                    let _ = held[member].pop();
                }
                prop_assert!(memory.bodies.used.get() <= 1_000);
                let sum: u64 = flows.iter().map(|flow| flow.bodies.used()).sum();
                prop_assert_eq!(memory.bodies.used.get(), sum);
            }
        }
    }
}
