//! Gymnasium's `Taxi-v3`: fetch a passenger from one of four stands and bring it to another (Dietterich 2000).

use super::mdp::{Mdp, Outcome};

const STANDS: [(usize, usize); 4] = [(0, 0), (0, 4), (4, 0), (4, 3)];
const IN_TAXI: usize = 4;

fn encode(row: usize, column: usize, passenger: usize, destination: usize) -> usize {
    ((row * 5 + column) * 5 + passenger) * 4 + destination
}

/// Whether a wall is on the right of this field.
fn wall(row: usize, column: usize) -> bool {
    match row {
        0 | 1 => column == 1,
        3 | 4 => column == 0 || column == 2,
        _ => false,
    }
}

/// Actions: south, north, east, west, pick up, drop off.
pub(crate) fn mdp() -> Mdp {
    let outcome = |row: usize, column: usize, passenger: usize, destination: usize, action: usize| {
        let (mut r, mut c, mut p, mut reward, mut over) = (row, column, passenger, -1.0, false);
        match action {
            0 => r = (row + 1).min(4),
            1 => r = row.saturating_sub(1),
            2 if column < 4 && !wall(row, column) => c += 1,
            3 if column > 0 && !wall(row, column - 1) => c -= 1,
            2 | 3 => {}
            4 if passenger < IN_TAXI && STANDS[passenger] == (row, column) => p = IN_TAXI,
            5 if passenger == IN_TAXI && STANDS[destination] == (row, column) => {
                (p, reward, over) = (destination, 20.0, true);
            }
            5 if passenger == IN_TAXI && STANDS.contains(&(row, column)) => {
                p = STANDS.iter().position(|stand| *stand == (row, column)).unwrap();
            }
            _ => reward = -10.0,
        }
        vec![Outcome { p: 1.0, state: encode(r, c, p, destination), reward, over }]
    };
    let mut outcomes = Vec::new();
    for row in 0..5 {
        for column in 0..5 {
            for passenger in 0..5 {
                for destination in 0..4 {
                    outcomes.push((0..6).map(|a| outcome(row, column, passenger, destination, a)).collect());
                }
            }
        }
    }
    Mdp { outcomes }
}

/// States that an episode begins in, each as likely as the others.
pub(crate) fn starts() -> impl Iterator<Item = usize> {
    (0..500).filter(|state| {
        let (passenger, destination) = (state / 4 % 5, state % 4);
        passenger != IN_TAXI && passenger != destination
    })
}
