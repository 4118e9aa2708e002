//! From rewards to advantages: how much better a completion is than the others of its prompt.
//!
//! Letters: `N` completions, `G` of each prompt and next to each other, `F` reward functions; `R[n,f]` rewards, `w[f]` weights.

use krystal_math::statistics::{nan_mean, nan_std, sum};
use serde::{Deserialize, Serialize};

/// What an advantage is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScaleRewards {
    /// The standard deviation of the group.
    #[default]
    Group,
    /// The standard deviation of the batch.
    Batch,
    /// Nothing (Dr. GRPO).
    None,
}

/// How several rewards become one advantage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// Weighted sum, then normalised within the group.
    #[default]
    SumThenNormalize,
    /// Each reward normalised within the group, then summed and normalised over the batch (GDPO). `scale_rewards` is ignored.
    NormalizeThenSum,
}

/// Added to a standard deviation before dividing by it (TRL's value).
const STD_EPSILON: f64 = 1e-4;

/// Advantages of a batch, and what is logged about its rewards.
#[derive(Debug, Clone, PartialEq)]
pub struct Advantages {
    /// One per completion; 0 for a completion that every reward function abstained from.
    pub values: Vec<f64>,
    /// Weighted sum of the rewards of each completion; `None` where all abstained.
    pub rewards: Vec<Option<f64>>,
    /// Mean of each reward function over the completions it judged.
    pub function_mean: Vec<Option<f64>>,
    /// Standard deviation (n - 1) of each reward function; `None` for fewer than two verdicts.
    pub function_std: Vec<Option<f64>>,
    /// Mean weighted reward.
    pub reward: Option<f64>,
    /// Standard deviation (n - 1) of the weighted reward.
    pub reward_std: Option<f64>,
    /// Share of completions whose group (or batch) has no spread of rewards and so nothing to teach.
    pub frac_reward_zero_std: f64,
}

/// Advantages of `rewards` (`N` rows of `F`, `None` where a function abstained), `num_generations` (`G`) to a group.
///
/// ```text
/// sum_then_normalize: r = sum_f w R;  A = (r - mean_group r) / (std + 1e-4)
/// normalize_then_sum: z_f = (R_f - mean_group R_f) / (std_group R_f + 1e-4);  r = sum_f w z;
///                     A = (r - mean_batch r) / (std_batch r + 1e-4)
/// ```
///
/// Standard deviations have `n - 1` in the denominator. Abstentions are left out of every sum and mean; a completion
/// without any verdict, or alone with one in its group, gets advantage 0.
///
/// Computed in `f64` (TRL: `f32`). Equal rewards give exactly zero deviations here, where TRL may leave a rounding error.
///
/// # Panics
/// Where `weights` or a row has not `F` values, or `N` is no multiple of `G`.
pub fn compute_advantages(
    rewards: &[Vec<Option<f64>>],
    weights: &[f64],
    num_generations: usize,
    scale: ScaleRewards,
    aggregation: Aggregation,
) -> Advantages {
    assert!(num_generations > 0 && rewards.len().is_multiple_of(num_generations), "groups must be whole");
    let table: Vec<Vec<f64>> = rewards
        .iter()
        .map(|row| {
            assert_eq!(row.len(), weights.len(), "one reward per function");
            row.iter().map(|r| r.unwrap_or(f64::NAN)).collect()
        })
        .collect();
    let weighted = weighted_sums(&table, weights);
    let (values, std) = match aggregation {
        Aggregation::SumThenNormalize => {
            let mean = per_group(&weighted, num_generations, nan_mean);
            let std = match scale {
                ScaleRewards::Batch => vec![spread(&weighted); weighted.len()],
                ScaleRewards::Group | ScaleRewards::None => per_group(&weighted, num_generations, spread),
            };
            let divisor = |n: usize| {
                if scale == ScaleRewards::None { 1.0 } else { std[n] + STD_EPSILON }
            };
            ((0..weighted.len()).map(|n| (weighted[n] - mean[n]) / divisor(n)).collect(), std)
        }
        Aggregation::NormalizeThenSum => {
            let mut normalized = table.clone();
            for f in 0..weights.len() {
                let column = column(&table, f);
                let mean = per_group(&column, num_generations, nan_mean);
                let std = per_group(&column, num_generations, spread);
                for (n, row) in normalized.iter_mut().enumerate() {
                    row[f] = (column[n] - mean[n]) / (std[n] + STD_EPSILON);
                }
            }
            // A verdict that is alone in its group has no deviation to divide by and drops out of the sum, but the
            // completion was judged: only one that nobody judged is without a reward.
            let mut summed = weighted_sums(&normalized, weights);
            for (r, row) in summed.iter_mut().zip(&table) {
                if r.is_nan() && row.iter().any(|x| !x.is_nan()) {
                    *r = 0.0;
                }
            }
            let (mean, std) = (nan_mean(&summed), spread(&summed));
            let values: Vec<f64> = summed.iter().map(|r| (r - mean) / (std + STD_EPSILON)).collect();
            (values, vec![std; summed.len()])
        }
    };
    let n_without_spread = std.iter().filter(|s| s.abs() <= 1e-8).count();
    let columns: Vec<Vec<f64>> = (0..weights.len()).map(|f| column(&table, f)).collect();
    Advantages {
        values: values.into_iter().map(|a: f64| if a.is_nan() { 0.0 } else { a }).collect(),
        function_mean: columns.iter().map(|c| known(nan_mean(c))).collect(),
        function_std: columns.iter().map(|c| known(nan_std(c, 1))).collect(),
        reward: known(nan_mean(&weighted)),
        reward_std: known(nan_std(&weighted, 1)),
        rewards: weighted.into_iter().map(known).collect(),
        frac_reward_zero_std: n_without_spread as f64 / std.len().max(1) as f64,
    }
}

