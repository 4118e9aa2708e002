//! Steps between machines that are far apart: each trains alone, and now and then they agree.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::collective::Collective;
use crate::error::{Error, Result};
use crate::quantize::{decode, encode};
use crate::tree::share;

/// How ranks agree.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct OuterConfig {
    /// How far a step goes along the mean of what the ranks moved, above 0. Default 0.7, as in DiLoCo.
    pub learning_rate: f64,
    /// Of Nesterov's momentum, in `[0, 1)`. Default 0.9, as in DiLoCo.
    pub momentum: f64,
    /// How values travel. Default [`OuterExchange::F32`].
    pub exchange: OuterExchange,
}

/// How values travel between ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OuterExchange {
    /// As they are.
    F32,
    /// In eight bits with a scale for each 256 values, a quarter of the bytes; for slow links.
    Int8 {
        /// Whether what was rounded away is added to the next exchange. Without it, small movements beside large ones are lost
        /// for ever.
        error_feedback: bool,
    },
}

impl Default for OuterConfig {
    fn default() -> Self {
        Self { learning_rate: 0.7, momentum: 0.9, exchange: OuterExchange::F32 }
    }
}

impl OuterConfig {
    /// Ranks take the mean of their parameters, and no more.
    #[must_use]
    pub fn averaging() -> Self {
        Self { learning_rate: 1.0, momentum: 0.0, exchange: OuterExchange::F32 }
    }

    /// With another learning rate.
    #[must_use]
    pub fn with_learning_rate(self, learning_rate: f64) -> Self {
        Self { learning_rate, ..self }
    }

    /// With another momentum.
    #[must_use]
    pub fn with_momentum(self, momentum: f64) -> Self {
        Self { momentum, ..self }
    }

    /// With another way to travel.
    #[must_use]
    pub fn with_exchange(self, exchange: OuterExchange) -> Self {
        Self { exchange, ..self }
    }

    fn check(&self) -> Result<()> {
        let Self { learning_rate, momentum, exchange: _ } = *self;
        if !(learning_rate > 0.0 && learning_rate.is_finite()) {
            return Err(Error::Setting { name: "learning_rate", expected: "a number above 0", found: learning_rate });
        }
        if !(0.0..1.0).contains(&momentum) {
            return Err(Error::Setting { name: "momentum", expected: "a number from 0 to below 1", found: momentum });
        }
        Ok(())
    }
}

/// The outer optimiser of DiLoCo: ranks take many local steps, each with an optimiser of its own, and then one step together.
///
/// With `a` the parameters all ranks had after the last outer step, `p_r` those that rank `r` has now, `n` ranks, learning rate
/// `lr` and momentum `mu`, in f64 and rounded once to f32:
///
/// ```text
/// g = a - (p_0 + ... + p_{n-1}) / n      the pseudo-gradient
/// v = mu v + g
/// a = a - lr (g + mu v)                  what all ranks go on with
/// ```
///
/// The mean of each segment of parameters is taken by one rank, in order of rank, and handed to the others: all ranks end with
/// the same bits, whatever the engine. A rank sends and receives `2 (n - 1) / n` times its parameters each time, instead of at
/// every step.
///
/// In eight bits, a rank's movement `a - p_r` is rounded, the owner of a segment takes the mean of what was rounded and rounds
/// it again for the way back. Both add what they rounded away to their next exchange ("double squeeze"), so that nothing is lost
/// but time.
///
/// The state is what is serialised. All of it is the same on every rank but for the errors of rounding: in eight bits with
/// feedback, each rank saves and restores its own, and the number of ranks must stay.
///
/// References: Douillard et al., "DiLoCo: Distributed Low-Communication Training of Language Models", arXiv 2311.08105,
/// algorithm 1; Tang et al., "DoubleSqueeze", arXiv 1905.05957.
///
/// ```
/// use sphere_hierarchy::collective::Local;
/// use sphere_hierarchy::{OuterConfig, OuterOptimizer};
///
/// let mut parameters = vec![1.0, 2.0];
/// let mut outer = OuterOptimizer::new(OuterConfig::default(), &parameters)?;
/// for _ in 0..10 {
///     parameters[0] -= 0.1; // local steps
/// }
/// outer.step(&Local, &mut parameters)?;
/// assert!((parameters[0] - (1.0 - 0.7 * 1.9)).abs() < 1e-6);
/// # Ok::<(), sphere_hierarchy::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Saved")]
pub struct OuterOptimizer {
    config: OuterConfig,
    n_steps: u64,
    anchor: Vec<f32>,
    velocity: Vec<f32>,
    feedback: Option<Feedback>,
}

