//! What is sent.

use serde_json::{Map, Value, json};

use crate::capabilities::Feature;
use crate::error::{Error, Result};
use crate::message::{Content, File, Media, Message, Role, Text, ToolCall, ToolResult};
use crate::openai::chat::{choice_word, function_object};
use crate::openai::{OpenAi, part, schema};
use crate::protocol::Mode;
use crate::request::{OnUnsupported, OutputFormat, ReasoningOptions, Request, Tool, ToolChoice};

type Object = Map<String, Value>;

impl OpenAi {
    pub(in crate::openai) fn responses_body(&self, request: &Request, mode: Mode) -> Result<Object> {
        let mut body = Object::new();
        let mut set = |key: &str, value: Value| body.insert(key.to_owned(), value);
        set("model", request.model.as_str().into());
        let (instructions, messages) = instructions(&request.messages);
        if !instructions.is_empty() {
            set("instructions", instructions.join("\n\n").into());
        }
        let mut input = Vec::new();
        for message in messages {
            self.items(message, &mut input)?;
        }
        set("input", input.into());
        let settings = [
            ("max_output_tokens", request.max_tokens.map(Value::from)),
            ("temperature", request.temperature.map(Value::from)),
            ("top_p", request.top_p.map(Value::from)),
            ("parallel_tool_calls", request.parallel_tool_calls.map(Value::from)),
            ("top_logprobs", request.log_probs.filter(|top| *top > 0).map(Value::from)),
            ("store", self.stores.map(Value::from)),
            ("stream", (mode == Mode::Stream).then_some(Value::Bool(true))),
        ];
        for (key, value) in settings {
            value.map(|value| set(key, value));
        }
        match &request.output {
            OutputFormat::Text => {}
            OutputFormat::JsonObject => {
                set("text", json!({ "format": { "type": "json_object" } }));
            }
            OutputFormat::JsonSchema(format) => {
                let mut format = schema::format(format);
                format.insert("type".to_owned(), "json_schema".into());
                set("text", json!({ "format": format }));
            }
        }
        if !request.tools.is_empty() {
            set("tools", request.tools.iter().map(|tool| self.flat_tool(tool)).collect::<Result<_>>()?);
        }
        if let Some(choice) = &request.tool_choice {
            let choice = match (choice_word(choice), choice) {
                (None, ToolChoice::Function(name)) => json!({ "type": "function", "name": name }),
                (word, _) => word.into(),
            };
            set("tool_choice", choice);
        }
        let mut include = Vec::new();
        if let Some(reasoning) = &request.reasoning {
            set("reasoning", self.reasoning_object(reasoning, request.on_unsupported)?);
            // Without it reasoning cannot go back where answers are not stored; models without reasoning refuse to be asked for it.
            include.push("reasoning.encrypted_content");
        }
        if request.log_probs.is_some() {
            include.push("message.output_text.logprobs");
        }
        if !include.is_empty() {
            set("include", include.into());
        }
        request.merge_extra(&mut body);
        Ok(body)
    }

    fn reasoning_object(&self, reasoning: &ReasoningOptions, on_unsupported: OnUnsupported) -> Result<Value> {
        if reasoning.budget_tokens.is_some() && on_unsupported == OnUnsupported::Refuse {
            return Err(Error::Unsupported { provider: self.name.clone(), feature: Feature::Reasoning });
        }
        let mut object = Object::new();
        reasoning.effort.map(|effort| object.insert("effort".to_owned(), json!(effort)));
        if reasoning.visible == Some(true) {
            object.insert("summary".to_owned(), "auto".into());
        }
        Ok(object.into())
    }

    fn items(&self, message: &Message, items: &mut Vec<Value>) -> Result<()> {
        let mut parts = Vec::new();
        let role = match message.role {
            Role::System => self.system_role.word(),
            Role::User | Role::Tool => "user",
            Role::Assistant => return self.assistant_items(&message.content, items),
        };
        for content in &message.content {
            match content {
                Content::ToolResult(result) => items.push(self.result_item(result)?),
                _ if message.role == Role::Tool => {
                    return Err(self.invalid("a message of tools holds their results alone"));
                }
                _ => parts.extend(self.input_part(content)?),
            }
        }
        if !parts.is_empty() || message.content.is_empty() && message.role != Role::Tool {
            items.push(json!({ "type": "message", "role": role, "content": parts }));
        }
        Ok(())
    }

    fn result_item(&self, result: &ToolResult) -> Result<Value> {
        let output = match result.content.as_slice() {
            [] => Value::from(""),
            [Content::Text(text)] => text.text.as_str().into(),
            parts => {
                let parts = parts.iter().map(|content| self.input_part(content)).collect::<Result<Vec<_>>>()?;
                parts.into_iter().flatten().collect()
            }
        };
        Ok(json!({ "type": "function_call_output", "call_id": result.call_id, "output": output }))
    }

    /// A part; nothing for what another vendor left.
    fn input_part(&self, content: &Content) -> Result<Option<Value>> {
        Ok(Some(match content {
            Content::Text(text) => json!({ "type": "input_text", "text": text.text }),
            Content::Image(media) => input_image(media),
            Content::File(file) => self.input_file(file)?,
            Content::Other(opaque) => return Ok(opaque.of(&self.name).cloned()),
            Content::Reasoning(_) | Content::Refusal(_) | Content::ToolCall(_) | Content::ToolResult(_) => {
                return Err(self.invalid("only the model reasons, refuses and calls tools"));
            }
        }))
    }

