//! Exponential and power from additions and multiplications alone: the same bits on every machine, where a platform's libm may differ in
//! the last, and loops over them that compilers can vectorise. Errors are a few units in the last place.

use pulp::{Arch, NullaryFnOnce};

/// 1.5 * 2^52: adding it rounds to an integer, which is then in the low bits.
const ROUND: f64 = 6_755_399_441_055_744.0;

/// `1 / n!` from 13 down to 0; `0.347^14 / 14!` is below the last bit.
const FACTORIALS: [f64; 14] = [
    1.0 / 6_227_020_800.0,
    1.0 / 479_001_600.0,
    1.0 / 39_916_800.0,
    1.0 / 3_628_800.0,
    1.0 / 362_880.0,
    1.0 / 40_320.0,
    1.0 / 5_040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
    1.0,
    1.0,
];

/// `2 / (2 n + 1)` from 10 down to 0; `0.1716^22 / 23` is below the last bit.
const ODD: [f64; 11] = [
    2.0 / 21.0,
    2.0 / 19.0,
    2.0 / 17.0,
    2.0 / 15.0,
    2.0 / 13.0,
    2.0 / 11.0,
    2.0 / 9.0,
    2.0 / 7.0,
    2.0 / 5.0,
    2.0 / 3.0,
    2.0,
];

/// The natural logarithm of 2, its first 32 bits and the rest: a product of the first with an exponent is exact.
const LN_2: (f64, f64) = (0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10);

/// `e^x` for `x <= 700`; 0 below -708, where the result would have fewer bits.
#[inline(always)]
pub(crate) fn exp(x: f64) -> f64 {
    let clamped = if x > -708.0 { x } else { -708.0 };
    let shifted = clamped * std::f64::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (clamped - n * LN_2.0) - n * LN_2.1;
    let mut sum = 0.0;
    for c in FACTORIALS {
        sum = sum * r + c;
    }
    let power = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    if x > -708.0 { sum * power } else { 0.0 }
}

/// The natural logarithm of a positive normal number.
#[inline(always)]
fn ln(x: f64) -> f64 {
    // The mantissa between the roots of 1/2 and 2: subtracting the bits of the former carries into the exponent.
    let bits = x.to_bits();
    let exponent = bits.wrapping_sub(0x3fe6_a09e_667f_3bcd) >> 52;
    let mantissa = f64::from_bits(bits.wrapping_sub(exponent << 52));
    // The exponent is negative modulo 2^12. As a number: 2^52 and it, without 2^52.
    let biased = exponent.wrapping_add(2048) & 0xfff;
    let n = f64::from_bits(0x4330_0000_0000_0000 | biased) - (4_503_599_627_370_496.0 + 2048.0);
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let s2 = s * s;
    let mut sum = 0.0;
    for c in ODD {
        sum = sum * s2 + c;
    }
    n * LN_2.0 + (n * LN_2.1 + s * sum)
}

/// `x <- x^power` of all positive normal numbers, where the results lie in 1e-300 to 1e300.
pub(crate) fn raise(values: &mut [f64], power: f64) {
    Arch::new().dispatch(Raise { values, power });
}

struct Raise<'a> {
    values: &'a mut [f64],
    power: f64,
}

impl NullaryFnOnce for Raise<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for x in self.values {
            *x = exp(self.power * ln(*x));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_those_of_the_library() {
        for i in -70_000..=70_000 {
            let x = f64::from(i) / 100.0 + f64::from(i % 7) * 1e-4;
            if x < 700.0 {
                let (found, expected) = (exp(x), x.exp());
                assert!((found - expected).abs() <= 1e-15 * expected, "exp({x}) = {found:e}, expected {expected:e}");
            }
        }
        assert_eq!((exp(0.0), exp(-0.0), exp(-709.0), exp(-1e300), exp(f64::NEG_INFINITY)), (1.0, 1.0, 0.0, 0.0, 0.0));
    }

    #[test]
    fn powers_are_those_of_the_library() {
        for power in [0.0, 0.4, 0.6, 1.0, -0.4, 2.0] {
            let mut x = 1e-100_f64;
            while x < 1e100 {
                let mut found = [x, 1.0];
                raise(&mut found, power);
                let expected = x.powf(power);
                assert!(
                    (found[0] - expected).abs() <= 1e-13 * expected,
                    "{x:e}^{power} = {:e}, not {expected:e}",
                    found[0]
                );
                assert_eq!(found[1], 1.0);
                x *= 1.371;
            }
        }
    }

    #[test]
    fn instruction_sets_agree_on_every_bit() {
        let values: Vec<f64> = (1..1000).map(|i| f64::from(i) * 0.37).collect();
        let mut dispatched = values.clone();
        raise(&mut dispatched, 0.6);
        assert!(values.iter().zip(&dispatched).all(|(x, y)| exp(0.6 * ln(*x)).to_bits() == y.to_bits()));
    }
}
