//! Phases of a search: what a temperature means for behaviour, without flicker at the boundaries.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, setting};

/// How far a search is from frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Frozen: exploit the best that is known.
    Solid,
    /// Flowing: exploration and exploitation in balance.
    Liquid,
    /// Expanding: mostly exploration.
    Gas,
    /// Ionised: nearly random search.
    Plasma,
}

impl Phase {
    /// All phases, from cold to hot.
    pub const ALL: [Phase; 4] = [Phase::Solid, Phase::Liquid, Phase::Gas, Phase::Plasma];

    /// `solid`, `liquid`, `gas` or `plasma`.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Solid => "solid",
            Phase::Liquid => "liquid",
            Phase::Gas => "gas",
            Phase::Plasma => "plasma",
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Where each phase begins, in units of the critical temperature.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Boundaries {
    /// From solid to liquid.
    pub liquid: f64,
    /// From liquid to gas.
    pub gas: f64,
    /// From gas to plasma.
    pub plasma: f64,
}

impl Boundaries {
    /// 0.25, 1, 1.5: the table of the KrystalSDK document, section 2.2. The default.
    pub const TABLE: Self = Self { liquid: 0.25, gas: 1.0, plasma: 1.5 };
    /// 0.5, 1, 1.5: the code of the same document, section 2.3, which contradicts its table on where a solid melts.
    pub const CODE: Self = Self { liquid: 0.5, gas: 1.0, plasma: 1.5 };
}

impl Default for Boundaries {
    fn default() -> Self {
        Self::TABLE
    }
}

/// The share of actions taken at random, by phase.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExplorationRates {
    /// While solid: 0.05.
    pub solid: f64,
    /// While liquid: 0.2.
    pub liquid: f64,
    /// While gas: 0.5.
    pub gas: f64,
    /// While plasma: 0.9.
    pub plasma: f64,
}

impl Default for ExplorationRates {
    fn default() -> Self {
        Self { solid: 0.05, liquid: 0.2, gas: 0.5, plasma: 0.9 }
    }
}

impl ExplorationRates {
    /// The rate of one phase.
    pub fn of(&self, phase: Phase) -> f64 {
        match phase {
            Phase::Solid => self.solid,
            Phase::Liquid => self.liquid,
            Phase::Gas => self.gas,
            Phase::Plasma => self.plasma,
        }
    }
}

/// Settings of a [`PhaseDiagram`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PhaseConfig {
    /// `T_c`, above 0; default 0.5.
    pub critical_temperature: f64,
    /// Where phases begin, in units of `T_c`.
    pub boundaries: Boundaries,
    /// Width of the band around each boundary within which a phase stays as it is, as a share of the boundary: at 0.1 a liquid
    /// becomes gas at `1.05 T_c` and a gas liquid below `0.95 T_c`. At 0 there is no hysteresis, as in the code of the KrystalSDK
    /// document, whose comment promises one. Bands must not meet.
    pub hysteresis: f64,
    /// The share of random actions.
    pub exploration: ExplorationRates,
}

impl Default for PhaseConfig {
    fn default() -> Self {
        Self {
            critical_temperature: 0.5,
            boundaries: Boundaries::default(),
            hysteresis: 0.1,
            exploration: ExplorationRates::default(),
        }
    }
}

/// Boundaries that have been checked, and the rule by which phases change: at each boundary a Schmitt trigger.
///
/// With boundary `b` and band `h`, a phase is left upwards at `T >= b (1 + h/2) T_c` and downwards at `T < b (1 - h/2) T_c`. A
/// temperature may cross several boundaries at once.
///
/// ```
/// use krystal_phase::{Phase, PhaseConfig, PhaseDiagram};
///
/// let diagram = PhaseDiagram::new(PhaseConfig::default())?;
/// assert_eq!(diagram.classify(0.51)?, Phase::Gas);
/// assert_eq!(diagram.next(Phase::Liquid, 0.51)?, Phase::Liquid);
/// assert_eq!(diagram.next(Phase::Liquid, 0.53)?, Phase::Gas);
/// assert_eq!(diagram.next(Phase::Gas, 0.49)?, Phase::Gas);
/// # Ok::<(), krystal_phase::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PhaseDiagram {
    config: PhaseConfig,
    /// Temperatures of the boundaries.
    at: [f64; 3],
    upwards: [f64; 3],
    downwards: [f64; 3],
}

impl PhaseDiagram {
    /// # Errors
    /// [`Error::Setting`] for a critical temperature that is not above 0 and finite, boundaries that do not ascend from above 0,
    /// bands that meet, rates outside `[0, 1]`.
    pub fn new(config: PhaseConfig) -> Result<Self> {
        let t_c = config.critical_temperature;
        setting(t_c > 0.0 && t_c.is_finite(), "critical_temperature", "above 0 and finite", t_c)?;
        let Boundaries { liquid, gas, plasma } = config.boundaries;
        setting(liquid > 0.0, "boundaries.liquid", "above 0", liquid)?;
        setting(gas > liquid, "boundaries.gas", "above boundaries.liquid", gas)?;
        setting(plasma > gas && plasma.is_finite(), "boundaries.plasma", "above boundaries.gas and finite", plasma)?;
        let half = config.hysteresis / 2.0;
        setting((0.0..1.0).contains(&half), "hysteresis", "at least 0 and below 2", config.hysteresis)?;
        let reduced = [liquid, gas, plasma];
        for pair in reduced.windows(2) {
            let apart = pair[0] * (1.0 + half) < pair[1] * (1.0 - half);
            setting(apart, "hysteresis", "so small that the bands of neighbouring boundaries do not meet", 2.0 * half)?;
        }
        for phase in Phase::ALL {
            let rate = config.exploration.of(phase);
            setting((0.0..=1.0).contains(&rate), "an exploration rate", "between 0 and 1", rate)?;
        }
        Ok(Self {
            config,
            at: reduced.map(|b| b * t_c),
            upwards: reduced.map(|b| b * (1.0 + half) * t_c),
            downwards: reduced.map(|b| b * (1.0 - half) * t_c),
        })
    }

