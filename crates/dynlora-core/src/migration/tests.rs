//! Whole ticks over plain layers.

use krystal_math::rng::{Purpose, stream_rng};
use proptest::prelude::*;
use rand::RngExt;

use super::plain_layers::{PlainLayers, relative_gap};
use super::*;
use crate::{AgentId, Circuit, CircuitScores, Level, LoraLayer};

const ALICE: AgentId = AgentId(0);
const BOB: AgentId = AgentId(1);
const CAROL: AgentId = AgentId(2);

fn scores(autocorrelation: f64, usage_rank: f64) -> CircuitScores {
    CircuitScores { autocorrelation, usage_rank, ..CircuitScores::default() }
}

fn request(level: Level, agent: AgentId, channels: &[(usize, usize)], autocorrelation: f64) -> MigrationRequest {
    let circuit = Circuit::new(level, Some(agent), channels).with_scores(scores(autocorrelation, 1.0));
    MigrationRequest { vertical: 0.5, ..MigrationRequest::new(circuit) }
}

/// Parameters alone are charged, so that expected times can be counted by hand.
fn by_parameters() -> MigrationConfig {
    MigrationConfig { change_weight: 0.0, ..MigrationConfig::default() }
}

fn run(coordinator: &mut MigrationCoordinator, layers: &mut PlainLayers, ticks: std::ops::Range<u64>) {
    for tick in ticks {
        coordinator.tick(tick, layers, &mut OpenGate);
    }
}

fn address(level: Level, agent: AgentId) -> LayerAddress {
    LayerAddress::new(level, Some(agent))
}

/// One draw below `n`.
fn draw(rng: &mut impl rand::Rng, n: u64) -> u64 {
    rng.random_range(0..n)
}

#[test]
fn a_thousand_ticks_of_random_migrations_leave_the_function_alone() {
    for (when_full, agents) in [(WhenFull::Exchange, 1), (WhenFull::Refuse, 1), (WhenFull::Exchange, 3)] {
        let mut layers = PlainLayers::new(23, &[(9, 12), (12, 5)], [8, 6, 4, 3, 2], agents);
        for level in Level::ALL {
            layers.fill(level, level.nominal_rank().trailing_zeros() as usize);
        }
        // High rates, so that thousands of moves happen.
        let rates = [0.2, 0.3, 0.4, 0.5];
        let sharing = SharingConfig {
            mode: SharingMode::Exact,
            min_cosine: -1.0,
            residual_tolerance: 1e-9,
            ..SharingConfig::default()
        };
        let config = MigrationConfig { rates, when_full, sharing, max_events: 1 << 20, ..MigrationConfig::default() };
        let mut coordinator = MigrationCoordinator::new(config);
        let mut rng = stream_rng(5, Purpose::Weights, 3, agents);
        let mut moved = 0.0;
        let before: Vec<Vec<f64>> = layers.agents().iter().map(|agent| layers.total(*agent)).collect();
        for tick in 0..1000 {
            for _ in 0..2 {
                let level = Level::ALL[1 + draw(&mut rng, 4) as usize];
                let agent = AgentId(draw(&mut rng, agents));
                let rank = layers.get(address(level, agent)).factors()[0].rank as u64;
                let nodes: Vec<(usize, usize)> = (0..1 + draw(&mut rng, 3))
                    .map(|_| (draw(&mut rng, 2) as usize, draw(&mut rng, rank) as usize))
                    .collect();
                coordinator.enqueue(tick, request(level, agent, &nodes, rng.random()));
            }
            moved += coordinator.tick(tick, &mut layers, &mut OpenGate).parameters.iter().sum::<f64>();
            if tick % 50 == 49 {
                for (agent, before) in layers.agents().into_iter().zip(&before) {
                    let gap = relative_gap(&layers.total(agent), before);
                    assert!(gap < 1e-5, "{when_full:?}, {agents} agents, tick {tick}: {gap:e}");
                }
            }
        }
        let events = coordinator.take_events();
        let count = |kind: fn(&MigrationAction) -> bool| events.iter().filter(|event| kind(&event.action)).count();
        let arrived = count(|a| matches!(a, MigrationAction::Arrived { .. }));
        let exchanged = count(|a| matches!(a, MigrationAction::Exchanged { .. }));
        let compressed = count(|a| matches!(a, MigrationAction::Begun { room: RoomKind::Compressed, .. }));
        assert!(moved > 500.0 && arrived > 20, "{moved} parameters, {arrived} arrivals");
        assert!(compressed > 0, "{when_full:?}: compression took part");
        assert_eq!(exchanged > 0, when_full == WhenFull::Exchange, "{exchanged} exchanges");
        assert!(events.iter().all(|event| event.jump.is_finite() && event.jump < 1e-4));
    }
}

