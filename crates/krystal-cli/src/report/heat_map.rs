//! A quantity of every layer over time as colours.

use std::fmt::Write;

use super::dynamics::{Axis, LayerRow, ROW_HEIGHT, frame};
use super::escape::escape;
use super::number::{number, percent};

/// Most columns: beyond, each is the mean of a stretch of samples.
const MOST_COLUMNS: usize = 160;
/// Viridis at 0, 1/4, 1/2, 3/4, 1: as light as it is large, also for those who see fewer colours.
const VIRIDIS: [[f64; 3]; 5] =
    [[68.0, 1.0, 84.0], [59.0, 82.0, 139.0], [33.0, 145.0, 140.0], [94.0, 201.0, 98.0], [253.0, 231.0, 37.0]];

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quantity {
    /// Ticks on a logarithmic scale.
    TimeConstant,
    /// A share between 0 and 1.
    ScreeningRate,
}

/// The map, or `None` where there is no value.
pub(crate) fn heat_map(quantity: Quantity, rows: &[LayerRow], axis: &Axis) -> Option<String> {
    let value = |sample: &super::dynamics::LayerSample| match quantity {
        Quantity::TimeConstant => sample.time_constant.filter(|ticks| *ticks > 0.0).map(f64::log10),
        Quantity::ScreeningRate => sample.screening_rate,
    };
    let all = rows.iter().flat_map(|row| &row.samples).filter_map(value);
    let (low, high) = all.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        return None;
    }
    let (low, high) = match quantity {
        Quantity::TimeConstant => (low.floor(), high.ceil().max(low.floor() + 1.0)),
        Quantity::ScreeningRate => (0.0, 1.0),
    };
    let mut cells = String::new();
    for (i, row) in rows.iter().enumerate() {
        let stretch = row.samples.len().div_ceil(MOST_COLUMNS).max(1);
        let chunks: Vec<_> = row.samples.chunks(stretch).collect();
        for (j, chunk) in chunks.iter().enumerate() {
            let values: Vec<f64> = chunk.iter().filter_map(value).collect();
            if values.is_empty() {
                continue;
            }
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let start = chunk[0].step;
            let end = chunks.get(j + 1).map_or(axis.end, |next| next[0].step);
            let (x, right) = (axis.x.at(start), axis.x.at(end));
            let (paint, shown) = match quantity {
                Quantity::TimeConstant => {
                    let fill = format!(r#"fill="{}""#, viridis((mean - low) / (high - low)));
                    (fill, format!("{} ticks", number(10_f64.powf(mean))))
                }
                Quantity::ScreeningRate => {
                    (format!(r#"class="s" fill-opacity="{:.3}""#, 0.03 + 0.97 * mean.clamp(0.0, 1.0)), percent(mean))
                }
            };
            let _ = write!(
                cells,
                r#"<rect x="{x:.2}" y="{}" width="{:.2}" height="{}" {paint}><title>{}, step {}: {shown}</title></rect>"#,
                i as f64 * ROW_HEIGHT + 1.0,
                right - x,
                ROW_HEIGHT - 2.0,
                escape(&row.label()),
                number(start),
            );
        }
    }
    let labels: Vec<String> = rows.iter().map(LayerRow::label).collect();
    // Crisp edges: neighbours share a border without a line of background or a darker seam between them.
    let cells = format!(r#"<g class="cells">{cells}</g>"#);
    Some(frame(&labels, axis, &cells) + &legend(quantity, low, high))
}

fn legend(quantity: Quantity, low: f64, high: f64) -> String {
    let (bar, ticks) = match quantity {
        Quantity::TimeConstant => {
            let stops: Vec<String> = (0..=8).map(|i| viridis(f64::from(i) / 8.0)).collect();
            let ticks = (low as i32..=high as i32).map(|power| match power {
                0..5 => number(10_f64.powi(power)),
                _ => format!("10<sup>{power}</sup>"),
            });
            (format!("background:linear-gradient(90deg,{})", stops.join(",")), ticks.collect::<Vec<_>>())
        }
        Quantity::ScreeningRate => (
            "background:linear-gradient(90deg,transparent,var(--heat))".to_owned(),
            ["0", "25 %", "50 %", "75 %", "100 %"].map(str::to_owned).to_vec(),
        ),
    };
    let ticks: String = ticks.iter().map(|tick| format!("<span>{tick}</span>")).collect();
    let unit = if quantity == Quantity::TimeConstant { "ticks" } else { "screened" };
    format!(
        r#"<div class="ramp"><div><div class="bar" style="{bar}"></div><div class="ends">{ticks}</div></div><span>{unit}</span></div>"#
    )
}

/// Colour of a share of one.
fn viridis(share: f64) -> String {
    let place = share.clamp(0.0, 1.0) * 4.0;
    let i = (place.floor() as usize).min(3);
    let mix = |k: usize| VIRIDIS[i][k] + (place - i as f64) * (VIRIDIS[i + 1][k] - VIRIDIS[i][k]);
    format!("#{:02x}{:02x}{:02x}", mix(0).round() as u8, mix(1).round() as u8, mix(2).round() as u8)
}

#[cfg(test)]
mod tests {
    use super::viridis;

    #[test]
    fn the_ramp_has_its_ends() {
        assert_eq!([viridis(-1.0), viridis(0.5), viridis(1.0)], ["#440154", "#21918c", "#fde725"]);
    }
}
