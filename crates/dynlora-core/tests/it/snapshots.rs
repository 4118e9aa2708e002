//! Snapshots: what they share, what names them, and what readers see while a writer writes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use dynlora_core::{
    AgentId, ContentHash, Error, FactorAddress, LayerChange, LayerFactors, Level, ModuleFactors, ModuleShape, Snapshot,
    SnapshotPublisher,
};
use krystal_math::rng::{Purpose, stream_rng};
use proptest::prelude::*;
use rand::RngExt;
use serde_json::json;

use crate::shapes;

/// Trained factors of a layer, of ranks that differ between modules.
pub(crate) fn layer(level: Level, agent: u64, shapes: &[ModuleShape], seed: u64) -> LayerFactors {
    let fill = |(module, shape): (usize, &ModuleShape)| {
        let rank = 1 + (5 - level.index() + module) % 4;
        let mut factors = ModuleFactors::fresh(shape, rank, FactorAddress { seed, level, agent, module });
        let mut rng = stream_rng(seed, Purpose::Weights, agent << 8 | level.index() as u64, module as u64);
        factors.b.fill_with(|| rng.random_range(-1.0..1.0));
        Arc::new(factors)
    };
    shapes.iter().enumerate().map(fill).collect()
}

pub(crate) struct Layers {
    pub(crate) shapes: Arc<[ModuleShape]>,
    pub(crate) shared: Vec<LayerFactors>,
    pub(crate) agents: Vec<(AgentId, [LayerFactors; 2])>,
}

impl Layers {
    pub(crate) fn new(agents: &[u64], seed: u64) -> Self {
        let shapes = shapes();
        let shared = Level::SHARED.map(|level| layer(level, 0, &shapes, seed)).to_vec();
        let private = |agent: &u64| (AgentId(*agent), Level::PRIVATE.map(|level| layer(level, *agent, &shapes, seed)));
        Self { agents: agents.iter().map(private).collect(), shapes: shapes.clone().into(), shared }
    }

    pub(crate) fn publisher(&self) -> SnapshotPublisher {
        let [foundation, domain, swarm] = &self.shared[..] else { unreachable!("three shared layers") };
        let base = ContentHash::of_bytes(b"base");
        let config = json!({"alpha": 0.5, "rank": 4});
        let mut publisher =
            SnapshotPublisher::new(base, &config, Arc::clone(&self.shapes), [foundation, domain, swarm]).unwrap();
        let changes: Vec<LayerChange<'_>> = self.agents.iter().flat_map(private_changes).collect();
        publisher.publish(&changes, &[]).unwrap();
        publisher
    }
}

fn private_changes((agent, layers): &(AgentId, [LayerFactors; 2])) -> [LayerChange<'_>; 2] {
    [LayerChange::private(Level::Agent, *agent, &layers[0]), LayerChange::private(Level::Context, *agent, &layers[1])]
}

fn write(factors: &mut LayerFactors, module: usize, value: f32) {
    Arc::make_mut(&mut factors[module]).b[0] = value;
}

#[test]
fn a_publication_shares_all_that_was_not_written_to() {
    let mut layers = Layers::new(&[3, 259], 1);
    let mut publisher = layers.publisher();
    let before = publisher.current();
    assert_eq!(before.agents().collect::<Vec<_>>(), [AgentId(3), AgentId(259)]);

    write(&mut layers.shared[1], 2, 9.0);
    let after = publisher.publish(&[LayerChange::shared(Level::Domain, &layers.shared[1])], &[]).unwrap();
    assert_eq!(after.version(), before.version() + 1);
    assert_ne!(after.id(), before.id());
    for level in Level::ALL {
        for (module, (old, new)) in
            before.layer(level, AgentId(3)).unwrap().iter().zip(after.layer(level, AgentId(3)).unwrap()).enumerate()
        {
            assert_eq!(Arc::ptr_eq(old, new), (level, module) != (Level::Domain, 2), "{level} {module}");
        }
    }
    // The old one is what it was.
    assert!(before.is_whole() && after.is_whole());
    assert_ne!(before.layer(Level::Domain, AgentId(3)).unwrap()[2].b[0], 9.0);
}

#[test]
fn a_snapshot_that_nobody_holds_is_freed() {
    let mut layers = Layers::new(&[0], 2);
    let mut publisher = layers.publisher();
    let reader = publisher.reader();
    let pinned = reader.load();
    let held = Arc::downgrade(&pinned.layer(Level::Swarm, AgentId(0)).unwrap()[1]);
    write(&mut layers.shared[2], 1, 5.0);
    publisher.publish(&[LayerChange::shared(Level::Swarm, &layers.shared[2])], &[]).unwrap();
    assert!(held.upgrade().is_some(), "a reader still has it");
    drop(pinned);
    assert!(held.upgrade().is_none(), "nobody has it any more");
}