/// What rounding to eight bits has taken away and the next exchange adds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Feedback {
    n_ranks: usize,
    /// Of this rank's movement, on the way to the owners.
    movement: Vec<f32>,
    /// Of the mean of the segment that this rank owns, on the way back.
    mean: Vec<f32>,
}

/// What an outer step did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct OuterStep {
    /// Euclidean norm of the pseudo-gradient; the same on every rank.
    pub pseudo_gradient_norm: f64,
    /// Bytes that came to this rank from the others.
    pub bytes_received: u64,
    /// What they would have been in [`OuterExchange::F32`].
    pub bytes_received_f32: u64,
}

impl OuterOptimizer {
    /// Begins with parameters that are the same on every rank.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn new(config: OuterConfig, parameters: &[f32]) -> Result<Self> {
        config.check()?;
        let (anchor, velocity) = (parameters.to_vec(), vec![0.0; parameters.len()]);
        Ok(Self { config, n_steps: 0, anchor, velocity, feedback: None })
    }

    /// The parameters that all ranks had after the last outer step.
    pub fn anchor(&self) -> &[f32] {
        &self.anchor
    }

    /// Outer steps so far.
    pub fn n_steps(&self) -> u64 {
        self.n_steps
    }

    /// Replaces what this rank has come to by what all ranks go on with. Every rank calls this at the same time.
    ///
    /// # Errors
    /// On every rank alike, before anything has changed: [`Error::RanksDisagree`] where states differ that must not,
    /// [`Error::Counts`] for other parameters than those of [`OuterOptimizer::new`] or another number of ranks than the state was
    /// saved on, [`Error::ParameterNotFinite`]. Where the engine fails, [`Error::Collective`].
    pub fn step(&mut self, collective: &dyn Collective, parameters: &mut [f32]) -> Result<OuterStep> {
        let segments = Segments::new(collective, parameters.len());
        let own = self.contribution(parameters);
        let mut received = self.agree(collective, parameters.len(), &own)?;
        let (mean, feedback) = match self.config.exchange {
            OuterExchange::F32 => (segments.mean(&own)?, None),
            OuterExchange::Int8 { error_feedback } => {
                let (mean, feedback, bytes) = segments.mean_in_eight_bits(&own, self.feedback.as_ref())?;
                received += bytes;
                (mean, error_feedback.then_some(feedback))
            }
        };
        let bytes_received_f32 = segments.bytes_f32();
        if self.config.exchange == OuterExchange::F32 {
            received += bytes_received_f32;
        }
        drop(own);
        let norm = self.descend(&mean)?;
        self.feedback = feedback;
        self.n_steps += 1;
        parameters.copy_from_slice(&self.anchor);
        Ok(OuterStep { pseudo_gradient_norm: norm, bytes_received: received, bytes_received_f32 })
    }

    /// What this rank brings to the mean: its parameters, or for eight bits its movement and what was rounded away before.
    fn contribution<'a>(&self, parameters: &'a [f32]) -> Cow<'a, [f32]> {
        if self.config.exchange == OuterExchange::F32 {
            return Cow::Borrowed(parameters);
        }
        let mut movement: Vec<f32> = self.anchor.iter().zip(parameters).map(|(from, to)| from - to).collect();
        for (value, error) in movement.iter_mut().zip(self.feedback.iter().flat_map(|feedback| &feedback.movement)) {
            *value += error;
        }
        Cow::Owned(movement)
    }

    /// Makes sure that the step will succeed on all ranks or on none; the bytes that came for it.
    fn agree(&self, collective: &dyn Collective, n_parameters: usize, contribution: &[f32]) -> Result<u64> {
        const ALL_FINITE: u64 = u64::MAX;
        let not_finite = contribution.iter().position(|value| !value.is_finite());
        let facts =
            [n_parameters as u64, self.n_steps, self.digest(), not_finite.map_or(ALL_FINITE, |index| index as u64)];
        let bytes: Vec<u8> = facts.iter().flat_map(|fact| fact.to_le_bytes()).collect();
        let all = collective.gather_bytes(&bytes)?;
        let fact = |rank: usize, index: usize| {
            let bytes = all[rank].as_chunks().0.get(index);
            bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        let ranks = || 0..all.len();
        for (index, what) in ["number of parameters", "number of outer steps", "outer state"].into_iter().enumerate() {
            if let Some(rank) = ranks().find(|&rank| fact(rank, index) != fact(0, index)) {
                return Err(Error::RanksDisagree { rank, what });
            }
        }
        let counts = |what, expected, found| {
            if expected == found { Ok(()) } else { Err(Error::Counts { what, expected, found }) }
        };
        counts("parameters", self.anchor.len(), n_parameters)?;
        if let Some(feedback) = &self.feedback {
            counts("ranks", feedback.n_ranks, collective.size())?;
        }
        if let Some(rank) = ranks().find(|&rank| fact(rank, 3) != ALL_FINITE) {
            return Err(Error::ParameterNotFinite { rank, index: fact(rank, 3) as usize });
        }
        Ok(((all.len() - 1) * bytes.len()) as u64)
    }

    /// Of all that must be the same on every rank.
    fn digest(&self) -> u64 {
        let Self { config: OuterConfig { learning_rate, momentum, exchange }, anchor, velocity, feedback, .. } = self;
        let exchange = match exchange {
            OuterExchange::F32 => 0,
            OuterExchange::Int8 { error_feedback } => 1 + u64::from(*error_feedback),
        };
        let n_ranks = feedback.as_ref().map_or(0, |feedback| feedback.n_ranks as u64);
        let words = [learning_rate.to_bits(), momentum.to_bits(), exchange, n_ranks];
        let values = anchor.iter().chain(velocity).map(|value| u64::from(value.to_bits()));
        // FNV-1a, by words.
        words
            .into_iter()
            .chain(values)
            .fold(0xCBF2_9CE4_8422_2325, |digest, word| (digest ^ word).wrapping_mul(0x0000_0100_0000_01B3))
    }

    /// The outer step, given the mean of all contributions; the norm of the pseudo-gradient.
    fn descend(&mut self, mean: &[f32]) -> Result<f64> {
        let OuterConfig { learning_rate, momentum, exchange } = self.config;
        let gradient = |anchor: f32, mean: f32| match exchange {
            OuterExchange::F32 => f64::from(anchor) - f64::from(mean),
            OuterExchange::Int8 { .. } => f64::from(mean),
        };
        let next = |anchor: f32, velocity: f32, mean: f32| {
            let gradient = gradient(anchor, mean);
            let velocity = (momentum * f64::from(velocity) + gradient) as f32;
            // a - lr g, written so that a mean of parameters taken whole (lr 1) is that mean to the last bit.
            let mean = match exchange {
                OuterExchange::F32 => f64::from(mean),
                OuterExchange::Int8 { .. } => f64::from(anchor) - gradient,
            };
            let plain = (1.0 - learning_rate) * f64::from(anchor) + learning_rate * mean;
            (velocity, (plain - learning_rate * momentum * f64::from(velocity)) as f32)
        };
        let state = || self.anchor.iter().zip(&self.velocity).zip(mean);
        let overflow = state().position(|((&anchor, &velocity), &mean)| {
            let (velocity, anchor) = next(anchor, velocity, mean);
            !(velocity.is_finite() && anchor.is_finite())
        });
        if let Some(index) = overflow {
            return Err(Error::OuterOverflow { index });
        }
        let squares = state().map(|((&anchor, _), &mean)| gradient(anchor, mean).powi(2));
        let norm = squares.sum::<f64>().sqrt();
        for ((anchor, velocity), &mean) in self.anchor.iter_mut().zip(&mut self.velocity).zip(mean) {
            (*velocity, *anchor) = next(*anchor, *velocity, mean);
        }
        Ok(norm)
    }
}

