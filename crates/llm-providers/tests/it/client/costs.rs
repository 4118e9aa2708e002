//! Money.

use std::sync::Arc;

use futures_util::StreamExt;
use llm_providers::client::{Budget, Costs, Price, Prices};
use llm_providers::{Error, LlmProvider, Request, StreamEvent};

use super::script::{Script, Step, answer_events, paused, request, start, status, usage};

fn prices() -> Prices {
    // An answer of the script is 10 tokens in, 5 out: 10 * 1 + 5 * 2 dollars.
    Prices::new([("model-*", Price::new(1e6, 2e6))]).unwrap()
}

#[test]
fn costs_add_up_and_end_at_the_budget() {
    paused(async {
        let script = Script::new(|_, _| Step::answer("a"));
        let budget = Arc::new(Budget::new(50.0));
        let costs = Costs::new(script.clone(), prices(), budget.clone());
        costs.complete(&request()).await.unwrap();
        assert_eq!(budget.spent(), 20.0);
        costs.stream(&request()).await.unwrap().response().await.unwrap();
        assert_eq!(budget.spent(), 40.0);
        // The call that crosses the bound is made; the next one is not.
        costs.complete(&request()).await.unwrap();
        assert_eq!(budget.spent(), 60.0);
        let refused = costs.complete(&request()).await.unwrap_err();
        assert_eq!(refused.to_string(), "the budget of 50 USD is spent");
        assert!(matches!(costs.stream(&request()).await, Err(Error::BudgetSpent { .. })));
        assert_eq!(script.calls(), 3);
    });
}

#[test]
fn broken_and_dropped_streams_cost_what_is_known() {
    paused(async {
        let script = Script::new(|call, _| {
            let mut events = vec![start(), StreamEvent::Usage(usage(10, 0))];
            events.extend(answer_events("a").split_off(1));
            let step = Step::events(events);
            if call == 0 { step.broken_at(4, status(500)) } else { step }
        });
        let budget = Arc::new(Budget::unlimited());
        let costs = Costs::new(script, prices(), budget.clone());
        costs.stream(&request()).await.unwrap().response().await.unwrap_err();
        assert_eq!(budget.spent(), 10.0);
        let mut stream = costs.stream(&request()).await.unwrap();
        for _ in 0..3 {
            stream.next().await.unwrap().unwrap();
        }
        assert_eq!(budget.spent(), 10.0);
        drop(stream);
        assert_eq!(budget.spent(), 20.0);
        let mut whole = costs.stream(&request()).await.unwrap();
        while whole.next().await.is_some() {}
        assert_eq!(budget.spent(), 40.0, "counted at the end");
        drop(whole);
        assert_eq!(budget.spent(), 40.0, "and once");
    });
}

#[test]
fn a_model_without_a_price_is_free_or_refused() {
    paused(async {
        let script = Script::new(|_, _| Step::answer("a"));
        let other = Request::new("other", []);
        let budget = Arc::new(Budget::unlimited());
        let costs = Costs::new(script.clone(), prices(), budget.clone());
        costs.complete(&other).await.unwrap();
        costs.stream(&other).await.unwrap().response().await.unwrap();
        assert_eq!(budget.spent(), 0.0);
        let costs = Costs::new(script.clone(), prices(), Arc::new(Budget::new(1.0)));
        let refused = costs.complete(&other).await.unwrap_err();
        assert_eq!(refused.to_string(), "price of other: expected one, since there is a budget in US dollars");
        assert_eq!(script.calls(), 2);
    });
}
