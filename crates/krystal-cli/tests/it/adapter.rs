use crate::krystal::krystal;
use crate::tiny_model::TinyModel;

#[test]
fn inspect_tells_ranks_scales_and_norms() {
    let tiny = TinyModel::new();
    let answer = krystal(&["adapter", "inspect", &tiny.adapter(), "--json"]).json();
    let modules = answer["modules"].as_array().unwrap();
    assert_eq!(modules.len(), 14);
    let ranks: Vec<u64> = modules.iter().map(|m| m["rank"].as_u64().unwrap()).collect();
    assert_eq!(ranks.iter().filter(|r| **r == 5).count(), 1);
    for module in modules {
        let scale = 12.0 / module["rank"].as_f64().unwrap();
        assert!((module["scale"].as_f64().unwrap() - scale).abs() < 1e-6);
        for norm in ["norm_a", "norm_b", "norm_update"] {
            assert!(module[norm].as_f64().unwrap() > 0.0);
        }
    }
    let text = krystal(&["adapter", "inspect", &tiny.adapter()]).stdout;
    assert!(text.contains("model.layers.1.self_attn.q_proj") && text.contains("r 3, alpha 12"), "{text}");
}

#[test]
fn merged_and_exported_adapters_say_what_the_adapter_says() {
    let tiny = TinyModel::new();
    let (model, adapter) = (tiny.model(), tiny.adapter());
    let verified = krystal(&["adapter", "verify", "--model", &model, "--adapter", &adapter, "--json"]).json();
    assert!(verified["max_relative_difference"].as_f64().unwrap() <= 1e-4);
    assert!(verified["max_effect"].as_f64().unwrap() > 0.1);
    let (merged, plain) = (tiny.path("merged"), tiny.path("plain"));
    krystal(&["adapter", "merge", "--model", &model, "--adapter", &adapter, "--out", &merged, "--json"]).json();
    krystal(&["adapter", "export", &adapter, "--out", &plain, "--json"]).json();
    let score = |more: &[&str]| {
        let scored = krystal(&[&["score", "--ids", "9,8,7,6,5,4,3", "--json"], more].concat()).json();
        crate::krystal::numbers(&scored["log_probs"])
    };
    let expected = score(&["--model", &model, "--adapter", &adapter]);
    for other in [score(&["--model", &merged]), score(&["--model", &model, "--adapter", &plain])] {
        for (x, y) in expected.iter().flatten().zip(other.iter().flatten()) {
            assert!((x - y).abs() < 1e-4, "{x} {y}");
        }
    }
    assert_ne!(expected, score(&["--model", &model]));
    // The template came along.
    let said = krystal(&["generate", "--model", &merged, "--chat", "hello", "--max-new-tokens", "2"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let config: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(tiny.folder.path().join("plain/adapter_config.json")).unwrap())
            .unwrap();
    assert_eq!((config["r"].as_u64(), config["lora_alpha"].as_f64()), (Some(5), Some(5.0)));
    assert_eq!(config["base_model_name_or_path"], "the/base");
    assert_eq!(config["rank_pattern"], serde_json::json!({}));
    // Nothing is overwritten.
    krystal(&["adapter", "merge", "--model", &model, "--adapter", &adapter, "--out", &model]).fails(1, &["--out"]);
    krystal(&["adapter", "export", &adapter, "--out", &plain]).fails(1, &["--out"]);
}

#[test]
fn verify_refuses_an_adapter_that_is_not_finite() {
    let tiny = TinyModel::new();
    // One factor of the file is made NaN: the data begins after the header, whose length comes first.
    let path = tiny.folder.path().join("adapter/adapter_model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[data..data + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    krystal(&["adapter", "verify", "--model", &tiny.model(), "--adapter", &tiny.adapter()])
        .fails(1, &["NaN", "module"]);
}
