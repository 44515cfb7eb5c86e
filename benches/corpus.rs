//! Seeded access logs as SLS serves them, and a clock that other processes do not disturb.

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use prost::Message as _;
use sls2siem::drive::clock::thread_cpu;

/// A content or tag.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Pair {
    /// Key.
    #[prost(string, required, tag = "1")]
    pub key: String,
    /// Value.
    #[prost(string, required, tag = "2")]
    pub value: String,
}

/// A log.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Log {
    /// Unix seconds.
    #[prost(uint32, required, tag = "1")]
    pub time: u32,
    /// Fields.
    #[prost(message, repeated, tag = "2")]
    pub contents: Vec<Pair>,
    /// Nanosecond part.
    #[prost(fixed32, optional, tag = "4")]
    pub nanos: Option<u32>,
}

/// A log group.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Group {
    /// Logs.
    #[prost(message, repeated, tag = "1")]
    pub logs: Vec<Log>,
    /// Topic.
    #[prost(string, optional, tag = "3")]
    pub topic: Option<String>,
    /// Source.
    #[prost(string, optional, tag = "4")]
    pub source: Option<String>,
    /// Tags.
    #[prost(message, repeated, tag = "6")]
    pub tags: Vec<Pair>,
}

/// A body of PullLogs.
#[derive(Clone, PartialEq, prost::Message)]
pub struct List {
    /// Groups.
    #[prost(message, repeated, tag = "1")]
    pub groups: Vec<Group>,
}

/// What the logs look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// ASCII; one log in eight holds JSON that needs escapes.
    Access,
    /// The same with a message in Chinese.
    Chinese,
}

/// A body of at least `bytes`: groups of 64 logs of about 600 bytes and 11 fields.
pub fn body(profile: Profile, bytes: usize) -> Vec<u8> {
    let mut random = Random(0x5eed);
    let mut list = List::default();
    let mut length = 0;
    while length < bytes {
        let host = format!("web-{}", random.below(16));
        let tags = [
            ("__hostname__", host.as_str()),
            ("__path__", "/var/log/nginx/access.log"),
            ("__pack_id__", "7C0A0FBD5DA8-1"),
        ];
        let second = 1_700_000_000 + u32::try_from(list.groups.len()).unwrap();
        let group = Group {
            logs: (0..64).map(|_| log(profile, second, &mut random)).collect(),
            topic: Some("nginx_access".into()),
            source: Some(format!("10.0.{}.{}", random.below(4), random.below(250))),
            tags: tags.into_iter().map(|(key, value)| pair(key, value)).collect(),
        };
        length += group.encoded_len();
        list.groups.push(group);
    }
    list.encode_to_vec()
}

fn pair(key: &str, value: &str) -> Pair {
    Pair { key: key.into(), value: value.into() }
}

fn log(profile: Profile, second: u32, random: &mut Random) -> Log {
    let agents = [
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0 Safari/537.36",
        "curl/8.5.0",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4",
    ];
    let note = match (profile, random.below(8)) {
        (Profile::Chinese, _) => "用户登录成功, 会话已创建, 正在重定向到首页".into(),
        (_, 0) => format!(
            r#"{{"user":"u{}","action":"login","detail":{{"ip":"10.1.2.{}","ok":true}}}}"#,
            random.below(100_000),
            random.below(256)
        ),
        _ => format!("upstream keepalive {} reused, cache {}", random.below(512), random.below(2)),
    };
    let uri = format!(
        "/api/v1/items/{}?page={}&sort=created_at&filter=status%3Dactive&fields=id,name,price&locale=en-GB",
        random.below(1 << 20),
        random.below(99)
    );
    let fields: [(&str, String); 11] = [
        ("remote_addr", format!("203.0.113.{}", random.below(256))),
        ("request_method", if random.below(5) == 0 { "POST" } else { "GET" }.into()),
        ("request_uri", uri),
        ("status", random.pick(["200", "200", "304", "404", "502"]).into()),
        ("body_bytes_sent", random.below(100_000).to_string()),
        ("http_user_agent", random.pick(agents).into()),
        (
            "http_referer",
            "https://www.example.com/catalogue/search?q=things&category=household&page=2".into(),
        ),
        ("request_time", format!("0.{:03}", random.below(1_000))),
        ("upstream_addr", format!("10.2.0.{}:8080", random.below(64))),
        ("trace_id", format!("{:016x}{:016x}", random.next(), random.next())),
        ("message", note),
    ];
    Log {
        time: second + u32::from(random.below(32) == 0),
        contents: fields.iter().map(|(key, value)| pair(key, value)).collect(),
        nanos: Some(u32::try_from(random.below(1_000_000_000)).unwrap()),
    }
}

/// Xorshift: the same corpus on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn pick<const N: usize>(&mut self, choices: [&'static str; N]) -> &'static str {
        choices[usize::try_from(self.below(N as u64)).unwrap()]
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Time of this thread on a CPU: what a record costs, whatever else the machine does.
pub struct CpuTime;

fn cpu_nanos() -> u64 {
    u64::try_from(thread_cpu().as_nanos()).unwrap()
}

impl Measurement for CpuTime {
    type Intermediate = u64;
    type Value = u64;

    fn start(&self) -> u64 {
        cpu_nanos()
    }

    fn end(&self, start: u64) -> u64 {
        cpu_nanos() - start
    }

    fn add(&self, left: &u64, right: &u64) -> u64 {
        left + right
    }

    fn zero(&self) -> u64 {
        0
    }

    fn to_f64(&self, value: &u64) -> f64 {
        // A day of nanoseconds fits a float exactly.
        *value as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}
