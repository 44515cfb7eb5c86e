//! The machine: kernel, io_uring, limits, memory, cores, and where shards would go.
//!
//! Why: containers and distributions forbid what the executors need in five ways, and each has its own repair.
//! Invariants: those of the command. Bounds: none. Driven by: [`super`]. Spec: `drive::probe`.

use super::Printer;
use crate::cli::run;
use crate::config::RuntimeConfig;
use crate::control::placement::Placement;
use crate::drive::probe;
use crate::proto::ids::ShardId;
use crate::report::{Finding, Grade};

/// Whether executors can be started here.
pub(super) fn check(runtime: &RuntimeConfig, out: &mut Printer) {
    let cores = run::cores(&runtime.cores);
    match probe::host(cores.as_ref().map_or(1, Vec::len)) {
        Ok(host) => {
            let locked = match host.memlock_bytes {
                _ if host.may_lock => "not bound here".to_owned(),
                u64::MAX => "unlimited".to_owned(),
                bytes => format!("{} KiB", bytes / 1024),
            };
            let text = format!(
                "Linux {} with io_uring; locked memory {locked}; {} open files",
                host.kernel, host.files
            );
            out.add(Finding::ok("host", "io-uring", text));
        }
        Err(error) => {
            let text = error.to_string();
            let (text, todo) = text.split_once(" - ").unwrap_or((&text, "see the cause"));
            out.add(Finding::fail("host", "io-uring", text, todo));
        }
    }
    if let Err((_, text)) = cores {
        let (text, known) = text.split_once("; ").unwrap_or((&text, ""));
        let todo = format!("change [runtime] cores; {known}");
        out.add(Finding::fail("host", "cores", text, todo));
    }
    memory(runtime, out);
}

fn memory(runtime: &RuntimeConfig, out: &mut Printer) {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = available.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<usize>().ok());
    let (Some(kib), wanted) = (kib, runtime.memory >> 20) else { return };
    let free = kib >> 10;
    if wanted.saturating_mul(5) > free.saturating_mul(4) {
        let text = format!("runtime.memory allows {wanted} MiB in flight, {free} MiB are available");
        out.add(Finding::warn("host", "memory", text, "set a smaller [runtime] memory: SLS keeps the logs"));
    } else {
        let text = format!("{free} MiB of memory available, {wanted} MiB may be in flight");
        out.add(Finding::ok("host", "memory", text));
    }
}

/// The cores and how many shards each would get, if this process were alone in its groups.
pub(super) fn placement(runtime: &RuntimeConfig, found: &[(&str, Option<Vec<ShardId>>)], out: &mut Printer) {
    let Ok(cores) = run::cores(&runtime.cores) else { return };
    let placed = Placement::new(cores.clone(), &run::parts::pins(&runtime.pin)).map(|placement| {
        for (pipeline, shards) in found {
            for shard in shards.iter().flatten() {
                placement.place(pipeline, *shard, None);
            }
        }
        placement.loads()
    });
    match placed {
        Err(error) => {
            let text = error.to_string();
            let (text, todo) = text.split_once(" - ").unwrap_or((&text, "see the cause"));
            out.add(Finding::fail("host", "placement", text, todo));
        }
        Ok(loads) => {
            let each = cores.iter().zip(&loads).map(|(core, shards)| format!("core {core}: {shards}"));
            let each = each.collect::<Vec<_>>().join(", ");
            let known = found.iter().all(|(_, shards)| shards.is_some());
            let idle = loads.iter().filter(|load| **load == 0).count();
            let text = format!("shards per core, were this process alone in its groups: {each}");
            let grade = if known && idle > 0 { Grade::Warn } else { Grade::Ok };
            let todo = match grade {
                Grade::Ok => String::new(),
                _ => format!(
                    "{idle} of {} cores would have nothing to do: set [runtime] cores lower, or split shards",
                    cores.len()
                ),
            };
            out.add(Finding { grade, todo, ..Finding::ok("host", "placement", text) });
        }
    }
}
