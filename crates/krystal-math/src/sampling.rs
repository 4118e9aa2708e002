//! From logits to the distribution a token is drawn from.
//!
//! The steps and their order are those of transformers 5: repetition penalty, temperature, top-k, top-p, min-p.

/// How tokens are drawn.
///
/// Log-probabilities that training sees are those of the model under `temperature` alone; `top_k`, `top_p`, `min_p` and
/// `repetition_penalty` shape the draw, as in TRL 1.16.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Softmax temperature, > 0 for sampling; 0 takes the likeliest token. Default 1.
    pub temperature: f32,
    /// Keep the `top_k` most likely tokens; 0, the default, keeps all.
    pub top_k: usize,
    /// Keep the smallest set of tokens whose probability reaches `top_p`, in (0, 1]; 1, the default, keeps all.
    pub top_p: f32,
    /// Drop tokens less likely than `min_p` times the likeliest, in [0, 1]; 0, the default, drops none.
    pub min_p: f32,
    /// Divide positive (multiply negative) logits of tokens already seen by this, > 0; 1, the default, changes nothing.
    pub repetition_penalty: f32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0 }
    }
}

impl Sampling {
    /// The likeliest token, always.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Whether anything but the temperature shapes the draw.
    pub fn is_truncated(&self) -> bool {
        self.top_k > 0 || self.top_p < 1.0 || self.min_p > 0.0 || self.repetition_penalty != 1.0
    }

    /// What is wrong with the settings, if anything: the field, and what it must be.
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            Some(("temperature", "a finite number of at least 0"))
        } else if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            Some(("top_p", "a number above 0 and up to 1"))
        } else if !(self.min_p >= 0.0 && self.min_p <= 1.0) {
            Some(("min_p", "a number from 0 to 1"))
        } else if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            Some(("repetition_penalty", "a finite number above 0"))
        } else {
            None
        }
    }
}

/// Makes tokens that were `seen` less likely (Keskar et al. 2019, arXiv:1909.05858), in place.
pub fn penalise_repetition(logits: &mut [f32], seen: &[u32], penalty: f32) {
    if penalty == 1.0 {
        return;
    }
    let mut done: Vec<u32> = seen.to_vec();
    done.sort_unstable();
    done.dedup();
    for token in done {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
        }
    }
}

/// The distribution that the next token is drawn from, `(V)`, summing to 1; tokens that are left out have probability 0.
///
/// With `temperature` 0, or a temperature so small that nothing else has weight, all of it is on the likeliest token (the first
/// of equals).
pub fn probabilities(logits: &[f32], seen: &[u32], sampling: &Sampling) -> Vec<f64> {
    let mut z = logits.to_vec();
    penalise_repetition(&mut z, seen, sampling.repetition_penalty);
    let best = argmax(&z);
    if sampling.temperature != 1.0 {
        for z in &mut z {
            *z /= sampling.temperature;
        }
    }
    // Dividing by zero, or by so little that the result overflows, leaves nothing to compare.
    if sampling.temperature == 0.0 || best.is_some_and(|best| !z[best].is_finite()) {
        let mut p = vec![0.0; z.len()];
        if let Some(best) = best {
            p[best] = 1.0;
        }
        return p;
    }
    if sampling.top_k > 0 && sampling.top_k < z.len() {
        let mut sorted = z.clone();
        let (_, kth, _) = sorted.select_nth_unstable_by(sampling.top_k - 1, |a, b| b.total_cmp(a));
        let kth = *kth;
        for z in &mut z {
            if *z < kth {
                *z = f32::NEG_INFINITY;
            }
        }
    }
    if sampling.top_p < 1.0 {
        let p = softmax(&z);
        let dropped = 1.0 - f64::from(sampling.top_p);
        // All tokens below this share of the dropped mass are dropped together, for they cannot add up to it: of a large
        // vocabulary few are left to sort.
        let negligible = dropped / z.len() as f64;
        let (mut order, mut below) = (Vec::new(), 0.0);
        for (token, p) in p.iter().enumerate() {
            if *p < negligible && best != Some(token) {
                below += p;
                z[token] = f32::NEG_INFINITY;
            } else {
                order.push(token);
            }
        }
        order.sort_by(|a, b| z[*a].total_cmp(&z[*b]));
        let last = order.len().saturating_sub(1);
        for token in &order[..last] {
            below += p[*token];
            if below > dropped {
                break;
            }
            z[*token] = f32::NEG_INFINITY;
        }
    }
    if sampling.min_p > 0.0 {
        let p = softmax(&z);
        let top = p.iter().fold(0.0_f64, |m, p| m.max(*p));
        for (z, p) in z.iter_mut().zip(&p) {
            if *p < f64::from(sampling.min_p) * top {
                *z = f32::NEG_INFINITY;
            }
        }
    }
    softmax(&z)
}

