//! Keys of the RAM role of an ECS instance, from its metadata service.
//!
//! Why: an instance with a role needs no secret in any file; but its keys live for hours only and have to be renewed
//! while the process runs.
//! Invariants: 1. the hardened mode (a token first) is tried first, the plain one only where the service does not know
//! tokens. 2. no proxy is used and no redirect followed: the keys belong to this machine alone. 3. what is not a whole
//! set of keys is an error, never half of one.
//! Bounds: [`TIMEOUT`] per call, answers of [`ANSWER_BYTES_MAX`].
//! Driven by: [`super::CredentialsSource::read`], on a thread that may block.
//! Spec: ECS instance metadata, `ram/security-credentials`; hardened mode of access.

use std::time::Duration;

use serde_json::Value;
use ureq::Agent;

use super::{CredentialsError, Known};
use crate::proto::sls::sign::Credentials;
use crate::proto::time::UnixTime;

/// The metadata service as the settings name it.
#[derive(Clone, Debug)]
pub(super) struct Metadata {
    agent: Agent,
    /// Without a path.
    url: String,
    /// None: the role that the instance has.
    role: Option<String>,
    /// Never without a token.
    hardened_only: bool,
}

impl Metadata {
    pub(super) fn new(url: &str, role: Option<&str>, hardened_only: bool) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(TIMEOUT))
            .proxy(None);
        Self {
            agent: config.build().new_agent(),
            url: url.to_owned(),
            role: role.map(str::to_owned),
            hardened_only,
        }
    }

    /// Asks for keys.
    pub(super) fn read(&self) -> Result<Known, CredentialsError> {
        let token = self.token()?;
        let role = match &self.role {
            Some(role) => role.clone(),
            None => self.role_of_instance(token.as_deref())?,
        };
        let answer = self.get(&format!("{ROLES}{role}"), token.as_deref())?;
        parse(&answer).map_err(|detail| CredentialsError::Role { role, detail })
    }

    fn role_of_instance(&self, token: Option<&str>) -> Result<String, CredentialsError> {
        let answer = self.get(ROLES, token)?;
        let role = answer.lines().next().unwrap_or_default().trim();
        let is_name = |text: &str| {
            (1..=64).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        };
        if is_name(role) { Ok(role.to_owned()) } else { Err(CredentialsError::NoRole) }
    }

    /// `None` where the service does not know tokens.
    fn token(&self) -> Result<Option<String>, CredentialsError> {
        let request = self.agent.put(format!("{}/latest/api/token", self.url));
        let answer = request.header(TTL_HEADER, TOKEN_SECONDS).send_empty();
        let (status, text) = self.text(answer)?;
        let token = text.trim();
        let good = status == 200 && !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        match good {
            true => Ok(Some(token.to_owned())),
            false if self.hardened_only => Err(self.refused(status)),
            false => Ok(None),
        }
    }

    fn get(&self, path: &str, token: Option<&str>) -> Result<String, CredentialsError> {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        if let Some(token) = token {
            request = request.header(TOKEN_HEADER, token);
        }
        match self.text(request.call())? {
            (200, text) => Ok(text),
            (404, _) => Err(CredentialsError::NoRole),
            (status, _) => Err(self.refused(status)),
        }
    }

    fn text(
        &self,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<(u16, String), CredentialsError> {
        let broken = |error: ureq::Error| CredentialsError::Metadata {
            url: self.url.clone(),
            detail: error.to_string(),
        };
        let mut answer = answer.map_err(broken)?;
        let text =
            answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string().map_err(broken)?;
        Ok((answer.status().as_u16(), text))
    }

    fn refused(&self, status: u16) -> CredentialsError {
        CredentialsError::Metadata { url: self.url.clone(), detail: format!("it answered {status}") }
    }
}

/// Reads the service's answer.
fn parse(answer: &str) -> Result<Known, String> {
    let answer: Value = serde_json::from_str(answer).map_err(|_| "the answer is not JSON".to_owned())?;
    let text = |key: &str| {
        let text = answer.get(key).and_then(Value::as_str).unwrap_or_default().trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("the answer has no {key}"));
        }
        Ok(text.to_owned())
    };
    match answer.get("Code").and_then(Value::as_str) {
        Some("Success") => {}
        code => return Err(format!("the answer has the code {:?}", code.unwrap_or_default())),
    }
    let until: jiff::Timestamp =
        text("Expiration")?.parse().map_err(|_| "the answer has no Expiration that is a time".to_owned())?;
    Ok(Known {
        credentials: Credentials {
            access_key_id: text("AccessKeyId")?,
            access_key_secret: text("AccessKeySecret")?,
            security_token: Some(text("SecurityToken")?),
        },
        until: u64::try_from(until.as_second()).ok().map(UnixTime::from_secs),
    })
}

