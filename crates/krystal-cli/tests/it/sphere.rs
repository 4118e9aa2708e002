use serde_json::Value;

use crate::krystal::krystal;
use crate::tiny_model::TinyModel;

/// Seconds of whole gradients up a tree and of exclusive segments, by machines.
fn seconds(answer: &Value, algorithm: &str, machines: u64) -> f64 {
    let predictions = answer["forecasts"][0]["predictions"].as_array().unwrap();
    let found = predictions.iter().find(|p| p["algorithm"] == algorithm && p["machines"] == machines);
    found.unwrap()["seconds"].as_f64().unwrap()
}

/// Samples of a machine whose messages take 30 us and 1/3.1 ns a byte, and whose additions take 1/15 ns.
fn samples() -> String {
    let line = |kind: &str, machines: u32, bytes: u64, seconds: f64| {
        format!("{{\"kind\": \"{kind}\", \"machines\": {machines}, \"bytes\": {bytes}, \"seconds\": {seconds:e}}}\n")
    };
    let lines = (3..24).map(|power| {
        let bytes = 1_u64 << power;
        let sent = line("send_receive", 2, bytes, 30e-6 + bytes as f64 / 3.1e9);
        sent + &line("add", 1, bytes, bytes as f64 / 15e9)
    });
    lines.collect()
}

#[test]
fn samples_are_fitted_and_predicted_from() {
    let tiny = TinyModel::new();
    let file = tiny.write("samples.jsonl", &samples());
    let more = ["--parameters", "10000000", "--compute-seconds", "2"];
    let fitted = krystal(&[&["sphere", "calibrate", "--samples", &file, "--json"][..], &more].concat()).json();
    let sheet = ["sphere", "predict", "--latency", "30e-6", "--bandwidth", "3.1e9", "--json"];
    let predicted = krystal(&[&sheet[..], &more].concat()).json();
    let link = &fitted["fit"]["model"]["links"][0];
    assert!((link["latency_s"].as_f64().unwrap() / 30e-6 - 1.0).abs() < 1e-6, "{link}");
    // The figures of the project's study of collectives; its tree has a machine more in every group.
    for (machines, tree, segments) in [(12, 342.40, 26.76), (144, 684.79, 36.86), (1_728, 1_027.19, 132.08)] {
        for answer in [&fitted, &predicted] {
            let near = |algorithm: &str, expected: f64| {
                (seconds(answer, algorithm, machines) * 1e3 / expected - 1.0).abs() < 1e-3
            };
            assert!(near("tree", tree * 11.0 / 12.0) && near("segments", segments), "{machines}");
        }
    }
    let text = krystal(&["sphere", "calibrate", "--samples", &file]).stdout;
    assert!(text.contains("30.0 us and 3100 MB/s") && text.contains("A model, not a measurement"), "{text}");
}

#[test]
fn this_machine_is_measured() {
    let answer = krystal(&["sphere", "calibrate", "--threads", "2", "--json"]).json();
    assert!(answer["measured"].as_str().unwrap().contains("2 threads of this machine"), "{answer}");
    assert!(answer["fit"]["model"]["add_seconds_per_byte"].as_f64().unwrap() > 0.0);
    assert!(seconds(&answer, "segments", 12) > 0.0 && answer["forecasts"].as_array().unwrap().len() == 2);
}

#[test]
fn trees_are_counted() {
    let tree = |batches: &str, threads: &str| {
        krystal(&["sphere", "tree", "--batches", batches, "--threads", threads, "--json"]).json()
    };
    let answer = tree("1728", "2");
    assert_eq!(answer["spheres"], serde_json::json!([1, 13, 157, 1_885]));
    assert_eq!((&answer["peak_buffers"], &answer["buffers_of_a_sphere_each"]), (&8.into(), &1_885.into()));
    assert_eq!(tree("500", "2")["optimal_depth"], 2);
    assert_eq!(tree("1", "4")["peak_buffers"], 1);
    assert_eq!(tree("9223372036854775807", "2")["optimal_depth"], 17);
    let text = krystal(&["sphere", "tree", "--batches", "12", "--threads", "12"]).stdout;
    assert!(text.contains("24 on 12 threads, against 13") && text.contains("more, not less"), "{text}");
}

#[test]
fn what_cannot_be_counted_or_predicted() {
    let tiny = TinyModel::new();
    krystal(&["sphere", "tree"]).fails(2, &["--batches"]);
    krystal(&["sphere", "tree", "--batches", "0"]).fails(2, &["--batches"]);
    let calibrate = |file: &str| krystal(&["sphere", "calibrate", "--samples", file]);
    calibrate(&tiny.path("none.jsonl")).fails(1, &["none.jsonl", "cannot read"]);
    calibrate(&tiny.write("empty.jsonl", "\n")).fails(1, &["latency and bandwidth"]);
    calibrate(&tiny.write("bad.jsonl", "{\"kind\": \"add\"}\n")).fails(1, &["bad.jsonl:1", "machines"]);
    let predict = |more: &[&str]| krystal(&[&["sphere", "predict", "--latency", "1e-5"], more].concat());
    predict(&[]).fails(2, &["--bandwidth"]);
    predict(&["--bandwidth", "0"]).fails(2, &["--bandwidth"]);
    predict(&["--bandwidth", "1e9", "--machines", "0"]).fails(2, &["--machines"]);
    predict(&["--bandwidth", "1e9", "--compute-seconds", "nan"]).fails(2, &["--compute-seconds"]);
    krystal(&["sphere", "predict", "--latency", "-1", "--bandwidth", "1e9"]).fails(2, &["--latency"]);
    #[cfg(not(feature = "mpi"))]
    krystal(&["sphere", "calibrate", "--distributed", "mpi"]).fails(2, &["built without MPI"]);
}
