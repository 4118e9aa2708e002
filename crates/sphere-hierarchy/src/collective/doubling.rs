//! All-gather in few messages, for buffers so small that latency is what they cost.

use super::{Collective, check_gather};
use crate::error::Result;

/// Below this many bytes in all, [`gather`] is by doubling. At 25 Gbit/s and 30 us a message, 1 MiB is where 12 ranks that go
/// round in a ring wait as long for the eleven messages as for their bytes.
pub const SMALL_BYTES: usize = 1 << 20;

/// All-gather by the way that suits the length: [`gather_by_doubling`] below [`SMALL_BYTES`],
/// [`Collective::gather_segments`] from there on.
///
/// # Errors
/// As [`Collective::gather_segments`].
pub fn gather(collective: &dyn Collective, mine: &[f32], all: &mut [f32], counts: &[usize]) -> Result<()> {
    if size_of_val(all) < SMALL_BYTES {
        gather_by_doubling(collective, mine, all, counts)
    } else {
        collective.gather_segments(mine, all, counts)
    }
}

/// All-gather in `ceil(log2 n)` steps of [`Collective::send_receive`], with the result of [`Collective::gather_segments`].
///
/// Recursive doubling as Bruck et al. have it, for any number of ranks: after step `k` each rank holds the segments of itself
/// and of the `2^(k + 1) - 1` ranks after it, going round, and passes all it has (at most what is still missing) to the rank
/// `2^(k + 1)` before it.
///
/// Reference: Bruck, Ho, Kipnis, Upfal, Weathersby, "Efficient algorithms for all-to-all communications in multiport
/// message-passing systems", IEEE TPDS 8(11), 1997, doi 10.1109/71.642949.
///
/// # Errors
/// As [`Collective::gather_segments`].
pub fn gather_by_doubling(collective: &dyn Collective, mine: &[f32], all: &mut [f32], counts: &[usize]) -> Result<()> {
    check_gather(collective, mine, all, counts)?;
    let (rank, size) = (collective.rank(), collective.size());
    // Segments in order of rank, beginning with this one; those of `n` ranks end at `ends(n)`.
    let mut held = vec![0.0; all.len()];
    let ends = |n: usize| (0..n).map(|step| counts[(rank + step) % size]).sum::<usize>();
    held[..mine.len()].copy_from_slice(mine);
    let mut distance = 1;
    while distance < size {
        let n = distance.min(size - distance);
        let (to, from) = ((rank + size - distance) % size, (rank + distance) % size);
        let (send, recv) = held.split_at_mut(ends(distance));
        let received = ends(distance + n) - send.len();
        collective.send_receive(to, &send[..ends(n)], from, &mut recv[..received])?;
        distance *= 2;
    }
    // Rank 0 comes after the last one.
    held.rotate_left(ends((size - rank) % size));
    all.copy_from_slice(&held);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collective::on_each;
    use crate::error::Error;

    #[test]
    fn it_gathers_what_the_engine_gathers() {
        for size in 1..=9 {
            for spread in [0, 1, 5] {
                let counts: Vec<usize> = (0..size).map(|rank| rank * 7 % 4 * spread).collect();
                let total = counts.iter().sum();
                let results = on_each(size, |rank| {
                    let mine: Vec<f32> = (0..counts[rank.rank()]).map(|i| (rank.rank() * 100 + i) as f32).collect();
                    let mut expected = vec![-1.0; total];
                    rank.gather_segments(&mine, &mut expected, &counts)?;
                    let mut found = vec![-2.0; total];
                    gather_by_doubling(&rank, &mine, &mut found, &counts)?;
                    Ok::<_, Error>((expected, found))
                });
                for result in results {
                    let (expected, found) = result.unwrap();
                    assert_eq!(expected, found, "{counts:?}");
                }
            }
        }
    }

    #[test]
    fn either_way_gives_the_same() {
        for count in [SMALL_BYTES / 4 / 3, SMALL_BYTES / 4 / 3 + 1] {
            let results = on_each(3, |rank| {
                let mut all = vec![0.0; 3 * count];
                gather(&rank, &vec![rank.rank() as f32; count], &mut all, &[count; 3]).map(|()| all)
            });
            for all in results {
                assert!(all.unwrap().iter().enumerate().all(|(index, value)| *value == (index / count) as f32));
            }
        }
    }

    #[test]
    fn wrong_counts_are_refused() {
        let refused = on_each(2, |rank| gather_by_doubling(&rank, &[1.0], &mut [0.0; 3], &[1, 1]));
        assert!(refused.iter().all(|result| matches!(result, Err(Error::Counts { .. }))));
    }
}
