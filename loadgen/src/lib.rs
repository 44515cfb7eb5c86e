//! The servers, payloads and judges that sls2siem is tested and measured with.
//!
//! Why: neither Alibaba Cloud nor Splunk can run on a developer's machine, and a mock that is written from the
//! forwarder's code repeats the forwarder's mistakes. So this crate speaks every protocol on its own, from the
//! protocol notes, and never imports the forwarder.
//! Invariants: no codec is shared with `sls2siem`.   Bounds: see each server.
//! Driven by: the `loadgen` command, `sls2siem demo` and tests.   Spec: sls.md, hec.md, syslog.md, alibaba-logs.md.

pub mod capacity;
pub mod fault;
pub mod payload;
pub mod sink;
pub mod sls;
mod threads;
pub mod verify;

/// Waits for SIGTERM or SIGINT.
pub fn wait_for_stop() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        StopSignal::new()?.wait().await;
        Ok(())
    })
}

/// SIGTERM and SIGINT, caught from the moment this is made.
#[derive(Debug)]
pub struct StopSignal {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl StopSignal {
    /// Catches the signals; to be called inside a tokio runtime.
    pub fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Ends with the first of them.
    pub async fn wait(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
