use super::*;

fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = value.len();
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap());
    out.extend(value);
    out
}

fn content(key: &str, value: &str) -> Vec<u8> {
    field(2, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat())
}

fn sample() -> Vec<u8> {
    let first = [
        vec![0x08, 0x80, 0xe2, 0xcf, 0xaa, 0x06],
        content("k", "v"),
        content("k", "w"),
        vec![0x25, 5, 0, 0, 0],
    ]
    .concat();
    let second = [content("only", &"x".repeat(200)), vec![0x08, 7]].concat();
    let tags = [field(1, b"tag"), field(2, b"tv")].concat();
    let group =
        [field(1, &first), field(1, &second), field(3, b"old"), field(3, b"topic"), field(6, &tags)].concat();
    let empty = field(4, b"src");
    let last = [field(4, b"src2"), field(1, &content("z", "9"))].concat();
    [field(1, &group), field(1, &empty), vec![0x78, 1], field(1, &last)].concat()
}

/// Everything a reader can see of a body; `Err` as soon as anything in it is broken.
fn walk(body: &[u8]) -> Result<usize, WireError> {
    let mut seen = 0;
    for group in LogGroups::new(body) {
        let group = group?;
        seen += group.topic.len() + group.source.len() + group.machine_uuid.len();
        for tag in group.tags() {
            seen += tag?.0.len();
        }
        for log in group.logs() {
            let log = log?;
            log.time()?;
            log.guess_time();
            for pair in log.contents() {
                seen += pair?.1.len();
            }
            for part in log.fields() {
                part?;
            }
        }
    }
    Ok(seen)
}

#[test]
fn reads_groups_logs_and_repeated_scalars() {
    let body = sample();
    assert_eq!(scan(&body), Ok(BodyShape { groups: 3, records: 3 }));
    let groups: Vec<_> = LogGroups::new(&body).collect::<Result<_, _>>().unwrap();
    assert_eq!((groups[0].topic, groups[0].source), (&b"topic"[..], &b""[..]));
    assert_eq!(groups[0].tags().collect::<Result<Vec<_>, _>>().unwrap(), [(&b"tag"[..], &b"tv"[..])]);
    assert_eq!(groups[1].tags().count() + groups[1].logs().count(), 0);
    let logs: Vec<_> = groups[0].logs().collect::<Result<_, _>>().unwrap();
    assert_eq!(logs[0].time(), Ok(LogTime { secs: 1_700_000_000, nanos: Some(5) }));
    assert_eq!(logs[0].guess_time(), LogTime { secs: 1_700_000_000, nanos: Some(5) });
    assert_eq!(logs[0].last(b"k"), Ok(Some(&b"w"[..])));
    assert_eq!(logs[0].last(b"none"), Ok(None));
    assert_eq!(logs[1].time(), Ok(LogTime { secs: 7, nanos: None }));
    assert_eq!(logs[1].contents().count(), 1);
}

#[test]
fn a_position_stops_and_goes_on_anywhere() {
    let body = sample();
    let mut all = Vec::new();
    let mut at = Position::default();
    while let Some(log) = at.seek(&body).unwrap() {
        assert_eq!(at.seek(&body).unwrap(), Some(log), "seek is idempotent");
        all.push((at.record_index, at.group_count, log));
        at.pass(log);
    }
    assert_eq!(all.iter().map(|one| (one.0, one.1)).collect::<Vec<_>>(), [(0, 1), (1, 1), (2, 3)]);
    assert_eq!(at.seek(&body), Ok(None));
    for skipped in 0..=4 {
        let mut at = Position::default();
        assert_eq!(at.skip(&body, skipped), Ok(skipped.min(3)));
        assert_eq!(at.seek(&body).unwrap(), all.get(skipped as usize).map(|one| one.2));
    }
    let mut at = Position::default();
    at.skip(&body, 2).unwrap();
    at.seek(&body).unwrap();
    assert_eq!(LogGroup::at(&body, &at).unwrap().source, b"src2");
}

#[test]
fn an_empty_body_has_no_groups() {
    assert_eq!(scan(&[]), Ok(BodyShape::default()));
    assert_eq!(LogGroups::new(&[]).count(), 0);
    assert_eq!(Position::default().seek(&[]), Ok(None));
}

#[test]
fn truncated_at_every_byte_never_panics() {
    let body = sample();
    assert!(walk(&body).is_ok());
    let mut refused = 0;
    for end in 0..body.len() {
        let cut = &body[..end];
        refused += usize::from(walk(cut).is_err());
        let mut at = Position::default();
        let positions = at.skip(cut, u32::MAX);
        assert_eq!(scan(cut).is_err(), positions.is_err(), "cut at {end}");
    }
    // Only the boundaries between top-level fields are whole bodies.
    assert_eq!(refused, body.len() - 4);
}

