//! The swarm: trials are asked, and told.

mod checkpoint;
mod generation;

use serde::{Deserialize, Serialize};

use crate::moves::Kind;
use crate::{Error, Fitness, Method, SearchSpace, Stop, StopRules, SwarmConfig, diversity};

/// A point to be evaluated.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Its number, from 0 on; the same number is never given twice.
    pub id: u64,
    /// The point: for each dimension the number, or the index of the choice. [`SearchSpace::values`] names and types it.
    pub x: Vec<f64>,
}

/// The best point found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The point.
    pub x: Vec<f64>,
    /// What it is worth; infeasible only while nothing feasible was found.
    pub fitness: Fitness,
    /// Which evaluation found it, counted from 1.
    pub evaluation: u64,
}

/// Where a point of the present generation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Slot {
    /// Nobody has it.
    Waiting,
    /// Somebody had it and gave it up.
    Abandoned,
    /// Handed out under this number.
    Asked(u64),
    /// Known.
    Told,
}

/// A search under way.
///
/// [`ask`](Self::ask) hands out trials, [`tell`](Self::tell) takes their values, in any order and from wherever they were computed. A
/// generation is complete when all its trials are told, failed or abandoned and asked again; until then `ask` hands out what is
/// left of it and then nothing. With [`Update::Asynchronous`](crate::Update::Asynchronous) particles do not wait for each other.
///
/// ```
/// use krystal_swarm::{Dimension, SearchSpace, StopRules, Swarm, SwarmConfig};
///
/// let space = SearchSpace::new(vec![Dimension::float("x", -5.0, 5.0), Dimension::float("y", -5.0, 5.0)])?;
/// let config = SwarmConfig { stop: StopRules::after(2_000), ..SwarmConfig::default() };
/// let mut swarm = Swarm::new(space, config)?;
/// while let Some(trial) = swarm.ask() {
///     let (x, y) = (trial.x[0], trial.x[1]);
///     swarm.tell(trial.id, (x - 1.0).powi(2) + (y + 2.0).powi(2))?;
/// }
/// let best = swarm.best().unwrap();
/// assert!((best.x[0] - 1.0).abs() < 1e-3 && (best.x[1] + 2.0).abs() < 1e-3);
/// # Ok::<(), krystal_swarm::Error>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Swarm {
    config: SwarmConfig,
    space: SearchSpace,
    moves: Kind,
    /// Rows of the unit cube.
    points: Vec<f64>,
    fitness: Vec<Fitness>,
    slots: Vec<Slot>,
    n_told: usize,
    /// Where to look for the next waiting row.
    cursor: usize,
    next_id: u64,
    /// Trials of a swarm that has started anew since: number and row of the unit cube.
    orphans: Vec<(u64, Vec<f64>)>,
    /// Points of the unit cube to be tried before any other, the first last.
    suggested: Vec<Vec<f64>>,
    best: Option<Best>,
    evaluations: u64,
    failures: u64,
    generations: u64,
    restarts: u64,
    stopped: Option<Stop>,
}

impl Swarm {
    /// A swarm in `space`.
    ///
    /// # Errors
    /// Where a setting is out of its range.
    pub fn new(space: SearchSpace, config: SwarmConfig) -> Result<Self, Error> {
        config.validate()?;
        let moves = Kind::new(&config, space.n_coordinates(), 0);
        let mut swarm = Self {
            config,
            space,
            moves,
            points: Vec::new(),
            fitness: Vec::new(),
            slots: Vec::new(),
            n_told: 0,
            cursor: 0,
            next_id: 0,
            orphans: Vec::new(),
            suggested: Vec::new(),
            best: None,
            evaluations: 0,
            failures: 0,
            generations: 0,
            restarts: 0,
            stopped: None,
        };
        swarm.begin_generation();
        Ok(swarm)
    }

    /// The seed's particle swarm ([`ClassicConfig`](crate::ClassicConfig)), but for what it seeks: it minimises, so pass the negative of a
    /// score. Any number of evaluations.
    ///
    /// # Errors
    /// None that this configuration could cause.
    pub fn classic(space: SearchSpace, seed: u64) -> Result<Self, Error> {
        let stop = StopRules::after(u64::MAX);
        Self::new(space, SwarmConfig { seed, stop, ..SwarmConfig::of(Method::Classic) })
    }

    /// The best plain particle swarm ([`PsoConfig`](crate::PsoConfig)).
    ///
    /// # Errors
    /// None that this configuration could cause.
    pub fn pso(space: SearchSpace, seed: u64) -> Result<Self, Error> {
        Self::new(space, SwarmConfig { seed, ..SwarmConfig::of(Method::Pso) })
    }

    /// A point to be tried, before any that the swarm comes up with itself; after earlier suggestions. It takes the place of a
    /// particle, which goes on from there.
    ///
    /// # Errors
    /// Where the point is not of this space.
    pub fn suggest(&mut self, x: &[f64]) -> Result<(), Error> {
        self.suggested.insert(0, self.space.encode(x)?);
        Ok(())
    }

