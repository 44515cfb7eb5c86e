//! The command line: what may be typed, and nothing else.
//!
//! Why: help, names and exit codes are an interface that people script against; they stand in one file, without
//! policy and without I/O. A new command is its file in `cli/`, its arguments here and an arm of [`Command`].
//! Invariants: 1. a command is listed only when it exists. 2. wrong usage exits with 64, never 2.
//! Bounds: none.   Driven by: `main`.   Spec: commands and exit codes in README.md.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{ConfigError, DEFAULT_FILE, Environment, Loaded, Sources, load, units};

pub mod config;
pub mod demo;
pub mod run;

/// Everything that was typed.
#[derive(Debug, Parser)]
#[command(
    name = "sls2siem",
    version,
    about = "Forwards Alibaba Cloud SLS logs to Splunk HEC or syslog; every log arrives at least once",
    after_help = EXAMPLES,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands that exist.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Forward until SIGTERM or SIGINT, then drain, save the checkpoints and exit 0
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Print the merged settings, secrets masked, and where each value came from
    #[command(after_help = CONFIG_EXAMPLES)]
    Config(ConfigArgs),
    /// The whole path on this machine, no account needed: emulator, forwarder and sink over TLS
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(DemoArgs),
}

/// Where settings come from; shared by all commands that need them.
#[derive(Args, Clone, Debug, Default)]
pub struct SettingsArgs {
    /// Settings file [default: /etc/sls2siem/sls2siem.toml where it exists]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Override one setting, such as sls.project=my-project; may be repeated
    #[arg(long = "set", value_name = "TABLE.KEY=VALUE")]
    pub sets: Vec<String>,
}

impl SettingsArgs {
    /// Reads and checks the settings of all layers.
    pub fn load(&self, env: Environment) -> Result<Loaded, ConfigError> {
        let usual = || Some(PathBuf::from(DEFAULT_FILE)).filter(|file| Path::exists(file));
        load(&Sources { file: self.config.clone().or_else(usual), env, sets: self.sets.clone() })
    }
}

/// `sls2siem run`
#[derive(Args, Clone, Debug, Default)]
pub struct RunArgs {
    /// Where settings come from.
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Exit 69 or 77 when SLS or the sink cannot be reached or refuses us at start, instead of trying on
    #[arg(long)]
    pub fail_fast: bool,
}

/// `sls2siem config`
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigArgs {
    /// Where settings come from.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// `sls2siem demo`
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Which bundled sink receives the logs
    #[arg(long, value_enum, default_value_t = DemoSink::Hec)]
    pub sink: DemoSink,
    /// Raw logs written per second, in bytes, such as 10MB/s
    #[arg(long, default_value = "10MB/s", value_parser = rate)]
    pub rate: u64,
    /// How long logs are written
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// Trouble to make on the way, as CALL.WHAT[=CHANCE]: hec.503=5%, pull.tear=1%, heartbeat.hang@3; may be repeated
    #[arg(long = "fault", value_name = "FAULT", value_parser = demo::check_fault)]
    pub faults: Vec<String>,
}

/// Sinks that the demo brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DemoSink {
    /// HTTP Event Collector over TLS
    Hec,
}

/// Reads the command line; the error is help, the version or a wrong usage, for [`clap_exit_code`].
pub fn parse() -> Result<Cli, clap::Error> {
    Cli::try_parse()
}

/// 0 for help and version, 64 for wrong usage.
pub fn clap_exit_code(error: &clap::Error) -> crate::report::Exit {
    if error.use_stderr() { crate::report::Exit::Usage } else { crate::report::Exit::Done }
}

fn rate(text: &str) -> Result<u64, String> {
    units::parse_rate(text)
        .filter(|rate| *rate > 0)
        .ok_or_else(|| "a rate is bytes per second with a unit, such as 10MB/s or 1MiB/s".to_owned())
}

const EXAMPLES: &str = "\
Examples:
  sls2siem demo                                  see it work on this machine
  sls2siem run --config sls2siem.toml            forward
  SLS_ENDPOINT=cn-hangzhou.log.aliyuncs.com SLS_PROJECT=p SLS_LOGSTORE=l SLS_CG=siem \\
  SLS_AK_ID=… SLS_AK_KEY=… HEC_URL=https://splunk:8088 HEC_TOKEN=… sls2siem run

Exit codes:
  0 done or drained · 1 ran and failed · 64 usage · 69 unreachable at start and 77 refused at start
  (both with --fail-fast only) · 70 a bug of ours · 78 settings";

const RUN_EXAMPLES: &str = "\
Examples:
  sls2siem run --config /etc/sls2siem/sls2siem.toml
  sls2siem run --config base.toml --set sls.project=other --set hec.batch_bytes=2MiB
  sls2siem run --fail-fast                       settings from the environment; give up when refused at start";

const CONFIG_EXAMPLES: &str = "\
Examples:
  sls2siem config --config sls2siem.toml         every setting, and where it came from
  HEC_INDEX=main sls2siem config --config sls2siem.toml | grep index";

const DEMO_EXAMPLES: &str = "\
Examples:
  sls2siem demo
  sls2siem demo --rate 100MB/s --seconds 30
  sls2siem demo --fault hec.503=5%,pull.tear=5%  nothing may be lost
  sls2siem demo --fault hec.reset-after=2%       answers lost on the way: duplicates, but no loss

Exit code 0: everything sent was delivered and the checkpoints stand at the end; 1: it was not";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn rates() {
        let cli = Cli::try_parse_from(["sls2siem", "demo", "--rate", "1MiB/s"]).unwrap();
        assert!(matches!(cli.command, Command::Demo(DemoArgs { rate: 1_048_576, sink: DemoSink::Hec, .. })));
        assert!(Cli::try_parse_from(["sls2siem", "demo", "--rate", "fast"]).is_err());
        assert!(Cli::try_parse_from(["sls2siem", "demo", "--rate", "0"]).is_err());
    }
}
