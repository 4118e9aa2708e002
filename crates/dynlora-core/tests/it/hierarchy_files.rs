//! Hierarchies on disk: exact, whole or refused, and readable as plain adapters.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dynlora_core::{
    AgentId, ContentHash, Error, Export, FactorAddress, LayerOwner, Level, LoraAdapter, LoraConfig, ModuleFactors,
    ModuleShape, ProvenanceHead, SavedHierarchy, SavedLayer, SavedState, Snapshot, SnapshotPublisher, import_adapter,
    stored_shapes,
};
use serde_json::json;

use crate::snapshots::{Layers, layer};
use crate::{hf_fixtures, shapes, trained};

fn hierarchy_of(layers: &Layers) -> SavedHierarchy {
    let snapshot = layers.publisher().with_version(41).current();
    let state = |seed: f32| SavedState {
        tensors: vec![
            ("z first".to_owned(), vec![seed, -0.0, f32::MIN_POSITIVE]),
            ("a then".to_owned(), vec![f32::INFINITY]),
            ("none".to_owned(), vec![]),
        ],
        numbers: vec![("threshold".to_owned(), f64::from(seed) / 3.0), ("a".to_owned(), 9_007_199_254_740_991.0)],
    };
    let mut saved = Vec::new();
    for level in Level::SHARED {
        let owner = LayerOwner { level, agent: AgentId::default() };
        saved.push(SavedLayer { owner, state: state(level.index() as f32) });
    }
    for (agent, _) in &layers.agents {
        for level in Level::PRIVATE {
            let owner = LayerOwner { level, agent: *agent };
            saved.push(SavedLayer { owner, state: state(0.5 + agent.0 as f32) });
        }
    }
    SavedHierarchy {
        provenance: ProvenanceHead::genesis(snapshot.id(), 41),
        snapshot,
        layers: saved,
        own: state(77.0),
        rest: json!({"tick": u64::MAX, "queue": [{"b": 0.1, "a": null}]}),
        base_model: Some("tiny".to_owned()),
        truncations: BTreeMap::new(),
    }
}

fn hierarchy(agents: &[u64], seed: u64) -> SavedHierarchy {
    hierarchy_of(&Layers::new(agents, seed))
}

/// Bits, not values: `-0.0` is not `0.0`.
fn bits(snapshot: &Snapshot) -> Vec<(AgentId, Level, Vec<u32>)> {
    let mut all = Vec::new();
    for agent in snapshot.agents() {
        for level in Level::ALL {
            let factors = snapshot.layer(level, agent).unwrap();
            let values = factors.iter().flat_map(|pair| pair.a.iter().chain(&pair.b)).map(|value| value.to_bits());
            all.push((agent, level, values.collect()));
        }
    }
    all
}

/// Every file below a folder, by its name relative to it.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn export(snapshot: &Snapshot) -> Export {
    Export { truncated_ranks: vec![3, 64], merged_delta: true, ..Export::all(snapshot) }
}

#[test]
fn a_hierarchy_comes_back_bit_for_bit_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    for agents in [&[][..], &[5], &[0, 7, u64::MAX]] {
        let saved = hierarchy(agents, 1);
        let folder = directory.path().join(format!("with {} agents", agents.len()));
        saved.save(&folder, &export(&saved.snapshot)).unwrap();
        let loaded = SavedHierarchy::load(&folder, Some(&shapes())).unwrap();
        assert_eq!(loaded.snapshot.id(), saved.snapshot.id());
        assert_eq!((loaded.snapshot.version(), loaded.snapshot.config()), (41, saved.snapshot.config()));
        assert_eq!(bits(&loaded.snapshot), bits(&saved.snapshot));
        assert_eq!((&loaded.layers, &loaded.own), (&saved.layers, &saved.own));
        let zero = loaded.own.tensors[0].1[1];
        assert!(zero == 0.0 && zero.is_sign_negative());
        assert_eq!((&loaded.rest, loaded.provenance), (&saved.rest, saved.provenance));
        assert_eq!(loaded.base_model, saved.base_model);
        assert_eq!(loaded.truncations.len(), 2 * agents.len());

        // Saving what was loaded gives the same bytes, in place of the old ones.
        let before = files(&folder);
        loaded.save(&folder, &export(&loaded.snapshot)).unwrap();
        let after = files(&folder);
        assert!(before.keys().eq(after.keys()));
        before.iter().for_each(|(name, content)| assert!(*content == after[name], "{name} differs"));
    }
}

