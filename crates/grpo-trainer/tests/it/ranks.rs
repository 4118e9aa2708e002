//! Several ranks, here threads, that train one policy: how many there are changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread;

use grpo_trainer::data::{Prompt, Record};
use grpo_trainer::lm::{LmPolicy, Ranks, RanksError, SharedReward};
use grpo_trainer::reward::{Reward, RewardError, RewardFunction, RewardInput};
use grpo_trainer::{
    Demonstration, Error, EvaluateConfig, GrpoConfig, GrpoTrainer, Policy, RunDir, SftConfig, SftTrainer,
};
use krystal_lm::LanguageModel;
use serde_json::json;
use sphere_hierarchy::collective::InProcess;

use crate::dynamic_policy::{self, files};
use crate::language_model::{self, model};

/// What `work` gives on each of `size` ranks.
fn on_ranks<T: Send>(size: usize, work: impl Fn(Ranks) -> T + Sync) -> Vec<T> {
    let work = &work;
    thread::scope(|scope| {
        let group = InProcess::group(size).into_iter();
        let ranks: Vec<_> = group.map(|rank| scope.spawn(move || work(Ranks::new(Rc::new(rank))))).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

/// Prompts enough for several chunks of each agent.
fn records() -> Vec<Record> {
    let record = |i: usize| Record {
        prompt: Prompt::Text("abcdef"[i % 5..].chars().cycle().take(3 + i % 4).collect()),
        columns: serde_json::Map::from_iter([("agent".to_owned(), (i % 2).into())]),
    };
    (0..26).map(record).collect()
}

fn config() -> GrpoConfig {
    GrpoConfig {
        max_steps: Some(4),
        prompts_per_step: 13,
        num_generations: 8,
        num_iterations: 2,
        steps_per_generation: Some(1),
        max_completion_length: 14,
        learning_rate: 5e-3,
        beta: 0.02,
        checkpoint_every: 2,
        eval_steps: 2,
        zero_spread_patience: 0,
        ..GrpoConfig::default()
    }
}

/// The share of `a`s, with numbers beside it that must arrive as they are; has nothing to say about completions that begin with
/// `b`.
#[derive(Debug)]
struct Share;

impl RewardFunction for Share {
    fn name(&self) -> &str {
        "share"
    }

    fn score(&self, inputs: &[RewardInput<'_>]) -> Result<Vec<Reward>, RewardError> {
        let judge = |input: &RewardInput<'_>| {
            let share = input.completion.matches('a').count() as f64 / input.tokens.len() as f64;
            if input.completion.starts_with('b') {
                return Reward::abstain("begins with b");
            }
            let extra = [("share".to_owned(), json!(share / 3.0)), ("text".to_owned(), json!(input.completion))];
            Reward { extra: extra.into_iter().collect(), ..Reward::score(share) }
        };
        Ok(inputs.iter().map(judge).collect())
    }
}

/// A kind of policy, trained by ranks.
trait Made {
    type Made: Policy;

    fn make(ranks: Ranks) -> Self::Made;
}

struct Adapter;
struct AllWeights;
struct Dynamic;

impl Made for Adapter {
    type Made = LmPolicy;

    fn make(ranks: Ranks) -> LmPolicy {
        language_model::policy().with_ranks(ranks)
    }
}

impl Made for AllWeights {
    type Made = LmPolicy;

    fn make(ranks: Ranks) -> LmPolicy {
        LmPolicy::with_all_weights(model()).unwrap().with_ranks(ranks)
    }
}

impl Made for Dynamic {
    type Made = grpo_trainer::lm::DynamicPolicy;

    fn make(ranks: Ranks) -> Self::Made {
        dynamic_policy::policy(2).with_ranks(ranks)
    }
}

fn trainer<M: Made>(ranks: &Ranks) -> GrpoTrainer<M::Made> {
    let reward = || Box::new(SharedReward::new(Box::new(Share), ranks.clone()));
    let trainer = GrpoTrainer::new(config(), M::make(ranks.clone()), vec![reward()], records()).unwrap();
    let evaluation = EvaluateConfig { max_completion_length: 6, batch_prompts: 4, ..EvaluateConfig::default() };
    trainer.with_evaluation(records()[..7].to_vec(), reward(), evaluation).unwrap()
}

/// Trains on `size` ranks, the first of which writes to `path`, and gives what each has in memory at the end.
fn train<M: Made>(path: &Path, size: usize) -> Vec<Vec<u8>> {
    on_ranks(size, |ranks| {
        let mut trainer = trainer::<M>(&ranks);
        if ranks.is_first() {
            trainer = trainer.with_run_dir(RunDir::create(path).unwrap()).unwrap();
        }
        trainer.train(&mut ()).unwrap();
        trainer.state().unwrap()
    })
}

/// The files of a run on one rank.
fn same_on_any_number<M: Made>(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let path = |size: usize| folder.join(format!("{size} ranks"));
    let expected = train::<M>(&path(1), 1).remove(0);
    let expected_files = files(&path(1));
    for size in [2, 3] {
        for (rank, state) in train::<M>(&path(size), size).into_iter().enumerate() {
            assert!(state == expected, "rank {rank} of {size} ends elsewhere");
        }
        assert_same(&files(&path(size)), &expected_files);
    }
    expected_files
}

fn assert_same(found: &BTreeMap<PathBuf, Vec<u8>>, expected: &BTreeMap<PathBuf, Vec<u8>>) {
    assert!(found.keys().eq(expected.keys()), "{:?} {:?}", found.keys(), expected.keys());
    expected.iter().for_each(|(name, content)| assert!(*content == found[name], "{} differs", name.display()));
}

#[test]
fn an_adapter_is_the_same_on_any_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let files = same_on_any_number::<Adapter>(folder.path());
    let completions = String::from_utf8(files[Path::new("completions.jsonl")].clone()).unwrap();
    assert!(completions.contains("begins with b") && completions.contains("\"text\":"));
    let metrics = String::from_utf8(files[Path::new("metrics.jsonl")].clone()).unwrap();
    assert!(metrics.contains("eval_pass@1"));
}

#[test]
fn all_weights_are_the_same_on_any_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    same_on_any_number::<AllWeights>(folder.path());
}

#[test]
fn dynamic_layers_are_the_same_on_any_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let files = same_on_any_number::<Dynamic>(folder.path());
    assert!(files.contains_key(Path::new("adapter/agents/1/adapter_model.safetensors")));
}

