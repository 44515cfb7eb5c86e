//! One connection of syslog over TCP or TLS.
//!
//! Why: what a real receiver does at the end of a stream is what a sender that drains relies on: it reads everything,
//! and only then closes.
//! Invariants: 1. a message counts once, when its frame is complete. 2. behind a broken frame nothing is read: the
//! connection ends, with a reset for what was unread, as syslog-ng ends it.   Bounds: `max_message_bytes`.
//! Driven by: `server`.   Spec: syslog.md 3, 4.

use std::sync::atomic::Ordering;

use anyhow::Result;

use super::framing::{Broken, Cut, Cutter};
use super::wire::{Fill, Limit, Wire};
use crate::fault::Fault;

/// Serves one connection to its end.
pub(super) async fn run(mut wire: Wire) -> Result<()> {
    let config = &wire.shared.config;
    let mut cutter = Cutter::new(config.framing, config.max_message_bytes);
    loop {
        if !take(&mut wire, &mut cutter).await? {
            return Ok(());
        }
        match wire.fill().await? {
            Fill::Data => {}
            Fill::Over => return Ok(()),
            Fill::End => {
                if !wire.unread().is_empty() {
                    wire.shared.stats.partial.fetch_add(1, Ordering::Relaxed);
                }
                return wire.answer_end().await;
            }
        }
    }
}

/// Takes every complete frame. False if the connection is over.
async fn take(wire: &mut Wire, cutter: &mut Cutter) -> Result<bool> {
    loop {
        let (size, stop) = cut_all(wire, cutter);
        wire.consume(size);
        let goes_on = match stop {
            Stop::Dry => return Ok(true),
            Stop::Broken => false,
            Stop::Limit(limit) => {
                wire.enforce(limit).await;
                false
            }
            Stop::Fault(fault) => act(wire, &fault).await?,
        };
        if !goes_on {
            return Ok(false);
        }
    }
}

/// Why cutting came to an end.
enum Stop {
    /// The next frame is incomplete.
    Dry,
    Broken,
    Limit(Limit),
    Fault(Fault),
}

/// Takes frames up to the first that something happens at; gives the bytes that are done.
fn cut_all(wire: &mut Wire, cutter: &mut Cutter) -> (usize, Stop) {
    let shared = std::sync::Arc::clone(&wire.shared);
    let mut cuts: Vec<(usize, Cut)> = Vec::new();
    let mut done = 0;
    let stop = loop {
        let cut = match cutter.next(wire.unread().get(done..).unwrap_or_default()) {
            Ok(Some(cut)) => cut,
            Ok(None) => break Stop::Dry,
            Err(broken) => {
                report(wire, done, &broken);
                break Stop::Broken;
            }
        };
        let fault = shared.decide("message");
        if fault.as_ref().is_some_and(spares_the_message) {
            // It was never read, or it is thrown away; either way it is not taken.
            if !matches!(fault, Some(Fault::Hang | Fault::ResetBefore)) {
                done += cut.size;
            }
        } else {
            let size = cut.size;
            cuts.push((done, cut));
            done += size;
        }
        if let Some(fault) = fault {
            break Stop::Fault(fault);
        }
        if let Some(limit) = wire.count_message() {
            break Stop::Limit(limit);
        }
    };
    let unread = wire.unread();
    let messages: Vec<_> = cuts
        .iter()
        .filter_map(|(at, cut)| {
            let message = unread.get(at + cut.message.start..at + cut.message.end)?;
            check_line(wire, *at, cut, message);
            Some((wire.place(*at), message))
        })
        .collect();
    let lines = cuts.iter().filter(|(_, cut)| cut.is_line).count() as u64;
    shared.stats.lines.fetch_add(lines, Ordering::Relaxed);
    shared.stats.counted_frames.fetch_add(cuts.len() as u64 - lines, Ordering::Relaxed);
    shared.take(&messages);
    (done, stop)
}

/// Whether the message at which this happens is not taken.
fn spares_the_message(fault: &Fault) -> bool {
    match fault {
        Fault::ResetBefore | Fault::Hang => true,
        Fault::Other { word, .. } => word == "lost",
        _ => false,
    }
}

/// What a line must not hold: receivers split it there, or take it away.
fn check_line(wire: &Wire, at: usize, cut: &Cut, message: &[u8]) {
    if !cut.is_line || !wire.shared.is_strict() {
        return;
    }
    if let Some(found) = memchr::memchr2(b'\r', 0, message) {
        let what = "CR or NUL in a line";
        wire.shared.stats.violated(wire.place(at), found, what, message);
    }
}

fn report(wire: &Wire, at: usize, broken: &Broken) {
    let text = wire.unread().get(at..).unwrap_or_default();
    wire.shared.stats.violated(wire.place(at), broken.at, &broken.what, text);
}

/// Does what the plan wants at a message. False if the connection is over.
async fn act(wire: &mut Wire, fault: &Fault) -> Result<bool> {
    match fault {
        Fault::ResetBefore | Fault::ResetAfter => {
            wire.reset();
            Ok(false)
        }
        Fault::Hang => {
            wire.stop().await;
            Ok(false)
        }
        Fault::Stall(time) | Fault::Delay(time) => Ok(wire.pause(*time).await),
        Fault::Slow(rate) => {
            wire.slow_down(*rate);
            Ok(true)
        }
        Fault::Other { word, arg } => match word.as_str() {
            "close" => Ok(false),
            "fin" => {
                wire.finish().await?;
                Ok(true)
            }
            word => Ok(!wire.restart_if_told(word, arg.as_deref())?),
        },
        _ => Ok(true),
    }
}
