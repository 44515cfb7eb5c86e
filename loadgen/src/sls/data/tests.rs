use prost::Message as _;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::payload::{Content, Log, LogGroup, LogGroupList};

/// Group number n of a shard under test: its only log says so.
fn group(n: u64, padding: usize) -> Vec<u8> {
    let field = |key: &'static str, value: String| Content { key: key.into(), value: value.into() };
    let contents = vec![field("n", n.to_string()), field("pad", "x".repeat(padding))];
    LogGroup { logs: vec![Log { time: 1, contents, time_ns: None }], ..LogGroup::default() }.encode_to_vec()
}

fn numbers(raw: &[u8]) -> Vec<u64> {
    let list = LogGroupList::decode(raw).unwrap();
    let number =
        |group: &LogGroup| String::from_utf8_lossy(&group.logs[0].contents[0].value).parse().unwrap();
    list.log_groups.iter().map(number).collect()
}

#[test]
fn every_range_holds_exactly_its_groups_in_every_encoding() {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let mut data = ShardData::default();
    for n in 0..1200 {
        let padding = rng.random_range(0..3000);
        data.append(&group(n, padding), 1, 5_000);
    }
    for round in 0..120 {
        let first = rng.random_range(0..1201);
        let count = *[1, 2, 250, 1000].get(rng.random_range(0..4)).unwrap();
        let end = if rng.random_bool(0.3) { rng.random_range(first..1300) } else { u64::MAX };
        let bytes_max = if rng.random_bool(0.3) { rng.random_range(1..400_000) } else { usize::MAX };
        let range = data.range(first, count, end, bytes_max);
        let limit = end.min(1200).min(first + count);
        let want: Vec<u64> = (first..range.next).collect();
        assert!(range.next <= limit.max(first));
        if bytes_max == usize::MAX {
            assert_eq!(range.next, limit.max(first), "round {round}");
        } else if first < limit {
            assert!(range.groups() == 1 || range.raw_bytes <= bytes_max, "round {round}");
            assert!(range.groups() >= 1);
        }
        assert_eq!(range.logs, range.groups());
        assert_eq!(range.raw().len(), range.raw_bytes);
        for codec in [Codec::None, Codec::Lz4, Codec::Zstd, Codec::Deflate] {
            let body = range.compose(codec).unwrap();
            if want.is_empty() {
                assert!(body.is_empty());
            } else {
                let raw = codec.decompress(&body, range.raw_bytes).unwrap();
                assert_eq!(numbers(&raw), want, "round {round} {codec:?}");
            }
        }
    }
}

#[test]
fn a_schedule_releases_bytes_over_time_and_never_takes_back() {
    let mut data = ShardData::default();
    data.append(&group(0, 10), 1, 1_000);
    data.set_schedule(10_000, 10_000);
    for n in 1..=100 {
        data.append(&group(n, 1000), 1, 10_000);
    }
    assert_eq!(data.visible(), 1);
    let mut before = 1;
    for ms in (10_000..22_000).step_by(250) {
        data.advance(ms);
        assert!(data.visible() >= before);
        before = data.visible();
        let bytes = data.range(1, 1000, u64::MAX, usize::MAX).raw_bytes as u64;
        assert!(bytes <= (ms - 10_000) * 10, "{bytes} at {ms}");
    }
    assert_eq!(data.visible(), 101);
    assert_eq!(data.received(0), Some(1));
    assert_eq!(data.received(101), None);
    let at = data.received(50).unwrap();
    assert!((14..=16).contains(&at), "{at}");
    assert_eq!(data.received(data.first_received_at(u64::from(at))), Some(at));
}

#[test]
fn expired_groups_are_gone_and_numbers_stay() {
    let mut data = ShardData::default();
    for n in 0..700 {
        data.append(&group(n, 100), 1, n * 1000);
    }
    data.expire_before(300);
    assert_eq!((data.oldest(), data.visible(), data.total()), (300, 700, 700));
    assert_eq!(numbers(&data.range(300, 3, u64::MAX, usize::MAX).raw()), [300, 301, 302]);
    data.expire_received_before(650);
    assert_eq!(data.oldest(), 650);
    assert_eq!(data.first_received_at(0), 650);
    assert_eq!(data.first_received_at(660), 660);
    assert_eq!(data.first_received_at(9999), 700);
    data.expire_before(u64::MAX);
    assert_eq!((data.oldest(), data.visible()), (700, 700));
    data.append(&group(700, 1), 1, 800_000);
    assert_eq!(numbers(&data.range(700, 3, u64::MAX, usize::MAX).raw()), [700]);
}

#[test]
fn a_segment_can_stand_in_many_places() {
    let mut segment = Segment::default();
    for n in 0..5 {
        segment.push(&group(n, 1), 1);
    }
    segment.compress();
    let segment = Arc::new(segment);
    let mut data = ShardData::default();
    data.append(&group(9, 1), 1, 0);
    for _ in 0..3 {
        data.append_segment(Arc::clone(&segment), 0);
    }
    let range = data.range(0, 1000, u64::MAX, usize::MAX);
    let raw = Codec::Lz4.decompress(&range.compose(Codec::Lz4).unwrap(), range.raw_bytes).unwrap();
    assert_eq!(numbers(&raw), [9, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
}

#[test]
fn a_reader_that_goes_on_is_given_whole_segments() {
    let mut data = ShardData::default();
    for n in 0..2000 {
        data.append(&group(n, 2000), 1, 0);
    }
    data.seal();
    let (mut next, mut pulls) = (0, 0);
    while next < data.total() {
        let range = data.range(next, 1000, u64::MAX, 1 << 20);
        assert!(range.parts.iter().all(Part::is_whole) && range.raw_bytes <= 1 << 20);
        (next, pulls) = (range.next, pulls + 1);
    }
    assert!(pulls <= 8, "{pulls}");
}
