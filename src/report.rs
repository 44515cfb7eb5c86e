//! From an error to what an operator reads, and to an exit code: the one place that words them.
//!
//! Why: whoever is woken by this text knows neither SLS nor HEC by heart. Each text has four parts: what failed and
//! where; the cause as received; whether data is safe; what to do. Codes are matched here once, so that the same
//! trouble reads the same on every path.
//! Invariants: 1. no secret can stand in a text: nothing that holds one is an input. 2. text of a peer is cut and
//! stripped of control characters, so that it cannot forge log lines. 3. "nothing lost" is said only where it is so.
//! Bounds: quoted text of a peer is at most 300 characters.
//! Driven by: the commands and the control plane; [`Alarms`] decides when a line is written.
//! Spec: error codes of SLS and of HEC as their references list them.

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use crate::config::{ConfigError, PipelineConfig, SinkConfig, SyslogAck, SyslogTransport};
use crate::proto::event::{Alarm, Cause, Closed, Notice, Scope};
use crate::proto::ids::{Cursor, EndpointId, ShardId};
use crate::proto::sls::error::SlsError;
use crate::proto::time::UnixTime;

mod alarms;
mod finding;
mod hec;
mod refused;
mod sls;
mod syslog;
#[cfg(test)]
mod tests;
mod transport;

pub use alarms::{
    Alarms, ENTRIES_MAX, KINDS_MAX, Level, Line, QUIET, REMIND_AFTER, SETTLE, SUMMARY_EVERY, Subject,
};
pub use finding::{Finding, Grade, place_of};

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or drained after a signal.
    Done = 0,
    /// Ran and failed.
    Failed = 1,
    /// Wrong command line.
    Usage = 64,
    /// SLS or the sink cannot be reached at start, with `--fail-fast`.
    Unreachable = 69,
    /// A bug of ours.
    Bug = 70,
    /// SLS or the sink refuses us at start, with `--fail-fast`.
    Refused = 77,
    /// Wrong settings.
    Config = 78,
}

impl Exit {
    /// Of what cannot start: [`Self::Config`] keeps a service manager from trying again, so it is only for what the settings
    /// are to blame for.
    pub fn of_start(is_of_settings: bool) -> Self {
        if is_of_settings { Self::Config } else { Self::Failed }
    }
}

impl From<&ConfigError> for Exit {
    fn from(error: &ConfigError) -> Self {
        Self::of_start(!error.is_shortage())
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Names of a pipeline's two ends, for texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Name of the pipeline.
    pub pipeline: String,
    /// SLS endpoint.
    pub endpoint: String,
    /// Project.
    pub project: String,
    /// Logstore.
    pub logstore: String,
    /// Consumer group.
    pub consumer_group: String,
    /// Which key signs; no secret. Empty where it is not known at start.
    pub access_key_id: String,
    /// Table of the sink: `hec`, `syslog` or `stdout`.
    pub sink: &'static str,
    /// The sink's endpoints in the order of the settings.
    pub sinks: Vec<String>,
    /// A log counts as delivered when it is written (udp, `ack = "written"`): what breaks takes logs with it.
    pub unproven: bool,
}

impl Place {
    /// Takes the names from the settings.
    pub fn new(config: &PipelineConfig) -> Self {
        let (sink, sinks) = match &config.sink {
            SinkConfig::Hec(hec) => ("hec", hec.endpoints.iter().map(ToString::to_string).collect()),
            SinkConfig::Syslog(syslog) => {
                ("syslog", syslog.endpoints.iter().map(ToString::to_string).collect())
            }
            SinkConfig::Stdout(_) => ("stdout", vec!["standard output".to_owned()]),
        };
        let unproven = match &config.sink {
            SinkConfig::Hec(_) | SinkConfig::Stdout(_) => false,
            SinkConfig::Syslog(syslog) => syslog.endpoints.iter().any(|endpoint| match endpoint.transport {
                SyslogTransport::Udp => true,
                SyslogTransport::Tcp | SyslogTransport::Tls => syslog.ack == SyslogAck::Written,
                SyslogTransport::Relp | SyslogTransport::RelpTls => false,
            }),
        };
        let sls = &config.sls;
        Self {
            unproven,
            pipeline: config.name.clone(),
            endpoint: sls.endpoint.to_string(),
            project: sls.project.clone(),
            logstore: sls.logstore.clone(),
            consumer_group: sls.consumer_group.clone(),
            access_key_id: sls.credentials.keys().map_or_else(String::new, |keys| keys.access_key_id.clone()),
            sink,
            sinks,
        }
    }

