//! The hierarchy of `dynlora-core` with the resonance of `dynlora-resonance`, and each of its mechanisms switched off.

use std::collections::BTreeMap;
use std::sync::Arc;

use dynlora_core::{AgentId, ContentHash, HierarchyConfig, LoraHierarchy, MigrationMode, PlainMean, Resonance};
use dynlora_resonance::{ResonanceConfig, ResonanceEngine};
use krystal_lm::kernels::cpu::Cpu;
use krystal_lm::{ActivityPlan, Gradients, LoraWeights, stack_gradient};

use crate::continual::base_model::{Base, backward};
use crate::continual::learner::{Learner, Method, PhaseData, Protocol, Setup};
use crate::continual::stream::{AgentBatch, StreamKind};
use crate::continual::task::token_batch;

#[derive(Debug)]
struct Dynamic {
    hierarchy: LoraHierarchy,
    learning_rate: f64,
    /// Told where phases end.
    is_told: bool,
    published: BTreeMap<AgentId, Arc<LoraWeights<Cpu>>>,
    migrations: u64,
}

impl Dynamic {
    fn publish(&mut self, base: &Base, agent: AgentId) {
        let snapshot = self.hierarchy.snapshot();
        let fused = snapshot.fused(agent).expect("the agent was added");
        let weights = LoraWeights::from_fused(&Cpu, base.decoder().config(), snapshot.shapes(), &fused);
        self.published.insert(agent, Arc::new(weights));
    }
}

impl Learner for Dynamic {
    fn learn(&mut self, base: &Base, batches: &[AgentBatch]) -> f64 {
        let (decoder, config) = (base.decoder(), base.decoder().config());
        let snapshot = self.hierarchy.snapshot();
        let mut loss = 0.0;
        for batch in batches {
            let agent = AgentId(batch.agent as u64);
            let lora = Arc::clone(&self.published[&agent]);
            let plan = ActivityPlan::default();
            let mut gradients = Gradients::lora(&Cpu, config, &lora).with_activity(&Cpu, config, &lora, plan);
            loss += backward(decoder, Some(&lora), token_batch(&batch.examples), &mut gradients);
            let gradient = stack_gradient(&gradients, &snapshot, agent);
            self.hierarchy.submit(gradient).expect("a finite gradient of the right shape");
        }
        let report = self.hierarchy.tick(self.learning_rate).expect("finite layers");
        self.migrations += report.migrations.len() as u64;
        for batch in batches {
            self.publish(base, AgentId(batch.agent as u64));
        }
        loss / batches.len() as f64
    }

    fn end_phase(&mut self, _base: &Base, _phase: &PhaseData<'_>) {
        if self.is_told {
            self.hierarchy.consolidate();
        }
    }

    fn weights(&self, _base: &Base, agent: usize) -> Arc<LoraWeights<Cpu>> {
        Arc::clone(&self.published[&AgentId(agent as u64)])
    }

    fn notes(&self) -> Vec<(String, f64)> {
        let vitals = self.hierarchy.vitals();
        let mut notes = vec![
            ("regimes".to_owned(), self.hierarchy.n_regimes() as f64),
            ("migrations".to_owned(), self.migrations as f64),
        ];
        for layer in vitals.layers.iter().take(5) {
            notes.push((format!("{}.inertia", layer.owner.level), layer.effective_inertia));
            notes.push((format!("{}.screened", layer.owner.level), layer.measurement.screening_rate.unwrap_or(-1.0)));
        }
        notes
    }
}

/// What a variant changes.
type Change = fn(&mut HierarchyConfig);

fn make(
    base: &Base,
    setup: &Setup<'_>,
    change: Change,
    is_plain: bool,
    is_told: bool,
) -> anyhow::Result<Box<dyn Learner>> {
    let settings = setup.settings;
    let mut config = HierarchyConfig::default().with_total_rank(settings.rank);
    config.directional.strength = settings.number("strength", config.directional.strength)?;
    config.directional.regain = settings.number("regain", config.directional.regain)?;
    config.regime.jump = settings.number("jump", config.regime.jump)?;
    config.regime.shift = settings.number("shift", config.regime.shift)?;
    change(&mut config);
    let engine: Box<dyn Resonance> = match is_plain {
        true => Box::new(PlainMean::default()),
        false => Box::new(ResonanceEngine::new(ResonanceConfig::default())?),
    };
    let identity = ContentHash::of_bytes(b"the continual suite's base model");
    let mut hierarchy = LoraHierarchy::new(config, base.shapes(), identity, setup.seed, engine)?;
    for agent in 0..setup.n_agents {
        hierarchy.add_agent(AgentId(agent as u64))?;
    }
    hierarchy.publish()?;
    let mut dynamic =
        Dynamic { hierarchy, learning_rate: setup.learning_rate, is_told, published: BTreeMap::new(), migrations: 0 };
    for agent in 0..setup.n_agents {
        dynamic.publish(base, AgentId(agent as u64));
    }
    Ok(Box::new(dynamic))
}

