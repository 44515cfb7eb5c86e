//! `loadgen`: the bundled servers on their own.
fn main() {}
