//! Parallel tempering: replicas at many temperatures that change places.

use krystal_math::rng::{Purpose, SplitMix64};
use krystal_math::statistics::log_sum_exp;
use serde::{Deserialize, Serialize};

use crate::anneal::Problem;
use crate::error::{Error, Result, measured, saved, setting};

/// Settings of a [`Tempering`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TemperingConfig {
    /// From cold to hot, at least two, each above 0; the last may be as large as you like, so that all moves are accepted.
    pub temperatures: Vec<f64>,
    /// Moves of each replica between two rounds of swaps, at least 1; default 1000.
    pub moves: u64,
    /// Of all draws.
    pub seed: u64,
}

impl Default for TemperingConfig {
    fn default() -> Self {
        Self { temperatures: vec![0.1, 0.2, 0.4, 0.8, 1.6], moves: 1000, seed: 0 }
    }
}

/// What is known of one temperature or one pair of neighbours since the ladder was last changed.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Tally {
    rounds: u64,
    energy: f64,
    /// Swaps with the next hotter temperature: how many were tried, and the sum of their probabilities of being rejected.
    tried: u64,
    rejected: f64,
    /// `ln` of the sum of `exp((beta_hot - beta_cold) E)` over samples of the next hotter temperature; none yet at no rounds.
    log_ratio: f64,
}

/// All that a tempering has done so far, to be saved and continued from bit for bit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemperingProgress<State> {
    config: TemperingConfig,
    n_rounds: u64,
    /// By temperature.
    states: Vec<State>,
    energies: Vec<f64>,
    /// Which replica is at each temperature.
    replicas: Vec<usize>,
    /// By replica: whether it was last at the cold end, the hot end, or at neither yet.
    last_end: Vec<Option<End>>,
    n_round_trips: u64,
    tallies: Vec<Tally>,
    best: State,
    best_energy: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum End {
    Cold,
    Hot,
}

/// Replicas of one problem, one at each temperature, sampled by Metropolis' rule; after every round neighbours swap their states
/// with probability `min(1, exp((beta_i - beta_j) (E_i - E_j)))`, of *total* energies.
///
/// Even pairs swap after even rounds and odd pairs after odd ones, without choosing by chance: replicas then travel up and down instead
/// of diffusing (Syed, Bouchard-Cote, Deligiannidis and Doucet 2022, doi:10.1111/rssb.12464). The sum of the rejection rates,
/// [`barrier`](Self::barrier), says how hard the journey is; about twice as many temperatures are best. [`adapt`](Self::adapt) moves the
/// temperatures so that all pairs reject equally often.
///
/// Draws are addressed by temperature, round and move: progress that is saved continues bit for bit.
///
/// ```
/// use krystal_phase::model::PlantedSpinGlass;
/// use krystal_phase::tempering::{Tempering, TemperingConfig};
///
/// let glass = PlantedSpinGlass::new(8, 0.6, 1)?;
/// let temperatures = vec![0.3, 0.6, 1.0, 1.7, 3.0];
/// let config = TemperingConfig { temperatures, moves: 64, seed: 1 };
/// let starts = (0..5).map(|i| glass.random_state(i)).collect();
/// let mut tempering = Tempering::new(&glass, starts, config)?;
/// for _ in 0..3000 {
///     tempering.round()?;
/// }
/// assert_eq!(tempering.best_energy(), glass.ground_energy());
/// assert!(tempering.n_round_trips() > 10);
/// # Ok::<(), krystal_phase::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Tempering<'p, P: Problem> {
    problem: &'p P,
    rngs: Vec<SplitMix64>,
    progress: TemperingProgress<P::State>,
}

/// Numbers reserved for one move, as a power of two.
const DRAWS_LOG2: u32 = 16;
/// Streams of [`Purpose::Annealing`]; 0 and 1 are the annealer's.
const MOVES: u64 = 2;
const SWAPS: u64 = 3;

