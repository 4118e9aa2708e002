//! Finds circuits and says which are stable.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::layer_track::LayerTrack;
use super::{Circuit, CircuitCandidate, PatternId};
use crate::{AgentId, Error, Level, LoraLayer, StackActivity};

/// Inputs and outputs named per node.
const TOP_FEATURES: usize = 8;
/// Ticks between two looks at which layers have not been seen for so long that their past says nothing any more.
const FADE_TICKS: u64 = 64;

/// Settings of a [`CircuitDetector`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CircuitDetectorConfig {
    /// Least autocorrelation of a stable pattern. Default 0.3: the cosine of two windows that are each `signal + noise` is the
    /// square of a window's cosine to the signal, and a window of a few batches has about 0.55. The seeds' 0.7 is for a
    /// correlation without noise.
    pub tau_stable: f64,
    /// Consecutive windows (of those in which the circuit is active) that it takes. Default 3.
    pub n_windows: u32,
    /// Share of the mean channel's usage above which usage alone may make a circuit stable. Default 0.5.
    pub usage_floor: f64,
    /// Ticks between two looks at which channels act together. Default 16; a level's window if that is longer.
    pub graph_ticks: u64,
    /// Circuits known of a layer; the least used go first. Default 64.
    pub max_circuits: usize,
}

impl Default for CircuitDetectorConfig {
    fn default() -> Self {
        Self { tau_stable: 0.3, n_windows: 3, usage_floor: 0.5, graph_ticks: 16, max_circuits: 64 }
    }
}

/// What the detector must know of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CircuitModule {
    /// Columns of the weight.
    pub d_in: usize,
    /// Rows of the weight.
    pub d_out: usize,
    /// Channels by [`Level::index`].
    pub ranks: [usize; 5],
}

/// Watches all layers and finds the circuits in them that repeat (R36-R39).
///
/// A layer's **window** is its period ([`Level::period`]). At the end of each, a signature of the gradient and one of usage are
/// kept for 64 windows; every circuit that was active is compared with itself at distant windows in which it was active.
/// One that repeats in `n_windows` of these in a row is a candidate. Being frequent is not enough: what differs each time has
/// no autocorrelation (R38).
///
/// A tick costs what is proportional to the layers that were observed and those that have candidates. The windows that pass for
/// a layer while nothing is seen of it are counted when it is next observed; its past is dropped when the last lag is over.
#[derive(Debug, Clone, PartialEq)]
pub struct CircuitDetector {
    config: CircuitDetectorConfig,
    modules: Vec<CircuitModule>,
    state: CircuitDetectorState,
    /// Layers whose window has something in it.
    open: BTreeSet<Key>,
    /// Layers with candidates.
    stable: BTreeSet<Key>,
}

/// A layer.
type Key = (Level, Option<AgentId>);

/// All there is to restore of a detector.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CircuitDetectorState {
    /// So that a state of other layers is refused.
    modules: Vec<CircuitModule>,
    /// By level and agent.
    tracks: Vec<LayerTrack>,
    /// Mean `|x|` of each module's inputs at the last pass that measured them.
    inputs: Vec<Vec<f32>>,
    /// Ticks that have ended.
    #[serde(default)]
    ticks: u64,
}

impl CircuitDetector {
    /// Knows nothing yet.
    pub fn new(config: CircuitDetectorConfig, modules: Vec<CircuitModule>) -> Self {
        let inputs = vec![Vec::new(); modules.len()];
        let state = CircuitDetectorState { modules: modules.clone(), tracks: Vec::new(), inputs, ticks: 0 };
        Self { config, modules, state, open: BTreeSet::new(), stable: BTreeSet::new() }
    }

