//! Metrics over steps as lines.
//!
//! Each point has a mark with a title that tells its numbers when the pointer rests on it. A value that is missing or not
//! finite is a gap in the line.

use std::fmt::Write;

use super::escape::escape;
use super::number::number;
use super::scale::Scale;

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 168.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 22.0;
/// Most points of a line: beyond, each is the mean of a stretch of steps.
pub(crate) const MOST_POINTS: usize = 240;
/// From this many points on, a mean over a window is drawn over them.
const SMOOTHED_FROM: usize = 40;

/// A value at a step, or a gap there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    pub(crate) step: f64,
    pub(crate) value: Option<f64>,
    /// Confidence interval.
    pub(crate) interval: Option<(f64, f64)>,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    pub(crate) label: String,
    pub(crate) points: Vec<Point>,
}

impl Series {
    /// Whether there is anything to draw.
    pub(crate) fn is_empty(&self) -> bool {
        self.points.iter().all(|point| point.value.is_none())
    }

    /// At most `most` points: the mean of each stretch of steps, a gap where all of it is one.
    pub(crate) fn at_most(&self, most: usize) -> Self {
        if self.points.len() <= most {
            return self.clone();
        }
        let stretch = self.points.len().div_ceil(most);
        let mean = |values: Vec<f64>| {
            let n = values.len() as f64;
            (n > 0.0).then(|| values.into_iter().map(|value| value / n).sum::<f64>())
        };
        let points = self.points.chunks(stretch).map(|chunk| Point {
            step: chunk[chunk.len() - 1].step,
            value: mean(chunk.iter().filter_map(|point| point.value).collect()),
            interval: mean(chunk.iter().filter_map(|point| Some(point.interval?.0)).collect())
                .zip(mean(chunk.iter().filter_map(|point| Some(point.interval?.1)).collect())),
        });
        Self { label: self.label.clone(), points: points.collect() }
    }

    /// Mean over up to `reach` points on either side of each, gaps left out.
    fn smoothed(&self, reach: usize) -> Vec<(f64, Option<f64>)> {
        let mean = |i: usize| {
            let around = &self.points[i.saturating_sub(reach)..self.points.len().min(i + reach + 1)];
            let values: Vec<f64> = around.iter().filter_map(|point| point.value).collect();
            self.points[i].value.map(|_| values.iter().sum::<f64>() / values.len() as f64)
        };
        (0..self.points.len()).map(|i| (self.points[i].step, mean(i))).collect()
    }
}

/// A chart.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LineChart {
    pub(crate) title: String,
    pub(crate) series: Vec<Series>,
    /// First and last step.
    pub(crate) steps: (f64, f64),
    /// Steps to mark by a vertical line, and what happened there.
    pub(crate) marks: Vec<(f64, String)>,
    /// Whether points are so few and exact that no mean is to be drawn over them.
    pub(crate) is_exact: bool,
}

