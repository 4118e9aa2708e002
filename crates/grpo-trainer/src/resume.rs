//! Checkpoints: all that a run needs to go on as if it had never stopped.
//!
//! Random draws are addressed and not remembered, and the order of prompts follows from a count, so that parameters,
//! moments, counters and an unfinished generation are the whole state.

use std::path::PathBuf;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::data::{Prompt, Record};
use crate::error::Error;
use crate::optimizer::AdamW;
use crate::policy::Policy;
use crate::run_dir::RunDir;

/// Version of the checkpoints' layout.
const VERSION: u32 = 3;

/// The part of a checkpoint that every kind of training has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrainingState {
    /// Settings of the run, as JSON.
    pub(crate) config: String,
    /// Number of records and a digest of them.
    pub(crate) data: (u64, u64),
    /// Steps taken.
    pub(crate) step: u64,
    /// Tokens processed.
    pub(crate) num_tokens: u64,
    /// Every parameter's name and values.
    pub(crate) parameters: Vec<(String, Vec<f32>)>,
    pub(crate) adamw: AdamW<f32>,
    /// What the policy itself must remember.
    pub(crate) policy: Vec<u8>,
}

impl TrainingState {
    /// Checks that the checkpoint belongs to a run with these settings and data. `free` names settings that may differ.
    pub(crate) fn check(&self, config: &str, data: (u64, u64), free: &[&str]) -> Result<(), Error> {
        let mismatch =
            |key: &str, saved: String, now: String| Error::ResumeMismatch { key: key.to_string(), saved, now };
        if self.data.0 != data.0 {
            return Err(mismatch("number of records", self.data.0.to_string(), data.0.to_string()));
        }
        if self.data.1 != data.1 {
            let digest = |d: u64| format!("digest {d:016x}");
            return Err(mismatch("content of the data", digest(self.data.1), digest(data.1)));
        }
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        let (saved, now) = (parse(&self.config), parse(config));
        for (key, value) in now.as_object().into_iter().flatten().filter(|(key, _)| !free.contains(&key.as_str())) {
            let before = saved.get(key).unwrap_or(&Value::Null);
            if before != value {
                return Err(mismatch(key, before.to_string(), value.to_string()));
            }
        }
        Ok(())
    }

    /// Puts the parameters back and publishes them.
    pub(crate) fn restore_parameters<P: Policy>(&self, policy: &mut P) -> Result<(), Error> {
        let describe = |name: &str, n: usize| format!("`{name}` with {n} values");
        let mut parameters = policy.parameters();
        for (i, (name, values)) in self.parameters.iter().enumerate() {
            let now = parameters.get_mut(i).filter(|p| p.name == name && p.values.len() == values.len());
            let Some(parameter) = now else {
                let now = parameters.get(i).map_or("nothing".to_string(), |p| describe(p.name, p.values.len()));
                let key = format!("parameter {i}");
                return Err(Error::ResumeMismatch { key, saved: describe(name, values.len()), now });
            };
            parameter.values.copy_from_slice(values);
            parameter.gradient.fill(0.0);
        }
        if parameters.len() != self.parameters.len() {
            let (saved, now) = (self.parameters.len().to_string(), parameters.len().to_string());
            return Err(Error::ResumeMismatch { key: "number of parameters".into(), saved, now });
        }
        drop(parameters);
        if policy.moves_itself() {
            return policy.restore(&self.policy).map_err(Error::policy("go on from its saved state"));
        }
        policy.publish().map_err(Error::policy("publish its parameters"))
    }
}

/// Name and values of every parameter.
pub(crate) fn snapshot_parameters<P: Policy>(policy: &mut P) -> Vec<(String, Vec<f32>)> {
    policy.parameters().into_iter().map(|p| (p.name.to_string(), p.values.to_vec())).collect()
}

/// Writes a checkpoint, then removes those that are too many: never the other way round.
pub(crate) fn save<T: Serialize>(
    run: &RunDir,
    kind: &str,
    step: u64,
    state: &T,
    keep: usize,
) -> Result<PathBuf, Error> {
    let path = run.checkpoint_path(step);
    if let Err(source) = krystal_checkpoint::save(&path, kind, VERSION, state) {
        let earlier = run.checkpoints().unwrap_or_default();
        let previous = earlier.into_iter().filter(|(s, p)| *s != step && p.is_file()).map(|(s, _)| s).next_back();
        return Err(Error::CheckpointWrite { step, path, previous, source: Box::new(source) });
    }
    run.prune_checkpoints(keep)?;
    Ok(path)
}

/// What [`save`] writes to a file, for another process.
pub(crate) fn to_bytes<T: Serialize>(kind: &str, state: &T) -> Result<Vec<u8>, Error> {
    krystal_checkpoint::to_bytes(kind, VERSION, state).map_err(|source| Error::State(Box::new(source)))
}

/// Reads what [`to_bytes`] wrote.
pub(crate) fn from_bytes<T: DeserializeOwned>(kind: &str, bytes: &[u8]) -> Result<T, Error> {
    krystal_checkpoint::from_bytes(bytes, kind, VERSION).map_err(|source| Error::State(Box::new(source)))
}

/// Reads the newest checkpoint that can be read; `None` where there is none at all. The list names those that could not.
pub(crate) fn load<T: DeserializeOwned>(run: &RunDir, kind: &str) -> Result<Option<(T, Vec<PathBuf>)>, Error> {
    let mut unreadable = Vec::new();
    let mut first_error = None;
    let checkpoints = run.checkpoints()?;
    let n_checkpoints = checkpoints.len();
    for (_, path) in checkpoints.into_iter().rev() {
        match krystal_checkpoint::load(&path, kind, VERSION) {
            Ok(state) => return Ok(Some((state, unreadable))),
            Err(source) => {
                first_error.get_or_insert(source);
                unreadable.push(path);
            }
        }
    }
    match (first_error, unreadable.into_iter().next()) {
        (Some(source), Some(path)) => Err(Error::CheckpointRead { path, n_checkpoints, source: Box::new(source) }),
        _ => Ok(None),
    }
}

/// FNV-1a over bytes: tells data sets apart, not a defence against forgery.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Digest(u64);

impl Digest {
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        // The length first, so that neighbours cannot trade bytes.
        for byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(crate) fn finish(self) -> u64 {
        self.0
    }
}

/// Number and digest of records.
pub(crate) fn records_digest(records: &[Record]) -> (u64, u64) {
    let mut digest = Digest::new();
    for record in records {
        match &record.prompt {
            Prompt::Text(text) => digest.add(text.as_bytes()),
            Prompt::Messages(messages) => {
                for message in messages {
                    digest.add(message.role.as_bytes());
                    digest.add(message.content.as_bytes());
                }
            }
        }
        for (key, value) in &record.columns {
            digest.add(key.as_bytes());
            digest.add(value.to_string().as_bytes());
        }
    }
    (records.len() as u64, digest.finish())
}
