//! What the peers of the pipeline say and read: SLS with a few groups of numbered records, HEC, RELP.

use serde_json::json;
use sls2siem::proto::ids::Cursor;

use super::super::input::Input;
use super::Records;

/// Groups of each shard; behind them the shard is at its end.
const GROUPS: usize = 12;

/// Records of a group: none, one, a few, many.
fn records_of(group: usize) -> u32 {
    [3, 0, 1, 40][group % 4]
}

/// Numbers of the records in front of a group.
pub(super) fn records_before(group: usize) -> core::ops::Range<u32> {
    0..(0..group).map(records_of).sum()
}

pub(super) fn cursor(group: usize) -> Cursor {
    Cursor::new(&format!("c{group}"))
}

pub(super) fn group_of(cursor: &Cursor) -> Option<usize> {
    cursor.as_str().strip_prefix('c')?.parse().ok()
}

/// The answer to a pull of at most `count` groups from `from` on.
pub(super) fn pull(shard: u32, from: usize, count: usize) -> Vec<u8> {
    let to = (from + count).min(GROUPS).max(from);
    let mut raw = Vec::new();
    for group in from..to {
        field(&mut raw, 1, &self::group(shard, group));
    }
    let body = if raw.is_empty() { Vec::new() } else { lz4_flex::block::compress(&raw) };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nx-log-bodyrawsize: {}\r\nx-log-count: {}\r\nx-log-cursor: c{to}\r\n\
         x-log-compresstype: lz4\r\nx-log-end-of-cursor: {}\r\n\r\n",
        body.len(),
        raw.len(),
        to - from,
        u8::from(to == GROUPS),
    );
    [head.into_bytes(), body].concat()
}

fn group(shard: u32, group: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for number in records_before(group).end..records_before(group + 1).end {
        let (mut log, mut pair) = (vec![0x08, 0x80, 0xe2, 0xcf, 0xaa, 0x06], Vec::new());
        field(&mut pair, 1, b"seq");
        field(&mut pair, 2, format!("{shard}-{number}").as_bytes());
        field(&mut log, 2, &pair);
        field(&mut out, 1, &log);
    }
    field(&mut out, 3, b"topic");
    out
}

fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap());
    out.extend_from_slice(bytes);
}

pub(super) fn sls_error(which: u8) -> Vec<u8> {
    let all = [
        (503, "ServerBusy"),
        (400, "InvalidCursor"),
        (401, "Unauthorized"),
        (403, "ShardReadQuotaExceed"),
        (404, "ShardNotExist"),
        (400, "InvalidAcceptEncoding"),
    ];
    let (status, code) = all[usize::from(which) % all.len()];
    response(status, &json!({ "errorCode": code, "errorMessage": "as it was given" }).to_string())
}

/// An answer of HEC, to a frame or a poll.
pub(super) fn hec(how: u8, input: &mut Input<'_>) -> Vec<u8> {
    let number = u64::from(input.byte() % 16);
    let (status, body) = match how % 8 {
        0 | 1 => (200, json!({ "text": "Success", "code": 0 })),
        2 | 3 => (200, json!({ "text": "Success", "code": 0, "ackId": number })),
        4 => (200, json!({ "acks": { number.to_string(): true, (number + 1).to_string(): how & 8 == 0 } })),
        5 => {
            let code = input.pick(&[6, 7, 12, 10, 11]);
            (400, json!({ "text": "refused", "code": code, "invalid-event-number": number, "ackId": number }))
        }
        6 => {
            let (status, code) = input.pick(&[(503, 9), (403, 4), (413, 27), (500, 8), (429, 26), (200, 17)]);
            (status, json!({ "text": "as it was given", "code": code }))
        }
        _ => (200, json!({ "text": "Success", "code": 0, "ackId": input.u16() })),
    };
    response(status, &body.to_string())
}

