//! The default: swarms of several kinds in turn, each started where and when the others have shown it to be of use.

use krystal_math::rng::{Purpose, SplitMix64};
use serde::{Deserialize, Serialize};

use super::Moves;
use super::cooperative::Cooperative;
use super::covariance::Covariance;
use super::success_history::SuccessHistory;
use crate::error::require;
use crate::{Error, Fitness};

/// Runs of three kinds of swarms, one after another, without end.
///
/// 1. A cooperative swarm, one for each axis, sees whether the objective is a sum over its coordinates; if so it solves it, if not
///    it is over after five evaluations for each coordinate.
/// 2. Covariance swarms from random points: large ones, twice as large each time, and small ones with smaller steps take
///    turns such that they get about the same number of evaluations (after BIPOP: Hansen 2009, doi:10.1145/1570256.1570333). A run
///    that could not reach the best known value even by several times what its particles differ is given up.
/// 3. After [`covariance_alone`](Self::covariance_alone), every third evaluation or so goes to success-history swarms, each with a larger
///    budget than the one before; where one ends, a small covariance swarm goes on.
///
/// [`Method::Covariance`](crate::Method::Covariance) and [`Method::SuccessHistory`](crate::Method::SuccessHistory) are parts 2 and 3 alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdaptiveConfig {
    /// Particles of a covariance swarm that is not larger than it need be, at least 4. Default `4 + floor(3 ln n)` for `n`
    /// coordinates. More make use of more processors, and cope with noise.
    pub n_particles: Option<usize>,
    /// First standard deviation of covariance swarms as a share of the box. Default 0.2; less trusts the starting point more.
    pub initial_step: f64,
    /// Whether to begin with a cooperative swarm. Default yes.
    pub cooperate: bool,
    /// Evaluations for each coordinate that covariance swarms have before any success-history swarm. Default 1000.
    pub covariance_alone: u64,
}

impl Default for AdaptiveConfig {
    fn default() -> Self {
        Self { n_particles: None, initial_step: 0.2, cooperate: true, covariance_alone: 1000 }
    }
}

impl AdaptiveConfig {
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let n = self.n_particles.unwrap_or(4);
        require((4..=1 << 16).contains(&n), "adaptive.n_particles", "in 4..=2^16", n as f64)?;
        let step = self.initial_step;
        require((1e-9..=1.0).contains(&step), "adaptive.initial_step", "in [1e-9, 1]", step)
    }
}

/// Which kinds of swarms take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Cast {
    All,
    Covariance,
    SuccessHistory,
}

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Part {
    Cooperative,
    Large,
    Small,
    SuccessHistory,
    /// A covariance swarm that goes on where another swarm ended.
    Sequel,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Run {
    Cooperative(Cooperative),
    Covariance(Box<Covariance>),
    SuccessHistory(SuccessHistory),
}

/// A point and what it is worth.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    x: Vec<f64>,
    fitness: Fitness,
}

impl Record {
    fn none(n: usize) -> Self {
        Self { x: vec![0.5; n], fitness: Fitness::WORST }
    }

    fn consider(&mut self, x: &[f64], fitness: &Fitness) {
        if fitness.beats(&self.fitness) {
            self.x.copy_from_slice(x);
            self.fitness = *fitness;
        }
    }
}

/// The present run, and what is needed to choose the next.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Adaptive {
    config: AdaptiveConfig,
    cast: Cast,
    n: usize,
    seed: u64,
    n_runs: u64,
    n_large: u32,
    n_success_history: u32,
    part: Part,
    run: Run,
    /// Evaluations of large and of small covariance swarms, and of success-history swarms with their sequels.
    spent_large: u64,
    spent_small: u64,
    spent_success_history: u64,
    best: Record,
    best_of_run: Record,
    /// The best of the points that the user put in, until a run starts there.
    given: Record,
    /// What was asked, to tell what the user put in.
    asked: Vec<f64>,
    #[serde(skip)]
    own: Vec<bool>,
}

/// By how much each large swarm is larger than the one before.
const GROWTH: f64 = 2.0;

/// A run is given up when it lacks so many times its range.
const HOPELESS: f64 = 3.0;

/// The share of what covariance swarms have beyond their first evaluations that success-history swarms have.
const SHARE: f64 = 0.5;

