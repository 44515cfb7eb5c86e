//! From merged values to a checked [`Config`]: every rule that is more than the kind of one value.
//!
//! Why: rules across keys (v4 needs a region, one sink per pipeline, one group per logstore) belong in one place,
//! read after all layers are merged, or a later layer would be judged by an earlier one.
//! Invariants: 1. a wrong value is reported once and then stands as its default, so that it does not cause more
//! messages. 2. `Ok` only where nothing was pushed.   Bounds: as the settings.
//! Driven by: `config::load`.   Spec: the settings reference in README.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use secrecy::SecretString;

use super::mistake::{Mistake, MistakeKind, Origin};
use super::raw::{Raw, Setting, Settings, Slot};
use super::schema::{self, Key, Kind};
use super::secret::{self, Places, Unread};
use super::{
    AdminConfig, Config, DeadLetterConfig, PipelineConfig, SinkConfig, Sources, preset, units, value,
};

mod process;
mod sinks;
mod source;

/// Name of the pipeline that the top-level tables make.
pub(super) const DEFAULT_PIPELINE: &str = "default";

/// Checks everything.
pub(super) fn check(settings: &Settings, places: &Places, sources: &Sources) -> Result<Config, Vec<Mistake>> {
    let mut checker = Checker {
        settings,
        places,
        env: &sources.env,
        mistakes: settings.mistakes.clone(),
        warnings: Vec::new(),
        looked_at: BTreeSet::new(),
    };
    for (slot, setting) in settings.iter() {
        let found = schema::find(slot.table, slot.key).and_then(|key| value::check(slot, key, setting));
        checker.mistakes.extend(found);
    }
    checker.pipeline_names();
    let names: Vec<Option<&str>> = match settings.pipelines().map(Some).collect::<Vec<_>>() {
        named if named.is_empty() => vec![None],
        named => named,
    };
    let pipelines: Vec<PipelineConfig> = names.iter().filter_map(|name| checker.pipeline(*name)).collect();
    let runtime = checker.runtime(&names, &pipelines);
    let admin = checker.admin();
    let log = checker.log();
    let at = At::top("dead_letter");
    let dead_letter =
        DeadLetterConfig { dir: checker.path(at, "dir"), rotate_bytes: checker.size(at, "rotate_bytes") };
    checker.groups_are_apart(&pipelines);
    checker.file_is_private(sources);
    if checker.mistakes.is_empty() {
        Ok(Config { pipelines, runtime, admin, log, dead_letter, warnings: checker.warnings })
    } else {
        Err(checker.mistakes)
    }
}

/// Checks `[admin]` and nothing else; a file that is no TOML is a mistake all the same.
pub(super) fn check_admin(
    settings: &Settings,
    places: &Places,
    sources: &Sources,
) -> Result<AdminConfig, Vec<Mistake>> {
    let unread = settings
        .mistakes
        .iter()
        .filter(|mistake| matches!(mistake.kind, MistakeKind::Syntax | MistakeKind::Shortage));
    let mut checker = Checker {
        settings,
        places,
        env: &sources.env,
        mistakes: unread.cloned().collect(),
        warnings: Vec::new(),
        looked_at: BTreeSet::new(),
    };
    for (slot, setting) in settings.iter().filter(|(slot, _)| slot.table == "admin") {
        let found = schema::find(slot.table, slot.key).and_then(|key| value::check(slot, key, setting));
        checker.mistakes.extend(found);
    }
    let admin = checker.admin();
    if checker.mistakes.is_empty() { Ok(admin) } else { Err(checker.mistakes) }
}

/// Whose table is read.
#[derive(Clone, Copy)]
struct At<'a> {
    pipeline: Option<&'a str>,
    table: &'static str,
}

impl At<'_> {
    fn top(table: &'static str) -> Self {
        Self { pipeline: None, table }
    }
}

struct Checker<'a> {
    settings: &'a Settings,
    places: &'a Places,
    env: &'a super::Environment,
    mistakes: Vec<Mistake>,
    warnings: Vec<String>,
    /// Files whose permissions were judged.
    looked_at: BTreeSet<PathBuf>,
}

/// A value that fits its kind, and its place.
struct Found {
    slot: Slot,
    key: &'static Key,
    setting: Setting,
}

