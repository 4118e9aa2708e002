//! Generation: against transformers, against scoring, and against itself in other company.

use dynlora_core::LoraAdapter;
use krystal_lm::kernels::cpu::Cpu;
use krystal_lm::{
    Decoder, Finish, GenerateOptions, Generated, Group, LoraWeights, PromptRequest, TokenBatch, generate, module_shapes,
};
use krystal_math::sampling::Sampling;

use crate::shared::{Golden, MODELS, shared};

fn open(name: &str) -> Option<(Golden, Decoder, LoraWeights<Cpu>)> {
    let folder = shared(&format!("fixtures/hf/{name}"))?;
    let golden = Golden::read(&folder.join("golden.safetensors"));
    let decoder = Decoder::open(Cpu, &folder).unwrap();
    let adapter = LoraAdapter::load(&folder.join("adapter"), &module_shapes(decoder.config())).unwrap();
    let lora = LoraWeights::new(&Cpu, decoder.config(), &adapter);
    Some((golden, decoder, lora))
}

#[test]
fn greedy_tokens_are_those_of_transformers() {
    for name in MODELS {
        let Some((golden, decoder, _)) = open(name) else { return };
        let ids = &golden.ids["greedy_ids"].1;
        let prompt = PromptRequest { tokens: &ids[..8], stream: 0 };
        let sampling = Sampling::greedy();
        let out = generate(&decoder, None, &[prompt], 1, &GenerateOptions::new(&sampling, 24, &[])).unwrap();
        assert_eq!(out[0][0].tokens, ids[8..], "{name}");
        assert_eq!(out[0][0].finish, Finish::Length);
    }
}

/// 3 prompts of different lengths, the last longer than a panel of keys.
fn prompts() -> [Vec<u32>; 3] {
    [vec![5, 9, 30], (40..61).collect(), vec![7]]
}

fn sample(
    decoder: &Decoder,
    lora: &LoraWeights<Cpu>,
    which: &[usize],
    max_batch: usize,
    threads: usize,
) -> Vec<Vec<Generated>> {
    let all = prompts();
    let requests: Vec<PromptRequest<'_>> =
        which.iter().map(|p| PromptRequest { tokens: &all[*p], stream: *p as u64 }).collect();
    let sampling = Sampling { temperature: 0.8, ..Sampling::default() };
    // Some end early: the sampled model is close to uniform over 384 tokens, so a twelfth of the tokens end a sequence.
    let eos: Vec<u32> = (0..32).collect();
    let options = GenerateOptions { max_batch, seed: 11, ..GenerateOptions::new(&sampling, 40, &eos) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| generate(decoder, Some(lora), &requests, 5, &options)).unwrap()
}

#[test]
fn sampled_log_probs_are_those_of_scoring_bit_for_bit() {
    for name in MODELS {
        let Some((_, decoder, lora)) = open(name) else { return };
        let sampled = sample(&decoder, &lora, &[0, 1, 2], 64, 1);
        let prompts = prompts();
        let groups: Vec<Group<'_>> = prompts
            .iter()
            .zip(&sampled)
            .map(|(prompt, c)| Group { prompt, completions: c.iter().map(|c| c.tokens.as_slice()).collect() })
            .collect();
        let scores = decoder.score(Some(&lora), &TokenBatch::new(&groups), 0.8);
        let recorded: Vec<f32> = sampled.iter().flatten().flat_map(|c| c.log_probs.clone()).collect();
        assert_eq!(recorded, scores.log_probs, "{name}");
        let lengths: Vec<usize> = sampled.iter().flatten().map(|c| c.tokens.len()).collect();
        assert!(lengths.iter().any(|l| *l < 40) && lengths.iter().any(|l| *l > 4), "{name}: lengths {lengths:?}");
    }
}

#[test]
fn company_batch_size_and_threads_change_nothing() {
    let Some((_, decoder, lora)) = open("qwen2-tied") else { return };
    let all = sample(&decoder, &lora, &[0, 1, 2], 64, 1);
    assert_eq!(sample(&decoder, &lora, &[0, 1, 2], 2, 1), all);
    assert_eq!(sample(&decoder, &lora, &[0, 1, 2], 64, 2), all);
    assert_eq!(sample(&decoder, &lora, &[0, 1, 2], 3, 4), all);
    assert_eq!(sample(&decoder, &lora, &[1], 64, 3)[0], all[1]);
    assert_ne!(all[0][0], all[0][1]);
}

#[test]
fn prompts_that_cannot_be_completed_are_refused() {
    let Some((_, decoder, _)) = open("qwen2-tied") else { return };
    let sampling = Sampling::default();
    let options = GenerateOptions::new(&sampling, 4, &[]);
    let message = |tokens: &[u32]| {
        generate(&decoder, None, &[PromptRequest { tokens, stream: 0 }], 1, &options).unwrap_err().to_string()
    };
    assert_eq!(message(&[]), "prompt 0 is empty: expected at least one token");
    assert_eq!(message(&[384]), "prompt 0 has token 384, but the vocabulary ends at 384");
    assert_eq!(message(&[3; 256]), "prompt 0 has 256 tokens, but the model's sequences end at 256");
}
