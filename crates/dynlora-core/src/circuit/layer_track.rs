//! What the detector remembers of one layer.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::channel_graph::components;
use super::detector::{CircuitDetectorConfig, CircuitModule};
use super::signature::{HISTORY, Signature, SlowMean, autocorrelation, noise_floor};
use super::{Circuit, CircuitCandidate, PatternId};
use crate::{AgentId, Level, StackActivity};

/// Channels looked at for circuits, the most used: pairs cost the square.
const MAX_GRAPH_CHANNELS: usize = 256;
/// Two sets of channels are one circuit where they share half of their union.
const SAME: f64 = 0.5;
/// Times that a circuit may be missing from the graph before it is forgotten.
const MAX_ABSENCES: u32 = 8;

/// One layer: the window that is open, those that have been, and the circuits known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct LayerTrack {
    pub(super) level: Level,
    pub(super) agent: Option<AgentId>,
    /// Sum of sketches of unit length, and sums of `h^2` per channel, over the open window.
    sketch: Vec<f32>,
    energy: Vec<f64>,
    rows: f64,
    /// Per module, sum of `h h^T` of this level's channels since the graph was last built.
    moments: Vec<Vec<f32>>,
    moment_rows: f64,
    gradient_mean: SlowMean,
    usage_mean: SlowMean,
    /// The latest window that had something in it first.
    windows: VecDeque<Window>,
    /// Windows that were over when it was closed, since the beginning.
    #[serde(default)]
    n_windows: u64,
    windows_until_graph: u64,
    pub(super) known: Vec<KnownCircuit>,
    /// Sketch of the last window that had one.
    last_sketch: Vec<f32>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Window {
    gradient: Option<Signature>,
    usage: Option<Signature>,
    /// Root mean square of `h` per channel over their sum; empty where nothing was measured.
    shares: Vec<f32>,
}

/// A circuit and how it has done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct KnownCircuit {
    pub(super) circuit: Circuit,
    /// Positions of its nodes among the layer's channels.
    flat: Vec<usize>,
    /// Consecutive active windows in which it repeated.
    pub(super) streak: u32,
    pub(super) is_active: bool,
    mean_share: f64,
    pub(super) hit_rate: f64,
    /// Whether a source wants it known.
    #[serde(default)]
    is_proposed: bool,
    absences: u32,
}

impl LayerTrack {
    /// Nothing is known yet after so many ticks.
    pub(super) fn new(level: Level, agent: Option<AgentId>, ticks: u64) -> Self {
        Self {
            level,
            agent,
            sketch: Vec::new(),
            energy: Vec::new(),
            rows: 0.0,
            moments: Vec::new(),
            moment_rows: 0.0,
            gradient_mean: SlowMean::new(false),
            usage_mean: SlowMean::new(true),
            windows: VecDeque::new(),
            n_windows: ticks / level.period(),
            windows_until_graph: 0,
            known: Vec::new(),
            last_sketch: Vec::new(),
        }
    }

    /// Whether a track that was restored is one of these modules.
    pub(super) fn fits(&self, modules: &[CircuitModule]) -> bool {
        let level = self.level.index();
        let n: usize = modules.iter().map(|module| module.ranks[level]).sum();
        let pairs = |(moments, module): (&Vec<f32>, &CircuitModule)| moments.len() == module.ranks[level].pow(2);
        let fresh = self.energy.is_empty() && self.moments.is_empty();
        let measured = self.moments.len() == modules.len() && self.moments.iter().zip(modules).all(pairs);
        (fresh || (self.energy.len() == n && measured))
            && self.known.iter().all(|known| known.flat.iter().all(|channel| *channel < n))
    }

