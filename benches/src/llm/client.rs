//! The clients: each asks the same and counts what came.

use std::sync::Arc;

use anyhow::Context;
use async_openai::config::OpenAIConfig;
use async_openai::types::chat::{ChatCompletionRequestUserMessageArgs, CreateChatCompletionRequestArgs};
use futures_util::StreamExt;
use genai::chat::{ChatMessage, ChatRequest, ChatStreamEvent};
use llm_providers::transport::{HyperConfig, HyperTransport, Proxy};
use llm_providers::{Endpoint, HttpProvider, LlmProvider, Message, OpenAi, Request, StreamEvent};
use serde::{Deserialize, Serialize};

const QUESTION: &str = "What does a call over loopback cost?";

/// A client, with its connections.
#[derive(Debug)]
pub enum Client {
    /// This crate.
    Ours(HttpProvider<OpenAi>),
    /// reqwest and serde_json, and nothing else.
    Bare(reqwest::Client, String),
    /// genai.
    Genai(genai::Client, String),
    /// async-openai.
    AsyncOpenai(async_openai::Client<OpenAIConfig>),
}

/// What came of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// Pieces of text.
    pub n_deltas: usize,
    /// Bytes of text.
    pub text_len: usize,
}

impl Counted {
    fn add(&mut self, text: &str) {
        if !text.is_empty() {
            self.n_deltas += 1;
            self.text_len += text.len();
        }
    }
}

impl Client {
    /// Every client, with its name in the report.
    pub fn all(url: &str) -> anyhow::Result<Vec<(&'static str, Self)>> {
        let base = format!("{url}/v1");
        let transport = HyperTransport::new(HyperConfig::default().with_proxy(Proxy::None))?;
        let endpoint = Endpoint::new(&base)?.with_key(Some("key".into()));
        let http = || reqwest::Client::builder().no_proxy().build();
        let config = OpenAIConfig::new().with_api_base(&base).with_api_key("key");
        Ok(vec![
            ("ours", Self::Ours(HttpProvider::new(OpenAi::new(endpoint), Arc::new(transport)))),
            ("reqwest", Self::Bare(http()?, format!("{base}/chat/completions"))),
            ("genai", Self::Genai(genai::Client::builder().with_reqwest(http()?).build()?, base + "/")),
            ("async_openai", Self::AsyncOpenai(async_openai::Client::with_config(config).with_http_client(http()?))),
        ])
    }

    /// Asks for a whole answer; the length of its text.
    ///
    /// # Errors
    /// The client's.
    pub async fn complete(&self) -> anyhow::Result<usize> {
        match self {
            Self::Ours(provider) => {
                let request = Request::new("whole", [Message::user(QUESTION)]);
                Ok(provider.complete(&request).await?.text().len())
            }
            Self::Bare(client, url) => {
                let answer = client.post(url).bearer_auth("key").json(&Ask::new("whole", false)).send().await?;
                let answer: Answer = serde_json::from_slice(&answer.error_for_status()?.bytes().await?)?;
                Ok(answer.choices.first().context("no choice")?.message.content.len())
            }
            Self::Genai(client, base) => {
                let answer = client.exec_chat(target(base, "whole"), question(), None).await?;
                Ok(answer.first_text().context("no text")?.len())
            }
            Self::AsyncOpenai(client) => {
                let answer = client.chat().create(openai_request("whole")?).await?;
                Ok(answer.choices.first().and_then(|choice| choice.message.content.as_ref()).context("no text")?.len())
            }
        }
    }

