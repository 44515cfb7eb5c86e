//! `sls2siem seek`: moves the checkpoints of a consumer group.
//!
//! Why: "send the last two hours again" and "skip the backlog" are what operators need after an incident, and `start`
//! means nothing once a checkpoint exists.
//! Invariants: 1. without `--dry-run` nothing is moved while a live consumer holds one of the shards: its next commit
//! would undo the move, or the move would repeat what it just delivered. 2. what is sent again or skipped is said
//! before anything is moved.
//! Bounds: waits for consumers that were just stopped as long as the group's timeout.
//! Driven by: `main`. Spec: commands in README.md; UpdateCheckPoint with force.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::thread;
use std::time::Duration;

use super::SeekArgs;
use super::group::{self, Target};
use crate::config::{Environment, Moment};
use crate::control::group::{Failure, Move};
use crate::drive::clock;
use crate::proto::sls::api::CursorFrom;
use crate::proto::time::UnixTime;
use crate::report::{self, Exit};

/// Moves the checkpoints, or says what would happen.
pub fn execute(args: &SeekArgs, env: Environment) -> Exit {
    let targets = match group::targets(&args.settings, args.pipeline.as_deref(), env) {
        Ok(targets) => targets,
        Err(exit) => return exit,
    };
    if targets.len() > 1 && !args.shards.is_empty() {
        let text = "--shard with several pipelines: name one of them with --pipeline";
        return group::say(Exit::Usage, &text);
    }
    let mut exit = Exit::Done;
    for target in &targets {
        let own = one(args, target).unwrap_or_else(|failure| target.tell(&failure));
        exit = if exit == Exit::Done { own } else { exit };
    }
    exit
}

fn one(args: &SeekArgs, target: &Target) -> Result<Exit, Failure> {
    let mut rows = target.group.read()?;
    let unknown = args.shards.iter().find(|wanted| rows.iter().all(|row| row.shard.0 != **wanted));
    if let Some(unknown) = unknown {
        let known: Vec<String> = rows.iter().map(|row| row.shard.to_string()).collect();
        let text = format!("--shard {unknown}: the group has shards {}", known.join(", "));
        return Ok(group::say(Exit::Usage, &text));
    }
    rows.retain(|row| args.shards.is_empty() || args.shards.contains(&row.shard.0));
    let moves = target.group.plan(rows, from(args.to))?;
    let now = clock::wall();
    let mut text = String::new();
    let place = &target.place;
    let _ = writeln!(text, "{}/{}, consumer group {}", place.project, place.logstore, place.consumer_group);
    let head = ["SHARD", "FROM", "TO", "EFFECT"].map(str::to_owned);
    let lines: Vec<[String; 4]> = moves.iter().map(|moved| line(moved, args.to, now)).collect();
    group::columns(&mut text, &head, &lines);
    // A closed pipe is no reason to move anything differently.
    let _ = io::stdout().lock().write_all(text.as_bytes());
    if args.dry_run {
        return Ok(done("dry run: nothing was moved"));
    }
    let moves: Vec<Move> = moves.into_iter().filter(|moved| !moved.is_idle()).collect();
    if moves.is_empty() {
        return Ok(done("nothing to move"));
    }
    if let Some(holders) = wait_for_free(target, &moves)? {
        let text = format!(
            "pipeline {}: live consumers hold these shards ({holders}): a checkpoint that is moved now would be undone by \
             their next one - nothing was moved - stop every consumer of group {} and try again",
            place.pipeline, place.consumer_group
        );
        return Ok(group::say(Exit::Failed, &text));
    }
    for (done, moved) in moves.iter().enumerate() {
        if let Err(failure) = target.group.force(moved) {
            let _ = group::say(Exit::Failed, &format!("{done} of {} shards were moved", moves.len()));
            return Err(failure);
        }
    }
    Ok(done(&format!("moved {} shard{}", moves.len(), if moves.len() == 1 { "" } else { "s" })))
}

