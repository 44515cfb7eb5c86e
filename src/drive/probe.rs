//! Tries out what glommio will need, before it panics with the wrong reason.
//!
//! Why: glommio 0.9.0 says "kernel too old" for everything that keeps it from making a ring: a seccomp
//! profile, a sysctl, the locked-memory limit. Containers refuse io_uring by default, so the first thing that
//! most operators would see is a wrong text.
//! Invariants: 1. nothing is left open. 2. soft limits are only ever raised.
//! Bounds: one small ring for a moment.
//! Driven by: `Executors::start` once, before the first executor; `check`.
//! Spec: `io_uring_setup(2)`, `io_uring_register(2)`, getrlimit(2), capabilities(7).
#![expect(unsafe_code, reason = "system calls that std does not have")]

use std::fmt;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// Locked memory that one executor needs: three rings and their registered buffers, with room for the
/// kernel's lateness in giving back what an earlier process had.
pub const MEMLOCK_BYTES_PER_EXECUTOR: u64 = 512 * 1024;
/// glommio needs 7 descriptors per executor; the rest is for connections.
pub const FILES_PER_EXECUTOR: u64 = 64;
/// Descriptors for everything that is not an executor.
const FILES_BASE: u64 = 128;
/// Descriptors that are asked for where the hard limit has them.
const FILES_WISHED: u64 = 65_536;

/// What the host gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// `uname -r`.
    pub kernel: String,
    /// `RLIMIT_MEMLOCK` as it is now; `u64::MAX` is unlimited.
    pub memlock_bytes: u64,
    /// `RLIMIT_NOFILE` as it is now.
    pub files: u64,
    /// True where the locked-memory limit does not bind this process.
    pub may_lock: bool,
}

/// Why executors cannot be started here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeError {
    /// `/proc/sys/kernel/io_uring_disabled` forbids it.
    Disabled {
        /// Its value: 1 without the privilege or group, 2 for everybody.
        value: u32,
    },
    /// A filter answers EPERM or EACCES: seccomp of a container runtime or of systemd, or a security module.
    Forbidden {
        /// The system call.
        call: &'static str,
    },
    /// ENOSYS: no io_uring in the kernel, or a filter that pretends so.
    Missing {
        /// `uname -r`.
        kernel: String,
    },
    /// The kernel lacks operations that are needed.
    TooOld {
        /// `uname -r`.
        kernel: String,
        /// Number of the first operation that is missing.
        op: usize,
    },
    /// `RLIMIT_MEMLOCK` is too low, and so is its hard limit.
    Memlock {
        /// Hard limit in bytes.
        have: u64,
        /// Bytes needed.
        need: u64,
        /// Number of executors that `need` is for.
        executors: u64,
    },
    /// The limit is high enough, but other processes of this user hold it.
    MemlockInUse {
        /// The limit in bytes.
        have: u64,
    },
    /// `RLIMIT_NOFILE` is too low, and so is its hard limit.
    Files {
        /// Hard limit.
        have: u64,
        /// Descriptors needed.
        need: u64,
    },
    /// Something else, as the kernel said it.
    Other {
        /// The system call.
        call: &'static str,
        /// Its errno.
        errno: i32,
    },
}

/// Raises the soft limits and tries a ring; `executors` is how many will be started.
pub fn host(executors: usize) -> Result<Host, ProbeError> {
    let executors = u64::try_from(executors.max(1)).unwrap_or(u64::MAX);
    let kernel = kernel();
    let may_lock = may_lock();
    let files = raise_files(FILES_BASE + FILES_PER_EXECUTOR.saturating_mul(executors))?;
    // glommio itself refuses to start below one unit, whatever the privilege.
    let units = if may_lock { 1 } else { executors };
    let memlock_bytes = raise_memlock(MEMLOCK_BYTES_PER_EXECUTOR.saturating_mul(units), units)?;
    io_uring(&kernel, memlock_bytes)?;
    Ok(Host { kernel, memlock_bytes, files, may_lock })
}

