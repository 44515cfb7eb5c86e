//! The package on a system with systemd: installed, started, used, broken, stopped, removed.
//!
//! Why: a unit that is sound on paper may still not start: its system call filter, its user, its readiness and its
//! watchdog meet the program only there.
//! Invariants: 1. the system is a copy of this one in namespaces of its own, written into memory; this one is not
//! touched. 2. the emulators are in this process, on loopback.   Bounds: [`PATIENCE`] for each step.
//! Driven by: `cargo test --test systemd`, as root. Elsewhere it is skipped, and fails where `CI=true`.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test binary: what is missing is a failure, and what is skipped is printed"
)]
#![expect(clippy::disallowed_methods, reason = "it waits for other processes on the machine's clock")]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use loadgen::payload::{Payload, Profile};
use loadgen::sink::hec::{HecConfig, HecServer, Mode, Token};
use loadgen::sink::tls::TlsSettings;
use loadgen::sls::{AccessKey, Fill, SlsConfig, SlsServer};
use loadgen::verify::Sent;
use loadgen::verify::expect::Metadata;
use tree::{control, has, package, tree};

#[path = "package/tree.rs"]
mod tree;

const PATIENCE: Duration = Duration::from_mins(1);
const GROUP: &str = "systemd";
const TOKEN: &str = "5ec2e700-1111-4222-8333-444455556666";
const SHARDS: u32 = 2;

/// A system that was booted for this test.
struct System {
    unshare: Child,
    init: u32,
}

impl System {
    /// Boots with these files in `/package`.
    fn boot(place: &Path, files: &[&Path]) -> Self {
        fs::create_dir(place).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--uts", "--ipc", "--kill-child"]);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/systemd/boot")).arg(place).args(files);
        let log = fs::File::create(place.with_extension("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut system = Self { unshare: command.spawn().unwrap(), init: 0 };
        let children = format!("/proc/{0}/task/{0}/children", system.unshare.id());
        let end = Instant::now() + PATIENCE;
        loop {
            let said = || fs::read_to_string(place.with_extension("log")).unwrap_or_default();
            assert!(system.unshare.try_wait().unwrap().is_none(), "it ended: {}", said());
            assert!(Instant::now() < end, "it does not come up: {}", said());
            let child = fs::read_to_string(&children).unwrap_or_default().trim().parse::<u32>().ok();
            if let Some(init) = child {
                system.init = init;
                let state = system.output(&["systemctl", "is-system-running"]).1;
                if matches!(state.trim(), "running" | "degraded") {
                    return system;
                }
            }
            thread::sleep(LOOK);
        }
    }

    /// Runs a command inside; whether it succeeded and what it said.
    fn output(&self, words: &[&str]) -> (bool, String) {
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            &self.init.to_string(),
            "--mount",
            "--uts",
            "--ipc",
            "--pid",
            "--root",
            "--wdns=/",
        ]);
        let ran = command.args(words).stdin(Stdio::null()).output().unwrap();
        let said = [ran.stdout, ran.stderr].concat();
        (ran.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    fn run(&self, words: &[&str]) -> String {
        let (done, said) = self.output(words);
        assert!(done, "{words:?}: {said}\n{}", self.journal());
        said
    }

    fn journal(&self) -> String {
        self.output(&["journalctl", "--no-pager", "--unit=sls2siem", "--lines=80"]).1
    }

    /// One property of the unit.
    fn show(&self, property: &str) -> String {
        let said = self.run(&["systemctl", "show", "--value", "--property", property, "sls2siem"]);
        said.trim().to_owned()
    }

    fn write(&self, file: &str, text: &str) {
        let script = format!(
            "mkdir -p \"$(dirname '{file}')\" && umask 077 && cat > '{file}' <<'THE-END'\n{text}\nTHE-END\n"
        );
        self.run(&["sh", "-c", &script]);
    }

    fn wait(&self, what: &str, mut done: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < end, "{what}\n{}", self.journal());
            thread::sleep(LOOK);
        }
    }
}

impl Drop for System {
    fn drop(&mut self) {
        // Its first process dies with it, and with that one every other.
        let _gone = self.unshare.kill();
        let _gone = self.unshare.wait();
    }
}

