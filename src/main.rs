//! The program: reads the command line, hands over, exits with a code.

use std::process::ExitCode;

use sls2siem::cli::{self, Command};
use sls2siem::config::Environment;

fn main() -> ExitCode {
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Where even that cannot be written there is nobody to tell.
            let _ = error.print();
            return cli::clap_exit_code(&error).into();
        }
    };
    let exit = match &cli.command {
        Command::Run(args) => cli::run::execute(args, environment()),
        Command::Status(args) => cli::status::execute(args, environment()),
        Command::Seek(args) => cli::seek::execute(args, environment()),
        Command::Config(args) => cli::config::execute(args, environment()),
        Command::DeadLetter(args) => cli::dead_letter::execute(args, environment()),
        Command::Check(args) => cli::check::execute(args, environment()),
        Command::Preview(args) => cli::preview::execute(args, environment()),
        Command::Manual(args) => cli::manual::execute(args),
        Command::Demo(args) => cli::demo::execute(args, &environment()),
    };
    exit.into()
}

/// The variables of this process. What is not UTF-8 is kept readable: where it matters it is refused by name.
fn environment() -> Environment {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .collect()
}