impl LineChart {
    /// The figure.
    pub(crate) fn figure(&self) -> String {
        let series: Vec<Series> = self.series.iter().map(|series| series.at_most(MOST_POINTS)).collect();
        let x = Scale::new(self.steps, (LEFT, WIDTH - RIGHT));
        let y = Scale::new(extent(&series), (HEIGHT - BOTTOM, TOP));
        let mut svg =
            format!(r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}">"#, escape(&self.title));
        for tick in y.ticks(4) {
            let at = y.at(tick);
            let _ = write!(svg, r#"<path class="grid" d="M{LEFT} {at:.1}H{}"/>"#, WIDTH - RIGHT);
            let _ = write!(svg, r#"<text x="{}" y="{:.1}" class="e">{}</text>"#, LEFT - 6.0, at + 3.2, number(tick));
        }
        for tick in x.ticks(5) {
            let _ =
                write!(svg, r#"<text x="{:.1}" y="{}" class="m">{}</text>"#, x.at(tick), HEIGHT - 6.0, number(tick));
        }
        for (step, text) in &self.marks {
            let at = x.at(*step);
            let _ = write!(
                svg,
                r#"<path class="regime" d="M{at:.1} {TOP}V{}"><title>step {}: {}</title></path>"#,
                HEIGHT - BOTTOM,
                number(*step),
                escape(text)
            );
        }
        // The first one, which matters most, on top.
        for (i, series) in series.iter().enumerate().rev() {
            svg.push_str(&line(series, i, x, y, self.is_exact));
        }
        svg.push_str("</svg>");
        let mut legend = String::new();
        for (i, series) in self.series.iter().enumerate() {
            let last = series.points.iter().rev().find_map(|point| point.value).map_or_else(String::new, number);
            let label = if self.series.len() > 1 { escape(&series.label) } else { "last".to_owned() };
            let _ = write!(legend, r#"<span class="k c{}">{label} <b>{last}</b></span>"#, i % 5);
        }
        format!(
            r#"<figure class="card"><figcaption><h3>{}</h3><div class="keys">{legend}</div></figcaption>{svg}</figure>"#,
            escape(&self.title)
        )
    }
}

/// Lowest and highest value or end of an interval, with a little room.
fn extent(series: &[Series]) -> (f64, f64) {
    let points = || series.iter().flat_map(|series| &series.points);
    let ends = points().filter_map(|point| point.interval).flat_map(|(low, high)| [low, high]);
    let (low, high) = points()
        .filter_map(|point| point.value)
        .chain(ends)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low == 0.0 && high == 0.0 {
        return (0.0, 1.0);
    }
    let room = 0.04 * (high - low);
    // No room below zero for what is never below it.
    (if low >= 0.0 { (low - room).max(0.0) } else { low - room }, high + room)
}

fn line(series: &Series, index: usize, x: Scale, y: Scale, is_exact: bool) -> String {
    let mut svg = format!(r#"<g class="c{}">"#, index % 5);
    for run in series.points.split(|point| point.interval.is_none()) {
        if let [_, _, ..] = run {
            let upper = run.iter().map(|point| (point.step, point.interval.map_or(0.0, |ends| ends.1)));
            let lower = run.iter().rev().map(|point| (point.step, point.interval.map_or(0.0, |ends| ends.0)));
            let corners: Vec<String> =
                upper.chain(lower).map(|(step, value)| format!("{:.1} {:.1}", x.at(step), y.at(value))).collect();
            let _ = write!(svg, r#"<path class="band" d="M{}Z"/>"#, corners.join("L"));
        }
    }
    let raw: Vec<(f64, Option<f64>)> = series.points.iter().map(|point| (point.step, point.value)).collect();
    let n = raw.iter().filter(|(_, value)| value.is_some()).count();
    let is_smoothed = !is_exact && n >= SMOOTHED_FROM;
    let _ = write!(svg, r#"<path class="{}" d="{}"/>"#, if is_smoothed { "raw" } else { "line" }, path(&raw, x, y));
    if is_smoothed {
        let _ = write!(svg, r#"<path class="line" d="{}"/>"#, path(&series.smoothed(n / 40), x, y));
    }
    // Marks are seen where points are few or stand alone; elsewhere they are there for the pointer.
    for (i, point) in series.points.iter().enumerate() {
        let Some(value) = point.value else { continue };
        let is_gap = |i: Option<usize>| i.and_then(|i| raw.get(i)).is_none_or(|(_, value)| value.is_none());
        let is_alone = is_gap(i.checked_sub(1)) && is_gap(Some(i + 1));
        let class = if is_exact || is_alone { "dot" } else { "p" };
        let interval =
            point.interval.map_or_else(String::new, |(low, high)| format!(" ({} to {})", number(low), number(high)));
        let _ = write!(
            svg,
            r#"<circle class="{class}" cx="{:.1}" cy="{:.1}" r="3"><title>step {}: {} {}{interval}</title></circle>"#,
            x.at(point.step),
            y.at(value),
            number(point.step),
            escape(&series.label),
            number(value)
        );
    }
    svg + "</g>"
}

/// A path through the points that are there, lifted at gaps.
fn path(points: &[(f64, Option<f64>)], x: Scale, y: Scale) -> String {
    let mut d = String::new();
    let mut is_down = false;
    for (step, value) in points {
        if let Some(value) = value {
            let _ = write!(d, "{}{:.1} {:.1}", if is_down { 'L' } else { 'M' }, x.at(*step), y.at(*value));
        }
        is_down = value.is_some();
    }
    d
}
