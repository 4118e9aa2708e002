//! A small model folder with an adapter, made on the spot.

use std::path::Path;

use krystal::dynlora::{LoraAdapter, LoraConfig, PatternMap};
use krystal::lm::config::ModelConfig;
use krystal::lm::{Tokenizer, initial_tensors, module_shapes, save_language_model};
use tempfile::TempDir;

const CHAT_TEMPLATE: &str =
    "{% for m in messages %}{{ m.role[0] }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}a: {% endif %}";

/// Folders `model` and `adapter` in a temporary place.
#[derive(Debug)]
pub(crate) struct TinyModel {
    pub(crate) folder: TempDir,
}

impl TinyModel {
    /// Tokens: `<pad>` 0, `<eos>` 1, `<unk>` 2, then the characters.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model");
        let tokenizer = Tokenizer::characters("\n 0123456789:abcdefghijklmnopqrstuvwxyz?", &[]).unwrap();
        let json = format!(
            r#"{{"model_type": "llama", "vocab_size": {}, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
                "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6, "rms_norm_eps": 1e-6,
                "rope_theta": 10000.0, "max_position_embeddings": 96, "tie_word_embeddings": true, "eos_token_id": 1}}"#,
            tokenizer.vocab_size()
        );
        let config = ModelConfig::from_json(&json, Path::new("config.json")).unwrap();
        save_language_model(&model, &config, &initial_tensors(&config, 5), &tokenizer).unwrap();
        std::fs::write(model.join("chat_template.jinja"), CHAT_TEMPLATE).unwrap();
        let lora = LoraConfig {
            r: 3,
            lora_alpha: 12.0,
            rank_pattern: [("layers.1.self_attn.q_proj".to_owned(), 5)].into_iter().collect::<PatternMap<usize>>(),
            ..LoraConfig::default()
        };
        let mut adapter = LoraAdapter::new(lora, &module_shapes(&config), 9).unwrap();
        for module in &mut adapter.modules {
            for (i, value) in module.b.iter_mut().enumerate() {
                *value = ((i * 29 % 23) as f32 - 11.0) / 40.0;
            }
        }
        adapter.save(&folder.path().join("adapter"), Some("the/base")).unwrap();
        Self { folder }
    }

    /// A path within the temporary place.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// The model's folder.
    pub(crate) fn model(&self) -> String {
        self.path("model")
    }

    /// The adapter's folder.
    pub(crate) fn adapter(&self) -> String {
        self.path("adapter")
    }

    /// Writes a file; gives its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.folder.path().join(name), text).unwrap();
        self.path(name)
    }
}