/// Interrupted after step 3, whose newest checkpoint is of step 2, and resumed from it on `size` ranks, of which the first alone
/// sees the folder.
fn resumed<M: Made>(folder: &Path) {
    let (whole, cut) = (folder.join("whole"), folder.join("cut"));
    train::<M>(&whole, 1);
    on_ranks(2, |ranks| {
        let mut trainer = trainer::<M>(&ranks);
        if ranks.is_first() {
            trainer = trainer.with_run_dir(RunDir::create(&cut).unwrap()).unwrap();
        }
        (0..3).for_each(|_| drop(trainer.step(&mut ()).unwrap()));
    });
    on_ranks(3, |ranks| {
        let mut trainer = trainer::<M>(&ranks);
        if ranks.is_first() {
            trainer = trainer.resume_from(RunDir::resume(&cut).unwrap(), &mut ()).unwrap();
        }
        let state = ranks.ask_first(|| Ok::<_, RanksError>(trainer.state().unwrap())).unwrap();
        if !ranks.is_first() {
            trainer = trainer.resume_from_state(&state).unwrap();
        }
        assert_eq!(trainer.n_steps(), 2);
        trainer.train(&mut ()).unwrap();
    });
    assert_same(&files(&cut), &files(&whole));
}

#[test]
fn a_run_goes_on_on_other_ranks() {
    let folder = tempfile::tempdir().unwrap();
    resumed::<Adapter>(&folder.path().join("adapter"));
    resumed::<Dynamic>(&folder.path().join("dynamic"));
}

