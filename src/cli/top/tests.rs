use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyEventState;

use super::*;
use crate::metrics::{ComplaintStatus, CoreStatus, PipelineStatus, PointStatus, ShardStatus};

fn status(pipelines: u32, shards: u32) -> Status {
    let pipeline = |at: u32| PipelineStatus {
        name: if pipelines == 1 { "default".into() } else { format!("pipeline-{at}") },
        source: "p/l".into(),
        sink: "hec".into(),
        state: if at == 3 { "held" } else { "ok" }.into(),
        raw_bytes_per_second: 12.3e6,
        sent_bytes_per_second: 15.0e6,
        acked_records_per_second: 20_000.0,
        inflight_bytes: 2_500_000,
        lag_seconds: u64::from(at),
        shards: (0..shards)
            .map(|shard| ShardStatus {
                shard,
                core: usize::try_from(shard % 2).unwrap(),
                lag_seconds: u64::from(shard * 7 % 97),
                pending_seconds: u64::from(shard % 5),
                held: at == 3 && shard == 1,
                checkpoint_age_seconds: Some(3),
            })
            .collect(),
        history: vec![PointStatus { raw_bytes_per_second: 5e6, ..PointStatus::default() }; 3],
        ..PipelineStatus::default()
    };
    Status {
        format: FORMAT,
        version: "1.2.3 (0123456789ab)".into(),
        uptime_seconds: 3_700,
        ready: false,
        reasons: vec!["pipeline default: no\u{1b}[31m lease".into(); 3],
        pipelines: (0..pipelines).map(pipeline).collect(),
        cores: (0..2).map(|core| CoreStatus { core, cpu: 0.5, ..CoreStatus::default() }).collect(),
        complaints: vec![
            ComplaintStatus {
                ago_seconds: 9,
                level: "error".into(),
                text: "世界 is down\n".into(),
                times: 4
            };
            9
        ],
        history_step_seconds: 5,
        settings: String::new(),
    }
}

fn model(pipelines: u32, shards: u32) -> Model {
    let mut model = Model::new("127.0.0.1:9465".into(), false);
    model.take(Ok(status(pipelines, shards)));
    model
}

/// The screen as lines.
fn screen(model: &Model, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen::draw(frame, model)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(line).map(|line| line.trim_end().to_owned()).collect()
}

fn press(model: &mut Model, code: KeyCode) -> bool {
    let (modifiers, kind, state) = (KeyModifiers::NONE, KeyEventKind::Press, KeyEventState::NONE);
    handle(model, &Event::Key(KeyEvent { code, modifiers, kind, state }))
}

#[test]
fn every_size_is_drawn() {
    for (pipelines, shards) in [(0, 0), (1, 0), (1, 2), (1, 200), (30, 64)] {
        let mut model = model(pipelines, shards);
        for width in [1, 5, 20, 40, 79, 80, 120, 200] {
            for height in [1, 2, 3, 5, 6, 10, 20, 24, 60] {
                let lines = screen(&model, width, height);
                assert!(lines.iter().any(|line| !line.is_empty()), "{width}x{height}");
                model.scroll(Direction::Down, 3);
                model.select(Direction::Down);
            }
        }
    }
}

