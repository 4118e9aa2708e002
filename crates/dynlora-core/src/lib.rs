#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

// Plain LoRA and its files.
mod adapter;
mod config;
mod error;
mod module;
mod pattern_map;
mod peft;
mod target_modules;
mod tensor_file;

pub use adapter::LoraAdapter;
pub use config::{LoraConfig, MAX_RANK};
pub use error::Error;
pub use module::{LoraModule, ModuleShape};
pub use pattern_map::PatternMap;
pub use peft::{CONFIG_FILE, TENSORS_FILE, stored_shapes};
pub use target_modules::TargetModules;

// The hierarchy: what it is made of, and its seams.
mod backend;
mod content_hash;
mod factors;
mod folder_switch;
mod gradient;
mod health;
mod hierarchy_files;
mod layer;
mod level;
mod provenance;
mod publisher;
mod resonance;
mod saved_state;
mod snapshot;
mod stack_adapter;
mod staleness;

pub use backend::LoraBackend;
pub use content_hash::{ContentHash, ContentHasher, NotADigest, SnapshotId, canonical_json};
pub use factors::{FactorAddress, LayerFactors, ModuleFactors, initial_row};
pub use gradient::{ModuleActivity, StackActivity, StackGradient};
pub use health::{
    ChannelHealth, ChannelVitals, Finding, GradientVitals, HealthInput, HealthMonitor, HealthReport, HealthState,
    HealthThresholds, LayerHealth, LayerVitals, MIN_EVENTS, ResonanceVitals, Severity,
};
pub use hierarchy_files::{Export, SavedHierarchy, SavedLayer};
pub use layer::{
    AdvanceReport, Channel, ChannelState, LayerGradient, LayerMeasurement, LayerStep, LoraLayer, UpdateReport,
};
pub use level::{AgentId, Level, UnknownLevel};
pub use provenance::{
    AppliedInput, BrokenLink, InputKind, ProvenanceChain, ProvenanceEntry, ProvenanceHead, ProvenanceRecord,
    ReplayError, replay, state_hash,
};
pub use publisher::{LayerChange, SnapshotPublisher, SnapshotReader};
pub use resonance::{Horizontal, PlainMean, Resonance, ResonanceStatistics, Signal, Vertical};
pub use saved_state::{SavedState, StateReader};
pub use snapshot::{FusedFactors, LayerOwner, Snapshot};
pub use stack_adapter::{Truncation, import_adapter};
pub use staleness::{Staleness, StalenessCounters, StalenessPolicy};

// One layer, in full.
mod channel_transfer;
mod decay;
mod dynamic_layer;
mod entropy_budget;
mod fused_pass;
mod guide;
mod inertia;
mod layer_config;
mod layer_state;
mod screening;
mod update;

pub use dynamic_layer::DynamicLoraLayer;
pub use guide::{MixRows, ProjectRow, StepGuide};
pub use layer_config::{
    DecayMode, DensityMode, EntropyMode, Granularity, LayerConfig, Mechanisms, OptimizerKind, effective_rank,
};

// What moves between layers, and how.
mod circuit;
mod migration;

pub use circuit::{
    Circuit, CircuitCandidate, CircuitDetector, CircuitDetectorConfig, CircuitDetectorState, CircuitModule,
    CircuitNode, CircuitScores, CircuitSource, LAGS, PatternId, SIGNATURE_BITS, Signature, Trajectory, TrajectoryCache,
    TrajectoryCacheConfig, autocorrelation,
};
pub use migration::{
    Alignment, ChannelStatistics, EMERGENCY_SPACING, Enqueued, Handoff, LayerAccess, LayerAddress, MigrationAction,
    MigrationChannel, MigrationConfig, MigrationCoordinator, MigrationEvent, MigrationLog, MigrationMode,
    MigrationReason, MigrationRequest, MigrationSignal, MigrationState, MigrationTick, OpenGate, PressureParts,
    RoomKind, ShareGate, SharedChannel, SharedProposal, SharingConfig, SharingMode, TokenBucket, WhenFull, split,
};

// The hierarchy.
mod directional_inertia;
mod hierarchy;
mod hierarchy_config;
mod layers;
mod record;
mod regime;
mod tick;

pub use directional_inertia::{DirectionalConfig, DirectionalInertia};
pub use hierarchy::{HierarchyRest, HierarchyState, LoraHierarchy};
pub use hierarchy_config::HierarchyConfig;
pub use regime::{RegimeChange, RegimeConfig, RegimeDetector, RegimeState};
pub use tick::TickReport;
