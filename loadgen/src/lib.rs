//! loadgen
pub mod fault;
