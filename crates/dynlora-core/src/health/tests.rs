use super::*;
use crate::{AgentId, LayerMeasurement, LayerOwner, Level, StalenessCounters};

fn owner(level: Level) -> LayerOwner {
    LayerOwner { level, agent: AgentId(if level.is_shared() { 0 } else { 7 }) }
}

fn input(tick: u64) -> HealthInput {
    let layer = |level: Level| {
        let measurement =
            LayerMeasurement { entropy_ratio: Some(1.0), screening_rate: Some(0.55), ..LayerMeasurement::default() };
        let effective_inertia = level.base_inertia();
        LayerVitals { owner: owner(level), measurement, effective_inertia, time_constant: 100.0 }
    };
    let channel = |from| ChannelVitals { from, backlog: 0, requests: 0, rejections: 0, started: 0, waited_ticks: 0 };
    HealthInput {
        tick,
        layers: Level::ALL.map(layer).to_vec(),
        channels: [Level::Context, Level::Agent, Level::Swarm, Level::Domain].map(channel).to_vec(),
        resonance: ResonanceVitals::default(),
        gradients: GradientVitals::default(),
    }
}

fn check(change: impl FnOnce(&mut HealthInput)) -> HealthReport {
    let mut input = input(5);
    change(&mut input);
    HealthMonitor::default().check(&input)
}

fn one(change: impl FnOnce(&mut HealthInput)) -> (Severity, Finding) {
    let report = check(change);
    assert_eq!(report.findings.len(), 1, "{report}");
    assert_eq!(report.severity, report.findings[0].severity());
    (report.severity, report.findings[0].clone())
}

#[test]
fn a_run_that_has_just_begun_is_healthy_and_has_no_ratios() {
    let report = check(|_| ());
    assert_eq!(report.severity, Severity::Healthy);
    assert_eq!((report.conflict_rate, report.fast_track_rate, report.resonance_z), (None, None, None));
    assert_eq!((report.refusal_rate, report.stale_rate), (None, None));
    assert!(report.channels.iter().all(|c| c.wait_ticks.is_none() && c.rejection_rate.is_none()));
    // Nineteen conflicts of nineteen are too few to say anything.
    let few =
        |n| check(move |input| input.resonance = ResonanceVitals { operations: n, conflicts: n, ..Default::default() });
    assert_eq!(few(19).conflict_rate, None);
    assert_eq!(few(20).conflict_rate, Some(1.0));
    // A layer that has not been measured is no finding.
    assert_eq!(check(|input| input.layers[0].measurement = LayerMeasurement::default()).severity, Severity::Healthy);
}

#[test]
fn each_measurement_has_its_band() {
    let entropy = |value| one(move |input| input.layers[4].measurement.entropy_ratio = Some(value));
    let layer = owner(Level::Context);
    assert_eq!(entropy(0.49), (Severity::Critical, Finding::Crystallization { layer, entropy_ratio: 0.49 }));
    assert_eq!(entropy(0.5), (Severity::Acceptable, Finding::EntropyOffBand { layer, entropy_ratio: 0.5 }));
    assert_eq!(entropy(2.0), (Severity::Acceptable, Finding::EntropyOffBand { layer, entropy_ratio: 2.0 }));
    assert_eq!(entropy(2.01), (Severity::Critical, Finding::Amnesia { layer, entropy_ratio: 2.01 }));
    let screening = |value| one(move |input| input.layers[0].measurement.screening_rate = Some(value));
    let layer = owner(Level::Foundation);
    assert_eq!(screening(0.39), (Severity::Degraded, Finding::ScreeningOffBand { layer, screening_rate: 0.39 }));
    assert_eq!(screening(0.71).1, Finding::ScreeningOffBand { layer, screening_rate: 0.71 });
    let inertia = one(|input| input.layers[0].effective_inertia = 0.999);
    assert_eq!(inertia, (Severity::Degraded, Finding::Frozen { layer, effective_inertia: 0.999 }));
    let nan = one(|input| input.layers[0].time_constant = f64::NAN);
    assert_eq!(nan, (Severity::Critical, Finding::NotFinite { layer, what: "time constant".to_owned() }));

    for (value, band) in [(0.8, true), (1.2, true), (0.79, false), (1.21, false)] {
        let report = check(|input| input.layers[2].measurement.entropy_ratio = Some(value));
        assert_eq!(report.severity == Severity::Healthy, band, "{value}");
    }
}

#[test]
fn each_channel_has_its_limits() {
    let channel = |change: fn(&mut ChannelVitals)| one(move |input| change(&mut input.channels[1]));
    let from = Level::Agent;
    let degraded = |finding| (Severity::Degraded, finding);
    assert_eq!(channel(|c| c.backlog = 10), degraded(Finding::Backlog { from, backlog: 10 }));
    let slow = channel(|c| (c.started, c.waited_ticks) = (20, 100));
    assert_eq!(slow, degraded(Finding::SlowMigration { from, wait_ticks: 5.0 }));
    let refused = channel(|c| (c.requests, c.rejections) = (200, 2));
    assert_eq!(refused, degraded(Finding::Rejections { from, rejection_rate: 0.01 }));
    let fine = check(|input| {
        let channel = &mut input.channels[1];
        (channel.backlog, channel.started, channel.waited_ticks) = (9, 20, 99);
        (channel.requests, channel.rejections) = (201, 2);
    });
    assert_eq!(fine.severity, Severity::Healthy);
    assert_eq!((fine.channels[1].wait_ticks, fine.channels[1].rejection_rate), (Some(4.95), Some(2.0 / 201.0)));
}

