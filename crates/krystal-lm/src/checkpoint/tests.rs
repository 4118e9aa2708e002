use std::fs;

use proptest::prelude::*;

use super::*;
use crate::fixture::{MODELS, shared};
use crate::safetensors_file;

type TestResult = std::result::Result<(), Box<dyn std::error::Error>>;

/// Writes tensors of one value each.
fn write(path: &Path, names: &[&str]) -> Result<()> {
    let tensors: Vec<_> = names.iter().map(|name| ((*name).to_owned(), vec![1], [1.0_f32].as_slice())).collect();
    safetensors_file::write(path, &tensors)
}

/// The error of opening `folder`, with the folder's path taken out.
fn open_error(folder: &Path) -> String {
    let error = Checkpoint::open(folder).unwrap_err().to_string();
    error.replace(&format!("{}/", folder.display()), "").replace(&folder.display().to_string(), "")
}

#[test]
fn the_fixtures_are_whole_models() -> TestResult {
    let Some(root) = shared("fixtures/hf") else { return Ok(()) };
    for model in MODELS {
        let config = ModelConfig::load(&root.join(model))?;
        let checkpoint = Checkpoint::open(&root.join(model))?;
        checkpoint.expect_model(&config)?;
        let names: BTreeSet<_> = config.tensor_names().into_iter().map(|(name, _)| name).collect();
        assert!(checkpoint.names().eq(names.iter().map(String::as_str)));
        let mut count = 0;
        for (name, shape) in config.tensor_names() {
            let values = checkpoint.tensor(&name, &shape)?;
            assert_eq!(values.len(), shape.iter().product::<usize>());
            assert!(values.iter().all(|value| value.is_finite()));
            assert!(matches!(values, Cow::Borrowed(_)), "{name} is copied");
            count += values.len();
        }
        if model == "llama-gqa" {
            // `total_parameters` of its index.
            assert_eq!(count, 83_184);
        }
    }
    Ok(())
}

#[test]
fn the_fixtures_have_the_values_that_the_safetensors_crate_reads() -> TestResult {
    let Some(root) = shared("fixtures/hf") else { return Ok(()) };
    let folder = root.join("llama-gqa");
    let checkpoint = Checkpoint::open(&folder)?;
    let mut seen = 0;
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("model-")) {
            continue;
        }
        let bytes = fs::read(&path)?;
        for (name, tensor) in safetensors::SafeTensors::deserialize(&bytes)?.tensors() {
            let values = checkpoint.tensor(&name, tensor.shape())?;
            assert_eq!(bytemuck::cast_slice::<f32, u8>(&values), tensor.data());
            seen += 1;
        }
    }
    assert_eq!(seen, checkpoint.names().count());
    Ok(())
}

#[test]
fn another_model_does_not_fit() -> TestResult {
    let Some(root) = shared("fixtures/hf") else { return Ok(()) };
    let folder = root.join("mistral-window");
    let checkpoint = Checkpoint::open(&folder)?;
    let config = ModelConfig::load(&folder)?;
    let error = |config: &ModelConfig| {
        let error = checkpoint.expect_model(config).unwrap_err().to_string();
        error.replace(&folder.display().to_string(), "")
    };
    let deeper = ModelConfig { num_hidden_layers: 3, sliding_window: vec![Some(8); 3], ..config.clone() };
    assert_eq!(error(&deeper), ": tensor `model.layers.2.self_attn.q_proj.weight` is missing");
    let shallower = ModelConfig { num_hidden_layers: 1, sliding_window: vec![Some(8)], ..config.clone() };
    let found = error(&shallower);
    assert!(found.starts_with(": unexpected tensors: model.layers.1.input_layernorm.weight, "), "{found}");
    assert!(found.ends_with(" and 1 more"), "{found}");
    let wider = ModelConfig { intermediate_size: 65, ..config.clone() };
    assert_eq!(
        error(&wider),
        "/model.safetensors: tensor `model.layers.0.mlp.gate_proj.weight`: expected shape [65, 32], found [64, 32]"
    );
    let tied = ModelConfig { tie_word_embeddings: true, ..config };
    assert_eq!(
        error(&tied),
        "/model.safetensors: tensor `lm_head.weight`: expected the values of model.embed_tokens.weight, \
         as tie_word_embeddings is true, found others"
    );
    Ok(())
}

#[test]
fn a_stored_head_may_equal_the_embedding_and_derived_buffers_are_ignored() -> TestResult {
    let Some(root) = shared("fixtures/hf") else { return Ok(()) };
    let config = ModelConfig::load(&root.join("qwen2-tied"))?;
    let original = Checkpoint::open(&root.join("qwen2-tied"))?;
    let folder = tempfile::tempdir()?;
    let mut tensors = Vec::new();
    for (name, shape) in config.tensor_names() {
        let values = original.tensor(&name, &shape)?;
        if name == EMBEDDING {
            tensors.push((HEAD.to_owned(), shape.clone(), values.clone()));
        }
        tensors.push((name, shape, values));
    }
    let inv_freq = "model.layers.0.self_attn.rotary_emb.inv_freq".to_owned();
    tensors.push((inv_freq, vec![4], Cow::Owned(vec![1.0, 0.1, 0.01, 0.001])));
    let borrowed: Vec<_> =
        tensors.iter().map(|(name, shape, values)| (name.clone(), shape.clone(), values.as_ref())).collect();
    safetensors_file::write(&folder.path().join(SINGLE), &borrowed)?;
    Checkpoint::open(folder.path())?.expect_model(&config)?;
    Ok(())
}

