use serde_json::Value;

use super::*;

fn vectors(name: &str) -> Vec<Value> {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    let json: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    json["vectors"].as_array().unwrap().clone()
}

/// The request of a vector as the server would see it.
fn request(vector: &Value) -> Request {
    let mut request = Request { method: vector["method"].as_str().unwrap().to_owned(), ..Request::default() };
    if let Some(target) = vector["target"].as_str() {
        request.set_target(target);
    }
    for pair in vector["headers"].as_array().into_iter().flatten() {
        let name = pair[0].as_str().unwrap().to_ascii_lowercase();
        request.headers.push((name, pair[1].as_str().unwrap().trim().to_owned()));
    }
    request.body = STANDARD.decode(vector["body_base64"].as_str().unwrap()).unwrap();
    request
}

/// Those published with parameters and headers before signing: what a client adds is added here.
fn request_before_signing(vector: &Value) -> Request {
    let mut request = request(vector);
    request.path = vector["path"].as_str().unwrap().to_owned();
    request.raw_path.clone_from(&request.path);
    for (key, value) in vector["params"].as_object().unwrap() {
        request.query.push((key.clone(), value.as_str().unwrap().to_owned()));
    }
    for (name, value) in vector["headers_before_signing"].as_object().unwrap() {
        request.headers.push((name.to_ascii_lowercase(), value.as_str().unwrap().trim().to_owned()));
    }
    let hash = hex(&Sha256::digest(&request.body));
    request.headers.push(("x-log-content-sha256".into(), hash));
    request.headers.push(("x-log-date".into(), vector["x_log_date"].as_str().unwrap().to_owned()));
    request
}

fn claim_of(vector: &Value) -> Claim {
    Claim::parse(vector["expected_authorization"].as_str().unwrap()).unwrap()
}

#[test]
fn every_golden_signature_matches() {
    let mut checked = 0;
    for file in ["signature_v1.json", "signature_v4.json", "signature_known_answers.json"] {
        for vector in vectors(file) {
            let request = if vector.get("params").is_some() {
                request_before_signing(&vector)
            } else {
                request(&vector)
            };
            let mut request = request;
            // A Content-MD5 that the client computes is not among the headers of some published vectors.
            if request.header("content-md5").is_none()
                && vector["signature"] == "v1"
                && !request.body.is_empty()
            {
                use md5::Digest as _;
                let md5 = hex(&md5::Md5::digest(&request.body)).to_ascii_uppercase();
                request.headers.push(("content-md5".into(), md5));
            }
            let secret = vector["access_key_secret"].as_str().unwrap();
            assert!(claim_of(&vector).matches(&request, secret), "{file}: {}", vector["name"]);
            checked += 1;
        }
    }
    assert_eq!(checked, 39 + 39 + 8, "vectors read");
}

#[test]
fn any_change_of_what_is_signed_is_refused() {
    for file in ["signature_v1.json", "signature_v4.json"] {
        for vector in vectors(file) {
            let secret = vector["access_key_secret"].as_str().unwrap();
            let claim = claim_of(&vector);
            let sent = request(&vector);
            assert!(!claim.matches(&sent, &format!("{secret}x")), "secret: {}", vector["name"]);
            let refused = |what: &str, change: &dyn Fn(&mut Request)| {
                let mut changed = sent.clone();
                change(&mut changed);
                assert!(!claim.matches(&changed, secret), "{what}: {file} {}", vector["name"]);
            };
            refused("method", &|r| r.method.push('X'));
            refused("path", &|r| {
                r.path.push('x');
                r.raw_path.push('x');
            });
            refused("query", &|r| r.query.push(("zz".into(), "1".into())));
            refused("header added", &|r| r.headers.push(("x-log-zz".into(), "1".into())));
            for name in sent.headers.iter().map(|(name, _)| name.as_str()) {
                let is_date_copy = name == "x-log-date" && file == "signature_v1.json";
                let signed = (name.starts_with("x-log-") && !is_date_copy)
                    || name.starts_with("x-acs-")
                    || name == "content-type"
                    || (file == "signature_v1.json" && (name == "date" || name == "content-md5"))
                    || (file == "signature_v4.json" && name == "host");
                let mut changed = sent.clone();
                for header in changed.headers.iter_mut().filter(|header| header.0 == name) {
                    header.1.push('x');
                }
                assert_eq!(claim.matches(&changed, secret), !signed, "{name}: {file} {}", vector["name"]);
            }
        }
    }
}

#[test]
fn authorizations_that_are_malformed_are_refused() {
    let wrong = [
        "",
        "LOG",
        "LOG id",
        "Bearer x",
        "SLS4-HMAC-SHA256 Credential=id/20260102/r/sls/aliyun_v4_request",
        "SLS4-HMAC-SHA256 Credential=id/20260102/r/oss/aliyun_v4_request,Signature=00",
        "SLS4-HMAC-SHA256 Credential=id/20260102/r/sls/aliyun_v4_request/x,Signature=00",
        "SLS4-HMAC-SHA256 Credential=id/20260102/r/sls/aliyun_v4_request, Signature=00",
    ];
    for value in wrong {
        assert_eq!(Claim::parse(value), None, "{value}");
    }
}

#[test]
fn metadata_headers_are_not_signed() {
    for file in ["signature_v1.json", "signature_v4.json"] {
        let vector = &vectors(file)[0];
        let mut sent = request(vector);
        sent.headers.push(("x-log-meta-a".into(), "1".into()));
        assert!(claim_of(vector).matches(&sent, vector["access_key_secret"].as_str().unwrap()));
    }
}
