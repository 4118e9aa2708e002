use std::fs;
use std::path::{Path, PathBuf};

use dynlora_core::{CONFIG_FILE, LoraAdapter, LoraConfig, TENSORS_FILE, TargetModules, stored_shapes};
use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::{hf_fixtures, shape, shapes, trained};

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn an_adapter_of_peft_is_read_and_written_back_as_it_was() {
    let Some(models) = hf_fixtures() else { return };
    for model in models {
        let folder = model.join("adapter");
        let config = json(&model.join("config.json"));
        let shapes = stored_shapes(&folder).unwrap();
        let layers = config["num_hidden_layers"].as_u64().unwrap() as usize;
        assert_eq!(shapes.len(), 7 * layers);
        let width = config["hidden_size"].as_u64().unwrap() as usize;
        assert!(
            shapes
                .iter()
                .filter(|shape| !shape.name.ends_with("o_proj"))
                .all(|shape| shape.d_in == width || shape.name.ends_with("down_proj") && shape.d_out == width)
        );

        let adapter = LoraAdapter::load(&folder, &shapes).unwrap();
        assert_eq!((adapter.config.r, adapter.config.lora_alpha, adapter.config.scale()), (4, 10.0, 2.5));
        // What was read is what a plain reader of the format sees.
        let bytes = fs::read(folder.join(TENSORS_FILE)).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(tensors.len(), 2 * adapter.modules.len());
        for module in &adapter.modules {
            for (factor, values) in [("lora_A", &module.a), ("lora_B", &module.b)] {
                let stored = tensors.tensor(&format!("base_model.model.{}.{factor}.weight", module.name)).unwrap();
                let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                assert_eq!(stored.data(), raw);
            }
            assert!(module.b.iter().any(|value| *value != 0.0));
        }

        let temporary = tempfile::tempdir().unwrap();
        let out = kept_or(&temporary).join(model.file_name().unwrap());
        adapter.save(&out, None).unwrap();
        assert_eq!(fs::read(out.join(TENSORS_FILE)).unwrap(), bytes, "the bytes that Python wrote");
        let theirs = json(&folder.join(CONFIG_FILE));
        for (field, value) in json(&out.join(CONFIG_FILE)).as_object().unwrap() {
            assert_eq!(theirs[field], *value, "{field}");
        }
        assert_eq!(LoraAdapter::load(&out, &shapes).unwrap(), adapter);
    }
}

/// Where `tools/check_peft_adapter.py` is to find the folders, if the environment says so.
fn kept_or(temporary: &tempfile::TempDir) -> PathBuf {
    std::env::var_os("KRYSTAL_RESAVED").map_or_else(|| temporary.path().to_owned(), PathBuf::from)
}

