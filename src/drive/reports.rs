//! What a pipeline tells its control thread, without a wake for each acknowledgement.
//!
//! Why: positions become safe with every answer of the sink and are saved every few seconds; sending each one at once wakes
//! two threads per pull for nothing.
//! Invariants: 1. of each holding of a shard the last safe position is told, at the next [`Outbox::flush`]. 2. it is told before
//! any other report that came after it: a drained shard's last position comes before the news that it is drained.
//! Bounds: one position for each holding since the last flush, which is a heartbeat ago at most.
//! Driven by: `pump`; `executor` flushes with each heartbeat.

use std::cell::RefCell;
use std::sync::mpsc::Sender;

use super::{ExecutorIndex, PipelineId};
use crate::proto::event::Report;
use crate::proto::ids::{Epoch, ShardId};

/// Where the reports of a pipeline go.
pub(crate) type Reports = Sender<(ExecutorIndex, PipelineId, Report)>;

/// The reports of one pipeline of one executor.
pub(crate) struct Outbox {
    from: (ExecutorIndex, PipelineId),
    to: Reports,
    safe: RefCell<Vec<Report>>,
}

impl Outbox {
    pub(crate) fn new(from: (ExecutorIndex, PipelineId), to: Reports) -> Self {
        Self { from, to, safe: RefCell::default() }
    }

    /// Tells it now, or, of a safe position, with the next flush.
    pub(crate) fn tell(&self, report: Report) {
        if !matches!(report, Report::Safe { .. }) {
            self.flush();
            return self.send(report);
        }
        let mut safe = self.safe.borrow_mut();
        match safe.iter_mut().find(|other| holding(other) == holding(&report)) {
            Some(older) => *older = report,
            None => safe.push(report),
        }
    }

    /// Tells what waits.
    pub(crate) fn flush(&self) {
        for report in self.safe.borrow_mut().drain(..) {
            self.send(report);
        }
    }

    fn send(&self, report: Report) {
        let (executor, pipeline) = self.from;
        // Nobody listens while the process goes down.
        let _ = self.to.send((executor, pipeline, report));
    }
}

/// Whose safe position it is.
fn holding(report: &Report) -> Option<(ShardId, Epoch)> {
    match report {
        Report::Safe { shard, epoch, .. } => Some((*shard, *epoch)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::proto::ids::Cursor;

    fn safe(shard: u32, epoch: u64, cursor: &str) -> Report {
        let (shard, epoch, cursor) = (ShardId(shard), Epoch(epoch), Cursor::new(cursor));
        Report::Safe { shard, epoch, cursor, cursor_time: None }
    }

    fn outbox() -> (Outbox, Receiver<(ExecutorIndex, PipelineId, Report)>) {
        let (to, told) = channel();
        (Outbox::new((ExecutorIndex(0), PipelineId(7)), to), told)
    }

    fn heard(told: &Receiver<(ExecutorIndex, PipelineId, Report)>) -> Vec<Report> {
        told.try_iter().map(|(_, _, report)| report).collect()
    }

    #[test]
    fn the_last_position_of_each_holding_is_told_with_a_flush_and_once() {
        let (outbox, told) = outbox();
        for report in [safe(1, 1, "a"), safe(2, 1, "x"), safe(1, 1, "b"), safe(1, 2, "c"), safe(1, 2, "d")] {
            outbox.tell(report);
        }
        assert_eq!(heard(&told), []);
        outbox.flush();
        assert_eq!(heard(&told), [safe(1, 1, "b"), safe(2, 1, "x"), safe(1, 2, "d")]);
        outbox.flush();
        assert_eq!(heard(&told), []);
    }

    #[test]
    fn whatever_else_there_is_to_tell_is_told_at_once_and_behind_the_positions() {
        let (outbox, told) = outbox();
        outbox.tell(Report::Stopped);
        assert_eq!(heard(&told), [Report::Stopped]);
        outbox.tell(safe(1, 1, "a"));
        let drained = Report::Drained { shard: ShardId(1), epoch: Epoch(1) };
        outbox.tell(drained.clone());
        assert_eq!(heard(&told), [safe(1, 1, "a"), drained]);
    }
}
