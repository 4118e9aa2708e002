use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{IGNORED_FIELDS, ModelConfig, RopeScaling};
use crate::error::Result;
use crate::fixture::{MODELS, shared};

const LLAMA_3_2_1B: &str = r#"{
  "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 128000,
  "eos_token_id": [128001, 128008, 128009], "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048,
  "initializer_range": 0.02, "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": false,
  "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
  "pretraining_tp": 1, "rms_norm_eps": 1e-05,
  "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                   "original_max_position_embeddings": 8192, "rope_type": "llama3"},
  "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
  "transformers_version": "4.45.0.dev0", "use_cache": true, "vocab_size": 128256}"#;

const MISTRAL_7B_V0_1: &str = r#"{
  "architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
  "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336, "max_position_embeddings": 32768,
  "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
  "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": false,
  "torch_dtype": "bfloat16", "transformers_version": "4.34.0.dev0", "use_cache": true, "vocab_size": 32000}"#;

const MISTRAL_7B_V0_3: &str = r#"{
  "architectures": ["MistralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
  "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336,
  "max_position_embeddings": 32768, "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 32,
  "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "sliding_window": null,
  "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.42.0.dev0", "use_cache": true,
  "vocab_size": 32768}"#;

const QWEN2_5_0_5B: &str = r#"{
  "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151643,
  "hidden_act": "silu", "hidden_size": 896, "initializer_range": 0.02, "intermediate_size": 4864,
  "max_position_embeddings": 32768, "max_window_layers": 24, "model_type": "qwen2", "num_attention_heads": 14,
  "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
  "sliding_window": 32768, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
  "transformers_version": "4.40.1", "use_cache": true, "use_mrope": false, "use_sliding_window": false,
  "vocab_size": 151936}"#;

const QWEN3_0_6B: &str = r#"{
  "architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 151643,
  "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024, "initializer_range": 0.02,
  "intermediate_size": 3072, "max_position_embeddings": 40960, "max_window_layers": 28, "model_type": "qwen3",
  "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-06,
  "rope_scaling": null, "rope_theta": 1000000, "sliding_window": null, "tie_word_embeddings": true,
  "torch_dtype": "bfloat16", "transformers_version": "4.51.0", "use_cache": true, "use_sliding_window": false,
  "vocab_size": 151936}"#;

const SMOLLM2_135M: &str = r#"{
  "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 0,
  "eos_token_id": 0, "hidden_act": "silu", "hidden_size": 576, "initializer_range": 0.041666666666666664,
  "intermediate_size": 1536, "is_llama_config": true, "max_position_embeddings": 8192, "model_type": "llama",
  "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3, "pretraining_tp": 1,
  "rms_norm_eps": 1e-05, "rope_interleaved": false, "rope_scaling": null, "rope_theta": 100000,
  "tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers_version": "4.40.1", "use_cache": true,
  "vocab_size": 49152}"#;

const TINYLLAMA_1_1B: &str = r#"{
  "architectures": ["LlamaForCausalLM"], "attention_bias": false, "bos_token_id": 1, "eos_token_id": 2,
  "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 5632,
  "max_position_embeddings": 2048, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 22,
  "num_key_value_heads": 4, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": null, "rope_theta": 10000.0,
  "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.35.0", "use_cache": true,
  "vocab_size": 32000}"#;

const LLAMA_1_7B: &str = r#"{
  "architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": -1,
  "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 11008, "initializer_range": 0.02,
  "max_sequence_length": 2048, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 32,
  "rms_norm_eps": 1e-06, "torch_dtype": "float16", "transformers_version": "4.27.0.dev0", "use_cache": true,
  "vocab_size": 32000}"#;

const KNOWN: [&str; 8] = [
    LLAMA_3_2_1B,
    MISTRAL_7B_V0_1,
    MISTRAL_7B_V0_3,
    QWEN2_5_0_5B,
    QWEN3_0_6B,
    SMOLLM2_135M,
    TINYLLAMA_1_1B,
    LLAMA_1_7B,
];

fn read(text: &str) -> Result<ModelConfig> {
    ModelConfig::from_json(text, Path::new("config.json"))
}

