//! What a connection that fails means to an operator.
//!
//! Why: "invalid peer certificate: `UnknownIssuer`" is exact and helps nobody; which key of the settings repairs it does.
//! Invariants: 1. the cause as received always stands beside the advice.
//! Bounds: none.   Driven by: `report`.   Spec: error texts of rustls and of Linux.

use super::Advice;
use crate::proto::event::{Closed, ClosedKind};

/// Whose connection it is: its table in the settings, and whether certificates can be pinned there.
pub(super) struct Peer {
    table: &'static str,
    pins: bool,
}

impl Peer {
    /// SLS itself.
    pub(super) const SOURCE: Self = Self { table: "sls", pins: false };

    /// The sink of that table.
    pub(super) fn sink(table: &'static str) -> Self {
        Self { table, pins: true }
    }
}

/// What it means and what to do.
pub(super) fn advice(closed: &Closed, peer: &Peer) -> Advice {
    let detail = closed.detail.to_ascii_lowercase();
    let table = peer.table;
    match closed.kind {
        ClosedKind::Resolve => Advice::new(
            "resolve",
            "cannot be found: its name has no address",
            format!("check the spelling in [{table}] and the DNS of this machine (getent hosts NAME)"),
        ),
        ClosedKind::Connect if detail.contains("refused") => Advice::new(
            "connect-refused",
            "refuses connections: nothing listens on that port",
            format!("check host and port in [{table}] and that the service runs; it goes on by itself"),
        ),
        ClosedKind::Connect if detail.contains("unreachable") || detail.contains("no route") => Advice::new(
            "unreachable",
            "cannot be reached: there is no route to it",
            "check the network and routes of this machine; it goes on by itself",
        ),
        ClosedKind::Connect if detail.contains("timed out") || detail.contains("timeout") => Advice::new(
            "connect-timeout",
            "does not answer connections",
            "a firewall mostly drops them: open the port, or set a proxy where one is needed; it goes on by itself",
        ),
        ClosedKind::Connect => Advice::new(
            "connect",
            "cannot be connected to",
            format!("check host and port in [{table}] and the network; it goes on by itself"),
        ),
        ClosedKind::Tls => tls(&detail, peer),
        ClosedKind::Timeout => Advice::new(
            "timeout",
            "is too slow: no answer in time",
            format!("look at its load and the network between; a longer wait: [{table}] timeout"),
        ),
        ClosedKind::Eof => Advice::new(
            "closed",
            "closed the connection with answers owed",
            "nothing, it is tried again; when it lasts: a load balancer or the service itself ends connections",
        ),
        ClosedKind::Reset => Advice::new(
            "reset",
            "broke the connection",
            "nothing, it is tried again; when it lasts: look at the service and at firewalls between",
        ),
    }
}

fn tls(detail: &str, peer: &Peer) -> Advice {
    let table = peer.table;
    let has = |words: &[&str]| words.iter().any(|word| detail.contains(word));
    let pin = if peer.pins { ", or pin the certificate: verify = \"fingerprint:SHA256\"" } else { "" };
    if has(&["notvalidforname", "not valid for name", "not valid for any names"]) {
        let todo = if peer.pins {
            format!(
                "set [{table}] server_name to a name in the certificate, or verify = \"ca\" to leave the name unchecked"
            )
        } else {
            format!(
                "check [{table}] endpoint: its certificate is for another host; a proxy that opens TLS causes this too"
            )
        };
        return Advice::new("tls-name", "shows a certificate for another name", todo);
    }
    if has(&["expired"]) {
        let todo = format!("renew its certificate (or set the clock of this machine, if it is wrong){pin}");
        return Advice::new("tls-expired", "shows a certificate that has expired", todo);
    }
    if has(&["notvalidyet", "not valid yet"]) {
        let todo = "set the clock of this machine; it is behind the certificate's begin";
        return Advice::new("tls-expired", "shows a certificate that is not valid yet", todo);
    }
    if peer.pins && has(&["fingerprint", "pinned"]) {
        let todo = format!(
            "if it is another endpoint, or its certificate was renewed: add its fingerprint to [{table}] verify, with a comma; else \
             somebody is in between"
        );
        return Advice::new("tls-pin", "shows another certificate than the pinned one", todo);
    }
    if has(&["certificaterequired", "certificate required", "certificate_required"]) {
        let todo = format!("set [{table}] client_cert and client_key");
        return Advice::new("tls-client-cert", "wants a client certificate", todo);
    }
    if has(&[
        "unknownissuer",
        "unknown issuer",
        "self-signed",
        "self signed",
        "causedasendentity",
        "badsignature",
    ]) {
        let todo =
            format!("set [{table}] ca_file to the certificate of the authority that signed it (PEM){pin}");
        return Advice::new("tls-untrusted", "shows a certificate that is not trusted", todo);
    }
    if has(&["invalid peer certificate", "badcertificate", "bad certificate"]) {
        let todo = format!("check its certificate (openssl s_client -connect HOST:PORT){pin}");
        return Advice::new("tls-certificate", "shows a certificate that is not accepted", todo);
    }
    if has(&["corrupt message", "invalidcontenttype", "wrong version number"]) {
        let todo = format!("check scheme and port in [{table}]: write http:// (or tcp://) if it has no TLS");
        return Advice::new("tls-plain", "does not speak TLS on this port", todo);
    }
    let todo = "TLS 1.2 with ECDHE and AES-GCM or ChaCha20, or TLS 1.3, is needed: enable it there (sslVersions and \
                cipherSuite in Splunk)";
    Advice::new("tls-handshake", "and we cannot agree on TLS", todo)
}
