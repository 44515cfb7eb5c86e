//! A network that can be cut in several ways, and whose far end can move.
//!
//! Why: a receiver that was killed comes back with another port; and there are more ways to be cut off than a closed
//! connection: silence, a reset, an end that only one side was told.
//! Invariants: 1. bytes are neither changed nor reordered. 2. an end in order is passed on as one, anything else as a reset: a
//! proxy that turned a reset into an end in order would tell a sender that everything was read. 3. on a network of plain
//! syslog, whose end is the only receipt, the far end is passed on as a reset unless the near one came before it and the far
//! kernel has every byte: what lies in this process was read by nobody.
//! Bounds: 64 KiB per direction and connection, two threads each. Driven by: `storm`.
#![expect(clippy::disallowed_types, reason = "a test: a lock around a list is the plain way")]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

/// The proxy.
pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    line: Arc<Line>,
}

/// How connections are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// FIN on both sides, in the middle of whatever they carried: TLS ends without `close_notify`.
    Fin,
    /// Resets.
    Reset,
    /// The far side ends; the near one is not told, and what it sends is swallowed.
    HalfOpen,
}

struct Line {
    /// An end is a receipt here.
    ends_are_receipts: bool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    target: Option<SocketAddr>,
    silent: bool,
    conns: Vec<Arc<Conn>>,
}

struct Conn {
    client: TcpStream,
    server: TcpStream,
    fate: AtomicU8,
    /// The end of the client was passed on, behind all of its bytes.
    is_told: AtomicBool,
}

const FLOWS: u8 = 0;
const RESET: u8 = 1;
const MUTE: u8 = 2;

impl Proxy {
    /// A way to nowhere yet; `ends_are_receipts` on a network of plain syslog.
    pub(crate) fn new(ends_are_receipts: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let line = Line { ends_are_receipts, state: Mutex::default(), changed: Condvar::new() };
        let (addr, line) = (listener.local_addr().unwrap(), Arc::new(line));
        let shared = Arc::clone(&line);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let line = Arc::clone(&shared);
                thread::spawn(move || line.serve(client));
            }
        });
        Self { addr, line }
    }

    /// Where it leads from now on.
    pub(crate) fn lead_to(&self, target: Option<SocketAddr>) {
        self.line.state.lock().unwrap().target = target;
    }

    /// Nothing arrives any more, and nobody is told.
    pub(crate) fn silence(&self) {
        self.line.state.lock().unwrap().silent = true;
    }

    /// Everything goes on.
    pub(crate) fn mend(&self) {
        self.line.state.lock().unwrap().silent = false;
        self.line.changed.notify_all();
    }

    /// Cuts all connections; says how many there were.
    pub(crate) fn cut(&self, how: Cut) -> usize {
        let conns = std::mem::take(&mut self.line.state.lock().unwrap().conns);
        for conn in &conns {
            match how {
                Cut::Fin => {
                    let _gone = conn.client.shutdown(Shutdown::Both);
                    let _gone = conn.server.shutdown(Shutdown::Both);
                }
                Cut::Reset => conn.reset(),
                Cut::HalfOpen => {
                    conn.fate.store(MUTE, Ordering::SeqCst);
                    // What was swallowed must not look read: when the near side has ended, it hears a reset.
                    close_with_reset(&conn.client);
                    let _gone = conn.server.shutdown(Shutdown::Both);
                }
            }
        }
        conns.len()
    }
}

impl Line {
    fn wait(&self) {
        let mut state = self.state.lock().unwrap();
        while state.silent {
            state = self.changed.wait(state).unwrap();
        }
    }

    fn serve(self: Arc<Self>, client: TcpStream) {
        self.wait();
        let target = self.state.lock().unwrap().target;
        let Some(server) = target.and_then(|target| TcpStream::connect(target).ok()) else { return };
        let conn = Conn { client, server, fate: AtomicU8::new(FLOWS), is_told: AtomicBool::new(false) };
        let conn = Arc::new(conn);
        self.state.lock().unwrap().conns.push(Arc::clone(&conn));
        let (line, other) = (Arc::clone(&self), Arc::clone(&conn));
        let up = thread::spawn(move || {
            if line.copy(&other, &other.client, &other.server) {
                let _gone = other.server.shutdown(Shutdown::Write);
                other.is_told.store(true, Ordering::SeqCst);
            }
        });
        if self.copy(&conn, &conn.server, &conn.client) {
            if self.ends_are_receipts && !conn.was_delivered() {
                conn.reset();
            } else {
                let _gone = conn.client.shutdown(Shutdown::Write);
            }
        }
        let _ended = up.join();
        self.state.lock().unwrap().conns.retain(|known| !Arc::ptr_eq(known, &conn));
    }

    /// Copies to the end; true where that was in order and has to be passed on.
    fn copy(&self, conn: &Conn, mut from: &TcpStream, mut to: &TcpStream) -> bool {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = from.read(&mut buffer);
            self.wait();
            let muted = conn.fate.load(Ordering::SeqCst) == MUTE;
            match read {
                Ok(0) => return !muted && conn.fate.load(Ordering::SeqCst) == FLOWS,
                Ok(_) if muted => {}
                Ok(count) if to.write_all(&buffer[..count]).is_ok() => {}
                _ => {
                    conn.reset();
                    return false;
                }
            }
        }
    }
}

impl Conn {
    /// True where the server's kernel has every byte of the client and its end. One that has closed its socket before that
    /// refuses them, and they are never acknowledged.
    fn was_delivered(&self) -> bool {
        (0..50).any(|_| {
            let delivered = self.is_told.load(Ordering::SeqCst) && unacked(&self.server) == Some(0);
            if !delivered {
                thread::sleep(Duration::from_millis(4));
            }
            delivered
        })
    }

    /// Both sides get a reset as soon as the threads have noticed.
    fn reset(&self) {
        if self.fate.swap(RESET, Ordering::SeqCst) == RESET {
            return;
        }
        for stream in [&self.client, &self.server] {
            close_with_reset(stream);
            let _gone = stream.shutdown(Shutdown::Read);
        }
    }
}

/// Bytes that the peer's kernel has not acknowledged, an end counted as one.
fn unacked(stream: &TcpStream) -> Option<i32> {
    let mut bytes: libc::c_int = 0;
    #[expect(unsafe_code, reason = "SIOCOUTQ (named TIOCOUTQ) is not in std")]
    // SAFETY: the descriptor is that of `stream`, which is borrowed; `bytes` is an int that outlives the call.
    let answer = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    (answer == 0).then_some(bytes)
}

/// From now on the last close of this socket is a reset.
fn close_with_reset(stream: &TcpStream) {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    // The standard library cannot set it, tokio can.
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime")
    });
    let _inside = runtime.enter();
    let copy = stream.try_clone().and_then(|copy| copy.set_nonblocking(true).map(|()| copy));
    if let Ok(stream) = copy.and_then(tokio::net::TcpStream::from_std) {
        let _gone = stream.set_zero_linger();
    }
}
