//! A hierarchy on disk: plain PEFT adapters, and beside them what PEFT has no words for.
//!
//! ```text
//! dynlora.json                              what is where: configuration, modules, ids, digest of every file
//! dynlora_state.safetensors                 phases, moments, thresholds: everything that does not change what is computed
//! stack/{foundation,domain,swarm}/          PEFT adapters of the shared layers
//! agents/<number>/{agent,context}/          PEFT adapters of the private layers
//! ```
//!
//! and on request, for other programs, never read back (of a single agent at the top, of several under `agents/<number>/`):
//!
//! ```text
//! stack/{agent,context}/                    a single agent's private layers once more: the stack is complete
//! fused/                                    the whole stack as one PEFT adapter, exact
//! svd-<rank>/                               the same, cut to a rank; what that lost is in dynlora.json
//! merged/delta.safetensors                  what the stack adds to each weight, `delta.<module>`
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::folder_switch::{NewFolder, readable};
use crate::peft::{self, AdapterFiles};
use crate::stack_adapter::module_factors;
use crate::tensor_file::{self, NamedTensor};
use crate::{
    AgentId, CONFIG_FILE, ContentHash, Error, LayerChange, LayerFactors, LayerOwner, Level, LoraAdapter, ModuleShape,
    ProvenanceHead, SavedState, Snapshot, SnapshotId, SnapshotPublisher, TENSORS_FILE, Truncation, canonical_json,
};

const DESCRIPTION_FILE: &str = "dynlora.json";
const STATE_FILE: &str = "dynlora_state.safetensors";
const FORMAT: u64 = 1;

/// All there is to go on with a hierarchy.
#[derive(Debug, Clone)]
pub struct SavedHierarchy {
    /// Factors, ids, configuration.
    pub snapshot: Arc<Snapshot>,
    /// The states of the layers.
    pub layers: Vec<SavedLayer>,
    /// Named tensors and numbers of the hierarchy itself.
    pub own: SavedState,
    /// Whatever else the hierarchy has to say, as JSON: tick, queues, log.
    pub rest: Value,
    /// Where its provenance stands.
    pub provenance: ProvenanceHead,
    /// What the adapters' `base_model_name_or_path` says.
    pub base_model: Option<String>,
    /// What the truncated adapters lost, by their folders; filled in on loading.
    pub truncations: BTreeMap<String, Truncation>,
}

/// The state of one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedLayer {
    /// Which layer.
    pub owner: LayerOwner,
    /// Its state.
    pub state: SavedState,
}

/// What to write for other programs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Export {
    /// Agents whose whole stack is exported; by default none.
    pub agents: Vec<AgentId>,
    /// Ranks to cut each of these stacks to; by default none.
    pub truncated_ranks: Vec<usize>,
    /// Whether to write what each of these stacks adds to the weights: as large as the base model's linear layers.
    pub merged_delta: bool,
}

impl Export {
    /// The exact stacks of all agents.
    pub fn all(snapshot: &Snapshot) -> Self {
        Self { agents: snapshot.agents().collect(), ..Self::default() }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    format: u64,
    version: u64,
    snapshot: SnapshotId,
    base: ContentHash,
    base_model: Option<String>,
    config: Value,
    provenance: ProvenanceHead,
    modules: Vec<Module>,
    agents: Vec<AgentId>,
    layers: Vec<Names>,
    own: Names,
    rest: Value,
    truncations: BTreeMap<String, Truncation>,
    files: BTreeMap<String, ContentHash>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Module {
    name: String,
    d_in: usize,
    d_out: usize,
}

/// Names in a state, in their order, which a file of tensors does not keep.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Names {
    level: Option<Level>,
    agent: Option<AgentId>,
    tensors: Vec<String>,
    numbers: Vec<String>,
}

impl Names {
    fn new(owner: Option<LayerOwner>, state: &SavedState) -> Self {
        Self {
            level: owner.map(|owner| owner.level),
            agent: owner.filter(|owner| !owner.level.is_shared()).map(|owner| owner.agent),
            tensors: state.tensors.iter().map(|(name, _)| name.clone()).collect(),
            numbers: state.numbers.iter().map(|(name, _)| name.clone()).collect(),
        }
    }

