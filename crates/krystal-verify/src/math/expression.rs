//! Exact value of arithmetic expressions: `+ - * / // ^ ! %`, parentheses, `\frac`, mixed numbers.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Pow, Signed, ToPrimitive, Zero};

use super::Unreadable;
use super::token::{Kind, Token};

/// Deepest nesting of parentheses, fractions and signs.
const MAX_DEPTH: usize = 64;
/// Most bits of a numerator or denominator; 2006! has 19,112.
const MAX_BITS: u64 = 32_768;
/// Work allowed for one expression, in bits of operands. A count, not a clock: the same on every machine.
const WORK: u64 = 2_000_000;

/// What a percent sign means inside an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PercentSign {
    /// A hundredth, as on a calculator.
    Hundredth,
    /// The end of the expression: the caller decides.
    Stop,
}

/// A recursive-descent evaluator over tokens.
pub(crate) struct Evaluator<'t> {
    tokens: &'t [Token],
    /// Index of the next token.
    pub(crate) at: usize,
    percent: PercentSign,
    work: u64,
    depth: usize,
}

impl<'t> Evaluator<'t> {
    pub(crate) fn new(tokens: &'t [Token], percent: PercentSign) -> Self {
        Self { tokens, at: 0, percent, work: WORK, depth: 0 }
    }

