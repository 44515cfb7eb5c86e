use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { head_bytes_max: 1024, body_bytes_max: 4096 };

/// What a parser made of a stream of bytes.
#[derive(Debug, PartialEq)]
struct Seen {
    status: u16,
    headers: Vec<String>,
    keep_alive: bool,
    length: Option<u64>,
    body: Vec<u8>,
}

fn see(parser: &ResponseParser, body: &[u8]) -> Seen {
    let head = parser.head().unwrap();
    Seen {
        status: head.status(),
        headers: head.headers("x").map(str::to_owned).collect(),
        keep_alive: head.keep_alive(),
        length: head.content_length(),
        body: body.to_vec(),
    }
}

/// Feeds `pieces` and collects every response; the connection ends in order after the last one.
fn run(limits: Limits, pieces: &[&[u8]]) -> (Vec<Seen>, Result<(), HttpError>) {
    let mut parser = ResponseParser::new(limits);
    let (mut seen, mut body) = (Vec::new(), Vec::new());
    for piece in pieces {
        let mut rest = *piece;
        loop {
            match parser.handle(rest, &mut body) {
                Err(error) => {
                    assert_eq!(parser.handle(b"more", &mut body), Err(error.clone()), "errors stay");
                    return (seen, Err(error));
                }
                Ok((consumed, progress)) => {
                    rest = &rest[consumed..];
                    match progress {
                        Progress::NeedMore => {
                            assert!(rest.is_empty());
                            break;
                        }
                        Progress::Head => assert!(body.is_empty()),
                        Progress::Done => {
                            seen.push(see(&parser, &body));
                            body.clear();
                            parser.reset();
                            if rest.is_empty() {
                                break;
                            }
                        }
                    }
                }
            }
        }
    }
    let idle = parser.is_idle();
    let end = match parser.handle_eof() {
        Ok(progress) => {
            assert_eq!(progress, Progress::Done);
            seen.push(see(&parser, &body));
            Ok(())
        }
        Err(HttpError::ClosedIdle) => {
            assert!(idle);
            Ok(())
        }
        Err(error) => {
            assert!(!idle);
            Err(error)
        }
    };
    (seen, end)
}

/// The law of every test: whole, cut at any byte, and byte by byte give the same.
fn run_everywhere(input: &[u8]) -> (Vec<Seen>, Result<(), HttpError>) {
    let whole = run(LIMITS, &[input]);
    for at in 0..=input.len() {
        let (left, right) = input.split_at(at);
        assert_eq!(run(LIMITS, &[left, right]), whole, "cut at {at}");
    }
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(run(LIMITS, &bytes), whole, "byte by byte");
    whole
}

fn one(input: &[u8]) -> Seen {
    let (mut seen, end) = run_everywhere(input);
    assert_eq!(end, Ok(()));
    assert_eq!(seen.len(), 1, "{seen:?}");
    seen.remove(0)
}

fn refused(input: &[u8]) -> HttpError {
    run_everywhere(input).1.unwrap_err()
}

