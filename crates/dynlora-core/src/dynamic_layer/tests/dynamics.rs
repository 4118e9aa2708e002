//! Speeds, phases, forgetting: the numbers of the specification, measured.

use super::*;
use crate::{DensityMode, EntropyMode, LayerConfig};

fn without_use() -> LayerConfig {
    let mut config = LayerConfig::default();
    config.mechanisms.inertia = false;
    config
}

/// Norm of the change of `dW` by steps along gradients of rank 3 that all layers see, and its part along the gradient:
/// quadratic means over layers and steps.
fn speed(level: Level, (d_in, d_out): (usize, usize), rank: usize, config: &LayerConfig) -> [f64; 2] {
    let (mut moved, mut along) = (0.0, 0.0);
    for seed in 0..12 {
        let ranks = [rank];
        let mut layer =
            DynamicLoraLayer::new(level, AgentId(7), &[shape(d_in, d_out)], &ranks, seed, config.clone()).unwrap();
        for tick in 1..=3 {
            let mut rng = rng(100 * seed + tick);
            let (u, v) = (normal(&mut rng, 3 * d_out), normal(&mut rng, 3 * d_in));
            let g: Vec<f64> = (0..d_in * d_out)
                .map(|at| (0..3).map(|j| f64::from(u[j * d_out + at / d_in] * v[j * d_in + at % d_in])).sum())
                .collect();
            let before = delta(&layer.factors()[0]);
            let gradient = factor_gradient(&layer.factors()[0], &g);
            let report = layer.update(&whole(&gradient), &at(tick, 1e-4));
            let change: Vec<f64> = delta(&layer.factors()[0]).iter().zip(before).map(|(after, b)| after - b).collect();
            let size = norm(change.iter().copied());
            // What the layer says itself, taking channels as orthogonal.
            assert!((report.change / size - 1.0).abs() < 0.3, "{level} {rank}: {} for {size}", report.change);
            moved += size.powi(2);
            along += (change.iter().zip(&g).map(|(c, g)| c * g).sum::<f64>() / norm(g.iter().copied())).powi(2);
        }
    }
    [moved.sqrt(), along.sqrt()]
}

/// Norms of the change, and parts along the gradient, relative to what inertias ask for; Context is 1.
fn speeds(optimizer: OptimizerKind, exponent: Option<f64>) -> Vec<[f64; 2]> {
    let config = LayerConfig { optimizer, rank_exponent: exponent, ..without_use() };
    let mut found = Vec::new();
    for (sides, ranks) in [((256, 320), [64, 32, 16, 8, 4]), ((128, 96), [16, 8, 4, 2, 1])] {
        let speeds: Vec<[f64; 2]> =
            Level::ALL.iter().zip(ranks).map(|(level, rank)| speed(*level, sides, rank, &config)).collect();
        for (level, speed) in Level::ALL.iter().zip(&speeds) {
            let expected = (1.0 - level.base_inertia()) / (1.0 - Level::Context.base_inertia());
            let ratios = [0, 1].map(|i| speed[i] / speeds[4][i] / expected);
            println!("{optimizer:?} {exponent:?} {sides:?} {level}: norm {:.2}, along {:.2}", ratios[0], ratios[1]);
            found.push(ratios);
        }
    }
    found
}

#[test]
fn layers_move_in_the_proportion_of_their_inertias() {
    for optimizer in [OptimizerKind::AdamW, OptimizerKind::Sgd] {
        for [norm, _] in speeds(optimizer, None) {
            assert!((norm - 1.0).abs() < 0.2, "{optimizer:?}: {norm}");
        }
    }
}

#[test]
fn with_exponent_one_plain_descent_keeps_the_proportion_along_the_gradient_alone() {
    let speeds = speeds(OptimizerKind::Sgd, Some(1.0));
    assert!(speeds.iter().all(|[_, along]| (along - 1.0).abs() < 0.25), "{speeds:?}");
    assert!(speeds.iter().any(|[norm, _]| *norm < 0.5), "{speeds:?}");
}

#[test]
fn what_is_left_halves_in_the_specifications_ticks() {
    for (level, expected) in Level::ALL.into_iter().zip([6_200, 621, 207, 124, 69]) {
        let mut layer = layer(level, &[shape(10, 14)], 2, LayerConfig::default());
        let values = normal(&mut rng(2), 2 * 14);
        layer.factors_mut(0).b.copy_from_slice(&values);
        let before = norm(delta(&layer.factors()[0]));
        let mut tick = 0;
        while norm(delta(&layer.factors()[0])) > 0.5 * before {
            tick += 1;
            layer.advance(tick);
            layer.settle();
        }
        assert!((tick as f64 / f64::from(expected) - 1.0).abs() < 0.02, "{level}: {tick} for {expected}");
    }
}

