//! The glommio room.

pub mod clock;
pub mod probe;
pub mod tls;
mod wait;
pub mod watchdog;
