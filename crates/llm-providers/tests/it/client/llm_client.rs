//! All wrappers together.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use llm_providers::client::{
    Budget, CacheConfig, ClientConfig, LimitConfig, LlmClient, Price, Prices, ResponseCache, RetryPolicy,
    TimeoutConfig, resolve,
};
use llm_providers::{Error, LlmProvider, LlmProviderExt, Message, Request};
use tokio::time::Instant;

use super::script::{Script, Step, paused, request, status};

fn prices() -> Prices {
    Prices::new([("model-1", Price::new(1e6, 2e6))]).unwrap()
}

#[test]
fn each_layer_is_in_its_place() {
    paused(async {
        // The first attempt fails, the second is too slow, the third answers.
        let script = Script::new(|call, _| match call {
            0 => Step::fail(status(503)),
            1 => Step::answer("late").after(Duration::from_secs(1000)),
            _ => Step::answer("yes"),
        });
        let client = LlmClient::builder()
            .provider(script.clone())
            .retry(RetryPolicy::openai().with_seed(1))
            .timeouts(TimeoutConfig::default().with_total(Duration::from_secs(30)))
            .limits(LimitConfig::default().with_concurrency(NonZeroU32::MIN))
            .cache(Arc::new(ResponseCache::new(CacheConfig::default()).unwrap()))
            .prices(prices())
            .budget(Arc::new(Budget::new(30.0)))
            .build()
            .unwrap();
        let fixed = request().with_temperature(0.0);
        let begin = Instant::now();
        assert_eq!(client.complete(&fixed).await.unwrap().text(), "yes");
        // 30 s of the slow attempt, and waits of 0.5 s and 1 s less a quarter at most.
        assert!((31.1..31.6).contains(&begin.elapsed().as_secs_f64()), "{:?}", begin.elapsed());
        assert_eq!(client.complete(&fixed).await.unwrap().text(), "yes");
        assert_eq!(client.stream(&fixed).await.unwrap().response().await.unwrap().text(), "yes");
        // One call and one cost, however many attempts, and nothing for what the cache gave.
        assert_eq!((script.calls(), script.open(), client.total_cost()), (3, 0, 20.0));
        assert_eq!(client.cache().unwrap().hits(), 2);
        let snapshot = client.metrics().snapshot();
        let durations = snapshot.series.iter().filter(|series| series.name == "gen_ai.client.operation.duration");
        assert_eq!(durations.map(|series| series.count).collect::<Vec<_>>(), [1]);
        // A second one of 20 dollars crosses the bound, a third is refused, what is cached is free.
        client.complete(&request()).await.unwrap();
        assert!(matches!(client.complete(&request()).await, Err(Error::BudgetSpent { .. })));
        assert!(client.complete(&fixed).await.is_ok());
        assert_eq!(script.calls(), 4);
    });
}

#[test]
fn requests_without_a_model_get_the_clients() {
    paused(async {
        let script = Script::new(|_, request| Step::answer(&request.model));
        let builder = || LlmClient::builder().provider(script.clone());
        let client = builder().model("mine").build().unwrap();
        assert_eq!(client.ask("", "question").await.unwrap(), "mine");
        assert_eq!(client.ask("other", "question").await.unwrap(), "other");
        let bare = Request::new("", [Message::user("question")]);
        assert_eq!(client.stream(&bare).await.unwrap().response().await.unwrap().text(), "mine");
        let error = builder().build().unwrap().complete(&bare).await.unwrap_err();
        assert!(matches!(error, Error::InvalidRequest { .. }), "{error}");
        assert_eq!(client.model(), Some("mine"));
        assert_eq!(client.available().await.unwrap().models, ["model-1"]);
        assert_eq!(client.server(), Some(("script.example", 8443)));
    });
    let error = LlmClient::builder().build().unwrap_err();
    assert_eq!(error.to_string(), "provider: expected one, came none");
}

#[test]
fn settings_make_a_client() {
    let file: ClientConfig = serde_json::from_str(
        r#"{"target": "ollama:model-1", "retry": {"max_retries": 0}, "prices": {"model-*": {"input": 1, "output": 1}},
            "budget_usd": 0}"#,
    )
    .unwrap();
    let resolved = resolve(&ClientConfig::default(), &file, &|_| None).unwrap();
    paused(async {
        let script = Script::new(|_, _| Step::answer("yes"));
        let client = LlmClient::builder().provider(script).config(&resolved).unwrap().build().unwrap();
        assert_eq!(client.model(), Some("model-1"));
        assert!(matches!(client.ask("", "question").await, Err(Error::BudgetSpent { .. })));
    });
}
