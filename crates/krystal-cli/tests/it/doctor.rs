use crate::krystal::krystal;
use crate::tiny_model::TinyModel;

#[test]
fn json_says_what_is_here() {
    let tiny = TinyModel::new();
    let answer = krystal(&["doctor", "--json", "--runs", &tiny.path(".")]).json();
    assert_eq!(answer["version"], env!("CARGO_PKG_VERSION"));
    assert!(answer["cores"].as_u64().unwrap() >= 1);
    assert!(["AVX-512", "AVX2", "portable"].contains(&answer["instruction_set"].as_str().unwrap()));
    assert!(answer["matrix_products"]["one_thread_gflops"].as_f64().unwrap() > 0.0);
    assert_eq!(answer["run_directory"], true);
    assert!(answer["MPI"]["feature"].is_boolean() && answer.as_object().unwrap().contains_key("python"));
    assert_eq!(answer["sum_check"]["works"], true);
    let text = krystal(&["doctor", "--runs", &tiny.path("missing")]);
    assert_eq!(text.code, Some(0));
    assert!(
        text.stdout.contains("GFLOP/s")
            && text.stdout.contains("the same bits on 1, 2 and")
            && text.stdout.contains("cannot write"),
        "{text:?}"
    );
}
