//! `--fault`: which of the servers each rule is for.
//!
//! Why: one flag makes trouble at either end. A rule that no server knows would make no trouble at all, and the run
//! would prove nothing, so it is wrong usage before anything starts.
//! Invariants: 1. every rule goes to exactly one server; a seed goes to all.   Bounds: the command line.
//! Driven by: `cli` for each value that was typed, then [`super`].   Spec: `loadgen::fault`.

use loadgen::fault::FaultPlan;
use loadgen::sink::{hec, syslog};
use loadgen::sls;

use super::super::DemoSink;

/// What goes wrong, per server.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// For the emulator, in its inline form.
    pub(super) sls: String,
    /// For the HEC sink.
    pub(super) hec: FaultPlan,
    /// For the syslog sink.
    pub(super) syslog: FaultPlan,
}

/// Checks what was typed behind `--fault`.
pub fn check(text: &str) -> Result<String, String> {
    Faults::new(&[text.to_owned()]).map(|_| text.to_owned())
}

impl Faults {
    /// Sorts the rules of all values.
    pub(super) fn new(typed: &[String]) -> Result<Self, String> {
        let (mut source, mut hec, mut syslog) = (Vec::new(), Vec::new(), Vec::new());
        for item in typed.iter().flat_map(|text| text.split(',')).map(str::trim) {
            if item.is_empty() {
                continue;
            }
            if item.starts_with("seed=") {
                FaultPlan::parse(item).map_err(|error| format!("{error:#}"))?;
                for rules in [&mut source, &mut hec, &mut syslog] {
                    rules.push(item.to_owned());
                }
                continue;
            }
            let kind = item.split(['.', '/']).next().unwrap_or_default();
            // A sink's calls by their names; its own name means the call that carries the records.
            if kind == "hec" {
                hec.push(item.replacen("hec", "event", 1));
            } else if kind == "syslog" {
                syslog.push(item.replacen("syslog", "message", 1));
            } else if hec::KIND_NAMES.contains(&kind) {
                hec.push(item.to_owned());
            } else if syslog::KIND_NAMES.contains(&kind) {
                syslog.push(item.to_owned());
            } else if sls::KIND_NAMES.contains(&kind) {
                source.push(item.to_owned());
            } else {
                return Err(format!(
                    "fault `{item}`: wants CALL.WHAT[=CHANCE], such as hec.503=5% or pull.tear=1%; calls of the \
                     sinks: hec {}; syslog {}; calls of SLS: {}",
                    hec::KIND_NAMES.join(" "),
                    syslog::KIND_NAMES.join(" "),
                    sls::KIND_NAMES.join(" ")
                ));
            }
        }
        let plan = |rules: &[String], kinds: &[&str], words: &[&str]| {
            let plan = FaultPlan::parse(&rules.join(","))?;
            plan.check(kinds, words).map(|()| plan)
        };
        let text = |error: anyhow::Error| format!("{error:#}");
        plan(&source, sls::KIND_NAMES, sls::WORDS).map_err(text)?;
        let hec = plan(&hec, hec::KIND_NAMES, hec::WORDS).map_err(text)?;
        let syslog = plan(&syslog, syslog::KIND_NAMES, syslog::WORDS).map_err(text)?;
        Ok(Self { sls: source.join(","), hec, syslog })
    }

    /// Refuses rules of the sink that is not there.
    pub(super) fn check_sink(&self, sink: DemoSink) -> Result<(), String> {
        let (idle, name, other) = match sink {
            DemoSink::Hec => (&self.syslog, "syslog", "hec"),
            DemoSink::Syslog => (&self.hec, "hec", "syslog"),
        };
        if idle.is_empty() {
            return Ok(());
        }
        Err(format!("--fault {idle} is for the {name} sink, and this is a run with --sink {other}"))
    }

    /// Whether nothing goes wrong.
    pub(super) fn is_empty(&self) -> bool {
        self.hec.is_empty()
            && self.syslog.is_empty()
            && self.sls.split(',').all(|item| item.is_empty() || item.starts_with("seed="))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(typed: &[&str]) -> Result<(String, String), String> {
        let typed: Vec<String> = typed.iter().map(|text| (*text).to_owned()).collect();
        Faults::new(&typed).map(|faults| (faults.sls, faults.hec.to_string()))
    }

    #[test]
    fn rules_of_a_sink_that_is_not_there_are_refused() {
        let faults = Faults::new(&["syslog.reset@3,eof.hang=5%".to_owned()]).unwrap();
        assert_eq!(faults.syslog.to_string(), "seed=0,message.reset@3,eof.hang=5%");
        assert_eq!(faults.check_sink(DemoSink::Syslog), Ok(()));
        assert!(faults.check_sink(DemoSink::Hec).unwrap_err().contains("message.reset@3"));
        let faults = Faults::new(&["ack.hang@3,pull.503@2".to_owned()]).unwrap();
        assert_eq!(faults.check_sink(DemoSink::Hec), Ok(()));
        assert!(faults.check_sink(DemoSink::Syslog).is_err());
    }

    #[test]
    fn rules_go_to_the_server_that_knows_the_call() {
        let (source, sink) = sorted(&["hec.503=5%,pull.tear=1%", "ack.hang@3,seed=7, pull/2.503"]).unwrap();
        assert_eq!(source, "pull.tear=1%,seed=7,pull/2.503");
        assert_eq!(sink, "seed=7,event.503=5%,ack.hang@3");
        assert!(Faults::new(&[]).unwrap().is_empty());
        assert!(Faults::new(&["seed=3".to_owned()]).unwrap().is_empty());
        assert!(!Faults::new(&["heartbeat.503@2".to_owned()]).unwrap().is_empty());
    }

    #[test]
    fn what_no_server_knows_is_refused() {
        for wrong in
            ["503=5%", "hec", "hec.503=200%", "pull.frobnicate", "event.rawsize", "seed=x", "*.503", "."]
        {
            let why = sorted(&[wrong]).unwrap_err();
            assert!(why.len() > 10, "{wrong}: {why}");
        }
    }
}
