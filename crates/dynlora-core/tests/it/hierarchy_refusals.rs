//! What a hierarchy refuses: it says so in one line, counts it, and the last snapshot serves on.

use std::sync::Arc;

use dynlora_core::{
    AgentId, Error, HierarchyConfig, LayerConfig, Level, LoraHierarchy, LoraLayer, ModuleActivity, Snapshot,
    StackGradient, Staleness, TargetModules,
};

use crate::life::{born, gradient, lively, modules, step, with_rank};
use crate::shape;

fn living() -> LoraHierarchy {
    let mut hierarchy = born(lively(), &modules(), &[0, 1]);
    (0..12).for_each(|_| drop(step(&mut hierarchy, &[0, 1], 1.0)));
    hierarchy
}

#[test]
fn gradients_that_cannot_be_are_refused_and_counted() {
    let mut hierarchy = living();
    let (before, state) = (hierarchy.snapshot(), hierarchy.state());
    type Change = fn(&mut StackGradient);
    let not_finite = "the gradient of agent 1 has a number that is not finite; it is not published";
    let cases: [(&str, Change); 11] = [
        (not_finite, |gradient| gradient.levels[0][3] = f32::NAN),
        (not_finite, |gradient| gradient.levels[4][0] = f32::INFINITY),
        (not_finite, |gradient| gradient.sketch[5] = f32::NEG_INFINITY),
        (not_finite, |gradient| activity(gradient)[0].second_moment[1] = f32::NAN),
        (not_finite, |gradient| activity(gradient)[1].inputs[1] = f32::NAN),
        ("agent 9 is not known; there are 2 agents", |gradient| gradient.agent = AgentId(9)),
        ("the swarm layer: expected 92 values of a gradient, found 91", |gradient| gradient.levels[2].truncate(91)),
        ("the context layer of agent 1: expected 92 values of a gradient, found 93", |gradient| {
            gradient.levels[4].push(0.0);
        }),
        (
            "module `blocks.0.down`: expected values of activity 100 of second moments and rows of 14 inputs, found",
            |g| {
                activity(g)[1].second_moment.truncate(10);
            },
        ),
        ("module `blocks.0.up`: expected values of activity 100 of second moments and rows of 9 inputs, found", |g| {
            activity(g)[0].inputs.truncate(17);
        }),
        ("the stack of agent 1: expected 2 modules of activity, found 1", |g| {
            g.activity.as_mut().unwrap().modules.truncate(1)
        }),
    ];
    for (i, (expected, change)) in cases.iter().enumerate() {
        let mut bad = gradient(&before, 1, 100, 1.0);
        change(&mut bad);
        let error = hierarchy.submit(bad).unwrap_err().to_string();
        assert!(error.starts_with(expected) && !error.contains('\n'), "{expected}: {error}");
        assert_eq!(hierarchy.gradient_vitals().malformed, i as u64 + 1);
    }
    // Too old, and of a snapshot that there never was: counted, and no error.
    let mut old = gradient(&before, 1, 100, 1.0);
    old.version = 0;
    assert!(matches!(hierarchy.submit(old.clone()).unwrap(), Staleness::Refused { .. }));
    old.version = before.version() + 1;
    assert_eq!(hierarchy.submit(old).unwrap(), Staleness::Unpublished);
    assert_eq!(hierarchy.gradient_vitals().staleness.refused, 2);
    // A learning rate that is none is no tick.
    for rate in [f64::NAN, f64::INFINITY, -0.1] {
        let error = hierarchy.tick(rate).unwrap_err().to_string();
        assert_eq!(error, format!("a learning rate is a finite number of at least 0, found {rate}"));
    }
    assert!(Arc::ptr_eq(&hierarchy.snapshot(), &before));
    let layers = |hierarchy: &LoraHierarchy| hierarchy.state().layers;
    assert_eq!(layers(&hierarchy), state.layers);
    // Nothing of it waits: the next tick is that of a twin that was never asked.
    let mut twin = living();
    let (report, expected) = (step(&mut hierarchy, &[0, 1], 1.0), step(&mut twin, &[0, 1], 1.0));
    assert_eq!(report.snapshot.unwrap().id(), expected.snapshot.unwrap().id());
}

fn activity(gradient: &mut StackGradient) -> &mut [ModuleActivity] {
    &mut gradient.activity.as_mut().unwrap().modules
}

/// A layer of the given level and channels, of which one number is `value`.
fn layer_with(level: Level, ranks: [usize; 2], value: f32) -> Box<dyn LoraLayer> {
    let mut layer =
        dynlora_core::DynamicLoraLayer::new(level, AgentId(1), &modules(), &ranks, 11, LayerConfig::default()).unwrap();
    layer.factors_mut(1).b[2] = value;
    Box::new(layer)
}

