//! The frozen decoder that every learner adapts, and how it was trained.

use std::path::Path;

use anyhow::Context;
use dynlora_core::{LoraAdapter, LoraConfig, ModuleShape};
use grpo_trainer::optimizer::{AdamW, AdamWSettings};
use krystal_lm::kernels::cpu::Cpu;
use krystal_lm::{
    Checkpoint, Decoder, Gradients, Keep, LoraWeights, ModelConfig, RopeScaling, Tensor, TokenBatch, decoder_from,
    initial_tensors, module_shapes, save_model,
};
use krystal_math::rng::{Purpose, stream_rng};
use rand::RngExt;

use super::curriculum::{OldMeaning, base_arithmetic, base_languages, base_transforms, stream_tags};
use super::settings::Settings;
use super::stream::Stream;
use super::symbols::{BASE_TAGS, STREAM_TAGS, VOCABULARY};
use super::task::{Example, Task, draw, draw_distinct, token_batch};
use super::tasks::{Order, Transform};

/// Problems of a step that trains all weights.
const BATCH: usize = 64;
/// Learning rate of all weights at the start; it falls to a hundredth along half a cosine.
const LEARNING_RATE: f64 = 3e-3;
/// AdamW's second decay: the usual 0.999 remembers longer than this training takes.
const BETA2: f64 = 0.99;
/// Base of the rotary embedding: sequences have at most ten tokens.
const ROPE_THETA: f64 = 100.0;
/// Changes when the training of the base model does, so that no folder of an older one is read.
const VERSION: u32 = 5;

/// A loss and its gradient, `A (r, d_in)` then `B (d_out, r)` of each module in the adapter's order.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraGradient {
    /// Mean cross-entropy of the answers' tokens (nats).
    pub loss: f64,
    /// Its derivatives, row-major.
    pub tensors: Vec<Vec<f32>>,
}

/// The frozen model.
#[derive(Debug)]
pub struct Base {
    decoder: Decoder<Cpu>,
    shapes: Vec<ModuleShape>,
}

impl Base {
    /// The model of these settings: read from its folder below `cache` or trained and written there.
    ///
    /// # Errors
    /// If the folder cannot be read or written.
    pub fn load_or_train(settings: &Settings, cache: &Path) -> anyhow::Result<Self> {
        let config = config(settings);
        let recipe = format!(
            "{VERSION} {BATCH} {LEARNING_RATE} {} {} {config:?} {:?}",
            settings.base_steps,
            settings.base_seed,
            named_tasks()
        );
        let folder = cache.join(format!("krystal-continual-{:016x}", fnv(recipe.as_bytes())));
        if !folder.join("model.safetensors").exists() {
            let tensors = train(&config, settings);
            std::fs::create_dir_all(&folder)?;
            let parts = tensors.iter().map(|t| (t.name.clone(), t.shape.clone(), t.values.as_slice()));
            save_model(&folder, &config, parts)
                .with_context(|| format!("could not write the base model to {}", folder.display()))?;
        }
        let checkpoint = Checkpoint::open(&folder)?;
        let tensors: Result<Vec<Tensor>, krystal_lm::Error> = config
            .tensor_names()
            .into_iter()
            .map(|(name, shape)| {
                let values = checkpoint.tensor(&name, &shape)?.into_owned();
                Ok(Tensor { name, shape, values })
            })
            .collect();
        Self::from_tensors(config, &tensors?)
    }

    /// A model that was only initialised, for tests.
    ///
    /// # Errors
    /// Never for sizes that fit each other.
    pub fn untrained(settings: &Settings) -> anyhow::Result<Self> {
        let config = config(settings);
        let tensors = initial_tensors(&config, settings.base_seed);
        Self::from_tensors(config, &tensors)
    }

    fn from_tensors(config: ModelConfig, tensors: &[Tensor]) -> anyhow::Result<Self> {
        let shapes = module_shapes(&config);
        Ok(Self { decoder: decoder_from(config, tensors)?, shapes })
    }

    /// The decoder.
    pub fn decoder(&self) -> &Decoder<Cpu> {
        &self.decoder
    }

    /// Names and shapes of the modules that adapters change.
    pub fn shapes(&self) -> &[ModuleShape] {
        &self.shapes
    }

