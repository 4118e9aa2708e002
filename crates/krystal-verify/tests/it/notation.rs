//! One value in many notations, and values that must never be taken for each other.

use krystal_verify::{Answer, Gold, Quantity, Unreadable};
use proptest::prelude::*;

#[test]
fn notations_of_one_value() {
    for (value, notations) in [
        (
            "72",
            vec![
                "72",
                "72.",
                "72.0",
                "72.00",
                "+72",
                "$72",
                "\\$72",
                "72 clips",
                "72 clips.",
                "$72$",
                "\\(72\\)",
                "**72**",
                "072",
                "\\text{72}",
                "72\\text{ clips}",
                "144/2",
                "\\frac{144}{2}",
                "7.2e1",
                "7.2 \\times 10^1",
                "x = 72",
                "72°",
                "72^\\circ",
                "$72^{\\circ}$",
                "72 m^2",
                "72m²",
                "15 cm^2 = 72",
                "(72)",
                "{72}",
                "72 clips!",
                "72 miles/hour",
                "$72/hour",
                "72 a day",
                "`72`",
                "8*9 = 72",
                "72\u{a0}clips",
                "72cm",
                "$72.00$ dollars",
                "72 ≈ 71.9",
                "x ≈ 72",
            ],
        ),
        (
            "2469/2",
            vec![
                "1234.5",
                "1,234.50",
                "$1,234.50",
                "$1{,}234.5$",
                "1\\,234.5",
                "1\u{2009}234.5",
                "1\u{202f}234.5",
                "1,\\!234.5",
                "1.2345e3",
                "12345e-1",
                "1234 1/2",
                "1234½",
                "1234\\frac12",
                "1234\\frac{1}{2}",
                "2469/2",
                "1234.5 km",
                "£1,234.5",
            ],
        ),
        ("-5", vec!["-5", "−5", "- 5", "-$5", "-5.0", "-\\frac{10}{2}", "$-5$", "-5 degrees", "-10/2", "-(5)"]),
        (
            "1/2",
            vec![
                "1/2",
                ".5",
                "0.5",
                "\\frac{1}{2}",
                "\\frac12",
                "\\dfrac{1}{2}",
                "\\tfrac12",
                "½",
                "5e-1",
                "2^{-1}",
                "0.50 m",
            ],
        ),
        ("7/2", vec!["3 1/2", "3.5", "3\\frac{1}{2}", "3½", "7/2", "3 1/2 cups"]),
        ("1000", vec!["1e3", "1E3", "1e+3", "1,000", "10^3", "10³", "1 thousand", "1000"]),
        ("1800000000", vec!["1.8 billion", "1,800,000,000", "1800 million", "1.8e9"]),
        ("120", vec!["5!", "120"]),
        ("50%", vec!["50%", "50 %", "50\\%", "50 percent", "50 pct", "50", "0.5", "1/2", "50 percentage points"]),
    ] {
        let expected = Quantity::read(value).expect(value);
        for notation in notations {
            let read = Quantity::read(notation).unwrap_or_else(|error| panic!("{notation}: {error}"));
            assert!(read.equals(&expected) && expected.equals(&read), "{notation} is {read}, not {value}");
        }
    }
}

