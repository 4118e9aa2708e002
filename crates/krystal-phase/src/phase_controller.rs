//! Temperature as feedback: measurements in, temperature, phase and exploration out.

use serde::{Deserialize, Serialize};

use crate::controller::{Controller, ControllerConfig};
use crate::error::{Error, Result, saved, setting};
use crate::measurement::Measurement;
use crate::phase::{Phase, PhaseConfig, PhaseDiagram};
use crate::stall::{ReheatConfig, Stall};

/// Settings of a [`PhaseController`]. The defaults are those of the KrystalSDK document: the moving average of the gradient,
/// `T_c = 0.5`, `T = 0.3` to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PhaseControllerConfig {
    /// Critical temperature, boundaries, hysteresis and exploration rates.
    pub phases: PhaseConfig,
    /// The rule that the temperature follows.
    pub controller: ControllerConfig,
    /// Whether and how a stall heats; off by default.
    pub reheat: Option<ReheatConfig>,
    /// The temperature before the first tick, within the limits; default 0.3.
    pub initial_temperature: f64,
    /// No temperature is below; default 0.
    pub min_temperature: f64,
    /// No temperature is above; finite, default 10^6, so that a policy that should be random at `T = inf` still has a number.
    pub max_temperature: f64,
}

impl Default for PhaseControllerConfig {
    fn default() -> Self {
        Self {
            phases: PhaseConfig::default(),
            controller: ControllerConfig::default(),
            reheat: None,
            initial_temperature: 0.3,
            min_temperature: 0.0,
            max_temperature: 1e6,
        }
    }
}

/// Something that happened in a tick, for logs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The search is in another phase.
    PhaseChange {
        /// The phase until now.
        from: Phase,
        /// The phase from now on.
        to: Phase,
        /// The temperature that did it.
        temperature: f64,
    },
    /// The objective stalled, and the temperature was raised.
    Reheat {
        /// The temperature that it would have been.
        from: f64,
        /// The temperature that it is.
        to: f64,
    },
}

/// The outcome of one tick.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tick {
    /// The temperature from now on.
    pub temperature: f64,
    /// The phase from now on.
    pub phase: Phase,
    /// The share of actions to take at random.
    pub exploration_rate: f64,
    /// A reheat, then a change of phase, as far as they happened.
    events: [Option<Event>; 2],
}

impl Tick {
    /// What happened, in order.
    pub fn events(&self) -> impl Iterator<Item = Event> + use<> {
        self.events.into_iter().flatten()
    }
}

/// A temperature that follows measurements, the phase that it means, and reheating when the objective stalls.
///
/// Whoever owns a search ticks it: an agent after each reward, a trainer after each step, an annealer after each block of moves. It is
/// deterministic, allocates nothing, and goes through serde without loss: a saved and loaded controller continues bit for bit, in formats
/// that keep every bit of an `f64`.
///
/// ```
/// use krystal_phase::{Measurement, Phase, PhaseController, PhaseControllerConfig};
///
/// let mut controller = PhaseController::new(PhaseControllerConfig::default())?;
/// assert_eq!((controller.temperature(), controller.phase()), (0.3, Phase::Liquid));
/// let tick = controller.tick(&Measurement::gradient(4.0))?;
/// assert!((tick.temperature - (0.9 * 0.3 + 0.1 * 4.0)).abs() < 1e-15);
/// assert_eq!((tick.phase, tick.exploration_rate), (Phase::Gas, 0.5));
/// assert_eq!(tick.events().count(), 1);
/// # Ok::<(), krystal_phase::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(into = "Saved", try_from = "Saved")]
pub struct PhaseController {
    config: PhaseControllerConfig,
    diagram: PhaseDiagram,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct State {
    controller: Controller,
    /// The controller's own temperature.
    temperature: f64,
    /// What is left of the last reheat; the larger of the two rules.
    reheated: f64,
    phase: Phase,
    stall: Stall,
    n_ticks: u64,
    n_reheats: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    config: PhaseControllerConfig,
    state: State,
}

impl PhaseController {
    /// # Errors
    /// [`Error::Setting`] for a setting outside its range.
    pub fn new(config: PhaseControllerConfig) -> Result<Self> {
        let diagram = PhaseDiagram::new(config.phases)?;
        let PhaseControllerConfig { min_temperature: min, max_temperature: max, initial_temperature, .. } = config;
        setting((0.0..f64::INFINITY).contains(&min), "min_temperature", "at least 0 and finite", min)?;
        setting(max > min && max.is_finite(), "max_temperature", "above min_temperature and finite", max)?;
        setting(
            (min..=max).contains(&initial_temperature),
            "initial_temperature",
            "between min_temperature and max_temperature",
            initial_temperature,
        )?;
        if let Some(reheat) = config.reheat {
            reheat.validate()?;
        }
        let state = State {
            controller: Controller::new(config.controller)?,
            temperature: initial_temperature,
            reheated: 0.0,
            phase: diagram.classify(initial_temperature)?,
            stall: Stall::default(),
            n_ticks: 0,
            n_reheats: 0,
        };
        Ok(Self { config, diagram, state })
    }

