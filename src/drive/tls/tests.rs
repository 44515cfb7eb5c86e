use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::ServerConnection;
use rustls::server::WebPkiClientVerifier;

use super::*;

/// A private CA with one server certificate and one client certificate, on disk as PEM.
struct Pki {
    dir: tempfile::TempDir,
    server_der: CertificateDer<'static>,
    server_key: Vec<u8>,
    ca: CertificateDer<'static>,
}

impl Pki {
    fn new(names: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = format!("test root {}", dir.path().display());
        params.distinguished_name.push(DnType::CommonName, root);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut leaf =
            CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        leaf.distinguished_name.push(DnType::CommonName, "sink under test");
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        std::fs::write(dir.path().join("cert.pem"), leaf.pem()).unwrap();
        std::fs::write(dir.path().join("key.pem"), key.serialize_pem()).unwrap();
        let ca = issuer.der().clone();
        Self { dir, server_der: leaf.der().clone(), server_key: key.serialize_der(), ca }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn spec(&self, verify: Verify) -> TlsSpec {
        TlsSpec { ca_file: Some(self.path("ca.pem")), verify, ..TlsSpec::default() }
    }

    fn server(
        &self,
        client_auth: bool,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> ServerConnection {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap();
        let builder = if client_auth {
            let mut roots = RootCertStore::empty();
            roots.add(self.ca.clone()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::try_from(self.server_key.clone()).unwrap();
        let config = builder.with_single_cert(vec![self.server_der.clone()], key).unwrap();
        ServerConnection::new(Arc::new(config)).unwrap()
    }
}

/// Carries bytes between both ends until neither has any; `step` bytes at a time to the client.
/// Returns what the client and what the server read.
fn shake(
    client: &mut Session,
    server: &mut ServerConnection,
    step: usize,
) -> Result<(Vec<u8>, Vec<u8>), Closed> {
    let (mut plain, mut heard) = (Vec::new(), Vec::new());
    loop {
        let mut wire = Vec::new();
        client.drain_into(&mut wire);
        let mut rest = &wire[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            if server.process_new_packets().is_err() {
                break;
            }
            let _ = server.reader().read_to_end(&mut heard);
        }
        let mut back = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut back).unwrap();
        }
        if wire.is_empty() && back.is_empty() {
            return Ok((plain, heard));
        }
        for piece in back.chunks(step) {
            client.open(piece, &mut plain)?;
        }
    }
}

fn connect(spec: &TlsSpec, name: &str, mut server: ServerConnection) -> Result<(), Closed> {
    let mut client = Client::new(spec, name).unwrap().session()?;
    shake(&mut client, &mut server, 1)?;
    assert!(!client.is_handshaking());
    let text = b"data both ways".repeat(4_000);
    assert_eq!(client.seal(&text), text.len());
    let (_, heard) = shake(&mut client, &mut server, 16_384)?;
    assert_eq!(heard, text);
    server.writer().write_all(&text).unwrap();
    server.send_close_notify();
    let (plain, _) = shake(&mut client, &mut server, 1_000)?;
    assert_eq!(plain, text);
    assert!(client.is_ended());
    Ok(())
}

#[test]
fn full_verification_takes_the_right_name_only() {
    let pki = Pki::new(&["siem.example", "127.0.0.1"]);
    for version in [&version::TLS13, &version::TLS12] {
        connect(&pki.spec(Verify::Full), "siem.example", pki.server(false, version)).unwrap();
        connect(&pki.spec(Verify::Full), "127.0.0.1", pki.server(false, version)).unwrap();
        let closed =
            connect(&pki.spec(Verify::Full), "other.example", pki.server(false, version)).unwrap_err();
        assert_eq!(closed.kind, ClosedKind::Tls);
        assert!(closed.detail.starts_with("certificate not trusted: "), "{}", closed.detail);
        assert!(closed.detail.contains("other.example"), "{}", closed.detail);
        connect(&pki.spec(Verify::Ca), "other.example", pki.server(false, version)).unwrap();
    }
}

/// What `openssl req -x509` makes: it may sign others, and it is the server's own.
#[test]
fn a_certificate_that_signs_itself_is_trusted_where_the_file_names_it_and_nowhere_else() {
    let signs_itself = |years: std::ops::Range<i32>| {
        let mut pki = Pki::new(&["siem.example"]);
        let mut params = CertificateParams::new(vec!["siem.example".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap();
        (pki.server_der, pki.server_key) = (own.der().clone(), key.serialize_der());
        (pki, own.pem())
    };
    let (pki, pem) = signs_itself(2020..2120);
    let (full, ca) = (pki.spec(Verify::Full), pki.spec(Verify::Ca));
    let foreign = connect(&full, "siem.example", pki.server(false, &version::TLS13)).unwrap_err();
    assert!(foreign.detail.starts_with("certificate not trusted: "), "{}", foreign.detail);
    std::fs::write(pki.path("ca.pem"), pem).unwrap();
    for version in [&version::TLS13, &version::TLS12] {
        connect(&full, "siem.example", pki.server(false, version)).unwrap();
        connect(&ca, "other.example", pki.server(false, version)).unwrap();
        connect(&full, "other.example", pki.server(false, version)).unwrap_err();
    }
    let (old, pem) = signs_itself(2020..2021);
    std::fs::write(old.path("ca.pem"), pem).unwrap();
    let closed = connect(&old.spec(Verify::Ca), "siem.example", old.server(false, &version::TLS13));
    assert!(closed.unwrap_err().detail.contains("expired"));
}

#[test]
fn unknown_issuer_is_named() {
    let (pki, other) = (Pki::new(&["siem.example"]), Pki::new(&["siem.example"]));
    for verify in [Verify::Full, Verify::Ca] {
        let closed =
            connect(&other.spec(verify), "siem.example", pki.server(false, &version::TLS13)).unwrap_err();
        let digest = cert::fingerprint_text(&cert::fingerprint(&pki.server_der));
        for part in ["UnknownIssuer", "subject CN=sink under test", "issuer CN=test root ", &digest] {
            assert!(closed.detail.contains(part), "{part} is missing in {}", closed.detail);
        }
    }
}

#[test]
fn fingerprint_and_off_need_no_roots() {
    let pki = Pki::new(&["siem.example"]);
    let right = cert::fingerprint(&pki.server_der);
    let spec = |verify| TlsSpec { verify, ..TlsSpec::default() };
    connect(&spec(Verify::Fingerprint(vec![[7; 32], right])), "x", pki.server(false, &version::TLS13))
        .unwrap();
    connect(&spec(Verify::Off), "x", pki.server(false, &version::TLS12)).unwrap();
    let closed =
        connect(&spec(Verify::Fingerprint(vec![[7; 32], [8; 32]])), "x", pki.server(false, &version::TLS12))
            .unwrap_err();
    assert!(closed.detail.starts_with("certificate does not have the fingerprint"), "{}", closed.detail);
    assert!(closed.detail.contains(&cert::fingerprint_text(&right)), "{}", closed.detail);
}

#[test]
fn client_certificate_is_shown() {
    let pki = Pki::new(&["siem.example"]);
    let mut spec = pki.spec(Verify::Full);
    spec.client_cert = Some(pki.path("cert.pem"));
    assert!(matches!(Client::new(&spec, "siem.example"), Err(TlsError::HalfIdentity)));
    spec.client_key = Some(pki.path("key.pem"));
    let mut client = Client::new(&spec, "siem.example").unwrap().session().unwrap();
    let mut server = pki.server(true, &version::TLS13);
    // The leaf has no client-auth usage limits, so the private CA accepts it for either side.
    shake(&mut client, &mut server, 100).unwrap();
    assert!(server.peer_certificates().is_some_and(|chain| chain[0] == pki.server_der));
    let mut nobody = Client::new(&pki.spec(Verify::Full), "siem.example").unwrap().session().unwrap();
    let closed = shake(&mut nobody, &mut pki.server(true, &version::TLS13), 100).unwrap_err();
    assert!(closed.detail.contains("CertificateRequired"), "{}", closed.detail);
}

#[test]
fn a_peer_without_tls_is_named() {
    let pki = Pki::new(&["siem.example"]);
    let mut client = Client::new(&pki.spec(Verify::Full), "siem.example").unwrap().session().unwrap();
    let closed = client.open(b"HTTP/1.1 400 Bad Request\r\n\r\n", &mut Vec::new()).unwrap_err();
    assert!(closed.detail.starts_with("the peer does not speak TLS here"), "{}", closed.detail);
}

#[test]
fn sealed_bytes_are_bounded() {
    let pki = Pki::new(&["siem.example"]);
    let mut client = Client::new(&pki.spec(Verify::Full), "siem.example").unwrap().session().unwrap();
    shake(&mut client, &mut pki.server(false, &version::TLS13), 1_000).unwrap();
    let mut sealed = 0;
    for _ in 0..100 {
        sealed += client.seal(&vec![b'x'; 100_000]);
    }
    assert!((256 * 1024..=SENDABLE_BYTES_MAX).contains(&sealed), "{sealed}");
}

#[test]
fn bad_files_are_named_with_their_cause() {
    let pki = Pki::new(&["siem.example"]);
    std::fs::write(pki.path("empty.pem"), "nothing here").unwrap();
    let with = |ca: &str| TlsSpec { ca_file: Some(pki.path(ca)), ..TlsSpec::default() };
    let text = |spec: &TlsSpec| Client::new(spec, "siem.example").unwrap_err().to_string();
    assert!(text(&with("missing.pem")).contains("missing.pem"), "{}", text(&with("missing.pem")));
    assert!(text(&with("missing.pem")).contains("No such file"), "{}", text(&with("missing.pem")));
    assert!(text(&with("empty.pem")).contains("holds no certificate"), "{}", text(&with("empty.pem")));
    let wrong_key = Pki::new(&["siem.example"]);
    let mut spec = pki.spec(Verify::Full);
    spec.client_cert = Some(pki.path("cert.pem"));
    spec.client_key = Some(wrong_key.path("key.pem"));
    assert!(text(&spec).contains("do not fit"), "{}", text(&spec));
    assert!(Client::new(&pki.spec(Verify::Full), "a b").is_err());
}
