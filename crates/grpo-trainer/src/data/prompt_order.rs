//! Which records are visited when.

use krystal_math::{permutation, rng::Purpose};

/// The order of records, one permutation per epoch, in chunks.
///
/// As TRL's `RepeatSampler`: each epoch visits the records in a random order, in chunks of equal size, and leaves out the
/// remainder that does not fill a chunk. An epoch's order depends on `(seed, epoch)` alone, so that a position is all a
/// resumed run needs. (That a chunk serves several steps is the trainer's business.)
#[derive(Debug, Clone)]
pub struct PromptOrder {
    n_records: usize,
    chunk: usize,
    seed: u64,
    purpose: Purpose,
    shuffle: bool,
    cached: Option<(u64, Vec<usize>)>,
}

impl PromptOrder {
    /// Orders `n_records` records in chunks of `chunk`; without `shuffle` as they stand. `None` where no chunk can be filled.
    pub fn new(n_records: usize, chunk: usize, seed: u64, purpose: Purpose, shuffle: bool) -> Option<Self> {
        let can_fill = chunk > 0 && n_records >= chunk;
        can_fill.then_some(Self { n_records, chunk, seed, purpose, shuffle, cached: None })
    }

    /// Chunks in an epoch.
    pub fn chunks_per_epoch(&self) -> u64 {
        (self.n_records / self.chunk) as u64
    }

    /// Records of chunk `position`, counted from the start of the run.
    pub fn chunk(&mut self, position: u64) -> Vec<usize> {
        let epoch = position / self.chunks_per_epoch();
        let start = (position % self.chunks_per_epoch()) as usize * self.chunk;
        if !self.shuffle {
            return (start..start + self.chunk).collect();
        }
        if self.cached.as_ref().is_none_or(|(cached, _)| *cached != epoch) {
            self.cached = Some((epoch, permutation(self.n_records, self.seed, self.purpose, epoch)));
        }
        let order = self.cached.as_ref().map_or(&[][..], |(_, order)| order);
        order[start..start + self.chunk].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> PromptOrder {
        PromptOrder::new(11, 3, 7, Purpose::PromptOrder, true).unwrap()
    }

    #[test]
    fn an_epoch_visits_each_record_at_most_once() {
        let mut order = order();
        assert_eq!(order.chunks_per_epoch(), 3);
        let mut seen: Vec<usize> = (0..3).flat_map(|i| order.chunk(i)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 9);
        assert_ne!(
            (0..3).map(|i| order.chunk(i)).collect::<Vec<_>>(),
            (3..6).map(|i| order.chunk(i)).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_position_is_all_it_takes() {
        let mut from_start = order();
        let all: Vec<_> = (0..10).map(|i| from_start.chunk(i)).collect();
        for (i, chunk) in all.iter().enumerate() {
            assert_eq!(&order().chunk(i as u64), chunk);
        }
    }

    #[test]
    fn too_few_records_fill_no_chunk() {
        assert!(PromptOrder::new(2, 3, 0, Purpose::PromptOrder, true).is_none());
        assert!(PromptOrder::new(2, 0, 0, Purpose::PromptOrder, true).is_none());
        assert_eq!(PromptOrder::new(5, 2, 0, Purpose::PromptOrder, false).unwrap().chunk(3), [2, 3]);
    }
}
