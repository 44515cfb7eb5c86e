//! `[stdout]`: the frames for people and pipes.

use loadgen::payload::Seq;
use loadgen::verify::Seen;
use loadgen::verify::Sent;
use loadgen::verify::expect::{Checker, Fidelity, Metadata, identify};

use crate::rig::{Rig, SHARDS};

#[test]
fn standard_output_gets_every_record_as_a_hec_line() {
    let mut rig = Rig::new();
    rig.fill(2_000);
    let mut forwarder = rig.forwarder().set("hec.endpoints", "[]").set("stdout.format", "hec").start();
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    forwarder.stop();
    rig.assert_commits();
    assert_eq!(forwarder.complaints(), [""; 0]);

    let lines = forwarder.printed();
    assert_eq!(lines.len() as u64, rig.total());
    let mut checker = Checker::new(rig.payload, Metadata::default());
    let mut seen = Seen::default();
    for line in lines {
        let seq: Seq = identify(line, Some(&rig.payload)).unwrap_or_else(|| panic!("no number: {line}"));
        assert_eq!(checker.check(seq, line), Ok(Fidelity::Exact));
        seen.record(seq);
    }
    let verdict = seen.verdict(Some(&Sent::even(SHARDS, rig.sent)), None);
    assert!(verdict.is_exact(), "{verdict:?}");
}
