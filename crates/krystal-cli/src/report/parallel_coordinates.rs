//! Points of many dimensions as lines across parallel axes (Inselberg 1985, doi:10.1007/BF01898350).

use std::fmt::Write;

use super::escape::{escape, shortened};
use super::number::number;
use super::scale::Scale;

const WIDTH: f64 = 1100.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 18.0;
/// Characters of a name above its axis and of a value beside it.
const MOST_CHARACTERS: usize = 16;

/// An axis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    pub(crate) name: String,
    pub(crate) kind: AxisKind,
}

/// Where values are on an axis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AxisKind {
    /// From the first at the bottom to the second at the top.
    Linear(f64, f64),
    /// The same, by logarithms.
    Log(f64, f64),
    /// One place for each of these words.
    Words(Vec<String>),
}

/// A line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    /// A number for each axis; of words, which one.
    pub(crate) at: Vec<f64>,
    /// From 0, the worst, to 1, the best.
    pub(crate) merit: f64,
    /// Whether it is drawn less than others, because it did not go as far.
    pub(crate) is_faint: bool,
    /// What is told where the pointer rests on it.
    pub(crate) title: String,
}

impl Axis {
    fn height(&self, value: f64) -> f64 {
        let place = |from, to, value| Scale::new((from, to), (HEIGHT - BOTTOM, TOP)).at(value);
        match &self.kind {
            AxisKind::Linear(low, high) => place(*low, *high, value),
            AxisKind::Log(low, high) => place(low.ln(), high.ln(), value.ln()),
            AxisKind::Words(words) => place(-0.5, words.len() as f64 - 0.5, value),
        }
    }

    /// Values that are written beside it.
    fn ticks(&self) -> Vec<(f64, String)> {
        match &self.kind {
            AxisKind::Linear(low, high) => {
                let ticks = Scale::new((*low, *high), (0.0, 1.0)).ticks(5);
                ticks
                    .into_iter()
                    .filter(|tick| (*low..=*high).contains(tick))
                    .map(|tick| (tick, number(tick)))
                    .collect()
            }
            AxisKind::Log(low, high) => {
                let powers = (low.log10().ceil() as i32..=high.log10().floor() as i32).map(|power| 10_f64.powi(power));
                let ticks: Vec<f64> = powers.collect();
                let ticks = if ticks.len() < 2 { vec![*low, *high] } else { ticks };
                ticks.into_iter().map(|tick| (tick, number(tick))).collect()
            }
            AxisKind::Words(words) => {
                let word = |(i, word): (usize, &String)| (i as f64, shortened(word, MOST_CHARACTERS));
                words.iter().enumerate().map(word).collect()
            }
        }
    }
}

/// The picture. The last line is on top.
pub(crate) fn parallel_coordinates(axes: &[Axis], lines: &[Line]) -> String {
    let step = (WIDTH - LEFT - RIGHT) / (axes.len().max(2) - 1) as f64;
    let x = |i: usize| LEFT + i as f64 * step;
    let mut svg = format!(
        r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" class="wide" role="img" aria-label="Trials as lines across their settings">"#
    );
    for line in lines {
        let mut path = String::new();
        for (i, (axis, value)) in axes.iter().zip(&line.at).enumerate() {
            let _ = write!(path, "{}{:.1} {:.1}", if i == 0 { 'M' } else { 'L' }, x(i), axis.height(*value));
        }
        let class = if line.is_faint { "pc faint" } else { "pc" };
        let title = escape(&line.title);
        // Colours of the page, which are others where it is dark.
        let colour = format!("color-mix(in oklab,var(--heat) {:.0}%,var(--cold))", 100.0 * line.merit);
        let _ =
            write!(svg, r#"<path class="{class}" style="stroke:{colour}" d="{path}"><title>{title}</title></path>"#);
    }
    for (i, axis) in axes.iter().enumerate() {
        let at = x(i);
        let _ = write!(svg, r#"<path class="axis" d="M{at:.1} {TOP}V{}"/>"#, HEIGHT - BOTTOM);
        let name = escape(&shortened(&axis.name, MOST_CHARACTERS));
        let _ = write!(svg, r#"<text x="{at:.1}" y="{}" class="m name">{name}</text>"#, TOP - 14.0);
        for (tick, text) in axis.ticks() {
            let y = axis.height(tick);
            let _ = write!(svg, r#"<path class="axis" d="M{:.1} {y:.1}h6"/>"#, at - 3.0);
            let _ = write!(svg, r#"<text x="{:.1}" y="{:.1}">{}</text>"#, at + 7.0, y + 4.0, escape(&text));
        }
    }
    svg + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_cross_axes_where_their_values_are() {
        let axes = [
            Axis { name: "rate".into(), kind: AxisKind::Log(1e-4, 1e-2) },
            Axis { name: "<loss>".into(), kind: AxisKind::Words(vec!["a".into(), "b".into()]) },
            Axis { name: "value".into(), kind: AxisKind::Linear(0.0, 1.0) },
        ];
        let line = Line { at: vec![1e-3, 1.0, 0.0], merit: 1.0, is_faint: false, title: "trial <3>".into() };
        let svg = parallel_coordinates(&axes, &[line]);
        // The middle of the logarithmic axis, the upper word, the bottom.
        assert!(svg.contains(r#"d="M70.0 188.0L540.0 111.0L1010.0 342.0""#), "{svg}");
        assert!(svg.contains("&lt;loss&gt;") && svg.contains("trial &lt;3&gt;") && !svg.contains("<3>"), "{svg}");
        assert!(svg.contains(">0.001<") && svg.contains(">b<"), "{svg}");
    }
}
