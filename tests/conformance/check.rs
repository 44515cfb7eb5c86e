//! `check`: each trouble is provoked, is found by name, and its advice helps; and nothing is changed by asking.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use loadgen::fault::FaultPlan;
use loadgen::sink::hec::Token;
use serde_json::Value;
use sls2siem::proto::sls::sign::Credentials;

use crate::rig::{GROUP, KEY_ID, KEY_SECRET, PATIENCE, Rig, SHARDS, TOKEN, closed_port, key};

const WRONG_TOKEN: &str = "0bad0bad-1111-4222-8333-444455556666";

/// What `check --json` said.
struct Told {
    code: Option<i32>,
    all: Value,
}

/// Asks with these settings changed.
fn check(rig: &Rig, sets: &[(&str, &str)]) -> Told {
    let _written = rig.forwarder();
    ask(rig, sets, &[])
}

fn ask(rig: &Rig, sets: &[(&str, &str)], flags: &[&str]) -> Told {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sls2siem"));
    command.args(["check", "--json"]).args(flags).env_clear();
    command.arg("--config").arg(rig.path("sls2siem.toml"));
    for (key, value) in sets {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    let ran = command.output().unwrap();
    let (out, err) = (String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap());
    for secret in [KEY_SECRET, TOKEN, WRONG_TOKEN] {
        assert!(!out.contains(secret) && !err.contains(secret), "a secret is shown: {out}{err}");
    }
    Told { code: ran.status.code(), all: serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}")) }
}

impl Told {
    /// The findings of a grade, as `topic: text (cause) - todo`.
    fn graded(&self, grade: &str) -> Vec<String> {
        let findings = self.all["findings"].as_array().unwrap().iter();
        let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        findings
            .filter(|finding| finding["grade"] == grade)
            .map(|finding| {
                let [topic, what, cause, todo] =
                    ["topic", "text", "cause", "todo"].map(|key| text(finding, key));
                format!("{topic}: {what} ({cause}) - {todo}")
            })
            .collect()
    }

    /// One finding of this grade that holds all of this.
    fn has(&self, grade: &str, parts: &[&str]) {
        let all = self.graded(grade);
        let found = all.iter().any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(found, "no {grade} with {parts:?}: {all:#?}\n{:#}", self.all);
    }

    /// Nothing to repair.
    fn is_well(&self) {
        assert_eq!((self.code, self.graded("fail")), (Some(0), Vec::new()), "{:#}", self.all);
    }

    /// Exactly this to repair.
    fn fails(&self, parts: &[&str]) {
        self.has("fail", parts);
        assert_eq!((self.code, self.graded("fail").len()), (Some(1), 1), "{:#}", self.all);
    }
}

#[test]
fn all_is_well_and_nothing_was_changed() {
    let mut rig = Rig::with(|_| (), |hec| hec.tokens = vec![Token::new(TOKEN).with_ack()]);
    rig.fill(100);
    let told = check(&rig, &[("hec.index", "main")]);
    told.is_well();
    for parts in [
        &["io-uring: Linux", "locked memory", "open files"][..],
        &["clock: this machine's clock agrees with SLS"],
        &["shards: SLS test-project/test-logstore: 2 shards"],
        &["retention: SLS keeps the logs of test-logstore for ", " days"],
        &["group: consumer group conformance does not exist", "0 of 30"],
        &["pull: a pull of shard 0 works: 50 logs"],
        &["permission: permissions: log:ListShards, log:GetLogStore, log:ListConsumerGroup"],
        &["log:GetConsumerGroupCheckPoint, log:ConsumerGroupUpdateCheckPoint, log:GetCursorOrData"],
        &["tls: SLS https://", "passes verify = \"full\"", "valid until", "SHA-256"],
        &["tls: hec https://", "TLS 1.3", "passes verify = \"full\""],
        &["hec-health: hec https://", "healthy"],
        &["hec-token: hec https://", "the token is accepted"],
        &["hec-index: hec https://", "index main is not refused so far"],
        &["hec-ack: hec https://", "the indexer acknowledges"],
        &["placement: shards per core"],
    ] {
        told.has("ok", parts);
    }
    assert!(rig.group().is_none(), "no group was made");
    assert_eq!((rig.sls.stats().heartbeats, rig.hec.stats()["events"].as_u64()), (0, Some(0)));

    // The same beside a group that works.
    let mut forwarder = rig.forwarder().start();
    forwarder.wait_until("checkpoints at the ends", PATIENCE, || rig.is_drained());
    let before = rig.group().unwrap().checkpoints;
    let told = check(&rig, &[]);
    told.is_well();
    told.has("ok", &["group: consumer group conformance exists: timeout 8 s, without order"]);
    told.has("ok", &["checkpoints: 2 of 2 shards have one, the newest at 20", "by conformance-"]);
    assert_eq!(rig.group().unwrap().checkpoints, before);
    assert_eq!(rig.sls.commits().iter().filter(|commit| commit.consumer == "sls2siem-check").count(), 2);
    let taken =
        |commit: &loadgen::sls::Commit| commit.consumer == "sls2siem-check" && commit.refused.is_none();
    assert!(!rig.sls.commits().iter().any(taken), "what was offered was refused");
    forwarder.stop();
    rig.assert_exact();
    assert_eq!(forwarder.complaints(), [""; 0]);
}

#[test]
fn sls_refuses_the_keys() {
    let rig = Rig::new();
    let wrong = [("sls.access_key_secret_file", ""), ("sls.access_key_secret", "s3cret-that-is-wrong")];
    let told = check(&rig, &wrong);
    told.fails(&[
        "sls: ",
        "the secret does not belong to it",
        "SignatureNotMatch",
        "request id",
        "SLS_AK_KEY",
    ]);
    check(&rig, &[("sls.access_key_id", "LTAIunknown")]).fails(&["does not know access key LTAIunknown"]);
    check(&rig, &[("sls.project", "no-such-project")]).fails(&["there is no project no-such-project"]);
    check(&rig, &[("sls.logstore", "no-such")]).fails(&["there is no logstore no-such", "SLS_LOGSTORE"]);
    let closed = format!("https://127.0.0.1:{}", closed_port());
    check(&rig, &[("sls.endpoint", &closed)]).fails(&["tcp: ", "refuses connections", "check host and port"]);
    check(&rig, &[("sls.ca_file", "")]).fails(&["tls: ", "not trusted", "UnknownIssuer", "[sls] ca_file"]);
}

#[test]
fn each_permission_that_is_missing_is_named() {
    let rig = Rig::new();
    for action in [
        "log:GetCursorOrData",
        "log:ListConsumerGroup",
        "log:CreateConsumerGroup",
        "log:UpdateConsumerGroup",
        "log:GetConsumerGroupCheckPoint",
        "log:ConsumerGroupUpdateCheckPoint",
    ] {
        rig.sls.set_key(key().without(action));
        let told = check(&rig, &[]);
        told.fails(&[
            "permission: ",
            &format!("RAM denies {action}"),
            &format!("allow {action} on acs:log:"),
        ]);
        assert!(!told.graded("ok").iter().any(|line| line.contains(action)), "{:#}", told.all);
    }
    for action in ["log:ListShards", "log:GetLogStore"] {
        rig.sls.set_key(key().without(action));
        let told = check(&rig, &[]);
        told.is_well();
        told.has("warn", &[&format!("RAM denies {action}"), "`run` does without it"]);
    }
    // What the advice says helps.
    rig.sls.set_key(key());
    let told = check(&rig, &[]);
    told.is_well();
    told.has("ok", &["permission: permissions: log:ListShards"]);
}

#[test]
fn a_wrong_clock_is_told_in_seconds() {
    let rig = Rig::with(|sls| sls.clock_skew_ms = 3_600_000, |_| ());
    let told = check(&rig, &[]);
    told.has("fail", &["clock: this machine's clock is 3", " s behind SLS", "timedatectl set-ntp true"]);
    let rig = Rig::with(|sls| sls.clock_skew_ms = -60_000, |_| ());
    let told = check(&rig, &[]);
    told.is_well();
    told.has("warn", &["clock: this machine's clock is ", " s ahead of SLS", "which allows 900"]);
}

#[test]
fn no_room_for_one_more_group() {
    let rig = Rig::new();
    let _written = rig.forwarder();
    let spec = sls2siem::control::sls_api::ApiSpec {
        endpoint: endpoint(&rig.sls.endpoint()),
        project: crate::rig::PROJECT.to_owned(),
        logstore: crate::rig::LOGSTORE.to_owned(),
        group: GROUP.to_owned(),
        consumer: "test".to_owned(),
        version: sls2siem::proto::sls::sign::Version::V1,
        ca_file: Some(rig.path("ca.pem")),
        proxy: None,
        call_timeout: PATIENCE,
    };
    let api = sls2siem::control::sls_api::SlsApi::new(&spec).unwrap();
    let credentials = Credentials {
        access_key_id: KEY_ID.to_owned(),
        access_key_secret: KEY_SECRET.to_owned(),
        security_token: None,
    };
    for number in 0..30 {
        let create = sls2siem::proto::sls::api::create_group(
            crate::rig::LOGSTORE,
            &format!("other-{number}"),
            40,
            false,
        );
        api.send(&create, &credentials).unwrap();
    }
    check(&rig, &[]).fails(&[
        "group: ",
        "has 30 consumer groups",
        "none is conformance",
        "delete unused ones",
    ]);
    let told = check(&rig, &[("sls.consumer_group", "other-7")]);
    told.is_well();
    told.has("warn", &["other settings than these: `run` sets timeout 8 s"]);
}

fn endpoint(url: &str) -> sls2siem::config::Endpoint {
    let (host, port) = url.trim_start_matches("https://").rsplit_once(':').unwrap();
    sls2siem::config::Endpoint {
        https: true,
        host: host.to_owned(),
        port: port.parse().unwrap(),
        is_ip_or_localhost: true,
    }
}

#[test]
fn hec_refuses_the_token_or_the_index() {
    let rig = Rig::new();
    let told = check(&rig, &[("hec.token", WRONG_TOKEN)]);
    told.fails(&["hec-token: ", "refused the token", "HTTP 403, code 4: Invalid token", "HEC_TOKEN"]);
    // The second question is that for the index.
    rig.hec.set_faults(FaultPlan::parse("event.400:7@2").unwrap()).unwrap();
    let told = check(&rig, &[("hec.index", "secret-index")]);
    told.fails(&["hec-index: ", "refuses the index", "code 7", "list of allowed indexes"]);
    check(&rig, &[("hec.index", "main")]).is_well();
    rig.hec.set_tokens(vec![Token { disabled: true, ..Token::new(TOKEN) }]);
    check(&rig, &[]).fails(&["hec-token: ", "the token is disabled", "enable the token in Splunk"]);
    assert_eq!(rig.hec.stats()["events"], 0, "nothing was stored");
}

#[test]
fn acknowledgement_on_or_off() {
    let rig = Rig::new();
    let told = check(&rig, &[]);
    told.is_well();
    told.has(
        "warn",
        &["hec-ack: ", "no indexer acknowledgement: HTTP 200 counts", "turn indexer acknowledgement on"],
    );
    check(&rig, &[("hec.ack", "required")]).fails(&["hec-ack: ", "code 14"]);
    let told = check(&rig, &[("hec.ack", "off")]);
    told.is_well();
    told.has("ok", &["hec-ack: ", "as the settings want it"]);
    rig.hec.set_tokens(vec![Token::new(TOKEN).with_ack()]);
    check(&rig, &[("hec.ack", "required")]).is_well();
    check(&rig, &[("hec.ack", "off")]).has("warn", &["the settings do not wait for it"]);
}

#[test]
fn certificates_and_the_advice_to_pin_them() {
    let rig = Rig::new();
    let told = check(&rig, &[("hec.ca_file", "")]);
    told.fails(&["tls: hec https://", "not trusted", "UnknownIssuer", "[hec] ca_file", "fingerprint:"]);
    let advice = told.graded("fail").concat();
    let pin = advice.split("fingerprint:").last().unwrap().split('"').next().unwrap();
    assert_eq!(pin.len(), 95, "{advice}");
    // What the advice says helps, and only with the right certificate.
    check(&rig, &[("hec.ca_file", ""), ("hec.verify", &format!("fingerprint:{pin}"))]).is_well();
    let other = format!("fingerprint:{}", "00".repeat(32));
    check(&rig, &[("hec.verify", &other)]).fails(&["tls: ", "another certificate than the pinned one", pin]);
    let told = check(&rig, &[("hec.ca_file", ""), ("hec.verify", "off")]);
    told.is_well();
    told.has("warn", &["whoever stands in between", pin]);

    // As splunkd brings it: signed, without a name.
    let tls = loadgen::sink::tls::TlsSettings { splunk_default: true, ..Default::default() };
    let rig = Rig::with(|_| (), |hec| hec.tls = Some(tls));
    check(&rig, &[]).fails(&["another name", "verify = \"ca\" would take it"]);
    check(&rig, &[("hec.verify", "ca")]).is_well();
}

#[test]
fn what_is_not_hec() {
    let rig = Rig::new();
    let closed = format!("[\"https://127.0.0.1:{}\"]", closed_port());
    check(&rig, &[("hec.endpoints", &closed)]).fails(&["tcp: hec https://", "refuses connections"]);
    let plain = format!("[\"{}\"]", rig.hec.url().replace("https://", "http://"));
    check(&rig, &[("hec.endpoints", &plain)]).fails(&[
        "hec-health: ",
        "does not speak HTTP",
        "with https://",
    ]);
    rig.hec.set_faults(FaultPlan::parse("*.redirect").unwrap()).unwrap();
    check(&rig, &[]).fails(&["hec-health: ", "this is Splunk Web, not HEC", "HTTP 303", "8088"]);
    rig.hec.set_faults(FaultPlan::parse("health.503:18").unwrap()).unwrap();
    let told = check(&rig, &[]);
    told.is_well();
    told.has("warn", &["hec-health: ", "its queues are full"]);
}

#[test]
fn lines_for_people_and_wrong_settings() {
    let rig = Rig::new();
    let _written = rig.forwarder();
    let run = |sets: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sls2siem"));
        command.arg("check").arg("--config").arg(rig.path("sls2siem.toml")).env_clear();
        for set in sets {
            command.arg("--set").arg(set);
        }
        let ran = command.output().unwrap();
        (ran.status.code(), String::from_utf8(ran.stdout).unwrap())
    };
    let (code, text) = run(&[&format!("hec.token={WRONG_TOKEN}")]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("ok    host: Linux "), "{text}");
    assert!(text.contains("\nfail  pipeline default: hec https://127.0.0.1:"), "{text}");
    assert!(text.contains(" (HTTP 403, code 4: Invalid token) - set the right token"), "{text}");
    assert!(text.trim_end().ends_with("1 to repair") && !text.contains('\x1b'), "{text}");
    assert_eq!(run(&["hec.batch_age=soon"]).0, Some(78));
    // Who else can read the secrets of the file.
    std::fs::set_permissions(rig.path("sls2siem.toml"), std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .unwrap();
    let (code, text) = run(&[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("warn  settings: ") && text.contains("every user can read it - chmod o= "),
        "{text}"
    );
    assert_eq!(SHARDS, 2);
}

/// A receiver that reads everything and closes when the other side has; what it read.
fn receiver(closes: bool) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = stream;
            let mut text = String::new();
            let _reset = stream.read_to_string(&mut text);
            if !closes {
                kept.push(stream);
            }
            if sender.send(text).is_err() {
                return;
            }
        }
    });
    (address, receiver)
}

