//! SIGHUP: the settings are read again; keys, tokens and the log level change at once, the rest with the next generation.
//!
//! Why: keys and tokens are rotated and log levels raised while nothing may pause; a sink that moves or a new template is
//! worth a pause of a second, and not a restart that loses the shards; a mistyped file must not stop what works.
//! Invariants: 1. settings that cannot be used change nothing. 2. what changed and was not taken over is named, each time,
//! until a restart ([`FIXED`]). 3. no secret is logged: keys are told by their names.
//! Bounds: as the settings. Driven by: [`super`], on the main thread, at SIGHUP and SIGUSR1.
//! Spec: `reload` in the reference, README.md.

use secrecy::ExposeSecret as _;

use super::generation;
use super::log::{LevelControl, louder};
use crate::cli::SettingsArgs;
use crate::config::{Environment, Loaded, PipelineConfig, SinkConfig};
use crate::control::credentials::CredentialsSource;
use crate::control::pipeline::Inbox;
use crate::proto::event::Token;
use crate::proto::sls::sign::Credentials;
use crate::report::Exit;

/// Keys of the settings that are taken over while the process runs.
const LIVE: [&str; 9] = [
    "log.level",
    "sls.access_key_id",
    "sls.access_key_id_file",
    "sls.access_key_secret",
    "sls.access_key_secret_file",
    "sls.security_token",
    "sls.security_token_file",
    "hec.token",
    "hec.token_file",
];

/// Keys that the process is started with for good.
const FIXED: [&str; 1] = ["log.format"];

/// What became of SIGHUP.
pub(super) enum Reloaded {
    /// Everything holds.
    Taken,
    /// The settings cannot be used.
    Refused,
    /// What holds now needs another generation.
    Again,
}

/// The settings as they hold now, and whom to tell when they change.
pub(super) struct Reloader {
    args: SettingsArgs,
    env: Environment,
    /// What the generation was started with: differences that need another one are differences from this.
    started: Loaded,
    /// What holds of the keys that can change.
    current: Loaded,
    /// What the process was started with.
    first: Loaded,
    level: LevelControl,
    level_now: &'static str,
    inboxes: Vec<(String, Inbox)>,
}

impl Reloader {
    pub(super) fn new(args: SettingsArgs, env: Environment, first: Loaded, level: LevelControl) -> Self {
        let level_now = first.config.log.level;
        let (current, started) = (first.clone(), first.clone());
        Self { args, env, started, current, first, level, level_now, inboxes: Vec::new() }
    }

    /// The settings that hold.
    pub(super) fn current(&self) -> &Loaded {
        &self.current
    }

    /// The next generation has these settings.
    pub(super) fn hold(&mut self, loaded: Loaded) {
        self.set_level(loaded.config.log.level);
        self.current = loaded;
        self.inboxes.clear();
    }

    /// A generation with the settings that hold works.
    pub(super) fn begin(&mut self, inboxes: Vec<(String, Inbox)>) {
        self.started = self.current.clone();
        self.inboxes = inboxes;
    }

    fn set_level(&mut self, level: &'static str) {
        if level != self.current.config.log.level {
            self.level_now = level;
            self.level.set(level);
        }
    }

    /// SIGUSR1: the next louder level; after the loudest the one of the settings.
    pub(super) fn louder(&mut self) {
        self.level_now = louder(self.level_now, self.current.config.log.level);
        self.level.set(self.level_now);
    }

