//! Lattices against exact solutions, within their own error bars.

use krystal_phase::boltzmann::{thermodynamics, thermodynamics_of_levels};
use krystal_phase::critical::{
    Estimate, Hysteresis, bimodality, binder, crossing, heat_capacity, hysteresis, jackknife, mean_absolute,
    scaling_exponent, susceptibility,
};
use krystal_phase::model::{Ising, Potts};

const T_C: f64 = Ising::CRITICAL_TEMPERATURE;

/// Energies and magnetisations per site.
struct Run {
    energies: Vec<f64>,
    order: Vec<f64>,
    n: usize,
}

enum Dynamics {
    /// This many sweeps between samples.
    Metropolis(usize),
    /// This many clusters.
    Wolff(usize),
}

fn sample(side: usize, temperature: f64, dynamics: Dynamics, n_samples: usize, seed: u64) -> Run {
    let mut lattice = Ising::ordered(side, seed).unwrap();
    let n = lattice.n_spins();
    let (mut energies, mut order) = (Vec::new(), Vec::new());
    for sample in 0..n_samples + n_samples / 10 {
        match dynamics {
            Dynamics::Metropolis(sweeps) => (0..sweeps).for_each(|_| lattice.metropolis(temperature).unwrap()),
            Dynamics::Wolff(clusters) => (0..clusters).for_each(|_| drop(lattice.wolff(temperature))),
        }
        if sample >= n_samples / 10 {
            energies.push(lattice.energy() as f64);
            order.push(lattice.magnetization() as f64 / n as f64);
        }
    }
    Run { energies, order, n }
}

impl Run {
    fn energy(&self) -> Estimate {
        jackknife(&self.energies, 32, |e| [e / self.n as f64], |[e]| e).unwrap()
    }
}

/// Within `k` of its own standard errors, and the error is as small as it should be.
fn assert_agrees(what: &str, found: Estimate, exact: f64, k: f64, at_most: f64) {
    assert!(found.z(exact).abs() < k && found.error < at_most, "{what}: {found:?}, exact {exact}");
}

/// All 65,536 states of the 4 x 4 torus: `(E, M)` and how many.
fn four_by_four() -> Vec<(i32, i32)> {
    (0..1_u32 << 16)
        .map(|bits| {
            let spin = |x: u32, y: u32| if bits >> (4 * (y % 4) + x % 4) & 1 == 1 { 1 } else { -1 };
            let mut energy = 0;
            for y in 0..4 {
                for x in 0..4 {
                    energy -= spin(x, y) * (spin(x + 1, y) + spin(x, y + 1));
                }
            }
            (energy, 2 * bits.count_ones() as i32 - 16)
        })
        .collect()
}

/// The density of states as published many times (for instance Beale 1996, doi:10.1103/PhysRevLett.76.78, gives its generalisation).
#[test]
fn exact_four_by_four() {
    let states = four_by_four();
    let known = [(-32, 2), (-24, 32), (-20, 64), (-16, 424), (-12, 1728), (-8, 6688), (-4, 13_568), (0, 20_524)];
    for (energy, count) in known {
        assert_eq!(states.iter().filter(|(e, _)| *e == energy).count(), count);
        assert_eq!(states.iter().filter(|(e, _)| *e == -energy).count(), count);
    }
    // U/N, C/N, F/N, S/N at T = 2 by summing over the states in Python.
    let energies: Vec<f64> = states.iter().map(|(e, _)| f64::from(*e)).collect();
    let exact = thermodynamics(&energies, 2.0).unwrap();
    for (found, expected) in [
        (exact.internal_energy, -1.755_380_288_8),
        (exact.heat_capacity, 0.605_532_657_2),
        (exact.free_energy, -2.138_170_889_8),
        (exact.entropy, 0.191_395_300_5),
    ] {
        assert!((found / 16.0 - expected).abs() < 1e-10, "{found}");
    }
    // The same from the density of states.
    let levels: Vec<f64> = (-8..=8).map(|e| 4.0 * f64::from(e)).collect();
    let log_g: Vec<f64> = levels
        .iter()
        .map(|level| (states.iter().filter(|(e, _)| f64::from(*e) == *level).count() as f64).ln())
        .collect();
    let counted = thermodynamics_of_levels(&levels, &log_g, 2.0).unwrap();
    assert!((counted.free_energy - exact.free_energy).abs() < 1e-11);
}