    fn store(&self) -> String {
        format!("{}/{}", self.project, self.logstore)
    }

    /// Number of endpoints of the sink.
    pub fn endpoints_count(&self) -> usize {
        self.sinks.len()
    }

    fn sink_at(&self, endpoint: EndpointId) -> String {
        let unknown = || format!("endpoint {}", endpoint.0);
        let name = self.sinks.get(usize::from(endpoint.0)).cloned().unwrap_or_else(unknown);
        format!("pipeline {}: {} {name}", self.pipeline, self.sink)
    }
}

/// What the forwarder was about to do with SLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doing {
    /// PullLogs.
    Pull(ShardId),
    /// `CreateConsumerGroup`.
    CreateGroup,
    /// `UpdateConsumerGroup`.
    UpdateGroup,
    /// HeartBeat.
    Heartbeat,
    /// GetCheckPoint.
    GetCheckpoint(ShardId),
    /// GetCursor.
    GetCursor(ShardId),
    /// `GetCursorTime`.
    GetCursorTime(ShardId),
    /// UpdateCheckPoint.
    SaveCheckpoint(ShardId),
    /// Getting access keys.
    Credentials,
    /// Keeping up with the retention.
    KeepUp(ShardId),
    /// `ListConsumerGroup`, GetCheckPoint of all shards.
    ReadGroup,
    /// `ListShards`.
    ListShards,
    /// Reaching SLS at all.
    Connect,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pull(shard) => write!(f, "pull of shard {shard}"),
            Self::CreateGroup => f.write_str("making the consumer group"),
            Self::UpdateGroup => f.write_str("updating the consumer group"),
            Self::Heartbeat => f.write_str("heartbeat"),
            Self::GetCheckpoint(shard) => write!(f, "reading the checkpoint of shard {shard}"),
            Self::GetCursor(shard) => write!(f, "looking for the start of shard {shard}"),
            Self::GetCursorTime(shard) => write!(f, "reading the time of a cursor of shard {shard}"),
            Self::SaveCheckpoint(shard) => write!(f, "saving the checkpoint of shard {shard}"),
            Self::Credentials => f.write_str("getting access keys"),
            Self::KeepUp(shard) => write!(f, "keeping up with the retention of shard {shard}"),
            Self::ReadGroup => f.write_str("reading the consumer group"),
            Self::ListShards => f.write_str("listing the shards"),
            Self::Connect => f.write_str("connecting"),
        }
    }
}

/// What an operator reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Stable word for the cause: tells causes apart and labels metrics.
    pub kind: &'static str,
    /// What failed, and where.
    pub what: String,
    /// As received: status, code, request id.
    pub cause: String,
    /// What this means for the data.
    pub safe: String,
    /// What to do.
    pub todo: String,
    /// When it is tried again without anybody doing anything.
    pub retry_in: Option<Duration>,
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, cause, safe, todo, .. } = self;
        write!(f, "{what} ({cause}) - {safe} - {todo}")?;
        match self.retry_in {
            Some(after) => write!(f, " (next try in {})", span(after)),
            None => Ok(()),
        }
    }
}

/// What is known about a cause: its word, what failed in a few words, and the repair.
struct Advice {
    kind: &'static str,
    problem: String,
    todo: String,
    /// Where the usual words about the data would not be true.
    safe: Option<&'static str>,
}

impl Advice {
    fn new(kind: &'static str, problem: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { kind, problem: problem.into(), todo: todo.into(), safe: None }
    }

    fn safe(mut self, safe: &'static str) -> Self {
        self.safe = Some(safe);
        self
    }
}