    /// Takes in what one backward pass of an agent saw: its activity, where it was measured, and its sketch, empty where not.
    /// `O(channels)` a tick and level, `O(channels * rank)` for pairs. Numbers that are not finite count as nothing.
    pub fn observe(&mut self, agent: AgentId, activity: Option<&StackActivity>, sketch: &[f32]) {
        for level in Level::ALL {
            let modules = &self.modules;
            let track = track(&mut self.state, level, Some(agent));
            track.observe(modules, activity, sketch);
            if track.is_open() {
                self.open.insert((track.level, track.agent));
            }
        }
        for (i, seen) in activity.into_iter().flat_map(|activity| &activity.modules).enumerate() {
            let Some(module) = self.modules.get(i) else { break };
            if seen.inputs.is_empty() || module.d_in == 0 || seen.inputs.len() % module.d_in != 0 {
                continue;
            }
            let rows = (seen.inputs.len() / module.d_in) as f32;
            let mut mean = vec![0.0; module.d_in];
            for row in seen.inputs.chunks_exact(module.d_in) {
                mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += x.abs() / rows);
            }
            if mean.iter().all(|x| x.is_finite()) {
                self.state.inputs[i] = mean;
            }
        }
    }

    /// A tick ends, and with it the windows of the levels whose period divides `tick + 1`.
    pub fn advance(&mut self, tick: u64) {
        let ticks = tick.wrapping_add(1);
        self.state.ticks = ticks;
        let is_over = |key: &Key| ticks.is_multiple_of(key.0.period());
        let closing: Vec<Key> = self.open.iter().copied().filter(is_over).collect();
        self.open.retain(|key| !is_over(key));
        for key in closing {
            let track = track(&mut self.state, key.0, key.1);
            track.close_window(ticks, &self.modules, &self.config);
            match track.candidates(&self.config).next() {
                Some(_) => self.stable.insert(key),
                None => self.stable.remove(&key),
            };
        }
        if ticks.is_multiple_of(FADE_TICKS) {
            self.state.tracks.iter_mut().for_each(|track| track.fade(ticks));
        }
    }

    /// Takes in what a [`CircuitSource`](crate::CircuitSource) has seen: circuits that it proposes are watched from now on too, and
    /// all that are known count as used as often as it says.
    pub fn adopt(&mut self, candidates: &[CircuitCandidate]) {
        for candidate in candidates {
            let circuit = &candidate.circuit;
            if candidate.is_proposed {
                track(&mut self.state, circuit.level, circuit.agent).adopt(&self.modules, candidate);
            } else if let Ok(at) = position(&self.state.tracks, circuit.level, circuit.agent) {
                self.state.tracks[at].set_hit_rate(circuit.id, candidate.hit_rate);
            }
        }
    }

    /// Circuits that have repeated often enough, by level and agent, the longest known first.
    pub fn candidates(&self) -> Vec<Circuit> {
        let tracks = self.stable.iter().filter_map(|(level, agent)| self.find(*level, *agent));
        tracks.flat_map(|track| track.candidates(&self.config)).collect()
    }

    /// Circuits known of a layer, stable or not.
    pub fn known(&self, level: Level, agent: Option<AgentId>) -> Vec<&Circuit> {
        self.find(level, agent).map_or_else(Vec::new, |track| track.known.iter().map(|known| &known.circuit).collect())
    }

    /// Circuits that were at work in the last window in which a layer was measured: what a
    /// [`TrajectoryCache`](crate::TrajectoryCache) records.
    pub fn active(&self, level: Level, agent: Option<AgentId>) -> Vec<&Circuit> {
        let active = |track: &'_ LayerTrack| -> Vec<usize> {
            (0..track.known.len()).filter(|i| track.known[*i].is_active).collect()
        };
        self.find(level, agent)
            .map_or_else(Vec::new, |track| active(track).into_iter().map(|i| &track.known[i].circuit).collect())
    }

    /// Fills in what a circuit reads and writes from the factors of its layer: the input features with the largest
    /// `|A_jk| E|x_k|` (`|A_jk|` alone where no inputs were measured) and the outputs with the largest `|B_ij|`.
    pub fn describe(&self, circuit: &mut Circuit, layer: &dyn LoraLayer) {
        circuit.num_parameters = 0;
        for node in &mut circuit.nodes {
            let Some(factors) = layer.factors().get(node.module).filter(|factors| node.channel < factors.rank) else {
                continue;
            };
            let (a, b) = (factors.a_row(node.channel), factors.b_row(node.channel));
            let inputs = self.state.inputs.get(node.module).filter(|x| x.len() == a.len());
            let weighted: Vec<f32> =
                a.iter().enumerate().map(|(k, a)| a.abs() * inputs.map_or(1.0, |inputs| inputs[k])).collect();
            node.inputs = strongest(&weighted);
            node.outputs = strongest(&b.iter().map(|b| b.abs()).collect::<Vec<_>>());
            circuit.num_parameters += a.len() + b.len();
        }
    }

    /// A circuit has arrived in a slower layer: it is forgotten here, and found anew if it comes back.
    pub fn consolidated(&mut self, pattern: PatternId) {
        self.state.tracks.iter_mut().for_each(|track| track.forget(pattern));
    }

    /// Drops what is known of an agent's own layers.
    pub fn forget_agent(&mut self, agent: AgentId) {
        self.state.tracks.retain(|track| track.agent != Some(agent));
        self.open.retain(|(_, of)| *of != Some(agent));
        self.stable.retain(|(_, of)| *of != Some(agent));
    }

    /// All there is to restore.
    pub fn state(&self) -> CircuitDetectorState {
        self.state.clone()
    }

    /// Goes on from a state of the same layers.
    ///
    /// # Errors
    /// [`Error::State`] where the layers had other channels.
    pub fn restore(&mut self, state: CircuitDetectorState) -> Result<(), Error> {
        let fits = state.modules == self.modules
            && state.inputs.len() == self.modules.len()
            && state.tracks.iter().all(|track| track.fits(&self.modules));
        if !fits {
            let shape = |modules: &[CircuitModule]| {
                let total = |level: Level| modules.iter().map(|module| module.ranks[level.index()]).sum::<usize>();
                format!("{:?} channels in {} modules", Level::ALL.map(total), modules.len())
            };
            let (expected, found) = (shape(&self.modules), shape(&state.modules));
            return Err(Error::state("circuit detector", expected, found));
        }
        let keys = |of: &dyn Fn(&LayerTrack) -> bool| {
            state.tracks.iter().filter(|track| of(track)).map(|track| (track.level, track.agent)).collect()
        };
        self.open = keys(&LayerTrack::is_open);
        self.stable = keys(&|track| track.candidates(&self.config).next().is_some());
        self.state = state;
        Ok(())
    }

    fn find(&self, level: Level, agent: Option<AgentId>) -> Option<&LayerTrack> {
        let tracks = &self.state.tracks;
        position(tracks, level, agent).ok().map(|at| &tracks[at])
    }
}