/// `base` with fields replaced; a field replaced by the string "absent" is taken out.
fn with(base: &str, changes: Value) -> String {
    let mut object: Value = serde_json::from_str(base).expect("the base is JSON");
    for (name, value) in changes.as_object().expect("changes are an object") {
        let object = object.as_object_mut().expect("the base is an object");
        if value == "absent" {
            object.shift_remove(name);
        } else {
            object.insert(name.clone(), value.clone());
        }
    }
    object.to_string()
}

fn count(config: &ModelConfig) -> usize {
    config.tensor_names().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
}

#[test]
fn reads_well_known_models() -> Result<()> {
    // The parameter counts are those their makers publish.
    for (text, parameters) in [
        (LLAMA_3_2_1B, 1_235_814_400),
        (MISTRAL_7B_V0_1, 7_241_732_096),
        (MISTRAL_7B_V0_3, 7_248_023_552),
        (QWEN2_5_0_5B, 494_032_768),
        (QWEN3_0_6B, 596_049_920),
        (SMOLLM2_135M, 134_515_008),
        (TINYLLAMA_1_1B, 1_100_048_384),
        (LLAMA_1_7B, 6_738_415_616),
    ] {
        assert_eq!(count(&read(text)?), parameters);
    }
    Ok(())
}

#[test]
fn reads_every_field() -> Result<()> {
    let llama = read(LLAMA_3_2_1B)?;
    let expected = ModelConfig {
        model_type: "llama".to_owned(),
        vocab_size: 128_256,
        hidden_size: 2048,
        intermediate_size: 8192,
        num_hidden_layers: 16,
        num_attention_heads: 32,
        num_key_value_heads: 8,
        head_dim: 64,
        rms_norm_eps: 1e-5,
        rope_theta: 500_000.0,
        rope_scaling: RopeScaling::Llama3 {
            factor: 32.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        },
        tie_word_embeddings: true,
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
        qk_norm: false,
        sliding_window: vec![None; 16],
        max_position_embeddings: 131_072,
        bos_token_id: Some(128_000),
        eos_token_ids: vec![128_001, 128_008, 128_009],
        pad_token_id: None,
    };
    assert_eq!(llama, expected);

    assert_eq!(read(MISTRAL_7B_V0_1)?.sliding_window, vec![Some(4096); 32]);
    assert_eq!(read(MISTRAL_7B_V0_3)?.sliding_window, vec![None; 32]);
    let qwen2 = read(QWEN2_5_0_5B)?;
    assert_eq!((qwen2.qkv_bias, qwen2.o_bias, qwen2.qk_norm, qwen2.head_dim), (true, false, false, 64));
    assert_eq!(qwen2.sliding_window, vec![None; 24]);
    let qwen3 = read(QWEN3_0_6B)?;
    assert_eq!((qwen3.qkv_bias, qwen3.o_bias, qwen3.qk_norm, qwen3.head_dim), (false, false, true, 128));
    let old = read(LLAMA_1_7B)?;
    assert_eq!((old.num_key_value_heads, old.head_dim, old.rope_theta), (32, 128, 10_000.0));
    assert_eq!((old.max_position_embeddings, old.pad_token_id), (2048, None));
    Ok(())
}

