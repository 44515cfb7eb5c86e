//! One request from its bytes to its answer: admission, fault plan, call.
//!
//! Why: the order matters: a request with a wrong signature must not use up a fault, a refused one must not act.
//! Invariants: 1. every answer carries `x-log-requestid`. 2. success is 200 and nothing else.
//! Bounds: none beyond the calls' own.
//! Driven by: `http`, from any connection.   Spec: protocol/sls.md 1, 3, 9.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::auth::{self, AccessKey, Terms};
use super::bodies::Bodies;
use super::clock;
use super::error::{ApiError, ApiResult};
use super::http::{Delivery, Handler, Reply, Request};
use super::levers::Levers;
use super::metadata::Metadata;
use super::route::{Kind, Route};
use super::stats::{Counters, add};
use super::world::World;
use super::{Expired, SlsConfig, spoil};
use crate::fault::{Fault, FaultPlan};

/// The service behind a port.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) config: SlsConfig,
    pub(crate) world: Mutex<World>,
    pub(crate) keys: Mutex<BTreeMap<String, AccessKey>>,
    pub(crate) faults: Mutex<Arc<FaultPlan>>,
    levers: Mutex<Arc<Levers>>,
    pub(crate) bodies: Bodies,
    pub(crate) metadata: Metadata,
    pub(crate) counters: Counters,
    /// Added to the machine's clock.
    pub(crate) skew_ms: AtomicI64,
    request_ids: AtomicU64,
}

/// A call that has been admitted.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) project: String,
    pub(crate) route: Route,
    pub(crate) request: &'a Request,
    pub(crate) now_ms: u64,
    pub(crate) levers: Arc<Levers>,
}

