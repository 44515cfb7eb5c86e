//! A client that hides nothing: raw bytes over TCP or TLS, one answer read at a time.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use loadgen::sink::hec::HecServer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

pub const TOKEN: &str = "00000000-0000-4000-8000-000000000001";
pub const CHANNEL: &str = "AAAAAAAA-0000-4000-8000-00000000000A";
pub const OTHER_CHANNEL: &str = "BBBBBBBB-0000-4000-8000-00000000000B";
pub const EVENT: &str = "/services/collector/event";

/// One answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub minor: u8,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|why| panic!("{why}: {}", self.body))
    }

    pub fn code(&self) -> u64 {
        self.json()["code"].as_u64().unwrap_or_else(|| panic!("no code in {}", self.body))
    }

    pub fn ack_id(&self) -> Option<u64> {
        self.json()["ackId"].as_u64()
    }

    pub fn invalid(&self) -> Option<u64> {
        self.json()["invalid-event-number"].as_u64()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

pub struct Client {
    stream: Box<dyn Duplex>,
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub fn connect(server: &HecServer) -> Self {
        match server.ca_pem() {
            None => {
                let socket = tcp(server.address());
                Self::over(socket.try_clone().expect("socket"), socket)
            }
            Some(ca) => Self::tls(server.address(), ca, None, rustls::DEFAULT_VERSIONS).expect("TLS"),
        }
    }

    /// A connection without TLS that has answered once; `None` while the server is down.
    pub fn try_connect(server: &HecServer) -> Option<Self> {
        let socket = TcpStream::connect(server.address()).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
        let mut client = Self::over(socket.try_clone().expect("socket"), socket);
        client.stream.write_all(&get("/services/collector/health")).ok()?;
        client.answer().map(|_| client)
    }

    pub fn tls(
        address: SocketAddr,
        ca: &str,
        identity: Option<(&str, &str)>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).expect("ca")).expect("root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("certificate")],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("key"),
                )
                .expect("identity"),
        };
        let connection = ClientConnection::new(Arc::new(config), "127.0.0.1".try_into().expect("name"))
            .map_err(|why| why.to_string())?;
        let mut stream = StreamOwned::new(connection, tcp(address));
        // Handshake, and for TLS 1.3 what the server says about the client certificate, come with the first use.
        stream.conn.complete_io(&mut stream.sock).map_err(|why| why.to_string())?;
        Ok(Self::over(stream.sock.try_clone().expect("socket"), stream))
    }

    fn over(socket: TcpStream, stream: impl Read + Write + Send + 'static) -> Self {
        Self { stream: Box::new(stream), socket, buffer: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("write");
        self.stream.flush().expect("flush");
    }

    /// The next answer; `None` when the server ends the connection instead.
    pub fn answer(&mut self) -> Option<Answer> {
        loop {
            if let Some(answer) = self.parse() {
                return Some(answer);
            }
            if !self.read() {
                return None;
            }
        }
    }

    /// Whether the connection ends without another byte.
    pub fn is_ended(&mut self) -> bool {
        self.buffer.is_empty() && !self.read()
    }

    /// Whether nothing comes, not even an end, for this long.
    pub fn is_silent(&mut self, time: Duration) -> bool {
        let socket = self.socket.try_clone().expect("socket");
        socket.set_read_timeout(Some(time)).expect("timeout");
        let read = self.stream.read(&mut [0; 1]);
        matches!(read, Err(why) if matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// What was received and is no complete answer.
    pub fn rest(&self) -> &[u8] {
        &self.buffer
    }

    pub fn request(&mut self, bytes: &[u8]) -> Answer {
        self.send(bytes);
        self.answer().expect("an answer")
    }

    /// Sends events the usual way.
    pub fn post(&mut self, body: impl AsRef<[u8]>) -> Answer {
        self.request(&post(EVENT, &[], body.as_ref()))
    }

    /// Polls acks: true or false for each id.
    pub fn poll(&mut self, channel: &str, ids: &[u64]) -> Vec<bool> {
        let body = serde_json::json!({ "acks": ids }).to_string();
        let channel = format!("X-Splunk-Request-Channel: {channel}");
        let answer = self.request(&raw_post("/services/collector/ack", &[AUTH, &channel], body.as_bytes()));
        assert_eq!(answer.status, 200, "{answer:?}");
        let json = answer.json();
        ids.iter().map(|id| json["acks"][id.to_string()].as_bool().expect("a state")).collect()
    }

    fn read(&mut self) -> bool {
        let mut chunk = vec![0; 65_536];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(size) => {
                self.buffer.extend_from_slice(&chunk[..size]);
                true
            }
            Err(why) if matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("no answer in time")
            }
            Err(_) => false,
        }
    }

    fn parse(&mut self) -> Option<Answer> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(size) = response.parse(&self.buffer).expect("a response head") else {
            return None;
        };
        let headers: Vec<_> = response
            .headers
            .iter()
            .map(|header| (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned()))
            .collect();
        let mut answer = Answer {
            status: response.code.expect("status"),
            minor: response.version.expect("version"),
            headers,
            body: String::new(),
        };
        let length: usize =
            answer.header("content-length").expect("Content-Length").parse().expect("a length");
        let body = self.buffer.get(size..size + length)?;
        answer.body = String::from_utf8(body.to_vec()).expect("UTF-8");
        self.buffer.drain(..size + length);
        Some(answer)
    }
}

pub const AUTH: &str = "Authorization: Splunk 00000000-0000-4000-8000-000000000001";

/// A POST with exactly these headers beside Host, User-Agent, Content-Type and Content-Length.
pub fn raw_post(path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: sink\r\nUser-Agent: test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
        body.len()
    );
    for header in headers {
        request.push_str(header);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    [request.as_bytes(), body].concat()
}

/// A POST with token and channel, and these headers too.
pub fn post(path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let channel = format!("X-Splunk-Request-Channel: {CHANNEL}");
    raw_post(path, &[&[AUTH, channel.as_str()], headers].concat(), body)
}

pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: sink\r\nUser-Agent: test\r\n\r\n").into_bytes()
}

/// An envelope with this number.
pub fn event(number: u64) -> String {
    format!("{{\"time\":1700000000.5,\"event\":{{\"seq\":\"0-{number}\"}}}}")
}

/// Envelopes of these numbers, one behind the other.
pub fn events(numbers: std::ops::Range<u64>) -> String {
    numbers.map(event).collect()
}

fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
    stream.set_nodelay(true).expect("nodelay");
    stream
}