/// True where a system can be booted here.
fn is_possible() -> bool {
    let tools = ["dpkg-deb", "unshare", "nsenter"].into_iter().all(has);
    let systemd = Path::new("/lib/systemd/systemd").exists();
    let root = fs::read_to_string("/proc/self/status").unwrap().contains("\nUid:\t0\t0\t0\t0\n");
    if !systemd || !root {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "CI has systemd and is root");
        println!("skipped: it takes root and systemd to boot a system");
    }
    tools && systemd && root
}

#[test]
#[expect(clippy::too_many_lines, reason = "the life of an installation, from its beginning to its end")]
fn the_package_is_installed_started_used_and_removed() {
    if !is_possible() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let deb = tree(dir.path());
    control(dir.path(), &deb);
    let package = package(dir.path());
    let key = AccessKey::new("LTAIsystemd", "s3cret-of-the-access-key");
    let sls = SlsServer::start(SlsConfig {
        tls_dir: Some(dir.path().to_owned()),
        shards: SHARDS,
        keys: vec![key],
        ..SlsConfig::default()
    })
    .unwrap();
    let payload = Payload::new(Profile::AccessLog, 7).with_logs_per_group(50);
    let hec = HecServer::start(HecConfig {
        tls: Some(TlsSettings::default()),
        payload: Some((payload, Metadata::default())),
        ..HecConfig::new(Mode::Strict, Token::new(TOKEN))
    })
    .unwrap();
    fs::write(dir.path().join("hec.pem"), hec.ca_pem().unwrap()).unwrap();
    let mut sent = 0;
    let mut fill = || {
        sls.store().fill_all(Fill::new(payload, 500)).unwrap();
        sent += 500;
        sent
    };

    let system = System::boot(
        &dir.path().join("box"),
        &[&package, &dir.path().join("ca.pem"), &dir.path().join("hec.pem")],
    );
    let said = system.run(&["dpkg", "--force-depends", "--install", "/package/sls2siem.deb"]);
    assert!(said.contains("copy /usr/share/doc/sls2siem/examples/sls2siem.toml"), "{said}");
    assert_eq!(system.show("ActiveState"), "inactive", "it waits for its settings");

    // The settings, the secrets as files of the unit's user, enable. (Credentials of systemd need access control lists
    // on a ramfs, which not every kernel of a test has; where their directory comes from is tested in `config`.)
    system.run(&["cp", "/package/ca.pem", "/package/hec.pem", "/etc/sls2siem/"]);
    system.run(&["chmod", "644", "/etc/sls2siem/ca.pem", "/etc/sls2siem/hec.pem"]);
    system.write("/etc/sls2siem/secrets/sls-access-key-id", "LTAIsystemd");
    system.write("/etc/sls2siem/secrets/sls-access-key-secret", "s3cret-of-the-access-key");
    system.write("/etc/sls2siem/secrets/hec-token", TOKEN);
    system.write("/etc/sls2siem/sls2siem.toml", &settings(&sls.endpoint(), &hec.url()));
    system.run(&["chown", "-R", "sls2siem:", "/etc/sls2siem/secrets"]);
    system.run(&["chgrp", "sls2siem", "/etc/sls2siem/sls2siem.toml"]);
    system.run(&["chmod", "640", "/etc/sls2siem/sls2siem.toml"]);
    system.run(&["systemctl", "daemon-reload"]);
    system.run(&["systemctl", "enable", "--now", "sls2siem"]);
    assert_eq!(system.show("ActiveState"), "active");
    let main = system.show("MainPID");
    let status = system.run(&["cat", &format!("/proc/{main}/status")]);
    assert!(!status.contains("\nUid:\t0\t"), "not root: {status}");
    assert!(
        status.contains("\nCapEff:\t0000000000000000\n") && status.contains("\nNoNewPrivs:\t1\n"),
        "{status}"
    );
    assert!(status.contains("\nSeccomp:\t2\n"), "{status}");

    let all = fill();
    let is_stored = |all: u64| hec.verdict(Some(&Sent::even(SHARDS, all))).is_complete();
    system.wait("all logs are stored", || is_stored(all) && sls.store().is_drained(GROUP).unwrap());

    // A reload is answered and changes nothing that it need not.
    system.run(&["systemctl", "reload", "sls2siem"]);
    system.wait("the settings were read again", || system.journal().contains("settings"));
    assert_eq!(system.show("MainPID"), main);

    // What cannot change while pipelines run begins anew inside of the process, and the manager sees it end.
    system.run(&["sed", "-i", "s/^memory = .*/memory = \"96MiB\"/", "/etc/sls2siem/sls2siem.toml"]);
    system.run(&["systemctl", "reload", "sls2siem"]);
    system.wait("the next generation works", || {
        let journal = system.journal();
        let after = journal.split("settings read again, changed: runtime.memory").nth(1);
        after.is_some_and(|after| after.contains(" in group ")) && system.show("SubState") == "running"
    });
    assert_eq!((system.show("MainPID"), system.show("ActiveState")), (main.clone(), "active".to_owned()));
    let all = fill();
    system.wait("it forwards", || is_stored(all) && sls.store().is_drained(GROUP).unwrap());
    // A broken file changes nothing.
    system.run(&["sed", "-i", "s/^consumer_group/consumer_grup/", "/etc/sls2siem/sls2siem.toml"]);
    system.run(&["systemctl", "reload", "sls2siem"]);
    system.wait("the mistake is told", || system.journal().contains("did you mean consumer_group"));
    assert_eq!((system.show("MainPID"), system.show("ActiveState")), (main.clone(), "active".to_owned()));
    system.run(&["sed", "-i", "s/^consumer_grup/consumer_group/", "/etc/sls2siem/sls2siem.toml"]);

    // It tells the watchdog that it lives.
    let before = system.show("WatchdogTimestampMonotonic");
    system.wait("the watchdog is told", || system.show("WatchdogTimestampMonotonic") != before);

    // Killed, it comes back and goes on.
    system.run(&["kill", "-KILL", &main]);
    system.wait("it was started again", || {
        let now = system.show("MainPID");
        now != main && now != "0" && system.show("ActiveState") == "active"
    });
    let all = fill();
    system.wait("the rest is stored", || is_stored(all) && sls.store().is_drained(GROUP).unwrap());

    // Stopped, it drains.
    system.run(&["systemctl", "stop", "sls2siem"]);
    assert_eq!(system.show("ActiveState"), "inactive", "{}", system.journal());
    assert_eq!((system.show("Result").as_str(), system.show("ExecMainStatus").as_str()), ("success", "0"));

    // Settings that are wrong are told once: starting again cannot help.
    system.run(&["sed", "-i", "s/^consumer_group/consumer_grup/", "/etc/sls2siem/sls2siem.toml"]);
    assert!(!system.output(&["systemctl", "start", "sls2siem"]).0);
    assert_eq!(system.show("ExecMainStatus"), "78", "{}", system.journal());
    assert_eq!(system.show("ActiveState"), "failed", "{}", system.journal());
    let journal = system.journal();
    assert!(
        journal.matches("did you mean consumer_group").count() > 1,
        "once at the reload, once now: {journal}"
    );
    system.run(&["sed", "-i", "s/^consumer_grup/consumer_group/", "/etc/sls2siem/sls2siem.toml"]);
    system.run(&["systemctl", "start", "sls2siem"]);

    // Removed while it runs: it is stopped first, and the settings of the operator stay.
    system.run(&["dpkg", "--force-depends", "--remove", "sls2siem"]);
    assert!(!system.output(&["systemctl", "is-active", "sls2siem"]).0);
    for gone in ["/usr/bin/sls2siem", "/usr/lib/systemd/system/sls2siem.service", "/usr/share/doc/sls2siem"] {
        assert!(!system.output(&["test", "-e", gone]).0, "{gone} is still there");
    }
    system.run(&["test", "-e", "/etc/sls2siem/sls2siem.toml"]);
    assert!(!system.output(&["pgrep", "-x", "sls2siem"]).0, "no process is left");
}

fn settings(sls: &str, hec: &str) -> String {
    format!(
        "[sls]\nendpoint = \"{sls}\"\nproject = \"test-project\"\nlogstore = \"test-logstore\"\n\
         consumer_group = \"{GROUP}\"\naccess_key_id_file = \"secrets/sls-access-key-id\"\n\
         access_key_secret_file = \"secrets/sls-access-key-secret\"\nca_file = \"/etc/sls2siem/ca.pem\"\n\
         heartbeat_interval = \"500ms\"\ntimeout = \"2s\"\ncheckpoint_interval = \"200ms\"\n\n\
         [hec]\nendpoints = [\"{hec}\"]\ntoken_file = \"secrets/hec-token\"\nca_file = \"/etc/sls2siem/hec.pem\"\n\n\
         [runtime]\ncores = 1\nmemory = \"64MiB\"\n\n[admin]\nlisten = \"127.0.0.1:0\"\n"
    )
}

const LOOK: Duration = Duration::from_millis(100);
