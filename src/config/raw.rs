//! Settings before they are checked: values with the place they came from, merged layer over layer.
//!
//! Why: serde stops at the first wrong type and forgets where a value stood; here every key is walked, every
//! mistake is kept, and each value remembers its file line or variable to the end.
//! Invariants: 1. a slot holds the value of the highest layer. 2. of `KEY` and `KEY_file` only one is held, the
//! one of the higher layer; both in one layer is a mistake.
//! Bounds: nesting of TOML is bounded by its parser (80).
//! Driven by: `config::load`: defaults, file, environment, flags, in this order.   Spec: TOML 1.0.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::mistake::{Mistake, MistakeKind, Origin};
use super::schema::{self, Key, Kind};
use super::value::allowed;

/// A value as given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Raw {
    Text(String),
    Integer(i64),
    Flag(bool),
    List(Vec<Self>),
    Table(Vec<(String, Self)>),
    /// Something that no key takes, such as a float: its text.
    Other(String),
}

impl Raw {
    /// True where the value stands for "not set".
    pub(crate) fn is_unset(&self) -> bool {
        match self {
            Self::Text(text) => text.trim().is_empty(),
            Self::List(items) => items.iter().all(Self::is_unset),
            Self::Table(entries) => entries.is_empty(),
            _ => false,
        }
    }

    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Integer(_) => "a whole number",
            Self::Flag(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(_) => "a number with a fraction",
        }
    }
}

/// As TOML.
impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::Integer(number) => number.fmt(f),
            Self::Flag(flag) => flag.fmt(f),
            Self::Other(text) => f.write_str(text),
            Self::List(items) => {
                f.write_str("[")?;
                for (at, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if at == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Self::Table(entries) if entries.is_empty() => f.write_str("{}"),
            Self::Table(entries) => {
                f.write_str("{")?;
                for (at, (name, value)) in entries.iter().enumerate() {
                    write!(f, "{}{} = {value}", if at == 0 { " " } else { ", " }, quoted(name))?;
                }
                f.write_str(" }")
            }
        }
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) raw: Raw,
    pub(crate) origin: Origin,
}

/// Name of one value: pipeline (none: top level), table, key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot {
    pub(crate) pipeline: Option<String>,
    pub(crate) table: &'static str,
    pub(crate) key: &'static str,
}

impl Slot {
    pub(crate) fn new(pipeline: Option<&str>, key: &Key) -> Self {
        Self { pipeline: pipeline.map(str::to_owned), table: key.table, key: key.name }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.pipeline {
            write!(f, "pipeline.{name}.")?;
        }
        write!(f, "{}.{}", self.table, self.key)
    }
}

/// Everything that was given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    slots: BTreeMap<Slot, Setting>,
    /// Tables that were written by the user, even empty ones.
    tables: BTreeSet<(Option<String>, &'static str)>,
    pipelines: BTreeSet<String>,
    pub(crate) mistakes: Vec<Mistake>,
}

impl Settings {
    /// Puts a value in, by the rules of layers.
    pub(crate) fn insert(&mut self, pipeline: Option<&str>, key: &'static Key, raw: Raw, origin: Origin) {
        if origin != Origin::Default {
            self.note_table(pipeline, key.table, &origin);
        }
        let slot = Slot::new(pipeline, key);
        if let Some(other) = schema::partner(key).filter(|_| !raw.is_unset()) {
            let other_slot = Slot::new(pipeline, other);
            if let Some(held) = self.slots.get(&other_slot).filter(|held| !held.raw.is_unset()) {
                match held.origin.layer().cmp(&origin.layer()) {
                    Ordering::Equal => {
                        let problem = format!("{} and {} are both set", key.name, other.name);
                        let mistake = Mistake::new(MistakeKind::Conflict, slot.to_string(), problem);
                        self.mistakes.push(mistake.fix("keep one of the two").origin(&origin));
                    }
                    Ordering::Less => {
                        self.slots.remove(&other_slot);
                    }
                    Ordering::Greater => return,
                }
            }
        }
        let is_fallback = matches!(origin, Origin::Fallback(_));
        let stronger = |held: &Setting| {
            // A file may spell a key out as empty: that is still "nothing given".
            held.origin.layer() > origin.layer() && !(is_fallback && held.raw.is_unset())
        };
        if !self.slots.get(&slot).is_some_and(stronger) {
            self.slots.insert(slot, Setting { raw, origin });
        }
    }

    fn note_table(&mut self, pipeline: Option<&str>, table: &'static str, origin: &Origin) {
        self.tables.insert((pipeline.map(str::to_owned), table));
        if let Some(name) = pipeline {
            self.note_pipeline(name, origin);
        }
    }

