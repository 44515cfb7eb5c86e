//! The tree of the Debian package and the package itself, from the metadata that `cargo deb` reads.
//!
//! Why: what is installed in a test has to be what a user installs.   Invariants: nothing outside of the given folder is
//! written.   Bounds: none.   Driven by: the tests of the package and of the unit.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// False, with a printed reason, where a tool of the system is missing.
pub(crate) fn has(tool: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).any(|folder| folder.join(tool).is_file());
    if !found {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI has to have {tool}");
        println!("skipped: there is no {tool} here");
    }
    found
}

pub(crate) fn run(command: &mut Command) -> String {
    let ran = command.output().expect("the tool starts");
    let text = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{command:?}: {text}");
    text
}

/// Copies every asset to its place, with what this build has in place of a release.
pub(crate) fn tree(at: &Path) -> toml::Table {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = toml::from_str(&manifest).unwrap();
    let deb = manifest
        .get("package")
        .and_then(|package| package.get("metadata")?.get("deb"))
        .unwrap()
        .as_table()
        .unwrap()
        .clone();
    let manual = at.join("manual");
    run(Command::new(env!("CARGO_BIN_EXE_sls2siem")).arg("manual").arg(&manual));
    for asset in deb.get("assets").unwrap().as_array().unwrap() {
        let [from, to, mode] =
            [0, 1, 2].map(|index| asset.get(index).and_then(toml::Value::as_str).expect("a text").to_owned());
        let sources: Vec<PathBuf> = match from.as_str() {
            "target/release/sls2siem" => vec![env!("CARGO_BIN_EXE_sls2siem").into()],
            // Built by the release; here another file stands for it.
            "target/release/loadgen" => vec![root().join("README.md")],
            "target/manual/*.1" => {
                let all = fs::read_dir(&manual).unwrap().map(|entry| entry.unwrap().path());
                all.filter(|path| path.extension().is_some_and(|end| end == "1")).collect()
            }
            _ => match from.strip_prefix("target/manual/") {
                Some(name) => vec![manual.join(name)],
                None => vec![root().join(&from)],
            },
        };
        assert!(!sources.is_empty(), "{from}");
        for source in sources {
            let mut place = at.join("root").join(&to);
            if to.ends_with('/') {
                place.push(source.file_name().unwrap());
            }
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::copy(&source, &place).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
            let mode = u32::from_str_radix(&mode, 8).unwrap();
            fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
    deb
}

/// Adds what dpkg wants to know to the tree.
pub(crate) fn control(at: &Path, deb: &toml::Table) {
    let control = at.join("root/DEBIAN");
    fs::create_dir_all(&control).unwrap();
    let text = format!(
        "Package: sls2siem\nVersion: 0.1.0\nArchitecture: amd64\nMaintainer: {} <nobody@example.org>\nDescription: {}\n",
        deb["maintainer"].as_str().unwrap(),
        "logs from SLS to a SIEM"
    );
    fs::write(control.join("control"), text).unwrap();
    for script in ["postinst", "prerm", "postrm"] {
        let from = root().join(deb["maintainer-scripts"].as_str().unwrap()).join(script);
        run(Command::new("sh").arg("-n").arg(&from));
        assert_ne!(from.metadata().unwrap().permissions().mode() & 0o111, 0, "{script} can be run");
        fs::copy(&from, control.join(script)).unwrap();
    }
}

/// Builds the package of the tree.
pub(crate) fn package(at: &Path) -> PathBuf {
    let package = at.join("sls2siem.deb");
    run(Command::new("dpkg-deb")
        .args(["--root-owner-group", "-Znone", "--build"])
        .arg(at.join("root"))
        .arg(&package));
    package
}