/// `U/N, C/N, <|m|>, U4` of 4 x 4 at three temperatures, by both dynamics. 24 numbers within 4.5 errors: false alarms once in 2,000.
#[test]
fn both_dynamics_sample_boltzmann() {
    for (temperature, exact) in [
        (2.0, [-1.755_380_288_8, 0.605_532_657_2, 0.918_943_267_4, 0.644_810_791_2]),
        (T_C, [-1.565_623_787_6, 0.783_266_825_9, 0.843_860_444_8, 0.617_199_318_4]),
        (2.5, [-1.379_116_482_3, 0.812_515_229_4, 0.764_712_393_2, 0.581_527_659_1]),
    ] {
        for (dynamics, seed) in [(Dynamics::Metropolis(4), 1), (Dynamics::Wolff(3), 2)] {
            let run = sample(4, temperature, dynamics, 60_000, seed);
            let found = [
                run.energy(),
                heat_capacity(&run.energies, 16, temperature, 32).unwrap(),
                mean_absolute(&run.order, 32).unwrap(),
                binder(&run.order, 32).unwrap(),
            ];
            for (found, exact) in found.into_iter().zip(exact) {
                assert_agrees("4 x 4", found, exact, 4.5, 0.01);
            }
        }
    }
}

/// Onsager's energy and Yang's magnetisation of the infinite lattice, far enough from the transition for 64 x 64 to be infinite:
/// `u = -J coth(2 beta J) (1 + 2/pi (2 tanh^2 - 1) K(k))`, evaluated with SciPy's elliptic integrals.
#[test]
fn onsager_and_yang() {
    for (temperature, u, c, m) in [
        (1.5, -1.951_116_573_1, 0.197_274_54, Some(0.986_499_602_6)),
        (2.0, -1.745_564_575_3, 0.724_871_45, Some(0.911_319_377_9)),
        (3.0, -0.817_309_592_5, 0.401_379_58, None),
    ] {
        let run = sample(64, temperature, Dynamics::Metropolis(2), 6_000, 3);
        assert_agrees("u", run.energy(), u, 4.5, 1e-3);
        assert_agrees("C", heat_capacity(&run.energies, run.n, temperature, 32).unwrap(), c, 4.5, 0.05);
        if let Some(m) = m {
            assert_agrees("m", mean_absolute(&run.order, 32).unwrap(), m, 4.5, 1e-3);
        }
    }
}

/// Kaufman's (1949) exact energies and heat capacities of tori at the critical temperature; and what only clusters make cheap: the
/// exponents `-beta/nu = -1/8` and `gamma/nu = 7/4` from `L = 8` to 64, and Binder's cumulant 0.61069(1) (Kamieniarz and Bloete
/// 1993, doi:10.1088/0305-4470/26/2/009).
#[test]
fn finite_sizes_at_the_critical_point() {
    let (mut order, mut fluctuations) = (Vec::new(), Vec::new());
    let sizes = [8, 16, 32, 64];
    let exact = [(-1.491_59, 1.145_56), (-1.453_06, 1.498_70), (-1.433_66, 1.846_76), (-1.423_94, 2.192_16)];
    for ((side, clusters, n_samples), (u, c)) in
        [(8, 3, 20_000), (16, 3, 20_000), (32, 3, 15_000), (64, 3, 8_000)].into_iter().zip(exact)
    {
        let run = sample(side, T_C, Dynamics::Wolff(clusters), n_samples, 4);
        assert_agrees("u", run.energy(), u, 4.5, 4e-3);
        assert_agrees("C", heat_capacity(&run.energies, run.n, T_C, 32).unwrap(), c, 4.5, 0.1);
        order.push(mean_absolute(&run.order, 32).unwrap());
        let n = run.n as f64;
        fluctuations.push(jackknife(&run.order, 32, |m| [n * m * m], |[chi]| chi).unwrap());
        if side == 32 {
            assert_agrees("U4", binder(&run.order, 32).unwrap(), 0.610_69, 4.5, 0.006);
        }
    }
    let sizes = sizes.map(f64::from);
    let beta = scaling_exponent(&sizes, &order).unwrap();
    assert!((beta.exponent.value + 0.125).abs() < 0.01, "{beta:?}");
    let gamma = scaling_exponent(&sizes, &fluctuations).unwrap();
    assert!((gamma.exponent.value - 1.75).abs() < 0.03, "{gamma:?}");
    assert!(beta.chi_squared < 20.0 && gamma.chi_squared < 20.0);
}

#[test]
fn binder_cumulants_cross_and_the_susceptibility_peaks_at_the_transition() {
    let temperatures = [2.0, 2.15, 2.25, 2.3, 2.4, 2.6];
    let [small, large] = [8, 24].map(|side| {
        temperatures.map(|t| {
            let run = sample(side, t, Dynamics::Wolff(4), 4_000, 5);
            (binder(&run.order, 32).unwrap(), susceptibility(&run.order, run.n, t, 32).unwrap())
        })
    });
    let at = crossing(&temperatures, &small.map(|x| x.0), &large.map(|x| x.0)).unwrap().unwrap();
    assert!((at.value - T_C).abs() < 0.03 + 3.0 * at.error && at.error < 0.03, "{at:?}");
    let peak = |chi: [Estimate; 6]| (0..6).max_by(|&i, &j| chi[i].value.total_cmp(&chi[j].value)).unwrap();
    let at = peak(large.map(|x| x.1));
    assert!((2.25..=2.4).contains(&temperatures[at]));
    assert!(large[at].1.value > 3.0 * small[peak(small.map(|x| x.1))].1.value);
}

