//! The real program, started as a user starts it.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test binary: what cannot be started is a failure"
)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

const ENV: [(&str, &str); 8] = [
    ("SLS_ENDPOINT", "cn-hangzhou.log.aliyuncs.com"),
    ("SLS_PROJECT", "my-project"),
    ("SLS_LOGSTORE", "my-logstore"),
    ("SLS_AK_ID", "LTAI"),
    ("SLS_AK_KEY", "s3cret-key"),
    ("SLS_CG", "sync_data"),
    ("HEC_URL", "https://splunk:8088"),
    ("HEC_TOKEN", "s3cret-token"),
];

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn run(args: &[&str], env: &[(&str, &str)]) -> Ran {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_sls2siem"))
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .output()
        .expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    let ran = Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr) };
    assert!(!ran.stdout.contains("s3cret") && !ran.stderr.contains("s3cret"), "{}{}", ran.stdout, ran.stderr);
    ran
}

fn file(directory: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = directory.path().join("sls2siem.toml");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn wrong_usage_is_64() {
    for args in [
        &[][..],
        &["frobnicate"],
        &["run", "--frobnicate"],
        &["config", "--config"],
        &["demo", "--rate", "fast"],
    ] {
        let ran = run(args, &[]);
        assert_eq!(ran.code, Some(64), "{args:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{args:?}");
        assert!(ran.stderr.contains("--help"), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn help_shows_examples_and_only_commands_that_exist() {
    let ran = run(&["--help"], &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for part in [
        "Examples:",
        "sls2siem demo",
        "  run ",
        "  check ",
        "  preview ",
        "  config ",
        "  status ",
        "  seek ",
        "  demo ",
        "Exit codes:",
    ] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    for command in ["manual", "help"] {
        assert!(!ran.stdout.contains(&format!("\n  {command} ")), "{}", ran.stdout);
    }
    for command in ["run", "check", "preview", "config", "status", "seek", "demo"] {
        let ran = run(&[command, "--help"], &[]);
        assert_eq!(ran.code, Some(0));
        assert!(ran.stdout.contains("Examples:") && ran.stdout.contains("Usage: sls2siem"), "{}", ran.stdout);
    }
    let ran = run(&["--version"], &[]);
    // With the commit behind it, where it was built from a checkout.
    let version = ran.stdout.trim().strip_prefix(concat!("sls2siem ", env!("CARGO_PKG_VERSION")));
    let commit = version.unwrap_or_else(|| panic!("{}", ran.stdout)).trim_matches([' ', '(', ')']);
    assert!(commit.is_empty() || commit.chars().all(|c| c.is_ascii_hexdigit() || c == '+'), "{commit}");
    assert_eq!(ran.code, Some(0));
}

#[test]
fn wrong_settings_are_78_and_all_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(
        &directory,
        "[sls]\nprojct = \"x\"\nheartbeat_interval = \"20\"\n[hec]\nendpoints = [\"ftp://h\"]\ntoken = \"s3cret\"\n",
    );
    let path = path.to_str().unwrap();
    for command in ["run", "check", "config", "status"] {
        let ran = run(
            &[command, "--config", path, "--set", "hec.tokn=s3cret"],
            &[("SLS2SIEM_HEC__CONECTIONS", "2")],
        );
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(78), ""), "{}", ran.stderr);
        for part in [
            &format!("sls.projct ({path}:2): no such key; fix: did you mean project?"),
            "sls.heartbeat_interval = \"20\"",
            "not a time with a unit",
            "sls.endpoint: is not set",
            "hec.endpoints",
            "scheme must be https:// or http://",
            "hec.tokn (--set): no such key; fix: did you mean token?",
            "did you mean SLS2SIEM_HEC__CONNECTIONS?",
        ] {
            assert!(ran.stderr.contains(part), "{part}\n{}", ran.stderr);
        }
    }
}

/// A service manager does not start again what ends with 78: that would be the end of forwarding after a moment without
/// file descriptors, or with a disk that does not answer.
#[test]
fn files_that_the_system_cannot_read_are_no_mistake_of_the_settings() {
    // Its first page is mapped nowhere, so that reading it is an error of input and output, as of a broken disk.
    const BROKEN: &str = "/proc/self/mem";
    let set = |setting: &str| format!("{setting}={BROKEN}");
    let https = "sls.endpoint=https://127.0.0.1:9";
    let (token, sls_ca, hec_ca) = (set("hec.token_file"), set("sls.ca_file"), set("hec.ca_file"));
    for args in [
        vec!["--config", BROKEN],
        vec!["--set", &token, "--set", "hec.token="],
        vec!["--set", &sls_ca, "--set", https],
        vec!["--set", &hec_ca],
    ] {
        let ran = run(&[&["run"], &args[..]].concat(), &ENV);
        assert_eq!(ran.code, Some(1), "{args:?}: {}", ran.stderr);
        for part in
            [BROKEN, "Input/output error (os error 5)", "nothing is wrong with the settings", "try again"]
        {
            assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
        }
        assert!(
            !ran.stderr.contains("is not set")
                && !ran.stderr.contains("mistake")
                && !ran.stderr.contains("give a PEM"),
            "{}",
            ran.stderr
        );
    }
    // What is wrong besides is known to be wrong.
    let ran = run(&["run", "--set", &hec_ca, "--set", "hec.tokn=x"], &ENV);
    assert_eq!(ran.code, Some(78), "{}", ran.stderr);
}

#[test]
fn a_file_that_is_not_there_is_78() {
    let ran = run(&["run", "--config", "/nowhere/sls2siem.toml"], &ENV);
    assert_eq!(ran.code, Some(78));
    assert!(
        ran.stderr.contains("/nowhere/sls2siem.toml") && ran.stderr.contains("No such file"),
        "{}",
        ran.stderr
    );
}

#[test]
fn the_environment_alone_is_a_whole_set_up() {
    let ran = run(&["config"], &ENV);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    for part in [
        "project = \"my-project\"  # environment SLS_PROJECT",
        "access_key_secret = \"***\"",
        "token = \"***\"",
        "endpoints = [\"https://splunk:8088\"]",
        "[runtime]",
    ] {
        assert!(ran.stdout.contains(part), "{part}\n{}", ran.stdout);
    }
    assert!(!ran.stdout.contains("[syslog]"), "{}", ran.stdout);
}

#[test]
fn flags_beat_the_environment_beats_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "[hec]\nindex = \"file\"\nsource = \"file\"\nsourcetype = \"file\"\n");
    let mut env = ENV.to_vec();
    env.extend([("HEC_INDEX", "env"), ("HEC_SOURCE", "env")]);
    let ran = run(&["config", "--config", path.to_str().unwrap(), "--set", "hec.index=flag"], &env);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for part in ["index = \"flag\"  # --set", "\nsource = \"env\"", "sourcetype = \"file\"  # ", ":4\n"] {
        assert!(ran.stdout.contains(part), "{part}\n{}", ran.stdout);
    }
}

#[test]
fn what_is_printed_can_be_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, &run(&["config"], &ENV).stdout);
    let again = run(&["config", "--config", path.to_str().unwrap()], &[]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    let plain =
        |text: &str| text.lines().map(|l| l.split("  # ").next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(plain(&again.stdout), plain(&run(&["config"], &ENV).stdout));
}
