//! What layers do to the logits of a model: the same however they are written down, and the same before, while and after a
//! circuit moves from one to the next.

use std::collections::BTreeMap;
use std::sync::Arc;

use dynlora_core::{
    AgentId, Circuit, ContentHash, DynamicLoraLayer, LayerAccess, LayerChange, LayerConfig, Level, LoraAdapter,
    LoraBackend, LoraLayer, MigrationConfig, MigrationCoordinator, MigrationRequest, OpenGate, Snapshot,
    SnapshotPublisher, import_adapter,
};
use krystal_lm::kernels::cpu::Cpu;
use krystal_lm::{
    Decoder, Group, LanguageModel, LmBackend, LoraWeights, TokenBatch, Tokenizer, decoder_from, module_shapes,
};
use krystal_math::rng::{Purpose, stream_rng};
use rand::RngExt;

use crate::random_model::{Features, RandomModel};

const AGENT: AgentId = AgentId(3);
const RANK: usize = 2;

/// The layers of one agent of a model.
struct Stack(BTreeMap<Level, DynamicLoraLayer>);

impl LayerAccess for Stack {
    fn agents(&self) -> Vec<AgentId> {
        vec![AGENT]
    }

    fn layer(&mut self, level: Level, _: AgentId) -> Option<&mut (dyn LoraLayer + 'static)> {
        self.0.get_mut(&level).map(|layer| layer as &mut dyn LoraLayer)
    }
}

impl Stack {
    /// Layers that add nothing.
    fn new(model: &RandomModel, rank: usize) -> Self {
        let shapes = module_shapes(model.decoder.config());
        let layer = |level: Level| {
            let ranks = vec![rank; shapes.len()];
            (level, DynamicLoraLayer::new(level, AGENT, &shapes, &ranks, 5, LayerConfig::default()).unwrap())
        };
        Self(Level::ALL.into_iter().map(layer).collect())
    }

    fn fill(&mut self) {
        for (level, layer) in &mut self.0 {
            for module in 0..layer.factors().len() {
                let mut rng = stream_rng(7, Purpose::Weights, level.index() as u64, module as u64);
                layer.factors_mut(module).b.fill_with(|| rng.random_range(-0.2..0.2));
            }
        }
    }

    fn snapshot(&self, model: &RandomModel) -> Arc<Snapshot> {
        let shapes = module_shapes(model.decoder.config()).into();
        let shared = Level::SHARED.map(|level| self.0[&level].factors());
        let base = ContentHash::of_bytes(b"base");
        let mut publisher = SnapshotPublisher::new(base, &serde_json::json!({}), shapes, shared).unwrap();
        let private = Level::PRIVATE.map(|level| LayerChange::private(level, AGENT, self.0[&level].factors()));
        publisher.publish(&private, &[]).unwrap()
    }
}

fn backend(model: &RandomModel) -> LmBackend {
    let tokenizer = Tokenizer::characters("abc", &[]).unwrap();
    let config = model.decoder.config().clone();
    LmBackend::new(Arc::new(LanguageModel::from_tensors(config, &model.tensors, tokenizer).unwrap()))
}

fn gap(x: &[f32], y: &[f32]) -> f32 {
    assert_eq!(x.len(), y.len());
    x.iter().zip(y).fold(0.0, |most, (x, y)| most.max((x - y).abs()))
}

