//! The threads that a server of this crate runs on.
//!
//! Why: servers that share a machine with what they measure have to stay on cores of their own.
//! Invariants: each thread is pinned to one of the cores, in turn, where any are given.   Bounds: one thread at least.
//! Driven by: the emulator and the receivers.   Spec: none.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use tokio::runtime::{Builder, Runtime};

/// A runtime of so many threads of this name; empty `cores` leave them to the kernel.
pub(crate) fn runtime(name: &str, threads: usize, cores: &[usize]) -> Result<Runtime> {
    let (cores, turn) = (cores.to_vec(), AtomicUsize::new(0));
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(threads.max(1)).thread_name(name).enable_all();
    builder.on_thread_start(move || {
        let index = turn.fetch_add(1, Ordering::Relaxed);
        if let Some(core) = cores.get(index % cores.len().max(1)) {
            core_affinity::set_for_current(core_affinity::CoreId { id: *core });
        }
    });
    builder.build().with_context(|| format!("cannot start the threads of {name}"))
}