#[test]
fn a_layer_that_is_no_number_any_more_is_not_published() {
    for level in [Level::Domain, Level::Context] {
        let mut hierarchy = living();
        let (before, reader) = (hierarchy.snapshot(), hierarchy.reader());
        hierarchy.replace_layer(AgentId(1), layer_with(level, [2, 2], f32::NAN)).unwrap();
        for _ in 0..3 {
            let errors = [hierarchy.publish().unwrap_err(), hierarchy.tick(0.02).unwrap_err()];
            for error in errors {
                assert!(matches!(&error, Error::NotFinite { what } if what.contains("blocks.0.down")), "{error}");
            }
            hierarchy.save_state(None).unwrap_err();
            assert!(Arc::ptr_eq(&reader.load(), &before) && before.is_whole());
        }
        // An agent that comes meanwhile, and one that comes and goes, are not lost and not in the way.
        hierarchy.add_agent(AgentId(5)).unwrap();
        hierarchy.add_agent(AgentId(6)).unwrap();
        hierarchy.publish().unwrap_err();
        hierarchy.remove_agent(AgentId(6)).unwrap();
        hierarchy.remove_agent(AgentId(0)).unwrap();
        hierarchy.add_agent(AgentId(0)).unwrap();
        hierarchy.remove_agent(AgentId(0)).unwrap();
        // Once it is mended, everything is published.
        hierarchy.replace_layer(AgentId(1), layer_with(level, [2, 2], 0.5)).unwrap();
        let after = hierarchy.tick(0.02).unwrap().snapshot.unwrap();
        assert!(after.is_whole() && after.version() == before.version() + 1);
        assert_eq!(after.agents().collect::<Vec<_>>(), [AgentId(1), AgentId(5)]);
        // It has decayed for a tick.
        let found = after.layer(level, AgentId(1)).unwrap()[1].b[2];
        assert!((0.4..0.5).contains(&found), "{found}");
    }
}

/// Finite numbers, yet more than single precision holds once they are added up or applied.
#[test]
fn steps_out_of_single_precision_are_not_published() {
    let mut n_refused = 0;
    for config in [lively(), with_rank(3, HierarchyConfig::seeds())] {
        for (scale, rate) in [(1.0, 1e40), (1.0, f64::MAX), (1e37, 0.02), (1e37, f64::MAX), (1e20, 1e20)] {
            let mut hierarchy = born(config.clone(), &modules(), &[0, 1]);
            (0..12).for_each(|_| drop(step(&mut hierarchy, &[0, 1], 1.0)));
            for tick in 0..40 {
                let snapshot = hierarchy.snapshot();
                for agent in [0, 1, 1] {
                    hierarchy.submit(gradient(&snapshot, agent, tick, scale)).unwrap();
                }
                if let Err(error) = hierarchy.tick(rate) {
                    n_refused += 1;
                    assert!(matches!(error, Error::NotFinite { .. }), "{error}");
                    assert!(Arc::ptr_eq(&hierarchy.snapshot(), &snapshot));
                }
            }
            let snapshot = hierarchy.snapshot();
            let values = Level::ALL.map(|level| snapshot.layer(level, AgentId(1)).unwrap());
            assert!(values.iter().flat_map(|layer| layer.iter()).flat_map(|pair| &pair.b).all(|x| x.is_finite()));
        }
    }
    assert!(n_refused > 0);
}

#[test]
fn layers_of_another_shape_are_refused() {
    let mut hierarchy = living();
    let error = hierarchy.replace_layer(AgentId(1), layer_with(Level::Agent, [2, 1], 0.0)).unwrap_err().to_string();
    assert_eq!(
        error,
        "the agent layer of agent 1: expected [(2, 9, 14), (2, 14, 9)] (rank, d_in, d_out), \
         found [(2, 9, 14), (1, 14, 9)]"
    );
    let error = hierarchy.replace_layer(AgentId(8), layer_with(Level::Agent, [2, 2], 0.0)).unwrap_err().to_string();
    assert_eq!(error, "agent 8 is not known; there are 2 agents");
    assert!(hierarchy.remove_agent(AgentId(8)).is_err());
}

#[test]
fn wrong_names_of_modules_are_refused() {
    let new = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let mut config = HierarchyConfig::default();
        config.target_modules = TargetModules::Names(names);
        let base = dynlora_core::ContentHash::of_bytes(b"base");
        LoraHierarchy::new(config, &modules(), base, 1, Box::new(dynlora_core::PlainMean::default()))
    };
    assert_eq!(new(&["down"]).unwrap().shapes().len(), 1);
    let error = new(&["up", "q_proj"]).unwrap_err();
    assert!(matches!(&error, Error::UnknownTarget { .. }) && error.to_string().contains("q_proj"), "{error}");
}

#[test]
fn a_state_of_another_hierarchy_is_refused() {
    let state = living().state();
    let other = |shapes: &[dynlora_core::ModuleShape], config: HierarchyConfig| {
        let error = born(config, shapes, &[]).restore(&state).unwrap_err();
        assert!(matches!(error, Error::State { .. }) && !error.to_string().contains('\n'), "{error}");
    };
    other(&[shape("blocks.0.up", 9, 14), shape("blocks.0.down", 14, 8)], lively());
    other(&modules()[..1], lively());
    other(&modules(), with_rank(1, lively()));
}

/// A save that fails on a full disk: what is in memory serves and learns on, and what was saved before is still there.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_stops_neither_serving_nor_learning() {
    use dynlora_core::{Export, SavedHierarchy};
    let Some(disk) = crate::hierarchy_files::SmallDisk::mount() else {
        println!("skipped: mounting a small tmpfs is not allowed here");
        return;
    };
    let mut hierarchy = living();
    let folder = disk.folder().join("state");
    let saved: Arc<Snapshot> = hierarchy.snapshot();
    hierarchy.save_state(None).unwrap().save(&folder, &Export::default()).unwrap();
    for agent in 100..220 {
        hierarchy.add_agent(AgentId(agent)).unwrap();
    }
    let before = step(&mut hierarchy, &[0, 1], 1.0).snapshot.unwrap();
    let error = hierarchy.save_state(None).unwrap().save(&folder, &Export::default()).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(Arc::ptr_eq(&hierarchy.snapshot(), &before));
    assert!(step(&mut hierarchy, &[0, 1], 1.0).snapshot.unwrap().version() > before.version());
    assert_eq!(SavedHierarchy::load(&folder, None).unwrap().snapshot.id(), saved.id());
}
