//! Layers with dynamics of their own under the trainers: learn, do not depend on threads, resume bit for bit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dynlora_core::{AgentId, HierarchyConfig, LoraAdapter, LoraHierarchy, PlainMean, SavedHierarchy};
use grpo_trainer::data::{Prompt, Record};
use grpo_trainer::lm::{DynamicPolicy, LmError};
use grpo_trainer::policy::{Policy, ScoreGroup, TokenWeights};
use grpo_trainer::{Demonstration, GrpoConfig, GrpoTrainer, RunDir, SftConfig, SftTrainer, strip_timing};
use krystal_lm::{LmBackend, module_shapes};

use crate::language_model::model;
use crate::task::Letters;

pub(crate) fn policy(n_agents: u64) -> DynamicPolicy {
    let model = model();
    let mut config = HierarchyConfig::default().with_total_rank(31);
    config.health_ticks = 3;
    let shapes = module_shapes(model.decoder.config());
    let base = LmBackend::new(model.clone()).base_hash();
    let mut hierarchy = LoraHierarchy::new(config, &shapes, base, 1, Box::new(PlainMean::default())).unwrap();
    for agent in 0..n_agents {
        hierarchy.add_agent(AgentId(agent)).unwrap();
    }
    DynamicPolicy::new(model, hierarchy, Some("the/base".to_owned())).unwrap()
}

fn records() -> Vec<Record> {
    let texts = ["abc", "fade", "bed", "cab", "a", "feed"];
    let record = |(i, text): (usize, &str)| Record {
        prompt: Prompt::Text(text.to_owned()),
        columns: serde_json::Map::from_iter([("agent".to_owned(), (i % 2).into())]),
    };
    texts.into_iter().enumerate().map(record).collect()
}

fn config() -> GrpoConfig {
    GrpoConfig {
        max_steps: Some(8),
        prompts_per_step: 4,
        num_generations: 6,
        micro_batch_prompts: Some(3),
        max_completion_length: 8,
        learning_rate: 2e-2,
        checkpoint_every: 2,
        zero_spread_patience: 0,
        ..GrpoConfig::default()
    }
}

fn trainer() -> GrpoTrainer<DynamicPolicy> {
    GrpoTrainer::new(config(), policy(2), vec![Box::new(Letters('a'))], records()).unwrap()
}

/// Every file of a run but its checkpoints, without what a clock has said.
pub(crate) fn files(run: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![run.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(run).unwrap().to_owned();
            if path.is_dir() {
                folders.extend((!path.ends_with("checkpoints")).then_some(path));
            } else if name == Path::new("metrics.jsonl") {
                let text = std::fs::read_to_string(path).unwrap();
                found.insert(name, text.lines().map(strip_timing).collect::<String>().into_bytes());
            } else {
                found.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    found
}

fn on_threads(threads: usize, work: impl FnOnce() + Send) {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work);
}

#[test]
fn threads_and_interruptions_change_no_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (name, threads) in [("one", 1), ("two", 2)] {
        on_threads(threads, || {
            trainer().with_run_dir(RunDir::create(&path(name)).unwrap()).unwrap().train(&mut ()).unwrap();
        });
    }
    let expected = files(&path("one"));
    for name in ["adapter/agents/1/adapter_model.safetensors", "adapter/hierarchy/dynlora.json", "events.jsonl"] {
        assert!(expected.contains_key(Path::new(name)), "{name}");
    }
    let assert_same = |other: &BTreeMap<PathBuf, Vec<u8>>| {
        assert!(expected.keys().eq(other.keys()));
        expected.iter().for_each(|(name, content)| assert!(*content == other[name], "{} differs", name.display()));
    };
    assert_same(&files(&path("two")));
    // Dropped after step 5, whose newest checkpoint is of step 4, and resumed on another number of threads.
    on_threads(2, || {
        let mut cut = trainer().with_run_dir(RunDir::create(&path("cut")).unwrap()).unwrap();
        (0..5).for_each(|_| drop(cut.step(&mut ()).unwrap()));
    });
    on_threads(3, || {
        let mut resumed = trainer().resume_from(RunDir::resume(&path("cut")).unwrap(), &mut ()).unwrap();
        assert_eq!(resumed.n_steps(), 4);
        resumed.train(&mut ()).unwrap();
    });
    assert_same(&files(&path("cut")));
}

