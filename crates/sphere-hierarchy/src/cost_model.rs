//! How long ranks take to add up their gradients: a model of latency, bandwidth and additions.
//!
//! A message of `b` bytes takes `latency + b * seconds_per_byte`, adding `b` bytes takes `b * add_seconds_per_byte`, a machine
//! sends one message and receives one at a time, and nothing else costs anything. Both numbers may change with the size of
//! the message, as they do where a library goes over from buffered to announced messages.
//!
//! What follows from it is a prediction, never a measurement.

mod fit;
mod forecast;
mod measure;

pub use fit::{Fit, Kind, Residual, Sample};
pub use forecast::{Crossover, Forecast, Prediction};
pub use measure::calibrate;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::tree::ARITY;

/// What messages from a size on cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Link {
    /// Bytes of the smallest message that this is true of.
    pub from_bytes: u64,
    /// Seconds of a message without content, at least 0.
    pub latency_s: f64,
    /// Seconds that each byte adds, at least 0: one over the bandwidth.
    pub seconds_per_byte: f64,
}

/// A way in which `n` machines come to know the sum of their gradients of `M` bytes each; `a` and `b` stand for latency and
/// seconds per byte, `c` for seconds per byte added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Algorithm {
    /// Whole gradients to the first of every twelve machines, level by level, and whole sums back: a level takes
    /// `22 (a + M b) + 11 M c`.
    Tree,
    /// Exclusive segments, as this crate does it: each machine gets its `1/n` of every gradient, adds them, and all gather the
    /// sums, `2 (n - 1) (a + M/n b) + (n - 1) M/n c`. One message after another: the caution of the model.
    Segments,
    /// The same where the library posts all messages at once, so that only one latency of each half is waited for:
    /// `2 (a + (n - 1) M/n b) + (n - 1) M/n c`. The hope of the model.
    SegmentsAtOnce,
    /// The same as [`Algorithm::Segments`], but for a gather in `ceil(log2 n)` messages that double in size, as this crate does
    /// it with small gradients ([`gather_by_doubling`](crate::collective::gather_by_doubling)).
    SegmentsDoubling,
    /// Exclusive segments in groups of twelve, then among the owners of the same segment, and back.
    RecursiveSegments,
    /// Segments passed on to the next machine, twice around. Costs what [`Algorithm::Segments`] costs.
    Ring,
    /// Whole gradients between partners, at twice the distance every time; machines beyond a power of two hand theirs in and are
    /// told the sum. With `k` powers of two, `k (a + M b + M c)`.
    RecursiveDoubling,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Tree,
        Self::Segments,
        Self::SegmentsAtOnce,
        Self::SegmentsDoubling,
        Self::RecursiveSegments,
        Self::Ring,
        Self::RecursiveDoubling,
    ];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tree => "tree",
            Self::Segments => "segments",
            Self::SegmentsAtOnce => "segments_at_once",
            Self::SegmentsDoubling => "segments_doubling",
            Self::RecursiveSegments => "recursive_segments",
            Self::Ring => "ring",
            Self::RecursiveDoubling => "recursive_doubling",
        }
    }
}

/// What machines and the wire between them cost. [`CostModel::fit`] finds it from measurements.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CostModel {
    /// Ascending, the first from 0 bytes on.
    links: Vec<Link>,
    add_seconds_per_byte: f64,
}

impl CostModel {
    /// One latency and one bandwidth for messages of any size.
    ///
    /// # Errors
    /// As [`CostModel::with_links`].
    pub fn new(latency_s: f64, seconds_per_byte: f64, add_seconds_per_byte: f64) -> Result<Self> {
        Self::with_links(vec![Link { from_bytes: 0, latency_s, seconds_per_byte }], add_seconds_per_byte)
    }