    /// A pipeline is named by a file, a variable or a flag; a bad name is told once.
    fn note_pipeline(&mut self, name: &str, origin: &Origin) {
        if self.pipelines.insert(name.to_owned()) && !is_pipeline_name(name) {
            let path = format!("pipeline.{name}");
            let mistake = Mistake::new(MistakeKind::Value, path, "not a name for a pipeline");
            self.mistakes.push(mistake.allowed("1 to 64 letters, digits, - and _").origin(origin));
        }
    }

    /// True where the user wrote this table.
    pub(crate) fn has_table(&self, pipeline: Option<&str>, table: &'static str) -> bool {
        self.tables.contains(&(pipeline.map(str::to_owned), table))
    }

    /// Names of the pipelines that were given.
    pub(crate) fn pipelines(&self) -> impl Iterator<Item = &str> {
        self.pipelines.iter().map(String::as_str)
    }

    /// The value of exactly this slot.
    pub(crate) fn at(&self, pipeline: Option<&str>, key: &Key) -> Option<&Setting> {
        self.slots.get(&Slot::new(pipeline, key))
    }

    /// Everything, in order of slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Slot, &Setting)> {
        self.slots.iter()
    }

    /// Reads a TOML document into its layer; `origin` makes the origin of a line.
    pub(crate) fn read_toml(&mut self, text: &str, origin: &dyn Fn(usize) -> Origin) {
        let lines = Lines::new(text);
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in errors.iter().take(10) {
            let line = error.span().map_or(1, |span| lines.of(span.start));
            let mistake = Mistake::new(MistakeKind::Syntax, "TOML", error.message().to_owned());
            self.mistakes.push(mistake.origin(&origin(line)));
        }
        if !errors.is_empty() {
            return;
        }
        for (name, value) in document.get_ref() {
            let here = origin(lines.of(name.span().start));
            if name.get_ref() == "pipeline" {
                self.read_pipelines(value.get_ref(), &here, &|at| origin(lines.of(at)));
            } else {
                self.read_table(None, name.get_ref(), value.get_ref(), &here, &|at| origin(lines.of(at)));
            }
        }
    }

    fn read_pipelines(&mut self, value: &DeValue<'_>, here: &Origin, origin: &dyn Fn(usize) -> Origin) {
        let Some(table) = value.as_table() else {
            let problem = "must be tables, one per pipeline";
            let mistake = Mistake::new(MistakeKind::Value, "pipeline", problem);
            self.mistakes.push(mistake.fix("write [pipeline.NAME.sls]").origin(here));
            return;
        };
        for (name, value) in table {
            let here = origin(name.span().start);
            let path = format!("pipeline.{}", name.get_ref());
            let Some(tables) = value.get_ref().as_table() else {
                let mistake =
                    Mistake::new(MistakeKind::Unknown, path, "no such key: [pipeline] holds named pipelines");
                self.mistakes.push(mistake.fix("write [pipeline.NAME.sls]").origin(&here));
                continue;
            };
            self.note_pipeline(name.get_ref(), &here);
            for (table, value) in tables {
                let here = origin(table.span().start);
                self.read_table(Some(name.get_ref()), table.get_ref(), value.get_ref(), &here, origin);
            }
        }
    }

    fn read_table(
        &mut self,
        pipeline: Option<&str>,
        name: &str,
        value: &DeValue<'_>,
        here: &Origin,
        origin: &dyn Fn(usize) -> Origin,
    ) {
        let prefix = pipeline.map_or_else(String::new, |pipeline| format!("pipeline.{pipeline}."));
        let Some(table) = known_table(pipeline, name) else {
            self.mistakes.push(unknown_table(pipeline, &prefix, name).origin(here));
            return;
        };
        let Some(entries) = value.as_table() else {
            let mistake = Mistake::new(MistakeKind::Value, format!("{prefix}{name}"), "must be a table");
            self.mistakes.push(mistake.fix(format!("write [{prefix}{name}]")).origin(here));
            return;
        };
        if *here != Origin::Default {
            self.note_table(pipeline, table, here);
        }
        for (key, value) in entries {
            let here = origin(key.span().start);
            match schema::find(table, key.get_ref()) {
                Some(key) => self.insert(pipeline, key, to_raw(value.get_ref()), here),
                None => self.mistakes.push(unknown_key(&prefix, table, key.get_ref()).origin(&here)),
            }
        }
    }

    /// Puts in a value that came as text, from a variable or a flag.
    pub(crate) fn insert_text(
        &mut self,
        pipeline: Option<&str>,
        key: &'static Key,
        text: &str,
        origin: Origin,
    ) {
        match from_text(key.kind, text) {
            Ok(raw) => self.insert(pipeline, key, raw, origin),
            Err(problem) => {
                let slot = Slot::new(pipeline, key);
                let mistake = Mistake::new(MistakeKind::Value, slot.to_string(), problem);
                self.mistakes.push(mistake.allowed(allowed(key.kind)).origin(&origin));
            }
        }
    }
}

