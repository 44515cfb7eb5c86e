//! The program: reads the command line, hands over, exits with a code.
//!
//! Why: everything that can be tested is in the library.   Invariants: 1. every end has a code of the reference, a bug's
//! too.   Bounds: none.   Driven by: the operating system.

use std::panic;
use std::process::{self, ExitCode};

use sls2siem::cli::{self, Command};
use sls2siem::config::Environment;
use sls2siem::report::Exit;

fn main() -> ExitCode {
    end_with_the_first_bug();
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
        Command::Tap(args) => cli::tap::execute(args, environment()),
        Command::Top(args) => cli::top::execute(args, environment()),
        Command::Manual(args) => cli::manual::execute(args),
        Command::Demo(args) => cli::demo::execute(args, &environment()),
    };
    exit.into()
}

/// A panic on any thread is a bug of ours, and nothing is known about the state behind it: the process ends at once and
/// its supervisor starts it again. Checkpoints never run ahead, so that costs duplicates and no logs.
fn end_with_the_first_bug() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        usual(info);
        eprintln!(
            "sls2siem {} has a bug and ends - the text above is its cause - nothing is lost: no checkpoint is ahead of \
             what the sink has acknowledged - start it again (systemd does), and report the text",
            env!("CARGO_PKG_VERSION")
        );
        process::exit(i32::from(Exit::Bug as u8));
    }));
}

/// The variables of this process. What is not UTF-8 is kept readable: where it matters it is refused by name.
fn environment() -> Environment {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .collect()
}
