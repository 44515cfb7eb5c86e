//! The texts that operators read.

use super::*;
use crate::proto::event::{ClosedKind, HecAnswer, SyslogTrouble};
use crate::proto::ids::Cursor;
use crate::proto::sls::body::BodyError;
use crate::proto::time::Instant;

const WALL: UnixTime = UnixTime(1_700_000_000_000_000_000);

fn place() -> Place {
    Place {
        pipeline: "prod".into(),
        endpoint: "https://cn-hangzhou.log.aliyuncs.com:443".into(),
        project: "my-project".into(),
        logstore: "my-logstore".into(),
        consumer_group: "siem".into(),
        access_key_id: "LTAI5t".into(),
        sink: "hec",
        sinks: vec!["https://splunk-1:8088".into(), "https://splunk-2:8088".into()],
        unproven: false,
    }
}

fn error(status: u16, code: &str, message: &str) -> SlsError {
    SlsError {
        status,
        code: code.into(),
        message: message.into(),
        request_id: "5B0A6B60BB6EE39764D458B5".into(),
        server_time: Some(1_699_998_800),
    }
}

fn answer(status: u16, code: Option<u16>, text: &str) -> HecAnswer {
    HecAnswer { status, code, text: text.into(), invalid_event: None, location: None }
}

fn closed(kind: ClosedKind, detail: &str) -> Closed {
    Closed { kind, detail: detail.into() }
}

fn word(scope: Scope, cause: Cause) -> Text {
    alarm(&place(), &Alarm { scope, cause, retry_in: Duration::from_secs(5) }, WALL)
}

fn hec(answer: HecAnswer) -> Text {
    word(Scope::Sink(EndpointId(1)), Cause::Hec(answer))
}

fn source(error: &SlsError) -> Text {
    word(Scope::Shard(ShardId(3)), Cause::Sls(error.clone()))
}

/// All four parts are there, and where it happened.
fn whole(text: &Text) -> String {
    for part in [&text.what, &text.cause, &text.safe, &text.todo] {
        assert!(part.len() > 5 && !part.contains('\n'), "{text:?}");
    }
    assert!(text.what.contains("pipeline prod"), "{text:?}");
    let may_lose = ["shard-gone", "group-gone", "invalid-cursor"].contains(&text.kind);
    let safe = text.safe.contains("nothing lost") || text.safe.contains("nothing skipped");
    assert_eq!(safe, !may_lose, "{text:?}");
    text.to_string()
}

