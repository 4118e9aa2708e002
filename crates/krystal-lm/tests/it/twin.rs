//! The model again, as plain loops over one sequence in f64.
//!
//! Written from the papers and from transformers' description of the families, not from `src`: RMSNorm (arXiv:1910.07467),
//! rotary positions in the rotate-half layout (arXiv:2104.09864), grouped-query attention (arXiv:2305.13245) with a window
//! (arXiv:2310.06825), SwiGLU (arXiv:2002.05202), LoRA (arXiv:2106.09685). No prefix is shared, nothing is cut into chunks.

use std::collections::BTreeMap;

use dynlora_core::LoraAdapter;
use krystal_lm::{ModelConfig, RopeScaling, Tensor};

/// Rows of a matrix.
type Rows = Vec<Vec<f64>>;

#[derive(Debug, Clone)]
pub(crate) struct Twin {
    config: ModelConfig,
    /// Every parameter by name: the model's tensors, and `MODULE.lora_A` and `MODULE.lora_B` of an adapter.
    pub(crate) parameters: BTreeMap<String, Vec<f64>>,
    /// Rank and factor of each adapted module.
    adapted: BTreeMap<String, (usize, f64)>,
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|x| f64::from(*x)).collect()
}

fn rms_norm(x: &[f64], weight: &[f64], eps: f64) -> Vec<f64> {
    let mean_square = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    x.iter().zip(weight).map(|(x, w)| x / (mean_square + eps).sqrt() * w).collect()
}

fn add(x: &mut Rows, y: &Rows) {
    for (x, y) in x.iter_mut().flatten().zip(y.iter().flatten()) {
        *x += y;
    }
}

impl Twin {
    pub(crate) fn new(config: &ModelConfig, tensors: &[Tensor], adapter: Option<&LoraAdapter>) -> Self {
        let mut parameters: BTreeMap<String, Vec<f64>> =
            tensors.iter().map(|t| (t.name.clone(), widen(&t.values))).collect();
        let mut adapted = BTreeMap::new();
        if let Some(adapter) = adapter {
            // alpha / r, or alpha / sqrt(r) with rank stabilisation (arXiv:2312.03732).
            let (r, alpha) = (adapter.config.r as f64, adapter.config.lora_alpha);
            let scale = if adapter.config.use_rslora { alpha / r.sqrt() } else { alpha / r };
            for module in &adapter.modules {
                adapted.insert(module.name.clone(), (module.rank, scale));
                parameters.insert(format!("{}.lora_A", module.name), widen(&module.a));
                parameters.insert(format!("{}.lora_B", module.name), widen(&module.b));
            }
        }
        Self { config: config.clone(), parameters, adapted }
    }

    /// `W x + b + s B (A x)` for every row.
    fn linear(&self, module: &str, x: &Rows) -> Rows {
        let weight = &self.parameters[&format!("{module}.weight")];
        let bias = self.parameters.get(&format!("{module}.bias"));
        let adapter = self.adapted.get(module).map(|(rank, scale)| {
            let factor = |name: &str| &self.parameters[&format!("{module}.{name}")];
            (*rank, *scale, factor("lora_A"), factor("lora_B"))
        });
        let inputs = x[0].len();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let row = |x: &Vec<f64>| -> Vec<f64> {
            let low_rank: Option<Vec<f64>> = adapter.map(|(_, _, a, _)| a.chunks(inputs).map(|a| dot(a, x)).collect());
            weight
                .chunks(inputs)
                .enumerate()
                .map(|(o, w)| {
                    let mut y = dot(w, x) + bias.map_or(0.0, |b| b[o]);
                    if let (Some((rank, scale, _, b)), Some(low_rank)) = (adapter, &low_rank) {
                        y += scale * dot(&b[o * rank..(o + 1) * rank], low_rank);
                    }
                    y
                })
                .collect()
        };
        x.iter().map(row).collect()
    }

    fn norm(&self, name: &str, x: &Rows) -> Rows {
        let weight = &self.parameters[&format!("{name}.weight")];
        let eps = f64::from(self.config.rms_norm_eps);
        x.iter().map(|x| x.chunks(weight.len()).flat_map(|x| rms_norm(x, weight, eps)).collect()).collect()
    }

