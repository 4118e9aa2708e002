//! What every provider must do, as a suite that any provider can be run through.
//!
//! A server is scripted to answer certain prompts in certain ways ([`Act`]); the suite asks, whole and as a stream, and reports what
//! it found. Mock servers match on what the user says, so one script serves all acts. A real model plays [`Act::Any`] alone.
//!
//! ```
//! use llm_providers::conformance::{Act, Suite};
//! use llm_providers::{MemoryProvider, Reply};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let provider = MemoryProvider::answering(|request| {
//!     Act::of(request).and_then(Act::answer).map_or_else(|| Reply::text("?"), Reply::response)
//! });
//! let report = Suite::new(&provider, "any-model").playing([Act::Text, Act::ParallelToolCalls]).run().await;
//! assert!(report.failures().is_empty(), "{report}");
//! # });
//! # Ok::<(), std::io::Error>(())
//! ```

use std::fmt;

use futures_util::StreamExt;
use serde_json::json;

use crate::capabilities::Feature;
use crate::error::{ApiErrorKind, Error};
use crate::event::{BlockStart, StreamEvent};
use crate::message::{Content, Message, Reasoning, Role, ToolCall, ToolResult};
use crate::provider::LlmProvider;
use crate::request::{FunctionTool, JsonSchema, OutputFormat, ReasoningOptions, Request, ToolChoice};
use crate::response::{Response, Stop, StopReason};

/// What a server is to do when it is asked [`Act::prompt`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Act {
    /// Answer with a text, and stop.
    Text,
    /// Answer with text beyond ASCII.
    Unicode,
    /// Show reasoning, then a text.
    Reasoning,
    /// Call one tool.
    ToolCall,
    /// Call two tools at once.
    ParallelToolCalls,
    /// Reach the bound on tokens.
    Length,
    /// Say that there are too many requests (429).
    RateLimited,
    /// Say that there is no capacity (503 or 529).
    Overloaded,
    /// Fail (500).
    ServerError,
    /// Refuse the key (401).
    Unauthorized,
    /// Break the stream off after the first pieces.
    Truncated,
    /// Answer anything: the rules of streams alone are checked.
    Any,
}

impl Act {
    /// All acts.
    pub const ALL: [Self; 12] = [
        Self::Text,
        Self::Unicode,
        Self::Reasoning,
        Self::ToolCall,
        Self::ParallelToolCalls,
        Self::Length,
        Self::RateLimited,
        Self::Overloaded,
        Self::ServerError,
        Self::Unauthorized,
        Self::Truncated,
        Self::Any,
    ];

    /// What the user says for it; no prompt is part of another.
    pub fn prompt(self) -> &'static str {
        match self {
            Self::Text => "conformance of plain text",
            Self::Unicode => "conformance of unicode",
            Self::Reasoning => "conformance of reasoning",
            Self::ToolCall => "conformance of one tool call",
            Self::ParallelToolCalls => "conformance of parallel tool calls",
            Self::Length => "conformance of length",
            Self::RateLimited => "conformance of rate limits",
            Self::Overloaded => "conformance of overload",
            Self::ServerError => "conformance of server errors",
            Self::Unauthorized => "conformance of keys",
            Self::Truncated => "conformance of broken streams",
            Self::Any => "conformance of anything",
        }
    }

    /// Which act a request asks for.
    pub fn of(request: &Request) -> Option<Self> {
        let asked = request.messages.iter().rfind(|message| message.role == Role::User)?.text();
        Self::ALL.into_iter().find(|act| asked == act.prompt())
    }

    /// What is answered: content, stop reason; `None` for errors, and for what is anything.
    pub fn answer(self) -> Option<Response> {
        let mut response = Response::default();
        let (content, reason) = match self {
            Self::Text => (vec![Content::text("Hello there, this is an answer.")], StopReason::Stop),
            Self::Unicode => (vec![Content::text("Größe, 漢字, 🎉 and é.")], StopReason::Stop),
            Self::Reasoning => {
                let reasoning = Reasoning::new("Let me think about it.");
                (vec![Content::Reasoning(reasoning), Content::text("Done.")], StopReason::Stop)
            }
            Self::ToolCall => (vec![call("get_weather", &json!({"city": "Paris"}))], StopReason::ToolCalls),
            Self::ParallelToolCalls => {
                let calls =
                    vec![call("get_weather", &json!({"city": "Paris"})), call("get_time", &json!({"zone": "CET"}))];
                (calls, StopReason::ToolCalls)
            }
            Self::Length => (vec![Content::text("This goes on and")], StopReason::Length),
            _ => return None,
        };
        response.message.content = content;
        response.stop = Stop { reason, raw: None };
        Some(response)
    }

    /// The request that asks for it.
    pub fn request(self, model: &str) -> Request {
        let request = Request::new(model, [Message::user(self.prompt())]).with_max_tokens(2048);
        match self {
            Self::ToolCall | Self::ParallelToolCalls => request.with_tools(tools()),
            Self::Any => request.with_max_tokens(16),
            _ => request,
        }
    }

    /// What the vendor's error is to be.
    fn error(self) -> Option<&'static [ApiErrorKind]> {
        Some(match self {
            Self::RateLimited => &[ApiErrorKind::RateLimit],
            Self::Overloaded => &[ApiErrorKind::Overloaded],
            Self::ServerError => &[ApiErrorKind::Server],
            Self::Unauthorized => &[ApiErrorKind::Authentication],
            _ => return None,
        })
    }
}

