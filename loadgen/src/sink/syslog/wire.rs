//! The reading side of one connection, with what a fault plan does to it.
//!
//! Why: plain syslog and RELP differ in what they read, not in how a receiver is slow, stops, crashes or answers the
//! end of a stream.
//! Invariants: 1. `base` counts every byte of the stream that was dropped from the buffer. 2. a stream that the sender
//! ended is closed only after all of it was read, with a `close_notify` first where TLS lies beneath.
//! Bounds: the buffer holds one unfinished frame and one read.   Driven by: `conn`, `relp_conn`.   Spec: syslog.md 4.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::sleep;

use super::state::{Place, Restart, Shared};
use super::store::Origin;
use crate::fault::{Fault, parse_duration, parse_size};
use crate::sink::tls::Stream;

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fill {
    Data,
    /// The sender ended its side.
    End,
    /// A limit of the fault plan was reached, or the receiver restarts: nothing more is to be done.
    Over,
}

/// What a connection does when it has taken so much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Close,
    Reset,
    Stop,
}

/// One connection's stream and buffer.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) shared: Arc<Shared>,
    pub(super) origin: Origin,
    stream: Stream,
    buffer: Vec<u8>,
    start: usize,
    base: u64,
    rate: Option<u64>,
    restarts: watch::Receiver<Restart>,
    bytes_left: Option<(u64, Limit)>,
    messages_left: Option<(u64, Limit)>,
}

impl Wire {
    pub(super) fn new(
        shared: Arc<Shared>,
        origin: Origin,
        stream: Stream,
        restarts: watch::Receiver<Restart>,
    ) -> Self {
        Self {
            shared,
            origin,
            stream,
            buffer: Vec::new(),
            start: 0,
            base: 0,
            rate: None,
            restarts,
            bytes_left: None,
            messages_left: None,
        }
    }

