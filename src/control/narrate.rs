//! What a control thread writes to the log, and the troubles that stand right now.
//!
//! Why: leases and data plane tell changes as data; `report` words them; somebody has to bring the two together.
//! Invariants: 1. a trouble is a line when it begins and one when it ends; 2. a shard that is not ours has no troubles.
//! Bounds: as [`Alarms`]. Driven by: [`super::pipeline`]. Spec: none.

use std::time::Duration;

use crate::proto::event::{Report, Scope};
use crate::proto::ids::ShardId;
use crate::proto::sls::lease::call::{Call, CallError};
use crate::proto::sls::lease::event::{LeaseEvent, Lost, Origin};
use crate::proto::time::{Instant, UnixTime};
use crate::report::{self, Alarms, Doing, Level, Line, Place, Subject, Text};

/// The voice of one pipeline.
#[derive(Debug)]
pub(super) struct Narrator {
    place: Place,
    alarms: Alarms,
    /// The call by which we cannot get into the group.
    joining: Option<Doing>,
}

/// Alarms of the control thread itself; executors have their index.
const CONTROL: u32 = u32::MAX;

impl Narrator {
    pub(super) fn new(place: Place) -> Self {
        Self { place, alarms: Alarms::default(), joining: None }
    }

    /// The standing troubles, one text each, without the pipeline's name: whoever shows them says whose they are.
    pub(super) fn standing(&self, now: Instant) -> Vec<String> {
        let prefix = format!("pipeline {}: ", self.place.pipeline);
        let bare = |text: String| text.strip_prefix(&prefix).map(str::to_owned).unwrap_or(text);
        self.alarms.current(now).map(|(_, _, text, _)| bare(text.to_string())).collect()
    }

    /// Tells again what has lasted for long.
    pub(super) fn remind(&mut self, now: Instant) {
        for line in self.alarms.remind(now) {
            write(&line);
        }
    }

    /// Troubles that the data plane tells.
    pub(super) fn report(&mut self, now: Instant, wall: UnixTime, executor: usize, report: &Report) {
        let reporter = u32::try_from(executor).unwrap_or(CONTROL - 1);
        let line = match report {
            Report::Notice(notice) => {
                let text = report::notice(&self.place, notice).to_string();
                Some(Line { level: Level::Warn, text })
            }
            Report::Alarm(alarm) => {
                let text = report::alarm(&self.place, alarm, wall);
                self.alarms.raise(now, reporter, &self.place.pipeline, Subject::Data(alarm.scope), text)
            }
            Report::Clear { scope, attempts } => {
                self.alarms.clear(now, reporter, &self.place.pipeline, Subject::Data(*scope), *attempts)
            }
            _ => None,
        };
        line.iter().for_each(write);
    }

    /// Keys that cannot be had, or had again. The text, for a start that ends with it.
    pub(super) fn credentials_failed(
        &mut self,
        now: Instant,
        error: &super::credentials::CredentialsError,
        known: bool,
        retry_in: Duration,
    ) -> String {
        let text = report::no_credentials(&self.place, &error.to_string(), error.todo(), known);
        let words = text.to_string();
        let text = Text { retry_in: Some(retry_in), ..text };
        let subject = Subject::Control(Doing::Credentials);
        let line = self.alarms.raise(now, CONTROL, &self.place.pipeline, subject, text);
        line.iter().for_each(write);
        words
    }

    /// A shard is so far behind that its data expires soon, or no longer.
    pub(super) fn keeping_up(&mut self, now: Instant, shard: ShardId, trouble: Option<(Duration, Duration)>) {
        let Some((lag, ttl)) = trouble else { return self.clear(now, Doing::KeepUp(shard), 0) };
        let text = report::expires_soon(&self.place, shard, lag, ttl);
        let subject = Subject::Control(Doing::KeepUp(shard));
        let line = self.alarms.raise(now, CONTROL, &self.place.pipeline, subject, text);
        line.iter().for_each(write);
    }

    /// The source of the keys answers (again).
    pub(super) fn credentials_good(&mut self, now: Instant, failures: u32) {
        self.clear(now, Doing::Credentials, u64::from(failures));
    }