    /// As it was made.
    pub fn config(&self) -> &PhaseConfig {
        &self.config
    }

    /// The phase of a temperature that has no past.
    ///
    /// # Errors
    /// [`Error::Temperature`] if it is below 0 or not a number.
    pub fn classify(&self, temperature: f64) -> Result<Phase> {
        check(temperature)?;
        Ok(Phase::ALL[self.at.iter().filter(|b| temperature >= **b).count()])
    }

    /// The phase after `current` at a temperature.
    ///
    /// # Errors
    /// [`Error::Temperature`] if it is below 0 or not a number.
    pub fn next(&self, current: Phase, temperature: f64) -> Result<Phase> {
        check(temperature)?;
        let mut phase = current as usize;
        while phase < 3 && temperature >= self.upwards[phase] {
            phase += 1;
        }
        while phase > 0 && temperature < self.downwards[phase - 1] {
            phase -= 1;
        }
        Ok(Phase::ALL[phase])
    }

    /// The share of random actions of a phase.
    pub fn exploration_rate(&self, phase: Phase) -> f64 {
        self.config.exploration.of(phase)
    }
}

fn check(temperature: f64) -> Result<()> {
    if temperature >= 0.0 { Ok(()) } else { Err(Error::Temperature { found: temperature }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagram(hysteresis: f64, boundaries: Boundaries) -> PhaseDiagram {
        PhaseDiagram::new(PhaseConfig { hysteresis, boundaries, ..PhaseConfig::default() }).unwrap()
    }

    /// Section 2.2 (table) and 2.3 (code) of the KrystalSDK document, at `T_c = 0.5`.
    #[test]
    fn table_and_code() {
        use Phase::*;
        for (t, table, code) in [
            (0.0, Solid, Solid),
            (0.124, Solid, Solid),
            (0.125, Liquid, Solid),
            (0.25, Liquid, Liquid),
            (0.499, Liquid, Liquid),
            (0.5, Gas, Gas),
            (0.75, Plasma, Plasma),
            (f64::INFINITY, Plasma, Plasma),
        ] {
            for (boundaries, expected) in [(Boundaries::TABLE, table), (Boundaries::CODE, code)] {
                let diagram = diagram(0.0, boundaries);
                assert_eq!(diagram.classify(t).unwrap(), expected, "{t}");
                // Without a band the past does not matter.
                for past in Phase::ALL {
                    assert_eq!(diagram.next(past, t).unwrap(), expected, "{past} {t}");
                }
            }
        }
    }

    #[test]
    fn a_loop_is_as_wide_as_the_band() {
        let diagram = diagram(0.2, Boundaries::TABLE);
        let ramp: Vec<f64> = (0..=1000).map(|i| f64::from(i) * 1e-3).collect();
        let mut phase = Phase::Solid;
        let mut changes = Vec::new();
        for &t in ramp.iter().chain(ramp.iter().rev()) {
            let next = diagram.next(phase, t).unwrap();
            if next != phase {
                changes.push((next, t));
            }
            phase = next;
        }
        use Phase::*;
        let expected = [(Liquid, 0.138), (Gas, 0.55), (Plasma, 0.825), (Gas, 0.674), (Liquid, 0.449), (Solid, 0.112)];
        assert_eq!(changes.len(), expected.len());
        for ((phase, t), (expected_phase, expected_t)) in changes.iter().zip(expected) {
            assert_eq!(*phase, expected_phase);
            assert!((t - expected_t).abs() < 1.5e-3, "{phase} at {t}");
        }
    }

    #[test]
    fn noise_within_the_band_changes_nothing() {
        let diagram = diagram(0.1, Boundaries::TABLE);
        for past in [Phase::Liquid, Phase::Gas] {
            assert!((0..100).all(|i| diagram.next(past, 0.5 + 0.02 * f64::from(i).sin()).unwrap() == past));
        }
    }

    #[test]
    fn bad_settings_are_refused() {
        let base = PhaseConfig::default();
        for config in [
            PhaseConfig { critical_temperature: f64::NAN, ..base },
            PhaseConfig { critical_temperature: 0.0, ..base },
            PhaseConfig { hysteresis: f64::NAN, ..base },
            PhaseConfig { hysteresis: 0.5, ..base },
            PhaseConfig { boundaries: Boundaries { liquid: 1.0, ..Boundaries::TABLE }, ..base },
            PhaseConfig { exploration: ExplorationRates { gas: 1.5, ..ExplorationRates::default() }, ..base },
        ] {
            assert!(matches!(PhaseDiagram::new(config), Err(Error::Setting { .. })), "{config:?}");
        }
        let diagram = PhaseDiagram::new(base).unwrap();
        assert!(diagram.next(Phase::Gas, f64::NAN).is_err() && diagram.classify(-0.1).is_err());
    }
}
