//! TLS of the data plane: settings in, sessions out; bytes in, bytes out.
//!
//! Why: rustls is a state machine without I/O, so one file can hold all of it and `conn` only moves bytes.
//! A peer that is refused has to be named (subject, issuer, fingerprint), or nobody can repair it.
//! Invariants: 1. `Verify::Full` is the default; whatever is weaker was asked for by name.
//!  2. even without verification the peer proves that it holds the key of the certificate it shows.
//! Bounds: `SENDABLE_BYTES_MAX` of sealed records wait in a session; a received record is taken out at once.
//! Driven by: `Executors::open` makes [`Client`]s, `conn` drives sessions.
//! Spec: RFC 8446, RFC 5246; TLS 1.2 and 1.3 only. The buffered API of rustls: the unbuffered one is gone in 0.24.

pub mod cert;
pub mod look;
mod provider;
pub(crate) mod roots;

pub use self::provider::fastest;

use core::time::Duration;
use std::cell::RefCell;
use std::io::{self, BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore};
use rustls::{SignatureScheme, version};

use self::roots::{certificates, pem_shortage, roots};
use crate::proto::event::{Closed, ClosedKind};

/// Sealed and not yet written bytes that a session holds at most.
pub(crate) const SENDABLE_BYTES_MAX: usize = 320 * 1024;

/// How the peer's certificate is judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// Chain and name.
    #[default]
    Full,
    /// Chain only: the name is not compared.
    Ca,
    /// The certificate has exactly one of these SHA-256; nothing else counts.
    Fingerprint(Vec<[u8; 32]>),
    /// Whatever it shows is taken.
    Off,
}

/// Settings of one TLS client, as plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSpec {
    /// PEM file with trust roots beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// PEM file with our certificate chain.
    pub client_cert: Option<PathBuf>,
    /// PEM file with its key.
    pub client_key: Option<PathBuf>,
    /// How the peer's certificate is judged.
    pub verify: Verify,
}

/// Why a TLS client cannot be made from its settings.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum TlsError {
    #[error("cannot read {what} {path:?}: {source}")]
    Pem { what: &'static str, path: PathBuf, source: pem::Error },
    #[error("cannot read {what} {path:?}: {source} - {todo}")]
    Unread { what: &'static str, path: PathBuf, source: pem::Error, todo: &'static str },
    #[error("{what} {path:?} holds no certificate")]
    Empty { what: &'static str, path: PathBuf },
    #[error("ca_file {path:?} holds a certificate that cannot be a trust root: {source}")]
    Root { path: PathBuf, source: Error },
    #[error(
        "the system has no trust roots ({detail}) - install ca-certificates, set SSL_CERT_FILE, or give ca_file"
    )]
    NoRoots { detail: String },
    #[error("the trust roots of the system cannot be read ({detail}) - {todo}")]
    RootsUnread { detail: String, todo: &'static str },
    #[error("client_cert and client_key have to be given together")]
    HalfIdentity,
    #[error("client_cert {path:?} and its client_key do not fit: {source}")]
    Identity { path: PathBuf, source: Error },
    #[error("{name:?} is neither a host name nor an address, so it cannot be compared with a certificate")]
    ServerName { name: String },
    #[error("the TLS library refused the settings: {0}")]
    Library(#[from] Error),
}

impl TlsError {
    /// The system was short of something; the settings may be right.
    pub fn is_shortage(&self) -> bool {
        matches!(self, Self::Unread { .. } | Self::RootsUnread { .. })
    }

    fn unread(what: &'static str, path: &Path, source: pem::Error) -> Self {
        let path = path.to_owned();
        match pem_shortage(&source) {
            Some(todo) => Self::Unread { what, path, source, todo },
            None => Self::Pem { what, path, source },
        }
    }
}

/// Makes sessions to one peer; holds its session tickets.
#[derive(Clone, Debug)]
pub struct Client {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Client {
    /// Reads the files that `spec` names. `server_name` is what the certificate has to be for.
    pub fn new(spec: &TlsSpec, server_name: &str) -> Result<Self, TlsError> {
        Self::with_verifier(spec, server_name, |judge| Arc::new(judge))
    }

    fn with_verifier(
        spec: &TlsSpec,
        server_name: &str,
        verifier: impl FnOnce(Judge) -> Arc<dyn ServerCertVerifier>,
    ) -> Result<Self, TlsError> {
        let name = ServerName::try_from(server_name.trim_matches(['[', ']']).to_owned())
            .map_err(|_| TlsError::ServerName { name: server_name.to_owned() })?;
        let provider = Arc::new(fastest());
        let judge = Judge::new(spec, spec.verify.clone(), Arc::clone(&provider))?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
            .dangerous()
            .with_custom_certificate_verifier(verifier(judge));
        let config = match (&spec.client_cert, &spec.client_key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(cert), Some(key)) => {
                let chain = certificates("client_cert", cert)?;
                let key = PrivateKeyDer::from_pem_file(key)
                    .map_err(|source| TlsError::unread("client_key", key, source))?;
                let mut config = builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|source| TlsError::Identity { path: cert.clone(), source })?;
                // A server on OpenSSL that asks for certificates and names no session context, such as rsyslog, offers
                // tickets and answers each of them with the alert InternalError.
                config.resumption = Resumption::disabled();
                config
            }
            _ => return Err(TlsError::HalfIdentity),
        };
        Ok(Self { config: Arc::new(config), name })
    }

    /// Begins a session.
    pub(crate) fn session(&self) -> Result<Session, Closed> {
        let mut connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .map_err(|error| refused(&error))?;
        connection.set_buffer_limit(Some(SENDABLE_BYTES_MAX));
        Ok(Session { connection, ended: false })
    }
}

