//! One thread's batch of growing sequences.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use krystal_math::rng::{StreamRng, stream_rng};

use super::{Finish, GenerateOptions, Generated, PromptRequest, Task, sampler};
use crate::decoder::{Activations, Adapted, Decoder, TokenBatch};
use crate::kernels::{CachedQuery, Kernels};
use crate::lora::LoraWeights;

/// Rows of prompts that are run together.
const PREFILL_ROWS: usize = 2048;

/// What one thread may hold at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Sequences that grow together.
    pub(super) sequences: usize,
    /// Logits on the host; at least one row of them is.
    pub(super) logits: usize,
}

/// A growing completion.
struct Sequence<K: Kernels> {
    prompt: usize,
    completion: usize,
    prefix: Arc<K::KvSlot>,
    own: K::KvSlot,
    rng: StreamRng,
    tokens: Vec<u32>,
    log_probs: Vec<f32>,
}

struct Worker<'a, K: Kernels> {
    decoder: &'a Decoder<K>,
    lora: Option<&'a LoraWeights<K>>,
    prompts: &'a [PromptRequest<'a>],
    options: &'a GenerateOptions<'a>,
    limits: Limits,
    activations: Activations<K>,
    x: K::Buffer,
    rows: K::Buffer,
    hidden: K::Buffer,
    logits: Vec<f32>,
    active: Vec<Sequence<K>>,
    finished: Vec<(usize, usize, Generated)>,
}