#[test]
fn what_is_larger_than_the_bandwidth_moves_by_fractions() {
    // One channel of two modules is half of the source; at 1 % a tick it takes 50 ticks, where the seed's queue never ends.
    let mut layers = PlainLayers::new(2, &[(6, 6), (6, 6)], [1; 5], 1);
    layers.fill(Level::Context, 1);
    let before = layers.total(ALICE);
    let mut coordinator = MigrationCoordinator::new(by_parameters());
    assert_eq!(coordinator.enqueue(0, request(Level::Context, ALICE, &[(0, 0)], 0.9)), Enqueued::Queued);
    let mut last = 0.0;
    for tick in 0..49 {
        coordinator.tick(tick, &mut layers, &mut OpenGate);
        let held = layers.get(address(Level::Agent, ALICE)).factors()[0].b[0].abs();
        assert!(f64::from(held) > last, "tick {tick} moves something");
        last = f64::from(held);
        assert!(relative_gap(&layers.total(ALICE), &before) < 1e-14);
    }
    assert_eq!(coordinator.channel(Level::Agent).unwrap().backlog(), 1);
    run(&mut coordinator, &mut layers, 49..51);
    let channel = coordinator.channel(Level::Agent).unwrap();
    assert_eq!((channel.backlog(), channel.statistics().arrived), (0, 1));
    let kinds: Vec<MigrationAction> = coordinator.take_events().into_iter().map(|event| event.action).collect();
    assert_eq!(
        kinds,
        [
            MigrationAction::Begun { slow_channel: 0, room: RoomKind::Free },
            MigrationAction::Arrived { slow_channel: 0 }
        ]
    );
}

#[test]
fn each_channel_moves_at_its_own_rate() {
    let mut layers = PlainLayers::new(4, &[(8, 8)], [40; 5], 1);
    let mut coordinator = MigrationCoordinator::new(by_parameters());
    let all: Vec<(usize, usize)> = (0..20).map(|channel| (0, channel)).collect();
    for level in [Level::Domain, Level::Swarm, Level::Agent, Level::Context] {
        layers.fill(level, 20);
        coordinator.enqueue(0, request(level, ALICE, &all, 0.5));
    }
    let mut moved = [0.0; 4];
    for tick in 0..90 {
        let report = coordinator.tick(tick, &mut layers, &mut OpenGate);
        moved.iter_mut().zip(report.parameters).for_each(|(sum, x)| *sum += x);
    }
    for (moved, rate) in moved.iter().zip(MigrationConfig::default().rates) {
        let expected = rate * 90.0 * 640.0;
        // Context finished: 20 channels are half of the layer, moved in 50 ticks.
        let expected = expected.min(320.0);
        assert!((moved - expected).abs() < 1e-9 * expected, "{moved} of {expected}");
    }
}

