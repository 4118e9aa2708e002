//! The weights of a model folder: one `model.safetensors`, or shards and their index.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::json_fields::{Fields, parse_object};
use crate::safetensors_file::{DType, SafetensorsFile, TensorEntry};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

/// The tensors of a model folder, memory-mapped: opening reads the headers alone, and processes that open the same folder
/// share its pages.
///
/// The files must not be changed in place while the checkpoint is open; replacing them by renaming is safe.
#[derive(Debug)]
pub struct Checkpoint {
    directory: PathBuf,
    files: Vec<SafetensorsFile>,
    /// Name to index into `files`.
    places: BTreeMap<String, usize>,
}

impl Checkpoint {
    /// Opens `model.safetensors`, or else the shards that `model.safetensors.index.json` lists, and checks headers and
    /// index.
    ///
    /// # Errors
    /// When a file is missing, cannot be read or is damaged, when index and shards disagree, and when a tensor is not
    /// stored as f32, f16 or bf16.
    pub fn open(directory: &Path) -> Result<Self> {
        let exists = |path: &Path| {
            path.try_exists().map_err(|source| Error::Io { action: "read", path: path.to_owned(), source })
        };
        let single = directory.join(SINGLE);
        let index = directory.join(INDEX);
        if exists(&single)? {
            let file = SafetensorsFile::open(&single)?;
            let places = file.tensors().keys().map(|name| (name.clone(), 0)).collect();
            return Ok(Self { directory: directory.to_owned(), files: vec![file], places });
        }
        if exists(&index)? {
            return Self::open_sharded(directory, &index);
        }
        let hint = if !exists(directory)? {
            "the folder itself does not exist"
        } else if exists(&directory.join("pytorch_model.bin"))?
            || exists(&directory.join("pytorch_model.bin.index.json"))?
        {
            "only PyTorch .bin weights were found, which must be converted to safetensors first"
        } else {
            "neither it nor model.safetensors.index.json was found"
        };
        Err(Error::MissingFile { path: single, hint })
    }

