//! Where the CPU time of a forwarder goes, by stage of the hot path.
//!
//! Why: what a run costs says nothing about what to do; the stages do, and they explain a target that is missed.
//! Invariants: 1. runs that are sampled are not among those that targets are about. 2. every sample is in exactly one
//! stage; what no rule knows is in the last one.   Bounds: some 200 bytes for each of [`HERTZ`] samples a second.
//! Driven by: [`super::measure`].   Spec: perf-record(1), perf-script(1).

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Samples of one second of CPU time.
const HERTZ: &str = "1499";

/// The stages, in the order of a body on its way.
pub(super) const NAMES: [&str; 10] = [
    "kernel receive",
    "TLS open",
    "decompress",
    "find logs",
    "transcode",
    "TLS seal",
    "copies",
    "kernel send",
    "wait and wake",
    "the rest",
];

/// Samples of each stage, of the same length as [`NAMES`].
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Stages(pub(super) [u64; NAMES.len()]);

impl Stages {
    /// Parts of 1.
    pub(super) fn shares(&self) -> [f64; NAMES.len()] {
        let all: u64 = self.0.iter().sum();
        self.0.map(|one| super::process::as_f64(one) / super::process::as_f64(all.max(1)))
    }
}

/// Why it cannot be done on this machine, or nothing.
pub(super) fn missing() -> Option<String> {
    let tried = Command::new("perf").args(["record", "-q", "-e", EVENT, "-o", "/dev/null", "true"]).output();
    match tried {
        Err(error) => Some(format!("perf: {error} - Debian's package linux-perf has it")),
        Ok(output) if !output.status.success() => {
            let text = String::from_utf8_lossy(&output.stderr);
            let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("it failed");
            Some(format!("perf: {} - as root, or with kernel.perf_event_paranoid = 1", line.trim()))
        }
        Ok(_) => None,
    }
}

/// A sampler of one process that runs.
pub(super) struct Sampler {
    perf: Child,
    file: PathBuf,
}