#[test]
fn codes_of_sls() {
    let cases = [
        (401, "SignatureNotMatch", "signature abc not match", "signature", "SLS_AK_KEY"),
        (401, "Unauthorized", "AccessKeyId not found", "unknown-key", "does not know access key LTAI5t"),
        (401, "Unauthorized", "AccessKeyId is unauthorized", "unknown-key", "SLS_AK_ID"),
        (401, "Unauthorized", "AccessKeyId is disabled", "key-disabled", "enable it"),
        (401, "Unauthorized", "security token you provided has expired", "security-token", "ecs-ram-role"),
        (401, "InvalidAccessKeyId.NotFound", "x", "unknown-key", "SLS_AK_ID"),
        (401, "SecurityToken.Expired", "x", "security-token", "renew"),
        (
            401,
            "Unauthorized",
            "denied by sts or ram, action: log:ListShards, resource: acs:log:cn:1:project/p/logstore/l",
            "permission",
            "allow log:ListShards on acs:log:cn:1:project/p/logstore/l",
        ),
        (403, "ProjectForbidden", "x", "project-suspended", "arrears"),
        (400, "RequestTimeExpired", "x", "clock", "1200 s ahead of SLS"),
        (400, "requesttimetooskewed", "x", "clock", "timedatectl"),
        (404, "ProjectNotExist", "x", "no-project", "no project my-project at https://cn-hangzhou"),
        (404, "LogStoreNotExist", "x", "no-logstore", "no logstore my-logstore in project my-project"),
        (400, "LogStoreWithoutShard", "x", "no-shard", "give the logstore a shard"),
        (404, "ShardNotExsit", "x", "shard-gone", "split or merged"),
        (400, "ConsumerGroupQuotaExceed", "x", "group-quota", "30 groups per logstore: delete unused ones"),
        (
            403,
            "ShardReadQuotaExceed",
            "shard read bytes exceed quota limits",
            "read-quota",
            "split the shard",
        ),
        (404, "ConsumerGroupNotExist", "x", "group-gone", "made again"),
        (400, "ConsumerNotExsit", "x", "lease-lost", "another consumer"),
        (400, "consumernotmatch", "x", "lease-lost", "another consumer"),
        (400, "InvalidCursor", "x", "invalid-cursor", "on_expired_cursor"),
        (400, "ParameterInvalid", "bad query", "sls-refused", "query, processor and compression"),
        (400, "InvalidAcceptEncoding", "x", "encoding", "lz4 is used instead"),
        (403, "AccessDenied", "no; denied action: log:GetCursorOrData", "permission", "log:GetCursorOrData"),
        (500, "InternalServerError", "x", "server", "tried again"),
        (503, "", "<html>", "server", "tried again"),
        (400, "", "<html>", "not-sls", "something in between"),
    ];
    for (status, code, message, kind, part) in cases {
        let error = error(status, code, message);
        let text = source(&error);
        let line = whole(&text);
        assert_eq!(text.kind, kind, "{line}");
        assert!(line.contains(part), "{part}: {line}");
        assert!(
            line.contains(&format!("HTTP {status}")) && line.contains("5B0A6B60BB6EE39764D458B5"),
            "{line}"
        );
        assert!(line.contains("my-project/my-logstore: pull of shard 3"), "{line}");
        assert!(line.ends_with("(next try in 5 s)"), "{line}");
    }
}

#[test]
fn calls_of_the_control_plane() {
    let group = sls_error(&place(), Doing::CreateGroup, &error(400, "ConsumerGroupQuotaExceed", "x"), WALL);
    let line = whole(&group);
    assert!(line.contains("making the consumer group") && line.contains("now siem"), "{line}");
    let beat = sls_unreachable(
        &place(),
        Doing::Heartbeat,
        &closed(ClosedKind::Connect, "Connection refused (os error 111)"),
    );
    let line = whole(&beat);
    assert!(
        line.contains("SLS at https://cn-hangzhou") && line.contains("[sls]") && line.contains("given up"),
        "{line}"
    );
    let save = sls_error(&place(), Doing::SaveCheckpoint(ShardId(1)), &error(500, "ServerBusy", "x"), WALL);
    assert!(whole(&save).contains("come twice"));
}

#[test]
fn a_clock_that_is_behind() {
    let mut late = error(400, "RequestTimeExpired", "x");
    late.server_time = Some(1_700_003_600);
    assert!(source(&late).to_string().contains("3600 s behind SLS"));
    late.server_time = None;
    assert!(source(&late).to_string().contains("refuses the time of the request ("));
}