#[test]
fn tensors_are_found_by_name_and_shape() -> TestResult {
    let folder = tempfile::tempdir()?;
    write(&folder.path().join(SINGLE), &["a", "b"])?;
    let checkpoint = Checkpoint::open(folder.path())?;
    assert!(checkpoint.has("a") && !checkpoint.has("c"));
    assert_eq!(checkpoint.shape("a"), Some([1].as_slice()));
    assert_eq!(checkpoint.dtype("a"), Some(DType::F32));
    assert_eq!(*checkpoint.tensor("a", &[1])?, [1.0]);
    let error = checkpoint.tensor("c", &[1]).unwrap_err().to_string();
    assert_eq!(error, format!("{}: tensor `c` is missing", folder.path().display()));
    let error = checkpoint.tensor("a", &[1, 1]).unwrap_err().to_string();
    assert!(error.ends_with("model.safetensors: tensor `a`: expected shape [1, 1], found [1]"), "{error}");
    checkpoint.expect_only(["a", "b", "c"])?;
    let error = checkpoint.expect_only(["a"]).unwrap_err().to_string();
    assert!(error.ends_with(": unexpected tensors: b"), "{error}");
    Ok(())
}

#[test]
fn shards_and_index_must_agree() -> TestResult {
    let folder = tempfile::tempdir()?;
    let index = folder.path().join(INDEX);
    write(&folder.path().join("one.safetensors"), &["a", "b"])?;
    fs::write(&index, r#"{"weight_map": {"a": "one.safetensors", "b": "one.safetensors"}}"#)?;
    assert!(Checkpoint::open(folder.path())?.names().eq(["a", "b"]));
    for (text, message) in [
        (
            r#"{"weight_map": {"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"}}"#,
            "two.safetensors: missing; model.safetensors.index.json lists this shard",
        ),
        (
            r#"{"weight_map": {"a": "one.safetensors", "b": "one.safetensors", "c": "one.safetensors"}}"#,
            "one.safetensors: tensor `c` is missing",
        ),
        (r#"{"weight_map": {"a": "one.safetensors"}}"#, "one.safetensors: unexpected tensors: b"),
        (r#"{"metadata": {}}"#, "model.safetensors.index.json: field `weight_map` is missing"),
        (
            r#"{"weight_map": {}}"#,
            "model.safetensors.index.json: field `weight_map`: expected at least one tensor, found {}",
        ),
        (
            r#"{"weight_map": {"a": "../one.safetensors"}}"#,
            "model.safetensors.index.json: field `weight_map.a`: \
             expected the name of a .safetensors file in the same folder, found \"../one.safetensors\"",
        ),
        (r#"{"weight_map""#, "model.safetensors.index.json: not a JSON object"),
    ] {
        fs::write(&index, text)?;
        assert_eq!(open_error(folder.path()), message);
    }
    Ok(())
}

#[test]
fn missing_and_damaged_files_are_named() -> TestResult {
    let folder = tempfile::tempdir()?;
    assert_eq!(
        open_error(folder.path()),
        "model.safetensors: missing; neither it nor model.safetensors.index.json was found"
    );
    assert_eq!(
        open_error(&folder.path().join("nowhere")),
        "model.safetensors: missing; the folder itself does not exist"
    );
    fs::write(folder.path().join("pytorch_model.bin"), "")?;
    assert!(open_error(folder.path()).ends_with("must be converted to safetensors first"));
    let single = folder.path().join(SINGLE);
    fs::write(&single, "")?;
    assert!(open_error(folder.path()).ends_with("expected at least 8 bytes, found 0"));
    write(&single, &["a"])?;
    let whole = fs::read(&single)?;
    fs::write(&single, &whole[..whole.len() - 1])?;
    assert_eq!(
        open_error(folder.path()),
        "model.safetensors: tensor `a`: expected bytes 0 to 4, \
         found 3 bytes in all: the file is truncated or its offsets are wrong"
    );
    Ok(())
}

#[test]
fn every_truncation_of_an_index_is_an_error() {
    let text = r#"{"metadata": {"total_size": 8}, "weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}"#;
    assert_eq!(parse_index(text, Path::new(INDEX)).map(|shards| shards.len()).ok(), Some(2));
    for end in 0..text.len() {
        assert!(parse_index(&text[..end], Path::new(INDEX)).is_err());
    }
}

proptest! {
    #[test]
    fn random_indices_never_leave_the_folder(
        map in prop::collection::btree_map("[a-z.]{0,4}", "[./a\\\\:]{0,6}(\\.safetensors)?", 0..4),
    ) {
        let text = serde_json::json!({"weight_map": map}).to_string();
        if let Ok(shards) = parse_index(&text, Path::new(INDEX)) {
            for shard in shards.keys() {
                let mut parts = Path::new(shard).components();
                prop_assert!(matches!(parts.next(), Some(std::path::Component::Normal(_))));
                prop_assert!(parts.next().is_none());
            }
        }
    }

    #[test]
    fn random_text_is_no_index(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(parse_index(&String::from_utf8_lossy(&bytes), Path::new(INDEX)).is_err());
    }
}
