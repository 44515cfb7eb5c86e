//! Datagrams: one message each, at a steady pace, with nothing known about what becomes of them.
//!
//! Why: receivers lose datagrams that come in bursts long before their average is too high; and an unpaced replay of a
//! backlog is nothing but a burst.
//! Invariants: 1. one chunk is one whole message. 2. a frame counts when its last datagram was handed to the kernel.
//! Bounds: [`BURST`] worth of messages at once; [`DATAGRAM_BYTES_MAX`] per message, what is longer is cut there.
//! Driven by: `sink::syslog`. Spec: RFC 5426 (one message per datagram; no more than 65,507 bytes over IPv4).

use core::time::Duration;

use super::marked::message;
use super::queue::Queue;
use crate::proto::time::Instant;

/// What fits into a datagram over IPv4.
const DATAGRAM_BYTES_MAX: usize = 65_507;
/// Messages may be sent ahead of the pace by this much, so that the timer fires a hundred times a second at most.
const BURST: Duration = Duration::from_millis(10);

/// One connected socket.
#[derive(Debug)]
pub(super) struct Udp {
    pub(super) queue: Queue,
    /// Time that one message takes; zero is without a pace.
    step: Duration,
    /// When the pace would send the next message.
    next_at: Instant,
    /// The pace has held messages back since the last turn.
    held: bool,
}

impl Udp {
    /// `rate` messages per second; 0 is as fast as it goes.
    pub(super) fn new(rate: u32) -> Self {
        let step = if rate == 0 { Duration::ZERO } else { Duration::from_secs(1) / rate };
        Self { queue: Queue::default(), step, next_at: Instant(0), held: false }
    }

    /// The next datagram, unless the pace forbids it.
    pub(super) fn chunk(&mut self, now: Instant) -> Option<&[u8]> {
        if self.next_at > now + BURST {
            self.held = self.queue.has_unwritten();
            return None;
        }
        let (frame, at) = self.queue.current(now)?;
        let message = message(frame, at)?;
        let text = frame.get(message.text)?;
        Some(text.get(..DATAGRAM_BYTES_MAX).unwrap_or(text))
    }

    /// The datagram was taken; true where it was the last of its frame.
    pub(super) fn advance(&mut self, now: Instant) -> bool {
        self.next_at = self.next_at.max(now) + self.step;
        let bytes = match self.queue.current(now) {
            Some((frame, at)) => message(frame, at).map_or(frame.len(), |message| message.text.end) - at,
            None => 0,
        };
        self.queue.advance(now, bytes)
    }

    /// When the pace lets the next messages through; nothing while it does not hold them back.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.held.then(|| self.next_at - BURST / 2)
    }

    /// True once, when messages that the pace held back may go on.
    pub(super) fn resume(&mut self, now: Instant) -> bool {
        let due = self.deadline().is_some_and(|due| due <= now);
        self.held &= !due;
        due
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::marked::marked;
    use super::*;
    use crate::proto::flow::Flow;
    use crate::proto::frame::FramePool;

    #[test]
    fn messages_go_at_the_pace_one_per_datagram() {
        let flow = Flow::new(100_000);
        let mut pool = FramePool::new(Rc::clone(&flow.frames), 1_000);
        let mut udp = Udp::new(1_000);
        let mut frame = pool.take(Instant(0)).unwrap();
        let text = vec![b'x'; 70_000];
        frame.bytes = marked(&[(b"first", true), (&text, true), (b"second", true), (b"", false)]);
        udp.queue.push(Instant(0), frame);
        assert_eq!(udp.chunk(Instant(0)), Some(&b"first"[..]));
        assert!(!udp.advance(Instant(0)));
        assert_eq!(
            udp.chunk(Instant(0)).map(<[u8]>::len),
            Some(DATAGRAM_BYTES_MAX),
            "cut, not refused for ever"
        );
        assert!(!udp.advance(Instant(0)));
        assert_eq!(udp.chunk(Instant(0)), Some(&b"second"[..]));
        assert!(!udp.advance(Instant(0)));
        assert_eq!(udp.chunk(Instant(0)), Some(&b""[..]));
        assert!(udp.advance(Instant(0)), "the frame is done");

        // 1,000 a second: in one second there are 1,000, and what the burst allows.
        let mut frame = pool.take(Instant(0)).unwrap();
        frame.bytes = marked(&vec![(&b"m"[..], true); 5_000]);
        udp.queue.push(Instant(0), frame);
        let (mut now, mut sent, mut wakes) = (Instant(0), 0, 0);
        while now < Instant(0) + Duration::from_secs(1) {
            while udp.chunk(now).is_some() {
                udp.advance(now);
                sent += 1;
            }
            now = udp.deadline().unwrap();
            assert!(udp.resume(now) && !udp.resume(now));
            wakes += 1;
        }
        assert!((990..=1_020).contains(&sent), "{sent}");
        assert!(wakes < 250, "{wakes}");
    }
}
