//! The GRPO workload that is timed: whole steps of a random Qwen2, measured in a process of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use dynlora_core::{LoraAdapter, LoraConfig, TargetModules};
use grpo_trainer::data::{Prompt, Record};
use grpo_trainer::lm::LmPolicy;
use grpo_trainer::reward::{Reward, RewardError, RewardFunction, RewardInput};
use grpo_trainer::{GrpoConfig, GrpoTrainer, RunDir};
use krystal_lm::{LanguageModel, ModelConfig, RopeScaling, Tokenizer, initial_tensors, module_shapes};
use serde_json::{Value, json};

use crate::host::{cpu_seconds, peak_mib};
use crate::peer::peer_command;

/// Tokens of the vocabulary; every one of them is a character.
const VOCABULARY: usize = 512;
/// Completions of a prompt.
const GROUP: usize = 8;
/// Tokens of a completion, never fewer: no token ends it.
const COMPLETION: usize = 64;

/// The shape of a model and how many steps make a run of a few seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// What it is called.
    pub name: &'static str,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width between the projections of the feed-forward layer.
    pub intermediate: usize,
    /// Blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Steps of ours in a run.
    pub steps: u64,
    /// Steps of the peer in a run.
    pub peer_steps: u64,
}

impl Size {
    /// 0.11, 3.1 and 24.4 million parameters.
    pub const ALL: [Self; 3] = [
        Self {
            name: "tiny",
            hidden: 64,
            intermediate: 128,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            steps: 200,
            peer_steps: 20,
        },
        Self {
            name: "small",
            hidden: 256,
            intermediate: 768,
            layers: 4,
            heads: 8,
            kv_heads: 2,
            steps: 25,
            peer_steps: 6,
        },
        Self {
            name: "medium",
            hidden: 512,
            intermediate: 1536,
            layers: 8,
            heads: 8,
            kv_heads: 2,
            steps: 4,
            peer_steps: 3,
        },
    ];

    /// The size of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|size| size.name == name)
    }

    /// The model's configuration.
    pub fn config(self) -> ModelConfig {
        ModelConfig {
            model_type: "qwen2".to_owned(),
            vocab_size: VOCABULARY,
            hidden_size: self.hidden,
            intermediate_size: self.intermediate,
            num_hidden_layers: self.layers,
            num_attention_heads: self.heads,
            num_key_value_heads: self.kv_heads,
            head_dim: self.hidden / self.heads,
            rms_norm_eps: 1e-6,
            rope_theta: 10_000.0,
            rope_scaling: RopeScaling::Default,
            tie_word_embeddings: true,
            qkv_bias: true,
            o_bias: false,
            mlp_bias: false,
            qk_norm: false,
            sliding_window: vec![None; self.layers],
            max_position_embeddings: 512,
            bos_token_id: None,
            eos_token_ids: vec![1],
            pad_token_id: Some(0),
        }
    }
}

/// A run to measure.
#[derive(Debug, Clone)]
pub struct TrainingRun {
    /// The model.
    pub size: Size,
    /// Steps to take.
    pub steps: u64,
    /// Threads to use.
    pub threads: usize,
    /// Prompts of a step, each with 8 completions of 64 tokens.
    pub prompts: usize,
    /// Where to write metrics and adapter; `None` writes nothing.
    pub run_dir: Option<PathBuf>,
}

/// What a run took, from after the model was built to after the last step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Completion tokens sampled and learned from.
    pub tokens: f64,
    /// Processor time of all threads.
    pub cpu_s: f64,
    /// Time on the wall.
    pub wall_s: f64,
    /// The most memory the process held, building and imports included; `None` where the system does not say.
    pub peak_mib: Option<f64>,
}

impl Measured {
    /// Completion tokens per second of processor time.
    pub fn tokens_per_cpu_s(&self) -> f64 {
        self.tokens / self.cpu_s
    }

    /// Reads the last line of JSON in what a measured process printed, ours or the peer's.
    ///
    /// # Errors
    /// If there is none, or a number is missing in it.
    pub fn from_output(output: &str) -> anyhow::Result<Self> {
        let line =
            output.lines().rev().find(|line| line.starts_with('{')).context("expected a line of JSON, found none")?;
        let value: Value = serde_json::from_str(line).with_context(|| format!("expected JSON, found `{line}`"))?;
        let number = |key: &str| {
            value.get(key).and_then(Value::as_f64).with_context(|| format!("expected a number `{key}` in `{line}`"))
        };
        Ok(Self {
            tokens: number("tokens")?,
            cpu_s: number("cpu_s")?,
            wall_s: number("wall_s")?,
            peak_mib: value.get("peak_mib").and_then(Value::as_f64),
        })
    }
}

