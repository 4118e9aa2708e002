//! What is asked.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::gemini::stream::MADE_ID;
use crate::gemini::wire::{
    Embed, EmbedOne, FileData, FunctionCall, FunctionCallingConfig, FunctionDeclaration, FunctionResponse, Generate,
    GenerationConfig, InlineData, Instruction, Part, ThinkingConfig, ToolConfig, ToolEntry, Turn, TypedPart,
};
use crate::gemini::{Gemini, NAME, resource, schema};
use crate::message::{Content, Media, MediaSource, Message, Opaque, Role, ToolResult};
use crate::provider::EmbeddingRequest;
use crate::request::{Effort, FunctionTool, OutputFormat, ReasoningOptions, Request, Tool, ToolChoice};
use crate::{base64_bytes, json};

pub(super) fn generate<'a>(gemini: &'a Gemini, request: &'a Request) -> Result<Generate<'a>> {
    let mut instructions = Vec::new();
    let mut contents: Vec<Turn<'_>> = Vec::new();
    let mut last = None;
    for message in &request.messages {
        if message.role == Role::System {
            add_instructions(message, &mut instructions)?;
            continue;
        }
        let role = if message.role == Role::Assistant { "model" } else { "user" };
        let mut parts = Vec::with_capacity(message.content.len());
        for content in &message.content {
            add_part(gemini, content, &mut parts)?;
        }
        match contents.last_mut() {
            _ if parts.is_empty() => continue,
            // The results of a turn must come together.
            Some(turn) if message.role == Role::Tool && last == Some(Role::Tool) => turn.parts.append(&mut parts),
            _ => contents.push(Turn { role, parts }),
        }
        last = Some(message.role);
    }
    Ok(Generate {
        contents,
        system_instruction: (!instructions.is_empty()).then_some(Instruction { parts: instructions }),
        tools: tools(&request.tools)?,
        tool_config: request.tool_choice.as_ref().map(tool_config),
        generation_config: generation_config(request),
    })
}

pub(super) fn embed(request: &EmbeddingRequest) -> Embed<'_> {
    let requests = request.input.iter().map(|text| EmbedOne {
        model: resource(&request.model),
        content: Instruction { parts: vec![text_part(text)] },
        output_dimensionality: request.dimensions,
    });
    Embed { requests: requests.collect() }
}

fn add_instructions<'a>(message: &'a Message, instructions: &mut Vec<Part<'a>>) -> Result<()> {
    for content in &message.content {
        match content {
            Content::Text(text) => instructions.push(text_part(&text.text)),
            _ => return Err(invalid("expected text in a system message, another block came".to_owned())),
        }
    }
    Ok(())
}

fn text_part(text: &str) -> Part<'_> {
    Part::Typed(Box::new(TypedPart { text: Some(text), ..TypedPart::default() }))
}

fn add_part<'a>(gemini: &'a Gemini, content: &'a Content, parts: &mut Vec<Part<'a>>) -> Result<()> {
    let part = match content {
        Content::Text(text) => {
            let thought_signature = signature(text.opaque.as_ref());
            if text.text.is_empty() && thought_signature.is_none() {
                return Ok(());
            }
            TypedPart { text: Some(&text.text), thought_signature, ..TypedPart::default() }
        }
        Content::Refusal(text) => TypedPart { text: Some(&text.text), ..TypedPart::default() },
        Content::Reasoning(reasoning) => {
            let thought_signature = signature(reasoning.opaque.as_ref());
            // What another vendor signed is its own.
            if thought_signature.is_none() && (reasoning.opaque.is_some() || reasoning.text.is_empty()) {
                return Ok(());
            }
            TypedPart { text: Some(&reasoning.text), thought: true, thought_signature, ..TypedPart::default() }
        }
        Content::Image(media) => media_part(gemini, media)?,
        Content::File(file) => media_part(gemini, &file.media)?,
        Content::ToolCall(call) => TypedPart {
            function_call: Some(FunctionCall {
                id: own_id(&call.id),
                name: &call.name,
                args: json::object(NAME, "arguments of a tool call", &call.arguments)?,
            }),
            thought_signature: signature(call.opaque.as_ref()),
            ..TypedPart::default()
        },
        Content::ToolResult(result) => {
            TypedPart { function_response: Some(function_response(gemini, result)?), ..TypedPart::default() }
        }
        Content::Other(opaque) => {
            let Some(data) = opaque.of(NAME) else { return Ok(()) };
            match (signature_alone(data), parts.last_mut()) {
                (Some(signature), Some(Part::Typed(before))) => before.thought_signature = Some(signature),
                _ => parts.push(Part::Raw(data)),
            }
            return Ok(());
        }
    };
    parts.push(Part::Typed(Box::new(part)));
    Ok(())
}

fn signature(opaque: Option<&Opaque>) -> Option<&str> {
    opaque?.of(NAME)?.get("thoughtSignature")?.as_str()
}

/// The signature of the block before.
fn signature_alone(data: &Value) -> Option<&str> {
    let data = data.as_object()?;
    if data.len() == 1 { data.get("thoughtSignature")?.as_str() } else { None }
}

/// The id of a call, unless we made it.
fn own_id(id: &str) -> Option<&str> {
    (!id.is_empty() && !id.starts_with(MADE_ID)).then_some(id)
}