#[test]
fn the_stack_summed_is_the_fused_adapter_is_the_internal_update() {
    let directory = tempfile::tempdir().unwrap();
    let saved = hierarchy(&[2], 3);
    saved.save(directory.path(), &export(&saved.snapshot)).unwrap();
    let load = |name: &str| LoraAdapter::load(&directory.path().join(name), &shapes()).unwrap();
    let stack = Level::ALL.map(|level| load(&format!("stack/{level}")));
    let (fused, cut, uncut) = (load("fused"), load("svd-3"), load("svd-64"));
    assert!(fused.config.rank_pattern.is_empty() && fused.config.alpha_pattern.is_empty());
    assert_eq!(fused.config.lora_alpha, fused.config.r as f64);
    assert!(fused.modules.iter().all(|module| module.rank == fused.config.r));
    assert!(stack[0].modules.iter().any(|module| module.rank != stack[0].config.r), "ranks differ between modules");

    let (mut lost, mut whole) = (0.0, 0.0);
    for (module, shape) in shapes().iter().enumerate() {
        // The definition, in f64, from the factors in memory.
        let mut delta = vec![0.0_f64; shape.d_out * shape.d_in];
        for level in Level::ALL {
            let pair = &saved.snapshot.layer(level, AgentId(2)).unwrap()[module];
            for channel in 0..pair.rank {
                for (row, b) in delta.chunks_mut(shape.d_in).zip(pair.b_row(channel)) {
                    row.iter_mut().zip(pair.a_row(channel)).for_each(|(sum, a)| *sum += f64::from(*b) * f64::from(*a));
                }
            }
        }
        let largest = delta.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
        let distance = |other: &[f64]| delta.iter().zip(other).fold(0.0_f64, |far, (x, y)| far.max((x - y).abs()));
        let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<f64>>();
        let mut summed = vec![0.0; delta.len()];
        for adapter in &stack {
            let part = wide(adapter.modules[module].delta());
            summed.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
        }
        for (name, found) in [
            ("stack", summed),
            ("fused", wide(fused.modules[module].delta())),
            ("every singular value", wide(uncut.modules[module].delta())),
        ] {
            let relative = distance(&found) / largest;
            assert!(relative < 1e-6, "{name}, {}: {relative}", shape.name);
        }
        let cut = wide(cut.modules[module].delta());
        lost += delta.iter().zip(&cut).map(|(x, y)| (x - y).powi(2)).sum::<f64>();
        whole += delta.iter().map(|x| x.powi(2)).sum::<f64>();
    }
    // What truncation lost is what the description says it lost.
    let recorded = SavedHierarchy::load(directory.path(), None).unwrap().truncations["svd-3"];
    assert!(lost > 0.0 && (recorded.frobenius_error / lost.sqrt() - 1.0).abs() < 1e-5, "{recorded:?} {lost}");
    assert!((recorded.relative_error / (lost / whole).sqrt() - 1.0).abs() < 1e-5, "{recorded:?}");
    assert!(recorded.spectral_error > 0.0 && recorded.spectral_error <= recorded.frobenius_error);

    let name = shapes()[3].name.clone();
    let merged = saved.snapshot.merged_delta(AgentId(2)).unwrap();
    assert_eq!(merged[3], (name, fused.modules[3].delta()));
}

#[test]
fn tensors_say_which_snapshot_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let saved = hierarchy(&[0, 1], 4);
    saved.save(directory.path(), &export(&saved.snapshot)).unwrap();
    let mut seen = 0;
    for (name, content) in files(directory.path()) {
        if name.ends_with(".safetensors") {
            let (_, metadata) = safetensors::SafeTensors::read_metadata(&content).unwrap();
            let texts = metadata.metadata().as_ref().unwrap();
            assert_eq!(texts["dynlora.provenance"], saved.snapshot.id().to_string(), "{name}");
            seen += 1;
        }
    }
    // Three shared layers, two private ones of each of two agents, each agent's fused, two truncated and merged; the state.
    assert_eq!(seen, 3 + 2 * (2 + 4) + 1);
}