    /// Radians per position of each pair, rounded to f32 as in transformers.
    fn frequencies(&self) -> Vec<f32> {
        let d = self.config.head_dim;
        (0..d / 2)
            .map(|i| {
                let inv_freq = 1.0 / self.config.rope_theta.powf(2.0 * i as f64 / d as f64);
                let RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } =
                    self.config.rope_scaling
                else {
                    return inv_freq as f32;
                };
                let old_context_len = original_max_position_embeddings as f64;
                let wavelen = 2.0 * std::f64::consts::PI / inv_freq;
                let scaled = if wavelen > old_context_len / low_freq_factor {
                    inv_freq / factor
                } else if wavelen < old_context_len / high_freq_factor {
                    inv_freq
                } else {
                    let smooth =
                        (old_context_len / wavelen - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - smooth) * inv_freq / factor + smooth * inv_freq
                };
                scaled as f32
            })
            .collect()
    }

    /// Rotates every head of every row by its position.
    fn rotate(&self, x: &mut Rows) {
        let (d, frequencies) = (self.config.head_dim, self.frequencies());
        for (position, row) in x.iter_mut().enumerate() {
            for head in row.chunks_mut(d) {
                let old = head.to_vec();
                for (i, frequency) in frequencies.iter().enumerate() {
                    // transformers multiplies position and frequency in f32.
                    let (sin, cos) = f64::from(position as f32 * frequency).sin_cos();
                    head[i] = old[i] * cos - old[i + d / 2] * sin;
                    head[i + d / 2] = old[i + d / 2] * cos + old[i] * sin;
                }
            }
        }
    }

    fn attention(&self, layer: usize, x: &Rows) -> Rows {
        let c = &self.config;
        let name = |part: &str| format!("model.layers.{layer}.self_attn.{part}");
        let (mut q, mut k) = (self.linear(&name("q_proj"), x), self.linear(&name("k_proj"), x));
        let v = self.linear(&name("v_proj"), x);
        if c.qk_norm {
            (q, k) = (self.norm(&name("q_norm"), &q), self.norm(&name("k_norm"), &k));
        }
        self.rotate(&mut q);
        self.rotate(&mut k);
        let (d, group) = (c.head_dim, c.num_attention_heads / c.num_key_value_heads);
        let mut out = vec![vec![0.0; c.num_attention_heads * d]; x.len()];
        for t in 0..x.len() {
            for head in 0..c.num_attention_heads {
                let shared = head / group * d..(head / group + 1) * d;
                let query = &q[t][head * d..(head + 1) * d];
                let seen: Vec<usize> = (0..=t).filter(|s| c.sliding_window[layer].is_none_or(|w| t - s < w)).collect();
                let scores: Vec<f64> = seen
                    .iter()
                    .map(|s| {
                        let key = &k[*s][shared.clone()];
                        query.iter().zip(key).map(|(q, k)| q * k).sum::<f64>() / (d as f64).sqrt()
                    })
                    .collect();
                let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let e: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
                let total: f64 = e.iter().sum();
                for (s, e) in seen.iter().zip(&e) {
                    for (o, v) in out[t][head * d..(head + 1) * d].iter_mut().zip(&v[*s][shared.clone()]) {
                        *o += e / total * v;
                    }
                }
            }
        }
        self.linear(&name("o_proj"), &out)
    }

    fn feed_forward(&self, layer: usize, x: &Rows) -> Rows {
        let name = |part: &str| format!("model.layers.{layer}.mlp.{part}");
        let mut gate = self.linear(&name("gate_proj"), x);
        let up = self.linear(&name("up_proj"), x);
        for (g, u) in gate.iter_mut().flatten().zip(up.iter().flatten()) {
            *g = *g / (1.0 + (-*g).exp()) * u;
        }
        self.linear(&name("down_proj"), &gate)
    }

    /// Logits at every position of a sequence.
    fn logits(&self, tokens: &[u32]) -> impl Iterator<Item = Vec<f64>> {
        let hidden = self.config.hidden_size;
        let embedding = &self.parameters["model.embed_tokens.weight"];
        let mut x: Rows = tokens.iter().map(|t| embedding[*t as usize * hidden..][..hidden].to_vec()).collect();
        for layer in 0..self.config.num_hidden_layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}");
            let y = self.attention(layer, &self.norm(&name("input_layernorm"), &x));
            add(&mut x, &y);
            let y = self.feed_forward(layer, &self.norm(&name("post_attention_layernorm"), &x));
            add(&mut x, &y);
        }
        let head = self.parameters.get("lm_head.weight").unwrap_or(embedding);
        self.norm("model.norm", &x)
            .into_iter()
            .map(move |x| head.chunks(hidden).map(|w| w.iter().zip(&x).map(|(w, x)| w * x).sum()).collect())
    }

    /// Log-probability and entropy of every token of a completion.
    pub(crate) fn scores(&self, prompt: &[u32], completion: &[u32], temperature: f64) -> Vec<(f64, f64)> {
        let sequence = [prompt, completion].concat();
        self.logits(&sequence[..sequence.len() - 1])
            .skip(prompt.len() - 1)
            .zip(completion)
            .map(|(logits, token)| {
                let z: Vec<f64> = logits.iter().map(|z| z / temperature).collect();
                let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let log_sum = top + z.iter().map(|z| (z - top).exp()).sum::<f64>().ln();
                let entropy = -z.iter().map(|z| (z - log_sum).exp() * (z - log_sum)).sum::<f64>();
                (z[*token as usize] - log_sum, entropy)
            })
            .collect()
    }
}
