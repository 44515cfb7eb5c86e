#![doc = include_str!("ARCHITECTURE.md")]

pub mod admin;
pub mod cli;
pub mod config;
pub mod control;
pub mod dead_letter;
pub mod drive;
pub mod metrics;
pub mod proto;
pub mod report;