#[test]
fn refused_rather_than_guessed() {
    for text in [
        "",
        " ",
        "none",
        "x",
        "2x",
        "2 x",
        "2\\pi",
        "2 pi",
        "2pi",
        "2π",
        "4\\sqrt{2}",
        "sqrt(2)",
        "\\sqrt{4}",
        "3i",
        "2y + 1",
        "1000,99",
        "1,2",
        "1,23,456",
        "0,123",
        "12,3456",
        "1.2.3",
        "1 and 2",
        "1 or 2",
        "3 to 5",
        "1, 2",
        "(1,2)",
        "[1,2]",
        "{1,2}",
        "12:30",
        "7:32",
        "x > 5",
        "x \\le 5",
        "5 < 6",
        "1 \\pm 2",
        "3 and a half",
        "five",
        "5 squared",
        "5 or six",
        "1 234",
        "1/0",
        "10+John's age",
        "5 +",
        "/ 5",
        "((5)",
        "1/2 1/2",
        "3 3/2",
        "2(3)",
        "a = b = 5",
        "2x = 5",
        "x + y = 5",
        "5 = x",
        "1e9999",
        "9^9^9^9",
        "100000!",
        "(-1)!",
        "0^-1",
        "\\frac{1}{0}",
        "\\frac{1}",
        "\\frac",
        "\\",
        "2^0.5",
        "$2-2p$",
        "5 - x",
        "\\infty",
        "H2O",
        "k = 45, total = 2",
        "x > y = 5",
        "5 km2",
        "5 % 3",
        "0x10",
        "1_000",
        "٣",
    ] {
        assert!(Quantity::read(text).is_err(), "{text:?} was read as {}", Quantity::read(text).expect("just read"));
    }
    assert_eq!(Quantity::read("9^9^9^9").unwrap_err(), Unreadable::TooLarge);
    assert_eq!(Quantity::read("1/0").unwrap_err(), Unreadable::DivisionByZero);
}

#[test]
fn percentages_are_not_scaled_twice() {
    let read = |text| Quantity::read(text).expect("a percentage");
    assert!(!read("5000%").equals(&read("50%")));
    assert!(!read("0.5%").equals(&read("50%")));
    assert!(!read("50").equals(&read("1/2")));
}

#[test]
fn where_the_answer_stands() {
    for (completion, expected) in [
        ("Natalia sold 48/2 = <<48/2=24>>24 clips.\n#### 72", "72"),
        ("...\nA: 72", "72"),
        ("...\nA: 72 clips", "72"),
        ("The answer is 72.", "72"),
        ("The answer is 72. I hope 3 is enough.", "72"),
        ("the final answer is: **$1,234.50**", "1234.5"),
        ("**Answer:** 72", "72"),
        ("Final Answer: 72", "72"),
        ("The answer is:\n\n\\[ 72 \\]", "72"),
        ("so \\boxed{72}.", "72"),
        ("so $\\boxed{\\frac{1}{2}}$.", "1/2"),
        ("\\boxed{1} is wrong. Hence\n\\boxed{2}", "2"),
        ("\\boxed{\\text{72 clips}}", "72"),
        ("The answer is 5. No: the answer is 6.", "6"),
        ("#### 5\nThe answer is \\boxed{6}", "6"),
        ("\\boxed{5}\n#### 6", "6"),
        ("<think>The answer is 5. \\boxed{5}</think>It is 6.", "6"),
        ("The answer is as follows: she has 6 of them.", "6"),
        ("She has 16 - 3 = 13.", "13"),
        ("It is -3 degrees", "-3"),
        ("16-3", "13"),
        ("(the answer is 72)", "72"),
        ("2**3", "8"),
        ("2 ** 3", "8"),
        ("**Answer: $18** per day", "18"),
        ("so she makes **$18** daily", "18"),
        ("so she makes *18* daily, _18_", "18"),
        ("**18** clips", "18"),
        ("The answer is the answer is the answer is 5", "5"),
        ("\\boxed{1 + \\boxed{2}", "2"),
        ("\\boxed{\\underline{\\text{5 m}}}", "5"),
        ("7//2", "3"),
        ("-7//2", "-4"),
        ("that makes 16-3", "3"),
        ("a probability of 2/3.", "2/3"),
        ("she needs 3 1/2 cups", "7/2"),
        ("it is $\\frac{5}{7}$ of it", "5/7"),
        ("it is $2\\frac{5}{7}$ of it", "19/7"),
        ("an area of 15 cm^2", "15"),
        ("an area of 15 cm^{2}.", "15"),
        ("the share is 28%", "28%"),
        ("it costs 5 million", "5000000"),
        ("85", "85"),
        (" 85\n", "85"),
        ("#### 1. Add\nShe has 7.\n#### 2. Done\nIt is 8", "8"),
    ] {
        let answer = Answer::read(completion).unwrap_or_else(|error| panic!("{completion}: {error}"));
        assert_eq!(answer.to_string(), Quantity::read(expected).expect(expected).to_string(), "{completion}");
    }
}

