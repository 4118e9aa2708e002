//! One hump or two?

use krystal_math::statistics::std;

use super::check;
use crate::error::Result;

/// The deepest valley between two humps of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Bimodality {
    /// Where the humps are highest.
    pub humps: [f64; 2],
    /// Where the valley is lowest.
    pub valley: f64,
    /// `ln((lower hump + 1) / (valley + 1))` of counts: a free energy barrier in units of the temperature.
    pub barrier: f64,
    /// The barrier in units of its error, by a jackknife over 32 blocks.
    pub z: f64,
    /// Whether `z` is above 5: the valley is the best of many, and 32 blocks know their error to 13 % only.
    pub is_bimodal: bool,
}

const N_BLOCKS: usize = 32;

/// Looks for two humps in the histogram of a series, such as the energies of a transition of first order.
///
/// Bins are as wide as Freedman and Diaconis' rule says, `2 iqr n^(-1/3)`, but at least a quarter of the standard deviation, and
/// whole multiples of the step if the values lie on a lattice. What is finer, closer together than one standard deviation, or holds
/// less than one sample in fifty, is fine structure: the two humps of a mixture are at least two standard deviations apart. The series
/// must pass between the humps several times, or no error bar of their heights means anything.
///
/// `None` if no bin lies lower than one on either side.
///
/// # Errors
/// [`Error::NotFinite`](crate::Error::NotFinite), [`Error::TooFew`](crate::Error::TooFew) for fewer than 320 samples.
pub fn bimodality(series: &[f64]) -> Result<Option<Bimodality>> {
    check(series, "samples", 10 * N_BLOCKS)?;
    let mut sorted = series.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    let (mut low, high) = (sorted[0], sorted[n - 1]);
    let quartiles = sorted[3 * n / 4] - sorted[n / 4];
    let spread = std(series, 0);
    let mut width = (2.0 * quartiles * (n as f64).cbrt().recip()).max(0.25 * spread);
    if width == 0.0 {
        return Ok(None);
    }
    if let Some(step) = lattice_step(&sorted) {
        // Bins that hold unequal numbers of levels would be a comb.
        width = step * (width / step).round().max(1.0);
        low -= 0.5 * step;
    }
    let n_bins = ((high - low) / width) as usize + 1;
    let mut blocks = vec![vec![0.0_f64; n_bins]; N_BLOCKS];
    for (i, x) in series.iter().enumerate() {
        blocks[i * N_BLOCKS / n][(((x - low) / width) as usize).min(n_bins - 1)] += 1.0;
    }
    let counts: Vec<f64> = (0..n_bins).map(|bin| blocks.iter().map(|block| block[bin]).sum()).collect();
    let highest =
        |range: std::ops::Range<usize>| range.max_by(|&a, &b| counts[a].total_cmp(&counts[b]).then(b.cmp(&a)));
    let centre = |bin: usize| low + (bin as f64 + 0.5) * width;
    let mut found: Option<Bimodality> = None;
    for valley in 1..n_bins.saturating_sub(1) {
        let (Some(left), Some(right)) = (highest(0..valley), highest(valley + 1..n_bins)) else { continue };
        let hump = if counts[left] < counts[right] { left } else { right };
        let is_fine = centre(right) - centre(left) < spread || 50.0 * counts[hump] < n as f64;
        if counts[hump] <= counts[valley] || is_fine {
            continue;
        }
        let height = |hump: f64, valley: f64| ((hump + 1.0) / (valley + 1.0)).ln();
        let barrier = height(counts[hump], counts[valley]);
        let without: Vec<f64> =
            blocks.iter().map(|b| height(counts[hump] - b[hump], counts[valley] - b[valley])).collect();
        let b = N_BLOCKS as f64;
        // sigma^2 = (B - 1)/B sum (f_b - mean f_b)^2
        let error = (b - 1.0).sqrt() * std(&without, 0);
        let z = if error > 0.0 { barrier / error } else { 0.0 };
        if found.is_none_or(|found| z > found.z) {
            let humps = [centre(left), centre(right)];
            found = Some(Bimodality { humps, valley: centre(valley), barrier, z, is_bimodal: z > 5.0 });
        }
    }
    Ok(found)
}

/// The step of which all differences between neighbouring values are multiples, if there is one.
fn lattice_step(sorted: &[f64]) -> Option<f64> {
    let span = sorted[sorted.len() - 1] - sorted[0];
    // What rounding leaves between equal values is no step.
    let gaps = || sorted.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > 1e-9 * span);
    let step = gaps().fold(f64::INFINITY, f64::min);
    let is_multiple = |gap: f64| (gap / step - (gap / step).round()).abs() < 1e-3;
    (step.is_finite() && gaps().all(is_multiple)).then_some(step)
}
