use dynlora_core::{Error, LoraConfig};
use krystal_math::rng::{Purpose, stream_rng};
use rand::RngExt;

use crate::{shapes, trained};

/// `y = W x + scale * B (A x)`, the definition, in f64.
fn unmerged(w: &[f32], module: &dynlora_core::LoraModule, x: &[f64], scale: f64) -> Vec<f64> {
    let dot = |row: &[f32], x: &[f64]| row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum::<f64>();
    let h: Vec<f64> = (0..module.rank).map(|k| dot(&module.a[k * module.d_in..][..module.d_in], x)).collect();
    (0..module.d_out)
        .map(|o| {
            let base = dot(&w[o * module.d_in..][..module.d_in], x);
            let update = dot(&module.b[o * module.rank..][..module.rank], &h);
            base + scale * update
        })
        .collect()
}

#[test]
fn merged_equals_unmerged_for_alpha_other_than_rank() {
    for (r, alpha, use_rslora, scale) in
        [(3, 10.0, false, 10.0 / 3.0), (1, 0.25, false, 0.25), (5, 2.0, true, 2.0 / 5.0_f64.sqrt())]
    {
        let config = LoraConfig { r, lora_alpha: alpha, use_rslora, ..LoraConfig::default() };
        let adapter = trained(config, &shapes(), 11);
        let mut rng = stream_rng(3, Purpose::Weights, 100, 0);
        for module in &adapter.modules {
            assert_ne!(module.d_in, module.d_out);
            let w: Vec<f32> = (0..module.d_in * module.d_out).map(|_| rng.random_range(-1.0..1.0)).collect();
            let x: Vec<f64> = (0..module.d_in).map(|_| rng.random_range(-1.0..1.0)).collect();
            let mut merged = w.clone();
            module.merge_into(&mut merged).unwrap();
            assert_ne!(merged, w);
            let expected = unmerged(&w, module, &x, scale);
            for (o, expected) in expected.iter().enumerate() {
                let row = &merged[o * module.d_in..][..module.d_in];
                let y: f64 = row.iter().zip(&x).map(|(w, x)| f64::from(*w) * x).sum();
                // One rounding of each merged weight (|w| < 8, half an ulp is 2.4e-7) times 13 terms, and the scale's own.
                assert!((y - expected).abs() < 5e-6, "{} r={r}: {y} {expected}", module.name);
            }
            let delta = module.delta();
            for ((w, merged), delta) in w.iter().zip(&merged).zip(&delta) {
                assert!((f64::from(*merged) - f64::from(*w) - f64::from(*delta)).abs() < 1e-6);
            }
        }
    }
}

#[test]
fn a_zero_b_changes_no_bit() {
    let adapter = dynlora_core::LoraAdapter::new(LoraConfig::default(), &shapes(), 5).unwrap();
    for module in &adapter.modules {
        let mut weight: Vec<f32> = (0..module.d_in * module.d_out).map(|i| (i as f32).sin()).collect();
        weight[0] = -0.0;
        let before: Vec<u32> = weight.iter().map(|weight| weight.to_bits()).collect();
        module.merge_into(&mut weight).unwrap();
        assert_eq!(weight.iter().map(|weight| weight.to_bits()).collect::<Vec<_>>(), before);
        assert!(module.delta().iter().all(|value| *value == 0.0));
    }
}

#[test]
fn an_adapter_merges_into_named_weights_and_misses_none() {
    let shapes = shapes();
    let adapter = trained(LoraConfig { r: 2, ..LoraConfig::default() }, &shapes, 1);
    let mut weights: Vec<Vec<f32>> = shapes.iter().map(|shape| vec![1.0; shape.d_in * shape.d_out]).collect();
    let mut other = vec![1.0_f32; 3];
    {
        let named = shapes.iter().map(|shape| shape.name.as_str()).zip(weights.iter_mut().map(Vec::as_mut_slice));
        adapter.merge_into(named.chain([("lm_head", other.as_mut_slice())])).unwrap();
    }
    assert_eq!(other, [1.0; 3]);
    for (weight, module) in weights.iter().zip(&adapter.modules) {
        for (weight, delta) in weight.iter().zip(module.delta()) {
            assert!((weight - 1.0 - delta).abs() < 1e-6);
        }
    }
    let named = shapes.iter().skip(1).map(|shape| shape.name.as_str());
    let error = adapter.merge_into(named.zip(weights.iter_mut().skip(1).map(Vec::as_mut_slice))).unwrap_err();
    assert!(matches!(error, Error::MissingWeight { module } if module == shapes[0].name));
    assert!(matches!(adapter.modules[0].merge_into(&mut [0.0; 3]), Err(Error::Module { .. })));
}