/// Evaluations for each coordinate of the first success-history swarm; the next has twice as many.
const FIRST_BUDGET: f64 = 2000.0;

/// Particles of a success-history swarm for each coordinate.
const SIZE: usize = 12;

/// First standard deviation of a sequel, of a cooperative swarm and as a share of the spread of a success-history swarm.
const STEP_AFTER_COOPERATIVE: f64 = 0.005;
const STEP_AFTER_SUCCESS_HISTORY: f64 = 0.3;

/// The stream of draws by which runs are set up; runs have those below.
const SET_UP: u64 = u64::MAX;

impl Adaptive {
    pub(crate) fn new(config: &AdaptiveConfig, cast: Cast, n: usize, seed: u64) -> Self {
        let cooperative = Cooperative::new(vec![0.5; n], seed, 0);
        let mut adaptive = Self {
            config: config.clone(),
            cast,
            n,
            seed,
            n_runs: 0,
            n_large: 0,
            n_success_history: 0,
            part: Part::Cooperative,
            run: Run::Cooperative(cooperative),
            spent_large: 0,
            spent_small: 0,
            spent_success_history: 0,
            best: Record::none(n),
            best_of_run: Record::none(n),
            given: Record::none(n),
            asked: Vec::new(),
            own: Vec::new(),
        };
        match cast {
            Cast::SuccessHistory => adaptive.start_success_history(),
            Cast::All if config.cooperate => {
                let context = adaptive.random_point();
                adaptive.start(Part::Cooperative, Run::Cooperative(Cooperative::new(context, seed, 0)));
            }
            Cast::All | Cast::Covariance => adaptive.start_large(),
        }
        adaptive
    }

    /// Whether what was loaded fits together.
    pub(crate) fn is_of(&self, n_points: usize, n: usize) -> bool {
        let (is_of, size) = match &self.run {
            Run::Cooperative(run) => (run.is_of(n), run.size()),
            Run::Covariance(run) => (run.is_of(n), run.size()),
            Run::SuccessHistory(run) => (run.is_of(n), run.size()),
        };
        is_of
            && size == n_points
            && self.n == n
            && self.asked.len() == n_points * n
            && [&self.best, &self.best_of_run, &self.given].iter().all(|record| record.x.len() == n)
    }

    /// How often a swarm has started anew.
    pub(crate) fn restarts(&self) -> u64 {
        self.n_runs - 1
    }

    fn start(&mut self, part: Part, run: Run) {
        (self.part, self.run) = (part, run);
        self.n_runs += 1;
        self.best_of_run.fitness = Fitness::WORST;
    }

    /// Draws for the set-up of the next run.
    fn set_up(&self) -> SplitMix64 {
        SplitMix64::stream(self.seed, Purpose::Swarm, SET_UP, self.n_runs)
    }

    /// Away from the walls.
    fn random_point(&self) -> Vec<f64> {
        let mut rng = self.set_up();
        (0..self.n).map(|_| 0.1 + 0.8 * rng.uniform()).collect()
    }

    fn least_size(&self) -> f64 {
        self.config.n_particles.unwrap_or_else(|| Covariance::default_size(self.n)) as f64
    }

    fn start_covariance(&mut self, part: Part, mean: Vec<f64>, sigma: f64, size: f64) {
        let run = Covariance::new(mean, sigma, size as usize, self.seed, self.n_runs);
        self.start(part, Run::Covariance(Box::new(run)));
    }

    fn start_large(&mut self) {
        let size = self.least_size() * GROWTH.powi(self.n_large as i32);
        self.n_large += 1;
        let mean = self.starting_point();
        self.start_covariance(Part::Large, mean, self.config.initial_step, size);
    }

    /// Between the least size and half the last large one, with steps down to a hundredth.
    fn start_small(&mut self) {
        let mut rng = self.set_up().after(self.n as u64);
        let of_large = (0.5 * GROWTH.powi(self.n_large as i32 - 1)).max(1.0);
        let size = self.least_size() * of_large.powf(rng.uniform().powi(2));
        let sigma = self.config.initial_step * 10_f64.powf(-2.0 * rng.uniform());
        let mean = self.starting_point();
        self.start_covariance(Part::Small, mean, sigma, size);
    }

