//! The command line: what may be typed, and nothing else.
//!
//! Why: help, names and exit codes are an interface that people script against; they stand in one file, without
//! policy and without I/O. A new command is its file in `cli/`, its arguments here and an arm of [`Command`].
//! Invariants: 1. a command is listed only when it exists. 2. wrong usage exits with 64, never 2.
//! Bounds: none.   Driven by: `main`.   Spec: commands and exit codes in README.md.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{ConfigError, DEFAULT_FILE, Environment, Loaded, Moment, Sources, load, units};

pub mod check;
pub mod config;
pub mod dead_letter;
pub mod demo;
mod group;
pub mod manual;
mod page;
pub mod preview;
pub mod run;
pub mod seek;
pub mod status;
pub mod tap;
pub mod top;

/// The version, with the commit that it was built from where that is known.
pub const VERSION: &str = env!("BUILD_VERSION");

/// Everything that was typed.
#[derive(Debug, Parser)]
#[command(
    name = "sls2siem",
    version = VERSION,
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
    /// Look at host, settings, SLS and sink, and say what to do where something is missing; changes nothing
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// Print the frames that the sink would get; sends nothing and moves no checkpoint
    #[command(after_help = PREVIEW_EXAMPLES)]
    Preview(PreviewArgs),
    /// Show events of a running process as they go to the sink, values hidden on request
    #[command(after_help = TAP_EXAMPLES)]
    Tap(TapArgs),
    /// The figures of a running process in the terminal, live: rates, lag of each shard, cores, troubles
    #[command(after_help = TOP_EXAMPLES)]
    Top(TopArgs),
    /// Print the merged settings, secrets masked, and where each value came from
    #[command(after_help = CONFIG_EXAMPLES)]
    Config(ConfigArgs),
    /// How far the consumer group is: shard, consumer, checkpoint, time behind
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// Move the consumer group's checkpoints: send logs again, or skip some
    #[command(after_help = SEEK_EXAMPLES)]
    Seek(SeekArgs),
    /// Write man pages and shell completions into a folder
    #[command(hide = true)]
    Manual(ManualArgs),
    /// The whole path on this machine, no account needed: emulator, forwarder and sink over TLS
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(DemoArgs),
    /// Logs that the sink refused for good: list them, show them, send them again
    #[command(after_help = DEAD_LETTER_EXAMPLES)]
    DeadLetter(DeadLetterArgs),
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

/// `sls2siem check`
#[derive(Args, Clone, Debug, Default)]
pub struct CheckArgs {
    /// Where settings come from.
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// One JSON document in place of lines
    #[arg(long)]
    pub json: bool,
    /// Send two numbered test messages to each syslog receiver
    #[arg(long)]
    pub probe: bool,
}

/// `sls2siem preview`
#[derive(Args, Clone, Debug, Default)]
pub struct PreviewArgs {
    /// Where settings come from.
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// How many logs
    #[arg(short, long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub number: u32,
    /// Only this pipeline
    #[arg(long, value_name = "NAME")]
    pub pipeline: Option<String>,
}

/// `sls2siem tap`
#[derive(Args, Clone, Debug, Default)]
pub struct TapArgs {
    /// Where settings come from; only the table admin is read.
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// The admin page of the running process, instead of admin.listen of the settings
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub admin: Option<String>,
    /// Only this pipeline
    #[arg(long, value_name = "NAME")]
    pub pipeline: Option<String>,
    /// Only this shard
    #[arg(long, value_name = "N")]
    pub shard: Option<u32>,
    /// End after so many events
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub number: Option<u64>,
    /// End after so many seconds; after an hour it ends anyway
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: Option<u64>,
    /// Hide the value of this field; may be repeated, or list several with commas
    #[arg(long, value_name = "FIELD", value_delimiter = ',')]
    pub mask: Vec<String>,
    /// Hide every value, show keys only
    #[arg(long)]
    pub mask_all: bool,
}

