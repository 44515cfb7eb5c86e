//! RELP frames as a server sends them: `TXNR SP COMMAND SP DATALEN [SP DATA] LF`.
//!
//! Why: answers come in pieces, many in one read, and from a peer that may be anything; what is not RELP has to be
//! found at the first byte that cannot be, not after a timeout.
//! Invariants: 1. the same bytes give the same frames however they are cut. 2. no byte sequence panics or makes it
//!  hold more than [`DATA_BYTES_MAX`] and a header.
//! Bounds: [`DATA_BYTES_MAX`] per frame; librelp's answers are far below 1 KiB.
//! Driven by: `relp`. Spec: RELP as librelp 1.11 speaks it: an empty frame has no space before its LF.

use crate::proto::ids::Txnr;

/// Longest data of a frame that is read; a server has nothing longer to say.
pub(crate) const DATA_BYTES_MAX: usize = 32 * 1024;
const COMMAND_BYTES_MAX: usize = 32;
const NUMBER_DIGITS_MAX: usize = 9;

/// What a server may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// An answer to the frame with this number.
    Answer(Txnr),
    /// It closes the session. Comes unasked, as number 0, or with any other.
    ServerClose,
    /// A hint that nobody has to understand.
    Hint,
}

/// An incremental reader.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    state: State,
    txnr: u32,
    digits: usize,
    command: Vec<u8>,
    length: usize,
    data: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Txnr,
    Command,
    Length,
    Data,
    End,
    Done,
}

impl Reader {
    /// Reads up to the end of one frame. Returns how many bytes were used and what was said, if a frame is whole;
    /// its data stays in [`Self::data`] until the next call. The error says what is wrong with the bytes.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<(usize, Option<Said>), String> {
        if self.state == State::Done {
            *self = Self {
                data: core::mem::take(&mut self.data),
                command: core::mem::take(&mut self.command),
                ..Self::default()
            };
            self.data.clear();
            self.command.clear();
        }
        let mut used = 0;
        while let Some(&byte) = bytes.get(used) {
            if self.state == State::Data {
                let rest = bytes.get(used..).unwrap_or_default();
                let piece = rest.get(..self.length - self.data.len()).unwrap_or(rest);
                self.data.extend_from_slice(piece);
                used += piece.len();
                if self.data.len() == self.length {
                    self.state = State::End;
                }
                continue;
            }
            used += 1;
            if self.header(byte)? {
                self.state = State::Done;
                return Ok((used, Some(self.said()?)));
            }
        }
        Ok((used, None))
    }

    /// Data of the frame that was read last.
    pub(crate) fn data(&self) -> &[u8] {
        &self.data
    }

    /// One byte of the header, or the LF; true at the end of the frame.
    fn header(&mut self, byte: u8) -> Result<bool, String> {
        match (self.state, byte) {
            (State::Txnr, b'0'..=b'9') => self.txnr = self.number(self.txnr, byte)?,
            // Some servers send an LF too many.
            (State::Txnr, b'\n') if self.digits == 0 => {}
            (State::Txnr, b' ') if self.digits > 0 => self.enter(State::Command),
            (State::Command, b'a'..=b'z' | b'A'..=b'Z') if self.command.len() < COMMAND_BYTES_MAX => {
                self.command.push(byte);
            }
            (State::Command, b' ') if !self.command.is_empty() => self.enter(State::Length),
            (State::Length, b'0'..=b'9') => {
                let length = self.number(u32::try_from(self.length).unwrap_or(u32::MAX), byte)?;
                self.length = usize::try_from(length).unwrap_or(usize::MAX);
                if self.length > DATA_BYTES_MAX {
                    return Err(format!("a frame of {} bytes or more", self.length));
                }
            }
            (State::Length, b' ') if self.digits > 0 => {
                self.enter(if self.length > 0 { State::Data } else { State::End });
            }
            (State::Length, b'\n') if self.digits > 0 && self.length == 0 => return Ok(true),
            (State::End, b'\n') => return Ok(true),
            (state, byte) => {
                return Err(format!("byte 0x{byte:02x} in place of {}", expected(state)));
            }
        }
        Ok(false)
    }

    fn number(&mut self, value: u32, digit: u8) -> Result<u32, String> {
        self.digits += 1;
        if self.digits > NUMBER_DIGITS_MAX {
            return Err("a number of more than 9 digits".to_owned());
        }
        Ok(value * 10 + u32::from(digit - b'0'))
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.digits = 0;
    }

    fn said(&self) -> Result<Said, String> {
        match (self.command.as_slice(), Txnr::new(self.txnr)) {
            (b"serverclose", _) => Ok(Said::ServerClose),
            (b"rsp", Some(txnr)) => Ok(Said::Answer(txnr)),
            (_, None) => Ok(Said::Hint),
            (command, _) => Err(format!("the command {:?}", String::from_utf8_lossy(command))),
        }
    }
}