    /// What a message costs by its size.
    ///
    /// # Errors
    /// [`Error::CostModel`] where a cost is negative or not finite, or the sizes are not 0 and then ascending.
    pub fn with_links(links: Vec<Link>, add_seconds_per_byte: f64) -> Result<Self> {
        let cost = |value: f64| value.is_finite() && value >= 0.0;
        if !cost(add_seconds_per_byte) || !links.iter().all(|link| cost(link.latency_s) && cost(link.seconds_per_byte))
        {
            return Err(Error::CostModel { what: "every cost must be finite and at least 0" });
        }
        let ascending = links.windows(2).all(|pair| pair[0].from_bytes < pair[1].from_bytes);
        if links.first().is_none_or(|link| link.from_bytes != 0) || !ascending {
            return Err(Error::CostModel { what: "the sizes from which links hold must be 0 and then ascend" });
        }
        Ok(Self { links, add_seconds_per_byte })
    }

    /// Costs of messages by size, ascending.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Seconds to add one byte to another.
    pub fn add_seconds_per_byte(&self) -> f64 {
        self.add_seconds_per_byte
    }

    fn link(&self, bytes: f64) -> Link {
        let above = self.links.partition_point(|link| link.from_bytes as f64 <= bytes);
        self.links[above.saturating_sub(1)]
    }

    /// Seconds of one message.
    pub fn message_s(&self, bytes: f64) -> f64 {
        let link = self.link(bytes);
        link.latency_s + bytes * link.seconds_per_byte
    }

    /// Seconds of adding one buffer to another.
    pub fn add_s(&self, bytes: f64) -> f64 {
        bytes * self.add_seconds_per_byte
    }

    /// Seconds until `machines` machines know the sum of their gradients of `bytes` bytes each; 0 for one machine.
    pub fn seconds(&self, algorithm: Algorithm, machines: usize, bytes: u64) -> f64 {
        if machines < 2 {
            return 0.0;
        }
        let bytes = bytes as f64;
        match algorithm {
            Algorithm::Tree => {
                levels(machines).map(|group| (group - 1.0) * (2.0 * self.message_s(bytes) + self.add_s(bytes))).sum()
            }
            Algorithm::Segments | Algorithm::Ring => self.segments_s(machines as f64, bytes),
            Algorithm::SegmentsAtOnce => {
                let hidden = machines as f64 - 2.0;
                let latency_s = self.link(bytes / machines as f64).latency_s;
                self.segments_s(machines as f64, bytes) - 2.0 * hidden * latency_s
            }
            Algorithm::SegmentsDoubling => {
                let segment = bytes / machines as f64;
                let exchange_s = (machines - 1) as f64 * (self.message_s(segment) + self.add_s(segment));
                let distances = std::iter::successors(Some(1), |distance| Some(2 * distance));
                let gather_s = distances
                    .take_while(|&distance| distance < machines)
                    .map(|distance| self.message_s(distance.min(machines - distance) as f64 * segment));
                exchange_s + gather_s.sum::<f64>()
            }
            Algorithm::RecursiveSegments => {
                let mut rest = bytes;
                levels(machines)
                    .map(|group| {
                        let seconds = self.segments_s(group, rest);
                        rest /= group;
                        seconds
                    })
                    .sum()
            }
            Algorithm::RecursiveDoubling => {
                let mut steps = f64::from(machines.ilog2());
                let mut messages = steps;
                if !machines.is_power_of_two() {
                    steps += 1.0;
                    messages += 2.0;
                }
                messages * self.message_s(bytes) + steps * self.add_s(bytes)
            }
        }
    }

    fn segments_s(&self, machines: f64, bytes: f64) -> f64 {
        let segment = bytes / machines;
        (machines - 1.0) * (2.0 * self.message_s(segment) + self.add_s(segment))
    }

    /// The fastest of `candidates`, the first of equals.
    pub fn fastest(&self, candidates: &[Algorithm], machines: usize, bytes: u64) -> Option<Algorithm> {
        let seconds = |algorithm: &Algorithm| self.seconds(*algorithm, machines, bytes);
        candidates.iter().copied().min_by(|a, b| seconds(a).total_cmp(&seconds(b)))
    }

