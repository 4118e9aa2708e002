//! Where settings come from.

use std::fs;

use llm_providers::client::{ClientConfig, Origin, ResolvedConfig, RetryPolicy, Target, Vendor, detect, resolve};
use llm_providers::{Error, Result};
use secrecy::ExposeSecret;

fn config(json: &str) -> ClientConfig {
    serde_json::from_str(json).unwrap()
}

fn resolved(explicit: &str, file: &str, environment: &[(&str, &str)]) -> Result<ResolvedConfig> {
    let environment = |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
    resolve(&config(explicit), &config(file), &environment)
}

fn environment(variable: &str) -> Origin {
    Origin::Environment(variable.to_owned())
}

#[test]
fn explicit_wins_over_the_file_and_that_over_the_environment() {
    let explicit = r#"{"target": "openai:a", "budget_usd": 1}"#;
    let file = r#"{"target": "openai:b", "budget_usd": 2, "retry": {"max_retries": 7}}"#;
    let variables = [("LLM_TARGET", "openai:c"), ("LLM_BUDGET_USD", "3"), ("OPENAI_API_KEY", "k")];
    for (explicit, file, model, budget, retries, origin) in [
        (explicit, file, "a", 1.0, Some(7), Origin::Explicit),
        ("{}", file, "b", 2.0, Some(7), Origin::File),
        (explicit, "{}", "a", 1.0, None, Origin::Explicit),
        ("{}", "{}", "c", 3.0, None, environment("LLM_TARGET")),
    ] {
        let resolved = resolved(explicit, file, &variables).unwrap();
        assert_eq!(resolved.target.model.as_deref(), Some(model));
        assert_eq!(resolved.budget_usd, Some(budget));
        assert_eq!(resolved.retry.map(|retry| retry.max_retries), retries);
        assert_eq!(resolved.origins["target"], origin);
        assert_eq!(resolved.origins["retry"], if retries.is_some() { Origin::File } else { Origin::Default });
        assert_eq!(resolved.origins["timeouts"], Origin::Default);
        assert_eq!(resolved.origins["key"], environment("OPENAI_API_KEY"));
    }
    let program =
        resolve(&ClientConfig::new(Target::parse("openai:a").unwrap()).with_key("k"), &config("{}"), &|_| None);
    assert_eq!(program.unwrap().origins["key"], Origin::Explicit);
}

