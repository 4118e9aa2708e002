//! What a tail is compared with: lognormal and exponential.

use super::special::{ln_mills_ratio, ln_normal_tail, minimize};

/// A likelihood ratio test of Vuong (1989), doi:10.2307/1912557.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Comparison {
    /// `R`, the log likelihood of the power law minus that of its rival: above 0 speaks for the power law.
    pub log_likelihood_ratio: f64,
    /// How likely a ratio as far from 0 is if both are equally far from the truth. Its sign means something only where this is small.
    pub p_value: f64,
}

impl Comparison {
    /// Whether the rival is rejected: `R > 0`, and by chance in one case of ten at most.
    pub fn rejects_rival(&self) -> bool {
        self.log_likelihood_ratio > 0.0 && self.p_value < 0.1
    }
}

/// Values above a threshold and how often each occurs.
pub(super) struct Tail<'a> {
    pub(super) values: &'a [(f64, f64)],
    pub(super) n: f64,
    pub(super) xmin: f64,
    pub(super) discrete: bool,
}

impl Tail<'_> {
    pub(super) fn mean(&self, f: impl Fn(f64) -> f64) -> f64 {
        krystal_math::statistics::sum(self.values.iter().map(|&(x, count)| count * f(x))) / self.n
    }

    /// Compares log likelihoods, value by value.
    pub(super) fn compare(&self, power: impl Fn(f64) -> f64, rival: impl Fn(f64) -> f64) -> Comparison {
        let difference = |x: f64| power(x) - rival(x);
        let mean = self.mean(difference);
        let variance = self.mean(|x| (difference(x) - mean).powi(2));
        let ratio = mean * self.n;
        // erfc(|R| / sqrt(2 n) sigma) is twice the tail of a normal.
        let z = ratio.abs() / (self.n * variance).sqrt();
        let p_value = if z.is_nan() { 1.0 } else { 2.0 * ln_normal_tail(z).exp() };
        Comparison { log_likelihood_ratio: ratio, p_value: p_value.min(1.0) }
    }

    /// The log likelihood of the best exponential.
    pub(super) fn exponential(&self) -> impl Fn(f64) -> f64 + use<> {
        let (xmin, excess) = (self.xmin, self.mean(|x| x) - self.xmin);
        // Geometric if discrete: P = (1 - e^-lambda) e^(-lambda (x - xmin)).
        let rate = if self.discrete { excess.recip().ln_1p() } else { excess.recip() };
        let norm = if self.discrete { (-(-rate).exp_m1()).ln() } else { rate.ln() };
        move |x| norm - rate * (x - xmin)
    }

    /// The log likelihood of the best lognormal whose median is at least `exp(mu_min)`.
    pub(super) fn lognormal(&self, mu_min: f64) -> impl Fn(f64) -> f64 + use<> {
        let origin = self.xmin.ln();
        // Of w = ln(x / xmin).
        let (w, w2) = (self.mean(|x| x.ln() - origin), self.mean(|x| (x.ln() - origin).powi(2)));
        let (mean, spread) = (origin + w, (w2 - w * w).max(1e-12).sqrt());
        let (xmin, discrete) = (self.xmin, self.discrete);
        let parameters = move |[mu, ln_sigma]: [f64; 2]| (mu.max(mu_min), ln_sigma.exp());
        // With (y - mu)^2 - (y_min - mu)^2 = w^2 + 2 w (y_min - mu), for a median far below the data is where lognormals become
        // power laws, and where both squares lose all digits of their difference.
        let density = move |mu: f64, sigma: f64, w: f64, w2: f64| {
            let below = origin - mu;
            -0.5 * (w2 + 2.0 * w * below) / (sigma * sigma) - sigma.ln() - ln_mills_ratio(below / sigma)
        };
        let loss = |at: [f64; 2]| {
            let (mu, sigma) = parameters(at);
            -if discrete { self.mean(discrete_lognormal(mu, sigma, xmin)) } else { density(mu, sigma, w, w2) }
        };
        let start = [mean.max(mu_min), spread.ln()];
        let far = [mean - 3.0 * spread, (3.0 * spread).ln()];
        let step = [spread, 0.5];
        let (a, b) = (minimize(start, step, loss), minimize(far, step, loss));
        let (mu, sigma) = parameters(if b.1 < a.1 { b.0 } else { a.0 });
        move |x| {
            if discrete {
                discrete_lognormal(mu, sigma, xmin)(x)
            } else {
                let w = x.ln() - origin;
                density(mu, sigma, w, w * w) - x.ln()
            }
        }
    }
}

/// A lognormal rounded to whole numbers, from `xmin` on.
fn discrete_lognormal(mu: f64, sigma: f64, xmin: f64) -> impl Fn(f64) -> f64 {
    let origin = (xmin - 0.5).ln();
    let z_min = (origin - mu) / sigma;
    let (tail, mills) = (ln_normal_tail(z_min), ln_mills_ratio(z_min));
    // ln P(Z > z) at ln x less that at xmin, without the squares that cancel.
    let beyond = move |ln_x: f64| {
        let w = ln_x - origin;
        ln_mills_ratio((ln_x - mu) / sigma) - mills - 0.5 * w * (w + 2.0 * (origin - mu)) / (sigma * sigma)
    };
    move |x| {
        let (low, high) = ((x - 0.5).ln(), (x + 0.5).ln());
        if low + high > 2.0 * mu {
            let (larger, smaller) = (beyond(low), beyond(high));
            larger + (-(smaller - larger).exp()).ln_1p()
        } else {
            // Below the centre the other tail is the small one.
            let [larger, smaller] = [high, low].map(|ln_x| ln_normal_tail((mu - ln_x) / sigma));
            larger + (-(smaller - larger).exp()).ln_1p() - tail
        }
    }
}
