//! Vertical resonance: a batch against what each time-scale has seen.

use std::collections::BTreeMap;

use dynlora_core::{
    AgentId, Error as CoreError, Level, ResonanceStatistics, SavedState, Signal, StateReader, Vertical,
};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::consensus::norm;
use crate::history::History;
use crate::null_calibration::{NullCalibration, z_score};

/// How time-scales are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum VerticalMode {
    /// The seed's words, for ablation: the mean of the raw dot products of all pairs decides both signals, and damping is
    /// `1 - delta |v|`, which is below 0 for `|v| > 1 / delta`. The seed compares the gradients of one batch, which agree by
    /// construction; here it gets the same windows as [`Resonance`](Self::Resonance), as means of unscaled sketches.
    Seed,
    /// Cosines in units of their noise.
    #[default]
    Resonance,
}

/// Settings of [`VerticalResonance`]. Defaults are those that `docs/benchmarks/resonance.md` was measured with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct VerticalConfig {
    /// How time-scales are compared; default `resonance`.
    pub mode: VerticalMode,
    /// The levels that take part: context and at least one slower; default context, agent, swarm.
    pub levels: Vec<Level>,
    /// The z at which `tanh(z / z0)` bends, > 0; default 3.
    pub z0: f64,
    /// Agreement above this is [`Signal::FastTrack`], 0 to 1; default 0.5.
    pub fast_track_threshold: f64,
    /// The z that every pair must exceed for [`Signal::FastTrack`]; default 1.
    pub least_pair_z: f64,
    /// Disagreement above this is [`Signal::Conflict`], 0 to 1; default 0.5.
    pub conflict_threshold: f64,
    /// Amplification, >= 0; default 0.3.
    pub gamma: f64,
    /// Damping, 0 to 1; default 0.2.
    pub delta: f64,
    /// The most amplification, >= 1; default 2, out of reach with `gamma` 0.3.
    pub max_amplification: f64,
    /// Batches in a row that a conflict may damp, >= 1; default 4, the agent level's period: from then on its history begins
    /// to be the new one.
    pub conflict_ticks: u32,
    /// Batches after those for which [`Signal::Shift`] may last; default 16, the swarm level's period. Who differs from the
    /// swarm for longer is no news.
    pub shift_ticks: u32,
    /// The z of a batch with the batches of the same conflict from which it is [`Signal::Shift`]; default 2, > 0.
    pub shift_z: f64,
}

impl Default for VerticalConfig {
    fn default() -> Self {
        Self {
            mode: VerticalMode::Resonance,
            levels: vec![Level::Context, Level::Agent, Level::Swarm],
            z0: 3.0,
            fast_track_threshold: 0.5,
            least_pair_z: 1.0,
            conflict_threshold: 0.5,
            gamma: 0.3,
            delta: 0.2,
            max_amplification: 2.0,
            conflict_ticks: 4,
            shift_ticks: 16,
            shift_z: 2.0,
        }
    }
}

impl VerticalConfig {
    /// The seed's comparison, with the defaults otherwise.
    pub fn seed() -> Self {
        Self { mode: VerticalMode::Seed, ..Self::default() }
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        let levels = &self.levels;
        let repeated = (1..levels.len()).any(|index| levels[..index].contains(&levels[index]));
        Error::unless(
            levels.contains(&Level::Context) && levels.len() >= 2 && !repeated,
            "levels",
            "context and slower levels, each once",
            format!("{levels:?}"),
        )?;
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let finite = |value: f64| value.is_finite();
        Error::unless(self.z0 > 0.0 && finite(self.z0), "z0", "a number above 0", self.z0)?;
        let threshold = self.fast_track_threshold;
        Error::unless(share(threshold), "fast_track_threshold", "a number from 0 to 1", threshold)?;
        Error::unless(finite(self.least_pair_z), "least_pair_z", "a finite number", self.least_pair_z)?;
        let threshold = self.conflict_threshold;
        Error::unless(share(threshold), "conflict_threshold", "a number from 0 to 1", threshold)?;
        Error::unless(self.gamma >= 0.0 && finite(self.gamma), "gamma", "a number of at least 0", self.gamma)?;
        Error::unless(share(self.delta), "delta", "a number from 0 to 1", self.delta)?;
        let most = self.max_amplification;
        Error::unless(most >= 1.0 && finite(most), "max_amplification", "a number of at least 1", most)?;
        Error::unless(self.conflict_ticks >= 1, "conflict_ticks", "at least 1", self.conflict_ticks)?;
        Error::unless(self.shift_z > 0.0, "shift_z", "a number above 0", self.shift_z)
    }
}

