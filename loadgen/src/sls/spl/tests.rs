use proptest::prelude::*;

use super::*;
use crate::payload::{Content, Log, LogTag};

fn log(fields: &[(&'static str, &'static str)]) -> Log {
    let contents =
        fields.iter().map(|(key, value)| Content { key: (*key).into(), value: (*value).into() }).collect();
    Log { time: 1_767_323_000, contents, time_ns: Some(5) }
}

fn group(logs: Vec<Log>) -> LogGroup {
    LogGroup {
        logs,
        topic: Some("nginx".into()),
        source: Some("10.0.0.1".into()),
        log_tags: vec![
            LogTag { key: "host".into(), value: "web-1".into() },
            LogTag { key: "zone".into(), value: "b".into() },
        ],
        ..LogGroup::default()
    }
}

/// The values of `n` in the logs that pass.
fn passing(query: &str) -> Vec<String> {
    let logs = vec![
        log(&[("n", "1"), ("status", "200"), ("uri", "/a/b.html"), ("user-agent", "curl")]),
        log(&[("n", "2"), ("status", "404"), ("uri", "/a_c"), ("took", "1.5")]),
        log(&[("n", "3"), ("status", "1000"), ("uri", "it's"), ("took", "x")]),
        log(&[("n", "4")]),
    ];
    let program = Program::parse(query).unwrap_or_else(|mistake| panic!("{query}: {mistake}"));
    let passed = program.apply(group(logs), &mut Lines::default());
    let number = |log: &Log| {
        let n = log.contents.iter().find(|content| content.key == "n").expect("n");
        String::from_utf8_lossy(&n.value).into_owned()
    };
    passed.map(|group| group.logs.iter().map(number).collect()).unwrap_or_default()
}

