//! Signals of the operating system as words: stop politely, stop now, read the settings again, say more.
//!
//! Why: a supervisor sends SIGTERM and waits; an impatient operator presses Ctrl-C twice.
//! Invariants: 1. the first SIGTERM or SIGINT only asks; 2. the second ends the process at once with exit code 1:
//! checkpoints never run ahead of acknowledgements, so that costs duplicates, not records. 3. nothing is done here: the
//! thread that watches the process carries a wish out.
//! Bounds: one thread. Driven by: `cli::run`. Spec: exit codes of the reference in README.md.

use std::io;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::{Handle, Signals};

/// Listens until it is dropped.
#[derive(Debug)]
pub struct SignalListener {
    handle: Handle,
}

impl Drop for SignalListener {
    fn drop(&mut self) {
        self.handle.close();
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Stop,
    ExitNow,
    Wish(Wish),
}

/// What an operator wants of the running process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// SIGTERM or SIGINT: drain and end.
    Stop,
    /// SIGHUP: read the settings again.
    Reload,
    /// SIGUSR1: the next louder log level.
    Louder,
}

/// Calls `wish` for every signal that asks for something.
pub fn listen(mut wish: impl FnMut(Wish) + Send + 'static) -> io::Result<SignalListener> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
    let handle = signals.handle();
    thread::Builder::new().name("s2s-signals".into()).spawn(move || {
        let mut stopping = false;
        for signal in signals.forever() {
            match judge(signal, &mut stopping) {
                Ask::Stop => {
                    tracing::info!(
                        signal,
                        "stopping: pulls end, what is in flight is delivered and committed"
                    );
                    wish(Wish::Stop);
                }
                Ask::ExitNow => {
                    tracing::warn!(
                        signal,
                        "second signal: ending at once - nothing is lost, \
                         what was in flight is sent again"
                    );
                    std::process::exit(EXIT_FAILED);
                }
                Ask::Wish(other) => wish(other),
            }
        }
    })?;
    Ok(SignalListener { handle })
}

fn judge(signal: i32, stopping: &mut bool) -> Ask {
    match signal {
        SIGHUP => Ask::Wish(Wish::Reload),
        SIGUSR1 => Ask::Wish(Wish::Louder),
        _ if std::mem::replace(stopping, true) => Ask::ExitNow,
        _ => Ask::Stop,
    }
}

/// Ran and failed.
const EXIT_FAILED: i32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_asks_the_second_ends_and_others_do_not_stop() {
        let mut stopping = false;
        assert_eq!(judge(SIGHUP, &mut stopping), Ask::Wish(Wish::Reload));
        assert_eq!(judge(SIGTERM, &mut stopping), Ask::Stop);
        assert_eq!(judge(SIGUSR1, &mut stopping), Ask::Wish(Wish::Louder));
        assert_eq!(judge(SIGINT, &mut stopping), Ask::ExitNow);
    }

    #[test]
    fn a_real_signal_arrives() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let listener = listen(move |wish| sender.send(wish).unwrap()).unwrap();
        for (signal, wish) in [(SIGHUP, Wish::Reload), (SIGUSR1, Wish::Louder), (SIGTERM, Wish::Stop)] {
            signal_hook::low_level::raise(signal).unwrap();
            assert_eq!(receiver.recv_timeout(std::time::Duration::from_secs(5)), Ok(wish));
        }
        drop(listener);
    }
}
