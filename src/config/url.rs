//! Addresses as people write them: SLS endpoints, HEC URLs, syslog targets, proxies.
//!
//! Why: consoles, guides and samples spell the same endpoint in five ways; each must work, and what does not
//! must be refused with the spelling that would.
//! Invariants: 1. no error text repeats a user name, password or query string.
//! Bounds: a host is at most 253 bytes.   Driven by: `config::check`.   Spec: SLS endpoints: `<project>.<endpoint>`
//! is the host of every request; HEC: `/services/collector/event`, port 8088.

use std::fmt;
use std::net::IpAddr;

use secrecy::SecretString;

/// Where SLS is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// TLS or not.
    pub https: bool,
    /// Name or address, without the project.
    pub host: String,
    /// 443 or 80 where none was given.
    pub port: u16,
    /// An IP literal or localhost: connect to it directly, the Host header stays `<project>.<host>`.
    pub is_ip_or_localhost: bool,
}

impl Endpoint {
    /// The name to resolve and connect to.
    pub fn connect_host(&self, project: &str) -> String {
        if self.is_ip_or_localhost { self.host.clone() } else { format!("{project}.{}", self.host) }
    }

    /// The value of the Host header.
    pub fn host_header(&self, project: &str) -> String {
        let host = bracketed(&self.host);
        if self.port == if self.https { 443 } else { 80 } {
            format!("{project}.{host}")
        } else {
            format!("{project}.{host}:{}", self.port)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_address(f, if self.https { "https" } else { "http" }, &self.host, self.port)
    }
}

/// Where a HEC is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HecUrl {
    /// TLS or not.
    pub https: bool,
    /// Name or address.
    pub host: String,
    /// 8088 where none was given.
    pub port: u16,
    /// What a reverse proxy wants before `/services/collector`; mostly empty.
    pub prefix: String,
}

impl HecUrl {
    /// The value of the Host header.
    pub fn host_header(&self) -> String {
        format!("{}:{}", bracketed(&self.host), self.port)
    }
}

impl fmt::Display for HecUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_address(f, if self.https { "https" } else { "http" }, &self.host, self.port)?;
        f.write_str(&self.prefix)
    }
}

/// How a syslog receiver is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SyslogTransport {
    /// Datagrams, best effort.
    Udp,
    /// Plain TCP.
    Tcp,
    /// TCP with TLS.
    Tls,
    /// RELP over TCP.
    Relp,
    /// RELP over TLS.
    RelpTls,
}

impl SyslogTransport {
    /// The scheme of its URLs.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Relp => "relp",
            Self::RelpTls => "relp+tls",
        }
    }

    /// True where the connection is encrypted.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Tls | Self::RelpTls)
    }
}

/// Where a syslog receiver is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogUrl {
    /// How.
    pub transport: SyslogTransport,
    /// Name or address.
    pub host: String,
    /// 514, 6514 (TLS) or 2514 (RELP) where none was given.
    pub port: u16,
}

impl fmt::Display for SyslogUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_address(f, self.transport.scheme(), &self.host, self.port)
    }
}

/// An HTTP proxy for the way to SLS.
#[derive(Clone, Debug)]
pub struct ProxyUrl {
    /// Name or address.
    pub host: String,
    /// 8080 where none was given.
    pub port: u16,
    /// `user:password`, where given.
    pub user_info: Option<SecretString>,
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_address(f, "http", &self.host, self.port)
    }
}

/// Reads an SLS endpoint; the second value says what had to be repaired.
pub(crate) fn parse_endpoint(text: &str, project: &str) -> Result<(Endpoint, Option<String>), String> {
    let parts = split(text)?;
    let https = match parts.scheme {
        None | Some("https") => true,
        Some("http") => false,
        Some(_) => return Err("the scheme must be https:// or http://".into()),
    };
    if parts.user_info.is_some() || parts.query || !parts.path.trim_matches('/').is_empty() {
        return Err("an endpoint is only a host: no path, no user name, no query".into());
    }
    let mut host = parts.host.to_ascii_lowercase();
    let mut note = None;
    let stripped = host.strip_prefix(project).and_then(|rest| rest.strip_prefix('.'));
    if let (false, Some(rest)) = (project.is_empty(), stripped) {
        note = Some(format!("endpoint already begins with the project; taken as {rest}"));
        host = rest.to_owned();
    }
    let port = parts.port.unwrap_or(if https { 443 } else { 80 });
    let is_ip_or_localhost = host == "localhost" || host.parse::<IpAddr>().is_ok();
    Ok((Endpoint { https, host, port, is_ip_or_localhost }, note))
}

