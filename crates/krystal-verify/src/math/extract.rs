//! Finding the final answer in a text.

use std::ops::Range;
use std::sync::LazyLock;

use num_traits::Signed;
use regex::Regex;

use super::Unreadable;
use super::expression::{Evaluator, PercentSign};
use super::quantity::{Extent, Quantity, check_word, magnitude, read_tokens, unmarked, with_unit};
use super::token::{Kind, Token, tokenize};

// The patterns are constants that a test compiles: a failure here would be a fault of this file, not of any input.
static ANNOTATION: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"<<[^<>\n]*>>").expect("a constant pattern"));
static BOX: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\\(?:boxed|fbox)\s*\{").expect("a constant pattern"));
static MARKER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?m)(?P<hash>\#{4})",
        r"|^[ \t*_>]*A(?:ns)?[*_]*[ \t]*:",
        r"|(?i:\banswer\b[*_\s]*(?:is\b|equals\b|=|:))",
    ))
    .expect("a constant pattern")
});
static HEADING: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\d+[.):]\s+\D").expect("a constant pattern"));

/// The final answer of a completion.
///
/// 1. Only what follows the last `</think>` counts, where there is one; calculator annotations (`<<1+1=2>>`) are removed.
/// 2. The last of these wins: `\boxed{...}`, `#### ...`, `A: ...` at the start of a line, `answer is ...`, `answer: ...`.
///    Markers other than `\boxed` followed by words alone (`The answer is as follows`) are passed over.
/// 3. Without one of those: the whole text, if it is a quantity.
/// 4. Otherwise the last number.
pub(crate) fn read_answer(text: &str) -> Result<Quantity, Unreadable> {
    let text = visible(text);
    if let Some(result) = marked(&text) {
        return result;
    }
    match Quantity::read(&text) {
        Ok(quantity) => Ok(quantity),
        Err(Unreadable::NoNumber) => Err(Unreadable::NoNumber),
        Err(_) => last_number(&text),
    }
}

/// The answer of a gold text: by its marker, or else the whole text must be one quantity. The last number of a gold text
/// is not good enough: of `1331 and 1728` both are needed.
pub(crate) fn read_gold(text: &str) -> Result<Quantity, Unreadable> {
    let text = visible(text);
    marked(&text).unwrap_or_else(|| Quantity::read(&text))
}

/// The last number of a text, read as in step 4 of [`read_answer`].
pub(crate) fn last_number(text: &str) -> Result<Quantity, Unreadable> {
    last_number_of(&tokenize(text))
}

fn visible(text: &str) -> String {
    let text = text.rsplit("</think>").next().unwrap_or(text);
    ANNOTATION.replace_all(text, "").into_owned()
}

/// The answer given by the last marker; `None` where no marker introduces one.
fn marked(text: &str) -> Option<Result<Quantity, Unreadable>> {
    let boxes = boxes(text);
    let last_box = boxes.last().map_or(0, |last| last.start);
    let mut markers: Vec<(Range<usize>, bool)> = MARKER
        .captures_iter(text)
        .filter_map(|captures| Some((captures.get(0)?.range(), captures.name("hash").is_some())))
        .filter(|(marker, _)| boxes.is_empty() || marker.end > last_box)
        .collect();
    let mut end = text.len();
    while let Some((marker, hash)) = markers.pop() {
        // Up to the next marker, so that a text full of them is still read once.
        let payload = payload(&text[marker.end..end]);
        end = marker.start;
        if hash && HEADING.is_match(payload) {
            continue;
        }
        let extent = if hash { Extent::Whole } else { Extent::Sentence };
        let tokens = tokenize(payload);
        let worded = matches!(tokens.first().map(|token| &token.kind), None | Some(Kind::Word(_)));
        match read_tokens(&tokens, extent) {
            Ok(quantity) => return Some(Ok(quantity)),
            Err(_) if worded => {}
            Err(Unreadable::NoNumber) => {}
            Err(error) => return Some(Err(error)),
        }
    }
    if boxes.is_empty() { None } else { Some(boxed(text, &boxes)) }
}

