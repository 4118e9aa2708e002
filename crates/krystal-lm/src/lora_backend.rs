//! A language model over snapshots of a hierarchy of layers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use dynlora_core::{
    AgentId, ContentHash, ContentHasher, Level, LoraBackend, Snapshot, SnapshotId, StackActivity, StackGradient,
};

use crate::decoder::{ActivityPlan, CompletionScores, Gradients, Group, GroupTape, Keep, TokenBatch};
use crate::error::{Error, Result};
use crate::kernels::cpu::Cpu;
use crate::language_model::LanguageModel;
use crate::lora::{LoraWeights, module_shapes};

/// Stacks that are kept packed unless [`LmBackend::with_packed_stacks`] says otherwise.
const PACKED_STACKS: usize = 8;

/// A [`LanguageModel`] with the five layers of an agent as one fused adapter.
///
/// Everything reads one snapshot. Its factors are packed for the kernels once for each [`Snapshot::stack_id`], so that what
/// other agents learn in private costs an agent nothing.
#[derive(Debug)]
pub struct LmBackend {
    model: Arc<LanguageModel>,
    plan: ActivityPlan,
    keep: Keep,
    n_packed: usize,
    /// The stack used last stands at the back.
    packed: Mutex<VecDeque<(SnapshotId, Arc<LoraWeights<Cpu>>)>>,
}

/// What a gradient is computed from: a forward pass and the derivatives of the loss with respect to what it scored.
#[derive(Debug)]
pub struct ScoredBatch<'b> {
    /// What [`LmBackend::forward`] kept, on the snapshot and for the agent of the gradient.
    pub tape: GroupTape<Cpu>,
    /// `dL / dlog_prob`, one vector a completion.
    pub log_probs: &'b [Vec<f32>],
    /// `dL / dentropy`, one vector a completion; empty where the loss does not depend on the entropy.
    pub entropy: &'b [Vec<f32>],
}

impl LmBackend {
    /// Runs `model`, measuring by the default [`ActivityPlan`].
    pub fn new(model: Arc<LanguageModel>) -> Self {
        Self {
            model,
            plan: ActivityPlan::default(),
            keep: Keep::default(),
            n_packed: PACKED_STACKS,
            packed: Mutex::default(),
        }
    }

    /// Measures by another plan along with gradients.
    #[must_use]
    pub fn with_plan(mut self, plan: ActivityPlan) -> Self {
        self.plan = plan;
        self
    }

    /// What is kept between forward and backward pass.
    #[must_use]
    pub fn with_keep(mut self, keep: Keep) -> Self {
        self.keep = keep;
        self
    }

    /// Most stacks that are kept packed at a time, at least 1 (default 8): about as many as agents take turns.
    #[must_use]
    pub fn with_packed_stacks(mut self, n: usize) -> Self {
        self.n_packed = n.max(1);
        self
    }

    /// The model, with its base weights.
    pub fn model(&self) -> &Arc<LanguageModel> {
        &self.model
    }

    /// The digest of the base model's weights that goes into snapshot ids: names, shapes and values.
    pub fn base_hash(&self) -> ContentHash {
        let mut hasher = ContentHasher::new("krystal-model-v1");
        for tensor in self.model.decoder.tensors() {
            hasher.text(&tensor.name).number(tensor.shape.len() as u64);
            tensor.shape.iter().for_each(|size| {
                hasher.number(*size as u64);
            });
            hasher.floats(&tensor.values);
        }
        hasher.finish()
    }

    /// The five layers of `agent`, packed.
    ///
    /// # Errors
    /// [`Error::UnknownAgent`], and [`Error::ForeignModule`] for a snapshot of another model.
    pub fn weights(&self, snapshot: &Snapshot, agent: AgentId) -> Result<Arc<LoraWeights<Cpu>>> {
        let unknown = || Error::UnknownAgent { agent: agent.0, known: snapshot.agents().count() };
        let id = snapshot.stack_id(agent).ok_or_else(unknown)?;
        let mut packed = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = packed.iter().position(|(known, _)| *known == id)
            && let Some(found) = packed.remove(place)
        {
            let weights = Arc::clone(&found.1);
            packed.push_back(found);
            return Ok(weights);
        }
        let config = self.model.decoder.config();
        let known = module_shapes(config);
        if let Some(shape) = snapshot.shapes().iter().find(|shape| !known.contains(shape)) {
            return Err(Error::ForeignModule { module: shape.name.clone(), d_in: shape.d_in, d_out: shape.d_out });
        }
        let fused = snapshot.fused(agent).ok_or_else(unknown)?;
        let weights = Arc::new(LoraWeights::from_fused(&Cpu, config, snapshot.shapes(), &fused));
        while packed.len() >= self.n_packed {
            packed.pop_front();
        }
        packed.push_back((id, Arc::clone(&weights)));
        Ok(weights)
    }

    /// Zero gradients of a stack's factors, with room for what is measured along with them. [`stack_gradient`] cuts them into
    /// layers once they are summed.
    pub fn gradients(&self, lora: &LoraWeights<Cpu>) -> Gradients<Cpu> {
        let config = self.model.decoder.config();
        Gradients::lora(&Cpu, config, lora).with_activity(&Cpu, config, lora, self.plan)
    }