/// The track of a layer, made where there is none; in order.
fn track(state: &mut CircuitDetectorState, level: Level, agent: Option<AgentId>) -> &mut LayerTrack {
    let at = position(&state.tracks, level, agent).unwrap_or_else(|at| {
        let track = LayerTrack::new(level, agent.filter(|_| !level.is_shared()), state.ticks);
        state.tracks.insert(at, track);
        at
    });
    &mut state.tracks[at]
}

/// Where the track of a layer stands, or belongs.
fn position(tracks: &[LayerTrack], level: Level, agent: Option<AgentId>) -> Result<usize, usize> {
    let key = (level, agent.filter(|_| !level.is_shared()));
    tracks.binary_search_by_key(&key, |track| (track.level, track.agent))
}

/// Positions of the largest values, largest first; none that is zero.
fn strongest(values: &[f32]) -> Vec<u32> {
    let mut order: Vec<usize> = (0..values.len()).filter(|i| values[*i] > 0.0).collect();
    order.sort_by(|x, y| values[*y].total_cmp(&values[*x]).then(x.cmp(y)));
    order.truncate(TOP_FEATURES);
    order.into_iter().map(|i| i as u32).collect()
}

#[cfg(test)]
mod tests {
    use krystal_math::rng::{Purpose, stream_rng};
    use rand::RngExt;

    use super::*;
    use crate::{CircuitSource, ModuleActivity, SnapshotId, TrajectoryCache, TrajectoryCacheConfig};

    const AGENT: AgentId = AgentId(3);
    const MODULES: usize = 24;

    /// Six channels a module in the context, one in every other layer.
    fn detector() -> CircuitDetector {
        let module = CircuitModule { d_in: 16, d_out: 8, ranks: [1, 1, 1, 1, 6] };
        CircuitDetector::new(CircuitDetectorConfig::default(), vec![module; MODULES])
    }

    fn noise(k: usize, index: u64) -> Vec<f32> {
        let mut rng = stream_rng(21, Purpose::Weights, 6, index);
        (0..k).map(|_| (0..6).map(|_| rng.random::<f32>() - 0.5).sum()).collect()
    }

    /// A pass in which the channels of `on` are at work, together, and the others murmur.
    fn activity(tick: u64, on: &[(usize, usize)]) -> StackActivity {
        let modules = (0..MODULES).map(|module| {
            let murmur = noise(10, 1_000_000 + tick * 100 + module as u64);
            let mut second_moment = vec![0.0; 100];
            for j in 0..10 {
                let h = |c: usize| if c >= 4 && on.contains(&(module, c - 4)) { 10.0 } else { 0.0 };
                for k in 0..10 {
                    second_moment[j * 10 + k] = 64.0 * h(j) * h(k);
                }
                second_moment[j * 11] += 64.0 * (1.0 + 0.3 * murmur[j]).max(0.01);
            }
            ModuleActivity { second_moment, inputs: Vec::new() }
        });
        StackActivity { n_rows: 64, input_sum: Vec::new(), modules: modules.collect() }
    }