impl<'p, P: Problem> Tempering<'p, P> {
    /// Begins with one state for each temperature.
    ///
    /// # Errors
    /// [`Error::Setting`] for temperatures that do not ascend from above 0 or are not finite, and for 0 moves; [`Error::Counts`] for
    /// another number of states; [`Error::Measured`] for a state whose energy is not finite.
    pub fn new(problem: &'p P, starts: Vec<P::State>, config: TemperingConfig) -> Result<Self> {
        let n = config.temperatures.len();
        if starts.len() != n {
            return Err(Error::Counts { what: "starting states", expected: n, found: starts.len() });
        }
        let energies: Vec<f64> = starts.iter().map(|state| problem.energy(state)).collect();
        for &energy in &energies {
            measured(energy.is_finite(), "energy of a start", "finite", energy)?;
        }
        let Some(lowest) = (0..n).min_by(|&i, &j| energies[i].total_cmp(&energies[j])) else {
            return Err(Error::TooFew { what: "temperatures", needed: 2, found: 0 });
        };
        let (best, best_energy) = (starts[lowest].clone(), energies[lowest]);
        let progress = TemperingProgress {
            config,
            n_rounds: 0,
            states: starts,
            energies,
            replicas: (0..n).collect(),
            last_end: vec![None; n],
            n_round_trips: 0,
            tallies: vec![Tally::default(); n],
            best,
            best_energy,
        };
        Self::begin(problem, progress)
    }

    /// Goes on from saved progress, on the same problem.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`Error::Saved`] if the parts do not belong together, or the energies are not those of the states.
    pub fn resume(problem: &'p P, progress: TemperingProgress<P::State>) -> Result<Self> {
        let n = progress.config.temperatures.len();
        let lengths = [
            progress.states.len(),
            progress.energies.len(),
            progress.replicas.len(),
            progress.last_end.len(),
            progress.tallies.len(),
        ];
        for length in lengths {
            saved(length == n, "list", "as long as the temperatures", length as f64)?;
        }
        let mut seen = vec![false; n];
        for &replica in &progress.replicas {
            saved(replica < n && !seen[replica], "replica", "there once", replica as f64)?;
            seen[replica] = true;
        }
        for (state, &energy) in progress.states.iter().zip(&progress.energies) {
            let now = problem.energy(state);
            let close = (now - energy).abs() <= 1e-6 * now.abs().max(energy.abs()).max(1.0);
            saved(close, "energy", "that of the state", energy)?;
        }
        Self::begin(problem, progress)
    }

    fn begin(problem: &'p P, progress: TemperingProgress<P::State>) -> Result<Self> {
        let TemperingConfig { temperatures, moves, seed } = &progress.config;
        setting(*moves >= 1, "moves", "at least 1", *moves as f64)?;
        setting(temperatures.len() >= 2, "number of temperatures", "at least 2", temperatures.len() as f64)?;
        let mut colder = 0.0;
        for &t in temperatures {
            setting(t > colder && t.is_finite(), "temperature", "finite, above 0 and above the one before", t)?;
            colder = t;
        }
        let stream = |slot| SplitMix64::stream(*seed, Purpose::Annealing, MOVES, slot);
        let rngs = (0..temperatures.len() as u64).map(stream).collect();
        Ok(Self { problem, rngs, progress })
    }