    fn input_file(&self, file: &File) -> Result<Value> {
        let media = &file.media;
        if let Some(format) = part::audio_format(&media.media_type) {
            let data = part::base64(media).ok_or_else(|| self.invalid("audio by its address or id: it takes bytes"))?;
            return Ok(json!({ "type": "input_audio", "input_audio": { "data": data, "format": format } }));
        }
        let mut object = json!({ "type": "input_file" });
        match (part::url(media), part::id(media)) {
            (Some(url), _) if part::base64(media).is_some() => object["file_data"] = url.into(),
            (Some(url), _) => object["file_url"] = url.into(),
            (None, id) => object["file_id"] = id.into(),
        }
        // With an address a name is refused.
        if let Some(name) = file.name.as_ref().filter(|_| object.get("file_url").is_none()) {
            object["filename"] = name.as_str().into();
        }
        Ok(object)
    }

    /// What the model said, as the items that it came in, in their order.
    fn assistant_items(&self, content: &[Content], items: &mut Vec<Value>) -> Result<()> {
        // Which message the last item is.
        let mut last_message: Option<Value> = None;
        for content in content {
            let said = match content {
                Content::Text(text) => Some((text, json!({ "type": "output_text", "text": text.text }))),
                Content::Refusal(text) => Some((text, json!({ "type": "refusal", "refusal": text.text }))),
                _ => None,
            };
            if let Some((text, part)) = said {
                let message = self.message_of(text);
                match items.last_mut() {
                    Some(item) if last_message.as_ref() == Some(&message) => {
                        item["content"].as_array_mut().into_iter().for_each(|parts| parts.push(part.clone()));
                    }
                    _ => {
                        let mut item = message.clone();
                        item["content"] = json!([part]);
                        items.push(item);
                    }
                }
                last_message = Some(message);
                continue;
            }
            last_message = None;
            match content {
                Content::Reasoning(reasoning) => {
                    let item = reasoning.opaque.as_ref().and_then(|opaque| opaque.of(&self.name));
                    let is_readable =
                        |item: &Value| self.stores != Some(false) || item.get("encrypted_content").is_some();
                    items.extend(item.filter(|item| is_item(item) && is_readable(item)).cloned());
                }
                Content::ToolCall(call) => items.push(self.call_item(call)),
                Content::Other(opaque) => items.extend(opaque.of(&self.name).filter(|item| is_item(item)).cloned()),
                _ => return Err(self.invalid("the model says texts and calls alone")),
            }
        }
        Ok(())
    }

    /// The message that a text is part of, without its content.
    fn message_of(&self, text: &Text) -> Value {
        let data = text.opaque.as_ref().and_then(|opaque| opaque.of(&self.name));
        let known = data.and_then(|data| data.get("message")).filter(|message| message.is_object());
        let mut message = json!({ "type": "message", "role": "assistant" });
        if let (Some(Value::Object(known)), Some(message)) = (known, message.as_object_mut()) {
            message.extend(self.kept(known));
        }
        message
    }

    fn call_item(&self, call: &ToolCall) -> Value {
        let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
        let mut item =
            json!({ "type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments });
        let data = call.opaque.as_ref().and_then(|opaque| opaque.of(&self.name));
        if let (Some(Value::Object(known)), Some(item)) = (data.and_then(|data| data.get("item")), item.as_object_mut())
        {
            item.extend(self.kept(known));
        }
        item
    }

    /// What is sent back of an item: without its id where the vendor did not store it.
    fn kept(&self, item: &Object) -> Object {
        let mut item = item.clone();
        if self.stores == Some(false) {
            item.shift_remove("id");
        }
        item
    }

    fn flat_tool(&self, tool: &Tool) -> Result<Value> {
        match tool {
            Tool::Function(function) => {
                let mut object = function_object(function);
                object.insert("type".to_owned(), "function".into());
                Ok(object.into())
            }
            Tool::Vendor(opaque) => self.own_tool(opaque),
        }
    }
}

/// The texts of the system messages that a conversation begins with, and the rest.
fn instructions(messages: &[Message]) -> (Vec<String>, &[Message]) {
    let is_text = |message: &&Message| {
        message.role == Role::System && message.content.iter().all(|content| matches!(content, Content::Text(_)))
    };
    let texts: Vec<_> = messages.iter().take_while(is_text).map(Message::text).collect();
    let rest = &messages[texts.len()..];
    (texts, rest)
}

fn input_image(media: &Media) -> Value {
    let mut image = json!({ "type": "input_image" });
    match (part::url(media), part::id(media)) {
        (Some(url), _) => image["image_url"] = url.into(),
        (None, id) => image["file_id"] = id.into(),
    }
    if let Some(detail) = &media.detail {
        image["detail"] = detail.as_str().into();
    }
    image
}

/// Whether data of ours is an item of the Responses API, not of a chat.
fn is_item(data: &Value) -> bool {
    data.get("type").is_some_and(Value::is_string)
}
