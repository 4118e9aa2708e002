//! What is asked.

use std::borrow::Cow;

use serde_json::Value;

use crate::anthropic::schema::DIALECT;
use crate::anthropic::wire::{
    Block, BlockKind, CacheControl, Choice, Format, Messages, OutputConfig, Source, ThinkingConfig, ToolDefinition,
    Turn, TypedBlock,
};
use crate::anthropic::{Anthropic, NAME};
use crate::error::{Error, Result};
use crate::json_schema::translate;
use crate::message::{Content, File, Media, MediaSource, Message, Opaque, Role, ToolResult};
use crate::protocol::Mode;
use crate::request::{Effort, OutputFormat, ReasoningOptions, Request, Tool, ToolChoice};
use crate::{base64_bytes, json};

pub(super) fn messages<'a>(anthropic: &'a Anthropic, request: &'a Request, mode: Mode) -> Result<Messages<'a>> {
    let cache_control = CacheControl { r#type: "ephemeral", ttl: anthropic.cache_ttl.as_deref() };
    let mut system = Vec::new();
    let mut turns = Vec::new();
    for message in &request.messages {
        if message.role == Role::System {
            add_system(message, cache_control, &mut system)?;
        } else {
            add_turn(message, cache_control, &mut turns)?;
        }
    }
    let reasoning = request.reasoning.as_ref();
    let budget = reasoning.and_then(|options| options.budget_tokens).unwrap_or(0);
    Ok(Messages {
        model: &request.model,
        max_tokens: request.max_tokens.unwrap_or_else(|| anthropic.default_max_tokens.saturating_add(budget)),
        messages: turns.into_iter().map(Gathered::turn).collect(),
        system,
        stream: mode == Mode::Stream,
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        stop_sequences: &request.stop,
        tools: request.tools.iter().map(|tool| definition(tool, cache_control)).collect::<Result<_>>()?,
        tool_choice: choice(request),
        thinking: reasoning.map(thinking),
        output_config: output_config(request),
    })
}

/// A turn while neighbours of its role still join it.
struct Gathered<'a> {
    role: &'static str,
    /// They come first.
    results: Vec<Block<'a>>,
    said: Vec<Block<'a>>,
}

impl<'a> Gathered<'a> {
    fn turn(mut self) -> Turn<'a> {
        self.results.append(&mut self.said);
        Turn { role: self.role, content: self.results }
    }
}

fn add_system<'a>(message: &'a Message, cache_control: CacheControl<'a>, system: &mut Vec<Block<'a>>) -> Result<()> {
    let before = system.len();
    for content in &message.content {
        match content {
            Content::Text(text) if text.text.is_empty() => {}
            Content::Text(text) => system.push(typed(BlockKind::Text { text: &text.text, citations: None })),
            _ => return Err(invalid("expected text in a system message, another block came".to_owned())),
        }
    }
    if message.cache_breakpoint {
        mark(&mut system[before..], cache_control);
    }
    Ok(())
}

fn add_turn<'a>(message: &'a Message, cache_control: CacheControl<'a>, turns: &mut Vec<Gathered<'a>>) -> Result<()> {
    let role = if message.role == Role::Assistant { "assistant" } else { "user" };
    let (mut results, mut said) = (Vec::new(), Vec::new());
    for content in &message.content {
        match content {
            Content::ToolResult(result) => results.push(tool_result(result)?),
            content => said.extend(block(content)?),
        }
    }
    if message.cache_breakpoint && !mark(&mut said, cache_control) {
        mark(&mut results, cache_control);
    }
    if results.is_empty() && said.is_empty() {
        return Ok(());
    }
    match turns.last_mut().filter(|turn| turn.role == role) {
        Some(turn) => {
            turn.results.append(&mut results);
            turn.said.append(&mut said);
        }
        None => turns.push(Gathered { role, results, said }),
    }
    Ok(())
}

/// Marks the last block that can be marked; false where there is none.
fn mark<'a>(blocks: &mut [Block<'a>], mark: CacheControl<'a>) -> bool {
    let last = blocks.iter_mut().rev().find_map(|block| match block {
        Block::Typed(TypedBlock { kind: BlockKind::Thinking { .. } | BlockKind::RedactedThinking { .. }, .. }) => None,
        Block::Typed(block) => Some(block),
        Block::Raw(_) => None,
    });
    last.map(|block| block.cache_control = Some(mark)).is_some()
}

/// The block that says `content`; none where it is empty or another vendor's.
fn block(content: &Content) -> Result<Option<Block<'_>>> {
    let kind = match content {
        // Empty texts are refused.
        Content::Text(text) | Content::Refusal(text) if text.text.is_empty() => return Ok(None),
        Content::Text(text) => BlockKind::Text { text: &text.text, citations: own(&text.opaque, "citations") },
        Content::Refusal(text) => BlockKind::Text { text: &text.text, citations: None },
        Content::Reasoning(reasoning) => {
            let text = |key| own(&reasoning.opaque, key)?.as_str();
            match (text("signature"), text("data")) {
                (Some(signature), _) => BlockKind::Thinking { thinking: &reasoning.text, signature },
                (None, Some(data)) => BlockKind::RedactedThinking { data },
                (None, None) => return Ok(None),
            }
        }
        Content::Image(media) => BlockKind::Image { source: image_source(media)? },
        Content::File(file) => BlockKind::Document { source: document_source(file)?, title: file.name.as_deref() },
        Content::ToolCall(call) => BlockKind::ToolUse {
            id: &call.id,
            name: &call.name,
            input: json::object(NAME, "arguments of a tool call", &call.arguments)?,
            caller: own(&call.opaque, "caller"),
        },
        Content::ToolResult(result) => return tool_result(result).map(Some),
        Content::Other(opaque) => return Ok(opaque.of(NAME).map(Block::Raw)),
    };
    Ok(Some(typed(kind)))
}

