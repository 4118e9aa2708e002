//! What is asked.

use crate::capabilities::Feature;
use crate::error::{Error, Result};
use crate::message::{Content, Media, MediaSource, Message, Role, ToolCall};
use crate::ollama::wire::{
    Chat, ChatFunction, ChatFunctionCall, ChatMessage, ChatTool, ChatToolCall, Embed, Format, Options, Think,
};
use crate::ollama::{NAME, Ollama};
use crate::protocol::Mode;
use crate::provider::EmbeddingRequest;
use crate::request::{Effort, OnUnsupported, OutputFormat, ReasoningOptions, Request, Tool};
use crate::{base64_bytes, json};

pub(super) fn chat<'a>(ollama: &'a Ollama, request: &'a Request, mode: Mode) -> Result<Chat<'a>> {
    let mut messages = Vec::with_capacity(request.messages.len());
    for message in &request.messages {
        add_message(message, &mut messages)?;
    }
    Ok(Chat {
        model: &request.model,
        messages,
        stream: mode == Mode::Stream,
        tools: request.tools.iter().map(tool).collect::<Result<_>>()?,
        format: match &request.output {
            OutputFormat::Text => None,
            OutputFormat::JsonObject => Some(Format::Json("json")),
            OutputFormat::JsonSchema(schema) => Some(Format::Schema(&schema.schema)),
        },
        options: Options {
            num_ctx: ollama.num_ctx,
            num_predict: request.max_tokens,
            temperature: request.temperature,
            top_k: request.top_k,
            top_p: request.top_p,
            seed: request.seed,
            stop: &request.stop,
            presence_penalty: request.presence_penalty,
            frequency_penalty: request.frequency_penalty,
        },
        think: request.reasoning.as_ref().map(|options| think(options, request.on_unsupported)).transpose()?,
        keep_alive: ollama.keep_alive.as_deref(),
        logprobs: request.log_probs.is_some(),
        top_logprobs: request.log_probs.filter(|top| *top > 0),
    })
}

pub(super) fn embed<'a>(ollama: &'a Ollama, request: &'a EmbeddingRequest) -> Embed<'a> {
    Embed {
        model: &request.model,
        input: &request.input,
        dimensions: request.dimensions,
        keep_alive: ollama.keep_alive.as_deref(),
    }
}

fn add_message<'a>(message: &'a Message, messages: &mut Vec<ChatMessage<'a>>) -> Result<()> {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let mut said = ChatMessage { role, ..ChatMessage::default() };
    let mut has_results = false;
    for content in &message.content {
        match content {
            Content::ToolResult(result) => {
                has_results = true;
                let mut answer = ChatMessage {
                    role: "tool",
                    tool_name: &result.name,
                    tool_call_id: &result.call_id,
                    ..ChatMessage::default()
                };
                for content in &result.content {
                    add_content(content, &mut answer)?;
                }
                messages.push(answer);
            }
            content => add_content(content, &mut said)?,
        }
    }
    let is_empty = said.content.is_empty() && said.images.is_empty() && said.tool_calls.is_empty();
    if !(has_results && is_empty) {
        messages.push(said);
    }
    Ok(())
}

fn add_content<'a>(content: &'a Content, message: &mut ChatMessage<'a>) -> Result<()> {
    match content {
        Content::Text(text) | Content::Refusal(text) => message.content.push_str(&text.text),
        // What another vendor signed is its own.
        Content::Reasoning(reasoning) if reasoning.opaque.is_none() => message.thinking.push_str(&reasoning.text),
        Content::Image(media) => message.images.push(image(media)?),
        Content::File(_) => return Err(Error::Unsupported { provider: NAME.to_owned(), feature: Feature::Files }),
        Content::ToolCall(call) => message.tool_calls.push(tool_call(call)?),
        Content::ToolResult(_) => {
            return Err(Error::InvalidRequest {
                provider: NAME.to_owned(),
                problem: "expected text or images in a tool's result, another result came".to_owned(),
            });
        }
        Content::Reasoning(_) | Content::Other(_) => {}
    }
    Ok(())
}

fn image(media: &Media) -> Result<String> {
    match &media.source {
        MediaSource::Bytes(bytes) => Ok(base64_bytes::encode(bytes)),
        MediaSource::Url(_) | MediaSource::Id(_) => {
            Err(Error::Unsupported { provider: NAME.to_owned(), feature: Feature::MediaUrls })
        }
    }
}

fn tool_call(call: &ToolCall) -> Result<ChatToolCall<'_>> {
    let arguments = json::object(NAME, "arguments of a tool call", &call.arguments)?;
    Ok(ChatToolCall { id: &call.id, function: ChatFunctionCall { name: &call.name, arguments } })
}

fn tool(tool: &Tool) -> Result<ChatTool<'_>> {
    match tool {
        Tool::Function(function) => Ok(ChatTool::Function {
            r#type: "function",
            function: ChatFunction {
                name: &function.name,
                description: function.description.as_deref(),
                parameters: &function.parameters,
            },
        }),
        Tool::Vendor(opaque) => opaque.of(NAME).map(ChatTool::Raw).ok_or_else(|| Error::InvalidRequest {
            provider: NAME.to_owned(),
            problem: format!("expected functions or tools of {NAME}, a tool of {} came", opaque.provider),
        }),
    }
}

fn think(options: &ReasoningOptions, on_unsupported: OnUnsupported) -> Result<Think> {
    let beyond = options.budget_tokens.is_some() || options.visible == Some(false);
    if beyond && options.effort != Some(Effort::None) && on_unsupported == OnUnsupported::Refuse {
        return Err(Error::InvalidRequest {
            provider: NAME.to_owned(),
            problem: "expected an effort of reasoning, a budget of tokens or hidden reasoning came".to_owned(),
        });
    }
    Ok(match options.effort {
        None => Think::Switch(true),
        Some(Effort::None) => Think::Switch(false),
        Some(Effort::Minimal | Effort::Low) => Think::Level("low"),
        Some(Effort::Medium) => Think::Level("medium"),
        Some(Effort::High | Effort::XHigh) => Think::Level("high"),
        Some(Effort::Max) => Think::Level("max"),
    })
}
