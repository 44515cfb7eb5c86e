//! A network that can be cut: a TCP proxy whose bytes stand still when a test says so.
//!
//! Why: a cut network is not a closed connection: nobody is told, bytes just do not arrive.
//! Invariants: 1. nothing is dropped or reordered: after the cut everything goes on, as TCP does.
//! Bounds: 64 KiB per direction and connection. Driven by: the tests.
#![expect(clippy::disallowed_types, reason = "a test: a lock around a flag is the plain way")]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// The proxy.
pub(crate) struct Proxy {
    addr: SocketAddr,
    line: Arc<Line>,
}

#[derive(Default)]
struct Line {
    cut: Mutex<bool>,
    changed: Condvar,
    /// Bytes that went to the server.
    up: AtomicU64,
}

impl Proxy {
    /// A way to this address of the loopback.
    pub(crate) fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (addr, line) = (listener.local_addr().unwrap(), Arc::new(Line::default()));
        let shared = Arc::clone(&line);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let line = Arc::clone(&shared);
                thread::spawn(move || {
                    line.wait();
                    let Ok(server) = TcpStream::connect(target) else { return };
                    let (up, down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                    let other = Arc::clone(&line);
                    thread::spawn(move || other.copy(down, client, false));
                    line.copy(up, server, true);
                });
            }
        });
        Self { addr, line }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// From now on nothing arrives.
    pub(crate) fn cut(&self) {
        *self.line.cut.lock().unwrap() = true;
    }

    /// Everything goes on.
    pub(crate) fn mend(&self) {
        *self.line.cut.lock().unwrap() = false;
        self.line.changed.notify_all();
    }

    /// Bytes that went to the server so far.
    pub(crate) fn bytes_up(&self) -> u64 {
        self.line.up.load(Ordering::SeqCst)
    }
}

impl Line {
    fn wait(&self) {
        let mut cut = self.cut.lock().unwrap();
        while *cut {
            cut = self.changed.wait(cut).unwrap();
        }
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, up: bool) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            self.wait();
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
            if up {
                self.up.fetch_add(count as u64, Ordering::SeqCst);
            }
        }
        // What was on its way has arrived; the other direction may still have something to say.
        let _gone = to.shutdown(Shutdown::Write);
    }
}
