//! Functions that the standard library lacks. Through `exp` and `ln` their last bits may differ between machines.

/// `ln zeta(s, q)` of Hurwitz' zeta function, `zeta(s, q) = sum_{k >= 0} (q + k)^(-s)` for `s > 1`, `q > 0`: Euler and Maclaurin's
/// formula from `q + 10` on, to about 12 digits. In units of `q^(-s)`, which alone may be too small for an `f64`.
pub(super) fn ln_zeta(s: f64, q: f64) -> f64 {
    const N: u32 = 10;
    let scaled = |x: f64| (-s * (x / q).ln()).exp();
    let head: f64 = (0..N).map(|k| scaled(q + f64::from(k))).sum();
    let a = q + f64::from(N);
    let power = scaled(a);
    let mut total = head + a * power / (s - 1.0) + 0.5 * power;
    // B_2j / (2j)!
    let coefficients = [
        1.0 / 12.0,
        -1.0 / 720.0,
        1.0 / 30_240.0,
        -1.0 / 1_209_600.0,
        1.0 / 47_900_160.0,
        -691.0 / 1_307_674_368_000.0,
    ];
    let mut rising = s * power / a;
    for (j, coefficient) in coefficients.into_iter().enumerate() {
        let term = coefficient * rising;
        // The series is asymptotic: for large s its terms grow again, while the head has long converged.
        if term.abs() > 0.1 * power {
            break;
        }
        total += term;
        let k = s + 2.0 * j as f64;
        rising *= (k + 1.0) * (k + 2.0) / (a * a);
    }
    total.ln() - s * q.ln()
}

pub(super) const HALF_LN_TAU: f64 = 0.918_938_533_204_672_8;

/// `ln(P(Z > z) / phi(z))` of a standard normal `Z` with density `phi`: Mills' ratio. What is left of a tail without its large part
/// `-z^2/2`, which cancels against that of another.
pub(super) fn ln_mills_ratio(z: f64) -> f64 {
    if z < 3.0 {
        ln_normal_tail(z) + 0.5 * z * z + HALF_LN_TAU
    } else {
        // Laplace's continued fraction z + 1/(z + 2/(z + 3/(z + ...))), from the inside out.
        -(1..=100).rev().fold(z, |rest, k| z + f64::from(k) / rest).ln()
    }
}

/// `ln(P(Z > z))` of a standard normal `Z`, also where the probability itself would be 0.
pub(super) fn ln_normal_tail(z: f64) -> f64 {
    if z < -1.0 {
        // 1 - P(Z > -z)
        (-ln_normal_tail(-z).exp()).ln_1p()
    } else if z < 3.0 {
        (0.5 - half_erf(z)).ln()
    } else {
        ln_mills_ratio(z) - 0.5 * z * z - HALF_LN_TAU
    }
}

/// `P(0 < Z < z)`, by Marsaglia's series `phi(z) (z + z^3/3 + z^5/(3 5) + ...)`, all of whose terms have one sign.
fn half_erf(z: f64) -> f64 {
    let mut term = z;
    let mut total = z;
    let mut k = 1.0;
    while term.abs() > 1e-17 * total.abs() {
        k += 2.0;
        term *= z * z / k;
        total += term;
    }
    total * (-0.5 * z * z - HALF_LN_TAU).exp()
}

/// The minimum of a function of two numbers by Nelder and Mead's simplex (1965), from a start and two steps.
pub(super) fn minimize(start: [f64; 2], step: [f64; 2], f: impl Fn([f64; 2]) -> f64) -> ([f64; 2], f64) {
    let value = |x: [f64; 2]| {
        let y = f(x);
        if y.is_nan() { f64::INFINITY } else { y }
    };
    let mut simplex = [start, [start[0] + step[0], start[1]], [start[0], start[1] + step[1]]].map(|x| (x, value(x)));
    for _ in 0..400 {
        simplex.sort_by(|a, b| a.1.total_cmp(&b.1));
        let [best, second, worst] = simplex;
        if (worst.1 - best.1).abs() <= 1e-13 * best.1.abs() {
            break;
        }
        let towards = |t: f64| {
            let x = std::array::from_fn(|i| {
                let centre = 0.5 * (best.0[i] + second.0[i]);
                centre + t * (worst.0[i] - centre)
            });
            (x, value(x))
        };
        let reflected = towards(-1.0);
        let next = if reflected.1 < best.1 {
            let expanded = towards(-2.0);
            if expanded.1 < reflected.1 { expanded } else { reflected }
        } else if reflected.1 < second.1 {
            reflected
        } else {
            let contracted = if reflected.1 < worst.1 { towards(-0.5) } else { towards(0.5) };
            if contracted.1 < worst.1.min(reflected.1) {
                contracted
            } else {
                for point in &mut simplex[1..] {
                    point.0 = std::array::from_fn(|i| 0.5 * (best.0[i] + point.0[i]));
                    point.1 = value(point.0);
                }
                continue;
            }
        };
        simplex[2] = next;
    }
    simplex.sort_by(|a, b| a.1.total_cmp(&b.1));
    simplex[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// mpmath 1.4.1: `zeta(s, q)` and `log(ncdf(-z))`, 17 digits.
    #[test]
    fn agree_with_mpmath() {
        for (s, q, expected) in [
            (2.0, 1.0, 1.644_934_066_848_226_4),
            (1.1, 1.0, 10.584_448_464_950_8),
            (2.5, 7.0, 0.040_081_757_933_660_7),
            (3.5, 0.5, 11.620_804_663_441_89),
            (6.0, 100.0, 2.050_499_953_343_33e-11),
        ] {
            let found = ln_zeta(s, q);
            assert!((found - f64::ln(expected)).abs() < 1e-11, "{s} {q}: {found}");
        }
        for (z, expected) in [
            (0.0, -std::f64::consts::LN_2),
            (1.0, -1.841_021_645_009_264),
            (-2.0, -0.023_012_909_328_963_49),
            (2.9, -6.284_058_234_947_418),
            (5.0, -15.064_998_393_988_73),
        ] {
            let found = ln_normal_tail(z);
            assert!((found - expected).abs() < 1e-12, "{z}: {found}");
        }
    }

    /// Where the sum is its first terms: `1^-s (1 + 2^-s + ...)`, and `q^-s / (1 - exp(-s/q))` for large `s` and `q`.
    #[test]
    fn steep_sums() {
        assert!(ln_zeta(60.0, 1.0).abs() < 1e-15);
        let (s, q) = (2000.0, 1000.0);
        // sum (1 + k/q)^-s, term by term.
        let direct: f64 = (0..2000).map(|k| (-s * (f64::from(k) / q).ln_1p()).exp()).sum();
        assert!((ln_zeta(s, q) - (direct.ln() - s * q.ln())).abs() < 1e-9, "{}", ln_zeta(s, q));
    }

    #[test]
    fn the_pieces_of_the_tail_meet() {
        for z in [-1.0, 3.0] {
            assert!((ln_normal_tail(z - 1e-9) - ln_normal_tail(z + 1e-9)).abs() < 1e-8);
        }
        assert!((ln_normal_tail(40.0) - (-804.608_442_013_754)).abs() < 1e-9);
    }

    #[test]
    fn a_valley_is_found() {
        let (x, _) = minimize([-1.2, 1.0], [0.5, 0.5], |[x, y]| 100.0 * (y - x * x).powi(2) + (1.0 - x).powi(2));
        assert!((x[0] - 1.0).abs() < 1e-5 && (x[1] - 1.0).abs() < 1e-5, "{x:?}");
    }
}
