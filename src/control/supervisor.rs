//! What a supervisor is told: ready, alive, reloading, stopping.
//!
//! Why: systemd starts what comes after us only when we are ready, and restarts us when we hang; both need our word.
//! Invariants: 1. without `NOTIFY_SOCKET` nothing happens. 2. a message that cannot be delivered is dropped: the
//! supervisor's own time-out is the answer to that.
//! Bounds: one datagram a message. Driven by: `cli::run`. Spec: `sd_notify(3)`, `sd_watchdog_enabled(3)`.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::proto::time::Instant;

/// The way to the supervisor, where there is one.
#[derive(Debug, Default)]
pub struct Supervisor {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants to hear that we live.
    alive_every: Option<Duration>,
    alive_at: Option<Instant>,
}

impl Supervisor {
    /// From the environment that the supervisor gave us.
    pub fn from_environment() -> Self {
        let watchdog = std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok());
        let for_us = std::env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        Self::new(std::env::var_os("NOTIFY_SOCKET"), watchdog.filter(|_| for_us).map(Duration::from_micros))
    }

    fn new(path: Option<OsString>, watchdog: Option<Duration>) -> Self {
        let address = path.and_then(|path| match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
            [b'/', ..] => SocketAddr::from_pathname(&path).ok(),
            _ => None,
        });
        let socket = address.and_then(|address| Some((UnixDatagram::unbound().ok()?, address)));
        // Half of what it would wait for, as the manual advises.
        let alive_every = watchdog.map(|every| every / 2).filter(|every| !every.is_zero());
        Self { socket, alive_every, alive_at: None }
    }

    /// Everything is started.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// Settings are being read again; `ready` ends it. `now`: the monotonic clock of the machine.
    pub fn reloading(&self, monotonic: Duration) {
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic.as_micros()));
    }

    /// A stop has begun.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=draining: pulls have ended, what is in flight is being delivered");
    }

    /// We live: to be called often, with what `healthz` says.
    pub fn alive(&mut self, now: Instant, is_healthy: bool) {
        let Some(every) = self.alive_every else { return };
        if is_healthy && self.alive_at.is_none_or(|at| at <= now) {
            self.alive_at = Some(now + every);
            self.tell("WATCHDOG=1");
        }
    }

    fn tell(&self, message: &str) {
        if let Some((socket, address)) = &self.socket {
            // Invariant 2.
            let _dropped = socket.send_to_addr(message.as_bytes(), address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(name: &str) -> (tempfile::TempDir, UnixDatagram, OsString) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        (dir, socket, path.into_os_string())
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let bytes = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..bytes]).into_owned()
    }

    #[test]
    fn it_is_told_and_an_unhealthy_process_is_silent() {
        let (_dir, socket, path) = listener("notify");
        let mut supervisor = Supervisor::new(Some(path), Some(Duration::from_secs(10)));
        supervisor.ready("two pipelines");
        assert_eq!(heard(&socket), "READY=1\nSTATUS=two pipelines");
        let at = |seconds: u64| Instant(seconds * 1_000_000_000);
        for second in 1..=11 {
            supervisor.alive(at(second), second != 6 && second != 7);
        }
        assert_eq!(
            [heard(&socket), heard(&socket)],
            ["WATCHDOG=1", "WATCHDOG=1"],
            "at 1 s and, late, at 8 s"
        );
        supervisor.reloading(Duration::from_micros(7));
        assert_eq!(heard(&socket), "RELOADING=1\nMONOTONIC_USEC=7");
        supervisor.stopping();
        assert!(heard(&socket).starts_with("STOPPING=1"));
    }

    #[test]
    fn nobody_there_is_no_trouble() {
        for path in [None, Some("".into()), Some("relative".into()), Some("/nowhere/notify".into())] {
            let mut supervisor = Supervisor::new(path, Some(Duration::from_secs(1)));
            supervisor.ready("x");
            supervisor.alive(Instant(1), true);
        }
    }
}
