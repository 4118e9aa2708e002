//! All of a layer as named arrays and numbers, and back.
//!
//! Whole numbers that arrays hold (phases as 0 to 255, ticks relative to now) are small enough for `f32` to hold exactly.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::decay::DecayClock;
use crate::dynamic_layer::{DynamicLoraLayer, Moments};
use crate::entropy_budget::Movement;
use crate::inertia::Average;
use crate::screening::{ChannelRecord, Flips};
use crate::{Error, LayerState};

/// Channels' arrays; of credit the ticks that are left.
const CHANNEL_ARRAYS: [&str; 6] = ["activity", "screened", "pinned", "credit", "generation", "steps"];
/// Ticks of credit that a file can tell apart; more than four months at one a second.
const MAX_CREDIT: u64 = 1 << 24;

impl DynamicLoraLayer {
    pub(crate) fn save_state(&self) -> LayerState {
        let mut tensors = Vec::new();
        for (i, module) in self.modules.iter().enumerate() {
            let mut tensor = |name: &str, values: Vec<f32>| tensors.push((format!("{i}.{name}"), values));
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
        let LayerState { tensors: channels, numbers } = self.save_summary();
        tensors.extend(channels);
        LayerState { tensors, numbers }
    }

    /// Numbers, and the channels' records.
    pub(crate) fn save_summary(&self) -> LayerState {
        let mut state = LayerState::default();
        let mut number = |name: String, value: f64| state.numbers.push((name, value));
        for (name, value) in self.identity() {
            number(name.to_owned(), value);
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
            number(name.to_owned(), value);
        }
        let averages = [self.inertia.n_eff, self.inertia.frequency, self.inertia.importance, self.inertia.mean_path];
        for (name, average) in AVERAGES.into_iter().zip(averages) {
            number(format!("inertia.{name}"), average.value);
            number(format!("inertia.{name}.weight"), average.weight);
        }
        if let Some(scale) = self.inertia.scale {
            number("inertia.scale".to_owned(), scale);
        }
        number("inertia.n_samples".to_owned(), self.inertia.samples.len() as f64);
        for (i, sample) in self.inertia.samples.iter().enumerate() {
            number(format!("inertia.sample.{i}"), *sample);
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
                number(format!("{i}.{name}"), value);
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
                state.tensors.push((format!("{i}.channel.{name}"), module.channels.iter().map(value).collect()));
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

    pub(crate) fn load_state(&mut self, state: &LayerState) -> Result<(), Error> {
        let mut reader = Reader {
            numbers: state.numbers.iter().map(|(name, value)| (name.as_str(), *value)).collect(),
            tensors: state.tensors.iter().map(|(name, values)| (name.as_str(), values.as_slice())).collect(),
        };
        for (name, expected) in self.identity() {
            let found = reader.number(name)?;
            if found != expected {
                return Err(mismatch(name, expected, found));
            }
        }
        // Built beside the layer, which stays as it is if anything is wrong.
        let mut next = self.clone();
        next.tick = reader.whole("tick")?;
        next.last_update = reader.whole("last_update")?;
        next.next_flip = reader.whole("next_flip")?;
        next.flips = Flips { screened: reader.whole("flips.screened")?, freed: reader.whole("flips.freed")? };
        next.clock = DecayClock { free: reader.number("clock.free")?, screened: reader.number("clock.screened")? };
        next.budget.threshold = reader.number("threshold")?;
        next.budget.last_step = reader.whole("threshold.last_step")?;
        next.budget.is_measured = reader.flag("threshold.is_measured")?;
        next.inertia.seed_factor = reader.number("inertia.seed_factor")?;
        next.inertia.tick_use = reader.number("inertia.tick_use")?;
        let inertia = &mut next.inertia;
        let averages = [&mut inertia.n_eff, &mut inertia.frequency, &mut inertia.importance, &mut inertia.mean_path];
        for (name, average) in AVERAGES.into_iter().zip(averages) {
            let value = reader.number(&format!("inertia.{name}"))?;
            *average = Average { value, weight: reader.number(&format!("inertia.{name}.weight"))? };
        }
        next.inertia.scale = match reader.numbers.contains_key("inertia.scale") {
            true => Some(reader.number("inertia.scale")?),
            false => None,
        };
        let n_samples = reader.whole("inertia.n_samples")?.min(state.numbers.len() as u64);
        let samples = (0..n_samples).map(|i| reader.number(&format!("inertia.sample.{i}")));
        next.inertia.samples = samples.collect::<Result<_, _>>()?;
        for i in 0..self.modules.len() {
            next.load_module(i, &mut reader)?;
        }
        if let Some(name) = reader.numbers.keys().chain(reader.tensors.keys()).next() {
            return Err(mismatch(name, "nothing", "a value"));
        }
        *self = next;
        Ok(())
    }

    fn load_module(&mut self, i: usize, reader: &mut Reader<'_>) -> Result<(), Error> {
        let (tick, shapes) = (self.tick, Arc::clone(&self.factors[i]));
        let n_values = shapes.num_parameters();
        let has_moments = reader.tensors.contains_key(format!("{i}.first").as_str());
        let has_detail = reader.tensors.contains_key(format!("{i}.activity").as_str());
        let factors = Arc::make_mut(&mut self.factors[i]);
        factors.a = reader.tensor(&format!("{i}.a"), shapes.a.len())?;
        factors.b = reader.tensor(&format!("{i}.b"), shapes.b.len())?;
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
            let values = reader.tensor(&format!("{i}.channel.{name}"), shapes.rank)?;
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
        let mut read = |is_there: bool, name: &str| match is_there {
            true => reader.tensor(&format!("{i}.{name}"), n_values).map(Some),
            false => Ok(None),
        };
        let (first, second) = (read(has_moments, "first")?, read(has_moments, "second")?);
        module.moments = first.zip(second).map(|(first, second)| Moments { first, second });
        module.detail = read(has_detail, "activity")?;
        if let Some(phases) = &mut module.phases {
            let n_bytes = phases.bits.len();
            phases.bits = reader.bytes(&format!("{i}.phases"), n_bytes)?;
        }
        Ok(())
    }
}

const AVERAGES: [&str; 4] = ["n_eff", "frequency", "importance", "mean_path"];

/// Takes values out by name, so that what is left over can be named.
struct Reader<'a> {
    numbers: BTreeMap<&'a str, f64>,
    tensors: BTreeMap<&'a str, &'a [f32]>,
}

impl Reader<'_> {
    fn number(&mut self, name: &str) -> Result<f64, Error> {
        match self.numbers.remove(name) {
            Some(value) if value.is_finite() => Ok(value),
            Some(value) => Err(mismatch(name, "a finite number", value)),
            None => Err(mismatch(name, "a number", "nothing")),
        }
    }

    fn whole(&mut self, name: &str) -> Result<u64, Error> {
        let value = self.number(name)?;
        match value >= 0.0 && value.fract() == 0.0 && value <= 9_007_199_254_740_992.0 {
            true => Ok(value as u64),
            false => Err(mismatch(name, "a whole number from 0 to 2^53", value)),
        }
    }

    fn flag(&mut self, name: &str) -> Result<bool, Error> {
        match self.number(name)? {
            0.0 => Ok(false),
            1.0 => Ok(true),
            other => Err(mismatch(name, "0 or 1", other)),
        }
    }

    fn tensor(&mut self, name: &str, len: usize) -> Result<Vec<f32>, Error> {
        let values = self.tensors.remove(name).ok_or_else(|| mismatch(name, format!("{len} values"), "nothing"))?;
        if values.len() != len {
            return Err(mismatch(name, format!("{len} values"), format!("{} values", values.len())));
        }
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(mismatch(name, "finite numbers", value)),
            None => Ok(values.to_vec()),
        }
    }

    fn bytes(&mut self, name: &str, len: usize) -> Result<Vec<u8>, Error> {
        let byte = |value: f32| {
            let is_byte = value.fract() == 0.0 && (0.0..=255.0).contains(&value);
            if is_byte { Ok(value as u8) } else { Err(mismatch(name, "whole numbers from 0 to 255", value)) }
        };
        self.tensor(name, len)?.into_iter().map(byte).collect()
    }
}

fn mismatch(what: &str, expected: impl ToString, found: impl ToString) -> Error {
    Error::State { entry: what.to_owned(), expected: expected.to_string(), found: found.to_string() }
}
