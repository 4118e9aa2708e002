use dynlora_core::{Error, LoraAdapter, LoraConfig, TargetModules};

use crate::{shape, shapes};

fn names(names: &[&str]) -> TargetModules {
    TargetModules::Names(names.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn a_is_uniform_within_its_bound_and_b_is_zero() {
    // 40,000 draws of U(-c, c): mean 0 with deviation c / sqrt(3 * 40000), variance c^2/3 with relative deviation
    // sqrt(4/5) / sqrt(40000). Five deviations each: a false alarm once in a million seeds, and the seed is fixed.
    let (d_in, rank) = (400, 100);
    let config = LoraConfig { r: rank, ..LoraConfig::default() };
    let adapter = LoraAdapter::new(config, &[shape("m.q_proj", d_in, 3)], 42).unwrap();
    let module = &adapter.modules[0];
    let bound = 1.0 / (d_in as f64).sqrt();
    let n = module.a.len() as f64;
    assert_eq!(module.a.len(), rank * d_in);
    assert!(module.a.iter().all(|a| f64::from(a.abs()) <= bound));
    assert!(module.a.iter().any(|a| f64::from(*a) > 0.999 * bound));
    assert!(module.a.iter().any(|a| f64::from(*a) < -0.999 * bound));
    let mean = module.a.iter().map(|a| f64::from(*a)).sum::<f64>() / n;
    let variance = module.a.iter().map(|a| f64::from(*a).powi(2)).sum::<f64>() / n;
    assert!(mean.abs() < 5.0 * bound / (3.0 * n).sqrt(), "{mean}");
    assert!((variance / (bound * bound / 3.0) - 1.0).abs() < 5.0 * (0.8 / n).sqrt(), "{variance}");
    assert_eq!(module.b, vec![0.0; 3 * rank]);
}

#[test]
fn factors_depend_on_seed_and_module_and_on_nothing_else() {
    let shapes = shapes();
    let all = LoraAdapter::new(LoraConfig::default(), &shapes, 1).unwrap();
    let config = LoraConfig { target_modules: names(&["down_proj"]), ..LoraConfig::default() };
    let some = LoraAdapter::new(config.clone(), &shapes, 1).unwrap();
    assert_eq!(some.modules.len(), 2);
    for module in &some.modules {
        assert_eq!(all.module(&module.name), Some(module));
    }
    let again = LoraAdapter::new(config.clone(), &shapes, 1).unwrap();
    assert_eq!(again, some);
    let other = LoraAdapter::new(config, &shapes, 2).unwrap();
    assert_ne!(other.modules[0].a, some.modules[0].a);
    assert_ne!(some.modules[0].a, some.modules[1].a);
}

#[test]
fn draws_are_frozen() {
    // A change here changes the results of recorded runs and is value-breaking.
    let adapter = LoraAdapter::new(LoraConfig { r: 1, ..LoraConfig::default() }, &[shape("q", 4, 2)], 7).unwrap();
    let bits: Vec<u32> = adapter.modules[0].a.iter().map(|a| a.to_bits()).collect();
    assert_eq!(bits, [0x3de3_e848, 0x3ed1_8156, 0xbdb7_8608, 0x3d97_a600]);
}

#[test]
fn targets_choose_modules_and_patterns_choose_ranks() {
    let shapes = shapes();
    let config = LoraConfig {
        r: 2,
        lora_alpha: 6.0,
        target_modules: TargetModules::Regex(r".*\.layers\.1\..*(q|up)_proj".to_owned()),
        rank_pattern: [("up_proj".to_owned(), 3)].into_iter().collect(),
        alpha_pattern: [(r"layers\.1\..*q_proj".to_owned(), 1.0)].into_iter().collect(),
        ..LoraConfig::default()
    };
    let adapter = LoraAdapter::new(config, &shapes, 1).unwrap();
    let found: Vec<_> = adapter.modules.iter().map(|m| (m.name.as_str(), m.rank, m.scale)).collect();
    assert_eq!(found, [("model.layers.1.self_attn.q_proj", 2, 0.5), ("model.layers.1.mlp.up_proj", 3, 2.0)]);
    assert_eq!(adapter.num_parameters(), 2 * (7 + 10) + 3 * (7 + 13));
}

#[test]
fn targets_that_name_nothing_are_refused_with_what_there_is() {
    let new = |targets| {
        LoraAdapter::new(LoraConfig { target_modules: targets, ..LoraConfig::default() }, &shapes(), 1).unwrap_err()
    };
    let message = "target module `v_proj` is not in the model, which has: q_proj, k_proj, up_proj, down_proj";
    assert_eq!(new(names(&["q_proj", "v_proj"])).to_string(), message);
    assert!(matches!(new(names(&[])), Error::NothingTargeted { .. }));
    assert!(matches!(new(TargetModules::Regex("q_proj".into())), Error::NothingTargeted { .. }));
    assert!(matches!(new(TargetModules::Regex("q_(proj".into())), Error::Pattern { .. }));
}

#[test]
fn a_configuration_survives_json_and_refuses_unknown_keys() {
    let config = LoraConfig {
        target_modules: names(&["q_proj"]),
        alpha_pattern: [("b".to_owned(), 1.5), ("a".to_owned(), 2.0)].into_iter().collect(),
        ..LoraConfig::default()
    };
    let text = serde_json::to_string(&config).unwrap();
    assert!(text.contains(r#""target_modules":["q_proj"]"#) && text.contains(r#"{"b":1.5,"a":2.0}"#), "{text}");
    assert_eq!(serde_json::from_str::<LoraConfig>(&text).unwrap(), config);
    assert_eq!(serde_json::from_str::<LoraConfig>("{}").unwrap(), LoraConfig::default());
    let targets = r#"{"r":16,"lora_alpha":32,"target_modules":"all-linear"}"#;
    assert_eq!(serde_json::from_str::<LoraConfig>(targets).unwrap().scale(), 2.0);
    assert!(serde_json::from_str::<LoraConfig>(r#"{"rank":16}"#).is_err());

    // The same through an encoding that does not describe itself.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    krystal_checkpoint::save(&path, "lora-config", 1, &config).unwrap();
    assert_eq!(krystal_checkpoint::load::<LoraConfig>(&path, "lora-config", 1).unwrap(), config);
}
