use super::*;

fn refuse(status: Option<u16>, code: Option<&str>) -> Fault {
    Fault::Refuse { status, code: code.map(str::to_owned) }
}

#[test]
fn every_word_is_read() {
    let cases = [
        ("503", refuse(Some(503), None)),
        ("503:ServerBusy", refuse(Some(503), Some("ServerBusy"))),
        ("400:6", refuse(Some(400), Some("6"))),
        ("ConsumerNotExist", refuse(None, Some("ConsumerNotExist"))),
        ("after-500", Fault::RefuseAfter { status: Some(500), code: None }),
        ("reset", Fault::ResetBefore),
        ("reset-after", Fault::ResetAfter),
        ("tear", Fault::Tear(None)),
        ("tear:1KiB", Fault::Tear(Some(1024))),
        ("bits", Fault::Bits),
        ("delay:150ms", Fault::Delay(Duration::from_millis(150))),
        ("stall:2s", Fault::Stall(Duration::from_secs(2))),
        ("slow:64KB/s", Fault::Slow(64_000)),
        ("hang", Fault::Hang),
        ("duplicate", Fault::Duplicate),
        ("rawsize", Fault::Other { word: "rawsize".into(), arg: None }),
        ("lose-ack:3", Fault::Other { word: "lose-ack".into(), arg: Some("3".into()) }),
    ];
    for (text, want) in cases {
        assert_eq!(text.parse::<Fault>().unwrap(), want, "{text}");
        let plan = FaultPlan::parse(&format!("pull.{text}")).unwrap();
        assert_eq!(plan.decide("pull"), Some(want), "{text}");
    }
}

#[test]
fn mistakes_are_refused() {
    let wrong = [
        "pull",
        "pull.",
        ".503",
        "pull.503=x",
        "pull.503=101%",
        "pull.503=-1%",
        "pull.503@0",
        "pull.503@5..3",
        "pull.99",
        "pull.delay",
        "pull.delay:2",
        "pull.delay:2x",
        "pull.slow:2QB",
        "pull.503=NaN",
        "seed=x",
        "pull.ServerBusy:503",
        "pull.after-x",
    ];
    for text in wrong {
        assert!(FaultPlan::parse(text).is_err(), "{text} was taken");
    }
}

#[test]
fn the_nth_call_is_hit_and_kinds_are_kept_apart() {
    let plan = FaultPlan::parse("pull.503@2, heartbeat.reset@2..3, pull/7.hang, *.tear@9..").unwrap();
    assert_eq!(plan.decide("pull"), None);
    assert_eq!(plan.decide("heartbeat"), None);
    assert_eq!(plan.decide("pull"), Some(refuse(Some(503), None)));
    assert_eq!(plan.decide("pull"), None);
    assert_eq!(plan.decide("heartbeat"), Some(Fault::ResetBefore));
    assert_eq!(plan.decide("heartbeat"), Some(Fault::ResetBefore));
    assert_eq!(plan.decide("heartbeat"), None);
    assert_eq!(plan.decide("pull/7"), Some(Fault::Hang));
    assert_eq!(plan.decide("pull/71"), None);
    assert_eq!(plan.decide("pulls"), None);
    // `*` has seen six calls: those that an earlier rule took are not its own.
    assert_eq!(
        (0..5).map(|_| plan.decide("put").is_some()).collect::<Vec<_>>(),
        [false, false, true, true, true]
    );
    let hits: Vec<u64> = plan.hits().into_iter().map(|(_, hits)| hits).collect();
    assert_eq!(hits, [1, 2, 1, 3]);
}

#[test]
fn a_seed_replays_whatever_the_order_between_kinds() {
    let text = "pull.503=20%,put.503=20%";
    let run = |seed: u64, interleave: bool| {
        let plan = FaultPlan::parse(text).unwrap().with_seed(seed);
        let mut pulls = Vec::new();
        for _ in 0..200 {
            if interleave {
                plan.decide("put");
            }
            pulls.push(plan.decide("pull").is_some());
        }
        pulls
    };
    assert_eq!(run(7, false), run(7, true));
    assert_ne!(run(7, false), run(8, false));
    let hit = run(7, false).iter().filter(|hit| **hit).count();
    assert!((20..=60).contains(&hit), "{hit} of 200 at 20 %");
}

#[test]
fn chances_of_zero_and_one_are_exact() {
    let never = FaultPlan::parse("pull.503=0%").unwrap();
    let always = FaultPlan::parse("pull.503=100%").unwrap();
    for _ in 0..1000 {
        assert_eq!(never.decide("pull"), None);
        assert!(always.decide("pull").is_some());
    }
}

#[test]
fn a_file_and_a_line_say_the_same() {
    let line = FaultPlan::parse("seed=7,pull.503=5%,pull.tear=1%").unwrap();
    let file = FaultPlan::parse_toml("seed = 7\nfaults = [\"pull.503=5%\", \"pull.tear=1%\"]").unwrap();
    assert_eq!(line.to_string(), file.to_string());
    assert!(FaultPlan::parse_toml("sede = 7").is_err());
    assert_eq!(FaultPlan::parse(&line.to_string()).unwrap().to_string(), line.to_string());
}

#[test]
fn unknown_kinds_and_words_are_named() {
    let plan = FaultPlan::parse("pull.503,pulk.503").unwrap();
    assert!(plan.check(&["pull"], &[]).unwrap_err().to_string().contains("pulk"));
    let plan = FaultPlan::parse("pull.rawsise").unwrap();
    assert!(plan.check(&["pull"], &["rawsize"]).unwrap_err().to_string().contains("rawsise"));
    FaultPlan::parse("pull/3.rawsize,*.tear").unwrap().check(&["pull"], &["rawsize"]).unwrap();
}

#[test]
fn one_consumer_can_be_hit_whatever_its_name() {
    let plan =
        FaultPlan::parse("heartbeat/host.example-1.delay:1.5s, checkpoint/b.ConsumerNotMatch").unwrap();
    assert_eq!(plan.decide("heartbeat/host.example-1"), Some(Fault::Delay(Duration::from_millis(1500))));
    assert_eq!(plan.decide("heartbeat/host.example-12"), None);
    assert_eq!(plan.decide("heartbeat"), None);
    assert_eq!(plan.decide("checkpoint/b"), Some(refuse(None, Some("ConsumerNotMatch"))));
    plan.check(&["heartbeat", "checkpoint"], &[]).unwrap();
}
