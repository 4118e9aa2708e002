//! Samples of the ranks that are here.

use super::{Kind, Sample};
use crate::collective::Collective;
use crate::error::Result;
use crate::reduce::{Accumulation, reduce};

/// Timings of which the median is kept.
const ROUNDS: usize = 9;
/// Bytes that a timing should move, so that the clock's grain is small beside it.
const BYTES_OF_A_TIMING: usize = 1 << 20;
/// Operations of one timing at most.
const MOST_REPEATS: usize = 64;
/// Buffers summed in one go: as many as the kernel reads in one pass.
const ADDENDS: usize = 8;

/// Times messages between the first two ranks, exchanges of segments between all, and sums on each, for buffers of so many f32;
/// `clock` gives seconds from any moment on.
///
/// Every rank calls it with the same lengths and gets the same samples: of each the median of nine timings, and of the ranks the
/// slowest. Lengths that cannot be divided are not; one rank times sums alone. How often anything is repeated depends on its length only, so
/// no rank waits for another that has had enough.
///
/// # Errors
/// As the methods of [`Collective`].
pub fn calibrate(
    collective: &dyn Collective,
    clock: &mut dyn FnMut() -> f64,
    lengths: &[usize],
) -> Result<Vec<Sample>> {
    let (rank, size) = (collective.rank(), collective.size());
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let (send, mut recv) = (vec![1.0_f32; longest], vec![0.0; longest]);
    let mut samples = Vec::new();
    for &length in lengths.iter().filter(|&&length| length > 0) {
        let mut keep = |kind, length: usize, seconds| {
            samples.push(Sample { kind, machines: size, bytes: (length * size_of::<f32>()) as u64, seconds });
        };
        if size > 1 {
            // Ranks that have no part in it talk to themselves: all call the same.
            let (partner, share) = if rank < 2 { (1 - rank, length) } else { (rank, 0) };
            let seconds = time(collective, clock, length, || {
                collective.send_receive(partner, &send[..share], partner, &mut recv[..share])
            })?;
            keep(Kind::SendReceive, length, seconds);
        }
        let part = length / size;
        if size > 1 && part > 0 {
            let (counts, all) = (vec![part; size], part * size);
            let seconds = time(collective, clock, all, || {
                collective.exchange_segments(&send[..all], &counts, &mut recv[..all], &counts)
            })?;
            keep(Kind::Exchange, all, seconds);
        }
        let addend = length / ADDENDS;
        if addend > 0 {
            let addends: Vec<&[f32]> = send[..ADDENDS * addend].chunks_exact(addend).collect();
            let seconds = time(collective, clock, ADDENDS * addend, || {
                reduce(&addends, &[], Accumulation::Plain, &mut recv[..addend]).map(|_| ())
            })?;
            keep(Kind::Add, ADDENDS * addend, seconds);
        }
    }
    slowest(collective, samples)
}

/// Median seconds of one `operation` on `length` numbers.
fn time(
    collective: &dyn Collective,
    clock: &mut dyn FnMut() -> f64,
    length: usize,
    mut operation: impl FnMut() -> Result<()>,
) -> Result<f64> {
    let repeats = (BYTES_OF_A_TIMING / (length * size_of::<f32>())).clamp(1, MOST_REPEATS);
    operation()?;
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        collective.barrier()?;
        let start = clock();
        for _ in 0..repeats {
            operation()?;
        }
        times.push((clock() - start) / repeats as f64);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[ROUNDS / 2])
}