/// `sum_f w R` without abstentions; NaN where all abstained.
fn weighted_sums(table: &[Vec<f64>], weights: &[f64]) -> Vec<f64> {
    let row_sum = |row: &Vec<f64>| {
        if row.iter().all(|r| r.is_nan()) {
            return f64::NAN;
        }
        sum(row.iter().zip(weights).map(|(r, w)| r * w).filter(|x| !x.is_nan()))
    };
    table.iter().map(row_sum).collect()
}

fn column(table: &[Vec<f64>], f: usize) -> Vec<f64> {
    table.iter().map(|row| row[f]).collect()
}

/// A statistic of each group, repeated for its members.
fn per_group(values: &[f64], size: usize, statistic: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    values.chunks(size).flat_map(|group| vec![statistic(group); group.len()]).collect()
}

/// The standard deviation; 0 for a group of one (which happens in evaluation only).
fn spread(values: &[f64]) -> f64 {
    if values.len() > 1 { nan_std(values, 1) } else { 0.0 }
}

fn known(x: f64) -> Option<f64> {
    Some(x).filter(|x| !x.is_nan())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advantages_of_a_group_sum_to_zero() {
        let rewards: Vec<_> = [0.1, 0.9, 0.3, 0.3, 1.0, 0.0].iter().map(|&r| vec![Some(r)]).collect();
        for scale in [ScaleRewards::Group, ScaleRewards::Batch, ScaleRewards::None] {
            let a = compute_advantages(&rewards, &[1.0], 3, scale, Aggregation::SumThenNormalize);
            for group in a.values.chunks(3) {
                assert!(group.iter().sum::<f64>().abs() < 1e-12);
            }
            assert!(a.values[1] > a.values[0]);
        }
    }

    #[test]
    fn equal_rewards_teach_exactly_nothing() {
        let rewards = vec![vec![Some(0.1)]; 6];
        let a = compute_advantages(&rewards, &[0.3], 3, ScaleRewards::Group, Aggregation::SumThenNormalize);
        assert_eq!(a.values, [0.0; 6]);
        assert_eq!(a.frac_reward_zero_std, 1.0);
    }

    #[test]
    fn a_batch_nobody_judged_has_no_reward() {
        let a = compute_advantages(
            &vec![vec![None, None]; 4],
            &[1.0, 1.0],
            2,
            ScaleRewards::Group,
            Aggregation::NormalizeThenSum,
        );
        assert_eq!((a.values, a.reward, a.reward_std), (vec![0.0; 4], None, None));
    }
}
