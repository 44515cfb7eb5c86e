//! A server that misbehaves on purpose, in front of a good one that it becomes when it is cured.
//!
//! Why: what a hostile peer sends has to come byte for byte, at an exact place of the talk; the bundled servers are built to
//! be right. Behind it stands a bundled one, so that what was not lost can be counted afterwards.
//! Invariants: 1. a request that is no victim is answered by the good server. 2. after `cure` a new connection is a
//! plain pipe to the good server, and none of the old ones goes on.
//! Bounds: [`FLOOD_BYTES_MAX`] for one answer; a thread for each connection, which ends with it or with the cure.
//! Driven by: `row`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};

/// Whose request is answered badly: asked with the first line of each request.
pub(crate) type Victim = fn(&str) -> bool;

/// What is done to it.
pub(crate) type Act = Box<dyn Fn(&mut Guest) -> io::Result<()> + Send + Sync>;

/// When.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// As soon as the connection is there, before TLS and before any request.
    Accept,
    /// After a whole request of a victim.
    Request,
}

/// How a front is set up.
pub(crate) struct Manner {
    pub(crate) stage: Stage,
    pub(crate) victim: Victim,
    pub(crate) act: Act,
    /// TLS towards the client, and towards the good server.
    pub(crate) tls: Option<(Arc<ServerConfig>, Arc<ClientConfig>)>,
}

/// The server.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: SocketAddr,
    manner: Manner,
    cured: AtomicBool,
    hits: AtomicUsize,
}

impl Front {
    pub(crate) fn start(target: SocketAddr, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared =
            Arc::new(Shared { target, manner, cured: AtomicBool::new(false), hits: AtomicUsize::new(0) });
        let server = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&server);
                // A client that is gone is what many of these want.
                thread::spawn(move || drop(shared.serve(client)));
            }
        });
        Self { address, shared }
    }

    /// How often it has struck.
    pub(crate) fn hits(&self) -> usize {
        self.shared.hits.load(Ordering::SeqCst)
    }

    /// From now on it is the good server.
    pub(crate) fn cure(&self) {
        self.shared.cured.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn serve(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        if self.cured.load(Ordering::SeqCst) {
            return pipe(client, TcpStream::connect(self.target)?);
        }
        client.set_write_timeout(Some(LOOK))?;
        client.set_read_timeout(Some(LOOK))?;
        let guest = |stream| Guest { stream, request: Vec::new(), shared: Arc::clone(self) };
        if self.manner.stage == Stage::Accept {
            self.hits.fetch_add(1, Ordering::SeqCst);
            return (self.manner.act)(&mut guest(Box::new(client)));
        }
        let stream: Box<dyn Stream> = match &self.manner.tls {
            None => Box::new(client),
            Some((server, _)) => {
                let session = ServerConnection::new(Arc::clone(server)).map_err(io::Error::other)?;
                Box::new(StreamOwned::new(session, client))
            }
        };
        let mut guest = guest(stream);
        if !guest.read_request()? {
            return Ok(());
        }
        if (self.manner.victim)(&guest.line()) {
            self.hits.fetch_add(1, Ordering::SeqCst);
            return (self.manner.act)(&mut guest);
        }
        let answer = guest.fetch()?;
        guest.say(&answer)?;
        guest.stream.say_goodbye();
        Ok(())
    }
}

/// A byte stream, with or without TLS.
pub(crate) trait Stream: Read + Write + Send {
    /// Ends the TLS session in order, if there is one.
    fn say_goodbye(&mut self) {}