#[test]
fn decay_is_exact_however_late_it_is_written() {
    let config = LayerConfig { settle_tolerance: 0.0, ..LayerConfig::default() };
    for granularity in [Granularity::Param, Granularity::Channel] {
        let mut eager = layer(Level::Swarm, &[shape(10, 14)], 3, LayerConfig { granularity, ..config.clone() });
        let values = normal(&mut rng(2), 3 * 14);
        eager.factors_mut(0).b.copy_from_slice(&values);
        // One channel is SCREENED.
        let mut channel = eager.copy_channel(0, 1);
        channel.state.credit_ticks = 10_000;
        eager.put_channel(0, 1, channel);
        let mut lazy = eager.clone();
        let start = eager.factors()[0].b.clone();
        let mut settled_at_end = lazy.clone();
        for tick in 1..=300 {
            eager.advance(tick);
            eager.settle();
            lazy.advance(tick);
        }
        settled_at_end.advance(300);
        for late in [&mut lazy, &mut settled_at_end] {
            assert_eq!(late.factors()[0].b, start);
            let copied = late.copy_channel(0, 2).b;
            late.settle();
            assert_eq!(late.factors()[0].b_row(2), copied, "a copy is up to date, settled or not");
        }
        let rate = |phase: f64| phase * 0.3 / 0.9;
        for (i, start) in start.iter().enumerate() {
            let phase = if i / 14 == 1 { 1e-4 } else { 0.01 };
            let exact = f64::from(*start) * (1.0 - rate(phase)).powi(300);
            for layer in [&eager, &lazy, &settled_at_end] {
                let found = f64::from(layer.factors()[0].b[i]);
                assert!((found - exact).abs() <= 3e-5 * exact.abs(), "{found} for {exact}");
            }
        }
        assert_eq!(lazy.factors()[0].b, settled_at_end.factors()[0].b);
    }
}

#[test]
fn what_has_faded_begins_anew_and_then_costs_nothing() {
    let mut layer = layer(Level::Context, &[shape(10, 14), shape(5, 5)], 2, LayerConfig::default());
    let fresh = layer.factors().clone();
    for tick in 1..=20 {
        let values = normal(&mut rng(tick), layer.num_parameters());
        layer.update(&whole(&values), &at(tick, 1e-3));
        layer.advance(tick);
    }
    layer.settle();
    assert!(layer.factors()[0] != fresh[0] && !layer.factors()[0].is_free(0));
    let mut tick = 20;
    while layer.factors().iter().any(|factors| (0..2).any(|j| !factors.is_free(j))) {
        tick += 1;
        layer.advance(tick);
        layer.settle();
        assert!(tick < 300_000);
    }
    assert_eq!(*layer.factors(), fresh, "A is the seed's again");
    layer.take_dirty();
    let shared = layer.factors().clone();
    layer.advance(tick + 10_000);
    layer.settle();
    assert!(layer.take_dirty().is_empty() && Arc::ptr_eq(&shared[0], &layer.factors()[0]));
}

/// A layer whose parameters see gradients of very different sizes, after some ticks.
struct Noisy {
    layer: DynamicLoraLayer,
    scales: Vec<f32>,
    tick: u64,
}

impl Noisy {
    fn new(config: LayerConfig) -> Self {
        let layer = layer(Level::Context, &[shape(40, 24), shape(24, 64)], 6, config);
        let scales = normal(&mut rng(0), layer.num_parameters()).into_iter().map(f32::exp).collect();
        Self { layer, scales, tick: 0 }
    }

    fn run(&mut self, n_ticks: u64) -> f64 {
        let mut rate = 0.0;
        for _ in 0..n_ticks {
            self.tick += 1;
            let mut values = normal(&mut rng(self.tick), self.scales.len());
            values.iter_mut().zip(&self.scales).for_each(|(value, scale)| *value *= 1e-3 * scale);
            self.layer.update(&whole(&values), &at(self.tick, 1e-2));
            self.layer.advance(self.tick);
            rate = self.layer.measure().screening_rate.unwrap_or(0.0);
        }
        rate
    }

    /// Ticks until the ratio has stayed within control's bounds for 50.
    fn ticks_to_band(&mut self) -> u64 {
        let (start, mut since) = (self.tick, self.tick);
        while self.tick < since + 50 {
            self.run(1);
            let ratio = self.layer.measure().entropy_ratio.unwrap();
            if !(0.6..1.4).contains(&ratio) {
                since = self.tick;
            }
            assert!(self.tick < start + 3000, "ratio {ratio}, threshold {}", self.layer.budget.threshold);
        }
        since - start
    }
}

