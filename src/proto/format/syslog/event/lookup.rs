//! One walk over a log that finds every field which a mapping names, and keeps the others.
//!
//! Why: a mapping of twenty keys that looked for each field on its own would walk a log twenty times, and its JSON.
//! Invariants: 1. the last one of a repeated field counts; a field counts before a member of JSON with its name.
//! 2. what is found is remembered as places in the body: nothing is copied, nothing borrowed.
//! Bounds: the layout of the last log is kept: [`COLUMNS_MAX`] fields with keys of at most [`KEY_BYTES_MAX`] bytes;
//! for further ones every name is compared.
//! Driven by: `event`: [`Lookup::slot`] for each name, [`Lookup::settle`], then [`Lookup::read`] for each log.
//! Spec: names as in `template` and `nested`.

use super::super::super::nested::{self, Path, Value};
use super::keys::push_key;
use crate::proto::sls::wire::{LogField, LogFields, LogTime, Span, WireError};

/// Number of a name.
pub(super) type Slot = usize;

/// Names, and where the last log has them.
#[derive(Clone, Debug, Default)]
pub(super) struct Lookup {
    names: Vec<Vec<u8>>,
    found: Vec<Found>,
    /// For each name: a key of the extension tells it.
    told: Vec<bool>,
    /// Keys of the extension.
    taken: Vec<Vec<u8>>,
    /// A field of JSON that counts as named by its members.
    unfolded: Option<&'static [u8]>,
    keep_rest: bool,
    columns: Vec<Column>,
    rest: Vec<Left>,
    /// Keys of fields that are not in `columns`.
    keys: Vec<u8>,
}

/// Where a value stands in the body.
#[derive(Clone, Copy, Debug, Default)]
enum Found {
    #[default]
    Nowhere,
    Field(Span),
    Member(Span, bool),
}

/// What is known of the field at one place of a log.
#[derive(Clone, Debug, Default)]
struct Column {
    name: Vec<u8>,
    slot: Option<Slot>,
    /// Names begin with this one and a dot.
    is_base: bool,
    key: Vec<u8>,
}

impl Column {
    /// False for a place that only stands between others: no key is empty.
    fn is_learnt(&self) -> bool {
        !self.key.is_empty()
    }
}

/// A field that no name wants.
#[derive(Clone, Copy, Debug)]
struct Left {
    key: Key,
    value: Span,
}

#[derive(Clone, Copy, Debug)]
enum Key {
    OfColumn(usize),
    /// A place in `keys`.
    At(usize, usize),
}

const COLUMNS_MAX: usize = 512;
const KEY_BYTES_MAX: usize = 128;

impl Lookup {
    /// The number of `name`.
    pub(super) fn slot(&mut self, name: &str) -> Slot {
        let known = self.names.iter().position(|other| other == name.as_bytes());
        known.unwrap_or_else(|| {
            self.names.push(name.as_bytes().to_vec());
            self.names.len() - 1
        })
    }

    /// All names are known: `keys` and `reserved` are keys that a field's own name must not take, `told` the
    /// names that they stand for.
    pub(super) fn settle(
        &mut self,
        keys: &[&str],
        reserved: &[&str],
        told: &[Slot],
        unfolded: Option<&'static [u8]>,
        keep_rest: bool,
    ) {
        self.taken = keys.iter().chain(reserved).map(|key| key.as_bytes().to_vec()).collect();
        self.found = vec![Found::Nowhere; self.names.len()];
        self.told = (0..self.names.len()).map(|slot| told.contains(&slot)).collect();
        self.unfolded = unfolded;
        self.keep_rest = keep_rest;
    }

    /// Finds everything in the log at `span`; says when it was.
    pub(super) fn read(&mut self, body: &[u8], span: Span) -> Result<LogTime, WireError> {
        let mut time = LogTime::default();
        self.found.fill(Found::Nowhere);
        self.rest.clear();
        self.keys.clear();
        let mut number = 0;
        for field in LogFields::within(body, span)? {
            match field? {
                LogField::Secs(secs) => time.secs = secs,
                LogField::Nanos(nanos) => time.nanos = Some(nanos),
                LogField::Content(name, value) => {
                    self.content(body, number, name, value);
                    number += 1;
                }
            }
        }
        Ok(time)
    }