#[test]
fn waiting_overcomes_any_pressure() {
    let mut layers = PlainLayers::new(6, &[(4, 4)], [64, 64, 64, 64, 64], 1);
    layers.fill(Level::Context, 64);
    let mut coordinator = MigrationCoordinator::new(MigrationConfig { rates: [0.05; 4], ..by_parameters() });
    // The weakest there is, against four of the strongest a tick, where the bandwidth takes 3.2.
    coordinator.enqueue(0, request(Level::Context, ALICE, &[(0, 63)], 0.0));
    let arrived = (0..400).find(|tick| {
        for i in 0..4 {
            let channel = ((tick * 4 + i) % 60) as usize;
            layers.fill_channel(address(Level::Context, ALICE), 0, channel);
            coordinator.enqueue(*tick, request(Level::Context, ALICE, &[(0, channel)], 1.0));
        }
        coordinator.tick(*tick, &mut layers, &mut OpenGate);
        layers.get(address(Level::Context, ALICE)).factors()[0].is_free(63)
    });
    assert!(arrived.is_some_and(|tick| (50..250).contains(&tick)), "{arrived:?}");
}

#[test]
fn pressure_orders_the_queue() {
    let mut layers = PlainLayers::new(8, &[(4, 4)], [8; 5], 1);
    layers.fill(Level::Agent, 4);
    let mut coordinator = MigrationCoordinator::new(by_parameters());
    coordinator.enqueue(0, request(Level::Agent, ALICE, &[(0, 0)], 0.4));
    coordinator.enqueue(0, request(Level::Agent, ALICE, &[(0, 1)], 0.8));
    let fast = MigrationRequest { signal: MigrationSignal::FastTrack, ..request(Level::Agent, ALICE, &[(0, 2)], 0.6) };
    coordinator.enqueue(0, fast);
    let veto = MigrationRequest { signal: MigrationSignal::Conflict, ..request(Level::Agent, ALICE, &[(0, 3)], 1.0) };
    assert_eq!(coordinator.enqueue(0, veto), Enqueued::Vetoed);
    assert_eq!(coordinator.enqueue(0, request(Level::Foundation, ALICE, &[(0, 0)], 1.0)), Enqueued::Nowhere);
    assert_eq!(coordinator.enqueue(0, request(Level::Agent, ALICE, &[], 1.0)), Enqueued::Nowhere);
    run(&mut coordinator, &mut layers, 0..2000);
    let events = coordinator.take_events();
    let order: Vec<(Level, usize)> = events
        .iter()
        .filter(|event| matches!(event.action, MigrationAction::Arrived { .. }))
        .map(|event| (event.from.level, event.channel.unwrap()))
        .collect();
    // The FAST_TRACK goes on to Domain; nothing else does.
    let of = |level| order.iter().filter(|(l, _)| *l == level).map(|(_, c)| *c).collect::<Vec<_>>();
    assert_eq!((of(Level::Agent), of(Level::Swarm).len(), of(Level::Domain).len()), (vec![2, 1, 0], 1, 0));
    let reasons: Vec<MigrationReason> = events.iter().map(|event| event.reason).collect();
    assert!(reasons.contains(&MigrationReason::FastTrack) && reasons.contains(&MigrationReason::Stable));
    assert!(!layers.get(address(Level::Agent, ALICE)).factors()[0].is_free(3), "vetoed");
    let statistics = coordinator.channel(Level::Swarm).unwrap().statistics();
    assert_eq!((statistics.requests, statistics.vetoed, statistics.arrived), (4, 1, 3));
    assert_eq!(statistics.rejection_rate(), Some(0.0));
    assert!(statistics.average_wait().unwrap() > 0.0);
}

