//! The cases of Math-Verify's own test suite, and the verdicts it gets wrong.

use krystal_verify::{Answer, Gold};

use crate::shared::{jsonl, text};

/// `(gold, prediction, their verdict)` where ours is the other one, and why.
const DEPARTURES: [(&str, &str, bool); 5] = [
    // A comma that is no thousands separator is as likely a list: refused rather than guessed.
    ("1000.99", "1000,99", true),
    ("2.74", "Soucis : 2,74 $ a..", true),
    // Without a marker the last number counts, not the last expression.
    ("$10$", "Answer \\( (9+1) \\)", true),
    // Their parser does not look for `\( \)` across lines; the answer is 9 all the same.
    ("$9$", "Answer \\( \n 9 \n \\)", false),
    // They compare to six digits, we compare exactly.
    ("$\\frac{1}{12}$", "$0.0833333333333333$", true),
];

#[test]
fn numeric_cases_agree_except_for_the_documented_ones() {
    let Some(records) = jsonl("math-verify/cases.jsonl") else { return };
    let (mut agreed, mut departed, mut abstained) = (0, Vec::new(), 0);
    for record in &records {
        let (gold_text, prediction) = (text(record, "gold"), text(record, "pred"));
        let expected = record["expected"].as_i64() == Some(1);
        let Ok(gold) = Gold::read(gold_text) else {
            abstained += 1;
            continue;
        };
        let right = Answer::read(prediction).is_ok_and(|answer| gold.accepts(&answer));
        if right == expected {
            agreed += 1;
        } else {
            departed.push((gold_text, prediction, expected));
        }
    }
    println!("{agreed} agree, {} depart, {abstained} golds are not single numbers", departed.len());
    assert_eq!(departed, DEPARTURES);
    assert_eq!(agreed + departed.len() + abstained, records.len());
    assert!(agreed >= 68, "{agreed}");
}

#[test]
fn its_known_false_verdicts_are_not_repeated() {
    for (gold, prediction) in [
        ("1/2004!", "1/2006!"),
        ("$1/2004!$", "$1/2006!$"),
        ("1/2^99", "1/2^98"),
        ("$1/2^{99}$", "$1/2^{98}$"),
        ("1 - 1/\\mathrm{e}", "1 + 1/\\mathrm{e}"),
        ("$1 - 1/\\mathrm{e}$", "$1 + 1/\\mathrm{e}$"),
        ("3x+4y+14=0", "3*x-1*y+13=0"),
        ("1331 and 1728", "1728"),
        ("1331 and 1728", "1331"),
        ("1331 and 1728", "\\boxed{1728}"),
        ("12:00", "1:00"),
        ("12:00", "12"),
        ("$1 \\pm 2$", "$1 + 2$"),
        ("m in [sqrt2, oo)", "2"),
    ] {
        let equal = Gold::read(gold).is_ok_and(|gold| Answer::read(prediction).is_ok_and(|a| gold.accepts(&a)));
        assert!(!equal, "{gold} must not equal {prediction}");
    }
    // Where both sides can be computed the verdict is positive as well.
    for (gold, prediction) in [("1/2004!", "1/2004!"), ("1/2^99", "2^{-99}"), ("$1/2^{99}$", "0.5^99")] {
        let gold = Gold::read(gold).expect("arithmetic");
        assert!(gold.accepts(&Answer::read(prediction).expect("arithmetic")), "{gold}");
    }
}
