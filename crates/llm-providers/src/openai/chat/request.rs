//! What is sent.

use serde_json::{Map, Value, json};

use crate::capabilities::Feature;
use crate::error::{Error, Result};
use crate::message::{Content, File, Media, Message, Reasoning, Role, ToolCall, ToolResult};
use crate::openai::{OpenAi, ReasoningKey, TokenBound, part, schema};
use crate::protocol::Mode;
use crate::request::{FunctionTool, OnUnsupported, OutputFormat, ReasoningOptions, Request, Tool, ToolChoice};

type Object = Map<String, Value>;

impl OpenAi {
    pub(in crate::openai) fn chat_body(&self, request: &Request, mode: Mode) -> Result<Object> {
        let mut body = Object::new();
        let mut set = |key: &str, value: Value| body.insert(key.to_owned(), value);
        set("model", request.model.as_str().into());
        let mut messages = Vec::new();
        for message in &request.messages {
            self.messages(message, &mut messages)?;
        }
        set("messages", messages.into());
        if let Some(bound) = request.max_tokens {
            let key = match self.token_bound {
                TokenBound::MaxTokens => "max_tokens",
                TokenBound::MaxCompletionTokens => "max_completion_tokens",
            };
            set(key, bound.into());
        }
        let numbers = [
            ("temperature", request.temperature.map(Value::from)),
            ("top_p", request.top_p.map(Value::from)),
            ("top_k", request.top_k.map(Value::from)),
            ("seed", request.seed.map(Value::from)),
            ("presence_penalty", request.presence_penalty.map(Value::from)),
            ("frequency_penalty", request.frequency_penalty.map(Value::from)),
            ("parallel_tool_calls", request.parallel_tool_calls.map(Value::from)),
        ];
        for (key, number) in numbers {
            number.map(|number| set(key, number));
        }
        if !request.stop.is_empty() {
            set("stop", request.stop.as_slice().into());
        }
        if let Some(top) = request.log_probs {
            set("logprobs", true.into());
            if top > 0 {
                set("top_logprobs", top.into());
            }
        }
        match &request.output {
            OutputFormat::Text => {}
            OutputFormat::JsonObject => {
                set("response_format", json!({ "type": "json_object" }));
            }
            OutputFormat::JsonSchema(format) => {
                set("response_format", json!({ "type": "json_schema", "json_schema": schema::format(format) }));
            }
        }
        if !request.tools.is_empty() {
            set("tools", request.tools.iter().map(|tool| self.tool(tool)).collect::<Result<_>>()?);
        }
        if let Some(choice) = &request.tool_choice {
            set("tool_choice", tool_choice(choice));
        }
        if let Some(reasoning) = &request.reasoning {
            self.reasoning(reasoning, request.on_unsupported, &mut set)?;
        }
        if mode == Mode::Stream {
            set("stream", true.into());
            if self.asks_for_usage {
                set("stream_options", json!({ "include_usage": true }));
            }
        }
        request.merge_extra(&mut body);
        Ok(body)
    }

    fn reasoning(
        &self,
        reasoning: &ReasoningOptions,
        on_unsupported: OnUnsupported,
        set: &mut impl FnMut(&str, Value) -> Option<Value>,
    ) -> Result<()> {
        match self.reasoning_key {
            ReasoningKey::Effort => {
                if reasoning.budget_tokens.is_some() && on_unsupported == OnUnsupported::Refuse {
                    return Err(Error::Unsupported { provider: self.name.clone(), feature: Feature::Reasoning });
                }
                reasoning.effort.map(|effort| set("reasoning_effort", json!(effort)));
            }
            ReasoningKey::Object => {
                let mut object = Object::new();
                reasoning.effort.map(|effort| object.insert("effort".to_owned(), json!(effort)));
                reasoning.budget_tokens.map(|tokens| object.insert("max_tokens".to_owned(), tokens.into()));
                reasoning.visible.map(|visible| object.insert("exclude".to_owned(), (!visible).into()));
                set("reasoning", object.into());
            }
        }
        Ok(())
    }

