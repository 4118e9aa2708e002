use std::fs;
use std::path::Path;

use dynlora_core::{CONFIG_FILE, Error, LoraAdapter, LoraConfig, TENSORS_FILE, TargetModules, stored_shapes};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::{shape, shapes, trained};

fn saved() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    trained(LoraConfig::default(), &shapes(), 3).save(directory.path(), None).unwrap();
    directory
}

fn with_field(directory: &Path, field: &str, value: &Value) -> Result<LoraAdapter, Error> {
    let path = directory.join(CONFIG_FILE);
    let before = fs::read(&path).unwrap();
    let mut config: Value = serde_json::from_slice(&before).unwrap();
    config[field] = value.clone();
    fs::write(&path, config.to_string()).unwrap();
    let result = LoraAdapter::load(directory, &shapes());
    fs::write(&path, before).unwrap();
    result
}

#[test]
fn fields_that_change_the_model_are_refused_by_name_and_value() {
    let directory = saved();
    let cases = [
        ("peft_type", json!("IA3")),
        ("peft_type", Value::Null),
        ("task_type", json!("SEQ_CLS")),
        ("bias", json!("lora_only")),
        ("use_dora", json!(true)),
        ("lora_bias", json!(true)),
        ("fan_in_fan_out", json!(true)),
        ("modules_to_save", json!(["lm_head"])),
        ("layer_replication", json!([[0, 2], [1, 3]])),
        ("trainable_token_indices", json!([1, 2])),
        ("target_parameters", json!(["mlp.experts"])),
        ("init_lora_weights", json!("pissa_niter_16")),
        ("init_lora_weights", json!("olora")),
        ("init_lora_weights", json!("corda")),
        ("init_lora_weights", json!("loftq")),
        ("init_lora_weights", json!("lora_ga")),
        ("use_qalora", json!(true)),
        ("kasa_config", json!({"beta": 1})),
        ("alora_invocation_tokens", json!([5])),
        ("a_field_of_the_future", json!(3)),
        ("target_modules", json!(["q_proj", "lm_head"])),
        ("target_modules", json!(["model.embed_tokens"])),
    ];
    for (field, value) in cases {
        let error = with_field(directory.path(), field, &value).unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, Error::Unsupported { .. }), "{field}: {message}");
        assert!(message.contains(&format!("`{field}`")) && message.contains(CONFIG_FILE), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
    for (field, value) in [
        ("use_dora", json!(false)),
        ("modules_to_save", json!([])),
        ("init_lora_weights", json!("gaussian")),
        ("lora_dropout", json!(0.1)),
        ("peft_version", json!("0.9")),
        ("task_type", Value::Null),
    ] {
        with_field(directory.path(), field, &value).unwrap();
    }
}

#[test]
fn fields_of_the_wrong_kind_are_named() {
    let directory = saved();
    for (field, value) in [
        ("r", json!(-3)),
        ("r", json!("8")),
        ("r", json!(0)),
        ("r", json!(1e9)),
        ("lora_alpha", json!("16")),
        ("lora_alpha", json!(0)),
        ("use_rslora", json!(1)),
        ("rank_pattern", json!([4])),
        ("rank_pattern", json!({"q_proj": 0})),
        ("alpha_pattern", json!({"q_proj": null})),
        ("target_modules", json!(7)),
        ("target_modules", json!(["q_proj", 7])),
        ("target_modules", Value::Null),
    ] {
        let error = with_field(directory.path(), field, &value).unwrap_err();
        let message = error.to_string();
        let Error::InFile { path, inner } = error else { panic!("{field}: {message}") };
        assert!(matches!(*inner, Error::Field { .. }) && path.ends_with(CONFIG_FILE), "{field}: {message}");
        assert!(message.contains(&format!("`{field}`")), "{field}: {message}");
    }
    let error = with_field(directory.path(), "target_modules", &json!("(q_proj")).unwrap_err();
    assert!(matches!(&error, Error::InFile { inner, .. } if matches!(**inner, Error::Pattern { .. })), "{error}");
    let error = with_field(directory.path(), "target_modules", &json!(["gate_proj"])).unwrap_err();
    assert!(matches!(error, Error::StrayTensor { expected: "targeted", .. }), "{error}");
    let error = with_field(directory.path(), "r", &json!(4)).unwrap_err();
    assert!(matches!(&error, Error::Shape { expected: [4, _], .. }), "{error}");

    fs::write(directory.path().join(CONFIG_FILE), "[1, 2").unwrap();
    let error = LoraAdapter::load(directory.path(), &shapes()).unwrap_err();
    assert!(matches!(error, Error::ConfigSyntax { .. }), "{error}");
    fs::write(directory.path().join(CONFIG_FILE), "{}").unwrap();
    assert!(LoraAdapter::load(directory.path(), &shapes()).unwrap_err().to_string().contains("`peft_type` is missing"));
}

type Tensor<'a> = (&'a str, Dtype, Vec<usize>);

