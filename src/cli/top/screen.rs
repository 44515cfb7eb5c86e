//! The screen: header, pipelines, shards, cores, the last complaints, keys.
//!
//! Why: what is wrong has to be in the first lines, at 80 × 24 as well as on a wall, and without colours.
//! Invariants: 1. any size is drawn; what does not fit is left out from the end, never cut in the middle of a line that
//! would then say something else. 2. a state is a word, a colour only repeats it. 3. text of others moves no cursor.
//! Bounds: the size of the screen. Driven by: [`super`], after every key and answer.
//! Spec: own.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::model::{Model, Sort};
use super::plain::{checkpoint, clean, headline, shard_state, short};
use crate::cli::group::span;
use crate::metrics::{ComplaintStatus, CoreStatus, PipelineStatus, ShardStatus};

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let area = frame.area();
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let ink = Ink(model.coloured);
    let mut top = header(model, ink, width);
    // A row for shards and one for keys are left in any case.
    top.truncate(height.saturating_sub(2).max(1));
    let spare = height.saturating_sub(top.len());
    let pipelines = pipelines(model, ink, width, (spare / 3).max(2));
    let mut bottom = cores(&model.status.cores, ink, width, if height >= 20 { 2 } else { 1 });
    bottom.extend(complaints(&model.status.complaints, ink, if height >= 20 { height / 8 } else { 0 }));
    if spare > pipelines.len() {
        top.extend(pipelines);
    }
    if height < top.len() + bottom.len() + SHARDS_MIN {
        bottom.clear();
    }
    bottom.push(keys(model, width));
    let rows = height.saturating_sub(top.len() + bottom.len());
    if rows >= 2 {
        top.extend(shards(model, ink, width, rows));
    }
    top.truncate(height.saturating_sub(bottom.len()));
    let at = u16::try_from(height.saturating_sub(bottom.len())).unwrap_or(area.height);
    frame.render_widget(Paragraph::new(top), area);
    let below = Rect { y: area.y + at, height: area.height.saturating_sub(at), ..area };
    frame.render_widget(Paragraph::new(bottom), below);
}

/// Colours, where they are wanted.
#[derive(Clone, Copy)]
struct Ink(bool);

impl Ink {
    fn of(self, colour: Color) -> Style {
        if self.0 { Style::new().fg(colour) } else { Style::new() }
    }

    fn state(self, state: &str) -> Style {
        match state {
            "ok" => self.of(Color::Green),
            "starting" | "no lease" => self.of(Color::Yellow),
            _ => self.of(Color::Red).add_modifier(Modifier::BOLD),
        }
    }

    fn head(self) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        if self.0 { style.fg(Color::Cyan) } else { style }
    }
}

fn header(model: &Model, ink: Ink, width: usize) -> Vec<Line<'static>> {
    let status = &model.status;
    let state = if status.reasons.is_empty() { "ok" } else { "not ready" };
    let mut first = vec![Span::styled(headline(status), ink.state(state).add_modifier(Modifier::BOLD))];
    if model.is_paused {
        first.push(Span::styled("  PAUSED", Style::new().add_modifier(Modifier::REVERSED)));
    }
    let mut lines = vec![Line::from(first)];
    if let Some((why, times)) = &model.unanswered {
        let text = format!("no answer, asked {times} times; what stands below is old: {}", clean(why));
        lines.push(Line::styled(cut(&text, width), ink.state("old")));
    }
    let shown = status.reasons.iter().take(REASONS_SHOWN);
    lines.extend(
        shown.map(|reason| Line::styled(cut(&format!("  {}", clean(reason)), width), ink.of(Color::Red))),
    );
    if status.reasons.len() > REASONS_SHOWN {
        let more = status.reasons.len() - REASONS_SHOWN;
        lines.push(Line::raw(format!("  and {more} more reasons: /readyz of {}", model.address)));
    }
    lines
}

