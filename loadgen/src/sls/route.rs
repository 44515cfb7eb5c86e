//! Which call a request is: method, path and parameters to one `Kind`.
//!
//! Why: one table of what exists, so that everything else is refused in one place.
//! Invariants: 1. a parameter that the call does not have is refused, as is one given twice.
//! Bounds: none beyond the request's own.
//! Driven by: `api`, before the signature is checked.   Spec: protocol/sls.md 3.

use super::error::{ApiError, ApiResult};
use super::http::Request;

/// The calls of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    GetProject,
    ListLogstores,
    CreateLogstore,
    GetLogstore,
    DeleteLogstore,
    ListShards,
    SplitShard,
    MergeShards,
    GetCursor,
    GetCursorTime,
    PullLogs,
    PutLogs,
    CreateGroup,
    ListGroups,
    UpdateGroup,
    DeleteGroup,
    Heartbeat,
    UpdateCheckpoint,
    GetCheckpoint,
    CreateProject,
}

/// A call and what its path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) kind: Kind,
    pub(crate) logstore: String,
    pub(crate) group: String,
    pub(crate) shard: Option<u32>,
}

/// The names that fault plans and statistics use.
pub const KIND_NAMES: &[&str] = &[
    "get-project",
    "list-logstores",
    "create-logstore",
    "get-logstore",
    "delete-logstore",
    "list-shards",
    "split",
    "merge",
    "cursor",
    "cursor-time",
    "pull",
    "put",
    "create-group",
    "list-groups",
    "update-group",
    "delete-group",
    "heartbeat",
    "checkpoint",
    "get-checkpoint",
    "create-project",
    // Not a call of the service: the keys of a RAM role.
    "metadata",
];

impl Kind {
    /// Its name in fault plans and statistics.
    pub(crate) fn name(self) -> &'static str {
        KIND_NAMES.get(self as usize).copied().unwrap_or_default()
    }

    /// The permission it needs.
    pub(crate) fn action(self) -> &'static str {
        match self {
            Self::GetProject => "log:GetProject",
            Self::CreateProject => "log:CreateProject",
            Self::ListLogstores => "log:ListLogStores",
            Self::CreateLogstore => "log:CreateLogStore",
            Self::GetLogstore => "log:GetLogStore",
            Self::DeleteLogstore => "log:DeleteLogStore",
            Self::ListShards => "log:ListShards",
            Self::SplitShard => "log:SplitShard",
            Self::MergeShards => "log:MergeShards",
            Self::GetCursor | Self::GetCursorTime | Self::PullLogs => "log:GetCursorOrData",
            Self::PutLogs => "log:PostLogStoreLogs",
            Self::CreateGroup => "log:CreateConsumerGroup",
            Self::ListGroups => "log:ListConsumerGroup",
            Self::UpdateGroup => "log:UpdateConsumerGroup",
            Self::DeleteGroup => "log:DeleteConsumerGroup",
            Self::Heartbeat => "log:ConsumerGroupHeartBeat",
            Self::UpdateCheckpoint => "log:ConsumerGroupUpdateCheckPoint",
            Self::GetCheckpoint => "log:GetConsumerGroupCheckPoint",
        }
    }

    /// Parameters that it knows.
    fn params(self) -> &'static [&'static str] {
        match self {
            Self::ListLogstores => &["logstoreName", "offset", "size", "mode", "telemetryType"],
            Self::SplitShard => &["action", "key", "shardCount"],
            Self::MergeShards => &["action"],
            Self::GetCursor => &["type", "from"],
            Self::GetCursorTime => &["type", "cursor"],
            Self::PullLogs => &[
                "type",
                "cursor",
                "count",
                "end_cursor",
                "endCursor",
                "query",
                "pullMode",
                "processor",
                "queryId",
            ],
            Self::PutLogs => &["key", "processor"],
            Self::Heartbeat => &["type", "consumer"],
            Self::UpdateCheckpoint => &["type", "consumer", "forceSuccess"],
            Self::GetCheckpoint => &["shard"],
            _ => &[],
        }
    }
}

