//! From settings to the requests of a vendor's provider.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use llm_providers::anthropic::Anthropic;
use llm_providers::client::{ClientConfig, LlmClient, Target, Vendor, probe_ollama, provider, resolve};
use llm_providers::gemini::Gemini;
use llm_providers::ollama::Ollama;
use llm_providers::openai::OpenAi;
use llm_providers::transport::{Body, Transport};
use llm_providers::{BoxFuture, Deadline, Error, LlmProviderExt, Result};

use super::script::paused;

/// Keeps what was sent and refuses it, or never answers.
#[derive(Debug, Default)]
struct Wall {
    sent: Mutex<Vec<http::Request<Bytes>>>,
    silent: bool,
}

impl Transport for Wall {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Body>>> {
        Box::pin(async move {
            self.sent.lock().unwrap().push(request);
            if self.silent {
                tokio::time::sleep(Duration::from_secs(1 << 20)).await;
            }
            Err(Error::Connect { endpoint: "wall".to_owned(), source: "refused".into() })
        })
    }
}

#[test]
fn a_target_asks_its_server_with_its_key() {
    let bearer = ("authorization", "Bearer planted");
    for (target, variable, url, header) in [
        ("openai:m", "OPENAI_API_KEY", "https://api.openai.com/v1/chat/completions", Some(bearer)),
        ("openai-responses:m", "OPENAI_API_KEY", "https://api.openai.com/v1/responses", Some(bearer)),
        ("http://host:1/v1#m", "OPENAI_API_KEY", "http://host:1/v1/chat/completions", None),
        ("anthropic:m", "ANTHROPIC_API_KEY", "https://api.anthropic.com/v1/messages", Some(("x-api-key", "planted"))),
        ("anthropic:m", "ANTHROPIC_AUTH_TOKEN", "https://api.anthropic.com/v1/messages", Some(bearer)),
        (
            "gemini:m",
            "GEMINI_API_KEY",
            "https://generativelanguage.googleapis.com/v1beta/models/m:generateContent",
            Some(("x-goog-api-key", "planted")),
        ),
        ("ollama:m", "OLLAMA_API_KEY", "http://127.0.0.1:11434/api/chat", Some(bearer)),
        ("ollama@host#m", "NONE", "http://host:11434/api/chat", None),
    ] {
        let explicit = ClientConfig::new(Target::parse(target).unwrap());
        let environment = |name: &str| (name == variable).then(|| "planted".to_owned());
        let config = resolve(&explicit, &ClientConfig::default(), &environment).unwrap();
        let wall = Arc::new(Wall::default());
        let asked = provider(&config, wall.clone()).unwrap();
        let client = LlmClient::builder().config(&config).unwrap().provider(asked).build().unwrap();
        let error = paused(client.ask("", "question")).unwrap_err();
        assert!(matches!(error, Error::Exhausted { attempts: 3, .. }), "{error}");
        let sent = wall.sent.lock().unwrap();
        assert_eq!((sent.len(), sent[0].uri().to_string().as_str()), (3, url), "{target}");
        for name in ["authorization", "x-api-key", "x-goog-api-key"] {
            let expected = header.filter(|(expected, _)| *expected == name).map(|(_, value)| value);
            assert_eq!(sent[0].headers().get(name).map(|value| value.to_str().unwrap()), expected, "{target} {name}");
        }
        assert!(!sent[0].uri().to_string().contains("planted"));
        assert!(!format!("{client:?} {config:?} {error:?} {error}").contains("planted"));
    }
}

#[test]
fn variables_are_the_vendors_own() {
    assert_eq!(Vendor::OpenAi.key_variables(), [OpenAi::KEY_VARIABLE]);
    assert_eq!(Vendor::OpenAi.address_variable(), OpenAi::BASE_URL_VARIABLE);
    assert_eq!(Vendor::Anthropic.key_variables(), [Anthropic::KEY_VARIABLE, Anthropic::TOKEN_VARIABLE]);
    assert_eq!(Vendor::Anthropic.address_variable(), Anthropic::BASE_URL_VARIABLE);
    assert_eq!(Vendor::Gemini.key_variables(), Gemini::KEY_VARIABLES);
    assert_eq!(Vendor::Ollama.key_variables(), [Ollama::KEY_VARIABLE]);
    assert_eq!(Vendor::Ollama.address_variable(), Ollama::HOST_VARIABLE);
}

#[test]
fn ollama_is_asked_whether_it_is_there() {
    paused(async {
        let wall = Arc::new(Wall::default());
        let error = probe_ollama(wall.clone(), &|_| Some("host:9".to_owned())).await.unwrap_err();
        assert!(matches!(error, Error::Connect { .. }));
        assert_eq!(wall.sent.lock().unwrap()[0].uri().authority().unwrap(), "host:9");
        let begin = tokio::time::Instant::now();
        let silent = Arc::new(Wall { silent: true, ..Wall::default() });
        let error = probe_ollama(silent, &|_| None).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { deadline: Deadline::Total, .. }));
        assert_eq!(begin.elapsed(), Duration::from_secs(2));
    });
}

#[cfg(feature = "http")]
#[test]
fn a_client_is_made_from_settings_alone() {
    let explicit = ClientConfig::new(Target::parse("ollama:m").unwrap());
    let config = resolve(&explicit, &ClientConfig::default(), &|_| None).unwrap();
    let client = LlmClient::connect(&config).unwrap();
    assert_eq!(client.model(), Some("m"));
}
