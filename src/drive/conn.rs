//! One connection: made, shaken hands on, then read and written until it ends.
//!
//! Why: reading and writing share a TLS state and end together, so they are two futures of one task: nothing
//! is cancelled (glommio leaks cancelled tasks), the task goes on when either of them is done.
//! Invariants: 1. exactly one `handle_closed` for every connection that the core did not close itself.
//!  2. no borrow of the core, the session or a buffer lives across an await.
//!  3. after a torn write nothing more is written, not even `close_notify`.
//! Bounds: [`READ_BYTES`] per read and [`WRITE_BYTES`] of plaintext per write, in buffers of the executor;
//!  [`HANDSHAKE_PATIENCE`]; [`FAREWELL`] for the last bytes of a closing connection, [`ACK_PATIENCE`] for its last
//!  acknowledgement.
//! Driven by: `pump` spawns [`run`] for `Action::Connect` and raises the flags of [`Link`].

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;

use futures_lite::future::or;
use glommio::timer::Timer;

use super::clock;
use super::datagram;
use super::net::{self, Socket};
use super::pump::Pump;
use super::stdout;
use super::tls::Session;
use super::wait::{Flag, within};
use crate::proto::event::{Closed, ClosedKind, Ledger, To};
use crate::proto::ids::ConnId;

/// Bytes that are read at once.
pub(crate) const READ_BYTES: usize = 256 * 1024;
/// Plaintext that is sealed and written at once.
const WRITE_BYTES: usize = 256 * 1024;
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
const FAREWELL: Duration = Duration::from_secs(1);
/// How long the acknowledgement of our FIN may be behind the peer's end, and how often it is looked for.
const ACK_PATIENCE: Duration = Duration::from_secs(1);
const ACK_PAUSE: Duration = Duration::from_millis(5);

/// How the pipeline reaches a connection's task.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// There is something to write.
    pub(crate) transmit: Flag,
    /// The writing side has to end after what there is to write.
    pub(crate) finish: Flag,
    /// The core wants to know how far its bytes have come.
    pub(crate) measure: Flag,
    /// It has to end.
    pub(crate) close: Flag,
}

impl Link {
    /// Does `work` until it is done or the connection has to end.
    async fn unless_closed<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let closed = async {
            self.close.raised().await;
            None
        };
        or(closed, async { Some(work.await) }).await
    }
}

/// The task of one connection.
pub(crate) async fn run(pump: Rc<Pump>, conn: ConnId, to: To, link: Rc<Link>) {
    if to == To::Stdout {
        pump.with(|core, now| core.handle_connected(now, conn));
        let why = link.unless_closed(stdout::serve(&pump, conn, &link)).await;
        return report(&pump, conn, why, None);
    }
    if pump.is_datagram(to) {
        let why = link.unless_closed(datagram::serve(&pump, conn, to, &link)).await;
        return report(&pump, conn, why, None);
    }
    let wire = match link.unless_closed(Wire::open(&pump, to)).await {
        None => return,
        Some(Err(why)) => return report(&pump, conn, Some(why), None),
        Some(Ok(wire)) => wire,
    };
    pump.with(|core, now| core.handle_connected(now, conn));
    let talk = or(wire.read(&pump, conn, &link), wire.write(&pump, conn, &link));
    let why = link.unless_closed(or(talk, wire.measure(&pump, conn, &link))).await;
    if why.as_ref().is_some_and(|why| why.kind == ClosedKind::Eof) {
        link.unless_closed(wire.last_acks()).await;
    }
    report(&pump, conn, why, Some(wire.ledger()));
    wire.farewell().await;
}

/// Tells the core, unless it knows already.
fn report(pump: &Pump, conn: ConnId, why: Option<Closed>, ledger: Option<Ledger>) {
    if pump.unlink(conn)
        && let Some(why) = why
    {
        pump.with(|core, now| {
            if let Some(ledger) = ledger {
                core.handle_ledger(now, conn, ledger);
            }
            core.handle_closed(now, conn, why);
        });
    }
}

/// An open connection.
struct Wire {
    socket: Socket,
    session: Option<RefCell<Session>>,
    /// Plaintext that came with the end of the handshake.
    early: RefCell<Vec<u8>>,
    /// What everything transmitted becomes on the wire.
    sealed: Cell<u64>,
    /// Our FIN is out.
    finished: Cell<bool>,
    torn: Cell<bool>,
    /// Why a write failed. The kernel tells an error once: after it a read says only "end".
    broken: Cell<Option<String>>,
    peer: String,
}

