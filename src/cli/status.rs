//! `sls2siem status`: the consumer group as the cloud console shows it.
//!
//! Why: "who reads which shard, and how far behind" without a browser, and in a form that scripts read.
//! Invariants: 1. nothing is changed: the group is not joined. 2. what SLS does not tell is `-` or null.
//! Bounds: three calls per shard. Driven by: `main`. Spec: commands in README.md.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use serde_json::{Value, json};

use super::group;
use super::{StatusArgs, group::Target};
use crate::config::Environment;
use crate::control::group::Progress;
use crate::drive::clock;
use crate::proto::sls::api::answer::ShardStatus;
use crate::proto::time::UnixTime;
use crate::report::{self, Exit};

/// Prints how far the group is.
pub fn execute(args: &StatusArgs, env: Environment) -> Exit {
    let targets = match group::targets(&args.settings, args.pipeline.as_deref(), env) {
        Ok(targets) => targets,
        Err(exit) => return exit,
    };
    let mut exit = Exit::Done;
    let (mut text, mut documents) = (String::new(), Vec::new());
    for target in &targets {
        match target.group.read() {
            Ok(rows) if args.json => documents.push(document(target, &rows, clock::wall())),
            Ok(rows) => {
                heading(&mut text, target, targets.len() > 1);
                table(&mut text, &rows, clock::wall());
            }
            Err(failure) => {
                let own = target.tell(&failure);
                exit = if exit == Exit::Done { own } else { exit };
            }
        }
    }
    if args.json {
        text = serde_json::to_string_pretty(&json!({ "pipelines": documents })).unwrap_or_default();
        text.push('\n');
    }
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Exit::Failed,
        _ => exit,
    }
}

fn heading(out: &mut String, target: &Target, named: bool) {
    let place = &target.place;
    if named {
        let _ = write!(out, "{}: ", place.pipeline);
    }
    let _ = writeln!(out, "{}/{}, consumer group {}", place.project, place.logstore, place.consumer_group);
}

/// One line per shard.
fn table(out: &mut String, rows: &[Progress], now: UnixTime) {
    let head = ["SHARD", "STATUS", "CONSUMER", "CHECKPOINT", "LAST LOG BEFORE IT", "BEHIND", "LOG GROUPS"];
    let lines: Vec<[String; 7]> = rows.iter().map(|row| line(row, now)).collect();
    group::columns(out, &head.map(str::to_owned), &lines);
}

fn line(row: &Progress, now: UnixTime) -> [String; 7] {
    let dash = || "-".to_owned();
    [
        row.shard.to_string(),
        row.status.map_or("-", status_word).to_owned(),
        if row.consumer.is_empty() { dash() } else { row.consumer.clone() },
        row.checkpoint.as_ref().map_or_else(|| "none yet".to_owned(), ToString::to_string),
        row.time.map_or_else(dash, |time| report::moment(UnixTime::from_secs(time))),
        row.behind_secs(now).map_or_else(dash, group::span),
        row.behind_groups().map_or_else(dash, |groups| groups.to_string()),
    ]
}

fn document(target: &Target, rows: &[Progress], now: UnixTime) -> Value {
    let place = &target.place;
    let shards: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "shard": row.shard.0,
                "status": row.status.map(status_word),
                "consumer": Some(&row.consumer).filter(|name| !name.is_empty()),
                "checkpoint": row.checkpoint.as_ref().map(ToString::to_string),
                "saved_at": row.saved.map(UnixTime::as_secs),
                "checkpoint_time": row.time,
                "end": row.end.as_ref().map(ToString::to_string),
                "behind_seconds": row.behind_secs(now),
                "behind_groups_estimate": row.behind_groups(),
            })
        })
        .collect();
    json!({
        "name": place.pipeline,
        "project": place.project,
        "logstore": place.logstore,
        "consumer_group": place.consumer_group,
        "shards": shards,
    })
}

fn status_word(status: ShardStatus) -> &'static str {
    match status {
        ShardStatus::ReadWrite => "readwrite",
        ShardStatus::ReadOnly => "readonly",
        ShardStatus::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::ids::{Cursor, ShardId};

    fn row(checkpoint: &str, end: &str) -> Progress {
        Progress {
            shard: ShardId(3),
            status: Some(ShardStatus::ReadOnly),
            consumer: "c1".into(),
            checkpoint: Some(Cursor::new(checkpoint)).filter(|cursor| !cursor.is_empty()),
            saved: None,
            time: Some(1_700_000_000),
            end: Some(Cursor::new(end)),
            next_time: None,
        }
    }

    #[test]
    fn a_shard_at_its_end_is_not_behind_and_an_unsaved_one_is_not_known() {
        let now = UnixTime::from_secs(1_700_000_090);
        // base64 of 10, 17.
        let (behind, done, unsaved) = (row("MTA=", "MTc="), row("MTc=", "MTc="), row("", "MTc="));
        assert_eq!((behind.behind_secs(now), behind.behind_groups()), (Some(90), Some(7)));
        assert_eq!((done.behind_secs(now), done.behind_groups()), (Some(0), Some(0)));
        assert_eq!((unsaved.behind_secs(now), unsaved.behind_groups()), (None, None));
        let newer = Progress { next_time: Some(1_700_000_080), ..behind.clone() };
        assert_eq!(newer.behind_secs(now), Some(10), "what counts is the first log that is missing");
        let mut out = String::new();
        table(&mut out, &[behind, done, unsaved], now);
        let lines: Vec<&str> = out.lines().collect();
        assert!(lines[0].starts_with("SHARD  STATUS"), "{out}");
        assert!(lines[1].contains("2023-11-14T22:13:20Z") && lines[1].contains("1m30s"), "{out}");
        assert!(lines[3].contains("none yet") && lines[3].ends_with('-'), "{out}");
    }
}
