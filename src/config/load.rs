//! The layers of settings, read and laid over each other: defaults, file, environment, `--set`.
//!
//! Why: whoever looks for the reason of a value has to find it in one order, and what cannot be read is said as itself,
//! not as the many keys that are missing then.
//! Invariants: 1. a later layer wins, key by key. 2. a secret is read by [`super::secret`] alone.
//! Bounds: a configuration file is at most 4 MiB.
//! Driven by: the commands, at start and for a reload.

use std::io;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::mistake::{ConfigError, Mistake, MistakeKind, Origin};
use super::raw::Settings;
use super::secret::Unread;
use super::{AdminConfig, Config, Environment, check, env, mistake, print, raw, schema, secret};

/// Longest configuration file.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Everything that settings are read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file to read; it must exist.
    pub file: Option<PathBuf>,
    /// The variables of the process.
    pub env: Environment,
    /// `table.key=value`, the strongest layer.
    pub sets: Vec<String>,
}

/// Reads the secret of a `KEY_file` again. The error holds nothing of it.
pub fn read_secret(path: &Path) -> Result<SecretString, Unread> {
    secret::read(path)
}

/// Checked settings together with what was given, for `sls2siem config`.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// For everybody.
    pub config: Config,
    settings: Settings,
}

impl Loaded {
    /// The paths of the keys whose values differ; no values, some are secret.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let names: std::collections::BTreeSet<Option<&str>> = [None]
            .into_iter()
            .chain(self.settings.pipelines().chain(other.settings.pipelines()).map(Some))
            .collect();
        let mut paths = Vec::new();
        for pipeline in names {
            for key in schema::KEYS {
                let value =
                    |settings: &Settings| settings.at(pipeline, key).map(|setting| setting.raw.clone());
                if value(&self.settings) != value(&other.settings) {
                    let prefix = pipeline.map_or_else(String::new, |name| format!("pipeline.{name}."));
                    paths.push(format!("{prefix}{}.{}", key.table, key.name));
                }
            }
        }
        paths
    }

    /// The merged settings as TOML, secrets masked, with a comment on what differs from the default.
    pub fn to_toml(&self) -> String {
        print::to_toml(&self.settings, &self.config)
    }
}

/// Reads, merges and checks all layers; fails with every mistake at once.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let settings = merge(sources);
    // What was not read would only be missed, key by key.
    let unread = |mistake: &&Mistake| mistake.kind == MistakeKind::Shortage;
    if let Some(unread) = settings.mistakes.iter().find(unread) {
        return Err(ConfigError { mistakes: vec![unread.clone()] });
    }
    let places = secret::Places {
        credentials: sources.env.get("CREDENTIALS_DIRECTORY").map(PathBuf::from),
        beside: sources.file.as_ref().and_then(|file| file.parent()).map(Path::to_owned),
    };
    match check::check(&settings, &places, sources) {
        Ok(config) => Ok(Loaded { config, settings }),
        Err(mistakes) => Err(mistake::finish(mistakes)),
    }
}

/// Reads `[admin]` alone: whoever asks the page of a running process need not be able to read its secrets.
pub fn load_admin(sources: &Sources) -> Result<AdminConfig, ConfigError> {
    let settings = merge(sources);
    let places = secret::Places { credentials: None, beside: None };
    check::check_admin(&settings, &places, sources).map_err(mistake::finish)
}

fn merge(sources: &Sources) -> Settings {
    let mut settings = Settings::default();
    settings.read_toml(&defaults(), &|_| Origin::Default);
    if let Some(path) = &sources.file {
        match read_file(path) {
            Ok(text) => settings.read_toml(&text, &raw::file_origin(path)),
            Err(Unread { problem, shortage }) => {
                let kind = shortage.map_or(MistakeKind::Syntax, |_| MistakeKind::Shortage);
                let usual = "give --config FILE, or leave it out and set the environment (SLS_ENDPOINT, …)";
                let mistake = Mistake::new(kind, path.display().to_string(), problem);
                settings.mistakes.push(mistake.fix(shortage.unwrap_or(usual)));
            }
        }
    }
    env::read(&mut settings, &sources.env);
    for set in &sources.sets {
        read_set(&mut settings, set);
    }
    env::read_fallbacks(&mut settings, &sources.env);
    settings
}

fn read_file(path: &Path) -> Result<String, Unread> {
    let unread = |error: io::Error| {
        let mut unread = Unread::from(error);
        unread.problem.insert_str(0, "cannot be read: ");
        unread
    };
    let meta = path.metadata().map_err(unread)?;
    if meta.len() > FILE_BYTES_MAX {
        return Err(Unread::content("is larger than 4 MiB"));
    }
    std::fs::read_to_string(path).map_err(unread)
}

/// `default.toml` with its commented keys switched on; prose comments begin with "# ".
pub(super) fn defaults() -> String {
    let mut text = String::with_capacity(DEFAULT_TOML.len());
    for line in DEFAULT_TOML.lines() {
        let is_key = |rest: &&str| rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase());
        text.push_str(line.strip_prefix('#').filter(is_key).unwrap_or(line));
        text.push('\n');
    }
    text
}

fn read_set(settings: &mut Settings, set: &str) {
    let (path, value) = set.split_once('=').map_or((set, None), |(path, value)| (path.trim(), Some(value)));
    let parts: Vec<&str> = path.split('.').collect();
    let (pipeline, table, key) = match parts.as_slice() {
        [table, key] => (None, *table, *key),
        ["pipeline", pipeline, table, key] => (Some(*pipeline), *table, *key),
        _ => {
            let mistake =
                Mistake::new(MistakeKind::Unknown, path, "not the path of a key").origin(&Origin::Flag);
            settings.mistakes.push(mistake.allowed("table.key=value or pipeline.NAME.table.key=value"));
            return;
        }
    };
    let prefix = pipeline.map_or_else(String::new, |name| format!("pipeline.{name}."));
    let found = raw::known_table(pipeline, table).and_then(|table| schema::find(table, key));
    match (found, value) {
        (Some(key), Some(value)) => settings.insert_text(pipeline, key, value.trim(), Origin::Flag),
        (Some(_), None) => settings.mistakes.push(
            Mistake::new(MistakeKind::Value, path, "has no value")
                .fix(format!("--set {path}=VALUE"))
                .origin(&Origin::Flag),
        ),
        (None, _) => settings.mistakes.push(raw::unknown_key(&prefix, table, key).origin(&Origin::Flag)),
    }
}

pub(super) const DEFAULT_TOML: &str = include_str!("default.toml");
