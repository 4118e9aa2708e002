//! Counts of tokens.

use serde_json::Value;

use crate::response::Usage;

/// Counts in the words of either interface, and those of the servers that have other words (DeepSeek's cache).
pub(super) fn read(raw: Value) -> Usage {
    let count = |paths: &[&str]| paths.iter().find_map(|path| raw.pointer(path)?.as_u64());
    Usage {
        input: count(&["/prompt_tokens", "/input_tokens"]),
        cached_input: count(&[
            "/prompt_tokens_details/cached_tokens",
            "/input_tokens_details/cached_tokens",
            "/prompt_cache_hit_tokens",
        ]),
        cache_write: count(&["/prompt_tokens_details/cache_write_tokens", "/input_tokens_details/cache_write_tokens"]),
        output: count(&["/completion_tokens", "/output_tokens"]),
        reasoning: count(&[
            "/completion_tokens_details/reasoning_tokens",
            "/output_tokens_details/reasoning_tokens",
            "/reasoning_tokens",
        ]),
        raw: Some(raw),
    }
}

/// Counts that llama.cpp gives as timings, where it gives no others.
pub(super) fn of_timings(timings: &Value) -> Option<Usage> {
    let count = |key: &str| timings.get(key)?.as_u64();
    let cached = count("cache_n");
    Some(Usage {
        input: Some(count("prompt_n")? + cached.unwrap_or(0)),
        cached_input: cached,
        output: Some(count("predicted_n")?),
        ..Usage::default()
    })
}
