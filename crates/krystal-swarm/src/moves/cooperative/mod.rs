//! Cooperative moves: a swarm for each axis, while what they find adds up.

mod axis;

use krystal_math::rng::{Purpose, SplitMix64};
use serde::{Deserialize, Serialize};

use crate::Fitness;
use axis::Axis;

/// One swarm for each axis: particles differ from a shared point, the context, in one coordinate each.
///
/// After every generation a composite of each axis's best takes the context's place (the cooperative swarm of van den Bergh and
/// Engelbrecht 2004, doi:10.1109/TEVC.2004.826069). On an objective `f(x) = sum_i f_i(x_i)` the composite's value is known before it
/// is evaluated. That is the test: where it comes out otherwise, the objective is not of this kind and these moves are over, after
/// some five evaluations for each axis. Where it holds, a global search of each axis alone finds the optimum of the whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Cooperative {
    seed: u64,
    stream: u64,
    generation: u64,
    context: Vec<f64>,
    context_value: f64,
    axes: Vec<Axis>,
    /// What the present generation is.
    asked: Vec<Particle>,
    /// What the composite should be worth, and how much is to be gained by it.
    predicted: f64,
    gain: f64,
    /// The largest value seen: what is known of others is rounded as it is.
    magnitude: f64,
    is_additive: bool,
    is_over: bool,
    #[serde(skip)]
    sorted: Vec<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Particle {
    Context,
    Composite,
    On { axis: usize, at: f64 },
}

/// First particles on an axis between the two at its ends.
const FIRST: usize = 2;

/// By how much a composite may miss what was predicted, as a share of the gain.
const TOLERANCE: f64 = 1e-6;

/// By how much it may do so for each axis, as a share of the largest value seen.
const ROUNDING: f64 = 1e-12;

impl Cooperative {
    pub(crate) fn new(context: Vec<f64>, seed: u64, stream: u64) -> Self {
        let axes = vec![Axis::default(); context.len()];
        Self {
            seed,
            stream,
            generation: 0,
            context,
            context_value: f64::INFINITY,
            axes,
            asked: vec![Particle::Context],
            predicted: 0.0,
            gain: 0.0,
            magnitude: 0.0,
            is_additive: true,
            is_over: false,
            sorted: Vec::new(),
        }
    }

    /// Whether what was loaded fits together.
    pub(crate) fn is_of(&self, n: usize) -> bool {
        let is_known = |particle: &Particle| !matches!(particle, Particle::On { axis, .. } if *axis >= n);
        self.context.len() == n
            && self.axes.len() == n
            && self.axes.iter().all(Axis::is_sound)
            && self.asked.iter().all(is_known)
    }

    /// Particles.
    pub(crate) fn size(&self) -> usize {
        self.asked.len()
    }

    /// Whether there is nothing more to ask.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether all composites were worth what was predicted.
    pub(crate) fn is_additive(&self) -> bool {
        self.is_additive
    }

    pub(crate) fn ask(&mut self, points: &mut Vec<f64>) {
        points.clear();
        for particle in &self.asked {
            let start = points.len();
            points.extend_from_slice(&self.context);
            match *particle {
                Particle::Context => {}
                Particle::On { axis, at } => points[start + axis] = at,
                Particle::Composite => {
                    for (x, (best, _)) in points[start..].iter_mut().zip(self.axes.iter().filter_map(Axis::best)) {
                        *x = best;
                    }
                }
            }
        }
    }

    /// `own[k]` is false where the user put another point in the place of the particle: it may be the context, and is of no use
    /// else.
    pub(crate) fn tell(&mut self, points: &[f64], fitness: &[Fitness], own: &[bool]) {
        let n = self.context.len();
        if fitness.iter().any(|fitness| fitness.violation > 0.0 || !fitness.value.is_finite()) {
            (self.is_additive, self.is_over) = (false, true);
            return;
        }
        self.magnitude = fitness.iter().fold(self.magnitude, |most, fitness| most.max(fitness.value.abs()));
        let mut composite = None;
        for (k, particle) in self.asked.iter().enumerate() {
            let value = fitness[k].value;
            match *particle {
                Particle::Context => {
                    self.context.copy_from_slice(&points[k * n..][..n]);
                    self.context_value = value;
                    self.axes.iter_mut().zip(&self.context).for_each(|(axis, x)| axis.learn(*x, 0.0));
                }
                Particle::Composite if own[k] => composite = Some((k, value)),
                Particle::On { axis: i, at } if own[k] => {
                    let here = self.axes[i].value_at(self.context[i]).unwrap_or(0.0);
                    self.axes[i].learn(at, value - self.context_value + here);
                }
                Particle::Composite | Particle::On { .. } => {}
            }
        }
        if let Some((k, value)) = composite {
            let rounding = ROUNDING * self.magnitude * n as f64;
            self.is_additive = (value - self.predicted).abs() <= TOLERANCE * self.gain + rounding;
            if value < self.context_value {
                self.context.copy_from_slice(&points[k * n..][..n]);
                self.context_value = value;
            }
        }
        self.generation += 1;
        self.plan();
    }

