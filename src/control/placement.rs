//! Which executor a shard lives on.
//!
//! Why: a shard stays on one core from assignment to release; several pipelines share the cores, so the count of
//! shards per executor is the process's, not one pipeline's.
//! Invariants: 1. a pinned shard is on its core or the process does not start; 2. every `place` is undone by one `release`;
//! 3. two threads that place at the same time never both take the last free place unseen.
//! Bounds: one counter per executor. Driven by: the control threads of all pipelines. Spec: setting `runtime.pin`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::proto::ids::ShardId;

/// Shards per executor, and the shards that have a fixed place.
#[derive(Debug)]
pub struct Placement {
    cores: Vec<usize>,
    loads: Vec<AtomicUsize>,
    pins: BTreeMap<(String, ShardId), usize>,
}

/// One entry of `runtime.pin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Its shard.
    pub shard: ShardId,
    /// Where it belongs.
    pub core: usize,
}

/// Why shards cannot be placed as the settings say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum PlacementError {
    #[error(
        "runtime.pin puts shard {shard} of pipeline {pipeline:?} on core {core}, which has no executor (they run on {cores:?}) - \
         add the core to runtime.cores or change the pin"
    )]
    NoExecutor { pipeline: String, shard: ShardId, core: usize, cores: Vec<usize> },
    #[error("there is no executor to place shards on - give runtime.cores at least one core")]
    NoCores,
}

impl Placement {
    /// `cores`: the core of each executor, in the order of their indexes.
    pub fn new(cores: Vec<usize>, pins: &[Pin]) -> Result<Self, PlacementError> {
        if cores.is_empty() {
            return Err(PlacementError::NoCores);
        }
        let mut fixed = BTreeMap::new();
        for Pin { pipeline, shard, core } in pins {
            let executor = cores.iter().position(|known| known == core).ok_or_else(|| {
                let (pipeline, cores) = (pipeline.clone(), cores.clone());
                PlacementError::NoExecutor { pipeline, shard: *shard, core: *core, cores }
            })?;
            fixed.insert((pipeline.clone(), *shard), executor);
        }
        let loads = cores.iter().map(|_| AtomicUsize::new(0)).collect();
        Ok(Self { cores, loads, pins: fixed })
    }

    /// Takes a place. `before`: where the shard was last time.
    pub fn place(&self, pipeline: &str, shard: ShardId, before: Option<usize>) -> usize {
        if let Some(&executor) = self.pins.get(&(pipeline.to_owned(), shard)) {
            self.add(executor);
            return executor;
        }
        loop {
            let loads: Vec<usize> = self.loads.iter().map(|load| load.load(Ordering::Acquire)).collect();
            let executor = choose(&loads, before);
            let (Some(load), Some(&seen)) = (self.loads.get(executor), loads.get(executor)) else { return 0 };
            // Somebody else may have taken the place since we looked.
            if load.compare_exchange(seen, seen + 1, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return executor;
            }
        }
    }

    /// Gives a place back.
    pub fn release(&self, executor: usize) {
        if let Some(load) = self.loads.get(executor) {
            // A release without a place would be a bug of ours; it must not wrap the counter.
            let _unchanged =
                load.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| count.checked_sub(1));
        }
    }

    /// The core of an executor, for the log.
    pub fn core(&self, executor: usize) -> Option<usize> {
        self.cores.get(executor).copied()
    }

    /// Number of executors.
    pub fn executors(&self) -> usize {
        self.cores.len()
    }

    /// Shards per executor now.
    pub fn loads(&self) -> Vec<usize> {
        self.loads.iter().map(|load| load.load(Ordering::Acquire)).collect()
    }

    fn add(&self, executor: usize) {
        if let Some(load) = self.loads.get(executor) {
            load.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// The executor with the fewest shards; where the shard was before, if that is as good.
fn choose(loads: &[usize], before: Option<usize>) -> usize {
    let least = loads.iter().copied().min().unwrap_or(0);
    let same = before.filter(|&executor| loads.get(executor) == Some(&least));
    same.or_else(|| loads.iter().position(|&load| load == least)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn placement(cores: &[usize]) -> Placement {
        Placement::new(cores.to_vec(), &[]).unwrap()
    }

    #[test]
    fn shards_spread_evenly() {
        let placement = placement(&[4, 5, 6]);
        for shard in 0..7 {
            placement.place("a", ShardId(shard), None);
        }
        assert_eq!(placement.loads(), [3, 2, 2]);
        assert_eq!(placement.core(2), Some(6));
    }

    #[test]
    fn a_shard_that_comes_back_goes_where_it_was_unless_others_have_less() {
        let placement = placement(&[0, 1]);
        let first = placement.place("a", ShardId(0), None);
        assert_eq!(placement.place("a", ShardId(1), None), 1);
        placement.release(1);
        assert_eq!(placement.place("a", ShardId(1), Some(1)), 1);
        placement.release(1);
        assert_eq!(placement.place("b", ShardId(7), Some(first)), 1, "the other one is empty");
    }

    #[test]
    fn pins_are_honoured_and_counted() {
        let pins = [
            Pin { pipeline: "a".into(), shard: ShardId(0), core: 9 },
            Pin { pipeline: "a".into(), shard: ShardId(1), core: 9 },
        ];
        let placement = Placement::new(vec![8, 9], &pins).unwrap();
        assert_eq!(placement.place("a", ShardId(0), Some(0)), 1);
        assert_eq!(placement.place("a", ShardId(1), None), 1);
        assert_eq!(placement.place("b", ShardId(0), Some(1)), 0, "another pipeline's shard 0 is not pinned");
        assert_eq!(placement.loads(), [1, 2]);
    }

    #[test]
    fn a_pin_to_a_core_without_an_executor_is_refused_by_name() {
        let pin = Pin { pipeline: "a".into(), shard: ShardId(3), core: 7 };
        let error = Placement::new(vec![0, 1], &[pin]).unwrap_err().to_string();
        assert!(
            error.contains("shard 3") && error.contains("core 7") && error.contains("runtime.pin"),
            "{error}"
        );
        assert_eq!(Placement::new(Vec::new(), &[]).unwrap_err(), PlacementError::NoCores);
    }

    #[test]
    fn a_release_too_many_does_not_wrap() {
        let placement = placement(&[0]);
        placement.release(0);
        placement.release(9);
        assert_eq!(placement.loads(), [0]);
    }

    #[test]
    fn threads_that_place_at_once_keep_the_balance() {
        let placement = Arc::new(placement(&[0, 1, 2, 3]));
        std::thread::scope(|scope| {
            for name in ["a", "b", "c", "d"] {
                let placement = &placement;
                scope.spawn(move || {
                    for shard in 0..100 {
                        placement.place(name, ShardId(shard), None);
                    }
                });
            }
        });
        assert_eq!(placement.loads(), [100; 4]);
    }

    proptest! {
        /// Without pins, after any history of places and releases of the fullest, loads differ by at most one.
        #[test]
        fn loads_never_differ_by_more_than_one(executors in 1_usize..8, steps in proptest::collection::vec(any::<bool>(), 0..200)) {
            let placement = placement(&(0..executors).collect::<Vec<_>>());
            for (shard, place) in (0_u32..).zip(steps) {
                if place {
                    placement.place("a", ShardId(shard), None);
                } else {
                    let loads = placement.loads();
                    let fullest = loads.iter().enumerate().max_by_key(|(_, load)| **load).unwrap().0;
                    placement.release(fullest);
                }
                let loads = placement.loads();
                prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1);
            }
        }
    }
}
