//! What this machine could do at best: the work that no forwarder can leave out, and nothing else.
//!
//! One pull's bytes are received from a socket, opened (AES-GCM), decompressed (lz4); the bytes that go to the sink are
//! sealed and sent through a socket. Nothing is parsed, escaped or copied. The AEAD is the faster one of aws-lc and ring.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

/// A core of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Core {
    /// For the other ends of connections.
    First,
    /// For what is measured.
    Last,
}
pub use Core::{First, Last};

/// Keeps the present thread on one core. What a send costs depends on where the receiver runs, and a receiver that moves about
/// makes the floor two figures.
pub fn stand_on(core: Core) {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let id = if core == First { cores.first() } else { cores.last() };
    if let Some(id) = id.filter(|_| cores.len() > 1) {
        core_affinity::set_for_current(*id);
    }
}

/// Size of a TLS record.
const RECORD: usize = 16 << 10;
/// Bytes per write and read.
const IO: usize = 256 << 10;

/// A connection whose other end swallows everything, on another thread.
pub fn drain() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    thread::spawn(move || {
        stand_on(First);
        let mut buffer = vec![0; 1 << 20];
        while peer.read(&mut buffer).is_ok_and(|read| read > 0) {}
    });
    stream
}

/// A connection whose other end gives bytes without end, on another thread.
pub fn spring() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    thread::spawn(move || {
        stand_on(First);
        let buffer = vec![7; IO];
        while peer.write_all(&buffer).is_ok() {}
    });
    stream
}

pub fn send(stream: &mut TcpStream, bytes: &[u8]) {
    for piece in bytes.chunks(IO) {
        stream.write_all(piece).unwrap();
    }
}

pub fn receive(stream: &mut TcpStream, buffer: &mut [u8]) {
    for piece in buffer.chunks_mut(IO) {
        stream.read_exact(piece).unwrap();
    }
}

/// AES-128-GCM over records in place; the tags are thrown away.
#[expect(clippy::large_enum_variant, reason = "there are two of them")]
pub enum Aead {
    AwsLc(aws_lc_rs::aead::LessSafeKey),
    Ring(ring::aead::LessSafeKey),
}

impl Aead {
    pub fn aws_lc() -> Self {
        use aws_lc_rs::aead::{AES_128_GCM, LessSafeKey, UnboundKey};
        Self::AwsLc(LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[7; 16]).unwrap()))
    }

    pub fn ring() -> Self {
        use ring::aead::{AES_128_GCM, LessSafeKey, UnboundKey};
        Self::Ring(LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[7; 16]).unwrap()))
    }

    pub fn seal(&self, bytes: &mut [u8]) {
        for record in bytes.chunks_mut(RECORD) {
            match self {
                Self::AwsLc(key) => {
                    use aws_lc_rs::aead::{Aad, Nonce};
                    let nonce = Nonce::assume_unique_for_key([1; 12]);
                    let tag = key.seal_in_place_separate_tag(nonce, Aad::from([0; 5]), record);
                    let _thrown_away = std::hint::black_box(tag.unwrap());
                }
                Self::Ring(key) => {
                    use ring::aead::{Aad, Nonce};
                    let nonce = Nonce::assume_unique_for_key([1; 12]);
                    let tag = key.seal_in_place_separate_tag(nonce, Aad::from([0; 5]), record);
                    let _thrown_away = std::hint::black_box(tag.unwrap());
                }
            }
        }
    }
}
