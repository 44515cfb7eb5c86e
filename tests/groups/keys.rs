//! Keys that come from a RAM role and change while logs flow.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use loadgen::sls::AccessKey;

use crate::rig::{PATIENCE, Rig};

/// A metadata service in hardened mode that hands out keys for 10 seconds: the second ones when told to.
fn metadata(second: Arc<AtomicBool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (mut reader, mut stream) = (BufReader::new(stream.try_clone().unwrap()), stream);
            let (mut request, mut has_token) = (String::new(), false);
            let _bytes = reader.read_line(&mut request);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                    break;
                }
                has_token |=
                    line.to_ascii_lowercase().starts_with("x-aliyun-ecs-metadata-token: metadata-t0ken");
            }
            let until = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 10;
            let until = jiff_text(until);
            let name = if second.load(Ordering::SeqCst) { "two" } else { "one" };
            let (status, body) = if request.starts_with("PUT /latest/api/token ") {
                (200, "metadata-t0ken".to_owned())
            } else if !has_token {
                (403, String::new())
            } else if request.starts_with("GET /latest/meta-data/ram/security-credentials/ ") {
                (200, "the-role".to_owned())
            } else {
                let body = format!(
                    r#"{{"Code":"Success","AccessKeyId":"STS.{name}","AccessKeySecret":"role-s3cret-{name}",
                        "SecurityToken":"role-t0ken-{name}","Expiration":"{until}"}}"#
                );
                (200, body)
            };
            let length = body.len();
            let _gone = write!(
                stream,
                "HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        }
    });
    url
}

fn jiff_text(seconds: u64) -> String {
    jiff::Timestamp::from_second(i64::try_from(seconds).unwrap()).unwrap().to_string()
}

fn key(name: &str) -> AccessKey {
    let mut key = AccessKey::new(format!("STS.{name}"), format!("role-s3cret-{name}"));
    key.token = Some(format!("role-t0ken-{name}"));
    key
}

#[test]
fn keys_of_a_ram_role_are_renewed_before_they_end_and_nothing_stops() {
    let second = Arc::new(AtomicBool::new(false));
    let url = metadata(Arc::clone(&second));
    let mut rig = Rig::with(|sls| sls.keys = vec![key("one"), key("two")], |_| ());
    rig.fill_over(4_000, Some(Duration::from_secs(16)));
    let mut start = rig
        .forwarder()
        .set("sls.credentials", "ecs-ram-role")
        .set("sls.ecs_metadata_url", &url)
        .set("sls.access_key_id", "")
        .set("sls.access_key_secret_file", "");
    for name in ["one", "two"] {
        start = start.secret(&format!("role-s3cret-{name}")).secret(&format!("role-t0ken-{name}"));
    }
    let mut member = start.start();
    member.line(&["signing with access key STS.one", "good until 20"]);
    member.wait_until("it works", PATIENCE, || rig.verdict().stored_unique > 0);
    second.store(true, Ordering::SeqCst);
    member.line(&["signing with access key STS.two"]);
    // The first ones are good for nothing any more.
    let mut old = key("one");
    old.token = Some("over".into());
    rig.sls.set_key(old);
    member.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    member.stop();
    rig.assert_exact();
    assert_eq!(member.complaints(), [""; 0]);
}

#[test]
fn a_metadata_service_that_is_not_there_is_waited_for_or_ends_a_fast_start_with_69() {
    let mut rig = Rig::new();
    rig.fill(100);
    let url = format!("http://127.0.0.1:{}", crate::rig::closed_port());
    let start = || {
        rig.forwarder()
            .set("sls.credentials", "ecs-ram-role")
            .set("sls.ecs_metadata_url", &url)
            .set("sls.access_key_id", "")
            .set("sls.access_key_secret_file", "")
    };
    let mut member = start().start();
    member.line(&[
        " WARN ",
        "getting access keys",
        "metadata service at",
        "nothing lost",
        "ecs_metadata_url",
    ]);
    member.stop();
    let mut fast = start().fail_fast().start();
    assert_eq!(fast.ended(PATIENCE).code(), Some(69), "{}", fast.text());
}
