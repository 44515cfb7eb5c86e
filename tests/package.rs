//! The packages: the Debian one built from the metadata that `cargo deb` reads, unpacked and looked at, and that of rpm
//! held to the same.
//!
//! Why: a package whose unit names a path that is not in it starts nowhere, and nobody sees it before it is installed.
//! Invariants: nothing outside of a temporary folder is touched.
//! Driven by: `cargo test --test package`. Without dpkg-deb or systemd-analyze the parts that need them are skipped,
//! with CI=true they fail then.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test binary: what is missing is a failure"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

use tree::{has, root, run, tree};

#[path = "package/tree.rs"]
mod tree;

fn metadata(of: &str) -> toml::Table {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = toml::from_str(&manifest).unwrap();
    let found = manifest.get("package").and_then(|package| package.get("metadata")?.get(of));
    found.unwrap().as_table().unwrap().clone()
}

#[test]
fn it_is_built_unpacked_and_whole() {
    let dir = tempfile::tempdir().unwrap();
    let deb = tree(dir.path());
    tree::control(dir.path(), &deb);
    if !has("dpkg-deb") {
        return;
    }
    let (package, unpacked) = (tree::package(dir.path()), dir.path().join("unpacked"));
    run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&unpacked));
    let list = run(Command::new("dpkg-deb").arg("-c").arg(&package));
    assert!(!list.lines().any(|line| line.get(5..6) == Some("w") || line.get(8..9) == Some("w")), "{list}");
    for file in [
        "usr/bin/sls2siem",
        "usr/lib/systemd/system/sls2siem.service",
        "usr/lib/sysusers.d/sls2siem.conf",
        "usr/lib/tmpfiles.d/sls2siem.conf",
        "usr/share/doc/sls2siem/examples/sls2siem.toml",
        "usr/share/doc/sls2siem/examples/grafana-dashboard.json",
        "usr/share/man/man1/sls2siem.1",
        "usr/share/man/man1/sls2siem-check.1",
        "usr/share/bash-completion/completions/sls2siem",
        "usr/share/zsh/vendor-completions/_sls2siem",
    ] {
        assert!(unpacked.join(file).is_file(), "{file}: {list}");
    }
    // The program in it runs, and takes the settings that come with it once the secrets are there.
    let program = unpacked.join("usr/bin/sls2siem");
    assert!(run(Command::new(&program).arg("--version")).starts_with("sls2siem 0.1.0"));
    let settings = unpacked.join("usr/share/doc/sls2siem/examples/sls2siem.toml");
    for name in ["sls-access-key-id", "sls-access-key-secret", "hec-token"] {
        fs::write(dir.path().join(name), "secret").unwrap();
    }
    let shown = run(Command::new(&program)
        .env_clear()
        .arg("config")
        .arg("--config")
        .arg(&settings)
        .env("CREDENTIALS_DIRECTORY", dir.path()));
    assert!(shown.contains("consumer_group = \"sls2siem\""), "{shown}");
}

#[test]
fn the_rpm_holds_the_same_files_and_does_the_same() {
    let (deb, rpm) = (metadata("deb"), metadata("generate-rpm"));
    let text = |value: Option<&toml::Value>| value.and_then(toml::Value::as_str).expect("a text").to_owned();
    let in_deb = deb["assets"].as_array().unwrap().iter().map(|asset| {
        // Where a distribution with rpm looks for them.
        let to = text(asset.get(1)).replace("zsh/vendor-completions/", "zsh/site-functions/");
        [text(asset.get(0)), format!("/{to}"), text(asset.get(2))]
    });
    let in_rpm = rpm["assets"].as_array().unwrap().iter();
    let in_rpm = in_rpm.map(|asset| ["source", "dest", "mode"].map(|key| text(asset.get(key))));
    let (mut in_deb, mut in_rpm): (Vec<_>, Vec<_>) = (in_deb.collect(), in_rpm.collect());
    in_deb.sort();
    in_rpm.sort();
    assert_eq!(in_deb, in_rpm);
    for name in ["ca-certificates", "systemd"] {
        assert!(
            deb["depends"].as_str().unwrap().contains(name) && rpm["requires"].get(name).is_some(),
            "{name}"
        );
    }
    // What both have to do; systemd is not there.
    let steps =
        ["systemd-sysusers", "systemd-tmpfiles --create", "daemon-reload", "try-restart", "disable --now"];
    let scripts = |folder: &Path| -> String {
        let files =
            fs::read_dir(folder).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
        files.collect()
    };
    let debian = scripts(&root().join(deb["maintainer-scripts"].as_str().unwrap()));
    let mut others = String::new();
    for key in ["post_install_script", "pre_uninstall_script", "post_uninstall_script"] {
        let file = root().join(rpm[key].as_str().unwrap());
        run(Command::new("sh").arg("-n").arg(&file));
        for left in ["0", "1", "2"] {
            run(Command::new("/bin/sh").arg(&file).arg(left).env("PATH", "/nonexistent"));
        }
        others.push_str(&fs::read_to_string(&file).unwrap());
    }
    for step in steps {
        assert!(debian.contains(step) && others.contains(step), "{step}");
    }
}

#[test]
fn pages_and_completions_hold_every_command() {
    let dir = tempfile::tempdir().unwrap();
    run(Command::new(env!("CARGO_BIN_EXE_sls2siem")).arg("manual").arg(dir.path()));
    let page = fs::read_to_string(dir.path().join("sls2siem.1")).unwrap();
    for command in ["run", "check", "preview", "tap", "top", "config", "demo"] {
        assert!(page.contains(&format!("sls2siem\\-{command}")), "{command}: {page}");
        let own = fs::read_to_string(dir.path().join(format!("sls2siem-{command}.1"))).unwrap();
        assert!(own.contains(".SH NAME") && own.contains(".SH OPTIONS"), "{own}");
    }
    let check = fs::read_to_string(dir.path().join("sls2siem-check.1")).unwrap();
    assert!(check.contains("log:GetCursorOrData"), "the policy stands in it: {check}");
    for shell in ["sls2siem.bash", "_sls2siem", "sls2siem.fish"] {
        let text = fs::read_to_string(dir.path().join(shell)).unwrap();
        assert!(
            ["preview", "fail-fast", "tap", "mask-all", "top"].iter().all(|word| text.contains(word)),
            "{shell}"
        );
    }
    assert!(!page.contains("manual"), "hidden commands are not shown");
}

#[test]
fn the_unit_is_sound_and_closed() {
    if !has("systemd-analyze") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("sls2siem.service");
    // The analysis wants to find the program.
    let text = fs::read_to_string(root().join("tuning/sls2siem.service")).unwrap();
    assert!(text.contains("\nExecStart=sls2siem run ") && text.contains("\nType=notify\n"), "{text}");
    let program = format!("\nExecStart={} run ", env!("CARGO_BIN_EXE_sls2siem"));
    fs::write(&unit, text.replace("\nExecStart=sls2siem run ", &program)).unwrap();
    let said = run(Command::new("systemd-analyze").arg("verify").arg("--man=no").arg(&unit));
    let about_us: Vec<&str> = said.lines().filter(|line| line.contains("sls2siem")).collect();
    assert!(about_us.is_empty(), "{said}");
    let said =
        run(Command::new("systemd-analyze").args(["security", "--offline=true", "--no-pager"]).arg(&unit));
    let last = said.lines().rev().find(|line| line.contains("exposure level")).expect("a verdict");
    let level: f32 = last.split(':').nth(1).unwrap().trim().split(' ').next().unwrap().parse().unwrap();
    assert!(level <= 2.0, "exposure {level}: {said}");
}
