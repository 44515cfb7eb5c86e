use proptest::prelude::*;

use super::*;

fn cursor(n: usize) -> Cursor {
    Cursor::new(&format!("c{n}"))
}

fn pulled(n: usize, records: u32) -> Pulled {
    Pulled { from: cursor(n), next: cursor(n + 1), next_time: None, records, at: Instant(0) }
}

#[test]
fn acks_out_of_order_hold_the_cursor_at_the_first_gap() {
    let mut ledger = Ledger::new();
    let a = ledger.open(pulled(0, 10));
    let b = ledger.open(pulled(1, 5));
    assert_eq!(ledger.ack(b, 0, 5), 5);
    assert_eq!(ledger.poll_safe(|_| ()), None);
    assert_eq!(ledger.ack(a, 0, 4), 4);
    assert_eq!(ledger.ack(a, 6, 10), 4);
    assert_eq!(ledger.poll_safe(|_| ()), None);
    assert_eq!(ledger.ack(a, 3, 7), 2, "only the records that were open count");
    assert_eq!(ledger.poll_safe(|_| ()).map(|safe| safe.cursor), Some(cursor(2)));
    assert!(ledger.is_empty());
    assert_eq!(ledger.ack(a, 0, 10), 0, "an acknowledgement of a finished pull is old news");
}

#[test]
fn an_empty_pull_moves_the_cursor_when_its_turn_comes() {
    let mut ledger = Ledger::new();
    let a = ledger.open(pulled(0, 1));
    ledger.open(pulled(1, 0));
    assert_eq!(ledger.poll_safe(|_| ()), None);
    ledger.ack(a, 0, 1);
    assert_eq!(ledger.poll_safe(|_| ()).map(|safe| safe.cursor), Some(cursor(2)));
}

#[test]
fn lost_records_come_back_once_and_only_those_missing() {
    let mut ledger = Ledger::new();
    let a = ledger.open(pulled(0, 10));
    ledger.ack(a, 0, 5);
    ledger.lose(a, 3, 8);
    assert_eq!(ledger.first_lost(), Some(a));
    let (_, wanted) = ledger.begin_resend(a).unwrap();
    assert_eq!(wanted.iter().collect::<Vec<_>>(), [(5, 8)]);
    assert_eq!(ledger.first_lost(), None);
    ledger.ack(a, 5, 10);
    assert!(ledger.poll_safe(|_| ()).is_some());
}

/// What can happen to a ledger.
#[derive(Clone, Debug)]
enum Op {
    Open(u32),
    Ack(usize, u32, u32),
    Lose(usize, u32, u32),
    Resend,
    Poll,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0_u32..20).prop_map(Op::Open),
        (0_usize..12, 0_u32..20, 0_u32..20).prop_map(|(p, a, n)| Op::Ack(p, a, a + n)),
        (0_usize..12, 0_u32..20, 0_u32..20).prop_map(|(p, a, n)| Op::Lose(p, a, a + n)),
        Just(Op::Resend),
        Just(Op::Poll),
    ]
}

proptest! {
    /// Law: the ledger never offers a cursor past the first pull with an unacknowledged record, never one
    /// that moves back, and always the furthest one allowed. A plain set of records is the oracle.
    #[test]
    fn safe_cursor_is_the_acknowledged_prefix(ops in proptest::collection::vec(op(), 0..120)) {
        let mut ledger = Ledger::new();
        let mut model: Vec<Vec<bool>> = Vec::new();
        let mut offered = 0_usize;
        for op in ops {
            match op {
                Op::Open(records) => {
                    let id = ledger.open(pulled(model.len(), records));
                    prop_assert_eq!(id, PullId(model.len() as u64));
                    model.push(vec![false; records as usize]);
                }
                Op::Ack(pull, start, end) => {
                    let mut newly = 0;
                    if let Some(records) = model.get_mut(pull) {
                        for done in records.iter_mut().take(end as usize).skip(start as usize) {
                            newly += u32::from(!*done);
                            *done = true;
                        }
                    }
                    prop_assert_eq!(ledger.ack(PullId(pull as u64), start, end), newly);
                }
                Op::Lose(pull, start, end) => ledger.lose(PullId(pull as u64), start, end),
                Op::Resend => if let Some(pull) = ledger.first_lost() {
                    let (found, wanted) = ledger.begin_resend(pull).unwrap();
                    prop_assert_eq!(found.from, cursor(usize::try_from(pull.0).unwrap()));
                    for (start, end) in wanted.iter() {
                        for record in start..end {
                            prop_assert!(!model[usize::try_from(pull.0).unwrap()][record as usize]);
                        }
                    }
                },
                Op::Poll => {
                    let prefix = model.iter().take_while(|pull| pull.iter().all(|done| *done)).count();
                    let safe = ledger.poll_safe(|_| ());
                    if prefix > offered {
                        prop_assert_eq!(safe.map(|safe| safe.cursor), Some(cursor(prefix)));
                        offered = prefix;
                    } else {
                        prop_assert_eq!(safe, None);
                    }
                }
            }
            let open: usize = model.iter().flatten().filter(|done| !**done).count();
            prop_assert_eq!(ledger.open_records(), open as u64);
        }
    }

    /// Law: `Ranges` is a set of integers.
    #[test]
    fn ranges_are_sets(ops in proptest::collection::vec((any::<bool>(), 0_u32..60, 0_u32..20), 0..60)) {
        let mut ranges = Ranges::default();
        let mut model = std::collections::BTreeSet::new();
        for (insert, start, length) in ops {
            let end = start + length;
            if insert {
                ranges.insert(start, end);
                model.extend(start..end);
            } else {
                let before = model.len();
                model.retain(|n| *n < start || *n >= end);
                prop_assert_eq!(ranges.remove(start, end) as usize, before - model.len());
            }
            let flat: Vec<u32> = ranges.iter().flat_map(|(a, b)| a..b).collect();
            prop_assert_eq!(&flat, &model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(ranges.count() as usize, model.len());
            let part: Vec<u32> = ranges.intersect(10, 30).iter().flat_map(|(a, b)| a..b).collect();
            prop_assert_eq!(part, model.iter().copied().filter(|n| (10..30).contains(n)).collect::<Vec<_>>());
        }
        for pair in ranges.0.windows(2) {
            prop_assert!(pair[0].1 < pair[1].0, "neither touching nor overlapping");
        }
    }
}
