//! The default source of circuits: what has been seen on trajectories.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{CircuitCandidate, CircuitSource, Trajectory};
use crate::{AgentId, Circuit, Error, PatternId, SnapshotId};

/// Settings of a [`TrajectoryCache`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrajectoryCacheConfig {
    /// Patterns kept; the least recently seen goes first. Default 1024; with 0 it keeps and proposes nothing.
    pub capacity: usize,
    /// Occurrences before a hit rate means something. Default 8.
    pub min_occurrences: u64,
    /// Least share of trajectories. Default 0.1.
    pub min_hit_rate: f64,
    /// Least mean cosine of an occurrence's activations to those before. Default 0.5.
    pub min_coherence: f64,
}

impl Default for TrajectoryCacheConfig {
    fn default() -> Self {
        Self { capacity: 1024, min_occurrences: 8, min_hit_rate: 0.1, min_coherence: 0.5 }
    }
}

/// Patterns by id, with what their occurrences had in common.
///
/// Statistics are keyed by the pattern alone and outlive every publication; values are keyed by the snapshot too, and are only
/// given out for the very snapshot they were computed on (R40): with the snapshot in the key of the statistics nothing would
/// ever be frequent.
///
/// Its circuits are those that the detector found and saw at work: it proposes none that the detector does not know.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TrajectoryCache {
    config: TrajectoryCacheConfig,
    trajectories: u64,
    /// The same by agent: no others can show a circuit of the agent's own layers.
    by_agent: BTreeMap<AgentId, u64>,
    /// By id.
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    circuit: Circuit,
    /// The trajectory on which it was first seen, and the last one.
    first: u64,
    last: u64,
    last_tick: u64,
    occurrences: u64,
    /// Mean of its activations, of unit length each.
    pattern: Vec<f32>,
    coherence: f64,
    snapshot: [u8; 32],
    value: Vec<f32>,
}

impl TrajectoryCache {
    /// An empty cache.
    pub fn new(config: TrajectoryCacheConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// A trajectory of an agent begins: hit rates are shares of these, of a circuit in the agent's own layers of the agent's.
    pub fn begin_trajectory(&mut self, agent: AgentId) {
        self.trajectories += 1;
        *self.by_agent.entry(agent).or_default() += 1;
    }

    /// A pattern occurs on the present trajectory: `activation` holds the activations of its nodes, and is kept as its value
    /// under `snapshot`. Only the first occurrence on a trajectory counts.
    pub fn record(&mut self, tick: u64, circuit: &Circuit, activation: &[f32], snapshot: SnapshotId) {
        let now = self.begun(circuit.agent);
        let at = match self.entries.binary_search_by_key(&circuit.id, |entry| entry.circuit.id) {
            Ok(at) => at,
            Err(at) => {
                let entry = Entry {
                    circuit: circuit.clone(),
                    first: now,
                    last: u64::MAX,
                    last_tick: tick,
                    occurrences: 0,
                    pattern: Vec::new(),
                    coherence: 0.0,
                    snapshot: snapshot.0,
                    value: Vec::new(),
                };
                self.entries.insert(at, entry);
                at
            }
        };
        let entry = &mut self.entries[at];
        entry.last_tick = tick;
        entry.snapshot = snapshot.0;
        // What is no number is no value, and would not survive a file.
        let finite = activation.iter().all(|x| x.is_finite());
        entry.value = if finite { activation.to_vec() } else { Vec::new() };
        if entry.last != now {
            entry.last = now;
            entry.occur(activation);
        }
        self.evict();
    }

    /// The activations of a pattern as they were on this very snapshot; `None` if they are of another.
    pub fn value(&self, pattern: PatternId, snapshot: SnapshotId) -> Option<&[f32]> {
        self.entry(pattern).filter(|entry| entry.snapshot == snapshot.0).map(|entry| &entry.value[..])
    }

    /// Share of the trajectories since it was first seen on which a pattern occurred.
    pub fn hit_rate(&self, pattern: PatternId) -> Option<f64> {
        self.entry(pattern).map(|entry| self.rate(entry))
    }

    /// Mean cosine of its occurrences to those before them; `None` before the second.
    pub fn coherence(&self, pattern: PatternId) -> Option<f64> {
        self.entry(pattern).filter(|entry| entry.occurrences > 1).map(|entry| entry.coherence)
    }

    /// Patterns kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn entry(&self, pattern: PatternId) -> Option<&Entry> {
        let at = self.entries.binary_search_by_key(&pattern, |entry| entry.circuit.id).ok()?;
        Some(&self.entries[at])
    }