fn syslog(rig: &Rig, url: &str, flags: &[&str], more: &[(&str, &str)]) -> Told {
    let text = std::fs::read_to_string(rig.path("sls2siem.toml")).unwrap();
    let mut settings: toml::Table = toml::from_str(&text).unwrap();
    settings.remove("hec");
    let mut syslog = toml::Table::new();
    syslog.insert("endpoints".to_owned(), toml::Value::Array(vec![url.into()]));
    settings.insert("syslog".to_owned(), syslog.into());
    std::fs::write(rig.path("sls2siem.toml"), toml::to_string(&settings).unwrap()).unwrap();
    ask(rig, more, flags)
}

#[test]
fn a_syslog_receiver_that_drains_and_one_that_does_not() {
    let rig = Rig::new();
    let _written = rig.forwarder();
    let (address, seen) = receiver(true);
    let told = syslog(&rig, &format!("tcp://{address}"), &[], &[]);
    told.has("ok", &["syslog: syslog tcp://127.0.0.1:", "it closes after our end", "ack = \"drain\" works"]);
    let silent: String = seen.try_iter().collect();
    assert_eq!(silent, "", "without --probe nothing is sent");
    let told = syslog(&rig, &format!("tcp://{address}"), &["--probe"], &[]);
    told.has("ok", &["syslog-probe: ", "two test messages were sent", "it has read everything"]);
    let text: String = seen.try_iter().collect();
    for number in 1..=2 {
        let part = format!(" sls2siem - check - sls2siem check: test message {number} of 2");
        assert!(text.contains(&part), "{text}");
    }
    let (length, rest) = text.split_once(" <14>1 ").unwrap();
    let first = rest.split_once("of 2").unwrap().0;
    assert_eq!(length.parse::<usize>().unwrap(), "<14>1 ".len() + first.len() + "of 2".len(), "{text}");

    let (address, _seen) = receiver(false);
    let told = syslog(&rig, &format!("tcp://{address}"), &[], &[]);
    told.has(
        "fail",
        &["it does not close within", "ack = \"drain\" would wait for ever", "ack = \"kernel\""],
    );
    let told = syslog(&rig, &format!("tcp://127.0.0.1:{}", closed_port()), &[], &[]);
    told.has(
        "fail",
        &["tcp: syslog tcp://127.0.0.1:", "refuses connections", "check host and port in [syslog]"],
    );
}

