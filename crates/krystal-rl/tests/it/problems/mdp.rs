//! Markov decision processes as tables, and their exact solution.

/// With probability `p`: this state and reward, and whether the episode is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) p: f64,
    pub(crate) state: usize,
    pub(crate) reward: f64,
    pub(crate) over: bool,
}

/// `outcomes[state][action]`
#[derive(Debug, Clone)]
pub(crate) struct Mdp {
    pub(crate) outcomes: Vec<Vec<Vec<Outcome>>>,
}

impl Mdp {
    pub(crate) fn n_states(&self) -> usize {
        self.outcomes.len()
    }

    pub(crate) fn n_actions(&self) -> usize {
        self.outcomes[0].len()
    }

    fn action_value(&self, v: &[f64], gamma: f64, state: usize, action: usize) -> f64 {
        let of = |o: &Outcome| o.p * (o.reward + if o.over { 0.0 } else { gamma * v[o.state] });
        self.outcomes[state][action].iter().map(of).sum()
    }

    pub(crate) fn greedy(&self, v: &[f64], gamma: f64) -> Vec<usize> {
        let best = |state| {
            let q: Vec<f64> = (0..self.n_actions()).map(|a| self.action_value(v, gamma, state, a)).collect();
            krystal_rl::greedy(&q).unwrap()
        };
        (0..self.n_states()).map(best).collect()
    }

    /// Value iteration until nothing moves by more than 10^-13.
    pub(crate) fn optimal_values(&self, gamma: f64) -> Vec<f64> {
        let mut v = vec![0.0; self.n_states()];
        for _ in 0..100_000 {
            let best = |state| {
                (0..self.n_actions()).map(|a| self.action_value(&v, gamma, state, a)).fold(f64::NEG_INFINITY, f64::max)
            };
            let new: Vec<f64> = (0..self.n_states()).map(best).collect();
            let moved = new.iter().zip(&v).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            v = new;
            if moved < 1e-13 {
                break;
            }
        }
        v
    }

    /// `V = (I - gamma P)^-1 r` of the policy that takes `policy[s]` but for a share `epsilon` of any action.
    pub(crate) fn values_of(&self, policy: &[usize], epsilon: f64, gamma: f64) -> Vec<f64> {
        let n = self.n_states();
        let mut a = vec![vec![0.0; n + 1]; n];
        for (state, row) in a.iter_mut().enumerate() {
            row[state] += 1.0;
            for (action, outcomes) in self.outcomes[state].iter().enumerate() {
                let taken = if policy[state] == action { 1.0 - epsilon } else { 0.0 };
                let taken = taken + epsilon / self.n_actions() as f64;
                for o in outcomes {
                    row[n] += taken * o.p * o.reward;
                    if !o.over {
                        row[o.state] -= gamma * taken * o.p;
                    }
                }
            }
        }
        solve(a)
    }
}

/// Gaussian elimination with pivots; each row ends with its right-hand side.
fn solve(mut a: Vec<Vec<f64>>) -> Vec<f64> {
    let n = a.len();
    for at in 0..n {
        let pivot = (at..n).max_by(|i, j| a[*i][at].abs().total_cmp(&a[*j][at].abs())).unwrap();
        a.swap(at, pivot);
        for row in at + 1..n {
            let factor = a[row][at] / a[at][at];
            let (above, below) = a.split_at_mut(row);
            below[0][at..].iter_mut().zip(&above[at][at..]).for_each(|(x, pivot)| *x -= factor * pivot);
        }
    }
    let mut x = vec![0.0; n];
    for at in (0..n).rev() {
        let rest: f64 = (at + 1..n).map(|column| a[at][column] * x[column]).sum();
        x[at] = (a[at][n] - rest) / a[at][at];
    }
    x
}
