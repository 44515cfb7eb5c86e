//! The pure core: bytes, events and `now` in; bytes, actions and deadlines out.
//!
//! Why: everything that decides about loss, order and retries has to run under a seeded simulation,
//! so nothing in this room does I/O, reads a clock, starts a thread or draws unseeded random numbers.
//! Invariants: held by `tests/tidy.rs`: no `std::net`, `std::fs`, `std::thread`, clock, glommio or rustls here.
//! Driven by: `drive` (data plane), `control` (leases), `tests/sim` (virtual world).

pub mod backoff;
pub mod context;
pub mod counters;
pub mod event;
pub mod flow;
pub mod format;
pub mod frame;
pub mod http1;
pub mod ids;
pub mod ledger;
pub mod letters;
pub mod pipeline;
pub mod planted;
pub mod rng;
pub mod sink;
pub mod sls;
pub mod tap;
pub mod time;
