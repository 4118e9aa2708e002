//! How the hierarchy is doing: measurements against their healthy bands.
//!
//! Ratios are of a window of recent ticks, not of the whole run, and absent until there are [`MIN_EVENTS`] of what they count:
//! a run that has just begun is neither healthy nor ill (R48).

mod finding;
mod report;
mod vitals;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

pub use finding::{Finding, Severity};
pub use report::{ChannelHealth, HealthReport, LayerHealth};
pub use vitals::{ChannelVitals, GradientVitals, HealthInput, LayerVitals, ResonanceVitals};

/// Events below which a ratio says nothing.
pub const MIN_EVENTS: u64 = 20;

/// Healthy bands; the seeds' values, with the corrections of R20, R21, R48 and R49.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthThresholds {
    /// Entropy ratio below which a layer crystallises; default 0.5.
    pub crystallization: f64,
    /// Entropy ratio above which a layer forgets everything; default 2.
    pub amnesia: f64,
    /// Healthy entropy ratios; default 0.8 to 1.2.
    pub entropy_ratio: (f64, f64),
    /// Healthy shares of SCREENED parameters; default 0.4 to 0.7.
    pub screening_rate: (f64, f64),
    /// Circuits waiting in a channel, below this; default 10.
    pub backlog: u64,
    /// Mean ticks until a migration is begun, below this; default 5.
    pub wait_ticks: f64,
    /// Migrations refused, of those requested, below this; default 0.01.
    pub rejection_rate: f64,
    /// Conflicts of resonance, and gradients refused, of all, below this; default 0.05.
    pub conflict_rate: f64,
    /// Share of FAST_TRACK among the windows of vertical resonance; default 0.05 to 0.2.
    pub fast_track_rate: (f64, f64),
    /// Standard errors by which the mean vertical alignment must differ from none; default 2.
    pub signal_z: f64,
    /// Effective inertia from which a layer stands still; default 0.9985, just below the cap of R9.
    pub frozen_inertia: f64,
    /// Ticks over which ratios are taken; default 256, one window of the slowest layer.
    pub window_ticks: u64,
}

impl Default for HealthThresholds {
    fn default() -> Self {
        Self {
            crystallization: 0.5,
            amnesia: 2.0,
            entropy_ratio: (0.8, 1.2),
            screening_rate: (0.4, 0.7),
            backlog: 10,
            wait_ticks: 5.0,
            rejection_rate: 0.01,
            conflict_rate: 0.05,
            fast_track_rate: (0.05, 0.2),
            signal_z: 2.0,
            frozen_inertia: 0.9985,
            window_ticks: 256,
        }
    }
}

/// Checks measurements against bands, tick by tick.
#[derive(Debug, Clone)]
pub struct HealthMonitor {
    thresholds: HealthThresholds,
    /// Counters at the ticks of the window, oldest first.
    window: VecDeque<Counters>,
}

/// The window of a [`HealthMonitor`], to go on with.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HealthState {
    window: VecDeque<Counters>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Counters {
    tick: u64,
    channels: Vec<ChannelVitals>,
    resonance: ResonanceVitals,
    gradients: GradientVitals,
}

impl HealthMonitor {
    /// A monitor for a run that begins: all counters are zero before the first check.
    pub fn new(thresholds: HealthThresholds) -> Self {
        Self { thresholds, window: VecDeque::new() }
    }

    /// The bands.
    pub fn thresholds(&self) -> &HealthThresholds {
        &self.thresholds
    }

    /// Goes on with a run whose counters stand here: what was counted before belongs to no window.
    pub fn resume(&mut self, input: &HealthInput) {
        self.window = VecDeque::from([Counters::of(input)]);
    }

    /// All that the next check depends on besides what it is given.
    pub fn state(&self) -> HealthState {
        HealthState { window: self.window.clone() }
    }

    /// Goes on from a state, as if nothing had happened in between.
    pub fn restore(&mut self, state: HealthState) {
        self.window = state.window;
    }

