//! Where one regime of data ends and the next begins, without being told.

use serde::{Deserialize, Serialize};

use crate::{Error, SavedState};

/// Regimes whose inputs are known at most; the one seen longest ago makes room.
const MAX_KNOWN: usize = 64;
/// Ticks over which the inputs of a regime are averaged at most.
const MEAN_TICKS: f64 = 50.0;
/// Ticks over which the noise of inputs is averaged at most.
const NOISE_TICKS: f64 = 200.0;
/// Ticks after which noise is known.
const NOISE_WARMUP: f64 = 8.0;
/// What a tick's distance adds to the spread of distances at most, in standard deviations: outliers must not hide the next one.
const MAX_DEVIATION: f64 = 3.0;

/// Settings of [`RegimeDetector`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RegimeConfig {
    /// Whether regimes are detected. Default true. Off, [`LoraHierarchy::consolidate`](crate::LoraHierarchy::consolidate) is
    /// the only way to end one.
    pub enabled: bool,
    /// A regime ends when a tick's inputs lie further from the regime's mean than ticks do on average, by more than this many
    /// standard deviations, > 0. Default 5.
    pub shift: f64,
    /// A regime ends when the gradient's norm rises this many times above its running level, > 1. Default 3.
    pub jump: f64,
    /// Ticks that a regime lasts at least before a jump ends it. Default 20.
    pub least_ticks: u64,
    /// Ticks over which the present norm is averaged (EMA). Default 2.
    pub present_ticks: f64,
    /// Ticks over which the running level is averaged (EMA). Default 10.
    pub level_ticks: f64,
}

impl Default for RegimeConfig {
    fn default() -> Self {
        Self { enabled: true, shift: 5.0, jump: 3.0, least_ticks: 20, present_ticks: 2.0, level_ticks: 10.0 }
    }
}

