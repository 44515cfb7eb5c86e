//! Answers made wrong on purpose.
//!
//! Why: lz4 blocks carry no checksum, so a bit flipped anywhere would often decode, and a test could not tell the
//! client's mistake from ours. What is spoilt here is always something that a careful client can notice.
//! Invariants: 1. a spoilt pull body does not decode to the announced size as a list of log groups.
//! Bounds: a bounded number of tries, then the body is cut.
//! Driven by: `api`, after the call was processed.   Spec: protocol/sls.md 4.

use prost::Message as _;

use super::codec::Codec;
use super::http::Reply;
use crate::payload::LogGroupList;

/// Words of a fault plan that this server knows besides the common ones.
///
/// `rawsize[:DELTA]` announces another size, `count` another number of groups, `truncate` drops the last byte,
/// `protobuf` breaks the message under intact compression, `empty` answers `[]`, `html[:STATUS]` answers like a
/// gateway, `bare[:STATUS]` answers with a status and nothing else.
pub const WORDS: &[&str] = &["rawsize", "count", "truncate", "protobuf", "empty", "html", "bare"];

const TRIES: usize = 64;

/// Spoils an answer as one of `WORDS` says.
pub(crate) fn word(word: &str, arg: Option<&str>, reply: &mut Reply) {
    let status = arg.and_then(|arg| arg.parse().ok()).unwrap_or(502);
    match word {
        "rawsize" => shift(reply, "x-log-bodyrawsize", arg.and_then(|arg| arg.parse().ok()).unwrap_or(1)),
        "count" => shift(reply, "x-log-count", 1),
        "truncate" => {
            reply.body.pop();
        }
        "protobuf" => protobuf(reply),
        "empty" => reply.body = b"[]".to_vec(),
        "html" => {
            let page = format!("<html><head><title>{status}</title></head><body>nginx</body></html>");
            *reply = Reply::new(status).with("content-type", "text/html").with_body(page.into_bytes());
        }
        "bare" => *reply = Reply::new(status),
        _ => {}
    }
}

/// Flips a bit that a client can notice.
pub(crate) fn bits(reply: &mut Reply) {
    let body = reply.body.clone();
    let Some((codec, raw_size)) = encoding(reply) else {
        // Not a pull: the first byte of JSON is as good as any.
        if let Some(byte) = reply.body.first_mut() {
            *byte ^= 0x40;
        }
        return;
    };
    for index in 0..TRIES {
        let mut changed = body.clone();
        let at = index.wrapping_mul(7919) % changed.len().max(1);
        let Some(byte) = changed.get_mut(at) else { return };
        *byte ^= 0x10;
        if !decodes(codec, &changed, raw_size) {
            reply.body = changed;
            return;
        }
    }
    reply.body.truncate(body.len() / 2);
}

fn protobuf(reply: &mut Reply) {
    let Some((codec, raw_size)) = encoding(reply) else { return };
    let Ok(mut raw) = codec.decompress(&reply.body, raw_size) else { return };
    if let Some(first) = raw.first_mut() {
        // Wire type 7 does not exist.
        *first = 0x0F;
    }
    if let Ok(body) = codec.compress(&raw) {
        reply.body = body;
    }
}

fn encoding(reply: &Reply) -> Option<(Codec, usize)> {
    let header =
        |name: &str| reply.headers.iter().find(|header| header.0 == name).map(|header| header.1.as_str());
    let raw_size = header("x-log-bodyrawsize")?.parse().ok()?;
    Some((header("x-log-compresstype").and_then(Codec::from_name).unwrap_or(Codec::None), raw_size))
}

fn decodes(codec: Codec, body: &[u8], raw_size: usize) -> bool {
    codec.decompress(body, raw_size).is_ok_and(|raw| LogGroupList::decode(raw.as_slice()).is_ok())
}

fn shift(reply: &mut Reply, name: &str, by: i64) {
    for (_, value) in reply.headers.iter_mut().filter(|header| header.0 == name) {
        *value = value.parse::<i64>().unwrap_or(0).saturating_add(by).max(0).to_string();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::{Payload, Profile};

    fn pull(codec: Codec) -> Reply {
        let list = LogGroupList { log_groups: vec![Payload::new(Profile::AccessLog, 1).group(0, 0)] };
        let raw = list.encode_to_vec();
        let reply = Reply::new(200).with("x-log-bodyrawsize", raw.len().to_string()).with("x-log-count", "1");
        let reply = match codec.name() {
            Some(name) => reply.with("x-log-compresstype", name),
            None => reply,
        };
        reply.with_body(codec.compress(&raw).unwrap())
    }

    #[test]
    fn what_is_spoilt_can_be_noticed() {
        for codec in [Codec::Lz4, Codec::Zstd, Codec::Deflate, Codec::None] {
            let check = |reply: &Reply| {
                let (codec, raw_size) = encoding(reply).unwrap();
                decodes(codec, &reply.body, raw_size)
            };
            assert!(check(&pull(codec)));
            for name in ["rawsize", "truncate", "protobuf"] {
                let mut reply = pull(codec);
                word(name, None, &mut reply);
                assert!(!check(&reply), "{name} {codec:?}");
            }
            let mut reply = pull(codec);
            bits(&mut reply);
            assert!(!check(&reply), "bits {codec:?}");
        }
    }
}
