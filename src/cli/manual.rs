//! `sls2siem manual`: man pages and shell completions, made from the definition of the command line itself.
//!
//! Why: a man page that is written by hand is wrong after the next flag. Packagers run this; users have the result.
//! Invariants: 1. hidden commands are not in it. Bounds: one page a command.
//! Driven by: the packaging, `main`. Spec: man-pages(7); bash, zsh and fish completions.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, ManualArgs};
use crate::report::Exit;

/// Writes everything into the folder that was named.
pub fn execute(args: &ManualArgs) -> Exit {
    match write(&args.dir) {
        Ok(()) => Exit::Done,
        Err(error) => {
            let _ = writeln!(io::stderr(), "sls2siem: {}: {error}", args.dir.display());
            Exit::Failed
        }
    }
}

fn write(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut definition = Cli::command();
    definition.build();
    page(dir, &definition, "sls2siem")?;
    for command in definition.get_subcommands().filter(|command| !command.is_hide_set()) {
        page(dir, command, &format!("sls2siem-{}", command.get_name()))?;
    }
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), "sls2siem", dir)?;
    }
    Ok(())
}

fn page(dir: &Path, command: &clap::Command, name: &str) -> io::Result<()> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut text)?;
    fs::write(dir.join(format!("{name}.1")), text)
}
