//! Small models with every feature of the families in awkward sizes, an adapter, and groups of completions.

use dynlora_core::{LoraAdapter, LoraConfig, TargetModules};
use krystal_lm::kernels::cpu::Cpu;
use krystal_lm::{
    Decoder, Group, LoraWeights, ModelConfig, Projection, RopeScaling, Tensor, decoder_from, module_shapes,
};
use krystal_math::rng::{Purpose, StreamRng, stream_rng};
use rand::RngExt;

/// What a model computes and what is scored with it.
#[derive(Debug, Clone)]
pub(crate) struct Features {
    pub(crate) hidden: usize,
    pub(crate) inner: usize,
    pub(crate) layers: usize,
    pub(crate) head_dim: usize,
    pub(crate) kv_heads: usize,
    /// Query heads for each key/value head.
    pub(crate) group: usize,
    pub(crate) vocab: usize,
    /// Window of the even layers; odd ones see everything.
    pub(crate) window: Option<usize>,
    pub(crate) qkv_bias: bool,
    pub(crate) o_bias: bool,
    pub(crate) mlp_bias: bool,
    pub(crate) qk_norm: bool,
    pub(crate) tied: bool,
    pub(crate) llama3: bool,
    /// Bit `i` adapts projection `i`.
    pub(crate) targets: u8,
    pub(crate) rank: usize,
    pub(crate) alpha: f64,
    pub(crate) rslora: bool,
    pub(crate) temperature: f32,
    /// Lengths of each prompt and of its completions.
    pub(crate) lengths: Vec<(usize, Vec<usize>)>,
    pub(crate) seed: u64,
}

impl Default for Features {
    fn default() -> Self {
        Self {
            hidden: 9,
            inner: 11,
            layers: 2,
            head_dim: 6,
            kv_heads: 2,
            group: 2,
            vocab: 53,
            window: None,
            qkv_bias: false,
            o_bias: false,
            mlp_bias: false,
            qk_norm: false,
            tied: false,
            llama3: false,
            targets: 0b111_1111,
            rank: 3,
            alpha: 5.0,
            rslora: false,
            temperature: 0.8,
            lengths: vec![(5, vec![1, 4, 7]), (1, vec![2])],
            seed: 1,
        }
    }
}

/// A prompt and its completions.
pub(crate) type Texts = (Vec<u32>, Vec<Vec<u32>>);

/// A model in memory.
pub(crate) struct RandomModel {
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) decoder: Decoder,
    pub(crate) adapter: LoraAdapter,
    pub(crate) lora: LoraWeights<Cpu>,
    pub(crate) texts: Vec<Texts>,
    /// `dL/dlog_prob` and `dL/dentropy` of every completion token.
    pub(crate) w_log_prob: Vec<Vec<f32>>,
    pub(crate) w_entropy: Vec<Vec<f32>>,
}

/// Uniform in [-1, 1).
fn signed(rng: &mut StreamRng) -> f32 {
    2.0 * rng.random::<f32>() - 1.0
}

impl Features {
    pub(crate) fn config(&self) -> ModelConfig {
        ModelConfig {
            model_type: "llama".to_owned(),
            vocab_size: self.vocab,
            hidden_size: self.hidden,
            intermediate_size: self.inner,
            num_hidden_layers: self.layers,
            num_attention_heads: self.kv_heads * self.group,
            num_key_value_heads: self.kv_heads,
            head_dim: self.head_dim,
            rms_norm_eps: 1e-5,
            rope_theta: 500.0,
            rope_scaling: match self.llama3 {
                false => RopeScaling::Default,
                // The wavelengths of theta 500 fall below, between and above 10 and 40.
                true => RopeScaling::Llama3 {
                    factor: 8.0,
                    low_freq_factor: 1.0,
                    high_freq_factor: 4.0,
                    original_max_position_embeddings: 40,
                },
            },
            tie_word_embeddings: self.tied,
            qkv_bias: self.qkv_bias,
            o_bias: self.o_bias,
            mlp_bias: self.mlp_bias,
            qk_norm: self.qk_norm,
            sliding_window: (0..self.layers).map(|l| self.window.filter(|_| l % 2 == 0)).collect(),
            max_position_embeddings: 256,
            bos_token_id: None,
            eos_token_ids: Vec::new(),
            pad_token_id: None,
        }
    }

    /// Weights of about the size that keeps activations and logits of order one; no norm is 1, no bias and no factor 0.
    pub(crate) fn build(&self) -> RandomModel {
        let config = self.config();
        let mut tensors = Vec::new();
        for (i, (name, shape)) in config.tensor_names().into_iter().enumerate() {
            let mut rng = stream_rng(self.seed, Purpose::Weights, i as u64, 0);
            let len = shape.iter().product();
            let values = (0..len).map(|_| match shape.as_slice() {
                [_, inputs] if name != "model.embed_tokens.weight" => 2.0 * signed(&mut rng) / (*inputs as f32).sqrt(),
                [_, _] => signed(&mut rng),
                _ if name.contains("norm") => 1.0 + 0.4 * signed(&mut rng),
                _ => 0.4 * signed(&mut rng),
            });
            let values = values.collect();
            tensors.push(Tensor { name, shape, values });
        }
        let mut rng = stream_rng(self.seed, Purpose::Task, 0, 0);
        let targets: Vec<String> = Projection::ALL
            .iter()
            .filter(|p| self.targets >> **p as usize & 1 == 1)
            .map(|p| p.path().rsplit('.').next().expect("a path has a last part").to_owned())
            .collect();
        let lora = LoraConfig {
            r: self.rank,
            lora_alpha: self.alpha,
            use_rslora: self.rslora,
            target_modules: TargetModules::Names(targets),
            ..LoraConfig::default()
        };
        let mut adapter = LoraAdapter::new(lora, &module_shapes(&config), self.seed).unwrap();
        for b in adapter.modules.iter_mut().flat_map(|m| &mut m.b) {
            *b = 0.3 * signed(&mut rng);
        }
        let mut text = |len: usize| -> Vec<u32> { (0..len).map(|_| rng.random_range(0..self.vocab as u32)).collect() };
        let texts: Vec<Texts> = self
            .lengths
            .iter()
            .map(|(prompt, completions)| (text(*prompt), completions.iter().map(|c| text(*c)).collect()))
            .collect();
        let mut weights = || -> Vec<Vec<f32>> {
            let lengths = self.lengths.iter().flat_map(|(_, completions)| completions);
            lengths.map(|len| (0..*len).map(|_| signed(&mut rng)).collect()).collect()
        };
        let (w_log_prob, w_entropy) = (weights(), weights());
        let lora = LoraWeights::new(&Cpu, &config, &adapter);
        let decoder = decoder_from(config, &tensors).unwrap();
        RandomModel { tensors, decoder, adapter, lora, texts, w_log_prob, w_entropy }
    }
}

impl RandomModel {
    pub(crate) fn groups(&self) -> Vec<Group<'_>> {
        self.texts
            .iter()
            .map(|(prompt, completions)| Group { prompt, completions: completions.iter().map(Vec::as_slice).collect() })
            .collect()
    }
}