/// What is known of an agent besides its history.
#[derive(Debug, Clone, Default, PartialEq)]
struct Course {
    /// Batches of the present course against the history.
    against: u64,
    /// Sum of their unit sketches; empty with `against`.
    sum: Vec<f32>,
    /// Cosine of the last batch with each slower level, by [`Level::index`].
    cosines: [Option<f64>; 5],
    /// What this tick adds to the calibration and the statistics, agent by agent, so that their order does not matter.
    differences: Vec<f64>,
    pairs: u64,
    sum_z: f64,
    sum_abs_z: f64,
}

/// Tells for each batch whether the time-scales agree.
///
/// The signature of a batch is its unit sketch of `dL/dW`, length k. That of a slower level is the mean of the signatures of
/// the last *completed* period, so that no data is compared with itself: for the agent level of the agent's own batches, for
/// shared levels of the other agents'. With `z = cos / sigma0` of a pair ([`NullCalibration`]):
///
/// ```text
/// alignment = mean over all pairs of tanh(z / z0)
/// conflict  = mean over the pairs of context with a slower level of tanh(z / z0)
/// FastTrack   alignment > fast_track_threshold and every z > least_pair_z, three levels at least, one of them shared:
///             factor_l = min(max_amplification, 1 + gamma alignment (1 - inertia_l) / (1 - inertia_context))
/// Conflict    conflict < -conflict_threshold, for conflict_ticks in a row at most:
///             context 1 - delta |conflict|, agent 1 - delta / 2 |conflict|
/// Shift       such a course for longer, and the batch agrees with those before it in this course (z > shift_z):
///             no damping; context min(max_amplification, 1 + gamma |conflict|), for shift_ticks at most
/// ```
///
/// All other factors are 1. A course begins with a batch whose `conflict` is below `-conflict_threshold` and goes on while
/// `conflict` or `alignment` is below 0: after four ticks of a new world the agent's own history agrees with the batch again,
/// and only the disagreement of both with the swarm is left. Damping that is used up stays so until the course ends.
///
/// O(k) time for each level and batch; k numbers of memory for each agent and open or completed period.
#[derive(Debug, Clone, PartialEq)]
pub struct VerticalResonance {
    config: VerticalConfig,
    /// Length of sketches; 0 before the first.
    k: usize,
    history: History,
    courses: BTreeMap<AgentId, Course>,
    null: NullCalibration,
}

