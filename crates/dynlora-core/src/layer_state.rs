//! All of a layer as named arrays and numbers, and back.
//!
//! Whole numbers that arrays hold (phases as 0 to 255, ticks relative to now) are small enough for `f32` to hold exactly.

use std::sync::Arc;

use crate::decay::DecayClock;
use crate::dynamic_layer::{DynamicLoraLayer, Moments};
use crate::entropy_budget::Movement;
use crate::inertia::Average;
use crate::screening::{ChannelRecord, Flips};
use crate::{Error, SavedState, StateReader};

/// Channels' arrays; of credit the ticks that are left.
const CHANNEL_ARRAYS: [&str; 6] = ["activity", "screened", "pinned", "credit", "generation", "steps"];
/// Ticks of credit that a file can tell apart; more than four months at one a second.
const MAX_CREDIT: u64 = 1 << 24;

impl DynamicLoraLayer {
    pub(crate) fn save_state(&self) -> SavedState {
        let mut state = self.save_summary();
        for (i, module) in self.modules.iter().enumerate() {
            let mut tensor = |name: &str, values: Vec<f32>| state.set_tensor(format!("{i}.{name}"), values);
            tensor("a", self.factors[i].a.clone());
            tensor("b", self.factors[i].b.clone());
            if let Some(moments) = &module.moments {
                tensor("first", moments.first.clone());
                tensor("second", moments.second.clone());
            }
            if let Some(activity) = &module.detail {
                tensor("activity", activity.clone());
            }
            if let Some(phases) = &module.phases {
                tensor("phases", phases.bits.iter().map(|byte| f32::from(*byte)).collect());
            }
        }
        state
    }

    /// Numbers, and the records of the channels.
    pub(crate) fn save_summary(&self) -> SavedState {
        let mut state = SavedState::default();
        for (name, value) in self.identity() {
            state.set_number(name, value);
        }
        for (name, value) in [
            ("tick", self.tick as f64),
            ("last_update", self.last_update as f64),
            ("next_flip", self.next_flip as f64),
            ("flips.screened", self.flips.screened as f64),
            ("flips.freed", self.flips.freed as f64),
            ("clock.free", self.clock.free),
            ("clock.screened", self.clock.screened),
            ("threshold", self.budget.threshold),
            ("threshold.last_step", self.budget.last_step as f64),
            ("threshold.is_measured", f64::from(u8::from(self.budget.is_measured))),
            ("inertia.seed_factor", self.inertia.seed_factor),
            ("inertia.tick_use", self.inertia.tick_use),
        ] {
            state.set_number(name, value);
        }
        let averages = [self.inertia.n_eff, self.inertia.frequency, self.inertia.importance, self.inertia.mean_path];
        for (name, average) in AVERAGES.into_iter().zip(averages) {
            state.set_number(format!("inertia.{name}"), average.value);
            state.set_number(format!("inertia.{name}.weight"), average.weight);
        }
        if let Some(scale) = self.inertia.scale {
            state.set_number("inertia.scale", scale);
        }
        state.set_number("inertia.n_samples", self.inertia.samples.len() as f64);
        for (i, sample) in self.inertia.samples.iter().enumerate() {
            state.set_number(format!("inertia.sample.{i}"), *sample);
        }
        for (i, module) in self.modules.iter().enumerate() {
            for (name, value) in [
                ("mark.free", module.mark.free),
                ("mark.screened", module.mark.screened),
                ("is_live", f64::from(u8::from(module.is_live))),
                ("mean_activity", module.mean_activity),
                ("movement", module.movement.total),
                ("movement.screened", module.movement.screened),
            ] {
                state.set_number(format!("{i}.{name}"), value);
            }
            for (column, name) in CHANNEL_ARRAYS.into_iter().enumerate() {
                let value = |record: &ChannelRecord| {
                    let ticks = |until: u64| until.saturating_sub(self.tick).min(MAX_CREDIT) as f32;
                    [
                        record.activity,
                        f32::from(u8::from(record.is_screened)),
                        f32::from(u8::from(record.is_pinned)),
                        ticks(record.credit_until),
                        record.generation as f32,
                        record.n_steps as f32,
                    ][column]
                };
                let values: Vec<f32> = module.channels.iter().map(value).collect();
                state.set_tensor(format!("{i}.channel.{name}"), values);
            }
        }
        state
    }