    /// Bytes of gradient from which on `large` is no slower than `small`: 0 where it never is, `None` where it still is at a
    /// tebibyte. Where they change places several times, the last of the changes that sizes doubling from 1 byte show.
    pub fn crossover_bytes(&self, small: Algorithm, large: Algorithm, machines: usize) -> Option<u64> {
        const MOST: u32 = 40;
        let small_wins = |bytes: u64| self.seconds(small, machines, bytes) < self.seconds(large, machines, bytes);
        let Some(last) = (0..=MOST).rev().find(|&power| small_wins(1 << power)) else { return Some(0) };
        if last == MOST {
            return None;
        }
        let (mut wins, mut loses) = (1_u64 << last, 1_u64 << (last + 1));
        while loses - wins > 1 {
            let middle = wins.midpoint(loses);
            if small_wins(middle) {
                wins = middle;
            } else {
                loses = middle;
            }
        }
        Some(loses)
    }

    /// How many times sooner a step is done that takes one machine `compute_s`: `machines` divide the computation evenly and then
    /// add up, one after the other.
    pub fn speedup(&self, algorithm: Algorithm, machines: usize, bytes: u64, compute_s: f64) -> f64 {
        if machines < 2 {
            return 1.0;
        }
        compute_s / (compute_s / machines as f64 + self.seconds(algorithm, machines, bytes))
    }
}

/// Machines of a group at each level, from the machines up.
fn levels(machines: usize) -> impl Iterator<Item = f64> {
    let mut rest = machines;
    std::iter::from_fn(move || {
        let group = rest.min(ARITY);
        rest = rest.div_ceil(ARITY);
        (group > 1).then_some(group as f64)
    })
}

#[cfg(test)]
mod tests {
    use super::Algorithm::{
        RecursiveDoubling, RecursiveSegments, Ring, Segments, SegmentsAtOnce, SegmentsDoubling, Tree,
    };
    use super::*;

    /// 25 gigabit Ethernet, the additions of one core.
    fn ethernet() -> CostModel {
        CostModel::new(30e-6, 1.0 / 3.1e9, 1.0 / 15e9).unwrap()
    }

    fn milliseconds(algorithm: Algorithm, machines: usize, parameters: u64) -> f64 {
        ethernet().seconds(algorithm, machines, 4 * parameters) * 1e3
    }

    /// The figures of the project's study of collectives, printed by another program from formulas written down separately.
    #[test]
    fn published_predictions_are_met() {
        let published = [
            // n, P, tree, recursive segments, ring
            (12, 10_000_000, 342.40, 26.76, 26.76),
            (144, 10_000_000, 684.79, 29.60, 36.86),
            (1_728, 10_000_000, 1_027.19, 30.44, 132.08),
            (12, 100_000, 4.14, 0.92, 0.92),
            (144, 100_000, 8.27, 1.60, 8.86),
            (1_728, 100_000, 12.41, 2.26, 103.90),
        ];
        for (machines, parameters, tree, recursive, ring) in published {
            // Its parents are machines of their own above twelve others; ours is the first of the twelve and has one message less.
            let tree = tree * 11.0 / 12.0;
            for (algorithm, expected) in [(Tree, tree), (RecursiveSegments, recursive), (Ring, ring), (Segments, ring)]
            {
                let found = milliseconds(algorithm, machines, parameters);
                assert!((found - expected).abs() <= 0.006, "{algorithm:?} {machines} {parameters}: {found}");
            }
        }
    }