/// Makes a small ring and asks which operations it knows.
fn io_uring(kernel: &str, memlock_bytes: u64) -> Result<(), ProbeError> {
    let judge = |call, error: &io::Error| judge(call, error, disabled(), kernel, memlock_bytes);
    // The kernel's struct io_uring_params has 120 bytes; zeroes ask for the defaults.
    let mut params = [0_u64; 15];
    // SAFETY: `params` is writable, zeroed and as large as the kernel's struct; no other memory is passed.
    let answer = unsafe { libc::syscall(libc::SYS_io_uring_setup, 8_u32, params.as_mut_ptr()) };
    if answer < 0 {
        return Err(judge("io_uring_setup", &io::Error::last_os_error()));
    }
    let fd = i32::try_from(answer).unwrap_or(-1);
    // SAFETY: the call above succeeded, so `fd` is open and owned by nobody else.
    let ring = unsafe { OwnedFd::from_raw_fd(fd) };
    // struct io_uring_probe: a header of 16 bytes, then 8 bytes per operation.
    let mut probe = [0_u64; 2 + 256];
    // SAFETY: `probe` is zeroed, writable and has room for the 256 operations that are asked for.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring.as_raw_fd(),
            REGISTER_PROBE,
            probe.as_mut_ptr(),
            256_u32,
        )
    };
    if answer < 0 {
        let error = io::Error::last_os_error();
        // The probe itself came with 5.6.
        if error.raw_os_error() == Some(libc::EINVAL) {
            return Err(ProbeError::TooOld { kernel: kernel.to_owned(), op: 0 });
        }
        return Err(judge("io_uring_register", &error));
    }
    match missing_op(&probe) {
        Some(op) => Err(ProbeError::TooOld { kernel: kernel.to_owned(), op }),
        None => enter(&ring).map_err(|error| judge("io_uring_enter", &error)),
    }
}

/// Enters the ring with nothing to do: a filter may forbid this call alone.
fn enter(ring: &OwnedFd) -> io::Result<()> {
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: nothing is submitted or waited for; the null signal set is allowed by the call.
    let answer = unsafe {
        libc::syscall(libc::SYS_io_uring_enter, ring.as_raw_fd(), 0_u32, 0_u32, 0_u32, none, 0_usize)
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The first needed operation that a filled `struct io_uring_probe` does not have.
fn missing_op(probe: &[u64]) -> Option<usize> {
    // Each entry is {op: u8, resv: u8, flags: u16, resv2: u32}; flag 1 is IO_URING_OP_SUPPORTED.
    NEEDED_OPS.into_iter().find(|&op| {
        let flags = probe.get(2 + op).map_or(0, |entry| entry.to_ne_bytes()[2]);
        flags & 1 == 0
    })
}

/// What a refusal means.
fn judge(
    call: &'static str,
    error: &io::Error,
    disabled: u32,
    kernel: &str,
    memlock_bytes: u64,
) -> ProbeError {
    match error.raw_os_error() {
        Some(libc::EPERM) if disabled > 0 => ProbeError::Disabled { value: disabled },
        Some(libc::EPERM | libc::EACCES) => ProbeError::Forbidden { call },
        Some(libc::ENOSYS) => ProbeError::Missing { kernel: kernel.to_owned() },
        Some(libc::ENOMEM) => ProbeError::MemlockInUse { have: memlock_bytes },
        errno => ProbeError::Other { call, errno: errno.unwrap_or(0) },
    }
}

fn disabled() -> u32 {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// True with `CAP_IPC_LOCK` in the effective set.
fn may_lock() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .is_some_and(|mask| mask & (1 << CAP_IPC_LOCK) != 0)
    })
}

fn raise_memlock(need: u64, executors: u64) -> Result<u64, ProbeError> {
    raise(libc::RLIMIT_MEMLOCK, need, need).map_err(|have| ProbeError::Memlock { have, need, executors })
}