    /// Checks. Call it once a tick or less often; a window is made of ticks, not of calls.
    pub fn check(&mut self, input: &HealthInput) -> HealthReport {
        let now = Counters::of(input);
        if self.window.is_empty() {
            self.window.push_back(Counters::zero(now.tick));
        }
        let begin = now.tick.checked_sub(self.thresholds.window_ticks);
        // The newest that is old enough, so that the window is not shorter than it should be, stays.
        while self.window.len() > 1 && begin.is_some_and(|begin| self.window[1].tick <= begin) {
            self.window.pop_front();
        }
        let before = self.window[0].clone();
        let mut findings = Vec::new();
        let layers = input.layers.iter().map(|layer| self.layer(layer, &mut findings)).collect();
        let channels = self.channels(&now, &before, &mut findings);

        let (resonance, since) = (now.resonance, before.resonance);
        let windows = resonance.operations.saturating_sub(since.operations);
        let conflict_rate = share(resonance.conflicts.saturating_sub(since.conflicts), windows);
        let fast_track_rate = share(resonance.fast_tracks.saturating_sub(since.fast_tracks), windows);
        let n_z = resonance.z_count.saturating_sub(since.z_count);
        let resonance_z = (n_z >= MIN_EVENTS)
            .then(|| (resonance.z_sum - since.z_sum) / (n_z as f64).sqrt())
            .filter(|z| z.is_finite());
        let limits = &self.thresholds;
        findings.extend(
            conflict_rate
                .filter(|rate| *rate >= limits.conflict_rate)
                .map(|conflict_rate| Finding::Conflicts { conflict_rate }),
        );
        if let Some(fast_track_rate) = fast_track_rate {
            if fast_track_rate < limits.fast_track_rate.0 {
                findings.push(Finding::FewFastTracks { fast_track_rate });
            } else if fast_track_rate > limits.fast_track_rate.1 {
                findings.push(Finding::ManyFastTracks { fast_track_rate });
            }
        }
        // Below, not beside: alignment that is reliably negative is a signal as well, and counted as conflict.
        findings.extend(resonance_z.filter(|z| z.abs() < limits.signal_z).map(|z| Finding::NoResonanceSignal { z }));

        let (gradients, since) = (now.gradients, before.gradients);
        let (counted, counted_before) = (gradients.staleness, since.staleness);
        let malformed = gradients.malformed.saturating_sub(since.malformed);
        let refused = counted.refused.saturating_sub(counted_before.refused);
        let total = counted.total.saturating_sub(counted_before.total);
        let refusal_rate = share(refused + malformed, total + malformed);
        let stale_rate = share(counted.stale.saturating_sub(counted_before.stale), total.saturating_sub(refused));
        findings.extend(
            refusal_rate
                .filter(|rate| *rate >= limits.conflict_rate)
                .map(|refusal_rate| Finding::RefusedGradients { refusal_rate }),
        );

        self.window.push_back(now);
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity()));
        let severity = findings.first().map_or(Severity::Healthy, Finding::severity);
        HealthReport {
            tick: input.tick,
            severity,
            layers,
            channels,
            conflict_rate,
            fast_track_rate,
            resonance_z,
            refusal_rate,
            stale_rate,
            findings,
        }
    }

    fn layer(&self, vitals: &LayerVitals, findings: &mut Vec<Finding>) -> LayerHealth {
        let (limits, layer) = (&self.thresholds, vitals.owner);
        let first = findings.len();
        let mut finite = |what: &str, value: Option<f64>| {
            let value = value?;
            if !value.is_finite() {
                findings.push(Finding::NotFinite { layer, what: what.to_owned() });
            }
            value.is_finite().then_some(value)
        };
        let entropy_ratio = finite("entropy ratio", vitals.measurement.entropy_ratio);
        let screening_rate = finite("screening rate", vitals.measurement.screening_rate);
        let effective_inertia = finite("effective inertia", Some(vitals.effective_inertia));
        let time_constant = finite("time constant", Some(vitals.time_constant));
        let outside = |value: f64, band: (f64, f64)| value < band.0 || value > band.1;
        match entropy_ratio {
            Some(entropy_ratio) if entropy_ratio < limits.crystallization => {
                findings.push(Finding::Crystallization { layer, entropy_ratio });
            }
            Some(entropy_ratio) if entropy_ratio > limits.amnesia => {
                findings.push(Finding::Amnesia { layer, entropy_ratio });
            }
            Some(entropy_ratio) if outside(entropy_ratio, limits.entropy_ratio) => {
                findings.push(Finding::EntropyOffBand { layer, entropy_ratio });
            }
            _ => {}
        }
        if let Some(screening_rate) = screening_rate.filter(|rate| outside(*rate, limits.screening_rate)) {
            findings.push(Finding::ScreeningOffBand { layer, screening_rate });
        }
        if let Some(effective_inertia) = effective_inertia.filter(|inertia| *inertia >= limits.frozen_inertia) {
            findings.push(Finding::Frozen { layer, effective_inertia });
        }
        let severity = findings[first..].iter().map(Finding::severity).max().unwrap_or_default();
        LayerHealth { layer, entropy_ratio, screening_rate, effective_inertia, time_constant, severity }
    }

    fn channels(&self, now: &Counters, before: &Counters, findings: &mut Vec<Finding>) -> Vec<ChannelHealth> {
        let limits = &self.thresholds;
        let mut all = Vec::with_capacity(now.channels.len());
        for channel in &now.channels {
            let (from, backlog) = (channel.from, channel.backlog);
            let since = before.channels.iter().find(|other| other.from == from);
            let grown = |count: fn(&ChannelVitals) -> u64| count(channel).saturating_sub(since.map_or(0, count));
            let started = grown(|vitals| vitals.started);
            let wait_ticks =
                (started >= MIN_EVENTS).then(|| grown(|vitals| vitals.waited_ticks) as f64 / started as f64);
            let rejection_rate = share(grown(|vitals| vitals.rejections), grown(|vitals| vitals.requests));
            if backlog >= limits.backlog {
                findings.push(Finding::Backlog { from, backlog });
            }
            if let Some(wait_ticks) = wait_ticks.filter(|wait| *wait >= limits.wait_ticks) {
                findings.push(Finding::SlowMigration { from, wait_ticks });
            }
            if let Some(rejection_rate) = rejection_rate.filter(|rate| *rate >= limits.rejection_rate) {
                findings.push(Finding::Rejections { from, rejection_rate });
            }
            all.push(ChannelHealth { from, backlog, wait_ticks, rejection_rate });
        }
        all
    }
}

impl Default for HealthMonitor {
    fn default() -> Self {
        Self::new(HealthThresholds::default())
    }
}

impl Counters {
    fn of(input: &HealthInput) -> Self {
        let HealthInput { tick, channels, resonance, gradients, .. } = input;
        Self { tick: *tick, channels: channels.clone(), resonance: *resonance, gradients: *gradients }
    }

    fn zero(tick: u64) -> Self {
        let (resonance, gradients) = (ResonanceVitals::default(), GradientVitals::default());
        Self { tick, channels: Vec::new(), resonance, gradients }
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole >= MIN_EVENTS).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests;