impl Wire {
    /// Finds the address, connects, and shakes hands.
    async fn open(pump: &Pump, to: To) -> Result<Self, Closed> {
        let (target, address) =
            pump.address(to).await.map_err(|detail| Closed { kind: ClosedKind::Resolve, detail })?;
        let socket = Socket::connect(address, target.patience).await?;
        if let Some(proxy) = &target.proxy {
            socket.tunnel(proxy, &target.host, target.port).await?;
        }
        let session = target.session().transpose()?;
        let wire = Self {
            socket,
            session: session.map(RefCell::new),
            early: RefCell::default(),
            sealed: Cell::new(0),
            finished: Cell::new(false),
            torn: Cell::new(false),
            broken: Cell::new(None),
            peer: net::peer_name(&target.host, target.port, address),
        };
        if let Some(session) = &wire.session {
            let shaken = within(HANDSHAKE_PATIENCE, wire.shake_hands(session)).await;
            shaken
                .unwrap_or_else(|| {
                    let detail = format!("no TLS handshake within {} s", HANDSHAKE_PATIENCE.as_secs());
                    Err(Closed { kind: ClosedKind::Tls, detail })
                })
                .map_err(|why| wire.named(why))?;
        }
        Ok(wire)
    }

    async fn shake_hands(&self, session: &RefCell<Session>) -> Result<(), Closed> {
        let broken = |detail: String| Closed { kind: ClosedKind::Tls, detail };
        let mut input = vec![0; 16 * 1024];
        loop {
            let mut output = Vec::new();
            session.borrow_mut().drain_into(&mut output);
            self.socket
                .write_all(&output)
                .await
                .map_err(|error| broken(format!("the connection broke during the TLS handshake: {error}")))?;
            if !session.borrow().is_handshaking() {
                return Ok(());
            }
            let read = poll_fn(|cx| self.socket.poll_read(cx, &mut input)).await;
            let read = match read {
                Ok(0) => return Err(broken("the peer ended the connection during the TLS handshake".into())),
                Ok(read) => read,
                Err(error) => {
                    return Err(broken(format!("the connection broke during the TLS handshake: {error}")));
                }
            };
            let bytes = input.get(..read).unwrap_or_default();
            let opened = session.borrow_mut().open(bytes, &mut self.early.borrow_mut());
            if let Err(why) = opened {
                // The alert tells the peer why; whether it arrives does not matter.
                let mut alert = Vec::new();
                session.borrow_mut().drain_into(&mut alert);
                let _ = self.socket.write_all(&alert).await;
                return Err(why);
            }
        }
    }

    /// Reads until the connection ends.
    async fn read(&self, pump: &Pump, conn: ConnId, link: &Link) -> Closed {
        let early = self.early.take();
        if !early.is_empty() {
            pump.with(|core, now| core.handle_received(now, conn, &early));
        }
        loop {
            let mut waited = false;
            let came = poll_fn(|cx| {
                // The buffers belong to the executor: they are taken for as long as no other task can run.
                let mut scratch = pump.room.scratch.take().unwrap_or_default();
                let read = self.socket.poll_read(cx, &mut scratch.wire);
                let came = read.map(|read| self.take_in(pump, conn, link, &mut scratch, read));
                pump.room.scratch.set(Some(scratch));
                waited |= came.is_pending();
                came
            })
            .await;
            if waited {
                pump.room.breath.note();
            }
            if let Err(why) = came {
                let broken = self.broken.take().map(|detail| Closed { kind: ClosedKind::Reset, detail });
                return self.named(broken.unwrap_or(why));
            }
            pump.room.breath.take().await;
        }
    }

    /// Hands one read to the core.
    fn take_in(
        &self,
        pump: &Pump,
        conn: ConnId,
        link: &Link,
        scratch: &mut Scratch,
        read: io::Result<usize>,
    ) -> Result<(), Closed> {
        let read = read.map_err(|error| Closed { kind: ClosedKind::Reset, detail: error.to_string() })?;
        let Scratch { wire, plain } = scratch;
        let bytes = wire.get(..read).unwrap_or_default();
        let Some(session) = &self.session else {
            if read == 0 {
                return Err(eof("the peer ended the connection"));
            }
            pump.with(|core, now| core.handle_received(now, conn, bytes));
            return Ok(());
        };
        plain.clear();
        let mut session = session.borrow_mut();
        let opened = session.open(bytes, plain);
        let (ended, wants_write) = (session.is_ended(), session.wants_write());
        drop(session);
        if !plain.is_empty() {
            pump.with(|core, now| core.handle_received(now, conn, plain));
        }
        if wants_write {
            link.transmit.raise();
        }
        opened?;
        // After our own end the peer's FIN is what counts: it comes when everything before it was read.
        let finished = self.finished.get();
        if ended && !finished {
            return Err(eof("the peer ended the TLS session"));
        }
        if read == 0 && finished {
            return Err(eof("the peer ended the connection after us"));
        }
        if read == 0 {
            // Somebody in between can send a FIN; only close_notify is the peer's own word.
            let detail = "the connection ended without close_notify".to_owned();
            return Err(Closed { kind: ClosedKind::Reset, detail });
        }
        Ok(())
    }

    /// Writes until the connection breaks.
    async fn write(&self, pump: &Pump, conn: ConnId, link: &Link) -> Closed {
        loop {
            link.transmit.take();
            let written = match &self.session {
                Some(session) => self.write_sealed(pump, conn, session).await,
                None => self.write_plain(pump, conn).await,
            };
            match written {
                Ok(0) if link.finish.take() => match self.finish().await {
                    Ok(()) => pump.with(|core, now| core.handle_finished(now, conn)),
                    Err(error) => return self.broken_write(&error).await,
                },
                Ok(0) => link.transmit.raised().await,
                Ok(_) => pump.room.breath.take().await,
                Err(error) => return self.broken_write(&error).await,
            }
        }
    }

