//! The search: a swarm asks, commands answer.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::anyhow;
use krystal::swarm::{AdaptiveConfig, Dimension, Fitness, SearchSpace, StopRules, Swarm, SwarmConfig, Trial};

use super::command_line::Filling;
use super::halving::Budget;
use super::ledger::{Entry, Ledger, Outcome, object};
use super::search_file::{Range, Search, Setting};
use super::trial_runner::{Launch, TrialRunner, commonest_reason};

/// Searches.
#[derive(Debug)]
pub(crate) struct Tuner<'a> {
    search: &'a Search,
    runner: TrialRunner<'a>,
    ledger: Ledger,
    swarm: Swarm,
    seed: u64,
    /// Where trials have their folders.
    trials: PathBuf,
}

/// The best of all trials, among those that went furthest.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Best {
    pub(crate) entry: Entry,
    /// The command, its places filled.
    pub(crate) words: Vec<String>,
}

impl<'a> Tuner<'a> {
    /// A search of at most `n_trials` in the folder `run`, whose ledger says what has been done of it.
    pub(crate) fn new(
        search: &'a Search,
        runner: TrialRunner<'a>,
        ledger: Ledger,
        run: &Path,
        seed: u64,
        n_trials: u64,
    ) -> anyhow::Result<Self> {
        let dimension = |(name, range): (&String, &Range)| match range {
            Range::Real { min, max, is_log } => scaled(Dimension::float(name, *min, *max), *is_log),
            Range::Integer { min, max, is_log } => scaled(Dimension::integer(name, *min, *max), *is_log),
            Range::Choice(choices) => Dimension::categorical(name, choices.iter().map(ToString::to_string)),
        };
        let space = SearchSpace::new(search.space.iter().map(dimension).collect())?;
        let stop = StopRules::after(n_trials);
        // What the first, cooperative swarm finds out about sums over coordinates would take most of a few dozen trials, one by one.
        let adaptive = AdaptiveConfig { cooperate: false, ..AdaptiveConfig::default() };
        let mut swarm = Swarm::new(space, SwarmConfig { seed, stop, adaptive, ..SwarmConfig::default() })?;
        for start in &search.start {
            let point: Vec<f64> = search.space.iter().map(|(name, range)| range.number(&start[name])).collect();
            swarm.suggest(&point)?;
        }
        Ok(Self { search, runner, ledger, swarm, seed, trials: run.join("trials") })
    }

    /// Searches until the last trial, or until everything is to end; `each` is told what each trial came to, whether it was run now or
    /// before.
    pub(crate) fn run(&mut self, mut each: impl FnMut(&Entry)) -> anyhow::Result<()> {
        while !self.is_stopped() {
            let asked = self.swarm.ask_batch(usize::MAX);
            if asked.is_empty() {
                break;
            }
            let reached = self.generation(&asked, &mut each)?;
            if self.is_stopped() {
                break;
            }
            let rungs = self.rungs().len();
            for (trial, (rung, outcome)) in asked.iter().zip(&reached) {
                match outcome.value() {
                    // Whoever went further is better; among those that went as far, the number counts.
                    Some(value) => {
                        let violation = (rungs - 1 - rung) as f64;
                        self.swarm.tell(trial.id, Fitness { violation, value: self.search.goal.cost(value) })?;
                    }
                    None => self.swarm.fail(trial.id)?,
                }
            }
            if self.swarm.best().is_none() {
                let outcomes = self.ledger.entries().iter().map(|entry| &entry.outcome);
                let (n, most) = (asked.len(), commonest_reason(outcomes).unwrap_or_default());
                let trials = self.trials.display();
                return Err(anyhow!(
                    "none of the first {n} trials came to a number: {most}; their output is in {trials}"
                ));
            }
        }
        Ok(())
    }

