//! [`Policy`] for the models of `krystal-lm` (feature `lm`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dynlora_core::LoraAdapter;
use krystal_lm::kernels::cpu::Cpu;
use krystal_lm::{
    Decoder, GenerateOptions, Gradients, Group, GroupTape, Keep, LanguageModel, LoraWeights, StopStrings, Tensor,
    decoder_from, generate, save_language_model,
};

use crate::data::Prompt;
use crate::policy::{Completion, Finish, GenerationRequest, Parameter, Policy, ScoreGroup, TokenScores, TokenWeights};

/// What can go wrong in a [`LmPolicy`].
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
    model: Arc<LanguageModel>,
    trained: Trained,
    masters: Vec<Master>,
    eos_token_ids: Vec<u32>,
    stop: Vec<String>,
    keep: Keep,
    max_batch: usize,
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
        let eos_token_ids = model.eos_token_ids();
        Self { model, trained, masters, eos_token_ids, stop: Vec::new(), keep: Keep::default(), max_batch: 256 }
    }

    /// Ends completions at these strings as well.
    #[must_use]
    pub fn with_stop_strings(mut self, stop: Vec<String>) -> Self {
        self.stop = stop;
        self
    }

    /// Ends completions at these tokens instead of the model's own; none means at the length limit alone.
    #[must_use]
    pub fn with_eos_token_ids(mut self, eos_token_ids: Vec<u32>) -> Self {
        self.eos_token_ids = eos_token_ids;
        self
    }

    /// What is kept between forward and backward pass.
    #[must_use]
    pub fn with_keep(mut self, keep: Keep) -> Self {
        self.keep = keep;
        self
    }

    /// Most sequences that a thread decodes together (default 256): speed and memory alone.
    #[must_use]
    pub fn with_max_batch(mut self, max_batch: usize) -> Self {
        self.max_batch = max_batch;
        self
    }

    /// The model, with its base weights.
    pub fn model(&self) -> &Arc<LanguageModel> {
        &self.model
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
        match &self.trained {
            Trained::Adapter { published, .. } => (&self.model.decoder, Some(published)),
            Trained::All { published, .. } => (published, None),
        }
    }

    fn groups<'a>(&self, groups: &[ScoreGroup<'a>]) -> Result<Vec<Group<'a>>, LmError> {
        let config = self.model.decoder.config();
        let (longest, vocab_size) = (config.max_position_embeddings, config.vocab_size);
        for group in groups {
            for completion in &group.completions {
                let (prompt, completion) = (group.prompt.len(), completion.len());
                if prompt == 0 || completion == 0 || prompt + completion > longest {
                    return Err(LmError::Length { prompt, completion, max_position_embeddings: longest });
                }
            }
            let mut tokens = group.prompt.iter().chain(group.completions.iter().copied().flatten());
            if let Some(token) = tokens.find(|t| **t as usize >= vocab_size) {
                return Err(LmError::Token { token: *token, vocab_size });
            }
        }
        Ok(groups.iter().map(|g| Group { prompt: g.prompt, completions: g.completions.clone() }).collect())
    }
}

impl Policy for LmPolicy {
    type Tape = GroupTape<Cpu>;
    type Error = LmError;

    fn generate(&self, request: &GenerationRequest) -> Result<Vec<Vec<Completion>>, LmError> {
        let (decoder, lora) = self.current();
        let prompts: Vec<_> =
            request.prompts.iter().map(|p| krystal_lm::PromptRequest { tokens: &p.tokens, stream: p.stream }).collect();
        let stop = StopStrings::new(&self.model.tokenizer, self.stop.iter().cloned());
        let options = GenerateOptions {
            stop: Some(&stop),
            seed: request.seed,
            purpose: request.purpose,
            max_batch: self.max_batch,
            ..GenerateOptions::new(&request.sampling, request.max_completion_length, &self.eos_token_ids)
        };
        let out = generate(decoder, lora, &prompts, request.num_generations, &options).map_err(LmError::Generate)?;
        let completion = |g: krystal_lm::Generated| Completion {
            tokens: g.tokens,
            log_probs: g.log_probs,
            finish: match g.finish {
                krystal_lm::Finish::EndOfSequence => Finish::EndOfSequence,
                krystal_lm::Finish::Stop => Finish::Stop,
                krystal_lm::Finish::Length => Finish::Length,
            },
        };
        Ok(out.into_iter().map(|row| row.into_iter().map(completion).collect()).collect())
    }

    fn score(&self, groups: &[ScoreGroup<'_>], temperature: f32) -> Result<TokenScores, LmError> {
        let (decoder, lora) = self.current();
        let scores = decoder.score_groups(lora, &self.groups(groups)?, temperature);
        Ok(TokenScores { log_probs: scores.log_probs, entropy: scores.entropy })
    }

    fn score_reference(&self, groups: &[ScoreGroup<'_>], temperature: f32) -> Result<Option<TokenScores>, LmError> {
        let scores = self.model.decoder.score_groups(None, &self.groups(groups)?, temperature);
        Ok(Some(TokenScores { log_probs: scores.log_probs, entropy: scores.entropy }))
    }

    fn forward(&self, groups: &[ScoreGroup<'_>], temperature: f32) -> Result<(TokenScores, Self::Tape), LmError> {
        let (decoder, lora) = self.current();
        let (scores, tape) = decoder.forward_groups(lora, &self.groups(groups)?, temperature, self.keep);
        Ok((TokenScores { log_probs: scores.log_probs, entropy: scores.entropy }, tape))
    }

    fn backward(&mut self, tape: Self::Tape, weights: &TokenWeights) -> Result<(), LmError> {
        let (decoder, lora) = self.current();
        let mut gradients = match lora {
            Some(lora) => Gradients::lora(&Cpu, decoder.config(), lora),
            None => Gradients::all(&Cpu, decoder.config()),
        };
        decoder.backward_groups(lora, tape, &weights.log_probs, &weights.entropy, &mut gradients);
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
        let config = self.model.decoder.config();
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
        if self.stop.is_empty() {
            return self.model.tokenizer.decode(tokens, true).map_err(LmError::Model);
        }
        StopStrings::new(&self.model.tokenizer, self.stop.iter().cloned()).text(tokens).map_err(LmError::Model)
    }

    fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, LmError> {
        match prompt {
            Prompt::Text(text) => self.model.encode(text),
            Prompt::Messages(messages) => {
                self.model.encode_chat(messages.iter().map(|m| (m.role.as_str(), m.content.as_str())))
            }
        }
        .map_err(LmError::Model)
    }

    fn save(&self, directory: &Path) -> Result<(), LmError> {
        match &self.trained {
            Trained::Adapter { adapter, base, .. } => {
                adapter.save(directory, base.as_deref()).map_err(LmError::Adapter)
            }
            Trained::All { .. } => {
                let tensors = self.tensors().unwrap_or_default();
                save_language_model(directory, self.model.decoder.config(), &tensors, &self.model.tokenizer)
                    .map_err(LmError::Model)
            }
        }
    }
}
