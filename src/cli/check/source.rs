//! SLS: the way to it, the clock, the keys, each permission, the consumer group, and one pull.
//!
//! Why: a run that lacks one permission works until it needs it. Each is asked for by a call that changes nothing, so
//! that the missing one is known by name before the first log moves.
//! Invariants: 1. nothing is changed: a group is created only where it exists already (which is refused), updated
//! only to what it has, and a checkpoint is offered only for a shard that cannot exist, without force. 2. no
//! heartbeat: that would join the group and take shards from others.
//! Bounds: about ten calls, one of which reads one log group.
//! Driven by: [`super`]. Spec: RAM actions and error codes of the SLS API.

use super::network::{Peer, moment};
use super::{Printer, WAIT};
use crate::cli::run::parts;
use crate::config::{SlsCompression, SlsConfig};
use crate::control::credentials::CredentialsSource;
use crate::control::sls_api::{Answer, SlsApi};
use crate::drive::{TargetSpec, clock};
use crate::proto::ids::{Cursor, ShardId};
use crate::proto::sls::api::answer::{self, Group, ShardStatus};
use crate::proto::sls::api::pull_head::PullHead;
use crate::proto::sls::api::{self, ApiRequest, CursorFrom, PullOptions};
use crate::proto::sls::body::{self, Compression};
use crate::proto::sls::error::SlsErrorKind;
use crate::proto::sls::lease::call::CallError;
use crate::proto::sls::sign::{Credentials, date};
use crate::proto::sls::wire;
use crate::report::{self, Doing, Finding, Grade, Place, place_of};

/// Looks at one source; the shards that still take or hold data, where they may be listed.
pub(super) fn check(place: &Place, sls: &SlsConfig, out: &mut Printer) -> Option<Vec<ShardId>> {
    if !reach(place, sls, out) {
        return None;
    }
    let spec = parts::api(sls, CONSUMER);
    let api = SlsApi::new(&crate::control::sls_api::ApiSpec { call_timeout: WAIT, ..spec });
    let api = match api {
        Ok(api) => api,
        Err(error) => {
            out.add(cannot(place, "sls", &error.to_string()));
            return None;
        }
    };
    let credentials = match CredentialsSource::new(&sls.credentials).read() {
        Ok(known) => known.credentials,
        Err(error) => {
            let text = report::no_credentials(place, &error.to_string(), error.todo(), false);
            out.add(Finding::of(Grade::Fail, "credentials", place, text));
            return None;
        }
    };
    let mut doctor = Doctor { place, sls, api, credentials, granted: Vec::new(), clock_told: false };
    let shards = doctor.shards(out)?;
    doctor.retention(out);
    let group = doctor.group(out);
    doctor.permissions(group.as_ref(), out);
    doctor.read(shards.first().copied().unwrap_or(ShardId(0)), out);
    if !doctor.granted.is_empty() {
        let text = format!(
            "permissions: {} (log:ConsumerGroupHeartBeat is not asked for: that would join the group)",
            doctor.granted.join(", ")
        );
        out.add(Finding::ok(&place_of(place), "permission", text));
    }
    Some(shards)
}

fn cannot(place: &Place, topic: &'static str, text: &str) -> Finding {
    let (text, todo) = text.split_once(" - ").unwrap_or((text, "repair the setting"));
    Finding::fail(&place_of(place), topic, text, todo)
}

/// Name, TCP and TLS; of the proxy alone where there is one.
fn reach(place: &Place, sls: &SlsConfig, out: &mut Printer) -> bool {
    let direct = parts::source(sls);
    let (name, target) = match &direct.proxy {
        None => (format!("SLS {}", sls.endpoint), direct.clone()),
        Some(proxy) => {
            let target = TargetSpec::plain(proxy.host.clone(), proxy.port, direct.patience);
            (format!("proxy {}:{}", proxy.host, proxy.port), target)
        }
    };
    let word = |closed| report::sls_unreachable(place, Doing::Connect, &closed);
    !Peer { place, name, target: &target, word: &word }.reach(out).is_empty()
}

/// What became of one question.
enum Asked {
    /// A 200.
    Good(Answer),
    /// Allowed, but the answer is an error.
    Other,
    /// Not allowed, or no answer: said already.
    Told,
}

struct Doctor<'a> {
    place: &'a Place,
    sls: &'a SlsConfig,
    api: SlsApi,
    credentials: Credentials,
    granted: Vec<&'static str>,
    clock_told: bool,
}