fn expected(state: State) -> &'static str {
    match state {
        State::Txnr => "a transaction number",
        State::Command => "a command",
        State::Length => "a length",
        State::Data | State::End | State::Done => "the line feed behind the data",
    }
}

/// The code and the rest of an answer's data: `200 OK`, `500 why`. `None` where it does not begin with three digits.
pub(crate) fn status(data: &[u8]) -> Option<(u16, &[u8])> {
    let (code, rest) = data.split_first_chunk::<3>()?;
    let digit = |byte: u8| byte.is_ascii_digit().then(|| u16::from(byte - b'0'));
    let [a, b, c] = *code;
    let code = digit(a)? * 100 + digit(b)? * 10 + digit(c)?;
    match rest {
        [] => Some((code, rest)),
        [b' ' | b'\n', text @ ..] => Some((code, text)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(pieces: &[&[u8]]) -> Result<Vec<(Said, Vec<u8>)>, String> {
        let (mut reader, mut all) = (Reader::default(), Vec::new());
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                let (used, said) = reader.read(rest)?;
                rest = &rest[used..];
                if let Some(said) = said {
                    all.push((said, reader.data().to_vec()));
                }
            }
        }
        Ok(all)
    }

    fn txnr(number: u32) -> Txnr {
        Txnr::new(number).unwrap()
    }

    const TALK: &[u8] = b"1 rsp 93 200 OK\nrelp_version=0\nrelp_software=librelp,1.11.0,http://librelp.adiscon.com\ncommands=syslog\n2 rsp 6 200 OK\n999999999 rsp 9 500 a\nb c\n3 rsp 0\n4 rsp 0 \n0 hint 2 \n\n\n0 serverclose 0\n";

    #[test]
    fn a_talk_is_read_the_same_however_it_is_cut() {
        let whole = read_all(&[TALK]).unwrap();
        let said: Vec<Said> = whole.iter().map(|(said, _)| *said).collect();
        let answers = [1, 2, 999_999_999, 3, 4].map(|number| Said::Answer(txnr(number)));
        assert_eq!(said, [&answers[..], &[Said::Hint, Said::ServerClose]].concat());
        assert_eq!(whole[2].1, b"500 a\nb c");
        for cut in 0..TALK.len() {
            assert_eq!(read_all(&[&TALK[..cut], &TALK[cut..]]).unwrap(), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = TALK.chunks(1).collect();
        assert_eq!(read_all(&bytes).unwrap(), whole);
    }

    #[test]
    fn what_is_not_relp_is_refused_at_once() {
        for wrong in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"<13>1 - - - - - -\n",
            b"\x15\x03\x01\x00\x02\x02\x28",
            b"1 rsp 6 200 OKx",
            b"1 rsp x",
            b"1  rsp 0\n",
            b" 1 rsp 0\n",
            b"1234567890 rsp 0\n",
            b"1 rsp 1234567890\n",
            b"1 rsp 32769 ",
            b"1 abcdefghijklmnopqrstuvwxyzabcdefghi 0\n",
            b"1 syslog 0\n",
            b"1 rsp\n",
            b"1 rsp 1\n",
        ] {
            assert!(read_all(&[wrong]).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
    }

    #[test]
    fn status_codes() {
        assert_eq!(status(b"200 OK"), Some((200, &b"OK"[..])));
        assert_eq!(status(b"200"), Some((200, &b""[..])));
        assert_eq!(status(b"500\nwhy"), Some((500, &b"why"[..])));
        for wrong in [&b""[..], b"20", b"2OO OK", b"2000 OK", b"200OK"] {
            assert_eq!(status(wrong), None);
        }
    }

    proptest! {
        /// Law: no bytes panic, and what is held stays bounded.
        #[test]
        fn hostile_bytes_are_bounded(bytes in proptest::collection::vec(
            prop_oneof![proptest::sample::select(&b"0123456789 \nrspx"[..]), any::<u8>()], 0..400)) {
            let mut reader = Reader::default();
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let Ok((used, _)) = reader.read(rest) else { break };
                prop_assert!(used > 0 && reader.data().len() <= DATA_BYTES_MAX);
                rest = &rest[used..];
            }
        }
    }
}
