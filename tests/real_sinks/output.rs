//! What a daemon wrote: its messages, as it parsed them.

use std::collections::BTreeMap;

use loadgen::payload::Seq;
use serde_json::Value;

use crate::daemon::{Daemon, Kind, lines};

/// One message of a daemon's file.
#[derive(Clone, Debug)]
pub(crate) struct Event(Value);

impl Event {
    /// A field as text.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_default()
    }

    /// A field as a number, which rsyslog writes as text.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        let value = &self.0[name];
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    }

    /// The number of the log in a JSON message that is whole.
    pub(crate) fn seq(&self) -> Option<Seq> {
        let body: Value = serde_json::from_str(self.text("msg")).ok()?;
        Seq::parse(body["seq"].as_str()?.as_bytes())
    }
}

/// All messages in the file, in order, and how many lines are none: the last one may be half written, where the daemon
/// was killed.
pub(crate) fn events(daemon: &Daemon) -> (Vec<Event>, usize) {
    let lines = lines(&daemon.out());
    let events: Vec<_> = lines.iter().filter_map(|line| serde_json::from_str(line).map(Event).ok()).collect();
    let broken = lines.len() - events.len();
    (events, broken)
}

/// How often each log is there, and how many messages carry none.
pub(crate) fn count(events: &[Event]) -> (BTreeMap<Seq, u64>, usize) {
    let mut found: BTreeMap<Seq, u64> = BTreeMap::new();
    let mut strange = 0;
    for event in events {
        match event.seq() {
            Some(seq) => *found.entry(seq).or_default() += 1,
            None => strange += 1,
        }
    }
    (found, strange)
}

/// What a daemon may make of a text: rsyslog writes NUL as `#000`, syslog-ng as `\\x00`.
pub(crate) fn texts(kind: Kind, text: &str) -> [String; 2] {
    let nul = if kind.is_rsyslog() { "#000" } else { "\\x00" };
    let text = text.replace('\0', nul);
    // Both take the line feed at the very end away.
    [text.trim_end_matches('\n').to_owned(), text]
}
