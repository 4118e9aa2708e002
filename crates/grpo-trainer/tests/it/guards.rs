//! A run that cannot learn stops and says why; broken parts are found out.

use grpo_trainer::config::GrpoConfig;
use grpo_trainer::policy::Policy;
use grpo_trainer::reward::{Reward, RewardError, RewardFunction, RewardInput};
use grpo_trainer::{Demonstration, Error, GrpoTrainer, RunDir, SftConfig, SftTrainer};

use crate::bigram::{Bigram, Fault};
use crate::task::{Constant, Exact, config, records, rewards};

fn run(config: GrpoConfig, fault: Fault, rewards: Vec<Box<dyn RewardFunction>>) -> Result<(), Error> {
    GrpoTrainer::new(config, Bigram::with_fault(fault), rewards, records())?.train(&mut ()).map(|_| ())
}

fn fails(config: GrpoConfig, fault: Fault) -> Error {
    run(config, fault, rewards()).unwrap_err()
}

#[test]
fn nothing_to_train() {
    let error = fails(config(), Fault::Frozen);
    assert!(matches!(error, Error::NoTrainableParameters) && error.cannot_learn());
    let demonstration = Demonstration { prompt: vec![0], completion: vec![1] };
    let config = SftConfig { batch_size: 1, ..SftConfig::default() };
    let error = SftTrainer::new(config, Bigram::with_fault(Fault::Frozen), vec![demonstration]).unwrap_err();
    assert!(matches!(error, Error::NoTrainableParameters));
}

#[test]
fn numbers_that_are_none() {
    assert!(matches!(fails(config(), Fault::NanForward), Error::NonFiniteLoss { step: 1, .. }));
    match fails(config(), Fault::NanGradient) {
        Error::NonFiniteGradient { step: 1, parameter } => assert_eq!(parameter, "odd"),
        other => panic!("{other}"),
    }
}

#[test]
fn gradients_that_never_arrive() {
    assert!(matches!(fails(config(), Fault::NoGradient), Error::GradientMissing { step: 1 }));
}

#[test]
fn updates_below_precision() {
    let tiny = GrpoConfig { learning_rate: 1e-30, ..config() };
    // Values that are exactly zero would take even this step; the table's others cannot.
    let mut policy = Bigram::new();
    for parameter in policy.parameters() {
        parameter.values.iter_mut().for_each(|x| *x += 1.0);
    }
    policy.publish().unwrap();
    let error = GrpoTrainer::new(tiny, policy, rewards(), records()).unwrap().train(&mut ()).unwrap_err();
    assert!(matches!(error, Error::AdapterUnchanged { step: 1, .. }), "{error}");
}

#[test]
fn a_learning_rate_of_zero_is_no_fault() {
    run(GrpoConfig { learning_rate: 0.0, ..config() }, Fault::None, rewards()).unwrap();
}

#[test]
fn a_sampler_of_another_model() {
    match fails(config(), Fault::Mismatch) {
        Error::SamplingMismatch { step: 1, difference, .. } => assert!((difference - 0.01).abs() < 1e-4),
        other => panic!("{other}"),
    }
    // Known to be another model, and corrected for, it may differ.
    let correction = grpo_trainer::loss::RolloutCorrection::TokenTruncate;
    run(GrpoConfig { rollout_correction: correction, ..config() }, Fault::Mismatch, rewards()).unwrap();
}

#[test]
fn a_divergence_without_reference() {
    let error = fails(GrpoConfig { beta: 0.1, ..config() }, Fault::NoReference);
    assert!(matches!(error, Error::MissingReference { .. }));
    run(config(), Fault::NoReference, rewards()).unwrap();
}

#[test]
fn rewards_without_spread() {
    let folder = tempfile::tempdir().unwrap();
    let config = GrpoConfig { max_steps: Some(30), zero_spread_patience: 5, checkpoint_every: 100, ..config() };
    let mut trainer = GrpoTrainer::new(config.clone(), Bigram::new(), vec![Box::new(Constant(0.5))], records())
        .unwrap()
        .with_run_dir(RunDir::create(folder.path()).unwrap())
        .unwrap();
    match trainer.train(&mut ()).unwrap_err() {
        Error::ZeroRewardSpread { steps: 5, reward } => assert_eq!(reward, Some(0.5)),
        other => panic!("{other}"),
    }
    // What was learned before must not be lost.
    assert_eq!(RunDir::resume(folder.path()).unwrap().checkpoints().unwrap().len(), 1);
    assert!(folder.path().join("adapter/table.bin").exists());
    let short = GrpoConfig { max_steps: Some(5), ..config.clone() };
    run(short, Fault::None, vec![Box::new(Constant(0.5))]).unwrap();
    let patient = GrpoConfig { zero_spread_patience: 0, ..config };
    run(patient, Fault::None, vec![Box::new(Constant(0.5))]).unwrap();
}

#[test]
fn policies_that_break_their_contract() {
    let error = fails(config(), Fault::TooFewCompletions);
    assert!(error.to_string().contains("expected 6 completions of a prompt"), "{error}");
    let mut empty = records();
    empty.iter_mut().for_each(|r| r.prompt = grpo_trainer::data::Prompt::Text(String::new()));
    let error = GrpoTrainer::new(config(), Bigram::new(), rewards(), empty).unwrap().train(&mut ()).unwrap_err();
    assert!(error.to_string().contains("expected at least one token of a prompt"), "{error}");
}

/// Returns what it is told to.
#[derive(Debug)]
struct Broken(&'static str);

impl RewardFunction for Broken {
    fn name(&self) -> &str {
        "broken"
    }

    fn score(&self, inputs: &[RewardInput<'_>]) -> Result<Vec<Reward>, RewardError> {
        match self.0 {
            "nan" => Ok(vec![Reward::score(f64::NAN); inputs.len()]),
            "few" => Ok(vec![Reward::score(1.0)]),
            reason => Err(RewardError { name: "broken".into(), reason: reason.into() }),
        }
    }
}

#[test]
fn rewards_that_break_their_contract() {
    let fails = |how| run(config(), Fault::None, vec![Box::new(Broken(how))]).unwrap_err().to_string();
    assert!(fails("nan").contains("expected a finite score"));
    assert!(fails("few").contains("expected 24 rewards"));
    assert_eq!(fails("no such program"), "reward `broken` failed: no such program");
}

#[test]
fn settings_that_do_not_fit_together() {
    let new = |config, rewards| GrpoTrainer::new(config, Bigram::new(), rewards, records()).unwrap_err().to_string();
    assert!(new(config(), vec![]).contains("at least one reward function"));
    assert!(new(config(), vec![Box::new(Exact), Box::new(Exact)]).contains("`exact` twice"));
    let weights = GrpoConfig { reward_weights: Some(vec![1.0]), ..config() };
    assert!(new(weights, rewards()).contains("2 weights"));
    let many = GrpoConfig { prompts_per_step: 13, ..config() };
    assert!(new(many, rewards()).contains("expected at least 13 records"));
}
