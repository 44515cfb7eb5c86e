//! Standard output as a peer: bytes count as sent when they are written.
//!
//! Why: fd 1 is often a pipe whose reader is slow; a blocking write would hold the executor, and the core
//! may acknowledge only what has left the process.
//! Invariants: 1. one writer for the whole process. 2. a chunk is written whole, so lines of several executors
//!  do not mix. 3. a chunk is reported after it was written and flushed.
//! Bounds: one chunk (a frame) per connection waits.
//! Driven by: `conn` for `To::Stdout`.

use std::io::{self, Write};
use std::sync::LazyLock;

use super::conn::Link;
use super::pump::Pump;
use crate::proto::event::{Closed, ClosedKind};
use crate::proto::ids::ConnId;

/// Writes chunks on a thread of its own.
#[derive(Debug)]
pub(crate) struct Printer {
    jobs: async_channel::Sender<Job>,
}

#[derive(Debug)]
struct Job {
    bytes: Vec<u8>,
    done: async_channel::Sender<(Vec<u8>, io::Result<()>)>,
}

/// The printer of fd 1; its thread starts with the first use.
static STDOUT: LazyLock<Printer> = LazyLock::new(|| Printer::start(io::stdout()));

impl Printer {
    fn start(mut out: impl Write + Send + 'static) -> Self {
        let (jobs, inbox) = async_channel::bounded::<Job>(64);
        let started = std::thread::Builder::new().name("s2s-stdout".to_owned()).spawn(move || {
            while let Ok(Job { bytes, done }) = inbox.recv_blocking() {
                let written = out.write_all(&bytes).and_then(|()| out.flush());
                // The connection may have been closed meanwhile.
                let _ = done.try_send((bytes, written));
            }
        });
        if let Err(error) = started {
            tracing::error!(%error, "no thread for standard output");
        }
        Self { jobs }
    }

    /// Writes `bytes` and gives the buffer back.
    async fn print(&self, bytes: Vec<u8>) -> (Vec<u8>, io::Result<()>) {
        let (done, written) = async_channel::bounded(1);
        let gone = || (Vec::new(), Err(io::ErrorKind::BrokenPipe.into()));
        if self.jobs.send(Job { bytes, done }).await.is_err() {
            return gone();
        }
        written.recv().await.unwrap_or_else(|_| gone())
    }
}

/// Prints what the core has for `conn` until printing fails.
pub(crate) async fn serve(pump: &Pump, conn: ConnId, link: &Link) -> Closed {
    print_to(&STDOUT, pump, conn, link).await
}

async fn print_to(printer: &Printer, pump: &Pump, conn: ConnId, link: &Link) -> Closed {
    let mut buffer = Vec::new();
    loop {
        link.transmit.take();
        pump.with(|core, now| {
            buffer.clear();
            buffer.extend_from_slice(core.poll_transmit(now, conn).unwrap_or_default());
        });
        if buffer.is_empty() {
            link.transmit.raised().await;
            continue;
        }
        let bytes = buffer.len();
        let (back, written) = printer.print(std::mem::take(&mut buffer)).await;
        buffer = back;
        if let Err(error) = written {
            return Closed { kind: ClosedKind::Reset, detail: format!("standard output: {error}") };
        }
        pump.with(|core, now| core.handle_transmitted(now, conn, bytes));
    }
}
