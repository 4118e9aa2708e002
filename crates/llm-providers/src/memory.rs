//! A provider without a server, for tests.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;

use crate::capabilities::{Capabilities, Feature};
use crate::error::{Error, Result};
use crate::event::StreamEvent;
use crate::message::Content;
use crate::provider::{Availability, BoxFuture, EmbeddingProvider, EmbeddingRequest, EmbeddingResponse, LlmProvider};
use crate::request::Request;
use crate::response::{Response, Stop, StopReason, Usage};
use crate::stream::{EventStream, ResponseStream};

/// Length of the vectors where a request names none.
const DIMENSIONS: u32 = 64;

/// A provider that says what a test tells it to, keeps what it was asked, and holds the contract of [`LlmProvider`].
///
/// ```
/// use llm_providers::{Error, LlmProviderExt, MemoryProvider, Reply};
///
/// # futures_util::FutureExt::now_or_never(async {
/// let provider = MemoryProvider::scripted([
///     Reply::text("42"),
///     Reply::error(Error::BudgetSpent { budget: "tokens".to_owned() }),
/// ]);
/// assert_eq!(provider.ask("m", "What is 17 + 25?").await?, "42");
/// assert!(provider.ask("m", "Are you sure?").await.is_err());
/// assert_eq!(provider.requests()[0].messages[0].text(), "What is 17 + 25?");
///
/// let parrot = MemoryProvider::answering(|request| Reply::text(request.messages[0].text()));
/// assert_eq!(parrot.ask("m", "Hello").await?, "Hello");
/// # Ok::<(), Error>(())
/// # }).unwrap()?;
/// # Ok::<(), Error>(())
/// ```
///
/// Embeddings are hashed words: the same text gives the same vector of length 1, texts that share words are near each other, in 64
/// dimensions where the request does not say how many.
pub struct MemoryProvider {
    name: String,
    capabilities: Capabilities,
    models: Vec<String>,
    script: Script,
    requests: Mutex<Vec<Request>>,
}

enum Script {
    Queue(Mutex<VecDeque<Reply>>),
    Answer(Box<dyn Fn(&Request) -> Reply + Send + Sync>),
}

impl MemoryProvider {
    /// Answers with `replies`, one for each request; then with [`Error::Unrecorded`].
    pub fn scripted(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::new(Script::Queue(Mutex::new(replies.into_iter().collect())))
    }

    /// Answers each request with what `answer` makes of it.
    pub fn answering(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::new(Script::Answer(Box::new(answer)))
    }

    fn new(script: Script) -> Self {
        Self {
            name: "memory".to_owned(),
            capabilities: Capabilities::all(),
            models: Vec::new(),
            script,
            requests: Mutex::default(),
        }
    }

    /// With another name than `memory`.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// With less than everything.
    #[must_use]
    pub fn with_capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// With these models to offer.
    #[must_use]
    pub fn with_models(mut self, models: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.models = models.into_iter().map(Into::into).collect();
        self
    }

    /// What was asked, in the order in which it came, refused requests included.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.requests).clone()
    }

    fn reply(&self, request: &Request) -> Result<Reply> {
        lock(&self.requests).push(request.clone());
        let request = request.supported(&self.name, &self.capabilities)?;
        match &self.script {
            Script::Answer(answer) => Ok(answer(&request)),
            Script::Queue(replies) => lock(replies).pop_front().ok_or_else(|| Error::Unrecorded {
                what: self.name.clone(),
                problem: "all replies of the script were given".to_owned(),
            }),
        }
    }
}

impl LlmProvider for MemoryProvider {
    fn name(&self) -> &str {
        &self.name
    }

    fn complete<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response>> {
        // Through the stream: the two cannot differ.
        Box::pin(async move { self.stream(request).await?.response().await })
    }

    fn stream<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<ResponseStream>> {
        Box::pin(async move {
            let reply = self.reply(request)?;
            pause(reply.delay).await;
            Ok(ResponseStream::new(self.name(), reply.said.into_events(&request.model)?))
        })
    }

