//! Writes a model folder for `tools/check_model_folder.py` to load with Python's transformers, and beside it
//! `expected.json`: what should be found there.
//!
//! ```text
//! cargo run -p krystal-lm --example write_model_folder -- OUT            a new model with a character tokenizer
//! cargo run -p krystal-lm --example write_model_folder -- OUT SOURCE     SOURCE, loaded and saved again
//! ```

use std::error::Error;
use std::path::{Path, PathBuf};

use krystal_lm::{Checkpoint, ModelConfig, Tokenizer, copy_tokenizer_files, save_model};
use krystal_math::rng::{Purpose, stream_rng};
use rand::RngExt;
use serde_json::{Value, json};

const TEXTS: [&str; 6] =
    ["12+34=46", "", "a b\n c", "caf\u{E9} \u{1F600}", "  two  spaces ", "7-8<eos><unk><|im_end|>?"];
/// Every so many values are compared.
const STRIDE: usize = 7;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    match arguments.as_slice() {
        [out] => write_new(out),
        [out, source] => write_again(out, source),
        _ => Err("usage: write_model_folder OUT [SOURCE]".into()),
    }
}

/// A small model with every part that a family can have, in its first random state.
fn write_new(out: &Path) -> Result<(), Box<dyn Error>> {
    let tokenizer = Tokenizer::characters("0123456789+-=abc \n\u{E9}", &["<think>"])?;
    let text = json!({"model_type": "qwen3", "vocab_size": tokenizer.vocab_size(), "hidden_size": 16,
        "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
        "rms_norm_eps": 1e-5, "attention_bias": true, "rope_theta": 12345.5, "tie_word_embeddings": true,
        "use_sliding_window": true, "sliding_window": 5, "max_window_layers": 1, "max_position_embeddings": 64,
        "eos_token_id": tokenizer.eos(), "pad_token_id": tokenizer.pad()});
    let config = ModelConfig::from_json(&text.to_string(), Path::new("config.json"))?;
    let mut rng = stream_rng(1, Purpose::Weights, 0, 0);
    let tensors: Vec<(String, Vec<usize>, Vec<f32>)> = config
        .tensor_names()
        .into_iter()
        .map(|(name, shape)| {
            let values = (0..shape.iter().product()).map(|_: usize| rng.random::<f32>() - 0.5).collect();
            (name, shape, values)
        })
        .collect();
    save_model(
        out,
        &config,
        tensors.iter().map(|(name, shape, values)| (name.clone(), shape.clone(), values.as_slice())),
    )?;
    tokenizer.save(out)?;
    write_expected(out)
}

fn write_again(out: &Path, source: &Path) -> Result<(), Box<dyn Error>> {
    let config = ModelConfig::load(source)?;
    let checkpoint = Checkpoint::open(source)?;
    checkpoint.expect_model(&config)?;
    let mut tensors = Vec::new();
    for (name, shape) in config.tensor_names() {
        let values = checkpoint.tensor(&name, &shape)?;
        tensors.push((name, shape, values));
    }
    let tensors = tensors.iter().map(|(name, shape, values)| (name.clone(), shape.clone(), values.as_ref()));
    save_model(out, &config, tensors)?;
    copy_tokenizer_files(source, out)?;
    write_expected(out)
}

/// Reads the folder back and writes what is in it.
fn write_expected(out: &Path) -> Result<(), Box<dyn Error>> {
    let config = ModelConfig::load(out)?;
    let checkpoint = Checkpoint::open(out)?;
    let tokenizer = Tokenizer::load(out)?;
    let mut tensors = Vec::new();
    for (name, shape) in config.tensor_names() {
        let values: Vec<f32> = checkpoint.tensor(&name, &shape)?.iter().copied().step_by(STRIDE).collect();
        // As f64: the digits of an f32 would be read as another number.
        let values: Vec<f64> = values.into_iter().map(f64::from).collect();
        tensors.push(json!({"name": name, "shape": shape, "stride": STRIDE, "values": values}));
    }
    let mut texts = Vec::new();
    for text in TEXTS {
        let ids = tokenizer.encode(text, true)?;
        let (decoded, shown) = (tokenizer.decode(&ids, false)?, tokenizer.decode(&ids, true)?);
        texts.push(json!({"text": text, "ids": ids, "decoded": decoded, "shown": shown}));
    }
    let special =
        json!({"bos": tokenizer.bos(), "eos": tokenizer.eos(), "pad": tokenizer.pad(), "unk": tokenizer.unk()});
    let expected: Value = json!({"config": config.to_json(), "tensors": tensors, "texts": texts, "special": special});
    std::fs::write(out.join("expected.json"), expected.to_string())?;
    Ok(())
}
