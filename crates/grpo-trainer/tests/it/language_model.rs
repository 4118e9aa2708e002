//! The policy over krystal-lm's models: learns, does not depend on threads, and resumes bit for bit.

use std::path::Path;
use std::sync::Arc;

use dynlora_core::{LoraAdapter, LoraConfig};
use grpo_trainer::data::{Prompt, Record};
use grpo_trainer::lm::{LmError, LmPolicy};
use grpo_trainer::policy::{Policy, ScoreGroup};
use grpo_trainer::sft::demonstration_loss;
use grpo_trainer::{Demonstration, GrpoConfig, GrpoTrainer, RunDir, SftConfig, SftTrainer, strip_timing};
use krystal_lm::{LanguageModel, ModelConfig, RopeScaling, Tokenizer, initial_tensors, module_shapes};

use crate::task::Letters;

pub(crate) fn model() -> Arc<LanguageModel> {
    let tokenizer = Tokenizer::characters("abcdef", &[]).unwrap();
    let config = ModelConfig {
        model_type: "qwen3".to_owned(),
        vocab_size: tokenizer.vocab_size(),
        hidden_size: 24,
        intermediate_size: 40,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 6,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::Default,
        tie_word_embeddings: true,
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
        qk_norm: true,
        sliding_window: vec![None; 2],
        max_position_embeddings: 32,
        bos_token_id: None,
        eos_token_ids: tokenizer.eos().into_iter().collect(),
        pad_token_id: tokenizer.pad(),
    };
    let tensors = initial_tensors(&config, 1);
    Arc::new(LanguageModel::from_tensors(config, &tensors, tokenizer).unwrap())
}

pub(crate) fn policy() -> LmPolicy {
    let model = model();
    let config = LoraConfig { r: 4, lora_alpha: 16.0, ..LoraConfig::default() };
    let adapter = LoraAdapter::new(config, &module_shapes(model.decoder.config()), 1).unwrap();
    LmPolicy::with_adapter(model, adapter, None)
}

fn records() -> Vec<Record> {
    ["abc", "fade", "bed", "cab", "a", "feed"]
        .map(|text| Record { prompt: Prompt::Text(text.to_owned()), columns: serde_json::Map::new() })
        .to_vec()
}

fn config() -> GrpoConfig {
    GrpoConfig {
        max_steps: Some(6),
        prompts_per_step: 4,
        num_generations: 6,
        num_iterations: 2,
        steps_per_generation: Some(1),
        max_completion_length: 8,
        learning_rate: 5e-3,
        beta: 0.02,
        checkpoint_every: 2,
        zero_spread_patience: 0,
        ..GrpoConfig::default()
    }
}

fn trainer() -> GrpoTrainer<LmPolicy> {
    GrpoTrainer::new(config(), policy(), vec![Box::new(Letters('a'))], records()).unwrap()
}

/// Adapter bytes, metrics and completions of a run.
fn files(run: &Path) -> (Vec<u8>, Vec<String>, String) {
    let read = |name: &str| std::fs::read(run.join(name)).unwrap();
    let metrics = String::from_utf8(read("metrics.jsonl")).unwrap().lines().map(strip_timing).collect();
    (read("adapter/adapter_model.safetensors"), metrics, String::from_utf8(read("completions.jsonl")).unwrap())
}

fn run(path: &Path, threads: usize, stop_after: Option<u64>) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    // Not `Send` (clocks and observers need not be), so it is built and used on one thread of the pool.
    pool.install(|| {
        let mut trainer = trainer().with_run_dir(RunDir::create(path).unwrap()).unwrap();
        match stop_after {
            None => {
                trainer.train(&mut ()).unwrap();
            }
            Some(steps) => {
                for _ in 0..steps {
                    trainer.step(&mut ()).unwrap();
                }
            }
        }
    });
}

