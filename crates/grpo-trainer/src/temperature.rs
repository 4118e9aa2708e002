//! The temperature that completions are sampled at: a number, or what the phase controller makes of how the run goes.

use std::fmt;

use krystal_phase::{Event, Measurement, PhaseConfig, PhaseController, PhaseControllerConfig, ReheatConfig, Tick};
use serde::de::{Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::advantage::ScaleRewards;
use crate::config::GrpoConfig;
use crate::error::Error;
use crate::metrics::{StepMetrics, event_line};

/// The word for [`Temperature::Phase`].
const PHASE: &str = "phase";

/// Softmax temperature of sampling and scoring. In files a number, or the word `phase`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Temperature {
    /// Always the same, > 0.
    Fixed(f32),
    /// From a phase controller, which begins at 1.
    ///
    /// The controller's temperature follows the gradient of the mean reward (moving average, 0.9 a step) in units of what it was on
    /// average so far, so that `T_c`, where it begins, is an ordinary gradient. It is measured as the norm of the loss's gradient,
    /// times the standard deviation of the rewards where advantages were divided by that. At `T_c` sampling is from the policy as it
    /// is; a shrinking gradient cools towards `phase_temperature_min`, which is reached at the end of the solid phase, and a growing
    /// one heats towards `phase_temperature_max`, where plasma begins. Rewards that vary slow the cooling. Where the mean reward has
    /// stopped rising short of `phase_goal`, the controller reheats. The bonus for entropy, where there is one, is multiplied by the
    /// phase's exploration rate: .05, .2, .5, .9.
    Phase,
}

impl Default for Temperature {
    fn default() -> Self {
        Self::Fixed(1.0)
    }
}

impl From<f32> for Temperature {
    fn from(temperature: f32) -> Self {
        Self::Fixed(temperature)
    }
}

impl Serialize for Temperature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fixed(temperature) => serializer.serialize_f32(*temperature),
            Self::Phase => serializer.serialize_str(PHASE),
        }
    }
}

impl<'de> Deserialize<'de> for Temperature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrWord;
        impl Visitor<'_> for NumberOrWord {
            type Value = Temperature;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a number or `{PHASE}`")
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Temperature, E> {
                Ok(Temperature::Fixed(number as f32))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Temperature, E> {
                self.visit_f64(number as f64)
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Temperature, E> {
                self.visit_f64(number as f64)
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Temperature, E> {
                if word == PHASE { Ok(Temperature::Phase) } else { Err(E::invalid_value(Unexpected::Str(word), &self)) }
            }
        }
        deserializer.deserialize_any(NumberOrWord)
    }
}

/// Share of the largest reward at which a run passes for solved.
const SOLVED: f64 = 0.95;