#[test]
fn no_answer_rather_than_a_wrong_one() {
    for completion in [
        "",
        "I do not know.",
        "A: 10+John's age",
        "\\boxed{x+1} and 5",
        "\\boxed{1} and \\boxed{2}",
        "\\boxed{1}, \\boxed{2}, \\boxed{1}",
        "the answer is 1331 and 1728",
        "the answer is 1331 or 1728",
        "#### 5 or 6",
        "it is 2x",
        "about 10\\sqrt{10.5}",
        "at 12:30",
        "it is 1000,99",
        "it is 2^5",
        "it is a_3",
        "it is 5!",
        "<think>5</think>",
    ] {
        assert!(
            Answer::read(completion).is_err(),
            "{completion} was read as {}",
            Answer::read(completion).expect("read")
        );
    }
}

#[test]
fn a_gold_is_one_number_or_none() {
    for (text, expected) in [
        ("72", Some("72")),
        ("#### 72", Some("72")),
        ("She has 70+2.\n#### 72", Some("72")),
        ("\\boxed{72}", Some("72")),
        ("$72$", Some("72")),
        ("She has 72 clips", None),
        ("1331 and 1728", None),
        ("yes", None),
    ] {
        assert_eq!(Gold::read(text).ok().map(|gold| gold.to_string()).as_deref(), expected, "{text}");
    }
}

/// Degenerate texts, as an untrained model writes them, take time linear in their length: each of these is half a megabyte.
#[test]
fn long_repetitive_texts_are_read_in_moments() {
    for piece in [
        "\\boxed{",
        "answer is ",
        "A: x\n",
        "####",
        "{",
        "(",
        "\\frac",
        "1/",
        "9",
        "9,",
        "9^",
        "-",
        "<<",
        "**",
        "5!",
        "**5",
    ] {
        let text = piece.repeat(500_000 / piece.len());
        let text = if piece == "{" { format!("{text}5{}", "}".repeat(500_000)) } else { text };
        let start = std::time::Instant::now();
        let _ = (Answer::read(&text), Gold::read(&text), Answer::last_number(&text));
        // An unoptimised build on a busy machine takes well under a second; quadratic time would be minutes.
        assert!(start.elapsed().as_secs() < 20, "{piece}: {:?}", start.elapsed());
        println!("{piece:?}: {:?}", start.elapsed());
    }
}

/// Ways to write `numerator / denominator`.
fn written(numerator: i64, denominator: i64, style: u8) -> String {
    let (sign, magnitude) = if numerator < 0 { ("-", -numerator) } else { ("", numerator) };
    let (whole, part) = (magnitude / denominator, magnitude % denominator);
    match style {
        0 => format!("{sign}{magnitude}/{denominator}"),
        1 => format!("${sign}\\frac{{{magnitude}}}{{{denominator}}}$"),
        2 => format!("{sign}{whole} {part}/{denominator}"),
        3 => format!("{}({}/{})", if numerator < 0 { "−" } else { "" }, 3 * magnitude, 3 * denominator),
        4 => format!("x = {sign}{magnitude} / {denominator} clips."),
        _ => format!("{sign}{magnitude} * {denominator}^-1"),
    }
}

