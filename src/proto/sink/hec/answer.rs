//! What an answer of HEC means for the frame that was sent.
//!
//! Why: splunkd says "no" in some thirty ways, and the harmless-looking ones lose data in other senders: a 200
//! with an unreadable body is not a receipt, a 400 may mean that half of the frame is stored.
//! Invariants: 1. only a 2xx whose body says success confirms anything. 2. nothing here ever means "drop".
//! Bounds: bodies are at most [`BODY_BYTES_MAX`] and [`DEPTH_MAX`] deep; text kept for operators is at most 200
//! characters.
//! Driven by: `sink::hec` with each complete response. Spec: `README.md` troubleshooting; Splunk "HTTP Event
//! Collector" error codes 0-28.

use serde::Deserialize;

use crate::proto::event::HecAnswer;
use crate::proto::ids::AckId;
use crate::proto::planted::{Bug, planted};

/// Longest body of an answer that is read.
pub const BODY_BYTES_MAX: u64 = 1 << 20;

/// Deepest nesting of an answer that is read. HEC answers with an object of plain values; a poll with one more level.
pub const DEPTH_MAX: usize = 32;

/// What to do with the frame.
#[derive(Debug, PartialEq)]
pub enum Judgement {
    /// Taken; with an id when the indexer will confirm it later.
    Taken {
        /// To be polled.
        ack_id: Option<AckId>,
        /// The server is near its limits.
        slow_down: bool,
    },
    /// Records before `accepted` are stored (confirmed by `ack_id` where there is one), record `accepted` is
    /// refused for its content or because the server is busy, the rest was not looked at.
    Partial {
        /// Number of records taken.
        accepted: u32,
        /// For the taken ones.
        ack_id: Option<AckId>,
        /// The next record found no room: it is as good as those behind it.
        busy: bool,
        /// Why the next record was refused.
        answer: HecAnswer,
    },
    /// The body is larger than the server takes: nothing of it was looked at.
    TooLarge {
        /// As received.
        answer: HecAnswer,
    },
    /// Nothing counts; the same frame goes again.
    Again {
        /// As received.
        answer: HecAnswer,
        /// The records may be stored nevertheless.
        ambiguous: bool,
        /// An operator has to repair something: come back slowly.
        hold: bool,
        /// The server knows this channel no longer (or never did): take a new one.
        new_channel: bool,
    },
}

#[derive(Deserialize, Default)]
struct Body {
    #[serde(default)]
    text: String,
    code: Option<u16>,
    #[serde(rename = "ackId")]
    ack_id: Option<u64>,
    #[serde(rename = "invalid-event-number")]
    invalid_event: Option<u64>,
}

/// The request that is answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// Records in it.
    pub records: u32,
    /// Bytes of its body before compression.
    pub bytes: usize,
}

/// Splunk Cloud takes somewhat more than this, and says of a larger body that its object 0 is bad.
pub const LARGE_BYTES: usize = 5 << 20;

/// Reads an answer.
pub fn judge(
    status: u16,
    location: Option<&str>,
    body: &mut [u8],
    sent: Sent,
    scratch: &mut simd_json::Buffers,
) -> Judgement {
    let records = sent.records;
    let excerpt = excerpt_of(body);
    let parsed = if is_parsable(body) {
        simd_json::serde::from_slice_with_buffers::<Body>(body, scratch).ok()
    } else {
        None
    };
    let readable = parsed.is_some();
    let parsed = parsed.unwrap_or_default();
    let ack_id = parsed.ack_id.map(AckId);
    let code = parsed.code;
    if (200..300).contains(&status) && readable && matches!(code, Some(0 | 24 | 25)) {
        return Judgement::Taken { ack_id, slow_down: code != Some(0) };
    }
    if planted(Bug::AnyPageIsAReceipt) && status == 200 {
        return Judgement::Taken { ack_id, slow_down: false };
    }
    let answer = HecAnswer {
        status,
        code,
        text: if readable && !parsed.text.is_empty() { shorten(&parsed.text) } else { excerpt },
        invalid_event: parsed.invalid_event,
        location: location.map(shorten),
    };
    let blames_first = status == 400 && code == Some(6) && answer.invalid_event == Some(0);
    if sent.records > 0 && (status == 413 || blames_first && sent.bytes > LARGE_BYTES) {
        return Judgement::TooLarge { answer };
    }
    if let Some(accepted) = accepted_prefix(&answer, ack_id, records) {
        return Judgement::Partial { accepted, ack_id, busy: status == 503, answer };
    }
    let in_part = status == 503 && answer.invalid_event.is_some_and(|number| number > 0);
    let clean = matches!(status, 300..=499 | 503) && status != 408 && !in_part;
    Judgement::Again {
        ambiguous: !clean,
        hold: matches!(status, 300..=499) && !matches!(status, 404 | 408 | 429),
        new_channel: status == 400 && matches!(code, Some(10 | 11 | 28)),
        answer,
    }
}

