//! Syslog receivers that break connections in the ways that lose logs elsewhere.

use std::net::UdpSocket;

use loadgen::payload::{Payload, Profile};

use crate::forwarder::{Start, Trouble};
use crate::listener::{Listener, Manner};
use crate::rig::{PATIENCE, Rig};

/// An emulator with logs that carry their number.
pub(crate) fn rig(records: u64) -> Rig {
    let mut rig = Rig::new();
    rig.payload = Payload::new(Profile::AccessLog, 7).with_logs_per_group(50);
    rig.fill(records);
    rig
}

/// A forwarder with this in place of HEC.
pub(crate) fn forwarder(rig: &Rig, endpoints: &[String]) -> Start {
    rig.forwarder()
        .set("hec.endpoints", "[]")
        .set("syslog.endpoints", format!("{endpoints:?}"))
        .set("syslog.drain_interval", "300ms")
        .set("syslog.batch_bytes", "16KiB")
        .set("syslog.batch_age", "50ms")
}

pub(crate) fn url(scheme: &str, listener: &Listener) -> String {
    format!("{scheme}://{}", listener.address)
}

/// Everything arrives at least once, checkpoints never run ahead, and it ends in order.
fn drains(rig: &Rig, listener: &mut Listener, start: Start) -> crate::forwarder::Forwarder {
    let mut forwarder = start.start();
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    // What a checkpoint covers was read: the listener's threads have it, perhaps not yet their inbox.
    forwarder.wait_until("everything read", PATIENCE, || listener.unique() == rig.total());
    forwarder.stop();
    rig.assert_commits();
    forwarder
}

#[test]
fn a_stream_without_faults_arrives_once_and_in_order() {
    let rig = rig(3_000);
    let mut listener = Listener::start(false, &[]);
    let start = forwarder(&rig, &[url("tcp", &listener)]);
    let mut forwarder = drains(&rig, &mut listener, start);
    assert_eq!((listener.repeated(), listener.out_of_order), (0, 0));
    assert_eq!(forwarder.complaints(), [""; 0]);
}

#[test]
fn resets_with_bytes_unread_and_early_ends_lose_nothing() {
    let rig = rig(3_000);
    let manners = [
        Manner::Resets(40_000),
        Manner::Reads,
        Manner::EndsEarly(40_000),
        Manner::Reads,
        Manner::Resets(1),
        Manner::EndsEarly(1),
    ];
    let mut listener = Listener::start(false, &manners);
    let start = forwarder(&rig, &[url("tcp", &listener)]);
    let mut forwarder = drains(&rig, &mut listener, start);
    assert!(listener.repeated() > 0, "the faults have struck\n{}", forwarder.text());
}

/// Ends each connection long before a frame is over, and logs are parts of several messages: frames become smaller
/// between logs, or nothing would ever be proven.
#[test]
fn split_logs_reach_a_receiver_that_ends_every_connection_early() {
    let rig = rig(150);
    let mut listener = Listener::start(false, &[Manner::EndsEarly(5_000); 1_000]);
    let start = forwarder(&rig, &[url("tcp", &listener)])
        .set("syslog.oversize", "split")
        .set("syslog.max_message_bytes", "480B");
    let mut forwarder = drains(&rig, &mut listener, start);
    assert!(listener.repeated() > 0, "it did end early\n{}", forwarder.text());
}

#[test]
fn a_receiver_that_never_ends_is_named_and_kernel_is_the_way_out() {
    let rig = rig(200);
    let mut listener = Listener::start(false, &[Manner::NeverEnds; 1_000]);
    let start = || forwarder(&rig, &[url("tcp", &listener)]);
    let mut held = start().set("syslog.timeout", "1s").start();
    held.trouble(&Trouble {
        what: &["pipeline ", "syslog tcp://127.0.0.1:", "does not end the connection"],
        cause: &["no FIN within 1 s"],
        safe: &["nothing lost", "the checkpoint waits"],
        todo: &["use RELP", "ack = \"kernel\""],
    });
    assert!(!rig.is_drained(), "nothing was proven");
    held.kill();
    let start = start().set("syslog.ack", "kernel");
    drains(&rig, &mut listener, start);
}

#[test]
fn a_receiver_that_never_reads_stops_the_pulls_and_not_the_heartbeats() {
    let rig = rig(40_000);
    let listener = Listener::start(false, &[Manner::NeverReads; 1_000]);
    let mut forwarder = forwarder(&rig, &[url("tcp", &listener)]).set("runtime.memory", "16MiB").start();
    forwarder.wait_metrics("memory is full", |metrics| metrics.sum("inflight_bytes") > 4 << 20);
    let beats = rig.sls.stats().heartbeats;
    forwarder.wait_until("heartbeats go on", PATIENCE, || rig.sls.stats().heartbeats > beats + 4);
    let metrics = forwarder.metrics();
    assert!(metrics.sum("pulled_records_total") < rig.total(), "{metrics:?}");
    assert!(metrics.sum("inflight_bytes") <= 20 << 20, "{metrics:?}");
    assert_eq!(metrics.sum("acked_records_total"), 0);
    forwarder.kill();
}

#[test]
fn relp_answers_settle_and_a_serverclose_in_the_window_loses_nothing() {
    let rig = rig(2_000);
    let manners = [Manner::ServerClose(100), Manner::Reads, Manner::ServerClose(1)];
    let mut listener = Listener::start(true, &manners);
    let start = forwarder(&rig, &[url("relp", &listener)]);
    let mut forwarder = drains(&rig, &mut listener, start);
    let repeated = listener.repeated();
    assert!((1..=200).contains(&repeated), "{repeated} repeated\n{}", forwarder.text());
    assert_eq!(listener.out_of_order, 0);
}

#[test]
fn one_of_two_receivers_is_enough() {
    let rig = rig(1_000);
    let mut listener = Listener::start(false, &[]);
    let gone = format!("tcp://127.0.0.1:{}", crate::rig::closed_port());
    let start = forwarder(&rig, &[gone, url("tcp", &listener)]);
    let mut forwarder = drains(&rig, &mut listener, start);
    forwarder.line(&["syslog tcp://127.0.0.1:", "refuses connections", "[syslog]"]);
}

#[test]
fn datagrams_arrive_one_by_one_and_are_called_unproven() {
    let rig = rig(300);
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let endpoint = format!("udp://{}", receiver.local_addr().unwrap());
    let mut forwarder = forwarder(&rig, &[endpoint]).set("syslog.udp_rate", 2_000).start();
    let mut datagram = vec![0; 70_000];
    // On loopback, at this pace, into a buffer that is read: none is lost.
    for _ in 0..rig.total() {
        let bytes = receiver.recv(&mut datagram).unwrap();
        let text = String::from_utf8_lossy(&datagram[..bytes]).into_owned();
        assert!(text.starts_with("<14>1 ") && text.ends_with('}'), "{text}");
    }
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    let total = rig.total();
    forwarder.wait_metrics("unproven", |metrics| metrics.sum("unproven_records_total") == total);
    assert_eq!(forwarder.lines_with("best effort").len(), 1);
    forwarder.stop();
}

#[test]
fn lines_on_standard_output_are_syslog_where_it_is_asked_for() {
    let rig = rig(200);
    let mut forwarder = rig.forwarder().set("hec.endpoints", "[]").set("stdout.format", "syslog").start();
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    forwarder.stop();
    let lines = forwarder.printed();
    assert_eq!(lines.len() as u64, rig.total());
    assert!(lines.iter().all(|line| line.starts_with("<14>1 ")), "{:?}", lines.first());
}
