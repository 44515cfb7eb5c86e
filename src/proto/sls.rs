//! The source: Alibaba Cloud SLS (`LogHub`) as a consumer sees it.

pub mod api;
pub mod body;
pub mod error;
pub mod lease;
pub mod position;
pub mod shard;
pub mod sign;
pub mod source;
pub mod wire;
