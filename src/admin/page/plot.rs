//! A small plot as inline SVG: one line over the last hour.
//!
//! Why: a shape tells "since when" at a glance; numbers beside it tell how much, also to those who see no colours.
//! Invariants: 1. the largest value is always drawn: it is written beside the plot.
//! Bounds: [`COLUMNS`] points whatever the number of samples.
//! Driven by: `page`.

use std::fmt::Write as _;

/// Points that a line is drawn with; samples between two of them show as their largest.
const COLUMNS: usize = 120;
const HEIGHT: f32 = 32.0;

/// A plot with its title; `shown` words a value. Nothing where there is no sample yet.
pub(super) fn plot(
    out: &mut String,
    title: &str,
    values: &[f32],
    capacity: usize,
    shown: &dyn Fn(f32) -> String,
) {
    let Some(&last) = values.last() else { return };
    let top = values.iter().copied().fold(0.0_f32, f32::max);
    let (now, most) = (shown(last), shown(top));
    // Writing into a String cannot fail.
    let _infallible = write!(
        out,
        "<figure><figcaption>{title} <b>{now}</b></figcaption>\
         <svg viewBox='0 0 {COLUMNS} {HEIGHT}' preserveAspectRatio=none role=img aria-label='{title} over the last hour, \
         now {now}, at most {most}'><polyline points='"
    );
    let columns = columns(values, capacity);
    for (x, value) in columns {
        let y = if top > 0.0 { HEIGHT - 1.0 - value / top * (HEIGHT - 2.0) } else { HEIGHT - 1.0 };
        let _infallible = write!(out, "{x},{y:.1} ");
    }
    let _infallible = write!(out, "'/></svg><small>at most {most}</small></figure>");
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
        plot(&mut out, "lag", &values, 720, &|value| format!("{value} s"));
        assert!(out.contains("lag <b>1 s</b>") && out.contains("at most 50 s"), "{out}");
        assert!(out.len() < 2_500, "{} bytes", out.len());
        let before = out.clone();
        plot(&mut out, "lag", &[], 720, &|value| value.to_string());
        assert_eq!(out, before);
    }
}
