//! Tiny syslog receivers that misbehave on purpose, one connection after the other.
//!
//! Why: what a receiver does wrong (a reset with bytes unread, an end too early, no end at all) has to happen at an exact
//! place of the stream, which a real one cannot be told.
//! Invariants: 1. a message is kept when this process has read it whole, and at no other moment.
//! Bounds: messages are kept in memory; every thread ends with its connection or with the test's process.
//! Driven by: the tests of syslog.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// What a receiver does with one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Reads everything and ends behind the peer.
    Reads,
    /// Reads about so many bytes, leaves the rest unread and is gone: a reset.
    Resets(usize),
    /// Reads about so many bytes, then ends its side and reads on.
    EndsEarly(usize),
    /// Reads everything and never ends.
    NeverEnds,
    /// Reads nothing, ever.
    NeverReads,
    /// RELP: takes so many messages, answers half of them, then says `serverclose`.
    ServerClose(usize),
}

/// A receiver and what it has read.
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    inbox: Receiver<String>,
    /// How often each record came, by shard and number.
    seen: BTreeMap<(u32, u64), u64>,
    pub(crate) out_of_order: u64,
    highest: BTreeMap<u32, u64>,
}

impl Listener {
    /// The first connections are treated so, all later ones well.
    pub(crate) fn start(relp: bool, manners: &[Manner]) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), relp, manners)
    }

    /// On a socket that somebody else has made.
    pub(crate) fn on(listener: TcpListener, relp: bool, manners: &[Manner]) -> Self {
        let address = listener.local_addr().unwrap();
        let (say, inbox) = channel();
        let mut manners = VecDeque::from(manners.to_vec());
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let (manner, say) = (manners.pop_front().unwrap_or(Manner::Reads), say.clone());
                thread::spawn(move || serve(stream, relp, manner, &say));
            }
        });
        Self { address, inbox, seen: BTreeMap::new(), out_of_order: 0, highest: BTreeMap::new() }
    }

    /// Different records so far.
    pub(crate) fn unique(&mut self) -> u64 {
        while let Ok(message) = self.inbox.try_recv() {
            // The number of a log that came in parts stands in the first of them.
            if message.contains("[part ") && !message.contains("[part 1/") {
                continue;
            }
            let (_, rest) =
                message.split_once(r#""seq":""#).unwrap_or_else(|| panic!("no number: {message}"));
            let (shard, rest) = rest.split_once('-').unwrap();
            let name: (u32, u64) = (shard.parse().unwrap(), rest.split('"').next().unwrap().parse().unwrap());
            let count = self.seen.entry(name).or_default();
            *count += 1;
            let high = self.highest.entry(name.0).or_default();
            self.out_of_order += u64::from(*count == 1 && name.1 < *high);
            *high = (*high).max(name.1);
        }
        self.seen.len() as u64
    }

    /// Records that came more than once.
    pub(crate) fn repeated(&mut self) -> u64 {
        self.unique();
        self.seen.values().filter(|count| **count > 1).count() as u64
    }
}

fn serve(mut stream: TcpStream, relp: bool, manner: Manner, say: &Sender<String>) {
    let bound = match manner {
        Manner::Resets(bytes) => bytes,
        Manner::NeverReads => {
            // The socket has to stay open.
            loop {
                thread::park();
            }
        }
        _ => usize::MAX,
    };
    let (mut bytes, mut total, mut taken) = (Vec::new(), 0, 0);
    let mut piece = vec![0; 16 * 1024];
    while total < bound {
        let Ok(read) = stream.read(&mut piece) else { return };
        if read == 0 {
            break;
        }
        total += read;
        if matches!(manner, Manner::EndsEarly(early) if total >= early) {
            let _ = stream.shutdown(Shutdown::Write);
        }
        bytes.extend_from_slice(&piece[..read]);
        if !relp {
            while let Some(message) = counted(&mut bytes) {
                let _ = say.send(message);
            }
            continue;
        }
        while let Some((txnr, command, data)) = frame(&mut bytes) {
            let answer = match command.as_str() {
                "open" => "200 OK\nrelp_version=0\nrelp_software=test\ncommands=syslog".to_owned(),
                "close" => {
                    let _ = stream.write_all(format!("{txnr} rsp 0\n0 serverclose 0\n").as_bytes());
                    return;
                }
                _ => {
                    let _ = say.send(data);
                    taken += 1;
                    "200 OK".to_owned()
                }
            };
            if let Manner::ServerClose(count) = manner {
                if taken >= count {
                    let _ = stream.write_all(b"0 serverclose 0\n");
                    return;
                }
                if taken > count / 2 {
                    continue;
                }
            }
            let answer = format!("{txnr} rsp {} {answer}\n", answer.len());
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
    // Anything else is dropped here, with bytes unread if the peer is still sending: the kernel answers with a reset.
    if manner == Manner::NeverEnds {
        loop {
            thread::park();
        }
    }
}

/// Takes one octet-counted message out of `bytes`.
fn counted(bytes: &mut Vec<u8>) -> Option<String> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).unwrap().parse().expect("an octet count");
    let end = space + 1 + length;
    if bytes.len() < end {
        return None;
    }
    let message = String::from_utf8_lossy(&bytes[space + 1..end]).into_owned();
    bytes.drain(..end);
    Some(message)
}

/// Takes one RELP frame out of `bytes`: number, command, data.
fn frame(bytes: &mut Vec<u8>) -> Option<(u64, String, String)> {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).into_owned();
    let mut words = text.splitn(3, ' ');
    let (txnr, command) = (words.next()?, words.next()?.to_owned());
    let rest = words.next()?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 || digits == rest.len() {
        return None;
    }
    let length: usize = rest[..digits].parse().expect("a length");
    let start = txnr.len() + 1 + command.len() + 1 + digits + usize::from(length > 0);
    if bytes.len() <= start + length {
        return None;
    }
    assert_eq!(bytes[start + length], b'\n', "the end of a frame");
    let data = String::from_utf8_lossy(&bytes[start..start + length]).into_owned();
    let txnr = txnr.parse().expect("a number");
    bytes.drain(..=start + length);
    Some((txnr, command, data))
}
