//! Diagnostics on data whose answer is known.

use krystal_math::rng::{Purpose, SplitMix64};
use krystal_phase::Error;
use krystal_phase::critical::{
    Finding, PowerLaw, PowerLawConfig, SizedSeries, Sizes, TailVerdict, Verdict, bimodality, binder, diagnose,
    hysteresis, integrated_time, jackknife,
};
use krystal_phase::model::Ising;

fn ar1(phi: f64, n: usize, seed: u64) -> Vec<f64> {
    let mut draws = SplitMix64::stream(seed, Purpose::SelfCheck, 0, 0);
    let mut x = draws.normal() / (1.0 - phi * phi).sqrt();
    (0..n)
        .map(|_| {
            x = phi * x + draws.normal();
            x
        })
        .collect()
}

/// `tau = (1 + phi) / (1 - phi)`; within four of its own errors, and the window's bias.
#[test]
fn autocorrelation_of_ar1() {
    for (phi, tau) in [(0.0, 1.0), (0.5, 3.0), (0.9, 19.0), (0.99, 199.0)] {
        let found = integrated_time(&ar1(phi, 200_000, 1), 5.0).unwrap();
        println!("{phi}: {found:?}");
        assert!((found.tau - tau).abs() < 4.0 * found.error + 0.01 * tau && found.is_reliable);
        assert!(found.error < 0.15 * tau);
    }
    assert!(!integrated_time(&ar1(0.999, 5000, 1), 5.0).unwrap().is_reliable);
    assert_eq!(integrated_time(&[2.0; 50], 5.0).unwrap().tau, 50.0);
}

/// The mean of AR(1) has variance `tau var / n`: blocks know it, single samples do not.
#[test]
fn blocked_errors_know_of_correlation() {
    let (phi, n): (f64, usize) = (0.9, 50_000);
    let exact = (19.0 / (1.0 - phi * phi) / n as f64).sqrt();
    let errors: Vec<f64> =
        (0..20).map(|seed| jackknife(&ar1(phi, n, seed), 32, |x| [x], |[mean]| mean).unwrap().error).collect();
    let mean = errors.iter().sum::<f64>() / 20.0;
    assert!((mean / exact - 1.0).abs() < 0.12, "{mean} {exact}");
    assert!(jackknife(&ar1(phi, n, 0), n, |x| [x], |[mean]| mean).unwrap().error < 0.3 * exact);
}

/// Gaussian: 0; two values: 2/3; uniform: 1 - (1/5)/(3/9) = 0.4. Five errors.
#[test]
fn binder_of_known_distributions() {
    let mut draws = SplitMix64::stream(2, Purpose::SelfCheck, 0, 0);
    let gaussian: Vec<f64> = (0..100_000).map(|_| 1e-200 * draws.normal()).collect();
    let uniform: Vec<f64> = (0..100_000).map(|_| 1e200 * (2.0 * draws.uniform() - 1.0)).collect();
    let two: Vec<f64> = (0..1000).map(|i| if i % 3 == 0 { 0.7 } else { -0.7 }).collect();
    for (series, exact) in [(&gaussian, 0.0), (&uniform, 0.4), (&two, 2.0 / 3.0)] {
        let found = binder(series, 50).unwrap();
        assert!((found.value - exact).abs() < 5.0 * found.error + 1e-12, "{found:?} {exact}");
    }
}

/// `powerlaw` 2.0.0 on the same data by tools/oracles/power_law.py: alpha, sigma, R against lognormal and exponential.
#[test]
fn tails_agree_with_the_package_powerlaw() {
    let n = 2000;
    let power: Vec<f64> = (0..n).map(|i| (1.0 - (f64::from(i) + 0.5) / f64::from(n)).powf(-1.0 / 1.5)).collect();
    let rounded: Vec<f64> = power.iter().map(|x| (10.0 * x + 0.5).floor()).collect();
    let cases = [
        (&power, Sizes::Continuous, 1.0, 2.500_260, 0.033_547, 746.97),
        (&power, Sizes::Continuous, 2.0, 2.500_509, 0.056_432, 246.41),
        (&rounded, Sizes::Discrete, 15.0, 2.498_830, 0.044_294, 413.11),
        (&rounded, Sizes::Discrete, 40.0, 2.503_661, 0.094_163, 80.255),
    ];
    for (data, sizes, xmin, alpha, sigma, exponential) in cases {
        let config = PowerLawConfig { sizes, xmin: Some(xmin), n_bootstrap: 0, ..PowerLawConfig::default() };
        let fit = PowerLaw::fit(data, config).unwrap();
        println!("{fit:?}");
        // powerlaw's own tail begins at the first datum above its threshold, as does ours; its discrete fits stop at 1e-4.
        assert!((fit.alpha.value - alpha).abs() < 2e-3, "{xmin}: {fit:?}");
        assert!((fit.alpha.error / sigma - 1.0).abs() < 0.05, "{xmin}: {fit:?}");
        assert!((fit.exponential.log_likelihood_ratio / exponential - 1.0).abs() < 0.02, "{xmin}: {fit:?}");
        // Any lognormal: cannot be told from a power law. The package: R from -0.0015 to -0.0055, p above 0.95.
        assert!(fit.lognormal.log_likelihood_ratio.abs() < 0.1 && fit.lognormal.p_value > 0.7, "{fit:?}");
    }
}