    /// Adds what a pass saw to the open window: `O(channels)`, and `O(channels * rank)` for the pairs within a module.
    pub(super) fn observe(&mut self, modules: &[CircuitModule], activity: Option<&StackActivity>, sketch: &[f32]) {
        let size = krystal_math::low_rank::dot_f32(sketch, sketch).sqrt();
        if size > 0.0 && size.is_finite() {
            self.sketch.resize(sketch.len(), 0.0);
            self.sketch.iter_mut().zip(sketch).for_each(|(sum, x)| *sum += (f64::from(*x) / size) as f32);
        }
        let Some(activity) = activity.filter(|activity| activity.n_rows > 0) else { return };
        let level = self.level.index();
        self.energy.resize(modules.iter().map(|module| module.ranks[level]).sum(), 0.0);
        self.moments.resize(modules.len(), Vec::new());
        self.rows += activity.n_rows as f64;
        self.moment_rows += activity.n_rows as f64;
        let mut channel = 0;
        for (i, module) in modules.iter().enumerate() {
            let rank = module.ranks[level];
            let all: usize = module.ranks.iter().sum();
            let first: usize = module.ranks[..level].iter().sum();
            self.moments[i].resize(rank * rank, 0.0);
            // A module that was not measured, or in another shape, was not used.
            if let Some(seen) = activity.modules.get(i).filter(|seen| seen.second_moment.len() == all * all) {
                for j in 0..rank {
                    let row = &seen.second_moment[(first + j) * all + first..][..rank];
                    if row[j].is_finite() {
                        self.energy[channel + j] += f64::from(row[j].max(0.0));
                    }
                    for (sum, x) in self.moments[i][j * rank..][..rank].iter_mut().zip(row) {
                        *sum += if x.is_finite() { *x } else { 0.0 };
                    }
                }
            }
            channel += rank;
        }
    }

    /// Whether the open window has anything in it.
    pub(super) fn is_open(&self) -> bool {
        self.rows > 0.0 || !self.sketch.is_empty()
    }

    /// Windows over after so many ticks in which nothing was seen, the one that is open not among them.
    fn n_missed(&self, ticks: u64) -> u64 {
        (ticks / self.level.period()).saturating_sub(self.n_windows.saturating_add(1))
    }

    /// Drops windows that are out of the reach of every lag.
    pub(super) fn fade(&mut self, ticks: u64) {
        if self.n_missed(ticks) >= HISTORY as u64 {
            self.windows = VecDeque::new();
        }
    }

    /// Closes the window after so many ticks: signatures, circuits, scores.
    pub(super) fn close_window(&mut self, ticks: u64, modules: &[CircuitModule], config: &CircuitDetectorConfig) {
        self.fade(ticks);
        if !self.windows.is_empty() {
            (0..self.n_missed(ticks)).for_each(|_| self.windows.push_front(Window::default()));
        }
        self.n_windows = ticks / self.level.period();
        let mut window = Window::default();
        let size = krystal_math::low_rank::dot_f32(&self.sketch, &self.sketch).sqrt();
        if size > 0.0 && size.is_finite() {
            self.sketch.iter_mut().for_each(|x| *x = (f64::from(*x) / size) as f32);
            window.gradient = Signature::of(&self.gradient_mean.centre(&self.sketch));
            self.last_sketch = std::mem::take(&mut self.sketch);
        }
        if self.rows > 0.0 {
            let activations: Vec<f64> = self.energy.iter().map(|energy| (energy / self.rows).sqrt()).collect();
            let total: f64 = activations.iter().sum();
            if total > 0.0 && total.is_finite() {
                window.shares = activations.iter().map(|h| (h / total) as f32).collect();
                window.usage = Signature::of(&self.usage_mean.centre(&window.shares));
            }
        }
        let measured = !window.shares.is_empty();
        self.windows.push_front(window);
        self.windows.truncate(HISTORY);
        if measured {
            if self.windows_until_graph == 0 {
                self.build_graph(modules, config);
                self.windows_until_graph = config.graph_ticks.div_ceil(self.level.period()).max(1);
            }
            self.windows_until_graph -= 1;
            self.score(config);
        }
        self.energy.fill(0.0);
        self.rows = 0.0;
        self.sketch.clear();
    }

    /// Tells a circuit that is known how often it occurs.
    pub(super) fn set_hit_rate(&mut self, pattern: PatternId, hit_rate: f64) {
        if let Some(known) = self.known.iter_mut().find(|known| known.circuit.id == pattern) {
            known.hit_rate = share(hit_rate);
        }
    }

