//! sls2siem

pub mod proto;