impl Doctor<'_> {
    fn say(&self, grade: Grade, topic: &'static str, doing: Doing, error: &CallError) -> Finding {
        let text = match error {
            CallError::Sls(error) => report::sls_error(self.place, doing, error, clock::wall()),
            CallError::Transport { why, .. } => report::sls_unreachable(self.place, doing, why),
        };
        Finding::of(grade, topic, self.place, text)
    }

    fn ok(&self, topic: &'static str, text: impl Into<String>) -> Finding {
        Finding::ok(&place_of(self.place), topic, text)
    }

    /// Asks; a refusal of the permission is a finding of this grade.
    fn ask(
        &mut self,
        action: &'static str,
        grade: Grade,
        doing: Doing,
        request: &ApiRequest,
        out: &mut Printer,
    ) -> Asked {
        let answer = match self.api.ask(request, &self.credentials, PULL_BYTES_MAX) {
            Ok(answer) => answer,
            Err(error) => {
                out.add(self.say(Grade::Fail, "sls", doing, &error));
                return Asked::Told;
            }
        };
        self.clock(&answer, out);
        match answer.into_good() {
            Ok(answer) => {
                self.grant(action);
                Asked::Good(answer)
            }
            Err(error) => {
                let CallError::Sls(sls) = &error else { return Asked::Told };
                match sls.kind() {
                    SlsErrorKind::Unauthorized { denied: true } => {
                        out.add(self.say(grade, "permission", doing, &error).or_do(spared(action)));
                        Asked::Told
                    }
                    kind if is_general(kind) => {
                        out.add(self.say(Grade::Fail, "sls", doing, &error));
                        Asked::Told
                    }
                    _ => {
                        self.grant(action);
                        Asked::Other
                    }
                }
            }
        }
    }

    fn grant(&mut self, action: &'static str) {
        if !self.granted.contains(&action) {
            self.granted.push(action);
        }
    }

    /// Our clock against the `Date` of an answer.
    fn clock(&mut self, answer: &Answer, out: &mut Printer) {
        let Some(theirs) = answer.header("date").and_then(date::parse_http_date) else { return };
        if std::mem::replace(&mut self.clock_told, true) {
            return;
        }
        let ours = clock::wall().as_secs();
        let (apart, side) = (ours.abs_diff(theirs), if ours > theirs { "ahead of" } else { "behind" });
        let place = place_of(self.place);
        let repair = "set the clock of this machine: timedatectl set-ntp true, or chronyc makestep";
        out.add(match apart {
            0..=5 => self.ok("clock", format!("this machine's clock agrees with SLS within {} s", apart + 1)),
            6..=SKEW_SECS_MAX => {
                let text =
                    format!("this machine's clock is {apart} s {side} SLS, which allows {SKEW_SECS_MAX}");
                Finding::warn(&place, "clock", text, repair)
            }
            _ => {
                let text = format!(
                    "this machine's clock is {apart} s {side} SLS, which refuses more than {SKEW_SECS_MAX}"
                );
                Finding::fail(&place, "clock", text, repair)
            }
        });
    }

    /// The first question: it tells a wrong key, clock, project or logstore. `None` where all others would fail too.
    fn shards(&mut self, out: &mut Printer) -> Option<Vec<ShardId>> {
        let request = api::list_shards(&self.sls.logstore);
        let before = out.count(Grade::Fail);
        match self.ask("log:ListShards", Grade::Warn, Doing::ListShards, &request, out) {
            Asked::Good(found) => match answer::shards(&found.body) {
                Ok(all) => {
                    let read_only = all.iter().filter(|shard| shard.status == ShardStatus::ReadOnly).count();
                    let text = format!(
                        "SLS {}/{}: {} shards, {read_only} of them read-only",
                        self.sls.project,
                        self.sls.logstore,
                        all.len()
                    );
                    out.add(self.ok("shards", text));
                    Some(all.into_iter().map(|shard| shard.id).collect())
                }
                Err(error) => {
                    out.add(self.say(
                        Grade::Fail,
                        "sls",
                        Doing::ListShards,
                        &CallError::not_understood(error.to_string()),
                    ));
                    None
                }
            },
            // A denied ListShards is only a warning; everything else that was said ends it here.
            Asked::Told if out.count(Grade::Fail) == before => Some(Vec::new()),
            Asked::Told | Asked::Other => None,
        }
    }

    /// How long logs are kept.
    fn retention(&mut self, out: &mut Printer) {
        let request = api::get_logstore(&self.sls.logstore);
        let asked = self.ask("log:GetLogStore", Grade::Warn, Doing::ReadGroup, &request, out);
        let Asked::Good(found) = asked else { return };
        if let Ok(days) = answer::logstore(&found.body).map(|logstore| logstore.ttl_days.unwrap_or_default())
        {
            let text = format!("SLS keeps the logs of {} for {days} days", self.sls.logstore);
            out.add(self.ok("retention", text));
        }
    }

    /// The group, where it exists.
    fn group(&mut self, out: &mut Printer) -> Option<Group> {
        let request = api::list_groups(&self.sls.logstore);
        let Asked::Good(found) =
            self.ask("log:ListConsumerGroup", Grade::Fail, Doing::ReadGroup, &request, out)
        else {
            return None;
        };
        let all = match answer::groups(&found.body) {
            Ok(all) => all,
            Err(error) => {
                let error = CallError::not_understood(error.to_string());
                out.add(self.say(Grade::Fail, "sls", Doing::ReadGroup, &error));
                return None;
            }
        };
        let (place, name) = (place_of(self.place), &self.sls.consumer_group);
        let count = all.len();
        let ours = all.into_iter().find(|group| group.name == *name);
        match &ours {
            Some(group) => {
                let order = if group.order { "in order" } else { "without order" };
                let text = format!("consumer group {name} exists: timeout {} s, {order}", group.timeout_secs);
                out.add(self.ok("group", text));
                if group.timeout_secs != self.sls.timeout.as_secs() || group.order != self.sls.in_order {
                    let text = format!(
                        "consumer group {name} has other settings than these: `run` sets timeout {} s, in_order {}",
                        self.sls.timeout.as_secs(),
                        self.sls.in_order
                    );
                    let todo = "give every consumer of the group the same settings";
                    out.add(Finding::warn(&place, "group", text, todo));
                }
            }
            None if count >= GROUPS_MAX => {
                let text = format!(
                    "logstore {} has {count} consumer groups, SLS allows {GROUPS_MAX}, and none is {name}",
                    self.sls.logstore
                );
                let todo =
                    "delete unused ones in the console, or set [sls] consumer_group to one that exists";
                out.add(Finding::fail(&place, "group", text, todo));
            }
            None => {
                let text =
                    format!("consumer group {name} does not exist: `run` makes it ({count} of {GROUPS_MAX})");
                out.add(self.ok("group", text));
            }
        }
        ours
    }

    /// What a run needs beside reading, each asked for without changing anything.
    fn permissions(&mut self, group: Option<&Group>, out: &mut Printer) {
        let (logstore, name) = (self.sls.logstore.as_str(), self.sls.consumer_group.as_str());
        // Where it exists, this is refused as existing; where not, the empty name is refused as no name.
        let made = group.map_or("", |group| group.name.as_str());
        let timeout = self.sls.timeout.as_secs();
        let create = api::create_group(logstore, made, timeout, self.sls.in_order);
        self.ask("log:CreateConsumerGroup", Grade::Fail, Doing::CreateGroup, &create, out);
        let (timeout, order) =
            group.map_or((timeout, self.sls.in_order), |group| (group.timeout_secs, group.order));
        if timeout > 0 {
            let update = api::update_group(logstore, name, timeout, order);
            self.ask("log:UpdateConsumerGroup", Grade::Fail, Doing::UpdateGroup, &update, out);
        }
        let get = api::get_checkpoint(logstore, name, None);
        let answer = self.ask("log:GetConsumerGroupCheckPoint", Grade::Fail, Doing::ReadGroup, &get, out);
        if let Asked::Good(answer) = answer {
            self.checkpoints(&answer.body, out);
        }
        let save = api::update_checkpoint(logstore, name, CONSUMER, NO_SHARD, &Cursor::new("MA=="));
        let doing = Doing::SaveCheckpoint(NO_SHARD);
        self.ask("log:ConsumerGroupUpdateCheckPoint", Grade::Fail, doing, &save, out);
    }

    fn checkpoints(&self, body: &[u8], out: &mut Printer) {
        let Ok(all) = answer::checkpoints(body) else { return };
        let saved: Vec<_> = all.iter().filter(|checkpoint| !checkpoint.cursor.is_empty()).collect();
        let mut consumers: Vec<&str> = saved
            .iter()
            .map(|checkpoint| checkpoint.consumer.as_str())
            .filter(|name| !name.is_empty())
            .collect();
        consumers.sort_unstable();
        consumers.dedup();
        let newest = saved.iter().filter_map(|checkpoint| checkpoint.update_time).max();
        let newest =
            newest.map_or_else(String::new, |at| format!(", the newest at {}", moment(at.as_secs())));
        let by = match consumers.len() {
            0 => String::new(),
            1..=4 => format!(", by {}", consumers.join(", ")),
            count => format!(", by {count} consumers"),
        };
        let text = format!("checkpoints: {} of {} shards have one{newest}{by}", saved.len(), all.len());
        out.add(self.ok("checkpoints", text));
    }

    /// Reads one log group, as `run` would.
    fn read(&mut self, shard: ShardId, out: &mut Printer) {
        let action = "log:GetCursorOrData";
        let request = api::get_cursor(&self.sls.logstore, shard, CursorFrom::Begin);
        let Asked::Good(found) = self.ask(action, Grade::Fail, Doing::GetCursor(shard), &request, out) else {
            return;
        };
        let Ok(cursor) = answer::cursor(&found.body) else { return };
        let options = PullOptions {
            count: 1,
            query: self.sls.query.as_deref().unwrap_or_default(),
            processor: self.sls.processor.as_deref().unwrap_or_default(),
            compression: match self.sls.compression {
                SlsCompression::Lz4 => Compression::Lz4,
                SlsCompression::Zstd => Compression::Zstd,
                SlsCompression::None => Compression::None,
            },
        };
        let request = api::pull_logs(&self.sls.logstore, shard, &cursor, None, &options);
        let doing = Doing::Pull(shard);
        match self.api.ask(&request, &self.credentials, PULL_BYTES_MAX).and_then(Answer::into_good) {
            Ok(answer) => match records(&answer, &cursor) {
                Ok(0) => {
                    out.add(self.ok("pull", format!("a pull of shard {shard} works: nothing there yet")));
                }
                Ok(count) => {
                    out.add(
                        self.ok("pull", format!("a pull of shard {shard} works: {count} logs in one group")),
                    );
                }
                Err(why) => {
                    out.add(self.say(Grade::Fail, "pull", doing, &CallError::not_understood(why)));
                }
            },
            Err(error) => out.add(self.say(Grade::Fail, "pull", doing, &error)),
        }
    }
}