    /// Takes in a circuit that a source proposes, or tells the one that is known how often it occurs.
    pub(super) fn adopt(&mut self, modules: &[CircuitModule], candidate: &CircuitCandidate) {
        let mut circuit = candidate.circuit.clone();
        let level = self.level.index();
        circuit.nodes.retain(|node| modules.get(node.module).is_some_and(|module| node.channel < module.ranks[level]));
        let offsets = offsets(modules, level);
        let mut flat: Vec<usize> = circuit.nodes.iter().map(|node| offsets[node.module] + node.channel).collect();
        flat.sort_unstable();
        flat.dedup();
        if flat.is_empty() || flat.len() != circuit.nodes.len() {
            return;
        }
        circuit.nodes.sort_by_key(|node| (node.module, node.channel));
        let hit_rate = share(candidate.hit_rate);
        let exact = self.known.iter().position(|known| known.circuit.id == circuit.id || known.flat == flat);
        let at = exact.or_else(|| self.nearest(&flat));
        if let Some(at) = at {
            let known = &mut self.known[at];
            // The source's name stays: it is told when the circuit is consolidated.
            known.circuit.id = circuit.id;
            known.circuit.function = circuit.function.or(known.circuit.function.take());
            known.hit_rate = hit_rate;
            known.is_proposed = true;
            known.absences = 0;
        } else {
            circuit.scores.coherence = if candidate.coherence.is_finite() { candidate.coherence } else { 0.0 };
            circuit.sketch.clear();
            self.known.push(KnownCircuit { hit_rate, is_proposed: true, ..KnownCircuit::new(circuit, flat) });
        }
    }

    /// Names of the circuits known, with what they are now, those that have repeated often enough.
    pub(super) fn candidates(&self, config: &CircuitDetectorConfig) -> impl Iterator<Item = Circuit> {
        self.known.iter().filter(|known| known.streak >= config.n_windows.max(1)).map(|known| {
            let sketch = self.last_sketch.clone();
            Circuit { sketch, ..known.circuit.clone() }
        })
    }

    pub(super) fn forget(&mut self, pattern: PatternId) {
        self.known.retain(|known| known.circuit.id != pattern);
    }