    /// Moves every replica, then swaps neighbours.
    ///
    /// # Errors
    /// [`Error::Measured`] for a change of the energy that is NaN or `-inf`; the round then stands half done.
    pub fn round(&mut self) -> Result<()> {
        let Self { problem, rngs, progress: run } = self;
        let (moves, seed, n) = (run.config.moves, run.config.seed, run.states.len());
        for (slot, rng) in rngs.iter().enumerate() {
            let (state, temperature) = (&mut run.states[slot], run.config.temperatures[slot]);
            for k in 0..moves {
                let mut rng = rng.after((run.n_rounds * moves + k) << DRAWS_LOG2);
                let by = problem.propose(state, &mut rng);
                let delta = problem.delta(state, &by);
                measured(!delta.is_nan() && delta > f64::NEG_INFINITY, "change of the energy", "above -inf", delta)?;
                if delta <= 0.0 || rng.uniform() < (-delta / temperature).exp() {
                    problem.apply(state, &by);
                    run.energies[slot] += delta;
                    if run.energies[slot] < run.best_energy {
                        run.best.clone_from(state);
                        run.best_energy = run.energies[slot];
                    }
                }
            }
            // What rounding added is taken out again.
            run.energies[slot] = problem.energy(state);
        }
        run.tally();
        let mut rng = SplitMix64::stream(seed, Purpose::Annealing, SWAPS, run.n_rounds);
        for cold in ((run.n_rounds % 2) as usize..n - 1).step_by(2) {
            let accept = run.swap_probability(cold);
            run.tallies[cold].tried += 1;
            run.tallies[cold].rejected += 1.0 - accept;
            if rng.uniform() < accept {
                run.states.swap(cold, cold + 1);
                run.energies.swap(cold, cold + 1);
                run.replicas.swap(cold, cold + 1);
            }
        }
        run.n_rounds += 1;
        run.follow_replicas();
        Ok(())
    }

    /// Moves the temperatures between the coldest and the hottest so that all pairs would reject equally often, as far as the rounds so far
    /// tell, and begins new statistics. Samples before and after are of different temperatures.
    ///
    /// The cumulative rejection is taken as a piecewise linear function of `beta`, and cut into equal parts.
    ///
    /// # Errors
    /// [`Error::TooFew`] before two rounds, when some pair has not tried.
    pub fn adapt(&mut self) -> Result<()> {
        let rates = self.rejections()?;
        let run = &mut self.progress;
        let betas: Vec<f64> = run.config.temperatures.iter().map(|t| t.recip()).collect();
        // A pair that never rejects still takes a little of the way, so that no two temperatures fall together.
        let rates: Vec<f64> = rates.iter().map(|rate| rate.max(1e-3)).collect();
        let total: f64 = rates.iter().sum();
        let n = rates.len();
        let (mut pair, mut before) = (0, 0.0);
        for slot in 1..n {
            let target = total * slot as f64 / n as f64;
            while pair + 1 < n && before + rates[pair] < target {
                before += rates[pair];
                pair += 1;
            }
            let share = (target - before) / rates[pair];
            run.config.temperatures[slot] = (betas[pair] + share * (betas[pair + 1] - betas[pair])).recip();
        }
        run.tallies.fill(Tally::default());
        Ok(())
    }

    /// The rejection rate of each pair of neighbours, from cold to hot, since the last [`adapt`](Self::adapt).
    ///
    /// # Errors
    /// [`Error::TooFew`] before two rounds.
    pub fn rejections(&self) -> Result<Vec<f64>> {
        let pairs = &self.progress.tallies[..self.progress.tallies.len() - 1];
        pairs
            .iter()
            .map(|tally| match tally.tried {
                0 => Err(Error::TooFew { what: "rounds since the ladder was changed", needed: 2, found: 0 }),
                tried => Ok(tally.rejected / tried as f64),
            })
            .collect()
    }

    /// The communication barrier: the sum of the rejection rates.
    ///
    /// # Errors
    /// [`Error::TooFew`] before two rounds.
    pub fn barrier(&self) -> Result<f64> {
        Ok(self.rejections()?.iter().sum())
    }