/// Who takes the mean of which parameters.
struct Segments<'a> {
    collective: &'a dyn Collective,
    counts: Vec<usize>,
    /// Of this rank's segment.
    count: usize,
}

impl<'a> Segments<'a> {
    fn new(collective: &'a dyn Collective, n_parameters: usize) -> Self {
        let (rank, size) = (collective.rank(), collective.size());
        let counts: Vec<usize> = (0..size).map(|rank| share(n_parameters, rank, size).len()).collect();
        Self { collective, count: counts[rank], counts }
    }

    fn total(&self) -> usize {
        self.counts.iter().sum()
    }

    /// Bytes that come to this rank in [`Segments::mean`].
    fn bytes_f32(&self) -> u64 {
        let exchanged = (self.counts.len() - 1) * self.count;
        ((exchanged + self.total() - self.count) * size_of::<f32>()) as u64
    }

    /// The mean of every rank's values.
    fn mean(&self, values: &[f32]) -> Result<Vec<f32>> {
        let size = self.counts.len();
        let mut segments = vec![0.0; size * self.count];
        self.collective.exchange_segments(values, &self.counts, &mut segments, &vec![self.count; size])?;
        let segments: Vec<&[f32]> = (0..size).map(|rank| &segments[rank * self.count..][..self.count]).collect();
        let own: Vec<f32> = (0..self.count).map(|index| mean_at(&segments, index) as f32).collect();
        let mut all = vec![0.0; self.total()];
        self.collective.gather_segments(&own, &mut all, &self.counts)?;
        Ok(all)
    }

