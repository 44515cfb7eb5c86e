//! Carries out the calls of a lease over HTTP.
//!
//! Why: `proto` says what to ask and reads the answer; a blocking client with keep-alive is all that lies between.
//! Invariants: 1. a status other than 200 is an answer, not a broken call. 2. `Host` is signed and sent as
//! `project.endpoint`, whatever address is connected to. 3. no redirect is followed: it would be signed for another host.
//! 4. a broken keep-alive connection is tried once more on a fresh one: every call here may be repeated.
//! Bounds: connect [`CONNECT_TIMEOUT_MAX`], whole call [`CALL_TIMEOUT_MAX`], answers [`ANSWER_BYTES_MAX`].
//! Driven by: the caller threads of [`super::pipeline`]. Spec: SLS endpoint and Host rules, RFC 9110.

mod names;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject};
use secrecy::ExposeSecret;
use ureq::http;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Proxy, ProxyProtocol};

use self::names::{Names, NoAddress};
use crate::config::{Endpoint, ProxyUrl};
use crate::drive::tls::roots::{native_roots, pem_shortage};
use crate::drive::{TlsError, clock};
use crate::proto::event::{Closed, ClosedKind};
use crate::proto::sls::api::answer::{self, ANSWER_BYTES_MAX, AnswerError};
use crate::proto::sls::api::{self, ApiRequest, Caller};
use crate::proto::sls::error::SlsError;
use crate::proto::sls::lease::call::{Call, CallError, Reply};
use crate::proto::sls::sign::{Credentials, Version};

/// Where and as whom to call.
#[derive(Clone, Debug)]
pub struct ApiSpec {
    /// Where SLS is.
    pub endpoint: Endpoint,
    /// The project.
    pub project: String,
    /// The logstore.
    pub logstore: String,
    /// The consumer group.
    pub group: String,
    /// Our name in it.
    pub consumer: String,
    /// How requests are signed.
    pub version: Version,
    /// PEM file with trust roots beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// HTTP proxy in between.
    pub proxy: Option<ProxyUrl>,
    /// For a whole call; at most [`CALL_TIMEOUT_MAX`].
    pub call_timeout: Duration,
}

impl ApiSpec {
    /// Host, user agent and signature: the same for both planes.
    pub fn caller(&self) -> Caller {
        let host = self.bracketed_host();
        let Endpoint { https, port, .. } = self.endpoint;
        let endpoint = api::Endpoint { project: &self.project, host: &host, port, tls: https };
        Caller::new(&endpoint, &self.group, &self.consumer, self.version.clone())
    }

    /// The host as URLs and `Host` want it.
    fn bracketed_host(&self) -> String {
        let host = self.endpoint.host.as_str();
        if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
    }
}

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum ApiError {
    #[error(
        "[sls] ca_file {path:?} cannot be used: {detail} - give a PEM file with at least one certificate"
    )]
    CaFile { path: PathBuf, detail: String },
    #[error("[sls] ca_file {path:?} cannot be read: {source} - {todo}")]
    CaUnread { path: PathBuf, source: pem::Error, todo: &'static str },
    #[error(transparent)]
    RootsUnread(TlsError),
    #[error(
        "the system has no trust roots ({detail}) - install ca-certificates, set SSL_CERT_FILE, or give [sls] ca_file"
    )]
    NoRoots { detail: String },
    #[error("[sls] proxy cannot be used: {detail}")]
    Proxy { detail: String },
}

impl ApiError {
    /// The system was short of something; the settings may be right.
    pub fn is_shortage(&self) -> bool {
        matches!(self, Self::CaUnread { .. } | Self::RootsUnread(_))
    }
}

/// An answer of SLS, or of whoever answers in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    /// The body as it came.
    pub body: Vec<u8>,
}

impl Answer {
    /// Value of the first header of this name, which is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The answer, if it is a 200; else the error that it tells.
    pub fn into_good(self) -> Result<Self, CallError> {
        if self.status == http::StatusCode::OK.as_u16() {
            return Ok(self);
        }
        Err(CallError::Sls(SlsError::parse(self.status, |name| self.header(name), &self.body)))
    }
}

/// Makes calls. Clones share their connections.
#[derive(Clone, Debug)]
pub struct SlsApi {
    agent: Agent,
    names: Names,
    caller: Arc<Caller>,
    /// `https://host:port`, what is connected to.
    base: Arc<str>,
    logstore: Arc<str>,
    group: Arc<str>,
    consumer: Arc<str>,
}

