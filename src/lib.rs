#![doc = include_str!("ARCHITECTURE.md")]

// `tests/fuzz` builds the rooms that read bytes of others as a crate of their own: without sockets, TLS and servers.
#[cfg(not(fuzzing))]
pub mod admin;
#[cfg(not(fuzzing))]
pub mod cli;
pub mod config;
#[cfg(not(fuzzing))]
pub mod control;
pub mod dead_letter;
#[cfg(not(fuzzing))]
pub mod drive;
#[cfg(not(fuzzing))]
pub mod metrics;
pub mod proto;
#[cfg(not(fuzzing))]
pub mod report;
pub mod shortage;
