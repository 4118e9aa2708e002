//! Writes the logits of a model with an adapter, for `tools/check_peft_adapter.py` to compare with Python's.
//!
//! `cargo run -p krystal-lm --example write_logits -- BASE ADAPTER OUT.safetensors`

use std::error::Error;
use std::path::PathBuf;

use dynlora_core::LoraAdapter;
use krystal_lm::kernels::cpu::Cpu;
use krystal_lm::{Decoder, Group, LoraWeights, TokenBatch, module_shapes};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

const SEQUENCES: usize = 2;
const LENGTH: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [base, adapter, out] = paths.as_slice() else { return Err("expected BASE ADAPTER OUT.safetensors".into()) };
    let decoder = Decoder::open(Cpu, base)?;
    let config = decoder.config();
    let adapter = LoraAdapter::load(adapter, &module_shapes(config))?;
    let lora = LoraWeights::new(&Cpu, config, &adapter);
    // Any tokens will do, as long as they are not all the same.
    let token = |i: usize| ((7 * i * i + 3 * i + 5) % config.vocab_size) as u32;
    let sequences: Vec<Vec<u32>> =
        (0..SEQUENCES).map(|s| (s * LENGTH..(s + 1) * LENGTH).map(token).chain([0]).collect()).collect();
    // The zero behind each sequence is not run: it makes the last position a scored one.
    let groups: Vec<Group<'_>> =
        sequences.iter().map(|s| Group { prompt: &s[..1], completions: vec![&s[1..]] }).collect();
    let logits = decoder.logits(Some(&lora), &TokenBatch::new(&groups));
    let ids: Vec<u8> = sequences.iter().flat_map(|s| &s[..LENGTH]).flat_map(|t| i64::from(*t).to_le_bytes()).collect();
    let logits: Vec<u8> = logits.iter().flat_map(|x| x.to_le_bytes()).collect();
    let shape = vec![SEQUENCES, LENGTH];
    let tensors = [
        ("input_ids", TensorView::new(Dtype::I64, shape.clone(), &ids)?),
        ("lora_logits", TensorView::new(Dtype::F32, [shape, vec![config.vocab_size]].concat(), &logits)?),
    ];
    serialize_to_file(tensors, None, out)?;
    Ok(())
}