    /// As [`Decoder::forward_groups`](crate::Decoder::forward_groups) with the layers of `agent`.
    ///
    /// # Errors
    /// As [`LmBackend::weights`].
    ///
    /// # Panics
    /// As [`Decoder::forward_groups`](crate::Decoder::forward_groups).
    pub fn forward(
        &self,
        groups: &[Group<'_>],
        temperature: f32,
        snapshot: &Snapshot,
        agent: AgentId,
    ) -> Result<(CompletionScores, GroupTape<Cpu>)> {
        let lora = self.weights(snapshot, agent)?;
        Ok(self.model.decoder.forward_groups(Some(&lora), groups, temperature, self.keep))
    }
}

impl LoraBackend for LmBackend {
    type Batch<'b> = ScoredBatch<'b>;
    type Error = Error;

    /// # Errors
    /// As [`LmBackend::weights`], and [`Error::Context`] for a context that is empty or has tokens beyond the vocabulary.
    fn generate_step(&self, context: &[u32], snapshot: &Snapshot, agent: AgentId) -> Result<Vec<f32>> {
        let decoder = &self.model.decoder;
        let vocab_size = decoder.config().vocab_size;
        if context.is_empty() || context.iter().any(|token| *token as usize >= vocab_size) {
            return Err(Error::Context { length: context.len(), vocab_size, highest: context.iter().copied().max() });
        }
        let lora = self.weights(snapshot, agent)?;
        // What is scored does not matter: the logits are those of the row before it.
        let group = Group { prompt: context, completions: vec![&context[..1]] };
        Ok(decoder.logits(Some(&lora), &TokenBatch::new([&group])))
    }

    /// Micro-batch after micro-batch; who has threads to spare sums [`GroupTape::micro_batches`] by a tree, over
    /// [`LmBackend::gradients`].
    ///
    /// # Errors
    /// As [`LmBackend::weights`].
    ///
    /// # Panics
    /// As [`Decoder::backward_groups`](crate::Decoder::backward_groups) for weights that are not laid out as the scores were.
    fn compute_gradient(&self, batch: ScoredBatch<'_>, snapshot: &Snapshot, agent: AgentId) -> Result<StackGradient> {
        let lora = self.weights(snapshot, agent)?;
        let mut gradients = self.gradients(&lora);
        let ScoredBatch { tape, log_probs, entropy } = batch;
        self.model.decoder.backward_groups(Some(&lora), tape, log_probs, entropy, &mut gradients);
        Ok(stack_gradient(&gradients, snapshot, agent))
    }
}

/// What a backward pass with the fused stack of `agent` has found, cut into the five layers, modules in the snapshot's order;
/// what was measured comes along where it was ([`Gradients::with_activity`]).
///
/// `gradients` are those of the stack's factors ([`Gradients::lora`]) as `snapshot` has them.
pub fn stack_gradient(gradients: &Gradients<Cpu>, snapshot: &Snapshot, agent: AgentId) -> StackGradient {
    let places = places(gradients, snapshot);
    let in_order = |mut measured: StackActivity| {
        let take = |place: &usize| measured.modules.get_mut(place / 2).map(std::mem::take).unwrap_or_default();
        StackActivity {
            n_rows: measured.n_rows,
            input_sum: measured.input_sum,
            modules: places.iter().map(take).collect(),
        }
    };
    let (activity, sketch) = gradients.activity(&Cpu).unzip();
    StackGradient {
        agent,
        version: snapshot.version(),
        levels: by_level(gradients, &places, snapshot, agent),
        activity: activity.map(in_order),
        sketch: sketch.unwrap_or_default(),
    }
}

/// Where the gradient of each module's `A` lies, modules in the snapshot's order; that of `B^T` follows it.
fn places(gradients: &Gradients<Cpu>, snapshot: &Snapshot) -> Vec<usize> {
    let place = |name: &str| {
        let is_a = |tensor: &String| tensor.strip_suffix(".lora_A") == Some(name);
        gradients.names().iter().position(is_a)
    };
    snapshot.shapes().iter().filter_map(|shape| place(&shape.name)).collect()
}

/// The fused gradient cut into layers: channels of the levels stand one after another in each module.
fn by_level(gradients: &Gradients<Cpu>, places: &[usize], snapshot: &Snapshot, agent: AgentId) -> [Vec<f32>; 5] {
    let mut levels: [Vec<f32>; 5] = Default::default();
    for (module, (place, shape)) in places.iter().zip(snapshot.shapes().iter()).enumerate() {
        let (a, b) = (gradients.channels(&Cpu, *place), gradients.channels(&Cpu, place + 1));
        let mut first = 0;
        for level in Level::ALL {
            let rank = snapshot.layer(level, agent).map_or(0, |factors| factors[module].rank);
            let channels = first..first + rank;
            first += rank;
            let values = &mut levels[level.index()];
            values.extend_from_slice(&a[channels.start * shape.d_in..channels.end * shape.d_in]);
            values.extend_from_slice(&b[channels.start * shape.d_out..channels.end * shape.d_out]);
        }
    }
    levels
}