/// The message for a key that does not exist. Its value is not shown: it may be a misspelt secret.
pub(crate) fn unknown_key(prefix: &str, table: &str, name: &str) -> Mistake {
    let mistake = Mistake::new(MistakeKind::Unknown, format!("{prefix}{table}.{name}"), "no such key");
    let here = schema::KEYS.iter().filter(|key| key.table == table).map(|key| key.name);
    if let Some(near) = schema::nearest(name, here) {
        return mistake.fix(format!("did you mean {near}?"));
    }
    match schema::KEYS.iter().find(|key| key.name == name) {
        Some(key) => mistake.fix(format!("{name} belongs to [{}]", key.table)),
        None => mistake.fix(format!("take it out; the keys of [{table}] are in the README")),
    }
}

fn unknown_table(pipeline: Option<&str>, prefix: &str, name: &str) -> Mistake {
    let mistake = Mistake::new(MistakeKind::Unknown, format!("{prefix}{name}"), "no such table");
    if pipeline.is_some() && schema::TABLES.contains(&name) {
        return mistake.fix(format!("[{name}] is for all pipelines together: move it to the top level"));
    }
    if let Some(key) = schema::KEYS.iter().find(|key| key.name == name) {
        return mistake.fix(format!("{name} belongs to [{prefix}{}]", key.table));
    }
    let known = schema::TABLES.iter().take(tables_of(pipeline)).copied();
    match schema::nearest(name, known.clone()) {
        Some(near) => mistake.fix(format!("did you mean [{prefix}{near}]?")),
        None => mistake.allowed(known.collect::<Vec<_>>().join(", ")),
    }
}

fn tables_of(pipeline: Option<&str>) -> usize {
    if pipeline.is_some() { schema::PIPELINE_TABLES } else { schema::TABLES.len() }
}

/// The table of that name, where it may stand.
pub(crate) fn known_table(pipeline: Option<&str>, name: &str) -> Option<&'static str> {
    schema::TABLES.iter().take(tables_of(pipeline)).copied().find(|table| *table == name)
}

/// Names go into metrics labels and file names.
pub(crate) fn is_pipeline_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

fn to_raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.clone().into_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Raw::Other(number.to_string()), Raw::Integer),
        DeValue::Float(number) => Raw::Other(number.to_string()),
        DeValue::Boolean(flag) => Raw::Flag(*flag),
        DeValue::Datetime(moment) => Raw::Text(moment.to_string()),
        DeValue::Array(items) => Raw::List(items.iter().map(|item| to_raw(item.get_ref())).collect()),
        DeValue::Table(entries) => Raw::Table(
            entries
                .iter()
                .map(|(name, value)| (name.get_ref().clone().into_owned(), to_raw(value.get_ref())))
                .collect(),
        ),
    }
}

fn from_text(kind: Kind, text: &str) -> Result<Raw, String> {
    let toml = |text: &str| {
        DeValue::parse(text.trim())
            .map(|value| to_raw(value.get_ref()))
            .map_err(|error| format!("not a TOML value: {}", error.message()))
    };
    match kind {
        Kind::TextList if text.trim_start().starts_with('[') => toml(text),
        Kind::TextList => Ok(Raw::List(
            text.split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| Raw::Text(item.into()))
                .collect(),
        )),
        Kind::TextMap | Kind::ListMap | Kind::CountMap => toml(text),
        Kind::Flag => Ok(match text.trim() {
            "true" | "1" => Raw::Flag(true),
            "false" | "0" => Raw::Flag(false),
            _ => Raw::Text(text.to_owned()),
        }),
        Kind::Count { .. } => {
            Ok(text.trim().parse().map_or_else(|_| Raw::Text(text.to_owned()), Raw::Integer))
        }
        _ => Ok(Raw::Text(text.to_owned())),
    }
}

/// Byte offset to line number.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at).collect())
    }

    fn of(&self, at: usize) -> usize {
        self.0.partition_point(|newline| *newline < at) + 1
    }
}

/// The origin of lines in a file.
pub(crate) fn file_origin(path: &Path) -> impl Fn(usize) -> Origin + '_ {
    |line| Origin::File { path: path.to_owned(), line }
}
