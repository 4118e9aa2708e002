//! Parallel tempering against exact enumeration.

use krystal_phase::critical::{binder, jackknife};
use krystal_phase::model::{PlantedSpinGlass, SpinState};
use krystal_phase::tempering::{Tempering, TemperingConfig, TemperingProgress};

/// Without frustration a planted glass is Ising's ferromagnet, its planted state the one with all spins up.
fn ferromagnet() -> PlantedSpinGlass {
    PlantedSpinGlass::new(4, 0.0, 3).unwrap()
}

fn tempering(glass: &PlantedSpinGlass) -> Tempering<'_, PlantedSpinGlass> {
    let temperatures = vec![2.0, 2.5, 3.0, 5.0, 20.0, 1e6];
    let config = TemperingConfig { temperatures, moves: 32, seed: 4 };
    Tempering::new(glass, (0..6).map(|i| glass.random_state(i)).collect(), config).unwrap()
}

/// `U/N`, `U4` and `ln Z` of the 4 x 4 torus at T = 2 and 2.5, summed over all states in Python. A swap decided by energies per spin would
/// mix temperatures, and Binder's cumulant would come out far off, even negative.
#[test]
fn samples_are_those_of_each_temperature() {
    let glass = ferromagnet();
    let up = glass.ground_state();
    let mut tempering = tempering(&glass);
    let mut energies = vec![Vec::new(); 6];
    let mut order = vec![Vec::new(); 6];
    for round in 0..40_000 {
        tempering.round().unwrap();
        if round >= 1000 {
            for slot in 0..6 {
                energies[slot].push(tempering.energies()[slot] / 16.0);
                let spins = tempering.states()[slot].spins().iter().zip(up.spins());
                order[slot].push(spins.map(|(a, b)| f64::from(a * b)).sum::<f64>() / 16.0);
            }
        }
    }
    for (slot, u, u4) in [(0, -1.755_380_288_8, 0.644_810_791_2), (1, -1.379_116_482_3, 0.581_527_659_1)] {
        let energy = jackknife(&energies[slot], 32, |e| [e], |[e]| e).unwrap();
        assert!(energy.z(u).abs() < 4.5 && energy.error < 0.005, "{energy:?} {u}");
        let cumulant = binder(&order[slot], 32).unwrap();
        assert!(cumulant.z(u4).abs() < 4.5 && cumulant.error < 0.005, "{cumulant:?} {u4}");
    }
    for series in &order {
        assert!(binder(series, 32).unwrap().value > -0.05);
    }
    // ln Z = -F/T, and 16 ln 2 at infinite temperature. F/N: -2.1381708898 at 2, -2.2751707850 at 2.5, -2.4901937729 at 3.
    let ratios = tempering.log_partition_ratios().unwrap();
    let free = [-2.138_170_889_8, -2.275_170_785_0, -2.490_193_772_9];
    for (slot, f) in free.into_iter().enumerate() {
        let exact = -16.0 * f / tempering.temperatures()[slot] - 16.0 * 2.0_f64.ln();
        assert!((ratios[slot] - exact).abs() < 0.05, "{slot}: {} {exact}", ratios[slot]);
    }
    // Trapezia between temperatures this far apart are cruder.
    let integrated = tempering.integrated_log_partition_ratios().unwrap();
    assert!((integrated[0] - ratios[0]).abs() < 0.3 && integrated[0] != ratios[0]);
    assert!(tempering.n_round_trips() > 500, "{}", tempering.n_round_trips());
}

#[test]
fn the_ladder_adapts_to_equal_rejections_and_the_barrier_stays() {
    let glass = PlantedSpinGlass::new(8, 0.6, 1).unwrap();
    let temperatures: Vec<f64> = (0..8).map(|i| 0.4 + 0.1 * f64::from(i).powi(2)).collect();
    let config = TemperingConfig { temperatures, moves: 64, seed: 1 };
    let mut tempering = Tempering::new(&glass, (0..8).map(|i| glass.random_state(i)).collect(), config).unwrap();
    let spread = |tempering: &Tempering<'_, PlantedSpinGlass>| {
        let rates = tempering.rejections().unwrap();
        let fold = |start, f: fn(f64, f64) -> f64| rates.iter().copied().fold(start, f);
        fold(0.0, f64::max) - fold(1.0, f64::min)
    };
    assert!(tempering.rejections().is_err() && tempering.adapt().is_err());
    let run = |tempering: &mut Tempering<'_, PlantedSpinGlass>| (0..4000).for_each(|_| tempering.round().unwrap());
    run(&mut tempering);
    let before = (spread(&tempering), tempering.barrier().unwrap());
    for _ in 0..3 {
        tempering.adapt().unwrap();
        run(&mut tempering);
    }
    let after = (spread(&tempering), tempering.barrier().unwrap());
    assert!(after.0 < 0.1 && after.0 < 0.5 * before.0, "{before:?} {after:?}");
    assert!((after.1 / before.1 - 1.0).abs() < 0.2, "{before:?} {after:?}");
    let t = tempering.temperatures();
    assert!(t.is_sorted() && t[0] == 0.4 && (t[7] - 5.3).abs() < 1e-12);
}

#[test]
fn stop_save_load_continue_is_uninterrupted() {
    let glass = ferromagnet();
    let mut whole = tempering(&glass);
    (0..100).for_each(|_| whole.round().unwrap());
    let mut halves = tempering(&glass);
    (0..37).for_each(|_| halves.round().unwrap());
    let text = serde_json::to_string(halves.progress()).unwrap();
    let progress: TemperingProgress<SpinState> = serde_json::from_str(&text).unwrap();
    let mut halves = Tempering::resume(&glass, progress).unwrap();
    (37..100).for_each(|_| halves.round().unwrap());
    assert_eq!(halves.progress(), whole.progress());

    let broken = text.replacen("\"replicas\":[", "\"replicas\":[9,", 1);
    let broken: TemperingProgress<SpinState> = serde_json::from_str(&broken).unwrap();
    assert!(Tempering::resume(&glass, broken).is_err());
}

#[test]
fn bad_ladders_are_refused() {
    let glass = ferromagnet();
    for temperatures in [vec![], vec![1.0], vec![2.0, 1.0], vec![0.0, 1.0], vec![1.0, f64::NAN]] {
        let starts = temperatures.iter().map(|_| glass.random_state(0)).collect();
        let config = TemperingConfig { temperatures, ..TemperingConfig::default() };
        assert!(Tempering::new(&glass, starts, config).is_err());
    }
    assert!(Tempering::new(&glass, vec![], TemperingConfig::default()).is_err());
}