/// Waits until no live consumer holds one of the shards; those that still do when the time is over.
fn wait_for_free(target: &Target, moves: &[Move]) -> Result<Option<String>, Failure> {
    let timeout = target.group.timeout_secs().map_or(target.timeout, Duration::from_secs);
    let deadline = clock::now() + timeout + Duration::from_secs(2);
    let mut told = false;
    loop {
        let held = target.group.holders(moves)?;
        if held.is_empty() {
            return Ok(None);
        }
        let text = held.iter().map(|(shard, name)| format!("shard {shard}: {name}"));
        let text = text.collect::<Vec<_>>().join(", ");
        if clock::now() >= deadline {
            return Ok(Some(text));
        }
        if !told {
            told = true;
            let bound = group::span(timeout.as_secs() + 2);
            let words = format!("waiting up to {bound} for consumers to leave the group ({text})");
            let _ = group::say(Exit::Done, &words);
        }
        thread::park_timeout(LOOK);
    }
}

fn done(text: &str) -> Exit {
    let _ = writeln!(io::stdout().lock(), "{text}");
    Exit::Done
}

fn from(to: Moment) -> CursorFrom {
    match to {
        Moment::Begin => CursorFrom::Begin,
        Moment::End => CursorFrom::End,
        Moment::At(seconds) => CursorFrom::Time(UnixTime::from_secs(seconds)),
    }
}

fn line(moved: &Move, to: Moment, now: UnixTime) -> [String; 4] {
    let at = |time: Option<u64>| {
        time.map_or_else(String::new, |time| format!(" ({})", report::moment(UnixTime::from_secs(time))))
    };
    let from = match &moved.now.checkpoint {
        Some(cursor) => format!("{cursor}{}", at(moved.now.next_time.or(moved.now.time))),
        None => "none yet".to_owned(),
    };
    let to_time = moved.to_time.or_else(|| match to {
        Moment::Begin => None,
        Moment::End => Some(now.as_secs()),
        Moment::At(seconds) => Some(seconds.min(now.as_secs())),
    });
    [moved.now.shard.to_string(), from, format!("{}{}", moved.to, at(to_time)), effect(moved, to_time, now)]
}

/// What happens to the logs in between.
fn effect(moved: &Move, to_time: Option<u64>, now: UnixTime) -> String {
    if moved.is_idle() {
        return "none".to_owned();
    }
    if moved.now.checkpoint.is_none() {
        return "begins there".to_owned();
    }
    // At its end a shard stands at now; elsewhere at the first log that is missing.
    let at_end = moved.now.is_at_end().then(|| now.as_secs());
    let from_time = at_end.or(moved.now.next_time).or(moved.now.time);
    let span = match (from_time, to_time) {
        (Some(from), Some(to)) => format!(", {} of receive time", group::span(from.abs_diff(to))),
        _ => String::new(),
    };
    let forward = moved.groups().map_or(to_time > from_time, |groups| groups > 0);
    let count = moved.groups().map_or_else(
        || "an unknown number of log groups".to_owned(),
        |groups| format!("about {} log groups", groups.unsigned_abs()),
    );
    if forward { format!("skips {count}{span}") } else { format!("sends {count} again{span}") }
}

/// Between two looks at who holds the shards.
const LOOK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::group::Progress;
    use crate::proto::ids::{Cursor, ShardId};

    /// Checkpoint and end are base64 of decimal numbers.
    fn moved(checkpoint: &str, end: &str, to: &str, to_time: Option<u64>) -> Move {
        let now = Progress {
            shard: ShardId(0),
            status: None,
            consumer: String::new(),
            checkpoint: Some(Cursor::new(checkpoint)).filter(|cursor| !cursor.is_empty()),
            saved: None,
            time: Some(1_000),
            end: Some(Cursor::new(end)),
            next_time: None,
        };
        Move { now, to: Cursor::new(to), to_time }
    }

    #[test]
    fn the_effect_is_said_in_groups_and_time() {
        let now = UnixTime::from_secs(2_000);
        // 10, 17, 12
        let back = moved("MTc=", "MTc=", "MTA=", Some(1_400));
        assert_eq!(effect(&back, back.to_time, now), "sends about 7 log groups again, 10m0s of receive time");
        let on = moved("MTA=", "MTc=", "MTI=", Some(1_090));
        assert_eq!(effect(&on, on.to_time, now), "skips about 2 log groups, 1m30s of receive time");
        assert_eq!(effect(&moved("MTA=", "MTc=", "MTA=", None), None, now), "none");
        assert_eq!(effect(&moved("", "MTc=", "MTA=", None), None, now), "begins there");
        let opaque = moved("a", "b", "c", Some(900));
        assert_eq!(
            effect(&opaque, opaque.to_time, now),
            "sends an unknown number of log groups again, 1m40s of receive time"
        );
    }
}