    /// Sets what the plan wants of this connection.
    pub(super) fn limit(&mut self, fault: &Fault) -> Result<()> {
        match fault {
            Fault::Slow(rate) => self.rate = Some(*rate),
            Fault::Other { word, arg } => {
                let arg = || arg.as_deref().with_context(|| format!("`{word}` wants an argument"));
                let limit = match word.split('-').next() {
                    Some("close") => Limit::Close,
                    Some("reset") => Limit::Reset,
                    _ => Limit::Stop,
                };
                match word.as_str() {
                    "close-at-bytes" | "reset-at-bytes" | "stop-at-bytes" => {
                        self.bytes_left = Some((parse_size(arg()?)?, limit));
                    }
                    "close-at" | "reset-at" | "stop-at" => {
                        self.messages_left = Some((parse_size(arg()?)?, limit));
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Bytes that no frame has taken.
    pub(super) fn unread(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// Drops bytes that a frame has taken.
    pub(super) fn consume(&mut self, size: usize) {
        self.start = (self.start + size).min(self.buffer.len());
    }

    /// Where a frame at this distance from the first unread byte stands.
    pub(super) fn place(&self, distance: usize) -> Place {
        Place { origin: self.origin, frame_at: self.base + (self.start + distance) as u64 }
    }

    /// Counts a message; the limit that it reaches, if any. The message itself is within it.
    pub(super) fn count_message(&mut self) -> Option<Limit> {
        let (left, limit) = self.messages_left.as_mut()?;
        *left = left.saturating_sub(1);
        (*left == 0).then_some(*limit)
    }

    /// Reads once.
    pub(super) async fn fill(&mut self) -> Result<Fill> {
        if let Some((0, limit)) = self.bytes_left {
            self.enforce(limit).await;
            return Ok(Fill::Over);
        }
        self.make_room();
        let room = self.room();
        let mut chunk = (&mut self.stream).take(room);
        let read = tokio::select! {
            read = chunk.read_buf(&mut self.buffer) => read,
            _ = self.restarts.changed() => {
                self.end_for_restart();
                return Ok(Fill::Over);
            }
        };
        let size = match read {
            Ok(0) => return Ok(Fill::End),
            Ok(size) => size as u64,
            Err(why) => return self.broke(&why),
        };
        self.shared.stats.wire_bytes.fetch_add(size, Ordering::Relaxed);
        if let Some((left, _)) = self.bytes_left.as_mut() {
            *left = left.saturating_sub(size);
        }
        if self.rate.is_some() && !self.pause(SLOW_TICK).await {
            return Ok(Fill::Over);
        }
        Ok(Fill::Data)
    }

    /// A stream that ends without the words that belong there.
    fn broke(&mut self, why: &io::Error) -> Result<Fill> {
        if why.kind() == io::ErrorKind::UnexpectedEof {
            let place = self.place(0);
            self.shared.stats.violated(place, 0, "TLS ended without close_notify", self.unread());
        }
        self.shared.stats.broken.fetch_add(1, Ordering::Relaxed);
        anyhow::bail!("the stream broke: {why}");
    }

    fn make_room(&mut self) {
        if self.start == self.buffer.len() {
            self.base += self.start as u64;
            self.buffer.clear();
            self.start = 0;
        } else if self.start >= READ {
            self.base += self.start as u64;
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.reserve(READ);
    }

    fn room(&self) -> u64 {
        let usual = READ as u64;
        let room = self.rate.map_or(usual, |rate| (rate * u64::from(SLOW_SHARE) / 1000).clamp(1, usual));
        self.bytes_left.map_or(room, |(left, _)| room.min(left))
    }

    /// Waits; false if the receiver restarts meanwhile.
    pub(super) async fn pause(&mut self, time: Duration) -> bool {
        tokio::select! {
            () = sleep(time) => true,
            _ = self.restarts.changed() => {
                self.end_for_restart();
                false
            }
        }
    }

    /// Neither reads nor closes until the receiver restarts.
    pub(super) async fn stop(&mut self) {
        // The sender goes away or the receiver does; a test that is over ends both.
        let _ = self.restarts.changed().await;
        self.end_for_restart();
    }

    /// Does what the limit says; afterwards the connection is over.
    pub(super) async fn enforce(&mut self, limit: Limit) {
        match limit {
            Limit::Close => {}
            Limit::Reset => self.reset(),
            Limit::Stop => self.stop().await,
        }
    }

    /// Makes the close that follows a reset.
    pub(super) fn reset(&self) {
        self.stream.reset_on_close();
    }

    fn end_for_restart(&mut self) {
        if self.restarts.borrow_and_update().is_crash {
            self.reset();
        }
    }

    /// Slows reading down from now on.
    pub(super) const fn slow_down(&mut self, rate: u64) {
        self.rate = Some(rate);
    }

    /// Writes to the sender.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// Ends the writing side: `close_notify` where there is TLS, then FIN.
    pub(super) async fn finish(&mut self) -> Result<()> {
        Ok(self.stream.shutdown().await?)
    }

    /// The sender has ended its side and everything was read: answers with the end of ours, or as the plan says.
    pub(super) async fn answer_end(&mut self) -> Result<()> {
        self.shared.stats.ended.fetch_add(1, Ordering::Relaxed);
        match self.shared.decide("eof") {
            Some(Fault::Hang) => {
                self.stop().await;
                return Ok(());
            }
            Some(Fault::Delay(time) | Fault::Stall(time)) if !self.pause(time).await => return Ok(()),
            Some(Fault::ResetBefore | Fault::ResetAfter) => {
                self.reset();
                return Ok(());
            }
            // The socket is dropped without the words of TLS.
            Some(Fault::Other { word, .. }) if word == "no-notify" => return Ok(()),
            _ => {}
        }
        self.finish().await
    }

    /// Restarts the whole receiver, if the plan says so.
    pub(super) fn restart_if_told(&self, word: &str, arg: Option<&str>) -> Result<bool> {
        if word != "restart" && word != "crash" {
            return Ok(false);
        }
        let downtime = arg.map_or(Ok(Duration::ZERO), parse_duration)?;
        if word == "crash" {
            self.reset();
        }
        self.shared.restart(downtime, word == "crash");
        Ok(true)
    }
}

const READ: usize = 256 * 1024;
const SLOW_SHARE: u32 = 50;
const SLOW_TICK: Duration = Duration::from_millis(SLOW_SHARE as u64);
