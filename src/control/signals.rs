//! Signals of the operating system as two words: stop politely, stop now.
//!
//! Why: a supervisor sends SIGTERM and waits; an impatient operator presses Ctrl-C twice.
//! Invariants: 1. the first SIGTERM or SIGINT only asks; 2. the second ends the process at once with exit code 1:
//! checkpoints never run ahead of acknowledgements, so that costs duplicates, not records.
//! Bounds: one thread. Driven by: `cli::run`. Spec: exit codes of the reference in README.md.

use std::io;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
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
    Nothing,
}

/// Calls `stop` at the first SIGTERM or SIGINT.
pub fn listen(mut stop: impl FnMut() + Send + 'static) -> io::Result<SignalListener> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
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
                    stop();
                }
                Ask::ExitNow => {
                    tracing::warn!(
                        signal,
                        "second signal: ending at once - nothing is lost, \
                         what was in flight is sent again"
                    );
                    std::process::exit(EXIT_FAILED);
                }
                Ask::Nothing => {
                    tracing::info!("SIGHUP: the settings are read at start only - restart to change them");
                }
            }
        }
    })?;
    Ok(SignalListener { handle })
}

fn judge(signal: i32, stopping: &mut bool) -> Ask {
    match signal {
        SIGHUP => Ask::Nothing,
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
    fn the_first_asks_the_second_ends_and_a_hangup_is_only_told() {
        let mut stopping = false;
        assert_eq!(judge(SIGHUP, &mut stopping), Ask::Nothing);
        assert_eq!(judge(SIGTERM, &mut stopping), Ask::Stop);
        assert_eq!(judge(SIGHUP, &mut stopping), Ask::Nothing);
        assert_eq!(judge(SIGINT, &mut stopping), Ask::ExitNow);
    }

    #[test]
    fn a_real_signal_arrives() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let listener = listen(move || sender.send(()).unwrap()).unwrap();
        signal_hook::low_level::raise(SIGTERM).unwrap();
        receiver.recv_timeout(std::time::Duration::from_secs(5)).unwrap();
        drop(listener);
    }
}
