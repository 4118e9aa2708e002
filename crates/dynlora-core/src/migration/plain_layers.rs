//! Layers that only store, for the tests of migration.

use std::collections::BTreeMap;
use std::sync::Arc;

use krystal_math::rng::{Purpose, stream_rng};
use rand::RngExt;

use super::{LayerAccess, LayerAddress};
use crate::{
    AdvanceReport, AgentId, Channel, ChannelState, Error, FactorAddress, LayerFactors, LayerGradient, LayerMeasurement,
    LayerStep, Level, LoraLayer, ModuleFactors, ModuleShape, SavedState, UpdateReport, initial_row,
};

/// A layer that keeps what it is given: no descent, no decay.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PlainLayer {
    pub(crate) address: LayerAddress,
    factors: LayerFactors,
    /// By module and channel: moments, as Adam would keep, and state.
    channels: Vec<Vec<(Vec<f32>, ChannelState)>>,
}

impl LoraLayer for PlainLayer {
    fn level(&self) -> Level {
        self.address.level
    }
    fn factors(&self) -> &LayerFactors {
        &self.factors
    }
    fn factors_mut(&mut self, module: usize) -> &mut ModuleFactors {
        Arc::make_mut(&mut self.factors[module])
    }
    fn take_dirty(&mut self) -> Vec<usize> {
        Vec::new()
    }
    fn update(&mut self, _: &LayerGradient<'_>, _: &LayerStep) -> UpdateReport {
        UpdateReport::default()
    }
    fn advance(&mut self, _: u64) -> AdvanceReport {
        AdvanceReport::default()
    }
    fn channel(&self, module: usize, channel: usize) -> ChannelState {
        self.channels[module][channel].1
    }
    fn copy_channel(&self, module: usize, channel: usize) -> Channel {
        let factors = &self.factors[module];
        let (moments, state) = self.channels[module][channel].clone();
        Channel { a: factors.a_row(channel).to_vec(), b: factors.b_row(channel).to_vec(), moments, state }
    }
    fn put_channel(&mut self, module: usize, channel: usize, value: Channel) {
        let slot = &mut self.channels[module][channel];
        assert_eq!(slot.0.len(), value.moments.len(), "moments of another layout");
        *slot = (value.moments, value.state);
        let factors = self.factors_mut(module);
        factors.a_row_mut(channel).copy_from_slice(&value.a);
        factors.b_row_mut(channel).copy_from_slice(&value.b);
    }
    fn reset_channel(&mut self, module: usize, channel: usize) {
        let (moments, state) = &mut self.channels[module][channel];
        moments.fill(0.0);
        *state = ChannelState { generation: state.generation + 1, ..ChannelState::default() };
        let generation = state.generation;
        let LayerAddress { level, agent } = self.address;
        let factors = self.factors_mut(module);
        let address = FactorAddress { seed: 1, level, agent: agent.0, module };
        let row: Vec<f32> = initial_row(factors.d_in, address, channel, generation).collect();
        factors.a_row_mut(channel).copy_from_slice(&row);
        factors.b_row_mut(channel).fill(0.0);
    }
    fn pin_channel(&mut self, module: usize, channel: usize, pinned: bool) {
        self.channels[module][channel].1.is_pinned = pinned;
    }
    fn effective_inertia(&self) -> f64 {
        self.address.level.base_inertia()
    }
    fn time_constant(&self) -> f64 {
        100.0 / (1.0 - self.address.level.base_inertia())
    }
    fn measure(&self) -> LayerMeasurement {
        LayerMeasurement::default()
    }
    fn state(&self) -> SavedState {
        SavedState::default()
    }
    fn restore(&mut self, _: &SavedState) -> Result<(), Error> {
        Ok(())
    }
}

/// A hierarchy of such layers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PlainLayers {
    layers: BTreeMap<LayerAddress, PlainLayer>,
    agents: Vec<AgentId>,
    seed: u64,
    draws: u64,
}

