//! Log groups with numbered records, encoded by hand.

fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
}

/// A `LogGroup` of `count` records from number `first` on.
pub fn group(shard: u32, first: u64, count: u64, padding: usize) -> Vec<u8> {
    let mut group = Vec::new();
    for number in first..first + count {
        let mut pair = Vec::new();
        field(&mut pair, 1, b"seq");
        field(&mut pair, 2, format!("{shard}-{number}").as_bytes());
        let mut log = vec![0x08];
        varint(&mut log, 1_700_000_000 + usize::try_from(number).unwrap());
        field(&mut log, 2, &pair);
        let mut pair = Vec::new();
        field(&mut pair, 1, b"text");
        field(&mut pair, 2, "x\"\n".repeat(padding).as_bytes());
        field(&mut log, 2, &pair);
        field(&mut group, 1, &log);
    }
    field(&mut group, 3, b"topic");
    group
}

/// A `LogGroupList`.
pub fn list<'a>(groups: impl Iterator<Item = &'a Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::new();
    for group in groups {
        field(&mut out, 1, group);
    }
    out
}

/// Shard and number of each line of a HEC body, in order.
pub fn numbers(body: &[u8]) -> Vec<(u32, u64)> {
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let value: serde_json::Value =
                serde_json::from_slice(line).expect("each line is one JSON object");
            let seq = value["event"]["seq"].as_str().expect("a record has its number").to_owned();
            let (shard, number) = seq.split_once('-').unwrap();
            (shard.parse().unwrap(), number.parse().unwrap())
        })
        .collect()
}