    fn available(&self) -> BoxFuture<'_, Result<Availability>> {
        Box::pin(async { Ok(Availability::new(self.models.clone())) })
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }
}

impl EmbeddingProvider for MemoryProvider {
    fn embed<'a>(&'a self, request: &'a EmbeddingRequest) -> BoxFuture<'a, Result<EmbeddingResponse>> {
        Box::pin(async move {
            if !self.capabilities.has(Feature::Embeddings) {
                return Err(Error::Unsupported { provider: self.name.clone(), feature: Feature::Embeddings });
            }
            let dimensions = request.dimensions.unwrap_or(DIMENSIONS) as usize;
            if dimensions == 0 {
                let problem = "expected at least 1 dimension, came 0".to_owned();
                return Err(Error::InvalidRequest { provider: self.name.clone(), problem });
            }
            let embeddings = request.input.iter().map(|text| hashed_words(text, dimensions)).collect();
            Ok(EmbeddingResponse::new(request.model.as_str(), embeddings, Usage::default()))
        })
    }
}

impl fmt::Debug for MemoryProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryProvider({}, {} requests)", self.name, lock(&self.requests).len())
    }
}

/// What a [`MemoryProvider`] does with one request.
#[derive(Debug)]
pub struct Reply {
    delay: Duration,
    said: Said,
}

enum Said {
    Response(Box<Response>),
    Error(Error),
    Events(Vec<(Duration, Result<StreamEvent>)>),
}

impl Reply {
    /// A text, whole, with the name of the model that was asked for and no count of tokens.
    pub fn text(text: impl Into<String>) -> Self {
        let mut response = Response::default();
        response.message.content.push(Content::text(text));
        response.stop = Stop { reason: StopReason::Stop, raw: None };
        Self::response(response)
    }

    /// An answer. An empty model becomes the one that was asked for.
    pub fn response(response: Response) -> Self {
        Self { delay: Duration::ZERO, said: Said::Response(Box::new(response)) }
    }

    /// A failure before the answer begins.
    pub fn error(error: Error) -> Self {
        Self { delay: Duration::ZERO, said: Said::Error(error) }
    }

    /// A stream of these events. What has no [`StreamEvent::End`] is [`Error::Incomplete`].
    pub fn events(events: impl IntoIterator<Item = StreamEvent>) -> Self {
        Self::timed(events.into_iter().map(|event| (Duration::ZERO, Ok(event))))
    }

    /// A stream of events and failures, each with how long it lets wait.
    pub fn timed(events: impl IntoIterator<Item = (Duration, Result<StreamEvent>)>) -> Self {
        Self { delay: Duration::ZERO, said: Said::Events(events.into_iter().collect()) }
    }

    /// The same after `delay`, on tokio's clock.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

impl Said {
    fn into_events(self, model: &str) -> Result<EventStream> {
        match self {
            Self::Response(mut response) => {
                if response.model.is_empty() {
                    response.model = model.to_owned();
                }
                Ok(Box::pin(futures_util::stream::iter(response.into_events().into_iter().map(Ok))))
            }
            Self::Error(error) => Err(error),
            Self::Events(events) => {
                Ok(Box::pin(futures_util::stream::iter(events).then(|(delay, event)| async move {
                    pause(delay).await;
                    event
                })))
            }
        }
    }
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Response(response) => response.fmt(f),
            Self::Error(error) => error.fmt(f),
            Self::Events(events) => write!(f, "{} events", events.len()),
        }
    }
}

