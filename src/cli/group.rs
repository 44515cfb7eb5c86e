//! What `status` and `seek` have in common: which groups are meant, tables, words for failures.
//!
//! Why: both look at consumer groups from outside, of one or of all pipelines.
//! Invariants: 1. a failed call is told with its four parts, and with an exit code that scripts can rely on.
//! Bounds: none. Driven by: `cli::status`, `cli::seek`. Spec: exit codes in README.md.

use std::fmt::{Display, Write as _};
use std::io::{self, Write as _};
use std::time::Duration;

use super::SettingsArgs;
use super::run::parts;
use crate::config::{Environment, PipelineConfig};
use crate::control::credentials::CredentialsSource;
use crate::control::group::{Failure, GroupApi};
use crate::control::sls_api::SlsApi;
use crate::drive::clock;
use crate::proto::sls::lease::call::CallError;
use crate::proto::sls::lease::verdict::Verdict;
use crate::report::{self, Exit, Place};

/// A group and how to name it.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) place: Place,
    pub(super) group: GroupApi,
    /// The settings' own timeout, where the group's cannot be read.
    pub(super) timeout: Duration,
}

/// The groups of all pipelines, or of one.
pub(super) fn targets(
    settings: &SettingsArgs,
    only: Option<&str>,
    env: Environment,
) -> Result<Vec<Target>, Exit> {
    let config = settings.load(env).map_err(|error| say(Exit::from(&error), &error))?.config;
    for warning in &config.warnings {
        let _ = writeln!(io::stderr(), "sls2siem: warning: {warning}");
    }
    let wanted = |pipeline: &&PipelineConfig| only.is_none_or(|name| pipeline.name == name);
    let targets: Vec<Target> =
        config.pipelines.iter().filter(wanted).map(target).collect::<Result<_, _>>()?;
    if targets.is_empty() {
        let names: Vec<&str> = config.pipelines.iter().map(|pipeline| pipeline.name.as_str()).collect();
        let text = format!("--pipeline {}: there are {}", only.unwrap_or_default(), names.join(", "));
        return Err(say(Exit::Usage, &text));
    }
    Ok(targets)
}

fn target(config: &PipelineConfig) -> Result<Target, Exit> {
    let place = Place::new(config);
    let api = SlsApi::new(&parts::api(&config.sls, "operator")).map_err(|error| {
        say(Exit::of_start(!error.is_shortage()), &format!("pipeline {}: {error}", config.name))
    })?;
    let keys = CredentialsSource::new(&config.sls.credentials).read().map_err(|error| {
        let exit = if error.is_unreachable() { Exit::Unreachable } else { Exit::Refused };
        say(exit, &report::no_credentials(&place, &error.to_string(), error.todo(), false))
    })?;
    let group = GroupApi {
        api,
        credentials: keys.credentials,
        logstore: config.sls.logstore.clone(),
        group: config.sls.consumer_group.clone(),
    };
    Ok(Target { place, group, timeout: config.sls.timeout })
}

impl Target {
    /// Words a failed call on standard error.
    pub(super) fn tell(&self, failure: &Failure) -> Exit {
        let Failure { doing, cause } = failure;
        if failure.is_missing_group() {
            let Place { pipeline, project, logstore, consumer_group, .. } = &self.place;
            let text = format!(
                "pipeline {pipeline}: {project}/{logstore} has no consumer group {consumer_group} - nothing was changed - \
                 check [sls] consumer_group (SLS_CG); `run` makes the group"
            );
            return say(Exit::Failed, &text);
        }
        let text = match cause {
            CallError::Sls(error) => report::sls_error(&self.place, *doing, error, clock::wall()),
            CallError::Transport { why, .. } => report::sls_unreachable(&self.place, *doing, why),
        };
        let refused = Verdict::of(cause).needs_operator();
        let answered = matches!(cause, CallError::Sls(_));
        let exit = match (refused, answered) {
            (true, _) => Exit::Refused,
            (false, true) => Exit::Failed,
            (false, false) => Exit::Unreachable,
        };
        say(exit, &text)
    }
}

/// A line on standard error.
pub(super) fn say(exit: Exit, text: &dyn Display) -> Exit {
    // Where even standard error is closed, the exit code is all that is left.
    let _ = writeln!(io::stderr(), "sls2siem: {text}");
    exit
}

/// Lines whose columns stand one below the other; the last column is not padded.
pub(super) fn columns<const N: usize>(out: &mut String, head: &[String; N], lines: &[[String; N]]) {
    let mut widths = [0; N];
    for line in std::iter::once(head).chain(lines) {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for line in std::iter::once(head).chain(lines) {
        let mut text = String::new();
        for (width, cell) in widths.iter().zip(line) {
            let _ = write!(text, "{cell:<width$}  ");
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
}

/// Seconds as people say them: the two largest units.
pub(super) fn span(seconds: u64) -> String {
    let (days, hours, minutes, rest) =
        (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, _) => format!("{minutes}m{rest}s"),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units() {
        let cases = [(0, "0s"), (59, "59s"), (90, "1m30s"), (3_661, "1h1m"), (200_000, "2d7h")];
        for (seconds, text) in cases {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut out = String::new();
        let cell = |text: &str| text.to_owned();
        columns(&mut out, &[cell("A"), cell("B")], &[[cell("long"), cell("x")], [cell("y"), cell("")]]);
        assert_eq!(out, "A     B\nlong  x\ny\n");
    }
}