#[test]
fn layers_learn_what_is_rewarded_and_are_saved() {
    let config = GrpoConfig { max_steps: Some(120), learning_rate: 1e-2, ..config() };
    let mut trainer = GrpoTrainer::new(config, policy(2), vec![Box::new(Letters('a'))], records()).unwrap();
    let first = trainer.step(&mut ()).unwrap().get("reward").unwrap();
    let last = trainer.train(&mut ()).unwrap().last.unwrap();
    assert!(first < 0.35 && last.get("reward").unwrap() > 0.7, "{first} to {:?}", last.get("reward"));
    // No layer is slower than another unless it is told to be.
    let time_constant = |level: &str| last.get(&format!("dynamic/time_constant_{level}")).unwrap();
    assert!(time_constant("context") > 0.0 && time_constant("context") == time_constant("foundation"));
    let policy = trainer.into_policy();
    let folder = tempfile::tempdir().unwrap();
    policy.save(folder.path()).unwrap();
    let saved = SavedHierarchy::load(&folder.path().join("hierarchy"), Some(policy.hierarchy().shapes())).unwrap();
    assert_eq!(saved.snapshot.id(), policy.hierarchy().snapshot().id());
    let again = LoraHierarchy::from_saved(&saved, Box::new(PlainMean::default())).unwrap();
    assert_eq!(again.snapshot().id(), saved.snapshot.id());
    for (agent, name) in [(0, "."), (0, "agents/0"), (1, "agents/1")] {
        let adapter = LoraAdapter::load(&folder.path().join(name), policy.hierarchy().shapes()).unwrap();
        let expected = saved.snapshot.fused_adapter(AgentId(agent)).unwrap();
        assert!(adapter.modules.iter().zip(&expected.modules).all(|(x, y)| x.a == y.a && x.b == y.b), "{name}");
    }
}

/// What one agent is asked does not depend on who else is, nor on the order.
#[test]
fn agents_of_one_call_are_kept_apart_and_in_order() {
    let mut trainer = trainer();
    (0..3).for_each(|_| drop(trainer.step(&mut ()).unwrap()));
    let policy = trainer.into_policy();
    let tokens = |text: &str| policy.encode_prompt(&Prompt::Text(text.to_owned())).unwrap();
    let (prompt, x, y) = (tokens("bed"), tokens("ab"), tokens("cafe"));
    let group = |agent, completions| ScoreGroup { prompt: &prompt, completions, agent };
    let mixed = [group(1, vec![&x[..], &y]), group(0, vec![&y]), group(1, vec![&y])];
    let scores = policy.score(&mixed, 1.0).unwrap();
    let (forward, _) = policy.forward(&mixed, 1.0).unwrap();
    assert_eq!(forward, scores);
    let mut alone = Vec::new();
    for group in mixed {
        alone.extend(policy.score(&[group], 1.0).unwrap().log_probs);
    }
    assert_eq!(scores.log_probs, alone);
    assert_ne!(scores.log_probs[1], scores.log_probs[2], "the agents' own layers differ");
    assert_eq!(scores.log_probs[1], scores.log_probs[3]);
}

#[test]
fn a_gradient_that_is_no_number_is_refused_and_the_snapshot_stays() {
    let mut policy = policy(1);
    let tokens = policy.encode_prompt(&Prompt::Text("abc".to_owned())).unwrap();
    let groups = [ScoreGroup { prompt: &tokens, completions: vec![&tokens], agent: 0 }];
    let before = policy.hierarchy().snapshot().id();
    let (_, tape) = policy.forward(&groups, 1.0).unwrap();
    let weights = TokenWeights { log_probs: vec![vec![f32::NAN; tokens.len()]], entropy: Vec::new() };
    let error = policy.backward(tape, &weights).unwrap_err();
    assert!(matches!(&error, LmError::NotFinite { micro_batch: 0, .. }), "{error}");
    assert_eq!(policy.hierarchy().snapshot().id(), before);
    assert!(policy.score(&groups, 1.0).unwrap().log_probs[0].iter().all(|x| x.is_finite()));
}

#[test]
fn an_unknown_agent_is_named() {
    let policy = policy(1);
    let tokens = policy.encode_prompt(&Prompt::Text("abc".to_owned())).unwrap();
    let error = policy.score(&[ScoreGroup { prompt: &tokens, completions: vec![&tokens], agent: 4 }], 1.0).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "agent 4 has no layers in the snapshot, which has 1 agents");
}

#[test]
fn demonstrations_are_learned_from_as_well() {
    let model = model();
    let eos = model.tokenizer.eos().unwrap();
    let demonstration = |prompt: &str, completion: &str| Demonstration {
        prompt: model.encode(prompt).unwrap(),
        completion: model.encode(completion).unwrap().into_iter().chain([eos]).collect(),
    };
    let demonstrations = vec![demonstration("ab", "cd"), demonstration("cd", "ef"), demonstration("ef", "ab")];
    let config = SftConfig { max_steps: Some(40), batch_size: 3, learning_rate: 3e-2, ..SftConfig::default() };
    let mut trainer = SftTrainer::new(config, policy(1), demonstrations).unwrap();
    let first = trainer.step(&mut ()).unwrap().get("loss").unwrap();
    let last = trainer.train(&mut ()).unwrap().last.unwrap().get("loss").unwrap();
    assert!(last < 0.5 * first, "{first} to {last}");
}
