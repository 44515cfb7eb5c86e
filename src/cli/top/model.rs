//! What `top` shows: the last answer, how it is sorted, what is looked at.
//!
//! Why: keys and answers come in any order; what they do to the view is decided without a terminal.
//! Invariants: 1. the part of the list that is shown always exists. 2. while paused no answer changes anything.
//! Bounds: [`SAMPLES_MAX`] samples of each pipeline. Driven by: [`super`]. Spec: keys in README.md.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use crate::metrics::{PipelineStatus, ShardStatus, Status};

/// Two minutes.
const SAMPLES_MAX: usize = 120;

/// Order of the shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Lag,
    Waiting,
    Shard,
    Core,
}

impl Sort {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Lag => "lag",
            Self::Waiting => "waiting",
            Self::Shard => "shard",
            Self::Core => "core",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) address: String,
    pub(super) coloured: bool,
    pub(super) status: Status,
    /// Why the last question got no answer, and how many of them got none.
    pub(super) unanswered: Option<(String, u32)>,
    pub(super) is_paused: bool,
    pub(super) sort: Sort,
    /// The pipeline whose shards are shown; none is all.
    selected: Option<String>,
    /// First shard that is shown.
    offset: Cell<usize>,
    /// Shards that fit, told by the screen.
    rows: Cell<usize>,
    samples: BTreeMap<String, VecDeque<f64>>,
}

impl Model {
    pub(super) fn new(address: String, coloured: bool) -> Self {
        Self {
            address,
            coloured,
            status: Status::default(),
            unanswered: None,
            is_paused: false,
            sort: Sort::Lag,
            selected: None,
            offset: Cell::new(0),
            rows: Cell::new(1),
            samples: BTreeMap::new(),
        }
    }

    /// An answer, or why there is none; true where the view changes.
    pub(super) fn take(&mut self, answer: Result<Status, String>) -> bool {
        if self.is_paused {
            return false;
        }
        match answer {
            Ok(status) => {
                self.sample(&status);
                self.status = status;
                self.unanswered = None;
                let gone = |name: &String| !self.status.pipelines.iter().any(|known| known.name == *name);
                if self.selected.as_ref().is_some_and(gone) {
                    self.selected = None;
                }
            }
            Err(why) => {
                let times = self.unanswered.as_ref().map_or(0, |(_, times)| *times);
                self.unanswered = Some((why, times + 1));
            }
        }
        true
    }

    fn sample(&mut self, status: &Status) {
        for pipeline in &status.pipelines {
            let samples = self.samples.entry(pipeline.name.clone()).or_insert_with(|| {
                // What was before we came, at our own pace.
                let step = usize::try_from(status.history_step_seconds.max(1)).unwrap_or(1);
                let past = pipeline.history.iter().map(|point| f64::from(point.raw_bytes_per_second));
                past.flat_map(|value| std::iter::repeat_n(value, step)).collect()
            });
            samples.push_back(pipeline.raw_bytes_per_second);
            while samples.len() > SAMPLES_MAX {
                samples.pop_front();
            }
        }
    }

    /// Bytes read per second, the newest last, at most so many.
    pub(super) fn samples(&self, pipeline: &str, count: usize) -> Vec<f64> {
        let samples = self.samples.get(pipeline);
        let skipped = samples.map_or(0, |samples| samples.len().saturating_sub(count));
        samples.into_iter().flatten().skip(skipped).copied().collect()
    }

    pub(super) fn pause(&mut self) {
        self.is_paused = !self.is_paused;
    }

    pub(super) fn sort_by(&mut self, sort: Sort) {
        self.sort = sort;
        self.offset.set(0);
    }

    pub(super) fn scroll(&mut self, direction: Direction, rows: usize) {
        let offset = match direction {
            Direction::Up => self.offset.get().saturating_sub(rows),
            Direction::Down => self.offset.get().saturating_add(rows),
        };
        self.offset.set(offset);
        self.clamp();
    }

    /// The next pipeline, all of them behind the last.
    pub(super) fn select(&mut self, direction: Direction) {
        let names: Vec<&str> = self.pipelines().iter().map(|pipeline| pipeline.name.as_str()).collect();
        let at = self.selected.as_ref().and_then(|name| names.iter().position(|known| known == name));
        let next = match (direction, at) {
            (Direction::Down, None) => Some(0),
            (Direction::Down, Some(at)) => Some(at + 1),
            (Direction::Up, None) => names.len().checked_sub(1),
            (Direction::Up, Some(at)) => at.checked_sub(1),
        };
        self.selected = next.and_then(|next| names.get(next)).map(|name| (*name).to_owned());
        self.offset.set(0);
    }

    pub(super) fn selected(&self) -> Option<&str> {
        self.selected.as_deref()
    }

    /// Rows of shards on the screen.
    pub(super) fn page_rows(&self) -> usize {
        self.rows.get().max(1)
    }

    /// The pipelines, those in trouble and behind first.
    pub(super) fn pipelines(&self) -> Vec<&PipelineStatus> {
        let mut rows: Vec<&PipelineStatus> = self.status.pipelines.iter().collect();
        rows.sort_by_key(|row| (row.state == "ok", Reverse(row.lag_seconds)));
        rows
    }

    /// The shards that fit into so many rows, where they begin, and how many there are.
    pub(super) fn shards(&self, rows: usize) -> (Vec<(&str, &ShardStatus)>, usize, usize) {
        let wanted = |pipeline: &&PipelineStatus| {
            self.selected.as_ref().is_none_or(|selected| *selected == pipeline.name)
        };
        let mut all: Vec<(&str, &ShardStatus)> = self
            .status
            .pipelines
            .iter()
            .filter(wanted)
            .flat_map(|pipeline| pipeline.shards.iter().map(|shard| (pipeline.name.as_str(), shard)))
            .collect();
        // Stable: what is equal stays in the order of the settings.
        match self.sort {
            Sort::Lag => all
                .sort_by_key(|(_, shard)| (!shard.held, Reverse((shard.lag_seconds, shard.pending_seconds)))),
            Sort::Waiting => {
                all.sort_by_key(|(_, shard)| Reverse((shard.pending_seconds, shard.lag_seconds)));
            }
            Sort::Shard => {}
            Sort::Core => all.sort_by_key(|(_, shard)| shard.core),
        }
        self.rows.set(rows);
        let count = all.len();
        let offset = self.offset.get().min(count.saturating_sub(rows));
        self.offset.set(offset);
        (all.into_iter().skip(offset).take(rows).collect(), offset, count)
    }

    fn clamp(&self) {
        let rows = self.rows.get();
        let _clamped = self.shards(rows);
    }
}
