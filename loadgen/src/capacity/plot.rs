//! Plots as SVG text.
//!
//! Why: a report is one file that opens anywhere; two kinds of plot do not need a library.
//! Invariants: 1. all text is escaped. 2. axes begin at zero, so that nothing looks larger than it is.
//! Bounds: none.   Driven by: `report`.   Spec: SVG 1.1.

use std::fmt::Write as _;

/// Points that belong together.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// Where the values of x stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// In proportion.
    Linear,
    /// One beside the other.
    Steps,
}

/// Lines through points; nothing where there are none.
pub(super) fn lines(title: &str, (x_name, y_name): (&str, &str), scale: Scale, series: &[Series]) -> String {
    let mut xs: Vec<f64> = series.iter().flat_map(|one| one.points.iter().map(|(x, _)| *x)).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    if xs.is_empty() {
        return String::new();
    }
    let top = nice(series.iter().flat_map(|one| one.points.iter().map(|(_, y)| *y)).fold(0.0, f64::max));
    let right = xs.last().copied().unwrap_or(1.0).max(1e-9);
    let place = |x: f64| match scale {
        Scale::Linear => LEFT + x / right * WIDTH,
        Scale::Steps => {
            LEFT + number(xs.partition_point(|other| *other < x)) / number(xs.len().max(2) - 1) * WIDTH
        }
    };
    let height = |y: f64| TOP + HEIGHT - y / top * HEIGHT;
    let mut svg = frame(title, (x_name, y_name), top);
    for x in &xs {
        let _infallible = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            place(*x),
            TOP + HEIGHT + 16.0,
            short(*x)
        );
    }
    for (one, colour) in series.iter().zip(COLOURS.iter().cycle()) {
        let path: Vec<String> =
            one.points.iter().map(|(x, y)| format!("{:.1},{:.1}", place(*x), height(*y))).collect();
        let _infallible = write!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            path.join(" ")
        );
        for (x, y) in &one.points {
            let _infallible = write!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"><title>{}: {} at {}</title></circle>",
                place(*x),
                height(*y),
                escape(&one.name),
                short(*y),
                short(*x)
            );
        }
    }
    let names: Vec<&str> = series.iter().map(|one| one.name.as_str()).collect();
    svg + &legend(&names) + "</svg>"
}

/// Bars made of parts, one for each label; nothing where there is none.
pub(super) fn bars(title: &str, y_name: &str, parts: &[&str], labels: &[(String, Vec<f64>)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let top = nice(labels.iter().map(|(_, values)| values.iter().sum()).fold(0.0, f64::max));
    let mut svg = frame(title, ("", y_name), top);
    let slot = WIDTH / number(labels.len());
    for (index, (label, values)) in labels.iter().enumerate() {
        let x = LEFT + slot * (number(index) + 0.15);
        let mut base = 0.0;
        for ((value, part), colour) in values.iter().zip(parts).zip(COLOURS.iter().cycle()) {
            let _infallible = write!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\">\
                 <title>{}, {}: {}</title></rect>",
                TOP + HEIGHT - (base + value) / top * HEIGHT,
                slot * 0.7,
                value / top * HEIGHT,
                escape(label),
                escape(part),
                short(*value)
            );
            base += value;
        }
        let _infallible = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x + slot * 0.35,
            TOP + HEIGHT + 16.0,
            escape(label)
        );
    }
    svg + &legend(parts) + "</svg>"
}

fn frame(title: &str, (x_name, y_name): (&str, &str), top: f64) -> String {
    let mut svg = format!(
        "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\
         <text x=\"{LEFT}\" y=\"18\" class=\"title\">{}</text>",
        LEFT + WIDTH + 20.0,
        TOP + HEIGHT + 80.0,
        escape(title),
        escape(title)
    );
    for step in 0..=4 {
        let part = f64::from(step) / 4.0;
        let y = TOP + HEIGHT * (1.0 - part);
        let _infallible = write!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" class=\"grid\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT + WIDTH,
            LEFT - 6.0,
            y + 4.0,
            short(top * part)
        );
    }
    let _infallible = write!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text><text x=\"{LEFT}\" y=\"34\">{}</text>",
        LEFT + WIDTH / 2.0,
        TOP + HEIGHT + 34.0,
        escape(x_name),
        escape(y_name)
    );
    svg
}

fn legend(names: &[&str]) -> String {
    let mut svg = String::new();
    let slot = WIDTH / number(names.len().clamp(1, LEGEND_COLUMNS));
    for ((index, name), colour) in names.iter().enumerate().zip(COLOURS.iter().cycle()) {
        let x = LEFT + slot * number(index % LEGEND_COLUMNS);
        let y = TOP + HEIGHT + 52.0 + 18.0 * number(index / LEGEND_COLUMNS);
        let _infallible = write!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
            y - 9.0,
            x + 14.0,
            escape(name)
        );
    }
    svg
}

/// The next round number.
fn nice(value: f64) -> f64 {
    let mut scale = 1e-6;
    while scale < 1e15 {
        for step in [1.0, 2.0, 4.0, 5.0, 8.0] {
            if step * scale >= value && value > 0.0 {
                return step * scale;
            }
        }
        scale *= 10.0;
    }
    1.0
}

fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || size.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Text for HTML and SVG.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn number(count: usize) -> f64 {
    super::process::as_f64(count as u64)
}

const LEFT: f64 = 60.0;
const TOP: f64 = 46.0;
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 220.0;
const COLOURS: [&str; 10] = [
    "#2563eb", "#f59e0b", "#059669", "#dc2626", "#7c3aed", "#0891b2", "#a16207", "#65a30d", "#db2777",
    "#6b7280",
];
/// Names of a legend in one line.
const LEGEND_COLUMNS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plots_are_whole_and_escaped() {
        let series = [Series { name: "a<b".to_owned(), points: vec![(1.0, 2.0), (64.0, 3.5)] }];
        let svg = lines("t & u", ("shards", "µs"), Scale::Steps, &series);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>"));
        assert!(svg.contains("a&lt;b") && svg.contains("t &amp; u") && !svg.contains("NaN"), "{svg}");
        let none = [Series { name: "not run".to_owned(), points: Vec::new() }];
        assert_eq!(lines("nothing", ("", ""), Scale::Linear, &none), "");
        let one =
            lines("one", ("", ""), Scale::Steps, &[Series { name: String::new(), points: vec![(0.0, 0.0)] }]);
        assert!(!one.contains("NaN") && !one.contains("inf"), "{one}");
        let svg = bars("cpu", "%", &["user", "system"], &[("x".to_owned(), vec![1.0, 0.5])]);
        assert_eq!(svg.matches("<rect").count(), 4);
        assert_eq!(bars("none", "%", &["user"], &[]), "");
    }

    #[test]
    fn round_numbers_are_the_next_ones() {
        for (value, round) in [(0.0, 1.0), (0.3, 0.4), (1.0, 1.0), (3.4, 4.0), (4.5, 5.0), (61.0, 80.0)] {
            assert!((nice(value) - round).abs() < round * 1e-9, "{value}: {}", nice(value));
        }
    }
}
