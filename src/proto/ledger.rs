//! What a shard has pulled, what of it the sink has acknowledged, and so what may be committed.
//!
//! Why: SLS keeps one checkpoint per shard, the sink acknowledges pieces in any order. The simple way
//! (commit after each pull, or keep the highest acknowledged cursor) loses whatever was still missing below it.
//! A pull is counted in records, not in frames: a frame that the sink takes in part is split, one that has
//! to be pulled again is cut differently after a change of settings, records keep their number.
//! Invariants: 1. the safe cursor is `next` of the longest prefix of pulls without an open record.
//!  2. the safe cursor never moves back. 3. `lost` records are open records. 4. an acknowledgement counts once.
//! Bounds: one entry per pull, [`PULLS_MAX`] entries; a full ledger stops the shard's pulls.
//! Driven by: `sls::shard` opens pulls, the sink's outcomes acknowledge or lose ranges of them.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::ids::{Cursor, PullId};
use super::planted::{Bug, planted};
use super::time::Instant;

/// Pulls that may wait for acknowledgements per shard.
pub const PULLS_MAX: usize = 65_536;

/// A sorted set of record numbers as half-open ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(SmallVec<[(u32, u32); 2]>);

impl Ranges {
    /// All of `start..end`.
    pub fn new(start: u32, end: u32) -> Self {
        let mut ranges = Self::default();
        ranges.insert(start, end);
        ranges
    }

    /// True without any record.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of records.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|&(start, end)| end - start).sum()
    }

    /// The first range.
    pub fn first(&self) -> Option<(u32, u32)> {
        self.0.first().copied()
    }

    /// The ranges, ascending, neither touching nor overlapping.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.0.iter().copied()
    }

    /// Adds `start..end`.
    pub fn insert(&mut self, start: u32, end: u32) {
        if start >= end {
            return;
        }
        let (mut start, mut end) = (start, end);
        let mut kept: SmallVec<[(u32, u32); 2]> = SmallVec::new();
        let mut placed = false;
        for &(a, b) in &self.0 {
            if b < start {
                kept.push((a, b));
            } else if a > end {
                if !placed {
                    kept.push((start, end));
                    placed = true;
                }
                kept.push((a, b));
            } else {
                start = start.min(a);
                end = end.max(b);
            }
        }
        if !placed {
            kept.push((start, end));
        }
        self.0 = kept;
    }

    /// Takes `start..end` out; returns how many records were there.
    pub fn remove(&mut self, start: u32, end: u32) -> u32 {
        if start >= end {
            return 0;
        }
        let before = self.count();
        let mut kept: SmallVec<[(u32, u32); 2]> = SmallVec::new();
        for &(a, b) in &self.0 {
            if a < start {
                kept.push((a, b.min(start)));
            }
            if b > end {
                kept.push((a.max(end), b));
            }
        }
        self.0 = kept;
        before - self.count()
    }

    /// The part of `start..end` that is in this set.
    #[must_use]
    pub fn intersect(&self, start: u32, end: u32) -> Self {
        let mut out = Self::default();
        for &(a, b) in &self.0 {
            let (a, b) = (a.max(start), b.min(end));
            if a < b {
                out.0.push((a, b));
            }
        }
        out
    }
}

/// A position that may be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafeCursor {
    /// First position that is not acknowledged.
    pub cursor: Cursor,
    /// `x-log-cursor-time` of it, where the server said it.
    pub cursor_time: Option<u64>,
}

/// What a pull brought.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// Where it began.
    pub from: Cursor,
    /// Where the next pull begins.
    pub next: Cursor,
    /// Receive time of `next`, unix seconds.
    pub next_time: Option<u64>,
    /// Records in it.
    pub records: u32,
    /// When its body was complete.
    pub at: Instant,
}

#[derive(Debug)]
struct Entry {
    pulled: Pulled,
    open: Ranges,
    lost: Ranges,
}

/// The ledger of one shard holding.
#[derive(Debug, Default)]
pub struct Ledger {
    pulls: VecDeque<Entry>,
    /// `PullId` of the front entry.
    first: u64,
    lost_records: u64,
    open_records: u64,
}