#[test]
fn codes_of_hec() {
    let cases = [
        (403, Some(1), "hec-token", "enable the token in Splunk"),
        (401, Some(2), "hec-token", "Authorization header"),
        (401, Some(3), "hec-token", "HEC_TOKEN"),
        (403, Some(4), "hec-token", "refused the token"),
        (400, Some(5), "hec-event", "no data"),
        (400, Some(6), "hec-event", "batch_bytes"),
        (400, Some(7), "hec-index", "list of allowed indexes"),
        (500, Some(8), "hec-server", "splunkd.log"),
        (503, Some(9), "hec-busy", "queues are full"),
        (400, Some(10), "hec-channel", "load balancer"),
        (400, Some(11), "hec-channel", "rewrites headers"),
        (400, Some(12), "hec-event", "[hec] event"),
        (400, Some(13), "hec-event", "empty event"),
        (400, Some(14), "hec-ack-off", "indexer acknowledgement"),
        (400, Some(15), "hec-event", "[hec] fields"),
        (400, Some(16), "hec-token", "in the query"),
        (503, Some(18), "hec-busy", "queues"),
        (503, Some(19), "hec-busy", "acknowledgements"),
        (503, Some(23), "hec-busy", "shutting down"),
        (429, Some(26), "hec-busy", "slows down"),
        (429, Some(27), "hec-busy", "acknowledgements"),
        (400, Some(28), "hec-channel", "cookies"),
        (404, Some(404), "hec-not-found", "enable HEC"),
        (303, None, "hec-redirect", "this is Splunk Web, not HEC"),
        (401, None, "hec-token", "a proxy or firewall"),
        (405, None, "hec-not-found", "8088"),
        (413, None, "hec-too-large", "batch_bytes"),
        (415, None, "hec-encoding", "compression"),
        (429, None, "hec-busy", "slows down"),
        (502, None, "hec-gateway", "load balancer"),
        (503, None, "hec-busy", "is busy"),
        (507, None, "hec-server", "splunkd.log"),
        (200, None, "hec-unclear", "not in the words of HEC"),
        (418, None, "hec-refused", "see the text"),
    ];
    for (status, code, kind, part) in cases {
        let text = hec(answer(status, code, "the text"));
        let line = whole(&text);
        assert_eq!(text.kind, kind, "{line}");
        assert!(line.contains(part), "{part}: {line}");
        assert!(line.contains("hec https://splunk-2:8088"), "{line}");
        assert!(line.contains(&format!("HTTP {status}")) && line.contains("the text"), "{line}");
    }
}

#[test]
fn a_redirect_names_its_target_but_not_its_query() {
    let mut redirect = answer(303, None, "See Other");
    redirect.location = Some("http://splunk-1:8000/en-US/account/login?return_to=s3cret".into());
    let line = hec(redirect).to_string();
    assert!(line.contains("Location http://splunk-1:8000/en-US/account/login"), "{line}");
    assert!(!line.contains("s3cret"), "{line}");
}

#[test]
fn ends_of_connections() {
    use ClosedKind::{Connect, Eof, Reset, Resolve, Timeout, Tls};
    let cases = [
        (Resolve, "failed to lookup address information", "resolve", "getent hosts"),
        (Connect, "Connection refused (os error 111)", "connect-refused", "nothing listens"),
        (Connect, "No route to host (os error 113)", "unreachable", "route"),
        (Connect, "Connection timed out (os error 110)", "connect-timeout", "firewall"),
        (Connect, "Network is down (os error 100)", "connect", "host and port"),
        (Tls, "invalid peer certificate: UnknownIssuer", "tls-untrusted", "ca_file"),
        (Tls, "invalid peer certificate: certificate not valid for name \"h\"", "tls-name", "server_name"),
        (Tls, "invalid peer certificate: NotValidForName", "tls-name", "verify = \"ca\""),
        (Tls, "invalid peer certificate: certificate expired: verification time 1", "tls-expired", "renew"),
        (Tls, "invalid peer certificate: certificate not valid yet", "tls-expired", "clock"),
        (Tls, "the certificate's fingerprint is not the pinned one", "tls-pin", "in between"),
        (Tls, "received fatal alert: CertificateRequired", "tls-client-cert", "client_cert"),
        (Tls, "received fatal alert: ProtocolVersion", "tls-handshake", "TLS 1.2"),
        (Tls, "peer is incompatible: no shared cipher", "tls-handshake", "ECDHE"),
        (Tls, "received corrupt message of type InvalidContentType", "tls-plain", "http://"),
        (Tls, "invalid peer certificate: BadEncoding", "tls-certificate", "openssl s_client"),
        (Eof, "closed", "closed", "answers owed"),
        (Reset, "Connection reset by peer (os error 104)", "reset", "broke"),
        (Timeout, "no answer after 60 s", "timeout", "[hec] timeout"),
    ];
    for (kind, detail, word_of_cause, part) in cases {
        let text = word(Scope::Sink(EndpointId(0)), Cause::Transport(closed(kind, detail)));
        let line = whole(&text);
        assert_eq!(text.kind, word_of_cause, "{line}");
        assert!(line.contains(part) && line.contains(detail), "{part}: {line}");
        let text = word(Scope::Shard(ShardId(0)), Cause::Transport(closed(kind, detail)));
        let line = whole(&text);
        assert!(!line.contains("[hec]") && !line.contains("verify"), "{line}");
    }
}

