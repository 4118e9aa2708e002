//! The suite finds what is wrong, and nothing in what is right.

use llm_providers::conformance::{Act, Report, Suite, check_order};
use llm_providers::{
    ApiError, BlockStart, Capabilities, Content, Error, Feature, MemoryProvider, Reply, Response, Stop, StopReason,
    StreamEvent,
};

fn act_of(request: &llm_providers::Request) -> Act {
    Act::of(request).unwrap_or(Act::Any)
}

/// What a conforming provider does.
fn reply(act: Act) -> Reply {
    let status = match act {
        Act::RateLimited => 429,
        Act::Overloaded => 529,
        Act::ServerError => 500,
        Act::Unauthorized => 401,
        Act::Truncated => {
            return Reply::events([StreamEvent::BlockStart { index: 0, block: BlockStart::Text }]);
        }
        _ => return act.answer().map_or_else(|| Reply::text("anything"), Reply::response),
    };
    Reply::error(ApiError::new("memory", status, "as asked").into())
}

fn check(provider: &MemoryProvider) -> Report {
    let suite = Suite::new(provider, "m").playing(Act::ALL);
    futures_util::FutureExt::now_or_never(suite.run()).unwrap()
}

fn failures(act: Act, wrong: impl Fn() -> Reply + Send + Sync + 'static) -> Vec<String> {
    let provider = MemoryProvider::answering(move |request| match act_of(request) {
        asked if asked == act => wrong(),
        asked => reply(asked),
    });
    check(&provider).failures().into_iter().map(|(check, _)| check.to_owned()).collect()
}

#[test]
fn a_good_provider_passes() {
    let lacking = Capabilities::all().without(Feature::Seed).without(Feature::LogProbs);
    for capabilities in [Capabilities::all(), lacking] {
        let provider = MemoryProvider::answering(|request| reply(act_of(request))).with_capabilities(capabilities);
        let report = check(&provider);
        assert!(report.failures().is_empty(), "{report}");
        assert!(report.passed() > 25, "{report}");
    }
}

#[test]
fn what_is_wrong_is_found() {
    fn with(act: Act, change: impl FnOnce(&mut Response)) -> Reply {
        let mut response = act.answer().unwrap();
        change(&mut response);
        Reply::response(response)
    }
    let text = || with(Act::Text, |response| response.message.content = vec![Content::text("Hello.")]);
    assert_eq!(failures(Act::Text, text), ["Text: whole", "Text: stream"]);
    let unlike = || with(Act::ToolCall, |response| response.stop.reason = StopReason::Stop);
    assert_eq!(failures(Act::ToolCall, unlike), ["ToolCall: whole", "ToolCall: stream"]);
    let lost = || with(Act::ParallelToolCalls, |response| drop(response.message.content.remove(0)));
    assert_eq!(failures(Act::ParallelToolCalls, lost), ["ParallelToolCalls: whole", "ParallelToolCalls: stream"]);
    let whole = || Reply::text("This text is");
    assert_eq!(failures(Act::Truncated, whole), ["Truncated: stream"]);
    let kind = || Reply::error(ApiError::new("memory", 400, "").into());
    assert_eq!(failures(Act::RateLimited, kind), ["RateLimited: whole", "RateLimited: stream"]);
    let other = || Reply::error(Error::BudgetSpent { budget: "money".to_owned() });
    assert_eq!(failures(Act::Overloaded, other), ["Overloaded: whole", "Overloaded: stream"]);
    let endless = || Reply::events([StreamEvent::BlockStart { index: 0, block: BlockStart::Text }]);
    assert_eq!(failures(Act::Any, endless), ["Any: order of the stream", "Any: whole", "Any: stream"]);
}

#[test]
fn known_failures_have_to_fail() {
    let provider = MemoryProvider::answering(|request| match act_of(request) {
        Act::Unicode => Reply::text("ASCII"),
        act => reply(act),
    });
    let run = |checks: &'static [&'static str]| {
        let suite = Suite::new(&provider, "m").playing([Act::Text, Act::Unicode]);
        let suite = checks.iter().fold(suite, |suite, check| suite.except(check, "it knows ASCII alone"));
        futures_util::FutureExt::now_or_never(suite.run()).unwrap().failures().len()
    };
    assert_eq!(run(&[]), 2);
    assert_eq!(run(&["Unicode: whole", "Unicode: stream"]), 0);
    assert_eq!(run(&["Unicode: whole", "Unicode: stream", "Text: whole"]), 1, "one that passes");
    assert_eq!(run(&["Unicode: whole", "Unicode: stream", "Text: never"]), 1, "one that does not exist");
}

#[test]
fn the_order_of_events_is_judged() {
    let start = |index| StreamEvent::BlockStart { index, block: BlockStart::Text };
    let delta = |index| StreamEvent::BlockDelta { index, delta: "x".to_owned() };
    let end = |index| StreamEvent::BlockEnd { index, opaque: None };
    let stop = |reason| StreamEvent::End(Stop { reason, raw: None });
    let last = || stop(StopReason::Stop);
    let head = || StreamEvent::Start { id: String::new(), model: String::new() };
    for (right, events) in [
        (true, vec![head(), start(0), start(1), delta(1), delta(0), end(1), StreamEvent::Ping, end(0), last()]),
        (true, vec![last()]),
        (false, vec![]),
        (false, vec![start(0), end(0)]),
        (false, vec![start(0), last()]),
        (false, vec![start(1), end(1), last()]),
        (false, vec![delta(0), last()]),
        (false, vec![start(0), end(0), delta(0), last()]),
        (false, vec![start(0), end(0), end(0), last()]),
        (false, vec![start(0), end(0), head(), last()]),
        (false, vec![last(), last()]),
        (false, vec![last(), StreamEvent::Ping]),
        (false, vec![stop(StopReason::Incomplete)]),
    ] {
        assert_eq!(check_order(&events).is_ok(), right, "{events:?}");
    }
}
