//! Every instruction set returns the same bits: in processes of their own, since the choice is made once.
//!
//! The few scalar logarithms and exponentials are the standard library's, the same on one machine whatever the level.

use std::process::Command;

use krystal_lm::kernels::cpu::Cpu;
use krystal_lm::{GenerateOptions, Gradients, Keep, PromptRequest, generate};
use krystal_math::sampling::Sampling;

use crate::random_model::Features;

/// The name of this test, and the variable that makes it print instead of compare.
const TEST: &str = "instruction_sets::levels_agree_bit_for_bit";
const PRINT: &str = "KRYSTAL_TEST_PRINT_BITS";

/// Scores, gradients and completions of a model with every feature, as text.
fn bits() -> String {
    let model = Features {
        head_dim: 10,
        vocab: 1037,
        window: Some(33),
        qkv_bias: true,
        o_bias: true,
        mlp_bias: true,
        qk_norm: true,
        lengths: vec![(70, vec![40, 1]), (3, vec![9])],
        ..Features::default()
    }
    .build();
    let lora = Some(&model.lora);
    let mut numbers: Vec<f32> = Vec::new();
    for mut gradients in
        [Gradients::lora(&Cpu, model.decoder.config(), &model.lora), Gradients::all(&Cpu, model.decoder.config())]
    {
        let (scores, tape) = model.decoder.forward_groups(lora, &model.groups(), 0.7, Keep::Activations);
        model.decoder.backward_groups(lora, tape, &model.w_log_prob, &model.w_entropy, &mut gradients);
        numbers.extend(scores.log_probs.concat());
        numbers.extend(scores.entropy.concat());
        numbers.extend((0..gradients.names().len()).flat_map(|i| gradients.values(&Cpu, i)));
    }
    let sampling = Sampling { temperature: 0.9, ..Sampling::default() };
    let prompt = PromptRequest { tokens: &model.texts[0].0, stream: 0 };
    let options = GenerateOptions::new(&sampling, 12, &[]);
    let completions = generate(&model.decoder, lora, &[prompt], 3, &options).unwrap().concat();
    numbers.extend(completions.iter().flat_map(|c| c.log_probs.clone()));
    let tokens: Vec<&[u32]> = completions.iter().map(|c| c.tokens.as_slice()).collect();
    // FNV-1a, so that megabytes need not travel through a pipe.
    let hash = numbers
        .iter()
        .flat_map(|x| x.to_bits().to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    assert!(numbers.iter().all(|x| x.is_finite()));
    format!("{} numbers, hash {hash:016x}, tokens {:?}", numbers.len(), tokens.concat())
}

#[test]
fn levels_agree_bit_for_bit() {
    if std::env::var_os(PRINT).is_some() {
        println!("bits: {}: {}", Cpu::instruction_set(), bits());
        return;
    }
    let mut sets = Vec::new();
    let mut results = Vec::new();
    for level in [Some("portable"), Some("avx2"), None] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([TEST, "--exact", "--nocapture"]).env(PRINT, "1").env_remove("KRYSTAL_SIMD");
        if let Some(level) = level {
            command.env("KRYSTAL_SIMD", level);
        }
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find_map(|l| l.split_once("bits: ")?.1.split_once(": "));
        let (set, result) = line.unwrap_or_else(|| panic!("no bits of {level:?} in: {text}"));
        sets.push(set.to_owned());
        results.push(result.to_owned());
    }
    assert_eq!(sets[0], "portable");
    assert_eq!(results[1], results[0], "{} and portable", sets[1]);
    assert_eq!(results[2], results[0], "{} and portable", sets[2]);
    println!("compared: {}", sets.join(", "));
}
