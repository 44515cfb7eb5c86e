//! The rules of the house that a machine can check: who may import whom, what the pure core may name, how long a file
//! may be, which words a finished file does not hold, what the README must list.
//!
//! Why: a rule that nobody checks drifts. Clippy cannot know the rooms of this project.
//! Invariants: every rule carries a snippet that breaks it and one that keeps it, and a test feeds it both.
//! Driven by: `cargo test --test tidy`; each finding is `file:line: rule: what`.

#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::panic,
    reason = "a test: a surprise has to end it, with its place"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use reader::Source;

#[path = "tidy/reader.rs"]
mod reader;

/// One rule over one source file.
struct Rule {
    name: &'static str,
    check: fn(&Source) -> Vec<Finding>,
    /// Path and text that break it, and a part of what it then says.
    bad: (&'static str, &'static str, &'static str),
    /// Path and text that keep it, though they look similar.
    good: (&'static str, &'static str),
    /// The texts are filled up with lines of code to these lengths.
    lines: (usize, usize),
}

struct Finding {
    line: usize,
    what: String,
}

impl Finding {
    fn text(&self, source: &Source, rule: &Rule) -> String {
        format!("{}:{}: {}: {}", source.path, self.line, rule.name, self.what)
    }
}

impl From<(usize, String)> for Finding {
    fn from((line, path): (usize, String)) -> Self {
        Self { line, what: format!("names {path}") }
    }
}

const RULES: [Rule; 11] = [
    Rule {
        name: "imports flow one way",
        check: rooms,
        bad: (
            "src/proto/ledger.rs",
            "use std::fmt;\nuse crate::{\n    proto::ids,\n    drive::net,\n};\n",
            "drive",
        ),
        good: ("src/drive/pull.rs", "use crate::{proto::ids, metrics::Publisher};\n// not crate::cli\n"),
        lines: (0, 0),
    },
    Rule {
        name: "imports flow one way (by way of super)",
        check: rooms,
        bad: ("src/drive/net.rs", "fn f() { super::super::control::stop(); }\n", "control"),
        good: ("src/proto/sls/sign.rs", "use super::super::ids::ShardId;\n"),
        lines: (0, 0),
    },
    Rule {
        name: "the core is pure",
        check: pure_core,
        bad: ("src/proto/flow.rs", "use std::{fmt, time::{Duration, Instant}};\n", "std::time::Instant"),
        good: (
            "src/proto/flow.rs",
            "//! No std::net here.\nuse core::time::Duration;\n#[cfg(test)]\nmod tests {\n use std::fs;\n}\n",
        ),
        lines: (0, 0),
    },
    Rule {
        name: "only drive names glommio and rustls",
        check: drive_only,
        bad: ("src/control/leases.rs", "use rustls::ClientConfig;\n", "rustls"),
        good: ("src/control/sls_api.rs", "use rustls::crypto;\nuse ureq::Agent;\n"),
        lines: (0, 0),
    },
    Rule {
        name: "product and load generator do not know each other",
        check: strangers,
        bad: ("loadgen/src/sls.rs", "use sls2siem::proto::ids;\n", "sls2siem"),
        good: ("src/cli/demo.rs", "use loadgen::sls;\n"),
        lines: (0, 0),
    },
    Rule {
        name: "foo.rs and foo/, never mod.rs",
        check: no_mod_rs,
        bad: ("src/proto/sls/mod.rs", "", "sls.rs"),
        good: ("src/proto/sls.rs", ""),
        lines: (0, 0),
    },
    Rule {
        name: "a module says what it is",
        check: module_doc,
        bad: ("src/drive/net.rs", "//! A net.\n//! Invariants: 1. Bounds: 2. Driven by: us.\n", "Why:"),
        good: ("src/drive/net.rs", "//! A net.\n//! Why: x. Invariants: 1.\n//! Bounds: 2. Driven by: us.\n"),
        lines: (60, 60),
    },
    Rule {
        name: "a file has one subject",
        check: file_length,
        bad: ("src/drive/net.rs", "one line too many\n", "1001 lines"),
        good: ("src/drive/net.rs", "just fits\n"),
        lines: (1001, 1000),
    },
    Rule {
        name: "unsafe stays where it was let in",
        check: unsafe_code,
        bad: (
            "src/control/leases.rs",
            "fn f() {\n // SAFETY: no.\n unsafe { g() }\n}\n",
            "not one of the files",
        ),
        good: ("src/drive/os.rs", "// SAFETY: g has no preconditions.\nlet x = unsafe { g() };\n"),
        lines: (0, 0),
    },
    Rule {
        name: "unsafe says why it is sound",
        check: unsafe_code,
        bad: ("src/drive/os.rs", "fn f() {\n unsafe { g() }\n}\n", "SAFETY"),
        good: ("src/drive/os.rs", "struct F(unsafe fn());\n\"unsafe {\";\n"),
        lines: (0, 0),
    },
    Rule {
        name: "nothing unfinished, no machine of ours",
        check: words,
        bad: ("src/drive/net.rs", concat!("fn f() {\n  to", "do!()\n}\n"), concat!("to", "do!")),
        good: ("src/drive/net.rs", concat!("let tmp = \"demo-XX", "XX", "XX\"; // a mktemp pattern\n")),
        lines: (0, 0),
    },
];

/// Who may import whom. `main -> cli -> control -> drive -> proto`; `config` and `metrics` are leaves over the core, `shortage` is one
/// beside it;
/// `report` words what every room under `cli` can meet.
const ROOMS: [(&str, &[&str]); 12] = [
    ("build", &[]),
    ("main", &["cli", "config", "metrics", "report"]),
    (
        "cli",
        &["admin", "config", "control", "dead_letter", "drive", "metrics", "proto", "report", "shortage"],
    ),
    ("control", &["config", "dead_letter", "drive", "metrics", "proto", "report", "shortage"]),
    ("drive", &["config", "dead_letter", "metrics", "proto", "shortage"]),
    ("report", &["admin", "config", "control", "dead_letter", "drive", "metrics", "proto"]),
    ("admin", &["metrics", "proto"]),
    ("dead_letter", &["config", "metrics", "proto", "shortage"]),
    ("config", &["proto", "shortage"]),
    ("metrics", &["proto"]),
    ("proto", &[]),
    ("shortage", &[]),
];

/// What the pure core may not name; the rooms are [`ROOMS`]' business.
const IMPURE: [&str; 17] = [
    "std::net",
    "std::fs",
    "std::thread",
    "std::env",
    "std::process",
    "std::os",
    "std::time::Instant",
    "std::time::SystemTime",
    "glommio",
    "rustls",
    "tokio",
    "ureq",
    "libc",
    "getrandom",
    "rand::rng",
    "rand::random",
    "rand::thread_rng",
];

/// Beginnings of paths that may hold `unsafe`: system calls, the vector instructions, the test's own allocator, and
/// the tests that stop and resume processes, make networks and look into sockets.
const UNSAFE_FILES: [&str; 7] = [
    "src/drive/",
    "src/drive.rs",
    "src/proto/format/simd",
    "tests/alloc_free/main.rs",
    "tests/chaos/proxy.rs",
    "tests/conformance/half_open.rs",
    "tests/drive_stalls.rs",
];

/// Never in a finished file. Spelled in pieces, so that this file may pass its own rule.
const WORDS: [&str; 11] = [
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
    concat!("FIX", "ME"),
    concat!("X", "XX"),
    concat!("Place", "holder"),
    concat!("place", "holder"),
    concat!("not imple", "mented"),
    concat!("not yet imple", "mented"),
    concat!("py", "pi.org"),
    concat!("crates", ".io/api"),
    concat!("deb.", "debian"),
];

/// The top level, as the user asked for it; tool files begin with a dot.
const TOP_LEVEL: [&str; 8] =
    ["Cargo.lock", "Cargo.toml", "README.md", "benches", "loadgen", "src", "tests", "tuning"];

/// `benches` comes with the first benchmark.
const TOP_LEVEL_LATER: &str = "benches";

const DOC_LINES_FROM: usize = 40;
const LINES_WARN: usize = 700;
const LINES_MAX: usize = 1000;

#[test]
fn sources_follow_the_rules() {
    let sources = sources();
    assert!(sources.len() > 10, "found only {} sources: is the path right?", sources.len());
    let mut findings = Vec::new();
    let mut done = BTreeSet::new();
    for rule in &RULES {
        // Two rows may show two sides of one check.
        if done.insert(rule.check as usize) {
            for source in &sources {
                findings.extend((rule.check)(source).into_iter().map(|f| f.text(source, rule)));
            }
        }
    }
    for source in sources.iter().filter(|source| source.lines() > LINES_WARN) {
        println!("note: {} has {} lines: what second thing moved in?", source.path, source.lines());
    }
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn every_rule_catches_what_breaks_it_and_nothing_else() {
    for rule in &RULES {
        let findings = |path: &str, text: &str, lines: usize| -> Vec<String> {
            let filler = "let x = 1;\n".repeat(lines.saturating_sub(text.lines().count()));
            let source = Source::new(path, text.to_owned() + &filler);
            (rule.check)(&source).into_iter().map(|f| f.text(&source, rule)).collect()
        };
        let (path, text, said) = rule.bad;
        let found = findings(path, text, rule.lines.0);
        assert_eq!(found.len(), 1, "{}: {found:?}", rule.name);
        assert!(found[0].starts_with(path) && found[0].contains(said), "{}: {found:?}", rule.name);
        let found = findings(rule.good.0, rule.good.1, rule.lines.1);
        assert!(found.is_empty(), "{}: {found:?}", rule.name);
    }
}

#[test]
fn the_top_level_is_as_the_user_asked() {
    let entries = fs::read_dir(root()).expect("the package's directory");
    let names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(top_level(&names), Vec::<String>::new());

    let found =
        top_level(&["Cargo.lock", "Cargo.toml", "README.md", "loadgen", "src", "tests", "docs", ".ci"]);
    assert_eq!(found, ["docs is not one of the top-level entries", "tuning is missing"]);
}

fn top_level(names: &[&str]) -> Vec<String> {
    let extra = names.iter().filter(|name| !name.starts_with('.') && **name != "target");
    let extra = extra.filter(|name| !TOP_LEVEL.contains(name));
    let missing = TOP_LEVEL.iter().filter(|name| !names.contains(name) && **name != TOP_LEVEL_LATER);
    extra
        .map(|name| format!("{name} is not one of the top-level entries"))
        .chain(missing.map(|name| format!("{name} is missing")))
        .collect()
}

#[test]
fn every_toml_that_we_show_parses() {
    let mut checked = 0;
    for path in text_files() {
        let text = read(&path);
        let blocks = match path.extension().and_then(|e| e.to_str()) {
            Some("toml") => vec![(1, text)],
            Some("md") => toml_blocks(&text),
            _ => Vec::new(),
        };
        for (line, block) in blocks {
            let parsed = toml::from_str::<toml::Table>(&block);
            assert!(parsed.is_ok(), "{}:{line}: {}", relative(&path), parsed.unwrap_err());
            checked += 1;
        }
    }
    assert!(checked >= 5, "only {checked} TOML texts found");

    let found = toml_blocks("a\n```toml\nb = 1\nc = 2\n```\n```\nno\n```\n```toml\nd = 3\n```\n");
    assert_eq!(found, [(3, "b = 1\nc = 2\n".to_owned()), (10, "d = 3\n".to_owned())]);
}

/// The fenced TOML of a Markdown text, each with the number of its first line.
fn toml_blocks(markdown: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in markdown.lines().enumerate() {
        match &mut open {
            None if line.trim() == "```toml" => open = Some((index + 2, String::new())),
            Some(_) if line.trim() == "```" => blocks.extend(open.take()),
            Some((_, block)) => {
                block.push_str(line);
                block.push('\n');
            }
            None => {}
        }
    }
    blocks
}

#[test]
fn every_dependency_is_in_the_table_of_the_readme() {
    let readme = read(&root().join("README.md"));
    let manifests = ["Cargo.toml", "loadgen/Cargo.toml"].map(|path| read(&root().join(path)));
    assert_eq!(table_gaps(&manifests, &readme), Vec::<String>::new());

    let manifest =
        "[dependencies]\na = \"1\"\nb-c = \"1\"\nloadgen = { path = \"x\" }\n[dev-dependencies]\nd = \"1\"\n";
    let readme =
        "## Dependencies\n| crate | saves | costs |\n|---|---|---|\n| `a`, `z` | x | y |\n| `d` | x |\n";
    let found = table_gaps(&[manifest.to_owned()], readme);
    assert_eq!(
        found,
        ["b-c has no line", "d has a line without what it saves and what it costs", "z is no dependency"]
    );
}

/// Dependencies without a line `| names | saves | costs |` under the README's heading, and lines without a dependency.
fn table_gaps(manifests: &[String], readme: &str) -> Vec<String> {
    let mut wanted = BTreeSet::new();
    for manifest in manifests {
        let manifest: toml::Table = toml::from_str(manifest).expect("a manifest");
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let names = manifest.get(section).and_then(toml::Value::as_table).into_iter().flatten();
            wanted.extend(names.map(|(name, _)| name.clone()).filter(|name| name != "loadgen"));
        }
    }
    let section =
        readme.split("\n## ").find(|section| section.trim_start_matches("## ").starts_with("Dependencies"));
    let mut listed = BTreeSet::new();
    let mut bare = Vec::new();
    for line in section.unwrap_or_default().lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches(['|', ' ']).split(" | ").map(str::trim).collect();
        let names = cells[0].split('`').skip(1).step_by(2).map(str::to_owned);
        if cells.len() != 3 || cells.iter().any(|cell| cell.is_empty()) {
            bare.extend(names.clone());
        }
        listed.extend(names);
    }
    let missing = wanted.difference(&listed).map(|name| format!("{name} has no line"));
    let bare = bare.iter().map(|name| format!("{name} has a line without what it saves and what it costs"));
    let stale = listed.difference(&wanted).map(|name| format!("{name} is no dependency"));
    missing.chain(bare).chain(stale).collect()
}

