//! Web access logs as a WAF or nginx writes them.
//!
//! Why: the commonest log of all, and the one that the speed numbers are quoted for.
//! Invariants: values come from small pools, as real sites have few hosts, agents and paths, so that lz4 compresses
//! them as it compresses the real thing (4 to 7 times).   Bounds: about 600 bytes a log.
//! Driven by: `Payload::group`.   Spec: alibaba-logs.md 2.

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use super::builder::GroupBuilder;
use super::schema::LogGroup;
use super::{Range, time_of};

pub(super) fn group(rng: &mut ChaCha8Rng, range: Range) -> LogGroup {
    let mut group = GroupBuilder::new(range.count, 14, 480);
    // Most requests of one group come from a few visits, each with its own client, agent and page.
    let visits: [Visit; 16] = std::array::from_fn(|_| Visit::draw(rng));
    for seq in range.seqs() {
        let visit = pick(rng, &visits.each_ref());
        let time = time_of(seq);
        let (minute, second) = (time / 60 % 60, time % 60);
        let blocked = rng.random_ratio(1, 50);
        let status = if blocked { 405 } else { pick(rng, &STATUS) };
        group.log(time, Some(rng.random_range(0..1_000_000) * 1000)).seq(seq);
        group
            .put_fmt("time", format_args!("2026-01-02T11:{minute:02}:{second:02}+08:00"))
            .put("real_client_ip", &visit.client)
            .put("host", visit.host)
            .put("request_method", pick(rng, &METHODS))
            .put_fmt("request_uri", format_args!("{}{}", visit.path, rng.random_range(1..400_u32)))
            .put_fmt("status", format_args!("{status}"))
            .put_fmt("body_bytes_sent", format_args!("{}", rng.random_range(2..60_u32) * 512))
            .put_fmt("request_time_msec", format_args!("{}", rng.random_range(1..250_u32)))
            .put("http_referer", &visit.referer)
            .put("http_user_agent", visit.agent)
            .put("upstream_addr", if blocked { "-" } else { pick(rng, &UPSTREAMS) })
            .put("final_action", if blocked { "block" } else { "" })
            .put_fmt(
                "request_traceid",
                format_args!("{}{:016x}{:08x}", visit.trace, rng.random::<u64>(), rng.random::<u32>()),
            );
    }
    let shard = range.shard;
    group
        .finish()
        .placed("waf_access_log", format!("192.0.2.{}", shard % 250))
        .tagged("__hostname__", format!("waf-log-{shard}"))
        .tagged("__receive_time__", "1767322848")
}

struct Visit {
    client: String,
    host: &'static str,
    path: &'static str,
    referer: String,
    agent: &'static str,
    trace: String,
}

impl Visit {
    fn draw(rng: &mut ChaCha8Rng) -> Self {
        let host = pick(rng, &HOSTS);
        let page = rng.random_range(1..200_u32);
        Self {
            client: format!("203.0.113.{}", rng.random_range(1..255_u32)),
            host,
            path: pick(rng, &PATHS),
            referer: format!("https://{host}/category/outdoor/list.html?page={page}&sort=price_asc"),
            agent: pick(rng, &AGENTS),
            trace: format!("0a1b{:04x}", rng.random::<u16>()),
        }
    }
}

pub(super) fn pick<T: Copy>(rng: &mut ChaCha8Rng, pool: &[T]) -> T {
    let index = rng.random_range(0..pool.len());
    #[expect(clippy::indexing_slicing, reason = "drawn within the pool, which is never empty")]
    pool[index]
}

const STATUS: [u32; 10] = [200, 200, 200, 200, 200, 200, 304, 302, 404, 502];
const METHODS: [&str; 5] = ["GET", "GET", "GET", "POST", "HEAD"];
const HOSTS: [&str; 4] = ["shop.example.com", "api.example.com", "www.example.com", "static.example.com"];
const UPSTREAMS: [&str; 3] = ["172.16.8.21:8080", "172.16.8.22:8080", "172.16.8.23:8080"];
const PATHS: [&str; 8] = [
    "/api/v2/catalog/products?fields=id,name,price,stock&currency=CNY&locale=zh_CN&page=",
    "/api/v2/users/me/orders?state=open&include=items,shipping&per_page=50&offset=",
    "/assets/js/vendor.4f9a1c77.bundle.min.js?build=20260102&cdn=hz&v=",
    "/search.php?q=running%20shoes%20men%20size%2042&category=sport&sort=relevance&page=",
    "/login?next=%2Faccount%2Fsettings%2Fsecurity&campaign=winter&utm_source=mail&id=",
    "/images/products/large/2026/01/outdoor-jacket-front-1200x1600.webp?width=",
    "/index.html?session=none&theme=dark&ab_test=checkout_v3&variant=",
    "/health/ready?probe=slb&region=cn-hangzhou&zone=h&attempt=",
];
const AGENTS: [&str; 6] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
    "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36",
    "python-requests/2.32.3",
];