    fn mix(signal: &[f32], share: f32, index: u64) -> Vec<f32> {
        let unit = |x: &[f32]| -> Vec<f32> {
            let size = x.iter().map(|x| x * x).sum::<f32>().sqrt();
            x.iter().map(|x| x / size).collect()
        };
        let rest = (1.0 - share * share).sqrt();
        unit(signal).iter().zip(unit(&noise(signal.len(), index))).map(|(s, e)| share * s + rest * e).collect()
    }

    const PATTERN: [(usize, usize); 4] = [(0, 1), (0, 2), (0, 3), (2, 5)];

    /// Ticks until the pattern's circuit is a candidate, if it ever is.
    fn run(detector: &mut CircuitDetector, ticks: u64, mut pass: impl FnMut(u64) -> (bool, Vec<f32>)) -> Option<u64> {
        for tick in 0..ticks {
            let (on, sketch) = pass(tick);
            let on: &[(usize, usize)] = if on { &PATTERN } else { &[] };
            detector.observe(AGENT, Some(&activity(tick, on)), &sketch);
            detector.advance(tick);
            let of_pattern = |c: &&Circuit| {
                c.level == Level::Context && c.nodes.iter().any(|node| PATTERN.contains(&(node.module, node.channel)))
            };
            if detector.candidates().iter().find(of_pattern).is_some() {
                return Some(tick);
            }
        }
        None
    }

    #[test]
    fn a_pattern_that_repeats_is_stable_and_one_that_is_only_frequent_is_not() {
        let signal = noise(1024, 1);
        // A window's cosine to the signal is 0.6, that of two windows 0.36.
        let repeats = run(&mut detector(), 120, |tick| (true, mix(&signal, 0.6, 10 + tick)));
        assert!(repeats.is_some_and(|tick| (16..60).contains(&tick)), "{repeats:?}");
        // Active in every window, as often, in another way each time.
        let frequent = run(&mut detector(), 300, |tick| (true, noise(1024, 10 + tick)));
        assert_eq!(frequent, None);
    }

    #[test]
    fn a_circuit_that_is_found_has_its_channels() {
        let mut detector = detector();
        let signal = noise(1024, 1);
        run(&mut detector, 120, |tick| (tick % 3 != 0, mix(&signal, 0.8, 10 + tick))).unwrap();
        let known = detector.known(Level::Context, Some(AGENT));
        let nodes = |circuit: &Circuit| -> Vec<(usize, usize)> {
            circuit.nodes.iter().map(|node| (node.module, node.channel)).collect()
        };
        let found = known.iter().find(|circuit| circuit.nodes.len() > 1).unwrap();
        assert_eq!(nodes(found), PATTERN, "three channels by their inputs, one of another module by its times");
        assert!(found.scores.coherence > 0.7 && !found.edges.is_empty());
        assert_eq!(found.num_parameters, 4 * 24);
        assert_eq!(found.scores.usage_rank, 1.0);
    }

    #[test]
    fn what_has_been_learned_is_stable_by_its_usage() {
        // The gradient is noise; the pattern comes every third tick, in the same way.
        let learned = run(&mut detector(), 200, |tick| (tick % 3 == 0, noise(1024, 10 + tick)));
        assert!(learned.is_some(), "R37");
        // Without a floor of usage it is the gradient alone.
        let config = CircuitDetectorConfig { usage_floor: f64::INFINITY, ..CircuitDetectorConfig::default() };
        let mut strict = CircuitDetector { config, ..detector() };
        assert_eq!(run(&mut strict, 200, |tick| (tick % 3 == 0, noise(1024, 10 + tick))), None);
    }

    #[test]
    fn a_recurring_context_is_compared_with_itself() {
        let (even, odd) = (noise(1024, 1), noise(1024, 2));
        let recurring = run(&mut detector(), 200, |tick| {
            let on = tick / 5 % 2 == 0;
            (on, mix(if on { &even } else { &odd }, 0.7, 10 + tick))
        });
        assert!(recurring.is_some());
    }

