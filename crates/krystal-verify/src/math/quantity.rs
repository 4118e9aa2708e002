//! A number with its unit, as an answer states it.

use std::fmt;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::Pow;

use super::Unreadable;
use super::expression::{Evaluator, PercentSign};
use super::token::{Kind, Token, tokenize};

/// An exact rational with what was written after it.
///
/// Units are read and forgotten: `72 clips`, `$72` and `72` are one quantity. A percent sign is kept, since `50%` is
/// written both for 50 (where the question asks for a percentage) and for 1/2. `5 million` is 5,000,000.
#[derive(Debug, Clone)]
pub struct Quantity {
    number: BigRational,
    percent: bool,
}

/// How much of the text must belong to the quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of it.
    Whole,
    /// The first sentence.
    Sentence,
}

impl Quantity {
    /// Reads a text that is a quantity and nothing else.
    ///
    /// Understood: integers and decimals of any length up to 1,000 digits, thousands separators (comma, thin space,
    /// `{,}`, `\,`), scientific notation, signs (also `−`), `1/2`, `3 1/2`, `½`, `\frac{1}{2}`, arithmetic with
    /// `+ - * / // ^ !` and parentheses, a name before `=` (`x = 5`), currency signs, percent, `thousand` to `trillion`,
    /// unit words (also in `\text{}`), a trailing full stop.
    ///
    /// # Errors
    /// [`Unreadable`] for everything else: variables, roots, several numbers, decimal commas (`1000,99` might be a
    /// list). A text is refused rather than read in a way that may be wrong.
    pub fn read(text: &str) -> Result<Self, Unreadable> {
        read_tokens(&tokenize(unmarked(text)), Extent::Whole)
    }

    /// Whether two quantities are the same: equal numbers, or one of them a percentage whose hundredth is the other.
    ///
    /// `50%` equals `50%`, `50` and `1/2`; it does not equal `5000%`.
    pub fn equals(&self, other: &Self) -> bool {
        let hundredth = |quantity: &Self| &quantity.number / BigInt::from(100);
        self.number == other.number
            || (self.percent && !other.percent && hundredth(self) == other.number)
            || (other.percent && !self.percent && hundredth(other) == self.number)
    }

    /// The number, without the percent sign's factor.
    pub(crate) fn number(&self) -> &BigRational {
        &self.number
    }

    pub(crate) fn new(number: BigRational, percent: bool) -> Self {
        Self { number, percent }
    }
}

impl fmt::Display for Quantity {
    /// `72`, `1/2`, `28%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.number, if self.percent { "%" } else { "" })
    }
}

/// The text without Markdown emphasis and quotation marks around the whole.
pub(crate) fn unmarked(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '*' | '_' | '`' | '"' | '“' | '”'))
}

pub(crate) fn read_tokens(tokens: &[Token], extent: Extent) -> Result<Quantity, Unreadable> {
    let tokens = sentence(tokens, extent);
    // `\textbf{\text{72 clips}}`; nobody nests deeper than this.
    let tokens = (0..4).fold(tokens, |tokens, _| braced(tokens).unwrap_or(tokens));
    if !tokens.iter().any(|token| matches!(token.kind, Kind::Number(_) | Kind::Vulgar(..) | Kind::Malformed)) {
        return Err(Unreadable::NoNumber);
    }
    // `1/3 ≈ 0.33`: the exact side counts. `x ≈ 11`: the other one.
    let parts: Vec<&[Token]> = tokens.split(|token| token.kind == Kind::Approximately).collect();
    if let [first, rest @ ..] = parts.as_slice()
        && let Some(last) = rest.last()
    {
        return equation(first).or_else(|error| if names_only(first) { equation(last) } else { Err(error) });
    }
    equation(tokens)
}

/// The tokens of the first sentence, or all of them without the final full stops.
fn sentence(tokens: &[Token], extent: Extent) -> &[Token] {
    let mut end = tokens.len();
    while end > 0 && tokens[end - 1].kind == Kind::Mark('.') {
        end -= 1;
    }
    let stop = tokens[..end]
        .windows(2)
        .position(|pair| pair[0].kind == Kind::Mark('.') && pair[1].spaced)
        .filter(|_| extent == Extent::Sentence);
    &tokens[..stop.unwrap_or(end)]
}