/// How many records of the frame are stored, for an answer that refuses one record by number.
fn accepted_prefix(answer: &HecAnswer, ack_id: Option<AckId>, records: u32) -> Option<u32> {
    let number = answer.invalid_event?;
    let refused = match (answer.status, answer.code?) {
        // An index that the token may not write to is reported with the number of the next event.
        (400, 7) if planted(Bug::IndexErrorOffByOne) => number,
        (400, 7) => number.checked_sub(1)?,
        (400, 6 | 12 | 13 | 15) => number,
        // The queue was full in the middle of the body, it is said. Nobody has verified that the front is stored,
        // so it counts only with an id that the indexer will confirm.
        (503, 9) if number > 0 && (ack_id.is_some() || planted(Bug::BusyFrontCounts)) => number,
        _ => return None,
    };
    u32::try_from(refused).ok().filter(|refused| *refused < records)
}

/// True where the parser may be given the text. It has no bound of its own and calls itself for every level that it skips, so
/// the text may nest no deeper than [`DEPTH_MAX`]; brackets in strings do not count. And it takes U+0000 for the end of a number,
/// whatever follows, so outside of strings no control character may stand that is no white space (RFC 8259, section 2).
pub fn is_parsable(text: &[u8]) -> bool {
    let (mut depth, mut rest) = (0_usize, text.iter());
    while let Some(byte) = rest.next() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'\t' | b'\n' | b'\r' => {}
            0..b' ' => return false,
            b'"' => {
                while let Some(inside) = rest.next().filter(|inside| **inside != b'"') {
                    if *inside == b'\\' {
                        rest.next();
                    }
                }
            }
            _ => {}
        }
        if depth > DEPTH_MAX {
            return false;
        }
    }
    true
}

fn excerpt_of(body: &[u8]) -> String {
    shorten(&String::from_utf8_lossy(body.get(..400).unwrap_or(body)))
}