impl Sampler {
    /// Begins, and waits until samples are taken: perf starts its command then.
    pub(super) fn start(pid: u32, folder: &Path) -> Result<Self> {
        let file = folder.join("perf.data");
        let mut perf = Command::new("perf")
            .args(["record", "-q", "-e", EVENT, "-F", HERTZ, "--call-graph", "fp", "-p", &pid.to_string()])
            .arg("-o")
            .arg(&file)
            // Ends with its standard input, and perf with it.
            .args(["--", "sh", "-c", "echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start perf")?;
        let mut ready = [0; 6];
        let started = perf.stdout.take().is_some_and(|mut out| out.read_exact(&mut ready).is_ok());
        let sampler = Self { perf, file };
        ensure!(started, "perf record ended before it took a sample");
        Ok(sampler)
    }

    /// Ends, and sorts the samples; nothing where the time was too short for any.
    pub(super) fn finish(mut self) -> Result<Option<Stages>> {
        drop(self.perf.stdin.take());
        let status = self.perf.wait().context("wait for perf")?;
        ensure!(status.success(), "perf record ended with {status}");
        let output = Command::new("perf")
            .args(["script", "--no-inline", "-F", "ip,sym", "-i"])
            .arg(&self.file)
            .stderr(Stdio::null())
            .output()
            .context("start perf script")?;
        ensure!(output.status.success(), "perf script ended with {}", output.status);
        Ok(Some(sorted(&String::from_utf8_lossy(&output.stdout)))
            .filter(|stages| stages.0.iter().any(|one| *one > 0)))
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        // After `finish` both do nothing.
        let _gone = self.perf.kill();
        let _reaped = self.perf.wait();
    }
}

/// Reads stacks of `perf script`, one a paragraph, the innermost function first.
fn sorted(text: &str) -> Stages {
    let mut stages = Stages::default();
    for stack in text.split("\n\n") {
        let frames = stack.lines().filter_map(|line| line.trim().split_once(' '));
        if let Some(stage) = stage_of(frames).and_then(|name| NAMES.iter().position(|one| *one == name))
            && let Some(count) = stages.0.get_mut(stage)
        {
            *count += 1;
        }
    }
    stages
}

/// The stage of one stack; nothing where it is empty. The kernel's own frames are whole, so the call that led there
/// decides; of the program only the innermost frame is sure, because it is built without frame pointers.
fn stage_of<'a>(frames: impl Iterator<Item = (&'a str, &'a str)>) -> Option<&'static str> {
    let mut any = false;
    for (address, symbol) in frames {
        any = true;
        let in_kernel = address.len() == 16 && address.starts_with("ffff");
        let rules = if in_kernel { KERNEL } else { PROGRAM };
        let rule = rules.iter().find(|(words, _)| words.iter().all(|word| symbol.contains(word)));
        match rule {
            Some((_, stage)) => return Some(stage),
            None if in_kernel => {}
            None => break,
        }
    }
    any.then_some("the rest")
}

type Rule = (&'static [&'static str], &'static str);

const KERNEL: &[Rule] = &[
    (&["sys_send"], "kernel send"),
    (&["sys_write"], "kernel send"),
    (&["sys_recv"], "kernel receive"),
    (&["sys_read"], "kernel receive"),
    (&["io_uring"], "wait and wake"),
    (&["membarrier"], "wait and wake"),
    (&["epoll"], "wait and wake"),
];

const PROGRAM: &[Rule] = &[
    (&["lz4"], "decompress"),
    (&["zstd"], "decompress"),
    (&["ZSTD"], "decompress"),
    (&["Decompressor"], "decompress"),
    (&["proto::sls::wire"], "find logs"),
    (&["proto::format"], "transcode"),
    (&["gcm", "dec"], "TLS open"),
    (&["gcm", "enc"], "TLS seal"),
    (&["gcm", "seal"], "TLS seal"),
    (&["memmove"], "copies"),
    (&["memcpy"], "copies"),
    (&["rustls"], "TLS seal"),
    (&["glommio"], "wait and wake"),
];

const EVENT: &str = "cpu-clock";

/// One line for each stage, one column for each run: name and µs of CPU per raw MB.
pub(super) fn table(runs: &[(String, [f64; NAMES.len()])]) -> String {
    let mut text = format!("{:<16}", "CPU µs per MB");
    for (name, _) in runs {
        let _infallible = write!(text, "{name:>14}");
    }
    text.push('\n');
    for (stage, name) in NAMES.iter().enumerate() {
        let _infallible = write!(text, "{name:<16}");
        for (_, costs) in runs {
            let _infallible = write!(text, "{:>14.0}", costs.get(stage).copied().unwrap_or_default());
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const STACKS: &str = "
s2s-core1
\tffffffff81eb92ad __netif_receive_skb_one_core
\tffffffff8206e58b tcp_sendmsg
\tffffffff81e0a1c2 __x64_sys_sendmsg
\t          10e8d3 __libc_sendmsg

\tffffffff81234567 _copy_to_iter
\tffffffff81e0a1c2 __x64_sys_recvfrom
\t          10e8d3 recv

\tffffffff81234567 asm_exc_page_fault
\t          6a8ce3 sls2siem::proto::sls::body::Decompressor::decompress

\t          6a8ce3 sls2siem::proto::format::simd::x86::contents_avx2
\t          6a8ce3 glommio::executor::LocalExecutor::run_task_queues

\t          7f1234 ring_core_0_17_14__aes_gcm_enc_update_vaes_avx2

\t          7f1234 ring_core_0_17_14__aes_gcm_dec_update_vaes_avx2

\t          7f1234 __memmove_avx_unaligned_erms
\t               0 sls2siem::proto::format::hec::HecEncoder::encode

\t          7f1234 malloc
\t          6a8ce3 sls2siem::proto::format::hec::HecEncoder::encode

\tffffffff81234567 do_syscall_64
\tffffffff81234567 __do_sys_io_uring_enter
\t          7f1234 syscall

\t          7f1234 sls2siem::proto::sls::wire::survey

";

    #[test]
    fn every_stack_is_in_one_stage() {
        let stages = sorted(STACKS);
        let of = |name: &str| stages.0[NAMES.iter().position(|one| *one == name).expect(name)];
        for name in
            ["kernel receive", "TLS open", "find logs", "transcode", "TLS seal", "copies", "kernel send"]
        {
            assert_eq!(of(name), 1, "{name}");
        }
        // A page fault belongs to who made it; an allocation to nobody, as its caller is not sure.
        assert_eq!((of("decompress"), of("wait and wake"), of("the rest")), (1, 1, 1));
        assert_eq!(stages.0.iter().sum::<u64>(), 10);
        assert!((stages.shares().iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert!((Stages::default().shares().iter().sum::<f64>()).abs() < 1e-9);
    }

    #[test]
    fn every_rule_names_a_stage() {
        for (_, stage) in KERNEL.iter().chain(PROGRAM) {
            assert!(NAMES.contains(stage), "{stage}");
        }
    }

    #[test]
    fn the_table_has_a_column_for_each_run() {
        let text = table(&[("HEC".to_owned(), [10.0; NAMES.len()]), ("kv".to_owned(), [7.0; NAMES.len()])]);
        assert_eq!(text.lines().count(), NAMES.len() + 1);
        assert!(text.lines().all(|line| line.chars().count() == 44), "{text}");
    }
}
