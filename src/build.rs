//! Tells the program which commit it was built from.
//!
//! Why: "which version is this" is the first question of every report, and a number alone does not tell builds apart.
//! Invariants: 1. without git or outside of a checkout it builds all the same. 2. a debug build does not name its
//! commit: each commit would compile everything again. Bounds: two calls of git. Driven by: cargo, before the crate.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src/build.rs");
    println!("cargo::rerun-if-env-changed=BUILD_COMMIT");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let commit = match variable("BUILD_COMMIT") {
        given if !given.is_empty() => Some(given),
        _ if variable("PROFILE") == "release" => commit(),
        _ => None,
    };
    let version = variable("CARGO_PKG_VERSION");
    let version = commit.map_or_else(|| version.clone(), |commit| format!("{version} ({commit})"));
    // Not SLS2SIEM_…: cargo shows it to the tests too, and a program that they start would take it for a setting.
    println!("cargo::rustc-env=BUILD_VERSION={version}");
}

/// The commit, where this is a checkout of our own: a parent's repository says nothing about us.
fn commit() -> Option<String> {
    if !Path::new(".git").exists() {
        return None;
    }
    // HEAD changes with a checkout, its log with a commit too.
    for file in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", file])?;
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"]).filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn git(args: &[&str]) -> Option<String> {
    let answer = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(answer.stdout).ok()?.trim().to_owned();
    (answer.status.success() && !text.is_empty()).then_some(text)
}
