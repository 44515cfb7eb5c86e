//! `sls2siem demo`.
//!
//! Why: see README.md, commands.   Driven by: `main`.

use std::io::{self, Write as _};

use super::DemoArgs;
use crate::config::Environment;
use crate::report::Exit;

/// Runs the whole path on this machine.
pub fn execute(_args: &DemoArgs, _env: Environment) -> Exit {
    let _ = writeln!(io::stderr(), "sls2siem: demo is not built into this version");
    Exit::Failed
}
