//! One swarm of numbers on one axis.

use serde::{Deserialize, Serialize};

/// What is known about an objective along one axis of the unit cube, and where to look next.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Axis {
    /// Positions in ascending order with the objective's value there, up to a constant.
    samples: Vec<(f64, f64)>,
    best: usize,
    /// Steps towards the bottom of the best sample's basin.
    n_descents: u32,
    is_at_bottom: bool,
    has_searched: bool,
    /// The largest scale of the objective seen along this axis.
    scale: f64,
}

/// Samples after which an axis is done.
const MOST_SAMPLES: usize = 300;

/// How much better than the best an unseen basin is supposed to be, as a share of the objective's scale.
const HOPE: f64 = 0.01;

/// An unseen basin that would have to be so much sharper than the whole is not looked for.
const MOST_CURVATURE: f64 = 3000.0;

/// A bracket so narrow is a point.
const LEAST_BRACKET: f64 = 1e-10;

/// A best sample at the wall counts as the bottom when the next one is so near.
const LEAST_AT_WALL: f64 = 1e-3;

/// The golden section.
const GOLDEN: f64 = 0.381_966_011_250_105;

impl Axis {
    pub(super) fn is_sound(&self) -> bool {
        self.samples.is_empty() || self.best < self.samples.len()
    }

    /// Where the objective is least, and its value there.
    pub(super) fn best(&self) -> Option<(f64, f64)> {
        self.samples.get(self.best).copied()
    }

    /// The value at a position that was sampled.
    pub(super) fn value_at(&self, x: f64) -> Option<f64> {
        let i = self.samples.partition_point(|sample| sample.0 < x);
        self.samples.get(i).filter(|sample| sample.0 == x).map(|sample| sample.1)
    }

    /// Keeps a sample; the first one at its position counts.
    pub(super) fn learn(&mut self, x: f64, value: f64) {
        let i = self.samples.partition_point(|sample| sample.0 < x);
        if self.samples.get(i).is_some_and(|sample| sample.0 == x) {
            return;
        }
        self.samples.insert(i, (x, value));
        self.best += usize::from(self.samples.len() > 1 && i <= self.best);
        if value < self.samples[self.best].1 {
            self.best = i;
            self.is_at_bottom = false;
        }
    }

    /// Where to descend further into the basin of the best sample: the lowest point of the parabola through it and its neighbours,
    /// and every third time the golden section of the wider side (after Brent 1973). Nothing once the bottom is reached.
    pub(super) fn descend(&mut self) -> Option<f64> {
        if self.is_at_bottom || self.samples.len() >= MOST_SAMPLES {
            return None;
        }
        self.n_descents += 1;
        let next = self.next_descent();
        self.is_at_bottom = next.is_none();
        next
    }

    fn next_descent(&self) -> Option<f64> {
        let (x, value) = self.best()?;
        let left = self.best.checked_sub(1).map(|i| self.samples[i]);
        let (left, right) = match (left, self.samples.get(self.best + 1)) {
            (Some(left), Some(right)) => (left, right),
            (Some((only, _)), None) | (None, Some(&(only, _))) => {
                return ((only - x).abs() >= LEAST_AT_WALL).then_some(x + 0.1 * (only - x));
            }
            (None, None) => return None,
        };
        let (to_left, to_right) = (x - left.0, right.0 - x);
        let width = to_left + to_right;
        let (slope_left, slope_right) = ((left.1 - value) / to_left, (right.1 - value) / to_right);
        if width < LEAST_BRACKET || slope_left == 0.0 || slope_right == 0.0 {
            return None;
        }
        // The parabola through the three is `value + curvature (t - vertex)^2 + ..` for t to the right of x.
        let curvature = (slope_left + slope_right) / width;
        let vertex = (slope_left * to_right - slope_right * to_left) / width / (2.0 * curvature);
        let into_wider = |share: f64| if to_left > to_right { -share * to_left } else { share * to_right };
        let step = if self.n_descents.is_multiple_of(3) || !vertex.is_finite() {
            into_wider(GOLDEN)
        } else if vertex.abs() >= 1e-3 * width {
            vertex
        } else if curvature * width * width <= 1e-15 * self.scale {
            return None;
        } else {
            // The best sample is at the bottom already: close the wider side of its bracket.
            into_wider(0.5).clamp(-0.01 * width, 0.01 * width)
        };
        let next = x + step;
        (next > left.0 && next < right.0 && next != x).then_some(next)
    }