#[test]
fn both_config_styles_are_one_model() -> Result<()> {
    let new = with(
        LLAMA_3_2_1B,
        json!({"rope_theta": "absent", "rope_scaling": "absent", "torch_dtype": "absent", "dtype": "bfloat16",
            "rope_parameters": {"factor": 32, "high_freq_factor": 4, "low_freq_factor": 1, "rope_theta": 500000,
                "original_max_position_embeddings": 8192, "rope_type": "llama3"}}),
    );
    assert_eq!(read(&new)?, read(LLAMA_3_2_1B)?);
    let old_name = with(TINYLLAMA_1_1B, json!({"rope_scaling": {"type": "default", "rope_theta": 10000.0}}));
    assert_eq!(read(&old_name)?, read(TINYLLAMA_1_1B)?);
    // Both styles at once, saying the same.
    let both = with(MISTRAL_7B_V0_3, json!({"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}));
    assert_eq!(read(&both)?, read(MISTRAL_7B_V0_3)?);
    Ok(())
}

#[test]
fn absent_fields_have_the_defaults_of_transformers() -> Result<()> {
    let absent = json!({"bos_token_id": "absent", "eos_token_id": "absent", "rms_norm_eps": "absent",
        "rope_theta": "absent", "head_dim": "absent", "max_position_embeddings": "absent",
        "tie_word_embeddings": "absent", "sliding_window": "absent"});
    let llama = read(&with(TINYLLAMA_1_1B, absent.clone()))?;
    assert_eq!((llama.bos_token_id, llama.eos_token_ids.as_slice()), (Some(1), [2].as_slice()));
    assert_eq!((llama.rms_norm_eps, llama.rope_theta, llama.tie_word_embeddings), (1e-6, 10_000.0, false));
    assert_eq!((llama.head_dim, llama.max_position_embeddings), (64, 2048));
    let mistral = read(&with(MISTRAL_7B_V0_1, absent.clone()))?;
    assert_eq!((mistral.sliding_window[0], mistral.max_position_embeddings), (Some(4096), 131_072));
    let qwen3 = read(&with(QWEN3_0_6B, absent))?;
    assert_eq!((qwen3.bos_token_id, qwen3.eos_token_ids.as_slice()), (None, [].as_slice()));
    assert_eq!((qwen3.head_dim, qwen3.max_position_embeddings), (128, 32_768));
    // A null is not an absent field.
    let null = read(&with(TINYLLAMA_1_1B, json!({"bos_token_id": null, "eos_token_id": null})))?;
    assert_eq!((null.bos_token_id, null.eos_token_ids), (None, vec![]));
    Ok(())
}

#[test]
fn windows_slide_where_the_file_says() -> Result<()> {
    let base = with(QWEN3_0_6B, json!({"num_hidden_layers": 4, "sliding_window": 16, "use_sliding_window": true}));
    let by_count = read(&with(&base, json!({"max_window_layers": 3})))?;
    assert_eq!(by_count.sliding_window, [None, None, None, Some(16)]);
    let kinds = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"];
    let by_list = read(&with(&base, json!({"max_window_layers": 3, "layer_types": kinds})))?;
    assert_eq!(by_list.sliding_window, [None, Some(16), None, Some(16)]);
    let mistral = with(MISTRAL_7B_V0_1, json!({"num_hidden_layers": 2}));
    let listed = with(&mistral, json!({"layer_types": ["sliding_attention", "sliding_attention"]}));
    assert_eq!(read(&listed)?, read(&mistral)?);
    Ok(())
}

#[test]
fn biases_follow_the_family() -> Result<()> {
    let llama = read(&with(TINYLLAMA_1_1B, json!({"attention_bias": true, "mlp_bias": true})))?;
    assert_eq!((llama.qkv_bias, llama.o_bias, llama.mlp_bias), (true, true, true));
    let qwen3 = read(&with(QWEN3_0_6B, json!({"attention_bias": true})))?;
    assert_eq!((qwen3.qkv_bias, qwen3.o_bias, qwen3.mlp_bias), (true, true, false));
    Ok(())
}

#[test]
fn writes_what_it_reads() -> Result<()> {
    let windowed = with(
        QWEN3_0_6B,
        json!({"num_hidden_layers": 3, "sliding_window": 16, "use_sliding_window": true, "max_window_layers": 1,
            "eos_token_id": null, "rms_norm_eps": 1.2345678e-5, "rope_theta": 123456.789012345}),
    );
    let biased = with(TINYLLAMA_1_1B, json!({"attention_bias": true, "mlp_bias": true, "pad_token_id": 7}));
    let alternating = with(
        QWEN2_5_0_5B,
        json!({"num_hidden_layers": 2, "use_sliding_window": true, "layer_types": ["sliding_attention", "full_attention"]}),
    );
    for text in KNOWN.into_iter().chain([windowed.as_str(), &biased, &alternating]) {
        let config = read(text)?;
        let written = config.to_json();
        assert_eq!(read(&written.to_string())?, config);
        // The number itself, not the nearest f32 with all its digits.
        let read: Value = serde_json::from_str(text).expect("the text is JSON");
        assert_eq!(written["rms_norm_eps"], read["rms_norm_eps"]);
    }
    Ok(())
}

#[test]
fn refuses_what_it_does_not_compute() {
    let rope = |object: Value| json!({"rope_scaling": object});
    for (base, changes, message) in [
        (
            TINYLLAMA_1_1B,
            json!({"model_type": "gemma2"}),
            "field `model_type` = \"gemma2\" is not supported (supported: llama, mistral, qwen2, qwen3)",
        ),
        (
            TINYLLAMA_1_1B,
            json!({"architectures": ["LlamaForSequenceClassification"]}),
            "field `architectures` = [\"LlamaForSequenceClassification\"] is not supported (supported: LlamaForCausalLM)",
        ),
        (
            TINYLLAMA_1_1B,
            json!({"hidden_act": "gelu"}),
            "field `hidden_act` = \"gelu\" is not supported (supported: silu)",
        ),
        (
            TINYLLAMA_1_1B,
            rope(json!({"type": "linear", "factor": 2.0})),
            "field `rope_scaling.rope_type` = \"linear\" is not supported (supported: default, llama3)",
        ),
        (
            QWEN2_5_0_5B,
            rope(json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768})),
            "field `rope_scaling.rope_type` = \"yarn\" is not supported (supported: default, llama3)",
        ),
        (
            QWEN2_5_0_5B,
            rope(json!({"rope_type": "default", "mrope_section": [1]})),
            "unknown field `rope_scaling.mrope_section` = [1]: it might change what the model computes",
        ),
        (
            QWEN3_0_6B,
            json!({"rope_parameters": {"full_attention": {"rope_theta": 1e6}}}),
            "field `rope_parameters.full_attention` = {\"rope_theta\":1000000.0} is not supported \
             (supported: one set of rotary parameters for all layers)",
        ),
        (
            TINYLLAMA_1_1B,
            json!({"quantization_config": {"bits": 4}}),
            "field `quantization_config` = {\"bits\":4} is not supported (supported: null)",
        ),
        (QWEN3_0_6B, json!({"num_experts": 8}), "field `num_experts` = 8 is not supported (supported: null or 0)"),
        (
            TINYLLAMA_1_1B,
            json!({"partial_rotary_factor": 0.5}),
            "field `partial_rotary_factor` = 0.5 is not supported (supported: 1)",
        ),
        (
            TINYLLAMA_1_1B,
            json!({"attn_logit_softcapping": 50.0}),
            "field `attn_logit_softcapping` = 50.0 is not supported (supported: null)",
        ),
        (TINYLLAMA_1_1B, json!({"pretraining_tp": 2}), "field `pretraining_tp` = 2 is not supported (supported: 1)"),
        (
            QWEN3_0_6B,
            json!({"attn_output_gate": true}),
            "field `attn_output_gate` = true is not supported (supported: false)",
        ),
        (
            TINYLLAMA_1_1B,
            json!({"attention_dropout": 0.1}),
            "field `attention_dropout` = 0.1 is not supported (supported: 0)",
        ),
        (
            QWEN3_0_6B,
            json!({"num_hidden_layers": 1, "layer_types": ["linear_attention"]}),
            "field `layer_types` = \"linear_attention\" is not supported \
             (supported: full_attention, sliding_attention)",
        ),
        (
            QWEN3_0_6B,
            json!({"num_hidden_layers": 1, "layer_types": ["sliding_attention"]}),
            "field `layer_types` = \"sliding_attention\" is not supported \
             (supported: full_attention, as sliding_window is off)",
        ),
        (
            MISTRAL_7B_V0_1,
            json!({"num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"]}),
            "field `layer_types` = [true,false] is not supported (supported: sliding_attention in every layer)",
        ),
        (TINYLLAMA_1_1B, json!({"sliding_window": 8}), "field `sliding_window` = 8 is not supported (supported: null)"),
        (
            QWEN2_5_0_5B,
            json!({"attention_bias": false}),
            "field `attention_bias` = false is not supported (supported: true)",
        ),
        (MISTRAL_7B_V0_1, json!({"mlp_bias": true}), "field `mlp_bias` = true is not supported (supported: false)"),
        (
            TINYLLAMA_1_1B,
            json!({"auto_map": {"AutoModelForCausalLM": "modeling.Model"}}),
            "field `auto_map` = {\"AutoModelForCausalLM\":\"modeling.Model\"} is not supported (supported: null)",
        ),
        (
            TINYLLAMA_1_1B,
            json!({"residual_multiplier": 0.22}),
            "unknown field `residual_multiplier` = 0.22: it might change what the model computes",
        ),
    ] {
        assert_eq!(read(&with(base, changes)).unwrap_err().to_string(), format!("config.json: {message}"));
    }
}

