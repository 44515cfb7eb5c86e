use super::*;

fn what(text: &[u8]) -> (usize, &'static str) {
    match parse(text) {
        Ok(message) => panic!("{} was taken as {message:?}", String::from_utf8_lossy(text)),
        Err(violation) => (violation.at, violation.what),
    }
}

/// The examples of the RFC.
const GOOD: [&str; 8] = [
    "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \u{feff}'su root' failed for lonvick on /dev/pts/8",
    "<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time to make the do-nuts.",
    "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut=\"3\" \
     eventSource=\"Application\" eventID=\"1011\"] \u{feff}An application event log entry...",
    "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut=\"3\" \
     eventSource=\"Application\" eventID=\"1011\"][examplePriority@32473 class=\"high\"]",
    "<0>1 - - - - - -",
    "<191>1 - - - - - - ",
    "<13>1 2024-02-29T00:00:00+00:00 h a p m [meta sequenceId=\"1\"][origin ip=\"::1\"] x",
    "<13>1 1985-04-12T23:20:50.52Z h a p m [a@1.2.3 k=\"\\\"\\\\\\]\n=[ é\"] {\"k\": \"\n\"}",
];

#[test]
fn the_examples_of_the_rfc_are_accepted() {
    for text in GOOD {
        parse(text.as_bytes()).unwrap_or_else(|why| panic!("{text}: {why:?}"));
    }
    let message = parse(GOOD[0].as_bytes()).unwrap();
    assert_eq!((message.facility, message.severity), (4, 2));
    assert_eq!(message.stamp.unwrap().micros, 1_065_910_455_003_000);
    assert_eq!(message.hostname, Some("mymachine.example.com"));
    assert_eq!((message.app_name, message.proc_id, message.msg_id), (Some("su"), None, Some("ID47")));
    assert!(message.has_bom && message.structured_data.is_empty());
    assert_eq!(message.body, Some("'su root' failed for lonvick on /dev/pts/8".as_bytes()));
    let message = parse(GOOD[3].as_bytes()).unwrap();
    assert_eq!(message.param("exampleSDID@32473", "eventSource"), Some("Application"));
    assert_eq!(message.param("examplePriority@32473", "class"), Some("high"));
    assert_eq!((message.param("meta", "class"), message.body), (None, None));
    assert_eq!(parse(GOOD[5].as_bytes()).unwrap().body, Some(b"".as_slice()));
    assert_eq!(parse(GOOD[7].as_bytes()).unwrap().param("a@1.2.3", "k"), Some("\"\\]\n=[ é"));
}

#[test]
fn a_truncated_header_is_never_accepted() {
    for text in GOOD {
        let bytes = text.as_bytes();
        let header = bytes.len() - parse(bytes).unwrap().body.map_or(0, <[u8]>::len);
        let least = if text.starts_with("<0>") || parse(bytes).unwrap().body.is_none() {
            // A header without a message may end behind its structured data only.
            bytes.len()
        } else {
            header.saturating_sub(4)
        };
        for end in 0..least {
            // Cut behind an element, or behind the nil of the structured data, is a message of its own.
            let cut = &bytes[..end];
            if let Ok(message) = parse(cut) {
                assert!(
                    cut.ends_with(b"]") || cut.ends_with(b" -") || message.body.is_some(),
                    "{text} at {end}"
                );
            }
        }
    }
}