#[test]
fn an_emergency_needs_evidence_and_borrows() {
    let mut layers = PlainLayers::new(8, &[(4, 4)], [4; 5], 1);
    layers.fill(Level::Context, 4);
    let mut coordinator = MigrationCoordinator::new(by_parameters());
    let urgent = |channel, criticality| MigrationRequest {
        criticality: Some(criticality),
        ..request(Level::Context, ALICE, &[(0, channel)], 0.1)
    };
    assert_eq!(coordinator.enqueue(0, urgent(0, 1e9)), Enqueued::Queued, "the first has nothing to compare with");
    for i in 0..200 {
        assert_ne!(coordinator.enqueue(0, urgent(1, f64::from(i % 10))), Enqueued::Emergency);
    }
    assert_eq!(coordinator.enqueue(0, urgent(2, 1e6)), Enqueued::Emergency);
    assert_ne!(coordinator.enqueue(1, urgent(3, 1e7)), Enqueued::Emergency, "one in a hundred ticks");
    coordinator.tick(0, &mut layers, &mut OpenGate);
    // A quarter of the layer in one tick of 1 %.
    assert!(layers.get(address(Level::Context, ALICE)).factors()[0].is_free(2));
    assert!(coordinator.channel(Level::Agent).unwrap().bucket().tokens() < -0.2);
    let moved: f64 = (1..24).map(|tick| coordinator.tick(tick, &mut layers, &mut OpenGate).parameters[3]).sum();
    assert_eq!(moved, 0.0, "it is paid back first");
}

#[test]
fn without_room_requests_wait_and_are_given_up() {
    let mut layers = PlainLayers::new(8, &[(4, 4)], [2; 5], 1);
    layers.fill(Level::Context, 2);
    layers.fill(Level::Agent, 2);
    let before = layers.clone();
    let config =
        MigrationConfig { when_full: WhenFull::Refuse, max_blocked_ticks: 50, max_queue: 1, ..by_parameters() };
    let mut coordinator = MigrationCoordinator::new(config);
    coordinator.enqueue(0, request(Level::Context, ALICE, &[(0, 0)], 0.9));
    assert_eq!(coordinator.enqueue(0, request(Level::Context, ALICE, &[(0, 1)], 0.9)), Enqueued::QueueFull);
    assert_eq!(coordinator.enqueue(0, request(Level::Context, ALICE, &[(0, 0)], 0.7)), Enqueued::Updated);
    run(&mut coordinator, &mut layers, 0..100);
    assert_eq!(layers, before);
    let kinds: Vec<MigrationAction> = coordinator.take_events().into_iter().map(|event| event.action).collect();
    assert_eq!(kinds, [MigrationAction::Blocked, MigrationAction::Expired]);
    let statistics = *coordinator.channel(Level::Agent).unwrap().statistics();
    assert_eq!((statistics.turned_away, statistics.expired), (1, 1));
    assert!((statistics.rejection_rate().unwrap() - 2.0 / 3.0).abs() < 1e-12);
}

/// Gives agents the same channel of the agent layer, up to noise.
fn share_channel(layers: &mut PlainLayers, agents: &[AgentId], channel: usize, noise: f32) {
    layers.fill_channel(address(Level::Agent, ALICE), 0, channel);
    let common = layers.get(address(Level::Agent, ALICE)).copy_channel(0, channel);
    for (i, agent) in agents.iter().enumerate() {
        let mut own = common.clone();
        for (j, b) in own.b.iter_mut().enumerate() {
            *b += noise * ((i * 7 + j * 3) as f32).sin();
        }
        // Another gauge: what is compared is the product.
        own.b.iter_mut().for_each(|b| *b /= 1.0 + i as f32);
        own.a.iter_mut().for_each(|a| *a *= 1.0 + i as f32);
        layers.get(address(Level::Agent, *agent)).put_channel(0, channel, own);
    }
}