fn call(name: &str, arguments: &serde_json::Value) -> Content {
    Content::ToolCall(ToolCall::new(format!("call_{name}"), name, arguments.to_string()))
}

fn tools() -> [crate::request::Tool; 2] {
    let object = |key: &str| json!({"type": "object", "properties": {key: {"type": "string"}}, "required": [key], "additionalProperties": false});
    [
        FunctionTool::new("get_weather", "The weather of a city", object("city")).into(),
        FunctionTool::new("get_time", "The time of a zone", object("zone")).into(),
    ]
}

/// A provider, and what its server plays.
#[derive(Debug)]
pub struct Suite<'a> {
    provider: &'a dyn LlmProvider,
    model: String,
    acts: Vec<Act>,
    known: Vec<(&'static str, &'static str)>,
}

impl<'a> Suite<'a> {
    /// `provider`, asked for `model`, whose server plays all acts but [`Act::Any`].
    pub fn new(provider: &'a dyn LlmProvider, model: impl Into<String>) -> Self {
        let acts = Act::ALL.into_iter().filter(|act| *act != Act::Any).collect();
        Self { provider, model: model.into(), acts, known: Vec::new() }
    }

    /// With a server that plays these acts alone.
    #[must_use]
    pub fn playing(mut self, acts: impl IntoIterator<Item = Act>) -> Self {
        self.acts = acts.into_iter().collect();
        self
    }

    /// With a check that is known to fail since the server is wrong, and why. One that passes all the same is a failure: the list has
    /// to stay true.
    #[must_use]
    pub fn except(mut self, check: &'static str, reason: &'static str) -> Self {
        self.known.push((check, reason));
        self
    }

    /// Asks.
    pub async fn run(self) -> Report {
        let mut checks = Vec::new();
        for act in &self.acts {
            checks.extend(self.play(*act).await);
        }
        checks.push(("refuses what it lacks".to_owned(), self.refusals().await));
        let available = self.provider.available().await;
        checks.push(("is available".to_owned(), available.map(drop).map_err(|error| error.to_string())));
        Report::new(checks, self.known)
    }

    async fn play(&self, act: Act) -> Vec<(String, Result<(), String>)> {
        let request = act.request(&self.model);
        let whole = self.provider.complete(&request).await;
        let (events, streamed) = self.streamed(&request).await;
        let mut checks = Vec::new();
        let mut check = |what: &str, result| checks.push((format!("{act:?}: {what}"), result));
        if let Some(kinds) = act.error() {
            check("whole", expect_error(whole.map(drop), kinds));
            check("stream", expect_error(streamed.map(drop), kinds));
            return checks;
        }
        if act == Act::Truncated {
            check("stream", expect_broken(&events, streamed));
            return checks;
        }
        check("order of the stream", check_order(&events));
        let (whole, streamed) = match (whole, streamed) {
            (Ok(whole), Ok(streamed)) => (whole, streamed),
            (whole, streamed) => {
                check("whole", whole.map(drop).map_err(|error| error.to_string()));
                check("stream", streamed.map(drop).map_err(|error| error.to_string()));
                return checks;
            }
        };
        if let Some(expected) = act.answer() {
            check("whole", expect(&whole, &expected));
            check("stream", expect(&streamed, &expected));
        }
        if !whole.message.content.iter().any(|content| matches!(content, Content::ToolCall(_))) || act == Act::Any {
            return checks;
        }
        check("results of tools", self.answer_calls(request, &whole).await);
        checks
    }

