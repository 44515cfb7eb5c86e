//! Reading secrets from files, and looking at who else may read them.
//!
//! Why: a secret in a file can be rotated and given by systemd or an orchestrator without standing in a settings
//! file or a process list.
//! Invariants: 1. the text of a secret goes into a `SecretString` and nowhere else.
//! Bounds: a secret file is at most 64 KiB.   Driven by: `config::check`.
//! Spec: systemd credentials (`$CREDENTIALS_DIRECTORY`).

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::shortage::shortage;

/// Longest secret file.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Where relative file names are looked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// `$CREDENTIALS_DIRECTORY`
    pub(crate) credentials: Option<PathBuf>,
    /// Directory of the configuration file.
    pub(crate) beside: Option<PathBuf>,
}

impl Places {
    /// The file that is meant by a name.
    pub(crate) fn resolve(&self, name: &str) -> PathBuf {
        let path = Path::new(name);
        if path.is_absolute() {
            return path.to_owned();
        }
        // Where it cannot be told, the credential is meant: what is wrong with it is what has to be said.
        let is_there = |path: &PathBuf| path.try_exists().unwrap_or(true);
        if let Some(found) = self.credentials.as_ref().map(|dir| dir.join(path)).filter(is_there) {
            return found;
        }
        self.beside.as_ref().map_or_else(|| path.to_owned(), |dir| dir.join(path))
    }
}

/// Why a file cannot be read, for people.
#[derive(Debug)]
pub struct Unread {
    /// What is wrong.
    pub problem: String,
    /// What helps, where the system was short of something and the file may be right.
    pub shortage: Option<&'static str>,
}

impl Unread {
    /// It can be read; what stands in it cannot be used.
    pub(crate) fn content(problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), shortage: None }
    }
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Self { problem: error.to_string(), shortage: shortage(&error) }
    }
}

/// Reads a secret; one trailing line end is taken off.
pub(crate) fn read(path: &Path) -> Result<SecretString, Unread> {
    let file = File::open(path)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(Unread::content("longer than 64 KiB"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| Unread::content("not text"))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(Unread::content("empty"));
    }
    Ok(SecretString::from(text))
}

/// True where users other than owner and group may read it.
pub(crate) fn open_to_others(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o004 != 0)
}

/// Says why a file cannot be opened for reading.
pub(crate) fn unreadable(path: &Path) -> Option<Unread> {
    match File::open(path) {
        Ok(_) if path.is_dir() => Some(Unread::content("this is a directory")),
        Ok(_) => None,
        Err(error) => Some(error.into()),
    }
}
