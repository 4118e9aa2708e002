//! A command line as words.

use crate::Error;

/// Splits at white space. Single and double quotes keep white space; inside double quotes and outside quotes a backslash
/// takes the next character as it is. No variables, no globs, no pipes: use `sh -c '...'` for those.
pub(crate) fn split(line: &str) -> Result<Vec<String>, Error> {
    let invalid = |expected| Err(Error::InvalidParameter { reward: "command", expected, found: line.to_owned() });
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => match chars.next() {
                Some(next) => word.get_or_insert_default().push(next),
                None => return invalid("a character after the last backslash"),
            },
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return invalid("a closing quote");
    }
    words.extend(word);
    if words.is_empty() { invalid("a command line") } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_quotes() {
        for (line, expected) in [
            ("./prog arg", vec!["./prog", "arg"]),
            ("  a\t b ", vec!["a", "b"]),
            ("sh -c 'exit 3; \"x\"'", vec!["sh", "-c", "exit 3; \"x\""]),
            ("a \"b \\\" c\" d'e'f ''", vec!["a", "b \" c", "def", ""]),
            ("a\\ b", vec!["a b"]),
        ] {
            assert_eq!(split(line).expect(line), expected);
        }
        for line in ["", "  ", "a 'b", "a \"b", "a\\"] {
            assert!(split(line).is_err(), "{line}");
        }
    }
}