    /// SIGHUP.
    pub(super) fn reload(&mut self) -> Reloaded {
        let refuse = |exit: Exit, why: &str| {
            let repair = if exit == Exit::Config { "repair the file and " } else { "" };
            tracing::error!(
                "SIGHUP: the settings cannot be used ({why}) - nothing changed, nothing is lost, forwarding goes on with the old \
                 ones - {repair}send SIGHUP again"
            );
            Reloaded::Refused
        };
        let new = match self.args.load(self.env.clone()) {
            Ok(new) => new,
            Err(error) => {
                // One line, as everything in the log.
                let mistakes: Vec<String> = error.mistakes.iter().map(ToString::to_string).collect();
                return refuse(Exit::from(&error), &mistakes.join("; "));
            }
        };
        let keys_are_live = self.keys_are_live(&new);
        let is_live = |key: &String| {
            let of_keys = key.contains("sls.access_key_") || key.contains("sls.security_token");
            let known = LIVE.iter().any(|live| key == live || key.ends_with(&format!(".{live}")));
            known && (keys_are_live || !of_keys)
        };
        let is_fixed = |key: &String| FIXED.contains(&key.as_str());
        let again: Vec<String> = self.started.differences(&new);
        let again: Vec<String> = again.into_iter().filter(|key| !is_live(key) && !is_fixed(key)).collect();
        if let (false, Err((exit, why))) = (again.is_empty(), generation::check(&new.config)) {
            return refuse(exit, &why);
        }
        for warning in &new.config.warnings {
            tracing::warn!("{warning}");
        }
        let mut taken: Vec<String> = self.current.differences(&new).into_iter().filter(is_live).collect();
        self.take(&new, &mut taken);
        let fixed: Vec<String> = self.first.differences(&new).into_iter().filter(is_fixed).collect();
        self.current = new;
        match (taken.is_empty(), again.is_empty() && fixed.is_empty()) {
            (true, true) => tracing::info!("SIGHUP: settings read again, nothing changed"),
            (false, _) => tracing::info!("SIGHUP: settings read again, taken over: {}", taken.join(", ")),
            (true, false) => {}
        }
        if !fixed.is_empty() {
            tracing::warn!(
                "SIGHUP: changed in the settings and not taken over: {} - forwarding goes on with the old values, nothing \
                 is lost - restart to use the new ones",
                fixed.join(", ")
            );
        }
        if again.is_empty() {
            return Reloaded::Taken;
        }
        tracing::info!(
            "SIGHUP: settings read again, changed: {} - pulls end, what is in flight is delivered and committed, then forwarding \
             goes on with them",
            again.join(", ")
        );
        Reloaded::Again
    }

    /// Keys that are read from other files than before, or come from elsewhere, need their reader started again.
    fn keys_are_live(&self, new: &Loaded) -> bool {
        new.config.pipelines.iter().all(|pipeline| {
            let old = self.started.config.pipelines.iter().find(|old| old.name == pipeline.name);
            old.is_none_or(|old| source(old).is_same(&source(pipeline)))
        })
    }

    /// Hands over what changed; a secret whose file has a new content is added to `taken` by its name.
    fn take(&mut self, new: &Loaded, taken: &mut Vec<String>) {
        self.set_level(new.config.log.level);
        for pipeline in &new.config.pipelines {
            let Some(old) = self.current.config.pipelines.iter().find(|old| old.name == pipeline.name) else {
                continue;
            };
            let Some((_, inbox)) = self.inboxes.iter().find(|(name, _)| *name == pipeline.name) else {
                continue;
            };
            let prefix =
                if self.inboxes.len() > 1 { format!("pipeline.{}.", pipeline.name) } else { String::new() };
            let mut note = |key: &str| {
                let name = format!("{prefix}{key}");
                if !taken.iter().any(|known| known.ends_with(key)) {
                    taken.push(name);
                }
            };
            if let Some(keys) = changed_keys(old, pipeline) {
                inbox.set_keys(keys);
                note("sls.access_key_secret");
            }
            if let Some(token) = changed_token(old, pipeline) {
                inbox.set_sink_token(token);
                note("hec.token");
            }
        }
    }
}

fn source(config: &PipelineConfig) -> CredentialsSource {
    CredentialsSource::new(&config.sls.credentials)
}

/// The access keys, where the same source holds other ones.
fn changed_keys(old: &PipelineConfig, new: &PipelineConfig) -> Option<Credentials> {
    let (old, new) = (source(old), source(new));
    let keys = new.initial()?;
    (new.is_same(&old) && old.initial() != Some(keys.clone())).then_some(keys)
}

fn changed_token(old: &PipelineConfig, new: &PipelineConfig) -> Option<Token> {
    let (SinkConfig::Hec(old), SinkConfig::Hec(new)) = (&old.sink, &new.sink) else { return None };
    let token = new.token.expose_secret();
    (old.token.expose_secret() != token).then(|| Token(token.to_owned().into()))
}