/// Words an alarm of the data plane; `wall` is this machine's time, to tell how far its clock is off.
pub fn alarm(place: &Place, alarm: &Alarm, wall: UnixTime) -> Text {
    let mut text = match (alarm.scope, &alarm.cause) {
        (Scope::Shard(shard), Cause::Sls(error)) => sls_error(place, Doing::Pull(shard), error, wall),
        (Scope::Shard(shard), Cause::Transport(closed)) => sls_unreachable(place, Doing::Pull(shard), closed),
        (Scope::Sink(endpoint), Cause::Transport(closed)) => {
            let mut advice = transport::advice(closed, &transport::Peer::sink(place.sink));
            if place.unproven {
                advice = advice.safe(
                    "logs that were written before count as delivered and may be lost, as set; those that wait are kept",
                );
            }
            let what = format!("{} {}", place.sink_at(endpoint), advice.problem);
            sink_text(advice, what, clean(&closed.detail))
        }
        (Scope::Sink(endpoint), Cause::Hec(answer)) => {
            let advice = hec::advice(answer);
            let what = format!("{} {}", place.sink_at(endpoint), advice.problem);
            sink_text(advice, what, hec::cause(answer))
        }
        (Scope::Sink(endpoint), Cause::Syslog(trouble)) => {
            let advice = syslog::advice(trouble);
            let what = format!("{} {}", place.sink_at(endpoint), advice.problem);
            sink_text(advice, what, syslog::cause(trouble))
        }
        (Scope::Sink(endpoint), Cause::Protocol(detail)) => {
            let todo = format!(
                "check scheme and port in [{}]: it must be the right service, with https:// if it has TLS, and no proxy \
                 in between",
                place.sink
            );
            let advice = Advice::new("protocol", "does not speak HTTP/1.1 as it should", todo);
            let what = format!("{} {}", place.sink_at(endpoint), advice.problem);
            sink_text(advice, what, clean(detail))
        }
        (Scope::Shard(shard), Cause::Syslog(trouble)) => {
            let advice = syslog::advice(trouble);
            let what = format!(
                "pipeline {}: {} {} (a log of shard {shard})",
                place.pipeline, place.sink, advice.problem
            );
            let safe = "nothing skipped: the log is kept and offered again, the checkpoint of the shard waits before it";
            Text { safe: safe.into(), ..sink_text(advice, what, syslog::cause(trouble)) }
        }
        (Scope::Shard(shard), Cause::Refused(record)) => refused::held(place, shard, record),
        (Scope::Shard(shard), Cause::DeadLetter(detail)) => refused::unwritten(place, shard, detail),
        (scope, cause) => odd(place, scope, cause),
    };
    text.retry_in = Some(alarm.retry_in).filter(|after| !after.is_zero());
    text
}

/// Words something that is no standing trouble.
pub fn notice(place: &Place, notice: &Notice) -> Text {
    match notice {
        Notice::DeadLettered { shard, records, last } => refused::buried(place, *shard, *records, last),
        Notice::BodyTooLarge { endpoint, bytes, cap, answer } => {
            let advice = Advice::new(
                "hec-too-large",
                format!("takes no body of {bytes} bytes"),
                format!(
                    "set [{}] batch_bytes below {cap}, or raise max_content_length in limits.conf [http_input]",
                    place.sink
                ),
            );
            let what = format!("{} {}", place.sink_at(*endpoint), advice.problem);
            let safe = format!(
                "nothing lost: it is sent in parts, this endpoint gets at most {cap} bytes a request now"
            );
            Text { safe, ..sink_text(advice, what, hec::cause(answer)) }
        }
        Notice::AckOff { endpoint, answer } => {
            let advice = Advice::new(
                "hec-ack-off",
                "does not acknowledge with this token",
                "turn on indexer acknowledgement for the token; with [hec] ack = \"required\" the shards wait instead",
            );
            let what = format!("{} {}", place.sink_at(*endpoint), advice.problem);
            let safe = "from now on HTTP 200 counts, which Splunk gives before the events are stored: a crash of the indexer can \
                        lose what it had not written; what waited for an acknowledgement is sent again"
                .to_owned();
            Text { safe, ..sink_text(advice, what, hec::cause(answer)) }
        }
    }
}