#[test]
fn what_agents_have_in_common_is_shared_and_participants_keep_their_function() {
    for (mode, harm) in [(SharingMode::Share, 0.0), (SharingMode::Share, 0.5), (SharingMode::Exact, 0.0)] {
        struct Gate(f64);
        impl ShareGate for Gate {
            fn consensus(&mut self, participants: &[AgentId]) -> Option<f64> {
                assert_eq!(participants, [ALICE, BOB]);
                Some(0.9)
            }
            fn probe(&mut self, agent: AgentId, proposal: &SharedProposal) -> Option<f64> {
                assert_eq!((agent, proposal.channels.len()), (CAROL, 1));
                Some(self.0)
            }
        }
        let mut layers = PlainLayers::new(31, &[(10, 7)], [4; 5], 3);
        layers.fill(Level::Agent, 1);
        layers.fill(Level::Context, 2);
        share_channel(&mut layers, &[ALICE, BOB], 1, 0.05);
        let before: Vec<Vec<f64>> = [ALICE, BOB, CAROL].iter().map(|agent| layers.total(*agent)).collect();
        let sharing = SharingConfig { mode, ..SharingConfig::default() };
        let mut coordinator =
            MigrationCoordinator::new(MigrationConfig { sharing, rates: [0.1; 4], ..MigrationConfig::default() });
        coordinator.enqueue(0, request(Level::Agent, ALICE, &[(0, 1)], 0.9));
        // Alone it waits.
        coordinator.tick(0, &mut layers, &mut Gate(harm));
        assert_eq!(layers.used(address(Level::Swarm, ALICE)), 0);
        coordinator.enqueue(1, request(Level::Agent, BOB, &[(0, 1)], 0.8));
        let mut reach = 0.0_f64;
        for tick in 1..400 {
            let last = layers.total(CAROL);
            coordinator.tick(tick, &mut layers, &mut Gate(harm));
            reach = reach.max(relative_gap(&layers.total(CAROL), &last));
            for (agent, at) in [(ALICE, 0), (BOB, 1)] {
                let gap = relative_gap(&layers.total(agent), &before[at]);
                assert!(gap < 2e-6, "{mode:?} tick {tick} agent {agent}: {gap:e}");
            }
        }
        assert_eq!(coordinator.channel(Level::Swarm).unwrap().backlog(), 0, "{:?}", coordinator.take_events());
        let gap = relative_gap(&layers.total(CAROL), &before[2]);
        let spared = mode == SharingMode::Exact || harm > 0.1;
        assert_eq!(gap < 1e-6, spared, "{mode:?} {harm}: {gap:e}");
        assert!(spared || reach < 0.2, "a tick moves little: {reach}");
        assert_eq!(layers.used(address(Level::Swarm, ALICE)), 1);
        // The swarm holds the mean, not the sum.
        let norm = super::compression::module_norm(&mut layers, address(Level::Swarm, ALICE), 0);
        let events = coordinator.take_events();
        assert!(norm > 0.3 && norm < 2.0, "{norm}");
        assert!(events.iter().any(|event| matches!(&event.action, MigrationAction::Shared { .. })));
        let exempt = events.iter().find_map(|event| match &event.action {
            MigrationAction::SharingBegun { exempt, .. } => Some(exempt.clone()),
            _ => None,
        });
        assert_eq!(exempt.unwrap() == [CAROL], spared);
    }
}

#[test]
fn identical_circuits_leave_nothing_behind() {
    let mut layers = PlainLayers::new(37, &[(10, 7)], [4; 5], 2);
    share_channel(&mut layers, &[ALICE, BOB], 0, 0.0);
    let config = MigrationConfig { rates: [0.1; 4], ..MigrationConfig::default() };
    let mut coordinator = MigrationCoordinator::new(config);
    let before = layers.total(BOB);
    for agent in [ALICE, BOB] {
        coordinator.enqueue(0, request(Level::Agent, agent, &[(0, 0)], 0.9));
    }
    run(&mut coordinator, &mut layers, 0..400);
    let used: Vec<usize> = [Level::Swarm, Level::Agent].iter().map(|level| layers.used(address(*level, BOB))).collect();
    assert_eq!(used, [1, 0], "K copies became one");
    assert!(relative_gap(&layers.total(BOB), &before) < 1e-5);
}

