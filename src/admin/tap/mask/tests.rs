use super::*;

fn rule(names: &[&str]) -> Rule {
    Rule::new(names.iter().map(|name| (*name).to_owned()).collect(), false)
}

fn all() -> Rule {
    Rule::new(Vec::new(), true)
}

fn hec() -> Form {
    Form { message: Message::Hec { raw: None }, made: vec![("host".into(), "{client}-x".into())] }
}

fn syslog(is_5424: bool, body: Body) -> Form {
    let header = vec!["{__source__}".to_owned(), "{app}".to_owned()];
    let made = vec![("who".to_owned(), "{event.user.name}".to_owned())];
    Form { message: Message::Syslog { is_5424, header, body }, made }
}

/// The masked message, and which names were hidden.
fn apply(rule: &mut Rule, form: &Form, text: &str) -> (String, Vec<String>) {
    let masked = rule.apply(form, text.as_bytes());
    (masked, rule.hidden().map(str::to_owned).collect())
}

#[test]
fn members_of_hec_are_hidden_anywhere_and_the_rest_stays_byte_for_byte() {
    let text = r#"{"time":1700000000.123456789,"host":"h","event":{"a":"x","pass":"s3cret","a":"\u0041 \n","n":{"pass":[1,{"k":2}],"b":1.50}}}"#;
    let (masked, hidden) = apply(&mut rule(&["pass", "missing"]), &hec(), text);
    assert_eq!(
        masked,
        r#"{"time":1700000000.123456789,"host":"h","event":{"a":"x","pass":"***","a":"\u0041 \n","n":{"pass":"***","b":1.50}}}"#
    );
    assert_eq!(hidden, ["pass"]);
    let (same, hidden) = apply(&mut rule(&["missing"]), &hec(), text);
    assert_eq!((same.as_str(), hidden.len()), (text, 0));
    assert_eq!(rule(&[]).apply(&hec(), text.as_bytes()), text);
}