    /// What the user put in, once; else at random.
    fn starting_point(&mut self) -> Vec<f64> {
        if self.given.fitness == Fitness::WORST {
            return self.random_point();
        }
        self.given.fitness = Fitness::WORST;
        self.given.x.clone()
    }

    fn start_success_history(&mut self) {
        let budget = FIRST_BUDGET * self.n as f64 * 2_f64.powi(self.n_success_history as i32);
        self.n_success_history += 1;
        let run = SuccessHistory::new(self.n, SIZE * self.n, budget as u64, self.seed, self.n_runs);
        self.start(Part::SuccessHistory, Run::SuccessHistory(run));
    }

    fn start_next(&mut self) {
        let goes_on = match (&self.run, self.cast) {
            (Run::Cooperative(run), _) => run.is_additive().then_some(STEP_AFTER_COOPERATIVE),
            (Run::SuccessHistory(run), Cast::All) => {
                Some((STEP_AFTER_SUCCESS_HISTORY * run.spread().max(1e-6)).min(self.config.initial_step))
            }
            _ => None,
        };
        if let Some(sigma) = goes_on {
            let mean = self.best_of_run.x.clone();
            return self.start_covariance(Part::Sequel, mean, sigma, self.least_size());
        }
        let spent = (self.spent_large + self.spent_small) as f64;
        let beyond = spent - self.config.covariance_alone as f64 * self.n as f64;
        let is_due = (self.spent_success_history as f64) < SHARE * beyond;
        match self.cast {
            Cast::SuccessHistory => self.start_success_history(),
            Cast::All if is_due => self.start_success_history(),
            _ if self.n_large > 1 && self.spent_small < self.spent_large => self.start_small(),
            _ => self.start_large(),
        }
    }

    fn count(&mut self, evaluations: u64) {
        match self.part {
            Part::Cooperative => {}
            Part::Large => self.spent_large += evaluations,
            Part::Small => self.spent_small += evaluations,
            Part::SuccessHistory | Part::Sequel => self.spent_success_history += evaluations,
        }
    }

    fn is_hopeless(&self, range: f64) -> bool {
        let (best, of_run) = (self.best.fitness, self.best_of_run.fitness);
        best.violation == 0.0 && of_run.violation == 0.0 && of_run.value - best.value > HOPELESS * range
    }
}

impl Moves for Adaptive {
    fn ask(&mut self, points: &mut Vec<f64>) {
        match &mut self.run {
            Run::Cooperative(run) => run.ask(points),
            Run::Covariance(run) => run.ask(points),
            Run::SuccessHistory(run) => run.ask(points),
        }
        self.asked.clear();
        self.asked.extend_from_slice(points);
    }

    fn tell(&mut self, points: &[f64], fitness: &[Fitness]) {
        self.own.clear();
        self.own.extend(points.chunks_exact(self.n).zip(self.asked.chunks_exact(self.n)).map(|(x, asked)| x == asked));
        for ((x, fitness), own) in points.chunks_exact(self.n).zip(fitness).zip(&self.own) {
            self.best.consider(x, fitness);
            self.best_of_run.consider(x, fitness);
            if !own {
                self.given.consider(x, fitness);
            }
        }
        self.count(fitness.len() as u64);
        let is_over = match &mut self.run {
            Run::Cooperative(run) => {
                run.tell(points, fitness, &self.own);
                run.is_over()
            }
            Run::Covariance(run) => {
                run.tell(points, fitness, &self.own);
                let range = run.range();
                run.is_over() || self.is_hopeless(range)
            }
            Run::SuccessHistory(run) => {
                run.tell(points, fitness, &self.own);
                run.is_over()
            }
        };
        if is_over {
            self.start_next();
        }
    }

