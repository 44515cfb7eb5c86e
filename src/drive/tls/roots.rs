//! Certificates in files, and the trust roots among them: of the settings and of the system.
//!
//! Why: both planes read them, and both have to tell a wrong file from a system that could not read it just then.
//! Invariants: 1. that a shortage hid all roots does not pass for a system without any.
//! Bounds: the system's roots are read once. Driven by: [`super::Client`], the SLS client of the control plane.
//! Spec: PEM is RFC 7468.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls_native_certs::{CertificateResult, ErrorKind};

use super::{TlsError, TlsSpec, Verify};
use crate::shortage::shortage;

pub(super) fn roots(spec: &TlsSpec) -> Result<Arc<RootCertStore>, TlsError> {
    if !matches!(spec.verify, Verify::Full | Verify::Ca) {
        return Ok(Arc::new(RootCertStore::empty()));
    }
    let (system, trouble) = system_roots()?;
    let Some(path) = &spec.ca_file else {
        return if system.is_empty() { Err(TlsError::NoRoots { detail: trouble }) } else { Ok(system) };
    };
    let mut roots = RootCertStore::clone(&system);
    for root in certificates("ca_file", path)? {
        roots.add(root).map_err(|source| TlsError::Root { path: path.clone(), source })?;
    }
    Ok(Arc::new(roots))
}

/// The trust roots of the system, and why there may be none.
fn system_roots() -> Result<(Arc<RootCertStore>, String), TlsError> {
    static KNOWN: OnceLock<(Arc<RootCertStore>, String)> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(known.clone());
    }
    let found = native_roots()?;
    let trouble = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    Ok(KNOWN.get_or_init(|| (Arc::new(roots), trouble)).clone())
}

/// What the system trusts. Nothing at all because of a shortage is not "nothing": it would be missed for as long as the
/// process lives.
pub(crate) fn native_roots() -> Result<CertificateResult, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    if !found.certs.is_empty() {
        return Ok(found);
    }
    let short = found.errors.iter().find_map(|error| match &error.kind {
        ErrorKind::Io { inner, .. } => Some((error, shortage(inner)?)),
        ErrorKind::Pem(source) => Some((error, pem_shortage(source)?)),
        _ => None,
    });
    match short {
        Some((error, todo)) => Err(TlsError::RootsUnread { detail: error.to_string(), todo }),
        None => Ok(found),
    }
}

pub(super) fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::unread(what, path, source);
    let found: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    if found.is_empty() {
        return Err(TlsError::Empty { what, path: path.to_owned() });
    }
    Ok(found)
}

/// What helps where the system was too short of something to read a PEM file.
pub(crate) fn pem_shortage(error: &pem::Error) -> Option<&'static str> {
    match error {
        pem::Error::Io(error) => shortage(error),
        _ => None,
    }
}