#[test]
fn keys_that_are_escaped_are_found() {
    let (masked, _) = apply(&mut rule(&["pässword"]), &hec(), r#"{"event":{"p\u00e4ssword":"s3cret"}}"#);
    assert!(!masked.contains("s3cret"), "{masked}");
}

#[test]
fn members_that_are_made_of_a_hidden_field_are_hidden_too() {
    let text = r#"{"host":"s3cret-x","event":{"client":"s3cret"}}"#;
    let (masked, hidden) = apply(&mut rule(&["client"]), &hec(), text);
    assert_eq!((masked.as_str(), hidden.len()), (r#"{"host":"***","event":{"client":"***"}}"#, 1));
    let raw = Form { message: Message::Hec { raw: Some("msg".into()) }, made: Vec::new() };
    assert_eq!(apply(&mut rule(&["msg"]), &raw, r#"{"event":"s3cret"}"#).0, r#"{"event":"***"}"#);
}

#[test]
fn json_inside_of_a_string_is_looked_into() {
    let text = r#"{"event":"{\"a\":1,\"pass\":\"s3cret\",\"deep\":\"{\\\"pass\\\":\\\"s3cret\\\"}\"}"}"#;
    let (masked, hidden) = apply(&mut rule(&["pass"]), &hec(), text);
    assert!(!masked.contains("s3cret") && masked.contains(r#"\"a\":1"#), "{masked}");
    assert_eq!(hidden, ["pass"]);
    serde_json::from_str::<serde_json::Value>(&masked).unwrap();
    // It looks like JSON, is none, and the name is in it.
    let torn = r#"{"event":{"a":"{\"pass\":\"s3c","b":"[x] pass","c":"[info] fine"}}"#;
    let (masked, _) = apply(&mut rule(&["pass"]), &hec(), torn);
    assert_eq!(masked, r#"{"event":{"a":"***","b":"***","c":"[info] fine"}}"#);
}

#[test]
fn everything_but_keys() {
    let text = r#"{"time":1.5,"event":{"a":"x","n":[1,"y",{"b":null}],"e":{}}}"#;
    let masked = all().apply(&hec(), text.as_bytes());
    assert_eq!(masked, r#"{"time":"***","event":{"a":"***","n":["***","***",{"b":"***"}],"e":{}}}"#);
}

#[test]
fn what_is_no_json_is_hidden_from_there_on() {
    for text in [
        r#"{"a":"x" "pass":"s3cret"}"#,
        r#"{"a":"x","pass":"s3cret"#,
        r"pass=s3cret",
        r#"{"a":s3cret"}"#,
        r#"{"a":"x"} s3cret"#,
        "",
    ] {
        let (masked, _) = apply(&mut rule(&["pass"]), &hec(), text);
        assert!(!masked.contains("s3cret") && masked.ends_with("***"), "{text}: {masked}");
    }
    let deep = format!("{}\"s3cret\"{}", "[".repeat(1_000), "]".repeat(1_000));
    assert!(!apply(&mut rule(&["pass"]), &hec(), &deep).0.contains("s3cret"));
}

const NEW: &str = "<14>1 2026-01-02T03:04:05.6Z host app - - ";

#[test]
fn syslog_header_data_and_json() {
    let form = syslog(true, Body::Json);
    let text = format!(r#"{NEW}[a@1 who="s3cret\"]x" b="y"] {{"pass":"s3cret","b":"y"}}"#);
    let (masked, hidden) = apply(&mut rule(&["pass", "name"]), &form, &text);
    assert_eq!(masked, format!(r#"{NEW}[a@1 who="***" b="y"] {{"pass":"***","b":"y"}}"#));
    assert_eq!(hidden, ["pass", "name"]);
    let (masked, _) = apply(&mut rule(&["app"]), &form, &format!(r#"{NEW}- {{"app":"app"}}"#));
    assert_eq!(masked, r#"<14>1 2026-01-02T03:04:05.6Z *** *** - - - {"app":"***"}"#);
    let part = format!("{NEW}- [part 2/3 id=0123456789abcdef] et\"}}");
    assert!(apply(&mut rule(&["pass"]), &form, &part).0.ends_with(" - ***"));
    assert_eq!(apply(&mut rule(&["pass"]), &form, "no header").0, "***");
    assert_eq!(
        all().apply(&form, text.as_bytes()),
        r#"<14>1 2026-01-02T03:04:05.6Z *** *** - - [a@1 who="***" b="***"] {"pass":"***","b":"***"}"#
    );
}

#[test]
fn pairs_ours_and_the_vendors() {
    let form = syslog(true, Body::Pairs("||".into()));
    let text = format!(r#"{NEW}- a=x||pass=s3=cret||json={{"pass":"s3cret","b":1}}||c=y"#);
    let (masked, _) = apply(&mut rule(&["pass"]), &form, &text);
    assert_eq!(masked, format!(r#"{NEW}- a=x||pass=***||json={{"pass":"***","b":1}}||c=y"#));
    // A value of the vendor's form may hold the separator.
    let (masked, _) = apply(&mut rule(&["pass"]), &form, &format!("{NEW}- ||pass=s3||cret||b=y"));
    assert_eq!(masked, format!("{NEW}- ||pass=***||b=y"));
    assert_eq!(
        all().apply(&form, format!("{NEW}- a=x||b=").as_bytes()).rsplit_once("- ").unwrap().1,
        "a=***||b=***"
    );
}

#[test]
fn cef_and_leef() {
    let cef = syslog(false, Body::Cef);
    let text = r"<14>Jan  2 03:04:05 host CEF:0|V|P\||1|id|name|5|rt=1 userAgent=Mozilla 5 a\=b slsPassWord=s3cret two  src=1.2.3.4";
    let (masked, hidden) = apply(&mut rule(&["pass_word", "user_agent"]), &cef, text);
    assert_eq!(
        masked,
        r"<14>Jan  2 03:04:05 host CEF:0|V|P\||1|id|name|5|rt=1 userAgent=*** slsPassWord=*** src=1.2.3.4"
    );
    assert_eq!(hidden, ["pass_word", "user_agent"]);
    assert_eq!(
        all().apply(&cef, text.as_bytes()),
        "<14>Jan  2 03:04:05 *** CEF:0|***|rt=*** userAgent=*** slsPassWord=*** src=***"
    );
    let leef = syslog(true, Body::Leef(b'^'));
    let text = format!("{NEW}- LEEF:2.0|V|P|1|id|^|devTime=1^who=s3cret^b=x y");
    assert_eq!(
        apply(&mut rule(&["name"]), &leef, &text).0,
        format!("{NEW}- LEEF:2.0|V|P|1|id|^|devTime=1^who=***^b=x y")
    );
    assert!(apply(&mut rule(&["name"]), &leef, &format!("{NEW}- LEEF:1.0|s3cret")).0.ends_with("- ***"));
}

#[test]
fn one_field_as_it_is() {
    let form = syslog(false, Body::Field("msg".into()));
    let head = "<14>Jan  2 03:04:05 host app[1]: ";
    assert_eq!(apply(&mut rule(&["msg"]), &form, &format!("{head}s3cret")).0, format!("{head}***"));
    assert_eq!(apply(&mut rule(&["pass"]), &form, &format!("{head}a text")).0, format!("{head}a text"));
    let (masked, _) = apply(&mut rule(&["pass"]), &form, &format!("{head}{{\"pass\":\"s3cret\"}}"));
    assert_eq!(masked, format!("{head}{{\"pass\":\"***\"}}"));
}