/// The pipelines, the worst first, in so many lines.
fn pipelines(model: &Model, ink: Ink, width: usize, lines: usize) -> Vec<Line<'static>> {
    let rows = model.pipelines();
    let name = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).clamp(8, NAME_MAX);
    let fixed = format!(
        "  {:<name$} {:<8} {:>6} {:>6} {:>6} {:>7} {:>7} {:>6} {:>5}",
        "PIPELINE", "STATE", "READ/s", "SENT/s", "LOGS/s", "LAG", "WAITING", "FLIGHT", "RT/s"
    );
    let plot = width.saturating_sub(fixed.chars().count() + 1).min(PLOT_MAX);
    let mut out = vec![Line::styled(fixed, ink.head())];
    let room = lines.saturating_sub(1).max(1);
    let fits = if rows.len() > room { room.saturating_sub(1).max(1) } else { room };
    // The one that was chosen is shown, wherever it stands.
    let chosen = model.selected().and_then(|name| rows.iter().position(|row| row.name == name)).unwrap_or(0);
    let first = (chosen + 1).saturating_sub(fits);
    for row in rows.iter().skip(first).take(fits) {
        out.push(pipeline(model, ink, row, name, plot));
    }
    let hidden = rows.len().saturating_sub(fits);
    if hidden > 0 && out.len() < lines {
        out.push(Line::raw(format!("  and {hidden} more pipelines (Tab)")));
    }
    out
}

fn pipeline(model: &Model, ink: Ink, row: &PipelineStatus, name: usize, plot: usize) -> Line<'static> {
    let mark = if model.selected() == Some(row.name.as_str()) { '>' } else { ' ' };
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let in_flight = row.inflight_bytes as f64;
    let figures = format!(
        " {:>6} {:>6} {:>6} {:>7} {:>7} {:>6} {:>5.1} ",
        short(row.raw_bytes_per_second),
        short(row.sent_bytes_per_second),
        short(row.acked_records_per_second),
        span(row.lag_seconds),
        span(row.pending_seconds),
        short(in_flight),
        row.retries_per_second
    );
    Line::from(vec![
        Span::raw(format!("{mark} {:<name$} ", cut(&clean(&row.name), name))),
        Span::styled(format!("{:<8}", cut(&clean(&row.state), 8)), ink.state(&row.state)),
        Span::raw(figures),
        Span::styled(sparkline(&model.samples(&row.name, plot)), ink.of(Color::Blue)),
    ])
}

/// The shards in so many lines, a head included.
fn shards(model: &Model, ink: Ink, width: usize, lines: usize) -> Vec<Line<'static>> {
    let (rows, offset, count) = model.shards(lines.saturating_sub(1));
    let name = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).clamp(8, NAME_MAX);
    let star = |sort: Sort, text: &str| if model.sort == sort { format!("{text}*") } else { text.to_owned() };
    let head = format!(
        "  {:<name$} {:>7} {:>6} {:>8} {:>9} {:>10} {:<5}",
        "SHARDS OF",
        star(Sort::Shard, "SHARD"),
        star(Sort::Core, "CORE"),
        star(Sort::Lag, "LAG"),
        star(Sort::Waiting, "WAITING"),
        "CHECKPOINT",
        "STATE"
    );
    let range = format!(" {}-{} of {count}", (offset + 1).min(count), offset + rows.len());
    let bar = width.saturating_sub(head.chars().count() + 1).min(BAR_MAX);
    let worst = rows.iter().map(|(_, row)| row.lag_seconds).max().unwrap_or(0);
    let mut out = vec![Line::from(vec![Span::styled(head, ink.head()), Span::raw(range)])];
    if rows.is_empty() {
        out.push(Line::raw("  no shards here"));
    }
    out.extend(rows.into_iter().map(|(of, row)| shard(ink, of, row, name, (bar, worst))));
    out
}