#[test]
fn identity_is_of_content_alone() {
    let layers = Layers::new(&[1, 2], 3);
    let (first, second) = (layers.publisher().current(), Layers::new(&[2, 1], 3).publisher().current());
    assert_eq!(first.id(), second.id(), "where the numbers lie and in which order agents came does not matter");

    // Coming and going, and writing and undoing, lead back to the same id at a later version.
    let mut publisher = layers.publisher();
    let guest = Layers::new(&[300], 3);
    publisher.publish(&private_changes(&guest.agents[0]), &[]).unwrap();
    assert_ne!(publisher.current().id(), first.id());
    let left = publisher.publish(&[], &[AgentId(300)]).unwrap();
    assert_eq!((left.id(), left.version()), (first.id(), first.version() + 2));

    // Publishing what is there already changes nothing, even from other memory.
    let copy: LayerFactors = layers.shared[0].iter().map(|pair| Arc::new(ModuleFactors::clone(pair))).collect();
    let same = publisher.publish(&[LayerChange::shared(Level::Foundation, &copy)], &[]).unwrap();
    assert!(Arc::ptr_eq(&same, &left));
}

#[test]
fn every_part_of_the_content_is_in_the_id() {
    let layers = Layers::new(&[1, 2], 4);
    let original = layers.publisher().current();
    let changed = |change: &dyn Fn(&mut Layers)| {
        let mut layers = Layers::new(&[1, 2], 4);
        change(&mut layers);
        let snapshot = layers.publisher().current();
        assert!(snapshot.is_whole());
        assert_ne!(snapshot.id(), original.id());
        snapshot
    };
    let negative_zero = |factors: &mut LayerFactors| {
        write(factors, 0, 0.0);
        let zero = factors.clone();
        write(factors, 0, -0.0);
        assert_eq!(zero, *factors, "equal as numbers");
    };
    changed(&|layers| negative_zero(&mut layers.shared[2]));
    changed(&|layers| layers.agents[0].0 = AgentId(3));
    changed(&|layers| {
        let (one, two) = layers.agents.split_at_mut(1);
        std::mem::swap(&mut one[0].1, &mut two[0].1);
    });
    changed(&|layers| {
        let mut shapes = layers.shapes.to_vec();
        shapes[0].name.push('x');
        layers.shapes = shapes.into();
    });
    let [foundation, domain, swarm] = &layers.shared[..] else { unreachable!("three shared layers") };
    let root = |base: &[u8], config| {
        let base = ContentHash::of_bytes(base);
        let shapes = Arc::clone(&layers.shapes);
        SnapshotPublisher::new(base, &config, shapes, [foundation, domain, swarm]).unwrap().current().id()
    };
    assert_eq!(root(b"base", json!({"a": 1, "b": 2.5})), root(b"base", json!({"b": 2.5, "a": 1})));
    assert_ne!(root(b"base", json!({"a": 1})), root(b"base", json!({"a": 2})));
    assert_ne!(root(b"base", json!({})), root(b"bass", json!({})));
}

#[test]
fn what_one_agent_sees_is_named_without_the_others() {
    let mut layers = Layers::new(&[1, 2], 5);
    let mut publisher = layers.publisher();
    let ids = |snapshot: &Snapshot| [1, 2].map(|agent| snapshot.stack_id(AgentId(agent)).unwrap());
    let before = ids(&publisher.current());
    assert_ne!(before[0], before[1]);

    write(&mut layers.agents[1].1[1], 0, 2.0);
    let changes = [LayerChange::private(Level::Context, AgentId(2), &layers.agents[1].1[1])];
    let private = ids(&publisher.publish(&changes, &[]).unwrap());
    assert_eq!(private[0], before[0], "what agent 2 learned is not agent 1's");
    assert_ne!(private[1], before[1]);

    write(&mut layers.shared[0], 0, 2.0);
    let shared = ids(&publisher.publish(&[LayerChange::shared(Level::Foundation, &layers.shared[0])], &[]).unwrap());
    assert!(shared[0] != private[0] && shared[1] != private[1], "what all share is everybody's");
    assert_eq!(publisher.current().stack_id(AgentId(9)), None);
}

