use super::*;
use crate::metrics::ControlSnapshot;
use crate::proto::counters::{Counters, ShardGauge};
use crate::proto::ids::ShardId;

fn overview(pipelines: Vec<PipelineOverview>) -> Overview {
    Overview {
        version: "1".to_owned(),
        uptime: Duration::from_secs(61),
        pipelines,
        cores: vec![CoreOverview {
            core: 3,
            cpu: 0.125,
            age: Duration::from_millis(200),
            watchdog_signals: 0,
        }],
        cpu_history: vec![0.1, 0.2],
        complaints: Vec::new(),
        settings: String::new(),
    }
}

fn pipeline(name: &str, shards: u32) -> PipelineOverview {
    let row = |shard: u32| ShardOverview {
        gauge: ShardGauge {
            shard: ShardId(shard),
            lag_seconds: u64::from(shard) * 10,
            pending_seconds: 0,
            held: shard == 1,
        },
        core: 3,
        checkpoint_age_seconds: Some(2),
    };
    let history = (0_u16..720).map(|i| Point { raw_bytes: f32::from(i), ..Point::default() });
    PipelineOverview {
        name: name.into(),
        source: "p/l".to_owned(),
        sink: "hec".to_owned(),
        raw_bytes_per_second: 12_345_678.0,
        sent_bytes_per_second: 15_000_000.0,
        acked_records_per_second: 9.0,
        totals: Counters { acked_records: 1_234_567, ..Counters::default() },
        shards: (0..shards).map(row).collect(),
        control: Some(ControlSnapshot {
            pipeline: name.into(),
            member: true,
            alarms: vec!["hec <b> is busy".to_owned()],
            checkpoint_commits: 1,
            checkpoint_conflicts: 0,
            heartbeat_failures: 0,
            retention_gaps: 0,
            checkpoints: Vec::new(),
        }),
        history: history.collect(),
    }
}

#[test]
fn text_of_others_is_escaped() {
    let mut all = overview(vec![pipeline("<i>", 1)]);
    let complaint = Complaint {
        ago: Duration::from_secs(5),
        is_error: true,
        text: "</script><script>alert(1)".to_owned(),
        times: 3,
    };
    all.complaints = vec![complaint];
    all.settings = "</pre><img src=x>".to_owned();
    let page = render(&all, &["<script>alert('x')&\"".to_owned()]);
    assert!(page.contains("<li>&lt;script&gt;alert(&#39;x&#39;)&amp;&quot;"), "{page}");
    assert_eq!(page.matches("<script").count(), 1, "ours alone: {page}");
    assert!(!page.contains("<img") && !page.contains("<i>:") && !page.contains("hec <b>"), "{page}");
    for part in ["up 1 min 1 s", "<b>error</b>, 5 s ago, 3 times", "hec &lt;b&gt; is busy", "12.35 MB/s read"]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(page.contains("1\u{202f}234\u{202f}567"), "{page}");
}

#[test]
fn the_worst_shards_come_first_and_many_are_folded() {
    let page = render(&overview(vec![pipeline("default", 200)]), &[]);
    assert!(page.contains("190 more shards, with less lag"), "{page}");
    let rows: Vec<&str> = page.split("<tr><td>").skip(1).collect();
    assert!(rows[0].starts_with("1<") && rows[0].contains("<b>held</b>"), "held first: {}", rows[0]);
    assert!(rows[1].starts_with("199<"), "then the largest lag: {}", rows[1]);
    let page = render(&overview(vec![pipeline("default", 2)]), &[]);
    assert!(!page.contains("more shards") && page.contains("<b>Ready:</b>"), "{page}");
}

#[test]
fn thirty_pipelines_of_64_shards_fit() {
    let pipelines = (0..30).map(|number| pipeline(&format!("p{number}"), 64)).collect();
    let page = render(&overview(pipelines), &[]);
    assert!(page.contains("<h2>Pipelines</h2>") && page.contains("href='#p-p29'"), "{page}");
    assert!(page.len() < 600_000, "{} bytes", page.len());
}

#[test]
fn the_policy_names_the_script_that_is_served() {
    let page = render(&overview(Vec::new()), &[]);
    let script = page.split("<script>").nth(1).unwrap().split("</script>").next().unwrap();
    let hash = STANDARD.encode(Sha256::digest(script.as_bytes()));
    assert!(policy().contains(&hash), "{}", policy());
    for outside in ["http://", "https://", "//cdn", "url(", "@import"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn spans_use_two_units() {
    for (secs, text) in [(0, "0 s"), (59, "59 s"), (3600, "1 h 0 min"), (90_000, "1 d 1 h")] {
        assert_eq!(Span(Duration::from_secs(secs)).to_string(), text);
    }
    assert_eq!(Bytes(1_250_000).to_string(), "1.2 MB");
    assert_eq!(Rate(999.0).to_string(), "1.00 kB/s");
}
