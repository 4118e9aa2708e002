//! Descriptive statistics in a fixed order of summation.
//!
//! Every sum runs from the first element to the last with Neumaier's compensation, so a result depends on the order of
//! its inputs alone: not on threads, and not on how a batch was cut as long as the values come in the same order.

/// The 97.5 % point of the standard normal distribution: the half-width of a two-sided 95 % interval.
pub const Z_95: f64 = 1.959_963_984_540_054;

/// Sum from first to last, with a running compensation of the rounding error (Neumaier 1974).
///
/// ```
/// assert_eq!(krystal_math::statistics::sum([1e100, 1.0, -1e100]), 1.0);
/// ```
pub fn sum(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut total = 0.0_f64;
    let mut lost = 0.0_f64;
    for x in values {
        let next = total + x;
        lost += if total.abs() >= x.abs() { (total - next) + x } else { (x - next) + total };
        total = next;
    }
    // With an infinite total the compensation is NaN and would hide which infinity it was.
    if total.is_finite() { total + lost } else { total }
}

/// Arithmetic mean; NaN for no values.
///
/// The mean of equal values is that value exactly, so that their deviations are zero.
pub fn mean(values: &[f64]) -> f64 {
    match values {
        [] => f64::NAN,
        [first, rest @ ..] if rest.iter().all(|x| x == first) => *first,
        _ => sum(values.iter().copied()) / values.len() as f64,
    }
}

/// Standard deviation `sqrt(sum (x - mean)^2 / (n - ddof))`; NaN unless `n > ddof`.
pub fn std(values: &[f64], ddof: usize) -> f64 {
    if values.len() <= ddof {
        return f64::NAN;
    }
    let centre = mean(values);
    (sum(values.iter().map(|x| (x - centre).powi(2))) / (values.len() - ddof) as f64).sqrt()
}

/// [`mean`] of the values that are not NaN.
pub fn nan_mean(values: &[f64]) -> f64 {
    mean(&without_nan(values))
}

/// [`std()`] of the values that are not NaN.
pub fn nan_std(values: &[f64], ddof: usize) -> f64 {
    std(&without_nan(values), ddof)
}

fn without_nan(values: &[f64]) -> Vec<f64> {
    values.iter().copied().filter(|x| !x.is_nan()).collect()
}

/// The `q`-quantile, linear between the two nearest order statistics (`torch.quantile`, NumPy's default, Hyndman and
/// Fan's type 7). `None` for no values, for a NaN among them, or for `q` outside `[0, 1]`.
///
/// ```
/// assert_eq!(krystal_math::statistics::quantile(&[4.0, 1.0, 2.0, 3.0], 0.5), Some(2.5));
/// ```
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    if values.is_empty() || !(0.0..=1.0).contains(&q) || values.iter().any(|x| x.is_nan()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = q * (sorted.len() - 1) as f64;
    let below = rank.floor() as usize;
    let above = rank.ceil() as usize;
    Some(sorted[below] + (sorted[above] - sorted[below]) * (rank - below as f64))
}

/// Wilson's 95 % score interval of a proportion: `(low, high)`, within `[0, 1]`.
///
/// `(p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)` with `p` the observed `proportion` of `n` trials and
/// `z = 1.96`. Unlike `p -+ 2 se` it stays sensible at 0 and 1 and for small `n`. For `n = 0` nothing is known: `(0, 1)`.
///
/// Wilson, E. B. (1927), doi:10.1080/01621459.1927.10502953.
pub fn wilson_interval(proportion: f64, n: usize) -> (f64, f64) {
    if n == 0 {
        return (0.0, 1.0);
    }
    let n = n as f64;
    let p = proportion;
    let z2 = Z_95 * Z_95;
    let centre = p + z2 / (2.0 * n);
    let spread = Z_95 * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z2 / n;
    (((centre - spread) / scale).max(0.0), ((centre + spread) / scale).min(1.0))
}

/// `ln(sum exp(x))` without overflow: the largest value is taken out first. `-inf` for no values.
pub fn log_sum_exp(values: &[f64]) -> f64 {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !largest.is_finite() {
        // All -inf (or none), or an infinity that no shift can tame. A NaN must still come out as NaN.
        return if values.iter().any(|x| x.is_nan()) { f64::NAN } else { largest };
    }
    largest + sum(values.iter().map(|x| (x - largest).exp())).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NumPy 2.4.6: `np.std([0.1, 0.7, 0.4, 2.0], ddof=1)`, the same with `ddof=0`, and `np.quantile(.., [0.2, 0.8])`.
    #[test]
    fn agrees_with_numpy() {
        let x = [0.1, 0.7, 0.4, 2.0];
        assert!((mean(&x) - 0.8).abs() < 1e-15);
        assert!((std(&x, 1) - 0.836_660_026_534_075_6).abs() < 1e-15);
        assert!((std(&x, 0) - 0.724_568_837_309_472).abs() < 1e-15);
        assert!((quantile(&x, 0.2).unwrap() - 0.28).abs() < 1e-15);
        assert!((quantile(&x, 0.8).unwrap() - 1.22).abs() < 1e-15);
    }

    #[test]
    fn equal_values_have_no_spread() {
        // 0.1 + 0.1 + 0.1 is not 3 * 0.1 in binary: the naive mean would leave a deviation behind.
        assert_eq!(mean(&[0.1; 3]), 0.1);
        assert_eq!(std(&[0.1; 3], 1), 0.0);
    }

    #[test]
    fn abstentions_are_left_out() {
        assert_eq!(nan_mean(&[1.0, f64::NAN, 3.0]), 2.0);
        assert!((nan_std(&[1.0, f64::NAN, 3.0], 1) - 2.0_f64.sqrt()).abs() < 1e-15);
        assert!(nan_std(&[1.0, f64::NAN], 1).is_nan());
        assert!(nan_mean(&[f64::NAN]).is_nan());
    }

    /// 0 of 10 and 15 of 50, the formula evaluated with Python's `decimal` at 30 digits.
    #[test]
    fn wilson_agrees_with_thirty_digits() {
        let (low, high) = wilson_interval(0.0, 10);
        assert_eq!(low, 0.0);
        assert!((high - 0.277_532_799_862_889_25).abs() < 1e-14, "{high}");
        let (low, high) = wilson_interval(0.3, 50);
        assert!((low - 0.191_035_535_008_809_46).abs() < 1e-14, "{low}");
        assert!((high - 0.437_503_504_644_534).abs() < 1e-14, "{high}");
        assert_eq!(wilson_interval(0.0, 0), (0.0, 1.0));
    }

    #[test]
    fn log_sum_exp_survives_large_values() {
        assert!((log_sum_exp(&[1000.0, 1000.0]) - (1000.0 + 2.0_f64.ln())).abs() < 1e-12);
        assert_eq!(log_sum_exp(&[]), f64::NEG_INFINITY);
        assert_eq!(log_sum_exp(&[f64::NEG_INFINITY, 0.0]), 0.0);
        assert!(log_sum_exp(&[f64::NAN, f64::NAN]).is_nan());
    }

    #[test]
    fn quantile_refuses_what_has_none() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[1.0], 1.5), None);
        assert_eq!(quantile(&[f64::NAN], 0.5), None);
    }
}
