//! Which faults a run may see, and dice for each concern.

use sls2siem::proto::rng::Rng;

/// Chances in per mille; a run enables a random subset.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub connect_refused: u64,
    pub reset: u64,
    pub resolve_error: u64,
    pub pull_status: u64,
    pub pull_corrupt: u64,
    pub pull_torn: u64,
    pub pull_hang: u64,
    pub hec_busy: u64,
    pub hec_error_stored: u64,
    pub hec_error_clean: u64,
    pub hec_unreadable: u64,
    pub hec_partial: u64,
    pub hec_too_large: u64,
    pub hec_store_then_reset: u64,
    pub hec_hang: u64,
    pub hec_close: u64,
    pub hec_restart: u64,
    pub ack_slow: u64,
    pub ack_never: u64,
    pub ack_answer_lost: u64,
    pub ack_junk: u64,
    pub disk_full: u64,
    pub crash: u64,
    pub revoke: u64,
    pub abandon: u64,
    pub receiver_resets: u64,
    pub receiver_slow: u64,
    pub receiver_ends_early: u64,
    pub receiver_never_ends: u64,
    pub relp_refuses_open: u64,
    pub relp_refuses: u64,
    pub relp_serverclose: u64,
}

impl Plan {
    /// A random subset of the faults, each with a random chance.
    pub fn random(dice: &mut Rng) -> Self {
        let mut plan = Self::default();
        let fields: [&mut u64; 32] = [
            &mut plan.connect_refused,
            &mut plan.reset,
            &mut plan.resolve_error,
            &mut plan.pull_status,
            &mut plan.pull_corrupt,
            &mut plan.pull_torn,
            &mut plan.pull_hang,
            &mut plan.hec_busy,
            &mut plan.hec_error_stored,
            &mut plan.hec_error_clean,
            &mut plan.hec_unreadable,
            &mut plan.hec_partial,
            &mut plan.hec_too_large,
            &mut plan.hec_store_then_reset,
            &mut plan.hec_hang,
            &mut plan.hec_close,
            &mut plan.hec_restart,
            &mut plan.ack_slow,
            &mut plan.ack_never,
            &mut plan.ack_answer_lost,
            &mut plan.ack_junk,
            &mut plan.disk_full,
            &mut plan.crash,
            &mut plan.revoke,
            &mut plan.abandon,
            &mut plan.receiver_resets,
            &mut plan.receiver_slow,
            &mut plan.receiver_ends_early,
            &mut plan.receiver_never_ends,
            &mut plan.relp_refuses_open,
            &mut plan.relp_refuses,
            &mut plan.relp_serverclose,
        ];
        for field in fields {
            if dice.below(3) == 0 {
                *field = 1 + dice.below(200);
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
    pub on: bool,
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed), struck: 0, on: true }
    }

    /// True with a chance of `per_mille`, while faults are on.
    pub fn strike(&mut self, per_mille: u64) -> bool {
        // The draw is made in any case, so that ending the faults does not shift the sequence.
        let hit = self.rng.below(1_000) < per_mille && self.on;
        self.struck += u64::from(hit);
        hit
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.rng.below(bound)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.rng.next_u64()
    }
}