    /// TCP below.
    fn tcp(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Stream for StreamOwned<ServerConnection, TcpStream> {
    fn say_goodbye(&mut self) {
        self.conn.send_close_notify();
        let _gone = self.flush();
    }

    fn tcp(&self) -> &TcpStream {
        &self.sock
    }
}

/// A connection, and the request that it brought.
pub(crate) struct Guest {
    pub(crate) stream: Box<dyn Stream>,
    request: Vec<u8>,
    shared: Arc<Shared>,
}

impl Guest {
    /// The first line of the request.
    pub(crate) fn line(&self) -> String {
        let end = self.request.iter().position(|byte| *byte == b'\r').unwrap_or(self.request.len());
        String::from_utf8_lossy(&self.request[..end]).into_owned()
    }

    /// Whether it is to go on.
    pub(crate) fn is_hostile(&self) -> bool {
        !self.shared.cured.load(Ordering::SeqCst)
    }

    /// Sends all of it.
    pub(crate) fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => rest = &rest[count..],
                Err(error) if is_pause(&error) && self.is_hostile() => {}
                Err(error) => return Err(error),
            }
        }
        loop {
            match self.stream.flush() {
                Err(error) if is_pause(&error) && self.is_hostile() => {}
                done => return done,
            }
        }
    }

    /// Sends this again and again.
    pub(crate) fn flood(&mut self, piece: &[u8]) -> io::Result<()> {
        let pieces = piece.repeat((64 << 10) / piece.len() + 1);
        let mut sent = 0;
        while self.is_hostile() && sent < FLOOD_BYTES_MAX {
            self.say(&pieces)?;
            sent += pieces.len();
        }
        Ok(())
    }

    /// Sends one byte a second of this, from the beginning again when it is over.
    pub(crate) fn drip(&mut self, bytes: &[u8]) -> io::Result<()> {
        for byte in bytes.iter().cycle() {
            if !self.is_hostile() {
                break;
            }
            self.say(&[*byte])?;
            self.wait(Duration::from_secs(1));
        }
        Ok(())
    }

    /// Says nothing until the cure.
    pub(crate) fn hang(&mut self) {
        while self.is_hostile() {
            thread::sleep(LOOK);
        }
    }

    fn wait(&self, time: Duration) {
        let mut left = time;
        while self.is_hostile() && !left.is_zero() {
            thread::sleep(LOOK.min(left));
            left = left.saturating_sub(LOOK);
        }
    }

    /// Takes what comes, throws it away and never ends: not even with the cure, because an end in order would say that
    /// all of it was read.
    pub(crate) fn swallow(&mut self) -> ! {
        let mut piece = vec![0; 64 << 10];
        loop {
            if !matches!(self.stream.read(&mut piece), Ok(1..)) {
                thread::sleep(LOOK);
            }
        }
    }

    /// What the good server answers to this request, head and body, without a word about the connection.
    pub(crate) fn genuine(&mut self) -> io::Result<Vec<u8>> {
        let answer = self.fetch()?;
        let (head, body) = split(&answer);
        let kept = head.split("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
        let mut answer = kept.collect::<Vec<_>>().join("\r\n").into_bytes();
        answer.extend_from_slice(b"\r\n\r\n");
        answer.extend_from_slice(body);
        Ok(answer)
    }

    /// The answer of the good server as it is.
    fn fetch(&mut self) -> io::Result<Vec<u8>> {
        let mut request = self.request.clone();
        let head = request.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        request.splice(head..head, *b"\r\nConnection: close");
        let tcp = TcpStream::connect(self.shared.target)?;
        tcp.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut answer = Vec::new();
        match &self.shared.manner.tls {
            None => {
                let mut tcp = tcp;
                tcp.write_all(&request)?;
                tcp.read_to_end(&mut answer)?;
            }
            Some((_, client)) => {
                let name = "127.0.0.1".try_into().expect("an address");
                let session = ClientConnection::new(Arc::clone(client), name).map_err(io::Error::other)?;
                let mut stream = StreamOwned::new(session, tcp);
                stream.write_all(&request)?;
                stream.flush()?;
                stream.read_to_end(&mut answer)?;
            }
        }
        Ok(answer)
    }

    /// Reads a request; false where the client ends instead.
    fn read_request(&mut self) -> io::Result<bool> {
        let mut piece = vec![0; 64 << 10];
        while self.is_hostile() {
            if let Some(head) = self.request.windows(4).position(|four| four == b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&self.request[..head]).to_ascii_lowercase();
                let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
                let length: usize = length.map_or(0, |text| text.trim().parse().expect("a length"));
                if self.request.len() >= head + 4 + length {
                    return Ok(true);
                }
            }
            match self.stream.read(&mut piece) {
                Ok(0) => return Ok(false),
                Ok(count) => self.request.extend_from_slice(&piece[..count]),
                Err(error) if is_pause(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

/// Head, without the empty line, and body of an answer.
pub(crate) fn split(answer: &[u8]) -> (String, &[u8]) {
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    (String::from_utf8_lossy(&answer[..head]).into_owned(), &answer[head + 4..])
}

/// Both directions, each with its own end.
fn pipe(client: TcpStream, server: TcpStream) -> io::Result<()> {
    let (up, down) = ((client.try_clone()?, server.try_clone()?), (server, client));
    let other = thread::spawn(move || copy(up.0, up.1));
    copy(down.0, down.1);
    let _ended = other.join();
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let _broken = io::copy(&mut from, &mut to);
    let _gone = to.shutdown(Shutdown::Write);
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

const LOOK: Duration = Duration::from_millis(100);
/// Of one endless answer: far more than any bound of the program.
const FLOOD_BYTES_MAX: usize = 256 << 20;