#[test]
fn a_key_goes_where_it_was_meant_to_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    fs::write(&path, "from-file\n").unwrap();
    let path = serde_json::to_string(&path).unwrap();
    let key_file = format!(r#"{{"key_file": {path}}}"#);
    let own = [
        ("OPENAI_API_KEY", "openai"),
        ("ANTHROPIC_AUTH_TOKEN", "token"),
        ("GOOGLE_API_KEY", "google"),
        ("GEMINI_API_KEY", "gemini"),
        ("LLM_API_KEY", "llm"),
        ("MINE", "mine"),
    ];
    let elsewhere = [("LLM_TARGET", "http://host/v1#m"), ("LLM_API_KEY", "llm"), ("OPENAI_API_KEY", "openai")];
    let proxied = [("OPENAI_BASE_URL", "http://proxy/v1"), ("OPENAI_API_KEY", "openai")];
    let both = r#"{"target": "http://a/v1#m", "key_variable": "MINE"}"#;
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], Option<&'a str>);
    let cases: &[Case<'_>] = &[
        (r#"{"target": "openai:m"}"#, "{}", &own, Some("openai")),
        (r#"{"target": "openai-responses:m"}"#, "{}", &own, Some("openai")),
        (r#"{"target": "anthropic:m"}"#, "{}", &own, Some("token")),
        (r#"{"target": "gemini:m"}"#, "{}", &own, Some("google")),
        (r#"{"target": "gemini:m"}"#, "{}", &[("GEMINI_API_KEY", "gemini")], Some("gemini")),
        (r#"{"target": "ollama:m"}"#, "{}", &own, None),
        // To a server that somebody named goes no key that was not named with it.
        (r#"{"target": "http://host/v1#m"}"#, "{}", &own, None),
        (r#"{"target": "openai@https://api.openai.com.evil.example/v1#m"}"#, "{}", &own, None),
        (r#"{"target": "http://host/v1#m", "key_variable": "MINE"}"#, "{}", &own, Some("mine")),
        (r#"{"target": "http://host/v1#m"}"#, r#"{"key_variable": "MINE"}"#, &own, Some("mine")),
        (r#"{"target": "http://b/v1#m"}"#, both, &own, None),
        ("{}", both, &own, Some("mine")),
        (r#"{"target": "openai:m"}"#, both, &own, Some("openai")),
        (r#"{"target": "openai:m"}"#, &key_file, &own, Some("from-file")),
        (r#"{"target": "openai:m", "key_variable": "MINE"}"#, &key_file, &own, Some("mine")),
        ("{}", "{}", &elsewhere, Some("llm")),
        (r#"{"target": "http://other/v1#m"}"#, "{}", &elsewhere, None),
        (r#"{"target": "openai:m"}"#, "{}", &proxied, Some("openai")),
    ];
    for (explicit, file, variables, expected) in cases {
        let resolved = resolved(explicit, file, variables).unwrap();
        let key = resolved.key.as_ref().map(|key| key.expose_secret());
        assert_eq!(key, *expected, "{explicit} {file}");
        assert_eq!(resolved.key_is_token(), *expected == Some("token"));
        for secret in ["\"openai\"", "\"mine\"", "\"llm\"", "from-file"] {
            assert!(!format!("{resolved:?}").contains(secret), "{resolved:?}");
        }
    }
    let proxied = resolved(r#"{"target": "openai:m"}"#, "{}", &proxied).unwrap();
    assert_eq!(proxied.target.address.as_deref(), Some("http://proxy/v1"));
    assert_eq!(proxied.origins["address"], environment("OPENAI_BASE_URL"));
}

#[test]
fn what_is_wrong_is_told() {
    for (explicit, variables, expected) in [
        (
            r#"{"target": "anthropic:m"}"#,
            vec![("OPENAI_API_KEY", "k")],
            "key: expected ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN in the environment, key_variable or key_file; none is set",
        ),
        (
            r#"{"target": "openai:m", "key_variable": "MINE"}"#,
            vec![("MINE", " ")],
            "key_variable: expected a key in MINE, which is not set",
        ),
        (r#"{"target": "ollama:m", "budget_usd": -1}"#, vec![], "budget_usd: expected US dollars, came -1"),
        (
            r#"{"target": "ollama:m"}"#,
            vec![("LLM_BUDGET_USD", "two")],
            "LLM_BUDGET_USD: expected US dollars, came \"two\"",
        ),
    ] {
        let error = resolved(explicit, "{}", &variables).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    for wrong in [
        r#"{"targets": "ollama:m"}"#,
        r#"{"key": "sk-in-a-file"}"#,
        r#"{"target": "gpt-5"}"#,
        r#"{"retry": {"retries": 1}}"#,
        r#"{"cache": {"size": 1}}"#,
    ] {
        assert!(serde_json::from_str::<ClientConfig>(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn settings_are_a_file() {
    let mut config =
        config(r#"{"target": "ollama@http://h:1#m", "timeouts": {"idle_s": 3}, "cache": {}, "limits": {}}"#);
    config.retry = Some(RetryPolicy::openai());
    config = config.with_key("planted");
    let text = serde_json::to_string(&config).unwrap();
    assert!(!text.contains("planted") && !format!("{config:?}").contains("planted"));
    let read: ClientConfig = serde_json::from_str(&text).unwrap();
    assert_eq!((read.target, read.retry, read.timeouts), (config.target, config.retry, config.timeouts));
    assert!(read.cache.is_some() && read.limits.is_some());
}

#[test]
fn what_is_found_is_explained() {
    let find = |variables: &[(&str, &str)]| {
        detect(&|name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string()))
    };
    for (variables, vendor, n, why) in [
        (&[("ANTHROPIC_API_KEY", "planted")][..], Vendor::Anthropic, 1, "anthropic, because ANTHROPIC_API_KEY is set"),
        (
            &[("OLLAMA_HOST", "h:1"), ("GEMINI_API_KEY", "planted"), ("OPENAI_API_KEY", "planted")],
            Vendor::OpenAi,
            3,
            "openai, because OPENAI_API_KEY is set and comes before gemini (GEMINI_API_KEY), ollama (OLLAMA_HOST)",
        ),
        (
            &[("LLM_TARGET", "ollama:qwen3"), ("OPENAI_API_KEY", "planted")],
            Vendor::Ollama,
            2,
            "ollama:qwen3, because LLM_TARGET is set and comes before openai (OPENAI_API_KEY)",
        ),
        (
            &[("OPENAI_API_KEY", " "), ("OLLAMA_HOST", "0.0.0.0")],
            Vendor::Ollama,
            1,
            "ollama, because OLLAMA_HOST is set",
        ),
    ] {
        let found = find(variables).unwrap();
        assert_eq!((found.target.vendor, found.candidates.len(), found.why.as_str()), (vendor, n, why));
        assert!(!format!("{found:?}").contains("planted"));
    }
    let nothing = find(&[("OPENAI_MODEL", "gpt-5"), ("OLLAMA_API_KEY", "k")]).unwrap_err();
    let expected = "target: expected one of LLM_TARGET, OPENAI_API_KEY, ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN, GOOGLE_API_KEY, \
                    GEMINI_API_KEY, OLLAMA_HOST; none is set, and no server was named";
    assert_eq!(nothing.to_string(), expected);
    assert!(matches!(find(&[("LLM_TARGET", "gpt-5"), ("OPENAI_API_KEY", "k")]), Err(Error::Configuration { .. })));
}