/// Reads a HEC URL.
pub(crate) fn parse_hec(text: &str) -> Result<HecUrl, String> {
    let parts = split(text)?;
    let https = match parts.scheme {
        None | Some("https") => true,
        Some("http") => false,
        Some(_) => return Err("the scheme must be https:// or http://".into()),
    };
    if parts.user_info.is_some() || parts.query {
        return Err("no user name and no query here: the token goes into hec.token or hec.token_file".into());
    }
    let path = parts.path.trim_end_matches('/');
    let path = path.strip_suffix("/1.0").unwrap_or(path);
    let path = path.strip_suffix("/event").unwrap_or(path);
    let prefix = match path.strip_suffix("/services/collector") {
        Some(prefix) => prefix,
        None if path.is_empty() => "",
        None => return Err("the path must be /services/collector/event, or left out".into()),
    };
    if !prefix.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("the path has characters that need percent-encoding".into());
    }
    let port = parts.port.unwrap_or(8088);
    Ok(HecUrl { https, host: parts.host.to_ascii_lowercase(), port, prefix: prefix.to_owned() })
}

/// Reads a syslog target.
pub(crate) fn parse_syslog(text: &str) -> Result<SyslogUrl, String> {
    let parts = split(text)?;
    let (transport, default_port) = match parts.scheme {
        Some("udp") => (SyslogTransport::Udp, 514),
        Some("tcp") => (SyslogTransport::Tcp, 514),
        Some("tls" | "tcp+tls" | "ssl") => (SyslogTransport::Tls, 6514),
        Some("relp") => (SyslogTransport::Relp, 2514),
        Some("relp+tls") => (SyslogTransport::RelpTls, 2514),
        None => return Err("the scheme is missing: tls:// tcp:// udp:// relp:// or relp+tls://".into()),
        Some(_) => return Err("the scheme must be tls:// tcp:// udp:// relp:// or relp+tls://".into()),
    };
    if parts.user_info.is_some() || parts.query || !parts.path.trim_matches('/').is_empty() {
        return Err("a syslog target is only a host and a port".into());
    }
    let port = parts.port.unwrap_or(default_port);
    Ok(SyslogUrl { transport, host: parts.host.to_ascii_lowercase(), port })
}

/// Reads `http://[user:password@]host[:port]`.
pub(crate) fn parse_proxy(text: &str) -> Result<ProxyUrl, String> {
    let parts = split(text)?;
    if !matches!(parts.scheme, None | Some("http")) {
        return Err("the scheme must be http:// (TLS to SLS goes through it untouched)".into());
    }
    if parts.query || !parts.path.trim_matches('/').is_empty() {
        return Err("a proxy is only a host and a port".into());
    }
    let user_info = parts.user_info.map(SecretString::from);
    Ok(ProxyUrl { host: parts.host.to_owned(), port: parts.port.unwrap_or(8080), user_info })
}

/// The text with user name, password and query taken out, for messages.
pub(crate) fn masked(text: &str) -> String {
    let text = text.split_once(['?', '#']).map_or_else(|| text.to_owned(), |(head, _)| format!("{head}?***"));
    // Not only in the authority: where the slashes are misspelt it is not known where that begins.
    match text.rsplit_once('@') {
        Some((before, host)) => match before.split_once("://") {
            Some((scheme, _)) => format!("{scheme}://***@{host}"),
            None => format!("***@{host}"),
        },
        None => text,
    }
}

struct Parts<'a> {
    scheme: Option<&'a str>,
    user_info: Option<&'a str>,
    host: &'a str,
    port: Option<u16>,
    path: &'a str,
    query: bool,
}