/// The token at which the cumulative distribution passes `u`, in [0, 1).
pub fn draw(probabilities: &[f64], u: f64) -> usize {
    let mut cumulative = 0.0;
    let mut last = 0;
    for (token, p) in probabilities.iter().enumerate() {
        if *p > 0.0 {
            cumulative += p;
            last = token;
            if u < cumulative {
                break;
            }
        }
    }
    last
}

/// Index of the largest value, the first of equals; NaN never wins. `None` for no values.
pub fn argmax(values: &[f32]) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (i, value) in values.iter().enumerate() {
        if best.is_none_or(|b| *value > values[b] || values[b].is_nan()) {
            best = Some(i);
        }
    }
    best
}

fn softmax(z: &[f32]) -> Vec<f64> {
    let top = z.iter().fold(f32::NEG_INFINITY, |m, z| m.max(*z));
    let e: Vec<f64> = z.iter().map(|z| (f64::from(*z) - f64::from(top)).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.into_iter().map(|e| e / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 4] = [1.0, 3.0, 2.0, -1.0];

    fn kept(sampling: &Sampling) -> Vec<usize> {
        let p = probabilities(&LOGITS, &[1], sampling);
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        (0..p.len()).filter(|i| p[*i] > 0.0).collect()
    }

    #[test]
    fn each_setting_leaves_out_what_it_should() {
        assert_eq!(kept(&Sampling::default()), [0, 1, 2, 3]);
        assert_eq!(kept(&Sampling::greedy()), [1]);
        assert_eq!(kept(&Sampling { top_k: 2, ..Sampling::default() }), [1, 2]);
        // p = 0.087, 0.644, 0.237, 0.012 to three digits (with 3 at 0.0118).
        assert_eq!(kept(&Sampling { top_p: 0.6, ..Sampling::default() }), [1]);
        assert_eq!(kept(&Sampling { top_p: 0.7, ..Sampling::default() }), [1, 2]);
        assert_eq!(kept(&Sampling { min_p: 0.2, ..Sampling::default() }), [1, 2]);
        let p = probabilities(&LOGITS, &[1], &Sampling { repetition_penalty: 3.0, ..Sampling::default() });
        assert_eq!(argmax(&p.iter().map(|p| *p as f32).collect::<Vec<_>>()), Some(2));
    }

    /// The definition, without shortcuts: the least likely tokens go as long as their sum stays within `1 - top_p`.
    #[test]
    fn top_p_is_its_definition_on_a_large_vocabulary() {
        for (spread, top_p) in [(1.0, 0.9), (4.0, 0.5), (0.0, 1e-6), (9.0, 0.999)] {
            let logits: Vec<f32> = (0..5000).map(|i| spread * ((i * 7919 % 5003) as f32 / 5003.0 - 0.5)).collect();
            let p = softmax(&logits);
            let mut order: Vec<usize> = (0..p.len()).collect();
            order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
            let mut below = 0.0;
            let dropped = order.iter().take_while(|t| {
                below += p[**t];
                below <= 1.0 - f64::from(top_p)
            });
            let expected = p.len() - dropped.count().min(p.len() - 1);
            let kept = probabilities(&logits, &[], &Sampling { top_p, ..Sampling::default() });
            assert_eq!(kept.iter().filter(|p| **p > 0.0).count(), expected, "{spread} {top_p}");
        }
    }

    #[test]
    fn temperatures_too_small_to_divide_by_are_greedy() {
        for temperature in [0.0, f32::MIN_POSITIVE, 1e-39] {
            let p = probabilities(&LOGITS, &[], &Sampling { temperature, ..Sampling::default() });
            assert_eq!(p, [0.0, 1.0, 0.0, 0.0], "{temperature}");
            let p = probabilities(&LOGITS.map(|z| -z), &[], &Sampling { temperature, ..Sampling::default() });
            assert_eq!(p, [0.0, 0.0, 0.0, 1.0], "{temperature}");
        }
    }

    #[test]
    fn draws_follow_the_cumulative_distribution() {
        let p = [0.25, 0.0, 0.5, 0.25];
        let tokens: Vec<usize> = [0.0, 0.249, 0.25, 0.74, 0.75, 0.999_999].into_iter().map(|u| draw(&p, u)).collect();
        assert_eq!(tokens, [0, 0, 2, 2, 3, 3]);
    }
}