    fn owner(&self) -> Option<LayerOwner> {
        self.level.map(|level| LayerOwner { level, agent: self.agent.unwrap_or_default() })
    }
}

/// The folder of a layer's adapter, and what its tensors in the file of states begin with.
fn folder(owner: LayerOwner) -> String {
    match owner.level.is_shared() {
        true => format!("stack/{}", owner.level),
        false => format!("agents/{}/{}", owner.agent, owner.level),
    }
}

fn prefix(owner: Option<LayerOwner>) -> String {
    owner.map_or_else(|| "own".to_owned(), folder)
}

fn owners(agents: &[AgentId]) -> impl Iterator<Item = LayerOwner> + '_ {
    let shared = Level::SHARED.map(|level| LayerOwner { level, agent: AgentId::default() });
    let private = agents.iter().flat_map(|agent| Level::PRIVATE.map(|level| LayerOwner { level, agent: *agent }));
    shared.into_iter().chain(private)
}

/// Writes files and remembers their digests.
struct Writer<'a> {
    folder: NewFolder,
    saved: &'a SavedHierarchy,
    files: BTreeMap<String, ContentHash>,
}

impl Writer<'_> {
    fn file(&mut self, name: String, bytes: &[u8]) -> Result<(), Error> {
        self.folder.write(&name, bytes)?;
        self.files.insert(name, ContentHash::of_bytes(bytes));
        Ok(())
    }

    fn adapter(&mut self, name: &str, adapter: &LoraAdapter) -> Result<(), Error> {
        let metadata = [("dynlora.provenance", self.saved.snapshot.id().to_string())];
        let base_model = self.saved.base_model.as_deref();
        let AdapterFiles { tensors, config } = peft::encode(adapter, Path::new(name), base_model, &metadata)?;
        self.file(format!("{name}/{TENSORS_FILE}"), &tensors)?;
        self.file(format!("{name}/{CONFIG_FILE}"), &config)
    }

    fn states(&mut self) -> Result<(), Error> {
        let mut tensors = Vec::new();
        let mut add = |owner: Option<LayerOwner>, state: &SavedState| {
            let prefix = prefix(owner);
            for (name, values) in &state.tensors {
                tensors.push(NamedTensor::f32(format!("{prefix}/{name}"), vec![values.len()], values));
            }
            let numbers: Vec<f64> = state.numbers.iter().map(|(_, value)| *value).collect();
            tensors.push(NamedTensor::f64(format!("{prefix}#numbers"), vec![numbers.len()], &numbers));
        };
        self.saved.layers.iter().for_each(|layer| add(Some(layer.owner), &layer.state));
        add(None, &self.saved.own);
        let metadata = BTreeMap::from([("dynlora.provenance".to_owned(), self.saved.snapshot.id().to_string())]);
        let bytes = tensor_file::encode(Path::new(STATE_FILE), &metadata, tensors)?;
        self.file(STATE_FILE.to_owned(), &bytes)
    }
}