#[test]
fn a_common_terminal_shows_what_matters() {
    let lines = screen(&model(1, 2), 80, 24);
    let all = lines.join("\n");
    assert!(lines[0].starts_with("sls2siem 1.2.3 (0123456789ab) · up 1h1m · not ready: 3 reasons"), "{all}");
    for part in [
        "pipeline default: no [31m lease",
        "and 1 more reasons",
        " 12.3M  15.0M  20.0k ",
        " 2.5M ",
        "▄▄▄",
        "1-2 of 2",
        "core 0  [||||    ]  50.0%",
        "error 9s ago (4 times): 世",
        "q quit",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
    assert!(!all.contains('\u{1b}'), "{all}");
    assert!(lines[23].contains("q quit"), "{all}");
}

#[test]
fn many_pipelines_leave_room_for_shards_and_the_worst_come_first() {
    let model = model(30, 64);
    for (width, height) in [(80, 24), (200, 60)] {
        let lines = screen(&model, width, height);
        let all = lines.join("\n");
        let first = lines.iter().position(|line| line.contains("PIPELINE")).unwrap() + 1;
        assert!(lines[first].contains("pipeline-3 ") && lines[first].contains("held"), "{all}");
        assert!(lines[first + 1].contains("pipeline-29"), "{all}");
        assert!(all.contains("more pipelines (Tab)") && all.contains(" of 1920"), "{all}");
        let shards = lines.iter().position(|line| line.contains("SHARDS OF")).unwrap() + 1;
        assert!(lines[shards].contains("pipeline-3 ") && lines[shards].contains("held"), "{all}");
        assert!(lines[shards + 2].contains("1m34s"), "the largest lag: {all}");
    }
}

#[test]
fn keys_scroll_sort_choose_pause_and_end() {
    let mut model = model(2, 64);
    let range = |model: &Model| {
        let lines = screen(model, 80, 24);
        let line = lines.iter().find(|line| line.contains("SHARDS OF")).unwrap().clone();
        line.rsplit_once("STATE").unwrap().1.trim().to_owned()
    };
    let top = range(&model);
    assert!(top.starts_with("1-") && top.ends_with("of 128"), "{top}");
    press(&mut model, KeyCode::Down);
    assert!(range(&model).starts_with("2-"));
    press(&mut model, KeyCode::End);
    assert!(range(&model).ends_with("-128 of 128"));
    press(&mut model, KeyCode::PageDown);
    assert!(range(&model).ends_with("-128 of 128"), "the end stays the end");
    press(&mut model, KeyCode::PageUp);
    assert!(!range(&model).contains("-128 of"));
    press(&mut model, KeyCode::Char('s'));
    assert_eq!(range(&model), top, "another order begins at its beginning");
    press(&mut model, KeyCode::Tab);
    assert!(range(&model).ends_with("of 64"));
    press(&mut model, KeyCode::BackTab);
    assert!(range(&model).ends_with("of 128"));
    press(&mut model, KeyCode::Char('p'));
    assert!(!model.take(Ok(Status::default())) && range(&model).ends_with("of 128"));
    assert!(screen(&model, 120, 24)[0].ends_with("PAUSED"));
    press(&mut model, KeyCode::Char('p'));
    assert!(model.take(Err("refused".into())) && model.take(Err("refused".into())));
    assert!(screen(&model, 80, 24)[1].contains("asked 2 times; what stands below is old: refused"));
    assert!(press(&mut model, KeyCode::Char('q')) && press(&mut model, KeyCode::Esc));
    // A pipeline that is gone is no longer chosen.
    press(&mut model, KeyCode::Tab);
    model.take(Ok(status(1, 1)));
    assert!(range(&model).ends_with("of 1"));
}

#[test]
fn samples_begin_with_the_past() {
    let mut model = model(1, 1);
    let samples = model.samples("default", 100);
    assert_eq!((samples.len(), samples[0], samples[15]), (16, 5e6, 12.3e6));
    for _ in 0..200 {
        model.take(Ok(status(1, 1)));
    }
    assert_eq!(model.samples("default", 1_000).len(), 120);
    assert_eq!(model.samples("default", 7).len(), 7);
}

#[test]
fn plain_text_is_a_table_of_everything() {
    let text = plain::text(&status(30, 64));
    assert_eq!(text.lines().filter(|line| line.starts_with("pipeline-")).count(), 1_920 + 30, "{text}");
    assert!(text.starts_with("sls2siem 1.2.3 (0123456789ab) · up 1h1m · not ready: 3 reasons\n"), "{text}");
    assert!(text.contains("error 9s ago, 4 times: 世界 is down") && !text.contains('\u{1b}'), "{text}");
    assert!(plain::text(&Status::default()).contains("ready: logs can flow"));
}

#[test]
fn colours_are_a_choice() {
    let mut model = model(1, 2);
    for coloured in [false, true] {
        model.coloured = coloured;
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| screen::draw(frame, &model)).unwrap();
        let buffer = terminal.backend().buffer();
        let any = buffer.content().iter().any(|cell| cell.fg != ratatui::style::Color::Reset);
        assert_eq!(any, coloured);
    }
}

#[test]
fn numbers_are_short() {
    for (value, text) in [
        (0.0, "0"),
        (9_999.0, "9999"),
        (12_345.0, "12.3k"),
        (999e3, "999k"),
        (12.34e6, "12.3M"),
        (1.937e9, "1.9G"),
    ] {
        assert_eq!(plain::short(value), text);
    }
}
