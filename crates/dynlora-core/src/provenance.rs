//! Where a snapshot came from: a chain of records, each naming the root before it, the root after it and what was applied in
//! between, so that the same inputs can be applied again and must lead to the same roots.

use serde::{Deserialize, Serialize};

use crate::{AgentId, ContentHash, ContentHasher, Level, SavedState, SnapshotId, StackGradient};

/// A kind of input to a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum InputKind {
    /// Gradients that were accepted.
    Gradients,
    /// Moves of channels between layers.
    Migrations,
    /// A tick that passed, at its learning rate: decay, phases, homeostasis.
    Decay,
    /// A regime of data that the caller ended.
    Regime,
    /// Agents that came or left.
    Agents,
    /// Factors that were imported or restored.
    Import,
}

impl InputKind {
    /// Name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gradients => "gradients",
            Self::Migrations => "migrations",
            Self::Decay => "decay",
            Self::Regime => "regime",
            Self::Agents => "agents",
            Self::Import => "import",
        }
    }
}

/// What was applied, by its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedInput {
    /// What it was.
    pub kind: InputKind,
    /// How many of them.
    pub count: u64,
    /// Digest of all of them in the order of their application.
    pub digest: ContentHash,
}

impl AppliedInput {
    /// Several inputs of a kind by their digests, in the order of their application.
    pub fn of(kind: InputKind, digests: &[ContentHash]) -> Self {
        let mut hasher = ContentHasher::new("dynlora-applied-v1");
        hasher.text(kind.name()).number(digests.len() as u64);
        digests.iter().for_each(|digest| {
            hasher.digest(*digest);
        });
        Self { kind, count: digests.len() as u64, digest: hasher.finish() }
    }
}

/// What a publication adds to the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenanceEntry {
    /// The root published.
    pub root: SnapshotId,
    /// Digest of the rest of the state. A [`LoraHierarchy`](crate::LoraHierarchy) puts in the
    /// [summaries](crate::LoraLayer::summary) of the layers that were used since the record before, the detector of regimes,
    /// the counters of gradients and resonance and the [summary](crate::CircuitSource::summary) of the source of circuits: a
    /// thousandth of the state, on which the moments and activities left out have left their sums.
    pub state: ContentHash,
    /// Version of the snapshot.
    pub version: u64,
    /// The tick that ended in it.
    pub tick: u64,
    /// Seed of the hierarchy's random draws.
    pub seed: u64,
    /// What was applied since the record before, in order.
    pub applied: Vec<AppliedInput>,
}

/// One link of the chain; one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvenanceRecord {
    /// The root before.
    pub parent: SnapshotId,
    /// The root after.
    pub root: SnapshotId,
    /// Digest of the rest of the state after.
    pub state: ContentHash,
    /// Version of the snapshot after.
    pub version: u64,
    /// The tick.
    pub tick: u64,
    /// Seed of the hierarchy's random draws.
    pub seed: u64,
    /// What was applied, in order.
    pub applied: Vec<AppliedInput>,
    /// Digest of the preceding link and of everything above.
    pub link: ContentHash,
}

impl ProvenanceRecord {
    /// The link this record should have after `previous`.
    fn link_after(&self, previous: ContentHash) -> ContentHash {
        let mut hasher = ContentHasher::new("dynlora-record-v1");
        hasher.digest(previous).digest(ContentHash(self.parent.0)).digest(ContentHash(self.root.0)).digest(self.state);
        hasher.number(self.version).number(self.tick).number(self.seed).number(self.applied.len() as u64);
        for input in &self.applied {
            hasher.text(input.kind.name()).number(input.count).digest(input.digest);
        }
        hasher.finish()
    }
}

/// Where a chain stands: enough to go on with it, and to check that what follows does follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvenanceHead {
    /// The last root.
    pub root: SnapshotId,
    /// The last link.
    pub link: ContentHash,
    /// Version of the last snapshot.
    pub version: u64,
    /// Records so far.
    pub n_records: u64,
}

impl ProvenanceHead {
    /// The beginning of a chain at a snapshot.
    pub fn genesis(root: SnapshotId, version: u64) -> Self {
        let link = ContentHasher::new("dynlora-genesis-v1").digest(ContentHash(root.0)).number(version).finish();
        Self { root, link, version, n_records: 0 }
    }

