//! `krystal score`: how likely a given text is.

use anyhow::bail;
use clap::Args;
use krystal::lm::Group;
use serde::Serialize;
use serde_json::{Value, json};

use crate::failure::usage;
use crate::model::{ModelOptions, TokenInput};
use crate::terminal::Terminal;

/// Flags of `krystal score`.
#[derive(Debug, Args, Serialize)]
#[command(after_help = "\
Examples:
  krystal score --model DIR 'The sky is blue.'
  krystal score --model DIR --adapter runs/train-1/adapter < text.txt
  krystal score --model DIR --ids 5,6,7 --json

With --json the line is {\"ids\": [..], \"log_probs\": [null, ..], \"entropy\": [null, ..], \"perplexity\": ..}: entry i is about
token i given those before it, so the first is null. Logarithms are natural.")]
pub(crate) struct Options {
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) model: ModelOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) input: TokenInput,
    /// Softmax temperature
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    pub(crate) temperature: f32,
}

pub(crate) fn run(options: &Options, terminal: Terminal) -> anyhow::Result<()> {
    let temperature = options.temperature;
    if !(temperature > 0.0 && temperature.is_finite() && temperature.recip().is_finite()) {
        return Err(usage(format!("--temperature must be a finite number above 0 (3e-39 or more), not {temperature}")));
    }
    let adapted = options.model.open(terminal)?;
    let (model, lora) = (&adapted.model, adapted.lora.as_ref());
    let ids = options.input.tokens(model)?;
    let longest = model.decoder.config().max_position_embeddings;
    if ids.len() > longest {
        bail!("the text has {} tokens, but the model's sequences end at {longest}", ids.len());
    }
    let (mut log_probs, mut entropy) = (Vec::new(), Vec::new());
    if let [first, rest @ ..] = ids.as_slice()
        && !rest.is_empty()
    {
        let group = Group { prompt: &[*first], completions: vec![rest] };
        let mut scores = model.decoder.score_groups(lora, &[group], options.temperature);
        log_probs = scores.log_probs.swap_remove(0);
        entropy = scores.entropy.swap_remove(0);
    }
    let total = log_probs.iter().fold(0.0, |sum, log_prob| sum + f64::from(*log_prob));
    let perplexity = (!log_probs.is_empty()).then(|| (-total / log_probs.len() as f64).exp());
    if !terminal.json {
        terminal.line(&format!("{:>6} {:>10} {:>9}  token", "id", "log-prob", "entropy"));
        for (i, id) in ids.iter().enumerate() {
            let value = |values: &[f32]| match i.checked_sub(1).and_then(|i| values.get(i)) {
                Some(value) => format!("{value:.4}"),
                None => "-".to_owned(),
            };
            let token = format!("{:?}", model.tokenizer.decode(&[*id], false)?);
            terminal.line(&format!("{id:>6} {:>10} {:>9}  {token}", value(&log_probs), value(&entropy)));
        }
        match perplexity {
            Some(perplexity) => terminal.line(&format!("log-prob {total:.4}, perplexity {perplexity:.4e}")),
            None => terminal.line("one token alone has nothing to be predicted from"),
        }
    }
    let aligned = |values: &[f32]| -> Vec<Value> {
        std::iter::once(Value::Null).chain(values.iter().map(|value| json!(value))).collect()
    };
    terminal.json(&json!({
        "ids": ids,
        "log_probs": aligned(&log_probs),
        "entropy": aligned(&entropy),
        "log_prob_sum": total,
        "perplexity": perplexity,
    }));
    Ok(())
}
