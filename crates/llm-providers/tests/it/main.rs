//! Everything but the parts that their own files test.

#[cfg(feature = "anthropic")]
mod anthropic;
mod client;
mod conformance;
mod cuts;
mod differences;
#[cfg(all(feature = "http", feature = "openai"))]
mod faults;
#[cfg(feature = "gemini")]
mod gemini;
#[cfg(feature = "http")]
mod hyper_transport;
#[cfg(feature = "ollama")]
mod ollama;
#[cfg(feature = "openai")]
mod openai_chat_answers;
#[cfg(feature = "openai")]
mod openai_chat_requests;
#[cfg(feature = "openai")]
mod openai_chat_streams;
#[cfg(feature = "openai")]
mod openai_embeddings;
#[cfg(feature = "openai")]
mod openai_errors;
#[cfg(feature = "openai")]
mod openai_requests;
#[cfg(feature = "openai")]
mod openai_responses_answers;
#[cfg(feature = "openai")]
mod openai_responses_streams;
#[cfg(feature = "openai")]
mod openai_speed;
mod recordings;
mod replay;
#[cfg(feature = "http")]
mod server;
#[cfg(all(feature = "anthropic", feature = "gemini", feature = "http", feature = "ollama", feature = "openai"))]
mod servers;
