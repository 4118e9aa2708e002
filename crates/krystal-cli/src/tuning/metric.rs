//! The number that a command prints.

use serde_json::Value;

/// The number in what a command printed: at `path` in the JSON object of the last line, or else the last number of the last line
/// that is not blank. The error says what was expected and what there is.
pub(crate) fn read(output: &str, path: Option<&str>) -> Result<f64, String> {
    let Some(last) = output.lines().map(str::trim).rfind(|line| !line.is_empty()) else {
        return Err("expected a number, but nothing was printed".to_owned());
    };
    let found = match path {
        Some(path) => at(last, path)?,
        None => {
            number(last).ok_or_else(|| format!("expected a number in the last line, found `{}`", shortened(last)))?
        }
    };
    if found.is_finite() { Ok(found) } else { Err(format!("expected a finite number, found {found}")) }
}

fn at(line: &str, path: &str) -> Result<f64, String> {
    let object: Value = serde_json::from_str(line)
        .map_err(|_| format!("expected a JSON object in the last line, found `{}`", shortened(line)))?;
    let mut value = &object;
    for key in path.split('.') {
        value = value.get(key).ok_or_else(|| format!("the last line has no `{key}` of `{path}`"))?;
    }
    value.as_f64().ok_or_else(|| format!("expected a number at `{path}`, found {value}"))
}

/// The last word that is a number, without what surrounds it.
fn number(line: &str) -> Option<f64> {
    let words = line.rsplit(|c: char| c.is_whitespace() || "=:,;()[]{}\"".contains(c));
    words
        .filter(|word| word.contains(|c: char| c.is_ascii_digit()) || word.eq_ignore_ascii_case("nan"))
        .find_map(|word| word.trim_end_matches(['%', '.']).parse().ok())
}

fn shortened(line: &str) -> String {
    let mut short: String = line.chars().take(80).collect();
    if short.len() < line.len() {
        short.push('\u{2026}');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_counts() {
        for (output, expected) in [
            ("0.25\n", 0.25),
            ("step 3\nloss = 1.5e-3\n\n", 1.5e-3),
            ("accuracy: 93.5%", 93.5),
            ("{\"loss\": -2}", -2.0),
            ("took 3 s, value 7 (best)", 7.0),
        ] {
            assert_eq!(read(output, None), Ok(expected), "{output}");
        }
    }

    #[test]
    fn a_path_leads_into_the_object() {
        let line = "text\n{\"eval_after\": {\"pass@1\": 0.5, \"n\": 10}, \"name\": \"x\", \"none\": null}\n";
        assert_eq!(read(line, Some("eval_after.pass@1")), Ok(0.5));
        for (path, part) in
            [("eval", "no `eval`"), ("name", "\"x\""), ("none", "null"), ("eval_after", "expected a number")]
        {
            assert!(read(line, Some(path)).unwrap_err().contains(part), "{path}");
        }
        assert!(read("0.5", Some("a")).unwrap_err().contains("no `a`"));
        assert!(read("half", Some("a")).unwrap_err().contains("`half`"));
    }

    /// Whatever is printed, the answer is a finite number or a reason on one line.
    #[test]
    fn anything_may_be_printed() {
        use krystal::math::rng::{Purpose, SplitMix64};

        let pieces = [
            "1", "-", ".", "e", "nan", "inf", "%", "\n", " ", "{", "}", "\"", ":", ",", "a.b", "\u{0}", "ä", "1e400",
            "\\", "[",
        ];
        let mut rng = SplitMix64::stream(1, Purpose::SelfCheck, 0, 0);
        let mut n_numbers = 0;
        for _ in 0..20_000 {
            let n = rng.below(12);
            let text: String = (0..n).map(|_| pieces[rng.below(pieces.len() as u64) as usize]).collect();
            for path in [None, Some("a"), Some("a.b"), Some("")] {
                match read(&text, path) {
                    Ok(value) => {
                        assert!(value.is_finite(), "{text:?}");
                        n_numbers += 1;
                    }
                    Err(reason) => assert!(!reason.contains('\n'), "{text:?}: {reason}"),
                }
            }
        }
        assert!(n_numbers > 1000, "{n_numbers}");
    }

    #[test]
    fn what_is_no_number_is_said() {
        for (output, part) in
            [("", "nothing"), (" \n", "nothing"), ("done", "`done`"), ("loss nan", "NaN"), ("1e999", "inf")]
        {
            assert!(read(output, None).unwrap_err().contains(part), "{output}");
        }
        assert!(read(&"ä".repeat(500), None).unwrap_err().len() < 250);
    }
}