/// `sls2siem top`
#[derive(Args, Clone, Debug, Default)]
pub struct TopArgs {
    /// Where settings come from; only the table admin is read.
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// The admin page of the running process, instead of admin.listen of the settings
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub admin: Option<String>,
    /// Print everything once as plain text, as without a terminal
    #[arg(long)]
    pub once: bool,
}

/// `sls2siem config`
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigArgs {
    /// Where settings come from.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// `sls2siem status`
#[derive(Args, Clone, Debug, Default)]
pub struct StatusArgs {
    /// Where settings come from.
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Only this pipeline
    #[arg(long, value_name = "NAME")]
    pub pipeline: Option<String>,
}

/// `sls2siem seek`
#[derive(Args, Clone, Debug)]
pub struct SeekArgs {
    /// Where settings come from.
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Where to: begin, end, RFC 3339 or unix seconds, in receive time of the server
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub to: Moment,
    /// Only this shard; may be repeated
    #[arg(long = "shard", value_name = "N")]
    pub shards: Vec<u32>,
    /// Only this pipeline
    #[arg(long, value_name = "NAME")]
    pub pipeline: Option<String>,
    /// Say what would happen and move nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `sls2siem dead-letter`
#[derive(Args, Clone, Debug)]
pub struct DeadLetterArgs {
    /// Where settings come from.
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Which of the three.
    #[command(subcommand)]
    pub command: DeadLetterCommand,
}

/// What to do with the dead letter.
#[derive(Clone, Debug, Subcommand)]
pub enum DeadLetterCommand {
    /// Files with their number of records, and the reasons of those that are left
    Ls {
        /// Directory, instead of the one in the settings
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Print records as lines of JSON
    Show {
        /// Directory, instead of the one in the settings
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Those that were sent again, too
        #[arg(long)]
        all: bool,
        /// A file, or one line of it; all files without it
        #[arg(value_name = "FILE[:LINE]")]
        files: Vec<String>,
    },
    /// Send records to the sink of their pipeline again; files whose records are all taken move to replayed/
    Replay {
        /// A file, or one line of it; all files without it
        #[arg(value_name = "FILE[:LINE]")]
        files: Vec<String>,
    },
}

/// `sls2siem manual`
#[derive(Args, Clone, Debug)]
pub struct ManualArgs {
    /// Where to
    pub dir: PathBuf,
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
    /// Syslog over TLS: RFC 5424, octet counts, acknowledged when read to the end
    Syslog,
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

fn moment(text: &str) -> Result<Moment, String> {
    units::parse_moment(text).ok_or_else(|| {
        "a time is begin, end, unix seconds, or RFC 3339 with its zone such as 2026-01-02T03:04:05Z"
            .to_owned()
    })
}

const EXAMPLES: &str = "\
Examples:
  sls2siem demo                                  see it work on this machine
  sls2siem check --config sls2siem.toml          is everything there that a run needs?
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

const CHECK_EXAMPLES: &str = r#"Examples:
  sls2siem check --config sls2siem.toml
  sls2siem check --config sls2siem.toml --json | jq '.findings[] | select(.grade == "fail")'
  sls2siem check --probe                         settings from the environment; test messages to syslog

Exit code 0: nothing to repair (warnings are no failure); 1: something is; 78: the settings cannot be read

The RAM policy that `run` needs, and no more; fill in project and logstore. check, status, preview and seek
also list the shards (log:ListShards); with log:GetLogStore in it, `run` warns of logs that are about to expire:
  {
    "Version": "1",
    "Statement": [
      {
        "Effect": "Allow",
        "Action": [
          "log:GetCursorOrData",
          "log:ListShards",
          "log:ListConsumerGroup",
          "log:CreateConsumerGroup",
          "log:UpdateConsumerGroup",
          "log:ConsumerGroupHeartBeat",
          "log:GetConsumerGroupCheckPoint",
          "log:ConsumerGroupUpdateCheckPoint"
        ],
        "Resource": [
          "acs:log:*:*:project/my-project/logstore/my-logstore",
          "acs:log:*:*:project/my-project/logstore/my-logstore/*"
        ]
      }
    ]
  }"#;

const PREVIEW_EXAMPLES: &str = "\
Examples:
  sls2siem preview --config sls2siem.toml        ten logs as the sink would get them
  sls2siem preview -n 100 --set hec.index=test | jq .event
  sls2siem preview --set sls.start=end           of a new group, from the newest log on

It begins at the checkpoints of the consumer group, or where [sls] start says if there are none";

const TAP_EXAMPLES: &str = "\
Examples:
  sls2siem tap -n 10                             ten events, wherever they go
  sls2siem tap --pipeline audit --shard 3 --seconds 30
  sls2siem tap --mask password,token --mask client_ip | jq .event
  sls2siem tap --mask-all -n 1                   which fields are there?
  sls2siem tap --admin 127.0.0.1:9465

The process that is looked at needs [admin] tap = true. Events are copies: at most 20 frames a second and core are
taken, what is left out is said, forwarding does not wait. They were handed to the sink; that they arrived is not said.

Exit code 0: enough, or stopped; 1: the connection broke; 64: no such pipeline; 69: no admin page there; 77: switched off";

const TOP_EXAMPLES: &str = "\
Examples:
  sls2siem top                                   of the process that /etc/sls2siem/sls2siem.toml describes
  sls2siem top --admin 127.0.0.1:9465
  sls2siem top --once | grep held
  curl -s 127.0.0.1:9465/status.json | jq '.pipelines[] | {name, state, lag_seconds}'

Keys: q quit · p pause · l, w, s, c sort shards by lag, waiting, shard, core · arrows, PgUp, PgDn, Home, End scroll ·
Tab the shards of the next pipeline, or of all. NO_COLOR is respected.

Exit code 0: shown; 1: not an admin page of this version; 69: no admin page there; 78: settings";

const CONFIG_EXAMPLES: &str = "\
Examples:
  sls2siem config --config sls2siem.toml         every setting, and where it came from
  HEC_INDEX=main sls2siem config --config sls2siem.toml | grep index";

const STATUS_EXAMPLES: &str = "\
Examples:
  sls2siem status --config sls2siem.toml
  sls2siem status --json | jq '.pipelines[].shards[] | select(.behind_seconds > 300)'

Exit code 0: shown; 1: there is no such group, or SLS has trouble; 69: unreachable; 77: refused";

const SEEK_EXAMPLES: &str = "\
Examples:
  sls2siem seek --to 2026-01-02T03:00:00Z --dry-run    what would be sent again?
  sls2siem seek --to 2026-01-02T03:00:00Z              stop the forwarders of the group first
  sls2siem seek --to end --shard 3                     skip the backlog of one shard

Exit code 0: moved, or nothing to move; 1: live consumers hold the shards, or SLS has trouble; 69: unreachable; 77: refused";

const DEAD_LETTER_EXAMPLES: &str = "\
Examples:
  sls2siem dead-letter --config sls2siem.toml ls
  sls2siem dead-letter ls --dir /var/lib/sls2siem/dead
  sls2siem dead-letter --config sls2siem.toml show | jq -r .event
  sls2siem dead-letter --config sls2siem.toml replay     works beside a running forwarder

Exit code of replay: 0 nothing is left; 1 something stays, each with its reason on standard error";

const DEMO_EXAMPLES: &str = "\
Examples:
  sls2siem demo
  sls2siem demo --rate 100MB/s --seconds 30
  sls2siem demo --sink syslog
  sls2siem demo --fault hec.503=5%,pull.tear=5%  nothing may be lost
  sls2siem demo --fault hec.reset-after=2%       answers lost on the way: duplicates, but no loss
  sls2siem demo --sink syslog --fault syslog.reset=0.01%

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
