//! How hot to begin.

use krystal_math::rng::{Purpose, SplitMix64};

use super::Problem;
use crate::error::{Error, Result, measured, setting};

/// A temperature to begin with, and what it was found from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InitialTemperature {
    /// Where the sampled moves would be accepted as often as was asked for; 0 if that needs no temperature at all.
    pub temperature: f64,
    /// The share of sampled moves that do not worsen: [`LamConfig::downhill`](crate::controller::LamConfig::downhill).
    pub downhill: f64,
    /// Mean of what the others add to the energy; 0 if there are none.
    pub mean_uphill: f64,
}

/// The temperature at which the moves of a walk by chance from `start` would be accepted at the rate `acceptance`.
///
/// The walk accepts every move that it may, so it sees the landscape as at infinite temperature; the root of
/// `mean(min(1, exp(-dE/T))) = acceptance` over its `n_moves` changes of energy is found by bisection. Kirkpatrick, Gelatt and Vecchi
/// (1983) begin at an acceptance of about 0.8.
///
/// # Errors
/// [`Error::Setting`] for an acceptance that is not between 0 and 1 or a walk without moves, [`Error::Measured`] if the energy does
/// not change by numbers, or no move is allowed.
pub fn initial_temperature<P: Problem>(
    problem: &P,
    start: &P::State,
    acceptance: f64,
    n_moves: u64,
    seed: u64,
) -> Result<InitialTemperature> {
    setting(acceptance > 0.0 && acceptance < 1.0, "acceptance", "above 0 and below 1", acceptance)?;
    setting(n_moves >= 1, "n_moves", "at least 1", n_moves as f64)?;
    let mut rng = SplitMix64::stream(seed, Purpose::Annealing, 1, 0);
    let mut state = start.clone();
    let mut uphill = Vec::new();
    let (mut downhill, mut allowed) = (0_u64, 0_u64);
    for _ in 0..n_moves {
        let by = problem.propose(&state, &mut rng);
        let delta = problem.delta(&state, &by);
        measured(!delta.is_nan() && delta > f64::NEG_INFINITY, "change of the energy", "a number above -inf", delta)?;
        if delta == f64::INFINITY {
            continue;
        }
        allowed += 1;
        if delta > 0.0 {
            uphill.push(delta)
        } else {
            downhill += 1
        }
        problem.apply(&mut state, &by);
    }
    if allowed == 0 {
        return Err(Error::Measured { name: "share of allowed moves", expected: "above 0", found: 0.0 });
    }
    let mean_uphill = krystal_math::statistics::mean(&uphill);
    let found = |temperature| InitialTemperature {
        temperature,
        downhill: downhill as f64 / allowed as f64,
        mean_uphill: if uphill.is_empty() { 0.0 } else { mean_uphill },
    };
    let rate = |temperature: f64| {
        let accepted: f64 = uphill.iter().map(|delta| (-delta / temperature).exp()).sum();
        (downhill as f64 + accepted) / allowed as f64
    };
    if downhill as f64 >= acceptance * allowed as f64 {
        return Ok(found(0.0));
    }
    let (mut low, mut high) = (0.0, mean_uphill);
    while rate(high) < acceptance {
        low = high;
        high *= 2.0;
        measured(high.is_finite(), "change of the energy", "small enough for a temperature", mean_uphill)?;
    }
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        *(if rate(middle) < acceptance { &mut low } else { &mut high }) = middle;
    }
    Ok(found(high))
}