/// Works off the queue: `(prompt, completion, result)` of each.
pub(super) fn run<K: Kernels>(
    decoder: &Decoder<K>,
    lora: Option<&LoraWeights<K>>,
    prompts: &[PromptRequest<'_>],
    options: &GenerateOptions<'_>,
    queue: &Mutex<VecDeque<Task>>,
    limits: Limits,
    on_token: &mut dyn FnMut(usize, u32),
) -> Vec<(usize, usize, Generated)> {
    let kernels = decoder.kernels();
    let mut worker = Worker {
        decoder,
        lora,
        prompts,
        options,
        limits,
        activations: Activations::new(kernels),
        x: kernels.zeros(0),
        rows: kernels.zeros(0),
        hidden: kernels.zeros(0),
        logits: Vec::new(),
        active: Vec::new(),
        finished: Vec::new(),
    };
    loop {
        let tasks = worker.take(queue);
        if !tasks.is_empty() {
            worker.start(&tasks, on_token);
        } else if worker.active.is_empty() {
            return worker.finished;
        }
        worker.step(on_token);
    }
}

impl<K: Kernels> Worker<'_, K> {
    /// Tasks that fit beside the active sequences; at least one when there are none.
    fn take(&self, queue: &Mutex<VecDeque<Task>>) -> Vec<Task> {
        let share = self.limits.sequences;
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut tasks, mut sequences, mut rows) = (Vec::new(), self.active.len(), 0);
        while let Some(task) = queue.front() {
            let tokens = self.prompts[task.prompt].tokens.len();
            let fits = sequences + task.completions.len() <= share && rows + tokens <= PREFILL_ROWS;
            if !fits && sequences > 0 {
                break;
            }
            sequences += task.completions.len();
            rows += tokens;
            tasks.extend(queue.pop_front());
        }
        tasks
    }

    /// Runs the prompts of new tasks and draws the first token of each completion.
    fn start(&mut self, tasks: &[Task], on_token: &mut dyn FnMut(usize, u32)) {
        let kernels = self.decoder.kernels();
        let config = self.decoder.config();
        let prompts: Vec<&[u32]> = tasks.iter().map(|t| self.prompts[t.prompt].tokens).collect();
        let batch = TokenBatch::prompts(&prompts);
        let rope = self.decoder.rope(batch.max_positions());
        let new_slot = || kernels.kv_slot(config.num_hidden_layers, config.num_key_value_heads, config.head_dim);
        let mut slots: Vec<K::KvSlot> = tasks.iter().map(|_| new_slot()).collect();
        kernels.embed(self.decoder.embedding(), &batch.tokens, &mut self.x);
        let a = &mut self.activations;
        for layer in 0..config.num_hidden_layers {
            let block = Adapted { decoder: self.decoder, lora: self.lora, layer };
            block.attention_inputs(&self.x, &batch.positions, &rope, a, None);
            for (slot, segment) in slots.iter_mut().zip(&batch.segments) {
                kernels.kv_append(slot, layer, &a.k, &a.v, segment.start, segment.len);
            }
            let shape = self.decoder.attention_shape(layer);
            kernels.attention(&a.q, &a.k, &a.v, &batch.segments, shape, &mut a.attention);
            block.finish(&mut self.x, batch.rows(), a, None);
        }
        let last: Vec<usize> = batch.segments.iter().map(|s| s.start + s.len - 1).collect();
        let mut tasks = tasks.iter().zip(slots);
        self.for_each_logits(&last, |worker, logits| {
            let (task, slot) = tasks.next().expect("a row for each task");
            let prefix = Arc::new(slot);
            for completion in task.completions.clone() {
                let stream = worker.prompts[task.prompt].stream;
                let mut sequence = Sequence {
                    prompt: task.prompt,
                    completion,
                    prefix: Arc::clone(&prefix),
                    own: new_slot(),
                    rng: stream_rng(worker.options.seed, worker.options.purpose, stream, completion as u64),
                    tokens: Vec::new(),
                    log_probs: Vec::new(),
                };
                match worker.extend(&mut sequence, logits, on_token) {
                    None => worker.active.push(sequence),
                    Some(finish) => worker.finish(sequence, finish),
                }
            }
        });
    }

    /// One more token of every active sequence.
    fn step(&mut self, on_token: &mut dyn FnMut(usize, u32)) {
        if self.active.is_empty() {
            return;
        }
        let kernels = self.decoder.kernels();
        let config = self.decoder.config();
        let tokens: Vec<u32> = self.active.iter().map(|s| *s.tokens.last().expect("a first token was drawn")).collect();
        let positions: Vec<u32> =
            self.active.iter().map(|s| (self.prompts[s.prompt].tokens.len() + s.tokens.len() - 1) as u32).collect();
        let rope = self.decoder.rope(positions.iter().max().map_or(0, |p| *p as usize + 1));
        kernels.embed(self.decoder.embedding(), &tokens, &mut self.x);
        let a = &mut self.activations;
        for layer in 0..config.num_hidden_layers {
            let block = Adapted { decoder: self.decoder, lora: self.lora, layer };
            block.attention_inputs(&self.x, &positions, &rope, a, None);
            for (row, sequence) in self.active.iter_mut().enumerate() {
                kernels.kv_append(&mut sequence.own, layer, &a.k, &a.v, row, 1);
            }
            let queries: Vec<CachedQuery<'_, K::KvSlot>> = self
                .active
                .iter()
                .enumerate()
                .map(|(row, s)| CachedQuery { row, prefix: Some(&*s.prefix), own: &s.own })
                .collect();
            kernels.attention_cached(&a.q, &queries, layer, self.decoder.attention_shape(layer), &mut a.attention);
            block.finish(&mut self.x, tokens.len(), a, None);
        }
        let mut sequences = std::mem::take(&mut self.active).into_iter();
        let rows: Vec<usize> = (0..tokens.len()).collect();
        self.for_each_logits(&rows, |worker, logits| {
            let mut sequence = sequences.next().expect("a row for each sequence");
            match worker.extend(&mut sequence, logits, on_token) {
                None => worker.active.push(sequence),
                Some(finish) => worker.finish(sequence, finish),
            }
        });
    }

    /// Calls `visit` with the logits of each of these rows of `x`, in order. No more of them exist at once than the limit says:
    /// of a vocabulary of 150,000 tokens, a batch's would fill hundreds of megabytes in every thread.
    fn for_each_logits(&mut self, rows: &[usize], mut visit: impl FnMut(&mut Self, &[f32])) {
        let (kernels, config) = (self.decoder.kernels(), self.decoder.config());
        for rows in rows.chunks((self.limits.logits / config.vocab_size).max(1)) {
            kernels.gather(&self.x, config.hidden_size, rows, &mut self.rows);
            kernels.rms_norm(&self.rows, self.decoder.norm(), config.rms_norm_eps, &mut self.hidden);
            kernels.logits(&self.hidden, rows.len(), self.decoder.head(), &mut self.logits);
            let logits = std::mem::take(&mut self.logits);
            for logits in logits.chunks_exact(config.vocab_size) {
                visit(self, logits);
            }
            self.logits = logits;
        }
    }

    /// Draws a token; says whether it is the last.
    fn extend(
        &self,
        sequence: &mut Sequence<K>,
        logits: &[f32],
        on_token: &mut dyn FnMut(usize, u32),
    ) -> Option<Finish> {
        let prompt = self.prompts[sequence.prompt].tokens;
        let seen = || prompt.iter().chain(&sequence.tokens).copied().collect();
        let (token, log_prob) = sampler::sample(logits, seen, self.options.sampling, &mut sequence.rng);
        sequence.tokens.push(token);
        sequence.log_probs.push(log_prob);
        on_token(sequence.completion, token);
        if self.options.eos_token_ids.contains(&token) {
            Some(Finish::EndOfSequence)
        } else if self.options.stop.is_some_and(|stop| stop.reached(&sequence.tokens)) {
            Some(Finish::Stop)
        } else if sequence.tokens.len() >= self.options.max_new_tokens
            || prompt.len() + sequence.tokens.len() >= self.decoder.config().max_position_embeddings
        {
            Some(Finish::Length)
        } else {
            None
        }
    }

    fn finish(&mut self, sequence: Sequence<K>, finish: Finish) {
        let Sequence { prompt, completion, tokens, log_probs, .. } = sequence;
        self.finished.push((prompt, completion, Generated { tokens, log_probs, finish }));
    }
}
