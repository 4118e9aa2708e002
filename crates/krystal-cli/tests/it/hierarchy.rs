//! Saved hierarchies as adapters.

use std::fs;
use std::path::Path;

use dynlora_resonance::{ResonanceConfig, ResonanceEngine};
use krystal::dynlora::{
    AgentId, ContentHash, Export, HierarchyConfig, Level, LoraHierarchy, ModuleShape, PlainMean, Resonance,
    StackGradient,
};
use krystal::lm::config::ModelConfig;
use krystal::lm::module_shapes;

use crate::krystal::krystal;
use crate::tiny_model::TinyModel;

/// Saves a hierarchy of the tiny model that has lived for a few ticks.
fn save(tiny: &TinyModel, folder: &Path, agents: u64, resonance: Box<dyn Resonance>) {
    let json = fs::read_to_string(tiny.path("model/config.json")).unwrap();
    let config = ModelConfig::from_json(&json, Path::new("config.json")).unwrap();
    let shapes: Vec<ModuleShape> = module_shapes(&config);
    let base = ContentHash::of_bytes(b"base");
    let mut hierarchy = LoraHierarchy::new(HierarchyConfig::default(), &shapes, base, 3, resonance).unwrap();
    for agent in 0..agents {
        hierarchy.add_agent(AgentId(agent)).unwrap();
    }
    hierarchy.publish().unwrap();
    for tick in 0..5_u64 {
        for agent in 0..agents {
            let agent = AgentId(agent);
            let levels = Level::ALL.map(|level| {
                let n = hierarchy.layer(level, agent).unwrap().num_parameters();
                (0..n as u64).map(|i| ((i * 31 + tick * 7) % 13) as f32 * 0.01 - 0.06).collect()
            });
            let version = hierarchy.snapshot().version();
            hierarchy.submit(StackGradient { agent, version, levels, activity: None, sketch: Vec::new() }).unwrap();
        }
        hierarchy.tick(0.01).unwrap();
    }
    hierarchy.save_state(Some("the/base".to_owned())).unwrap().save(folder, &Export::default()).unwrap();
}

fn engine() -> Box<dyn Resonance> {
    Box::new(ResonanceEngine::new(ResonanceConfig::default()).unwrap())
}

#[test]
fn inspect_draws_the_layers() {
    let tiny = TinyModel::new();
    save(&tiny, Path::new(&tiny.path("run/adapter/hierarchy")), 6, engine());
    let adapter = tiny.path("run/adapter");
    let text = krystal(&["adapter", "inspect", &adapter]).stdout;
    assert!(text.is_ascii(), "{text}");
    for part in [
        "snapshot ",
        "tick 5, 0 regimes remembered",
        "provenance: ",
        "and the layers of 2 more agents",
        "agent > swarm",
    ] {
        assert!(text.contains(part), "`{part}` is not in {text}");
    }
    // Without phases there is no share of them.
    let lines_with = |name: &str| text.lines().filter(|line| line.starts_with(name) && line.ends_with('-')).count();
    assert_eq!((lines_with("foundation"), lines_with("agent "), lines_with("context ")), (1, 4, 4), "{text}");
    let answer = krystal(&["adapter", "inspect", &adapter, "--json"]).json();
    let layers = answer["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 3 + 2 * 6);
    let constants: Vec<f64> = layers[..5].iter().map(|layer| layer["time_constant"].as_f64().unwrap()).collect();
    // Slowest first.
    assert!(constants.is_sorted_by(|a, b| a >= b) && constants[4] > 0.0, "{constants:?}");
    for layer in layers {
        assert!(layer["norm"].as_f64().unwrap() > 0.0, "{layer}");
        assert!((0.0..1.0).contains(&layer["effective_inertia"].as_f64().unwrap()), "{layer}");
    }
    assert_eq!((answer["tick"].as_u64(), answer["not_restored"].is_null()), (Some(5), true));
}

#[test]
fn hierarchies_of_another_resonance_are_read_too() {
    let tiny = TinyModel::new();
    save(&tiny, Path::new(&tiny.path("plain")), 1, Box::new(PlainMean::default()));
    let answer = krystal(&["adapter", "inspect", &tiny.path("plain"), "--json"]).json();
    assert!(answer["layers"][0]["time_constant"].is_number(), "{answer}");
}

#[test]
fn a_file_that_was_changed_is_named() {
    let tiny = TinyModel::new();
    let folder = tiny.path("saved");
    save(&tiny, Path::new(&folder), 1, engine());
    let answer = krystal(&["adapter", "verify", "--adapter", &folder, "--json"]).json();
    assert_eq!((answer["modules"].as_u64(), answer["fits_model"].as_bool()), (Some(14), Some(false)));
    let answer = krystal(&["adapter", "verify", "--adapter", &folder, "--model", &tiny.model(), "--json"]).json();
    assert_eq!(answer["fits_model"], true);
    for name in ["stack/swarm/adapter_model.safetensors", "dynlora_state.safetensors", "dynlora.json"] {
        let path = Path::new(&folder).join(name);
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        let place = bytes.iter().rposition(|byte| byte.is_ascii_digit()).unwrap_or(bytes.len() - 1);
        bytes[place] ^= 1;
        fs::write(&path, &bytes).unwrap();
        krystal(&["adapter", "inspect", &folder]).fails(1, &[name]);
        krystal(&["adapter", "verify", "--adapter", &folder]).fails(1, &[name]);
        fs::write(&path, whole).unwrap();
    }
    fs::remove_file(Path::new(&folder).join("dynlora_state.safetensors")).unwrap();
    krystal(&["adapter", "inspect", &folder]).fails(1, &["dynlora_state.safetensors"]);
}

#[test]
fn only_a_hierarchy_is_verified_without_a_model() {
    let tiny = TinyModel::new();
    krystal(&["adapter", "verify", "--adapter", &tiny.adapter()]).fails(2, &["--model"]);
}
