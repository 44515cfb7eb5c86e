//! What the syslog receiver is told to be.
//!
//! Why: one process plays a receiver of every transport, so that a sender with several endpoints meets them all.
//! Invariants: 1. an address without a scheme is plain TCP.   Bounds: messages up to `max_message_bytes`.
//! Driven by: `SyslogArgs` and tests.   Spec: syslog.md 3, 6; contract.md for the schemes.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};

use super::expect::Expectation;
use super::store::Store;
use crate::fault::FaultPlan;
use crate::sink::tls::TlsSettings;

/// How much the receiver looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Cuts frames, notes the number of every message, nothing else.
    Fast,
    /// Parses every byte and reports what breaks a rule.
    Strict,
}

/// How messages come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// One datagram, one message.
    Udp,
    /// Syslog over TCP.
    Tcp,
    /// Syslog over TLS.
    Tls,
    /// RELP over TCP.
    Relp,
    /// RELP over TLS.
    RelpTls,
}

/// One address with its transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// What is spoken there.
    pub transport: Transport,
    /// Where; port 0 for any.
    pub address: SocketAddr,
}

/// How messages are told apart on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Framing {
    /// By the first byte of each frame: a digit begins an octet count, anything else a line.
    Auto,
    /// `LEN SP MSG` only.
    OctetCounting,
    /// `MSG LF` only.
    Newline,
}

/// Which grammar messages have to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// By what stands behind the priority: a version is RFC 5424, a month's name RFC 3164.
    Auto,
    /// RFC 5424 only.
    Rfc5424,
    /// RFC 3164 only.
    Rfc3164,
}

/// All settings of one receiver.
#[derive(Debug)]
pub struct SyslogConfig {
    /// What to listen on.
    pub listen: Vec<Listen>,
    /// Fast or strict.
    pub mode: Mode,
    /// Threads that serve connections.
    pub threads: usize,
    /// Cores that those threads are pinned to, in turn; empty leaves it to the kernel.
    pub cores: Vec<usize>,
    /// Certificate of the transports with TLS.
    pub tls: TlsSettings,
    /// Framing of TCP and TLS.
    pub framing: Framing,
    /// Grammar of the messages.
    pub format: Format,
    /// Longest message; a longer one ends the connection.
    pub max_message_bytes: usize,
    /// Unanswered RELP messages that a sender may have; more is a violation. None: no limit.
    pub relp_window: Option<u32>,
    /// What goes wrong.
    pub faults: FaultPlan,
    /// Keeps every message in memory.
    pub keep: bool,
    /// Appends every message to this file, one JSON object a line.
    pub out: Option<PathBuf>,
    /// What the messages should be (strict mode compares them).
    pub payload: Option<Expectation>,
    /// A store shared with another receiver, so that both are judged as one.
    pub store: Option<Store>,
}

impl SyslogConfig {
    /// A receiver of these transports on free ports of 127.0.0.1, without faults.
    pub fn new(mode: Mode, transports: &[Transport]) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            listen: transports.iter().map(|transport| Listen { transport: *transport, address }).collect(),
            mode,
            threads: 1,
            cores: Vec::new(),
            tls: TlsSettings::default(),
            framing: Framing::Auto,
            format: Format::Auto,
            max_message_bytes: MAX_MESSAGE_BYTES,
            relp_window: None,
            faults: FaultPlan::none(),
            keep: false,
            out: None,
            payload: None,
            store: None,
        }
    }
}

impl Transport {
    /// The scheme in an endpoint's URL.
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Relp => "relp",
            Self::RelpTls => "relp+tls",
        }
    }

    /// Whether TLS lies beneath.
    pub const fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::RelpTls)
    }

    /// Whether RELP is spoken.
    pub const fn is_relp(self) -> bool {
        matches!(self, Self::Relp | Self::RelpTls)
    }

    /// All of them.
    pub const ALL: [Self; 5] = [Self::Udp, Self::Tcp, Self::Tls, Self::Relp, Self::RelpTls];
}

impl FromStr for Listen {
    type Err = anyhow::Error;

    /// Reads `tls://127.0.0.1:6514`, or an address alone for plain TCP.
    fn from_str(text: &str) -> Result<Self> {
        let (scheme, address) = text.split_once("://").unwrap_or(("tcp", text));
        let Some(transport) = Transport::ALL.into_iter().find(|transport| transport.scheme() == scheme)
        else {
            bail!("`{scheme}` is none of udp, tcp, tls, relp, relp+tls");
        };
        let address = address
            .parse()
            .with_context(|| format!("`{address}` is not an address such as 127.0.0.1:514"))?;
        Ok(Self { transport, address })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.transport.scheme(), self.address)
    }
}

/// Longest message by default.
pub(super) const MAX_MESSAGE_BYTES: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_text() {
        for (text, shown) in [
            ("127.0.0.1:514", "tcp://127.0.0.1:514"),
            ("relp+tls://[::1]:20514", "relp+tls://[::1]:20514"),
            ("udp://0.0.0.0:0", "udp://0.0.0.0:0"),
        ] {
            assert_eq!(text.parse::<Listen>().expect(text).to_string(), shown);
        }
        for bad in ["", "tls://", "tls://localhost:1", "http://127.0.0.1:1", "127.0.0.1"] {
            assert!(bad.parse::<Listen>().is_err(), "{bad}");
        }
    }
}
