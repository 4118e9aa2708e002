//! One tick, in the order of R33: collect, horizontal resonance, vertical resonance, update, activity and phases, decay,
//! homeostasis, detection, migration, publication, health.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::hierarchy::Pending;
use crate::record::digest_of;
use crate::{
    AgentId, ChannelVitals, Circuit, CircuitNode, ContentHash, ContentHasher, Error, HealthInput, HealthReport,
    Horizontal, InputKind, LayerAccess, LayerGradient, LayerOwner, LayerStep, LayerVitals, Level, LoraHierarchy,
    MigrationAction, MigrationEvent, MigrationRequest, MigrationSignal, OpenGate, RegimeChange, ResonanceVitals,
    ShareGate, SharedProposal, Signal, Snapshot, StackActivity, StackGradient, StepGuide, Trajectory, UpdateReport,
    Vertical,
};

/// What a tick did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TickReport {
    /// Its number, from 1.
    pub tick: u64,
    /// Norm of the mean gradient over all layers, before resonance.
    pub gradient_norm: f64,
    /// Norm of the change of all factors by updates.
    pub update_norm: f64,
    /// What each layer that had a gradient did.
    pub updates: Vec<(LayerOwner, UpdateReport)>,
    /// How a regime of data began with it, if one did.
    pub regime: Option<RegimeChange>,
    /// What horizontal resonance found, by shared level.
    pub horizontal: Vec<(Level, Horizontal)>,
    /// What vertical resonance found, by agent.
    pub vertical: Vec<(AgentId, Vertical)>,
    /// Parameters (or channels) that became SCREENED and FREE.
    pub phases: [u64; 2],
    /// Moves between layers.
    pub migrations: Vec<MigrationEvent>,
    /// The snapshot, where this tick published.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Health, where it was looked at.
    pub health: Option<HealthReport>,
}

/// The gradients of one agent in a tick, averaged.
struct AgentBatch {
    n_gradients: u32,
    weight: f64,
    gradient: StackGradient,
}

/// Tells migration what resonance found.
struct Gate<'a> {
    swarm: Option<f64>,
    inner: &'a mut dyn ShareGate,
}

impl ShareGate for Gate<'_> {
    fn consensus(&mut self, participants: &[AgentId]) -> Option<f64> {
        self.inner.consensus(participants).or(self.swarm)
    }

    fn probe(&mut self, agent: AgentId, proposal: &SharedProposal) -> Option<f64> {
        self.inner.probe(agent, proposal)
    }
}

impl LoraHierarchy {
    /// Applies the gradients that have come, lets time pass and publishes. `learning_rate` is `eta0`, that of a layer without
    /// inertia at the reference rank.
    ///
    /// # Errors
    /// [`Error::LearningRate`]: nothing has happened. [`Error::NotFinite`] if a layer left the
    /// finite numbers: the snapshot published last keeps serving.
    pub fn tick(&mut self, learning_rate: f64) -> Result<TickReport, Error> {
        self.tick_with(learning_rate, &mut OpenGate)
    }