    /// Runs a generation over all rungs. How far each trial went, and what it came to there.
    fn generation(&mut self, asked: &[Trial], each: &mut impl FnMut(&Entry)) -> anyhow::Result<Vec<(usize, Outcome)>> {
        let mut reached = vec![(0, Outcome::Failure("not run".to_owned())); asked.len()];
        let mut alive: Vec<usize> = (0..asked.len()).collect();
        let rungs = self.rungs();
        for (rung, budget) in rungs.iter().enumerate() {
            self.on_rung(asked, &alive, rung, *budget, each)?;
            if self.is_stopped() {
                break;
            }
            for &i in &alive {
                let settings = self.settings(&asked[i]);
                if let Some(entry) = self.ledger.find(asked[i].id, rung, *budget, &settings)? {
                    reached[i] = (rung, entry.outcome.clone());
                }
            }
            let cost = |i: &usize| reached[*i].1.value().map(|value| self.search.goal.cost(value));
            let n = self.search.budget.as_ref().map_or(1, |budget| budget.survivors(alive.len()));
            alive.retain(|i| cost(i).is_some());
            // Stable: of equals, the first asked goes on.
            alive.sort_by(|a, b| cost(a).unwrap_or(f64::INFINITY).total_cmp(&cost(b).unwrap_or(f64::INFINITY)));
            alive.truncate(n);
            alive.sort_unstable();
        }
        Ok(reached)
    }

    /// Runs those of a generation that are still in it and have not been run on this rung.
    fn on_rung(
        &mut self,
        asked: &[Trial],
        alive: &[usize],
        rung: usize,
        budget: Option<u64>,
        each: &mut impl FnMut(&Entry),
    ) -> anyhow::Result<()> {
        let mut due = Vec::new();
        for &i in alive {
            let settings = self.settings(&asked[i]);
            match self.ledger.find(asked[i].id, rung, budget, &settings)? {
                Some(entry) => each(entry),
                None => due.push((asked[i].id, settings)),
            }
        }
        let launch = |(trial, settings): &(u64, Vec<(String, Setting)>)| {
            let dir = self.trials.join(if budget.is_some() { format!("{trial}-{rung}") } else { trial.to_string() });
            let filling = Filling { settings, budget, trial: *trial, seed: self.seed, dir: &dir };
            Launch { words: self.runner.command.filled(filling), dir }
        };
        let launches: Vec<Launch> = due.iter().map(launch).collect();
        let ledger = &mut self.ledger;
        self.runner.run(&launches, |finished| {
            let (trial, settings) = &due[finished.index];
            let settings = object(settings);
            let (outcome, seconds) = (finished.outcome, finished.seconds);
            let entry = Entry { trial: *trial, rung, budget, settings, outcome, seconds };
            each(&entry);
            ledger.add(entry)
        })
    }

    /// The values of a trial by name. The first trials are those that were given, to the last digit.
    fn settings(&self, trial: &Trial) -> Vec<(String, Setting)> {
        let given = usize::try_from(trial.id).ok().and_then(|place| self.search.start.get(place));
        if let Some(given) = given {
            return given.iter().map(|(name, setting)| (name.clone(), setting.clone())).collect();
        }
        let space = self.search.space.iter().zip(&trial.x);
        space.map(|((name, range), x)| (name.clone(), range.setting(*x))).collect()
    }

    /// The budgets of the rungs; one without a budget where there are none.
    fn rungs(&self) -> Vec<Option<u64>> {
        let rungs = |budget: &Budget| budget.rungs().into_iter().map(Some).collect();
        self.search.budget.as_ref().map_or_else(|| vec![None], rungs)
    }

    /// Whether everything is to end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.runner.stop.load(Ordering::SeqCst)
    }

    /// What all trials came to.
    pub(crate) fn entries(&self) -> &[Entry] {
        self.ledger.entries()
    }

    /// The best trial so far.
    pub(crate) fn best(&self) -> Option<Best> {
        let ranked = self.entries().iter().filter(|entry| entry.outcome.value().is_some());
        let entry = ranked.min_by(|a, b| self.search.order(a, b).then(a.trial.cmp(&b.trial)))?;
        let settings: Vec<(String, Setting)> = self
            .search
            .space
            .keys()
            .filter_map(|name| Some((name.clone(), serde_json::from_value(entry.settings.get(name)?.clone()).ok()?)))
            .collect();
        let dir = Path::new("RUN");
        let filling = Filling { settings: &settings, budget: entry.budget, trial: entry.trial, seed: self.seed, dir };
        Some(Best { entry: entry.clone(), words: self.runner.command.filled(filling) })
    }
}

fn scaled(dimension: Dimension, is_log: bool) -> Dimension {
    if is_log { dimension.log() } else { dimension }
}