/// The rest of the line after a marker, or the next line that holds anything.
fn payload(rest: &str) -> &str {
    let mut rest = rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, ':' | '='));
    for opening in ["**", "\\[", "\\(", "$$"] {
        // An opening with its content on the next line, or the end of an emphasis that holds the marker.
        if let Some(inside) = rest.strip_prefix(opening)
            && inside.starts_with(|c: char| c.is_whitespace() || c == ':')
        {
            rest = inside.trim_start_matches(|c: char| c.is_whitespace() || c == ':');
        }
    }
    unmarked(rest.lines().next().unwrap_or(""))
}

/// The contents of every `\boxed{...}` or `\fbox{...}` with balanced braces, outermost ones only, in one pass.
fn boxes(text: &str) -> Vec<Range<usize>> {
    let openings: Vec<usize> = BOX.find_iter(text).map(|opening| opening.end()).collect();
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut open = Vec::new();
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => open.push(at + 1),
            '}' => {
                if let Some(start) = open.pop()
                    && openings.binary_search(&start).is_ok()
                {
                    // Boxes inside this one have been found before it.
                    while found.last().is_some_and(|inner| inner.start > start) {
                        found.pop();
                    }
                    found.push(start..at);
                }
            }
            _ => {}
        }
    }
    found
}

/// The last box. Boxes side by side (`\boxed{1} and \boxed{2}`) are one answer of several numbers, which is refused
/// unless they agree.
fn boxed(text: &str, boxes: &[Range<usize>]) -> Result<Quantity, Unreadable> {
    let Some((last, earlier)) = boxes.split_last() else { return Err(Unreadable::NoNumber) };
    let answer = Quantity::read(&text[last.clone()])?;
    let mut after = last.start;
    for other in earlier.iter().rev() {
        let gap = &text[other.end..after];
        if gap.contains('\n') || gap.contains(". ") || gap.chars().count() > 48 {
            break;
        }
        if !Quantity::read(&text[other.clone()])?.equals(&answer) {
            return Err(Unreadable::SeveralNumbers);
        }
        after = other.start;
    }
    Ok(answer)
}

fn last_number_of(tokens: &[Token]) -> Result<Quantity, Unreadable> {
    let kind = |at: usize| tokens.get(at).map(|token| &token.kind);
    let mut end = tokens.len();
    loop {
        let last = tokens[..end]
            .iter()
            .rposition(|token| matches!(token.kind, Kind::Number(_) | Kind::Vulgar(..) | Kind::Malformed))
            .ok_or(Unreadable::NoNumber)?;
        if tokens[last].kind == Kind::Malformed {
            return Err(Unreadable::Malformed);
        }
        // The exponent of a unit: `15 cm^2`, `15 cm^{2}`.
        let outside = (0..last).rev().find(|&at| !matches!(tokens[at].kind, Kind::Open('{')));
        if let Some(power) = outside
            && tokens[power].kind == Kind::Power
        {
            match power.checked_sub(1).and_then(kind) {
                Some(Kind::Word(_) | Kind::Close('}')) => {
                    end = power;
                    continue;
                }
                _ => return Err(Unreadable::NotANumber),
            }
        }
        return number_at(tokens, last);
    }
}