#[test]
fn the_readme_lists_every_metric_and_no_other() {
    let readme = read(&root().join("README.md"));
    let section = readme.split("\n## ").find(|section| section.starts_with("Metrics\n")).expect("a section");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let listed: BTreeSet<String> = rows.map(|name| format!("sls2siem_{name}")).collect();
    let real: BTreeSet<String> = sls2siem::metrics::NAMES.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(listed, real);
}

#[test]
fn other_texts_hold_no_unfinished_words_either() {
    let mut findings = Vec::new();
    for path in text_files() {
        let source = Source::new(&relative(&path), read(&path));
        findings.extend(words(&source).iter().map(|f| format!("{}:{}: {}", source.path, f.line, f.what)));
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

#[test]
fn the_load_generator_does_not_depend_on_the_product() {
    let manifest: toml::Table =
        toml::from_str(&read(&root().join("loadgen/Cargo.toml"))).expect("a manifest");
    for (name, value) in &manifest {
        let named =
            name.ends_with("dependencies") && value.as_table().is_some_and(|t| t.contains_key("sls2siem"));
        assert!(!named, "loadgen/Cargo.toml: [{name}] names sls2siem");
    }
}

fn names(source: &Source, names: &[&str]) -> Vec<Finding> {
    source.named(names).into_iter().map(Finding::from).collect()
}

fn rooms(source: &Source) -> Vec<Finding> {
    let Some(room) = source.room() else { return Vec::new() };
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![Finding {
            line: 1,
            what: format!("the room {room} is not on the map in tests/tidy.rs"),
        }];
    };
    let depth = source.path.trim_start_matches("src/").matches('/').count() + 1;
    let mut findings = Vec::new();
    for (line, path) in &source.paths {
        let mut parts = path.split("::");
        let target = match parts.next() {
            Some("crate" | "sls2siem") => parts.next(),
            // As many `super` as the file is deep lead to the crate's root.
            Some("super") => {
                let supers = path.split("::").take_while(|part| *part == "super").count();
                (supers >= depth).then(|| path.split("::").nth(supers)).flatten()
            }
            _ => None,
        };
        if let Some(target) = target.filter(|target| *target != room && !allowed.contains(target)) {
            findings.push(Finding { line: *line, what: format!("{room} may not name {target} ({path})") });
        }
    }
    findings
}

fn pure_core(source: &Source) -> Vec<Finding> {
    if source.room() != Some("proto") {
        return Vec::new();
    }
    names(source, &IMPURE)
}

fn drive_only(source: &Source) -> Vec<Finding> {
    let free = !source.path.starts_with("src/") || source.room() == Some("drive");
    // The control plane's HTTP client takes its TLS settings in rustls' types.
    let client = source.room() == Some("control") && !source.named(&["ureq"]).is_empty();
    match (free, client) {
        (true, _) => Vec::new(),
        (false, true) => names(source, &["glommio"]),
        (false, false) => names(source, &["glommio", "rustls", "rustls_native_certs", "rustls_pki_types"]),
    }
}

fn strangers(source: &Source) -> Vec<Finding> {
    if source.path.starts_with("loadgen/") {
        names(source, &["sls2siem"])
    } else if source.path.starts_with("src/") && !source.path.starts_with("src/cli/demo") {
        names(source, &["loadgen"])
    } else {
        Vec::new()
    }
}

fn no_mod_rs(source: &Source) -> Vec<Finding> {
    match source.path.strip_suffix("/mod.rs") {
        // A test binary's folder has main.rs; a helper shared by test binaries has no other place.
        Some(folder) if !folder.starts_with("tests/") => {
            vec![Finding { line: 1, what: format!("is named {folder}.rs here") }]
        }
        _ => Vec::new(),
    }
}

fn module_doc(source: &Source) -> Vec<Finding> {
    let in_scope = source.path.starts_with("src/") || source.path.starts_with("loadgen/src/");
    if !in_scope || source.is_test() || source.lines() <= DOC_LINES_FROM || source.path == "src/lib.rs" {
        return Vec::new();
    }
    let header =
        source.text.lines().take_while(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n");
    if header.is_empty() {
        return vec![Finding { line: 1, what: "has no module doc".to_owned() }];
    }
    let missing: Vec<&str> = ["Why:", "Invariants:", "Bounds:", "Driven by:"]
        .into_iter()
        .filter(|answer| !header.contains(answer))
        .collect();
    if missing.is_empty() {
        return Vec::new();
    }
    vec![Finding { line: 1, what: format!("its doc does not answer {}", missing.join(" ")) }]
}

fn file_length(source: &Source) -> Vec<Finding> {
    if source.lines() <= LINES_MAX {
        return Vec::new();
    }
    vec![Finding { line: LINES_MAX + 1, what: format!("{} lines, at most {LINES_MAX}", source.lines()) }]
}

fn unsafe_code(source: &Source) -> Vec<Finding> {
    let allowed = UNSAFE_FILES.iter().any(|start| source.path.starts_with(start));
    let lines: Vec<&str> = source.text.lines().collect();
    let mut findings = Vec::new();
    for pair in source.tokens.windows(2).filter(|pair| pair[0].text == "unsafe") {
        let token = &pair[0];
        // A declaration promises nothing; the block (or the impl) does.
        if allowed && !["{", "impl"].contains(&pair[1].text.as_str()) {
            continue;
        }
        let before = &lines[token.line.saturating_sub(8)..token.line];
        let explained = before.iter().any(|line| line.contains("SAFETY:"));
        if !allowed {
            let what = "unsafe in a file that is not one of the files that may hold it".to_owned();
            findings.push(Finding { line: token.line, what });
        } else if !explained {
            findings.push(Finding { line: token.line, what: "unsafe without a SAFETY comment".to_owned() });
        }
    }
    findings
}

fn words(source: &Source) -> Vec<Finding> {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let mut findings = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        for word in WORDS {
            let whole = line.match_indices(word).any(|(at, _)| {
                !is_word(line[..at].chars().next_back()) && !is_word(line[at + word.len()..].chars().next())
            });
            if whole {
                findings.push(Finding { line: index + 1, what: format!("holds {word:?}") });
            }
        }
    }
    findings
}

fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from)
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).to_string_lossy().into_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    for folder in ["src", "loadgen", "tests", "benches"] {
        collect(&root().join(folder), &mut files);
    }
    files.sort();
    let is_rust = |path: &&PathBuf| path.extension().is_some_and(|e| e == "rs");
    files.iter().filter(is_rust).map(|path| Source::new(&relative(path), read(path))).collect()
}

/// What is not Rust and still ours to read: settings, guides, scripts.
fn text_files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        ["README.md", "Cargo.toml", ".ci/run", ".clippy.toml", ".deny.toml", ".rustfmt.toml"]
            .map(|f| root().join(f))
            .into();
    for folder in ["tuning", "src", "loadgen", ".config"] {
        collect(&root().join(folder), &mut files);
    }
    files.retain(|path| path.is_file() && path.extension().is_none_or(|e| e != "rs"));
    files.sort();
    files
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, files);
        } else if path.is_file() {
            files.push(path);
        }
    }
}
