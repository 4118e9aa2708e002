//! Forgetting by the clock, computed when it is needed (R16 to R18).

use crate::screening::RowPhase;
use crate::{LayerConfig, Level};

/// Relative change below which decay waits: single precision would round it away, or to something else.
const LEAST_DECAY: f64 = 1.0 / 65_536.0;

/// How much of a parameter would be left by now had it been there since tick 0, as logarithms.
///
/// The rate of a layer follows its inertia and so changes from tick to tick; what is left after any stretch of ticks is
/// `exp(now - then)`, whatever the rates were: one addition a tick for a whole layer.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct DecayClock {
    pub(crate) free: f64,
    pub(crate) screened: f64,
}

/// Factors on what was there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Keep {
    pub(crate) free: f32,
    pub(crate) screened: f32,
}

impl Keep {
    pub(crate) const ALL: Self = Self { free: 1.0, screened: 1.0 };
}

impl DecayClock {
    /// Lets ticks pass at the present rates.
    pub(crate) fn advance(&mut self, n_ticks: u64, effective_inertia: f64, config: &LayerConfig) {
        let ticks = n_ticks as f64;
        self.free += ticks * (-layer_rate(config.free_decay, effective_inertia)).ln_1p();
        self.screened += ticks * (-layer_rate(config.screened_decay, effective_inertia)).ln_1p();
    }

    /// What is left of a FREE parameter since `mark`.
    pub(crate) fn left(&self, mark: Self) -> f64 {
        (self.free - mark.free).exp()
    }

    /// What is left since `mark`, exactly.
    pub(crate) fn keep(&self, mark: Self) -> Keep {
        Keep { free: self.left(mark) as f32, screened: (self.screened - mark.screened).exp() as f32 }
    }

    /// What is left since `mark`, which moves to now: but each phase alone waits until single precision can tell.
    pub(crate) fn take(&self, mark: &mut Self) -> Keep {
        let mut keep = Keep::ALL;
        if 1.0 - self.left(*mark) >= LEAST_DECAY {
            keep.free = self.keep(*mark).free;
            mark.free = self.free;
        }
        if 1.0 - (self.screened - mark.screened).exp() >= LEAST_DECAY {
            keep.screened = self.keep(*mark).screened;
            mark.screened = self.screened;
        }
        keep
    }
}

/// Share lost in a tick by a layer: the phase's, relative to the Context layer's base plasticity (R17).
pub(crate) fn layer_rate(phase_rate: f64, effective_inertia: f64) -> f64 {
    // Below 1 even for a layer lighter than Context, whose rate times 1/0.9 could exceed it.
    (phase_rate * (1.0 - effective_inertia) / (1.0 - Level::Context.base_inertia())).clamp(0.0, 0.999)
}

/// Applies what is left to a row.
pub(crate) fn decay_row(row: &mut [f32], keep: Keep, phase: RowPhase<'_>) {
    for (i, value) in row.iter_mut().enumerate() {
        *value *= if phase.is_screened(i) { keep.screened } else { keep.free };
    }
}

/// The seed's decay of one row towards where it began: `theta (1 - d) + theta0 d`.
pub(crate) fn seed_decay_row(
    row: &mut [f32],
    initial: impl Iterator<Item = f32>,
    phase: RowPhase<'_>,
    config: &LayerConfig,
) {
    let (free, screened) = (config.free_decay as f32, config.screened_decay as f32);
    for (i, (value, initial)) in row.iter_mut().zip(initial).enumerate() {
        let rate = if phase.is_screened(i) { screened } else { free };
        *value = *value * (1.0 - rate) + initial * rate;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_lives_are_the_specifications() {
        let config = LayerConfig::default();
        let expected = [6_200.0, 621.0, 207.0, 124.0, 69.0];
        for (level, expected) in Level::ALL.into_iter().zip(expected) {
            let mut clock = DecayClock::default();
            let mut n_ticks = 0.0_f64;
            while clock.left(DecayClock::default()) > 0.5 {
                clock.advance(1, level.base_inertia(), &config);
                n_ticks += 1.0;
            }
            assert!((n_ticks / expected - 1.0).abs() < 0.01, "{level}: {n_ticks} for {expected}");
        }
    }

    #[test]
    fn decay_too_small_for_single_precision_waits_and_is_not_lost() {
        let config = LayerConfig { screened_decay: 1e-8, ..LayerConfig::default() };
        let (mut clock, mut mark, mut value) = (DecayClock::default(), DecayClock::default(), 1.0_f32);
        for _ in 0..100_000 {
            clock.advance(1, 0.1, &config);
            value *= clock.take(&mut mark).screened;
        }
        let exact = (1.0 - 1e-8_f64).powi(100_000);
        assert!((f64::from(value) - exact).abs() < 2.0 * LEAST_DECAY, "{value} for {exact}");
    }

    #[test]
    fn the_seeds_rule_is_literal() {
        let config = LayerConfig::default();
        let mut row = [1.0_f32, 1.0];
        seed_decay_row(&mut row, [0.5, 0.5].into_iter(), RowPhase::Bits(&[0b10]), &config);
        let exact = |rate: f32| 1.0 * (1.0 - rate) + 0.5 * rate;
        assert_eq!(row, [exact(0.01), exact(1e-4)]);
    }
}