/// `dynamic` and its ablations.
pub(super) fn methods() -> Vec<Method> {
    let dynamic = Method {
        name: "dynamic",
        what: "the five-layer hierarchy",
        protocol: Protocol::Stream,
        boundaries: false,
        hyper: None,
        tuned_as: "dynamic",
        fits: |_| true,
        make: |base, setup| make(base, setup, |_| (), false, false),
    };
    // Ablations on the streams without repetition and with one agent; resonance where there are several, and how regimes are
    // found also where they return.
    let main: fn(StreamKind) -> bool =
        |kind| matches!(kind, StreamKind::Arith | StreamKind::Formal | StreamKind::Strings);
    let regimes: fn(StreamKind) -> bool =
        |kind| matches!(kind, StreamKind::Arith | StreamKind::Formal | StreamKind::Strings | StreamKind::Recurring);
    vec![
        dynamic,
        Method {
            name: "dynamic-told",
            what: "told where phases end instead of detecting it",
            boundaries: true,
            fits: regimes,
            make: |base, setup| make(base, setup, |config| config.regime.enabled = false, false, true),
            ..dynamic
        },
        Method {
            name: "dynamic-no-directions",
            what: "without inertia along directions",
            fits: main,
            make: |base, setup| make(base, setup, |config| config.directional.enabled = false, false, false),
            ..dynamic
        },
        Method {
            name: "dynamic-no-shift",
            what: "regimes by jumps of the gradient alone",
            fits: regimes,
            make: |base, setup| make(base, setup, |config| config.regime.shift = f64::MAX, false, false),
            ..dynamic
        },
        Method {
            name: "dynamic-no-regain",
            what: "damped steps are not lengthened",
            fits: regimes,
            make: |base, setup| make(base, setup, |config| config.directional.regain = 1.0, false, false),
            ..dynamic
        },
        Method {
            name: "dynamic+scales",
            what: "base inertia .5, .375, .25, .125, 0: layers of five time scales",
            fits: regimes,
            make: |base, setup| {
                let change: Change = |config| config.base_inertia = [0.5, 0.375, 0.25, 0.125, 0.0];
                make(base, setup, change, false, false)
            },
            ..dynamic
        },
        Method {
            name: "dynamic+inertia",
            what: "with inertia that grows with use",
            fits: main,
            make: |base, setup| make(base, setup, |config| config.layer.mechanisms.inertia = true, false, false),
            ..dynamic
        },
        Method {
            name: "dynamic+decay",
            what: "with decay",
            fits: main,
            make: |base, setup| make(base, setup, |config| config.layer.mechanisms.decay = true, false, false),
            ..dynamic
        },
        Method {
            name: "dynamic+screening",
            what: "with phases",
            fits: main,
            make: |base, setup| make(base, setup, |config| config.layer.mechanisms.screening = true, false, false),
            ..dynamic
        },
        Method {
            name: "dynamic-seeds",
            what: "as the seeds describe it, mended: all of these, no directions, their inertias",
            fits: main,
            make: |base, setup| {
                let change: Change = |config| {
                    *config = {
                        let ranks = config.ranks;
                        let mut seeds = HierarchyConfig::seeds();
                        seeds.ranks = ranks;
                        seeds
                    }
                };
                make(base, setup, change, false, false)
            },
            ..dynamic
        },
        Method {
            name: "dynamic-no-resonance",
            what: "the plain mean instead of resonance",
            fits: |kind| kind == StreamKind::Agents,
            make: |base, setup| make(base, setup, |_| (), true, false),
            ..dynamic
        },
        Method {
            name: "dynamic-no-agreement",
            what: "shared layers at full pace whether or not the agents agree",
            fits: |kind| kind == StreamKind::Agents,
            make: |base, setup| make(base, setup, |config| config.agreement = 0.0, false, false),
            ..dynamic
        },
        Method {
            name: "dynamic-no-migration",
            what: "without migration",
            fits: main,
            make: |base, setup| make(base, setup, |config| config.migration.mode = MigrationMode::Off, false, false),
            ..dynamic
        },
    ]
}
