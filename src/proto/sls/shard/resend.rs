//! A range that is pulled again, because records of it were lost behind the first pull.
//!
//! Why: nothing is kept of what the sink has taken at HTTP level; SLS keeps it. Records are known by their number in the
//! range, so the range has to be the same as before, or none of them can be told from another.
//! Invariants: 1. a range that ends with another number of records than the first time is not believed. 2. what did not
//!  come is lost again in the ledger, never forgotten.
//! Bounds: one range of a shard at a time. Driven by: `shard`. Spec: `design.md` 3, the one recovery path.

use super::body::Entered;
use super::pull::Want;
use crate::proto::ids::{Cursor, PullId};
use crate::proto::ledger::{Ledger, Ranges};
use crate::proto::planted::{Bug, planted};
use crate::proto::sls::api::pull_head::PullHead;
use crate::proto::sls::body::BodyError;

/// Records of an earlier pull that are being pulled again.
pub(super) struct Resend {
    pull: PullId,
    wanted: Ranges,
    /// Records of the pull that came so far.
    base: u32,
    cursor: Cursor,
    end: Cursor,
}

/// What a piece of the range brought.
pub(super) struct Piece {
    /// Which of its records are wanted.
    pub(super) entered: Entered,
    /// The range is through.
    pub(super) is_over: bool,
}

impl Resend {
    /// The oldest pull of which something is lost.
    pub(super) fn begin(ledger: &mut Ledger) -> Option<Self> {
        let pull = ledger.first_lost()?;
        let (pulled, wanted) = ledger.begin_resend(pull)?;
        Some(Self { pull, wanted, base: 0, cursor: pulled.from, end: pulled.next })
    }

    /// What is to be pulled next.
    pub(super) fn want(&self) -> Want {
        Want { cursor: self.cursor.clone(), end: Some(self.end.clone()), again: true }
    }

    /// A piece of the range came. On an error the range is over, and what was open of it is lost again: data has expired
    /// in it, or a filter was changed.
    pub(super) fn answered(
        &mut self,
        head: &PullHead,
        records: u32,
        ledger: &mut Ledger,
    ) -> Result<Piece, BodyError> {
        let total = ledger.pulled(self.pull).map_or(0, |pulled| pulled.records);
        let (base, found) = (self.base, self.base.saturating_add(records));
        let is_through = head.next_cursor == self.end;
        if records > 0 && (found > total || is_through && found != total) {
            self.lose_from(base, total, ledger);
            return Err(BodyError::OtherRange { announced: total.into(), found: found.into() });
        }
        let is_stuck = head.next_cursor == self.cursor;
        self.cursor = head.next_cursor.clone();
        self.base = found;
        let is_over = is_through || found >= total || is_stuck;
        if is_over && !planted(Bug::ShortRangeIsWhole) {
            // Whatever did not come again is missing still.
            self.lose_from(found, total, ledger);
        }
        let first = if planted(Bug::PiecesFromZero) { 0 } else { base };
        Ok(Piece { entered: (self.pull, self.wanted.intersect(first, first + found - base), first), is_over })
    }

    fn lose_from(&self, record: u32, total: u32, ledger: &mut Ledger) {
        for (start, end) in self.wanted.intersect(record, total).iter() {
            ledger.lose(self.pull, start, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::ledger::Pulled;
    use crate::proto::sls::body::Compression;
    use crate::proto::time::Instant;

    /// A pull of ten records from c0 to c9, of which these are lost.
    fn ledger(lost: &[(u32, u32)]) -> Ledger {
        let mut ledger = Ledger::new();
        let pull = ledger.open(Pulled {
            from: Cursor::new("c0"),
            next: Cursor::new("c9"),
            next_time: None,
            records: 10,
            at: Instant(1),
        });
        ledger.ack(pull, 0, 2);
        for (start, end) in lost {
            ledger.lose(pull, *start, *end);
        }
        ledger
    }

    fn head(next: &str) -> PullHead {
        PullHead {
            next_cursor: Cursor::new(next),
            count: 1,
            raw_size: 1,
            compression: Compression::Lz4,
            cursor_time: None,
            end_of_cursor: false,
            read_last_cursor: None,
            raw_data_size: None,
            raw_data_count: None,
            request_id: String::new(),
        }
    }

    fn ranges(piece: &Piece) -> Vec<(u32, u32)> {
        piece.entered.1.iter().collect()
    }

    #[test]
    fn pieces_are_numbered_as_in_the_first_pull() {
        let mut ledger = ledger(&[(3, 5), (7, 9)]);
        let mut resend = Resend::begin(&mut ledger).unwrap();
        assert_eq!(resend.want().cursor, Cursor::new("c0"));
        let first = resend.answered(&head("c4"), 4, &mut ledger).unwrap();
        assert_eq!((ranges(&first), first.entered.2, first.is_over), (vec![(3, 4)], 0, false));
        assert_eq!(resend.want().cursor, Cursor::new("c4"));
        let last = resend.answered(&head("c9"), 6, &mut ledger).unwrap();
        assert_eq!((ranges(&last), last.entered.2, last.is_over), (vec![(4, 5), (7, 9)], 4, true));
        assert_eq!(ledger.first_lost(), None);
    }

    #[test]
    fn a_range_with_another_number_of_records_is_not_believed_and_stays_lost() {
        for (next, records) in [("c9", 7), ("c9", 11), ("c4", 12)] {
            let mut ledger = ledger(&[(3, 5)]);
            let mut resend = Resend::begin(&mut ledger).unwrap();
            assert!(resend.answered(&head(next), records, &mut ledger).is_err(), "{next} {records}");
            assert!(ledger.first_lost().is_some(), "{next} {records}");
        }
    }

    #[test]
    fn what_does_not_come_is_asked_for_again() {
        let mut ledger = ledger(&[(3, 5)]);
        let mut resend = Resend::begin(&mut ledger).unwrap();
        let piece = resend.answered(&head("c0"), 0, &mut ledger).unwrap();
        assert!(piece.is_over && ranges(&piece).is_empty());
        assert!(ledger.first_lost().is_some());
    }
}
