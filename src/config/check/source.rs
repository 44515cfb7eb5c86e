//! Rules of `[sls]`.
//!
//! Why: most first runs fail on a misspelt project or a missing key; they should fail here, with the repair.
//! Invariants: as `config::check`.   Bounds: as the settings.   Driven by: `config::check`.
//! Spec: names of projects, logstores and consumer groups as SLS allows them.

use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::super::{
    CredentialsConfig, Keys, Moment, OnExpiredCursor, Signature, SlsCompression, SlsConfig, units, url,
};
use super::{At, Checker};

impl Checker<'_> {
    pub(super) fn sls(&mut self, at: At<'_>) -> Option<SlsConfig> {
        let project = self.named(at, "project", "SLS_PROJECT", NAME_PROJECT);
        let logstore = self.named(at, "logstore", "SLS_LOGSTORE", NAME_LOGSTORE);
        let consumer_group = self.named(at, "consumer_group", "SLS_CG", NAME_GROUP);
        let endpoint = self.endpoint(at, project.as_deref().unwrap_or(""));
        let credentials = self.credentials(at);
        let signature = self.signature(at);
        let start = units::parse_moment(&self.text(at, "start")).unwrap_or(Moment::Begin);
        let stop = match units::parse_moment(&self.text(at, "stop")) {
            Some(Moment::At(seconds)) => Some(seconds),
            _ => None,
        };
        if let (Moment::At(start), Some(stop)) = (start, stop)
            && stop <= start
        {
            self.conflict(at, "stop", "stop is not after start", "set a later stop");
        }
        let heartbeat_interval = self.span(at, "heartbeat_interval");
        let timeout = self.group_timeout(at, heartbeat_interval);
        if self.text_or_none(at, "query").is_some() && self.text_or_none(at, "processor").is_some() {
            self.conflict(
                at,
                "query",
                "query and processor are both set",
                "keep one: the server applies only one",
            );
        }
        let consumer_name = self.text_or_none(at, "consumer_name");
        if consumer_name.as_deref().is_some_and(|name| !NAME_CONSUMER.fits(name)) {
            self.wrong(at, "consumer_name", "not a name for a consumer", Some(NAME_CONSUMER.allowed), None);
        }
        let ca_file = self.file(at, "ca_file");
        let proxy = self.text_or_none(at, "proxy").and_then(|text| match url::parse_proxy(&text) {
            Ok(proxy) => Some(proxy),
            Err(problem) => {
                self.wrong(at, "proxy", &problem, Some("http://host:port"), None);
                None
            }
        });
        Some(SlsConfig {
            endpoint: endpoint?,
            project: project?,
            logstore: logstore?,
            consumer_group: consumer_group?,
            consumer_name,
            credentials: credentials?,
            signature,
            query: self.text_or_none(at, "query"),
            processor: self.text_or_none(at, "processor"),
            start,
            stop,
            in_order: self.flag(at, "in_order"),
            heartbeat_interval,
            timeout,
            fetch_interval: self.span(at, "fetch_interval"),
            max_log_groups: u32::try_from(self.count(at, "max_log_groups")).unwrap_or(1000),
            compression: match self.choice(at, "compression") {
                "zstd" => SlsCompression::Zstd,
                "none" => SlsCompression::None,
                _ => SlsCompression::Lz4,
            },
            checkpoint_interval: self.span(at, "checkpoint_interval"),
            on_expired_cursor: match self.choice(at, "on_expired_cursor") {
                "stop" => OnExpiredCursor::Stop,
                _ => OnExpiredCursor::Begin,
            },
            ca_file,
            proxy,
        })
    }

    fn named(&mut self, at: At<'_>, key: &str, variable: &str, shape: NameShape) -> Option<String> {
        let Some(name) = self.text_or_none(at, key) else {
            self.missing(at, key, "is not set", &format!("set [sls] {key} or {variable}"));
            return None;
        };
        if !shape.fits(&name) {
            self.wrong(at, key, "SLS has no such names", Some(shape.allowed), None);
        }
        Some(name)
    }

    fn endpoint(&mut self, at: At<'_>, project: &str) -> Option<super::super::Endpoint> {
        let Some(text) = self.text_or_none(at, "endpoint") else {
            let fix = "set [sls] endpoint or SLS_ENDPOINT, such as https://cn-hangzhou.log.aliyuncs.com";
            self.missing(at, "endpoint", "is not set", fix);
            return None;
        };
        match url::parse_endpoint(&text, project) {
            Ok((endpoint, note)) => {
                if let Some(note) = note {
                    self.warnings.push(format!("sls.{note}"));
                }
                if !endpoint.https && !endpoint.is_ip_or_localhost {
                    let warning = format!(
                        "sls.endpoint {endpoint} is not encrypted: everybody on the way reads the logs"
                    );
                    self.warnings.push(warning);
                }
                Some(endpoint)
            }
            Err(problem) => {
                let allowed = "https://REGION.log.aliyuncs.com, the scheme may be left out";
                self.wrong(at, "endpoint", &problem, Some(allowed), None);
                None
            }
        }
    }

    fn signature(&mut self, at: At<'_>) -> Signature {
        let region = self.text_or_none(at, "region");
        if self.choice(at, "signature") != "v4" {
            return Signature::V1;
        }
        let shape =
            |region: &str| region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        match region {
            None => {
                let fix = "set [sls] region, such as \"cn-hangzhou\", or signature = \"v1\"";
                self.missing(at, "region", "signature v4 needs a region", fix);
                Signature::V1
            }
            Some(region) => {
                if !shape(&region) {
                    self.wrong(at, "region", "not a region", Some("such as \"cn-hangzhou\""), None);
                }
                Signature::V4 { region }
            }
        }
    }

    fn group_timeout(&mut self, at: At<'_>, heartbeat: Duration) -> Duration {
        // The server counts whole seconds; rounding up keeps a slow heartbeat inside.
        let whole = |span: Duration| Duration::from_secs(span.as_secs() + u64::from(span.subsec_nanos() > 0));
        let Some(timeout) = units::parse_span(&self.text(at, "timeout")) else { return whole(heartbeat * 2) };
        if timeout <= heartbeat {
            let problem =
                "the group timeout is not longer than heartbeat_interval: every lease would be lost";
            self.conflict(at, "timeout", problem, "set at least twice heartbeat_interval");
        }
        whole(timeout)
    }

    fn credentials(&mut self, at: At<'_>) -> Option<CredentialsConfig> {
        match self.choice(at, "credentials") {
            "ecs-ram-role" => {
                let metadata_url = self.text(at, "ecs_metadata_url").trim_end_matches('/').to_owned();
                if !metadata_url.starts_with("http://") && !metadata_url.starts_with("https://") {
                    let allowed = Some("http://address");
                    self.wrong(at, "ecs_metadata_url", "not a URL", allowed, None);
                }
                Some(CredentialsConfig::EcsRamRole {
                    role: self.text_or_none(at, "ecs_ram_role").or_else(|| {
                        self.env.get("ALIBABA_CLOUD_ECS_METADATA").filter(|role| !role.is_empty()).cloned()
                    }),
                    metadata_url,
                    hardened_only: self
                        .env
                        .get("ALIBABA_CLOUD_IMDSV1_DISABLED")
                        .is_some_and(|text| text == "1" || text.eq_ignore_ascii_case("true")),
                })
            }
            "environment" => self.environment_keys(at).map(CredentialsConfig::Environment),
            "file" => self.file_keys(at),
            _ => self.static_keys(at).map(|(keys, _)| CredentialsConfig::Static(keys)),
        }
    }

    fn static_keys(&mut self, at: At<'_>) -> Option<(Keys, [Option<std::path::PathBuf>; 3])> {
        let [id, secret, token] =
            ["access_key_id", "access_key_secret", "security_token"].map(|name| self.secret(at, name));
        if id.is_none() {
            let fix =
                "set SLS_AK_ID, or [sls] access_key_id or access_key_id_file, or another [sls] credentials";
            self.missing(at, "access_key_id", "is not set", fix);
        }
        if secret.is_none() {
            let fix = "set SLS_AK_KEY, or [sls] access_key_secret_file or access_key_secret";
            self.missing(at, "access_key_secret", "is not set", fix);
        }
        let ((id, id_file), (secret, secret_file)) = (id?, secret?);
        let printable = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        if !printable(id.expose_secret()) {
            let allowed = Some("printable characters without spaces");
            self.wrong(at, "access_key_id", "not an AccessKey id", allowed, None);
        }
        if let Some((token, _)) = &token
            && !printable(token.expose_secret())
        {
            let allowed = Some("printable characters without spaces");
            self.wrong(at, "security_token", "not an STS token", allowed, None);
        }
        let (token, token_file) = token.map_or((None, None), |(token, file)| (Some(token), file));
        let keys = Keys {
            access_key_id: id.expose_secret().to_owned(),
            access_key_secret: secret,
            security_token: token,
        };
        Some((keys, [id_file, secret_file, token_file]))
    }

    fn file_keys(&mut self, at: At<'_>) -> Option<CredentialsConfig> {
        let (keys, [access_key_id_file, secret_file, security_token_file]) = self.static_keys(at)?;
        let Some(access_key_secret_file) = secret_file else {
            let fix = "set [sls] access_key_secret_file, or credentials = \"static\"";
            self.missing(at, "access_key_secret_file", "credentials = \"file\" needs it", fix);
            return None;
        };
        Some(CredentialsConfig::File {
            keys,
            access_key_id_file,
            access_key_secret_file,
            security_token_file,
        })
    }

    fn environment_keys(&mut self, at: At<'_>) -> Option<Keys> {
        let read = |name: &str| {
            self.env.get(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let id = read("ALIBABA_CLOUD_ACCESS_KEY_ID");
        let secret = read("ALIBABA_CLOUD_ACCESS_KEY_SECRET");
        let token = read("ALIBABA_CLOUD_SECURITY_TOKEN");
        if id.is_none() || secret.is_none() {
            let fix = "set ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET, or other [sls] credentials";
            self.missing(at, "credentials", "\"environment\": the variables are not set", fix);
        }
        Some(Keys {
            access_key_id: id?,
            access_key_secret: secret?.into(),
            security_token: token.map(Into::into),
        })
    }
}

/// Which names SLS takes.
#[derive(Clone, Copy)]
struct NameShape {
    min: usize,
    max: usize,
    upper: bool,
    others: &'static str,
    allowed: &'static str,
}

impl NameShape {
    fn fits(&self, name: &str) -> bool {
        let plain =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || (self.upper && b.is_ascii_uppercase());
        (self.min..=self.max).contains(&name.len())
            && name.bytes().all(|b| plain(b) || self.others.as_bytes().contains(&b))
            && name.bytes().next().is_some_and(plain)
            && name.bytes().next_back().is_some_and(plain)
    }
}

const NAME_PROJECT: NameShape = NameShape {
    min: 3,
    max: 63,
    upper: false,
    others: "-",
    allowed: "3 to 63 lower-case letters, digits and -, beginning and ending with a letter or digit",
};

const NAME_LOGSTORE: NameShape = NameShape {
    min: 2,
    max: 63,
    upper: false,
    others: "-_",
    allowed: "2 to 63 lower-case letters, digits, - and _, beginning and ending with a letter or digit",
};

const NAME_GROUP: NameShape = NameShape {
    min: 1,
    max: 128,
    upper: true,
    others: "-_",
    allowed: "1 to 128 letters, digits, - and _, beginning and ending with a letter or digit",
};

const NAME_CONSUMER: NameShape = NameShape {
    min: 1,
    max: 128,
    upper: true,
    others: "-_.",
    allowed: "1 to 128 letters, digits, -, _ and dots, beginning and ending with a letter or digit",
};