/// Words an error answer of SLS to any call.
pub fn sls_error(place: &Place, doing: Doing, error: &SlsError, wall: UnixTime) -> Text {
    let advice = sls::advice(place, error, wall);
    Text {
        kind: advice.kind,
        what: format!("pipeline {}: {}: {doing}: {}", place.pipeline, place.store(), advice.problem),
        cause: sls::cause(error),
        safe: advice.safe.unwrap_or_else(|| source_is_safe(doing)).into(),
        todo: advice.todo,
        retry_in: None,
    }
}

/// Words a call to SLS that got no answer.
pub fn sls_unreachable(place: &Place, doing: Doing, closed: &Closed) -> Text {
    let advice = transport::advice(closed, &transport::Peer::SOURCE);
    Text {
        kind: advice.kind,
        what: format!(
            "pipeline {}: {}: {doing}: SLS at {} {}",
            place.pipeline,
            place.store(),
            place.endpoint,
            advice.problem
        ),
        cause: clean(&closed.detail),
        safe: source_is_safe(doing).into(),
        todo: advice.todo,
        retry_in: None,
    }
}

/// One end of a gap: a position, and when what stands there was received, unix seconds, where that is known.
pub type GapEnd<'a> = (&'a Cursor, Option<u64>);

/// Words a gap: a checkpoint that is older than what SLS still keeps. `to` is not known where the shard is held.
pub fn retention_gap(place: &Place, shard: ShardId, from: GapEnd<'_>, to: Option<GapEnd<'_>>) -> Text {
    let held = to.is_none();
    let end = |(cursor, time): GapEnd<'_>| {
        let at = |time: u64| moment(UnixTime::from_secs(time));
        let time = time.map_or_else(|| "an unknown time".to_owned(), at);
        format!("{time} ({})", clean(cursor.as_str()))
    };
    let (safe, todo) = if held {
        (
            "the shard is held, nothing more is read from it",
            "set [sls] on_expired_cursor = \"begin\" to go on at the oldest data",
        )
    } else {
        (
            "logs of that time that were not forwarded before are lost: SLS no longer has them; reading goes on at the oldest data",
            "keep logs longer in SLS (ttl of the logstore), or find out why forwarding stood still",
        )
    };
    Text {
        kind: "retention-gap",
        what: format!(
            "pipeline {}: {}: shard {shard}: the checkpoint is older than the retention",
            place.pipeline,
            place.store()
        ),
        cause: format!("gap from {} to {}", end(from), to.map_or_else(|| "the oldest data".to_owned(), end)),
        safe: safe.into(),
        todo: todo.into(),
        retry_in: None,
    }
}

/// Words data that expires soon: so old is the oldest log that is not delivered, so long are logs kept.
pub fn expires_soon(place: &Place, shard: ShardId, lag: Duration, ttl: Duration) -> Text {
    Text {
        kind: "expires-soon",
        what: format!("pipeline {}: {}: {}", place.pipeline, place.store(), Doing::KeepUp(shard)),
        cause: format!(
            "its oldest log that is not delivered is {} old, the logstore keeps logs for {}: it expires in about {}",
            span(lag),
            span(ttl),
            span(ttl.saturating_sub(lag))
        ),
        safe: "nothing lost yet".into(),
        todo: "find out what slows this shard down (the sink, a read quota, the cores), or keep logs longer: ttl of the \
               logstore"
            .into(),
        retry_in: None,
    }
}

/// Words keys that cannot be read; `known`: older ones are still in use.
pub fn no_credentials(place: &Place, cause: &str, todo: &str, known: bool) -> Text {
    let safe = if known {
        "nothing lost: the keys known so far are used until SLS refuses them"
    } else {
        "nothing lost: SLS keeps the logs, nothing is read until there are keys"
    };
    Text {
        kind: "credentials",
        what: format!("pipeline {}: {}: {}", place.pipeline, place.store(), Doing::Credentials),
        cause: clean(cause),
        safe: safe.into(),
        todo: todo.into(),
        retry_in: None,
    }
}

/// A moment as operators read it.
pub fn moment(time: UnixTime) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| "an unknown time".to_owned(), |moment| moment.to_string())
}

