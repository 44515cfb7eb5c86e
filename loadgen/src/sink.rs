//! Sinks.
pub mod tls;