    fn after(self, record: &ProvenanceRecord) -> Self {
        Self { root: record.root, link: record.link, version: record.version, n_records: self.n_records + 1 }
    }
}

/// Records one after another from a starting point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenanceChain {
    start: ProvenanceHead,
    head: ProvenanceHead,
    records: Vec<ProvenanceRecord>,
}

/// The first record that does not follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {index} of the provenance (tick {tick}) is broken: expected {what} {expected}, found {found}")]
pub struct BrokenLink {
    /// Its place after the chain's starting point, from 0.
    pub index: usize,
    /// The tick it claims.
    pub tick: u64,
    /// What does not fit: `parent`, `link`, `version above`.
    pub what: &'static str,
    /// What it should be.
    pub expected: String,
    /// What it is.
    pub found: String,
}

impl ProvenanceChain {
    /// A chain that begins at a snapshot, or goes on from where another ended.
    pub fn new(start: ProvenanceHead) -> Self {
        Self { start, head: start, records: Vec::new() }
    }

    /// Records read from elsewhere; [`verify`](Self::verify) says whether they hold together.
    pub fn from_records(start: ProvenanceHead, records: Vec<ProvenanceRecord>) -> Self {
        let head = records.iter().fold(start, ProvenanceHead::after);
        Self { start, head, records }
    }

    /// Adds a record.
    pub fn append(&mut self, entry: ProvenanceEntry) -> &ProvenanceRecord {
        let ProvenanceEntry { root, state, version, tick, seed, applied } = entry;
        let link = ContentHash([0; 32]);
        let mut record = ProvenanceRecord { parent: self.head.root, root, state, version, tick, seed, applied, link };
        record.link = record.link_after(self.head.link);
        self.head = self.head.after(&record);
        self.records.push(record);
        &self.records[self.records.len() - 1]
    }

    /// Where it stands.
    pub fn head(&self) -> ProvenanceHead {
        self.head
    }

    /// Where its records begin.
    pub fn start(&self) -> ProvenanceHead {
        self.start
    }

    /// The records since its start.
    pub fn records(&self) -> &[ProvenanceRecord] {
        &self.records
    }

    /// Hands over the records so far, to be written, and starts anew at the head: a chain need not be kept in memory.
    pub fn take_records(&mut self) -> Vec<ProvenanceRecord> {
        self.start = self.head;
        std::mem::take(&mut self.records)
    }

    /// Whether each record follows from the one before.
    ///
    /// # Errors
    /// The first that does not: its content was changed, or records are missing before it.
    pub fn verify(&self) -> Result<(), BrokenLink> {
        let mut head = self.start;
        for (index, record) in self.records.iter().enumerate() {
            let broken =
                |what, expected: String, found: String| BrokenLink { index, tick: record.tick, what, expected, found };
            if record.parent != head.root {
                return Err(broken("parent", head.root.to_string(), record.parent.to_string()));
            }
            let link = record.link_after(head.link);
            if record.link != link {
                return Err(broken("link", link.to_string(), record.link.to_string()));
            }
            // A tick that changed nothing publishes nothing: the version may stand still, with the root.
            let is_next = record.version > head.version || (record.version == head.version && record.root == head.root);
            if !is_next {
                return Err(broken("a version above", head.version.to_string(), record.version.to_string()));
            }
            head = head.after(record);
        }
        Ok(())
    }
}

/// Why a replay did not come out as recorded.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError<E> {
    /// The records do not hold together.
    #[error(transparent)]
    Broken(BrokenLink),
    /// The inputs of a record could not be applied.
    #[error("record {index} of the provenance (tick {tick}) could not be applied again")]
    Apply {
        /// Its place after the chain's starting point, from 0.
        index: usize,
        /// Its tick.
        tick: u64,
        /// Why not.
        source: E,
    },
    /// Applying the inputs led elsewhere.
    #[error("record {index} of the provenance (tick {tick}) leads to {what} {found}, recorded is {expected}")]
    Different {
        /// Its place after the chain's starting point, from 0.
        index: usize,
        /// Its tick.
        tick: u64,
        /// `root` or `state`.
        what: &'static str,
        /// The digest recorded.
        expected: ContentHash,
        /// The digest found.
        found: ContentHash,
    },
}