    /// Appends what says a message: results of tools are messages of their own.
    fn messages(&self, message: &Message, messages: &mut Vec<Value>) -> Result<()> {
        let results = message.content.iter().filter_map(|content| match content {
            Content::ToolResult(result) => Some(result),
            _ => None,
        });
        for result in results {
            messages.push(self.tool_message(result)?);
        }
        let rest: Vec<_> =
            message.content.iter().filter(|content| !matches!(content, Content::ToolResult(_))).collect();
        match message.role {
            Role::Tool if rest.is_empty() => {}
            Role::Tool => return Err(self.invalid("a message of tools holds their results alone")),
            Role::System => messages.push(self.message(self.system_role.word(), &rest)?),
            Role::User if rest.is_empty() && !message.content.is_empty() => {}
            Role::User => messages.push(self.message("user", &rest)?),
            Role::Assistant => messages.push(self.assistant(&rest)?),
        }
        Ok(())
    }

    fn message(&self, role: &str, content: &[&Content]) -> Result<Value> {
        Ok(json!({ "role": role, "content": self.content(content)? }))
    }

    fn tool_message(&self, result: &ToolResult) -> Result<Value> {
        let content: Vec<_> = result.content.iter().collect();
        Ok(json!({ "role": "tool", "tool_call_id": result.call_id, "content": self.content(&content)? }))
    }

    /// One text as itself, which every server understands; anything else as parts.
    fn content(&self, content: &[&Content]) -> Result<Value> {
        match content {
            [] => Ok("".into()),
            [Content::Text(text)] => Ok(text.text.as_str().into()),
            parts => {
                let parts = parts.iter().map(|content| self.part(content)).collect::<Result<Vec<_>>>()?;
                Ok(parts.into_iter().flatten().collect())
            }
        }
    }

    /// A part; nothing for what another vendor left.
    fn part(&self, content: &Content) -> Result<Option<Value>> {
        Ok(Some(match content {
            Content::Text(text) => json!({ "type": "text", "text": text.text }),
            Content::Image(media) => self.image(media)?,
            Content::File(file) => self.file(file)?,
            Content::Other(opaque) => return Ok(opaque.of(&self.name).cloned()),
            Content::Reasoning(_) | Content::Refusal(_) | Content::ToolCall(_) | Content::ToolResult(_) => {
                return Err(self.invalid("only the model reasons, refuses and calls tools"));
            }
        }))
    }

    fn image(&self, media: &Media) -> Result<Value> {
        let url = part::url(media).ok_or_else(|| {
            self.invalid("an image by its id: chat completions take bytes or an address (the Responses API takes ids)")
        })?;
        let mut image = json!({ "url": url });
        if let Some(detail) = &media.detail {
            image["detail"] = detail.as_str().into();
        }
        Ok(json!({ "type": "image_url", "image_url": image }))
    }

    /// Sounds and films have parts of their own (films: llama.cpp, OpenRouter).
    fn file(&self, file: &File) -> Result<Value> {
        let media = &file.media;
        if let Some(format) = part::audio_format(&media.media_type) {
            let data = part::base64(media)
                .ok_or_else(|| self.invalid("audio by its address or id: chat completions take bytes"))?;
            return Ok(json!({ "type": "input_audio", "input_audio": { "data": data, "format": format } }));
        }
        let url = part::url(media);
        if media.media_type.starts_with("video/")
            && let Some(url) = url
        {
            return Ok(json!({ "type": "video_url", "video_url": { "url": url } }));
        }
        let mut object = match (url, part::id(media)) {
            (Some(url), _) => json!({ "file_data": url }),
            (None, id) => json!({ "file_id": id }),
        };
        if let Some(name) = &file.name {
            object["filename"] = name.as_str().into();
        }
        Ok(json!({ "type": "file", "file": object }))
    }