    /// Gives the reader a moment: the peer may have answered before it closed ("too large").
    async fn broken_write(&self, error: &io::Error) -> Closed {
        self.broken.set(Some(error.to_string()));
        Timer::new(FAREWELL).await;
        self.named(Closed { kind: ClosedKind::Reset, detail: error.to_string() })
    }

    /// Ends our side: `close_notify` where there is TLS, then FIN.
    async fn finish(&self) -> io::Result<()> {
        if let Some(session) = &self.session {
            let mut output = Vec::new();
            session.borrow_mut().end();
            session.borrow_mut().drain_into(&mut output);
            self.torn.set(true);
            self.socket.write_all(&output).await?;
            self.torn.set(false);
        }
        self.socket.finish();
        self.finished.set(true);
        Ok(())
    }

    /// Tells how far the bytes have come, each time that the core asks; never ends.
    async fn measure(&self, pump: &Pump, conn: ConnId, link: &Link) -> Closed {
        loop {
            link.measure.raised().await;
            link.measure.take();
            let ledger = self.ledger();
            pump.with(|core, now| core.handle_ledger(now, conn, ledger));
        }
    }

    /// The peer's end may overtake the acknowledgement of ours: a TLS peer that ends at our `close_notify` has not seen
    /// our FIN yet. What it has refused with a reset is never acknowledged.
    async fn last_acks(&self) {
        let end = clock::now() + ACK_PATIENCE;
        while self.finished.get() && self.socket.unacked() > 0 && clock::now() < end {
            Timer::new(ACK_PAUSE).await;
        }
    }

    fn ledger(&self) -> Ledger {
        let written = self.socket.written();
        Ledger { sealed: self.sealed.get().max(written), written, unacked: self.socket.unacked() }
    }

    /// Writes once, straight from the core's own bytes.
    async fn write_plain(&self, pump: &Pump, conn: ConnId) -> io::Result<usize> {
        poll_fn(|cx| {
            pump.with(|core, now| {
                let Some(chunk) = core.poll_transmit(now, conn) else { return Poll::Ready(Ok(0)) };
                let chunk = chunk.get(..WRITE_BYTES).unwrap_or(chunk);
                let written = ready!(self.socket.poll_write(cx, chunk))?;
                core.handle_transmitted(now, conn, written);
                Poll::Ready(Ok(written))
            })
        })
        .await
    }

    /// Seals what the core has, up to [`WRITE_BYTES`], and writes it.
    async fn write_sealed(&self, pump: &Pump, conn: ConnId, session: &RefCell<Session>) -> io::Result<usize> {
        pump.with(|core, now| {
            let mut session = session.borrow_mut();
            let mut room = WRITE_BYTES;
            while room > 0
                && let Some(chunk) = core.poll_transmit(now, conn)
            {
                let sealed = session.seal(chunk.get(..room).unwrap_or(chunk));
                if sealed == 0 {
                    break;
                }
                room = room.saturating_sub(sealed);
                core.handle_transmitted(now, conn, sealed);
            }
        });
        // The kernel takes the records from where they were sealed; only what it has no room for is copied.
        let mut bytes = 0;
        loop {
            match session.borrow_mut().write_to(&mut self.socket.now()) {
                Ok(0) => return Ok(bytes),
                Ok(written) => bytes += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let mut output = pump.room.buffers.borrow_mut().pop().unwrap_or_default();
        session.borrow_mut().drain_into(&mut output);
        bytes += output.len();
        self.sealed.set(self.socket.written() + output.len() as u64);
        self.torn.set(true);
        self.socket.write_all(&output).await?;
        self.torn.set(false);
        output.clear();
        pump.room.give_back(output);
        Ok(bytes)
    }

    /// Ends the connection as politely as it can be done in a moment.
    async fn farewell(&self) {
        if let Some(session) = &self.session
            && !self.torn.get()
            && !self.finished.get()
        {
            let mut output = Vec::new();
            session.borrow_mut().end();
            session.borrow_mut().drain_into(&mut output);
            let _ = within(FAREWELL, self.socket.write_all(&output)).await;
        }
        self.socket.finish();
    }

    /// Adds who the peer is.
    fn named(&self, Closed { kind, detail }: Closed) -> Closed {
        Closed { kind, detail: format!("{}: {detail}", self.peer) }
    }
}

fn eof(detail: &str) -> Closed {
    Closed { kind: ClosedKind::Eof, detail: detail.to_owned() }
}

/// The read buffers of one executor.
#[derive(Debug)]
pub(crate) struct Scratch {
    wire: Vec<u8>,
    plain: Vec<u8>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { wire: vec![0; READ_BYTES], plain: Vec::with_capacity(READ_BYTES) }
    }
}

#[cfg(test)]
mod tests;