    /// Trajectories that could show a circuit of this agent, or of all.
    fn begun(&self, agent: Option<AgentId>) -> u64 {
        agent.map_or(self.trajectories, |agent| self.by_agent.get(&agent).copied().unwrap_or(0))
    }

    fn rate(&self, entry: &Entry) -> f64 {
        let seen = self.begun(entry.circuit.agent).saturating_sub(entry.first) + 1;
        entry.occurrences as f64 / seen as f64
    }

    fn evict(&mut self) {
        while self.entries.len() > self.config.capacity {
            let age = |at: &usize| (self.entries[*at].last_tick, self.entries[*at].circuit.id);
            let Some(oldest) = (0..self.entries.len()).min_by_key(age) else { break };
            self.entries.remove(oldest);
        }
    }
}

impl Entry {
    fn occur(&mut self, activation: &[f32]) {
        let dot = krystal_math::low_rank::dot_f32;
        let size = dot(activation, activation).sqrt();
        self.occurrences += 1;
        if !(size.is_finite() && size > 0.0) {
            return;
        }
        if self.pattern.len() == activation.len() {
            let cosine = dot(&self.pattern, activation) / (dot(&self.pattern, &self.pattern).sqrt() * size);
            let rate = 1.0 / (self.occurrences - 1) as f64;
            let cosine = if cosine.is_finite() { cosine } else { 0.0 };
            self.coherence += rate.max(0.05) * (cosine - self.coherence);
        } else {
            self.pattern = vec![0.0; activation.len()];
        }
        for (mean, x) in self.pattern.iter_mut().zip(activation) {
            *mean += (f64::from(*x) / size) as f32;
        }
    }
}

impl CircuitSource for TrajectoryCache {
    fn candidates(&mut self, _: u64) -> Vec<CircuitCandidate> {
        let config = &self.config;
        let stable = |entry: &&Entry| {
            entry.occurrences >= config.min_occurrences
                && self.rate(entry) >= config.min_hit_rate
                && entry.coherence >= config.min_coherence
        };
        let candidate = |entry: &Entry| CircuitCandidate {
            circuit: entry.circuit.clone(),
            hit_rate: self.rate(entry),
            coherence: entry.coherence,
            is_proposed: false,
        };
        self.entries.iter().filter(stable).map(candidate).collect()
    }

    fn consolidated(&mut self, pattern: PatternId) {
        self.entries.retain(|entry| entry.circuit.id != pattern);
    }

    fn observe(&mut self, trajectory: &Trajectory<'_>) {
        self.begin_trajectory(trajectory.agent);
        for (circuit, activation) in trajectory.active {
            self.record(trajectory.tick, circuit, activation, trajectory.snapshot);
        }
    }

    fn forget_agent(&mut self, agent: AgentId) {
        self.by_agent.remove(&agent);
        self.entries.retain(|entry| entry.circuit.agent != Some(agent));
    }

    fn summary(&self) -> Vec<f64> {
        let occurrences: f64 = self.entries.iter().map(|entry| entry.occurrences as f64).sum();
        let coherence: f64 = self.entries.iter().map(|entry| entry.coherence).sum();
        vec![self.trajectories as f64, self.entries.len() as f64, occurrences, coherence]
    }

