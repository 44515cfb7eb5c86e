//! Records that a sink refuses for good, and the dead letter that takes them.
//!
//! Why: one event with a wrong index stops a shard; whoever has to repair it needs the index, the setting that holds the
//! token, and the first event, and not a number of HEC.
//! Invariants: 1. the token itself is never an input. 2. "nothing skipped" is said only where it is so.
//! Bounds: as `report`.   Driven by: `report`.   Spec: HEC codes 6 to 15; RELP responses.

use super::{Advice, Place, Text, clean, hec};
use crate::proto::event::{Refusal, RefusedRecord};
use crate::proto::ids::ShardId;

/// As received, with the name of the record.
pub(super) fn cause(record: &RefusedRecord) -> String {
    let why = match &record.refusal {
        Refusal::Hec(answer) => hec::cause(answer),
        Refusal::Relp { code, text } => format!("RELP response {code}: {}", clean(text)),
        Refusal::Oversize { bytes } => format!("{bytes} bytes are more than max_message_bytes"),
    };
    format!("{why}; log {} of the pull at cursor {}", record.number, clean(record.cursor.as_str()))
}

fn advice(place: &Place, record: &RefusedRecord) -> Advice {
    match &record.refusal {
        Refusal::Hec(answer) if answer.code == Some(7) => {
            let problem = match &record.index {
                Some(index) => format!("refuses the index {:?} for the token of [hec]", clean(index)),
                None => "refuses the default index of the token of [hec]".to_owned(),
            };
            let table = if place.pipeline == "default" {
                "[hec]".to_owned()
            } else {
                format!("[pipeline.{}.hec]", place.pipeline)
            };
            let todo = "make the index in Splunk, or add it to the allowed indexes of the token that stands in TABLE token \
                        (token_file, HEC_TOKEN), or change TABLE index";
            Advice::new("hec-index", problem, todo.replace("TABLE", &table))
        }
        Refusal::Hec(answer) => hec::advice(answer),
        Refusal::Relp { .. } => {
            Advice::new("relp-refused", "refuses a message", "look into the log of the RELP server")
        }
        Refusal::Oversize { .. } => Advice::new(
            "oversize",
            "cannot take a log of this size",
            format!(
                "raise max_message_bytes, or set oversize = \"truncate\" or \"split\" in [{}]",
                place.sink
            ),
        ),
    }
}

/// There is no dead letter: the shard waits.
pub(super) fn held(place: &Place, shard: ShardId, record: &RefusedRecord) -> Text {
    let advice = advice(place, record);
    Text {
        kind: advice.kind,
        what: format!(
            "pipeline {}: {} {} (a log of shard {shard})",
            place.pipeline, place.sink, advice.problem
        ),
        cause: cause(record),
        safe:
            "nothing skipped: the log is kept and offered again, the checkpoint of the shard waits before it"
                .into(),
        todo: format!("{}; or set [dead_letter] dir to put such logs aside", advice.todo),
        retry_in: None,
    }
}

/// The dead letter took it.
pub(super) fn buried(place: &Place, shard: ShardId, records: u64, last: &RefusedRecord) -> Text {
    let advice = advice(place, last);
    let logs = if records == 1 { "1 log".to_owned() } else { format!("{records} logs, of which the last") };
    Text {
        kind: advice.kind,
        what: format!(
            "pipeline {}: {} {} (shard {shard}: {logs})",
            place.pipeline, place.sink, advice.problem
        ),
        cause: cause(last),
        safe: "nothing lost: in the dead letter, on disk; the stream goes on".into(),
        todo: format!("{}; then sls2siem dead-letter replay", advice.todo),
        retry_in: None,
    }
}

/// The dead letter does not take it.
pub(super) fn unwritten(place: &Place, shard: ShardId, detail: &str) -> Text {
    let full =
        detail.contains("os error 28") || detail.contains("os error 122") || detail.contains("No space left");
    let todo = if full { "make room there" } else { "let the user that runs this write there" };
    Text {
        kind: if full { "disk-full" } else { "disk" },
        what: format!("pipeline {}: the dead letter cannot be written (shard {shard})", place.pipeline),
        cause: clean(detail),
        safe: "nothing lost: the shard waits at this log, the checkpoint before it".into(),
        todo: format!("{todo}; it goes on by itself"),
        retry_in: None,
    }
}