/// The number whose last digit-bearing token is `last`.
fn number_at(tokens: &[Token], last: usize) -> Result<Quantity, Unreadable> {
    let kind = |at: Option<usize>| at.and_then(|at| tokens.get(at)).map(|token| &token.kind);
    let before = |at: usize, count: usize| at.checked_sub(count);
    // Inside `\frac{a}{b}`: the whole fraction, which ends after its second argument.
    let fraction = (last.saturating_sub(12)..last)
        .rev()
        .filter(|&at| tokens[at].kind == Kind::Fraction)
        .find(|&at| fraction_end(&tokens[at..]).is_some_and(|length| at + length > last));
    let (mut start, end) = match fraction {
        Some(at) => (at, at + fraction_end(&tokens[at..]).unwrap_or(0)),
        None => (last, last + 1),
    };
    if fraction.is_none() && kind(before(start, 1)) == Some(&Kind::Divide) && !tokens[last].spaced {
        match kind(before(start, 2)) {
            Some(Kind::Number(_)) if !tokens[start - 1].spaced => start -= 2,
            _ => return Err(Unreadable::NotANumber),
        }
    }
    // The whole part of a mixed number.
    let is_fraction = start < last || !matches!(tokens[start].kind, Kind::Number(_));
    if is_fraction && matches!(kind(before(start, 1)), Some(Kind::Number(whole)) if whole.plain) {
        start -= 1;
    }
    let mut evaluator = Evaluator::new(&tokens[start..end], PercentSign::Stop);
    let mut number = evaluator.sum()?;
    if start + evaluator.at != end {
        return Err(Unreadable::NotANumber);
    }
    // What stands before: a sign, or something that makes this a part of an expression.
    let mut previous = before(start, 1);
    while matches!(kind(previous), Some(Kind::Open(_))) {
        previous = previous.and_then(|at| before(at, 1));
    }
    match kind(previous) {
        Some(Kind::Command | Kind::Power | Kind::Divide | Kind::FloorDivide) => return Err(Unreadable::NotANumber),
        // `12:30`, `7:2`.
        Some(Kind::Mark(':'))
            if !tokens[start].spaced
                && matches!(kind(previous.and_then(|at| before(at, 1))), Some(Kind::Number(_))) =>
        {
            return Err(Unreadable::NotANumber);
        }
        // A subscript, `a_3`, as opposed to the emphasis `_3_`.
        Some(Kind::Mark('_')) if previous.is_some_and(|at| at > 0 && !tokens[at].spaced) => {
            return Err(Unreadable::NotANumber);
        }
        Some(Kind::Minus) if !tokens[start].spaced => {
            let operand = previous.and_then(|at| before(at, 1));
            let binary = matches!(
                kind(operand),
                Some(Kind::Number(_) | Kind::Vulgar(..) | Kind::Close(_) | Kind::Percent | Kind::Malformed)
            );
            if !binary && !number.is_negative() {
                number = -number;
            }
        }
        _ => {}
    }
    // What stands after: a unit, as far as it matters here.
    let mut after = end;
    while matches!(kind(Some(after)), Some(Kind::Close(_))) {
        after += 1;
    }
    let attached = tokens.get(after).is_some_and(|token| !token.spaced);
    match kind(Some(after)) {
        Some(Kind::Percent) => Ok(Quantity::new(number, true)),
        Some(Kind::Power | Kind::Superscript(_) | Kind::Bang | Kind::Command | Kind::Fraction) if attached => {
            Err(Unreadable::NotANumber)
        }
        Some(Kind::Word(word)) => {
            let lower = word.to_lowercase();
            let raised = matches!(kind(Some(after + 1)), Some(Kind::Superscript(_) | Kind::Power));
            if magnitude(&lower).is_some() || lower.starts_with("percent") || lower == "pct" {
                return with_unit(number, &tokens[after..=after], 0);
            }
            check_word(word, attached, raised)?;
            Ok(Quantity::new(number, false))
        }
        _ => Ok(Quantity::new(number, false)),
    }
}

/// How many tokens a `\frac` at the start takes.
fn fraction_end(tokens: &[Token]) -> Option<usize> {
    let mut at = 1;
    for _ in 0..2 {
        match tokens.get(at)?.kind {
            Kind::Number(_) => at += 1,
            Kind::Open('{') => {
                let mut depth = 0_usize;
                loop {
                    match tokens.get(at)?.kind {
                        Kind::Open('{') => depth += 1,
                        Kind::Close('}') => depth -= 1,
                        _ => {}
                    }
                    at += 1;
                    if depth == 0 {
                        break;
                    }
                }
            }
            _ => return None,
        }
    }
    Some(at)
}