    fn build_graph(&mut self, modules: &[CircuitModule], config: &CircuitDetectorConfig) {
        let n_channels = self.energy.len();
        let place = places(modules, self.level.index());
        let mut mean = vec![0.0_f64; n_channels];
        let history: Vec<&[f32]> =
            self.windows.iter().map(|w| &w.shares[..]).filter(|shares| shares.len() == n_channels).collect();
        for shares in &history {
            mean.iter_mut().zip(*shares).for_each(|(mean, x)| *mean += f64::from(*x) / history.len() as f64);
        }
        let mut order: Vec<usize> = (0..n_channels).collect();
        order.sort_by(|x, y| mean[*y].total_cmp(&mean[*x]));
        order.truncate(MAX_GRAPH_CHANNELS);
        order.retain(|channel| mean[*channel] > 0.0);
        order.sort_unstable();
        // Usage over time, of mean 0 and length 1, so that a product is a correlation.
        let series: Vec<Vec<f32>> =
            order.iter().map(|channel| standardised(&history, *channel, mean[*channel])).collect();
        let strength = |i: usize, j: usize| {
            let ((module, x), (other, y)) = (place[order[i]], place[order[j]]);
            let together = (krystal_math::low_rank::dot_f32(&series[i], &series[j]), history.len() as f64);
            if module != other {
                return together;
            }
            let rank = modules[module].ranks[self.level.index()];
            let moment = |a: usize, b: usize| f64::from(self.moments[module][a * rank + b]);
            let within = (moment(x, y).abs() / (moment(x, x) * moment(y, y)).sqrt(), self.moment_rows);
            // Either way of acting together will do: the same inputs, or the same times.
            if within.0 * within.1.sqrt() >= together.0 * together.1.sqrt() { within } else { together }
        };
        let mut found = components(order.len(), strength);
        // A channel by itself is a circuit if it carries more than its share.
        let fair = 1.0 / n_channels.max(1) as f64;
        found.retain(|component| component.nodes.len() > 1 || mean[order[component.nodes[0]]] >= fair);
        for known in &mut self.known {
            known.absences += 1;
        }
        let mut matched = Vec::new();
        for component in found {
            let flat: Vec<usize> = component.nodes.iter().map(|node| order[*node]).collect();
            let at = match self.nearest(&flat) {
                Some(at) => at,
                None => {
                    let channels: Vec<(usize, usize)> = flat.iter().map(|channel| place[*channel]).collect();
                    let circuit = Circuit::new(self.level, self.agent, &channels);
                    if self.known.iter().any(|known| known.circuit.id == circuit.id) {
                        continue;
                    }
                    self.known.push(KnownCircuit::new(circuit, Vec::new()));
                    self.known.len() - 1
                }
            };
            let known = &mut self.known[at];
            let channels: Vec<(usize, usize)> = flat.iter().map(|channel| place[*channel]).collect();
            let fresh = Circuit::new(self.level, self.agent, &channels);
            known.circuit.nodes = fresh.nodes;
            known.circuit.edges = component.edges;
            known.circuit.scores.coherence = component.coherence;
            let width = |(module, _): &(usize, usize)| modules[*module].d_in + modules[*module].d_out;
            known.circuit.num_parameters = channels.iter().map(width).sum();
            known.flat = flat.clone();
            known.absences = 0;
            matched.push(flat);
        }
        // What is now a part of a larger circuit is no circuit of its own, unless a source says so.
        let within = |part: &[usize], whole: &Vec<usize>| part.iter().all(|c| whole.binary_search(c).is_ok());
        self.known.retain(|known| {
            let part = known.absences > 0 && matched.iter().any(|whole| within(&known.flat, whole));
            known.absences <= MAX_ABSENCES && (known.is_proposed || !part)
        });
        for known in &mut self.known {
            let total: f64 = known.flat.iter().map(|channel| mean[*channel]).sum();
            known.mean_share = total / known.flat.len().max(1) as f64;
        }
        let usages: Vec<f64> = self.known.iter().map(|known| known.mean_share).collect();
        for known in &mut self.known {
            let below = usages.iter().filter(|usage| **usage <= known.mean_share).count();
            let rank = below as f64 / usages.len().max(1) as f64;
            known.circuit.scores.usage_rank = rank.max(known.hit_rate);
        }
        // The least used go where there are too many.
        let mut by_usage: Vec<usize> = (0..self.known.len()).collect();
        by_usage.sort_by(|x, y| usages[*y].total_cmp(&usages[*x]).then(x.cmp(y)));
        let kept: Vec<usize> = by_usage.into_iter().take(config.max_circuits).collect();
        let mut at = 0;
        self.known.retain(|_| {
            at += 1;
            kept.contains(&(at - 1))
        });
        self.moments.iter_mut().for_each(|moments| moments.fill(0.0));
        self.moment_rows = 0.0;
    }

    fn score(&mut self, config: &CircuitDetectorConfig) {
        let windows = &self.windows;
        let Some(now) = windows.front() else { return };
        let fair = 1.0 / now.shares.len().max(1) as f64;
        let gradient_floor = config.tau_stable.max(noise_floor(self.last_sketch.len()));
        let usage_floor = config.tau_stable.max(noise_floor(now.shares.len()));
        for known in &mut self.known {
            // Half of what it has on average, so that a circuit that is always at work is always active.
            let share = |shares: &[f32]| -> f64 {
                let total: f64 =
                    known.flat.iter().map(|channel| shares.get(*channel).map_or(0.0, |x| f64::from(*x))).sum();
                total / known.flat.len().max(1) as f64
            };
            let level = 0.5 * known.mean_share;
            let active = |window: &Window| !window.shares.is_empty() && share(&window.shares) >= level;
            let is_active = active(now) && share(&now.shares) > 0.0;
            let activations: Vec<f32> =
                known.flat.iter().map(|channel| now.shares.get(*channel).copied().unwrap_or(0.0)).collect();
            known.is_active = is_active;
            if !is_active {
                continue;
            }
            let past = |of: fn(&Window) -> Option<Signature>| {
                let at = of(now)?;
                autocorrelation(&at, |age| windows.get(age).filter(|window| active(window)).and_then(of))
            };
            let gradient = past(|window| window.gradient);
            let usage = past(|window| window.usage);
            let used_enough = known.mean_share >= config.usage_floor * fair;
            let scores = &mut known.circuit.scores;
            scores.gradient_autocorrelation = gradient.unwrap_or(0.0);
            scores.usage_autocorrelation = usage.unwrap_or(0.0);
            let by_gradient = gradient.filter(|rho| *rho > gradient_floor);
            let by_usage = usage.filter(|rho| used_enough && *rho > usage_floor);
            // R37: what is learned has no gradient any more, and is used all the same.
            scores.autocorrelation = match used_enough {
                true => scores.gradient_autocorrelation.max(scores.usage_autocorrelation),
                false => scores.gradient_autocorrelation,
            };
            known.streak = if by_gradient.or(by_usage).is_some() { known.streak + 1 } else { 0 };
            for (node, share) in known.circuit.nodes.iter_mut().zip(activations) {
                node.activation += 0.1 * (share - node.activation);
            }
        }
    }

