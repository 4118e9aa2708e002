//! Asking and telling, threads, resuming.

use std::ops::ControlFlow;

use krystal_swarm::{Error, Method, SearchSpace, Stop, StopRules, Swarm, SwarmConfig};

use crate::METHODS;

fn rastrigin(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x + 10.0 * (1.0 - (std::f64::consts::TAU * x).cos())).sum()
}

fn new(method: Method, evaluations: u64) -> Swarm {
    let config = SwarmConfig { seed: 3, stop: StopRules::after(evaluations), ..SwarmConfig::of(method) };
    Swarm::new(SearchSpace::cube(4, -5.0, 4.0).unwrap(), config).unwrap()
}

fn bytes(swarm: &Swarm) -> Vec<u8> {
    swarm.to_bytes().unwrap()
}

#[test]
fn one_by_one_is_the_same_as_minimize() {
    for method in METHODS {
        let (mut asked, mut minimized) = (new(method, 2_000), new(method, 2_000));
        while let Some(trial) = asked.ask() {
            asked.tell(trial.id, rastrigin(&trial.x)).unwrap();
        }
        minimized.minimize(rastrigin).unwrap();
        assert_eq!(asked.best(), minimized.best(), "{method:?}");
        assert_eq!(asked.evaluations(), 2_000);
    }
}

#[cfg(feature = "rayon")]
#[test]
fn threads_change_no_bit() {
    for method in METHODS {
        let mut one = new(method, 3_001);
        one.suggest(&[1.0; 4]).unwrap();
        one.minimize(rastrigin).unwrap();
        for n in [1, 2, 4] {
            let mut many = new(method, 3_001);
            many.suggest(&[1.0; 4]).unwrap();
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
            pool.install(|| many.minimize_parallel(rastrigin)).unwrap();
            assert!(bytes(&many) == bytes(&one), "{method:?} on {n} threads");
        }
    }
}

#[test]
fn order_of_telling_does_not_matter_to_synchronous_swarms() {
    let (mut forth, mut back) = (new(Method::Pso, 3_600), new(Method::Pso, 3_600));
    while forth.stopped().is_none() {
        for trial in forth.ask_batch(36) {
            forth.tell(trial.id, rastrigin(&trial.x)).unwrap();
        }
        for trial in back.ask_batch(36).into_iter().rev() {
            back.tell(trial.id, rastrigin(&trial.x)).unwrap();
        }
    }
    assert_eq!(forth.best().map(|best| &best.x), back.best().map(|best| &best.x));
}

#[test]
fn a_generation_waits_for_its_trials_and_a_classic_particle_for_nobody() {
    let mut synchronous = new(Method::Pso, 1_000);
    let trials = synchronous.ask_batch(100);
    assert_eq!(trials.len(), 36);
    assert!(synchronous.ask().is_none());
    synchronous.abandon(trials[7].id).unwrap();
    let again = synchronous.ask().unwrap();
    assert_eq!((again.id, &again.x), (36, &trials[7].x));
    assert!(matches!(synchronous.tell(trials[7].id, 1.0), Err(Error::UnknownTrial { id: 7 })));
    for trial in trials.iter().filter(|trial| trial.id != 7) {
        synchronous.tell(trial.id, 1.0).unwrap();
    }
    assert_eq!(synchronous.pending(), std::slice::from_ref(&again));
    synchronous.fail(again.id).unwrap();
    assert_eq!((synchronous.generations(), synchronous.failures()), (1, 1));
    assert_eq!(synchronous.ask_batch(100).len(), 36);

    let mut classic = new(Method::Classic, 1_000);
    let trials = classic.ask_batch(100);
    assert_eq!(trials.len(), 5);
    classic.tell(trials[3].id, 1.0).unwrap();
    assert_eq!(classic.ask_batch(100).len(), 1);
}

#[test]
fn no_more_trials_are_handed_out_than_evaluations_are_left() {
    let mut swarm = new(Method::Pso, 50);
    let first = swarm.ask_batch(100);
    for trial in &first {
        swarm.tell(trial.id, rastrigin(&trial.x)).unwrap();
    }
    assert_eq!(swarm.ask_batch(100).len(), 50 - first.len());
}

#[test]
fn a_loaded_swarm_goes_on_exactly() {
    for method in METHODS {
        let mut uninterrupted = new(method, 5_000);
        let mut resumed = new(method, 5_000);
        // After every trial, and so at every generation, restarts included.
        while uninterrupted.stopped().is_none() {
            for swarm in [&mut uninterrupted, &mut resumed] {
                let trial = swarm.ask().unwrap();
                swarm.tell(trial.id, rastrigin(&trial.x)).unwrap();
            }
            resumed = Swarm::from_bytes(&bytes(&resumed)).unwrap();
            assert!(bytes(&resumed) == bytes(&uninterrupted), "{method:?} after {} evaluations", resumed.evaluations());
        }
    }
}

#[test]
fn each_rule_stops() {
    let run = |stop: StopRules| {
        let config = SwarmConfig { seed: 3, stop, ..SwarmConfig::of(Method::Pso) };
        let mut swarm = Swarm::new(SearchSpace::cube(2, -5.0, 4.0).unwrap(), config).unwrap();
        let outcome = swarm.minimize(rastrigin).unwrap();
        (outcome, swarm)
    };
    let none = StopRules::default();
    let (outcome, _) = run(none.clone());
    assert_eq!((outcome.stop, outcome.evaluations), (Stop::Evaluations, 20_000));
    let (outcome, _) = run(StopRules { target: Some(0.5), ..none.clone() });
    assert!(outcome.stop == Stop::Target && outcome.best.evaluation == outcome.evaluations);
    assert!(outcome.best.fitness.value <= 0.5);
    let (outcome, _) = run(StopRules { no_improvement: Some(700), ..none.clone() });
    assert_eq!((outcome.stop, outcome.evaluations), (Stop::NoImprovement, outcome.best.evaluation + 700));
    let (outcome, swarm) = run(StopRules { generations: Some(9), ..none.clone() });
    assert_eq!((outcome.stop, swarm.generations(), outcome.evaluations), (Stop::Generations, 9, 9 * 36));
    let (outcome, _) = run(StopRules { diversity: Some(0.05), ..none.clone() });
    assert_eq!(outcome.stop, Stop::Diversity);

    let mut swarm = new(Method::Pso, 5_000);
    let mut seen = Vec::new();
    let observe = |swarm: &Swarm| {
        seen.push(swarm.generations());
        if seen.len() == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let outcome = swarm.minimize_observed(rastrigin, observe).unwrap();
    assert_eq!((outcome.stop, seen), (Stop::Observer, vec![1, 2, 3, 4]));
    assert!(swarm.ask().is_none());
    swarm.set_stop(StopRules::after(200)).unwrap();
    assert_eq!(swarm.minimize(rastrigin).unwrap().evaluations, 200);
}

#[test]
fn a_swarm_that_has_converged_starts_anew() {
    let mut swarm = new(Method::Pso, 60_000);
    swarm.minimize(|x| x.iter().map(|x| x * x).sum::<f64>()).unwrap();
    assert!(swarm.restarts() > 3, "{}", swarm.restarts());
    assert!(swarm.best().unwrap().fitness.value < 1e-16);
}
