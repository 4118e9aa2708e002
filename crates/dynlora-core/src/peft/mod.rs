//! Adapter folders as Python's `peft` (0.21) and vLLM read and write them.

mod config;
mod tensors;

use std::fs;
use std::path::Path;

use krystal_checkpoint::write_atomically;

use crate::{Error, LoraAdapter, LoraModule, ModuleShape, TargetModules};

/// Name of the configuration in an adapter folder.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// Name of the factors in an adapter folder.
pub const TENSORS_FILE: &str = "adapter_model.safetensors";
/// What older adapters have instead: a Python pickle.
const PICKLE_FILE: &str = "adapter_model.bin";

pub(crate) fn save(adapter: &LoraAdapter, directory: &Path, base_model: Option<&str>) -> Result<(), Error> {
    let AdapterFiles { tensors, config } = encode(adapter, directory, base_model, &[])?;
    fs::create_dir_all(directory).map_err(|source| Error::io("create the directory", directory, source))?;
    write_atomically(&directory.join(TENSORS_FILE), &tensors).map_err(Error::Write)?;
    write_atomically(&directory.join(CONFIG_FILE), &config).map_err(Error::Write)
}

/// The content of the two files of an adapter folder.
pub(crate) struct AdapterFiles {
    /// [`TENSORS_FILE`].
    pub(crate) tensors: Vec<u8>,
    /// [`CONFIG_FILE`].
    pub(crate) config: Vec<u8>,
}

/// What to write into `directory`; `metadata` goes into the header of the tensors beside PEFT's own.
pub(crate) fn encode(
    adapter: &LoraAdapter,
    directory: &Path,
    base_model: Option<&str>,
    metadata: &[(&str, String)],
) -> Result<AdapterFiles, Error> {
    adapter.config.validate()?;
    for module in &adapter.modules {
        check(adapter, module)?;
    }
    let tensors = tensors::encode(&directory.join(TENSORS_FILE), &adapter.modules, metadata)?;
    let config = config::encode(adapter, base_model)?.into_bytes();
    Ok(AdapterFiles { tensors, config })
}

/// A file can only say what its configuration says: a module of another rank or scale would be read back wrong.
fn check(adapter: &LoraAdapter, module: &LoraModule) -> Result<(), Error> {
    let name = &module.name;
    let (rank, scale) = adapter.config.rank_and_scale(name)?;
    if module.rank != rank {
        return Err(Error::module(name, "rank", rank, module.rank));
    }
    if module.scale.to_bits() != scale.to_bits() {
        return Err(Error::module(name, "scale", scale, module.scale));
    }
    if Some(module.a.len()) != rank.checked_mul(module.d_in) {
        return Err(Error::module(name, "values in A", format!("{rank} x {}", module.d_in), module.a.len()));
    }
    if Some(module.b.len()) != rank.checked_mul(module.d_out) {
        return Err(Error::module(name, "values in B", format!("{} x {rank}", module.d_out), module.b.len()));
    }
    Ok(())
}

pub(crate) fn load(directory: &Path, shapes: &[ModuleShape]) -> Result<LoraAdapter, Error> {
    let config_path = directory.join(CONFIG_FILE);
    let config = fs::read(&config_path).map_err(|source| Error::io("read", &config_path, source))?;
    // Complaints about the configuration come before those about the tensors.
    config::parse(&config_path, &config)?;
    let tensors = read_tensors(directory)?;
    decode(directory, &AdapterFiles { tensors, config }, shapes)
}

/// The adapter that files read from `directory` hold.
pub(crate) fn decode(directory: &Path, files: &AdapterFiles, shapes: &[ModuleShape]) -> Result<LoraAdapter, Error> {
    let config_path = directory.join(CONFIG_FILE);
    let mut config = config::parse(&config_path, &files.config)?;
    let path = directory.join(TENSORS_FILE);
    let bytes = &files.tensors;
    let pairs = tensors::pairs(&path, bytes)?;
    for name in pairs.keys() {
        let expected = if !shapes.iter().any(|shape| shape.name == *name) {
            "known"
        } else if !config.lora.target_modules.matches(name).map_err(|error| error.in_file(&config_path))? {
            "targeted"
        } else {
            continue;
        };
        return Err(Error::StrayTensor { path, tensor: tensors::key_a(name), expected });
    }
    let selected = config.lora.target_modules.select(shapes).map_err(|error| error.in_file(&config_path))?;
    let mut modules = Vec::new();
    for index in &selected {
        let shape = &shapes[*index];
        let Some(pair) = pairs.get(&shape.name) else {
            if config.partial {
                continue;
            }
            return Err(Error::MissingTensor { path, tensor: tensors::key_a(&shape.name) });
        };
        let (rank, scale) = config.lora.rank_and_scale(&shape.name).map_err(|error| error.in_file(&config_path))?;
        modules.push(LoraModule {
            name: shape.name.clone(),
            d_in: shape.d_in,
            d_out: shape.d_out,
            rank,
            scale,
            a: pair.a(&path, &shape.name, [rank, shape.d_in])?,
            b: pair.b(&path, &shape.name, [shape.d_out, rank])?,
        });
    }
    if modules.len() < selected.len() {
        config.lora.target_modules = TargetModules::Names(modules.iter().map(|module| module.name.clone()).collect());
    }
    Ok(LoraAdapter { config: config.lora, modules })
}

/// The modules an adapter folder has factors for, with the widths of the factors, in the order of their names: what
/// [`LoraAdapter::load`] needs where no model is at hand.
///
/// # Errors
/// As [`LoraAdapter::load`], for what the tensors alone can tell.
pub fn stored_shapes(directory: &Path) -> Result<Vec<ModuleShape>, Error> {
    let path = directory.join(TENSORS_FILE);
    let bytes = read_tensors(directory)?;
    tensors::pairs(&path, &bytes)?
        .iter()
        .map(|(name, pair)| {
            let (d_in, d_out) = pair.widths(&path, name)?;
            Ok(ModuleShape { name: name.clone(), d_in, d_out })
        })
        .collect()
}

fn read_tensors(directory: &Path) -> Result<Vec<u8>, Error> {
    let path = directory.join(TENSORS_FILE);
    fs::read(&path).map_err(|source| {
        if source.kind() == std::io::ErrorKind::NotFound && directory.join(PICKLE_FILE).exists() {
            Error::Unsupported {
                path: directory.to_owned(),
                field: "the adapter's format".to_owned(),
                found: format!("a Python pickle ({PICKLE_FILE})"),
                supported: TENSORS_FILE.to_owned(),
            }
        } else {
            Error::io("read", &path, source)
        }
    })
}