#[test]
fn every_flipped_byte_is_survived() {
    let body = sample();
    for index in 0..body.len() {
        for value in 0..=255 {
            let mut bad = body.clone();
            bad[index] = value;
            let _ = walk(&bad);
            let _ = scan(&bad);
            let mut at = Position::default();
            let _ = at.skip(&bad, u32::MAX);
        }
    }
}

#[test]
fn numbers_as_protobuf_reads_them() {
    let log = |bytes: &[u8]| Log::at(bytes, Span { start: 0, end: bytes.len() }).unwrap().time();
    let secs = |secs| Ok(LogTime { secs, nanos: None });
    assert_eq!(log(&[]), secs(0));
    assert_eq!(log(&[0x08, 0x80, 0x00]), secs(0), "padded zero");
    assert_eq!(log(&[0x08, 0xff, 0xff, 0xff, 0xff, 0x0f]), secs(u32::MAX));
    assert_eq!(log(&[0x08, 0x81, 0x80, 0x80, 0x80, 0x10]), secs(1), "2^32 + 1 keeps its low half");
    assert_eq!(log(&[0x08, 9, 0x08, 3]), secs(3), "the last one counts");
    assert_eq!(log(&[0x0a, 1, 9]), secs(0), "another wire type is another field");
    let full = [&[0x08][..], &[0xff; 9], &[1]].concat();
    assert_eq!(log(&full), secs(u32::MAX));
    let over = [&[0x08][..], &[0xff; 9], &[2]].concat();
    assert_eq!(log(&over), Err(WireError { offset: 1, what: Fault::LongVarint }));
    let eleven = [&[0x08][..], &[0x80; 10], &[0]].concat();
    assert_eq!(log(&eleven), Err(WireError { offset: 1, what: Fault::LongVarint }));
}

#[test]
fn refusals_name_cause_and_place() {
    let refuse = |bytes: &[u8]| scan(bytes).unwrap_err();
    let error = |offset, what| WireError { offset, what };
    assert_eq!(refuse(&[0x0a, 5, 1]), error(1, Fault::LengthPastEnd));
    assert_eq!(refuse(&[0x0a, 2, 0x0a, 1]), error(3, Fault::LengthPastEnd), "inside a group");
    assert_eq!(refuse(&[0x0b]), error(1, Fault::BadWireType), "start of a protobuf group");
    assert_eq!(refuse(&[0x0c]), error(1, Fault::BadWireType));
    assert_eq!(refuse(&[0x0f]), error(1, Fault::BadWireType));
    assert_eq!(refuse(&[0x02, 0]), error(0, Fault::BadField));
    assert_eq!(refuse(&[0xff, 0xff, 0xff, 0xff, 0x7f]), error(0, Fault::BadField));
    assert_eq!(refuse(&[0x0a]), error(1, Fault::Truncated));
    assert_eq!(refuse(&[0x7d, 1, 2, 3]), error(1, Fault::Truncated));
    let huge = [&[0x0a][..], &[0xff; 9], &[1]].concat();
    assert_eq!(refuse(&huge), error(1, Fault::LengthPastEnd), "a length of 2^64 - 1");
    assert_eq!(refuse(&[0x0a]).to_string(), "protobuf: value cut off by the end of its message at byte 1");
}

#[test]
fn tails_change_nothing_but_the_way() {
    let log = content("k", "v");
    let plain = [field(1, &field(1, &log)), field(3, b"topic"), field(4, b"source")].concat();
    let mixed = [field(4, b"early"), field(1, &log), field(3, b"between"), field(1, &log), field(4, b"late")]
        .concat();
    let many: Vec<u8> =
        (0..100_u8).flat_map(|n| field(1, &[field(1, &log), field(3, &[n])].concat())).collect();
    for body in [sample(), field(1, &plain), field(1, &mixed), many] {
        let mut tails = Tails::default();
        assert_eq!(survey(&body, &mut tails), scan(&body));
        assert_ne!(tails, Tails::default());
        let (mut slow, mut quick) = (Position::default(), Position::with(tails));
        while let Some(log) = slow.seek(&body).unwrap() {
            assert_eq!(quick.seek(&body).unwrap(), Some(log));
            let (slow_group, group) =
                (LogGroup::at(&body, &slow).unwrap(), LogGroup::at(&body, &quick).unwrap());
            assert_eq!((slow_group.topic, slow_group.source), (group.topic, group.source));
            assert!(slow_group.tags().eq(group.tags()));
            assert_eq!(slow_group.logs().count(), group.logs().count());
            slow.pass(log);
            quick.pass(log);
        }
    }
}