fn raise_files(need: u64) -> Result<u64, ProbeError> {
    raise(libc::RLIMIT_NOFILE, need, need.max(FILES_WISHED)).map_err(|have| ProbeError::Files { have, need })
}

/// Brings a soft limit to at least `need`, to `wish` where the hard limit allows it; the hard limit too
/// where we have the privilege. Answers the soft limit, or the hard limit that is in the way.
fn raise(which: Resource, need: u64, wish: u64) -> Result<u64, u64> {
    let Ok(now) = limit(which) else { return Ok(u64::MAX) };
    if now.rlim_cur >= wish {
        return Ok(now.rlim_cur);
    }
    let soft = libc::rlimit { rlim_cur: wish.min(now.rlim_max), rlim_max: now.rlim_max };
    if soft.rlim_cur < need && set_limit(which, &libc::rlimit { rlim_cur: need, rlim_max: need }) {
        return Ok(need);
    }
    let reached = if set_limit(which, &soft) { soft.rlim_cur } else { now.rlim_cur };
    if reached >= need { Ok(reached) } else { Err(reached) }
}

fn limit(which: Resource) -> io::Result<libc::rlimit> {
    // SAFETY: rlimit is two integers; all zeroes are a valid value.
    let mut limit: libc::rlimit = unsafe { zeroed() };
    // SAFETY: `limit` is a writable rlimit of this frame.
    let answer = unsafe { libc::getrlimit(which, &raw mut limit) };
    if answer == 0 { Ok(limit) } else { Err(io::Error::last_os_error()) }
}

fn set_limit(which: Resource, limit: &libc::rlimit) -> bool {
    // SAFETY: `limit` is a valid rlimit that outlives the call.
    unsafe { libc::setrlimit(which, limit) == 0 }
}

impl std::error::Error for ProbeError {}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled { value: 1 } => f.write_str(
                "io_uring is switched off for unprivileged processes (kernel.io_uring_disabled = 1) - \
                 put this user's group id into kernel.io_uring_group, or run: sysctl -w kernel.io_uring_disabled=0",
            ),
            Self::Disabled { value } => write!(
                f,
                "io_uring is switched off (kernel.io_uring_disabled = {value}) - run on the host: \
                 sysctl -w kernel.io_uring_disabled=0"
            ),
            Self::Forbidden { call } => write!(
                f,
                "{call} is forbidden by a seccomp filter or a security module (EPERM) - \
                 Docker: {DOCKER_SECCOMP}; Kubernetes: {KUBERNETES_SECCOMP}; systemd: add {call} to \
                 SystemCallFilter= (SystemCallFilter=@system-service io_uring_setup io_uring_enter io_uring_register); \
                 SELinux: allow the io_uring class"
            ),
            Self::Missing { kernel } => write!(
                f,
                "this kernel ({kernel}) answers that it has no io_uring (ENOSYS) - use Linux 5.8 or later with \
                 CONFIG_IO_URING; in a container (gVisor, old Docker) a filter may pretend it: {DOCKER_SECCOMP}"
            ),
            Self::TooOld { kernel, op } => write!(
                f,
                "the io_uring of this kernel ({kernel}) lacks operation {op} - use Linux 5.8 or later"
            ),
            Self::Memlock { have, need, executors } => write!(
                f,
                "locked memory is limited to {} KiB, {executors} executor(s) need {} KiB - shell: ulimit -l {}; \
                 systemd: LimitMEMLOCK={}K; Docker: --ulimit memlock={need}; Kubernetes: raise the limit of the \
                 container runtime (LimitMEMLOCK= of containerd) or add the capability IPC_LOCK; \
                 or use fewer cores (runtime.cores)",
                have / 1024,
                need / 1024,
                need / 1024,
                need / 1024,
            ),
            Self::MemlockInUse { have } => write!(
                f,
                "no ring can be made: the locked memory of this user ({} KiB) is in use, perhaps still by a process \
                 that ended a moment ago - try again, or raise it: ulimit -l, LimitMEMLOCK=, --ulimit memlock=",
                have / 1024
            ),
            Self::Files { have, need } => write!(
                f,
                "the limit of open files is {have}, {need} are needed - shell: ulimit -n {need}; \
                 systemd: LimitNOFILE={need}; Docker: --ulimit nofile={need}; Kubernetes: LimitNOFILE= of containerd"
            ),
            Self::Other { call, errno } => {
                write!(f, "{call} failed: {}", io::Error::from_raw_os_error(*errno))
            }
        }
    }
}