/// Writes, for every fixture, an adapter with patterns and rsLoRA and beside it the updates that we see in it. Here the
/// folder must only read back as it was; `tools/check_peft_adapter.py` compares the updates with those that peft sees.
#[test]
fn patterns_are_written_for_peft_to_read() {
    let Some(models) = hf_fixtures() else { return };
    for model in models {
        let shapes = stored_shapes(&model.join("adapter")).unwrap();
        let config = LoraConfig {
            r: 2,
            lora_alpha: 3.0,
            use_rslora: true,
            target_modules: TargetModules::Regex(r".*\.(q|v|up|down)_proj".to_owned()),
            rank_pattern: [("layers.0.*q_proj".to_owned(), 5), ("(q|up)_proj".to_owned(), 3)].into_iter().collect(),
            alpha_pattern: [("^model.layers.1.mlp.*".to_owned(), 7.0)].into_iter().collect(),
        };
        let adapter = trained(config, &shapes, 9);
        let temporary = tempfile::tempdir().unwrap();
        let out = kept_or(&temporary).join(model.file_name().unwrap().to_str().unwrap().to_owned() + "-patterns");
        adapter.save(&out, None).unwrap();
        assert_eq!(LoraAdapter::load(&out, &shapes).unwrap(), adapter);

        let deltas: Vec<(String, Vec<usize>, Vec<u8>)> = adapter
            .modules
            .iter()
            .map(|module| {
                let bytes = module.delta().iter().flat_map(|value| value.to_le_bytes()).collect();
                (format!("delta.{}", module.name), vec![module.d_out, module.d_in], bytes)
            })
            .collect();
        let views = deltas
            .iter()
            .map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
        fs::write(out.join("deltas.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    }
}

#[test]
fn ranks_alphas_and_every_bit_survive_saving() {
    let directory = tempfile::tempdir().unwrap();
    let config = LoraConfig {
        r: 2,
        lora_alpha: 2.5,
        use_rslora: true,
        // The order matters: sorted, the second would win.
        rank_pattern: [("q_proj".to_owned(), 5), (".*_proj".to_owned(), 3)].into_iter().collect(),
        alpha_pattern: [("down_proj".to_owned(), 16.0)].into_iter().collect(),
        target_modules: TargetModules::Regex(".*proj".to_owned()),
    };
    let mut adapter = trained(config, &shapes(), 3);
    for (slot, bits) in adapter.modules[0].a.iter_mut().zip([0x8000_0000, 1, 0x7f7f_ffff, 0x7fc0_0001_u32]) {
        *slot = f32::from_bits(bits);
    }
    adapter.save(directory.path(), Some("base")).unwrap();
    let loaded = LoraAdapter::load(directory.path(), &shapes()).unwrap();
    assert_eq!(loaded.config, adapter.config);
    assert_eq!(loaded.modules.len(), adapter.modules.len());
    for (loaded, saved) in loaded.modules.iter().zip(&adapter.modules) {
        assert_eq!((&loaded.name, loaded.rank, loaded.scale), (&saved.name, saved.rank, saved.scale));
        assert_eq!((bits(&loaded.a), bits(&loaded.b)), (bits(&saved.a), bits(&saved.b)));
    }
    let stored = json(&directory.path().join(CONFIG_FILE));
    assert_eq!(stored["lora_alpha"], 2.5);
    assert_eq!(stored["alpha_pattern"].to_string(), r#"{"down_proj":16}"#);
    assert_eq!(stored["base_model_name_or_path"], "base");
    let keys: Vec<&String> = stored.as_object().unwrap().keys().collect();
    assert!(keys.is_sorted(), "{keys:?}");
}

#[test]
fn all_linear_is_written_as_names() {
    let directory = tempfile::tempdir().unwrap();
    let adapter = trained(LoraConfig::default(), &shapes(), 3);
    adapter.save(directory.path(), None).unwrap();
    let stored = json(&directory.path().join(CONFIG_FILE));
    assert_eq!(stored["target_modules"].to_string(), r#"["down_proj","k_proj","q_proj","up_proj"]"#);
    assert_eq!(LoraAdapter::load(directory.path(), &shapes()).unwrap().modules, adapter.modules);
}

#[test]
fn half_precision_factors_are_widened_exactly() {
    let shapes = [shape("q_proj", 3, 2)];
    let a = [1.0_f32, -0.5, 65504.0];
    let b = [0.25_f32, -3.0];
    for dtype in [Dtype::F16, Dtype::BF16] {
        let narrow = |values: &[f32]| -> Vec<u8> {
            values
                .iter()
                .flat_map(|value| match dtype {
                    Dtype::F16 => f16::from_f32(*value).to_le_bytes(),
                    _ => bf16::from_f32(*value).to_le_bytes(),
                })
                .collect()
        };
        let (a_bytes, b_bytes) = (narrow(&a), narrow(&b));
        let views = [
            ("base_model.model.q_proj.lora_A.weight", TensorView::new(dtype, vec![1, 3], &a_bytes).unwrap()),
            ("base_model.model.q_proj.lora_B.weight", TensorView::new(dtype, vec![2, 1], &b_bytes).unwrap()),
        ];
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(TENSORS_FILE), safetensors::serialize(views, None).unwrap()).unwrap();
        let config = r#"{"peft_type":"LORA","r":1,"lora_alpha":1,"target_modules":["q_proj"]}"#;
        fs::write(directory.path().join(CONFIG_FILE), config).unwrap();
        let module = LoraAdapter::load(directory.path(), &shapes).unwrap().modules.remove(0);
        let largest = if dtype == Dtype::F16 { 65504.0 } else { 65536.0 };
        assert_eq!(module.a, [1.0, -0.5, largest]);
        assert_eq!(module.b, b);
    }
}

#[test]
fn an_adapter_of_some_layers_keeps_to_them() {
    let directory = tempfile::tempdir().unwrap();
    let targets = TargetModules::Names(vec!["model.layers.1.self_attn.q_proj".to_owned()]);
    let adapter = trained(LoraConfig { target_modules: targets, ..LoraConfig::default() }, &shapes(), 3);
    adapter.save(directory.path(), None).unwrap();
    // As PEFT writes it: a suffix that names both layers, and the layer in a field of its own.
    let path = directory.path().join(CONFIG_FILE);
    let mut stored = json(&path);
    stored["target_modules"] = serde_json::json!(["q_proj"]);
    fs::write(&path, stored.to_string()).unwrap();
    let error = LoraAdapter::load(directory.path(), &shapes()).unwrap_err().to_string();
    assert!(error.contains("model.layers.0.self_attn.q_proj.lora_A.weight"), "{error}");
    stored["layers_to_transform"] = serde_json::json!([1]);
    fs::write(&path, stored.to_string()).unwrap();
    assert_eq!(LoraAdapter::load(directory.path(), &shapes()).unwrap(), adapter);
}