#[test]
fn disagreement_and_missing_consensus_share_nothing() {
    struct Divided;
    impl ShareGate for Divided {
        fn consensus(&mut self, _: &[AgentId]) -> Option<f64> {
            Some(0.1)
        }
        fn probe(&mut self, _: AgentId, _: &SharedProposal) -> Option<f64> {
            None
        }
    }
    for aligned in [false, true] {
        let mut layers = PlainLayers::new(41, &[(10, 7)], [4; 5], 2);
        layers.fill(Level::Agent, 1);
        if aligned {
            share_channel(&mut layers, &[ALICE, BOB], 0, 0.0);
        }
        let before = layers.clone();
        let mut coordinator = MigrationCoordinator::new(MigrationConfig::default());
        for agent in [ALICE, BOB] {
            coordinator.enqueue(0, request(Level::Agent, agent, &[(0, 0)], 0.9));
        }
        for tick in 0..100 {
            coordinator.tick(tick, &mut layers, &mut Divided);
        }
        assert_eq!(layers, before);
    }
}

#[test]
fn the_seeds_queue_ends_but_starves_what_is_large() {
    let mut layers = PlainLayers::new(2, &[(6, 6); 60], [2; 5], 1);
    layers.fill(Level::Context, 2);
    let before = layers.total(ALICE);
    let config = MigrationConfig { mode: MigrationMode::Seed, ..MigrationConfig::default() };
    let mut coordinator = MigrationCoordinator::new(config);
    // 1/120 of the layer fits into 0.01, two of them never do.
    coordinator.enqueue(0, request(Level::Context, ALICE, &[(0, 0)], 0.5));
    coordinator.enqueue(0, request(Level::Context, ALICE, &[(1, 0), (2, 0)], 0.9));
    run(&mut coordinator, &mut layers, 0..500);
    let channel = coordinator.channel(Level::Agent).unwrap();
    assert_eq!((channel.backlog(), channel.statistics().arrived), (1, 1));
    assert!(relative_gap(&layers.total(ALICE), &before) < 1e-14);
    // And its long-run rate is a tenth of what it says (R42).
    for i in 3..59 {
        coordinator.enqueue(500, request(Level::Context, ALICE, &[(i, 0)], 0.5));
    }
    let moved: f64 = (500..1000).map(|tick| coordinator.tick(tick, &mut layers, &mut OpenGate).parameters[3]).sum();
    let per_tick = moved / 500.0 / (120.0 * 12.0);
    assert!(per_tick < 0.0015, "{per_tick}");
}

#[test]
fn off_moves_nothing() {
    let mut layers = PlainLayers::new(2, &[(6, 6)], [2; 5], 1);
    layers.fill(Level::Context, 2);
    let before = layers.clone();
    let config = MigrationConfig { mode: MigrationMode::Off, ..MigrationConfig::default() };
    let mut coordinator = MigrationCoordinator::new(config);
    assert_eq!(coordinator.enqueue(0, request(Level::Context, ALICE, &[(0, 0)], 0.5)), Enqueued::Nowhere);
    run(&mut coordinator, &mut layers, 0..10);
    assert_eq!(layers, before);
}