impl SavedHierarchy {
    /// Writes a folder in place of what was saved there before: all files beside it first, then one switch. Whatever goes
    /// wrong, `directory` is afterwards the old folder or the new one, whole; what it takes for both must fit the disk.
    ///
    /// The same content gives the same bytes.
    ///
    /// # Errors
    /// [`Error::Occupied`] if there is something else in `directory`; [`Error::UnknownAgent`]; [`Error::Io`]. What was saved
    /// before stays.
    pub fn save(&self, directory: &Path, export: &Export) -> Result<(), Error> {
        refuse_what_is_no_hierarchy(directory)?;
        let snapshot = &*self.snapshot;
        let agents: Vec<AgentId> = snapshot.agents().collect();
        let unknown = |agent: AgentId| Error::UnknownAgent { agent: agent.0, known: agents.len() };
        let mut writer = Writer { folder: NewFolder::beside(directory)?, saved: self, files: BTreeMap::new() };
        for owner in owners(&agents) {
            let adapter = snapshot.layer_adapter(owner.level, owner.agent).ok_or_else(|| unknown(owner.agent))?;
            writer.adapter(&folder(owner), &adapter)?;
            if let ([_], false) = (&agents[..], owner.level.is_shared()) {
                writer.adapter(&format!("stack/{}", owner.level), &adapter)?;
            }
        }
        let mut truncations = BTreeMap::new();
        for agent in &export.agents {
            let top = if agents.len() == 1 { String::new() } else { format!("agents/{agent}/") };
            let fused = snapshot.fused_adapter(*agent).ok_or_else(|| unknown(*agent))?;
            writer.adapter(&format!("{top}fused"), &fused)?;
            for rank in &export.truncated_ranks {
                if *rank == 0 {
                    return Err(Error::field("truncated_ranks", "ranks of at least 1", 0));
                }
                let name = format!("{top}svd-{rank}");
                let (adapter, truncation) = snapshot.truncated_adapter(*agent, *rank).ok_or_else(|| unknown(*agent))?;
                writer.adapter(&name, &adapter)?;
                truncations.insert(name, truncation);
            }
            if export.merged_delta {
                let tensors = fused.modules.iter().map(|module| {
                    NamedTensor::f32(format!("delta.{}", module.name), vec![module.d_out, module.d_in], &module.delta())
                });
                let metadata = BTreeMap::from([("dynlora.provenance".to_owned(), snapshot.id().to_string())]);
                let name = format!("{top}merged/delta.safetensors");
                let bytes = tensor_file::encode(Path::new(&name), &metadata, tensors.collect())?;
                writer.file(name, &bytes)?;
            }
        }
        writer.states()?;
        let Writer { folder, files, .. } = writer;
        let description = self.describe(directory, agents, truncations, files)?;
        folder.write(DESCRIPTION_FILE, description.as_bytes())?;
        folder.switch()
    }

    fn describe(
        &self,
        directory: &Path,
        agents: Vec<AgentId>,
        truncations: BTreeMap<String, Truncation>,
        files: BTreeMap<String, ContentHash>,
    ) -> Result<String, Error> {
        let path = directory.join(DESCRIPTION_FILE);
        let syntax = |error: serde_json::Error| Error::ConfigSyntax { path: path.clone(), reason: error.to_string() };
        let snapshot = &*self.snapshot;
        let module = |shape: &ModuleShape| Module { name: shape.name.clone(), d_in: shape.d_in, d_out: shape.d_out };
        let description = Description {
            format: FORMAT,
            version: snapshot.version(),
            snapshot: snapshot.id(),
            base: snapshot.base(),
            base_model: self.base_model.clone(),
            config: serde_json::from_str(snapshot.config()).map_err(syntax)?,
            provenance: self.provenance,
            modules: snapshot.shapes().iter().map(module).collect(),
            agents,
            layers: self.layers.iter().map(|layer| Names::new(Some(layer.owner), &layer.state)).collect(),
            own: Names::new(None, &self.own),
            rest: self.rest.clone(),
            truncations,
            files,
        };
        let mut value = serde_json::to_value(description).map_err(syntax)?;
        value["digest"] = Value::from(ContentHash::of_bytes(canonical_json(&value).as_bytes()).to_string());
        Ok(canonical_json(&value) + "\n")
    }