#[test]
fn demonstrations_are_learned_from_the_same() {
    let demonstrations = |model: &LanguageModel| -> Vec<Demonstration> {
        let tokens = |text: String| model.encode(&text).unwrap();
        let text = |i: usize, n: usize| "abcdef"[i % 6..].chars().cycle().take(n).collect::<String>();
        (0..48).map(|i| Demonstration { prompt: tokens(text(i, 4)), completion: tokens(text(i / 2, 20)) }).collect()
    };
    let config = SftConfig { max_steps: Some(4), batch_size: 40, learning_rate: 1e-2, ..SftConfig::default() };
    let trained = |ranks: Ranks| {
        let trainer = || {
            let policy = AllWeights::make(ranks.clone());
            SftTrainer::new(config.clone(), policy, demonstrations(&model())).unwrap()
        };
        let mut first = trainer();
        (0..2).for_each(|_| drop(first.step(&mut ()).unwrap()));
        let mut second = trainer().resume_from_state(&first.state().unwrap()).unwrap();
        second.train(&mut ()).unwrap();
        second.state().unwrap()
    };
    let expected = on_ranks(1, trained).remove(0);
    assert!([2, 3].iter().all(|size| on_ranks(*size, trained).iter().all(|state| *state == expected)));
    let other = on_ranks(1, |ranks| trainer::<Adapter>(&ranks).resume_from_state(&expected).map(drop)).remove(0);
    assert!(matches!(other, Err(Error::State(_))), "{other:?}");
}

/// Fails on one rank.
#[derive(Debug)]
struct FailsOn(usize, Ranks);

impl RewardFunction for FailsOn {
    fn name(&self) -> &str {
        "judge"
    }

    fn score(&self, inputs: &[RewardInput<'_>]) -> Result<Vec<Reward>, RewardError> {
        if self.1.rank() == self.0 {
            return Err(RewardError { name: "judge".to_owned(), reason: "no such program".to_owned() });
        }
        Ok(vec![Reward::score(1.0); inputs.len()])
    }
}

#[test]
fn a_rank_that_fails_fails_all() {
    let errors = on_ranks(3, |ranks| {
        let function = Box::new(FailsOn(1, ranks.clone()));
        let rewards: Vec<Box<dyn RewardFunction>> = vec![Box::new(SharedReward::new(function, ranks.clone()))];
        let mut trainer = GrpoTrainer::new(config(), Adapter::make(ranks), rewards, records()).unwrap();
        trainer.train(&mut ()).unwrap_err().to_string()
    });
    let other = "reward `judge` failed: rank 1 failed";
    assert_eq!(errors, [other, "reward `judge` failed: no such program", other]);
}

#[test]
fn ranks_that_leave_are_missed() {
    let errors = on_ranks(2, |ranks| {
        let mut trainer = trainer::<Adapter>(&ranks);
        trainer.step(&mut ()).unwrap();
        (ranks.rank() == 1).then(|| trainer.step(&mut ()).unwrap_err())
    });
    let mut cause: Option<&dyn std::error::Error> = errors[1].as_ref().map(|error| error as _);
    let mut text = String::new();
    while let Some(error) = cause {
        text.push_str(&format!("{error}; "));
        cause = error.source();
    }
    assert!(text.contains("rank 0 is gone"), "{text}");
}

#[test]
fn ranks_agree_or_say_who_does_not() {
    let found = on_ranks(3, |ranks| {
        let rank = ranks.rank();
        let any = (ranks.any(rank == 2).unwrap(), ranks.any(false).unwrap());
        let same = ranks.agree("data", b"same").is_ok();
        let other = ranks.agree("data", &[u8::from(rank == 1)]).unwrap_err().to_string();
        let given = ranks.ask_first(|| Ok::<_, RanksError>(vec![7, rank as u8])).unwrap();
        let refused = ranks.ask_first(|| Err(RanksError::OtherRank { rank: 9 })).unwrap_err().to_string();
        (any, same, other, given, refused)
    });
    for (rank, (any, same, other, given, refused)) in found.into_iter().enumerate() {
        assert_eq!((any, same, given), ((true, false), true, vec![7, 0]));
        assert_eq!(other, "rank 1 has other data than rank 0: every rank needs the same");
        assert_eq!(refused, if rank == 0 { "rank 9 failed" } else { "rank 0 failed" });
    }
}
