//! Gymnasium's `FrozenLake-v1`, 4x4 and slippery: each of the direction meant and the two beside it has a third.

use super::mdp::{Mdp, Outcome};

const MAP: [&[u8; 4]; 4] = [b"SFFF", b"FHFH", b"FFFH", b"HFFG"];

/// Actions: left, down, right, up.
pub(crate) fn mdp() -> Mdp {
    let moves = [(0, -1), (1, 0), (0, 1), (-1, 0)];
    let at = |state: usize| MAP[state / 4][state % 4];
    let outcomes = |state: usize, action: usize| -> Vec<Outcome> {
        if matches!(at(state), b'H' | b'G') {
            return vec![Outcome { p: 1.0, state, reward: 0.0, over: true }];
        }
        let slip = |by: usize| {
            let (down, right) = moves[(action + by) % 4];
            let row = (state as i32 / 4 + down).clamp(0, 3);
            let column = (state as i32 % 4 + right).clamp(0, 3);
            let next = (row * 4 + column) as usize;
            let reward = f64::from(at(next) == b'G');
            Outcome { p: 1.0 / 3.0, state: next, reward, over: matches!(at(next), b'H' | b'G') }
        };
        [3, 0, 1].map(slip).to_vec()
    };
    Mdp { outcomes: (0..16).map(|state| (0..4).map(|action| outcomes(state, action)).collect()).collect() }
}