/// Hidden arguments by which a benchmark runs itself for one [`TrainingRun`].
#[derive(Debug, Clone, clap::Args)]
pub struct ChildArguments {
    /// Train the model of this size and print what it took.
    #[arg(long, hide = true, value_name = "SIZE")]
    child: Option<String>,
    #[arg(long, hide = true, default_value_t = 1)]
    steps: u64,
    #[arg(long, hide = true, default_value_t = 1)]
    threads: usize,
    #[arg(long, hide = true, default_value_t = 1)]
    prompts: usize,
    #[arg(long, hide = true)]
    run_dir: Option<PathBuf>,
}

impl ChildArguments {
    /// If this process is to be measured: runs, prints the result, and returns true.
    ///
    /// # Errors
    /// If there is no such size, or the run fails.
    pub fn run(&self) -> anyhow::Result<bool> {
        let Some(name) = &self.child else { return Ok(false) };
        let size = Size::named(name).with_context(|| format!("expected a size, found `{name}`"))?;
        let run = TrainingRun {
            size,
            steps: self.steps,
            threads: self.threads,
            prompts: self.prompts,
            run_dir: self.run_dir.clone(),
        };
        let measured = run.in_this_process()?;
        println!(
            "{}",
            json!({
                "tokens": measured.tokens, "cpu_s": measured.cpu_s, "wall_s": measured.wall_s, "peak_mib": measured.peak_mib,
            })
        );
        Ok(true)
    }
}

impl TrainingRun {
    /// Completion tokens of the whole run.
    pub fn tokens(&self) -> u64 {
        self.steps * (self.prompts * GROUP * COMPLETION) as u64
    }

    /// Runs in a new process of this program, which must take [`ChildArguments`].
    ///
    /// # Errors
    /// If the process cannot be started or fails.
    pub fn in_child(&self) -> anyhow::Result<Measured> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--child", self.size.name, "--steps", &self.steps.to_string()]);
        command.args(["--threads", &self.threads.to_string(), "--prompts", &self.prompts.to_string()]);
        if let Some(run_dir) = &self.run_dir {
            command.arg("--run-dir").arg(run_dir);
        }
        measure(&mut command)
    }

    /// Runs TRL on the same workload, one prompt a step, with the Python of a virtual environment.
    ///
    /// # Errors
    /// If Python cannot be started, the script fails, or it sampled another number of tokens.
    pub fn in_peer(&self, environment: &Path) -> anyhow::Result<Measured> {
        ensure!(self.prompts == 1, "the peer's script takes one prompt a step, not {}", self.prompts);
        let size = self.size;
        let mut command = peer_command(environment, "trl_grpo.py");
        for (name, value) in [
            ("--hidden-size", size.hidden),
            ("--intermediate-size", size.intermediate),
            ("--layers", size.layers),
            ("--heads", size.heads),
            ("--kv-heads", size.kv_heads),
            ("--group", GROUP),
            ("--completion", COMPLETION),
            ("--threads", self.threads),
        ] {
            command.arg(name).arg(value.to_string());
        }
        command.arg("--steps").arg(self.steps.to_string()).arg("--alphabet").arg(alphabet());
        command.env("OMP_NUM_THREADS", self.threads.to_string());
        // Where a CUDA build of PyTorch was installed without CUDA, empty libraries stand in for it here.
        let stubs = environment.join("stublib");
        if stubs.is_dir() {
            command.env("LD_LIBRARY_PATH", stubs);
        }
        let measured = measure(&mut command)?;
        ensure!(
            measured.tokens == self.tokens() as f64,
            "expected {} completion tokens from the peer, got {}",
            self.tokens(),
            measured.tokens
        );
        Ok(measured)
    }

    fn in_this_process(&self) -> anyhow::Result<Measured> {
        rayon::ThreadPoolBuilder::new().num_threads(self.threads).build_global()?;
        let mut trainer = self.trainer()?;
        let (cpu, wall) = (cpu_seconds(), Instant::now());
        let summary = trainer.train(&mut ())?;
        let (cpu_s, wall_s) = (cpu_seconds() - cpu, wall.elapsed().as_secs_f64());
        // Prompts have 4 tokens: anything else means completions of another length.
        let prompt_tokens = self.steps * (self.prompts * GROUP * 4) as u64;
        ensure!(
            summary.num_tokens == self.tokens() + prompt_tokens,
            "expected {} tokens, got {}",
            self.tokens() + prompt_tokens,
            summary.num_tokens
        );
        Ok(Measured { tokens: self.tokens() as f64, cpu_s, wall_s, peak_mib: peak_mib() })
    }

    fn trainer(&self) -> anyhow::Result<GrpoTrainer<LmPolicy>> {
        let config = self.size.config();
        let tokenizer = Tokenizer::characters(&alphabet(), &[])?;
        ensure!(tokenizer.vocab_size() == VOCABULARY, "the alphabet has {} tokens", tokenizer.vocab_size());
        let lora = LoraConfig {
            r: 8,
            lora_alpha: 16.0,
            target_modules: TargetModules::Names(["q_proj", "k_proj", "v_proj", "o_proj"].map(str::to_owned).to_vec()),
            ..LoraConfig::default()
        };
        let adapter = LoraAdapter::new(lora, &module_shapes(&config), 0)?;
        let tensors = initial_tensors(&config, 0);
        let model = LanguageModel::from_tensors(config, &tensors, tokenizer)?;
        let policy = LmPolicy::with_adapter(Arc::new(model), adapter, None).with_eos_token_ids(Vec::new());
        let settings = GrpoConfig {
            max_steps: Some(self.steps),
            prompts_per_step: self.prompts,
            num_generations: GROUP,
            max_completion_length: COMPLETION,
            learning_rate: 1e-4,
            checkpoint_every: 0,
            zero_spread_patience: 0,
            ..GrpoConfig::default()
        };
        let rewards: Vec<Box<dyn RewardFunction>> = vec![Box::new(DigitShare), Box::new(ExactPrefix)];
        let trainer = GrpoTrainer::new(settings, policy, rewards, records())?;
        let Some(path) = &self.run_dir else { return Ok(trainer) };
        let start = Instant::now();
        let clock = Box::new(move || start.elapsed().as_secs_f64());
        Ok(trainer.with_clock(clock).with_run_dir(RunDir::create(path)?)?)
    }
}

