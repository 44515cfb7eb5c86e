//! Which code seals and opens records on this CPU.
//!
//! Why: sealing is a sixth of the whole work, and no library is the fastest everywhere. aws-lc has AES-GCM for AVX-512
//! and falls back to 16-byte AES instructions below it; ring has a version for 32-byte ones (VAES with AVX2), which
//! is 2.5 times as fast on the CPUs that have these but no AVX-512 (AMD Zen 3, Intel client cores).
//! Invariants: 1. key exchange, signatures and random numbers are those of aws-lc everywhere. 2. the same suites are
//! offered whoever computes them.   Bounds: none.
//! Driven by: [`super::Client::new`].   Spec: RFC 8446 B.4. AES-128 stands before AES-256: it is the cheaper one and
//! nothing that is known breaks it.

use rustls::crypto::{CryptoProvider, aws_lc_rs, ring};
use rustls::{CipherSuite, SupportedCipherSuite};

/// All that is needed for TLS, with the cheapest records that this CPU can do.
pub fn fastest() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    if ring_is_faster() {
        for suite in &mut provider.cipher_suites {
            let twin = ring::ALL_CIPHER_SUITES.iter().find(|other| other.suite() == suite.suite());
            *suite = twin.copied().unwrap_or(*suite);
        }
    }
    provider.cipher_suites.sort_by_key(rank);
    provider
}

/// Order of offering; what has the same rank keeps its order.
fn rank(suite: &SupportedCipherSuite) -> u8 {
    match suite.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => 0,
        CipherSuite::TLS13_AES_256_GCM_SHA384 => 1,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => 2,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 3,
        _ => 4,
    }
}

#[cfg(target_arch = "x86_64")]
fn ring_is_faster() -> bool {
    let has_wide_aes = is_x86_feature_detected!("vaes") && is_x86_feature_detected!("vpclmulqdq");
    has_wide_aes && !is_x86_feature_detected!("avx512f")
}

#[cfg(not(target_arch = "x86_64"))]
fn ring_is_faster() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_suite_is_lost_and_the_cheapest_comes_first() {
        let names = |provider: &CryptoProvider| {
            let mut names: Vec<_> =
                provider.cipher_suites.iter().map(|suite| u16::from(suite.suite())).collect();
            names.sort_unstable();
            names
        };
        let fastest = fastest();
        assert_eq!(names(&fastest), names(&aws_lc_rs::default_provider()));
        let first = fastest.cipher_suites.first().map(SupportedCipherSuite::suite);
        assert_eq!(first, Some(CipherSuite::TLS13_AES_128_GCM_SHA256));
        let ranks: Vec<u8> = fastest.cipher_suites.iter().map(rank).collect();
        assert!(ranks.is_sorted());
    }
}
