//! Where the keys come from, and when they are looked at again.
//!
//! Why: keys rotate while the process runs: a mounted secret changes, an STS token ends. One place knows how each
//! source is read; everybody else just gets new [`Credentials`].
//! Invariants: 1. nothing here shows a secret, in no message and no `Debug`. 2. keys that cannot be read again
//! leave the old ones in place: they may still be good. 3. keys that end are renewed well before.
//! Bounds: a key file is at most [`FILE_BYTES_MAX`]; the metadata service has seconds to answer.
//! Driven by: [`super::pipeline`], at [`CredentialsSource::read_after`] and after a refusal. Spec: setting `sls.credentials`.

mod ecs;

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use self::ecs::Metadata;
use crate::config::{CredentialsConfig, Keys};
use crate::proto::sls::sign::Credentials;
use crate::proto::time::UnixTime;

/// A source of keys, as the settings name it.
#[derive(Clone, Debug)]
pub struct CredentialsSource {
    config: CredentialsConfig,
    metadata: Option<Metadata>,
}

/// Keys, and how long they are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The keys.
    pub credentials: Credentials,
    /// When they end, where they do.
    pub until: Option<UnixTime>,
}

/// Why keys cannot be had.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum CredentialsError {
    #[error("{path:?}, with {what}, cannot be read: {detail}")]
    File { what: &'static str, path: PathBuf, detail: String },
    #[error("the metadata service at {url} gives no keys: {detail}")]
    Metadata { url: String, detail: String },
    #[error("the metadata service knows no RAM role of this instance")]
    NoRole,
    #[error("the metadata service gives no keys for the RAM role {role}: {detail}")]
    Role { role: String, detail: String },
}

impl CredentialsError {
    /// What an operator can do about it.
    pub fn todo(&self) -> &'static str {
        match self {
            Self::File { .. } => "let the user that runs this read the file",
            Self::Metadata { .. } => {
                "run on an ECS instance (or set [sls] ecs_metadata_url to where its metadata service is reached), or use \
                 other [sls] credentials"
            }
            Self::NoRole => {
                "attach a RAM role to the instance in the ECS console (and check [sls] ecs_ram_role), or use other [sls] \
                 credentials"
            }
            Self::Role { .. } => "check the role in the RAM console: ECS must be allowed to assume it",
        }
    }

    /// True where nobody answered, rather than refused.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Metadata { .. })
    }
}

impl CredentialsSource {
    /// Takes the source that the settings name; asks nobody yet.
    pub fn new(config: &CredentialsConfig) -> Self {
        let metadata = match config {
            CredentialsConfig::EcsRamRole { role, metadata_url, hardened_only } => {
                Some(Metadata::new(metadata_url, role.as_deref(), *hardened_only))
            }
            _ => None,
        };
        Self { config: config.clone(), metadata }
    }

    /// The same kind of source, and the same files or role; what they hold is not compared.
    pub fn is_same(&self, other: &Self) -> bool {
        self.config.is_same(&other.config)
    }

    /// The keys known at start; none where somebody has to be asked.
    pub fn initial(&self) -> Option<Credentials> {
        let Keys { access_key_id, access_key_secret, security_token } = self.config.keys()?;
        Some(Credentials {
            access_key_id: access_key_id.clone(),
            access_key_secret: access_key_secret.expose_secret().to_owned(),
            security_token: security_token.as_ref().map(|token| token.expose_secret().to_owned()),
        })
    }

    /// True where reading it again can bring other keys.
    pub fn can_change(&self) -> bool {
        matches!(self.config, CredentialsConfig::File { .. } | CredentialsConfig::EcsRamRole { .. })
    }

    /// How long after a good reading the next one is due; `until` is the end of the keys.
    pub fn read_after(&self, until: Option<UnixTime>, wall: UnixTime) -> Duration {
        match until {
            // Half of what is left, so that there are many more attempts if one fails.
            Some(until) => (until.since(wall) / 2).clamp(RENEW_MIN, RENEW_MAX),
            None => REREAD,
        }
    }