#[test]
fn refuses_wrong_values() {
    for (base, changes, message) in [
        (TINYLLAMA_1_1B, json!({"hidden_size": "absent"}), "field `hidden_size` is missing"),
        (TINYLLAMA_1_1B, json!({"model_type": "absent"}), "field `model_type` is missing"),
        (QWEN2_5_0_5B, json!({"num_key_value_heads": "absent"}), "field `num_key_value_heads` is missing"),
        (
            TINYLLAMA_1_1B,
            json!({"hidden_size": 0}),
            "field `hidden_size`: expected a whole number from 1 to 2147483647, found 0",
        ),
        (
            TINYLLAMA_1_1B,
            json!({"vocab_size": 4_294_967_296_u64}),
            "field `vocab_size`: expected a whole number from 1 to 2147483647, found 4294967296",
        ),
        (
            TINYLLAMA_1_1B,
            json!({"intermediate_size": 5632.5}),
            "field `intermediate_size`: expected a whole number from 1 to 2147483647, found 5632.5",
        ),
        (
            TINYLLAMA_1_1B,
            json!({"num_hidden_layers": 2_000_000_000}),
            "field `num_hidden_layers`: expected at most 10000, found 2000000000",
        ),
        (TINYLLAMA_1_1B, json!({"head_dim": 63}), "field `head_dim`: expected an even number, found 63"),
        (
            TINYLLAMA_1_1B,
            json!({"num_key_value_heads": 5}),
            "field `num_key_value_heads`: expected a divisor of num_attention_heads (32), found 5",
        ),
        (
            TINYLLAMA_1_1B,
            json!({"num_attention_heads": 24}),
            "field `num_attention_heads`: expected a divisor of hidden_size (2048), or a head_dim, found 24",
        ),
        (
            TINYLLAMA_1_1B,
            json!({"rms_norm_eps": 0.0}),
            "field `rms_norm_eps`: expected a finite number above 0, found 0.0",
        ),
        (TINYLLAMA_1_1B, json!({"rope_theta": -1.0}), "field `rope_theta`: expected a number above 0, found -1.0"),
        (
            TINYLLAMA_1_1B,
            json!({"rope_scaling": {"rope_theta": 5.0}}),
            "field `rope_scaling`: expected the same rope_theta as outside it (10000), found {\"rope_theta\":5.0}",
        ),
        (
            LLAMA_3_2_1B,
            json!({"rope_parameters": {"rope_type": "default"}}),
            "field `rope_scaling`: expected the same as rope_parameters, found {\"factor\":32.0,\
             \"high_freq_factor\":4.0,\"low_freq_factor\":1.0,\"original_max_position_embeddings\":8192,\
             \"rope_type\":\"llama3\"...",
        ),
        (
            LLAMA_3_2_1B,
            json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}),
            "field `rope_scaling.low_freq_factor` is missing",
        ),
        (
            LLAMA_3_2_1B,
            json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0,
                "high_freq_factor": 1.0, "original_max_position_embeddings": 8192}}),
            "field `rope_scaling.high_freq_factor`: expected a finite number above low_freq_factor, found 1.0",
        ),
        (
            TINYLLAMA_1_1B,
            json!({"eos_token_id": [1, "2"]}),
            "field `eos_token_id`: expected a token id, a list of token ids or null, found [1,\"2\"]",
        ),
        (
            TINYLLAMA_1_1B,
            json!({"eos_token_id": 32000}),
            "field `eos_token_id`: expected a token id below vocab_size (32000), found 32000",
        ),
        (
            QWEN3_0_6B,
            json!({"layer_types": ["full_attention"]}),
            "field `layer_types`: expected one entry for each of the 28 layers, found \"1 entries\"",
        ),
        (
            TINYLLAMA_1_1B,
            json!({"tie_word_embeddings": "yes"}),
            "field `tie_word_embeddings`: expected true or false, found \"yes\"",
        ),
    ] {
        assert_eq!(read(&with(base, changes)).unwrap_err().to_string(), format!("config.json: {message}"));
    }
    assert_eq!(read("[]").unwrap_err().to_string(), "config.json: not a JSON object");
}

