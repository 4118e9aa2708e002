//! A router over a table, many times.

use krystal::math::permutation;
use krystal::math::rng::Purpose;
use krystal::math::statistics::{mean, quantile, std};

use super::{Features, Router, Table};

/// What routers of many seeds were worth.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Replay {
    pub(crate) seeds: usize,
    /// Mean worth per question over the seeds, and its standard deviation between them.
    pub(crate) worth: f64,
    pub(crate) worth_std: f64,
    /// Per question, against the best fixed choice: positive where that is better. Mean, standard deviation, and the range of nine
    /// seeds in ten.
    pub(crate) regret: f64,
    pub(crate) regret_std: f64,
    pub(crate) regret_range: (f64, f64),
    /// Share of the seeds in which the router was better than the best fixed choice.
    pub(crate) won: f64,
    /// Share of questions that went to each model.
    pub(crate) shares: Vec<f64>,
}

/// Has `seeds` routers learn over the whole table, each in an order of its own: the mistakes of learning count.
pub(crate) fn replay(table: &Table, features: &Features, seeds: usize, seed: u64) -> anyhow::Result<Replay> {
    let n_models = table.rows.first().map_or(0, Vec::len);
    let best = table.best_fixed().map_or(0.0, |(_, worth)| worth);
    let mut worths = Vec::with_capacity(seeds);
    let mut chosen = vec![0_usize; n_models];
    for run in 0..seeds as u64 {
        let seed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(run);
        let mut router = Router::new(n_models, features.dim(), seed)?;
        let mut worth = Vec::with_capacity(table.rows.len());
        for i in permutation(table.rows.len(), seed, Purpose::Resampling, 0) {
            let model = router.choose(features.row(i))?;
            router.learn(features.row(i), model, table.rows[i][model])?;
            chosen[model] += 1;
            worth.push(table.rows[i][model]);
        }
        worths.push(mean(&worth));
    }
    let regrets: Vec<f64> = worths.iter().map(|worth| best - worth).collect();
    let all = chosen.iter().sum::<usize>().max(1) as f64;
    Ok(Replay {
        seeds,
        worth: mean(&worths),
        worth_std: std(&worths, 1),
        regret: mean(&regrets),
        regret_std: std(&regrets, 1),
        regret_range: (quantile(&regrets, 0.05).unwrap_or(f64::NAN), quantile(&regrets, 0.95).unwrap_or(f64::NAN)),
        won: regrets.iter().filter(|regret| **regret < 0.0).count() as f64 / seeds.max(1) as f64,
        shares: chosen.into_iter().map(|n| n as f64 / all).collect(),
    })
}

#[cfg(test)]
mod tests {
    use krystal::grpo::data::{Prompt, Record};
    use serde_json::json;

    use super::*;

    /// Features of questions whose column `task` is their number modulo `kinds`.
    fn features(n: usize, kinds: usize) -> Features {
        let record = |i: usize| Record {
            prompt: Prompt::Text(format!("question {i}")),
            columns: json!({ "task": format!("kind {}", i % kinds) }).as_object().unwrap().clone(),
        };
        Features::of(&(0..n).map(record).collect::<Vec<_>>())
    }

    #[test]
    fn a_router_wins_where_models_are_good_at_different_things() {
        let rows = (0..400).map(|i| if i % 2 == 0 { vec![1.0, 0.1] } else { vec![0.1, 1.0] }).collect();
        let table = Table { rows };
        let replay = replay(&table, &features(400, 2), 50, 1).unwrap();
        assert!(replay.regret < -0.25 && replay.won == 1.0, "{replay:?}");
        assert!(replay.worth < table.oracle() && replay.worth > table.random());
    }

    #[test]
    fn a_router_loses_what_it_costs_to_learn_where_one_model_is_best() {
        let table = Table { rows: (0..400).map(|_| vec![0.2, 0.9, 0.1]).collect() };
        let replay = replay(&table, &features(400, 3), 50, 1).unwrap();
        assert!(replay.regret > 0.0 && replay.regret < 0.06 && replay.won == 0.0, "{replay:?}");
        assert!(replay.shares[1] > 0.9);
        assert_eq!(table.best_fixed().unwrap().0, 1);
        assert_eq!(super::replay(&table, &features(400, 3), 50, 1).unwrap(), replay);
    }
}