    /// The events of a stream, and what it ended with.
    async fn streamed(&self, request: &Request) -> (Vec<StreamEvent>, Result<Response, Error>) {
        let mut stream = match self.provider.stream(request).await {
            Ok(stream) => stream,
            Err(error) => return (Vec::new(), Err(error)),
        };
        let mut events = Vec::new();
        while let Some(event) = stream.next().await {
            match event {
                Ok(event) => events.push(event),
                Err(error) => return (events, Err(error)),
            }
        }
        let so_far = stream.so_far().clone();
        (events, stream.response().await.and_then(|response| same_as_gathered(response, &so_far)))
    }

    /// Sends a conversation whose last turn answers the calls; any answer will do.
    async fn answer_calls(&self, mut request: Request, response: &Response) -> Result<(), String> {
        let results: Vec<_> =
            response.message.tool_calls().map(|call| ToolResult::text(call, "{\"result\": 12}")).collect();
        request.messages.push(response.message.clone());
        request.messages.push(Message::tool_results(results));
        self.provider.complete(&request).await.map(drop).map_err(|error| error.to_string())
    }

    async fn refusals(&self) -> Result<(), String> {
        let capabilities = self.provider.capabilities();
        for feature in capabilities_of_requests().filter(|feature| !capabilities.has(*feature)) {
            let request = asking_for(feature, &self.model);
            let refused = |error: Error| matches!(error, Error::Unsupported { feature: named, .. } if named == feature);
            if !self.provider.complete(&request).await.is_err_and(refused) {
                return Err(format!("{feature}: not refused"));
            }
            if !self.provider.stream(&request).await.is_err_and(refused) {
                return Err(format!("{feature}: not refused in a stream"));
            }
        }
        Ok(())
    }
}

/// The features that a request can ask for by its settings alone.
fn capabilities_of_requests() -> impl Iterator<Item = Feature> {
    use Feature::{JsonObject, JsonSchema, LogProbs, ParallelToolCalls, Penalties, Seed, Stop, Tools, TopK};
    [TopK, Seed, Stop, Penalties, LogProbs, JsonObject, JsonSchema, Tools, ParallelToolCalls, Feature::Reasoning]
        .into_iter()
}

fn asking_for(feature: Feature, model: &str) -> Request {
    let mut request = Act::Text.request(model);
    match feature {
        Feature::TopK => request.top_k = Some(5),
        Feature::Seed => request.seed = Some(1),
        Feature::Stop => request.stop = vec!["END".to_owned()],
        Feature::Penalties => request.presence_penalty = Some(0.5),
        Feature::LogProbs => request.log_probs = Some(1),
        Feature::JsonObject => request.output = OutputFormat::JsonObject,
        Feature::JsonSchema => {
            request.output = OutputFormat::JsonSchema(JsonSchema::new("answer", json!({"type": "object"})));
        }
        Feature::Tools => request.tools = tools().into(),
        Feature::ToolChoice => request.tool_choice = Some(ToolChoice::Required),
        Feature::ParallelToolCalls => request.parallel_tool_calls = Some(false),
        Feature::Reasoning => request.reasoning = Some(ReasoningOptions::budget(1024)),
        Feature::Images | Feature::Files | Feature::MediaUrls | Feature::Embeddings => {}
    }
    request
}

fn same_as_gathered(response: Response, gathered: &Response) -> Result<Response, Error> {
    if &response == gathered {
        return Ok(response);
    }
    Err(Error::Decode {
        provider: "the stream".to_owned(),
        expected: "the answer that was gathered".to_owned(),
        found: "another".to_owned(),
    })
}

fn expect_error(result: Result<(), Error>, kinds: &[ApiErrorKind]) -> Result<(), String> {
    match result {
        Ok(()) => Err(format!("expected an error of {kinds:?}, found an answer")),
        Err(error) => match error.api() {
            Some(api) if kinds.contains(&api.kind) => Ok(()),
            Some(api) => Err(format!("expected {kinds:?}, found {:?}: {error}", api.kind)),
            None => Err(format!("expected {kinds:?}, found: {error}")),
        },
    }
}

fn expect_broken(events: &[StreamEvent], streamed: Result<Response, Error>) -> Result<(), String> {
    if events.iter().any(|event| matches!(event, StreamEvent::End(_))) {
        return Err("a broken stream has an end".to_owned());
    }
    match streamed {
        Err(Error::Incomplete { .. } | Error::Transport { .. }) => Ok(()),
        Err(error) => Err(format!("expected a broken stream, found: {error}")),
        Ok(_) => Err("a broken stream counts as whole".to_owned()),
    }
}

