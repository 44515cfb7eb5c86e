//! Settings from environment variables.
//!
//! Why: containers are set up by variables; the vendor's guide and samples already fix six of the names.
//! Invariants: 1. an empty short name counts as absent (compose files pass those), an empty `SLS2SIEM_` variable
//! sets the key to empty. 2. a misspelt `SLS2SIEM_` variable is a mistake, other variables are none of our business.
//! 3. the fall-back keys come as a whole or not at all: an id of one place with a secret of another never signs.
//! Bounds: at most 256 pipelines from lists.
//! Driven by: `config::load`, after the file.   Spec: names of the vendor's samples; lists: `;` between projects,
//! `,` within one.

use std::collections::{BTreeMap, BTreeSet};

use super::mistake::{Mistake, MistakeKind, Origin};
use super::raw::{self, Settings};
use super::schema::{self, Key};

/// The variables of a process, as a value, so that a test can make them up.
pub type Environment = BTreeMap<String, String>;

const PREFIX: &str = "SLS2SIEM_";

/// Short names, weaker than `SLS2SIEM_…` for the same key.
const SHORT: [(&str, &str, &str); 15] = [
    ("SLS_ENDPOINT", "sls", "endpoint"),
    ("SLS_PROJECT", "sls", "project"),
    ("SLS_LOGSTORE", "sls", "logstore"),
    ("SLS_CG", "sls", "consumer_group"),
    ("SLS_AK_ID", "sls", "access_key_id"),
    ("SLS_AK_KEY", "sls", "access_key_secret"),
    ("SLS_SECURITY_TOKEN", "sls", "security_token"),
    ("SLS_QUERY", "sls", "query"),
    ("SLS_START", "sls", "start"),
    ("HEC_URL", "hec", "endpoints"),
    ("HEC_TOKEN", "hec", "token"),
    ("HEC_INDEX", "hec", "index"),
    ("HEC_SOURCETYPE", "hec", "sourcetype"),
    ("HEC_SOURCE", "hec", "source"),
    ("SYSLOG_URL", "syslog", "endpoints"),
];

const FALLBACK: [(&str, &str); 3] = [
    ("ALIBABA_CLOUD_ACCESS_KEY_ID", "access_key_id"),
    ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "access_key_secret"),
    ("ALIBABA_CLOUD_SECURITY_TOKEN", "security_token"),
];

const PIPELINES_MAX: usize = 256;

/// Reads everything but the fall-backs.
pub(crate) fn read(settings: &mut Settings, env: &Environment) {
    read_lists(settings, env);
    for (name, value) in env {
        if let Some(rest) = name.strip_prefix(PREFIX) {
            read_prefixed(settings, name, rest, value);
        }
    }
    for (name, table, key) in SHORT {
        let Some(value) = env.get(name).filter(|value| !value.trim().is_empty()) else { continue };
        let Some(key) = schema::find(table, key) else { continue };
        let prefixed = [Some(key), schema::partner(key)].into_iter().flatten().any(|key| {
            let held = settings.at(None, key);
            held.is_some_and(|held| {
                held.origin.layer() == Origin::Env(String::new()).layer() && !held.raw.is_unset()
            })
        });
        if !prefixed {
            settings.insert_text(None, key, value, Origin::Env(name.to_owned()));
        }
    }
}

/// The keys of the Alibaba Cloud tools, where nothing else gave keys.
pub(crate) fn read_fallbacks(settings: &mut Settings, env: &Environment) {
    let given = settings.iter().any(|(slot, setting)| {
        let is_key = slot.key.starts_with("access_key_") || slot.key.starts_with("security_token");
        slot.pipeline.is_none() && slot.table == "sls" && is_key && !setting.raw.is_unset()
    });
    if given {
        return;
    }
    for (name, key) in FALLBACK {
        let Some(value) = env.get(name).filter(|value| !value.trim().is_empty()) else { continue };
        let Some(key) = schema::find("sls", key) else { continue };
        settings.insert_text(None, key, value, Origin::Fallback(name.to_owned()));
    }
}

fn read_prefixed(settings: &mut Settings, name: &str, rest: &str, value: &str) {
    let origin = Origin::Env(name.to_owned());
    let lower = rest.to_ascii_lowercase();
    let parts: Vec<&str> = lower.split("__").collect();
    let (pipeline, table, key) = match parts.as_slice() {
        [table, key] => (None, *table, *key),
        ["pipeline", pipeline, table, key] => (Some(*pipeline), *table, *key),
        _ if is_service_link(rest) => return,
        _ => {
            settings.mistakes.push(unknown(name, rest, &lower, &origin));
            return;
        }
    };
    // `[pipeline.Prod-A]` cannot be spelt in a variable: it is meant by PROD_A.
    let spelt = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let known = pipeline
        .map(|wanted| settings.pipelines().find(|name| spelt(name) == wanted).unwrap_or(wanted).to_owned());
    let found = raw::known_table(known.as_deref(), table).and_then(|table| schema::find(table, key));
    match found {
        Some(key) => settings.insert_text(known.as_deref(), key, value, origin),
        None => settings.mistakes.push(unknown(name, rest, &lower, &origin)),
    }
}

