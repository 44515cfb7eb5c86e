//! Where the keys come from, and when they are looked at again.
//!
//! Why: keys rotate while the process runs: a mounted secret changes, an STS token ends. One place knows how each
//! source is read; everybody else just gets new [`Credentials`].
//! Invariants: 1. nothing here shows a secret, in no message and no `Debug`. 2. keys that cannot be read again
//! leave the old ones in place: they may still be good.
//! Bounds: a key file is at most [`FILE_BYTES_MAX`]. Driven by: [`super::pipeline`], at [`REREAD`] and after a refusal.
//! Spec: setting `sls.credentials`.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use crate::config::{CredentialsConfig, Keys};
use crate::proto::sls::sign::Credentials;

/// A source of keys, as the settings name it.
#[derive(Clone, Debug)]
pub struct CredentialsSource {
    config: CredentialsConfig,
    keys: Keys,
}

/// Why keys cannot be read again.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum CredentialsError {
    #[error("{path:?}, with {what}, cannot be read: {detail}")]
    File { what: &'static str, path: PathBuf, detail: String },
    #[error(
        "[sls] credentials = \"ecs-ram-role\" is not built into this version - use \"static\", \"environment\" or \"file\""
    )]
    NotBuilt,
}

impl CredentialsSource {
    /// Takes the source that the settings name.
    pub fn new(config: &CredentialsConfig) -> Result<Self, CredentialsError> {
        let keys = config.keys().ok_or(CredentialsError::NotBuilt)?.clone();
        Ok(Self { config: config.clone(), keys })
    }

    /// The keys known at start.
    pub fn initial(&self) -> Credentials {
        let Keys { access_key_id, access_key_secret, security_token } = &self.keys;
        Credentials {
            access_key_id: access_key_id.clone(),
            access_key_secret: access_key_secret.expose_secret().to_owned(),
            security_token: security_token.as_ref().map(|token| token.expose_secret().to_owned()),
        }
    }

    /// How often it should be read again; `None` where that can bring nothing.
    pub fn reread_after(&self) -> Option<Duration> {
        matches!(self.config, CredentialsConfig::File { .. }).then_some(REREAD)
    }

    /// Reads the source again.
    pub fn read(&self) -> Result<Credentials, CredentialsError> {
        let mut credentials = self.initial();
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
        Ok(credentials)
    }
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
        let source = CredentialsSource::new(&CredentialsConfig::Static(keys())).unwrap();
        assert_eq!(source.reread_after(), None);
        assert_eq!(source.read().unwrap(), source.initial());
        let shown = format!("{source:?} {:?}", source.initial());
        assert!(!shown.contains("secret-0"), "{shown}");
    }

    #[test]
    fn a_source_that_is_not_built_yet_is_refused_by_name() {
        let role = CredentialsConfig::EcsRamRole { role: None, metadata_url: String::new() };
        assert!(CredentialsSource::new(&role).unwrap_err().to_string().contains("ecs-ram-role"));
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
        })
        .unwrap();
        assert_eq!(source.reread_after(), Some(REREAD));
        assert_eq!(source.initial().access_key_secret, "secret-0");
        let read = source.read().unwrap();
        assert_eq!((read.access_key_id.as_str(), read.access_key_secret.as_str()), ("id-0", "secret-1"));
        assert_eq!(read.security_token.as_deref(), Some("token-1"));
        fs::write(&token, "").unwrap();
        assert_eq!(source.read().unwrap().security_token, None);
        fs::write(&secret, " \n").unwrap();
        assert!(source.read().unwrap_err().to_string().contains("empty"));
        fs::remove_file(&secret).unwrap();
        let error = source.read().unwrap_err().to_string();
        assert!(error.contains("the AccessKey secret") && !error.contains("secret-1"), "{error}");
    }
}