#[test]
fn comparisons_let_through_what_they_say() {
    let cases: &[(&str, &[&str])] = &[
        ("*", &["1", "2", "3", "4"]),
        ("* | where status = '200'", &["1"]),
        ("*|WHERE status='200'OR status='404'", &["1", "2"]),
        // What is not there is neither equal nor different.
        ("* | where status != '200'", &["2", "3"]),
        ("* | where not status = '200'", &["2", "3"]),
        ("* | where status <> '200' and n <= '2'", &["2"]),
        // Text goes by its characters, numbers by their size.
        ("* | where status > '200'", &["2"]),
        ("* | where cast(status as bigint) > 200", &["2", "3"]),
        ("* | where cast(status as bigint) >= 404.0", &["2", "3"]),
        ("* | where 404 = cast(status as bigint)", &["2"]),
        ("* | where cast(took as double) < 2", &["2"]),
        ("* | where cast(cast(took as double) as bigint) = 2", &["2"]),
        ("* | where cast(n as bigint) = -1", &[]),
        ("* | where status in ('200', '1000')", &["1", "3"]),
        ("* | where status not in ('200')", &["2", "3"]),
        ("* | where cast(status as bigint) in (200, 404)", &["1", "2"]),
        ("* | where uri like '/a%'", &["1", "2"]),
        ("* | where uri like '/a_c'", &["2"]),
        ("* | where uri like '%.html'", &["1"]),
        ("* | where uri not like '%/%'", &["3"]),
        ("* | where uri = 'it''s'", &["3"]),
        (r#"* | where "user-agent" = 'curl'"#, &["1"]),
        ("* | where status = '200' or status = '404' and n = '3'", &["1"]),
        ("* | where (status = '200' or status = '404') and n = '2'", &["2"]),
        ("* | where not (status = '200' or status = '404')", &["3"]),
        // Unknown or true is true; a part that decides spares the rest.
        ("* | where status = '200' or n = '4'", &["1", "4"]),
        ("* | where n = '3' or cast(took as double) > 1.0", &["2", "3"]),
        ("* | where __topic__ = 'nginx' and __source__ like '10.%' and n = '1'", &["1"]),
        (r#"* | where "__tag__:host" = 'web-1' and n = '1'"#, &["1"]),
        ("* | where __time__ = '1767323000' and __time_ns_part__ = '5' and n = '1'", &["1"]),
        ("* | where n > '1' | where n < '4'", &["2", "3"]),
        ("* | project n, status | where uri like '%'", &[]),
        ("* | where uri like '/a%' | project n", &["1", "2"]),
    ];
    for (query, want) in cases {
        assert_eq!(passing(query), *want, "{query}");
    }
}

#[test]
fn a_cast_that_fails_is_a_failed_line() {
    let mut lines = Lines::default();
    let logs = vec![log(&[("a", "1")]), log(&[("a", "x")]), log(&[("a", "")]), log(&[]), log(&[("a", "2")])];
    let program = Program::parse("* | where cast(a as bigint) > 1").unwrap();
    let passed = program.apply(group(logs), &mut lines).unwrap();
    assert_eq!(passed.logs, [log(&[("a", "2")])]);
    assert_eq!(lines, Lines { read: 5, passed: 1, failed: 2 });
    assert_eq!(program.apply(group(vec![log(&[])]), &mut lines), None);
    assert_eq!(lines, Lines { read: 6, passed: 1, failed: 2 });
}

#[test]
fn project_keeps_what_it_names_in_its_order_and_the_time() {
    let logs = vec![log(&[("a", "1"), ("b", "2"), ("a", "3"), ("c", "4")])];
    let program = Program::parse(r#"* | project b, a, missing, __topic__, "__tag__:zone""#).unwrap();
    let group = program.apply(group(logs), &mut Lines::default()).unwrap();
    assert_eq!(group.logs, [log(&[("b", "2"), ("a", "3")])]);
    assert_eq!((group.topic.as_deref(), group.source), (Some(&b"nginx"[..]), None));
    assert_eq!(group.log_tags, [LogTag { key: "zone".into(), value: "b".into() }]);
}

#[test]
fn what_is_not_served_is_refused_where_it_stands() {
    let cases = [
        ("", 1, "begins with"),
        ("status: 200 | where a = '1'", 1, "searching"),
        ("* where a = '1'", 3, "a pipe or the end"),
        ("* | extend a = 1", 5, "command extend"),
        ("* | project-away a", 5, "command project-away"),
        ("* | ", 5, "a command is expected"),
        ("* | project a, b = c", 18, "rename"),
        ("* | project a,", 15, "a field is expected"),
        ("* | where", 10, "a field is expected"),
        ("* | where a", 12, "a comparison is expected"),
        ("* | where a = 1", 15, "cast"),
        ("* | where cast(a as bigint) = '1'", 31, "cast"),
        ("* | where cast(a as varchar) = '1'", 21, "a type"),
        ("* | where cast(a, bigint) = 1", 17, "`as`"),
        ("* | where a in (b)", 17, "literals"),
        ("* | where a in ('x', 1)", 22, "cast"),
        ("* | where a in ()", 17, "a field is expected"),
        ("* | where a like 'x", 18, "not closed"),
        ("* | where a like b", 18, "pattern"),
        ("* | where cast(a as bigint) like '1'", 34, "like is for text"),
        ("* | where a is null", 13, "a comparison is expected"),
        ("* | where regexp_like(a, 'x')", 11, "function regexp_like"),
        ("* | where (a = 'x'", 19, ") is expected"),
        ("* | where a = 'x')", 18, "a pipe or the end"),
        ("* | where user-agent = 'x'", 11, "needs double quotes"),
        ("* | where a not = 'x'", 17, "not stands before"),
        ("* | where cast(a as bigint) > 1e5", 31, "neither"),
        ("* | where cast(a as bigint) > 99999999999999999999", 31, "neither"),
        ("* | where a # 'x'", 13, "'#'"),
        ("* | where and = 'x'", 11, "not the word and"),
        ("* | where 消息 = 1", 16, "cast"),
    ];
    for (query, position, part) in cases {
        let mistake = Program::parse(query).expect_err(query);
        assert_eq!(mistake.position, position, "{query}: {mistake}");
        assert!(mistake.text.contains(part), "{query}: {mistake}");
    }
    let deep = |times: usize, open: &str, close: &str| {
        format!("* | where {}a = 'x'{}", open.repeat(times), close.repeat(times))
    };
    for (open, close) in [("(", ")"), ("not ", "")] {
        assert!(Program::parse(&deep(parse::DEPTH_MAX, open, close)).is_ok(), "{open}");
        let mistake = Program::parse(&deep(100_000, open, close)).expect_err("too deep");
        assert!(mistake.text.contains("nested"), "{mistake}");
    }
}

/// Words of the language in any order, with strange text between.
fn any_query() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("where"),
        Just("project"),
        Just("and"),
        Just("or"),
        Just("not"),
        Just("in"),
        Just("like"),
        Just("cast"),
        Just("as"),
        Just("bigint"),
        Just("double"),
        Just("|"),
        Just("("),
        Just(")"),
        Just(","),
        Just("="),
        Just("!="),
        Just("<"),
        Just("a"),
        Just("'x'"),
        Just("\"n\""),
        Just("1"),
        Just("-2.5"),
        Just("*"),
    ]
    .prop_map(str::to_owned);
    let any = prop_oneof![9 => word, 1 => "\\PC{0,6}"];
    prop::collection::vec(any, 0..30).prop_map(|words| format!("* | {}", words.join(" ")))
}

/// An expression of three values each of which is true, false or unknown, and what it must come to.
fn any_logic() -> impl Strategy<Value = (String, Option<bool>)> {
    let leaf = prop_oneof![
        Just(("t = '1'".to_owned(), Some(true))),
        Just(("t = '2'".to_owned(), Some(false))),
        Just(("gone = '1'".to_owned(), None)),
        Just(("gone in ('1')".to_owned(), None)),
        Just(("t like '_'".to_owned(), Some(true))),
    ];
    leaf.prop_recursive(5, 40, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|(text, it)| (format!("not ({text})"), it.map(|it| !it))),
            (inner.clone(), inner.clone()).prop_map(|((a, x), (b, y))| {
                let both = if x == Some(false) || y == Some(false) { Some(false) } else { x.and(y) };
                (format!("({a}) and ({b})"), both)
            }),
            (inner.clone(), inner).prop_map(|((a, x), (b, y))| {
                let one = if x == Some(true) || y == Some(true) { Some(true) } else { x.and(y) };
                (format!("({a}) or ({b})"), one)
            }),
        ]
    })
}