fn sink_text(advice: Advice, what: String, cause: String) -> Text {
    let usual = "nothing lost: unacknowledged logs are kept or read again, the checkpoint waits";
    let safe = advice.safe.unwrap_or(usual).into();
    Text { kind: advice.kind, what, cause, safe, todo: advice.todo, retry_in: None }
}

fn odd(place: &Place, scope: Scope, cause: &Cause) -> Text {
    let place_of = match scope {
        Scope::Shard(shard) => {
            format!("pipeline {}: {}: pull of shard {shard}", place.pipeline, place.store())
        }
        Scope::Sink(endpoint) => place.sink_at(endpoint),
    };
    let held = "nothing skipped: the shard is held there and the range is pulled again, the checkpoint waits";
    let (kind, problem, cause, safe, todo) = match cause {
        Cause::CorruptBody { error, cursor, request_id } => (
            "corrupt-body",
            "the body is damaged",
            format!("{error}, cursor {}, request id {}", clean(cursor.as_str()), named(request_id)),
            held,
            "when it stays: look for a proxy that changes bodies, try [sls] compression = \"none\", and give the request \
             id to the support of Alibaba Cloud"
                .to_owned(),
        ),
        Cause::PullTooLarge { raw_bytes, limit_bytes, cursor } => (
            "pull-too-large",
            "one log group is larger than the memory bound",
            format!("{raw_bytes} bytes, {limit_bytes} allowed, cursor {}", clean(cursor.as_str())),
            held,
            "set a larger [runtime] memory and restart".to_owned(),
        ),
        Cause::Protocol(detail) => (
            "protocol",
            "the peer does not speak HTTP/1.1 as it should",
            clean(detail),
            held,
            "check that the endpoint and port are the right service and that no proxy is in between".to_owned(),
        ),
        Cause::Sls(error) => ("sls", "SLS refused", sls::cause(error), held, "see the cause".to_owned()),
        Cause::Hec(answer) => ("hec", "refused", hec::cause(answer), held, "see the cause".to_owned()),
        Cause::Syslog(trouble) => ("syslog", "does not acknowledge", syslog::cause(trouble), held, "see the cause".to_owned()),
        Cause::Transport(closed) => ("transport", "broke", clean(&closed.detail), held, "see the cause".to_owned()),
        Cause::Refused(record) => ("refused", "a log is refused", refused::cause(record), held, "see the cause".to_owned()),
        Cause::DeadLetter(detail) => ("disk", "the dead letter", clean(detail), held, "see the cause".to_owned()),
    };
    Text { kind, what: format!("{place_of}: {problem}"), cause, safe: safe.into(), todo, retry_in: None }
}

fn source_is_safe(doing: Doing) -> &'static str {
    match doing {
        Doing::Heartbeat => {
            "nothing lost: SLS keeps the logs; without heartbeats for the group's timeout the shards are given up and \
             read again from their checkpoints"
        }
        Doing::SaveCheckpoint(_) => {
            "nothing lost: after a crash the logs since the last saved checkpoint come twice"
        }
        Doing::Pull(_) => "nothing lost: SLS keeps the logs, reading waits",
        Doing::ReadGroup | Doing::ListShards => "nothing was changed",
        _ => "nothing lost: SLS keeps the logs, nothing is read until this works",
    }
}

/// Text of a peer, fit for one log line.
fn clean(text: &str) -> String {
    let mut out: String =
        text.chars().map(|c| if is_control(c) { ' ' } else { c }).take(QUOTE_CHARS_MAX).collect();
    if text.chars().nth(QUOTE_CHARS_MAX).is_some() {
        out.push('…');
    }
    let trimmed = out.trim();
    if trimmed.is_empty() { "no text".to_owned() } else { trimmed.to_owned() }
}

/// Also the invisible ones that turn the direction of text round.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn named(request_id: &str) -> String {
    if request_id.trim().is_empty() { "unknown".to_owned() } else { clean(request_id) }
}

/// A span for people: `35 s`, `2 min 5 s`, `3 h 20 min`.
fn span(span: Duration) -> String {
    match span.as_secs() {
        0 => format!("{} ms", span.as_millis()),
        seconds @ 1..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

const QUOTE_CHARS_MAX: usize = 300;