    /// The next trial; `None` once a rule has stopped the search, while all trials left to a generation are pending, or
    /// while as many are pending as evaluations are left.
    pub fn ask(&mut self) -> Option<Trial> {
        let left = self.most_evaluations().saturating_sub(self.evaluations);
        if self.stopped.is_some() || self.n_pending() as u64 >= left {
            return None;
        }
        let row = self.next_row()?;
        let id = self.next_id;
        self.next_id += 1;
        self.slots[row] = Slot::Asked(id);
        Some(Trial { id, x: self.point(row) })
    }

    /// Up to `n` trials.
    pub fn ask_batch(&mut self, n: usize) -> Vec<Trial> {
        std::iter::from_fn(|| self.ask()).take(n).collect()
    }

    /// What a trial is worth: a number, or a [`Fitness`] where there are constraints. Not a number or infinite counts as failed.
    ///
    /// # Errors
    /// [`Error::UnknownTrial`] for a trial that is not pending; nothing has changed then.
    pub fn tell(&mut self, id: u64, fitness: impl Into<Fitness>) -> Result<(), Error> {
        if let Some(at) = self.orphans.iter().position(|orphan| orphan.0 == id) {
            let (_, row) = self.orphans.swap_remove(at);
            self.judge(&row, fitness.into());
        } else {
            let row = self.row_of(id)?;
            self.tell_row(row, fitness.into());
        }
        Ok(())
    }

    /// That a trial has no value: it is worse than everything, and counts as an evaluation.
    ///
    /// # Errors
    /// As [`tell`](Self::tell).
    pub fn fail(&mut self, id: u64) -> Result<(), Error> {
        self.tell(id, Fitness::WORST)
    }

    /// That nobody computes a trial any more: its point will be asked again, under another number, and counts once. (Unless the
    /// swarm has started anew since the trial was asked; then nobody needs it.)
    ///
    /// # Errors
    /// As [`tell`](Self::tell).
    pub fn abandon(&mut self, id: u64) -> Result<(), Error> {
        if let Some(at) = self.orphans.iter().position(|orphan| orphan.0 == id) {
            self.orphans.swap_remove(at);
        } else {
            let row = self.row_of(id)?;
            self.slots[row] = Slot::Abandoned;
            self.cursor = row;
        }
        Ok(())
    }

    /// Trials asked and neither told nor abandoned, in the order asked; after a crash, what to compute again.
    pub fn pending(&self) -> Vec<Trial> {
        let asked = |(row, slot): (usize, &Slot)| match *slot {
            Slot::Asked(id) => Some(Trial { id, x: self.point(row) }),
            _ => None,
        };
        let orphans = self.orphans.iter().map(|(id, row)| Trial { id: *id, x: self.decoded(row) });
        let mut trials: Vec<_> = self.slots.iter().enumerate().filter_map(asked).chain(orphans).collect();
        trials.sort_unstable_by_key(|trial| trial.id);
        trials
    }

    /// The best point so far; none before the first finite value.
    pub fn best(&self) -> Option<&Best> {
        self.best.as_ref()
    }

    /// What is searched.
    pub fn space(&self) -> &SearchSpace {
        &self.space
    }

    /// What the swarm was made from.
    pub fn config(&self) -> &SwarmConfig {
        &self.config
    }

    /// Trials told or failed.
    pub fn evaluations(&self) -> u64 {
        self.evaluations
    }

    /// Trials that failed or had no finite value.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// Generations completed.
    pub fn generations(&self) -> u64 {
        self.generations
    }

    /// How often the swarm has started anew.
    pub fn restarts(&self) -> u64 {
        self.restarts + self.moves.restarts()
    }

    /// The rule that stopped the search, if one has.
    pub fn stopped(&self) -> Option<Stop> {
        self.stopped
    }

    /// Points of the present generation.
    pub fn n_particles(&self) -> usize {
        self.slots.len()
    }

    /// The points of the present generation.
    pub fn particles(&self) -> impl Iterator<Item = Vec<f64>> {
        (0..self.n_particles()).map(|row| self.point(row))
    }

    /// Other rules from now on; a stopped search goes on if none of them holds.
    ///
    /// # Errors
    /// Where a rule is out of its range.
    pub fn set_stop(&mut self, stop: StopRules) -> Result<(), Error> {
        stop.validate()?;
        self.config.stop = stop;
        self.stopped = None;
        self.check_evaluations();
        self.check_target();
        self.check_generations();
        Ok(())
    }

    /// Average distance of two particles in the unit cube; 0 for one alone. `O(n^2 d)`.
    pub fn diversity(&self) -> f64 {
        diversity::mean_distance(&self.points, self.space.n_coordinates())
    }

    /// Starts the first half of the particles anew if [`diversity`](Self::diversity) is below `threshold`, and says whether it did. Their
    /// memories stay, and so do points that are pending. Only particle swarms have particles to start anew; others never do.
    pub fn reinitialize_if_converged(&mut self, threshold: f64) -> bool {
        let converged = self.diversity() < threshold;
        let Some(pso) = self.moves.pso().filter(|_| converged) else { return false };
        let rows = self.points.chunks_exact_mut(self.space.n_coordinates());
        for (i, row) in rows.enumerate().take(self.slots.len() / 2) {
            if self.slots[i] == Slot::Waiting {
                pso.give_birth(i, row);
            }
        }
        true
    }
}
