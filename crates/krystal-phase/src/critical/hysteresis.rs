//! Does the way back differ from the way there?

use krystal_math::statistics::{mean, std};

use super::{check, jackknife::Estimate};
use crate::error::{Error, Result};

/// A loop through a transition.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Hysteresis {
    /// The temperature at which the heated system lost its order.
    pub heating: Estimate,
    /// The temperature at which the cooled one gained it.
    pub cooling: Estimate,
    /// `heating - cooling`.
    pub width: Estimate,
    /// Whether the width is above 0 by more than three standard errors and more than two steps of the ramp.
    pub is_open: bool,
}

/// The width of hysteresis loops, each a system heated along `temperatures` and another cooled back, with the order parameter seen at each
/// temperature; `heating[r][i]` and `cooling[r][i]` belong to `temperatures[i]`, in ascending order.
///
/// A branch changes where it passes half of the largest order seen, by linear interpolation; each loop gives one pair of temperatures, and
/// several loops with different draws give the errors. A ramp that is fast compared with the relaxation opens a loop anywhere: dwell long,
/// and look whether the width stays when the ramp is slowed down.
///
/// # Errors
/// [`Error::TooFew`] for fewer than 3 loops or temperatures, [`Error::Counts`] for branches of other lengths, [`Error::NotFinite`], and
/// [`Error::Measured`] if a branch does not pass through the middle.
pub fn hysteresis(temperatures: &[f64], heating: &[Vec<f64>], cooling: &[Vec<f64>]) -> Result<Hysteresis> {
    check(temperatures, "temperatures", 3)?;
    if heating.len() != cooling.len() {
        return Err(Error::Counts { what: "cooling branches", expected: heating.len(), found: cooling.len() });
    }
    if heating.len() < 3 {
        return Err(Error::TooFew { what: "loops", needed: 3, found: heating.len() });
    }
    if !temperatures.is_sorted_by(|a, b| a < b) {
        return Err(Error::Measured { name: "ramp of temperatures", expected: "ascending", found: temperatures[0] });
    }
    let change = |branch: &Vec<f64>| {
        if branch.len() != temperatures.len() {
            return Err(Error::Counts {
                what: "points of a branch",
                expected: temperatures.len(),
                found: branch.len(),
            });
        }
        check(branch, "order parameter", 3)?;
        let high = branch.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let low = branch.iter().copied().fold(f64::INFINITY, f64::min);
        let middle = 0.5 * (high + low);
        let at = branch.windows(2).position(|pair| pair[0] >= middle && pair[1] < middle);
        let Some(i) = at else {
            return Err(Error::Measured { name: "branch", expected: "from order to disorder", found: high - low });
        };
        let share = (branch[i] - middle) / (branch[i] - branch[i + 1]);
        Ok(temperatures[i] + share * (temperatures[i + 1] - temperatures[i]))
    };
    let changes = |branches: &[Vec<f64>]| branches.iter().map(change).collect::<Result<Vec<f64>>>();
    let (up, down) = (changes(heating)?, changes(cooling)?);
    let widths: Vec<f64> = up.iter().zip(&down).map(|(up, down)| up - down).collect();
    let estimate = |x: &[f64]| Estimate { value: mean(x), error: std(x, 1) / (x.len() as f64).sqrt() };
    let width = estimate(&widths);
    let step = temperatures.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
    let is_open = width.value > 3.0 * width.error && width.value > 2.0 * step;
    Ok(Hysteresis { heating: estimate(&up), cooling: estimate(&down), width, is_open })
}