    #[test]
    fn steps_are_counted_by_hand() {
        let latency = CostModel::new(1.0, 0.0, 0.0).unwrap();
        let messages = |algorithm, machines| latency.seconds(algorithm, machines, 1_000);
        let algorithms = [Tree, Segments, SegmentsAtOnce, SegmentsDoubling, RecursiveSegments, Ring, RecursiveDoubling];
        assert_eq!(algorithms, Algorithm::ALL);
        for (machines, expected) in [
            (1, [0.0; 7]),
            (2, [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0]),
            (8, [14.0, 14.0, 2.0, 10.0, 14.0, 14.0, 3.0]),
            (13, [24.0, 24.0, 2.0, 16.0, 24.0, 24.0, 5.0]),
            (24, [24.0, 46.0, 2.0, 28.0, 24.0, 46.0, 6.0]),
        ] {
            assert_eq!(algorithms.map(|algorithm| messages(algorithm, machines)), expected, "{machines}");
        }
        let additions = CostModel::new(0.0, 0.0, 1.0).unwrap();
        let added = |algorithm| additions.seconds(algorithm, 12, 1_200);
        let wire = CostModel::new(0.0, 1.0, 0.0).unwrap();
        let sent = |algorithm| wire.seconds(algorithm, 12, 1_200);
        assert_eq!(algorithms.map(sent), [26_400.0, 2_200.0, 2_200.0, 2_200.0, 2_200.0, 2_200.0, 6_000.0]);
        assert_eq!(algorithms.map(added), [13_200.0, 1_100.0, 1_100.0, 1_100.0, 1_100.0, 1_100.0, 4_800.0]);
    }

    #[test]
    fn messages_cost_what_their_size_costs() {
        let link = |from_bytes, latency_s, seconds_per_byte| Link { from_bytes, latency_s, seconds_per_byte };
        let model = CostModel::with_links(vec![link(0, 1.0, 0.0), link(100, 5.0, 0.5)], 0.0).unwrap();
        assert_eq!([0.0, 99.0, 100.0, 200.0].map(|bytes| model.message_s(bytes)), [1.0, 1.0, 55.0, 105.0]);
        assert_eq!(model.seconds(Segments, 4, 400), 6.0 * 55.0);
        assert_eq!(model.seconds(Segments, 8, 400), 14.0);
        for wrong in [
            vec![],
            vec![link(1, 1.0, 0.0)],
            vec![link(0, 1.0, 0.0); 2],
            vec![link(0, -1.0, 0.0)],
            vec![link(0, 0.0, f64::NAN)],
        ] {
            assert!(matches!(CostModel::with_links(wrong, 0.0), Err(Error::CostModel { .. })));
        }
        assert!(CostModel::new(0.0, 0.0, f64::INFINITY).is_err());
    }

    #[test]
    fn small_gradients_are_doubled_and_large_ones_divided() {
        let model = ethernet();
        let ours = [RecursiveDoubling, Segments];
        for machines in [8, 12, 32, 48] {
            let crossover = model.crossover_bytes(RecursiveDoubling, Segments, machines).unwrap();
            assert!((100_000..2_000_000).contains(&crossover), "{machines}: {crossover}");
            assert_eq!(model.fastest(&ours, machines, crossover), Some(Segments));
            assert_eq!(model.fastest(&ours, machines, crossover - 1), Some(RecursiveDoubling));
        }
        // 14 - 3 latencies against 3 - 14/8 buffers, and 3 - 7/8 additions.
        let expected = 11.0 * 30e-6 / (1.25 / 3.1e9 + 2.125 / 15e9);
        let found = model.crossover_bytes(RecursiveDoubling, Segments, 8).unwrap() as f64;
        assert!((found - expected).abs() <= 1.0, "{found} {expected}");
        assert_eq!(model.crossover_bytes(Tree, Segments, 12), Some(0));
        assert_eq!(model.crossover_bytes(Segments, Tree, 12), None);
        assert_eq!(model.fastest(&[], 12, 1), None);
    }

    #[test]
    fn speed_is_what_computing_and_adding_leave() {
        let model = ethernet();
        let adding = model.seconds(Segments, 12, 40_000_000);
        let expected = 10.0 / (10.0 / 12.0 + adding);
        assert_eq!(model.speedup(Segments, 12, 40_000_000, 10.0), expected);
        assert_eq!(model.speedup(Segments, 1, 40_000_000, 10.0), 1.0);
        assert!(model.speedup(Tree, 12, 40_000_000, 10.0) < expected);
    }
}
