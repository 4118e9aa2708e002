//! Numbers of transformers 5.23 and peft 0.21 (see each file's metadata): logits, log-probabilities, entropy and every
//! LoRA gradient within 2e-4 of the largest value of its tensor.

use dynlora_core::LoraAdapter;
use krystal_lm::kernels::cpu::Cpu;
use krystal_lm::{Decoder, Gradients, Group, Keep, LoraWeights, TokenBatch, module_shapes};

use crate::shared::{Golden, MODELS, relative_error, shared};

const TOLERANCE: f32 = 2e-4;

/// Sequences of the fixture as groups of one completion each; `extra` appends a token, so that the last position is scored
/// too.
fn sequences(golden: &Golden, extra: bool) -> Vec<Vec<u32>> {
    let (shape, ids) = &golden.ids["input_ids"];
    ids.chunks_exact(shape[1]).map(|row| row.iter().copied().chain(extra.then_some(0)).collect()).collect()
}

fn batch(sequences: &[Vec<u32>]) -> TokenBatch {
    let groups: Vec<Group<'_>> =
        sequences.iter().map(|s| Group { prompt: &s[..1], completions: vec![&s[1..]] }).collect();
    TokenBatch::new(&groups)
}

fn check(name: &str, what: &str, got: &[f32], expected: &[f32]) {
    let error = relative_error(got, expected);
    assert!(error <= TOLERANCE, "{name}: {what} differs by {error}");
}

#[test]
fn logits_and_log_probs_are_those_of_transformers() {
    for name in MODELS {
        let Some(folder) = shared(&format!("fixtures/hf/{name}")) else { return };
        let golden = Golden::read(&folder.join("golden.safetensors"));
        let decoder = Decoder::open(Cpu, &folder).unwrap();
        let all = batch(&sequences(&golden, true));
        check(name, "logits", &decoder.logits(None, &all), &golden.floats["logits"]);
        let scores = decoder.score(None, &batch(&sequences(&golden, false)), 1.0);
        check(name, "log_probs", &scores.log_probs, &golden.floats["log_probs"]);
    }
}

#[test]
fn adapted_scores_and_every_gradient_are_those_of_peft() {
    for name in MODELS {
        let Some(folder) = shared(&format!("fixtures/hf/{name}")) else { return };
        let golden = Golden::read(&folder.join("golden.safetensors"));
        let decoder = Decoder::open(Cpu, &folder).unwrap();
        let adapter = LoraAdapter::load(&folder.join("adapter"), &module_shapes(decoder.config())).unwrap();
        let lora = LoraWeights::new(&Cpu, decoder.config(), &adapter);
        let all = batch(&sequences(&golden, true));
        check(name, "lora_logits", &decoder.logits(Some(&lora), &all), &golden.floats["lora_logits"]);
        let (w, u) = (&golden.floats["loss_weights"], &golden.floats["entropy_weights"]);
        for keep in [Keep::Activations, Keep::BlockInputs] {
            let (scores, tape) = decoder.forward(Some(&lora), batch(&sequences(&golden, false)), 1.0, keep);
            check(name, "lora_log_probs", &scores.log_probs, &golden.floats["lora_log_probs"]);
            check(name, "lora_entropy", &scores.entropy, &golden.floats["lora_entropy"]);
            let weighted = |w: &[f32], x: &[f32]| w.iter().zip(x).map(|(w, x)| f64::from(w * x)).sum::<f64>();
            let loss = weighted(w, &scores.log_probs) + weighted(u, &scores.entropy);
            let expected = f64::from(golden.floats["loss"][0]);
            assert!(
                (loss - expected).abs() <= 2e-4 * expected.abs().max(1.0),
                "{name}: loss {loss}, expected {expected}"
            );

            let mut gradients = Gradients::lora(&Cpu, decoder.config(), &lora);
            decoder.backward(Some(&lora), tape, w, u, &mut gradients);
            let expected = golden.floats.keys().filter(|k| k.starts_with("grad.")).count();
            assert_eq!(gradients.names().len(), expected, "{name}");
            for (i, tensor) in gradients.names().iter().enumerate() {
                let expected = &golden.floats[&format!("grad.base_model.model.{tensor}.weight")];
                check(name, tensor, &gradients.values(&Cpu, i), expected);
            }
        }
    }
}
