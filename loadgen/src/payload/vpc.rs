//! VPC flow logs.
//!
//! Why: the highest event rate of all products: many short fields, so the cost per field shows.
//! Invariants: field names as in the product, hyphens included.   Bounds: about 550 bytes a log.
//! Driven by: `Payload::group`.   Spec: alibaba-logs.md 5.

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use super::access::pick;
use super::builder::GroupBuilder;
use super::schema::LogGroup;
use super::{Range, time_of};

pub(super) fn group(rng: &mut ChaCha8Rng, range: Range) -> LogGroup {
    let mut group = GroupBuilder::new(range.count, 22, 260);
    for seq in range.seqs() {
        let end = time_of(seq);
        let host = rng.random_range(1..9_u32);
        let packets = rng.random_range(1..64_u32);
        let reject = rng.random_ratio(1, 10);
        group.log(end, None).seq(seq);
        group
            .put("version", "1")
            .put("account-id", "1234567890123456")
            .put_fmt("eni-id", format_args!("eni-bp1exampl000000000{host}"))
            .put_fmt("vm-id", format_args!("i-bp1exampl000000000{host}"))
            .put("vswitch-id", "vsw-bp1exampl000000001")
            .put("vpc-id", "vpc-bp1exampl000000001")
            .put_fmt("srcaddr", format_args!("198.51.100.{}", rng.random_range(1..255_u32)))
            .put_fmt("srcport", format_args!("{}", rng.random_range(1024..65_535_u32)))
            .put_fmt("dstaddr", format_args!("172.16.8.{host}"))
            .put("dstport", pick(rng, &["22", "80", "443", "443", "3306", "3389"]))
            .put("protocol", pick(rng, &["6", "6", "6", "17", "1"]))
            .put("direction", pick(rng, &["in", "out"]))
            .put_fmt("packets", format_args!("{packets}"))
            .put_fmt("bytes", format_args!("{}", packets * rng.random_range(40..1500_u32)))
            .put_fmt("start", format_args!("{}", end - 60))
            .put_fmt("end", format_args!("{end}"))
            .put("tcp-flags", pick(rng, &["2", "18", "24", "4", "1"]))
            .put("log-status", "OK")
            .put("action", if reject { "REJECT" } else { "ACCEPT" })
            .put("traffic_path", "-");
    }
    // Service-written logstores have an empty source.
    group.finish().placed("flow_log", "").tagged("__receive_time__", "1767322848")
}
