//! The way to a peer: name, TCP, TLS and its certificate.
//!
//! Why: a certificate that is refused is the most frequent trouble of a new set-up, and "which `verify` takes it, and
//! what do I pin" can only be said by looking at what is shown.
//! Invariants: 1. nothing but handshakes goes over these connections. Bounds: those of the command.
//! Driven by: `source`, `hec`, `syslog` of the command. Spec: RFC 5280; setting `verify`.

use std::net::SocketAddr;

use super::{ADDRESSES_MAX, Printer, WAIT};
use crate::drive::peer::{self, Link};
use crate::drive::tls::cert::fingerprint_text;
use crate::drive::tls::look::{Certificate, Look, Shown};
use crate::drive::{TargetSpec, TlsSpec, Verify, clock};
use crate::proto::event::{Closed, ClosedKind};
use crate::report::{Finding, Grade, Place, Text, place_of};

/// A peer and how its troubles are worded.
pub(super) struct Peer<'a> {
    /// Whose pipeline.
    pub(super) place: &'a Place,
    /// As the settings name it: `hec https://splunk:8088`.
    pub(super) name: String,
    /// Where it is.
    pub(super) target: &'a TargetSpec,
    /// The words of the log for a connection that fails.
    pub(super) word: &'a dyn Fn(Closed) -> Text,
}

impl Peer<'_> {
    fn say(&self, grade: Grade, topic: &'static str, closed: Closed) -> Finding {
        Finding::of(grade, topic, self.place, (self.word)(closed))
    }

    fn ok(&self, topic: &'static str, text: &str) -> Finding {
        Finding::ok(&place_of(self.place), topic, format!("{}: {text}", self.name))
    }

    /// All its addresses.
    pub(super) fn resolve(&self, out: &mut Printer) -> Vec<SocketAddr> {
        match peer::addresses(&self.target.host, self.target.port) {
            Ok(all) => {
                let list = all.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(", ");
                if self.target.host != list {
                    out.add(self.ok("dns", &format!("{} is {list}", self.target.host)));
                }
                all.into_iter().take(ADDRESSES_MAX).collect()
            }
            Err(closed) => {
                out.add(self.say(Grade::Fail, "dns", closed));
                Vec::new()
            }
        }
    }

    /// The addresses at which it can be reached as the settings want it: TCP, and TLS where there is TLS.
    pub(super) fn reach(&self, out: &mut Printer) -> Vec<SocketAddr> {
        let addresses = self.resolve(out);
        let (mut open, mut refused) = (Vec::new(), Vec::new());
        for address in addresses {
            match Link::connect(address, WAIT) {
                Ok(_) => open.push(address),
                Err(closed) => refused.push(closed),
            }
        }
        // One address of several that is away costs a retry; all of them, the sink.
        let grade = if open.is_empty() { Grade::Fail } else { Grade::Warn };
        for closed in refused {
            out.add(self.say(grade, "tcp", closed));
        }
        match &self.target.tls {
            None => {
                if !open.is_empty() {
                    out.add(self.ok("tcp", "accepts connections, without TLS"));
                }
                open
            }
            Some(tls) => open.into_iter().filter(|address| self.tls(*address, tls, out)).collect(),
        }
    }

    /// Looks at its certificate; true where the settings take it.
    fn tls(&self, address: SocketAddr, tls: &TlsSpec, out: &mut Printer) -> bool {
        let name = self.target.server_name.as_deref().filter(|name| !name.is_empty());
        let shown = Look::new(tls, name.unwrap_or(&self.target.host))
            .map_err(|error| Closed { kind: ClosedKind::Tls, detail: error.to_string() })
            .and_then(|look| Link::connect(address, WAIT)?.look(&look));
        let shown = match shown {
            Ok(shown) => shown,
            Err(closed) => {
                out.add(self.say(Grade::Fail, "tls", closed));
                return false;
            }
        };
        let Some(leaf) = shown.chain.first() else { return false };
        let verdict = match &tls.verify {
            Verify::Full => shown.full.clone(),
            Verify::Ca => shown.ca.clone(),
            Verify::Fingerprint(known) if known.contains(&leaf.fingerprint) => Ok(()),
            Verify::Fingerprint(_) => {
                Err(format!("certificate does not have the fingerprint in the settings: {}", leaf.text))
            }
            Verify::Off => Ok(()),
        };
        let is_good = verdict.is_ok();
        match verdict {
            Ok(()) => out.add(self.ok("tls", &describe(&shown, leaf))),
            Err(detail) => {
                let closed = Closed { kind: ClosedKind::Tls, detail };
                out.add(self.say(Grade::Fail, "tls", closed).or_do(&self.ways(&shown, leaf)));
            }
        }
        self.weak(tls, leaf, out);
        self.expiry(leaf, is_good, out);
        is_good
    }

    /// Which settings would take it; SLS knows only one.
    fn ways(&self, shown: &Shown, leaf: &Certificate) -> String {
        if self.target.tls.is_none() || self.name.starts_with("SLS") {
            return String::new();
        }
        let pin = fingerprint_text(&leaf.fingerprint);
        let mut ways = Vec::new();
        if shown.full.is_ok() {
            ways.push("verify = \"full\" would take it".to_owned());
        } else if shown.ca.is_ok() {
            ways.push("verify = \"ca\" would take it (the name is not in it)".to_owned());
        }
        ways.push(format!(
            "compared out of band, verify = \"fingerprint:{pin}\" pins it (several with commas)"
        ));
        ways.join("; ")
    }

    fn weak(&self, tls: &TlsSpec, leaf: &Certificate, out: &mut Printer) {
        if tls.verify == Verify::Off {
            let pin = fingerprint_text(&leaf.fingerprint);
            let todo =
                format!("pin what is shown today, compared out of band: verify = \"fingerprint:{pin}\"");
            let text = format!("{}: verify = \"off\": whoever stands in between is taken for it", self.name);
            out.add(Finding::warn(&place_of(self.place), "tls", text, todo));
        }
    }

    fn expiry(&self, leaf: &Certificate, is_good: bool, out: &mut Printer) {
        let Some((_, until)) = leaf.valid else { return };
        let left = until.saturating_sub(clock::wall().as_secs()) / DAY_SECS;
        if is_good && left < EXPIRY_WARN_DAYS {
            let text = format!("{}: its certificate ends in {left} days, at {}", self.name, moment(until));
            out.add(Finding::warn(&place_of(self.place), "certificate", text, "have it renewed"));
        }
    }
}

fn describe(shown: &Shown, leaf: &Certificate) -> String {
    let passes = match (&shown.full, &shown.ca) {
        (Ok(()), _) => "passes verify = \"full\"",
        (_, Ok(())) => "passes verify = \"ca\", not \"full\"",
        _ => "passes neither verify = \"full\" nor \"ca\"",
    };
    let until = leaf.valid.map_or_else(
        || "an unknown time".to_owned(),
        |(_, until)| {
            let days = until.saturating_sub(clock::wall().as_secs()) / DAY_SECS;
            format!("{} ({days} days)", moment(until))
        },
    );
    let chain = shown.chain.len();
    format!("{}; chain of {chain}, {}, valid until {until}, {passes}", shown.agreed, leaf.text)
}

/// Unix seconds as RFC 3339.
pub(super) fn moment(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| format!("unix second {seconds}"), |moment| moment.to_string())
}

const DAY_SECS: u64 = 86_400;
const EXPIRY_WARN_DAYS: u64 = 30;