#[test]
fn damaged_and_oversized_pulls_are_held_never_skipped() {
    let cause = Cause::CorruptBody {
        error: BodyError::RawSize { announced: 10, found: 9 },
        cursor: Cursor::new("MTIz"),
        request_id: "R1".into(),
    };
    let line = whole(&word(Scope::Shard(ShardId(7)), cause));
    for part in ["shard 7", "MTIz", "R1", "9 bytes", "nothing skipped", "pulled again"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let cause = Cause::PullTooLarge { raw_bytes: 99, limit_bytes: 10, cursor: Cursor::new("MTIz") };
    let line = whole(&word(Scope::Shard(ShardId(7)), cause));
    assert!(line.contains("99 bytes, 10 allowed") && line.contains("memory"), "{line}");
    let line = whole(&word(Scope::Sink(EndpointId(0)), Cause::Protocol("no status line".into())));
    assert!(line.contains("HTTP/1.1") && line.contains("scheme and port in [hec]"), "{line}");
    assert!(line.contains("nothing lost") && !line.contains("pulled again"), "{line}");
}

#[test]
fn gaps() {
    let (from, to) = (Cursor::new("c1"), Cursor::new("c9"));
    let gap = retention_gap(&place(), ShardId(2), (&from, Some(1_700_000_000)), Some((&to, None)));
    let line = gap.to_string();
    assert!(
        line.contains("gap from 2023-11-14T22:13:20Z (c1) to an unknown time (c9)")
            && line.contains("are lost"),
        "{line}"
    );
    let held = retention_gap(&place(), ShardId(2), (&from, None), None).to_string();
    assert!(held.contains("an unknown time (c1) to the oldest data") && held.contains("held"), "{held}");
}

#[test]
fn peers_cannot_forge_lines_nor_flood_them() {
    let text = source(&error(400, "X\nERROR", &format!("a\r\nb{}", "x".repeat(10_000))));
    let line = whole(&text);
    assert!(!line.contains(['\n', '\r']) && line.len() < 1_000, "{line}");
    let text = hec(answer(400, None, "\u{1b}[31m\0\u{202e}"));
    assert!(!whole(&text).contains(is_control));
}

#[test]
fn exit_codes_are_those_of_the_reference() {
    let codes =
        [Exit::Done, Exit::Failed, Exit::Usage, Exit::Unreachable, Exit::Bug, Exit::Refused, Exit::Config];
    assert_eq!(codes.map(|exit| exit as u8), [0, 1, 64, 69, 70, 77, 78]);
}

const SINK: Subject = Subject::Data(Scope::Sink(EndpointId(0)));

fn at(seconds: u64) -> Instant {
    Instant(seconds * 1_000_000_000)
}

#[test]
fn one_line_per_change_and_one_at_the_end() {
    let mut book = Alarms::default();
    let busy = || hec(answer(503, Some(9), "Server is busy"));
    let line = book.raise(at(0), 0, "prod", SINK, busy()).unwrap();
    assert_eq!((line.level, line.text), (Level::Warn, busy().to_string()));
    for second in 1..17 {
        assert_eq!(book.raise(at(second), 0, "prod", SINK, busy()), None);
    }
    let line = book.clear(at(35), 0, "prod", SINK, 0).unwrap();
    assert_eq!(line.level, Level::Info);
    assert!(line.text.ends_with("works again after 17 attempts in 35 s"), "{}", line.text);
    assert_eq!(book.clear(at(36), 0, "prod", SINK, 0), None);
    assert_eq!(book.current(at(37)).count(), 0);
    assert_eq!(book.remind(at(35 + 60)), Vec::new());
    assert!(book.raise(at(96), 0, "prod", SINK, busy()).is_some(), "a new trouble is told at once");
    assert_eq!(book.current(at(97)).count(), 1);
}

#[test]
fn what_comes_and_goes_is_summed_up() {
    let mut book = Alarms::default();
    let busy = || hec(answer(503, Some(9), "Server is busy"));
    let mut lines = Vec::new();
    // Every two seconds for ten minutes: down for one second, up for one.
    for second in 0..600 {
        if second % 2 == 0 {
            lines.extend(book.raise(at(second), 0, "prod", SINK, busy()));
        } else {
            lines.extend(book.clear(at(second), 0, "prod", SINK, 1));
        }
        lines.extend(book.remind(at(second)));
    }
    assert_eq!(lines[0].text, busy().to_string(), "the first one at once");
    assert!(lines[1].text.ends_with("works again after 1 attempt in 1 s"), "{lines:?}");
    assert!((9..=13).contains(&lines.len()), "{} lines in ten minutes: {lines:#?}", lines.len());
    let summary = &lines[2];
    assert_eq!(summary.level, Level::Warn);
    assert!(summary.text.contains("came and went 31 times (30 attempts) in 1 min 0 s"), "{}", summary.text);
    assert!(summary.text.contains("[hec]") || summary.text.contains("slows down"), "still says what to do");
    // Then it is quiet: the last ones are summed up, then the book is empty and silent.
    let lines: Vec<_> = (600..1_200).flat_map(|second| book.remind(at(second))).collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].text.ends_with("it works now"), "{lines:#?}");
    assert_eq!(book.current(at(1_200)).count(), 0);
    assert!(book.raise(at(1_200), 0, "prod", SINK, busy()).is_some());
}

