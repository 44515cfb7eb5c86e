//! The end of the demo: numbers, a judgement, and what was wrong.
//!
//! Why: "it looked fine" proves nothing. The judgement is a plain function of what was counted, so it can be tested.
//! Invariants: 1. passed means: everything that was sent was stored and unchanged, the checkpoints stand at the ends of
//! the shards, the forwarder ended with 0, and nothing was stored twice without a fault.   Bounds: one page of text.
//! Driven by: [`super`], once.   Spec: commands of the reference in README.md.

use std::fmt::Write as _;
use std::process::ExitStatus;
use std::time::Duration;

use loadgen::verify::Verdict;

use super::stage::{Position, SHARDS};
use super::text::{count, megabytes, percent};

/// All that was counted.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Stored against sent.
    pub(super) verdict: Verdict,
    /// Where source, sink and checkpoints stood at the end.
    pub(super) position: Position,
    /// How long logs came.
    pub(super) flowed: Duration,
    /// Bytes by which the source was ever ahead of its rate: then the CPU share is that of another rate.
    pub(super) ahead_bytes: u64,
    /// CPU time of the forwarder while logs came.
    pub(super) cpu_flowing: Duration,
    /// CPU time of the forwarder until the last checkpoint was saved.
    pub(super) cpu_total: Duration,
    /// The same by kind of thread.
    pub(super) threads: Vec<(String, Duration)>,
    /// Largest resident memory seen.
    pub(super) resident_bytes_max: u64,
    /// How the forwarder ended; none if it had to be killed.
    pub(super) ended: Option<ExitStatus>,
    /// Whether it ended before it was asked to.
    pub(super) ended_early: bool,
    /// Why waiting for the end was given up, if it was.
    pub(super) gave_up: Option<String>,
    /// Whether somebody stopped the run.
    pub(super) interrupted: bool,
    /// Rules of the fault plan and their hits.
    pub(super) faults: Vec<(String, u64)>,
    /// What differed, for the first few events.
    pub(super) differences: Vec<String>,
    /// Rules of the sink's protocol that were broken.
    pub(super) broken_rules: Vec<String>,
    /// What the sink looked at.
    pub(super) sink_mode: &'static str,
}

impl Outcome {
    /// What was wrong; empty when the run passed.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let verdict = &self.verdict;
        match self.ended {
            Some(status) if self.ended_early => {
                problems.push(format!("the forwarder ended by itself: {status}"));
            }
            Some(status) if !status.success() => {
                problems.push(format!("the forwarder ended with {status} when it was asked to stop"));
            }
            Some(_) => {}
            None => {
                problems
                    .push("the forwarder did not end when it was asked to stop; it was killed".to_owned());
            }
        }
        problems.extend(self.gave_up.clone());
        if verdict.lost > 0 {
            let first = verdict.missing.join(", ");
            problems.push(format!("{} records never arrived, the first: {first}", count(verdict.lost)));
        }
        if verdict.mismatched > 0 {
            let first = self.differences.join("\n    ");
            problems.push(format!("{} records arrived changed:\n    {first}", count(verdict.mismatched)));
        }
        if verdict.unexpected > 0 {
            problems.push(format!("{} records arrived that nobody sent", count(verdict.unexpected)));
        }
        if !self.broken_rules.is_empty() {
            let rules = self.broken_rules.join("\n    ");
            problems.push(format!("messages that break a rule of their protocol:\n    {rules}"));
        }
        if verdict.duplicates > 0 && self.faults.is_empty() {
            let text = "records arrived twice although nothing went wrong on the way";
            problems.push(format!("{} {text}", count(verdict.duplicates)));
        }
        if !self.position.behind.is_empty() && self.gave_up.is_none() {
            problems.push(behind(&self.position));
        }
        if self.ahead_bytes > 0 {
            let ahead = megabytes(self.ahead_bytes);
            problems.push(format!(
                "the source did not keep its rate, it was ahead by {ahead}: a bug of the demo"
            ));
        }
        if self.position.sent_logs() == 0 && !self.interrupted {
            problems.push("no record was sent: raise --rate or --seconds".to_owned());
        }
        problems
    }

    /// The page.
    pub(super) fn render(&self) -> String {
        let (verdict, position) = (&self.verdict, &self.position);
        let mut page = String::new();
        let mut line = |name: &str, text: String| {
            let _infallible = writeln!(page, "{name:<13} {text}");
        };
        let flowed = self.flowed.as_secs_f64();
        let sent = position.sent_logs();
        line(
            "sent",
            format!("{} records, {} raw in {flowed:.1} s", count(sent), megabytes(position.sent_bytes)),
        );
        line("delivered", format!("{} records", count(verdict.stored_unique)));
        line("duplicates", count(verdict.duplicates));
        line("lost", count(verdict.lost));
        line("out of order", count(verdict.out_of_order));
        line("changed", count(verdict.mismatched));
        let at_ends = if position.behind.is_empty() { "yes" } else { "NO" };
        line("checkpoints", format!("at the ends of all {SHARDS} shards: {at_ends}"));
        line("CPU", self.cpu());
        let threads = self.threads.iter().filter(|(_, cpu)| *cpu >= THREAD_SHOWN);
        let threads: Vec<_> =
            threads.map(|(name, cpu)| format!("{name} {:.2} s", cpu.as_secs_f64())).collect();
        if !threads.is_empty() {
            line("  by thread", threads.join(", "));
        }
        line("memory", format!("{} at most", megabytes(self.resident_bytes_max)));
        line("sink", self.sink_mode.to_owned());
        for (rule, hits) in &self.faults {
            line("fault", format!("{rule}: {} times", count(*hits)));
        }
        page
    }

    fn cpu(&self) -> String {
        let share = percent(self.cpu_flowing, self.flowed);
        let seconds = self.cpu_total.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
        let per_second = self.position.sent_bytes as f64 / 1e6 / seconds;
        let efficiency = if seconds > 0.0 { format!("{per_second:.0} MB raw") } else { "-".to_owned() };
        let debug = if cfg!(debug_assertions) { " (a debug build: not its real speed)" } else { "" };
        format!("{share} of one core on average, {efficiency} per CPU-second{debug}")
    }
}