impl Service {
    pub(crate) fn new(config: SlsConfig, levers: Levers, world: World, faults: FaultPlan) -> Self {
        let keys = config.keys.iter().map(|key| (key.id.clone(), key.clone())).collect();
        Self {
            skew_ms: AtomicI64::new(config.clock_skew_ms),
            levers: Mutex::new(Arc::new(levers)),
            bodies: Bodies::default(),
            metadata: Metadata::default(),
            config,
            world: Mutex::new(world),
            keys: Mutex::new(keys),
            faults: Mutex::new(Arc::new(faults)),
            counters: Counters::default(),
            request_ids: AtomicU64::new(clock::unix_ms()),
        }
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn faults(&self) -> Arc<FaultPlan> {
        Arc::clone(&self.faults.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn levers(&self) -> Arc<Levers> {
        Arc::clone(&self.levers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes what can be changed; groups that are there already follow.
    pub(crate) fn move_levers(&self, change: impl FnOnce(&mut Levers)) {
        let mut levers = Levers::clone(&self.levers());
        change(&mut levers);
        let delay_ms = levers.assign_delay_ms();
        let mut world = self.world();
        for logstore in world.projects.values_mut().flat_map(|project| project.logstores.values_mut()) {
            logstore.groups.values_mut().for_each(|group| group.leases.set_assign_delay(delay_ms));
        }
        *self.levers.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(levers);
    }

    /// The server's own idea of the time (unix ms).
    pub(crate) fn now_ms(&self) -> u64 {
        clock::unix_ms().saturating_add_signed(self.skew_ms.load(Ordering::Relaxed))
    }

    async fn answer(&self, request: &Request) -> Reply {
        let call = match self.admit(request) {
            Ok(call) => call,
            Err(error) => return self.refuse(&error),
        };
        self.counters.call(call.route.kind.name());
        let fault = self.faults().decide(&call.route.fault_kind(request));
        match &fault {
            Some(Fault::Stall(time)) => tokio::time::sleep(*time).await,
            Some(fault) => {
                if let Some(reply) = self.instead(fault) {
                    return reply;
                }
            }
            None => {}
        }
        let reply = match self.perform(&call) {
            Ok(reply) => reply,
            Err(error) => self.refuse(&error),
        };
        match fault {
            Some(fault) => self.spoil(fault, reply),
            None => reply,
        }
    }

    /// The answer of a fault that keeps a call from being processed.
    pub(crate) fn instead(&self, fault: &Fault) -> Option<Reply> {
        match fault {
            Fault::Refuse { status, code } => Some(self.refuse(&ApiError::injected(*status, code.clone()))),
            Fault::ResetBefore => Some(undelivered(Delivery::Reset)),
            Fault::Hang => Some(undelivered(Delivery::Never)),
            _ => None,
        }
    }

    /// What a fault does to the answer of a call that was processed.
    pub(crate) fn spoil(&self, fault: Fault, mut reply: Reply) -> Reply {
        match fault {
            Fault::RefuseAfter { status, code } => return self.refuse(&ApiError::injected(status, code)),
            Fault::ResetAfter => reply.delivery = Delivery::Reset,
            Fault::Tear(bytes) => reply.delivery = Delivery::Torn(bytes),
            Fault::Slow(rate) => reply.delivery = Delivery::Slow(rate),
            Fault::Duplicate => reply.delivery = Delivery::Twice,
            Fault::Delay(time) => reply.delay = time,
            Fault::Bits => spoil::bits(&mut reply),
            Fault::Other { word, arg } => spoil::word(&word, arg.as_deref(), &mut reply),
            Fault::Refuse { .. } | Fault::ResetBefore | Fault::Hang | Fault::Stall(_) => {}
        }
        reply
    }

    fn refuse(&self, error: &ApiError) -> Reply {
        self.counters.refusal(&error.code);
        Reply::new(error.status).with("content-type", "application/json").with_body(error.body())
    }

    fn admit<'a>(&self, request: &'a Request) -> ApiResult<Call<'a>> {
        let project = project_of(request.header("host"))?;
        let now_ms = self.now_ms();
        let terms = Terms { now_ms, region: &self.config.region };
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let key = auth::admit(request, terms, |id| keys.get(id))?;
        let route = Route::find(request)?;
        let action = route.kind.action();
        if key.is_denied(action) {
            let mut resource = format!("acs:log:{}:1234567890:project/{project}", self.config.region);
            if !route.logstore.is_empty() {
                resource.push_str("/logstore/");
                resource.push_str(&route.logstore);
            }
            return Err(auth::denial(action, &resource));
        }
        Ok(Call { project, route, request, now_ms, levers: self.levers() })
    }

    fn perform(&self, call: &Call<'_>) -> ApiResult<Reply> {
        self.retain(call);
        match call.route.kind {
            Kind::PullLogs => self.pull(call),
            Kind::GetCursor => self.cursor(call),
            Kind::GetCursorTime => self.cursor_time(call),
            Kind::PutLogs => self.put(call),
            Kind::CreateGroup => self.create_group(call),
            Kind::ListGroups => self.list_groups(call),
            Kind::UpdateGroup => self.update_group(call),
            Kind::DeleteGroup => self.delete_group(call),
            Kind::Heartbeat => self.heartbeat(call),
            Kind::UpdateCheckpoint => self.update_checkpoint(call),
            Kind::GetCheckpoint => self.checkpoints(call),
            Kind::ListShards => self.list_shards(call),
            Kind::SplitShard => self.split(call),
            Kind::MergeShards => self.merge(call),
            Kind::GetProject => self.get_project(call),
            Kind::ListLogstores => self.list_logstores(call),
            Kind::CreateLogstore => self.create_logstore(call),
            Kind::GetLogstore => self.get_logstore(call),
            Kind::DeleteLogstore => self.delete_logstore(call),
            Kind::CreateProject => self.create_project(call),
        }
    }

    /// Moves retention on before the call sees the data.
    fn retain(&self, call: &Call<'_>) {
        let Some(retention_ms) = call.levers.retention_ms() else { return };
        let mut world = self.world();
        if let Ok(logstore) = world.logstore(&call.project, &call.route.logstore) {
            logstore.retain(call.now_ms, retention_ms);
        }
    }
}

impl Handler for Service {
    async fn handle(&self, request: Request) -> Reply {
        add(&self.counters.requests, 1);
        if self.levers().is_cut_off(request.header("user-agent").unwrap_or_default()) {
            return undelivered(Delivery::Never);
        }
        let reply = self.answer(&request).await;
        let number = self.request_ids.fetch_add(1, Ordering::Relaxed);
        reply.with("x-log-requestid", format!("{:08X}{number:016X}", 0x5B0A_6B60))
    }

    fn now_ms(&self) -> u64 {
        Self::now_ms(self)
    }
}

impl Call<'_> {
    /// A parameter that the call cannot do without.
    pub(crate) fn param(&self, name: &str) -> ApiResult<&str> {
        self.request.param(name).ok_or_else(|| ApiError::parameter(format!("parameter {name} is missing")))
    }

    /// The body as JSON of this shape; nothing else may be in it.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self) -> ApiResult<T> {
        let kind = self.request.header("content-type").unwrap_or_default();
        if kind.split(';').next().unwrap_or_default().trim() != "application/json" {
            return Err(ApiError::new(
                "InvalidContentType",
                format!("content type {kind} is not application/json"),
            ));
        }
        serde_json::from_slice(&self.request.body)
            .map_err(|error| ApiError::new("PostBodyInvalid", format!("the body cannot be read: {error}")))
    }
}

impl Expired {
    /// A group number no older than what there is, or a refusal.
    pub(crate) fn apply(self, group: u64, oldest: u64, cursor: &str) -> ApiResult<u64> {
        match self {
            _ if group >= oldest => Ok(group),
            Self::Clamp => Ok(oldest),
            Self::Refuse => Err(ApiError::new("InvalidCursor", format!("The cursor is expired : {cursor}"))),
        }
    }
}

/// The project is the label before the first dot; a port does not matter.
fn project_of(host: Option<&str>) -> ApiResult<String> {
    let host = host.filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| ApiError::new("MissingHost", "Host does not exist in http header"))?;
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        .map_or(host, |p| p.0);
    match name.split_once('.') {
        Some((project, _)) if !project.is_empty() => Ok(project.to_owned()),
        _ => Err(ApiError::new("InvalidHost", format!("host {host} does not name a project"))),
    }
}

fn undelivered(delivery: Delivery) -> Reply {
    Reply { delivery, delay: Duration::ZERO, ..Reply::new(200) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_project_is_the_first_label_of_the_host() {
        assert_eq!(project_of(Some("p.cn-hangzhou.log.aliyuncs.com")).unwrap(), "p");
        assert_eq!(project_of(Some("p.localhost:8080")).unwrap(), "p");
        assert_eq!(project_of(Some("p.127.0.0.1:80")).unwrap(), "p");
        assert_eq!(project_of(Some("localhost:8080")).unwrap_err().code, "InvalidHost");
        assert_eq!(project_of(Some(".x")).unwrap_err().code, "InvalidHost");
        assert_eq!(project_of(None).unwrap_err().code, "MissingHost");
    }
}
