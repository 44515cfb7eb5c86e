//! sls2siem

pub mod admin;
pub mod cli;
pub mod config;
pub mod metrics;
pub mod proto;
pub mod report;
