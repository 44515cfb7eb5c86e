//! sls2siem

pub mod drive;
pub mod proto;