#[test]
fn a_foreign_adapter_becomes_a_layer_with_its_scale_folded_in() {
    let shapes = shapes();
    let config = LoraConfig { r: 2, lora_alpha: 7.0, ..LoraConfig::default() };
    let mut adapter = trained(config, &shapes, 5);
    adapter.modules.remove(1);
    let wide = |rank| {
        let fresh = |(module, shape)| {
            let address = FactorAddress { seed: 5, level: Level::Domain, agent: 0, module };
            ModuleFactors::fresh(shape, rank, address).into()
        };
        shapes.iter().enumerate().map(fresh).collect::<Vec<_>>()
    };
    let layer = import_adapter(&adapter, &shapes, &wide(3)).unwrap();
    assert!(layer[1].b.iter().all(|b| *b == 0.0), "a module that the adapter lacks adds nothing");
    let mut layers = Layers::new(&[1], 5);
    layers.shared[1] = layer;
    let imported = layers.publisher().current().layer_adapter(Level::Domain, AgentId(1)).unwrap();
    for module in &adapter.modules {
        let (expected, found) = (module.delta(), imported.module(&module.name).unwrap().delta());
        let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let far = expected.iter().zip(&found).fold(0.0_f32, |far, (x, y)| far.max((x - y).abs()));
        assert!(largest > 0.0 && far <= 1e-6 * largest, "{}: {far} of {largest}", module.name);
    }
    let message = |error: Error| error.to_string();
    let name = &shapes[0].name;
    assert_eq!(
        message(import_adapter(&adapter, &shapes, &wide(1)).unwrap_err()),
        format!("module `{name}`: expected rank at most 1, found 2")
    );
    assert!(matches!(import_adapter(&adapter, &shapes[1..], &wide(3)[1..].to_vec()), Err(Error::UnknownTarget { .. })));
    let mut turned = shapes.clone();
    turned[0] = ModuleShape { name: name.clone(), d_in: 10, d_out: 7 };
    let layer: Vec<_> = layer_of(&turned);
    assert!(
        message(import_adapter(&adapter, &turned, &layer).unwrap_err()).contains("expected widths (in, out) (10, 7)")
    );
}

fn layer_of(shapes: &[ModuleShape]) -> Vec<std::sync::Arc<ModuleFactors>> {
    layer(Level::Domain, 0, shapes, 5)
}

#[test]
fn a_file_that_was_changed_cut_or_lost_is_refused_by_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let saved = hierarchy(&[4], 6);
    let export = Export { truncated_ranks: vec![2], ..export(&saved.snapshot) };
    saved.save(directory.path(), &export).unwrap();
    let refused = |name: &str| {
        let error = SavedHierarchy::load(directory.path(), None).expect_err(name).to_string();
        assert!(error.contains(directory.path().join(name).to_str().unwrap()), "{name}: {error}");
        assert!(!error.contains('\n'), "{error}");
        error
    };
    let files = files(directory.path());
    assert!(files.len() > 15, "{:?}", files.keys());
    for (name, content) in &files {
        let path = directory.path().join(name);
        for place in [0, content.len() / 2, content.len() - 2] {
            let mut changed = content.clone();
            changed[place] ^= 1;
            fs::write(&path, &changed).unwrap();
            refused(name);
        }
        fs::write(&path, &content[..content.len() / 2]).unwrap();
        refused(name);
        fs::remove_file(&path).unwrap();
        assert!(refused(name).starts_with("could not read"), "{name}");
        fs::write(&path, content).unwrap();
    }
    SavedHierarchy::load(directory.path(), None).unwrap();
    let path = directory.path().join("stack/swarm/adapter_model.safetensors");
    let mut changed = fs::read(&path).unwrap();
    let expected = ContentHash::of_bytes(&changed);
    *changed.last_mut().unwrap() ^= 0x80;
    fs::write(&path, &changed).unwrap();
    assert_eq!(
        refused("stack/swarm/adapter_model.safetensors"),
        format!(
            "{} is not the file that was saved: expected BLAKE3 {expected}, its content has {}",
            path.display(),
            ContentHash::of_bytes(&changed)
        )
    );
}

/// Rewrites the description with a digest that fits: what a program gone wrong could write, not what a broken disk could.
fn rewrite(folder: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let path = folder.join("dynlora.json");
    let mut value: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    value.as_object_mut().unwrap().remove("digest");
    change(&mut value);
    let digest = ContentHash::of_bytes(dynlora_core::canonical_json(&value).as_bytes());
    value["digest"] = json!(digest);
    fs::write(path, value.to_string()).unwrap();
}