impl SlsApi {
    /// Reads the trust roots; connects to nothing yet.
    pub fn new(spec: &ApiSpec) -> Result<Self, ApiError> {
        let Endpoint { https, port, is_ip_or_localhost, .. } = spec.endpoint;
        let caller = spec.caller();
        let call_timeout = spec.call_timeout.min(CALL_TIMEOUT_MAX);
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(call_timeout.min(CONNECT_TIMEOUT_MAX)))
            .timeout_global(Some(call_timeout))
            .max_idle_age(IDLE_MAX)
            .max_response_header_size(HEAD_BYTES_MAX)
            .input_buffer_size(BUFFER_BYTES)
            .accept("*/*")
            // The settings decide, as they do for the data plane, and not a variable of the environment.
            .proxy(spec.proxy.as_ref().map(proxy).transpose()?);
        if https {
            config = config.tls_config(tls(spec.ca_file.as_deref())?);
        }
        let scheme = if https { "https" } else { "http" };
        let host = spec.bracketed_host();
        let host = if is_ip_or_localhost { host } else { format!("{}.{host}", spec.project) };
        let names = Names::default();
        Ok(Self {
            agent: Agent::with_parts(config.build(), DefaultConnector::default(), names.clone()),
            names,
            caller: Arc::new(caller),
            base: format!("{scheme}://{host}:{port}").into(),
            logstore: spec.logstore.as_str().into(),
            group: spec.group.as_str().into(),
            consumer: spec.consumer.as_str().into(),
        })
    }

    /// Makes one call and waits for its answer.
    pub fn call(&self, call: &Call, credentials: &Credentials) -> Result<Reply, CallError> {
        let body = self.send(&self.request(call), credentials)?;
        let garbage = |error: AnswerError| CallError::not_understood(error.to_string());
        match call {
            Call::ListGroups => answer::groups(&body).map(Reply::Groups),
            Call::CreateGroup { .. } | Call::UpdateGroup { .. } | Call::UpdateCheckpoint { .. } => {
                Ok(Reply::Done)
            }
            Call::Heartbeat { .. } => answer::heartbeat(&body).map(Reply::Shards),
            Call::GetCheckpoint { shard } => answer::checkpoints(&body).map(|all| {
                let ours = all.into_iter().find(|checkpoint| checkpoint.shard == *shard);
                Reply::Checkpoint(
                    ours.map(|checkpoint| checkpoint.cursor).filter(|cursor| !cursor.is_empty()),
                )
            }),
            Call::GetCursor { .. } => answer::cursor(&body).map(Reply::Cursor),
            Call::GetCursorTime { .. } => answer::cursor_time(&body).map(Reply::CursorTime),
            Call::GetLogstore => answer::logstore(&body).map(|logstore| Reply::Retention(logstore.ttl_days)),
        }
        .map_err(garbage)
    }

    fn request(&self, call: &Call) -> ApiRequest {
        let (logstore, group, consumer) = (&*self.logstore, &*self.group, &*self.consumer);
        match call {
            Call::ListGroups => api::list_groups(logstore),
            Call::CreateGroup { timeout_secs, in_order } => {
                api::create_group(logstore, group, *timeout_secs, *in_order)
            }
            Call::UpdateGroup { timeout_secs, in_order } => {
                api::update_group(logstore, group, *timeout_secs, *in_order)
            }
            Call::Heartbeat { shards } => api::heartbeat(logstore, group, consumer, shards),
            Call::GetCheckpoint { shard } => api::get_checkpoint(logstore, group, Some(*shard)),
            Call::GetCursor { shard, from } => api::get_cursor(logstore, *shard, *from),
            Call::GetCursorTime { shard, cursor } => api::get_cursor_time(logstore, *shard, cursor),
            Call::GetLogstore => api::get_logstore(logstore),
            Call::UpdateCheckpoint { shard, cursor } => {
                api::update_checkpoint(logstore, group, consumer, *shard, cursor)
            }
        }
    }

    /// Sends a request, signed now; the body of a 200.
    pub fn send(&self, request: &ApiRequest, credentials: &Credentials) -> Result<Vec<u8>, CallError> {
        self.ask(request, credentials, ANSWER_BYTES_MAX)?.into_good().map(|answer| answer.body)
    }

    /// Sends a request, signed now; any answer with its headers, its body at most `bytes_max` long.
    pub fn ask(
        &self,
        request: &ApiRequest,
        credentials: &Credentials,
        bytes_max: usize,
    ) -> Result<Answer, CallError> {
        let mut answer = match self.exchange(request, credentials) {
            Err(error) if is_stale(&error) => self.exchange(request, credentials),
            answer => answer,
        }
        .map_err(|error| self.broken(&error))?;
        let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
        let body =
            answer.body_mut().with_config().limit(limit).read_to_vec().map_err(|error| broken(&error))?;
        let headers = answer.headers().iter();
        let headers =
            headers.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.into())));
        Ok(Answer { status: answer.status().as_u16(), headers: headers.collect(), body })
    }

    fn broken(&self, error: &ureq::Error) -> CallError {
        let error = broken(error);
        if matches!(&error, CallError::Transport { why: Closed { kind: ClosedKind::Connect, .. }, .. }) {
            self.names.suspect();
        }
        error
    }

    fn exchange(
        &self,
        request: &ApiRequest,
        credentials: &Credentials,
    ) -> Result<http::Response<ureq::Body>, ureq::Error> {
        let uri = format!("{}{}", self.base, request.target());
        let mut builder = http::Request::builder().method(request.method).uri(uri);
        for (name, value) in request.headers(&self.caller, credentials, clock::wall()) {
            builder = builder.header(name, value);
        }
        if request.body.is_empty() {
            self.agent.run(builder.body(())?)
        } else {
            self.agent.run(builder.body(request.body.as_slice())?)
        }
    }
}

