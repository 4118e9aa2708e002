//! What a method is to the suite.

use std::fmt::Debug;
use std::sync::Arc;

use dynlora_core::LoraAdapter;
use grpo_trainer::optimizer::{AdamW, AdamWSettings};
use krystal_lm::LoraWeights;
use krystal_lm::kernels::cpu::Cpu;

use super::base_model::{Base, LoraGradient};
use super::learners;
use super::settings::Settings;
use super::stream::{AgentBatch, StreamKind};
use super::task::Example;

/// A phase that has ended, for methods that must know.
#[derive(Debug)]
pub struct PhaseData<'a> {
    /// Its index.
    pub index: usize,
    /// Examples that were trained on in it, the latest first.
    pub examples: &'a [Example],
}

/// A method that learns from a stream.
///
/// It is told neither what a phase is nor which task a batch comes from: [`Learner::learn`] is called once a step, and
/// [`Learner::end_phase`] at boundaries, which a method that claims to be task-free must leave empty.
pub trait Learner: Debug + Send {
    /// One optimisation step: one batch for each agent that has one now. Returns the mean loss before the step.
    fn learn(&mut self, base: &Base, batches: &[AgentBatch]) -> f64;

    /// The end of a phase.
    fn end_phase(&mut self, _base: &Base, _phase: &PhaseData<'_>) {}

    /// What answers for `agent` right now. The same `Arc` for the same values lets the suite measure once.
    fn weights(&self, base: &Base, agent: usize) -> Arc<LoraWeights<Cpu>>;

    /// Numbers of interest at the end, such as counts of events, for `--verbose`.
    fn notes(&self) -> Vec<(String, f64)> {
        Vec::new()
    }
}

/// What a learner is made for.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    /// The stream.
    pub kind: StreamKind,
    /// Seed of its random draws.
    pub seed: u64,
    /// AdamW's learning rate, constant.
    pub learning_rate: f64,
    /// The method's own number, where it has one.
    pub hyper: f64,
    /// Agents that will learn.
    pub n_agents: usize,
    /// Rank in all: that of one adapter with as many parameters as the stack, private layers of all agents included.
    pub rank: usize,
    /// Everything else.
    pub settings: &'a Settings,
}

/// How a method meets the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Phase after phase.
    Stream,
    /// All tasks mixed, for as many steps in all.
    Joint,
    /// A new learner for each phase.
    Fresh,
}

/// An entry of the table of methods.
#[derive(Clone, Copy)]
pub struct Method {
    /// Its name on the command line and in keys.
    pub name: &'static str,
    /// What it is, in a few words.
    pub what: &'static str,
    /// How it meets the stream.
    pub protocol: Protocol,
    /// Whether it is told where phases end.
    pub boundaries: bool,
    /// Its own number: name and values to try; the first is used where nothing was tuned.
    pub hyper: Option<(&'static str, &'static [f64])>,
    /// Whose tuned values it uses: its own name, or that of the method it is a variant of.
    pub tuned_as: &'static str,
    /// Streams it makes sense for.
    pub fits: fn(StreamKind) -> bool,
    /// Makes one that has learned nothing.
    pub make: fn(&Base, &Setup<'_>) -> anyhow::Result<Box<dyn Learner>>,
}

impl Debug for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// All methods, in the order of the tables.
pub fn methods() -> Vec<Method> {
    learners::ALL.iter().flat_map(|list| list()).collect()
}

/// One adapter with its optimiser and what of it is published.
#[derive(Debug, Clone)]
pub struct Factors {
    /// The current values.
    pub adapter: LoraAdapter,
    adamw: AdamW<f32>,
    learning_rate: f64,
    published: Arc<LoraWeights<Cpu>>,
}

impl Factors {
    /// A new adapter: `A` random, `B` zero.
    ///
    /// # Errors
    /// For a rank of 0.
    pub fn new(base: &Base, rank: usize, seed: u64, learning_rate: f64) -> anyhow::Result<Self> {
        let adapter = base.adapter(rank, seed)?;
        let adamw = fresh_adamw(&adapter);
        let published = Arc::new(base.publish(&adapter));
        Ok(Self { adapter, adamw, learning_rate, published })
    }

    /// The published values.
    pub fn published(&self) -> &Arc<LoraWeights<Cpu>> {
        &self.published
    }

    /// Takes a step of AdamW and publishes.
    pub fn step(&mut self, base: &Base, gradient: &LoraGradient) {
        let tensors = self.adapter.modules.iter_mut().flat_map(|m| [m.a.as_mut_slice(), m.b.as_mut_slice()]);
        self.adamw.step(self.learning_rate, tensors.zip(gradient.tensors.iter().map(Vec::as_slice)));
        self.publish(base);
    }

    /// Publishes values that were changed in place.
    pub fn publish(&mut self, base: &Base) {
        self.published = Arc::new(base.publish(&self.adapter));
    }

    /// Forgets the optimiser's moments.
    pub fn reset_optimizer(&mut self) {
        self.adamw = fresh_adamw(&self.adapter);
    }

    /// `A` and `B` of every module, in the order of a [`LoraGradient`].
    pub fn tensors(&self) -> impl Iterator<Item = &[f32]> {
        self.adapter.modules.iter().flat_map(|m| [m.a.as_slice(), m.b.as_slice()])
    }
}

fn fresh_adamw(adapter: &LoraAdapter) -> AdamW<f32> {
    AdamW::new(AdamWSettings::default(), adapter.modules.iter().flat_map(|m| [m.a.len(), m.b.len()]))
}

/// The examples of all agents.
pub fn all_examples(batches: &[AgentBatch]) -> impl Iterator<Item = &Example> {
    batches.iter().flat_map(|batch| &batch.examples)
}
