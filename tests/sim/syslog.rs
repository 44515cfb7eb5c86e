//! Syslog receivers: one that reads a stream and says nothing, one that answers over RELP.

use std::collections::BTreeMap;

use sls2siem::proto::ids::ConnId;

use crate::faults::{Dice, Plan};

/// What a receiver does after it has read.
pub enum Does {
    /// It sends this.
    Says(Vec<u8>),
    /// It ends the connection: a FIN, as there is nothing unread.
    Ends,
    /// It dies with bytes unread, or closes with them: a reset.
    Resets,
}

/// What a receiver's process makes of a connection.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Mood {
    #[default]
    Reads,
    /// It has given up in the middle of what it has read, and closes the next time that it looks.
    GivesUp,
    /// It does not look at it any more.
    Hangs,
}

/// A connection as the receiver's machine sees it.
#[derive(Default)]
struct Stream {
    /// Bytes that its kernel has and its process has not read.
    unread: Vec<u8>,
    /// Bytes of a message that is not whole.
    part: Vec<u8>,
    fin: bool,
    closed: bool,
    mood: Mood,
    /// When bytes came last.
    arrived_at: u64,
    /// RELP: number of the last frame.
    txnr: u64,
    /// RELP: messages that are answered later, in any order.
    late: Vec<(u64, (u32, u64))>,
}

/// One receiver.
pub struct Receiver {
    relp: bool,
    streams: BTreeMap<ConnId, Stream>,
    /// Every record that its process has, in order.
    pub stored: Vec<(u32, u64)>,
    refused_once: Vec<(u32, u64)>,
}

impl Receiver {
    pub fn new(relp: bool) -> Self {
        Self { relp, streams: BTreeMap::new(), stored: Vec::new(), refused_once: Vec::new() }
    }

    /// The forwarder is another process now: names of connections begin again.
    pub fn forget_peer(&mut self) {
        self.streams.clear();
    }

    /// Bytes reach its kernel; false when nobody owns the connection any more.
    pub fn arrive(&mut self, now: u64, conn: ConnId, bytes: &[u8]) -> bool {
        let stream = self.streams.entry(conn).or_default();
        if stream.closed {
            return false;
        }
        assert!(!stream.fin, "bytes behind the FIN");
        stream.unread.extend_from_slice(bytes);
        stream.arrived_at = now;
        true
    }

    /// True where its process has something to do on this connection although no bytes came.
    pub fn is_busy(&self, conn: ConnId) -> bool {
        let busy =
            |stream: &Stream| !stream.closed && (stream.mood == Mood::GivesUp || !stream.late.is_empty());
        self.streams.get(&conn).is_some_and(busy)
    }

    /// The forwarder's FIN; false as above.
    pub fn fin(&mut self, conn: ConnId) -> bool {
        let stream = self.streams.entry(conn).or_default();
        stream.fin = true;
        !stream.closed
    }

    /// Its process reads what is there.
    pub fn read(&mut self, now: u64, conn: ConnId, plan: &Plan, dice: &mut Dice) -> Vec<Does> {
        let Some(stream) = self.streams.get_mut(&conn) else { return Vec::new() };
        if stream.closed || stream.mood == Mood::Hangs {
            return Vec::new();
        }
        if stream.mood == Mood::GivesUp {
            stream.closed = true;
            // Closing with bytes unread is a reset.
            return vec![if stream.unread.is_empty() { Does::Ends } else { Does::Resets }];
        }
        if dice.strike(if stream.fin { plan.receiver_resets } else { plan.receiver_resets / 4 }) {
            stream.closed = true;
            stream.unread.clear();
            return vec![Does::Resets];
        }
        stream.part.append(&mut stream.unread);
        let mut does = Vec::new();
        if self.relp {
            self.answer(conn, plan, dice, &mut does);
        } else {
            let is_prompt = now - stream.arrived_at <= PROMPT;
            let throws = is_prompt && dice.strike(plan.receiver_throws_away / 2);
            let mut messages: Vec<_> = std::iter::from_fn(|| counted(&mut stream.part)).collect();
            if throws {
                stream.mood = Mood::GivesUp;
                messages.truncate(1 + usize::try_from(dice.below(messages.len().max(1) as u64)).unwrap());
            }
            self.stored.extend(messages.iter().map(|message| number(message)));
            if throws {
                return does;
            }
        }
        let Some(stream) = self.streams.get_mut(&conn) else { return does };
        if !stream.closed && stream.fin {
            stream.closed = true;
            if dice.strike(plan.receiver_never_ends) {
                stream.mood = Mood::Hangs;
            } else {
                does.push(Does::Ends);
            }
        } else if !stream.closed && dice.strike(plan.receiver_ends_early / 4) {
            stream.closed = true;
            does.push(Does::Ends);
        }
        does
    }