    /// A new adapter of all modules with `alpha = r`, that is scale 1.
    ///
    /// # Errors
    /// For a rank of 0.
    pub fn adapter(&self, rank: usize, seed: u64) -> anyhow::Result<LoraAdapter> {
        let config = LoraConfig { r: rank, lora_alpha: rank as f64, ..LoraConfig::default() };
        Ok(LoraAdapter::new(config, &self.shapes, seed)?)
    }

    /// An adapter's current values for the decoder.
    pub fn publish(&self, adapter: &LoraAdapter) -> LoraWeights<Cpu> {
        LoraWeights::new(&Cpu, self.decoder.config(), adapter)
    }

    /// Mean cross-entropy of the examples' answers, and its gradient with respect to the adapter's factors.
    pub fn gradient<'a>(
        &self,
        lora: &LoraWeights<Cpu>,
        examples: impl IntoIterator<Item = &'a Example>,
    ) -> LoraGradient {
        let batch = token_batch(examples);
        let mut gradients = Gradients::lora(&Cpu, self.decoder.config(), lora);
        let loss = backward(&self.decoder, Some(lora), batch, &mut gradients);
        let tensors = (0..gradients.names().len()).map(|i| gradients.values(&Cpu, i)).collect();
        LoraGradient { loss, tensors }
    }

    /// Share of problems whose whole answer is right: every token of it is the most probable one after those before it, which
    /// is when greedy decoding gives the answer.
    pub fn accuracy(&self, lora: Option<&LoraWeights<Cpu>>, examples: &[Example], batch: &TokenBatch) -> f64 {
        let logits = self.decoder.logits(lora, batch);
        let mut rows = logits.chunks_exact(VOCABULARY).zip(&batch.targets);
        let right = examples.iter().filter(|example| {
            let tokens = rows.by_ref().take(example.answer.len()).map(|(row, target)| {
                let (target, of_target) = (*target as usize, row[*target as usize]);
                // A logit that is no number is below nothing: such an answer is wrong.
                row.iter().enumerate().all(|(i, logit)| i == target || *logit < of_target)
            });
            // Every row has to be taken, also after a wrong one.
            tokens.fold(true, |all, right| all & right)
        });
        right.count() as f64 / examples.len() as f64
    }

    /// Accuracy without adapter on the tasks the model was trained on, by name.
    pub fn accuracies(&self, settings: &Settings) -> Vec<(String, f64)> {
        let tasks = base_tasks();
        tasks
            .iter()
            .enumerate()
            .map(|(i, task)| {
                let mut rng = stream_rng(settings.base_seed, Purpose::Evaluation, 0, i as u64);
                let examples = draw_distinct(task.as_ref(), Some(BASE_TAGS + i as u32), 100, &mut rng);
                let batch = token_batch(&examples);
                (task.name(), self.accuracy(None, &examples, &batch))
            })
            .collect()
    }
}

/// Adds the gradient of the mean cross-entropy of a batch, which it returns.
pub(super) fn backward(
    decoder: &Decoder<Cpu>,
    lora: Option<&LoraWeights<Cpu>>,
    batch: TokenBatch,
    gradients: &mut Gradients<Cpu>,
) -> f64 {
    let (scores, tape) = decoder.forward(lora, batch, 1.0, Keep::Activations);
    let count = scores.log_probs.len();
    let weights = vec![-1.0 / count as f32; count];
    decoder.backward(lora, tape, &weights, &[], gradients);
    -scores.log_probs.iter().map(|x| f64::from(*x)).sum::<f64>() / count as f64
}

fn config(settings: &Settings) -> ModelConfig {
    ModelConfig {
        model_type: "llama".to_owned(),
        vocab_size: VOCABULARY,
        hidden_size: settings.hidden,
        intermediate_size: settings.intermediate,
        num_hidden_layers: settings.layers,
        num_attention_heads: settings.heads,
        num_key_value_heads: settings.heads,
        head_dim: settings.hidden / settings.heads,
        rms_norm_eps: 1e-6,
        rope_theta: ROPE_THETA,
        rope_scaling: RopeScaling::Default,
        tie_word_embeddings: true,
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
        qk_norm: false,
        sliding_window: vec![None; settings.layers],
        max_position_embeddings: 64,
        bos_token_id: None,
        eos_token_ids: Vec::new(),
        pad_token_id: None,
    }
}

