//! The settings as users give them: right, wrong, from everywhere.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use proptest::prelude::*;
use secrecy::ExposeSecret as _;

use super::load::{DEFAULT_TOML, defaults};
use super::raw::Settings;
use super::*;

mod secrets;

const MINIMUM: &str = r#"
[sls]
endpoint = "https://cn-hangzhou.log.aliyuncs.com"
project = "my-project"
logstore = "my-logstore"
consumer_group = "sync_data"
access_key_id = "LTAI"
access_key_secret = "s3cret-key"
[hec]
endpoints = ["https://splunk-1:8088"]
token = "s3cret-token"
"#;

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn load_with(&self, toml: &str, env: &[(&str, &str)], sets: &[&str]) -> Result<Loaded, ConfigError> {
        let file = Some(self.write("sls2siem.toml", toml));
        load(&Sources { file, env: variables(env), sets: sets.iter().map(|set| (*set).to_owned()).collect() })
    }
}

fn variables(env: &[(&str, &str)]) -> Environment {
    env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn with_file(toml: &str) -> Result<Loaded, ConfigError> {
    Home::new().load_with(toml, &[], &[])
}

fn mistakes(toml: &str) -> String {
    with_file(toml).map(|_| ()).unwrap_err().to_string()
}

fn from_env(env: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    load(&Sources { file: None, env: variables(env), sets: Vec::new() })
}

const WHOLE_ENV: [(&str, &str); 8] = [
    ("SLS_ENDPOINT", "cn-hangzhou.log.aliyuncs.com"),
    ("SLS_PROJECT", "my-project"),
    ("SLS_LOGSTORE", "my-logstore"),
    ("SLS_AK_ID", "LTAI"),
    ("SLS_AK_KEY", "s3cret-key"),
    ("SLS_CG", "sync_data"),
    ("HEC_URL", "https://a:8088,https://b:8088/services/collector"),
    ("HEC_TOKEN", "s3cret-token"),
];

fn hec(loaded: &Loaded) -> &HecConfig {
    match &loaded.config.pipelines[0].sink {
        SinkConfig::Hec(hec) => hec,
        other => panic!("{other:?}"),
    }
}

#[test]
fn default_toml_names_every_key_and_nothing_else() {
    let mut settings = Settings::default();
    settings.read_toml(&defaults(), &|_| Origin::Default);
    assert_eq!(settings.mistakes, []);
    for key in schema::KEYS {
        let held = settings.at(None, key);
        assert!(held.is_some(), "{}.{} is not in default.toml", key.table, key.name);
        let slot = raw::Slot::new(None, key);
        assert_eq!(value::check(&slot, key, held.unwrap()), None);
    }
    assert_eq!(settings.iter().count(), schema::KEYS.len());
    assert!(
        DEFAULT_TOML.lines().all(|line| line.chars().count() <= 120),
        "a line of default.toml is too long"
    );
}

#[test]
fn the_shipped_default_file_chooses_no_sink() {
    let text = mistakes(DEFAULT_TOML);
    for part in ["no sink is set", "sls.endpoint", "sls.project", "sls.access_key_secret"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("no such"), "{text}");
}

/// The numbers of the reference, spelt out: a slip in `default.toml` must not pass.
#[test]
fn defaults_are_those_of_the_reference() {
    let loaded = with_file(MINIMUM).unwrap();
    let config = &loaded.config;
    let seconds = Duration::from_secs;
    let PipelineConfig { name, sls, .. } = &config.pipelines[0];
    assert_eq!(name, "default");
    assert_eq!((sls.endpoint.https, sls.endpoint.port), (true, 443));
    assert_eq!(
        (sls.consumer_name.clone(), sls.signature.clone(), sls.in_order),
        (None, Signature::V1, false)
    );
    assert_eq!((sls.start, sls.stop, sls.max_log_groups), (Moment::Begin, None, 1000));
    assert_eq!((sls.heartbeat_interval, sls.timeout), (seconds(20), seconds(40)));
    assert_eq!((sls.fetch_interval, sls.checkpoint_interval), (Duration::from_millis(200), seconds(3)));
    assert_eq!((sls.compression, sls.on_expired_cursor), (SlsCompression::Lz4, OnExpiredCursor::Begin));
    let hec = hec(&loaded);
    assert_eq!((hec.ack, hec.ack_timeout, hec.timeout), (HecAck::Auto, seconds(300), seconds(60)));
    assert_eq!((hec.batch_bytes, hec.batch_age), (1 << 20, Duration::from_millis(500)));
    assert_eq!((hec.connections, hec.pipeline_depth), (2, 4));
    assert_eq!(
        (hec.event.clone(), hec.host.as_str(), hec.event_id),
        (EventShape::Object, "{__source__}", false)
    );
    assert_eq!(hec.json_fields.get("actiontrail_audit_event"), Some(&vec!["event".to_owned()]));
    assert_eq!((hec.tls.clone(), hec.compression), (TlsConfig::default(), HecCompression::None));
    assert_eq!(config.runtime, RuntimeConfig { cores: Cores::All, pin: vec![], memory: 256 << 20 });
    assert_eq!(config.admin.listen.unwrap().to_string(), "127.0.0.1:9465");
    assert_eq!(config.log, LogConfig { level: "info", format: LogFormat::Text });
    assert_eq!((config.dead_letter.dir.clone(), config.warnings.clone()), (None, vec![]));
}

#[test]
fn templates_of_hec_are_checked_with_everything_else() {
    let keys = ["index", "sourcetype", "source", "host"];
    let lines = keys.map(|key| format!("{key} = \"a{{b\"\n")).concat();
    let text = mistakes(&format!("{MINIMUM}{lines}fields = {{ level = \"{{\" }}\n"));
    for key in keys.into_iter().chain(["fields"]) {
        assert!(text.contains(&format!("hec.{key}")), "{key}: {text}");
    }
    assert_eq!(text.matches("is not a template").count(), 5, "{text}");
}

#[test]
fn six_names_and_two_are_a_whole_set_up() {
    let loaded = from_env(&WHOLE_ENV).unwrap();
    let sls = &loaded.config.pipelines[0].sls;
    assert_eq!((sls.project.as_str(), sls.consumer_group.as_str()), ("my-project", "sync_data"));
    let keys = sls.credentials.keys().unwrap();
    assert_eq!((keys.access_key_id.as_str(), keys.access_key_secret.expose_secret()), ("LTAI", "s3cret-key"));
    let hec = hec(&loaded);
    assert_eq!(
        hec.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["https://a:8088", "https://b:8088"]
    );
    assert_eq!(hec.token.expose_secret(), "s3cret-token");
}

#[test]
fn later_layers_win() {
    let home = Home::new();
    let toml = format!("{MINIMUM}batch_bytes = \"2MiB\"\nconnections = 3\nindex = \"file\"\n");
    let env = [
        ("SLS2SIEM_HEC__BATCH_BYTES", "3MiB"),
        ("HEC_INDEX", "short"),
        ("SLS2SIEM_HEC__INDEX", "long"),
        ("SLS_PROJECT", "from-env"),
        ("SLS_QUERY", ""),
    ];
    let loaded = home.load_with(&toml, &env, &["hec.batch_bytes=4MiB", "sls.in_order=true"]).unwrap();
    let hec = hec(&loaded);
    assert_eq!((hec.batch_bytes, hec.connections, hec.index.as_str()), (4 << 20, 3, "long"));
    let sls = &loaded.config.pipelines[0].sls;
    assert_eq!((sls.project.as_str(), sls.in_order, sls.query.clone()), ("from-env", true, None));
}

#[test]
fn any_kind_of_key_can_come_from_the_environment() {
    let mut env = WHOLE_ENV.to_vec();
    env.extend([
        ("SLS2SIEM_HEC__FIELDS", r#"{ env = "prod", "a b" = "{x}" }"#),
        ("SLS2SIEM_HEC__JSON_FIELDS", r#"{ t = ["a", "b"] }"#),
        ("SLS2SIEM_HEC__EVENT_ID", "true"),
        ("SLS2SIEM_HEC__CONNECTIONS", "5"),
        ("SLS2SIEM_RUNTIME__PIN", r#"{ "0" = 2 }"#),
        ("SLS2SIEM_RUNTIME__CORES", "0-2"),
        ("SLS2SIEM_ADMIN__LISTEN", ""),
    ]);
    let loaded = from_env(&env).unwrap();
    let hec = hec(&loaded);
    assert_eq!(hec.fields.get("a b").map(String::as_str), Some("{x}"));
    assert_eq!((hec.event_id, hec.connections), (true, 5));
    assert_eq!(hec.json_fields.get("t").map(Vec::len), Some(2));
    assert_eq!(loaded.config.runtime.cores, Cores::List(vec![0, 1, 2]));
    assert_eq!(loaded.config.runtime.pin, [Pin { pipeline: "default".into(), shard: 0, core: 2 }]);
    assert_eq!(loaded.config.admin.listen, None);
}

#[test]
fn fall_back_keys_come_as_a_whole_or_not_at_all() {
    let cloud = [
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", "CLOUD"),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "cloud-secret"),
        ("ALIBABA_CLOUD_SECURITY_TOKEN", "cloud-token"),
    ];
    let without: Vec<_> =
        WHOLE_ENV.into_iter().filter(|(name, _)| !name.starts_with("SLS_AK")).chain(cloud).collect();
    let loaded = from_env(&without).unwrap();
    let keys = loaded.config.pipelines[0].sls.credentials.keys().unwrap().clone();
    assert_eq!((keys.access_key_id.as_str(), keys.security_token.is_some()), ("CLOUD", true));
    let spelt_out =
        Home::new().load_with("[sls]\naccess_key_id = \"\"\naccess_key_secret_file = \"\"\n", &without, &[]);
    assert_eq!(spelt_out.unwrap().config.pipelines[0].sls.credentials.keys().unwrap().access_key_id, "CLOUD");
    let both: Vec<_> = WHOLE_ENV.into_iter().chain(cloud).collect();
    let keys = from_env(&both).unwrap().config.pipelines[0].sls.credentials.keys().unwrap().clone();
    assert_eq!((keys.access_key_id.as_str(), keys.security_token.is_some()), ("LTAI", false));
    let partly: Vec<_> = without.into_iter().chain([("SLS_AK_ID", "ONLY")]).collect();
    let text = from_env(&partly).unwrap_err().to_string();
    assert!(text.contains("sls.access_key_secret: is not set"), "{text}");
}

#[test]
#[expect(clippy::too_many_lines, reason = "one file full of mistakes, and all that is said about it")]
fn all_mistakes_at_once_each_with_its_place() {
    let text = mistakes(
        r#"
[sls]
endpont = "x"
project = "My_Project"
consumer_group = "a b"
heartbeat_interval = 20
fetch_interval = "1ms"
signature = "v4"
max_log_groups = 2000
start = "2018-12-26 0:0:0"
in_order = "yes"
compression = "lz5"
[hec]
endpoints = ["ftp://splunk", 7]
tokn = "s3cret-typo"
token = 5
batch_bytes = "1XB"
verify = "fingerprint:12"
event = "raw:"
[hek]
x = 1
[runtime]
cores = "3-1"
pin = { "x/0" = 1 }
memory = "1MiB"
[admin]
listen = "nowhere"
[log]
level = "verbose"
batch_bytes = 1
"#,
    );
    for part in [
        "sls.endpont (",
        "toml:3): no such key; fix: did you mean endpoint?",
        "sls.project = \"My_Project\"",
        "allowed: 3 to 63 lower-case letters",
        "sls.consumer_group = \"a b\"",
        "sls.logstore: is not set; fix: set [sls] logstore or SLS_LOGSTORE",
        "sls.heartbeat_interval = 20",
        "the unit is missing",
        "sls.fetch_interval = \"1ms\"",
        "out of range; allowed: 10ms to 1m",
        "sls.region: signature v4 needs a region",
        "sls.max_log_groups = 2000",
        "a whole number from 1 to 1000",
        "sls.start = \"2018-12-26 0:0:0\"",
        "sls.in_order = \"yes\"",
        "this is text; allowed: true or false",
        "did you mean \"lz4\"?",
        "hec.endpoints = [\"ftp://splunk\", 7]",
        "hec.tokn (",
        "did you mean token?",
        "hec.token (",
        "this is a whole number; allowed: text in quotes",
        "hec.batch_bytes = \"1XB\"",
        "not a size; allowed: 4KiB to 64MiB",
        "hek (",
        "did you mean [hec]?",
        "runtime.cores = \"3-1\"",
        "runtime.pin",
        "no pipeline is called x",
        "runtime.memory = \"1MiB\"",
        "admin.listen = \"nowhere\"",
        "log.level = \"verbose\"",
        "batch_bytes belongs to [hec]",
    ] {
        assert!(text.contains(part), "{part}\n--\n{text}");
    }
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn rules_of_a_sink_that_is_used() {
    let text = mistakes(&format!(
        "{MINIMUM}verify = \"fingerprint:12\"\nevent = \"raw:\"\nclient_key = \"/nowhere\"\n"
    ));
    for part in [
        "hec.verify",
        "64 hex digits",
        "hec.event",
        "raw:FIELD",
        "hec.client_key",
        "hec.client_cert",
        "No such file",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let pin: String = (0..32).map(|_| "AB:").collect();
    let loaded =
        with_file(&format!("{MINIMUM}verify = \"fingerprint:{}\"\n", pin.trim_end_matches(':'))).unwrap();
    assert_eq!(hec(&loaded).tls.verify, Verify::Fingerprint(vec![[0xAB; 32]]));
    let two = format!("{MINIMUM}verify = \"fingerprint:{}, {}\"\n", "ab".repeat(32), "01:".repeat(32));
    assert_eq!(hec(&with_file(&two).unwrap()).tls.verify, Verify::Fingerprint(vec![[0xAB; 32], [1; 32]]));
    for bad in
        [two.replace("01:", "0:"), two.replace("ab", "zb"), two.replace("ab", "abc"), two.replace(", ", ",,")]
    {
        assert!(mistakes(&bad).contains("hec.verify"), "{bad}");
    }
    let loaded = with_file(&format!("{MINIMUM}verify = \"off\"\n")).unwrap();
    assert!(loaded.config.warnings[0].contains("verify = \"off\""));
}

#[test]
fn one_sink_per_pipeline() {
    let none = MINIMUM.replace("endpoints = [\"https://splunk-1:8088\"]", "");
    assert!(mistakes(&none).contains("sink: no sink is set"));
    let two = format!("{MINIMUM}[syslog]\nendpoints = [\"tls://siem\"]\n[stdout]\n");
    assert!(mistakes(&two).contains("[hec] and [syslog] and [stdout] are set"));
    let text = mistakes(&two.replace("tls://siem", "siem").replace("token = ", "verify = \"no\"\ntoken = "));
    assert!(text.contains("syslog.endpoints") && text.contains("hec.verify"), "{text}");
    let stdout = format!("{none}[stdout]\nformat = \"syslog\"\n");
    let loaded = with_file(&stdout).unwrap();
    assert!(matches!(
        loaded.config.pipelines[0].sink,
        SinkConfig::Stdout(StdoutConfig { format: StdoutFormat::Syslog })
    ));
}

#[test]
fn several_pipelines_inherit() {
    let toml = format!(
        r#"{MINIMUM}
[runtime]
pin = {{ "b/3" = 1 }}
[pipeline.a.sls]
logstore = "store-a"
[pipeline.a.hec]
token = "token-a"
index = "a"
[pipeline.b.sls]
logstore = "store-b"
[pipeline.b.syslog]
endpoints = ["tls://siem"]
preset = "qradar-tls"
message = "json"
severity_map = {{ error = "err", bad = 2 }}
"#
    );
    let loaded = with_file(&toml).unwrap();
    let [a, b] = loaded.config.pipelines.as_slice() else { panic!() };
    assert_eq!(
        (a.name.as_str(), a.sls.logstore.as_str(), a.sls.project.as_str()),
        ("a", "store-a", "my-project")
    );
    let SinkConfig::Hec(hec) = &a.sink else { panic!() };
    assert_eq!((hec.token.expose_secret(), hec.index.as_str(), hec.endpoints.len()), ("token-a", "a", 1));
    let SinkConfig::Syslog(syslog) = &b.sink else { panic!() };
    assert_eq!((syslog.message.clone(), syslog.framing), (SyslogMessage::Json, SyslogFraming::Newline));
    assert_eq!((syslog.precision, syslog.max_message_bytes), (Precision::Millis, 8000));
    assert_eq!(syslog.severity_map.values().copied().collect::<Vec<_>>(), [2, 3]);
    assert_eq!((syslog.facility, syslog.severity), (1, 6));
    assert_eq!(loaded.config.runtime.pin, [Pin { pipeline: "b".into(), shard: 3, core: 1 }]);

    let idle = format!("{toml}[pipeline.b.hec]\nindex = \"x\"\n");
    let warnings = with_file(&idle).unwrap().config.warnings;
    assert!(warnings[0].contains("[pipeline.b.hec] has no effect"), "{warnings:?}");
    let same = toml.replace("logstore = \"store-b\"", "logstore = \"store-a\"");
    assert!(mistakes(&same).contains("in one consumer group"));
    let bare_pin = toml.replace("\"b/3\"", "\"3\"");
    assert!(mistakes(&bare_pin).contains("whose shard?"));
    let log = format!("{toml}[pipeline.b.log]\nlevel = \"info\"\n");
    assert!(mistakes(&log).contains("for all pipelines together"));
    let env = [("SLS2SIEM_PIPELINE__A__HEC__INDEX", "from-env")];
    let loaded = Home::new().load_with(&toml, &env, &["pipeline.b.sls.project=other"]).unwrap();
    let [a, b] = loaded.config.pipelines.as_slice() else { panic!() };
    assert!(matches!(&a.sink, SinkConfig::Hec(hec) if hec.index == "from-env"));
    assert_eq!(b.sls.project, "other");
}

/// Whoever starts from a copy of default.toml must still get what a preset sets.
#[test]
fn a_copy_of_the_default_file_does_not_hide_a_preset() {
    let mut settings = Settings::default();
    settings.read_toml(DEFAULT_TOML, &|_| Origin::Flag);
    for key in schema::KEYS.iter().filter(|key| key.table == "syslog") {
        let touched = schema::PRESETS.iter().any(|preset| preset::value(preset, key.name).is_some());
        assert_eq!(settings.at(None, key).is_none(), touched, "{}", key.name);
    }
    for preset in schema::PRESETS {
        for key in schema::KEYS.iter().filter(|key| key.table == "syslog") {
            let Some(value) = preset::value(preset, key.name) else { continue };
            let setting = raw::Setting { raw: raw::Raw::Text(value.into()), origin: Origin::Default };
            assert_eq!(
                value::check(&raw::Slot::new(None, key), key, &setting),
                None,
                "{preset} {}",
                key.name
            );
        }
    }
}

#[test]
fn lists_of_the_sample_make_pipelines() {
    let mut env: Vec<_> = WHOLE_ENV
        .into_iter()
        .filter(|(name, _)| !["SLS_PROJECT", "SLS_LOGSTORE", "SLS_ENDPOINT"].contains(name))
        .collect();
    env.extend([
        ("SLS_ENDPOINTS", "cn-a.log.aliyuncs.com;cn-b.log.aliyuncs.com"),
        ("SLS_PROJECTS", "project-a;project-b"),
        ("SLS_LOGSTORES", "one,two;one"),
    ]);
    let loaded = from_env(&env).unwrap();
    let places: Vec<_> = loaded
        .config
        .pipelines
        .iter()
        .map(|p| format!("{} {} {} {}", p.name, p.sls.endpoint.host, p.sls.project, p.sls.logstore))
        .collect();
    assert_eq!(
        places,
        [
            "project-a-one cn-a.log.aliyuncs.com project-a one",
            "project-a-two cn-a.log.aliyuncs.com project-a two",
            "project-b-one cn-b.log.aliyuncs.com project-b one",
        ]
    );
    env.push(("SLS_PROJECT", "single"));
    assert!(from_env(&env).unwrap_err().to_string().contains("lists or the single names"));
    env.pop();
    env.retain(|(name, _)| *name != "SLS_LOGSTORES");
    env.push(("SLS_LOGSTORES", "one"));
    assert!(from_env(&env).unwrap_err().to_string().contains("differ in length"));
}

#[test]
fn misspelt_variables_are_mistakes_and_service_links_are_not() {
    let mut env = WHOLE_ENV.to_vec();
    env.extend([
        ("SLS2SIEM_SERVICE_HOST", "10.0.0.1"),
        ("SLS2SIEM_PORT", "tcp://10.0.0.1:9465"),
        ("SLS2SIEM_PORT_9465_TCP_ADDR", "10.0.0.1"),
        ("SLS2SIEM_METRICS_SERVICE_PORT", "9465"),
        ("SLS_SOMETHING_ELSE", "x"),
    ]);
    assert!(from_env(&env).is_ok());
    env.extend([
        ("SLS2SIEM_HEC_BATCH_BYTES", "1MiB"),
        ("SLS2SIEM_HEC__TOKN", "s3cret-typo"),
        ("SLS2SIEM_PIPELINE__A__LOG__LEVEL", "info"),
    ]);
    let text = from_env(&env).unwrap_err().to_string();
    assert!(text.contains("SLS2SIEM_HEC_BATCH_BYTES (environment): no such variable"), "{text}");
    assert!(text.contains("did you mean SLS2SIEM_HEC__BATCH_BYTES?"), "{text}");
    assert!(text.contains("did you mean SLS2SIEM_HEC__TOKEN?"), "{text}");
    assert!(text.contains("SLS2SIEM_PIPELINE__A__LOG__LEVEL"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn an_endpoint_with_the_project_in_it_is_taken_and_said() {
    let toml = MINIMUM.replace("https://cn-hangzhou", "https://my-project.cn-hangzhou");
    let loaded = with_file(&toml).unwrap();
    assert_eq!(loaded.config.pipelines[0].sls.endpoint.host, "cn-hangzhou.log.aliyuncs.com");
    assert!(loaded.config.warnings[0].contains("begins with the project"));
}

#[test]
fn rules_across_keys() {
    for (change, want) in [
        ("timeout = \"20s\"", "not longer than heartbeat_interval"),
        ("start = \"2026-01-02T00:00:00Z\"\nstop = 1000000000", "stop is not after start"),
        ("stop = \"end\"", "not a time"),
        ("query = \"*\"\nprocessor = \"p\"", "both set"),
        ("signature = \"v4\"\nregion = \"Hangzhou!\"", "not a region"),
        ("proxy = \"socks://u:s3cret-pw@h\"", "scheme must be http://"),
    ] {
        let text = mistakes(&MINIMUM.replace("[hec]", &format!("{change}\n[hec]")));
        assert!(text.contains(want), "{change}: {text}");
        assert!(!text.contains("s3cret"), "{text}");
    }
    let text = mistakes(&format!("{MINIMUM}batch_bytes = \"32MiB\"\n[runtime]\nmemory = \"64MiB\"\n"));
    assert!(text.contains("set memory to 128MiB or more"), "{text}");
    let text = mistakes(&MINIMUM.replace("s3cret-token", "s3cret\\r\\nX-Evil: 1"));
    assert!(
        text.contains("hec.token") && text.contains("not a HEC token") && !text.contains("s3cret"),
        "{text}"
    );
}

#[test]
fn broken_toml_is_told_by_line_without_its_text() {
    let text = mistakes("[hec]\ntoken = \"s3cret-token\nindex = 1\n");
    assert!(text.contains("toml:2)"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
    let text = mistakes("[hec]\nindex = \"a\"\nindex = \"b\"\n");
    assert!(text.contains("toml:3)") && text.contains("duplicate"), "{text}");
}

#[test]
fn keys_without_a_name() {
    let text = mistakes("\"\" = 1\n[hec]\n\"\" = 2\n");
    assert!(text.contains("\"\" (") && text.contains("toml:1): no such table"), "{text}");
    assert!(text.contains("hec. (") && text.contains("toml:3): no such key"), "{text}");
    for set in ["", " = x"] {
        let text = Home::new().load_with(MINIMUM, &[], &[set]).unwrap_err().to_string();
        assert!(text.contains("\"\" (--set): not the path of a key"), "{set}: {text}");
    }
}

#[test]
fn a_pipeline_is_named_well_by_flags_and_variables_too() {
    let home = Home::new();
    for set in ["pipeline..hec.index=x", "pipeline.a b.hec.index=x", "pipeline.ä.sls.project=p"] {
        let text = home.load_with(MINIMUM, &[], &[set, set]).unwrap_err().to_string();
        assert_eq!(text.matches("(--set): not a name for a pipeline").count(), 1, "{text}");
    }
    let env = [("SLS2SIEM_PIPELINE____HEC__INDEX", "x")];
    let text = home.load_with(MINIMUM, &env, &[]).unwrap_err().to_string();
    assert!(text.contains("(environment SLS2SIEM_PIPELINE____HEC__INDEX): not a name"), "{text}");
}

#[test]
fn flags_that_are_no_keys() {
    let home = Home::new();
    let text =
        home.load_with(MINIMUM, &[], &["hec.tokn=x", "hec", "hec.index", "a.b=c"]).unwrap_err().to_string();
    for part in
        ["did you mean token?", "not the path of a key", "hec.index (--set): has no value", "a.b (--set)"]
    {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn the_printed_settings_mask_secrets_and_are_read_back() {
    let home = Home::new();
    let toml = format!(
        "{MINIMUM}index = \"x{{y}}\\\"\\n\"\n[pipeline.a.sls]\nlogstore = \"aa\"\n[pipeline.b.sls]\nlogstore = \"bb\"\n\
         proxy = \"http://u:s3cret-pw@proxy\"\n[pipeline.b.syslog]\nendpoints = \"tls://siem\"\npreset = \"sc4s\"\n"
    );
    let env = [("SLS_PROJECT", "other-project"), ("SLS_SECURITY_TOKEN", "s3cret-sts")];
    let loaded = home.load_with(&toml, &env, &["hec.connections=7"]).unwrap();
    let text = loaded.to_toml();
    assert!(!text.contains("s3cret"), "{text}");
    for part in [
        "project = \"other-project\"  # environment SLS_PROJECT",
        "connections = 7  # --set, default 2",
        "token = \"***\"  # ",
        "heartbeat_interval = \"20s\"\n",
        "[pipeline.b.syslog]",
        "sls2siem.toml:7",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let again = home.load_with(&text.replace("***@", ""), &[], &[]).unwrap();
    let plain = |loaded: &Loaded| {
        format!("{:?}", loaded.config)
            .replace("user_info: Some(SecretBox<str>([REDACTED]))", "user_info: None")
    };
    assert_eq!(plain(&again), plain(&loaded));
    assert!(!plain(&loaded).contains("s3cret"));
}

/// Every TOML that we show is read by the program; parts may miss what a whole file needs.
#[test]
fn every_toml_in_the_documents_is_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = vec![("default.toml".to_owned(), DEFAULT_TOML.to_owned())];
    if let Ok(readme) = fs::read_to_string(root.join("README.md")) {
        let blocks = readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
        texts.extend(blocks.enumerate().map(|(at, block)| (format!("README block {at}"), block.to_owned())));
    }
    for entry in fs::read_dir(root.join("tuning")).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            texts.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
    for (name, text) in texts {
        let Err(error) = with_file(&text) else { continue };
        // A part of a file may leave things out, and files that it names are on another machine.
        let wrong: Vec<_> = error
            .mistakes
            .iter()
            .filter(|mistake| {
                mistake.kind != MistakeKind::Missing && !mistake.problem.contains("No such file")
            })
            .map(ToString::to_string)
            .collect();
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
    }
}

proptest! {
    /// Whatever stands in the file or a variable: an answer, no panic, and no secret in it.
    #[test]
    fn any_text_is_answered(value in ".{0,30}", at in 0_usize..schema::KEYS.len()) {
        let key = &schema::KEYS[at];
        let variable = format!("SLS2SIEM_{}__{}", key.table, key.name).to_uppercase();
        let mut env = variables(&WHOLE_ENV);
        env.insert(variable, value.clone());
        let _ = load(&Sources { file: None, env: env.clone(), sets: vec![value.clone()] });
        if let Ok(loaded) = load(&Sources { file: None, env, sets: vec![] }) {
            prop_assert!(!loaded.to_toml().contains("s3cret"));
        }
        let mut settings = Settings::default();
        settings.read_toml(&value, &|_| Origin::Flag);
        settings.read_toml(&format!("[{}]\n{} = {value}", key.table, key.name), &|_| Origin::Flag);
    }
}
