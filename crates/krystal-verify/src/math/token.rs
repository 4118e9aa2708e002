//! Written mathematics as tokens: plain text and the LaTeX that language models write.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::Pow;

/// A number with more written digits than this is [`Kind::Malformed`]: nothing a verifier meets is longer, and reading
/// decimal digits takes quadratic time.
const MAX_DIGITS: usize = 1_000;
/// The largest power of ten in scientific notation, either sign.
const MAX_EXPONENT: i32 = 1_000;

/// One token and whether white space stands before it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) spaced: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    /// `72`, `1,234.50`, `.5`, `1e3`.
    Number(Number),
    /// `½` and its like: numerator, denominator.
    Vulgar(u8, u8),
    /// Digits that are no number we can read without guessing: `1000,99`, `1.2.3`.
    Malformed,
    /// `\frac`, whose two arguments follow.
    Fraction,
    Plus,
    Minus,
    Times,
    Divide,
    /// `//`, Python's quotient rounded down.
    FloorDivide,
    Power,
    Superscript(u8),
    Percent,
    Bang,
    Open(char),
    Close(char),
    Equals,
    Approximately,
    /// Letters, with the digits, hyphens and apostrophes inside them; the degree sign.
    Word(String),
    /// Any other LaTeX command: something this module does not understand.
    Command,
    /// Any other character.
    Mark(char),
}

/// One written number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Number {
    pub(crate) value: BigRational,
    /// Decimal place of the last written digit: 2 for `0.25`, 0 for `25`, -3 for `25e3`.
    pub(crate) places: i32,
    /// Whether it is written with digits alone.
    pub(crate) plain: bool,
}

