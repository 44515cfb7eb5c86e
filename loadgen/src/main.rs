//! `loadgen`: the bundled servers on their own, for testing any client.
//!
//! Why: a forwarder other than ours, or a person with curl, should be able to meet the same servers.
//! Invariants: results on stdout, logs on stderr.   Bounds: none.   Driven by: the shell.   Spec: contract.md.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use loadgen::sink::{hec, syslog};
use loadgen::{capacity, sls};
use tracing_subscriber::EnvFilter;

/// The bundled servers of sls2siem, for testing any client.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves logs as Alibaba Cloud SLS does: signatures, cursors, leases, checkpoints.
    Sls(Box<sls::SlsArgs>),
    /// Measures the forwarder: CPU, memory, latency, against its targets.
    Capacity(Box<capacity::CapacityArgs>),
    /// Receives Splunk HEC: counts fast, or answers as splunkd does with --strict.
    Hec(Box<hec::HecArgs>),
    /// Receives syslog over UDP, TCP, TLS and RELP: counts fast, or holds to the letter with --strict.
    Syslog(Box<syslog::SyslogArgs>),
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let done = match Cli::parse().command {
        Command::Sls(args) => sls::run(&args),
        Command::Capacity(args) => capacity::run(&args),
        Command::Hec(args) => hec::run(*args),
        Command::Syslog(args) => syslog::run(*args),
    };
    done.unwrap_or_else(|why| {
        tracing::error!("{why:#}");
        ExitCode::FAILURE
    })
}