#[test]
fn validate_refuses_what_no_file_can_say() -> Result<()> {
    let base = read(TINYLLAMA_1_1B)?;
    base.validate()?;
    type Change = fn(&mut ModelConfig);
    let changes: [(Change, &str); 8] = [
        (|c| c.qk_norm = true, "qkv_bias, o_bias, mlp_bias, qk_norm"),
        (|c| c.qkv_bias = true, "qkv_bias, o_bias, mlp_bias, qk_norm"),
        (|c| c.sliding_window[3] = Some(4), "sliding_window"),
        (|c| c.sliding_window.truncate(1), "sliding_window"),
        (|c| c.rope_theta = f64::NAN, "rope_theta"),
        (|c| c.rms_norm_eps = f32::NAN, "rms_norm_eps"),
        (|c| c.head_dim = usize::MAX - 1, "head_dim"),
        (|c| c.num_attention_heads = 1 << 30, "num_attention_heads * head_dim"),
    ];
    for (change, field) in changes {
        let mut config = base.clone();
        change(&mut config);
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains(&format!("field `{field}`: expected ")), "{message}");
    }
    Ok(())
}

#[test]
fn lists_what_it_ignores() -> Result<()> {
    let ignored = ModelConfig::ignored_fields(SMOLLM2_135M, Path::new("config.json"))?;
    let expected = ["initializer_range", "is_llama_config", "torch_dtype", "transformers_version", "use_cache"];
    assert_eq!(ignored, expected);
    assert!(ignored.iter().all(|name| IGNORED_FIELDS.contains(&name.as_str())));
    Ok(())
}