/// Splits `text` into tokens. Currency signs and mathematics delimiters (`$`, `\(`, `\]`) count as white space that
/// separates nothing.
pub(crate) fn tokenize(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { chars: text.chars().collect(), at: 0, spaced: false, tokens: Vec::new() };
    while lexer.at < lexer.chars.len() {
        lexer.step();
    }
    lexer.tokens
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    spaced: bool,
    tokens: Vec<Token>,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn digit(&self, ahead: usize) -> bool {
        self.peek(ahead).is_ascii_digit()
    }

    fn push(&mut self, kind: Kind) {
        self.tokens.push(Token { kind, spaced: std::mem::take(&mut self.spaced) });
    }

    fn push_after(&mut self, length: usize, kind: Kind) {
        self.at += length;
        self.push(kind);
    }

    fn step(&mut self) {
        let c = self.peek(0);
        if c.is_ascii_digit() || (c == '.' && self.digit(1)) {
            let kind = self.number();
            return self.push(kind);
        }
        if c.is_alphabetic() {
            return self.word();
        }
        match c {
            '\\' => self.command(),
            c if c.is_whitespace() => {
                self.spaced = true;
                self.at += 1;
            }
            '$' | '€' | '£' | '¥' | '₹' | '¢' | '\u{200b}' => self.at += 1,
            '+' => self.push_after(1, Kind::Plus),
            '-' | '−' | '－' => self.push_after(1, Kind::Minus),
            '*' if self.peek(1) == '*' => {
                if self.stars_are_power() {
                    self.push_after(2, Kind::Power);
                } else {
                    self.at += 2;
                }
            }
            '*' | '×' | '·' | '⋅' => self.push_after(1, Kind::Times),
            '/' if self.peek(1) == '/' => self.push_after(2, Kind::FloorDivide),
            '/' | '÷' | '⁄' => self.push_after(1, Kind::Divide),
            '^' => self.caret(),
            '²' => self.push_after(1, Kind::Superscript(2)),
            '³' => self.push_after(1, Kind::Superscript(3)),
            '½' => self.push_after(1, Kind::Vulgar(1, 2)),
            '⅓' => self.push_after(1, Kind::Vulgar(1, 3)),
            '⅔' => self.push_after(1, Kind::Vulgar(2, 3)),
            '¼' => self.push_after(1, Kind::Vulgar(1, 4)),
            '¾' => self.push_after(1, Kind::Vulgar(3, 4)),
            '⅛' => self.push_after(1, Kind::Vulgar(1, 8)),
            '%' => self.push_after(1, Kind::Percent),
            '!' if self.peek(1) == '=' => self.push_after(2, Kind::Mark('≠')),
            '!' => self.push_after(1, Kind::Bang),
            '(' | '{' => self.push_after(1, Kind::Open(c)),
            ')' | '}' => self.push_after(1, Kind::Close(c)),
            '=' => self.push_after(1, Kind::Equals),
            '≈' | '~' => self.push_after(1, Kind::Approximately),
            '°' | 'º' => self.push_after(1, Kind::Word("°".into())),
            c => self.push_after(1, Kind::Mark(c)),
        }
    }

    /// Whether `**` is a power, `2**3` or `2 ** 3`, and not emphasis, `**18** a day`.
    fn stars_are_power(&self) -> bool {
        let before = self.at.checked_sub(1).map_or(' ', |at| self.chars[at]);
        let after = self.peek(2);
        let joined = (before.is_ascii_digit() || before == ')') && (after.is_ascii_digit() || "(-−.".contains(after));
        joined || (before.is_whitespace() && after.is_whitespace() && self.at > 0)
    }

    /// `^`, with `^\circ` and `^{\circ}` read as the degree sign.
    fn caret(&mut self) {
        for spelling in ["^\\circ", "^{\\circ}"] {
            if self.starts_with(spelling) {
                return self.push_after(spelling.len(), Kind::Word("°".into()));
            }
        }
        self.push_after(1, Kind::Power);
    }

    fn starts_with(&self, ascii: &str) -> bool {
        ascii.chars().enumerate().all(|(ahead, c)| self.peek(ahead) == c)
    }

    fn word(&mut self) {
        let start = self.at;
        while self.peek(0).is_alphanumeric() && !matches!(self.peek(0), '²' | '³' | '½' | '⅓' | '⅔' | '¼' | '¾' | '⅛')
            || matches!(self.peek(0), '-' | '\'' | '’') && self.at > start && self.peek(1).is_alphabetic()
        {
            self.at += 1;
        }
        let word = self.chars[start..self.at].iter().collect();
        self.push(Kind::Word(word));
    }

    fn command(&mut self) {
        let next = self.peek(1);
        if !next.is_ascii_alphabetic() {
            match next {
                '%' => return self.push_after(2, Kind::Percent),
                '{' | '}' => return self.push_after(2, Kind::Mark(next)),
                // `\!` is a negative space; `\$` a dollar sign; the others delimit mathematics.
                '!' | '$' | '(' | ')' | '[' | ']' => {}
                // `\,`, `\;`, `\:`, `\ ` and the line break `\\`.
                _ => self.spaced = true,
            }
            self.at += if next == '\0' { 1 } else { 2 };
            return;
        }
        let start = self.at + 1;
        self.at = start;
        while self.peek(0).is_ascii_alphabetic() {
            self.at += 1;
        }
        let name: String = self.chars[start..self.at].iter().collect();
        match name.as_str() {
            "frac" | "dfrac" | "tfrac" | "cfrac" => {
                self.push(Kind::Fraction);
                // `\frac12` is one half: without braces an argument is a single digit.
                for _ in 0..2 {
                    if self.digit(0) {
                        let value = BigRational::from_integer(self.peek(0).to_digit(10).unwrap_or(0).into());
                        self.push_after(1, Kind::Number(Number { value, places: 0, plain: true }));
                    }
                }
            }
            "times" | "cdot" => self.push(Kind::Times),
            "div" => self.push(Kind::Divide),
            "approx" | "simeq" => self.push(Kind::Approximately),
            "circ" | "degree" => self.push(Kind::Word("°".into())),
            "text" | "textbf" | "textit" | "textrm" | "textnormal" | "mbox" | "mathrm" | "mathbf" | "mathit"
            | "emph" | "boldsymbol" | "underline" | "rm" | "bf" | "quad" | "qquad" | "displaystyle" => {
                self.spaced |= name.ends_with("quad");
            }
            "left" | "right" | "big" | "Big" => {}
            _ => self.push(Kind::Command),
        }
    }

    /// The length of a thousands separator here, and whether it is a comma.
    fn separator(&self) -> Option<(usize, bool)> {
        if self.starts_with("{,}") {
            return Some((3, true));
        }
        if self.starts_with(",\\!") {
            // The negative space is there to close up the gap of a space that follows.
            let spaces = (3..).take_while(|&ahead| self.peek(ahead) == ' ').count();
            return Some((3 + spaces, true));
        }
        match self.peek(0) {
            ',' => Some((1, true)),
            '\u{2009}' | '\u{202f}' | '\u{a0}' => Some((1, false)),
            '\\' if self.peek(1) == ',' => Some((2, false)),
            _ => None,
        }
    }

    fn take_digits(&mut self, digits: &mut String) {
        while self.digit(0) {
            digits.push(self.peek(0));
            self.at += 1;
        }
    }

    fn number(&mut self) -> Kind {
        let mut digits = String::new();
        let mut malformed = false;
        self.take_digits(&mut digits);
        let first_group = digits.len();
        let mut grouped = None;
        while let Some((length, comma)) = self.separator() {
            if !self.digit(length) {
                break;
            }
            let three = (0..3).all(|i| self.digit(length + i)) && !self.digit(length + 3);
            let fits = three && (1..=3).contains(&first_group) && !digits.starts_with('0');
            if fits && grouped.is_none_or(|kind| kind == comma) {
                grouped = Some(comma);
            } else if comma || grouped.is_some() {
                malformed = true;
            } else {
                break; // A thin space between two numbers.
            }
            self.at += length;
            self.take_digits(&mut digits);
        }
        let mut places = 0_i32;
        while self.peek(0) == '.' && self.digit(1) {
            malformed |= places > 0;
            self.at += 1;
            let before = digits.len();
            self.take_digits(&mut digits);
            places = i32::try_from(digits.len() - before).unwrap_or(i32::MAX);
            if self.peek(0) == ',' && self.digit(1) {
                malformed = true;
                self.at += 1;
                self.take_digits(&mut digits);
            }
        }
        let plain = places == 0 && grouped.is_none();
        let exponent = self.exponent();
        if malformed || digits.len() > MAX_DIGITS {
            return Kind::Malformed;
        }
        let Some(exponent) = exponent else { return Kind::Malformed };
        let Ok(integer) = digits.parse::<BigInt>() else { return Kind::Malformed };
        let shown = places;
        let places = places - exponent;
        let scale = BigInt::from(10).pow(places.unsigned_abs());
        let value =
            if places >= 0 { BigRational::new(integer, scale) } else { BigRational::from_integer(integer * scale) };
        Kind::Number(Number { value, places, plain: plain && exponent == 0 && shown == 0 })
    }

    /// The exponent of scientific notation: 0 where there is none, `None` where it is too large to be meant.
    fn exponent(&mut self) -> Option<i32> {
        if !matches!(self.peek(0), 'e' | 'E') {
            return Some(0);
        }
        let sign = usize::from(matches!(self.peek(1), '+' | '-' | '−'));
        let negative = matches!(self.peek(1), '-' | '−');
        let mut end = 1 + sign;
        while self.digit(end) {
            end += 1;
        }
        if end == 1 + sign || self.peek(end).is_alphabetic() {
            return Some(0); // `5e` or `5 each`: the letter is not ours.
        }
        let written: String = self.chars[self.at + 1 + sign..self.at + end].iter().collect();
        self.at += end;
        let exponent = written.parse::<i32>().ok().filter(|&exponent| exponent <= MAX_EXPONENT)?;
        Some(if negative { -exponent } else { exponent })
    }
}
