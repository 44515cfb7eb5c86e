//! The text that the vendor's sample sends, byte for byte, behind a header that is right.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

const SAMPLE: &str = include_str!("../../../../../tests/golden/sls/sample_syslog_output.json");

#[test]
fn aliyun_compat_is_the_samples_text() {
    let sample: serde_json::Value = serde_json::from_str(SAMPLE).unwrap();
    let body = STANDARD.decode(sample["input_protobuf_base64"].as_str().unwrap()).unwrap();
    let runs = sample["runs"].as_array().unwrap();
    assert!(!runs.is_empty());
    for run in runs {
        let sent = STANDARD.decode(run["connections"][1].as_str().unwrap()).unwrap();
        let sent = String::from_utf8(sent).unwrap();
        // The sample's header has no structured data: six words, then the text.
        let texts =
            sent.split("\n<14>1 ").map(|line| line.trim_start_matches("<14>1 ").trim_end_matches('\n'));
        let texts: Vec<&str> = texts.map(|line| line.splitn(6, ' ').nth(5).unwrap()).collect();
        let settings = &run["settings"];
        let compat = |framing| SyslogParams {
            framing,
            message: MessageForm::AliyunKv(settings["sep"].as_str().unwrap().into()),
            precision: Precision::Seconds,
            hostname: template(settings["hostname"].as_str().unwrap()),
            app_name: Template::default(),
            ..params()
        };
        let ours = parsed(&compat(Framing::OctetCounting), &body);
        let times: Vec<&str> = ours.iter().map(|one| one.time.as_str()).collect();
        assert_eq!(times[..2], ["2026-01-02T03:03:20Z", "2026-01-02T03:03:21Z"]);
        assert!(
            ours.iter().all(|one| one.hostname == "collector-1" && one.facility == 1 && one.severity == 6)
        );
        let ours: Vec<String> = ours.into_iter().map(|one| one.message).collect();
        assert_eq!(ours, texts);
        // On a line, the one break in a value is written as text.
        let lines: Vec<String> =
            parsed(&compat(Framing::Newline), &body).into_iter().map(|one| one.message).collect();
        assert_eq!(lines, texts.iter().map(|text| text.replace('\n', "\\n")).collect::<Vec<_>>());
    }
}