    /// Where another basin is most easily hidden: the middle of that gap between samples which the flattest parabola through its
    /// ends would take below the best (STEP: Swarzberg, Seront and Bersini 1994, doi:10.1109/ICEC.1994.349978). Nothing once even
    /// that would be too sharp.
    pub(super) fn search(&mut self, sorted: &mut Vec<f64>) -> Option<f64> {
        let (_, best) = self.best()?;
        if self.has_searched || self.samples.len() >= MOST_SAMPLES {
            return None;
        }
        sorted.clear();
        sorted.extend(self.samples.iter().map(|sample| sample.1 - best));
        sorted.sort_unstable_by(f64::total_cmp);
        let median = sorted[sorted.len() / 2];
        self.scale = self.scale.max(median);
        let hoped = best - HOPE * median;
        let sharpness = |pair: &[(f64, f64)]| {
            (((pair[0].1 - hoped).sqrt() + (pair[1].1 - hoped).sqrt()) / (pair[1].0 - pair[0].0)).powi(2)
        };
        let flattest = self
            .samples
            .windows(2)
            .map(|pair| (sharpness(pair), pair[0].0 + 0.5 * (pair[1].0 - pair[0].0)))
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .filter(|(sharpness, _)| median > 0.0 && *sharpness <= 4.0 * MOST_CURVATURE * self.scale);
        self.has_searched = flattest.is_none();
        flattest.map(|(_, x)| x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the best of all samples is, and how many were taken.
    fn minimum(f: impl Fn(f64) -> f64) -> (f64, usize) {
        let (mut axis, mut sorted) = (Axis::default(), Vec::new());
        for x in [0.0, 0.3, 0.45, 0.8, 1.0] {
            axis.learn(x, f(x));
        }
        loop {
            let (descended, found) = (axis.descend(), axis.search(&mut sorted));
            let asked: Vec<f64> = descended.into_iter().chain(found).collect();
            if asked.is_empty() {
                return (axis.best().unwrap().0, axis.samples.len());
            }
            for x in asked {
                assert!((0.0..=1.0).contains(&x));
                axis.learn(x, f(x));
            }
        }
    }

    #[test]
    fn the_lowest_of_many_basins() {
        for at in [0.1237, 0.5, 0.9] {
            let f = |x: f64| {
                let z = 10.0 * (x - at);
                z * z + 10.0 * (1.0 - (std::f64::consts::TAU * z).cos())
            };
            let (x, n) = minimum(f);
            assert!((x - at).abs() < 1e-7 && n < MOST_SAMPLES, "{x} after {n}, wanted {at}");
        }
    }

    #[test]
    fn the_bottom_of_a_parabola() {
        for at in [0.7, 0.123] {
            let (x, n) = minimum(|x| (x - at) * (x - at));
            assert!((x - at).abs() < 1e-9 && n < MOST_SAMPLES, "{x} after {n}, wanted {at}");
        }
    }

    #[test]
    fn bottoms_at_walls_kinks_and_plateaus() {
        assert_eq!(minimum(|x| 3.0 * x).0, 0.0);
        assert_eq!(minimum(|x| -x).0, 1.0);
        assert!((minimum(|x| (x - 0.62).abs()).0 - 0.62).abs() < 1e-5);
        assert!((minimum(|x| (x - 0.62).powi(4)).0 - 0.62).abs() < 1e-2);
        let (x, n) = minimum(|x| (8.0 * x).floor());
        assert!(x < 0.125 && n < MOST_SAMPLES);
        assert!(minimum(|_| 1.0).1 < 10);
    }

    #[test]
    fn what_is_known_is_in_order() {
        let mut axis = Axis::default();
        for (x, value) in [(0.5, 2.0), (0.1, 3.0), (0.9, 1.0), (0.1, 0.0), (0.3, 1.5)] {
            axis.learn(x, value);
        }
        assert_eq!(axis.samples, [(0.1, 3.0), (0.3, 1.5), (0.5, 2.0), (0.9, 1.0)]);
        assert_eq!(axis.best(), Some((0.9, 1.0)));
        assert_eq!(axis.value_at(0.3), Some(1.5));
        assert_eq!(axis.value_at(0.31), None);
    }
}