    /// What a state has to share with the layer that goes on from it.
    fn identity(&self) -> [(&'static str, f64); 6] {
        // Seed and agent are 64 bits wide, a number holds 53.
        let [seed_high, seed_low] = [self.seed >> 32, self.seed & 0xffff_ffff];
        let [agent_high, agent_low] = [self.agent >> 32, self.agent & 0xffff_ffff];
        [
            ("level", self.level.index() as f64),
            ("agent.high", agent_high as f64),
            ("agent.low", agent_low as f64),
            ("seed.high", seed_high as f64),
            ("seed.low", seed_low as f64),
            ("n_modules", self.modules.len() as f64),
        ]
    }

    pub(crate) fn load_state(&mut self, state: &SavedState) -> Result<(), Error> {
        let reader = state.reader();
        for (name, expected) in self.identity() {
            let found = reader.number(name)?;
            if found != expected {
                return Err(Error::state(name, expected, found));
            }
        }
        // Built beside the layer, which stays as it is if anything is wrong.
        let mut next = self.clone();
        next.tick = reader.integer("tick")?;
        next.last_update = reader.integer("last_update")?;
        next.next_flip = reader.integer("next_flip")?;
        next.flips = Flips { screened: reader.integer("flips.screened")?, freed: reader.integer("flips.freed")? };
        next.clock = DecayClock { free: reader.number("clock.free")?, screened: reader.number("clock.screened")? };
        next.budget.threshold = reader.number("threshold")?;
        next.budget.last_step = reader.integer("threshold.last_step")?;
        next.budget.is_measured = reader.flag("threshold.is_measured")?;
        next.inertia.seed_factor = reader.number("inertia.seed_factor")?;
        next.inertia.tick_use = reader.number("inertia.tick_use")?;
        let inertia = &mut next.inertia;
        let averages = [&mut inertia.n_eff, &mut inertia.frequency, &mut inertia.importance, &mut inertia.mean_path];
        for (name, average) in AVERAGES.into_iter().zip(averages) {
            let value = reader.number(&format!("inertia.{name}"))?;
            *average = Average { value, weight: reader.number(&format!("inertia.{name}.weight"))? };
        }
        next.inertia.scale = reader.optional("inertia.scale")?;
        let n_samples = reader.integer("inertia.n_samples")?.min(state.numbers.len() as u64);
        let samples = (0..n_samples).map(|i| reader.number(&format!("inertia.sample.{i}")));
        next.inertia.samples = samples.collect::<Result<_, _>>()?;
        for i in 0..self.modules.len() {
            next.load_module(i, &reader)?;
        }
        reader.finish()?;
        *self = next;
        Ok(())
    }

    fn load_module(&mut self, i: usize, reader: &StateReader<'_>) -> Result<(), Error> {
        let (tick, shapes) = (self.tick, Arc::clone(&self.factors[i]));
        let n_values = shapes.num_parameters();
        let has_moments = reader.has_tensor(&format!("{i}.first"));
        let has_detail = reader.has_tensor(&format!("{i}.activity"));
        let factors = Arc::make_mut(&mut self.factors[i]);
        factors.a = reader.tensor_of(&format!("{i}.a"), shapes.a.len())?;
        factors.b = reader.tensor_of(&format!("{i}.b"), shapes.b.len())?;
        let module = &mut self.modules[i];
        module.mark = DecayClock {
            free: reader.number(&format!("{i}.mark.free"))?,
            screened: reader.number(&format!("{i}.mark.screened"))?,
        };
        module.is_live = reader.flag(&format!("{i}.is_live"))?;
        module.is_dirty = true;
        module.mean_activity = reader.number(&format!("{i}.mean_activity"))?;
        module.movement = Movement {
            total: reader.number(&format!("{i}.movement"))?,
            screened: reader.number(&format!("{i}.movement.screened"))?,
        };
        for (column, name) in CHANNEL_ARRAYS.into_iter().enumerate() {
            let values = reader.tensor_of(&format!("{i}.channel.{name}"), shapes.rank)?;
            for (record, value) in module.channels.iter_mut().zip(values) {
                let until = |ticks: f32| if ticks > 0.0 { tick.saturating_add(ticks as u64) } else { 0 };
                match column {
                    0 => record.activity = value,
                    1 => record.is_screened = value != 0.0,
                    2 => record.is_pinned = value != 0.0,
                    3 => record.credit_until = until(value),
                    4 => record.generation = value as u32,
                    _ => record.n_steps = value as u32,
                }
            }
        }
        let read = |is_there: bool, name: &str| match is_there {
            true => reader.tensor_of(&format!("{i}.{name}"), n_values).map(Some),
            false => Ok(None),
        };
        let (first, second) = (read(has_moments, "first")?, read(has_moments, "second")?);
        module.moments = first.zip(second).map(|(first, second)| Moments { first, second });
        module.detail = read(has_detail, "activity")?;
        if let Some(phases) = &mut module.phases {
            let n_bytes = phases.bits.len();
            phases.bits = reader.bytes_of(&format!("{i}.phases"), n_bytes)?;
        }
        Ok(())
    }
}

const AVERAGES: [&str; 4] = ["n_eff", "frequency", "importance", "mean_path"];
