//! What `tap` and `top` have in common: where the admin page of the running process is, and asking it.
//!
//! Why: both look at a process from outside, as whoever is logged in, who need not be able to read its secrets: so of
//! the settings only `[admin]` is read.
//! Invariants: 1. `--admin` wins over the settings. 2. what is listened on everywhere is asked on loopback.
//! Bounds: [`CONNECT_TIME_MAX`] to connect, [`ANSWER_TIME_MAX`] for a whole answer (not for a stream), and
//! [`ANSWER_BYTES_MAX`] of it.
//! Driven by: `cli::tap`, `cli::top`. Spec: commands and exit codes in README.md.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::SettingsArgs;
use crate::config::{ConfigError, DEFAULT_FILE, Environment, Sources, load_admin};
use crate::report::Exit;

/// An admin page.
#[derive(Clone, Debug)]
pub(super) struct Page {
    /// `host:port`.
    pub(super) address: String,
    agent: ureq::Agent,
}

/// Why a page gave no answer, for people, and what it means for the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unanswered {
    pub(super) exit: Exit,
    pub(super) text: String,
}

impl Page {
    /// By `--admin`, or by the settings.
    pub(super) fn find(
        admin: Option<&str>,
        settings: &SettingsArgs,
        env: Environment,
    ) -> Result<Self, Unanswered> {
        let address = match admin {
            Some(given) => {
                given.trim().trim_start_matches("http://").split('/').next().unwrap_or_default().to_owned()
            }
            None => of_settings(settings, env)?,
        };
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_connect(Some(CONNECT_TIME_MAX))
            .build()
            .into();
        Ok(Self { address, agent })
    }

    /// A whole answer: status and text.
    pub(super) fn text(&self, path: &str) -> Result<(u16, String), Unanswered> {
        let request = self.agent.get(format!("http://{}{path}", self.address));
        let request = request.config().timeout_global(Some(ANSWER_TIME_MAX)).build();
        let mut answer = request.call().map_err(|error| self.unanswered(&error))?;
        let text = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        Ok((answer.status().as_u16(), text.map_err(|error| self.unanswered(&error))?))
    }

    /// An answer that goes on.
    pub(super) fn stream(&self, path: &str) -> Result<(u16, ureq::BodyReader<'static>), Unanswered> {
        let request = self.agent.get(format!("http://{}{path}", self.address));
        let answer = request.call().map_err(|error| self.unanswered(&error))?;
        Ok((answer.status().as_u16(), answer.into_body().into_reader()))
    }

    fn unanswered(&self, error: &ureq::Error) -> Unanswered {
        let text = format!(
            "the admin page at {} does not answer ({error}) - nothing is lost, forwarding does not depend on it - is \
             `sls2siem run` running, and is this its [admin] listen? give --admin ADDRESS:PORT if not",
            self.address
        );
        Unanswered { exit: Exit::Unreachable, text }
    }
}

/// Says why on standard error.
pub(super) fn say(why: &Unanswered) -> Exit {
    // Where even standard error is closed, the exit code is all that is left.
    let _ = writeln!(io::stderr(), "sls2siem: {}", why.text);
    why.exit
}

fn of_settings(settings: &SettingsArgs, env: Environment) -> Result<String, Unanswered> {
    let refused = |text: String| Unanswered { exit: Exit::Config, text };
    let unread = |error: &ConfigError| Unanswered { exit: Exit::from(error), text: error.to_string() };
    let usual = || Some(PathBuf::from(DEFAULT_FILE)).filter(|file| Path::exists(file));
    let sources = Sources { file: settings.config.clone().or_else(usual), env, sets: settings.sets.clone() };
    let admin = load_admin(&sources).map_err(|error| unread(&error))?;
    match admin.listen {
        None => Err(refused(
            "[admin] listen = \"\": this process has no admin page - nothing can be looked at - set it and restart"
                .to_owned(),
        )),
        Some(listen) if listen.port() == 0 => Err(refused(
            "[admin] listen has port 0: any free one - the log of the process names it (\"admin page: http://…\") - \
             give it as --admin ADDRESS:PORT"
                .to_owned(),
        )),
        Some(listen) => Ok(reachable(listen).to_string()),
    }
}

/// An address of this host for one that stands for all of them.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, listen.port())
}

const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn find(admin: Option<&str>, sets: &[&str]) -> Result<String, Unanswered> {
        let sets = sets.iter().map(|set| (*set).to_owned()).collect();
        let settings = SettingsArgs { config: None, sets };
        Page::find(admin, &settings, Environment::default()).map(|page| page.address)
    }

    #[test]
    fn an_address_given_or_that_of_the_settings() {
        assert_eq!(find(Some("http://10.0.0.1:9/"), &[]).unwrap(), "10.0.0.1:9");
        assert_eq!(find(Some("[::1]:9"), &[]).unwrap(), "[::1]:9");
        // Without keys, project and sink: only [admin] counts.
        assert_eq!(find(None, &["admin.listen=:9000"]).unwrap(), "127.0.0.1:9000");
        assert_eq!(find(None, &["admin.listen=[::]:9000"]).unwrap(), "[::1]:9000");
        assert_eq!(find(None, &["admin.listen=10.1.2.3:9000", "sls.signature=v9"]).unwrap(), "10.1.2.3:9000");
        for (set, word) in [
            ("admin.listen=", "no admin page"),
            ("admin.listen=127.0.0.1:0", "--admin"),
            ("admin.listen=x", "admin.listen"),
        ] {
            let error = find(None, &[set]).unwrap_err();
            assert!(error.exit == Exit::Config && error.text.contains(word), "{error:?}");
        }
    }
}