impl Checker<'_> {
    fn pipeline(&mut self, name: Option<&str>) -> Option<PipelineConfig> {
        let sls = self.sls(At { pipeline: name, table: "sls" });
        let sink = self.sink(name);
        let name = name.unwrap_or(DEFAULT_PIPELINE).to_owned();
        Some(PipelineConfig { name, sls: sls?, sink: sink? })
    }

    /// The sink of the pipeline's own tables, else the inherited one.
    fn sink(&mut self, name: Option<&str>) -> Option<SinkConfig> {
        let own = self.sinks_of(name);
        let sinks = if own.is_empty() { self.sinks_of(None) } else { own.clone() };
        let path = name.map_or_else(|| "sink".to_owned(), |name| format!("pipeline.{name}"));
        let sink = match sinks.as_slice() {
            [] => {
                let mistake = Mistake::new(MistakeKind::Missing, path, "no sink is set");
                self.mistakes.push(mistake.fix(
                    "set [hec] endpoints (or HEC_URL), [syslog] endpoints (or SYSLOG_URL), or write [stdout]",
                ));
                return None;
            }
            [sink] => *sink,
            several => {
                let tables =
                    several.iter().map(|table| format!("[{table}]")).collect::<Vec<_>>().join(" and ");
                let fix =
                    "keep one, or write one [pipeline.NAME] for each (with consumer groups of their own)";
                let problem = format!("a pipeline has one sink, but {tables} are set");
                self.mistakes.push(Mistake::new(MistakeKind::Conflict, path, problem).fix(fix));
                // What else is wrong with them is told in the same breath.
                for table in several {
                    self.sink_table(At { pipeline: name, table });
                }
                return None;
            }
        };
        let idle =
            |table: &&'static str| name.is_some() && *table != sink && self.settings.has_table(name, table);
        if let Some(table) = ["hec", "syslog"].into_iter().find(idle) {
            self.warnings
                .push(format!("[{path}.{table}] has no effect: the sink of this pipeline is [{sink}]"));
        }
        self.sink_table(At { pipeline: name, table: sink })
    }

    fn sink_table(&mut self, at: At<'_>) -> Option<SinkConfig> {
        match at.table {
            "hec" => self.hec(at).map(SinkConfig::Hec),
            "syslog" => Some(SinkConfig::Syslog(self.syslog(at))),
            _ => Some(SinkConfig::Stdout(self.stdout(at))),
        }
    }

    fn sinks_of(&self, name: Option<&str>) -> Vec<&'static str> {
        let has_endpoints = |table: &str| {
            let held = schema::find(table, "endpoints").and_then(|key| self.settings.at(name, key));
            held.is_some_and(|held| !held.raw.is_unset())
        };
        let mut sinks: Vec<&'static str> =
            ["hec", "syslog"].into_iter().filter(|table| has_endpoints(table)).collect();
        if self.settings.has_table(name, "stdout") {
            sinks.push("stdout");
        }
        sinks
    }

    fn pipeline_names(&mut self) {
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        for name in self.settings.pipelines() {
            if let Some(other) = seen.insert(name.to_ascii_lowercase().replace('-', "_"), name) {
                let problem = format!("the names {other} and {name} cannot be told apart in variables");
                self.mistakes.push(Mistake::new(MistakeKind::Conflict, format!("pipeline.{name}"), problem));
            }
        }
    }

    /// Two pipelines in one group on one logstore would each get half of the shards.
    fn groups_are_apart(&mut self, pipelines: &[PipelineConfig]) {
        let mut seen = BTreeMap::new();
        for pipeline in pipelines {
            let sls = &pipeline.sls;
            let place = (sls.endpoint.host.clone(), sls.project.clone(), sls.logstore.clone());
            let Some(other) = seen.insert((place, sls.consumer_group.clone()), &pipeline.name) else {
                continue;
            };
            let problem = format!(
                "pipelines {other} and {} read {}/{} in one consumer group: each would get only some of the shards",
                pipeline.name, sls.project, sls.logstore
            );
            let path = format!("pipeline.{}.sls.consumer_group", pipeline.name);
            let mistake =
                Mistake::new(MistakeKind::Conflict, path, problem).value(format!("{:?}", sls.consumer_group));
            self.mistakes.push(mistake.fix("give each of them its own consumer_group"));
        }
    }

    /// A world-readable file is fine as long as it holds no secret itself.
    fn file_is_private(&mut self, sources: &Sources) {
        let Some(path) = &sources.file else { return };
        let holds_secret = self.settings.iter().any(|(slot, setting)| {
            matches!(setting.origin, Origin::File { .. })
                && !setting.raw.is_unset()
                && schema::find(slot.table, slot.key).is_some_and(|key| key.kind == Kind::Secret)
        });
        if holds_secret && secret::open_to_others(path) {
            let path = path.display();
            self.warnings.push(format!("{path} holds a secret and every user can read it: chmod o= {path}"));
        }
    }

    // ---- reading values ----

    fn found(&self, at: At<'_>, name: &str) -> Option<Found> {
        let key = schema::find(at.table, name)?;
        let held = |pipeline: Option<&str>| {
            let slot = Slot::new(pipeline, key);
            let setting = self.settings.at(pipeline, key)?.clone();
            Some(Found { slot, key, setting })
        };
        let default = held(None)?;
        let fits = |found: &Found| value::check(&found.slot, key, &found.setting).is_none();
        if let Some(own) = at.pipeline.and_then(|name| held(Some(name))).filter(fits) {
            return Some(own);
        }
        if default.setting.origin != Origin::Default && fits(&default) {
            return Some(default);
        }
        if let Some(set) = self.preset(at, name) {
            return Some(Found { setting: set, ..default });
        }
        if fits(&default) {
            return Some(default);
        }
        // A wrong value was reported; go on with the built-in one.
        let raw = builtin(key)?;
        Some(Found { setting: Setting { raw, origin: Origin::Default }, ..default })
    }

    fn preset(&self, at: At<'_>, name: &str) -> Option<Setting> {
        if at.table != "syslog" || name == "preset" {
            return None;
        }
        let preset = self.text(at, "preset");
        let raw = Raw::Text(preset::value(&preset, name)?.to_owned());
        Some(Setting { raw, origin: Origin::Preset(preset) })
    }

    fn text(&self, at: At<'_>, name: &str) -> String {
        match self.found(at, name).map(|found| found.setting.raw) {
            Some(Raw::Text(text)) => text,
            Some(Raw::Integer(number)) => number.to_string(),
            _ => String::new(),
        }
    }

    fn text_or_none(&self, at: At<'_>, name: &str) -> Option<String> {
        Some(self.text(at, name)).filter(|text| !text.trim().is_empty())
    }

    /// One of the words of a choice, by its place in the schema.
    fn choice(&self, at: At<'_>, name: &str) -> &'static str {
        let text = self.text(at, name);
        match schema::find(at.table, name).map(|key| key.kind) {
            Some(Kind::Choice(words)) => words.iter().find(|word| **word == text).copied().unwrap_or(""),
            _ => "",
        }
    }

    fn flag(&self, at: At<'_>, name: &str) -> bool {
        matches!(self.found(at, name).map(|found| found.setting.raw), Some(Raw::Flag(true)))
    }

    fn count(&self, at: At<'_>, name: &str) -> usize {
        match self.found(at, name).map(|found| found.setting.raw) {
            Some(Raw::Integer(number)) => usize::try_from(number).unwrap_or(1),
            _ => 1,
        }
    }

    fn size(&self, at: At<'_>, name: &str) -> usize {
        let bytes = match self.found(at, name).map(|found| found.setting.raw) {
            Some(Raw::Integer(number)) => u64::try_from(number).ok(),
            Some(Raw::Text(text)) => units::parse_size(&text),
            _ => None,
        };
        bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX)
    }

    fn span(&self, at: At<'_>, name: &str) -> Duration {
        units::parse_span(&self.text(at, name)).unwrap_or_default()
    }

    fn texts(&self, at: At<'_>, name: &str) -> Vec<String> {
        self.found(at, name).map(|found| list_of(&found.setting.raw)).unwrap_or_default()
    }

    fn table(&self, at: At<'_>, name: &str) -> Vec<(String, Raw)> {
        match self.found(at, name).map(|found| found.setting.raw) {
            Some(Raw::Table(entries)) => entries,
            _ => Vec::new(),
        }
    }

    fn text_map(&self, at: At<'_>, name: &str) -> BTreeMap<String, String> {
        let as_text = |raw: Raw| match raw {
            Raw::Text(text) => text,
            other => other.to_string(),
        };
        self.table(at, name).into_iter().map(|(key, raw)| (key, as_text(raw))).collect()
    }

    /// A file that must be there and readable.
    fn file(&mut self, at: At<'_>, name: &str) -> Option<PathBuf> {
        let path = self.path(at, name)?;
        if let Some(unread) = secret::unreadable(&path) {
            let fix = format!("put the file at {} and let the user that runs this read it", path.display());
            self.unread(at, name, &unread, &fix);
        }
        Some(path)
    }

    fn path(&self, at: At<'_>, name: &str) -> Option<PathBuf> {
        self.text_or_none(at, name).map(|name| self.places.resolve(name.trim()))
    }

    /// The nearer one of `KEY` and `KEY_file`, with the file where it came from one.
    fn secret(&mut self, at: At<'_>, name: &str) -> Option<(SecretString, Option<PathBuf>)> {
        let key = schema::find(at.table, name)?;
        let file_key = schema::partner(key)?;
        let scopes: &[Option<&str>] = if at.pipeline.is_some() { &[at.pipeline, None] } else { &[None] };
        for scope in scopes {
            let at = At { pipeline: *scope, table: at.table };
            let set = |key: &Key| self.settings.at(*scope, key).filter(|held| !held.raw.is_unset());
            if let Some(Setting { raw: Raw::Text(text), .. }) = set(key) {
                return Some((SecretString::from(text.trim()), None));
            }
            if let Some(Setting { raw: Raw::Text(text), .. }) = set(file_key) {
                let path = self.places.resolve(text.trim());
                return Some(self.secret_file(at, file_key.name, path));
            }
        }
        None
    }

    fn secret_file(&mut self, at: At<'_>, name: &str, path: PathBuf) -> (SecretString, Option<PathBuf>) {
        match secret::read(&path) {
            Ok(text) => {
                if self.looked_at.insert(path.clone()) && secret::open_to_others(&path) {
                    let path = path.display();
                    self.warnings.push(format!("every user can read the secret in {path}: chmod o= {path}"));
                }
                (text, Some(path))
            }
            Err(mut unread) => {
                unread.problem.insert_str(0, "the secret cannot be read: ");
                let fix =
                    format!("put the secret into {}, readable for the user that runs this", path.display());
                self.unread(at, name, &unread, &fix);
                // So that nobody reports it as missing on top.
                (SecretString::from("unreadable"), Some(path))
            }
        }
    }

    // ---- mistakes ----

    /// A value that fits its kind but no rule.
    fn wrong(&mut self, at: At<'_>, name: &str, problem: &str, allowed: Option<&str>, fix: Option<&str>) {
        let Some(mut mistake) = self.mistake(MistakeKind::Value, at, name, problem) else { return };
        mistake.allowed = allowed.map(str::to_owned);
        mistake.fix = fix.map(str::to_owned);
        self.mistakes.push(mistake);
    }

    /// A file that cannot be read: because of what it is, or because of a shortage.
    fn unread(&mut self, at: At<'_>, name: &str, unread: &Unread, fix: &str) {
        let kind = unread.shortage.map_or(MistakeKind::Value, |_| MistakeKind::Shortage);
        let mistake = self.mistake(kind, at, name, &unread.problem);
        self.mistakes.extend(mistake.map(|mistake| mistake.fix(unread.shortage.unwrap_or(fix))));
    }

    fn missing(&mut self, at: At<'_>, name: &str, problem: &str, fix: &str) {
        let prefix = at.pipeline.map_or_else(String::new, |name| format!("pipeline.{name}."));
        let mistake = Mistake::new(MistakeKind::Missing, format!("{prefix}{}.{name}", at.table), problem);
        self.mistakes.push(mistake.fix(fix));
    }

    fn conflict(&mut self, at: At<'_>, name: &str, problem: &str, fix: &str) {
        let mistake = self.mistake(MistakeKind::Conflict, at, name, problem);
        self.mistakes.extend(mistake.map(|mistake| mistake.fix(fix)));
    }

    /// One about a value that was given.
    fn mistake(&self, kind: MistakeKind, at: At<'_>, name: &str, problem: &str) -> Option<Mistake> {
        let found = self.found(at, name)?;
        let mut mistake = Mistake::new(kind, found.slot.to_string(), problem);
        mistake.value = value::shown(found.key, &found.setting.raw);
        Some(mistake.origin(&found.setting.origin))
    }
}

/// A list, or a text that stands for a list of one.
fn list_of(raw: &Raw) -> Vec<String> {
    match raw {
        Raw::Text(text) if text.trim().is_empty() => Vec::new(),
        Raw::Text(text) => vec![text.clone()],
        Raw::List(items) => items.iter().flat_map(list_of).collect(),
        _ => Vec::new(),
    }
}

pub(super) fn builtin(key: &Key) -> Option<Raw> {
    static BUILTIN: LazyLock<Settings> = LazyLock::new(|| {
        let mut settings = Settings::default();
        settings.read_toml(&super::load::defaults(), &|_| Origin::Default);
        settings
    });
    BUILTIN.at(None, key).map(|setting| setting.raw.clone())
}