/// The tasks of the base model, in the order of their tags.
fn base_tasks() -> Vec<Box<dyn Task>> {
    let mut tasks: Vec<Box<dyn Task>> = Vec::new();
    tasks.extend(base_transforms().into_iter().map(|t| Box::new(t) as Box<dyn Task>));
    tasks.extend(base_languages().into_iter().map(|t| Box::new(t) as Box<dyn Task>));
    tasks.extend(base_arithmetic().into_iter().map(|t| Box::new(t) as Box<dyn Task>));
    tasks
}

/// The tasks of the base model under their own tags, and some again under those of the streams.
fn named_tasks() -> Vec<(Box<dyn Task>, u32)> {
    let own = base_tasks().into_iter().zip(BASE_TAGS..);
    let others = stream_tags().into_iter().map(|old| match old {
        OldMeaning::Order(task) => Box::new(task) as Box<dyn Task>,
        OldMeaning::Language(task) => Box::new(task),
        OldMeaning::Arithmetic(task) => Box::new(task),
    });
    // Letters in reverse order are learned last, for each place is as far from its source as no other: three times as often.
    let reversed = |task: &Transform| task.order == Order::Reverse;
    let again = base_transforms().into_iter().zip(BASE_TAGS..).filter(|(task, _)| reversed(task));
    let again = again.map(|(task, tag)| (Box::new(task) as Box<dyn Task>, tag));
    let twice: Vec<_> = again.clone().chain(again).collect();
    own.chain(others.zip(STREAM_TAGS..)).chain(twice).collect()
}

/// Trains all weights on a mixture of the base tasks.
fn train(config: &ModelConfig, settings: &Settings) -> Vec<Tensor> {
    let names = named_tasks();
    let mut tensors = initial_tensors(config, settings.base_seed);
    let mut adamw =
        AdamW::new(AdamWSettings { beta2: BETA2, ..AdamWSettings::default() }, tensors.iter().map(|t| t.values.len()));
    for step in 0..settings.base_steps {
        let mut rng = stream_rng(settings.base_seed, Purpose::Demonstration, 0, step as u64);
        let examples: Vec<Example> = (0..BATCH)
            .map(|_| {
                let (task, tag) = &names[rng.random_range(0..names.len())];
                draw(task.as_ref(), Some(*tag), &mut rng)
            })
            .collect();
        let decoder = decoder_from(config.clone(), &tensors).expect("tensors of the configuration");
        let mut gradients = Gradients::all(&Cpu, config);
        let loss = backward(&decoder, None, token_batch(&examples), &mut gradients);
        if step % 500 == 0 {
            eprintln!("base model: step {step} of {}, loss {loss:.3}", settings.base_steps);
        }
        let progress = step as f64 / settings.base_steps as f64;
        let warm = ((step + 1) as f64 / 100.0).min(1.0);
        let rate = LEARNING_RATE * warm * (0.01 + 0.99 * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()));
        // Gradients come in the order of the decoder's construction.
        let index =
            |t: &Tensor| gradients.names().iter().position(|name| *name == t.name).expect("a gradient for each");
        let values: Vec<Vec<f32>> = tensors.iter().map(|t| gradients.values(&Cpu, index(t))).collect();
        let pairs = tensors.iter_mut().zip(&values).map(|(t, g)| (t.values.as_mut_slice(), g.as_slice()));
        adamw.step(rate, pairs);
    }
    tensors
}

/// FNV-1a, 64 bits: names the folder of a recipe.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Mean cosine between the gradients of the tasks of a stream's different tests at the adapter's start, where `B = 0` and so
/// only `B` has one; `None` where there are fewer than two tasks.
///
/// # Errors
/// Never for a rank above 0.
pub fn conflict(base: &Base, stream: &Stream) -> anyhow::Result<Option<f64>> {
    let weights = base.publish(&base.adapter(8, 0)?);
    let gradients: Vec<LoraGradient> =
        stream.tests.iter().map(|test| base.gradient(&weights, &test.examples)).collect();
    let dot = |a: &LoraGradient, b: &LoraGradient| -> f64 {
        let pairs = a.tensors.iter().flatten().zip(b.tensors.iter().flatten());
        pairs.map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    };
    let mut cosines = Vec::new();
    for (i, a) in gradients.iter().enumerate() {
        for b in gradients[..i].iter().filter(|b| *b != a) {
            cosines.push(dot(a, b) / (dot(a, a) * dot(b, b)).sqrt());
        }
    }
    Ok((!cosines.is_empty()).then(|| cosines.iter().sum::<f64>() / cosines.len() as f64))
}