/// CPU time from which a kind of thread is worth a word.
const THREAD_SHOWN: Duration = Duration::from_millis(5);

/// Which checkpoints are not at their ends.
pub(super) fn behind(position: &Position) -> String {
    let one = |(shard, groups): (&u32, &u64)| format!("shard {shard} by {} log groups", count(*groups));
    let shards: Vec<_> = position.behind.iter().map(one).collect();
    format!("checkpoints behind the end: {}", shards.join(", "))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn good() -> Outcome {
        let position = Position {
            sent: [(0, 60), (1, 40)].into(),
            sent_bytes: 60_000,
            delivered: 100,
            ..Position::default()
        };
        let verdict = Verdict {
            sent: Some(100),
            stored_unique: 100,
            duplicates: 0,
            lost: 0,
            out_of_order: 0,
            mismatched: 0,
            unexpected: 0,
            missing: Vec::new(),
        };
        Outcome {
            verdict,
            position,
            flowed: Duration::from_secs(10),
            ahead_bytes: 0,
            cpu_flowing: Duration::from_millis(100),
            cpu_total: Duration::from_millis(120),
            threads: vec![("s2s".to_owned(), Duration::from_millis(110))],
            resident_bytes_max: 30_000_000,
            ended: Some(ExitStatus::from_raw(0)),
            ended_early: false,
            gave_up: None,
            interrupted: false,
            faults: Vec::new(),
            differences: Vec::new(),
            broken_rules: Vec::new(),
            sink_mode: "hec",
        }
    }

    #[test]
    fn nothing_wrong_is_a_pass() {
        let outcome = good();
        assert_eq!(outcome.problems(), Vec::<String>::new());
        let page = outcome.render();
        for text in
            ["sent          100 records", "lost          0", "1.0 % of one core", "ends of all 4 shards: yes"]
        {
            assert!(page.contains(text), "{page}");
        }
    }

    #[test]
    fn every_defect_fails_alone() {
        let defects: [fn(&mut Outcome); 11] = [
            |o| o.verdict.lost = 1,
            |o| o.verdict.mismatched = 1,
            |o| o.verdict.unexpected = 1,
            |o| o.verdict.duplicates = 1,
            |o| o.broken_rules = vec!["no priority: 1 times".to_owned()],
            |o| o.position.behind = [(2, 3)].into(),
            |o| o.ended = Some(ExitStatus::from_raw(1 << 8)),
            |o| o.ended = None,
            |o| o.ended_early = true,
            |o| o.position.sent.clear(),
            |o| o.ahead_bytes = 1,
        ];
        for (index, spoil) in defects.into_iter().enumerate() {
            let mut outcome = good();
            spoil(&mut outcome);
            assert_eq!(outcome.problems().len(), 1, "defect {index}: {:?}", outcome.problems());
        }
    }

    #[test]
    fn what_is_allowed_is_allowed() {
        let mut outcome = good();
        outcome.verdict.duplicates = 5;
        outcome.faults = vec![("event.503=5%".to_owned(), 3)];
        assert!(outcome.problems().is_empty(), "duplicates with faults");
        let mut outcome = good();
        outcome.position.sent.clear();
        outcome.interrupted = true;
        assert!(outcome.problems().is_empty(), "stopped before anything was sent");
    }
}
