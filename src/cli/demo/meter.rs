//! What the forwarder says about itself: its own metrics page, read over HTTP.
//!
//! Why: the demo shows what an operator would see in production, not what it knows from inside.
//! Invariants: 1. a page that does not answer leaves the last numbers standing.   Bounds: one page, one second.
//! Driven by: [`super`], once a second.   Spec: metrics of the reference in README.md.

use std::net::SocketAddr;
use std::time::Duration;

use ureq::Agent;

/// The numbers that the view shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Meter {
    /// Log bytes pulled, after decompression.
    pub(super) pulled_raw_bytes: u64,
    /// Logs pulled.
    pub(super) pulled_records: u64,
    /// Logs acknowledged by the sink.
    pub(super) acked_records: u64,
    /// Attempts repeated, at both ends.
    pub(super) retries: u64,
    /// Memory credit in use.
    pub(super) inflight_bytes: u64,
    /// Of the shard that is farthest behind.
    pub(super) lag_seconds: u64,
}

/// Reads the page.
#[derive(Debug)]
pub(super) struct Reader {
    agent: Agent,
    url: String,
}

impl Reader {
    pub(super) fn new(admin: SocketAddr) -> Self {
        let config = Agent::config_builder().timeout_global(Some(PATIENCE)).proxy(None);
        Self { agent: config.build().into(), url: format!("http://{admin}/metrics") }
    }

    /// The numbers now; nothing if the page does not answer.
    pub(super) fn read(&self) -> Option<Meter> {
        let mut answer = self.agent.get(&self.url).call().ok()?;
        answer.body_mut().read_to_string().ok().map(|page| parse(&page))
    }
}

fn parse(page: &str) -> Meter {
    let mut meter = Meter::default();
    for line in page.lines() {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let whole = value.split('.').next().unwrap_or_default();
        let Ok(value) = whole.parse::<u64>() else { continue };
        let name = series.split('{').next().unwrap_or_default();
        match name.strip_prefix("sls2siem_").unwrap_or_default() {
            "pulled_raw_bytes_total" => meter.pulled_raw_bytes += value,
            "pulled_records_total" => meter.pulled_records += value,
            "acked_records_total" => meter.acked_records += value,
            "retries_total" => meter.retries += value,
            "inflight_bytes" => meter.inflight_bytes += value,
            "lag_seconds" => meter.lag_seconds = meter.lag_seconds.max(value),
            _ => {}
        }
    }
    meter
}

/// For one page.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_added_up_and_the_worst_lag_counts() {
        let page = "\
# HELP sls2siem_retries_total Attempts
# TYPE sls2siem_retries_total counter
sls2siem_retries_total{pipeline=\"a b\",reason=\"pull\"} 3
sls2siem_retries_total{pipeline=\"a b\",reason=\"sink\"} 4
sls2siem_lag_seconds{shard=\"0\"} 2
sls2siem_lag_seconds{shard=\"1\"} 9
sls2siem_lag_seconds{shard=\"2\"} 1
sls2siem_acked_records_total{pipeline=\"a b\"} 12.0
sls2siem_inflight_bytes NaN
nonsense";
        let want = Meter { retries: 7, lag_seconds: 9, acked_records: 12, ..Meter::default() };
        assert_eq!(parse(page), want);
    }

    #[test]
    fn the_names_are_those_of_the_metrics() {
        for name in ["pulled_raw_bytes_total", "acked_records_total", "retries_total", "lag_seconds"] {
            assert!(crate::metrics::NAMES.contains(&format!("sls2siem_{name}").as_str()), "{name}");
        }
    }
}
