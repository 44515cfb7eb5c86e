//! What stands in `tuning/` for other programs to read: it names only what exists.
//!
//! Why: a dashboard whose metric was renamed is empty and looks like peace.
//! Invariants: every metric, label and setting that is named there is one of the program's.

#![expect(clippy::panic, reason = "a test binary: what is missing is a failure")]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use sls2siem::metrics::NAMES;

fn read(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tuning").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every metric that a text names, as it stands there.
fn metrics(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let starts = text.match_indices("sls2siem_").map(|(at, _)| at);
    starts.map(|at| text.split_at(at).1.chars().take_while(|c| is_name(*c)).collect()).collect()
}

/// Those that no exposition has.
fn unknown(text: &str) -> Vec<String> {
    let histograms = ["sls2siem_sink_ack_seconds", "sls2siem_pull_seconds", "sls2siem_end_to_end_seconds"];
    let exists = |name: &str| {
        let sample = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        match sample.filter(|family| histograms.contains(family)) {
            Some(_) => true,
            None => NAMES.contains(&name) && !histograms.contains(&name),
        }
    };
    metrics(text).into_iter().filter(|name| !exists(name)).collect()
}

#[test]
fn the_dashboard_is_json_and_names_metrics_that_exist() {
    let text = read("grafana-dashboard.json");
    let dashboard: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    assert!(panels.len() >= 15, "{} panels", panels.len());
    let mut places = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        assert!(panel["description"].as_str().is_some_and(|text| !text.is_empty()), "{title}");
        assert!(panel["targets"].as_array().is_some_and(|targets| !targets.is_empty()), "{title}");
        let at = &panel["gridPos"];
        assert!(places.insert((at["x"].as_u64(), at["y"].as_u64())), "{title} covers another panel");
    }
    assert_eq!(unknown(&text), Vec::<String>::new());
    // Each of these has to be seen.
    for name in ["lag_seconds", "held_shards", "retention_gaps_total", "dead_letter_records_total", "alarms"]
    {
        assert!(metrics(&text).contains(&format!("sls2siem_{name}")), "{name}");
    }
}

#[test]
fn alert_rules_name_metrics_that_exist_and_say_what_to_do() {
    let text = read("prometheus-alerts.yml");
    assert_eq!(unknown(&text), Vec::<String>::new());
    let rules: Vec<&str> = text.split("\n      - alert: ").skip(1).collect();
    assert!(rules.len() >= 10, "{} rules", rules.len());
    for rule in &rules {
        for part in
            ["\n        expr: ", "severity: ", "\n          summary: \"", "\n          description: \""]
        {
            assert_eq!(rule.matches(part).count(), 1, "{part} in {rule}");
        }
        assert!(!rule.contains('\t'), "YAML has no tabs: {rule}");
    }
    for cause in [
        "lag_seconds",
        "retention_gaps_total",
        "held_shards",
        "dead_letter_records_total",
        "duplicates_possible_records_total",
        "watchdog_signals_total",
    ] {
        assert!(metrics(&text).contains(&format!("sls2siem_{cause}")), "{cause}");
    }
}

#[test]
fn what_does_not_exist_is_found() {
    let text = "rate(sls2siem_pull_seconds_bucket[5m]) + sls2siem_lag + sls2siem_pull_seconds{x=\"y\"}";
    assert_eq!(unknown(text), ["sls2siem_lag", "sls2siem_pull_seconds"]);
}
