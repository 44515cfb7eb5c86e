//! A client that hides nothing: raw bytes over TCP or TLS, and how the receiver ended the connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use loadgen::sink::syslog::{SyslogServer, Transport};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// FIN, with `close_notify` where there is TLS.
    Orderly,
    /// RST.
    Reset,
    /// FIN without `close_notify`.
    Truncated,
    /// Not within the time.
    Open,
}

pub enum Client {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Client {
    pub fn connect(server: &SyslogServer, transport: Transport) -> Self {
        Self::try_connect(server, transport).expect("connect")
    }

    pub fn try_connect(server: &SyslogServer, transport: Transport) -> Option<Self> {
        let listen = server.listening().iter().find(|listen| listen.transport == transport).expect("listens");
        let socket = TcpStream::connect(listen.address).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
        if !transport.is_encrypted() {
            return Some(Self::Plain(socket));
        }
        let mut roots = RootCertStore::empty();
        let ca = server.ca_pem().expect("a certificate");
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).expect("ca")).expect("root");
        let config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_root_certificates(roots)
                .with_no_client_auth();
        let connection =
            ClientConnection::new(Arc::new(config), "127.0.0.1".try_into().expect("name")).expect("client");
        let mut stream = StreamOwned::new(connection, socket);
        stream.conn.complete_io(&mut stream.sock).ok()?;
        Some(Self::Tls(Box::new(stream)))
    }

    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("send");
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Plain(socket) => socket.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    /// Ends this side: `close_notify`, then FIN.
    pub fn half_close(&mut self) {
        if let Self::Tls(stream) = self {
            stream.conn.send_close_notify();
            stream.conn.write_tls(&mut stream.sock).expect("close_notify");
        }
        self.socket().shutdown(Shutdown::Write).expect("shutdown");
    }

    /// Reads until the connection ends; what came and how it ended.
    pub fn end_within(&mut self, time: Duration) -> (Vec<u8>, End) {
        let deadline = Instant::now() + time;
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.socket().set_read_timeout(Some(left)).expect("timeout");
            let read = match self {
                Self::Plain(socket) => socket.read(&mut chunk),
                Self::Tls(stream) => stream.read(&mut chunk),
            };
            match read {
                Ok(0) => return (bytes, End::Orderly),
                Ok(size) => bytes.extend_from_slice(&chunk[..size]),
                Err(why) => match why.kind() {
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => return (bytes, End::Reset),
                    ErrorKind::UnexpectedEof => return (bytes, End::Truncated),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return (bytes, End::Open),
                    other => panic!("{other}: {why}"),
                },
            }
        }
    }

    pub fn end(&mut self) -> End {
        self.end_within(PATIENCE).1
    }

    /// Reads so many bytes, or fewer if it ends before.
    pub fn read(&mut self, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        let mut filled = 0;
        self.socket().set_read_timeout(Some(PATIENCE)).expect("timeout");
        while filled < size {
            let read = match self {
                Self::Plain(socket) => socket.read(&mut bytes[filled..]),
                Self::Tls(stream) => stream.read(&mut bytes[filled..]),
            };
            match read {
                Ok(0) | Err(_) => break,
                Ok(read) => filled += read,
            }
        }
        bytes.truncate(filled);
        bytes
    }

    /// Reads until this stands in what came.
    pub fn read_until(&mut self, wanted: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !bytes.windows(wanted.len()).any(|window| window == wanted) {
            let mut byte = [0; 1];
            let read = match self {
                Self::Plain(socket) => socket.read(&mut byte),
                Self::Tls(stream) => stream.read(&mut byte),
            };
            assert_eq!(read.expect("an answer"), 1, "ended behind {:?}", String::from_utf8_lossy(&bytes));
            bytes.push(byte[0]);
        }
        bytes
    }
}

pub const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough to see that nothing happens.
pub const A_WHILE: Duration = Duration::from_millis(50);
