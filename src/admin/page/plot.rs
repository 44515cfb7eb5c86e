//! A small plot as inline SVG: one line over the last hour, or over the last minutes of a process that is younger.
//!
//! Why: a shape tells "since when" at a glance; numbers beside it tell how much, also to those who see no colours.
//! Invariants: 1. the largest value is always drawn: it is written beside the plot.
//! Bounds: [`COLUMNS`] points whatever the number of samples.
//! Driven by: `page`.

use std::fmt::Write as _;

use crate::metrics::POINTS_MAX;

/// Points that a line is drawn with; samples between two of them show as their largest.
const COLUMNS: usize = 120;
const HEIGHT: f32 = 32.0;
/// What a plot spans, in samples and in words: the first that holds all there are.
const SPANS: [(usize, &str); 3] =
    [(POINTS_MAX / 12, "5 min"), (POINTS_MAX / 4, "15 min"), (POINTS_MAX, "1 h")];

/// A plot with its title; `shown` words a value. Nothing where there is no sample yet.
pub(super) fn plot(out: &mut String, title: &str, values: &[f32], shown: &dyn Fn(f32) -> String) {
    let Some(&last) = values.last() else { return };
    let [.., longest] = SPANS;
    let (capacity, span) = SPANS.into_iter().find(|(samples, _)| values.len() <= *samples).unwrap_or(longest);
    let top = values.iter().copied().fold(0.0_f32, f32::max);
    let (now, most) = (shown(last), shown(top));
    // Writing into a String cannot fail.
    let _infallible = write!(
        out,
        "<figure><figcaption>{title} <b>{now}</b></figcaption>\
         <svg viewBox='0 0 {COLUMNS} {HEIGHT}' preserveAspectRatio=none role=img aria-label='{title} over the last {span}, \
         now {now}, at most {most}'><polyline points='"
    );
    let columns = columns(values, capacity);
    for (x, value) in columns {
        let y = if top > 0.0 { HEIGHT - 1.0 - value / top * (HEIGHT - 2.0) } else { HEIGHT - 1.0 };
        let _infallible = write!(out, "{x},{y:.1} ");
    }
    let _infallible = write!(out, "'/></svg><small>at most {most} in {span}</small></figure>");
}

/// The largest value of each column; the newest sample is in the last one.
fn columns(values: &[f32], capacity: usize) -> Vec<(usize, f32)> {
    let mut columns: Vec<(usize, f32)> = Vec::with_capacity(COLUMNS);
    let missing = capacity.saturating_sub(values.len());
    for (index, value) in values.iter().enumerate() {
        let x = (missing + index) * COLUMNS / capacity.max(1);
        match columns.last_mut() {
            Some((last, most)) if *last == x => *most = most.max(*value),
            _ => columns.push((x, *value)),
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_on_the_right_and_peaks_survive() {
        let mut values = vec![1.0; 720];
        values[300] = 50.0;
        let columns = columns(&values, 720);
        assert_eq!(columns.len(), COLUMNS);
        assert_eq!(columns.iter().filter(|(_, value)| *value > 1.0).collect::<Vec<_>>(), [&(50, 50.0)]);
        assert_eq!(super::columns(&[3.0], 720), [(119, 3.0)]);
        let mut out = String::new();
        plot(&mut out, "lag", &values, &|value| format!("{value} s"));
        assert!(out.contains("lag <b>1 s</b>") && out.contains("at most 50 s in 1 h"), "{out}");
        assert!(out.len() < 2_500, "{} bytes", out.len());
        let before = out.clone();
        plot(&mut out, "lag", &[], &|value| value.to_string());
        assert_eq!(out, before);
    }

    /// Half a minute would be a dot in an hour.
    #[test]
    fn a_young_process_is_shown_large() {
        let drawn = |samples: usize| {
            let mut out = String::new();
            plot(&mut out, "read", &vec![1.0; samples], &|value| value.to_string());
            let points = out.split("points='").nth(1).unwrap().split('\'').next().unwrap().trim();
            let first: usize = points.split(',').next().unwrap().parse().unwrap();
            (
                COLUMNS - first,
                out.split("at most 1 in ").nth(1).unwrap().split('<').next().unwrap().to_owned(),
            )
        };
        assert_eq!(drawn(6), (12, "5 min".to_owned()));
        assert_eq!(drawn(60), (COLUMNS, "5 min".to_owned()));
        assert_eq!(drawn(61).1, "15 min");
        assert_eq!(drawn(181).1, "1 h");
        assert_eq!(drawn(720), (COLUMNS, "1 h".to_owned()));
    }
}
