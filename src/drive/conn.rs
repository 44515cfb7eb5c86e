//! One connection: made, shaken hands on, then read and written until it ends.
//!
//! Why: reading and writing share a TLS state and end together, so they are two futures of one task: nothing
//! is cancelled (glommio leaks cancelled tasks), the task goes on when either of them is done.
//! Invariants: 1. exactly one `handle_closed` for every connection that the core did not close itself.
//!  2. no borrow of the core, the session or a buffer lives across an await.
//!  3. after a torn write nothing more is written, not even `close_notify`.
//! Bounds: [`READ_BYTES`] per read and [`WRITE_BYTES`] of plaintext per write, in buffers of the executor;
//!  [`HANDSHAKE_PATIENCE`]; [`FAREWELL`] for the last bytes of a closing connection.
//! Driven by: `pump` spawns [`run`] for `Action::Connect` and raises the flags of [`Link`].

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;

use futures_lite::future::or;
use glommio::timer::Timer;

use super::net::Socket;
use super::pump::Pump;
use super::stdout;
use super::tls::Session;
use super::wait::{Flag, within};
use crate::proto::event::{Closed, ClosedKind, To};
use crate::proto::ids::ConnId;

/// Bytes that are read at once.
pub(crate) const READ_BYTES: usize = 128 * 1024;
/// Plaintext that is sealed and written at once.
const WRITE_BYTES: usize = 256 * 1024;
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
const FAREWELL: Duration = Duration::from_secs(1);

/// How the pipeline reaches a connection's task.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// There is something to write.
    pub(crate) transmit: Flag,
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
        return report(&pump, conn, why);
    }
    let wire = match link.unless_closed(Wire::open(&pump, to)).await {
        None => return,
        Some(Err(why)) => return report(&pump, conn, Some(why)),
        Some(Ok(wire)) => wire,
    };
    pump.with(|core, now| core.handle_connected(now, conn));
    let talk = or(wire.read(&pump, conn, &link), wire.write(&pump, conn, &link));
    let why = link.unless_closed(talk).await;
    report(&pump, conn, why);
    wire.farewell().await;
}

/// Tells the core, unless it knows already.
fn report(pump: &Pump, conn: ConnId, why: Option<Closed>) {
    if pump.unlink(conn)
        && let Some(why) = why
    {
        pump.with(|core, now| core.handle_closed(now, conn, why));
    }
}

/// An open connection.
struct Wire {
    socket: Socket,
    session: Option<RefCell<Session>>,
    /// Plaintext that came with the end of the handshake.
    early: RefCell<Vec<u8>>,
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
        let socket = Socket::connect(address).await?;
        if let Some(proxy) = &target.proxy {
            socket.tunnel(proxy, &target.host, target.port).await?;
        }
        let session = target.tls.as_ref().map(super::tls::Client::session).transpose()?;
        let wire = Self {
            socket,
            session: session.map(RefCell::new),
            early: RefCell::default(),
            torn: Cell::new(false),
            broken: Cell::new(None),
            peer: format!("{}:{} ({address})", target.host, target.port),
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
        if ended {
            return Err(eof("the peer ended the TLS session"));
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
                Ok(0) => link.transmit.raised().await,
                Ok(_) => pump.room.breath.take().await,
                Err(error) => {
                    // The peer may have answered before it closed ("too large"): the reader finds that first.
                    self.broken.set(Some(error.to_string()));
                    Timer::new(FAREWELL).await;
                    return self.named(Closed { kind: ClosedKind::Reset, detail: error.to_string() });
                }
            }
        }
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
        let mut output = pump.room.buffers.borrow_mut().pop().unwrap_or_default();
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
            session.drain_into(&mut output);
        });
        let bytes = output.len();
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
