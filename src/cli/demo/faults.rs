//! `--fault`: which of the two servers each rule is for.
//!
//! Why: one flag makes trouble at either end. A rule that no server knows would make no trouble at all, and the run
//! would prove nothing, so it is wrong usage before anything starts.
//! Invariants: 1. every rule goes to exactly one server; a seed goes to both.   Bounds: the command line.
//! Driven by: `cli` for each value that was typed, then [`super`].   Spec: `loadgen::fault`.

use loadgen::fault::FaultPlan;
use loadgen::sink::hec;
use loadgen::sls;

/// What goes wrong, per server.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// For the emulator, in its inline form.
    pub(super) sls: String,
    /// For the sink.
    pub(super) hec: FaultPlan,
}

/// Checks what was typed behind `--fault`.
pub fn check(text: &str) -> Result<String, String> {
    Faults::new(&[text.to_owned()]).map(|_| text.to_owned())
}

impl Faults {
    /// Sorts the rules of all values.
    pub(super) fn new(typed: &[String]) -> Result<Self, String> {
        let (mut source, mut sink) = (Vec::new(), Vec::new());
        for item in typed.iter().flat_map(|text| text.split(',')).map(str::trim) {
            if item.is_empty() {
                continue;
            }
            if item.starts_with("seed=") {
                FaultPlan::parse(item).map_err(|error| format!("{error:#}"))?;
                source.push(item.to_owned());
                sink.push(item.to_owned());
                continue;
            }
            let kind = item.split(['.', '/']).next().unwrap_or_default();
            // The sink's calls by their names; `hec` alone means the call that carries the events.
            if kind == "hec" {
                sink.push(item.replacen("hec", "event", 1));
            } else if hec::KIND_NAMES.contains(&kind) {
                sink.push(item.to_owned());
            } else if sls::KIND_NAMES.contains(&kind) {
                source.push(item.to_owned());
            } else {
                return Err(format!(
                    "fault `{item}`: wants CALL.WHAT[=CHANCE], such as hec.503=5% or pull.tear=1%; calls of the \
                     sink: hec {}; calls of SLS: {}",
                    hec::KIND_NAMES.join(" "),
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
        let hec = plan(&sink, hec::KIND_NAMES, hec::WORDS).map_err(text)?;
        Ok(Self { sls: source.join(","), hec })
    }

    /// Whether nothing goes wrong.
    pub(super) fn is_empty(&self) -> bool {
        self.hec.is_empty() && self.sls.split(',').all(|item| item.is_empty() || item.starts_with("seed="))
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