/// At most 200 characters, without control characters.
fn shorten(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> Judgement {
        read_of(Sent { records: 10, bytes: 1_000 }, status, body)
    }

    fn read_of(sent: Sent, status: u16, body: &str) -> Judgement {
        judge(status, None, &mut body.as_bytes().to_vec(), sent, &mut simd_json::Buffers::default())
    }

    #[test]
    fn event_0_of_a_large_body_means_too_large() {
        let body = r#"{"text":"Invalid data format","code":6,"invalid-event-number":0}"#;
        let large = Sent { records: 10, bytes: LARGE_BYTES + 1 };
        assert!(matches!(read_of(large, 400, body), Judgement::TooLarge { .. }));
        assert!(matches!(read(400, body), Judgement::Partial { accepted: 0, .. }), "small: the event is bad");
        let other = r#"{"text":"Invalid data format","code":6,"invalid-event-number":1}"#;
        assert!(matches!(read_of(large, 400, other), Judgement::Partial { accepted: 1, .. }));
        assert!(matches!(read(413, "<html>"), Judgement::TooLarge { .. }));
    }

    #[test]
    fn success_needs_a_readable_success_body() {
        assert_eq!(
            read(200, r#"{"text":"Success","code":0,"ackId":7}"#),
            Judgement::Taken { ack_id: Some(AckId(7)), slow_down: false }
        );
        assert_eq!(
            read(200, r#"{"text":"Success","code":0}"#),
            Judgement::Taken { ack_id: None, slow_down: false }
        );
        assert_eq!(
            read(200, r#"{"text":"queue is approaching its capacity","code":24}"#),
            Judgement::Taken { ack_id: None, slow_down: true }
        );
        // A number, whatever its sign (RFC 8259, section 6).
        assert_eq!(read(200, r#"{"code":-0}"#), Judgement::Taken { ack_id: None, slow_down: false });
        for body in [
            "",
            r#"{"text":"Success","code":-1}"#,
            r#"{"text":"Success","code":0.0}"#,
            r#"{"text":"Success","code":"0"}"#,
            "<html>welcome</html>",
            r#"{"text":"Success"}"#,
            r#"{"code":17,"text":"HEC is healthy"}"#,
            "[]",
        ] {
            assert!(matches!(read(200, body), Judgement::Again { ambiguous: true, .. }), "{body}");
        }
    }

    #[test]
    fn nesting_without_end_is_no_answer_and_costs_no_stack() {
        let nested = |depth: usize| {
            let (open, close) = ("[".repeat(depth), "]".repeat(depth));
            format!(r#"{{"text":"Success","code":0,"x":{open}{close}}}"#)
        };
        assert!(matches!(read(200, &nested(DEPTH_MAX - 1)), Judgement::Taken { .. }));
        for depth in [DEPTH_MAX, 500_000] {
            assert!(matches!(read(200, &nested(depth)), Judgement::Again { ambiguous: true, .. }), "{depth}");
        }
        let quoted = format!(r#"{{"text":"\\\"{}","code":0}}"#, "[{".repeat(1_000));
        assert!(matches!(read(200, &quoted), Judgement::Taken { .. }), "brackets in a string nest nothing");
        for cut in ["\"", "\"\\", "[\"\\\""] {
            assert!(is_parsable(cut.as_bytes()), "{cut}");
        }
    }

    #[test]
    fn a_control_character_ends_no_number() {
        for (status, body) in [
            (200, "{\"text\":\"Success\",\"code\":0\0}"),
            (200, "{\"text\":\"Success\",\"code\":0,\"ackId\":7\0\0\0!}"),
            (400, "{\"text\":\"Incorrect index\",\"code\":7\0\0\0!,\"invalid-event-number\":3}"),
            (200, "{\"code\":0}\0"),
            (200, "\u{b}{\"code\":0}"),
        ] {
            assert!(matches!(read(status, body), Judgement::Again { .. }), "{body:?}");
        }
        let spaced = "\r\n{\t\"code\" :\n0 }\r\n";
        assert!(matches!(read(200, spaced), Judgement::Taken { .. }), "white space may stand everywhere");
    }

    #[test]
    fn a_prefix_counts_and_code_7_is_one_too_high() {
        let body = r#"{"text":"Invalid data format","code":6,"invalid-event-number":3,"ackId":1}"#;
        assert!(matches!(read(400, body), Judgement::Partial { accepted: 3, ack_id: Some(AckId(1)), .. }));
        let body = r#"{"text":"Incorrect index","code":7,"invalid-event-number":3}"#;
        assert!(matches!(read(400, body), Judgement::Partial { accepted: 2, ack_id: None, .. }));
        let body = r#"{"text":"Invalid data format","code":6,"invalid-event-number":10}"#;
        assert!(
            matches!(read(400, body), Judgement::Again { hold: true, .. }),
            "a number past the frame is no number"
        );
    }

    #[test]
    fn a_queue_that_is_full_in_the_middle_keeps_what_went_in() {
        let body = r#"{"text":"Server is busy","code":9,"invalid-event-number":3,"ackId":1}"#;
        let judgement = read(503, body);
        assert!(
            matches!(judgement, Judgement::Partial { accepted: 3, ack_id: Some(AckId(1)), busy: true, .. }),
            "{judgement:?}"
        );
        let body = r#"{"text":"Server is busy","code":9,"invalid-event-number":3}"#;
        assert!(
            matches!(read(503, body), Judgement::Again { ambiguous: true, hold: false, .. }),
            "no id, no receipt"
        );
        let body = r#"{"text":"Server is busy","code":9,"invalid-event-number":0}"#;
        assert!(matches!(read(503, body), Judgement::Again { ambiguous: false, hold: false, .. }));
        let body = r#"{"text":"Invalid data format","code":6,"invalid-event-number":3}"#;
        assert!(matches!(read(400, body), Judgement::Partial { busy: false, .. }));
    }

    #[test]
    fn refusals_are_sorted_by_what_helps() {
        assert!(matches!(
            read(503, r#"{"text":"Server is busy","code":9}"#),
            Judgement::Again { ambiguous: false, hold: false, .. }
        ));
        assert!(matches!(
            read(500, r#"{"text":"Internal server error","code":8}"#),
            Judgement::Again { ambiguous: true, hold: false, .. }
        ));
        assert!(matches!(
            read(403, r#"{"text":"Invalid token","code":4}"#),
            Judgement::Again { ambiguous: false, hold: true, .. }
        ));
        assert!(matches!(read(404, "x"), Judgement::Again { ambiguous: false, hold: false, .. }));
        assert!(matches!(
            read(400, r#"{"text":"Data channel is missing","code":10}"#),
            Judgement::Again { new_channel: true, .. }
        ));
        assert!(matches!(read(303, "<html>"), Judgement::Again { hold: true, .. }));
        assert!(matches!(read(504, ""), Judgement::Again { ambiguous: true, .. }));
    }
}