/// The service is on the same host: what takes longer is not there.
const TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: u64 = 64 << 10;
const ROLES: &str = "/latest/meta-data/ram/security-credentials/";
const TTL_HEADER: &str = "X-aliyun-ecs-metadata-token-ttl-seconds";
const TOKEN_HEADER: &str = "X-aliyun-ecs-metadata-token";
/// One reading needs it for a moment.
const TOKEN_SECONDS: &str = "60";

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;
    use std::sync::mpsc::{self, Receiver};
    use std::thread;

    use super::*;

    /// A metadata service that answers each path in its own way and tells what it was asked.
    fn serve(answers: fn(&str) -> (u16, String)) -> (String, Receiver<(String, Option<String>)>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, asked) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                let mut token = None;
                reader.read_line(&mut line).unwrap();
                loop {
                    let mut header = String::new();
                    reader.read_line(&mut header).unwrap();
                    let Some((name, value)) = header.trim_end().split_once(':') else { break };
                    if name.eq_ignore_ascii_case(TOKEN_HEADER) {
                        token = Some(value.trim().to_owned());
                    }
                }
                let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
                let (status, body) = answers(&line);
                let length = body.len();
                write!(
                    stream,
                    "HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                )
                .unwrap();
                let _gone = sender.send((line, token));
            }
        });
        (url, asked)
    }

    fn keys() -> String {
        r#"{"AccessKeyId":"STS.x","AccessKeySecret":"s3cret","Expiration":"2026-01-02T03:04:05Z",
            "SecurityToken":"t0ken","LastUpdated":"2026-01-01T21:04:05Z","Code":"Success"}"#
            .to_owned()
    }

    #[test]
    fn the_hardened_mode_is_used_where_it_is_there() {
        let (url, asked) = serve(|line| match line {
            "PUT /latest/api/token" => (200, "tok-1".into()),
            "GET /latest/meta-data/ram/security-credentials/" => (200, "my-role".into()),
            "GET /latest/meta-data/ram/security-credentials/my-role" => (200, keys()),
            other => panic!("{other}"),
        });
        let known = Metadata::new(&url, None, true).read().unwrap();
        assert_eq!(known.credentials.access_key_id, "STS.x");
        assert_eq!(known.credentials.security_token.as_deref(), Some("t0ken"));
        assert_eq!(known.until, Some(UnixTime::from_secs(1_767_323_045)));
        let asked: Vec<_> = asked.iter().take(3).map(|(_, token)| token).collect();
        assert_eq!(asked, [None, Some("tok-1".to_owned()), Some("tok-1".to_owned())]);
    }

    #[test]
    fn the_plain_mode_is_used_where_tokens_are_unknown_unless_it_is_forbidden() {
        let (url, _asked) = serve(|line| match line {
            "GET /latest/meta-data/ram/security-credentials/fixed" => (200, keys()),
            _ => (404, "<html>not found</html>".into()),
        });
        assert_eq!(
            Metadata::new(&url, Some("fixed"), false).read().unwrap().credentials.access_key_secret,
            "s3cret"
        );
        let refused = Metadata::new(&url, Some("fixed"), true).read().unwrap_err().to_string();
        assert!(refused.contains("404"), "{refused}");
        let missing = Metadata::new(&url, None, false).read().unwrap_err();
        assert!(matches!(missing, CredentialsError::NoRole), "{missing}");
    }

    #[test]
    fn half_a_set_of_keys_is_none() {
        for broken in [
            "not json".to_owned(),
            keys().replace("Success", "Failed"),
            keys().replace("s3cret", ""),
            keys().replace("2026-01-02T03:04:05Z", "soon"),
            keys().replace("SecurityToken", "Other"),
        ] {
            let error = parse(&broken).unwrap_err();
            assert!(!error.contains("s3cret") && !error.contains("t0ken"), "{error}");
        }
    }

    #[test]
    fn a_service_that_is_not_there_is_named() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = Metadata::new(&format!("http://{free}"), None, false).read().unwrap_err().to_string();
        assert!(error.contains(&free.to_string()), "{error}");
    }
}
