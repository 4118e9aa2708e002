//! GSM8K: the labels of its own model solutions, and its reference solutions.

use krystal_verify::{Answer, Calculator, Gold, Sample, Verifier};
use serde_json::Map;

use crate::shared::{jsonl, text};

const MODELS: [&str; 4] = ["6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"];

/// Counts the labels that `math` agrees with when the final line `A: ...` is written in another style.
fn check_labels(rewrite: impl Fn(&str) -> String) {
    let Some(records) = jsonl("gsm8k/example_model_solutions.jsonl") else { return };
    let (mut agreed, mut unread, mut disagreed) = (0, 0, Vec::new());
    for (row, record) in records.iter().enumerate() {
        let gold = Gold::read(text(record, "ground_truth")).expect("every reference is a number");
        for model in MODELS {
            let solution = record[model]["solution"].as_str().expect("text");
            let solution = match solution.rsplit_once("\nA: ") {
                Some((steps, answer)) => format!("{steps}\n{}", rewrite(answer)),
                None => solution.to_owned(),
            };
            let answer = Answer::read(&solution);
            unread += usize::from(answer.is_err());
            let right = answer.as_ref().is_ok_and(|answer| gold.accepts(answer));
            if right == record[model]["is_correct"].as_bool().expect("a label") {
                agreed += 1;
            } else {
                disagreed.push(format!("row {row} {model}: gold {gold}, answer {answer:?}, {solution}"));
            }
        }
    }
    println!("{agreed} labels agree, {} disagree, {unread} answers could not be read", disagreed.len());
    assert_eq!((agreed, disagreed), (5_276, Vec::new()));
}

#[test]
fn math_agrees_with_every_label_of_the_model_solutions() {
    check_labels(|answer| format!("A: {answer}"));
}

#[test]
fn the_style_of_the_final_answer_does_not_matter() {
    check_labels(|answer| format!("#### {answer}"));
    check_labels(|answer| format!("The answer is ${answer} clips."));
    check_labels(|answer| format!("So the **final answer** is: $\\boxed{{{answer}\\text{{ clips}}}}$"));
    check_labels(|answer| format!("**Answer:**\n\n\\[ {answer} \\]"));
    check_labels(|answer| format!("So in the end there are **${answer}** clips left."));
}

#[test]
fn every_reference_answer_is_read_and_equals_itself() {
    for (file, count) in [("gsm8k/train.jsonl", 7_473), ("gsm8k/test.jsonl", 1_319)] {
        let Some(records) = jsonl(file) else { return };
        for (row, record) in records.iter().enumerate() {
            let solution = text(record, "answer");
            let gold = Gold::read(solution).unwrap_or_else(|error| panic!("{file} row {row}: {error}"));
            let answer = Answer::read(solution).expect("what can be read as gold can be read as an answer");
            assert!(gold.accepts(&answer), "{file} row {row}");
            // The value itself, read independently of our parser.
            let written = solution.rsplit("####").next().expect("a marker").trim().replace(',', "");
            assert_eq!(gold.to_string(), written, "{file} row {row}");
        }
        println!("{file}: {} references", records.len());
        assert_eq!(records.len(), count);
    }
}

/// Of the 7,473 reference solutions 95 have no annotation; every other one gets full marks.
#[test]
fn the_calculator_gives_full_marks_to_every_annotated_reference_solution() {
    let Some(records) = jsonl("gsm8k/train.jsonl") else { return };
    let columns = Map::new();
    let (mut full, mut without, mut marked_down) = (0, 0, Vec::new());
    for (row, record) in records.iter().enumerate() {
        let completion = text(record, "answer");
        let sample = Sample {
            prompt: text(record, "question"),
            completion,
            tokens: &[],
            truncated: false,
            max_completion_length: 512,
            columns: &columns,
        };
        match Calculator::default().verify(&sample).value() {
            Some(1.0) => full += 1,
            Some(score) => marked_down.push((row, score)),
            None => {
                without += 1;
                assert!(!completion.contains("<<"), "train.jsonl row {row}");
            }
        }
    }
    println!("{full} with full marks, {without} without annotations, {} marked down", marked_down.len());
    assert_eq!((full, without, marked_down), (7_378, 95, Vec::new()));
}