/// Compares content and stop reason; ids, usage and raw words are a server's own.
fn expect(found: &Response, expected: &Response) -> Result<(), String> {
    if found.stop.reason != expected.stop.reason {
        return Err(format!("expected the stop {:?}, found {:?}", expected.stop.reason, found.stop));
    }
    let parts = |response: &Response| (response.text(), response.message.reasoning(), calls(response));
    let (found, expected) = (parts(found), parts(expected));
    // The suite's own texts, not a user's.
    if found == expected { Ok(()) } else { Err(format!("expected {expected:?}, found {found:?}")) }
}

fn calls(response: &Response) -> Vec<(String, Option<serde_json::Value>)> {
    response.message.tool_calls().map(|call| (call.name.clone(), call.arguments_json().ok())).collect()
}

/// Holds the events of a whole stream to the order that [`StreamEvent`] describes.
///
/// # Errors
///
/// What is out of order, in words.
pub fn check_order(events: &[StreamEvent]) -> Result<(), String> {
    let mut open = Vec::new();
    let (mut started, mut ended) = (0, false);
    for (place, event) in events.iter().enumerate() {
        let wrong = |what: &str| Err(format!("event {place}, {event:?}: {what}"));
        if ended {
            return wrong("comes after the end");
        }
        match event {
            StreamEvent::Start { .. } if started > 0 => return wrong("comes after a block"),
            StreamEvent::BlockStart { index, .. } if *index != started => return wrong("skips a number"),
            StreamEvent::BlockStart { index, block } => {
                started += 1;
                open.push((*index, !matches!(block, BlockStart::Whole(_))));
            }
            StreamEvent::BlockDelta { index, .. } if !open.contains(&(*index, true)) => {
                return wrong("belongs to no open block that grows");
            }
            StreamEvent::BlockEnd { index, .. } => match open.iter().position(|(open, _)| open == index) {
                Some(place) => drop(open.remove(place)),
                None => return wrong("ends no open block"),
            },
            StreamEvent::End(_) if !open.is_empty() => return wrong("comes before the end of a block"),
            StreamEvent::End(stop) if stop.reason == StopReason::Incomplete => return wrong("is not an end"),
            StreamEvent::End(_) => ended = true,
            _ => {}
        }
    }
    if ended { Ok(()) } else { Err("there is no end".to_owned()) }
}

/// What was checked, and what came of it.
#[derive(Debug)]
pub struct Report {
    checks: Vec<(String, Outcome)>,
}

#[derive(Debug)]
enum Outcome {
    Passed,
    Failed(String),
    Known { reason: &'static str, found: String },
}

impl Report {
    fn new(checks: Vec<(String, Result<(), String>)>, mut known: Vec<(&'static str, &'static str)>) -> Self {
        let judged = checks.into_iter().map(|(check, result)| {
            let place = known.iter().position(|(name, _)| *name == check);
            let reason = place.map(|place| known.remove(place).1);
            let outcome = match (result, reason) {
                (Ok(()), None) => Outcome::Passed,
                (Ok(()), Some(reason)) => Outcome::Failed(format!("passes, but is listed as known to fail: {reason}")),
                (Err(found), None) => Outcome::Failed(found),
                (Err(found), Some(reason)) => Outcome::Known { reason, found },
            };
            (check, outcome)
        });
        let mut checks: Vec<_> = judged.collect();
        let never = |(name, _): (&str, _)| (name.to_owned(), Outcome::Failed("is listed, but was not run".to_owned()));
        checks.extend(known.into_iter().map(never));
        Self { checks }
    }

    /// What failed and is not known to: the name of the check and what was found.
    pub fn failures(&self) -> Vec<(&str, &str)> {
        let failed = self.checks.iter().filter_map(|(check, outcome)| match outcome {
            Outcome::Failed(found) => Some((check.as_str(), found.as_str())),
            Outcome::Passed | Outcome::Known { .. } => None,
        });
        failed.collect()
    }

    /// How many checks passed.
    pub fn passed(&self) -> usize {
        self.checks.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Passed)).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (check, outcome) in &self.checks {
            match outcome {
                Outcome::Passed => writeln!(f, "ok      {check}")?,
                Outcome::Failed(found) => writeln!(f, "FAILED  {check}: {found}")?,
                Outcome::Known { reason, found } => writeln!(f, "known   {check}: {reason} ({found})")?,
            }
        }
        Ok(())
    }
}