/// Applies the inputs of every record again: `apply` brings `hierarchy` from one record to the next and says which root and
/// which [`state_hash`] it then has.
///
/// # Errors
/// The first record that is broken, cannot be applied, or comes out otherwise than recorded.
pub fn replay<H, E>(
    chain: &ProvenanceChain,
    hierarchy: &mut H,
    mut apply: impl FnMut(&mut H, &ProvenanceRecord) -> Result<(SnapshotId, ContentHash), E>,
) -> Result<(), ReplayError<E>> {
    chain.verify().map_err(ReplayError::Broken)?;
    for (index, record) in chain.records.iter().enumerate() {
        let tick = record.tick;
        let (root, state) = apply(hierarchy, record).map_err(|source| ReplayError::Apply { index, tick, source })?;
        let pairs = [("root", ContentHash(record.root.0), ContentHash(root.0)), ("state", record.state, state)];
        for (what, expected, found) in pairs {
            if expected != found {
                return Err(ReplayError::Different { index, tick, what, expected, found });
            }
        }
    }
    Ok(())
}

/// Digest of what a snapshot leaves out: phases, moments, activity, thresholds of every layer, in the order given.
pub fn state_hash<'a>(layers: impl IntoIterator<Item = (Level, AgentId, &'a SavedState)>) -> ContentHash {
    let mut hasher = ContentHasher::new("dynlora-state-v1");
    for (level, agent, state) in layers {
        hasher.text(level.name()).number(if level.is_shared() { 0 } else { agent.0 });
        hasher.number(state.tensors.len() as u64).number(state.numbers.len() as u64);
        state.tensors.iter().for_each(|(name, values)| {
            hasher.text(name).floats(values);
        });
        state.numbers.iter().for_each(|(name, value)| {
            hasher.text(name).doubles(&[*value]);
        });
    }
    hasher.finish()
}