fn media_part<'a>(gemini: &Gemini, media: &'a Media) -> Result<TypedPart<'a>> {
    let file = |file_uri| FileData { mime_type: &media.media_type, file_uri };
    let (inline_data, file_data) = match &media.source {
        MediaSource::Bytes(_) if media.media_type.is_empty() => {
            return Err(invalid("expected a media type with bytes, none came".to_owned()));
        }
        MediaSource::Bytes(bytes) => {
            (Some(InlineData { mime_type: &media.media_type, data: base64_bytes::encode(bytes) }), None)
        }
        MediaSource::Url(url) => (None, Some(file(Cow::Borrowed(url)))),
        MediaSource::Id(id) if id.contains("://") => (None, Some(file(Cow::Borrowed(id)))),
        MediaSource::Id(id) => {
            (None, Some(file(Cow::Owned(format!("{}/{}/{id}", gemini.endpoint.base(), gemini.version)))))
        }
    };
    Ok(TypedPart { inline_data, file_data, ..TypedPart::default() })
}

fn function_response<'a>(gemini: &Gemini, result: &'a ToolResult) -> Result<FunctionResponse<'a>> {
    let mut text = String::new();
    let mut parts = Vec::new();
    for content in &result.content {
        match content {
            Content::Text(said) => text.push_str(&said.text),
            Content::Image(media) => parts.push(Part::Typed(Box::new(media_part(gemini, media)?))),
            Content::File(file) => parts.push(Part::Typed(Box::new(media_part(gemini, &file.media)?))),
            _ => {
                return Err(invalid(
                    "expected text, images or files in a tool's result, another block came".to_owned(),
                ));
            }
        }
    }
    let response = match serde_json::from_str(&text) {
        _ if result.is_error => json!({"error": text}),
        Ok(object @ Value::Object(_)) => object,
        _ => json!({"result": text}),
    };
    Ok(FunctionResponse { id: own_id(&result.call_id), name: &result.name, response, parts })
}

fn tools(tools: &[Tool]) -> Result<Vec<ToolEntry<'_>>> {
    let mut functions = Vec::new();
    let mut entries = Vec::new();
    for tool in tools {
        match tool {
            Tool::Function(function) => functions.push(declaration(function)),
            Tool::Vendor(opaque) => entries.push(ToolEntry::Raw(opaque.of(NAME).ok_or_else(|| {
                invalid(format!("expected functions or tools of {NAME}, a tool of {} came", opaque.provider))
            })?)),
        }
    }
    if !functions.is_empty() {
        entries.insert(0, ToolEntry::Functions { function_declarations: functions });
    }
    Ok(entries)
}

fn declaration(function: &FunctionTool) -> FunctionDeclaration<'_> {
    let schema = Some(&function.parameters).filter(|schema| schema.as_object().is_some_and(|map| !map.is_empty()));
    let parameters = schema.and_then(schema::open_api);
    let parameters_json_schema = schema.filter(|_| parameters.is_none()).map(schema::json_schema);
    FunctionDeclaration {
        name: &function.name,
        description: function.description.as_deref(),
        parameters,
        parameters_json_schema,
    }
}

fn tool_config(choice: &ToolChoice) -> ToolConfig<'_> {
    let (mode, allowed_function_names) = match choice {
        ToolChoice::Auto => ("AUTO", None),
        ToolChoice::None => ("NONE", None),
        ToolChoice::Required => ("ANY", None),
        ToolChoice::Function(name) => ("ANY", Some([name.as_str()])),
    };
    ToolConfig { function_calling_config: FunctionCallingConfig { mode, allowed_function_names } }
}

fn generation_config(request: &Request) -> GenerationConfig<'_> {
    let is_json = request.output != OutputFormat::Text;
    GenerationConfig {
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        max_output_tokens: request.max_tokens,
        stop_sequences: &request.stop,
        seed: request.seed,
        presence_penalty: request.presence_penalty,
        frequency_penalty: request.frequency_penalty,
        response_logprobs: request.log_probs.is_some(),
        logprobs: request.log_probs.filter(|top| *top > 0),
        response_mime_type: is_json.then_some("application/json"),
        response_json_schema: match &request.output {
            OutputFormat::JsonSchema(schema) => Some(schema::json_schema(&schema.schema)),
            OutputFormat::Text | OutputFormat::JsonObject => None,
        },
        thinking_config: request.reasoning.as_ref().map(thinking).filter(|config| *config != ThinkingConfig::default()),
    }
}

fn thinking(options: &ReasoningOptions) -> ThinkingConfig {
    let (thinking_budget, thinking_level) = match (options.budget_tokens, options.effort) {
        // One of both is refused beside the other.
        (Some(budget), _) => (Some(budget), None),
        (None, None) => (None, None),
        (None, Some(Effort::None)) => (Some(0), None),
        (None, Some(Effort::Minimal)) => (None, Some("minimal")),
        (None, Some(Effort::Low)) => (None, Some("low")),
        (None, Some(Effort::Medium)) => (None, Some("medium")),
        (None, Some(Effort::High | Effort::XHigh | Effort::Max)) => (None, Some("high")),
    };
    ThinkingConfig { include_thoughts: options.visible, thinking_budget, thinking_level }
}

fn invalid(problem: String) -> Error {
    Error::InvalidRequest { provider: NAME.to_owned(), problem }
}