/// Runs a command that prints what it measured; shows its errors only if it fails.
fn measure(command: &mut Command) -> anyhow::Result<Measured> {
    let output = command.output().with_context(|| format!("could not start {}", command.get_program().display()))?;
    if !output.status.success() {
        bail!(
            "{} failed: {}\n{}",
            command.get_program().display(),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Measured::from_output(&String::from_utf8_lossy(&output.stdout))
}

/// As many characters as, with three special tokens, make the vocabulary: ASCII first.
fn alphabet() -> String {
    (' '..='~').chain('\u{a1}'..).filter(|c| !c.is_control() && *c != '\u{ad}').take(VOCABULARY - 3).collect()
}

/// `a+b=` for all digits, with its answer.
fn records() -> Vec<Record> {
    let sums = (0..100).map(|i| (i / 10, i % 10));
    sums.map(|(a, b)| Record {
        prompt: Prompt::Text(format!("{a}+{b}=")),
        columns: [("answer".to_owned(), Value::String((a + b).to_string()))].into_iter().collect(),
    })
    .collect()
}

/// The share of a completion's characters that are digits.
#[derive(Debug)]
struct DigitShare;

impl RewardFunction for DigitShare {
    fn name(&self) -> &str {
        "digit_share"
    }

    fn score(&self, inputs: &[RewardInput<'_>]) -> Result<Vec<Reward>, RewardError> {
        let share = |text: &str| {
            let digits = text.chars().filter(char::is_ascii_digit).count();
            digits as f64 / text.chars().count().max(1) as f64
        };
        Ok(inputs.iter().map(|input| Reward::score(share(input.completion))).collect())
    }
}

/// 1 where the completion starts with the answer, else 0.
#[derive(Debug)]
struct ExactPrefix;

impl RewardFunction for ExactPrefix {
    fn name(&self) -> &str {
        "exact_prefix"
    }

    fn score(&self, inputs: &[RewardInput<'_>]) -> Result<Vec<Reward>, RewardError> {
        let score = |input: &RewardInput<'_>| match input.columns.get("answer").and_then(Value::as_str) {
            Some(answer) => Reward::score(f64::from(u8::from(input.completion.trim_start().starts_with(answer)))),
            None => Reward::abstain("the record has no answer"),
        };
        Ok(inputs.iter().map(score).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_json_line_is_the_measurement() {
        let output = "log\n{\"tokens\":1}\n{\"tokens\":512,\"cpu_s\":2,\"wall_s\":3,\"peak_mib\":null}\nbye\n";
        let measured = Measured::from_output(output).unwrap();
        assert_eq!(measured, Measured { tokens: 512.0, cpu_s: 2.0, wall_s: 3.0, peak_mib: None });
        assert_eq!(measured.tokens_per_cpu_s(), 256.0);
        assert!(Measured::from_output("log\n").is_err());
        assert!(Measured::from_output("{\"tokens\":1}").unwrap_err().to_string().contains("cpu_s"));
    }

    #[test]
    fn a_step_trains_on_every_token_of_a_full_group() {
        let run = TrainingRun { size: Size::ALL[0], steps: 2, threads: 1, prompts: 1, run_dir: None };
        let mut trainer = run.trainer().unwrap();
        let summary = trainer.train(&mut ()).unwrap();
        assert_eq!(summary.num_tokens, 2 * 8 * (64 + 4));
        let last = summary.last.unwrap();
        assert!(last.get("grad_norm").unwrap() > 0.0, "{last:?}");
        assert_eq!(last.get("completions/mean_length"), Some(64.0));
    }
}