/// Each sample as the rank saw it that saw it longest.
fn slowest(collective: &dyn Collective, mut samples: Vec<Sample>) -> Result<Vec<Sample>> {
    let mine: Vec<u8> = samples.iter().flat_map(|sample| sample.seconds.to_le_bytes()).collect();
    for theirs in collective.gather_bytes(&mine)? {
        let (seconds, _) = theirs.as_chunks();
        for (sample, seconds) in samples.iter_mut().zip(seconds) {
            sample.seconds = sample.seconds.max(f64::from_le_bytes(*seconds));
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::collective::{InProcess, Local};
    use crate::cost_model::{Algorithm, CostModel};
    use crate::error::Error;

    /// A rank whose messages take as long as a model says, by a clock of its own.
    #[derive(Debug)]
    struct Modelled<'a> {
        model: &'a CostModel,
        seconds: &'a Cell<f64>,
        rank: usize,
        size: usize,
    }

    impl Modelled<'_> {
        fn pass(&self, messages: usize, send: &[f32]) -> Result<()> {
            let seconds = messages as f64 * self.model.message_s(size_of_val(send) as f64);
            self.seconds.set(self.seconds.get() + seconds);
            Ok(())
        }
    }

    impl Collective for Modelled<'_> {
        fn rank(&self) -> usize {
            self.rank
        }

        fn size(&self) -> usize {
            self.size
        }

        fn exchange_segments(&self, send: &[f32], counts: &[usize], _: &mut [f32], _: &[usize]) -> Result<()> {
            self.pass(self.size - 1, &send[..counts[0]])
        }

        fn gather_segments(&self, mine: &[f32], _: &mut [f32], _: &[usize]) -> Result<()> {
            self.pass(self.size - 1, mine)
        }

        fn send_receive(&self, to: usize, send: &[f32], _: usize, _: &mut [f32]) -> Result<()> {
            self.pass(usize::from(to != self.rank), send)
        }

        fn exchange_bytes(&self, parts: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
            Ok(parts.to_vec())
        }

        fn gather_bytes(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
            Ok(vec![mine.to_vec(); self.size])
        }

        fn broadcast(&self, _: usize, _: &mut Vec<u8>) -> Result<()> {
            Ok(())
        }

        fn barrier(&self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn ranks_that_follow_a_model_are_fitted_by_it() {
        let truth = CostModel::new(30e-6, 1.0 / 3.1e9, 0.0).unwrap();
        let seconds = Cell::new(0.0);
        // Sums take the ranks no time but that of asking: a tick, far below everything else.
        let mut clock = || {
            seconds.set(seconds.get() + 1e-12);
            seconds.get()
        };
        for (rank, size) in [(0, 2), (1, 5)] {
            let ranks = Modelled { model: &truth, seconds: &seconds, rank, size };
            let samples = calibrate(&ranks, &mut clock, &[0, 1, 100, 10_000, 1_000_000]).unwrap();
            let count = |kind| samples.iter().filter(|sample| sample.kind == kind).count();
            assert_eq!((count(Kind::SendReceive), count(Kind::Exchange), count(Kind::Add)), (4, 3, 3));
            let fit = CostModel::fit(&samples).unwrap();
            let predicted = |model: &CostModel| model.seconds(Algorithm::Ring, 144, 40_000_000);
            assert!((predicted(&fit.model) / predicted(&truth) - 1.0).abs() < 1e-3, "{:?}", fit.model);
        }
    }

    #[test]
    fn every_rank_gets_the_samples_of_the_slowest() {
        let results = std::thread::scope(|scope| {
            let measure = |rank: InProcess| {
                // So that a timing takes as many seconds as the rank has neighbours before it, and one more.
                let tick = (rank.rank() + 1) as f64;
                let mut now = 0.0;
                let mut clock = || {
                    now += tick;
                    now
                };
                calibrate(&rank, &mut clock, &[1 << 18])
            };
            let threads: Vec<_> =
                InProcess::group(3).into_iter().map(|rank| scope.spawn(move || measure(rank))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Result<Vec<_>, Error>>().unwrap()
        });
        assert!(results.iter().all(|samples| *samples == results[0]));
        let seconds: Vec<f64> = results[0].iter().map(|sample| sample.seconds).collect();
        assert_eq!(seconds, [3.0; 3]);
        assert_eq!(results[0][1].bytes, 4 * ((1 << 18) / 3) * 3);
    }

    #[test]
    fn one_rank_times_sums_alone() {
        let mut now = 0.0;
        let mut clock = || {
            now += 1.0;
            now
        };
        let samples = calibrate(&Local, &mut clock, &[0, 8, 1 << 20]).unwrap();
        let expected = [(32, 1.0 / 64.0), (4 << 20, 1.0)];
        assert!(samples.iter().all(|sample| (sample.kind, sample.machines) == (Kind::Add, 1)));
        let found: Vec<_> = samples.iter().map(|sample| (sample.bytes, sample.seconds)).collect();
        assert_eq!(found, expected);
        assert!(matches!(CostModel::fit(&samples), Err(Error::Undetermined { .. })));
        assert_eq!(calibrate(&Local, &mut clock, &[]).unwrap(), []);
    }
}