impl Ledger {
    /// An empty ledger; its first pull gets number 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Enters a pull. Pulls are entered in the order of their cursors.
    pub fn open(&mut self, pulled: Pulled) -> PullId {
        let id = PullId(self.first + self.pulls.len() as u64);
        self.open_records += u64::from(pulled.records);
        let open = Ranges::new(0, pulled.records);
        self.pulls.push_back(Entry { pulled, open, lost: Ranges::default() });
        id
    }

    /// Records of `pull` in `start..end` are stored at the sink (or in the dead letter). Returns how many of
    /// them were not known to be before.
    pub fn ack(&mut self, pull: PullId, start: u32, end: u32) -> u32 {
        let Some(entry) = self.entry(pull) else { return 0 };
        let (start, end) = if planted(Bug::AckWholePull) { (0, u32::MAX) } else { (start, end) };
        let newly = entry.open.remove(start, end);
        let found = entry.lost.remove(start, end);
        self.open_records -= u64::from(newly);
        self.lost_records -= u64::from(found);
        newly
    }

    /// Records of `pull` in `start..end` are no longer in memory and were not acknowledged: they have to be
    /// pulled again.
    pub fn lose(&mut self, pull: PullId, start: u32, end: u32) {
        let Some(entry) = self.entry(pull).filter(|_| !planted(Bug::ForgetLost)) else { return };
        let before = entry.lost.count();
        for (a, b) in entry.open.intersect(start, end).iter() {
            entry.lost.insert(a, b);
        }
        let added = entry.lost.count() - before;
        self.lost_records += u64::from(added);
    }

    /// Removes the acknowledged prefix; the new safe cursor, if it moved. `done` hears of each finished pull.
    pub fn poll_safe(&mut self, mut done: impl FnMut(&Pulled)) -> Option<SafeCursor> {
        let mut safe = None;
        if planted(Bug::CommitHighest) {
            let highest = self.pulls.iter().rposition(|entry| entry.open.is_empty());
            self.pulls.iter_mut().take(highest.unwrap_or(0)).for_each(|entry| entry.open = Ranges::default());
        }
        while self.pulls.front().is_some_and(|entry| entry.open.is_empty()) {
            let Some(entry) = self.pulls.pop_front() else { break };
            self.first += 1;
            done(&entry.pulled);
            safe = Some(SafeCursor { cursor: entry.pulled.next, cursor_time: entry.pulled.next_time });
        }
        if planted(Bug::CommitOneEarly)
            && let (Some(safe), Some(next)) = (&mut safe, self.oldest())
        {
            safe.cursor = next.next.clone();
        }
        safe
    }

    /// The oldest pull with lost records.
    pub fn first_lost(&self) -> Option<PullId> {
        if self.lost_records == 0 {
            return None;
        }
        let at = self.pulls.iter().position(|entry| !entry.lost.is_empty())?;
        Some(PullId(self.first + at as u64))
    }

    /// The pull and the records of it that have to be sent again; they count as in memory from now on.
    pub fn begin_resend(&mut self, pull: PullId) -> Option<(Pulled, Ranges)> {
        let entry = self.entry(pull)?;
        let wanted = core::mem::take(&mut entry.lost);
        let pulled = entry.pulled.clone();
        self.lost_records -= u64::from(wanted.count());
        let whole = wanted.count();
        let wanted = if planted(Bug::ResendHalf) { wanted.intersect(0, whole.div_ceil(2)) } else { wanted };
        Some((pulled, wanted))
    }

    /// The pull itself.
    pub fn pulled(&self, pull: PullId) -> Option<&Pulled> {
        let at = usize::try_from(pull.0.checked_sub(self.first)?).ok()?;
        self.pulls.get(at).map(|entry| &entry.pulled)
    }

    /// The oldest pull that is not acknowledged whole.
    pub fn oldest(&self) -> Option<&Pulled> {
        self.pulls.front().map(|entry| &entry.pulled)
    }

    /// True when everything that was pulled is acknowledged.
    pub fn is_empty(&self) -> bool {
        self.pulls.is_empty()
    }

    /// True when no further pull may be entered.
    pub fn is_full(&self) -> bool {
        self.pulls.len() >= PULLS_MAX
    }

    /// Records that wait for an acknowledgement.
    pub fn open_records(&self) -> u64 {
        self.open_records
    }

    fn entry(&mut self, pull: PullId) -> Option<&mut Entry> {
        let at = usize::try_from(pull.0.checked_sub(self.first)?).ok()?;
        self.pulls.get_mut(at)
    }
}

#[cfg(test)]
mod tests;