    /// `ln Z(T) - ln Z(T_hottest)` at each temperature by stepping stones: `ln(Z_i / Z_j) = ln <exp((beta_j - beta_i) E)>_j` of neighbours,
    /// `j` the hotter.
    ///
    /// Xie, Lewis, Fan, Kuo and Chen (2011), doi:10.1093/sysbio/syq085.
    ///
    /// # Errors
    /// [`Error::TooFew`] before the first round.
    pub fn log_partition_ratios(&self) -> Result<Vec<f64>> {
        self.sum_from_the_hot_end(|cold, _, _| cold.log_ratio - (cold.rounds as f64).ln())
    }

    /// The same by thermodynamic integration, `-int <E> d beta` with trapezia: another estimate with other errors; where the two differ,
    /// the temperatures are too far apart.
    ///
    /// # Errors
    /// [`Error::TooFew`] before the first round.
    pub fn integrated_log_partition_ratios(&self) -> Result<Vec<f64>> {
        self.sum_from_the_hot_end(|cold, hot, d_beta| {
            -0.5 * d_beta * (cold.energy / cold.rounds as f64 + hot.energy / hot.rounds as f64)
        })
    }

    fn sum_from_the_hot_end(&self, step: impl Fn(&Tally, &Tally, f64) -> f64) -> Result<Vec<f64>> {
        let TemperingProgress { tallies, config, .. } = &self.progress;
        if tallies[0].rounds == 0 {
            return Err(Error::TooFew { what: "rounds since the ladder was changed", needed: 1, found: 0 });
        }
        let mut ratios = vec![0.0; tallies.len()];
        for cold in (0..tallies.len() - 1).rev() {
            let d_beta = config.temperatures[cold].recip() - config.temperatures[cold + 1].recip();
            ratios[cold] = ratios[cold + 1] + step(&tallies[cold], &tallies[cold + 1], d_beta);
        }
        Ok(ratios)
    }

    /// From cold to hot.
    pub fn temperatures(&self) -> &[f64] {
        &self.progress.config.temperatures
    }

    /// The states, by temperature.
    pub fn states(&self) -> &[P::State] {
        &self.progress.states
    }

    /// Their total energies.
    pub fn energies(&self) -> &[f64] {
        &self.progress.energies
    }

    /// The best state so far.
    pub fn best(&self) -> &P::State {
        &self.progress.best
    }

    /// Its energy.
    pub fn best_energy(&self) -> f64 {
        self.progress.best_energy
    }

    /// Journeys of a replica from the cold end to the hot one and back.
    pub fn n_round_trips(&self) -> u64 {
        self.progress.n_round_trips
    }

    /// All of it, to be saved.
    pub fn progress(&self) -> &TemperingProgress<P::State> {
        &self.progress
    }
}

impl<State> TemperingProgress<State> {
    fn swap_probability(&self, cold: usize) -> f64 {
        let t = &self.config.temperatures;
        ((t[cold].recip() - t[cold + 1].recip()) * (self.energies[cold] - self.energies[cold + 1])).exp().min(1.0)
    }

    /// Samples of this round, before the swaps.
    fn tally(&mut self) {
        let t = &self.config.temperatures;
        for (slot, tally) in self.tallies.iter_mut().enumerate() {
            tally.energy += self.energies[slot];
            if let (Some(hotter), Some(&energy)) = (t.get(slot + 1), self.energies.get(slot + 1)) {
                let term = (hotter.recip() - t[slot].recip()) * energy;
                tally.log_ratio = if tally.rounds == 0 { term } else { log_sum_exp(&[tally.log_ratio, term]) };
            }
            tally.rounds += 1;
        }
    }

    fn follow_replicas(&mut self) {
        let n = self.replicas.len();
        let (cold, hot) = (self.replicas[0], self.replicas[n - 1]);
        if self.last_end[cold] == Some(End::Hot) {
            self.n_round_trips += 1;
        }
        self.last_end[cold] = Some(End::Cold);
        // Only a replica that has been cold begins a round trip by becoming hot.
        if self.last_end[hot] == Some(End::Cold) {
            self.last_end[hot] = Some(End::Hot);
        }
    }
}
