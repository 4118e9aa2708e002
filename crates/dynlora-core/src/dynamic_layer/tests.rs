//! What a layer promises, measured from outside.

use krystal_math::rng::{Purpose, StreamRng, stream_rng};
use rand::RngExt;

use super::*;
use crate::OptimizerKind;

mod dynamics;
mod transfer;

fn shape(d_in: usize, d_out: usize) -> ModuleShape {
    ModuleShape { name: format!("m{d_in}x{d_out}"), d_in, d_out }
}

fn layer(level: Level, shapes: &[ModuleShape], rank: usize, config: LayerConfig) -> DynamicLoraLayer {
    DynamicLoraLayer::new(level, AgentId(7), shapes, &vec![rank; shapes.len()], 11, config).unwrap()
}

fn rng(index: u64) -> StreamRng {
    stream_rng(5, Purpose::Task, 1, index)
}

/// Sums of twelve uniform numbers less six: nearly normal.
fn normal(rng: &mut StreamRng, n: usize) -> Vec<f32> {
    (0..n).map(|_| (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0).collect()
}

fn at(tick: u64, learning_rate: f64) -> LayerStep {
    LayerStep { tick, learning_rate, strength: 1.0, release: false }
}

fn whole(values: &[f32]) -> LayerGradient<'_> {
    LayerGradient { values, usage: &[], shares: &[1.0] }
}

/// `dW`, `(d_out, d_in)`.
fn delta(factors: &ModuleFactors) -> Vec<f64> {
    let mut delta = vec![0.0; factors.d_out * factors.d_in];
    for j in 0..factors.rank {
        for (row, b) in delta.chunks_exact_mut(factors.d_in).zip(factors.b_row(j)) {
            for (sum, a) in row.iter_mut().zip(factors.a_row(j)) {
                *sum += f64::from(*b) * f64::from(*a);
            }
        }
    }
    delta
}

