//! What is stored, record by record, against what the source gave and what the checkpoints say.
//!
//! Why: counters of a forwarder are its own word; the files of receivers that confirm only what is in them are not.
//! Invariants: 1. a record counts when its line is whole in a file of a receiver or in a dead letter. 2. checkpoints are read
//! before the files: what is stored later cannot hide one that ran ahead.
//! Bounds: four bytes per record. Driven by: `storm`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// Everything that one pipeline has delivered.
#[derive(Default)]
pub(crate) struct Ledger {
    /// Directories whose files hold it.
    dirs: Vec<PathBuf>,
    /// Where the dead letters of all pipelines are.
    letters: PathBuf,
    pipeline: String,
    letters_count: u64,
    read: BTreeMap<PathBuf, u64>,
    /// How often each record is there, by shard.
    counts: BTreeMap<u32, Vec<u32>>,
}

impl Ledger {
    /// Reads files in these directories and in the directories in them.
    pub(crate) fn of(dirs: Vec<PathBuf>, letters: PathBuf, pipeline: &str) -> Self {
        Self { dirs, letters, pipeline: format!("\"pipeline\":\"{pipeline}\""), ..Self::default() }
    }

    /// How many of the records were found as dead letters.
    pub(crate) fn letters(&self) -> u64 {
        self.letters_count
    }

    /// Reads what is new.
    pub(crate) fn refresh(&mut self) {
        let mut files = Vec::new();
        for dir in &self.dirs {
            collect(dir, &mut files);
        }
        for file in files {
            self.read(&file, false);
        }
        let mut letters = Vec::new();
        collect(&self.letters, &mut letters);
        for file in letters {
            self.read(&file, true);
        }
    }

    fn read(&mut self, path: &Path, letters: bool) {
        let from = self.read.get(path).copied().unwrap_or(0);
        // Files of dead letters may be moved meanwhile.
        let Ok(mut file) = File::open(path) else { return };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(from)).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else { return };
        for line in bytes[..end].split(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(line);
            if letters && !line.contains(&self.pipeline) {
                continue;
            }
            if let Some((shard, number)) = identify(&line) {
                self.letters_count += u64::from(letters);
                let counts = self.counts.entry(shard).or_default();
                if counts.len() <= number {
                    counts.resize(number + 1, 0);
                }
                counts[number] += 1;
            }
        }
        self.read.insert(path.to_owned(), from + end as u64 + 1);
    }

    /// Records of a shard below `count` that are nowhere.
    pub(crate) fn missing(&self, shard: u32, count: u64) -> Vec<u64> {
        let counts = self.counts.get(&shard).map_or(&[][..], Vec::as_slice);
        let is_there =
            |number: u64| counts.get(usize::try_from(number).unwrap()).is_some_and(|count| *count > 0);
        (0..count).filter(|number| !is_there(*number)).collect()
    }

    /// Different records, and how many more than that there are.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let counts = || self.counts.values().flatten().filter(|count| **count > 0);
        let (unique, all) = (counts().count() as u64, counts().map(|count| u64::from(*count)).sum::<u64>());
        (unique, all - unique)
    }
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.map_while(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.file_name().is_some_and(|name| name != "filler") {
            files.push(path);
        }
    }
}

/// Shard and number of the record in a line: JSON, or JSON within a string of JSON.
fn identify(line: &str) -> Option<(u32, usize)> {
    for (at, name) in line.match_indices("seq") {
        let rest = line[at + name.len()..].trim_start_matches(['\\', '"', ':', ' ']);
        let Some((shard, rest)) = rest.split_once('-') else { continue };
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if let (Ok(shard), Ok(number)) = (shard.parse(), rest[..digits].parse()) {
            return Some((shard, number));
        }
    }
    None
}
