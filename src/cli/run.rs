//! `sls2siem run`.
//!
//! Why: see README.md, commands.   Driven by: `main`.

use std::io::{self, Write as _};

use super::RunArgs;
use crate::config::Environment;
use crate::report::Exit;

/// Forwards until it is told to stop.
pub fn execute(args: &RunArgs, env: Environment) -> Exit {
    if let Err(error) = args.settings.load(env) {
        let _ = writeln!(io::stderr(), "sls2siem: {error}");
        return Exit::Config;
    }
    let _ = writeln!(io::stderr(), "sls2siem: run is not built into this version");
    Exit::Failed
}