fn proxy(url: &ProxyUrl) -> Result<Proxy, ApiError> {
    let mut builder = Proxy::builder(ProxyProtocol::Http).host(&url.host).port(url.port);
    if let Some(user_info) = url.user_info.as_ref().map(ExposeSecret::expose_secret) {
        let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
        builder = builder.username(user).password(password);
    }
    builder.build().map_err(|error| ApiError::Proxy { detail: error.to_string() })
}

/// The roots of the system and of the settings.
fn tls(ca_file: Option<&Path>) -> Result<TlsConfig, ApiError> {
    let system = native_roots().map_err(ApiError::RootsUnread)?;
    let mut roots: Vec<Certificate<'static>> =
        system.certs.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
    if let Some(path) = ca_file {
        let refused = |detail: String| ApiError::CaFile { path: path.to_owned(), detail };
        let own = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|source| match pem_shortage(&source) {
                Some(todo) => ApiError::CaUnread { path: path.to_owned(), source, todo },
                None => refused(source.to_string()),
            })?;
        if own.is_empty() {
            return Err(refused("no certificate in it".into()));
        }
        roots.extend(own.iter().map(|root| Certificate::from_der(root).to_owned()));
    }
    if roots.is_empty() {
        let detail = system.errors.first().map_or_else(|| "none found".into(), ToString::to_string);
        return Err(ApiError::NoRoots { detail });
    }
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .root_certs(RootCerts::new_with_certs(&roots))
        .build())
}

/// True where a kept connection had been closed by the peer meanwhile.
fn is_stale(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
        ),
        _ => false,
    }
}

fn broken(error: &ureq::Error) -> CallError {
    use ureq::Timeout;
    let kind = match error {
        ureq::Error::HostNotFound | ureq::Error::Timeout(Timeout::Resolve) => ClosedKind::Resolve,
        ureq::Error::ConnectionFailed | ureq::Error::ConnectProxyFailed(_) | ureq::Error::BadUri(_) => {
            ClosedKind::Connect
        }
        ureq::Error::Timeout(Timeout::Connect) => ClosedKind::Connect,
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => ClosedKind::Tls,
        ureq::Error::Timeout(_) => ClosedKind::Timeout,
        ureq::Error::Io(error) if NoAddress::is(error) => ClosedKind::Resolve,
        ureq::Error::Io(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::AddrNotAvailable => ClosedKind::Connect,
            // The TLS library hands its own errors through as these.
            io::ErrorKind::InvalidData => ClosedKind::Tls,
            io::ErrorKind::UnexpectedEof => ClosedKind::Eof,
            io::ErrorKind::TimedOut => ClosedKind::Timeout,
            _ => ClosedKind::Reset,
        },
        _ => ClosedKind::Reset,
    };
    let maybe_done = !matches!(kind, ClosedKind::Resolve | ClosedKind::Connect | ClosedKind::Tls);
    CallError::Transport { why: Closed { kind, detail: error.to_string() }, maybe_done }
}

/// Read buffer of a connection. ureq looks at the clock when it is empty, and takes the lines of a trailer out of its front one
/// by one, moving the rest: with its 128 KiB an endless trailer cost seconds of CPU before a deadline was noticed.
const BUFFER_BYTES: usize = 32 << 10;
/// Head of an answer; it has to fit into the buffer.
const HEAD_BYTES_MAX: usize = 24 << 10;
/// For DNS, TCP and TLS.
pub const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(5);
/// For everything from the name to the last byte of the answer.
pub const CALL_TIMEOUT_MAX: Duration = Duration::from_secs(10);
/// Servers and balancers close idle connections; ours are given up before that.
const IDLE_MAX: Duration = Duration::from_secs(12);

#[cfg(test)]
mod tests;
