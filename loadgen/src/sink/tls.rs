//! Certificates and TLS streams of the sinks.
//!
//! Why: every sink is reached over TLS in earnest, and a certificate that fails the name check is splunkd's default.
//! Invariants: each server makes its own authority; nothing is written to disk.   Bounds: none.
//! Driven by: the sinks' listeners.   Spec: hec.md 8.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// How a sink does TLS.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings {
    /// Offers TLS 1.2 only, as splunkd does.
    pub only_12: bool,
    /// Shows a certificate like splunkd's default one: no names, so that name checks fail.
    pub splunk_default: bool,
    /// Asks for a client certificate of this server's authority.
    pub require_client: bool,
    /// Names and addresses beside `localhost`, 127.0.0.1 and `::1`.
    pub names: Vec<String>,
}

/// The server's configuration and what a client needs to reach it.
#[derive(Clone)]
pub struct Identity {
    /// For the acceptor.
    pub config: Arc<ServerConfig>,
    /// The authority's certificate.
    pub ca_pem: String,
    /// A client certificate of the same authority, with its key.
    pub client_pem: (String, String),
}

impl Identity {
    /// Makes an authority, a server certificate and a client certificate.
    pub fn new(settings: &TlsSettings) -> Result<Self> {
        let ca = authority(settings.splunk_default)?;
        let key = KeyPair::generate()?;
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut params = CertificateParams::new(if settings.splunk_default {
            Vec::new()
        } else {
            names.into_iter().chain(settings.names.iter().cloned()).collect()
        })?;
        let name = if settings.splunk_default { "SplunkServerDefaultCert" } else { "loadgen" };
        params.distinguished_name.push(DnType::CommonName, name);
        if settings.splunk_default {
            params.distinguished_name.push(DnType::OrganizationName, "SplunkUser");
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &ca)?;

        let client_key = KeyPair::generate()?;
        let mut client = CertificateParams::new(Vec::new())?;
        client.distinguished_name.push(DnType::CommonName, "loadgen client");
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let client_certificate = client.signed_by(&client_key, &ca)?;

        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions: &[&SupportedProtocolVersion] =
            if settings.only_12 { &[&rustls::version::TLS12] } else { rustls::DEFAULT_VERSIONS };
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions)?;
        let builder = if settings.require_client {
            let mut roots = RootCertStore::empty();
            roots.add(ca.der().clone())?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let chain = vec![certificate.der().clone(), ca.der().clone()];
        let config = builder.with_single_cert(chain, PrivateKeyDer::Pkcs8(key.serialize_der().into()))?;
        Ok(Self {
            config: Arc::new(config),
            ca_pem: ca.pem(),
            client_pem: (client_certificate.pem(), client_key.serialize_pem()),
        })
    }
}

fn authority(splunk_default: bool) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::new(Vec::new())?;
    let name = if splunk_default { "SplunkCommonCA" } else { "loadgen authority" };
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

/// A connection with or without TLS.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Makes the close that follows a reset: the peer reads ECONNRESET.
    pub fn reset_on_close(&self) {
        let tcp = match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        };
        // Without it the close is an orderly one, which the peer must survive as well.
        let _ = tcp.set_zero_linger();
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
        }
    }
}
