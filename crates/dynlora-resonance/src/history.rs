//! What each time-scale has seen lately: sums of unit sketches over periods that do not overlap.
//!
//! A period of level l is its [`Level::period`] of ticks. Only *completed* periods are looked at, so nothing that is compared
//! with a batch contains it, and the periods of the shared levels are chosen to end before those of the faster ones begin.

use std::collections::BTreeMap;

use dynlora_core::{AgentId, Error, Level, SavedState, StateReader};

/// The sum of the sketches of one period; no vector while it is empty.
#[derive(Debug, Clone, Default, PartialEq)]
struct Period {
    sum: Vec<f32>,
    count: u64,
}

impl Period {
    fn add(&mut self, sketch: &[f32], scale: f64) {
        self.sum.resize(sketch.len(), 0.0);
        for (sum, value) in self.sum.iter_mut().zip(sketch) {
            let added = f64::from(*sum) + f64::from(*value) * scale;
            *sum = added.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32;
        }
        self.count += 1;
    }

    fn save(&self, name: &str, state: &mut SavedState) {
        if self.count > 0 {
            state.set_number(format!("{name}.count"), self.count as f64);
            state.set_tensor(format!("{name}.sum"), self.sum.as_slice());
        }
    }

    fn load(name: &str, k: usize, saved: &StateReader<'_>) -> Result<Self, Error> {
        let entry = format!("{name}.count");
        if saved.optional(&entry)?.is_none() {
            return Ok(Self::default());
        }
        Ok(Self { count: saved.integer(&entry)?, sum: saved.tensor_of(&format!("{name}.sum"), k)? })
    }
}

/// One agent's sketches at one level: the period that is open and the last two that are complete, the latest first.
#[derive(Debug, Clone, Default, PartialEq)]
struct Periods {
    open: Period,
    closed: [Period; 2],
}

/// The sum over all agents of one completed period of a shared level.
#[derive(Debug, Clone, Default, PartialEq)]
struct Total {
    sum: Vec<f64>,
    count: u64,
}

/// The periods of all agents at all levels but context.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct History {
    /// Fastest first, without context.
    levels: Vec<Level>,
    agents: BTreeMap<AgentId, Vec<Periods>>,
    /// By level; only shared ones are filled.
    totals: Vec<[Total; 2]>,
    ticks: u64,
}

impl History {
    /// A history of these levels, context among them or not.
    pub(crate) fn new(levels: &[Level]) -> Self {
        let mut levels: Vec<Level> = levels.iter().copied().filter(|level| *level != Level::Context).collect();
        levels.sort_unstable_by(|a, b| b.cmp(a));
        levels.dedup();
        let totals = levels.iter().map(|_| Default::default()).collect();
        Self { levels, agents: BTreeMap::new(), totals, ticks: 0 }
    }

    pub(crate) fn knows(&self, agent: AgentId) -> bool {
        self.agents.contains_key(&agent)
    }

    /// Adds `scale sketch` to every open period of `agent`.
    pub(crate) fn add(&mut self, agent: AgentId, sketch: &[f32], scale: f64) {
        let levels = self.levels.len();
        for periods in self.agents.entry(agent).or_insert_with(|| vec![Periods::default(); levels]) {
            periods.open.add(sketch, scale);
        }
    }

    /// The means that `agent`'s batch is compared with, fastest level first: its own history for the agent level, that of the
    /// *others* for shared levels. Levels without history are absent.
    pub(crate) fn means(&self, agent: AgentId) -> Vec<(Level, Vec<f64>)> {
        let own = self.agents.get(&agent);
        let mut means = Vec::with_capacity(self.levels.len());
        // No later period than this tick is looked at.
        let mut limit = u64::MAX;
        for (index, level) in self.levels.iter().enumerate() {
            if !level.is_shared() {
                let closed = own.map(|own| &own[index].closed[0]).filter(|closed| closed.count > 0);
                if let Some(closed) = closed {
                    let scale = 1.0 / closed.count as f64;
                    means.push((*level, closed.sum.iter().map(|value| f64::from(*value) * scale).collect()));
                }
                continue;
            }
            let period = level.period();
            let latest = self.ticks - self.ticks % period;
            let slot = usize::from(latest > limit);
            let end = latest.saturating_sub(slot as u64 * period);
            limit = end.saturating_sub(period);
            let total = &self.totals[index][slot];
            let own = own.map(|own| &own[index].closed[slot]).filter(|own| own.count > 0);
            let count = total.count - own.map_or(0, |own| own.count);
            if count == 0 {
                continue;
            }
            let scale = 1.0 / count as f64;
            let mean = match own {
                None => total.sum.iter().map(|value| value * scale).collect(),
                Some(own) => {
                    total.sum.iter().zip(&own.sum).map(|(total, own)| (total - f64::from(*own)) * scale).collect()
                }
            };
            means.push((*level, mean));
        }
        means
    }

