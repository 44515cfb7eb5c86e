//! sls2siem

pub mod admin;
pub mod config;
pub mod metrics;
pub mod proto;
