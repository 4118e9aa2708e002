//! Streams are what their seed says, and every method learns.

use krystal_math::rng::{Purpose, stream_rng};

use super::curriculum::{base_arithmetic, base_languages, base_transforms, languages, stream_tags};
use super::symbols::{BASE_TAGS, STREAM_TAGS, VOCABULARY};
use super::task::token_batch;
use super::*;

/// A model and streams of a second.
fn small() -> Settings {
    let mut settings = Settings::default();
    settings.shorten();
    let sizes = ["hidden=32", "intermediate=64", "layers=1", "heads=2", "base_steps=60", "rank=12", "phases=2"];
    sizes.iter().for_each(|size| settings.set(size).unwrap());
    settings
}

#[test]
fn a_stream_is_drawn_from_its_seed_alone() {
    let settings = small();
    for kind in StreamKind::ALL {
        let (one, same, other) =
            (Stream::draw(kind, 5, &settings), Stream::draw(kind, 5, &settings), Stream::draw(kind, 6, &settings));
        let examples = |stream: &Stream| -> Vec<Example> {
            let batches = stream.batches(stream.phases.len() - 1, 3).into_iter().chain(stream.joint_batches(2));
            let tests = stream.tests.iter().flat_map(|test| test.examples.clone());
            batches.flat_map(|batch| batch.examples).chain(tests).collect()
        };
        assert_eq!(examples(&one), examples(&same), "{kind:?}");
        assert_ne!(examples(&one), examples(&other), "{kind:?}");
        assert_eq!(StreamKind::named(kind.name()), Some(kind));
        for test in &one.tests {
            assert_eq!(test.batch, token_batch(&test.examples));
            assert!(test.examples.iter().all(|e| e.prompt.iter().chain(&e.answer).all(|t| *t < VOCABULARY as u32)));
        }
    }
}

#[test]
fn a_phase_draws_what_its_test_asks() {
    let settings = Settings::default();
    for kind in [StreamKind::Arith, StreamKind::Recall] {
        let stream = Stream::draw(kind, 2, &settings);
        for (index, phase) in stream.phases.iter().enumerate() {
            let answers: std::collections::BTreeMap<_, _> =
                stream.tests[phase.task].examples.iter().map(|e| (&e.prompt, &e.answer)).collect();
            let batches = stream.batches(index, 0);
            let known = batches[0].examples.iter().filter(|e| answers.contains_key(&e.prompt));
            let known: Vec<_> = known.collect();
            assert!(!known.is_empty());
            assert!(known.iter().all(|e| answers[&e.prompt] == &e.answer), "{kind:?}");
        }
    }
}

#[test]
fn streams_hold_nothing_that_the_base_model_was_trained_on() {
    let settings = Settings::default();
    let known: Vec<String> = base_transforms()
        .iter()
        .map(|t| t.name())
        .chain(base_languages().iter().map(|l| l.name()).filter(|name| !name.contains("automaton")))
        .chain(base_arithmetic().iter().map(|a| a.name()))
        .collect();
    for kind in [StreamKind::Arith, StreamKind::Formal, StreamKind::Strings, StreamKind::Recurring] {
        for seed in 1..20 {
            for test in Stream::draw(kind, seed, &settings).tests {
                assert!(!known.contains(&test.name), "{}", test.name);
                let tag = test.examples[0].prompt[0];
                assert!((STREAM_TAGS..BASE_TAGS).contains(&tag), "{tag} is no tag of a stream");
            }
        }
    }
    let drawn = (0..200).flat_map(|seed| languages(6, &mut stream_rng(seed, Purpose::Task, 0, 2)));
    assert!(drawn.into_iter().all(|language| !base_languages().contains(&language)));
    assert!(STREAM_TAGS as usize + stream_tags().len() <= BASE_TAGS as usize);
}

#[test]
fn adversaries_contradict_the_honest_about_the_shared_rule_alone() {
    let settings = Settings::default();
    let stream = Stream::draw(StreamKind::Agents, 3, &settings);
    assert_eq!(stream.n_adversaries(), 3);
    assert_eq!(stream.tests.len(), 2 * (stream.n_agents() - 3));
    let (mut answers, mut contradicted) = (std::collections::BTreeMap::new(), 0);
    for test in stream.tests.iter().filter(|test| test.agent == 0) {
        answers.extend(test.examples.iter().map(|e| (e.prompt.clone(), e.answer.clone())));
    }
    for step in 0..2000 {
        for batch in stream.batches(0, step) {
            for example in batch.examples.iter().filter(|e| e.prompt.len() > 3) {
                let Some(answer) = answers.get(&example.prompt) else { continue };
                if batch.agent < stream.n_agents() - 3 {
                    assert_eq!(answer, &example.answer);
                } else {
                    contradicted += usize::from(*answer != example.answer);
                }
            }
        }
    }
    assert!(contradicted > 0);
}