#[cfg(target_env = "musl")]
type Resource = libc::c_int;
#[cfg(not(target_env = "musl"))]
type Resource = libc::__rlimit_resource_t;

const DOCKER_SECCOMP: &str = "--security-opt seccomp=FILE with a profile that allows io_uring_setup, io_uring_enter \
    and io_uring_register (or seccomp=unconfined)";
const KUBERNETES_SECCOMP: &str =
    "securityContext.seccompProfile of type Localhost with such a profile (or Unconfined)";
const REGISTER_PROBE: u32 = 8;
const CAP_IPC_LOCK: u32 = 14;
/// The operations that glommio 0.9.0 insists on at start (it ends the process without them), by number:
/// 8, 14, 20, 24 and 25 are the ones below 28 that it does not use.
const NEEDED_OPS: [usize; 23] =
    [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 15, 16, 17, 18, 19, 21, 22, 23, 26, 27];
const _: () = assert!(size_of::<[u64; 15]>() == 120);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_can_run_one_executor() {
        let host = host(1).unwrap();
        assert!(host.memlock_bytes >= MEMLOCK_BYTES_PER_EXECUTOR, "{host:?}");
        assert!(host.files >= FILES_BASE, "{host:?}");
        assert!(host.kernel.contains('.'), "{host:?}");
    }

    #[test]
    fn each_refusal_has_its_own_cause() {
        let judge = |errno, disabled| {
            judge("io_uring_setup", &io::Error::from_raw_os_error(errno), disabled, "6.1", 8 << 20)
        };
        assert_eq!(judge(libc::EPERM, 2), ProbeError::Disabled { value: 2 });
        assert_eq!(judge(libc::EPERM, 0), ProbeError::Forbidden { call: "io_uring_setup" });
        assert_eq!(judge(libc::ENOSYS, 0), ProbeError::Missing { kernel: "6.1".to_owned() });
        assert_eq!(judge(libc::ENOMEM, 0), ProbeError::MemlockInUse { have: 8 << 20 });
        assert_eq!(judge(libc::EMFILE, 0), ProbeError::Other { call: "io_uring_setup", errno: libc::EMFILE });
    }

    #[test]
    fn missing_operations_are_found() {
        let supported = u64::from_ne_bytes([0, 0, 1, 0, 0, 0, 0, 0]);
        let mut probe = [0; 2 + 256];
        assert_eq!(missing_op(&probe), Some(0));
        probe[2..30].fill(supported);
        assert_eq!(missing_op(&probe), None);
        probe[2 + 16] = 0;
        assert_eq!(missing_op(&probe), Some(16));
        // An answer that is cut short lacks what it does not tell.
        assert_eq!(missing_op(&[supported; 10]), Some(9));
    }

    #[test]
    fn texts_name_numbers_and_repairs() {
        let text = ProbeError::Memlock { have: 65_536, need: 4 << 20, executors: 8 }.to_string();
        for part in
            ["64 KiB", "4096 KiB", "ulimit -l 4096", "LimitMEMLOCK=4096K", "memlock=4194304", "IPC_LOCK"]
        {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        let text = ProbeError::Forbidden { call: "io_uring_setup" }.to_string();
        for part in ["--security-opt seccomp=", "SystemCallFilter=", "seccompProfile"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }
}