#[test]
fn screening_reaches_its_band_from_anywhere_and_after_a_jump() {
    for granularity in [Granularity::Param, Granularity::Channel] {
        for initial_threshold in [1e-3, 1e-1, 1.0, 1e2, 1e4] {
            let config = LayerConfig { granularity, initial_threshold, ..LayerConfig::default() };
            let mut noisy = Noisy::new(config);
            let n_ticks = noisy.ticks_to_band();
            let rate = noisy.run(100);
            println!("{granularity:?} from {initial_threshold}: {n_ticks} ticks, then {rate:.2}");
            assert!(n_ticks < 600, "{granularity:?} from {initial_threshold}: {n_ticks} ticks");
            // Under Adam all parameters move about as much, so the share by number is nearly that by movement, which is
            // what is regulated.
            let around = if granularity == Granularity::Param { 0.35..0.75 } else { 0.3..0.8 };
            assert!(around.contains(&rate), "{granularity:?} from {initial_threshold}: {rate}");
            // Everything becomes ten times as active, and then every third parameter alone.
            noisy.scales.iter_mut().for_each(|scale| *scale *= 10.0);
            let after_all = noisy.ticks_to_band();
            noisy.scales.iter_mut().step_by(3).for_each(|scale| *scale *= 10.0);
            let after_third = noisy.ticks_to_band();
            let rate = noisy.run(100);
            println!("after jumps {after_all} and {after_third}, then {rate:.2}");
            assert!(after_all < 300 && after_third < 300 && around.contains(&rate));
        }
    }
}

#[test]
fn a_start_four_decades_off_takes_long_with_a_step_in_ten_ticks() {
    let config = LayerConfig { initial_threshold: 1e4, homeostasis_open_ticks: 10, ..LayerConfig::default() };
    let mut noisy = Noisy::new(config);
    let slow = noisy.ticks_to_band();
    println!("{slow} ticks");
    assert!(slow > 600, "{slow}: the shorter wait would have no reason");
}

#[test]
fn a_phase_lasts_at_least_its_dwell() {
    for granularity in [Granularity::Param, Granularity::Channel] {
        for dwell_ticks in [0, 3, 8] {
            let config = LayerConfig { granularity, dwell_ticks, hysteresis: 1.0, ..LayerConfig::default() };
            let mut noisy = Noisy::new(config);
            let phases = |layer: &DynamicLoraLayer| -> Vec<bool> {
                let rows = |module: &ModuleDynamics, channel: usize, is_b: bool, n: usize| -> Vec<bool> {
                    (0..n).map(|k| module.phase(channel, is_b).is_screened(k)).collect()
                };
                let of = |(factors, module): (&Arc<ModuleFactors>, &ModuleDynamics)| -> Vec<bool> {
                    let both =
                        |j| [rows(module, j, false, factors.d_in), rows(module, j, true, factors.d_out)].concat();
                    (0..factors.rank).flat_map(both).collect()
                };
                layer.factors.iter().zip(&layer.modules).flat_map(of).collect()
            };
            let (mut before, mut since) = (phases(&noisy.layer), vec![0; noisy.scales.len()]);
            let (mut n_flips, mut shortest) = (0, u64::MAX);
            for tick in 1..200 {
                noisy.run(1);
                let now = phases(&noisy.layer);
                for i in (0..now.len()).filter(|i| now[*i] != before[*i]) {
                    if since[i] > 0 {
                        shortest = shortest.min(tick - since[i]);
                    }
                    (since[i], n_flips) = (tick, n_flips + 1);
                }
                before = now;
            }
            assert!(n_flips > 0 && shortest >= u64::from(dwell_ticks), "{granularity:?} {dwell_ticks}: {shortest}");
            assert!(shortest <= u64::from(dwell_ticks.max(1)) || granularity == Granularity::Channel, "{shortest}");
        }
    }
}