#[test]
fn every_rule_of_the_header_is_held_to_its_letter() {
    let host = |name: &str| format!("<13>1 - {name} a p m - x").into_bytes();
    let app = |name: &str| format!("<13>1 - h {name} p m - x").into_bytes();
    let cases: Vec<(Vec<u8>, usize, &str)> = vec![
        (b"".to_vec(), 0, "no priority"),
        (b"13>1 - - - - - -".to_vec(), 0, "no priority"),
        (b"<192>1 - - - - - -".to_vec(), 1, "from 0 to 191"),
        (b"<1000>1 - - - - - -".to_vec(), 1, "from 0 to 191"),
        (b"<013>1 - - - - - -".to_vec(), 1, "from 0 to 191"),
        (b"<>1 - - - - - -".to_vec(), 1, "from 0 to 191"),
        (b"<+1>1 - - - - - -".to_vec(), 1, "from 0 to 191"),
        (b"<13 >1 - - - - - -".to_vec(), 3, "does not end in >"),
        (b"<13>2 - - - - - -".to_vec(), 4, "version is not 1"),
        (b"<13>10 - - - - - -".to_vec(), 5, "behind the version"),
        (b"<13>1  - - - - - -".to_vec(), 6, "TIMESTAMP is empty"),
        (host(""), 8, "HOSTNAME is empty"),
        (host(&"h".repeat(256)), 8 + 255, "longer than 255"),
        (host("h\u{e9}"), 9, "PRINTUSASCII"),
        (host("h\t"), 9, "PRINTUSASCII"),
        (app(&"a".repeat(49)), 10 + 48, "longer than 48"),
        (app(""), 10, "APP-NAME is empty"),
        (format!("<13>1 - h a {} m - x", "p".repeat(129)).into_bytes(), 12 + 128, "longer than 128"),
        (format!("<13>1 - h a p {} - x", "m".repeat(33)).into_bytes(), 14 + 32, "longer than 32"),
        (b"<13>1 - h a p".to_vec(), 13, "ends early"),
        (b"<13>1 - h a p m x".to_vec(), 16, "neither - nor"),
        (b"<13>1 - h a p m -x".to_vec(), 17, "behind STRUCTURED-DATA"),
        (b"<13>1 - h a p m - \xEF\xBB\xBFok\xFF".to_vec(), 23, "has a BOM"),
    ];
    for (text, at, rule) in cases {
        let (place, found) = what(&text);
        assert!(found.contains(rule), "{}: {found}", String::from_utf8_lossy(&text));
        assert_eq!(place, at, "{}: {found}", String::from_utf8_lossy(&text));
    }
    assert!(parse(&host(&"h".repeat(255))).is_ok() && parse(&app(&"a".repeat(48))).is_ok());
    assert!(parse(b"<13>1 - h a p m - any \xFF octets \0").is_ok(), "MSG-ANY");
}

#[test]
fn every_rule_of_structured_data_is_held_to_its_letter() {
    let long = "n".repeat(33);
    let cases: Vec<(String, &str)> = vec![
        ("[]".to_owned(), "SD-ID is empty"),
        ("[a@1 ]".to_owned(), "PARAM-NAME is empty"),
        ("[a@1  k=\"v\"]".to_owned(), "PARAM-NAME is empty"),
        ("[a@1 k]".to_owned(), "no = behind"),
        ("[a@1 k=v]".to_owned(), "begin with a quote"),
        ("[a@1 k=\"v]".to_owned(), "] without a backslash"),
        ("[a@1 k=\"v".to_owned(), "does not end"),
        ("[a@1 k=\"v\"".to_owned(), "no = behind"),
        ("[a@1 k=\"a\\n\"]".to_owned(), "escapes nothing"),
        ("[a@1 k=\"v\"x]".to_owned(), "neither a parameter nor its end"),
        ("[a@1 k=\"v\"] [b@1]".to_owned(), ""),
        ("[a@1][a@1]".to_owned(), "stands twice"),
        ("[sls k=\"v\"]".to_owned(), "neither registered nor"),
        ("[sls@ k=\"v\"]".to_owned(), "neither registered nor"),
        ("[@1 k=\"v\"]".to_owned(), "neither registered nor"),
        ("[a@b k=\"v\"]".to_owned(), "neither registered nor"),
        (format!("[a@1 {long}=\"v\"]"), "PARAM-NAME is longer"),
        (format!("[{long}@1]"), "SD-ID is longer"),
        ("[a@1 k\"=\"v\"]".to_owned(), "no = behind"),
        ("[a@1 k\u{e9}=\"v\"]".to_owned(), "no = behind"),
    ];
    for (data, rule) in cases {
        let text = format!("<13>1 - h a p m {data} x");
        if rule.is_empty() {
            // A second element behind a space is the message.
            assert_eq!(parse(text.as_bytes()).unwrap().body, Some(b"[b@1] x".as_slice()));
            continue;
        }
        let (_, found) = what(text.as_bytes());
        assert!(found.contains(rule), "{data}: {found}");
    }
    assert!(what(b"<13>1 - h a p m [a@1 k=\"\xFF\"] x").1.contains("not UTF-8"));
}
