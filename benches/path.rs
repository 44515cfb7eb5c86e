//! A pull's whole way in one thread, stage by stage and all together, beside the floor of this machine.
//!
//! `cargo bench --bench path`. Times are of this thread's CPU clock, per pull of half a megabyte of raw logs. The last
//! lines say what the path costs in units of the floor, and what the plain way (prost, `serde_json`) costs. The floor is that
//! of its stages one after the other, as data goes through them; each alone finds its bytes in the nearest cache.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "a bench"
)]

use std::hint::black_box;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use criterion::measurement::Measurement as _;
use criterion::{Criterion, Throughput, criterion_group};
use prost::Message as _;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use sls2siem::proto::format::Encoder;
use sls2siem::proto::format::hec::{HecEncoder, HecParams, RecordContext};
use sls2siem::proto::format::syslog::{MessageForm, SyslogEncoder, SyslogParams};
use sls2siem::proto::format::template::Template;
use sls2siem::proto::ids::{Cursor, ShardId};
use sls2siem::proto::sls::body::{Compression, Decompressor};
use sls2siem::proto::sls::wire::{Position, Tails, survey};

#[allow(dead_code, unreachable_pub, reason = "shared with the other benches")]
mod corpus;
#[allow(unreachable_pub, reason = "a part of this bench")]
mod floor;
use corpus::{CpuTime, Profile};
use floor::Aead;

const RAW_BYTES: usize = 512 << 10;
/// Half a megabyte each so often are 10 MB/s.
const PAUSE: Duration = Duration::from_millis(50);