    fn has_converged(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tells values for so many evaluations, and the part of each generation with its size.
    fn run(swarm: &mut Adaptive, evaluations: u64, objective: impl Fn(&[f64]) -> f64) -> Vec<(Part, u64)> {
        let (mut points, mut told, mut parts) = (Vec::new(), 0, Vec::new());
        while told < evaluations {
            swarm.ask(&mut points);
            let fitness: Vec<_> = points.chunks_exact(swarm.n).map(|x| Fitness::of(objective(x))).collect();
            assert!(swarm.is_of(fitness.len(), swarm.n));
            told += fitness.len() as u64;
            parts.push((swarm.part, fitness.len() as u64));
            swarm.tell(&points, &fitness);
        }
        assert!(!swarm.has_converged());
        parts
    }

    /// Of many basins, turned.
    fn rastrigin(x: &[f64]) -> f64 {
        let term = |z: f64| z * z + 10.0 * (1.0 - (std::f64::consts::TAU * z).cos());
        let (u, v, w) = (10.0 * x[0] - 4.0, 10.0 * x[1] - 6.0, 10.0 * x[2] - 5.5);
        term(0.8 * u - 0.6 * v) + term(0.6 * u + 0.8 * v) + term(w)
    }

    fn spent(parts: &[(Part, u64)], wanted: &[Part]) -> u64 {
        parts.iter().filter(|(part, _)| wanted.contains(part)).map(|(_, n)| n).sum()
    }

    #[test]
    fn everybody_gets_a_share() {
        let n = 3;
        let mut swarm = Adaptive::new(&AdaptiveConfig::default(), Cast::All, n, 1);
        let parts = run(&mut swarm, 60_000, rastrigin);
        let first = parts.iter().position(|(part, _)| *part == Part::SuccessHistory).unwrap();
        let alone = spent(&parts[..first], &[Part::Large, Part::Small]);
        assert!(alone >= 1000 * n as u64, "{alone}");
        let [large, small] = [Part::Large, Part::Small].map(|part| spent(&parts, &[part]));
        let success_history = spent(&parts, &[Part::SuccessHistory, Part::Sequel]);
        assert!(small * 4 > large && large * 4 > small, "{large} {small}");
        assert!(success_history * 5 > large + small && success_history < large + small, "{success_history}");
        assert!(spent(&parts, &[Part::Cooperative]) < 20 * n as u64);
        assert!(swarm.best.fitness.value < 1e-9, "{:?}", swarm.best);
    }

    #[test]
    fn a_cast_of_one_stays_so() {
        let mut covariance = Adaptive::new(&AdaptiveConfig::default(), Cast::Covariance, 3, 1);
        let parts = run(&mut covariance, 20_000, rastrigin);
        assert_eq!(
            spent(&parts, &[Part::Large, Part::Small]),
            spent(&parts, &parts.iter().map(|p| p.0).collect::<Vec<_>>())
        );
        let mut success_history = Adaptive::new(&AdaptiveConfig::default(), Cast::SuccessHistory, 3, 1);
        let parts = run(&mut success_history, 20_000, rastrigin);
        assert!(parts.iter().all(|(part, _)| *part == Part::SuccessHistory) && success_history.restarts() > 0);
    }

    #[test]
    fn what_the_user_puts_in_is_where_the_next_run_starts() {
        let config = AdaptiveConfig { initial_step: 1e-4, ..AdaptiveConfig::default() };
        let mut swarm = Adaptive::new(&config, Cast::All, 3, 1);
        let coupled = |x: &[f64]| (x[0] - x[1]).powi(2) + (x[1] - x[2]).powi(2) + (x[0] - 0.2).powi(2);
        let mut points = Vec::new();
        while swarm.part == Part::Cooperative {
            swarm.ask(&mut points);
            if swarm.given.fitness == Fitness::WORST {
                points[..3].fill(0.21);
            }
            let fitness: Vec<_> = points.chunks_exact(3).map(|x| Fitness::of(coupled(x))).collect();
            swarm.tell(&points, &fitness);
        }
        swarm.ask(&mut points);
        assert!(points.iter().all(|x| (x - 0.21).abs() < 1e-3), "{points:?}");
        assert_eq!(swarm.given.fitness, Fitness::WORST);
    }

    #[test]
    fn a_run_that_cannot_catch_up_is_given_up() {
        let mut swarm = Adaptive::new(&AdaptiveConfig::default(), Cast::Covariance, 2, 1);
        swarm.best.fitness = Fitness::of(0.0);
        swarm.best_of_run.fitness = Fitness::of(3.1);
        assert!(swarm.is_hopeless(1.0) && !swarm.is_hopeless(1.1) && !swarm.is_hopeless(f64::INFINITY));
        swarm.best_of_run.fitness = Fitness { violation: 1.0, value: 3.1 };
        assert!(!swarm.is_hopeless(1.0));
    }
}
