//! Micro-batches that fail, settings that cannot be, and steps at the edges of what there is.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use sphere_hierarchy::{
    Accumulation, Attempt, Error, GradientWorker, LeafFailure, OnFailure, Reduction, RunError, SphereConfig,
    SphereHierarchy,
};

use crate::support::{Planted, Streamed, bits, naive, on_ranks, value};

#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    Panic,
    Refuse,
    NotANumber,
    Late,
}

#[derive(Debug, thiserror::Error)]
#[error("leaf {0} cannot be computed")]
struct Refused(usize);

/// [`Planted`] with leaves that fail, `times` times each; remembers which thread tried what.
struct Failing {
    planted: Planted,
    how: How,
    leaves: Vec<usize>,
    times: u32,
    pause: Duration,
    tries: Mutex<BTreeMap<usize, Vec<Option<usize>>>>,
}

impl Failing {
    fn new(how: How, leaves: &[usize], times: u32) -> Self {
        Self {
            planted: Planted::new(20),
            how,
            leaves: leaves.to_vec(),
            times,
            pause: Duration::ZERO,
            tries: Mutex::default(),
        }
    }
}

impl GradientWorker for Failing {
    type Batch = usize;
    type Element = f32;
    type Error = Refused;

    fn n_parameters(&self) -> usize {
        self.planted.n
    }

    fn weight(&self, leaf: &usize) -> f32 {
        self.planted.weight_of(*leaf)
    }

    fn gradient(&self, leaf: &usize, attempt: &Attempt<'_>, out: &mut [f32]) -> Result<(), Refused> {
        self.tries.lock().unwrap().entry(*leaf).or_default().push(rayon::current_thread_index());
        self.planted.gradient(leaf, attempt, out).unwrap();
        if !self.pause.is_zero() {
            std::thread::sleep(self.pause);
        }
        if !self.leaves.contains(leaf) || attempt.number > self.times {
            return Ok(());
        }
        match self.how {
            How::Panic => panic!("planted"),
            How::Refuse => return Err(Refused(*leaf)),
            How::NotANumber => out[3] = f32::NAN,
            How::Late => {
                while !attempt.is_overdue() {
                    std::thread::yield_now();
                }
            }
        }
        Ok(())
    }
}

const N_LEAVES: usize = 150;

fn hierarchy(threads: usize, depth: Option<u32>, on_failure: OnFailure) -> SphereHierarchy {
    let config = SphereConfig {
        threads: Some(threads),
        depth,
        on_failure,
        time_limit: Some(Duration::from_millis(200)),
        ..SphereConfig::default()
    };
    let start = std::time::Instant::now();
    SphereHierarchy::new(config).unwrap().with_clock(std::sync::Arc::new(move || start.elapsed()))
}

/// What is left without some leaves, made up for.
fn without(dropped: &[usize]) -> Vec<f32> {
    let planted = Planted::new(20);
    let is_left = |leaf: &usize| !dropped.contains(leaf);
    let mut sum = naive(N_LEAVES, 20, Accumulation::Plain, |leaf, at| {
        is_left(&leaf).then(|| planted.weight_of(leaf) * value(leaf, at))
    });
    if !dropped.is_empty() {
        let weight = |leaf: usize| f64::from(planted.weight_of(leaf));
        let left: f64 = (0..N_LEAVES).filter(is_left).map(weight).sum();
        let factor = ((0..N_LEAVES).map(weight).sum::<f64>() / left) as f32;
        sum.iter_mut().for_each(|x| *x *= factor);
    }
    sum
}