/// The formats whose way is measured: HEC, and RFC 5424 with octet counts around JSON and around pairs.
type Form = (&'static str, fn() -> Encoder);

const FORMS: [Form; 3] = [("hec", hec), ("syslog json", syslog_json), ("syslog kv", syslog_kv)];

fn hec() -> Encoder {
    let host = Template::parse("{__source__}").unwrap();
    Encoder::Hec(HecEncoder::new(HecParams { host, ..HecParams::default() }))
}

fn syslog_json() -> Encoder {
    syslog(MessageForm::Json)
}

fn syslog_kv() -> Encoder {
    syslog(MessageForm::Kv("||".to_owned()))
}

fn syslog(message: MessageForm) -> Encoder {
    let hostname = Template::parse("{__source__}").unwrap();
    let app_name = Template::parse("{__topic__}").unwrap();
    let params = SyslogParams { message, hostname, app_name, ..SyslogParams::default() };
    Encoder::Syslog(Box::new(SyslogEncoder::new(params).unwrap()))
}

/// Everything between a compressed body and sealed records, with its buffers.
struct Path {
    compressed: Vec<u8>,
    raw_bytes: usize,
    decompressor: Decompressor,
    raw: Vec<u8>,
    encoder: Encoder,
    cursor: Cursor,
    frame: Vec<u8>,
    packed: Vec<u8>,
    tls: ClientConnection,
}

impl Path {
    fn new(encoder: Encoder) -> Self {
        let body = corpus::body(Profile::Access, RAW_BYTES);
        Self {
            compressed: lz4_flex::block::compress(&body),
            raw_bytes: body.len(),
            decompressor: Decompressor::default(),
            raw: Vec::new(),
            encoder,
            cursor: Cursor::new("MTcwMDAwMDAwMDAwMDAwMDAwMA=="),
            frame: Vec::with_capacity(2 * body.len()),
            packed: Vec::new(),
            tls: session(),
        }
    }

    fn decompress(&mut self) {
        self.decompressor
            .decompress(Compression::Lz4, &self.compressed, self.raw_bytes, 64 << 20, &mut self.raw)
            .unwrap();
    }

    fn transcode(&mut self) {
        let mut tails = Tails::default();
        black_box(survey(&self.raw, &mut tails).unwrap());
        let mut at = Position::with(tails);
        let context = RecordContext { shard: ShardId(0), cursor: &self.cursor };
        self.frame.clear();
        let limit = usize::MAX;
        self.encoder.encode(&self.raw, &mut at, u32::MAX, limit, &context, &mut self.frame).unwrap();
    }

    /// Seals the frame and gives the records to `wire`, a quarter of a megabyte at a time, as the driver does.
    fn seal(&mut self, wire: &mut impl io::Write) {
        seal(&mut self.tls, &self.frame, wire);
    }

    fn gzip(&mut self) {
        gzip(&self.frame, &mut self.packed);
    }

    fn seal_packed(&mut self) {
        seal(&mut self.tls, &self.packed, &mut Nowhere);
    }

    fn memory_with_gzip(&mut self) {
        self.decompress();
        self.transcode();
        self.gzip();
        self.seal_packed();
    }

    fn memory(&mut self) {
        self.decompress();
        self.transcode();
        self.seal(&mut Nowhere);
    }
}

fn seal(tls: &mut ClientConnection, bytes: &[u8], wire: &mut impl io::Write) {
    for piece in bytes.chunks(256 << 10) {
        tls.writer().write_all(piece).unwrap();
        while tls.wants_write() {
            tls.write_tls(wire).unwrap();
        }
    }
}

/// Takes everything.
struct Nowhere;

impl io::Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn write_vectored(&mut self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        Ok(pieces.iter().map(|piece| piece.len()).sum())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A client's session after its handshake with a server in memory.
fn session() -> ClientConnection {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(sls2siem::drive::tls::fastest());
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let mut wire = Vec::new();
    while client.is_handshaking() || server.is_handshaking() || client.wants_write() || server.wants_write() {
        wire.clear();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets().unwrap();
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    client.set_buffer_limit(Some(320 << 10));
    client
}

/// The plain way with owned messages: decoded, turned into a map, written.
fn plain(compressed: &[u8], raw_bytes: usize) -> Vec<u8> {
    let raw = lz4_flex::block::decompress(compressed, raw_bytes).unwrap();
    let mut out = Vec::new();
    for group in &corpus::List::decode(&raw[..]).unwrap().groups {
        for log in &group.logs {
            let event: serde_json::Map<String, serde_json::Value> =
                log.contents.iter().map(|pair| (pair.key.clone(), pair.value.clone().into())).collect();
            let envelope = serde_json::json!({ "time": log.time, "host": group.source, "event": event });
            serde_json::to_writer(&mut out, &envelope).unwrap();
            out.push(b'\n');
        }
    }
    out
}

fn gzip(bytes: &[u8], out: &mut Vec<u8>) {
    let mut compressor = flate2::Compress::new_gzip(flate2::Compression::fast(), 15);
    out.clear();
    out.reserve(bytes.len());
    compressor.compress_vec(bytes, out, flate2::FlushCompress::Finish).unwrap();
}

fn stages(criterion: &mut Criterion<CpuTime>) {
    for (form, encoder) in FORMS {
        let mut path = Path::new(encoder());
        path.memory();
        let mut group = criterion.benchmark_group(format!("path, {form}"));
        group.throughput(Throughput::Bytes(path.raw_bytes as u64));
        group.bench_function("decompress", |bencher| bencher.iter(|| path.decompress()));
        group.bench_function("transcode", |bencher| bencher.iter(|| path.transcode()));
        group.bench_function("seal", |bencher| bencher.iter(|| path.seal(&mut Nowhere)));
        group.bench_function("memory", |bencher| bencher.iter(|| path.memory()));
        if form == "hec" {
            group.bench_function("gzip of its output", |bencher| bencher.iter(|| path.gzip()));
            group.bench_function("prost and serde_json, no TLS", |bencher| {
                bencher.iter(|| plain(&path.compressed, path.raw_bytes));
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .with_measurement(CpuTime)
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = stages
}

/// CPU µs of one call: the best of many, so that what others do to the caches counts little.
fn cost(mut work: impl FnMut()) -> f64 {
    work();
    let clock = CpuTime;
    let once = |work: &mut dyn FnMut()| {
        let start = clock.start();
        for _ in 0..20 {
            work();
        }
        clock.end(start) as f64 / 20_000.0
    };
    (0..30).map(|_| once(&mut work)).fold(f64::MAX, f64::min)
}

/// CPU µs of one call after a pause, as at a low rate: caches are cold, and so is the core.
fn cost_after_pauses(mut work: impl FnMut()) -> f64 {
    let clock = CpuTime;
    let mut costs: Vec<f64> = (0..21)
        .map(|_| {
            std::thread::park_timeout(PAUSE);
            let start = clock.start();
            work();
            clock.end(start) as f64 / 1_000.0
        })
        .collect();
    costs.sort_by(f64::total_cmp);
    costs[costs.len() / 2]
}

#[expect(clippy::too_many_lines, reason = "one table, from its measurements to its lines")]
fn main() {
    floor::stand_on(floor::Last);
    benches();
    Criterion::default().configure_from_args().final_summary();
    let mut path = Path::new(hec());
    path.memory();
    let megabytes = path.raw_bytes as f64 / 1e6;
    let (mut sealed, mut opened) = (path.frame.clone(), path.compressed.clone());
    let (aws, ring) = (Aead::aws_lc(), Aead::ring());
    let (by_aws, by_ring) = (cost(|| aws.seal(&mut sealed)), cost(|| ring.seal(&mut sealed)));
    let aead = if by_aws < by_ring { &aws } else { &ring };
    let (mut out, mut spring) = (floor::drain(), floor::spring());
    let mut raw = vec![0; path.raw_bytes];
    let parts = [
        ("receive", cost(|| floor::receive(&mut spring, &mut opened))),
        ("open", cost(|| aead.seal(&mut opened))),
        (
            "lz4",
            cost(|| {
                black_box(lz4_flex::block::decompress_into(&path.compressed, &mut raw).unwrap());
            }),
        ),
        ("seal", by_aws.min(by_ring)),
        ("send", cost(|| floor::send(&mut out, &sealed))),
    ];
    let alone: f64 = parts.iter().map(|(_, cost)| cost).sum();
    let mut in_turn = || {
        floor::receive(&mut spring, &mut opened);
        aead.seal(&mut opened);
        black_box(lz4_flex::block::decompress_into(&path.compressed, &mut raw).unwrap());
        aead.seal(&mut sealed);
        floor::send(&mut out, &sealed);
    };
    let floor = cost(&mut in_turn);
    let cold_floor = cost_after_pauses(&mut in_turn);
    let decompress = cost(|| path.decompress());
    let gzip = cost(|| path.gzip());
    let seal_packed = cost(|| path.seal_packed());
    let with_gzip = cost(|| path.memory_with_gzip());
    let mut sockets = (floor::spring(), floor::drain());
    println!(
        "\nCPU µs per raw MB (lz4 {:.1}, output of HEC {:.2} times the logs)",
        path.raw_bytes as f64 / path.compressed.len() as f64,
        path.frame.len() as f64 / path.raw_bytes as f64
    );
    for (name, cost) in parts {
        println!("  floor: {name:<28}{:8.0}", cost / megabytes);
    }
    println!("  floor: {:<28}{:8.0}", "sum", alone / megabytes);
    println!("  floor: {:<28}{:8.0}", "one after the other", floor / megabytes);
    println!("  floor: {:<28}{:8.0}", "the same at 10 MB/s", cold_floor / megabytes);
    println!("  path:  {:<28}{:8.0}", "decompress", decompress / megabytes);
    let mut rates = Vec::new();
    let mut transcode_hec = 0.0;
    for (form, encoder) in FORMS {
        let mut path = Path::new(encoder());
        path.memory();
        let transcode = cost(|| path.transcode());
        let seal = cost(|| path.seal(&mut Nowhere));
        let memory = cost(|| path.memory());
        let mut all = || whole(&mut path, &mut opened, aead, &mut sockets);
        let (whole, cold) = (cost(&mut all), cost_after_pauses(&mut all));
        if form == "hec" {
            transcode_hec = transcode;
        }
        for (name, cost) in [
            ("count and transcode", transcode),
            ("seal with rustls", seal),
            ("in memory, all", memory),
            ("with sockets, all", whole),
            ("the same at 10 MB/s", cold),
        ] {
            println!("  path, {form}: {name:<28}{:8.0}", cost / megabytes);
        }
        rates.push((form, whole));
    }
    let sum = decompress + transcode_hec + gzip + seal_packed;
    println!(
        "  with gzip, in memory: {:.0}; the sum of its parts {:.0}: {:.2} times",
        with_gzip / megabytes,
        sum / megabytes,
        with_gzip / sum
    );
    println!(
        "  AES-128-GCM: aws-lc {:.0} MB/s, ring {:.0} MB/s",
        path.frame.len() as f64 / by_aws,
        path.frame.len() as f64 / by_ring
    );
    println!(
        "floor {:.0} raw MB per CPU-s, each stage alone {:.0}",
        1e6 * megabytes / floor,
        1e6 * megabytes / alone
    );
    for (form, whole) in rates {
        println!(
            "path, {form}: {:.0} raw MB per CPU-s, {:.2} of the floor of HEC, {:.2} of the sum of its stages alone",
            1e6 * megabytes / whole,
            floor / whole,
            alone / whole
        );
    }
}

/// The path between two sockets.
fn whole(path: &mut Path, input: &mut [u8], aead: &Aead, (source, sink): &mut (TcpStream, TcpStream)) {
    source.read_exact(input).unwrap();
    aead.seal(input);
    path.decompress();
    path.transcode();
    path.seal(sink);
}