    /// Decides what the next generation is.
    fn plan(&mut self) {
        self.asked.clear();
        if self.generation == 1 {
            let mut rng = SplitMix64::stream(self.seed, Purpose::Swarm, self.stream, 0);
            for axis in 0..self.axes.len() {
                let inner = (0..FIRST).map(|i| (i as f64 + rng.uniform()) / FIRST as f64);
                let first = [0.0, 1.0].into_iter().chain(inner);
                self.asked.extend(first.map(|at| Particle::On { axis, at }));
            }
            return;
        }
        self.predict();
        if self.generation > 2 || self.asked.is_empty() {
            for (i, axis) in self.axes.iter_mut().enumerate() {
                let descended = axis.descend();
                let found = axis.search(&mut self.sorted).filter(|x| Some(*x) != descended);
                self.asked.extend(descended.into_iter().chain(found).map(|at| Particle::On { axis: i, at }));
            }
        }
        self.is_over = !self.is_additive || self.asked.is_empty();
    }

    /// Asks for the composite, if it is another point than the context.
    fn predict(&mut self) {
        (self.predicted, self.gain) = (self.context_value, 0.0);
        let mut differs = false;
        for (axis, x) in self.axes.iter().zip(&self.context) {
            let Some((best, value)) = axis.best() else { continue };
            let gain = axis.value_at(*x).unwrap_or(value) - value;
            differs |= best != *x;
            self.predicted -= gain;
            self.gain += gain;
        }
        if differs {
            self.asked.push(Particle::Composite);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the objective is additive, its best value, and the evaluations.
    fn run(n: usize, objective: impl Fn(&[f64]) -> f64) -> (bool, f64, usize) {
        let mut swarm = Cooperative::new(vec![0.4; n], 1, 0);
        let (mut points, mut best, mut evaluations) = (Vec::new(), f64::INFINITY, 0);
        while !swarm.is_over() {
            swarm.ask(&mut points);
            let values: Vec<f64> = points.chunks_exact(n).map(&objective).collect();
            evaluations += values.len();
            assert_eq!(values.len(), swarm.size());
            best = values.iter().copied().fold(best, f64::min);
            let fitness: Vec<_> = values.into_iter().map(Fitness::of).collect();
            swarm.tell(&points, &fitness, &vec![true; fitness.len()]);
            assert!(swarm.is_of(n));
        }
        (swarm.is_additive(), best, evaluations)
    }

    #[test]
    fn sums_are_solved_axis_by_axis() {
        let rastrigin = |x: &[f64]| {
            let term = |(i, x): (usize, &f64)| {
                let z = 10.0 * x - 2.0 - 0.3 * i as f64;
                z * z + 10.0 * (1.0 - (std::f64::consts::TAU * z).cos())
            };
            x.iter().enumerate().map(term).sum::<f64>()
        };
        let (is_additive, best, evaluations) = run(20, rastrigin);
        assert!(is_additive && best < 1e-8 && evaluations < 6000, "{best} after {evaluations}");
        let (_, best, evaluations) = run(5, |x| x.iter().map(|x| (x - 0.7).powi(2)).sum());
        assert!(best < 1e-12 && evaluations < 1500, "{best} after {evaluations}");
    }

    #[test]
    fn what_does_not_add_up_costs_little() {
        let coupled = |x: &[f64]| x.windows(2).map(|x| (x[0] - x[1]).powi(2)).sum::<f64>() + (x[0] - 0.9).powi(2);
        let (is_additive, _, evaluations) = run(10, coupled);
        assert!(!is_additive && evaluations < 10 * 12, "{evaluations}");
    }

    #[test]
    fn failures_and_plateaus_end_it() {
        assert!(!run(3, |_| f64::INFINITY).0);
        let (_, _, evaluations) = run(3, |_| 7.0);
        assert!(evaluations < 40, "{evaluations}");
    }
}
