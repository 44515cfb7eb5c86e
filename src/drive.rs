//! The glommio room.

pub mod clock;
pub mod tls;
mod wait;