    /// Takes what was measured since the last tick.
    ///
    /// # Errors
    /// [`Error::Measured`] or [`Error::NotANumber`] for a value outside its range or NaN, [`Error::Missing`] if the controller needs
    /// what was not measured. The controller is then as it was before.
    pub fn tick(&mut self, seen: &Measurement<'_>) -> Result<Tick> {
        seen.validate()?;
        let (min, max) = (self.config.min_temperature, self.config.max_temperature);
        let mut state = self.state;
        let next = state.controller.next(state.temperature, seen)?;
        state.temperature = next.clamp(min, max);
        state.n_ticks += 1;

        let mut reheated = None;
        if let Some(reheat) = &self.config.reheat {
            state.reheated *= reheat.decay;
            let to = (reheat.temperature * self.config.phases.critical_temperature).clamp(min, max);
            let stalled = seen.objective.is_some_and(|objective| state.stall.push(reheat, objective));
            let from = state.temperature.max(state.reheated);
            if stalled && to > from {
                reheated = Some(Event::Reheat { from, to });
                state.reheated = to;
                state.n_reheats += 1;
                // What comes next is worse because of the heat, which is no second stall.
                state.stall = Stall::default();
            }
        }

        let temperature = state.temperature.max(state.reheated);
        let from = state.phase;
        state.phase = self.diagram.next(from, temperature)?;
        let changed = (state.phase != from).then_some(Event::PhaseChange { from, to: state.phase, temperature });
        self.state = state;
        Ok(Tick {
            temperature,
            phase: state.phase,
            exploration_rate: self.exploration_rate(),
            events: [reheated, changed],
        })
    }

    /// The temperature now.
    pub fn temperature(&self) -> f64 {
        self.state.temperature.max(self.state.reheated)
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        self.state.phase
    }

    /// The share of actions to take at random now.
    pub fn exploration_rate(&self) -> f64 {
        self.diagram.exploration_rate(self.state.phase)
    }

    /// Ticks so far.
    pub fn n_ticks(&self) -> u64 {
        self.state.n_ticks
    }

    /// Reheats so far.
    pub fn n_reheats(&self) -> u64 {
        self.state.n_reheats
    }

    /// As it was made.
    pub fn config(&self) -> &PhaseControllerConfig {
        &self.config
    }
}

impl From<PhaseController> for Saved {
    fn from(PhaseController { config, state, .. }: PhaseController) -> Self {
        Self { config, state }
    }
}

impl TryFrom<Saved> for PhaseController {
    type Error = Error;

    fn try_from(Saved { config, state }: Saved) -> Result<Self> {
        let fresh = Self::new(config)?;
        let limits = config.min_temperature..=config.max_temperature;
        let within = "within the limits of the configuration";
        saved(limits.contains(&state.temperature), "temperature", within, state.temperature)?;
        let reheated = state.reheated;
        saved((0.0..=config.max_temperature).contains(&reheated), "reheated temperature", within, reheated)?;
        saved(
            state.controller.belongs_to(&fresh.state.controller),
            "controller",
            "that of the configuration",
            f64::NAN,
        )?;
        let patience = config.reheat.map_or(0, |reheat| reheat.patience);
        let Stall { now, before } = state.stall;
        for window in [Some(now), before].into_iter().flatten() {
            saved(window.mean.is_finite() && window.squares >= 0.0, "window", "finite", window.mean)?;
        }
        saved(now.n <= patience, "window", "no longer than the patience", now.n as f64)?;
        if let Some(before) = before {
            saved(before.n == patience, "window", "as long as the patience", before.n as f64)?;
        }
        Ok(Self { state, ..fresh })
    }
}
