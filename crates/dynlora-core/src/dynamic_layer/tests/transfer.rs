//! Channels that are taken out and put back, pinned, begun anew; and steps that are guided.

use super::*;

fn trained(level: Level, granularity: Granularity, optimizer: OptimizerKind) -> DynamicLoraLayer {
    let config = LayerConfig { granularity, optimizer, ..LayerConfig::default() };
    let mut layer = layer(level, &[shape(13, 6), shape(8, 17)], 3, config);
    for tick in 1..40 {
        let values = normal(&mut rng(tick), layer.num_parameters());
        layer.update(&whole(&values), &at(tick, 1e-3));
        layer.advance(tick);
    }
    layer
}

const KINDS: [(Granularity, OptimizerKind); 4] = [
    (Granularity::Param, OptimizerKind::AdamW),
    (Granularity::Param, OptimizerKind::Sgd),
    (Granularity::Channel, OptimizerKind::AdamW),
    (Granularity::Channel, OptimizerKind::Sgd),
];

#[test]
fn a_channel_put_back_leaves_the_layer_as_it_was() {
    for (granularity, optimizer) in KINDS {
        let mut layer = trained(Level::Agent, granularity, optimizer);
        (0..2).for_each(|module| layer.settle_module(module));
        let before = layer.state();
        for (module, channel) in [(0, 0), (0, 2), (1, 1)] {
            let copy = layer.copy_channel(module, channel);
            layer.reset_channel(module, channel);
            assert_ne!(layer.state(), before);
            layer.put_channel(module, channel, copy);
            // How often it was begun anew is the layer's own count.
            layer.modules[module].channels[channel].generation = 0;
            assert_eq!(layer.state(), before, "{granularity:?} {optimizer:?}");
        }
    }
}

#[test]
fn a_channel_carries_what_belongs_to_it_into_a_layer_of_any_kind() {
    for (granularity, optimizer) in KINDS {
        let from = trained(Level::Context, granularity, optimizer);
        for (granularity, optimizer) in KINDS {
            let mut to = trained(Level::Agent, granularity, optimizer);
            let mut channel = from.copy_channel(1, 2);
            channel.state.credit_ticks = 30;
            to.put_channel(1, 0, channel.clone());
            let arrived = to.copy_channel(1, 0);
            assert_eq!((&arrived.a, &arrived.b), (&channel.a, &channel.b));
            assert!((arrived.state.activity / channel.state.activity - 1.0).abs() < 1e-5);
            assert!(arrived.state.is_screened && arrived.state.credit_ticks == 30);
            // It stays SCREENED while it has credit, whatever its activity.
            for tick in 40..69 {
                let values = vec![0.0; to.num_parameters()];
                to.update(&whole(&values), &at(tick, 1e-3));
                assert!(to.channel(1, 0).is_screened);
                to.advance(tick);
            }
            assert_eq!(to.channel(1, 0).credit_ticks, 1);
        }
    }
}

#[test]
fn a_channel_of_unknown_luggage_begins_without_moments() {
    let mut layer = trained(Level::Agent, Granularity::Param, OptimizerKind::AdamW);
    let mut channel = layer.copy_channel(0, 0);
    for odd in [vec![], vec![1.0; 3], vec![7.0; 50], vec![f32::NAN; 9], vec![99.0, 0.0, 0.0, 0.0, 0.0]] {
        channel.moments = odd;
        layer.put_channel(0, 0, channel.clone());
        let module = &layer.modules[0];
        assert_eq!(module.channels[0].n_steps, 0);
        assert!(module.moments.as_ref().unwrap().first[..13].iter().all(|m| *m == 0.0));
        assert!(layer.state().tensors.iter().flat_map(|(_, values)| values).all(|x| x.is_finite()));
    }
}