#[test]
fn a_body_with_a_length() {
    let seen = one(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: a\r\nx:  b \r\n\r\nhello");
    assert_eq!(seen.status, 200);
    assert_eq!(seen.headers, ["a", "b"]);
    assert_eq!(seen.body, b"hello");
    assert_eq!(seen.length, Some(5));
    assert!(seen.keep_alive);
}

#[test]
fn pipelined_responses_keep_their_bytes() {
    let (seen, end) = run_everywhere(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n\
          3;x=\"y\"\r\nxyz\r\n00\r\nTrailer: t\r\n\r\nHTTP/1.1 204 No\r\nContent-Length: 7\r\n\r\n\
          HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    );
    assert_eq!(end, Ok(()));
    let short: Vec<_> = seen.iter().map(|seen| (seen.status, seen.body.as_slice())).collect();
    assert_eq!(short, [(200, &b"ab"[..]), (503, b"xyz"), (204, b""), (200, b"")]);
    assert!(seen.iter().all(|seen| seen.keep_alive));
}

#[test]
fn the_head_is_told_before_any_body_byte() {
    let mut parser = ResponseParser::new(LIMITS);
    let mut body = Vec::new();
    let input = b"HTTP/1.1 200 OK\r\nx-log-cursor: abc\r\nContent-Length: 2\r\n\r\nhiHTTP";
    let head_bytes = input.len() - 6;
    assert!(parser.is_idle());
    assert!(parser.head().is_none());
    assert_eq!(parser.handle(input, &mut body), Ok((head_bytes, Progress::Head)));
    assert!(!parser.is_idle());
    assert_eq!(parser.head().unwrap().header("X-Log-Cursor"), Some("abc"));
    assert_eq!(parser.head().unwrap().header("x-log"), None);
    assert_eq!(parser.handle(&input[head_bytes..], &mut body), Ok((2, Progress::Done)));
    assert_eq!(parser.handle(b"HTTP", &mut body), Ok((0, Progress::Done)));
    assert_eq!(body, b"hi");
    parser.reset();
    assert!(parser.is_idle() && parser.head().is_none());
}

#[test]
fn a_response_without_a_body_is_done_by_an_empty_call() {
    let mut parser = ResponseParser::new(LIMITS);
    let mut body = Vec::new();
    let input = b"HTTP/1.1 304 Not Modified\r\n\r\n";
    assert_eq!(parser.handle(input, &mut body), Ok((input.len(), Progress::Head)));
    assert_eq!(parser.handle(b"", &mut body), Ok((0, Progress::Done)));
}

#[test]
fn equal_lengths_are_one_and_different_ones_none() {
    assert_eq!(one(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2, 2\r\n\r\nab").body, b"ab");
    for bad in ["2\r\nContent-Length: 3", "2, 3", "+2", "-1", "", "0x2", "2 2", "99999999999999999999999"] {
        let input = format!("HTTP/1.1 200 OK\r\nContent-Length: {bad}\r\n\r\nab");
        assert!(matches!(refused(input.as_bytes()), HttpError::ContentLength { .. }), "{bad:?}");
    }
    let both = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(refused(both), HttpError::LengthAndChunked);
    for bad in ["gzip", "gzip, chunked", "chunked\r\nTransfer-Encoding: chunked", "identity"] {
        let input = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {bad}\r\n\r\n0\r\n\r\n");
        assert!(matches!(refused(input.as_bytes()), HttpError::TransferEncoding { .. }), "{bad:?}");
    }
}

#[test]
fn a_body_up_to_the_end_of_the_connection() {
    let seen = one(b"HTTP/1.1 200 OK\r\nX: 1\r\n\r\nall of it");
    assert_eq!(seen.body, b"all of it");
    assert_eq!(seen.length, None);
    assert!(!seen.keep_alive);
    let (seen, end) = run(LIMITS, &[b"HTTP/1.1 200 OK\r\n\r\n", &[b'a'; 4096], b"b"]);
    assert!(seen.is_empty());
    assert_eq!(end, Err(HttpError::BodyTooLarge { limit_bytes: 4096 }));
}

#[test]
fn keep_alive_needs_version_1_1_and_no_close() {
    let keeps = |start: &str| one(format!("{start}\r\nContent-Length: 1\r\n\r\na").as_bytes()).keep_alive;
    assert!(keeps("HTTP/1.1 200 OK"));
    assert!(keeps("HTTP/1.1 200 OK\r\nConnection: Keep-Alive"));
    assert!(!keeps("HTTP/1.1 200 OK\r\nConnection: x, Close"));
    assert!(!keeps("HTTP/1.1 200 OK\r\nConnection: x\r\nconnection: close"));
    assert!(!keeps("HTTP/1.0 200 OK"));
    assert!(!keeps("HTTP/1.0 200 OK\r\nConnection: keep-alive"));
}

#[test]
fn interim_answers_are_skipped_but_not_for_ever() {
    let seen = one(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nX: no\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((seen.status, seen.headers.len()), (200, 0));
    assert_eq!(refused(&b"HTTP/1.1 100 Continue\r\n\r\n".repeat(9)), HttpError::TooManyInterim);
    assert_eq!(refused(b"HTTP/1.1 101 Switching\r\n\r\n"), HttpError::Upgraded);
}

#[test]
fn empty_lines_before_an_answer_are_few() {
    assert_eq!(one(b"\r\n\nHTTP/1.1 204 No\r\n\r\n").status, 204);
    assert!(matches!(refused(b"\r\n\r\n\r\n\r\n\r\n"), HttpError::NotHttp { .. }));
}

#[test]
fn bare_line_feeds_and_no_reason_are_read() {
    assert_eq!(one(b"HTTP/1.1 200\nContent-Length: 1\n\na").body, b"a");
    assert_eq!(one(b"HTTP/1.1 200 OK\nTransfer-Encoding: Chunked\n\n1\na\n0\n\n").body, b"a");
}

#[test]
fn another_protocol_is_named() {
    let alert = refused(&[0x15, 3, 1, 0, 2, 2, 40]);
    assert_eq!(
        alert.to_string(),
        "the peer speaks TLS (is the URL http:// where it should be https://?), not HTTP: first bytes 15 03 01 00 02 02 28"
    );
    assert_eq!(
        refused(b"220 mail ready\r\n").to_string(),
        "the peer speaks TLS or something else, not HTTP: first bytes 32 32 30 20 6d 61 69 (\"220 mai\")"
    );
    assert!(refused(b"SSH-2.0-x\r\n").to_string().contains("speaks SSH"));
    assert!(matches!(refused(b"HTTP/2.0 200 OK\r\n\r\n"), HttpError::Version { .. }));
    assert!(matches!(refused(b"HTTP/1.2 200 OK\r\n\r\n"), HttpError::Malformed(_)));
    assert!(matches!(refused(b"no\r\n"), HttpError::NotHttp { .. }));
    assert!(matches!(refused(b"no"), HttpError::NotHttp { .. }), "at the end of the connection");
}

#[test]
fn malformed_heads_are_refused() {
    for bad in [
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nNo colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nName : v\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: v\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
    ] {
        assert!(matches!(refused(bad.as_bytes()), HttpError::Malformed(_)), "{bad:?}");
    }
}

#[test]
fn heads_are_bounded_in_bytes_and_in_headers() {
    let head = |count: usize| {
        let mut text = String::from("HTTP/1.1 200 OK\r\n");
        (0..count).for_each(|_| text.push_str("a:b\r\n"));
        text + "Content-Length: 0\r\n\r\n"
    };
    assert_eq!(one(head(HEADERS_MAX - 1).as_bytes()).status, 200);
    assert_eq!(refused(head(HEADERS_MAX).as_bytes()), HttpError::TooManyHeaders);
    let endless = b"HTTP/1.1 200 OK\r\nX: ".iter().copied().chain(std::iter::repeat_n(b'x', 2000));
    assert_eq!(refused(&endless.collect::<Vec<_>>()), HttpError::HeadTooLarge { limit_bytes: 1024 });
}

#[test]
fn a_body_over_the_limit_is_refused_at_the_head_and_keeps_it() {
    let mut parser = ResponseParser::new(LIMITS);
    let mut body = Vec::new();
    let result = parser.handle(b"HTTP/1.1 413 Big\r\nContent-Length: 4097\r\n\r\nabc", &mut body);
    assert_eq!(result, Err(HttpError::BodyTooLarge { limit_bytes: 4096 }));
    assert_eq!(parser.head().unwrap().status(), 413);
    assert!(body.is_empty());
    assert_eq!(
        one(&[b"HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n", &[b'a'; 4096][..]].concat()).body.len(),
        4096
    );
}

#[test]
fn values_that_are_not_utf8_become_readable() {
    let seen = one(b"HTTP/1.1 200 \xe9t\xe9\r\nX: a\xffb\r\nX: \xe4\xb8\xad\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(seen.headers, ["a?b", "\u{4e2d}"]);
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn chunked_bodies_are_read_and_bounded() {
    let read = |body: &str| one(format!("{CHUNKED}{body}").as_bytes()).body;
    assert_eq!(read("A\r\n0123456789\r\n1;e;f=\"g\"\r\n!\r\n0\r\n\r\n"), b"0123456789!");
    assert_eq!(read("2 \t\r\nab\r\n0;last\r\nA: b\r\nC: d\r\n\r\n"), b"ab");
    assert_eq!(read("0000000000000001\r\na\r\n0\r\n\r\n"), b"a");
    let refuse = |body: &str| refused(format!("{CHUNKED}{body}").as_bytes());
    for bad in [
        "\r\n",
        "x\r\n",
        ";a\r\n",
        "-1\r\n",
        "1\r\nab\r\n",
        "1x\r\na\r\n",
        "1\rz",
        "1;a\rz",
        "1\r\na\rz",
        "0\r\nA: b\rz",
    ] {
        assert!(matches!(refuse(bad), HttpError::Chunk(_)), "{bad:?}: {:?}", refuse(bad));
    }
    for large in ["1001\r\n", "FFFFFFFFFFFFFFFF\r\n", "00000000000000001\r\n", "1\r\na\r\n1000\r\n"] {
        assert_eq!(refuse(large), HttpError::BodyTooLarge { limit_bytes: 4096 }, "{large:?}");
    }
    for endless in ["1;".to_owned() + &"e".repeat(1100), "0\r\n".to_owned() + &"A: b\r\n".repeat(300)] {
        assert_eq!(refuse(&endless), HttpError::HeadTooLarge { limit_bytes: 1024 });
    }
}

#[test]
fn truncated_at_every_byte() {
    for input in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a\r\nabc\r\n0\r\nA: b\r\n\r\n",
    ] {
        for end in 1..input.len() {
            let (seen, result) = run(LIMITS, &[&input[..end]]);
            assert!(seen.is_empty());
            assert!(matches!(result, Err(HttpError::Truncated { .. })), "cut at {end}: {result:?}");
        }
        assert_eq!(run(LIMITS, &[b""]), (vec![], Ok(())));
    }
    let error = run(LIMITS, &[b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"]).1.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the peer closed the connection inside the body of its answer, 2 bytes before its end"
    );
}

#[test]
fn heads_of_requests() {
    let mut out = b"before".to_vec();
    let headers = [("Host", "p.example.com"), ("Accept-Encoding", ""), ("X-Utf8", "\u{4e2d}\t1")];
    write_request_head(&mut out, "POST", "/a?b=%20", headers.into_iter(), Some(12)).unwrap();
    assert_eq!(
        str::from_utf8(&out).unwrap(),
        "beforePOST /a?b=%20 HTTP/1.1\r\nHost: p.example.com\r\nAccept-Encoding: \r\nX-Utf8: \u{4e2d}\t1\r\n\
         Content-Length: 12\r\n\r\n"
    );
    let before = out.clone();
    for (name, value) in [
        ("A", "b\r\nC: d"),
        ("A", "b\n"),
        ("A", "\0"),
        ("A", "\x7f"),
        ("A\r\nB", "c"),
        ("", "c"),
        ("A:", "c"),
        ("A b", "c"),
    ] {
        let error = write_request_head(&mut out, "GET", "/", [(name, value)].into_iter(), None).unwrap_err();
        assert!(matches!(error, HttpError::RequestHeader { .. }), "{name:?} {value:?}");
    }
    for (method, target) in
        [("GET", "/a b"), ("GET", ""), ("GET", "/a\r\n"), ("GET", "/\u{e9}"), ("G T", "/"), ("", "/")]
    {
        let error = write_request_head(&mut out, method, target, [].into_iter(), None).unwrap_err();
        assert_eq!(error, HttpError::RequestLine);
    }
    assert_eq!(out, before, "a refused head leaves nothing behind");
}

proptest! {
    /// Any bytes, cut anywhere: no panic, and the cut does not matter.
    #[test]
    fn any_bytes(input: Vec<u8>, at: prop::sample::Index) {
        let cut = at.index(input.len() + 1);
        prop_assert_eq!(run(LIMITS, &[&input[..cut], &input[cut..]]), run(LIMITS, &[&input]));
    }

    /// The same for bytes that look like a response with something changed.
    #[test]
    fn any_change(at in 0usize..130, byte: u8, cut in 0usize..130) {
        let mut input = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX: y\r\n\r\nabcHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;e\r\nabc\r\n0\r\nA: b\r\n\r\n".to_vec();
        if let Some(place) = input.get_mut(at) {
            *place = byte;
        }
        let cut = cut.min(input.len());
        prop_assert_eq!(run(LIMITS, &[&input[..cut], &input[cut..]]), run(LIMITS, &[&input]));
    }

    /// Parsing what a chunking writer wrote gives the chunks joined.
    #[test]
    fn chunks_join(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 0..10), cuts in 1usize..50) {
        let mut wire = CHUNKED.as_bytes().to_vec();
        for chunk in &chunks {
            wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"0\r\n\r\n");
        let pieces: Vec<&[u8]> = wire.chunks(cuts).collect();
        let (seen, end) = run(LIMITS, &pieces);
        prop_assert_eq!(end, Ok(()));
        prop_assert_eq!(&seen[0].body, &chunks.concat());
    }
}
