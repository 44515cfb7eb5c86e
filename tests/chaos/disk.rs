//! A very small disk for the dead letters, which can be filled.
//!
//! Why: the dead letter is the one file that the program writes, and "no space left" must hold a record, not drop it.
//! Invariants: 1. the disk lives as long as this value, whoever is killed. 2. nothing outside sees it: it is mounted in a mount
//! namespace of its own. Bounds: [`SIZE`]. Driven by: `storm`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const SIZE: &str = "4m";

/// The disk.
pub(crate) struct Disk {
    holder: Child,
    dir: PathBuf,
}

impl Disk {
    /// Mounts it at `dir`, where this user may do that.
    pub(crate) fn mount(dir: &Path) -> Option<Self> {
        fs::create_dir_all(dir).unwrap();
        let ready = dir.join("mounted");
        let script = format!(
            "mount -t tmpfs -o size={SIZE},mode=0700 chaos {dir} && touch {dir}/mounted && exec sleep 1000000",
            dir = dir.display()
        );
        let holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(holder) = holder else { return None };
        let mut disk = Self { holder, dir: dir.to_owned() };
        let end = Instant::now() + Duration::from_secs(5);
        while !disk.inside(&ready).exists() {
            if disk.holder.try_wait().unwrap().is_some() || Instant::now() > end {
                return None;
            }
            thread::sleep(Duration::from_millis(10));
        }
        Some(disk)
    }

    /// The file behind a path that only the namespace has.
    fn inside(&self, path: &Path) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.holder.id())).join(path.strip_prefix("/").unwrap())
    }

    /// What runs a command where the disk is.
    pub(crate) fn enter(&self) -> [String; 3] {
        ["nsenter".into(), format!("--mount=/proc/{}/ns/mnt", self.holder.id()), "--".into()]
    }

    /// Where its files can be read from outside.
    pub(crate) fn files(&self) -> PathBuf {
        self.inside(&self.dir)
    }

    /// Nothing more fits.
    pub(crate) fn fill(&self) {
        let block = vec![b'x'; 64 << 10];
        let mut file =
            fs::File::options().create(true).append(true).open(self.files().join("filler")).unwrap();
        for size in [block.len(), 4096, 1] {
            while std::io::Write::write_all(&mut file, &block[..size]).is_ok() {}
        }
    }

    /// There is room again.
    pub(crate) fn free(&self) {
        let _absent = fs::remove_file(self.files().join("filler"));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _gone = self.holder.kill();
        let _gone = self.holder.wait();
    }
}