    /// Reads the source again. May block for some seconds.
    pub fn read(&self) -> Result<Known, CredentialsError> {
        if let Some(metadata) = &self.metadata {
            return metadata.read();
        }
        let mut credentials = self.initial().unwrap_or_else(no_keys);
        if let CredentialsConfig::File {
            access_key_id_file,
            access_key_secret_file,
            security_token_file,
            ..
        } = &self.config
        {
            if let Some(path) = access_key_id_file {
                credentials.access_key_id = read("the AccessKey id", path)?;
            }
            credentials.access_key_secret = read("the AccessKey secret", access_key_secret_file)?;
            if let Some(path) = security_token_file {
                let token = read("the security token", path)?;
                credentials.security_token = Some(token).filter(|token| !token.is_empty());
            }
        }
        Ok(Known { credentials, until: None })
    }
}

/// Before the first keys came. Nothing is signed with these.
pub fn no_keys() -> Credentials {
    Credentials { access_key_id: String::new(), access_key_secret: String::new(), security_token: None }
}

fn read(what: &'static str, path: &PathBuf) -> Result<String, CredentialsError> {
    let refused = |detail: String| CredentialsError::File { what, path: path.clone(), detail };
    let file = std::fs::File::open(path).map_err(|error| refused(error.to_string()))?;
    let mut text = String::new();
    // One more than is allowed, to see that there is more.
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| refused(error.to_string()))?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(refused(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    let value = text.trim();
    if value.is_empty() && what != "the security token" {
        return Err(refused("it is empty".into()));
    }
    Ok(value.to_owned())
}

/// Between two looks at files that may have changed.
pub const REREAD: Duration = Duration::from_secs(30);
/// Between two readings of keys that end.
const RENEW_MIN: Duration = Duration::from_secs(5);
/// Keys of a role may be taken back before they end.
const RENEW_MAX: Duration = Duration::from_hours(1);
/// Largest file of one key.
const FILE_BYTES_MAX: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use std::fs;

    use secrecy::SecretString;

    use super::*;

    fn keys() -> Keys {
        Keys {
            access_key_id: "id-0".into(),
            access_key_secret: SecretString::from("secret-0"),
            security_token: None,
        }
    }

    #[test]
    fn fixed_keys_stay_and_are_never_shown() {
        let source = CredentialsSource::new(&CredentialsConfig::Static(keys()));
        assert!(!source.can_change());
        assert_eq!(Some(source.read().unwrap().credentials), source.initial());
        let shown = format!("{source:?} {:?}", source.initial());
        assert!(!shown.contains("secret-0"), "{shown}");
    }

    #[test]
    fn keys_that_end_are_renewed_at_half_of_their_time() {
        let role = CredentialsConfig::EcsRamRole {
            role: None,
            metadata_url: "http://127.0.0.1:9".into(),
            hardened_only: false,
        };
        let source = CredentialsSource::new(&role);
        assert!(source.can_change() && source.initial().is_none());
        let wall = UnixTime::from_secs(1_000_000);
        let after = |secs: u64| source.read_after(Some(UnixTime::from_secs(1_000_000 + secs)), wall);
        assert_eq!(after(21_600), RENEW_MAX);
        assert_eq!(after(600), Duration::from_mins(5));
        assert_eq!(after(0), RENEW_MIN);
        assert_eq!(source.read_after(Some(UnixTime::from_secs(1)), wall), RENEW_MIN);
        assert_eq!(source.read_after(None, wall), REREAD);
    }

    #[test]
    fn files_are_read_again_and_an_empty_or_missing_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (secret, token) = (dir.path().join("secret"), dir.path().join("token"));
        fs::write(&secret, "secret-1\n").unwrap();
        fs::write(&token, "token-1").unwrap();
        let source = CredentialsSource::new(&CredentialsConfig::File {
            keys: keys(),
            access_key_id_file: None,
            access_key_secret_file: secret.clone(),
            security_token_file: Some(token.clone()),
        });
        assert!(source.can_change());
        assert_eq!(source.initial().unwrap().access_key_secret, "secret-0");
        let read = source.read().unwrap().credentials;
        assert_eq!((read.access_key_id.as_str(), read.access_key_secret.as_str()), ("id-0", "secret-1"));
        assert_eq!(read.security_token.as_deref(), Some("token-1"));
        fs::write(&token, "").unwrap();
        assert_eq!(source.read().unwrap().credentials.security_token, None);
        fs::write(&secret, " \n").unwrap();
        assert!(source.read().unwrap_err().to_string().contains("empty"));
        fs::remove_file(&secret).unwrap();
        let error = source.read().unwrap_err().to_string();
        assert!(error.contains("the AccessKey secret") && !error.contains("secret-1"), "{error}");
    }
}