fn norm(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Gradients of the factors from `G = dL/dW`, `(d_out, d_in)`.
fn factor_gradient(factors: &ModuleFactors, g: &[f64]) -> Vec<f32> {
    let mut values = Vec::new();
    for j in 0..factors.rank {
        let b = factors.b_row(j);
        values.extend(
            (0..factors.d_in)
                .map(|k| (0..factors.d_out).map(|i| f64::from(b[i]) * g[i * factors.d_in + k]).sum::<f64>() as f32),
        );
    }
    for j in 0..factors.rank {
        let a = factors.a_row(j);
        values.extend(
            g.chunks_exact(factors.d_in)
                .map(|row| row.iter().zip(a).map(|(g, a)| g * f64::from(*a)).sum::<f64>() as f32),
        );
    }
    values
}

#[test]
fn a_fresh_layer_adds_nothing_and_time_does_not_touch_it() {
    let shapes = [shape(12, 20), shape(9, 5)];
    let mut layer = layer(Level::Agent, &shapes, 2, LayerConfig::default());
    assert_eq!(layer.take_dirty(), [0, 1]);
    let before = layer.factors().clone();
    for tick in 1..500 {
        layer.advance(tick);
        layer.settle();
    }
    assert!(layer.take_dirty().is_empty());
    for (before, after) in before.iter().zip(layer.factors()) {
        assert!(Arc::ptr_eq(before, after) && after.b.iter().all(|b| b.to_bits() == 0));
    }
}

#[test]
fn it_learns_a_matrix_of_its_rank() {
    for (optimizer, rate) in [(OptimizerKind::AdamW, 0.02), (OptimizerKind::Sgd, 0.02)] {
        let mut config = LayerConfig { optimizer, ..LayerConfig::default() };
        config.mechanisms.decay = false;
        let mut layer = layer(Level::Context, &[shape(16, 24)], 4, config);
        let mut rng = rng(1);
        let (u, v) = (normal(&mut rng, 24 * 2), normal(&mut rng, 2 * 16));
        let target: Vec<f64> = (0..24 * 16)
            .map(|at| (0..2).map(|j| 0.3 * f64::from(u[at / 16 * 2 + j] * v[j * 16 + at % 16])).sum())
            .collect();
        let miss = |layer: &DynamicLoraLayer| -> Vec<f64> {
            delta(&layer.factors()[0]).iter().zip(&target).map(|(w, t)| w - t).collect()
        };
        let before = norm(miss(&layer));
        for tick in 1..=1500 {
            let gradient = factor_gradient(&layer.factors()[0], &miss(&layer));
            layer.update(&whole(&gradient), &at(tick, rate));
            layer.advance(tick);
        }
        let after = norm(miss(&layer));
        assert!(after < 0.1 * before, "{optimizer:?}: {after} of {before}");
    }
}

#[test]
fn a_restored_layer_goes_on_bit_for_bit() {
    for (granularity, optimizer) in [
        (Granularity::Param, OptimizerKind::AdamW),
        (Granularity::Channel, OptimizerKind::AdamW),
        (Granularity::Param, OptimizerKind::Sgd),
    ] {
        let config = LayerConfig { granularity, optimizer, moments_idle_ticks: 20, ..LayerConfig::default() };
        let shapes = [shape(13, 6), shape(8, 17)];
        let fresh = || layer(Level::Agent, &shapes, 3, config.clone());
        let mut one = fresh();
        let n = one.num_parameters();
        let run = |layer: &mut DynamicLoraLayer, ticks: std::ops::Range<u64>| {
            for tick in ticks {
                // Busy, then idle long enough to drop its moments, then busy again.
                if !(60..90).contains(&tick) {
                    let values = normal(&mut rng(tick), n);
                    let mut step = at(tick, 1e-2);
                    step.release = tick % 7 == 0;
                    let usage = [0.3, 0.0, 2.0, 1.0, 1e-3, 1.0];
                    layer.update(&LayerGradient { values: &values, usage: &usage, shares: &[0.3, 0.7] }, &step);
                }
                if tick == 30 {
                    layer.reset_channel(1, 2);
                    let mut channel = layer.copy_channel(0, 1);
                    channel.state.credit_ticks = 9;
                    layer.put_channel(0, 2, channel);
                    layer.pin_channel(0, 0, true);
                }
                layer.advance(tick);
                if tick % 5 == 0 {
                    layer.settle();
                }
            }
        };
        for stop in [1, 10, 33, 65, 85, 95] {
            let mut until = fresh();
            run(&mut until, 1..stop);
            let text = serde_json::to_string(&until.state()).unwrap();
            let mut resumed = fresh();
            resumed.restore(&serde_json::from_str(&text).unwrap()).unwrap();
            assert_eq!(resumed.state(), until.state());
            run(&mut resumed, stop..130);
            run(&mut until, stop..130);
            assert_eq!(resumed.state(), until.state(), "{granularity:?} {optimizer:?} from {stop}");
        }
        run(&mut one, 1..130);
    }
}

#[test]
fn a_state_of_another_layer_is_refused_and_changes_nothing() {
    let shapes = [shape(13, 6)];
    let mut mine = layer(Level::Agent, &shapes, 3, LayerConfig::default());
    mine.update(&whole(&normal(&mut rng(0), 57)), &at(1, 1e-2));
    let before = mine.state();
    let refuse = |state: SavedState, what: &str| {
        let mut mine = mine.clone();
        let message = mine.restore(&state).unwrap_err().to_string();
        assert!(message.contains(&format!("`{what}`")), "{message}");
        assert_eq!(mine.state(), before);
    };
    refuse(layer(Level::Context, &shapes, 3, LayerConfig::default()).state(), "level");
    refuse(layer(Level::Agent, &shapes, 2, LayerConfig::default()).state(), "0.a");
    let mut state = before.clone();
    state.tensors.retain(|(name, _)| name != "0.second");
    refuse(state, "0.second");
    let mut state = before.clone();
    state.numbers.iter_mut().find(|(name, _)| name == "threshold").unwrap().1 = f64::NAN;
    refuse(state, "threshold");
    let mut state = before.clone();
    state.tensors.push(("0.surplus".to_owned(), vec![]));
    refuse(state, "0.surplus");
    let mut state = before.clone();
    state.numbers.iter_mut().find(|(name, _)| name == "inertia.n_samples").unwrap().1 = 1e15;
    refuse(state, "inertia.sample.0");
}