    fn open_sharded(directory: &Path, index: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(index).map_err(|source| Error::Io {
            action: "read",
            path: index.to_owned(),
            source,
        })?;
        let shards = parse_index(&text, index)?;
        let mut files = Vec::with_capacity(shards.len());
        let mut places = BTreeMap::new();
        for (shard, names) in shards {
            let path = directory.join(&shard);
            let file = SafetensorsFile::open(&path).map_err(|error| match error {
                Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                    Error::MissingFile { path: path.clone(), hint: "model.safetensors.index.json lists this shard" }
                }
                error => error,
            })?;
            if let Some(name) = names.iter().find(|name| !file.tensors().contains_key(*name)) {
                return Err(Error::MissingTensor { path, tensor: name.clone() });
            }
            let unlisted: Vec<_> = file.tensors().keys().filter(|name| !names.contains(*name)).cloned().collect();
            if !unlisted.is_empty() {
                return Err(Error::UnexpectedTensors { path, tensors: unlisted });
            }
            places.extend(names.into_iter().map(|name| (name, files.len())));
            files.push(file);
        }
        Ok(Self { directory: directory.to_owned(), files, places })
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.find(name).map(|(_, entry)| entry.shape.as_slice())
    }

    /// How a tensor is stored.
    pub fn dtype(&self, name: &str) -> Option<DType> {
        self.find(name).map(|(_, entry)| entry.dtype)
    }

    /// The values of a tensor of this shape, row-major: borrowed from the map where they are stored as f32 at an aligned
    /// address (as every current writer does), converted otherwise. f16 and bf16 convert exactly.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], or [`Error::Tensor`] for another shape.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Cow<'_, [f32]>> {
        let Some((file, entry)) = self.find(name) else {
            return Err(Error::MissingTensor { path: self.directory.clone(), tensor: name.to_owned() });
        };
        expect_shape(file, name, entry, shape)?;
        Ok(file.values(entry))
    }

    /// Refuses tensors other than `names`, except for the `rotary_emb.inv_freq` buffers that old conversions store and
    /// that follow from the configuration.
    ///
    /// # Errors
    /// [`Error::UnexpectedTensors`].
    pub fn expect_only<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Result<()> {
        let names: BTreeSet<_> = names.into_iter().collect();
        let is_derived = |name: &str| name.ends_with("rotary_emb.inv_freq");
        let unexpected: Vec<_> =
            self.names().filter(|name| !names.contains(name) && !is_derived(name)).map(str::to_owned).collect();
        if unexpected.is_empty() {
            return Ok(());
        }
        Err(Error::UnexpectedTensors { path: self.directory.clone(), tensors: unexpected })
    }

    /// Checks that the folder holds exactly the tensors of this model: every one of [`ModelConfig::tensor_names`] with
    /// its shape, and no other. Where the head is the embedding, a stored `lm_head.weight` must be the same bytes:
    /// otherwise transformers 5 would not tie them, and older versions would.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Tensor`] or [`Error::UnexpectedTensors`].
    pub fn expect_model(&self, config: &ModelConfig) -> Result<()> {
        let tensors = config.tensor_names();
        for (name, shape) in &tensors {
            match self.find(name) {
                Some((file, entry)) => expect_shape(file, name, entry, shape)?,
                None => {
                    return Err(Error::MissingTensor { path: self.directory.clone(), tensor: name.clone() });
                }
            }
        }
        let tied_head = config.tie_word_embeddings.then_some(HEAD);
        self.expect_only(tensors.iter().map(|(name, _)| name.as_str()).chain(tied_head))?;
        if let Some((file, head)) = tied_head.and_then(|head| self.find(head))
            && let Some((embedding_file, embedding)) = self.find(EMBEDDING)
        {
            expect_shape(file, HEAD, head, &embedding.shape)?;
            if head.dtype != embedding.dtype || file.bytes(head) != embedding_file.bytes(embedding) {
                return Err(Error::Tensor {
                    path: file.path().to_owned(),
                    tensor: HEAD.to_owned(),
                    expected: format!("the values of {EMBEDDING}, as tie_word_embeddings is true"),
                    found: "others".to_owned(),
                });
            }
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Option<(&SafetensorsFile, &TensorEntry)> {
        let file = &self.files[*self.places.get(name)?];
        Some((file, file.tensors().get(name)?))
    }
}

fn expect_shape(file: &SafetensorsFile, name: &str, entry: &TensorEntry, shape: &[usize]) -> Result<()> {
    if entry.shape == shape {
        return Ok(());
    }
    Err(Error::Tensor {
        path: file.path().to_owned(),
        tensor: name.to_owned(),
        expected: format!("shape {shape:?}"),
        found: format!("{:?}", entry.shape),
    })
}

/// The shards that an index lists, each with its tensors.
pub(crate) fn parse_index(text: &str, path: &Path) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let object = parse_object(text, path)?;
    let mut fields = Fields::new(&object, path);
    let value = fields.value("weight_map").ok_or_else(|| fields.missing("weight_map"))?;
    let Some(map) = value.as_object() else {
        return Err(fields.invalid("weight_map", "an object of tensor names and files", value));
    };
    let mut shards: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (tensor, shard) in map {
        // A name with a path in it could make us read any file.
        let plain = |shard: &&str| !shard.is_empty() && !shard.contains(['/', '\\', ':', '\0']) && *shard != "..";
        let Some(shard) = shard.as_str().filter(plain).filter(|shard| shard.ends_with(".safetensors")) else {
            let field = format!("weight_map.{tensor}");
            return Err(fields.invalid(&field, "the name of a .safetensors file in the same folder", shard));
        };
        shards.entry(shard.to_owned()).or_default().insert(tensor.clone());
    }
    if shards.is_empty() {
        return Err(fields.invalid("weight_map", "at least one tensor", &Value::Object(map.clone())));
    }
    Ok(shards)
}

#[cfg(test)]
mod tests;