    /// Asks for a stream and reads up to `n_events` of its events.
    ///
    /// # Errors
    /// The client's.
    pub async fn stream(&self, model: &str, n_events: usize) -> anyhow::Result<(Counted, Open)> {
        let mut counted = Counted::default();
        match self {
            Self::Ours(provider) => {
                let request = Request::new(model, [Message::user(QUESTION)]);
                let mut stream = provider.stream(&request).await?;
                for _ in 0..n_events {
                    match stream.next().await.transpose()? {
                        Some(StreamEvent::BlockDelta { delta, .. }) => counted.add(&delta),
                        Some(_) => {}
                        None => break,
                    }
                }
                Ok((counted, Box::new(stream)))
            }
            Self::Bare(client, url) => {
                let answer = client.post(url).bearer_auth("key").json(&Ask::new(model, true)).send().await?;
                let mut body = answer.error_for_status()?.bytes_stream();
                let mut buffer: Vec<u8> = Vec::new();
                let mut n_read = 0;
                while n_read < n_events {
                    let Some(bytes) = body.next().await.transpose()? else { break };
                    buffer.extend_from_slice(&bytes);
                    let mut start = 0;
                    while let Some(end) = memchr::memchr(b'\n', &buffer[start..]) {
                        let line = &buffer[start..start + end];
                        start += end + 1;
                        let Some(data) = line.strip_prefix(b"data: ").filter(|data| *data != b"[DONE]") else {
                            continue;
                        };
                        n_read += 1;
                        let chunk: Chunk = serde_json::from_slice(data)?;
                        for choice in chunk.choices {
                            counted.add(&choice.delta.content.unwrap_or_default());
                        }
                    }
                    buffer.drain(..start);
                }
                Ok((counted, Box::new(body)))
            }
            Self::Genai(client, base) => {
                let mut stream = client.exec_chat_stream(target(base, model), question(), None).await?.stream;
                for _ in 0..n_events {
                    match stream.next().await.transpose()? {
                        Some(ChatStreamEvent::Chunk(chunk)) => counted.add(&chunk.content),
                        Some(_) => {}
                        None => break,
                    }
                }
                Ok((counted, Box::new(stream)))
            }
            Self::AsyncOpenai(client) => {
                let mut stream = client.chat().create_stream(openai_request(model)?).await?;
                for _ in 0..n_events {
                    let Some(chunk) = stream.next().await.transpose()? else { break };
                    for choice in chunk.choices {
                        counted.add(&choice.delta.content.unwrap_or_default());
                    }
                }
                Ok((counted, Box::new(stream)))
            }
        }
    }
}

/// A stream that is not read any further.
pub type Open = Box<dyn std::any::Any>;

fn question() -> ChatRequest {
    ChatRequest::new(vec![ChatMessage::user(QUESTION)])
}

fn target(base: &str, model: &str) -> genai::ServiceTarget {
    genai::ServiceTarget {
        endpoint: genai::resolver::Endpoint::from_owned(base),
        auth: genai::resolver::AuthData::from_single("key"),
        model: genai::ModelIden::new(genai::adapter::AdapterKind::OpenAI, model.to_owned()),
    }
}

fn openai_request(model: &str) -> anyhow::Result<async_openai::types::chat::CreateChatCompletionRequest> {
    let message = ChatCompletionRequestUserMessageArgs::default().content(QUESTION).build()?;
    Ok(CreateChatCompletionRequestArgs::default().model(model).messages([message.into()]).build()?)
}

#[derive(Serialize)]
struct Ask<'a> {
    model: &'a str,
    messages: [AskMessage<'a>; 1],
    stream: bool,
}

#[derive(Serialize)]
struct AskMessage<'a> {
    role: &'a str,
    content: &'a str,
}

impl<'a> Ask<'a> {
    fn new(model: &'a str, stream: bool) -> Self {
        Self { model, messages: [AskMessage { role: "user", content: QUESTION }], stream }
    }
}

#[derive(Deserialize)]
struct Answer {
    choices: Vec<AnswerChoice>,
}

#[derive(Deserialize)]
struct AnswerChoice {
    message: AnswerMessage,
}

#[derive(Deserialize)]
struct AnswerMessage {
    content: String,
}

#[derive(Deserialize)]
struct Chunk {
    choices: Vec<ChunkChoice>,
}

#[derive(Deserialize)]
struct ChunkChoice {
    delta: Delta,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
}
