//! `sls2siem config`: the merged settings as TOML on standard output.
//!
//! Why: with four layers of settings the question "which value holds, and who set it" needs an answer.
//! Invariants: 1. secrets are masked.   Bounds: as the settings.   Driven by: `main`.
//! Spec: commands in README.md.

use std::io::{self, Write as _};

use super::ConfigArgs;
use crate::config::Environment;
use crate::report::Exit;

/// Prints the settings, or every mistake in them.
pub fn execute(args: &ConfigArgs, env: Environment) -> Exit {
    let loaded = match args.settings.load(env) {
        Ok(loaded) => loaded,
        Err(error) => {
            let _ = writeln!(io::stderr(), "sls2siem: {error}");
            return Exit::from(&error);
        }
    };
    for warning in &loaded.config.warnings {
        let _ = writeln!(io::stderr(), "sls2siem: warning: {warning}");
    }
    match io::stdout().lock().write_all(loaded.to_toml().as_bytes()) {
        Ok(()) => Exit::Done,
        // `sls2siem config | head` is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
        Err(error) => {
            let _ = writeln!(io::stderr(), "sls2siem: standard output: {error}");
            Exit::Failed
        }
    }
}