#[test]
fn a_reset_channel_draws_its_next_row() {
    let mut layer = trained(Level::Agent, Granularity::Param, OptimizerKind::AdamW);
    layer.take_dirty();
    layer.reset_channel(1, 2);
    assert_eq!(layer.take_dirty(), [1]);
    let expected: Vec<f32> = initial_row(8, layer.address(1), 2, 1).collect();
    assert_eq!(layer.factors()[1].a_row(2), expected);
    assert!(layer.factors()[1].is_free(2) && layer.channel(1, 2).generation == 1);
    layer.reset_channel(1, 2);
    assert_ne!(layer.factors()[1].a_row(2), expected);
}

#[test]
fn a_pinned_row_of_a_stands_still() {
    for (granularity, optimizer) in KINDS {
        let mut layer = trained(Level::Agent, granularity, optimizer);
        layer.pin_channel(0, 1, true);
        let before = layer.factors()[0].clone();
        let values = normal(&mut rng(99), layer.num_parameters());
        layer.update(&whole(&values), &at(40, 1e-2));
        let after = &layer.factors()[0];
        assert_eq!(after.a_row(1), before.a_row(1));
        assert!(after.b_row(1) != before.b_row(1) && after.a_row(0) != before.a_row(0));
    }
}

#[test]
fn a_guide_that_changes_nothing_changes_no_bit_and_one_that_projects_keeps_a_direction() {
    for (granularity, optimizer) in KINDS {
        let layer = trained(Level::Agent, granularity, optimizer);
        let values = normal(&mut rng(77), layer.num_parameters());
        let (gradient, step) = (whole(&values), at(40, 1e-2));
        let mut plain = layer.clone();
        plain.update(&gradient, &step);
        let mut guided = layer.clone();
        let guide = StepGuide { channel_rates: &[1.0; 6], project_a: Some(&|_, _, _| ()), mix_b: None };
        guided.update_guided(&gradient, &step, &guide);
        assert_eq!(guided.state(), plain.state());

        // Rows of A move at right angles to q, and one channel not at all.
        let q = |k: usize| (k as f32 * 0.7).sin();
        let project = |_: usize, _: usize, row: &mut [f32]| {
            let n2: f32 = (0..row.len()).map(|k| q(k) * q(k)).sum();
            let along: f32 = row.iter().enumerate().map(|(k, x)| x * q(k)).sum::<f32>() / n2;
            row.iter_mut().enumerate().for_each(|(k, x)| *x -= along * q(k));
        };
        let mut guided = layer.clone();
        guided.config.screened_rate = 1.0;
        let guide =
            StepGuide { channel_rates: &[1.0, 1.0, 0.0, 1.0, 1.0, 1.0], project_a: Some(&project), mix_b: None };
        guided.update_guided(&gradient, &step, &guide);
        for j in 0..3 {
            let moved: Vec<f32> =
                layer.factors()[0].a_row(j).iter().zip(guided.factors()[0].a_row(j)).map(|(a, b)| a - b).collect();
            let size = norm(moved.iter().map(|x| f64::from(*x)));
            let along: f64 = moved.iter().enumerate().map(|(k, x)| f64::from(x * q(k))).sum();
            assert!(along.abs() <= 1e-4 * size + 1e-7, "{along} of {size}");
            assert_eq!(size == 0.0, j == 2);
        }
    }
}

#[test]
fn half_the_strength_goes_half_as_far() {
    for (granularity, optimizer) in KINDS {
        let far = |strength: f64| {
            let config = LayerConfig { granularity, optimizer, ..LayerConfig::default() };
            let mut layer = layer(Level::Agent, &[shape(13, 6)], 3, config);
            let mut far = 0.0;
            for tick in 1..100 {
                let values = normal(&mut rng(tick), layer.num_parameters());
                let mut step = at(tick, 1e-4);
                step.strength = strength;
                far += layer.update(&whole(&values), &step).parameter_change;
            }
            far
        };
        let ratio = far(0.5) / far(1.0);
        assert!((ratio - 0.5).abs() < 0.05, "{granularity:?} {optimizer:?}: {ratio}");
    }
}