    fn assistant(&self, content: &[&Content]) -> Result<Value> {
        let mut message = Object::new();
        message.insert("role".to_owned(), "assistant".into());
        let (mut text, mut refusal) = (None::<String>, None::<String>);
        let mut calls = Vec::new();
        for content in content {
            match content {
                Content::Text(piece) => text.get_or_insert_default().push_str(&piece.text),
                Content::Refusal(piece) => refusal.get_or_insert_default().push_str(&piece.text),
                Content::ToolCall(call) => calls.push(self.call(call)),
                Content::Reasoning(reasoning) => self.add_reasoning(reasoning, &mut message),
                // A block of a vendor's own has no place here.
                Content::Other(_) => {}
                Content::Image(_) | Content::File(_) | Content::ToolResult(_) => {
                    return Err(self.invalid("the model says texts and calls alone in chat completions"));
                }
            }
        }
        if text.is_none() && refusal.is_none() && calls.is_empty() {
            text = Some(String::new());
        }
        text.map(|text| message.insert("content".to_owned(), text.into()));
        refusal.map(|refusal| message.insert("refusal".to_owned(), refusal.into()));
        if !calls.is_empty() {
            message.insert("tool_calls".to_owned(), calls.into());
        }
        Ok(message.into())
    }

    /// Reasoning goes back in the field in which it came, and only to the server it came from.
    fn add_reasoning(&self, reasoning: &Reasoning, message: &mut Object) {
        let data = reasoning.opaque.as_ref().and_then(|opaque| opaque.of(&self.name));
        let Some(data) = data.filter(|_| self.sends_reasoning) else { return };
        if let Some(Value::Array(details)) = data.get("reasoning_details") {
            let slot = message.entry("reasoning_details").or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(slot) = slot {
                slot.extend_from_slice(details);
            }
        } else if let Some(field) = data.get("field").and_then(Value::as_str) {
            let slot = message.entry(field).or_insert_with(|| "".into());
            if let Value::String(slot) = slot {
                slot.push_str(&reasoning.text);
            }
        }
    }

    fn call(&self, call: &ToolCall) -> Value {
        let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
        let mut object = json!({
            "id": call.id,
            "type": "function",
            "function": { "name": call.name, "arguments": arguments },
        });
        let data = call.opaque.as_ref().and_then(|opaque| opaque.of(&self.name));
        if let Some(extra) = data.and_then(|data| data.get("extra_content")) {
            object["extra_content"] = extra.clone();
        }
        object
    }

    fn tool(&self, tool: &Tool) -> Result<Value> {
        match tool {
            Tool::Function(function) => Ok(json!({ "type": "function", "function": function_object(function) })),
            Tool::Vendor(opaque) => self.own_tool(opaque),
        }
    }
}

/// A function without its envelope.
pub(in crate::openai) fn function_object(tool: &FunctionTool) -> Object {
    let mut function = Object::new();
    function.insert("name".to_owned(), tool.name.as_str().into());
    if let Some(description) = &tool.description {
        function.insert("description".to_owned(), description.as_str().into());
    }
    let strict = tool.strict == Some(true);
    let parameters = if strict { schema::strict(&tool.parameters) } else { tool.parameters.clone() };
    function.insert("parameters".to_owned(), parameters);
    tool.strict.map(|strict| function.insert("strict".to_owned(), strict.into()));
    function
}

/// The word for a choice, or `None` for a function.
pub(in crate::openai) fn choice_word(choice: &ToolChoice) -> Option<&'static str> {
    match choice {
        ToolChoice::Auto => Some("auto"),
        ToolChoice::None => Some("none"),
        ToolChoice::Required => Some("required"),
        ToolChoice::Function(_) => None,
    }
}

fn tool_choice(choice: &ToolChoice) -> Value {
    match (choice_word(choice), choice) {
        (None, ToolChoice::Function(name)) => json!({ "type": "function", "function": { "name": name } }),
        (word, _) => word.into(),
    }
}