impl Route {
    /// Finds the call of a request.
    pub(crate) fn find(request: &Request) -> ApiResult<Self> {
        let route = locate(request)?;
        let known = route.kind.params();
        for (at, (key, _)) in request.query.iter().enumerate() {
            if !known.contains(&key.as_str()) {
                return Err(ApiError::parameter(format!(
                    "parameter {key} is not known to {}",
                    route.kind.name()
                )));
            }
            if request.query.iter().take(at).any(|(earlier, _)| earlier == key) {
                return Err(ApiError::parameter(format!("parameter {key} is given twice")));
            }
        }
        Ok(route)
    }

    /// What a fault plan is asked: the call, and the shard or the consumer where there is one.
    pub(crate) fn fault_kind(&self, request: &Request) -> String {
        let name = self.kind.name();
        match (self.shard, request.param("consumer")) {
            (Some(shard), _) => format!("{name}/{shard}"),
            (None, Some(consumer)) => format!("{name}/{consumer}"),
            (None, None) => name.to_owned(),
        }
    }
}

fn locate(request: &Request) -> ApiResult<Route> {
    let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    let method = request.method.as_str();
    let plain = |kind| Ok(Route { kind, logstore: String::new(), group: String::new(), shard: None });
    let of = |kind, logstore: &str| {
        Ok(Route { kind, logstore: logstore.to_owned(), group: String::new(), shard: None })
    };
    match parts.as_slice() {
        [""] if method == "GET" => plain(Kind::GetProject),
        [""] if method == "POST" => plain(Kind::CreateProject),
        ["logstores"] => match method {
            "GET" => plain(Kind::ListLogstores),
            "POST" => plain(Kind::CreateLogstore),
            _ => Err(invalid_method(request)),
        },
        ["logstores", logstore] => match method {
            "GET" => of(Kind::GetLogstore, logstore),
            "POST" => of(Kind::PutLogs, logstore),
            "DELETE" => of(Kind::DeleteLogstore, logstore),
            _ => Err(invalid_method(request)),
        },
        ["logstores", logstore, "shards"] if method == "GET" => of(Kind::ListShards, logstore),
        ["logstores", logstore, "shards", "lb" | "route"] if method == "POST" => of(Kind::PutLogs, logstore),
        ["logstores", logstore, "shards", shard] => shard_call(request, logstore, shard),
        ["logstores", logstore, "consumergroups"] => match method {
            "GET" => of(Kind::ListGroups, logstore),
            "POST" => of(Kind::CreateGroup, logstore),
            _ => Err(invalid_method(request)),
        },
        ["logstores", logstore, "consumergroups", group] if !group.is_empty() => {
            let kind = group_kind(request)?;
            Ok(Route { kind, logstore: (*logstore).to_owned(), group: (*group).to_owned(), shard: None })
        }
        [""] | ["logstores", _, "shards"] => Err(invalid_method(request)),
        _ => Err(ApiError::parameter(format!("there is no {}", request.path))),
    }
}

fn shard_call(request: &Request, logstore: &str, shard: &str) -> ApiResult<Route> {
    let shard: u32 =
        shard.parse().map_err(|_| ApiError::parameter(format!("shard {shard} is not a number")))?;
    let param = |name| request.param(name).unwrap_or_default();
    let kind = match (request.method.as_str(), param("type"), param("action")) {
        ("GET", "cursor", _) => Kind::GetCursor,
        ("GET", "cursor_time", _) => Kind::GetCursorTime,
        ("GET", "log" | "logs", _) => Kind::PullLogs,
        ("POST", _, "split") => Kind::SplitShard,
        ("POST", _, "merge") => Kind::MergeShards,
        ("GET", other, _) => return Err(ApiError::parameter(format!("type {other} is not known"))),
        ("POST", _, other) => return Err(ApiError::parameter(format!("action {other} is not known"))),
        _ => return Err(invalid_method(request)),
    };
    Ok(Route { kind, logstore: logstore.to_owned(), group: String::new(), shard: Some(shard) })
}

fn group_kind(request: &Request) -> ApiResult<Kind> {
    match (request.method.as_str(), request.param("type")) {
        ("POST", Some("heartbeat")) => Ok(Kind::Heartbeat),
        ("POST", Some("checkpoint")) => Ok(Kind::UpdateCheckpoint),
        ("POST", other) => {
            Err(ApiError::parameter(format!("type {} is not known", other.unwrap_or_default())))
        }
        ("GET", _) => Ok(Kind::GetCheckpoint),
        ("PUT", _) => Ok(Kind::UpdateGroup),
        ("DELETE", _) => Ok(Kind::DeleteGroup),
        _ => Err(invalid_method(request)),
    }
}

