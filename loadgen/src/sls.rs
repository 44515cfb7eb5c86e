//! The SLS emulator.
#![expect(clippy::disallowed_types, reason = "a test server: a lock around its state is the plain way")]

pub(crate) mod block;
pub(crate) mod clock;
pub(crate) mod codec;
pub mod data;
pub(crate) mod error;
pub(crate) mod http;
pub mod lease;
pub(crate) mod sign;
pub mod wire;