    fn content(&mut self, body: &[u8], number: usize, name: &[u8], value: &[u8]) {
        let known = number < COLUMNS_MAX && name.len() <= KEY_BYTES_MAX;
        let (slot, is_base) = match self.columns.get(number) {
            Some(column) if known && column.is_learnt() && column.name == name => {
                (column.slot, column.is_base)
            }
            _ if known => self.learn(number, name),
            _ => self.judge(name),
        };
        let place = span_in(body, value);
        if let Some(found) = slot.and_then(|slot| self.found.get_mut(slot)) {
            *found = Found::Field(place);
        }
        let unfolds = is_base && nested::is_object(value);
        if unfolds {
            self.members(body, name, value);
        }
        let told = slot.is_some_and(|slot| self.told.get(slot) == Some(&true));
        if self.keep_rest && !told && !(unfolds && self.unfolded == Some(name)) {
            let key = if known {
                Key::OfColumn(number)
            } else {
                let begin = self.keys.len();
                push_own_key(&self.taken, name, number, &mut self.keys);
                Key::At(begin, self.keys.len())
            };
            self.rest.push(Left { key, value: place });
        }
    }

    fn members(&mut self, body: &[u8], name: &[u8], value: &[u8]) {
        let (names, found) = (&self.names, &mut self.found);
        nested::walk(value, &mut Path::new(name), &mut |path, member| {
            let mut enter = false;
            for (name, found) in names.iter().zip(found.iter_mut()) {
                enter |= nested::is_below(path, name);
                if name == path && !matches!(found, Found::Field(_)) {
                    *found = Found::Member(span_in(body, member.text()), matches!(member, Value::String(_)));
                }
            }
            enter
        });
    }

    /// The slot of a field and whether names begin with it.
    fn judge(&self, name: &[u8]) -> (Option<Slot>, bool) {
        let slot = self.names.iter().position(|other| other == name);
        (slot, self.names.iter().any(|other| nested::is_below(name, other)))
    }

    fn learn(&mut self, number: usize, name: &[u8]) -> (Option<Slot>, bool) {
        let (slot, is_base) = self.judge(name);
        while self.columns.len() <= number {
            self.columns.push(Column::default());
        }
        if let Some(column) = self.columns.get_mut(number) {
            column.name.clear();
            column.name.extend_from_slice(name);
            column.key.clear();
            push_own_key(&self.taken, name, number, &mut column.key);
            (column.slot, column.is_base) = (slot, is_base);
        }
        (slot, is_base)
    }

    /// Appends the text of a name; nothing where the log has it not.
    pub(super) fn append(&self, slot: Slot, body: &[u8], out: &mut Vec<u8>) {
        let bytes = |span: Span| body.get(span.start..span.end).unwrap_or(&[]);
        match self.found.get(slot).copied().unwrap_or_default() {
            Found::Nowhere => {}
            Found::Field(span) | Found::Member(span, false) => out.extend_from_slice(bytes(span)),
            Found::Member(span, true) => Value::String(bytes(span)).append(out),
        }
    }

    /// Key and value of each field that no name wanted.
    pub(super) fn rest<'a>(&'a self, body: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.rest.iter().map(|left| {
            let key = match left.key {
                Key::OfColumn(number) => self.columns.get(number).map(|column| column.key.as_slice()),
                Key::At(begin, end) => self.keys.get(begin..end),
            };
            (key.unwrap_or(b"field"), body.get(left.value.start..left.value.end).unwrap_or(&[]))
        })
    }
}

/// Appends the key for a field of this name: not one of `taken`.
fn push_own_key(taken: &[Vec<u8>], name: &[u8], number: usize, out: &mut Vec<u8>) {
    let begin = out.len();
    push_key(name, number, out);
    if taken.iter().any(|key| out.get(begin..) == Some(key.as_slice())) {
        // `src` of the log is not `src` of the mapping.
        out.truncate(begin);
        out.extend_from_slice(b"sls");
        push_key(name, number, out);
        if let Some(first) = out.get_mut(begin + 3) {
            first.make_ascii_uppercase();
        }
    }
}

/// Where `part`, a slice of `body`, lies in it.
fn span_in(body: &[u8], part: &[u8]) -> Span {
    let start = part.as_ptr().addr().saturating_sub(body.as_ptr().addr());
    Span { start, end: start + part.len() }
}