#[test]
fn one_failure_is_mended_and_leaves_no_trace() {
    let batches: Vec<usize> = (0..N_LEAVES).collect();
    for how in [How::Panic, How::Refuse, How::NotANumber, How::Late] {
        let failing = if how == How::Late { vec![0, 70] } else { vec![0, 11, 12, 70, 149] };
        for (threads, depth) in [(1, None), (2, None), (4, Some(1)), (2, Some(0))] {
            let worker = Failing::new(how, &failing, 1);
            let found = hierarchy(threads, depth, OnFailure::Fail).run(&worker, &batches).unwrap();
            assert_eq!(bits(&found.gradient), bits(&without(&[])), "{how:?} on {threads}");
            let statistics = &found.statistics;
            assert_eq!((statistics.n_retried, statistics.n_dropped), (failing.len(), 0));
            let counts = [
                (How::Panic, statistics.n_panicked),
                (How::Refuse, statistics.n_refused),
                (How::NotANumber, statistics.n_non_finite),
                (How::Late, statistics.n_overdue),
            ];
            assert!(counts.iter().all(|(kind, n)| *n == if *kind == how { failing.len() } else { 0 }), "{counts:?}");
            let tries = worker.tries.lock().unwrap();
            assert!(tries.iter().all(|(leaf, tries)| tries.len() == 1 + usize::from(failing.contains(leaf))));
        }
    }
}

#[test]
fn a_second_try_is_made_elsewhere_where_there_is_an_elsewhere() {
    let batches: Vec<usize> = (0..N_LEAVES).collect();
    let failing: Vec<usize> = (0..N_LEAVES).step_by(10).collect();
    // Long enough for all threads to be awake.
    let worker = Failing { pause: Duration::from_millis(1), ..Failing::new(How::Refuse, &failing, 1) };
    hierarchy(4, None, OnFailure::Fail).run(&worker, &batches).unwrap();
    let tries = worker.tries.lock().unwrap();
    let elsewhere = failing.iter().filter(|leaf| tries[leaf][0] != tries[leaf][1]).count();
    assert!(elsewhere * 2 > failing.len(), "{elsewhere} of {}", failing.len());
}

#[test]
fn what_fails_twice_fails_the_step_and_is_named() {
    let batches: Vec<usize> = (0..N_LEAVES).collect();
    for threads in [1, 3] {
        let run = |how| {
            let worker = Failing::new(how, &[70], 2);
            hierarchy(threads, None, OnFailure::Fail).run(&worker, &batches).unwrap_err()
        };
        let error = run(How::Refuse);
        assert_eq!(error.to_string(), "micro-batch 70 failed 2 times");
        let RunError::Leaf { batch: 70, tries: 2, failure: LeafFailure::Refused { source: Refused(70) } } = error
        else {
            panic!("{error:?}")
        };
        let RunError::Leaf { failure, .. } = run(How::NotANumber) else { panic!() };
        assert_eq!(failure.to_string(), "the gradient of parameter 3 is not finite");
        let RunError::Leaf { failure, .. } = run(How::Panic) else { panic!() };
        assert_eq!(failure.to_string(), "the worker panicked: planted");
        let RunError::Leaf { failure: LeafFailure::Overdue { elapsed, limit }, .. } = run(How::Late) else { panic!() };
        assert!(elapsed > limit);
    }
}

#[test]
fn what_is_dropped_is_made_up_for_and_the_rest_keeps_its_bits() {
    let batches: Vec<usize> = (0..N_LEAVES).collect();
    for dropped in [vec![0], vec![5, 6, 149], (12..24).collect(), (0..149).collect()] {
        let expected = without(&dropped);
        let check = |found: Reduction, how: &str| {
            assert_eq!((&found.dropped, found.statistics.n_dropped), (&dropped, dropped.len()));
            assert_eq!(bits(&found.gradient), bits(&expected), "{} dropped, {how}", dropped.len());
        };
        for (threads, depth) in [(1, None), (2, None), (4, Some(1)), (1, Some(0)), (3, Some(2))] {
            let worker = Failing::new(How::Refuse, &dropped, 2);
            let found = hierarchy(threads, depth, OnFailure::DropAndRescale).run(&worker, &batches).unwrap();
            check(found, &format!("{threads} threads"));
        }
        for ranks in [2, 3] {
            let found = on_ranks(ranks, N_LEAVES, |collective, own| {
                let worker = Failing::new(How::Refuse, &dropped, 2);
                hierarchy(2, None, OnFailure::DropAndRescale).run_on(collective, &worker, own).unwrap()
            });
            found.into_iter().for_each(|found| check(found, &format!("{ranks} ranks")));
        }
    }
}

