//! sls2siem

pub mod drive;
pub mod admin;
pub mod metrics;
pub mod proto;