impl VerticalResonance {
    /// A judge without history yet.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn new(config: VerticalConfig) -> Result<Self, Error> {
        config.validate()?;
        let history = History::new(&config.levels);
        Ok(Self { config, k: 0, history, courses: BTreeMap::new(), null: NullCalibration::default() })
    }

    /// Judges a batch of `agent` by the sketch (k) of its `dL/dW`, and remembers it. A sketch that is zero or not finite gives
    /// [`Vertical::unknown`] and is not remembered.
    ///
    /// # Panics
    /// If `sketch` has another length than those before it.
    pub fn judge(&mut self, agent: AgentId, sketch: &[f32]) -> Vertical {
        let Some(size) = norm(sketch) else { return Vertical::unknown() };
        if self.k == 0 {
            self.k = sketch.len();
        }
        assert_eq!(sketch.len(), self.k, "agent {agent}: length of the sketch and of those before it");
        let means = self.history.means(agent);
        let seed = self.config.mode == VerticalMode::Seed;
        let own: Vec<f64> = sketch.iter().map(|value| f64::from(*value) / if seed { 1.0 } else { size }).collect();
        let found = if seed { self.seed_verdict(&own, &means) } else { self.verdict(agent, &own, &means) };
        self.history.add(agent, sketch, if seed { 1.0 } else { 1.0 / size });
        found
    }

    /// Ends the tick: periods that are over close, calibration moves.
    pub fn end_tick(&mut self) {
        self.close_tick(&mut ResonanceStatistics::default());
    }

    /// As [`end_tick`](Self::end_tick), adding what the tick compared to `statistics`.
    pub(crate) fn close_tick(&mut self, statistics: &mut ResonanceStatistics) {
        for course in self.courses.values_mut() {
            for difference in course.differences.drain(..) {
                self.null.observe(difference);
            }
            statistics.pairs += std::mem::take(&mut course.pairs);
            statistics.sum_z += std::mem::take(&mut course.sum_z);
            statistics.sum_abs_z += std::mem::take(&mut course.sum_abs_z);
        }
        self.null.end_tick();
        self.history.end_tick();
        self.courses.retain(|agent, _| self.history.knows(*agent));
    }

    fn verdict(&mut self, agent: AgentId, own: &[f64], means: &[(Level, Vec<f64>)]) -> Vertical {
        let config = &self.config;
        let course = self.courses.entry(agent).or_default();
        // The batch itself first, then the slower levels.
        let mut vectors: Vec<(Level, &[f64])> = vec![(Level::Context, own)];
        vectors.extend(means.iter().map(|(level, mean)| (*level, mean.as_slice())));
        let (mut all, mut fast) = (Vec::new(), Vec::new());
        let mut least = f64::INFINITY;
        for (index, (slow, slow_mean)) in vectors.iter().enumerate() {
            for (quick, quick_mean) in &vectors[..index] {
                let Some((cosine, flips)) = compare(quick_mean, slow_mean) else { continue };
                let z = z_score(cosine, self.null.sigma(flips));
                let agreement = (z / config.z0).tanh();
                least = least.min(z);
                all.push(agreement);
                course.pairs += 1;
                course.sum_z += z;
                course.sum_abs_z += z.abs();
                if *quick == Level::Context {
                    fast.push(agreement);
                    if let Some(before) = course.cosines[slow.index()].replace(cosine) {
                        course.differences.push(cosine - before);
                    }
                }
            }
        }
        let (alignment, conflict) = (mean(&all), mean(&fast));
        let mut factors = [1.0_f32; 5];
        let (Some(agreement), Some(standing)) = (alignment, conflict) else {
            return Vertical::new(Signal::Normal, alignment, conflict, factors);
        };
        let opposes = standing < -config.conflict_threshold;
        let damped = u64::from(config.conflict_ticks);
        let over = course.against >= damped + u64::from(config.shift_ticks);
        let goes_on = course.against > 0 && !over && (standing < 0.0 || agreement < 0.0);
        if opposes || goes_on {
            let consistent = !course.sum.is_empty() && {
                let sum: Vec<f64> = course.sum.iter().map(|value| f64::from(*value)).collect();
                compare(own, &sum)
                    .is_some_and(|(cosine, flips)| z_score(cosine, self.null.sigma(flips)) > config.shift_z)
            };
            course.against = course.against.saturating_add(1);
            course.sum.resize(own.len(), 0.0);
            for (sum, value) in course.sum.iter_mut().zip(own) {
                *sum += *value as f32;
            }
            let size = standing.abs();
            let signal = if course.against <= damped {
                if opposes { Signal::Conflict } else { Signal::Normal }
            } else if consistent && !over {
                Signal::Shift
            } else {
                Signal::Normal
            };
            match signal {
                Signal::Shift => {
                    factors[Level::Context.index()] = (1.0 + config.gamma * size).min(config.max_amplification) as f32;
                }
                Signal::Conflict => {
                    factors[Level::Context.index()] = (1.0 - config.delta * size) as f32;
                    factors[Level::Agent.index()] = (1.0 - config.delta / 2.0 * size) as f32;
                }
                _ => {}
            }
            return Vertical::new(signal, alignment, conflict, factors);
        }
        course.against = 0;
        course.sum.clear();
        let enough = vectors.len() >= 3 && vectors.iter().any(|(level, _)| level.is_shared());
        if enough && agreement > config.fast_track_threshold && least > config.least_pair_z {
            for (level, _) in &vectors {
                let plasticity = (1.0 - level.base_inertia()) / (1.0 - Level::Context.base_inertia());
                let factor = 1.0 + config.gamma * agreement * plasticity;
                factors[level.index()] = factor.min(config.max_amplification) as f32;
            }
            return Vertical::new(Signal::FastTrack, alignment, conflict, factors);
        }
        Vertical::new(Signal::Normal, alignment, conflict, factors)
    }

    /// [`VerticalMode::Seed`]: one mean of raw products for everything.
    fn seed_verdict(&self, own: &[f64], means: &[(Level, Vec<f64>)]) -> Vertical {
        let config = &self.config;
        let mut factors = [1.0_f32; 5];
        let mut vectors: Vec<(Level, &[f64])> = vec![(Level::Context, own)];
        vectors.extend(means.iter().map(|(level, mean)| (*level, mean.as_slice())));
        if vectors.len() < config.levels.len() {
            return Vertical::new(Signal::Normal, None, None, factors);
        }
        let mut products = Vec::new();
        for (index, (_, slow)) in vectors.iter().enumerate() {
            products.extend(vectors[..index].iter().map(|(_, quick)| product(quick, slow)));
        }
        let alignment = mean(&products);
        let v = alignment.unwrap_or(0.0);
        let within = |factor: f64| factor.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32;
        let signal = if v > config.fast_track_threshold {
            for (level, _) in &vectors {
                factors[level.index()] = (1.0 + config.gamma * v).min(config.max_amplification) as f32;
            }
            Signal::FastTrack
        } else if v < -config.conflict_threshold {
            factors[Level::Context.index()] = within(1.0 - config.delta * v.abs());
            factors[Level::Agent.index()] = within(1.0 - config.delta / 2.0 * v.abs());
            Signal::Conflict
        } else {
            Signal::Normal
        };
        Vertical::new(signal, alignment, alignment, factors)
    }

    pub(crate) fn save(&self, prefix: &str, state: &mut SavedState) {
        state.set_number(format!("{prefix}.k"), self.k as f64);
        self.null.save(prefix, state);
        self.history.save(&format!("{prefix}.history"), state);
        for (agent, course) in &self.courses {
            let name = format!("{prefix}.agent.{agent}");
            state.set_number(format!("{name}.against"), course.against as f64);
            if !course.sum.is_empty() {
                state.set_tensor(format!("{name}.sum"), course.sum.as_slice());
            }
            for level in Level::ALL {
                if let Some(cosine) = course.cosines[level.index()] {
                    state.set_number(format!("{name}.cosine.{level}"), cosine);
                }
            }
            state.set_number(format!("{name}.differences"), course.differences.len() as f64);
            for (index, difference) in course.differences.iter().enumerate() {
                state.set_number(format!("{name}.difference.{index}"), *difference);
            }
            state.set_number(format!("{name}.pairs"), course.pairs as f64);
            state.set_number(format!("{name}.sum_z"), course.sum_z);
            state.set_number(format!("{name}.sum_abs_z"), course.sum_abs_z);
        }
    }

    pub(crate) fn load(config: VerticalConfig, prefix: &str, saved: &StateReader<'_>) -> Result<Self, CoreError> {
        let k = usize::try_from(saved.integer(&format!("{prefix}.k"))?).unwrap_or(usize::MAX);
        let history = History::load(&config.levels, &format!("{prefix}.history"), k, saved)?;
        let mut courses = BTreeMap::new();
        for agent in saved.agents(prefix, "against")? {
            let name = format!("{prefix}.agent.{agent}");
            let against = saved.integer(&format!("{name}.against"))?;
            let sum = if against > 0 { saved.tensor_of(&format!("{name}.sum"), k)? } else { Vec::new() };
            let mut cosines = [None; 5];
            for level in Level::ALL {
                cosines[level.index()] = saved.optional(&format!("{name}.cosine.{level}"))?;
            }
            let differences = (0..saved.integer(&format!("{name}.differences"))?)
                .map(|index| saved.number(&format!("{name}.difference.{index}")))
                .collect::<Result<_, _>>()?;
            let pairs = saved.integer(&format!("{name}.pairs"))?;
            let sum_z = saved.number(&format!("{name}.sum_z"))?;
            let sum_abs_z = saved.number(&format!("{name}.sum_abs_z"))?;
            courses.insert(agent, Course { against, sum, cosines, differences, pairs, sum_z, sum_abs_z });
        }
        Ok(Self { config, k, history, courses, null: NullCalibration::load(prefix, saved)? })
    }
}

fn product(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

/// Cosine and its variance under random signs of the coordinates; `None` where one of them is no direction.
fn compare(left: &[f64], right: &[f64]) -> Option<(f64, f64)> {
    let (mut between, mut flips, mut left_squares, mut right_squares) = (0.0, 0.0, 0.0, 0.0);
    for (left, right) in left.iter().zip(right) {
        let product = left * right;
        between += product;
        flips += product * product;
        left_squares += left * left;
        right_squares += right * right;
    }
    // Unit vectors and means of them; a mean this short is what rounding left of a cancellation.
    let squares: f64 = left_squares * right_squares;
    if !(left_squares > 1e-12 && right_squares > 1e-12) {
        return None;
    }
    Some(((between / squares.sqrt()).clamp(-1.0, 1.0), (flips / squares).min(1.0)))
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