fn split(text: &str) -> Result<Parts<'_>, String> {
    let text = text.trim();
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    };
    let (rest, query) = match rest.split_once(['?', '#']) {
        Some((rest, _)) => (rest, true),
        None => (rest, false),
    };
    let path_at = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(path_at);
    let (user_info, address) = match authority.rsplit_once('@') {
        Some((user_info, address)) => (Some(user_info), address),
        None => (None, authority),
    };
    let (host, port) = match address.strip_prefix('[') {
        Some(after) => {
            let (host, rest) = after.split_once(']').ok_or("an IPv6 address needs both brackets")?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("this is not an IPv6 address in the brackets".into());
            }
            let port = match rest.strip_prefix(':') {
                None if rest.is_empty() => None,
                None => return Err("only :port may follow an IPv6 address".into()),
                Some(port) => Some(port),
            };
            (host, port)
        }
        None => match address.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err("an IPv6 address is written in brackets: [::1]:8088".into());
            }
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    let port = match port {
        None => None,
        Some(port) => match port.parse::<u16>() {
            Ok(port) if port > 0 => Some(port),
            _ => return Err("the port must be a number from 1 to 65535".into()),
        },
    };
    if host.is_empty() {
        return Err("the host is missing".into());
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
    if host.len() > 253 || !host.bytes().all(allowed) {
        return Err("the host may hold letters, digits, dots, - and _ only".into());
    }
    Ok(Parts { scheme, user_info, host, port, path, query })
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn write_address(f: &mut fmt::Formatter<'_>, scheme: &str, host: &str, port: u16) -> fmt::Result {
    write!(f, "{scheme}://{}:{port}", bracketed(host))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sls_endpoints_in_every_spelling() {
        let cases = [
            ("cn-hangzhou.log.aliyuncs.com", "https://cn-hangzhou.log.aliyuncs.com:443", false),
            ("https://cn-hangzhou.log.aliyuncs.com/", "https://cn-hangzhou.log.aliyuncs.com:443", false),
            ("http://cn-hangzhou.log.aliyuncs.com", "http://cn-hangzhou.log.aliyuncs.com:80", false),
            ("my-project.cn-hangzhou.log.aliyuncs.com", "https://cn-hangzhou.log.aliyuncs.com:443", false),
            ("https://h:8443/", "https://h:8443", false),
            ("127.0.0.1:8080", "https://127.0.0.1:8080", true),
            ("http://localhost:9000", "http://localhost:9000", true),
            ("http://[::1]:9000", "http://[::1]:9000", true),
        ];
        for (text, want, direct) in cases {
            let (endpoint, note) = parse_endpoint(text, "my-project").unwrap();
            assert_eq!(endpoint.to_string(), want, "{text}");
            assert_eq!(endpoint.is_ip_or_localhost, direct, "{text}");
            assert_eq!(note.is_some(), text.starts_with("my-project."), "{text}");
        }
        let (endpoint, _) = parse_endpoint("http://127.0.0.1:9000", "p").unwrap();
        assert_eq!(
            (endpoint.host_header("p"), endpoint.connect_host("p")),
            ("p.127.0.0.1:9000".into(), "127.0.0.1".into())
        );
        let (endpoint, _) = parse_endpoint("h.com", "p").unwrap();
        assert_eq!(
            (endpoint.host_header("p"), endpoint.connect_host("p")),
            ("p.h.com".into(), "p.h.com".into())
        );
        for bad in
            ["", "ftp://h", "h/path", "u:p@h", "h:0", "h:70000", "::1", "h h", "https://", "[::1", "[x]:1"]
        {
            assert!(parse_endpoint(bad, "p").is_err(), "{bad}");
        }
    }

    #[test]
    fn hec_urls_in_every_spelling() {
        for text in [
            "https://h:8088",
            "h",
            "h:8088/",
            "https://h/",
            "https://h:8088/services/collector",
            "https://h:8088/services/collector/",
            "https://h:8088/services/collector/event",
            "https://H:8088/services/collector/event/1.0/",
        ] {
            assert_eq!(parse_hec(text).unwrap().to_string(), "https://h:8088", "{text}");
        }
        assert_eq!(parse_hec("http://h:80/gw/services/collector").unwrap().to_string(), "http://h:80/gw");
        for bad in [
            "",
            "tcp://h",
            "https://h/services/collector/raw",
            "https://h/x",
            "https://h?token=s",
            "https://u:s@h",
        ] {
            let error = parse_hec(bad).unwrap_err();
            assert!(!error.contains("token=s") && !error.contains("u:s"), "{error}");
        }
    }

    #[test]
    fn syslog_targets() {
        for (text, want) in [
            ("tls://siem", "tls://siem:6514"),
            ("tcp://siem:601", "tcp://siem:601"),
            ("udp://siem", "udp://siem:514"),
            ("relp://siem", "relp://siem:2514"),
            ("relp+tls://siem:20514/", "relp+tls://siem:20514"),
        ] {
            assert_eq!(parse_syslog(text).unwrap().to_string(), want);
        }
        assert!(parse_syslog("siem:514").unwrap_err().contains("scheme is missing"));
        assert!(parse_syslog("https://siem").is_err());
    }

    #[test]
    fn messages_never_repeat_passwords() {
        assert_eq!(masked("https://u:pw@h:1/x?token=t"), "https://***@h:1/x?***");
        assert_eq!(masked("u:pw@h"), "***@h");
        assert_eq!(masked("https:/u:pw@h"), "***@h");
        assert_eq!(masked("https://h"), "https://h");
        let proxy = parse_proxy("http://u:pw@proxy:3128").unwrap();
        assert!(!format!("{proxy:?} {proxy}").contains("pw"));
        assert_eq!(proxy.to_string(), "http://proxy:3128");
    }

    proptest! {
        /// No text makes the parsers panic, and what they take is written as they would take it again.
        #[test]
        fn any_text(text in ".{0,40}") {
            if let Ok((endpoint, _)) = parse_endpoint(&text, "p") {
                prop_assert_eq!(parse_endpoint(&endpoint.to_string(), "").unwrap().0, endpoint);
            }
            if let Ok(hec) = parse_hec(&text) {
                prop_assert_eq!(&parse_hec(&format!("{hec}/services/collector")).unwrap(), &hec);
            }
            let _ = (parse_syslog(&text), parse_proxy(&text), masked(&text));
        }
    }
}
