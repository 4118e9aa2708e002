//! What a hierarchy was fed leads to the same snapshots and records again, from the start, from a saved state, in any order.

use std::collections::BTreeSet;

use dynlora_core::{
    AgentId, ContentHash, HierarchyConfig, InputKind, LoraHierarchy, PlainMean, ProvenanceChain, ProvenanceHead,
    ProvenanceRecord, ReplayError, SnapshotId, StackGradient, TickReport, replay,
};

use crate::life::{born, gradient, lively, modules};

const TICKS: u64 = 60;

/// What happens before the gradients of a tick: an agent comes, another leaves, a regime is ended by hand.
fn visit(hierarchy: &mut LoraHierarchy, tick: u64) {
    match tick {
        10 => hierarchy.add_agent(AgentId(7)).unwrap(),
        45 => hierarchy.remove_agent(AgentId(2)).unwrap(),
        50 => hierarchy.consolidate(),
        _ => {}
    }
}

/// Each agent sends a gradient most of the time; agent 1 now and then two.
fn fed(hierarchy: &LoraHierarchy, tick: u64) -> Vec<StackGradient> {
    let snapshot = hierarchy.snapshot();
    let known: BTreeSet<u64> = snapshot.agents().map(|agent| agent.0).collect();
    let mut gradients = Vec::new();
    for agent in hierarchy.agents().filter(|agent| known.contains(&agent.0) && !(agent.0 + tick).is_multiple_of(5)) {
        gradients.push(gradient(&snapshot, agent.0, tick, 1.0));
    }
    if tick.is_multiple_of(7) && known.contains(&1) {
        gradients.push(gradient(&snapshot, 1, tick + 1000, 1.0));
    }
    gradients
}

/// Lives through these ticks; the gradients that were fed, and the reports.
fn live(hierarchy: &mut LoraHierarchy, ticks: impl Iterator<Item = u64>) -> (Vec<Vec<StackGradient>>, Vec<TickReport>) {
    let (mut inputs, mut reports) = (Vec::new(), Vec::new());
    for tick in ticks {
        visit(hierarchy, tick);
        let gradients = fed(hierarchy, tick);
        for gradient in &gradients {
            hierarchy.submit(gradient.clone()).unwrap();
        }
        inputs.push(gradients);
        reports.push(hierarchy.tick(0.02).unwrap());
    }
    (inputs, reports)
}

fn newborn() -> LoraHierarchy {
    born(lively(), &modules(), &[0, 1, 2])
}

/// Feeds a hierarchy what was fed before, and compares with the records.
fn again(
    hierarchy: &mut LoraHierarchy,
    start: ProvenanceHead,
    records: &[ProvenanceRecord],
    inputs: &[Vec<StackGradient>],
) -> Result<(), ReplayError<dynlora_core::Error>> {
    let chain = ProvenanceChain::from_records(start, records.to_vec());
    let mut inputs = inputs.iter();
    replay(&chain, hierarchy, |hierarchy, record| -> Result<(SnapshotId, ContentHash), dynlora_core::Error> {
        visit(hierarchy, record.tick);
        for gradient in inputs.next().into_iter().flatten() {
            hierarchy.submit(gradient.clone())?;
        }
        hierarchy.tick(0.02)?;
        let done = hierarchy.provenance().records().last().unwrap();
        Ok((done.root, done.state))
    })
}

#[test]
fn a_life_is_replayed_from_its_inputs() {
    let mut first = newborn();
    let start = first.provenance().head();
    let (inputs, reports) = live(&mut first, 1..=TICKS);
    // A life worth replaying.
    assert!(reports.iter().filter(|report| report.regime.is_some()).count() >= 1 && first.n_regimes() >= 2);
    let moves: usize = reports.iter().map(|report| report.migrations.len()).sum();
    assert!(moves > 10, "{moves} moves");
    let records = first.provenance().records().to_vec();
    assert_eq!(records.len() as u64, TICKS);
    let kinds: BTreeSet<InputKind> = records.iter().flat_map(|record| &record.applied).map(|i| i.kind).collect();
    let all = [InputKind::Gradients, InputKind::Migrations, InputKind::Decay, InputKind::Regime, InputKind::Agents];
    assert!(kinds.iter().eq(all.iter()), "{kinds:?}");
    let states: BTreeSet<ContentHash> = records.iter().map(|record| record.state).collect();
    assert_eq!(states.len(), records.len(), "every tick has left its mark on the state");

    let mut second = newborn();
    again(&mut second, start, &records, &inputs).unwrap();
    assert_eq!(second.provenance(), first.provenance());
    assert_eq!(second.state(), first.state());

    // From a state in the middle.
    let mut half = newborn();
    live(&mut half, 1..=30);
    let head = half.provenance().head();
    let mut resumed = born(lively(), &modules(), &[4]);
    resumed.restore(&half.state()).unwrap();
    again(&mut resumed, head, &records[30..], &inputs[30..]).unwrap();
    assert_eq!(resumed.provenance().records(), &records[30..]);
    assert_eq!(resumed.state(), first.state());
}