fn lognormal(n: usize, seed: u64) -> Vec<f64> {
    let mut draws = SplitMix64::stream(seed, Purpose::SelfCheck, 1, 0);
    (0..n).map(|_| draws.normal().exp()).collect()
}

fn power_law(n: usize, seed: u64) -> Vec<f64> {
    let mut draws = SplitMix64::stream(seed, Purpose::SelfCheck, 2, 0);
    (0..n).map(|_| (1.0 - draws.uniform()).powf(-1.0 / 1.5)).collect()
}

#[test]
fn verdicts_on_tails() {
    let config = PowerLawConfig { n_bootstrap: 100, ..PowerLawConfig::default() };
    let fit = |sizes: &[f64]| PowerLaw::fit(sizes, config).unwrap();

    let power = fit(&power_law(4000, 7));
    assert_eq!(power.verdict, TailVerdict::Supported, "{power:?}");
    assert!((power.alpha.value - 2.5).abs() < 4.0 * power.alpha.error, "{power:?}");

    // 60 samples of the same: no verdict on so few.
    assert_eq!(fit(&power_law(60, 7)).verdict, TailVerdict::TooFew);

    let normal = fit(&lognormal(4000, 7));
    assert_ne!(normal.verdict, TailVerdict::Supported, "{normal:?}");
    assert!(!normal.lognormal_within.rejects_rival());

    let exponential: Vec<f64> = power_law(4000, 8).iter().map(|x| x.ln()).filter(|x| *x > 0.0).collect();
    assert_ne!(fit(&exponential).verdict, TailVerdict::Supported);

    let whole: Vec<f64> = power_law(3000, 9).iter().map(|x| (10.0 * x).floor()).collect();
    let discrete = PowerLawConfig { sizes: Sizes::Discrete, n_bootstrap: 20, max_candidates: 30, ..config };
    let whole = PowerLaw::fit(&whole, discrete).unwrap();
    assert!((whole.alpha.value - 2.5).abs() < 4.0 * whole.alpha.error, "{whole:?}");
    assert!(!matches!(whole.verdict, TailVerdict::TooFew | TailVerdict::ExponentialNotRejected), "{whole:?}");
}

/// Under the hypothesis the p-value is uniform: of 20 true power laws about 2 fall below 0.1; 7 or more once in 400.
#[test]
fn the_p_value_is_one() {
    let config = PowerLawConfig { n_bootstrap: 60, max_candidates: 25, min_tail: 50, ..PowerLawConfig::default() };
    let p: Vec<f64> = (0..20)
        .map(|seed| {
            PowerLaw::fit(&power_law(400, 100 + seed), PowerLawConfig { seed, ..config }).unwrap().p_value.unwrap()
        })
        .collect();
    assert!(p.iter().filter(|p| **p < 0.1).count() < 7, "{p:?}");
    assert!(p.iter().filter(|p| **p > 0.5).count() > 3, "{p:?}");
}

/// 300 series with one hump, independent and correlated: none is called bimodal. 20 with two, four of
/// their standard deviations apart: all are.
#[test]
fn humps_are_counted() {
    for seed in 0..100 {
        for series in [ar1(0.0, 3000, seed), ar1(0.9, 3000, seed), lognormal(3000, seed)] {
            let found = bimodality(&series).unwrap();
            assert!(found.is_none_or(|found| !found.is_bimodal), "{seed}: {found:?}");
        }
    }
    for seed in 0..20 {
        let mut draws = SplitMix64::stream(seed, Purpose::SelfCheck, 4, 0);
        let series: Vec<f64> =
            (0..3000).map(|_| draws.normal() + if draws.uniform() < 0.4 { 0.0 } else { 4.0 }).collect();
        let found = bimodality(&series).unwrap().unwrap();
        assert!(found.is_bimodal && found.valley > 0.8 && found.valley < 3.0, "{found:?}");
    }
}

fn verdict(sizes: [usize; 3], series: impl Fn(usize, u64) -> Vec<f64>) -> (Verdict, Vec<Finding>) {
    let data: Vec<Vec<f64>> = sizes.iter().zip(0..).map(|(&side, seed)| series(side, seed)).collect();
    let systems: Vec<SizedSeries<'_>> =
        sizes.iter().zip(&data).map(|(&side, order)| SizedSeries { side, order }).collect();
    let diagnosis = diagnose(&systems, 2).unwrap();
    println!("{:?} {:?} {:?}", diagnosis.verdict, diagnosis.findings, diagnosis.susceptibility);
    (diagnosis.verdict, diagnosis.findings)
}

