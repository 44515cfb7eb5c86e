//! Receivers that die, stand still and restart under load: what was sent is what arrived, each record at least once.
//!
//! Three troubles one behind the other, on each way that has an acknowledgement: sudden death (kill -9), standing still
//! (SIGSTOP, then SIGCONT), and an orderly restart. What is claimed for the sudden death is what the receiver had
//! acknowledged and not written: rsyslog is set to write before it reads on; syslog-ng cannot be, so it is killed in
//! the middle of a drain interval, when what it had acknowledged is in its file.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use loadgen::payload::{Payload, Profile, Seq};
use loadgen::sls::Fill;
use serde_json::json;

use crate::daemon::{self, Daemon, Kind};
use crate::forwarder::Forwarder;
use crate::output::{count, events};
use crate::rig::{PATIENCE, Rig, SHARDS};

/// Records of a shard, and how long they come.
const RECORDS: u64 = 10_000;
const SECONDS: u64 = 15;
const LOG_BYTES: u64 = 650;

fn survives(kind: Kind) {
    let Some(root) = daemon::find() else { return };
    let mut daemon = Daemon::start(&root, kind, None);
    let rig = Rig::new();
    let payload = Payload::new(Profile::AccessLog, 11).with_logs_per_group(20);
    let rate = RECORDS * u64::from(SHARDS) * LOG_BYTES / SECONDS;
    let fill = Fill { bytes_per_second: Some(rate), ..Fill::new(payload, RECORDS) };
    rig.sls.store().fill_all(fill).unwrap();
    // One connection with one interval, so that its end can be seen from outside.
    let settings = json!({ "connections": 1, "drain_interval": "1s", "timeout": "10s" });
    let mut forwarder = rig.forwarder(&daemon, &settings).start();

    flowing(&mut forwarder, &daemon, RECORDS / 5);
    if !kind.is_rsyslog() {
        all_acknowledged_is_written(&mut forwarder, &daemon);
    }
    daemon.kill();
    daemon.run();
    flowing(&mut forwarder, &daemon, RECORDS / 2);
    daemon.signal("STOP");
    thread::sleep(AWAY);
    daemon.signal("CONT");
    flowing(&mut forwarder, &daemon, RECORDS);
    daemon.stop();
    thread::sleep(AWAY);
    daemon.run();

    forwarder.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());
    forwarder.stop();
    daemon.stop();
    let (events, _) = events(&daemon);
    let (found, strange) = count(&events);
    let sent: BTreeSet<Seq> =
        (0..SHARDS).flat_map(|shard| (0..RECORDS).map(move |number| Seq { shard, number })).collect();
    let missing: Vec<_> = sent.iter().filter(|seq| !found.contains_key(seq)).take(10).collect();
    assert_eq!(missing, [&Seq { shard: 0, number: 0 }; 0], "lost\n{}", forwarder.text());
    assert_eq!(found.len(), sent.len(), "{kind:?}: something arrived that nobody sent");
    let again: u64 = found.values().map(|times| times - 1).sum();
    println!("{kind:?}: {} records, {again} of them more than once, {strange} fragments", found.len());
    // A restart may repeat what was in flight, which is bounded; a fragment is the rest of a cut frame, one a break.
    assert!(again < RECORDS * u64::from(SHARDS), "{again} duplicates");
    assert!(strange < 20, "{strange} fragments");
}

/// Waits until so many messages are in the file.
fn flowing(forwarder: &mut Forwarder, daemon: &Daemon, messages: u64) {
    forwarder.wait_until("messages", PATIENCE, || daemon::lines(&daemon.out()).len() as u64 >= messages);
}

/// Waits for the end of an interval, and until all that the receiver had by then is in the file: it writes in the order
/// of arrival, so a few hundred messages more are behind everything that was acknowledged.
fn all_acknowledged_is_written(forwarder: &mut Forwarder, daemon: &Daemon) {
    let before = forwarder.metrics().sum("acked_records_total");
    forwarder.wait_metrics("an interval ends", |metrics| metrics.sum("acked_records_total") > before);
    let written = daemon::lines(&daemon.out()).len() as u64;
    flowing(forwarder, daemon, written + 300);
}

#[test]
fn rsyslog_over_tcp() {
    survives(Kind::RsyslogTcp);
}

#[test]
fn rsyslog_over_tls() {
    survives(Kind::RsyslogTls);
}

#[test]
fn rsyslog_over_relp() {
    survives(Kind::RsyslogRelp);
}

#[test]
fn rsyslog_over_relp_and_tls() {
    survives(Kind::RsyslogRelpTls);
}

#[test]
fn syslog_ng_over_tcp() {
    survives(Kind::SyslogNgTcp);
}

#[test]
fn syslog_ng_over_tls() {
    survives(Kind::SyslogNgTls);
}

/// How long the receiver is away.
const AWAY: Duration = Duration::from_secs(2);