fn invalid_method(request: &Request) -> ApiError {
    ApiError::new("InvalidMethod", format!("{} is not a method of {}", request.method, request.path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(line: &str) -> Result<(&'static str, Option<u32>), String> {
        let (method, target) = line.split_once(' ').unwrap();
        let mut request = Request { method: method.into(), ..Request::default() };
        request.set_target(target);
        Route::find(&request)
            .map(|route| (route.kind.name(), route.shard))
            .map_err(|error| error.code.into_owned())
    }

    #[test]
    fn every_call_is_found() {
        let calls = [
            ("GET /", "get-project", None),
            ("POST /", "create-project", None),
            ("GET /logstores?offset=0&size=10", "list-logstores", None),
            ("POST /logstores", "create-logstore", None),
            ("GET /logstores/l", "get-logstore", None),
            ("DELETE /logstores/l", "delete-logstore", None),
            ("GET /logstores/l/shards", "list-shards", None),
            (
                "POST /logstores/l/shards/3?action=split&key=80000000000000000000000000000000",
                "split",
                Some(3),
            ),
            ("POST /logstores/l/shards/3?action=merge", "merge", Some(3)),
            ("GET /logstores/l/shards/3?type=cursor&from=begin", "cursor", Some(3)),
            ("GET /logstores/l/shards/3?type=cursor_time&cursor=MQ==", "cursor-time", Some(3)),
            ("GET /logstores/l/shards/3?type=log&cursor=MQ==&count=1", "pull", Some(3)),
            ("GET /logstores/l/shards/3?type=logs&cursor=MQ==&count=1&endCursor=MQ==", "pull", Some(3)),
            ("POST /logstores/l", "put", None),
            ("POST /logstores/l/shards/lb", "put", None),
            ("POST /logstores/l/shards/route?key=00", "put", None),
            ("POST /logstores/l/consumergroups", "create-group", None),
            ("GET /logstores/l/consumergroups", "list-groups", None),
            ("PUT /logstores/l/consumergroups/g", "update-group", None),
            ("DELETE /logstores/l/consumergroups/g", "delete-group", None),
            ("POST /logstores/l/consumergroups/g?type=heartbeat&consumer=c", "heartbeat", None),
            (
                "POST /logstores/l/consumergroups/g?type=checkpoint&consumer=c&forceSuccess=True",
                "checkpoint",
                None,
            ),
            ("GET /logstores/l/consumergroups/g?shard=1", "get-checkpoint", None),
        ];
        for (line, name, shard) in calls {
            assert_eq!(find(line), Ok((name, shard)), "{line}");
            assert!(KIND_NAMES.contains(&name));
            let with_unknown = if line.contains('?') { format!("{line}&x=1") } else { format!("{line}?x=1") };
            assert_eq!(find(&with_unknown), Err("ParameterInvalid".into()), "{with_unknown}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let refused = [
            ("PUT /", "InvalidMethod"),
            ("PATCH /logstores", "InvalidMethod"),
            ("POST /logstores/l/shards", "InvalidMethod"),
            ("DELETE /logstores/l/shards/1", "InvalidMethod"),
            ("GET /logstores/l/shards/x?type=cursor", "ParameterInvalid"),
            ("GET /logstores/l/shards/1?type=x", "ParameterInvalid"),
            ("POST /logstores/l/shards/1?action=x", "ParameterInvalid"),
            ("GET /logstores/l/shards/1?type=cursor&from=a&from=b", "ParameterInvalid"),
            ("POST /logstores/l/consumergroups/g?type=x", "ParameterInvalid"),
            ("GET /logstores/l/consumergroups/", "ParameterInvalid"),
            ("GET /indexes", "ParameterInvalid"),
            ("GET /logstores/l/shards/1/x?type=cursor", "ParameterInvalid"),
        ];
        for (line, code) in refused {
            assert_eq!(find(line), Err(code.into()), "{line}");
        }
    }
}
