//! Agents that disagree about one shared layer.

use dynlora_core::AgentId;
use dynlora_resonance::{HorizontalConfig, HorizontalResonance, aggregate};

use crate::random_gradients::{batch, by_agent, cosine, dot, mean, noise, size, stream, unit};

const LENGTH: usize = 10_000;

/// Mean cosine to the true direction of what the agents' gradients become, with resonance and as a plain mean, over the ticks
/// after the fourth.
fn measure(agents: usize, opposing: usize, rho: f64, trials: u64) -> (f64, f64) {
    const TICKS: usize = 8;
    let (mut with, mut plain) = (Vec::new(), Vec::new());
    for trial in 0..trials {
        let mut rng = stream(trial);
        let signal = unit(noise(LENGTH, &mut rng));
        let mut resonance = HorizontalResonance::new(HorizontalConfig::default()).unwrap();
        let mut out = vec![0.0; LENGTH];
        for tick in 0..TICKS {
            let sign = |agent: usize| if agent < opposing { -rho } else { rho };
            let gradients: Vec<Vec<f32>> = (0..agents)
                .map(|agent| {
                    let size = size(&mut rng);
                    batch(&signal, sign(agent), size, &mut rng)
                })
                .collect();
            resonance.aggregate(&by_agent(&gradients), &mut out);
            resonance.end_tick();
            if tick >= TICKS / 2 {
                with.push(cosine(&out, &signal));
                plain.push(cosine(&mean(&gradients), &signal));
            }
        }
    }
    (krystal_math::statistics::mean(&with), krystal_math::statistics::mean(&plain))
}

/// The acceptance table. One cosine has a deviation of .009 here (noise along the signal in 10,000 dimensions), the mean of 12
/// to 48 of them .001 to .003; sizes move the plain mean by .03 from tick to tick.
#[test]
fn opposing_agents_are_told_from_noise() {
    let (with, plain) = measure(8, 2, 0.2, 12);
    assert!((0.44..0.46).contains(&with), "8 agents, 2 opposing: {with}");
    assert!((0.2..0.3).contains(&plain), "8 agents, 2 opposing, plain mean: {plain}");
    let (with, plain) = measure(8, 3, 0.2, 4);
    assert!(with >= 0.38 && plain < 0.18, "8 agents, 3 opposing: {with}, plain mean: {plain}");
    let (with, plain) = measure(32, 12, 0.2, 3);
    assert!(with >= 0.64 && plain < 0.3, "32 agents, 12 opposing: {with}, plain mean: {plain}");
    let (with, plain) = measure(32, 8, 0.1, 3);
    assert!(with >= 0.40 && plain < 0.3, "32 agents, 8 opposing: {with}, plain mean: {plain}");
}

#[test]
fn where_nobody_opposes_nothing_is_lost() {
    let (with, plain) = measure(8, 0, 0.2, 4);
    assert!(with >= plain && with > 0.48, "{with}, plain mean: {plain}");
}

#[test]
fn agreement_is_amplified_and_opposition_damped_except_in_the_seed() {
    let mut rng = stream(50);
    let signal = unit(noise(2000, &mut rng));
    let gradients: Vec<Vec<f32>> =
        (0..6).map(|agent| batch(&signal, if agent == 5 { -0.6 } else { 0.6 }, 1.0, &mut rng)).collect();
    let factors = |config: HorizontalConfig| {
        let mut out = vec![0.0; 2000];
        HorizontalResonance::new(config).unwrap().aggregate(&by_agent(&gradients), &mut out).factors
    };
    let standard = factors(HorizontalConfig::default());
    assert!(standard[..5].iter().all(|factor| *factor > 1.9 && *factor <= 2.0), "{standard:?}");
    assert_eq!(standard[5], 0.1);
    let cosine = factors(HorizontalConfig::cosine());
    assert!(cosine[..5].iter().all(|factor| *factor > 1.1 && *factor < 1.5), "{cosine:?}");
    assert!(cosine[5] < 0.9 && cosine[5] > 0.7, "{cosine:?}");
    // 1 + beta a with a negative beta and a negative a: the literal seed rewards opposition.
    assert!(factors(HorizontalConfig::seed())[5] > 1.0);
}