#[test]
fn nothing_is_left_of_a_step_whose_batches_all_fail() {
    let all: Vec<usize> = (0..20).collect();
    for ranks in [1, 3] {
        let errors = on_ranks(ranks, 20, |collective, own| {
            let worker = Failing::new(How::Refuse, &all, 2);
            let run = hierarchy(2, None, OnFailure::DropAndRescale).run_on(collective, &worker, own);
            run.unwrap_err().to_string()
        });
        let expected = "all 20 micro-batches of the step failed, so there is nothing to add";
        assert!(errors.iter().all(|error| error == expected), "{errors:?}");
    }
}

#[test]
fn a_failure_on_one_rank_ends_the_step_on_all() {
    let errors = on_ranks(2, 20, |collective, own| {
        let worker = Failing::new(How::Refuse, &[15], 2);
        hierarchy(1, None, OnFailure::Fail).run_on(collective, &worker, own).unwrap_err().to_string()
    });
    assert_eq!(errors, ["the step failed on rank 1, at micro-batch 15", "micro-batch 15 failed 2 times"]);
}

#[test]
fn settings_and_steps_at_the_edges() {
    let message = |config: SphereConfig| SphereHierarchy::new(config).unwrap_err().to_string();
    let no_threads = SphereConfig { threads: Some(0), ..SphereConfig::default() };
    assert_eq!(message(no_threads), "at least one thread is needed, got 0");
    assert!(message(SphereConfig { depth: Some(18), ..SphereConfig::default() }).starts_with("a tree of depth 18"));
    let mut spheres = SphereHierarchy::new(SphereConfig { threads: Some(2), ..SphereConfig::default() }).unwrap();
    let none = spheres.run(&Planted::new(3), &[]).unwrap_err();
    assert_eq!(none.to_string(), "a step needs at least one batch, got 0");
    // One batch; no parameters; more spheres than batches.
    let one = spheres.run(&Planted::new(3), &[0]).unwrap();
    assert_eq!(bits(&one.gradient), bits(&[0, 1, 2].map(|at| 0.5 * value(0, at))));
    let empty = spheres.run(&Planted::new(0), &[0, 1, 2]).unwrap();
    assert!(empty.gradient.is_empty() && empty.norm == 0.0);
    let deep = SphereConfig { depth: Some(4), ..SphereConfig::default() };
    let found = SphereHierarchy::new(deep).unwrap().run(&Planted::new(3), &[0, 1, 2]).unwrap();
    assert_eq!(found.statistics.levels.iter().map(|level| level.n_spheres).sum::<u64>(), 22_621);
    assert_eq!(found.statistics.levels[4].n_active, 3);
    let refused = SphereConfig { on_failure: OnFailure::DropAndRescale, ..SphereConfig::default() };
    let streamed = Streamed { planted: Planted::new(4), buckets: vec![2, 2] };
    let error = SphereHierarchy::new(refused).unwrap().run_streaming(&streamed, &[0]).unwrap_err();
    assert!(matches!(error, RunError::Hierarchy(Error::DropWhileStreaming { buckets: 2 })));
    let none = on_ranks(2, 0, |collective, own| {
        SphereHierarchy::new(SphereConfig::default())
            .unwrap()
            .run_on(collective, &Planted::new(3), own)
            .unwrap_err()
            .to_string()
    });
    assert_eq!(none, ["a step needs at least one batch, got 0"; 2]);
}
