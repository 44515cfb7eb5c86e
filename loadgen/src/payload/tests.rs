use prost::Message as _;

use super::*;

const PROFILES: [Profile; 7] = [
    Profile::AccessLog,
    Profile::Audit,
    Profile::VpcFlow,
    Profile::Mixed,
    Profile::Tiny,
    Profile::Utf8,
    Profile::Nasty,
];

fn seq_of(log: &Log) -> Option<Seq> {
    let mut found = log.contents.iter().filter(|content| content.key == "seq");
    let seq = found.next().map(|content| Seq::parse(&content.value).expect("a seq field that reads"));
    assert!(found.next().is_none(), "one seq field only");
    seq
}

#[test]
fn a_group_depends_on_its_place_alone() {
    for profile in PROFILES {
        let payload = Payload::new(profile, 7);
        assert_eq!(payload.group(3, 5), payload.group(3, 5), "{profile:?}");
        assert_ne!(payload.group(3, 5).logs, payload.group(3, 6).logs, "{profile:?}");
        assert_ne!(payload.group(3, 5).logs, payload.group(4, 5).logs, "{profile:?}");
        let other = Payload::new(profile, 8).group(3, 5);
        assert_ne!(payload.group(3, 5), other, "{profile:?}");
    }
}

#[test]
fn every_log_can_be_identified() {
    for profile in PROFILES {
        let payload = Payload::new(profile, 1).with_logs_per_group(250);
        for index in 0..4 {
            let group = payload.group(9, index);
            assert_eq!(group.logs.len(), 250);
            for (offset, log) in group.logs.iter().enumerate() {
                let number = index * 250 + offset as u64;
                assert_eq!(payload.locate(number), (index, offset));
                let expected = Some(Seq { shard: 9, number });
                if payload.is_numbered(number) {
                    assert_eq!(seq_of(log), expected, "{profile:?}");
                } else {
                    assert!(log.contents.is_empty());
                    let nanos = log.time_ns.unwrap_or(0);
                    assert_eq!(payload.number_by_time(u64::from(log.time), nanos), expected);
                }
                assert_eq!(payload.number_by_time(u64::from(BASE_TIME), 95), None);
            }
        }
        let unnumbered = (0..1000).filter(|number| !payload.is_numbered(*number)).count();
        assert_eq!(payload.unnumbered_before(1000), unnumbered as u64, "{profile:?}");
    }
}

#[test]
fn ordinary_profiles_put_the_number_first() {
    for profile in PROFILES.into_iter().filter(|profile| *profile != Profile::Nasty) {
        let group = Payload::new(profile, 1).group(0, 0);
        assert!(group.logs.iter().all(|log| log.contents[0].key == "seq"), "{profile:?}");
    }
}

#[test]
fn access_log_has_the_size_and_the_ratio_of_the_real_thing() {
    let payload = Payload::new(Profile::AccessLog, 42);
    let list = LogGroupList { log_groups: (0..40).map(|index| payload.group(0, index)).collect() };
    let raw = list.encode_to_vec();
    let per_log = raw.len() / 4000;
    assert!((540..660).contains(&per_log), "{per_log} bytes a log");
    let fields = list.log_groups[0].logs[0].contents.len();
    assert!((11..=14).contains(&fields), "{fields} fields");
    let packed = lz4_flex::block::compress(&raw);
    let tenths = raw.len() * 10 / packed.len();
    assert!((40..70).contains(&tenths), "lz4 ratio times ten: {tenths}");
}

#[test]
fn audit_events_are_json_with_json_inside() {
    let group = Payload::new(Profile::Audit, 3).group(0, 0);
    assert_eq!(group.topic.as_deref(), Some(&b"actiontrail_audit_event"[..]));
    for log in &group.logs {
        let event: serde_json::Value =
            serde_json::from_slice(&log.contents[1].value).expect("an event of JSON");
        let inner = event["requestParameterJson"].as_str().expect("text");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(inner).expect("inner"),
            event["requestParameters"]
        );
    }
}

#[test]
fn nasty_holds_what_it_promises() {
    let payload = Payload::new(Profile::Nasty, 1);
    let groups: Vec<LogGroup> = (0..60).map(|index| payload.group(0, index)).collect();
    let contents = || groups.iter().flat_map(|group| &group.logs).flat_map(|log| &log.contents);
    let logs = || groups.iter().flat_map(|group| &group.logs);
    assert!(contents().any(|content| content.value.is_empty()));
    assert!(contents().any(|content| content.key.is_empty()));
    assert!(contents().any(|content| std::str::from_utf8(&content.value).is_err()));
    assert!(contents().any(|content| std::str::from_utf8(&content.key).is_err()));
    assert!(contents().any(|content| content.value.contains(&0)));
    assert!(contents().any(|content| content.value.len() == 1_000_000));
    for byte in 0..0x20_u8 {
        assert!(contents().any(|content| content.value.contains(&byte)), "control character {byte:#x}");
    }
    let invalid = |text: &bytes::Bytes| std::str::from_utf8(text).is_err();
    assert!(groups.iter().any(|group| group.topic.as_ref().is_some_and(invalid)));
    assert!(groups.iter().any(|group| group.source.as_ref().is_some_and(invalid)));
    assert!(groups.iter().any(|group| group.topic.is_none()));
    assert!(groups.iter().flat_map(|group| &group.log_tags).any(|tag| invalid(&tag.key)));
    assert!(groups.iter().flat_map(|group| &group.log_tags).any(|tag| invalid(&tag.value)));
    for nanos in [None, Some(0), Some(999_999_999)] {
        assert!(logs().any(|log| log.time_ns == nanos), "{nanos:?}");
    }
    let repeats = |log: &&Log| {
        log.contents
            .iter()
            .enumerate()
            .any(|(at, one)| log.contents[..at].iter().any(|other| other.key == one.key))
    };
    assert!(logs().any(|log| repeats(&log)));
    assert!(
        contents()
            .all(|content| content.key == "seq" || !content.value.windows(3).any(|word| word == b"seq"))
    );
}

#[test]
fn protobuf_round_trip() {
    for profile in PROFILES {
        let group = Payload::new(profile, 5).group(1, 2);
        let bytes = group.encode_to_vec();
        assert_eq!(LogGroup::decode(bytes.as_slice()).expect("own bytes"), group, "{profile:?}");
    }
}

#[test]
fn seq_reads_only_what_it_writes() {
    let seq = Seq { shard: 12, number: 345 };
    assert_eq!(Seq::parse(seq.to_string().as_bytes()), Some(seq));
    for bad in ["", "-", "1-", "-1", "1-2-3", "1 -2", "a-1", "1-b", "99999999999-1", "1-99999999999999999999"]
    {
        assert_eq!(Seq::parse(bad.as_bytes()), None, "{bad}");
    }
}