/// One TLS session; bytes only.
pub(crate) struct Session {
    connection: ClientConnection,
    ended: bool,
}

impl Session {
    /// True until application data may be sent.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// True where [`Self::drain_into`] has something to give.
    pub(crate) fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// True after the peer's `close_notify`.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Seals as much of `plain` as there is room for; returns how much.
    pub(crate) fn seal(&mut self, plain: &[u8]) -> usize {
        self.connection.writer().write(plain).unwrap_or(0)
    }

    /// Appends everything that has to go to the peer.
    pub(crate) fn drain_into(&mut self, wire: &mut Vec<u8>) {
        while self.connection.wants_write() {
            // Writing into a Vec cannot fail.
            if !matches!(self.connection.write_tls(wire), Ok(1..)) {
                break;
            }
        }
    }

    /// Gives what has to go to the peer to `wire`, from where it was sealed; returns how much it took, or its error.
    pub(crate) fn write_to(&mut self, wire: &mut dyn io::Write) -> io::Result<usize> {
        if self.connection.wants_write() { self.connection.write_tls(wire) } else { Ok(0) }
    }

    /// Takes bytes of the peer and appends what they say to `plain`.
    pub(crate) fn open(&mut self, mut wire: &[u8], plain: &mut Vec<u8>) -> Result<(), Closed> {
        LAST_REFUSED.with_borrow_mut(Option::take);
        self.take_plain(plain);
        while !wire.is_empty() {
            let taken = self.connection.read_tls(&mut wire).map_err(|error| Closed {
                kind: ClosedKind::Tls,
                detail: format!("a TLS record is too large: {error}"),
            })?;
            let state = self.connection.process_new_packets().map_err(|error| refused(&error))?;
            self.take_plain(plain);
            self.ended |= state.peer_has_closed();
            if taken == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Tells the peer that nothing follows.
    pub(crate) fn end(&mut self) {
        self.connection.send_close_notify();
    }

    fn take_plain(&mut self, plain: &mut Vec<u8>) {
        let mut reader = self.connection.reader();
        while let Ok(chunk) = reader.fill_buf() {
            let bytes = chunk.len();
            if bytes == 0 {
                break;
            }
            plain.extend_from_slice(chunk);
            reader.consume(bytes);
        }
    }
}

/// Judges certificates.
#[derive(Debug)]
struct Judge {
    roots: Arc<RootCertStore>,
    /// The certificates of `ca_file` as they stand there.
    named: Vec<CertificateDer<'static>>,
    verify: Verify,
    provider: Arc<CryptoProvider>,
}

thread_local! {
    /// The certificate that was refused last on this thread: rustls has no room for it in its error.
    static LAST_REFUSED: RefCell<Option<String>> = const { RefCell::new(None) };
}

impl Judge {
    fn new(spec: &TlsSpec, verify: Verify, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let spec = TlsSpec { verify: verify.clone(), ..spec.clone() };
        let named = match (&spec.ca_file, &verify) {
            (Some(path), Verify::Full | Verify::Ca) => certificates("ca_file", path)?,
            _ => Vec::new(),
        };
        Ok(Self { roots: roots(&spec)?, named, verify, provider })
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        match &self.verify {
            Verify::Off => Ok(()),
            Verify::Fingerprint(known) if known.contains(&cert::fingerprint(leaf)) => Ok(()),
            Verify::Fingerprint(_) => {
                Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
            Verify::Ca | Verify::Full => {
                let parsed = ParsedCertificate::try_from(leaf)?;
                // A certificate that signs itself is often both: the server's and the one to trust. webpki takes no
                // authority in a server's place; where the file names this very certificate, it is what was meant, and
                // only its time is left to be looked at.
                if self.named.iter().any(|known| known.as_ref() == leaf.as_ref()) {
                    is_current(leaf, now)?;
                } else {
                    let algorithms = self.provider.signature_verification_algorithms.all;
                    verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, chain, now, algorithms)?;
                }
                if self.verify == Verify::Full { verify_server_name(&parsed, name) } else { Ok(()) }
            }
        }
    }
}

/// An error outside of the time that the certificate is valid for.
fn is_current(leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let (from, until) =
        cert::validity(leaf).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let at = |secs: u64| UnixTime::since_unix_epoch(Duration::from_secs(secs));
    let wrong = match now.as_secs() {
        secs if secs < from => CertificateError::NotValidYetContext { time: now, not_before: at(from) },
        secs if secs > until => CertificateError::ExpiredContext { time: now, not_after: at(until) },
        _ => return Ok(()),
    };
    Err(Error::InvalidCertificate(wrong))
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.judge(leaf, chain, name, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(error) => {
                LAST_REFUSED.set(Some(cert::describe(leaf)));
                Err(error)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Words an error of rustls for the operator.
fn refused(error: &Error) -> Closed {
    let detail = match (error, LAST_REFUSED.with_borrow_mut(Option::take)) {
        (Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure), Some(seen)) => {
            format!("certificate does not have the fingerprint in the settings: {seen}")
        }
        (Error::InvalidCertificate(cause), Some(seen)) => {
            format!("certificate not trusted: {cause} ({seen})")
        }
        (Error::InvalidMessage(_), _) => {
            format!("the peer does not speak TLS here: {error}")
        }
        (Error::AlertReceived(alert), _) => format!("the peer refused the handshake: alert {alert:?}"),
        (error, _) => error.to_string(),
    };
    Closed { kind: ClosedKind::Tls, detail }
}

#[cfg(test)]
mod tests;