    /// As [`tick`](Self::tick), asking `gate` before what one agent has learned is shared with others.
    ///
    /// # Errors
    /// As [`tick`](Self::tick).
    pub fn tick_with(&mut self, learning_rate: f64, gate: &mut dyn ShareGate) -> Result<TickReport, Error> {
        if !(learning_rate >= 0.0 && learning_rate.is_finite()) {
            return Err(Error::LearningRate { found: learning_rate });
        }
        self.tick += 1;
        let tick = self.tick;
        let batches = self.collect();
        let gradient_norm = StackGradient::mean_norm(batches.values().map(|batch| &batch.gradient));
        let regime = match batches.is_empty() {
            true => None,
            false => self.regime.observe(gradient_norm, &mean_inputs(&batches)),
        };
        if let Some(change) = regime {
            self.begin_regime(change);
        }
        for batch in batches.values() {
            if let Some(activity) = &batch.gradient.activity {
                self.directional.observe_pass(activity.modules.iter().map(|module| module.inputs.as_slice()));
            }
        }

        // Resonance.
        let mut aggregates: Vec<(Level, Vec<f32>, Horizontal)> = Vec::with_capacity(3);
        if !batches.is_empty() {
            for level in Level::SHARED {
                let gradients: Vec<(AgentId, &[f32])> =
                    batches.iter().map(|(agent, batch)| (*agent, batch.gradient.level(level))).collect();
                let mut aggregate = vec![0.0; gradients.first().map_or(0, |(_, values)| values.len())];
                let found = self.resonance.horizontal(level, &gradients, &mut aggregate);
                aggregates.push((level, aggregate, found));
            }
        }
        let vertical: Vec<(AgentId, Vertical)> = batches
            .iter()
            .map(|(agent, batch)| {
                let found = match batch.gradient.sketch.is_empty() {
                    true => Vertical::unknown(),
                    false => self.resonance.vertical(*agent, &batch.gradient.sketch),
                };
                (*agent, found)
            })
            .collect();
        self.resonance.end_tick();

        // Updates.
        let mut updates = Vec::new();
        let mean_weight = batches.values().map(|batch| batch.weight).sum::<f64>() / batches.len().max(1) as f64;
        let shares = row_shares(&batches);
        for (level, aggregate, horizontal) in &aggregates {
            // Nothing to agree about for one agent.
            let agreement = horizontal.consensus.map_or(1.0, |consensus| consensus.powf(self.config.agreement));
            let learning_rate = learning_rate * agreement;
            let factor = mean(vertical.iter().map(|(_, v)| f64::from(v.factors[level.index()])));
            let step = LayerStep { tick, learning_rate, strength: factor * mean_weight, release: false };
            let usage = self.usage(*level, batches.values());
            let gradient = LayerGradient { values: aggregate, usage: &usage, shares: &shares };
            let owner = LayerOwner { level: *level, agent: AgentId::default() };
            updates.push((owner, self.update(owner, &gradient, &step)));
        }
        for ((agent, batch), (_, found)) in batches.iter().zip(&vertical) {
            // An agent that has long opposed the others keeps what it learns for itself, at full strength (R26).
            let dissents = aggregates.iter().any(|(_, _, horizontal)| horizontal.dissent.contains(agent));
            for level in Level::PRIVATE {
                let factor = f64::from(found.factors[level.index()]);
                let strength = batch.weight * if dissents { factor.max(1.0) } else { factor };
                let release = found.signal == Signal::Shift;
                let step = LayerStep { tick, learning_rate, strength, release };
                let usage = self.usage(level, std::iter::once(batch));
                let gradient = LayerGradient { values: batch.gradient.level(level), usage: &usage, shares: &[1.0] };
                let owner = LayerOwner { level, agent: *agent };
                updates.push((owner, self.update(owner, &gradient, &step)));
            }
        }

        // Time: phases, decay, homeostasis.
        let phases = self.layers.pass(tick);
        self.note(InputKind::Decay, || ContentHasher::new("dynlora-tick-v1").doubles(&[learning_rate]).finish());

        // Circuits and their moves.
        self.detect(tick, &batches, &vertical);
        let swarm = aggregates.iter().find(|(level, ..)| *level == Level::Swarm);
        let mut gate = Gate { swarm: swarm.and_then(|(_, _, found)| found.consensus), inner: gate };
        self.migration.tick(tick, &mut self.layers, &mut gate);
        let migrations = self.migration.take_events();
        self.settle_moves(&migrations);

        let snapshot = match tick.is_multiple_of(self.config.publish_ticks) {
            true => Some(self.publish_tick()?),
            false => None,
        };
        let health_is_due = self.config.health_ticks > 0 && tick.is_multiple_of(self.config.health_ticks);
        let health = health_is_due.then(|| self.check_health());
        let update_norm = updates.iter().map(|(_, report)| report.parameter_change.powi(2)).sum::<f64>().sqrt();
        Ok(TickReport {
            tick,
            gradient_norm,
            update_norm,
            updates,
            regime,
            horizontal: aggregates.into_iter().map(|(level, _, found)| (level, found)).collect(),
            vertical,
            phases,
            migrations,
            snapshot,
            health,
        })
    }