#[test]
fn resonance_is_judged_by_its_noise_and_not_by_raw_cosines() {
    let resonance = |fast_tracks, conflicts, z_sum| {
        check(move |input| {
            input.resonance = ResonanceVitals { operations: 100, fast_tracks, conflicts, z_sum, z_count: 100 };
        })
    };
    // A mean of 0.3 of its noise, a cosine of 0.01 at k = 1024, is three standard errors over 100 windows.
    let healthy = resonance(10, 4, 30.0);
    assert_eq!((healthy.severity, healthy.resonance_z), (Severity::Healthy, Some(3.0)));
    assert_eq!(resonance(10, 4, -30.0).severity, Severity::Healthy, "alignment against is a signal too");
    assert_eq!(resonance(10, 4, 10.0).findings, [Finding::NoResonanceSignal { z: 1.0 }]);
    assert_eq!(resonance(10, 5, 30.0).findings, [Finding::Conflicts { conflict_rate: 0.05 }]);
    assert_eq!(resonance(4, 4, 30.0).findings, [Finding::FewFastTracks { fast_track_rate: 0.04 }]);
    assert_eq!(resonance(21, 4, 30.0).findings, [Finding::ManyFastTracks { fast_track_rate: 0.21 }]);
    // The worst comes first and names the whole.
    let several = resonance(0, 50, 0.0);
    assert_eq!(several.findings.len(), 3);
    assert_eq!((several.severity, several.findings[0].severity()), (Severity::Degraded, Severity::Degraded));
    assert_eq!(several.findings[2].severity(), Severity::Acceptable);
}

#[test]
fn refused_gradients_are_counted_whatever_the_reason() {
    let gradients = |total, stale, refused, malformed| {
        let staleness = StalenessCounters { total, stale, refused };
        check(move |input| input.gradients = GradientVitals { staleness, malformed })
    };
    let report = gradients(95, 10, 3, 5);
    assert_eq!(report.refusal_rate, Some(0.08));
    assert_eq!(report.stale_rate, Some(10.0 / 92.0));
    assert_eq!(report.findings, [Finding::RefusedGradients { refusal_rate: 0.08 }]);
    assert_eq!(gradients(96, 10, 0, 4).severity, Severity::Healthy);
    assert_eq!(gradients(0, 0, 0, 20).findings, [Finding::RefusedGradients { refusal_rate: 1.0 }]);
}

#[test]
fn ratios_are_of_the_recent_past() {
    let mut monitor = HealthMonitor::new(HealthThresholds { window_ticks: 10, ..HealthThresholds::default() });
    let mut rates = Vec::new();
    for tick in 0..60 {
        let mut input = input(tick);
        // Ten windows a tick; all of them conflict until tick 20, none later.
        let (operations, conflicts) = (10 * (tick + 1), 10 * (tick + 1).min(20));
        input.resonance = ResonanceVitals { operations, conflicts, fast_tracks: operations / 10, ..Default::default() };
        rates.push(monitor.check(&input).conflict_rate);
    }
    assert_eq!(rates[0], None);
    assert_eq!((rates[1], rates[19], rates[24]), (Some(1.0), Some(1.0), Some(0.5)));
    assert!(rates[29..].iter().all(|rate| *rate == Some(0.0)), "{rates:?}");
    assert!(monitor.window.len() <= 12, "{}", monitor.window.len());

    // A run that goes on does not count what was before.
    let mut resumed = HealthMonitor::default();
    let mut before = input(100);
    before.resonance = ResonanceVitals { operations: 1000, conflicts: 1000, ..Default::default() };
    resumed.resume(&before);
    let mut after = before.clone();
    (after.tick, after.resonance.operations) = (101, 1010);
    assert_eq!(resumed.check(&after).conflict_rate, None);
}

#[test]
fn a_report_is_a_table_and_json() {
    let report = check(|input| {
        input.layers[4].measurement.entropy_ratio = Some(0.3);
        input.layers[0].measurement.screening_rate = None;
        input.channels[0].backlog = 12;
    });
    let expected = "\
tick 5: critical
layer                       agent  entropy  screened   inertia  time const.  health
foundation                      -     1.00         -    0.9900          100  healthy
domain                          -     1.00    55.0 %    0.9000          100  healthy
swarm                           -     1.00    55.0 %    0.7000          100  healthy
agent                           7     1.00    55.0 %    0.5000          100  healthy
context                         7     0.30    55.0 %    0.1000          100  critical
from                           to  backlog      wait
context                     agent       12         -
agent                       swarm        0         -
swarm                      domain        0         -
domain                 foundation        0         -
conflict -, fast track -, alignment z -; gradients: refused -, stale -
critical   the context layer of agent 7 crystallises: entropy ratio 0.30
degraded   12 circuits wait to leave the context layer
";
    assert_eq!(report.to_string(), expected);
    let text = serde_json::to_string(&report).unwrap();
    assert!(
        text.contains(r#"{"finding":"crystallization","layer":{"level":"context","agent":7},"entropy_ratio":0.3}"#),
        "{text}"
    );
    assert_eq!(serde_json::from_str::<HealthReport>(&text).unwrap(), report);
}
