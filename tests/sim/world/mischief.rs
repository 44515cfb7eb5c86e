//! What happens to the process, to servers and to shards that is nobody's answer.

use std::rc::Rc;

use sls2siem::proto::event::{ClosedKind, Command};
use sls2siem::proto::flow::Flow;
use sls2siem::proto::ids::{Epoch, ShardId};
use sls2siem::proto::time::{Instant, UnixTime};

use super::{Event, MILLI, SECOND, World};
use crate::forwarder::new_pipeline;
use crate::syslog::Receiver;

impl World {
    pub(super) fn mischief(&mut self) {
        let now = Instant(self.now);
        self.at((200 + self.seed % 700) * MILLI, Event::Mischief);
        if self.dice.strike(self.plan.crash / 8) {
            self.crashes += 1;
            self.process += 1;
            self.links.clear();
            self.revoked.clear();
            self.refused.clear();
            self.receivers.iter_mut().for_each(Receiver::forget_peer);
            self.flow = Flow::new(self.flow.bodies.limit() * 2);
            self.pipeline = new_pipeline(self.seed, self.kind, Rc::clone(&self.flow), self.process);
            self.start_process();
            return;
        }
        if self.dice.strike(self.plan.hec_restart / 8) {
            let at = usize::try_from(self.dice.below(2)).unwrap();
            self.hecs[at].restart();
        }
        if self.dice.strike(self.plan.reset)
            && let Some(conn) = self
                .links
                .keys()
                .copied()
                .nth(usize::try_from(self.dice.below(self.links.len().max(1) as u64)).unwrap())
        {
            self.at(MILLI, Event::Closed(self.process, conn, ClosedKind::Reset));
        }
        if self.dice.strike(self.plan.wall_clock) {
            let wall = UnixTime::from_secs(1_767_323_000 + self.dice.below(2 * 86_400) - 86_400);
            self.pipeline.handle_wall_clock(now, wall);
        }
        let shard = u32::try_from(self.dice.below(self.sls.shards.len() as u64)).unwrap();
        let epoch = Epoch(self.epochs[&shard]);
        if self.dice.strike(self.plan.revoke) {
            self.revoked.insert(shard);
            self.pipeline.handle_command(now, Command::Revoke { shard: ShardId(shard), epoch });
        } else if self.dice.strike(self.plan.abandon) {
            self.pipeline.handle_command(now, Command::Abandon { shard: ShardId(shard), epoch });
            *self.epochs.get_mut(&shard).unwrap() += 1;
            self.at(SECOND, Event::Assign(self.process, shard));
        }
    }

    pub(super) fn start_process(&mut self) {
        for shard in 0..u32::try_from(self.sls.shards.len()).unwrap() {
            self.assign(shard);
        }
    }
}
