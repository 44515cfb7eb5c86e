//! Lists of what can happen to a shard's ledger, against a plain set of records.

use sls2siem::proto::ids::{Cursor, PullId};
use sls2siem::proto::ledger::{Ledger, Pulled, SafeCursor};
use sls2siem::proto::time::Instant;

use super::input::Input;

/// A record of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Record {
    InMemory,
    Lost,
    Acked,
}

/// A byte for what happens, then its numbers.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut ledger = Ledger::new();
    let mut model: Vec<Vec<Record>> = Vec::new();
    let mut offered = 0;
    let mut steps = 0;
    while !input.is_empty() && steps < 2_000 {
        steps += 1;
        match input.byte() % 8 {
            0 | 1 if model.len() < 200 => {
                let records = u32::from(input.byte()) % 40;
                let at = model.len();
                let pulled = Pulled {
                    from: cursor(at),
                    next: cursor(at + 1),
                    next_time: Some(at as u64 + 1),
                    records,
                    at: Instant(0),
                };
                assert_eq!(ledger.open(pulled), PullId(at as u64));
                model.push(vec![Record::InMemory; records as usize]);
            }
            2 | 3 => {
                let (pull, start, end) = range(&mut input);
                let mut newly = 0;
                for record in records(&mut model, pull, start, end) {
                    newly += u32::from(*record != Record::Acked);
                    *record = Record::Acked;
                }
                assert_eq!(ledger.ack(PullId(pull), start, end), newly);
            }
            4 => {
                let (pull, start, end) = range(&mut input);
                for record in records(&mut model, pull, start, end) {
                    if *record == Record::InMemory {
                        *record = Record::Lost;
                    }
                }
                ledger.lose(PullId(pull), start, end);
            }
            5 => resend(&mut ledger, &mut model),
            _ => {
                let prefix =
                    model.iter().take_while(|pull| pull.iter().all(|it| *it == Record::Acked)).count();
                let mut finished = offered;
                let safe = ledger.poll_safe(|pulled| {
                    assert_eq!(pulled.from, cursor(finished));
                    finished += 1;
                });
                let moved = SafeCursor { cursor: cursor(prefix), cursor_time: Some(prefix as u64) };
                assert_eq!(safe, (prefix > offered).then_some(moved));
                assert_eq!(finished, prefix);
                offered = prefix;
                assert_eq!(
                    ledger.oldest().map(|pulled| pulled.from.clone()),
                    (prefix < model.len()).then(|| cursor(prefix))
                );
            }
        }
        let open = model.iter().flatten().filter(|record| **record != Record::Acked).count();
        assert_eq!(ledger.open_records(), open as u64);
        assert_eq!(ledger.is_empty(), offered == model.len());
        let lost = model.iter().position(|pull| pull.contains(&Record::Lost));
        assert_eq!(ledger.first_lost(), lost.map(|at| PullId(at as u64)));
    }
}

fn resend(ledger: &mut Ledger, model: &mut [Vec<Record>]) {
    let Some(pull) = ledger.first_lost() else { return };
    let (pulled, wanted) = ledger.begin_resend(pull).unwrap();
    let at = usize::try_from(pull.0).unwrap();
    assert_eq!((pulled.from, pulled.records as usize), (cursor(at), model[at].len()));
    let mut missing = Vec::new();
    for (number, record) in (0..).zip(&mut model[at]) {
        if *record == Record::Lost {
            missing.push(number);
            *record = Record::InMemory;
        }
    }
    assert_eq!(wanted.iter().flat_map(|(start, end)| start..end).collect::<Vec<u32>>(), missing);
    assert_eq!(wanted.count() as usize, missing.len());
}

fn records(model: &mut [Vec<Record>], pull: u64, start: u32, end: u32) -> impl Iterator<Item = &mut Record> {
    let pull =
        usize::try_from(pull).ok().and_then(|pull| model.get_mut(pull)).map_or(&mut [][..], |pull| pull);
    let length = end.saturating_sub(start) as usize;
    pull.iter_mut().skip(start as usize).take(length)
}

/// Any pull, any range, also empty, turned round or past the end.
fn range(input: &mut Input<'_>) -> (u64, u32, u32) {
    let pull = match input.byte() {
        255 => u64::MAX,
        pull => u64::from(pull),
    };
    let number = |byte: u8| if byte == 255 { u32::MAX } else { u32::from(byte) };
    (pull, number(input.byte()), number(input.byte()))
}

fn cursor(at: usize) -> Cursor {
    Cursor::new(&format!("c{at}"))
}