#[test]
fn what_comes_back_and_stays_is_told_soon() {
    let mut book = Alarms::default();
    let busy = || hec(answer(503, Some(9), "Server is busy"));
    book.raise(at(0), 0, "prod", SINK, busy());
    book.clear(at(1), 0, "prod", SINK, 1);
    assert_eq!(book.raise(at(5), 0, "prod", SINK, busy()), None);
    assert_eq!(book.current(at(6)).count(), 1, "the status page shows it at once");
    let lines: Vec<_> = (5..30).flat_map(|second| book.remind(at(second))).collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].text.ends_with("again, for 10 s now"), "{lines:#?}");
    assert!(book.clear(at(40), 0, "prod", SINK, 7).is_some(), "what was told has an end that is told");
    // Another cause is another line, even in between.
    assert!(book.raise(at(45), 0, "prod", SINK, hec(answer(403, Some(4), "Invalid token"))).is_some());
}

#[test]
fn causes_that_take_turns_do_not_flood() {
    let mut book = Alarms::default();
    let texts = [hec(answer(503, Some(9), "busy")), hec(answer(403, Some(4), "Invalid token"))];
    let lines = (0..500)
        .filter_map(|second| {
            book.raise(at(second), 0, "prod", SINK, texts[usize::from(second % 2 == 0)].clone())
        })
        .count();
    assert_eq!(lines, 2);
}

#[test]
fn what_lasts_is_told_every_ten_minutes() {
    let mut book = Alarms::default();
    book.raise(at(0), 0, "prod", SINK, hec(answer(403, Some(4), "Invalid token")));
    let lines: Vec<_> = (1..=3_600).flat_map(|second| book.remind(at(second))).collect();
    assert_eq!(lines.len(), 6);
    assert!(lines[5].text.ends_with("for 1 h 0 min now"), "{}", lines[5].text);
}