/// Noise, memory and broad tails are not criticality, whether their spread shrinks with the size of the system or does not.
#[test]
fn null_controls_are_not_critical() {
    let n = 20_000;
    for power in [0.0, 1.0] {
        let scale = |side: usize| (side as f64).powf(-power);
        let gaussian = |side, seed| ar1(0.0, n, seed).iter().map(|x| x * scale(side)).collect();
        let memory = |side, seed| ar1(0.9, n, seed).iter().map(|x| x * scale(side)).collect();
        let broad = |side, seed| lognormal(n, seed).iter().map(|x| x * scale(side)).collect();
        for verdict in [verdict([8, 16, 32], gaussian), verdict([8, 16, 32], memory), verdict([8, 16, 32], broad)] {
            assert_eq!(verdict.0, Verdict::NotCritical, "{power} {verdict:?}");
        }
    }
}

/// Spins without couplings, cooled: `<m>` follows no field, nothing happens at any temperature. Flip rates `1/(1 + exp(0))`.
#[test]
fn a_paramagnet_is_not_critical_at_any_temperature() {
    for temperature in [0.5, 2.0, 2.269, 4.0] {
        let paramagnet = |side: usize, seed: u64| -> Vec<f64> {
            let mut draws = SplitMix64::stream(seed, Purpose::SelfCheck, 3, (1000.0 * temperature) as u64);
            let n = side * side;
            (0..4000)
                .map(|_| {
                    let up: u32 = (0..n / 64).map(|_| draws.next_word().count_ones()).sum();
                    (2.0 * f64::from(up) - n as f64) / n as f64
                })
                .collect()
        };
        assert_eq!(verdict([8, 16, 32], paramagnet).0, Verdict::NotCritical);
    }
}

#[test]
fn ising_is_critical_at_its_critical_temperature_and_nowhere_else() {
    let ising = |temperature: f64| {
        move |side: usize, seed: u64| -> Vec<f64> {
            let mut lattice = Ising::ordered(side, seed).unwrap();
            (0..5_000)
                .map(|_| {
                    (0..4).for_each(|_| drop(lattice.wolff(temperature)));
                    lattice.magnetization() as f64 / lattice.n_spins() as f64
                })
                .skip(500)
                .collect()
        }
    };
    assert_eq!(verdict([8, 16, 32], ising(Ising::CRITICAL_TEMPERATURE)), (Verdict::Critical, vec![]));
    assert_eq!(verdict([8, 16, 32], ising(2.0)).0, Verdict::NotCritical);
    assert_eq!(verdict([8, 16, 32], ising(2.6)).0, Verdict::NotCritical);
    assert_eq!(verdict([8, 16, 32], ising(4.0)).0, Verdict::NotCritical);
}

#[test]
fn too_little_is_undecided_or_refused() {
    let noise = ar1(0.0, 4000, 1);
    let slow = ar1(0.9999, 4000, 1);
    let one = [SizedSeries { side: 8, order: &noise }];
    let diagnosis = diagnose(&one, 2).unwrap();
    assert_eq!((diagnosis.verdict, diagnosis.findings), (Verdict::Undecided, vec![Finding::TooFewSizes]));
    let three = [8, 16, 32].map(|side| SizedSeries { side, order: &slow });
    let diagnosis = diagnose(&three, 2).unwrap();
    assert_eq!(diagnosis.verdict, Verdict::Undecided);
    assert!(diagnosis.findings.contains(&Finding::TooShort { side: 8 }));

    let nan = [1.0, f64::NAN, 2.0];
    assert_eq!(integrated_time(&nan, 5.0), Err(Error::NotFinite { what: "samples", index: 1 }));
    assert!(matches!(jackknife(&nan, 2, |x| [x], |[x]| x), Err(Error::NotFinite { .. })));
    assert!(matches!(bimodality(&[1.0; 50]), Err(Error::TooFew { .. })));
    assert_eq!(bimodality(&[1.0; 500]), Ok(None));
    assert!(matches!(binder(&[0.0; 50], 5), Err(Error::Measured { .. })));
    assert!(hysteresis(&[1.0, 2.0, 3.0], &[], &[]).is_err());
    assert!(matches!(PowerLaw::fit(&[1.0, -2.0, 3.0], PowerLawConfig::default()), Err(Error::Measured { .. })));
    assert!(matches!(PowerLaw::fit(&[2.0; 300], PowerLawConfig::default()), Err(Error::TooFew { .. })));
    let discrete = PowerLawConfig { sizes: Sizes::Discrete, ..PowerLawConfig::default() };
    assert!(matches!(PowerLaw::fit(&[1.5; 300], discrete), Err(Error::Measured { .. })));
    assert!(diagnose(&[one[0], one[0]], 2).is_err());
}