#[test]
fn datagrams_and_relp() {
    let rig = Rig::new();
    let _written = rig.forwarder();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("udp://{}", socket.local_addr().unwrap());
    syslog(&rig, &url, &[], &[]).has("warn", &["best effort"]);
    syslog(&rig, &url, &["--probe"], &[]).has("warn", &["two test messages were sent"]);
    let mut buffer = [0; 2048];
    for number in 1..=2 {
        let bytes = socket.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..bytes]);
        assert!(text.starts_with("<14>1 20") && text.contains(&format!("message {number} of 2")), "{text}");
    }
    drop(socket);
    syslog(&rig, &url, &["--probe"], &[]).has("fail", &["refuses connections"]);

    for (answer, grade, part) in [
        ("200 OK", "ok", "RELP: two test messages were acknowledged"),
        ("500 no", "fail", "it refuses the RELP session"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("relp://{}", listener.local_addr().unwrap());
        thread::spawn(move || relp(&listener, answer));
        syslog(&rig, &url, &["--probe"], &[]).has(grade, &[part]);
    }
    let (address, _seen) = receiver(true);
    let told = syslog(&rig, &format!("relp://{address}"), &[], &[]);
    told.has("fail", &["syslog: "]);
}

/// Answers every frame of every connection with this.
fn relp(listener: &TcpListener, answer: &str) {
    for stream in listener.incoming().map_while(Result::ok) {
        let mut stream = stream;
        let (mut input, mut buffer) = (String::new(), [0; 1024]);
        while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
            input.push_str(std::str::from_utf8(&buffer[..bytes]).unwrap());
            loop {
                let mut words = input.splitn(4, ' ');
                let (Some(number), Some(command), Some(length)) = (words.next(), words.next(), words.next())
                else {
                    break;
                };
                let length: usize = length.trim_end().parse().unwrap();
                let head = number.len() + command.len() + length.to_string().len() + 2;
                let whole = head + if length == 0 { 1 } else { length + 2 };
                if input.len() < whole {
                    break;
                }
                let reply = format!("{number} rsp {} {answer}\n", answer.len());
                if stream.write_all(reply.as_bytes()).is_err() {
                    return;
                }
                input.drain(..whole);
            }
        }
    }
}
