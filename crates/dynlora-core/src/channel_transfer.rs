//! Channels taken out of a layer and put into one.
//!
//! [`Channel::moments`] of a [`DynamicLoraLayer`] is `[kind, steps, module's mean activity, activity]`, then what
//! `kind` adds up: 1 first moments and then second ones, 2 activities, 4 phases (0 or 1); each part for the
//! row of `A` and then for that of `B^T`. A layer that has no use for a part drops it, and what a layer lacks begins at zero.

use crate::decay::decay_row;
use crate::dynamic_layer::{DynamicLoraLayer, Moments, channel_ranges};
use crate::{Channel, ChannelState, LoraLayer, OptimizerKind, initial_row};

const MOMENTS: u32 = 1;
const DETAIL: u32 = 2;
const PHASES: u32 = 4;
const HEADER: usize = 4;

/// What another layer, or this one, has sent along with a channel; `n` values a part, both rows together.
#[derive(Debug, Default)]
struct Luggage<'a> {
    n_steps: u32,
    mean_activity: f32,
    /// Activity of the channel.
    activity: Option<f32>,
    moments: Option<[&'a [f32]; 2]>,
    detail: Option<&'a [f32]>,
    phases: Option<&'a [f32]>,
}

impl<'a> Luggage<'a> {
    /// Nothing where the layout is not ours.
    fn read(values: &'a [f32], n: usize) -> Self {
        let [kind, n_steps, mean_activity, activity, rest @ ..] = values else { return Self::default() };
        let kind = *kind as u32;
        let n_parts = [(MOMENTS, 2), (DETAIL, 1), (PHASES, 1)].iter().filter(|(part, _)| kind & part != 0);
        if rest.len() != n * n_parts.map(|(_, n)| n).sum::<usize>() || kind > MOMENTS | DETAIL | PHASES {
            return Self::default();
        }
        let mut parts = rest.chunks_exact(n.max(1));
        let mut next = |part| if kind & part != 0 { parts.next() } else { None };
        let (first, second) = (next(MOMENTS), next(MOMENTS));
        Self {
            n_steps: *n_steps as u32,
            mean_activity: *mean_activity,
            activity: Some(*activity),
            moments: first.zip(second).map(|(first, second)| [first, second]),
            detail: next(DETAIL),
            phases: next(PHASES),
        }
    }
}

impl DynamicLoraLayer {
    pub(crate) fn channel_state(&self, module: usize, channel: usize) -> ChannelState {
        let dynamics = &self.modules[module];
        let record = &dynamics.channels[channel];
        let n_parameters = self.factors[module].d_in + self.factors[module].d_out;
        let relative = match dynamics.mean_activity > 0.0 {
            true => (f64::from(record.activity) / dynamics.mean_activity) as f32,
            false => 0.0,
        };
        ChannelState {
            activity: relative,
            is_screened: 2 * dynamics.screened_in(channel, n_parameters) > n_parameters as u64,
            is_pinned: record.is_pinned,
            credit_ticks: u32::try_from(record.credit_until.saturating_sub(self.tick)).unwrap_or(u32::MAX),
            generation: record.generation,
        }
    }

    pub(crate) fn channel_copy(&self, module: usize, channel: usize) -> Channel {
        let (factors, dynamics) = (&self.factors[module], &self.modules[module]);
        let record = &dynamics.channels[channel];
        let mut b = factors.b_row(channel).to_vec();
        decay_row(&mut b, self.clock.keep(dynamics.mark), dynamics.phase(channel, true));
        let [row_a, row_b] = channel_ranges(factors, channel);
        let mut moments = vec![0.0, record.n_steps as f32, dynamics.mean_activity as f32, record.activity];
        let mut kind = 0;
        let mut append = |part: u32, values: &[f32]| {
            kind |= part;
            moments.extend_from_slice(&values[row_a.clone()]);
            moments.extend_from_slice(&values[row_b.clone()]);
        };
        if let Some(Moments { first, second }) = &dynamics.moments {
            append(MOMENTS, first);
            append(MOMENTS, second);
        }
        if let Some(activity) = &dynamics.detail {
            append(DETAIL, activity);
        }
        if dynamics.phases.is_some() {
            kind |= PHASES;
            for (is_b, n) in [(false, factors.d_in), (true, factors.d_out)] {
                let phase = dynamics.phase(channel, is_b);
                moments.extend((0..n).map(|k| f32::from(u8::from(phase.is_screened(k)))));
            }
        }
        moments[0] = kind as f32;
        Channel { a: factors.a_row(channel).to_vec(), b, moments, state: self.channel_state(module, channel) }
    }

