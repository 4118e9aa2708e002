//! From values to places.

/// Maps `from` to `to` linearly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    pub(crate) from: (f64, f64),
    pub(crate) to: (f64, f64),
}

impl Scale {
    /// The scale; a range without extent is widened to one around it.
    pub(crate) fn new(from: (f64, f64), to: (f64, f64)) -> Self {
        let (low, high) = from;
        let wide = if high > low { from } else { (low - 0.5 * low.abs().max(1.0), low + 0.5 * low.abs().max(1.0)) };
        Self { from: wide, to }
    }

    /// Where `value` is.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let share = (value - self.from.0) / (self.from.1 - self.from.0);
        self.to.0 + share * (self.to.1 - self.to.0)
    }

    /// Round values (1, 2 or 5 times a power of ten apart) in the range, about `n` of them.
    pub(crate) fn ticks(&self, n: usize) -> Vec<f64> {
        let step = round_step((self.from.1 - self.from.0) / n.max(1) as f64);
        let first = (self.from.0 / step - 1e-9).ceil();
        let count = ((self.from.1 / step + 1e-9).floor() - first).clamp(0.0, 100.0) as usize;
        // Adding zero turns -0 into 0.
        (0..=count).map(|i| (first + i as f64) * step + 0.0).collect()
    }
}

fn round_step(rough: f64) -> f64 {
    let power = 10_f64.powf(rough.log10().floor());
    let times = [1.0, 2.0, 5.0].into_iter().find(|times| times * power >= rough * 0.999);
    times.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within() {
        let ticks = |low, high, n| Scale::new((low, high), (0.0, 1.0)).ticks(n);
        assert_eq!(ticks(0.0, 60.0, 4), [0.0, 20.0, 40.0, 60.0]);
        assert_eq!(ticks(-0.3, 1.1, 3), [0.0, 0.5, 1.0]);
        assert_eq!(ticks(7.0, 7.0, 4).first(), Some(&4.0));
        assert!(ticks(1e-30, 2e-30, 4).len() > 2);
    }

    #[test]
    fn ends_map_to_ends() {
        let scale = Scale::new((2.0, 4.0), (100.0, 0.0));
        assert_eq!((scale.at(2.0), scale.at(3.0), scale.at(4.0)), (100.0, 50.0, 0.0));
    }
}
