//! Responses cut anywhere: the same heads, the same bodies, the same error; never more than the limits.

use sls2siem::proto::http1::{HttpError, Limits, Progress, ResponseParser};

use super::input::{Input, pieces};

/// One response, or the beginning of one.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    status: u16,
    keep_alive: bool,
    length: Option<u64>,
    headers: Vec<String>,
    body: Vec<u8>,
}

const NAMES: [&str; 6] =
    ["content-length", "transfer-encoding", "x-log-cursor", "set-cookie", "location", "date"];

/// Limits, a way to cut, then the bytes of a connection.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let limits = input.pick(&[
        Limits::default(),
        Limits { head_bytes_max: 300, body_bytes_max: 100 },
        Limits { head_bytes_max: 64, body_bytes_max: 8 },
    ]);
    let seed = input.u16();
    let bytes = input.rest();
    let whole = talk(limits, &[bytes]);
    for seed in [1, seed] {
        assert_eq!(talk(limits, &pieces(bytes, seed)), whole, "cut by {seed}");
    }
}

/// Reads responses until an error or the end, which closes the connection in order.
fn talk(limits: Limits, pieces: &[&[u8]]) -> (Vec<Answer>, Option<HttpError>) {
    let mut parser = ResponseParser::new(limits);
    let mut answers = Vec::new();
    let mut body = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        loop {
            let before = body.len();
            match parser.handle(rest, &mut body) {
                Ok((used, progress)) => {
                    assert!(used <= rest.len() && body.len() - before <= used);
                    assert!(body.len() as u64 <= limits.body_bytes_max, "{} bytes of body", body.len());
                    rest = &rest[used..];
                    match progress {
                        Progress::NeedMore => {
                            assert!(rest.is_empty());
                            break;
                        }
                        Progress::Head => assert!(parser.head().is_some() && body.is_empty()),
                        Progress::Done => {
                            assert_eq!(parser.handle(b"next", &mut body), Ok((0, Progress::Done)));
                            answers.push(answer(&parser, core::mem::take(&mut body)));
                            parser.reset();
                            assert!(parser.is_idle() && parser.head().is_none());
                        }
                    }
                }
                Err(error) => {
                    assert!(error.to_string().len() < 1_000);
                    for _ in 0..2 {
                        assert_eq!(parser.handle(b"HTTP/1.1 200 OK\r\n\r\n", &mut body), Err(error.clone()));
                        assert_eq!(parser.handle_eof(), Err(error.clone()));
                    }
                    answers.push(answer(&parser, Vec::new()));
                    return (answers, Some(error));
                }
            }
        }
    }
    let idle = parser.is_idle();
    match parser.handle_eof() {
        Ok(progress) => {
            assert_eq!(progress, Progress::Done);
            answers.push(answer(&parser, body));
            (answers, None)
        }
        Err(error) => {
            assert_eq!(idle, error == HttpError::ClosedIdle);
            (answers, Some(error))
        }
    }
}

fn answer(parser: &ResponseParser, body: Vec<u8>) -> Answer {
    let Some(head) = parser.head() else { return Answer { body, ..Answer::default() } };
    // Interim answers stay inside; 000 is a number of three digits too.
    assert!(head.status() < 1_000 && !(100..200).contains(&head.status()), "{}", head.status());
    let values =
        NAMES.iter().flat_map(|name| head.headers(name).map(move |value| format!("{name}: {value}")));
    let headers: Vec<String> = values.collect();
    assert!(headers.iter().all(|line| !line.contains(['\r', '\n', '\0'])), "{headers:?}");
    let length = head.content_length();
    Answer { status: head.status(), keep_alive: head.keep_alive(), length, headers, body }
}
