//! A lease against a tiny scripted server: time moves only where a test says so.

mod bound;
mod group;
mod hand_over;
mod rig;
mod shard;
mod stop;