impl RegimeConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Field`] names the first that cannot be.
    pub fn validate(&self) -> Result<(), Error> {
        if !(self.shift > 0.0 && self.shift.is_finite()) {
            return Err(Error::field("shift", "a finite number above 0", self.shift));
        }
        if !(self.jump > 1.0 && self.jump.is_finite()) {
            return Err(Error::field("jump", "a finite number above 1", self.jump));
        }
        for (name, ticks) in [("present_ticks", self.present_ticks), ("level_ticks", self.level_ticks)] {
            if !(ticks >= 1.0 && ticks.is_finite()) {
                return Err(Error::field(name, "a finite number of at least 1", ticks));
            }
        }
        Ok(())
    }
}

/// How a regime begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegimeChange {
    /// As none that is known.
    New,
    /// With the inputs of one that has been.
    Return,
}

/// Watches what comes in, and the norm of the gradient.
///
/// **Inputs** tell at once, before a step has been taken: the mean of a tick's inputs, as the first module reads them, lies
/// elsewhere. Its distance from the regime's mean is `mean_i (x_i - mu_i)^2 / s_i^2` with `s_i^2` the variance of such means within
/// regimes (Hotelling's statistic with a diagonal covariance), 1 on average while nothing changes; how much it spreads
/// depends on the data, so that the bound is set by its own mean and standard deviation. The means of regimes that have ended are
/// kept: one that returns is known by them.
///
/// **Gradients** tell of a task that changes behind the same inputs: a learner that has settled has small ones; when the data
/// changes they jump.
///
/// Where inputs stay and gradients never settle (a noisy reward) nothing is detected: learning then is what it would be
/// without regimes.
#[derive(Debug, Clone, PartialEq)]
pub struct RegimeDetector {
    config: RegimeConfig,
    state: RegimeState,
    /// Mean of the ticks' inputs in this regime; empty before the first.
    mean: Vec<f32>,
    /// Variance of ticks' inputs within regimes, by dimension.
    noise: Vec<f32>,
    /// Means of inputs of regimes that have ended, the one seen last at the end.
    known: Vec<Vec<f32>>,
}

/// What a detector remembers, but for inputs.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RegimeState {
    /// Logarithm of the norm now and of its level; none before the first gradient.
    levels: Option<(f64, f64)>,
    ticks: u64,
    changes: u64,
    /// Ticks behind the mean of inputs, and behind their noise.
    mean_ticks: f64,
    noise_ticks: f64,
    distances: Distances,
}

/// How far ticks' inputs lie from their regime's mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Distances {
    ticks: f64,
    mean: f64,
    variance: f64,
}

impl Default for Distances {
    /// As of inputs with eight independent dimensions.
    fn default() -> Self {
        Self { ticks: NOISE_WARMUP, mean: 1.0, variance: 0.25 }
    }
}

impl Distances {
    fn note(&mut self, distance: f64) {
        self.ticks = (self.ticks + 1.0).min(NOISE_TICKS);
        let deviation = (distance - self.mean).min(MAX_DEVIATION * self.variance.sqrt());
        self.mean += deviation / self.ticks;
        self.variance += (deviation * deviation * (1.0 - 1.0 / self.ticks) - self.variance) / self.ticks;
    }
}

impl RegimeDetector {
    /// A detector that has seen nothing.
    pub fn new(config: RegimeConfig) -> Self {
        Self { config, state: RegimeState::default(), mean: Vec::new(), noise: Vec::new(), known: Vec::new() }
    }

    /// Takes in a gradient's norm and the mean of the inputs that it comes from `(d_in)`, empty where they were not measured.
    /// Returns how a regime begins with them, if one does. What is zero or not finite says nothing.
    pub fn observe(&mut self, norm: f64, inputs: &[f32]) -> Option<RegimeChange> {
        if !self.config.enabled {
            return None;
        }
        let is_measured = !inputs.is_empty() && inputs.iter().all(|x| x.is_finite());
        let has_shifted = is_measured && self.has_shifted(inputs);
        let has_jumped = self.has_jumped(norm, has_shifted);
        let change = match (has_shifted, has_jumped) {
            (true, _) => Some(self.follow(inputs)),
            (false, true) => Some(RegimeChange::New),
            (false, false) => None,
        };
        if change.is_some() {
            self.state.changes += 1;
            self.state.ticks = 0;
        }
        if is_measured {
            self.note_inputs(inputs);
        }
        change
    }

    /// Begins a regime that the caller knows of.
    pub fn begin(&mut self) {
        self.state.levels = None;
        self.state.ticks = 0;
        self.state.changes += 1;
    }

    /// Whether inputs belong to another regime than the present one.
    fn has_shifted(&mut self, inputs: &[f32]) -> bool {
        let is_known = self.state.noise_ticks >= NOISE_WARMUP && self.mean.len() == inputs.len();
        if !is_known {
            return false;
        }
        let distance = self.distance(inputs, &self.mean, self.state.mean_ticks);
        let has_shifted = distance > self.bound();
        if !has_shifted {
            self.state.distances.note(distance);
        }
        has_shifted
    }

    /// Distance of a tick's inputs from a mean over `ticks`.
    fn distance(&self, inputs: &[f32], mean: &[f32], ticks: f64) -> f64 {
        let n = inputs.len() as f64;
        let floor = 1e-3 * self.noise.iter().map(|noise| f64::from(*noise)).sum::<f64>() / n + f64::MIN_POSITIVE;
        let terms = inputs.iter().zip(mean).zip(&self.noise);
        let sum: f64 = terms.map(|((x, mean), noise)| f64::from(x - mean).powi(2) / (f64::from(*noise) + floor)).sum();
        sum / n * ticks / (ticks + 1.0)
    }

    /// Beyond it inputs belong to another regime.
    fn bound(&self) -> f64 {
        self.state.distances.mean + self.config.shift * self.state.distances.variance.sqrt()
    }

    fn note_inputs(&mut self, inputs: &[f32]) {
        if self.noise.len() != inputs.len() {
            self.noise = vec![0.0; inputs.len()];
            self.known.clear();
            self.mean.clear();
            (self.state.noise_ticks, self.state.distances) = (0.0, Distances::default());
        }
        if self.mean.is_empty() {
            self.mean = inputs.to_vec();
            self.state.mean_ticks = 1.0;
            return;
        }
        let state = &mut self.state;
        let share = (state.mean_ticks / (state.mean_ticks + 1.0)) as f32;
        state.mean_ticks = (state.mean_ticks + 1.0).min(MEAN_TICKS);
        state.noise_ticks = (state.noise_ticks + 1.0).min(NOISE_TICKS);
        for ((mean, noise), x) in self.mean.iter_mut().zip(&mut self.noise).zip(inputs) {
            let residual = x - *mean;
            *noise += (residual * residual * share - *noise) / state.noise_ticks as f32;
            *mean += residual / state.mean_ticks as f32;
        }
    }

    /// `is_other`: the norm belongs to another regime than its level.
    fn has_jumped(&mut self, norm: f64, is_other: bool) -> bool {
        let log = norm.ln();
        if !log.is_finite() {
            return false;
        }
        let (mut now, mut level) = self.state.levels.unwrap_or((log, log));
        now += (log - now) / self.config.present_ticks;
        let has_jumped = !is_other && self.state.ticks > self.config.least_ticks && now - level > self.config.jump.ln();
        match (has_jumped, is_other) {
            (true, _) => level = now,
            (false, true) => (now, level) = (log, log),
            (false, false) => level += (log - level) / self.config.level_ticks,
        }
        self.state.levels = Some((now, level));
        self.state.ticks += 1;
        has_jumped
    }

    /// Files the present regime's inputs away and looks whether these are known.
    fn follow(&mut self, inputs: &[f32]) -> RegimeChange {
        let mean = std::mem::take(&mut self.mean);
        if self.nearest(&mean).is_none() {
            if self.known.len() == MAX_KNOWN {
                self.known.remove(0);
            }
            self.known.push(mean);
        }
        let Some(place) = self.nearest(inputs) else { return RegimeChange::New };
        let known = self.known.remove(place);
        self.known.push(known);
        RegimeChange::Return
    }

    fn nearest(&self, inputs: &[f32]) -> Option<usize> {
        let distances = self.known.iter().map(|mean| self.distance(inputs, mean, MEAN_TICKS));
        let nearest = distances.enumerate().min_by(|x, y| x.1.total_cmp(&y.1))?;
        (nearest.1 <= self.bound()).then_some(nearest.0)
    }

    /// Changes so far.
    pub fn n_changes(&self) -> u64 {
        self.state.changes
    }

    /// What it remembers, but for inputs.
    pub fn state(&self) -> RegimeState {
        self.state
    }

    /// Adds what it remembers of inputs.
    pub fn save_inputs(&self, state: &mut SavedState) {
        state.set_tensor("regime.mean", self.mean.as_slice());
        state.set_tensor("regime.noise", self.noise.as_slice());
        for (i, mean) in self.known.iter().enumerate() {
            state.set_tensor(format!("regime.known.{i}"), mean.as_slice());
        }
    }

    /// Goes on from a state, and what was saved of inputs; without them, as saved before there were any, inputs begin anew.
    ///
    /// # Errors
    /// [`Error::State`] for an entry of another size or with values that are not finite; nothing has changed then.
    pub fn restore(&mut self, state: RegimeState, inputs: &SavedState) -> Result<(), Error> {
        let reader = inputs.reader();
        if !reader.has_tensor("regime.noise") {
            *self = Self { state, ..Self::new(self.config.clone()) };
            return Ok(());
        }
        let noise = reader.tensor("regime.noise")?.to_vec();
        let mean = reader.tensor("regime.mean")?.to_vec();
        if !mean.is_empty() && mean.len() != noise.len() {
            return Err(Error::state("regime.mean", format!("{} values", noise.len()), mean.len()));
        }
        let mut known = Vec::new();
        while reader.has_tensor(&format!("regime.known.{}", known.len())) {
            known.push(reader.tensor_of(&format!("regime.known.{}", known.len()), noise.len())?);
        }
        *self = Self { config: self.config.clone(), state, mean, noise, known };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use krystal_math::rng::{Purpose, stream_rng};
    use rand::RngExt;

    use super::*;

    /// Norms fall from 3 to 0.05 within a regime and jump back, under noise of half an octave: each change is found within
    /// three ticks, and nothing else.
    #[test]
    fn jumps_are_found_and_nothing_else() {
        let mut detector = RegimeDetector::new(RegimeConfig::default());
        let mut found = Vec::new();
        for tick in 0_u64..400 {
            let within = (tick % 80) as f64;
            let noise = ((tick * 2_654_435_761 % 1000) as f64 / 1000.0 - 0.5) * 0.7;
            if detector.observe((3.0 * (-within / 15.0).exp() + 0.05) * noise.exp(), &[]).is_some() {
                found.push(tick);
            }
        }
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found.iter().zip(1..).all(|(at, n)| (80 * n..80 * n + 3).contains(at)), "{found:?}");
        assert_eq!(detector.n_changes(), 4);
    }

    #[test]
    fn gradients_that_never_settle_have_no_regimes() {
        let mut detector = RegimeDetector::new(RegimeConfig::default());
        for tick in 0_u64..10_000 {
            let noise = ((tick * 2_654_435_761 % 1000) as f64 / 1000.0 - 0.5) * 1.5;
            assert_eq!(detector.observe(noise.exp(), &[]), None, "{tick}");
        }
        assert!([0.0, f64::NAN, f64::INFINITY].iter().all(|norm| detector.observe(*norm, &[f32::NAN]).is_none()));
    }

    /// Inputs of one of three regimes: a mean of its own, in 40 dimensions whose noise differs by regime and dimension.
    fn inputs(regime: u64, tick: u64) -> Vec<f32> {
        let mut means = stream_rng(regime, Purpose::Task, 0, 0);
        let mut noise = stream_rng(99, Purpose::Task, 1, tick);
        let shared = noise.random::<f32>() - 0.5;
        (0..40_u8)
            .map(|i| {
                let scale = 0.1 + f32::from(i) / 20.0;
                scale * (3.0 * means.random::<f32>() + 0.3 * shared + noise.random::<f32>() + noise.random::<f32>())
            })
            .collect()
    }

    #[test]
    fn a_shift_of_inputs_is_found_at_its_first_tick_and_a_return_is_known() {
        let mut detector = RegimeDetector::new(RegimeConfig::default());
        let mut found = Vec::new();
        for tick in 0..600 {
            let regime = [0, 1, 0, 2, 1, 0][tick as usize / 100];
            found.extend(detector.observe(1.0, &inputs(regime, tick)).map(|change| (tick, change)));
        }
        use RegimeChange::{New, Return};
        assert_eq!(found, [(100, New), (200, Return), (300, New), (400, Return), (500, Return)]);
    }

    #[test]
    fn inputs_that_stay_are_one_regime() {
        let mut detector = RegimeDetector::new(RegimeConfig::default());
        let n = (0..5000).filter(|tick| detector.observe(1.0, &inputs(0, *tick)).is_some()).count();
        // Four standard deviations of a skewed statistic: one in a thousand at most.
        assert!(n <= 5, "{n} of 5000");
    }

    #[test]
    fn a_restored_detector_goes_on_as_the_other() {
        let mut one = RegimeDetector::new(RegimeConfig::default());
        let feed = |detector: &mut RegimeDetector, ticks: std::ops::Range<u64>| -> Vec<(u64, RegimeChange)> {
            ticks.filter_map(|t| detector.observe(1.0, &inputs(t / 50 % 3, t)).map(|change| (t, change))).collect()
        };
        feed(&mut one, 0..170);
        let mut saved = SavedState::default();
        one.save_inputs(&mut saved);
        let mut other = RegimeDetector::new(RegimeConfig::default());
        other.restore(one.state(), &saved).unwrap();
        assert_eq!(one, other);
        assert_eq!(feed(&mut one, 170..400), feed(&mut other, 170..400));
        assert_eq!(one, other);
        saved.tensors[0].1.pop();
        assert!(other.restore(one.state(), &saved).unwrap_err().to_string().contains("`regime.mean`"));
        assert_eq!(one, other);
    }
}
