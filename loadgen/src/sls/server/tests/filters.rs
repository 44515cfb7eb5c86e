//! Pulls through a filter.

use super::*;

fn log(level: &str, number: u32) -> Log {
    let content = |key: &'static str, value: String| Content { key: key.into(), value: value.into() };
    let contents = vec![content("level", level.to_owned()), content("n", number.to_string())];
    Log { time: number, contents, time_ns: Some(number) }
}

/// Three groups: two errors of four, none of two, one of one.
fn filled() -> SlsServer {
    let server = server(|config| {
        config.processors = vec![("errors".into(), "* | where level = 'ERROR' | project n".into())];
    });
    let groups = [
        vec![log("ERROR", 1), log("INFO", 2), log("WARN", 3), log("ERROR", 4)],
        vec![log("INFO", 5), log("INFO", 6)],
        vec![log("ERROR", 7)],
    ];
    for logs in groups {
        let group = LogGroup { logs, topic: Some("t".into()), ..LogGroup::default() };
        server.store().append(0, &group).unwrap();
    }
    server
}

fn pull(server: &SlsServer, group: u64, count: u32, more: &str) -> Answer {
    let cursor = server.store().cursor(0, group).unwrap();
    let target = format!("{SHARDS}/0?type=logs&cursor={cursor}&count={count}{more}");
    Client::to(server).call("GET", &target, &[("accept-encoding", "lz4")], b"")
}

/// Percent-encoded: `* | where level = 'ERROR'`.
const ERRORS: &str = "&query=*+%7C+where+level+%3D+%27ERROR%27";

fn headers(answer: &Answer) -> [Option<&str>; 6] {
    ["count", "rawdatasize", "rawdatacount", "rawdatalines", "resultlines", "failedlines"]
        .map(|name| answer.headers.iter().find(|h| h.0 == format!("x-log-{name}")).map(|h| h.1.as_str()))
}

#[test]
fn a_query_gives_what_passes_and_says_what_it_has_read() {
    let server = filled();
    let whole = pull(&server, 0, 1000, "");
    let size = whole.header("x-log-bodyrawsize").unwrap();
    assert_eq!(headers(&whole), [Some("3"), None, None, None, None, None]);
    assert!(whole.header("x-log-read-last-cursor").is_some());
    for mode in ["", "&pullMode=scan_on_stream"] {
        let answer = pull(&server, 0, 1000, &format!("{ERRORS}{mode}"));
        let logs: Vec<Vec<Log>> = answer.raw().unwrap().log_groups.into_iter().map(|it| it.logs).collect();
        assert_eq!(logs, [vec![log("ERROR", 1), log("ERROR", 4)], vec![log("ERROR", 7)]]);
        assert_eq!(headers(&answer), [Some("2"), Some(size), Some("3"), Some("7"), Some("3"), Some("0")]);
        assert_eq!(answer.header("x-log-cursor"), whole.header("x-log-cursor"));
        assert_eq!(answer.header("x-log-end-of-cursor"), Some("1"));
        assert_eq!(answer.header("x-log-read-last-cursor"), None);
    }
    assert_eq!(server.stats().records, 7 + 3 + 3);
}

#[test]
fn a_filter_that_lets_nothing_through_still_moves_the_cursor() {
    let server = filled();
    let answer = pull(&server, 1, 1, ERRORS);
    assert_eq!(
        headers(&answer)[..5],
        [Some("0"), answer.header("x-log-rawdatasize"), Some("1"), Some("2"), Some("0")]
    );
    assert_eq!((answer.header("x-log-bodyrawsize"), answer.body.len()), (Some("0"), 0));
    assert_eq!(answer.header("x-log-compresstype"), None);
    assert_eq!(answer.header("x-log-cursor"), Some(server.store().cursor(0, 2).unwrap().as_str()));
    assert_eq!(answer.header("x-log-end-of-cursor"), None);
}

#[test]
fn a_processor_stands_for_its_query_and_goes_before_another() {
    let server = filled();
    for more in
        ["&processor=errors".to_owned(), format!("&processor=errors{}", ERRORS.replace("ERROR", "INFO"))]
    {
        let answer = pull(&server, 0, 1000, &more);
        let list = answer.raw().unwrap();
        let logs: Vec<&Log> = list.log_groups.iter().flat_map(|group| &group.logs).collect();
        assert_eq!(logs.len(), 3);
        assert!(logs.iter().all(|log| log.contents.len() == 1
            && log.contents[0].key == "n"
            && log.time_ns == Some(log.time)));
        assert!(list.log_groups.iter().all(|group| group.topic.is_none()));
    }
    assert_eq!(pull(&server, 0, 1, "&processor=other").refusal(), (400, "ParameterInvalid".into()));
    server.set(|levers| levers.set_processor("other", "* | where level = 'INFO'").unwrap());
    assert_eq!(pull(&server, 0, 1000, "&processor=other").header("x-log-resultlines"), Some("3"));
    let mut admin = Client::at(server.admin_addr().unwrap());
    assert_eq!(admin.post("/processor?name=other", "* | where level = 'WARN'").status, 200);
    assert_eq!(admin.post("/processor?name=other", "* | stats count(*)").status, 400);
    assert_eq!(admin.get("/processors").json()["other"], "* | where level = 'WARN'");
    assert_eq!(pull(&server, 0, 1000, "&processor=other").header("x-log-resultlines"), Some("1"));
}

#[test]
fn what_is_not_served_is_refused_with_its_position() {
    let server = filled();
    for (more, part) in [
        ("&query=level:+ERROR", "character 1"),
        ("&query=*+%7C+stats+count(*)", "character 5"),
        ("&pullMode=scan_on_stream", "wants a query"),
        ("&query=*&pullMode=other", "other"),
        ("&queryId=7", "queryId"),
    ] {
        let answer = pull(&server, 0, 1, more);
        assert_eq!(answer.refusal(), (400, "ParameterInvalid".into()), "{more}");
        let text = answer.json()["errorMessage"].as_str().unwrap().to_owned();
        assert!(text.contains(part), "{more}: {text}");
    }
    assert!(
        SlsServer::start(SlsConfig { processors: vec![("p".into(), "x".into())], ..SlsConfig::default() })
            .is_err()
    );
}
