//! The end of a run, and what has to hold until then.
//!
//! Why: one place to read what is promised.   Invariants: those it checks.   Bounds: [`PATIENCE`].   Driven by: `storm`.

use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::plans::{PIPELINES, RECEIVERS};
use super::{FORWARDERS, GROUP_LOGS, SHARDS, Storm};
use crate::PATIENCE;
use crate::forwarder::Forwarder;

impl Storm {
    /// Nothing goes wrong any more: everything has to drain.
    pub(super) fn calm(&mut self) {
        let end = Instant::now() + PATIENCE;
        while !self.mending.is_empty() {
            self.mend(|_| true);
            assert!(Instant::now() < end, "not mended: {:?}", self.mending);
        }
        for receiver in 0..RECEIVERS.len() {
            self.receivers[receiver].server.take().unwrap().stop();
            self.start_receiver(receiver, false);
        }
        self.post("/rate?bytes=1000000000", "");
        while !self.is_drained() {
            self.expect_alive();
            if Instant::now() >= end {
                let state = serde_json::to_string_pretty(&self.state()).unwrap();
                let tails: Vec<String> = self.forwarders.iter().map(Forwarder::tail).collect();
                panic!("not drained within {PATIENCE:?}: {state}\n{}", tails.join("\n----\n"));
            }
            self.hold_checkpoints_against_the_ledger();
            thread::sleep(Duration::from_millis(200));
        }
        for forwarder in 0..FORWARDERS {
            self.note_duplicates(forwarder);
            let status = self.forwarders[forwarder].stop();
            assert_eq!(status.code(), Some(0), "{status}\n{}", self.forwarders[forwarder].tail());
        }
    }

    /// Everything that the source gave is stored.
    pub(super) fn judge(&mut self) {
        let strays = self.get("/verdict");
        assert_eq!(strays["stray_commits"], Value::Array(Vec::new()), "{strays:#}");
        let total = self.records * u64::from(SHARDS);
        let mut text = format!(
            "chaos: CHAOS_SEED={} {:.0?}, {} faults, checkpoints held against the ledger {} times\n",
            self.seed,
            self.begun.elapsed(),
            self.events.values().sum::<u64>(),
            self.looks
        );
        for (name, count) in &self.events {
            let _ = writeln!(text, "  {count:>4} {name}");
        }
        let _ = writeln!(
            text,
            "  {:>4} forwarders ended for want of memory and were started again",
            self.starved
        );
        let _ = writeln!(
            text,
            "  {:>4} forwarders ended at their start for want of file descriptors and were started again",
            self.unopened
        );
        let (mut lost, mut duplicates) = (Vec::new(), 0);
        for (name, ledger) in &mut self.ledgers {
            ledger.refresh();
            let missing: u64 = (0..SHARDS)
                .map(|shard| {
                    let missing = ledger.missing(shard, self.records);
                    lost.extend(missing.iter().take(5).map(|number| format!("{name} {shard}-{number}")));
                    missing.len() as u64
                })
                .sum();
            let (unique, more) = ledger.totals();
            duplicates += more;
            let letters = ledger.letters();
            let _ = writeln!(
                text,
                "  {name}: {total} records, {unique} stored ({letters} of them as dead letters), {more} duplicates, lost {missing}"
            );
        }
        let _ = writeln!(
            text,
            "  {duplicates} duplicates in all; the forwarders that could still be asked counted {} as possible",
            self.possible_duplicates
        );
        eprint!("{text}");
        assert!(lost.is_empty(), "lost: {lost:?}");
    }

    /// No checkpoint is ahead of what is stored, at no moment.
    pub(super) fn hold_checkpoints_against_the_ledger(&mut self) {
        self.looks += 1;
        // Read before the files: what is stored later cannot hide a checkpoint that ran ahead.
        let state = self.state();
        for name in PIPELINES {
            let ledger = self.ledgers.get_mut(name).unwrap();
            ledger.refresh();
            let Some(saved) = state["groups"][format!("chaos-{name}")]["checkpoints"].as_object() else {
                continue;
            };
            for (shard, groups) in saved {
                let count = (groups.as_u64().unwrap() * GROUP_LOGS).min(self.records);
                let missing = ledger.missing(shard.parse().unwrap(), count);
                assert!(
                    missing.is_empty(),
                    "the checkpoint of {name}, shard {shard}, is at record {count}, and not stored are {missing:?}"
                );
            }
        }
    }

    fn is_drained(&self) -> bool {
        let state = self.state();
        let shards = state["shards"].as_object().unwrap();
        PIPELINES.iter().all(|name| {
            let saved = &state["groups"][format!("chaos-{name}")]["checkpoints"];
            shards.iter().all(|(shard, view)| saved[shard] == view["total"])
        })
    }
}