#[test]
fn the_step_is_as_long_as_the_mean_of_the_clipped_gradients() {
    let mut rng = stream(60);
    let signal = unit(noise(500, &mut rng));
    let sizes = [0.5_f32, 1.0, 2.0, 4.0, 1000.0];
    let gradients: Vec<Vec<f32>> = sizes
        .iter()
        .map(|size| unit(batch(&signal, 0.4, 1.0, &mut rng)).iter().map(|value| value * size).collect())
        .collect();
    let mut out = vec![0.0; 500];
    let found =
        HorizontalResonance::new(HorizontalConfig::default()).unwrap().aggregate(&by_agent(&gradients), &mut out);
    // The median is 2.
    let clipped: Vec<Vec<f32>> = gradients
        .iter()
        .zip(sizes)
        .map(|(gradient, size)| gradient.iter().map(|value| value * (2.0 / size).min(1.0)).collect())
        .collect();
    let expected = dot(&mean(&clipped), &mean(&clipped)).sqrt();
    assert!((found.norm / expected - 1.0).abs() < 1e-4, "{} {expected}", found.norm);
    assert!((dot(&out, &out).sqrt() / expected - 1.0).abs() < 1e-4);
    // Pairwise cosines are .16: the consensus is their root.
    assert!((found.consensus.unwrap() - 0.4).abs() < 0.06, "{:?}", found.consensus);
}

#[test]
fn the_order_of_agents_changes_no_bit() {
    let run = |turn: usize| {
        let mut rng = stream(70);
        let signal = unit(noise(3000, &mut rng));
        let mut resonance = HorizontalResonance::new(HorizontalConfig::default()).unwrap();
        let mut results = Vec::new();
        for _ in 0..5 {
            let gradients: Vec<Vec<f32>> = (0..7).map(|_| batch(&signal, 0.2, 1.0, &mut rng)).collect();
            let mut voices = by_agent(&gradients);
            voices.rotate_left(turn);
            let mut out = vec![0.0; 3000];
            let mut found = resonance.aggregate(&voices, &mut out);
            resonance.end_tick();
            found.factors.rotate_right(turn);
            results.push((out.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), found));
        }
        results
    };
    assert_eq!(run(0), run(3));
}

#[test]
fn a_majority_that_turns_is_followed_at_once_and_trusted_again_soon() {
    let mut rng = stream(80);
    let signal = unit(noise(4000, &mut rng));
    let mut resonance = HorizontalResonance::new(HorizontalConfig::default()).unwrap();
    let mut out = vec![0.0; 4000];
    let mut trusted_after = None;
    for tick in 0..130 {
        let rho = if tick < 100 { 0.4 } else { -0.4 };
        let gradients: Vec<Vec<f32>> = (0..8).map(|_| batch(&signal, rho, 1.0, &mut rng)).collect();
        let found = resonance.aggregate(&by_agent(&gradients), &mut out);
        resonance.end_tick();
        assert!(found.factors.iter().all(|factor| (0.1..=2.0).contains(factor)), "{:?}", found.factors);
        if tick >= 100 {
            assert!(cosine(&out, &signal) < -0.5, "tick {tick}: {}", cosine(&out, &signal));
            if found.factors.iter().all(|factor| *factor > 1.5) {
                trusted_after.get_or_insert(tick - 100);
            }
        }
    }
    assert!(trusted_after.is_some_and(|ticks| ticks <= 10), "{trusted_after:?}");
}

#[test]
fn who_opposes_for_long_is_routed_and_who_agrees_again_is_not() {
    let mut rng = stream(90);
    let signal = unit(noise(4000, &mut rng));
    let mut resonance = HorizontalResonance::new(HorizontalConfig::default()).unwrap();
    let mut out = vec![0.0; 4000];
    let mut routed = Vec::new();
    for tick in 0..12 {
        let rho = |agent: u64| if agent == 2 && tick < 8 { -0.4 } else { 0.4 };
        let gradients: Vec<Vec<f32>> = (0..6).map(|agent| batch(&signal, rho(agent), 1.0, &mut rng)).collect();
        let found = resonance.aggregate(&by_agent(&gradients), &mut out);
        resonance.end_tick();
        assert!(found.dissent.iter().all(|agent| *agent == AgentId(2)), "tick {tick}: {:?}", found.dissent);
        routed.push(!found.dissent.is_empty());
    }
    let expected: Vec<bool> = (0..12).map(|tick| (3..8).contains(&tick)).collect();
    assert_eq!(routed, expected);
}

#[test]
fn a_single_gradient_passes_and_lengths_must_agree() {
    assert_eq!(aggregate(&[&[3.0, -4.0]]).unwrap(), [3.0, -4.0]);
    assert_eq!(aggregate(&[]).unwrap(), Vec::<f32>::new());
    let error = aggregate(&[&[1.0, 2.0], &[1.0]]).unwrap_err();
    assert_eq!(error.to_string(), "gradient 1 has 1 numbers, the first has 2");
    // Two that cancel leave nothing, not the direction of a rounding error.
    assert_eq!(aggregate(&[&[0.1, 0.7], &[-0.2, -1.4]]).unwrap(), [0.0, 0.0]);
}