    /// The known circuit that shares at least half of the union of channels.
    fn nearest(&self, flat: &[usize]) -> Option<usize> {
        let overlap = |known: &KnownCircuit| {
            let common = known.flat.iter().filter(|channel| flat.binary_search(channel).is_ok()).count();
            common as f64 / (known.flat.len() + flat.len() - common).max(1) as f64
        };
        let scored = self.known.iter().map(overlap).enumerate();
        // The first of equals.
        let best = scored.reduce(|best, next| if next.1 > best.1 { next } else { best })?;
        (best.1 >= SAME).then_some(best.0)
    }
}

impl KnownCircuit {
    fn new(circuit: Circuit, flat: Vec<usize>) -> Self {
        Self {
            circuit,
            flat,
            streak: 0,
            is_active: false,
            mean_share: 0.0,
            hit_rate: 0.0,
            is_proposed: false,
            absences: 0,
        }
    }
}

/// A hit rate as the share it must be.
fn share(hit_rate: f64) -> f64 {
    if hit_rate.is_finite() { hit_rate.clamp(0.0, 1.0) } else { 0.0 }
}

/// Position of each module's first channel among those of a level.
fn offsets(modules: &[CircuitModule], level: usize) -> Vec<usize> {
    let mut next = 0;
    let step = |module: &CircuitModule| {
        next += module.ranks[level];
        next - module.ranks[level]
    };
    modules.iter().map(step).collect()
}

/// Module and channel of each of a level's channels.
fn places(modules: &[CircuitModule], level: usize) -> Vec<(usize, usize)> {
    modules
        .iter()
        .enumerate()
        .flat_map(|(i, module)| (0..module.ranks[level]).map(move |channel| (i, channel)))
        .collect()
}

fn standardised(history: &[&[f32]], channel: usize, mean: f64) -> Vec<f32> {
    let centred: Vec<f64> = history.iter().map(|shares| f64::from(shares[channel]) - mean).collect();
    let size = centred.iter().map(|x| x * x).sum::<f64>().sqrt();
    // A constant has no correlation; what rounding leaves of it must not pass for one.
    let scale = if size > 1e-6 * mean * (history.len() as f64).sqrt() { 1.0 / size } else { 0.0 };
    centred.iter().map(|x| (x * scale) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_in_which_nothing_was_seen_are_counted_when_something_is() {
        let config = CircuitDetectorConfig::default();
        let mut track = LayerTrack::new(Level::Agent, Some(AgentId(1)), 21);
        let mut close = |ticks: u64| -> Vec<bool> {
            assert!(!track.is_open());
            track.observe(&[], None, &[1.0, 2.0]);
            assert!(track.is_open());
            track.close_window(ticks, &[], &config);
            track.windows.iter().map(|window| window.gradient.is_some()).collect()
        };
        // Four ticks a window.
        assert_eq!(close(24), [true]);
        assert_eq!(close(28), [true, true]);
        assert_eq!(close(40), [true, false, false, true, true]);
        let mut expected = vec![false; 65];
        (expected[0], expected[64]) = (true, true);
        assert_eq!(close(40 + 4 * 64), expected, "the last lag");
        assert_eq!(close(40 + 4 * (64 + 66)), [true], "beyond it");
        track.fade(40 + 4 * (64 + 66) + 4 * 65);
        assert_eq!(track.windows.len(), 1);
        track.fade(40 + 4 * (64 + 66) + 4 * 66);
        assert!(track.windows.is_empty());
    }
}
