//! sls2siem

pub mod cli;
pub mod config;
pub mod proto;
pub mod report;