/// Every pair of adjacent levels, into free channels and into modules that are full.
#[test]
fn a_circuit_that_moves_changes_no_logit() {
    let model = Features { lengths: vec![(9, vec![3])], ..Features::default() }.build();
    let (backend, context) = (backend(&model), &model.texts[0].0);
    let logits = |stack: &Stack| backend.generate_step(context, &stack.snapshot(&model), AGENT).unwrap();
    let config = MigrationConfig { rates: [0.02; 4], ..MigrationConfig::default() };
    for to in [Level::Foundation, Level::Domain, Level::Swarm, Level::Agent] {
        let from = to.faster().unwrap();
        for has_room in [true, false] {
            let mut stack = Stack::new(&model, RANK);
            let nothing = logits(&stack);
            stack.fill();
            let modules = 0..stack.0[&to].factors().len();
            if has_room {
                let layer = stack.0.get_mut(&to).unwrap();
                modules.clone().for_each(|module| layer.reset_channel(module, 1));
            }
            let before = logits(&stack);
            assert!(gap(&nothing, &before) > 0.01, "the layers do something");
            let moving: Vec<f32> =
                modules.clone().flat_map(|module| stack.0[&from].copy_channel(module, 0).b).collect();

            let mut coordinator = MigrationCoordinator::new(config);
            let channels: Vec<(usize, usize)> = modules.clone().map(|module| (module, 0)).collect();
            let mut circuit = Circuit::new(from, Some(AGENT), &channels);
            circuit.scores.autocorrelation = 1.0;
            circuit.scores.usage_rank = 1.0;
            coordinator.enqueue(0, MigrationRequest::new(circuit));
            let (mut ticks, mut widest) = (0, 0.0_f32);
            while coordinator.channel(to).unwrap().backlog() > 0 && ticks < 500 {
                ticks += 1;
                coordinator.tick(ticks, &mut stack, &mut OpenGate);
                widest = widest.max(gap(&before, &logits(&stack)));
            }
            println!("{from} to {to}, room: {has_room}: {ticks} ticks, logits within {widest:.1e}");
            assert_eq!(coordinator.channel(to).unwrap().statistics().arrived, 1, "{from} to {to}");
            let left: Vec<f32> = modules.flat_map(|module| stack.0[&from].copy_channel(module, 0).b).collect();
            assert!(ticks > 10 && left != moving, "it took its time, and has moved");
            assert!(widest <= 1e-5, "{from} to {to}: {widest:e}");
        }
    }
}

/// An adapter with `alpha != r`, rsLoRA or not, of some modules or all: as itself, as a layer of a stack, as the one adapter
/// that the stack is written as, and merged into the weights.
#[test]
fn an_adapter_is_the_same_as_a_layer_as_a_file_and_merged() {
    for (targets, rslora, alpha) in [(0b111_1111, false, 5.0), (0b010_0101, false, 0.5), (0b111_1111, true, 7.0)] {
        let lengths = vec![(9, vec![3])];
        let model = Features { lengths, targets, rslora, alpha, ..Features::default() }.build();
        let (backend, context) = (backend(&model), &model.texts[0].0);
        let shapes = module_shapes(model.decoder.config());
        let logits = |decoder: &Decoder, adapter: Option<&LoraAdapter>| {
            let lora = adapter.map(|adapter| LoraWeights::new(&Cpu, model.decoder.config(), adapter));
            let group = Group { prompt: context, completions: vec![&context[..1]] };
            decoder.logits(lora.as_ref(), &TokenBatch::new([&group]))
        };
        let base = logits(&model.decoder, None);
        let expected = logits(&model.decoder, Some(&model.adapter));
        assert!(gap(&base, &expected) > 0.01);

        // The stack without it changes no bit.
        let mut stack = Stack::new(&model, 3);
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
        let nothing = backend.generate_step(context, &stack.snapshot(&model), AGENT).unwrap();
        assert_eq!(bits(&nothing), bits(&base));
        let layer = stack.0.get_mut(&Level::Domain).unwrap();
        let imported = import_adapter(&model.adapter, &shapes, layer.factors()).unwrap();
        for (module, factors) in imported.iter().enumerate() {
            layer.factors_mut(module).clone_from(factors);
        }
        let snapshot = stack.snapshot(&model);
        let check = |what: &str, found: &[f32]| {
            let far = gap(&expected, found);
            assert!(far <= 1e-5, "{what}, alpha {alpha}: {far:e}");
        };
        check("as a layer", &backend.generate_step(context, &snapshot, AGENT).unwrap());
        let folder = tempfile::tempdir().unwrap();
        snapshot.fused_adapter(AGENT).unwrap().save(folder.path(), None).unwrap();
        let fused = LoraAdapter::load(folder.path(), &shapes).unwrap();
        assert_eq!(fused.config.lora_alpha, fused.config.r as f64);
        check("as a file", &logits(&model.decoder, Some(&fused)));
        for adapter in [&model.adapter, &fused] {
            let mut tensors = model.tensors.clone();
            let weights = tensors.iter_mut().filter_map(|tensor| {
                let name = tensor.name.strip_suffix(".weight")?;
                adapter.module(name)?;
                Some((name, &mut tensor.values[..]))
            });
            adapter.merge_into(weights).unwrap();
            let merged = decoder_from(model.decoder.config().clone(), &tensors).unwrap();
            check("merged", &logits(&merged, None));
        }
    }
}
