//! [`Policy`] for the models of `krystal-lm` (feature `lm`): [`LmPolicy`] for an adapter or all weights, [`DynamicPolicy`] for a
//! hierarchy of layers with dynamics of their own.

mod dynamic;
mod dynamic_events;
mod ranks;
mod speaker;
mod spheres;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dynlora_core::LoraAdapter;
use krystal_lm::kernels::cpu::Cpu;
use krystal_lm::{
    Decoder, Gradients, GroupTape, Keep, LanguageModel, LoraWeights, Tensor, decoder_from, save_language_model,
};
use sphere_hierarchy::{RunError, SphereConfig, SphereHierarchy};

use crate::data::Prompt;
use crate::policy::{Completion, GenerationRequest, Parameter, Policy, ScoreGroup, TokenScores, TokenWeights};

pub use dynamic::{DynamicPolicy, DynamicTape};
pub use ranks::{Ranks, RanksError, SharedReward};
use speaker::Speaker;
use spheres::sum_gradients;

/// What can go wrong in a [`LmPolicy`] or a [`DynamicPolicy`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LmError {
    /// The model's files, tokenizer or chat template.
    #[error("the language model cannot do this")]
    Model(#[source] krystal_lm::Error),
    /// Generation was refused.
    #[error("generation cannot start")]
    Generate(#[source] krystal_lm::GenerateError),
    /// The adapter could not be written.
    #[error("the adapter cannot be written")]
    Adapter(#[source] dynlora_core::Error),
    /// A completion to score is empty, or longer than the model's sequences.
    #[error(
        "cannot score a prompt of {prompt} and a completion of {completion} tokens: each needs at least one, and together at most {max_position_embeddings}"
    )]
    Length {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens of the completion.
        completion: usize,
        /// The model's longest sequence.
        max_position_embeddings: usize,
    },
    /// A token is beyond the vocabulary.
    #[error("token {token} is beyond the vocabulary of {vocab_size}")]
    Token {
        /// The token.
        token: u32,
        /// The vocabulary's size.
        vocab_size: usize,
    },
    /// The hierarchy of layers could not do what was asked.
    #[error("the hierarchy of layers cannot do this")]
    Hierarchy(#[source] dynlora_core::Error),
    /// The spheres that sum gradients cannot be set up so.
    #[error("gradients cannot be summed that way")]
    Spheres(#[source] sphere_hierarchy::Error),
    /// Gradients could not be summed.
    #[error("the gradients of the micro-batches cannot be summed")]
    Gradient(#[source] RunError<Infallible>),
    /// Other ranks, or the way to them.
    #[error(transparent)]
    Ranks(#[from] RanksError),
    /// A gradient is infinite or not a number, again after it was computed twice.
    #[error(
        "micro-batch {micro_batch} of the backward pass: the gradient of `{tensor}` is not finite: lower the learning rate, or \
         look for weights that are not finite"
    )]
    NotFinite {
        /// The micro-batch, from 0.
        micro_batch: usize,
        /// The first tensor in question.
        tensor: String,
    },
    /// A step was refused; the snapshot published last keeps serving.
    #[error("step {step} is refused, and the last snapshot stays")]
    Step {
        /// The step.
        step: u64,
        /// The reason.
        #[source]
        source: dynlora_core::Error,
    },
    /// The state of a hierarchy is not JSON, or another version's.
    #[error("the state of the hierarchy is not what this version writes")]
    State(#[source] serde_json::Error),
    /// The state of a hierarchy within a checkpoint.
    #[error("the state of the hierarchy cannot be used")]
    Checkpoint(#[source] krystal_checkpoint::Error),
}

/// A tensor being trained.
#[derive(Debug)]
struct Master {
    name: String,
    values: Vec<f32>,
    gradient: Vec<f32>,
}

/// What is trained, and what of it is published.
#[derive(Debug)]
enum Trained {
    Adapter {
        /// Shapes, scales and, after `publish`, the values.
        adapter: LoraAdapter,
        published: LoraWeights<Cpu>,
        base: Option<String>,
    },
    All {
        shapes: Vec<Vec<usize>>,
        published: Box<Decoder<Cpu>>,
    },
}

/// A language model whose adapter, or whose weights, are trained.
///
/// The base model is shared and never changes; with an adapter the reference model is the base itself, with all weights it is
/// the model as it was loaded.
#[derive(Debug)]
pub struct LmPolicy {
    speaker: Speaker,
    trained: Trained,
    masters: Vec<Master>,
    spheres: SphereHierarchy,
}

impl LmPolicy {
    /// Trains `adapter`, whose base is written to its files as `base` (a folder or a hub name).
    pub fn with_adapter(model: Arc<LanguageModel>, adapter: LoraAdapter, base: Option<String>) -> Self {
        let published = LoraWeights::new(&Cpu, model.decoder.config(), &adapter);
        let master =
            |name: String, values: &[f32]| Master { name, values: values.to_vec(), gradient: vec![0.0; values.len()] };
        let masters = adapter
            .modules
            .iter()
            .flat_map(|m| [master(format!("{}.lora_A", m.name), &m.a), master(format!("{}.lora_B", m.name), &m.b)])
            .collect();
        Self::new(model, Trained::Adapter { adapter, published, base }, masters)
    }

    /// Trains every weight.
    ///
    /// # Errors
    /// Never for a model that was loaded; the signature leaves room for kernels that can run out of memory.
    pub fn with_all_weights(model: Arc<LanguageModel>) -> Result<Self, LmError> {
        let tensors = model.decoder.tensors();
        let published = Box::new(decoder_from(model.decoder.config().clone(), &tensors).map_err(LmError::Model)?);
        let shapes = tensors.iter().map(|t| t.shape.clone()).collect();
        let masters = tensors
            .into_iter()
            .map(|t| Master { name: t.name, gradient: vec![0.0; t.values.len()], values: t.values })
            .collect();
        Ok(Self::new(model, Trained::All { shapes, published }, masters))
    }

    fn new(model: Arc<LanguageModel>, trained: Trained, masters: Vec<Master>) -> Self {
        Self { speaker: Speaker::new(model), trained, masters, spheres: SphereHierarchy::default() }
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

    /// The adapter as last published, where one is trained.
    pub fn adapter(&self) -> Option<&LoraAdapter> {
        match &self.trained {
            Trained::Adapter { adapter, .. } => Some(adapter),
            Trained::All { .. } => None,
        }
    }

    /// All weights as last given by [`Policy::parameters`], where they are trained.
    pub fn tensors(&self) -> Option<Vec<Tensor>> {
        let Trained::All { shapes, .. } = &self.trained else { return None };
        let tensor = |(m, shape): (&Master, &Vec<usize>)| Tensor {
            name: m.name.clone(),
            shape: shape.clone(),
            values: m.values.clone(),
        };
        Some(self.masters.iter().zip(shapes).map(tensor).collect())
    }

    /// The published model.
    fn current(&self) -> (&Decoder<Cpu>, Option<&LoraWeights<Cpu>>) {
        self.trained.published(&self.speaker.model.decoder)
    }
}

impl Trained {
    /// The published model, given the base.
    fn published<'t>(&'t self, base: &'t Decoder<Cpu>) -> (&'t Decoder<Cpu>, Option<&'t LoraWeights<Cpu>>) {
        match self {
            Self::Adapter { published, .. } => (base, Some(published)),
            Self::All { published, .. } => (published, None),
        }
    }
}

impl Policy for LmPolicy {
    type Tape = GroupTape<Cpu>;
    type Error = LmError;

    fn generate(&self, request: &GenerationRequest) -> Result<Vec<Vec<Completion>>, LmError> {
        let (decoder, lora) = self.current();
        let prompts: Vec<_> = request.prompts.iter().collect();
        self.speaker.generate(decoder, lora, &prompts, request)
    }

    fn score(&self, groups: &[ScoreGroup<'_>], temperature: f32) -> Result<TokenScores, LmError> {
        let (decoder, lora) = self.current();
        self.speaker.score(decoder, lora, &self.speaker.groups(groups)?, temperature)
    }

    fn score_reference(&self, groups: &[ScoreGroup<'_>], temperature: f32) -> Result<Option<TokenScores>, LmError> {
        self.speaker.score(&self.speaker.model.decoder, None, &self.speaker.groups(groups)?, temperature).map(Some)
    }

    fn forward(&self, groups: &[ScoreGroup<'_>], temperature: f32) -> Result<(TokenScores, Self::Tape), LmError> {
        let (decoder, lora) = self.current();
        self.speaker.forward(decoder, lora, &self.speaker.groups(groups)?, temperature)
    }

    fn backward(&mut self, tape: Self::Tape, weights: &TokenWeights) -> Result<(), LmError> {
        let (decoder, lora) = self.trained.published(&self.speaker.model.decoder);
        let mut gradients = match lora {
            Some(lora) => Gradients::lora(&Cpu, decoder.config(), lora),
            None => Gradients::all(&Cpu, decoder.config()),
        };
        let batches = tape.micro_batches(&weights.log_probs, &weights.entropy);
        sum_gradients(&mut self.spheres, &self.speaker.ranks, decoder, lora, &batches, &mut gradients)?;
        let index: std::collections::HashMap<&str, usize> =
            gradients.names().iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
        for master in &mut self.masters {
            let Some(i) = index.get(master.name.as_str()) else { continue };
            for (to, from) in master.gradient.iter_mut().zip(gradients.values(&Cpu, *i)) {
                *to += from;
            }
        }
        Ok(())
    }

    fn parameters(&mut self) -> Vec<Parameter<'_>> {
        self.masters
            .iter_mut()
            .map(|m| Parameter { name: &m.name, values: &mut m.values, gradient: &mut m.gradient })
            .collect()
    }

    fn publish(&mut self) -> Result<(), LmError> {
        let config = self.speaker.model.decoder.config();
        match &mut self.trained {
            Trained::Adapter { adapter, published, .. } => {
                for (module, pair) in adapter.modules.iter_mut().zip(self.masters.chunks_exact(2)) {
                    module.a.copy_from_slice(&pair[0].values);
                    module.b.copy_from_slice(&pair[1].values);
                }
                *published = LoraWeights::new(&Cpu, config, adapter);
            }
            Trained::All { published, .. } => {
                let index: std::collections::HashMap<&str, &Master> =
                    self.masters.iter().map(|m| (m.name.as_str(), m)).collect();
                **published = Decoder::from_tensors(Cpu, config.clone(), |name, _| match index.get(name) {
                    Some(master) => Ok(std::borrow::Cow::Borrowed(master.values.as_slice())),
                    None => Err(krystal_lm::Error::MissingTensor {
                        path: PathBuf::from("weights being trained"),
                        tensor: name.to_owned(),
                    }),
                })
                .map_err(LmError::Model)?;
            }
        }
        Ok(())
    }

    fn decode(&self, tokens: &[u32]) -> Result<String, LmError> {
        self.speaker.decode(tokens)
    }

    fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, LmError> {
        self.speaker.encode_prompt(prompt)
    }

    fn save(&self, directory: &Path) -> Result<(), LmError> {
        match &self.trained {
            Trained::Adapter { adapter, base, .. } => {
                adapter.save(directory, base.as_deref()).map_err(LmError::Adapter)
            }
            Trained::All { .. } => {
                let tensors = self.tensors().unwrap_or_default();
                save_language_model(
                    directory,
                    self.speaker.model.decoder.config(),
                    &tensors,
                    &self.speaker.model.tokenizer,
                )
                .map_err(LmError::Model)
            }
        }
    }
}