#[test]
fn screened_parameters_learn_and_forget_more_slowly() {
    let config = LayerConfig { granularity: Granularity::Channel, optimizer: OptimizerKind::Sgd, ..without_use() };
    let mut layer = layer(Level::Context, &[shape(4, 6)], 2, config);
    let mut channel = layer.copy_channel(0, 0);
    channel.b.fill(1.0);
    layer.put_channel(0, 1, channel.clone());
    channel.state.credit_ticks = 100;
    layer.put_channel(0, 0, channel);
    let before = layer.factors()[0].clone();
    layer.update(&whole(&[1.0; 20]), &at(1, 1e-3));
    let moved = |j: usize| f64::from(before.b_row(j)[0] - layer.factors()[0].b_row(j)[0]);
    assert!((moved(0) / moved(1) - 0.25).abs() < 1e-3, "{} {}", moved(0), moved(1));
    let written = layer.factors()[0].clone();
    layer.advance(10);
    layer.settle();
    let lost = |j: usize| 1.0 - f64::from(layer.factors()[0].b_row(j)[0] / written.b_row(j)[0]);
    assert!((lost(1) - (1.0 - 0.99_f64.powi(10))).abs() < 1e-5 && (lost(0) - 1e-3).abs() < 1e-5);
}

#[test]
fn a_frozen_layer_recovers_while_release_is_asked_for() {
    let mut layer = layer(Level::Swarm, &[shape(8, 8)], 2, LayerConfig::default());
    let shares = [0.01; 100];
    let mut run = |ticks: std::ops::Range<u64>, shares: &[f64], release: bool| {
        for tick in ticks {
            let values = normal(&mut rng(tick), 32);
            let step = LayerStep { tick, learning_rate: 1e-4, strength: 1.0, release };
            layer.update(&LayerGradient { values: &values, usage: &[], shares }, &step);
            layer.advance(tick);
            assert!(layer.effective_inertia() < 1.0);
        }
        (layer.effective_inertia(), layer.time_constant())
    };
    run(1..100, &[1.0], false);
    let (frozen, frozen_tau) = run(100..600, &shares, false);
    assert_eq!(frozen, 0.999);
    let (released, released_tau) = run(600..800, &shares, true);
    assert!(released < 0.75 && released_tau < frozen_tau / 100.0, "{released}");
}

#[test]
fn nothing_diverges_in_a_hundred_thousand_ticks() {
    for (granularity, optimizer) in [
        (Granularity::Param, OptimizerKind::AdamW),
        (Granularity::Channel, OptimizerKind::AdamW),
        (Granularity::Param, OptimizerKind::Sgd),
    ] {
        let config = LayerConfig { granularity, optimizer, ..LayerConfig::default() };
        let mut layer = layer(Level::Agent, &[shape(5, 4)], 1, config);
        let mut rng = rng(9);
        let mut values = [0.0_f32; 9];
        for tick in 1..=100_000_u64 {
            // Mostly everyday; stretches of silence; some zeros, some huge, some tiny.
            if tick / 500 % 7 != 3 {
                for value in &mut values {
                    let scale = [0.0, 1e6, 1e-20, 1e-42, 1.0, 1e-3, 1e-3, 1e-3][rng.random_range(0..8)];
                    *value = scale * (2.0 * rng.random::<f32>() - 1.0);
                }
                if tick % 9973 == 0 {
                    values[3] = f32::MAX;
                }
                let usage = [rng.random::<f32>()];
                let step =
                    LayerStep { tick, learning_rate: 1e-3, strength: 1.0, release: rng.random_range(0..100) == 0 };
                layer.update(&LayerGradient { values: &values, usage: &usage, shares: &[0.5, 0.5] }, &step);
            }
            layer.advance(tick);
            if tick % 3 == 0 {
                layer.settle();
            }
            assert!((0.0..=0.999).contains(&layer.effective_inertia()));
        }
        let state = layer.state();
        assert!(state.tensors.iter().flat_map(|(_, values)| values).all(|x| x.is_finite()));
        assert!(state.numbers.iter().all(|(_, x)| x.is_finite()));
        let peak = layer.factors()[0].b.iter().fold(0.0_f32, |peak, b| peak.max(b.abs()));
        // Adam's steps are bounded; a plain gradient step is not, and keeps what it was given.
        let bound = if optimizer == OptimizerKind::AdamW { 1.0 } else { 1e12 };
        assert!(peak < bound, "{granularity:?} {optimizer:?}: {peak}");
    }
}

#[test]
fn private_layers_that_rest_fit_their_memory() {
    for granularity in [Granularity::Param, Granularity::Channel] {
        let shapes: Vec<ModuleShape> = (0..4).map(|_| shape(64, 96)).collect();
        let config = LayerConfig { granularity, ..LayerConfig::default() };
        let (mut bytes, mut busy, mut parameters) = (0, 0, 0);
        for agent in 0..1000 {
            let mut layer =
                DynamicLoraLayer::new(Level::Agent, AgentId(agent), &shapes, &[8; 4], 1, config.clone()).unwrap();
            // What a layer learned shows in its memory whatever the numbers were.
            let values = vec![1e-3; layer.num_parameters()];
            layer.update(&whole(&values), &at(1, 1e-3));
            busy += layer.memory_bytes();
            layer.advance(1);
            layer.advance(70);
            layer.settle();
            bytes += layer.memory_bytes();
            parameters += layer.num_parameters();
        }
        let ratio = bytes as f64 / (parameters as f64 * 4.0);
        println!("{granularity:?}: {ratio:.3} resting, {:.3} learning", busy as f64 / (parameters as f64 * 4.0));
        assert!(ratio < 1.3, "{granularity:?}: {ratio}");
    }
}

