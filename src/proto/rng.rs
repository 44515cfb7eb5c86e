//! A seeded random number generator for jitter, choices and channel names.
//!
//! Why: a replayed seed has to give the same run, so the core draws from nothing else.
//! Invariants: 1. the same seed gives the same sequence on every machine.
//! Bounds: 8 bytes of state; its period is 2^64.
//! Driven by: the driver seeds it once from the operating system, the simulation from its seed.
//! Spec: `SplitMix64` (Steele, Lea, Flood 2014); not for secrets.

use core::fmt::Write as _;

/// `SplitMix64`.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator that will always give the same sequence.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound` (0 for a bound of 0).
    pub fn below(&mut self, bound: u64) -> u64 {
        // The high half of a 128-bit product: no division, bias below 2^-32 for the small bounds used here.
        u64::try_from((u128::from(self.next_u64()) * u128::from(bound)) >> 64).unwrap_or(0)
    }

    /// A random GUID (version 4) as text, the form of a HEC channel.
    pub fn guid(&mut self) -> String {
        let high = (self.next_u64() & !0xf000) | 0x4000;
        let low = (self.next_u64() & !(0b11 << 62)) | (0b10 << 62);
        let mut text = String::with_capacity(36);
        // Writing into a String cannot fail.
        let _ = write!(
            text,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guid_has_the_form_of_version_4() {
        let mut rng = Rng::new(7);
        for _ in 0..1000 {
            let guid = rng.guid();
            assert_eq!(guid.len(), 36);
            assert_eq!(&guid[14..15], "4");
            assert!(["8", "9", "a", "b"].contains(&&guid[19..20]));
        }
    }

    #[test]
    fn below_stays_below() {
        let mut rng = Rng::new(1);
        assert_eq!(rng.below(0), 0);
        for bound in 1..200 {
            assert!(rng.below(bound) < bound);
        }
    }
}
