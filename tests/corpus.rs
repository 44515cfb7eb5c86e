//! The fuzz targets under `cargo test`: every committed input through its target, as it is, cut short and with bytes
//! changed.
//!
//! Why: crashes that were found once must stay found without nightly and libFuzzer, and a target that no longer fits
//! the code has to fail here, not in the next long run.
//! Driven by: `cargo test --test corpus`; the long runs by `tests/fuzz/run`. Set `CORPUS_INPUT=TARGET:FILE` to run one
//! file, such as a crash that libFuzzer wrote.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test: a surprise has to end it"
)]
#![allow(
    clippy::cmp_owned,
    clippy::naive_bytecount,
    clippy::needless_pass_by_value,
    clippy::option_option,
    clippy::print_stdout,
    clippy::too_many_lines,
    clippy::similar_names,
    clippy::duration_suboptimal_units,
    reason = "a target is one story, with the names of what it is held against"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "fuzz/targets/lib.rs"]
#[expect(unreachable_pub, reason = "they are the library of the fuzz workspace")]
mod targets;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 13] = [
    ("body", targets::body::run),
    ("config", targets::config::run),
    ("dead_letter", targets::dead_letter::run),
    ("hec", targets::hec::run),
    ("http1", targets::http1::run),
    ("ledger", targets::ledger::run),
    ("pipeline", targets::pipeline::run),
    ("relp", targets::relp::run),
    ("sls_json", targets::sls_json::run),
    ("syslog", targets::syslog::run),
    ("template", targets::template::run),
    ("transcode", targets::transcode::run),
    ("wire", targets::wire::run),
];

/// Changed copies of each input; a target with files, threads or a whole pipeline gets fewer.
const CHANGED: u64 = 8;
const CHANGED_SLOW: u64 = 2;
const SLOW: [&str; 3] = ["config", "dead_letter", "pipeline"];
/// Larger corpora do not belong into the repository.
const CORPUS_BYTES_MAX: u64 = 64 << 10;

macro_rules! corpora {
    ($($name:ident)*) => { $(#[test] fn $name() { corpus(stringify!($name)); })* };
}
corpora!(body config dead_letter hec http1 ledger pipeline relp sls_json syslog template transcode wire);

fn corpus(name: &str) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target");
    if let Ok(wanted) = std::env::var("CORPUS_INPUT") {
        if let Some(file) = wanted.strip_prefix(&format!("{name}:")) {
            target(&fs::read(file).unwrap());
        }
        return;
    }
    let mut runs = 0;
    for path in inputs(name) {
        let data = fs::read(&path).unwrap();
        let mut run = |data: &[u8], how: &str| {
            let _at = Place { path: &path, how, data };
            target(data);
            runs += 1;
        };
        run(&data, "as it is");
        let slow = SLOW.contains(&name);
        for part in if slow { 2..3 } else { 1..4 } {
            run(data.get(..data.len() * part / 4).unwrap(), "cut short");
        }
        // The same bytes every time.
        let mut dice =
            Dice(data.iter().fold(data.len() as u64, |seed, byte| seed * 31 % 1_000_003 + u64::from(*byte)));
        for _ in 0..if slow { CHANGED_SLOW } else { CHANGED } {
            let mut changed = data.clone();
            for _ in 0..=dice.below(3) {
                let at = dice.below(changed.len().max(1));
                if let Some(byte) = changed.get_mut(at) {
                    *byte = u8::try_from(dice.below(256)).unwrap();
                }
            }
            run(&changed, "with bytes changed");
        }
    }
    println!("{name}: {runs} runs");
    assert!(runs > 50, "{name}: only {runs} runs: is the corpus there?");
}

/// Says where a run was when it ended in a panic.
struct Place<'a> {
    path: &'a Path,
    how: &'a str,
    data: &'a [u8],
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { path, how, data } = self;
            eprintln!("{} {how}: b\"{}\"", path.display(), data.escape_ascii());
        }
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

fn inputs(name: &str) -> Vec<PathBuf> {
    let folder = root().join("corpus").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn toml(path: &Path) -> toml::Table {
    toml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn every_target_is_built_run_and_has_a_small_corpus() {
    let manifest = toml(&root().join("Cargo.toml"));
    let bins = manifest.get("bin").and_then(toml::Value::as_array).unwrap();
    let bins: BTreeSet<&str> = bins.iter().filter_map(|bin| bin.get("name")?.as_str()).collect();
    let known: BTreeSet<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(bins, known);
    let folders = fs::read_dir(root().join("corpus")).unwrap();
    let folders: BTreeSet<String> =
        folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(folders.iter().map(String::as_str).eq(known.iter().copied()), "{folders:?}");
    for name in known {
        let bytes: u64 = inputs(name).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        assert!(bytes <= CORPUS_BYTES_MAX, "{name}: {bytes} bytes");
    }
}

/// What is fuzzed has to be what is shipped.
#[test]
fn the_rooms_are_built_with_the_dependencies_of_the_program() {
    let program = toml(&root().join("../../Cargo.toml"));
    let rooms = toml(&root().join("rooms/Cargo.toml"));
    let of = |manifest: &toml::Table| {
        manifest.get("dependencies").and_then(toml::Value::as_table).unwrap().clone()
    };
    let program = of(&program);
    for (name, wanted) in of(&rooms) {
        assert_eq!(program.get(&name), Some(&wanted), "{name}");
    }
    let locked = |path: &str| -> BTreeSet<(String, String)> {
        let lock = toml(&root().join(path));
        let packages = lock.get("package").and_then(toml::Value::as_array).unwrap();
        let text =
            |package: &toml::Value, key| package.get(key).and_then(toml::Value::as_str).map(str::to_owned);
        packages
            .iter()
            .filter_map(|package| Some((text(package, "name")?, text(package, "version")?)))
            .collect()
    };
    let program = locked("../../Cargo.lock");
    let own = ["arbitrary", "libfuzzer-sys", "sls2siem-fuzz", "sls2siem-rooms"];
    let other: Vec<_> = locked("Cargo.lock")
        .into_iter()
        .filter(|package| !own.contains(&package.0.as_str()) && !program.contains(package))
        .collect();
    assert!(other.is_empty(), "other versions than in Cargo.lock: {other:?}");
}