#[test]
fn the_seeds_update_is_literal() {
    let mut config = LayerConfig {
        decay: DecayMode::SeedBothFactors,
        density: DensityMode::Seed,
        entropy: EntropyMode::Seed,
        optimizer: OptimizerKind::Sgd,
        granularity: Granularity::Param,
        screened_rate: 1.0,
        rank_exponent: Some(0.0),
        dwell_ticks: 0,
        hysteresis: 1.0,
        density_scale: Some(50.0),
        activity_beta: 0.0,
        ..LayerConfig::default()
    };
    config.mechanisms.homeostasis = false;
    let mut layer = layer(Level::Agent, &[shape(5, 7)], 2, config);
    let values = normal(&mut rng(3), 14);
    layer.factors_mut(0).b.copy_from_slice(&values);
    let initial = layer.factors()[0].clone();
    let mut a: Vec<f64> = initial.a.iter().chain(&initial.b).map(|x| f64::from(*x)).collect();
    let start: Vec<f64> = initial.a.iter().map(|x| f64::from(*x)).chain([0.0; 14]).collect();
    let mut screened = [false; 24];
    let mut frequency = 0.0;
    for tick in 1..=5 {
        let gradient = normal(&mut rng(10 + tick), 24);
        // learning_rate = 1 - effective_inertia, downhill; then drift to the start by the phase of the time.
        let gradient_norm = norm(normal(&mut rng(9 + tick), 24).into_iter().map(f64::from));
        let inertia = if tick == 1 { 0.5 } else { 0.5 + 0.5 * (gradient_norm * frequency / 50.0).tanh() };
        let activity: Vec<f64> = a.iter().zip(&gradient).map(|(a, g)| (a * f64::from(*g)).abs()).collect();
        for i in 0..24 {
            a[i] -= (1.0 - inertia) * 0.1 * f64::from(gradient[i]);
        }
        let mean = layer.modules[0].mean_activity;
        for i in 0..24 {
            if mean > 0.0 {
                screened[i] = activity[i] > mean;
            }
            let rate = if screened[i] { 1e-4 } else { 0.01 };
            a[i] = a[i] * (1.0 - rate) + start[i] * rate;
        }
        layer.update(&whole(&gradient), &at(tick, 0.1));
        layer.advance(tick);
        frequency = 1.0;
        let found = layer.factors()[0].a.iter().chain(&layer.factors()[0].b);
        for (found, exact) in found.zip(&a) {
            assert!((f64::from(*found) - exact).abs() < 1e-5, "tick {tick}: {found} for {exact}");
        }
    }
    // sum of dispersion_rate x variance, the variance about the start.
    let exact: f64 = (0..24).map(|i| if screened[i] { 1e-4 } else { 0.01 } * (a[i] - start[i]).powi(2)).sum();
    assert!((layer.seed_entropy() - exact).abs() < 1e-6 * exact.max(1e-3));
}

#[test]
fn each_mechanism_can_be_switched_off() {
    let off = |switch: fn(&mut crate::Mechanisms)| {
        let mut config = LayerConfig::default();
        switch(&mut config.mechanisms);
        let mut noisy = Noisy::new(config);
        noisy.run(40);
        noisy.layer
    };
    let screening = |layer: &DynamicLoraLayer| layer.measure().screening_rate;
    let all = off(|_| ());
    assert!(screening(&all) > Some(0.0) && all.effective_inertia() > 0.5 && all.budget.threshold != 1.0);
    assert_eq!(screening(&off(|m| m.screening = false)), None, "nothing to have a share of");
    assert_eq!(off(|m| m.inertia = false).effective_inertia(), 0.1);
    assert_eq!(off(|m| m.homeostasis = false).budget.threshold, 1.0);
    let mut still = off(|m| m.decay = false);
    let before = still.factors().clone();
    still.advance(10_000);
    still.settle();
    assert_eq!(*still.factors(), before);
    assert!(still.time_constant().is_finite(), "the pace of inertia, whether or not anything decays by it");
}