fn shard(ink: Ink, of: &str, row: &ShardStatus, name: usize, (bar, worst): (usize, u64)) -> Line<'static> {
    let state = shard_state(row);
    let figures = format!(
        "  {:<name$} {:>7} {:>6} {:>8} {:>9} {:>10} ",
        cut(&clean(of), name),
        row.shard,
        row.core,
        span(row.lag_seconds),
        span(row.pending_seconds),
        checkpoint(row)
    );
    let length =
        u64::try_from(bar).unwrap_or(0).saturating_mul(row.lag_seconds).checked_div(worst).unwrap_or(0);
    Line::from(vec![
        Span::raw(figures),
        Span::styled(format!("{state:<6}"), ink.state(state)),
        Span::styled("▪".repeat(usize::try_from(length).unwrap_or(0).min(bar)), ink.of(Color::Yellow)),
    ])
}

/// Gauges, several in a line.
fn cores(cores: &[CoreStatus], ink: Ink, width: usize, lines: usize) -> Vec<Line<'static>> {
    let per_line = (width / GAUGE_WIDTH).max(1);
    let mut out: Vec<Line<'static>> = cores
        .chunks(per_line)
        .take(lines)
        .map(|row| Line::from(row.iter().map(|core| gauge(core, ink)).collect::<Vec<_>>()))
        .collect();
    let hidden = cores.len().saturating_sub(per_line * lines);
    if let Some(last) = out.last_mut().filter(|_| hidden > 0) {
        *last = Line::raw(format!("  and {} more cores", hidden + per_line));
    }
    out
}

fn gauge(core: &CoreStatus, ink: Ink) -> Span<'static> {
    let share = core.cpu.clamp(0.0, 1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 8")]
    let filled = (share * 8.0).round() as usize;
    let bar = format!("{}{}", "|".repeat(filled), " ".repeat(8_usize.saturating_sub(filled)));
    let silent = core.heartbeat_age_seconds >= SILENT_SECONDS;
    let figure = if silent { "silent".to_owned() } else { format!("{:>5.1}%", core.cpu * 100.0) };
    let text = format!("core {:<3}[{bar}]{figure:>7}  ", core.core);
    let colour = if silent || share >= 0.9 { Color::Red } else { Color::Green };
    Span::styled(text, ink.of(colour))
}

fn complaints(complaints: &[ComplaintStatus], ink: Ink, lines: usize) -> Vec<Line<'static>> {
    let line = |said: &ComplaintStatus| {
        let style = if said.level == "error" { ink.of(Color::Red) } else { ink.of(Color::Yellow) };
        let times = if said.times > 1 { format!(" ({} times)", said.times) } else { String::new() };
        let text =
            format!("{} {} ago{times}: {}", clean(&said.level), span(said.ago_seconds), clean(&said.text));
        Line::styled(text, style)
    };
    complaints.iter().take(lines).map(line).collect()
}

fn keys(model: &Model, width: usize) -> Line<'static> {
    let text = format!(
        " q quit  p pause  sort: l lag w waiting s shard c core (now {})  ↑↓ PgUp PgDn  Tab pipeline",
        model.sort.name()
    );
    Line::styled(cut(&text, width), Style::new().add_modifier(Modifier::DIM))
}

/// Bars of an eighth of a line's height each.
fn sparkline(values: &[f64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let largest = values.iter().copied().fold(0.0, f64::max);
    let bar = |value: &f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 7")]
        let at = if largest > 0.0 { (value / largest * 7.0).round() as usize } else { 0 };
        BARS.get(at).copied().unwrap_or('█')
    };
    values.iter().map(bar).collect()
}

/// The first characters, with a mark where there are more.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(std::iter::once('…')).take(width).collect()
}

const REASONS_SHOWN: usize = 2;
const SHARDS_MIN: usize = 5;
const NAME_MAX: usize = 12;
const PLOT_MAX: usize = 60;
const BAR_MAX: usize = 40;
const GAUGE_WIDTH: usize = 26;
/// An executor reports five times a second.
const SILENT_SECONDS: f64 = 5.0;
