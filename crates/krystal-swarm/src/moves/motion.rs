//! The inner loop of particle swarms.

use krystal_math::rng::SplitMix64;
use pulp::{Arch, NullaryFnOnce};

use crate::Bounds;

/// How strongly particles are moved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Coefficients {
    pub(crate) inertia: f64,
    pub(crate) cognitive: f64,
    pub(crate) social: f64,
    pub(crate) velocity_limit: f64,
}

/// Coordinates of one or more particles, side by side: it makes no difference where one ends and the next begins.
pub(crate) struct Motion<'a> {
    pub(crate) coefficients: Coefficients,
    pub(crate) rng: SplitMix64,
    pub(crate) x: &'a mut [f64],
    pub(crate) v: &'a mut [f64],
    /// The particles' own best points.
    pub(crate) own: &'a [f64],
    /// The best points of their best informants.
    pub(crate) social: &'a [f64],
}

impl Motion<'_> {
    /// `v = w v + c1 r1 (own - x) + c2 r2 (social - x)`, at most the limit; `x = x + v`, kept in `[0, 1]` as `bounds` say.
    ///
    /// Coordinate `k` takes both uniform numbers from the two halves of the generator's `k`-th word, or, with `together`, all coordinates
    /// from those of the first. Loops are compiled for wide vectors too; lanes never mix and nothing is fused into one rounding, so all give
    /// the same bits.
    pub(crate) fn apply(self, bounds: Bounds, together: bool) {
        if together { self.bounded::<true>(bounds) } else { self.bounded::<false>(bounds) }
    }

    fn bounded<const TOGETHER: bool>(self, bounds: Bounds) {
        let arch = Arch::new();
        match bounds {
            Bounds::Reflect => arch.dispatch(Bounded::<REFLECT, TOGETHER>(self)),
            Bounds::Absorb => arch.dispatch(Bounded::<ABSORB, TOGETHER>(self)),
            Bounds::Periodic => arch.dispatch(Bounded::<PERIODIC, TOGETHER>(self)),
            Bounds::Clamp => arch.dispatch(Bounded::<CLAMP, TOGETHER>(self)),
        }
    }
}

const REFLECT: u8 = 0;
const ABSORB: u8 = 1;
const PERIODIC: u8 = 2;
const CLAMP: u8 = 3;

/// Motion with bounds known at compile time. A type with a `call` instead of a closure, which would not be inlined into the code for
/// wide vectors.
struct Bounded<'a, const BOUNDS: u8, const TOGETHER: bool>(Motion<'a>);

impl<const BOUNDS: u8, const TOGETHER: bool> NullaryFnOnce for Bounded<'_, BOUNDS, TOGETHER> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Motion { coefficients, mut rng, x, v, own, social } = self.0;
        let Coefficients { inertia, cognitive, social: sociable, velocity_limit } = coefficients;
        let n = x.len();
        let (v, own, social) = (&mut v[..n], &own[..n], &social[..n]);
        let shared = if TOGETHER { rng.next_word() } else { 0 };
        for k in 0..n {
            let word = if TOGETHER { shared } else { rng.next_word() };
            let (r1, r2) = (unit(word >> 32), unit(word & 0xffff_ffff));
            let at = x[k];
            let (to_own, to_social) = (towards::<BOUNDS>(own[k] - at), towards::<BOUNDS>(social[k] - at));
            let faster = inertia * v[k] + cognitive * r1 * to_own + sociable * r2 * to_social;
            let faster = within(faster, -velocity_limit, velocity_limit);
            // Steps are multiples of about 1e-296, so that what dies away becomes zero before it reaches subnormal numbers, which take
            // processors many times as long.
            let faster = (faster + 1e-280) - 1e-280;
            (x[k], v[k]) = bounded::<BOUNDS>(at + faster, faster);
        }
    }
}

/// `half / 2^32`, without a conversion that older vector units lack: the bits of a number in `[1, 2)`.
#[inline(always)]
fn unit(half: u64) -> f64 {
    f64::from_bits(0x3ff0_0000_0000_0000 | half << 20) - 1.0
}