#[test]
fn a_description_that_contradicts_itself_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let saved = hierarchy(&[4], 7);
    type Change = fn(&mut serde_json::Value);
    let cases: [(&str, Change); 9] = [
        ("expected format 1, found 2", |value| value["format"] = json!(2)),
        ("expected files inside its folder, found `../x`", |value| {
            value["files"]["../x"] = value["base"].clone();
        }),
        ("expected an entry for `agents/9/agent/adapter_model.safetensors`", |value| value["agents"] = json!([9])),
        ("expected snapshot", |value| value["config"] = json!({})),
        ("expected snapshot", |value| value["agents"] = json!([])),
        ("unknown field `more`", |value| value["more"] = json!(1)),
        ("tensor `own/new`", |value| value["own"]["tensors"] = json!(["new"])),
        ("entry `own#numbers` of the saved state: expected 1 numbers, found", |value| {
            value["own"]["numbers"] = json!(["one"])
        }),
        ("has shape", |value| value["modules"][0]["d_in"] = json!(8)),
    ];
    for (expected, change) in cases {
        saved.save(directory.path(), &Export::default()).unwrap();
        rewrite(directory.path(), change);
        let error = SavedHierarchy::load(directory.path(), None).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{expected}: {error}");
    }
}

#[test]
fn another_models_hierarchy_is_refused_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    hierarchy(&[4], 8).save(directory.path(), &Export::default()).unwrap();
    let message = |change: fn(&mut Vec<ModuleShape>)| {
        let mut shapes = shapes();
        change(&mut shapes);
        let error = SavedHierarchy::load(directory.path(), Some(&shapes)).unwrap_err().to_string();
        error.strip_prefix(&format!("{}: ", directory.path().join("dynlora.json").display())).unwrap().to_owned()
    };
    assert_eq!(
        message(|shapes| shapes[1].name = "model.layers.0.attention.wk".to_owned()),
        "expected the model's module `model.layers.0.attention.wk` from 7 to 4, \
         found module `model.layers.0.self_attn.k_proj` from 7 to 4"
    );
    assert_eq!(
        message(|shapes| shapes[0].d_out = 11),
        "expected the model's module `model.layers.0.self_attn.q_proj` from 7 to 11, \
         found module `model.layers.0.self_attn.q_proj` from 7 to 10"
    );
    assert_eq!(
        message(|shapes| shapes.truncate(7)),
        "expected the model's no further module, found module `model.layers.1.mlp.down_proj` from 13 to 7"
    );
}

#[test]
fn what_is_no_hierarchy_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let saved = hierarchy(&[4], 9);
    let folder = directory.path().join("run");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("events.jsonl"), "{}").unwrap();
    let error = saved.save(&folder, &Export::default()).unwrap_err();
    assert!(matches!(&error, Error::Occupied { found, .. } if found == "`events.jsonl`"), "{error}");
    fs::rename(folder.join("events.jsonl"), folder.join("stack")).unwrap();
    let error = saved.save(&folder, &Export::default()).unwrap_err();
    assert!(error.to_string().contains("found `stack` without `dynlora.json`"), "{error}");
    fs::remove_file(folder.join("stack")).unwrap();
    saved.save(&folder, &Export::default()).unwrap();
    // A file in the folder's place is an error as well, and unknown agents and ranks that are none.
    let file = directory.path().join("file");
    fs::write(&file, "kept").unwrap();
    assert!(matches!(saved.save(&file, &Export::default()), Err(Error::Io { .. })));
    let unknown = Export { agents: vec![AgentId(5)], ..Export::default() };
    assert!(matches!(saved.save(&folder, &unknown), Err(Error::UnknownAgent { agent: 5, known: 1 })));
    let none = Export { truncated_ranks: vec![0], ..Export::all(&saved.snapshot) };
    assert!(matches!(saved.save(&folder, &none), Err(Error::Field { .. })));
    SavedHierarchy::load(&folder, None).unwrap();
}

