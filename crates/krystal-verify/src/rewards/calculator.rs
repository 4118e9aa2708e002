//! Every calculator annotation is right.

use std::sync::LazyLock;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{Pow, Signed};
use regex::Regex;

use crate::math::{Evaluator, Kind, PercentSign, Token, Unreadable, tokenize};
use crate::{Sample, Verdict, Verifier};

// The pattern is a constant that a test compiles.
static ANNOTATION: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"<<([^<>\n]*)>>").expect("a constant pattern"));

/// The share of `<<48/2=24>>` annotations that are right, checked with exact rationals.
///
/// Left of the last `=` stands arithmetic (`+ - * / // ^`, `x` and `×` for times, parentheses, decimals, `.5`, thousands
/// separators, currency signs; `%` is a hundredth), right of it one number. An annotation is right where the number equals the value, or
/// is the value rounded to the decimals it is written with (`<<10/3=3.33>>`; a tie may go either way). With several `=`
/// every side must be right by the same rule. What cannot be read is wrong; an annotation that is never closed is none.
///
/// A completion without annotations has nothing to check: the reward abstains, unless a score for that is set. (A score
/// of 0 pushes a model to annotate; abstaining neither rewards nor punishes silence.)
///
/// Extra columns: `annotations`, `annotations_right`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Calculator {
    missing: Option<f64>,
}

impl Calculator {
    /// `missing`: the score of a completion without annotations; `None` abstains.
    pub fn new(missing: Option<f64>) -> Self {
        Self { missing }
    }
}

impl Verifier for Calculator {
    fn name(&self) -> &str {
        "calculator"
    }

    fn verify(&self, sample: &Sample<'_>) -> Verdict {
        let (mut total, mut right) = (0_u32, 0_u32);
        for captures in ANNOTATION.captures_iter(sample.completion) {
            total += 1;
            right += u32::from(captures.get(1).is_some_and(|inside| is_right(inside.as_str())));
        }
        let verdict = match (total, self.missing) {
            (0, None) => Verdict::abstain("no calculator annotation"),
            (0, Some(score)) => Verdict::score(score),
            _ => Verdict::score(f64::from(right) / f64::from(total)),
        };
        verdict.with("annotations", total).with("annotations_right", right)
    }
}

/// Whether what stands between `<<` and `>>` is right.
fn is_right(annotation: &str) -> bool {
    let mut tokens = tokenize(annotation);
    for token in &mut tokens {
        if matches!(&token.kind, Kind::Word(word) if word == "x" || word == "X") {
            token.kind = Kind::Times;
        }
    }
    let sides: Vec<&[Token]> = tokens.split(|token| token.kind == Kind::Equals).collect();
    let [first, stated @ ..] = sides.as_slice() else { return false };
    let Ok(exact) = value(first) else { return false };
    !stated.is_empty() && stated.iter().all(|side| states(side, &exact))
}

fn value(tokens: &[Token]) -> Result<BigRational, Unreadable> {
    let mut evaluator = Evaluator::new(tokens, PercentSign::Hundredth);
    let value = evaluator.sum()?;
    if evaluator.at == tokens.len() { Ok(value) } else { Err(Unreadable::NotANumber) }
}

/// Whether a side of the equation has the exact value, or is a correct rounding of it.
fn states(side: &[Token], exact: &BigRational) -> bool {
    let Ok(stated) = value(side) else { return false };
    if stated == *exact {
        return true;
    }
    // Only a single number can be a rounding; its last decimal says how coarse. A percentage has two decimals more.
    let unsigned = match side {
        [sign, rest @ ..] if matches!(sign.kind, Kind::Minus | Kind::Plus) => rest,
        rest => rest,
    };
    let places = match unsigned {
        [number] => decimals(number),
        [number, percent] if percent.kind == Kind::Percent => decimals(number).map(|places| places + 2),
        _ => None,
    };
    places.is_some_and(|places| {
        let unit = BigRational::from_integer(BigInt::from(10).pow(places.unsigned_abs()));
        let unit = if places >= 0 { unit.recip() } else { unit };
        (stated - exact).abs() * BigInt::from(2) <= unit
    })
}

fn decimals(token: &Token) -> Option<i32> {
    match &token.kind {
        Kind::Number(number) => Some(number.places),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn right_and_wrong_annotations() {
        for (annotation, expected) in [
            ("48/2=24", true),
            ("12/60=0.2", true),
            ("12/60=.2", true),
            ("12/60=0.20", true),
            (".5*4=2", true),
            ("2*0.5=1.0", true),
            ("1,000+234.5=1,234.50", true),
            ("$5+$3=$8", true),
            ("40*25%=10", true),
            ("20/100=20%", true),
            ("(3+4)*(2-1)=7", true),
            ("-3-4=-7", true),
            ("2 x 3 = 6", true),
            ("2×3÷6=1", true),
            ("2^3=8", true),
            ("2**3=8", true),
            ("560//10=56", true),
            ("2*3=6=6", true),
            ("1/3=0.33", true),
            ("2/3=0.67", true),
            ("2/3=0.7", true),
            ("1/3=0.3333333333333333", true),
            ("5/2=3", true),
            ("5/2=2", true),
            ("100/3=33", true),
            ("2/3=0.66", false),
            ("2/3=0.6667", true),
            ("2/3=.66667", true),
            ("2/3=0.66666", false),
            ("1/3=33%", true),
            ("1/3=34%", false),
            ("48/2=25", false),
            ("2*3=6=7", false),
            ("1/0=0", false),
            ("1234567*8=9.9e6", true),
            ("48/2", false),
            ("=24", false),
            ("48/2=", false),
            ("", false),
            ("2+=4", false),
            ("2+2=four", false),
            ("x=4", false),
            ("10000000000000001*3=30000000000000003", true),
            ("10000000000000001*3=30000000000000002", false),
        ] {
            assert_eq!(is_right(annotation), expected, "<<{annotation}>>");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[-+*/^%=().,$x<> 0-9e!]{0,60}") {
            is_right(&text);
        }

        #[test]
        fn sums_and_products_of_integers(a in -10_000_i64..10_000, b in -10_000_i64..10_000, off in 1_i64..100) {
            prop_assert!(is_right(&format!("{a}+({b})={}", a + b)), "{a} {b}");
            prop_assert!(is_right(&format!("{a}*{b}={}", a * b)), "{a} {b}");
            prop_assert!(!is_right(&format!("{a}-{b}={}", a - b + off)), "{a} {b}");
        }

        /// Rounding half away from zero, computed in integers.
        #[test]
        fn roundings_count_and_their_neighbours_do_not(a in 0_u64..100_000, b in 1_u64..1_000, places in 0_u32..6) {
            let unit = 10_u64.pow(places);
            let rounded = (2 * a * unit + b) / (2 * b);
            let write = |scaled: u64| {
                let (whole, part) = (scaled / unit, scaled % unit);
                if places == 0 { format!("{whole}") } else { format!("{whole}.{part:0width$}", width = places as usize) }
            };
            prop_assert!(is_right(&format!("{a}/{b}={}", write(rounded))), "{a} {b}");
            prop_assert!(!is_right(&format!("{a}/{b}={}", write(rounded + 1))), "{a} {b}");
        }
    }
}