fn response(status: u16, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// What a RELP server says.
pub(super) fn relp(how: u8, input: &mut Input<'_>) -> Vec<u8> {
    let number = u32::from(input.byte() % 24);
    match how % 8 {
        0 | 1 => b"1 rsp 57 200 OK\nrelp_version=0\nrelp_software=x,1,y\ncommands=syslog\n".to_vec(),
        2 | 3 => (2..2 + number).flat_map(|number| format!("{number} rsp 6 200 OK\n").into_bytes()).collect(),
        4 | 5 => format!("{number} rsp 6 200 OK\n").into_bytes(),
        6 => format!("{number} rsp 6 500 no\n").into_bytes(),
        _ => b"0 serverclose 0\n".to_vec(),
    }
}

/// Changes some bytes, or leaves some out.
pub(super) fn spoil(bytes: &mut Vec<u8>, input: &mut Input<'_>) {
    for _ in 0..=(input.byte() % 3) {
        let at = usize::from(input.u16()) % bytes.len().max(1);
        match input.byte() {
            0 => bytes.truncate(at),
            flip => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= flip;
                }
            }
        }
    }
}

/// Shard and group of each whole request for a pull.
pub(super) fn take_pulls(sent: &mut Vec<u8>) -> Vec<(u32, usize)> {
    let mut pulls = Vec::new();
    while let Some(head) = take_head(sent) {
        let target = head.split(' ').nth(1).expect("a target");
        let (path, query) = target.split_once('?').expect("a query");
        let shard = path.rsplit('/').next().unwrap().parse().expect("a shard");
        let cursor = query.split('&').find_map(|pair| pair.strip_prefix("cursor=")).expect("a cursor");
        // One that came of spoilt bytes begins anywhere.
        let group = cursor.strip_prefix('c').and_then(|text| text.parse().ok()).unwrap_or(0);
        pulls.push((shard, group.min(GROUPS)));
    }
    pulls
}

/// Channel and records of each whole request to HEC.
pub(super) fn take_requests(sent: &mut Vec<u8>) -> Vec<(String, Records)> {
    let mut requests = Vec::new();
    loop {
        let Some(end) = find(sent, b"\r\n\r\n") else { return requests };
        let head = String::from_utf8(sent[..end].to_vec()).expect("a head is text").to_ascii_lowercase();
        let header = |name: &str| {
            let found =
                head.lines().filter_map(|line| line.split_once(": ")).find(|(known, _)| *known == name);
            found.map(|(_, value)| value.to_owned())
        };
        let length: usize = header("content-length").map_or(0, |length| length.parse().unwrap());
        let whole = end + 4 + length;
        if sent.len() < whole {
            return requests;
        }
        let body: Vec<u8> = sent.drain(..whole).skip(end + 4).collect();
        requests.push((header("x-splunk-request-channel").unwrap_or_default(), numbers(&body)));
    }
}

fn take_head(sent: &mut Vec<u8>) -> Option<String> {
    let end = find(sent, b"\r\n\r\n")? + 4;
    let head = sent.drain(..end).collect();
    Some(String::from_utf8(head).expect("a head is text"))
}

/// Records behind the number of each whole message of RELP.
pub(super) fn take_relp(sent: &mut Vec<u8>) -> Vec<(u32, Records)> {
    let mut messages = Vec::new();
    loop {
        let mut words = sent.splitn(4, |byte| matches!(byte, b' '));
        let Some(number) = words.next().and_then(decimal) else { return messages };
        let (Some(_command), Some(length)) = (words.next(), words.next()) else { return messages };
        let digits = length.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let Some(length) = decimal(&length[..digits]) else { return messages };
        let begin = sent.iter().enumerate().filter(|(_, byte)| **byte == b' ').nth(1).unwrap().0 + 1 + digits;
        let end = begin + usize::from(length > 0) + length as usize + 1;
        if sent.len() < end {
            return messages;
        }
        let frame: Vec<u8> = sent.drain(..end).collect();
        messages.push((number, numbers(&frame[begin..])));
    }
}

fn decimal(digits: &[u8]) -> Option<u32> {
    core::str::from_utf8(digits).ok()?.parse().ok()
}

/// The records that stand in these bytes, in any of the formats.
pub(super) fn numbers(bytes: &[u8]) -> Records {
    const BEGIN: &[u8] = b"\"seq\":\"";
    let (mut records, mut rest) = (Vec::new(), bytes);
    while let Some(at) = find(rest, BEGIN) {
        rest = &rest[at + BEGIN.len()..];
        let end = rest.iter().position(|byte| *byte == b'"').unwrap_or(rest.len());
        let text = core::str::from_utf8(&rest[..end]).unwrap_or_default();
        if let Some((shard, number)) = text.split_once('-')
            && let (Ok(shard), Ok(number)) = (shard.parse(), number.parse())
        {
            records.push((shard, number));
        }
    }
    records
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