    /// Sorts what has come by agent and averages what came twice.
    fn collect(&mut self) -> BTreeMap<AgentId, AgentBatch> {
        let pending = std::mem::take(&mut self.pending);
        // The order of submission must not matter: by agent, then by content.
        let is_digested = self.config.provenance || pending.len() > 1;
        let digest = |pending: &Pending| is_digested.then(|| pending.gradient.digest());
        let mut pending: Vec<(Option<ContentHash>, Pending)> = pending.into_iter().map(|p| (digest(&p), p)).collect();
        pending.sort_by_key(|(digest, pending)| (pending.gradient.agent, digest.map(|digest| digest.0)));
        if self.config.provenance {
            let digests = pending.iter().filter_map(|(digest, _)| *digest);
            self.applied.extend(digests.map(|digest| (InputKind::Gradients, digest)));
        }
        let mut batches: BTreeMap<AgentId, AgentBatch> = BTreeMap::new();
        for (_, Pending { gradient, weight }) in pending {
            match batches.get_mut(&gradient.agent) {
                None => {
                    batches.insert(gradient.agent, AgentBatch { n_gradients: 1, weight, gradient });
                }
                Some(batch) => {
                    batch.n_gradients += 1;
                    batch.weight += weight;
                    batch.gradient.add(&gradient);
                }
            }
        }
        for batch in batches.values_mut().filter(|batch| batch.n_gradients > 1) {
            batch.weight /= f64::from(batch.n_gradients);
            batch.gradient.scale(1.0 / batch.n_gradients as f32);
        }
        batches
    }

    fn update(&mut self, owner: LayerOwner, gradient: &LayerGradient<'_>, step: &LayerStep) -> UpdateReport {
        if self.directional.is_active() {
            self.look_at(owner, step.tick);
        }
        let Some(layer) = self.layers.layer(owner.level, owner.agent) else { return UpdateReport::default() };
        let Some(mixing) = self.mixing.get(&owner).filter(|_| self.directional.is_active()) else {
            return layer.update(gradient, step);
        };
        let directional = &self.directional;
        let project = |module: usize, _channel: usize, row: &mut [f32]| directional.turn_row(module, row);
        let mix = |module: usize, rows: &mut [f32]| directional.turn_rows(&mixing[module], rows);
        let guide = StepGuide { project_a: Some(&project), mix_b: Some(&mix), ..StepGuide::default() };
        layer.update_guided(gradient, step, &guide)
    }

    /// Looks where the rows of `A` of a layer point, every few ticks.
    fn look_at(&mut self, owner: LayerOwner, tick: u64) {
        let is_due = tick.is_multiple_of(self.config.directional.refresh_ticks);
        if !is_due && self.mixing.contains_key(&owner) {
            return;
        }
        let Some(layer) = self.layers.get(owner.level, owner.agent) else { return };
        let modules = layer.factors().iter().enumerate();
        let stack = |module: usize| self.ranks.iter().map(|ranks| ranks[module]).sum::<usize>();
        let mixing = modules.map(|(module, factors)| self.directional.mixing(module, factors, stack(module))).collect();
        self.mixing.insert(owner, mixing);
    }

