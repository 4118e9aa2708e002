//! The agent: a learner, a temperature, and what steers them.

mod config;
mod cycle;
mod learning;
mod memory;
mod observe;
mod saving;
mod set_point;
mod tuner;

use std::path::PathBuf;

use krystal_math::rng::{Purpose, SplitMix64};
use krystal_phase::{Measurement, Phase, PhaseController};
use serde::{Deserialize, Serialize};

pub use config::{AgentConfig, Method, Policy};
pub use memory::MemoryConfig;
pub use observe::{Observable, Observation, Observe};
pub use set_point::SetPointConfig;
pub use tuner::{Factors, TunerConfig};

use crate::control::{ActionValues, ActionValuesConfig};
use crate::error::{Error, Result};
use crate::replay::Batch;
use crate::trace::TraceKind;
use memory::Memory;
use observe::Place;
use set_point::SetPoint;
use tuner::Tuner;

/// What an agent has chosen to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// The action, from 0 to `action_dim - 1`.
    pub action: usize,
    /// The probability with which it was chosen.
    pub probability: f64,
    /// Its value.
    pub value: f64,
}

/// How an agent is doing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tick {
    /// Rewards so far.
    pub cycle: u64,
    /// Mean reward, of which each reward makes a hundredth.
    pub mean_reward: f64,
    /// The TD error last learned from.
    pub error: f64,
    /// The temperature of the policy.
    pub temperature: f64,
    /// The phase.
    pub phase: Phase,
    /// What the swarm multiplies learning rate and temperature by.
    pub factors: Factors,
    /// Effort of the set-point's controller, in `[0, 1]`.
    pub effort: f64,
    /// Whether a checkpoint was written.
    pub saved: bool,
}

/// Learns online what to do: observe, decide, reward, again and again.
///
/// - The **learner** is linear [`ActionValues`] over what is observed, and a 1.
/// - The **phase** controller turns the size of TD errors into a temperature: surprised, the agent explores; with nothing left to learn it cools.
///   Actions are drawn with `exp(q / T)`.
/// - The **swarm** (off unless configured) tries factors for learning rate and temperature over windows of reward, and keeps the best.
/// - The **PID** controller (off unless configured) heats as long as the mean reward of the best known actions is below a set-point. It is
///   the one part that notices that a world has become worse without surprising anymore.
/// - **Replay** (off unless configured) learns from kept steps again.
///
/// An agent learns from a step when it decides what to do next, for only then it knows what followed; [`terminated`](Self::terminated) and
/// [`truncated`](Self::truncated) end an episode. [`tick`](Self::tick) does what need not be done each cycle: the swarm's windows and
/// checkpoints. Every draw is addressed by seed and count, so that a loaded agent goes on bit for bit; a cycle allocates nothing once all
/// names are known. With the default settings no function of the platform's libm is called, so that bits do not depend on the machine either.
///
/// ```
/// use krystal_rl::{Agent, AgentConfig};
///
/// let mut agent = Agent::new(AgentConfig { action_dim: 2, ..AgentConfig::default() })?;
/// for _ in 0..500 {
///     agent.observe(&[("load", 0.7), ("errors", 0.0)])?;
///     let action = agent.decide()?.action;
///     agent.reward(if action == 1 { 1.0 } else { 0.0 })?;
///     agent.tick()?;
/// }
/// assert!(agent.mean_reward() > 0.6);
/// # Ok::<(), krystal_rl::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Agent {
    config: AgentConfig,
    state: State,
    draws: SplitMix64,
    replay_draws: SplitMix64,
    scratch: Scratch,
    path: Option<PathBuf>,
}

/// All that a checkpoint holds beside the configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    learner: ActionValues<f64>,
    phase: PhaseController,
    memory: Option<Memory>,
    tuner: Option<Tuner>,
    set_point: Option<SetPoint>,
    places: Vec<Place>,
    /// What was observed last; ends with the 1.
    now: Vec<f64>,
    observed: bool,
    /// What was observed when the last decision was made.
    here: Vec<f64>,
    step: Stage,
    cycle: u64,
    decisions: u64,
    replays: u64,
    mean_reward: f64,
    error: f64,
    last_saved: u64,
}

/// How far the step under way has come.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Stage {
    /// There is none.
    None,
    /// The action was chosen; whether it was the best.
    Decided { action: usize, greedy: bool },
    /// The reward is known.
    Rewarded { action: usize, greedy: bool, reward: f64 },
}

