//! sls2siem

pub mod admin;
pub mod drive;
pub mod metrics;
pub mod proto;