fn unknown(name: &str, rest: &str, lower: &str, origin: &Origin) -> Mistake {
    let mistake = Mistake::new(MistakeKind::Unknown, name, "no such variable").origin(origin);
    let upper = |key: &Key| format!("{}__{}", key.table, key.name);
    let names: Vec<String> = schema::KEYS.iter().map(upper).collect();
    // One underscore between table and key is the usual slip.
    let near = names
        .iter()
        .find(|candidate| candidate.replace("__", "_") == lower.replace("__", "_"))
        .map(String::as_str)
        .or_else(|| schema::nearest(lower, names.iter().map(String::as_str)));
    match near {
        Some(near) if rest.len() < 200 => {
            mistake.fix(format!("did you mean {PREFIX}{}?", near.to_ascii_uppercase()))
        }
        _ => mistake.allowed("SLS2SIEM_TABLE__KEY, such as SLS2SIEM_HEC__BATCH_BYTES"),
    }
}

/// Kubernetes puts `<SERVICE>_SERVICE_HOST`, `<SERVICE>_PORT_9465_TCP_ADDR` and so on into every pod: a service
/// called "sls2siem" must not keep the pod from starting.
fn is_service_link(rest: &str) -> bool {
    if rest.contains("__") {
        return false;
    }
    let rest = format!("_{rest}");
    rest.contains("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || rest.ends_with("_PORT")
        || rest.split_once("_PORT_").is_some_and(|(_, after)| after.starts_with(|c: char| c.is_ascii_digit()))
}

/// `SLS_ENDPOINTS`, `SLS_PROJECTS`, `SLS_LOGSTORES` of the vendor's sample: one pipeline per logstore.
fn read_lists(settings: &mut Settings, env: &Environment) {
    let list = |name: &str| -> Vec<String> {
        let text = env.get(name).map_or("", String::as_str);
        text.trim_matches(';')
            .split(';')
            .map(|item| item.trim().to_owned())
            .filter(|item| !item.is_empty())
            .collect()
    };
    let [endpoints, projects, logstores] = ["SLS_ENDPOINTS", "SLS_PROJECTS", "SLS_LOGSTORES"].map(list);
    if endpoints.is_empty() && projects.is_empty() && logstores.is_empty() {
        return;
    }
    let origin = Origin::Env("SLS_PROJECTS".into());
    let mut mistake = |kind, problem: String, fix: &str| {
        settings.mistakes.push(Mistake::new(kind, "SLS_PROJECTS", problem).fix(fix).origin(&origin));
    };
    let single = ["SLS_PROJECT", "SLS_LOGSTORE"]
        .into_iter()
        .find(|name| env.get(*name).is_some_and(|v| !v.is_empty()));
    if let Some(single) = single {
        let problem =
            format!("the lists SLS_PROJECTS and SLS_LOGSTORES and the single {single} are both set");
        mistake(MistakeKind::Conflict, problem, "keep either the lists or the single names");
    }
    if projects.len() != logstores.len() || (endpoints.len() > 1 && endpoints.len() != projects.len()) {
        let problem = format!(
            "the lists differ in length: {} endpoints, {} projects, {} groups of logstores",
            endpoints.len(),
            projects.len(),
            logstores.len()
        );
        let fix = "one entry per project in each list, with ; between them (and , between the logstores of one project)";
        mistake(MistakeKind::Value, problem, fix);
        return;
    }
    if settings.pipelines().next().is_some() {
        let problem = "the lists and [pipeline.NAME] tables are both given".to_owned();
        settings.mistakes.push(
            Mistake::new(MistakeKind::Conflict, "SLS_PROJECTS", problem)
                .fix("keep one of the two")
                .origin(&origin),
        );
        return;
    }
    add_pipelines(settings, &endpoints, &projects, &logstores);
}

fn add_pipelines(settings: &mut Settings, endpoints: &[String], projects: &[String], logstores: &[String]) {
    let mut taken = BTreeSet::new();
    for (at, (project, stores)) in projects.iter().zip(logstores).enumerate() {
        for logstore in stores.split(',').map(str::trim).filter(|store| !store.is_empty()) {
            let base: String = format!("{project}-{logstore}")
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' })
                .take(56)
                .collect();
            let numbered = (2_usize..).map(|n| format!("{base}-{n}"));
            let free = std::iter::once(base.clone()).chain(numbered).find(|name| !taken.contains(name));
            let Some(name) = free else { continue };
            taken.insert(name.clone());
            if taken.len() > PIPELINES_MAX {
                let problem = format!("more than {PIPELINES_MAX} logstores");
                settings.mistakes.push(Mistake::new(MistakeKind::Value, "SLS_LOGSTORES", problem));
                return;
            }
            let endpoint = endpoints.get(at).or_else(|| endpoints.first());
            let values = [
                ("endpoint", endpoint.map(String::as_str), "SLS_ENDPOINTS"),
                ("project", Some(project.as_str()), "SLS_PROJECTS"),
                ("logstore", Some(logstore), "SLS_LOGSTORES"),
            ];
            for (key, value, variable) in values {
                if let (Some(key), Some(value)) = (schema::find("sls", key), value) {
                    settings.insert_text(Some(&name), key, value, Origin::Env(variable.into()));
                }
            }
        }
    }
}