    /// Reads what [`save`](Self::save) wrote, bit for bit. `expected` are the modules of the model it is meant for, if there
    /// is one.
    ///
    /// # Errors
    /// [`Error::Tampered`] with the first file that is not the one that was saved, exported adapters included;
    /// [`Error::Io`] with one that is missing; [`Error::Description`] where the modules are others.
    pub fn load(directory: &Path, expected: Option<&[ModuleShape]>) -> Result<Self, Error> {
        let directory = &readable(directory);
        let path = directory.join(DESCRIPTION_FILE);
        let description = read_description(&path)?;
        let shapes: Arc<[ModuleShape]> = description
            .modules
            .iter()
            .map(|Module { name, d_in, d_out }| ModuleShape { name: name.clone(), d_in: *d_in, d_out: *d_out })
            .collect();
        if let Some(expected) = expected {
            same_modules(&path, expected, &shapes)?;
        }
        let files = Files::read(directory, &path, &description.files)?;
        let mut factors = BTreeMap::new();
        for owner in owners(&description.agents) {
            factors.insert(folder(owner), files.layer(directory, &folder(owner), &shapes)?);
        }
        let layer = |level: Level, agent: AgentId| &factors[&folder(LayerOwner { level, agent })];
        let shared = Level::SHARED.map(|level| layer(level, AgentId::default()));
        let mut publisher = SnapshotPublisher::new(description.base, &description.config, Arc::clone(&shapes), shared)?;
        let changes: Vec<LayerChange<'_>> = description
            .agents
            .iter()
            .flat_map(|agent| Level::PRIVATE.map(|level| LayerChange::private(level, *agent, layer(level, *agent))))
            .collect();
        publisher.publish(&changes, &[])?;
        let snapshot = publisher.with_version(description.version).current();
        if snapshot.id() != description.snapshot {
            return Err(Error::Description {
                path,
                expected: format!("snapshot {}", snapshot.id()),
                found: description.snapshot.to_string(),
            });
        }
        let states = files.states(directory)?;
        let layers = description.layers.iter().filter_map(|names| names.owner().map(|owner| (owner, names)));
        let layers = layers.map(|(owner, names)| Ok(SavedLayer { owner, state: states.state(names)? }));
        Ok(Self {
            layers: layers.collect::<Result<_, Error>>()?,
            own: states.state(&description.own)?,
            snapshot,
            rest: description.rest,
            provenance: description.provenance,
            base_model: description.base_model,
            truncations: description.truncations,
        })
    }
}

fn refuse_what_is_no_hierarchy(directory: &Path) -> Result<(), Error> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(Error::io("read the directory", directory, source)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| Error::io("read the directory", directory, source))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let ours = |name: &str| {
        ["agents", "fused", "merged", "stack", DESCRIPTION_FILE, STATE_FILE].contains(&name) || name.starts_with("svd-")
    };
    let found = names.iter().find(|name| !ours(name)).map(|name| format!("`{name}`"));
    let is_saved = names.is_empty() || names.iter().any(|name| name == DESCRIPTION_FILE);
    let found = found.or_else(|| (!is_saved).then(|| format!("`{}` without `{DESCRIPTION_FILE}`", names[0])));
    found.map_or(Ok(()), |found| Err(Error::Occupied { path: directory.to_owned(), found }))
}

fn read_description(path: &Path) -> Result<Description, Error> {
    let text = fs::read(path).map_err(|source| Error::io("read", path, source))?;
    let syntax = |error: serde_json::Error| Error::ConfigSyntax { path: path.to_owned(), reason: error.to_string() };
    let mut value: Value = serde_json::from_slice(&text).map_err(syntax)?;
    let wrong = |expected: String, found: String| Error::Description { path: path.to_owned(), expected, found };
    let format = value.get("format").cloned().unwrap_or_default();
    if format != FORMAT {
        return Err(wrong(format!("format {FORMAT}"), format.to_string()));
    }
    let digest = value.as_object_mut().and_then(|fields| fields.remove("digest"));
    let found = ContentHash::of_bytes(canonical_json(&value).as_bytes());
    let expected: Option<ContentHash> = digest.as_ref().and_then(Value::as_str).and_then(|text| text.parse().ok());
    match expected {
        Some(expected) if expected == found => {}
        Some(expected) => return Err(Error::Tampered { path: path.to_owned(), expected, found }),
        None => return Err(wrong("a BLAKE3 digest in `digest`".to_owned(), digest.unwrap_or_default().to_string())),
    }
    serde_json::from_value(value).map_err(syntax)
}