#[test]
fn generation_config_overrides_the_end_of_sequence() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("config.json"), QWEN2_5_0_5B)?;
    assert_eq!(ModelConfig::load(folder.path())?.eos_token_ids, [151_643]);
    let generation = folder.path().join("generation_config.json");
    std::fs::write(&generation, r#"{"eos_token_id": [151645, 151643]}"#)?;
    assert_eq!(ModelConfig::load(folder.path())?.eos_token_ids, [151_645, 151_643]);
    std::fs::write(&generation, r#"{"eos_token_id": 151936}"#)?;
    let message = ModelConfig::load(folder.path()).unwrap_err().to_string();
    assert!(
        message.ends_with(
            "generation_config.json: field `eos_token_id`: expected a token id below vocab_size (151936), found 151936"
        ),
        "{message}"
    );
    let message = ModelConfig::load(&folder.path().join("nowhere")).unwrap_err().to_string();
    assert!(message.ends_with("config.json: missing; a model folder describes its model there"), "{message}");
    Ok(())
}

#[test]
fn reads_the_fixtures() -> Result<()> {
    let Some(root) = shared("fixtures/hf") else {
        return Ok(());
    };
    for (model, head_dim, key_value_heads, tied, window) in [
        ("llama-gqa", 12, 2, false, None),
        ("llama3-rope", 24, 1, true, None),
        ("mistral-window", 8, 2, false, Some(8)),
        ("qwen2-tied", 8, 1, true, None),
        ("qwen3-qknorm", 16, 2, false, None),
    ] {
        assert!(MODELS.contains(&model));
        let config = ModelConfig::load(&root.join(model))?;
        assert_eq!((config.head_dim, config.num_key_value_heads), (head_dim, key_value_heads));
        assert_eq!((config.tie_word_embeddings, config.sliding_window[0]), (tied, window));
        assert_eq!((config.bos_token_id, config.pad_token_id), (None, Some(0)));
        assert_eq!(config.eos_token_ids, [2]);
        assert_eq!(read(&config.to_json().to_string())?, config);
    }
    Ok(())
}

/// Any JSON, not very deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9_]{0,8}".prop_map(Value::from),
        Just(json!("llama3")),
        Just(json!("sliding_attention")),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-z_]{1,12}", inner), 0..4).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn random_text_is_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(read(&String::from_utf8_lossy(&bytes)).is_err());
    }

    #[test]
    fn a_random_value_in_any_field_is_read_or_refused(
        base in 0..KNOWN.len(),
        field in any::<prop::sample::Index>(),
        value in any_json(),
    ) {
        let mut object: Value = serde_json::from_str(KNOWN[base])?;
        let object = object.as_object_mut().expect("the base is an object");
        let name = object.keys().nth(field.index(object.len())).expect("an index below the length").clone();
        object.insert(name, value);
        let text = Value::Object(object.clone()).to_string();
        if let Ok(config) = read(&text) {
            config.validate()?;
            prop_assert_eq!(read(&config.to_json().to_string())?, config);
        }
    }
}

#[test]
fn every_truncation_is_an_error() {
    for text in KNOWN {
        for end in (0..text.len()).filter(|&end| text.is_char_boundary(end)) {
            assert!(read(&text[..end]).is_err());
        }
    }
}
