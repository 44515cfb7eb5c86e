//! loadgen
pub mod fault;
pub mod sls;