/// As `clamp`, without its check of the limits.
#[inline(always)]
fn within(x: f64, low: f64, high: f64) -> f64 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

/// A difference of coordinates, the short way round where there is one.
#[inline(always)]
fn towards<const BOUNDS: u8>(difference: f64) -> f64 {
    if BOUNDS != PERIODIC {
        return difference;
    }
    let down = if difference > 0.5 { 1.0 } else { 0.0 };
    let up = if difference < -0.5 { 1.0 } else { 0.0 };
    difference - down + up
}

/// Position and velocity after the walls; `|v| <= 1` where they reflect or wrap, so that one bounce or one turn is enough.
#[inline(always)]
#[expect(
    clippy::manual_range_contains,
    reason = "both comparisons are made, so that there is no branch to keep from wide vectors"
)]
fn bounded<const BOUNDS: u8>(x: f64, v: f64) -> (f64, f64) {
    let outside = (x < 0.0) | (x > 1.0);
    match BOUNDS {
        REFLECT => {
            let (near, far) = (x.abs(), 2.0 - x.abs());
            let mirrored = if near < far { near } else { far };
            (mirrored, if mirrored == x { v } else { -v })
        }
        ABSORB => (within(x, 0.0, 1.0), if outside { -0.5 * v } else { v }),
        PERIODIC => {
            let turned = if x > 1.0 { x - 1.0 } else { x };
            // A tiny negative number plus one is one, which is inside.
            (if x < 0.0 { x + 1.0 } else { turned }, v)
        }
        _ => (within(x, 0.0, 1.0), v),
    }
}

#[cfg(test)]
mod tests {
    use krystal_math::rng::Purpose;

    use super::*;

    /// The formula, one coordinate at a time, with numbers drawn as documented.
    #[test]
    fn wide_loops_follow_the_formula() {
        let n = 37;
        let mut rng = SplitMix64::stream(5, Purpose::SelfCheck, 0, 0);
        let mut uniform = |n: usize| -> Vec<f64> { (0..n).map(|_| rng.uniform()).collect() };
        let (start, velocity, own, social) = (uniform(n), uniform(n), uniform(n), uniform(n));
        let coefficients = Coefficients { inertia: 0.7, cognitive: 1.5, social: 1.4, velocity_limit: 0.8 };
        let walls = [Bounds::Reflect, Bounds::Absorb, Bounds::Periodic, Bounds::Clamp];
        for (bounds, together) in walls.into_iter().flat_map(|bounds| [(bounds, false), (bounds, true)]) {
            let (mut x, mut v) = (start.clone(), velocity.clone());
            let rng = SplitMix64::stream(6, Purpose::SelfCheck, 0, 0);
            Motion { coefficients, rng, x: &mut x, v: &mut v, own: &own, social: &social }.apply(bounds, together);
            for k in 0..n {
                let word = rng.after(if together { 0 } else { k as u64 }).next_word();
                let r = [(word >> 32) as f64 / 4_294_967_296.0, (word as u32) as f64 / 4_294_967_296.0];
                let short = |d: f64| if bounds == Bounds::Periodic { d - d.round() } else { d };
                let (to_own, to_social) = (short(own[k] - start[k]), short(social[k] - start[k]));
                let wish = 0.7 * velocity[k] + 1.5 * r[0] * to_own + 1.4 * r[1] * to_social;
                let wish = wish.clamp(-0.8, 0.8);
                let free = start[k] + wish;
                let expected = match (bounds, (0.0..=1.0).contains(&free)) {
                    (_, true) => (free, wish),
                    (Bounds::Reflect, _) => (if free < 0.0 { -free } else { 2.0 - free }, -wish),
                    (Bounds::Absorb, _) => (free.clamp(0.0, 1.0), -0.5 * wish),
                    (Bounds::Periodic, _) => (free - free.floor(), wish),
                    (Bounds::Clamp, _) => (free.clamp(0.0, 1.0), wish),
                };
                let close = |a: f64, b: f64| (a - b).abs() < 1e-14;
                assert!(close(x[k], expected.0) && close(v[k], expected.1), "{bounds:?} {k}");
            }
        }
    }
}