/// Memory that is used again; nothing in it outlives a call.
#[derive(Debug, Clone, Default)]
struct Scratch {
    values: Vec<f64>,
    probabilities: Vec<f64>,
    next_values: Vec<f64>,
    next_probabilities: Vec<f64>,
    incoming: Vec<f64>,
    filled: Vec<bool>,
    batch: Batch<f64>,
    errors: Vec<f64>,
}

impl Agent {
    /// An agent that knows nothing.
    ///
    /// # Errors
    /// [`Error::Setting`] or the error of the part whose setting is outside its range; [`Error::NoActions`].
    pub fn new(config: AgentConfig) -> Result<Self> {
        config.validate()?;
        let dim = config.n_features();
        let learner = ActionValues::new(dim, config.action_dim, learner_config(&config))?;
        let phase = PhaseController::new(config.phase).map_err(|source| Error::Phase { source })?;
        // A controller that needs what the agent does not measure is refused now and not in the middle of a run.
        let mut trial = phase;
        let zeros = vec![0.0; config.action_dim];
        trial.tick(&measurement(&config, 0.0, 0.0, &zeros)).map_err(|source| Error::Phase { source })?;
        let mut state = State {
            memory: config.replay.map(|replay| Memory::new(replay, dim)).transpose()?,
            tuner: config.swarm.map(|swarm| Tuner::new(swarm, config.seed, learner.weights(), phase)).transpose()?,
            set_point: config.set_point.map(SetPoint::new).transpose()?,
            learner,
            phase,
            places: Vec::new(),
            now: vec![0.0; dim],
            observed: false,
            here: vec![0.0; dim],
            step: Stage::None,
            cycle: 0,
            decisions: 0,
            replays: 0,
            mean_reward: 0.0,
            error: 0.0,
            last_saved: 0,
        };
        if config.bias {
            state.now[config.state_dim] = 1.0;
            state.here[config.state_dim] = 1.0;
        }
        Ok(Self::with_state(config, state))
    }

    fn with_state(config: AgentConfig, state: State) -> Self {
        let n_actions = config.action_dim;
        let scratch = Scratch {
            values: vec![0.0; n_actions],
            probabilities: vec![0.0; n_actions],
            next_values: vec![0.0; n_actions],
            next_probabilities: vec![0.0; n_actions],
            incoming: vec![0.0; config.state_dim],
            filled: vec![false; config.state_dim],
            ..Scratch::default()
        };
        Self {
            draws: SplitMix64::stream(config.seed, Purpose::Exploration, 0, 0),
            replay_draws: SplitMix64::stream(config.seed, Purpose::Replay, 0, 0),
            config,
            state,
            scratch,
            path: None,
        }
    }

    /// As it was made.
    pub fn config(&self) -> &AgentConfig {
        &self.config
    }

    /// The learner.
    pub fn learner(&self) -> &ActionValues<f64> {
        &self.state.learner
    }

    /// The phase controller.
    pub fn phase(&self) -> &PhaseController {
        &self.state.phase
    }

    /// Rewards so far.
    pub fn cycle(&self) -> u64 {
        self.state.cycle
    }

    /// Mean reward, of which each reward makes a hundredth; a plain mean up to the hundredth.
    pub fn mean_reward(&self) -> f64 {
        self.state.mean_reward
    }

    /// The names observed so far, in the order of their places.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.state.places.iter().map(|place| match place.index {
            None => place.name.clone(),
            Some(index) => format!("{}[{index}]", place.name),
        })
    }

    /// The temperature of the policy now: the phase's, times the swarm's factor, and no less than the set-point's effort demands.
    pub fn temperature(&self) -> f64 {
        let own = self.state.phase.temperature() * self.factors().temperature;
        let least = self.state.set_point.as_ref().map_or(0.0, SetPoint::least_temperature);
        own.max(least * self.config.phase.phases.critical_temperature)
    }

    /// What the swarm multiplies learning rate and temperature by now.
    pub fn factors(&self) -> Factors {
        let none = Factors { learning_rate: 1.0, temperature: 1.0 };
        self.state.tuner.as_ref().map_or(none, |tuner| tuner.factors)
    }
}

fn learner_config(config: &AgentConfig) -> ActionValuesConfig {
    ActionValuesConfig {
        gamma: config.gamma,
        lambda: config.lambda,
        step_size: config.learning_rate,
        trace: TraceKind::Accumulating,
    }
}

/// What the phase controller is told of a step.
fn measurement<'a>(config: &AgentConfig, error: f64, reward: f64, values: &'a [f64]) -> Measurement<'a> {
    Measurement {
        objective: Some(-reward),
        preferences: Some(values),
        temperature: Some(config.phase.initial_temperature),
        ..Measurement::gradient(error.abs())
    }
}