#[test]
fn the_last_executor_ends_a_trouble() {
    let mut book = Alarms::default();
    let text = || hec(answer(503, None, "busy"));
    assert!(book.raise(at(0), 0, "prod", SINK, text()).is_some());
    assert!(book.raise(at(1), 1, "prod", SINK, text()).is_none());
    assert_eq!(book.clear(at(2), 0, "prod", SINK, 9), None);
    let line = book.clear(at(3), 1, "prod", SINK, 4).unwrap();
    assert!(line.text.ends_with("after 9 attempts in 3 s"), "{}", line.text);
    book.raise(at(4), 0, "prod", SINK, text());
    book.forget("prod", SINK);
    assert_eq!(book.current(at(5)).count(), 0);
}

#[test]
fn the_book_is_bounded() {
    let mut book = Alarms::default();
    for shard in 0..u32::try_from(ENTRIES_MAX).unwrap() + 10 {
        let subject = Subject::Data(Scope::Shard(ShardId(shard)));
        book.raise(at(0), 0, "prod", subject, source(&error(500, "ServerBusy", "x")));
    }
    assert_eq!((book.current(at(1)).count(), book.unwritten()), (ENTRIES_MAX, 10));
}

#[test]
fn what_a_syslog_receiver_does_wrong_names_another_way() {
    let syslog = Place { sink: "syslog", sinks: vec!["tcp://siem:514".into()], ..place() };
    let word = |place: &Place, cause: Cause| {
        let retry_in = Duration::from_secs(5);
        let alarm = Alarm { scope: Scope::Sink(EndpointId(0)), cause, retry_in };
        super::alarm(place, &alarm, WALL).to_string()
    };
    let waited = Duration::from_secs(90);
    let closed = closed(ClosedKind::Eof, "siem:514 (10.0.0.1:514): the peer ended the connection");
    for (trouble, parts) in [
        (
            SyslogTrouble::NeverEnds { waited },
            &[
                "does not end the connection",
                "no FIN within 1 min 30 s",
                "can arrive twice",
                "RELP",
                "ack = \"kernel\"",
            ][..],
        ),
        (
            SyslogTrouble::EndsEarly { closed: closed.clone() },
            &["ends connections before we do", "10.0.0.1:514", "nothing lost", "idle timeout", "RELP"],
        ),
        (SyslogTrouble::Stalled { waited }, &["has stopped reading", "nothing lost", "pulls pause"]),
        (
            SyslogTrouble::OpenRefused { answer: "500 not\nyou".into() },
            &["refused the RELP session", "500 not you", "nothing lost", "imrelp"],
        ),
        (SyslogTrouble::ServerClose, &["closes RELP sessions", "serverclose", "nothing lost", "its log"]),
        (
            SyslogTrouble::Silent { waited, owed: 0 },
            &["does not answer over RELP", "no answer to open", "timeout"],
        ),
        (SyslogTrouble::Silent { waited, owed: 7 }, &["7 messages without one", "nothing lost"]),
        (
            SyslogTrouble::NotRelp { detail: "byte 0x48".into() },
            &["does not speak RELP", "byte 0x48", "tcp:// or tls://"],
        ),
    ] {
        let text = word(&syslog, Cause::Syslog(trouble));
        for part in parts.iter().chain(&["pipeline prod: syslog tcp://siem:514", "next try in 5 s"]) {
            assert!(text.contains(part), "{part:?} is missing in {text}");
        }
    }
    // Where a write counts, nobody is told that nothing is lost.
    let unproven = Place { unproven: true, ..syslog };
    let text = word(&unproven, Cause::Transport(closed));
    assert!(text.contains("may be lost") && !text.contains("nothing lost"), "{text}");
}