impl StackGradient {
    /// Names the gradient in a provenance record: agent, version and all values.
    pub fn digest(&self) -> ContentHash {
        let mut hasher = ContentHasher::new("dynlora-gradient-v2");
        hasher.number(self.agent.0).number(self.version);
        self.levels.iter().for_each(|level| {
            hasher.floats(level);
        });
        hasher.floats(&self.sketch).number(u64::from(self.activity.is_some()));
        if let Some(activity) = &self.activity {
            hasher.number(activity.n_rows).floats(&activity.input_sum).number(activity.modules.len() as u64);
            for module in &activity.modules {
                hasher.floats(&module.second_moment).floats(&module.inputs);
            }
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(step: u8) -> ProvenanceEntry {
        ProvenanceEntry {
            root: SnapshotId([step; 32]),
            state: ContentHash([step ^ 0x55; 32]),
            version: u64::from(step),
            tick: 10 * u64::from(step),
            seed: u64::MAX,
            applied: vec![AppliedInput::of(InputKind::Gradients, &[ContentHash::of_bytes(&[step])])],
        }
    }

    fn chain() -> ProvenanceChain {
        let mut chain = ProvenanceChain::new(ProvenanceHead::genesis(SnapshotId([0; 32]), 0));
        (1..=5).for_each(|step| drop(chain.append(entry(step)).clone()));
        chain
    }

    #[test]
    fn any_change_to_a_record_breaks_the_chain_there() {
        let chain = chain();
        chain.verify().unwrap();
        type Change = fn(&mut ProvenanceRecord);
        let changes: [(&str, Change); 8] = [
            ("parent", |r| r.parent.0[0] ^= 1),
            ("link", |r| r.root.0[31] ^= 1),
            ("link", |r| r.state.0[0] ^= 1),
            ("link", |r| r.version += 1),
            ("link", |r| r.tick += 1),
            ("link", |r| r.seed -= 1),
            ("link", |r| r.applied[0].count = 2),
            ("link", |r| r.applied.clear()),
        ];
        for (what, change) in changes {
            let mut records = chain.records().to_vec();
            change(&mut records[2]);
            let broken = ProvenanceChain::from_records(chain.start(), records).verify().unwrap_err();
            assert_eq!((broken.index, broken.what), (2, what), "{broken}");
        }
        // A record that is left out, or two that are exchanged, break it as well.
        let mut records = chain.records().to_vec();
        records.remove(1);
        assert_eq!(ProvenanceChain::from_records(chain.start(), records).verify().unwrap_err().index, 1);
        let mut records = chain.records().to_vec();
        records.swap(3, 4);
        assert_eq!(ProvenanceChain::from_records(chain.start(), records).verify().unwrap_err().index, 3);
        // A forger who makes the link fit still cannot go back to an earlier version.
        let mut forged = ProvenanceChain::new(chain.head());
        forged.append(entry(1));
        assert_eq!(forged.verify().unwrap_err().what, "a version above");
    }

    #[test]
    fn records_survive_json_lines_and_a_chain_goes_on_from_its_head() {
        let mut first = chain();
        let lines: Vec<String> = first.records().iter().map(|r| serde_json::to_string(r).unwrap()).collect();
        assert!(lines.iter().all(|line| !line.contains('\n')));
        let mut all: Vec<ProvenanceRecord> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let start = first.start();
        assert_eq!(ProvenanceChain::from_records(start, all.clone()), first);

        let head: ProvenanceHead = serde_json::from_str(&serde_json::to_string(&first.head()).unwrap()).unwrap();
        assert_eq!(first.take_records(), all);
        first.append(entry(6));
        let mut second = ProvenanceChain::new(head);
        second.append(entry(6));
        assert_eq!(first, second);
        all.extend(second.take_records());
        let whole = ProvenanceChain::from_records(start, all);
        whole.verify().unwrap();
        assert_eq!(whole.head().n_records, 6);
    }

    #[test]
    fn a_replay_stops_where_it_comes_out_differently() {
        let chain = chain();
        let again = |step: &mut u8, record: &ProvenanceRecord| {
            *step += 1;
            assert_eq!(record.tick, 10 * u64::from(*step));
            let entry = entry(*step);
            Ok::<_, std::fmt::Error>((entry.root, entry.state))
        };
        replay(&chain, &mut 0, again).unwrap();
        let elsewhere = |step: &mut u8, record: &ProvenanceRecord| {
            let (root, mut state) = again(step, record)?;
            state.0[5] ^= u8::from(*step == 3);
            Ok(if *step == 4 { return Err(std::fmt::Error) } else { (root, state) })
        };
        let error = replay(&chain, &mut 0, elsewhere).unwrap_err();
        assert!(matches!(error, ReplayError::Different { index: 2, what: "state", .. }), "{error}");
        let error = replay(&chain, &mut 0, |_: &mut u8, _| Err(std::fmt::Error)).unwrap_err();
        assert!(matches!(error, ReplayError::Apply { index: 0, tick: 10, .. }), "{error}");
    }

    #[test]
    fn the_state_hash_sees_every_name_and_bit() {
        let state = SavedState {
            tensors: vec![("moments".to_owned(), vec![0.0, 1.0])],
            numbers: vec![("threshold".to_owned(), 1.0)],
        };
        let hash = |level, agent, state: &SavedState| state_hash([(level, AgentId(agent), state)]);
        let original = hash(Level::Agent, 1, &state);
        assert_ne!(original, hash(Level::Agent, 2, &state));
        assert_ne!(original, hash(Level::Context, 1, &state));
        assert_eq!(hash(Level::Swarm, 1, &state), hash(Level::Swarm, 2, &state));
        let changes: [fn(&mut SavedState); 4] = [
            |s| s.tensors[0].1[0] = -0.0,
            |s| s.tensors[0].0.push('s'),
            |s| s.numbers[0].1 = 1.0 + f64::EPSILON,
            |s| s.numbers.clear(),
        ];
        for change in changes {
            let mut changed = state.clone();
            change(&mut changed);
            assert_ne!(original, hash(Level::Agent, 1, &changed), "{changed:?}");
        }
    }
}
