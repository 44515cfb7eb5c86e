//! A child process that is told to stop as a supervisor would, and that never outlives us.
//!
//! Why: std can only kill, and a forwarder that is killed shows nothing of its orderly end. A demo that is killed
//! itself must not leave a forwarder behind that tries for ever to reach servers that are gone.
//! Invariants: 1. a signal goes only to a child that has not been waited for, so its number cannot be somebody else's.
//! Bounds: none.   Driven by: `cli::demo`.   Spec: kill(2), `PR_SET_PDEATHSIG(2const)`.
#![expect(unsafe_code, reason = "kill and prctl are not in std")]

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

/// Sends SIGTERM.
pub fn terminate(child: &mut Child) -> io::Result<()> {
    // Invariant 1: as long as nobody has waited for it, its number stays its own.
    if child.try_wait()?.is_some() {
        return Ok(());
    }
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    // SAFETY: kill takes two numbers; the process is our child and not reaped (above), `child` is borrowed alone.
    match unsafe { libc::kill(pid, libc::SIGTERM) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has the kernel kill the child when the thread that starts it ends, however that ends.
///
/// Not SIGTERM: a forwarder whose servers have gone with its parent has nobody to drain to, and would wait for them.
pub fn end_with_parent(command: &mut Command) {
    let ask = || {
        // SAFETY: prctl with this option takes one number, touches no memory, and is async-signal-safe.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: `ask` makes one system call between fork and exec; no allocation, no lock.
    unsafe { command.pre_exec(ask) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_terminated_and_a_dead_one_is_left_alone() {
        use std::os::unix::process::ExitStatusExt as _;
        let mut command = Command::new("sleep");
        command.arg("60");
        end_with_parent(&mut command);
        let mut child = command.spawn().unwrap();
        terminate(&mut child).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
        terminate(&mut child).unwrap();
    }
}
