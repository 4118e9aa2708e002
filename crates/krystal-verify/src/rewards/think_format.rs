//! The completion thinks first, once, inside tags.

use crate::{Sample, Verdict, Verifier};

/// 1 where the completion starts with `<think>`, holds no second `<think>`, and closes the first with `</think>`; 0
/// elsewhere.
///
/// TRL's `think_format_reward`: Python's `re.match` of `^<think>(?!.*<think>)(.*?)</think>.*$` with `DOTALL` and
/// `MULTILINE`. Under `DOTALL` the look-ahead scans the whole rest and the final `.*$` always matches, so that three
/// searches say the same.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThinkFormat;

/// Whether the text has the format.
fn is_well_formed(text: &str) -> bool {
    text.strip_prefix("<think>").is_some_and(|rest| !rest.contains("<think>") && rest.contains("</think>"))
}

impl Verifier for ThinkFormat {
    fn name(&self) -> &str {
        "think_format"
    }

    fn verify(&self, sample: &Sample<'_>) -> Verdict {
        Verdict::right(is_well_formed(sample.completion))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    /// Every concatenation of up to five of these pieces.
    fn texts() -> Vec<String> {
        let pieces = ["<think>", "</think>", "a", "\n", " ", "<", "é"];
        let mut all = vec![String::new()];
        let mut longest = all.clone();
        for _ in 0..5 {
            longest =
                longest.iter().flat_map(|text| pieces.iter().map(move |piece| format!("{text}{piece}"))).collect();
            all.extend(longest.iter().cloned());
        }
        all
    }

    #[test]
    fn agrees_with_the_regular_expression_in_python() {
        const PROGRAM: &str = r#"
import json, re, sys
pattern = r"^<think>(?!.*<think>)(.*?)</think>.*$"
texts = json.load(sys.stdin)
print(json.dumps([bool(re.match(pattern, t, re.DOTALL | re.MULTILINE)) for t in texts]))
"#;
        let texts = texts();
        let child = Command::new("python3").args(["-c", PROGRAM]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let Ok(mut child) = child else {
            println!("skipped: python3 is not here");
            return;
        };
        let input = serde_json::to_vec(&texts).expect("strings");
        child.stdin.take().expect("piped").write_all(&input).expect("python reads its input");
        let output = child.wait_with_output().expect("python ends");
        let expected: Vec<bool> = serde_json::from_slice(&output.stdout).expect("a list of booleans");
        assert_eq!(expected.len(), texts.len());
        let ours: Vec<bool> = texts.iter().map(|text| is_well_formed(text)).collect();
        for ((text, ours), theirs) in texts.iter().zip(&ours).zip(&expected) {
            assert_eq!(ours, theirs, "{text:?}");
        }
        println!("{} texts, {} well formed", texts.len(), ours.iter().filter(|&&ours| ours).count());
        assert!(ours.iter().any(|&ours| ours) && ours.iter().any(|&ours| !ours));
    }

    #[test]
    fn well_formed_and_not() {
        for (text, expected) in [
            ("<think>1+1</think>2", true),
            ("<think></think>", true),
            ("<think>\n1\n</think>\n2\n", true),
            ("<think>a</think>b</think>", true),
            (" <think>a</think>", false),
            ("a\n<think>a</think>", false),
            ("<think>a", false),
            ("<think><think>a</think>", false),
            ("<think>a</think><think>b</think>", false),
            ("", false),
        ] {
            assert_eq!(is_well_formed(text), expected, "{text:?}");
        }
    }
}
