//! sls2siem

pub mod config;
pub mod proto;