    fn state(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// What was saved before there was a source is an empty cache.
    fn restore(&mut self, state: &Value) -> Result<(), Error> {
        let saved: Self = match state {
            Value::Null => Self::default(),
            state => {
                Self::deserialize(state).map_err(|error| Error::state("circuit source", "a trajectory cache", error))?
            }
        };
        *self = Self { config: self.config, ..saved };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AgentId, Level};

    fn circuit(channel: usize) -> Circuit {
        Circuit::new(Level::Context, Some(AgentId(0)), &[(0, channel)])
    }

    fn snapshot(n: u8) -> SnapshotId {
        SnapshotId([n; 32])
    }

    #[test]
    fn statistics_outlive_snapshots_and_values_do_not() {
        let mut cache = TrajectoryCache::new(TrajectoryCacheConfig::default());
        let pattern = circuit(1);
        for n in 0..20 {
            cache.begin_trajectory(AgentId(0));
            if n % 2 == 0 {
                cache.record(n, &pattern, &[1.0, 2.0, 0.1 * n as f32], snapshot(n as u8));
                cache.record(n, &pattern, &[1.0, 2.0, 0.1 * n as f32], snapshot(n as u8));
            }
        }
        assert_eq!(cache.hit_rate(pattern.id), Some(0.5), "a new snapshot each time, and twice on each");
        assert!(cache.coherence(pattern.id).unwrap() > 0.8);
        assert_eq!(cache.value(pattern.id, snapshot(18)), Some(&[1.0, 2.0, 0.1 * 18.0][..]));
        assert_eq!(cache.value(pattern.id, snapshot(16)), None);
        let source: &mut dyn CircuitSource = &mut cache;
        let found = source.candidates(20);
        assert_eq!((found.len(), found[0].circuit.id, found[0].hit_rate), (1, pattern.id, 0.5));
        source.consolidated(pattern.id);
        assert!(source.candidates(21).is_empty() && cache.is_empty());
    }

    /// A circuit of one agent's layers is not rarer for what others do; one of a shared layer is.
    #[test]
    fn hit_rates_are_shares_of_the_trajectories_that_could_show_it() {
        let mut cache = TrajectoryCache::new(TrajectoryCacheConfig::default());
        let (own, shared) = (circuit(1), Circuit::new(Level::Swarm, None, &[(0, 1)]));
        for tick in 0..40 {
            for agent in 0..4 {
                let active = [(&own, vec![1.0]), (&shared, vec![1.0])];
                let active = if agent == 0 { &active[..] } else { &[] };
                let agent = AgentId(agent);
                cache.observe(&Trajectory { tick, agent, snapshot: snapshot(0), active });
            }
        }
        assert_eq!(cache.hit_rate(own.id), Some(1.0));
        assert!((cache.hit_rate(shared.id).unwrap() - 0.25).abs() < 0.01);
        cache.forget_agent(AgentId(0));
        assert_eq!((cache.hit_rate(own.id), cache.len()), (None, 1));
    }

    #[test]
    fn a_restored_cache_is_the_same_and_keeps_its_own_settings() {
        let mut cache = TrajectoryCache::new(TrajectoryCacheConfig::default());
        for tick in 0..9 {
            let activation = vec![0.1 + tick as f32, 1.0 / 3.0];
            let active = [(&circuit(1), activation)];
            cache.observe(&Trajectory { tick, agent: AgentId(u64::MAX), snapshot: snapshot(1), active: &active });
        }
        let text = cache.state().to_string();
        let mut restored = TrajectoryCache::new(TrajectoryCacheConfig::default());
        restored.restore(&serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(restored, cache);
        let mut other = TrajectoryCache::new(TrajectoryCacheConfig { capacity: 3, ..TrajectoryCacheConfig::default() });
        other.restore(&cache.state()).unwrap();
        assert_eq!(other.config.capacity, 3);
        let error = other.restore(&Value::from(7)).unwrap_err().to_string();
        assert!(error.contains("`circuit source`") && other.len() == 1, "{error}");
        other.restore(&Value::Null).unwrap();
        assert!(other.is_empty());
    }

    #[test]
    fn what_is_rare_or_different_each_time_is_no_candidate() {
        let mut cache = TrajectoryCache::new(TrajectoryCacheConfig::default());
        for n in 0..200_u64 {
            cache.begin_trajectory(AgentId(0));
            let turn = n as f32 * 1.9;
            cache.record(n, &circuit(1), &[turn.cos(), turn.sin()], snapshot(0));
            if n % 20 == 0 {
                cache.record(n, &circuit(2), &[1.0, 1.0], snapshot(0));
            }
            cache.record(n, &circuit(3), &[1.0, f32::NAN], snapshot(0));
        }
        assert!(cache.candidates(200).is_empty());
        assert_eq!(cache.hit_rate(circuit(1).id), Some(1.0));
        assert!((cache.hit_rate(circuit(2).id).unwrap() - 0.05).abs() < 1e-12);
    }

    #[test]
    fn the_least_recently_seen_goes_first() {
        let config = TrajectoryCacheConfig { capacity: 3, ..TrajectoryCacheConfig::default() };
        let mut cache = TrajectoryCache::new(config);
        for (tick, channel) in [(0, 0), (1, 1), (2, 2), (3, 0), (4, 3)] {
            cache.begin_trajectory(AgentId(0));
            cache.record(tick, &circuit(channel), &[1.0], snapshot(0));
        }
        let kept: Vec<bool> = (0..4).map(|channel| cache.hit_rate(circuit(channel).id).is_some()).collect();
        assert_eq!(kept, [true, false, true, true]);
        let text = serde_json::to_string(&cache).unwrap();
        assert_eq!(serde_json::from_str::<TrajectoryCache>(&text).unwrap(), cache);
    }
}
