//! Random orders.

use rand::RngExt;

use crate::rng::{Purpose, stream_rng};

/// A uniform permutation of `0..n`, addressed like every other draw: by seed, purpose and stream.
///
/// Fisher and Yates from the last place down, in O(n). A change of algorithm is value-breaking.
///
/// ```
/// use krystal_math::{permutation, rng::Purpose};
///
/// let order = permutation(5, 42, Purpose::PromptOrder, 0);
/// assert_eq!(order, permutation(5, 42, Purpose::PromptOrder, 0));
/// let mut sorted = order;
/// sorted.sort();
/// assert_eq!(sorted, [0, 1, 2, 3, 4]);
/// ```
pub fn permutation(n: usize, seed: u64, purpose: Purpose, stream: u64) -> Vec<usize> {
    let mut rng = stream_rng(seed, purpose, stream, 0);
    let mut order: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        // Drawn as u64 so that 32-bit machines get the same order.
        let chosen = rng.random_range(0..=last as u64) as usize;
        order.swap(last, chosen);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_of_three_is_about_as_frequent() {
        let mut counts = std::collections::BTreeMap::new();
        for stream in 0..6000 {
            *counts.entry(permutation(3, 1, Purpose::PromptOrder, stream)).or_insert(0_u32) += 1;
        }
        assert_eq!(counts.len(), 6);
        // Chi-square with 5 degrees of freedom; 25.7 is passed by chance once in 10,000 seeds. The seed is fixed.
        let chi2: f64 = counts.values().map(|&c| (f64::from(c) - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi2 < 25.7, "{chi2}");
    }

    #[test]
    fn nothing_and_one_have_one_order() {
        assert!(permutation(0, 1, Purpose::PromptOrder, 0).is_empty());
        assert_eq!(permutation(1, 1, Purpose::PromptOrder, 0), [0]);
    }
}