#[test]
fn a_save_that_fails_leaves_the_last_one() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("state");
    let (first, second) = (hierarchy(&[4], 10), hierarchy(&[4], 11));
    first.save(&folder, &Export::default()).unwrap();
    // The place where the new folder would be written is taken.
    fs::write(directory.path().join(".state.new"), "in the way").unwrap();
    second.save(&folder, &Export::default()).unwrap_err();
    assert_eq!(SavedHierarchy::load(&folder, None).unwrap().snapshot.id(), first.snapshot.id());
    fs::remove_file(directory.path().join(".state.new")).unwrap();
    // What a process that was killed left half-written is no obstacle.
    fs::create_dir(directory.path().join(".state.new")).unwrap();
    fs::write(directory.path().join(".state.new/dynlora.json"), "{").unwrap();
    second.save(&folder, &Export::default()).unwrap();
    assert_eq!(SavedHierarchy::load(&folder, None).unwrap().snapshot.id(), second.snapshot.id());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

/// A file system of a few pages, unmounted at the end. Mounting takes root.
#[cfg(target_os = "linux")]
pub(crate) struct SmallDisk(tempfile::TempDir);

#[cfg(target_os = "linux")]
impl SmallDisk {
    pub(crate) fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().ok()?;
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=256k", "krystal-test"]).arg(directory.path());
        mount.output().ok()?.status.success().then_some(Self(directory))
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(std::process::Command::new("umount").arg(self.0.path()).output());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_last_hierarchy_survives_a_full_disk() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: mounting a small tmpfs is not allowed here");
        return;
    };
    let folder = disk.folder().join("state");
    let first = hierarchy(&[4], 12);
    first.save(&folder, &Export::default()).unwrap();
    let many: Vec<u64> = (0..200).collect();
    let error = hierarchy(&many, 12).save(&folder, &Export::default()).unwrap_err();
    assert!(matches!(&error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull), "{error}");
    let loaded = SavedHierarchy::load(&folder, None).unwrap();
    assert_eq!(loaded.snapshot.id(), first.snapshot.id());
    assert_eq!(fs::read_dir(disk.folder()).unwrap().count(), 1, "nothing of the failed attempt is left");
    // In memory the snapshot serves on, and there is room again for what fits.
    assert!(loaded.snapshot.is_whole());
    loaded.save(&folder, &Export::default()).unwrap();
}

/// With `KRYSTAL_HIERARCHIES=DIR`, writes a hierarchy for every fixture into DIR, for tools/check_dynamic_adapter.py.
#[test]
fn hierarchies_for_real_models() {
    let Some(models) = hf_fixtures() else { return };
    let kept = std::env::var_os("KRYSTAL_HIERARCHIES").map(PathBuf::from);
    let directory = tempfile::tempdir().unwrap();
    for model in models {
        let shapes = stored_shapes(&model.join("adapter")).unwrap();
        let rank = |level: Level, module: usize| (level.nominal_rank() / 4).max(1) + module % 2;
        let fill = |level: Level, agent: u64| {
            let module = |(module, shape): (usize, &ModuleShape)| {
                let address = FactorAddress { seed: 1, level, agent, module };
                let mut pair = ModuleFactors::fresh(shape, rank(level, module), address);
                // Some other draw of the same kind, as small as what training moves.
                let mut other = ModuleFactors::fresh(
                    &ModuleShape { d_in: shape.d_out, d_out: 1, name: String::new() },
                    pair.rank,
                    FactorAddress { seed: 2, ..address },
                );
                pair.b = std::mem::take(&mut other.a);
                std::sync::Arc::new(pair)
            };
            shapes.iter().enumerate().map(module).collect()
        };
        let layers = Layers {
            shapes: shapes.clone().into(),
            shared: Level::SHARED.map(|level| fill(level, 0)).to_vec(),
            agents: vec![(AgentId(3), Level::PRIVATE.map(|level| fill(level, 3)))],
        };
        let saved = hierarchy_of(&layers);
        let folder = kept.as_deref().unwrap_or(directory.path()).join(model.file_name().unwrap());
        let export = Export { truncated_ranks: vec![4], ..export(&saved.snapshot) };
        saved.save(&folder, &export).unwrap();
        let loaded = SavedHierarchy::load(&folder, Some(&shapes)).unwrap();
        assert_eq!(loaded.snapshot.id(), saved.snapshot.id());
        let fused = LoraAdapter::load(&folder.join("fused"), &shapes).unwrap();
        assert_eq!(fused.config.r, (16 + 8 + 4 + 2 + 1) + if shapes.len() > 1 { 5 } else { 0 });
        let mut resumed = SnapshotPublisher::resume(loaded.snapshot);
        assert_eq!(resumed.publish(&[], &[AgentId(3)]).unwrap().version(), 42);
    }
}