    /// Mean `h^2` of each channel of a level, modules one after another; empty where it was not measured.
    fn usage<'b>(&self, level: Level, batches: impl Iterator<Item = &'b AgentBatch>) -> Vec<f32> {
        let mut usage: Vec<f32> = Vec::new();
        let mut rows = 0.0;
        for batch in batches {
            let Some(activity) = &batch.gradient.activity else { return Vec::new() };
            rows += activity.n_rows as f32;
            let ranks = self.ranks[level.index()].iter().enumerate().take(activity.modules.len());
            let channels = ranks.flat_map(|(module, rank)| (0..*rank).map(move |channel| (module, channel)));
            let seen = channels.map(|(module, channel)| energy(&self.ranks, activity, level, module, channel));
            let Some(seen) = seen.collect::<Option<Vec<f32>>>() else { return Vec::new() };
            if usage.is_empty() {
                usage = seen;
            } else {
                usage.iter_mut().zip(&seen).for_each(|(sum, value)| *sum += value);
            }
        }
        if rows > 0.0 {
            usage.iter_mut().for_each(|value| *value /= rows);
        }
        usage
    }

    fn detect(&mut self, tick: u64, batches: &BTreeMap<AgentId, AgentBatch>, vertical: &[(AgentId, Vertical)]) {
        for (agent, batch) in batches {
            self.detector.observe(*agent, batch.gradient.activity.as_ref(), &batch.gradient.sketch);
        }
        self.detector.advance(tick);
        self.watch(tick, batches);
        self.detector.adopt(&self.source.candidates(tick));
        for circuit in self.detector.candidates() {
            let found = match circuit.agent {
                Some(agent) => vertical.iter().find(|(other, _)| *other == agent).map(|(_, found)| found),
                None => vertical.first().map(|(_, found)| found),
            };
            let signal = match found.map_or(Signal::Normal, |found| found.signal) {
                Signal::FastTrack => MigrationSignal::FastTrack,
                Signal::Conflict => MigrationSignal::Conflict,
                Signal::Shift => MigrationSignal::Shift,
                Signal::Normal => MigrationSignal::Normal,
            };
            let alignment = found.and_then(|found| found.alignment).unwrap_or(0.0);
            let request = MigrationRequest { vertical: alignment, signal, ..MigrationRequest::new(circuit) };
            self.migration.enqueue(tick, request);
        }
    }

    /// Tells the source of circuits what was at work in each batch. Batches on older snapshots count for nothing: what they were
    /// computed on is not known any more.
    fn watch(&mut self, tick: u64, batches: &BTreeMap<AgentId, AgentBatch>) {
        let snapshot = self.publisher.current();
        for (agent, AgentBatch { gradient, .. }) in batches {
            let is_present = gradient.version == snapshot.version();
            let activity = gradient.activity.as_ref().filter(|seen| is_present && seen.n_rows > 0);
            let Some(activity) = activity else { continue };
            let size = |level: Level, node: &CircuitNode| {
                let energy = energy(&self.ranks, activity, level, node.module, node.channel).unwrap_or(0.0);
                (energy / activity.n_rows as f32).max(0.0).sqrt()
            };
            let active = Level::ALL.into_iter().flat_map(|level| self.detector.active(level, Some(*agent)));
            let active: Vec<(&Circuit, Vec<f32>)> = active
                .map(|circuit| (circuit, circuit.nodes.iter().map(|node| size(circuit.level, node)).collect()))
                .collect();
            self.source.observe(&Trajectory { tick, agent: *agent, snapshot: snapshot.id(), active: &active });
        }
    }

    /// After moves: whoever watches is told what has arrived, and freed channels look away from what is protected.
    fn settle_moves(&mut self, events: &[MigrationEvent]) {
        for event in events {
            self.note(InputKind::Migrations, || digest_of(event));
        }
        let has_arrived = |event: &&MigrationEvent| {
            use MigrationAction::{Arrived, Exchanged, Shared};
            matches!(event.action, Arrived { .. } | Exchanged { .. } | Shared { .. })
        };
        for event in events.iter().filter(has_arrived) {
            self.detector.consolidated(event.circuit);
            self.source.consolidated(event.circuit);
        }
        if events.is_empty() || !self.directional.is_active() {
            return;
        }
        // Layers that rest keep what they have.
        for owner in self.layers.touched.clone().into_iter().filter(|owner| owner.level != Level::Foundation) {
            let Some(layer) = self.layers.layer(owner.level, owner.agent) else { continue };
            for module in 0..layer.factors().len() {
                for channel in 0..layer.factors()[module].rank {
                    let state = layer.channel(module, channel);
                    // A channel that was begun anew by a move and has not learned anything yet.
                    let is_fresh = state.generation > 0 && !state.is_pinned && state.activity == 0.0;
                    if is_fresh && layer.factors()[module].is_free(channel) {
                        let mut fresh = layer.copy_channel(module, channel);
                        self.directional.free_row(module, &mut fresh.a);
                        layer.put_channel(module, channel, fresh);
                    }
                }
            }
        }
    }

    /// What health looks at, now; of layers that rest, as they were when they were last looked at.
    pub fn vitals(&self) -> HealthInput {
        let layer = |owner: LayerOwner| {
            let layer = self.layers.get(owner.level, owner.agent)?;
            Some(LayerVitals {
                owner,
                measurement: layer.measure(),
                effective_inertia: layer.effective_inertia(),
                time_constant: layer.time_constant(),
            })
        };
        let channel = |to: Level| {
            let channel = self.migration.channel(to)?;
            let statistics = channel.statistics();
            Some(ChannelVitals {
                from: channel.from(),
                backlog: channel.backlog() as u64,
                requests: statistics.requests - statistics.vetoed,
                rejections: statistics.turned_away + statistics.expired,
                started: statistics.begun,
                waited_ticks: statistics.waited_ticks,
            })
        };
        let resonance = self.resonance.statistics();
        HealthInput {
            tick: self.tick,
            layers: self.layers.owners().into_iter().filter_map(layer).collect(),
            channels: Level::ALL.into_iter().filter_map(channel).collect(),
            resonance: ResonanceVitals {
                operations: resonance.operations,
                fast_tracks: resonance.fast_track,
                conflicts: resonance.conflict,
                z_sum: resonance.sum_z,
                z_count: resonance.pairs,
            },
            gradients: self.gradients,
        }
    }

    fn check_health(&mut self) -> HealthReport {
        self.layers.catch_up();
        let input = self.vitals();
        self.health.check(&input)
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut n) = (0.0, 0.0);
    values.for_each(|value| {
        sum += value;
        n += 1.0;
    });
    if n > 0.0 { sum / n } else { 1.0 }
}