    /// Other keys are used from now on.
    pub(super) fn credentials_changed(&mut self, access_key_id: &str, until: Option<UnixTime>) {
        let until = until.map_or_else(String::new, |until| format!(", good until {}", report::moment(until)));
        tracing::info!("pipeline {}: signing with access key {access_key_id}{until}", self.place.pipeline);
        access_key_id.clone_into(&mut self.place.access_key_id);
    }

    /// A change of the lease.
    #[expect(clippy::too_many_lines, reason = "one arm per event, each a line of text")]
    pub(super) fn event(&mut self, now: Instant, wall: UnixTime, event: &LeaseEvent) {
        let name = self.place.pipeline.clone();
        let store = format!("{}/{}", self.place.project, self.place.logstore);
        let group = self.place.consumer_group.clone();
        match event {
            LeaseEvent::GroupCreated => {
                tracing::info!("pipeline {name}: made consumer group {group} of {store}");
            }
            LeaseEvent::GroupUpdated => {
                tracing::info!("pipeline {name}: set timeout and order of consumer group {group}");
            }
            LeaseEvent::GroupUpdateRefused { cause } => {
                let text = self.text(Doing::UpdateGroup, cause, wall);
                tracing::warn!("{text}; going on with the shorter of the two timeouts");
            }
            LeaseEvent::GroupDeleted => {
                tracing::warn!(
                    "pipeline {name}: consumer group {group} of {store} was deleted - its shards are stopped and the group is made again, reading goes on where it was"
                );
            }
            LeaseEvent::Held { call, cause, retry_in } => {
                let doing = doing(call);
                self.joining = Some(doing);
                self.raise(now, doing, cause, wall, Some(*retry_in));
            }
            LeaseEvent::Resumed { attempts } => {
                if let Some(doing) = self.joining.take() {
                    self.clear(now, doing, *attempts);
                }
            }
            LeaseEvent::HeartbeatFailing { cause, .. } => {
                self.raise(now, Doing::Heartbeat, cause, wall, None);
            }
            LeaseEvent::HeartbeatRestored { failures } => self.clear(now, Doing::Heartbeat, *failures),
            LeaseEvent::LeaseExpired { shards } => {
                tracing::warn!(
                    "pipeline {name}: no heartbeat was answered for the group's timeout: stopped shards {} at once - nothing lost, they begin again at their checkpoints",
                    list(shards)
                );
                for shard in shards {
                    self.forget(*shard);
                }
            }
            LeaseEvent::ShardAcquired { shard } => tracing::debug!("pipeline {name}: shard {shard} is ours"),
            LeaseEvent::ShardStarted { shard, cursor, origin } => {
                tracing::info!(
                    "pipeline {name}: shard {shard} begins at {cursor} ({})",
                    origin_text(*origin)
                );
            }
            LeaseEvent::ShardFinished { shard } => {
                tracing::info!("pipeline {name}: shard {shard} is delivered and saved up to the stop time");
            }
            LeaseEvent::WaitsForOthers { wait } => {
                tracing::info!(
                    "pipeline {name}: nothing is left before the stop time - ending in {} s, unless a shard of a consumer that died comes to us",
                    wait.as_secs()
                );
            }
            LeaseEvent::AllFinished => {
                tracing::info!(
                    "pipeline {name}: everything up to the stop time is delivered and saved - ending"
                );
            }
            LeaseEvent::ShardReleased { shard, saved: true } => {
                tracing::info!("pipeline {name}: shard {shard} given up, its checkpoint is saved");
                self.forget(*shard);
            }
            LeaseEvent::ShardReleased { shard, saved: false } => {
                tracing::warn!(
                    "pipeline {name}: shard {shard} given up, but its last checkpoint could not be saved - nothing \
                     lost, its next consumer sends some records again"
                );
                self.forget(*shard);
            }
            LeaseEvent::ShardLost { shard, why } => {
                tracing::warn!(
                    "pipeline {name}: shard {shard} stopped at once: {} - nothing lost",
                    lost_text(*why)
                );
                self.forget(*shard);
            }
            LeaseEvent::DrainTimedOut { shard, waited } => {
                tracing::warn!(
                    "pipeline {name}: shard {shard} did not drain within {waited:?} and was cut - nothing lost, \
                     what was in flight is sent again by its next consumer"
                );
            }
            LeaseEvent::ShardHeld { call, cause, retry_in, .. } => {
                self.raise(now, doing(call), cause, wall, Some(*retry_in));
            }
            LeaseEvent::ShardResumed { shard, attempts } => {
                for doing in of_shard(*shard) {
                    self.clear(now, doing, *attempts);
                }
            }
            LeaseEvent::CheckpointRefused { shard, cause } => {
                tracing::warn!("{}", self.text(Doing::SaveCheckpoint(*shard), cause, wall));
            }
            LeaseEvent::CheckpointSaved { shard, cursor } => {
                tracing::debug!("pipeline {name}: shard {shard}: saved {cursor}");
            }
            LeaseEvent::RetentionGap { shard, from, from_time, to, to_time } => {
                let (from, to) = ((from, *from_time), (to, *to_time));
                tracing::error!("{}", report::retention_gap(&self.place, *shard, from, Some(to)));
            }
            LeaseEvent::CursorExpiredHeld { shard, cursor } => {
                tracing::error!("{}", report::retention_gap(&self.place, *shard, (cursor, None), None));
            }
            LeaseEvent::Stopping => tracing::info!("pipeline {name}: draining"),
        }
    }

