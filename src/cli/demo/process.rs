//! What the kernel says about another process: CPU time and memory.
//!
//! Why: the CPU share that the demo shows must be the forwarder's alone, as a stranger would measure it.
//! Invariants: 1. a process that is gone reads as nothing, never as an error.   Bounds: one small file per thread.
//! Driven by: [`super`], a few times a second.   Spec: proc(5).

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// CPU time of a process, user and system, all its threads.
pub(super) fn cpu(pid: u32) -> Option<Duration> {
    cpu_of(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?).map(|(_, cpu)| cpu)
}

/// CPU time of each live thread, with its name.
pub(super) fn threads(pid: u32) -> BTreeMap<u32, (String, Duration)> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return BTreeMap::new() };
    let thread = |entry: fs::DirEntry| {
        let (name, ticks) = cpu_of(&fs::read_to_string(entry.path().join("stat")).ok()?)?;
        // In nanoseconds where the kernel keeps them: most threads use less than one tick.
        let precise = fs::read_to_string(entry.path().join("schedstat")).ok();
        let precise = precise.and_then(|text| text.split(' ').next()?.parse().ok()).map(Duration::from_nanos);
        Some((entry.file_name().to_str()?.parse().ok()?, (name, precise.unwrap_or(ticks))))
    };
    entries.flatten().filter_map(thread).collect()
}

/// Resident memory in bytes.
pub(super) fn resident_bytes(pid: u32) -> Option<u64> {
    kib_line(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:")
}

/// Memory that this host can still give, in bytes.
pub(super) fn available_bytes() -> Option<u64> {
    kib_line(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")
}

fn kib_line(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Name and CPU time in a line of `stat`. The name may hold anything, blanks and brackets too.
fn cpu_of(stat: &str) -> Option<(String, Duration)> {
    let (head, rest) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1;
    let mut fields = rest.split_whitespace().skip(11).map(str::parse::<u64>);
    let ticks = fields.next()?.ok()? + fields.next()?.ok()?;
    Some((name.to_owned(), Duration::from_millis(ticks.saturating_mul(TICK_MS))))
}

/// The kernel shows CPU time in hundredths of a second on every platform of ours.
const TICK_MS: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_name_holds() {
        let line = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 100 1 2";
        assert_eq!(cpu_of(line), Some(("a) b (c".to_owned(), Duration::from_secs(3))));
        for cut in 0..line.len() - 30 {
            let _ = cpu_of(&line[..cut]);
        }
    }

    #[test]
    fn this_process_has_threads_and_memory() {
        let pid = std::process::id();
        assert!(cpu(pid).is_some() && !threads(pid).is_empty());
        assert!(resident_bytes(pid).unwrap() > 100_000 && available_bytes().unwrap() > 100_000);
        assert_eq!((cpu(u32::MAX), threads(u32::MAX).len()), (None, 0));
    }
}
