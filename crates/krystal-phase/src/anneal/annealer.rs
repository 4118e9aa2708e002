//! The loop of moves.

use krystal_math::rng::{Purpose, SplitMix64};
use serde::{Deserialize, Serialize};

use super::{Block, Problem, Schedule};
use crate::error::{Error, Result, measured, saved, setting};

/// Settings of an [`Annealer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnnealConfig {
    /// Moves at one temperature, at least 1; default 1000. About as many as a state has variables is usual.
    pub block: u64,
    /// Of all draws.
    pub seed: u64,
}

impl Default for AnnealConfig {
    fn default() -> Self {
        Self { block: 1000, seed: 0 }
    }
}

/// All that an annealer has done so far, to be saved and continued from bit for bit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress<State, S> {
    config: AnnealConfig,
    schedule: S,
    n_moves: u64,
    state: State,
    energy: f64,
    /// The best state before the present one; whether the present one is better is seen from `best_energy`.
    best: State,
    best_energy: f64,
    block: Running,
}

/// The block that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Running {
    n: u64,
    accepted: u64,
    /// Of energies from the energy at the beginning of the block.
    origin: f64,
    sum: f64,
    squares: f64,
    lowest: f64,
}

/// Anneals a problem under a schedule, and keeps the best state that it saw.
///
/// Move number `k` draws from its own place in the stream of `(seed, annealing)`, so progress that is saved needs no generator and
/// continues bit for bit, at any point.
#[derive(Debug, Clone)]
pub struct Annealer<'p, P: Problem, S> {
    problem: &'p P,
    rng: SplitMix64,
    temperature: f64,
    progress: Progress<P::State, S>,
}

/// Numbers reserved for one move, as a power of two.
const DRAWS_LOG2: u32 = 16;

impl<'p, P: Problem, S: Schedule> Annealer<'p, P, S> {
    /// # Errors
    /// [`Error::Setting`] for a block of 0 moves, [`Error::Measured`] if the energy of the start is not finite,
    /// [`Error::Temperature`] for what the schedule begins with.
    pub fn new(problem: &'p P, start: P::State, schedule: S, config: AnnealConfig) -> Result<Self> {
        let energy = problem.energy(&start);
        measured(energy.is_finite(), "energy of the start", "finite", energy)?;
        let block = Running { origin: energy, lowest: energy, ..Running::default() };
        let best = start.clone();
        let progress =
            Progress { config, schedule, n_moves: 0, state: start, energy, best, best_energy: energy, block };
        Self::begin(problem, progress)
    }

    /// Goes on from saved progress, on the same problem.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`Error::Saved`] if the saved energies are not those of the saved states on this problem.
    pub fn resume(problem: &'p P, progress: Progress<P::State, S>) -> Result<Self> {
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-6 * a.abs().max(b.abs()).max(1.0);
        let energy = problem.energy(&progress.state);
        saved(close(energy, progress.energy), "energy", "that of the state", progress.energy)?;
        let best = problem.energy(&progress.best);
        saved(close(best, progress.best_energy), "best energy", "that of the best state", progress.best_energy)?;
        let block = progress.block.n;
        saved(block < progress.config.block.max(1), "block", "shorter than a block", block as f64)?;
        Self::begin(problem, progress)
    }

    fn begin(problem: &'p P, progress: Progress<P::State, S>) -> Result<Self> {
        setting(progress.config.block >= 1, "block", "at least 1", progress.config.block as f64)?;
        let rng = SplitMix64::stream(progress.config.seed, Purpose::Annealing, 0, 0);
        let temperature = checked(progress.schedule.temperature())?;
        Ok(Self { problem, rng, temperature, progress })
    }

    /// Tries `n_moves` moves; the schedule is ticked after each whole block.
    ///
    /// # Errors
    /// [`Error::Measured`] for a `delta` that is NaN or an energy that falls to `-inf`, what the schedule returns, and
    /// [`Error::Temperature`] for a temperature that is none. The annealer then stands before the move or the block that failed.
    pub fn advance(&mut self, n_moves: u64) -> Result<()> {
        let Self { problem, rng, temperature, progress: run } = self;
        for _ in 0..n_moves {
            let mut rng = rng.after(run.n_moves << DRAWS_LOG2);
            let by = problem.propose(&run.state, &mut rng);
            let delta = problem.delta(&run.state, &by);
            let accepted = delta <= 0.0 || rng.uniform() < (-delta / *temperature).exp();
            if accepted {
                measured(delta.is_finite(), "change of the energy", "above -inf", delta)?;
                // The best is copied when it is left, not each time that it is bettered.
                if delta > 0.0 && run.energy < run.best_energy {
                    run.best.clone_from(&run.state);
                    run.best_energy = run.energy;
                }
                problem.apply(&mut run.state, &by);
                run.energy += delta;
                run.block.accepted += 1;
                run.block.lowest = run.block.lowest.min(run.energy);
            } else {
                measured(!delta.is_nan(), "change of the energy", "a number", delta)?;
            }
            run.n_moves += 1;
            run.block.n += 1;
            let from_origin = run.energy - run.block.origin;
            run.block.sum += from_origin;
            run.block.squares += from_origin * from_origin;
            if run.block.n == run.config.block {
                // What rounding added is taken out again.
                run.energy = problem.energy(&run.state);
                let block = run.block.close(*temperature, run.energy);
                run.block = Running { origin: run.energy, lowest: run.energy, ..Running::default() };
                run.schedule.tick(&block)?;
                *temperature = checked(run.schedule.temperature())?;
            }
        }
        Ok(())
    }

    /// The best state so far.
    pub fn best(&self) -> &P::State {
        if self.progress.energy < self.progress.best_energy { &self.progress.state } else { &self.progress.best }
    }

    /// Its energy.
    pub fn best_energy(&self) -> f64 {
        self.progress.best_energy.min(self.progress.energy)
    }

    /// The state now.
    pub fn state(&self) -> &P::State {
        &self.progress.state
    }

    /// Its energy.
    pub fn energy(&self) -> f64 {
        self.progress.energy
    }

    /// Moves tried.
    pub fn n_moves(&self) -> u64 {
        self.progress.n_moves
    }

    /// The temperature now.
    pub fn temperature(&self) -> f64 {
        self.temperature
    }

    /// The schedule.
    pub fn schedule(&self) -> &S {
        &self.progress.schedule
    }

    /// All of it, to be saved.
    pub fn progress(&self) -> &Progress<P::State, S> {
        &self.progress
    }
}

impl Running {
    fn close(&self, temperature: f64, energy: f64) -> Block {
        let n = self.n as f64;
        let mean = self.sum / n;
        Block {
            temperature,
            acceptance: self.accepted as f64 / n,
            mean_energy: self.origin + mean,
            variance: (self.squares / n - mean * mean).max(0.0),
            energy,
            lowest: self.lowest,
        }
    }
}

fn checked(temperature: f64) -> Result<f64> {
    if temperature >= 0.0 { Ok(temperature) } else { Err(Error::Temperature { found: temperature }) }
}