/// What a pair of braces around the whole encloses, as in `\text{72 clips}`.
fn braced(tokens: &[Token]) -> Option<&[Token]> {
    let [first, inside @ .., last] = tokens else { return None };
    if first.kind != Kind::Open('{') || last.kind != Kind::Close('}') {
        return None;
    }
    let mut depth = 0_usize;
    for token in inside {
        match token.kind {
            Kind::Open('{') => depth += 1,
            // Closes the first brace: two groups side by side.
            Kind::Close('}') => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    Some(inside)
}

/// The last side of `x = 3 * 4 = 12`, where every other side is a name or a quantity itself.
fn equation(tokens: &[Token]) -> Result<Quantity, Unreadable> {
    let mut sides: Vec<&[Token]> = tokens.split(|token| token.kind == Kind::Equals).collect();
    let Some(last) = sides.pop() else { return Err(Unreadable::NoNumber) };
    for (index, side) in sides.into_iter().enumerate() {
        // `k = 45, n = 2` are two answers.
        if side.iter().any(|token| matches!(token.kind, Kind::Mark(',' | ';'))) {
            return Err(Unreadable::SeveralNumbers);
        }
        if !(index == 0 && (side.is_empty() || names_only(side))) {
            quantity(side)?;
        }
    }
    quantity(last)
}

fn names_only(tokens: &[Token]) -> bool {
    let in_names = |kind: &Kind| match kind {
        Kind::Word(_) | Kind::Open(_) | Kind::Close(_) => true,
        Kind::Mark(mark) => "|:_'".contains(*mark),
        _ => false,
    };
    tokens.iter().all(|token| in_names(&token.kind)) && tokens.iter().any(|token| matches!(token.kind, Kind::Word(_)))
}

fn quantity(tokens: &[Token]) -> Result<Quantity, Unreadable> {
    let mut evaluator = Evaluator::new(tokens, PercentSign::Stop);
    let number = evaluator.sum()?;
    with_unit(number, tokens, evaluator.at)
}

/// Adds what stands after the number, `tokens[at..]`, which must be a unit.
pub(crate) fn with_unit(mut number: BigRational, tokens: &[Token], mut at: usize) -> Result<Quantity, Unreadable> {
    let mut percent = false;
    match tokens.get(at).map(|token| &token.kind) {
        Some(Kind::Percent) => (percent, at) = (true, at + 1),
        Some(Kind::Word(word)) => match word.to_lowercase().as_str() {
            "percent" | "percents" | "percentage" | "pct" => (percent, at) = (true, at + 1),
            word => {
                if let Some(power) = magnitude(word) {
                    number *= BigInt::from(10).pow(power);
                    at += 1;
                }
            }
        },
        _ => {}
    }
    check_unit(tokens, at)?;
    Ok(Quantity { number, percent })
}

/// The power of ten a word stands for.
pub(crate) fn magnitude(word: &str) -> Option<u32> {
    Some(match word {
        "thousand" => 3,
        "million" => 6,
        "billion" => 9,
        "trillion" => 12,
        _ => return None,
    })
}

/// Whether everything from `start` on can only be a unit or words beside it.
fn check_unit(tokens: &[Token], start: usize) -> Result<(), Unreadable> {
    let mut at = start;
    while let Some(token) = tokens.get(at) {
        let next = tokens.get(at + 1).map(|token| &token.kind);
        let after_unit = at > start && matches!(tokens[at - 1].kind, Kind::Word(_) | Kind::Close(_));
        match &token.kind {
            Kind::Word(word) => {
                let raised = matches!(next, Some(Kind::Superscript(_) | Kind::Power));
                check_word(word, at == start && !token.spaced, raised)?;
            }
            Kind::Superscript(_) if after_unit => {}
            Kind::Power if after_unit => match (next, tokens.get(at + 2).map(|t| &t.kind), tokens.get(at + 3)) {
                (Some(Kind::Number(n)), ..) if n.plain => at += 1,
                (Some(Kind::Open('{')), Some(Kind::Number(n)), Some(close))
                    if n.plain && close.kind == Kind::Close('}') =>
                {
                    at += 3;
                }
                _ => return Err(Unreadable::NotANumber),
            },
            Kind::Divide if matches!(next, Some(Kind::Word(word)) if word.chars().count() > 1) => {}
            Kind::Bang if after_unit => {}
            Kind::Mark(mark) if ".,;:'\"“”’?".contains(*mark) => {}
            Kind::Open(_) | Kind::Close(_) => {}
            Kind::Number(_) | Kind::Vulgar(..) | Kind::Malformed => return Err(Unreadable::SeveralNumbers),
            _ => return Err(Unreadable::NotANumber),
        }
        at += 1;
    }
    Ok(())
}

/// Words that carry mathematics: after one of these the number alone is not the value.
const MATHEMATICAL: [&str; 50] = [
    "pi",
    "π",
    "sqrt",
    "cbrt",
    "log",
    "ln",
    "sin",
    "cos",
    "tan",
    "sec",
    "csc",
    "cot",
    "exp",
    "inf",
    "infinity",
    "oo",
    "half",
    "halves",
    "plus",
    "minus",
    "squared",
    "cubed",
    "factorial",
    "choose",
    "mod",
    "modulo",
    "divided",
    "multiplied",
    "point",
    "hundred",
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "twenty",
    "thirty",
    "forty",
    "fifty",
    "thousand",
    "million",
    "billion",
];

/// Units written against the number without a space.
const ATTACHED: [&str; 32] = [
    "°", "mm", "cm", "dm", "km", "mg", "kg", "ml", "mL", "kl", "ft", "in", "yd", "mi", "oz", "lb", "lbs", "hr", "hrs",
    "min", "mins", "sec", "secs", "ms", "mph", "kph", "am", "pm", "st", "nd", "rd", "th",
];

/// `attached`: no space between the number and this word. `raised`: an exponent follows, as in `m²`.
pub(crate) fn check_word(word: &str, attached: bool, raised: bool) -> Result<(), Unreadable> {
    let mathematical = MATHEMATICAL.contains(&word.to_lowercase().as_str()) && !ATTACHED.contains(&word);
    if mathematical || word.contains(|c: char| c.is_ascii_digit()) {
        return Err(Unreadable::NotANumber);
    }
    let is_unit = match word.chars().count() {
        // A lone letter is a variable unless it is a unit set apart (`5 m`) or raised (`5m²`), or an article.
        1 => {
            word == "°"
                || (matches!(word, "m" | "g" | "l" | "L" | "s" | "h") && (!attached || raised))
                || (matches!(word, "a" | "A" | "I") && !attached && !raised)
        }
        2 | 3 if attached => ATTACHED.contains(&word),
        _ => true,
    };
    if is_unit { Ok(()) } else { Err(Unreadable::NotANumber) }
}