/// A decimal of `cents` hundredths.
fn decimal(cents: i64, style: u8) -> String {
    let (sign, magnitude) = if cents < 0 { ("-", -cents) } else { ("", cents) };
    let (whole, part) = (magnitude / 100, magnitude % 100);
    let grouped = |separator: &str| {
        let digits = whole.to_string();
        let mut text = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index) % 3 == 0 {
                text.push_str(separator);
            }
            text.push(digit);
        }
        format!("{sign}{text}.{part:02}")
    };
    match style {
        0 => format!("{sign}{whole}.{part:02}"),
        1 => grouped(","),
        2 => format!("${}", grouped(",")),
        3 => grouped("\u{2009}"),
        4 => format!("{}00 dollars", grouped(",")),
        5 => format!("{sign}{magnitude}e-2"),
        _ => format!("${}$", grouped("{,}")),
    }
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = (Answer::read(&text), Gold::read(&text), Quantity::read(&text), Answer::last_number(&text));
    }

    #[test]
    fn mathematical_text_never_panics(pieces in proptest::collection::vec(
        prop_oneof![
            Just("\\boxed{"), Just("}"), Just("{"), Just("\\frac"), Just("12"), Just("."), Just(","), Just("-"), Just("−"), Just(" "),
            Just("\n"), Just("####"), Just("A:"), Just("answer is "), Just("("), Just(")"), Just("^"), Just("!"), Just("%"), Just("="),
            Just("x"), Just("m²"), Just("½"), Just("e9"), Just("\\"), Just("$"), Just("**"), Just("</think>"), Just("<<"), Just(">>"),
            Just("/"), Just("0"), Just("\u{2009}345"), Just("\\approx"), Just(":"), Just("é"),
        ], 0..40)) {
        let text = pieces.concat();
        let _ = (Answer::read(&text), Gold::read(&text), Quantity::read(&text), Answer::last_number(&text));
    }

    #[test]
    fn equal_rationals_are_equal_in_every_notation(n in -100_000_i64..100_000, d in 1_i64..1_000, a in 0_u8..6, b in 0_u8..6) {
        let (left, right) = (written(n, d, a), written(n, d, b));
        let (left, right) = (Quantity::read(&left).expect(&left), Quantity::read(&right).expect(&right));
        prop_assert!(left.equals(&right), "{left} {right}");
    }

    #[test]
    fn different_rationals_are_never_equal(
        (n, d) in (-1_000_i64..1_000, 1_i64..50), (m, e) in (-1_000_i64..1_000, 1_i64..50), a in 0_u8..6, b in 0_u8..6,
    ) {
        let (left, right) = (written(n, d, a), written(m, e, b));
        let (left, right) = (Quantity::read(&left).expect(&left), Quantity::read(&right).expect(&right));
        prop_assert_eq!(left.equals(&right), n * e == m * d);
    }

    #[test]
    fn decimals_are_read_alike(cents in -100_000_000_000_i64..100_000_000_000, off in 1_i64..1_000, a in 0_u8..7, b in 0_u8..7) {
        let read = |text: String| Gold::read(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let answer = |text: String| Answer::read(&format!("so the answer is {text}")).unwrap_or_else(|error| panic!("{text}: {error}"));
        prop_assert!(read(decimal(cents, a)).accepts(&answer(decimal(cents, b))));
        prop_assert!(!read(decimal(cents, a)).accepts(&answer(decimal(cents + off, b))));
    }

    /// Beyond what 128 bits hold, one digit still decides.
    #[test]
    fn long_numbers_are_compared_digit_by_digit(digits in "[1-9][0-9]{45,200}", at in 0_usize..45) {
        let changed: String = digits.char_indices().map(|(i, c)| match (i == at, c) {
            (true, '1') => '2',
            (true, _) => '1',
            (false, c) => c,
        }).collect();
        let gold = Gold::read(&digits).expect("digits");
        let same = format!("{digits}.000");
        prop_assert!(gold.accepts(&Answer::read(&same).expect("digits")));
        prop_assert!(!gold.accepts(&Answer::read(&changed).expect("digits")));
    }
}