/// No clock is needed where nothing waits.
async fn pause(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Each word adds 1 or -1 at a place drawn by its hash (the hashing trick); a text without words is the first unit vector.
fn hashed_words(text: &str, dimensions: usize) -> Vec<f32> {
    let mut vector = vec![0.0_f32; dimensions];
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        // FNV-1a, with its bits mixed once more for the sign.
        let hash = word
            .to_lowercase()
            .bytes()
            .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3));
        let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        vector[(mixed % dimensions as u64) as usize] += if mixed >> 63 == 0 { 1.0 } else { -1.0 };
    }
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|x| *x /= norm);
    } else {
        vector[0] = 1.0;
    }
    vector
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::BlockStart;
    use crate::message::Message;
    use tokio::time::Instant;

    fn request() -> Request {
        Request::new("m", [Message::user("planted question")])
    }

    #[tokio::test]
    async fn replies_come_in_order_and_both_ways_agree() {
        let replies = || [Reply::text("one"), Reply::text("two")];
        let provider = MemoryProvider::scripted(replies());
        let first = provider.complete(&request()).await.unwrap();
        let second = provider.complete(&request()).await.unwrap();
        assert_eq!([first.text(), second.text()], ["one", "two"]);
        assert_eq!(first.model, "m");
        let streaming = MemoryProvider::scripted(replies());
        assert_eq!(streaming.stream(&request()).await.unwrap().response().await.unwrap(), first);
        assert!(matches!(provider.complete(&request()).await, Err(Error::Unrecorded { .. })));
        assert_eq!(provider.requests(), [request(), request(), request()]);
        assert!(!format!("{provider:?} {:?}", replies()).contains("two"));
    }

    #[tokio::test(start_paused = true)]
    async fn delays_failures_and_missing_ends_are_played() {
        let second = Duration::from_secs(1);
        let delta = StreamEvent::BlockDelta { index: 0, delta: "a".to_owned() };
        let begun = || {
            let start = StreamEvent::BlockStart { index: 0, block: BlockStart::Text };
            [(second, Ok(start)), (second, Ok(delta.clone()))]
        };
        let broken = Error::BudgetSpent { budget: "tokens".to_owned() };
        let provider = MemoryProvider::scripted([
            Reply::timed(begun()).after(second),
            Reply::timed(begun().into_iter().chain([(Duration::ZERO, Err(broken))])),
        ]);
        let start = Instant::now();
        let mut stream = provider.stream(&request()).await.unwrap();
        assert_eq!(start.elapsed(), second);
        while let Some(Ok(_)) = stream.next().await {}
        assert_eq!((start.elapsed(), stream.so_far().text().as_str()), (3 * second, "a"));
        assert!(matches!(stream.response().await, Err(Error::Incomplete { .. })));
        assert!(matches!(provider.complete(&request()).await, Err(Error::BudgetSpent { .. })));
    }

    #[tokio::test]
    async fn what_it_lacks_is_refused() {
        let provider = MemoryProvider::answering(|_| Reply::text("")).with_capabilities(Capabilities::NONE);
        let unsupported = provider.complete(&request().with_seed(1)).await;
        assert!(matches!(unsupported, Err(Error::Unsupported { feature: Feature::Seed, .. })));
        let embed = provider.embed(&EmbeddingRequest::new("m", ["x"])).await;
        assert!(matches!(embed, Err(Error::Unsupported { feature: Feature::Embeddings, .. })));
    }

    #[tokio::test]
    async fn texts_with_the_same_words_are_near() {
        let provider = MemoryProvider::scripted([]);
        let texts = ["The cat sat.", "the CAT sat", "the cat ran away", "quite another thing", ""];
        let vectors = provider.embed(&EmbeddingRequest::new("m", texts)).await.unwrap().embeddings;
        let dot = |a: usize, b: usize| -> f32 { vectors[a].iter().zip(&vectors[b]).map(|(x, y)| x * y).sum() };
        assert!((0..5).all(|i| (dot(i, i) - 1.0).abs() < 1e-6 && vectors[i].len() == 64));
        assert!((dot(0, 1) - 1.0).abs() < 1e-6 && dot(0, 2) > dot(0, 3) + 0.1, "{} {}", dot(0, 2), dot(0, 3));
        let mut request = EmbeddingRequest::new("m", ["x"]);
        request.dimensions = Some(0);
        assert!(matches!(provider.embed(&request).await, Err(Error::InvalidRequest { .. })));
    }
}