    #[test]
    fn a_source_raises_usage_and_is_told() {
        let mut detector = detector();
        let mut cache = TrajectoryCache::new(TrajectoryCacheConfig::default());
        let signal = noise(1024, 1);
        let mut arrived = None;
        for tick in 0..120 {
            let on: &[(usize, usize)] = if tick % 2 == 0 { &PATTERN } else { &[] };
            detector.observe(AGENT, Some(&activity(tick, on)), &mix(&signal, 0.7, 10 + tick));
            detector.advance(tick);
            cache.begin_trajectory(AGENT);
            let snapshot = SnapshotId([tick as u8; 32]);
            for circuit in detector.active(Level::Context, Some(AGENT)) {
                let activation: Vec<f32> = circuit.nodes.iter().map(|node| node.activation).collect();
                cache.record(tick, circuit, &activation, snapshot);
            }
            let seen = cache.candidates(tick);
            detector.adopt(&seen);
            if let Some(circuit) = detector.candidates().into_iter().find(|c| seen.iter().any(|s| s.circuit.id == c.id))
            {
                assert!(circuit.scores.autocorrelation > 0.3);
                arrived = Some(circuit.id);
                break;
            }
        }
        let arrived = arrived.unwrap();
        detector.consolidated(arrived);
        cache.consolidated(arrived);
        assert!(detector.candidates().iter().all(|circuit| circuit.id != arrived));
        assert_eq!(cache.hit_rate(arrived), None);
        // What is only reported, not proposed, and not known, stays unknown.
        let [circuit, proposed] = [77, 78].map(|agent| Circuit::new(Level::Context, Some(AgentId(agent)), &PATTERN));
        let reported = CircuitCandidate { circuit, hit_rate: 1.0, coherence: 1.0, is_proposed: false };
        detector.adopt(&[reported.clone(), CircuitCandidate { circuit: proposed, is_proposed: true, ..reported }]);
        assert!(detector.known(Level::Context, Some(AgentId(77))).is_empty());
        assert_eq!(detector.known(Level::Context, Some(AgentId(78))).len(), 1);
        // Frequency alone: a circuit with hit rate 1 and noise for a gradient is none (R38).
        let mut fresh = self::detector();
        let circuit = Circuit::new(Level::Context, Some(AGENT), &PATTERN);
        fresh.adopt(&[CircuitCandidate { circuit, hit_rate: 1.0, coherence: 1.0, is_proposed: true }]);
        assert_eq!(run(&mut fresh, 150, |tick| (true, noise(1024, 10 + tick))), None);
    }

    #[test]
    fn a_restored_detector_goes_on_the_same() {
        let signal = noise(1024, 1);
        let pass = |tick: u64| (activity(tick, &PATTERN), mix(&signal, 0.6, 10 + tick));
        let mut detector = detector();
        for tick in 0..30 {
            let (activity, sketch) = pass(tick);
            detector.observe(AGENT, Some(&activity), &sketch);
            detector.advance(tick);
        }
        let text = serde_json::to_string(&detector.state()).unwrap();
        let mut restored = self::detector();
        restored.restore(serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(restored, detector);
        for tick in 30..60 {
            let (activity, sketch) = pass(tick);
            for each in [&mut detector, &mut restored] {
                each.observe(AGENT, Some(&activity), &sketch);
                each.advance(tick);
            }
        }
        assert_eq!(restored, detector);
        let mut other = CircuitDetector::new(CircuitDetectorConfig::default(), Vec::new());
        assert!(matches!(other.restore(detector.state()), Err(Error::State { .. })));
    }

    #[test]
    fn nonsense_is_survived() {
        let mut detector = detector();
        let strange = StackActivity {
            input_sum: Vec::new(),
            n_rows: 5,
            modules: vec![
                ModuleActivity { second_moment: vec![f32::NAN; 100], inputs: vec![f32::NAN; 16] },
                ModuleActivity { second_moment: vec![1.0; 7], inputs: vec![1.0; 5] },
            ],
        };
        for tick in 0..300 {
            detector.observe(AGENT, Some(&strange), &[f32::NAN, 1.0]);
            detector.observe(AGENT, None, &[1.0; 3][..(tick % 4) as usize]);
            detector.observe(AgentId(9), Some(&StackActivity::default()), &[]);
            detector.advance(tick);
        }
        assert!(detector.candidates().is_empty());
        let nowhere = Circuit::new(Level::Context, Some(AGENT), &[(99, 0), (0, 99)]);
        detector.adopt(&[CircuitCandidate {
            circuit: nowhere,
            hit_rate: f64::NAN,
            coherence: f64::NAN,
            is_proposed: true,
        }]);
        detector.forget_agent(AGENT);
        assert!(detector.known(Level::Context, Some(AGENT)).is_empty());
    }
}
