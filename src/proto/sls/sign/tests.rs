use super::*;

/// Known answers whose dates are not those of a clock; the vectors with a real date are in `tests/golden.rs`.
const KNOWN: &str = include_str!("../../../../tests/golden/sls/signature_known_answers.json");

fn keys(secret: &str, token: Option<&str>) -> Credentials {
    Credentials {
        access_key_id: "id".into(),
        access_key_secret: secret.into(),
        security_token: token.map(Into::into),
    }
}

fn text<'a>(value: &'a serde_json::Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[test]
fn known_answers() {
    let known: serde_json::Value = serde_json::from_str(KNOWN).unwrap();
    let vectors = known["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 8);
    for vector in vectors {
        let name = text(vector, "name");
        let body = STANDARD.decode(text(vector, "body_base64")).unwrap();
        let credentials = Credentials {
            access_key_id: text(vector, "access_key_id").into(),
            access_key_secret: text(vector, "access_key_secret").into(),
            security_token: None,
        };
        let mut signer = Signer::default();
        if text(vector, "signature") == "v1" {
            let mut headers: Vec<(&str, String)> = vector["headers"]
                .as_array()
                .unwrap()
                .iter()
                .map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap().to_owned()))
                .collect();
            let date = headers.iter().find(|(name, _)| *name == "Date").unwrap().1.clone();
            headers.retain(|(name, _)| !["Date", "x-log-signaturemethod"].contains(name));
            let request = Request {
                method: text(vector, "method"),
                path: text(vector, "target"),
                query: &[],
                host: "",
                headers: &headers,
                body: &body,
            };
            signer.add("Date", |value| value.push_str(&date));
            signer.sign_v1(&credentials, &request);
            assert_eq!(signer.canonical, text(vector, "string_to_sign"), "{name}");
        } else {
            let pairs = |key: &str| -> Vec<(String, String)> {
                let object = vector[key].as_object().unwrap();
                object.iter().map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())).collect()
            };
            let (query, headers) = (pairs("params"), pairs("headers_before_signing"));
            let query: Vec<(&str, String)> = query.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
            let headers: Vec<(&str, String)> = headers.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
            let request = Request {
                method: text(vector, "method"),
                path: text(vector, "path"),
                query: &query,
                host: "",
                headers: &headers,
                body: &body,
            };
            signer.add("x-log-date", |value| value.push_str(text(vector, "x_log_date")));
            signer.add("x-log-content-sha256", |value| {
                push_hex(value, &sha2::Sha256::digest(&body), HEX);
            });
            signer.canonical_v4(&request);
            assert_eq!(signer.canonical, text(vector, "canonical_request"), "{name}");
            signer.wipe();
            signer.add("x-log-date", |value| value.push_str(text(vector, "x_log_date")));
            signer.sign_v4(text(vector, "region"), &credentials, &request);
        }
        assert_eq!(signer.added("Authorization"), text(vector, "expected_authorization"), "{name}");
    }
}

#[test]
fn one_signer_signs_many_requests_alike() {
    let query = [("type", "log".to_owned()), ("cursor", "MTc2==".to_owned()), ("empty", String::new())];
    let headers =
        [("X-Log-ApiVersion", " 0.6.0 ".to_owned()), ("Content-Type", "application/json".to_owned())];
    let request = Request {
        method: "GET",
        path: "/logstores/l/shards/0",
        query: &query,
        host: "p.example.com",
        headers: &headers,
        body: b"",
    };
    let credentials = keys("secret", Some("token/with+chars=="));
    let now = UnixTime::from_secs(1_767_323_045);
    let mut kept = Signer::default();
    for version in [Version::V1, Version::V4 { region: "cn-hangzhou".into() }, Version::V1] {
        let again: Vec<(String, String)> = kept
            .sign(&version, &credentials, &request, now)
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let fresh: Vec<(String, String)> = Signer::default()
            .sign(&version, &credentials, &request, now)
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        assert_eq!(again, fresh);
        assert!(
            again.iter().any(|(name, value)| name == "x-acs-security-token" && value == "token/with+chars==")
        );
    }
    kept.wipe();
    kept.add("Date", |value| value.push('D'));
    kept.sign_v1(&credentials, &request);
    assert_eq!(
        kept.canonical,
        "GET\n\napplication/json\nD\nx-acs-security-token:token/with+chars==\nx-log-apiversion:0.6.0\n\
         x-log-signaturemethod:hmac-sha1\n/logstores/l/shards/0?cursor=MTc2==&empty=&type=log"
    );
}

#[test]
fn what_is_signed_matters_and_what_is_not_does_not() {
    let now = UnixTime::from_secs(1_767_323_045);
    let authorization = |version: &Version, host: &str, extra: (&'static str, &str), now| {
        let headers = [("x-log-apiversion", "0.6.0".to_owned()), (extra.0, extra.1.to_owned())];
        let request = Request { method: "GET", path: "/", query: &[], host, headers: &headers, body: b"b" };
        let mut signer = Signer::default();
        let mut signature = signer.sign(version, &keys("s", None), &request, now);
        signature.find(|(name, _)| *name == "Authorization").unwrap().1.to_owned()
    };
    let v4 = Version::V4 { region: "r".into() };
    for (version, host_signed) in [(&Version::V1, false), (&v4, true)] {
        let plain = authorization(version, "h", ("User-Agent", "a"), now);
        assert_eq!(authorization(version, "h", ("x-log-meta-x", "1"), now), plain);
        assert_ne!(authorization(version, "h", ("X-Acs-Y", "1"), now), plain);
        assert_ne!(authorization(version, "h", ("x-log-ip", "1"), now), plain);
        assert_ne!(authorization(version, "h", ("content-type", "a/b"), now), plain);
        assert_ne!(authorization(version, "h", ("User-Agent", "a"), UnixTime::from_secs(1)), plain);
        assert_eq!(authorization(version, "other", ("User-Agent", "a"), now) != plain, host_signed);
    }
    assert_eq!(
        authorization(&Version::V1, "h", ("x-log-date", "D"), now),
        authorization(&Version::V1, "h", ("a", "b"), now)
    );
}

#[test]
fn secrets_do_not_show() {
    let credentials = keys("SECRET-1", Some("TOKEN-1"));
    let mut signer = Signer::default();
    let request = Request { method: "GET", path: "/", query: &[], host: "", headers: &[], body: b"" };
    let signature = format!("{:?}", signer.sign(&Version::V1, &credentials, &request, UnixTime::default()));
    for shown in [format!("{credentials:?}"), signature, format!("{signer:?}")] {
        assert!(!shown.contains("SECRET") && !shown.contains("TOKEN"), "{shown}");
    }
    assert_eq!(
        format!("{credentials:?}"),
        "Credentials { access_key_id: \"id\", access_key_secret: \"***\", security_token: Some(\"***\") }"
    );
}

#[test]
fn percent_encoding() {
    let mut text = String::new();
    push_percent_encoded(&mut text, "aZ09-_.~ *+%&=/\u{4e2d}\n");
    assert_eq!(text, "aZ09-_.~%20%2A%2B%25%26%3D%2F%E4%B8%AD%0A");
}