impl PlainLayers {
    /// Modules `(d_in, d_out)`, ranks by level.
    pub(crate) fn new(seed: u64, modules: &[(usize, usize)], ranks: [usize; 5], agents: u64) -> Self {
        let agents: Vec<AgentId> = (0..agents).map(AgentId).collect();
        let mut layers = BTreeMap::new();
        for level in Level::ALL {
            for agent in &agents {
                let address = LayerAddress::new(level, Some(*agent));
                let rank = ranks[level.index()];
                let fresh = |(module, &(d_in, d_out)): (usize, &(usize, usize))| {
                    let shape = ModuleShape { name: module.to_string(), d_in, d_out };
                    let address = FactorAddress { seed, level, agent: address.agent.0, module };
                    Arc::new(ModuleFactors::fresh(&shape, rank, address))
                };
                let channels = modules
                    .iter()
                    .map(|(d_in, d_out)| vec![(vec![0.0; 2 * (d_in + d_out)], ChannelState::default()); rank])
                    .collect();
                let factors = modules.iter().enumerate().map(fresh).collect();
                layers.insert(address, PlainLayer { address, factors, channels });
            }
        }
        Self { layers, agents, seed, draws: 0 }
    }

    pub(crate) fn get(&mut self, address: LayerAddress) -> &mut PlainLayer {
        self.layers.get_mut(&address).unwrap()
    }

    pub(crate) fn addresses(&self) -> Vec<LayerAddress> {
        self.layers.keys().copied().collect()
    }

    pub(crate) fn remove_agent(&mut self, agent: AgentId) {
        self.agents.retain(|a| *a != agent);
        self.layers.retain(|address, _| address.level.is_shared() || address.agent != agent);
    }

    /// Random values, moments and activity in the first `n` channels of every module of every layer of a level.
    pub(crate) fn fill(&mut self, level: Level, n: usize) {
        for address in self.addresses() {
            if address.level == level {
                for module in 0..self.layers[&address].factors.len() {
                    for channel in 0..n {
                        self.fill_channel(address, module, channel);
                    }
                }
            }
        }
    }

    pub(crate) fn fill_channel(&mut self, address: LayerAddress, module: usize, channel: usize) {
        self.draws += 1;
        let mut rng = stream_rng(self.seed, Purpose::Weights, 77, self.draws);
        let layer = self.get(address);
        let mut value = layer.copy_channel(module, channel);
        value.b.iter_mut().for_each(|b| *b = rng.random::<f32>() - 0.5);
        value.moments.iter_mut().for_each(|m| *m = rng.random::<f32>() - 0.5);
        value.state.activity = rng.random::<f32>() * 2.0;
        layer.put_channel(module, channel, value);
    }

    /// `dW` of all modules as one agent sees it, in f64.
    pub(crate) fn total(&self, agent: AgentId) -> Vec<f64> {
        let mut total = Vec::new();
        let stack: Vec<&PlainLayer> =
            Level::ALL.iter().map(|level| &self.layers[&LayerAddress::new(*level, Some(agent))]).collect();
        for module in 0..stack[0].factors.len() {
            let ModuleFactors { d_in, d_out, .. } = *stack[0].factors[module];
            let mut sum = vec![0.0; d_in * d_out];
            for layer in &stack {
                let factors = &layer.factors[module];
                for channel in 0..factors.rank {
                    for (row, b) in sum.chunks_exact_mut(d_in).zip(factors.b_row(channel)) {
                        for (x, a) in row.iter_mut().zip(factors.a_row(channel)) {
                            *x += f64::from(*b) * f64::from(*a);
                        }
                    }
                }
            }
            total.extend(sum);
        }
        total
    }

    /// Channels in use in a layer.
    pub(crate) fn used(&mut self, address: LayerAddress) -> usize {
        let layer = self.get(address);
        layer.factors.iter().map(|f| (0..f.rank).filter(|c| !f.is_free(*c)).count()).sum()
    }
}

impl LayerAccess for PlainLayers {
    fn agents(&self) -> Vec<AgentId> {
        self.agents.clone()
    }
    fn layer(&mut self, level: Level, agent: AgentId) -> Option<&mut (dyn LoraLayer + 'static)> {
        let layer = self.layers.get_mut(&LayerAddress::new(level, Some(agent)))?;
        Some(layer)
    }
}

/// `|x - y| / |y|`.
pub(crate) fn relative_gap(x: &[f64], y: &[f64]) -> f64 {
    let gap: f64 = x.iter().zip(y).map(|(x, y)| (x - y).powi(2)).sum();
    (gap / y.iter().map(|y| y * y).sum::<f64>().max(1e-300)).sqrt()
}