proptest! {
    /// No text makes the parser panic, and what it takes it can run.
    #[test]
    fn any_text_is_taken_or_refused(query in prop_oneof![any_query(), "\\PC*"]) {
        match Program::parse(&query) {
            Ok(program) => { program.apply(group(vec![log(&[("a", "x"), ("n", "7")])]), &mut Lines::default()); }
            Err(mistake) => prop_assert!((1..=query.chars().count() + 1).contains(&mistake.position)),
        }
    }

    /// `and`, `or` and `not` over true, false and unknown come to what SQL says.
    #[test]
    fn logic_is_three_valued((text, want) in any_logic()) {
        let program = Program::parse(&format!("* | where {text}")).unwrap();
        let passed = program.apply(group(vec![log(&[("t", "1")])]), &mut Lines::default()).is_some();
        prop_assert_eq!(passed, want == Some(true), "{}", text);
    }

    /// `like` agrees with a matcher that tries every split.
    #[test]
    fn like_agrees_with_trying_everything(text in "[ab]{0,8}", pattern in "[ab%_]{0,8}") {
        fn tries(text: &[u8], pattern: &[u8]) -> bool {
            match pattern.split_first() {
                None => text.is_empty(),
                Some((b'%', rest)) => (0..=text.len()).any(|at| tries(&text[at..], rest)),
                Some((want, rest)) => {
                    text.split_first().is_some_and(|(here, tail)| (*want == b'_' || want == here) && tries(tail, rest))
                }
            }
        }
        let program = Program::parse(&format!("* | where t like '{pattern}'")).unwrap();
        let mut log = log(&[]);
        log.contents.push(Content { key: "t".into(), value: text.clone().into() });
        let passed = program.apply(group(vec![log]), &mut Lines::default()).is_some();
        prop_assert_eq!(passed, tries(text.as_bytes(), pattern.as_bytes()));
    }
}
