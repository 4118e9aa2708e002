//! How a language model is asked, whatever is trained of it.

use std::sync::Arc;

use krystal_lm::kernels::cpu::Cpu;
use krystal_lm::{
    Chunks, CompletionScores, Decoder, GenerateOptions, Generated, Group, GroupTape, Keep, LanguageModel, LoraWeights,
    StopStrings, generate,
};

use super::{LmError, Ranks};
use crate::data::Prompt;
use crate::policy::{Completion, Finish, GenerationRequest, PromptRequest, ScoreGroup, TokenScores};

/// A model, how its completions end, and who else computes them.
#[derive(Debug)]
pub(crate) struct Speaker {
    pub(crate) model: Arc<LanguageModel>,
    pub(crate) eos_token_ids: Vec<u32>,
    pub(crate) stop: Vec<String>,
    pub(crate) keep: Keep,
    pub(crate) max_batch: usize,
    pub(crate) ranks: Ranks,
}

impl Speaker {
    pub(crate) fn new(model: Arc<LanguageModel>) -> Self {
        let eos_token_ids = model.eos_token_ids();
        Self { model, eos_token_ids, stop: Vec::new(), keep: Keep::default(), max_batch: 256, ranks: Ranks::default() }
    }

    /// Completes `prompts`, which are those of the request or some of them.
    pub(crate) fn generate(
        &self,
        decoder: &Decoder<Cpu>,
        lora: Option<&LoraWeights<Cpu>>,
        prompts: &[&PromptRequest],
        request: &GenerationRequest,
    ) -> Result<Vec<Vec<Completion>>, LmError> {
        let prompts: Vec<_> =
            prompts.iter().map(|p| krystal_lm::PromptRequest { tokens: &p.tokens, stream: p.stream }).collect();
        let stop = StopStrings::new(&self.model.tokenizer, self.stop.iter().cloned());
        let options = GenerateOptions {
            stop: Some(&stop),
            seed: request.seed,
            purpose: request.purpose,
            max_batch: self.max_batch,
            ..GenerateOptions::new(&request.sampling, request.max_completion_length, &self.eos_token_ids)
        };
        let completion = |g: Generated| Completion {
            tokens: g.tokens,
            log_probs: g.log_probs,
            finish: match g.finish {
                krystal_lm::Finish::EndOfSequence => Finish::EndOfSequence,
                krystal_lm::Finish::Stop => Finish::Stop,
                krystal_lm::Finish::Length => Finish::Length,
            },
        };
        let mine = &prompts[self.ranks.part(prompts.len())];
        let rows = generate(decoder, lora, mine, request.num_generations, &options).map_err(LmError::Generate);
        let completions =
            |rows: Vec<Vec<Generated>>| rows.into_iter().map(|row| row.into_iter().map(completion).collect()).collect();
        self.ranks.gather(rows.map(completions))
    }

    /// Log-probability and entropy of every completion token.
    pub(crate) fn score(
        &self,
        decoder: &Decoder<Cpu>,
        lora: Option<&LoraWeights<Cpu>>,
        groups: &[Group<'_>],
        temperature: f32,
    ) -> Result<TokenScores, LmError> {
        let mine = decoder.score_groups(lora, &groups[self.ranks.part(groups.len())], temperature);
        self.gather_scores(mine)
    }

    /// As [`Speaker::score`], with the tape of this rank's share.
    pub(crate) fn forward(
        &self,
        decoder: &Decoder<Cpu>,
        lora: Option<&LoraWeights<Cpu>>,
        groups: &[Group<'_>],
        temperature: f32,
    ) -> Result<(TokenScores, GroupTape<Cpu>), LmError> {
        let chunks = Chunks::cut(groups);
        let mine = self.ranks.part(chunks.len());
        let (scores, tape) = decoder.forward_chunks(lora, &chunks, mine, temperature, self.keep);
        Ok((self.gather_scores(scores)?, tape))
    }

    /// The scores of all ranks.
    fn gather_scores(&self, mine: CompletionScores) -> Result<TokenScores, LmError> {
        let rows: Vec<_> = mine.log_probs.into_iter().zip(mine.entropy).collect();
        let (log_probs, entropy) = self.ranks.gather::<_, LmError>(Ok(rows))?.into_iter().unzip();
        Ok(TokenScores { log_probs, entropy })
    }

    /// Groups for the model, refused where it would panic.
    pub(crate) fn groups<'a>(&self, groups: &[ScoreGroup<'a>]) -> Result<Vec<Group<'a>>, LmError> {
        let config = self.model.decoder.config();
        let (longest, vocab_size) = (config.max_position_embeddings, config.vocab_size);
        for group in groups {
            for completion in &group.completions {
                let (prompt, completion) = (group.prompt.len(), completion.len());
                if prompt == 0 || completion == 0 || prompt + completion > longest {
                    return Err(LmError::Length { prompt, completion, max_position_embeddings: longest });
                }
            }
            let mut tokens = group.prompt.iter().chain(group.completions.iter().copied().flatten());
            if let Some(token) = tokens.find(|t| **t as usize >= vocab_size) {
                return Err(LmError::Token { token: *token, vocab_size });
            }
        }
        Ok(groups.iter().map(|g| Group { prompt: g.prompt, completions: g.completions.clone() }).collect())
    }

    pub(crate) fn decode(&self, tokens: &[u32]) -> Result<String, LmError> {
        if self.stop.is_empty() {
            return self.model.tokenizer.decode(tokens, true).map_err(LmError::Model);
        }
        StopStrings::new(&self.model.tokenizer, self.stop.iter().cloned()).text(tokens).map_err(LmError::Model)
    }

    pub(crate) fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, LmError> {
        match prompt {
            Prompt::Text(text) => self.model.encode(text),
            Prompt::Messages(messages) => {
                self.model.encode_chat(messages.iter().map(|m| (m.role.as_str(), m.content.as_str())))
            }
        }
        .map_err(LmError::Model)
    }
}
