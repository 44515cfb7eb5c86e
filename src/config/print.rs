//! The merged settings as TOML, for `sls2siem config`.
//!
//! Why: with four layers nobody can tell by looking which value holds; this says it, with the place it came from.
//! Invariants: 1. no secret is printed, only "***" where one is set. 2. what is printed is read back as the same
//! settings (but for the secrets).   Bounds: as the settings.   Driven by: `Loaded::to_toml`.

use std::fmt::Write as _;

use super::mistake::Origin;
use super::raw::{Raw, Setting, Settings};
use super::schema::{self, KEYS, Key, Kind, TABLES};
use super::{Config, SinkConfig, preset, value};

/// Writes everything that holds.
pub(super) fn to_toml(settings: &Settings, config: &Config) -> String {
    let mut out =
        String::from("# Merged settings; secrets are masked. A comment tells where a value came from.\n");
    for table in TABLES {
        // An unused sink would be a second one when this is read back.
        let used = match table {
            "hec" => config.pipelines.iter().any(|pipeline| matches!(pipeline.sink, SinkConfig::Hec(_))),
            "syslog" => {
                config.pipelines.iter().any(|pipeline| matches!(pipeline.sink, SinkConfig::Syslog(_)))
            }
            "stdout" => settings.has_table(None, "stdout"),
            _ => true,
        };
        if used {
            write_table(&mut out, settings, None, table);
        }
    }
    for pipeline in settings.pipelines() {
        for table in TABLES {
            if settings.has_table(Some(pipeline), table) {
                write_table(&mut out, settings, Some(pipeline), table);
            }
        }
    }
    out
}

fn write_table(out: &mut String, settings: &Settings, pipeline: Option<&str>, table: &'static str) {
    let prefix = pipeline.map_or_else(String::new, |name| format!("pipeline.{name}."));
    let _ = writeln!(out, "\n[{prefix}{table}]");
    for key in KEYS.iter().filter(|key| key.table == table) {
        let written = settings.at(pipeline, key).filter(|held| held.origin != Origin::Default);
        // What a preset may set is a comment unless it was set: read back as a value, it would beat the preset.
        if written.is_none() && table == "syslog" && preset::touches(key.name) {
            write_preset(out, settings, pipeline, key);
        } else if let Some(setting) = settings.at(pipeline, key) {
            write_value(out, key, setting);
        }
    }
}

fn write_value(out: &mut String, key: &Key, setting: &Setting) {
    let mut raw = setting.raw.clone();
    if key.kind == Kind::Secret && !raw.is_unset() {
        raw = Raw::Text("***".into());
    }
    if value::is_address(key) {
        raw = value::mask_all(&raw);
    }
    let _ = write!(out, "{} = {raw}", key.name);
    let default = super::check::builtin(key);
    if setting.origin != Origin::Default && default.as_ref() != Some(&raw) {
        let _ = write!(out, "  # {}", setting.origin);
        if let Some(default) = default.filter(|default| !default.is_unset()) {
            let _ = write!(out, ", default {default}");
        }
    }
    out.push('\n');
}

fn write_preset(out: &mut String, settings: &Settings, pipeline: Option<&str>, key: &Key) {
    let preset = schema::find("syslog", "preset").and_then(|key| settings.at(pipeline, key));
    if let Some(Setting { raw: Raw::Text(name), .. }) = preset
        && let Some(value) = preset::value(name, key.name)
    {
        let _ = writeln!(out, "#{} = {}  # preset {name}", key.name, Raw::Text(value.into()));
    } else if let Some(setting) = settings.at(pipeline, key) {
        let _ = writeln!(out, "#{} = {}", key.name, setting.raw);
    }
}
