//! Settings of every layer: mistakes name their place, secrets stay hidden, what is printed reads back the same.

use std::fs;
use std::path::PathBuf;

use sls2siem::config::{Config, ConfigError, Environment, Loaded, Sources, load};

/// Stands for a secret wherever one is wanted.
const MARK: &str = "s3cr3t-MARK";
const SECRET_KEYS: [(&str, &str); 3] =
    [("hec", "token"), ("sls", "access_key_secret"), ("sls", "security_token")];
const SECRET_NAMES: [&str; 8] = [
    "HEC_TOKEN",
    "SLS_AK_KEY",
    "SLS_SECURITY_TOKEN",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
    "ALIBABA_CLOUD_SECURITY_TOKEN",
    "SLS2SIEM_HEC__TOKEN",
    "SLS2SIEM_SLS__ACCESS_KEY_SECRET",
    "SLS2SIEM_SLS__SECURITY_TOKEN",
];
/// A line of its own parts the file, the variables and the flags.
const PARTING: &str = "\n%%\n";

/// A TOML file; behind a line `%%` variables, a line each; behind another `--set` flags.
pub fn run(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    let mut parts = text.splitn(3, PARTING);
    let toml = parts.next().unwrap_or_default();
    let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let env: Environment = parts.next().unwrap_or_default().lines().filter_map(pair).collect();
    let sets: Vec<String> = parts.next().unwrap_or_default().lines().map(str::to_owned).collect();
    // No setting may lead out of the directory of this run: a device would be read for ever.
    if text.contains("/dev/") || text.contains("/proc/") || text.contains("\\u") || text.contains("\\x") {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = home.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    write("secret", MARK);
    let from = |file: PathBuf, env: &Environment, sets: &[String]| {
        load(&Sources { file: Some(file), env: env.clone(), sets: sets.to_vec() })
    };
    let loaded = from(write("sls2siem.toml", toml), &env, &sets);
    let shown = match &loaded {
        Ok(loaded) => good(loaded),
        Err(error) => bad(error),
    };
    let hidden = hidden(toml) + hidden_elsewhere(&env, &sets);
    if text.matches(MARK).count() == hidden {
        assert!(!shown.contains(MARK), "a secret is shown: {shown}");
    }
    if let Ok(loaded) = &loaded
        && env.is_empty()
        && sets.is_empty()
        // Passwords in addresses are masked, so they cannot be read back.
        && !toml.contains('@')
    {
        let printed = loaded.to_toml();
        let again = from(write("printed.toml", &printed), &Environment::new(), &[]);
        let again = again.unwrap_or_else(|error| panic!("{error}\n{printed}"));
        assert_eq!(checked(&again.config), checked(&loaded.config), "{printed}");
        // Its comments name another file; what holds is the same.
        let plain = |text: &str| -> Vec<String> {
            text.lines().map(|line| line.split("  # ").next().unwrap_or_default().to_owned()).collect()
        };
        assert_eq!(plain(&again.to_toml()), plain(&printed));
    }
}

fn good(loaded: &Loaded) -> String {
    assert!(!loaded.config.pipelines.is_empty());
    assert_eq!(loaded.differences(loaded), Vec::<String>::new());
    format!("{:?}\n{}", loaded.config, loaded.to_toml())
}

fn bad(error: &ConfigError) -> String {
    assert!(!error.mistakes.is_empty(), "a mistake without a mistake");
    for mistake in &error.mistakes {
        assert!(!mistake.path.is_empty() && !mistake.problem.is_empty(), "{mistake:?}");
    }
    error.to_string()
}

/// Everything but the warnings, which name files.
fn checked(config: &Config) -> String {
    let Config { pipelines, runtime, admin, log, dead_letter, .. } = config;
    format!("{pipelines:#?}\n{runtime:#?}\n{admin:#?}\n{log:#?}\n{dead_letter:#?}")
}

/// How often the mark stands where a secret belongs.
fn hidden(toml: &str) -> usize {
    let Ok(document) = toml::from_str::<toml::Table>(toml) else { return 0 };
    let tables = |document: &toml::Table| -> usize {
        let of = |(table, key): &(&str, &str)| document.get(*table)?.get(*key).map(toml::Value::to_string);
        SECRET_KEYS.iter().filter_map(of).map(|value| value.matches(MARK).count()).sum()
    };
    let pipelines = document.get("pipeline").and_then(toml::Value::as_table);
    let named = pipelines.into_iter().flatten().filter_map(|(_, tables)| tables.as_table());
    tables(&document) + named.map(tables).sum::<usize>()
}

fn hidden_elsewhere(env: &Environment, sets: &[String]) -> usize {
    let variables = SECRET_NAMES.iter().filter_map(|name| env.get(*name));
    let flags = sets.iter().filter_map(|set| {
        let (path, value) = set.split_once('=')?;
        SECRET_KEYS.iter().any(|(table, key)| path.trim() == format!("{table}.{key}")).then_some(value)
    });
    variables.map(String::as_str).chain(flags).map(|value| value.matches(MARK).count()).sum()
}