fn same_modules(path: &Path, expected: &[ModuleShape], found: &[ModuleShape]) -> Result<(), Error> {
    let described = |shape: Option<&ModuleShape>| match shape {
        Some(ModuleShape { name, d_in, d_out }) => format!("module `{name}` from {d_in} to {d_out}"),
        None => "no further module".to_owned(),
    };
    for i in 0..expected.len().max(found.len()) {
        let (expected, found) = (expected.get(i), found.get(i));
        if expected != found {
            let (expected, found) = (format!("the model's {}", described(expected)), described(found));
            return Err(Error::Description { path: path.to_owned(), expected, found });
        }
    }
    Ok(())
}

/// The files that are needed, digests compared.
struct Files {
    description: PathBuf,
    contents: BTreeMap<String, Vec<u8>>,
}

impl Files {
    fn read(directory: &Path, description: &Path, files: &BTreeMap<String, ContentHash>) -> Result<Self, Error> {
        let mut contents = BTreeMap::new();
        for (name, expected) in files {
            // A description from elsewhere must not make us read outside of its folder.
            if !Path::new(name).components().all(|component| matches!(component, Component::Normal(_))) {
                return Err(Error::Description {
                    path: description.to_owned(),
                    expected: "files inside its folder".to_owned(),
                    found: format!("`{name}`"),
                });
            }
            let path = directory.join(name);
            let bytes = fs::read(&path).map_err(|source| Error::io("read", &path, source))?;
            let found = ContentHash::of_bytes(&bytes);
            if found != *expected {
                return Err(Error::Tampered { path, expected: *expected, found });
            }
            let is_export = name.contains("fused/") || name.contains("svd-") || name.contains("merged/");
            if !is_export {
                contents.insert(name.clone(), bytes);
            }
        }
        Ok(Self { description: description.to_owned(), contents })
    }

    fn get(&self, name: &str) -> Result<&Vec<u8>, Error> {
        self.contents.get(name).ok_or_else(|| Error::Description {
            path: self.description.clone(),
            expected: format!("an entry for `{name}`"),
            found: "none".to_owned(),
        })
    }

    fn layer(&self, directory: &Path, name: &str, shapes: &[ModuleShape]) -> Result<LayerFactors, Error> {
        let content = |file| self.get(&format!("{name}/{file}")).cloned();
        let files = AdapterFiles { tensors: content(TENSORS_FILE)?, config: content(CONFIG_FILE)? };
        let adapter = peft::decode(&directory.join(name), &files, shapes)?;
        let factors = shapes.iter().map(|shape| match adapter.module(&shape.name) {
            Some(module) if module.scale == 1.0 => Ok(Arc::new(module_factors(module))),
            Some(module) => Err(Error::module(&shape.name, "scale", 1, module.scale)),
            None => Err(Error::module(&shape.name, "factors in", name, "none")),
        });
        factors.collect()
    }

    fn states(&self, directory: &Path) -> Result<States<'_>, Error> {
        let path = directory.join(STATE_FILE);
        let tensors = SafeTensors::deserialize(self.get(STATE_FILE)?)
            .map_err(|error| Error::Tensors { path: path.clone(), reason: error.to_string() })?;
        Ok(States { path, tensors })
    }
}

struct States<'a> {
    path: PathBuf,
    tensors: SafeTensors<'a>,
}

impl States<'_> {
    fn state(&self, names: &Names) -> Result<SavedState, Error> {
        let prefix = prefix(names.owner());
        let bytes = |name: String| match self.tensors.tensor(&name) {
            Ok(view) => Ok(view.data().to_vec()),
            Err(_) => Err(Error::MissingTensor { path: self.path.clone(), tensor: name }),
        };
        let mut tensors = Vec::with_capacity(names.tensors.len());
        for name in &names.tensors {
            let bytes = bytes(format!("{prefix}/{name}"))?;
            let values = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            tensors.push((name.clone(), values));
        }
        let values = bytes(format!("{prefix}#numbers"))?;
        let values = values.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes));
        if values.len() != names.numbers.len() {
            let what = format!("{prefix}#numbers");
            let (expected, found) = (format!("{} numbers", names.numbers.len()), values.len().to_string());
            return Err(Error::State { entry: what, expected, found });
        }
        Ok(SavedState { tensors, numbers: names.numbers.iter().cloned().zip(values).collect() })
    }
}