/// What the vendor gave with a block under `key`.
fn own<'a>(opaque: &'a Option<Opaque>, key: &str) -> Option<&'a Value> {
    opaque.as_ref()?.of(NAME)?.get(key)
}

fn tool_result(result: &ToolResult) -> Result<Block<'_>> {
    let content = result.content.iter().filter_map(|content| block(content).transpose()).collect::<Result<_>>()?;
    Ok(typed(BlockKind::ToolResult { tool_use_id: &result.call_id, content, is_error: result.is_error }))
}

fn typed(kind: BlockKind<'_>) -> Block<'_> {
    Block::Typed(TypedBlock { kind, cache_control: None })
}

fn image_source(media: &Media) -> Result<Source<'_>> {
    Ok(match &media.source {
        MediaSource::Bytes(_) if media.media_type.is_empty() => {
            return Err(invalid("expected a media type with an image's bytes, none came".to_owned()));
        }
        MediaSource::Bytes(bytes) => {
            Source::Base64 { media_type: &media.media_type, data: base64_bytes::encode(bytes) }
        }
        MediaSource::Url(url) => Source::Url { url },
        MediaSource::Id(file_id) => Source::File { file_id },
    })
}

/// Text goes as text, everything else as the PDF that the vendor takes besides.
fn document_source(file: &File) -> Result<Source<'_>> {
    match &file.media.source {
        MediaSource::Bytes(bytes) if file.media.media_type.starts_with("text/") => {
            let data = std::str::from_utf8(bytes).map_err(|_| invalid("expected UTF-8 in a text file".to_owned()))?;
            Ok(Source::Text { media_type: "text/plain", data: Cow::Borrowed(data) })
        }
        _ => image_source(&file.media),
    }
}

fn definition<'a>(tool: &'a Tool, cache_control: CacheControl<'a>) -> Result<ToolDefinition<'a>> {
    match tool {
        Tool::Function(function) => Ok(ToolDefinition::Function {
            name: &function.name,
            description: function.description.as_deref(),
            // Only what is enforced must be in the enforced part of JSON Schema.
            input_schema: match function.strict {
                Some(true) => Cow::Owned(translate(&function.parameters, &DIALECT)),
                _ => Cow::Borrowed(&function.parameters),
            },
            strict: function.strict,
            cache_control: function.cache_breakpoint.then_some(cache_control),
        }),
        Tool::Vendor(opaque) => opaque.of(NAME).map(ToolDefinition::Raw).ok_or_else(|| {
            invalid(format!("expected functions or tools of {NAME}, a tool of {} came", opaque.provider))
        }),
    }
}

fn choice(request: &Request) -> Option<Choice<'_>> {
    let disable_parallel_tool_use = (request.parallel_tool_calls == Some(false)).then_some(true);
    let (r#type, name) = match &request.tool_choice {
        Some(ToolChoice::Auto) => ("auto", None),
        Some(ToolChoice::Required) => ("any", None),
        Some(ToolChoice::Function(name)) => ("tool", Some(name.as_str())),
        Some(ToolChoice::None) => return Some(Choice { r#type: "none", name: None, disable_parallel_tool_use: None }),
        None if disable_parallel_tool_use.is_some() && !request.tools.is_empty() => ("auto", None),
        None => return None,
    };
    Some(Choice { r#type, name, disable_parallel_tool_use })
}

fn thinking(options: &ReasoningOptions) -> ThinkingConfig {
    let display = options.visible.map(|visible| if visible { "summarized" } else { "omitted" });
    let (r#type, budget_tokens, display) = match (options.effort, options.budget_tokens) {
        (Some(Effort::None), _) => ("disabled", None, None),
        (_, Some(budget)) => ("enabled", Some(budget), display),
        (_, None) => ("adaptive", None, display),
    };
    ThinkingConfig { r#type, budget_tokens, display }
}

fn output_config(request: &Request) -> Option<OutputConfig> {
    let effort = match request.reasoning.as_ref().and_then(|options| options.effort) {
        None | Some(Effort::None) => None,
        Some(Effort::Minimal | Effort::Low) => Some("low"),
        Some(Effort::Medium) => Some("medium"),
        Some(Effort::High) => Some("high"),
        Some(Effort::XHigh) => Some("xhigh"),
        Some(Effort::Max) => Some("max"),
    };
    let format = match &request.output {
        OutputFormat::JsonSchema(schema) => {
            Some(Format { r#type: "json_schema", schema: translate(&schema.schema, &DIALECT) })
        }
        OutputFormat::Text | OutputFormat::JsonObject => None,
    };
    (effort.is_some() || format.is_some()).then_some(OutputConfig { effort, format })
}

fn invalid(problem: String) -> Error {
    Error::InvalidRequest { provider: NAME.to_owned(), problem }
}
