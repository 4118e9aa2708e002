//! A policy whose adapter is a hierarchy of layers with dynamics of their own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use dynlora_core::{
    AgentId, Export, HierarchyRest, HierarchyState, Level, LoraHierarchy, SavedHierarchy, SavedLayer, SavedState,
    Snapshot, StackGradient,
};
use krystal_lm::kernels::cpu::Cpu;
use krystal_lm::{GroupTape, Keep, LanguageModel, LmBackend, stack_gradient};
use sphere_hierarchy::{SphereConfig, SphereHierarchy};

use super::dynamic_events::{events, metrics};
use super::spheres::sum_gradients;
use super::{LmError, Ranks, Speaker};
use crate::data::Prompt;
use crate::policy::{
    Completion, GenerationRequest, OwnStep, Parameter, Policy, PromptRequest, ScoreGroup, StepRequest, TokenScores,
    TokenWeights,
};

/// What the bytes of [`Policy::state`] are, and the version of their layout.
const STATE_KIND: &str = "dynamic policy";
const STATE_VERSION: u32 = 1;

/// Layers, tensors of the hierarchy itself, and the rest as JSON: it has enums that bincode cannot read.
type State = (Vec<SavedLayer>, SavedState, String);

/// A language model whose adapter is a [`LoraHierarchy`]: every agent generates with its own stack, and a step submits one
/// gradient an agent and lets a tick pass.
///
/// The base model is the reference and never changes. The gradient of an agent is that of its part of the loss times the number
/// of agents in the step, so that the mean over agents, which shared layers follow, is the gradient of the loss.
#[derive(Debug)]
pub struct DynamicPolicy {
    speaker: Speaker,
    backend: LmBackend,
    hierarchy: LoraHierarchy,
    /// Accumulated since the last step.
    gradients: BTreeMap<AgentId, StackGradient>,
    base: Option<String>,
    spheres: SphereHierarchy,
}

/// What [`DynamicPolicy`] keeps between forward and backward pass: the passes of each agent.
#[derive(Debug)]
pub struct DynamicTape {
    parts: Vec<(AgentPart, GroupTape<Cpu>)>,
    snapshot: Arc<Snapshot>,
}

/// The groups or prompts of one agent, and which completions of the call are theirs.
#[derive(Debug, Default)]
struct AgentPart {
    agent: AgentId,
    /// Places in the call.
    places: Vec<usize>,
    /// Completions of those groups, by place among all completions of the call.
    completions: Vec<usize>,
}

/// Sorts the groups of a call by agent, in order within each.
fn by_agent(groups: impl Iterator<Item = (u64, usize)>) -> Vec<AgentPart> {
    let mut parts: BTreeMap<u64, AgentPart> = BTreeMap::new();
    let mut first = 0;
    for (place, (agent, n_completions)) in groups.enumerate() {
        let part = parts.entry(agent).or_insert_with(|| AgentPart { agent: AgentId(agent), ..AgentPart::default() });
        part.places.push(place);
        part.completions.extend(first..first + n_completions);
        first += n_completions;
    }
    parts.into_values().collect()
}

