//! One look at a peer with blocking calls: its addresses, TCP, TLS, bytes to and fro.
//!
//! Why: a command asks each question once and waits for the answer; executors and rings would only be in the way.
//! What is asked over it is real traffic of the protocols, so the same TLS and the same parsers are used.
//! Invariants: 1. every call ends after the time that the link was given. 2. a peer's bytes are data, never trusted.
//! Bounds: an HTTP answer's body [`BODY_BYTES_MAX`]; one link is one connection.
//! Driven by: `cli::check` and `dead-letter replay`, on the thread of the command. Spec: RFC 9112 by way of `proto::http1`; RFC 8446.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use super::tls::look::{Look, Shown};
use super::tls::{Client, Session};
use super::{TargetSpec, clock, net};
use crate::proto::event::{Cause, Closed, ClosedKind};
use crate::proto::http1::{Limits, Progress, ResponseParser};
use crate::proto::time::Instant;

/// Largest body of an answer.
pub const BODY_BYTES_MAX: u64 = 1 << 20;
/// Between two looks at what the peer's kernel has.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// All addresses of a name, each once, in the order of the resolver.
pub fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, Closed> {
    let refused = |detail: String| Closed { kind: ClosedKind::Resolve, detail };
    let found = (host.trim_matches(['[', ']']), port).to_socket_addrs();
    let mut all: Vec<SocketAddr> = Vec::new();
    for address in found.map_err(|error| refused(format!("{host}: {error}")))? {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    if all.is_empty() { Err(refused(format!("{host} has no address"))) } else { Ok(all) }
}

/// An answer over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// Status code.
    pub status: u16,
    /// `Location`, where there is one.
    pub location: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// One connection.
pub struct Link {
    stream: TcpStream,
    address: SocketAddr,
    session: Option<Session>,
    until: Instant,
    wait: Duration,
    /// Plain bytes that came with the handshake.
    ahead: Vec<u8>,
}

impl Link {
    /// Connects; `wait` is the time for this and, again, for everything that follows.
    pub fn connect(address: SocketAddr, wait: Duration) -> Result<Self, Closed> {
        let stream = TcpStream::connect_timeout(&address, wait)
            .map_err(|error| Closed { kind: ClosedKind::Connect, detail: format!("{error}, {address}") })?;
        let _at_least_slower = stream.set_nodelay(true);
        let until = clock::now() + wait;
        Ok(Self { stream, address, session: None, until, wait, ahead: Vec::new() })
    }

    /// Connects to one address of a peer, with TLS where the settings have it.
    pub fn to(target: &TargetSpec, address: SocketAddr, wait: Duration) -> Result<Self, Closed> {
        let mut link = Self::connect(address, wait)?;
        if let Some(tls) = &target.tls {
            let name = target.server_name.as_deref().filter(|name| !name.is_empty());
            let client = Client::new(tls, name.unwrap_or(&target.host))
                .map_err(|error| Closed { kind: ClosedKind::Tls, detail: error.to_string() })?;
            link.start_tls(&client)?;
        }
        Ok(link)
    }

    /// The time that the link was given begins again.
    pub fn wait_again(&mut self) {
        self.until = clock::now() + self.wait;
    }

    /// Makes it a TLS connection as the settings want it.
    pub fn start_tls(&mut self, client: &Client) -> Result<(), Closed> {
        let session = self.handshake(client)?;
        self.session = Some(session);
        Ok(())
    }

    /// A handshake for looking: tells what was shown. Nothing else goes over this link.
    pub fn look(mut self, look: &Look) -> Result<Shown, Closed> {
        let mut session = self.handshake(look.client())?;
        let mut wire = Vec::new();
        session.end();
        session.drain_into(&mut wire);
        // A courtesy: without it a strict peer notes that its stream was cut.
        let _gone = self.write_raw(&wire);
        look.shown(&session).map_err(|error| Closed { kind: ClosedKind::Tls, detail: error.to_string() })
    }

    fn handshake(&mut self, client: &Client) -> Result<Session, Closed> {
        let mut session = client.session()?;
        let mut wire = Vec::new();
        loop {
            session.drain_into(&mut wire);
            self.write_raw(&wire)?;
            wire.clear();
            if !session.is_handshaking() {
                return Ok(session);
            }
            let mut buffer = [0; 16 << 10];
            let bytes = self.read_raw(&mut buffer)?;
            if bytes == 0 {
                let detail = format!("the peer ended the connection in the handshake, {}", self.address);
                return Err(Closed { kind: ClosedKind::Tls, detail });
            }
            let taken = buffer.get(..bytes).unwrap_or_default();
            if let Err(mut refused) = session.open(taken, &mut self.ahead) {
                session.drain_into(&mut wire);
                // The alert is a courtesy.
                let _gone = self.write_raw(&wire);
                refused.detail = format!("{}, {}", refused.detail, self.address);
                return Err(refused);
            }
        }
    }

    /// Sends bytes.
    pub fn send(&mut self, mut plain: &[u8]) -> Result<(), Closed> {
        let Some(mut session) = self.session.take() else { return self.write_raw(plain) };
        let mut wire = Vec::new();
        let mut sent = Ok(());
        while sent.is_ok() && !plain.is_empty() {
            let sealed = session.seal(plain);
            plain = plain.get(sealed..).unwrap_or_default();
            session.drain_into(&mut wire);
            sent = self.write_raw(&wire);
            wire.clear();
        }
        self.session = Some(session);
        sent
    }

    /// Waits for bytes and appends them; false at the peer's end.
    pub fn receive(&mut self, plain: &mut Vec<u8>) -> Result<bool, Closed> {
        if !self.ahead.is_empty() {
            plain.append(&mut self.ahead);
            return Ok(true);
        }
        let before = plain.len();
        loop {
            let mut buffer = [0; 16 << 10];
            let bytes = self.read_raw(&mut buffer)?;
            let taken = buffer.get(..bytes).unwrap_or_default();
            match &mut self.session {
                None => plain.extend_from_slice(taken),
                Some(session) => session.open(taken, plain)?,
            }
            let ended = bytes == 0 || self.session.as_ref().is_some_and(Session::is_ended);
            if plain.len() > before || ended {
                return Ok(plain.len() > before);
            }
        }
    }

    /// Says that nothing follows; reading goes on.
    pub fn end_writing(&mut self) -> Result<(), Closed> {
        if let Some(mut session) = self.session.take() {
            let mut wire = Vec::new();
            session.end();
            session.drain_into(&mut wire);
            self.session = Some(session);
            self.write_raw(&wire)?;
        }
        self.stream.shutdown(Shutdown::Write).map_err(|error| self.broken(&error))
    }

    /// Ends our side and waits for the peer's end. True: it ended in order, and its kernel has every byte of ours, so
    /// its process has read them. False: it did not end in time.
    pub fn drain(&mut self) -> Result<bool, Closed> {
        self.end_writing()?;
        let mut said = Vec::new();
        loop {
            match self.receive(&mut said) {
                Ok(true) => said.clear(),
                Ok(false) => break,
                Err(closed) if closed.kind == ClosedKind::Timeout => return Ok(false),
                Err(closed) => return Err(closed),
            }
        }
        // An end that came before it had our bytes: they are taken soon, or answered by a reset.
        self.flush()
    }

    /// Waits until the peer's kernel has every byte of ours; false when it has not in time.
    pub fn flush(&mut self) -> Result<bool, Closed> {
        while net::unacked(&self.stream) > 0 {
            match self.stream.take_error() {
                Ok(None) => {}
                Ok(Some(error)) | Err(error) => return Err(self.broken(&error)),
            }
            if self.left().is_err() {
                return Ok(false);
            }
            std::thread::park_timeout(LOOK_AGAIN);
        }
        match self.stream.take_error() {
            Ok(None) => Ok(true),
            Ok(Some(error)) | Err(error) => Err(self.broken(&error)),
        }
    }

    /// Sends a request and reads its answer.
    pub fn ask(&mut self, request: &[u8]) -> Result<HttpAnswer, Cause> {
        self.until = clock::now() + self.wait;
        self.send(request).map_err(Cause::Transport)?;
        let protocol = |error: &dyn std::fmt::Display| Cause::Protocol(error.to_string());
        let limits = Limits { body_bytes_max: BODY_BYTES_MAX, ..Limits::default() };
        let mut parser = ResponseParser::new(limits);
        let (mut input, mut body) = (Vec::new(), Vec::new());
        loop {
            let more = self.receive(&mut input).map_err(Cause::Transport)?;
            let mut rest = input.as_slice();
            let mut progress = Progress::NeedMore;
            while more && progress != Progress::Done {
                let (taken, now) = parser.handle(rest, &mut body).map_err(|error| protocol(&error))?;
                rest = rest.get(taken..).unwrap_or_default();
                progress = now;
                if now == Progress::NeedMore {
                    break;
                }
            }
            if !more {
                progress = parser.handle_eof().map_err(|error| protocol(&error))?;
            }
            if progress == Progress::Done {
                break;
            }
            input.clear();
        }
        let head = parser.head().ok_or_else(|| Cause::Protocol("an answer without a head".to_owned()))?;
        let location = head.header("location").map(str::to_owned);
        Ok(HttpAnswer { status: head.status(), location, body })
    }

    fn left(&self) -> Result<Duration, Closed> {
        let left = self.until.since(clock::now());
        if left.is_zero() {
            let detail = format!("no answer within {} s, {}", self.wait.as_secs(), self.address);
            return Err(Closed { kind: ClosedKind::Timeout, detail });
        }
        Ok(left)
    }

    fn write_raw(&mut self, bytes: &[u8]) -> Result<(), Closed> {
        let left = self.left()?;
        let sent = self.stream.set_write_timeout(Some(left)).and_then(|()| self.stream.write_all(bytes));
        sent.map_err(|error| self.broken(&error))
    }

    fn read_raw(&mut self, buffer: &mut [u8]) -> Result<usize, Closed> {
        loop {
            let left = self.left()?;
            let read = self.stream.set_read_timeout(Some(left)).and_then(|()| self.stream.read(buffer));
            match read {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => return read.map_err(|error| self.broken(&error)),
            }
        }
    }

    fn broken(&self, error: &std::io::Error) -> Closed {
        let kind = match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => ClosedKind::Timeout,
            _ => ClosedKind::Reset,
        };
        let detail = match kind {
            ClosedKind::Timeout => format!("no answer within {} s, {}", self.wait.as_secs(), self.address),
            _ => format!("{error}, {}", self.address),
        };
        Closed { kind, detail }
    }
}