/// Sum over rows of `h^2` of a channel of a level; `None` where its module was not measured.
fn energy(ranks: &[Vec<usize>; 5], seen: &StackActivity, level: Level, module: usize, channel: usize) -> Option<f32> {
    let rank = |ranks: &Vec<usize>| ranks.get(module).copied().unwrap_or(0);
    let total: usize = ranks.iter().map(rank).sum();
    let first: usize = ranks[..level.index()].iter().map(rank).sum();
    let moments = &seen.modules.get(module)?.second_moment;
    moments.get((first + channel) * (total + 1)).filter(|_| moments.len() == total * total).copied()
}

/// Mean over all rows of what the first module read; empty where an agent's inputs were not measured.
fn mean_inputs(batches: &BTreeMap<AgentId, AgentBatch>) -> Vec<f32> {
    let mut sum: Vec<f64> = Vec::new();
    let mut n_rows = 0;
    for batch in batches.values() {
        let Some(activity) = batch.gradient.activity.as_ref().filter(|activity| !activity.input_sum.is_empty()) else {
            return Vec::new();
        };
        n_rows += activity.n_rows;
        sum.resize(activity.input_sum.len(), 0.0);
        sum.iter_mut().zip(&activity.input_sum).for_each(|(sum, x)| *sum += f64::from(*x));
    }
    sum.into_iter().map(|x| (x / n_rows.max(1) as f64) as f32).collect()
}

/// Each agent's share of the rows.
fn row_shares(batches: &BTreeMap<AgentId, AgentBatch>) -> Vec<f64> {
    let rows =
        |batch: &AgentBatch| batch.gradient.activity.as_ref().map_or(1.0, |activity| activity.n_rows.max(1) as f64);
    let total: f64 = batches.values().map(rows).sum();
    batches.values().map(|batch| rows(batch) / total).collect()
}