fn parts_of(groups: &[ScoreGroup<'_>]) -> Vec<AgentPart> {
    by_agent(groups.iter().map(|group| (group.agent, group.completions.len())))
}

/// Puts the scores of a part where they belong in those of the call.
fn place_scores(all: &mut TokenScores, part: &AgentPart, found: TokenScores) {
    for ((place, log_probs), entropy) in part.completions.iter().zip(found.log_probs).zip(found.entropy) {
        all.log_probs[*place] = log_probs;
        all.entropy[*place] = entropy;
    }
}

fn empty_scores(groups: &[ScoreGroup<'_>]) -> TokenScores {
    let n = groups.iter().map(|group| group.completions.len()).sum();
    TokenScores { log_probs: vec![Vec::new(); n], entropy: vec![Vec::new(); n] }
}

impl DynamicPolicy {
    /// Trains `hierarchy`, which has the agents of the data; `base` is what its adapters' files call the base model (a folder or
    /// a hub name).
    ///
    /// # Errors
    /// [`LmError::Hierarchy`] where agents were added that cannot be published, [`LmError::Model`] where the hierarchy is for
    /// another model.
    pub fn new(model: Arc<LanguageModel>, mut hierarchy: LoraHierarchy, base: Option<String>) -> Result<Self, LmError> {
        let snapshot = hierarchy.publish().map_err(LmError::Hierarchy)?;
        let agents: Vec<AgentId> = snapshot.agents().collect();
        let backend = LmBackend::new(Arc::clone(&model)).with_packed_stacks(agents.len() + 1);
        if let Some(agent) = agents.first() {
            backend.weights(&snapshot, *agent).map_err(LmError::Model)?;
        }
        let (speaker, spheres) = (Speaker::new(model), SphereHierarchy::default());
        Ok(Self { speaker, backend, hierarchy, gradients: BTreeMap::new(), base, spheres })
    }

    /// Ends completions at these strings as well.
    #[must_use]
    pub fn with_stop_strings(mut self, stop: Vec<String>) -> Self {
        self.speaker.stop = stop;
        self
    }

    /// Ends completions at these tokens instead of the model's own; none means at the length limit alone.
    #[must_use]
    pub fn with_eos_token_ids(mut self, eos_token_ids: Vec<u32>) -> Self {
        self.speaker.eos_token_ids = eos_token_ids;
        self
    }

    /// What is kept between forward and backward pass.
    #[must_use]
    pub fn with_keep(mut self, keep: Keep) -> Self {
        self.speaker.keep = keep;
        self
    }

    /// Most sequences that a thread decodes together (default 256): speed and memory alone.
    #[must_use]
    pub fn with_max_batch(mut self, max_batch: usize) -> Self {
        self.speaker.max_batch = max_batch;
        self
    }

    /// How the micro-batches of a gradient are shared out among threads: speed and memory alone, unless
    /// [`SphereConfig::accumulation`] or [`SphereConfig::on_failure`] say otherwise.
    ///
    /// # Errors
    /// [`LmError::Spheres`] for settings that are out of range.
    pub fn with_spheres(mut self, config: SphereConfig) -> Result<Self, LmError> {
        self.spheres = SphereHierarchy::new(config).map_err(LmError::Spheres)?;
        Ok(self)
    }

    /// Trains together with other ranks, each of which has the same policy and runs the same trainer: generation, scoring and
    /// gradients are shared out, and every rank gets the bits that one alone would.
    #[must_use]
    pub fn with_ranks(mut self, ranks: Ranks) -> Self {
        self.speaker.ranks = ranks;
        self
    }

    /// The model, with its base weights.
    pub fn model(&self) -> &Arc<LanguageModel> {
        &self.speaker.model
    }

    /// The layers.
    pub fn hierarchy(&self) -> &LoraHierarchy {
        &self.hierarchy
    }

    /// The layers, to change between steps; call [`Policy::publish`] afterwards.
    pub fn hierarchy_mut(&mut self) -> &mut LoraHierarchy {
        &mut self.hierarchy
    }

    /// What files hold of the hierarchy as published last: see [`SavedHierarchy::save`].
    ///
    /// # Errors
    /// [`LmError::Hierarchy`] where its state cannot be written as JSON.
    pub fn saved(&self) -> Result<SavedHierarchy, LmError> {
        self.hierarchy.saved(self.base.clone()).map_err(LmError::Hierarchy)
    }
}

impl Policy for DynamicPolicy {
    type Tape = DynamicTape;
    type Error = LmError;

    fn generate(&self, request: &GenerationRequest) -> Result<Vec<Vec<Completion>>, LmError> {
        let snapshot = self.hierarchy.snapshot();
        let mut all: Vec<Vec<Completion>> = vec![Vec::new(); request.prompts.len()];
        for part in by_agent(request.prompts.iter().map(|prompt| (prompt.agent, 0))) {
            let lora = self.backend.weights(&snapshot, part.agent).map_err(LmError::Model)?;
            let prompts: Vec<&PromptRequest> = part.places.iter().map(|place| &request.prompts[*place]).collect();
            let decoder = &self.speaker.model.decoder;
            let rows = self.speaker.generate(decoder, Some(&lora), &prompts, request)?;
            part.places.iter().zip(rows).for_each(|(place, row)| all[*place] = row);
        }
        Ok(all)
    }

    fn score(&self, groups: &[ScoreGroup<'_>], temperature: f32) -> Result<TokenScores, LmError> {
        let snapshot = self.hierarchy.snapshot();
        let all = self.speaker.groups(groups)?;
        let mut scores = empty_scores(groups);
        for part in parts_of(groups) {
            let lora = self.backend.weights(&snapshot, part.agent).map_err(LmError::Model)?;
            let own: Vec<_> = part.places.iter().map(|place| all[*place].clone()).collect();
            let found = self.speaker.score(&self.speaker.model.decoder, Some(&lora), &own, temperature)?;
            place_scores(&mut scores, &part, found);
        }
        Ok(scores)
    }

    fn score_reference(&self, groups: &[ScoreGroup<'_>], temperature: f32) -> Result<Option<TokenScores>, LmError> {
        self.speaker.score(&self.speaker.model.decoder, None, &self.speaker.groups(groups)?, temperature).map(Some)
    }

    fn forward(&self, groups: &[ScoreGroup<'_>], temperature: f32) -> Result<(TokenScores, DynamicTape), LmError> {
        let snapshot = self.hierarchy.snapshot();
        let all = self.speaker.groups(groups)?;
        let mut scores = empty_scores(groups);
        let mut parts = Vec::new();
        for part in parts_of(groups) {
            let own: Vec<_> = part.places.iter().map(|place| all[*place].clone()).collect();
            let lora = self.backend.weights(&snapshot, part.agent).map_err(LmError::Model)?;
            let (found, tape) = self.speaker.forward(&self.speaker.model.decoder, Some(&lora), &own, temperature)?;
            place_scores(&mut scores, &part, found);
            parts.push((part, tape));
        }
        Ok((scores, DynamicTape { parts, snapshot }))
    }

    fn backward(&mut self, tape: DynamicTape, weights: &TokenWeights) -> Result<(), LmError> {
        let DynamicTape { parts, snapshot } = tape;
        for (part, tape) in parts {
            let own = |all: &[Vec<f32>]| -> Vec<Vec<f32>> {
                if all.is_empty() {
                    return Vec::new();
                }
                part.completions.iter().map(|place| all[*place].clone()).collect()
            };
            let (log_probs, entropy) = (own(&weights.log_probs), own(&weights.entropy));
            let lora = self.backend.weights(&snapshot, part.agent).map_err(LmError::Model)?;
            let mut gradients = self.backend.gradients(&lora);
            let batches = tape.micro_batches(&log_probs, &entropy);
            let decoder = &self.speaker.model.decoder;
            let ranks = &self.speaker.ranks;
            sum_gradients(&mut self.spheres, ranks, decoder, Some(&lora), &batches, &mut gradients)?;
            let gradient = stack_gradient(&gradients, &snapshot, part.agent);
            match self.gradients.get_mut(&part.agent) {
                Some(sum) => sum.add(&gradient),
                None => {
                    self.gradients.insert(part.agent, gradient);
                }
            }
        }
        Ok(())
    }

    /// Nothing: the layers move by themselves.
    fn parameters(&mut self) -> Vec<Parameter<'_>> {
        Vec::new()
    }

    fn publish(&mut self) -> Result<(), LmError> {
        self.hierarchy.publish().map_err(LmError::Hierarchy)?;
        Ok(())
    }

    fn moves_itself(&self) -> bool {
        true
    }

    fn step(&mut self, request: &StepRequest) -> Result<OwnStep, LmError> {
        let StepRequest { step, learning_rate, max_grad_norm } = *request;
        let n_agents = self.gradients.len() as f32;
        if n_agents > 1.0 {
            self.gradients.values_mut().for_each(|gradient| gradient.scale(n_agents));
        }
        let grad_norm = StackGradient::mean_norm(self.gradients.values());
        // A norm that is no number clips nothing: the hierarchy refuses such a gradient.
        if max_grad_norm > 0.0 && grad_norm.is_finite() && grad_norm > max_grad_norm {
            let factor = (max_grad_norm / (grad_norm + 1e-6)) as f32;
            self.gradients.values_mut().for_each(|gradient| gradient.scale(factor));
        }
        for gradient in std::mem::take(&mut self.gradients).into_values() {
            self.hierarchy.submit(gradient).map_err(|source| LmError::Step { step, source })?;
        }
        let report = self.hierarchy.tick(learning_rate).map_err(|source| LmError::Step { step, source })?;
        Ok(OwnStep {
            grad_norm,
            update_norm: report.update_norm,
            metrics: metrics(&self.hierarchy, &report),
            events: events(&self.hierarchy, &report),
        })
    }

    fn state(&self) -> Result<Vec<u8>, LmError> {
        let HierarchyState { layers, own, rest } = self.hierarchy.state();
        let state: State = (layers, own, serde_json::to_string(&rest).map_err(LmError::State)?);
        krystal_checkpoint::to_bytes(STATE_KIND, STATE_VERSION, &state).map_err(LmError::Checkpoint)
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), LmError> {
        let (layers, own, rest): State =
            krystal_checkpoint::from_bytes(state, STATE_KIND, STATE_VERSION).map_err(LmError::Checkpoint)?;
        let rest: HierarchyRest = serde_json::from_str(&rest).map_err(LmError::State)?;
        self.gradients.clear();
        self.hierarchy.restore(&HierarchyState { layers, own, rest }).map_err(LmError::Hierarchy)
    }

    fn decode(&self, tokens: &[u32]) -> Result<String, LmError> {
        self.speaker.decode(tokens)
    }

    fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, LmError> {
        self.speaker.encode_prompt(prompt)
    }

    /// Writes the hierarchy to `hierarchy/`, to go on from, and for every other program the stack of the first agent as one PEFT
    /// adapter in the folder itself; of several agents each one's is in `agents/<number>/`.
    fn save(&self, directory: &Path) -> Result<(), LmError> {
        let saved = self.saved()?;
        let snapshot = &saved.snapshot;
        let agents: Vec<AgentId> = snapshot.agents().collect();
        let fused = |agent: AgentId, folder: &Path| match snapshot.fused_adapter(agent) {
            Some(adapter) => adapter.save(folder, self.base.as_deref()).map_err(LmError::Adapter),
            None => Ok(()),
        };
        if let Some(agent) = agents.first() {
            fused(*agent, directory)?;
        }
        if agents.len() > 1 {
            for agent in &agents {
                fused(*agent, &directory.join("agents").join(agent.to_string()))?;
            }
        }
        // Levels are told by their own adapters in `hierarchy/stack`; the fused ones are beside it already.
        saved.save(&directory.join("hierarchy"), &Export::default()).map_err(LmError::Hierarchy)
    }
}

/// Every level of every agent, shared ones once.
pub(super) fn owners(hierarchy: &LoraHierarchy) -> Vec<(Level, AgentId)> {
    let shared = Level::SHARED.map(|level| (level, AgentId::default()));
    let private = hierarchy.agents().flat_map(|agent| Level::PRIVATE.map(|level| (level, agent)));
    shared.into_iter().chain(private).collect()
}