#[test]
fn threads_and_interruptions_change_no_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    run(&path("one"), 1, None);
    run(&path("two"), 2, None);
    let expected = files(&path("one"));
    assert_eq!(files(&path("two")), expected);
    assert_eq!(expected.1.len(), 6);

    // Dropped after step 3, whose newest checkpoint is of step 2, and resumed on another number of threads.
    run(&path("cut"), 2, Some(3));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    pool.install(|| {
        let mut resumed = trainer().resume_from(RunDir::resume(&path("cut")).unwrap(), &mut ()).unwrap();
        assert_eq!(resumed.n_steps(), 2);
        resumed.train(&mut ()).unwrap();
    });
    assert_eq!(files(&path("cut")), expected);
}

#[test]
fn an_adapter_learns_what_is_rewarded() {
    let config = GrpoConfig { max_steps: Some(40), beta: 0.0, num_iterations: 1, ..config() };
    let mut trainer = GrpoTrainer::new(config, policy(), vec![Box::new(Letters('a'))], records()).unwrap();
    let first = trainer.step(&mut ()).unwrap().get("reward").unwrap();
    let last = trainer.train(&mut ()).unwrap().last.unwrap().get("reward").unwrap();
    // A share of `a`s: about a ninth by chance (nine tokens), one at best.
    assert!(first < 0.35 && last > 0.8, "{first} to {last}");
    let policy = trainer.into_policy();
    let prompt = policy.encode_prompt(&Prompt::Text("bed".to_owned())).unwrap();
    let completion = policy.encode_prompt(&Prompt::Text("aaaa".to_owned())).unwrap();
    let group = [ScoreGroup { prompt: &prompt, completions: vec![&completion], agent: 0 }];
    let mean = |scores: &[Vec<f32>]| scores[0].iter().sum::<f32>();
    let reference = policy.score_reference(&group, 1.0).unwrap().unwrap();
    assert!(mean(&policy.score(&group, 1.0).unwrap().log_probs) > mean(&reference.log_probs) + 1.0);
}

#[test]
fn all_weights_fit_demonstrations() {
    let model = model();
    let eos = model.tokenizer.eos().unwrap();
    let demonstration = |prompt: &str, completion: &str| Demonstration {
        prompt: model.encode(prompt).unwrap(),
        completion: model.encode(completion).unwrap().into_iter().chain([eos]).collect(),
    };
    let demonstrations =
        vec![demonstration("ab", "cd"), demonstration("cd", "ef"), demonstration("ef", "ab"), demonstration("aa", "b")];
    let config = SftConfig {
        max_steps: Some(60),
        batch_size: 4,
        learning_rate: 1e-2,
        checkpoint_every: 0,
        ..SftConfig::default()
    };
    let policy = LmPolicy::with_all_weights(Arc::clone(&model)).unwrap();
    let before = demonstration_loss(&policy, &demonstrations, 4).unwrap();
    let mut trainer = SftTrainer::new(config, policy, demonstrations.clone()).unwrap();
    trainer.train(&mut ()).unwrap();
    let after = demonstration_loss(trainer.policy(), &demonstrations, 4).unwrap();
    assert!(before > 1.5 && after < 0.1, "{before} to {after}");
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let policy = policy();
    let refuse = |prompt: &[u32], completion: &[u32]| {
        policy.score(&[ScoreGroup { prompt, completions: vec![completion], agent: 0 }], 1.0).unwrap_err()
    };
    assert!(matches!(refuse(&[], &[3]), LmError::Length { prompt: 0, completion: 1, .. }));
    assert!(matches!(refuse(&[3], &[]), LmError::Length { completion: 0, .. }));
    assert!(matches!(refuse(&[3; 20], &[3; 13]), LmError::Length { max_position_embeddings: 32, .. }));
    assert!(matches!(refuse(&[3], &[4, 999]), LmError::Token { token: 999, vocab_size: 9 }));
    let turns = vec![grpo_trainer::data::Message { role: "user".to_owned(), content: "abc".to_owned() }];
    assert!(matches!(policy.encode_prompt(&Prompt::Messages(turns)).unwrap_err(), LmError::Model(_)));
}
