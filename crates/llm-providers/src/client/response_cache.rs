//! Answers that were given before.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::error::{Error, Result};
use crate::request::Request;
use crate::response::Response;

/// What is cached, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CacheConfig {
    /// Size of the answers in memory, as JSON, in bytes; those not asked for the longest leave first. Default: 64 MiB.
    pub memory_bytes: usize,
    /// A folder that keeps answers, one file of JSON each, besides. It is never cleared. Default: none.
    pub folder: Option<PathBuf>,
    /// Which requests. Default: [`CacheWhen::Deterministic`].
    pub when: CacheWhen,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { memory_bytes: 64 << 20, folder: None, when: CacheWhen::default() }
    }
}

impl CacheConfig {
    /// With a folder that keeps answers.
    #[must_use]
    pub fn with_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// With another bound on the memory.
    #[must_use]
    pub fn with_memory_bytes(mut self, memory_bytes: usize) -> Self {
        self.memory_bytes = memory_bytes;
        self
    }

    /// With other requests than those that have one answer.
    #[must_use]
    pub fn with_when(mut self, when: CacheWhen) -> Self {
        self.when = when;
        self
    }
}

/// Which requests are answered from a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheWhen {
    /// Those meant to have one answer: of temperature 0, or with a seed. Others ask for a draw, and get a new one each time.
    #[default]
    Deterministic,
    /// All.
    Always,
}

impl CacheWhen {
    pub(super) fn caches(self, request: &Request) -> bool {
        self == Self::Always || request.temperature == Some(0.0) || request.seed.is_some()
    }
}

/// The hash of a request.
pub(super) type Key = blake3::Hash;

/// A request under way that others may wait for; empty again when its caller has gone.
type Flight = Arc<OnceCell<Result<Arc<Response>, Arc<Error>>>>;

/// Answers by request, in memory and perhaps in a folder. Share one through an [`Arc`] between clients.
#[derive(Debug)]
pub struct ResponseCache {
    pub(super) config: CacheConfig,
    memory: Mutex<Memory>,
    flights: Mutex<HashMap<Key, Flight>>,
    hits: AtomicU64,
    misses: AtomicU64,
    files: AtomicU64,
}

#[derive(Default)]
struct Memory {
    entries: HashMap<Key, Entry>,
    /// Keys by when they were last asked for.
    order: BTreeMap<u64, Key>,
    bytes: usize,
    clock: u64,
}

struct Entry {
    response: Arc<Response>,
    bytes: usize,
    used: u64,
}

impl ResponseCache {
    /// An empty cache, or one with what its folder has.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] where the folder cannot be made.
    pub fn new(config: CacheConfig) -> Result<Self> {
        if let Some(folder) = &config.folder {
            fs::create_dir_all(folder).map_err(|error| Error::Configuration {
                setting: "cache.folder".to_owned(),
                problem: format!("cannot make {}: {error}", folder.display()),
            })?;
        }
        Ok(Self {
            config,
            memory: Mutex::default(),
            flights: Mutex::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            files: AtomicU64::new(0),
        })
    }

    /// How many calls were answered without a request of their own: from memory, the folder, or together with another call.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// How many calls could have been answered from here, and were not.
    pub fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    /// Size of the answers in memory, as JSON, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.memory().bytes
    }

    pub(super) fn count(&self, hit: bool) {
        if hit { &self.hits } else { &self.misses }.fetch_add(1, Ordering::Relaxed);
    }

    /// What was stored under a key.
    pub(super) fn get(&self, key: &Key) -> Option<Arc<Response>> {
        if let Some(response) = self.memory().get(key) {
            return Some(response);
        }
        // What cannot be read or is not an answer was not stored; the next answer replaces it.
        let bytes = fs::read(self.file(key)?).ok()?;
        let response = Arc::new(serde_json::from_slice(&bytes).ok()?);
        self.memory().put(*key, &response, bytes.len(), self.config.memory_bytes);
        Some(response)
    }

    pub(super) fn put(&self, key: &Key, response: &Arc<Response>) {
        let Ok(bytes) = serde_json::to_vec(&**response) else { return };
        self.memory().put(*key, response, bytes.len(), self.config.memory_bytes);
        if let Some(file) = self.file(key) {
            let n = self.files.fetch_add(1, Ordering::Relaxed);
            let unfinished = file.with_extension(format!("{}-{n}.tmp", std::process::id()));
            if let Err(error) = write(&unfinished, &file, &bytes) {
                tracing::warn!(%error, "an answer was not written to the cache's folder");
            }
        }
    }

    fn file(&self, key: &Key) -> Option<PathBuf> {
        Some(self.config.folder.as_ref()?.join(key.to_hex().as_str()).with_extension("json"))
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Key, Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins those who want the answer to the same request.
    pub(super) fn board(&self, key: Key) -> Seat<'_> {
        let flight = self.flights().entry(key).or_default().clone();
        Seat { cache: self, key, flight }
    }
}

/// A place on a flight. The last to leave, or the first after it has landed, takes it off the list.
pub(super) struct Seat<'a> {
    cache: &'a ResponseCache,
    key: Key,
    pub(super) flight: Flight,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut flights = self.cache.flights();
        let listed = flights.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight));
        // The list holds one, this seat the other.
        if listed && (self.flight.initialized() || Arc::strong_count(&self.flight) == 2) {
            flights.remove(&self.key);
        }
    }
}

impl Memory {
    fn get(&mut self, key: &Key) -> Option<Arc<Response>> {
        self.clock += 1;
        let entry = self.entries.get_mut(key)?;
        self.order.remove(&std::mem::replace(&mut entry.used, self.clock));
        self.order.insert(self.clock, *key);
        Some(entry.response.clone())
    }

    fn put(&mut self, key: Key, response: &Arc<Response>, bytes: usize, limit: usize) {
        self.remove(&key);
        if bytes > limit {
            return;
        }
        self.clock += 1;
        self.bytes += bytes;
        self.order.insert(self.clock, key);
        self.entries.insert(key, Entry { response: response.clone(), bytes, used: self.clock });
        while self.bytes > limit
            && let Some((_, oldest)) = self.order.first_key_value()
        {
            let oldest = *oldest;
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.used);
            self.bytes -= entry.bytes;
        }
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} answers of {} bytes", self.entries.len(), self.bytes)
    }
}

/// Whoever reads `file` sees all of it or the one before.
fn write(unfinished: &Path, file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    fs::write(unfinished, bytes).and_then(|()| fs::rename(unfinished, file)).inspect_err(|_| {
        let _ = fs::remove_file(unfinished);
    })
}