/// Logs in an answer to a pull; the error says what is wrong with it.
fn records(answer: &Answer, asked: &Cursor) -> Result<u32, String> {
    let head = PullHead::read(&|name| answer.header(name), asked).map_err(|error| error.to_string())?;
    let raw_size = usize::try_from(head.raw_size).map_err(|error| error.to_string())?;
    let mut raw = Vec::new();
    body::decompress(head.compression, &answer.body, raw_size, PULL_BYTES_MAX, &mut raw)
        .map_err(|error| error.to_string())?;
    wire::scan(&raw).map(|shape| shape.records).map_err(|error| error.to_string())
}

/// What is missing without a permission that is not needed.
fn spared(action: &str) -> &'static str {
    match action {
        "log:ListShards" => "`run` does without it: check, preview, status and seek ask for it",
        "log:GetLogStore" => "`run` does without it, but cannot warn of logs that are about to expire",
        _ => "",
    }
}

/// True for what would refuse every other call as well.
fn is_general(kind: SlsErrorKind) -> bool {
    matches!(
        kind,
        SlsErrorKind::SignatureNotMatch
            | SlsErrorKind::ClockSkew
            | SlsErrorKind::Unauthorized { .. }
            | SlsErrorKind::CredentialsExpired
            | SlsErrorKind::ProjectNotExist
            | SlsErrorKind::LogstoreNotExist
            | SlsErrorKind::ProjectForbidden
            | SlsErrorKind::Server
            | SlsErrorKind::ReadQuota
            | SlsErrorKind::Other
    )
}

/// Named in the user agent, and as the consumer that holds nothing.
const CONSUMER: &str = "sls2siem-check";
/// No logstore has it: nothing can be saved for it by mistake.
const NO_SHARD: ShardId = ShardId(i32::MAX.unsigned_abs());
/// One log group: 5 MB raw by the service's limits, 30 MB by its clients'.
const PULL_BYTES_MAX: usize = 64 << 20;
/// Consumer groups of a logstore.
const GROUPS_MAX: usize = 30;
/// How far a request's time may be off.
const SKEW_SECS_MAX: u64 = 900;