#[test]
fn an_agent_may_leave_in_the_middle() {
    let mut layers = PlainLayers::new(3, &[(6, 6)], [2; 5], 2);
    layers.fill(Level::Context, 2);
    let mut coordinator = MigrationCoordinator::new(by_parameters());
    coordinator.enqueue(0, request(Level::Context, BOB, &[(0, 0)], 0.9));
    coordinator.enqueue(0, request(Level::Context, ALICE, &[(0, 0)], 0.2));
    run(&mut coordinator, &mut layers, 0..10);
    layers.remove_agent(BOB);
    coordinator.forget_agent(BOB);
    run(&mut coordinator, &mut layers, 10..200);
    assert_eq!(coordinator.channel(Level::Agent).unwrap().backlog(), 0);
    assert!(layers.get(address(Level::Context, ALICE)).factors()[0].is_free(0));
    assert!(coordinator.take_events().iter().any(|event| event.action == MigrationAction::Ended));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Any widths, ranks and rates, layers full or empty, circuits that name what is not there: every tick ends, the function stays
    /// the same, and a coordinator restored half-way goes on to the same bits.
    #[test]
    fn any_sizes_end_and_restore(
        seed in any::<u64>(),
        widths in prop::collection::vec((1_usize..9, 1_usize..9), 1..3),
        ranks in prop::array::uniform5(1_usize..5),
        filled in prop::array::uniform5(0_usize..5),
        rates in prop::array::uniform4(prop::sample::select(vec![0.0, 1e-4, 0.01, 0.5, 3.0])),
        agents in 1_u64..4,
        nodes in prop::collection::vec((1_usize..5, 0_u64..4, prop::collection::vec((0_usize..4, 0_usize..6), 1..5)), 1..12),
    ) {
        let mut layers = PlainLayers::new(seed, &widths, ranks, agents);
        for level in Level::ALL {
            layers.fill(level, filled[level.index()].min(ranks[level.index()]));
        }
        let sharing = SharingConfig { mode: SharingMode::Exact, min_cosine: -1.0, residual_tolerance: 1e-9, ..SharingConfig::default() };
        let config = MigrationConfig { rates, sharing, fast_track_target: Level::Foundation, ..MigrationConfig::default() };
        let mut coordinator = MigrationCoordinator::new(config);
        let before: Vec<Vec<f64>> = layers.agents().iter().map(|agent| layers.total(*agent)).collect();
        let mut twin = None;
        for tick in 0..60_u64 {
            if let Some((level, agent, nodes)) = nodes.get(tick as usize / 3) {
                let signal = if tick % 2 == 0 { MigrationSignal::FastTrack } else { MigrationSignal::Normal };
                let asked = MigrationRequest { signal, ..request(Level::ALL[*level], AgentId(*agent), nodes, 0.5) };
                coordinator.enqueue(tick, asked.clone());
                if let Some((twin, _)) = &mut twin {
                    let twin: &mut MigrationCoordinator = twin;
                    twin.enqueue(tick, asked);
                }
            }
            coordinator.tick(tick, &mut layers, &mut OpenGate);
            if let Some((twin, twin_layers)) = &mut twin {
                twin.tick(tick, twin_layers, &mut OpenGate);
            }
            if tick == 20 {
                let text = serde_json::to_string(&coordinator.state()).unwrap();
                let mut restored = MigrationCoordinator::new(config);
                restored.restore(serde_json::from_str(&text).unwrap()).unwrap();
                prop_assert_eq!(&restored, &coordinator);
                twin = Some((restored, layers.clone()));
            }
        }
        let (twin, twin_layers) = twin.unwrap();
        prop_assert_eq!(&twin, &coordinator);
        prop_assert!(twin_layers == layers, "the same bits");
        for (agent, before) in layers.agents().into_iter().zip(&before) {
            let gap = relative_gap(&layers.total(agent), before);
            let size: f64 = before.iter().map(|x| x * x).sum();
            prop_assert!(gap < 1e-5 || size == 0.0, "agent {}: {:e}", agent, gap);
        }
    }
}

#[test]
fn layers_that_are_not_finite_end_too() {
    for when_full in [WhenFull::Exchange, WhenFull::Refuse] {
        let mut layers = PlainLayers::new(3, &[(6, 6)], [2; 5], 1);
        for level in Level::ALL {
            layers.fill(level, 2);
        }
        layers.get(address(Level::Agent, ALICE)).factors_mut(0).b[3] = f32::NAN;
        layers.get(address(Level::Context, ALICE)).factors_mut(0).b[3] = f32::INFINITY;
        let mut coordinator = MigrationCoordinator::new(MigrationConfig { when_full, ..MigrationConfig::default() });
        for tick in 0..300 {
            let mut asked = request(Level::ALL[1 + tick as usize % 4], ALICE, &[(0, tick as usize % 2)], f64::NAN);
            asked.vertical = f64::INFINITY;
            asked.criticality = Some(f64::NAN);
            coordinator.enqueue(tick, asked);
            coordinator.tick(tick, &mut layers, &mut OpenGate);
        }
        let text = serde_json::to_string(&coordinator.state()).unwrap();
        let mut restored = MigrationCoordinator::new(*coordinator.config());
        restored.restore(serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(restored, coordinator);
    }
}
