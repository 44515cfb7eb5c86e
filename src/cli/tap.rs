//! `sls2siem tap`: events of a running process, as they go to the sink, one per line on standard output.
//!
//! Why: see `admin::tap`; this is the reader that a person starts.
//! Invariants: 1. standard output holds events and nothing else; an event is one line, its control characters escaped.
//! 2. what was not shown, and names that hid nothing, are said on standard error. 3. nothing here can slow the process
//! that is looked at.
//! Bounds: [`LINES_WAITING`] lines between the reading thread and the printing one.
//! Driven by: `main`. Spec: commands and exit codes in README.md.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::TapArgs;
use super::page::{Page, Unanswered, say};
use crate::config::Environment;
use crate::report::Exit;

/// Prints events until there were enough, or until it is told to stop.
pub fn execute(args: &TapArgs, env: Environment) -> Exit {
    look(args, env).unwrap_or_else(|why| say(&why))
}

fn look(args: &TapArgs, env: Environment) -> Result<Exit, Unanswered> {
    let page = Page::find(args.admin.as_deref(), &args.settings, env)?;
    let (status, mut body) = page.stream(&path(args))?;
    if status != 200 {
        let mut text = String::new();
        let _cut = body.by_ref().take(REFUSAL_BYTES_MAX).read_to_string(&mut text);
        let exit = match status {
            400 => Exit::Usage,
            403 => Exit::Refused,
            _ => Exit::Failed,
        };
        let text = format!("{} (HTTP {status} of {})", text.trim(), page.address);
        return Err(Unanswered { exit, text });
    }
    let broken = |error: io::Error| Unanswered { exit: Exit::Bug, text: format!("tap: {error}") };
    let (sender, inbox) = mpsc::sync_channel(LINES_WAITING);
    let signals = Signals::new([SIGINT, SIGTERM]).map_err(broken)?;
    listen(signals, sender.clone()).map_err(broken)?;
    thread::Builder::new().name("tap-reader".into()).spawn(move || read(body, &sender)).map_err(broken)?;
    let mut view = View { masks: args.mask.clone(), ..View::default() };
    let end = view.print(&inbox, &mut io::stdout().lock());
    Ok(view.conclude(end))
}

/// The request for what was typed.
fn path(args: &TapArgs) -> String {
    let mut path = "/tap?".to_owned();
    let mut add = |key: &str, value: &str| {
        let _ = write!(path, "{key}={}&", encode(value));
    };
    if let Some(pipeline) = &args.pipeline {
        add("pipeline", pipeline);
    }
    if let Some(shard) = args.shard {
        add("shard", &shard.to_string());
    }
    if let Some(number) = args.number {
        add("limit", &number.to_string());
    }
    if let Some(seconds) = args.seconds {
        add("seconds", &seconds.to_string());
    }
    if args.mask_all {
        add("mask_all", "1");
    }
    // A comma separates names there; in a name of its own it cannot stand.
    for name in &args.mask {
        add("mask", name);
    }
    path.pop();
    path
}

fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~,".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// What comes in.
enum News {
    Line(String),
    /// The stream ended or broke.
    Over,
    Interrupted,
}

fn listen(mut signals: Signals, sender: SyncSender<News>) -> io::Result<()> {
    let wait = move || {
        if signals.forever().next().is_some() {
            // The printing thread has ended: so does the process.
            let _gone = sender.send(News::Interrupted);
        }
    };
    thread::Builder::new().name("tap-signals".into()).spawn(wait).map(drop)
}

fn read(body: impl Read, sender: &SyncSender<News>) {
    for line in BufReader::new(body).lines() {
        let Ok(line) = line else { break };
        if sender.send(News::Line(line)).is_err() {
            return;
        }
    }
    let _gone = sender.send(News::Over);
}

/// Why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// As wanted: enough, the time, a signal, nobody reads.
    Wanted,
    /// The process ended.
    Stopped,
    /// The connection broke.
    Broken,
    /// Standard output cannot be written.
    Unwritable,
}

/// What was seen so far.
#[derive(Debug, Default)]
struct View {
    masks: Vec<String>,
    masked: BTreeSet<String>,
    shown: u64,
    not_shown: (u64, u64),
}

impl View {
    fn print(&mut self, inbox: &Receiver<News>, out: &mut impl io::Write) -> End {
        loop {
            let line = match inbox.recv() {
                Ok(News::Line(line)) => line,
                Ok(News::Interrupted) => return End::Wanted,
                Ok(News::Over) | Err(_) => return End::Broken,
            };
            let Ok(document) = serde_json::from_str::<Value>(&line) else { return End::Broken };
            match self.take(&document, out) {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return End::Wanted,
                Err(_) => return End::Unwritable,
            }
        }
    }

