//! Cliff walking (Sutton and Barto, example 6.6; Gymnasium's `CliffWalking-v1` with its states).

use super::mdp::{Mdp, Outcome};

pub(crate) const START: usize = 36;
pub(crate) const GOAL: usize = 47;

/// Actions: up, down, left, right; of equals the greedy policy takes the first, as `rl_oracle2.py` does.
pub(crate) fn mdp() -> Mdp {
    let to = |state: usize, (down, right): (i32, i32)| {
        let row = (state as i32 / 12 + down).clamp(0, 3);
        let column = (state as i32 % 12 + right).clamp(0, 11);
        let falls = row == 3 && (1..=10).contains(&column);
        let next = if falls { START } else { (row * 12 + column) as usize };
        vec![Outcome { p: 1.0, state: next, reward: if falls { -100.0 } else { -1.0 }, over: next == GOAL }]
    };
    let moves = [(-1, 0), (1, 0), (0, -1), (0, 1)];
    Mdp { outcomes: (0..48).map(|state| moves.iter().map(|by| to(state, *by)).collect()).collect() }
}
