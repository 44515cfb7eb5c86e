//! A TLS client that takes every certificate, keeps what was shown, and judges it afterwards.
//!
//! Why: a handshake that is refused tells one reason; an operator who sets a connection up needs all of them: what
//! was shown, until when it is valid, which `verify` would take it, and the fingerprint that pins it.
//! Invariants: 1. nothing secret is sent over such a session: it is for looking only. 2. the verdicts come from the
//! same code that judges real connections.
//! Bounds: the chain is as long as rustls takes it.
//! Driven by: `check`, by way of [`crate::drive::peer`]. Spec: RFC 5280, RFC 8446.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

use super::{Client, Judge, Session, TlsError, TlsSpec, Verify, cert, refused};

/// What a peer showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its own certificate first.
    pub chain: Vec<Certificate>,
    /// Such as `TLS 1.3, AES-256-GCM`, in the words of rustls.
    pub agreed: String,
    /// What `verify = "full"` says.
    pub full: Result<(), String>,
    /// What `verify = "ca"` says.
    pub ca: Result<(), String>,
}

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Subject, issuer and fingerprint, for people.
    pub text: String,
    /// SHA-256 of it.
    pub fingerprint: [u8; 32],
    /// Unix seconds from which on and until when it is valid, where that can be read.
    pub valid: Option<(u64, u64)>,
}

/// A look at one peer.
#[derive(Debug)]
pub struct Look {
    client: Client,
    spec: TlsSpec,
    shown: Arc<OnceLock<Vec<CertificateDer<'static>>>>,
}

impl Look {
    /// A client certificate is shown where `spec` has one; its `verify` is not looked at.
    pub fn new(spec: &TlsSpec, server_name: &str) -> Result<Self, TlsError> {
        let shown = Arc::new(OnceLock::new());
        let open = TlsSpec { verify: Verify::Off, ca_file: None, ..spec.clone() };
        let recorder = |judge: Judge| Recorder { judge, shown: Arc::clone(&shown) };
        let client = Client::with_verifier(&open, server_name, |judge| Arc::new(recorder(judge)))?;
        Ok(Self { client, spec: spec.clone(), shown })
    }

    /// What begins the handshake.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What was shown; after a handshake with [`Self::client`].
    pub(crate) fn shown(&self, session: &Session) -> Result<Shown, TlsError> {
        let chain = self.shown.get().map(Vec::as_slice).unwrap_or_default();
        let verdict = |verify| -> Result<Result<(), String>, TlsError> {
            let Some((leaf, rest)) = chain.split_first() else {
                return Ok(Err("it showed no certificate".to_owned()));
            };
            let judge = Judge::new(&self.spec, verify, Arc::new(aws_lc_rs::default_provider()))?;
            let judged = judge.judge(leaf, rest, &self.client.name, UnixTime::now());
            Ok(judged.map_err(|error| refused(&error).detail))
        };
        Ok(Shown {
            chain: chain.iter().map(|der| Certificate::read(der)).collect(),
            agreed: session.agreed(),
            full: verdict(Verify::Full)?,
            ca: verdict(Verify::Ca)?,
        })
    }
}

impl Certificate {
    fn read(der: &[u8]) -> Self {
        let text = cert::describe(der);
        Self { text, fingerprint: cert::fingerprint(der), valid: cert::validity(der) }
    }
}

impl Session {
    /// Version and cipher suite, after the handshake.
    fn agreed(&self) -> String {
        let version = self.connection.protocol_version().map_or_else(String::new, |version| {
            version.as_str().unwrap_or("TLS of an unknown version").replace("TLSv", "TLS ").replace('_', ".")
        });
        let suite = self.connection.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
        format!("{version}, {}", suite.unwrap_or_else(|| "no cipher suite".to_owned()))
    }
}

/// Takes and keeps everything, but still wants the peer to prove that it holds the key.
#[derive(Debug)]
struct Recorder {
    judge: Judge,
    shown: Arc<OnceLock<Vec<CertificateDer<'static>>>>,
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let all = std::iter::once(leaf).chain(chain).map(|der| der.clone().into_owned()).collect();
        // A second handshake of the same look shows the same peer.
        let _first_stays = self.shown.set(all);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}