    /// Words a failed call.
    pub(super) fn text(&self, doing: Doing, cause: &CallError, wall: UnixTime) -> Text {
        match cause {
            CallError::Sls(error) => report::sls_error(&self.place, doing, error, wall),
            CallError::Transport { why, .. } => report::sls_unreachable(&self.place, doing, why),
        }
    }

    fn raise(
        &mut self,
        now: Instant,
        doing: Doing,
        cause: &CallError,
        wall: UnixTime,
        retry_in: Option<Duration>,
    ) {
        let text = Text { retry_in, ..self.text(doing, cause, wall) };
        let line = self.alarms.raise(now, CONTROL, &self.place.pipeline, Subject::Control(doing), text);
        line.iter().for_each(write);
    }

    fn clear(&mut self, now: Instant, doing: Doing, attempts: u64) {
        let line = self.alarms.clear(now, CONTROL, &self.place.pipeline, Subject::Control(doing), attempts);
        line.iter().for_each(write);
    }

    fn forget(&mut self, shard: ShardId) {
        let scope = Scope::Shard(shard);
        self.alarms.forget(&self.place.pipeline, Subject::Data(scope));
        for doing in of_shard(shard) {
            self.alarms.forget(&self.place.pipeline, Subject::Control(doing));
        }
    }
}

fn write(line: &Line) {
    match line.level {
        Level::Info => tracing::info!("{}", line.text),
        Level::Warn => tracing::warn!("{}", line.text),
    }
}

/// The same call in the words of the report.
pub(super) fn doing(call: &Call) -> Doing {
    match call {
        Call::ListGroups | Call::CreateGroup { .. } => Doing::CreateGroup,
        Call::UpdateGroup { .. } => Doing::UpdateGroup,
        Call::Heartbeat { .. } => Doing::Heartbeat,
        Call::GetCheckpoint { shard } => Doing::GetCheckpoint(*shard),
        Call::GetCursor { shard, .. } => Doing::GetCursor(*shard),
        Call::GetCursorTime { shard, .. } => Doing::GetCursorTime(*shard),
        Call::GetLogstore => Doing::ReadGroup,
        Call::UpdateCheckpoint { shard, .. } => Doing::SaveCheckpoint(*shard),
    }
}

fn of_shard(shard: ShardId) -> [Doing; 5] {
    [
        Doing::KeepUp(shard),
        Doing::GetCheckpoint(shard),
        Doing::GetCursor(shard),
        Doing::GetCursorTime(shard),
        Doing::SaveCheckpoint(shard),
    ]
}

fn origin_text(origin: Origin) -> &'static str {
    match origin {
        Origin::Checkpoint => "its checkpoint",
        Origin::Start => "no checkpoint yet: the start setting",
        Origin::Remembered => "its checkpoint is gone: where this process was",
        Origin::Oldest => "the oldest data that SLS still has",
    }
}

fn lost_text(why: Lost) -> &'static str {
    match why {
        Lost::NotHolder => "another consumer holds it",
        Lost::ConsumerGone => "the server had given this consumer up",
        Lost::GroupDeleted => "the consumer group was deleted",
        Lost::ShardGone => "it does not exist any more",
    }
}

fn list(shards: &[ShardId]) -> String {
    shards.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
