//! One blocking conversation with a peer: request, answer, request, answer.
//!
//! Why: commands that talk to a sink a few times need no executor, but the same TLS settings and the same reading of
//! answers as the data plane, or they would prove nothing about it.
//! Invariants: 1. an answer is whole or an error. Bounds: the given time for each step; answers of at most 1 MiB.
//! Driven by: commands. Spec: RFC 9112; TLS as in [`super::tls`].

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use super::tls::Session;
use super::{DriveError, Target, TargetSpec};
use crate::proto::event::{Closed, ClosedKind};
use crate::proto::http1::{Limits, Progress, ResponseParser};

/// An open conversation.
pub struct Dialogue {
    stream: TcpStream,
    session: Option<Session>,
    /// Plaintext that was received and belongs to no answer yet.
    plain: Vec<u8>,
}

/// A whole answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// `Location`.
    pub location: Option<String>,
    /// The body.
    pub body: Vec<u8>,
    /// Another request may follow.
    pub keep_alive: bool,
}

/// Why there is no conversation.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum DialogueError {
    #[error("{0}")]
    Settings(Box<DriveError>),
    #[error("{peer}: {}", .closed.detail)]
    Closed { peer: String, closed: Closed },
}

impl Dialogue {
    /// Connects to the first address that answers, and shakes hands.
    pub fn open(spec: &TargetSpec, patience: Duration) -> Result<Self, DialogueError> {
        let target = Target::new(spec).map_err(|error| DialogueError::Settings(Box::new(error)))?;
        let peer = format!("{}:{}", spec.host, spec.port);
        let failed = |kind: ClosedKind, detail: String| DialogueError::Closed {
            peer: peer.clone(),
            closed: Closed { kind, detail },
        };
        let host = spec.host.trim_matches(['[', ']']);
        let addresses = (host, spec.port)
            .to_socket_addrs()
            .map_err(|error| failed(ClosedKind::Resolve, error.to_string()))?;
        let mut last = "the name has no address".to_owned();
        for address in addresses {
            match TcpStream::connect_timeout(&address, patience) {
                Ok(stream) => {
                    let limited = stream
                        .set_read_timeout(Some(patience))
                        .and_then(|()| stream.set_write_timeout(Some(patience)))
                        .and_then(|()| stream.set_nodelay(true));
                    limited.map_err(|error| failed(ClosedKind::Connect, error.to_string()))?;
                    let session = target.session().transpose();
                    let session = session.map_err(|closed| failed(closed.kind, closed.detail))?;
                    let mut dialogue = Self { stream, session, plain: Vec::new() };
                    let shaken = dialogue.shake_hands();
                    shaken.map_err(|closed| failed(closed.kind, closed.detail))?;
                    return Ok(dialogue);
                }
                Err(error) => last = format!("connect to {address}: {error}"),
            }
        }
        Err(failed(ClosedKind::Connect, last))
    }

    /// Sends a whole request and waits for its answer.
    pub fn exchange(&mut self, request: &[u8]) -> Result<Reply, Closed> {
        self.write(request)?;
        let mut parser = ResponseParser::new(Limits { head_bytes_max: 64 << 10, body_bytes_max: 1 << 20 });
        let mut body = Vec::new();
        loop {
            let pending = core::mem::take(&mut self.plain);
            let mut rest = pending.as_slice();
            loop {
                let step = parser.handle(rest, &mut body);
                let (used, progress) = step.map_err(|error| reset(error.to_string()))?;
                rest = rest.get(used..).unwrap_or_default();
                match progress {
                    Progress::Head => {}
                    Progress::NeedMore => break,
                    Progress::Done => {
                        self.plain = rest.to_vec();
                        return Ok(reply(&parser, body));
                    }
                }
            }
            if !self.read()? {
                return match parser.handle_eof() {
                    Ok(Progress::Done) => Ok(reply(&parser, body)),
                    _ => {
                        Err(Closed { kind: ClosedKind::Eof, detail: "the peer ended the connection".into() })
                    }
                };
            }
        }
    }

    fn shake_hands(&mut self) -> Result<(), Closed> {
        while let Some(session) = &mut self.session {
            let mut out = Vec::new();
            session.drain_into(&mut out);
            let is_handshaking = session.is_handshaking();
            let tls = |error: std::io::Error| Closed {
                kind: ClosedKind::Tls,
                detail: format!("the connection broke during the TLS handshake: {error}"),
            };
            self.stream.write_all(&out).map_err(tls)?;
            if !is_handshaking {
                return Ok(());
            }
            let mut buffer = vec![0; READ_BYTES];
            let read = self.stream.read(&mut buffer).map_err(tls)?;
            if read == 0 {
                let detail = "the peer ended the connection during the TLS handshake".to_owned();
                return Err(Closed { kind: ClosedKind::Tls, detail });
            }
            let wire = buffer.get(..read).unwrap_or_default();
            if let Err(why) = session.open(wire, &mut self.plain) {
                let mut alert = Vec::new();
                session.drain_into(&mut alert);
                // The alert tells the peer why; whether it arrives does not matter.
                let _best = self.stream.write_all(&alert);
                return Err(why);
            }
        }
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), Closed> {
        let broken = |error: std::io::Error| reset(error.to_string());
        let Some(session) = &mut self.session else {
            return self.stream.write_all(bytes).map_err(broken);
        };
        while !bytes.is_empty() {
            let sealed = session.seal(bytes);
            let mut out = Vec::new();
            session.drain_into(&mut out);
            self.stream.write_all(&out).map_err(broken)?;
            bytes = bytes.get(sealed..).unwrap_or_default();
        }
        Ok(())
    }

    /// False at the end of the connection.
    fn read(&mut self) -> Result<bool, Closed> {
        let mut buffer = vec![0; READ_BYTES];
        let read = self.stream.read(&mut buffer).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
                Closed { kind: ClosedKind::Timeout, detail: "no answer in time".into() }
            }
            _ => reset(error.to_string()),
        })?;
        let wire = buffer.get(..read).unwrap_or_default();
        match &mut self.session {
            None => self.plain.extend_from_slice(wire),
            Some(session) => session.open(wire, &mut self.plain)?,
        }
        Ok(read > 0)
    }
}

fn reply(parser: &ResponseParser, body: Vec<u8>) -> Reply {
    let head = parser.head();
    Reply {
        status: head.map_or(0, |head| head.status()),
        location: head.and_then(|head| head.header("location").map(ToOwned::to_owned)),
        keep_alive: head.is_some_and(|head| head.keep_alive()),
        body,
    }
}

fn reset(detail: String) -> Closed {
    Closed { kind: ClosedKind::Reset, detail }
}

const READ_BYTES: usize = 64 * 1024;