    fn take(&mut self, document: &Value, out: &mut impl io::Write) -> io::Result<Option<End>> {
        if let Some(event) = document.get("event").and_then(Value::as_str) {
            let names = document.get("masked").and_then(Value::as_array).into_iter().flatten();
            self.masked.extend(names.filter_map(Value::as_str).map(str::to_owned));
            out.write_all(one_line(event).as_bytes())?;
            out.flush()?;
            self.shown += 1;
        } else if let Some(missing) = document.get("not_shown") {
            let (frames, events) = (number(missing, "frames"), number(missing, "events"));
            self.not_shown = (self.not_shown.0 + frames, self.not_shown.1 + events);
            note(&format!("… {} not shown", amount(frames, events)));
        } else if let Some(end) = document.get("end") {
            let why = end.get("why").and_then(Value::as_str).unwrap_or_default();
            return Ok(Some(if why == "stopped" { End::Stopped } else { End::Wanted }));
        }
        Ok(None)
    }

    /// The last words.
    fn conclude(&self, end: End) -> Exit {
        let (frames, events) = self.not_shown;
        let left_out = if self.not_shown == (0, 0) {
            String::new()
        } else {
            format!(", {} not shown", amount(frames, events))
        };
        note(&format!("{} events shown{left_out}; they are copies, forwarding was not touched", self.shown));
        let never: Vec<&str> =
            self.masks.iter().filter(|name| !self.masked.contains(*name)).map(String::as_str).collect();
        if !never.is_empty() {
            note(&format!("nothing was hidden for {}: no event that was shown has it", never.join(", ")));
        }
        match end {
            End::Wanted => Exit::Done,
            End::Stopped => {
                note("the process that was looked at has stopped");
                Exit::Done
            }
            End::Broken => {
                note("the connection to the admin page broke");
                Exit::Failed
            }
            End::Unwritable => {
                note("standard output cannot be written");
                Exit::Failed
            }
        }
    }
}

/// `12 frames (345 events)`; no frame where only a part of one was left out.
fn amount(frames: u64, events: u64) -> String {
    if frames == 0 { format!("{events} events") } else { format!("{frames} frames ({events} events)") }
}

fn number(of: &Value, key: &str) -> u64 {
    of.get(key).and_then(Value::as_u64).unwrap_or_default()
}

fn note(text: &str) {
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "sls2siem: {text}");
}

/// An event with its end of line, and without anything that a terminal would obey.
fn one_line(event: &str) -> String {
    let mut line = String::with_capacity(event.len() + 1);
    for c in event.chars() {
        match c {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push('\t'),
            c if c.is_control() => {
                // As JSON writes it: an event of HEC stays one.
                let _ = write!(line, "\\u{:04x}", u32::from(c));
            }
            c => line.push(c),
        }
    }
    line.push('\n');
    line
}

const LINES_WAITING: usize = 256;
const REFUSAL_BYTES_MAX: u64 = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn view(lines: &[&str]) -> (View, End, String) {
        let (sender, inbox) = mpsc::channel();
        for line in lines {
            sender.send(News::Line((*line).to_owned())).unwrap();
        }
        sender.send(News::Over).unwrap();
        let mut view = View { masks: vec!["a".into(), "b".into()], ..View::default() };
        let mut out = Vec::new();
        let end = view.print(&inbox, &mut out);
        (view, end, String::from_utf8(out).unwrap())
    }

    #[test]
    fn events_are_lines_and_nothing_else_is() {
        let (view, end, out) = view(&[
            r#"{"pipeline":"p","shard":1,"event":"one\ntwo\u001b[31m\u0000\u007f","masked":["a"]}"#,
            r#"{"alive":{"shown":1}}"#,
            r#"{"not_shown":{"frames":12,"events":345}}"#,
            r#"{"not_shown":{"frames":0,"events":5}}"#,
            r#"{"something":"of a later version"}"#,
            r#"{"end":{"why":"limit"}}"#,
            r#"{"event":"behind the end"}"#,
        ]);
        assert_eq!((out.as_str(), end), ("one\\ntwo\\u001b[31m\\u0000\\u007f\n", End::Wanted));
        assert_eq!((view.shown, view.not_shown), (1, (12, 350)));
        assert!(view.masked.contains("a") && !view.masked.contains("b"));
    }

    #[test]
    fn ends_are_told_apart() {
        assert_eq!(view(&[]).1, End::Broken);
        assert_eq!(view(&["<html>"]).1, End::Broken);
        assert_eq!(view(&[r#"{"end":{"why":"stopped"}}"#]).1, End::Stopped);
        assert_eq!(View::default().conclude(End::Broken), Exit::Failed);
    }

    #[test]
    fn what_was_typed_becomes_a_request() {
        let mask = vec!["a,b".to_owned(), "p&w=".to_owned()];
        let args = TapArgs { shard: Some(3), number: Some(5), mask, mask_all: true, ..TapArgs::default() };
        assert_eq!(path(&args), "/tap?shard=3&limit=5&mask_all=1&mask=a,b&mask=p%26w%3D");
        assert_eq!(path(&TapArgs::default()), "/tap");
    }
}
