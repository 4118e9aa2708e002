//! Fields of `config.json` that cannot change what a model computes.

/// Fields of `config.json` that are accepted and not used, whatever their value: none of them changes the numbers a
/// model computes. Any other field that this crate does not use is refused by name, so that a silently different model
/// cannot be loaded. To see which fields of a given file are ignored, use [`ModelConfig::ignored_fields`].
///
/// They say where a file came from, how weights are stored or were first drawn, what an unused head was called, or give
/// generation defaults of before `generation_config.json`.
///
/// [`ModelConfig::ignored_fields`]: crate::config::ModelConfig::ignored_fields
pub const IGNORED_FIELDS: &[&str] = &[
    // Origin and bookkeeping.
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_commit_hash",
    "_from_model_config",
    "_name_or_path",
    "attn_implementation",
    "is_llama_config",
    "name_or_path",
    "transformers.js_config",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    // Storage and initial values.
    "dtype",
    "initializer_range",
    "torch_dtype",
    "torchscript",
    "use_bfloat16",
    // What a call returns, and how much memory it takes.
    "chunk_size_feed_forward",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "return_dict",
    "return_dict_in_generate",
    "tie_last_hidden_states",
    "use_cache",
    // Heads and tasks of other architectures.
    "decoder_start_token_id",
    "finetuning_task",
    "id2label",
    "is_decoder",
    "label2id",
    "num_labels",
    "prefix",
    "problem_type",
    "sep_token_id",
    "task_specific_params",
    "tokenizer_class",
    // Generation defaults of before generation_config.json.
    "bad_words_ids",
    "begin_suppress_tokens",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "max_sequence_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "remove_invalid_values",
    "repetition_penalty",
    "suppress_tokens",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
];