/// A fully connected magnet, `E = -M^2 / 2N`: its levels are exact, and `m = tanh(m/T)` in the limit of many spins. With N = 100,000
/// degeneracies reach e^69310.
#[test]
fn curie_and_weiss() {
    let n = 100_000;
    let log_factorial: Vec<f64> = (0..=n)
        .scan(0.0, |sum, k: i32| {
            *sum += f64::from(k.max(1)).ln();
            Some(*sum)
        })
        .collect();
    let up = |k: i32| log_factorial[n as usize] - log_factorial[k as usize] - log_factorial[(n - k) as usize];
    let energies: Vec<f64> = (0..=n).map(|k| -f64::from(2 * k - n).powi(2) / (2.0 * f64::from(n))).collect();
    let log_g: Vec<f64> = (0..=n).map(up).collect();
    for (t, m) in
        [(0.5, 0.957_504_024_077), (0.8, 0.710_411_783_488), (0.9, 0.525_429_512_658), (0.95, 0.379_485_206_679)]
    {
        let system = thermodynamics_of_levels(&energies, &log_g, t).unwrap();
        let found = (-2.0 * system.internal_energy / f64::from(n)).sqrt();
        // Fluctuations add 1/N times the susceptibility over m.
        assert!((found - m).abs() < 1e-3, "{t}: {found} {m}");
    }
}

fn loops(n_colours: u8, spread: f64) -> Hysteresis {
    let t_c = Potts::ordered(4, n_colours, 0).unwrap().transition_temperature();
    let n = 25;
    let temperatures: Vec<f64> =
        (0..n).map(|i| t_c * (1.0 - spread + 2.0 * spread * i as f64 / (n - 1) as f64)).collect();
    let branch = |mut lattice: Potts, along: &mut dyn Iterator<Item = &f64>| -> Vec<f64> {
        along
            .map(|&t| {
                let mut order = 0.0;
                for sweep in 0..120 {
                    lattice.heat_bath(t).unwrap();
                    order += if sweep < 60 { 0.0 } else { lattice.order() / 60.0 };
                }
                order
            })
            .collect()
    };
    let (mut heating, mut cooling) = (Vec::new(), Vec::new());
    for seed in 0..6 {
        heating.push(branch(Potts::ordered(24, n_colours, seed).unwrap(), &mut temperatures.iter()));
        let mut back = branch(Potts::random(24, n_colours, 100 + seed).unwrap(), &mut temperatures.iter().rev());
        back.reverse();
        cooling.push(back);
    }
    hysteresis(&temperatures, &heating, &cooling).unwrap()
}

/// Baxter (1973): of first order for more than four colours, continuous up to four. `T_t = 1 / ln(1 + sqrt q)`.
#[test]
fn ten_colours_show_hysteresis_and_up_to_four_do_not() {
    let ten = loops(10, 0.05);
    println!("q = 10: {ten:?}");
    assert!(ten.is_open);
    assert!(ten.cooling.value < 0.701_231_568 && ten.heating.value > 0.701_231_568, "{ten:?}");
    for q in 2..=4 {
        let few = loops(q, 0.12);
        println!("q = {q}: {few:?}");
        assert!(!few.is_open, "q = {q}: {few:?}");
    }
}

/// At a transition of first order energies have two humps, Baxter's latent heat (0.696 a spin in the limit) apart; those of Ising's model
/// have one. At `T_t` itself the ten ordered phases outweigh the disordered one ten to one: `N dE d(1/T) = ln 10` brings them level.
#[test]
fn energies_are_bimodal_at_a_transition_of_first_order() {
    let energies = |q: u8, warmer: f64| -> Vec<f64> {
        let mut lattice = Potts::ordered(10, q, 1).unwrap();
        let t = (lattice.transition_temperature().recip() - warmer).recip();
        (0..150_000)
            .map(|_| {
                lattice.heat_bath(t).unwrap();
                lattice.energy() as f64 / lattice.n_spins() as f64
            })
            .collect()
    };
    let ten = bimodality(&energies(10, 10.0_f64.ln() / (100.0 * 0.696))).unwrap().unwrap();
    println!("{ten:?}");
    assert!(ten.is_bimodal && ten.barrier > 0.2, "{ten:?}");
    assert!((ten.humps[1] - ten.humps[0] - 0.696).abs() < 0.3, "{ten:?}");
    let two = bimodality(&energies(2, 0.0)).unwrap();
    assert!(two.is_none_or(|two| !two.is_bimodal), "{two:?}");
}