    /// As [`Segments::mean`], of values in eight bits; what was rounded away, and the bytes that came.
    fn mean_in_eight_bits(&self, values: &[f32], feedback: Option<&Feedback>) -> Result<(Vec<f32>, Feedback, u64)> {
        let (rank, n_ranks) = (self.collective.rank(), self.counts.len());
        let mut rest = values;
        let parts = self.counts.iter().map(|&count| encode(rest.split_off(..count).unwrap_or_default()));
        let parts: Vec<Vec<u8>> = parts.collect();
        let movement = lost(values, &self.decoded(&parts)?);

        let exchanged = self.collective.exchange_bytes(&parts)?;
        let segments = exchanged.iter().map(|bytes| decode(bytes, self.count)).collect::<Result<Vec<_>>>()?;
        let error = |index: usize| {
            feedback.and_then(|feedback| feedback.mean.get(index)).map_or(0.0, |&error| f64::from(error))
        };
        let own: Vec<f32> = (0..self.count).map(|index| (mean_at(&segments, index) + error(index)) as f32).collect();

        let encoded = encode(&own);
        let gathered = self.collective.gather_bytes(&encoded)?;
        let mean = lost(&own, &decode(&encoded, self.count)?);
        let of_others = |parts: &[Vec<u8>]| parts.iter().map(Vec::len).sum::<usize>() - parts[rank].len();
        let bytes = of_others(&exchanged) + of_others(&gathered);
        Ok((self.decoded(&gathered)?, Feedback { n_ranks, movement, mean }, bytes as u64))
    }

    /// Every segment's values from its bytes.
    fn decoded(&self, parts: &[Vec<u8>]) -> Result<Vec<f32>> {
        let mut values = Vec::with_capacity(self.total());
        for (part, &count) in parts.iter().zip(&self.counts) {
            values.extend(decode(part, count)?);
        }
        Ok(values)
    }
}

/// The mean over ranks, in order of rank.
fn mean_at(segments: &[impl AsRef<[f32]>], index: usize) -> f64 {
    segments.iter().map(|segment| f64::from(segment.as_ref()[index])).sum::<f64>() / segments.len() as f64
}

fn lost(values: &[f32], rounded: &[f32]) -> Vec<f32> {
    values.iter().zip(rounded).map(|(value, rounded)| value - rounded).collect()
}

/// An [`OuterOptimizer`] of which nothing is known yet.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    config: OuterConfig,
    n_steps: u64,
    anchor: Vec<f32>,
    velocity: Vec<f32>,
    feedback: Option<Feedback>,
}

impl TryFrom<Saved> for OuterOptimizer {
    type Error = Error;

    fn try_from(Saved { config, n_steps, anchor, velocity, feedback }: Saved) -> Result<Self> {
        config.check()?;
        let expected = anchor.len();
        let lengths = [
            ("velocities", velocity.len()),
            ("errors of rounding", feedback.as_ref().map_or(expected, |feedback| feedback.movement.len())),
        ];
        for (what, found) in lengths {
            if found != expected {
                return Err(Error::Counts { what, expected, found });
            }
        }
        Ok(Self { config, n_steps, anchor, velocity, feedback })
    }
}

#[cfg(test)]
mod tests;