#[test]
fn a_changed_input_changes_every_record_from_there_on() {
    let mut first = newborn();
    let (mut inputs, _) = live(&mut first, 1..=40);
    let records = first.provenance().records();
    inputs[24][0].levels[3][5] *= 1.0 + f32::EPSILON;
    let mut changed = newborn();
    let mut found = Vec::new();
    for (tick, gradients) in (1..).zip(&inputs) {
        visit(&mut changed, tick);
        for gradient in gradients {
            changed.submit(gradient.clone()).unwrap();
        }
        changed.tick(0.02).unwrap();
        found.push(changed.provenance().records().last().unwrap().clone());
    }
    for (i, (found, expected)) in found.iter().zip(records).enumerate() {
        assert_eq!(found == expected, i < 24, "record {i}");
        assert_eq!(found.link == expected.link, i < 24, "link {i}");
    }
    // Another learning rate is another input, even where nothing was fed.
    let mut slower = newborn();
    slower.tick(0.01).unwrap();
    let mut idle = newborn();
    idle.tick(0.02).unwrap();
    let link = |hierarchy: &LoraHierarchy| hierarchy.provenance().head().link;
    assert_eq!(slower.snapshot().id(), idle.snapshot().id());
    assert_ne!(link(&slower), link(&idle));
    // A replay that lacks an input says where it shows.
    let mut lacking = newborn();
    let start = lacking.provenance().head();
    inputs[24].pop();
    let error = again(&mut lacking, start, records, &inputs).unwrap_err();
    assert!(matches!(error, ReplayError::Different { index: 24, what: "root", .. }), "{error}");
}

#[test]
fn the_order_of_submission_changes_nothing() {
    let mut forwards = newborn();
    let mut backwards = newborn();
    for tick in 1..=40 {
        for (hierarchy, turned) in [(&mut forwards, false), (&mut backwards, true)] {
            visit(hierarchy, tick);
            let mut gradients = fed(hierarchy, tick);
            if turned {
                gradients.reverse();
            }
            for gradient in gradients {
                hierarchy.submit(gradient).unwrap();
            }
            hierarchy.tick(0.02).unwrap();
        }
        assert_eq!(forwards.snapshot().id(), backwards.snapshot().id(), "tick {tick}");
    }
    assert_eq!(forwards.provenance(), backwards.provenance());
    assert_eq!(forwards.state(), backwards.state());
}

/// Under default settings too, through files, with regimes that ended and circuits that were found.
#[test]
fn a_restored_hierarchy_goes_on_bit_for_bit() {
    for config in [HierarchyConfig::default().with_total_rank(31), HierarchyConfig::seeds().with_total_rank(31)] {
        let new = || born(config.clone(), &modules(), &[0, 1, 2]);
        let mut whole = new();
        let (_, reports) = live(&mut whole, 1..=140);
        assert!(reports.iter().any(|report| report.regime.is_some()));
        assert!(whole.migration().channel(dynlora_core::Level::Agent).unwrap().statistics().requests > 0);
        for cut in [33, 90, 139] {
            let mut half = new();
            live(&mut half, 1..=cut);
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("state");
            half.save_state(None).unwrap().save(&path, &dynlora_core::Export::default()).unwrap();
            drop(half);
            let saved = dynlora_core::SavedHierarchy::load(&path, Some(&modules())).unwrap();
            let mut resumed = LoraHierarchy::from_saved(&saved, Box::new(PlainMean::default())).unwrap();
            live(&mut resumed, cut + 1..=140);
            assert_eq!(resumed.snapshot().id(), whole.snapshot().id(), "cut at {cut}");
            assert_eq!(resumed.provenance().head(), whole.provenance().head(), "cut at {cut}");
            assert_eq!(resumed.state(), whole.state(), "cut at {cut}");
        }
    }
}
