//! What the kernel says about a process: CPU time of its threads, memory.
//!
//! Why: CPU time is the one figure that other programs on the machine do not change much.
//! Invariants: 1. a process that is gone reads as nothing.   Bounds: a few small files per thread.
//! Driven by: `rig`, at the beginning and at the end of what is measured.   Spec: proc(5).

use std::collections::BTreeMap;
use std::fs;

use serde::Serialize;

/// CPU time of one kind of thread, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Cpu {
    pub(super) user: f64,
    pub(super) system: f64,
}

impl Cpu {
    pub(super) fn total(self) -> f64 {
        self.user + self.system
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { user: self.user + other.user, system: self.system + other.system }
    }
}

/// CPU time of every live thread so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Threads(BTreeMap<u32, Thread>);

#[derive(Debug, Clone)]
struct Thread {
    name: String,
    /// Hundredths of a second, as the kernel splits them.
    user_ticks: u64,
    system_ticks: u64,
    /// The sum of both, exactly.
    nanos: u64,
}

/// Reads the threads of a process.
pub(super) fn threads(pid: u32) -> Threads {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return Threads::default() };
    let thread = |entry: fs::DirEntry| {
        let mut thread = stat(&fs::read_to_string(entry.path().join("stat")).ok()?)?;
        let exact = fs::read_to_string(entry.path().join("schedstat")).ok();
        if let Some(nanos) = exact.and_then(|text| text.split(' ').next()?.parse().ok()) {
            thread.nanos = nanos;
        }
        Some((entry.file_name().to_str()?.parse().ok()?, thread))
    };
    Threads(entries.flatten().filter_map(thread).collect())
}

impl Threads {
    /// What was used since `before`, by kind of thread: names without their numbers.
    pub(super) fn since(&self, before: &Self) -> BTreeMap<String, Cpu> {
        let mut kinds: BTreeMap<String, Cpu> = BTreeMap::new();
        for (id, thread) in &self.0 {
            let old = before.0.get(id);
            let less = |now: u64, then: fn(&Thread) -> u64| now.saturating_sub(old.map_or(0, then));
            let nanos = less(thread.nanos, |old| old.nanos);
            let user = less(thread.user_ticks, |old| old.user_ticks);
            let system = less(thread.system_ticks, |old| old.system_ticks);
            let seconds = as_f64(nanos) / 1e9;
            // The split is only known in ticks.
            let share = if user + system == 0 { 0.5 } else { as_f64(user) / as_f64(user + system) };
            let cpu = Cpu { user: seconds * share, system: seconds * (1.0 - share) };
            let kind = thread.name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-').to_owned();
            let sum = kinds.entry(kind).or_default();
            *sum = sum.plus(cpu);
        }
        kinds
    }
}

/// Resident memory now and at its highest, in bytes.
pub(super) fn memory(pid: u32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    (kib_line(&text, "VmRSS:"), kib_line(&text, "VmHWM:"))
}

/// Memory that this host can still give, in bytes.
pub(super) fn available() -> u64 {
    kib_line(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemAvailable:")
}

/// Busy and all time of a core so far, in hundredths of a second; the second with what a hypervisor took away.
pub(super) fn core_ticks(core: usize) -> (u64, u64) {
    core_line(&fs::read_to_string("/proc/stat").unwrap_or_default(), core)
}

fn core_line(text: &str, core: usize) -> (u64, u64) {
    let name = format!("cpu{core}");
    let mut lines = text.lines().map(str::split_whitespace);
    let Some(fields) =
        lines.find_map(|mut fields| (fields.next() == Some(&name)).then(|| fields.collect::<Vec<_>>()))
    else {
        return (0, 0);
    };
    let values: Vec<u64> = fields.iter().map(|field| field.parse().unwrap_or(0)).collect();
    let all: u64 = values.iter().take(8).sum();
    let idle: u64 = values.iter().skip(3).take(2).sum();
    (all - idle, all)
}

fn kib_line(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

/// A line of `stat`. The name may hold anything, blanks and brackets too.
fn stat(text: &str) -> Option<Thread> {
    let (head, rest) = text.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let mut fields = rest.split_whitespace().skip(11).map(str::parse::<u64>);
    let (user_ticks, system_ticks) = (fields.next()?.ok()?, fields.next()?.ok()?);
    let nanos = (user_ticks + system_ticks).saturating_mul(NANOS_PER_TICK);
    Some(Thread { name, user_ticks, system_ticks, nanos })
}

/// Exact as far as a measurement is.
#[expect(clippy::cast_precision_loss, reason = "figures of a measurement")]
pub(super) fn as_f64(value: u64) -> f64 {
    value as f64
}

/// The kernel shows ticks in hundredths of a second on every platform of ours.
const NANOS_PER_TICK: u64 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_name_holds() {
        let line = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 100 1 2";
        let thread = stat(line).expect("a line");
        assert_eq!((thread.name.as_str(), thread.user_ticks, thread.system_ticks), ("a) b (c", 250, 50));
        for cut in 0..line.len() - 30 {
            assert!(stat(&line[..cut]).is_none(), "{cut}");
        }
    }

    #[test]
    fn kinds_of_threads_are_added_up() {
        let thread = |name: &str, ticks: u64| Thread {
            name: name.to_owned(),
            user_ticks: ticks,
            system_ticks: ticks,
            nanos: 2 * ticks * NANOS_PER_TICK,
        };
        let before = Threads([(1, thread("s2s-core0", 10)), (2, thread("s2s-core1", 10))].into());
        let after = Threads(
            [(1, thread("s2s-core0", 60)), (2, thread("s2s-core1", 110)), (3, thread("new", 1))].into(),
        );
        let used = after.since(&before);
        assert!((used["s2s-core"].total() - 3.0).abs() < 1e-9);
        assert!((used["s2s-core"].user - 1.5).abs() < 1e-9);
        assert!((used["new"].total() - 0.02).abs() < 1e-9);
    }

    #[test]
    fn this_process_has_threads_and_memory() {
        let pid = std::process::id();
        assert!(!threads(pid).since(&Threads::default()).is_empty());
        // One reading: between two of them other tests take memory.
        let (resident, peak) = memory(pid);
        assert!(resident > 100_000 && peak >= resident && available() > 100_000);
        assert_eq!((memory(u32::MAX), threads(u32::MAX).0.len()), ((0, 0), 0));
        let text = "cpu 1 1 1 1 1 1 1 1 0 0\ncpu0 10 0 20 70 5 0 0 5 0 0\ncpu1 1 0 0 0 0 0 0 0 0 0\n";
        assert_eq!((core_line(text, 0), core_line(text, 1), core_line(text, 7)), ((35, 110), (1, 1), (0, 0)));
    }
}