/// What decides on the temperature of the next generation, and what it remembers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Thermostat {
    Fixed(f32),
    Phase(Box<PhaseThermostat>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PhaseThermostat {
    controller: PhaseController,
    /// Sampling temperatures of the solid phase and of plasma.
    range: (f64, f64),
    /// Whether advantages are divided by the spread of the rewards.
    is_scaled: bool,
    /// Standard deviation of the rewards of the last generation.
    spread: f64,
    /// Mean gradient so far, and of how many.
    mean_gradient: f64,
    n_gradients: u64,
}

impl Thermostat {
    /// What a run with so many reward functions starts with.
    pub(crate) fn new(config: &GrpoConfig, n_rewards: usize) -> Result<Self, Error> {
        match config.temperature {
            Temperature::Fixed(temperature) => Ok(Self::Fixed(temperature)),
            Temperature::Phase => {
                let phase = PhaseThermostat::new(config, n_rewards);
                phase.map(|phase| Self::Phase(Box::new(phase))).map_err(|source| Error::Temperature { step: 0, source })
            }
        }
    }

    /// The temperature of the next generation.
    pub(crate) fn temperature(&self) -> f32 {
        match self {
            Self::Fixed(temperature) => *temperature,
            Self::Phase(phase) => phase.sampling(phase.reduced()) as f32,
        }
    }

    /// What the bonus for entropy is multiplied by.
    pub(crate) fn exploration(&self) -> f64 {
        match self {
            Self::Fixed(_) => 1.0,
            Self::Phase(phase) => phase.controller.exploration_rate(),
        }
    }

    /// Takes what a step measured; adds the controller's own metrics, and returns lines of `events.jsonl`.
    pub(crate) fn tick(&mut self, metrics: &mut StepMetrics) -> Result<Vec<String>, Error> {
        let step = metrics.step;
        let sampled_at = self.temperature();
        let Self::Phase(phase) = self else { return Ok(Vec::new()) };
        let tick = phase.tick(metrics).map_err(|source| Error::Temperature { step, source })?;
        metrics.push("temperature", Some(f64::from(sampled_at)));
        metrics.push("phase/reduced_temperature", Some(phase.reduced()));
        metrics.push("phase/exploration_rate", Some(tick.exploration_rate));
        Ok(tick.events().map(|event| line(step, &event)).collect())
    }
}

impl PhaseThermostat {
    fn new(config: &GrpoConfig, n_rewards: usize) -> krystal_phase::Result<Self> {
        let weights = config.reward_weights.clone().unwrap_or_else(|| vec![1.0; n_rewards]);
        let most: f64 = weights.iter().map(|weight| weight.max(0.0)).sum();
        let goal = config.phase_goal.unwrap_or(SOLVED * most);
        let patience = config.phase_patience;
        let reheat = ReheatConfig { patience, goal: Some(-goal), ..ReheatConfig::default() };
        let phases = PhaseConfig::default();
        let controller = PhaseController::new(PhaseControllerConfig {
            phases,
            initial_temperature: phases.critical_temperature,
            reheat: (patience > 0).then_some(reheat),
            ..PhaseControllerConfig::default()
        })?;
        let range = (config.phase_temperature_min, config.phase_temperature_max);
        let is_scaled = config.scale_rewards != ScaleRewards::None;
        Ok(Self { controller, range, is_scaled, spread: 0.0, mean_gradient: 0.0, n_gradients: 0 })
    }

    fn tick(&mut self, metrics: &StepMetrics) -> krystal_phase::Result<Tick> {
        self.spread = metrics.get("reward_std").unwrap_or(self.spread);
        let norm = metrics.get("grad_norm").unwrap_or(0.0);
        let gradient = if self.is_scaled { norm * self.spread } else { norm };
        self.n_gradients += 1;
        self.mean_gradient += (gradient - self.mean_gradient) / self.n_gradients as f64;
        let relative = if self.mean_gradient > 0.0 { gradient / self.mean_gradient } else { 0.0 };
        let mut seen = Measurement::gradient(relative * self.controller.config().phases.critical_temperature);
        seen = seen.with_variance(self.spread * self.spread);
        seen.objective = metrics.get("reward").map(|reward| -reward);
        self.controller.tick(&seen)
    }

    /// The controller's temperature in units of `T_c`.
    fn reduced(&self) -> f64 {
        self.controller.temperature() / self.controller.config().phases.critical_temperature
    }

    /// The sampling temperature at a controller's temperature: linear between the end of the solid phase, `T_c` and the beginning of
    /// plasma.
    fn sampling(&self, reduced: f64) -> f64 {
        let boundaries = self.controller.config().phases.boundaries;
        let (min, max) = self.range;
        if reduced < 1.0 {
            let share = ((reduced - boundaries.liquid) / (1.0 - boundaries.liquid)).max(0.0);
            min + share * (1.0 - min)
        } else {
            let share = ((reduced - 1.0) / (boundaries.plasma - 1.0)).min(1.0);
            1.0 + share * (max - 1.0)
        }
    }
}

/// A line of `events.jsonl`.
fn line(step: u64, event: &Event) -> String {
    // An event is a tag and finite numbers: always an object.
    let fields = serde_json::to_value(event).ok().and_then(|event| event.as_object().cloned());
    event_line(step, fields.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_or_the_word() {
        let read = |text: &str| serde_json::from_str::<Temperature>(text);
        for (text, temperature) in
            [("1.5", Temperature::Fixed(1.5)), ("2", Temperature::Fixed(2.0)), (r#""phase""#, Temperature::Phase)]
        {
            assert_eq!(read(text).unwrap(), temperature);
            assert_eq!(read(&serde_json::to_string(&temperature).unwrap()).unwrap(), temperature);
        }
        for text in [r#""hot""#, "null", "[1]"] {
            assert!(read(text).unwrap_err().to_string().contains("a number or `phase`"), "{text}");
        }
    }

    #[test]
    fn phases_have_their_temperatures() {
        let phase = PhaseThermostat::new(&config(), 1).unwrap();
        for (reduced, expected) in
            [(0.0, 0.7), (0.25, 0.7), (0.625, 0.85), (1.0, 1.0), (1.25, 1.15), (1.5, 1.3), (9.0, 1.3)]
        {
            assert!((phase.sampling(reduced) - expected).abs() < 1e-12, "{reduced}");
        }
    }

    /// Ticks of a run with these gradients and rewards; temperatures, and kinds of events.
    fn run(thermostat: &mut Thermostat, steps: &[(f64, f64)]) -> (Vec<f32>, Vec<String>) {
        let mut events = Vec::new();
        let tick = |(step, (norm, reward)): (u64, &(f64, f64))| {
            let mut metrics = StepMetrics::new(step);
            metrics.push("grad_norm", Some(*norm));
            metrics.push("reward", Some(*reward));
            metrics.push("reward_std", Some(0.3));
            events.extend(thermostat.tick(&mut metrics).unwrap());
            thermostat.temperature()
        };
        ((1..).zip(steps).map(tick).collect(), events)
    }

    fn config() -> GrpoConfig {
        GrpoConfig { temperature: Temperature::Phase, phase_patience: 10, ..GrpoConfig::default() }
    }

    #[test]
    fn a_shrinking_gradient_cools_and_a_stall_heats() {
        let mut thermostat = Thermostat::new(&config(), 1).unwrap();
        assert_eq!((thermostat.temperature(), thermostat.exploration()), (1.0, 0.5));
        let rising: Vec<(f64, f64)> = (0..40).map(|i| (0.9_f64.powi(i), 0.02 * f64::from(i))).collect();
        let (temperatures, events) = run(&mut thermostat, &rising);
        assert!(temperatures.windows(2).skip(1).all(|pair| pair[1] <= pair[0]), "{temperatures:?}");
        assert!(temperatures[39] < 0.8, "{temperatures:?}");
        assert!(events.iter().all(|event| event.contains("phase_change")) && !events.is_empty(), "{events:?}");
        assert_eq!(thermostat.exploration(), 0.05);
        let (temperatures, events) = run(&mut thermostat, &[(0.01, 0.5); 30]);
        assert!(events.iter().any(|event| event.contains("\"event\":\"reheat\"")), "{events:?}");
        assert!(temperatures.iter().any(|&t| t > 1.1), "{temperatures:?}");
    }

    #[test]
    fn what_is_solved_is_not_disturbed() {
        let mut thermostat = Thermostat::new(&config(), 1).unwrap();
        let (temperatures, events) = run(&mut thermostat, &[(0.0, 1.0); 100]);
        assert!(!events.iter().any(|event| event.contains("reheat")), "{events:?}");
        assert_eq!(temperatures[99], 0.7);
    }
}