    fn kind(&self, ahead: usize) -> Option<&'t Kind> {
        self.tokens.get(self.at + ahead).map(|token| &token.kind)
    }

    fn eat(&mut self, kind: &Kind) -> bool {
        let eaten = self.kind(0) == Some(kind);
        self.at += usize::from(eaten);
        eaten
    }

    /// Whether the operator here belongs to a unit, as in `15 / hour`.
    fn before_word(&self) -> bool {
        matches!(self.kind(1), Some(Kind::Word(_)))
    }

    /// The longest sum from here.
    pub(crate) fn sum(&mut self) -> Result<BigRational, Unreadable> {
        let mut total = self.product()?;
        loop {
            if self.eat(&Kind::Plus) {
                let term = self.product()?;
                total = self.checked(&total, &term, |a, b| a + b)?;
            } else if self.eat(&Kind::Minus) {
                let term = self.product()?;
                total = self.checked(&total, &term, |a, b| a - b)?;
            } else {
                return Ok(total);
            }
        }
    }

    fn product(&mut self) -> Result<BigRational, Unreadable> {
        let mut total = self.signed()?;
        loop {
            if self.eat(&Kind::Times) {
                let factor = self.signed()?;
                total = self.checked(&total, &factor, |a, b| a * b)?;
            } else if self.kind(0) == Some(&Kind::Divide) && !self.before_word() {
                self.at += 1;
                let divisor = self.signed()?;
                total = self.quotient(&total, &divisor)?;
            } else if self.eat(&Kind::FloorDivide) {
                let divisor = self.signed()?;
                total = self.quotient(&total, &divisor)?.floor();
            } else {
                return Ok(total);
            }
        }
    }

    fn signed(&mut self) -> Result<BigRational, Unreadable> {
        self.nested(|this| {
            if this.eat(&Kind::Minus) {
                return Ok(-this.signed()?);
            }
            if this.eat(&Kind::Plus) {
                return this.signed();
            }
            let base = this.postfix()?;
            if this.eat(&Kind::Power) {
                let exponent = this.signed()?;
                return this.power(&base, &exponent);
            }
            Ok(base)
        })
    }

    fn postfix(&mut self) -> Result<BigRational, Unreadable> {
        let mut value = self.primary()?;
        loop {
            match self.kind(0) {
                Some(Kind::Bang) => value = self.factorial(&value)?,
                Some(&Kind::Superscript(exponent)) => {
                    value = self.power(&value, &BigRational::from_integer(exponent.into()))?;
                }
                Some(Kind::Percent) if self.percent == PercentSign::Hundredth => {
                    value = self.quotient(&value, &BigRational::from_integer(100.into()))?;
                }
                _ => return Ok(value),
            }
            self.at += 1;
        }
    }

    fn primary(&mut self) -> Result<BigRational, Unreadable> {
        match self.kind(0) {
            Some(Kind::Number(number)) => {
                self.at += 1;
                if number.plain { self.mixed(&number.value) } else { Ok(number.value.clone()) }
            }
            Some(&Kind::Vulgar(numerator, denominator)) => {
                self.at += 1;
                Ok(BigRational::new(numerator.into(), denominator.into()))
            }
            Some(Kind::Fraction) => self.fraction(),
            Some(&Kind::Open(open)) => {
                self.at += 1;
                let value = self.nested(Self::sum)?;
                let close = if open == '(' { ')' } else { '}' };
                if self.eat(&Kind::Close(close)) { Ok(value) } else { Err(Unreadable::NotANumber) }
            }
            Some(Kind::Malformed) => Err(Unreadable::Malformed),
            _ => Err(Unreadable::NotANumber),
        }
    }

    /// `3 1/2`, `3\frac{1}{2}` and `3½` after the 3 has been read: an integer followed by a proper fraction.
    /// Not after `* / ^`, where nobody can say what the integer belongs to: `1/2 1/2`.
    fn mixed(&mut self, whole: &BigRational) -> Result<BigRational, Unreadable> {
        let start = self.at;
        let operator = start.checked_sub(2).map(|at| &self.tokens[at].kind);
        if matches!(operator, Some(Kind::Times | Kind::Divide | Kind::FloorDivide | Kind::Power)) {
            return Ok(whole.clone());
        }
        let fraction = match (self.kind(0), self.kind(1), self.kind(2)) {
            (Some(Kind::Vulgar(numerator, denominator)), ..) => {
                self.at += 1;
                BigRational::new((*numerator).into(), (*denominator).into())
            }
            (Some(Kind::Fraction), ..) => self.fraction()?,
            (Some(Kind::Number(numerator)), Some(Kind::Divide), Some(Kind::Number(denominator)))
                if self.tokens[start].spaced
                    && numerator.plain
                    && denominator.plain
                    && !denominator.value.is_zero() =>
            {
                self.at += 3;
                &numerator.value / &denominator.value
            }
            _ => return Ok(whole.clone()),
        };
        if fraction.is_negative() || fraction >= BigRational::one() {
            return Err(Unreadable::NotANumber);
        }
        Ok(whole + fraction)
    }

    fn fraction(&mut self) -> Result<BigRational, Unreadable> {
        self.at += 1;
        let numerator = self.argument()?;
        let denominator = self.argument()?;
        self.quotient(&numerator, &denominator)
    }

    /// An argument of `\frac`: braces, or one number.
    fn argument(&mut self) -> Result<BigRational, Unreadable> {
        match self.kind(0) {
            Some(Kind::Number(number)) => {
                self.at += 1;
                Ok(number.value.clone())
            }
            Some(Kind::Open('{')) => self.primary(),
            _ => Err(Unreadable::NotANumber),
        }
    }

    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Unreadable>) -> Result<T, Unreadable> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Unreadable::TooLarge);
        }
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn spend(&mut self, bits: u64) -> Result<(), Unreadable> {
        self.work = self.work.checked_sub(bits.saturating_add(64)).ok_or(Unreadable::TooLarge)?;
        Ok(())
    }

    fn checked(
        &mut self,
        a: &BigRational,
        b: &BigRational,
        operation: impl FnOnce(&BigRational, &BigRational) -> BigRational,
    ) -> Result<BigRational, Unreadable> {
        self.spend(bits(a) + bits(b))?;
        let result = operation(a, b);
        if bits(&result) > MAX_BITS { Err(Unreadable::TooLarge) } else { Ok(result) }
    }

    fn quotient(&mut self, a: &BigRational, b: &BigRational) -> Result<BigRational, Unreadable> {
        if b.is_zero() {
            return Err(Unreadable::DivisionByZero);
        }
        self.checked(a, b, |a, b| a / b)
    }

    fn power(&mut self, base: &BigRational, exponent: &BigRational) -> Result<BigRational, Unreadable> {
        if !exponent.is_integer() {
            return Err(Unreadable::NotANumber);
        }
        let exponent = exponent.to_integer();
        if base.is_zero() && exponent.is_negative() {
            return Err(Unreadable::DivisionByZero);
        }
        let magnitude = exponent.abs().to_u64().ok_or(Unreadable::TooLarge)?;
        let size = bits(base).saturating_mul(magnitude);
        if size > MAX_BITS {
            return Err(Unreadable::TooLarge);
        }
        self.spend(size)?;
        let power = Pow::pow(base, magnitude);
        Ok(if exponent.is_negative() { power.recip() } else { power })
    }

    fn factorial(&mut self, value: &BigRational) -> Result<BigRational, Unreadable> {
        if !value.is_integer() || value.is_negative() {
            return Err(Unreadable::NotANumber);
        }
        // 3000! has 30,000 bits.
        let n = value.to_integer().to_u32().filter(|&n| n <= 3_000).ok_or(Unreadable::TooLarge)?;
        self.spend(u64::from(n) * 64)?;
        Ok(BigRational::from_integer((1..=n).fold(BigInt::one(), |product, factor| product * factor)))
    }
}

fn bits(value: &BigRational) -> u64 {
    value.numer().bits() + value.denom().bits()
}