fn with_tensors(tensors: &[Tensor<'_>]) -> (Error, Option<Error>) {
    let directory = tempfile::tempdir().unwrap();
    let zeros = vec![0_u8; 4096];
    let views: Vec<_> = tensors
        .iter()
        .map(|(name, dtype, shape)| {
            let len = shape.iter().product::<usize>() * dtype.bitsize() / 8;
            (*name, TensorView::new(*dtype, shape.clone(), &zeros[..len]).unwrap())
        })
        .collect();
    fs::write(directory.path().join(TENSORS_FILE), safetensors::serialize(views, None).unwrap()).unwrap();
    let config = r#"{"peft_type":"LORA","r":2,"lora_alpha":1,"target_modules":["q_proj"]}"#;
    fs::write(directory.path().join(CONFIG_FILE), config).unwrap();
    let error = LoraAdapter::load(directory.path(), &[shape("model.q_proj", 3, 5)]).unwrap_err();
    (error, stored_shapes(directory.path()).err())
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let a = "base_model.model.model.q_proj.lora_A.weight";
    let b = "base_model.model.model.q_proj.lora_B.weight";
    let f32s = |name, shape: &[usize]| (name, Dtype::F32, shape.to_vec());
    let check = |tensors: &[Tensor<'_>], name: &str, matches: fn(&Error) -> bool| {
        let (error, _) = with_tensors(tensors);
        let message = error.to_string();
        assert!(matches(&error) && message.contains(name) && message.contains(TENSORS_FILE), "{message}");
        assert!(!message.contains('\n'), "{message}");
    };
    check(&[f32s(a, &[2, 3])], b, |e| matches!(e, Error::UnpairedTensor { .. }));
    check(&[f32s(b, &[5, 2])], a, |e| matches!(e, Error::UnpairedTensor { .. }));
    check(&[f32s(a, &[2, 4]), f32s(b, &[5, 2])], a, |e| matches!(e, Error::Shape { expected: [2, 3], .. }));
    check(&[f32s(a, &[2, 3]), f32s(b, &[2, 5])], b, |e| matches!(e, Error::Shape { expected: [5, 2], .. }));
    check(&[f32s(a, &[6]), f32s(b, &[5, 2])], a, |e| matches!(e, Error::Shape { .. }));
    check(&[f32s(a, &[2, 3]), (b, Dtype::I8, vec![5, 2])], b, |e| matches!(e, Error::Dtype { .. }));
    check(&[f32s(a, &[2, 3]), (b, Dtype::F64, vec![5, 2])], b, |e| matches!(e, Error::Dtype { .. }));
    for name in [
        "base_model.model.model.embed_tokens.lora_embedding_A",
        "base_model.model.model.q_proj.lora_magnitude_vector.weight",
        "base_model.model.model.q_proj.lora_B.bias",
        "model.q_proj.lora_A.weight",
        "x",
    ] {
        check(&[f32s(name, &[2, 3])], name, |e| matches!(e, Error::UnsupportedTensor { .. }));
    }
    let head = ["base_model.model.lm_head.lora_A.weight", "base_model.model.lm_head.lora_B.weight"];
    check(&[f32s(head[0], &[2, 3]), f32s(head[1], &[5, 2])], "lm_head", |e| {
        matches!(e, Error::UnsupportedTensor { .. })
    });
    let other = ["base_model.model.z.q_proj.lora_A.weight", "base_model.model.z.q_proj.lora_B.weight"];
    check(&[f32s(other[0], &[2, 3]), f32s(other[1], &[5, 2])], "z.q_proj", |e| {
        matches!(e, Error::StrayTensor { expected: "known", .. })
    });
    check(&[], "model.q_proj", |e| matches!(e, Error::MissingTensor { .. }));
    // Without a model the two factors must still agree.
    for (a_shape, b_shape) in [(&[2, 3][..], &[5, 4][..]), (&[6], &[5, 2]), (&[2, 3], &[5]), (&[2, 3], &[])] {
        let (_, error) = with_tensors(&[f32s(a, a_shape), f32s(b, b_shape)]);
        assert!(matches!(error, Some(Error::Shape { .. })), "{a_shape:?} {b_shape:?}");
    }
}

#[test]
fn missing_files_are_named() {
    let directory = saved();
    fs::remove_file(directory.path().join(TENSORS_FILE)).unwrap();
    let load = || LoraAdapter::load(directory.path(), &shapes()).unwrap_err();
    assert!(load().to_string().contains(TENSORS_FILE));
    fs::write(directory.path().join("adapter_model.bin"), "pickle").unwrap();
    assert!(load().to_string().contains("adapter_model.bin"));
    fs::remove_file(directory.path().join(CONFIG_FILE)).unwrap();
    assert!(matches!(load(), Error::Io { path, .. } if path.ends_with(CONFIG_FILE)));
}

#[test]
fn a_module_that_its_configuration_would_misread_is_not_written() {
    let directory = saved();
    let before = fs::read(directory.path().join(TENSORS_FILE)).unwrap();
    let good = trained(LoraConfig::default(), &shapes(), 4);
    let refuse = |adapter: LoraAdapter| {
        let error = adapter.save(directory.path(), None).unwrap_err();
        assert!(matches!(error, Error::Module { .. } | Error::Field { .. }), "{error}");
        assert_eq!(fs::read(directory.path().join(TENSORS_FILE)).unwrap(), before);
    };
    let mut adapter = good.clone();
    adapter.modules[1].rank = 4;
    refuse(adapter);
    let mut adapter = good.clone();
    adapter.modules[1].scale = 0.3;
    refuse(adapter);
    let mut adapter = good.clone();
    adapter.modules[1].a.pop();
    refuse(adapter);
    let mut adapter = good.clone();
    adapter.modules[1].b.push(0.0);
    refuse(adapter);
    let mut adapter = good;
    adapter.config.r = 0;
    refuse(adapter);
    let adapter =
        trained(LoraConfig { target_modules: TargetModules::AllLinear, ..LoraConfig::default() }, &shapes(), 4);
    adapter.save(directory.path(), None).unwrap();
    assert_ne!(fs::read(directory.path().join(TENSORS_FILE)).unwrap(), before);
}