    /// Ends the tick: periods that are over close. Agents without anything in any period are forgotten.
    pub(crate) fn end_tick(&mut self) {
        self.ticks += 1;
        for (index, level) in self.levels.iter().enumerate() {
            if !self.ticks.is_multiple_of(level.period()) {
                continue;
            }
            for levels in self.agents.values_mut() {
                let periods = &mut levels[index];
                let closed = std::mem::replace(&mut periods.closed[0], std::mem::take(&mut periods.open));
                // An agent's own history is looked at in its latest period only.
                periods.closed[1] = if level.is_shared() { closed } else { Period::default() };
            }
            if level.is_shared() {
                let latest = self.total(index, 0);
                let totals = &mut self.totals[index];
                totals[1] = std::mem::replace(&mut totals[0], latest);
            }
        }
        self.agents.retain(|_, levels| {
            levels.iter().any(|periods| periods.open.count + periods.closed[0].count + periods.closed[1].count > 0)
        });
    }

    /// The sum over the agents, in their order.
    fn total(&self, index: usize, slot: usize) -> Total {
        let mut total = Total::default();
        for levels in self.agents.values() {
            let closed = &levels[index].closed[slot];
            if closed.count > 0 {
                total.sum.resize(closed.sum.len(), 0.0);
                total.count += closed.count;
                for (total, value) in total.sum.iter_mut().zip(&closed.sum) {
                    *total += f64::from(*value);
                }
            }
        }
        total
    }

    pub(crate) fn save(&self, prefix: &str, state: &mut SavedState) {
        state.set_number(format!("{prefix}.ticks"), self.ticks as f64);
        for (agent, levels) in &self.agents {
            state.set_number(format!("{prefix}.agent.{agent}.known"), 1.0);
            for (level, periods) in self.levels.iter().zip(levels) {
                let name = format!("{prefix}.agent.{agent}.{level}");
                periods.open.save(&format!("{name}.open"), state);
                periods.closed[0].save(&format!("{name}.latest"), state);
                periods.closed[1].save(&format!("{name}.before"), state);
            }
        }
    }

    pub(crate) fn load(levels: &[Level], prefix: &str, k: usize, saved: &StateReader<'_>) -> Result<Self, Error> {
        let mut loaded = Self::new(levels);
        loaded.ticks = saved.integer(&format!("{prefix}.ticks"))?;
        for agent in saved.agents(prefix, "known")? {
            let mut levels = Vec::with_capacity(loaded.levels.len());
            for level in &loaded.levels {
                let name = format!("{prefix}.agent.{agent}.{level}");
                let period = |which: &str| Period::load(&format!("{name}.{which}"), k, saved);
                levels.push(Periods { open: period("open")?, closed: [period("latest")?, period("before")?] });
            }
            loaded.agents.insert(agent, levels);
        }
        loaded.totals = (0..loaded.levels.len())
            .map(|index| match loaded.levels[index].is_shared() {
                true => [loaded.total(index, 0), loaded.total(index, 1)],
                false => Default::default(),
            })
            .collect();
        Ok(loaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every sketch has a coordinate of its own, so what a mean holds can be read off it.
    fn history_after(ticks: usize) -> History {
        let mut history = History::new(&Level::ALL);
        for tick in 0..ticks {
            for agent in 0..2 {
                let mut sketch = vec![0.0; 2 * ticks];
                sketch[2 * tick + agent] = 1.0;
                history.add(AgentId(agent as u64), &sketch, 1.0);
            }
            history.end_tick();
        }
        history
    }

    fn held(mean: &[f64]) -> Vec<usize> {
        (0..mean.len()).filter(|index| mean[*index] > 1e-9).collect()
    }

    #[test]
    fn windows_are_complete_periods_of_whom_they_should_be_and_never_overlap() {
        for ticks in [4, 15, 16, 63, 64, 80, 100, 128, 144, 300, 520, 768, 784] {
            let history = history_after(ticks);
            let means = history.means(AgentId(1));
            let mut earliest = usize::MAX;
            for (level, mean) in &means {
                let held = held(mean);
                assert_eq!(held.len() as u64, level.period(), "{level} after {ticks}");
                let first = held[0] / 2;
                assert!(first.is_multiple_of(level.period() as usize));
                // The agent's own history is its own; that of the shared levels is the other's.
                assert!(held.iter().all(|index| index % 2 == usize::from(*level == Level::Agent)), "{level} {held:?}");
                if level.is_shared() {
                    let last = held[held.len() - 1] / 2;
                    assert!(last < earliest, "{level} after {ticks}: {last} is not before {earliest}");
                    earliest = first;
                }
            }
            let found: Vec<Level> = means.iter().map(|(level, _)| *level).collect();
            let expected = match ticks {
                0..16 => 1,
                16..80 => 2,
                80..384 => 3,
                _ => 4,
            };
            assert_eq!(found.len(), expected, "{found:?} after {ticks}");
        }
    }

    #[test]
    fn a_sole_agent_has_no_others_and_the_absent_are_forgotten() {
        let mut history = History::new(&[Level::Context, Level::Agent, Level::Swarm]);
        for _ in 0..16 {
            history.add(AgentId(1), &[1.0, 2.0], 1.0);
            history.end_tick();
        }
        assert_eq!(history.means(AgentId(1)).len(), 1);
        assert_eq!(history.means(AgentId(2)), [(Level::Swarm, vec![1.0, 2.0])]);
        for _ in 0..48 {
            history.end_tick();
        }
        assert!(!history.knows(AgentId(1)) && history.means(AgentId(2)).is_empty());
    }
}