#[test]
fn what_does_not_fit_is_refused_and_the_last_snapshot_serves_on() {
    let layers = Layers::new(&[1], 6);
    let mut publisher = layers.publisher();
    let before = publisher.current();
    let mut refused = |changes: &[LayerChange<'_>], removed: &[AgentId], expected: &str| {
        let error = publisher.publish(changes, removed).unwrap_err().to_string();
        assert_eq!(error, expected);
        assert!(Arc::ptr_eq(&publisher.current(), &before));
    };
    let mut not_a_number = layers.shared[2].clone();
    write(&mut not_a_number, 1, f32::NAN);
    let name = "model.layers.0.self_attn.k_proj";
    refused(
        &[LayerChange::shared(Level::Swarm, &not_a_number)],
        &[],
        &format!("module `{name}` of the swarm layer has a number that is not finite; it is not published"),
    );
    refused(
        &[LayerChange::private(Level::Agent, AgentId(1), &layers.shared[0][..7].to_vec())],
        &[],
        "the agent layer of agent 1: expected 8 modules, found 7",
    );
    let mut swapped = layers.shared[0].clone();
    swapped.swap(0, 1);
    refused(
        &[LayerChange::shared(Level::Foundation, &swapped)],
        &[],
        "module `model.layers.0.self_attn.q_proj`: expected widths 7 to 10, found 7 to 4",
    );
    let mut cut = layers.shared[0].clone();
    Arc::make_mut(&mut cut[0]).b.pop();
    let rank = cut[0].rank;
    refused(
        &[LayerChange::shared(Level::Foundation, &cut)],
        &[],
        &format!("module `model.layers.0.self_attn.q_proj`: expected values in B 10 x {rank}, found {}", 10 * rank - 1),
    );
    refused(
        &[LayerChange::private(Level::Agent, AgentId(7), &layers.agents[0].1[0])],
        &[],
        "the context layer of agent 7: expected some factors beside those of the agent's other layer, found none",
    );
    refused(&[], &[AgentId(7)], "agent 7 is not known; there are 1 agents");
    let error = SnapshotPublisher::new(
        before.base(),
        &json!({}),
        Arc::clone(&layers.shapes),
        [&not_a_number, &not_a_number, &not_a_number],
    )
    .unwrap_err();
    assert!(matches!(error, Error::NotFinite { .. }), "{error}");
}

#[test]
fn a_stack_is_the_sum_of_its_layers() {
    let layers = Layers::new(&[1], 7);
    let snapshot = layers.publisher().current();
    let fused = snapshot.fused(AgentId(1)).unwrap();
    for (module, fused) in fused.iter().enumerate() {
        for level in Level::ALL {
            let factors = &snapshot.layer(level, AgentId(1)).unwrap()[module];
            assert_eq!(fused.layer(level), (&factors.a[..], &factors.b[..]));
        }
    }
    assert!(snapshot.fused(AgentId(2)).is_none());
}

#[test]
fn readers_see_whole_snapshots_in_order_while_a_writer_publishes() {
    let mut layers = Layers::new(&[1, 2, 3], 8);
    write(&mut layers.shared[2], 0, -1.0);
    write(&mut layers.agents[0].1[1], 0, -1.0);
    let mut publisher = layers.publisher();
    let (done, begun) = (AtomicBool::new(false), Barrier::new(4));
    let (n_seen, last) = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let (reader, done, begun) = (publisher.reader(), &done, &begun);
                scope.spawn(move || {
                    let (mut version, mut distinct) = (reader.load().version(), 0);
                    begun.wait();
                    loop {
                        // In this order: a reader that sees the end also sees what was published before it.
                        let is_last = done.load(Ordering::Acquire);
                        let snapshot = reader.load();
                        assert!(snapshot.version() >= version, "{} after {version}", snapshot.version());
                        distinct += u32::from(snapshot.version() > version);
                        version = snapshot.version();
                        assert!(snapshot.is_whole());
                        // Both writes of a publication are there, or neither.
                        let stamp = |level| snapshot.layer(level, AgentId(1)).unwrap()[0].b[0];
                        assert_eq!(stamp(Level::Swarm), stamp(Level::Context));
                        if is_last {
                            return (distinct, version);
                        }
                    }
                })
            })
            .collect();
        begun.wait();
        for step in 0..400 {
            write(&mut layers.shared[2], 0, step as f32);
            write(&mut layers.agents[0].1[1], 0, step as f32);
            let changes = [
                LayerChange::shared(Level::Swarm, &layers.shared[2]),
                LayerChange::private(Level::Context, AgentId(1), &layers.agents[0].1[1]),
            ];
            publisher.publish(&changes, &[]).unwrap();
        }
        done.store(true, Ordering::Release);
        let seen: Vec<(u32, u64)> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        (seen.iter().map(|s| s.0).min().unwrap(), seen.iter().map(|s| s.1).min().unwrap())
    });
    assert_eq!(last, publisher.current().version());
    assert!(n_seen > 0, "readers saw the writer at work");
}

proptest! {
    #[test]
    fn publishing_bit_by_bit_gives_the_id_of_publishing_at_once(
        writes in proptest::collection::vec((0_usize..5, 0_usize..8, 0_u64..3, -1.0_f32..1.0), 1..12),
    ) {
        let numbers = [1, 257, 1 << 40];
        let mut layers = Layers::new(&numbers, 9);
        let mut publisher = layers.publisher();
        for (level, module, who, value) in writes {
            let who = who as usize;
            match level {
                0..3 => {
                    write(&mut layers.shared[level], module, value);
                    let change = LayerChange::shared(Level::ALL[level], &layers.shared[level]);
                    publisher.publish(&[change], &[]).unwrap();
                }
                _ => {
                    write(&mut layers.agents[who].1[level - 3], module, value);
                    let factors = &layers.agents[who].1[level - 3];
                    let change = LayerChange::private(Level::ALL[level], AgentId(numbers[who]), factors);
                    publisher.publish(&[change], &[]).unwrap();
                }
            }
        }
        let snapshot = publisher.current();
        prop_assert!(snapshot.is_whole());
        prop_assert_eq!(snapshot.id(), layers.publisher().current().id());
    }
}