    /// # Panics
    /// If the rows have other lengths than the module's.
    pub(crate) fn channel_put(&mut self, module: usize, channel: usize, value: &Channel) {
        let (tick, threshold) = (self.tick, self.budget.threshold);
        let factors = self.factors_mut(module);
        let (d_in, d_out) = (factors.d_in, factors.d_out);
        assert_eq!((value.a.len(), value.b.len()), (d_in, d_out), "rows of a channel for a module with d_in and d_out");
        factors.a_row_mut(channel).copy_from_slice(&value.a);
        factors.b_row_mut(channel).copy_from_slice(&value.b);
        let [row_a, row_b] = channel_ranges(factors, channel);
        let n_values = factors.num_parameters();
        let is_adam = self.config.optimizer == OptimizerKind::AdamW;
        let dynamics = &mut self.modules[module];
        let luggage = Luggage::read(&value.moments, d_in + d_out);

        let write = |into: &mut [f32], both: Option<&[f32]>, factor: f32| match both {
            Some(both) => {
                for (range, part) in [(row_a.clone(), &both[..d_in]), (row_b.clone(), &both[d_in..])] {
                    into[range].iter_mut().zip(part).for_each(|(into, x)| *into = x * factor);
                }
            }
            None => [row_a.clone(), row_b.clone()].into_iter().for_each(|range| into[range].fill(0.0)),
        };
        if is_adam && luggage.moments.is_some() && dynamics.moments.is_none() {
            dynamics.moments = Some(Moments { first: vec![0.0; n_values], second: vec![0.0; n_values] });
        }
        let record = &mut dynamics.channels[channel];
        record.n_steps = 0;
        if let Some(Moments { first, second }) = &mut dynamics.moments {
            record.n_steps = if luggage.moments.is_some() { luggage.n_steps } else { 0 };
            write(first, luggage.moments.map(|m| m[0]), 1.0);
            write(second, luggage.moments.map(|m| m[1]), 1.0);
        }
        // Activities of two layers compare by their means.
        let (here, there) = (dynamics.mean_activity as f32, luggage.mean_activity);
        let factor = if here > 0.0 && there > 0.0 && here != there { here / there } else { 1.0 };
        record.activity = match luggage.activity {
            Some(activity) if factor == 1.0 => activity,
            _ => value.state.activity * here,
        };
        record.is_pinned = value.state.is_pinned;
        record.credit_until = tick.saturating_add(u64::from(value.state.credit_ticks));
        let has_credit = value.state.credit_ticks > 0;
        record.is_screened = value.state.is_screened || has_credit;
        let (activity, whole) = (record.activity, record.is_screened);
        if let Some(activities) = &mut dynamics.detail {
            match luggage.detail {
                Some(carried) => write(activities, Some(carried), factor),
                None => {
                    // On the side of the threshold where its phase is.
                    let edge = (threshold * dynamics.mean_activity) as f32;
                    let activity = if whole { activity.max(edge) } else { activity };
                    [row_a.clone(), row_b.clone()].into_iter().for_each(|range| activities[range].fill(activity));
                }
            }
        }
        if let Some(phases) = &mut dynamics.phases {
            for (is_b, skip, n) in [(false, 0, d_in), (true, d_in, d_out)] {
                let row = phases.row(channel, is_b);
                phases.fill_row(row.clone(), n, whole);
                if let (Some(bits), false) = (luggage.phases, has_credit) {
                    phases.fill_row(row.clone(), n, false);
                    for (k, bit) in bits[skip..skip + n].iter().enumerate() {
                        phases.bits[row.start + k / 8] |= u8::from(*bit != 0.0) << (k % 8);
                    }
                }
            }
            // The bits say it.
            dynamics.channels[channel].is_screened = false;
        }
    }

    pub(crate) fn channel_reset(&mut self, module: usize, channel: usize) {
        let record = &mut self.modules[module].channels[channel];
        let (generation, is_pinned) = (record.generation.wrapping_add(1), record.is_pinned);
        record.generation = generation;
        let address = self.address(module);
        let factors = &self.factors[module];
        let a = initial_row(factors.d_in, address, channel, generation).collect();
        let state = ChannelState { is_pinned, generation, ..ChannelState::default() };
        let fresh = Channel { a, b: vec![0.0; factors.d_out], moments: vec![0.0; HEADER], state };
        self.channel_put(module, channel, &fresh);
    }
}
