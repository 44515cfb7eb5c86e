//! sls2siem

pub mod admin;
pub mod metrics;
pub mod proto;
