//! Which faults a run may see, and dice for each concern.

use std::collections::BTreeMap;
use std::ops::Div;

use sls2siem::proto::rng::Rng;

/// The chance of one kind of fault.
#[derive(Clone, Copy, Debug)]
pub struct Chance {
    kind: &'static str,
    per_mille: u64,
}

impl Chance {
    /// False where the run does not see this kind at all.
    pub fn is_on(self) -> bool {
        self.per_mille > 0
    }
}

impl Div<u64> for Chance {
    type Output = Self;

    fn div(self, by: u64) -> Self {
        Self { per_mille: self.per_mille / by, ..self }
    }
}

/// Chances by name. The names are the kinds that the summary of a simulation lists.
macro_rules! chances {
    ($(#[$doc:meta])* $of:ident: $($name:ident up to $most:literal,)+) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $of {
            $(pub $name: $crate::faults::Chance,)+
        }

        impl Default for $of {
            fn default() -> Self {
                Self { $($name: $crate::faults::Chance::never(stringify!($name)),)+ }
            }
        }

        impl $of {
            /// The chance of each kind, and the most that it may be.
            pub fn each(&mut self) -> impl Iterator<Item = (&mut $crate::faults::Chance, u64)> {
                [$((&mut self.$name, $most),)+].into_iter()
            }
        }
    };
}
pub(crate) use chances;

impl Chance {
    pub const fn never(kind: &'static str) -> Self {
        Self { kind, per_mille: 0 }
    }

    pub fn set(&mut self, per_mille: u64) {
        self.per_mille = per_mille;
    }
}

chances! {
    /// Chances in per mille; a run enables a random subset.
    Plan:
    connect_refused up to 200,
    reset up to 200,
    net_slow up to 200,
    resolve_error up to 200,
    pull_status up to 200,
    pull_corrupt up to 200,
    pull_empty up to 200,
    pull_torn up to 200,
    pull_hang up to 200,
    pull_slow up to 100,
    hec_busy up to 200,
    hec_error up to 200,
    hec_error_clean up to 200,
    hec_unreadable up to 200,
    hec_partial up to 200,
    hec_too_large up to 200,
    hec_store_then_reset up to 200,
    hec_hang up to 200,
    hec_slow up to 200,
    hec_close up to 200,
    hec_restart up to 200,
    ack_slow up to 200,
    ack_never up to 200,
    ack_answer_lost up to 200,
    ack_answer_late up to 600,
    ack_junk up to 200,
    ack_refused up to 200,
    disk_full up to 600,
    crash up to 200,
    revoke up to 200,
    abandon up to 200,
    wall_clock up to 200,
    receiver_resets up to 200,
    receiver_slow up to 200,
    receiver_ends_early up to 200,
    receiver_throws_away up to 500,
    receiver_never_ends up to 200,
    relp_refuses_open up to 200,
    relp_refuses up to 200,
    relp_serverclose up to 200,
    relp_answers_late up to 200,
}

impl Plan {
    /// A random subset of the faults, each with a random chance.
    pub fn random(dice: &mut Rng) -> Self {
        let mut plan = Self::default();
        for (chance, most) in plan.each() {
            if dice.below(3) == 0 {
                chance.set(1 + dice.below(most));
            }
        }
        plan
    }
}

/// One stream of chances; counts what struck.
#[derive(Debug)]
pub struct Dice {
    rng: Rng,
    pub struck: u64,
    pub by_kind: BTreeMap<&'static str, u64>,
    pub on: bool,
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed), struck: 0, by_kind: BTreeMap::new(), on: true }
    }

    /// True as often as `chance` says, while faults are on.
    pub fn strike(&mut self, chance: Chance) -> bool {
        // The draw is made in any case, so that ending the faults does not shift the sequence.
        let hit = self.rng.below(1_000) < chance.per_mille && self.on;
        if hit {
            self.struck += 1;
            *self.by_kind.entry(chance.kind).or_default() += 1;
        }
        hit
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.rng.below(bound)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.rng.next_u64()
    }
}

/// Faults by kind, one line: what a simulation prints.
pub fn table(by_kind: &BTreeMap<&'static str, u64>) -> String {
    let mut kinds: Vec<_> = by_kind.iter().collect();
    kinds.sort_by_key(|(kind, count)| (std::cmp::Reverse(**count), **kind));
    let lines = kinds.chunks(4).map(|line| {
        let cells = line.iter().map(|(kind, count)| format!("{kind:<22}{count:>9}"));
        format!("  {}", cells.collect::<Vec<_>>().join("   "))
    });
    lines.collect::<Vec<_>>().join("\n")
}
