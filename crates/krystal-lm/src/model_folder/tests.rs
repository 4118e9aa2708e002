use std::borrow::Cow;
use std::fs;

use super::*;
use crate::checkpoint::Checkpoint;
use crate::fixture::{MODELS, shared};

type TestResult = std::result::Result<(), Box<dyn std::error::Error>>;

/// A small model that needs no file.
fn small() -> std::result::Result<ModelConfig, Error> {
    let text = r#"{"model_type": "qwen3", "vocab_size": 5, "hidden_size": 4, "intermediate_size": 6,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 2,
        "tie_word_embeddings": true, "eos_token_id": 1, "pad_token_id": 0}"#;
    ModelConfig::from_json(text, Path::new("config.json"))
}

/// Values that tell the tensors and positions apart.
fn values(config: &ModelConfig) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let fill = |(index, (name, shape)): (usize, (String, Vec<usize>))| {
        let count = shape.iter().product();
        (name, shape, (0..count).map(|at: usize| index as f32 + at as f32 / 64.0).collect())
    };
    config.tensor_names().into_iter().enumerate().map(fill).collect()
}

fn borrowed(tensors: &[(String, Vec<usize>, Vec<f32>)]) -> Vec<(String, Vec<usize>, &[f32])> {
    tensors.iter().map(|(name, shape, values)| (name.clone(), shape.clone(), values.as_slice())).collect()
}

#[test]
fn what_is_saved_loads_again() -> TestResult {
    let folder = tempfile::tempdir()?;
    let directory = folder.path().join("new").join("model");
    let config = small()?;
    let tensors = values(&config);
    // The order in which tensors are given does not matter.
    let mut reversed = borrowed(&tensors);
    reversed.reverse();
    save_model(&directory, &config, reversed)?;
    assert_eq!(ModelConfig::load(&directory)?, config);
    let checkpoint = Checkpoint::open(&directory)?;
    checkpoint.expect_model(&config)?;
    for (name, shape, values) in &tensors {
        assert_eq!(*checkpoint.tensor(name, shape)?, **values);
    }
    let generation = fs::read_to_string(directory.join("generation_config.json"))?;
    assert_eq!(generation, "{\n  \"eos_token_id\": 1,\n  \"pad_token_id\": 0\n}\n");
    let mut files: Vec<_> =
        fs::read_dir(&directory)?.map(|file| file.map(|file| file.file_name())).collect::<std::io::Result<_>>()?;
    files.sort();
    assert_eq!(files, ["config.json", "generation_config.json", "model.safetensors"]);
    Ok(())
}

#[test]
fn the_fixtures_survive_a_round_trip() -> TestResult {
    let Some(root) = shared("fixtures/hf") else { return Ok(()) };
    for model in MODELS {
        let config = ModelConfig::load(&root.join(model))?;
        let original = Checkpoint::open(&root.join(model))?;
        let tensors: Vec<(String, Vec<usize>, Cow<'_, [f32]>)> = config
            .tensor_names()
            .into_iter()
            .map(|(name, shape)| original.tensor(&name, &shape).map(|values| (name.clone(), shape.clone(), values)))
            .collect::<std::result::Result<_, _>>()?;
        let folder = tempfile::tempdir()?;
        save_model(
            folder.path(),
            &config,
            tensors.iter().map(|(name, shape, values)| (name.clone(), shape.clone(), values.as_ref())),
        )?;
        assert_eq!(ModelConfig::load(folder.path())?, config);
        let copy = Checkpoint::open(folder.path())?;
        copy.expect_model(&config)?;
        for (name, shape, values) in &tensors {
            assert_eq!(copy.tensor(name, shape)?, *values);
        }
    }
    Ok(())
}

#[test]
fn wrong_tensors_are_named_and_nothing_is_written() -> TestResult {
    let folder = tempfile::tempdir()?;
    let config = small()?;
    let good = values(&config);
    type Change = fn(&mut Vec<(String, Vec<usize>, Vec<f32>)>);
    let changes: [(Change, &str); 5] = [
        (|tensors| tensors.truncate(tensors.len() - 1), "tensor `model.norm.weight` is missing"),
        (
            |tensors| tensors.push(("lm_head.weight".to_owned(), vec![5, 4], vec![0.0; 20])),
            "unexpected tensors: lm_head.weight",
        ),
        (
            |tensors| tensors[0].1 = vec![4, 5],
            "tensor `model.embed_tokens.weight`: expected shape [5, 4], found [4, 5]",
        ),
        (
            |tensors| tensors[0].2.truncate(19),
            "tensor `model.embed_tokens.weight`: expected 20 values for shape [5, 4], found 19",
        ),
        (
            |tensors| tensors.push(tensors[3].clone()),
            "tensor `model.layers.0.self_attn.v_proj.weight`: expected one tensor of this name, found two",
        ),
    ];
    for (change, message) in changes {
        let mut tensors = good.clone();
        change(&mut tensors);
        let error = save_model(folder.path(), &config, borrowed(&tensors)).unwrap_err().to_string();
        assert_eq!(error, format!("{}: {message}", folder.path().join("model.safetensors").display()));
    }
    let invalid = ModelConfig { qk_norm: false, ..config };
    assert!(save_model(folder.path(), &invalid, []).is_err());
    assert_eq!(fs::read_dir(folder.path())?.count(), 0);
    Ok(())
}
