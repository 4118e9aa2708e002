//! Counts of values in buckets.

/// Values counted by the first boundary that is not below them.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    pub(super) boundaries: &'static [f64],
    /// One more than boundaries: the last is for what is above all of them.
    pub(super) buckets: Vec<u64>,
    pub(super) sum: f64,
}

impl Histogram {
    pub(super) fn new(boundaries: &'static [f64]) -> Self {
        Self { boundaries, buckets: vec![0; boundaries.len() + 1], sum: 0.0 }
    }

    pub(super) fn record(&mut self, value: f64) {
        let bucket = self.boundaries.partition_point(|boundary| *boundary < value);
        self.buckets[bucket] += 1;
        self.sum += value;
    }

    /// Takes in what another one of the same boundaries has counted.
    pub(super) fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(mine, theirs)| *mine += theirs);
        self.sum += other.sum;
    }

    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boundary_belongs_to_the_bucket_below() {
        let mut histogram = Histogram::new(&[1.0, 4.0, 16.0]);
        [0.0, 1.0, 1.5, 4.0, 16.0, 17.0].into_iter().for_each(|value| histogram.record(value));
        assert_eq!(histogram.buckets, [2, 2, 1, 1]);
        let twice = &mut histogram.clone();
        twice.add(&histogram);
        assert_eq!((twice.count(), twice.sum), (12, 2.0 * 39.5));
    }
}
