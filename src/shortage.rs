//! Errors of the system that say nothing about the settings: it had too little of something at that moment.
//!
//! Why: "cannot be read" is a reason to repair the settings, and a service manager does not start again what ends for that
//! reason. Out of file descriptors, memory or room the settings are right, and the next start may work.
//! Invariants: 1. what is not known for a shortage is none. 2. each has words for what helps.
//! Bounds: none. Driven by: whatever reads files before the start. Spec: errno(3).

use std::io;

/// What helps against this error, where the system was short of something.
pub fn shortage(error: &io::Error) -> Option<&'static str> {
    let todo = match error.raw_os_error()? {
        libc::EMFILE => {
            "nothing is wrong with the settings: raise the limit of open files (LimitNOFILE), then try again"
        }
        libc::ENFILE => {
            "nothing is wrong with the settings: the machine has too many open files (sysctl fs.file-max), then try again"
        }
        libc::ENOMEM | libc::EAGAIN | libc::ENOBUFS => {
            "nothing is wrong with the settings: the machine or the service's limits (MemoryMax, TasksMax) are full; make \
             room, then try again"
        }
        libc::ENOSPC | libc::EDQUOT => {
            "nothing is wrong with the settings: make room on that file system, then try again"
        }
        libc::EIO | libc::ESTALE | libc::ETIMEDOUT => {
            "nothing is wrong with the settings: look at that disk or network file system, then try again"
        }
        _ => return None,
    };
    Some(todo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_system_is_told_from_wrong_settings() {
        let of = |errno| shortage(&io::Error::from_raw_os_error(errno));
        for errno in
            [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN, libc::ENOSPC, libc::EDQUOT, libc::EIO]
        {
            let todo = of(errno).unwrap();
            assert!(
                todo.contains("nothing is wrong with the settings") && todo.contains("try again"),
                "{todo}"
            );
        }
        for errno in
            [libc::ENOENT, libc::EACCES, libc::EISDIR, libc::ENOTDIR, libc::ELOOP, libc::EROFS, libc::EINVAL]
        {
            assert_eq!(of(errno), None, "{errno}");
        }
        assert_eq!(shortage(&io::Error::other("what the library thinks")), None);
    }
}
