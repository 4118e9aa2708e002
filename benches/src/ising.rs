//! How fast an Ising lattice is updated.

use std::time::Instant;

use krystal_phase::model::Ising;

use crate::report::median;

/// Metropolis updates of single spins of one `128 x 128` lattice at the critical temperature, on one thread: the median of several
/// runs. Each update draws 32 random bits of its own and may be refused; updates of one colour of the chessboard are vectorised.
/// The lattice is in equilibrium before the clock starts.
pub fn spin_updates_per_second(quick: bool) -> f64 {
    let (runs, sweeps) = if quick { (3, 200) } else { (9, 4_000) };
    let mut lattice = Ising::ordered(128, 1).expect("128 is a side");
    let mut sweep = |n: usize| {
        for _ in 0..n {
            lattice.metropolis(Ising::CRITICAL_TEMPERATURE).expect("a temperature above 0");
        }
    };
    sweep(500);
    let rates: Vec<f64> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            sweep(sweeps);
            (128 * 128 * sweeps) as f64 / start.elapsed().as_secs_f64()
        })
        .collect();
    std::hint::black_box(lattice.energy());
    median(rates)
}