    fn answer(&mut self, conn: ConnId, plan: &Plan, dice: &mut Dice, does: &mut Vec<Does>) {
        let Some(stream) = self.streams.get_mut(&conn) else { return };
        for (txnr, record) in std::mem::take(&mut stream.late) {
            if dice.below(2) == 0 {
                stream.late.push((txnr, record));
                continue;
            }
            self.stored.push(record);
            does.push(Does::Says(format!("{txnr} rsp 6 200 OK\n").into_bytes()));
        }
        while let Some((txnr, command, data)) = relp_frame(&mut stream.part) {
            assert_eq!(txnr, stream.txnr + 1, "numbers are exactly one apart");
            stream.txnr = txnr;
            if dice.strike(plan.receiver_never_ends / 4) {
                stream.mood = Mood::Hangs;
                return;
            }
            if dice.strike(plan.relp_serverclose / 8) {
                stream.closed = true;
                does.extend([Does::Says(b"0 serverclose 0\n".to_vec()), Does::Ends]);
                return;
            }
            let say = |data: &str| Does::Says(format!("{txnr} rsp {} {data}\n", data.len()).into_bytes());
            match command.as_str() {
                "open" => {
                    assert!(data.windows(15).any(|part| part == b"commands=syslog"));
                    if dice.strike(plan.relp_refuses_open) {
                        stream.closed = true;
                        does.extend([say("500 not now"), Does::Ends]);
                        return;
                    }
                    does.push(say("200 OK\nrelp_version=0\ncommands=syslog"));
                }
                "syslog" => {
                    assert!(txnr > 1, "nothing before open");
                    let record = number(&data);
                    if dice.strike(plan.relp_refuses / 8) && !self.refused_once.contains(&record) {
                        self.refused_once.push(record);
                        does.push(say("500 refused"));
                        continue;
                    }
                    if dice.strike(plan.relp_answers_late) {
                        stream.late.push((txnr, record));
                        continue;
                    }
                    self.stored.push(record);
                    if dice.strike(plan.receiver_resets / 16) {
                        stream.closed = true;
                        does.push(Does::Resets);
                        return;
                    }
                    does.push(say("200 OK"));
                }
                "close" => {
                    assert!(stream.late.is_empty(), "goodbye with messages unanswered");
                    stream.closed = true;
                    let bye = format!("{txnr} rsp 0\n0 serverclose 0\n");
                    does.extend([Does::Says(bye.into_bytes()), Does::Ends]);
                    return;
                }
                other => panic!("no command of RELP: {other}"),
            }
        }
    }
}

/// How soon after the last bytes somebody reads who may throw away a part of them. It is over before the FIN of a
/// forwarder can be there that is silent for 20 ms behind its last byte. Nobody can notice a receiver that takes longer.
const PROMPT: u64 = 8_000_000;

/// Takes one octet-counted message out of `bytes`.
fn counted(bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).unwrap().parse().expect("an octet count");
    let end = space + 1 + length;
    if bytes.len() < end {
        return None;
    }
    let message = bytes[space + 1..end].to_vec();
    bytes.drain(..end);
    Some(message)
}

/// Takes one RELP frame out of `bytes`.
fn relp_frame(bytes: &mut Vec<u8>) -> Option<(u64, String, Vec<u8>)> {
    let mut parts = bytes.splitn(4, |byte| *byte == b' ');
    let txnr = std::str::from_utf8(parts.next()?).unwrap().parse().ok()?;
    let command = String::from_utf8(parts.next()?.to_vec()).unwrap();
    let (txnr_len, rest) = (bytes.iter().position(|byte| *byte == b' ')?, parts.next()?);
    let head = txnr_len + 1 + command.len() + 1;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let after = *bytes.get(head + digits)?;
    let length: usize = std::str::from_utf8(&rest[..digits]).unwrap().parse().expect("a length");
    assert!(after == b' ' || (after == b'\n' && length == 0), "after the length: {after}");
    let start = head + digits + usize::from(after == b' ');
    let end = start + length;
    if bytes.len() <= end {
        return None;
    }
    assert_eq!(bytes[end], b'\n', "the end of a frame: {}", String::from_utf8_lossy(bytes));
    let data = bytes[start..end].to_vec();
    bytes.drain(..=end);
    Some((txnr, command, data))
}

/// Shard and number of the record in a message, or in its marked form.
pub fn number(message: &[u8]) -> (u32, u64) {
    let text = String::from_utf8_lossy(message);
    let (_, behind) = text.split_once(r#""seq":""#).expect("a record has its number");
    let (shard, behind) = behind.split_once('-').unwrap();
    (shard.parse().unwrap(), behind.split('"').next().unwrap().parse().unwrap())
}