#[test]
fn the_gradient_is_that_of_the_loss() {
    let settings = small();
    let base = Base::untrained(&settings).unwrap();
    let stream = Stream::draw(StreamKind::Recall, 1, &settings);
    let examples = &stream.batches(0, 0)[0].examples;
    let mut adapter = base.adapter(4, 1).unwrap();
    let mut spread = (1..).map(|i| ((i * 37) % 17) as f32 / 170.0 - 0.05);
    adapter.modules.iter_mut().for_each(|m| m.b.iter_mut().for_each(|b| *b = spread.next().unwrap_or(0.0)));
    let gradient = base.gradient(&base.publish(&adapter), examples);
    // A small step against the gradient lowers the loss by the step times its squared norm.
    let squared: f64 = gradient.tensors.iter().flatten().map(|g| f64::from(*g).powi(2)).sum();
    let step = 1e-3 / squared.sqrt();
    let tensors = adapter.modules.iter_mut().flat_map(|m| [&mut m.a, &mut m.b]);
    for (values, g) in tensors.zip(&gradient.tensors) {
        values.iter_mut().zip(g).for_each(|(value, g)| *value -= (step * f64::from(*g)) as f32);
    }
    let lowered = gradient.loss - base.gradient(&base.publish(&adapter), examples).loss;
    let expected = step * squared;
    assert!((lowered - expected).abs() < 0.05 * expected, "{lowered} is not {expected}");
}

#[test]
fn accuracy_counts_whole_answers() {
    let settings = small();
    let base = Base::untrained(&settings).unwrap();
    // What an untrained model prefers is right by definition; the same with another last token is wrong.
    let prompt = vec![STREAM_TAGS, 5, 0];
    let best = |prompt: &[u32]| {
        let example = Example { prompt: prompt.to_vec(), answer: vec![0] };
        let logits = base.decoder().logits(None, &token_batch([&example]));
        (0..VOCABULARY as u32).max_by(|a, b| logits[*a as usize].total_cmp(&logits[*b as usize])).unwrap()
    };
    let first = best(&prompt);
    let second = best(&[prompt.clone(), vec![first]].concat());
    let right = Example { prompt: prompt.clone(), answer: vec![first, second] };
    let wrong = Example { prompt: prompt.clone(), answer: vec![first, (second + 1) % 8] };
    let short = Example { prompt, answer: vec![first] };
    let examples = [wrong, right, short];
    assert_eq!(base.accuracy(None, &examples, &token_batch(&examples)), 2.0 / 3.0);
}

#[test]
fn every_method_learns_and_threads_change_nothing() {
    let mut settings = small();
    for size in ["length=2.0", "hidden=64", "intermediate=64"] {
        settings.set(size).unwrap();
    }
    let cache = tempfile::tempdir().unwrap();
    let base = Base::load_or_train(&settings, cache.path()).unwrap();
    let mut jobs = Vec::new();
    for method in methods() {
        let kind = if (method.fits)(StreamKind::Recall) { StreamKind::Recall } else { StreamKind::Agents };
        let hyper = method.hyper.map_or(0.0, |(_, values)| values[values.len() / 2]);
        jobs.push(Job { method, kind, seed: 1, learning_rate: 5e-3, hyper });
    }
    let records = run_all(&base, &jobs, &settings, 1).unwrap();
    let again = run_all(&base, &jobs, &settings, 3).unwrap();
    for ((job, record), other) in jobs.iter().zip(&records).zip(&again) {
        assert_eq!(record.matrix, other.matrix, "{:?}", job.method);
        assert_eq!(record.trace, other.trace, "{:?}", job.method);
        // Of the first table; chance is one in sixteen. Of the joint mixture half of the questions can be answered.
        let wanted = if job.method.protocol == Protocol::Joint { 0.25 } else { 0.5 };
        let learned = record.matrix[0].iter().copied().fold(0.0, f64::max);
        assert!(learned >= wanted, "{:?} learned {learned}", job.method);
    }
}
